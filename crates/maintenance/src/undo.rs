//! Taking a job back, while what it doomed is still there.

use std::collections::{BTreeSet, HashSet};

use esker_catalog::{Catalog, Cause, Change, Proposal, Restored};
use esker_state::{Job, JobState};
use esker_types::{Principal, TableName};
use iceberg::spec::TableMetadata;
use serde::{Deserialize, Serialize};

use crate::{ExpireOutcome, ExpirePlan, MaintenanceError, Result};

/// What an undo did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// Snapshots that are back in the table.
    pub snapshots: u64,
    /// Branches and tags that are back.
    pub refs: Vec<String>,
    /// Files taken out of quarantine.
    pub files: u64,
    /// Files that were deleted already, or are being.
    pub gone: u64,
}

fn refused<T>(what: String) -> Result<T> {
    Err(MaintenanceError::Refused(what))
}

/// Undoes an expiry (its snapshots, branches and tags are in the table again) or a removal of orphans (they stay).
pub async fn undo(catalog: &Catalog, job: &Job, principal: &Principal) -> Result<Undone> {
    if job.state == JobState::Running {
        return refused(format!("job {} is at work; wait for it to end", job.id));
    }
    let note = format!("job {} was undone by {principal}", job.id);
    match job.kind.as_str() {
        "orphans" => {
            let (files, gone) = catalog.state().spare_dooms_of(job.id, &note, false).await?;
            Ok(Undone { files, gone, ..Undone::default() })
        }
        "expire" => undo_expire(catalog, job, principal, &note).await,
        "compact" => refused(format!(
            "job {} is a compaction, which changed no row: roll the table back to snapshot {} if its files are wanted",
            job.id, job.plan["snapshot_id"]
        )),
        kind => refused(format!("job {} is of the kind {kind}, which can't be undone", job.id)),
    }
}

async fn undo_expire(catalog: &Catalog, job: &Job, principal: &Principal, note: &str) -> Result<Undone> {
    let unreadable = |what: &str| MaintenanceError::Refused(format!("job {}: its {what} can't be read", job.id));
    let Some(outcome) = &job.outcome else {
        return refused(format!("job {} changed nothing", job.id));
    };
    let outcome: ExpireOutcome = serde_json::from_value(outcome.clone()).map_err(|_| unreadable("outcome"))?;
    let plan: ExpirePlan = serde_json::from_value(job.plan.clone()).map_err(|_| unreadable("plan"))?;
    if plan.expire.is_empty() && plan.expire_refs.is_empty() {
        return Ok(Undone::default());
    }
    if outcome.metadata_before.is_empty() {
        return refused(format!("job {} did not record the table's metadata before it", job.id));
    }
    let name: TableName = job.table.parse().map_err(|_| unreadable("table"))?;
    let table = catalog.load(&name).await?;
    let earlier = TableMetadata::read_from(&catalog.storage().file_io(), &outcome.metadata_before).await?;
    if earlier.uuid() != table.metadata.uuid() {
        return refused(format!("{name} is another table than the one that job {} worked on", job.id));
    }
    let ids: HashSet<i64> = plan.expire.iter().map(|s| s.snapshot_id).collect();
    let restored = Restored::of(&earlier, &ids, &plan.expire_refs)?;
    let found: BTreeSet<i64> = restored.ids();
    if found.len() != ids.len() {
        return refused(format!("{} tells {} of the {} snapshots", outcome.metadata_before, found.len(), ids.len()));
    }
    // First the files, then the snapshots that lead to them. If it ends in between, the files are there without need.
    let (files, gone) = catalog.state().spare_dooms_of(job.id, note, true).await?;
    if gone > 0 {
        return refused(format!(
            "{gone} files of job {} are deleted already or are being: its snapshots can't be read again",
            job.id
        ));
    }
    let cause = Cause { principal: principal.to_string(), receipt: None };
    let proposal = Proposal { updates: restored.updates(), restore: Some(Box::new(restored)), cause, ..Proposal::default() };
    let before: HashSet<i64> = table.metadata.snapshots().map(|s| s.snapshot_id()).collect();
    catalog.commit_to(table.row.id, Change::Fixed(proposal)).await?;
    let snapshots = ids.iter().filter(|id| !before.contains(id)).count() as u64;
    Ok(Undone { snapshots, refs: plan.expire_refs, files, gone: 0 })
}
