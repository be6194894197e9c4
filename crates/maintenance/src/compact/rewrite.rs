//! The rewrite of one group that keeps the order of its rows.
//!
//! [`prefetch`] reads the inputs and cuts them into units. Workers decode and encode a unit each in parallel, or copy a row group
//! without decoding it. [`Assembly`] appends the row groups to new files, in order. The content hashes of what was encoded are
//! summed, and each run of rows is recorded for the row mapping. Start reading at [`rewrite`]; `sort` has its counterpart for
//! sorted groups.

use std::ops::Range;
use std::sync::Arc;

use esker_format::DataFile;
use esker_read::{BatchAdapter, RowPositions};
use esker_types::saturating_total;
use esker_write::{
    CopiedPart, NanCounts, OutputFile, ParquetLayout, RowGroup, RowGroupEncoder, RowLineage, WriteError, WrittenFile, count_nans,
};
use futures::stream::{Stream, StreamExt, TryStreamExt};
use roaring::RoaringTreemap;
use tokio::sync::mpsc;

use super::content_hash::{ContentHash, PartitionConstants};
use super::options::Verify;
use super::prefetch::{BATCH_ROWS, InputFile, RowGroupSpan, UnitLimits, WorkUnit, input_memory, prefetch};
use super::row_mapping::{MappedRun, RowMapping};
use crate::context::JobContext;
use crate::{MaintenanceError, Result};

/// Compressed size in bytes below which a row group is not copied but encoded together with others.
///
/// In a table with smaller row groups the bound is a quarter of their size, if that is less.
const MIN_COPIED_BYTES: u64 = 8 << 20;

/// The sizes and the names of a group's new files.
#[derive(Debug, Clone)]
pub(crate) struct OutputTarget {
    /// Target size of a file, in bytes.
    pub(crate) file_bytes: u64,
    /// Maximum size of a file, in bytes.
    pub(crate) max_bytes: u64,
    /// True if row groups may be copied without decoding.
    pub(crate) copy_row_groups: bool,
    pub(crate) verify: Verify,
    /// Location of the files, without `-NUMBER.parquet`.
    pub(crate) prefix: String,
}

impl OutputTarget {
    /// Returns the location of the `n`-th file, from 0.
    pub(crate) fn path(&self, n: usize) -> String {
        format!("{}-{n}.parquet", self.prefix)
    }
}

/// The row groups that were copied without decoding.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CopiedRowGroups {
    pub(crate) count: u64,
    /// Total size of the row groups, in bytes.
    pub(crate) bytes: u64,
}

/// The new files of a group.
pub(crate) struct RewrittenGroup {
    /// The manifest entries of the new files, complete except for the partition and the sort order.
    pub(crate) files: Vec<DataFile>,
    /// Location and size in bytes of each new file.
    pub(crate) paths: Vec<(String, u64)>,
    /// Content hash of the rows. It has no sums for copied row groups unless the verification is full.
    pub(crate) hash: ContentHash,
    pub(crate) row_mapping: RowMapping,
    pub(crate) copied: CopiedRowGroups,
}

/// A finished row group, with the origin of its rows.
struct FinishedRowGroup {
    group: RowGroup,
    placed: Vec<RowRun>,
    nans: NanCounts,
}

/// A run of neighbouring rows of one input in a row group.
struct RowRun {
    /// Index of the input in its group.
    input: usize,
    /// Positions in the input, including deleted rows.
    rows: Range<u64>,
    /// The deleted positions of the whole input.
    deleted: Option<Arc<RoaringTreemap>>,
    /// Position in the row group of the first row that is not deleted.
    first: u64,
}

/// Rewrites inputs in their order. Workers decode and encode in parallel, each about a row group at a time.
///
/// # Errors
///
/// - Returns [`MaintenanceError::NotEquivalent`] if the number of rows differs.
/// - Returns [`MaintenanceError::Write`] if a new file can't be recorded, encoded or written. It is [`WriteError::NotAsWritten`] if
///   the full verification finds other rows, or if a file read back differs from what was written.
/// - Returns [`MaintenanceError::Read`] if an input or, for the full verification, a new file can't be read, and
///   [`MaintenanceError::Arrow`] if rows can't be hashed or given their lineage.
/// - Returns [`MaintenanceError::Cancelled`] after a cancellation, and [`MaintenanceError::Panicked`] if a worker panics.
pub(crate) async fn rewrite(
    context: &JobContext,
    shape: &Arc<ParquetLayout>,
    inputs: Arc<Vec<InputFile>>,
    target: &OutputTarget,
) -> Result<RewrittenGroup> {
    let total_in = saturating_total(inputs.iter().map(|i| i.file.file.size()));
    let memory = context.limits.bytes * 2 / 5;
    let row_group = (shape.row_group_bytes as u64).min(target.file_bytes);
    let cut = UnitLimits {
        unit_bytes: unit_bytes(total_in, row_group.min(memory / 4), context.concurrency as u64),
        min_copied_bytes: target.copy_row_groups.then_some((row_group / 4).min(MIN_COPIED_BYTES)),
        max_bytes: target.max_bytes,
        memory,
    };
    let full = target.verify == Verify::Full;
    let (send, units) = mpsc::channel(1);
    let feeding = tokio::spawn(prefetch(context.clone(), shape.clone(), inputs.clone(), cut, input_memory(memory), send));
    let work = |unit: Result<WorkUnit>| {
        let (context, shape, inputs) = (context.clone(), shape.clone(), inputs.clone());
        async move {
            let unit = unit?;
            let permit = context.cpu.clone().acquire_owned().await;
            let permit = permit.map_err(|_| MaintenanceError::Refused("the job is stopping".to_owned()))?;
            context
                .clone()
                .blocking(move || {
                    let _permit = permit;
                    match unit {
                        WorkUnit::Encode(segments) => encode(&shape, &inputs, segments, row_group),
                        WorkUnit::Copy { segment, index } => copy(&shape, &inputs, segment, index, full),
                    }
                })
                .await
        }
    };
    let mut pieces = received(units).map(work).buffered(context.concurrency.max(1)).boxed();
    let mut assembly = Assembly::new(context, shape, target, total_in);
    let (mut hash, mut placed, mut copied) = (ContentHash::default(), Vec::new(), CopiedRowGroups::default());
    while let Some((done, hashed)) = pieces.try_next().await? {
        hash.merge(hashed);
        for FinishedRowGroup { group, placed: runs, nans } in done {
            let (output, first) = assembly.place();
            let mut bytes_in = 0;
            for RowRun { input, rows, deleted, first: at } in runs {
                let source = &inputs[input];
                let share = (rows.end - rows.start) as f64 / source.records.max(1) as f64;
                bytes_in += (source.file.file.size() as f64 * share) as u64;
                placed.push(MappedRun { input, rows, deleted, output, first: first + at });
            }
            if let RowGroup::Copied { .. } = &group {
                copied.count += 1;
                copied.bytes += group.bytes();
            }
            assembly.put(group, &nans, bytes_in).await?;
        }
    }
    drop(pieces);
    feeding.await?;
    let rows_in = saturating_total(inputs.iter().map(InputFile::rows));
    let written = assembly.finish().await?;
    let rows_out: u64 = written.iter().map(|w| w.rows).sum();
    if hash.rows != rows_in || rows_out != rows_in {
        return Err(MaintenanceError::NotEquivalent { rows_in, rows_out });
    }
    let (paths, files) = entries(written);
    let moves = RowMapping::Runs(placed);
    let done = RewrittenGroup { files, paths, hash, row_mapping: moves, copied };
    if full {
        verify(context, shape, &done, constants_of(&inputs)).await?;
    }
    Ok(done)
}

/// Returns the constants of the new files' partition, which is the partition of every input.
pub(crate) fn constants_of(inputs: &[InputFile]) -> Arc<PartitionConstants> {
    inputs.first().map(|input| input.constants.clone()).unwrap_or_default()
}

/// Decodes the new files again and compares the content hash of their rows, as readers see them.
///
/// # Errors
///
/// - Returns [`MaintenanceError::Write`] with [`WriteError::NotAsWritten`] if the hashes differ.
/// - Returns [`MaintenanceError::Read`] if a new file can't be read, and [`MaintenanceError::Arrow`] if its rows can't be hashed.
/// - Returns [`MaintenanceError::Cancelled`] after a cancellation, and [`MaintenanceError::Panicked`] if decoding panics.
pub(crate) async fn verify(
    context: &JobContext,
    shape: &Arc<ParquetLayout>,
    done: &RewrittenGroup,
    seen: Arc<PartitionConstants>,
) -> Result<()> {
    let adapter = Arc::new(BatchAdapter::new(shape.arrow.clone(), &shape.schema, None));
    let mut found = ContentHash::default();
    for (path, bytes) in &done.paths {
        let open = context.reader.open(path, *bytes, &context.counters.reads).await?;
        let projection = open.projection(&adapter);
        for (i, rows) in open.row_ranges().into_iter().enumerate() {
            let fetched = open.fetch(i..i + 1).await?;
            let (adapter, projection, seen) = (adapter.clone(), projection.clone(), seen.clone());
            let hash = context.clone().blocking(move || {
                let mut hash = ContentHash::default();
                for batch in fetched.rows(adapter, projection, rows, None, BATCH_ROWS)? {
                    hash.add(&batch?.0, &seen)?;
                }
                Ok(hash)
            });
            found.merge(hash.await?);
        }
    }
    if found != done.hash {
        let path = done.paths.first().map_or_else(String::new, |(path, _)| path.clone());
        return Err(WriteError::NotAsWritten { path, what: format!("its rows hash to {found}, not to {}", done.hash) }.into());
    }
    Ok(())
}

/// Turns the receiver of a channel into a stream.
pub(crate) fn received<T>(receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> {
    futures::stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|next| (next, receiver)) })
}

/// Returns the size of a unit of work in bytes: about a row group, and so that every worker gets the same number of units.
fn unit_bytes(total: u64, row_group: u64, workers: u64) -> u64 {
    const LEAST: u64 = 4 << 20;
    let mut n = total.div_ceil(row_group.max(1)).max(1);
    if n < 4 * workers {
        n = n.next_multiple_of(workers.max(1));
    }
    (total / n).max(LEAST.min(row_group))
}

/// Splits written files into their locations with sizes in bytes, and their manifest entries.
pub(crate) fn entries(written: Vec<WrittenFile>) -> (Vec<(String, u64)>, Vec<DataFile>) {
    written.into_iter().map(|w| ((w.path, w.bytes), w.entry)).unzip()
}

/// The row groups of a unit of work: those that are finished, and the one that is being encoded.
struct RowGroupBuilder<'a> {
    shape: &'a Arc<ParquetLayout>,
    inputs: &'a [InputFile],
    encoder: RowGroupEncoder,
    open: Vec<RowRun>,
    nans: NanCounts,
    done: Vec<FinishedRowGroup>,
}

impl RowGroupBuilder<'_> {
    /// Finishes the row group that is being encoded and starts another.
    fn cut(&mut self) -> Result<()> {
        let encoder = std::mem::replace(&mut self.encoder, self.shape.encoder()?);
        let (placed, nans) = (std::mem::take(&mut self.open), std::mem::take(&mut self.nans));
        if encoder.rows() > 0 {
            self.done.push(FinishedRowGroup { group: RowGroup::Encoded(encoder.finish()?), placed, nans });
        }
        Ok(())
    }

    /// Adds the rows from `start` to `end` of an input to the row group. It extends the last run if they follow it, or starts a
    /// run.
    fn run_to(&mut self, input: usize, start: u64, end: u64) {
        match self.open.last_mut() {
            Some(run) if run.input == input && run.rows.end == start => run.rows.end = end,
            _ => {
                let deleted = self.inputs[input].deleted.clone();
                self.open.push(RowRun { input, rows: start..end, deleted, first: self.encoder.rows() });
            }
        }
    }
}

/// Decodes the rows of a unit and encodes them into row groups of at least `row_group` bytes, except the last.
fn encode(
    shape: &Arc<ParquetLayout>,
    inputs: &[InputFile],
    segments: Vec<RowGroupSpan>,
    row_group: u64,
) -> Result<(Vec<FinishedRowGroup>, ContentHash)> {
    let mut hash = ContentHash::default();
    let encoder = shape.encoder()?;
    let mut pieces = RowGroupBuilder { shape, inputs, encoder, open: Vec::new(), nans: NanCounts::new(), done: Vec::new() };
    for segment in segments {
        let (input, mut next) = (segment.input, segment.rows.start);
        for batch in segment.decode(shape, &inputs[input])? {
            let (batch, positions) = batch?;
            hash.add(&batch, &inputs[input].constants)?;
            count_nans(&mut pieces.nans, &batch);
            let end = last(&positions).map_or(next, |p| p + 1);
            pieces.run_to(input, next, end);
            next = end;
            pieces.encoder.write(&batch, 1)?;
            if pieces.encoder.bytes() as u64 >= row_group {
                pieces.cut()?;
            }
        }
        // Deleted rows at the end of a segment belong to the run as well.
        if next < segment.rows.end {
            pieces.run_to(input, next, segment.rows.end);
        }
    }
    pieces.cut()?;
    Ok((pieces.done, hash))
}

/// Returns the last of some row positions.
fn last(positions: &RowPositions) -> Option<u64> {
    match positions {
        RowPositions::Run(range) => range.end.checked_sub(1),
        RowPositions::Each(each) => each.last().copied(),
    }
}

/// Copies a row group without encoding it again, and adds the lineage columns if it has none.
///
/// Its bytes are compared when they are read back. Its rows are decoded only for the full verification; else they are only counted.
fn copy(
    shape: &ParquetLayout,
    inputs: &[InputFile],
    segment: RowGroupSpan,
    index: Arc<parquet::file::metadata::ParquetMetaData>,
    full: bool,
) -> Result<(Vec<FinishedRowGroup>, ContentHash)> {
    let source = &inputs[segment.input];
    let mut hash = ContentHash::default();
    match full {
        true => segment
            .decode(shape, source)?
            .try_for_each(|batch| Ok::<_, MaintenanceError>(hash.add(&batch?.0, &source.constants)?))?,
        false => hash = ContentHash::counted(segment.rows.end - segment.rows.start),
    }
    let RowGroupSpan { input, fetched, rows, .. } = segment;
    let row_group = fetched.row_groups().start;
    let group = fetched.footer().row_group(row_group);
    let mut lineage = Vec::new();
    if shape.lineage == RowLineage::Kept && group.num_columns() == shape.table_leaves() {
        let mut encoder = shape.lineage_encoder()?;
        let mut at = rows.start;
        while at < rows.end {
            let end = (at + BATCH_ROWS as u64).min(rows.end);
            encoder.write(&source.lineage().of_rows(at..end)?, 1)?;
            at = end;
        }
        lineage = encoder.finish()?.chunks;
    }
    let part = match fetched.footer().num_row_groups() {
        1 => CopiedPart::WholeFile,
        _ => CopiedPart::OneRowGroup,
    };
    let nans = shape.nan_counts_of_copy(&source.file.file, part);
    let run = RowRun { input, rows, deleted: None, first: 0 };
    let group = RowGroup::Copied { source: Arc::new(fetched), row_group, index, lineage };
    Ok((vec![FinishedRowGroup { group, placed: vec![run], nans }], hash))
}

/// A writer that appends row groups to new files of about the same size.
pub(crate) struct Assembly<'a> {
    context: &'a JobContext,
    shape: &'a Arc<ParquetLayout>,
    target: &'a OutputTarget,
    /// Total size of the input, in bytes.
    total_in: u64,
    /// Size in bytes of the input whose rows were written.
    bytes_in: u64,
    /// Size in bytes of all row groups that were written.
    bytes_out: u64,
    output: Option<OutputFile>,
    written: Vec<WrittenFile>,
}

impl<'a> Assembly<'a> {
    /// Creates an assembly for an input of `total_in` bytes.
    pub(crate) const fn new(
        context: &'a JobContext,
        shape: &'a Arc<ParquetLayout>,
        target: &'a OutputTarget,
        total_in: u64,
    ) -> Self {
        Self { context, shape, target, total_in, bytes_in: 0, bytes_out: 0, output: None, written: Vec::new() }
    }

    /// Returns the number of the file that the next row group goes into, and the number of rows that the file has.
    fn place(&self) -> (usize, u64) {
        (self.written.len(), self.output.as_ref().map_or(0, |output| output.rows))
    }

    /// Appends a row group, and closes the file if it has its size. `bytes_in` is the size of the input that the row group was made
    /// of.
    pub(crate) async fn put(&mut self, group: RowGroup, nans: &NanCounts, bytes_in: u64) -> Result<()> {
        let mut output = match self.output.take() {
            Some(output) => output,
            None => OutputFile::create(&self.context.destination(), self.shape, self.target.path(self.written.len())).await?,
        };
        let before = output.bytes();
        output.append(group, nans).await?;
        let last = output.bytes() - before;
        self.bytes_in += bytes_in;
        self.bytes_out += last;
        let (share, files) = self.share();
        // The last file takes the rest, so that an estimate that is a little too low leaves no small file.
        let last_one = self.written.len() as u64 + 1 >= files && output.bytes() + last < self.target.max_bytes;
        if output.bytes() + last / 2 >= share && !last_one {
            self.written.push(output.close().await?);
        } else {
            self.output = Some(output);
        }
        Ok(())
    }

    /// Returns the size in bytes that each file should have, and their number.
    ///
    /// The total size is estimated from the ratio of output to input so far, and shared equally among the files.
    fn share(&self) -> (u64, u64) {
        let expected = self.bytes_out as f64 * (self.total_in as f64 / self.bytes_in.max(1) as f64).max(1.0);
        let expected = expected as u64;
        let files = number_of_files(expected, self.target.file_bytes, self.target.max_bytes);
        (expected / files, files)
    }

    /// Closes the last file and returns all files.
    pub(crate) async fn finish(mut self) -> Result<Vec<WrittenFile>> {
        if let Some(output) = self.output.take() {
            self.written.push(output.close().await?);
        }
        Ok(self.written)
    }
}

/// Returns the number of files of the target size for some bytes. A small rest goes into the other files if it fits there.
pub(crate) fn number_of_files(bytes: u64, target: u64, max: u64) -> u64 {
    let (whole, rest) = (bytes / target.max(1), bytes % target.max(1));
    let roomy = target + max.saturating_sub(target) / 2;
    if whole > 0 && rest < target / 4 * 3 && bytes / whole < roomy { whole } else { whole + u64::from(rest > 0) }.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_rest_goes_into_the_other_files() {
        for (bytes, files) in [(1, 1), (100, 1), (120, 1), (150, 2), (250, 2), (290, 3), (1050, 10), (0, 1)] {
            assert_eq!(number_of_files(bytes, 100, 180), files, "{bytes}");
        }
    }

    #[test]
    fn units_are_shared_out_evenly() {
        assert_eq!(unit_bytes(185 << 20, 128 << 20, 2), (185 << 20) / 2);
        assert_eq!(unit_bytes(300 << 20, 128 << 20, 2), 75 << 20);
        assert_eq!(unit_bytes(1 << 20, 128 << 20, 2), 4 << 20);
    }
}
