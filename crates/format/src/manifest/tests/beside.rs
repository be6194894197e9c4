//! Unknown fields in two places: in the manifest entry outside the data file, and in the partition summaries of a list.

use serde_json::json;

use crate::avro::{ContainerWriter, put_bytes, put_long};
use crate::*;

fn kept(extra: &UnknownFields) -> Vec<(bool, i32, String, Vec<u8>)> {
    let field =
        |(field, value): (&UnknownField, BoundBytes)| (field.of_entry, field.id, field.name.to_string(), value.bytes().to_vec());
    let mut fields: Vec<_> = extra.iter().map(field).collect();
    fields.sort();
    fields
}

/// Returns a manifest of one entry with unknown fields before and after the data file. One has an id that a field of the data file
/// has too.
fn manifest() -> Vec<u8> {
    let file = json!({"type": "record", "name": "r2", "fields": [
        {"name": "file_path", "type": "string", "field-id": 100}, {"name": "file_format", "type": "string", "field-id": 101},
        {"name": "of_file", "type": "long", "field-id": 9001},
        {"name": "record_count", "type": "long", "field-id": 103}, {"name": "file_size_in_bytes", "type": "long", "field-id": 104}]});
    let schema = json!({"type": "record", "name": "manifest_entry", "fields": [
        {"name": "status", "type": "int", "field-id": 0}, {"name": "before", "type": ["string", "null"], "field-id": 9001},
        {"name": "data_file", "type": file, "field-id": 2}, {"name": "behind", "type": "boolean", "field-id": 9000},
        {"name": "none", "type": ["null", "int"], "field-id": 9002}]});
    let mut writer = ContainerWriter::new("manifest", AvroCodec::Null, &schema, &[]);
    let add = |out: &mut Vec<u8>| {
        [0, 0].into_iter().for_each(|number| put_long(out, number));
        ["x", "s3://b/f", "PARQUET"].into_iter().for_each(|text| put_bytes(out, text.as_bytes()));
        [7, 5, 50].into_iter().for_each(|number| put_long(out, number));
        out.extend_from_slice(&[1, 0]);
        Ok(())
    };
    writer.add(add).expect("an entry");
    writer.finish().expect("a manifest")
}

#[test]
fn what_is_beside_a_file_in_its_entry_is_kept_apart_from_what_is_in_the_file() {
    let mut entries = read_manifest(&manifest()).expect("read").1;
    let expected = [
        (false, 9001, "of_file".to_owned(), vec![2, 14]),
        (true, 9000, "behind".to_owned(), vec![2, 1]),
        (true, 9001, "before".to_owned(), vec![2, 2, b'x']),
    ];
    assert_eq!(kept(&entries[0].data_file.extra), expected);
    (entries[0].snapshot_id, entries[0].sequence_number) = (Some(1), Some(2));
    for format_version in 1..=3 {
        let (schema, spec) = (Schema::new(0, Vec::new()).expect("a schema"), PartitionSpec::new(0, Vec::new()));
        let (content, snapshot_id, codec) = (ManifestContent::Data, Some(1), AvroCodec::Zstandard);
        let new = NewManifest { format_version, content, schema: &schema, spec: &spec, types: &[], snapshot_id, codec };
        let mut writer = ManifestWriter::new(&new).expect("a writer");
        writer.existing(&entries[0]).expect("an entry with them");
        let plain = DataFile::new(DataContentType::Data, "s3://b/plain", DataFileFormat::Parquet, 1, 1);
        writer.added(&plain, None).expect("an entry without any");
        let again = read_manifest(&writer.finish("m").expect("finished").0).expect("read").1;
        assert_eq!(kept(&again[0].data_file.extra), expected);
        assert_eq!(again[0].data_file, entries[0].data_file);
        assert_eq!(again[1].data_file, plain);
    }
    // Fields that were not selected are not kept.
    let batch = decode_manifest(&manifest(), &ManifestProjection::paths()).expect("read");
    assert!(batch.entries()[0].data_file.extra.is_empty());
}

/// Returns a list of two manifests. The first has two partition summaries, the second a null one and another.
fn list() -> Vec<u8> {
    let number = |id: i32| json!({"name": format!("n{id}"), "type": "long", "field-id": id});
    let summary = json!({"type": "record", "name": "r508", "fields": [
        {"name": "later", "type": ["null", "string"], "field-id": 9001}, {"name": "contains_null", "type": "boolean", "field-id": 509}]});
    let summaries = json!({"type": "array", "items": ["null", summary], "element-id": 508});
    let mut fields = vec![json!({"name": "manifest_path", "type": "string", "field-id": 500})];
    fields.extend((501..=506).map(number));
    fields.push(json!({"name": "partitions", "type": ["null", summaries], "field-id": 507}));
    let schema = json!({"type": "record", "name": "manifest_file", "fields": fields});
    let mut writer = ContainerWriter::new("manifest list", AvroCodec::Null, &schema, &[]);
    for second in [false, true] {
        let add = |out: &mut Vec<u8>| {
            put_bytes(out, b"s3://b/m");
            [1, 0, 1, 1, 1, 1, 1, 2].into_iter().for_each(|number| put_long(out, number));
            if second {
                put_long(out, 0);
            } else {
                [1, 1].into_iter().for_each(|number| put_long(out, number));
                put_bytes(out, b"first");
                out.push(1);
            }
            [1, i64::from(second)].into_iter().for_each(|number| put_long(out, number));
            if second {
                put_bytes(out, b"last");
            }
            out.push(0);
            put_long(out, 0);
            Ok(())
        };
        writer.add(add).expect("a manifest");
    }
    writer.finish().expect("a list")
}

#[test]
fn what_is_beside_the_fields_of_a_summary_is_kept() {
    let manifests = read_manifest_list(&list()).expect("read");
    let of = |manifests: &[ManifestFile]| -> Vec<Vec<Vec<u8>>> {
        let values = |summary: &FieldSummary| summary.extra.iter().map(|(_, value)| value.bytes().to_vec()).collect();
        manifests.iter().flat_map(|manifest| manifest.partitions.iter().flatten()).map(values).collect()
    };
    let text = |text: &str| vec![[&[2, 2 * text.len() as u8], text.as_bytes()].concat()];
    let expected = vec![text("first"), Vec::new(), Vec::new(), text("last")];
    assert_eq!(of(&manifests), expected);
    for format_version in 1..=3 {
        let mut writer = ManifestListWriter::new(NewManifestList {
            format_version,
            snapshot_id: 1,
            parent_snapshot_id: None,
            sequence_number: 1,
            first_row_id: Some(0),
            codec: AvroCodec::Null,
        })
        .expect("a writer");
        for manifest in &manifests {
            writer.add(&ManifestFile { first_row_id: Some(0), ..manifest.clone() }).expect("added");
        }
        let again = read_manifest_list(&writer.finish().expect("a list")).expect("read");
        assert_eq!(of(&again), expected);
        assert_eq!(again[0].partitions, manifests[0].partitions);
    }
}
