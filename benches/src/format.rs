//! Measures the reading of manifests with 10,000 files and bounds of 20 columns, and the planning of scans by bounds.
//!
//! `benches/format.py` runs it. All commands print JSON. Seconds are CPU time, so that other programs on the machine do not matter.
//!
//! - `write DIR` writes a manifest.
//! - `rate DIR` measures the seconds of each reader.
//! - `kept DIR READER` measures the memory of what a reader returns.
//! - `plan DIR FILES` measures loading and planning of a snapshot with so many files.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::any::Any;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use esker_format::{
    AvroCodec, BoundBytes, ColumnSet, DataContentType, DataFile, DataFileFormat, ManifestContent, ManifestFile,
    ManifestListWriter, ManifestProjection, ManifestWriter, NewManifest, NewManifestList, TableMetadata, Value, decode_manifest,
    read_manifest,
};
use esker_storage::Storage;
use esker_table::{Expr, Manifests, SnapshotFiles, plan_scan, projection};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value as Json, json};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Number of files in a manifest.
const ENTRIES: usize = 10_000;
/// Number of columns with counts and bounds. The first is a long that grows with the files; the types repeat after five.
const COLUMNS: i32 = 20;
/// Field id of the partition column.
const DAY: i32 = 21;
/// Number of files in a partition.
const IN_A_DAY: usize = 100;
const SNAPSHOT: i64 = 7_000_000_000_000_000_001;
const ROUNDS: usize = 9;
/// Number of copies that are held while memory is measured.
const KEPT: u64 = 8;

/// A reader of manifests. It returns what it made, so that its memory can be measured.
type Read = fn(&[u8]) -> Box<dyn Any>;

const READERS: [(&str, Read); 4] = [
    ("batch", |file| Box::new(decode_manifest(file, &ManifestProjection::all()).expect("a manifest"))),
    ("rows", |file| Box::new(read_manifest(file).expect("a manifest"))),
    ("projected", |file| {
        Box::new(decode_manifest(file, &ManifestProjection::planning(ColumnSet::of([1, 2]))).expect("a manifest"))
    }),
    ("iceberg", |file| Box::new(iceberg::spec::Manifest::parse_avro(file).expect("a manifest"))),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let figures = match args[..] {
        ["write", dir] => write(Path::new(dir)),
        ["rate", dir] => rate(&manifest(dir)),
        ["kept", dir, reader] => kept(&manifest(dir), reader),
        ["plan", dir, files] => plan(dir, files.parse().expect("a number of files")),
        _ => panic!("write DIR, rate DIR, kept DIR READER or plan DIR FILES"),
    };
    println!("{figures}");
}

fn type_of(column: i32) -> &'static str {
    ["long", "double", "string", "timestamp", "int"][(column as usize - 1) % 5]
}

/// Returns the upper (`greatest`) or lower bound of a column in a file.
fn value(column: i32, file: usize, greatest: bool) -> Value {
    let at = file as i64 * 1000 + if greatest { 999 } else { 0 };
    match type_of(column) {
        "long" if column == 1 => Value::Long(at),
        "long" => Value::Long(at.wrapping_mul(7_919 * i64::from(column)) % 1_000_003),
        "double" => Value::Double(at as f64 / 7.0),
        "string" => Value::String(format!("key-{:012}", at * 31 % 1_000_003).into()),
        "timestamp" => Value::Timestamp(1_700_000_000_000_000 + at * 1_000_000),
        _ => Value::Int((at % 100_003) as i32),
    }
}

fn file(n: usize) -> DataFile {
    let counts = |count: i64| Some((1..=COLUMNS).map(|id| (id, count + i64::from(id))).collect());
    let bounds = |greatest: bool| {
        Some((1..=COLUMNS).map(|id| (id, BoundBytes::of(&value(id, n, greatest)).expect("a primitive value"))).collect())
    };
    let day = 19_000 + (n / IN_A_DAY) as i32;
    let path = format!("s3://lake/warehouse/sales/orders/data/day={day}/{n:08}-8d1c5a5e-0000-4000-8000-000000000000.parquet");
    DataFile {
        partition: [Some(Value::Date(day))].into(),
        column_sizes: counts(100_000),
        value_counts: counts(50_000),
        null_value_counts: counts(0),
        lower_bounds: bounds(false),
        upper_bounds: bounds(true),
        split_offsets: Some(vec![4]),
        sort_order_id: Some(0),
        ..DataFile::new(DataContentType::Data, path, DataFileFormat::Parquet, 50_000, 8_000_000 + n as i64)
    }
}

/// Returns the metadata of a table in a directory, with one snapshot.
fn table(dir: &str) -> TableMetadata {
    let field = |id: i32, ty: &str| json!({"id": id, "name": format!("c{id}"), "required": false, "type": ty});
    let mut fields: Vec<Json> = (1..=COLUMNS).map(|id| field(id, type_of(id))).collect();
    fields.push(field(DAY, "date"));
    let day = json!({"source-id": DAY, "field-id": 1000, "name": "day", "transform": "identity"});
    let snapshot = json!({"snapshot-id": SNAPSHOT, "sequence-number": 1, "timestamp-ms": 1_700_000_000_000_i64, "schema-id": 0,
        "summary": {"operation": "append"}, "manifest-list": format!("file://{dir}/list.avro")});
    let metadata = json!({
        "format-version": 2, "table-uuid": "8d1c5a5e-0000-4000-8000-000000000000", "location": format!("file://{dir}"),
        "last-sequence-number": 1, "last-updated-ms": 1_700_000_000_000_i64, "last-column-id": DAY, "current-schema-id": 0,
        "schemas": [{"type": "struct", "schema-id": 0, "fields": fields}],
        "default-spec-id": 0, "last-partition-id": 1000, "partition-specs": [{"spec-id": 0, "fields": [day]}],
        "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}],
        "current-snapshot-id": SNAPSHOT, "snapshots": [snapshot],
        "refs": {"main": {"snapshot-id": SNAPSHOT, "type": "branch"}},
    });
    TableMetadata::from_json(metadata.to_string().as_bytes()).expect("metadata")
}

/// Encodes a manifest of some files. Returns its bytes and its entry for a manifest list.
fn manifest_of(metadata: &TableMetadata, path: &str, files: std::ops::Range<usize>) -> (Vec<u8>, ManifestFile) {
    let new = NewManifest {
        format_version: 2,
        content: ManifestContent::Data,
        schema: metadata.current_schema(),
        spec: metadata.default_partition_spec(),
        types: &metadata.partition_types(0),
        snapshot_id: Some(SNAPSHOT),
        codec: AvroCodec::default(),
    };
    let mut writer = ManifestWriter::new(&new).expect("a manifest");
    files.for_each(|n| writer.added(&file(n), None).expect("added"));
    writer.finish(path).expect("a manifest")
}

fn place(dir: &str) -> PathBuf {
    Path::new(dir).join("manifest.avro")
}

fn manifest(dir: &str) -> Vec<u8> {
    std::fs::read(place(dir)).expect("a manifest, as `write` makes it")
}

fn write(dir: &Path) -> Json {
    let dir = dir.to_str().expect("a name");
    let (bytes, _) = manifest_of(&table(dir), "m", 0..ENTRIES);
    std::fs::write(place(dir), &bytes).expect("written");
    json!({"entries": ENTRIES, "columns": COLUMNS, "bytes": bytes.len(), "path": place(dir)})
}

/// Returns the CPU time of this thread in seconds.
fn processor() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Measures the median seconds of each reader. They run in turns, so that caches are equally warm for each.
fn rate(bytes: &[u8]) -> Json {
    let mut seconds = READERS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for ((_, read), seconds) in READERS.iter().zip(&mut seconds) {
            let began = processor();
            let kept = black_box(read(black_box(bytes)));
            seconds.push(processor() - began);
            drop(kept);
        }
    }
    READERS.iter().zip(seconds).map(|((name, _), seconds)| ((*name).to_owned(), json!(median(seconds)))).collect()
}

/// Returns the resident memory of this process in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4096
}

fn kept(bytes: &[u8], reader: &str) -> Json {
    let (_, read) = READERS.iter().find(|(name, _)| *name == reader).expect("one of the readers");
    // The first read also loads code and fills tables. It must not count.
    drop(read(bytes));
    let before = resident();
    let all: Vec<Box<dyn Any>> = (0..KEPT).map(|_| read(bytes)).collect();
    let bytes = resident().saturating_sub(before) / KEPT;
    drop(all);
    json!(bytes)
}

/// Measures the planning of a scan that bounds of a column reduce to a hundredth of the files, with all metadata in memory.
#[tokio::main]
async fn plan(dir: &str, files: usize) -> Json {
    let (metadata, storage) = (table(dir), Storage::local());
    let new = NewManifestList {
        format_version: 2,
        snapshot_id: SNAPSHOT,
        parent_snapshot_id: None,
        sequence_number: 1,
        first_row_id: None,
        codec: AvroCodec::default(),
    };
    let mut list = ManifestListWriter::new(new).expect("a manifest list");
    for first in (0..files).step_by(ENTRIES) {
        let path = format!("file://{dir}/m{first}.avro");
        let (bytes, manifest) = manifest_of(&metadata, &path, first..files.min(first + ENTRIES));
        storage.write(&path, bytes.into()).await.expect("written");
        list.add(&manifest).expect("added");
    }
    let snapshot = metadata.current_snapshot().expect("a snapshot");
    let path = snapshot.manifest_list.as_deref().expect("a list");
    storage.write(path, list.finish().expect("a list").into()).await.expect("written");

    let (from, to) = (files as i64 * 400, files as i64 * 410);
    let filter = json!({"type": "and", "left": {"type": "gt-eq", "term": "c1", "value": from},
        "right": {"type": "lt", "term": "c1", "value": to}});
    let schema = metadata.current_schema();
    let filter = Expr::parse(&filter, schema, true).expect("a filter");

    let before = resident();
    let began = Instant::now();
    let wanted = projection(&filter, []);
    let live = SnapshotFiles::load(&Manifests::new(storage, 0), &metadata, snapshot, &wanted).await.expect("live files");
    let load = began.elapsed().as_secs_f64();
    let memory = resident().saturating_sub(before);
    let mut planned = 0;
    let once = |planned: &mut usize| {
        let began = processor();
        *planned = plan_scan(&metadata, schema, &live, &filter, None).expect("a plan").tasks.len();
        processor() - began
    };
    let seconds = median((0..ROUNDS).map(|_| once(&mut planned)).collect());
    json!({"files": live.len(), "planned": planned, "load": load, "memory": memory, "plan": seconds})
}
