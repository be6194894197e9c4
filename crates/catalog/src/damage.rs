//! Files of tables that could not be read.
//!
//! The job or query that fails to read a file reports it as [`Unreadable`]. If a check confirms that the damage is lasting, the
//! damage is stored. Health reports it until the file is no longer needed or was put back. Start reading at
//! [`Catalog::record_damage`].

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use esker_format::ManifestProjection;
use esker_health::Damage;
use esker_state::{DamageData, DamagedFile, DamagedFileData, EventData, NewEvent, TabularRow};
use esker_storage::ListedObject;
use esker_table::TableError;
use esker_types::{Coded, ErrorCode, TableId, format_count, now_ms};

use crate::{Catalog, LoadedTable, Result};

/// Maximum number of damaged files of one table that are checked again in one round.
const MAX_RECHECKED_FILES: usize = 200;

/// A file that could not be read, as its reader reports it.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// URI of the file.
    pub path: String,
    /// Message of the reader's error.
    pub error: String,
    /// `true` if the content could not be decoded; `false` if the file could not be fetched, which may be a passing failure.
    pub decoding: bool,
    /// Id of the snapshot that leads to the file, if the file is a manifest list or a manifest.
    pub snapshot_id: Option<i64>,
}

impl Unreadable {
    /// Returns the report of a manifest list or manifest that could not be read; `None` if the error is not about one.
    pub fn of_snapshot(error: &TableError) -> Option<Self> {
        let (id, path) = error.of_snapshot()?;
        let decoding = error.code() == ErrorCode::DataInvalid;
        Some(Self { path: path.to_owned(), error: error.to_string(), decoding, snapshot_id: Some(id) })
    }
}

/// Checks that a snapshot id is that of a snapshot in the table's metadata, and not of the current one.
fn is_earlier(table: &LoadedTable, id: i64) -> bool {
    table.metadata.current_snapshot_id != Some(id) && table.metadata.snapshots.get(id).is_some()
}

/// Converts a stored damaged file to the form that health takes.
pub(crate) fn to_health_damage(file: DamagedFile) -> Damage {
    let DamagedFile { path, missing, error, first_met_by: met_by, snapshot_id, .. } = file;
    Damage { path, missing, error, met_by, snapshot_id }
}

impl Catalog {
    /// Records that a job or query could not read a file, if the damage is lasting. `reader` names the job or query.
    ///
    /// A file of the current snapshot is damaged if it is gone, has another size than its manifest gives, or can't be decoded. A
    /// file that an earlier snapshot leads to is damaged if it is gone or can't be decoded. Damage to manifests of the current
    /// snapshot is not recorded, because every reader of the table meets it.
    pub async fn record_damage(&self, table: TableId, report: &Unreadable, reader: &str) {
        match self.try_record_damage(table, report, reader).await {
            Ok(()) => {}
            Err(error) => tracing::warn!(%table, path = report.path, %error, "a file that may be damaged could not be checked"),
        }
    }

    /// Checks a reported file against the table and the storage, and stores it if it is damaged.
    async fn try_record_damage(&self, table: TableId, report: &Unreadable, reader: &str) -> Result<()> {
        let Some(row) = self.state().tables().by_id(table).await? else { return Ok(()) };
        let size = match report.snapshot_id {
            None => match self.current_file_sizes(&row).await?.remove(&report.path) {
                None => return Ok(()),
                size => size,
            },
            Some(id) if is_earlier(&self.load_row(row.clone()).await?, id) => None,
            Some(_) => return Ok(()),
        };
        let found = self.storage().stat(&report.path).await?;
        if found.as_ref().is_some_and(|found| size.is_none_or(|size| found.size == size)) && !report.decoding {
            return Ok(());
        }
        let missing = found.is_none();
        let error = match (&found, size) {
            (Some(found), Some(size)) if found.size != size => {
                format!("it has {}, but its manifest says {size}", format_count(found.size, "byte"))
            }
            _ => report.error.clone(),
        };
        let (path, met_by, snapshot_id) = (report.path.clone(), reader.to_owned(), report.snapshot_id);
        let file = DamagedFile { path, missing, error, first_met_by: met_by, first_seen_ms: now_ms(), snapshot_id };
        let event = self.damage_event(EventData::TableFileDamaged, &row, &[&file]);
        if self.state().fleet().record_damage(table, &file, event).await? {
            let DamagedFile { path, error, first_met_by: met_by, .. } = &file;
            tracing::error!(table = %row.name, path, missing, error, met_by, "a file of a table can't be read");
        }
        Ok(())
    }

    /// Builds an outbox event about damaged files of a table.
    fn damage_event(&self, make_event: fn(DamageData) -> EventData, row: &TabularRow, files: &[&DamagedFile]) -> NewEvent {
        let event_data = |f: &&DamagedFile| {
            let (path, error, met_by) = (f.path.clone(), f.error.clone(), f.first_met_by.clone());
            DamagedFileData { path, missing: f.missing, error, met_by }
        };
        NewEvent {
            data: make_event(DamageData { table_uuid: row.table_uuid, files: files.iter().map(event_data).collect() }),
            warehouse: self.options().warehouse.clone(),
            subject: row.name.to_string(),
            principal: "health".to_owned(),
        }
    }

    /// Returns the data and delete files of a table's current snapshot, each path with its size in bytes.
    async fn current_file_sizes(&self, row: &TabularRow) -> Result<HashMap<String, u64>> {
        let table = self.load_row(row.clone()).await?;
        let Some(snapshot) = table.metadata.current_snapshot() else { return Ok(HashMap::new()) };
        let files = self.snapshot_files(&table, snapshot, &ManifestProjection::files()).await?;
        let data = files.iter().map(|file| (file.path(), file.size()));
        let deletes = files.deletes.iter().map(|delete| &delete.entry.file).map(|file| (file.file_path.clone(), file.size()));
        Ok(data.chain(deletes).collect())
    }

    /// Removes the records of damaged files that are no longer part of their table, or that were put back.
    ///
    /// A file counts as put back by its size and its time of change. The next reader finds out whether its content is sound.
    pub(crate) async fn recheck_damage(&self) -> Result<()> {
        let round = self.inner.damage_rounds.fetch_add(1, Ordering::Relaxed);
        for (id, files) in self.state().fleet().damage(self.warehouse()).await? {
            let Some(row) = self.state().tables().by_id(id).await? else { continue };
            // If the table itself can't be read, nothing is known about its files.
            let (Ok(sizes), Ok(loaded)) = (self.current_file_sizes(&row).await, self.load_row(row.clone()).await) else {
                continue;
            };
            let mut mended = Vec::new();
            for file in files_of_round(&files, round) {
                match self.is_mended(file, &loaded, &sizes).await {
                    Ok(true) => mended.push(file),
                    Ok(false) => {}
                    // A file that can't be checked says nothing about the other files and tables.
                    Err(error) => {
                        tracing::warn!(table = %row.name, path = file.path, %error, "a damaged file could not be checked again");
                        if error.code().is_transient() {
                            break;
                        }
                    }
                }
            }
            if !mended.is_empty() {
                let event = self.damage_event(EventData::TableFileMended, &row, &mended);
                let paths: Vec<String> = mended.iter().map(|file| file.path.clone()).collect();
                self.state().fleet().forget_damage(id, &paths, event).await?;
                tracing::info!(table = %row.name, files = paths.len(), "damaged files are no longer needed, or are back");
            }
        }
        Ok(())
    }

    /// Checks that a damaged file is no longer part of its table, or was put back. `sizes` holds the files of the current snapshot.
    async fn is_mended(&self, file: &DamagedFile, table: &LoadedTable, sizes: &HashMap<String, u64>) -> Result<bool> {
        let (needed, size) = match file.snapshot_id {
            None => (sizes.contains_key(&file.path), sizes.get(&file.path)),
            Some(id) => (is_earlier(table, id), None),
        };
        let is_restored = |found: ListedObject| {
            size.is_none_or(|size| found.size == *size) && (file.missing || found.modified_ms > file.first_seen_ms)
        };
        Ok(!needed || self.storage().stat(&file.path).await?.is_some_and(is_restored))
    }
}

/// Returns the files that a round checks again, of all files of a table. The next round has the next ones.
fn files_of_round<T>(files: &[T], round: usize) -> &[T] {
    let rounds = files.len().div_ceil(MAX_RECHECKED_FILES).max(1);
    files.chunks(MAX_RECHECKED_FILES).nth(round % rounds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damaged_file_of_a_table_has_its_round() {
        let files: Vec<usize> = (0..450).collect();
        let checked: Vec<usize> = (7..10).flat_map(|round| files_of_round(&files, round)).copied().collect();
        assert_eq!(checked.len(), 450);
        assert!(files.iter().all(|file| checked.contains(file)));
        assert!((7..10).all(|round| files_of_round(&files, round).len() <= MAX_RECHECKED_FILES));
        assert!(files_of_round::<usize>(&[], 7).is_empty());
    }
}
