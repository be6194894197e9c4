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

    /// Assesses every table of every warehouse that the reader may read the metadata of. Tables that can't be assessed come first, then those with the lowest score.
    pub(crate) async fn assess_all(&self, reader: &Authority) -> Result<Vec<TableAssessment>, CatalogError> {
        let mut all = Vec::new();
        for catalog in self.warehouses().map(|warehouse| warehouse.catalog()) {
            let readable = catalog.fleet().await?.into_iter().filter(|assessed| may_read(reader, catalog, &assessed.row));
            all.extend(readable.map(|assessed| TableAssessment::new(catalog, assessed).shown_to(reader)));
        }
        all.sort_by_key(|e| e.score().map_or(-1, i64::from));
        Ok(all)
    }
}
