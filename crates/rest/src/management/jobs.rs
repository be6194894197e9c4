use axum::Json;
use axum::extract::{Path, State};
use esker_state::{Job, JobFilter, JobLogLine, JobState};
use esker_types::{ErrorCode, JobId};
use serde::{Deserialize, Serialize};

use crate::extract::Query;
use crate::{ApiError, App, Caller};

/// A job's record, with its warehouse's name.
#[derive(Debug, Clone, Serialize)]
pub struct JobView {
    /// Its warehouse.
    pub warehouse: Option<String>,
    /// The record.
    #[serde(flatten)]
    pub job: Job,
}

/// How far a job is that runs here is known better than its record says.
pub(crate) fn view(app: &App, mut job: Job) -> JobView {
    let warehouse = app.warehouses().find(|w| w.catalog().warehouse().id == job.warehouse);
    if let Some(progress) = warehouse.and_then(|w| w.progress(job.id)) {
        job.progress = progress;
    }
    JobView { warehouse: warehouse.map(|w| w.catalog().options().warehouse.clone()), job }
}

#[derive(Debug, Deserialize)]
pub(crate) struct JobsQuery {
    #[serde(default = "default_limit")]
    limit: u32,
    state: Option<String>,
    kind: Option<String>,
    warehouse: Option<String>,
}

const fn default_limit() -> u32 {
    50
}

/// `GET /api/v1/jobs?state=&kind=&warehouse=&limit=`: the newest first.
pub(crate) async fn list(State(app): State<App>, Query(query): Query<JobsQuery>) -> Result<Json<Vec<JobView>>, ApiError> {
    let warehouse = query.warehouse.map(|name| app.warehouse(&name).map(|w| w.catalog().warehouse().id)).transpose()?;
    let filter = JobFilter { state: query.state, kind: query.kind, warehouse, ..JobFilter::default() };
    let jobs = app.state().jobs(&filter, query.limit).await?;
    Ok(Json(jobs.into_iter().map(|job| view(&app, job)).collect()))
}

fn missing(id: &str) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("job {id} does not exist"))
}

/// A job by the id that a path names.
pub(crate) async fn find(state: &esker_state::State, id: &str) -> Result<Job, ApiError> {
    let parsed: JobId = id.parse().map_err(|_| missing(id))?;
    state.job(parsed).await?.ok_or_else(|| missing(id))
}

/// `GET /api/v1/jobs/{job}`
pub(crate) async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Json<JobView>, ApiError> {
    let job = find(app.state(), &id).await?;
    Ok(Json(view(&app, job)))
}

/// `GET /api/v1/jobs/{job}/log`: what the job said, the oldest line first.
pub(crate) async fn log(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Vec<JobLogLine>>, ApiError> {
    let job = find(app.state(), &id).await?;
    Ok(Json(app.state().job_log(job.id).await?))
}

/// Where a job stands after it was asked to end.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cancelled {
    state: JobState,
}

/// `POST /api/v1/jobs/{job}/cancel`: a job that waits is cancelled, one at work ends where nothing is half done. What it has committed stays;
/// undo takes that back.
pub(crate) async fn cancel(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Cancelled>, ApiError> {
    Ok(Json(Cancelled { state: cancel_by(&app, &caller, &id).await? }))
}

/// Asks a job to end; returns where it stands then.
pub(crate) async fn cancel_by(app: &App, caller: &Caller, id: &str) -> Result<JobState, ApiError> {
    let parsed: JobId = id.parse().map_err(|_| missing(id))?;
    app.state().cancel_job(parsed, &caller.to_string()).await?.ok_or_else(|| missing(id))
}
