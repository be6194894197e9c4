//! Damaged metadata must give an error or other metadata, but no panic and no allocation that the text's length does not justify.
//!
//! Metadata that is read is also printed, read again, checked against the rules, and changed by updates.

use serde_json::{Value as Json, json};

use super::tests::{of_version, view};
use crate::fuzz::{FuzzRng, for_each_seed};
use crate::{CommitContext, TableMetadata, TableUpdate, ViewMetadata, ViewUpdate, apply, apply_view, memory, rules};

/// Returns a table with every kind of type, defaults, statistics and an encryption key.
fn table(version: u8) -> Json {
    let mut json = of_version(version);
    let field = |id: i32, ty: Json| json!({"id": id, "name": format!("f{id}"), "required": false, "type": ty});
    let nested = json!({"type": "struct", "fields": [
        {"id": 11, "name": "in", "required": false, "type": "decimal(9, 2)", "initial-default": "1.50", "write-default": "2.50"},
        {"id": 12, "name": "of", "required": true, "type": {"type": "map", "key-id": 13, "key": "string", "value-id": 14,
            "value-required": false, "value": {"type": "list", "element-id": 15, "element": "timestamptz_ns", "element-required": true}}}]});
    let types =
        ["fixed[3]", "uuid", "variant", "unknown", "geometry(srid:4326)", "geography(OGC:CRS84, karney)", "later(1)", "time"];
    let fields = json["schemas"][1]["fields"].as_array_mut().expect("fields");
    fields.push(field(10, nested));
    fields.extend(types.iter().zip(20..).map(|(ty, id)| field(id, json!(ty))));
    json["last-column-id"] = json!(27);
    let statistics = json!({"snapshot-id": 3_055_729_675_574_597_004_i64, "statistics-path": "s3://a/p", "file-size-in-bytes": 9,
        "file-footer-size-in-bytes": 4, "blob-metadata": [{"type": "apache-datasketches-theta-v1", "snapshot-id": 1,
            "sequence-number": 1, "fields": [1], "properties": {"ndv": "3"}}]});
    json["statistics"] = json!([statistics]);
    json["partition-statistics"] =
        json!([{"snapshot-id": 3_051_729_675_574_597_004_i64, "statistics-path": "s3://a/q", "file-size-in-bytes": 9}]);
    json["encryption-keys"] = json!([{"key-id": "k", "encrypted-key-metadata": "aGk=", "properties": {"a": "b"}}]);
    json["later"] = json!({"so": [1, null]});
    json
}

/// Returns a damaged JSON text, which in most cases is still JSON.
fn damaged(dice: &mut FuzzRng, mut json: Json) -> Vec<u8> {
    if dice.below(4) > 0 {
        dice.damage_json(&mut json);
        return json.to_string().into_bytes();
    }
    dice.damage(json.to_string().as_bytes())
}

/// Returns the memory that reading a text may take, in bytes: a value of a few bytes of text takes a few hundred in memory.
fn justified(text: &[u8]) -> usize {
    (1 << 20) + 500 * text.len()
}

#[test]
fn damaged_tables_are_errors_or_other_tables() {
    let changes: Vec<TableUpdate> = serde_json::from_value(json!([
        {"action": "upgrade-format-version", "format-version": 3},
        {"action": "set-properties", "updates": {"a": "b"}},
        {"action": "add-spec", "spec": {"fields": [{"source-id": 2, "name": "y_bucket", "transform": "bucket[4]"}]}},
        {"action": "set-default-spec", "spec-id": -1},
        {"action": "add-sort-order", "sort-order": {"order-id": 1, "fields": [
            {"transform": "identity", "source-id": 1, "direction": "asc", "null-order": "nulls-first"}]}},
        {"action": "set-default-sort-order", "sort-order-id": -1},
        {"action": "add-snapshot", "snapshot": {"snapshot-id": 5, "timestamp-ms": 1_555_100_955_771_i64, "sequence-number": 35,
            "summary": {"operation": "append"}, "manifest-list": "s3://a/b/5.avro", "schema-id": 1, "first-row-id": 7, "added-rows": 1}},
        {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 5},
        {"action": "remove-snapshots", "snapshot-ids": [3_051_729_675_574_597_004_i64]},
        {"action": "remove-schemas", "schema-ids": [0]},
        {"action": "remove-partition-specs", "spec-ids": [0]},
    ]))
    .expect("updates");
    let mut read = 0_u64;
    for_each_seed(3000, |dice| {
        let version = 1 + dice.below(3) as u8;
        let text = damaged(dice, table(version));
        let (table, bytes) = memory::with_peak_memory(|| TableMetadata::from_json(&text));
        assert!(bytes < justified(&text), "{bytes} bytes for {}", text.len());
        let Ok(table) = table else { return };
        read += 1;
        let printed = table.to_json().expect("printed");
        assert_eq!(TableMetadata::from_json(&printed).expect("read again"), table);
        rules::check(&table);
        for spec in &table.partition_specs {
            table.partition_types(spec.spec_id());
        }
        let at = CommitContext { now_ms: 1_700_000_000_000, metadata_file: Some("s3://a/1.json") };
        // First each update alone, because a damaged table rejects most of them; then all together.
        for change in changes.iter().map(std::slice::from_ref).chain([&changes[..]]) {
            if let Ok(Some(changed)) = apply(&table, change, at) {
                let printed = changed.to_json().expect("printed");
                assert_eq!(TableMetadata::from_json(&printed).expect("read again"), changed);
            }
        }
    });
    assert!(read > 100, "{read} were read");
}

#[test]
fn damaged_updates_are_errors_or_other_updates() {
    let schema = table(3)["schemas"][1].clone();
    let table = TableMetadata::from_json(of_version(3).to_string().as_bytes()).expect("read");
    let updates = json!([
        {"action": "assign-uuid", "uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1"},
        {"action": "add-schema", "schema": schema},
        {"action": "set-current-schema", "schema-id": -1},
        {"action": "add-spec", "spec": {"spec-id": 3, "fields": [
            {"source-id": 2, "field-id": 1002, "name": "y_bucket", "transform": "bucket[4]"}]}},
        {"action": "set-default-spec", "spec-id": -1},
        {"action": "add-snapshot", "snapshot": {"snapshot-id": 5, "timestamp-ms": 1_555_100_955_771_i64, "sequence-number": 35,
            "summary": {"operation": "append"}, "manifest-list": "s3://a/b/5.avro", "schema-id": 1, "first-row-id": 7, "added-rows": 1}},
        {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 5, "max-ref-age-ms": 5},
        {"action": "set-properties", "updates": {"write.metadata.previous-versions-max": "3"}},
    ]);
    let mut made = 0_u64;
    for_each_seed(2000, |dice| {
        let text = damaged(dice, updates.clone());
        let (updates, bytes) = memory::with_peak_memory(|| serde_json::from_slice::<Vec<TableUpdate>>(&text));
        assert!(bytes < justified(&text), "{bytes} bytes for {}", text.len());
        let Ok(updates) = updates else { return };
        if let Ok(Some(changed)) = apply(&table, &updates, CommitContext { now_ms: 1_700_000_000_000, metadata_file: None }) {
            made += 1;
            let printed = changed.to_json().expect("printed");
            assert_eq!(TableMetadata::from_json(&printed).expect("read again"), changed);
            assert_eq!(rules::new_violations(&table, &changed), []);
        }
    });
    assert!(made > 20, "{made} were made");
}

#[test]
fn damaged_views_are_errors_or_other_views() {
    let mut version = view()["versions"][1].clone();
    (version["version-id"], version["timestamp-ms"]) = (json!(7), json!(1_700_000_000_000_i64));
    let changes: Vec<ViewUpdate> = serde_json::from_value(json!([
        {"action": "add-view-version", "view-version": version},
        {"action": "set-current-view-version", "view-version-id": -1},
        {"action": "set-properties", "updates": {"version.history.num-entries": "1"}},
    ]))
    .expect("updates");
    let mut read = 0_u64;
    for_each_seed(3000, |dice| {
        let text = damaged(dice, view());
        let (view, bytes) = memory::with_peak_memory(|| ViewMetadata::from_json(&text));
        assert!(bytes < justified(&text), "{bytes} bytes for {}", text.len());
        let Ok(view) = view else { return };
        read += 1;
        let printed = view.to_json().expect("printed");
        assert_eq!(ViewMetadata::from_json(&printed).expect("read again"), view);
        for change in changes.iter().map(std::slice::from_ref).chain([&changes[..]]) {
            if let Ok(Some(changed)) = apply_view(&view, change, 1_700_000_000_000) {
                let printed = changed.to_json().expect("printed");
                assert_eq!(ViewMetadata::from_json(&printed).expect("read again"), changed);
            }
        }
    });
    assert!(read > 100, "{read} were read");
}
