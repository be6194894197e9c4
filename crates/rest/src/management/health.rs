use axum::Json;
use axum::extract::State;
use esker_health::Assessment;
use esker_state::HealthPoint;
use esker_table::TableFacts;
use esker_types::{Coded, ErrorCode};
use serde::{Deserialize, Serialize};

use crate::extract::{In, InTable, Query};
use crate::health::Examined;
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
    pub(crate) fn new(examined: &Examined) -> Self {
        let ok = examined.result.as_ref().ok();
        Self {
            warehouse: examined.warehouse.clone(),
            table: examined.row.name.to_string(),
            score: ok.map(|(_, a)| a.score),
            findings: ok.map(|(_, a)| a.findings.iter().map(|f| f.code).collect()).unwrap_or_default(),
            data_files: ok.map(|(f, _)| f.data_files),
            data_bytes: ok.map(|(f, _)| f.data_bytes),
            last_commit_ms: ok.map(|(f, _)| f.last_commit_ms),
            error: examined.result.as_ref().err().cloned(),
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
    /// What it rests on.
    pub facts: TableFacts,
}

/// `GET /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/health`
pub(crate) async fn table(State(app): State<App>, warehouse: In, InTable(name): InTable) -> Result<Json<TableHealth>, ApiError> {
    let loaded = warehouse.catalog().load(&name).await?;
    let row = loaded.row.clone();
    let (facts, assessment) = match app.examine(warehouse.catalog(), row.clone()).await?.result {
        Ok(known) => known,
        // What is kept of a failure is its text. What it means is asked for again; where it is over by now, the next look will tell.
        Err(why) => {
            let code = warehouse.catalog().facts(&loaded).await.map_or_else(|e| e.code(), |_| ErrorCode::Unavailable);
            return Err(ApiError::new(code, format!("{name} can't be examined: {why}")));
        }
    };
    Ok(Json(TableHealth { table: name.to_string(), owned: row.owned, assessment, facts: facts.as_ref().clone() }))
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
