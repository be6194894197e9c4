use esker_tests::{TestApp, Writer};

#[tokio::test(flavor = "multi_thread")]
async fn position_and_equality_deletes_are_applied_and_unreadable_ones_are_an_error() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = Writer::new(&app);
    writer.append(0..10).await;
    let file = writer.data_files().await.remove(0);
    writer.delete_positions(&file, &[0, 3, 9]).await;
    writer.append(100..103).await;
    assert_eq!(writer.ids().await.expect("ids"), [1, 2, 4, 5, 6, 7, 8, 100, 101, 102]);
    writer.delete_positions(&file, &[1]).await;
    assert_eq!(writer.ids().await.expect("ids"), [2, 4, 5, 6, 7, 8, 100, 101, 102]);

    writer.delete_equal().await;
    let error = writer.ids().await.expect_err("never wrong rows");
    assert!(error.contains("-eq.parquet"), "{error}");
}
