//! Compares with the `iceberg` crate: this crate and that one read the same from each other's manifests and manifest lists.

use std::collections::HashMap;
use std::sync::Arc;

use futures::executor::block_on;
use iceberg::io::FileIO;
use iceberg::spec as theirs;
use proptest::collection::vec;
use proptest::prelude::*;

use super::sample::{SNAPSHOT, entry, list, manifest, table_with, written_to};
use crate::*;

/// The schema of a table, a partition spec, and the types of its partition values.
type Table = (Schema, PartitionSpec, Vec<Option<PrimitiveType>>);

/// Returns a table that the `iceberg` crate can read: it is not partitioned by the UUID column, and all names are valid in Avro.
fn table() -> Table {
    table_with(|id, name| (id != UUID).then(|| format!("{name}_part")))
}

/// The field id of the UUID column.
const UUID: i32 = 5;

/// Generates entries that the `iceberg` crate can read: bounds have the types of their columns, no file size is negative, and no
/// entry has fields of version 3.
fn entries(version: u8, content: DataContentType) -> impl Strategy<Value = Vec<ManifestEntry>> {
    vec(entry(content, version.min(2)), 0..8).prop_map(move |mut entries| {
        for entry in &mut entries {
            let file = &mut entry.data_file;
            let bounds: BoundMap = file
                .partition
                .iter()
                .zip(1..)
                .filter_map(|(value, id)| Some((id, BoundBytes::of(value.as_ref().filter(|value| !value.is_nan())?)?)))
                .collect();
            (file.lower_bounds, file.upper_bounds) = (Some(bounds.clone()), Some(bounds));
            file.partition =
                file.partition.iter().zip(1..).filter(|(_, id)| *id != UUID).map(|(value, _)| value.clone()).collect();
            file.file_size_in_bytes &= i64::MAX;
            if entry.status != ManifestStatus::Added {
                entry.file_sequence_number = entry.sequence_number;
            }
            if version == 1 || entry.status != ManifestStatus::Existing {
                entry.snapshot_id = Some(SNAPSHOT);
            }
        }
        entries
    })
}

/// Converts a partition value to the `iceberg` crate's type.
fn literal(value: &Value) -> theirs::Literal {
    use theirs::PrimitiveLiteral as L;
    theirs::Literal::Primitive(match value {
        Value::Boolean(v) => L::Boolean(*v),
        Value::Int(v) | Value::Date(v) => L::Int(*v),
        Value::Long(v) | Value::Timestamp(v) | Value::Timestamptz(v) => L::Long(*v),
        Value::Double(v) => L::Double((*v).into()),
        Value::String(v) => L::String(v.to_string()),
        Value::Decimal { unscaled, .. } => L::Int128(*unscaled),
        Value::Fixed(v) | Value::Binary(v) => L::Binary(v.to_vec()),
        other => panic!("{other:?}"),
    })
}

fn counts(map: &Option<IdMap<i64>>) -> HashMap<i32, u64> {
    map.iter().flat_map(IdMap::iter).map(|(id, count)| (id, *count as u64)).collect()
}

fn bounds(map: &Option<BoundMap>) -> HashMap<i32, Vec<u8>> {
    map.iter().flat_map(BoundMap::iter).map(|(id, bound)| (id, bound.bytes().to_vec())).collect()
}

fn their_bounds(map: &HashMap<i32, theirs::Datum>) -> HashMap<i32, Vec<u8>> {
    map.iter().map(|(id, datum)| (*id, datum.to_bytes().expect("bytes").into_vec())).collect()
}

/// Replaces an empty list by `None`, because the `iceberg` crate does not distinguish them.
fn none_if_empty<T: PartialEq>(list: Option<Vec<T>>) -> Option<Vec<T>> {
    list.filter(|list| !list.is_empty())
}

fn assert_same(version: u8, ours: &ManifestEntry, theirs: &theirs::ManifestEntry) {
    let numbers = (theirs.snapshot_id, theirs.sequence_number, theirs.file_sequence_number);
    // In version 1 the `iceberg` crate returns sequence number 0. This crate leaves the number open until the entry inherits it.
    let of = |number: Option<i64>| if version == 1 { Some(number.unwrap_or(0)) } else { number };
    assert_eq!((ours.snapshot_id, of(ours.sequence_number), of(ours.file_sequence_number)), numbers);
    assert_eq!(ours.status as i32, theirs.status as i32);
    let (a, b) = (&ours.data_file, &theirs.data_file);
    assert_eq!((a.content as i32, &*a.file_path), (b.content_type() as i32, b.file_path()));
    assert_eq!((a.file_format.as_str(), a.rows()), (&*b.file_format().to_string(), Some(b.record_count())));
    assert_eq!(a.file_size_in_bytes as u64, b.file_size_in_bytes());
    let partition: Vec<_> = a.partition.iter().map(|value| value.as_ref().map(literal)).collect();
    assert_eq!(format!("{partition:?}"), format!("{:?}", b.partition().fields()));
    assert_eq!(&counts(&a.column_sizes), b.column_sizes());
    assert_eq!(&counts(&a.value_counts), b.value_counts());
    assert_eq!(&counts(&a.null_value_counts), b.null_value_counts());
    assert_eq!(&counts(&a.nan_value_counts), b.nan_value_counts());
    assert_eq!(bounds(&a.lower_bounds), their_bounds(b.lower_bounds()));
    assert_eq!(bounds(&a.upper_bounds), their_bounds(b.upper_bounds()));
    assert_eq!(a.key_metadata.as_deref(), b.key_metadata());
    assert_eq!(none_if_empty(a.split_offsets.clone()), none_if_empty(b.split_offsets().map(<[i64]>::to_vec)));
    assert_eq!(none_if_empty(a.equality_ids.clone()), none_if_empty(b.equality_ids()));
    assert_eq!((a.sort_order_id, &a.referenced_data_file), (b.sort_order_id(), &b.referenced_data_file()));
}

/// Converts a file to the `iceberg` crate's type.
fn their_file(file: &DataFile, spec_id: i32, schema: &theirs::Schema) -> theirs::DataFile {
    let bounds = |map: &Option<BoundMap>| -> HashMap<i32, theirs::Datum> {
        let datum = |(id, bound): (i32, BoundBytes)| {
            let ty = schema.field_by_id(id)?.field_type.as_primitive_type()?.clone();
            Some((id, theirs::Datum::try_from_bytes(bound.bytes(), ty).ok()?))
        };
        map.iter().flat_map(BoundMap::iter).filter_map(datum).collect()
    };
    let mut builder = theirs::DataFileBuilder::default();
    builder
        .content(match file.content {
            DataContentType::Data => theirs::DataContentType::Data,
            DataContentType::PositionDeletes => theirs::DataContentType::PositionDeletes,
            DataContentType::EqualityDeletes => theirs::DataContentType::EqualityDeletes,
        })
        .file_path(file.file_path.clone())
        .file_format(file.file_format.as_str().parse().expect("a format"))
        .partition(theirs::Struct::from_iter(file.partition.iter().map(|value| value.as_ref().map(literal))))
        .record_count(file.record_count as u64)
        .file_size_in_bytes(file.file_size_in_bytes as u64)
        .column_sizes(counts(&file.column_sizes))
        .value_counts(counts(&file.value_counts))
        .null_value_counts(counts(&file.null_value_counts))
        .nan_value_counts(counts(&file.nan_value_counts))
        .lower_bounds(bounds(&file.lower_bounds))
        .upper_bounds(bounds(&file.upper_bounds))
        .key_metadata(file.key_metadata.as_ref().map(|key| key.to_vec()))
        .split_offsets(none_if_empty(file.split_offsets.clone()))
        .equality_ids(none_if_empty(file.equality_ids.clone()))
        .referenced_data_file(file.referenced_data_file.clone())
        .partition_spec_id(spec_id);
    if let Some(id) = file.sort_order_id {
        builder.sort_order_id(id);
    }
    builder.build().expect("a file")
}

/// Writes a manifest with the `iceberg` crate, and returns its bytes.
fn their_manifest((schema, spec, _): &Table, version: u8, deletes: bool, entries: &[ManifestEntry]) -> Vec<u8> {
    let schema: theirs::Schema = serde_json::from_value(serde_json::to_value(schema).expect("printed")).expect("a schema");
    let schema = Arc::new(schema);
    let spec: theirs::PartitionSpec = serde_json::from_value(serde_json::to_value(spec).expect("printed")).expect("a spec");
    let io = FileIO::new_with_memory();
    let output = io.new_output("memory:///m.avro").expect("an output");
    let builder = theirs::ManifestWriterBuilder::new(output, Some(SNAPSHOT), schema.clone(), spec.clone());
    let mut writer = match (version, deletes) {
        (1, _) => builder.build_v1(),
        (2, false) => builder.build_v2_data(),
        (2, true) => builder.build_v2_deletes(),
        (_, false) => builder.build_v3_data(),
        (_, true) => builder.build_v3_deletes(),
    };
    for entry in entries {
        let file = their_file(&entry.data_file, spec.spec_id(), &schema);
        let number = entry.sequence_number.unwrap_or(-1);
        match entry.status {
            ManifestStatus::Added => writer.add_file(file, number),
            ManifestStatus::Existing => writer.add_existing_file(file, SNAPSHOT, number, Some(number)),
            ManifestStatus::Deleted => writer.add_delete_file(file, number, Some(number)),
        }
        .expect("added");
    }
    block_on(writer.write_manifest_file()).expect("written");
    block_on(io.new_input("memory:///m.avro").expect("an input").read()).expect("read").to_vec()
}

fn any_entries() -> impl Strategy<Value = (u8, DataContentType, Vec<ManifestEntry>)> {
    (1_u8..=3, 0_i64..3).prop_flat_map(|(version, content)| {
        let content = DataContentType::of(if version == 1 { 0 } else { content }).expect("content");
        (Just(version), Just(content), entries(version, content))
    })
}

fn content_of(content: DataContentType) -> ManifestContent {
    if content == DataContentType::Data { ManifestContent::Data } else { ManifestContent::Deletes }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_crate_reads_what_is_written_here((version, content, entries) in any_entries(), codec in 0_usize..4) {
        let codec = [AvroCodec::Null, AvroCodec::Deflate, AvroCodec::Snappy, AvroCodec::Zstandard][codec];
        let table = table();
        let (bytes, _) = written_to(&table, version, content_of(content), codec, &entries);
        let read = theirs::Manifest::parse_avro(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(read.entries().len(), entries.len());
        for (ours, theirs) in entries.iter().zip(read.entries()) {
            assert_same(version, ours, theirs);
        }
        prop_assert_eq!(*read.metadata().format_version() as u8, version);
    }

    #[test]
    fn what_the_crate_writes_is_read_here((version, content, mut entries) in any_entries()) {
        for entry in &mut entries {
            entry.snapshot_id = Some(SNAPSHOT);
        }
        if version == 1 {
            entries.iter_mut().for_each(|entry| entry.status = ManifestStatus::Added);
        }
        let bytes = their_manifest(&table(), version, content != DataContentType::Data, &entries);
        let read = theirs::Manifest::parse_avro(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let (header, ours) = read_manifest(&bytes).expect("read");
        prop_assert_eq!((header.format_version, header.content, header.schema_id), (version, content_of(content), Some(3)));
        prop_assert_eq!(read.entries().len(), ours.len());
        for (ours, theirs) in ours.iter().zip(read.entries()) {
            assert_same(version, ours, theirs);
        }
    }

    #[test]
    fn the_crate_reads_lists_that_are_written_here(
        (version, manifests) in (1_u8..=3).prop_flat_map(|version| (Just(version), vec(manifest(version), 0..5))),
    ) {
        let mut manifests = manifests;
        for manifest in &mut manifests {
            // The `iceberg` crate counts files in 32 bits, and requires counts from version 2 on.
            manifest.added_files_count = manifest.added_files_count.or(Some(1));
            manifest.existing_files_count = manifest.existing_files_count.or(Some(2));
            manifest.deleted_files_count = manifest.deleted_files_count.or(Some(3));
            manifest.added_rows_count = manifest.added_rows_count.or(Some(4));
            manifest.existing_rows_count = manifest.existing_rows_count.or(Some(5));
            manifest.deleted_rows_count = manifest.deleted_rows_count.or(Some(6));
        }
        let bytes = list(version, AvroCodec::Deflate, &manifests);
        let format = [theirs::FormatVersion::V1, theirs::FormatVersion::V2, theirs::FormatVersion::V3][usize::from(version) - 1];
        let read = theirs::ManifestList::parse_with_version(&bytes, format).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(read.entries().len(), manifests.len());
        for (ours, theirs) in manifests.iter().zip(read.entries()) {
            assert_same_manifest(ours, theirs, version);
        }
        // A list that the `iceberg` crate writes from these entries is read the same here.
        let written = their_list(version, read.entries());
        let again = theirs::ManifestList::parse_with_version(&written, format).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let ours = read_manifest_list(&written).expect("read");
        prop_assert_eq!(ours.len(), manifests.len());
        for (ours, theirs) in ours.iter().zip(again.entries()) {
            assert_same_manifest(ours, theirs, version);
        }
    }
}

/// Writes a manifest list with the `iceberg` crate, and returns its bytes.
fn their_list(version: u8, manifests: &[theirs::ManifestFile]) -> Vec<u8> {
    let io = FileIO::new_with_memory();
    let output = io.new_output("memory:///l.avro").expect("an output");
    let file = block_on(output.writer()).expect("a writer");
    let mut writer = match version {
        1 => theirs::ManifestListWriter::v1(file, SNAPSHOT, None),
        2 => theirs::ManifestListWriter::v2(file, SNAPSHOT, None, 9),
        _ => theirs::ManifestListWriter::v3(file, SNAPSHOT, None, 9, Some(1000)),
    };
    writer.add_manifests(manifests.iter().cloned()).expect("added");
    block_on(writer.close()).expect("written");
    block_on(io.new_input("memory:///l.avro").expect("an input").read()).expect("read").to_vec()
}

fn assert_same_manifest(ours: &ManifestFile, theirs: &theirs::ManifestFile, version: u8) {
    assert_eq!((&ours.manifest_path, ours.manifest_length), (&theirs.manifest_path, theirs.manifest_length));
    assert_eq!((ours.partition_spec_id, ours.content as i32), (theirs.partition_spec_id, theirs.content as i32));
    let least = if version == 1 { 0 } else { ours.min_sequence_number };
    assert_eq!((ours.sequence_number, least), (theirs.sequence_number, theirs.min_sequence_number));
    assert_eq!(ours.added_snapshot_id, theirs.added_snapshot_id);
    let files = [ours.added_files_count, ours.existing_files_count, ours.deleted_files_count];
    let their_files = [theirs.added_files_count, theirs.existing_files_count, theirs.deleted_files_count];
    // In version 1 the `iceberg` crate looks for the names that these counts had before Iceberg 1.5.
    if version >= 2 {
        assert_eq!(files, their_files.map(|count| count.map(u64::from)));
    }
    let rows = [ours.added_rows_count, ours.existing_rows_count, ours.deleted_rows_count];
    assert_eq!(rows, [theirs.added_rows_count, theirs.existing_rows_count, theirs.deleted_rows_count]);
    assert_eq!(ours.key_metadata.as_deref(), theirs.key_metadata.as_deref());
    assert_eq!(ours.first_row_id, theirs.first_row_id.map(|id| id as i64));
    let summaries = ours.partitions.iter().flatten().map(|summary| {
        let bound = |bound: &Option<BoundBytes>| bound.as_ref().map(|bound| bound.bytes().to_vec());
        (summary.contains_null, summary.contains_nan, bound(&summary.lower_bound), bound(&summary.upper_bound))
    });
    let their_summaries = theirs.partitions.iter().flatten().map(|summary| {
        let bounds = [&summary.lower_bound, &summary.upper_bound].map(|bound| bound.as_ref().map(|bound| bound.to_vec()));
        let [lower, upper] = bounds;
        (summary.contains_null, summary.contains_nan, lower, upper)
    });
    assert_eq!(summaries.collect::<Vec<_>>(), their_summaries.collect::<Vec<_>>());
}
