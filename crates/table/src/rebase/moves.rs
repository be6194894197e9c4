//! The mapping of rows that a compaction keeps for late commits: where the rows of replaced data files are now.
//!
//! A compaction writes it as one file beside the table's metadata, names the file in the summary of its snapshot, and quarantines it
//! for the time that it is kept. Start reading at [`RowMoves::follow`].

use std::collections::{BTreeMap, HashMap};

use esker_format::{Snapshot, TableMetadata};
use esker_storage::Storage;
use futures::FutureExt;
use futures::stream::StreamExt;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};

use crate::{LiveFile, Result, TableError, metadata_dir};

/// The summary key of the name of the file with the mapping, in the table's directory of metadata files.
pub const ROW_MOVES: &str = "esker.row-moves";

/// The greatest size of a file with a mapping, in bytes. A larger mapping is not kept, nor read.
const MAX_ROW_MOVES_BYTES: u64 = 16 << 20;

/// The number of mappings that are read for one commit, the newest first. A snapshot names its mapping long after that is gone.
const MAX_MAPPINGS: usize = 256;

/// The greatest total size of these mappings, in bytes. Rows are not followed through older ones.
const MAX_READ_BYTES: u64 = 4 * MAX_ROW_MOVES_BYTES;

/// The number of mappings that are read at the same time.
const CONCURRENT_MAPPINGS: usize = 4;

/// The number of mappings that rows are followed through. Files that lead in a circle end there too.
const MAX_STEPS: usize = 10_000;

/// A run of neighbouring rows of a replaced file that are neighbours in a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(usize, u64, u64, usize, u64)", into = "(usize, u64, u64, usize, u64)")]
pub struct MovedRun {
    /// The index of the replaced file in [`RowMoves::inputs`].
    pub input: usize,
    /// The position of the first row in the replaced file.
    pub start: u64,
    /// The number of rows.
    pub rows: u64,
    /// The index of the new file in [`RowMoves::outputs`].
    pub output: usize,
    /// The position of the first row in the new file.
    pub first: u64,
}

impl From<(usize, u64, u64, usize, u64)> for MovedRun {
    fn from((input, start, rows, output, first): (usize, u64, u64, usize, u64)) -> Self {
        Self { input, start, rows, output, first }
    }
}

impl From<MovedRun> for (usize, u64, u64, usize, u64) {
    fn from(run: MovedRun) -> Self {
        (run.input, run.start, run.rows, run.output, run.first)
    }
}

/// The rows of replaced data files that are in new ones. A row in no run had been deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowMoves {
    /// The paths of the replaced files.
    pub inputs: Vec<String>,
    /// The paths of the new files.
    pub outputs: Vec<String>,
    /// The runs, in any order.
    pub runs: Vec<MovedRun>,
}

impl RowMoves {
    /// Encodes the mapping. Returns `None` if it is too large to be kept.
    ///
    /// # Errors
    ///
    /// Returns [`TableError::Invalid`] if the mapping cannot be encoded.
    pub fn encode(&self) -> Result<Option<Vec<u8>>> {
        let bytes =
            serde_json::to_vec(self).map_err(|e| TableError::Invalid(format!("a mapping of rows can't be encoded: {e}")))?;
        Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= MAX_ROW_MOVES_BYTES))
    }

    /// Returns where the rows at some positions of a replaced file are now, by new file. `None` if the mapping is of other files.
    fn follow(&self, path: &str, positions: &RoaringTreemap) -> Option<HashMap<String, RoaringTreemap>> {
        let input = self.inputs.iter().position(|input| input == path)?;
        let mut runs: Vec<&MovedRun> = self.runs.iter().filter(|run| run.input == input).collect();
        runs.sort_unstable_by_key(|run| run.start);
        let mut found: HashMap<String, RoaringTreemap> = HashMap::new();
        for position in positions {
            let before = runs.partition_point(|run| run.start <= position);
            let Some(run) = before.checked_sub(1).and_then(|at| runs.get(at)) else { continue };
            let offset = position - run.start;
            if let Some(output) = self.outputs.get(run.output).filter(|_| offset < run.rows) {
                found.entry(output.clone()).or_default().insert(run.first.saturating_add(offset));
            }
        }
        Some(found)
    }
}

/// Returns the locations of the mappings that snapshots name. Only files beside the table's metadata are read.
pub(super) fn kept_moves(metadata: &TableMetadata, snapshots: &[&Snapshot]) -> Vec<String> {
    let names = snapshots.iter().filter_map(|snapshot| snapshot.summary_value(ROW_MOVES));
    let names = names.filter(|name| !name.contains(['/', '\\']));
    names.map(|name| row_moves_path(metadata, name)).collect()
}

/// Returns the location of a file with a mapping.
pub fn row_moves_path(metadata: &TableMetadata, name: &str) -> String {
    format!("{}/{name}", metadata_dir(&metadata.location, &metadata.properties))
}

/// Reads mappings, given the newest first. One that can't be read counts as not kept any more: then its rows can't be followed.
pub(super) async fn load_moves(storage: &Storage, paths: &[String]) -> Vec<RowMoves> {
    let reads: Vec<_> = paths.iter().take(MAX_MAPPINGS).map(|path| read_moves(storage, path).boxed()).collect();
    let mut reads = futures::stream::iter(reads).buffered(CONCURRENT_MAPPINGS);
    let (mut found, mut room) = (Vec::new(), MAX_READ_BYTES);
    while let Some(read) = reads.next().await {
        let Some((moves, size)) = read else { continue };
        let Some(left) = room.checked_sub(size) else { break };
        room = left;
        found.push(moves);
    }
    found
}

/// Reads a mapping, with the size of its file in bytes.
async fn read_moves(storage: &Storage, path: &str) -> Option<(RowMoves, u64)> {
    let size = storage.size(path).await.ok()??;
    if size > MAX_ROW_MOVES_BYTES {
        return None;
    }
    let bytes = storage.read(path).await.ok()?;
    Some((serde_json::from_slice(&bytes).ok()?, size))
}

/// Follows the rows at some positions of a replaced file into files that are live. Rows that had been deleted are in none.
///
/// Returns `None` if a mapping that leads on is missing.
pub(super) fn follow_rows(
    moves: &[RowMoves],
    live: &HashMap<&str, &LiveFile>,
    path: &str,
    positions: &RoaringTreemap,
) -> Option<BTreeMap<String, RoaringTreemap>> {
    let mut found: BTreeMap<String, RoaringTreemap> = BTreeMap::new();
    let mut waiting = vec![(path.to_owned(), positions.clone())];
    for _ in 0..MAX_STEPS {
        let Some((path, positions)) = waiting.pop() else { return Some(found) };
        if live.contains_key(path.as_str()) {
            *found.entry(path).or_default() |= positions;
        } else {
            waiting.extend(moves.iter().find_map(|moves| moves.follow(&path, &positions))?);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    fn set(positions: &[u64]) -> RoaringTreemap {
        positions.iter().copied().collect()
    }

    #[test]
    fn a_mapping_comes_back_as_it_was_and_leads_to_each_row() {
        let run = |input, start, rows, output, first| MovedRun { input, start, rows, output, first };
        let moves = RowMoves {
            inputs: vec!["a".to_owned(), "b".to_owned()],
            outputs: vec!["x".to_owned(), "y".to_owned()],
            // Row 2 of `a` had been deleted.
            runs: vec![run(0, 3, 2, 0, 2), run(0, 0, 2, 0, 0), run(1, 0, 4, 1, 10)],
        };
        let bytes = moves.encode().expect("encoded").expect("small");
        assert_eq!(serde_json::from_slice::<RowMoves>(&bytes).expect("decoded"), moves);
        let follow = |path: &str, positions: &[u64]| moves.follow(path, &set(positions));
        let at_x = |positions: &[u64]| HashMap::from([("x".to_owned(), set(positions))]);
        assert_eq!(follow("a", &[0, 1, 2, 3, 4, 5]), Some(at_x(&[0, 1, 2, 3])));
        assert_eq!(follow("a", &[2]), Some(HashMap::new()));
        assert_eq!(follow("b", &[3]), Some(HashMap::from([("y".to_owned(), set(&[13]))])));
        assert_eq!(follow("c", &[0]), None);
    }

    /// Most snapshots name mappings that are gone. A client that took hours would have each of them looked for.
    #[test]
    fn of_very_many_mappings_the_newest_are_looked_for() {
        let (dir, storage) = (tempfile::tempdir().expect("a directory"), Storage::local());
        let path = |name: usize| format!("file://{}/{name}.json", dir.path().display());
        let moves = RowMoves { inputs: vec!["a".to_owned()], ..RowMoves::default() };
        let bytes = moves.encode().expect("encoded").expect("small");
        block_on(storage.write(&path(MAX_MAPPINGS), bytes.into())).expect("written");
        let paths: Vec<String> = (0..=MAX_MAPPINGS).map(path).collect();
        assert_eq!(block_on(load_moves(&storage, &paths[1..])), [moves]);
        assert!(block_on(load_moves(&storage, &paths)).is_empty());
    }

    #[test]
    fn a_mapping_that_is_too_large_is_not_kept() {
        let run = MovedRun { input: 0, start: 1 << 40, rows: 1, output: 0, first: 1 << 40 };
        let moves = RowMoves { inputs: Vec::new(), outputs: Vec::new(), runs: vec![run; 600_000] };
        assert!(moves.encode().expect("encoded").is_none());
    }

    #[test]
    fn files_that_lead_in_a_circle_end() {
        let around = |from: &str, to: &str| RowMoves {
            inputs: vec![from.to_owned()],
            outputs: vec![to.to_owned()],
            runs: vec![MovedRun { input: 0, start: 0, rows: 9, output: 0, first: 0 }],
        };
        let moves = [around("a", "b"), around("b", "a")];
        assert_eq!(follow_rows(&moves, &HashMap::new(), "a", &set(&[1])), None);
    }
}
