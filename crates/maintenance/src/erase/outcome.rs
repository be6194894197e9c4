//! Options, report and outcome of an erasure, and which files earlier erasures left to quarantine.

use std::collections::{BTreeSet, HashMap};

use esker_catalog::Catalog;
use esker_state::JobFilter;
use esker_storage::Location;
use esker_types::{JobId, JobKind, Millis, TableId};
use serde::{Deserialize, Serialize};

use crate::Result;

/// What is to be erased.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EraseOptions {
    /// The rows: a SQL predicate. They must have been deleted from every branch.
    #[serde(rename = "where")]
    pub filter: String,
    /// When the last file has to be gone; default: at once.
    pub deadline_ms: Option<Millis>,
    /// Branches and tags that go, if their head has a file that holds any of the rows. `main` can't.
    pub drop_refs: BTreeSet<String>,
}

/// What holds the rows: the dry run, and the plan and the end of the job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ErasureReport {
    /// The table's name.
    pub table: String,
    /// The rows.
    #[serde(rename = "where")]
    pub filter: String,
    /// When what is in quarantine goes.
    pub deadline_ms: Millis,
    /// Branches and tags that go: of those asked for, the ones that hold any of the rows.
    #[serde(default)]
    pub drop_refs: BTreeSet<String>,
    /// The files.
    pub holders: Vec<RowHolder>,
}

/// What an erasure did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EraseOutcome {
    /// Data files rewritten.
    pub files_rewritten: u64,
    /// Snapshots expired.
    pub snapshots: u64,
    /// Branches and tags dropped.
    pub refs: Vec<String>,
    /// Files whose time in quarantine ends by the deadline.
    pub files: u64,
    /// What holds the rows now. Empty, or all in quarantine: nothing retains them beyond the deadline.
    pub report: ErasureReport,
    /// Whether nothing retains the rows beyond the deadline.
    pub complete: bool,
}

/// A file that holds rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowHolder {
    /// Its URI.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// How many of the rows it holds; none if it can't be read, and may hold some.
    pub rows: Option<u64>,
    /// Branches and tags whose head has the file.
    pub refs: BTreeSet<String>,
    /// Of them, those in which no delete applies to it: the rows are in the table there.
    pub in_table: BTreeSet<String>,
    /// How many snapshots lead to it.
    pub snapshots: u64,
    /// When it may be deleted, if it is in quarantine.
    pub due_ms: Option<Millis>,
    /// Why the file stays, though it is in quarantine.
    #[serde(default, alias = "spared", skip_serializing_if = "Option::is_none")]
    pub released: Option<String>,
    /// The path under which the quarantine holds the file, if it does.
    #[serde(skip)]
    pub(super) quarantined_as: Option<String>,
}

impl RowHolder {
    /// What keeps the file, for people.
    pub fn kept_by(&self) -> String {
        let names = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
        match (self.in_table.is_empty(), self.refs.is_empty(), self.snapshots, self.due_ms) {
            (false, ..) => format!("the rows are in the table: {}", names(&self.in_table)),
            (_, false, ..) => format!("deleted rows of {}", names(&self.refs)),
            (_, _, 1.., _) => format!("{} earlier snapshots", self.snapshots),
            (.., Some(_)) => match &self.released {
                None => "quarantine".to_owned(),
                Some(why) => format!("quarantine, and it is not deleted: {why}"),
            },
            _ => "nothing: an orphan, or a file that is being written".to_owned(),
        }
    }
}

/// The files that erasures of a table leave to quarantine, with the job: nothing brings them back.
pub(crate) async fn erased(catalog: &Catalog, table: TableId) -> Result<HashMap<String, JobId>> {
    let filter = JobFilter { table: Some(table), kind: Some(JobKind::Erase.to_string()), ..JobFilter::default() };
    let mut files = HashMap::new();
    for job in catalog.state().jobs(&filter, u32::MAX).await? {
        let outcome = job.outcome.and_then(|outcome| EraseOutcome::deserialize(outcome).ok()).unwrap_or_default();
        files.extend(outcome.report.holders.into_iter().map(|holder| (Location::normalize(&holder.path), job.id)));
    }
    Ok(files)
}
