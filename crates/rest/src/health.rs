//! A table's facts and assessment, worked out once for each metadata file.

use std::sync::Arc;

use esker_catalog::{Catalog, CatalogError, LoadedTable};
use esker_health::{Assessment, assess};
use esker_state::TableRow;
use esker_table::TableFacts;
use esker_types::now_ms;
use moka::future::Cache;

use crate::App;

/// Facts, by metadata file.
#[derive(Debug)]
pub(crate) struct HealthCache(Cache<String, Arc<TableFacts>>);

impl HealthCache {
    pub(crate) fn new() -> Self {
        Self(Cache::new(10_000))
    }
}

/// A table with its verdict, or why there is none.
#[derive(Debug, Clone)]
pub(crate) struct Examined {
    pub(crate) warehouse: String,
    pub(crate) row: TableRow,
    pub(crate) result: Result<(Arc<TableFacts>, Assessment), String>,
}

impl App {
    /// The facts of a table as it is now.
    pub(crate) async fn facts(&self, catalog: &Catalog, row: &TableRow) -> Result<Arc<TableFacts>, CatalogError> {
        if let Some(facts) = self.inner.health.0.get(&row.metadata_location).await {
            return Ok(facts);
        }
        let table: LoadedTable = catalog.load_row(row.clone()).await?;
        let facts = Arc::new(catalog.facts(&table).await?);
        self.inner.health.0.insert(row.metadata_location.clone(), facts.clone()).await;
        Ok(facts)
    }

    /// One table, examined.
    pub(crate) async fn examine(&self, catalog: &Catalog, row: TableRow) -> Examined {
        let result = self.facts(catalog, &row).await.map_err(|e| e.to_string());
        let result = result.map(|facts| {
            let assessment = assess(&facts, now_ms());
            (facts, assessment)
        });
        Examined { warehouse: catalog.options().warehouse.clone(), row, result }
    }

    /// Every table of every warehouse, the worst first; those that can't be examined are the worst of all.
    pub(crate) async fn examine_all(&self) -> Result<Vec<Examined>, CatalogError> {
        let mut all = Vec::new();
        for warehouse in self.warehouses() {
            for row in warehouse.catalog().tables().await? {
                all.push(self.examine(warehouse.catalog(), row).await);
            }
        }
        all.sort_by_key(|e| e.result.as_ref().map_or(-1, |(_, a)| i64::from(a.score)));
        Ok(all)
    }
}
