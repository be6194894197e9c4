//! Files that Esker writes for other engines: `metadata.json`, manifest lists, manifests and Puffin files.
//!
//! Of Avro files, the schema and the metadata of the header are shown, and the codec.

use std::collections::BTreeMap;

use esker_tests::{TestApp, Transcript, schema_json};
use reqwest::Method;
use serde_json::{Value, json};

/// Reads a number of an Avro file. Spec: Avro, "Primitive Types": zigzag in groups of seven bits.
fn number(bytes: &mut &[u8]) -> i64 {
    let (mut value, mut shift) = (0_u64, 0);
    loop {
        let (byte, rest) = bytes.split_first().expect("a byte");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
        }
    }
}

/// Reads a text or bytes of an Avro file.
fn text(bytes: &mut &[u8]) -> String {
    let length = usize::try_from(number(bytes)).expect("a length");
    let (text, rest) = bytes.split_at(length);
    *bytes = rest;
    String::from_utf8(text.to_vec()).expect("UTF-8")
}

/// Returns the metadata in the header of an Avro file. Values that are JSON are parsed.
///
/// Spec: Avro, "Object Container Files".
fn avro_header(path: &str) -> Value {
    let file = std::fs::read(path.trim_start_matches("file://")).expect("read");
    let mut bytes = file.strip_prefix(b"Obj\x01").expect("an Avro file");
    let mut header = BTreeMap::new();
    loop {
        let entries = number(&mut bytes);
        assert!(entries >= 0, "a block without its size");
        if entries == 0 {
            return json!(header);
        }
        for _ in 0..entries {
            let key = text(&mut bytes);
            let value = text(&mut bytes);
            header.insert(key, value.parse::<Value>().ok().filter(|json| !json.is_number()).unwrap_or_else(|| value.into()));
        }
    }
}

/// Creates the table `n.vVERSION`, partitioned by `id`. Inserts rows and deletes one, compacts the table, and deletes one more.
async fn written(app: &TestApp, version: u8) -> Value {
    let name = format!("v{version}");
    let create = json!({"name": name, "schema": schema_json(),
        "partition-spec": {"fields": [{"source-id": 1, "name": "id_bucket", "transform": "bucket[1]"}]},
        "properties": {"format-version": version.to_string()}});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
    app.sql(&format!("INSERT INTO n.{name} VALUES (1, 'a'), (2, 'b')")).await.expect("inserted");
    if version > 1 {
        app.sql(&format!("DELETE FROM n.{name} WHERE id = 1")).await.expect("deleted");
    }
    app.ok(Method::GET, &format!("/v1/default/namespaces/n/tables/{name}"), None).await["metadata"].clone()
}

async fn show(version: u8) -> String {
    let app = TestApp::start().await;
    app.namespace().await;
    let metadata = written(&app, version).await;
    let mut log = Transcript::of(&app);
    let location = metadata["location"].as_str().expect("a location");
    let statistics = format!("/api/v1/warehouses/default/namespaces/n/tables/v{version}/statistics");
    let started = app.ok(Method::POST, &statistics, Some(json!({}))).await;
    app.wait_for_job(started["job-id"].as_str().expect("an id")).await;
    let loaded = app.ok(Method::GET, &format!("/v1/default/namespaces/n/tables/v{version}"), None).await;
    let file = loaded["metadata-location"].as_str().expect("a location");
    let bytes = std::fs::read(&file[7..]).expect("read");
    log.note("metadata.json", &serde_json::from_slice(&bytes).expect("JSON"));
    let snapshots = metadata["snapshots"].as_array().expect("snapshots");
    let list = snapshots.last().expect("a snapshot")["manifest-list"].as_str().expect("a list");
    log.note("manifest list", &avro_header(list));
    let mut shown = BTreeMap::new();
    let mut manifests = crate::commits::walk(std::path::Path::new(&location[7..]));
    manifests.retain(|path| path.ends_with(".avro") && !path.contains("/snap-"));
    for manifest in manifests {
        let header = avro_header(&manifest);
        let content = header["content"].as_str().unwrap_or("data").to_owned();
        shown.entry(content).or_insert(header);
    }
    // The names of manifests, and so their order, are random.
    for (content, header) in shown {
        log.note(&format!("manifest of {content}"), &header);
    }
    log.text().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn version_1() {
    insta::assert_snapshot!(show(1).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn version_2() {
    insta::assert_snapshot!(show(2).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn version_3() {
    insta::assert_snapshot!(show(3).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn view() {
    let app = TestApp::start().await;
    app.namespace().await;
    let created = app.ok(Method::POST, "/v1/default/namespaces/n/views", Some(crate::rest_contract::view("v"))).await;
    let file = created["metadata-location"].as_str().expect("a location");
    let bytes = std::fs::read(&file[7..]).expect("read");
    let mut log = Transcript::of(&app);
    log.note("view metadata", &serde_json::from_slice(&bytes).expect("JSON"));
    insta::assert_snapshot!(log.text());
}
