//! Files that somebody could not read. Whoever meets one first says so here; health tells it until it is over.

use std::collections::HashMap;

use esker_format::ManifestProjection;
use esker_health::Damage;
use esker_state::{DamagedFile, NewEvent, TableRow};
use esker_storage::Listed;
use esker_table::TableError;
use esker_types::{Coded, ErrorCode, TableId, now_ms};
use serde_json::json;

use crate::{Catalog, LoadedTable, Result};

/// Files looked at again in one go.
const AGAIN: usize = 200;

/// A file that could not be read, as its reader met it.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// The file.
    pub path: String,
    /// What was met.
    pub error: String,
    /// What is there makes no sense; else it could not be fetched, which may pass.
    pub decoding: bool,
    /// The snapshot that leads to it, where it is a manifest list or manifest.
    pub snapshot_id: Option<i64>,
}

impl Unreadable {
    /// The manifest list or manifest of a snapshot that could not be read, if that is what went wrong.
    pub fn of_snapshot(error: &TableError) -> Option<Self> {
        let (id, path) = error.of_snapshot()?;
        let decoding = error.code() == ErrorCode::DataInvalid;
        Some(Self { path: path.to_owned(), error: error.to_string(), decoding, snapshot_id: Some(id) })
    }
}

/// Whether a table has a snapshot that is not its current one.
fn is_earlier(table: &LoadedTable, id: i64) -> bool {
    table.metadata.current_snapshot_id != Some(id) && table.metadata.snapshots.get(id).is_some()
}

pub(crate) fn damage(file: DamagedFile) -> Damage {
    let DamagedFile { path, missing, error, met_by, snapshot_id, .. } = file;
    Damage { path, missing, error, met_by, snapshot_id }
}

impl Catalog {
    /// Keeps that a job or a query could not read a file, if that is so for good: the file is part of the table's current snapshot, and
    /// is gone, has another size than its manifest says, or can't be decoded. Or an earlier snapshot leads to it, and it is gone or can't
    /// be decoded; who needs the manifests of the current one finds out himself.
    pub async fn record_damage(&self, table: TableId, met: &Unreadable, met_by: &str) {
        match self.try_note_damage(table, met, met_by).await {
            Ok(()) => {}
            Err(error) => tracing::warn!(%table, path = met.path, %error, "whether a file is damaged could not be found out"),
        }
    }

    async fn try_note_damage(&self, table: TableId, met: &Unreadable, met_by: &str) -> Result<()> {
        let Some(row) = self.state().table_by_id(table).await? else { return Ok(()) };
        let size = match met.snapshot_id {
            None => match self.sizes(&row).await?.remove(&met.path) {
                None => return Ok(()),
                size => size,
            },
            Some(id) if is_earlier(&self.load_row(row.clone()).await?, id) => None,
            Some(_) => return Ok(()),
        };
        let found = self.storage().stat(&met.path).await?;
        if found.as_ref().is_some_and(|found| size.is_none_or(|size| found.size == size)) && !met.decoding {
            return Ok(());
        }
        let missing = found.is_none();
        let error = match (&found, size) {
            (Some(found), Some(size)) if found.size != size => {
                format!("it has {} bytes where its manifest says {size}", found.size)
            }
            _ => met.error.clone(),
        };
        let (path, met_by, snapshot_id) = (met.path.clone(), met_by.to_owned(), met.snapshot_id);
        let file = DamagedFile { path, missing, error, met_by, first_seen_ms: now_ms(), snapshot_id };
        let event = self.damage_event("table.file-damaged", &row, &[&file]);
        if self.state().note_damage(table, &file, event).await? {
            let DamagedFile { path, error, met_by, .. } = &file;
            tracing::error!(table = %row.name, path, missing, error, met_by, "a file of a table can't be read");
        }
        Ok(())
    }

    fn damage_event(&self, kind: &'static str, row: &TableRow, files: &[&DamagedFile]) -> NewEvent {
        let told = |f: &&DamagedFile| json!({"path": f.path, "missing": f.missing, "error": f.error, "met-by": f.met_by});
        NewEvent {
            kind,
            warehouse: self.options().warehouse.clone(),
            subject: row.name.to_string(),
            principal: "health".to_owned(),
            data: json!({"table-uuid": row.table_uuid.to_string(), "files": files.iter().map(told).collect::<Vec<_>>()}),
        }
    }

    /// The files of a table's current snapshot with their sizes.
    async fn sizes(&self, row: &TableRow) -> Result<HashMap<String, u64>> {
        let table = self.load_row(row.clone()).await?;
        let Some(snapshot) = table.metadata.current_snapshot() else { return Ok(HashMap::new()) };
        let files = self.files(&table, snapshot, &ManifestProjection::files()).await?;
        let data = files.iter().map(|file| (file.path(), file.size()));
        let deletes = files.deletes.iter().map(|delete| &delete.entry.file).map(|file| (file.file_path.clone(), file.size()));
        Ok(data.chain(deletes).collect())
    }

    /// Forgets damage that is over: the file is no longer part of its table, or was put in its place again. Who reads that one next says
    /// whether it is whole.
    pub(crate) async fn recheck_damage(&self) -> Result<()> {
        for (table, files) in self.state().damage(self.warehouse()).await? {
            let Some(row) = self.state().table_by_id(table).await? else { continue };
            // What can't be read says nothing of its files.
            let (Ok(sizes), Ok(now)) = (self.sizes(&row).await, self.load_row(row.clone()).await) else { continue };
            let mut over = Vec::new();
            for file in files.iter().take(AGAIN) {
                let (needed, size) = match file.snapshot_id {
                    None => (sizes.contains_key(&file.path), sizes.get(&file.path)),
                    Some(id) => (is_earlier(&now, id), None),
                };
                let back = |found: Listed| {
                    size.is_none_or(|size| found.size == *size) && (file.missing || found.modified_ms > file.first_seen_ms)
                };
                let mended = !needed || self.storage().stat(&file.path).await?.is_some_and(back);
                if mended {
                    over.push(file);
                }
            }
            if !over.is_empty() {
                let event = self.damage_event("table.file-mended", &row, &over);
                let paths: Vec<String> = over.iter().map(|file| file.path.clone()).collect();
                self.state().forget_damage(table, &paths, event).await?;
                tracing::info!(table = %row.name, files = paths.len(), "files that could not be read are no longer needed, or are back");
            }
        }
        Ok(())
    }
}
