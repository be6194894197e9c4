//! The answers of the metadata commands.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow_flight::sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables};
use esker_catalog::Catalog;
use iceberg::arrow::schema_to_arrow_schema;
use tonic::Status;

use crate::error::{internal, status};

/// What the one kind of table is called.
const TABLE: &str = "TABLE";

pub(crate) fn catalogs(catalog: &Catalog, command: CommandGetCatalogs) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    builder.append(&catalog.options().warehouse);
    builder.build().map_err(internal)
}

pub(crate) async fn schemas(catalog: &Catalog, command: CommandGetDbSchemas) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    for namespace in catalog.all_namespaces().await.map_err(|e| status(&e))? {
        builder.append(&catalog.options().warehouse, namespace.to_string());
    }
    builder.build().map_err(internal)
}

pub(crate) async fn tables(catalog: &Catalog, command: CommandGetTables) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    for row in catalog.tables().await.map_err(|e| status(&e))? {
        let schema = match builder.include_schema() {
            false => Schema::empty(),
            true => {
                let table = catalog.load_row(row.clone()).await.map_err(|e| status(&e))?;
                schema_to_arrow_schema(table.metadata.current_schema()).map_err(internal)?
            }
        };
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
