use axum::Json;
use axum::extract::State;
use esker_health::Assessment;
use esker_state::HealthPoint;
use esker_table::TableFacts;
use serde::{Deserialize, Serialize};

use crate::extract::{In, InTable, Query};
use crate::health::TableVerdict;
use crate::{ApiError, App};

/// One table of the fleet.
#[derive(Debug, Clone, Serialize)]
pub struct FleetTable {
    /// Its warehouse.
    pub warehouse: String,
    /// Its name.
    pub table: String,
    /// 0 to 100; none if it can't be examined.
    pub score: Option<u32>,
    /// The codes of its findings, the worst first.
    pub findings: Vec<&'static str>,
    /// Data files.
    pub data_files: Option<u64>,
    /// Their bytes.
    pub data_bytes: Option<u64>,
    /// When it last changed, in milliseconds since the epoch.
    pub last_commit_ms: Option<i64>,
    /// Why it can't be examined.
    pub error: Option<String>,
}

impl FleetTable {
    pub(crate) fn new(examined: &TableVerdict) -> Self {
        let facts = examined.facts.as_ref().ok();
        Self {
            warehouse: examined.warehouse.clone(),
            table: examined.row.name.to_string(),
            score: examined.score(),
            findings: examined.assessment.findings.iter().map(|f| f.code).collect(),
            data_files: facts.map(|f| f.data_files),
            data_bytes: facts.map(|f| f.data_bytes),
            last_commit_ms: facts.map(|f| f.last_commit_ms),
            error: examined.facts.as_ref().err().map(ToString::to_string),
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct FleetQuery {
    warehouse: Option<String>,
}

/// `GET /api/v1/tables`: every table of one warehouse or of all, the worst first.
pub(crate) async fn fleet(State(app): State<App>, Query(query): Query<FleetQuery>) -> Result<Json<Vec<FleetTable>>, ApiError> {
    if let Some(name) = &query.warehouse {
        app.warehouse(name)?;
    }
    let all = app.examine_all().await?;
    let wanted = all.iter().filter(|e| query.warehouse.as_ref().is_none_or(|name| *name == e.warehouse));
    Ok(Json(wanted.map(FleetTable::new).collect()))
}

/// One table's health.
#[derive(Debug, Clone, Serialize)]
pub struct TableHealth {
    /// Its name.
    pub table: String,
    /// Whether Esker owns its files.
    pub owned: bool,
    /// The verdict.
    #[serde(flatten)]
    pub assessment: Assessment,
    /// What it rests on; none if the table can't be examined.
    pub facts: Option<TableFacts>,
    /// Why it can't be.
    pub error: Option<String>,
}

/// `GET /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/health`
pub(crate) async fn table(State(app): State<App>, warehouse: In, InTable(name): InTable) -> Result<Json<TableHealth>, ApiError> {
    let catalog = warehouse.catalog();
    let row = catalog.state().table(catalog.warehouse(), &name).await?;
    let TableVerdict { row, facts, assessment, .. } = app.examine(catalog, row).await?;
    let (facts, error) = match facts {
        Ok(facts) => (Some(facts.as_ref().clone()), None),
        Err(why) => (None, Some(why.to_string())),
    };
    Ok(Json(TableHealth { table: name.to_string(), owned: row.owned, assessment, facts, error }))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Since {
    #[serde(default)]
    since_ms: i64,
}

/// `GET /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/history?since_ms=`: score and shape over time, the oldest first.
pub(crate) async fn history(
    warehouse: In,
    InTable(name): InTable,
    Query(since): Query<Since>,
) -> Result<Json<Vec<HealthPoint>>, ApiError> {
    let catalog = warehouse.catalog();
    let row = catalog.state().table(catalog.warehouse(), &name).await?;
    Ok(Json(catalog.state().health_history(row.id, since.since_ms).await?))
}
