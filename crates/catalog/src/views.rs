//! Views: their metadata files, and commits to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use esker_format::{
    FormatError, NewView, Schema, ViewMetadata, ViewRequirement, ViewUpdate, ViewVersion, apply_view, create_view,
};
use esker_state::{NewTabular, StateError, Swap, TableRow, TabularKind};
use esker_storage::{Location, StorageError};
use esker_types::{NamespaceName, TableId, TableName, now_ms};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::create::as_given;
use crate::{Actor, Catalog, CatalogError, Register, RequestOutcome, Result, places};

/// Times that a commit is applied again after another server process won the race.
const MAX_REPLAYS: usize = 10;

/// A request to create a view (REST specification, `CreateViewRequest`).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CreateView {
    /// Its name in the namespace.
    pub name: String,
    /// Where its metadata goes; the server chooses if not given.
    pub location: Option<String>,
    /// Its columns.
    pub schema: Schema,
    /// Its text, by dialect.
    pub view_version: ViewVersion,
    /// Its properties.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// A commit to a view (REST specification, `CommitViewRequest`).
#[derive(Debug, Clone, Deserialize)]
pub struct ReplaceView {
    /// What must hold.
    #[serde(default)]
    pub requirements: Vec<ViewRequirement>,
    /// What changes.
    pub updates: Vec<ViewUpdate>,
}

/// A view as it is now.
#[derive(Debug, Clone)]
pub struct LoadedView {
    /// Its pointer row.
    pub row: TableRow,
    /// Its parsed metadata.
    pub metadata: Arc<ViewMetadata>,
    /// The metadata as the file has it.
    pub json: Bytes,
}

impl Catalog {
    /// The views of a namespace, by name, after `after`.
    pub async fn list_views(&self, namespace: &NamespaceName, after: &str, limit: u32) -> Result<Vec<String>> {
        Ok(self.state().list(TabularKind::View, self.warehouse(), namespace, after, limit).await?)
    }

    /// A view by name.
    pub async fn load_view(&self, name: &TableName) -> Result<LoadedView> {
        let row = self.state().view(self.warehouse(), name).await?;
        self.load_view_row(row).await
    }

    /// The view that a row points at.
    pub async fn load_view_row(&self, row: TableRow) -> Result<LoadedView> {
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
    pub async fn create_view(&self, namespace: &NamespaceName, request: CreateView, actor: &Actor) -> Result<LoadedView> {
        let name = TableName::new(namespace.clone(), request.name)?;
        self.namespace(namespace).await?;
        self.state().check_free(TabularKind::View, self.warehouse(), &name).await?;
        let location = match &request.location {
            Some(location) => as_given(location)?,
            None => self.default_location(&name).await?.to_string(),
        };
        let CreateView { schema, view_version: version, properties, .. } = request;
        let metadata = create_view(NewView { location, schema, version, properties }, Uuid::now_v7(), now_ms());
        let metadata = metadata.map_err(refused)?;
        self.check_view_locations(&metadata, None).await?;
        let path = Self::metadata_path(&metadata.location, &metadata.properties, None)?;
        let row = TableRow {
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
        let places = places::named(&metadata.location, &metadata.properties);
        let new = NewTabular { row: row.clone(), recorded_output: Some(path), replaces: None, places };
        self.insert(new, "view.created", json!({}), actor).await?;
        Ok(LoadedView { row, metadata: Arc::new(metadata), json })
    }

    /// Enters a view whose metadata exists already.
    pub async fn register_view(&self, namespace: &NamespaceName, request: Register, actor: &Actor) -> Result<LoadedView> {
        let name = TableName::new(namespace.clone(), request.name)?;
        self.namespace(namespace).await?;
        self.check_allowed(&Location::parse(&request.metadata_location)?)?;
        self.state().check_free(TabularKind::View, self.warehouse(), &name).await?;
        let row = TableRow {
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
        let mut view = self.load_view_row(row).await.map_err(|e| match e {
            CatalogError::MetadataGone { uri, .. } => {
                CatalogError::Invalid(format!("can't register: {uri}: not found in storage"))
            }
            e => e,
        })?;
        self.check_view_locations(&view.metadata, None).await?;
        view.row.table_uuid = view.metadata.view_uuid;
        view.row.location = Location::parse(&view.metadata.location)?.to_string();
        let places = places::named(&view.metadata.location, &view.metadata.properties);
        let new = NewTabular { row: view.row.clone(), recorded_output: None, replaces: None, places };
        self.insert(new, "view.registered", json!({}), actor).await?;
        Ok(view)
    }

    /// Replaces a view's versions or properties.
    pub async fn replace_view(&self, name: &TableName, request: ReplaceView, actor: &Actor) -> Result<LoadedView> {
        let id = self.state().view(self.warehouse(), name).await?.id;
        let _held = self.hold_commits(id).await?;
        for _ in 0..MAX_REPLAYS {
            let row = self.state().table_by_id(id).await?.ok_or_else(|| StateError::NoSuchView(name.to_string()))?;
            self.check_not_behind(&row).await?;
            let current = self.load_view_row(row).await?;
            if let Some(view) = self.try_replace(&current, &request, actor).await? {
                return Ok(view);
            }
        }
        Err(CatalogError::Conflict(format!("other servers kept committing to the view for {MAX_REPLAYS} attempts")))
    }

    /// `None`: somebody else was first.
    async fn try_replace(&self, current: &LoadedView, request: &ReplaceView, actor: &Actor) -> Result<Option<LoadedView>> {
        request.requirements.iter().try_for_each(|requirement| requirement.check(&current.metadata))?;
        let applied = apply_view(&current.metadata, &request.updates, now_ms()).map_err(refused)?;
        let Some(metadata) = applied else { return Ok(Some(current.clone())) };
        self.check_view_locations(&metadata, Some(current.row.id)).await?;
        let from = current.row.metadata_location.clone();
        let to = Self::metadata_path(&metadata.location, &metadata.properties, Some(&from))?;
        let json = Bytes::from(metadata.to_json()?);
        let settled_outputs = self.write_following(&current.row, &to, json.clone()).await?;
        let location = Location::parse(&metadata.location)?.to_string();
        let row = TableRow { metadata_location: to.clone(), location: location.clone(), ..current.row.clone() };
        let data = json!({"view-id": row.id, "view-uuid": row.table_uuid, "metadata-location": to,
            "previous-metadata-location": from, "version-id": metadata.current_version_id});
        let along = self.outbox(actor, "view.replaced", &row.name, data, &RequestOutcome::of(&row));
        let swap = Swap {
            id: row.id,
            from,
            to: to.clone(),
            location,
            places: places::named(&metadata.location, &metadata.properties),
            quarantine: Vec::new(),
            settled_outputs,
            restored: Vec::new(),
        };
        match self.state().publish(self.warehouse(), &[swap], &[], &along).await {
            Ok(true) => Ok(Some(LoadedView { row, metadata: Arc::new(metadata), json })),
            Ok(false) => {
                self.discard(&current.row, &to, "a commit that another server overtook").await;
                Ok(None)
            }
            Err(e) => {
                if !matches!(e, StateError::Ambiguous(_)) {
                    self.discard(&current.row, &to, "a commit that the state database refused").await;
                }
                Err(CatalogError::of_publishing(e, &row.name))
            }
        }
    }

    /// Drops a view. Its metadata files stay where they are.
    pub async fn drop_view(&self, name: &TableName, actor: &Actor) -> Result<()> {
        let row = self.state().view(self.warehouse(), name).await?;
        let data = json!({"view-id": row.id, "view-uuid": row.table_uuid, "metadata-location": row.metadata_location});
        let along = self.outbox(actor, "view.dropped", &row.name, data, &RequestOutcome::NoContent);
        self.state().drop_tabular(row.id, None, &[], None, &along).await?;
        Ok(())
    }

    /// Renames a view, possibly into another namespace.
    pub async fn rename_view(&self, from: &TableName, to: &TableName, actor: &Actor) -> Result<()> {
        let along = self.outbox(actor, "view.renamed", from, json!({"to": to.to_string()}), &RequestOutcome::NoContent);
        Ok(self.state().rename(TabularKind::View, self.warehouse(), from, to, &along).await?)
    }

    /// Protects a view from being dropped, or lifts that.
    pub async fn protect_view(&self, name: &TableName, protected: bool, actor: &Actor) -> Result<()> {
        let row = self.state().view(self.warehouse(), name).await?;
        let along = self.outbox(actor, "view.protected", &row.name, json!({"protected": protected}), &RequestOutcome::NoContent);
        Ok(self.state().protect(row.id, protected, &along).await?)
    }

    async fn check_view_locations(&self, metadata: &ViewMetadata, own: Option<TableId>) -> Result<()> {
        self.check_locations(&metadata.location, &metadata.properties, own).await
    }
}

/// A view's version or schema that is not valid is the mistake of an argument, by which Java clients throw another exception.
fn refused(error: FormatError) -> CatalogError {
    match error {
        FormatError::Refused(what) => CatalogError::IllegalArgument(what),
        error => error.into(),
    }
}
