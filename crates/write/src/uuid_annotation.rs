//! Marks UUID columns in a file's Parquet schema.
//!
//! In Arrow's schema a UUID is a fixed-size binary of 16 bytes, so the Parquet schema that is derived from it lacks the logical
//! type `UUID`. Spec: Appendix A, "Parquet"; Parquet, "Variant Shredding".

use std::collections::HashSet;
use std::sync::Arc;

use esker_format::{PrimitiveType, Schema, Type};
use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::errors::Result;
use parquet::schema::types::{SchemaDescriptor, Type as ParquetType, TypePtr};

/// Length of a UUID in bytes.
const WIDTH: i32 = 16;

/// Returns a file's schema in which UUID columns are annotated: those of the table, and those of shredded variants.
pub(crate) fn annotated(file: &SchemaDescriptor, schema: &Schema) -> Result<SchemaDescriptor> {
    let is_uuid =
        |id: &i32| schema.field_by_id(*id).is_some_and(|field| matches!(*field.field_type, Type::Primitive(PrimitiveType::Uuid)));
    let uuids: HashSet<i32> = schema.field_ids().filter(is_uuid).collect();
    Ok(SchemaDescriptor::new(annotate_type(&file.root_schema_ptr(), &uuids)?))
}

/// Returns a type in which UUID columns are annotated.
fn annotate_type(ty: &TypePtr, uuids: &HashSet<i32>) -> Result<TypePtr> {
    let info = ty.get_basic_info();
    let id = info.has_id().then(|| info.id());
    Ok(Arc::new(match ty.as_ref() {
        ParquetType::PrimitiveType { physical_type: Physical::FIXED_LEN_BYTE_ARRAY, type_length: WIDTH, .. } => {
            // A shredded field has no id. Of the types of shredded fields, only UUIDs and long decimals have fixed length, and
            // decimals are annotated.
            let is_uuid = id.map_or(info.name() == "typed_value", |id| uuids.contains(&id));
            if !is_uuid || info.logical_type_ref().is_some() || info.converted_type() != ConvertedType::NONE {
                return Ok(ty.clone());
            }
            ParquetType::primitive_type_builder(info.name(), Physical::FIXED_LEN_BYTE_ARRAY)
                .with_repetition(info.repetition())
                .with_length(WIDTH)
                .with_logical_type(Some(LogicalType::Uuid))
                .with_id(id)
                .build()?
        }
        ParquetType::PrimitiveType { .. } => return Ok(ty.clone()),
        ParquetType::GroupType { fields, .. } => {
            let fields = fields.iter().map(|field| annotate_type(field, uuids)).collect::<Result<Vec<_>>>()?;
            let mut group = ParquetType::group_type_builder(info.name())
                .with_fields(fields)
                .with_logical_type(info.logical_type_ref().cloned())
                .with_converted_type(info.converted_type())
                .with_id(id);
            if info.has_repetition() {
                group = group.with_repetition(info.repetition());
            }
            group.build()?
        }
    }))
}
