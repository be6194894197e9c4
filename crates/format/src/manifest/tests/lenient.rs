//! Manifests and lists of other writers, with other field orders, unions and names, and with unknown fields.

use serde_json::{Value as Json, json};

use crate::avro::{ContainerWriter, put_bytes, put_long};
use crate::*;

/// Returns a file of one value, which `put` writes field by field.
fn file(schema: &Json, metadata: &[(&str, String)], put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut writer = ContainerWriter::new("file", AvroCodec::Null, schema, metadata);
    writer
        .add(|out| {
            put(out);
            Ok(())
        })
        .expect("added");
    writer.finish().expect("finished")
}

fn field(id: i32, ty: Json) -> Json {
    // Names have no meaning.
    json!({"name": format!("n{id}"), "type": ty, "field-id": id})
}

fn record(name: &str, fields: Vec<Json>) -> Json {
    json!({"type": "record", "name": name, "fields": fields})
}

/// Returns the type of a map of counts or bounds, whose items are records.
fn map(name: &str, key: i32, value: Json) -> Json {
    let items = record(name, vec![field(key, json!("int")), field(key + 1, value)]);
    json!({"type": "array", "items": items, "logicalType": "map"})
}

fn text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// Returns an unusual schema: values of maps before keys, null as the second branch, unknown fields.
fn odd_schema() -> Json {
    let odd = record("odd", vec![field(120, json!(["long", "null"])), field(9, json!("string")), field(119, json!("long"))]);
    let data_file = record(
        "f",
        vec![
            field(104, json!("int")),
            field(7001, json!({"type": "map", "values": ["null", {"type": "array", "items": "double"}]})),
            field(109, json!([{"type": "array", "items": odd}, "null"])),
            field(103, json!("long")),
            field(125, json!(["null", map("lower", 126, json!("bytes"))])),
            field(125, json!("string")),
            field(101, json!("string")),
            field(100, json!("string")),
            field(132, json!(["null", {"type": "array", "items": ["null", "long"], "element-id": 133}])),
            json!({"name": "status", "type": "double"}),
            field(102, record("p", vec![])),
        ],
    );
    record("e", vec![field(2, data_file), field(0, json!("long")), field(4, json!("null"))])
}

/// Writes the data file of an entry of [`odd_schema`].
fn put_odd_file(out: &mut Vec<u8>) {
    put_long(out, 55);
    // A map of one entry, as a block with a negative count and its length in bytes.
    put_long(out, 1);
    text(out, "k");
    for number in [1, -2, 16] {
        put_long(out, number);
    }
    out.extend_from_slice(&[0; 16]);
    put_long(out, 0);
    put_long(out, 0);
    put_odd_counts(out);
    put_long(out, 1000);
    // The lower bound of column 4.
    for number in [1, 1, 4] {
        put_long(out, number);
    }
    put_bytes(out, &[0xe2, 0x82]);
    put_long(out, 0);
    text(out, "a second field with one id");
    text(out, "PaRqUeT");
    text(out, "s3a://b/x");
    // The split offsets null and 4.
    for number in [1, 2, 0, 1, 4, 0] {
        put_long(out, number);
    }
    out.extend_from_slice(&1.5_f64.to_le_bytes());
}

/// Writes counts in two blocks, the first with a negative count.
fn put_odd_counts(out: &mut Vec<u8>) {
    for number in [0, -2, 99] {
        put_long(out, number);
    }
    for (key, value) in [(4, Some(7)), (5, None)] {
        put_long(out, value.is_none().into());
        value.into_iter().for_each(|value| put_long(out, value));
        text(out, "x");
        put_long(out, key);
    }
    for number in [1, 0, 9] {
        put_long(out, number);
    }
    text(out, "y");
    put_long(out, 3);
    put_long(out, 0);
}

#[test]
fn fields_are_found_by_id_wherever_and_however_they_are_written() {
    let bytes = file(&odd_schema(), &[("format-version", "2".to_owned())], |out| {
        put_odd_file(out);
        put_long(out, 1);
    });
    let (header, entries) = read_manifest(&bytes).expect("read");
    assert_eq!(
        (header.format_version, header.content, header.schema_id, header.partition_spec_id),
        (2, ManifestContent::Data, None, 0)
    );
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((entry.status, entry.snapshot_id, entry.sequence_number), (ManifestStatus::Added, None, None));
    let file = &entry.data_file;
    assert_eq!((&*file.file_path, &file.file_format), ("s3a://b/x", &DataFileFormat::Parquet));
    assert_eq!((file.record_count, file.file_size_in_bytes), (1000, 55));
    assert_eq!(
        file.value_counts.as_ref().map(|counts| counts.iter().map(|(id, n)| (id, *n)).collect()),
        Some(vec![(3, 9), (4, 7)])
    );
    let lower = file.stats(4).and_then(|stats| stats.lower_bound).expect("a bound");
    assert_eq!((lower, Value::from_bytes(&PrimitiveType::String, lower)), (&[0xe2, 0x82][..], None));
    assert_eq!(file.split_offsets, Some(vec![4]));
    assert_eq!((&file.null_value_counts, &file.equality_ids, file.sort_order_id), (&None, &None, None));
}

/// Returns a manifest of one file with one partition value.
fn partitioned(ty: Json, metadata: &[(&str, String)], id: Option<i32>, put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut part = json!({"name": "part", "type": ty});
    if let Some(id) = id {
        part["field-id"] = id.into();
    }
    let fields = vec![
        field(100, json!("string")),
        field(101, json!("string")),
        field(102, record("p", vec![part])),
        field(103, json!("long")),
        field(104, json!("long")),
    ];
    let schema = record("e", vec![field(0, json!("int")), field(2, record("f", fields))]);
    file(&schema, metadata, |out| {
        put_long(out, 1);
        text(out, "p");
        text(out, "orc");
        put(out);
        put_long(out, 1);
        put_long(out, 1);
    })
}

#[test]
fn partitions_have_the_types_that_the_manifest_has_or_else_its_table() {
    let metadata = |ty: &str, transform: &str| {
        let schema = json!({"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "c", "required": false, "type": ty}]});
        let spec = json!([{"source-id": 1, "field-id": 1000, "name": "part", "transform": transform}]);
        vec![("schema", schema.to_string()), ("partition-spec", spec.to_string())]
    };
    let long = |value: i64| move |out: &mut Vec<u8>| put_long(out, value);
    let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2});
    let uuid = json!({"type": "fixed", "name": "u", "size": 16});
    let cases = [
        // The column was promoted after the file was written, as an int.
        (json!("int"), metadata("long", "identity"), bytes_of(long(5)), Value::Int(5)),
        (json!("long"), metadata("int", "identity"), bytes_of(long(1 << 40)), Value::Long(1 << 40)),
        (json!("int"), metadata("timestamp", "day"), bytes_of(long(5)), Value::Date(5)),
        (json!("int"), metadata("date", "identity"), bytes_of(long(5)), Value::Date(5)),
        (json!("int"), metadata("date", "month"), bytes_of(long(5)), Value::Int(5)),
        (json!({"type": "int", "logicalType": "date"}), vec![], bytes_of(long(5)), Value::Date(5)),
        (json!({"type": "long", "logicalType": "timestamp-nanos"}), vec![], bytes_of(long(5)), Value::TimestampNs(5)),
        (
            json!({"type": "long", "logicalType": "timestamp-micros"}),
            metadata("timestamptz", "identity"),
            bytes_of(long(5)),
            Value::Timestamptz(5),
        ),
        (json!("long"), metadata("timestamptz_ns", "identity"), bytes_of(long(5)), Value::TimestamptzNs(5)),
        (decimal, vec![], vec![4, 0xff, 0x38], Value::Decimal { unscaled: -200, scale: 2 }),
        (json!("bytes"), metadata("decimal(9, 1)", "identity"), vec![4, 0xff, 0x38], Value::Decimal { unscaled: -200, scale: 1 }),
        (uuid.clone(), metadata("uuid", "identity"), vec![1; 16], Value::Uuid(uuid::Uuid::from_bytes([1; 16]))),
        (uuid, metadata("uuid", "bucket[16]"), vec![1; 16], Value::Fixed([1; 16].into())),
        (json!("string"), metadata("nobody knows", "identity"), vec![2, b'x'], Value::String("x".into())),
        (json!("string"), vec![("schema", "damaged".to_owned())], vec![2, b'x'], Value::String("x".into())),
    ];
    for (ty, metadata, bytes, expected) in cases {
        for (ty, prefix) in [(ty.clone(), None), (json!(["null", ty]), Some(2)), (json!([ty, "null"]), Some(0))] {
            // Format version 1 identifies partition fields by position.
            for id in [Some(1000), None] {
                let manifest = partitioned(ty.clone(), &metadata, id, |out| {
                    out.extend(prefix);
                    out.extend_from_slice(&bytes);
                });
                let (header, entries) = read_manifest(&manifest).unwrap_or_else(|error| panic!("{ty}: {error}"));
                assert_eq!(*entries[0].data_file.partition, [Some(expected.clone())], "{ty} {metadata:?}");
                assert_eq!(header.partition[0].field_id, 1000);
                // Java has the schema's id in the schema.
                let known = metadata.iter().any(|(key, text)| *key == "schema" && text.contains("schema-id"));
                assert_eq!(header.schema_id, known.then_some(0));
            }
        }
    }
}

#[test]
fn a_spec_that_its_files_do_not_have_does_not_take_the_memory_of_all() {
    let fields = vec![
        field(100, json!("string")),
        field(101, json!("string")),
        field(102, record("p", vec![field(1000, json!("long"))])),
        field(103, json!("long")),
        field(104, json!("long")),
    ];
    let schema = record("e", vec![field(0, json!("int")), field(2, record("f", fields))]);
    let spec: Vec<Json> =
        (0..4000).map(|id| json!({"source-id": id, "field-id": 1000 + id, "name": "n", "transform": "void"})).collect();
    let written = |files: i64| {
        let metadata = [("partition-spec", Json::from(spec.clone()).to_string())];
        let mut writer = ContainerWriter::new("file", AvroCodec::Null, &schema, &metadata);
        for at in 0..files {
            let put = |out: &mut Vec<u8>| {
                put_long(out, 1);
                text(out, "p");
                text(out, "orc");
                [at, 1, 1].into_iter().for_each(|number| put_long(out, number));
                Ok(())
            };
            writer.add(put).expect("added");
        }
        writer.finish().expect("finished")
    };
    assert_eq!(read_manifest(&written(20)).expect("read").1[7].data_file.partition.len(), 4000);
    let error = read_manifest(&written(1000)).expect_err("four million values").to_string();
    assert_eq!(error, "manifest: field 102: its spec has too many fields that the partition struct lacks");
}

fn bytes_of(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out);
    out
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let wrong = partitioned(json!("int"), &[], None, |out| put_long(out, i64::from(i32::MAX) + 1));
    let error = read_manifest(&wrong).expect_err("no int").to_string();
    assert_eq!(error, "manifest: field 102: an int has more than 32 bits");
    let bare = file(&record("e", vec![field(0, json!("int"))]), &[], |out| put_long(out, 1));
    assert_eq!(
        read_manifest(&bare).expect_err("no file").to_string(),
        "manifest: field 2: it is missing or has an unsupported type"
    );
    let list = file(&record("m", vec![field(500, json!("string"))]), &[], |out| text(out, "m"));
    assert_eq!(read_manifest_list(&list).expect_err("no length").to_string(), "manifest list: field 501: it is missing");
    assert!(read_manifest(b"PAR1").expect_err("parquet").to_string().contains("does not start as an Avro file"));
}

#[test]
fn a_list_of_version_1_without_counts_is_read_and_its_counts_are_unknown() {
    let fields = vec![
        field(500, json!("string")),
        field(501, json!("long")),
        field(502, json!("int")),
        field(503, json!(["null", "long"])),
    ];
    let list = file(&record("m", fields), &[], |out| {
        text(out, "m");
        put_long(out, 5);
        put_long(out, 0);
        put_long(out, 1);
        put_long(out, 7);
    });
    let manifests = read_manifest_list(&list).expect("read");
    assert_eq!((manifests[0].added_snapshot_id, manifests[0].sequence_number, manifests[0].added_files_count), (7, 0, None));
    assert!(manifests[0].has_added_files() && manifests[0].has_existing_files() && manifests[0].has_deleted_files());
}
