//! Namespaces, tables, ownership and the commit sequencer, over one warehouse.
//!
//! Every change to a table goes through [`Catalog::commit`]; every deletion of a table's file through [`deletion`].

mod access;
mod actor;
mod cache;
mod create;
mod damage;
pub mod deletion;
mod drop;
mod epoch;
mod error;
mod extents;
mod failpoint;
mod fleet;
mod freeze;
mod functions;
mod ledger;
mod locations;
mod moves;
mod namespaces;
mod paths;
mod places;
mod readable;
pub mod recovery;
mod referenced;
mod references;
mod restore;
mod sequencer;
mod transaction;
mod views;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use esker_format::{SchemaRef, TableMetadata};
use esker_state::{State, TableRow, TableUse, TabularKind, Warehouse};
use esker_storage::{Location, Storage, StorageError};
use esker_table::{BadProperty, MetadataJson, TableFacts};
use esker_types::{Millis, TableId, TableName, caught};
use tokio::sync::Notify;

pub use access::{Access, AccessError, ISSUED_SECONDS, token_hash};
pub use actor::{Actor, RequestOutcome};
pub use create::{CreateTable, Created, Register};
pub use damage::Unreadable;
pub use error::CatalogError;
pub use extents::referenced_by_others;
pub use failpoint::Failpoint;
pub use fleet::{AssessedTable, NotAssessed};
pub use freeze::Freeze;
pub use namespaces::PropertyChange;
pub use paths::{PathSet, PathSetBuilder};
pub use places::{Place, places_of};
pub use referenced::referenced_paths;
pub use references::{RefChange, staged};
pub use restore::Restored;
pub use sequencer::{Change, Committed, Proposal, Rebase};
pub use transaction::TableChange;
pub use views::{CreateView, LoadedView, ReplaceView};

use cache::Caches;
use epoch::EpochCheck;
use extents::Extents;
use ledger::LastWritten;
use recovery::Behind;
use sequencer::Sequencers;

/// The result of a catalog operation.
pub type Result<T> = std::result::Result<T, CatalogError>;

/// What a catalog is opened with.
#[derive(Debug, Clone)]
pub struct CatalogOptions {
    /// The warehouse's name.
    pub warehouse: String,
    /// Where new tables go, if the configuration says so. Fixed when the warehouse is made.
    pub location: Location,
    /// The configuration names the location: then it must be the one that the warehouse was made with.
    pub location_is_set: bool,
    /// Names are compared without case. Fixed when the warehouse is made.
    pub case_insensitive: bool,
    /// What clients get as defaults, so that they need no storage settings of their own.
    pub client: BTreeMap<String, String>,
    /// Where else clients may put or register tables.
    pub allowed_locations: Vec<Location>,
    /// How long a dropped table can be brought back; 0: not at all.
    pub undrop_ms: Millis,
    /// How long a file stays in quarantine.
    pub grace_ms: Millis,
    /// How long a commit waits for its turn, and once more for its end.
    pub commit_wait: Duration,
    /// Bytes of parsed metadata and manifests kept in memory, each.
    pub cache_bytes: u64,
    /// Bytes of memory that the set of a table's files may take; what is more goes to disk.
    pub set_bytes: u64,
    /// Where on disk.
    pub spill_dir: PathBuf,
    /// What can't be followed of the policy among a table's own properties.
    pub check_policy: fn(&BTreeMap<String, String>) -> Vec<BadProperty>,
    /// What tells by whom a table is frozen, if it is.
    pub freeze: Freeze,
    /// Where to stop for good or to panic, in tests.
    pub failpoint: Failpoint,
}

/// A table as it is now.
#[derive(Debug, Clone)]
pub struct LoadedTable {
    /// Its pointer row.
    pub row: TableRow,
    /// Its parsed metadata.
    pub metadata: Arc<TableMetadata>,
    /// The metadata as the file has it, uncompressed: what a response repeats.
    pub json: MetadataJson,
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
    warehouse: Warehouse,
    options: CatalogOptions,
    caches: Caches,
    sequencers: Sequencers,
    epoch: EpochCheck,
    behind: Behind,
    /// Tables whose quarantine the last sweep could not judge.
    sick_tables: AtomicU64,
    ledger: LastWritten,
    changed: Notify,
    /// Scans of this server's own queries that are not counted in the database yet.
    used: Mutex<HashMap<TableId, TableUse>>,
    /// What is kept in the database of the fleet's facts, parsed, with the metadata file that they are of.
    facts: Mutex<HashMap<TableId, (String, Arc<TableFacts>)>>,
    /// Where the tables' files lie.
    extents: Mutex<Extents>,
}

impl Catalog {
    /// Opens the warehouse, entering it in the state database on the first start.
    pub async fn open(state: State, storage: Storage, mut options: CatalogOptions) -> Result<Self> {
        let wanted = options.location.to_string();
        let (warehouse, location) = state.ensure_warehouse(&options.warehouse, &wanted, options.case_insensitive).await?;
        let changed = |key: &str, made: &str, now: &str| {
            let name = &options.warehouse;
            CatalogError::Invalid(format!("warehouses.{name}.{key} is {now}, but the warehouse was made with {made}"))
        };
        if options.location_is_set && location != wanted {
            return Err(changed("location", &location, &wanted));
        }
        if warehouse.case_insensitive != options.case_insensitive {
            let (made, now) = (warehouse.case_insensitive.to_string(), options.case_insensitive.to_string());
            return Err(changed("case_insensitive", &made, &now));
        }
        options.location = Location::parse(&location)?;
        let caches = Caches::new(options.cache_bytes, storage.clone());
        let (sequencers, ledger) = (Sequencers::default(), LastWritten::default());
        let (epoch, behind, sick_tables) = (EpochCheck::default(), Behind::default(), AtomicU64::default());
        let (changed, used, facts, extents) = (Notify::new(), Mutex::default(), Mutex::default(), Mutex::default());
        let inner = Inner {
            state,
            storage,
            warehouse,
            options,
            caches,
            sequencers,
            epoch,
            behind,
            sick_tables,
            ledger,
            changed,
            used,
            facts,
            extents,
        };
        let this = Self { inner: Arc::new(inner) };
        this.advance_epoch().await;
        Ok(this)
    }

    /// The state database.
    pub fn state(&self) -> &State {
        &self.inner.state
    }

    /// The warehouse's storage.
    pub fn storage(&self) -> &Storage {
        &self.inner.storage
    }

    /// Whether the warehouse's storage answers, has the bucket, and lets this server in.
    pub async fn check_storage(&self) -> Result<()> {
        Ok(self.storage().probe(&self.options().location).await?)
    }

    /// Tables of which the last sweep of the quarantine could not find out what they refer to.
    pub fn unswept_tables(&self) -> u64 {
        self.inner.sick_tables.load(Ordering::Relaxed)
    }

    /// The warehouse's row.
    pub fn warehouse(&self) -> Warehouse {
        self.inner.warehouse
    }

    /// What the catalog was opened with.
    pub fn options(&self) -> &CatalogOptions {
        &self.inner.options
    }

    /// A table was made or changed by this server.
    pub(crate) fn notify_change(&self) {
        self.inner.changed.notify_one();
    }

    /// Waits until this server makes or changes a table. For one who waits.
    pub(crate) async fn wait_for_change(&self) {
        self.inner.changed.notified().await;
    }

    /// Stops here for good if the configuration says so.
    pub async fn failpoint(&self, point: &str) {
        self.inner.options.failpoint.at(point).await;
    }

    /// An empty set of files, within the bounds of the configuration.
    pub fn path_set(&self) -> PathSetBuilder {
        PathSetBuilder::new(&self.options().spill_dir, self.options().set_bytes)
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
        let (metadata, json) = self.metadata_at(&row.metadata_location).await.map_err(|e| match e {
            CatalogError::Storage(StorageError::NotFound { uri }) => {
                CatalogError::MetadataGone { table: row.name.to_string(), uri }
            }
            e => e,
        })?;
        Ok(LoadedTable { row, metadata, json })
    }

    /// A table's schema for a list of tables. One that can't be read is listed without; who asks for it itself is told why.
    pub async fn schema_to_list(&self, row: &TableRow) -> Option<SchemaRef> {
        let error = match caught(self.load_row(row.clone())).await {
            Ok(Ok(table)) => return Some(table.metadata.current_schema().clone()),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        tracing::warn!(table = %row.name, error, "a table is listed without its columns");
        None
    }

    /// Every table and view of the warehouse: what has a place in its storage.
    pub(crate) async fn tables_and_views(&self) -> Result<Vec<TableRow>> {
        let mut rows = self.tables().await?;
        rows.extend(self.views().await?);
        Ok(rows)
    }

    /// Every view of the warehouse.
    pub async fn views(&self) -> Result<Vec<TableRow>> {
        Ok(self.state().all_of(TabularKind::View, self.warehouse()).await?)
    }

    /// Every table of the warehouse.
    pub async fn tables(&self) -> Result<Vec<TableRow>> {
        Ok(self.state().all_of(TabularKind::Table, self.warehouse()).await?)
    }
}
