//! Marks columns as text in the footers of files that lack the mark, as Hive, Impala and early Spark wrote them.
//!
//! The Parquet decoder checks UTF-8 only if the file marks a column as text, even if text is requested. Unchecked bytes in a
//! string array would crash a later function. So such a footer gets the mark wherever the table has text.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use esker_format::{PrimitiveType, Schema, Type};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::file::metadata::{FileMetaData, ParquetMetaData, ParquetMetaDataBuilder};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor, Type as ParquetType};

use crate::{FieldNames, field_id};

/// Returns the ids of a schema's string fields at every depth.
pub fn text_fields(schema: &Schema) -> BTreeSet<i32> {
    let is_text = |id: &i32| {
        let ty = schema.field_by_id(*id).map(|field| field.field_type.as_ref());
        matches!(ty, Some(Type::Primitive(PrimitiveType::String)))
    };
    schema.field_ids().filter(is_text).collect()
}

/// Returns a footer in which unmarked byte columns of some fields are marked as text.
///
/// `fields` are ids of string fields; `names` gives ids to a file without them. The footer is returned unchanged if it needs no
/// mark, or if the file's fields can't be identified.
///
/// # Errors
///
/// Returns [`ParquetError`](parquet::errors::ParquetError) if the file's schema can't be converted or rebuilt.
pub fn marked_as_text(
    footer: Arc<ParquetMetaData>,
    fields: &BTreeSet<i32>,
    names: &FieldNames,
) -> parquet::errors::Result<Arc<ParquetMetaData>> {
    let file = footer.file_metadata();
    let schema = file.schema_descr();
    if !schema.columns().iter().any(|column| is_bare(column)) {
        return Ok(footer);
    }
    let arrow = parquet_to_arrow_schema(schema, None)?;
    // A file whose fields can't be identified is refused elsewhere.
    let Ok(known) = names.identify(arrow.fields()) else { return Ok(footer) };
    let mut leaves = Vec::new();
    known.iter().for_each(|field| add_leaves(field, &mut leaves));
    let is_text =
        |(leaf, column): (&Option<i32>, &Arc<ColumnDescriptor>)| is_bare(column) && leaf.is_some_and(|id| fields.contains(&id));
    let marked: Vec<bool> = leaves.iter().zip(schema.columns()).map(is_text).collect();
    if leaves.len() != schema.num_columns() || !marked.contains(&true) {
        return Ok(footer);
    }
    let root = marked_type(schema.root_schema(), &mut marked.into_iter())?;
    let (created_by, pairs) = (file.created_by().map(str::to_owned), file.key_value_metadata().cloned());
    let schema = Arc::new(SchemaDescriptor::new(Arc::new(root)));
    let file = FileMetaData::new(file.version(), file.num_rows(), created_by, pairs, schema, file.column_orders().cloned());
    let made = ParquetMetaDataBuilder::new(file)
        .set_row_groups(footer.row_groups().to_vec())
        .set_column_index(footer.column_index().cloned())
        .set_offset_index(footer.offset_index().cloned());
    Ok(Arc::new(made.build()))
}

/// Checks that a column holds byte arrays without any annotation of their meaning.
fn is_bare(column: &ColumnDescriptor) -> bool {
    column.physical_type() == Physical::BYTE_ARRAY
        && column.converted_type() == ConvertedType::NONE
        && column.logical_type_ref().is_none()
}

/// Appends the field ids of a field's leaves, in the order of the file's columns.
fn add_leaves(field: &Field, leaves: &mut Vec<Option<i32>>) {
    match field.data_type() {
        DataType::Struct(fields) => fields.iter().for_each(|field| add_leaves(field, leaves)),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) | DataType::Map(item, _) => {
            add_leaves(item, leaves);
        }
        _ => leaves.push(field_id(field)),
    }
}

/// Returns a type in which some leaves are marked as text. `marked` has one flag a leaf, in order.
fn marked_type(ty: &ParquetType, marked: &mut impl Iterator<Item = bool>) -> parquet::errors::Result<ParquetType> {
    let about = ty.get_basic_info();
    let id = about.has_id().then(|| about.id());
    if ty.is_group() {
        let fields = ty.get_fields().iter().map(|field| Ok(Arc::new(marked_type(field, marked)?)));
        let fields = fields.collect::<parquet::errors::Result<Vec<_>>>()?;
        let mut group = ParquetType::group_type_builder(ty.name())
            .with_converted_type(about.converted_type())
            .with_logical_type(about.logical_type_ref().cloned())
            .with_fields(fields)
            .with_id(id);
        if about.has_repetition() {
            group = group.with_repetition(about.repetition());
        }
        return group.build();
    }
    if !marked.next().unwrap_or(false) {
        return Ok(ty.clone());
    }
    ParquetType::primitive_type_builder(ty.name(), Physical::BYTE_ARRAY)
        .with_repetition(about.repetition())
        .with_logical_type(Some(LogicalType::String))
        .with_id(id)
        .build()
}

#[cfg(test)]
mod tests {
    use esker_format::NestedField;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    fn footer(message: &str) -> Arc<ParquetMetaData> {
        let root = Arc::new(parse_message_type(message).expect("a schema"));
        let writer = SerializedFileWriter::new(Vec::new(), root, Arc::default()).expect("a writer");
        let bytes = writer.into_inner().expect("a file");
        Arc::new(SerializedFileReader::new(bytes::Bytes::from(bytes)).expect("a file").metadata().clone())
    }

    #[test]
    fn bytes_are_text_where_the_table_has_text() {
        let found = footer(
            "message m { optional binary a = 1; optional binary b = 2; optional binary c (UTF8) = 3;
                optional group s = 4 { optional binary d = 5; optional int32 e = 6; }
                optional group l (LIST) = 7 { repeated group list { optional binary element = 8; } } }",
        );
        let marked = marked_as_text(found, &BTreeSet::from([1, 3, 5, 6, 8]), &FieldNames::default()).expect("marked");
        let columns = marked.file_metadata().schema_descr().columns();
        let text: Vec<bool> = columns.iter().map(|column| column.converted_type() == ConvertedType::UTF8).collect();
        assert_eq!(text, [true, false, true, true, false, true]);
        let ids: Vec<i32> = columns.iter().map(|column| column.self_type().get_basic_info().id()).collect();
        assert_eq!(ids, [1, 2, 3, 5, 6, 8]);
    }

    #[test]
    fn the_fields_that_hold_text_are_found_at_every_depth() {
        let inner = esker_format::ListType::new(3, PrimitiveType::String, false);
        let fields = vec![
            Arc::new(NestedField::optional(1, "a", PrimitiveType::String)),
            Arc::new(NestedField::optional(2, "l", inner)),
            Arc::new(NestedField::optional(4, "b", PrimitiveType::Binary)),
        ];
        assert_eq!(text_fields(&Schema::new(0, fields).expect("a schema")), BTreeSet::from([1, 3]));
    }
}
