//! The content of a commit: what a client or a job proposes, how it is computed, and what became of it.
//!
//! A client's [`Proposal`] is fixed. Maintenance and SQL implement [`Rebase`], which computes the proposal at the commit point.

use esker_format::{Snapshot, TableRequirement, TableUpdate};
use esker_state::{MergedSnapshot, NewQuarantine};
use esker_table::MergeClass;
use futures::future::BoxFuture;

use crate::{Actor, LoadedTable, Restored, Result};

/// The requirements and updates of one commit, with what is recorded in the same transaction.
#[derive(Debug, Clone, Default)]
pub struct Proposal {
    /// Conditions that the table must meet.
    pub requirements: Vec<TableRequirement>,
    /// Changes to the metadata, in order.
    pub updates: Vec<TableUpdate>,
    /// Snapshots to bring back. If set, `updates` must be those of [`Restored::updates`].
    pub restore: Option<Box<Restored>>,
    /// Records of the commit's transaction.
    pub records: CommitRecords,
    /// Author of the change, with the idempotency key of the request.
    pub actor: Actor,
}

impl Proposal {
    /// Iterates over the snapshots that the proposal adds, in order.
    pub fn added_snapshots(&self) -> impl DoubleEndedIterator<Item = &Snapshot> {
        self.updates.iter().filter_map(|update| match update {
            TableUpdate::AddSnapshot { snapshot } => Some(snapshot),
            _ => None,
        })
    }
}

/// What a commit records about files, in the transaction that swaps the pointer.
#[derive(Debug, Clone, Default)]
pub struct CommitRecords {
    /// Files that the change leaves unreferenced, to be put into quarantine.
    pub quarantine: Vec<NewQuarantine>,
    /// Paths of pending outputs that become part of the table.
    pub settled_outputs: Vec<String>,
    /// Paths of files that belong to the table again, to be released from quarantine.
    pub restored: Vec<String>,
    /// Receipts of the snapshots of a late commit that was merged.
    pub merged: Vec<MergedSnapshot>,
}

impl CommitRecords {
    /// Adds the records of another commit of the same batch.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.quarantine.append(&mut other.quarantine);
        self.settled_outputs.append(&mut other.settled_outputs);
        self.restored.append(&mut other.restored);
        self.merged.append(&mut other.merged);
    }
}

/// A change that is computed on the table as it is at the commit point.
///
/// Concurrent appends therefore never make it fail.
pub trait Rebase: Send + Sync {
    /// What the caller learns of the change beside the new state of the table, such as the number of deletes that it carried over.
    ///
    /// It comes from the call of [`Rebase::propose`] whose proposal was committed.
    type Effect: Default + Send;

    /// Computes the change on this state of the table, with its effect. Called again if the pointer swap is lost.
    ///
    /// # Errors
    ///
    /// Returns the error of the implementation. It fails this commit, not the others of its batch.
    fn propose<'a>(&'a self, table: &'a LoadedTable) -> BoxFuture<'a, Result<(Proposal, Self::Effect)>>;
}

/// A table after a commit, with the size of the batch.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The table with the metadata after the whole batch.
    pub table: LoadedTable,
    /// Number of commits in the batch, including those that failed or changed nothing.
    pub batch: usize,
    /// Class of the commit, if it was late and was merged.
    pub merged: Option<MergeClass>,
}
