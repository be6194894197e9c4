//! SQL's names of types as Iceberg has them: times and timestamps of microseconds, `uuid`, binaries.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{self, TimezoneInfo};
use iceberg::spec::{PrimitiveType, Schema as IcebergSchema, StructType, Type};

/// In the metadata of a field whose 16 bytes are a UUID. It never leaves the engine.
const UUID: &str = "esker.uuid";

/// In the metadata of a struct: the paths of names, as JSON, that lead to UUIDs in it. Marks there would be part of the arrays' types.
const WITHIN: &str = "esker.uuid.within";

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
    *field.data_type() == DataType::FixedSizeBinary(16) && field.metadata().contains_key(UUID)
}

/// A table's Arrow schema in which columns of UUIDs say that they are: Arrow has them as 16 bytes, as it has `fixed(16)`.
pub(crate) fn mark_uuids(schema: &Schema, iceberg: &IcebergSchema) -> SchemaRef {
    let field = |f: &FieldRef| {
        let found = iceberg.as_struct().fields().iter().find(|own| own.name == *f.name());
        match found.map(|own| own.field_type.as_ref()) {
            Some(Type::Primitive(PrimitiveType::Uuid)) => Arc::new(marked(Field::clone(f))),
            Some(Type::Struct(fields)) => with_paths(f, &paths(fields)),
            _ => f.clone(),
        }
    };
    Arc::new(Schema::new_with_metadata(schema.fields().iter().map(field).collect::<Vec<_>>(), schema.metadata().clone()))
}

/// The paths to UUIDs within structs.
fn paths(fields: &StructType) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for field in fields.fields() {
        match field.field_type.as_ref() {
            Type::Primitive(PrimitiveType::Uuid) => found.push(vec![field.name.clone()]),
            Type::Struct(inner) => found.extend(paths(inner).into_iter().map(|mut path| {
                path.insert(0, field.name.clone());
                path
            })),
            _ => {}
        }
    }
    found
}

fn with_paths(field: &FieldRef, paths: &[Vec<String>]) -> FieldRef {
    if paths.is_empty() {
        return field.clone();
    }
    let mut metadata = field.metadata().clone();
    metadata.insert(WITHIN.to_owned(), serde_json::json!(paths).to_string());
    Arc::new(Field::clone(field).with_metadata(metadata))
}

/// Whether a path of names leads to a UUID in a struct.
pub(super) fn is_uuid_within(field: &Field, path: &[String]) -> bool {
    let known = field.metadata().get(WITHIN).and_then(|text| serde_json::from_str::<Vec<Vec<String>>>(text).ok());
    known.is_some_and(|known| known.iter().any(|known| known == path))
}

/// A schema for clients.
pub(crate) fn without_marks(schema: &Schema) -> SchemaRef {
    let field = |f: &FieldRef| match f.metadata().contains_key(UUID) || f.metadata().contains_key(WITHIN) {
        true => {
            let mut metadata = f.metadata().clone();
            metadata.remove(UUID);
            metadata.remove(WITHIN);
            Arc::new(Field::clone(f).with_metadata(metadata))
        }
        false => f.clone(),
    };
    Arc::new(Schema::new_with_metadata(schema.fields().iter().map(field).collect::<Vec<_>>(), schema.metadata().clone()))
}
