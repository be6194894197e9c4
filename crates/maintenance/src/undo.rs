//! The undo of a job, for all kinds.
//!
//! A kind implements the undo of its work in its [`JobType`](crate::job_type::JobType). This file checks the job before, and
//! records the undo after. An undo works as long as the files that the job quarantined are still in storage.

use std::fmt::Display;

use esker_catalog::{Catalog, CatalogError};
use esker_state::{Job, StateError};
use esker_storage::Location;
use esker_types::{Coded, ErrorCode, Principal, now_ms};

use crate::erase::erased;
use crate::job_type::to_json;
use crate::jobs::undo_work;
use crate::undone::{UndoOutcome, refused, swept};
use crate::{MaintenanceError, Result};

/// Turns the error of a missing file into a refusal of the undo. A sweep may delete files between any check of them and their use.
fn of_undo(job: &Job, error: MaintenanceError) -> MaintenanceError {
    match &error {
        MaintenanceError::Catalog(CatalogError::State(going @ StateError::BeingDeleted(_))) => swept(job, going),
        missing if missing.code() == ErrorCode::DataMissing => swept(job, missing),
        _ => error,
    }
}

/// Undoes a job, once.
///
/// An undone expiry has its snapshots, branches and tags in the table again. An undone compaction has the files that it replaced in
/// the table, in place of its own. An undone removal of orphans has released them from quarantine. The undo is a record of its own,
/// which the record of the job names.
///
/// # Errors
///
/// - Returns [`MaintenanceError::Refused`] if the job is not over, is undone already, changed nothing, or is of a kind that can't
///   be undone.
/// - Returns [`MaintenanceError::Refused`] if the table is frozen, if its changes since do not permit the undo, or if a file that
///   the undo needs was deleted or erased.
/// - Returns [`MaintenanceError::State`] if the table was dropped or the database fails, and [`MaintenanceError::Storage`] if the
///   storage does not answer.
/// - Returns [`MaintenanceError::Table`] if metadata that the undo needs can't be read, and [`MaintenanceError::Catalog`] if the
///   table can't be loaded or the commit fails.
pub async fn undo(catalog: &Catalog, job: &Job, principal: &Principal) -> Result<UndoOutcome> {
    if !job.state.is_over() {
        return refused(format!("job {} is {}; wait for it to end, or cancel it", job.id, job.state.as_str()));
    }
    let already = |by: &dyn Display| refused(format!("job {} is undone already, by {by}", job.id));
    if let Some(by) = &job.undone_by {
        return already(by);
    }
    let began_ms = now_ms();
    check_not_erased(catalog, job).await?;
    let undone = undo_work(catalog, job, principal).await.map_err(|e| of_undo(job, e))?;
    let outcome = to_json(&undone)?.to_string();
    match catalog.state().jobs().record_undo(job, &principal.to_string(), &outcome, began_ms).await? {
        Some(record) => Ok(UndoOutcome { job_id: Some(record), ..undone }),
        None => already(&"another request at the same time"),
    }
}

/// Checks that no file that the job quarantined holds rows that were erased since.
async fn check_not_erased(catalog: &Catalog, job: &Job) -> Result<()> {
    let erased = erased(catalog, job.table_id).await?;
    if erased.is_empty() {
        return Ok(());
    }
    for quarantined in
        catalog.state().quarantine().of_table(job.table_id).await?.into_iter().filter(|d| d.record.job == Some(job.id))
    {
        if let Some(by) = erased.get(&Location::normalize(&quarantined.record.path)) {
            return refused(format!("{} holds rows that job {by} erased", quarantined.record.path));
        }
    }
    Ok(())
}
