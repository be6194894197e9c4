use std::collections::BTreeMap;
use std::sync::Arc;

use esker_format::{
    FormatError, Schema, SortOrder, TableMetadata, TableRequirement, TableUpdate, UnboundPartitionSpec, create_by_updates,
};
use esker_state::{NewTabular, StateError, TableRow, TabularKind};
use esker_storage::{Location, StorageError};
use esker_table::MetadataJson;
use esker_types::{NamespaceName, TableId, TableName, now_ms, or_default};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::readable::check_numbers;
use crate::{Actor, Catalog, CatalogError, LoadedTable, Proposal, RequestOutcome, Result, places};

/// A request to create a table (REST specification, `CreateTableRequest`).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CreateTable {
    /// Its name in the namespace.
    pub name: String,
    /// Where it goes; the server chooses if not given.
    pub location: Option<String>,
    /// Its columns. Field ids are assigned anew.
    pub schema: Schema,
    /// How it is partitioned.
    pub partition_spec: Option<UnboundPartitionSpec>,
    /// How writers sort.
    pub write_order: Option<SortOrder>,
    /// Only work out the metadata; a later commit with `assert-create` makes the table.
    #[serde(default, deserialize_with = "or_default")]
    pub stage_create: bool,
    /// Its properties.
    #[serde(default, deserialize_with = "or_default")]
    pub properties: BTreeMap<String, String>,
}

/// A request to enter a table whose metadata exists already.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Register {
    /// The name it gets.
    pub name: String,
    /// Its metadata file.
    pub metadata_location: String,
    /// Point an existing table of this name at the file.
    #[serde(default, deserialize_with = "or_default")]
    pub overwrite: bool,
}

/// A created or staged table.
#[derive(Debug, Clone)]
pub enum Created {
    /// In the catalog.
    Table(Box<LoadedTable>),
    /// Worked out, not entered.
    Staged(Box<TableMetadata>),
}

impl Catalog {
    /// Creates or stages a table.
    pub async fn create_table(&self, namespace: &NamespaceName, request: CreateTable, actor: &Actor) -> Result<Created> {
        let (name, staged) = (TableName::new(namespace.clone(), request.name)?, request.stage_create);
        self.namespace(namespace).await?;
        self.state().check_free(TabularKind::Table, self.warehouse(), &name).await?;
        let location = match &request.location {
            Some(location) => as_given(location)?,
            None => self.default_location(&name).await?.to_string(),
        };
        let CreateTable { schema, partition_spec: spec, write_order: order, properties, .. } = request;
        let new = esker_format::NewTable { schema, spec, order, location, properties };
        let metadata = esker_format::create(new, Uuid::now_v7(), now_ms())?;
        self.check_metadata_locations(&metadata, None).await?;
        self.make_directories(&metadata).await?;
        match staged {
            true => Ok(Created::Staged(Box::new(metadata))),
            false => Ok(Created::Table(Box::new(self.enter(name, metadata, actor).await?))),
        }
    }

    /// Makes the table that a staged create prepared: a commit with `assert-create`.
    pub async fn create_by_commit(&self, name: TableName, proposal: Proposal) -> Result<LoadedTable> {
        let actor = proposal.actor.clone();
        let metadata = self.metadata_of_create(&name, proposal).await?;
        self.enter(name, metadata, &actor).await.map_err(|e| match e {
            CatalogError::State(StateError::AlreadyExists { .. }) => already_created(),
            e => e,
        })
    }

    /// The metadata that a commit with `assert-create` makes, if the name is free.
    pub(crate) async fn metadata_of_create(&self, name: &TableName, proposal: Proposal) -> Result<TableMetadata> {
        if proposal.requirements.iter().any(|r| !matches!(r, TableRequirement::AssertCreate)) {
            let what = "assert-create allows no other requirement beside it".to_owned();
            return Err(CatalogError::Invalid(what));
        }
        self.namespace(&name.namespace).await?;
        match self.state().check_free(TabularKind::Table, self.warehouse(), name).await {
            Err(StateError::AlreadyExists { kind: "Table", .. }) => return Err(already_created()),
            other => other?,
        }
        let metadata = self.build_from_updates(name, &proposal.updates).await?;
        self.check_metadata_locations(&metadata, None).await?;
        self.make_directories(&metadata).await?;
        Ok(metadata)
    }

    /// Enters a table that exists in storage. It stays foreign: Esker has not made its files and may not be the only one to
    /// write it, so nothing destructive happens to it.
    pub async fn register(&self, namespace: &NamespaceName, request: Register, actor: &Actor) -> Result<LoadedTable> {
        let name = TableName::new(namespace.clone(), request.name)?;
        self.namespace(namespace).await?;
        let at = Location::parse(&request.metadata_location)?;
        self.check_allowed(&at)?;
        let existing = match self.state().table(self.warehouse(), &name).await {
            Ok(row) if request.overwrite => Some(row),
            Ok(_) => return Err(StateError::AlreadyExists { kind: "Table", name: name.to_string() }.into()),
            Err(StateError::NoSuchTable(_)) => {
                self.state().check_free(TabularKind::Table, self.warehouse(), &name).await?;
                None
            }
            Err(e) => return Err(e.into()),
        };
        let (metadata, json) = self.metadata_at(&request.metadata_location).await.map_err(|e| match e {
            CatalogError::Storage(storage @ StorageError::NotFound { .. }) => {
                CatalogError::Invalid(format!("can't register: {storage}"))
            }
            e => e,
        })?;
        self.check_metadata_locations(&metadata, existing.as_ref().map(|row| row.id)).await?;
        let row = TableRow {
            id: TableId::fresh(),
            warehouse: self.warehouse().id,
            kind: TabularKind::Table,
            name,
            table_uuid: uuid_of(&metadata),
            location: Location::parse(&metadata.location)?.to_string(),
            metadata_location: request.metadata_location,
            // The same table at another of its states is as much Esker's as before. Without a UUID nobody knows that it is the same.
            owned: existing.as_ref().is_some_and(|e| e.owned && metadata.table_uuid == Some(e.table_uuid)),
            protected: existing.as_ref().is_some_and(|e| e.protected),
        };
        let replaces = existing.map(|e| e.id);
        let places = places::named(&metadata.location, &metadata.properties);
        let new = NewTabular { row: row.clone(), recorded_output: None, replaces, places };
        self.insert(new, "table.registered", json!({"overwrite": replaces.is_some()}), actor).await?;
        Ok(LoadedTable { row, metadata, json })
    }

    /// Takes a foreign table into Esker's care: from then on expiry and purge may delete its files.
    pub async fn claim(&self, name: &TableName, actor: &Actor) -> Result<()> {
        let row = self.state().table(self.warehouse(), name).await?;
        let data = json!({"table-id": row.id, "table-uuid": row.table_uuid});
        let along = self.outbox(actor, "table.claimed", &row.name, data, &RequestOutcome::NoContent);
        Ok(self.state().claim_table(row.id, &along).await?)
    }

    /// Protects a table from being dropped, or lifts that.
    pub async fn protect_table(&self, name: &TableName, protected: bool, actor: &Actor) -> Result<()> {
        let row = self.state().table(self.warehouse(), name).await?;
        let along = self.outbox(actor, "table.protected", &row.name, json!({"protected": protected}), &RequestOutcome::NoContent);
        Ok(self.state().protect(row.id, protected, &along).await?)
    }

    /// Writes the first metadata file of a table that is about to be entered.
    pub(crate) async fn write_first(&self, name: TableName, metadata: TableMetadata) -> Result<(LoadedTable, NewTabular)> {
        let path = Self::next_metadata_path(&metadata, None)?;
        let json = MetadataJson::print(&metadata)?;
        let row = TableRow {
            id: TableId::fresh(),
            warehouse: self.warehouse().id,
            kind: TabularKind::Table,
            name,
            table_uuid: uuid_of(&metadata),
            location: Location::parse(&metadata.location)?.to_string(),
            metadata_location: path.clone(),
            owned: true,
            protected: false,
        };
        self.write_metadata_file(&row, &path, json.bytes().clone()).await?;
        self.failpoint("create-before-insert").await;
        let places = places::named(&metadata.location, &metadata.properties);
        let new = NewTabular { row: row.clone(), recorded_output: Some(path), replaces: None, places };
        Ok((LoadedTable { row, metadata: Arc::new(metadata), json }, new))
    }

    async fn enter(&self, name: TableName, metadata: TableMetadata, actor: &Actor) -> Result<LoadedTable> {
        let (table, new) = self.write_first(name, metadata).await?;
        self.insert(new, "table.created", json!({}), actor).await?;
        self.remember_metadata(&table.row.metadata_location, table.metadata.clone(), table.json.clone()).await;
        Ok(table)
    }

    /// Enters a table or view. If it does not come about, the metadata file that was written for it goes.
    pub(crate) async fn insert(&self, new: NewTabular, kind: &'static str, extra: Value, actor: &Actor) -> Result<()> {
        let (row, written) = (new.row.clone(), new.recorded_output.clone());
        let along = self.outbox(actor, kind, &row.name, created_data(&row, extra), &RequestOutcome::of(&row));
        match self.state().publish(self.warehouse(), &[], &[new], &along).await {
            Ok(_) => self.notify_change(),
            Err(e) => {
                if let Some(path) = written.filter(|_| !matches!(e, StateError::Ambiguous(_))) {
                    self.discard(&row, &path, "of a table or view that was not entered").await;
                }
                return Err(CatalogError::of_publishing(e, &row.name));
            }
        }
        Ok(())
    }

    /// A create commit brings schema, spec and order as updates, with the ids that the client wrote into its manifests.
    async fn build_from_updates(&self, name: &TableName, updates: &[TableUpdate]) -> Result<TableMetadata> {
        let given = updates.iter().rev().find_map(|update| match update {
            TableUpdate::SetLocation { location } => Some(location),
            _ => None,
        });
        let location = match given {
            Some(location) => as_given(location)?,
            None => self.default_location(name).await?.to_string(),
        };
        check_numbers(updates)?;
        Ok(create_by_updates(updates, &location, Uuid::now_v7(), now_ms())?)
    }
}

/// What a table is entered by; nil for one of version 1 that has no UUID.
fn uuid_of(metadata: &TableMetadata) -> Uuid {
    metadata.table_uuid.unwrap_or_default()
}

/// Whether metadata may be of a table that was entered with a UUID. One of version 1 may have had none then, or before.
pub(crate) fn is_of(metadata: &TableMetadata, entered: Uuid) -> bool {
    entered.is_nil() || metadata.table_uuid.is_none_or(|own| own == entered)
}

/// What an event tells of a new entry.
pub(crate) fn created_data(row: &TableRow, mut extra: Value) -> Value {
    extra["table-id"] = json!(row.id);
    extra["table-uuid"] = json!(row.table_uuid);
    extra["location"] = json!(row.location);
    extra["metadata-location"] = json!(row.metadata_location);
    extra
}

fn already_created() -> CatalogError {
    FormatError::Requirement("table already exists".to_owned()).into()
}

/// A location as the client wrote it, once it is known to be one.
pub(crate) fn as_given(location: &str) -> Result<String> {
    Location::parse(location)?;
    Ok(location.trim_end_matches('/').to_owned())
}
