//! The answers of the metadata commands.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow_flight::sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables};
use esker_query::{Engine, listed_columns};
use tonic::Status;

use crate::error::{internal, status};

/// What the one kind of table is called.
const TABLE: &str = "TABLE";

pub(crate) fn catalogs(engine: &Engine, command: CommandGetCatalogs) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    for catalog in engine.catalogs() {
        builder.append(&catalog.options().warehouse);
    }
    builder.build().map_err(internal)
}

pub(crate) async fn schemas(engine: &Engine, command: CommandGetDbSchemas) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    for catalog in engine.catalogs() {
        for namespace in catalog.all_namespaces().await.map_err(|e| status(&e))? {
            builder.append(&catalog.options().warehouse, namespace.to_string());
        }
    }
    builder.build().map_err(internal)
}

pub(crate) async fn tables(engine: &Engine, command: CommandGetTables) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    let mut rows = Vec::new();
    for catalog in engine.catalogs() {
        rows.extend(catalog.tables().await.map_err(|e| status(&e))?.into_iter().map(|row| (catalog, row)));
    }
    for (catalog, row) in rows {
        let schema = match builder.include_schema() {
            false => None,
            true => catalog.schema_to_list(&row).await,
        };
        let schema = schema.map_or_else(|| Schema::empty().into(), |schema| listed_columns(&schema));
        let namespace = row.name.namespace.to_string();
        builder.append(&catalog.options().warehouse, namespace, &row.name.name, TABLE, &schema).map_err(internal)?;
    }
    builder.build().map_err(internal)
}

pub(crate) fn table_types(command: CommandGetTableTypes) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    builder.append(TABLE);
    builder.build().map_err(internal)
}
