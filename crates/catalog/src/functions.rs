//! SQL functions. The REST specification lists and loads them; how they are stored it leaves to the catalog, so that is the
//! management API's.

use esker_types::{NamespaceName, TableName};
use serde_json::{Value, json};

use crate::{Actor, Catalog, CatalogError, RequestOutcome, Result};

impl Catalog {
    /// Stores a function's metadata (SQL UDF specification), replacing what was there under the name.
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
        let along = self.outbox(actor, "function.stored", name, json!({"function-uuid": uuid}), &RequestOutcome::NoContent);
        Ok(self.state().put_function(self.warehouse(), name, &metadata.to_string(), &along).await?)
    }

    /// A function's metadata.
    pub async fn function(&self, name: &TableName) -> Result<Value> {
        let text = self.state().function(self.warehouse(), name).await?;
        serde_json::from_str(&text).map_err(|e| CatalogError::State(e.into()))
    }

    /// The functions of a namespace, by name, after `after`.
    pub async fn list_functions(&self, namespace: &NamespaceName, after: &str, limit: u32) -> Result<Vec<String>> {
        Ok(self.state().list_functions(self.warehouse(), namespace, after, limit).await?)
    }

    /// Removes a function.
    pub async fn drop_function(&self, name: &TableName, actor: &Actor) -> Result<()> {
        let along = self.outbox(actor, "function.dropped", name, json!({}), &RequestOutcome::NoContent);
        Ok(self.state().drop_function(self.warehouse(), name, &along).await?)
    }
}
