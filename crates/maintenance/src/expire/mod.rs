//! Expiry of snapshots.
//!
//! The plan names the snapshots, branches and tags that the retention policy no longer keeps, and the files that only they lead to.
//! Running it removes them and quarantines the files in one commit. At the commit point the plan is checked against the table as it
//! is. Nothing is removed that was not shown or that is needed by then. Start reading at [`plan_expire`], then
//! `ExpireCommit::proposal`.
//!
//! Spec: "Snapshot Retention Policy".

mod job;
mod undo;

use std::collections::{BTreeSet, HashSet};
use std::time::Instant;

use esker_catalog::{Actor, Catalog, CommitRecords, LoadedTable, Proposal, Rebase};
use esker_format::{MAIN_BRANCH, SnapshotRef, TableMetadata, TableUpdate};
use esker_storage::Location;
use esker_table::{
    Expirable, ExpiryPolicy, FileKind, Reachable, ReachableFiles, UnreadableFile, outline, protected_since, reachable_lenient,
    requirement_for_refs, snapshots_to_expire,
};
use esker_types::{DurationMillis, JobId, Millis, now_ms, saturating_total};
use serde::{Deserialize, Serialize};

use crate::compact::{Proposed, into_catalog_error};
use crate::context::JobContext;
use crate::{MaintenanceError, Result, check_deletable};
pub(crate) use job::Expiry;

/// A snapshot that is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExpiringSnapshot {
    /// Id of the snapshot.
    pub snapshot_id: i64,
    /// Time of the snapshot, in milliseconds since the Unix epoch.
    pub timestamp_ms: Millis,
    /// Operation of the snapshot's summary, or `unknown`.
    pub operation: String,
}

/// A file that no snapshot refers to once the plan is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExpiringFile {
    /// URI of the file.
    pub path: String,
    /// Kind of the file: `data`, `delete`, `manifest`, `manifest-list` or `statistics`.
    pub kind: String,
    /// Size of the file in bytes, if metadata has it.
    pub bytes: Option<u64>,
}

/// The plan of a snapshot expiry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExpirePlan {
    /// Name of the table.
    pub table: String,
    /// The retention policy of the request.
    pub policy: ExpiryPolicy,
    /// Time from which ages are counted, in milliseconds since the Unix epoch.
    pub now_ms: Millis,
    /// Number of snapshots in the table.
    pub snapshots: u64,
    /// The snapshots that are removed, oldest first.
    pub expire: Vec<ExpiringSnapshot>,
    /// Names of the branches and tags that are removed.
    pub expire_refs: Vec<String>,
    /// The files that go into quarantine.
    pub files: Vec<ExpiringFile>,
    /// Time that the files stay in quarantine before they may be deleted, in milliseconds.
    pub grace_ms: DurationMillis,
    /// True if the snapshots are removed whatever the retention policy keeps, because rows in them are to be erased.
    #[serde(default)]
    pub forced: bool,
    /// Manifest lists and manifests of the removed snapshots that can't be read. Files that only these lead to stay in storage
    /// until an orphan scan finds them.
    #[serde(default)]
    pub unread: Vec<UnreadableFile>,
    /// The reason that nothing is removed, for people; absent if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nothing_to_do: Option<String>,
}

/// The outcome of a snapshot expiry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExpireOutcome {
    /// Number of snapshots that were removed.
    pub snapshots: u64,
    /// Number of branches and tags that were removed.
    pub refs: u64,
    /// Number of files that were quarantined.
    #[serde(alias = "doomed_files")]
    pub quarantined_files: u64,
    /// Total size of the quarantined files, in bytes; files of unknown size count as zero.
    #[serde(alias = "doomed_bytes")]
    pub quarantined_bytes: u64,
    /// Location of the metadata file before the expiry, from which an undo takes the snapshots.
    #[serde(default)]
    pub metadata_before: String,
    /// Manifest lists and manifests of the removed snapshots that could not be read. Files that only these lead to are still in
    /// storage; an orphan scan finds them.
    #[serde(default)]
    pub unread: Vec<UnreadableFile>,
    /// Duration of the commit, in seconds. The files were computed before, for the plan.
    pub seconds: f64,
}

/// Plans an expiry by the retention policy. The second value has the files of the plan, as [`execute_expire`] needs them.
///
/// # Errors
///
/// - Returns [`MaintenanceError::Table`] if a property about retention can't be parsed, or if a manifest list or manifest can't be
///   read. One of an expiring snapshot that is missing, damaged, encrypted or outside the warehouse is no error: the plan names it
///   as unread.
pub(crate) async fn plan_expire(
    catalog: &Catalog,
    table: &LoadedTable,
    policy: ExpiryPolicy,
) -> Result<(ExpirePlan, Unreferenced)> {
    let now = now_ms();
    let verdict = snapshots_to_expire(&table.metadata, &table.metadata.refs, policy, now)?;
    plan_of(catalog, table, policy, now, verdict).await
}

/// Plans to expire some snapshots and references whatever the retention policy keeps.
///
/// Heads of the references that stay are kept, and so are snapshots that were just added.
///
/// # Errors
///
/// - Returns what [`check_deletable`] returns.
/// - Returns [`MaintenanceError::Refused`] if a manifest list or manifest of an expiring snapshot is missing, damaged, encrypted or
///   outside the warehouse. The files that it leads to may hold the rows.
/// - Returns [`MaintenanceError::Table`] if `esker.expire.min-age-ms` can't be parsed, or if another manifest list or manifest
///   can't be read.
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
        let what = "the files it leads to may hold the rows; bring it back, or expire the snapshot and remove the orphans first";
        return Err(MaintenanceError::Refused(format!("{file}; {what}")));
    }
    Ok((ExpirePlan { forced: true, ..plan }, unreferenced))
}

/// Returns the snapshots and references that a forced expiry removes from a table.
fn forced_verdict(metadata: &TableMetadata, snapshots: &HashSet<i64>, drop_refs: &BTreeSet<String>) -> Result<Expirable> {
    let all = &metadata.refs;
    // The branch `main` is never removed: without it the table would be empty.
    let goes = |name: &String| name != MAIN_BRANCH && drop_refs.contains(name);
    let expire_refs: Vec<String> = all.keys().filter(|name| goes(name)).cloned().collect();
    let heads: HashSet<i64> = all.iter().filter(|(name, _)| !goes(name)).map(|(_, reference)| reference.snapshot_id).collect();
    let just_added = protected_since(metadata, now_ms())?;
    let goes =
        |s: &&SnapshotRef| snapshots.contains(&s.snapshot_id) && !heads.contains(&s.snapshot_id) && s.timestamp_ms <= just_added;
    let mut expire: Vec<&SnapshotRef> = metadata.snapshots.iter().filter(goes).collect();
    expire.sort_by_key(|s| (s.timestamp_ms, s.snapshot_id));
    let expire = expire.into_iter().map(|s| s.snapshot_id).collect();
    Ok(Expirable { expire, expire_refs, ..Expirable::default() })
}

/// Builds the plan that removes the snapshots and references of a verdict, and finds the files that only they lead to.
async fn plan_of(
    catalog: &Catalog,
    table: &LoadedTable,
    policy: ExpiryPolicy,
    now: Millis,
    verdict: Expirable,
) -> Result<(ExpirePlan, Unreferenced)> {
    let gone: HashSet<i64> = verdict.expire.iter().copied().collect();
    let is_empty = gone.is_empty() && verdict.expire_refs.is_empty();
    let nothing_to_do = is_empty.then(|| verdict.why_all_stay());
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
        nothing_to_do,
    };
    Ok((plan, unreferenced))
}

/// Returns the name of a kind of file in plans.
fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Data => "data",
        FileKind::Delete => "delete",
        FileKind::Manifest => "manifest",
        FileKind::ManifestList => "manifest-list",
        FileKind::Statistics => "statistics",
    }
}

/// The files that only expiring snapshots lead to, with the state that is needed to bring them up to date at the commit point.
#[derive(Debug, Clone)]
pub(crate) struct Unreferenced {
    files: ReachableFiles,
    /// The highest data sequence number of the files.
    max_sequence_number: i64,
    /// Ids of the snapshots that were in the table when the files were computed.
    known: HashSet<i64>,
    /// Locations of the manifests of the snapshots that stay.
    retained_manifests: HashSet<String>,
    /// Manifest lists and manifests of the expiring snapshots that can't be read.
    unread: Vec<UnreadableFile>,
}

impl Unreferenced {
    /// Computes the files that only the snapshots in `expired_ids` lead to.
    async fn find(catalog: &Catalog, metadata: &TableMetadata, expired_ids: &HashSet<i64>) -> Result<Self> {
        let source = catalog.manifests();
        let (expiring, retained): (Vec<SnapshotRef>, Vec<SnapshotRef>) =
            metadata.snapshots.iter().cloned().partition(|s| expired_ids.contains(&s.snapshot_id));
        let known = metadata.snapshots.iter().map(|s| s.snapshot_id).collect();
        if expiring.is_empty() {
            let (files, retained_manifests, unread) = Default::default();
            return Ok(Self { files, max_sequence_number: 0, known, retained_manifests, unread });
        }
        let kept = outline(source, metadata, &retained, &HashSet::new()).await?;
        let retained_manifests: HashSet<String> = kept.manifests.keys().cloned().collect();
        // Only manifests that expiring and retained snapshots do not share are opened, and retained ones that may name the same
        // files.
        let found = reachable_lenient(source, metadata, &expiring, &retained_manifests).await?;
        let (Reachable { mut files, newest }, unread) = found;
        kept.subtract_from(source, &mut files, newest, Location::normalize).await?;
        Ok(Self { files, max_sequence_number: newest, known, retained_manifests, unread })
    }

    /// Returns the files without those that snapshots refer to which were added after the files were computed.
    async fn still_unreferenced(&self, catalog: &Catalog, metadata: &TableMetadata) -> Result<ReachableFiles> {
        let new: Vec<SnapshotRef> = metadata.snapshots.iter().filter(|s| !self.known.contains(&s.snapshot_id)).cloned().collect();
        let mut files = self.files.clone();
        if !new.is_empty() {
            let kept = outline(catalog.manifests(), metadata, &new, &self.retained_manifests).await?;
            kept.subtract_from(catalog.manifests(), &mut files, self.max_sequence_number, Location::normalize).await?;
        }
        Ok(files)
    }
}

/// Executes a plan: removes its snapshots and quarantines its files, in one commit.
///
/// # Errors
///
/// - Returns [`MaintenanceError::Cancelled`] after a cancellation.
/// - Returns [`MaintenanceError::Catalog`] if the commit fails. If the plan does not fit the table any more, its source is
///   [`CatalogError::Carried`](esker_catalog::CatalogError::Carried) with the code
///   [`ErrorCode::Refused`](esker_types::ErrorCode::Refused).
pub(crate) async fn execute_expire(
    context: &JobContext,
    table: &LoadedTable,
    plan: &ExpirePlan,
    unreferenced: &Unreferenced,
) -> Result<ExpireOutcome> {
    let started = Instant::now();
    let expired_ids: BTreeSet<i64> = plan.expire.iter().map(|s| s.snapshot_id).collect();
    if expired_ids.is_empty() && plan.expire_refs.is_empty() {
        return Ok(ExpireOutcome::default());
    }
    context.progress.set_total(plan.files.len() as u64);
    for file in &unreferenced.unread {
        context.progress.log(format!("{file}; the files that only it leads to stay in storage until an orphan scan finds them"));
    }
    let commit = ExpireCommit {
        catalog: context.catalog.clone(),
        job: context.job,
        actor: context.actor.clone(),
        plan: plan.clone(),
        gone: expired_ids,
        unreferenced: unreferenced.clone(),
    };
    context.check_cancelled()?;
    let (_, mut outcome) = context.catalog.commit_rebase(table.row.id, commit).await?;
    outcome.seconds = started.elapsed().as_secs_f64();
    context.progress.add(plan.files.len() as u64);
    Ok(outcome)
}

/// The commit of an expiry.
struct ExpireCommit {
    catalog: Catalog,
    job: JobId,
    actor: Actor,
    plan: ExpirePlan,
    gone: BTreeSet<i64>,
    unreferenced: Unreferenced,
}

impl Rebase for ExpireCommit {
    /// The outcome of the job, without its duration.
    type Effect = ExpireOutcome;

    fn propose<'a>(&'a self, table: &'a LoadedTable) -> Proposed<'a, ExpireOutcome> {
        Box::pin(async move {
            let proposal = self.proposal(table).await.map_err(into_catalog_error)?;
            self.catalog.failpoint("expire-before-commit").await;
            Ok(proposal)
        })
    }
}

impl ExpireCommit {
    /// Computes the proposal on the table as it is at the commit point.
    async fn proposal(&self, table: &LoadedTable) -> Result<(Proposal, ExpireOutcome)> {
        let metadata = &table.metadata;
        // The retention policy is applied again to the table as it is. Snapshots that a branch or tag needs since the plan stay,
        // and nothing is removed that was not shown.
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
                "a snapshot of the plan is needed by now or was removed meanwhile; plan again".to_owned(),
            ));
        }
        let dropped: Vec<String> = verdict.expire_refs.into_iter().filter(|r| self.plan.expire_refs.contains(r)).collect();
        let files = self.unreferenced.still_unreferenced(&self.catalog, metadata).await?;
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
        let outcome = ExpireOutcome {
            snapshots: expire.len() as u64,
            refs: dropped.len() as u64,
            quarantined_files: files.len() as u64,
            quarantined_bytes: saturating_total(files.values().filter_map(|(_, bytes)| *bytes)),
            metadata_before: table.row.metadata_location.clone(),
            unread: self.unreferenced.unread.clone(),
            seconds: 0.0,
        };
        let records = CommitRecords { quarantine: files.iter().map(record).collect(), ..CommitRecords::default() };
        let requirements = requirement_for_refs(&metadata.refs);
        Ok((Proposal { restore: None, requirements, updates, records, actor: self.actor.clone() }, outcome))
    }
}
