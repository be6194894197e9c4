//! Row filters and column masks, enforced around the scan of a table.
//!
//! The table of a caller whom restrictions concern is a [`RestrictedTable`]. Its scan is one node without inputs: no rule looks
//! below it, nothing of a statement is pushed into it, and neither `EXPLAIN` nor statistics show what is below. So every
//! expression of a statement sees masked values of rows that passed the filter. `filter` evaluates filters, `mask` and `nested`
//! mask values, and `exec` is the node. Start reading at [`RestrictedTable`].

mod exec;
mod filter;
mod mask;
mod nested;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use esker_access::{MaskAction, Restrictions};
use esker_types::{Coded, Panicked, TableName};
use uuid::Uuid;

use crate::error::{Stopped, external, find_cause};
use crate::{IcebergTable, QueryError, opaque};
use exec::{BatchRules, OutputColumn, RestrictedExec};
use filter::RowPredicate;
use nested::Masks;

/// The random bytes that a statement's hashes of the action `sha-256-query-local` begin with. All its tables share them.
#[derive(Clone)]
pub(crate) struct Salt(Arc<[u8; 32]>);

impl Salt {
    /// Returns new random bytes.
    pub(crate) fn fresh() -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        bytes[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        Self(Arc::new(bytes))
    }

    /// Returns the bytes.
    fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt")
    }
}

/// Builds the error for a statement that changes rows of a table that it may not read as it is.
pub(crate) fn refused_change(table: &TableName) -> QueryError {
    QueryError::Restricted { table: table.to_string(), what: "DELETE and UPDATE are refused".to_owned() }
}

/// Builds the error for a metadata table that shows counts, bounds or partitions of rows that the caller may not read.
pub(crate) fn refused_metadata(table: &TableName, what: &str) -> QueryError {
    QueryError::Restricted { table: table.to_string(), what: format!("the metadata table ${what} can't be read") }
}

/// Replaces the message of an error that occurred below a restricted scan: it may name files, whose paths show partition values.
fn concealed(table: &str, error: DataFusionError) -> DataFusionError {
    let is_of_the_statement = matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
        || find_cause::<Stopped>(&error).is_some()
        || find_cause::<Panicked>(&error).is_some();
    if is_of_the_statement {
        return error;
    }
    let error = QueryError::from(error);
    tracing::warn!(table, %error, "a table with row filters or column masks can't be read");
    let message = format!("table {table} can't be read; the server's log has the reason");
    external(QueryError::Read { code: error.code(), message })
}

/// A table with the restrictions that count for a caller.
pub(crate) struct RestrictedTable {
    inner: IcebergTable,
    restrictions: Restrictions,
    salt: Salt,
    schema: SchemaRef,
}

impl RestrictedTable {
    /// Restricts a table.
    pub(crate) fn new(inner: IcebergTable, restrictions: Restrictions, salt: Salt) -> Self {
        let schema = masked_schema(&inner, &restrictions);
        Self { inner, restrictions, salt, schema }
    }
}

impl fmt::Debug for RestrictedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestrictedTable").finish_non_exhaustive()
    }
}

/// Returns the columns of a table. One that is replaced by nulls is not required.
fn masked_schema(table: &IcebergTable, restrictions: &Restrictions) -> SchemaRef {
    let nulls = |id: i32| restrictions.masks.contains(&(id, MaskAction::ReplaceWithNull));
    let schema = table.schema();
    let ids = table.iceberg.as_struct().fields().iter().map(|field| field.id);
    let one = |(field, id): (&FieldRef, i32)| {
        let mut metadata = field.metadata().clone();
        match nulls(id) && metadata.remove(opaque::REQUIRED).is_some() {
            true => Arc::new(Field::clone(field).with_metadata(metadata)),
            false => field.clone(),
        }
    };
    let fields: Vec<FieldRef> = schema.fields().iter().zip(ids).map(one).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

#[async_trait]
impl TableProvider for RestrictedTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // A statement's filter may fail on a row that the caller may not see, and tell by it what is in the row.
        Ok(vec![TableProviderFilterPushDown::Unsupported; filters.len()])
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.inner.get_column_default(column)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = self.inner.iceberg.as_struct().fields();
        let all: Vec<usize> = (0..columns.len()).collect();
        let wanted = projection.unwrap_or(&all);
        let inner_schema = self.inner.schema();
        let is_readable = |at: usize| opaque::type_of(inner_schema.field(at)).is_none();
        opaque::check(wanted.iter().map(|at| &inner_schema.fields()[*at]))?;
        let filter = self.restrictions.filter.as_ref().map(|filter| RowPredicate::new(filter, &self.inner.iceberg, &is_readable));
        let filter = filter.filter(|filter| !filter.is_always_true());

        let mut read: BTreeSet<usize> = wanted.iter().copied().collect();
        filter.iter().for_each(|filter| filter.collect_columns(&mut read));
        let read: Vec<usize> = read.into_iter().collect();
        let masks = Masks::new(&self.restrictions.masks);
        let table = self.inner.table.row.name.to_string();
        let mut outputs = Vec::with_capacity(wanted.len());
        for at in wanted {
            let mask = masks.of_column(&columns[*at]);
            let mask = mask.map_err(|what| external(QueryError::Restricted { table: table.clone(), what }))?;
            let place = read.binary_search(at).map_err(|_| external(QueryError::Execution("a column is not read".to_owned())))?;
            outputs.push(OutputColumn { place, mask });
        }
        let input: Arc<dyn ExecutionPlan> = match &filter {
            // Nothing is read, so that nothing that goes wrong there is told.
            Some(filter) if filter.is_never_true() => Arc::new(EmptyExec::new(Arc::new(inner_schema.project(&read)?))),
            filter => {
                let pruning: Vec<Expr> = filter.iter().filter_map(|filter| filter.pruning(&inner_schema)).collect();
                let scanned = self.inner.scan(state, Some(&read), &pruning, None).await;
                scanned.map_err(|error| concealed(&table, error))?
            }
        };
        let rules = BatchRules { table, filter, read, outputs, salt: self.salt.clone() };
        let schema = Arc::new(self.schema.project(wanted)?);
        Ok(Arc::new(RestrictedExec::new(input, rules, schema, state.config().target_partitions())))
    }
}
