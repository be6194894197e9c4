//! Reads input files ahead and cuts them into units of work.
//!
//! A small file is read whole in one request, a large one row group by row group. A unit is either a row group that is copied, or
//! neighbouring row groups that are decoded and encoded together. Bytes that are fetched and not decoded yet hold permits of a
//! semaphore, which bounds memory. Start reading at [`prefetch`] and `units`.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use esker_read::{BatchAdapter, FetchedRowGroups, Lineage, OpenFile, Projection, RowPositions};
use esker_table::LiveFile;
use esker_write::{ParquetLayout, RowLineage, has_only_flat_columns};
use futures::stream::StreamExt;
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaData;
use roaring::RoaringTreemap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::content_hash::PartitionConstants;
use crate::context::JobContext;
use crate::{MaintenanceError, Result};

/// Number of rows that are decoded at a time.
pub(crate) const BATCH_ROWS: usize = 8192;

/// Number of files that are opened ahead.
const AHEAD: usize = 8;

/// Size in bytes above which a file is fetched row group by row group.
const WHOLE_FILE: u64 = 32 << 20;

/// A file to be rewritten.
#[derive(Debug, Clone)]
pub(crate) struct InputFile {
    pub(crate) file: LiveFile,
    /// Number of rows of the file, including deleted ones.
    pub(crate) records: u64,
    /// Positions that are deleted, by deletes of every kind.
    pub(crate) deleted: Option<Arc<RoaringTreemap>>,
    pub(crate) adapter: Arc<BatchAdapter>,
    /// The constants of the file's partition.
    pub(crate) constants: Arc<PartitionConstants>,
}

impl InputFile {
    /// Returns the values from which row lineage columns are filled in for rows of the file.
    ///
    /// Spec: "Row Lineage".
    pub(crate) fn lineage(&self) -> Lineage {
        Lineage { first_row_id: self.file.first_row_id, sequence_number: self.file.sequence_number }
    }

    /// Returns the number of rows that are not deleted.
    pub(crate) fn rows(&self) -> u64 {
        self.records.saturating_sub(self.deleted.as_deref().map_or(0, RoaringTreemap::len))
    }
}

impl RowGroupSpan {
    /// Decodes the rows that are not deleted, in batches of the layout's schema, with their positions in the file.
    ///
    /// The batches have row lineage columns if the layout has.
    pub(crate) fn decode(
        &self,
        shape: &ParquetLayout,
        source: &InputFile,
    ) -> Result<impl Iterator<Item = Result<(RecordBatch, RowPositions)>> + use<>> {
        let lineage = (shape.lineage == RowLineage::Kept).then(|| source.lineage());
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

/// Neighbouring row groups of an input, in memory, not decoded yet.
pub(crate) struct RowGroupSpan {
    /// Index of the input in its group.
    pub(crate) input: usize,
    pub(crate) fetched: FetchedRowGroups,
    pub(crate) projection: Projection,
    /// Positions of the rows in the input.
    pub(crate) rows: Range<u64>,
    /// Reserves the span's share of the job's memory until the rows are decoded.
    pub(crate) _memory: Arc<OwnedSemaphorePermit>,
}

/// A unit of work.
pub(crate) enum WorkUnit {
    /// Rows to be decoded and encoded, about a row group.
    Encode(Vec<RowGroupSpan>),
    /// A row group to be copied, with the footer of its file.
    Copy { segment: RowGroupSpan, index: Arc<ParquetMetaData> },
}

/// Returns the semaphore for bytes that are fetched and not decoded yet. A permit is a KiB.
pub(crate) fn input_memory(bytes: u64) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(bytes / 1024).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS)))
}

/// The limits by which input is cut into units of work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnitLimits {
    /// Compressed size of a unit, in bytes.
    pub(crate) unit_bytes: u64,
    /// Minimum compressed size in bytes of a row group that is copied; `None` if none is copied.
    pub(crate) min_copied_bytes: Option<u64>,
    /// Maximum compressed size in bytes of a row group that is copied: a larger one would make a file too large.
    pub(crate) max_bytes: u64,
    /// Memory for fetched bytes, in bytes.
    pub(crate) memory: u64,
}

/// Reads inputs and sends their units of work, or the first error. Units to be encoded are in the order of the inputs.
pub(crate) async fn prefetch(
    context: JobContext,
    shape: Arc<ParquetLayout>,
    inputs: Arc<Vec<InputFile>>,
    cut: UnitLimits,
    memory: Arc<Semaphore>,
    send: mpsc::Sender<Result<WorkUnit>>,
) {
    if let Err(e) = units(&context, &shape, &inputs, cut, &memory, &send).await {
        // If the receiver was dropped, the rewrite reports an error of its own.
        drop(send.send(Err(e)).await);
    }
}

type MemoryPermit = Arc<OwnedSemaphorePermit>;

/// Reserves memory for some bytes, but at most `most`, so that a large file can be read at all.
async fn reserve(memory: &Arc<Semaphore>, bytes: u64, most: u64) -> Result<MemoryPermit> {
    let kib = u32::try_from(bytes.min(most).div_ceil(1024).max(1)).unwrap_or(u32::MAX);
    let permit = memory.clone().acquire_many_owned(kib).await;
    Ok(Arc::new(permit.map_err(|_| MaintenanceError::Refused("the job is stopping".to_owned()))?))
}

/// Sends the units of work of all inputs.
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
        let copyable = copyable_row_groups(shape, &open, input, cut);
        let index = copyable.contains(&true).then(|| open.footer().clone());
        let ranges = open.row_ranges();
        let projection = open.projection(&input.adapter);
        let groups = open.footer().num_row_groups();
        let mut at = 0;
        while at < groups {
            // Neighbours that are encoded are fetched together.
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

/// Returns, for each row group of a file, whether it can be copied.
///
/// It must have the columns and the compression of the new files, no deleted rows, complete lineage columns or none, and a fitting
/// size.
fn copyable_row_groups(shape: &ParquetLayout, open: &OpenFile, input: &InputFile, cut: UnitLimits) -> Vec<bool> {
    let footer = open.footer();
    let Some(least) = cut.min_copied_bytes else { return vec![false; footer.num_row_groups()] };
    let (new_columns, file_columns) = (shape.descriptor.columns(), footer.file_metadata().schema_descr().columns());
    // A file with lineage columns is copied with them; one without gets them.
    let same = file_columns.len() >= shape.table_leaves()
        && (file_columns.len() == new_columns.len() || file_columns.len() == shape.table_leaves())
        && new_columns.iter().zip(file_columns).all(|(a, b)| a == b)
        // The offsets of the pages must be in the offset index, unless all columns are flat: then they can be found out.
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
