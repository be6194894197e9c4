//! Names in paths and in lists: pages, levels of namespaces, encoding, and one name space for tables and views.

use esker_tests::TestApp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{NAMESPACES, TABLE, TABLES, VIEWS, create, view};

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_page_token_without_a_size_lists_everything_and_pages_are_stable_under_change() {
    let app = TestApp::start().await;
    app.ok(Method::POST, NAMESPACES, Some(json!({"namespace": ["n"]}))).await;
    for name in ["a", "b", "c", "d", "e"] {
        app.ok(Method::POST, TABLES, Some(create(name))).await;
    }
    let names = |body: &Value| -> Vec<String> {
        let list = body["identifiers"].as_array().expect("a list").iter();
        list.map(|i| i["name"].as_str().expect("a name").to_owned()).collect()
    };
    let all = app.ok(Method::GET, &format!("{TABLES}?pageToken="), None).await;
    assert_eq!(names(&all), ["a", "b", "c", "d", "e"]);
    assert!(all["next-page-token"].is_null());
    let first = app.ok(Method::GET, &format!("{TABLES}?pageToken=&pageSize=2"), None).await;
    // One listed table is dropped, and a new one sorts before the cursor. The next page neither skips nor repeats a table.
    app.ok(Method::DELETE, &format!("{TABLES}/b"), None).await;
    app.ok(Method::POST, TABLES, Some(create("aa"))).await;
    let token = first["next-page-token"].as_str().expect("a token");
    let second = app.ok(Method::GET, &format!("{TABLES}?pageToken={token}&pageSize=9"), None).await;
    assert_eq!((names(&first), names(&second)), (vec!["a".into(), "b".into()], vec!["c".into(), "d".into(), "e".into()]));
    assert!(second["next-page-token"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_are_separated_by_the_unit_separator_in_paths_and_in_parent() {
    let app = TestApp::start().await;
    // Missing parent namespaces are created too, as in the reference implementation.
    app.ok(Method::POST, NAMESPACES, Some(json!({"namespace": ["a.b", "c", "d"]}))).await;
    assert_eq!(app.refused(Method::POST, NAMESPACES, Some(json!({"namespace": ["a.b", "c"]}))).await.0, 409);
    let loaded = app.ok(Method::GET, &format!("{NAMESPACES}/a.b%1Fc"), None).await;
    assert_eq!(loaded["namespace"], json!(["a.b", "c"]));
    let inside = app.ok(Method::GET, &format!("{NAMESPACES}?parent=a.b%1Fc"), None).await;
    assert_eq!(inside["namespaces"], json!([["a.b", "c", "d"]]));
    let outermost = app.ok(Method::GET, &format!("{NAMESPACES}?parent="), None).await;
    assert_eq!(outermost["namespaces"], json!([["a.b"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plus_in_a_path_is_a_space_and_an_encoded_plus_is_a_plus() {
    let app = TestApp::start().await;
    app.ok(Method::POST, NAMESPACES, Some(json!({"namespace": ["n"]}))).await;
    for (name, paths) in [
        ("a b", &["a+b", "a%20b"][..]),
        ("a+b", &["a%2Bb"]),
        ("100%", &["100%25"]),
        ("it's \"q\"", &["it%27s+%22q%22"]),
        ("größe/ü", &["gr%C3%B6%C3%9Fe%2F%C3%BC"]),
        ("tables", &["tables"]),
        ("a.b.c", &["a.b.c"]),
    ] {
        app.ok(Method::POST, TABLES, Some(create(name))).await;
        app.ok(Method::POST, VIEWS, Some(view(&format!("v {name}")))).await;
        for path in paths {
            app.ok(Method::GET, &format!("{TABLES}/{path}"), None).await;
            app.ok(Method::GET, &format!("{VIEWS}/v+{path}"), None).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_views_share_one_name_space() {
    let app = TestApp::start().await;
    app.table().await;
    app.ok(Method::POST, VIEWS, Some(view("v"))).await;
    let rename = |from: &str, to: &str| json!({"source": {"namespace": ["n"], "name": from}, "destination": {"namespace": ["n"], "name": to}});
    let location = app.ok(Method::GET, &format!("{VIEWS}/v"), None).await["metadata-location"].clone();
    let table_location = app.ok(Method::GET, TABLE, None).await["metadata-location"].clone();
    for (path, body) in [
        (VIEWS, view("t")),
        (TABLES, create("v")),
        ("/v1/default/tables/rename", rename("t", "v")),
        ("/v1/default/views/rename", rename("v", "t")),
        ("/v1/default/namespaces/n/register-view", json!({"name": "t", "metadata-location": location})),
        ("/v1/default/namespaces/n/register", json!({"name": "v", "metadata-location": table_location, "overwrite": true})),
    ] {
        let (code, kind, message) = app.refused(Method::POST, path, Some(body)).await;
        assert_eq!((code, kind.as_str()), (409, "AlreadyExistsException"), "{path}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_takes_the_same_care_as_creating() {
    let app = TestApp::start().await;
    let created = app.table().await;
    app.ok(Method::POST, &format!("{TABLE}/unregister"), None).await;
    let body = json!({"name": "back", "metadata-location": created["metadata-location"]});
    let header = [("x-iceberg-access-delegation", "vended-credentials")];
    let path = "/v1/default/namespaces/n/register";
    let (status, headers, text) = app.send_raw(Method::POST, path, &header, Some(body)).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(headers.contains_key("etag") && !text.contains("storage-credentials"));
    let outside = json!({"name": "x", "metadata-location": "http://127.0.0.1/metadata.json"});
    assert_eq!(app.refused(Method::POST, path, Some(outside)).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_page_through_everything_once() {
    let app = TestApp::start().await;
    app.table().await;
    for i in 0..7 {
        app.ok(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": [format!("x{i}")]}))).await;
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = app.ok(Method::GET, &format!("/v1/default/namespaces?pageSize=3&pageToken={token}"), None).await;
        seen.extend(page["namespaces"].as_array().expect("a list").iter().map(|n| n[0].as_str().expect("a name").to_owned()));
        match page["next-page-token"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, ["n", "x0", "x1", "x2", "x3", "x4", "x5", "x6"]);
}
