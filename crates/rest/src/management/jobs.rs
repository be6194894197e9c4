//! The jobs of the queue: list, record, log and cancellation.

use axum::Json;
use axum::extract::State;
use esker_catalog::Overview;
use esker_state::{Job, JobFilter, JobLogLine, JobState};
use esker_types::{ErrorCode, JobId};
use serde::{Deserialize, Serialize};

use crate::extract::{InJob, QueryParams};
use crate::openapi::{ChangeErrors, ReadErrors};
use crate::{ApiError, App, Caller};

/// The record of a job with the name of its warehouse, as JSON.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct JobView {
    /// The name of the warehouse; `None` if this server does not have it.
    pub warehouse: Option<String>,
    /// The record of the job.
    #[serde(flatten)]
    pub job: Job,
}

/// Adds the name of the warehouse to a job.
///
/// If the job runs in this process, its progress is newer than the one in its record, and replaces it.
pub(crate) fn view(app: &App, mut job: Job) -> JobView {
    let warehouse = app.warehouses().find(|w| w.catalog().warehouse().id == job.warehouse);
    if !job.state.is_over()
        && let Some(progress) = warehouse.and_then(|w| w.progress(job.id))
    {
        job.progress = progress;
    }
    JobView { warehouse: warehouse.map(|w| w.catalog().options().warehouse.clone()), job }
}

/// The parameters of the list of jobs. Each that is given must match.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobsQuery {
    /// The maximum number of jobs in the answer; without it, 50.
    #[serde(default = "default_limit")]
    limit: u32,
    /// The state of the jobs: `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    state: Option<String>,
    /// The kind of the jobs.
    kind: Option<String>,
    /// The warehouse of the jobs.
    warehouse: Option<String>,
}

const fn default_limit() -> u32 {
    50
}

/// Lists jobs, the newest first.
#[utoipa::path(
    get,
    path = "/api/v1/jobs",
    operation_id = "listJobs",
    tag = "jobs",
    params(JobsQuery),
    responses((status = 200, description = "The records of the jobs.", body = Vec<JobView>), ReadErrors)
)]
pub(crate) async fn list(
    State(app): State<App>,
    QueryParams(query): QueryParams<JobsQuery>,
) -> Result<Json<Vec<JobView>>, ApiError> {
    let warehouse = query.warehouse.map(|name| app.warehouse(&name).map(|w| w.catalog().warehouse().id)).transpose()?;
    let filter = JobFilter { state: query.state, kind: query.kind, warehouse, ..JobFilter::default() };
    let jobs = app.overview().jobs(&filter, query.limit).await?;
    Ok(Json(jobs.into_iter().map(|job| view(&app, job)).collect()))
}

/// Makes the error for a job that does not exist.
fn no_such_job(id: &str) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("job {id} does not exist"))
}

/// Finds a job by the id in a path.
pub(crate) async fn find(overview: &Overview, id: &str) -> Result<Job, ApiError> {
    let parsed: JobId = id.parse().map_err(|_| no_such_job(id))?;
    overview.job(parsed).await?.ok_or_else(|| no_such_job(id))
}

/// Returns the record of a job.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{job}",
    operation_id = "getJob",
    tag = "jobs",
    params(InJob),
    responses((status = 200, description = "The record of the job.", body = JobView), ReadErrors)
)]
pub(crate) async fn show(State(app): State<App>, InJob(id): InJob) -> Result<Json<JobView>, ApiError> {
    let job = find(app.overview(), &id).await?;
    Ok(Json(view(&app, job)))
}

/// Returns the log of a job.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{job}/log",
    operation_id = "getJobLog",
    tag = "jobs",
    params(InJob),
    responses((status = 200, description = "The lines of the log, the oldest first.", body = Vec<JobLogLine>), ReadErrors)
)]
pub(crate) async fn log(State(app): State<App>, InJob(id): InJob) -> Result<Json<Vec<JobLogLine>>, ApiError> {
    let job = find(app.overview(), &id).await?;
    Ok(Json(app.overview().job_log(job.id).await?))
}

/// The answer to a cancellation: the state of the job after it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct CancelAnswer {
    /// The state of the job.
    state: JobState,
}

/// Cancels a job.
///
/// A queued job is cancelled at once. A running job stops at the next safe point; what it has committed stays, and an undo takes
/// that back.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/{job}/cancel",
    operation_id = "cancelJob",
    tag = "jobs",
    params(InJob),
    responses((status = 200, description = "The state of the job after the request.", body = CancelAnswer), ChangeErrors)
)]
pub(crate) async fn cancel(State(app): State<App>, caller: Caller, InJob(id): InJob) -> Result<Json<CancelAnswer>, ApiError> {
    Ok(Json(CancelAnswer { state: cancel_by(&app, &caller, &id).await? }))
}

/// Cancels a job for a caller, and returns its state after that.
pub(crate) async fn cancel_by(app: &App, caller: &Caller, id: &str) -> Result<JobState, ApiError> {
    let parsed: JobId = id.parse().map_err(|_| no_such_job(id))?;
    app.queue().cancel(parsed, &caller.to_string()).await?.ok_or_else(|| no_such_job(id))
}
