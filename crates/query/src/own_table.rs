//! The Iceberg tables that Esker writes itself in the namespace `system` of a warehouse: their creation, and the rows to append.
//!
//! They are for engines that read through the REST catalog, such as Trino, and for tools such as Superset. Start reading at
//! [`OwnTable`]; `table_health_table.rs` and `audit_table.rs` are its users.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use esker_catalog::{Actor, Catalog, CatalogError, CreateTable, LoadedTable};
use esker_format::{DataFile, UnboundPartitionSpec};
use esker_read::{Reader, arrow_schema, schema_from_arrow};
use esker_state::NamespaceRow;
use esker_types::{Coded, ErrorCode, IdentError, NamespaceName, TableName};
use esker_write::{Appender, RowLineage};
use serde_json::json;

use crate::rights::TO_INSERT;
use crate::rows::column;
use crate::served_tables::ServedTable;
use crate::system::NAMESPACE;
use crate::target::{Uncommitted, WriteTarget};
use crate::{QueryError, Result};

/// A table that Esker writes.
pub(crate) struct OwnTable {
    /// The name and the columns.
    pub(crate) served: ServedTable,
    /// True if the table is partitioned by the day of its first column.
    pub(crate) by_day: bool,
    /// The properties of a new table.
    pub(crate) properties: &'static [(&'static str, &'static str)],
}

impl OwnTable {
    /// Returns the table as something to write to.
    pub(crate) fn target(&self, catalog: &Catalog, reader: &Reader) -> Result<WriteTarget> {
        let wrong = |e: IdentError| QueryError::Statement(e.to_string());
        let namespace = NamespaceName::new(vec![NAMESPACE.to_owned()]).map_err(wrong)?;
        let name = TableName::new(namespace, self.served.name).map_err(wrong)?;
        Ok(WriteTarget { catalog: catalog.clone(), reader: reader.clone(), name })
    }

    /// Loads the table. Creates the namespace and the table before, if they are not there.
    pub(crate) async fn open(&self, target: &WriteTarget, actor: &Actor) -> Result<LoadedTable> {
        match target.load(&actor.authority, TO_INSERT).await {
            Err(e) if matches!(e.code(), ErrorCode::NoSuchTable | ErrorCode::NoSuchNamespace) => {}
            loaded => return loaded,
        }
        self.create(target, actor).await?;
        target.load(&actor.authority, TO_INSERT).await
    }

    /// Creates the namespace and the table. Another server may have done so meanwhile.
    async fn create(&self, target: &WriteTarget, actor: &Actor) -> Result<()> {
        let there = |made: std::result::Result<(), CatalogError>| match made {
            Err(e) if e.code() != ErrorCode::AlreadyExists => Err(QueryError::from(e)),
            _ => Ok(()),
        };
        let catalog = &target.catalog;
        let namespace = NamespaceRow { name: target.name.namespace.clone(), properties: BTreeMap::new(), protected: false };
        there(catalog.create_namespace(&namespace, actor).await)?;
        let stored = |f: Field| match f.data_type() {
            DataType::Timestamp(..) => column(f.name(), DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))),
            _ => f,
        };
        let schema = Schema::new(self.served.fields().into_iter().map(stored).collect::<Vec<_>>());
        let schema = schema_from_arrow(&schema).map_err(|e| QueryError::Execution(e.to_string()))?;
        let request = CreateTable {
            name: self.served.name.to_owned(),
            location: None,
            partition_spec: self.partition_spec(&schema)?,
            schema,
            write_order: None,
            stage_create: false,
            properties: self.properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        };
        there(catalog.create_table(&target.name.namespace, request, actor).await.map(drop))
    }

    /// Returns the partition spec of a new table; `None` if it is not partitioned.
    fn partition_spec(&self, schema: &esker_format::Schema) -> Result<Option<UnboundPartitionSpec>> {
        let Some(first) = schema.as_struct().fields().first().filter(|_| self.by_day) else { return Ok(None) };
        let name = format!("{}_day", first.name);
        let spec = json!({"fields": [{"source-id": first.id, "transform": "day", "name": name}]});
        serde_json::from_value(spec).map(Some).map_err(|e| QueryError::Execution(e.to_string()))
    }
}

/// Writes rows as data files of a table, which `uncommitted` records. Returns the number of rows, and the files to add.
pub(crate) async fn write_rows(
    table: &LoadedTable,
    uncommitted: &Uncommitted,
    rows: &RecordBatch,
) -> Result<(u64, Vec<(i32, DataFile)>)> {
    let mut appender = Appender::new(&table.metadata, uncommitted.destination(), RowLineage::Inherited)?;
    appender.append(&shaped(rows, table.metadata.current_schema())?).await?;
    let count = appender.rows();
    Ok((count, appender.finish().await?))
}

/// Returns the rows with the table's present columns. One that somebody dropped is left out, one that somebody added is null.
fn shaped(found: &RecordBatch, schema: &esker_format::Schema) -> Result<RecordBatch> {
    let failed = |e: arrow::error::ArrowError| QueryError::Execution(e.to_string());
    let schema = arrow_schema(schema).map_err(|e| QueryError::Execution(e.to_string()))?;
    let columns = schema.fields().iter().map(|field| -> Result<ArrayRef> {
        match found.column_by_name(field.name()) {
            Some(array) => cast(array, field.data_type()).map_err(failed),
            None => Ok(new_null_array(field.data_type(), found.num_rows())),
        }
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(schema.into(), columns).map_err(failed)
}
