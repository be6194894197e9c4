//! The metadata files of a table in storage: the ancestors of the current one, and strangers.
//!
//! A metadata file names its predecessors in its metadata log; [`Ancestry`] follows these logs. A *stranger* is a metadata file
//! that is no ancestor and is not known to have failed. It may be a commit that the database does not have.
//!
//! Start reading at [`examine`]. Spec: "Table Metadata Fields", field `metadata-log`.

use std::collections::HashSet;

use esker_state::TabularRow;
use esker_storage::{Location, StorageError};
use esker_table::metadata_dir;
use esker_types::Millis;
use futures::TryStreamExt;
use serde::Deserialize;

use super::tips::{CandidateMetadata, CatalogPointer, Tip, TipVerdict, distinct, identity, judge};
use crate::ledger::LedgerEntry;
use crate::locations::{belongs_to_entry, version};
use crate::{Catalog, CatalogError, Result};

/// The part of a metadata file that names its predecessors.
#[derive(Deserialize)]
struct Logged {
    #[serde(rename = "metadata-log", default)]
    log: Vec<LogEntry>,
}

/// One predecessor in a metadata log.
#[derive(Deserialize)]
struct LogEntry {
    #[serde(rename = "metadata-file")]
    file: String,
}

/// The identities of a metadata file and of the files that it was built on.
///
/// A metadata log is cut after some entries. Older ancestors are in the log of the oldest known file.
#[derive(Debug)]
pub(super) struct Ancestry {
    files: HashSet<String>,
    oldest: String,
}

impl Ancestry {
    /// Reads the log of a metadata file. More ancestors are read on demand.
    pub(super) async fn of(catalog: &Catalog, uri: &str) -> Result<Self> {
        let mut this = Self::alone(uri);
        this.extend(catalog).await?;
        Ok(this)
    }

    /// Builds the ancestry of a file that is gone, or of a view's file, which has no log: only the file itself.
    fn alone(uri: &str) -> Self {
        Self { files: HashSet::from([identity(uri).to_owned()]), oldest: uri.to_owned() }
    }

    /// Checks whether a file is the file itself or a known ancestor.
    fn holds(&self, uri: &str) -> bool {
        self.files.contains(identity(uri))
    }

    /// Follows the log of the oldest known file. `false` if that file has no predecessor.
    async fn extend(&mut self, catalog: &Catalog) -> Result<bool> {
        let uri = self.oldest.clone();
        let invalid = |e: serde_json::Error| CatalogError::MetadataInvalid { uri: uri.clone(), reason: e.to_string() };
        let logged: Logged = serde_json::from_slice(&catalog.json_at(&uri).await?).map_err(invalid)?;
        let oldest = logged
            .log
            .iter()
            .map(|entry| &entry.file)
            .filter(|file| version(file) < version(&uri))
            .min_by_key(|file| version(file));
        let found = oldest.is_some();
        if let Some(oldest) = oldest {
            self.oldest.clone_from(oldest);
        }
        self.files.extend(logged.log.iter().map(|entry| identity(&entry.file).to_owned()));
        Ok(found)
    }

    /// Follows logs until a version is reached, or as far as there are files.
    pub(super) async fn reach(&mut self, catalog: &Catalog, wanted: u64) -> Result<()> {
        while self.reached() >= wanted {
            match self.extend(catalog).await {
                Ok(true) => {}
                Ok(false) | Err(CatalogError::Storage(StorageError::NotFound { .. })) => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Returns the version from which on all ancestors are known. A file that branched off from them has a later version.
    pub(super) fn reached(&self) -> u64 {
        version(&self.oldest).unwrap_or(0)
    }
}

/// The judgement on a table's metadata files.
#[derive(Debug)]
pub(super) struct TableHistory {
    pub(super) verdict: TipVerdict,
    /// Metadata files that may have been current and that the entry's file was not built on.
    pub(super) strangers: Vec<CandidateMetadata>,
}

/// The settings of a search for metadata files.
#[derive(Debug, Clone, Default)]
pub(super) struct HistorySearch {
    /// URIs of further files that may be current, for example by the ledger.
    pub(super) extra_files: Vec<String>,
    /// `true` if database and storage agree; pending outputs of dead servers were then never committed.
    pub(super) storage_agrees: bool,
    /// Time in milliseconds since the Unix epoch; files last written earlier belong to another catalog.
    pub(super) since_ms: Option<Millis>,
}

/// Searches for metadata files other than the entry's that may be current, and judges them.
pub(super) async fn examine(catalog: &Catalog, entry: &LedgerEntry, search: &HistorySearch) -> Result<TableHistory> {
    let at = version(&entry.metadata_location).unwrap_or(0);
    let there = catalog.storage().size(&entry.metadata_location).await?.is_some();
    let own = match there {
        true => candidate(catalog, entry, entry.metadata_location.clone(), at).await?.map(|c| c.tip),
        false if !entry.owned => {
            return Err(CatalogError::Invalid(format!(
                "{} is gone, and the table is foreign; register it again with overwrite",
                entry.metadata_location
            )));
        }
        false => None,
    };
    let strangers = strangers(catalog, entry, search, there).await?;
    let points = CatalogPointer { uri: entry.metadata_location.clone(), version: at, tip: own };
    let verdict = judge(&points, &distinct(&strangers));
    if verdict == TipVerdict::Current && !there {
        return Err(CatalogError::Invalid(format!("{} is gone, and no newer metadata file exists", entry.metadata_location)));
    }
    Ok(TableHistory { verdict, strangers })
}

/// Finds the metadata files that the entry's was not built on, and that are not known to have failed.
///
/// Only files named in the search count for a foreign table, because another catalog may commit to it.
async fn strangers(
    catalog: &Catalog,
    entry: &LedgerEntry,
    search: &HistorySearch,
    there: bool,
) -> Result<Vec<CandidateMetadata>> {
    let mut ancestry = match there && !entry.view {
        true => Ancestry::of(catalog, &entry.metadata_location).await?,
        false => Ancestry::alone(&entry.metadata_location),
    };
    let mut files: Vec<(String, u64)> = search.extra_files.iter().filter_map(|uri| Some((uri.clone(), version(uri)?))).collect();
    // A table may have moved to another directory since the ledger was written, or since the backup.
    let mut open: Vec<String> =
        std::iter::once(&entry.metadata_location).chain(&search.extra_files).map(|uri| directory(uri).to_owned()).collect();
    let (mut looked, mut strangers) = (HashSet::new(), Vec::new());
    loop {
        for dir in open.drain(..).filter(|_| entry.owned) {
            if looked.insert(Location::normalize(&dir)) {
                let found = metadata_files(catalog, &dir).await?.into_iter();
                let since = search.since_ms.unwrap_or(Millis::MIN);
                files.extend(found.filter(|f| f.modified_ms >= since).map(|f| (f.uri, f.version)));
            }
        }
        files.sort();
        files.dedup();
        for (uri, version) in non_ancestors(catalog, entry, std::mem::take(&mut files), (&mut ancestry, there)).await? {
            if catalog.state().outputs().is_known_non_state(&uri, search.storage_agrees).await? {
                continue;
            }
            match candidate(catalog, entry, uri, version).await {
                Ok(found) => strangers.extend(found),
                // Deleted since it was listed.
                Err(CatalogError::Storage(StorageError::NotFound { .. }) | CatalogError::MetadataGone { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        // A commit that moved the metadata left a copy in the previous directory. Later files lie in the directory that the copy
        // names.
        let homes: HashSet<&String> = strangers.iter().map(|c: &CandidateMetadata| &c.metadata_directory).collect();
        open.extend(homes.into_iter().filter(|home| entry.owned && !looked.contains(&Location::normalize(home))).cloned());
        if open.is_empty() {
            return Ok(strangers);
        }
    }
}

/// Returns those of some metadata files that are no ancestors of the entry's. Reads logs as far as needed.
async fn non_ancestors(
    catalog: &Catalog,
    entry: &LedgerEntry,
    mut files: Vec<(String, u64)>,
    (ancestry, there): (&mut Ancestry, bool),
) -> Result<Vec<(String, u64)>> {
    let at = version(&entry.metadata_location).unwrap_or(0);
    files.retain(|(uri, _)| !ancestry.holds(uri));
    if entry.view {
        files.retain(|(_, version)| *version >= at);
        return Ok(files);
    }
    if let (Some(oldest), true) = (files.iter().map(|(_, version)| *version).min(), there) {
        ancestry.reach(catalog, oldest).await?;
    }
    // A file that is as old as the oldest known ancestor can't have branched off from it.
    let reached = if there { ancestry.reached() } else { at };
    files.retain(|(uri, version)| !ancestry.holds(uri) && *version > reached);
    Ok(files)
}

/// Returns the directory of a file.
fn directory(uri: &str) -> &str {
    uri.rsplit_once('/').map_or(uri, |(dir, _)| dir)
}

/// A metadata file in the listing of a directory.
pub(super) struct MetadataFile {
    pub(super) uri: String,
    /// The number that its name begins with.
    pub(super) version: u64,
    /// Time of the last write, in milliseconds since the Unix epoch.
    pub(super) modified_ms: Millis,
}

/// Lists the metadata files in a directory, with its spelling of the scheme.
///
/// Metadata logs may have a client's spelling, such as `s3a://`.
pub(super) async fn metadata_files(catalog: &Catalog, dir: &str) -> Result<Vec<MetadataFile>> {
    let location = Location::parse(dir)?;
    let files: Vec<_> = catalog.storage().list(&location).try_collect().await?;
    let metadata = files.into_iter().filter(|f| f.uri.ends_with(".metadata.json"));
    let file = |f: esker_storage::ListedObject| {
        let (parent, name) = f.uri.rsplit_once('/')?;
        let inside = Location::parse(parent).is_ok_and(|parent| parent == location);
        let uri = inside.then(|| format!("{dir}/{name}"))?;
        Some(MetadataFile { version: version(&uri)?, uri, modified_ms: f.modified_ms })
    };
    Ok(metadata.filter_map(file).collect())
}

/// Reads a metadata file as a candidate; `None` if it belongs to another table.
pub(super) async fn candidate(
    catalog: &Catalog,
    entry: &LedgerEntry,
    uri: String,
    version: u64,
) -> Result<Option<CandidateMetadata>> {
    let at = self::version(&entry.metadata_location).unwrap_or(0);
    let commits = version.saturating_sub(at);
    if entry.view {
        let row = TabularRow { metadata_location: uri.clone(), ..entry.clone().row(catalog.warehouse().id) };
        let view = catalog.load_view_row(row).await?;
        let updated_ms = view.metadata.current_version().timestamp_ms;
        let tip = Tip { uri, updated_ms, snapshot: None, commits };
        let home = metadata_dir(&view.metadata.location, &view.metadata.properties);
        return Ok((view.metadata.view_uuid == entry.uuid).then_some(CandidateMetadata {
            tip,
            version,
            log: None,
            metadata_directory: home,
        }));
    }
    let (metadata, _) = catalog.metadata_at(&uri).await?;
    if !belongs_to_entry(&metadata, entry.uuid) {
        return Ok(None);
    }
    let log = metadata.metadata_log.iter().map(|log| identity(&log.metadata_file).to_owned()).collect();
    let home = metadata_dir(&metadata.location, &metadata.properties);
    let tip = Tip { uri, updated_ms: metadata.last_updated_ms, snapshot: metadata.current_snapshot_id, commits };
    Ok(Some(CandidateMetadata { tip, version, log: Some(log), metadata_directory: home }))
}

/// Checks whether a metadata file is neither an ancestor of a row's file nor known to have failed.
pub(super) async fn is_stranger(catalog: &Catalog, row: &TabularRow, uri: &str) -> Result<bool> {
    let (Some(wanted), Some(at)) = (version(uri), version(&row.metadata_location)) else { return Ok(false) };
    if identity(&row.metadata_location) == identity(uri) {
        return Ok(false);
    }
    let unknown = match row.kind {
        esker_state::TabularKind::View => wanted >= at,
        esker_state::TabularKind::Table => {
            let mut ancestry = Ancestry::of(catalog, &row.metadata_location).await?;
            if !ancestry.holds(uri) {
                ancestry.reach(catalog, wanted).await?;
            }
            !ancestry.holds(uri) && wanted > ancestry.reached()
        }
    };
    Ok(unknown && !catalog.state().outputs().is_known_non_state(uri, true).await?)
}
