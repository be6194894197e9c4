//! Loads of tables: entity tags, references only, large numbers, and delegated access.

use esker_tests::{TOKEN, TestApp, TestTable};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{TABLE, set};

#[tokio::test(flavor = "multi_thread")]
async fn the_etag_header_is_spelled_with_two_capitals_on_the_wire() {
    let app = TestApp::start().await;
    app.table().await;
    let mut socket = tokio::net::TcpStream::connect(app.server.rest).await.expect("connected");
    let request = format!("GET {TABLE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\r\nETag: W/\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_tag_a_shape_and_it_changes_with_the_table() {
    let app = TestApp::start().await;
    app.table().await;
    let tag = async |path: &str, headers: &[(&str, &str)]| {
        let (_, headers, _) = app.send_raw(Method::GET, path, headers, None).await;
        assert_eq!(headers["cache-control"], "private, no-cache");
        assert_eq!(headers["vary"], "authorization, x-iceberg-access-delegation");
        headers["etag"].to_str().expect("text").to_owned()
    };
    let all = tag(TABLE, &[]).await;
    let shapes = [
        all.clone(),
        tag(&format!("{TABLE}?snapshots=refs"), &[]).await,
        tag(TABLE, &[("x-iceberg-access-delegation", "vended-credentials")]).await,
    ];
    assert!(shapes[0] != shapes[1] && shapes[1] != shapes[2] && shapes[0] != shapes[2], "{shapes:?}");
    let (status, headers, body) = app.send_raw(Method::GET, TABLE, &[("if-none-match", &all)], None).await;
    assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(headers["etag"].to_str().expect("text"), all);
    let (status, _, _) = app.send_raw(Method::GET, &format!("{TABLE}?snapshots=refs"), &[("if-none-match", &all)], None).await;
    assert_eq!(status, StatusCode::OK, "the tag of another shape");
    let (_, committed, _) = app.send_raw(Method::POST, TABLE, &[], Some(set("a", "b"))).await;
    let (status, headers, _) = app.send_raw(Method::GET, TABLE, &[("if-none-match", &all)], None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["etag"], committed["etag"], "a commit answers with the tag of what it made");
}

#[tokio::test(flavor = "multi_thread")]
async fn loading_references_keeps_all_but_the_other_snapshots() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    for i in 0..3 {
        writer.append_ids(i..i + 1).await;
    }
    let all = app.ok(Method::GET, &format!("{TABLE}?snapshots="), None).await;
    let mut refs = app.ok(Method::GET, &format!("{TABLE}?snapshots=refs"), None).await;
    assert_eq!(refs["metadata"]["snapshots"].as_array().map(Vec::len), Some(1));
    refs["metadata"]["snapshots"] = all["metadata"]["snapshots"].clone();
    assert_eq!(refs, all, "everything else is the same: location, refs, logs");
    assert_eq!(app.refused(Method::GET, &format!("{TABLE}?snapshots=some"), None).await.0, 400);
    // A client that reads a table through views sends `referenced-by`.
    app.ok(Method::GET, &format!("{TABLE}?snapshots=all&referenced-by=n%1Fv,n%1Fw"), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identifiers_beyond_53_bits_are_exact() {
    let app = TestApp::start().await;
    app.table().await;
    TestTable::simple(&app).append_ids(0..1).await;
    let (_, _, text) = app.send_raw(Method::GET, TABLE, &[], None).await;
    let id = TestTable::simple(&app).metadata().await.current_snapshot_id.expect("a snapshot");
    assert!(text.contains(&format!("\"current-snapshot-id\":{id}")), "{id}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_access_is_asked_for_nothing_is_promised_that_is_not_given() {
    let app = TestApp::start().await;
    app.table().await;
    for value in ["vended-credentials", "remote-signing, vended-credentials", " ,,", "d\u{e9}l\u{e9}gation"] {
        let (status, _, body) = app.send_raw(Method::GET, TABLE, &[("x-iceberg-access-delegation", value)], None).await;
        assert_eq!(status, StatusCode::OK);
        let body: Value = serde_json::from_str(&body).expect("json");
        assert!(body.get("storage-credentials").is_none(), "an entry without keys would break DuckDB");
        assert_eq!(body["config"], json!({}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_credentials_route_gives_none_and_no_response_holds_the_servers_own() {
    let app = TestApp::start_with(|c| {
        let storage = [
            ("endpoint", "http://127.0.0.1:9"),
            ("region", "r"),
            ("access_key_id", "the-key"),
            ("secret_access_key", "the-secret"),
        ];
        let s3 = esker::config::WarehouseConfig {
            location: Some("s3://lake/x".to_owned()),
            storage: storage.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            ..Default::default()
        };
        c.warehouses = [("default".to_owned(), Default::default()), ("cloud".to_owned(), s3)].into();
    })
    .await;
    app.table().await;
    assert_eq!(app.ok(Method::GET, &format!("{TABLE}/credentials"), None).await, json!({"storage-credentials": []}));
    let config = app.ok(Method::GET, "/v1/config?warehouse=cloud", None).await;
    assert_eq!(config["defaults"]["s3.endpoint"], "http://127.0.0.1:9");
    assert_eq!(config["defaults"]["client.region"], "r");
    let text = config.to_string() + &app.ok(Method::GET, "/api/v1/warehouses", None).await.to_string();
    assert!(!text.contains("the-key") && !text.contains("the-secret"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_is_refused_in_words_and_not_offered() {
    let app = TestApp::start().await;
    app.table().await;
    let request = json!({"region": "r", "uri": "http://x/y", "method": "GET", "headers": {}});
    let (code, kind, message) = app.refused(Method::POST, &format!("{TABLE}/sign"), Some(request)).await;
    assert_eq!((code, kind.as_str()), (400, "UnsupportedOperationException"), "{message}");
    assert!(!app.ok(Method::GET, "/v1/config", None).await["endpoints"].to_string().contains("/sign"));
}
