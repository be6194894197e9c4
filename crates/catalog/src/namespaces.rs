use std::collections::{BTreeMap, BTreeSet};

use esker_state::NamespaceRow;
use esker_types::{NamespaceName, TableName};

use crate::{Catalog, CatalogError, Result};

/// What a change of namespace properties did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct PropertyChange {
    /// Keys set.
    pub updated: Vec<String>,
    /// Keys removed.
    pub removed: Vec<String>,
    /// Keys to be removed that were not there.
    pub missing: Vec<String>,
}

impl Catalog {
    /// Creates a namespace; its parent must exist, its location must be allowed.
    pub async fn create_namespace(&self, namespace: &NamespaceRow) -> Result<()> {
        self.check_namespace_location(&namespace.properties)?;
        Ok(self.state().create_namespace(self.warehouse(), namespace).await?)
    }

    /// One namespace.
    pub async fn namespace(&self, name: &NamespaceName) -> Result<NamespaceRow> {
        Ok(self.state().namespace(self.warehouse(), name).await?)
    }

    /// Every namespace, nested ones included.
    pub async fn all_namespaces(&self) -> Result<Vec<NamespaceName>> {
        Ok(self.state().all_namespaces(self.warehouse()).await?)
    }

    /// The namespaces directly under `parent`, by name, after the key `after`.
    pub async fn list_namespaces(&self, parent: Option<&NamespaceName>, after: &str, limit: u32) -> Result<Vec<NamespaceName>> {
        Ok(self.state().list_namespaces(self.warehouse(), parent, after, limit).await?)
    }

    /// The tables of a namespace, by name, after `after`.
    pub async fn list_tables(&self, namespace: &NamespaceName, after: &str, limit: u32) -> Result<Vec<String>> {
        Ok(self.state().list_tables(self.warehouse(), namespace, after, limit).await?)
    }

    /// Sets and removes properties.
    pub async fn update_namespace(
        &self,
        name: &NamespaceName,
        updates: BTreeMap<String, String>,
        removals: BTreeSet<String>,
    ) -> Result<PropertyChange> {
        if let Some(key) = removals.iter().find(|k| updates.contains_key(*k)) {
            return Err(CatalogError::Contradiction(key.clone()));
        }
        self.check_namespace_location(&updates)?;
        let updated = updates.keys().cloned().collect();
        let gone = removals.clone();
        let change = move |properties: &mut BTreeMap<String, String>| {
            properties.retain(|k, _| !gone.contains(k));
            properties.extend(updates);
        };
        let before = self.state().update_namespace(self.warehouse(), name, change).await?;
        let (removed, missing) = removals.into_iter().partition(|k| before.contains_key(k));
        Ok(PropertyChange { updated, removed, missing })
    }

    /// Drops an empty namespace.
    pub async fn drop_namespace(&self, name: &NamespaceName) -> Result<()> {
        Ok(self.state().drop_namespace(self.warehouse(), name).await?)
    }

    /// Renames a table, possibly into another namespace. Its files stay where they are.
    pub async fn rename_table(&self, from: &TableName, to: &TableName) -> Result<()> {
        Ok(self.state().rename_table(self.warehouse(), from, to).await?)
    }

    fn check_namespace_location(&self, properties: &BTreeMap<String, String>) -> Result<()> {
        match properties.get("location") {
            Some(location) => self.check_allowed(&esker_storage::Location::parse(location)?),
            None => Ok(()),
        }
    }
}
