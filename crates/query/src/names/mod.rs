//! Resolves the names in statements: a catalog is a warehouse, and a schema is a namespace.
//!
//! A schema's name joins the levels of the namespace by dots; a single level may hold dots, too. Names are looked up while a
//! statement is planned. Nothing is listed unless the statement asks for `information_schema`. What the caller may not see is
//! found by no look-up and is in no list. Start reading at `Namespace::find`.

mod views;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::TableType;
use esker_access::{Privilege, Required};
use esker_catalog::{Authority, Catalog, LoadedTable, LoadedView};
use esker_read::Reader;
use esker_state::{TabularKind, TabularRow};
use esker_types::{Coded, ErrorCode, TableName, catch_panic};

use crate::log::QueryStats;
use crate::pins::SnapshotPins;
use crate::restrict::{RestrictedTable, Salt, refused_change, refused_metadata};
use crate::row_position_scan::RowTable;
use crate::served_tables::SYSTEM_TABLES;
use crate::statement_text::{AsOf, parse_name};
use crate::table::columns;
use crate::table_names::{candidate_tables, display_levels};
use crate::visible_names::{is_visible_warehouse, visible_namespaces, visible_tables, visible_views};
use crate::{IcebergTable, QueryError, QueryLog, inspect, rights, system};

/// The warehouses as one statement sees them.
#[derive(Debug, Clone)]
pub(crate) struct NameResolver {
    warehouses: Arc<[(Catalog, Reader)]>,
    /// The session that the sessions of views are cloned from.
    pub(crate) session: Arc<SessionState>,
    stats: Arc<QueryStats>,
    log: QueryLog,
    /// Number of views around the text whose names are resolved.
    pub(crate) depth: usize,
    /// Namespaces with their tables by warehouse; `None` unless the statement asks for them.
    lists: Option<Arc<BTreeMap<String, NamesByNamespace>>>,
    seen: LookedUpTables,
    listing: NameListing,
    caller: StatementCaller,
    /// The salt of the hashes that masks make in this statement.
    salt: Salt,
    /// The snapshots that the statement reads.
    pins: SnapshotPins,
}

/// Who sent a statement, and what the statement needs on what it names.
#[derive(Debug, Clone)]
pub(crate) struct StatementCaller {
    /// Who sent the statement.
    pub(crate) by: Authority,
    /// The privilege that the statement needs on each table and view that it names.
    pub(crate) needs: Privilege,
}

/// A switch that is on once the statement is planned: names are then looked up only to list them.
#[derive(Debug, Clone, Default)]
pub(crate) struct NameListing(Arc<AtomicBool>);

impl NameListing {
    /// Turns the switch on.
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The tables that a statement was planned on. The content is `None` if the statement names anything else.
#[derive(Debug, Clone, Default)]
pub(crate) struct LookedUpTables(Arc<Mutex<Option<Vec<SeenTable>>>>);

/// A table that was looked up: the index of its warehouse, its name, and the location of its metadata file.
type SeenTable = (usize, TableName, String);

impl LookedUpTables {
    /// Records a table; `None` stands for anything that is not a table.
    fn note(&self, table: Option<SeenTable>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (seen.as_mut(), table) {
            (Some(seen), Some(table)) => seen.push(table),
            _ => *seen = None,
        }
    }

    /// Records a table that was looked up in no query.
    pub(crate) fn add(&self, warehouses: &[(Catalog, Reader)], catalog: &Catalog, row: &TabularRow) {
        let at = warehouses.iter().position(|(known, _)| known.warehouse() == catalog.warehouse());
        self.note(at.map(|at| (at, row.name.clone(), row.metadata_location.clone())));
    }

    /// Checks whether a plan on these tables would be the same now.
    pub(crate) async fn are_current(&self, warehouses: &[(Catalog, Reader)]) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(seen) = seen else { return false };
        for (at, name, metadata_location) in seen {
            let catalog = &warehouses[at].0;
            match catalog.table(&name).await {
                Ok(row) if row.metadata_location == metadata_location => {}
                _ => return false,
            }
        }
        true
    }
}

/// The names of tables and views, each with its kind, by namespace.
type NamesByNamespace = BTreeMap<String, Vec<(String, TableType)>>;

impl NameResolver {
    /// Creates the resolver of a statement. If `listed` is set, it reads the names of all tables and views that the caller sees.
    /// `pins` says which snapshots the statement reads, and gets those that it finds.
    pub(crate) async fn load(
        warehouses: Arc<[(Catalog, Reader)]>,
        session: Arc<SessionState>,
        stats: Arc<QueryStats>,
        log: QueryLog,
        listed: bool,
        caller: StatementCaller,
        pins: SnapshotPins,
    ) -> crate::Result<Self> {
        let lists = match listed {
            true => Some(Arc::new(lists(&warehouses, &caller.by).await?)),
            false => None,
        };
        let seen = LookedUpTables(Arc::new(Mutex::new(lists.is_none().then(Vec::new))));
        let (listing, salt) = (NameListing::default(), Salt::fresh());
        Ok(Self { warehouses, session, stats, log, depth: 0, lists, seen, listing, caller, salt, pins })
    }

    /// Returns the switch that is to be turned on when the statement is planned.
    pub(crate) fn listing(&self) -> NameListing {
        self.listing.clone()
    }

    /// Returns the tables that were looked up so far; the value is shared, so that later ones appear in it.
    pub(crate) fn seen(&self) -> LookedUpTables {
        self.seen.clone()
    }

    /// Returns the resolver for the text of a view.
    pub(crate) fn within_view(&self) -> Self {
        Self { depth: self.depth + 1, ..self.clone() }
    }

    /// Checks whether all names were read.
    pub(crate) fn are_listed(&self) -> bool {
        self.lists.is_some()
    }

    /// Checks that the caller may use a table or view. False if, to the caller, it does not exist.
    ///
    /// In a list, a thing whose columns the caller may not see is left out, and nobody is refused anything.
    fn admits(&self, catalog: &Catalog, row: &TabularRow, needs: Privilege) -> crate::Result<bool> {
        match self.listing.is_on() {
            true => Ok(rights::lists_columns(&self.caller.by, catalog, row)),
            false => rights::at_tabular(catalog, row, |on| rights::admit(&self.caller.by, on, Required::privilege(needs))),
        }
    }

    /// Checks whether there is a warehouse of that name.
    pub(crate) fn has_warehouse(&self, warehouse: &str) -> bool {
        self.warehouses.iter().any(|(catalog, _)| catalog.options().warehouse == warehouse)
    }

    /// Returns a warehouse. `outer` is the outer level of the namespaces that are looked up in it.
    fn warehouse(&self, at: usize, outer: Option<String>) -> Warehouse {
        let name = &self.warehouses[at].0.options().warehouse;
        let lists = self.lists.as_ref().and_then(|lists| lists.get(name)).cloned().unwrap_or_default();
        Warehouse { lists, names: self.clone(), at, outer }
    }

    /// Checks that a statement may not learn from its name that a warehouse exists. The first is known to everybody, as names
    /// without a warehouse are looked up in it.
    fn is_hidden(&self, at: usize) -> bool {
        at > 0 && !self.caller.by.sees(&self.warehouses[at].0.warehouse_path())
    }
}

/// Reads the names of what the caller sees in all warehouses. A warehouse that the caller sees nothing of is left out.
async fn lists(warehouses: &[(Catalog, Reader)], by: &Authority) -> crate::Result<BTreeMap<String, NamesByNamespace>> {
    let mut lists = BTreeMap::new();
    for (catalog, _) in warehouses {
        if is_visible_warehouse(catalog, by).await? {
            lists.insert(catalog.options().warehouse.clone(), list(catalog, by).await?);
        }
    }
    Ok(lists)
}

/// Reads the names of the namespaces, tables and views of a warehouse that the caller sees.
async fn list(catalog: &Catalog, by: &Authority) -> crate::Result<NamesByNamespace> {
    let system = SYSTEM_TABLES.iter().map(|table| (table.name.to_owned(), TableType::Base)).collect();
    let mut lists: NamesByNamespace = BTreeMap::from([(system::NAMESPACE.to_owned(), system)]);
    for namespace in visible_namespaces(catalog, by).await? {
        lists.entry(namespace.to_string()).or_default();
    }
    for row in visible_tables(catalog, by).await?.into_iter().chain(visible_views(catalog, by).await?) {
        let what = if row.kind == TabularKind::View { TableType::View } else { TableType::Base };
        lists.entry(row.name.namespace.to_string()).or_default().push((row.name.name, what));
    }
    // Several tables may have one name in SQL. The first of them is found by it.
    for tables in lists.values_mut() {
        let mut names = HashSet::new();
        tables.retain(|(name, _)| names.insert(name.clone()));
    }
    Ok(lists)
}

impl CatalogProviderList for NameResolver {
    fn register_catalog(&self, _name: String, _catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        let names = self.warehouses.iter().map(|(catalog, _)| &catalog.options().warehouse);
        let is_listed = |name: &&String| self.lists.as_ref().is_some_and(|lists| lists.contains_key(*name));
        names.filter(is_listed).cloned().collect()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let found = self.warehouses.iter().position(|(catalog, _)| catalog.options().warehouse == name);
        match found {
            Some(at) => Some(Arc::new(self.warehouse(at, None))),
            // `a.b.t` may also be the table t of the namespace a.b of the first warehouse.
            None if !self.warehouses.is_empty() => Some(Arc::new(self.warehouse(0, Some(name.to_owned())))),
            None => None,
        }
    }
}

/// A warehouse as DataFusion's catalog.
#[derive(Debug)]
struct Warehouse {
    names: NameResolver,
    at: usize,
    /// The outer level of the namespaces that are looked up.
    outer: Option<String>,
    lists: NamesByNamespace,
}

impl CatalogProvider for Warehouse {
    fn schema_names(&self) -> Vec<String> {
        self.lists.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let mut namespace = self.namespace(name);
        if self.outer.is_none() && self.names.is_hidden(self.at) {
            let outer = self.names.warehouses[self.at].0.options().warehouse.clone();
            namespace.otherwise = Some(Box::new(self.names.warehouse(0, Some(outer)).namespace(name)));
        }
        Some(Arc::new(namespace))
    }
}

impl Warehouse {
    /// Returns a namespace of the warehouse by the name of its schema.
    fn namespace(&self, name: &str) -> Namespace {
        let levels: Vec<String> = self.outer.iter().cloned().chain([name.to_owned()]).collect();
        let name = display_levels(&levels);
        let tables = self.lists.get(&name).cloned().unwrap_or_default();
        Namespace { names: self.names.clone(), at: self.at, levels, name, tables, otherwise: None }
    }
}

/// A namespace as DataFusion's schema.
#[derive(Debug)]
struct Namespace {
    names: NameResolver,
    at: usize,
    /// The levels as the statement writes them.
    levels: Vec<String>,
    /// The levels joined by dots, for people and for lists.
    name: String,
    tables: Vec<(String, TableType)>,
    /// The namespace that is meant if the caller may not see the warehouse, and this one has no table of a name.
    otherwise: Option<Box<Namespace>>,
}

/// Wraps an error for DataFusion, so that its cause can be found again.
fn lift(e: QueryError) -> DataFusionError {
    match e {
        QueryError::Catalog(e) => DataFusionError::External(Box::new(e)),
        e => DataFusionError::External(Box::new(e)),
    }
}

impl Namespace {
    fn catalog(&self) -> &Catalog {
        &self.names.warehouses[self.at].0
    }

    /// Loads the table that a name means to the caller, who needs a privilege on it, and records it as looked up.
    async fn load(&self, name: &str, needs: Privilege) -> crate::Result<Option<LoadedTable>> {
        let catalog = self.catalog();
        for full in candidate_tables(&self.levels, name).unwrap_or_default() {
            let row = match catalog.table(&full).await {
                Ok(row) => row,
                Err(e) if matches!(e.code(), ErrorCode::NoSuchTable | ErrorCode::NoSuchNamespace) => continue,
                Err(e) => return Err(e.into()),
            };
            // Before anything of the table is read: its errors would tell that it exists.
            if self.names.admits(catalog, &row, needs)? {
                let table = catalog.load_row(row).await?;
                self.names.seen.note(Some((self.at, full, table.row.metadata_location.clone())));
                return Ok(Some(table));
            }
        }
        Ok(None)
    }

    /// Loads the view that a name means to the caller.
    async fn view(&self, name: &str) -> crate::Result<Option<LoadedView>> {
        let catalog = self.catalog();
        for full in candidate_tables(&self.levels, name).unwrap_or_default() {
            let row = match catalog.view(&full).await {
                Ok(row) => row,
                Err(e) if matches!(e.code(), ErrorCode::NoSuchView | ErrorCode::NoSuchNamespace) => continue,
                Err(e) => return Err(e.into()),
            };
            if self.names.admits(catalog, &row, self.names.caller.needs)? {
                return Ok(Some(catalog.load_view_row(row).await?));
            }
        }
        Ok(None)
    }

    /// Returns a table or view for a list, with its columns.
    ///
    /// One that cannot be read, or whose columns the caller may not see, has no columns in the list. A statement that names it
    /// fails with the reason.
    async fn listed(&self, name: &str) -> Arc<dyn TableProvider> {
        let found = async {
            let table = match self.name == system::NAMESPACE {
                true => None,
                false => self.load(name, Privilege::ReadMetadata).await?,
            };
            match table {
                Some(table) => {
                    Ok(Some(Arc::new(EmptyTable::new(columns(table.metadata.current_schema()))) as Arc<dyn TableProvider>))
                }
                None => self.find(name).await,
            }
        };
        let found: std::result::Result<crate::Result<_>, _> = catch_panic(found).await;
        let error = match found {
            Ok(Ok(Some(table))) => return table,
            // It is gone by now, or the caller may not see its columns.
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panic) => Some(panic.to_string()),
        };
        if let Some(error) = error {
            tracing::warn!(namespace = self.name, table = name, error, "a table is listed without its columns");
        }
        Arc::new(EmptyTable::new(Arc::new(arrow::datatypes::Schema::empty())))
    }

    /// Finds a system table, a table, a metadata table or a view, in this order.
    async fn find(&self, name: &str) -> crate::Result<Option<Arc<dyn TableProvider>>> {
        let (name, as_of) = parse_name(name);
        let catalog = self.catalog();
        let by = &self.names.caller.by;
        if self.name == system::NAMESPACE {
            if self.names.is_hidden(self.at) && !is_visible_warehouse(catalog, by).await? {
                return Ok(None);
            }
            if let Some(table) = system::open(catalog, &self.names.log, name, by).await? {
                self.names.seen.note(None);
                return Ok(Some(table));
            }
            // In the catalog's own namespace of this name, only the tables that Esker writes can be queried.
            let table = parse_name(name).0.split('$').next().unwrap_or_default();
            if !system::OWN_TABLES.contains(&table) {
                return Ok(None);
            }
        }
        if let Some(table) = self.load(name, self.names.caller.needs).await? {
            return Ok(Some(self.scanned(table, as_of.as_ref()).await?));
        }
        if let Some((name, what)) = name.rsplit_once('$')
            && let Some(table) = self.load(name, inspect::privilege(what)).await?
        {
            if inspect::shows_rows(what) && by.restrictions(table.row.id).is_some() {
                return Err(refused_metadata(&table.row.name, what));
            }
            let (snapshot, _) = self.names.pins.choose(&table, as_of.as_ref())?;
            return Ok(Some(inspect::open(catalog, &table, snapshot.as_ref(), what, by).await?));
        }
        self.names.seen.note(None);
        match self.view(name).await? {
            Some(_) if as_of.is_some() => Err(QueryError::Statement(format!("{name} is a view; it has no versions"))),
            Some(view) => Ok(Some(views::open(&self.names, &catalog.options().warehouse, &view).await?)),
            None => Ok(None),
        }
    }
}

impl Namespace {
    /// Opens a table of the catalog for a scan, with the restrictions that count for the caller.
    async fn scanned(&self, table: LoadedTable, as_of: Option<&AsOf>) -> crate::Result<Arc<dyn TableProvider>> {
        let (catalog, reader) = &self.names.warehouses[self.at];
        let (snapshot, schema) = self.names.pins.choose(&table, as_of)?;
        let restrictions = self.names.caller.by.restrictions(table.row.id);
        let is_of_positions = matches!(as_of, Some(AsOf::Rows(_)));
        if is_of_positions && restrictions.is_some() {
            return Err(refused_change(&table.row.name));
        }
        // The counters of a statement tell how many files and rows are read, also those that the caller may not see.
        let stats = if restrictions.is_some() { Arc::default() } else { self.names.stats.clone() };
        let by = self.names.caller.by.clone();
        let table = IcebergTable::open(catalog, table, snapshot.as_ref(), schema, reader.clone(), stats, by).await?;
        Ok(match restrictions {
            Some(restrictions) => Arc::new(RestrictedTable::new(table, restrictions, self.names.salt.clone())),
            None if is_of_positions => Arc::new(RowTable::new(table)),
            None => Arc::new(table),
        })
    }
}

#[async_trait]
impl SchemaProvider for Namespace {
    fn table_names(&self) -> Vec<String> {
        self.tables.iter().map(|(name, _)| name.clone()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.names.listing.is_on() {
            true => Ok(Some(self.listed(name).await)),
            false => match (self.find(name).await.map_err(lift)?, &self.otherwise) {
                (None, Some(other)) => other.find(name).await.map_err(lift),
                (found, _) => Ok(found),
            },
        }
    }

    /// Returns the kind of a table or view that was listed; opens nothing.
    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(self.tables.iter().find(|(known, _)| known == name).map(|(_, what)| *what))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.iter().any(|(known, _)| known == name)
    }
}
