use std::collections::HashMap;
use std::sync::Arc;

use esker_state::{NewTable, StateError, TableRow};
use esker_storage::Location;
use esker_types::{NamespaceName, TableId, TableName};
use iceberg::spec::{
    FormatVersion, Schema, SortOrder, TableMetadata, TableMetadataBuilder, TableProperties, UnboundPartitionSpec,
};
use iceberg::{TableRequirement, TableUpdate};
use serde::Deserialize;

use crate::skeleton::Skeleton;
use crate::{Catalog, CatalogError, LoadedTable, Proposal, Result};

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
    #[serde(default)]
    pub stage_create: bool,
    /// Its properties.
    #[serde(default)]
    pub properties: HashMap<String, String>,
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
    #[serde(default)]
    pub overwrite: bool,
}

/// A created or staged table.
#[derive(Debug, Clone)]
pub enum Created {
    /// In the catalog.
    Table(LoadedTable),
    /// Worked out, not entered.
    Staged(Box<TableMetadata>),
}

impl Catalog {
    /// Creates or stages a table.
    pub async fn create_table(&self, namespace: &NamespaceName, request: CreateTable) -> Result<Created> {
        let name = TableName::new(namespace.clone(), request.name)?;
        self.namespace(namespace).await?;
        self.check_absent(&name).await?;
        let location = match &request.location {
            Some(location) => as_given(location)?,
            None => self.default_location(&name).await?.to_string(),
        };
        let builder = TableMetadataBuilder::new(
            request.schema,
            request.partition_spec.unwrap_or_default(),
            request.write_order.unwrap_or_else(SortOrder::unsorted_order),
            location,
            format_version(&request.properties)?,
            unreserved(request.properties),
        );
        let metadata = builder.and_then(TableMetadataBuilder::build).map_err(invalid)?.metadata;
        self.check_metadata_locations(&metadata, None).await?;
        match request.stage_create {
            true => Ok(Created::Staged(Box::new(metadata))),
            false => Ok(Created::Table(self.enter(name, metadata).await?)),
        }
    }

    /// Makes the table that a staged create prepared: a commit with `assert-create`.
    pub async fn create_by_commit(&self, name: TableName, proposal: Proposal) -> Result<LoadedTable> {
        if proposal.requirements.iter().any(|r| !matches!(r, TableRequirement::NotExist)) {
            let what = "assert-create allows no other requirement beside it".to_owned();
            return Err(CatalogError::Invalid(what));
        }
        self.namespace(&name.namespace).await?;
        match self.check_absent(&name).await {
            Err(CatalogError::State(StateError::AlreadyExists { .. })) => {
                return Err(CatalogError::Conflict("Requirement failed: table already exists".to_owned()));
            }
            other => other?,
        }
        let metadata = self.build_from_updates(&name, proposal.updates).await?;
        self.check_metadata_locations(&metadata, None).await?;
        self.enter(name, metadata).await
    }

    /// Enters a table that exists in storage. It stays foreign: Esker has not made its files and may not be the only one to
    /// write it, so nothing destructive happens to it.
    pub async fn register(&self, namespace: &NamespaceName, request: Register) -> Result<LoadedTable> {
        let name = TableName::new(namespace.clone(), request.name)?;
        self.namespace(namespace).await?;
        let at = Location::parse(&request.metadata_location)?;
        self.check_allowed(&at)?;
        let existing = match self.state().table(self.warehouse(), &name).await {
            Ok(row) if request.overwrite => Some(row),
            Ok(_) => return Err(StateError::table_exists(&name).into()),
            Err(StateError::NoSuchTable(_)) => None,
            Err(e) => return Err(e.into()),
        };
        let (metadata, metadata_bytes) = self.metadata_at(&request.metadata_location).await.map_err(|e| match e {
            CatalogError::Storage(storage) => CatalogError::Invalid(format!("can't register: {storage}")),
            e => e,
        })?;
        self.check_metadata_locations(&metadata, existing.as_ref().map(|row| row.id)).await?;
        if let Some(row) = existing {
            self.state().drop_table(row.id, &[]).await?;
        }
        let row = TableRow {
            id: TableId::fresh(),
            name,
            table_uuid: metadata.uuid(),
            location: Location::parse(metadata.location())?.to_string(),
            metadata_location: request.metadata_location,
            owned: false,
        };
        self.state().insert_table(self.warehouse(), &NewTable { row: row.clone(), recorded_output: None }).await?;
        Ok(LoadedTable { row, metadata, metadata_bytes })
    }

    /// Takes a foreign table into Esker's care: from then on expiry and purge may delete its files.
    pub async fn claim(&self, name: &TableName) -> Result<()> {
        let row = self.state().table(self.warehouse(), name).await?;
        Ok(self.state().claim_table(row.id).await?)
    }

    async fn check_absent(&self, name: &TableName) -> Result<()> {
        match self.state().table(self.warehouse(), name).await {
            Ok(_) => Err(StateError::table_exists(name).into()),
            Err(StateError::NoSuchTable(_)) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    async fn enter(&self, name: TableName, metadata: TableMetadata) -> Result<LoadedTable> {
        let id = TableId::fresh();
        let path = Self::next_metadata_path(&metadata, None)?;
        let metadata_bytes = self.write_metadata(id, &path, &metadata).await?;
        self.halt("create-before-insert").await;
        let row = TableRow {
            id,
            name,
            table_uuid: metadata.uuid(),
            location: Location::parse(metadata.location())?.to_string(),
            metadata_location: path.clone(),
            owned: true,
        };
        let table = LoadedTable { row: row.clone(), metadata: Arc::new(metadata), metadata_bytes };
        match self.state().insert_table(self.warehouse(), &NewTable { row, recorded_output: Some(path.clone()) }).await {
            Ok(()) => {
                self.remember_metadata(&path, table.metadata.clone(), metadata_bytes).await;
                Ok(table)
            }
            Err(StateError::Ambiguous(e)) => {
                Err(CatalogError::StateUnknown { table: table.row.name.to_string(), reason: e.to_string() })
            }
            // The recorded metadata file is reclaimed at the next start.
            Err(e) => Err(e.into()),
        }
    }

    /// A create commit brings schema, spec and order as updates, with the ids that the client wrote into its manifests.
    async fn build_from_updates(&self, name: &TableName, updates: Vec<TableUpdate>) -> Result<TableMetadata> {
        let mut skeleton = Skeleton::default();
        let mut rest = Vec::new();
        for update in updates {
            rest.extend(skeleton.take(update)?);
        }
        let location = match skeleton.location.take() {
            Some(location) => as_given(&location)?,
            None => self.default_location(name).await?.to_string(),
        };
        let mut builder = skeleton.build(&location)?.into_builder(None);
        for update in rest {
            builder = update.apply(builder).map_err(invalid)?;
        }
        Ok(builder.build().map_err(invalid)?.metadata)
    }
}

/// A location as the client wrote it, once it is known to be one.
fn as_given(location: &str) -> Result<String> {
    Location::parse(location)?;
    Ok(location.trim_end_matches('/').to_owned())
}

pub(crate) fn invalid(error: iceberg::Error) -> CatalogError {
    CatalogError::Invalid(error.message().to_owned())
}

fn format_version(properties: &HashMap<String, String>) -> Result<FormatVersion> {
    match properties.get(TableProperties::PROPERTY_FORMAT_VERSION).map(String::as_str) {
        None | Some("2") => Ok(FormatVersion::V2),
        Some("1") => Ok(FormatVersion::V1),
        Some("3") => Ok(FormatVersion::V3),
        Some(other) => Err(CatalogError::Invalid(format!("table property format-version: {other:?} is not 1, 2 or 3"))),
    }
}

pub(crate) fn unreserved(mut properties: HashMap<String, String>) -> HashMap<String, String> {
    properties.retain(|k, _| !TableProperties::RESERVED_PROPERTIES.contains(&k.as_str()));
    properties
}
