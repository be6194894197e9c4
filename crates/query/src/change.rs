//! Execution of the statements that change tables: INSERT, CREATE TABLE AS, DELETE and UPDATE.
//!
//! The plan of such a statement produces rows, and an [`Action`] decides what happens to them: they are rows to append, or
//! positions of rows to delete or update. Data files are written first; then one commit publishes them. Start reading at `run`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execute_stream;
use esker_catalog::{Actor, Authority, CatalogError, CreateTable, Created, DroppedFiles, LoadedTable, Rebase};
use esker_format::{
    DEFAULT_FORMAT_VERSION, FORMAT_VERSION, ManifestProjection, NestedField, NestedFieldRef, Schema as IcebergSchema,
};
use esker_read::schema_from_arrow;
use esker_table::properties::{DELETE_ISOLATION, Isolation, UPDATE_ISOLATION};
use esker_types::{Coded, ErrorCode};
use esker_write::{Appender, RowLineage};
use futures::TryStreamExt;
use roaring::RoaringTreemap;

use crate::access_statement::AccessStatement;
use crate::commit::{Removal, RowChange};
use crate::error_wording::sql_type;
use crate::rights::{TO_CHANGE_ROWS, TO_INSERT};
use crate::target::{Uncommitted, WriteTarget};
use crate::{QueryError, Result, arrow_types, assignment, prune, semantics, statement_text};

/// The action on the rows of a plan.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Returns the rows to the client.
    Query,
    /// Appends the rows to a table. `schema` is the id of the table's schema when the statement was planned.
    Insert { target: WriteTarget, schema: i32 },
    /// Creates a table and appends the rows to it.
    Create { target: WriteTarget, if_not_exists: bool },
    /// Deletes the rows whose positions the plan returns.
    Delete(WriteTarget),
    /// Replaces the rows whose positions the plan returns by its new values. `schema` is as in `Insert`.
    Update { target: WriteTarget, schema: i32 },
    /// Changes or shows the rules of access control. There are no rows.
    Access(AccessStatement),
}

/// Returns the schema of a statement's result that is a number of rows: one column, `count`.
pub(crate) fn count_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]))
}

/// Builds the error for a statement that cannot be run.
pub(crate) fn refused(what: impl Into<String>) -> QueryError {
    QueryError::Statement(what.into())
}

/// Runs a statement that changes rows; returns the number of rows that it changed.
///
/// # Errors
///
/// - Returns [`QueryError::Catalog`] if the table can't be loaded, created or changed. If its code is
///   [`ErrorCode::CommitConflict`], another commit came between, and the statement may be planned again.
/// - Returns [`QueryError::Rights`] if the actor may not do it.
/// - Returns [`QueryError::Statement`] if rows do not fit the table's columns, if a table can't store the rows of a query, or if an
///   `UPDATE` finds a row twice.
/// - Returns [`QueryError::Write`] if files can't be written.
/// - Returns [`QueryError::Read`], [`QueryError::Resources`], [`QueryError::Panicked`] or [`QueryError::Execution`] if the plan
///   fails.
pub(crate) async fn run(
    session: &SessionState,
    context: &Arc<TaskContext>,
    plan: &LogicalPlan,
    action: &Action,
    actor: &Actor,
) -> Result<u64> {
    let running = &Running { session, context };
    match action {
        Action::Query | Action::Access(_) => Err(QueryError::Execution("the statement changes no rows".to_owned())),
        Action::Insert { target, schema } => {
            let table = target.load(&actor.authority, TO_INSERT).await?;
            check_schema(&table, *schema)?;
            insert(running, plan, target, &table, actor.clone()).await
        }
        Action::Create { target, if_not_exists } => create(running, plan, target, *if_not_exists, actor).await,
        Action::Delete(target) => remove(running, plan, target, None, actor).await,
        Action::Update { target, schema } => remove(running, plan, target, Some(*schema), actor).await,
    }
}

/// Checks that the table still has the schema that the rows were planned for.
///
/// The error is a conflict, which makes the statement start again.
fn check_schema(table: &LoadedTable, schema: i32) -> Result<()> {
    match table.metadata.current_schema_id == schema {
        true => Ok(()),
        false => Err(CatalogError::Conflict(format!("the columns of {} have changed meanwhile", table.row.name)).into()),
    }
}

/// The session and the task context of a statement.
#[derive(Clone, Copy)]
struct Running<'a> {
    session: &'a SessionState,
    context: &'a Arc<TaskContext>,
}

/// Runs the plan; returns the stream of its rows.
async fn rows(running: &Running<'_>, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
    let plan = semantics::physical_plan(running.session, plan).await?;
    Ok(execute_stream(plan, running.context.clone())?)
}

/// Appends the plan's rows to a table in one commit; returns their number.
async fn insert(
    running: &Running<'_>,
    plan: &LogicalPlan,
    target: &WriteTarget,
    table: &LoadedTable,
    actor: Actor,
) -> Result<u64> {
    let uncommitted = Uncommitted::new(&target.catalog, table.row.id);
    let mut appender = Appender::new(&table.metadata, uncommitted.destination(), RowLineage::Inherited)?;
    let columns = assignment::columns(table.metadata.current_schema());
    let mut batches = rows(running, plan).await?;
    while let Some(batch) = batches.try_next().await? {
        appender.append(&assignment::rows(&batch, &columns)?).await?;
    }
    let count = appender.rows();
    let added = appender.finish().await?;
    if !added.is_empty() {
        commit(target, table, RowChange { target: target.clone(), uncommitted, actor, added, removal: None }).await?;
    }
    Ok(count)
}

/// Commits a change of rows through the table's commit sequencer.
///
/// The change's files are reclaimed if the commit failed, and kept if its outcome is unknown.
pub(crate) async fn commit(target: &WriteTarget, table: &LoadedTable, change: RowChange) -> Result<()> {
    let uncommitted = change.uncommitted.clone();
    commit_change(target, table, uncommitted, change).await
}

/// Commits a change through the table's commit sequencer, with the files of `uncommitted`, as [`commit`] does.
pub(crate) async fn commit_change(
    target: &WriteTarget,
    table: &LoadedTable,
    uncommitted: Uncommitted,
    change: impl Rebase + 'static,
) -> Result<()> {
    let committed = target.catalog.commit_rebase(table.row.id, change).await;
    match committed {
        Ok(_) => uncommitted.keep(),
        Err(e) => {
            if e.code() == ErrorCode::CommitStateUnknown {
                uncommitted.keep();
            }
            return Err(e.into());
        }
    }
    Ok(())
}

/// Returns the type that a table can store and that is nearest to the type of a query's column.
fn storable(field: &Field) -> Result<DataType> {
    Ok(match field.data_type() {
        DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Timestamp(unit, zone) => {
            let unit = if *unit == TimeUnit::Nanosecond { TimeUnit::Nanosecond } else { TimeUnit::Microsecond };
            DataType::Timestamp(unit, zone.as_ref().map(|_| "+00:00".into()))
        }
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Float16 => DataType::Float32,
        DataType::Dictionary(_, value) => value.as_ref().clone(),
        DataType::Null => return Err(refused(format!("column {} has no type; cast it to one", field.name()))),
        other => other.clone(),
    })
}

/// Returns the schema of a table that is created for the rows of a query.
fn schema_of(made: &Schema) -> Result<IcebergSchema> {
    let mut names = HashSet::new();
    if let Some(twice) = made.fields().iter().find(|f| !names.insert(f.name())) {
        return Err(refused(format!("more than one column is called {}; give them different names with AS", twice.name())));
    }
    // A field's metadata refines its type: for example, it marks geometries and geographies.
    let field = |f: &Arc<Field>| Ok(Field::new(f.name(), storable(f)?, true).with_metadata(f.metadata().clone()));
    let fields = made.fields().iter().map(field).collect::<Result<Vec<_>>>()?;
    let has_no_type = |f: &&Field| schema_from_arrow(&Schema::new(vec![(*f).clone()])).is_err();
    if let Some(field) = fields.iter().find(has_no_type) {
        return Err(refused(format!(
            "column {} has type {}, which a table cannot store; cast it to another type",
            field.name(),
            sql_type(field.data_type())
        )));
    }
    let schema = schema_from_arrow(&Schema::new(fields)).map_err(|e| refused(e.to_string()))?;
    // In Arrow, a UUID is 16 bytes like any others, so the mark in the field decides.
    let typed = |(field, made): (&NestedFieldRef, &Arc<Field>)| {
        Arc::new(NestedField::optional(field.id, &field.name, semantics::stored(&field.field_type, made)))
    };
    let fields = schema.as_struct().fields().iter().zip(made.fields()).map(typed).collect();
    IcebergSchema::new(0, fields).map_err(|e| refused(e.to_string()))
}

/// Creates a table and fills it with the plan's rows; returns their number. A table that could not be filled is dropped.
async fn create(
    running: &Running<'_>,
    plan: &LogicalPlan,
    target: &WriteTarget,
    if_not_exists: bool,
    actor: &Actor,
) -> Result<u64> {
    let schema = schema_of(&arrow_types::with_shown_names(plan.schema().as_arrow()))?;
    // Variants, geometries and geographies need a later format version than tables have by default.
    let types = schema.field_ids().filter_map(|id| schema.field_by_id(id)?.field_type.first_version());
    let later = types.max().filter(|version| *version > DEFAULT_FORMAT_VERSION);
    let version = later.map(|version| (FORMAT_VERSION.to_owned(), version.to_string()));
    let request = CreateTable {
        name: target.name.name.clone(),
        location: None,
        schema,
        partition_spec: None,
        write_order: None,
        stage_create: false,
        properties: version.into_iter().collect(),
    };
    let created = match target.catalog.create_table(&target.name.namespace, request, actor).await {
        Ok(created) => created,
        Err(e) if if_not_exists && e.code() == ErrorCode::AlreadyExists => return Ok(0),
        Err(e) => return Err(e.into()),
    };
    let Created::Table(table) = created else {
        return Err(QueryError::Execution("the table was staged and not created".to_owned()));
    };
    // The statement goes on as Esker's own: its rules are those from before the creation, which do not know the owner yet.
    let own = Actor { authority: Authority::Server, ..actor.clone() };
    let filled = insert(running, plan, target, &table, own.clone()).await;
    if filled.is_err() && target.catalog.table(&target.name).await.is_ok_and(|row| row.id == table.row.id) {
        // A half-filled table would surprise the user.
        if let Err(error) = target.catalog.drop_table(&target.name, DroppedFiles::Purge, &own).await {
            tracing::warn!(%error, table = %target.name, "the table of a failed CREATE TABLE AS could not be dropped");
        }
    }
    filled
}

/// A condition on a table's columns with their schema; the condition is `None` if every row may match.
type Condition = (Option<Arc<dyn PhysicalExpr>>, SchemaRef);

/// Returns the condition under which a plan looks for rows, as far as statistics can check it.
fn condition(session: &SessionState, plan: &LogicalPlan) -> Result<Option<Condition>> {
    let optimised = semantics::optimize(session, plan)?;
    let mut found = None;
    optimised.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && statement_text::is_rows_name(scan.table_name.table())
        {
            found = Some((scan.filters.clone(), scan.source.schema()));
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let Some((filters, schema)) = found else { return Ok(None) };
    let unqualified = filters.into_iter().map(|f| {
        f.transform(|e| match e {
            datafusion::logical_expr::Expr::Column(c) => {
                let plain = datafusion::common::Column::from_name(c.name);
                Ok(datafusion::common::tree_node::Transformed::yes(datafusion::logical_expr::Expr::Column(plain)))
            }
            e => Ok(datafusion::common::tree_node::Transformed::no(e)),
        })
        .map(|t| t.data)
    });
    let filters = unqualified.collect::<datafusion::error::Result<Vec<_>>>()?;
    Ok(Some((prune::condition(session, &schema, &filters)?, schema)))
}

/// Deletes the rows that the plan finds, or updates them if `schema` is given; returns their number.
async fn remove(
    running: &Running<'_>,
    plan: &LogicalPlan,
    target: &WriteTarget,
    schema: Option<i32>,
    actor: &Actor,
) -> Result<u64> {
    let (table, update) = (target.load(&actor.authority, TO_CHANGE_ROWS).await?, schema.is_some());
    if let Some(schema) = schema {
        check_schema(&table, schema)?;
    }
    let metadata = &table.metadata;
    let Some(base) = rows_snapshot(plan)? else { return Ok(0) };
    let gone = || CatalogError::Conflict(format!("snapshot {base} of {} was expired while the statement ran", table.row.name));
    let snapshot = metadata.snapshots.get(base).ok_or_else(gone)?;
    let known = target.catalog.snapshot_files(&table, snapshot, &ManifestProjection::files()).await?;
    let uncommitted = Uncommitted::new(&target.catalog, table.row.id);
    let lineage = RowLineage::of_rewrite(metadata);
    let mut appender = update.then(|| Appender::new(metadata, uncommitted.destination(), lineage)).transpose()?;
    let columns = assignment::columns(metadata.current_schema());
    let mut positions: HashMap<String, RoaringTreemap> = HashMap::new();
    let mut count = 0;
    let repeated = if update { Repeated::Refuse } else { Repeated::Count };
    let mut batches = rows(running, plan).await?;
    while let Some(batch) = batches.try_next().await? {
        count += collect(&batch, &mut positions, repeated)?;
        if let Some(appender) = &mut appender {
            appender.append(&assignment::rows(&updated(&batch, lineage)?, &columns)?).await?;
        }
    }
    let added = match appender {
        Some(appender) => appender.finish().await?,
        None => Vec::new(),
    };
    if count == 0 {
        return Ok(0);
    }
    let (condition, schema) = condition(running.session, plan)?.unwrap_or_else(|| (None, count_schema()));
    let level = if update { &UPDATE_ISOLATION } else { &DELETE_ISOLATION };
    let serializable = level.of(&metadata.properties) == Isolation::Serializable;
    let removal = Removal { base, base_files: known, positions, condition, schema, serializable, update };
    let actor = actor.clone();
    commit(target, &table, RowChange { target: target.clone(), uncommitted, actor, added, removal: Some(removal) }).await?;
    Ok(count)
}

/// Returns the snapshot in which a plan looks for rows; `None` if the table has none.
fn rows_snapshot(plan: &LogicalPlan) -> Result<Option<i64>> {
    let mut found = None;
    plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            found = found.or_else(|| statement_text::rows_snapshot(scan.table_name.table()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found.flatten())
}

/// What happens to a row that a statement finds a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeated {
    /// It counts again, as for `DELETE`.
    Count,
    /// The statement is refused, because an `UPDATE` would give the row two values.
    Refuse,
}

/// Adds the positions of a batch's rows to `positions`; returns the number of rows.
///
/// A file that was added twice has its rows twice, and they count twice.
fn collect(batch: &RecordBatch, positions: &mut HashMap<String, RoaringTreemap>, repeated: Repeated) -> Result<u64> {
    let paths = arrow::compute::cast(batch.column(0), &DataType::Utf8).map_err(|e| QueryError::Execution(e.to_string()))?;
    let (paths, rows) = (paths.as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
    let mut count = 0;
    for (path, row) in paths.iter().zip(rows) {
        let (Some(path), Some(Ok(row))) = (path, row.map(u64::try_from)) else { continue };
        let fresh = match positions.get_mut(path) {
            Some(set) => set.insert(row),
            None => positions.entry(path.to_owned()).or_default().insert(row),
        };
        if repeated == Repeated::Refuse && !fresh {
            return Err(refused(format!("UPDATE computes more than one new value for row {row} of {path}")));
        }
        count += 1;
    }
    Ok(count)
}

/// Returns the updated rows, with their row ids if the table has row lineage.
///
/// The first three columns of the batch are file, position and row id. Spec: "Row Lineage".
fn updated(batch: &RecordBatch, lineage: RowLineage) -> Result<RecordBatch> {
    let failed = |e: arrow::error::ArrowError| QueryError::Execution(e.to_string());
    let own: Vec<usize> = (3..batch.num_columns()).collect();
    let own = batch.project(&own).map_err(failed)?;
    if lineage == RowLineage::Inherited {
        return Ok(own);
    }
    let mut columns: Vec<ArrayRef> = own.columns().to_vec();
    let mut fields: Vec<_> = own.schema().fields().iter().cloned().collect();
    let updated: ArrayRef = Arc::new(Int64Array::new_null(batch.num_rows()));
    for (name, column) in [("_row_id", batch.column(2).clone()), ("_last_updated_sequence_number", updated)] {
        fields.push(Arc::new(Field::new(name, DataType::Int64, true)));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(failed)
}

/// Returns the one-row result that holds a number of rows.
pub(crate) fn count_batch(count: u64) -> Result<RecordBatch> {
    let column: ArrayRef = Arc::new(UInt64Array::from(vec![count]));
    RecordBatch::try_new(count_schema(), vec![column]).map_err(|e| QueryError::Execution(e.to_string()))
}

/// Checks whether a failed statement may be tried again because another commit came between.
pub(crate) fn is_conflict(error: &QueryError) -> bool {
    matches!(error, QueryError::Catalog(error) if error.code() == ErrorCode::CommitConflict)
}
