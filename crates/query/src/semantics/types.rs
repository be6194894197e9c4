//! SQL's names of types as Iceberg has them: times and timestamps of microseconds, `uuid`, binaries.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{Case, ScalarFunction};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::sqlparser::ast::{self, TimezoneInfo};
use iceberg::spec::{PrimitiveType, Schema as IcebergSchema, Type};

/// In the metadata of a field: where in it 16 bytes are a UUID, as paths between [`NEXT`]; the empty path is the field itself. It never
/// leaves the engine. Types don't tell, since those of the rows that are read and written would have to tell the same.
const UUID: &str = "esker.uuid";
const NEXT: char = '\u{1c}';
/// Before the name of a struct's field in a path.
const FIELD: char = '\u{1f}';
/// For the elements of a list or the values of a map in a path.
const ELEMENT: char = '\u{1e}';

/// A type of SQL where Iceberg's is another than DataFusion's.
#[derive(Debug)]
pub(crate) struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, ty: &ast::DataType) -> Result<Option<FieldRef>> {
        let name = ty.to_string();
        let (ty, uuid) = match ty {
            ast::DataType::Timestamp(digits, zone) => (timestamp(*digits, zone, &name)?, false),
            ast::DataType::Datetime(digits) => (timestamp(*digits, &TimezoneInfo::None, &name)?, false),
            ast::DataType::TimestampNtz(digits) => (timestamp(*digits, &TimezoneInfo::None, &name)?, false),
            ast::DataType::Time(digits, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) if digits.is_none_or(|d| d <= 6) => {
                (DataType::Time64(TimeUnit::Microsecond), false)
            }
            ast::DataType::Uuid => (DataType::FixedSizeBinary(16), true),
            ast::DataType::Varbinary(_) | ast::DataType::Blob(_) | ast::DataType::Bytes(_) | ast::DataType::Binary(None) => {
                (DataType::Binary, false)
            }
            ast::DataType::Custom(custom, _) => match custom.to_string().to_lowercase().as_str() {
                "timestamp_ns" => (DataType::Timestamp(TimeUnit::Nanosecond, None), false),
                "timestamptz_ns" => (DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), false),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let field = Field::new("", ty, true);
        Ok(Some(Arc::new(if uuid { marked(field) } else { field })))
    }
}

fn timestamp(digits: Option<u64>, zone: &TimezoneInfo, name: &str) -> Result<DataType> {
    let unit = match digits {
        None | Some(0..=6) => TimeUnit::Microsecond,
        Some(7..=9) => TimeUnit::Nanosecond,
        Some(_) => return Err(DataFusionError::Plan(format!("{name}: a timestamp has at most 9 digits of a second"))),
    };
    let zoned = matches!(zone, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone);
    Ok(DataType::Timestamp(unit, zoned.then(|| "UTC".into())))
}

/// A field whose values are UUIDs.
pub(crate) fn marked(field: Field) -> Field {
    let mut metadata: HashMap<_, _> = field.metadata().clone();
    metadata.insert(UUID.to_owned(), String::new());
    field.with_metadata(metadata)
}

/// Whether a field's values are UUIDs.
pub(crate) fn is_uuid(field: &Field) -> bool {
    *field.data_type() == DataType::FixedSizeBinary(16) && field.metadata().get(UUID).is_some_and(String::is_empty)
}

/// A table's Arrow schema in which columns say where they hold UUIDs: Arrow has them as 16 bytes, as it has `fixed(16)`.
pub(crate) fn mark_uuids(schema: &Schema, iceberg: &IcebergSchema) -> SchemaRef {
    let field = |f: &FieldRef| match iceberg.as_struct().fields().iter().find(|own| own.name == *f.name()) {
        Some(own) => with_uuids(f, &places(&own.field_type)),
        None => f.clone(),
    };
    Arc::new(Schema::new_with_metadata(schema.fields().iter().map(field).collect::<Vec<_>>(), schema.metadata().clone()))
}

fn with_uuids(field: &FieldRef, places: &[String]) -> FieldRef {
    if places.is_empty() {
        return field.clone();
    }
    let mut metadata = field.metadata().clone();
    metadata.insert(UUID.to_owned(), places.join(&NEXT.to_string()));
    Arc::new(Field::clone(field).with_metadata(metadata))
}

/// Where a type holds UUIDs.
fn places(ty: &Type) -> Vec<String> {
    let within = |ty: &Type, step: String| places(ty).into_iter().map(move |path| format!("{step}{path}"));
    match ty {
        Type::Primitive(PrimitiveType::Uuid) => vec![String::new()],
        Type::Primitive(_) => vec![],
        Type::Struct(inner) => inner.fields().iter().flat_map(|f| within(&f.field_type, format!("{FIELD}{}", f.name))).collect(),
        Type::List(list) => within(&list.element_field.field_type, ELEMENT.to_string()).collect(),
        Type::Map(map) => within(&map.value_field.field_type, ELEMENT.to_string()).collect(),
    }
}

/// The field of an expression; what is taken out of a column tells of UUIDs as the column does.
pub(crate) fn field(expr: &Expr, schema: &DFSchema) -> Result<FieldRef> {
    let own = expr.to_field(schema)?.1;
    // What is null where the struct around it is.
    if let Expr::Case(Case { expr: None, when_then_expr, else_expr: Some(otherwise) }) = expr
        && let [(when, then)] = when_then_expr.as_slice()
        && matches!((when.as_ref(), then.as_ref()), (Expr::IsNull(_), Expr::Literal(value, _)) if value.is_null())
    {
        return Ok(Arc::new(Field::clone(field(otherwise, schema)?.as_ref()).with_nullable(true)));
    }
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return Ok(own) };
    let (Some((from, steps)), "get_field" | "array_element") = (args.split_first(), func.name()) else { return Ok(own) };
    let from = field(from, schema)?;
    let Some(marks) = from.metadata().get(UUID) else { return Ok(own) };
    let mut ty = from.data_type();
    let mut path = String::new();
    for step in steps {
        ty = match (ty, step) {
            (DataType::Struct(fields), Expr::Literal(name, _)) => {
                let name = name.try_as_str().flatten().unwrap_or_default();
                path.extend([FIELD.to_string().as_str(), name]);
                let Some((_, inner)) = fields.find(name) else { return Ok(own) };
                inner.data_type()
            }
            (DataType::List(item), _) => {
                path.push(ELEMENT);
                item.data_type()
            }
            (DataType::Map(entries, _), _) => {
                path.push(ELEMENT);
                let DataType::Struct(pair) = entries.data_type() else { return Ok(own) };
                let [_, value] = pair.as_ref() else { return Ok(own) };
                value.data_type()
            }
            _ => return Ok(own),
        };
    }
    let mut rest = Vec::new();
    for place in marks.split(NEXT) {
        // A step ends where the next begins.
        match place.strip_prefix(&path) {
            Some(within) if within.is_empty() || within.starts_with([FIELD, ELEMENT]) => rest.push(within.to_owned()),
            _ => {}
        }
    }
    Ok(with_uuids(&own, &rest))
}

/// A schema for clients.
pub(crate) fn without_marks(schema: &Schema) -> SchemaRef {
    let field = |f: &FieldRef| match f.metadata().contains_key(UUID) {
        true => {
            let mut metadata = f.metadata().clone();
            metadata.remove(UUID);
            Arc::new(Field::clone(f).with_metadata(metadata))
        }
        false => f.clone(),
    };
    Arc::new(Schema::new_with_metadata(schema.fields().iter().map(field).collect::<Vec<_>>(), schema.metadata().clone()))
}
