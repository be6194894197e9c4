//! The options, report and outcome of an erasure, and the lookup of files that earlier erasures left to quarantine.

use std::collections::{BTreeSet, HashMap};

use esker_catalog::Catalog;
use esker_state::JobFilter;
use esker_storage::Location;
use esker_types::{JobId, JobKind, Millis, TableId, format_count};
use serde::{Deserialize, Serialize};

use crate::Result;

/// The options of an erasure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EraseOptions {
    /// The rows, as a SQL predicate. They must have been deleted from every branch before.
    #[serde(rename = "where")]
    pub filter: String,
    /// Time by which the last file may be deleted, in milliseconds since the Unix epoch; default: at once.
    pub deadline_ms: Option<Millis>,
    /// Names of branches and tags that are dropped if their head has a file that holds any of the rows; `main` is refused.
    pub drop_refs: BTreeSet<String>,
}

/// The files that hold the rows: the result of a dry run, and part of the plan and the outcome of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ErasureReport {
    /// Name of the table.
    pub table: String,
    /// The rows, as a SQL predicate.
    #[serde(rename = "where")]
    pub filter: String,
    /// Time by which files in quarantine may be deleted, in milliseconds since the Unix epoch.
    pub deadline_ms: Millis,
    /// Names of the branches and tags that are dropped: those of the options that hold any of the rows.
    #[serde(default)]
    pub drop_refs: BTreeSet<String>,
    /// The files that hold rows, or may hold some, by location.
    pub holders: Vec<RowHolder>,
}

/// The outcome of an erasure.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct EraseOutcome {
    /// Number of data files that were rewritten.
    pub files_rewritten: u64,
    /// Number of snapshots that were expired.
    pub snapshots: u64,
    /// Names of the branches and tags that were dropped.
    pub refs: Vec<String>,
    /// Number of files whose time in quarantine ends by the deadline.
    pub files: u64,
    /// The files that hold rows at the end of the job.
    pub report: ErasureReport,
    /// True if nothing retains the rows beyond the deadline: every file of the report is in quarantine and due by then.
    pub complete: bool,
}

/// A file that holds rows to be erased, or may hold some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RowHolder {
    /// Normalized location of the file.
    pub path: String,
    /// Size of the file, in bytes.
    pub bytes: u64,
    /// Number of the rows that the file holds; `None` if it can't be read and may hold some.
    pub rows: Option<u64>,
    /// Names of the branches and tags whose head has the file.
    pub refs: BTreeSet<String>,
    /// Names of those branches and tags in which some of the rows are not deleted.
    pub in_table: BTreeSet<String>,
    /// Number of snapshots that lead to the file.
    pub snapshots: u64,
    /// Time from which the file may be deleted, in milliseconds since the Unix epoch, if it is in quarantine.
    pub due_ms: Option<Millis>,
    /// The reason that the file will not be deleted although it is in quarantine, if there is one.
    #[serde(default, alias = "spared", skip_serializing_if = "Option::is_none")]
    pub released: Option<String>,
    /// The file's path as quarantine records it, if the file is there.
    #[serde(skip)]
    pub(super) quarantined_as: Option<String>,
}

impl RowHolder {
    /// Describes what keeps the file in storage, for people.
    pub fn kept_by(&self) -> String {
        let names = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
        match (self.in_table.is_empty(), self.refs.is_empty(), self.snapshots, self.due_ms) {
            (false, ..) => format!("the rows are in the table: {}", names(&self.in_table)),
            (_, false, ..) => format!("deleted rows of {}", names(&self.refs)),
            (_, _, 1.., _) => format_count(self.snapshots, "earlier snapshot"),
            (.., Some(_)) => match &self.released {
                None => "quarantine".to_owned(),
                Some(why) => format!("quarantine, and it is not deleted: {why}"),
            },
            _ => "nothing: an orphan, or a file that is being written".to_owned(),
        }
    }
}

/// Returns the files that erasures of a table left to quarantine, by normalized location, with the job of each. No undo restores
/// them.
pub(crate) async fn erased(catalog: &Catalog, table: TableId) -> Result<HashMap<String, JobId>> {
    let filter = JobFilter { table: Some(table), kind: Some(JobKind::Erase.to_string()), ..JobFilter::default() };
    let mut files = HashMap::new();
    for job in catalog.state().jobs().list(&filter, u32::MAX).await? {
        let outcome = job.outcome.and_then(|outcome| EraseOutcome::deserialize(outcome).ok()).unwrap_or_default();
        files.extend(outcome.report.holders.into_iter().map(|holder| (Location::normalize(&holder.path), job.id)));
    }
    Ok(files)
}
