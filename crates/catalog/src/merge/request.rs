//! The rules that a request must keep so that its snapshots may be built again, by the request and the metadata alone.
//!
//! Start reading at [`SentCommit::of`].

use esker_format::{
    CommitContext, FormatError, MAIN_BRANCH, Snapshot, SnapshotRef, SnapshotReference, TableMetadata, TableRequirement,
    TableUpdate, apply,
};
use esker_table::{LateCommit, MergeRule, REBASED_LIST, Refusal, ancestors, list_name};
use esker_types::now_ms;

use super::writers::same_writer;
use crate::Proposal;
use crate::cache::manifest_list_paths;

/// The summary keys of staged snapshots, and of those that were published from staged ones.
const STAGED: [&str; 3] = ["wap.id", "source-snapshot-id", "published-wap-id"];

/// Returns the error that a commit fails with because it is late; `None` if it is not late, or fails for another reason.
///
/// A commit is late if its branch has moved, or if another branch took its sequence number or its row ids.
pub(super) fn conflict<'a>(metadata: &TableMetadata, proposal: &'a Proposal) -> Option<FormatError> {
    let is_snapshot = |update: &TableUpdate| matches!(update, TableUpdate::AddSnapshot { .. });
    if !proposal.updates.iter().any(is_snapshot) {
        return None;
    }
    let failure = |requirement: &'a TableRequirement| Some((requirement, requirement.check(metadata).err()?));
    let mut failed = proposal.requirements.iter().filter_map(failure);
    match (failed.next(), failed.next()) {
        (Some((TableRequirement::AssertRefSnapshotId { .. }, error)), None) => Some(error),
        (Some(_), _) => None,
        (None, _) if !proposal.updates.iter().any(|update| is_stale(metadata, update)) => None,
        (None, _) => {
            let at = CommitContext { now_ms: now_ms(), metadata_file: None };
            apply(metadata, &proposal.updates, at).err().filter(|error| matches!(error, FormatError::StaleSnapshot(_)))
        }
    }
}

/// Checks whether an update adds a snapshot whose sequence number or first row id is behind the table's.
fn is_stale(metadata: &TableMetadata, update: &TableUpdate) -> bool {
    let TableUpdate::AddSnapshot { snapshot } = update else { return false };
    let is_behind = metadata.format_version > 1 && snapshot.sequence_number() <= metadata.last_sequence_number;
    let next_row_id = metadata.next_row_id.unwrap_or(0);
    is_behind || metadata.format_version >= 3 && snapshot.first_row_id.is_some_and(|first| first < next_row_id)
}

/// A late commit as its client sent it, of a form that may be built again.
#[derive(Debug)]
pub(super) struct SentCommit<'a> {
    pub(super) late: LateCommit<'a>,
    /// The branch as the client sets it.
    pub(super) reference: &'a SnapshotReference,
    /// The updates that set statistics of the new snapshots.
    pub(super) statistics: Vec<&'a TableUpdate>,
    /// True if the snapshots are in the branch already.
    pub(super) was_applied: bool,
}

impl<'a> SentCommit<'a> {
    /// Checks the form of a late commit, and its place in the table's history.
    ///
    /// # Errors
    ///
    /// Returns the first rule that the commit breaks.
    pub(super) fn of(metadata: &'a TableMetadata, proposal: &'a Proposal) -> Result<Self, Refusal> {
        let (branch, base) = asserted_branch(proposal)?;
        let Updates { chain, reference, statistics } = updates_of(proposal, branch, base)?;
        check_reference(metadata, branch, reference)?;
        let head = metadata.snapshot_for_ref(branch);
        let was_applied = was_applied(metadata, head, &chain)?;
        // The base of a commit that was made may be gone since.
        let known = base.and_then(|id| metadata.snapshots.get(id));
        let mut since = Vec::new();
        if !was_applied {
            check_staged(&chain)?;
            since = since_base(metadata, branch, head, base)?;
        }
        let late = LateCommit { branch, base: known.map(AsRef::as_ref), head: head.map(AsRef::as_ref), since, chain };
        Ok(Self { late, reference, statistics, was_applied })
    }

    /// Checks that no exactly-once writer of the commit has committed since its base. `further` are keys that name such writers.
    ///
    /// # Errors
    ///
    /// Returns the refusal of [`MergeRule::WriterKey`] if one has.
    pub(super) fn check_writers(&self, further: &[String]) -> Result<(), Refusal> {
        for sent in &self.late.chain {
            for made in &self.late.since {
                if let Some(key) = same_writer(sent, made, further) {
                    let what = format!("snapshot {} is of the same writer, by {key}", made.snapshot_id);
                    return Err(MergeRule::WriterKey.refuse(what));
                }
            }
        }
        Ok(())
    }
}

/// Returns the snapshots of a branch since the base of a commit, the newest first.
fn since_base<'a>(
    metadata: &'a TableMetadata,
    branch: &str,
    head: Option<&'a SnapshotRef>,
    base: Option<i64>,
) -> Result<Vec<&'a Snapshot>, Refusal> {
    let is_later = |snapshot: &&SnapshotRef| Some(snapshot.snapshot_id) != base;
    let since: Vec<&SnapshotRef> = ancestors(metadata, head).take_while(is_later).collect();
    let is_ancestor = match base {
        Some(id) => ancestors(metadata, head).any(|snapshot| snapshot.snapshot_id == id),
        None => since.last().is_none_or(|oldest| oldest.parent_snapshot_id.is_none()),
    };
    if is_ancestor {
        return Ok(since.into_iter().map(AsRef::as_ref).collect());
    }
    let base = base.map_or_else(|| "the empty table".to_owned(), |id| format!("snapshot {id}"));
    Err(MergeRule::Ancestor.refuse(format!("{base} is no ancestor of the head of {branch} any more")))
}

/// Returns the branch that the requirements name, and the snapshot that it must be at.
fn asserted_branch(proposal: &Proposal) -> Result<(&str, Option<i64>), Refusal> {
    let is_uuid = |requirement: &TableRequirement| matches!(requirement, TableRequirement::AssertTableUuid { .. });
    if !proposal.requirements.iter().any(is_uuid) {
        return Err(MergeRule::Requirements.refuse("it does not assert the UUID of the table"));
    }
    let mut branches = proposal.requirements.iter().filter_map(|requirement| match requirement {
        TableRequirement::AssertRefSnapshotId { name, snapshot_id } => Some((name.as_str(), *snapshot_id)),
        _ => None,
    });
    match (branches.next(), branches.next()) {
        (Some(branch), None) => Ok(branch),
        _ => Err(MergeRule::Requirements.refuse("it does not assert exactly one branch")),
    }
}

/// The updates of a commit that may be built again.
struct Updates<'a> {
    chain: Vec<&'a Snapshot>,
    reference: &'a SnapshotReference,
    statistics: Vec<&'a TableUpdate>,
}

/// Sorts the updates of a commit: snapshots in a chain from the base on, the branch that moves to the last one, and statistics.
fn updates_of<'a>(proposal: &'a Proposal, branch: &str, base: Option<i64>) -> Result<Updates<'a>, Refusal> {
    let refused = |why: &str| Err(MergeRule::Updates.refuse(why));
    let (mut chain, mut set, mut statistics): (Vec<&Snapshot>, Option<&SnapshotReference>, Vec<&TableUpdate>) =
        (Vec::new(), None, Vec::new());
    for update in &proposal.updates {
        match update {
            TableUpdate::AddSnapshot { snapshot } => {
                let parent = chain.last().map_or(base, |before| Some(before.snapshot_id));
                if snapshot.parent_snapshot_id != parent {
                    return refused("its snapshots are no chain that begins at the asserted snapshot");
                }
                chain.push(snapshot);
            }
            TableUpdate::SetSnapshotRef { ref_name, reference } if ref_name == branch && set.is_none() => set = Some(reference),
            TableUpdate::SetStatistics { .. } | TableUpdate::SetPartitionStatistics { .. } => statistics.push(update),
            _ => return refused("it changes more of the table than its branch and the snapshots of that"),
        }
    }
    let (Some(reference), Some(last)) = (set, chain.last()) else { return refused("it does not move the asserted branch") };
    if reference.snapshot_id != last.snapshot_id {
        return refused("the branch does not move to the last of its snapshots");
    }
    let mut ids = statistics.iter().filter_map(|update| statistics_of(update));
    if ids.any(|id| !chain.iter().any(|snapshot| snapshot.snapshot_id == id)) {
        return refused("it sets statistics of another snapshot");
    }
    Ok(Updates { chain, reference, statistics })
}

/// Returns the snapshot that an update sets statistics of.
fn statistics_of(update: &TableUpdate) -> Option<i64> {
    match update {
        TableUpdate::SetStatistics { statistics } => Some(statistics.snapshot_id),
        TableUpdate::SetPartitionStatistics { partition_statistics } => Some(partition_statistics.snapshot_id),
        _ => None,
    }
}

/// Checks that a branch moves and stays the same otherwise.
fn check_reference(metadata: &TableMetadata, branch: &str, reference: &SnapshotReference) -> Result<(), Refusal> {
    let own = metadata.refs.get(branch);
    if !reference.is_branch() || own.is_some_and(|own| !own.is_branch()) {
        return Err(MergeRule::Branch.refuse(format!("{branch} is no branch")));
    }
    let Some(own) = own else {
        // Then the commit is not late but for its numbers, or the branch was removed.
        return Ok(());
    };
    if *own != (SnapshotReference { snapshot_id: own.snapshot_id, ..reference.clone() }) {
        return Err(MergeRule::Updates.refuse(format!("it changes how long snapshots of {branch} are kept")));
    }
    if branch == MAIN_BRANCH && metadata.current_snapshot_id != Some(own.snapshot_id) {
        return Err(MergeRule::Branch.refuse("main and the table's current snapshot differ"));
    }
    Ok(())
}

/// Checks whether the snapshots of a commit are in the branch already, because the request was sent before.
///
/// A snapshot that was rebased has another manifest list than its client's, and the name of that in its summary.
fn was_applied(metadata: &TableMetadata, head: Option<&SnapshotRef>, chain: &[&Snapshot]) -> Result<bool, Refusal> {
    let Some(taken) = chain.iter().find(|sent| metadata.snapshots.get(sent.snapshot_id).is_some()) else { return Ok(false) };
    let is_there = |sent: &&Snapshot| {
        let made = ancestors(metadata, head).find(|snapshot| snapshot.snapshot_id == sent.snapshot_id);
        made.is_some_and(|made| {
            let is_same = manifest_list_paths(made) == manifest_list_paths(sent);
            is_same || list_name(sent).is_some_and(|name| made.summary_value(REBASED_LIST) == Some(name))
        })
    };
    match chain.iter().all(is_there) {
        true => Ok(true),
        false => Err(MergeRule::SnapshotId.refuse(format!("the table has a snapshot {} already", taken.snapshot_id))),
    }
}

/// Checks that no snapshot of a commit is staged, or was published from a staged one.
fn check_staged(chain: &[&Snapshot]) -> Result<(), Refusal> {
    for sent in chain {
        if let Some(key) = STAGED.into_iter().find(|key| sent.summary_value(key).is_some()) {
            return Err(MergeRule::Staged.refuse(format!("snapshot {} has the key {key}", sent.snapshot_id)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
