//! [`PinnedSnapshot`]: a snapshot that a statement was planned on, so that another server plans it on the same one.
//!
//! A statement that names a table twice reads one snapshot of it. Start reading at `SnapshotPins::choose`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use esker_catalog::LoadedTable;
use esker_format::{MAIN_BRANCH, SchemaRef, SnapshotRef};
use esker_types::TableId;
use serde::{Deserialize, Serialize};

use crate::statement_text::AsOf;
use crate::{QueryError, Result};

/// A snapshot that a statement was planned on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedSnapshot {
    table: TableId,
    /// The version that the statement asks for; `None` for the current snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<PinnedVersion>,
    /// The id of the snapshot; `None` for a table without snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snapshot: Option<i64>,
    /// The id of the schema that the rows are read with.
    schema: i32,
}

/// A version that a statement asks for, whose snapshot may be another one later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PinnedVersion {
    /// A snapshot's id, or the name of a branch or tag.
    Name(String),
    /// A time, in milliseconds since the Unix epoch.
    Time(i64),
}

/// The snapshots of one statement: those that it has to be planned on, and those that it was planned on so far. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct SnapshotPins {
    chosen: Arc<Mutex<Vec<PinnedSnapshot>>>,
}

impl SnapshotPins {
    /// Makes the pins of a statement that has to be planned on some snapshots. Of tables that they do not name, it reads what is
    /// current.
    pub(crate) fn on(snapshots: Vec<PinnedSnapshot>) -> Self {
        Self { chosen: Arc::new(Mutex::new(snapshots)) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PinnedSnapshot>> {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the snapshots that the statement has been planned on.
    pub(crate) fn chosen(&self) -> Vec<PinnedSnapshot> {
        self.lock().clone()
    }

    /// Returns the snapshot of a table that the statement reads, and the schema to read it with.
    ///
    /// # Errors
    ///
    /// Returns [`QueryError::Statement`] if the table has no such version, or if the statement was planned on a snapshot that has
    /// expired since.
    pub(crate) fn choose(&self, table: &LoadedTable, as_of: Option<&AsOf>) -> Result<(Option<SnapshotRef>, SchemaRef)> {
        let version = match as_of {
            None => None,
            Some(AsOf::Version(name)) => Some(PinnedVersion::Name(name.clone())),
            Some(AsOf::Timestamp(ms)) => Some(PinnedVersion::Time(*ms)),
            // A change is planned on the table as it is.
            Some(AsOf::Rows(_)) => return snapshot_and_schema(table, as_of),
        };
        let known = self.lock().iter().find(|pin| pin.table == table.row.id && pin.version == version).cloned();
        if let Some(pin) = known {
            return pin.find_in(table);
        }
        let (snapshot, schema) = snapshot_and_schema(table, as_of)?;
        let (id, table) = (snapshot.as_ref().map(|snapshot| snapshot.snapshot_id), table.row.id);
        self.lock().push(PinnedSnapshot { table, version, snapshot: id, schema: schema.schema_id() });
        Ok((snapshot, schema))
    }
}

impl PinnedSnapshot {
    /// Returns the snapshot and the schema of the pin, from the table's present metadata.
    fn find_in(&self, table: &LoadedTable) -> Result<(Option<SnapshotRef>, SchemaRef)> {
        let gone = || {
            let name = &table.row.name;
            QueryError::Statement(format!(
                "{name}: the snapshot that the statement was planned on has expired; send the statement again"
            ))
        };
        let snapshot = match self.snapshot {
            Some(id) => Some(table.metadata.snapshots.get(id).cloned().ok_or_else(gone)?),
            None => None,
        };
        Ok((snapshot, table.metadata.schema_by_id(self.schema).cloned().ok_or_else(gone)?))
    }
}

/// Returns the snapshot that a statement wants, and the schema to read it with.
///
/// A branch and the current snapshot are read with the table's schema, any other snapshot with its own. Spec: "Point in Time
/// Reads (Time Travel)".
fn snapshot_and_schema(table: &LoadedTable, as_of: Option<&AsOf>) -> Result<(Option<SnapshotRef>, SchemaRef)> {
    let metadata = &table.metadata;
    let current = || metadata.current_schema().clone();
    let of_snapshot = |snapshot: &SnapshotRef| snapshot.schema_id.and_then(|id| metadata.schema_by_id(id)).cloned();
    let wrong = |what: String| QueryError::Statement(format!("{}: {what}", table.row.name));
    let find = |id: i64| metadata.snapshots.get(id).cloned().ok_or_else(|| wrong(format!("there is no snapshot {id}")));
    match as_of {
        None => Ok((metadata.current_snapshot_id.map(find).transpose()?, current())),
        Some(AsOf::Rows(snapshot)) => Ok((snapshot.map(find).transpose()?, current())),
        Some(AsOf::Version(version)) => {
            if let Some(snapshot) = version.parse().ok().and_then(|id| metadata.snapshots.get(id)) {
                let schema = of_snapshot(snapshot).unwrap_or_else(current);
                return Ok((Some(snapshot.clone()), schema));
            }
            let reference = metadata.refs.get(version);
            let main = metadata.current_snapshot_id.filter(|_| version == MAIN_BRANCH);
            let id = reference.map(|reference| reference.snapshot_id).or(main);
            let snapshot = find(id.ok_or_else(|| wrong(format!("there is no snapshot, branch or tag {version}")))?)?;
            let own = reference.filter(|reference| !reference.is_branch()).and_then(|_| of_snapshot(&snapshot));
            Ok((Some(snapshot), own.unwrap_or_else(current)))
        }
        Some(AsOf::Timestamp(ms)) => {
            let entry = metadata.snapshot_log.iter().rev().find(|entry| entry.timestamp_ms <= *ms);
            let snapshot = entry.and_then(|entry| metadata.snapshots.get(entry.snapshot_id));
            let snapshot = snapshot.ok_or_else(|| wrong(format!("there is no snapshot at or before {ms} ms since the epoch")))?;
            Ok((Some(snapshot.clone()), of_snapshot(snapshot).unwrap_or_else(current)))
        }
    }
}
