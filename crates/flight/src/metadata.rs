//! The answers to the metadata commands: catalogs, schemas, tables and table types.
//!
//! A catalog of Flight SQL is a warehouse, a schema is a namespace with its levels joined by dots. Each list has what the caller
//! may see.
//!
//! Spec: Arrow Flight SQL, "SQL Metadata".

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow_flight::sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables};
use esker_catalog::Authority;
use esker_query::{Engine, is_visible_warehouse, listed_columns, lists_columns, visible_namespaces, visible_tables};
use tonic::Status;

use crate::error::{internal, status};

/// The only type of table that is listed.
const TABLE: &str = "TABLE";

/// Lists the warehouses.
///
/// # Errors
///
/// Returns the status of the error if a catalog can't be read, and `INTERNAL` if the batch can't be built.
pub(crate) async fn catalogs(engine: &Engine, command: CommandGetCatalogs, by: &Authority) -> Result<RecordBatch, Status> {
    let mut seen = Vec::new();
    for catalog in engine.catalogs() {
        if is_visible_warehouse(catalog, by).await.map_err(|e| status(&e))? {
            seen.push(&catalog.options().warehouse);
        }
    }
    let mut builder = command.into_builder();
    seen.into_iter().for_each(|warehouse| builder.append(warehouse));
    builder.build().map_err(internal)
}

/// Lists the namespaces of every warehouse, nested ones included.
///
/// # Errors
///
/// Returns the status of the error if a catalog can't be read, and `INTERNAL` if the batch can't be built.
pub(crate) async fn schemas(engine: &Engine, command: CommandGetDbSchemas, by: &Authority) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    for catalog in engine.catalogs() {
        for namespace in visible_namespaces(catalog, by).await.map_err(|e| status(&e))? {
            builder.append(&catalog.options().warehouse, namespace.to_string());
        }
    }
    builder.build().map_err(internal)
}

/// Lists the tables of every warehouse. Views are not listed.
///
/// With `include_schema`, each table has its columns. A table whose metadata can't be read, or whose columns the caller may not
/// see, is listed without columns.
///
/// # Errors
///
/// Returns the status of the error if a catalog can't be read, and `INTERNAL` if the batch can't be built.
pub(crate) async fn tables(engine: &Engine, command: CommandGetTables, by: &Authority) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    let mut rows = Vec::new();
    for catalog in engine.catalogs() {
        rows.extend(visible_tables(catalog, by).await.map_err(|e| status(&e))?.into_iter().map(|row| (catalog, row)));
    }
    for (catalog, row) in rows {
        let schema = match builder.include_schema() && lists_columns(by, catalog, &row) {
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
