//! `information_schema` and `DESCRIBE` in terms of SQL.
//!
//! The planner's own tables list tables as views, count columns from 0 and name Arrow's types. This module replaces them in a
//! plan. Start reading at `rewrite_information_schema`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::catalog::information_schema::INFORMATION_SCHEMA;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, TableType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use serde::Serialize;

use crate::error::external;
use crate::opaque;
use crate::rows;
use crate::select::shown;
use crate::semantics::type_name;

/// Replaces a plan's lists of views and of columns, and its `DESCRIBE`, by those of this module.
pub(crate) fn rewrite_information_schema(plan: LogicalPlan, names: &Arc<dyn CatalogProviderList>) -> crate::Result<LogicalPlan> {
    let plan = match plan {
        LogicalPlan::DescribeTable(describe) => described(&describe.schema)?,
        plan => plan,
    };
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
        if scan.table_name.schema() != Some(INFORMATION_SCHEMA) {
            return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
        }
        let about = match scan.table_name.table() {
            "columns" => ListKind::Columns,
            "views" => ListKind::Views,
            _ => return Ok(Transformed::no(LogicalPlan::TableScan(scan))),
        };
        let schema = scan.source.schema();
        let list = List { about, schema: schema.clone(), names: names.clone() };
        scan.source = provider_as_source(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(list)])?));
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    });
    Ok(rewritten.data()?)
}

/// The content of a list.
#[derive(Debug, Clone, Copy)]
enum ListKind {
    Columns,
    Views,
}

/// A table whose rows are computed when it is read.
#[derive(Debug)]
struct List {
    about: ListKind,
    schema: SchemaRef,
    names: Arc<dyn CatalogProviderList>,
}

impl PartitionStream for List {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (about, schema, names) = (self.about, self.schema.clone(), self.names.clone());
        let made = async move { batch(about, &schema, &*names).await };
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), futures::stream::once(made)))
    }
}

/// Computes the rows of a list, as one batch.
async fn batch(about: ListKind, schema: &SchemaRef, names: &dyn CatalogProviderList) -> Result<RecordBatch> {
    let fields: Vec<Field> = schema.fields().iter().map(|field| Field::clone(field)).collect();
    let made = match about {
        ListKind::Columns => rows::batch(fields, &columns(names).await?),
        ListKind::Views => rows::batch(fields, &views(names).await?),
    };
    Ok(made.map_err(external)?.unwrap_or_else(|| RecordBatch::new_empty(schema.clone())))
}

/// A row of `information_schema.views`.
#[derive(Serialize)]
struct View {
    table_catalog: String,
    table_schema: String,
    table_name: String,
    definition: Option<String>,
}

/// Returns the rows of `information_schema.views`.
async fn views(names: &dyn CatalogProviderList) -> Result<Vec<View>> {
    let mut made = Vec::new();
    for place in places(names) {
        if place.schema.table_type(&place.table).await? != Some(TableType::View) {
            continue;
        }
        let view = place.schema.table(&place.table).await?;
        let definition = view.and_then(|view| view.get_table_definition().map(str::to_owned));
        made.push(View { table_catalog: place.catalog, table_schema: place.namespace, table_name: place.table, definition });
    }
    Ok(made)
}

/// A row of `information_schema.columns`.
#[derive(Serialize)]
struct ColumnRow {
    table_catalog: String,
    table_schema: String,
    table_name: String,
    column_name: String,
    ordinal_position: u64,
    is_nullable: &'static str,
    data_type: String,
    numeric_precision: Option<u64>,
    numeric_precision_radix: Option<u64>,
    numeric_scale: Option<u64>,
}

/// Returns the rows of `information_schema.columns`.
async fn columns(names: &dyn CatalogProviderList) -> Result<Vec<ColumnRow>> {
    let mut made = Vec::new();
    for place in places(names) {
        let Some(table) = place.schema.table(&place.table).await? else { continue };
        for (at, field) in table.schema().fields().iter().enumerate() {
            let (numeric_precision, numeric_precision_radix, numeric_scale) = number(field.data_type());
            made.push(ColumnRow {
                table_catalog: place.catalog.clone(),
                table_schema: place.namespace.clone(),
                table_name: place.table.clone(),
                column_name: field.name().clone(),
                ordinal_position: at as u64 + 1,
                is_nullable: if opaque::may_be_null(field) { "YES" } else { "NO" },
                data_type: type_name(field),
                numeric_precision,
                numeric_precision_radix,
                numeric_scale,
            });
        }
    }
    Ok(made)
}

/// Returns the precision of a number type, the base of its digits, and its scale, as PostgreSQL lists them.
fn number(ty: &DataType) -> (Option<u64>, Option<u64>, Option<u64>) {
    match ty {
        DataType::Int32 => (Some(32), Some(2), Some(0)),
        DataType::Int64 => (Some(64), Some(2), Some(0)),
        DataType::Float32 => (Some(24), Some(2), None),
        DataType::Float64 => (Some(53), Some(2), None),
        DataType::Decimal128(precision, scale) => (Some((*precision).into()), Some(10), u64::try_from(*scale).ok()),
        _ => (None, None, None),
    }
}

/// A table or view with its names and its schema provider.
struct ListedTable {
    catalog: String,
    namespace: String,
    table: String,
    schema: Arc<dyn SchemaProvider>,
}

/// Returns all tables and views that the names list.
fn places(names: &dyn CatalogProviderList) -> Vec<ListedTable> {
    let mut found = Vec::new();
    for name in names.catalog_names() {
        let Some(catalog) = names.catalog(&name) else { continue };
        for namespace in catalog.schema_names() {
            let Some(schema) = catalog.schema(&namespace) else { continue };
            for table in schema.table_names() {
                found.push(ListedTable { catalog: name.clone(), namespace: namespace.clone(), table, schema: schema.clone() });
            }
        }
    }
    found
}

/// A row of `DESCRIBE`.
#[derive(Serialize)]
struct Described {
    column_name: String,
    data_type: String,
    is_nullable: &'static str,
}

/// Returns the plan of `DESCRIBE` for a schema.
fn described(schema: &arrow::datatypes::Schema) -> crate::Result<LogicalPlan> {
    let one = |field: &Arc<Field>| Described {
        column_name: shown(field.name()).to_owned(),
        data_type: type_name(field),
        is_nullable: if opaque::may_be_null(field) { "YES" } else { "NO" },
    };
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let all: Vec<Described> = schema.fields().iter().map(one).collect();
    let table: Arc<dyn TableProvider> = rows::table(vec![text("column_name"), text("data_type"), text("is_nullable")], &all)?;
    Ok(LogicalPlanBuilder::scan("columns", provider_as_source(table), None)?.build()?)
}
