//! The rewrite of one group that sorts its rows, as an external sort within the job's memory.
//!
//! Streams decode units of the inputs in parallel and append hidden columns: the origin of each row and its sort keys. DataFusion
//! sorts each stream, spills to disk, and merges the streams. The merged rows are encoded one row group at a time. Their origins go
//! into a file on local disk, the sidecar, which becomes the row mapping. The content hash before the sort must equal the one after
//! it. Start reading at [`rewrite_sorted`].

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef, UInt32Type, UInt64Type};
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::prelude::SessionConfig;
use esker_types::saturating_total;
use esker_write::{NanCounts, ParquetLayout, RowGroup, WriteError, count_nans};
use futures::stream::TryStreamExt;
use tokio::sync::{Mutex, mpsc};

use super::content_hash::ContentHash;
use super::options::Verify;
use super::order::RowOrder;
use super::prefetch::BATCH_ROWS;
use super::prefetch::{InputFile, RowGroupSpan, UnitLimits, WorkUnit, input_memory, prefetch};
use super::rewrite::{Assembly, CopiedRowGroups, OutputTarget, RewrittenGroup, constants_of, entries, received, verify};
use super::row_mapping::{RowMapping, SidecarWriter};
use crate::context::JobContext;
use crate::{MaintenanceError, Result};

/// Rewrites inputs with their rows sorted.
///
/// The origin of each row is recorded, so that position deletes that land meanwhile can follow it.
///
/// # Errors
///
/// - Returns [`MaintenanceError::NotEquivalent`] if the number of rows differs.
/// - Returns [`MaintenanceError::Write`] if a new file can't be recorded, encoded or written. It is [`WriteError::NotAsWritten`] if
///   the sorted rows have another content hash, or if a file read back differs from what was written.
/// - Returns [`MaintenanceError::Sort`] if the sort or its spilling fails, or if an input can't be read. Returns
///   [`MaintenanceError::Spill`] if the sidecar can't be written.
/// - Returns [`MaintenanceError::Read`] if a transform of the order does not apply to its column, or if the full verification can't
///   read a new file. Returns [`MaintenanceError::Arrow`] if rows can't be hashed.
/// - Returns [`MaintenanceError::Cancelled`] after a cancellation, and [`MaintenanceError::Panicked`] if a worker panics.
pub(crate) async fn rewrite_sorted(
    context: &JobContext,
    shape: &Arc<ParquetLayout>,
    inputs: Arc<Vec<InputFile>>,
    target: &OutputTarget,
    order: RowOrder,
) -> Result<RewrittenGroup> {
    let streams = context.concurrency.max(1);
    let order = Arc::new(order);
    let columns = shape.arrow.fields().len();
    let hash_in = Arc::new(std::sync::Mutex::new(ContentHash::default()));
    let schema = with_hidden(&shape.arrow, &order)?;
    let memory = context.limits.bytes / 8;
    let limits = UnitLimits { unit_bytes: 4 << 20, min_copied_bytes: None, max_bytes: u64::MAX, memory };
    let (send, units) = mpsc::channel(1);
    let prefetching = tokio::spawn(prefetch(context.clone(), shape.clone(), inputs.clone(), limits, input_memory(memory), send));
    let source = Arc::new(SortSource {
        context: context.clone(),
        shape: shape.clone(),
        inputs: inputs.clone(),
        order: order.clone(),
        schema: schema.clone(),
        units: Mutex::new(units),
        hash: hash_in.clone(),
    });
    let partitions: Vec<Arc<dyn PartitionStream>> =
        (0..streams).map(|_| Arc::new(SourceStream(source.clone())) as Arc<dyn PartitionStream>).collect();
    let mut sorted = sorted(context, schema, partitions, &order, columns)?;

    let total_in = saturating_total(inputs.iter().map(|i| i.file.file.size()));
    let rows_in = saturating_total(inputs.iter().map(InputFile::rows));
    let row_group = (shape.row_group_bytes as u64).min(target.file_bytes).min(context.limits.bytes / 8);
    let mut sidecar = SidecarWriter::create(&context.limits.spill_dir)?;
    let (mut hash, mut nans) = (ContentHash::default(), NanCounts::new());
    let mut assembly = Assembly::new(context, shape, target, total_in);
    let mut encoder = shape.encoder()?;
    let constants = constants_of(&inputs);
    loop {
        let batch = sorted.try_next().await?;
        let ended = batch.is_none();
        if let Some(batch) = batch {
            record_origins(&batch, columns, &mut sidecar)?;
            let rows = batch.project(&(0..columns).collect::<Vec<_>>())?;
            // The sort has its own schema; the layout's has the field ids.
            let rows = RecordBatch::try_new(shape.arrow.clone(), rows.columns().to_vec())?;
            hash.add(&rows, &constants)?;
            count_nans(&mut nans, &rows);
            let work = move || {
                encoder.write(&rows, streams)?;
                Ok(encoder)
            };
            encoder = context.clone().blocking(work).await?;
        }
        if encoder.rows() > 0 && (ended || encoder.bytes() as u64 >= row_group) {
            let group = std::mem::replace(&mut encoder, shape.encoder()?).finish()?;
            let bytes_in = (total_in as f64 * (group.rows as f64 / rows_in.max(1) as f64)) as u64;
            assembly.put(RowGroup::Encoded(group), &std::mem::take(&mut nans), bytes_in).await?;
        }
        if ended {
            break;
        }
    }
    let written = assembly.finish().await?;
    prefetching.await?;
    let hashed_in = *hash_in.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if hashed_in != hash {
        return Err(WriteError::NotAsWritten {
            path: target.path(0),
            what: format!("sorted rows hash to {hash}, not {hashed_in}"),
        }
        .into());
    }
    let rows_out: u64 = written.iter().map(|w| w.rows).sum();
    if rows_out != rows_in {
        return Err(MaintenanceError::NotEquivalent { rows_in, rows_out });
    }
    let row_mapping = RowMapping::Sorted(sidecar.finish(written.iter().map(|w| w.rows).collect())?);
    let (paths, files) = entries(written);
    let done = RewrittenGroup { files, paths, hash, row_mapping, copied: CopiedRowGroups::default() };
    if target.verify == Verify::Full {
        verify(context, shape, &done, constants).await?;
    }
    Ok(done)
}

/// Returns the schema of rows to be sorted: the table's columns, then the row's origin, then the sort keys.
fn with_hidden(columns: &SchemaRef, order: &RowOrder) -> Result<SchemaRef> {
    let mut fields: Vec<_> = columns.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("$input", DataType::UInt32, false)));
    fields.push(Arc::new(Field::new("$position", DataType::UInt64, false)));
    for (i, ty) in order.key_types(columns)?.into_iter().enumerate() {
        fields.push(Arc::new(Field::new(format!("$key{i}"), ty, true)));
    }
    Ok(Arc::new(ArrowSchema::new(fields)))
}

/// Starts the sort. `columns` is the number of the table's columns, before the hidden ones.
fn sorted(
    context: &JobContext,
    schema: SchemaRef,
    partitions: Vec<Arc<dyn PartitionStream>>,
    order: &RowOrder,
    columns: usize,
) -> Result<SendableRecordBatchStream> {
    let key = |(i, options): (usize, arrow::compute::SortOptions)| {
        PhysicalSortExpr::new(Arc::new(Column::new(&format!("$key{i}"), columns + 2 + i)), options)
    };
    // Rows with equal keys keep their order.
    let tie = [("$input", columns), ("$position", columns + 1)];
    let tie =
        tie.map(|(name, at)| PhysicalSortExpr::new(Arc::new(Column::new(name, at)), arrow::compute::SortOptions::default()));
    let mut ordering = LexOrdering::new(order.options().into_iter().enumerate().map(key)).unwrap_or_else(|| tie.clone().into());
    ordering.extend(tie);
    let source = StreamingTableExec::try_new(schema, partitions, None, [], false, None)?;
    let sort = SortExec::new(ordering.clone(), Arc::new(source)).with_preserve_partitioning(true);
    let merge = SortPreservingMergeExec::new(ordering, Arc::new(sort));
    std::fs::create_dir_all(&context.limits.spill_dir)?;
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![context.limits.spill_dir.clone()]));
    let pool = FairSpillPool::new(usize::try_from(context.limits.bytes / 2).unwrap_or(usize::MAX));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).with_disk_manager_builder(disk).build_arc();
    let mut config = SessionConfig::new().with_batch_size(BATCH_ROWS);
    config.options_mut().execution.sort_spill_reservation_bytes =
        usize::try_from(context.limits.bytes / 32).unwrap_or(usize::MAX).min(10 << 20);
    let task = TaskContext::default().with_session_config(config).with_runtime(runtime?);
    Ok(merge.execute(0, Arc::new(task))?)
}

/// Appends the origins of sorted rows to the sidecar.
fn record_origins(batch: &RecordBatch, columns: usize, sidecar: &mut SidecarWriter) -> Result<()> {
    let inputs = batch.column(columns).as_primitive::<UInt32Type>().values();
    let positions = batch.column(columns + 1).as_primitive::<UInt64Type>().values();
    for (input, position) in inputs.iter().zip(positions) {
        sidecar.push(*input, *position)?;
    }
    Ok(())
}

/// The source of the rows to be sorted. All streams take units of work from it.
struct SortSource {
    context: JobContext,
    shape: Arc<ParquetLayout>,
    inputs: Arc<Vec<InputFile>>,
    order: Arc<RowOrder>,
    schema: SchemaRef,
    units: Mutex<mpsc::Receiver<Result<WorkUnit>>>,
    hash: Arc<std::sync::Mutex<ContentHash>>,
}

/// One of the streams of rows, which is sorted before all are merged.
struct SourceStream(Arc<SortSource>);

impl fmt::Debug for SourceStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceStream").finish_non_exhaustive()
    }
}

impl PartitionStream for SourceStream {
    fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let source = self.0.clone();
        // A channel for only two batches keeps decoding from running ahead of the sort.
        let (send, batches) = mpsc::channel(2);
        tokio::spawn(async move {
            loop {
                let unit = source.units.lock().await.recv().await;
                let segments = match unit {
                    Some(Ok(WorkUnit::Encode(segments))) => segments,
                    Some(Err(e)) => return drop(send.send(Err(e)).await),
                    Some(Ok(WorkUnit::Copy { .. })) | None => return,
                };
                let (this, out) = (source.clone(), send.clone());
                if let Err(e) = source.context.clone().blocking(move || this.decode(segments, &out)).await {
                    return drop(send.send(Err(e)).await);
                }
            }
        });
        let external = |e: MaintenanceError| DataFusionError::External(Box::new(e));
        let batches = received(batches).map_err(external);
        Box::pin(RecordBatchStreamAdapter::new(self.0.schema.clone(), batches))
    }
}

impl SortSource {
    /// Decodes a unit of work and sends its batches, with the hidden columns.
    fn decode(&self, segments: Vec<RowGroupSpan>, send: &mpsc::Sender<Result<RecordBatch>>) -> Result<()> {
        let mut hash = ContentHash::default();
        for segment in segments {
            for batch in segment.decode(&self.shape, &self.inputs[segment.input])? {
                let (batch, positions) = batch?;
                hash.add(&batch, &self.inputs[segment.input].constants)?;
                let number = u32::try_from(segment.input).unwrap_or(u32::MAX);
                let mut columns = batch.columns().to_vec();
                columns.push(Arc::new(UInt32Array::from(vec![number; batch.num_rows()])) as ArrayRef);
                columns.push(Arc::new(positions.iter().collect::<UInt64Array>()));
                columns.extend(self.order.keys(&batch)?);
                if send.blocking_send(Ok(RecordBatch::try_new(self.schema.clone(), columns)?)).is_err() {
                    return Ok(());
                }
            }
        }
        self.hash.lock().unwrap_or_else(std::sync::PoisonError::into_inner).merge(hash);
        Ok(())
    }
}
