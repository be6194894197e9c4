//! Pending outputs: files that are recorded before they are written.
//!
//! A commit that makes a file part of its table settles the record. [`crate::deletion::settle_outputs`] settles the records of work
//! that failed, and [`crate::deletion::reclaim_outputs`] those of dead servers.

use esker_table::TableError;
use esker_types::{CodedError, JobId, TableId};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::{Catalog, Result};

impl Catalog {
    /// Records files of a table before they are written, in one transaction, with the job that writes them, if one does.
    ///
    /// A file that is recorded already keeps its record. The record survives a killed process. A power cut may lose it; the file is
    /// then found as an orphan.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn record_outputs(&self, table: TableId, job: Option<JobId>, paths: &[String]) -> Result<()> {
        Ok(self.state().outputs().record(self.warehouse(), table, job, paths).await?)
    }

    /// Returns a function that records the manifests and manifest lists of a commit that no job makes, before they are written.
    pub(crate) fn recorder(
        &self,
        table: TableId,
    ) -> impl Fn(Vec<String>) -> BoxFuture<'static, esker_table::Result<()>> + Send + Sync + use<> {
        let catalog = self.clone();
        move |paths| {
            let catalog = catalog.clone();
            async move {
                let done = catalog.record_outputs(table, None, &paths).await;
                done.map_err(|e| TableError::Caller(CodedError::new(e)))
            }
            .boxed()
        }
    }
}
