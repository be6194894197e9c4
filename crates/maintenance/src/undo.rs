//! Taking a job back, while what it quarantined is still there.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Display;
use std::sync::Arc;

use esker_catalog::{Actor, Catalog, CatalogError, Change, LoadedTable, Proposal, Restored};
use esker_format::{SnapshotRef, TableMetadata};
use esker_state::{Job, StateError};
use esker_storage::Location;
use esker_table::{TableError, list_of, outline, reachable};
use esker_types::{Coded, ErrorCode, JobId, Principal, now_ms};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::erase::erased;
use crate::jobs::current;
use crate::reverse::reverse;
use crate::{ExpireOutcome, ExpirePlan, MaintenanceError, Result, check_not_frozen};

/// Files that the storage is asked for at the same time.
const CONCURRENCY: usize = 32;

/// What an undo did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// Snapshots that are back in the table.
    pub snapshots: u64,
    /// Branches and tags that are back.
    pub refs: Vec<String>,
    /// Files that are in the table again, or out of quarantine.
    pub files: u64,
    /// Files that were deleted already, or are being.
    pub gone: u64,
    /// The undo's own record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
}

fn refused<T>(what: String) -> Result<T> {
    Err(MaintenanceError::Refused(what))
}

fn unreadable(job: &Job, what: &str) -> MaintenanceError {
    MaintenanceError::Refused(format!("job {}: its {what} can't be read", job.id))
}

/// A file that the undo of a job needs is gone, or going.
pub(crate) fn swept(job: &Job, what: &dyn Display) -> MaintenanceError {
    MaintenanceError::Refused(format!(
        "job {} can't be undone: {what}; put the file in its place again from a backup of the storage, and undo the job then",
        job.id
    ))
}

/// The error of an undo. A sweep may take files away between any look at them and their use.
fn of_undo(job: &Job, error: MaintenanceError) -> MaintenanceError {
    match &error {
        MaintenanceError::Catalog(CatalogError::State(going @ StateError::Going(_))) => swept(job, going),
        missing if missing.code() == ErrorCode::DataMissing => swept(job, missing),
        _ => error,
    }
}

/// Undoes an expiry (its snapshots, branches and tags are in the table again), a removal of orphans (they stay), or a compaction (the
/// files that it replaced are in the table again, in place of its own).
///
/// It is refused while the table is frozen, but for orphans, of which it touches only what is in quarantine.
///
/// The undo is a record of its own, which that of the job names. A job is taken back once.
pub async fn undo(catalog: &Catalog, job: &Job, principal: &Principal) -> Result<Undone> {
    if !job.state.is_over() {
        return refused(format!("job {} is {}; wait for it to end, or cancel it", job.id, job.state.as_str()));
    }
    let already = |by: &dyn Display| refused(format!("job {} is undone already, by {by}", job.id));
    if let Some(by) = &job.undone_by {
        return already(by);
    }
    let began_ms = now_ms();
    let undone = take_back(catalog, job, principal).await.map_err(|e| of_undo(job, e))?;
    let outcome = serde_json::to_string(&undone).unwrap_or_default();
    match catalog.state().record_undo(job, &principal.to_string(), &outcome, began_ms).await? {
        Some(record) => Ok(Undone { job_id: Some(record), ..undone }),
        None => already(&"another request at the same time"),
    }
}

/// An error if what a job put into quarantine holds rows that were erased since: they are to go.
async fn check_not_erased(catalog: &Catalog, job: &Job) -> Result<()> {
    let erased = erased(catalog, job.table_id).await?;
    if erased.is_empty() {
        return Ok(());
    }
    for quarantined in catalog.state().quarantine_of(job.table_id).await?.into_iter().filter(|d| d.record.job == Some(job.id)) {
        if let Some(by) = erased.get(&Location::normal(&quarantined.record.path)) {
            return refused(format!("{} holds rows that job {by} erased", quarantined.record.path));
        }
    }
    Ok(())
}

async fn take_back(catalog: &Catalog, job: &Job, principal: &Principal) -> Result<Undone> {
    check_not_erased(catalog, job).await?;
    let note = format!("job {} was undone by {principal}", job.id);
    match job.kind.as_str() {
        "orphans" => {
            let (files, gone) = catalog.state().release_quarantined_by(job.id, &note).await?;
            Ok(Undone { files, gone, ..Undone::default() })
        }
        "expire" => undo_expire(catalog, job, principal).await,
        "compact" => {
            let files = reverse(catalog, &thawed(catalog, job).await?, job, principal).await?;
            Ok(Undone { files, ..Undone::default() })
        }
        kind => refused(format!("job {} is of the kind {kind}, which can't be undone", job.id)),
    }
}

/// The job's table as it is now, if it is not frozen.
async fn thawed(catalog: &Catalog, job: &Job) -> Result<LoadedTable> {
    let table = current(catalog, job).await?;
    check_not_frozen(catalog, &table).await?;
    Ok(table)
}

async fn undo_expire(catalog: &Catalog, job: &Job, principal: &Principal) -> Result<Undone> {
    let (ids, refs) = expired(job)?;
    if ids.is_empty() && refs.is_empty() {
        return Ok(Undone::default());
    }
    let table = thawed(catalog, job).await?;
    let before: HashSet<i64> = table.metadata.snapshots.iter().map(|s| s.snapshot_id).collect();
    let (earlier, restored) = earlier(catalog, &table, job, &ids, &refs).await?;
    let missing = |s: &&SnapshotRef| ids.contains(&s.snapshot_id) && !before.contains(&s.snapshot_id);
    let missing: Vec<SnapshotRef> = earlier.snapshots.iter().filter(missing).cloned().collect();
    let (files, specs) = there(catalog, job, &earlier, &missing).await?;
    let restored = restored.with_specs(&earlier, &specs);
    let revives: Vec<String> = files.iter().flat_map(|path| Location::names(path)).collect();
    let files = catalog.state().quarantined_among(&revives).await?.0.len() as u64;
    let actor = Actor { principal: principal.to_string(), receipt: None };
    // Whoever quarantined a file that the snapshots lead to: it is taken out of quarantine with the commit, or the commit fails.
    let (updates, restore) = (restored.updates(), Some(Box::new(restored)));
    let proposal = Proposal { updates, restore, restored: revives, actor, ..Proposal::default() };
    let now = catalog.commit_to(table.row.id, Change::Fixed(Box::new(proposal))).await?.table.metadata;
    // One that was made anew since is left as it is.
    let (taken, then, now) = (&table.metadata.refs, &earlier.refs, &now.refs);
    let is_back = |name: &String| !taken.contains_key(name) && now.contains_key(name) && now.get(name) == then.get(name);
    let refs = refs.into_iter().filter(is_back).collect();
    Ok(Undone { snapshots: missing.len() as u64, refs, files, ..Undone::default() })
}

/// Every file that some snapshots lead to, if each is in storage, and the ids of the partition specs. Manifest lists and manifests may be
/// in a cache and gone all the same.
async fn there(
    catalog: &Catalog,
    job: &Job,
    metadata: &TableMetadata,
    snapshots: &[SnapshotRef],
) -> Result<(Vec<String>, HashSet<i32>)> {
    let lists: Vec<String> = snapshots.iter().filter_map(|s| list_of(s).map(str::to_owned)).collect();
    check_there(catalog, job, &lists).await?;
    let outline = outline(catalog.manifests(), metadata, snapshots, &HashSet::new()).await?;
    let (manifests, specs): (Vec<String>, HashSet<i32>) = outline.specs().map(|(path, spec)| (path.to_owned(), spec)).unzip();
    check_there(catalog, job, &manifests).await?;
    let files = reachable(catalog.manifests(), metadata, snapshots, &HashSet::new()).await?.files;
    let files: Vec<String> = files.into_keys().collect();
    check_there(catalog, job, &files).await?;
    Ok((files, specs))
}

async fn check_there(catalog: &Catalog, job: &Job, paths: &[String]) -> Result<()> {
    let names: Vec<String> = paths.iter().flat_map(|path| Location::names(path)).collect();
    if let Some(path) = catalog.state().quarantined_among(&names).await?.1.first() {
        return Err(swept(job, &format!("{path} was deleted, or is being")));
    }
    check_stored(catalog, job, paths).await
}

/// An error if a file is not in storage.
pub(crate) async fn check_stored(catalog: &Catalog, job: &Job, paths: &[String]) -> Result<()> {
    let asked = futures::stream::iter(paths.to_vec());
    let asked = asked.map(|path| async move { Ok::<_, MaintenanceError>((catalog.storage().size(&path).await?, path)) });
    let mut asked = asked.buffer_unordered(CONCURRENCY);
    while let Some((size, path)) = asked.try_next().await? {
        if size.is_none() {
            return Err(swept(job, &format!("{path} is not in storage any more")));
        }
    }
    Ok(())
}

/// The snapshots and references that an expiry set out to remove, in all its attempts: one that was killed may have done it.
fn expired(job: &Job) -> Result<(HashSet<i64>, Vec<String>)> {
    let (mut ids, mut refs) = (HashSet::new(), BTreeSet::new());
    for plan in job.earlier_plans.iter().chain(&job.plan) {
        let plan: ExpirePlan = serde_json::from_value(plan.clone()).map_err(|_| unreadable(job, "plan"))?;
        ids.extend(plan.expire.iter().map(|s| s.snapshot_id));
        refs.extend(plan.expire_refs);
    }
    Ok((ids, refs.into_iter().collect()))
}

/// What an expiry removed, from the metadata file that it recorded; if it was killed before it could, from the newest in the
/// metadata log that has it all.
async fn earlier(
    catalog: &Catalog,
    table: &LoadedTable,
    job: &Job,
    ids: &HashSet<i64>,
    refs: &[String],
) -> Result<(Arc<TableMetadata>, Restored)> {
    let outcome = job.outcome.as_ref().and_then(|o| serde_json::from_value::<ExpireOutcome>(o.clone()).ok());
    let recorded = outcome.map(|o| o.metadata_before).filter(|path| !path.is_empty());
    let log = table.metadata.metadata_log.iter().rev().map(|log| log.metadata_file.clone());
    let candidates: Vec<String> = match recorded {
        Some(path) if job.earlier_plans.is_empty() => vec![path],
        recorded => recorded.into_iter().chain(log).collect(),
    };
    let mut gone = None;
    for path in candidates {
        // Not from the cache: what is in memory may be gone from storage.
        let json = match catalog.json_at(&path).await {
            Err(e) if e.code() == ErrorCode::DataMissing => {
                gone = gone.or(Some(path));
                continue;
            }
            json => json?,
        };
        let earlier = TableMetadata::from_json(&json).map_err(|e| TableError::file(&path, e))?;
        // In version 1 a table need not have one.
        if earlier.table_uuid.zip(table.metadata.table_uuid).is_some_and(|(then, now)| then != now) {
            return refused(format!("{} is another table than the one that job {} worked on", table.row.name, job.id));
        }
        let restored = Restored::of(&earlier, ids, refs);
        if restored.ids().len() == ids.len() {
            return Ok((Arc::new(earlier), restored));
        }
    }
    if let Some(path) = gone {
        return Err(swept(job, &format!("{path} is not in storage any more")));
    }
    refused(format!("no metadata file of {} tells the {} snapshots of job {}", table.row.name, ids.len(), job.id))
}
