//! The mapping from rows of replaced files to rows of new files. Position deletes that land meanwhile follow their rows by it.
//!
//! If the rows keep their order, a few runs describe it. If they were sorted, the origin of each row is in a sidecar file on local
//! disk. Start reading at [`RowMapping::follow`].

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

use esker_read::positions_in;
use esker_table::MovedRun;
use roaring::RoaringTreemap;

/// A run of neighbouring rows of an input that are neighbours in an output.
#[derive(Debug, Clone)]
pub(crate) struct MappedRun {
    /// Index of the input in its group.
    pub(crate) input: usize,
    /// Positions in the input, including deleted rows.
    pub(crate) rows: Range<u64>,
    /// Positions of the input that were deleted already, and so have no row in the output.
    pub(crate) deleted: Option<Arc<RoaringTreemap>>,
    /// Index of the output in its group.
    pub(crate) output: usize,
    /// Position in the output of the first row that is not deleted.
    pub(crate) first: u64,
}

/// Counts the positions of a set below `end`.
fn count_below(set: &RoaringTreemap, end: u64) -> u64 {
    end.checked_sub(1).map_or(0, |last| set.rank(last))
}

/// Counts the positions of a set in a range.
fn count_in(set: &RoaringTreemap, range: &Range<u64>) -> u64 {
    count_below(set, range.end) - count_below(set, range.start)
}

/// Deleted positions by index of the file in its group.
pub(crate) type ByNumber = HashMap<usize, RoaringTreemap>;

/// The mapping from rows of a group's inputs to rows of its outputs.
#[derive(Debug)]
pub(crate) enum RowMapping {
    /// Rows kept their order: runs of neighbouring rows.
    Runs(Vec<MappedRun>),
    /// Rows were sorted: the origin of each output row, on disk, in the order of outputs and rows.
    Sorted(Sidecar),
}

impl RowMapping {
    /// Maps deleted positions of inputs to positions in outputs. Rows that were deleted before the rewrite are in no output.
    ///
    /// # Errors
    ///
    /// Returns the error of reading the sidecar.
    pub(crate) fn follow(&self, deleted: &ByNumber) -> io::Result<ByNumber> {
        let mut moved = ByNumber::new();
        match self {
            Self::Runs(runs) => {
                for run in runs {
                    let Some(positions) = deleted.get(&run.input) else { continue };
                    for position in positions_in(positions, &run.rows) {
                        let gone = run.deleted.as_deref();
                        if gone.is_some_and(|d| d.contains(position)) {
                            continue;
                        }
                        let before = gone.map_or(0, |d| count_in(d, &(run.rows.start..position)));
                        let at = run.first + (position - run.rows.start) - before;
                        moved.entry(run.output).or_default().insert(at);
                    }
                }
            }
            Self::Sorted(sidecar) => sidecar.each(|output, at, input, position| {
                if deleted.get(&input).is_some_and(|d| d.contains(position)) {
                    moved.entry(output).or_default().insert(at);
                }
                ControlFlow::Continue(())
            })?,
        }
        Ok(moved)
    }

    /// Returns the mapping as runs of rows that are neighbours before and after; `None` if there are more than `most`.
    ///
    /// # Errors
    ///
    /// Returns the error of reading the sidecar.
    pub(crate) fn runs(&self, most: usize) -> io::Result<Option<Vec<MovedRun>>> {
        let mut found = RunCollector { runs: Vec::new(), most, is_over: false };
        match self {
            Self::Runs(runs) => {
                for run in runs {
                    let (mut start, mut first) = (run.rows.start, run.first);
                    for gone in run.deleted.iter().flat_map(|deleted| positions_in(deleted, &run.rows)) {
                        found.add(run.input, start..gone, run.output, first);
                        (start, first) = (gone + 1, first + (gone - start));
                    }
                    found.add(run.input, start..run.rows.end, run.output, first);
                }
            }
            Self::Sorted(sidecar) => {
                sidecar.each(|output, at, input, position| {
                    found.add(input, position..position + 1, output, at);
                    // The mapping of a large sort has gigabytes.
                    if found.is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })?;
            }
        }
        Ok(Some(found.runs).filter(|_| !found.is_over))
    }
}

/// Collects runs, and joins those that are neighbours.
struct RunCollector {
    runs: Vec<MovedRun>,
    most: usize,
    /// True if there were more than `most` runs. No further ones are kept.
    is_over: bool,
}

impl RunCollector {
    /// Adds rows of an input that are in an output from the position `first` on.
    fn add(&mut self, input: usize, rows: Range<u64>, output: usize, first: u64) {
        let n = rows.end.saturating_sub(rows.start);
        if n == 0 || self.is_over {
            return;
        }
        if let Some(last) = self.runs.last_mut()
            && (last.input, last.start + last.rows, last.output, last.first + last.rows) == (input, rows.start, output, first)
        {
            last.rows += n;
            return;
        }
        self.is_over = self.runs.len() >= self.most;
        if !self.is_over {
            self.runs.push(MovedRun { input, start: rows.start, rows: n, output, first });
        }
    }
}

/// The origins of sorted rows, in an unnamed temporary file.
///
/// Each row takes 12 bytes: the index of its input (4 bytes) and its position there (8 bytes), little-endian.
#[derive(Debug)]
pub(crate) struct Sidecar {
    file: File,
    /// Number of rows of each output, in order.
    pub(crate) outputs: Vec<u64>,
}

/// The writer of a sidecar.
#[derive(Debug)]
pub(crate) struct SidecarWriter(BufWriter<File>);

impl SidecarWriter {
    /// Creates the file in a directory.
    pub(crate) fn create(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self(BufWriter::with_capacity(1 << 20, tempfile::tempfile_in(dir)?)))
    }

    /// Appends the origin of the next row.
    pub(crate) fn push(&mut self, input: u32, position: u64) -> io::Result<()> {
        self.0.write_all(&input.to_le_bytes())?;
        self.0.write_all(&position.to_le_bytes())
    }

    /// Ends writing. `outputs` is the number of rows of each output, in order.
    pub(crate) fn finish(self, outputs: Vec<u64>) -> io::Result<Sidecar> {
        Ok(Sidecar { file: self.0.into_inner().map_err(|e| e.into_error())?, outputs })
    }
}

impl Sidecar {
    /// Calls `row` for each row, with its output, its position there, its input, and its position in the input, until it breaks.
    fn each(&self, mut row: impl FnMut(usize, u64, usize, u64) -> ControlFlow<()>) -> io::Result<()> {
        let mut file = &self.file;
        file.rewind()?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let (mut input, mut position) = ([0; 4], [0; 8]);
        for (output, rows) in self.outputs.iter().enumerate() {
            for at in 0..*rows {
                reader.read_exact(&mut input)?;
                reader.read_exact(&mut position)?;
                let (input, position) = (u32::from_le_bytes(input) as usize, u64::from_le_bytes(position));
                if row(output, at, input, position).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts that the runs that are kept for late commits lead `late` to `expected`, and that neighbours are one run.
    fn assert_kept(mapping: &RowMapping, late: &ByNumber, expected: &ByNumber) {
        let kept = mapping.runs(1000).expect("read").expect("few");
        let mut followed = ByNumber::new();
        for run in &kept {
            let Some(positions) = late.get(&run.input) else { continue };
            for position in positions_in(positions, &(run.start..run.start + run.rows)) {
                followed.entry(run.output).or_default().insert(run.first + position - run.start);
            }
        }
        assert_eq!(followed, *expected);
        let most = kept.len();
        assert!(mapping.runs(most).expect("read").is_some());
        assert_eq!(mapping.runs(most.saturating_sub(1)).expect("read").is_some(), most == 0);
    }

    proptest::proptest! {
        /// The model keeps the rows themselves; both kinds of mapping agree with it.
        #[test]
        fn deletes_follow_rows(
            sizes in proptest::collection::vec(1_u64..30, 1..4),
            gone in proptest::collection::vec((0_usize..4, 0_u64..30), 0..20),
            late in proptest::collection::vec((0_usize..4, 0_u64..30), 0..20),
            cut in 1_u64..20,
        ) {
            let set = |pairs: &[(usize, u64)]| {
                let mut by = ByNumber::new();
                for (file, position) in pairs.iter().filter(|(f, p)| sizes.get(*f).is_some_and(|n| p < n)) {
                    by.entry(*file).or_default().insert(*position);
                }
                by
            };
            let (gone, late) = (set(&gone), set(&late));
            // The model: rows in order, `cut` of them to an output.
            let left = |f: usize, p: u64| !gone.get(&f).is_some_and(|d| d.contains(p));
            let rows: Vec<(usize, u64)> = sizes.iter().enumerate()
                .flat_map(|(f, n)| (0..*n).map(move |p| (f, p))).filter(|(f, p)| left(*f, *p)).collect();
            let mut expected = ByNumber::new();
            for (i, (f, p)) in rows.iter().enumerate() {
                if late.get(f).is_some_and(|d| d.contains(*p)) {
                    let i = i as u64;
                    expected.entry((i / cut) as usize).or_default().insert(i % cut);
                }
            }
            // Runs: each input in pieces that end where an output does.
            let mut runs = Vec::new();
            let mut written = 0;
            for (input, n) in sizes.iter().enumerate() {
                let deleted = gone.get(&input).cloned().map(Arc::new);
                let mut start = 0;
                while start < *n {
                    let mut end = start;
                    let mut kept = 0;
                    while end < *n && written % cut + kept < cut {
                        kept += u64::from(left(input, end));
                        end += 1;
                    }
                    let output = (written / cut) as usize;
                    runs.push(MappedRun { input, rows: start..end, deleted: deleted.clone(), output, first: written % cut });
                    written += kept;
                    start = end;
                }
            }
            let runs = RowMapping::Runs(runs);
            proptest::prop_assert_eq!(&runs.follow(&late).expect("followed"), &expected);

            let dir = tempfile::tempdir().expect("a directory");
            let mut sidecar = SidecarWriter::create(dir.path()).expect("created");
            for (f, p) in &rows {
                sidecar.push(*f as u32, *p).expect("pushed");
            }
            let outputs = rows.chunks(cut as usize).map(|c| c.len() as u64).collect();
            let moves = RowMapping::Sorted(sidecar.finish(outputs).expect("finished"));
            proptest::prop_assert_eq!(&moves.follow(&late).expect("followed"), &expected);

            [&runs, &moves].into_iter().for_each(|mapping| assert_kept(mapping, &late, &expected));
        }
    }
}
