//! The ledger: the catalog's entries, copied into the warehouse's storage whenever the house is kept. What a database that was lost or
//! restored does not know any more is in it: names, ids, ownership, and which metadata file was current.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use esker_state::{NamespaceRow, TableRow, TabularKind};
use esker_storage::StorageError;
use esker_types::{Millis, NamespaceName, TableId, TableName, now_ms};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Catalog, CatalogError, Result};

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerNamespace {
    /// Its name.
    pub name: NamespaceName,
    /// Its properties.
    pub properties: BTreeMap<String, String>,
    /// It can't be dropped.
    pub protected: bool,
}

/// A table or view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LedgerEntry {
    /// Its name.
    pub name: TableName,
    /// The catalog entry.
    pub id: TableId,
    /// It is a view.
    pub view: bool,
    /// Its UUID.
    pub uuid: Uuid,
    /// Its location.
    pub location: String,
    /// The metadata file that was current.
    pub metadata_location: String,
    /// Whether Esker owned its files.
    pub owned: bool,
    /// It could not be dropped.
    pub protected: bool,
}

impl From<TableRow> for LedgerEntry {
    fn from(row: TableRow) -> Self {
        let TableRow { id, kind, name, table_uuid, location, metadata_location, owned, protected, .. } = row;
        Self { name, id, view: kind == TabularKind::View, uuid: table_uuid, location, metadata_location, owned, protected }
    }
}

impl LedgerEntry {
    /// As a row of a warehouse.
    pub(crate) fn row(self, warehouse: i64) -> TableRow {
        let Self { name, id, view, uuid, location, metadata_location, owned, protected } = self;
        let kind = if view { TabularKind::View } else { TabularKind::Table };
        TableRow { id, warehouse, kind, name, table_uuid: uuid, location, metadata_location, owned, protected }
    }
}

/// The catalog of one warehouse.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Ledger {
    /// Namespaces, parents before what is in them.
    pub(crate) namespaces: Vec<LedgerNamespace>,
    /// Tables and views.
    pub(crate) entries: Vec<LedgerEntry>,
    /// Tables that were dropped and could still be brought back.
    pub(crate) dropped: Vec<LedgerEntry>,
}

/// A ledger as it lies in storage.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct StoredLedger {
    pub(crate) written_ms: Millis,
    #[serde(flatten)]
    pub(crate) ledger: Ledger,
}

/// What this process wrote last.
#[derive(Debug, Default)]
pub(crate) struct LastWritten(Mutex<Option<Ledger>>);

impl Catalog {
    fn ledger_path(&self) -> String {
        self.own_path("ledger.json")
    }

    /// The catalog's entries as the database has them.
    pub(crate) async fn entries(&self) -> Result<Ledger> {
        let namespaces = self.state().all_namespaces(self.warehouse()).await?;
        let namespace = |NamespaceRow { name, properties, protected }| LedgerNamespace { name, properties, protected };
        Ok(Ledger {
            namespaces: namespaces.into_iter().map(namespace).collect(),
            entries: self.tables_and_views().await?.into_iter().map(LedgerEntry::from).collect(),
            dropped: self.dropped_tables().await?.into_iter().map(|dropped| dropped.row.into()).collect(),
        })
    }

    /// Copies the catalog's entries into storage, if they have changed since this process did it last, and unless the database is not
    /// the one that belongs there.
    pub async fn write_ledger(&self) -> Result<()> {
        self.check_epoch()?;
        let ledger = self.entries().await?;
        let last = |this: &Self| this.inner.ledger.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if last(self).as_ref() == Some(&ledger) {
            return Ok(());
        }
        let written = StoredLedger { written_ms: now_ms(), ledger };
        let bytes = serde_json::to_vec(&written).map_err(|e| CatalogError::Invalid(format!("the ledger: {e}")))?;
        self.storage().write(&self.ledger_path(), Bytes::from(bytes)).await?;
        *self.inner.ledger.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(written.ledger);
        Ok(())
    }

    /// The ledger in storage, if there is one.
    pub(crate) async fn read_ledger(&self) -> Result<Option<StoredLedger>> {
        let uri = self.ledger_path();
        match self.storage().read(&uri).await {
            Ok(bytes) => {
                let invalid = |e: serde_json::Error| CatalogError::MetadataInvalid { uri: uri.clone(), reason: e.to_string() };
                serde_json::from_slice(&bytes).map(Some).map_err(invalid)
            }
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}
