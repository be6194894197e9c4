//! Measures lower bounds and naive costs of a rewrite of Parquet files, to compare compactions with.
//!
//! Reads paths from standard input, and prints the median seconds of three runs as JSON. The program must not change, because
//! limits in `benches/maintenance.py` are multiples of its figures.
//!
//! - `decode`: decodes all files to Arrow on one thread.
//! - `naive`: decodes and encodes (zstd 3) into one file on one thread.
//! - `naive_two`: the same on two threads, each with half of the files and its own output.
//! - `copy`: reads and writes the bytes.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::fs::File;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let inputs: Vec<PathBuf> = std::io::stdin().lock().lines().map(|line| PathBuf::from(line.expect("a line"))).collect();
    let dir = PathBuf::from(std::env::args().nth(1).expect("a directory for outputs"));
    let median = |run: &dyn Fn()| {
        let mut times: Vec<f64> = (0..3)
            .map(|_| {
                let started = Instant::now();
                run();
                started.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times[1]
    };
    let decode = median(&|| inputs.iter().for_each(|input| assert!(batches(input).count() > 0)));
    let naive = median(&|| encode(&inputs, &dir.join("bound.parquet")));
    let naive_two = median(&|| {
        let (first, second) = inputs.split_at(inputs.len() / 2);
        std::thread::scope(|scope| {
            scope.spawn(|| encode(first, &dir.join("bound-1.parquet")));
            scope.spawn(|| encode(second, &dir.join("bound-2.parquet")));
        });
    });
    let copy = median(&|| {
        let mut out = File::create(dir.join("bound-copy")).expect("an output");
        inputs.iter().for_each(|input| out.write_all(&std::fs::read(input).expect("a file")).expect("written"));
        out.sync_all().expect("synced");
    });
    println!("{}", json!({"decode": decode, "naive": naive, "naive_two": naive_two, "copy": copy}));
}

/// Decodes a file in batches of 8,192 rows.
fn batches(input: &Path) -> impl Iterator<Item = arrow::array::RecordBatch> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(File::open(input).expect("a file"), options);
    builder.expect("a footer").with_batch_size(8192).build().expect("a reader").map(|batch| batch.expect("a batch"))
}

/// Decodes files and encodes their rows into one file.
fn encode(inputs: &[PathBuf], output: &Path) {
    let level = ZstdLevel::try_new(3).expect("a level");
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let mut writer: Option<ArrowWriter<File>> = None;
    for batch in inputs.iter().flat_map(|input| batches(input)) {
        let writer = writer.get_or_insert_with(|| {
            let file = File::create(output).expect("an output");
            ArrowWriter::try_new(file, batch.schema(), Some(properties.clone())).expect("a writer")
        });
        writer.write(&batch).expect("written");
    }
    if let Some(writer) = writer {
        writer.close().expect("closed");
    }
}
