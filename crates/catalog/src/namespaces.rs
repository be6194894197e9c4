use std::collections::{BTreeMap, BTreeSet};

use esker_state::{NamespaceRow, Outbox, TabularKind};
use esker_types::{NamespaceName, TableName};
use serde_json::json;

use crate::{Actor, Catalog, CatalogError, RequestOutcome, Result};

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
    /// Creates a namespace, with those around it that are not there, as the reference implementation does. Its location must be allowed.
    pub async fn create_namespace(&self, namespace: &NamespaceRow, actor: &Actor) -> Result<()> {
        self.check_namespace_location(&namespace.properties)?;
        let data = json!({"properties": namespace.properties});
        let mut properties = namespace.properties.clone();
        properties.entry("location".to_owned()).or_insert_with(|| self.namespace_location(namespace));
        let outcome = RequestOutcome::Body(json!({"namespace": namespace.name, "properties": properties}));
        let along = self.outbox(actor, "namespace.created", &namespace.name, data, &outcome);
        let around = |name: &NamespaceName| {
            let event = self.event(actor, "namespace.created", name, json!({"properties": {}}));
            Outbox { events: vec![event], receipts: Vec::new() }
        };
        Ok(self.state().create_namespace(self.warehouse(), namespace, &along, around).await?)
    }

    /// One namespace.
    pub async fn namespace(&self, name: &NamespaceName) -> Result<NamespaceRow> {
        Ok(self.state().namespace(self.warehouse(), name).await?)
    }

    /// Every namespace, nested ones included.
    pub async fn all_namespaces(&self) -> Result<Vec<NamespaceName>> {
        Ok(self.state().all_namespaces(self.warehouse()).await?.into_iter().map(|row| row.name).collect())
    }

    /// The namespaces directly under `parent`, by name, after the key `after`.
    pub async fn list_namespaces(&self, parent: Option<&NamespaceName>, after: &str, limit: u32) -> Result<Vec<NamespaceName>> {
        Ok(self.state().list_namespaces(self.warehouse(), parent, after, limit).await?)
    }

    /// The tables of a namespace, by name, after `after`.
    pub async fn list_tables(&self, namespace: &NamespaceName, after: &str, limit: u32) -> Result<Vec<String>> {
        Ok(self.state().list(TabularKind::Table, self.warehouse(), namespace, after, limit).await?)
    }

    /// Sets and removes properties.
    pub async fn update_namespace(
        &self,
        name: &NamespaceName,
        updates: BTreeMap<String, String>,
        removals: BTreeSet<String>,
        actor: &Actor,
    ) -> Result<PropertyChange> {
        if let Some(key) = removals.iter().find(|k| updates.contains_key(*k)) {
            return Err(CatalogError::Contradiction(key.clone()));
        }
        self.check_namespace_location(&updates)?;
        let found = self.namespace(name).await?.name;
        let apply = |before: &BTreeMap<String, String>| {
            let (removed, missing) = removals.iter().cloned().partition(|k| before.contains_key(k));
            let change = PropertyChange { updated: updates.keys().cloned().collect(), removed, missing };
            let mut after = before.clone();
            after.retain(|k, _| !removals.contains(k));
            after.extend(updates.clone());
            (change, after)
        };
        let before = self
            .state()
            .update_namespace(self.warehouse(), name, |before| {
                let (change, after) = apply(before);
                let data = json!({"properties": after, "updated": change.updated, "removed": change.removed});
                (after, self.outbox(actor, "namespace.updated", &found, data, &RequestOutcome::Body(json!(change))))
            })
            .await?;
        Ok(apply(&before).0)
    }

    /// Drops an empty namespace that is not protected.
    pub async fn drop_namespace(&self, name: &NamespaceName, actor: &Actor) -> Result<()> {
        let along = self.outbox(actor, "namespace.dropped", name, json!({}), &RequestOutcome::NoContent);
        Ok(self.state().drop_namespace(self.warehouse(), name, &along).await?)
    }

    /// Protects a namespace from being dropped, or lifts that.
    pub async fn protect_namespace(&self, name: &NamespaceName, protected: bool, actor: &Actor) -> Result<()> {
        let along = self.outbox(actor, "namespace.protected", name, json!({"protected": protected}), &RequestOutcome::NoContent);
        Ok(self.state().protect_namespace(self.warehouse(), name, protected, &along).await?)
    }

    /// Renames a table, possibly into another namespace. Its files stay where they are.
    pub async fn rename_table(&self, from: &TableName, to: &TableName, actor: &Actor) -> Result<()> {
        let along = self.outbox(actor, "table.renamed", from, json!({"to": to.to_string()}), &RequestOutcome::NoContent);
        Ok(self.state().rename(TabularKind::Table, self.warehouse(), from, to, &along).await?)
    }

    fn check_namespace_location(&self, properties: &BTreeMap<String, String>) -> Result<()> {
        match properties.get("location") {
            Some(location) => self.check_allowed(&esker_storage::Location::parse(location)?),
            None => Ok(()),
        }
    }
}
