//! Views: creation, registration, commits and drops.
//!
//! A view has a row and metadata files as a table has, but no data files. A commit takes the turn of the view, writes one
//! metadata file and swaps the pointer; commits to a view are not batched.
//!
//! Start reading at [`Catalog::replace_view`]. Spec: "Iceberg View Spec"; REST `createView`, `replaceView`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use esker_access::{Need, Needs, Privilege, Required};
use esker_format::{
    FormatError, NewView, Schema, ViewMetadata, ViewRequirement, ViewUpdate, ViewVersion, apply_view, create_view,
};
use esker_state::{
    EventData, NewTabular, PlaceClaim, PointerSwap, ProtectedData, RenamedData, StateError, TabularKind, TabularRow,
    ViewDroppedData, ViewReplacedData,
};
use esker_storage::{Location, StorageError};
use esker_types::{NamespaceName, TableId, TableName, now_ms};
use serde::Deserialize;
use uuid::Uuid;

use crate::create::{checked_location, created_data};
use crate::locations::PathsOrigin;
use crate::{Actor, Authority, Catalog, CatalogError, Register, RequestOutcome, Result, needs, places};

/// Maximum number of times that a commit is applied, if other servers keep winning the race.
const MAX_REPLAYS: usize = 10;

/// The property of a view whose text is not its owner's: it names who made the text. Such a view gives no rights of its owner.
///
/// Otherwise whoever may change the text could read every table that the owner may read. Only the owner removes the property.
pub(crate) const TEXT_BY: &str = "esker.text-by";

/// A request to create a view.
///
/// Spec: REST `CreateViewRequest`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CreateView {
    /// Name of the view in its namespace.
    pub name: String,
    /// Location of the view's metadata; the server chooses one by default.
    pub location: Option<String>,
    /// Columns of the view.
    pub schema: Schema,
    /// First version of the view, with its text in one or more dialects.
    pub view_version: ViewVersion,
    /// Properties of the view.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// A commit to a view.
///
/// Spec: REST `CommitViewRequest`.
#[derive(Debug, Clone, Deserialize)]
pub struct ReplaceView {
    /// Conditions that the view must meet.
    #[serde(default)]
    pub requirements: Vec<ViewRequirement>,
    /// Changes to the metadata, in order.
    pub updates: Vec<ViewUpdate>,
}

/// A view with the metadata that its row points to.
#[derive(Debug, Clone)]
pub struct LoadedView {
    /// Row of the view in the state database, with the pointer to the metadata file.
    pub row: TabularRow,
    /// Parsed content of the metadata file.
    pub metadata: Arc<ViewMetadata>,
    /// JSON text of the metadata file, uncompressed.
    pub json: Bytes,
}

impl Catalog {
    /// Loads a view by name.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if no view has this name or the database fails, and the errors of
    /// [`Catalog::load_view_row`].
    pub async fn load_view(&self, name: &TableName) -> Result<LoadedView> {
        self.load_view_row(self.view(name).await?).await
    }

    /// Returns the row of a view by name. It reads no metadata, so it also checks cheaply that the view exists.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if no view has this name or the database fails.
    pub async fn view(&self, name: &TableName) -> Result<TabularRow> {
        Ok(self.state().tables().view(self.warehouse(), name).await?)
    }

    /// Loads a view in the state that a metadata file describes; in its present state if that file is gone or damaged.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if no view has this name or the database fails, and
    /// [`Storage`](CatalogError::Storage) if the storage fails. Returns the errors of [`Catalog::load_view`] if the present state
    /// can't be read either.
    pub async fn view_at(&self, name: &TableName, metadata_location: &str) -> Result<LoadedView> {
        let row = self.view(name).await?;
        let then = TabularRow { metadata_location: metadata_location.to_owned(), ..row };
        match self.load_view_row(then).await {
            Err(CatalogError::MetadataGone { .. } | CatalogError::MetadataInvalid { .. }) => self.load_view(name).await,
            // A passing failure must not answer with another state.
            loaded => loaded,
        }
    }

    /// Loads the view that a row points to.
    ///
    /// # Errors
    ///
    /// Returns [`MetadataGone`](CatalogError::MetadataGone) if the metadata file is not in storage,
    /// [`MetadataInvalid`](CatalogError::MetadataInvalid) if it can't be decompressed or parsed, and
    /// [`Storage`](CatalogError::Storage) if it can't be read.
    pub async fn load_view_row(&self, row: TabularRow) -> Result<LoadedView> {
        let uri = row.metadata_location.clone();
        let json = self.json_at(&uri).await.map_err(|e| match e {
            CatalogError::Storage(StorageError::NotFound { uri }) => {
                CatalogError::MetadataGone { table: row.name.to_string(), uri }
            }
            e => e,
        })?;
        let metadata =
            ViewMetadata::from_json(&json).map_err(|e| CatalogError::MetadataInvalid { uri, reason: e.to_string() })?;
        Ok(LoadedView { row, metadata: Arc::new(metadata), json })
    }

    /// Creates a view.
    ///
    /// Spec: REST `createView`.
    ///
    /// # Errors
    ///
    /// - Returns [`Name`](CatalogError::Name) if the name is not valid, and [`State`](CatalogError::State) if the namespace does
    ///   not exist, the name is taken, or the database fails.
    /// - Returns [`IllegalArgument`](CatalogError::IllegalArgument) if the version, the schema or a property breaks a rule of the
    ///   specification.
    /// - Returns [`Invalid`](CatalogError::Invalid) if `write.location-provider.impl` names a class that is not allowed.
    /// - Returns [`Location`](CatalogError::Location) if the location or a path property is not allowed or overlaps another
    ///   place, and [`Storage`](CatalogError::Storage) if one can't be parsed or written.
    /// - Returns [`Format`](CatalogError::Format) if the metadata can't be printed as JSON, and
    ///   [`MetadataInvalid`](CatalogError::MetadataInvalid) if it can't be compressed.
    /// - Returns [`StateUnknown`](CatalogError::StateUnknown) if the database did not confirm the insert.
    pub async fn create_view(&self, namespace: &NamespaceName, request: CreateView, actor: &Actor) -> Result<LoadedView> {
        let name = TableName::new(namespace.clone(), request.name)?;
        actor.authority.check_name_of_new(self.warehouse_path(), &name)?;
        let into = self.namespace(namespace).await?;
        let (location, properties) = (request.location.as_deref(), &request.properties);
        let required = self.privileges_to_create(Privilege::CreateView, &into, &name, (location, properties), actor).await?;
        self.require_namespace(&actor.authority, namespace, &into, required)?;
        self.state().tables().check_name_is_free(TabularKind::View, self.warehouse(), &name).await?;
        let location = match &request.location {
            Some(location) => checked_location(location)?,
            None => self.default_location(&name).await?.to_string(),
        };
        let CreateView { schema, view_version: version, properties, .. } = request;
        let metadata = create_view(NewView { location, schema, version, properties }, Uuid::now_v7(), now_ms());
        let metadata = metadata.map_err(refused)?;
        let claims = self.check_view_locations(&metadata, None, PathsOrigin::Created, &actor.authority).await?;
        let path = Self::metadata_path(&metadata.location, &metadata.properties, None)?;
        let row = TabularRow {
            id: TableId::fresh(),
            warehouse: self.warehouse().id,
            kind: TabularKind::View,
            name,
            table_uuid: metadata.view_uuid,
            location: Location::parse(&metadata.location)?.to_string(),
            metadata_location: path.clone(),
            owned: true,
            protected: false,
        };
        let json = Bytes::from(metadata.to_json()?);
        self.write_metadata_file(&row, &path, json.clone()).await?;
        let places = places::places_in_metadata(&metadata.location, &metadata.properties);
        let owner = actor.authority.owner_of_new();
        let new = NewTabular { row: row.clone(), recorded_output: Some(path), replaces: None, places, claims, owner };
        self.insert(new, EventData::ViewCreated(created_data(&row)), actor).await?;
        Ok(LoadedView { row, metadata: Arc::new(metadata), json })
    }

    /// Enters a view whose metadata file exists in storage.
    ///
    /// Spec: REST `registerView`.
    ///
    /// # Errors
    ///
    /// - Returns [`Name`](CatalogError::Name) if the name is not valid, and [`State`](CatalogError::State) if the namespace does
    ///   not exist, the name is taken, or the database fails.
    /// - Returns [`Location`](CatalogError::Location) if the file, the view's location or a path property lies outside the
    ///   allowed locations, or the location or a path property overlaps another place.
    /// - Returns [`Invalid`](CatalogError::Invalid) if the file does not exist or names a location provider that is not allowed,
    ///   [`MetadataInvalid`](CatalogError::MetadataInvalid) if it can't be decompressed or parsed, and
    ///   [`Storage`](CatalogError::Storage) if it can't be read or a location can't be parsed.
    /// - Returns [`StateUnknown`](CatalogError::StateUnknown) if the database did not confirm the insert.
    pub async fn register_view(&self, namespace: &NamespaceName, request: Register, actor: &Actor) -> Result<LoadedView> {
        let name = TableName::new(namespace.clone(), request.name)?;
        actor.authority.check_name_of_new(self.warehouse_path(), &name)?;
        let required = Required::privilege(Privilege::Register);
        self.permitted_namespace(namespace, required, &actor.authority).await?;
        self.check_allowed(&Location::parse(&request.metadata_location)?)?;
        self.state().tables().check_name_is_free(TabularKind::View, self.warehouse(), &name).await?;
        let row = TabularRow {
            id: TableId::fresh(),
            warehouse: self.warehouse().id,
            kind: TabularKind::View,
            name,
            table_uuid: Uuid::nil(),
            location: String::new(),
            metadata_location: request.metadata_location,
            owned: false,
            protected: false,
        };
        self.check_metadata_size(&row.metadata_location).await?;
        let mut view = self.load_view_row(row).await.map_err(|e| match e {
            CatalogError::MetadataGone { uri, .. } => {
                CatalogError::Invalid(format!("can't register: {uri}: not found in storage"))
            }
            e => e,
        })?;
        let claims = self.check_view_locations(&view.metadata, None, PathsOrigin::Registered, &actor.authority).await?;
        view.row.table_uuid = view.metadata.view_uuid;
        view.row.location = Location::parse(&view.metadata.location)?.to_string();
        let places = places::places_in_metadata(&view.metadata.location, &view.metadata.properties);
        let owner = actor.authority.owner_of_new();
        let new = NewTabular { row: view.row.clone(), recorded_output: None, replaces: None, places, claims, owner };
        self.insert(new, EventData::ViewRegistered(created_data(&view.row)), actor).await?;
        Ok(view)
    }

    /// Commits a change to a view's versions, schemas or properties.
    ///
    /// Spec: REST `replaceView`.
    ///
    /// # Errors
    ///
    /// - Returns [`State`](CatalogError::State) if no view has this name or the database fails.
    /// - Returns [`Format`](CatalogError::Format) if a requirement does not hold or the metadata can't be printed as JSON, and
    ///   [`IllegalArgument`](CatalogError::IllegalArgument) if an update is impossible or breaks a rule of the specification.
    /// - Returns [`Location`](CatalogError::Location) if the view may not have a new location or path property, and
    ///   [`Invalid`](CatalogError::Invalid) if it may not name a location provider.
    /// - Returns [`Busy`](CatalogError::Busy) if the commit got no turn in time, and [`Conflict`](CatalogError::Conflict) if
    ///   other servers won the race ten times.
    /// - Returns [`Behind`](CatalogError::Behind) if storage has states of the view that the database does not have.
    /// - Returns [`StateUnknown`](CatalogError::StateUnknown) if the database did not confirm the commit.
    /// - Returns [`MetadataGone`](CatalogError::MetadataGone), [`MetadataInvalid`](CatalogError::MetadataInvalid),
    ///   [`OwnFileInvalid`](CatalogError::OwnFileInvalid) or [`Storage`](CatalogError::Storage) if the view can't be read or
    ///   written, or the ledger can't be read.
    pub async fn replace_view(&self, name: &TableName, request: ReplaceView, actor: &Actor) -> Result<LoadedView> {
        // The answer has the metadata, and requirements ask about it.
        let required = Required::all(needs::of_view_updates(&request.updates)).and(Privilege::ReadMetadata.into());
        let id = self.permitted_view(name, required, &actor.authority).await?.id;
        let _held = self.hold_commits(id).await?;
        for _ in 0..MAX_REPLAYS {
            let row = self.state().tables().by_id(id).await?.ok_or_else(|| StateError::NoSuchView(name.to_string()))?;
            self.check_not_behind(&row).await?;
            let current = self.load_view_row(row).await?;
            if let Some(view) = self.try_replace(&current, &request, actor).await? {
                return Ok(view);
            }
        }
        Err(CatalogError::Conflict(format!("other servers kept committing to the view for {MAX_REPLAYS} attempts")))
    }

    /// Applies a commit to this state of a view and publishes it. `None` if another server was first.
    async fn try_replace(&self, current: &LoadedView, request: &ReplaceView, actor: &Actor) -> Result<Option<LoadedView>> {
        if needs::view_leaves_places(&current.metadata, &request.updates) {
            let key = current.row.name.namespace.key();
            let view = Need { on: self.tabular_path(&key, &current.row), required: Required::NOTHING };
            let namespace = Need::new(self.namespace_path(&key), Privilege::ChooseLocation);
            actor.authority.require(Needs::All(&[view, namespace]))?;
        }
        request.requirements.iter().try_for_each(|requirement| requirement.check(&current.metadata))?;
        let applied = apply_view(&current.metadata, &request.updates, now_ms()).map_err(refused)?;
        let Some(mut metadata) = applied else { return Ok(Some(current.clone())) };
        note_author(&mut metadata, current, actor);
        if metadata == *current.metadata {
            return Ok(Some(current.clone()));
        }
        let before = PathsOrigin::Changed(&current.metadata.properties);
        let claims = self.check_view_locations(&metadata, Some(current.row.id), before, &actor.authority).await?;
        let from = current.row.metadata_location.clone();
        let to = Self::metadata_path(&metadata.location, &metadata.properties, Some(&from))?;
        let json = Bytes::from(metadata.to_json()?);
        let settled_outputs = self.write_following(&current.row, &to, json.clone()).await?;
        let location = Location::parse(&metadata.location)?.to_string();
        let row = TabularRow { metadata_location: to.clone(), location: location.clone(), ..current.row.clone() };
        let data = EventData::ViewReplaced(ViewReplacedData {
            view_id: row.id,
            view_uuid: row.table_uuid,
            metadata_location: to.clone(),
            previous_metadata_location: from.clone(),
            version_id: metadata.current_version_id,
        });
        let outbox = self.outbox(actor, &row.name, data, &RequestOutcome::of(&row));
        // The places before the commit are recorded too: a database of an earlier release holds only the location.
        let [before, after] = [&*current.metadata, &metadata].map(|m| places::places_in_metadata(&m.location, &m.properties));
        let swap = PointerSwap {
            id: row.id,
            from,
            to: to.clone(),
            location,
            places: before.into_iter().chain(after).collect(),
            claims,
            quarantine: Vec::new(),
            settled_outputs,
            restored: Vec::new(),
            merged: Vec::new(),
            term: None,
        };
        match self.state().tables().publish(self.warehouse(), &[swap], &[], &outbox).await {
            Ok(true) => Ok(Some(LoadedView { row, metadata: Arc::new(metadata), json })),
            Ok(false) => {
                self.discard(&current.row, &to, "the commit lost the race against another server").await;
                Ok(None)
            }
            Err(e) => {
                if !matches!(e, StateError::Ambiguous(_)) {
                    self.discard(&current.row, &to, "the state database refused the commit").await;
                }
                Err(CatalogError::of_publishing(e, &row.name))
            }
        }
    }

    /// Drops a view. Its metadata files stay in place.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if no view has this name, the view is protected, or the database fails.
    pub async fn drop_view(&self, name: &TableName, actor: &Actor) -> Result<()> {
        let row = self.permitted_view(name, Required::privilege(Privilege::Drop), &actor.authority).await?;
        let (view_id, view_uuid, metadata_location) = (row.id, row.table_uuid, row.metadata_location.clone());
        let data = EventData::ViewDropped(ViewDroppedData { view_id, view_uuid, metadata_location });
        let outbox = self.outbox(actor, &row.name, data, &RequestOutcome::NoContent);
        self.state().tables().drop(&row, None, &[], None, &outbox).await?;
        Ok(())
    }

    /// Renames a view, possibly into another namespace.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the view or the new namespace does not exist, the new name is taken, or the
    /// database fails.
    pub async fn rename_view(&self, from: &TableName, to: &TableName, actor: &Actor) -> Result<()> {
        self.authorize_rename(TabularKind::View, from, to, &actor.authority).await?;
        let data = EventData::ViewRenamed(RenamedData { to: to.to_string() });
        let outbox = self.outbox(actor, from, data, &RequestOutcome::NoContent);
        Ok(self.state().tables().rename(TabularKind::View, self.warehouse(), from, to, &outbox).await?)
    }

    /// Protects a view from being dropped, or lifts the protection.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if no view has this name or the database fails.
    pub async fn protect_view(&self, name: &TableName, protected: bool, actor: &Actor) -> Result<()> {
        let row = self.permitted_view(name, Required::privilege(Privilege::Protect), &actor.authority).await?;
        let data = EventData::ViewProtected(ProtectedData { protected });
        let outbox = self.outbox(actor, &row.name, data, &RequestOutcome::NoContent);
        Ok(self.state().tables().protect(row.id, protected, &outbox).await?)
    }

    /// Checks that a view may have the location and the path properties of its metadata. Returns the claims to these places.
    async fn check_view_locations(
        &self,
        metadata: &ViewMetadata,
        own: Option<TableId>,
        origin: PathsOrigin<'_>,
        authority: &Authority,
    ) -> Result<Vec<PlaceClaim>> {
        self.check_locations(&metadata.location, &metadata.properties, own, origin, authority).await
    }
}

/// Writes into changed metadata whether the text of the view is its owner's. Only the owner's own changes of [`TEXT_BY`] count.
///
/// With access control off, a view without an owner stays as it is. Otherwise the owner may be too new for the rules that are known
/// here, so any author but the known owner is written down.
fn note_author(metadata: &mut ViewMetadata, current: &LoadedView, actor: &Actor) {
    let (id, authority) = (current.row.id, &actor.authority);
    let has_new_text = metadata.current_version() != current.metadata.current_version();
    let author = match (authority.owns(id), has_new_text) {
        (true, true) => None,
        (true, false) => return,
        (false, true) if authority.is_decided() || authority.knows_owner_of(id) => Some(actor.principal.clone()),
        (false, _) => current.metadata.properties.get(TEXT_BY).cloned(),
    };
    match author {
        Some(author) => metadata.properties.insert(TEXT_BY.to_owned(), author),
        None => metadata.properties.remove(TEXT_BY),
    };
}

/// Converts a view version or schema that is not valid to the argument error, for which Java clients have an exception.
fn refused(error: FormatError) -> CatalogError {
    match error {
        FormatError::Refused(what) => CatalogError::IllegalArgument(what),
        error => error.into(),
    }
}
