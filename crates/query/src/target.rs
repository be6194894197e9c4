//! The table that a statement changes, and the files that it has written and not committed.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::TableReference;
use esker_access::{Privilege, Required};
use esker_catalog::{Authority, Catalog, CatalogError, LoadedTable, deletion};
use esker_read::Reader;
use esker_state::StateError;
use esker_types::{CodedError, TableId, TableName};
use esker_write::{Destination, Recorder};

use crate::rights;
use crate::table_names::candidate_tables;
use crate::{QueryError, Result};

/// What `CREATE TABLE AS` needs on the namespace.
const TO_CREATE: Required = Required::privilege(Privilege::CreateTable);

/// What a name is looked up for.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    /// A table, on which the statement needs something.
    Table(Required),
    /// The namespace of a table to create.
    NewTable,
}

/// A table that a statement writes to, with its catalog and its reader.
#[derive(Debug, Clone)]
pub(crate) struct WriteTarget {
    pub(crate) catalog: Catalog,
    pub(crate) reader: Reader,
    pub(crate) name: TableName,
}

impl WriteTarget {
    /// Finds the warehouse and the table that a reference means to a caller, who needs something on the table.
    ///
    /// What is hidden from the caller is passed over as if it were not there.
    pub(crate) async fn find(
        warehouses: &[(Catalog, Reader)],
        reference: &TableReference,
        by: &Authority,
        required: Required,
    ) -> Result<Self> {
        Self::likeliest(warehouses, reference, by, Wanted::Table(required)).await
    }

    /// Finds the warehouse and the name of a table to create: the likeliest name whose namespace exists to the caller.
    pub(crate) async fn of_new(warehouses: &[(Catalog, Reader)], reference: &TableReference, by: &Authority) -> Result<Self> {
        Self::likeliest(warehouses, reference, by, Wanted::NewTable).await
    }

    /// Returns the likeliest name that is there, or else the unlikeliest name.
    ///
    /// The name of a warehouse that the caller may not see is the outer level of a namespace, unless what is wanted is there.
    async fn likeliest(
        warehouses: &[(Catalog, Reader)],
        reference: &TableReference,
        by: &Authority,
        wanted: Wanted,
    ) -> Result<Self> {
        let (mut this, others) = Self::meant(warehouses, reference, |_| true)?;
        for name in others {
            if this.is_there(&name, by, wanted).await? {
                this.name = name;
                return Ok(this);
            }
        }
        let is_seen = |catalog: &Catalog| by.sees(&catalog.warehouse_path());
        if is_seen(&this.catalog) || this.is_there(&this.name, by, wanted).await? {
            return Ok(this);
        }
        let (mut this, others) = Self::meant(warehouses, reference, is_seen)?;
        for name in others {
            if this.is_there(&name, by, wanted).await? {
                this.name = name;
                return Ok(this);
            }
        }
        Ok(this)
    }

    /// Checks that a name of the warehouse is there to the caller.
    async fn is_there(&self, name: &TableName, by: &Authority, wanted: Wanted) -> Result<bool> {
        let catalog = &self.catalog;
        Ok(match wanted {
            Wanted::Table(required) => there(catalog.table(name).await)?
                .is_some_and(|row| rights::at_tabular(catalog, &row, |on| rights::is_known(by, on, required))),
            Wanted::NewTable => there(catalog.namespace(&name.namespace).await)?
                .is_some_and(|row| rights::is_known(by, &catalog.namespace_path(&row.name.key()), TO_CREATE)),
        })
    }

    /// Returns the last name that a reference may mean, and the other names, the likeliest first.
    ///
    /// `is_named` tells if the name of a warehouse means the warehouse.
    fn meant(
        warehouses: &[(Catalog, Reader)],
        reference: &TableReference,
        is_named: impl Fn(&Catalog) -> bool,
    ) -> Result<(Self, Vec<TableName>)> {
        let of =
            |name: &str| warehouses.iter().find(|(catalog, _)| catalog.options().warehouse == name).filter(|(c, _)| is_named(c));
        let (warehouse, levels) = match (reference.catalog().map(|c| (c, of(c))), reference.schema()) {
            (Some((_, Some(found))), Some(schema)) => (Some(found), vec![schema]),
            (Some((outer, None)), Some(schema)) => (warehouses.first(), vec![outer, schema]),
            (_, Some(schema)) => (warehouses.first(), vec![schema]),
            (_, None) => (warehouses.first(), vec!["default"]),
        };
        let levels: Vec<String> = levels.into_iter().map(str::to_owned).collect();
        let mut others = candidate_tables(&levels, reference.table()).map_err(|e| QueryError::Statement(e.to_string()))?;
        let name = others.pop().ok_or_else(|| QueryError::Statement("a table needs a name".to_owned()))?;
        let (catalog, reader) = warehouse.cloned().ok_or_else(|| QueryError::Statement("there is no warehouse".to_owned()))?;
        Ok((Self { catalog, reader, name }, others))
    }

    /// Loads the table as it is now, for a caller who needs something on it.
    ///
    /// # Errors
    ///
    /// Returns [`QueryError::Catalog`] if the table does not exist, is hidden from the caller or cannot be loaded, and
    /// [`QueryError::Rights`] if the caller sees it and lacks a privilege.
    pub(crate) async fn load(&self, by: &Authority, required: Required) -> Result<LoadedTable> {
        let row = self.catalog.table(&self.name).await?;
        match rights::at_tabular(&self.catalog, &row, |on| rights::admit(by, on, required))? {
            true => Ok(self.catalog.load_row(row).await?),
            false => Err(CatalogError::State(StateError::NoSuchTable(self.name.to_string())).into()),
        }
    }

    /// Checks that the caller may create the table. A namespace that is not there is left to the creation, which fails.
    ///
    /// # Errors
    ///
    /// Returns [`QueryError::Rights`] if the caller sees the namespace and may create no tables in it.
    /// Returns [`QueryError::Catalog`] if the database fails.
    pub(crate) async fn check_creation(&self, by: &Authority) -> Result<()> {
        if let Some(row) = there(self.catalog.namespace(&self.name.namespace).await)? {
            rights::admit(by, &self.catalog.namespace_path(&row.name.key()), TO_CREATE)?;
        }
        Ok(())
    }
}

/// Returns what a look-up found; `None` if there is no table or namespace of the name.
fn there<T>(found: esker_catalog::Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(CatalogError::State(StateError::NoSuchTable(_) | StateError::NoSuchNamespace(_))) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The files that a statement has recorded and not committed.
///
/// They are reclaimed when the last clone is dropped: the statement failed, or its client went away.
#[derive(Debug, Clone)]
pub(crate) struct Uncommitted {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    catalog: Catalog,
    table: TableId,
    paths: Mutex<Vec<String>>,
}

impl Uncommitted {
    pub(crate) fn new(catalog: &Catalog, table: TableId) -> Self {
        Self { inner: Arc::new(Inner { catalog: catalog.clone(), table, paths: Mutex::default() }) }
    }

    /// Returns the destination of the statement's files, which records each file before it is written.
    pub(crate) fn destination(&self) -> Destination {
        let inner = self.inner.clone();
        let record: Recorder = Arc::new(move |paths: Vec<String>| {
            let inner = inner.clone();
            Box::pin(async move { Ok(inner.record(paths).await?) })
        });
        Destination { storage: self.inner.catalog.storage().clone(), recorder: record, counters: Arc::default() }
    }

    /// Records files in the state database.
    pub(crate) async fn record(&self, paths: Vec<String>) -> std::result::Result<(), CodedError> {
        self.inner.record(paths).await
    }

    /// Keeps the files, because they are part of the table now, or a commit of unknown outcome may have made them so.
    pub(crate) fn keep(&self) {
        self.inner.paths.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Inner {
    async fn record(&self, paths: Vec<String>) -> std::result::Result<(), CodedError> {
        self.catalog.record_outputs(self.table, None, &paths).await.map_err(CodedError::new)?;
        self.paths.lock().unwrap_or_else(PoisonError::into_inner).extend(paths);
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let paths = std::mem::take(self.paths.get_mut().unwrap_or_else(PoisonError::into_inner));
        if paths.is_empty() {
            return;
        }
        let (catalog, table) = (self.catalog.clone(), self.table);
        // Without a runtime the process is ending; the next start reclaims the files that are recorded.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) =
                    deletion::settle_outputs(&catalog, table, &paths, "written by a statement and not committed").await
                {
                    tracing::warn!(%error, "files of a failed statement are reclaimed at the next start");
                }
            });
        }
    }
}
