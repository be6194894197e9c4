//! Taking a job back, while what it doomed is still there.

use std::collections::{BTreeSet, HashSet};

use esker_catalog::{Catalog, Cause, Change, LoadedTable, Proposal, Restored};
use esker_state::Job;
use esker_types::{Principal, TableName};
use iceberg::spec::TableMetadata;
use serde::{Deserialize, Serialize};

use crate::reverse::reverse;
use crate::{ExpireOutcome, ExpirePlan, MaintenanceError, Result};

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
}

fn refused<T>(what: String) -> Result<T> {
    Err(MaintenanceError::Refused(what))
}

fn unreadable(job: &Job, what: &str) -> MaintenanceError {
    MaintenanceError::Refused(format!("job {}: its {what} can't be read", job.id))
}

/// Undoes an expiry (its snapshots, branches and tags are in the table again), a removal of orphans (they stay), or a compaction (the
/// files that it replaced are in the table again, in place of its own).
pub async fn undo(catalog: &Catalog, job: &Job, principal: &Principal) -> Result<Undone> {
    if !job.state.is_over() {
        return refused(format!("job {} is {}; wait for it to end, or cancel it", job.id, job.state.as_str()));
    }
    let note = format!("job {} was undone by {principal}", job.id);
    match job.kind.as_str() {
        "orphans" => {
            let (files, gone) = catalog.state().spare_dooms_of(job.id, &note, false).await?;
            Ok(Undone { files, gone, ..Undone::default() })
        }
        "expire" => undo_expire(catalog, job, principal, &note).await,
        "compact" => {
            let name: TableName = job.table.parse().map_err(|_| unreadable(job, "table"))?;
            let files = reverse(catalog, &catalog.load(&name).await?, job, principal).await?;
            Ok(Undone { files, ..Undone::default() })
        }
        kind => refused(format!("job {} is of the kind {kind}, which can't be undone", job.id)),
    }
}

async fn undo_expire(catalog: &Catalog, job: &Job, principal: &Principal, note: &str) -> Result<Undone> {
    let (ids, refs) = expired(job)?;
    if ids.is_empty() && refs.is_empty() {
        return Ok(Undone::default());
    }
    let name: TableName = job.table.parse().map_err(|_| unreadable(job, "table"))?;
    let table = catalog.load(&name).await?;
    let restored = earlier(catalog, &table, job, &ids, &refs).await?;
    // First the files, then the snapshots that lead to them. If it ends in between, the files are there without need.
    let (files, gone) = catalog.state().spare_dooms_of(job.id, note, true).await?;
    if gone > 0 {
        let what = "are deleted already or are being: its snapshots can't be read again";
        return refused(format!("{gone} files of job {} {what}", job.id));
    }
    let cause = Cause { principal: principal.to_string(), receipt: None };
    let proposal = Proposal { updates: restored.updates(), restore: Some(Box::new(restored)), cause, ..Proposal::default() };
    let before: HashSet<i64> = table.metadata.snapshots().map(|s| s.snapshot_id()).collect();
    catalog.commit_to(table.row.id, Change::Fixed(Box::new(proposal))).await?;
    let snapshots = ids.iter().filter(|id| !before.contains(id)).count() as u64;
    Ok(Undone { snapshots, refs, files, gone: 0 })
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
async fn earlier(catalog: &Catalog, table: &LoadedTable, job: &Job, ids: &HashSet<i64>, refs: &[String]) -> Result<Restored> {
    let outcome = job.outcome.as_ref().and_then(|o| serde_json::from_value::<ExpireOutcome>(o.clone()).ok());
    let recorded = outcome.map(|o| o.metadata_before).filter(|path| !path.is_empty());
    let log = table.metadata.metadata_log().iter().rev().map(|log| log.metadata_file.clone());
    let candidates: Vec<String> = match recorded {
        Some(path) if job.earlier_plans.is_empty() => vec![path],
        recorded => recorded.into_iter().chain(log).collect(),
    };
    for path in candidates {
        let earlier = TableMetadata::read_from(&catalog.storage().file_io(), &path).await?;
        if earlier.uuid() != table.metadata.uuid() {
            return refused(format!("{} is another table than the one that job {} worked on", table.row.name, job.id));
        }
        let restored = Restored::of(&earlier, ids, refs)?;
        if restored.ids().len() == ids.len() {
            return Ok(restored);
        }
    }
    refused(format!("no metadata file of {} tells the {} snapshots of job {}", table.row.name, ids.len(), job.id))
}
