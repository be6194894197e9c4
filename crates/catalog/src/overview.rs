//! A read-only view of the state database, for pages, metrics, probes and system tables.
//!
//! It covers every warehouse of the database: jobs, quarantine and events are listed over all of them. Whoever changes something
//! calls [`Catalog`](crate::Catalog) or the maintenance.

use std::collections::HashMap;

use esker_state::{
    AuditRecord, Event, HealthPoint, Job, JobFilter, JobLogLine, QuarantineByJob, QuarantinedFile, State, TableUsage,
};
use esker_types::{DurationMillis, JobId, Millis, TableId};
use serde_json::Value;

use crate::Result;

/// The read-only view of a state database. Clones are cheap.
///
/// Every function returns [`State`](crate::CatalogError::State) if the database does not answer, or if a stored value can't be
/// read.
#[derive(Debug, Clone)]
pub struct Overview {
    state: State,
}

/// The counts of the queue of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueCounts {
    /// The number of jobs by kind and state, for the states that are not final.
    pub open: Vec<(String, String, i64)>,
    /// The age of the oldest due job in the queue, in milliseconds since it became due; 0 without such a job.
    pub longest_wait_ms: DurationMillis,
}

impl Overview {
    /// Makes the view of a database.
    pub const fn new(state: State) -> Self {
        Self { state }
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if it does not.
    pub async fn ping(&self) -> Result<()> {
        Ok(self.state.ping().await?)
    }

    /// Returns the number of live servers on the database, this one included.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn live_servers(&self) -> Result<i64> {
        Ok(self.state.servers().count_live().await?)
    }

    /// Returns the jobs that a filter accepts, at most `limit`, the newest first.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn jobs(&self, filter: &JobFilter, limit: u32) -> Result<Vec<Job>> {
        Ok(self.state.jobs().list(filter, limit).await?)
    }

    /// Returns a job, or `None` if no job has this identifier.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn job(&self, id: JobId) -> Result<Option<Job>> {
        Ok(self.state.jobs().get(id).await?)
    }

    /// Returns the log of a job, the oldest line first.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn job_log(&self, id: JobId) -> Result<Vec<JobLogLine>> {
        Ok(self.state.jobs().log(id).await?)
    }

    /// Returns a principal's jobs that are not over, and those that ended since a time, the oldest first.
    ///
    /// The time is in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn jobs_of(&self, principal: &str, since: Millis) -> Result<Vec<Job>> {
        Ok(self.state.jobs().of_principal(principal, since).await?)
    }

    /// Returns the measured costs of a principal's jobs that started since a time, with the table of each, as JSON.
    ///
    /// The time is in milliseconds since the Unix epoch. Jobs without measured costs are left out.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn job_costs(&self, principal: &str, since: Millis) -> Result<Vec<(TableId, Value)>> {
        Ok(self.state.jobs().costs(principal, since).await?)
    }

    /// Returns the counts of the queue of jobs.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn queue_counts(&self) -> Result<QueueCounts> {
        let jobs = self.state.jobs();
        Ok(QueueCounts { open: jobs.count_open().await?, longest_wait_ms: jobs.longest_wait_ms().await? })
    }

    /// Returns the time of the last success of each kind of job on each of some tables, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn last_successes(&self, tables: &[TableId]) -> Result<Vec<(TableId, String, Millis)>> {
        Ok(self.state.jobs().last_successes(tables).await?)
    }

    /// Returns counts of the files in quarantine by job and table, at most `limit` groups, those that are due first in front.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn quarantine_by_job(&self, limit: u32) -> Result<Vec<QuarantineByJob>> {
        Ok(self.state.quarantine().count_by_job(limit).await?)
    }

    /// Returns the number of files in quarantine over all tables, and their size in bytes; unknown sizes count as zero.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn quarantine_totals(&self) -> Result<(i64, i64)> {
        Ok(self.state.quarantine().totals().await?)
    }

    /// Returns a table's files in quarantine that are not deleted yet, ordered by the time at which they are due.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn quarantine_of(&self, table: TableId) -> Result<Vec<QuarantinedFile>> {
        Ok(self.state.quarantine().of_table(table).await?)
    }

    /// Returns a table's health over time, since a time in milliseconds since the Unix epoch, the oldest point first.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn health_history(&self, table: TableId, since: Millis) -> Result<Vec<HealthPoint>> {
        Ok(self.state.fleet().history(table, since).await?)
    }

    /// Returns the use of each table in the last seven days.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn usages(&self) -> Result<HashMap<TableId, TableUsage>> {
        Ok(self.state.fleet().usages().await?)
    }

    /// Returns the use of those of some tables that have any, in the last seven days.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn usages_of(&self, tables: &[TableId]) -> Result<HashMap<TableId, TableUsage>> {
        Ok(self.state.fleet().usages_of(tables).await?)
    }

    /// Returns the use of one table in the last seven days.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn usage_of(&self, table: TableId) -> Result<TableUsage> {
        Ok(self.state.fleet().usage_of(table).await?)
    }

    /// Returns the reports about a table as engines sent them, at most `limit`, the newest first.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn reports(&self, table: TableId, limit: u32) -> Result<Vec<String>> {
        Ok(self.state.fleet().reports(table, limit).await?)
    }

    /// Returns the last decision of the autopilot about a table as JSON, with its time in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn decision(&self, table: TableId) -> Result<Option<(Millis, Value)>> {
        Ok(self.state.fleet().decision(table).await?)
    }

    /// Returns the last decisions of the autopilot about those of some tables that have one, as the JSON that was stored.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn decisions_of(&self, tables: &[TableId]) -> Result<HashMap<TableId, String>> {
        Ok(self.state.fleet().decisions_of(tables).await?)
    }

    /// Returns the number of tables by the verdict of the autopilot.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn count_verdicts(&self) -> Result<Vec<(String, i64)>> {
        Ok(self.state.fleet().count_verdicts().await?)
    }

    /// Returns the events after the number `cursor`, of one warehouse by name or of all, at most `limit`, the oldest first.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn events_after(&self, cursor: i64, warehouse: Option<&str>, limit: u32) -> Result<Vec<Event>> {
        Ok(self.state.outbox().events_after(cursor, warehouse, limit).await?)
    }

    /// Returns the records of the audit trail after the number `cursor`, at most `limit`, the oldest first, each with its number.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn audit_records_after(&self, cursor: i64, limit: u32) -> Result<Vec<(i64, AuditRecord)>> {
        Ok(self.state.audit().after(cursor, limit).await?)
    }

    /// Returns the number of events that a sink does not have yet, and the age of the oldest of them in milliseconds.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn sink_lag(&self, sink: &str) -> Result<(i64, Millis)> {
        Ok(self.state.outbox().sink_lag(sink).await?)
    }
}
