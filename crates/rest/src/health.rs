//! Tables with their verdicts.

use std::sync::Arc;

use esker_catalog::{Catalog, CatalogError};
use esker_health::{Assessment, assess};
use esker_state::TableRow;
use esker_table::TableFacts;
use esker_types::now_ms;

use crate::App;

/// A table with its verdict, or why there is none.
#[derive(Debug, Clone)]
pub(crate) struct Examined {
    pub(crate) warehouse: String,
    pub(crate) row: TableRow,
    pub(crate) result: Result<(Arc<TableFacts>, Assessment), String>,
}

impl Examined {
    fn new(catalog: &Catalog, examined: esker_catalog::Examined) -> Self {
        let result = examined.facts.map(|facts| {
            let assessment = assess(&facts, now_ms());
            (facts, assessment)
        });
        Self { warehouse: catalog.options().warehouse.clone(), row: examined.row, result }
    }
}

impl App {
    /// One table, as it is now.
    pub(crate) async fn examine(&self, catalog: &Catalog, row: TableRow) -> Result<Examined, CatalogError> {
        Ok(Examined::new(catalog, catalog.examined(row).await?))
    }

    /// Every table of every warehouse, the worst first; those that can't be examined are the worst of all.
    pub(crate) async fn examine_all(&self) -> Result<Vec<Examined>, CatalogError> {
        let mut all = Vec::new();
        for catalog in self.warehouses().map(|warehouse| warehouse.catalog()) {
            all.extend(catalog.fleet().await?.into_iter().map(|examined| Examined::new(catalog, examined)));
        }
        all.sort_by_key(|e| e.result.as_ref().map_or(-1, |(_, a)| i64::from(a.score)));
        Ok(all)
    }
}
