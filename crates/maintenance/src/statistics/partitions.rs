//! Partition statistics: a Parquet file with a row for each partition, which engines read instead of all manifests.
//!
//! Start reading at [`write_partition_statistics`].
//!
//! Spec: "Partition Statistics".

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StructArray, new_null_array};
use arrow::compute::{SortColumn, SortOptions, concat, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema as ArrowSchema};
use bytes::Bytes;
use esker_format::{Extra, PartitionStatisticsFile, Snapshot, TableMetadata, Transform, Type, Value};
use esker_read::{arrow_type, literal_array};
use esker_table::{DeleteKind, LiveFile, LiveFiles, PartitionKey, all_partition_types, metadata_dir};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use uuid::Uuid;

use crate::context::JobContext;
use crate::{MaintenanceError, Result};

/// The counts of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counts {
    records: i64,
    files: i32,
    bytes: i64,
    position_deletes: i64,
    position_files: i32,
    equality_deletes: i64,
    equality_files: i32,
    vectors: i32,
    /// Time in milliseconds since the Unix epoch and id of the newest snapshot that added one of the partition's files.
    updated: Option<(i64, i64)>,
}

/// Returns the unified partition type: the fields of all specs of the table, each once, by field id.
///
/// Spec: "Partition Statistics".
///
/// # Errors
///
/// Returns a message that names the partition field if its transform or its type is not known, or if Arrow has no type for its
/// values.
fn unified(metadata: &TableMetadata) -> std::result::Result<BTreeMap<i32, FieldRef>, String> {
    let mut fields: BTreeMap<i32, (&str, DataType)> = BTreeMap::new();
    for (spec_id, types) in all_partition_types(metadata) {
        let spec = metadata.partition_spec_by_id(spec_id).map_or(&[][..], |spec| spec.fields());
        for (field, ty) in spec.iter().zip(types) {
            let (name, transform) = (field.name(), field.transform());
            let ty = match ty {
                Some(ty) => arrow_type(&Type::Primitive(ty)).map_err(|e| format!("partition field {name}: {e}"))?,
                // A void field has no values.
                None if *transform == Transform::Void => continue,
                None if matches!(transform, Transform::Unknown(_)) => {
                    return Err(format!("partition field {name}: its transform, {transform}, is not known"));
                }
                None => return Err(format!("partition field {name}: its type is not known, because no schema has its source")),
            };
            // A field that was renamed has the name of the newest spec.
            fields.insert(field.field_id, (name, ty));
        }
    }
    // Different fields of two specs may have the same name.
    let mut names = HashSet::new();
    let unified = fields.into_iter().map(|(id, (name, ty))| {
        let name = if names.insert(name) { name.to_owned() } else { format!("{name}_{id}") };
        (id, with_id(Field::new(name, ty, true), id))
    });
    Ok(unified.collect())
}

/// Returns a partition's value of a field; `None` if it is null or the partition's spec does not have the field.
fn value<'a>(metadata: &TableMetadata, partition: &'a PartitionKey<'_>, field_id: i32) -> Option<&'a Value> {
    let spec = metadata.partition_spec_by_id(partition.spec_id())?;
    let at = spec.fields().iter().position(|f| f.field_id == field_id)?;
    partition.values().get(at)?.as_ref()
}

/// Counts the files of each partition, in the order of the partitions' keys.
fn count<'a>(metadata: &TableMetadata, live: &'a LiveFiles) -> Vec<(PartitionKey<'a>, Counts)> {
    let mut all: BTreeMap<PartitionKey<'a>, Counts> = BTreeMap::new();
    let small = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut entry = |file: &'a LiveFile, add: &dyn Fn(&mut Counts)| {
        let counts = all.entry(PartitionKey::of(file)).or_default();
        add(counts);
        let snapshot = metadata.snapshots.get(file.snapshot_id).map(|s| (s.timestamp_ms, s.snapshot_id));
        counts.updated = counts.updated.max(snapshot);
    };
    for file in &live.data {
        entry(file, &|counts| {
            counts.records = counts.records.saturating_add(small(file.file.rows().unwrap_or(0)));
            counts.files += 1;
            counts.bytes = counts.bytes.saturating_add(small(file.file.size()));
        });
    }
    for delete in &live.deletes {
        let rows = small(delete.entry.file.rows().unwrap_or(0));
        entry(&delete.entry, &|counts| {
            let (deletes, files) = match delete.kind {
                DeleteKind::Position => (&mut counts.position_deletes, &mut counts.position_files),
                DeleteKind::DeletionVector => (&mut counts.position_deletes, &mut counts.vectors),
                DeleteKind::Equality => (&mut counts.equality_deletes, &mut counts.equality_files),
            };
            (*deletes, *files) = (deletes.saturating_add(rows), *files + 1);
        });
    }
    all.into_iter().collect()
}

/// Gives an Arrow field its Iceberg field id.
fn with_id(field: Field, id: i32) -> FieldRef {
    Arc::new(field.with_metadata([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into()))
}

/// Builds the rows of the file, sorted by the values of the partition, then the spec id.
///
/// Spec: "Partition Statistics File", which defines the columns and their field ids.
fn rows(metadata: &TableMetadata, live: &LiveFiles, fields: &BTreeMap<i32, FieldRef>) -> Result<RecordBatch> {
    let counted = count(metadata, live);
    let partition: Fields = fields.values().cloned().collect();
    let mut values: Vec<ArrayRef> = Vec::new();
    for (id, field) in fields {
        let one = |value: Option<&Value>| match value {
            Some(value) => literal_array(value, field.data_type())
                .ok_or_else(|| MaintenanceError::Refused(format!("values of partition field {} can't be written", field.name()))),
            None => Ok(new_null_array(field.data_type(), 1)),
        };
        let column = counted.iter().map(|(key, _)| one(value(metadata, key, *id))).collect::<Result<Vec<_>>>()?;
        let column: Vec<&dyn arrow::array::Array> = column.iter().map(AsRef::as_ref).collect();
        values.push(concat(&column)?);
    }
    let sort = values
        .iter()
        .map(|column| SortColumn { values: column.clone(), options: Some(SortOptions { descending: false, nulls_first: true }) });
    let spec_ids: ArrayRef = Arc::new(counted.iter().map(|(key, _)| Some(key.spec_id())).collect::<Int32Array>());
    let order = [SortColumn { values: spec_ids.clone(), options: None }];
    let order = lexsort_to_indices(&sort.chain(order).collect::<Vec<_>>(), None)?;

    let long =
        |of: &dyn Fn(&Counts) -> Option<i64>| Arc::new(counted.iter().map(|(_, c)| of(c)).collect::<Int64Array>()) as ArrayRef;
    let int =
        |of: &dyn Fn(&Counts) -> i32| Arc::new(counted.iter().map(|(_, c)| Some(of(c))).collect::<Int32Array>()) as ArrayRef;
    let structs: ArrayRef = Arc::new(StructArray::try_new(partition.clone(), values, None)?);
    let mut columns: Vec<(FieldRef, ArrayRef)> =
        vec![(with_id(Field::new("partition", DataType::Struct(partition), false), 1), structs)];
    let mut add = |id, name: &str, optional: bool, column: ArrayRef| {
        columns.push((with_id(Field::new(name, column.data_type().clone(), optional), id), column));
    };
    add(2, "spec_id", false, spec_ids);
    add(3, "data_record_count", false, long(&|c| Some(c.records)));
    add(4, "data_file_count", false, int(&|c| c.files));
    add(5, "total_data_file_size_in_bytes", false, long(&|c| Some(c.bytes)));
    add(6, "position_delete_record_count", true, long(&|c| Some(c.position_deletes)));
    add(7, "position_delete_file_count", true, int(&|c| c.position_files));
    add(8, "equality_delete_record_count", true, long(&|c| Some(c.equality_deletes)));
    add(9, "equality_delete_file_count", true, int(&|c| c.equality_files));
    add(10, "total_record_count", true, long(&|_| None));
    add(11, "last_updated_at", true, long(&|c| c.updated.map(|(at, _)| at)));
    add(12, "last_updated_snapshot_id", true, long(&|c| c.updated.map(|(_, id)| id)));
    if metadata.format_version >= 3 {
        add(13, "dv_count", false, int(&|c| c.vectors));
    }
    let (fields, columns): (Vec<FieldRef>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let batch = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)?;
    Ok(take_record_batch(&batch, &order)?)
}

/// Writes the statistics of a snapshot's partitions and returns the file's entry in the table metadata.
///
/// Returns `None` if the table has no partition fields or no data, or if values of a field can't be written. The job's log has the
/// reason.
pub(crate) async fn write_partition_statistics(
    context: &JobContext,
    metadata: &TableMetadata,
    snapshot: &Snapshot,
    live: &LiveFiles,
) -> Result<Option<PartitionStatisticsFile>> {
    let fields = match unified(metadata) {
        Ok(fields) => fields,
        Err(why) => {
            context.progress.log(format!("partition statistics are left out: {why}"));
            return Ok(None);
        }
    };
    if live.data.is_empty() || fields.is_empty() {
        return Ok(None);
    }
    let batch = rows(metadata, live, &fields)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?)).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    let dir = metadata_dir(&metadata.location, &metadata.properties);
    let path = format!("{dir}/partition-stats-{}-{}.parquet", snapshot.snapshot_id, Uuid::now_v7());
    let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    context.write(&path, Bytes::from(bytes)).await?;
    let (snapshot_id, extra) = (snapshot.snapshot_id, Extra::default());
    Ok(Some(PartitionStatisticsFile { snapshot_id, statistics_path: path, file_size_in_bytes: size, extra }))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::compute::cast;
    use arrow::datatypes::Int64Type;
    use esker_format::{DataContentType, DataFile, DataFileFormat};
    use esker_read::field_id;
    use esker_table::LiveDelete;
    use serde_json::json;

    use super::*;

    fn metadata() -> TableMetadata {
        let json = json!({
            "format-version": 3, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "file:///t",
            "last-sequence-number": 2, "last-updated-ms": 20, "last-column-id": 1, "current-schema-id": 0, "next-row-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "p", "required": false, "type": "int"}]}],
            "default-spec-id": 0, "last-partition-id": 1000, "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}],
            "partition-specs": [{"spec-id": 0, "fields": [{"source-id": 1, "field-id": 1000, "name": "p", "transform": "identity"}]}],
            "snapshots": ([10, 20].map(|at| json!({"snapshot-id": at * 7, "sequence-number": at / 10, "timestamp-ms": at,
                "manifest-list": "file:///t/l", "summary": {"operation": "append"}, "schema-id": 0, "first-row-id": 0, "added-rows": 0}))),
            "current-snapshot-id": 140, "refs": {"main": {"snapshot-id": 140, "type": "branch"}},
        });
        TableMetadata::from_json(json.to_string().as_bytes()).expect("metadata")
    }

    fn file(content: DataContentType, p: Option<i32>, (records, bytes, snapshot_id): (i64, i64, i64)) -> LiveFile {
        let mut file = DataFile::new(content, format!("f{bytes}"), DataFileFormat::Parquet, records, bytes);
        file.partition = [p.map(Value::Int)].into();
        LiveFile { file, spec_id: 0, sequence_number: 1, file_sequence_number: None, snapshot_id, first_row_id: None }
    }

    /// The expected ids of the columns are those of the specification. Spec: "Partition Statistics File".
    #[test]
    fn what_is_counted_of_a_partition_is_under_the_specifications_ids() {
        let mut live = LiveFiles::default();
        for (p, what) in [(Some(4), (3, 10, 70)), (None, (4, 20, 70)), (Some(4), (5, 40, 140))] {
            live.data.push(file(DataContentType::Data, p, what));
        }
        for (kind, content, what) in [
            (DeleteKind::Position, DataContentType::PositionDeletes, (2, 1, 70)),
            (DeleteKind::DeletionVector, DataContentType::PositionDeletes, (1, 1, 70)),
            (DeleteKind::DeletionVector, DataContentType::PositionDeletes, (3, 1, 70)),
            (DeleteKind::Equality, DataContentType::EqualityDeletes, (9, 1, 70)),
        ] {
            live.deletes.push(LiveDelete { entry: file(content, Some(4), what), kind });
        }
        let metadata = metadata();
        let rows = rows(&metadata, &live, &unified(&metadata).expect("fields")).expect("rows");
        let column = |id: i32| {
            let at =
                rows.schema().fields().iter().position(|f| field_id(f) == Some(id)).unwrap_or_else(|| panic!("no field {id}"));
            rows.column(at).clone()
        };
        let numbers = |column: &ArrayRef| {
            let long = cast(column, &DataType::Int64).expect("numbers");
            long.as_primitive::<Int64Type>().iter().collect::<Vec<_>>()
        };
        let partition = column(1);
        assert_eq!(field_id(&partition.as_struct().fields()[0]), Some(1000));
        assert_eq!(numbers(partition.as_struct().column(0)), [None, Some(4)]);
        let expected = [
            (2, [Some(0), Some(0)]),
            (3, [Some(4), Some(8)]),
            (4, [Some(1), Some(2)]),
            (5, [Some(20), Some(50)]),
            (6, [Some(0), Some(6)]),
            (7, [Some(0), Some(1)]),
            (8, [Some(0), Some(9)]),
            (9, [Some(0), Some(1)]),
            (10, [None, None]),
            (11, [Some(10), Some(20)]),
            (12, [Some(70), Some(140)]),
            (13, [Some(0), Some(2)]),
        ];
        for (id, values) in expected {
            assert_eq!(numbers(&column(id)), values, "field {id}");
        }
    }

    /// Two specs may have different fields of the same name. In format version 1, a dropped column leaves a void field behind.
    #[test]
    fn fields_of_all_specs_are_told_apart_and_a_transform_that_nobody_knows_is_named() {
        let with = |transform: &str| {
            let mut json: serde_json::Value = serde_json::from_slice(&metadata().to_json().expect("printed")).expect("JSON");
            json["partition-specs"].as_array_mut().expect("specs").push(json!({"spec-id": 1, "fields": [
                {"source-id": 1, "field-id": 1001, "name": "p", "transform": transform},
                {"source-id": 9, "field-id": 1002, "name": "gone", "transform": "void"}]}));
            TableMetadata::from_json(json.to_string().as_bytes()).expect("metadata")
        };
        let names: Vec<(i32, String)> =
            unified(&with("bucket[4]")).expect("fields").iter().map(|(id, field)| (*id, field.name().clone())).collect();
        assert_eq!(names, [(1000, "p".to_owned()), (1001, "p_1001".to_owned())]);
        assert_eq!(unified(&with("zorder")), Err("partition field p: its transform, zorder, is not known".to_owned()));
    }
}
