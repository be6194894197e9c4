//! [`TestTable`]: a table of a test, with writers that act as an engine does: files and manifests go to storage, commits to REST.
//!
//! `encode.rs` makes bytes, `files.rs` writes files with their entries, `commit.rs` writes manifests and commits. The others stand
//! on these: `rows.rs` appends, `deletes.rs` deletes, `late.rs` comes late, `jobs.rs` runs jobs, `queries.rs` reads. Start reading
//! at [`TestTable::create`] and [`TestTable::append`].

mod commit;
mod deletes;
mod encode;
mod files;
mod jobs;
mod late;
mod queries;
mod rows;

use std::sync::Arc;

use arrow::datatypes::Schema as ArrowSchema;
use esker_format::{DataFile, TableMetadata, Tuple, Value as Cell};
use esker_storage::Storage;
use esker_table::{LiveFiles, Manifests, load_live};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::TestApp;

pub use commit::PreparedCommit;
pub use deletes::PositionDeleteScope;
pub use late::ClientChange;
pub use queries::text_cells;

/// A row: the columns `id`, `s` and `p`, and the column `extra` that a test may add to the table later.
pub type Row = (i64, String, i32, Option<i32>);

/// A row with the id of the partition spec that it was written under.
///
/// Equality deletes of a partitioned spec do not apply to rows of another spec. Spec: "Scan Planning".
pub type RowUnderSpec = (Row, i32);

/// Returns the JSON of the schema of simple tables, such as `n.t`: the columns `id` and `s`.
pub fn schema_json() -> Value {
    json!({"type": "struct", "fields": [
        {"id": 1, "name": "id", "required": false, "type": "long"},
        {"id": 2, "name": "s", "required": false, "type": "string"},
    ]})
}

/// A table, with the operations of its writers and readers.
///
/// It is `n.t` with the columns `id` and `s` ([`simple`](Self::simple)), `lake.NAME` with the columns of a [`Row`]
/// ([`create`](Self::create)), or `lake.NAME` of any schema ([`create_with_schema`](Self::create_with_schema)). Everywhere the
/// first column is `id`, a long with the field id 1.
#[derive(Debug)]
pub struct TestTable<'a> {
    app: &'a TestApp,
    storage: Storage,
    namespace: &'static str,
    name: String,
}

impl<'a> TestTable<'a> {
    /// Returns the table `n.t`, which [`TestApp::table`] creates.
    pub fn simple(app: &'a TestApp) -> Self {
        Self::simple_named(app, "t")
    }

    /// Returns the existing table `n.NAME`, which has the schema of [`schema_json`].
    pub fn simple_named(app: &'a TestApp, name: &str) -> Self {
        Self { app, storage: Storage::local(), namespace: "n", name: name.to_owned() }
    }

    /// Creates the table `n.t`, and appends six files of ten ids each: 0 to 59.
    pub async fn six_files(app: &'a TestApp) -> Self {
        app.table().await;
        let this = Self::simple(app);
        for i in 0..6 {
            this.append_ids(i * 10..i * 10 + 10).await;
        }
        this
    }

    /// Returns the existing table `lake.NAME`.
    pub fn open(app: &'a TestApp, name: &str) -> Self {
        Self { app, storage: Storage::local(), namespace: "lake", name: name.to_owned() }
    }

    /// Creates the table `lake.NAME` with the columns of a [`Row`], partitioned by `p` or not.
    pub async fn create(app: &'a TestApp, name: &str, version: u8, partitioned: bool, mut properties: Value) -> Self {
        properties["format-version"] = version.to_string().into();
        properties["esker.expire.min-age-ms"] = "0".into();
        let fields = json!([
            {"id": 1, "name": "id", "required": false, "type": "long"},
            {"id": 2, "name": "s", "required": false, "type": "string"},
            {"id": 3, "name": "p", "required": false, "type": "int"},
        ]);
        let spec = match partitioned {
            true => json!([{"source-id": 3, "field-id": 1000, "name": "p", "transform": "identity"}]),
            false => json!([]),
        };
        Self::create_with_schema(app, name, fields, spec, properties).await
    }

    /// Creates the table `lake.NAME`. `fields` and `spec` are the JSON of the fields of its schema and its partition spec.
    pub async fn create_with_schema(app: &'a TestApp, name: &str, fields: Value, spec: Value, properties: Value) -> Self {
        let (status, body) = app.send(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": ["lake"]}))).await;
        assert!(status.is_success() || status.as_u16() == 409, "{body}");
        let schema = json!({"type": "struct", "fields": fields});
        let create = json!({"name": name, "schema": schema, "partition-spec": {"fields": spec}, "properties": properties});
        app.ok(Method::POST, "/v1/default/namespaces/lake/tables", Some(create)).await;
        Self::open(app, name)
    }

    /// Returns the table's path in the REST catalog.
    pub fn path(&self) -> String {
        format!("/v1/default/namespaces/{}/tables/{}", self.namespace, self.name)
    }

    /// Returns the path of one of the table's resources in the management API, such as `compact`.
    pub fn management_path(&self, what: &str) -> String {
        format!("/api/v1/warehouses/default/namespaces/{}/tables/{}/{what}", self.namespace, self.name)
    }

    /// Returns the catalog that the table is in.
    pub fn catalog(&self) -> &esker_catalog::Catalog {
        self.app.catalog()
    }

    /// Returns the table's present metadata.
    pub async fn metadata(&self) -> TableMetadata {
        let body = self.app.ok(Method::GET, &self.path(), None).await;
        serde_json::from_value(body["metadata"].clone()).expect("metadata")
    }

    /// Returns the Arrow schema of the table's rows.
    pub async fn arrow_schema(&self) -> Arc<ArrowSchema> {
        rows_schema(&self.metadata().await)
    }

    /// Sends metadata updates, which must succeed.
    pub async fn update(&self, updates: Value) {
        self.app.ok(Method::POST, &self.path(), Some(json!({"requirements": [], "updates": updates}))).await;
    }

    /// Replaces the fields of the table's schema.
    pub async fn evolve(&self, fields: Value) {
        let schema = json!({"type": "struct", "fields": fields});
        self.update(json!([{"action": "add-schema", "schema": schema}, {"action": "set-current-schema", "schema-id": -1}])).await;
    }

    /// Replaces the table's metadata: writes it as a new file and registers that.
    pub async fn replace_metadata(&self, metadata: &Value) {
        let location = metadata["location"].as_str().expect("a location");
        let path = format!("{location}/metadata/90000-{}.metadata.json", Uuid::new_v4());
        self.storage.write(&path, metadata.to_string().into_bytes().into()).await.expect("written");
        let register = json!({"name": self.name, "metadata-location": path, "overwrite": true});
        self.app.ok(Method::POST, &format!("/v1/default/namespaces/{}/register", self.namespace), Some(register)).await;
    }

    /// Returns a reader of manifests without a cache.
    fn manifests(&self) -> Manifests {
        Manifests::new(self.storage.clone(), 0)
    }

    /// Returns the live files of the current snapshot of `metadata`.
    pub async fn live(&self, metadata: &TableMetadata) -> LiveFiles {
        let Some(snapshot) = metadata.current_snapshot() else { return LiveFiles::default() };
        load_live(&self.manifests(), metadata, snapshot).await.expect("live files")
    }

    /// Returns the live files of a branch or tag.
    pub async fn live_of(&self, reference: &str) -> LiveFiles {
        let metadata = self.metadata().await;
        let snapshot = metadata.snapshot_for_ref(reference).expect("a branch or a tag");
        load_live(&self.manifests(), &metadata, snapshot).await.expect("live files")
    }

    /// Returns the live data files of the current snapshot.
    pub async fn data_files(&self) -> Vec<DataFile> {
        let metadata = self.metadata().await;
        self.live(&metadata).await.data.into_iter().map(|live| live.file).collect()
    }

    /// Returns the paths of the live data files of the current snapshot, sorted.
    pub async fn data_paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = self.data_files().await.into_iter().map(|file| file.file_path).collect();
        paths.sort();
        paths
    }

    /// Returns the paths of files that a snapshot refers to and that do not exist.
    pub async fn missing_files(&self) -> Vec<String> {
        let metadata = self.metadata().await;
        let snapshots: Vec<_> = metadata.snapshots.iter().cloned().collect();
        let found =
            esker_table::reachable(&self.manifests(), &metadata, &snapshots, &Default::default()).await.expect("readable");
        found.files.into_keys().filter(|path| !std::path::Path::new(path.trim_start_matches("file://")).exists()).collect()
    }
}

/// Returns the Arrow schema of a table's rows.
fn rows_schema(metadata: &TableMetadata) -> Arc<ArrowSchema> {
    Arc::new(esker_read::arrow_schema(metadata.current_schema()).expect("a schema"))
}

/// Returns the path of a new file in the table's data directory. `end` is what its name ends with, such as `-eq.parquet`.
fn new_path(metadata: &TableMetadata, end: &str) -> String {
    format!("{}/data/{}{end}", metadata.location, Uuid::new_v4())
}

/// Returns the partition tuple of a value of `p`, which is empty without a value.
fn partition(p: Option<i32>) -> Tuple {
    p.map(|p| Some(Cell::Int(p))).into_iter().collect()
}
