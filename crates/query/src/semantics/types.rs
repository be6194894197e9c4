//! Names of SQL types with Iceberg's meaning: times and timestamps in microseconds, `uuid`, binaries, variants and shapes.
//!
//! Arrow has 16 bytes for both `uuid` and `fixed(16)`. Here 16 bytes are a UUID, unless the metadata of a field marks them as a
//! `fixed(16)`.
//! Start with [`SqlTypes`] for names to types, [`type_name`] for types to names, and [`FIXED`] for the marks.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{Case, ScalarFunction};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::sqlparser::ast::{self, CharLengthUnits, CharacterLength, TimezoneInfo};
use esker_format::{ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema as IcebergSchema, StructType, Type};
use esker_read::{DEFAULT_CRS, DEFAULT_EDGES, arrow_field, geo_metadata, is_variant, variant_type};

use super::sized::sized;
use crate::error_wording::sql_type;
use crate::opaque;

/// Metadata key of a field for the places in it at which 16 bytes are a `fixed(16)`.
///
/// The value is a list of paths with [`NEXT`] between them; the empty path is the field itself. The mark never leaves the engine.
/// It is no part of types, because the types of all rows that are read and written would need it, too.
///
/// 16 bytes without a mark are a UUID. So if a function loses the mark, a text that is no UUID is an error, and not another
/// value.
const FIXED: &str = "esker.fixed";
/// Separator of the paths in a mark.
const NEXT: char = '\u{1c}';
/// Step of a path to a struct's field; the field's name follows.
const FIELD: char = '\u{1f}';
/// Step of a path to the elements of a list or the values of a map.
const ELEMENT: char = '\u{1e}';
/// Step of a path to the keys of a map.
const KEY: char = '\u{1d}';

/// The planner of SQL type names, for types that differ between Iceberg and DataFusion.
#[derive(Debug)]
pub(crate) struct SqlTypes;

impl TypePlanner for SqlTypes {
    fn plan_type_field(&self, ty: &ast::DataType) -> Result<Option<FieldRef>> {
        let name = ty.to_string();
        let ty = match ty {
            ast::DataType::Timestamp(digits, zone) => return timestamp(*digits, zone, &name).map(Some),
            ast::DataType::Datetime(digits) => return timestamp(*digits, &TimezoneInfo::None, &name).map(Some),
            ast::DataType::TimestampNtz(digits) => return timestamp(*digits, &TimezoneInfo::None, &name).map(Some),
            ast::DataType::Time(digits, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) if digits.is_none_or(|d| d <= 6) => {
                let ty = DataType::Time64(TimeUnit::Microsecond);
                return Ok(Some(match digits {
                    Some(digits @ 0..6) => sized(ty, *digits),
                    _ => Arc::new(Field::new("", ty, true)),
                }));
            }
            ast::DataType::Varchar(length)
            | ast::DataType::Nvarchar(length)
            | ast::DataType::CharVarying(length)
            | ast::DataType::CharacterVarying(length) => return text(*length, &name).map(Some),
            ast::DataType::Char(_) | ast::DataType::Character(_) => return Err(padded(&name)),
            ast::DataType::Uuid => DataType::FixedSizeBinary(16),
            ast::DataType::Varbinary(_) | ast::DataType::Blob(_) | ast::DataType::Bytes(_) | ast::DataType::Binary(None) => {
                DataType::Binary
            }
            ast::DataType::Map(key, value) => {
                let ty = super::variant_types::type_of_map(key, value)?;
                return Ok(ty.map(|ty| Arc::new(Field::new("", ty, true))));
            }
            ast::DataType::Custom(custom, about) => match custom.to_string().to_lowercase().as_str() {
                kind @ ("geometry" | "geography") => return shapes(kind, about).map(Some),
                "variant" => variant_type(),
                "timestamp_ns" => DataType::Timestamp(TimeUnit::Nanosecond, None),
                "bpchar" | "nchar" => return Err(padded(&name)),
                "timestamptz_ns" => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(Field::new("", ty, true))))
    }
}

/// Returns the field of a type of shapes. Fails if `about` is not a reference system, with edges after it for a geography.
fn shapes(kind: &str, about: &[String]) -> Result<FieldRef> {
    let name = if about.is_empty() { kind.to_owned() } else { format!("{kind}({})", about.join(", ")) };
    let ty = PrimitiveType::named(&name);
    let is_crs = |crs: &Option<Box<str>>| crs.as_ref().is_none_or(|crs| !crs.is_empty() && !crs.contains([',', '(', ')']));
    let is_known = match &ty {
        PrimitiveType::Geometry { crs } => is_crs(crs) && about.len() < 2,
        PrimitiveType::Geography { crs, edges } => is_crs(crs) && (about.len() == 2) == edges.is_some() && about.len() < 3,
        _ => false,
    };
    let known = arrow_field(&NestedField::optional(0, "", ty)).ok().filter(|_| is_known);
    let Some(known) = known else {
        return Err(DataFusionError::Plan(format!(
            "{name} is not a type of shapes; write GEOMETRY('EPSG:3857') or GEOGRAPHY('OGC:CRS84', 'spherical')"
        )));
    };
    let metadata = known.metadata().iter().filter(|(key, _)| key.starts_with("ARROW:extension:"));
    let metadata = metadata.map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok(Arc::new(Field::new("", known.data_type().clone(), true).with_metadata(metadata)))
}

/// Returns the error for a type that pads its values with blanks.
///
/// Blanks count in comparisons, so a padded text would be another text.
fn padded(name: &str) -> DataFusionError {
    DataFusionError::Plan(format!("{name} is not served, because its values would be padded with blanks: write VARCHAR"))
}

/// Returns the field of a text type with at most `length` characters.
fn text(length: Option<CharacterLength>, name: &str) -> Result<FieldRef> {
    Ok(match length {
        None | Some(CharacterLength::Max) => Arc::new(Field::new("", DataType::Utf8View, true)),
        Some(CharacterLength::IntegerLength { length, unit: None | Some(CharLengthUnits::Characters) }) if length > 0 => {
            sized(DataType::Utf8View, length)
        }
        Some(_) => return Err(DataFusionError::Plan(format!("{name}: the length must be a number of characters, at least 1"))),
    })
}

/// Returns the field of a timestamp type with a number of digits of a second.
fn timestamp(digits: Option<u64>, zone: &TimezoneInfo, name: &str) -> Result<FieldRef> {
    let unit = match digits {
        None | Some(0..=6) => TimeUnit::Microsecond,
        Some(7..=9) => TimeUnit::Nanosecond,
        Some(_) => return Err(DataFusionError::Plan(format!("{name}: a timestamp has at most 9 digits of a second"))),
    };
    let zoned = matches!(zone, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone);
    let ty = DataType::Timestamp(unit, zoned.then(|| "UTC".into()));
    Ok(match digits {
        None | Some(6 | 9) => Arc::new(Field::new("", ty, true)),
        Some(digits) => sized(ty, digits),
    })
}

/// Returns true if the values of a field are UUIDs.
pub(crate) fn is_uuid(field: &Field) -> bool {
    *field.data_type() == DataType::FixedSizeBinary(16) && !is_fixed(field)
}

/// Returns true if the values of a field are marked as a `fixed(16)`.
pub(super) fn is_fixed(field: &Field) -> bool {
    let here = |marks: &String| marks.split(NEXT).any(str::is_empty);
    *field.data_type() == DataType::FixedSizeBinary(16) && field.metadata().get(FIXED).is_some_and(here)
}

/// Marks the values of a field as a `fixed(16)`.
pub(super) fn fixed(field: &FieldRef) -> FieldRef {
    with_marks(field, &[String::new()])
}

/// Marks the places in a table's Arrow schema that are a `fixed(16)`. Without marks they would be UUIDs.
pub(crate) fn mark_fixed(schema: &Schema, iceberg: &IcebergSchema) -> SchemaRef {
    let field = |f: &FieldRef| match iceberg.as_struct().fields().iter().find(|own| own.name == *f.name()) {
        Some(own) => with_marks(f, &places(&own.field_type)),
        None => f.clone(),
    };
    Arc::new(Schema::new_with_metadata(schema.fields().iter().map(field).collect::<Vec<_>>(), schema.metadata().clone()))
}

/// Returns the Iceberg type of a column that is created for a field.
///
/// `ty` is the type of the field and has a `fixed(16)` for all 16 bytes. Those that the field does not mark become a `uuid`.
pub(crate) fn stored(ty: &Type, field: &Field) -> Type {
    let marks = field.metadata().get(FIXED).map(|marks| marks.split(NEXT).collect::<Vec<_>>());
    with_uuids(ty, "", &marks.unwrap_or_default())
}

/// Replaces each `fixed(16)` whose path is not in `fixed` by a `uuid`. `path` is the path of `ty`.
fn with_uuids(ty: &Type, path: &str, fixed: &[&str]) -> Type {
    let within = |field: &NestedFieldRef, step: String| {
        let mut made = NestedField::clone(field);
        *made.field_type = with_uuids(&field.field_type, &format!("{path}{step}"), fixed);
        Arc::new(made)
    };
    match ty {
        Type::Primitive(PrimitiveType::Fixed(16)) if !fixed.contains(&path) => Type::Primitive(PrimitiveType::Uuid),
        Type::Primitive(_) | Type::Variant => ty.clone(),
        Type::Struct(inner) => {
            Type::Struct(StructType::new(inner.fields().iter().map(|f| within(f, format!("{FIELD}{}", f.name))).collect()))
        }
        Type::List(list) => {
            Type::List(ListType { element_field: within(&list.element_field, ELEMENT.to_string()), ..list.clone() })
        }
        Type::Map(map) => Type::Map(MapType {
            key_field: within(&map.key_field, KEY.to_string()),
            value_field: within(&map.value_field, ELEMENT.to_string()),
            ..map.clone()
        }),
    }
}

/// Marks the places in a field that are a `fixed(16)`, in place of earlier marks.
fn with_marks(field: &FieldRef, places: &[String]) -> FieldRef {
    if places.is_empty() {
        return field.clone();
    }
    let mut metadata = field.metadata().clone();
    metadata.insert(FIXED.to_owned(), places.join(&NEXT.to_string()));
    Arc::new(Field::clone(field).with_metadata(metadata))
}

/// Returns the paths at which a type has a `fixed(16)`.
fn places(ty: &Type) -> Vec<String> {
    let within = |ty: &Type, step: String| places(ty).into_iter().map(move |path| format!("{step}{path}"));
    match ty {
        Type::Primitive(PrimitiveType::Fixed(16)) => vec![String::new()],
        Type::Primitive(_) | Type::Variant => vec![],
        Type::Struct(inner) => inner.fields().iter().flat_map(|f| within(&f.field_type, format!("{FIELD}{}", f.name))).collect(),
        Type::List(list) => within(&list.element_field.field_type, ELEMENT.to_string()).collect(),
        Type::Map(map) => {
            let keys = within(&map.key_field.field_type, KEY.to_string());
            keys.chain(within(&map.value_field.field_type, ELEMENT.to_string())).collect()
        }
    }
}

/// Returns SQL's name of a column's type.
pub(crate) fn type_name(field: &Field) -> String {
    if let Some(ty) = opaque::type_of(field) {
        let (kind, rest) = ty.split_at(ty.find(['(', '<']).unwrap_or(ty.len()));
        return format!("{}{rest}", kind.to_uppercase());
    }
    if let Some(name) = shape_name(field) {
        return name;
    }
    let marks = field.metadata().get(FIXED).map(|marks| marks.split(NEXT).collect::<Vec<_>>());
    named(field.data_type(), "", &marks.unwrap_or_default())
}

/// Returns SQL's name of a type of shapes, or `None` if the field has another type.
fn shape_name(field: &Field) -> Option<String> {
    let (crs, edges) = geo_metadata(field)?;
    let known = edges.as_deref() == Some(DEFAULT_EDGES);
    Some(match (crs, edges) {
        (Some(crs), Some(_)) if known => format!("GEOGRAPHY({crs})"),
        (None, Some(_)) if known => "GEOGRAPHY".to_owned(),
        (crs, Some(edges)) => format!("GEOGRAPHY({}, {edges})", crs.as_deref().unwrap_or(DEFAULT_CRS)),
        (Some(crs), None) => format!("GEOMETRY({crs})"),
        (None, None) => "GEOMETRY".to_owned(),
    })
}

/// Returns SQL's name of the type at `path`. `fixed` has the paths that are a `fixed(16)`.
fn named(ty: &DataType, path: &str, fixed: &[&str]) -> String {
    let within = |field: &Field, step: &str| match shape_name(field) {
        Some(name) => name,
        None => named(field.data_type(), &format!("{path}{step}"), fixed),
    };
    match ty {
        ty if is_variant(ty) => "VARIANT".to_owned(),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Time64(_) => "TIME".to_owned(),
        DataType::Timestamp(unit, zone) => {
            let name = if zone.is_some() { "TIMESTAMPTZ" } else { "TIMESTAMP" };
            format!("{name}{}", if *unit == TimeUnit::Nanosecond { "_NS" } else { "" })
        }
        ty if ty.is_string() => "VARCHAR".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "VARBINARY".to_owned(),
        DataType::FixedSizeBinary(16) if !fixed.contains(&path) => "UUID".to_owned(),
        DataType::FixedSizeBinary(length) => format!("FIXED({length})"),
        DataType::List(item) => format!("{}[]", within(item, &ELEMENT.to_string())),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|f| format!("{} {}", f.name(), within(f, &format!("{FIELD}{}", f.name()))));
            format!("STRUCT({})", fields.collect::<Vec<_>>().join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                format!("MAP({}, {})", within(&pair[0], &KEY.to_string()), within(&pair[1], &ELEMENT.to_string()))
            }
            _ => "MAP".to_owned(),
        },
        other => sql_type(other).to_uppercase(),
    }
}

/// Returns the operands from which an expression may take its value.
fn sources(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Case(case) => case.when_then_expr.iter().map(|(_, then)| then.as_ref()).chain(case.else_expr.as_deref()).collect(),
        Expr::ScalarFunction(ScalarFunction { args, .. }) => args.iter().collect(),
        Expr::AggregateFunction(function) => function.params.args.iter().collect(),
        Expr::WindowFunction(function) => function.params.args.iter().collect(),
        _ => Vec::new(),
    }
}

/// Returns the field of an expression, with the marks of `fixed(16)`.
///
/// A part that is taken out of a column is marked as it is in the column.
pub(crate) fn field(expr: &Expr, schema: &DFSchema) -> Result<FieldRef> {
    let own = expr.to_field(schema)?.1;
    // `compare::complete_part_access` writes a required field of a struct so that it is null where the struct is.
    if let Expr::Case(Case { expr: None, when_then_expr, else_expr: Some(otherwise) }) = expr
        && let [(when, then)] = when_then_expr.as_slice()
        && matches!((when.as_ref(), then.as_ref()), (Expr::IsNull(_), Expr::Literal(value, _)) if value.is_null())
    {
        return Ok(Arc::new(Field::clone(field(otherwise, schema)?.as_ref()).with_nullable(true)));
    }
    if let Expr::ScalarFunction(ScalarFunction { func, args }) = expr
        && let (Some((from, steps)), "get_field" | "array_element") = (args.split_first(), func.name())
    {
        let from = field(from, schema)?;
        return Ok(part(&own, &from, steps));
    }
    if is_uuid(&own) {
        for source in sources(expr) {
            if is_fixed(field(source, schema)?.as_ref()) {
                return Ok(fixed(&own));
            }
        }
    }
    Ok(own)
}

/// Returns the field of the part that `steps` take out of `from`, with the marks of `from` that lie within the part.
fn part(own: &FieldRef, from: &FieldRef, steps: &[Expr]) -> FieldRef {
    let Some(marks) = from.metadata().get(FIXED) else { return own.clone() };
    let mut ty = from.data_type();
    let mut path = String::new();
    for step in steps {
        ty = match (ty, step) {
            (DataType::Struct(fields), Expr::Literal(name, _)) => {
                let name = name.try_as_str().flatten().unwrap_or_default();
                path.extend([FIELD.to_string().as_str(), name]);
                let Some((_, inner)) = fields.find(name) else { return own.clone() };
                inner.data_type()
            }
            (DataType::List(item), _) => {
                path.push(ELEMENT);
                item.data_type()
            }
            (DataType::Map(entries, _), _) => {
                path.push(ELEMENT);
                let DataType::Struct(pair) = entries.data_type() else { return own.clone() };
                let [_, value] = pair.as_ref() else { return own.clone() };
                value.data_type()
            }
            _ => return own.clone(),
        };
    }
    let mut rest = Vec::new();
    for place in marks.split(NEXT) {
        // A longer name may begin like the last step of the path: the rest has to begin with a step.
        match place.strip_prefix(&path) {
            Some(within) if within.is_empty() || within.starts_with([FIELD, ELEMENT, KEY]) => rest.push(within.to_owned()),
            _ => {}
        }
    }
    with_marks(own, &rest)
}

/// Removes the engine's own marks from a schema that clients see.
pub(crate) fn without_marks(schema: &Schema) -> SchemaRef {
    let is_mark = |key: &str| [FIXED, opaque::REQUIRED].contains(&key);
    let field = |f: &FieldRef| match f.metadata().keys().any(|key| is_mark(key)) {
        true => {
            let mut metadata = f.metadata().clone();
            metadata.retain(|key, _| !is_mark(key));
            Arc::new(Field::clone(f).with_metadata(metadata))
        }
        false => f.clone(),
    };
    Arc::new(Schema::new_with_metadata(schema.fields().iter().map(field).collect::<Vec<_>>(), schema.metadata().clone()))
}
