//! What is wrong with table metadata that can't be read. The `iceberg` crate tries each format version in turn, and what it says is that
//! none fits.

use iceberg::spec::{PartitionSpec, Schema, SnapshotReference, SortOrder, StatisticsFile, TableMetadata};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The fields that must be there since a format version, and whether they are of their type.
type Required = (&'static str, u64, fn(&Value) -> bool);

const REQUIRED: [Required; 13] = [
    ("location", 1, Value::is_string),
    ("last-updated-ms", 1, Value::is_i64),
    ("last-column-id", 1, Value::is_i64),
    ("table-uuid", 2, Value::is_string),
    ("last-sequence-number", 2, Value::is_i64),
    ("schemas", 2, Value::is_array),
    ("current-schema-id", 2, Value::is_i64),
    ("partition-specs", 2, Value::is_array),
    ("default-spec-id", 2, Value::is_i64),
    ("last-partition-id", 2, Value::is_i64),
    ("sort-orders", 2, Value::is_array),
    ("default-sort-order-id", 2, Value::is_i64),
    ("next-row-id", 3, Value::is_i64),
];

/// Says which field of a metadata file's JSON can't be read, and why.
pub fn complaint(json: &[u8]) -> String {
    let metadata: Value = match serde_json::from_slice(json) {
        Ok(metadata) => metadata,
        Err(e) => return format!("it is no JSON: {e}"),
    };
    let Some(version) = metadata["format-version"].as_u64().filter(|v| (1..=3).contains(v)) else {
        return format!("format-version is {}, not 1, 2 or 3", metadata["format-version"]);
    };
    for (key, since, is) in REQUIRED.into_iter().filter(|(_, since, _)| version >= *since) {
        match metadata.get(key) {
            None => return format!("{key} is missing, which format version {since} has"),
            Some(value) if !is(value) => return format!("{key} is {value:.100}, not of its type"),
            Some(_) => {}
        }
    }
    parts(&metadata, version).unwrap_or_else(|| "its fields do not fit together".to_owned())
}

fn parts(metadata: &Value, version: u64) -> Option<String> {
    each::<Schema>(metadata, "schemas")
        .or_else(|| metadata.get("schema").and_then(|schema| fails::<Schema>("schema", schema)))
        .or_else(|| each::<PartitionSpec>(metadata, "partition-specs"))
        .or_else(|| each::<SortOrder>(metadata, "sort-orders"))
        .or_else(|| each::<StatisticsFile>(metadata, "statistics"))
        .or_else(|| {
            let refs = metadata.get("refs")?.as_object()?;
            refs.iter().find_map(|(name, value)| fails::<SnapshotReference>(&format!("refs.{name}"), value))
        })
        .or_else(|| {
            let snapshots = metadata.get("snapshots")?.as_array()?;
            snapshots.iter().enumerate().find_map(|(i, value)| snapshot(i, value, version))
        })
}

fn fails<T: DeserializeOwned>(name: &str, value: &Value) -> Option<String> {
    T::deserialize(value).err().map(|e| format!("{name}: {}", plain(&e.to_string(), value)))
}

fn each<T: DeserializeOwned>(metadata: &Value, key: &str) -> Option<String> {
    metadata.get(key)?.as_array()?.iter().enumerate().find_map(|(i, value)| fails::<T>(&format!("{key}[{i}]"), value))
}

/// A parser's words, or the value itself where it only says that nothing fits.
fn plain(says: &str, value: &Value) -> String {
    if says.contains("untagged enum") { format!("{:.200} is not understood", value.to_string()) } else { says.to_owned() }
}

/// A snapshot by itself, as the only one of a table. Of one that can't be read, the first field without which it can't be either.
fn snapshot(i: usize, value: &Value, version: u64) -> Option<String> {
    let reads = |snapshot: &Value| {
        let table = json!({
            "format-version": version, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "file:///t",
            "last-sequence-number": i64::MAX, "last-updated-ms": i64::MAX, "last-column-id": 0, "next-row-id": i64::MAX,
            "schema": {"type": "struct", "schema-id": 0, "fields": []}, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": []}],
            "partition-spec": [], "partition-specs": [{"spec-id": 0, "fields": []}], "default-spec-id": 0, "last-partition-id": 999,
            "sort-orders": [{"order-id": 0, "fields": []}], "default-sort-order-id": 0, "snapshots": [snapshot],
        });
        serde_json::from_value::<TableMetadata>(table).is_ok()
    };
    if reads(value) {
        return None;
    }
    let sound = json!({
        "snapshot-id": 1, "sequence-number": 1, "timestamp-ms": 1, "manifest-list": "file:///t/l.avro", "first-row-id": 0, "added-rows": 0,
        "summary": {"operation": "append"},
    });
    let mut mended = value.clone();
    for key in ["snapshot-id", "sequence-number", "timestamp-ms", "manifest-list", "first-row-id", "added-rows", "summary"] {
        mended[key] = sound[key].clone();
        if reads(&mended) {
            let is = value.get(key).map_or_else(|| "is missing".to_owned(), |v| format!("is {:.100}", v.to_string()));
            return Some(format!("snapshots[{i}].{key} {is}"));
        }
    }
    Some(format!("snapshots[{i}] is not understood"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Value {
        json!({
            "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "file:///t",
            "last-sequence-number": 1, "last-updated-ms": 2, "last-column-id": 1, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "a", "required": false, "type": "int"}]}],
            "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}], "last-partition-id": 999,
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}],
            "snapshots": [{"snapshot-id": 1, "sequence-number": 1, "timestamp-ms": 1, "manifest-list": "file:///t/l.avro",
                "summary": {"operation": "append"}}],
        })
    }

    #[test]
    fn the_field_that_can_not_be_read_is_named() {
        let read = |metadata: &Value| serde_json::from_value::<TableMetadata>(metadata.clone());
        assert!(read(&sound()).is_ok());
        type Damage = fn(&mut Value);
        let damages: [(&str, Damage); 8] = [
            ("format-version", |m| m["format-version"] = 9.into()),
            ("table-uuid", |m| drop(m.as_object_mut().expect("an object").remove("table-uuid"))),
            ("last-column-id", |m| m["last-column-id"] = "x".into()),
            ("schemas[0]", |m| m["schemas"][0]["fields"][0]["type"] = "no-type".into()),
            ("partition-specs[0]", |m| m["partition-specs"][0]["fields"] = 7.into()),
            ("sort-orders[0]", |m| m["sort-orders"][0]["fields"] = 7.into()),
            ("refs.main", |m| m["refs"] = json!({"main": {"type": "no-type", "snapshot-id": 1}})),
            ("snapshots[0].manifest-list", |m| m["snapshots"][0]["manifest-list"] = Value::Null),
        ];
        for (field, damage) in damages {
            let mut metadata = sound();
            damage(&mut metadata);
            assert!(read(&metadata).is_err(), "{field}");
            let said = complaint(metadata.to_string().as_bytes());
            assert!(said.contains(field) && !said.contains("untagged"), "{field}: {said}");
        }
        assert!(complaint(b"{").contains("no JSON"));
    }
}
