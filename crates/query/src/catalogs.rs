//! The REST catalog's namespaces and tables as DataFusion sees them: catalog = warehouse, schema = namespace with its levels
//! joined by dots.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result};
use esker_catalog::{Catalog, CatalogError};
use esker_read::Reader;
use esker_types::{Coded, ErrorCode, NamespaceName, TableName};

use crate::log::QueryStats;
use crate::{IcebergTable, QueryError};

#[derive(Debug)]
pub(crate) struct Warehouse {
    schemas: BTreeMap<String, Arc<Namespace>>,
}

#[derive(Debug)]
struct Namespace {
    name: NamespaceName,
    tables: Vec<String>,
    catalog: Catalog,
    reader: Reader,
    stats: Arc<QueryStats>,
}

impl Warehouse {
    /// The names as they are now; tables are loaded when a query names them.
    pub(crate) async fn load(catalog: &Catalog, reader: &Reader, stats: &Arc<QueryStats>) -> crate::Result<Self> {
        let mut tables: BTreeMap<NamespaceName, Vec<String>> = BTreeMap::new();
        for namespace in catalog.all_namespaces().await? {
            tables.entry(namespace).or_default();
        }
        for row in catalog.tables().await? {
            tables.entry(row.name.namespace).or_default().push(row.name.name);
        }
        let schema = |(name, tables): (NamespaceName, Vec<String>)| {
            let (catalog, reader, stats) = (catalog.clone(), reader.clone(), stats.clone());
            (name.to_string(), Arc::new(Namespace { name, tables, catalog, reader, stats }))
        };
        Ok(Self { schemas: tables.into_iter().map(schema).collect() })
    }
}

impl CatalogProvider for Warehouse {
    fn schema_names(&self) -> Vec<String> {
        self.schemas.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.schemas.get(name).map(|s| s.clone() as Arc<dyn SchemaProvider>)
    }
}

#[async_trait]
impl SchemaProvider for Namespace {
    fn table_names(&self) -> Vec<String> {
        self.tables.clone()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let external = |e: CatalogError| DataFusionError::External(Box::new(e));
        let Ok(full) = TableName::new(self.name.clone(), name) else { return Ok(None) };
        let table = match self.catalog.load(&full).await {
            Ok(table) => table,
            Err(e) if e.code() == ErrorCode::NoSuchTable => return Ok(None),
            Err(e) => return Err(external(e)),
        };
        match IcebergTable::open(&self.catalog, table, self.reader.clone(), self.stats.clone()).await {
            Ok(table) => Ok(Some(Arc::new(table))),
            Err(QueryError::Catalog(e)) => Err(external(e)),
            Err(e) => Err(DataFusionError::External(Box::new(e))),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.iter().any(|t| t == name)
    }
}
