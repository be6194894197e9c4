//! Builds a client's late commit again on the branch as it is now.
//!
//! A commit is late if its branch has moved since the client read it, or if another branch took its sequence number. The server
//! finds the effect of each of its snapshots (`effect`), decides if that effect may be had on the new head (`conditions`, and
//! `positions` with `moves` for deletes by position), and writes a manifest list with it (`build`). Which commits come here at all,
//! and which rules of requests and policies hold, is decided above, in `esker_catalog`. Start reading at [`plan_rebase`], then
//! [`RebasePlan::write`].
//!
//! Spec: "Commit Conflict Resolution and Retry", "Sequence Number Inheritance", "First Row ID Assignment".

mod build;
mod conditions;
mod effect;
mod moves;
mod positions;
mod rule;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use esker_format::{ManifestContent, ManifestFile, ManifestStatus, Operation, Snapshot, TableMetadata};
use futures::FutureExt;
use futures::stream::StreamExt;

use crate::{DeleteKey, DeleteKind, LiveFile, Manifests, Result, RowsToDelete, delete_key};

use self::conditions::{check_partitions, only_path, removed_data};
use self::effect::{Changes, Effect, changes_between, check_bytes, check_manifest, effect_of, inherits, load_as_sent};
use self::moves::kept_moves;
use self::positions::{PlannedPositions, PositionChange};

pub use build::{REBASED_AS, REBASED_FROM, REBASED_LIST, RebasedCommit, list_name};
pub use conditions::MergeClass;
pub use moves::{MovedRun, ROW_MOVES, RowMoves, row_moves_path};
pub use positions::{DeleteFiles, DeletedPositions};
pub use rule::{MergeRule, Refusal};

/// The snapshots of a late commit, with the branch as it was and as it is.
#[derive(Debug, Clone)]
pub struct LateCommit<'a> {
    /// The name of the branch that the commit moves.
    pub branch: &'a str,
    /// The head of the branch that the client read; `None` for a branch without snapshots.
    pub base: Option<&'a Snapshot>,
    /// The head of the branch now.
    pub head: Option<&'a Snapshot>,
    /// The snapshots of the branch after the base, the newest first.
    pub since: Vec<&'a Snapshot>,
    /// The new snapshots as the client sent them. The first has the base as its parent, each other the one before it.
    pub chain: Vec<&'a Snapshot>,
}

/// The manifests of a snapshot, as its manifest list has them.
type Listed = Arc<[ManifestFile]>;

/// The manifest list of a client's snapshot.
#[derive(Debug, Clone)]
struct SentList {
    /// The format version in its header; `None` if the header has none.
    format_version: Option<u8>,
    manifests: Listed,
}

/// The number of late commits whose manifests are read at the same time.
const CONCURRENT_COMMITS: usize = 16;

/// The greatest number of manifests in the lists of the table that a cache holds, and in those of clients. Other lists are read
/// again.
///
/// A batch may have a hundred commits, and each has a list of all manifests of the table.
const MAX_CACHED_MANIFESTS: usize = 500_000;

/// What the late commits of one batch have read or written, so that each file is read once.
#[derive(Debug, Default)]
pub struct MergeCache {
    /// The manifests of snapshots of the table, by the location of the manifest list.
    lists: HashMap<String, Listed>,
    /// The location of the list that the last merge wrote.
    made: Option<String>,
    /// The manifest lists of clients' snapshots that are not planned yet, by their locations.
    sent: HashMap<String, SentList>,
    /// The files that changed between a base and a head, with the ids of these snapshots.
    changes: Option<([Option<i64>; 2], Arc<Changes>)>,
}

impl MergeCache {
    /// Reads the manifests that the merges of clients' snapshots are going to read, several at a time.
    ///
    /// A failure is left to the merge.
    pub async fn prefetch(&mut self, source: &Manifests, metadata: &TableMetadata, snapshots: &[&Snapshot]) {
        let read: Vec<_> = snapshots.iter().map(|snapshot| prefetch_sent(source, metadata, snapshot).boxed()).collect();
        let mut read = futures::stream::iter(read).buffered(CONCURRENT_COMMITS);
        let mut room = MAX_CACHED_MANIFESTS;
        while let Some(found) = read.next().await {
            let Some((path, listed)) = found.ok().flatten() else { continue };
            let Some(left) = room.checked_sub(listed.manifests.len()) else { break };
            room = left;
            self.sent.insert(path, listed);
        }
    }

    /// Returns the manifests of a snapshot of the table; none without a snapshot.
    async fn list(&mut self, source: &Manifests, snapshot: Option<&Snapshot>) -> Result<Listed> {
        let Some(snapshot) = snapshot else { return Ok(Arc::default()) };
        if let Some(known) = snapshot.manifest_list.as_ref().and_then(|path| self.lists.get(path)) {
            return Ok(known.clone());
        }
        let listed: Listed = source.list(snapshot).await?.into();
        self.add_list(snapshot, listed.clone());
        Ok(listed)
    }

    /// Adds the manifests of a snapshot of the table.
    fn add_list(&mut self, snapshot: &Snapshot, listed: Listed) {
        let Some(path) = &snapshot.manifest_list else { return };
        let known: usize = self.lists.values().map(|listed| listed.len()).sum();
        if known.saturating_add(listed.len()) > MAX_CACHED_MANIFESTS {
            self.lists.clear();
        }
        self.lists.insert(path.clone(), listed);
    }

    /// Adds the manifests of a snapshot that a merge has made. Those of the one before it go: no client has seen that snapshot.
    fn add_made(&mut self, snapshot: &Snapshot, listed: Listed) {
        if let Some(before) = std::mem::replace(&mut self.made, snapshot.manifest_list.clone()) {
            self.lists.remove(&before);
        }
        self.add_list(snapshot, listed);
    }

    /// Returns the files that changed between a base and a head.
    async fn changes(
        &mut self,
        source: &Manifests,
        metadata: &TableMetadata,
        base: Option<&Snapshot>,
        head: Option<&Snapshot>,
    ) -> Result<Arc<Changes>> {
        let between = [base, head].map(|snapshot| snapshot.map(|snapshot| snapshot.snapshot_id));
        if let Some((known, changes)) = &self.changes
            && *known == between
        {
            return Ok(changes.clone());
        }
        let (before, after) = (self.list(source, base).await?, self.list(source, head).await?);
        let changes = Arc::new(changes_between(source, metadata, &before, &after).await?);
        self.changes = Some((between, changes.clone()));
        Ok(changes)
    }

    /// Adds the files of an append to the changes that are known of its head.
    ///
    /// The next late commit of the batch was often written on the same base.
    fn add_append(&mut self, head: Option<&Snapshot>, made: &Snapshot, effect: &Effect) {
        let Some((known, changes)) = &mut self.changes else { return };
        if known[1] == head.map(|head| head.snapshot_id) {
            known[1] = Some(made.snapshot_id);
            Arc::make_mut(changes).added.data.extend(effect.added().map(|added| added.live(made)));
        }
    }
}

/// The plan to build a late commit on another head. Nothing is written yet.
#[derive(Debug)]
pub struct RebasePlan<'a> {
    late: LateCommit<'a>,
    class: MergeClass,
    steps: Vec<Step<'a>>,
    deletes: &'a dyn DeleteFiles,
}

/// The plan for one snapshot.
#[derive(Debug)]
struct Step<'a> {
    snapshot: &'a Snapshot,
    kind: StepKind,
}

impl Step<'_> {
    /// Returns the effect of the snapshot; `None` if it is only renumbered.
    fn effect(&self) -> Option<&Effect> {
        match &self.kind {
            StepKind::Renumber(_) => None,
            StepKind::Change(change) => Some(&change.effect),
        }
    }
}

/// The way in which a snapshot is built again.
#[derive(Debug)]
enum StepKind {
    /// With the manifests that the client listed, under new numbers.
    Renumber(Listed),
    /// With the manifests of the head, changed by the effect.
    Change(Box<PlannedChange>),
}

/// The origin of the delete files that a change removes from the head. It tells which manifests can have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeletesOrigin {
    /// The client removed each of them.
    Client,
    /// The client removed each of them, or it came since the base.
    ClientOrHead,
    /// The client left some in place.
    Any,
}

/// A change that may be made to the head.
#[derive(Debug)]
struct PlannedChange {
    operation: Operation,
    effect: Effect,
    /// Delete files that go: see [`superseded_deletes`].
    removed_deletes: HashSet<DeleteKey>,
    /// The origin of the removed delete files.
    origin: DeletesOrigin,
    /// Deletes by position to write, in place of those of the client.
    deletes: Vec<RowsToDelete>,
    /// The manifests of the snapshot before that of the client, and those of the client's.
    lists: [Listed; 2],
}

impl RebasePlan<'_> {
    /// Returns the class of the commit: that of the snapshot which needs most of the policy.
    pub const fn class(&self) -> MergeClass {
        self.class
    }

    /// Iterates over the paths of the files that the commit adds: data and delete files, and the client's manifests that are listed.
    /// A commit that is only renumbered has none: its client checked them against this head.
    pub fn added_paths(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(Step::effect).flat_map(|effect| {
            let manifests = effect.taken.iter().map(|manifest| manifest.manifest_path.as_str());
            manifests.chain(effect.added().map(|added| added.file.file_path.as_str()))
        })
    }
}

/// Plans to build a late commit on the head of its branch. Reads the manifests that base, head and commit don't share, and the
/// delete files of the data files that it deletes rows of by position.
///
/// If the head is the base, the commit is renumbered, whatever it does: its client validated it against this head.
///
/// # Errors
///
/// - Returns [`TableError::NotMerged`](crate::TableError::NotMerged) with the rule that the commit breaks.
/// - Returns [`TableError::File`](crate::TableError::File) if a manifest list or a manifest can't be read or decoded, and
///   [`TableError::Unsupported`](crate::TableError::Unsupported) if one is encrypted.
/// - Returns [`TableError::Invalid`](crate::TableError::Invalid) if the base or the head names neither a manifest list nor
///   manifests, or if a data file has two deletion vectors.
/// - Returns the errors of `deletes`.
pub async fn plan_rebase<'a>(
    source: &Manifests,
    deletes: &'a dyn DeleteFiles,
    metadata: &TableMetadata,
    late: LateCommit<'a>,
    cache: &mut MergeCache,
) -> Result<RebasePlan<'a>> {
    let id = |snapshot: Option<&Snapshot>| snapshot.map(|snapshot| snapshot.snapshot_id);
    let is_renumbered = id(late.base) == id(late.head);
    let mut before = cache.list(source, late.base).await?;
    check_row_ids(metadata, &before, &late.chain)?;
    let since = match is_renumbered {
        true => Arc::default(),
        false => cache.changes(source, metadata, late.base, late.head).await?,
    };
    let moves = kept_moves(metadata, &late.since);
    let (mut steps, mut class) = (Vec::with_capacity(late.chain.len()), MergeClass::Renumber);
    for (at, snapshot) in late.chain.iter().copied().enumerate() {
        let known = snapshot.manifest_list.as_ref().and_then(|path| cache.sent.remove(path));
        let sent = sent_list(source, metadata, snapshot, known).await?.manifests;
        let kind = if is_renumbered {
            check_renumbered(source, metadata, &before, &sent, snapshot, &late.chain[..at]).await?;
            StepKind::Renumber(sent.clone())
        } else {
            let state = HeadState { source, deletes, metadata, since: &since, moves: &moves, is_in_chain: late.chain.len() > 1 };
            let (own, change) = state.plan_change(snapshot, before, sent.clone()).await?;
            class = class.max(own);
            StepKind::Change(Box::new(change))
        };
        steps.push(Step { snapshot, kind });
        before = sent;
    }
    // A rewrite reads nothing of partitions: its rows are those that were there.
    let is_change = |step: &&Step<'_>| !step.snapshot.is(Operation::Replace);
    let changes: Vec<&Effect> = steps.iter().filter(is_change).filter_map(Step::effect).collect();
    if changes.iter().any(|effect| removed_data(effect).next().is_some()) {
        check_partitions(&changes, &since)?;
    }
    Ok(RebasePlan { late, class, steps, deletes })
}

/// Checks that no snapshot of a commit can have moved rows to which an earlier one of it gave row ids: these are assigned anew, and
/// other rows may have got those that the client took. Data files have the row ids of rows that moved.
///
/// A snapshot gives ids to the rows that it adds, and in an upgraded table to all rows of the manifests of `base` that have none.
///
/// Spec: "Row Lineage", "First Row ID Assignment".
fn check_row_ids(metadata: &TableMetadata, base: &[ManifestFile], chain: &[&Snapshot]) -> std::result::Result<(), Refusal> {
    let lacks_ids = base.iter().any(|file| file.content == ManifestContent::Data && file.first_row_id.is_none());
    let moves_rows = |snapshot: &&&Snapshot| snapshot.is(Operation::Overwrite) || snapshot.is(Operation::Replace);
    let giving = chain.iter().position(|snapshot| lacks_ids || !snapshot.is(Operation::Delete));
    let later = giving.and_then(|at| chain[at + 1..].iter().find(moves_rows));
    match later.filter(|_| metadata.format_version >= 3) {
        None => Ok(()),
        Some(snapshot) => {
            let id = snapshot.snapshot_id;
            let what = format!("snapshot {id} may have row ids that an earlier one of its commit gave to rows");
            Err(MergeRule::SequenceNumber.refuse(what))
        }
    }
}

/// The state that the changes of a late commit meet.
struct HeadState<'a> {
    source: &'a Manifests,
    deletes: &'a dyn DeleteFiles,
    metadata: &'a TableMetadata,
    /// The files that changed between the base of the commit and the head.
    since: &'a Changes,
    /// The locations of the mappings of rows that compactions since the base have kept.
    moves: &'a [String],
    /// True if the commit has several snapshots.
    is_in_chain: bool,
}

impl HeadState<'_> {
    /// Plans the change of one snapshot, whose manifests are `sent` and those before it `before`. Returns its class, too.
    async fn plan_change(&self, snapshot: &Snapshot, before: Listed, sent: Listed) -> Result<(MergeClass, PlannedChange)> {
        let Self { source, deletes, metadata, since, moves, is_in_chain } = *self;
        if snapshot.schema_id != Some(metadata.current_schema_id) {
            let what = format!("snapshot {} was written with another schema", snapshot.snapshot_id);
            return Err(MergeRule::Schema.refuse(what).into());
        }
        let operation = operation(snapshot)?;
        let mut effect = effect_of(source, metadata, &before, &sent, snapshot).await?;
        let class = conditions::check(metadata, snapshot, operation, &effect, since)?;
        let (files, on) = (deletes, &before);
        let positions = PositionChange { source, metadata, files, before: on, since, effect: &effect, moves, is_in_chain };
        let positions = match class {
            MergeClass::Replace => PlannedPositions::default(),
            _ => positions.plan().await?,
        };
        let removed_deletes = superseded_deletes(&effect, since, &positions);
        let origin = DeletesOrigin::of(&removed_deletes, &effect, since);
        effect.leave_out(&positions.left_out);
        let (deletes, lists) = (positions.written, [before, sent]);
        Ok((class, PlannedChange { operation, effect, removed_deletes, origin, deletes, lists }))
    }
}

/// Reads the manifest list of a client's snapshot, and the snapshot's own manifests into the cache of manifests.
///
/// Returns the list with its location; `None` if the snapshot has no list.
async fn prefetch_sent(source: &Manifests, metadata: &TableMetadata, snapshot: &Snapshot) -> Result<Option<(String, SentList)>> {
    let listed = sent_list(source, metadata, snapshot, None).await?;
    let id = snapshot.snapshot_id;
    let own = || listed.manifests.iter().filter(move |file| file.added_snapshot_id == id);
    check_bytes(own())?;
    for file in own() {
        load_as_sent(source, metadata, file).await?;
    }
    Ok(snapshot.manifest_list.clone().map(|path| (path, listed)))
}

/// Reads the manifest list that a client wrote, unless it is known.
async fn sent_list(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshot: &Snapshot,
    known: Option<SentList>,
) -> Result<SentList> {
    let id = snapshot.snapshot_id;
    if snapshot.key_id.is_some() {
        return Err(MergeRule::Encryption.refuse(format!("the manifest list of snapshot {id} is encrypted")).into());
    }
    let Some(path) = &snapshot.manifest_list else {
        return Err(MergeRule::FormatVersion.refuse(format!("snapshot {id} has no manifest list")).into());
    };
    let listed = match known {
        Some(listed) => listed,
        None => {
            let (format_version, manifests) = source.list_with_version(path).await?;
            SentList { format_version, manifests: manifests.into() }
        }
    };
    // A commit of the same batch may have upgraded the table since the list was read.
    if listed.format_version.is_some_and(|version| version != metadata.format_version) {
        return Err(MergeRule::FormatVersion.refuse(format!("{path} has another format version than the table")).into());
    }
    Ok(listed)
}

/// Returns the operation of a snapshot.
fn operation(snapshot: &Snapshot) -> Result<Operation> {
    let known = [Operation::Append, Operation::Replace, Operation::Overwrite, Operation::Delete];
    let found = known.into_iter().find(|operation| snapshot.is(*operation));
    Ok(found.ok_or_else(|| MergeRule::Operation.refuse(format!("snapshot {} has no known operation", snapshot.snapshot_id)))?)
}

/// Returns the delete files of the head that go.
///
/// These are deletes that a vector of the result supersedes. Of those that the client removed, they are the ones about a single
/// data file that is gone, or whose older positions the client's own delete file contains. All others stay, since they do no
/// harm: a client drops deletes that are older than every data file of its base, and an undo may have brought back an older one.
fn superseded_deletes(effect: &Effect, since: &Changes, positions: &PlannedPositions) -> HashSet<DeleteKey> {
    let gone_files = removed_data(effect).chain(&since.removed.data).map(|live| live.file.file_path.as_bytes());
    let mut settled: HashSet<&[u8]> = gone_files.collect();
    since.added.data.iter().for_each(|live| {
        settled.remove(live.file.file_path.as_bytes());
    });
    let contained = |path: &[u8]| std::str::from_utf8(path).is_ok_and(|path| positions.contained.contains(path));
    let mut gone: HashSet<DeleteKey> = since.removed.deletes.iter().map(|delete| delete_key(&delete.entry.file)).collect();
    since.added.deletes.iter().for_each(|delete| {
        gone.remove(&delete_key(&delete.entry.file));
    });
    let by_position = |live: &&LiveFile| DeleteKind::of(&live.file).is_some_and(|kind| kind != DeleteKind::Equality);
    let goes = |live: &&LiveFile| {
        only_path(&live.file).is_some_and(|path| settled.contains(path.as_slice()) || contained(path.as_slice()))
    };
    let removed = effect.removed.iter().filter(by_position).filter(goes).map(|live| delete_key(&live.file));
    removed.filter(|key| !gone.contains(key)).chain(positions.superseded.iter().cloned()).collect()
}

impl DeletesOrigin {
    /// Finds the origin of removed delete files.
    fn of(removed: &HashSet<DeleteKey>, effect: &Effect, since: &Changes) -> Self {
        let by_client = effect.removed.iter().filter(|live| DeleteKind::of(&live.file).is_some());
        let by_client: HashSet<DeleteKey> = by_client.map(|live| delete_key(&live.file)).collect();
        let mut others = removed.difference(&by_client).peekable();
        if others.peek().is_none() {
            return Self::Client;
        }
        let came: HashSet<DeleteKey> = since.added.deletes.iter().map(|delete| delete_key(&delete.entry.file)).collect();
        if others.all(|key| came.contains(key)) { Self::ClientOrHead } else { Self::Any }
    }
}

/// Checks that the manifests of a snapshot can be listed again with other numbers: nothing in them has the old ones.
async fn check_renumbered(
    source: &Manifests,
    metadata: &TableMetadata,
    before: &[ManifestFile],
    sent: &[ManifestFile],
    snapshot: &Snapshot,
    earlier: &[&Snapshot],
) -> Result<()> {
    let known: HashSet<&str> = before.iter().map(|file| file.manifest_path.as_str()).collect();
    // The first row id that the commit took. Files of an upgraded table may get ids by it too.
    let first_row_id = earlier.first().copied().unwrap_or(snapshot).first_row_id.and_then(|id| i64::try_from(id).ok());
    for file in sent.iter().filter(|file| !known.contains(file.manifest_path.as_str())) {
        check_manifest(metadata, file, snapshot)?;
        for entry in load_as_sent(source, metadata, file).await?.entries {
            let is_fixed = match entry.status {
                ManifestStatus::Added => {
                    // A rewrite gives to its files the number of the snapshot that it read.
                    let is_older = |number: &i64| (0..snapshot.sequence_number()).contains(number);
                    !inherits(metadata, entry.sequence_number.filter(|number| !is_older(number)), &entry)
                }
                ManifestStatus::Existing => {
                    let is_numbered = entry.data_file.first_row_id.zip(first_row_id).is_some_and(|(id, first)| id >= first);
                    is_numbered || earlier.iter().any(|before| entry.snapshot_id == Some(before.snapshot_id))
                }
                ManifestStatus::Deleted => false,
            };
            if is_fixed {
                let what = format!("{} has the numbers of this commit for {}", file.manifest_path, entry.data_file.file_path);
                return Err(MergeRule::SequenceNumber.refuse(what).into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
