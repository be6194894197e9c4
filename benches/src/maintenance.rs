//! Compaction through the server, beside the naive bound: the same files decoded and encoded again with parquet-rs, on one
//! thread and nothing else. Prints a table and writes `target/bench/maintenance.json`.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::fs::File;
use std::time::Instant;

use esker_tests::{TestApp, Writer};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::json;

const FILES: i64 = 100;

fn main() {
    let scale: i64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1);
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(run(scale * 600_000));
}

async fn run(rows: i64) {
    let app = TestApp::start().await;
    app.table().await;
    let writer = Writer::new(&app);
    for i in 0..FILES {
        writer.append(i * rows / FILES..(i + 1) * rows / FILES).await;
    }
    let inputs = writer.data_files().await;
    let bytes: u64 = inputs.iter().map(|f| std::fs::metadata(&f[7..]).expect("a file").len()).sum();

    let mut naive: Vec<f64> = (0..3).map(|_| decode_and_encode(&inputs, &app.dir.path().join("naive.parquet"))).collect();
    naive.sort_by(f64::total_cmp);
    let job = app.job("compact", json!({})).await;
    let outcome = &job["outcome"];
    let seconds = outcome["seconds"].as_f64().expect("seconds");
    assert_eq!(outcome["records"].as_i64(), Some(rows), "a run that fails its gate has no time");
    assert_eq!(writer.ids().await.expect("ids").len() as i64, rows);

    let rate = |seconds: f64| bytes as f64 / 1e6 / seconds;
    println!("{rows} rows in {FILES} files, {:.1} MB, zstd 3, dev profile with hot crates optimised", bytes as f64 / 1e6);
    println!("{:<34} {:>8.2} s {:>8.1} MB/s", "naive decode + encode, one thread", naive[1], rate(naive[1]));
    println!("{:<34} {:>8.2} s {:>8.1} MB/s", "esker compact, commit included", seconds, rate(seconds));
    let report = json!({"rows": rows, "files": FILES, "bytes": bytes, "results": [
        {"name": "naive", "value": rate(naive[1]), "unit": "MB/s"},
        {"name": "compact", "value": rate(seconds), "unit": "MB/s"},
    ]});
    std::fs::create_dir_all("target/bench").expect("a directory");
    std::fs::write("target/bench/maintenance.json", report.to_string()).expect("written");
}

/// Seconds to decode the files and encode their rows into one.
fn decode_and_encode(inputs: &[String], output: &std::path::Path) -> f64 {
    let started = Instant::now();
    let properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(3).expect("a level"))).build();
    let mut writer: Option<ArrowWriter<File>> = None;
    for input in inputs {
        let file = File::open(&input[7..]).expect("a file");
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(file).expect("a footer").with_batch_size(8192).build().expect("a reader");
        for batch in reader {
            let batch = batch.expect("a batch");
            let writer = writer.get_or_insert_with(|| {
                let file = File::create(output).expect("an output");
                ArrowWriter::try_new(file, batch.schema(), Some(properties.clone())).expect("a writer")
            });
            writer.write(&batch).expect("written");
        }
    }
    writer.expect("rows").close().expect("closed");
    started.elapsed().as_secs_f64()
}
