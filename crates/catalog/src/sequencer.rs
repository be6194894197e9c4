//! The commit path: one queue per table; commits that wait become one batch, one metadata file and one compare-and-swap.
//!
//! The states of a commit:
//!
//! ```text
//!         queued ------- too many wait already ------------------------------> answered: QueueFull
//!           |    `------ no turn in time ------------------------------------> answered: Busy
//!           | turn: the oldest commits in the queue become one batch
//!           v
//! +---> applied -------- a check of this commit fails -----------------------> answered: its own error
//! |         |  `-------- late, and no rule forbids it: built again (merge) ------> applied
//! |         |  `-------- no commit of the batch changes anything ------------> answered: Ok, receipts stored, no file
//! |         v
//! |    file written ---- the storage or the database fails ------------------> answered: error, file to quarantine
//! |         | publish: one database transaction
//! |         |`---------- unknown: the database did not confirm --------------> answered: StateUnknown, file kept
//! +---------+ lost: another server was first, file to quarantine; at the tenth time --> answered: Conflict
//! |         | a commit that another server sent, whose term has ended ------------> answered: LeaseEnded
//!           v
//!    pointer swapped ---------------------------------------------------------> answered: Ok
//! ```
//!
//! The row's pointer alone decides which metadata file counts. Each file is recorded as a pending output before it is written, so
//! that a crash leaves no unknown file. A caller that waits too long gets `StateUnknown` while its commit goes on.
//!
//! A client whose commit is refused because it is late hears of it when it is next (`turns/mod.rs`). A commit to a table whose lease
//! another server holds is sent there (`forward/mod.rs`).
//!
//! Start reading at [`Catalog::commit_to`] and [`Catalog::commit_rebase`], then `run_batch`, `replay` and `publish`. The queue
//! itself is in `commit_queue.rs`. Spec: "Optimistic Concurrency".

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use esker_access::Privilege;
use esker_format::{CommitContext, OPERATION, Snapshot, TableMetadata, TableUpdate};
use esker_state::{
    AddedSnapshotData, EventData, NewEvent, NewQuarantine, Outbox, PlaceClaim, PointerSwap, ReceiptKey, StateError,
    TableUpdatedData, TabularRow,
};
use esker_storage::Location;
use esker_table::MergeClass;
use esker_table::properties::{DELETE_METADATA, METADATA_VERSIONS};
use esker_types::{Coded, TableId, TableName, catch_panic, now_ms};
use flate2::Compression;
use flate2::read::GzEncoder;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Instrument;

use crate::actor::receipt;
use crate::authorize::{ANY_OF_TABLE, hidden_as_missing};
use crate::cache::manifest_list_paths;
use crate::commit_queue::{CommitHold, FixedChange, PendingCommit, QueuedChange, RebasedChange};
use crate::locations::PathsOrigin;
use crate::merge::{BatchMerges, Merge};
use crate::moves::{copy_path_of_next, metadata_files, with_copies};
use crate::proposal::CommitRecords;
use crate::readable::check_numbers;
use crate::restore::restore;
use crate::settled::Settled;
use crate::turns::Writer;
use crate::{Actor, Catalog, CatalogError, Committed, LoadedTable, Proposal, Rebase, RequestOutcome, Result, places};

/// Maximum number of times that a batch is applied, if other servers keep winning the race.
const MAX_REPLAYS: usize = 10;

/// The state of a table after one proposal.
pub(crate) struct AppliedProposal {
    pub(crate) metadata: TableMetadata,
    /// The metadata files that fell out of the metadata log, to be put into quarantine.
    pub(crate) outdated: Vec<NewQuarantine>,
    /// The claims to new places of the table.
    pub(crate) claims: Vec<PlaceClaim>,
}

/// The changes of a batch that were applied.
#[derive(Default)]
struct AppliedBatch<'a> {
    /// The proposals that had an effect. Their records are in `records`.
    proposals: Vec<Cow<'a, Proposal>>,
    records: CommitRecords,
    /// Authors of the changes that had no effect.
    idle: Vec<Actor>,
    /// Paths of the files that were written to merge late commits.
    merged_files: Vec<String>,
    /// The claims to new places of the table.
    claims: Vec<PlaceClaim>,
    /// The events of late commits that were not merged.
    refusals: Vec<NewEvent>,
    /// The term in which other servers sent some of the changes.
    term: Option<i64>,
}

impl<'a> AppliedBatch<'a> {
    /// Adds a proposal that had an effect.
    ///
    /// The records of a proposal that was computed for this state are moved: an expiry has one for each of its files. Those of a
    /// client's proposal are copied, because a replay needs them again.
    fn add(&mut self, mut proposal: Cow<'a, Proposal>, merged: Option<MergeClass>, outdated: Vec<NewQuarantine>) {
        if merged.is_some() {
            self.merged_files.extend_from_slice(&proposal.records.settled_outputs);
        }
        self.records.append(match &mut proposal {
            Cow::Borrowed(fixed) => fixed.records.clone(),
            Cow::Owned(computed) => std::mem::take(&mut computed.records),
        });
        self.records.quarantine.extend(outdated);
        self.proposals.push(proposal);
    }
}

/// A change of a batch, computed for the state that it is applied to.
struct Computed<'a> {
    proposal: Cow<'a, Proposal>,
    /// The table after the change; `None` if nothing changes.
    after: Option<AppliedProposal>,
    /// The class of the change, if it was late and was merged.
    merged: Option<MergeClass>,
}

impl Catalog {
    /// Commits a client's change to a table by name. Concurrent commits may share one metadata file. If another server holds the
    /// lease of the table's commits, that one commits it.
    ///
    /// The commit goes on if the caller stops waiting for it. If it is late and adds a snapshot, its error is returned when its
    /// client is next to commit, or after [`TurnOptions::wait`](crate::TurnOptions::wait).
    ///
    /// Spec: "Optimistic Concurrency", and "Commit Conflict Resolution and Retry".
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if no table has this name, [`Rights`](CatalogError::Rights) if privileges are missing,
    /// [`Location`](CatalogError::Location) if the commit names a file of another table whose rows the caller may not all read, and
    /// the errors of [`Catalog::commit_to`]. Those of another server, which holds the lease of the table, come as
    /// [`Forwarded`](CatalogError::Forwarded).
    pub async fn commit(&self, name: &TableName, proposal: Proposal) -> Result<Committed> {
        // Who may do nothing at all with the table does not learn from its queue that it exists. The answer has the metadata.
        let required = ANY_OF_TABLE.and(Privilege::ReadMetadata.into());
        let row = self.permitted_table(name, required, &proposal.actor.authority).await?;
        self.prefetch_appends(&row, &proposal).await;
        let hidden = |e| hidden_as_missing(name, e);
        self.check_new_files(&row, &proposal).await.map_err(hidden)?;
        let result = match self.holder_of(row.id, &proposal) {
            Some(holder) => self.forward(&row, holder, proposal).await,
            None => self.commit_in_turn(row.id, proposal, None).await,
        };
        result.map_err(hidden)
    }

    /// Commits a client's change that was checked, once no other client computes its commit again. `term` is that of the lease in
    /// which another server sent it.
    ///
    /// The error of a late commit is returned when its client is next.
    pub(crate) async fn commit_in_turn(&self, id: TableId, proposal: Proposal, term: Option<i64>) -> Result<Committed> {
        // Only commits that add snapshots make others late, and are computed again for each attempt.
        let Some(writer) = Writer::of(&proposal) else { return self.commit_sent(id, proposal, term).await };
        let pass = self.inner.turns.admit(id, Some(writer)).await;
        let result = self.commit_sent(id, proposal, term).await;
        if result.as_ref().is_err_and(CatalogError::is_late) {
            pass.late().await;
        }
        result
    }

    /// Puts a client's change into the queue of its table and waits for its answer.
    async fn commit_sent(&self, id: TableId, proposal: Proposal, term: Option<i64>) -> Result<Committed> {
        let (done, answer) = oneshot::channel();
        let wait = self.options().commit_wait;
        self.commit_queued(id, Box::new(FixedChange { proposal, term, done }), wait, answer).await
    }

    /// Commits a client's change to a table by its id, which stays the same if the table is renamed.
    ///
    /// # Errors
    ///
    /// - Returns [`Format`](CatalogError::Format) if a requirement does not hold, an update breaks a rule, or a snapshot was made
    ///   for an earlier state of the table. Returns [`Invalid`](CatalogError::Invalid) if other engines could not read the
    ///   result, a snapshot's sequence number or time leaves no room for later ones, or the commit names a location provider that
    ///   is not allowed.
    /// - Returns [`Conflict`](CatalogError::Conflict) if a snapshot's manifest list is in quarantine or deleted, or other servers
    ///   won the race ten times. Returns [`NotMerged`](CatalogError::NotMerged) if the snapshot was made for an earlier state, and
    ///   the table's policy `commit.merge` would have it merged but for a rule.
    /// - Returns [`Location`](CatalogError::Location) if the table may not have files at a new location, and
    ///   [`Refused`](CatalogError::Refused) if the snapshots of [`Proposal::restore`] can't come back.
    /// - Returns [`QueueFull`](CatalogError::QueueFull) if too many commits wait for the table, [`Busy`](CatalogError::Busy) if
    ///   the commit got no turn in time, or the merges before it in its batch took too long, and
    ///   [`Behind`](CatalogError::Behind) if storage has states that the database does not have.
    /// - Returns [`StateUnknown`](CatalogError::StateUnknown) if the outcome could not be observed.
    /// - Returns [`Batch`](CatalogError::Batch) if another error failed the whole batch, and
    ///   [`Panicked`](CatalogError::Panicked) if the change panicked.
    /// - Returns [`State`](CatalogError::State), [`Storage`](CatalogError::Storage), [`Table`](CatalogError::Table),
    ///   [`MetadataGone`](CatalogError::MetadataGone), [`MetadataInvalid`](CatalogError::MetadataInvalid) or
    ///   [`OwnFileInvalid`](CatalogError::OwnFileInvalid) if the table is gone, its metadata can't be read or written, its
    ///   manifests can't be checked, or the ledger can't be parsed.
    pub async fn commit_to(&self, id: TableId, proposal: Proposal) -> Result<Committed> {
        self.commit_sent(id, proposal, None).await
    }

    /// Commits a change that is computed on the table as it is at the commit point. Returns the effect of what was committed.
    ///
    /// It waits for its turn ten times as long as a client's change: it may hold hours of work that no client sends again. While
    /// a client whose commit was late computes it again, it waits for at most [`TurnOptions::turn`](crate::TurnOptions::turn).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Catalog::commit_to`] without [`QueueFull`](CatalogError::QueueFull), and the error of
    /// [`Rebase::propose`].
    pub async fn commit_rebase<R: Rebase + 'static>(&self, id: TableId, rebase: R) -> Result<(Committed, R::Effect)> {
        // A client that computes its commit again would be late once more.
        let _pass = self.inner.turns.admit(id, None).await;
        let (done, answer) = oneshot::channel();
        let (effect, wait) = (R::Effect::default(), self.options().commit_wait * 10);
        self.commit_queued(id, Box::new(RebasedChange { rebase, effect, done }), wait, answer).await
    }

    /// Puts a change into its table's queue and waits for its answer.
    async fn commit_queued<T>(
        &self,
        id: TableId,
        change: Box<dyn QueuedChange>,
        wait: Duration,
        answer: oneshot::Receiver<Result<T>>,
    ) -> Result<T> {
        let queue = self.inner.commit_queues.queue(id);
        let ticket = queue.enter(id, change)?;
        let this = self.clone();
        // The commit runs in a task of its own: a client that disconnects must not cut it in two.
        let since = Instant::now();
        let turn = async move {
            // A batch has the oldest commits. This one may be in a later batch, which the task then takes as well.
            while queue.holds(ticket) {
                match tokio::time::timeout(wait.saturating_sub(since.elapsed()), queue.turn.clone().lock_owned()).await {
                    Ok(_turn) => {
                        let batch = queue.take_batch();
                        if !batch.is_empty() {
                            this.run_batch(id, batch).await;
                        }
                    }
                    // The task that has the turn may have taken this commit into its batch; then its answer is on the way.
                    Err(_) => {
                        if let Some(pending) = queue.take_back(ticket) {
                            pending.change.answer(Err(busy(&id, wait)));
                        }
                    }
                }
            }
        };
        tokio::spawn(turn.instrument(tracing::info_span!("commit", table_id = %id)));
        // One wait for the turn, one for the work.
        match tokio::time::timeout(wait * 2, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(state_unknown(&id, "the task that ran the commit ended without an answer".to_owned())),
            Err(_) => Err(state_unknown(&id, format!("it was started and did not end within {} s", wait.as_secs()))),
        }
    }

    /// Holds back commits to a table while the guard lives. The sweep checks and marks files under it.
    pub(crate) async fn hold_commits(&self, table: TableId) -> Result<CommitHold> {
        let (queue, wait) = (self.inner.commit_queues.queue(table), self.options().commit_wait);
        match tokio::time::timeout(wait, queue.turn.clone().lock_owned()).await {
            Ok(turn) => Ok(CommitHold { _turn: turn, _queue: queue }),
            Err(_) => Err(busy(&table, wait)),
        }
    }

    /// Runs a batch and answers each of its commits.
    async fn run_batch(&self, id: TableId, mut batch: Vec<PendingCommit>) {
        let outcome = self.try_batch(id, &mut batch).await;
        for (pending, result) in batch.into_iter().zip(outcome) {
            pending.change.answer(result);
        }
    }

    /// Applies a batch until its swap succeeds or it fails. Returns one result per change, in order.
    async fn try_batch(&self, id: TableId, batch: &mut [PendingCommit]) -> Vec<Result<Committed>> {
        let (mut lost, mut settled) = (0, Settled::default());
        while lost < MAX_REPLAYS {
            let replayed = self.replay(id, batch, &settled).await;
            match replayed {
                Ok(Some(results)) => return results,
                Ok(None) => {
                    lost += 1;
                    self.note_lost_swap(id).await;
                }
                // The others of the batch have nothing to do with it. Each key is met once, so this ends.
                Err(CatalogError::State(StateError::DuplicateKey(key))) if settled.carried_out.insert(key) => {}
                // Nor with a lease that has ended. The highest term of the batch has, so this is met once.
                Err(CatalogError::State(StateError::LeaseEnded { term, .. })) if settled.ended_term.is_none() => {
                    settled.ended_term = Some(term);
                    self.inner.leases.forget(id);
                }
                Err(e) => return fail_batch(e, batch.len()),
            }
        }
        let lost = format!("other servers kept committing to the table for {MAX_REPLAYS} attempts");
        fail_batch(CatalogError::Conflict(lost), batch.len())
    }

    /// Applies the changes to the table as it is now, and publishes the result.
    ///
    /// Returns one result per change, or `None` if the swap was lost and the table must be read again.
    async fn replay(
        &self,
        id: TableId,
        batch: &mut [PendingCommit],
        settled: &Settled,
    ) -> Result<Option<Vec<Result<Committed>>>> {
        let row = self.state().tables().by_id(id).await?;
        let row = row.ok_or_else(|| StateError::NoSuchTable(id.to_string()))?;
        self.check_not_behind(&row).await?;
        let current = self.load_row(row).await?;
        let mut working = current.clone();
        let (mut applied, mut merges, mut requests) = (AppliedBatch::default(), BatchMerges::default(), Vec::<ReceiptKey>::new());
        let mut results: Vec<Result<Option<MergeClass>>> = Vec::with_capacity(batch.len());
        let sent: Vec<&Snapshot> = batch.iter().flat_map(|pending| pending.change.sent_snapshots()).collect();
        self.prefetch_merges(&working, &sent, &mut merges).await;
        let term = settled.present_term(batch);
        for pending in batch {
            let (request, sent_in) = (pending.change.request().cloned(), pending.change.term());
            if let Some(result) = settled.result_of(pending.change.as_ref(), (id, term), &requests) {
                results.push(result);
                continue;
            }
            let base = applied.proposals.is_empty().then_some(current.row.metadata_location.as_str());
            // A panic in one change fails that change, not the others of its batch.
            let computed = catch_panic(self.compute(&working, base, pending.change.as_mut(), &mut merges)).await;
            match computed.unwrap_or_else(|panic| Err(CatalogError::Panicked(panic))) {
                Ok(Computed { proposal, after: Some(after), merged }) => {
                    applied.term = applied.term.or(sent_in);
                    working.metadata = Arc::new(after.metadata);
                    applied.claims.extend(after.claims);
                    applied.add(proposal, merged, after.outdated);
                    requests.extend(request);
                    results.push(Ok(merged));
                }
                Ok(Computed { proposal, after: None, .. }) => {
                    applied.term = applied.term.or(sent_in);
                    applied.idle.push(proposal.actor.clone());
                    requests.extend(request);
                    results.push(Ok(None));
                }
                Err(e) => results.push(Err(e)),
            }
        }
        applied.refusals = merges.take_refusals();
        if applied.proposals.is_empty() {
            self.record_refusals(applied.refusals).await;
            for receipt in applied.idle.iter().filter_map(|actor| receipt(actor, &RequestOutcome::of(&working.row))) {
                match self.state().outbox().insert_receipt(receipt).await {
                    // The same request was carried out, and this one changed nothing.
                    Ok(()) | Err(StateError::DuplicateKey(_)) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        } else if !self.publish(&current, &mut working, applied).await? {
            return Ok(None);
        }
        let committed = Committed { table: working, batch: results.len(), merged: None };
        Ok(Some(results.into_iter().map(|r| r.map(|merged| Committed { merged, ..committed.clone() })).collect()))
    }

    /// Computes the proposal of one change and the metadata after it; see [`Catalog::apply_proposal`].
    ///
    /// A client's change that is late may be merged: then its proposal is another one.
    async fn compute<'p>(
        &self,
        table: &LoadedTable,
        base: Option<&str>,
        change: &'p mut dyn QueuedChange,
        merges: &mut BatchMerges,
    ) -> Result<Computed<'p>> {
        let proposal = change.propose(table).await?;
        // The state of the table is the one that the change is applied to, so no other commit can come between.
        self.authorize_commit(table, &proposal)?;
        let merge = match &proposal {
            Cow::Borrowed(sent) if sent.restore.is_none() => self.merge_late(table, sent, merges).await?,
            _ => Merge::AsSent,
        };
        match merge {
            Merge::AsSent => {
                let after = self.apply_proposal(table, base, &proposal).await?;
                Ok(Computed { proposal, after, merged: None })
            }
            Merge::AppliedBefore => Ok(Computed { proposal, after: None, merged: None }),
            Merge::Rebased(proposal, class) => match self.apply_proposal(table, base, &proposal).await {
                Ok(after) => Ok(Computed { proposal: Cow::Owned(*proposal), after, merged: Some(class) }),
                Err(e) => {
                    self.discard_files(&table.row, &proposal.records.settled_outputs, "its merged commit was refused").await;
                    Err(e)
                }
            },
        }
    }

    /// Computes the metadata after one proposal, and runs every check on it but that of its privileges. `None` if nothing changes.
    ///
    /// `base` is as in [`apply`]. The caller has called [`Catalog::authorize_commit`].
    pub(crate) async fn apply_proposal(
        &self,
        table: &LoadedTable,
        base: Option<&str>,
        proposal: &Proposal,
    ) -> Result<Option<AppliedProposal>> {
        self.check_references(&proposal.updates).await?;
        let moves = proposal.updates.iter().any(|u| match u {
            TableUpdate::SetLocation { .. } => true,
            TableUpdate::SetProperties { updates } => updates.keys().any(|key| places::decides_paths(key)),
            // Without one path, writers take another one of the table.
            TableUpdate::RemoveProperties { removals } => removals.iter().any(|key| places::decides_paths(key)),
            _ => false,
        });
        let metadata = match &proposal.restore {
            Some(restored) => restore(&table.metadata, base, restored)?,
            None => apply(&table.metadata, base, proposal)?,
        };
        let Some(metadata) = metadata else { return Ok(None) };
        self.check_readable(&table.metadata, &metadata, &proposal.updates).await?;
        self.check_appends(table, &metadata, proposal).await?;
        let claims = match moves {
            true => {
                let before = PathsOrigin::Changed(&table.metadata.properties);
                let own = Some(table.row.id);
                let claims = self.check_metadata_locations(&metadata, own, before, &proposal.actor.authority).await?;
                self.make_directories(&metadata).await?;
                claims
            }
            false => Vec::new(),
        };
        let outdated = self.outdated_metadata(table, &metadata);
        Ok(Some(AppliedProposal { metadata, outdated, claims }))
    }

    /// Refuses a snapshot whose manifest list is in quarantine: it would soon point to a deleted file.
    pub(crate) async fn check_references(&self, updates: &[TableUpdate]) -> Result<()> {
        for update in updates {
            let TableUpdate::AddSnapshot { snapshot } = update else { continue };
            for file in manifest_list_paths(snapshot) {
                let (quarantined, going) = self.state().quarantine().quarantined_among(&Location::all_spellings(&file)).await?;
                if !quarantined.is_empty() || !going.is_empty() {
                    let what = format!("snapshot {} refers to {file}, which is being deleted", snapshot.snapshot_id);
                    return Err(CatalogError::Conflict(what));
                }
            }
        }
        Ok(())
    }

    /// Lists the metadata files that fell out of the metadata log, if the table asks for their deletion.
    ///
    /// Spec: table properties `write.metadata.delete-after-commit.enabled` and `write.metadata.previous-versions-max`.
    fn outdated_metadata(&self, before: &LoadedTable, after: &TableMetadata) -> Vec<NewQuarantine> {
        let properties = &after.properties;
        // If the number of versions to keep can't be parsed, no file is outdated.
        let wanted = DELETE_METADATA.of(properties) && METADATA_VERSIONS.get_valid(properties).is_ok();
        if !wanted || !before.row.owned {
            return Vec::new();
        }
        let kept: HashSet<String> =
            with_copies(after.metadata_log.iter().map(|log| log.metadata_file.clone()).collect()).into_iter().collect();
        let due_ms = now_ms().saturating_add(self.options().grace_ms);
        let reason = "it fell out of the metadata log (write.metadata.previous-versions-max)";
        let now = &before.row.metadata_location;
        let gone = metadata_files(before).into_iter().filter(|file| file != now && !kept.contains(file));
        gone.map(|file| before.row.quarantine(file, None, reason, None, due_ms)).collect()
    }

    /// Writes the next metadata file, updates `working` to it, and returns the pointer swap that publishes it, without claims.
    pub(crate) async fn write_next<'a>(
        &self,
        current: &LoadedTable,
        working: &mut LoadedTable,
        mut records: CommitRecords,
        updates: impl IntoIterator<Item = &'a TableUpdate> + Clone,
    ) -> Result<PointerSwap> {
        let from = current.row.metadata_location.clone();
        let to = Self::next_metadata_path(&working.metadata, Some(&from))?;
        working.json = current.json.next(&current.metadata, &working.metadata, updates)?;
        records.settled_outputs.extend(self.write_following(&current.row, &to, working.json.bytes().clone()).await?);
        working.row.location = Location::parse(&working.metadata.location)?.to_string();
        working.row.metadata_location.clone_from(&to);
        // The places before the commit are recorded too: a database of an earlier release holds only the location.
        let [before, after] =
            [&current.metadata, &working.metadata].map(|m| places::places_in_metadata(&m.location, &m.properties));
        let places: Vec<String> = before.into_iter().chain(after).collect();
        let places = if places.iter().all(|place| *place == current.row.location) { Vec::new() } else { places };
        Ok(PointerSwap {
            id: current.row.id,
            from,
            to,
            location: working.row.location.clone(),
            places,
            claims: Vec::new(),
            quarantine: records.quarantine,
            settled_outputs: records.settled_outputs,
            restored: records.restored,
            merged: records.merged,
            term: None,
        })
    }

    /// Writes the metadata file and swaps the pointer, with events and receipts, in one transaction.
    ///
    /// Returns `false` if another server was first, or another entry got a place of the table.
    async fn publish(&self, current: &LoadedTable, working: &mut LoadedTable, applied: AppliedBatch<'_>) -> Result<bool> {
        let AppliedBatch { proposals, records, idle, merged_files, claims, refusals, term } = applied;
        let updates = proposals.iter().flat_map(|proposal| &proposal.updates);
        let swap = match self.write_next(current, working, records, updates).await {
            Ok(mut swap) => {
                // One commit of the batch may have named a place that the next one left. Files of the first may lie there.
                swap.places.extend(claims.iter().map(|claim| claim.directory.clone()));
                PointerSwap { claims, term, ..swap }
            }
            Err(e) => {
                self.discard_files(&current.row, &merged_files, "the metadata file of the commit could not be written").await;
                return Err(e);
            }
        };
        self.failpoint("commit-before-swap").await;
        // Receipts of commits without effect go into the same transaction: once the pointer has moved, nothing more may fail.
        let actors = proposals.iter().map(|proposal| &proposal.actor).chain(&idle);
        let outbox = Outbox {
            events: proposals.iter().map(|p| self.update_event(current, working, &p.updates, &p.actor)).chain(refusals).collect(),
            receipts: actors.filter_map(|actor| receipt(actor, &RequestOutcome::of(&working.row))).collect(),
        };
        match self.state().tables().publish(self.warehouse(), std::slice::from_ref(&swap), &[], &outbox).await {
            Ok(true) => {
                self.cache_metadata(&swap.to, working.metadata.clone(), working.json.clone()).await;
                self.failpoint("commit-after-swap").await;
                self.notify_change();
                Ok(true)
            }
            Ok(false) => {
                let reason = "the commit lost the race against another server";
                self.discard(&current.row, &swap.to, reason).await;
                self.discard_files(&current.row, &merged_files, reason).await;
                Ok(false)
            }
            Err(e) => {
                // The commit may have been applied, so its file is kept.
                if !matches!(e, StateError::Ambiguous(_)) {
                    let reason = "the state database refused the commit";
                    self.discard(&current.row, &swap.to, reason).await;
                    self.discard_files(&current.row, &merged_files, reason).await;
                }
                Err(CatalogError::of_publishing(e, &current.row.name))
            }
        }
    }

    /// Builds the outbox event `table.updated` of one commit.
    pub(crate) fn update_event(
        &self,
        before: &LoadedTable,
        after: &LoadedTable,
        updates: &[TableUpdate],
        actor: &Actor,
    ) -> NewEvent {
        let action = |update: &TableUpdate| Some(serde_json::to_value(update).ok()?["action"].as_str()?.to_owned());
        let snapshots = updates.iter().filter_map(|update| match update {
            TableUpdate::AddSnapshot { snapshot } => {
                let summary = snapshot.summary.iter().flatten().filter(|(key, _)| *key != OPERATION);
                Some(AddedSnapshotData {
                    snapshot_id: snapshot.snapshot_id,
                    parent_snapshot_id: snapshot.parent_snapshot_id,
                    sequence_number: snapshot.sequence_number(),
                    operation: snapshot.operation().map(str::to_owned),
                    summary: summary.map(|(key, value)| (key.clone(), value.clone())).collect(),
                })
            }
            _ => None,
        });
        let data = EventData::TableUpdated(TableUpdatedData {
            table_id: after.row.id,
            table_uuid: after.row.table_uuid,
            previous_metadata_location: before.row.metadata_location.clone(),
            metadata_location: after.row.metadata_location.clone(),
            updates: updates.iter().filter_map(action).collect(),
            snapshots: snapshots.collect(),
        });
        self.event(actor, &after.row.name, data)
    }

    /// Records a metadata file as a pending output, and then writes it. It is compressed if its name ends with
    /// `.gz.metadata.json`.
    ///
    /// Spec: "Naming for GZIP compressed Metadata JSON files".
    pub(crate) async fn write_metadata_file(&self, row: &TabularRow, uri: &str, json: Bytes) -> Result<()> {
        let mut bytes = json;
        if uri.ends_with(".gz.metadata.json") {
            let mut gzip = Vec::new();
            GzEncoder::new(bytes.as_ref(), Compression::default())
                .read_to_end(&mut gzip)
                .map_err(|e| CatalogError::MetadataInvalid { uri: uri.to_owned(), reason: e.to_string() })?;
            bytes = gzip.into();
        }
        self.record_outputs(row.id, None, &[uri.to_owned()]).await?;
        // The database may have lost changes since the row was read. A loss that is noticed later makes the record nobody's, and
        // the swap fails.
        if let Err(e) = self.check_not_behind(row).await {
            self.discard(row, uri, "the database may be behind of the table").await;
            return Err(e);
        }
        if let Err(e) = self.storage().write(uri, bytes).await {
            // A store that did not answer may hold the file all the same.
            self.discard(row, uri, "the metadata file could not be written").await;
            return Err(e.into());
        }
        Ok(())
    }

    /// Puts a metadata file that never became current into quarantine, due at once.
    ///
    /// If that fails, its pending output stays recorded, and a server settles it once this one has stopped.
    pub(crate) async fn discard(&self, row: &TabularRow, uri: &str, reason: &str) {
        let files: Vec<String> = std::iter::once(uri.to_owned()).chain(copy_path_of_next(row, uri)).collect();
        self.discard_files(row, &files, reason).await;
    }

    /// Puts files that were written for a commit, and are part of no state of the table, into quarantine like [`Catalog::discard`].
    pub(crate) async fn discard_files(&self, row: &TabularRow, files: &[String], reason: &str) {
        let files = files.iter().cloned();
        let quarantines: Vec<NewQuarantine> = files.map(|file| row.quarantine(file, None, reason, None, now_ms())).collect();
        let Some(first) = quarantines.first() else { return };
        if let Err(error) = self.state().quarantine().add(&quarantines).await {
            let uri = &first.path;
            tracing::warn!(%error, uri, "a metadata file could not be quarantined; it is reclaimed once this server has stopped");
        }
    }
}

/// Computes the metadata after one commit on one state of the table. `None` means that nothing changes.
///
/// `base` is the metadata file of that state, which goes into the metadata log. It is `None` for a state that an earlier commit
/// of the same batch made.
fn apply(metadata: &TableMetadata, base: Option<&str>, proposal: &Proposal) -> Result<Option<TableMetadata>> {
    proposal.requirements.iter().try_for_each(|requirement| requirement.check(metadata))?;
    check_numbers(&proposal.updates)?;
    Ok(esker_format::apply(metadata, &proposal.updates, CommitContext { now_ms: now_ms(), metadata_file: base })?)
}

/// Builds the error for a commit that got no turn in time.
fn busy(table: &impl ToString, wait: Duration) -> CatalogError {
    CatalogError::Busy(format!("table {}", table.to_string()), wait.as_secs())
}

/// Builds the error for a commit that was started and whose end was not seen.
pub(crate) fn state_unknown(table: &impl ToString, reason: String) -> CatalogError {
    CatalogError::StateUnknown { table: table.to_string(), reason }
}

/// Copies the failure of a batch to each of its commits; the first gets the original error.
fn fail_batch(error: CatalogError, n: usize) -> Vec<Result<Committed>> {
    let (code, message) = (error.code(), error.to_string());
    let others = (1..n).map(|_| Err(CatalogError::Batch { code, message: message.clone() }));
    let mut results: Vec<_> = others.collect();
    results.insert(0, Err(error));
    results
}
