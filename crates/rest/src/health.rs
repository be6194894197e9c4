//! Tables with their verdicts.

use std::sync::Arc;

use esker_catalog::{Catalog, CatalogError, NotAssessed};
use esker_health::Assessment;
use esker_state::TabularRow;
use esker_table::TableFacts;
use esker_types::now_ms;

use crate::App;

/// A table with its verdict.
#[derive(Debug, Clone)]
pub(crate) struct TableVerdict {
    pub(crate) warehouse: String,
    pub(crate) row: TabularRow,
    /// What the verdict rests on, or why there is nothing.
    pub(crate) facts: Result<Arc<TableFacts>, NotAssessed>,
    /// Files of the current snapshot that somebody could not read.
    pub(crate) damaged: usize,
    pub(crate) assessment: Assessment,
}

impl TableVerdict {
    fn new(catalog: &Catalog, examined: esker_catalog::AssessedTable) -> Self {
        let assessment = examined.assess(now_ms());
        let damaged = examined.damage.iter().filter(|file| file.snapshot_id.is_none()).count();
        Self { warehouse: catalog.options().warehouse.clone(), row: examined.row, facts: examined.facts, damaged, assessment }
    }

    /// From 0 to 100; none for a table that can't be examined.
    pub(crate) fn score(&self) -> Option<u32> {
        self.facts.is_ok().then_some(self.assessment.score)
    }
}

impl App {
    /// One table, as it is now.
    pub(crate) async fn examine(&self, catalog: &Catalog, row: TabularRow) -> Result<TableVerdict, CatalogError> {
        Ok(TableVerdict::new(catalog, catalog.assessed_table(row).await?))
    }

    /// Every table of every warehouse, the worst first; those that can't be examined are the worst of all.
    pub(crate) async fn examine_all(&self) -> Result<Vec<TableVerdict>, CatalogError> {
        let mut all = Vec::new();
        for catalog in self.warehouses().map(|warehouse| warehouse.catalog()) {
            all.extend(catalog.fleet().await?.into_iter().map(|examined| TableVerdict::new(catalog, examined)));
        }
        all.sort_by_key(|e| e.score().map_or(-1, i64::from));
        Ok(all)
    }
}
