use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::ParamValues;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use esker_catalog::Catalog;
use esker_read::Reader;
use esker_types::Principal;
use futures::StreamExt;

use crate::catalogs::Warehouse;
use crate::log::Logged;
use crate::{QueryError, QueryLog, QueryStats, Result};

/// How queries run.
#[derive(Debug, Clone, Copy)]
pub struct EngineOptions {
    /// Bytes that all queries together may use for sorts, joins and aggregates; beyond it they spill.
    pub memory_bytes: usize,
    /// Partitions of a query's plan.
    pub parallelism: usize,
}

/// Plans and runs queries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Each warehouse with the reader of its storage; the first is where unqualified names are looked up.
    warehouses: Arc<[(Catalog, Reader)]>,
    runtime: Arc<RuntimeEnv>,
    parallelism: usize,
    log: QueryLog,
}

/// A planned query.
#[expect(missing_debug_implementations, reason = "a session has none")]
pub struct Prepared {
    session: SessionContext,
    plan: LogicalPlan,
    sql: String,
    stats: Arc<QueryStats>,
}

/// A query at work.
#[expect(missing_debug_implementations, reason = "a stream has none")]
pub struct Running {
    /// The rows.
    pub stream: SendableRecordBatchStream,
    /// What reading them costs, as it goes.
    pub stats: Arc<QueryStats>,
}

impl Engine {
    /// Queries over the tables of some warehouses, each with the reader of its storage. Names without a catalog are looked up in
    /// the first.
    pub fn new(warehouses: Vec<(Catalog, Reader)>, options: EngineOptions) -> Result<Self> {
        let pool = Arc::new(FairSpillPool::new(options.memory_bytes));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc()?;
        Ok(Self { warehouses: warehouses.into(), runtime, parallelism: options.parallelism, log: QueryLog::default() })
    }

    /// The warehouses.
    pub fn catalogs(&self) -> impl Iterator<Item = &Catalog> {
        self.warehouses.iter().map(|(catalog, _)| catalog)
    }

    /// The newest queries.
    pub fn log(&self) -> &QueryLog {
        &self.log
    }

    /// Parses and plans a query on the tables as they are now; anything but a query is refused.
    pub async fn prepare(&self, sql: &str) -> Result<Prepared> {
        let stats = Arc::new(QueryStats::default());
        let first = self.catalogs().next().map_or("default", |catalog| catalog.options().warehouse.as_str());
        let config = SessionConfig::new()
            .with_target_partitions(self.parallelism)
            .with_default_catalog_and_schema(first, "default")
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true);
        let state =
            SessionStateBuilder::new().with_config(config).with_runtime_env(self.runtime.clone()).with_default_features().build();
        let session = SessionContext::new_with_state(state);
        for (catalog, reader) in self.warehouses.iter() {
            let warehouse = Warehouse::load(catalog, reader, &stats).await?;
            session.register_catalog(&catalog.options().warehouse, Arc::new(warehouse));
        }
        let plan = session.state().create_logical_plan(&numbered(sql)?).await?;
        let only_queries = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        only_queries
            .verify_plan(&plan)
            .map_err(|e| QueryError::Statement(format!("only queries are served: {}", e.strip_backtrace())))?;
        Ok(Prepared { session, plan, sql: sql.to_owned(), stats })
    }

    /// Runs a planned query.
    pub async fn run(&self, prepared: Prepared, parameters: Vec<ScalarValue>, principal: &Principal) -> Result<Running> {
        let Prepared { session, plan, sql, stats } = prepared;
        let mut logged = Logged::new(&self.log, &sql, principal, stats.clone());
        let start = async {
            let plan = match parameters.is_empty() {
                true => plan,
                false => plan.with_param_values(ParamValues::from(parameters))?,
            };
            session.execute_logical_plan(plan).await?.execute_stream().await
        };
        let stream = match start.await {
            Ok(stream) => stream,
            Err(e) => {
                let error = QueryError::from(e);
                logged.error = Some(error.to_string());
                logged.finished = true;
                return Err(error);
            }
        };
        let schema = stream.schema();
        let rows = futures::stream::unfold(Some((stream, logged)), |state| async move {
            let (mut stream, mut logged) = state?;
            match stream.next().await {
                Some(Ok(batch)) => {
                    logged.stats.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                    Some((Ok(batch), Some((stream, logged))))
                }
                Some(Err(e)) => {
                    logged.error = Some(e.strip_backtrace());
                    logged.finished = true;
                    Some((Err(e), None))
                }
                None => {
                    logged.finished = true;
                    None
                }
            }
        });
        Ok(Running { stream: Box::pin(RecordBatchStreamAdapter::new(schema, rows)), stats })
    }
}

impl Prepared {
    /// The shape of the answer.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(self.plan.schema().as_arrow().clone())
    }

    /// The parameters, `$1` first, with the types that the statement implies.
    pub fn parameters(&self) -> Result<Schema> {
        let mut types: Vec<_> = self.plan.get_parameter_types()?.into_iter().collect();
        // "$10" comes after "$9".
        types.sort_by_key(|(name, _)| name.trim_start_matches('$').parse::<u32>().unwrap_or(u32::MAX));
        let field = |(name, ty): (String, Option<arrow::datatypes::DataType>)| {
            arrow::datatypes::Field::new(name, ty.unwrap_or(arrow::datatypes::DataType::Null), true)
        };
        Ok(Schema::new(types.into_iter().map(field).collect::<Vec<_>>()))
    }
}

/// The statement with `?` written as `$1`, `$2`, …: JDBC knows the one, the planner the other.
fn numbered(sql: &str) -> Result<String> {
    if !sql.contains('?') {
        return Ok(sql.to_owned());
    }
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().map_err(|e| QueryError::Statement(e.to_string()))?;
    let mut n = 0;
    let mut out = String::with_capacity(sql.len() + 8);
    for token in tokens {
        match token {
            Token::Placeholder(text) if text == "?" => {
                n += 1;
                out.push_str(&format!("${n}"));
            }
            token => out.push_str(&token.to_string()),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::numbered;

    #[test]
    fn question_marks_become_numbers_except_in_strings() {
        let sql = "SELECT '?', \"a?\" FROM t WHERE a = ? AND b = ? -- ?\n";
        assert_eq!(numbered(sql).expect("valid"), "SELECT '?', \"a?\" FROM t WHERE a = $1 AND b = $2 -- ?\n");
    }
}
