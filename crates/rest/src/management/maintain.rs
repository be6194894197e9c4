//! Starting jobs of any kind, undo, the explanation of files, and the quarantine.
//!
//! One route starts all kinds of jobs: its last segment names the kind, and the body has the options of that kind.
//!
//! Start reading at [`start`].

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use esker_access::{Privilege, Required, ResourcePath};
use esker_catalog::deletion::{self, Swept};
use esker_catalog::needs::{asks_for_rows, is_about_rows, to_ask_for_job};
use esker_catalog::remove_names;
use esker_maintenance::{
    Explanation, JobOptions, JobRequest, JobSpec, KindView, MaintenanceError, PRIORITY_MANUAL, UndoOutcome, kind_view,
};
use esker_state::{QuarantineState, QuarantinedFile, StateError};
use esker_storage::Location;
use esker_types::{ErrorCode, JobId, JobKind, NoSuchKind, Principal, now_ms};
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};

use super::jobs;
use crate::access::RequestAccess;
use crate::extract::{InJob, InTable, InWarehouse, QueryParams, RequestActor, read_json};
use crate::openapi::{ChangeErrors, ReadErrors, ServerErrors};
use crate::{ApiError, App};

/// The parameters of a request that starts or previews a job.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, rename_all = "kebab-case")]
#[into_params(parameter_in = Query)]
pub(crate) struct StartQuery {
    /// Shows what the job would do, and enqueues nothing.
    dry_run: bool,
    /// The priority of the job. Jobs of higher priority are taken first. One beyond -100 to 100 needs `MANAGE_SERVER`.
    priority: Option<i64>,
    /// The reason for the job, for people.
    reason: Option<String>,
}

/// The answer to a request that enqueued a job, as JSON.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct JobAccepted {
    /// The id of the job. `GET /api/v1/jobs/{job}` shows its progress.
    #[serde(rename = "job-id")]
    pub job_id: JobId,
}

/// The key of a job, from the header `Idempotency-Key`: the same key of a principal gives the same job.
#[derive(Debug)]
pub(crate) struct JobKey(Option<String>);

impl JobKey {
    /// Returns the key as the queue has it, for a principal.
    ///
    /// The queue compares the keys of everybody, and those that Esker gives to its own jobs, such as `undo/JOB`. So the principal stands
    /// before the key of a client: it gets at no job of others, and takes no key of theirs or of Esker's.
    fn of(&self, principal: &Principal) -> Option<String> {
        self.0.as_ref().map(|key| format!("{}\u{1f}{key}", principal.identity()))
    }

    /// Puts the key as the client sent it into the error of one that belongs to another of its jobs.
    fn named_in(self, error: MaintenanceError) -> ApiError {
        match (error, self.0) {
            (MaintenanceError::State(StateError::KeyTaken { job, .. }), Some(key)) => StateError::KeyTaken { key, job }.into(),
            (error, _) => error.into(),
        }
    }
}

impl FromRequestParts<App> for JobKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        let wrong = || ApiError::new(ErrorCode::BadRequest, "the header Idempotency-Key must have 1 to 200 visible characters");
        match parts.headers.get("idempotency-key").map(|header| header.to_str()) {
            None => Ok(Self(None)),
            Some(Ok(key)) if (1..=200).contains(&key.len()) => Ok(Self(Some(key.to_owned()))),
            Some(_) => Err(wrong()),
        }
    }
}

impl utoipa::IntoParams for JobKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = "The key of the job, 1 to 200 visible characters. A request with the key of an earlier one gets the same job.";
        let key = ParameterBuilder::new().name("Idempotency-Key").parameter_in(ParameterIn::Header).description(Some(text));
        vec![key.required(utoipa::openapi::Required::False).schema(Some(<String as utoipa::PartialSchema>::schema())).build()]
    }
}

/// The request of a job, of the kind in the last path segment and with the options in the body.
#[derive(Debug)]
pub(crate) struct RequestedJob(JobRequest);

impl FromRequest<App> for RequestedJob {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let kind: JobKind = name.parse().map_err(|e: NoSuchKind| ApiError::new(ErrorCode::NotFound, e.to_string()))?;
        read_json(request, app, |json| JobRequest::read(kind, json)).await.map(Self)
    }
}

/// Lists the kinds of jobs, with the operations that each kind supports.
#[utoipa::path(
    get,
    path = "/api/v1/job-kinds",
    operation_id = "listJobKinds",
    tag = "jobs",
    responses((status = 200, description = "The kinds of jobs.", body = Vec<KindView>), ServerErrors)
)]
pub(crate) async fn kinds() -> Json<Vec<KindView>> {
    Json(JobKind::ALL.map(kind_view).to_vec())
}

/// Enqueues a job, or shows its plan with `dry-run=true`.
///
/// A frozen table takes only jobs that change nothing. A compaction takes `compact.spark-over` from the policy if the request
/// does not set it. A job that names rows by `where` or `partition`, and the dry run of an erasure, are for who may read all rows
/// of the table. An erasure itself needs `ERASE` alone.
#[utoipa::path(
    post,
    path = "/api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/{kind}",
    operation_id = "startJob",
    tag = "jobs",
    params(InWarehouse, InTable, ("kind" = JobKind, Path, description = "The kind of the job."), StartQuery, JobKey),
    request_body = JobOptions,
    responses(
        (status = 200, description = "The preview of a dry run. Its fields are those of the kind.", body = Value),
        (status = 202, description = "The job is in the queue.", body = JobAccepted),
        ChangeErrors
    )
)]
pub(crate) async fn start(
    warehouse: InWarehouse,
    State(app): State<App>,
    caller: RequestAccess,
    InTable(name): InTable,
    QueryParams(query): QueryParams<StartQuery>,
    key: JobKey,
    RequestedJob(mut request): RequestedJob,
) -> Result<Response, ApiError> {
    let catalog = warehouse.catalog();
    let (kind, options) = (request.kind().as_str(), request.json());
    let row = catalog.permitted_table(&name, to_ask_for_job(kind, &options), &caller.authority()).await?;
    if query.dry_run && is_about_rows(kind, &options) {
        let read = Required::privilege(Privilege::ReadData);
        catalog.require_tabular(&caller.authority(), &name, &row, read)?;
    }
    if query.dry_run || asks_for_rows(kind, &options) {
        caller.check_unrestricted(&row)?;
    }
    if query.dry_run {
        let mut preview = warehouse.0.preview(&name, request).await?;
        let read = Required::privilege(Privilege::ReadData);
        if !caller.quiet_authority().has(&catalog.tabular_path(&row.name.namespace.key(), &row), read) {
            remove_names(&mut preview);
        }
        return Ok(Json(preview).into_response());
    }
    let policy = app.policy(catalog, &row).await?;
    if policy.freeze && !kind_view(request.kind()).read_only {
        let what = format!("{name} is frozen by {}; set freeze to false to maintain it", policy.origin("freeze"));
        return Err(ApiError::new(ErrorCode::Refused, what));
    }
    if let JobRequest::Compact(options) = &mut request {
        options.spark_over_bytes = options.spark_over_bytes.or(policy.spark_over_bytes);
    }
    let spec = JobSpec::manual(request, caller.principal(), caller.identity().into());
    let priority = query.priority.unwrap_or(spec.priority);
    if !(-PRIORITY_MANUAL..=PRIORITY_MANUAL).contains(&priority)
        && !caller.quiet_authority().has(&ResourcePath::SERVER, Required::privilege(Privilege::ManageServer))
    {
        // Jobs of others would wait for as long as the caller has more of its own.
        let what = format!("priority {priority} needs MANAGE_SERVER; give one from -{PRIORITY_MANUAL} to {PRIORITY_MANUAL}");
        return Err(ApiError::new(ErrorCode::Forbidden, what));
    }
    let reason = query.reason.unwrap_or_else(|| spec.reason.clone());
    let spec = JobSpec { key: key.of(caller.principal()), priority, reason, ..spec };
    let job_id = warehouse.0.start(&name, spec).await.map_err(|error| key.named_in(error))?;
    Ok((StatusCode::ACCEPTED, Json(JobAccepted { job_id })).into_response())
}

/// The parameters of an explanation.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExplainQuery {
    /// The URI of the file.
    path: String,
}

/// Explains why a file exists, or why it does not.
#[utoipa::path(
    get,
    path = "/api/v1/warehouses/{warehouse}/explain",
    operation_id = "explainFile",
    tag = "files",
    params(InWarehouse, ExplainQuery),
    responses((status = 200, description = "Everything that Esker knows about the file.", body = Explanation), ReadErrors)
)]
pub(crate) async fn explain(
    warehouse: InWarehouse,
    caller: RequestAccess,
    QueryParams(file): QueryParams<ExplainQuery>,
) -> Result<Json<Explanation>, ApiError> {
    let catalog = warehouse.catalog();
    let at = Location::parse(&file.path).map_err(MaintenanceError::from)?;
    if let Some(row) = deletion::owner(catalog, &at).await? {
        let read = Required::privilege(Privilege::ReadMetadata);
        // The files of the audit trail are in no table for who may not read it: no grant on the warehouse counts there.
        if !caller.quiet_authority().has(&catalog.tabular_path(&row.name.namespace.key(), &row), read) {
            return Ok(Json(Explanation::in_no_table(&at)));
        }
        caller.check_unrestricted(&row)?;
    }
    Ok(Json(esker_maintenance::explain(catalog, &file.path).await?))
}

/// Takes back a job of a kind that can be undone.
#[utoipa::path(
    post,
    path = "/api/v1/warehouses/{warehouse}/jobs/{job}/undo",
    operation_id = "undoJob",
    tag = "jobs",
    params(InWarehouse, InJob),
    responses((status = 200, description = "The job is taken back.", body = UndoOutcome), ChangeErrors)
)]
pub(crate) async fn undo(
    State(app): State<App>,
    warehouse: InWarehouse,
    caller: RequestAccess,
    InJob(id): InJob,
) -> Result<Json<UndoOutcome>, ApiError> {
    let job = jobs::find_to_undo(&app, &caller, warehouse.catalog(), &id).await?;
    Ok(Json(esker_maintenance::undo(warehouse.catalog(), &job, caller.principal()).await?))
}

/// Makes a foreign table an owned one.
#[utoipa::path(
    post,
    path = "/api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/claim",
    operation_id = "claimTable",
    tag = "lifecycle",
    params(InWarehouse, InTable),
    responses((status = 204, description = "Esker owns the table."), ChangeErrors)
)]
pub(crate) async fn claim(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InTable(name): InTable,
) -> Result<StatusCode, ApiError> {
    warehouse.catalog().claim(&name, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A file in quarantine, as JSON.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct QuarantineView {
    /// The URI of the file.
    pub path: String,
    /// The size in bytes, if it is known.
    pub bytes: Option<u64>,
    /// The reason why the file is in quarantine.
    pub reason: String,
    /// The job that quarantined the file.
    pub job_id: Option<JobId>,
    /// The state of the file: `quarantined` or `deleting`.
    pub state: QuarantineState,
    /// The time before which the file is not deleted, in milliseconds since the Unix epoch.
    pub due_ms: i64,
}

impl From<QuarantinedFile> for QuarantineView {
    fn from(quarantined: QuarantinedFile) -> Self {
        let QuarantinedFile { record, state, .. } = quarantined;
        Self { path: record.path, bytes: record.bytes, reason: record.reason, job_id: record.job, state, due_ms: record.due_ms }
    }
}

/// Lists the files of a table in quarantine.
#[utoipa::path(
    get,
    path = "/api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/quarantine",
    operation_id = "listQuarantine",
    tag = "files",
    params(InWarehouse, InTable),
    responses((status = 200, description = "The files in quarantine.", body = Vec<QuarantineView>), ReadErrors)
)]
pub(crate) async fn quarantine(
    warehouse: InWarehouse,
    caller: RequestAccess,
    InTable(name): InTable,
) -> Result<Json<Vec<QuarantineView>>, ApiError> {
    let catalog = warehouse.catalog();
    let row = caller.whole_table(catalog, &name).await?;
    let files = catalog.overview().quarantine_of(row.id).await?;
    Ok(Json(files.into_iter().map(QuarantineView::from).collect()))
}

/// Sweeps the quarantine of every warehouse now, as the server does every minute anyway.
///
/// Files whose grace period is not over stay.
#[utoipa::path(
    post,
    path = "/api/v1/quarantine/sweep",
    operation_id = "sweepQuarantine",
    tag = "files",
    responses((status = 200, description = "The counts of the sweep.", body = Swept), ChangeErrors)
)]
pub(crate) async fn sweep(State(app): State<App>) -> Result<Json<Swept>, ApiError> {
    let mut all = Swept::default();
    for warehouse in app.warehouses() {
        all.add(deletion::sweep(warehouse.catalog(), now_ms()).await?);
    }
    Ok(Json(all))
}
