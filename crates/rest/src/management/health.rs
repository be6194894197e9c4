//! The health of tables: the list of all, one table in full, and its history.

use axum::Json;
use axum::extract::State;
use esker_health::Assessment;
use esker_state::HealthPoint;
use esker_table::TableFacts;
use serde::{Deserialize, Serialize};

use crate::access::RequestAccess;
use crate::extract::{InTable, InWarehouse, QueryParams};
use crate::health::TableAssessment;
use crate::openapi::ReadErrors;
use crate::{ApiError, App};

/// A table in the list of all tables, as JSON.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct FleetTable {
    /// The name of the warehouse.
    pub warehouse: String,
    /// The name of the table, its parts joined with dots.
    pub table: String,
    /// The health score from 0 to 100; `None` if the table can't be assessed.
    pub score: Option<u32>,
    /// The codes of the table's findings, the worst first.
    pub findings: Vec<&'static str>,
    /// The number of live data files.
    pub data_files: Option<u64>,
    /// The size of the live data files, in bytes.
    pub data_bytes: Option<u64>,
    /// The time of the last change, in milliseconds since the Unix epoch.
    pub last_commit_ms: Option<i64>,
    /// The reason why the table can't be assessed.
    pub error: Option<String>,
}

impl FleetTable {
    /// Makes the entry of a table.
    pub(crate) fn new(assessed: &TableAssessment) -> Self {
        let facts = assessed.facts.as_ref().ok();
        Self {
            warehouse: assessed.warehouse.clone(),
            table: assessed.row.name.to_string(),
            score: assessed.score(),
            findings: assessed.assessment.findings.iter().map(|f| f.code).collect(),
            data_files: facts.map(|f| f.data_files),
            data_bytes: facts.map(|f| f.data_bytes),
            last_commit_ms: facts.map(|f| f.last_commit_ms),
            error: assessed.facts.as_ref().err().map(ToString::to_string),
        }
    }
}

/// The parameters of the list of tables.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FleetQuery {
    /// The warehouse whose tables are returned; without it, those of all.
    warehouse: Option<String>,
}

/// Lists the tables of one warehouse or of all, the worst first.
#[utoipa::path(
    get,
    path = "/api/v1/tables",
    operation_id = "listTables",
    tag = "health",
    params(FleetQuery),
    responses(
        (status = 200, description = "The tables. Those that cannot be assessed come first.", body = Vec<FleetTable>),
        ReadErrors
    )
)]
pub(crate) async fn fleet(
    State(app): State<App>,
    caller: RequestAccess,
    QueryParams(query): QueryParams<FleetQuery>,
) -> Result<Json<Vec<FleetTable>>, ApiError> {
    let authority = caller.authority();
    if let Some(name) = &query.warehouse {
        app.visible_warehouse(name, &authority)?;
    }
    let all = app.assess_all(&authority, |_| true).await?;
    let wanted = all.iter().filter(|e| query.warehouse.as_ref().is_none_or(|name| *name == e.warehouse));
    Ok(Json(wanted.map(FleetTable::new).collect()))
}

/// The health of one table, as JSON.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct TableHealth {
    /// The name of the table, its parts joined with dots.
    pub table: String,
    /// Tells whether Esker owns the table; if not, it is foreign.
    pub owned: bool,
    /// The score and the findings.
    #[serde(flatten)]
    pub assessment: Assessment,
    /// The facts that the assessment is based on; `None` if the table can't be assessed.
    pub facts: Option<TableFacts>,
    /// The reason why the table can't be assessed.
    pub error: Option<String>,
}

/// Returns the health of one table.
#[utoipa::path(
    get,
    path = "/api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/health",
    operation_id = "getTableHealth",
    tag = "health",
    params(InWarehouse, InTable),
    responses((status = 200, description = "The score, the findings and the facts of the table.", body = TableHealth), ReadErrors)
)]
pub(crate) async fn table(
    State(app): State<App>,
    warehouse: InWarehouse,
    caller: RequestAccess,
    InTable(name): InTable,
) -> Result<Json<TableHealth>, ApiError> {
    let catalog = warehouse.catalog();
    let row = caller.whole_table(catalog, &name).await?;
    let TableAssessment { row, facts, assessment, .. } = app.assess_table(catalog, row).await?;
    let (facts, error) = match facts {
        Ok(facts) => (Some(facts.as_ref().clone()), None),
        Err(why) => (None, Some(why.to_string())),
    };
    Ok(Json(TableHealth { table: name.to_string(), owned: row.owned, assessment, facts, error }))
}

/// The parameters of a table's history.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryQuery {
    /// The time of the oldest point, in milliseconds since the Unix epoch.
    #[serde(default)]
    since_ms: i64,
}

/// Returns the score and the file counts of a table over time.
#[utoipa::path(
    get,
    path = "/api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/history",
    operation_id = "getTableHistory",
    tag = "health",
    params(InWarehouse, InTable, HistoryQuery),
    responses((status = 200, description = "The points of the history, the oldest first.", body = Vec<HealthPoint>), ReadErrors)
)]
pub(crate) async fn history(
    warehouse: InWarehouse,
    caller: RequestAccess,
    InTable(name): InTable,
    QueryParams(since): QueryParams<HistoryQuery>,
) -> Result<Json<Vec<HealthPoint>>, ApiError> {
    let catalog = warehouse.catalog();
    let row = caller.whole_table(catalog, &name).await?;
    Ok(Json(catalog.overview().health_history(row.id, since.since_ms).await?))
}
