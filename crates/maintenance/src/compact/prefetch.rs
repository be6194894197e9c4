//! Input files, fetched ahead and cut into units of work.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use esker_read::{BatchAdapter, FetchedRowGroups, Lineage, OpenFile, Projection, RowPositions};
use esker_table::LiveFile;
use esker_write::{ParquetLayout, has_only_flat_columns};
use futures::stream::StreamExt;
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaData;
use roaring::RoaringTreemap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::content_hash::PartitionConstants;
use super::rewrite::BATCH_ROWS;
use crate::context::JobContext;
use crate::{MaintenanceError, Result};

/// Files opened ahead.
const AHEAD: usize = 8;

/// Larger files are fetched row group by row group.
const WHOLE_FILE: u64 = 32 << 20;

/// A file to be rewritten.
#[derive(Debug, Clone)]
pub(crate) struct InputFile {
    pub(crate) file: LiveFile,
    /// Rows that it has, deleted ones among them.
    pub(crate) records: u64,
    /// The positions that deletes of every kind leave out.
    pub(crate) deleted: Option<Arc<RoaringTreemap>>,
    pub(crate) adapter: Arc<BatchAdapter>,
    /// What readers see of its partition.
    pub(crate) seen: Arc<PartitionConstants>,
}

impl InputFile {
    pub(crate) fn lineage(&self) -> Lineage {
        Lineage { first_row_id: self.file.first_row_id, sequence_number: self.file.sequence_number }
    }

    /// Rows that are left.
    pub(crate) fn rows(&self) -> u64 {
        self.records.saturating_sub(self.deleted.as_deref().map_or(0, RoaringTreemap::len))
    }
}

impl RowGroupSpan {
    /// Decodes what is left of the rows, with row lineage where the outputs have it, and where they stood in their file.
    pub(crate) fn decode(
        &self,
        shape: &ParquetLayout,
        source: &InputFile,
    ) -> Result<impl Iterator<Item = Result<(RecordBatch, RowPositions)>> + use<>> {
        let lineage = shape.lineage.then(|| source.lineage());
        let (adapter, deleted) = (source.adapter.clone(), source.deleted.clone());
        let rows = self.fetched.clone().rows(adapter, self.projection.clone(), self.rows.clone(), deleted, BATCH_ROWS)?;
        Ok(rows.map(move |batch| {
            let (batch, positions) = batch?;
            Ok(match lineage {
                Some(lineage) => (lineage.fill(&batch, &positions)?, positions),
                None => (batch, positions),
            })
        }))
    }
}

/// Some neighbouring row groups of an input, in memory.
pub(crate) struct RowGroupSpan {
    pub(crate) input: usize,
    pub(crate) fetched: FetchedRowGroups,
    pub(crate) projection: Projection,
    pub(crate) rows: Range<u64>,
    /// Holds its share of the job's memory until the rows are decoded.
    pub(crate) _memory: Arc<OwnedSemaphorePermit>,
}

/// What a worker gets.
pub(crate) enum WorkUnit {
    /// Rows to be encoded as a row group.
    Encode(Vec<RowGroupSpan>),
    /// A row group to be copied.
    Copy { segment: RowGroupSpan, index: Arc<ParquetMetaData> },
}

/// Memory for what is fetched and not decoded yet, in KiB.
pub(crate) fn input_memory(bytes: u64) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(bytes / 1024).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS)))
}

/// How input is cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnitLimits {
    /// Compressed bytes of a unit.
    pub(crate) unit_bytes: u64,
    /// Row groups of at least so many bytes are copied where they can be; none are if this is none.
    pub(crate) splice_bytes: Option<u64>,
    /// Row groups of more bytes are not copied: they would make a file that is too large.
    pub(crate) max_bytes: u64,
    /// All of the input memory, in bytes.
    pub(crate) memory: u64,
}

/// Sends the units of some inputs, in the inputs' order as far as they are encoded.
pub(crate) async fn prefetch(
    context: JobContext,
    shape: Arc<ParquetLayout>,
    inputs: Arc<Vec<InputFile>>,
    cut: UnitLimits,
    memory: Arc<Semaphore>,
    send: mpsc::Sender<Result<WorkUnit>>,
) {
    if let Err(e) = units(&context, &shape, &inputs, cut, &memory, &send).await {
        // A receiver that is gone has an error of its own to report.
        drop(send.send(Err(e)).await);
    }
}

type Held = Arc<OwnedSemaphorePermit>;

async fn reserve(memory: &Arc<Semaphore>, bytes: u64, most: u64) -> Result<Held> {
    let kib = u32::try_from(bytes.min(most).div_ceil(1024).max(1)).unwrap_or(u32::MAX);
    let permit = memory.clone().acquire_many_owned(kib).await;
    Ok(Arc::new(permit.map_err(|_| MaintenanceError::Refused("the job is ending".to_owned()))?))
}

async fn units(
    context: &JobContext,
    shape: &Arc<ParquetLayout>,
    inputs: &[InputFile],
    cut: UnitLimits,
    memory: &Arc<Semaphore>,
    send: &mpsc::Sender<Result<WorkUnit>>,
) -> Result<()> {
    let whole = WHOLE_FILE.min(cut.memory / 16);
    let opening = |(number, input): (usize, &InputFile)| {
        let (context, memory, records) = (context.clone(), memory.clone(), input.records);
        let (path, bytes) = (input.file.file.file_path.clone(), input.file.file.size());
        async move {
            let held = if bytes <= whole { Some(reserve(&memory, bytes, cut.memory / 16).await?) } else { None };
            let open = context.reader.open_whole(&path, bytes, whole, &context.counters.reads).await?;
            open.check_records(records)?;
            context.progress.add(bytes);
            Ok::<_, MaintenanceError>((number, open, held))
        }
    };
    let mut opened = futures::stream::iter(inputs.iter().enumerate()).map(opening).buffered(AHEAD).boxed();
    let mut pending = Vec::new();
    let mut pending_bytes = 0;
    while let Some(next) = opened.next().await {
        let (number, open, held) = next?;
        let input = &inputs[number];
        let copyable = copyable(shape, &open, input, cut);
        let index = copyable.contains(&true).then(|| open.footer().clone());
        let ranges = open.row_ranges();
        let projection = open.projection(&input.adapter);
        let groups = open.footer().num_row_groups();
        let mut at = 0;
        while at < groups {
            // Neighbours that are encoded anyway are fetched together.
            let copy = copyable[at];
            let mut end = at + 1;
            let mut bytes = open.footer().row_group(at).compressed_size().unsigned_abs();
            while !copy && end < groups && !copyable[end] && bytes < cut.unit_bytes {
                bytes += open.footer().row_group(end).compressed_size().unsigned_abs();
                end += 1;
            }
            let permit = match &held {
                Some(held) => held.clone(),
                None => reserve(memory, bytes, cut.memory / 4).await?,
            };
            let fetched = open.fetch(at..end).await?;
            let rows = ranges[at].start..ranges[end - 1].end;
            let segment = RowGroupSpan { input: number, fetched, projection: projection.clone(), rows, _memory: permit };
            at = end;
            if let (true, Some(index)) = (copy, &index) {
                if send.send(Ok(WorkUnit::Copy { segment, index: index.clone() })).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            pending.push(segment);
            pending_bytes += bytes;
            if pending_bytes >= cut.unit_bytes {
                pending_bytes = 0;
                if send.send(Ok(WorkUnit::Encode(std::mem::take(&mut pending)))).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    if !pending.is_empty() {
        drop(send.send(Ok(WorkUnit::Encode(pending))).await);
    }
    Ok(())
}

/// Which row groups of a file can be copied as they are.
fn copyable(shape: &ParquetLayout, open: &OpenFile, input: &InputFile, cut: UnitLimits) -> Vec<bool> {
    let footer = open.footer();
    let Some(least) = cut.splice_bytes else { return vec![false; footer.num_row_groups()] };
    let (ours, theirs) = (shape.descriptor.columns(), footer.file_metadata().schema_descr().columns());
    // A file that has lineage columns of its own can be copied with them, one that has not gets them.
    let same = theirs.len() >= shape.table_leaves()
        && (theirs.len() == ours.len() || theirs.len() == shape.table_leaves())
        && ours.iter().zip(theirs).all(|(a, b)| a == b)
        // Where the pages are is told by the file, or can be found out.
        && (footer.offset_index().is_some() || has_only_flat_columns(footer));
    if !same {
        return vec![false; footer.num_row_groups()];
    }
    let codec = |c: Compression| std::mem::discriminant(&c);
    let copyable = |(group, rows): (&parquet::file::metadata::RowGroupMetaData, Range<u64>)| {
        let bytes = group.compressed_size().unsigned_abs();
        let untouched = input.deleted.as_deref().is_none_or(|d| d.range_cardinality(rows.clone()) == 0);
        let encoded =
            group.columns().iter().all(|c| codec(c.compression()) == codec(shape.properties.compression(c.column_path())));
        let lineage = group.columns().iter().skip(shape.table_leaves());
        let complete = lineage.map(|c| c.statistics().and_then(|s| s.null_count_opt())).all(|nulls| nulls == Some(0));
        bytes >= least && bytes <= cut.max_bytes && untouched && encoded && complete
    };
    footer.row_groups().iter().zip(open.row_ranges()).map(copyable).collect()
}
