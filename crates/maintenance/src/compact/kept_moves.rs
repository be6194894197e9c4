//! The mapping of rows that outlives a compaction: late commits of clients delete rows of the replaced files, and their deletes
//! follow the rows into the new ones.
//!
//! It is one file for each commit of a job, beside the table's metadata. The commit quarantines it for an hour, so nothing but the
//! sweep removes it. Start reading at [`keep_moves`].

use std::io;
use std::sync::Arc;

use esker_catalog::Proposal;
use esker_format::TableMetadata;
use esker_state::TabularRow;
use esker_table::{RowMoves, row_moves_path};
use esker_types::{DurationMillis, now_ms};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::commit::WrittenGroup;
use crate::Result;
use crate::context::JobContext;

/// The time for which a mapping is kept, in milliseconds.
const KEPT_MS: DurationMillis = 60 * 60 * 1000;

/// The greatest number of runs in a mapping. More would be a file that is larger than those that are read.
const MAX_RUNS: usize = 500_000;

/// A mapping whose file is written.
#[derive(Debug, Clone)]
pub(crate) struct KeptMoves {
    /// The name of the file, which the summary of the snapshot has.
    pub(crate) name: String,
    path: String,
    bytes: u64,
}

impl KeptMoves {
    /// Adds to the proposal of a commit that the file goes after its time.
    pub(crate) fn add_to(&self, proposal: &mut Proposal, row: &TabularRow) {
        let reason = "late commits could follow the rows that a compaction moved";
        let due_ms = now_ms().saturating_add(KEPT_MS);
        proposal.records.quarantine.push(row.quarantine(self.path.clone(), Some(self.bytes), reason, None, due_ms));
        proposal.records.settled_outputs.push(self.path.clone());
    }
}

/// Writes where the rows of some groups went. Returns `None` if that is too much to be kept, or can't be written.
///
/// The compaction goes on without it: then late deletes by position in the replaced files are refused.
pub(crate) async fn keep_moves(
    context: &JobContext,
    metadata: &TableMetadata,
    groups: &[Arc<WrittenGroup>],
) -> Option<KeptMoves> {
    match write_moves(context, metadata, groups.to_vec()).await {
        Ok(kept) => kept,
        Err(error) => {
            context.progress.log(format!("where rows went is not kept for late commits: {error}"));
            None
        }
    }
}

/// Writes the mapping of some groups, unless it is too large.
async fn write_moves(
    context: &JobContext,
    metadata: &TableMetadata,
    groups: Vec<Arc<WrittenGroup>>,
) -> Result<Option<KeptMoves>> {
    // The mapping of sorted rows is read from disk, which must not block the thread that serves requests.
    let Some(moves) = spawn_blocking(move || moves_of(&groups)).await?? else { return Ok(None) };
    let Some(file) = moves.encode()? else { return Ok(None) };
    let name = format!("rows-{}-{}.json", context.job, Uuid::now_v7());
    let (path, bytes) = (row_moves_path(metadata, &name), file.len() as u64);
    context.write(&path, file.into()).await?;
    Ok(Some(KeptMoves { name, path, bytes }))
}

/// Collects the runs of some groups; `None` if there are too many.
fn moves_of(groups: &[Arc<WrittenGroup>]) -> io::Result<Option<RowMoves>> {
    let mut all = RowMoves::default();
    for group in groups {
        let offsets = (all.inputs.len(), all.outputs.len());
        let Some(runs) = group.row_mapping.runs(MAX_RUNS - all.runs.len())? else { return Ok(None) };
        all.inputs.extend(group.removed.iter().map(|live| live.file.file_path.clone()));
        all.outputs.extend(group.added.iter().map(|file| file.file_path.clone()));
        all.runs.extend(runs.into_iter().map(|mut run| {
            (run.input, run.output) = (run.input + offsets.0, run.output + offsets.1);
            run
        }));
    }
    Ok(Some(all))
}
