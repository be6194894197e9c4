//! The explanation of one file in the warehouse: which table refers to it, through what, and what will become of it.
//!
//! Start reading at [`explain`]. It collects everything that leads to the file, its state in quarantine and as an orphan candidate,
//! and sums them up in one sentence.

use esker_catalog::{Catalog, LoadedTable, deletion};
use esker_format::{DataContentType, ManifestProjection};
use esker_state::{QuarantineState, TabularKind};
use esker_storage::Location;
use esker_table::{list_location, referenced_manifests};
use esker_types::{JobId, Millis, format_count};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::orphans::with_checksum;

/// A reference to a file, from a table's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FileHolder {
    /// The role of the file: `metadata`, `earlier-metadata`, `manifest-list`, `manifest`, `data`, `delete`, `statistics`, `removed`
    /// or `checksum`.
    ///
    /// A manifest only records the removal of a `removed` file. A `checksum` is that of a file with one of the other roles.
    pub role: String,
    /// Ids of the snapshots that lead to the file, oldest first.
    pub snapshots: Vec<i64>,
    /// Names of the branches and tags whose head is one of the snapshots.
    pub refs: Vec<String>,
    /// Location of the manifest that names the file, if one does.
    pub manifest: Option<String>,
}

impl FileHolder {
    /// Returns the role with its article, for sentences.
    pub fn role_in_words(&self) -> &str {
        match self.role.as_str() {
            "metadata" => "the metadata file",
            "earlier-metadata" => "an earlier metadata file",
            "manifest-list" => "a manifest list",
            "manifest" => "a manifest",
            "data" => "a data file",
            "delete" => "a delete file",
            "statistics" => "a statistics file",
            "removed" => "a removed file",
            "checksum" => "the checksum of a file",
            role => role,
        }
    }
}

/// Everything that Esker knows about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Explanation {
    /// URI of the file.
    pub path: String,
    /// Size of the file in bytes; `None` if it is not in storage.
    pub bytes: Option<u64>,
    /// Name of the table or view in whose location the file lies.
    pub table: Option<String>,
    /// The references to the file.
    pub held_by: Vec<FileHolder>,
    /// The job that is writing the file, or that wrote it and did not commit it.
    pub written_by: Option<JobId>,
    /// The file's record in quarantine, if it has one.
    pub quarantine: Option<QuarantineRecord>,
    /// Time since when the file is an orphan candidate, in milliseconds since the Unix epoch.
    pub orphan_since_ms: Option<Millis>,
    /// The explanation in one sentence.
    pub verdict: String,
}

impl Explanation {
    /// Explains a file that lies in no table's location and is not in storage.
    pub fn in_no_table(at: &Location) -> Self {
        let mut found = Self {
            path: at.to_string(),
            bytes: None,
            table: None,
            held_by: Vec::new(),
            written_by: None,
            quarantine: None,
            orphan_since_ms: None,
            verdict: String::new(),
        };
        found.verdict = verdict(&found, None);
        found
    }
}

/// A file's record in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QuarantineRecord {
    /// The state of the deletion.
    pub state: QuarantineState,
    /// The reason that the file was quarantined.
    pub reason: String,
    /// The reason that the file was released, if it was.
    pub note: Option<String>,
    /// The job that quarantined the file, if a job did.
    pub job: Option<JobId>,
    /// Time from which the file may be deleted, in milliseconds since the Unix epoch.
    pub due_ms: Millis,
}

/// Explains a file of the warehouse, whether it exists or not.
///
/// It reads every manifest of the table in whose location the file lies.
///
/// # Errors
///
/// - Returns [`Storage`](crate::MaintenanceError::Storage) if `uri` is not a location or the store fails.
/// - Returns [`State`](crate::MaintenanceError::State) or [`Catalog`](crate::MaintenanceError::Catalog) if the database fails.
/// - Returns [`Catalog`](crate::MaintenanceError::Catalog) if the table's metadata can't be read, and
///   [`Table`](crate::MaintenanceError::Table) if a manifest list or manifest can't be read.
pub async fn explain(catalog: &Catalog, uri: &str) -> Result<Explanation> {
    let at = Location::parse(uri)?;
    let path = at.to_string();
    let state = catalog.state();
    let bytes = catalog.storage().size(&path).await?;
    let owner = deletion::owner(catalog, &at).await?;
    let mut held_by = Vec::new();
    if let Some(row) = owner.as_ref().filter(|row| row.kind == TabularKind::Table) {
        let of_file = with_checksum(&path);
        held_by = holders(&catalog.load_row(row.clone()).await?, catalog, of_file.as_ref().unwrap_or(&path)).await?;
        if of_file.is_some() {
            held_by.iter_mut().for_each(|holder| holder.role = "checksum".to_owned());
        }
    }
    // Quarantine and pending outputs record a file by the spelling of its path that their writer used: try each.
    let (mut quarantined, mut written_by) = (None, None);
    for name in Location::all_spellings(uri) {
        if quarantined.is_none() {
            quarantined = state.quarantine().record_of(&name).await?;
        }
        if written_by.is_none() {
            written_by = state.outputs().job_of(&name).await?;
        }
    }
    let quarantined_by = quarantined.as_ref().map(|d| d.record.table);
    let quarantine = quarantined.map(|d| QuarantineRecord {
        state: d.state,
        reason: d.record.reason,
        note: d.note,
        job: d.record.job,
        due_ms: d.record.due_ms,
    });
    let mut found = Explanation {
        bytes,
        table: owner.map(|row| row.name.to_string()),
        held_by,
        written_by,
        quarantine,
        orphan_since_ms: state.quarantine().orphan_candidate_since(&path).await?,
        verdict: String::new(),
        path,
    };
    // No other verdict names the reason, and the table of the record may be unreadable.
    let held = match quarantined_by {
        Some(table) if is_to_be_deleted(&found) => deletion::hold_reason(catalog, table).await?,
        _ => None,
    };
    found.verdict = verdict(&found, held.as_deref());
    Ok(found)
}

/// Returns everything in a table's metadata that refers to `path`, a normalized location; mere records of removals come last.
async fn holders(table: &LoadedTable, catalog: &Catalog, path: &str) -> Result<Vec<FileHolder>> {
    let metadata = &table.metadata;
    let is = |uri: &str| Location::parse(uri).is_ok_and(|at| at.to_string() == path);
    let holder = |role: &str| FileHolder { role: role.to_owned(), snapshots: Vec::new(), refs: Vec::new(), manifest: None };
    let mut found = Vec::new();
    if is(&table.row.metadata_location) {
        found.push(holder("metadata"));
    }
    if metadata.metadata_log.iter().any(|log| is(&log.metadata_file)) {
        found.push(holder("earlier-metadata"));
    }
    let statistics = metadata.statistics.iter().map(|s| (s.snapshot_id, &s.statistics_path));
    let partition = metadata.partition_statistics.iter().map(|s| (s.snapshot_id, &s.statistics_path));
    for (id, uri) in statistics.chain(partition) {
        if is(uri) {
            found.push(FileHolder { snapshots: vec![id], ..holder("statistics") });
        }
    }
    for snapshot in metadata.snapshots.iter().filter(|snapshot| list_location(snapshot).is_some_and(is)) {
        found.push(FileHolder { snapshots: vec![snapshot.snapshot_id], ..holder("manifest-list") });
    }
    let source = catalog.manifests();
    for manifest in referenced_manifests(source, metadata).await? {
        let (uri, snapshots) = (manifest.path(), &manifest.snapshots);
        if is(uri) {
            found.push(FileHolder { snapshots: snapshots.clone(), ..holder("manifest") });
        }
        for named in manifest
            .files(source, metadata, &ManifestProjection::paths())
            .await?
            .iter()
            .filter(|named| is(&named.file().file_path))
        {
            let role = match (named.is_alive(), named.file().content) {
                (false, _) => "removed",
                (true, DataContentType::Data) => "data",
                (true, _) => "delete",
            };
            found.push(FileHolder { snapshots: snapshots.clone(), manifest: Some(uri.to_owned()), ..holder(role) });
        }
    }
    found.sort_by_key(|holder| holder.role == "removed");
    for holder in &mut found {
        holder.snapshots.sort_by_key(|id| metadata.snapshots.get(*id).map(|s| s.timestamp_ms));
        let heads = metadata.refs.iter().filter(|(_, r)| holder.snapshots.contains(&r.snapshot_id));
        holder.refs = heads.map(|(name, _)| name.clone()).collect();
    }
    Ok(found)
}

/// Returns a reference that keeps a file, if there is one. The record of a removal keeps none.
fn keeper(found: &Explanation) -> Option<&FileHolder> {
    found.held_by.iter().find(|holder| holder.role != "removed")
}

/// Checks whether a file of a table is in quarantine and nothing refers to it.
fn is_to_be_deleted(found: &Explanation) -> bool {
    let waits = |q: &QuarantineRecord| matches!(q.state, QuarantineState::Quarantined | QuarantineState::Deleting);
    found.table.is_some() && keeper(found).is_none() && found.quarantine.as_ref().is_some_and(waits)
}

/// Sums up what is known about a file in one sentence.
///
/// `held` is the reason why the sweep deletes nothing of the file's table for now. Only a file [to be deleted](is_to_be_deleted)
/// needs it.
fn verdict(found: &Explanation, held: Option<&str>) -> String {
    let Some(table) = &found.table else {
        return "it lies in no table's location: nothing of this warehouse reads or deletes it".to_owned();
    };
    let there = if found.bytes.is_some() { "" } else { ", but the file is missing" };
    if let Some(holder) = keeper(found) {
        let heads = match holder.refs.is_empty() {
            true => String::new(),
            false => format!(", also from {}", holder.refs.join(", ")),
        };
        return match holder.snapshots.as_slice() {
            [] => format!("it is {} of {table}{there}", holder.role_in_words()),
            snapshots => {
                let reached = format_count(snapshots.len() as u64, "snapshot");
                format!("it is {} of {table}, reached from {reached}{heads}{there}", holder.role_in_words())
            }
        };
    }
    match &found.quarantine {
        Some(q) if q.state == QuarantineState::Deleted => return format!("it belonged to {table} and was deleted: {}", q.reason),
        Some(q) if is_to_be_deleted(found) => {
            return match held {
                Some(why) => format!("it is in quarantine and stays there: nothing of {table} is deleted, because {why}"),
                None => format!("it is in quarantine and will be deleted: {}", q.reason),
            };
        }
        _ => {}
    }
    if let Some(job) = found.written_by {
        return format!("job {job} recorded it as an output of {table} and has not committed it");
    }
    match (found.bytes, found.orphan_since_ms) {
        (None, _) => format!("it is not there, and nothing of {table} refers to it"),
        (Some(_), Some(_)) => format!("it is an orphan: it lies in the location of {table}, and nothing refers to it"),
        (Some(_), None) => {
            format!("it lies in the location of {table}, and nothing refers to it; no orphan scan has seen it yet")
        }
    }
}
