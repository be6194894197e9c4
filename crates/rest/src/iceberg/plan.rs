//! Scan planning: plan a scan, poll the plan, cancel it, and fetch its tasks.
//!
//! A plan is computed in a task of its own. Most are ready before the answer goes out; a longer one is answered `submitted`, and
//! the client polls. Tasks beyond the first page are fetched page by page. Plans are in the memory of this process, for ten
//! minutes after their last use and within a bound. A client whose plan has expired gets 404 and plans again. A plan is its
//! principal's: others get the answer for a plan that does not exist. The name of a task ends with a tag, over the plan, the page, the
//! principal and the table. So only a server of this database makes one, and nobody uses that of another principal or table.
//!
//! Spec: REST `planTableScan`, `fetchPlanningResult`, `cancelPlanning`, `fetchScanTasks`. Start reading at [`plan`], then
//! `CheckedScan`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use esker_auth::KeyPurpose;
use esker_catalog::{Catalog, CatalogError, LoadedTable};
use esker_format::{Schema, SchemaRef, SnapshotRef};
use esker_storage::Level;
use esker_table::{Expr, ScanPlan, TableError, plan_appended, plan_scan, projection};
use esker_types::{ErrorCode, Principal, TableId, TableName, catch_panic};
use moka::future::Cache;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::content::ContentPrinter;
use super::credentials;
use super::definer::ReferencedBy;
use super::load::{CredentialRights, LoadOptions};
use super::restrictions::require_files;
use crate::access::RequestAccess;
use crate::extract::{InTable, InWarehouse, JsonBody};
use crate::rate::AtWork;
use crate::{ApiError, App, Caller};

/// The maximum number of tasks in one answer.
const PAGE: usize = 2_000;

/// The time after its last use at which a plan expires.
const IDLE: Duration = Duration::from_secs(600);

/// The approximate maximum size of all plans, in bytes.
const CACHE_BYTES: u64 = 128 << 20;

/// The approximate size of a task in memory, in bytes.
const TASK_BYTES: usize = 1_000;

/// The request to plan a scan.
///
/// Spec: REST `PlanTableScanRequest`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct PlanRequest {
    snapshot_id: Option<i64>,
    start_snapshot_id: Option<i64>,
    end_snapshot_id: Option<i64>,
    #[serde(default)]
    select: Vec<String>,
    filter: Option<Value>,
    min_rows_requested: Option<u64>,
    #[serde(default = "yes")]
    case_sensitive: bool,
    #[serde(default)]
    use_snapshot_schema: bool,
    #[serde(default)]
    stats_fields: Vec<String>,
}

/// Returns the default of `case-sensitive`.
const fn yes() -> bool {
    true
}

/// A completed plan, with the table and the columns that its tasks are printed with.
#[derive(Debug)]
struct Planned {
    table: LoadedTable,
    stats: HashSet<i32>,
    plan: ScanPlan,
}

/// The state of a plan.
///
/// Spec: REST `PlanStatus`.
#[derive(Debug, Clone)]
enum PlanState {
    Submitted,
    Completed(Arc<Planned>),
    Failed(ApiError),
    Cancelled,
}

#[derive(Debug, Clone)]
struct PlanEntry {
    principal: Principal,
    table: TableId,
    /// The views through which the principal reads the table. Their owner's rights are checked again at each request.
    chain: ReferencedBy,
    progress: watch::Receiver<PlanState>,
    task: AbortHandle,
    weight: u32,
}

/// The scan plans of this process, by their id.
#[derive(Debug)]
pub(crate) struct Plans(Cache<Uuid, PlanEntry>);

impl Plans {
    /// Makes an empty cache of plans.
    pub(crate) fn new() -> Self {
        let cache = Cache::builder().time_to_idle(IDLE).weigher(|_, entry: &PlanEntry| entry.weight).max_capacity(CACHE_BYTES);
        Self(cache.build())
    }

    /// Returns the views through which a principal planned a scan, by the id of the plan in a path.
    async fn chain(&self, id: &str, principal: &Principal) -> ReferencedBy {
        let Ok(id) = id.parse::<Uuid>() else { return ReferencedBy::default() };
        let entry = self.0.get(&id).await.filter(|entry| entry.principal == *principal);
        entry.map(|entry| entry.chain).unwrap_or_default()
    }
}

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
    let catalog = warehouse.catalog().clone();
    let (row, rights) = access.table_through(&app, &catalog, &name, asked.chain()).await?;
    require_files(&row, &rights)?;
    let asked = asked.with_rights(rights);
    let table = catalog.load_row(row).await?;
    let scan = CheckedScan::check(&table, &request)?;
    let (id, entry_table) = (Uuid::now_v7(), table.row.id);
    let (done, mut progress) = watch::channel(PlanState::Submitted);
    let task = tokio::spawn(async move {
        let result = match catch_panic(scan.run(&catalog, table)).await {
            Ok(Ok(planned)) => PlanState::Completed(Arc::new(planned)),
            Ok(Err(e)) => PlanState::Failed(e.into()),
            // Without a final state the client would poll for ever.
            Err(panic) => PlanState::Failed(ApiError::new(ErrorCode::Internal, format!("planning hit a bug of Esker: {panic}"))),
        };
        done.send_replace(result);
        // Until here the request counts as one at work, whenever it was answered.
        drop(at_work);
    });
    let (progress_seen, task, chain) = (progress.clone(), task.abort_handle(), asked.chain().clone());
    let mut entry = PlanEntry { principal: caller, table: entry_table, chain, progress: progress_seen, task, weight: 1 };
    app.inner.plans.0.insert(id, entry.clone()).await;
    let wait = Duration::from_millis(app.inner.options.plan_wait_ms);
    // A plan that is not ready after the wait is answered as submitted.
    let _ = tokio::time::timeout(wait, progress.wait_for(|p| !matches!(p, PlanState::Submitted))).await;
    // With a wait of 0 every plan is answered as submitted, even one that is ready.
    let reached = if wait.is_zero() { PlanState::Submitted } else { progress.borrow().clone() };
    match &reached {
        PlanState::Failed(e) => Err(e.clone()),
        PlanState::Completed(planned) => {
            entry.weight = u32::try_from(planned.plan.tasks.len() * TASK_BYTES).unwrap_or(u32::MAX);
            app.inner.plans.0.insert(id, entry).await;
            let mut answer = first_page(&app, access.principal(), id, planned).await?;
            answer["plan-id"] = json!(id);
            add_credentials(&mut answer, warehouse.catalog(), &planned.table, &asked).await;
            Ok(Json(answer))
        }
        PlanState::Submitted | PlanState::Cancelled => Ok(Json(json!({"status": "submitted", "plan-id": id}))),
    }
}

/// Returns the state of a plan, with the first page of its tasks if it is completed.
///
/// Route: `GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}`. Spec: REST `fetchPlanningResult`.
pub(crate) async fn fetch(
    State(app): State<App>,
    Extension(caller): Caller,
    access: RequestAccess,
    warehouse: InWarehouse,
    InTable(name): InTable,
    Path((.., id)): Path<(String, String, String, String)>,
    asked: LoadOptions,
) -> Result<Json<Value>, ApiError> {
    let (table, rights) = planned_table(&app, &access, warehouse.catalog(), &name, &id).await?;
    let asked = asked.with_rights(rights);
    let (id, entry) = find(&app, &caller, table, &id).await?;
    let progress = entry.progress.borrow().clone();
    Ok(Json(match &progress {
        PlanState::Submitted => json!({"status": "submitted"}),
        PlanState::Cancelled => json!({"status": "cancelled"}),
        PlanState::Completed(planned) => {
            let mut answer = first_page(&app, &caller, id, planned).await?;
            add_credentials(&mut answer, warehouse.catalog(), &planned.table, &asked).await;
            answer
        }
        PlanState::Failed(e) => {
            let mut body = json!(e.body());
            body["status"] = json!("failed");
            body
        }
    }))
}

/// Cancels a plan. Its entry stays, so that a poll answers `cancelled`.
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
    let (table, _) = planned_table(&app, &access, warehouse.catalog(), &name, &id).await?;
    let (id, entry) = find(&app, &caller, table, &id).await?;
    entry.task.abort();
    let (_, progress) = watch::channel(PlanState::Cancelled);
    app.inner.plans.0.insert(id, PlanEntry { progress, weight: 1, ..entry }).await;
    Ok(StatusCode::NO_CONTENT)
}

/// The request for a page of scan tasks.
///
/// Spec: REST `FetchScanTasksRequest`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct TasksRequest {
    /// The name of the page: the id of the plan, the number of the page, and the tag, separated by dots.
    plan_task: String,
}

/// Returns a page of the tasks of a completed plan.
///
/// Route: `POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/tasks`. Spec: REST `fetchScanTasks`.
pub(crate) async fn tasks(
    State(app): State<App>,
    Extension(caller): Caller,
    access: RequestAccess,
    warehouse: InWarehouse,
    InTable(name): InTable,
    JsonBody(request): JsonBody<TasksRequest>,
) -> Result<Json<Value>, ApiError> {
    let plan = request.plan_task.split('.').next().unwrap_or_default();
    let (table, _) = planned_table(&app, &access, warehouse.catalog(), &name, plan).await?;
    let missing = || {
        let what = format!("plan task {:?} does not exist, or its plan has expired; plan the scan again", request.plan_task);
        ApiError::new(ErrorCode::NoSuchPlanTask, what)
    };
    let mut parts = request.plan_task.splitn(3, '.');
    let (Some(id), Some(page), Some(tag)) = (parts.next(), parts.next(), parts.next()) else { return Err(missing()) };
    let (identity, table_id) = (caller.identity(), table.to_string());
    let signed = signed_parts(id, page, &identity, &table_id);
    if !app.inner.options.keys.verify(KeyPurpose::Plans, &signed, tag).await? {
        return Err(missing());
    }
    let page: usize = page.parse().map_err(|_| missing())?;
    let (_, entry) = find(&app, &caller, table, id).await.map_err(|_| missing())?;
    let progress = entry.progress.borrow().clone();
    let PlanState::Completed(planned) = &progress else { return Err(missing()) };
    if page.saturating_mul(PAGE) >= planned.plan.tasks.len() {
        return Err(missing());
    }
    Ok(Json(print(planned, page)?))
}

/// Looks up the table of a plan, if the caller may read its files: a plan may be older than the restrictions.
///
/// A request about a plan names no views, so those of the plan count: with them the rights of their owners are checked anew.
async fn planned_table(
    app: &App,
    access: &RequestAccess,
    catalog: &Catalog,
    name: &TableName,
    plan: &str,
) -> Result<(TableId, CredentialRights), ApiError> {
    let chain = app.inner.plans.chain(plan, access.principal()).await;
    let (table, rights) = access.table_through(app, catalog, name, &chain).await?;
    require_files(&table, &rights)?;
    Ok((table.id, rights))
}

/// Finds the plan that a principal made of a table, by the id in a path.
async fn find(app: &App, caller: &Principal, table: TableId, id: &str) -> Result<(Uuid, PlanEntry), ApiError> {
    let missing =
        || ApiError::new(ErrorCode::NoSuchPlan, format!("plan {id} does not exist, or has expired; plan the scan again"));
    let id = id.parse::<Uuid>().map_err(|_| missing())?;
    let entry = app.inner.plans.0.get(&id).await;
    let entry = entry.filter(|entry| entry.table == table && entry.principal == *caller);
    entry.map(|entry| (id, entry)).ok_or_else(missing)
}

/// Prints the first page of a completed plan, with the names of the other pages.
async fn first_page(app: &App, caller: &Principal, id: Uuid, planned: &Planned) -> Result<Value, ApiError> {
    let mut answer = print(planned, 0)?;
    answer["status"] = json!("completed");
    let pages = planned.plan.tasks.len().div_ceil(PAGE);
    if pages > 1 {
        let (id, identity, table) = (id.to_string(), caller.identity(), planned.table.row.id.to_string());
        let mut names = Vec::with_capacity(pages - 1);
        for page in 1..pages {
            let page = page.to_string();
            let tag = app.inner.options.keys.sign(KeyPurpose::Plans, &signed_parts(&id, &page, &identity, &table)).await?;
            names.push(format!("{id}.{page}.{tag}"));
        }
        answer["plan-tasks"] = json!(names);
    }
    Ok(answer)
}

/// Returns what the tag of a task is over.
fn signed_parts<'a>(plan: &'a str, page: &'a str, identity: &'a str, table: &'a str) -> [&'a [u8]; 4] {
    [plan, page, identity, table].map(str::as_bytes)
}

/// Adds credentials for reading the files of a plan, if the client asks for some and may get them.
///
/// Spec: REST `CompletedPlanningResult`, `storage-credentials`.
async fn add_credentials(answer: &mut Value, catalog: &Catalog, table: &LoadedTable, asked: &LoadOptions) {
    let access = credentials::for_table_if_possible(catalog, table, asked, Level::Read).await;
    if let Some(entry) = access.and_then(|access| access.entry()) {
        answer["storage-credentials"] = json!([entry]);
    }
}

/// Prints a page of a plan's tasks, with their delete files.
fn print(planned: &Planned, page: usize) -> Result<Value, ApiError> {
    let tasks = planned.plan.tasks.chunks(PAGE).nth(page).unwrap_or_default();
    let printer = ContentPrinter::new(&planned.table.metadata, planned.stats.clone());
    Ok(printer.tasks(&planned.plan, tasks).map_err(CatalogError::from)?)
}

/// A scan whose arguments were checked against the table.
#[derive(Debug)]
struct CheckedScan {
    schema: SchemaRef,
    filter: Expr,
    stats: HashSet<i32>,
    range: ScanRange,
    min_rows: Option<u64>,
}

/// The part of a table's history that a scan reads.
#[derive(Debug)]
enum ScanRange {
    /// The rows of one snapshot. A table without a snapshot has none.
    Snapshot(Option<SnapshotRef>),
    /// The rows that were appended after the snapshot with the id, up to the other snapshot.
    Appended(i64, SnapshotRef),
}

impl CheckedScan {
    /// Checks the arguments of a request against the table: snapshots, schema, columns and filter.
    fn check(table: &LoadedTable, request: &PlanRequest) -> Result<Self, ApiError> {
        let metadata = &table.metadata;
        let invalid = |what: String| ApiError::new(ErrorCode::BadRequest, what);
        let snapshot = |id: i64| {
            let found = metadata.snapshots.get(id).cloned();
            found.ok_or_else(|| invalid(format!("table {} has no snapshot {id}", table.row.name)))
        };
        let range = match (request.snapshot_id, request.start_snapshot_id, request.end_snapshot_id) {
            (Some(id), None, None) => ScanRange::Snapshot(Some(snapshot(id)?)),
            (None, None, None) => ScanRange::Snapshot(metadata.current_snapshot().cloned()),
            (None, Some(start), Some(end)) => ScanRange::Appended(start, snapshot(end)?),
            (Some(_), ..) => {
                return Err(invalid("snapshot-id excludes start-snapshot-id and end-snapshot-id".to_owned()));
            }
            (None, ..) => return Err(invalid("an incremental scan needs start-snapshot-id and end-snapshot-id".to_owned())),
        };
        let schema = match &range {
            ScanRange::Snapshot(Some(snapshot)) if request.use_snapshot_schema => snapshot.schema_id,
            _ => None,
        };
        let schema = match schema {
            None => metadata.current_schema().clone(),
            Some(id) => metadata.schema_by_id(id).cloned().ok_or_else(|| {
                invalid(format!("the snapshot has the schema {id}, which the metadata of table {} does not have", table.row.name))
            })?,
        };
        let ids = |names: &[String]| -> Result<HashSet<i32>, ApiError> {
            names.iter().map(|name| field(&schema, name, request.case_sensitive)).collect()
        };
        ids(&request.select)?;
        let stats = ids(&request.stats_fields)?;
        let filter = match &request.filter {
            Some(json) => Expr::parse(json, &schema, request.case_sensitive).map_err(CatalogError::from)?,
            None => Expr::True,
        };
        Ok(Self { filter, stats, range, min_rows: request.min_rows_requested, schema })
    }

    /// Plans the scan: reads the manifests and applies the filter.
    async fn run(self, catalog: &Catalog, table: LoadedTable) -> Result<Planned, CatalogError> {
        let metadata = &table.metadata;
        let wanted = projection(&self.filter, self.stats.iter().copied());
        let plan = match &self.range {
            ScanRange::Snapshot(snapshot) => {
                let files = match snapshot {
                    Some(snapshot) => catalog.snapshot_files(&table, snapshot, &wanted).await?,
                    None => Arc::default(),
                };
                plan_scan(metadata, &self.schema, &files, &self.filter, self.min_rows)?
            }
            ScanRange::Appended(start, end) => {
                plan_appended(catalog.manifests(), metadata, &self.schema, *start, end, &self.filter, &wanted).await?
            }
        };
        Ok(Planned { stats: self.stats, plan, table })
    }
}

/// Returns the id of the field with a name.
fn field(schema: &Schema, name: &str, case_sensitive: bool) -> Result<i32, ApiError> {
    let found = match case_sensitive {
        true => schema.field_by_name(name),
        false => schema.field_by_name_case_insensitive(name),
    };
    let what = || format!("the scan names the column {name:?}, which the table does not have");
    Ok(found.map(|f| f.id).ok_or_else(|| CatalogError::from(TableError::Filter(what())))?)
}
