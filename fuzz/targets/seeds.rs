//! Writes files that each target begins with into directories of an argument: valid ones, and ones with fields that nobody knows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use esker_format::{
    AvroCodec, BoundBytes, DataContentType, DataFile, DataFileFormat, ManifestContent, ManifestFile, ManifestListWriter,
    ManifestWriter, NestedField, NewBlob, NewManifest, NewManifestList, NewTable, PartitionSpec, PrimitiveType, PuffinCodec,
    PuffinWriter, Schema, create,
};
use serde_json::json;

fn main() {
    let to = std::env::args().nth(1).expect("a directory");
    let save = |target: &str, name: &str, bytes: &[u8]| {
        let directory = Path::new(&to).join(target);
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join(name), bytes).expect("written");
    };
    let column = Arc::new(NestedField::optional(1, "x", PrimitiveType::Long));
    let schema = Schema::new(0, vec![column]).expect("a schema");
    for version in 1..=3 {
        let (manifest, listed) = manifest(version, &schema);
        save("manifest", &format!("v{version}"), &manifest);
        save("manifest", &format!("v{version}-unknown"), &unknown(&manifest, &[132, 142, 143, 144]));
        let list = list(version, &listed);
        save("list", &format!("v{version}"), &list);
        save("list", &format!("v{version}-unknown"), &unknown(&list, &[507, 512, 519]));
        let properties = BTreeMap::from([("format-version".to_owned(), version.to_string())]);
        let new = NewTable { properties, ..NewTable::of(schema.clone(), "s3://b/t") };
        let table =
            create(new, "9c12d441-03fe-4693-9a96-a0705ddf69c1".parse().expect("a uuid"), 1_700_000_000_000).expect("a table");
        save("table", &format!("v{version}"), &table.to_json().expect("printed"));
    }
    let view = json!({"view-uuid": "fa6506c3-7681-40c8-86dc-e36561f83385", "format-version": 1, "location": "s3://b/v",
        "current-version-id": 1, "versions": [{"version-id": 1, "timestamp-ms": 1, "schema-id": 0, "default-namespace": ["n"],
            "summary": {}, "representations": [{"type": "sql", "sql": "SELECT 1", "dialect": "spark"}]}],
        "schemas": [schema], "version-log": [{"timestamp-ms": 1, "version-id": 1}]});
    save("view", "v1", view.to_string().as_bytes());
    for (name, codec) in [("none", PuffinCodec::None), ("lz4", PuffinCodec::Lz4), ("zstd", PuffinCodec::Zstd)] {
        save("puffin", name, &puffin(codec));
    }
}

/// The file with other ids in its schema: of as many digits, so that nothing moves.
fn unknown(file: &[u8], ids: &[i32]) -> Vec<u8> {
    let mut file = file.to_vec();
    for id in ids {
        let (known, other) = (format!("\"field-id\":{id}"), format!("\"field-id\":9{:02}", id % 100));
        if let Some(at) = file.windows(known.len()).rposition(|bytes| bytes == known.as_bytes()) {
            file[at..at + known.len()].copy_from_slice(other.as_bytes());
        }
    }
    file
}

fn manifest(version: u8, schema: &Schema) -> (Vec<u8>, ManifestFile) {
    let spec = PartitionSpec::new(0, Vec::new());
    let (content, codec) = (ManifestContent::Data, AvroCodec::Null);
    let new = NewManifest { format_version: version, content, schema, spec: &spec, types: &[], snapshot_id: Some(1), codec };
    let mut writer = ManifestWriter::new(&new).expect("a manifest");
    for at in 0..3 {
        let mut file = DataFile::new(DataContentType::Data, format!("s3://b/t/{at}"), DataFileFormat::Parquet, 10, 100);
        file.value_counts = Some([(1, 10)].into_iter().collect());
        file.lower_bounds = Some([(1, BoundBytes::new(vec![0; 8]))].into_iter().collect());
        (file.split_offsets, file.key_metadata) = (Some(vec![4, 9]), Some(Bytes::from_static(b"key")));
        (file.content_offset, file.referenced_data_file) = (Some(at), Some("s3://b/t/0".to_owned()));
        writer.added(&file, None).expect("added");
    }
    writer.finish("s3://b/m.avro").expect("a manifest")
}

fn list(version: u8, manifest: &ManifestFile) -> Vec<u8> {
    let new = NewManifestList {
        format_version: version,
        snapshot_id: 1,
        parent_snapshot_id: None,
        sequence_number: 1,
        first_row_id: Some(0),
        codec: AvroCodec::Null,
    };
    let mut writer = ManifestListWriter::new(new).expect("a list");
    let manifest = ManifestFile { key_metadata: Some(Bytes::from_static(b"key")), ..manifest.clone() };
    (0..3).for_each(|_| writer.add(&manifest).expect("added"));
    writer.finish().expect("a list")
}

fn puffin(codec: PuffinCodec) -> Vec<u8> {
    let mut writer = PuffinWriter::default();
    let properties = BTreeMap::from([("ndv".to_owned(), "3".to_owned())]);
    let blob = NewBlob { blob_type: "x".to_owned(), fields: vec![1], snapshot_id: 1, sequence_number: 1, properties };
    writer.add(blob, &[7; 100], codec).expect("added");
    writer.finish(BTreeMap::new(), codec == PuffinCodec::Lz4).expect("a file").0
}
