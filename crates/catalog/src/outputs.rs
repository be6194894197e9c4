//! Pending outputs: files that are recorded before they are written.
//!
//! A commit that makes a file part of its table settles the record. [`crate::deletion::settle_outputs`] settles the records of work
//! that failed, and [`crate::deletion::reclaim_outputs`] those of dead servers.

use esker_types::{JobId, TableId};

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
}
