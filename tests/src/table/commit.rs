//! [`Writer`]: commits to a simple table, mostly `n.t`, of a [`TestApp`], for tests that need files but no particular schema.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use esker_format::{
    AvroCodec, DataContentType, DataFile, DataFileFormat, ManifestContent, ManifestListWriter, NewManifestList, TableMetadata,
};
use esker_storage::Storage;
use esker_table::Manifests;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::TestApp;
use crate::files::{DraftSnapshot, data_file_entry, delete_file, deleted_positions, manifest, parquet};
use crate::lake::rows_schema;

/// Returns the JSON of the schema of the writer's tables: the columns `id` and `s`.
pub fn schema_json() -> Value {
    json!({"type": "struct", "fields": [
        {"id": 1, "name": "id", "required": false, "type": "long"},
        {"id": 2, "name": "s", "required": false, "type": "string"},
    ]})
}

/// A writer of a table of the namespace `n`, which acts as an engine does: files and manifests go to storage, commits to REST.
#[derive(Debug)]
pub struct Writer<'a> {
    app: &'a TestApp,
    storage: Storage,
    table: &'a str,
}

/// A commit whose files are written and that was not sent yet.
#[derive(Debug, Clone)]
pub struct Prepared(Value);

impl Prepared {
    /// Returns the body of the commit's request.
    pub fn body(&self) -> &Value {
        &self.0
    }
}

impl<'a> Writer<'a> {
    /// Returns a writer of a server's table `n.t`.
    pub fn new(app: &'a TestApp) -> Self {
        Self::of(app, "t")
    }

    /// Returns a writer of another table in the namespace `n`, which has the schema of [`schema_json`].
    pub fn of(app: &'a TestApp, table: &'a str) -> Self {
        Self { app, storage: Storage::local(), table }
    }

    /// Returns the path of the table's route.
    fn path(&self) -> String {
        format!("/v1/default/namespaces/n/tables/{}", self.table)
    }

    /// Creates the table, and appends six files of ten ids each: 0 to 59. Returns the writer.
    pub async fn six_files(app: &'a TestApp) -> Self {
        app.table().await;
        let this = Self::new(app);
        for i in 0..6 {
            this.append(i * 10..i * 10 + 10).await;
        }
        this
    }

    /// Returns the table's present metadata.
    pub async fn metadata(&self) -> TableMetadata {
        let body = self.app.ok(Method::GET, &self.path(), None).await;
        serde_json::from_value(body["metadata"].clone()).expect("metadata")
    }

    /// Appends rows with the given ids as one file.
    pub async fn append(&self, ids: std::ops::Range<i64>) {
        let prepared = self.prepare_append(ids).await;
        self.commit(&prepared).await;
    }

    /// Sends a prepared commit, which must succeed. Returns the answer.
    pub async fn commit(&self, prepared: &Prepared) -> Value {
        self.app.ok(Method::POST, &self.path(), Some(prepared.0.clone())).await
    }

    /// Appends rows with the given ids as one file without a page index, as pyarrow, DuckDB and Trino write files.
    pub async fn append_without_index(&self, ids: std::ops::Range<i64>) {
        let properties = WriterProperties::builder()
            .set_offset_index_disabled(true)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_data_page_row_count_limit(100);
        let prepared = self.prepare_append_with(ids, properties.build()).await;
        self.commit(&prepared).await;
    }

    /// Writes an append, without committing it.
    pub async fn prepare_append(&self, ids: std::ops::Range<i64>) -> Prepared {
        self.prepare_append_with(ids, WriterProperties::default()).await
    }

    async fn prepare_append_with(&self, ids: std::ops::Range<i64>, properties: WriterProperties) -> Prepared {
        let metadata = self.metadata().await;
        let path = format!("{}/data/{}.parquet", metadata.location, Uuid::new_v4());
        let strings: StringArray = ids.clone().map(|i| Some(format!("s{}", i % 3))).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(ids.collect::<Int64Array>()), Arc::new(strings)];
        let batch = RecordBatch::try_new(rows_schema(&metadata), columns).expect("a batch");
        let (bytes, footer) = parquet(&batch, properties);
        let file = data_file_entry(&path, &batch, bytes.len(), &footer, metadata.current_schema());
        self.storage.write(&path, bytes.into()).await.expect("written");
        self.prepare(&metadata, vec![file], false).await
    }

    /// Deletes rows of a data file by position.
    pub async fn delete_positions(&self, data_path: &str, positions: &[i64]) {
        let metadata = self.metadata().await;
        let path = format!("{}/data/{}-deletes.parquet", metadata.location, Uuid::new_v4());
        let places: Vec<(&str, i64)> = positions.iter().map(|at| (data_path, *at)).collect();
        let content = DataContentType::PositionDeletes;
        let file = delete_file(&self.storage, &path, deleted_positions(&places), content, places.len()).await;
        let prepared = self.prepare(&metadata, vec![file], true).await;
        self.commit(&prepared).await;
    }

    /// Commits an equality delete file on `id`, with content that can't be read: for tests that only see it refused.
    pub async fn delete_equal(&self) {
        let metadata = self.metadata().await;
        let path = format!("{}/data/{}-eq.parquet", metadata.location, Uuid::new_v4());
        let file = delete_file(&self.storage, &path, b"PAR1".to_vec(), DataContentType::EqualityDeletes, 1).await;
        let file = DataFile { equality_ids: Some(vec![1]), ..file };
        let prepared = self.prepare(&metadata, vec![file], true).await;
        self.commit(&prepared).await;
    }

    /// Commits entries of `n` data files that do not exist: for tests that only plan.
    pub async fn append_missing_files(&self, n: usize) {
        let metadata = self.metadata().await;
        let phantoms = (0..n).map(|i| missing_data_file(&metadata, &format!("phantom-{i}"))).collect();
        let prepared = self.prepare(&metadata, phantoms, false).await;
        self.commit(&prepared).await;
    }

    /// Gives the table `n` snapshots, with one registration in place of `n` commits.
    ///
    /// Each snapshot replaces the data files of its parent, `files` of them, by others. The data files do not exist.
    pub async fn long_history(&self, n: i64, files: usize) {
        let metadata = self.metadata().await;
        let dir = format!("{}/metadata", metadata.location);
        let began = now_ms() - n - 1000;
        let mut snapshots = Vec::new();
        for id in 1..=n {
            let mut writer = manifest(&metadata, metadata.default_spec_id, ManifestContent::Data, id);
            for i in 0..files {
                writer.added(&missing_data_file(&metadata, &format!("{id}-{i}")), None).expect("added");
            }
            let (bytes, manifest) = writer.finish(format!("{dir}/{id}-m0.avro")).expect("a manifest");
            self.storage.write(&manifest.manifest_path, bytes.into()).await.expect("written");
            let list = format!("{dir}/snap-{id}.avro");
            let parent = (id > 1).then_some(id - 1);
            let new = NewManifestList {
                format_version: metadata.format_version,
                snapshot_id: id,
                parent_snapshot_id: parent,
                sequence_number: id,
                first_row_id: None,
                codec: AvroCodec::default(),
            };
            let mut writer = ManifestListWriter::new(new).expect("a manifest list");
            writer.add(&manifest).expect("added");
            self.storage.write(&list, writer.finish().expect("a manifest list").into()).await.expect("written");
            let mut snapshot = json!({"snapshot-id": id, "sequence-number": id, "manifest-list": list, "timestamp-ms": began + id,
                "schema-id": metadata.current_schema_id, "summary": {"operation": "overwrite"}});
            if let Some(parent) = parent {
                snapshot["parent-snapshot-id"] = parent.into();
            }
            snapshots.push(snapshot);
        }
        let mut json = serde_json::to_value(&metadata).expect("JSON");
        let log = (1..=n).map(|id| json!({"snapshot-id": id, "timestamp-ms": began + id})).collect::<Vec<_>>();
        (json["snapshots"], json["snapshot-log"]) = (snapshots.into(), log.into());
        (json["current-snapshot-id"], json["last-sequence-number"]) = (n.into(), n.into());
        json["refs"] = json!({"main": {"type": "branch", "snapshot-id": n}});
        json["last-updated-ms"] = now_ms().into();
        let uri = format!("{dir}/00001-long.metadata.json");
        self.storage.write(&uri, json.to_string().into_bytes().into()).await.expect("written");
        let register = json!({"name": self.table, "metadata-location": uri, "overwrite": true});
        self.app.ok(Method::POST, "/v1/default/namespaces/n/register", Some(register)).await;
    }

    /// Writes a snapshot that adds files to the head of `main`.
    async fn prepare(&self, metadata: &TableMetadata, files: Vec<DataFile>, deletes: bool) -> Prepared {
        let mut draft = DraftSnapshot::new(&self.storage, metadata, true);
        let content = if deletes { ManifestContent::Deletes } else { ManifestContent::Data };
        let mut writer = draft.manifest(metadata.default_spec_id, content);
        files.iter().for_each(|file| writer.added(file, None).expect("added"));
        let mut manifests = vec![draft.write(writer).await];
        if let Some(parent) = metadata.current_snapshot() {
            let source = Manifests::new(self.storage.clone(), 0);
            manifests.extend(esker_table::load_manifests(&source, parent).await.expect("manifests"));
        }
        let summary = json!({"operation": if deletes { "delete" } else { "append" }});
        let snapshot = draft.snapshot(&manifests, summary).await;
        Prepared(json!({
            "requirements": [{"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": metadata.current_snapshot_id}],
            "updates": [
                {"action": "add-snapshot", "snapshot": snapshot},
                {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": draft.id},
            ],
        }))
    }

    /// Returns the paths of the live data files, sorted. Reads the manifests from storage each time.
    pub async fn data_files(&self) -> Vec<String> {
        let metadata = self.metadata().await;
        let Some(snapshot) = metadata.current_snapshot() else { return Vec::new() };
        let source = Manifests::new(self.storage.clone(), 0);
        let live = esker_table::load_live(&source, &metadata, snapshot).await.expect("live files");
        let mut paths: Vec<String> = live.data.iter().map(|f| f.file.file_path.clone()).collect();
        paths.sort();
        paths
    }

    /// Returns the ids that the server's SQL engine reads, sorted.
    ///
    /// # Errors
    ///
    /// Returns the text of the server's error if the query fails.
    pub async fn ids(&self) -> Result<Vec<i64>, String> {
        let batches = self.app.sql("SELECT id FROM n.t ORDER BY id").await?;
        let column = |b: &RecordBatch| b.column(0).as_any().downcast_ref::<Int64Array>().expect("ids").values().to_vec();
        Ok(batches.iter().flat_map(column).collect())
    }
}

/// Returns the entry of a data file of one row that does not exist.
fn missing_data_file(metadata: &TableMetadata, name: &str) -> DataFile {
    let path = format!("{}/data/{name}.parquet", metadata.location);
    DataFile::new(DataContentType::Data, path, DataFileFormat::Parquet, 1, 1)
}

fn now_ms() -> i64 {
    esker_types::now_ms()
}
