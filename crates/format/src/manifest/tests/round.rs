//! Manifests and lists of all format versions, written and read back.

use proptest::collection::vec;
use proptest::prelude::*;

use super::sample::{SNAPSHOT, entry, list, manifest, table, written};
use crate::*;

const CODECS: [AvroCodec; 4] = [AvroCodec::Null, AvroCodec::Deflate, AvroCodec::Snappy, AvroCodec::Zstandard];

fn entries() -> impl Strategy<Value = (u8, ManifestContent, Vec<ManifestEntry>)> {
    (1_u8..=3, 0_i64..3).prop_flat_map(|(version, content)| {
        let content = DataContentType::of(if version == 1 { 0 } else { content }).expect("content");
        let of = if content == DataContentType::Data { ManifestContent::Data } else { ManifestContent::Deletes };
        (Just(version), Just(of), vec(entry(content, version), 0..12))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn manifests_are_read_as_they_were_written((version, content, entries) in entries(), codec in 0_usize..4) {
        let (bytes, manifest) = written(version, content, CODECS[codec], &entries);
        let (header, read) = read_manifest(&bytes).expect("read");
        prop_assert_eq!(&read, &entries);
        prop_assert_eq!((header.format_version, header.content, header.schema_id), (version, content, Some(3)));
        let (schema, spec, types) = table();
        let read: Vec<_> = header.partition.iter().map(|column| column.value_type.clone()).collect();
        prop_assert_eq!((header.partition_spec_id, read), (spec.spec_id(), types));
        prop_assert_eq!(manifest_schema(&bytes).expect("read"), Some(schema));
        let added = entries.iter().filter(|entry| entry.status == ManifestStatus::Added).count() as u64;
        prop_assert_eq!(manifest.added_files_count, Some(added));
        // A projection reads the same values for the fields that it selects.
        let some = decode_manifest(&bytes, &ManifestProjection::planning(ColumnSet::of([3, 7]))).expect("read");
        for (row, entry) in entries.iter().enumerate() {
            let file = &entry.data_file;
            prop_assert_eq!((some.path(row), some.partition(row)), (file.file_path.clone(), &*file.partition));
            for id in [3, 7, 8] {
                let stats = file.stats(id).filter(|_| id != 8).unwrap_or_default();
                let found = some.stats(row, id).unwrap_or_default();
                prop_assert_eq!(found, ColumnStats { column_size: None, ..stats });
            }
        }
    }

    #[test]
    fn lists_are_read_as_they_were_written(
        (version, manifests) in (1_u8..=3).prop_flat_map(|version| (Just(version), vec(manifest(version), 0..5))),
        codec in 0_usize..4,
    ) {
        let mut read = read_manifest_list(&list(version, CODECS[codec], &manifests)).expect("read");
        if version == 1 {
            // Version 1 does not write sequence numbers.
            read.iter().for_each(|manifest| assert_eq!(manifest.sequence_number, 0));
            let numbers = manifests.iter().map(|manifest| manifest.min_sequence_number);
            read.iter_mut().zip(numbers).for_each(|(manifest, number)| manifest.min_sequence_number = number);
        }
        prop_assert_eq!(read, manifests);
    }
}

fn plain(status: ManifestStatus, rows: i64) -> ManifestEntry {
    let (_, _, types) = table();
    let mut data_file = DataFile::new(DataContentType::Data, "s3://b/t/f", DataFileFormat::Parquet, rows, 1);
    data_file.partition = vec![None; types.len()].into();
    ManifestEntry { status, snapshot_id: Some(3), sequence_number: Some(4), file_sequence_number: Some(4), data_file }
}

#[test]
fn entries_inherit_what_the_specification_says() {
    let mut added = plain(ManifestStatus::Added, 10);
    (added.sequence_number, added.file_sequence_number) = (None, None);
    let mut known = plain(ManifestStatus::Existing, 5);
    known.data_file.first_row_id = Some(77);
    let entries = [added.clone(), plain(ManifestStatus::Deleted, 100), known, plain(ManifestStatus::Existing, 20), added];
    let (bytes, manifest) = written(3, ManifestContent::Data, AvroCodec::Deflate, &entries);
    assert_eq!((manifest.min_sequence_number, manifest.existing_rows_count, manifest.added_rows_count), (4, Some(25), Some(20)));
    let new = NewManifestList {
        format_version: 3,
        snapshot_id: SNAPSHOT,
        parent_snapshot_id: Some(1),
        sequence_number: 9,
        first_row_id: Some(1000),
        codec: AvroCodec::Snappy,
    };
    let mut writer = ManifestListWriter::new(new).expect("a list");
    writer.add(&manifest).expect("added");
    assert_eq!(writer.next_row_id(), Some(1045));
    writer.add(&manifest).expect("added");
    let listed = read_manifest_list(&writer.finish().expect("finished")).expect("read");
    assert_eq!(listed.iter().map(|manifest| manifest.first_row_id).collect::<Vec<_>>(), [Some(1000), Some(1045)]);
    assert_eq!((listed[0].sequence_number, listed[0].min_sequence_number), (9, 4));

    let mut batch = decode_manifest(&bytes, &ManifestProjection::default()).expect("read");
    batch.inherit(&listed[0]);
    let ids: Vec<_> = (0..5).map(|row| batch.first_row_id(row)).collect();
    assert_eq!(ids, [Some(1000), None, Some(77), Some(1010), Some(1030)]);
    let numbers: Vec<_> = (0..5).map(|row| (batch.sequence_number(row), batch.file_sequence_number(row))).collect();
    assert_eq!(numbers, [(Some(9), Some(9)), (Some(4), Some(4)), (Some(4), Some(4)), (Some(4), Some(4)), (Some(9), Some(9))]);
    assert_eq!((batch.snapshot_id(0), batch.snapshot_id(2)), (Some(SNAPSHOT), Some(3)));

    // A manifest from before version 3 assigns no row ids.
    let mut batch = decode_manifest(&bytes, &ManifestProjection::default()).expect("read");
    batch.inherit(&ManifestFile { first_row_id: None, ..listed[0].clone() });
    assert!((0..5).all(|row| batch.first_row_id(row).is_none()));
}

#[test]
fn version_1_has_sequence_numbers_of_0_and_statuses_inherit_them() {
    let entries: Vec<_> = (0..3).map(|status| plain(ManifestStatus::of(status).expect("a status"), 1)).collect();
    let (bytes, manifest) = written(1, ManifestContent::Data, AvroCodec::Null, &entries);
    let listed = read_manifest_list(&list(1, AvroCodec::Null, &[manifest])).expect("read");
    let mut batch = decode_manifest(&bytes, &ManifestProjection::default()).expect("read");
    assert_eq!(batch.sequence_number(0), None);
    batch.inherit(&listed[0]);
    assert!((0..3).all(|row| batch.sequence_number(row) == Some(0) && batch.file_sequence_number(row) == Some(0)));
}

#[test]
fn a_list_without_counts_keeps_them_unknown_in_version_2() {
    let (_, manifest) = written(1, ManifestContent::Data, AvroCodec::Null, &[]);
    let bare = ManifestFile {
        added_files_count: None,
        deleted_rows_count: None,
        sequence_number: 0,
        min_sequence_number: 0,
        ..manifest
    };
    let read = read_manifest_list(&list(2, AvroCodec::Null, &[bare.clone(), bare.clone()])).expect("read");
    assert_eq!(read, [bare.clone(), bare.clone()]);
    assert!(read[0].has_added_files() && !read[0].has_existing_files());
    let error = ManifestListWriter::new(NewManifestList {
        format_version: 3,
        snapshot_id: 1,
        parent_snapshot_id: None,
        sequence_number: 1,
        first_row_id: Some(0),
        codec: AvroCodec::Null,
    })
    .and_then(|mut writer| writer.add(&ManifestFile { added_rows_count: None, ..bare }))
    .expect_err("nobody knows how many ids");
    assert!(error.to_string().contains("s3://b/m.avro"), "{error}");
}

/// Spec: "Manifest Lists": counts of files are `int`, counts of rows are `long`.
#[test]
fn counts_that_a_list_cannot_hold_are_refused_and_not_written_as_0() {
    let (_, manifest) = written(2, ManifestContent::Data, AvroCodec::Null, &[]);
    let most_rows = ManifestFile { existing_rows_count: Some(i64::MAX as u64), ..manifest.clone() };
    for version in 1..=3 {
        let new = NewManifestList {
            format_version: version,
            snapshot_id: SNAPSHOT,
            parent_snapshot_id: None,
            sequence_number: 9,
            first_row_id: Some(0),
            codec: AvroCodec::Null,
        };
        let finish = |manifest: &ManifestFile| {
            let mut writer = ManifestListWriter::new(new).expect("a list");
            // With a first row id, version 3 assigns none and does no sum.
            writer.add(&ManifestFile { first_row_id: Some(0), ..manifest.clone() }).expect("added");
            writer.finish()
        };
        let read = read_manifest_list(&finish(&most_rows).expect("written")).expect("read");
        assert_eq!(read[0].existing_rows_count, Some(i64::MAX as u64));
        let more_rows = ManifestFile { deleted_rows_count: Some(1 << 63), ..manifest.clone() };
        let more_files = ManifestFile { added_files_count: Some(1 << 31), ..manifest.clone() };
        for (manifest, what) in [(more_rows, "more rows"), (more_files, "more files")] {
            let error = finish(&manifest).expect_err(what).to_string();
            assert!(error.contains(what) && error.contains(&manifest.manifest_path), "{error}");
        }
    }
}

#[test]
fn what_cannot_be_written_is_refused_by_name() {
    let (schema, spec, mut types) = table();
    types[2] = None;
    let new = NewManifest {
        format_version: 2,
        content: ManifestContent::Data,
        schema: &schema,
        spec: &spec,
        types: &types,
        snapshot_id: None,
        codec: AvroCodec::Null,
    };
    let error = ManifestWriter::new(&new).expect_err("an unknown type").to_string();
    assert!(error.contains("partition field d part"), "{error}");
    let (_, _, types) = table();
    let mut writer = ManifestWriter::new(&NewManifest { types: &types, ..new }).expect("a manifest");
    let mut entry = plain(ManifestStatus::Existing, 1);
    entry.sequence_number = None;
    assert!(writer.existing(&entry).expect_err("no number").to_string().contains("s3://b/t/f"));
    entry.data_file.partition[0] = Some(Value::String("x".into()));
    assert!(writer.added(&entry.data_file, None).expect_err("a text for an int").to_string().contains("is not of type int"));
    let (bytes, manifest) = writer.finish("m").expect("finished");
    assert_eq!((read_manifest(&bytes).expect("read").1.len(), manifest.added_files_count), (0, Some(0)));
}
