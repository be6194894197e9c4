//! The types of columns (specification, "Schemas and Data Types").

use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::Extra;
use crate::default::DefaultValue;

/// The largest precision of a decimal.
pub const MAX_DECIMAL_PRECISION: u32 = 38;

/// A type. A new one has to be decided at every `match`, so the enum is exhaustive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Type {
    /// A type without fields.
    Primitive(PrimitiveType),
    /// Named fields.
    Struct(StructType),
    /// Items of one type.
    List(ListType),
    /// Keys and values.
    Map(MapType),
    /// Values that say their own types (version 3). As in Java it is neither primitive nor nested.
    Variant,
}

/// A type without fields.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PrimitiveType {
    /// True or false.
    Boolean,
    /// 32 bits, signed.
    Int,
    /// 64 bits, signed.
    Long,
    /// 32 bits, IEEE 754.
    Float,
    /// 64 bits, IEEE 754.
    Double,
    /// A decimal number with a fixed place of its point.
    Decimal {
        /// Digits, 1 to 38.
        precision: u32,
        /// Digits behind the point.
        scale: u32,
    },
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds since 1970-01-01 without a zone.
    Timestamp,
    /// Microseconds since 1970-01-01 UTC.
    Timestamptz,
    /// Nanoseconds since 1970-01-01 without a zone (version 3).
    TimestampNs,
    /// Nanoseconds since 1970-01-01 UTC (version 3).
    TimestamptzNs,
    /// UTF-8.
    String,
    /// 16 bytes.
    Uuid,
    /// So many bytes.
    Fixed(u64),
    /// Bytes.
    Binary,
    /// Nothing but nulls; not stored in data files (version 3).
    Unknown,
    /// Shapes on a plane (version 3).
    Geometry {
        /// The coordinate reference system; none is `OGC:CRS84`.
        crs: Option<Box<str>>,
    },
    /// Shapes on a globe (version 3).
    Geography {
        /// The coordinate reference system; none is `OGC:CRS84`.
        crs: Option<Box<str>>,
        /// How edges between points run; none is `spherical`.
        edges: Option<EdgeAlgorithm>,
    },
    /// A type that nobody knows yet, letter by letter as the metadata has it. It is kept and served; who must decode it refuses it by name.
    Other(Box<Json>),
}

/// How an edge between two points of a geography runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EdgeAlgorithm {
    /// On a sphere.
    Spherical,
    /// By Vincenty's formulae.
    Vincenty,
    /// By Thomas's formulae.
    Thomas,
    /// By Andoyer's formulae.
    Andoyer,
    /// By Karney's formulae.
    Karney,
}

impl EdgeAlgorithm {
    const ALL: [Self; 5] = [Self::Spherical, Self::Vincenty, Self::Thomas, Self::Andoyer, Self::Karney];

    /// As metadata spells it.
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

/// A field of a struct, a list's item, or a map's key or value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NestedField {
    /// What identifies it in data files, for all time.
    pub id: i32,
    /// Its present name.
    pub name: String,
    /// Whether null is not allowed.
    pub required: bool,
    /// Its type.
    pub field_type: Box<Type>,
    /// A comment.
    pub doc: Option<String>,
    /// What rows of files have that were written before the field was added.
    pub initial_default: Option<DefaultValue>,
    /// What writers put where no value is given.
    pub write_default: Option<DefaultValue>,
    /// What else its JSON says.
    pub extra: Extra,
}

/// A field that schemas share.
pub type NestedFieldRef = Arc<NestedField>;

impl NestedField {
    /// A field without a comment or defaults.
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

    /// A field that may be null.
    pub fn optional(id: i32, name: impl ToString, field_type: impl Into<Type>) -> Self {
        Self::new(id, name, field_type, false)
    }

    /// A field that may not be null.
    pub fn required(id: i32, name: impl ToString, field_type: impl Into<Type>) -> Self {
        Self::new(id, name, field_type, true)
    }
}

/// Named fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct StructType {
    fields: Vec<NestedFieldRef>,
}

impl StructType {
    /// Of fields in order.
    pub const fn new(fields: Vec<NestedFieldRef>) -> Self {
        Self { fields }
    }

    /// The fields in order.
    pub fn fields(&self) -> &[NestedFieldRef] {
        &self.fields
    }

    /// The field with an id, at this depth.
    pub fn field_by_id(&self, id: i32) -> Option<&NestedFieldRef> {
        self.fields.iter().find(|field| field.id == id)
    }

    /// The field with a name, at this depth.
    pub fn field_by_name(&self, name: &str) -> Option<&NestedFieldRef> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// Items of one type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListType {
    /// The items: a field named `element`.
    pub element_field: NestedFieldRef,
    /// What else its JSON says.
    pub extra: Extra,
}

/// The name of a list's items.
pub const LIST_ELEMENT: &str = "element";
/// The name of a map's keys.
pub const MAP_KEY: &str = "key";
/// The name of a map's values.
pub const MAP_VALUE: &str = "value";

impl ListType {
    /// Of items of a type.
    pub fn new(id: i32, element: impl Into<Type>, required: bool) -> Self {
        let element_field = Arc::new(NestedField::new(id, LIST_ELEMENT, element, required));
        Self { element_field, extra: Extra::default() }
    }
}

/// Keys and values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MapType {
    /// The keys: a required field named `key`.
    pub key_field: NestedFieldRef,
    /// The values: a field named `value`.
    pub value_field: NestedFieldRef,
    /// What else its JSON says.
    pub extra: Extra,
}

impl MapType {
    /// Of keys and values of two types.
    pub fn new(key: (i32, Type), value: (i32, Type), value_required: bool) -> Self {
        Self {
            key_field: Arc::new(NestedField::required(key.0, MAP_KEY, key.1)),
            value_field: Arc::new(NestedField::new(value.0, MAP_VALUE, value.1, value_required)),
            extra: Extra::default(),
        }
    }
}

impl Type {
    /// The primitive type, if it is one.
    pub const fn as_primitive(&self) -> Option<&PrimitiveType> {
        match self {
            Self::Primitive(ty) => Some(ty),
            _ => None,
        }
    }

    /// The struct, if it is one.
    pub const fn as_struct(&self) -> Option<&StructType> {
        match self {
            Self::Struct(ty) => Some(ty),
            _ => None,
        }
    }

    /// Whether it has fields.
    pub const fn is_nested(&self) -> bool {
        matches!(self, Self::Struct(_) | Self::List(_) | Self::Map(_))
    }

    /// The fields that it is made of: a struct's, a list's items, a map's keys and values.
    pub fn children(&self) -> Vec<&NestedFieldRef> {
        match self {
            Self::Struct(ty) => ty.fields.iter().collect(),
            Self::List(ty) => vec![&ty.element_field],
            Self::Map(ty) => vec![&ty.key_field, &ty.value_field],
            Self::Primitive(_) | Self::Variant => Vec::new(),
        }
    }

    /// The first format version that has the type (specification, "Version 3: Extended Types and Capabilities"); none if nobody knows it.
    pub const fn first_version(&self) -> Option<u8> {
        match self {
            Self::Primitive(ty) => ty.first_version(),
            Self::Variant => Some(3),
            Self::Struct(_) | Self::List(_) | Self::Map(_) => Some(1),
        }
    }
}

impl PrimitiveType {
    /// Whether its values are whole numbers: of days and the like too, but not decimals.
    pub const fn is_whole(&self) -> bool {
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

    /// The first format version that has the type; none if nobody knows it.
    pub const fn first_version(&self) -> Option<u8> {
        match self {
            Self::TimestampNs | Self::TimestamptzNs | Self::Unknown | Self::Geometry { .. } | Self::Geography { .. } => Some(3),
            Self::Other(_) => None,
            _ => Some(1),
        }
    }

    /// Whether a column of the type may become one of another (specification, "Schema Evolution"), apart from what partition fields it has.
    /// `version` is the table's: dates become timestamps, and `unknown` anything, from version 3 on.
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

    /// The fewest bytes that hold an unscaled decimal of a precision.
    pub const fn decimal_bytes(precision: u32) -> u32 {
        let mut bytes = 1;
        // The largest of so many bytes is 2^(8n-1) - 1; the largest of so many digits 10^p - 1.
        while bytes < 16 && (1_u128 << (8 * bytes - 1)) - 1 < 10_u128.pow(precision) - 1 {
            bytes += 1;
        }
        bytes
    }

    /// A type by its name in metadata. A name that nobody knows is a type that nobody knows.
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

    /// `decimal(P, S)`, `fixed[L]`, `geometry(CRS)`, `geography(CRS, EDGES)`.
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
            // A reference system's name may hold commas and parentheses, an algorithm's not.
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

/// As metadata spells it.
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

/// As Java prints it.
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

    /// Specification, "Avro": the minimum number of bytes for precision P.
    #[test]
    fn decimals_take_the_fewest_bytes_that_hold_them() {
        for (precision, bytes) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (9, 4), (10, 5), (18, 8), (19, 9), (38, 16)] {
            assert_eq!(PrimitiveType::decimal_bytes(precision), bytes, "{precision}");
        }
    }

    /// Specification, "Schema Evolution".
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
