use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use esker_autopilot::{Recommendation, Setting, recommendations};
use esker_state::TableUsage;
use esker_types::{JobKind, Millis, now_ms};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::extract::{In, InTable, Query};
use crate::{ApiError, App};

/// A table's policy, what the autopilot makes of it, and what engines do with the table.
#[derive(Debug, Clone, Serialize)]
pub struct PolicyView {
    /// The table.
    pub table: String,
    /// Every key, with its value and who says so.
    pub settings: Vec<Setting>,
    /// What can't be followed; while there is any, nothing is done by itself.
    pub problems: Vec<String>,
    /// When jobs of each kind begin next by schedule, in milliseconds since the epoch.
    pub next_ms: BTreeMap<JobKind, Millis>,
    /// What the autopilot last thought of the table.
    pub decision: Option<Value>,
    /// When that was.
    pub decided_ms: Option<Millis>,
    /// What engines reported in the last seven days.
    #[serde(rename = "use")]
    pub used: TableUsage,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PolicyQuery {
    namespace: Option<String>,
    kind: Option<JobKind>,
    limit: Option<usize>,
}

/// `GET /api/v1/warehouses/{warehouse}/recommendations?namespace=&kind=&limit=`: jobs that would pay, the best first.
pub(crate) async fn recommended(
    State(app): State<App>,
    warehouse: In,
    Query(wanted): Query<PolicyQuery>,
) -> Result<Json<Vec<Recommendation>>, ApiError> {
    let layers = app.layers(warehouse.catalog());
    let mut found = recommendations(warehouse.catalog(), &layers).await?;
    found.retain(|job| {
        wanted.namespace.as_ref().is_none_or(|n| *n == job.name.namespace.to_string())
            && wanted.kind.as_ref().is_none_or(|kind| *kind == job.kind)
    });
    found.truncate(wanted.limit.unwrap_or(usize::MAX));
    Ok(Json(found))
}

/// `GET /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/policy`
pub(crate) async fn show(State(app): State<App>, warehouse: In, InTable(name): InTable) -> Result<Json<PolicyView>, ApiError> {
    let catalog = warehouse.catalog();
    let row = catalog.state().table(catalog.warehouse(), &name).await?;
    let policy = app.policy(catalog, &row).await?;
    let now = now_ms();
    let next = policy.schedules.keys().filter_map(|kind| Some((*kind, policy.next(*kind, now)?)));
    let (decided_ms, decision) = catalog.state().decision(row.id).await?.unzip();
    Ok(Json(PolicyView {
        table: name.to_string(),
        next_ms: next.collect(),
        problems: policy.problems.iter().map(ToString::to_string).collect(),
        settings: policy.settings,
        decision,
        decided_ms,
        used: catalog.state().usage_of(row.id).await?,
    }))
}
