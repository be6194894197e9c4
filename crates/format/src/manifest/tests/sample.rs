//! Generators of tables, files, entries and manifests for the tests.

use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

use crate::*;

/// Returns a schema with a column of each type that partitions may have, and a spec with a field for each. Some names are not valid
/// in Avro.
pub(super) fn table() -> (Schema, PartitionSpec, Vec<Option<PrimitiveType>>) {
    table_with(|_, name| Some(format!("{name} part")))
}

/// Returns some of these columns, with partition fields whose names `part` returns.
pub(super) fn table_with(part: impl Fn(i32, &str) -> Option<String>) -> (Schema, PartitionSpec, Vec<Option<PrimitiveType>>) {
    use PrimitiveType as P;
    let decimal = P::Decimal { precision: 9, scale: 2 };
    let columns = [
        ("i", P::Int),
        ("l", P::Long),
        ("d", P::Date),
        ("s", P::String),
        ("u", P::Uuid),
        ("dec", decimal),
        ("ts", P::Timestamp),
        ("tz", P::Timestamptz),
        ("b", P::Binary),
        ("f", P::Fixed(4)),
        ("ok", P::Boolean),
        ("dbl", P::Double),
    ];
    let fields = columns.iter().zip(1..).map(|((name, ty), id)| Arc::new(NestedField::optional(id, name, ty.clone())));
    let schema = Schema::new(3, fields.collect()).expect("a schema");
    let fields = columns.iter().zip(1..).filter_map(|((name, _), id)| {
        Some(UnboundPartitionField {
            source_id: Some(id),
            source_ids: None,
            field_id: Some(999 + id),
            name: part(id, name)?,
            transform: Transform::Identity,
            extra: Extra::default(),
        })
    });
    let spec = PartitionSpec::new(5, fields.collect());
    let types = spec.types(|id| schema.field_by_id(id).map(|field| field.field_type.as_ref()));
    (schema, spec, types)
}

/// Generates the partition values of a file of [`table`].
pub(super) fn partition() -> impl Strategy<Value = Tuple> {
    let numbers = (any::<Option<i32>>(), any::<Option<i64>>(), any::<Option<i32>>(), option::of(".{0,8}"), any::<Option<u128>>());
    let more =
        (option::of(-9_999_999_i128..=9_999_999), any::<Option<i64>>(), any::<Option<i64>>(), option::of(vec(any::<u8>(), 0..6)));
    (numbers, more, any::<Option<[u8; 4]>>(), any::<Option<bool>>(), any::<Option<f64>>()).prop_map(
        |((i, l, d, s, u), (dec, ts, tz, b), f, ok, dbl)| {
            [
                i.map(Value::Int),
                l.map(Value::Long),
                d.map(Value::Date),
                s.map(|s| Value::String(s.into())),
                u.map(|u| Value::Uuid(Uuid::from_u128(u))),
                dec.map(|unscaled| Value::Decimal { unscaled, scale: 2 }),
                ts.map(Value::Timestamp),
                tz.map(Value::Timestamptz),
                b.map(|b| Value::Binary(b.into())),
                f.map(|f| Value::Fixed(f.into())),
                ok.map(Value::Boolean),
                dbl.map(Value::Double),
            ]
            .into()
        },
    )
}

fn counts() -> impl Strategy<Value = Option<IdMap<i64>>> {
    option::of(btree_map(1..40_i32, 0..i64::MAX, 0..5).prop_map(IdMap::from_iter))
}

fn bounds() -> impl Strategy<Value = Option<BoundMap>> {
    let bound = vec(any::<u8>(), 0..20).prop_map(BoundBytes::new);
    option::of(btree_map(1..40_i32, bound, 0..5).prop_map(BoundMap::from_iter))
}

/// Generates a file with the fields of a format version.
pub(super) fn file(content: DataContentType, version: u8) -> impl Strategy<Value = DataFile> {
    let facts = ("[a-z/]{0,9}", partition(), 0..i64::MAX, any::<i64>(), any::<bool>());
    let maps = (counts(), counts(), counts(), counts(), bounds(), bounds());
    let rest = (
        option::of(vec(any::<u8>(), 0..9)),
        option::of(vec(any::<i64>(), 0..4)),
        option::of(vec(any::<i32>(), 0..4)),
        any::<Option<i32>>(),
        option::of(0..i64::MAX),
        option::of(".{0,9}"),
        any::<Option<i64>>(),
    );
    (facts, maps, rest).prop_map(move |((path, partition, rows, bytes, orc), maps, rest)| {
        let format = if orc { DataFileFormat::Orc } else { DataFileFormat::Parquet };
        let (key, splits, equality, sort, first, referenced, offset) = rest;
        let mut file = DataFile::new(content, format!("s3://b/t/{path}"), format, rows / 1000, bytes);
        file.partition = partition;
        (
            file.column_sizes,
            file.value_counts,
            file.null_value_counts,
            file.nan_value_counts,
            file.lower_bounds,
            file.upper_bounds,
        ) = maps;
        (file.key_metadata, file.split_offsets, file.sort_order_id) = (key.map(Into::into), splits, sort);
        if version >= 2 {
            (file.equality_ids, file.referenced_data_file) = (equality, referenced);
        }
        if version >= 3 {
            file.first_row_id = first.filter(|_| content == DataContentType::Data);
            (file.content_offset, file.content_size_in_bytes) = (offset, offset);
        }
        file
    })
}

/// Generates an entry of any status, with inherited values filled in where they are required.
pub(super) fn entry(content: DataContentType, version: u8) -> impl Strategy<Value = ManifestEntry> {
    let numbers = (any::<Option<i64>>(), 0..i64::MAX, any::<Option<i64>>());
    (0_i64..3, numbers, file(content, version)).prop_map(move |(status, (snapshot, sequence, file_sequence), mut data_file)| {
        let status = ManifestStatus::of(status).expect("a status");
        let added = status == ManifestStatus::Added;
        if added {
            data_file.first_row_id = None;
        }
        ManifestEntry {
            status,
            snapshot_id: if status == ManifestStatus::Existing { snapshot } else { Some(SNAPSHOT) },
            sequence_number: (version >= 2 && !(added && sequence % 2 == 0)).then_some(sequence),
            file_sequence_number: file_sequence.filter(|_| version >= 2 && !added),
            data_file,
        }
    })
}

pub(super) const SNAPSHOT: i64 = 7_000_000_000_000_000_001;

/// Returns a manifest of [`table`] with `entries`.
pub(super) fn written(
    version: u8,
    content: ManifestContent,
    codec: AvroCodec,
    entries: &[ManifestEntry],
) -> (Vec<u8>, ManifestFile) {
    written_to(&table(), version, content, codec, entries)
}

/// Returns a manifest of a given table with `entries`.
pub(super) fn written_to(
    (schema, spec, types): &(Schema, PartitionSpec, Vec<Option<PrimitiveType>>),
    version: u8,
    content: ManifestContent,
    codec: AvroCodec,
    entries: &[ManifestEntry],
) -> (Vec<u8>, ManifestFile) {
    let new = NewManifest { format_version: version, content, schema, spec, types, snapshot_id: Some(SNAPSHOT), codec };
    let mut writer = ManifestWriter::new(&new).expect("a manifest");
    for entry in entries {
        match entry.status {
            ManifestStatus::Added => writer.added(&entry.data_file, entry.sequence_number),
            ManifestStatus::Existing => writer.existing(entry),
            ManifestStatus::Deleted => writer.deleted(entry),
        }
        .expect("written");
    }
    writer.finish("s3://b/m.avro").expect("finished")
}

/// Generates a manifest of a list.
pub(super) fn manifest(version: u8) -> impl Strategy<Value = ManifestFile> {
    let summary = (any::<bool>(), any::<Option<bool>>(), option::of(vec(any::<u8>(), 0..5)), option::of(vec(any::<u8>(), 0..5)));
    let summary = summary.prop_map(|(contains_null, contains_nan, lower, upper)| FieldSummary {
        contains_null,
        contains_nan,
        lower_bound: lower.map(BoundBytes::new),
        upper_bound: upper.map(BoundBytes::new),
        extra: UnknownFields::default(),
    });
    let counts = vec(option::weighted(0.9, 0_u64..1_000_000), 6);
    let rest = (option::of(vec(summary, 0..3)), option::of(vec(any::<u8>(), 0..5)), any::<bool>(), 0..i64::MAX);
    ("[a-z]{0,5}", any::<i64>(), any::<i32>(), 0..i64::MAX, counts, rest).prop_map(
        move |(path, length, spec, number, counts, (partitions, key, deletes, first))| {
            let content = if deletes && version >= 2 { ManifestContent::Deletes } else { ManifestContent::Data };
            let sequence_number = if version >= 2 { number } else { 0 };
            ManifestFile {
                manifest_path: format!("s3://b/{path}"),
                manifest_length: length,
                partition_spec_id: spec,
                content,
                sequence_number,
                min_sequence_number: sequence_number / 2,
                added_snapshot_id: number,
                added_files_count: counts[0],
                existing_files_count: counts[1],
                deleted_files_count: counts[2],
                added_rows_count: counts[3],
                existing_rows_count: counts[4],
                deleted_rows_count: counts[5],
                partitions,
                key_metadata: key.map(Into::into),
                first_row_id: (version >= 3 && content == ManifestContent::Data).then_some(first),
                extra: UnknownFields::default(),
            }
        },
    )
}

/// Returns a manifest list of `manifests`.
pub(super) fn list(version: u8, codec: AvroCodec, manifests: &[ManifestFile]) -> Vec<u8> {
    let new = NewManifestList {
        format_version: version,
        snapshot_id: SNAPSHOT,
        parent_snapshot_id: None,
        sequence_number: 9,
        first_row_id: Some(1000),
        codec,
    };
    let mut writer = ManifestListWriter::new(new).expect("a list");
    manifests.iter().for_each(|manifest| writer.add(manifest).expect("added"));
    writer.finish().expect("finished")
}
