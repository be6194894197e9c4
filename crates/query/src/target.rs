//! The table that a statement changes, and the files that it has written and not committed.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::TableReference;
use esker_catalog::{Catalog, CatalogError, LoadedTable, deletion};
use esker_read::Reader;
use esker_state::StateError;
use esker_types::{CodedError, TableId, TableName};
use esker_write::{Destination, Recorder};

use crate::table_names::candidate_tables;
use crate::{QueryError, Result};

/// A table that a statement writes to, with its catalog and its reader.
#[derive(Debug, Clone)]
pub(crate) struct WriteTarget {
    pub(crate) catalog: Catalog,
    pub(crate) reader: Reader,
    pub(crate) name: TableName,
}

impl WriteTarget {
    /// Finds the warehouse and the table that a reference means.
    pub(crate) async fn find(warehouses: &[(Catalog, Reader)], reference: &TableReference) -> Result<Self> {
        let (mut this, names) = Self::meant(warehouses, reference)?;
        for name in names.into_iter().rev() {
            if is_there(this.catalog.table(&name).await)? {
                this.name = name;
            }
        }
        Ok(this)
    }

    /// Finds the warehouse and the name of a table to create: the likeliest name whose namespace exists.
    pub(crate) async fn of_new(warehouses: &[(Catalog, Reader)], reference: &TableReference) -> Result<Self> {
        let (mut this, names) = Self::meant(warehouses, reference)?;
        for name in names.into_iter().rev() {
            if is_there(this.catalog.namespace(&name.namespace).await)? {
                this.name = name;
            }
        }
        Ok(this)
    }

    /// Returns the last name that a reference may mean, and the other names, the likeliest first.
    fn meant(warehouses: &[(Catalog, Reader)], reference: &TableReference) -> Result<(Self, Vec<TableName>)> {
        let of = |name: &str| warehouses.iter().find(|(catalog, _)| catalog.options().warehouse == name);
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

    /// Loads the table as it is now.
    pub(crate) async fn load(&self) -> Result<LoadedTable> {
        Ok(self.catalog.load(&self.name).await?)
    }
}

/// Checks whether a look-up found something.
fn is_there<T>(found: esker_catalog::Result<T>) -> Result<bool> {
    match found {
        Ok(_) => Ok(true),
        Err(CatalogError::State(StateError::NoSuchTable(_) | StateError::NoSuchNamespace(_))) => Ok(false),
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
