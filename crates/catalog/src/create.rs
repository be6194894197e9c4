//! Creating, registering, claiming and protecting tables.
//!
//! A created table is owned: Esker wrote its files and may delete them. A registered table is foreign until it is claimed, and
//! nothing destructive happens to it. A creation first writes the metadata file and then inserts the row. The insert decides who
//! gets a name.
//!
//! Start reading at [`Catalog::create_table`]. Spec: REST `createTable`, `registerTable`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_access::{Identity, Member, Privilege, PrivilegeSet, Required};
use esker_format::{
    FormatError, Schema, SortOrder, TableMetadata, TableRequirement, TableUpdate, UnboundPartitionSpec, create_by_updates,
};
use esker_state::{
    CreatedData, EventData, NamespaceRow, NewTabular, ProtectedData, StateError, TableIdentityData, TableRegisteredData,
    TabularKind, TabularRow,
};
use esker_storage::{Location, StorageError};
use esker_table::MetadataJson;
use esker_types::{NamespaceName, TableId, TableName, now_ms, or_default};
use serde::Deserialize;
use uuid::Uuid;

use crate::locations::PathsOrigin;
use crate::manifest_places::NewFiles;
use crate::readable::check_numbers;
use crate::{Actor, Authority, Catalog, CatalogError, LoadedTable, Proposal, RequestOutcome, Result, needs, places};

/// The time after which every server decides by rules that are in the database now: twice the age that rules may have, so that
/// requests which began under older ones have ended too.
const RULES_ARE_READ: Duration = Duration::from_secs(4);

/// A request to create a table.
///
/// Spec: REST `CreateTableRequest`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CreateTable {
    /// Name of the table in its namespace.
    pub name: String,
    /// Location of the table; the server chooses one by default.
    pub location: Option<String>,
    /// Columns of the table. Field ids are assigned again from 1 on.
    pub schema: Schema,
    /// Partition spec; unpartitioned by default.
    pub partition_spec: Option<UnboundPartitionSpec>,
    /// Sort order for writers; unsorted by default.
    pub write_order: Option<SortOrder>,
    /// `true` to compute the metadata only; a later commit with `assert-create` creates the table.
    #[serde(default, deserialize_with = "or_default")]
    pub stage_create: bool,
    /// Properties of the table.
    #[serde(default, deserialize_with = "or_default")]
    pub properties: BTreeMap<String, String>,
}

/// A request to register a table or view whose metadata file exists.
///
/// Spec: REST `RegisterTableRequest`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Register {
    /// Name of the table or view in its namespace.
    pub name: String,
    /// URI of the metadata file.
    pub metadata_location: String,
    /// `true` to point an existing table of this name to the file. The registration of a view ignores it.
    #[serde(default, deserialize_with = "or_default")]
    pub overwrite: bool,
}

/// The result of a request to create a table.
#[derive(Debug, Clone)]
pub enum Created {
    /// A table in the catalog.
    Table(Box<LoadedTable>),
    /// Metadata of a table that is not in the catalog.
    Staged(Box<TableMetadata>),
}

impl Catalog {
    /// Creates a table, or only computes its metadata if the request stages it.
    ///
    /// Spec: REST `createTable`.
    ///
    /// # Errors
    ///
    /// - Returns [`Name`](CatalogError::Name) if the name is not valid, and [`State`](CatalogError::State) if the namespace does
    ///   not exist, the name is taken, or the database fails.
    /// - Returns [`Format`](CatalogError::Format) if the schema, the spec, the order or a property breaks a rule of the
    ///   specification.
    /// - Returns [`Location`](CatalogError::Location) if the location or a path property is not allowed or overlaps another
    ///   table's place, and [`Storage`](CatalogError::Storage) if one can't be parsed or written.
    /// - Returns [`Invalid`](CatalogError::Invalid) if `write.location-provider.impl` names a class that is not allowed.
    /// - Returns [`Table`](CatalogError::Table) if the metadata can't be printed as JSON, and
    ///   [`MetadataInvalid`](CatalogError::MetadataInvalid) if it can't be compressed.
    /// - Returns [`StateUnknown`](CatalogError::StateUnknown) if the database did not confirm the insert.
    pub async fn create_table(&self, namespace: &NamespaceName, request: CreateTable, actor: &Actor) -> Result<Created> {
        let (name, staged) = (TableName::new(namespace.clone(), request.name)?, request.stage_create);
        actor.authority.check_name_of_new(self.warehouse_path(), &name)?;
        let into = self.namespace(namespace).await?;
        let (location, properties) = (request.location.as_deref(), &request.properties);
        let required = self.privileges_to_create(Privilege::CreateTable, &into, &name, (location, properties), actor).await?;
        self.require_namespace(&actor.authority, namespace, &into, required)?;
        self.state().tables().check_name_is_free(TabularKind::Table, self.warehouse(), &name).await?;
        let location = match &request.location {
            Some(location) => checked_location(location)?,
            None => self.default_location(&name).await?.to_string(),
        };
        let CreateTable { schema, partition_spec: spec, write_order: order, properties, .. } = request;
        let new = esker_format::NewTable { schema, spec, order, location, properties };
        let metadata = esker_format::create(new, Uuid::now_v7(), now_ms())?;
        self.check_metadata_locations(&metadata, None, PathsOrigin::Created, &actor.authority).await?;
        self.make_directories(&metadata).await?;
        match staged {
            true => Ok(Created::Staged(Box::new(metadata))),
            false => Ok(Created::Table(Box::new(self.insert_new_table(name, metadata, actor).await?))),
        }
    }

    /// Creates a table by a commit with `assert-create`, such as one that follows a staged creation.
    ///
    /// Spec: REST `updateTable`, requirement `assert-create`.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](CatalogError::Invalid) if the commit has another requirement, a snapshot's sequence number or time leaves
    /// no room for later ones, `write.location-provider.impl` names a class that is not allowed, or the UUID is that of another
    /// table. Returns [`Location`](CatalogError::Location) if it names a file of another table whose rows the caller may not all
    /// read. Returns [`Format`](CatalogError::Format) if the table exists already or an update breaks a rule, and the other errors
    /// of [`Catalog::create_table`] but [`Name`](CatalogError::Name).
    pub async fn create_by_commit(&self, name: TableName, proposal: Proposal) -> Result<LoadedTable> {
        let metadata = self.metadata_of_create(&name, &proposal).await?;
        self.insert_new_table(name, metadata, &proposal.actor).await.map_err(failed_assert_create)
    }

    /// Computes the metadata that a commit with `assert-create` makes, if it may and the name is free.
    pub(crate) async fn metadata_of_create(&self, name: &TableName, proposal: &Proposal) -> Result<TableMetadata> {
        if proposal.requirements.iter().any(|r| !matches!(r, TableRequirement::AssertCreate)) {
            let what = "assert-create must be the only requirement of its commit".to_owned();
            return Err(CatalogError::Invalid(what));
        }
        proposal.actor.authority.check_name_of_new(self.warehouse_path(), name)?;
        let into = self.namespace(&name.namespace).await?;
        let authority = &proposal.actor.authority;
        let required = self.privileges_to_create_by_commit(authority, &into, name, &proposal.updates).await?;
        self.require_namespace(&proposal.actor.authority, &name.namespace, &into, required)?;
        let free = self.state().tables().check_name_is_free(TabularKind::Table, self.warehouse(), name).await;
        free.map_err(|e| failed_assert_create(e.into()))?;
        let metadata = self.build_from_updates(name, &proposal.updates).await?;
        self.check_metadata_locations(&metadata, None, PathsOrigin::Created, &proposal.actor.authority).await?;
        self.check_uuid_is_new(&proposal.updates).await?;
        let new = NewFiles::of_updates(&proposal.updates);
        self.check_files_of_others(&new, None, None, &proposal.actor.authority).await?;
        self.make_directories(&metadata).await?;
        Ok(metadata)
    }

    /// Returns the privileges on the namespace that the creation of a table or view needs, with `create` to create one at all.
    ///
    /// A location as the server gives it is no choice of the client. A view that Trino runs with the rights of its creator gives
    /// nobody more rights.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Catalog::chooses_location`].
    pub(crate) async fn privileges_to_create(
        &self,
        create: Privilege,
        namespace: &NamespaceRow,
        name: &TableName,
        (location, properties): (Option<&str>, &BTreeMap<String, String>),
        actor: &Actor,
    ) -> Result<Required> {
        let is_chosen = match location {
            Some(location) => self.chooses_location(&actor.authority, namespace, &name.name, location).await?,
            None => false,
        };
        let location = if is_chosen { Privilege::ChooseLocation.into() } else { PrivilegeSet::EMPTY };
        let is_free = |key: &str, value: &str| {
            create == Privilege::CreateView && key == needs::RUN_AS_OWNER && self.is_in_trino(&actor.authority, value)
        };
        let counting = properties.iter().filter(|(key, value)| !is_free(key, value));
        let of_properties = needs::of_new_properties(counting.map(|(key, _)| key.as_str()));
        Ok(Required::privilege(create).and(location).and(of_properties))
    }

    /// Checks that a user of Trino is the caller, by the issuer of Trino's users. A client and a user of one name are two.
    fn is_in_trino(&self, authority: &Authority, user: &str) -> bool {
        let Authority::Caller(caller) = authority else { return true };
        match (caller.subject().identity(), &self.options().trino_issuer) {
            (Identity::Client { name }, None) => **name == *user,
            (Identity::User { issuer, name, .. }, Some(users)) => **issuer == **users && **name == *user,
            _ => false,
        }
    }

    /// Returns the privileges that a commit with `assert-create` needs on the namespace.
    ///
    /// A location as the server gives it is no choice of the client: it may be that of the staged table.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Catalog::chooses_location`].
    pub(crate) async fn privileges_to_create_by_commit(
        &self,
        creator: &Authority,
        namespace: &NamespaceRow,
        name: &TableName,
        updates: &[TableUpdate],
    ) -> Result<Required> {
        let mut given = None;
        for update in updates {
            if let TableUpdate::SetLocation { location } = update
                && !self.chooses_location(creator, namespace, &name.name, location).await?
            {
                given = Some(location.as_str());
                break;
            }
        }
        Ok(Required::all(needs::of_creation(updates, given)))
    }

    /// Registers a table whose metadata file exists in storage.
    ///
    /// The table is foreign: another catalog may write to it, so nothing destructive happens to it. An owned table that is
    /// overwritten with another of its states stays owned.
    ///
    /// Spec: REST `registerTable`.
    ///
    /// # Errors
    ///
    /// - Returns [`Name`](CatalogError::Name) if the name is not valid. Returns [`State`](CatalogError::State) if the namespace
    ///   does not exist, a view has the name, a table has it and `overwrite` is not set, or the database fails.
    /// - Returns [`Location`](CatalogError::Location) if the file, the table's location or a path property lies outside the
    ///   allowed locations, or the location or a path property overlaps another table's place. Also if the metadata leads to a
    ///   file of another table whose rows the caller may not all read.
    /// - Returns [`Table`](CatalogError::Table) if such a caller's manifests can't be read.
    /// - Returns [`Invalid`](CatalogError::Invalid) if the file does not exist, names a location provider that is not allowed, or
    ///   has the UUID of another table whose rows the caller may not all read,
    ///   [`MetadataInvalid`](CatalogError::MetadataInvalid) if it can't be decompressed or parsed, and
    ///   [`Storage`](CatalogError::Storage) if it can't be read or a location can't be parsed.
    /// - Returns [`StateUnknown`](CatalogError::StateUnknown) if the database did not confirm the insert.
    pub async fn register(&self, namespace: &NamespaceName, request: Register, actor: &Actor) -> Result<LoadedTable> {
        let name = TableName::new(namespace.clone(), request.name)?;
        actor.authority.check_name_of_new(self.warehouse_path(), &name)?;
        let required = Required::privilege(Privilege::Register);
        self.permitted_namespace(namespace, required, &actor.authority).await?;
        let metadata_file = Location::parse(&request.metadata_location)?;
        self.check_allowed(&metadata_file)?;
        let existing = match self.state().tables().table(self.warehouse(), &name).await {
            Ok(row) if request.overwrite => {
                self.require_overwrite(&name, &row, &actor.authority)?;
                Some(row)
            }
            Ok(_) => return Err(table_exists(&name)),
            Err(StateError::NoSuchTable(_)) => {
                self.state().tables().check_name_is_free(TabularKind::Table, self.warehouse(), &name).await?;
                None
            }
            Err(e) => return Err(e.into()),
        };
        self.check_metadata_size(&request.metadata_location).await?;
        let (metadata, json) = self.metadata_at(&request.metadata_location).await.map_err(|e| match e {
            CatalogError::Storage(storage @ StorageError::NotFound { .. }) => {
                CatalogError::Invalid(format!("can't register: {storage}"))
            }
            e => e,
        })?;
        let own = existing.as_ref().map(|row| row.id);
        self.check_metadata_locations(&metadata, own, PathsOrigin::Registered, &actor.authority).await?;
        // Files in the table's own places count too: a dropped table that can be brought back may have them.
        self.check_files_of_others(&NewFiles::of_metadata(&metadata), own, None, &actor.authority).await?;
        self.check_uuid_of_others(&metadata, own, &actor.authority).await?;
        let row = TabularRow {
            id: TableId::fresh(),
            warehouse: self.warehouse().id,
            kind: TabularKind::Table,
            name,
            table_uuid: uuid_of(&metadata),
            location: Location::parse(&metadata.location)?.to_string(),
            metadata_location: request.metadata_location,
            // Another state of an owned table stays owned. Without a UUID it is not certain that it is the same table.
            owned: existing.as_ref().is_some_and(|e| e.owned && metadata.table_uuid == Some(e.table_uuid)),
            protected: existing.as_ref().is_some_and(|e| e.protected),
        };
        let replaces = existing.map(|e| e.id);
        let places = places::places_in_metadata(&metadata.location, &metadata.properties);
        let owner = actor.authority.owner_of_new();
        let new = NewTabular { row: row.clone(), recorded_output: None, replaces, places, owner };
        let data = TableRegisteredData { created: created_data(&row), overwrite: replaces.is_some() };
        self.insert_registered(new, EventData::TableRegistered(data), actor).await?;
        Ok(LoadedTable { row, metadata, json })
    }

    /// Inserts the row of a registered table.
    ///
    /// If it replaces a table with row filters or column masks, the new entry gets them first, and the name leads to it only when
    /// every server has them. The entry has an id of its own: under older rules it would be a table without restrictions.
    async fn insert_registered(&self, new: NewTabular, data: EventData, actor: &Actor) -> Result<()> {
        let (id, access) = (new.row.id, self.state().access());
        let Some(replaced) = new.replaces else { return self.insert(new, data, actor).await };
        if !access.announce_restrictions(replaced, id).await? {
            return self.insert(new, data, actor).await;
        }
        tokio::time::sleep(RULES_ARE_READ).await;
        let inserted = self.insert(new, data, actor).await;
        if matches!(&inserted, Err(e) if !matches!(e, CatalogError::StateUnknown { .. })) {
            // What stays restricts an entry that does not exist. The failed registration is what the client has to know.
            if let Err(e) = access.withdraw_restrictions(id).await {
                tracing::warn!(%id, error = %e, "row filters and column masks of a registration that failed stay");
            }
        }
        inserted
    }

    /// Checks that a registration may replace a table. One that the caller does not see is a name that is taken.
    ///
    /// Row filters and column masks go over to the new metadata. Who is restricted by them may not choose it.
    fn require_overwrite(&self, name: &TableName, row: &TabularRow, authority: &Authority) -> Result<()> {
        let mut required = Required::privilege(Privilege::Drop);
        if authority.restrictions(row.id).is_some() {
            required = required.and(Privilege::ManageRestrictions.into());
        }
        match self.require_tabular(authority, name, row, required) {
            Err(CatalogError::State(StateError::NoSuchTable(_))) => Err(table_exists(name)),
            checked => checked,
        }
    }

    /// Makes a foreign table an owned one: from then on Esker may delete its files, for example by an expiry or a purge.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if no table has this name or the database fails.
    pub async fn claim(&self, name: &TableName, actor: &Actor) -> Result<()> {
        let row = self.permitted_table(name, Required::privilege(Privilege::Claim), &actor.authority).await?;
        let data = EventData::TableClaimed(TableIdentityData { table_id: row.id, table_uuid: row.table_uuid });
        let outbox = self.outbox(actor, &row.name, data, &RequestOutcome::NoContent);
        Ok(self.state().tables().claim(row.id, &outbox).await?)
    }

    /// Protects a table from being dropped, or lifts the protection.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if no table has this name or the database fails.
    pub async fn protect_table(&self, name: &TableName, protected: bool, actor: &Actor) -> Result<()> {
        let row = self.permitted_table(name, Required::privilege(Privilege::Protect), &actor.authority).await?;
        let data = EventData::TableProtected(ProtectedData { protected });
        let outbox = self.outbox(actor, &row.name, data, &RequestOutcome::NoContent);
        Ok(self.state().tables().protect(row.id, protected, &outbox).await?)
    }

    /// Writes the first metadata file of a table. Returns the table with the row to insert, which is not in the catalog yet.
    pub(crate) async fn write_first_metadata_file(
        &self,
        name: TableName,
        metadata: TableMetadata,
        owner: Option<Member>,
    ) -> Result<(LoadedTable, NewTabular)> {
        let path = Self::next_metadata_path(&metadata, None)?;
        let json = MetadataJson::serialize(&metadata)?;
        let row = TabularRow {
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
        let places = places::places_in_metadata(&metadata.location, &metadata.properties);
        let new = NewTabular { row: row.clone(), recorded_output: Some(path), replaces: None, places, owner };
        Ok((LoadedTable { row, metadata: Arc::new(metadata), json }, new))
    }

    /// Writes the first metadata file of a table, inserts its row, and caches the metadata.
    async fn insert_new_table(&self, name: TableName, metadata: TableMetadata, actor: &Actor) -> Result<LoadedTable> {
        let (table, new) = self.write_first_metadata_file(name, metadata, actor.authority.owner_of_new()).await?;
        self.insert(new, EventData::TableCreated(created_data(&table.row)), actor).await?;
        self.cache_metadata(&table.row.metadata_location, table.metadata.clone(), table.json.clone()).await;
        Ok(table)
    }

    /// Inserts the row of a table or view, with an event and a receipt.
    ///
    /// If the insert fails, the metadata file that was written for it is put into quarantine. The file stays if the outcome is
    /// unknown.
    pub(crate) async fn insert(&self, new: NewTabular, data: EventData, actor: &Actor) -> Result<()> {
        let (row, written) = (new.row.clone(), new.recorded_output.clone());
        let outbox = self.outbox(actor, &row.name, data, &RequestOutcome::of(&row));
        match self.state().tables().publish(self.warehouse(), &[], &[new], &outbox).await {
            Ok(_) => {
                actor.authority.names(self, &row);
                self.notify_change();
            }
            Err(e) => {
                if let Some(path) = written.filter(|_| !matches!(e, StateError::Ambiguous(_))) {
                    self.discard(&row, &path, "the table or view was not created").await;
                }
                return Err(CatalogError::of_publishing(e, &row.name));
            }
        }
        Ok(())
    }

    /// Checks that a commit which creates a table assigns no UUID of another table or view, or of a dropped one.
    ///
    /// By the UUID, a table that is registered again gets to the files of the dropped one.
    async fn check_uuid_is_new(&self, updates: &[TableUpdate]) -> Result<()> {
        let assigned = updates.iter().filter_map(|update| match update {
            TableUpdate::AssignUuid { uuid } => Some(*uuid),
            _ => None,
        });
        let assigned: Vec<Uuid> = assigned.collect();
        if assigned.is_empty() {
            return Ok(());
        }
        let dropped = self.dropped_tables().await?.into_iter().map(|dropped| dropped.row);
        let taken = self.tables_and_views().await?.into_iter().chain(dropped).find(|row| assigned.contains(&row.table_uuid));
        match taken {
            None => Ok(()),
            Some(row) => {
                let uuid = row.table_uuid;
                Err(CatalogError::Invalid(format!("{uuid} is the UUID of another table or view; assign a new one")))
            }
        }
    }

    /// Computes the metadata of a table that a commit creates.
    ///
    /// Schema, spec and order come as updates, with the ids that the client has already written into its manifests.
    async fn build_from_updates(&self, name: &TableName, updates: &[TableUpdate]) -> Result<TableMetadata> {
        let location_update = updates.iter().rev().find_map(|update| match update {
            TableUpdate::SetLocation { location } => Some(location),
            _ => None,
        });
        let location = match location_update {
            Some(location) => checked_location(location)?,
            None => self.default_location(name).await?.to_string(),
        };
        check_numbers(updates)?;
        Ok(create_by_updates(updates, &location, Uuid::now_v7(), now_ms())?)
    }
}

/// Returns the error for the name of a new table that another table has.
fn table_exists(name: &TableName) -> CatalogError {
    StateError::AlreadyExists { kind: "Table", name: name.to_string() }.into()
}

/// Returns the UUID that a table's row gets; nil for a table of version 1 without one.
fn uuid_of(metadata: &TableMetadata) -> Uuid {
    metadata.table_uuid.unwrap_or_default()
}

/// Returns the details of the event about a new entry.
pub(crate) fn created_data(row: &TabularRow) -> CreatedData {
    CreatedData {
        table_id: row.id,
        table_uuid: row.table_uuid,
        location: row.location.clone(),
        metadata_location: row.metadata_location.clone(),
    }
}

/// Converts a name that another table took to the failed requirement that it is. A name that a view took stays what it is.
pub(crate) fn failed_assert_create(error: CatalogError) -> CatalogError {
    match error {
        CatalogError::State(StateError::AlreadyExists { kind: "Table", .. }) => {
            FormatError::Requirement("table already exists".to_owned()).into()
        }
        error => error,
    }
}

/// Checks that a location can be parsed, and returns it as the client wrote it, without trailing slashes.
pub(crate) fn checked_location(location: &str) -> Result<String> {
    Location::parse(location)?;
    Ok(location.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_view_took_meanwhile_is_not_said_to_be_a_tables() {
        let taken = |kind| failed_assert_create(StateError::AlreadyExists { kind, name: "n.t".to_owned() }.into());
        assert!(matches!(taken("Table"), CatalogError::Format(FormatError::Requirement(_))));
        // The text of the reference implementation.
        assert_eq!(taken("View with same name").to_string(), "View with same name already exists: n.t");
    }
}
