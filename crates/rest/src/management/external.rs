//! External jobs: workers of another engine claim them, renew their leases, and report how they ended.
//!
//! A worker has a job while its lease lasts. If it does not renew the lease, another worker gets the job. `docs/policies.md` has
//! the protocol.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use esker_maintenance::{ExternalJob, Maintenance, SPARK};
use esker_state::{Job, JobEnd};
use esker_types::{Coded, ErrorCode, now_ms, to_millis};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::jobs;
use crate::extract::{InJob, JsonBody};
use crate::openapi::ChangeErrors;
use crate::{ApiError, App};

/// The durations of a lease that a worker may ask for, in seconds.
const LEASE_SECONDS: std::ops::RangeInclusive<u64> = 1..=3600;

/// The request of a worker for a job.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ClaimRequest {
    /// The engine of the worker: `spark`.
    engine: String,
    /// The name of the worker, which its later requests repeat. It is not empty.
    worker: String,
    /// The duration of the lease in seconds, 1 to 3600; without it, 60.
    #[serde(default = "default_lease")]
    lease_seconds: u64,
}

const fn default_lease() -> u64 {
    60
}

/// Returns the end of a lease that begins now, in milliseconds since the Unix epoch.
fn lease_end(lease_seconds: u64) -> Result<i64, ApiError> {
    if !LEASE_SECONDS.contains(&lease_seconds) {
        let what = format!("lease-seconds must be between {} and {}", LEASE_SECONDS.start(), LEASE_SECONDS.end());
        return Err(ApiError::new(ErrorCode::BadRequest, what));
    }
    Ok(now_ms().saturating_add(to_millis(Duration::from_secs(lease_seconds))))
}

/// Gives a worker the next job that waits for its engine, or answers 204 if there is none.
///
/// Jobs of warehouses whose epoch does not fit the database are not given.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/claim",
    operation_id = "claimJob",
    tag = "workers",
    request_body = ClaimRequest,
    responses(
        (status = 200, description = "The job that the worker has now.", body = ExternalJob),
        (status = 204, description = "No job waits for the engine."),
        ChangeErrors
    )
)]
pub(crate) async fn claim(State(app): State<App>, JsonBody(claim): JsonBody<ClaimRequest>) -> Result<Response, ApiError> {
    if claim.engine != SPARK {
        return Err(ApiError::new(
            ErrorCode::BadRequest,
            format!("there are external jobs for {SPARK} only, not for {:?}", claim.engine),
        ));
    }
    if claim.worker.is_empty() {
        return Err(ApiError::new(ErrorCode::BadRequest, "worker must not be empty; it names the holder of the job"));
    }
    let sound = app.warehouses().filter(|w| w.catalog().check_epoch().is_ok());
    let ids: Vec<i64> = sound.map(|w| w.catalog().warehouse().id).collect();
    if ids.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let taken = app.queue().claim_external(&ids, &claim.engine, &claim.worker, lease_end(claim.lease_seconds)?).await?;
    let Some(job) = taken else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    let maintenance = warehouse_of(&app, &job)?;
    match maintenance.external_job(&job).await {
        Ok(claimed) => Ok(Json(claimed).into_response()),
        // Nothing is wrong with the job. It waits for a worker again when the lease ends.
        Err(error) if error.code().is_transient() => Err(error.into()),
        // The job can't be done, for example because its table was dropped. It is over, and the worker may claim the next.
        Err(error) => {
            maintenance.end_external_job(&job, &claim.worker, JobEnd::Failed(error.to_string())).await?;
            Err(error.into())
        }
    }
}

/// Returns the warehouse of a job.
fn warehouse_of<'a>(app: &'a App, job: &Job) -> Result<&'a Maintenance, ApiError> {
    app.warehouse_by_id(job.warehouse).ok_or_else(|| {
        ApiError::new(ErrorCode::NotFound, format!("job {} is of a warehouse that this server does not have", job.id))
    })
}

/// Makes the error for a worker that does not have the job, or not any more.
fn lease_lost(job: &Job, worker: &str) -> ApiError {
    let what = format!("job {} does not belong to worker {worker}: its lease ended, or the job is over", job.id);
    ApiError::new(ErrorCode::Refused, what)
}

/// The renewal of a lease, with the progress of the job as done and total work.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LeaseRenewal {
    /// The name of the worker that has the job.
    worker: String,
    /// The duration of the new lease in seconds, 1 to 3600; without it, 60.
    #[serde(default = "default_lease")]
    lease_seconds: u64,
    /// The work that is done, in bytes.
    #[serde(default)]
    done: u64,
    /// The whole work, in bytes.
    #[serde(default)]
    total: u64,
}

/// The answer to the renewal of a lease.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct RenewalAnswer {
    /// Tells whether the job was cancelled, so that the worker has to stop.
    cancelled: bool,
}

/// Renews the lease of a worker and records the progress of its job.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/{job}/renew",
    operation_id = "renewLease",
    tag = "workers",
    params(InJob),
    request_body = LeaseRenewal,
    responses((status = 200, description = "The worker has the job for another lease.", body = RenewalAnswer), ChangeErrors)
)]
pub(crate) async fn renew(
    State(app): State<App>,
    InJob(id): InJob,
    JsonBody(renewal): JsonBody<LeaseRenewal>,
) -> Result<Json<RenewalAnswer>, ApiError> {
    let job = jobs::find(app.overview(), &id).await?;
    let LeaseRenewal { worker, lease_seconds, done, total } = renewal;
    let renewed = app.queue().renew_external(job.id, &worker, lease_end(lease_seconds)?, (done, total)).await?;
    renewed.map(|cancelled| Json(RenewalAnswer { cancelled })).ok_or_else(|| lease_lost(&job, &worker))
}

/// The report of a worker about the end of its job.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "lowercase", tag = "state")]
pub(crate) enum ExternalJobEnd {
    /// The worker has done the job.
    Succeeded {
        /// The name of the worker.
        worker: String,
        /// The outcome, as the worker reported it.
        outcome: Value,
    },
    /// The worker could not do the job.
    Failed {
        /// The name of the worker.
        worker: String,
        /// The error, for people.
        error: String,
    },
    /// The worker stopped because the job was cancelled.
    Cancelled {
        /// The name of the worker.
        worker: String,
    },
}

/// Ends the job of a worker.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/{job}/finish",
    operation_id = "finishJob",
    tag = "workers",
    params(InJob),
    request_body = ExternalJobEnd,
    responses((status = 204, description = "The end of the job is recorded."), ChangeErrors)
)]
pub(crate) async fn finish(
    State(app): State<App>,
    InJob(id): InJob,
    JsonBody(ended): JsonBody<ExternalJobEnd>,
) -> Result<StatusCode, ApiError> {
    let job = jobs::find(app.overview(), &id).await?;
    let (worker, end) = match ended {
        ExternalJobEnd::Succeeded { worker, outcome } => (worker, JobEnd::Succeeded(outcome.to_string())),
        ExternalJobEnd::Failed { worker, error } => (worker, JobEnd::Failed(error)),
        ExternalJobEnd::Cancelled { worker } => (worker, JobEnd::Cancelled),
    };
    match warehouse_of(&app, &job)?.end_external_job(&job, &worker, end).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(lease_lost(&job, &worker)),
    }
}
