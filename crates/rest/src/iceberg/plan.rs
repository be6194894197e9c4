//! Scan planning: plan, poll, cancel, fetch tasks.
//!
//! A plan is worked out in a task of its own. Most are done before the answer goes out; a longer one is answered `submitted`, to be
//! polled. What does not fit into one answer is fetched page by page. Plans live in this process's memory, for minutes and within a
//! bound: a client whose plan is gone gets a clean 404 and plans again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use esker_catalog::{Catalog, CatalogError, LoadedTable};
use esker_format::{Schema, SchemaRef, SnapshotRef};
use esker_table::{Expr, ScanPlan, TableError, plan_appended, plan_scan, projection};
use esker_types::{ErrorCode, TableId, catch_panic};
use moka::future::Cache;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::content::Printer;
use crate::extract::{Body, In, InTable};
use crate::{ApiError, App};

/// Tasks in one answer.
const PAGE: usize = 2_000;

/// How long a plan that nobody asks for is kept.
const IDLE: Duration = Duration::from_secs(600);

/// Bytes that all plans may take, by a rough count.
const CACHE_BYTES: u64 = 128 << 20;

/// Bytes of a task, roughly.
const TASK_BYTES: usize = 1_000;

/// A request to plan a scan (REST specification, `PlanTableScanRequest`).
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

const fn yes() -> bool {
    true
}

/// A finished plan, with what its tasks are printed with.
#[derive(Debug)]
struct Planned {
    table: LoadedTable,
    stats: HashSet<i32>,
    plan: ScanPlan,
}

#[derive(Debug, Clone)]
enum Progress {
    Submitted,
    Completed(Arc<Planned>),
    Failed(ApiError),
    Cancelled,
}

#[derive(Debug, Clone)]
struct Entry {
    table: TableId,
    progress: watch::Receiver<Progress>,
    task: AbortHandle,
    weight: u32,
}

/// The plans of this process.
#[derive(Debug)]
pub(crate) struct Plans(Cache<Uuid, Entry>);

impl Plans {
    pub(crate) fn new() -> Self {
        let cache = Cache::builder().time_to_idle(IDLE).weigher(|_, entry: &Entry| entry.weight).max_capacity(CACHE_BYTES);
        Self(cache.build())
    }
}

/// `POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan`
pub(crate) async fn plan(
    State(app): State<App>,
    warehouse: In,
    InTable(name): InTable,
    Body(request): Body<PlanRequest>,
) -> Result<Json<Value>, ApiError> {
    let catalog = warehouse.catalog().clone();
    let table = catalog.load(&name).await?;
    let scan = Scan::check(&table, &request)?;
    let (id, entry_table) = (Uuid::now_v7(), table.row.id);
    let (done, mut progress) = watch::channel(Progress::Submitted);
    let task = tokio::spawn(async move {
        let result = match catch_panic(scan.run(&catalog, table)).await {
            Ok(Ok(planned)) => Progress::Completed(Arc::new(planned)),
            Ok(Err(e)) => Progress::Failed(e.into()),
            // Else the client would ask for ever.
            Err(panic) => Progress::Failed(ApiError::new(ErrorCode::Internal, format!("the plan hit a bug: {panic}"))),
        };
        done.send_replace(result);
    });
    let mut entry = Entry { table: entry_table, progress: progress.clone(), task: task.abort_handle(), weight: 1 };
    app.inner.plans.0.insert(id, entry.clone()).await;
    let wait = Duration::from_millis(app.inner.options.plan_wait_ms);
    // A plan that takes longer is answered as it stands.
    let _ = tokio::time::timeout(wait, progress.wait_for(|p| !matches!(p, Progress::Submitted))).await;
    // Without any wait it is always the client that asks again.
    let reached = if wait.is_zero() { Progress::Submitted } else { progress.borrow().clone() };
    match &reached {
        Progress::Failed(e) => Err(e.clone()),
        Progress::Completed(planned) => {
            entry.weight = u32::try_from(planned.plan.tasks.len() * TASK_BYTES).unwrap_or(u32::MAX);
            app.inner.plans.0.insert(id, entry).await;
            let mut answer = first_page(id, planned)?;
            answer["plan-id"] = json!(id);
            Ok(Json(answer))
        }
        Progress::Submitted | Progress::Cancelled => Ok(Json(json!({"status": "submitted", "plan-id": id}))),
    }
}

/// `GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}`
pub(crate) async fn fetch(
    State(app): State<App>,
    warehouse: In,
    InTable(name): InTable,
    Path((.., id)): Path<(String, String, String, String)>,
) -> Result<Json<Value>, ApiError> {
    let (id, entry) = find(&app, warehouse.catalog(), &name, &id).await?;
    let progress = entry.progress.borrow().clone();
    Ok(Json(match &progress {
        Progress::Submitted => json!({"status": "submitted"}),
        Progress::Cancelled => json!({"status": "cancelled"}),
        Progress::Completed(planned) => first_page(id, planned)?,
        Progress::Failed(e) => {
            let mut body = e.body();
            body["status"] = json!("failed");
            body
        }
    }))
}

/// `DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}`
pub(crate) async fn cancel(
    State(app): State<App>,
    warehouse: In,
    InTable(name): InTable,
    Path((.., id)): Path<(String, String, String, String)>,
) -> Result<StatusCode, ApiError> {
    let (id, entry) = find(&app, warehouse.catalog(), &name, &id).await?;
    entry.task.abort();
    let (_, progress) = watch::channel(Progress::Cancelled);
    app.inner.plans.0.insert(id, Entry { progress, weight: 1, ..entry }).await;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct TasksRequest {
    plan_task: String,
}

/// `POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/tasks`
pub(crate) async fn tasks(
    State(app): State<App>,
    warehouse: In,
    InTable(name): InTable,
    Body(request): Body<TasksRequest>,
) -> Result<Json<Value>, ApiError> {
    let missing = || {
        let what = format!("plan task {:?} does not exist, or its plan is gone: plan again", request.plan_task);
        ApiError::new(ErrorCode::NoSuchPlanTask, what)
    };
    let (id, page) = request.plan_task.rsplit_once('.').ok_or_else(missing)?;
    let page: usize = page.parse().map_err(|_| missing())?;
    let (_, entry) = find(&app, warehouse.catalog(), &name, id).await.map_err(|e| match e.code() {
        ErrorCode::NoSuchPlan => missing(),
        _ => e,
    })?;
    let progress = entry.progress.borrow().clone();
    let Progress::Completed(planned) = &progress else { return Err(missing()) };
    if page.saturating_mul(PAGE) >= planned.plan.tasks.len() {
        return Err(missing());
    }
    Ok(Json(print(planned, page)?))
}

async fn find(app: &App, catalog: &Catalog, name: &esker_types::TableName, id: &str) -> Result<(Uuid, Entry), ApiError> {
    let table = catalog.state().table(catalog.warehouse(), name).await?;
    let missing = || ApiError::new(ErrorCode::NoSuchPlan, format!("plan {id} does not exist, or is gone: plan again"));
    let id = id.parse::<Uuid>().map_err(|_| missing())?;
    let entry = app.inner.plans.0.get(&id).await.filter(|entry| entry.table == table.id);
    entry.map(|entry| (id, entry)).ok_or_else(missing)
}

/// What a completed plan answers: the first page, and the names of the others.
fn first_page(id: Uuid, planned: &Planned) -> Result<Value, ApiError> {
    let mut answer = print(planned, 0)?;
    answer["status"] = json!("completed");
    let pages = planned.plan.tasks.len().div_ceil(PAGE);
    if pages > 1 {
        answer["plan-tasks"] = (1..pages).map(|page| format!("{id}.{page}")).collect();
    }
    Ok(answer)
}

fn print(planned: &Planned, page: usize) -> Result<Value, ApiError> {
    let tasks = planned.plan.tasks.chunks(PAGE).nth(page).unwrap_or_default();
    let printer = Printer::new(&planned.table.metadata, planned.stats.clone());
    Ok(printer.tasks(&planned.plan, tasks).map_err(CatalogError::from)?)
}

/// A scan whose arguments were found to make sense.
#[derive(Debug)]
struct Scan {
    schema: SchemaRef,
    filter: Expr,
    stats: HashSet<i32>,
    range: Range,
    min_rows: Option<u64>,
}

#[derive(Debug)]
enum Range {
    Snapshot(Option<SnapshotRef>),
    /// What was appended after the one, up to the other.
    Appended(i64, SnapshotRef),
}

impl Scan {
    fn check(table: &LoadedTable, request: &PlanRequest) -> Result<Self, ApiError> {
        let metadata = &table.metadata;
        let invalid = |what: String| ApiError::new(ErrorCode::BadRequest, what);
        let snapshot = |id: i64| {
            let found = metadata.snapshots.get(id).cloned();
            found.ok_or_else(|| invalid(format!("table {} has no snapshot {id}", table.row.name)))
        };
        let range = match (request.snapshot_id, request.start_snapshot_id, request.end_snapshot_id) {
            (Some(id), None, None) => Range::Snapshot(Some(snapshot(id)?)),
            (None, None, None) => Range::Snapshot(metadata.current_snapshot().cloned()),
            (None, Some(start), Some(end)) => Range::Appended(start, snapshot(end)?),
            (Some(_), ..) => {
                return Err(invalid("snapshot-id excludes start-snapshot-id and end-snapshot-id".to_owned()));
            }
            (None, ..) => return Err(invalid("an incremental scan needs start-snapshot-id and end-snapshot-id".to_owned())),
        };
        let schema = match &range {
            Range::Snapshot(Some(snapshot)) if request.use_snapshot_schema => snapshot.schema_id,
            _ => None,
        };
        let schema = match schema {
            None => metadata.current_schema().clone(),
            Some(id) => metadata.schema_by_id(id).cloned().ok_or_else(|| {
                invalid(format!("the snapshot is of schema {id}, which the metadata of table {} does not hold", table.row.name))
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

    async fn run(self, catalog: &Catalog, table: LoadedTable) -> Result<Planned, CatalogError> {
        let metadata = &table.metadata;
        let wanted = projection(&self.filter, self.stats.iter().copied());
        let plan = match &self.range {
            Range::Snapshot(snapshot) => {
                let files = match snapshot {
                    Some(snapshot) => catalog.files(&table, snapshot, &wanted).await?,
                    None => Arc::default(),
                };
                plan_scan(metadata, &self.schema, &files, &self.filter, self.min_rows)?
            }
            Range::Appended(start, end) => {
                plan_appended(catalog.manifests(), metadata, &self.schema, *start, end, &self.filter, &wanted).await?
            }
        };
        Ok(Planned { stats: self.stats, plan, table })
    }
}

fn field(schema: &Schema, name: &str, case_sensitive: bool) -> Result<i32, ApiError> {
    let found = match case_sensitive {
        true => schema.field_by_name(name),
        false => schema.field_by_name_case_insensitive(name),
    };
    let what = || format!("the scan names the column {name:?}, which the table does not have");
    Ok(found.map(|f| f.id).ok_or_else(|| CatalogError::from(TableError::Filter(what())))?)
}
