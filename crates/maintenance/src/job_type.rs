//! A kind of job is one implementation of [`JobType`], in one file.
//!
//! The trait holds everything that is particular to a kind: its options, its plan, its run, its undo, and the texts that people
//! read. The queue, the management API, the command line and the autopilot know nothing else about kinds. `jobs::kinds` lists the
//! implementations. A kind that is missing there does not compile, nor does one whose options, plan or outcome have no schema.
//! Only [`JobType::engine`] has a default, so nothing is forgotten without an error.

use clap::Args;
use esker_catalog::{Catalog, CatalogError, LoadedTable};
use esker_state::Job;
use esker_types::{JobKind, Principal};
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::context::JobContext;
use crate::undone::UndoOutcome;
use crate::{Result, check_deletable, check_owned};

/// A function that undoes a job.
pub(crate) type Undo = for<'a> fn(&'a Catalog, &'a Job, &'a Principal) -> BoxFuture<'a, Result<UndoOutcome>>;

/// A kind of maintenance job.
pub(crate) trait JobType {
    /// The kind.
    const KIND: JobKind;
    /// A sentence that says what jobs of the kind do.
    const SUMMARY: &'static str;
    /// The unit that [`Progress`](crate::Progress) counts in.
    const UNIT: ProgressUnit;
    /// The most that jobs of the kind do to a table. It decides which tables take them.
    const ACCESS: TableAccess;
    /// A policy may schedule jobs of the kind (`KIND.schedule`).
    const SCHEDULABLE: bool;
    /// A preview costs little, so the command line shows it before it starts the job.
    const SHOWS_PREVIEW: bool;
    /// The undo of the kind, if its jobs can be undone. A job that changed nothing is refused one.
    const UNDO: Option<Undo>;

    /// The options, as the body of a request and the record of a job have them.
    type Options: Serialize + DeserializeOwned + ToSchema + Send + Sync;
    /// The options, as the command line has them.
    type Args: Args;
    /// A plan with everything that running it needs.
    type Plan: Send + Sync;
    /// The part of a plan that the job's record keeps.
    type Record: Serialize + ToSchema;
    /// The answer of a dry run.
    type Preview: Serialize + DeserializeOwned + ToSchema;
    /// The result of a job.
    type Outcome: Serialize + DeserializeOwned + ToSchema;

    /// Turns the arguments of the command line into options.
    ///
    /// # Errors
    ///
    /// Returns a text that names the argument that makes no sense.
    fn options(args: Self::Args) -> std::result::Result<Self::Options, String>;

    /// Plans a job on a table as it is, and changes nothing. The caller has checked that the table takes the kind's
    /// [`ACCESS`](Self::ACCESS).
    ///
    /// # Errors
    ///
    /// Returns the error of the kind's plan, such as [`MaintenanceError::Option`](crate::MaintenanceError::Option) for an option
    /// that makes no sense.
    fn plan(
        context: &JobContext,
        table: &LoadedTable,
        options: &Self::Options,
    ) -> impl Future<Output = Result<Self::Plan>> + Send;

    /// Returns the part of a plan that the job's record keeps.
    fn record(plan: &Self::Plan) -> &Self::Record;

    /// Shows what a job would do, also to a table that would not take the job: a person may think of claiming it.
    ///
    /// # Errors
    ///
    /// Returns the error of the kind's plan or scan.
    fn preview(
        context: &JobContext,
        table: &LoadedTable,
        options: &Self::Options,
    ) -> impl Future<Output = Result<Self::Preview>> + Send;

    /// Returns the engine that has to run the plan; `None` if Esker runs it.
    ///
    /// # Errors
    ///
    /// Returns [`MaintenanceError::Busy`](crate::MaintenanceError::Busy) if neither can run it now.
    fn engine(_plan: &Self::Plan, _table: &LoadedTable) -> Result<Option<&'static str>> {
        Ok(None)
    }

    /// Runs a plan.
    ///
    /// Each attempt may be killed at any point, also after its commits; the next attempt plans anew. Files are written through
    /// [`JobContext::destination`] or [`JobContext::write`], which record them first. The caller looks for a cancellation before
    /// the run. A run that takes minutes also looks at its own safe points ([`JobContext::check_cancelled`]).
    ///
    /// # Errors
    ///
    /// Returns [`MaintenanceError::Cancelled`](crate::MaintenanceError::Cancelled) after a cancellation, and the error of the
    /// kind's work.
    fn run(context: &JobContext, table: &LoadedTable, plan: &Self::Plan) -> impl Future<Output = Result<Self::Outcome>> + Send;

    /// Describes a preview for people.
    fn describe_preview(preview: &Self::Preview) -> JobReport;

    /// Describes an outcome for people.
    fn describe_outcome(table: &str, outcome: &Self::Outcome) -> JobReport;
}

/// The most that a job does to a table, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableAccess {
    /// The job changes nothing. Foreign and frozen tables take it.
    Read,
    /// The job commits to the table. The table must be owned and not frozen.
    Write,
    /// The job also quarantines files. Moreover, the table must not have `gc.enabled=false`.
    Delete,
}

/// Checks that a table takes jobs with an access, apart from a freeze, which can come later.
///
/// # Errors
///
/// Returns the error of [`check_owned`] for [`TableAccess::Write`], and of [`check_deletable`] for [`TableAccess::Delete`].
pub(crate) fn check_access(access: TableAccess, catalog: &Catalog, table: &LoadedTable) -> Result<()> {
    match access {
        TableAccess::Read => Ok(()),
        TableAccess::Write => check_owned(table),
        TableAccess::Delete => check_deletable(catalog, table),
    }
}

/// The unit that a job's progress is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProgressUnit {
    /// Bytes of the files that are rewritten.
    Bytes,
    /// Files that are read or judged.
    Files,
}

/// A preview or an outcome in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobReport {
    /// Lines of text, the first of which is the summary.
    pub text: String,
    /// The reason that there is nothing to do, if so.
    pub nothing_to_do: Option<String>,
    /// The reason that a script should treat the outcome as a failure, if so.
    pub failure: Option<String>,
    /// The job changed nothing that an undo could take back.
    pub nothing_to_undo: bool,
}

impl JobReport {
    pub(crate) fn of(lines: &[String]) -> Self {
        Self { text: lines.join("\n"), ..Self::default() }
    }
}

/// Writes a plan, a preview or an outcome as JSON.
///
/// # Errors
///
/// Returns [`MaintenanceError::Catalog`](crate::MaintenanceError::Catalog) with [`CatalogError::Encode`] if the value has no form
/// as JSON, which is a bug.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Value> {
    Ok(serde_json::to_value(value).map_err(|source| CatalogError::Encode { what: "the record of a job", source })?)
}
