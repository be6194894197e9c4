//! The query engine: prepares statements and runs them.
//!
//! [`Engine::prepare`] parses and plans a statement on the tables as they are, and changes nothing. [`Engine::run`] waits for
//! admission, gives the statement a share of memory and a deadline, and logs it. A statement that changes rows is planned again
//! on the current table if another commit came between. A plan is made for a caller under the rules of one version, and never run
//! for another or under others. Start reading at [`Engine::prepare`].

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SQLOptions, SessionConfig};
use datafusion::scalar::ScalarValue;
use esker_auth::AccessControl;
use esker_catalog::{Actor, Authority, Catalog};
use esker_read::{BlockUsage, Reader};
use esker_types::{Principal, catch_panic};
use futures::StreamExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::access_statement::{self, AccessStatement};
use crate::admission::{AdmissionGate, QueryLimits, QueryShare, bounded};
use crate::change::{self, Action};
use crate::dialect::Grammar;
use crate::error::Stopped;
use crate::error_wording::reworded;
use crate::log::LoggedQuery;
use crate::names::{LookedUpTables, NameResolver, StatementCaller};
use crate::pins::{PinnedSnapshot, SnapshotPins};
use crate::plan::PlannedStatement;
use crate::{
    QueryError, QueryLog, QueryStats, Result, arrow_types, depth, minmax, opaque, parameters, plan, rights, semantics,
    statement_text,
};

/// Maximum number of attempts of a statement whose rows other commits change at the same time.
const ATTEMPTS: u32 = 5;
/// Pause before the second attempt; it grows by as much for each further one.
const PAUSE: Duration = Duration::from_millis(100);

/// Number of rows in a batch. With this value and the next two, the queries of TPC-H take a fifth less time than with the
/// defaults.
const BATCH_ROWS: usize = 16_384;
/// Size in bytes up to which one side of a join is hashed as a whole, rather than both sides split.
const BUILD_BYTES: usize = 32 << 20;
/// Number of rows up to which one side of a join is hashed as a whole.
const BUILD_ROWS: usize = 1_000_000;

/// The options of an engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Memory in bytes that all queries together may use for sorts, joins and aggregates; beyond it they spill.
    pub memory_bytes: usize,
    /// Number of partitions of a query's plan.
    pub parallelism: usize,
    /// The limits of each query and of the queue.
    pub limits: QueryLimits,
    /// The directory for what does not fit into memory. It has to exist.
    pub spill_dir: PathBuf,
}

/// The engine that plans and runs statements; cheap to clone.
///
/// ```no_run
/// # use std::time::Duration;
/// # use arrow::array::RecordBatch;
/// # use esker_query::QueryLimits;
/// # async fn count(catalog: esker_catalog::Catalog, reader: esker_read::Reader) -> Result<(), Box<dyn std::error::Error>> {
/// use esker_catalog::Authority;
/// use esker_query::{Engine, EngineOptions};
/// use esker_types::Principal;
/// use futures::TryStreamExt;
///
/// # let (timeout, slow) = (Duration::from_secs(60), Duration::from_secs(10));
/// # let limits = QueryLimits { concurrency: 4, queue: 100, timeout, query_memory_bytes: 1 << 28, slow };
/// # let spill_dir = std::env::temp_dir();
/// let options = EngineOptions { memory_bytes: 1 << 30, parallelism: 2, limits, spill_dir };
/// let engine = Engine::new(vec![(catalog, reader)], options)?;
/// let by = Authority::Server;
/// let statement = engine.prepare("SELECT customer, count(*) FROM sales.orders GROUP BY 1", Vec::new(), &by).await?;
/// assert_eq!(statement.schema().fields().len(), 2);
///
/// let running = engine.run(statement, &Principal::Anonymous, &by).await?;
/// let batches: Vec<RecordBatch> = running.stream.try_collect().await?;
/// # assert!(batches.iter().all(|batch| batch.num_columns() == 2));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
    /// The rules that statements may change.
    access: Option<AccessControl>,
}

/// The state that all clones of an engine share.
#[derive(Debug)]
struct Inner {
    /// Each warehouse with the reader of its storage. Names without a catalog are looked up in the first.
    warehouses: Arc<[(Catalog, Reader)]>,
    /// The session that the session of every statement is cloned from.
    session: Arc<SessionState>,
    memory: Arc<dyn MemoryPool>,
    gate: AdmissionGate,
    log: QueryLog,
}

/// Values for the parameters of a statement: a row for each run, with the value of `$1` first.
pub type BoundValues = Vec<Vec<ScalarValue>>;

/// A planned statement with the values that are bound to its parameters.
#[expect(missing_debug_implementations, reason = "a session does not implement `Debug`")]
pub struct PreparedStatement {
    session: SessionState,
    /// The plan. It is analysed, unless values are still to be bound or there are several rows of them.
    plan: LogicalPlan,
    action: Action,
    sql: String,
    /// The statement's parameters, `$1` first.
    parameters: Vec<Field>,
    /// The values that are bound to the parameters.
    bound: BoundValues,
    stats: Arc<QueryStats>,
    seen: LookedUpTables,
    /// The snapshots that the plan reads.
    pins: SnapshotPins,
    /// Who the plan was made for.
    by: Authority,
}

/// A statement that runs.
#[expect(missing_debug_implementations, reason = "a stream does not implement `Debug`")]
pub struct RunningQuery {
    /// The result, in batches of the schema that [`PreparedStatement::schema`] returns.
    pub stream: SendableRecordBatchStream,
}

impl Engine {
    /// Creates an engine for the tables of some warehouses, each with the reader of its storage.
    ///
    /// Names without a catalog are looked up in the first warehouse.
    ///
    /// # Errors
    ///
    /// Returns [`QueryError::Statement`] or [`QueryError::Execution`], by DataFusion's error, if its runtime cannot be built or one
    /// of Esker's functions cannot be registered.
    pub fn new(warehouses: Vec<(Catalog, Reader)>, options: EngineOptions) -> Result<Self> {
        let memory: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(options.memory_bytes));
        let runtime =
            RuntimeEnvBuilder::new().with_memory_pool(memory.clone()).with_temp_file_path(&options.spill_dir).build_arc()?;
        let first = warehouses.first().map_or("default", |(catalog, _)| catalog.options().warehouse.as_str());
        let config = SessionConfig::new()
            .with_target_partitions(options.parallelism)
            .with_default_catalog_and_schema(first, "default")
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true);
        let mut config = config.with_batch_size(BATCH_ROWS);
        config.options_mut().execution.use_row_number_estimates_to_optimize_partitioning = true;
        // Columns carry their field ids as metadata, which the two plans of a UNION hand on differently.
        config.options_mut().execution.skip_physical_aggregate_schema_check = true;
        let optimizer = &mut config.options_mut().optimizer;
        // This optimisation keeps only groups that have a value: a group whose `max` is null would be lost.
        optimizer.enable_topk_aggregation = false;
        // This filter drops rows by the least value so far. It compares floats in Arrow's order, and drops rows that other
        // aggregates need.
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
        Ok(Self { inner: Arc::new(inner), access: None })
    }

    /// Lets statements change and show the rules of access control.
    #[must_use]
    pub fn with_access(self, access: AccessControl) -> Self {
        Self { access: Some(access), ..self }
    }

    /// Returns the catalogs of the warehouses, in the order that [`Engine::new`] received them.
    pub fn catalogs(&self) -> impl Iterator<Item = &Catalog> {
        self.inner.warehouses.iter().map(|(catalog, _)| catalog)
    }

    /// Returns the counters and the size of the cache of column chunks.
    pub fn cache(&self) -> BlockUsage {
        // One cache serves all warehouses.
        self.inner.warehouses.first().map(|(_, reader)| reader.blocks().usage()).unwrap_or_default()
    }

    /// Returns the log of the queries that run and of the newest that ended.
    pub fn log(&self) -> &QueryLog {
        &self.inner.log
    }

    /// Returns the context that a statement runs in, with a share of memory of its own.
    fn context(&self, session: &SessionState) -> Result<Arc<TaskContext>> {
        let limit = self.inner.gate.limits().query_memory_bytes;
        let share = QueryShare { all: self.inner.memory.clone(), limit, used: AtomicUsize::new(0) };
        let builder = RuntimeEnvBuilder::from_runtime_env(self.inner.session.runtime_env());
        let runtime: Arc<RuntimeEnv> = builder.with_memory_pool(Arc::new(share)).build_arc()?;
        Ok(Arc::new(TaskContext::from(session).with_runtime(runtime)))
    }

    /// Parses and plans a statement of a caller on the tables as they are now; changes nothing.
    ///
    /// Names mean what they mean to the caller: a hidden table is as good as missing. `bound` holds the values of the parameters.
    /// It is empty if they are to be bound later, when the statement is prepared again.
    ///
    /// # Errors
    ///
    /// - Returns [`QueryError::Statement`] if the statement is wrong or not supported, or does not fit the values.
    /// - Returns [`QueryError::Rights`] if the caller lacks a privilege on something that the statement names.
    /// - Returns [`QueryError::Restricted`] if the statement would go past the row filters or column masks of a table.
    /// - Returns [`QueryError::Catalog`] or [`QueryError::Read`] if the names in a catalog cannot be listed, or if the metadata of
    ///   a table or view cannot be loaded.
    /// - Returns [`QueryError::Panicked`] if planning panicked, and [`QueryError::Execution`] if DataFusion's planner failed for a
    ///   reason of its own.
    pub async fn prepare(&self, sql: &str, bound: BoundValues, by: &Authority) -> Result<PreparedStatement> {
        self.prepare_on(sql, bound, by, Vec::new()).await
    }

    /// Parses and plans a statement like [`Engine::prepare`], on the snapshots that another plan of it was made on.
    ///
    /// Names and rights are those of now.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Engine::prepare`], and [`QueryError::Statement`] if a snapshot has expired.
    pub async fn prepare_on(
        &self,
        sql: &str,
        bound: BoundValues,
        by: &Authority,
        snapshots: Vec<PinnedSnapshot>,
    ) -> Result<PreparedStatement> {
        catch_panic(Box::pin(self.prepare_uncaught(sql, bound, by, SnapshotPins::on(snapshots)))).await?
    }

    /// Does the work of [`Engine::prepare_on`], which catches its panics.
    async fn prepare_uncaught(
        &self,
        sql: &str,
        bound: BoundValues,
        by: &Authority,
        pins: SnapshotPins,
    ) -> Result<PreparedStatement> {
        if let Some(statement) = access_statement::parse(sql)? {
            return self.prepare_access(sql, statement, &bound, by);
        }
        let stats = Arc::new(QueryStats::default());
        let (warehouses, log) = (self.inner.warehouses.clone(), self.inner.log.clone());
        let parsed = statement_text::statement(sql, Grammar::Standard)?;
        let listed = plan::asks_for_names(&self.inner.session, &parsed.statement)?;
        let caller = StatementCaller { by: by.clone(), needs: plan::privilege_on_names(&parsed.statement) };
        let session = self.inner.session.clone();
        let names = NameResolver::load(warehouses, session, stats.clone(), log, listed, caller, pins.clone()).await?;
        // A clone, because building a session costs more than planning a short query.
        let mut session = self.inner.session.as_ref().clone();
        let (seen, listing) = (names.seen(), names.listing());
        session.register_catalog_list(Arc::new(names));
        let first = bound.first().map(Vec::as_slice);
        let PlannedStatement { plan, action, parameters, implied } =
            plan::plan(&mut session, &self.inner.warehouses, parsed, first, by, &seen).await?;
        listing.begin();
        depth::check_plan(&plan)?;
        let parameters = parameters::fields(&plan, parameters, &implied)?;
        let only_queries = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        only_queries.verify_plan(&plan).map_err(|_| {
            QueryError::Statement(format!(
                "only queries, INSERT, CREATE TABLE AS, DELETE, UPDATE and statements about grants and roles are served, not {}",
                kind(sql)
            ))
        })?;
        // The types of the result are known only after the type rules have been applied.
        let plan = match bound.as_slice() {
            [] if !parameters.is_empty() => plan,
            [] | [_] => semantics::analyze(&session, parameters::bind(plan, bound.first())?)?,
            _ => plan,
        };
        if matches!(action, Action::Query) {
            opaque::check(plan.schema().as_arrow().fields())?;
        }
        Ok(PreparedStatement { session, plan, action, sql: sql.to_owned(), parameters, bound, stats, seen, pins, by: by.clone() })
    }

    /// Prepares a statement about access control. It has no plan: names are looked up when it runs.
    fn prepare_access(
        &self,
        sql: &str,
        statement: AccessStatement,
        bound: &[Vec<ScalarValue>],
        by: &Authority,
    ) -> Result<PreparedStatement> {
        if bound.iter().any(|row| !row.is_empty()) {
            return Err(QueryError::Statement("statements about grants and roles take no parameters".to_owned()));
        }
        Ok(PreparedStatement {
            session: self.inner.session.as_ref().clone(),
            plan: LogicalPlanBuilder::empty(false).build()?,
            action: Action::Access(statement),
            sql: sql.to_owned(),
            parameters: Vec::new(),
            bound: Vec::new(),
            stats: Arc::default(),
            seen: LookedUpTables::default(),
            pins: SnapshotPins::default(),
            by: by.clone(),
        })
    }

    /// Checks whether a statement would be planned the same way now for a caller.
    ///
    /// That is so if it was planned for the same caller under the same rules, names only tables, and nobody has committed to them
    /// since.
    pub async fn is_current(&self, prepared: &PreparedStatement, by: &Authority) -> bool {
        rights::are_same(&prepared.by, by) && prepared.seen.are_current(&self.inner.warehouses).await
    }

    /// Runs a prepared statement for a caller once it is admitted.
    ///
    /// A statement that was planned for another caller, before the rules changed, or for a call that an access policy can tell from
    /// this one, is planned again. The rows of a query are computed while its stream is read. A statement that changes rows has
    /// committed before this function returns; its stream has one batch with the number of rows. The time limit covers all of it,
    /// but for planning again.
    ///
    /// # Errors
    ///
    /// - Returns the errors of [`Engine::prepare`] if the statement is planned again.
    /// - Returns [`QueryError::Busy`] if too many queries wait.
    /// - Returns [`QueryError::Stopped`] if the time is up or the query was cancelled.
    /// - Returns [`QueryError::Statement`] if the parameters have no values, or too many for a query, or if a value does not fit
    ///   the statement or its column.
    /// - Returns [`QueryError::Row`] if a run for one of several rows of parameters failed.
    /// - Returns [`QueryError::Catalog`], [`QueryError::Read`] or [`QueryError::Write`] if the commit, reading or writing failed.
    /// - Returns [`QueryError::Resources`] if the query needs more memory than it may use, [`QueryError::Panicked`] after a panic,
    ///   and [`QueryError::Execution`] for any other failure.
    ///
    /// The stream ends with such an error, too, if it occurs later.
    pub async fn run(&self, prepared: PreparedStatement, principal: &Principal, by: &Authority) -> Result<RunningQuery> {
        let mut prepared = match rights::are_same(&prepared.by, by) {
            true => prepared,
            false => {
                let snapshots = prepared.snapshots();
                self.prepare_on(&prepared.sql, prepared.bound, by, snapshots).await?
            }
        };
        // `now()` stands for this instant.
        prepared.session.mark_start_execution();
        let answer = schema(&prepared.plan, &prepared.action);
        let mut logged = LoggedQuery::new(&self.inner.log, &prepared.sql, principal, prepared.stats.clone());
        let timeout = self.inner.gate.limits().timeout;
        let deadline = Instant::now() + timeout;
        let cancel = logged.cancel().clone();
        let start = async {
            let permit = self.inner.gate.enter().await?;
            logged.begin();
            let missing = prepared.parameters.len();
            if prepared.bound.is_empty() && missing > 0 {
                return Err(QueryError::Statement(format!("no values are bound to the statement's {missing} parameters")));
            }
            let context = self.context(&prepared.session)?;
            if matches!(prepared.action, Action::Query) {
                if prepared.bound.len() > 1 {
                    let what = format!("a query takes one row of parameters, not {}", prepared.bound.len());
                    return Err(QueryError::Statement(what));
                }
                let plan = semantics::physical_plan(&prepared.session, &prepared.plan).await?;
                return Ok((execute_stream(plan, context)?, permit));
            }
            if let Action::Access(statement) = &prepared.action {
                let batch = access_statement::run(&self.inner.warehouses, self.access.as_ref(), statement, by).await?;
                let schema = batch.schema();
                let answer = MemoryStream::try_new(vec![batch], schema, None)?;
                return Ok((Box::pin(answer) as SendableRecordBatchStream, permit));
            }
            let actor = Actor { principal: principal.to_string(), receipt: None, authority: by.clone() };
            let count = self.change(prepared, &context, &actor).await?;
            let answer = MemoryStream::try_new(vec![change::count_batch(count)?], change::count_schema(), None)?;
            Ok((Box::pin(answer) as SendableRecordBatchStream, permit))
        };
        // Planning reads metadata and delete files, which can take long as well.
        let started = tokio::select! {
            started = catch_panic(Box::pin(start)) => started.unwrap_or_else(|panic| Err(panic.into())),
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
    /// Runs a statement that changes rows once for each row of its parameters; returns the number of rows that it changed.
    async fn change(&self, prepared: PreparedStatement, context: &Arc<TaskContext>, actor: &Actor) -> Result<u64> {
        if prepared.bound.len() < 2 {
            return self.change_once(prepared, context, actor).await;
        }
        let (sql, bound) = (prepared.sql, prepared.bound);
        let instant = prepared.session.execution_props().query_execution_start_time;
        if let Action::Insert { .. } = prepared.action
            && let Some(plan) = parameters::bind_rows(&prepared.plan, &bound)?
        {
            let plan = semantics::analyze(&prepared.session, plan)?;
            // One commit for all rows. An insert conflicts with nothing but a change of the table's columns.
            return change::run(&prepared.session, context, &plan, &prepared.action, actor).await;
        }
        let mut count = 0;
        for (done, row) in bound.iter().enumerate() {
            // Each run sees the changes of those before it.
            let changed = match self.prepare(&sql, vec![row.clone()], &actor.authority).await {
                Ok(mut next) => {
                    next.session.execution_props_mut().query_execution_start_time = instant;
                    self.change_once(next, context, actor).await
                }
                Err(e) => Err(e),
            };
            count += changed.map_err(|e| QueryError::Row { done, of: bound.len(), source: Box::new(e) })?;
        }
        Ok(count)
    }

    /// Runs a statement that changes rows; tries it again if another commit came between.
    async fn change_once(&self, prepared: PreparedStatement, context: &Arc<TaskContext>, actor: &Actor) -> Result<u64> {
        let PreparedStatement { session, plan, action, sql, bound, .. } = prepared;
        let instant = session.execution_props().query_execution_start_time;
        let mut count = change::run(&session, context, &plan, &action, actor).await;
        for attempt in 1..ATTEMPTS {
            if !count.as_ref().is_err_and(change::is_conflict) {
                break;
            }
            tokio::time::sleep(PAUSE * attempt).await;
            // Planned again, on the table as it is now.
            let mut again = self.prepare(&sql, bound.clone(), &actor.authority).await?;
            again.session.execution_props_mut().query_execution_start_time = instant;
            count = change::run(&again.session, context, &again.plan, &again.action, actor).await;
        }
        count
    }
}

/// Returns the rows for clients, counted and in the schema of the result.
///
/// The query enters the log when the stream ends or is dropped.
fn counted(
    stream: SendableRecordBatchStream,
    schema: SchemaRef,
    logged: LoggedQuery,
    permit: OwnedSemaphorePermit,
) -> SendableRecordBatchStream {
    let of_rows = schema.clone();
    let rows = futures::stream::unfold(Some((stream, logged, permit)), move |state| {
        let schema = of_rows.clone();
        async move {
            let (mut stream, mut logged, permit) = state?;
            let next = stream.next().await.map(|next| next.and_then(|batch| Ok(arrow_types::to_client_batch(batch, &schema)?)));
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
                    logged.ended = true;
                    None
                }
            }
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// Returns the words at the beginning of a statement that name its kind.
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

/// Returns the schema of a result, which is known before the statement runs.
fn schema(plan: &LogicalPlan, action: &Action) -> SchemaRef {
    match action {
        Action::Query => semantics::without_marks(&arrow_types::client_schema(plan.schema().as_arrow())),
        Action::Access(statement) => statement.schema(),
        _ => change::count_schema(),
    }
}

impl PreparedStatement {
    /// Returns the schema of the result.
    pub fn schema(&self) -> SchemaRef {
        schema(&self.plan, &self.action)
    }

    /// Returns the snapshots that a query was planned on. A statement that changes something has none: it is planned on the tables
    /// as they are when it runs.
    pub fn snapshots(&self) -> Vec<PinnedSnapshot> {
        if matches!(self.action, Action::Query) { self.pins.chosen() } else { Vec::new() }
    }

    /// Checks that the statement changes rows or rules: its result is the number of rows.
    pub const fn is_change(&self) -> bool {
        match &self.action {
            Action::Query => false,
            Action::Access(statement) => statement.changes_rules(),
            Action::Insert { .. } | Action::Create { .. } | Action::Delete(_) | Action::Update { .. } => true,
        }
    }

    /// Returns the name of the operation, as the audit trail has it.
    pub const fn operation(&self) -> &'static str {
        match &self.action {
            Action::Query => "query",
            Action::Access(statement) => statement.operation(),
            Action::Insert { .. } => "insert",
            Action::Create { .. } => "create-table-as",
            Action::Delete(_) => "delete",
            Action::Update { .. } => "update",
        }
    }

    /// Returns the role that the statement changes, with the member if there is one; `None` for any other statement.
    pub fn role(&self) -> Option<String> {
        match &self.action {
            Action::Access(statement) => statement.role(),
            Action::Query | Action::Insert { .. } | Action::Create { .. } | Action::Delete(_) | Action::Update { .. } => None,
        }
    }

    /// Checks that the statement creates a table, whose rules are new then.
    pub fn creates_table(&self) -> bool {
        matches!(self.action, Action::Create { .. })
    }

    /// Returns the statement's parameters, `$1` first, with the types that the statement implies.
    pub fn parameters(&self) -> Schema {
        arrow_types::client_schema(&Schema::new(self.parameters.clone())).as_ref().clone()
    }
}
