//! The catalog of one warehouse: namespaces, tables, views, ownership and the commit path.
//!
//! A table is a row in the state database that points to the table's current metadata file. A change writes a new metadata file
//! and then swaps the pointer in one database transaction, so the database decides which commit wins. Every change to a table's
//! metadata goes through [`Catalog::commit`] or [`Catalog::commit_transaction`]. Every deletion of a table's file goes through
//! [`deletion::sweep`].
//!
//! Start reading at [`Catalog::open`] and [`Catalog::load`] below, then at `sequencer.rs` for commits, `turns/mod.rs` for commits
//! that come late, and `deletion.rs` for deletions.

mod actor;
mod authorize;
mod cache;
mod commit_queue;
mod create;
mod damage;
pub mod deletion;
mod drop;
mod epoch;
mod error;
mod extents;
mod failpoint;
mod fleet;
mod forward;
mod freeze;
mod functions;
mod ledger;
mod listing;
mod locations;
mod manifest_places;
mod merge;
mod moves;
mod namespaces;
pub mod needs;
mod outputs;
mod overview;
mod paths;
mod places;
mod proposal;
mod readable;
pub mod recovery;
mod referenced;
mod references;
mod restore;
mod restrictions;
mod securable_name;
mod sequencer;
mod settled;
mod told;
mod transaction;
mod turns;
mod vendable;
mod views;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use esker_format::{SchemaRef, TableMetadata};
use esker_state::{State, TableUsage, TabularKind, TabularRow, Warehouse};
use esker_storage::{Location, Storage, StorageError};
use esker_table::{BadProperty, DeleteFiles, MetadataJson, TableFacts};
use esker_types::{DurationMillis, Principal, TableId, TableName, catch_panic};
use tokio::sync::Notify;

pub use actor::{Actor, RequestOutcome};
pub use authorize::{Authority, is_audit_name};
pub use commit_queue::QueueOptions;
pub use create::{CreateTable, Created, Register};
pub use damage::Unreadable;
pub use drop::DroppedFiles;
pub use error::CatalogError;
pub use extents::referenced_by_others;
pub use failpoint::Failpoint;
pub use fleet::{AssessedTable, NotAssessed};
pub use forward::{ForwardCounts, Forwarded, Forwarder, NotSent};
pub use freeze::Freeze;
pub use merge::{MergePolicies, MergePolicy, MergeSettings};
pub use namespaces::PropertyChange;
pub use overview::{Overview, QueueCounts};
pub use paths::{PathSet, PathSetBuilder};
pub use places::{Place, places_of};
pub use proposal::{CommitRecords, Committed, Proposal, Rebase};
pub use referenced::referenced_paths;
pub use references::{RefChange, staged};
pub use restore::Restored;
pub use restrictions::{check_mask, checked_filter, filter_of_json, refused_type, restrictable_field};
pub use securable_name::{NamedSecurable, SecurableName};
pub use told::{ERROR_IS_WITHHELD, Told, remove_names};
pub use transaction::TableChange;
pub use turns::{TurnCounts, TurnOptions};
pub use vendable::Vendable;
pub use views::{CreateView, LoadedView, ReplaceView};

use cache::Caches;
use commit_queue::CommitQueues;
use epoch::EpochCheck;
use extents::Extents;
use forward::KnownLeases;
use ledger::LastWritten;
use recovery::BehindChecks;
use turns::CommitTurns;

/// The result of a catalog operation.
pub type Result<T> = std::result::Result<T, CatalogError>;

/// The settings that a [`Catalog`] is opened with.
#[derive(Debug, Clone)]
pub struct CatalogOptions {
    /// Name of the warehouse.
    pub warehouse: String,
    /// Directory of the warehouse, under which new tables are created.
    ///
    /// It is fixed when the warehouse is created: [`Catalog::open`] replaces it by the location in the database.
    pub location: Location,
    /// `true` if the configuration names the location; it must then be the one that the warehouse was created with.
    pub location_is_set: bool,
    /// `true` if names are compared without case. Fixed when the warehouse is created.
    pub case_insensitive: bool,
    /// Properties that clients get as defaults, so that they need no storage settings of their own.
    pub client: BTreeMap<String, String>,
    /// Locations outside the warehouse in which clients may also create or register tables.
    pub allowed_locations: Vec<Location>,
    /// `true` if new tables and commits may set a data path that other tables have as well.
    pub shared_data_paths: bool,
    /// Names of classes that `write.location-provider.impl` may name.
    pub allowed_location_providers: Vec<String>,
    /// Issuer of the users of Trino. Without it, a user of Trino is the client of the same name.
    pub trino_issuer: Option<String>,
    /// Time in milliseconds during which a dropped table can be brought back; 0 means not at all.
    pub undrop_ms: DurationMillis,
    /// Time in milliseconds that a file stays in quarantine before the sweep may delete it.
    pub grace_ms: DurationMillis,
    /// Time that a commit waits for its turn, and then again for its result.
    ///
    /// A [`Rebase`] waits ten times as long.
    pub commit_wait: Duration,
    /// Bounds of the commit queues.
    pub queues: QueueOptions,
    /// Turns of clients whose commits were late.
    pub turns: TurnOptions,
    /// Size in bytes of each cache: parsed metadata files, file lists of snapshots, and manifests.
    pub cache_bytes: u64,
    /// Memory in bytes that one [`PathSet`] may take; the rest is written to `spill_dir`.
    pub path_set_bytes: u64,
    /// Directory for the part of a [`PathSet`] that exceeds `path_set_bytes`.
    pub spill_dir: PathBuf,
    /// Function that lists the policy properties of a table that are not valid.
    pub check_policy: fn(&BTreeMap<String, String>) -> Vec<BadProperty>,
    /// Lookup in the policies that names who froze a table.
    pub freeze: Freeze,
    /// Lookup in the policies that says which late commits to a table are merged.
    pub merge: MergePolicies,
    /// Reads and encodes delete files, for merges of deletes by position. Without it, such commits are not merged.
    pub deletes: Option<Arc<dyn DeleteFiles>>,
    /// Sends commits to other servers on the database. Without it, this server takes no lease and forwards nothing.
    pub forwarder: Option<Arc<dyn Forwarder>>,
    /// Named points at which a test stops or panics the process.
    pub failpoint: Failpoint,
}

/// A table with the metadata that its row points to.
#[derive(Debug, Clone)]
pub struct LoadedTable {
    /// Row of the table in the state database, with the pointer to the metadata file.
    pub row: TabularRow,
    /// Parsed content of the metadata file.
    pub metadata: Arc<TableMetadata>,
    /// JSON text of the metadata file, uncompressed, as a response repeats it.
    pub json: MetadataJson,
}

/// The catalog of one warehouse. Clones are cheap and share the caches and commit queues.
///
/// ```no_run
/// # async fn set_owner(catalog: esker_catalog::Catalog) -> Result<(), Box<dyn std::error::Error>> {
/// use std::collections::BTreeMap;
///
/// use esker_catalog::{Actor, Proposal};
/// use esker_format::TableUpdate;
/// use esker_types::TableName;
///
/// let name: TableName = "sales.orders".parse()?;
/// let owner = BTreeMap::from([("owner".to_owned(), "ana".to_owned())]);
/// let proposal = Proposal {
///     updates: vec![TableUpdate::SetProperties { updates: owner }],
///     actor: Actor::internal("example"),
///     ..Proposal::default()
/// };
/// let committed = catalog.commit(&name, proposal).await?;
/// assert_eq!(committed.table.metadata.properties["owner"], "ana");
/// assert_eq!(catalog.load(&name).await?.row.metadata_location, committed.table.row.metadata_location);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    overview: Overview,
    storage: Storage,
    warehouse: Warehouse,
    options: CatalogOptions,
    caches: Caches,
    commit_queues: CommitQueues,
    turns: CommitTurns,
    /// Leases of commits that this server knows of.
    leases: KnownLeases,
    epoch: EpochCheck,
    behind: BehindChecks,
    /// Number of tables whose quarantine the last sweep could not check.
    unswept_tables: AtomicU64,
    /// Number of rounds in which damaged files were checked again.
    damage_rounds: AtomicUsize,
    ledger: LastWritten,
    changed: Notify,
    /// Scans by queries of this server that are not counted in the database yet.
    uncounted_uses: Mutex<HashMap<TableId, TableUsage>>,
    /// Facts of tables as the database holds them, parsed, each with the metadata file that they describe.
    parsed_facts: Mutex<HashMap<TableId, (String, Arc<TableFacts>)>>,
    /// Directories in which the tables' files lie.
    extents: Mutex<Extents>,
}

impl Catalog {
    /// Opens a warehouse, and enters it in the state database on the first start.
    ///
    /// Storage that does not answer is no error here; [`Catalog::check_epoch`] reports it.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails, and [`Storage`](crate::CatalogError::Storage) if the
    /// location in the database can't be parsed. Returns [`Invalid`](crate::CatalogError::Invalid) if the configuration names
    /// another location or another comparison of names than the warehouse was created with.
    pub async fn open(state: State, storage: Storage, mut options: CatalogOptions) -> Result<Self> {
        let wanted = options.location.to_string();
        let (warehouse, location) = state.warehouses().ensure(&options.warehouse, &wanted, options.case_insensitive).await?;
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
        // Places are looked up by their normal spelling.
        state.tables().normalize_locations(Location::normalize).await?;
        let caches = Caches::new(options.cache_bytes, storage.clone());
        let (commit_queues, turns) = (CommitQueues::new(options.queues), CommitTurns::new(options.turns));
        let ledger = LastWritten::default();
        let (epoch, behind, unswept_tables) = (EpochCheck::default(), BehindChecks::default(), AtomicU64::default());
        let (changed, used, facts, extents) = (Notify::new(), Mutex::default(), Mutex::default(), Mutex::default());
        let inner = Inner {
            overview: Overview::new(state.clone()),
            state,
            storage,
            warehouse,
            options,
            caches,
            commit_queues,
            turns,
            leases: KnownLeases::default(),
            epoch,
            behind,
            unswept_tables,
            damage_rounds: AtomicUsize::new(0),
            ledger,
            changed,
            uncounted_uses: used,
            parsed_facts: facts,
            extents,
        };
        let this = Self { inner: Arc::new(inner) };
        this.advance_epoch().await;
        Ok(this)
    }

    /// Returns the state database, for this crate and for the maintenance, which keeps jobs and quarantine together.
    ///
    /// The layers above call the catalog or the maintenance, and read with [`Catalog::overview`]. `make lint` checks that.
    pub fn state(&self) -> &State {
        &self.inner.state
    }

    /// Returns the read-only view of the state database.
    pub fn overview(&self) -> &Overview {
        &self.inner.overview
    }

    /// Returns the warehouse's storage.
    pub fn storage(&self) -> &Storage {
        &self.inner.storage
    }

    /// Checks that the warehouse's storage answers, has the bucket, and lets this server in.
    ///
    /// # Errors
    ///
    /// Returns [`Storage`](crate::CatalogError::Storage) if one of these does not hold.
    pub async fn check_storage(&self) -> Result<()> {
        Ok(self.storage().probe(&self.options().location).await?)
    }

    /// Returns the number of tables that the last sweep of the quarantine could not check.
    ///
    /// Their files stay in quarantine until a sweep can find out what they refer to.
    pub fn unswept_tables(&self) -> u64 {
        self.inner.unswept_tables.load(Ordering::Relaxed)
    }

    /// Returns the warehouse's row: its number and how it compares names.
    pub fn warehouse(&self) -> Warehouse {
        self.inner.warehouse
    }

    /// Returns the settings that the catalog was opened with.
    pub fn options(&self) -> &CatalogOptions {
        &self.inner.options
    }

    /// Wakes [`Catalog::wait_for_change`] after this server created or changed a table.
    pub(crate) fn notify_change(&self) {
        self.inner.changed.notify_one();
    }

    /// Waits until this server creates or changes a table. Only one task may wait.
    pub(crate) async fn wait_for_change(&self) {
        self.inner.changed.notified().await;
    }

    /// Stops here for ever, or panics, if the configuration names this point. Used by tests only.
    pub async fn failpoint(&self, point: &str) {
        self.inner.options.failpoint.at(point).await;
    }

    /// Notes that a principal is about to load a table, as a client does whose commit was late. Nobody waits here.
    ///
    /// The layer that answers clients calls this before it reads the table's pointer, or right after.
    pub fn note_load(&self, table: TableId, principal: &Principal) {
        self.inner.turns.note_load(table, principal);
    }

    /// Answers every client that waits for its turn to commit, now and from now on. A server that stops calls this.
    pub fn end_turns(&self) {
        self.inner.turns.close();
    }

    /// Counts the turns of clients whose commits were late, since the start of this server.
    pub fn turn_counts(&self) -> TurnCounts {
        self.inner.turns.counts()
    }

    /// Returns the number of clients' commits and transactions that wait or are under way on this server.
    pub fn queued_commits(&self) -> usize {
        self.inner.commit_queues.taken()
    }

    /// Starts an empty set of paths with the configured memory and spill directory.
    pub fn path_set(&self) -> PathSetBuilder {
        PathSetBuilder::new(&self.options().spill_dir, self.options().path_set_bytes)
    }

    /// Loads a table by name.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if no table has this name or the database fails. Returns
    /// [`MetadataGone`](crate::CatalogError::MetadataGone) if the metadata file is not in storage,
    /// [`MetadataInvalid`](crate::CatalogError::MetadataInvalid) if it can't be decompressed or parsed, and
    /// [`Storage`](crate::CatalogError::Storage) if it can't be read.
    pub async fn load(&self, name: &TableName) -> Result<LoadedTable> {
        self.load_row(self.table(name).await?).await
    }

    /// Returns the row of a table by name. It reads no metadata, so it also checks cheaply that the table exists.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if no table has this name or the database fails.
    pub async fn table(&self, name: &TableName) -> Result<TabularRow> {
        Ok(self.state().tables().table(self.warehouse(), name).await?)
    }

    /// Loads a table in the state that a metadata file describes; in its present state if that file is gone or damaged.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if no table has this name or the database fails, and
    /// [`Storage`](crate::CatalogError::Storage) if the storage fails. Returns the errors of [`Catalog::load`] if the present state
    /// can't be read either.
    pub async fn table_at(&self, name: &TableName, metadata_location: &str) -> Result<LoadedTable> {
        let row = self.table(name).await?;
        let then = TabularRow { metadata_location: metadata_location.to_owned(), ..row };
        match self.load_row(then).await {
            Err(CatalogError::MetadataGone { .. } | CatalogError::MetadataInvalid { .. }) => self.load(name).await,
            // A passing failure must not answer with another state.
            loaded => loaded,
        }
    }

    /// Loads the table that a row points to.
    ///
    /// # Errors
    ///
    /// Returns [`MetadataGone`](crate::CatalogError::MetadataGone) if the metadata file is not in storage,
    /// [`MetadataInvalid`](crate::CatalogError::MetadataInvalid) if it can't be decompressed or parsed, and
    /// [`Storage`](crate::CatalogError::Storage) if it can't be read.
    pub async fn load_row(&self, row: TabularRow) -> Result<LoadedTable> {
        let (metadata, json) = self.metadata_at(&row.metadata_location).await.map_err(|e| match e {
            CatalogError::Storage(StorageError::NotFound { uri }) => {
                CatalogError::MetadataGone { table: row.name.to_string(), uri }
            }
            e => e,
        })?;
        Ok(LoadedTable { row, metadata, json })
    }

    /// Returns the current schema of a table for a listing, or `None` if its metadata can't be read.
    ///
    /// The error is logged; a request for that table returns it.
    pub async fn schema_to_list(&self, row: &TabularRow) -> Option<SchemaRef> {
        let error = match catch_panic(self.load_row(row.clone())).await {
            Ok(Ok(table)) => return Some(table.metadata.current_schema().clone()),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        tracing::warn!(table = %row.name, error, "a table is listed without its columns");
        None
    }

    /// Returns the row of a table or view of the warehouse by its id, or `None` if it does not exist any more.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn tabular_by_id(&self, id: TableId) -> Result<Option<TabularRow>> {
        let row = self.state().tables().by_id(id).await?;
        Ok(row.filter(|row| row.warehouse == self.warehouse().id))
    }

    /// Returns the rows of every table and view of the warehouse, which all have a place in its storage.
    pub(crate) async fn tables_and_views(&self) -> Result<Vec<TabularRow>> {
        let mut rows = self.tables().await?;
        rows.extend(self.views().await?);
        Ok(rows)
    }

    /// Returns the rows of every view of the warehouse, by namespace and name.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn views(&self) -> Result<Vec<TabularRow>> {
        Ok(self.state().tables().all(TabularKind::View, self.warehouse()).await?)
    }

    /// Returns the rows of every table of the warehouse, by namespace and name.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn tables(&self) -> Result<Vec<TabularRow>> {
        Ok(self.state().tables().all(TabularKind::Table, self.warehouse()).await?)
    }
}
