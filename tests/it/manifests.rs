//! The manifests job: it groups the entries of many manifests by partition into few.

use std::collections::HashMap;

use esker_format::ManifestFile;
use esker_table::{Manifests, load_manifests};
use esker_tests::{TestApp, TestTable};
use reqwest::Method;
use serde_json::{Value, json};

async fn manifests(lake: &TestTable<'_>) -> Vec<ManifestFile> {
    let metadata = lake.metadata().await;
    let source = Manifests::new(lake.catalog().storage().clone(), 0);
    load_manifests(&source, metadata.current_snapshot().expect("a snapshot")).await.expect("manifests")
}

async fn planned(app: &TestApp, lake: &TestTable<'_>) -> Value {
    let path = format!("{}?dry-run=true", lake.management_path("manifests"));
    app.ok(Method::POST, &path, Some(json!({}))).await
}

/// Returns the first row id of each data file, by path.
async fn row_ids(lake: &TestTable<'_>) -> HashMap<String, Option<i64>> {
    let live = lake.live(&lake.metadata().await).await;
    live.data.iter().map(|f| (f.file.file_path.clone(), f.first_row_id)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_manifests_become_few_that_are_about_few_partitions_each() {
    let app = TestApp::start().await;
    for version in [1, 2, 3] {
        // Small manifests, so that the job writes several.
        let properties = json!({"commit.manifest.target-size-bytes": "9000"});
        let lake = TestTable::create(&app, &format!("m{version}"), version, true, properties).await;
        for i in 0..12 {
            let row = |p: i32| (i64::from(p) * 100 + i, format!("s{i}"), p, None);
            lake.append(&[row(0), row(1), row(2)]).await;
        }
        let (rows, ids, before) = (lake.rows().await, row_ids(&lake).await, manifests(&lake).await);
        let plan = planned(&app, &lake).await;
        assert_eq!(plan["rewrite"].as_array().map(Vec::len), Some(before.len()), "{plan}");
        let job = lake.run_job("manifests", json!({})).await;
        assert_eq!((&job["state"], &job["outcome"]["replaced"]), (&json!("succeeded"), &json!(before.len())), "{job}");
        let after = manifests(&lake).await;
        assert!(after.len() < before.len() && after.len() > 1, "{} became {}", before.len(), after.len());
        assert_eq!((lake.rows().await, row_ids(&lake).await), (rows, ids), "the same rows, with the same ids");
        let partitions = |m: &ManifestFile| {
            let summary = &m.partitions.as_ref().expect("summaries")[0];
            (summary.lower_bound.clone(), summary.upper_bound.clone())
        };
        let whole = after.iter().filter(|m| partitions(m).0 != partitions(m).1).count();
        assert!(whole <= 2, "at most where one partition ends and the next begins: {whole} of {}", after.len());
        assert_eq!(planned(&app, &lake).await["rewrite"], json!([]), "what a rewrite leaves needs none");
        let metadata = lake.metadata().await;
        let snapshot = metadata.current_snapshot().expect("a snapshot");
        assert_eq!(snapshot.operation(), Some("replace"));
        assert_eq!(snapshot.summary_value("manifests-replaced"), Some(before.len().to_string().as_str()));
    }
}

/// A compaction leaves a manifest behind that only records the removal of its inputs. A rewrite writes nothing of it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_without_live_files_counts_in_the_plan_and_in_the_outcome() {
    let app = TestApp::start().await;
    let lake = TestTable::six_files(&app).await;
    app.job("compact", json!({"courtesy-seconds": 0})).await;
    assert_eq!(manifests(&lake).await.len(), 2);
    let job = app.job("manifests", json!({"rewrite-all": true})).await;
    assert_eq!(job["plan"]["rewrite"].as_array().map(Vec::len), Some(2), "{job}");
    assert_eq!((&job["outcome"]["replaced"], &job["outcome"]["created"]), (&json!(2), &json!(1)), "{job}");
    assert_eq!(manifests(&lake).await.len(), 1);
}
