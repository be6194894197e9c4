//! Tests scans of column chunks in their cached forms: they yield the rows that the file has.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use esker_storage::Storage;
use futures::TryStreamExt;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection, RowSelector};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY, ParquetRecordBatchStreamBuilder};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion};
use tempfile::TempDir;

use crate::forms::VIRTUAL_BASE;
use crate::{BlockCache, BlockOptions, ReadStats, Reader, ScanRequest};

fn field(id: i32, name: &str, ty: DataType) -> Field {
    Field::new(name, ty, true).with_metadata(HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]))
}

/// Returns 24 bits that look random.
fn mixed(i: i64) -> i64 {
    (i.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) as u64 >> 40) as i64
}

/// Returns five columns: numbers, repeated strings, floats with nulls, distinct strings, and lists.
fn rows(n: i64, words: i64) -> RecordBatch {
    let item = Arc::new(field(6, "item", DataType::Int32));
    let fields = [DataType::Int64, DataType::Utf8, DataType::Float64, DataType::Utf8, DataType::List(item.clone())];
    let fields: Vec<Field> = (1..).zip(fields).map(|(id, ty)| field(id, &format!("c{id}"), ty)).collect();
    let lists = (0..n).map(|i| (i % 7 > 0).then(|| (0..i % 4).map(move |k| Some(i32::try_from(mixed(k * i)).unwrap_or(0)))));
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
    let (_, offsets, values, nulls) = lists.into_parts();
    let columns: Vec<ArrayRef> = vec![
        Arc::new((0..n).map(mixed).collect::<Int64Array>()),
        Arc::new((0..n).map(|i| Some(format!("a word, {}", mixed(i) % words))).collect::<StringArray>()),
        Arc::new((0..n).map(|i| (i % 5 > 0).then_some(mixed(i) as f64 / 3.0)).collect::<Float64Array>()),
        Arc::new((0..n).map(|i| Some(format!("{:x}", i * 2_654_435_761 % 4_294_967_291))).collect::<StringArray>()),
        Arc::new(ListArray::new(item, offsets, values, nulls)),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("rows")
}

/// A request for all columns of [`rows`].
fn all_columns() -> ScanRequest {
    ScanRequest::columns(Arc::new([1, 2, 3, 4, 5]))
}

/// A file, and a reader whose caches begin empty.
struct TestFile {
    reader: Reader,
    path: String,
    size: u64,
    _dir: TempDir,
}

impl TestFile {
    async fn new(rows: &RecordBatch, properties: WriterPropertiesBuilder) -> Self {
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties.build())).expect("a writer");
        writer.write(rows).expect("written");
        let bytes = writer.into_inner().expect("closed");
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f.parquet");
        std::fs::write(&path, &bytes).expect("written");
        let options = BlockOptions { memory_bytes: 64 << 20, disk: None };
        let reader = Reader::new(Storage::local(), 16 << 20, BlockCache::open(&options).await.expect("a cache"));
        Self { reader, path: format!("file://{}", path.display()), size: bytes.len() as u64, _dir: dir }
    }

    /// Returns the rows that a scan reads, and its footer view.
    async fn read(&self, request: &ScanRequest, chosen: Option<RowSelection>) -> (RecordBatch, Arc<ParquetMetaData>) {
        let stats = Arc::new(ReadStats::default());
        let file = || self.reader.cached_file(&self.path, self.size, &stats).expect("a file").for_scan(request.clone());
        let mut first = file();
        let view = first.get_metadata(None).await.expect("a footer");
        let metadata = ArrowReaderMetadata::try_new(view.clone(), ArrowReaderOptions::new()).expect("metadata");
        // Another reader, as DataFusion's scan has it.
        let second = file();
        drop(first);
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(second, metadata);
        if let Some(chosen) = chosen {
            builder = builder.with_row_selection(chosen);
        }
        let schema = builder.schema().clone();
        let batches: Vec<RecordBatch> = builder.build().expect("a stream").try_collect().await.expect("read");
        (concat_batches(&schema, &batches).expect("one batch"), view)
    }
}

/// Counts the chunks of a footer view that a condition holds for.
fn chunks(view: &ParquetMetaData, is: impl Fn(&ColumnChunkMetaData) -> bool) -> usize {
    view.row_groups().iter().flat_map(|group| group.columns()).filter(|chunk| is(chunk)).count()
}

/// Counts the chunks without compression.
fn uncompressed(view: &ParquetMetaData) -> usize {
    chunks(view, |c| c.compression() == Compression::UNCOMPRESSED)
}

/// Counts the chunks with decompressed pages.
fn repacked(view: &ParquetMetaData) -> usize {
    chunks(view, |c| c.byte_range().0 >= VIRTUAL_BASE && c.compression() != Compression::UNCOMPRESSED)
}

/// Repeats a scan until it counts `enough` chunks; returns the last count. Chunks are decompressed in the background.
async fn count_once_settled(enough: usize, scan: impl AsyncFn() -> usize) -> usize {
    let mut count = 0;
    for _ in 0..200 {
        count = scan().await;
        if count >= enough {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_read_again_are_kept_without_compression_and_hold_the_same_rows() {
    let rows = rows(40_000, 300);
    let compressions = [
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::BROTLI(Default::default()),
        Compression::LZ4_RAW,
        Compression::ZSTD(Default::default()),
    ];
    for (i, compression) in compressions.into_iter().enumerate() {
        for (version, page_index) in [(WriterVersion::PARQUET_1_0, i % 2 == 0), (WriterVersion::PARQUET_2_0, i % 2 == 1)] {
            let statistics = if page_index { EnabledStatistics::Page } else { EnabledStatistics::Chunk };
            let properties = WriterProperties::builder()
                .set_compression(compression)
                .set_writer_version(version)
                .set_statistics_enabled(statistics)
                .set_offset_index_disabled(!page_index)
                .set_data_page_row_count_limit(3_000)
                .set_max_row_group_row_count(Some(15_000));
            let file = TestFile::new(&rows, properties).await;
            let request = all_columns();

            let (first, view) = file.read(&request, None).await;
            assert_eq!((uncompressed(&view), &first.columns()), (0, &rows.columns()));
            // Chunks that did not shrink stay as stored. Each of the others is decompressed after it was found again.
            let count = count_once_settled(9, async || {
                let (again, view) = file.read(&request, None).await;
                assert_eq!(again.columns(), rows.columns());
                uncompressed(&view)
            })
            .await;
            assert!(count >= 9, "{count} of 15 chunks without compression: {compression}");

            // A selection of rows is read by page if there is a page index.
            let chosen = [(true, 10_000), (false, 10), (true, 9_000), (false, 20_990)];
            let chosen: RowSelection = chosen.map(|(skip, n)| RowSelector { row_count: n, skip }).to_vec().into();
            let (some, _) = file.read(&request, Some(chosen)).await;
            let expected = concat_batches(&rows.schema(), &[rows.slice(10_000, 10), rows.slice(19_010, 20_990)]);
            assert_eq!(some.columns(), expected.expect("one batch").columns());

            // A split of the file: the second of three row groups.
            let footer = file.reader.footer(&file.path, file.size, &Arc::default()).await.expect("a footer");
            let start = footer.row_group(1).column(0).byte_range().0;
            let mut part = request;
            part.split = Some(start..start + 1);
            let (group, view) = file.read(&part, None).await;
            assert_eq!(group.columns(), rows.slice(15_000, 15_000).columns());
            assert!((3..=5).contains(&uncompressed(&view)), "{}", uncompressed(&view));
            let usage = file.reader.blocks().usage();
            assert!(usage.memory_bytes <= 64 << 20 && usage.memory_hits > 0, "{usage:?}");
        }
    }
}

/// Number of rows of the file that lookups read.
const MANY: usize = 600_000;

/// Selects `n` rows at each of some places.
fn chosen(places: &[usize], n: usize) -> (RowSelection, Vec<Range<usize>>) {
    let ranges: Vec<_> = places.iter().map(|place| *place..(place + n).min(MANY)).collect();
    (RowSelection::from_consecutive_ranges(ranges.iter().cloned(), MANY), ranges)
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_are_read_again_are_kept_decompressed_and_hold_the_same_rows() {
    let rows = rows(MANY as i64, 100_000);
    for (version, page_rows) in [(WriterVersion::PARQUET_1_0, 5_000), (WriterVersion::PARQUET_2_0, 40_000)] {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_writer_version(version)
            .set_data_page_row_count_limit(page_rows)
            .set_dictionary_enabled(false)
            .set_encoding(Encoding::PLAIN)
            .set_column_dictionary_enabled("c2".into(), true)
            .set_dictionary_page_size_limit(4 << 20);
        let file = TestFile::new(&rows, properties).await;
        let request = all_columns();
        let same = async |places: &[usize], n: usize| {
            let (selection, ranges) = chosen(places, n);
            let (some, view) = file.read(&request, Some(selection)).await;
            let expected: Vec<_> = ranges.iter().map(|r| rows.slice(r.start, r.len())).collect();
            let expected = concat_batches(&rows.schema(), &expected).expect("one batch");
            assert_eq!(some.columns(), expected.columns(), "{places:?}");
            repacked(&view)
        };
        // The first page is among them: from its position a reader infers that there is a dictionary.
        for places in [[3, 120_001, 599_990], [60_000, 61_000, 200_004], [5_100, 10_200, 333_333]] {
            let count = count_once_settled(5, async || same(&places, 10).await).await;
            assert!(count == 5, "{count} chunks with pages kept, {page_rows} rows a page, {places:?}");
        }
        // Decompressed pages are read alone, and together with pages as stored.
        for place in (0..MANY).step_by(33_331) {
            same(&[place], 7_000).await;
            same(&[place / 2, place + 20], 5).await;
        }
        // The whole chunk is read as one without gaps, until it is decompressed as a whole.
        for _ in 0..5 {
            let (all, _) = file.read(&request, None).await;
            assert_eq!(all.columns(), rows.columns());
            let mut hidden = all_columns();
            hidden.all_pages = true;
            let (all, view) = file.read(&hidden, None).await;
            assert!(view.offset_index().is_none());
            assert_eq!(all.columns(), rows.columns());
        }
        same(&[0, 77_777], 1).await;
    }
}
