use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use esker_catalog::deletion::{self, Swept};
use esker_maintenance::{
    CheckOptions, CompactOptions, EraseOptions, Explanation, JobRequest, JobSpec, ManifestOptions, OrphanOptions,
    StatisticsOptions, Undone, erasure_report, list_orphans, plan_check, plan_compact, plan_expire, plan_manifests,
    plan_statistics,
};
use esker_state::{QuarantineState, QuarantinedFile};
use esker_table::ExpiryPolicy;
use esker_types::{ErrorCode, JobId, TableName, now_ms};
use serde::{Deserialize, Serialize};

use super::jobs;
use crate::extract::{Body, By, In, InTable, Query};
use crate::{ApiError, App, Caller};

/// Whether a job is only planned, and how it is entered otherwise.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct How {
    dry_run: bool,
    priority: Option<i64>,
    reason: Option<String>,
}

/// A job that was started.
#[derive(Debug, Clone, Serialize)]
pub struct JobAccepted {
    /// Ask `/api/v1/jobs/{job}` how it goes.
    #[serde(rename = "job-id")]
    pub job_id: JobId,
}

/// How a job is entered: under which key, from the header `Idempotency-Key`, so that a client may ask twice.
pub(crate) struct MaintenanceRoute {
    key: Option<String>,
    app: App,
}

impl FromRequestParts<App> for MaintenanceRoute {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let wrong = || ApiError::new(ErrorCode::BadRequest, "the header Idempotency-Key must have 1 to 200 visible characters");
        let key = match parts.headers.get("idempotency-key").map(|header| header.to_str()) {
            None => None,
            Some(Ok(key)) if (1..=200).contains(&key.len()) => Some(key.to_owned()),
            Some(_) => return Err(wrong()),
        };
        Ok(Self { key, app: app.clone() })
    }
}

async fn start(
    warehouse: &In,
    name: &TableName,
    mut request: JobRequest,
    caller: &Caller,
    how: How,
    MaintenanceRoute { key, app }: MaintenanceRoute,
) -> Result<Response, ApiError> {
    let catalog = warehouse.catalog();
    let policy = app.policy(catalog, &catalog.state().table(catalog.warehouse(), name).await?).await?;
    if policy.freeze && !request.is_read_only() {
        let what = format!("{name} is frozen by {}; set freeze to false to maintain it", policy.origin("freeze"));
        return Err(ApiError::new(ErrorCode::Refused, what));
    }
    if let JobRequest::Compact(options) = &mut request {
        options.spark_over_bytes = options.spark_over_bytes.or(policy.spark_over_bytes);
    }
    let asked = JobSpec::manual(request, caller);
    let priority = how.priority.unwrap_or(asked.priority);
    let reason = how.reason.unwrap_or_else(|| asked.reason.clone());
    let job_id = warehouse.0.start(name, JobSpec { key, priority, reason, ..asked }).await?;
    Ok((StatusCode::ACCEPTED, Json(JobAccepted { job_id })).into_response())
}

/// `POST /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/compact`: starts a job, or with `dry-run=true` answers the plan.
pub(crate) async fn compact(
    warehouse: In,
    caller: Caller,
    InTable(name): InTable,
    Query(how): Query<How>,
    entry: MaintenanceRoute,
    Body(options): Body<CompactOptions>,
) -> Result<Response, ApiError> {
    if how.dry_run {
        let table = warehouse.catalog().load(&name).await?;
        return Ok(Json(plan_compact(warehouse.catalog(), &table, &options).await?).into_response());
    }
    start(&warehouse, &name, JobRequest::Compact(Box::new(options)), &caller, how, entry).await
}

/// `POST /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/expire`: starts a job, or with `dry-run=true` answers the plan.
pub(crate) async fn expire(
    warehouse: In,
    caller: Caller,
    InTable(name): InTable,
    Query(how): Query<How>,
    entry: MaintenanceRoute,
    Body(policy): Body<ExpiryPolicy>,
) -> Result<Response, ApiError> {
    if how.dry_run {
        let table = warehouse.catalog().load(&name).await?;
        return Ok(Json(plan_expire(warehouse.catalog(), &table, policy).await?).into_response());
    }
    start(&warehouse, &name, JobRequest::Expire(policy), &caller, how, entry).await
}

/// `POST /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/orphans`: starts a job, or with `dry-run=true` lists them.
pub(crate) async fn orphans(
    warehouse: In,
    caller: Caller,
    InTable(name): InTable,
    Query(how): Query<How>,
    entry: MaintenanceRoute,
    Body(options): Body<OrphanOptions>,
) -> Result<Response, ApiError> {
    if how.dry_run {
        let table = warehouse.catalog().load(&name).await?;
        return Ok(Json(list_orphans(warehouse.catalog(), &table, &options, warehouse.0.spill_dir()).await?).into_response());
    }
    start(&warehouse, &name, JobRequest::Orphans(options), &caller, how, entry).await
}

/// `POST /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/manifests`: starts a job, or with `dry-run=true` answers the plan.
pub(crate) async fn manifests(
    warehouse: In,
    caller: Caller,
    InTable(name): InTable,
    Query(how): Query<How>,
    entry: MaintenanceRoute,
    Body(options): Body<ManifestOptions>,
) -> Result<Response, ApiError> {
    if how.dry_run {
        let table = warehouse.catalog().load(&name).await?;
        let plan = plan_manifests(warehouse.catalog(), &table, &options, warehouse.0.memory_bytes()).await?;
        return Ok(Json(plan).into_response());
    }
    start(&warehouse, &name, JobRequest::Manifests(options), &caller, how, entry).await
}

/// `POST /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/statistics`: starts a job, or with `dry-run=true` answers the plan.
pub(crate) async fn statistics(
    warehouse: In,
    caller: Caller,
    InTable(name): InTable,
    Query(how): Query<How>,
    entry: MaintenanceRoute,
    Body(options): Body<StatisticsOptions>,
) -> Result<Response, ApiError> {
    if how.dry_run {
        let table = warehouse.catalog().load(&name).await?;
        return Ok(Json(plan_statistics(&table, &options)?).into_response());
    }
    start(&warehouse, &name, JobRequest::Statistics(options), &caller, how, entry).await
}

/// `POST /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/erase`: starts a job, or with `dry-run=true` answers what holds
/// the rows.
pub(crate) async fn erase(
    warehouse: In,
    caller: Caller,
    InTable(name): InTable,
    Query(how): Query<How>,
    entry: MaintenanceRoute,
    Body(options): Body<EraseOptions>,
) -> Result<Response, ApiError> {
    if how.dry_run {
        let table = warehouse.catalog().load(&name).await?;
        let report = erasure_report(warehouse.catalog(), warehouse.0.reader(), &table, &options).await?;
        return Ok(Json(report).into_response());
    }
    start(&warehouse, &name, JobRequest::Erase(options), &caller, how, entry).await
}

/// `POST /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/check`: starts a look for what is wrong with the table's files,
/// or with `dry-run=true` answers at how many it would look. Foreign and frozen tables too: nothing is changed.
pub(crate) async fn check(
    warehouse: In,
    caller: Caller,
    InTable(name): InTable,
    Query(how): Query<How>,
    entry: MaintenanceRoute,
    Body(options): Body<CheckOptions>,
) -> Result<Response, ApiError> {
    if how.dry_run {
        let table = warehouse.catalog().load(&name).await?;
        return Ok(Json(plan_check(warehouse.catalog(), &table, &options).await?).into_response());
    }
    start(&warehouse, &name, JobRequest::Check(options), &caller, how, entry).await
}

#[derive(Debug, Deserialize)]
pub(crate) struct OfFile {
    path: String,
}

/// `GET /api/v1/warehouses/{warehouse}/explain?path=URI`: why a file is there, or is not.
pub(crate) async fn explain(warehouse: In, Query(file): Query<OfFile>) -> Result<Json<Explanation>, ApiError> {
    Ok(Json(esker_maintenance::explain(warehouse.catalog(), &file.path).await?))
}

/// `POST /api/v1/warehouses/{warehouse}/jobs/{job}/undo`: takes an expiry or a removal of orphans back.
pub(crate) async fn undo(warehouse: In, caller: Caller, Path((_, id)): Path<(String, String)>) -> Result<Json<Undone>, ApiError> {
    let job = jobs::find(warehouse.catalog().state(), &id).await?;
    Ok(Json(esker_maintenance::undo(warehouse.catalog(), &job, &caller).await?))
}

/// `POST /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/claim`: takes a foreign table into Esker's care.
pub(crate) async fn claim(warehouse: In, By(actor): By, InTable(name): InTable) -> Result<StatusCode, ApiError> {
    warehouse.catalog().claim(&name, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A file in quarantine.
#[derive(Debug, Clone, Serialize)]
pub struct QuarantineView {
    /// Its URI.
    pub path: String,
    /// Its size, where known.
    pub bytes: Option<u64>,
    /// Why it is here.
    pub reason: String,
    /// The job that quarantined it.
    pub job_id: Option<JobId>,
    /// `quarantined` or `deleting`.
    pub state: QuarantineState,
    /// Not deleted before this time, in milliseconds since the epoch.
    pub due_ms: i64,
}

impl From<QuarantinedFile> for QuarantineView {
    fn from(quarantined: QuarantinedFile) -> Self {
        let QuarantinedFile { record, state, .. } = quarantined;
        Self { path: record.path, bytes: record.bytes, reason: record.reason, job_id: record.job, state, due_ms: record.due_ms }
    }
}

/// `GET /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/quarantine`
pub(crate) async fn quarantine(warehouse: In, InTable(name): InTable) -> Result<Json<Vec<QuarantineView>>, ApiError> {
    let catalog = warehouse.catalog();
    let row = catalog.state().table(catalog.warehouse(), &name).await?;
    let files = catalog.state().quarantine_of(row.id).await?;
    Ok(Json(files.into_iter().map(QuarantineView::from).collect()))
}

/// `POST /api/v1/quarantine/sweep`: what the server does every minute anyway, now, in every warehouse. Files still in grace
/// stay.
pub(crate) async fn sweep(State(app): State<App>) -> Result<Json<Swept>, ApiError> {
    let mut all = Swept::default();
    for warehouse in app.warehouses() {
        all.add(deletion::sweep(warehouse.catalog(), now_ms()).await?);
    }
    Ok(Json(all))
}
