//! Tests of commits that the specification, or Java, allows or forbids. Each compares a table before and after updates.

use serde_json::{Value as Json, json};

use crate::json::tests::of_version;
use crate::{CommitContext, TableMetadata, TableUpdate, apply};

/// Returns a table with the columns `a` (1, int) and `b` (2, string), and with snapshots.
fn table(version: u8, change: impl FnOnce(&mut Json)) -> TableMetadata {
    let mut json = of_version(version);
    json["schemas"] = json!([schema(json!([field(1, "a", "int"), field(2, "b", "string")]))]);
    json["current-schema-id"] = json!(0);
    json["last-column-id"] = json!(2);
    json["partition-specs"] = json!([{"spec-id": 0, "fields": []}]);
    json["default-spec-id"] = json!(0);
    json["last-partition-id"] = json!(999);
    json["sort-orders"] = json!([{"order-id": 0, "fields": []}]);
    json["default-sort-order-id"] = json!(0);
    for name in ["schema", "partition-spec"] {
        json.as_object_mut().expect("an object").remove(name);
    }
    for snapshot in json["snapshots"].as_array_mut().expect("snapshots") {
        snapshot["schema-id"] = json!(0);
    }
    change(&mut json);
    TableMetadata::from_json(json.to_string().as_bytes()).expect("read")
}

fn schema(fields: Json) -> Json {
    json!({"type": "struct", "schema-id": 0, "fields": fields})
}

fn field(id: i32, name: &str, ty: &str) -> Json {
    json!({"id": id, "name": name, "required": false, "type": ty})
}

fn with(mut field: Json, key: &str, value: Json) -> Json {
    field[key] = value;
    field
}

/// Returns updates that make a schema of `fields` the current one.
fn evolved(fields: Json) -> Json {
    json!([{"action": "add-schema", "schema": schema(fields)}, {"action": "set-current-schema", "schema-id": -1}])
}

fn added(spec: Json) -> Json {
    json!([{"action": "add-spec", "spec": {"fields": spec}}])
}

fn and_default(mut added: Json) -> Json {
    added.as_array_mut().expect("updates").push(json!({"action": "set-default-spec", "spec-id": -1}));
    added
}

fn tried(table: &TableMetadata, updates: Json) -> Result<TableMetadata, String> {
    let updates: Vec<TableUpdate> = serde_json::from_value(updates).expect("updates");
    let at = CommitContext { now_ms: 2_000_000_000_000, metadata_file: Some("s3://bucket/1.json") };
    apply(table, &updates, at).map(|made| made.unwrap_or_else(|| table.clone())).map_err(|e| e.to_string())
}

fn then(table: &TableMetadata, updates: Json) -> TableMetadata {
    tried(table, updates.clone()).unwrap_or_else(|e| panic!("{updates}: {e}"))
}

fn refused(table: &TableMetadata, updates: Json, words: &str) {
    let error = tried(table, updates.clone()).expect_err(words);
    assert!(error.contains(words), "{updates}: {error}");
}

#[test]
fn columns_evolve_from_the_current_schema() {
    let plain = table(2, |_| {});
    let (a, b, c) = (|ty: &str| field(1, "a", ty), || field(2, "b", "string"), || field(3, "c", "int"));
    // A schema that was added and never made current has no rows.
    let unused = json!([{"action": "add-schema", "schema": schema(json!([a("long"), b()]))}]);
    then(&then(&plain, unused), evolved(json!([a("int"), b(), c()])));
    // `CREATE OR REPLACE` may change a column's type and back: the new schema has the column as the current one has it.
    let replaced = |ty: &str| {
        let mut updates = evolved(json!([a(ty), b()]));
        updates.as_array_mut().expect("updates").push(json!({"action": "remove-snapshot-ref", "ref-name": "main"}));
        updates
    };
    let back = then(&then(&plain, replaced("string")), replaced("int"));
    then(&back, evolved(json!([a("int"), b(), c()])));
    // The table has rows of the wider type: neither a new nor an old schema may narrow it.
    let wide = then(&plain, evolved(json!([a("long"), b()])));
    refused(&wide, evolved(json!([a("int"), b(), c()])), "it was long and can't become int");
    refused(&wide, json!([{"action": "set-current-schema", "schema-id": 0}]), "it was long and can't become int");
    // A dropped column may come back unchanged, and its id never belongs to another column.
    let empty = table(2, |json| {
        for (name, none) in [("snapshots", json!([])), ("refs", json!({})), ("current-snapshot-id", json!(-1))] {
            json[name] = none;
        }
    });
    let dropped = then(&empty, evolved(json!([a("int")])));
    then(&dropped, json!([{"action": "set-current-schema", "schema-id": 0}]));
    let another = evolved(json!([a("int"), field(2, "c", "int")]));
    refused(&dropped, another.clone(), "it was string and can't become int");
    let forgotten = then(&dropped, json!([{"action": "remove-schemas", "schema-ids": [0]}]));
    refused(&forgotten, another, "last-column-id was 2");
    then(&forgotten, evolved(json!([a("int"), c()])));
}

/// Spec: "Reserved Field IDs" and "Primitive Types".
#[test]
fn ids_of_metadata_columns_and_misspelt_types_are_no_columns() {
    let plain = table(3, |_| {});
    let with_new = |id: i32, ty: &str| evolved(json!([field(1, "a", "int"), field(2, "b", "string"), field(id, "c", ty)]));
    refused(&plain, with_new(2_147_483_540, "int"), "ids above 2147483447 are for metadata columns");
    then(&plain, with_new(2_147_483_447, "int"));
    for ty in ["decimal(10)", "decimal(10,-2)", "fixed[-1]", "fixed[99999999999]", "timestamp_ns(9)", "unknown()", "long<int>"] {
        refused(&plain, with_new(3, ty), "is not a valid type");
    }
    then(&plain, with_new(3, "interval(day)"));
}

/// Spec: Appendix D, "JSON single-value serialization".
#[test]
fn a_new_default_is_written_as_values_of_its_type_are() {
    let plain = table(3, |_| {});
    let new = |ty: &str, value: &Json| {
        let column = with(with(field(3, "c", ty), "initial-default", value.clone()), "write-default", value.clone());
        evolved(json!([field(1, "a", "int"), field(2, "b", "string"), column]))
    };
    for (ty, right, wrong) in [
        ("decimal(9, 2)", vec![json!("1.50"), json!("-0.05")], vec![json!("1.5"), json!("1"), json!("1.500")]),
        ("decimal(9, 7)", vec![json!("0.0000001"), json!("1E-7")], vec![json!("1E-6")]),
        ("date", vec![json!("2020-01-02")], vec![json!("2020-1-2")]),
        ("timestamp", vec![json!("2020-01-02T03:04:05"), json!("2020-01-02T03:04:05.123456")], vec![json!("2020-1-2T03:04:05")]),
        ("timestamptz", vec![json!("2020-01-02T03:04:05+00:00")], vec![json!("2020-01-02T03:04:05+02:00")]),
        ("double", vec![json!(1e39), json!(1)], vec![json!("Infinity"), json!("NaN")]),
        ("float", vec![json!(1.5)], vec![json!(1e39)]),
    ] {
        right.iter().for_each(|value| drop(then(&plain, new(ty, value))));
        wrong.iter().for_each(|value| refused(&plain, new(ty, value), &format!("is not in the specification's format for {ty}")));
    }
}

/// Writers print the same value in different ways.
#[test]
fn an_initial_default_is_compared_as_a_value() {
    for (ty, before, after) in [
        ("timestamp", "2020-01-01T00:00:00.000000", "2020-01-01T00:00:00"),
        ("time", "10:00:00.000000", "10:00:00"),
        ("binary", "00ff", "00FF"),
        ("uuid", "F79C3E09-677C-4BBD-A479-3F349CB785E7", "f79c3e09-677c-4bbd-a479-3f349cb785e7"),
    ] {
        let defaults = |value: &str| with(field(2, "b", ty), "initial-default", json!(value));
        let old = table(3, |json| json["schemas"][0]["fields"][1] = defaults(before));
        then(&old, evolved(json!([field(1, "a", "int"), defaults(after), field(3, "c", "int")])));
        let none = evolved(json!([field(1, "a", "int"), field(2, "b", ty), field(3, "c", "int")]));
        refused(&old, none, "its initial-default has changed");
    }
    // A promoted value is the same value: the float nearest to 22.27.
    let of = |ty: &str, value: Json| with(field(2, "b", ty), "initial-default", value);
    for (from, before, to, after) in [
        ("float", json!(22.27), "double", json!(22.270_000_457_763_672)),
        ("date", json!("2020-01-02"), "timestamp", json!("2020-01-02T00:00:00.000000")),
    ] {
        let old = table(3, |json| json["schemas"][0]["fields"][1] = of(from, before));
        then(&old, evolved(json!([field(1, "a", "int"), of(to, after)])));
    }
}

#[test]
fn what_a_table_came_with_blocks_no_other_change() {
    for (version, second, identifiers) in [
        (2, field(2, "b", "timestamp_ns"), json!([])),
        (2, with(field(2, "b", "int"), "write-default", json!(1)), json!([])),
        (2, field(2, "b", "decimal(40, 2)"), json!([])),
        (3, with(field(2, "b", "int"), "write-default", json!("x")), json!([])),
        (2, field(2, "b", "string"), json!([2])),
    ] {
        let old = table(version, |json| {
            json["schemas"][0]["fields"][1] = second.clone();
            json["schemas"][0]["identifier-field-ids"] = identifiers.clone();
        });
        let mut next = schema(json!([field(1, "a", "int"), second, field(3, "c", "int")]));
        next["identifier-field-ids"] = identifiers;
        then(&old, json!([{"action": "add-schema", "schema": next}, {"action": "set-current-schema", "schema-id": -1}]));
    }
    // A snapshot of format version 2 with row ids, which version 3 counts.
    let early = table(2, |json| {
        json["snapshots"][0]["first-row-id"] = json!(5);
        json["snapshots"][0]["added-rows"] = json!(7);
    });
    then(&early, json!([{"action": "upgrade-format-version", "format-version": 3}]));
}

#[test]
fn partition_fields_have_a_name_an_id_and_a_transform_of_their_own() {
    let plain = table(2, |_| {});
    let part = |source: i32, name: &str, transform: &str| json!({"source-id": source, "name": name, "transform": transform});
    refused(&plain, added(json!([part(1, "", "identity")])), "it has no name");
    refused(&plain, added(json!([part(1, "x", "bucket[0]")])), "bucket[0] is not a valid bucket[N] or truncate[W]");
    refused(&plain, added(json!([part(99, "x", "identity")])), "the schema has no field with the id 99");
    refused(&plain, added(json!([part(2, "x", "day")])), "day does not accept string");
    let numbered = |buckets: i32| with(part(1, &format!("x{buckets}"), &format!("bucket[{buckets}]")), "field-id", json!(1000));
    refused(&plain, added(json!([numbered(2), numbered(3)])), "another field of the spec has its id, 1000");
    // A field without an id gets a free one.
    let one = then(&plain, added(json!([part(1, "x", "bucket[4]")])));
    let both = then(&one, added(json!([part(1, "y", "bucket[4]"), part(1, "z", "bucket[4]")])));
    let ids: Vec<i32> = both.partition_specs.last().expect("a spec").fields().iter().map(|field| field.field_id).collect();
    assert_eq!(ids, [1000, 1001]);
    // Format version 1 numbers the fields of each spec from 1000.
    let first = then(&table(1, |_| {}), added(json!([part(1, "x", "identity")])));
    let next = then(&first, added(json!([part(2, "y", "identity")])));
    assert_eq!(next.partition_specs.last().expect("a spec").fields()[0].field_id, 1000);

    // The column of a partition field that is no longer used is dropped, and a new column takes its name.
    let parted = then(&plain, and_default(added(json!([part(2, "b", "identity")]))));
    let dropped = then(&then(&parted, and_default(added(json!([])))), evolved(json!([field(1, "a", "int")])));
    then(&dropped, evolved(json!([field(1, "a", "int"), field(3, "b", "string")])));
}

#[test]
fn snapshots_have_an_id_a_number_and_an_operation() {
    let plain = table(3, |_| {});
    let snapshot = |change: fn(&mut Json)| {
        let mut snapshot = json!({"snapshot-id": 5, "sequence-number": 40, "timestamp-ms": 1_900_000_000_000_i64, "schema-id": 0,
            "summary": {"operation": "append"}, "manifest-list": "l", "first-row-id": 7, "added-rows": 3});
        change(&mut snapshot);
        json!([{"action": "add-snapshot", "snapshot": snapshot}])
    };
    then(&plain, snapshot(|_| {}));
    refused(&plain, snapshot(|json| json["snapshot-id"] = json!(-1)), "snapshot -1");
    refused(&plain, snapshot(|json| json["sequence-number"] = json!(-3)), "sequence-number");
    refused(
        &plain,
        snapshot(|json| json["summary"]["operation"] = json!("foo")),
        "not one of append, replace, overwrite, delete",
    );
    refused(&plain, snapshot(|json| json["added-rows"] = json!(9_223_372_036_854_775_805_u64)), "leaves no row ids");
}

/// Java rejects a table whose logs go back in time by more than a minute, or that is older than its logs.
#[test]
fn logs_never_go_back_in_time_however_clocks_differ() {
    let commit = |id: i64, timestamp_ms: i64| {
        json!([{"action": "add-snapshot", "snapshot": {"snapshot-id": id, "sequence-number": 40 + id, "timestamp-ms": timestamp_ms,
            "schema-id": 0, "summary": {"operation": "append"}, "manifest-list": "l"}},
            {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": id}])
    };
    let ahead = 2_000_000_000_000 + 120_000;
    let mut made = then(&table(2, |_| {}), commit(5, ahead));
    made = then(&made, json!([{"action": "set-properties", "updates": {"a": "b"}}]));
    made = then(&made, commit(6, 1));
    made = then(&made, json!([{"action": "set-properties", "updates": {"a": "c"}}]));
    let snapshots: Vec<i64> = made.snapshot_log.iter().map(|entry| entry.timestamp_ms).collect();
    let files: Vec<i64> = made.metadata_log.iter().map(|entry| entry.timestamp_ms).collect();
    assert!(snapshots.is_sorted() && files.is_sorted(), "{snapshots:?} {files:?}");
    assert!(made.last_updated_ms >= ahead && snapshots.last() == Some(&ahead), "{snapshots:?}");
}

/// A field is certain if every schema requires it or a default fills it in, and no schema was removed.
#[test]
fn a_required_field_that_rows_may_lack_is_doubtful() {
    let required = |id: i32, name: &str| with(field(id, name, "int"), "required", json!(true));
    let inner = |of: Json| with(field(5, "s", "int"), "type", json!({"type": "struct", "fields": [of]}));
    let doubtful = |schemas: &[(i32, Json)]| {
        let made = table(3, |json| {
            json["schemas"] = schemas.iter().map(|(id, fields)| with(schema(fields.clone()), "schema-id", json!(id))).collect();
            json["current-schema-id"] = json!(schemas[schemas.len() - 1].0);
            json["snapshots"].as_array_mut().expect("snapshots").iter_mut().for_each(|s| drop(s["schema-id"].take()));
        });
        let ids: Vec<i32> = made.unreliable_required_fields(made.current_schema()).into_iter().collect();
        let had = crate::Schema::clone(made.current_schema()).with_optional(&ids.iter().copied().collect());
        assert!(ids.iter().all(|id| !had.field_by_id(*id).expect("there").required));
        assert_eq!(had.field_ids().count(), made.current_schema().field_ids().count());
        ids
    };
    let filled = || with(with(required(3, "c"), "initial-default", json!(1)), "write-default", json!(1));
    let certain = [(0, json!([required(1, "a")])), (1, json!([required(1, "a"), filled()]))];
    assert_eq!(doubtful(&certain), [0; 0]);
    assert_eq!(doubtful(&certain[1..]), [1, 3], "schema 0 was removed");
    let narrowed = [
        (0, json!([field(1, "a", "int"), inner(field(6, "x", "int"))])),
        (1, json!([required(1, "a"), inner(required(6, "x"))])),
    ];
    assert_eq!(doubtful(&narrowed), [1, 6]);
    assert_eq!(doubtful(&[(0, json!([])), (1, json!([required(2, "b")]))]), [2], "it was added without a default");
    let map = json!({"type": "map", "key-id": 7, "key": "string", "value-id": 8, "value": "int", "value-required": true});
    assert_eq!(doubtful(&[(4, json!([with(field(5, "m", "int"), "type", map)]))]), [8], "a key is never null");
}

/// Spec: "Schema Evolution": element, key and value fields exist as long as their list or map.
#[test]
fn a_list_and_a_map_keep_their_items() {
    let list = |element: i32| json!({"type": "list", "element-id": element, "element": "int", "element-required": false});
    let map = |value: i32| json!({"type": "map", "key-id": 6, "key": "string", "value-id": value, "value": "int", "value-required": false});
    let of = |ty: Json| evolved(json!([field(1, "a", "int"), field(2, "b", "string"), with(field(5, "c", "int"), "type", ty)]));
    for (before, after) in [(list(6), list(9)), (map(7), map(9))] {
        let table = then(&table(2, |_| {}), of(before.clone()));
        refused(&table, of(after), "its items were field");
        then(&table, of(before));
    }
    let keyed = |fields: Json| json!({"type": "map", "key-id": 6, "key": {"type": "struct", "fields": fields}, "value-id": 7, "value": "int", "value-required": false});
    let (x, y) = (|| with(field(8, "x", "int"), "required", json!(true)), || field(9, "y", "int"));
    let table = then(&table(2, |_| {}), of(keyed(json!([x()]))));
    refused(&table, of(keyed(json!([x(), y()]))), "the fields of its keys can't change");
    then(&table, of(keyed(json!([with(x(), "name", json!("z"))]))));
}

/// A snapshot of format version 1 may list its manifests itself. A snapshot without manifests cannot be read.
#[test]
fn a_snapshot_leads_to_its_manifests() {
    let plain = table(1, |_| {});
    let snapshot = |list: Json| {
        let mut snapshot =
            json!({"snapshot-id": 77, "timestamp-ms": 1_999_999_999_999_i64, "summary": {"operation": "append"}, "schema-id": 0});
        snapshot.as_object_mut().expect("an object").extend(list.as_object().expect("an object").clone());
        json!([{"action": "add-snapshot", "snapshot": snapshot}])
    };
    refused(&plain, snapshot(json!({})), "it has no manifest-list");
    then(&plain, snapshot(json!({"manifests": ["s3://bucket/m.avro"]})));
    then(&plain, snapshot(json!({"manifest-list": "s3://bucket/l.avro"})));
}
