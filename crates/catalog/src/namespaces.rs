//! Namespaces: creation, properties, protection; and the renaming of tables and views.
//!
//! The state database does the work: each change is one transaction with its event and receipt. The warehouse's setting decides
//! whether names are compared without case. Spec: REST `createNamespace`, `updateProperties`, `dropNamespace`, `renameTable`,
//! `renameView`.

use std::collections::{BTreeMap, BTreeSet};

use esker_access::{Need, Privilege, Required};
use esker_state::{
    EventData, NamespaceCreatedData, NamespaceRow, NamespaceUpdatedData, NoEventData, Outbox, ProtectedData, RenamedData,
    StateError, TabularKind,
};
use esker_types::{NamespaceName, TableName};
use serde_json::json;

use crate::authorize::{Named, found, is_audit_name, no_such_namespace, no_such_tabular, require_named};
use crate::{Actor, Authority, Catalog, CatalogError, RequestOutcome, Result, needs};

/// The effect of a change of namespace properties.
///
/// Spec: REST `UpdateNamespacePropertiesResponse`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct PropertyChange {
    /// Keys that were set.
    pub updated: Vec<String>,
    /// Keys that were removed.
    pub removed: Vec<String>,
    /// Keys that the request removes and that the namespace did not have.
    pub missing: Vec<String>,
}

impl Catalog {
    /// Creates a namespace and its missing parents, as the reference implementation does.
    ///
    /// Spec: REST `createNamespace`.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the namespace exists or the database fails. Returns
    /// [`Location`](CatalogError::Location) if its `location` property is not allowed, and [`Storage`](CatalogError::Storage) if
    /// this property can't be parsed.
    pub async fn create_namespace(&self, namespace: &NamespaceRow, actor: &Actor) -> Result<()> {
        self.check_namespace_location(&namespace.properties)?;
        self.authorize_new_namespace(namespace, &actor.authority).await?;
        let data = EventData::NamespaceCreated(NamespaceCreatedData { properties: namespace.properties.clone() });
        let mut properties = namespace.properties.clone();
        properties.entry("location".to_owned()).or_insert_with(|| self.namespace_location(namespace));
        let outcome = RequestOutcome::Body(json!({"namespace": namespace.name, "properties": properties}));
        let outbox = self.outbox(actor, &namespace.name, data, &outcome);
        let parent_outbox = |name: &NamespaceName| {
            let data = EventData::NamespaceCreated(NamespaceCreatedData { properties: BTreeMap::new() });
            let event = self.event(actor, name, data);
            Outbox { events: vec![event], receipts: Vec::new() }
        };
        Ok(self.state().namespaces().create(self.warehouse(), namespace, &outbox, parent_outbox).await?)
    }

    /// Returns a namespace.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the namespace does not exist or the database fails.
    pub async fn namespace(&self, name: &NamespaceName) -> Result<NamespaceRow> {
        Ok(self.state().namespaces().get(self.warehouse(), name).await?)
    }

    /// Returns all namespaces, nested ones included, parents before children.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the database fails.
    pub async fn all_namespaces(&self) -> Result<Vec<NamespaceRow>> {
        Ok(self.state().namespaces().all(self.warehouse()).await?)
    }

    /// Returns the properties of a namespace and of those around it, by their names. One that does not exist is left out.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the database fails.
    pub async fn properties_around(&self, name: &NamespaceName) -> Result<BTreeMap<NamespaceName, BTreeMap<String, String>>> {
        let mut found = BTreeMap::new();
        let mut next = Some(name.clone());
        while let Some(name) = next {
            match self.namespace(&name).await {
                Ok(row) => drop(found.insert(row.name, row.properties)),
                Err(CatalogError::State(StateError::NoSuchNamespace(_))) => {}
                Err(error) => return Err(error),
            }
            next = name.parent();
        }
        Ok(found)
    }

    /// Sets and removes properties of a namespace in one transaction.
    ///
    /// Spec: REST `updateProperties`.
    ///
    /// # Errors
    ///
    /// Returns [`Contradiction`](CatalogError::Contradiction) if a key is both set and removed, and
    /// [`State`](CatalogError::State) if the namespace does not exist or the database fails. Returns
    /// [`Location`](CatalogError::Location) if a new `location` property is not allowed, and [`Storage`](CatalogError::Storage)
    /// if this property can't be parsed.
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
        let keys = updates.keys().chain(&removals).map(String::as_str);
        let required = Required::all(needs::of_namespace_properties(keys));
        let found = self.permitted_namespace(name, required, &actor.authority).await?.name;
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
            .namespaces()
            .update(self.warehouse(), name, |before| {
                let (change, after) = apply(before);
                let outcome = RequestOutcome::Body(json!(change));
                let data = NamespaceUpdatedData { properties: after.clone(), updated: change.updated, removed: change.removed };
                (after, self.outbox(actor, &found, EventData::NamespaceUpdated(data), &outcome))
            })
            .await?;
        Ok(apply(&before).0)
    }

    /// Drops an empty namespace.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the namespace does not exist, is protected or is not empty, or the database
    /// fails.
    pub async fn drop_namespace(&self, name: &NamespaceName, actor: &Actor) -> Result<()> {
        self.authorize_namespace(name, Privilege::Drop, &actor.authority).await?;
        let outbox = self.outbox(actor, name, EventData::NamespaceDropped(NoEventData {}), &RequestOutcome::NoContent);
        Ok(self.state().namespaces().drop(self.warehouse(), name, &outbox).await?)
    }

    /// Protects a namespace from being dropped, or lifts the protection.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the namespace does not exist or the database fails.
    pub async fn protect_namespace(&self, name: &NamespaceName, protected: bool, actor: &Actor) -> Result<()> {
        self.authorize_namespace(name, Privilege::Protect, &actor.authority).await?;
        let data = EventData::NamespaceProtected(ProtectedData { protected });
        let outbox = self.outbox(actor, name, data, &RequestOutcome::NoContent);
        Ok(self.state().namespaces().protect(self.warehouse(), name, protected, &outbox).await?)
    }

    /// Renames a table, possibly into another namespace. Its files stay in place.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the table or the new namespace does not exist, the new name is taken, or the
    /// database fails.
    pub async fn rename_table(&self, from: &TableName, to: &TableName, actor: &Actor) -> Result<()> {
        self.authorize_rename(TabularKind::Table, from, to, &actor.authority).await?;
        let data = EventData::TableRenamed(RenamedData { to: to.to_string() });
        let outbox = self.outbox(actor, from, data, &RequestOutcome::NoContent);
        Ok(self.state().tables().rename(TabularKind::Table, self.warehouse(), from, to, &outbox).await?)
    }

    /// Checks that a namespace may be created.
    async fn authorize_new_namespace(&self, namespace: &NamespaceRow, authority: &Authority) -> Result<()> {
        if !authority.is_decided() {
            return Ok(());
        }
        let of_properties = needs::of_namespace_properties(namespace.properties.keys().map(String::as_str));
        // Whoever creates a namespace may give it ordinary properties.
        let required = Required::all(of_properties.without(Privilege::SetProperties.into()));
        self.require_container(&namespace.name, required.and(Privilege::CreateNamespace.into()), authority).await
    }

    /// Checks a privilege on a namespace. The database looks the namespace up again when it is changed.
    async fn authorize_namespace(&self, name: &NamespaceName, privilege: Privilege, authority: &Authority) -> Result<()> {
        if authority.is_decided() {
            self.permitted_namespace(name, Required::privilege(privilege), authority).await?;
        }
        Ok(())
    }

    /// Checks both sides of a rename: `RENAME` on the table or view, and the privilege to create one in the new namespace.
    ///
    /// Whoever has more under the new name than on the table is refused, because the rename would give it these privileges.
    pub(crate) async fn authorize_rename(
        &self,
        kind: TabularKind,
        from: &TableName,
        to: &TableName,
        authority: &Authority,
    ) -> Result<()> {
        authority.check_name_of_new(self.warehouse_path(), to)?;
        let is_decided = authority.is_decided() || is_audit_name(from);
        if !is_decided && !authority.wants_names() {
            return Ok(());
        }
        let (row, create) = match kind {
            TabularKind::Table => (self.table(from).await, Privilege::CreateTable),
            TabularKind::View => (self.view(from).await, Privilege::CreateView),
        };
        if !is_decided {
            // Nothing is checked here: the rename itself finds what is wrong with the names.
            if let Ok(row) = row {
                authority.names(self, &row);
            }
            return Ok(());
        }
        let row = found(row)?.map(|row| (row.name.namespace.key(), row));
        let into = found(self.namespace(&to.namespace).await)?.map(|into| into.name.key());
        let from_need = row.as_ref().map(|(key, row)| Need::new(self.tabular_path(key, row), Privilege::Rename));
        let into_need = into.as_ref().map(|key| Need::new(self.namespace_path(key), create));
        let named = vec![
            Named::looked_up(from_need, no_such_tabular(kind, from)),
            Named::looked_up(into_need, no_such_namespace(&to.namespace)),
        ];
        require_named(authority, named)?;
        match (&row, &into) {
            (Some((key, row)), Some(into)) => self.check_move(authority, row, key, (into, &to.name)),
            _ => Ok(()),
        }
    }

    /// Checks that the `location` among some properties is allowed.
    fn check_namespace_location(&self, properties: &BTreeMap<String, String>) -> Result<()> {
        match properties.get("location") {
            Some(location) => self.check_allowed(&esker_storage::Location::parse(location)?),
            None => Ok(()),
        }
    }
}
