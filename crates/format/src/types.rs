//! The types of columns, and fields.
//!
//! A [`Type`] is a primitive type, a nested type (struct, list, map) or variant. Nested types hold fields: a list's element, a
//! map's key and a map's value are fields too, each with an id of its own. A type that this version of Esker does not define is
//! kept as the JSON that the metadata has, see [`PrimitiveType::Other`].
//!
//! Spec: "Schemas and Data Types". Start with [`Type`] and [`NestedField`].

use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::Extra;
use crate::default::DefaultValue;

/// The largest precision of a decimal, in decimal digits.
///
/// Spec: "Primitive Types".
pub const MAX_DECIMAL_PRECISION: u32 = 38;

/// A type of a field. The enum is exhaustive, so that a new type has to be decided on in every `match`.
///
/// Spec: "Schemas and Data Types".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Type {
    /// A type without fields.
    Primitive(PrimitiveType),
    /// A tuple of named fields.
    Struct(StructType),
    /// A collection of elements of one type.
    List(ListType),
    /// A collection of key-value pairs.
    Map(MapType),
    /// Values that carry their own types (format version 3). As in Java, variant is neither primitive nor nested.
    Variant,
}

/// A type without fields.
///
/// Spec: "Primitive Types".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PrimitiveType {
    /// True or false.
    Boolean,
    /// Signed integers of 32 bits.
    Int,
    /// Signed integers of 64 bits.
    Long,
    /// IEEE 754 floating-point numbers of 32 bits.
    Float,
    /// IEEE 754 floating-point numbers of 64 bits.
    Double,
    /// Fixed-point decimal numbers.
    Decimal {
        /// The number of digits, 1 to 38.
        precision: u32,
        /// The number of digits after the decimal point.
        scale: u32,
    },
    /// Calendar dates, as days since 1970-01-01.
    Date,
    /// Times of day, as microseconds since midnight.
    Time,
    /// Timestamps without time zone, as microseconds since 1970-01-01 00:00.
    Timestamp,
    /// Timestamps with time zone, as microseconds since 1970-01-01 00:00 UTC.
    Timestamptz,
    /// Timestamps without time zone, as nanoseconds since 1970-01-01 00:00 (format version 3).
    TimestampNs,
    /// Timestamps with time zone, as nanoseconds since 1970-01-01 00:00 UTC (format version 3).
    TimestamptzNs,
    /// Texts in UTF-8.
    String,
    /// UUIDs, of 16 bytes.
    Uuid,
    /// Byte arrays of a fixed length, in bytes.
    Fixed(u64),
    /// Byte arrays of any length.
    Binary,
    /// Nulls only; the column is not stored in data files (format version 3).
    Unknown,
    /// Shapes on a plane (format version 3).
    Geometry {
        /// The coordinate reference system; `None` means `OGC:CRS84`.
        crs: Option<Box<str>>,
    },
    /// Shapes on a globe (format version 3).
    Geography {
        /// The coordinate reference system; `None` means `OGC:CRS84`.
        crs: Option<Box<str>>,
        /// The algorithm that interpolates edges between points; `None` means `spherical`.
        edges: Option<EdgeAlgorithm>,
    },
    /// A type that this version of Esker does not define, letter by letter as the metadata has it.
    ///
    /// It is kept and served unchanged. Code that must decode values rejects it by name.
    Other(Box<Json>),
}

/// The algorithm that interpolates an edge between two points of a geography.
///
/// Spec: "Edge-Interpolation Algorithm".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EdgeAlgorithm {
    /// The edge is a geodesic on a sphere.
    Spherical,
    /// Vincenty's formulae on an ellipsoid.
    Vincenty,
    /// Thomas's formulae on an ellipsoid.
    Thomas,
    /// Andoyer's formulae on an ellipsoid.
    Andoyer,
    /// Karney's algorithm on an ellipsoid.
    Karney,
}

impl EdgeAlgorithm {
    const ALL: [Self; 5] = [Self::Spherical, Self::Vincenty, Self::Thomas, Self::Andoyer, Self::Karney];

    /// Returns the name of the algorithm as metadata spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spherical => "spherical",
            Self::Vincenty => "vincenty",
            Self::Thomas => "thomas",
            Self::Andoyer => "andoyer",
            Self::Karney => "karney",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|edges| edges.as_str().eq_ignore_ascii_case(text))
    }
}

/// A field of a struct, the element of a list, or the key or value of a map.
///
/// Spec: "Nested Types".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NestedField {
    /// The id that identifies the field in data files and manifests. It never changes and is never used again.
    pub id: i32,
    /// The name that the field has now.
    pub name: String,
    /// `true` if the field may not be null.
    pub required: bool,
    /// The type of the field's values.
    pub field_type: Box<Type>,
    /// The field's comment.
    pub doc: Option<String>,
    /// The value of rows in files that were written before the field was added (format version 3).
    pub initial_default: Option<DefaultValue>,
    /// The value that a writer stores where it is given none (format version 3).
    pub write_default: Option<DefaultValue>,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

/// A field that several schemas share.
pub type NestedFieldRef = Arc<NestedField>;

impl NestedField {
    /// Returns a field without a comment or defaults.
    pub fn new(id: i32, name: impl ToString, field_type: impl Into<Type>, required: bool) -> Self {
        Self {
            id,
            name: name.to_string(),
            required,
            field_type: Box::new(field_type.into()),
            doc: None,
            initial_default: None,
            write_default: None,
            extra: Extra::default(),
        }
    }

    /// Returns a field that may be null, without a comment or defaults.
    pub fn optional(id: i32, name: impl ToString, field_type: impl Into<Type>) -> Self {
        Self::new(id, name, field_type, false)
    }

    /// Returns a field that may not be null, without a comment or defaults.
    pub fn required(id: i32, name: impl ToString, field_type: impl Into<Type>) -> Self {
        Self::new(id, name, field_type, true)
    }
}

/// A struct type: named fields in order.
///
/// Spec: "Nested Types".
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct StructType {
    fields: Vec<NestedFieldRef>,
}

impl StructType {
    /// Returns the struct with `fields`, in that order.
    pub const fn new(fields: Vec<NestedFieldRef>) -> Self {
        Self { fields }
    }

    /// Returns the fields in order.
    pub fn fields(&self) -> &[NestedFieldRef] {
        &self.fields
    }

    /// Returns the field with `id`. Fields of nested structs are not searched.
    pub fn field_by_id(&self, id: i32) -> Option<&NestedFieldRef> {
        self.fields.iter().find(|field| field.id == id)
    }

    /// Returns the field called `name`, case-sensitively. Fields of nested structs are not searched.
    pub fn field_by_name(&self, name: &str) -> Option<&NestedFieldRef> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// A list type: elements of one type.
///
/// Spec: "Nested Types".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListType {
    /// The elements: a field named `element`.
    pub element_field: NestedFieldRef,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

/// The name of the field that stands for a list's elements.
pub const LIST_ELEMENT: &str = "element";
/// The name of the field that stands for a map's keys.
pub const MAP_KEY: &str = "key";
/// The name of the field that stands for a map's values.
pub const MAP_VALUE: &str = "value";

impl ListType {
    /// Returns a list whose element field has `id`. Its elements may not be null if `required`.
    pub fn new(id: i32, element: impl Into<Type>, required: bool) -> Self {
        let element_field = Arc::new(NestedField::new(id, LIST_ELEMENT, element, required));
        Self { element_field, extra: Extra::default() }
    }
}

/// A map type: key-value pairs.
///
/// Spec: "Nested Types".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MapType {
    /// The keys: a required field named `key`.
    pub key_field: NestedFieldRef,
    /// The values: a field named `value`.
    pub value_field: NestedFieldRef,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

impl MapType {
    /// Returns a map; `key` and `value` are the ids and types of the two fields. Its values may not be null if `value_required`.
    pub fn new(key: (i32, Type), value: (i32, Type), value_required: bool) -> Self {
        Self {
            key_field: Arc::new(NestedField::required(key.0, MAP_KEY, key.1)),
            value_field: Arc::new(NestedField::new(value.0, MAP_VALUE, value.1, value_required)),
            extra: Extra::default(),
        }
    }
}

impl Type {
    /// Returns the primitive type, or `None` if the type is not primitive.
    pub const fn as_primitive(&self) -> Option<&PrimitiveType> {
        match self {
            Self::Primitive(ty) => Some(ty),
            _ => None,
        }
    }

    /// Returns the struct, or `None` if the type is not a struct.
    pub const fn as_struct(&self) -> Option<&StructType> {
        match self {
            Self::Struct(ty) => Some(ty),
            _ => None,
        }
    }

    /// Returns `true` for a struct, a list or a map.
    pub const fn is_nested(&self) -> bool {
        matches!(self, Self::Struct(_) | Self::List(_) | Self::Map(_))
    }

    /// Returns the fields directly within the type: a struct's fields, a list's element, or a map's key and value, in that order.
    pub fn children(&self) -> Vec<&NestedFieldRef> {
        match self {
            Self::Struct(ty) => ty.fields.iter().collect(),
            Self::List(ty) => vec![&ty.element_field],
            Self::Map(ty) => vec![&ty.key_field, &ty.value_field],
            Self::Primitive(_) | Self::Variant => Vec::new(),
        }
    }

    /// Returns the first format version that has the type, or `None` if this version of Esker does not define it.
    ///
    /// Spec: "Schemas and Data Types", "Version 3".
    pub const fn first_version(&self) -> Option<u8> {
        match self {
            Self::Primitive(ty) => ty.first_version(),
            Self::Variant => Some(3),
            Self::Struct(_) | Self::List(_) | Self::Map(_) => Some(1),
        }
    }
}

impl PrimitiveType {
    /// Returns `true` if values are stored as whole numbers: integers, dates, times and timestamps, but not decimals.
    pub const fn is_stored_as_integer(&self) -> bool {
        matches!(
            self,
            Self::Int
                | Self::Long
                | Self::Date
                | Self::Time
                | Self::Timestamp
                | Self::Timestamptz
                | Self::TimestampNs
                | Self::TimestamptzNs
        )
    }

    /// Returns the first format version that has the type, or `None` if this version of Esker does not define it.
    pub const fn first_version(&self) -> Option<u8> {
        match self {
            Self::TimestampNs | Self::TimestamptzNs | Self::Unknown | Self::Geometry { .. } | Self::Geography { .. } => Some(3),
            Self::Other(_) => None,
            _ => Some(1),
        }
    }

    /// Returns `true` if a column of this type may become one of type `to` in a table of format version `version`.
    ///
    /// From version 3 on a date may become a timestamp without zone, and `unknown` any primitive type. The function does not look
    /// at partition fields, which forbid some of these changes.
    ///
    /// Spec: "Schema Evolution".
    pub fn may_become(&self, to: &Self, version: u8) -> bool {
        match (self, to) {
            (from, to) if from == to => true,
            (Self::Int, Self::Long) | (Self::Float, Self::Double) => true,
            (Self::Decimal { precision, scale }, Self::Decimal { precision: wider, scale: same }) => {
                scale == same && precision <= wider && *wider <= MAX_DECIMAL_PRECISION
            }
            (Self::Date, Self::Timestamp | Self::TimestampNs) => version >= 3,
            (Self::Unknown, _) => version >= 3,
            _ => false,
        }
    }

    /// Returns the smallest number of bytes that holds every unscaled decimal of `precision` digits, at most 16.
    ///
    /// Spec: Appendix A, "Avro".
    pub const fn decimal_bytes(precision: u32) -> u32 {
        let mut bytes = 1;
        // n bytes hold at most 2^(8n-1) - 1; p digits make at most 10^p - 1.
        while bytes < 16 && (1_u128 << (8 * bytes - 1)) - 1 < 10_u128.pow(precision) - 1 {
            bytes += 1;
        }
        bytes
    }

    /// Returns the type that metadata calls `name`. Case does not matter. A name that is not defined becomes
    /// [`PrimitiveType::Other`].
    pub fn named(name: &str) -> Self {
        let lower = name.to_ascii_lowercase();
        let found = match lower.as_str() {
            "boolean" => Some(Self::Boolean),
            "int" => Some(Self::Int),
            "long" => Some(Self::Long),
            "float" => Some(Self::Float),
            "double" => Some(Self::Double),
            "date" => Some(Self::Date),
            "time" => Some(Self::Time),
            "timestamp" => Some(Self::Timestamp),
            "timestamptz" => Some(Self::Timestamptz),
            "timestamp_ns" => Some(Self::TimestampNs),
            "timestamptz_ns" => Some(Self::TimestamptzNs),
            "string" => Some(Self::String),
            "uuid" => Some(Self::Uuid),
            "binary" => Some(Self::Binary),
            "unknown" => Some(Self::Unknown),
            "geometry" => Some(Self::Geometry { crs: None }),
            "geography" => Some(Self::Geography { crs: None, edges: None }),
            _ => Self::with_arguments(name),
        };
        found.unwrap_or_else(|| Self::Other(Box::new(Json::from(name))))
    }

    /// Parses `decimal(P, S)`, `fixed[L]`, `geometry(CRS)` and `geography(CRS, EDGES)`.
    fn with_arguments(name: &str) -> Option<Self> {
        let open = name.find(['(', '['])?;
        let (kind, rest) = name.split_at(open);
        let close = if rest.starts_with('(') { ')' } else { ']' };
        let inside = rest[1..].trim_end().strip_suffix(close)?;
        match (kind.trim().to_ascii_lowercase().as_str(), close) {
            ("decimal", ')') => {
                let (precision, scale) = inside.split_once(',')?;
                Some(Self::Decimal { precision: precision.trim().parse().ok()?, scale: scale.trim().parse().ok()? })
            }
            ("fixed", ']') => Some(Self::Fixed(inside.trim().parse().ok()?)),
            // The name of a reference system may contain commas and parentheses, the name of an algorithm may not.
            ("geometry", ')') => Some(Self::Geometry { crs: filled(inside) }),
            ("geography", ')') => match inside.rsplit_once(',') {
                Some((crs, edges)) if EdgeAlgorithm::parse(edges.trim()).is_some() => {
                    Some(Self::Geography { crs: filled(crs), edges: EdgeAlgorithm::parse(edges.trim()) })
                }
                _ => Some(Self::Geography { crs: filled(inside), edges: None }),
            },
            _ => None,
        }
    }
}

fn filled(text: &str) -> Option<Box<str>> {
    Some(text.trim()).filter(|text| !text.is_empty()).map(Into::into)
}

/// Prints the type as metadata spells it.
impl fmt::Display for PrimitiveType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::Timestamptz => "timestamptz",
            Self::TimestampNs => "timestamp_ns",
            Self::TimestamptzNs => "timestamptz_ns",
            Self::String => "string",
            Self::Uuid => "uuid",
            Self::Binary => "binary",
            Self::Unknown => "unknown",
            Self::Decimal { precision, scale } => return write!(f, "decimal({precision}, {scale})"),
            Self::Fixed(length) => return write!(f, "fixed[{length}]"),
            Self::Geometry { crs: None } => "geometry",
            Self::Geometry { crs: Some(crs) } => return write!(f, "geometry({crs})"),
            Self::Geography { crs: None, edges: None } => "geography",
            Self::Geography { crs: Some(crs), edges: None } => return write!(f, "geography({crs})"),
            Self::Geography { crs, edges: Some(edges) } => {
                return write!(f, "geography({}, {})", crs.as_deref().unwrap_or("OGC:CRS84"), edges.as_str());
            }
            Self::Other(json) => match json.as_str() {
                Some(name) => name,
                None => return json.fmt(f),
            },
        })
    }
}

/// Prints the type as Java's `Type.toString` does.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primitive(ty) => ty.fmt(f),
            Self::Variant => f.write_str("variant"),
            Self::List(ty) => write!(f, "list<{}>", ty.element_field.field_type),
            Self::Map(ty) => write!(f, "map<{}, {}>", ty.key_field.field_type, ty.value_field.field_type),
            Self::Struct(ty) => {
                f.write_str("struct<")?;
                for (at, field) in ty.fields.iter().enumerate() {
                    let comma = if at > 0 { ", " } else { "" };
                    let needed = if field.required { "required" } else { "optional" };
                    write!(f, "{comma}{}: {}: {needed} {}", field.id, field.name, field.field_type)?;
                }
                f.write_str(">")
            }
        }
    }
}

impl From<PrimitiveType> for Type {
    fn from(ty: PrimitiveType) -> Self {
        Self::Primitive(ty)
    }
}

impl From<StructType> for Type {
    fn from(ty: StructType) -> Self {
        Self::Struct(ty)
    }
}

impl From<ListType> for Type {
    fn from(ty: ListType) -> Self {
        Self::List(ty)
    }
}

impl From<MapType> for Type {
    fn from(ty: MapType) -> Self {
        Self::Map(ty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_printed_as_they_were_read() {
        for name in [
            "boolean",
            "int",
            "long",
            "float",
            "double",
            "decimal(38, 10)",
            "date",
            "time",
            "timestamp",
            "timestamptz",
            "timestamp_ns",
            "timestamptz_ns",
            "string",
            "uuid",
            "fixed[16]",
            "binary",
            "unknown",
            "geometry",
            "geometry(srid:3857)",
            "geography",
            "geography(OGC:CRS84)",
            "geography(projjson:a(b, c), karney)",
            "interval(day, second)",
            "decimal(x)",
            "fixed[-1]",
            "",
        ] {
            assert_eq!(PrimitiveType::named(name).to_string(), name);
        }
        assert_eq!(PrimitiveType::named("decimal(9,2)"), PrimitiveType::Decimal { precision: 9, scale: 2 });
        assert!(matches!(PrimitiveType::named("fixed[-1]"), PrimitiveType::Other(_)));
    }

    /// Spec: Appendix A, "Avro": the minimum number of bytes for precision P.
    #[test]
    fn decimals_take_the_fewest_bytes_that_hold_them() {
        for (precision, bytes) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (9, 4), (10, 5), (18, 8), (19, 9), (38, 16)] {
            assert_eq!(PrimitiveType::decimal_bytes(precision), bytes, "{precision}");
        }
    }

    /// Spec: "Schema Evolution".
    #[test]
    fn types_become_others_as_the_specification_lists_them() {
        use PrimitiveType::*;
        let decimal = |precision, scale| Decimal { precision, scale };
        for (from, to, in_2, in_3) in [
            (Int, Long, true, true),
            (Long, Int, false, false),
            (Float, Double, true, true),
            (decimal(9, 2), decimal(18, 2), true, true),
            (decimal(9, 2), decimal(18, 3), false, false),
            (decimal(18, 2), decimal(9, 2), false, false),
            (Date, Timestamp, false, true),
            (Date, TimestampNs, false, true),
            (Date, Timestamptz, false, false),
            (Unknown, String, false, true),
            (Int, String, false, false),
            (Timestamp, TimestampNs, false, false),
        ] {
            assert_eq!((from.may_become(&to, 2), from.may_become(&to, 3)), (in_2, in_3), "{from} to {to}");
        }
    }
}
