use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SQLOptions, SessionConfig};
use datafusion::scalar::ScalarValue;
use esker_catalog::Catalog;
use esker_read::{BlockUsage, Reader};
use esker_types::{Principal, caught};
use futures::StreamExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::admission::{AdmissionGate, QueryLimits, QueryShare, bounded};
use crate::change::{self, Action};
use crate::error::Stopped;
use crate::error_wording::reworded;
use crate::log::Logged;
use crate::names::{LookedUp, NameResolver};
use crate::plan::PlannedStatement;
use crate::statement_text::Grammar;
use crate::{
    QueryError, QueryLog, QueryStats, Result, arrow_types, depth, minmax, opaque, parameters, plan, semantics, statement_text,
};

/// Times that a statement is tried whose rows somebody else changed meanwhile, and how long it waits before the second.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// Rows of a batch, and the size up to which one side of a join is hashed as a whole rather than both split: what answers the queries of
/// TPC-H in a fifth less time than the defaults.
const BATCH_ROWS: usize = 16_384;
const BUILD_BYTES: usize = 32 << 20;
const BUILD_ROWS: usize = 1_000_000;

/// How queries run.
#[derive(Debug, Clone, Copy)]
pub struct EngineOptions {
    /// Bytes that all queries together may use for sorts, joins and aggregates; beyond it they spill.
    pub memory_bytes: usize,
    /// Partitions of a query's plan.
    pub parallelism: usize,
    /// What one query may take.
    pub limits: QueryLimits,
}

/// Plans and runs queries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Each warehouse with the reader of its storage; the first is where unqualified names are looked up.
    warehouses: Arc<[(Catalog, Reader)]>,
    /// What every statement's session begins as.
    session: Arc<SessionState>,
    memory: Arc<dyn MemoryPool>,
    gate: AdmissionGate,
    log: QueryLog,
}

/// Values for the parameters of a statement, a row for each time that it is to run.
pub type BoundValues = Vec<Vec<ScalarValue>>;

/// A planned query.
#[expect(missing_debug_implementations, reason = "a session has none")]
pub struct PreparedStatement {
    session: SessionState,
    /// For any values of the types that are bound; analysed, if it has none to come.
    plan: LogicalPlan,
    action: Action,
    sql: String,
    /// The statement's parameters, and what is bound to them.
    parameters: Vec<Field>,
    bound: BoundValues,
    stats: Arc<QueryStats>,
    seen: LookedUp,
}

/// A query at work.
#[expect(missing_debug_implementations, reason = "a stream has none")]
pub struct RunningQuery {
    /// The rows.
    pub stream: SendableRecordBatchStream,
}

impl Engine {
    /// Queries over the tables of some warehouses, each with the reader of its storage. Names without a catalog are looked up in
    /// the first.
    pub fn new(warehouses: Vec<(Catalog, Reader)>, options: EngineOptions) -> Result<Self> {
        let memory: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(options.memory_bytes));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(memory.clone()).build_arc()?;
        let first = warehouses.first().map_or("default", |(catalog, _)| catalog.options().warehouse.as_str());
        let config = SessionConfig::new()
            .with_target_partitions(options.parallelism)
            .with_default_catalog_and_schema(first, "default")
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true);
        let mut config = config.with_batch_size(BATCH_ROWS);
        config.options_mut().execution.use_row_number_estimates_to_optimize_partitioning = true;
        // Columns carry their field ids, which the two plans of a UNION hand on differently.
        config.options_mut().execution.skip_physical_aggregate_schema_check = true;
        let optimizer = &mut config.options_mut().optimizer;
        // Its groups are those that have a value: one whose `max` is null would be lost.
        optimizer.enable_topk_aggregation = false;
        // It would leave out rows by the least value so far, in Arrow's order of floats, and where another aggregate needs them.
        optimizer.enable_aggregate_dynamic_filter_pushdown = false;
        optimizer.hash_join_single_partition_threshold = BUILD_BYTES;
        optimizer.hash_join_single_partition_threshold_rows = BUILD_ROWS;
        semantics::options(&mut config);
        let mut session = semantics::build(SessionStateBuilder::new().with_config(config).with_runtime_env(runtime))?;
        for function in minmax::functions() {
            session.register_udaf(function)?;
        }
        let (gate, log) = (AdmissionGate::new(options.limits), QueryLog::new(options.limits.slow));
        let inner = Inner { warehouses: warehouses.into(), session: Arc::new(session), memory, gate, log };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The warehouses.
    pub fn catalogs(&self) -> impl Iterator<Item = &Catalog> {
        self.inner.warehouses.iter().map(|(catalog, _)| catalog)
    }

    /// What the cache of column chunks has done and holds.
    pub fn cache(&self) -> BlockUsage {
        // One cache serves all warehouses.
        self.inner.warehouses.first().map(|(_, reader)| reader.blocks().usage()).unwrap_or_default()
    }

    /// Queries at work and the newest that ended.
    pub fn log(&self) -> &QueryLog {
        &self.inner.log
    }

    /// What a statement runs in, with memory of its own within that of all.
    fn context(&self, session: &SessionState) -> Result<Arc<TaskContext>> {
        let limit = self.inner.gate.limits().query_memory_bytes;
        let share = QueryShare { all: self.inner.memory.clone(), limit, used: AtomicUsize::new(0) };
        let builder = RuntimeEnvBuilder::from_runtime_env(self.inner.session.runtime_env());
        let runtime: Arc<RuntimeEnv> = builder.with_memory_pool(Arc::new(share)).build_arc()?;
        Ok(Arc::new(TaskContext::from(session).with_runtime(runtime)))
    }

    /// Parses and plans a statement on the tables as they are now, for the values that are bound to its parameters: none, if that is to
    /// come. Nothing is changed yet.
    pub async fn prepare(&self, sql: &str, bound: BoundValues) -> Result<PreparedStatement> {
        caught(Box::pin(self.planned(sql, bound))).await?
    }

    async fn planned(&self, sql: &str, bound: BoundValues) -> Result<PreparedStatement> {
        let stats = Arc::new(QueryStats::default());
        let (warehouses, log) = (self.inner.warehouses.clone(), self.inner.log.clone());
        let parsed = statement_text::statement(sql, Grammar::Standard)?;
        let listed = plan::asks_for_names(&self.inner.session, &parsed.statement)?;
        let names = NameResolver::load(warehouses, self.inner.session.clone(), stats.clone(), log, listed).await?;
        // A clone: to build a session anew costs more than to plan a short query.
        let mut session = self.inner.session.as_ref().clone();
        let (seen, listing) = (names.seen(), names.listing());
        session.register_catalog_list(Arc::new(names));
        let first = bound.first().map(Vec::as_slice);
        let PlannedStatement { plan, action, parameters, implied } =
            plan::plan(&mut session, &self.inner.warehouses, parsed, first).await?;
        listing.begin();
        depth::check_plan(&plan)?;
        let parameters = parameters::fields(&plan, parameters, &implied)?;
        let only_queries = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        only_queries.verify_plan(&plan).map_err(|_| {
            QueryError::Statement(format!(
                "only queries, INSERT, CREATE TABLE AS, DELETE and UPDATE are served, not {}",
                kind(sql)
            ))
        })?;
        // What types the answer has is known once the rules of types have been applied.
        let plan = match bound.as_slice() {
            [] if !parameters.is_empty() => plan,
            [] | [_] => semantics::analyzed(&session, parameters::bind(plan, bound.first())?)?,
            _ => plan,
        };
        if matches!(action, Action::Query) {
            opaque::check(plan.schema().as_arrow().fields())?;
        }
        Ok(PreparedStatement { session, plan, action, sql: sql.to_owned(), parameters, bound, stats, seen })
    }

    /// Whether a statement would be planned the same way now: it names tables only, and nobody has committed to them since.
    pub async fn is_current(&self, prepared: &PreparedStatement) -> bool {
        prepared.seen.are_current(&self.inner.warehouses).await
    }

    /// Runs a planned query, once its turn has come.
    pub async fn run(&self, mut prepared: PreparedStatement, principal: &Principal) -> Result<RunningQuery> {
        // The instant that now() stands for.
        prepared.session.mark_start_execution();
        let answer = schema(&prepared.plan, &prepared.action);
        let mut logged = Logged::new(&self.inner.log, &prepared.sql, principal, prepared.stats.clone());
        let timeout = self.inner.gate.limits().timeout;
        let deadline = Instant::now() + timeout;
        let cancel = logged.cancel().clone();
        let start = async {
            let permit = self.inner.gate.enter().await?;
            logged.begin();
            let missing = prepared.parameters.len();
            if prepared.bound.is_empty() && missing > 0 {
                return Err(QueryError::Statement(format!(
                    "nothing is bound to the statement's parameters, of which it has {missing}"
                )));
            }
            let context = self.context(&prepared.session)?;
            if matches!(prepared.action, Action::Query) {
                if prepared.bound.len() > 1 {
                    let what = format!("a query takes one row of parameters, not {}", prepared.bound.len());
                    return Err(QueryError::Statement(what));
                }
                let plan = semantics::physical(&prepared.session, &prepared.plan).await?;
                return Ok((execute_stream(plan, context)?, permit));
            }
            let count = self.change(prepared, &context, principal).await?;
            let answer = MemoryStream::try_new(vec![change::count_batch(count)?], change::count_schema(), None)?;
            Ok((Box::pin(answer) as SendableRecordBatchStream, permit))
        };
        // Planning reads metadata and deletes: it can take long as well.
        let started = tokio::select! {
            started = caught(Box::pin(start)) => started.unwrap_or_else(|panic| Err(panic.into())),
            () = tokio::time::sleep_until(deadline) => Err(Stopped::Timeout(timeout.as_secs()).into()),
            () = cancel.cancelled() => Err(Stopped::Cancelled.into()),
        };
        match started {
            Ok((stream, permit)) => {
                let stream = bounded(stream, deadline, timeout, cancel);
                Ok(RunningQuery { stream: counted(stream, answer, logged, permit) })
            }
            Err(error) => {
                logged.failed(QueryError::to_string(&error));
                Err(error)
            }
        }
    }
}

impl Engine {
    /// Runs a statement that changes rows, for each row of its parameters; returns how many rows it changed.
    async fn change(&self, prepared: PreparedStatement, context: &Arc<TaskContext>, principal: &Principal) -> Result<u64> {
        if prepared.bound.len() < 2 {
            return self.change_once(prepared, context, principal).await;
        }
        let (sql, bound) = (prepared.sql, prepared.bound);
        let instant = prepared.session.execution_props().query_execution_start_time;
        if let Action::Insert { .. } = prepared.action
            && let Some(plan) = parameters::bind_rows(&prepared.plan, &bound)?
        {
            let plan = semantics::analyzed(&prepared.session, plan)?;
            // One commit for all of them. An insert conflicts with nothing but a change of its columns.
            return change::run(&prepared.session, context, &plan, &prepared.action, principal).await;
        }
        let mut count = 0;
        for (done, row) in bound.iter().enumerate() {
            // Each sees what those before it have changed.
            let changed = match self.prepare(&sql, vec![row.clone()]).await {
                Ok(mut next) => {
                    next.session.execution_props_mut().query_execution_start_time = instant;
                    self.change_once(next, context, principal).await
                }
                Err(e) => Err(e),
            };
            count += changed.map_err(|e| QueryError::Row { done, of: bound.len(), source: Box::new(e) })?;
        }
        Ok(count)
    }

    async fn change_once(&self, prepared: PreparedStatement, context: &Arc<TaskContext>, principal: &Principal) -> Result<u64> {
        let PreparedStatement { session, plan, action, sql, bound, .. } = prepared;
        let instant = session.execution_props().query_execution_start_time;
        let mut count = change::run(&session, context, &plan, &action, principal).await;
        for attempt in 1..ATTEMPTS {
            if !count.as_ref().is_err_and(change::is_conflict) {
                break;
            }
            tokio::time::sleep(PAUSE * attempt).await;
            // Anew, on the table as it is now.
            let mut again = self.prepare(&sql, bound.clone()).await?;
            again.session.execution_props_mut().query_execution_start_time = instant;
            count = change::run(&again.session, context, &again.plan, &again.action, principal).await;
        }
        count
    }
}

/// The rows for clients, counted; the query is in the log when they end or are dropped.
fn counted(
    stream: SendableRecordBatchStream,
    schema: SchemaRef,
    logged: Logged,
    permit: OwnedSemaphorePermit,
) -> SendableRecordBatchStream {
    let of_rows = schema.clone();
    let rows = futures::stream::unfold(Some((stream, logged, permit)), move |state| {
        let schema = of_rows.clone();
        async move {
            let (mut stream, mut logged, permit) = state?;
            let next = stream.next().await.map(|next| next.and_then(|batch| Ok(arrow_types::to_plain(batch, &schema)?)));
            match next {
                Some(Ok(batch)) => {
                    logged.stats().rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                    Some((Ok(batch), Some((stream, logged, permit))))
                }
                Some(Err(e)) => {
                    logged.failed(reworded(&e));
                    Some((Err(e), None))
                }
                None => {
                    logged.finished = true;
                    None
                }
            }
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// The words that say what a statement is.
fn kind(sql: &str) -> String {
    const OBJECTS: [&str; 6] = ["TABLE", "VIEW", "SCHEMA", "DATABASE", "FUNCTION", "INDEX"];
    let mut words = sql.split_whitespace().map(str::to_ascii_uppercase);
    match words.next().filter(|word| word.chars().all(char::is_alphabetic)) {
        Some(first) => match words.next().filter(|word| OBJECTS.contains(&word.as_str())) {
            Some(second) => format!("{first} {second}"),
            None => first,
        },
        None => "this statement".to_owned(),
    }
}

/// The shape of an answer: as it is told before the statement runs, and as it comes.
fn schema(plan: &LogicalPlan, action: &Action) -> SchemaRef {
    match action {
        Action::Query => semantics::without_marks(&arrow_types::plain(plan.schema().as_arrow())),
        _ => change::count_schema(),
    }
}

impl PreparedStatement {
    /// The shape of the answer.
    pub fn schema(&self) -> SchemaRef {
        schema(&self.plan, &self.action)
    }

    /// The parameters, `$1` first, with the types that the statement implies.
    pub fn parameters(&self) -> Schema {
        arrow_types::plain(&Schema::new(self.parameters.clone())).as_ref().clone()
    }
}
