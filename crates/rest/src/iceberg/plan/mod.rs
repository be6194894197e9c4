//! Scan planning: plan a scan, poll the plan, cancel it, and fetch its tasks.
//!
//! A plan is computed in a task of its own. Most are ready before the answer goes out; a longer one is answered `submitted`, and
//! the client polls. Tasks beyond the first page are fetched page by page.
//!
//! No server has to have a plan. The id of a plan and the names of its tasks say what was planned, on which snapshots, for whom and
//! until when, encrypted with a key that all servers share ([`token`]). A server that did not compute a plan computes it again, to the
//! same pages ([`scan`]), and keeps it for ten minutes after its last use and within a bound ([`progress`]). Only cancellations and long
//! scans are in the database. A plan is its principal's: others get the answer for a plan that does not exist. Rights are those of
//! each request.
//!
//! Spec: REST `planTableScan`, `fetchPlanningResult`, `cancelPlanning`, `fetchScanTasks`. Start reading at [`plan`].

mod progress;
mod scan;
mod token;

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use esker_catalog::Catalog;
use esker_state::TabularRow;
use esker_storage::Level;
use esker_types::{ErrorCode, Principal, TableName};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use self::progress::{PlanState, Progress, wait};
use self::scan::{PinnedScan, PlanRequest, Planned};
use self::token::{OpenedPlan, PlanToken};
use super::credentials;
use super::load::{CredentialRights, LoadOptions};
use super::restrictions::require_files;
use crate::access::RequestAccess;
use crate::extract::{InTable, InWarehouse, JsonBody};
use crate::rate::AtWork;
use crate::{ApiError, App, Caller};

pub(crate) use self::progress::Plans;

/// Plans a scan, and answers with the first page of its tasks, or with `submitted` if planning takes longer than the wait.
///
/// Route: `POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan`. Spec: REST `planTableScan`.
pub(crate) async fn plan(
    State(app): State<App>,
    (Extension(caller), Extension(at_work)): (Caller, Extension<AtWork>),
    access: RequestAccess,
    warehouse: InWarehouse,
    InTable(name): InTable,
    asked: LoadOptions,
    JsonBody(request): JsonBody<PlanRequest>,
) -> Result<Json<Value>, ApiError> {
    let catalog = warehouse.catalog();
    let (row, rights) = access.table_through(&app, catalog, &name, asked.chain()).await?;
    require_files(&row, &rights)?;
    let asked = asked.with_rights(rights);
    let table = catalog.load_row(row).await?;
    let scan = PinnedScan::of(&table, request, asked.chain().clone())?;
    let checked = scan.resolve(&table)?;
    let (id, row, longest) = (Uuid::now_v7(), table.row.clone(), longest_wait(&app));
    let mut progress = app.inner.plans.start(id, catalog.clone(), table, checked, at_work).await;
    wait(&mut progress, longest).await;
    // With a wait of 0 every plan is answered as submitted, even one that is ready.
    let reached = if longest.is_zero() { PlanState::Submitted } else { progress.borrow().clone() };
    if let PlanState::Failed(error) = reached {
        // The client gets no id to ask for it.
        app.inner.plans.forget(id).await;
        return Err(error);
    }
    let token = PlanToken::make(&app, id, row.id, scan).await?;
    let mut answer = match reached {
        PlanState::Completed(planned) => {
            let mut answer = first_page(&app, &caller, &token, &planned).await?;
            add_credentials(&mut answer, catalog, &row, &asked).await;
            answer
        }
        PlanState::Submitted | PlanState::Failed(_) => json!({"status": "submitted"}),
    };
    answer["plan-id"] = json!(token.seal(&app, &caller).await?);
    Ok(Json(answer))
}

/// Returns the state of a plan, with the first page of its tasks if it is completed.
///
/// Route: `GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}`. Spec: REST `fetchPlanningResult`.
pub(crate) async fn fetch(
    State(app): State<App>,
    (Extension(caller), Extension(at_work)): (Caller, Extension<AtWork>),
    access: RequestAccess,
    warehouse: InWarehouse,
    InTable(name): InTable,
    Path((.., id)): Path<(String, String, String, String)>,
    asked: LoadOptions,
) -> Result<Json<Value>, ApiError> {
    let (catalog, missing) = (warehouse.catalog(), || no_such_plan(&id));
    let opened = OpenedPlan::of(&app, &caller, &id).await?;
    let named = named_plan(&app, &access, (catalog, &name), opened, &missing).await?;
    let token = &named.plan.token;
    if named.plan.is_cancelled {
        app.inner.plans.forget(token.id).await;
        return Ok(Json(json!({"status": "cancelled"})));
    }
    let progress = progress_of(&app, catalog, &named, &missing, at_work).await?;
    let reached = progress.borrow().clone();
    Ok(Json(match reached {
        PlanState::Submitted => json!({"status": "submitted"}),
        PlanState::Completed(planned) => {
            let mut answer = first_page(&app, &caller, token, &planned).await?;
            let asked = asked.with_rights(named.rights);
            add_credentials(&mut answer, catalog, &named.row, &asked).await;
            answer
        }
        PlanState::Failed(error) => {
            app.inner.plans.forget(token.id).await;
            let mut body = json!(error.body());
            body["status"] = json!("failed");
            body
        }
    }))
}

/// Cancels a plan, on all servers. A poll then answers `cancelled`.
///
/// Route: `DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}`. Spec: REST `cancelPlanning`.
pub(crate) async fn cancel(
    State(app): State<App>,
    Extension(caller): Caller,
    access: RequestAccess,
    warehouse: InWarehouse,
    InTable(name): InTable,
    Path((.., id)): Path<(String, String, String, String)>,
) -> Result<StatusCode, ApiError> {
    let opened = OpenedPlan::of(&app, &caller, &id).await?;
    let named = named_plan(&app, &access, (warehouse.catalog(), &name), opened, &|| no_such_plan(&id)).await?;
    named.plan.token.cancel(&app).await?;
    app.inner.plans.forget(named.plan.token.id).await;
    Ok(StatusCode::NO_CONTENT)
}

/// The request for a page of scan tasks.
///
/// Spec: REST `FetchScanTasksRequest`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct TasksRequest {
    /// The name of the page, as a server made it.
    plan_task: String,
}

/// Returns a page of the tasks of a completed plan.
///
/// A server that does not have the plan computes it first. The page is missing if the plan has become another one.
///
/// Route: `POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/tasks`. Spec: REST `fetchScanTasks`.
pub(crate) async fn tasks(
    State(app): State<App>,
    (Extension(caller), Extension(at_work)): (Caller, Extension<AtWork>),
    access: RequestAccess,
    warehouse: InWarehouse,
    InTable(name): InTable,
    JsonBody(request): JsonBody<TasksRequest>,
) -> Result<Json<Value>, ApiError> {
    let missing = || {
        let what = format!("plan task {:?} does not exist, or its plan has expired; plan the scan again", request.plan_task);
        ApiError::new(ErrorCode::NoSuchPlanTask, what)
    };
    let catalog = warehouse.catalog();
    let (opened, place) = OpenedPlan::of_task(&app, &caller, &request.plan_task).await?.unzip();
    let named = named_plan(&app, &access, (catalog, &name), opened, &missing).await?;
    let place = place.filter(|_| !named.plan.is_cancelled).ok_or_else(missing)?;
    let mut progress = progress_of(&app, catalog, &named, &missing, at_work).await?;
    let reached = progress.wait_for(|state| !matches!(state, PlanState::Submitted)).await.map_err(|_| missing())?.clone();
    match reached {
        PlanState::Completed(planned) => {
            let is_there = planned.digest == place.digest && place.page < planned.pages();
            if is_there { Ok(Json(planned.print(place.page)?)) } else { Err(missing()) }
        }
        PlanState::Failed(error) => {
            app.inner.plans.forget(named.plan.token.id).await;
            // The files of the snapshot may be gone.
            if error.code().http() == 404 { Err(missing()) } else { Err(error) }
        }
        PlanState::Submitted => Err(missing()),
    }
}

/// Returns the time for which a plan is waited for before it is answered as submitted.
fn longest_wait(app: &App) -> Duration {
    Duration::from_millis(app.inner.options.plan_wait_ms)
}

/// Makes the error for a plan that does not exist.
fn no_such_plan(id: &str) -> ApiError {
    ApiError::new(ErrorCode::NoSuchPlan, format!("plan {id} does not exist, or has expired; plan the scan again"))
}

/// A plan that a request names, of a table whose files its principal may read now.
struct NamedPlan {
    plan: OpenedPlan,
    row: TabularRow,
    rights: CredentialRights,
}

/// Checks that the caller may read the files of the table that a plan is of: the plan may be older than the restrictions.
///
/// A request about a plan names no views, so those of the plan count: with them the rights of their owners are checked anew.
async fn named_plan(
    app: &App,
    access: &RequestAccess,
    (catalog, name): (&Catalog, &TableName),
    opened: Option<OpenedPlan>,
    missing: &(impl Fn() -> ApiError + Sync),
) -> Result<NamedPlan, ApiError> {
    let chain = opened.as_ref().map(OpenedPlan::chain).unwrap_or_default();
    let (row, rights) = access.table_through(app, catalog, name, &chain).await?;
    require_files(&row, &rights)?;
    let plan = opened.filter(|plan| plan.token.table == row.id).ok_or_else(missing)?;
    Ok(NamedPlan { plan, row, rights })
}

/// Returns the progress of a plan. A plan that this server does not have is computed, and waited for as at its first request.
async fn progress_of(
    app: &App,
    catalog: &Catalog,
    named: &NamedPlan,
    missing: &(impl Fn() -> ApiError + Sync),
    at_work: AtWork,
) -> Result<Progress, ApiError> {
    let id = named.plan.token.id;
    if let Some(progress) = app.inner.plans.find(id).await {
        return Ok(progress);
    }
    let table = catalog.load_row(named.row.clone()).await?;
    let scan = named.plan.read_scan(app).await?.ok_or_else(missing)?;
    // A snapshot or the schema is gone.
    let checked = scan.resolve(&table).map_err(|_| missing())?;
    let mut progress = app.inner.plans.start(id, catalog.clone(), table, checked, at_work).await;
    wait(&mut progress, longest_wait(app)).await;
    Ok(progress)
}

/// Prints the first page of a completed plan, with the names of the other pages.
async fn first_page(app: &App, caller: &Principal, token: &PlanToken, planned: &Planned) -> Result<Value, ApiError> {
    let mut answer = planned.print(0)?;
    answer["status"] = json!("completed");
    if planned.pages() > 1 {
        answer["plan-tasks"] = json!(token.tasks(app, caller, planned).await?);
    }
    Ok(answer)
}

/// Adds credentials for reading the files of a plan, if the client asks for some and may get them.
///
/// Spec: REST `CompletedPlanningResult`, `storage-credentials`.
async fn add_credentials(answer: &mut Value, catalog: &Catalog, row: &TabularRow, asked: &LoadOptions) {
    if !asked.wants_credentials() && !asked.wants_signing() {
        return;
    }
    let table = match catalog.load_row(row.clone()).await {
        Ok(table) => table,
        Err(error) => {
            tracing::warn!(table = %row.name, %error, "no credentials are vended with a plan: the table can't be read");
            return;
        }
    };
    let access = credentials::for_table_if_possible(catalog, &table, asked, Level::Read).await;
    if let Some(entry) = access.and_then(|access| access.entry()) {
        answer["storage-credentials"] = json!([entry]);
    }
}
