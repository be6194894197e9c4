//! Tables with their facts and assessments, for the management API, the web page and the metrics.

use std::sync::Arc;

use esker_access::{Privilege, Required};
use esker_catalog::{Authority, Catalog, CatalogError, NotAssessed};
use esker_health::Assessment;
use esker_state::{AssessmentFailure, TabularRow};
use esker_table::TableFacts;
use esker_types::now_ms;

use crate::App;
use crate::access::RESTRICTED;

/// The number of tables up to which each look at the fleet assesses all of them.
///
/// Of a larger fleet, the start page and the metrics by table have the worst by their last assessments.
pub(crate) const LARGE_FLEET: u32 = 10_000;

/// A table with its facts and its assessment.
#[derive(Debug, Clone)]
pub(crate) struct TableAssessment {
    /// The name of the warehouse.
    pub(crate) warehouse: String,
    /// The row of the table in the state database.
    pub(crate) row: TabularRow,
    /// The facts that the assessment is based on, or the reason why there are none.
    pub(crate) facts: Result<Arc<TableFacts>, NotAssessed>,
    /// The number of files of the current snapshot that a job or query could not read.
    pub(crate) damaged: usize,
    /// The score and the findings.
    pub(crate) assessment: Assessment,
}

impl TableAssessment {
    /// Assesses a table as of now.
    fn new(catalog: &Catalog, assessed: esker_catalog::AssessedTable) -> Self {
        let assessment = assessed.assess(now_ms());
        let damaged = assessed.damage.iter().filter(|file| file.snapshot_id.is_none()).count();
        Self { warehouse: catalog.options().warehouse.clone(), row: assessed.row, facts: assessed.facts, damaged, assessment }
    }

    /// Hides facts and findings from a reader that row filters or column masks restrict on the table.
    fn shown_to(self, reader: &Authority) -> Self {
        if reader.restrictions(self.row.id).is_none() {
            return self;
        }
        let facts = Err(NotAssessed::Unreadable(AssessmentFailure { why: RESTRICTED.to_owned(), passing: false }));
        Self { facts, damaged: 0, assessment: Assessment { score: 0, findings: Vec::new() }, ..self }
    }

    /// Returns the health score from 0 to 100, or `None` if the table can't be assessed.
    pub(crate) fn score(&self) -> Option<u32> {
        self.facts.is_ok().then_some(self.assessment.score)
    }
}

/// Checks that the metadata of a table may be read, for an answer that leaves out the others.
pub(crate) fn may_read(reader: &Authority, catalog: &Catalog, row: &TabularRow) -> bool {
    if !reader.is_limited() {
        return true;
    }
    let key = row.name.namespace.key();
    reader.has(&catalog.tabular_path(&key, row), Required::privilege(Privilege::ReadMetadata))
}

impl App {
    /// Assesses one table as it is now.
    pub(crate) async fn assess_table(&self, catalog: &Catalog, row: TabularRow) -> Result<TableAssessment, CatalogError> {
        Ok(TableAssessment::new(catalog, catalog.assessed_table(row).await?))
    }

    /// Assesses the wanted tables of every warehouse that the reader may read the metadata of.
    ///
    /// Tables that can't be assessed come first, then those with the lowest score.
    pub(crate) async fn assess_all(
        &self,
        reader: &Authority,
        is_wanted: impl Fn(&TabularRow) -> bool + Send + Sync,
    ) -> Result<Vec<TableAssessment>, CatalogError> {
        let mut all = Vec::new();
        self.visit_fleet(reader, &is_wanted, |assessed| all.push(assessed)).await?;
        // By name among those with the same score.
        all.sort_by_cached_key(|e| {
            let name = &e.row.name;
            (e.score().map_or(-1, i64::from), e.warehouse.clone(), name.namespace.key(), name.name.clone())
        });
        Ok(all)
    }

    /// Assesses the wanted tables of every warehouse that the reader may read the metadata of, page by page.
    ///
    /// So the memory that it takes does not grow with the fleet. The tables come in no order.
    pub(crate) async fn visit_fleet(
        &self,
        reader: &Authority,
        is_wanted: &(impl Fn(&TabularRow) -> bool + Send + Sync),
        mut visit: impl FnMut(TableAssessment) + Send,
    ) -> Result<(), CatalogError> {
        for catalog in self.warehouses().map(|warehouse| warehouse.catalog()) {
            let mut after = None;
            loop {
                let wanted = |row: &TabularRow| is_wanted(row) && may_read(reader, catalog, row);
                let (page, next) = catalog.fleet_page(after, LARGE_FLEET, wanted).await?;
                page.into_iter().for_each(|assessed| visit(TableAssessment::new(catalog, assessed).shown_to(reader)));
                match next {
                    Some(_) => after = next,
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Counts the tables of all warehouses. Of each, `up_to` are counted at most.
    pub(crate) async fn count_tables(&self, up_to: u32) -> Result<u64, CatalogError> {
        let mut tables = 0;
        for warehouse in self.warehouses() {
            tables += warehouse.catalog().count_tables(up_to).await?;
        }
        Ok(tables)
    }

    /// Checks that there are more tables than are assessed for each look at the fleet.
    pub(crate) async fn has_large_fleet(&self) -> Result<bool, CatalogError> {
        Ok(self.count_tables(LARGE_FLEET + 1).await? > u64::from(LARGE_FLEET))
    }

    /// Returns the worst tables of all warehouses by their last assessments, at most `limit`, the worst first, for readers of all.
    pub(crate) async fn worst_tables(&self, limit: u32) -> Result<Vec<TableAssessment>, CatalogError> {
        let mut all = Vec::new();
        for catalog in self.warehouses().map(|warehouse| warehouse.catalog()) {
            all.extend(catalog.worst_tables(limit).await?.into_iter().map(|assessed| TableAssessment::new(catalog, assessed)));
        }
        all.sort_by_key(|e| e.score().map_or(-1, i64::from));
        all.truncate(limit as usize);
        Ok(all)
    }
}
