//! Namespaces, tables, ownership and the commit sequencer, over one warehouse.
//!
//! Every change to a table goes through [`Catalog::commit`]; every deletion of a table's file through [`deletion`].

mod access;
mod apply;
mod cache;
mod create;
pub mod deletion;
mod drop;
mod error;
mod halt;
mod locations;
mod namespaces;
mod sequencer;
mod skeleton;

use std::sync::Arc;

use esker_state::{State, TableRow, WarehouseId};
use esker_storage::{Location, Storage, StorageError};
use esker_types::{Millis, TableName};
use iceberg::spec::TableMetadata;

pub use access::{Access, AccessError, token_hash};
pub use create::{CreateTable, Created, Register};
pub use error::CatalogError;
pub use halt::Halt;
pub use namespaces::PropertyChange;
pub use sequencer::{Change, Committed, Proposal, Rebase};

use cache::Caches;
use sequencer::Sequencers;

/// The result of a catalog operation.
pub type Result<T> = std::result::Result<T, CatalogError>;

/// What a catalog is opened with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The warehouse's name.
    pub warehouse: String,
    /// Where new tables go.
    pub location: Location,
    /// Where else clients may put or register tables.
    pub allowed_locations: Vec<Location>,
    /// How long a file stays in quarantine.
    pub grace_ms: Millis,
    /// Bytes of parsed metadata and manifests kept in memory, each.
    pub cache_bytes: u64,
    /// Where to stop for good, in tests of kills.
    pub halt: Halt,
}

/// A table as it is now.
#[derive(Debug, Clone)]
pub struct LoadedTable {
    /// Its pointer row.
    pub row: TableRow,
    /// Its parsed metadata.
    pub metadata: Arc<TableMetadata>,
    /// Bytes of the metadata file, uncompressed.
    pub metadata_bytes: u64,
}

/// One warehouse's catalog. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    storage: Storage,
    warehouse: WarehouseId,
    options: Options,
    caches: Caches,
    sequencers: Sequencers,
}

impl Catalog {
    /// Opens the warehouse, entering it in the state database on the first start.
    pub async fn open(state: State, storage: Storage, mut options: Options) -> Result<Self> {
        let (warehouse, location) = state.ensure_warehouse(&options.warehouse, &options.location.to_string()).await?;
        options.location = Location::parse(&location)?;
        let caches = Caches::new(options.cache_bytes, storage.file_io());
        let inner = Inner { state, storage, warehouse, options, caches, sequencers: Sequencers::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The state database.
    pub fn state(&self) -> &State {
        &self.inner.state
    }

    /// The warehouse's storage.
    pub fn storage(&self) -> &Storage {
        &self.inner.storage
    }

    /// The warehouse's row.
    pub fn warehouse(&self) -> WarehouseId {
        self.inner.warehouse
    }

    /// What the catalog was opened with.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Stops here for good if the configuration says so.
    pub async fn halt(&self, point: &str) {
        self.inner.options.halt.at(point).await;
    }

    /// A table by name.
    pub async fn load(&self, name: &TableName) -> Result<LoadedTable> {
        let row = self.state().table(self.warehouse(), name).await?;
        self.load_row(row).await
    }

    /// Whether the metadata file of a table is in storage, whatever the caches hold.
    ///
    /// A clients' load asks for it, because a missing file is found out sooner so. It costs a stat in a local warehouse.
    pub async fn check_metadata_file(&self, table: &LoadedTable) -> Result<()> {
        let uri = &table.row.metadata_location;
        match self.storage().size(uri).await? {
            Some(_) => Ok(()),
            None => Err(CatalogError::MetadataGone { table: table.row.name.to_string(), uri: uri.clone() }),
        }
    }

    /// The table that a row points at.
    pub async fn load_row(&self, row: TableRow) -> Result<LoadedTable> {
        let (metadata, metadata_bytes) = self.metadata_at(&row.metadata_location).await.map_err(|e| match e {
            CatalogError::Storage(StorageError::NotFound { uri }) => {
                CatalogError::MetadataGone { table: row.name.to_string(), uri }
            }
            e => e,
        })?;
        Ok(LoadedTable { row, metadata, metadata_bytes })
    }

    /// Every table of the warehouse.
    pub async fn tables(&self) -> Result<Vec<TableRow>> {
        Ok(self.state().all_tables(self.warehouse()).await?)
    }
}
