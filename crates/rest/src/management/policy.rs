//! The policy of a table with the autopilot's last decision, and the jobs that Esker recommends.

use std::collections::{BTreeMap, HashSet};

use axum::Json;
use axum::extract::State;
use esker_autopilot::{Recommendation, Setting, recommendations};
use esker_state::{TableUsage, TabularRow};
use esker_types::{JobKind, Millis, TableName, now_ms};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::access::RequestAccess;
use crate::extract::{InTable, InWarehouse, QueryParams};
use crate::health::may_read;
use crate::openapi::ReadErrors;
use crate::{ApiError, App};

/// The policy of a table, the autopilot's decision about it, and its use by engines, as JSON.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct PolicyView {
    /// The name of the table, its parts joined with dots.
    pub table: String,
    /// The value and the origin of every policy key.
    pub settings: Vec<Setting>,
    /// The mistakes in the policy. While there is one, neither the autopilot nor a schedule starts a job on the table.
    pub problems: Vec<String>,
    /// The next time of each schedule, in milliseconds since the Unix epoch.
    pub next_ms: BTreeMap<JobKind, Millis>,
    /// The autopilot's last decision about the table.
    pub decision: Option<Value>,
    /// The time of the last decision, in milliseconds since the Unix epoch.
    pub decided_ms: Option<Millis>,
    /// The scans and commits that engines reported in the last seven days.
    #[serde(rename = "use")]
    pub used: TableUsage,
}

/// The parameters of a request for recommendations. Each that is given must match.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct RecommendationsQuery {
    /// The namespace of the tables, its levels joined with dots.
    namespace: Option<String>,
    /// The kind of the jobs.
    kind: Option<JobKind>,
    /// The maximum number of jobs in the answer; without it, all.
    limit: Option<usize>,
}

/// Lists the jobs that would pay now in a warehouse, those with the most gain for their cost first.
#[utoipa::path(
    get,
    path = "/api/v1/warehouses/{warehouse}/recommendations",
    operation_id = "listRecommendations",
    tag = "policy",
    params(InWarehouse, RecommendationsQuery),
    responses(
        (status = 200, description = "The jobs, those with the most gain for their cost first.", body = Vec<Recommendation>),
        ReadErrors
    )
)]
pub(crate) async fn recommended(
    State(app): State<App>,
    warehouse: InWarehouse,
    caller: RequestAccess,
    QueryParams(wanted): QueryParams<RecommendationsQuery>,
) -> Result<Json<Vec<Recommendation>>, ApiError> {
    let layers = app.layers(warehouse.catalog());
    let mut found = recommendations(warehouse.catalog(), &layers).await?;
    let authority = caller.authority();
    if authority.is_limited() {
        let rows = warehouse.catalog().tables().await?;
        // A recommendation counts files, and names partitions.
        let is_shown =
            |row: &&TabularRow| may_read(&authority, warehouse.catalog(), row) && authority.restrictions(row.id).is_none();
        let readable = rows.iter().filter(is_shown);
        let readable: HashSet<&TableName> = readable.map(|row| &row.name).collect();
        found.retain(|job| readable.contains(&job.name));
    }
    found.retain(|job| {
        wanted.namespace.as_ref().is_none_or(|n| *n == job.name.namespace.to_string())
            && wanted.kind.as_ref().is_none_or(|kind| *kind == job.kind)
    });
    found.truncate(wanted.limit.unwrap_or(usize::MAX));
    Ok(Json(found))
}

/// Returns the policy of a table, with the autopilot's last decision about it.
#[utoipa::path(
    get,
    path = "/api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/policy",
    operation_id = "getTablePolicy",
    tag = "policy",
    params(InWarehouse, InTable),
    responses((status = 200, description = "The policy of the table.", body = PolicyView), ReadErrors)
)]
pub(crate) async fn show(
    State(app): State<App>,
    warehouse: InWarehouse,
    caller: RequestAccess,
    InTable(name): InTable,
) -> Result<Json<PolicyView>, ApiError> {
    let catalog = warehouse.catalog();
    let row = caller.table(catalog, &name).await?;
    let policy = app.policy(catalog, &row).await?;
    let now = now_ms();
    let next = policy.schedules.keys().filter_map(|kind| Some((*kind, policy.next_run(*kind, now)?)));
    // A decision counts files and rows, and reports tell how many files there are.
    let is_restricted = caller.quiet_authority().restrictions(row.id).is_some();
    let (decided_ms, decision) = match is_restricted {
        true => (None, None),
        false => catalog.overview().decision(row.id).await?.unzip(),
    };
    let used = match is_restricted {
        true => TableUsage::default(),
        false => catalog.overview().usage_of(row.id).await?,
    };
    Ok(Json(PolicyView {
        table: name.to_string(),
        next_ms: next.collect(),
        problems: policy.problems.iter().map(ToString::to_string).collect(),
        settings: policy.settings,
        decision,
        decided_ms,
        used,
    }))
}
