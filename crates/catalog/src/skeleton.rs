use std::collections::HashMap;

use esker_types::now_ms;
use iceberg::TableUpdate;
use iceberg::spec::{FormatVersion, Schema, SortOrder, TableMetadata, UnboundPartitionSpec};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::create::unreserved;
use crate::{CatalogError, Result};

/// The parts of a table's metadata that the builder of the `iceberg` crate wants up front and gives ids of its own.
///
/// In a create commit they come as updates, with ids that the client's manifests refer to already, so they are put together
/// as they are and checked by parsing the result.
#[derive(Debug, Default)]
pub(crate) struct Skeleton {
    schemas: Vec<Schema>,
    specs: Vec<UnboundPartitionSpec>,
    orders: Vec<SortOrder>,
    current_schema: Option<i32>,
    default_spec: Option<i32>,
    default_order: Option<i64>,
    version: Option<FormatVersion>,
    uuid: Option<Uuid>,
    properties: HashMap<String, String>,
    pub(crate) location: Option<String>,
}

impl Skeleton {
    /// Takes an update in, or gives it back for the builder.
    pub(crate) fn take(&mut self, update: TableUpdate) -> Result<Option<TableUpdate>> {
        match update {
            TableUpdate::AddSchema { schema } => self.schemas.push(schema),
            TableUpdate::AddSpec { spec } => self.specs.push(spec),
            TableUpdate::AddSortOrder { sort_order } => self.orders.push(sort_order),
            TableUpdate::SetCurrentSchema { schema_id } => {
                self.current_schema = Some(last_if(schema_id, self.schemas.last().map(Schema::schema_id))?);
            }
            TableUpdate::SetDefaultSpec { spec_id } => {
                let last = self.specs.last().map(|s| s.spec_id().unwrap_or(0));
                self.default_spec = Some(last_if(spec_id, last)?);
            }
            TableUpdate::SetDefaultSortOrder { sort_order_id } => {
                self.default_order = Some(last_if(sort_order_id, self.orders.last().map(|o| o.order_id))?);
            }
            TableUpdate::UpgradeFormatVersion { format_version } => self.version = Some(format_version),
            TableUpdate::AssignUuid { uuid } => self.uuid = Some(uuid),
            TableUpdate::SetLocation { location } => self.location = Some(location),
            TableUpdate::SetProperties { updates } => self.properties.extend(unreserved(updates)),
            other => return Ok(Some(other)),
        }
        Ok(None)
    }

    /// The metadata of a table without snapshots.
    pub(crate) fn build(self, location: &str) -> Result<TableMetadata> {
        let missing = |what: &str| CatalogError::Invalid(format!("a create commit needs {what}"));
        let current = self.schemas.last().ok_or_else(|| missing("add-schema"))?;
        let current_schema = self.current_schema.unwrap_or_else(|| current.schema_id());
        let last_column = self.schemas.iter().map(Schema::highest_field_id).max();
        let mut next_field = 999;
        let mut specs = Vec::new();
        for spec in &self.specs {
            let mut fields = Vec::new();
            for field in spec.fields() {
                let id = field.field_id.unwrap_or(next_field + 1);
                next_field = next_field.max(id);
                let transform = field.transform.to_string();
                fields.push(json!({"source-id": field.source_id, "field-id": id, "name": field.name, "transform": transform}));
            }
            specs.push(json!({"spec-id": spec.spec_id().unwrap_or(0), "fields": fields}));
        }
        if specs.is_empty() {
            specs.push(json!({"spec-id": 0, "fields": []}));
        }
        let mut orders: Vec<Value> = self.orders.iter().map(|o| json!(o)).collect();
        if orders.is_empty() {
            orders.push(json!({"order-id": 0, "fields": []}));
        }
        let version = self.version.unwrap_or(FormatVersion::V2) as u8;
        let default_spec = self.default_spec.unwrap_or(0);
        let mut metadata = json!({
            "format-version": version, "table-uuid": self.uuid.unwrap_or_else(Uuid::now_v7), "location": location,
            "last-updated-ms": now_ms(), "last-column-id": last_column,
            "schemas": self.schemas, "current-schema-id": current_schema,
            "partition-specs": specs, "default-spec-id": default_spec, "last-partition-id": next_field,
            "sort-orders": orders, "default-sort-order-id": self.default_order.unwrap_or(0),
            "properties": self.properties,
        });
        if version == 1 {
            // What a version 1 reader looks for beside the lists.
            let by_id = |list: &Value, key: &str, id: i32| {
                list.as_array().and_then(|l| l.iter().find(|e| e[key] == id)).cloned().unwrap_or_default()
            };
            metadata["schema"] = by_id(&metadata["schemas"], "schema-id", current_schema);
            metadata["partition-spec"] = by_id(&metadata["partition-specs"], "spec-id", default_spec)["fields"].clone();
        } else {
            metadata["last-sequence-number"] = 0.into();
        }
        if version >= 3 {
            metadata["next-row-id"] = 0.into();
        }
        serde_json::from_value(metadata)
            .map_err(|e| CatalogError::Invalid(format!("the create commit makes no valid table: {e}")))
    }
}

/// The id, where -1 means what was added last.
fn last_if<T: PartialEq + From<i8>>(id: T, last: Option<T>) -> Result<T> {
    if id != T::from(-1_i8) {
        return Ok(id);
    }
    last.ok_or_else(|| CatalogError::Invalid("-1 stands for what was added last in the request, and nothing was".to_owned()))
}
