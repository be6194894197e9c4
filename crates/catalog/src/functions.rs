//! SQL functions of a namespace.
//!
//! The REST specification lists and loads functions but has no route that stores them, so the management API does. A function is
//! one JSON document in the state database, kept as it was sent. Spec: "SQL UDF".

use esker_access::{Need, Privilege, Required};
use esker_state::{EventData, FunctionStoredData, NoEventData, StateError};
use esker_types::TableName;
use serde_json::Value;

use crate::authorize::{Named, found, no_such_namespace, require_named};
use crate::{Actor, Authority, Catalog, CatalogError, RequestOutcome, Result};

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
        self.authorize_put(name, &actor.authority).await?;
        let data = EventData::FunctionStored(FunctionStoredData { function_uuid: uuid.to_owned() });
        let outbox = self.outbox(actor, name, data, &RequestOutcome::NoContent);
        let text = metadata.to_string();
        Ok(self.state().namespaces().put_function(self.warehouse(), name, &text, &outbox).await?)
    }

    /// Checks that a function may be stored, and what it replaces be dropped.
    async fn authorize_put(&self, name: &TableName, authority: &Authority) -> Result<()> {
        if !authority.is_decided() {
            return Ok(());
        }
        let create = Required::privilege(Privilege::CreateFunction);
        let into = self.permitted_namespace(&name.namespace, create, authority).await?.name.key();
        let container = self.namespace_path(&into);
        let Some(stored) = found(self.function_name(name).await)? else { return Ok(()) };
        let (on, missing) = (container.function(&stored.name), StateError::NoSuchFunction(name.to_string()));
        require_named(authority, vec![Named::found(on, Required::privilege(Privilege::Drop), missing)])
    }

    /// Returns the metadata of a function, if it may be read.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the namespace or the function does not exist, the database fails, or the stored
    /// text can't be parsed.
    pub async fn function(&self, name: &TableName, reader: &Authority) -> Result<Value> {
        let required = Required::privilege(Privilege::ReadMetadata);
        let text = self.permitted_function(name, required, reader).await?;
        serde_json::from_str(&text).map_err(|e| CatalogError::State(e.into()))
    }

    /// Returns the stored text of a function on which the caller has privileges.
    ///
    /// A function in a namespace that the caller does not see is as if the namespace were not there.
    async fn permitted_function(&self, name: &TableName, required: Required, authority: &Authority) -> Result<String> {
        let namespace = self.namespace(&name.namespace).await?.name.key();
        let container = self.namespace_path(&namespace);
        let stored = found(self.function_name(name).await)?;
        let missing = match authority.sees(&container) {
            true => StateError::NoSuchFunction(name.to_string()),
            false => no_such_namespace(&name.namespace),
        };
        let need = stored.as_ref().map(|stored| Need { on: container.function(&stored.name), required });
        require_named(authority, vec![Named::looked_up(need, missing)])?;
        Ok(self.state().namespaces().function(self.warehouse(), name).await?)
    }

    /// Returns the full name of a function as it is stored, whose case may be another one in a warehouse that ignores it.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the namespace or the function does not exist, or the database fails.
    pub async fn function_name(&self, name: &TableName) -> Result<TableName> {
        Ok(self.state().namespaces().function_name(self.warehouse(), name).await?)
    }

    /// Removes a function.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the namespace or the function does not exist, or the database fails.
    pub async fn drop_function(&self, name: &TableName, actor: &Actor) -> Result<()> {
        if actor.authority.is_decided() {
            self.permitted_function(name, Required::privilege(Privilege::Drop), &actor.authority).await?;
        }
        let outbox = self.outbox(actor, name, EventData::FunctionDropped(NoEventData {}), &RequestOutcome::NoContent);
        Ok(self.state().namespaces().drop_function(self.warehouse(), name, &outbox).await?)
    }
}
