//! Undo of an expiry.
//!
//! The snapshots, branches and tags come from the metadata file before the expiry, which its outcome names. Their files must be in
//! storage; files in quarantine are released in the commit that brings the snapshots back.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use esker_catalog::{Actor, Catalog, CommitRecords, LoadedTable, Proposal, Restored};
use esker_format::{SnapshotRef, TableMetadata};
use esker_state::Job;
use esker_storage::Location;
use esker_table::{TableError, list_location, outline, reachable};
use esker_types::{Coded, ErrorCode, Principal, format_count};

use super::{ExpireOutcome, ExpirePlan};
use crate::undone::{UndoOutcome, check_stored, load_unfrozen, nothing_to_undo, refused, swept};
use crate::{MaintenanceError, Result};

/// Returns the error of a job record that can't be read.
fn unreadable(job: &Job, what: &str) -> MaintenanceError {
    MaintenanceError::Refused(format!("job {}: its {what} can't be read", job.id))
}

/// Undoes an expiry: brings its snapshots, branches and tags back into the table.
///
/// A branch or tag that was created again since stays as it is.
///
/// # Errors
///
/// - Returns [`MaintenanceError::Refused`] if the job removed nothing, if a plan in its record can't be read, if the table is
///   frozen, or if another table has its name.
/// - Returns [`MaintenanceError::Refused`] if a file that the snapshots need was deleted or is missing in storage, or if no
///   metadata file has the snapshots.
/// - Returns [`MaintenanceError::State`] if the table was dropped or the database fails, and [`MaintenanceError::Storage`] if the
///   storage does not answer.
/// - Returns [`MaintenanceError::Table`] if an earlier metadata file can't be parsed, or if a manifest list or manifest can't be
///   read.
/// - Returns [`MaintenanceError::Catalog`] if the table can't be loaded, an earlier metadata file can't be read, or the commit
///   fails.
pub(crate) async fn undo_expire(catalog: &Catalog, job: &Job, principal: &Principal) -> Result<UndoOutcome> {
    let (ids, refs) = expired(job)?;
    if ids.is_empty() && refs.is_empty() {
        return nothing_to_undo(job, "it removed no snapshot, branch or tag");
    }
    let table = load_unfrozen(catalog, job).await?;
    let before: HashSet<i64> = table.metadata.snapshots.iter().map(|s| s.snapshot_id).collect();
    let (earlier, restored) = state_before(catalog, &table, job, &ids, &refs).await?;
    let missing = |s: &&SnapshotRef| ids.contains(&s.snapshot_id) && !before.contains(&s.snapshot_id);
    let missing: Vec<SnapshotRef> = earlier.snapshots.iter().filter(missing).cloned().collect();
    let (files, specs) = stored_files(catalog, job, &earlier, &missing).await?;
    let restored = restored.with_specs(&earlier, &specs);
    let restored_paths: Vec<String> = files.iter().flat_map(|path| Location::all_spellings(path)).collect();
    let files = catalog.state().quarantine().quarantined_among(&restored_paths).await?.0.len() as u64;
    let actor = Actor::server_for(principal.to_string());
    // Every file of the snapshots that is in quarantine, for whatever reason, is released with the commit; else the commit fails.
    let (updates, restore) = (restored.updates(), Some(Box::new(restored)));
    let records = CommitRecords { restored: restored_paths, ..CommitRecords::default() };
    let proposal = Proposal { updates, restore, records, actor, ..Proposal::default() };
    let now = catalog.commit_to(table.row.id, proposal).await?.table.metadata;
    // A reference that was created again since stays as it is.
    let (taken, then, now) = (&table.metadata.refs, &earlier.refs, &now.refs);
    let is_back = |name: &String| !taken.contains_key(name) && now.contains_key(name) && now.get(name) == then.get(name);
    let refs = refs.into_iter().filter(is_back).collect();
    Ok(UndoOutcome { snapshots: missing.len() as u64, refs, files, ..UndoOutcome::default() })
}

/// Returns every file that some snapshots lead to, and the ids of their partition specs, after checking that each file is in
/// storage.
///
/// Manifest lists and manifests are checked too: they may be in a cache and missing in storage.
async fn stored_files(
    catalog: &Catalog,
    job: &Job,
    metadata: &TableMetadata,
    snapshots: &[SnapshotRef],
) -> Result<(Vec<String>, HashSet<i32>)> {
    let lists: Vec<String> = snapshots.iter().filter_map(|s| list_location(s).map(str::to_owned)).collect();
    check_there(catalog, job, &lists).await?;
    let outline = outline(catalog.manifests(), metadata, snapshots, &HashSet::new()).await?;
    let (manifests, specs): (Vec<String>, HashSet<i32>) = outline.specs().map(|(path, spec)| (path.to_owned(), spec)).unzip();
    check_there(catalog, job, &manifests).await?;
    let files = reachable(catalog.manifests(), metadata, snapshots, &HashSet::new()).await?.files;
    let files: Vec<String> = files.into_keys().collect();
    check_there(catalog, job, &files).await?;
    Ok((files, specs))
}

/// Checks that files are in storage and were not deleted or are being deleted from quarantine.
async fn check_there(catalog: &Catalog, job: &Job, paths: &[String]) -> Result<()> {
    let names: Vec<String> = paths.iter().flat_map(|path| Location::all_spellings(path)).collect();
    if let Some(path) = catalog.state().quarantine().quarantined_among(&names).await?.1.first() {
        return Err(swept(job, &format!("{path} was deleted, or is being")));
    }
    check_stored(catalog, job, paths).await
}

/// Returns the snapshots and references that an expiry planned to remove, in all its attempts: a killed attempt may have committed.
fn expired(job: &Job) -> Result<(HashSet<i64>, Vec<String>)> {
    let (mut ids, mut refs) = (HashSet::new(), BTreeSet::new());
    for plan in job.earlier_plans.iter().chain(&job.plan) {
        let plan: ExpirePlan = serde_json::from_value(plan.clone()).map_err(|_| unreadable(job, "plan"))?;
        ids.extend(plan.expire.iter().map(|s| s.snapshot_id));
        refs.extend(plan.expire_refs);
    }
    Ok((ids, refs.into_iter().collect()))
}

/// Finds the metadata before the expiry, and takes the removed snapshots and references from it.
///
/// It is the metadata file that the outcome names. If the job was killed before it recorded one, it is the newest file of the
/// metadata log that has all the snapshots.
async fn state_before(
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
        // Not from the cache: a file in memory may be missing in storage.
        let json = match catalog.json_at(&path).await {
            Err(e) if e.code() == ErrorCode::DataMissing => {
                gone = gone.or(Some(path));
                continue;
            }
            json => json?,
        };
        let earlier = TableMetadata::from_json(&json).map_err(|e| TableError::file(&path, e))?;
        // In format version 1 a table need not have a UUID.
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
    let snapshots = format_count(ids.len() as u64, "snapshot");
    refused(format!("no metadata file of {} has the {snapshots} of job {}", table.row.name, job.id))
}
