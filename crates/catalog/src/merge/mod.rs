//! Merging: a client's late commit is built again on the table as it is, if its rules and the table's policy allow it.
//!
//! A commit is late if its branch has moved since the client read it. Without a merge it is answered 409, and the client decides.
//! A merge takes the place of the client's own check, so the result must be one that snapshot isolation permits. For more than a
//! renumbering, the owner of the table must have chosen it. `request` has the rules of the request, `policy` those of the table,
//! and `esker_table::plan_rebase` those of the files. Start reading at [`Catalog::merge_late`].
//!
//! Spec: "Optimistic Concurrency".

mod policy;
mod request;
mod writers;

use std::sync::Arc;
use std::time::Duration;

use esker_format::{FormatError, Snapshot, TableMetadata, TableRequirement, TableUpdate};
use esker_state::{CommitRefusedData, EventData, MergedSnapshot, NewEvent};
use esker_storage::Location;
use esker_table::{
    DeleteFiles, DeletedPositions, LiveDelete, MergeCache, MergeClass, MergeRule, RebasePlan, RebasedCommit, Refusal,
    RowsToDelete, TableError, list_name, plan_rebase,
};
use esker_types::now_ms;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::freeze::Namespaces;
use crate::{Catalog, CatalogError, CommitRecords, LoadedTable, Proposal, Result};

use self::request::{SentCommit, conflict};

pub use policy::{MergePolicies, MergePolicy, MergeSettings};

/// What the merges of one batch have in common, so that it is read once.
#[derive(Debug, Default)]
pub(crate) struct BatchMerges {
    cache: MergeCache,
    /// The properties of the table's namespaces.
    namespaces: Option<Namespaces>,
    /// The events of the commits that were not merged.
    refusals: Vec<NewEvent>,
    /// The time at which the first merge began.
    began: Option<Instant>,
}

impl BatchMerges {
    /// Checks that a merge may begin: the first one, and others within half of the time that commits wait for the table.
    ///
    /// All commits of a batch are answered together. After twice that time, a client is told that the outcome is unknown.
    fn may_begin(&mut self, now: Instant, wait: Duration) -> bool {
        now.saturating_duration_since(*self.began.get_or_insert(now)) <= wait / 2
    }

    /// Takes the events of the commits that were not merged.
    pub(crate) fn take_refusals(&mut self) -> Vec<NewEvent> {
        std::mem::take(&mut self.refusals)
    }
}

/// Makes the error of a catalog that was opened without a reader of delete files.
fn no_delete_files() -> TableError {
    TableError::Unsupported("delete files can't be read here".to_owned())
}

/// The reader of delete files of a catalog that was opened without one.
#[derive(Debug)]
struct NoDeleteFiles;

impl DeleteFiles for NoDeleteFiles {
    fn read_deletes<'a>(
        &'a self,
        _: &'a TableMetadata,
        _: &'a LiveDelete,
    ) -> BoxFuture<'a, esker_table::Result<Arc<DeletedPositions>>> {
        std::future::ready(Err(no_delete_files())).boxed()
    }

    fn encode_positions(&self, _: &RowsToDelete) -> esker_table::Result<Vec<u8>> {
        Err(no_delete_files())
    }
}

/// A commit as it is applied.
#[derive(Debug)]
pub(crate) enum Merge {
    /// As the client sent it.
    AsSent,
    /// Not at all, because it was applied before.
    AppliedBefore,
    /// As it was built again.
    Rebased(Box<Proposal>, MergeClass),
}

/// The reason why a commit is not merged.
enum Stop {
    /// It breaks a rule.
    Refused(Refusal),
    /// Something else failed, which is the answer.
    Failed(CatalogError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<CatalogError> for Stop {
    fn from(error: CatalogError) -> Self {
        Self::Failed(error)
    }
}

/// A commit whose files can't be read or written is refused: its client can try again, and nothing was changed.
impl From<TableError> for Stop {
    fn from(error: TableError) -> Self {
        match error {
            TableError::NotMerged(refusal) => Self::Refused(refusal),
            error => Self::Refused(MergeRule::Unreadable.refuse(error.to_string())),
        }
    }
}

impl Catalog {
    /// Builds a client's commit again if it is late.
    ///
    /// The caller has called [`Catalog::authorize_commit`]. The files of a commit that was built again are written and recorded.
    ///
    /// # Errors
    ///
    /// Returns [`NotMerged`](CatalogError::NotMerged) if the table's policy asks for merges and the commit breaks a rule, and
    /// [`Conflict`](CatalogError::Conflict) if its manifest list is in quarantine or deleted. Returns
    /// [`Busy`](CatalogError::Busy) if the merges before it in its batch took too long, and [`State`](CatalogError::State) if the
    /// database fails.
    pub(crate) async fn merge_late(&self, table: &LoadedTable, proposal: &Proposal, batch: &mut BatchMerges) -> Result<Merge> {
        let Some(conflict) = conflict(&table.metadata, proposal) else { return Ok(Merge::AsSent) };
        let refusal = match self.try_merge(table, proposal, batch).await {
            Ok(merge) => return Ok(merge),
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Refused(refusal)) => refusal,
        };
        // Without the policy, a conflict is answered as if there were no merges.
        if self.merge_settings(table, batch).await?.policy == MergePolicy::Off {
            return Ok(Merge::AsSent);
        }
        let (name, rule) = (&table.row.name, refusal.rule.name());
        tracing::info!(table = %name, rule, why = refusal.why, %conflict, "a late commit was not merged");
        batch.refusals.push(self.refusal_event(table, proposal, &refusal, &conflict));
        Err(CatalogError::NotMerged { source: conflict, refusal })
    }

    /// Builds the event of a late commit that is not merged.
    fn refusal_event(&self, table: &LoadedTable, proposal: &Proposal, refusal: &Refusal, conflict: &FormatError) -> NewEvent {
        let data = EventData::TableCommitRefused(CommitRefusedData {
            table_id: table.row.id,
            table_uuid: table.row.table_uuid,
            snapshot_ids: sent_ids(proposal),
            rule: refusal.rule.name().to_owned(),
            reason: refusal.why.clone(),
            conflict: conflict.to_string(),
        });
        self.event(&proposal.actor, &table.row.name, data)
    }

    /// Records the events of commits that were not merged, if no other change of their batch was made.
    ///
    /// The commits are refused, whether that succeeds or not.
    pub(crate) async fn record_refusals(&self, refusals: Vec<NewEvent>) {
        if refusals.is_empty() {
            return;
        }
        if let Err(error) = self.state().outbox().insert_events(refusals).await {
            tracing::warn!(%error, "the events of late commits that were not merged could not be recorded");
        }
    }

    /// Answers a commit whose base is no ancestor of the branch any more: it was merged before if its receipt says so.
    ///
    /// Its snapshots may have expired since. A receipt of another request, or for another branch, breaks a rule.
    async fn merged_before(
        &self,
        table: &LoadedTable,
        proposal: &Proposal,
        refusal: Refusal,
    ) -> std::result::Result<Merge, Stop> {
        let receipts = self.state().tables().merged_among(table.row.id, &sent_ids(proposal)).await.map_err(CatalogError::from)?;
        let Some(first) = receipts.first() else { return Err(refusal.into()) };
        let branch = proposal.requirements.iter().find_map(|requirement| match requirement {
            TableRequirement::AssertRefSnapshotId { name, .. } => Some(name.as_str()),
            _ => None,
        });
        let is_same = |sent: &Snapshot| {
            let receipt = receipts.iter().find(|receipt| receipt.snapshot_id == sent.snapshot_id);
            receipt.is_some_and(|receipt| {
                Some(receipt.branch.as_str()) == branch && list_name(sent) == Some(receipt.manifest_list.as_str())
            })
        };
        match proposal.added_snapshots().all(is_same) {
            true => Ok(Merge::AppliedBefore),
            false => {
                let what = format!("snapshot {} was merged before, from another request", first.snapshot_id);
                Err(MergeRule::SnapshotId.refuse(what).into())
            }
        }
    }

    /// Reads what the merges of a batch are going to read, if several of its commits add snapshots and the policy lets them merge.
    ///
    /// A failure is left to the merges.
    pub(crate) async fn prefetch_merges(&self, table: &LoadedTable, sent: &[&Snapshot], batch: &mut BatchMerges) {
        if sent.len() < 2 {
            return;
        }
        match self.merge_settings(table, batch).await {
            Ok(MergeSettings { policy: MergePolicy::Off, .. }) | Err(_) => {}
            Ok(_) => batch.cache.prefetch(self.manifests(), &table.metadata, sent).await,
        }
    }

    /// Builds a late commit again.
    async fn try_merge(
        &self,
        table: &LoadedTable,
        proposal: &Proposal,
        batch: &mut BatchMerges,
    ) -> std::result::Result<Merge, Stop> {
        let (metadata, manifests) = (&table.metadata, self.manifests());
        let sent = match SentCommit::of(metadata, proposal) {
            Ok(sent) => sent,
            Err(refusal) if refusal.rule == MergeRule::Ancestor => return self.merged_before(table, proposal, refusal).await,
            Err(refusal) => return Err(refusal.into()),
        };
        if sent.was_applied {
            return Ok(Merge::AppliedBefore);
        }
        let MergeSettings { policy, writer_keys } = self.merge_settings(table, batch).await?;
        let [base, head] = [sent.late.base, sent.late.head].map(|snapshot| snapshot.map(|snapshot| snapshot.snapshot_id));
        if base != head && policy == MergePolicy::Off {
            return Ok(Merge::AsSent);
        }
        sent.check_writers(&writer_keys)?;
        let wait = self.options().commit_wait;
        if !batch.may_begin(Instant::now(), wait) {
            return Err(CatalogError::Busy(format!("table {}", table.row.name), wait.as_secs()).into());
        }
        self.check_references(&proposal.updates).await?;
        let deletes = self.options().deletes.as_deref().unwrap_or(&NoDeleteFiles);
        let plan = plan_rebase(manifests, deletes, metadata, sent.late.clone(), &mut batch.cache).await?;
        let class = plan.class();
        if !policy.allows(class) {
            let what = format!("by its files it is of the class {}, which the table's commit.merge leaves out", class.name());
            return Err(MergeRule::Policy.refuse(what).into());
        }
        self.check_added_paths(&plan).await?;
        let mut written = Vec::new();
        let record = self.recorder(table.row.id);
        let rebased = match plan.write(manifests, metadata, &mut batch.cache, &record, &mut written).await {
            Ok(rebased) => rebased,
            Err(error) => {
                self.discard_files(&table.row, &written, "a late commit could not be built again").await;
                return Err(error.into());
            }
        };
        let branch = sent.late.branch;
        tracing::info!(table = %table.row.name, branch, base, head, class = class.name(), "a late commit was merged");
        let records = self.merge_records(table, &sent, class, &rebased, written);
        let (requirements, updates) = (requirements(proposal, branch, head), updates(&sent, class, rebased));
        let actor = proposal.actor.clone();
        Ok(Merge::Rebased(Box::new(Proposal { requirements, updates, records, actor, restore: None }), class))
    }

    /// Checks whether late deletes by position may follow rows through a compaction of a table.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the database fails.
    pub async fn merges_positions(&self, table: &LoadedTable) -> Result<bool> {
        let policy = self.merge_settings(table, &mut BatchMerges::default()).await?.policy;
        Ok(table.metadata.format_version >= 2 && policy.allows(MergeClass::PositionDeletes))
    }

    /// Returns what the policies of a table say of merges.
    async fn merge_settings(&self, table: &LoadedTable, batch: &mut BatchMerges) -> Result<MergeSettings> {
        if batch.namespaces.is_none() {
            batch.namespaces = Some(self.properties_around(&table.row.name.namespace).await?);
        }
        let (nothing, own) = (Namespaces::new(), &table.metadata.properties);
        let namespaces = batch.namespaces.as_ref().unwrap_or(&nothing);
        Ok(self.options().merge.of(namespaces, &table.row.name, own))
    }

    /// Refuses files that are in quarantine or deleted: the table would soon lose them.
    async fn check_added_paths(&self, plan: &RebasePlan<'_>) -> std::result::Result<(), Stop> {
        let paths: Vec<String> = plan.added_paths().flat_map(Location::all_spellings).collect();
        let (quarantined, going) = self.state().quarantine().quarantined_among(&paths).await.map_err(CatalogError::from)?;
        match quarantined.iter().chain(&going).next() {
            None => Ok(()),
            Some(path) => Err(MergeRule::AddedPath.refuse(format!("it adds {path}, which is in quarantine or deleted")).into()),
        }
    }

    /// Returns what a merge records: the files that it wrote, and those of the client that the table does not have.
    ///
    /// Some clients delete theirs after the commit, others leave them.
    fn merge_records(
        &self,
        table: &LoadedTable,
        sent: &SentCommit<'_>,
        class: MergeClass,
        rebased: &RebasedCommit,
        written: Vec<String>,
    ) -> CommitRecords {
        let statistics = sent.statistics.iter().filter(|_| class != MergeClass::Renumber).filter_map(|update| match update {
            TableUpdate::SetStatistics { statistics } => Some(statistics.statistics_path.clone()),
            TableUpdate::SetPartitionStatistics { partition_statistics } => Some(partition_statistics.statistics_path.clone()),
            _ => None,
        });
        let due_ms = now_ms().saturating_add(self.options().grace_ms);
        let reason = "its late commit was merged, and another file took its place";
        // A text that is no location names no file, and PostgreSQL refuses some: then the whole batch would fail.
        let is_file = |path: &String| table.row.owned && Location::parse(path).is_ok();
        let superseded = rebased.superseded.iter().cloned().chain(statistics).filter(is_file);
        let quarantine = superseded.map(|file| table.row.quarantine(file, None, reason, None, due_ms)).collect();
        CommitRecords { quarantine, settled_outputs: written, restored: Vec::new(), merged: receipts(sent) }
    }
}

/// Returns the receipts of the snapshots of a commit that is merged.
///
/// They are made here and not of summaries, which are texts of clients.
fn receipts(sent: &SentCommit<'_>) -> Vec<MergedSnapshot> {
    let branch = sent.late.branch;
    let receipt = |snapshot: &&Snapshot| {
        let manifest_list = list_name(snapshot)?.to_owned();
        Some(MergedSnapshot { snapshot_id: snapshot.snapshot_id, branch: branch.to_owned(), manifest_list })
    };
    // PostgreSQL refuses such a text, and then the whole batch would fail.
    let is_text = |receipt: &MergedSnapshot| !receipt.branch.contains('\0') && !receipt.manifest_list.contains('\0');
    sent.late.chain.iter().filter_map(receipt).filter(is_text).collect()
}

/// Returns the ids of the snapshots that a request adds.
fn sent_ids(proposal: &Proposal) -> Vec<i64> {
    proposal.added_snapshots().map(|snapshot| snapshot.snapshot_id).collect()
}

/// Returns the requirements of a merged commit: those of the client, with the branch at its present head.
fn requirements(proposal: &Proposal, branch: &str, head: Option<i64>) -> Vec<TableRequirement> {
    let own = proposal.requirements.iter().cloned().map(|requirement| match requirement {
        TableRequirement::AssertRefSnapshotId { .. } => {
            TableRequirement::AssertRefSnapshotId { name: branch.to_owned(), snapshot_id: head }
        }
        other => other,
    });
    own.collect()
}

/// Returns the updates of a merged commit: the new snapshots, and the branch at the last of them.
///
/// Statistics stay if the snapshots have the files that the statistics were made of.
fn updates(sent: &SentCommit<'_>, class: MergeClass, rebased: RebasedCommit) -> Vec<TableUpdate> {
    let numbers: Vec<(i64, i64)> = rebased.snapshots.iter().map(|made| (made.snapshot_id, made.sequence_number())).collect();
    let added = rebased.snapshots.into_iter().map(|snapshot| TableUpdate::AddSnapshot { snapshot });
    let (ref_name, reference) = (sent.late.branch.to_owned(), sent.reference.clone());
    let moved = TableUpdate::SetSnapshotRef { ref_name, reference };
    let statistics = sent.statistics.iter().filter(|_| class == MergeClass::Renumber);
    added.chain([moved]).chain(statistics.map(|update| renumbered_statistics(update, &numbers))).collect()
}

/// Gives to statistics the sequence numbers that their snapshots have now.
fn renumbered_statistics(update: &TableUpdate, numbers: &[(i64, i64)]) -> TableUpdate {
    let mut update = update.clone();
    if let TableUpdate::SetStatistics { statistics } = &mut update {
        for blob in &mut statistics.blob_metadata {
            if let Some((_, number)) = numbers.iter().find(|(id, _)| *id == blob.snapshot_id) {
                blob.sequence_number = *number;
            }
        }
    }
    update
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_of_a_batch_begin_while_its_clients_still_wait_for_an_answer() {
        let (mut batch, first) = (BatchMerges::default(), Instant::now());
        let after = |seconds: u64| first + Duration::from_secs(seconds);
        let begins: Vec<bool> =
            [0, 15, 16, 60].into_iter().map(|seconds| batch.may_begin(after(seconds), Duration::from_secs(30))).collect();
        assert_eq!(begins, [true, true, false, false]);
        assert!(BatchMerges::default().may_begin(after(60), Duration::ZERO), "the first one always may");
    }
}
