//! Repeated requests with the header `Idempotency-Key`.

use esker_tests::{TestApp, schema_json};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{NAMESPACES, TABLE, TABLES, create};

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
