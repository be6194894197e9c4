//! The parts that the undos of all kinds share: their result, and the checks that the files they need are still in storage.

use std::fmt::Display;

use esker_catalog::{Catalog, LoadedTable};
use esker_state::Job;
use esker_types::JobId;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::context::current;
use crate::{MaintenanceError, Result, check_not_frozen};

/// Number of requests for sizes of files at the same time.
const CONCURRENCY: usize = 32;

/// The result of an undo.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UndoOutcome {
    /// Number of snapshots that are in the table again.
    pub snapshots: u64,
    /// Names of the branches and tags that are in the table again.
    pub refs: Vec<String>,
    /// Number of files that are in the table again, or were released from quarantine.
    pub files: u64,
    /// Number of files that were deleted before the undo, or are being deleted.
    #[serde(rename = "gone")]
    pub deleted: u64,
    /// Id of the undo's own record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
}

/// Returns [`MaintenanceError::Refused`] with a reason.
pub(crate) fn refused<T>(what: String) -> Result<T> {
    Err(MaintenanceError::Refused(what))
}

/// Returns [`MaintenanceError::Refused`] for a job that changed nothing, with the reason.
pub(crate) fn nothing_to_undo<T>(job: &Job, why: &str) -> Result<T> {
    refused(format!("job {} has nothing to undo: {why}", job.id))
}

/// Returns the error of an undo that needs a file which was deleted or is being deleted.
pub(crate) fn swept(job: &Job, what: &dyn Display) -> MaintenanceError {
    MaintenanceError::Refused(format!(
        "job {} can't be undone: {what}; put the file in its place again from a backup of the storage, then undo the job",
        job.id
    ))
}

/// Loads the present state of a job's table, which must not be frozen.
///
/// # Errors
///
/// Returns what [`current`] and [`check_not_frozen`] return.
pub(crate) async fn load_unfrozen(catalog: &Catalog, job: &Job) -> Result<LoadedTable> {
    let table = current(catalog, job).await?;
    check_not_frozen(catalog, &table).await?;
    Ok(table)
}

/// Checks that storage has every file.
///
/// # Errors
///
/// Returns [`MaintenanceError::Refused`] that names the first missing file, and [`MaintenanceError::Storage`] if the storage does
/// not answer.
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
