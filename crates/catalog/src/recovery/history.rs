//! What storage has of a table's history: its metadata files, which of them the current one was built on, and which were never current.

use std::collections::HashSet;

use esker_state::TableRow;
use esker_storage::{Location, StorageError};
use esker_table::metadata_dir;
use esker_types::Millis;
use futures::TryStreamExt;
use serde::Deserialize;

use super::tips::{CandidateMetadata, CatalogPointer, Tip, TipVerdict, distinct, identity, judge, version};
use crate::create::is_of;
use crate::ledger::LedgerEntry;
use crate::{Catalog, CatalogError, Result};

/// What a metadata file says of those before it.
#[derive(Deserialize)]
struct Logged {
    #[serde(rename = "metadata-log", default)]
    log: Vec<LogEntry>,
}

#[derive(Deserialize)]
struct LogEntry {
    #[serde(rename = "metadata-file")]
    file: String,
}

/// What a metadata file and those that it was built on are known by. A log is cut after some entries; what is older is in the log of its oldest file.
#[derive(Debug)]
pub(super) struct Ancestry {
    files: HashSet<String>,
    oldest: String,
}

impl Ancestry {
    pub(super) async fn of(catalog: &Catalog, uri: &str) -> Result<Self> {
        let mut this = Self::alone(uri);
        this.extend(catalog).await?;
        Ok(this)
    }

    /// Only the file itself, where it is gone or says nothing.
    fn alone(uri: &str) -> Self {
        Self { files: HashSet::from([identity(uri).to_owned()]), oldest: uri.to_owned() }
    }

    /// Whether a file is one of them.
    fn holds(&self, uri: &str) -> bool {
        self.files.contains(identity(uri))
    }

    /// Follows the log of the oldest file; `false`: there is nothing before it.
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

    /// Goes back until a version is reached, or as far as there are files.
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

    /// The version from which on all files of this history are known. One that left it has a later version.
    pub(super) fn reached(&self) -> u64 {
        version(&self.oldest).unwrap_or(0)
    }
}

/// What was found of a table.
#[derive(Debug)]
pub(super) struct TableHistory {
    pub(super) verdict: TipVerdict,
    /// Metadata files that the entry's was not built on and that may have been current.
    pub(super) strangers: Vec<CandidateMetadata>,
}

/// How an entry is looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct HistorySearch {
    /// Files that may be current whatever lies beside the entry's: by the ledger, say.
    pub(super) beside: Vec<String>,
    /// Database and storage go together: what a dead server recorded and did not finish did not come about.
    pub(super) sound: bool,
    /// Files last written before this are another catalog's.
    pub(super) since_ms: Option<Millis>,
}

/// Looks for metadata files that may be current beside the entry's.
pub(super) async fn examine(catalog: &Catalog, entry: &LedgerEntry, look: &HistorySearch) -> Result<TableHistory> {
    let at = version(&entry.metadata_location).unwrap_or(0);
    let there = catalog.storage().size(&entry.metadata_location).await?.is_some();
    let own = match there {
        true => candidate(catalog, entry, entry.metadata_location.clone(), at).await?.map(|c| c.tip),
        false if !entry.owned => {
            return Err(CatalogError::Invalid(format!("{} is gone, and the table is foreign", entry.metadata_location)));
        }
        false => None,
    };
    let strangers = strangers(catalog, entry, look, there).await?;
    let points = CatalogPointer { uri: entry.metadata_location.clone(), version: at, tip: own };
    let verdict = judge(&points, &distinct(&strangers));
    if verdict == TipVerdict::Current && !there {
        return Err(CatalogError::Invalid(format!("{} is gone, and there is none newer", entry.metadata_location)));
    }
    Ok(TableHistory { verdict, strangers })
}

/// The metadata files that the entry's was not built on, and of which nobody knows that they did not come about. Of a foreign table, to
/// which another catalog may commit, only those that are named.
async fn strangers(catalog: &Catalog, entry: &LedgerEntry, look: &HistorySearch, there: bool) -> Result<Vec<CandidateMetadata>> {
    let mut ancestry = match there && !entry.view {
        true => Ancestry::of(catalog, &entry.metadata_location).await?,
        false => Ancestry::alone(&entry.metadata_location),
    };
    let mut files: Vec<(String, u64)> = look.beside.iter().filter_map(|uri| Some((uri.clone(), version(uri)?))).collect();
    // A table may have moved to another directory since the ledger was written, or since the backup.
    let mut open: Vec<String> =
        std::iter::once(&entry.metadata_location).chain(&look.beside).map(|uri| directory(uri).to_owned()).collect();
    let (mut looked, mut strangers) = (HashSet::new(), Vec::new());
    loop {
        for dir in open.drain(..).filter(|_| entry.owned) {
            if looked.insert(Location::normal(&dir)) {
                let found = metadata_files(catalog, &dir).await?.into_iter();
                let since = look.since_ms.unwrap_or(Millis::MIN);
                files.extend(found.filter(|f| f.modified_ms >= since).map(|f| (f.uri, f.version)));
            }
        }
        files.sort();
        files.dedup();
        for (uri, version) in unknown(catalog, entry, std::mem::take(&mut files), (&mut ancestry, there)).await? {
            if catalog.state().is_accounted(&uri, look.sound).await? {
                continue;
            }
            match candidate(catalog, entry, uri, version).await {
                Ok(found) => strangers.extend(found),
                // Deleted since it was listed.
                Err(CatalogError::Storage(StorageError::NotFound { .. }) | CatalogError::MetadataGone { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        // A commit that moved the table's metadata left its file where they were; those after it lie where that says.
        let homes: HashSet<&String> = strangers.iter().map(|c: &CandidateMetadata| &c.home).collect();
        open.extend(homes.into_iter().filter(|home| entry.owned && !looked.contains(&Location::normal(home))).cloned());
        if open.is_empty() {
            return Ok(strangers);
        }
    }
}

/// Of some metadata files those that the entry's was not built on.
async fn unknown(
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
    // What is as old as the oldest that is known can't have left this history.
    let reached = if there { ancestry.reached() } else { at };
    files.retain(|(uri, version)| !ancestry.holds(uri) && *version > reached);
    Ok(files)
}

/// The directory of a file.
fn directory(uri: &str) -> &str {
    uri.rsplit_once('/').map_or(uri, |(dir, _)| dir)
}

/// A metadata file in a directory.
pub(super) struct MetadataFile {
    pub(super) uri: String,
    pub(super) version: u64,
    pub(super) modified_ms: Millis,
}

/// The metadata files in a directory, spelt as it is: a client's `s3a://` is in the logs as well.
pub(super) async fn metadata_files(catalog: &Catalog, dir: &str) -> Result<Vec<MetadataFile>> {
    let location = Location::parse(dir)?;
    let files: Vec<_> = catalog.storage().list(&location).try_collect().await?;
    let metadata = files.into_iter().filter(|f| f.uri.ends_with(".metadata.json"));
    let file = |f: esker_storage::Listed| {
        let (parent, name) = f.uri.rsplit_once('/')?;
        let inside = Location::parse(parent).is_ok_and(|parent| parent == location);
        let uri = inside.then(|| format!("{dir}/{name}"))?;
        Some(MetadataFile { version: version(&uri)?, uri, modified_ms: f.modified_ms })
    };
    Ok(metadata.filter_map(file).collect())
}

/// A metadata file as a candidate, if it is of the entry's table.
pub(super) async fn candidate(
    catalog: &Catalog,
    entry: &LedgerEntry,
    uri: String,
    version: u64,
) -> Result<Option<CandidateMetadata>> {
    let at = self::version(&entry.metadata_location).unwrap_or(0);
    let commits = version.saturating_sub(at);
    if entry.view {
        let row = TableRow { metadata_location: uri.clone(), ..entry.clone().row(catalog.warehouse().id) };
        let view = catalog.load_view_row(row).await?;
        let updated_ms = view.metadata.current_version().timestamp_ms;
        let tip = Tip { uri, updated_ms, snapshot: None, commits };
        let home = metadata_dir(&view.metadata.location, &view.metadata.properties);
        return Ok((view.metadata.view_uuid == entry.uuid).then_some(CandidateMetadata { tip, version, log: None, home }));
    }
    let (metadata, _) = catalog.metadata_at(&uri).await?;
    if !is_of(&metadata, entry.uuid) {
        return Ok(None);
    }
    let log = metadata.metadata_log.iter().map(|log| identity(&log.metadata_file).to_owned()).collect();
    let home = metadata_dir(&metadata.location, &metadata.properties);
    let tip = Tip { uri, updated_ms: metadata.last_updated_ms, snapshot: metadata.current_snapshot_id, commits };
    Ok(Some(CandidateMetadata { tip, version, log: Some(log), home }))
}

/// Whether a file of a table's or view's history is not what its entry was built on, nor known not to have come about.
pub(super) async fn is_unknown(catalog: &Catalog, row: &TableRow, uri: &str) -> Result<bool> {
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
    Ok(unknown && !catalog.state().is_accounted(uri, true).await?)
}
