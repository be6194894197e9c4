//! The statistics job: it counts distinct values into a Puffin file.

use std::collections::HashSet;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use esker_catalog::deletion::sweep;
use esker_tests::{PositionDeleteScope, TestApp, TestTable};
use esker_types::now_ms;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn distinct_values_are_counted_without_deleted_rows() {
    let app = TestApp::start().await;
    for version in [1, 2, 3] {
        let lake = TestTable::create(&app, &format!("s{version}"), version, true, json!({})).await;
        for i in 0..4 {
            let rows: Vec<_> = (0..30).map(|n| (i * 30 + n, format!("s{}", n % 7), (n % 3) as i32, None)).collect();
            lake.append(&rows).await;
        }
        let mut left = 120;
        if version > 1 {
            lake.delete_by_position(&HashSet::from([5, 6, 7]), PositionDeleteScope::File).await;
            left = 117;
        }
        let job = lake.run_job("statistics", json!({})).await;
        let outcome = &job["outcome"];
        assert_eq!(job["state"], "succeeded", "{job}");
        assert_eq!(outcome["records"], left, "{outcome}");
        assert_eq!(outcome["distinct"], json!({"id": left, "p": 3, "s": 7}), "{outcome}");

        let partitions = outcome["partitions_path"].as_str().expect("a path");
        let file = std::fs::File::open(&partitions[7..]).expect("opened");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("a reader");
        let batches: Vec<_> = reader.collect::<Result<_, _>>().expect("read");
        let count = |name: &str| {
            let long = cast(batches[0].column_by_name(name).expect("a column"), &DataType::Int64).expect("a number");
            long.as_primitive::<Int64Type>().values().to_vec()
        };
        assert_eq!(count("data_record_count"), [40, 40, 40]);
        assert_eq!(count("position_delete_record_count").iter().sum::<i64>(), 120 - left);
        assert_eq!(batches[0].column(0).as_struct().column(0).as_primitive::<Int32Type>().values(), &[0, 1, 2]);
        let first = outcome["path"].as_str().expect("a path").to_owned();
        let explained =
            async |path: &str| app.ok(Method::GET, &format!("/api/v1/warehouses/default/explain?path={path}"), None).await;
        assert_eq!(explained(&first).await["held_by"][0]["role"], "statistics");
        let again = lake.run_job("statistics", json!({"columns": ["s"]})).await;
        let second = again["outcome"]["path"].as_str().expect("a path").to_owned();
        assert_eq!(again["outcome"]["distinct"], json!({"s": 7}));
        sweep(app.catalog(), now_ms() + 25 * 3600 * 1000).await.expect("swept");
        assert_eq!((explained(&first).await["bytes"].clone(), &again["state"]), (Value::Null, &json!("succeeded")));
        assert!(explained(&second).await["bytes"].as_u64().is_some());
        let (status, body) = app.send(Method::POST, &lake.management_path("statistics"), Some(json!({"columns": ["no"]}))).await;
        assert!(status.is_client_error() && body.to_string().contains("no top-level column"), "{status} {body}");
    }
}
