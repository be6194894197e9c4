//! Expiry of snapshots.
//!
//! The plan names the snapshots, branches and tags that retention lets go, and the files that only they lead to. Running it removes them and
//! quarantines the files in one commit, if the plan still fits.

mod job;
mod undo;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use esker_catalog::{Actor, Catalog, Change, LoadedTable, Proposal, Rebase};
use esker_format::{MAIN_BRANCH, SnapshotRef, TableMetadata, TableUpdate};
use esker_storage::Location;
use esker_table::{
    Expirable, ExpiryPolicy, FileKind, Reachable, ReachableFiles, UnreadableFile, outline, protected_since, reachable_lenient,
    requirement_for_refs, snapshots_to_expire,
};
use esker_types::{JobId, Millis, now_ms, saturating_total};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::compact::carried;
use crate::context::JobContext;
use crate::{MaintenanceError, Result, check_deletable};
pub(crate) use job::Expiry;

/// A snapshot that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiringSnapshot {
    /// Its id.
    pub snapshot_id: i64,
    /// When it was made.
    pub timestamp_ms: Millis,
    /// What made it: its operation, or `unknown`.
    pub operation: String,
}

/// A file that no snapshot refers to any more once the plan is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiringFile {
    /// Its URI.
    pub path: String,
    /// `data`, `delete`, `manifest`, `manifest-list` or `statistics`.
    pub kind: String,
    /// Its size, where metadata tells.
    pub bytes: Option<u64>,
}

/// What an expiry is going to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpirePlan {
    /// The table's name.
    pub table: String,
    /// What was asked for.
    pub policy: ExpiryPolicy,
    /// The time that ages were counted from.
    pub now_ms: Millis,
    /// Snapshots in the table.
    pub snapshots: u64,
    /// Snapshots that go, oldest first.
    pub expire: Vec<ExpiringSnapshot>,
    /// Branches and tags that go.
    pub expire_refs: Vec<String>,
    /// Files that go into quarantine.
    pub files: Vec<ExpiringFile>,
    /// When they may be deleted.
    pub grace_ms: Millis,
    /// The snapshots go whatever the retention policy says, because rows in them are to be erased.
    #[serde(default)]
    pub forced: bool,
    /// What can't be read of the snapshots that go. What only that leads to stays in storage, until a look for orphans finds it.
    #[serde(default)]
    pub unread: Vec<UnreadableFile>,
}

impl ExpirePlan {
    /// Bytes of the files, where metadata tells.
    pub fn bytes(&self) -> u64 {
        saturating_total(self.files.iter().filter_map(|f| f.bytes))
    }
}

/// What an expiry did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExpireOutcome {
    /// Snapshots removed.
    pub snapshots: u64,
    /// References removed.
    pub refs: u64,
    /// Files put into quarantine.
    #[serde(alias = "doomed_files")]
    pub quarantined_files: u64,
    /// Their bytes, where known.
    #[serde(alias = "doomed_bytes")]
    pub quarantined_bytes: u64,
    /// The table's metadata file before: what an undo takes the snapshots from.
    #[serde(default)]
    pub metadata_before: String,
    /// What could not be read of the snapshots that went. What only that leads to is still in storage; a look for orphans finds it.
    #[serde(default)]
    pub unread: Vec<UnreadableFile>,
    /// Seconds that the commit took. What it removes was worked out for the plan.
    pub seconds: f64,
}

/// Plans an expiry, and keeps what running the plan needs.
///
/// # Errors
///
/// Returns [`MaintenanceError::Refused`] for a foreign table and where `gc.enabled` is false, and the error of metadata that can't be read.
pub(crate) async fn plan_expire(
    catalog: &Catalog,
    table: &LoadedTable,
    policy: ExpiryPolicy,
) -> Result<(ExpirePlan, Unreferenced)> {
    check_deletable(catalog, table)?;
    let now = now_ms();
    let verdict = snapshots_to_expire(&table.metadata, &table.metadata.refs, policy, now)?;
    plan_of(catalog, table, policy, now, verdict).await
}

/// The plan to expire some snapshots and references whatever the retention policy says. Heads of references that stay do, and so
/// does what was just added.
pub(crate) async fn plan_forced(
    catalog: &Catalog,
    table: &LoadedTable,
    snapshots: &HashSet<i64>,
    drop_refs: &BTreeSet<String>,
) -> Result<(ExpirePlan, Unreferenced)> {
    check_deletable(catalog, table)?;
    let verdict = forced_verdict(&table.metadata, snapshots, drop_refs)?;
    let (plan, unreferenced) = plan_of(catalog, table, ExpiryPolicy::default(), now_ms(), verdict).await?;
    if let Some(file) = plan.unread.first() {
        let what = "what it leads to may hold the rows: bring the file back, or expire the snapshot and the orphans first";
        return Err(MaintenanceError::Refused(format!("{file}; {what}")));
    }
    Ok((ExpirePlan { forced: true, ..plan }, unreferenced))
}

fn forced_verdict(metadata: &TableMetadata, snapshots: &HashSet<i64>, drop_refs: &BTreeSet<String>) -> Result<Expirable> {
    let all = &metadata.refs;
    // Without `main` a table is empty.
    let goes = |name: &String| name != MAIN_BRANCH && drop_refs.contains(name);
    let expire_refs: Vec<String> = all.keys().filter(|name| goes(name)).cloned().collect();
    let heads: HashSet<i64> = all.iter().filter(|(name, _)| !goes(name)).map(|(_, reference)| reference.snapshot_id).collect();
    let just_added = protected_since(metadata, now_ms())?;
    let goes =
        |s: &&SnapshotRef| snapshots.contains(&s.snapshot_id) && !heads.contains(&s.snapshot_id) && s.timestamp_ms <= just_added;
    let mut expire: Vec<&SnapshotRef> = metadata.snapshots.iter().filter(goes).collect();
    expire.sort_by_key(|s| (s.timestamp_ms, s.snapshot_id));
    Ok(Expirable { expire: expire.into_iter().map(|s| s.snapshot_id).collect(), expire_refs })
}

async fn plan_of(
    catalog: &Catalog,
    table: &LoadedTable,
    policy: ExpiryPolicy,
    now: Millis,
    verdict: Expirable,
) -> Result<(ExpirePlan, Unreferenced)> {
    let gone: HashSet<i64> = verdict.expire.iter().copied().collect();
    let unreferenced = Unreferenced::find(catalog, &table.metadata, &gone).await?;
    let snapshot = |id: &i64| {
        table.metadata.snapshots.get(*id).map(|s| ExpiringSnapshot {
            snapshot_id: *id,
            timestamp_ms: s.timestamp_ms,
            operation: s.operation().unwrap_or("unknown").to_owned(),
        })
    };
    let files = unreferenced.files.iter().map(|(path, (kind, bytes))| ExpiringFile {
        path: path.clone(),
        kind: kind_name(*kind).to_owned(),
        bytes: *bytes,
    });
    let plan = ExpirePlan {
        table: table.row.name.to_string(),
        policy,
        now_ms: now,
        snapshots: table.metadata.snapshots.len() as u64,
        expire: verdict.expire.iter().filter_map(snapshot).collect(),
        expire_refs: verdict.expire_refs,
        files: files.collect(),
        grace_ms: catalog.options().grace_ms,
        forced: false,
        unread: unreferenced.unread.clone(),
    };
    Ok((plan, unreferenced))
}

fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Data => "data",
        FileKind::Delete => "delete",
        FileKind::Manifest => "manifest",
        FileKind::ManifestList => "manifest-list",
        FileKind::Statistics => "statistics",
    }
}

/// The files that only expiring snapshots lead to, with what is needed to bring that up to date at the commit point.
#[derive(Debug, Clone)]
pub(crate) struct Unreferenced {
    files: ReachableFiles,
    /// The highest data sequence number among them.
    newest: i64,
    /// Snapshots that were in the table when this was worked out.
    known: HashSet<i64>,
    /// Manifests of those that stay.
    retained_manifests: HashSet<String>,
    /// What can't be read of those that go.
    unread: Vec<UnreadableFile>,
}

impl Unreferenced {
    async fn find(catalog: &Catalog, metadata: &TableMetadata, gone: &HashSet<i64>) -> Result<Self> {
        let source = catalog.manifests();
        let (expiring, retained): (Vec<SnapshotRef>, Vec<SnapshotRef>) =
            metadata.snapshots.iter().cloned().partition(|s| gone.contains(&s.snapshot_id));
        let known = metadata.snapshots.iter().map(|s| s.snapshot_id).collect();
        if expiring.is_empty() {
            let (files, retained_manifests, unread) = Default::default();
            return Ok(Self { files, newest: 0, known, retained_manifests, unread });
        }
        let kept = outline(source, metadata, &retained, &HashSet::new()).await?;
        let retained_manifests: HashSet<String> = kept.manifests.keys().cloned().collect();
        // Of the manifests, those alone are opened that differ, and those that may hold what these hold.
        let found = reachable_lenient(source, metadata, &expiring, &retained_manifests).await?;
        let (Reachable { mut files, newest }, unread) = found;
        kept.subtract_from(source, &mut files, newest, Location::normalize).await?;
        Ok(Self { files, newest, known, retained_manifests, unread })
    }

    /// The files again, less those that snapshots made since then refer to.
    async fn now(&self, catalog: &Catalog, metadata: &TableMetadata) -> Result<ReachableFiles> {
        let new: Vec<SnapshotRef> = metadata.snapshots.iter().filter(|s| !self.known.contains(&s.snapshot_id)).cloned().collect();
        let mut files = self.files.clone();
        if !new.is_empty() {
            let kept = outline(catalog.manifests(), metadata, &new, &self.retained_manifests).await?;
            kept.subtract_from(catalog.manifests(), &mut files, self.newest, Location::normalize).await?;
        }
        Ok(files)
    }
}

/// Executes a plan: removes its snapshots and quarantines its files, in one commit.
pub(crate) async fn execute_expire(
    context: &JobContext,
    table: &LoadedTable,
    plan: &ExpirePlan,
    unreferenced: &Unreferenced,
) -> Result<ExpireOutcome> {
    let started = Instant::now();
    let gone: BTreeSet<i64> = plan.expire.iter().map(|s| s.snapshot_id).collect();
    if gone.is_empty() && plan.expire_refs.is_empty() {
        return Ok(ExpireOutcome::default());
    }
    context.progress.set_total(plan.files.len() as u64);
    for file in &unreferenced.unread {
        context.progress.log(format!("{file}; what only that leads to stays in storage, until a look for orphans finds it"));
    }
    let commit = Arc::new(ExpireCommit {
        catalog: context.catalog.clone(),
        job: context.job,
        actor: context.actor.clone(),
        plan: plan.clone(),
        gone,
        unreferenced: unreferenced.clone(),
        outcome: std::sync::Mutex::new(ExpireOutcome::default()),
    });
    context.check_cancelled()?;
    context.catalog.commit_to(table.row.id, Change::Rebased(commit.clone())).await?;
    let mut outcome = commit.outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    outcome.seconds = started.elapsed().as_secs_f64();
    context.progress.add(plan.files.len() as u64);
    Ok(outcome)
}

struct ExpireCommit {
    catalog: Catalog,
    job: JobId,
    actor: Actor,
    plan: ExpirePlan,
    gone: BTreeSet<i64>,
    unreferenced: Unreferenced,
    outcome: std::sync::Mutex<ExpireOutcome>,
}

impl Rebase for ExpireCommit {
    fn propose<'a>(&'a self, table: &'a LoadedTable) -> BoxFuture<'a, esker_catalog::Result<Proposal>> {
        Box::pin(async move {
            let proposal = self.proposal(table).await.map_err(carried)?;
            self.catalog.failpoint("expire-before-commit").await;
            Ok(proposal)
        })
    }
}

impl ExpireCommit {
    async fn proposal(&self, table: &LoadedTable) -> Result<Proposal> {
        let metadata = &table.metadata;
        // The verdict again on the table as it is: what a branch or tag has come to need since the plan stays, and
        // nothing goes that was not shown.
        let verdict = match self.plan.forced {
            false => snapshots_to_expire(metadata, &metadata.refs, self.plan.policy, self.plan.now_ms)?,
            true => {
                let gone = self.gone.iter().copied().collect();
                forced_verdict(metadata, &gone, &self.plan.expire_refs.iter().cloned().collect())?
            }
        };
        let expire: Vec<i64> = verdict.expire.into_iter().filter(|id| self.gone.contains(id)).collect();
        if expire.len() < self.gone.len() {
            return Err(MaintenanceError::Refused(
                "a snapshot of the plan came to be needed or was removed meanwhile; plan again".to_owned(),
            ));
        }
        let dropped: Vec<String> = verdict.expire_refs.into_iter().filter(|r| self.plan.expire_refs.contains(r)).collect();
        let files = self.unreferenced.now(&self.catalog, metadata).await?;
        let due_ms = now_ms().saturating_add(self.catalog.options().grace_ms);
        let reason = "no snapshot refers to it since the expiry of snapshots";
        let record = |(path, (_, bytes)): (&String, &(FileKind, Option<u64>))| {
            table.row.quarantine(path.clone(), *bytes, reason, Some(self.job), due_ms)
        };
        let mut updates: Vec<TableUpdate> =
            dropped.iter().map(|ref_name| TableUpdate::RemoveSnapshotRef { ref_name: ref_name.clone() }).collect();
        for id in &expire {
            if metadata.statistics_for_snapshot(*id).is_some() {
                updates.push(TableUpdate::RemoveStatistics { snapshot_id: *id });
            }
            if metadata.partition_statistics_for_snapshot(*id).is_some() {
                updates.push(TableUpdate::RemovePartitionStatistics { snapshot_id: *id });
            }
        }
        if !expire.is_empty() {
            updates.push(TableUpdate::RemoveSnapshots { snapshot_ids: expire.clone() });
        }
        *self.outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = ExpireOutcome {
            snapshots: expire.len() as u64,
            refs: dropped.len() as u64,
            quarantined_files: files.len() as u64,
            quarantined_bytes: saturating_total(files.values().filter_map(|(_, bytes)| *bytes)),
            metadata_before: table.row.metadata_location.clone(),
            unread: self.unreferenced.unread.clone(),
            seconds: 0.0,
        };
        Ok(Proposal {
            restore: None,
            requirements: requirement_for_refs(&metadata.refs),
            updates,
            quarantine: files.iter().map(record).collect(),
            settled_outputs: Vec::new(),
            restored: Vec::new(),
            actor: self.actor.clone(),
        })
    }
}
