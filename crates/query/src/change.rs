//! What statements that change tables do with the rows of their plans.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execute_stream;
use esker_catalog::{Actor, CatalogError, Change, CreateTable, LoadedTable};
use esker_format::{
    DEFAULT_FORMAT_VERSION, FORMAT_VERSION, ManifestProjection, NestedField, NestedFieldRef, Schema as IcebergSchema,
};
use esker_read::schema_of_arrow;
use esker_table::properties::{DELETE_ISOLATION, Isolation, UPDATE_ISOLATION};
use esker_types::{Coded, ErrorCode, Principal};
use esker_write::Appender;
use futures::TryStreamExt;
use roaring::RoaringTreemap;

use crate::commit::{Removal, RowChange};
use crate::error_wording::sql_type;
use crate::target::{Uncommitted, WriteTarget};
use crate::{QueryError, Result, arrow_types, assignment, prune, semantics, statement_text};

/// What is to be done with the rows of a plan.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Handed over.
    Query,
    /// Appended to a table, as its columns were when the statement was planned.
    Insert { target: WriteTarget, schema: i32 },
    /// Put into a table that is made for them.
    Create { target: WriteTarget, if_not_exists: bool },
    /// They say where rows are that go.
    Delete(WriteTarget),
    /// They say where rows are, and what they become in the columns as they were when the statement was planned.
    Update { target: WriteTarget, schema: i32 },
}

/// The answer to a statement that changes rows: how many.
pub(crate) fn count_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]))
}

pub(crate) fn refused(what: impl Into<String>) -> QueryError {
    QueryError::Statement(what.into())
}

/// Runs a statement that changes rows; returns how many it was about.
pub(crate) async fn run(
    session: &SessionState,
    context: &Arc<TaskContext>,
    plan: &LogicalPlan,
    action: &Action,
    principal: &Principal,
) -> Result<u64> {
    let running = &Running { session, context };
    let actor = Actor { principal: principal.to_string(), receipt: None };
    match action {
        Action::Query => Err(QueryError::Execution("a query changes nothing".to_owned())),
        Action::Insert { target, schema } => {
            let table = target.load().await?;
            check_schema(&table, *schema)?;
            insert(running, plan, target, &table, actor).await
        }
        Action::Create { target, if_not_exists } => create(running, plan, target, *if_not_exists, actor).await,
        Action::Delete(target) => remove(running, plan, target, None, actor).await,
        Action::Update { target, schema } => remove(running, plan, target, Some(*schema), actor).await,
    }
}

/// Rows that were planned for some columns go into no others: the statement starts again.
fn check_schema(table: &LoadedTable, schema: i32) -> Result<()> {
    match table.metadata.current_schema_id == schema {
        true => Ok(()),
        false => Err(CatalogError::Conflict(format!("the columns of {} were changed meanwhile", table.row.name)).into()),
    }
}

/// What a statement is planned and run in.
#[derive(Clone, Copy)]
struct Running<'a> {
    session: &'a SessionState,
    context: &'a Arc<TaskContext>,
}

async fn rows(running: &Running<'_>, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
    let plan = semantics::physical(running.session, plan).await?;
    Ok(execute_stream(plan, running.context.clone())?)
}

async fn insert(
    running: &Running<'_>,
    plan: &LogicalPlan,
    target: &WriteTarget,
    table: &LoadedTable,
    actor: Actor,
) -> Result<u64> {
    let uncommitted = Uncommitted::new(&target.catalog, table.row.id);
    let mut appender = Appender::new(&table.metadata, uncommitted.destination(), false)?;
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

pub(crate) async fn commit(target: &WriteTarget, table: &LoadedTable, change: RowChange) -> Result<()> {
    let uncommitted = change.uncommitted.clone();
    let committed = target.catalog.commit_to(table.row.id, Change::Rebased(Arc::new(change))).await;
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

/// A type that a column can have, near to the one that a query made.
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

/// The schema of a table that is made for the rows of a query.
fn schema_of(made: &Schema) -> Result<IcebergSchema> {
    let mut names = HashSet::new();
    if let Some(twice) = made.fields().iter().find(|f| !names.insert(f.name())) {
        return Err(refused(format!("more than one column is called {}; name them apart with AS", twice.name())));
    }
    // What a field says of its type, such as that it is of shapes, is told by its metadata.
    let field = |f: &Arc<Field>| Ok(Field::new(f.name(), storable(f)?, true).with_metadata(f.metadata().clone()));
    let fields = made.fields().iter().map(field).collect::<Result<Vec<_>>>()?;
    let has_no_type = |f: &&Field| schema_of_arrow(&Schema::new(vec![(*f).clone()])).is_err();
    if let Some(field) = fields.iter().find(has_no_type) {
        return Err(refused(format!(
            "column {} is of {}, which no table has; cast it to another type",
            field.name(),
            sql_type(field.data_type())
        )));
    }
    let schema = schema_of_arrow(&Schema::new(fields)).map_err(|e| refused(e.to_string()))?;
    // Arrow has a UUID as 16 bytes, like others.
    let typed = |(field, made): (&NestedFieldRef, &Arc<Field>)| {
        Arc::new(NestedField::optional(field.id, &field.name, semantics::stored(&field.field_type, made)))
    };
    let fields = schema.as_struct().fields().iter().zip(made.fields()).map(typed).collect();
    IcebergSchema::new(0, fields).map_err(|e| refused(e.to_string()))
}

async fn create(
    running: &Running<'_>,
    plan: &LogicalPlan,
    target: &WriteTarget,
    if_not_exists: bool,
    actor: Actor,
) -> Result<u64> {
    let schema = schema_of(&arrow_types::named(plan.schema().as_arrow()))?;
    // Variants and shapes take a later version than the one that tables have unless they ask.
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
    match target.catalog.create_table(&target.name.namespace, request, &actor).await {
        Ok(_) => {}
        Err(e) if if_not_exists && e.code() == ErrorCode::AlreadyExists => return Ok(0),
        Err(e) => return Err(e.into()),
    }
    let table = target.load().await?;
    let filled = insert(running, plan, target, &table, actor.clone()).await;
    if filled.is_err() {
        // Half a table would be a surprise.
        if let Err(error) = target.catalog.drop_table(&target.name, true, &actor).await {
            tracing::warn!(%error, table = %target.name, "the table of a failed CREATE TABLE AS could not be dropped");
        }
    }
    filled
}

/// A condition on a table's columns, none if there is none, with their schema.
type Condition = (Option<Arc<dyn PhysicalExpr>>, SchemaRef);

/// What statistics can tell of the rows that a plan looks for.
fn condition(session: &SessionState, plan: &LogicalPlan) -> Result<Option<Condition>> {
    let optimised = semantics::optimised(session, plan)?;
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

async fn remove(
    running: &Running<'_>,
    plan: &LogicalPlan,
    target: &WriteTarget,
    schema: Option<i32>,
    actor: Actor,
) -> Result<u64> {
    let (table, update) = (target.load().await?, schema.is_some());
    if let Some(schema) = schema {
        check_schema(&table, schema)?;
    }
    let metadata = &table.metadata;
    let Some(base) = rows_snapshot(plan)? else { return Ok(0) };
    let gone = || CatalogError::Conflict(format!("snapshot {base} of {} was expired meanwhile", table.row.name));
    let snapshot = metadata.snapshots.get(base).ok_or_else(gone)?;
    let known = target.catalog.files(&table, snapshot, &ManifestProjection::files()).await?;
    let uncommitted = Uncommitted::new(&target.catalog, table.row.id);
    let lineage = metadata.format_version >= 3;
    let mut appender = update.then(|| Appender::new(metadata, uncommitted.destination(), lineage)).transpose()?;
    let columns = assignment::columns(metadata.current_schema());
    let mut positions: HashMap<String, RoaringTreemap> = HashMap::new();
    let mut count = 0;
    let mut batches = rows(running, plan).await?;
    while let Some(batch) = batches.try_next().await? {
        count += collect(&batch, &mut positions, update)?;
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
    let removal = Removal { base, known, positions, condition, schema, serializable, update };
    commit(target, &table, RowChange { target: target.clone(), uncommitted, actor, added, removal: Some(removal) }).await?;
    Ok(count)
}

/// The snapshot that a plan looks for rows in.
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

/// Takes the places of rows, and tells how many rows there were: those of a file that was added twice are there twice.
fn collect(batch: &RecordBatch, positions: &mut HashMap<String, RoaringTreemap>, once: bool) -> Result<u64> {
    let paths = arrow::compute::cast(batch.column(0), &DataType::Utf8).map_err(|e| QueryError::Execution(e.to_string()))?;
    let (paths, rows) = (paths.as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
    let mut count = 0;
    for (path, row) in paths.iter().zip(rows) {
        let (Some(path), Some(Ok(row))) = (path, row.map(u64::try_from)) else { continue };
        let fresh = match positions.get_mut(path) {
            Some(set) => set.insert(row),
            None => positions.entry(path.to_owned()).or_default().insert(row),
        };
        if once && !fresh {
            return Err(refused(format!("UPDATE finds more than one new value for row {row} of {path}")));
        }
        count += 1;
    }
    Ok(count)
}

/// The rows as they are to be, with their row ids where the table has row lineage.
fn updated(batch: &RecordBatch, lineage: bool) -> Result<RecordBatch> {
    let failed = |e: arrow::error::ArrowError| QueryError::Execution(e.to_string());
    let own: Vec<usize> = (3..batch.num_columns()).collect();
    let own = batch.project(&own).map_err(failed)?;
    if !lineage {
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

/// The answer that says how many.
pub(crate) fn count_batch(count: u64) -> Result<RecordBatch> {
    let column: ArrayRef = Arc::new(UInt64Array::from(vec![count]));
    RecordBatch::try_new(count_schema(), vec![column]).map_err(|e| QueryError::Execution(e.to_string()))
}

/// Whether a failed statement is worth another try: somebody else's commit got in between.
pub(crate) fn is_conflict(error: &QueryError) -> bool {
    matches!(error, QueryError::Catalog(error) if error.code() == ErrorCode::CommitConflict)
}
