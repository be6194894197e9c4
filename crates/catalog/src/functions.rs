//! SQL functions of a namespace.
//!
//! The REST specification lists and loads functions but has no route that stores them, so the management API does. A function is
//! one JSON document in the state database, kept as it was sent. Spec: "SQL UDF".

use esker_state::{EventData, FunctionStoredData, NoEventData};
use esker_types::{NamespaceName, TableName};
use serde_json::Value;

use crate::{Actor, Catalog, CatalogError, RequestOutcome, Result};

impl Catalog {
    /// Stores the metadata of a function, and replaces what was stored under the name.
    ///
    /// Spec: "SQL UDF", format version 1.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](CatalogError::Invalid) if a required field is missing or not valid, or the format version is not 1.
    /// Returns [`State`](CatalogError::State) if the namespace does not exist or the database fails.
    pub async fn put_function(&self, name: &TableName, metadata: &Value, actor: &Actor) -> Result<()> {
        let missing = |key: &str| CatalogError::Invalid(format!("function {name}: the metadata has no {key:?}"));
        let text = |key: &str| metadata[key].as_str().ok_or_else(|| missing(key));
        let uuid = text("function-uuid")?;
        uuid::Uuid::parse_str(uuid).map_err(|e| CatalogError::Invalid(format!("function {name}: function-uuid: {e}")))?;
        match metadata["format-version"].as_i64() {
            Some(1) => {}
            Some(other) => {
                return Err(CatalogError::Invalid(format!(
                    "function {name}: format-version {other} is not supported, only 1 is"
                )));
            }
            None => return Err(missing("format-version")),
        }
        if metadata["definitions"].as_array().is_none_or(Vec::is_empty) {
            return Err(missing("definitions"));
        }
        let data = EventData::FunctionStored(FunctionStoredData { function_uuid: uuid.to_owned() });
        let outbox = self.outbox(actor, name, data, &RequestOutcome::NoContent);
        Ok(self.state().namespaces().put_function(self.warehouse(), name, &metadata.to_string(), &outbox).await?)
    }

    /// Returns the metadata of a function.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the namespace or the function does not exist, the database fails, or the stored
    /// text can't be parsed.
    pub async fn function(&self, name: &TableName) -> Result<Value> {
        let text = self.state().namespaces().function(self.warehouse(), name).await?;
        serde_json::from_str(&text).map_err(|e| CatalogError::State(e.into()))
    }

    /// Lists at most `limit` functions of a namespace, by name, after the name `after`.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the namespace does not exist or the database fails.
    pub async fn list_functions(&self, namespace: &NamespaceName, after: &str, limit: u32) -> Result<Vec<String>> {
        Ok(self.state().namespaces().list_functions(self.warehouse(), namespace, after, limit).await?)
    }

    /// Removes a function.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the namespace or the function does not exist, or the database fails.
    pub async fn drop_function(&self, name: &TableName, actor: &Actor) -> Result<()> {
        let outbox = self.outbox(actor, name, EventData::FunctionDropped(NoEventData {}), &RequestOutcome::NoContent);
        Ok(self.state().namespaces().drop_function(self.warehouse(), name, &outbox).await?)
    }
}
