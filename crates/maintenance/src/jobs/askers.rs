//! The rights of who asked for a job, asked again when the job begins.
//!
//! Between the request and the start, hours may pass. A job of Esker's own is asked about nothing. [`guarded`] keeps every job
//! from the files of other tables, whoever asked for it.

use std::fmt;

use esker_catalog::{Authority, Catalog, CatalogError, LoadedTable, needs};
use esker_state::{Job, JobAsker};
use esker_types::{Coded, CodedError};
use futures::future::BoxFuture;

use crate::context::JobContext;
use crate::{MaintenanceError, Result};

/// Finds in whose name a job runs, by the rules of access control as they are now.
pub trait JobAuthorities: fmt::Debug + Send + Sync {
    /// Returns the authority of who asked for a job, or the reason why it has none any more.
    fn find<'a>(&'a self, asker: &'a JobAsker) -> BoxFuture<'a, std::result::Result<Authority, CodedError>>;

    /// Checks that refusals count now: access control is on.
    fn enforces(&self) -> BoxFuture<'_, std::result::Result<bool, CodedError>>;
}

/// Returns a context for work on a table, whose reader opens no file in a place of another table while access control is on.
///
/// A manifest can name any file, and can be replaced in the store after its commit. A job would put the rows of that file into
/// files of the table, and its outcome would tell of them.
///
/// # Errors
///
/// Returns [`MaintenanceError::Catalog`] if the rules can't be read.
pub(super) async fn guarded(context: &JobContext, table: &LoadedTable) -> Result<JobContext> {
    let enforces = match &context.authorities {
        Some(authorities) => authorities.enforces().await.map_err(CatalogError::Carried)?,
        None => false,
    };
    if !enforces {
        return Ok(context.clone());
    }
    Ok(JobContext { reader: context.reader.with_closed(context.catalog.closed_to(table)), ..context.clone() })
}

/// Checks that who asked for a job may still start it on the table.
///
/// # Errors
///
/// - Returns [`MaintenanceError::Refused`] if the rights or the tokens were taken away since.
/// - Returns [`MaintenanceError::Catalog`] with a transient error if the rules can't be read.
pub(super) async fn check_asker(
    authorities: Option<&dyn JobAuthorities>,
    catalog: &Catalog,
    job: &Job,
    table: &LoadedTable,
) -> Result<()> {
    let (Some(authorities), Some(asker)) = (authorities, &job.asker) else { return Ok(()) };
    let (who, required) = (&job.principal, needs::to_ask_for_job(&job.kind, &job.request));
    let again = "ask for the job again as somebody who may start it";
    match authorities.find(asker).await {
        Ok(authority) => match catalog.require_tabular(&authority, &table.row.name, &table.row, required) {
            Err(e) if !e.code().is_transient() => {
                let what = format!("{who} asked for this job and has {required} on the table no more; {again}");
                Err(MaintenanceError::Refused(what))
            }
            Err(e) => Err(e.into()),
            Ok(()) if needs::asks_for_rows(&job.kind, &job.request) && authority.restrictions(table.row.id).is_some() => {
                let what = format!("{who} asked for this job and may not read all rows of the table; {again}");
                Err(MaintenanceError::Refused(what))
            }
            Ok(()) => Ok(()),
        },
        Err(e) if e.code().is_transient() => Err(CatalogError::Carried(e).into()),
        Err(e) => Err(MaintenanceError::Refused(format!("{who} asked for this job and may not start it any more: {e}; {again}"))),
    }
}
