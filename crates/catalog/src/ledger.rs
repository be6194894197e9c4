//! The ledger: a copy of the catalog's entries in the warehouse's storage, from which a lost database is rebuilt.
//!
//! Housekeeping writes the file `_esker/ledger.json` when an entry has changed. It holds what the tables' own files do not:
//! names, ids, ownership, and which metadata file was current. A database that was lost or restored is compared with it
//! ([`recovery`](crate::recovery)).

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use esker_state::{DroppedTable, NamespaceRow, TabularKind, TabularRow};
use esker_storage::StorageError;
use esker_types::{Millis, NamespaceName, TableId, TableName, now_ms};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Catalog, CatalogError, Result};

/// A namespace in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LedgerNamespace {
    /// Name of the namespace.
    pub name: NamespaceName,
    /// Properties of the namespace.
    pub properties: BTreeMap<String, String>,
    /// `true` if the namespace can't be dropped.
    pub protected: bool,
}

/// A table or view in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LedgerEntry {
    /// Name of the table or view.
    pub name: TableName,
    /// Id of the entry in the state database.
    pub id: TableId,
    /// `true` for a view.
    pub view: bool,
    /// UUID of the table or view; nil for a table of version 1 without one.
    pub uuid: Uuid,
    /// Location of the table or view.
    pub location: String,
    /// URI of the metadata file that was current.
    pub metadata_location: String,
    /// `true` if Esker owned the files of the table.
    pub owned: bool,
    /// `true` if the table or view could not be dropped.
    pub protected: bool,
}

impl From<TabularRow> for LedgerEntry {
    fn from(row: TabularRow) -> Self {
        let TabularRow { id, kind, name, table_uuid, location, metadata_location, owned, protected, .. } = row;
        Self { name, id, view: kind == TabularKind::View, uuid: table_uuid, location, metadata_location, owned, protected }
    }
}

impl LedgerEntry {
    /// Converts the entry to a row of the warehouse with this number.
    pub(crate) fn row(self, warehouse: i64) -> TabularRow {
        let Self { name, id, view, uuid, location, metadata_location, owned, protected } = self;
        let kind = if view { TabularKind::View } else { TabularKind::Table };
        TabularRow { id, warehouse, kind, name, table_uuid: uuid, location, metadata_location, owned, protected }
    }
}

/// The entries of one warehouse's catalog.
#[derive(Debug, Clone, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Ledger {
    /// Namespaces, parents before children.
    pub(crate) namespaces: Vec<LedgerNamespace>,
    /// Tables and views.
    pub(crate) entries: Vec<LedgerEntry>,
    /// Dropped tables that could still be brought back.
    pub(crate) dropped: Vec<LedgerEntry>,
}

/// A ledger as it is stored, with the time of writing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct StoredLedger {
    /// Time in milliseconds since the Unix epoch, from just before the entries were read.
    pub(crate) written_ms: Millis,
    #[serde(flatten)]
    pub(crate) ledger: Ledger,
}

impl StoredLedger {
    /// Returns the entries of those dropped tables that were brought back after the database's drop of them.
    ///
    /// The ledger has such a table among the living, and is later than the drop. A drop that is later than the ledger counts: a
    /// person may drop a table in the restored database.
    pub(crate) fn undropped(&self, dropped: &[DroppedTable]) -> Vec<&LedgerEntry> {
        let living: HashMap<TableId, &LedgerEntry> = self.ledger.entries.iter().map(|entry| (entry.id, entry)).collect();
        let lives_again =
            |table: &DroppedTable| living.get(&table.row.id).copied().filter(|_| self.written_ms > table.dropped_ms);
        dropped.iter().filter_map(lives_again).collect()
    }
}

/// The ledger that this process wrote or compared last; `None` before the first write. A large ledger is not kept.
#[derive(Debug, Default)]
pub(crate) struct LastWritten(Mutex<Option<WrittenLedger>>);

/// What tells a ledger that was written from the present one.
#[derive(Debug, Clone, Copy)]
struct WrittenLedger {
    /// Hash of the entries.
    hash: u64,
    /// Number of the newest event, from just before the entries were read.
    newest_event: i64,
}

impl Catalog {
    fn ledger_path(&self) -> String {
        self.own_path("ledger.json")
    }

    /// Reads the catalog's entries from the database.
    pub(crate) async fn entries(&self) -> Result<Ledger> {
        let namespaces = self.all_namespaces().await?;
        let namespace = |NamespaceRow { name, properties, protected }| LedgerNamespace { name, properties, protected };
        Ok(Ledger {
            namespaces: namespaces.into_iter().map(namespace).collect(),
            entries: self.tables_and_views().await?.into_iter().map(LedgerEntry::from).collect(),
            dropped: self.dropped_tables().await?.into_iter().map(|dropped| dropped.row.into()).collect(),
        })
    }

    /// Copies the catalog's entries into storage, if they changed since this process last wrote them.
    ///
    /// # Errors
    ///
    /// Returns [`Refused`](CatalogError::Refused) if database and storage disagree ([`Catalog::check_epoch`]): the ledger is then
    /// the only copy of later entries. Returns [`State`](CatalogError::State) or [`Storage`](CatalogError::Storage) if the
    /// database or the storage fails, and [`Encode`](CatalogError::Encode) if the entries can't be serialised.
    pub async fn write_ledger(&self) -> Result<()> {
        self.check_epoch()?;
        // The time comes first, so that a drop after it is known to be later than the ledger.
        let written_ms = now_ms();
        let newest_event = self.state().outbox().newest_event().await?;
        let ledger = self.entries().await?;
        let mut hasher = DefaultHasher::new();
        ledger.hash(&mut hasher);
        let now = WrittenLedger { hash: hasher.finish(), newest_event };
        {
            let mut last = self.inner.ledger.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(last) = last.as_mut().filter(|last| last.hash == now.hash) {
                last.newest_event = newest_event;
                return Ok(());
            }
        }
        // The entries may be those of a standby that was late, and the ledger in storage may be the only copy of what it lacks.
        self.check_nothing_lost().await?;
        let written = StoredLedger { written_ms, ledger };
        let bytes = serde_json::to_vec(&written).map_err(|source| CatalogError::Encode { what: "the ledger", source })?;
        self.storage().write(&self.ledger_path(), Bytes::from(bytes)).await?;
        *self.inner.ledger.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        Ok(())
    }

    /// Calls [`Catalog::write_ledger`], unless no event was recorded since this process last did. Each change of an entry has an event.
    ///
    /// So the entries of an idle catalog are not read again and again.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Catalog::write_ledger`].
    pub async fn keep_ledger_current(&self) -> Result<()> {
        let newest_event = self.state().outbox().newest_event().await?;
        let last = *self.inner.ledger.0.lock().unwrap_or_else(PoisonError::into_inner);
        match last {
            Some(last) if last.newest_event == newest_event => Ok(()),
            _ => self.write_ledger().await,
        }
    }

    /// Makes the next [`Catalog::write_ledger`] write, whatever this process wrote before.
    pub(crate) fn forget_written_ledger(&self) {
        *self.inner.ledger.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Reads the ledger from storage; `None` if there is none.
    pub(crate) async fn read_ledger(&self) -> Result<Option<StoredLedger>> {
        let uri = self.ledger_path();
        match self.storage().read(&uri).await {
            Ok(bytes) => {
                let invalid = |e: serde_json::Error| CatalogError::OwnFileInvalid { uri: uri.clone(), reason: e.to_string() };
                serde_json::from_slice(&bytes).map(Some).map_err(invalid)
            }
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_table_lives_again_by_a_ledger_that_is_later_than_the_drop() {
        let entry = || LedgerEntry {
            name: "n.t".parse().expect("a name"),
            id: TableId::fresh(),
            view: false,
            uuid: Uuid::nil(),
            location: "file:///w/t".to_owned(),
            metadata_location: "file:///w/t/metadata/00003-a.metadata.json".to_owned(),
            owned: true,
            protected: false,
        };
        let dropped = |entry: &LedgerEntry, dropped_ms| DroppedTable {
            row: entry.clone().row(1),
            purge: true,
            dropped_by: String::new(),
            dropped_ms,
            expires_ms: Millis::MAX,
        };
        let (then, other) = (entry(), entry());
        for (entry, dropped_ms, lives) in [(&then, 99, true), (&then, 100, false), (&then, 101, false), (&other, 99, false)] {
            let ledger = Ledger { entries: vec![entry.clone()], ..Ledger::default() };
            let written = StoredLedger { written_ms: 100, ledger };
            let found = written.undropped(&[dropped(&then, dropped_ms)]);
            assert_eq!(!found.is_empty(), lives, "dropped at {dropped_ms}");
        }
    }
}
