//! What went wrong in other catalogs, as far as no other test has it: see the table in `docs/security/threat-model.md`.

use std::io::ErrorKind;
use std::net::TcpListener;

use esker_catalog::deletion::sweep;
use esker_tests::{TestApp, TestTable};
use esker_types::{DAY_MS, now_ms};
use reqwest::Method;
use serde_json::{Value, json};

use crate::rest_contract::create;

const NAMESPACES: &str = "/v1/default/namespaces";
const TABLES: &str = "/v1/default/namespaces/n/tables";
const TABLE: &str = "/v1/default/namespaces/n/tables/t";

/// Names that shells, paths, URLs, policies of IAM, conditions of CEL and signatures of SAS read as more than a name.
const NAMES: [&str; 18] = [
    ".",
    "..",
    "../../etc",
    "a/b",
    "a\\b",
    "*",
    "*.*",
    "orders*",
    "?",
    "${aws:username}",
    "it's",
    "\"q\"",
    "a%2Fb",
    "a%252Fb",
    "#",
    "<x>",
    "`|+",
    " edge ",
];

/// Returns a location in the warehouse.
fn place(app: &TestApp, path: &str) -> String {
    format!("file://{}/warehouse/{path}", app.dir.path().display())
}

/// Encodes every byte of a name, for a segment of a path.
fn encode(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Apache Iceberg #16489: a `metadata-location` may name a file of the machine or an address in its network.
#[tokio::test(flavor = "multi_thread")]
async fn registering_reads_nothing_outside_the_warehouse_and_calls_no_address() {
    let app = TestApp::start().await;
    app.namespace().await;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("set");
    let address = listener.local_addr().expect("an address");
    let secret = app.dir.path().join("secret.metadata.json");
    std::fs::write(&secret, "{\"of\": \"the machine\"}").expect("written");
    for location in [
        format!("http://{address}/t.metadata.json"),
        format!("https://{address}/t.metadata.json"),
        format!("s3://{address}/t.metadata.json"),
        format!("file://{address}/t.metadata.json"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "file:///proc/self/environ".to_owned(),
        "/etc/passwd".to_owned(),
        format!("file://{}", secret.display()),
        place(&app, "../secret.metadata.json"),
    ] {
        let table = json!({"name": "x", "metadata-location": location});
        let mut overwriting = table.clone();
        overwriting["overwrite"] = json!(true);
        for (route, body) in [("register", &table), ("register", &overwriting), ("register-view", &table)] {
            let path = format!("{NAMESPACES}/n/{route}");
            let (code, _, message) = app.refused(Method::POST, &path, Some(body.clone())).await;
            assert_eq!(code, 400, "{route} {location}: {message}");
            assert!(!message.contains("the machine"), "{message}");
        }
    }
    let called = listener.accept().expect_err("nobody called").kind();
    assert_eq!(called, ErrorKind::WouldBlock);
    assert_eq!(app.ok(Method::GET, TABLES, None).await["identifiers"], json!([]));
}

/// CVE-2026-42810, CVE-2026-42811, and Polaris 1.5 and 1.6: names with wildcards, quotes, dots and escapes reached other tables.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_chooses_no_characters_of_a_location() {
    let app = TestApp::start().await;
    app.namespace().await;
    let root = place(&app, "");
    let check = |name: &str, made: &Value| {
        let location = made["metadata"]["location"].as_str().expect("a location");
        let inside = location.strip_prefix(&root).unwrap_or_else(|| panic!("{name:?} lies outside: {location}"));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        let mut segments = inside.split('/');
        assert!(segments.all(|segment| !segment.is_empty() && segment.bytes().all(is_plain)), "{name:?} lies at {location}");
        assert_eq!(inside.split('/').count(), 2, "the namespace and the table: {location}");
    };
    for name in NAMES {
        check(name, &app.ok(Method::POST, TABLES, Some(create(name))).await);
        // A client's library of URLs takes dots for steps, even encoded, so no path names such a namespace.
        if !matches!(name, "." | "..") {
            app.ok(Method::POST, NAMESPACES, Some(json!({"namespace": [name]}))).await;
            check(name, &app.ok(Method::POST, &format!("{NAMESPACES}/{}/tables", encode(name)), Some(create("t"))).await);
        }
    }
    for name in ["", "a\0b", "a\nb", "a\u{1f}b", "\u{7f}"] {
        assert_eq!(app.refused(Method::POST, TABLES, Some(create(name))).await.0, 400, "{name:?}");
        assert_eq!(app.refused(Method::POST, NAMESPACES, Some(json!({"namespace": [name]}))).await.0, 400, "{name:?}");
    }
}

/// Polaris 1.6 and Nessie: what was allowed for `orders` reached `orders2`, and spellings of one place passed for two.
#[tokio::test(flavor = "multi_thread")]
async fn places_are_compared_by_whole_segments_and_in_one_spelling() {
    let app = TestApp::start().await;
    app.namespace().await;
    let create_at = async |name: &str, location: String| {
        let mut body = create(name);
        body["location"] = json!(location);
        app.send(Method::POST, TABLES, Some(body)).await
    };
    for name in ["orders", "orders2", "order"] {
        let (status, body) = create_at(name, place(&app, name)).await;
        assert!(status.is_success(), "{name} is a place of its own: {body}");
    }
    let directory = app.dir.path().display();
    for alias in [
        place(&app, "orders/"),
        place(&app, "/orders"),
        place(&app, "./orders"),
        place(&app, "orders//inner"),
        place(&app, "orders/./inner"),
        place(&app, "x/../orders"),
        place(&app, "orders2/../orders"),
        format!("file://localhost{directory}/warehouse/orders"),
        format!("file:{directory}/warehouse/orders"),
        format!("file:{directory}/warehouse"),
    ] {
        let (status, body) = create_at("x", alias.clone()).await;
        assert_eq!(status, 400, "{alias}: {body}");
    }
}

/// Apache Iceberg #16463 and #16470: an answer led clients, with their tokens, to an address of an attacker.
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_leads_clients_to_an_address_that_a_request_named() {
    let app = TestApp::start().await;
    app.table().await;
    let headers = [
        ("host", "elsewhere.example"),
        ("x-forwarded-host", "elsewhere.example"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-prefix", "/elsewhere.example"),
        ("x-iceberg-access-delegation", "vended-credentials,remote-signing"),
    ];
    for path in ["/v1/config", "/v1/config?warehouse=default", TABLE, "/api/v1/warehouses"] {
        let (status, answered, text) = app.send_raw(Method::GET, path, &headers, None).await;
        assert_eq!(status, 200, "{path}: {text}");
        assert!(!text.contains("elsewhere.example") && !format!("{answered:?}").contains("elsewhere.example"), "{path}: {text}");
    }
    let config = app.ok(Method::GET, "/v1/config", None).await;
    for key in ["uri", "oauth2-server-uri", "token", "credential", "s3.signer.uri", "s3.signer.endpoint"] {
        for part in ["defaults", "overrides"] {
            assert!(config[part].get(key).is_none(), "{part}: {config}");
        }
    }
}

/// Apache Iceberg #16472: paths in manifests are written by clients, and may name any file.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_outside_the_warehouse_is_not_read_whatever_a_manifest_names() {
    let app = TestApp::start().await;
    let elsewhere = tempfile::tempdir().expect("a directory");
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    lake.append_at(&format!("file://{}/1.parquet", elsewhere.path().display()), &[(1, "stolen".to_owned(), 0, None)]).await;
    for sql in ["SELECT s FROM lake.t", "CREATE TABLE lake.u AS SELECT * FROM lake.t", "UPDATE lake.t SET s = 'y' WHERE id = 1"] {
        let refused = app.sql(sql).await.expect_err(sql);
        assert!(refused.contains("outside the warehouse") && !refused.contains("stolen"), "{sql}: {refused}");
    }
    app.ok(Method::DELETE, "/v1/default/namespaces/lake/tables/t?purgeRequested=true", None).await;
    app.catalog().expire_drops(now_ms() + 8 * DAY_MS).await.expect("ended");
    sweep(app.catalog(), now_ms() + 30 * DAY_MS).await.expect("swept");
    assert!(elsewhere.path().join("1.parquet").exists(), "nor deleted");
}

/// Apache Iceberg #16466: a purge deleted the files of another table that poisoned metadata led to.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_leaves_the_files_of_another_table_that_a_manifest_names() {
    let app = TestApp::start().await;
    let victim = TestTable::create(&app, "victim", 2, false, json!({})).await;
    victim.append(&[(1, "x".to_owned(), 0, None), (2, "y".to_owned(), 0, None)]).await;
    let thief = TestTable::create(&app, "thief", 2, false, json!({})).await;
    thief.add(victim.data_files().await, []).await;
    app.ok(Method::DELETE, "/v1/default/namespaces/lake/tables/thief?purgeRequested=true", None).await;
    assert_eq!(app.catalog().expire_drops(now_ms() + 8 * DAY_MS).await.expect("ended"), 1);
    sweep(app.catalog(), now_ms() + 30 * DAY_MS).await.expect("swept");
    assert_eq!(victim.missing_files().await, Vec::<String>::new());
    assert_eq!(victim.ids().await.expect("ids"), [1, 2]);
}

/// Query engines read files and addresses that a statement names. Esker has tables only.
#[tokio::test(flavor = "multi_thread")]
async fn no_statement_reads_or_writes_a_file_by_its_name() {
    let app = TestApp::start().await;
    app.table().await;
    let file = app.dir.path().join("secret.csv");
    std::fs::write(&file, "id,s\n1,of-the-machine\n").expect("written");
    let (path, written) = (file.display(), app.dir.path().join("written.csv"));
    for sql in [
        format!("SELECT * FROM '{path}'"),
        format!("SELECT * FROM \"{path}\""),
        format!("SELECT * FROM \"file://{path}\""),
        format!("SELECT * FROM read_csv('{path}')"),
        format!("CREATE EXTERNAL TABLE n.x STORED AS CSV LOCATION '{path}'"),
        format!("COPY (SELECT 1) TO '{}'", written.display()),
        format!("COPY n.t FROM '{path}'"),
    ] {
        let refused = app.sql(&sql).await.expect_err(&sql);
        assert!(!refused.contains("of-the-machine"), "{sql}: {refused}");
    }
    assert!(!written.exists());
}
