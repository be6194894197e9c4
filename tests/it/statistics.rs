use std::collections::HashSet;

use esker_catalog::deletion::sweep;
use esker_tests::{Lake, Scope, TestApp};
use esker_types::now_ms;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn distinct_values_are_counted_without_deleted_rows() {
    let app = TestApp::start().await;
    for version in [1, 2, 3] {
        let lake = Lake::create(&app, &format!("s{version}"), version, true, json!({})).await;
        for i in 0..4 {
            let rows: Vec<_> = (0..30).map(|n| (i * 30 + n, format!("s{}", n % 7), (n % 3) as i32, None)).collect();
            lake.append(&rows).await;
        }
        let mut left = 120;
        if version > 1 {
            lake.delete_by_position(&HashSet::from([5, 6, 7]), Scope::File).await;
            left = 117;
        }
        let job = lake.run("statistics", json!({})).await;
        let outcome = &job["outcome"];
        assert_eq!(job["state"], "succeeded", "{job}");
        assert_eq!(outcome["records"], left, "{outcome}");
        assert_eq!(outcome["distinct"], json!({"id": left, "p": 3, "s": 7}), "{outcome}");

        let first = outcome["path"].as_str().expect("a path").to_owned();
        let explained =
            async |path: &str| app.ok(Method::GET, &format!("/api/v1/warehouses/default/explain?path={path}"), None).await;
        assert_eq!(explained(&first).await["held_by"][0]["role"], "statistics");
        let again = lake.run("statistics", json!({"columns": ["s"]})).await;
        let second = again["outcome"]["path"].as_str().expect("a path").to_owned();
        assert_eq!(again["outcome"]["distinct"], json!({"s": 7}));
        sweep(app.catalog(), now_ms() + 25 * 3600 * 1000).await.expect("swept");
        assert_eq!((explained(&first).await["bytes"].clone(), &again["state"]), (Value::Null, &json!("succeeded")));
        assert!(explained(&second).await["bytes"].as_u64().is_some());
        let (status, body) = app.send(Method::POST, &lake.management("statistics"), Some(json!({"columns": ["no"]}))).await;
        assert!(status.is_client_error() && body.to_string().contains("no top-level column"), "{status} {body}");
    }
}
