use axum::Json;
use axum::extract::{Path, State};
use esker_state::Job;
use esker_types::{ErrorCode, JobId};
use serde::{Deserialize, Serialize};

use crate::extract::Query;
use crate::{ApiError, App};

/// A job's record, with its progress while it runs here.
#[derive(Debug, Clone, Serialize)]
pub struct JobView {
    /// The record.
    #[serde(flatten)]
    pub job: Job,
    /// Done and total: bytes for a compaction, files for an expiry.
    pub progress: Option<(u64, u64)>,
}

fn view(app: &App, job: Job) -> JobView {
    let progress = app.warehouses().find_map(|w| w.progress(job.id));
    JobView { job, progress }
}

#[derive(Debug, Deserialize)]
pub(crate) struct ListQuery {
    #[serde(default = "default_limit")]
    limit: u32,
}

const fn default_limit() -> u32 {
    50
}

/// `GET /api/v1/jobs`: the newest first.
pub(crate) async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Result<Json<Vec<JobView>>, ApiError> {
    let jobs = app.state().jobs(None, query.limit).await?;
    Ok(Json(jobs.into_iter().map(|job| view(&app, job)).collect()))
}

/// A job by the id that a path names.
pub(super) async fn find(state: &esker_state::State, id: &str) -> Result<Job, ApiError> {
    let missing = || ApiError::new(ErrorCode::NotFound, format!("job {id} does not exist"));
    let parsed: JobId = id.parse().map_err(|_| missing())?;
    state.job(parsed).await?.ok_or_else(missing)
}

/// `GET /api/v1/jobs/{job}`
pub(crate) async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Json<JobView>, ApiError> {
    let job = find(app.state(), &id).await?;
    Ok(Json(view(&app, job)))
}
