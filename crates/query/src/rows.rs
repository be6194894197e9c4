//! Small tables that are built from serialisable rows: system tables and metadata tables.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::json::ReaderBuilder;
use datafusion::datasource::{MemTable, TableProvider};
use serde::Serialize;

use crate::{QueryError, Result};

/// Returns a nullable column.
pub(crate) fn column(name: &str, ty: DataType) -> Field {
    Field::new(name, ty, true)
}

/// Returns the type of times that are given in milliseconds since the Unix epoch.
pub(crate) fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// Returns the type of maps from text to text.
pub(crate) fn text_map() -> DataType {
    let entries = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries.into()), false)), false)
}

/// Builds a batch from rows whose fields are the columns by name; `None` if there are no rows.
pub(crate) fn batch<T: Serialize>(columns: Vec<Field>, rows: &[T]) -> Result<Option<RecordBatch>> {
    let schema: SchemaRef = Arc::new(Schema::new(columns));
    let failed = |e: arrow::error::ArrowError| QueryError::Execution(e.to_string());
    let mut decoder = ReaderBuilder::new(schema.clone()).with_batch_size(rows.len().max(1)).build_decoder().map_err(failed)?;
    decoder.serialize(rows).map_err(failed)?;
    decoder.flush().map_err(failed)
}

/// Builds a table from rows whose fields are the columns by name.
pub(crate) fn table<T: Serialize>(columns: Vec<Field>, rows: &[T]) -> Result<Arc<dyn TableProvider>> {
    let schema: SchemaRef = Arc::new(Schema::new(columns.clone()));
    let batches = batch(columns, rows)?.into_iter().collect();
    Ok(Arc::new(MemTable::try_new(schema, vec![batches])?))
}
