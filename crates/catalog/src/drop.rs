use std::collections::HashSet;

use esker_state::{DroppedTable, NewQuarantine, Outbox, SoftDrop, StateError, TableRow};
use esker_table::properties::GC_ENABLED;
use esker_table::reachable;
use esker_types::{Millis, TableId, TableName, now_ms};
use serde_json::{Value, json};

use crate::moves::metadata_files;
use crate::{Actor, Catalog, CatalogError, LoadedTable, RequestOutcome, Result};

/// Times that a drop is worked out anew after a commit came between.
const MAX_REPLAYS: usize = 10;

impl Catalog {
    /// Drops a table. It can be brought back for `tables.undrop_seconds`; then, with `purge`, its files go into quarantine,
    /// unless the table is foreign or says `gc.enabled=false`.
    pub async fn drop_table(&self, name: &TableName, purge: bool, actor: &Actor) -> Result<()> {
        let mut row = self.state().table(self.warehouse(), name).await?;
        if purge {
            // What the database does not know of would go with the rest.
            self.check_not_behind(&row).await?;
        }
        let keep = (self.options().undrop_ms > 0).then(|| SoftDrop {
            purge,
            principal: actor.principal.clone(),
            expires_ms: now_ms().saturating_add(self.options().undrop_ms),
        });
        for _ in 0..MAX_REPLAYS {
            let quarantines = match keep {
                None if purge => self.purge_list(&row).await,
                _ => Vec::new(),
            };
            // What can be brought back is what there is at that moment, whatever that is.
            let at = keep.is_none().then_some(row.metadata_location.as_str());
            let data = json!({"table-id": row.id, "table-uuid": row.table_uuid, "metadata-location": row.metadata_location,
                "purge-requested": purge, "undrop-until-ms": keep.as_ref().map(|k| k.expires_ms)});
            let along = self.outbox(actor, "table.dropped", &row.name, data, &RequestOutcome::NoContent);
            if self.state().drop_tabular(row.id, at, &quarantines, keep.as_ref(), &along).await? {
                return Ok(());
            }
            // A commit came between: what goes is what there is now.
            row = self.row_by_id(row.id, name).await?;
        }
        Err(CatalogError::Overtaken(format!("{name} was committed to {MAX_REPLAYS} times while it was being dropped")))
    }

    /// A table's row by its entry, whatever its name is by now.
    pub(crate) async fn row_by_id(&self, id: TableId, name: &TableName) -> Result<TableRow> {
        Ok(self.state().table_by_id(id).await?.ok_or_else(|| StateError::NoSuchTable(name.to_string()))?)
    }

    /// Takes a table out of the catalog and hands it over: its last metadata is returned, its files stay, and no commit to
    /// it succeeds from now on.
    pub async fn unregister_table(&self, name: &TableName, actor: &Actor) -> Result<LoadedTable> {
        let row = self.state().table(self.warehouse(), name).await?;
        // What is handed over must be the last state.
        let _held = self.hold_commits(row.id).await?;
        self.check_not_behind(&row).await?;
        for _ in 0..MAX_REPLAYS {
            let table = self.load_row(self.row_by_id(row.id, name).await?).await?;
            if self.hand_over(&table, actor).await? {
                return Ok(table);
            }
        }
        Err(CatalogError::Overtaken(format!("other servers kept committing to {name} for {MAX_REPLAYS} attempts")))
    }

    /// `false`: another server committed meanwhile.
    async fn hand_over(&self, table: &LoadedTable, actor: &Actor) -> Result<bool> {
        let row = &table.row;
        // The receipt keeps it whole: the entry that would lead to it is gone.
        let metadata = serde_json::from_slice::<Value>(table.json.bytes()).unwrap_or_default();
        let location = &row.metadata_location;
        let outcome = RequestOutcome::Body(json!({"metadata-location": location, "metadata": metadata, "config": {}}));
        let data = json!({"table-id": row.id, "table-uuid": row.table_uuid, "metadata-location": location});
        let along = self.outbox(actor, "table.unregistered", &row.name, data, &outcome);
        Ok(self.state().drop_tabular(row.id, Some(location), &[], None, &along).await?)
    }

    /// The dropped tables that can be brought back, the newest first.
    pub async fn dropped_tables(&self) -> Result<Vec<DroppedTable>> {
        Ok(self.state().dropped_tables(self.warehouse()).await?)
    }

    /// Brings a dropped table back, under its old name or another.
    pub async fn undrop_table(&self, id: TableId, name: Option<TableName>, actor: &Actor) -> Result<TableName> {
        let dropped = self.state().dropped_table(id).await?.filter(|d| d.row.warehouse == self.warehouse().id);
        let dropped = dropped.ok_or_else(|| StateError::NotDropped(id.to_string()))?;
        let name = name.unwrap_or(dropped.row.name);
        let data = json!({"table-id": id, "table-uuid": dropped.row.table_uuid});
        let along = self.outbox(actor, "table.undropped", &name, data, &RequestOutcome::NoContent);
        self.state().undrop_table(self.warehouse(), id, &name, &along).await?;
        Ok(name)
    }

    /// Ends the time of the dropped tables that can't be brought back any more at `now`. Returns how many there were.
    pub async fn expire_drops(&self, now: Millis) -> Result<u64> {
        let mut ended = 0;
        for dropped in self.dropped_tables().await?.into_iter().filter(|d| d.expires_ms <= now) {
            // One sick table must not stop the others.
            match self.end_drop(&dropped, &Actor::internal("undrop")).await {
                Ok(()) => ended += 1,
                Err(error) => tracing::warn!(table = %dropped.row.name, %error, "the time of a dropped table could not be ended"),
            }
        }
        Ok(ended)
    }

    async fn end_drop(&self, dropped: &DroppedTable, actor: &Actor) -> Result<()> {
        let row = &dropped.row;
        let quarantines = if dropped.purge { self.purge_list(row).await } else { Vec::new() };
        let data = json!({"table-id": row.id, "table-uuid": row.table_uuid, "metadata-location": row.metadata_location,
            "quarantined-files": quarantines.len(), "doomed-files": quarantines.len()});
        let events = vec![self.event(actor, "table.drop-ended", &row.name, data)];
        self.state().end_drop(row.id, &quarantines, &Outbox { events, receipts: Vec::new() }).await?;
        Ok(())
    }

    /// A table whose metadata can't be read is dropped all the same; its files are left in place.
    async fn purge_list(&self, row: &TableRow) -> Vec<NewQuarantine> {
        if !row.owned {
            return Vec::new();
        }
        let list = async { self.files_to_purge(&self.load_row(row.clone()).await?).await };
        list.await.unwrap_or_else(|error| {
            tracing::warn!(table = %row.name, %error, "purge left the files in place");
            Vec::new()
        })
    }

    async fn files_to_purge(&self, table: &LoadedTable) -> Result<Vec<NewQuarantine>> {
        let metadata = &table.metadata;
        if !GC_ENABLED.checked(&metadata.properties)? {
            return Ok(Vec::new());
        }
        let snapshots: Vec<_> = metadata.snapshots.iter().cloned().collect();
        let found = reachable(self.manifests(), metadata, &snapshots, &HashSet::new()).await?;
        let current = &table.row.metadata_location;
        let size = |path: &String| (path == current).then(|| table.json.bytes().len() as u64);
        let metadata_files = metadata_files(table).into_iter().map(|path| (path.clone(), size(&path)));
        let files = found.files.into_iter().map(|(path, (_, bytes))| (path, bytes));
        let due_ms = now_ms().saturating_add(self.options().grace_ms);
        let record = |(path, bytes)| table.row.quarantine(path, bytes, "the table was dropped with purge", None, due_ms);
        Ok(files.chain(metadata_files).map(record).collect())
    }
}
