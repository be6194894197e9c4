use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::{Statistics, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_optimizer::pruning::PruningPredicate;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use esker_read::{Adapter, FileScan, ReadError, ReadStats, Reader};
use esker_table::LiveFile;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use roaring::RoaringTreemap;

use crate::prune;

/// A file, or a share of its row groups, to be read.
#[derive(Debug, Clone)]
pub(crate) struct FileTask {
    pub(crate) file: Arc<LiveFile>,
    /// Positions that are not returned.
    pub(crate) deleted: Option<Arc<RoaringTreemap>>,
    /// Share `.0` of `.1`: the row groups whose number leaves the remainder `.0`.
    pub(crate) part: (u64, u64),
}

#[derive(Debug, Clone)]
pub(crate) struct ScanInput {
    pub(crate) task: FileTask,
    pub(crate) adapter: Arc<Adapter>,
}

/// What a scan is made of.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    /// The table's name, for people.
    pub(crate) name: String,
    /// The columns wanted.
    pub(crate) schema: SchemaRef,
    /// All columns, which the predicate speaks of.
    pub(crate) table_schema: SchemaRef,
    pub(crate) predicate: Option<Arc<PruningPredicate>>,
    pub(crate) limit: Option<usize>,
    pub(crate) files_pruned: usize,
    pub(crate) reader: Reader,
    pub(crate) stats: Arc<ReadStats>,
}

/// Reads some files of one snapshot, in as many partitions as the session wants, balanced by bytes.
#[derive(Debug)]
pub(crate) struct ScanExec {
    scan: Scan,
    partitions: Vec<Vec<ScanInput>>,
    statistics: Arc<Statistics>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ScanExec {
    pub(crate) fn new(scan: Scan, inputs: Vec<ScanInput>, parallel: usize) -> Self {
        let exact = scan.predicate.is_none();
        let whole = inputs.iter().filter(|i| i.task.part.0 == 0).map(|i| &i.task);
        let left = |task: &FileTask| {
            task.file.file.record_count().saturating_sub(task.deleted.as_deref().map_or(0, RoaringTreemap::len))
        };
        let rows = usize::try_from(whole.map(left).sum::<u64>()).unwrap_or(usize::MAX);
        let mut statistics = Statistics::new_unknown(&scan.schema);
        statistics.num_rows = if exact { Precision::Exact(rows) } else { Precision::Inexact(rows) };
        let partitions = balance(inputs, parallel);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(scan.schema.clone()),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let (statistics, properties) = (Arc::new(statistics), Arc::new(properties));
        Self { scan, partitions, statistics, properties, metrics: ExecutionPlanMetricsSet::new() }
    }
}

fn task_bytes(input: &ScanInput) -> u64 {
    input.task.file.file.file_size_in_bytes() / input.task.part.1
}

/// The largest first, each to the partition with the fewest bytes so far. At least one partition, none empty beside it.
fn balance(mut inputs: Vec<ScanInput>, parallel: usize) -> Vec<Vec<ScanInput>> {
    let n = parallel.clamp(1, inputs.len().max(1));
    inputs.sort_by_key(|i| std::cmp::Reverse(task_bytes(i)));
    let mut partitions: Vec<(u64, Vec<ScanInput>)> = (0..n).map(|_| (0, Vec::new())).collect();
    for input in inputs {
        if let Some(least) = partitions.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            least.0 += task_bytes(&input).max(1);
            least.1.push(input);
        }
    }
    partitions.into_iter().map(|(_, inputs)| inputs).collect()
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.partitions.iter().flatten().filter(|i| i.task.part.0 == 0).count();
        let columns: Vec<&str> = self.properties.eq_properties.schema().fields().iter().map(|f| f.name().as_str()).collect();
        write!(
            f,
            "IcebergScan: table={}, files={files}, files_pruned={}, partitions={}, columns=[{}]",
            self.scan.name,
            self.scan.files_pruned,
            self.partitions.len(),
            columns.join(", "),
        )?;
        if let Some(limit) = self.scan.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &'static str {
        "IcebergScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a scan has no children") }
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        Ok(match partition {
            None => self.statistics.clone(),
            Some(_) => Arc::new(Statistics::new_unknown(&self.schema())),
        })
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let run = Arc::new(Run {
            reader: self.scan.reader.clone(),
            stats: self.scan.stats.clone(),
            local: Arc::default(),
            predicate: self.scan.predicate.clone(),
            table_schema: self.scan.table_schema.clone(),
            batch_size: context.session_config().batch_size(),
        });
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let files_opened = MetricBuilder::new(&self.metrics).counter("files_opened", partition);
        let bytes_read = MetricBuilder::new(&self.metrics).counter("bytes_read", partition);
        let mut left = self.scan.limit.unwrap_or(usize::MAX);
        let local = run.local.clone();
        let (mut seen_files, mut seen_bytes) = (0, 0);
        let rows = futures::stream::iter(self.partitions[partition].clone())
            .then(move |input| Box::pin(run.clone().open(input)))
            .try_flatten()
            .map(move |batch| {
                let get = |c: &std::sync::atomic::AtomicU64| {
                    usize::try_from(c.load(std::sync::atomic::Ordering::Relaxed)).unwrap_or(usize::MAX)
                };
                let (files, bytes) = (get(&local.files_opened), get(&local.bytes_read));
                files_opened.add(files - seen_files);
                bytes_read.add(bytes - seen_bytes);
                (seen_files, seen_bytes) = (files, bytes);
                let batch: RecordBatch = batch.map_err(|e: ReadError| DataFusionError::External(Box::new(e)))?;
                baseline.record_output(batch.num_rows());
                Ok::<_, DataFusionError>(batch)
            });
        let limited = rows.map(move |batch| {
            let batch: RecordBatch = batch?;
            let take = batch.num_rows().min(left);
            left -= take;
            Ok::<_, DataFusionError>((batch.slice(0, take), left == 0))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), until_last(limited.boxed()))))
    }
}

/// Ends after the first batch that is marked as the last.
fn until_last(stream: BoxStream<'static, Result<(RecordBatch, bool)>>) -> BoxStream<'static, Result<RecordBatch>> {
    futures::stream::unfold(Some(stream), |state| async move {
        let mut stream = state?;
        match stream.next().await? {
            Ok((batch, last)) => Some((Ok(batch), (!last).then_some(stream))),
            Err(e) => Some((Err(e), None)),
        }
    })
    .boxed()
}

/// What the tasks of one partition share.
struct Run {
    reader: Reader,
    /// The query's counters.
    stats: Arc<ReadStats>,
    /// This partition's own, for EXPLAIN ANALYZE.
    local: Arc<ReadStats>,
    predicate: Option<Arc<PruningPredicate>>,
    table_schema: SchemaRef,
    batch_size: usize,
}

type Batches = BoxStream<'static, esker_read::Result<RecordBatch>>;

impl Run {
    async fn open(self: Arc<Self>, input: ScanInput) -> esker_read::Result<Batches> {
        let file = &input.task.file.file;
        let task_stats = Arc::new(ReadStats::default());
        let guard = Forward { from: task_stats.clone(), to: [self.stats.clone(), self.local.clone()] };
        let open = self.reader.open(file.file_path(), file.file_size_in_bytes(), &task_stats).await?;
        let deleted = input.task.deleted.clone();
        let groups = open.footer().num_row_groups();
        let mut keep = vec![true; groups];
        if let Some(predicate) = &self.predicate
            // A predicate that can't be evaluated on these statistics rules nothing out.
            && let Ok(kept) = prune::row_groups(predicate, &self.table_schema, &open)
        {
            keep = kept;
        }
        let (part, parts) = input.task.part;
        let mine = |i: &usize| *i as u64 % parts == part;
        let row_groups: Vec<usize> = (0..groups).filter(mine).filter(|i| keep[*i]).collect();
        ReadStats::add(&task_stats.row_groups_pruned, (0..groups).filter(mine).count() as u64 - row_groups.len() as u64);
        let scan = FileScan { adapter: input.adapter, row_groups: Some(row_groups), deleted, batch_size: self.batch_size };
        let stream = open.stream(scan)?;
        Ok(stream
            .map(move |batch| {
                guard.flush();
                batch
            })
            .boxed())
    }
}

/// Moves what a task counted on to the query's and the partition's counters.
struct Forward {
    from: Arc<ReadStats>,
    to: [Arc<ReadStats>; 2],
}

impl Forward {
    fn flush(&self) {
        use std::sync::atomic::Ordering::Relaxed;
        for of in [
            (|s: &ReadStats| &s.files_opened) as fn(&ReadStats) -> &std::sync::atomic::AtomicU64,
            |s| &s.bytes_read,
            |s| &s.footer_hits,
            |s| &s.row_groups_pruned,
        ] {
            let n = of(&self.from).swap(0, Relaxed);
            for to in &self.to {
                ReadStats::add(of(to), n);
            }
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.flush();
    }
}
