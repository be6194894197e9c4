//! One group: its rows out of the old files and into new ones.

use std::ops::Range;
use std::sync::Arc;

use esker_format::DataFile;
use esker_read::{BatchAdapter, RowPositions};
use esker_types::saturating_total;
use esker_write::{NanCounts, OutputFile, ParquetLayout, RowGroup, RowGroupEncoder, WriteError, WrittenFile, count_nans};
use futures::stream::{Stream, StreamExt, TryStreamExt};
use roaring::RoaringTreemap;
use tokio::sync::mpsc;

use super::content_hash::{ContentHash, PartitionConstants};
use super::options::Verify;
use super::prefetch::{InputFile, RowGroupSpan, UnitLimits, WorkUnit, input_memory, prefetch};
use super::row_mapping::{MappedRun, RowMapping};
use crate::context::JobContext;
use crate::{MaintenanceError, Result};

/// Rows decoded at a time.
pub(crate) const BATCH_ROWS: usize = 8192;

/// Smaller row groups are not worth keeping as they are; where the table wants small ones, those under a quarter of that.
const SPLICE_BYTES: u64 = 8 << 20;

/// How outputs are cut and named.
#[derive(Debug, Clone)]
pub(crate) struct OutputTarget {
    /// Bytes of a file.
    pub(crate) file_bytes: u64,
    /// Bytes of a file, at most.
    pub(crate) max_bytes: u64,
    pub(crate) splice: bool,
    pub(crate) verify: Verify,
    /// Where files go; their number and `.parquet` are added.
    pub(crate) prefix: String,
}

impl OutputTarget {
    pub(crate) fn path(&self, n: usize) -> String {
        format!("{}-{n}.parquet", self.prefix)
    }
}

/// What became of a group.
pub(crate) struct RewrittenGroup {
    /// Their entries, all but the partition.
    pub(crate) files: Vec<DataFile>,
    /// Path and bytes of each.
    pub(crate) paths: Vec<(String, u64)>,
    pub(crate) hash: ContentHash,
    pub(crate) moves: RowMapping,
    pub(crate) spliced_row_groups: u64,
    pub(crate) spliced_bytes: u64,
}

/// A row group with where its rows come from.
struct Piece {
    group: RowGroup,
    placed: Vec<Run>,
    nans: NanCounts,
}

/// Rows of an input in a row group.
struct Run {
    input: usize,
    rows: Range<u64>,
    deleted: Option<Arc<RoaringTreemap>>,
    /// Position in the row group of the first row that was kept.
    first: u64,
}

/// Rewrites inputs in their order: decoding and encoding in parallel, a row group a worker.
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
        splice_bytes: target.splice.then_some((row_group / 4).min(SPLICE_BYTES)),
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
            let permit = permit.map_err(|_| MaintenanceError::Refused("the job is ending".to_owned()))?;
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
    let (mut hash, mut placed, mut spliced) = (ContentHash::default(), Vec::new(), (0, 0));
    while let Some((done, hashed)) = pieces.try_next().await? {
        hash.merge(hashed);
        for Piece { group, placed: runs, nans } in done {
            let (output, first) = assembly.place();
            let mut bytes_in = 0;
            for Run { input, rows, deleted, first: at } in runs {
                let source = &inputs[input];
                let share = (rows.end - rows.start) as f64 / source.records.max(1) as f64;
                bytes_in += (source.file.file.size() as f64 * share) as u64;
                placed.push(MappedRun { input, rows, deleted, output, first: first + at });
            }
            if let RowGroup::Copied { .. } = &group {
                spliced = (spliced.0 + 1, spliced.1 + group.bytes());
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
    let done = RewrittenGroup { files, paths, hash, moves, spliced_row_groups: spliced.0, spliced_bytes: spliced.1 };
    if full {
        verify(context, shape, &done, seen_of(&inputs)).await?;
    }
    Ok(done)
}

/// What readers see of the partition of the new files, which is that of the first input.
pub(crate) fn seen_of(inputs: &[InputFile]) -> Arc<PartitionConstants> {
    inputs.first().map(|input| input.seen.clone()).unwrap_or_default()
}

/// Decodes the new files again: the same rows must come out, as readers see them.
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
        return Err(WriteError::NotAsWritten { path, what: format!("{} went in, {found} came out", done.hash) }.into());
    }
    Ok(())
}

/// What a channel brings, as a stream.
pub(crate) fn received<T>(receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> {
    futures::stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|next| (next, receiver)) })
}

/// Units of about a row group each, and as many for each worker.
fn unit_bytes(total: u64, row_group: u64, workers: u64) -> u64 {
    const LEAST: u64 = 4 << 20;
    let mut n = total.div_ceil(row_group.max(1)).max(1);
    if n < 4 * workers {
        n = n.next_multiple_of(workers.max(1));
    }
    (total / n).max(LEAST.min(row_group))
}

pub(crate) fn entries(written: Vec<WrittenFile>) -> (Vec<(String, u64)>, Vec<DataFile>) {
    written.into_iter().map(|w| ((w.path, w.bytes), w.entry)).unzip()
}

/// Row groups that are finished, with the runs that they hold.
struct Pieces<'a> {
    shape: &'a Arc<ParquetLayout>,
    inputs: &'a [InputFile],
    encoder: RowGroupEncoder,
    open: Vec<Run>,
    nans: NanCounts,
    done: Vec<Piece>,
}

impl Pieces<'_> {
    fn cut(&mut self) -> Result<()> {
        let encoder = std::mem::replace(&mut self.encoder, self.shape.encoder()?);
        let (placed, nans) = (std::mem::take(&mut self.open), std::mem::take(&mut self.nans));
        if encoder.rows() > 0 {
            self.done.push(Piece { group: RowGroup::Encoded(encoder.finish()?), placed, nans });
        }
        Ok(())
    }

    /// Begins a run of an input's rows at a position, or goes on with it.
    fn run_to(&mut self, input: usize, start: u64, end: u64) {
        match self.open.last_mut() {
            Some(run) if run.input == input && run.rows.end == start => run.rows.end = end,
            _ => {
                let deleted = self.inputs[input].deleted.clone();
                self.open.push(Run { input, rows: start..end, deleted, first: self.encoder.rows() });
            }
        }
    }
}

fn encode(
    shape: &Arc<ParquetLayout>,
    inputs: &[InputFile],
    segments: Vec<RowGroupSpan>,
    row_group: u64,
) -> Result<(Vec<Piece>, ContentHash)> {
    let mut hash = ContentHash::default();
    let encoder = shape.encoder()?;
    let mut pieces = Pieces { shape, inputs, encoder, open: Vec::new(), nans: NanCounts::new(), done: Vec::new() };
    for segment in segments {
        let (input, mut next) = (segment.input, segment.rows.start);
        for batch in segment.decode(shape, &inputs[input])? {
            let (batch, positions) = batch?;
            hash.add(&batch, &inputs[input].seen)?;
            count_nans(&mut pieces.nans, &batch);
            let end = last(&positions).map_or(next, |p| p + 1);
            pieces.run_to(input, next, end);
            next = end;
            pieces.encoder.write(&batch, 1)?;
            if pieces.encoder.bytes() as u64 >= row_group {
                pieces.cut()?;
            }
        }
        // What is deleted at the end of a segment belongs to it as well.
        if next < segment.rows.end {
            pieces.run_to(input, next, segment.rows.end);
        }
    }
    pieces.cut()?;
    Ok((pieces.done, hash))
}

fn last(positions: &RowPositions) -> Option<u64> {
    match positions {
        RowPositions::Run(range) => range.end.checked_sub(1),
        RowPositions::Each(each) => each.last().copied(),
    }
}

/// A row group as it is: its bytes are compared when they are read back, and its rows are decoded only for the full proof.
fn copy(
    shape: &ParquetLayout,
    inputs: &[InputFile],
    segment: RowGroupSpan,
    index: Arc<parquet::file::metadata::ParquetMetaData>,
    full: bool,
) -> Result<(Vec<Piece>, ContentHash)> {
    let source = &inputs[segment.input];
    let mut hash = ContentHash::default();
    match full {
        true => {
            segment.decode(shape, source)?.try_for_each(|batch| Ok::<_, MaintenanceError>(hash.add(&batch?.0, &source.seen)?))?
        }
        false => hash = ContentHash::counted(segment.rows.end - segment.rows.start),
    }
    let RowGroupSpan { input, fetched, rows, .. } = segment;
    let row_group = fetched.row_groups().start;
    let group = fetched.footer().row_group(row_group);
    let mut lineage = Vec::new();
    if shape.lineage && group.num_columns() == shape.table_leaves() {
        let mut encoder = shape.lineage_encoder()?;
        let mut at = rows.start;
        while at < rows.end {
            let end = (at + BATCH_ROWS as u64).min(rows.end);
            encoder.write(&source.lineage().of_rows(at..end)?, 1)?;
            at = end;
        }
        lineage = encoder.finish()?.chunks;
    }
    let whole = fetched.footer().num_row_groups() == 1;
    let nans = shape.nan_counts_of_copy(&source.file.file, whole);
    let run = Run { input, rows, deleted: None, first: 0 };
    let group = RowGroup::Copied { source: Arc::new(fetched), row_group, index, lineage };
    Ok((vec![Piece { group, placed: vec![run], nans }], hash))
}

/// Puts row groups into files.
pub(crate) struct Assembly<'a> {
    context: &'a JobContext,
    shape: &'a Arc<ParquetLayout>,
    target: &'a OutputTarget,
    total_in: u64,
    bytes_in: u64,
    bytes_out: u64,
    output: Option<OutputFile>,
    written: Vec<WrittenFile>,
}

impl<'a> Assembly<'a> {
    /// For input of so many bytes in all.
    pub(crate) const fn new(
        context: &'a JobContext,
        shape: &'a Arc<ParquetLayout>,
        target: &'a OutputTarget,
        total_in: u64,
    ) -> Self {
        Self { context, shape, target, total_in, bytes_in: 0, bytes_out: 0, output: None, written: Vec::new() }
    }

    /// The number of the file that the next row group goes into, and the rows that it has.
    fn place(&self) -> (usize, u64) {
        (self.written.len(), self.output.as_ref().map_or(0, |output| output.rows))
    }

    /// Adds a row group that so many bytes of the input became.
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
        // The last file takes what is left, so that an estimate a little too low does not leave a small one.
        let last_one = self.written.len() as u64 + 1 >= files && output.bytes() + last < self.target.max_bytes;
        if output.bytes() + last / 2 >= share && !last_one {
            self.written.push(output.close().await?);
        } else {
            self.output = Some(output);
        }
        Ok(())
    }

    /// Bytes of each file, so that all are of about the same size, and their number: what is expected in all, by what has come out
    /// so far, shared among as many files as that needs.
    fn share(&self) -> (u64, u64) {
        let expected = self.bytes_out as f64 * (self.total_in as f64 / self.bytes_in.max(1) as f64).max(1.0);
        let expected = expected as u64;
        let files = number_of_files(expected, self.target.file_bytes, self.target.max_bytes);
        (expected / files, files)
    }

    pub(crate) async fn finish(mut self) -> Result<Vec<WrittenFile>> {
        if let Some(output) = self.output.take() {
            self.written.push(output.close().await?);
        }
        Ok(self.written)
    }
}

/// As many files as the target size asks for, or one less where the rest would make a small file and fits into the others.
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
