//! Reads a scan's bytes through the reader's caches, and counts them for the plan (`EXPLAIN ANALYZE`) and for the query.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use esker_catalog::Catalog;
use esker_format::Schema;
use esker_read::{CachedFile, FieldNames, ReadStats, Reader, ScanRequest, marked_as_text, text_fields};
use esker_state::TableUsage;
use esker_types::TableId;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::file::metadata::ParquetMetaData;

/// A file with its URI in the catalog; the path in the plan is only for display.
#[derive(Debug, Clone)]
pub(crate) struct KnownFile {
    pub(crate) uri: Arc<str>,
    pub(crate) wanted: ScanRequest,
}

impl KnownFile {
    /// Checks whether it is the first part of its file, or the whole file.
    pub(crate) fn is_first(&self) -> bool {
        self.wanted.split.as_ref().is_none_or(|part| part.start == 0)
    }
}

/// The results of planning a scan.
#[derive(Debug)]
pub(crate) struct PlannedScan {
    /// Number of data files that planning ruled out.
    pub(crate) files_pruned: usize,
    /// Number of rows that deletes leave out.
    pub(crate) rows_deleted: usize,
    /// The table of the scan. Its use is recorded when the scan opens a file, because an answer from metadata alone does not
    /// count as a use.
    pub(crate) table: TableId,
    pub(crate) used: TableUsage,
    pub(crate) catalog: Catalog,
}

/// The factory of readers for the files of one scan.
#[derive(Debug)]
pub(crate) struct ScanFiles {
    reader: Reader,
    /// Field ids of the columns that hold text, even if a file marks them otherwise.
    text: Arc<BTreeSet<i32>>,
    stats: Arc<ReadStats>,
    planned: PlannedScan,
    /// True once the use of the table and the results of planning were recorded.
    recorded: AtomicBool,
}

impl ScanFiles {
    pub(crate) fn new(reader: Reader, schema: &Schema, stats: Arc<ReadStats>, planned: PlannedScan) -> Self {
        let text = Arc::new(text_fields(schema));
        Self { reader, text, stats, planned, recorded: AtomicBool::new(false) }
    }
}

impl ParquetFileReaderFactory for ScanFiles {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        if !self.recorded.swap(true, Relaxed) {
            self.planned.catalog.record_use(self.planned.table, &self.planned.used);
            MetricBuilder::new(metrics).global_counter("files_pruned").add(self.planned.files_pruned);
            MetricBuilder::new(metrics).global_counter("rows_deleted").add(self.planned.rows_deleted);
        }
        let known =
            file.extension::<KnownFile>().ok_or_else(|| DataFusionError::Internal("a file without its URI".to_owned()))?;
        let own = Arc::new(ReadStats::default());
        let input = self
            .reader
            .cached_file(&known.uri, file.object_meta.size, &own)
            .map_err(|e| DataFusionError::External(Box::new(e)))?
            .for_scan(known.wanted.clone());
        let counter = |name: &'static str| MetricBuilder::new(metrics).counter(name, partition);
        let counters = [
            PublishedCounter { of: |s| &s.bytes_read, count: counter("bytes_fetched") },
            PublishedCounter { of: |s| &s.cached_bytes, count: counter("bytes_cached") },
            PublishedCounter { of: |s| &s.requests, count: counter("requests") },
            PublishedCounter { of: |s| &s.footer_hits, count: counter("footers_cached") },
            PublishedCounter { of: |s| &s.files_opened, count: counter("files_opened") },
        ];
        // A file in several parts counts once.
        let first = known.is_first();
        let (text, names) = (self.text.clone(), self.reader.names().clone());
        Ok(Box::new(Counted { input, text, names, own, whole: self.stats.clone(), counters, first }))
    }
}

/// A counter of the reader and the plan's metric for it.
struct PublishedCounter {
    of: fn(&ReadStats) -> &AtomicU64,
    count: Count,
}

/// A file whose reads are counted.
struct Counted {
    input: CachedFile,
    text: Arc<BTreeSet<i32>>,
    names: Arc<FieldNames>,
    /// Counters since the last publication.
    own: Arc<ReadStats>,
    /// Counters of the query.
    whole: Arc<ReadStats>,
    counters: [PublishedCounter; 5],
    first: bool,
}

impl Counted {
    /// Adds the counts since the last call to the query's counters and to the plan's metrics.
    fn publish_metrics(&self) {
        for counter in &self.counters {
            let n = (counter.of)(&self.own).swap(0, Relaxed);
            ReadStats::add((counter.of)(&self.whole), n);
            counter.count.add(usize::try_from(n).unwrap_or(usize::MAX));
        }
    }
}

impl AsyncFileReader for Counted {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            let bytes = self.input.get_bytes(range).await;
            self.publish_metrics();
            bytes
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move {
            let bytes = self.input.get_byte_ranges(ranges).await;
            self.publish_metrics();
            bytes
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            if std::mem::take(&mut self.first) {
                ReadStats::add(&self.own.files_opened, 1);
            }
            let footer = self.input.get_metadata(options).await;
            self.publish_metrics();
            marked_as_text(footer?, &self.text, &self.names)
        }
        .boxed()
    }
}
