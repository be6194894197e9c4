//! Branches, tags, rollback.

use esker_tests::{TestApp, Writer};
use reqwest::Method;
use serde_json::json;

const REFS: &str = "/api/v1/warehouses/default/namespaces/n/tables/t/refs";

#[tokio::test(flavor = "multi_thread")]
async fn branches_and_tags_are_made_moved_and_removed_and_mistakes_are_refused_in_words() {
    let app = TestApp::start().await;
    app.table().await;
    let (code, _, message) = app.refused(Method::POST, REFS, Some(json!({"action": "create-tag", "name": "x"}))).await;
    assert!(code == 422 && message.contains("no snapshot"), "{message}");
    let writer = Writer::new(&app);
    writer.append(0..3).await;
    let first = writer.metadata().await.current_snapshot_id().expect("a snapshot");
    app.ok(Method::POST, REFS, Some(json!({"action": "create-branch", "name": "dev"}))).await;
    app.ok(Method::POST, REFS, Some(json!({"action": "create-tag", "name": "v1", "snapshot-id": first}))).await;
    writer.append(3..6).await;
    let second = writer.metadata().await.current_snapshot_id().expect("a snapshot");
    let moved = app.ok(Method::POST, REFS, Some(json!({"action": "fast-forward", "branch": "dev", "to": "main"}))).await;
    assert_eq!(moved["refs"]["dev"]["snapshot-id"], second);
    let back = app.ok(Method::POST, REFS, Some(json!({"action": "rollback", "snapshot-id": first}))).await;
    assert_eq!(back["current-snapshot-id"], first);
    assert_eq!(writer.ids().await.expect("ids").len(), 3);
    for (change, words) in [
        (json!({"action": "create-tag", "name": "v1"}), "exists already"),
        (json!({"action": "drop", "name": "main"}), "main"),
        (json!({"action": "drop", "name": "nope"}), "nope"),
        (json!({"action": "rollback", "snapshot-id": second}), "never there"),
        (json!({"action": "fast-forward", "branch": "dev", "to": "v1"}), "does not lie ahead"),
        (json!({"action": "publish", "wap-id": "w"}), "w"),
    ] {
        let (code, _, message) = app.refused(Method::POST, REFS, Some(change.clone())).await;
        assert!(code == 422 && message.contains(words), "{change}: {code} {message}");
    }
    assert_eq!(app.refused(Method::POST, REFS, Some(json!({"action": "rollback"}))).await.0, 400);
    app.ok(Method::POST, REFS, Some(json!({"action": "fast-forward", "branch": "main", "to": "dev"}))).await;
    assert_eq!(writer.ids().await.expect("ids").len(), 6);
    app.ok(Method::POST, REFS, Some(json!({"action": "drop", "name": "dev"}))).await;
    let left = app.ok(Method::GET, REFS, None).await;
    assert_eq!(left["refs"].as_object().expect("refs").keys().collect::<Vec<_>>(), ["main", "v1"]);
}
