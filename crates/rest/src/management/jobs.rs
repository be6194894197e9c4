//! The jobs of the queue: list, record, log and cancellation.

use std::cmp::Reverse;
use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use esker_access::{Need, Needs, Privilege, Required, ResourcePath, RightsError};
use esker_catalog::needs::{to_read_job, to_run_job};
use esker_catalog::{Authority, Catalog, Overview, Told};
use esker_maintenance::Maintenance;
use esker_state::{Job, JobFilter, JobLogLine, JobState, TabularRow};
use esker_types::{ErrorCode, JobId, TableId};
use serde::{Deserialize, Serialize};

use crate::access::RequestAccess;
use crate::extract::{InJob, QueryParams};
use crate::openapi::{ChangeErrors, ReadErrors};
use crate::{ApiError, App};

/// The record of a job with the name of its warehouse, as JSON.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct JobView {
    /// The name of the warehouse; `None` if this server does not have it.
    pub warehouse: Option<String>,
    /// The record of the job.
    #[serde(flatten)]
    pub job: Job,
}

/// The number of tables up to which the jobs of each are read, instead of those of all tables.
const FEW_TABLES: usize = 32;

/// Adds the name of the warehouse to a job.
pub(crate) fn view(app: &App, job: Job) -> JobView {
    let warehouse = catalog_of(app, &job).map(|catalog| catalog.options().warehouse.clone());
    JobView { warehouse, job }
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
    caller: RequestAccess,
    QueryParams(query): QueryParams<JobsQuery>,
) -> Result<Json<Vec<JobView>>, ApiError> {
    let authority = caller.authority();
    let named = query.warehouse.map(|name| app.visible_warehouse(&name, &authority)).transpose()?;
    let warehouse = named.map(|warehouse| warehouse.catalog().warehouse().id);
    let filter = JobFilter { state: query.state, kind: query.kind, warehouse, ..JobFilter::default() };
    let jobs = seen_jobs(&app, &authority, &filter, query.limit).await?;
    Ok(Json(jobs.into_iter().map(|job| view(&app, job)).collect()))
}

/// Returns the newest jobs that a caller may read, at most `limit`.
///
/// More are read until the list is full, however many of them the caller may not read. Who may read few tables makes the server read
/// the jobs of these alone: the plans of all jobs together are large.
pub(crate) async fn seen_jobs(app: &App, reader: &Authority, filter: &JobFilter, limit: u32) -> Result<Vec<Job>, ApiError> {
    if reader.has(&ResourcePath::SERVER, Required::privilege(Privilege::Monitor)) {
        let jobs = app.overview().jobs(filter, limit).await?;
        return all_shown_to(app, jobs, reader).await;
    }
    let (mut tables, mut readable, mut reads_all) = (HashMap::new(), Vec::new(), false);
    // The jobs of every kind need this at least.
    let reads = |on: &ResourcePath<'_>| reader.has_for_content(on, Required::privilege(Privilege::ReadMetadata));
    let wanted = |catalog: &&Catalog| filter.warehouse.is_none_or(|id| id == catalog.warehouse().id);
    for catalog in app.warehouses().map(Maintenance::catalog).filter(wanted) {
        let rows = match filter.table {
            Some(id) => catalog.tabular_by_id(id).await?.into_iter().collect(),
            None => catalog.tables().await?,
        };
        reads_all |= reads(&catalog.warehouse_path());
        readable.extend(rows.iter().filter(|&row| on_job(catalog, Some(row), reads)).map(|row| row.id));
        tables.extend(rows.into_iter().map(|row| (row.id, row)));
    }
    let may_read = |job: &Job| {
        let may_read = |on: &ResourcePath<'_>| reader.has_for_content(on, to_read_job(&job.kind));
        catalog_of(app, job).is_some_and(|catalog| on_job(catalog, tables.get(&job.table_id), may_read))
    };
    if reads_all || readable.len() > FEW_TABLES {
        let jobs = newest(app, filter, limit, may_read).await?;
        return all_shown_to(app, jobs, reader).await;
    }
    let mut jobs = Vec::new();
    for table in readable {
        let of_table = JobFilter { table: Some(table), ..filter.clone() };
        jobs.extend(newest(app, &of_table, limit, may_read).await?);
    }
    jobs.sort_by_cached_key(|job| Reverse((job.created_ms, job.id.to_string())));
    jobs.truncate(limit as usize);
    all_shown_to(app, jobs, reader).await
}

/// Returns the newest jobs for which a function returns true, at most `limit`.
async fn newest(app: &App, filter: &JobFilter, limit: u32, may_read: impl Fn(&Job) -> bool + Send) -> Result<Vec<Job>, ApiError> {
    let mut read = limit.max(1);
    loop {
        let mut jobs = app.overview().jobs(filter, read).await?;
        let is_all = jobs.len() < read as usize;
        jobs.retain(&may_read);
        if is_all || jobs.len() >= limit as usize || read == u32::MAX {
            jobs.truncate(limit as usize);
            return Ok(jobs);
        }
        read = read.saturating_mul(4);
    }
}

/// Returns the catalog of a job's warehouse, if this server has it.
fn catalog_of<'a>(app: &'a App, job: &Job) -> Option<&'a Catalog> {
    app.warehouse_by_id(job.warehouse).map(Maintenance::catalog)
}

/// Checks that a reader has `READ_DATA` on the table of a job.
async fn may_read_rows(app: &App, job: &Job, reader: &Authority) -> Result<bool, ApiError> {
    if !reader.is_limited() {
        return Ok(true);
    }
    let may_read = |on: &ResourcePath<'_>| reader.has_for_content(on, Required::privilege(Privilege::ReadData));
    Ok(match catalog_of(app, job) {
        Some(catalog) => on_job(catalog, catalog.tabular_by_id(job.table_id).await?.as_ref(), may_read),
        None => may_read(&ResourcePath::SERVER),
    })
}

/// Replaces the progress of a job by a newer one if the job runs in this process.
fn with_progress(app: &App, mut job: Job) -> Job {
    if !job.state.is_over()
        && let Some(progress) = app.warehouse_by_id(job.warehouse).and_then(|warehouse| warehouse.progress(job.id))
    {
        job.progress = progress;
    }
    job
}

/// Does what [`shown_to`] does, for several jobs.
async fn all_shown_to(app: &App, jobs: Vec<Job>, reader: &Authority) -> Result<Vec<Job>, ApiError> {
    let mut read: HashMap<TableId, bool> = HashMap::new();
    let mut shown = Vec::with_capacity(jobs.len());
    for job in jobs {
        let reads = match read.get(&job.table_id) {
            Some(reads) => *reads,
            None => {
                let reads = may_read_rows(app, &job, reader).await?;
                read.insert(job.table_id, reads);
                reads
            }
        };
        shown.push(Told::of(&job, reader, reads).of_job(with_progress(app, job)));
    }
    Ok(shown)
}

/// Brings the progress of a job up to date, and takes out of it what its reader may not be told.
async fn shown_to(app: &App, job: Job, reader: &Authority) -> Result<Job, ApiError> {
    let reads = may_read_rows(app, &job, reader).await?;
    Ok(Told::of(&job, reader, reads).of_job(with_progress(app, job)))
}

/// Calls a function with the path to a job's table, or to the warehouse if the table is gone.
fn on_job<T>(catalog: &Catalog, table: Option<&TabularRow>, of: impl FnOnce(&ResourcePath<'_>) -> T) -> T {
    match table {
        Some(row) => of(&catalog.tabular_path(&row.name.namespace.key(), row)),
        None => of(&catalog.warehouse_path()),
    }
}

/// Finds a job that the caller may read.
///
/// # Errors
///
/// Returns [`ErrorCode::NotFound`] if there is no such job or its table is hidden, and [`ErrorCode::Forbidden`] if privileges are
/// missing.
pub(crate) async fn find_to_read(app: &App, caller: &RequestAccess, id: &str) -> Result<Job, ApiError> {
    let job = find(app.overview(), id).await?;
    check_job(app, caller, (id, &job), JobUse::Read).await?;
    shown_to(app, job, &caller.quiet_authority()).await
}

/// Returns the log of a job that the caller may read. It is empty unless the caller may read the rows, because it names files.
///
/// # Errors
///
/// Returns [`ErrorCode::Internal`] or [`ErrorCode::Unavailable`] if the database fails, and [`ErrorCode::NotFound`] if the job
/// has gone meanwhile.
pub(crate) async fn log_to_read(app: &App, caller: &RequestAccess, job: &Job) -> Result<Vec<JobLogLine>, ApiError> {
    // The job may lack its request, because it is shown to the caller.
    let stored = find(app.overview(), &job.id.to_string()).await?;
    let reader = caller.quiet_authority();
    match Told::of(&stored, &reader, may_read_rows(app, &stored, &reader).await?) {
        Told::All => Ok(app.overview().job_log(job.id).await?),
        Told::Counts | Told::Existence => Ok(Vec::new()),
    }
}

/// Finds a job of a warehouse that the caller may undo. The errors are those of [`find_to_read`].
pub(crate) async fn find_to_undo(app: &App, caller: &RequestAccess, catalog: &Catalog, id: &str) -> Result<Job, ApiError> {
    let job = find_to_change(app, caller, id).await?;
    // The catalog of another warehouse would reach the table's files with that one's keys and by that one's policies.
    if job.warehouse == catalog.warehouse().id { Ok(job) } else { Err(no_such_job(id)) }
}

/// Finds a job that the caller may cancel and undo. The errors are those of [`find_to_read`].
async fn find_to_change(app: &App, caller: &RequestAccess, id: &str) -> Result<Job, ApiError> {
    let job = find(app.overview(), id).await?;
    check_job(app, caller, (id, &job), JobUse::Change).await?;
    Ok(job)
}

/// What a request does with a job.
#[derive(Debug, Clone, Copy)]
enum JobUse {
    /// Shows it. `MONITOR` on the server is enough.
    Read,
    /// Cancels or undoes it.
    Change,
}

/// Checks the privileges on the table of a job, which a request names by `id`.
async fn check_job(app: &App, caller: &RequestAccess, (id, job): (&str, &Job), of: JobUse) -> Result<(), ApiError> {
    let authority = caller.authority();
    let required = match of {
        JobUse::Read => to_read_job(&job.kind),
        JobUse::Change => to_run_job(&job.kind),
    };
    let monitor = Need::new(ResourcePath::SERVER, Privilege::Monitor);
    let check = |on: &ResourcePath<'_>| {
        let needs = [Need { on: *on, required }, monitor];
        // The table is gone, and nobody knows if an access policy made an exception of it.
        let may_be_forbidden = authority.has(on, required) && !authority.has_for_content(on, required);
        match of {
            JobUse::Read if may_be_forbidden => authority.require(&monitor),
            JobUse::Change if may_be_forbidden => {
                let (principal, kind, on) = (caller.identity().to_string(), on.kind(), on.to_string());
                Err(RightsError::Denied { principal, kind, on, missing: required })
            }
            JobUse::Read => authority.require(Needs::AnyOf(&needs)),
            JobUse::Change => authority.require(Needs::All(&needs[..1])),
        }
    };
    let checked = match catalog_of(app, job) {
        Some(catalog) => on_job(catalog, catalog.tabular_by_id(job.table_id).await?.as_ref(), check),
        // Only whoever has the privileges on the server has them on a warehouse that the server does not serve.
        None => check(&ResourcePath::SERVER),
    };
    checked.map_err(|e| match e {
        RightsError::Hidden { .. } => no_such_job(id),
        e => e.into(),
    })
}

/// Makes the error for a job that does not exist.
fn no_such_job(id: &str) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("job {id} does not exist"))
}

/// Finds a job by the id in a path, whoever may read it.
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
pub(crate) async fn show(State(app): State<App>, caller: RequestAccess, InJob(id): InJob) -> Result<Json<JobView>, ApiError> {
    let job = find_to_read(&app, &caller, &id).await?;
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
pub(crate) async fn log(
    State(app): State<App>,
    caller: RequestAccess,
    InJob(id): InJob,
) -> Result<Json<Vec<JobLogLine>>, ApiError> {
    let job = find_to_read(&app, &caller, &id).await?;
    Ok(Json(log_to_read(&app, &caller, &job).await?))
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
pub(crate) async fn cancel(
    State(app): State<App>,
    caller: RequestAccess,
    InJob(id): InJob,
) -> Result<Json<CancelAnswer>, ApiError> {
    Ok(Json(CancelAnswer { state: cancel_by(&app, &caller, &id).await? }))
}

/// Cancels a job for a caller, and returns its state after that.
pub(crate) async fn cancel_by(app: &App, caller: &RequestAccess, id: &str) -> Result<JobState, ApiError> {
    let job = find_to_change(app, caller, id).await?;
    app.queue().cancel(job.id, &caller.principal().to_string()).await?.ok_or_else(|| no_such_job(id))
}
