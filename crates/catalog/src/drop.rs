//! Dropping, purging, undropping and unregistering tables.
//!
//! A dropped table can be brought back for the undrop period. When this period ends, or at once if there is none, a purge lists
//! the table's files and puts them into quarantine in the same transaction. The files of foreign tables and of tables with
//! `gc.enabled=false` stay in place.
//!
//! Start reading at [`Catalog::drop_table`]. Spec: REST `dropTable`, `unregisterTable`.

use std::collections::HashSet;

use esker_access::{Need, Privilege, Required};
use esker_state::{
    DroppedTable, EventData, NewQuarantine, Outbox, SoftDrop, StateError, TableDropEndedData, TableDroppedData,
    TableIdentityData, TableUnregisteredData, TabularRow,
};
use esker_table::properties::GC_ENABLED;
use esker_table::reachable;
use esker_types::{Millis, TableId, TableName, now_ms};
use serde_json::{Value, json};

use crate::authorize::{Named, found, no_such_namespace, require_named};
use crate::moves::metadata_files;
use crate::{Actor, Authority, Catalog, CatalogError, LoadedTable, RequestOutcome, Result};

/// Maximum number of times that a drop is computed, if commits keep coming between.
const MAX_REPLAYS: usize = 10;

/// Number of dropped tables that are read at once to end their time.
const ENDED_AT_ONCE: u32 = 100;

/// What happens to the files of a dropped table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DroppedFiles {
    /// They stay in storage.
    Keep,
    /// They go into quarantine.
    Purge,
}

impl Catalog {
    /// Drops a table. It can be brought back during [`CatalogOptions::undrop_ms`](crate::CatalogOptions::undrop_ms).
    ///
    /// Purged files go into quarantine after that time, unless the table is foreign or has `gc.enabled=false`.
    ///
    /// Spec: REST `dropTable`.
    ///
    /// # Errors
    ///
    /// - Returns [`State`](CatalogError::State) if no table has this name, the table is protected, or the database fails or does
    ///   not confirm the drop.
    /// - Returns [`Behind`](CatalogError::Behind) if a purge is requested and storage has states of the table that the database
    ///   does not have. Returns [`Storage`](CatalogError::Storage) or [`OwnFileInvalid`](CatalogError::OwnFileInvalid) if the
    ///   storage or the ledger can't be read to find that out.
    /// - Returns [`Overtaken`](CatalogError::Overtaken) if commits to the table kept coming between.
    pub async fn drop_table(&self, name: &TableName, files: DroppedFiles, actor: &Actor) -> Result<()> {
        let purge = files == DroppedFiles::Purge;
        let required = match purge {
            true => Required::privilege(Privilege::Drop).and(Privilege::Purge.into()),
            false => Required::privilege(Privilege::Drop),
        };
        let mut row = self.permitted_table(name, required, &actor.authority).await?;
        if purge {
            // A purge would delete the files of states that the database does not have, too.
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
            // A drop that can be undone takes whatever state the table has then.
            let at = keep.is_none().then_some(row.metadata_location.as_str());
            let data = EventData::TableDropped(TableDroppedData {
                table_id: row.id,
                table_uuid: row.table_uuid,
                metadata_location: row.metadata_location.clone(),
                purge_requested: purge,
                undrop_until_ms: keep.as_ref().map(|k| k.expires_ms),
            });
            let outbox = self.outbox(actor, &row.name, data, &RequestOutcome::NoContent);
            if self.state().tables().drop(&row, at, &quarantines, keep.as_ref(), &outbox).await? {
                return Ok(());
            }
            // A commit came between: the files to purge are those of the new state.
            row = self.row_by_id(row.id, name).await?;
        }
        Err(CatalogError::Overtaken(format!("{name} was committed to {MAX_REPLAYS} times while it was being dropped")))
    }

    /// Returns the row of a table by its id, which stays the same if the table is renamed.
    pub(crate) async fn row_by_id(&self, id: TableId, name: &TableName) -> Result<TabularRow> {
        Ok(self.state().tables().by_id(id).await?.ok_or_else(|| StateError::NoSuchTable(name.to_string()))?)
    }

    /// Takes a table out of the catalog and returns its last state, for another catalog to register.
    ///
    /// Its files stay, and no later commit to it succeeds.
    ///
    /// Spec: REST `unregisterTable`.
    ///
    /// # Errors
    ///
    /// - Returns [`State`](CatalogError::State) if no table has this name, the table is protected, or the database fails or does
    ///   not confirm the change.
    /// - Returns [`Rights`](CatalogError::Rights) if the caller may not drop the table or read its metadata, or if row filters or
    ///   column masks restrict the caller, who does not manage them.
    /// - Returns [`Busy`](CatalogError::Busy) if commits to the table leave no turn in time, and
    ///   [`Overtaken`](CatalogError::Overtaken) if other servers kept committing to it.
    /// - Returns [`Behind`](CatalogError::Behind) if storage has states of the table that the database does not have.
    /// - Returns [`MetadataGone`](CatalogError::MetadataGone), [`MetadataInvalid`](CatalogError::MetadataInvalid),
    ///   [`OwnFileInvalid`](CatalogError::OwnFileInvalid) or [`Storage`](CatalogError::Storage) if the metadata file is not there,
    ///   or it or the ledger can't be read.
    pub async fn unregister_table(&self, name: &TableName, actor: &Actor) -> Result<LoadedTable> {
        let row = self.table(name).await?;
        // The answer has the metadata.
        let mut required = Required::privilege(Privilege::Drop).and(Privilege::ReadMetadata.into());
        if actor.authority.restrictions(row.id).is_some() {
            // Whoever registers the table again gets an entry without row filters and column masks.
            required = required.and(Privilege::ManageRestrictions.into());
        }
        self.require_tabular(&actor.authority, name, &row, required)?;
        // The returned state must be the last one.
        let _held = self.hold_commits(row.id).await?;
        self.check_not_behind(&row).await?;
        for _ in 0..MAX_REPLAYS {
            let table = self.load_row(self.row_by_id(row.id, name).await?).await?;
            if self.remove_entry(&table, actor).await? {
                return Ok(table);
            }
        }
        Err(CatalogError::Overtaken(format!("other servers kept committing to {name} for {MAX_REPLAYS} attempts")))
    }

    /// Removes the entry of a table, if it is still in this state. `false` if another server committed meanwhile.
    async fn remove_entry(&self, table: &LoadedTable, actor: &Actor) -> Result<bool> {
        let row = &table.row;
        // The receipt holds the whole metadata: no entry leads to it any more.
        let metadata = serde_json::from_slice::<Value>(table.json.bytes()).unwrap_or_default();
        let location = &row.metadata_location;
        let outcome = RequestOutcome::Body(json!({"metadata-location": location, "metadata": metadata, "config": {}}));
        let (table_id, table_uuid, metadata_location) = (row.id, row.table_uuid, location.clone());
        let data = EventData::TableUnregistered(TableUnregisteredData { table_id, table_uuid, metadata_location });
        let outbox = self.outbox(actor, &row.name, data, &outcome);
        Ok(self.state().tables().drop(row, Some(location), &[], None, &outbox).await?)
    }

    /// Returns the dropped tables that can be brought back, newest first.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the database fails.
    pub async fn dropped_tables(&self) -> Result<Vec<DroppedTable>> {
        Ok(self.state().tables().all_dropped(self.warehouse()).await?)
    }

    /// Brings a dropped table back, under its old name or another one. Returns the name.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if no dropped table of this warehouse has the id, the name is taken, its namespace
    /// does not exist, or the database fails.
    pub async fn undrop_table(&self, id: TableId, name: Option<TableName>, actor: &Actor) -> Result<TableName> {
        let dropped = self.state().tables().dropped(id).await?.filter(|d| d.row.warehouse == self.warehouse().id);
        let dropped = dropped.ok_or_else(|| StateError::NotDropped(id.to_string()))?;
        self.authorize_undrop(&dropped, name.as_ref(), &actor.authority).await?;
        let name = name.unwrap_or(dropped.row.name);
        actor.authority.check_name_of_new(self.warehouse_path(), &name)?;
        let data = EventData::TableUndropped(TableIdentityData { table_id: id, table_uuid: dropped.row.table_uuid });
        let outbox = self.outbox(actor, &name, data, &RequestOutcome::NoContent);
        self.state().tables().undrop(self.warehouse(), id, &name, &outbox).await?;
        Ok(name)
    }

    /// Checks that a dropped table may be brought back where it was, and created under its new name, if it gets one.
    async fn authorize_undrop(&self, dropped: &DroppedTable, name: Option<&TableName>, authority: &Authority) -> Result<()> {
        if !authority.is_decided() {
            return Ok(());
        }
        let key = dropped.row.name.namespace.key();
        let missing = StateError::NotDropped(dropped.row.id.to_string());
        let mut named = vec![Named::found(self.namespace_path(&key), Required::privilege(Privilege::Undrop), missing)];
        let renamed = name.filter(|name| **name != dropped.row.name);
        let into = match renamed {
            Some(name) => found(self.namespace(&name.namespace).await)?.map(|into| into.name.key()),
            None => None,
        };
        if let Some(name) = renamed {
            let need = into.as_ref().map(|key| Need::new(self.namespace_path(key), Privilege::CreateTable));
            named.push(Named::looked_up(need, no_such_namespace(&name.namespace)));
        }
        require_named(authority, named)?;
        let Some((into, name)) = into.as_deref().zip(name) else { return Ok(()) };
        self.check_move(authority, &dropped.row, &key, (into, &name.name)).map_err(|refused| {
            // The refusal names the table.
            match authority.sees(&self.tabular_path(&key, &dropped.row)) {
                true => refused,
                false => StateError::NotDropped(dropped.row.id.to_string()).into(),
            }
        })
    }

    /// Ends the undrop period of the dropped tables that expired by `now`. Returns the number of tables.
    ///
    /// `now` is in milliseconds since the Unix epoch. A table whose period can't be ended is logged and tried again at the next
    /// call.
    ///
    /// # Errors
    ///
    /// Returns [`Refused`](CatalogError::Refused) if database and storage disagree ([`Catalog::check_epoch`]), also if that is noticed
    /// in between: a table may then have been brought back without this database knowing it. Returns
    /// [`State`](CatalogError::State) if the dropped tables can't be listed.
    pub async fn expire_drops(&self, now: Millis) -> Result<u64> {
        self.check_epoch()?;
        let mut ended = 0;
        let mut after = None;
        loop {
            let page = self.state().tables().dropped_until(self.warehouse(), now, after, ENDED_AT_ONCE).await?;
            let Some(last) = page.last() else { return Ok(ended) };
            after = Some((last.expires_ms, last.row.id));
            self.check_nothing_lost().await?;
            for dropped in page {
                self.check_epoch()?;
                // One failing table must not stop the others.
                match self.end_drop(&dropped, &Actor::internal("undrop")).await {
                    Ok(()) => ended += 1,
                    Err(error) => tracing::warn!(table = %dropped.row.name, %error, "an undrop period could not be ended"),
                }
            }
        }
    }

    /// Removes a dropped table for good, and puts its files into quarantine if it was dropped with purge.
    async fn end_drop(&self, dropped: &DroppedTable, actor: &Actor) -> Result<()> {
        let row = &dropped.row;
        let quarantines = if dropped.purge { self.purge_list_of_dropped(row).await? } else { Vec::new() };
        let files = quarantines.len() as u64;
        let data = EventData::TableDropEnded(TableDropEndedData {
            table_id: row.id,
            table_uuid: row.table_uuid,
            metadata_location: row.metadata_location.clone(),
            quarantined_files: files,
            doomed_files: files,
        });
        let events = vec![self.event(actor, &row.name, data)];
        // The database may have lost changes since it was read, such as the one that brought the table back.
        self.check_epoch()?;
        self.state().tables().end_drop(row.id, &quarantines, &Outbox { events, receipts: Vec::new() }).await?;
        Ok(())
    }

    /// Lists the files of a dropped table that its purge puts into quarantine; none if storage has later states of it.
    async fn purge_list_of_dropped(&self, row: &TabularRow) -> Result<Vec<NewQuarantine>> {
        match self.check_dropped_tip(row).await {
            Err(error @ CatalogError::Behind { .. }) => {
                tracing::warn!(table = %row.name, %error, "purge leaves the files in place: the table may have lived on");
                Ok(Vec::new())
            }
            checked => {
                checked?;
                Ok(self.purge_list(row).await)
            }
        }
    }

    /// Lists the files of a table that a purge puts into quarantine; none for a foreign table.
    ///
    /// A table whose metadata can't be read is dropped all the same, and its files stay in place.
    async fn purge_list(&self, row: &TabularRow) -> Vec<NewQuarantine> {
        if !row.owned {
            return Vec::new();
        }
        let list = async { self.files_to_purge(&self.load_row(row.clone()).await?).await };
        list.await.unwrap_or_else(|error| {
            tracing::warn!(table = %row.name, %error, "purge leaves the files in place: they can't be listed");
            Vec::new()
        })
    }

    /// Lists every file that a table's metadata leads to; none if the table has `gc.enabled=false`.
    async fn files_to_purge(&self, table: &LoadedTable) -> Result<Vec<NewQuarantine>> {
        let metadata = &table.metadata;
        if !GC_ENABLED.get_valid(&metadata.properties)? {
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
