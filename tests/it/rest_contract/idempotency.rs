//! Repeated requests with the header `Idempotency-Key`.

use std::sync::Arc;

use esker_tests::{Faults, TestApp, schema_json};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{NAMESPACES, TABLE, TABLES, create, view};

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_gets_the_answer_of_the_first_and_only_for_its_own_operation() {
    let app = TestApp::start().await;
    app.ok(Method::POST, NAMESPACES, Some(json!({"namespace": ["n"]}))).await;
    // DuckDB sends a random UUID, not a time-ordered one.
    let key = [("idempotency-key", "5f0c954a-1c60-4b0b-b2ad-7a8c4a8f1b1e")];
    let (first, _, body) = app.send_raw(Method::POST, TABLES, &key, Some(create("t"))).await;
    let (second, _, again) = app.send_raw(Method::POST, TABLES, &key, Some(create("t"))).await;
    assert_eq!((first, second, &body), (StatusCode::OK, StatusCode::OK, &again), "created once, answered twice");
    let (other, _, _) = app.send_raw(Method::POST, TABLES, &key, Some(create("u"))).await;
    assert_eq!(other, StatusCode::BAD_REQUEST, "another body under the same key");
    // The same key with another operation is a different request, so the drop is carried out.
    let (dropped, _, _) = app.send_raw(Method::DELETE, TABLE, &key, None).await;
    assert_eq!(dropped, StatusCode::NO_CONTENT);
    assert_eq!(app.send(Method::GET, TABLE, None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(app.send_raw(Method::DELETE, TABLE, &key, None).await.0, StatusCode::NO_CONTENT, "and says so again");

    // A refusal is repeated too, even after its cause has changed.
    app.ok(Method::POST, TABLES, Some(create("t"))).await;
    let key = [("idempotency-key", "01890a5d-ac96-774b-bcce-b302099a8057")];
    let (conflict, _, _) = app.send_raw(Method::POST, TABLES, &key, Some(create("t"))).await;
    app.ok(Method::DELETE, TABLE, None).await;
    let (still, _, _) = app.send_raw(Method::POST, TABLES, &key, Some(create("t"))).await;
    assert_eq!((conflict, still), (StatusCode::CONFLICT, StatusCode::CONFLICT));

    // A staged create generates a UUID and a location. The repetition must return the same ones.
    let key = [("idempotency-key", "01890a5d-ac96-774b-bcce-b302099a8058")];
    let staged = json!({"name": "s", "schema": schema_json(), "stage-create": true});
    let (_, _, body) = app.send_raw(Method::POST, TABLES, &key, Some(staged.clone())).await;
    let (_, _, again) = app.send_raw(Method::POST, TABLES, &key, Some(staged)).await;
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("json");
    assert_eq!(parse(&body), parse(&again));
    let (status, _, _) = app.send_raw(Method::POST, TABLES, &[("idempotency-key", "not-a-uuid")], Some(create("x"))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

/// The last segments of routes that change nothing are names as any others.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_may_be_called_as_an_operation_is() {
    let app = TestApp::start().await;
    app.ok(Method::POST, NAMESPACES, Some(json!({"namespace": ["plan"]}))).await;
    let tables = format!("{NAMESPACES}/plan/tables");
    for (name, key) in [
        ("metrics", "01890a5d-ac96-774b-bcce-b302099a8061"),
        ("tasks", "01890a5d-ac96-774b-bcce-b302099a8062"),
        ("plan", "01890a5d-ac96-774b-bcce-b302099a8063"),
        ("sign", "01890a5d-ac96-774b-bcce-b302099a8064"),
    ] {
        let (key, table) = ([("idempotency-key", key)], format!("{tables}/{name}"));
        let (first, _, body) = app.send_raw(Method::POST, &tables, &key, Some(create(name))).await;
        let (second, _, again) = app.send_raw(Method::POST, &tables, &key, Some(create(name))).await;
        assert_eq!((first, second, &body), (StatusCode::OK, StatusCode::OK, &again), "{name} is created once");
        for time in ["first", "second"] {
            let (dropped, _, body) = app.send_raw(Method::DELETE, &table, &key, None).await;
            assert_eq!(dropped, StatusCode::NO_CONTENT, "{name}, the {time} time: {body}");
        }
    }
}

/// Only a state that is gone for good is replaced by the present one. A 429 or a 4xx would say that the change was not made.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_cannot_be_read_at_the_moment_is_not_replaced_by_the_present_one() {
    const VIEWS: &str = "/v1/default/namespaces/n/views";
    let faults = Faults::local();
    let app = TestApp::start_on(Arc::new(faults.clone()), |_| {}).await;
    app.namespace().await;
    let key = [("idempotency-key", "01890a5d-ac96-774b-bcce-b302099a8059")];
    let (status, _, body) = app.send_raw(Method::POST, VIEWS, &key, Some(view("v"))).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let location = |body: &str| {
        let answer = serde_json::from_str::<Value>(body).expect("json");
        answer["metadata-location"].as_str().expect("a location").to_owned()
    };
    let first = location(&body);
    let change = json!({"updates": [{"action": "set-properties", "updates": {"a": "x"}}]});
    let later = app.ok(Method::POST, &format!("{VIEWS}/v"), Some(change)).await;

    faults.set_unreachable_for(first.rsplit_once('/').expect("a name").1);
    let (status, _, body) = app.send_raw(Method::POST, VIEWS, &key, Some(view("v"))).await;
    assert!(status.is_server_error() && body.contains("CommitStateUnknownException"), "{status} {body}");
    faults.set_unreachable_for("");
    let (_, _, body) = app.send_raw(Method::POST, VIEWS, &key, Some(view("v"))).await;
    assert_eq!(location(&body), first);
    std::fs::remove_file(&first[7..]).expect("removed");
    let (_, _, body) = app.send_raw(Method::POST, VIEWS, &key, Some(view("v"))).await;
    assert_eq!(location(&body), later["metadata-location"]);
}
