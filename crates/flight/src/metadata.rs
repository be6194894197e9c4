//! The answers to the metadata commands: catalogs, schemas, tables and table types.
//!
//! A catalog of Flight SQL is a warehouse, a schema is a namespace with its levels joined by dots.
//!
//! Spec: Arrow Flight SQL, "SQL Metadata".

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow_flight::sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables};
use esker_query::{Engine, listed_columns};
use tonic::Status;

use crate::error::{internal, status};

/// The only type of table that is listed.
const TABLE: &str = "TABLE";

/// Lists the warehouses.
///
/// # Errors
///
/// Returns the status `INTERNAL` if the batch can't be built.
pub(crate) fn catalogs(engine: &Engine, command: CommandGetCatalogs) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    for catalog in engine.catalogs() {
        builder.append(&catalog.options().warehouse);
    }
    builder.build().map_err(internal)
}

/// Lists the namespaces of every warehouse, nested ones included.
///
/// # Errors
///
/// Returns the status of the error if a catalog can't be read, and `INTERNAL` if the batch can't be built.
pub(crate) async fn schemas(engine: &Engine, command: CommandGetDbSchemas) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    for catalog in engine.catalogs() {
        for namespace in catalog.all_namespaces().await.map_err(|e| status(&e))?.into_iter().map(|row| row.name) {
            builder.append(&catalog.options().warehouse, namespace.to_string());
        }
    }
    builder.build().map_err(internal)
}

/// Lists the tables of every warehouse. Views are not listed.
///
/// With `include_schema`, each table has its columns. A table whose metadata can't be read is listed without columns.
///
/// # Errors
///
/// Returns the status of the error if a catalog can't be read, and `INTERNAL` if the batch can't be built.
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

/// Lists the types of tables.
///
/// # Errors
///
/// Returns the status `INTERNAL` if the batch can't be built.
pub(crate) fn table_types(command: CommandGetTableTypes) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    builder.append(TABLE);
    builder.build().map_err(internal)
}
