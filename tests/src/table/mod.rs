//! [`Lake`]: a table of any format version, with writers that append, delete and upsert as engines do.
//!
//! `craft.rs` has more of its methods, for tables of any schema. Start reading at [`Lake::create`] and [`Lake::append`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type, Schema as ArrowSchema};
use esker_format::{DataContentType, DataFile, DataFileFormat, ManifestContent, TableMetadata, Tuple, Value as Cell};
use esker_storage::Storage;
use esker_table::{DeleteKind, LiveDelete, LiveFile, LiveFiles, Manifests, encode_puffin, load_live};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use reqwest::Method;
use roaring::RoaringTreemap;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::TestApp;
use crate::files::{DraftSnapshot, data_file_entry, delete_file, deleted_ids, deleted_positions, parquet};

/// A row: the columns `id`, `s` and `p`, and the column `extra` that a test may add to the table later.
pub type Row = (i64, String, i32, Option<i32>);

/// A row with the id of the partition spec that it was written under.
///
/// Equality deletes of a partitioned spec do not apply to rows of another spec. Spec: "Scan Planning".
pub type RowUnderSpec = (Row, i32);

/// A table `lake.NAME` of any format version, with the operations of its writers.
///
/// Acts as an engine does: files and manifests go to storage, commits to REST.
#[derive(Debug)]
pub struct Lake<'a> {
    pub(crate) app: &'a TestApp,
    pub(crate) storage: Storage,
    pub(crate) name: String,
}

/// The path of a data file, and positions of rows in it.
type Deleted = (String, RoaringTreemap);

/// The granularity of position delete files in a table of format version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PositionDeleteScope {
    /// One delete file for each data file, with `referenced_data_file` set.
    File,
    /// One delete file for each partition.
    Partition,
}

/// The files that one commit adds, each with the id of its partition spec, and the delete files that it replaces.
#[derive(Debug, Default)]
pub(crate) struct Additions {
    pub(crate) data: Vec<(i32, DataFile)>,
    pub(crate) deletes: Vec<(i32, DataFile)>,
    /// Deletion vectors that new ones replace, by path and offset.
    pub(crate) replaced: HashSet<(String, Option<i64>)>,
}

impl<'a> Lake<'a> {
    /// Creates the table `lake.NAME`, partitioned by `p` or not.
    pub async fn create(app: &'a TestApp, name: &str, version: u8, partitioned: bool, mut properties: Value) -> Self {
        let (status, body) = app.send(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": ["lake"]}))).await;
        assert!(status.is_success() || status.as_u16() == 409, "{body}");
        properties["format-version"] = version.to_string().into();
        properties["esker.expire.min-age-ms"] = "0".into();
        let fields = json!([
            {"id": 1, "name": "id", "required": false, "type": "long"},
            {"id": 2, "name": "s", "required": false, "type": "string"},
            {"id": 3, "name": "p", "required": false, "type": "int"},
        ]);
        let mut create = json!({"name": name, "schema": {"type": "struct", "fields": fields}, "properties": properties});
        if partitioned {
            create["partition-spec"] =
                json!({"spec-id": 0, "fields": [{"source-id": 3, "field-id": 1000, "name": "p", "transform": "identity"}]});
        }
        app.ok(Method::POST, "/v1/default/namespaces/lake/tables", Some(create)).await;
        Self::open(app, name)
    }

    /// Returns the existing table `lake.NAME`.
    pub fn open(app: &'a TestApp, name: &str) -> Self {
        Self { app, storage: Storage::local(), name: name.to_owned() }
    }

    /// Returns the table's path in the REST catalog.
    pub fn path(&self) -> String {
        format!("/v1/default/namespaces/lake/tables/{}", self.name)
    }

    /// Returns the path of one of the table's resources in the management API, such as `compact`.
    pub fn management_path(&self, what: &str) -> String {
        format!("/api/v1/warehouses/default/namespaces/lake/tables/{}/{what}", self.name)
    }

    /// Returns the table's present metadata.
    pub async fn metadata(&self) -> TableMetadata {
        let body = self.app.ok(Method::GET, &self.path(), None).await;
        serde_json::from_value(body["metadata"].clone()).expect("metadata")
    }

    /// Returns a reader of manifests without a cache.
    pub(crate) fn manifests(&self) -> Manifests {
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

    /// Sends metadata updates, which must succeed.
    pub async fn update(&self, updates: Value) {
        self.app.ok(Method::POST, &self.path(), Some(json!({"requirements": [], "updates": updates}))).await;
    }

    /// Runs a compaction. Returns the record of the job.
    pub async fn compact(&self, options: Value) -> Value {
        let job = self.start_compaction(options).await;
        self.wait(&job).await
    }

    /// Waits until a job has its plan, or has ended.
    pub async fn wait_for_plan(&self, job: &str) {
        self.app.wait_for_plan(job).await;
    }

    /// Waits for a job to end. Returns its record.
    pub async fn wait(&self, job: &str) -> Value {
        self.app.wait_for_job(job).await
    }

    /// Runs a job of any kind. Returns its record.
    pub async fn run_job(&self, kind: &str, options: Value) -> Value {
        let accepted = self.app.ok(Method::POST, &self.management_path(kind), Some(options)).await;
        self.wait(accepted["job-id"].as_str().expect("an id")).await
    }

    /// Returns the preview of an orphan removal.
    pub async fn preview_orphans(&self) -> Value {
        self.app.ok(Method::POST, &self.management_path("orphans?dry-run=true"), Some(serde_json::json!({}))).await
    }

    /// Returns the catalog that the table is in.
    pub fn catalog(&self) -> &esker_catalog::Catalog {
        self.app.catalog()
    }

    /// Undoes a job, given by its record. Returns the outcome.
    ///
    /// # Errors
    ///
    /// Returns the body of the answer if the server refuses.
    pub async fn undo(&self, job: &Value) -> Result<Value, String> {
        let path = format!("/api/v1/warehouses/default/jobs/{}/undo", job["id"].as_str().expect("an id"));
        let (status, body) = self.app.send(Method::POST, &path, Some(serde_json::json!({}))).await;
        if status.is_success() { Ok(body) } else { Err(body.to_string()) }
    }

    /// Returns the paths of files that a snapshot refers to and that do not exist.
    pub async fn missing_files(&self) -> Vec<String> {
        let metadata = self.metadata().await;
        let snapshots: Vec<_> = metadata.snapshots.iter().cloned().collect();
        let found =
            esker_table::reachable(&self.manifests(), &metadata, &snapshots, &Default::default()).await.expect("readable");
        found.files.into_keys().filter(|path| !std::path::Path::new(path.trim_start_matches("file://")).exists()).collect()
    }

    /// Starts a compaction. Returns the id of the job.
    pub async fn start_compaction(&self, options: Value) -> String {
        let accepted = self.app.ok(Method::POST, &self.management_path("compact"), Some(options)).await;
        accepted["job-id"].as_str().expect("an id").to_owned()
    }

    /// Returns the rows that the server's SQL engine reads, sorted.
    pub async fn rows(&self) -> Vec<Row> {
        let extra = self.metadata().await.current_schema().field_by_name("extra").is_some();
        let extra = if extra { "extra" } else { "CAST(NULL AS INT)" };
        let batches = self.app.sql(&format!("SELECT id, s, p, {extra} FROM lake.{}", self.name)).await.expect("rows");
        let mut rows: Vec<Row> = Vec::new();
        for batch in &batches {
            let strings = arrow::compute::cast(batch.column(1), &DataType::Utf8).expect("strings");
            for i in 0..batch.num_rows() {
                let int = |c: usize| {
                    let column = batch.column(c).as_primitive::<Int32Type>();
                    column.is_valid(i).then(|| column.value(i))
                };
                let text = strings.as_string::<i32>().value(i).to_owned();
                rows.push((batch.column(0).as_primitive::<Int64Type>().value(i), text, int(2).unwrap_or(0), int(3)));
            }
        }
        rows.sort();
        rows
    }

    /// Appends rows, as one file for each partition. Retries until the commit succeeds. Returns the partition spec's id.
    pub async fn append(&self, rows: &[Row]) -> i32 {
        loop {
            let metadata = self.metadata().await;
            let mut additions = Additions::default();
            self.write_rows(&metadata, rows, &mut additions).await;
            if self.commit(&metadata, additions, "append").await {
                return metadata.default_spec_id;
            }
        }
    }

    /// Deletes all rows of some ids by position, with deletion vectors in format version 3. Retries until the commit succeeds.
    pub async fn delete_by_position(&self, ids: &HashSet<i64>, scope: PositionDeleteScope) {
        loop {
            let metadata = self.metadata().await;
            let live = self.live(&metadata).await;
            let mut additions = Additions::default();
            let mut found = Vec::new();
            for file in &live.data {
                let positions = self.positions(file, ids).await;
                if !positions.is_empty() {
                    found.push((file.clone(), positions));
                }
            }
            if found.is_empty() {
                return;
            }
            match metadata.format_version {
                3 => self.write_vectors(&metadata, &live, found, &mut additions).await,
                _ => self.write_positions(&metadata, found, scope, &mut additions).await,
            }
            if self.commit(&metadata, additions, "delete").await {
                return;
            }
        }
    }

    /// Deletes by equality on `id` and adds rows, in one commit. Returns the partition spec's id.
    ///
    /// `keys` are ids with their partitions; an unpartitioned table ignores the partitions. Equality deletes do not apply to rows
    /// of the same commit. Retries until the commit succeeds.
    pub async fn upsert(&self, keys: &[(i64, i32)], rows: &[Row]) -> i32 {
        loop {
            let metadata = self.metadata().await;
            let spec = metadata.default_partition_spec();
            let mut additions = Additions::default();
            let mut by_partition: BTreeMap<Option<i32>, Vec<i64>> = BTreeMap::new();
            for (id, p) in keys {
                by_partition.entry((!spec.is_unpartitioned()).then_some(*p)).or_default().push(*id);
            }
            for (p, ids) in by_partition {
                let path = format!("{}/data/{}-eq.parquet", metadata.location, Uuid::new_v4());
                let content = DataContentType::EqualityDeletes;
                let mut file = delete_file(&self.storage, &path, deleted_ids(&ids), content, ids.len()).await;
                (file.equality_ids, file.partition) = (Some(vec![1]), partition(p));
                additions.deletes.push((spec.spec_id(), file));
            }
            self.write_rows(&metadata, rows, &mut additions).await;
            if self.commit(&metadata, additions, "overwrite").await {
                return spec.spec_id();
            }
        }
    }

    /// Writes rows of the table's present schema as the file `data/NAME`, without committing it. Returns its entry.
    ///
    /// A test may falsify the entry before it [adds](Self::add) it.
    pub async fn write(&self, name: &str, batch: &RecordBatch) -> DataFile {
        let metadata = self.metadata().await;
        let path = format!("{}/data/{name}", metadata.location);
        self.write_at(&metadata, &path, batch, WriterProperties::default()).await
    }

    /// Writes rows as a Parquet file at a path. Returns its entry.
    pub(crate) async fn write_at(
        &self,
        metadata: &TableMetadata,
        path: &str,
        batch: &RecordBatch,
        properties: WriterProperties,
    ) -> DataFile {
        let (bytes, footer) = parquet(batch, properties);
        let file = data_file_entry(path, batch, bytes.len(), &footer, metadata.current_schema());
        self.storage.write(path, bytes.into()).await.expect("written");
        file
    }

    /// Returns the Arrow schema of the table's rows.
    pub async fn arrow_schema(&self) -> Arc<ArrowSchema> {
        rows_schema(&self.metadata().await)
    }

    /// Writes rows as one file for each partition, in row groups of 7, so that files have several.
    async fn write_rows(&self, metadata: &TableMetadata, rows: &[Row], additions: &mut Additions) {
        let spec = metadata.default_partition_spec();
        let mut by_partition: BTreeMap<Option<i32>, Vec<&Row>> = BTreeMap::new();
        for row in rows {
            by_partition.entry((!spec.is_unpartitioned()).then_some(row.2)).or_default().push(row);
        }
        for (p, rows) in by_partition {
            let path = format!("{}/data/{}.parquet", metadata.location, Uuid::new_v4());
            let mut columns: Vec<ArrayRef> = vec![
                Arc::new(rows.iter().map(|r| Some(r.0)).collect::<Int64Array>()),
                Arc::new(rows.iter().map(|r| Some(r.1.as_str())).collect::<StringArray>()),
                Arc::new(rows.iter().map(|r| Some(r.2)).collect::<Int32Array>()),
            ];
            if metadata.current_schema().field_by_name("extra").is_some() {
                columns.push(Arc::new(rows.iter().map(|r| r.3).collect::<Int32Array>()));
            }
            let batch = RecordBatch::try_new(rows_schema(metadata), columns).expect("a batch");
            let level = ZstdLevel::try_new(3).expect("a level");
            let properties = WriterProperties::builder()
                .set_compression(Compression::ZSTD(level))
                .set_max_row_group_row_count(Some(7))
                .build();
            let mut file = self.write_at(metadata, &path, &batch, properties).await;
            file.partition = partition(p);
            additions.data.push((spec.spec_id(), file));
        }
    }

    /// Returns the positions of rows of some ids in a data file, including deleted rows.
    async fn positions(&self, file: &LiveFile, ids: &HashSet<i64>) -> RoaringTreemap {
        let bytes = self.storage.read(&file.file.file_path).await.expect("a data file");
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("a footer").build().expect("a reader");
        let mut positions = RoaringTreemap::new();
        let mut at = 0;
        for batch in reader {
            let batch = batch.expect("a batch");
            for id in batch.column_by_name("id").expect("ids").as_primitive::<Int64Type>().values() {
                if ids.contains(id) {
                    positions.insert(at);
                }
                at += 1;
            }
        }
        positions
    }

    /// Writes deletion vectors into one Puffin file. Each contains the positions of the vector that it replaces.
    async fn write_vectors(
        &self,
        metadata: &TableMetadata,
        live: &LiveFiles,
        found: Vec<(LiveFile, RoaringTreemap)>,
        additions: &mut Additions,
    ) {
        let mut vectors = Vec::new();
        for (file, mut positions) in found.iter().cloned() {
            let about = |d: &&LiveDelete| {
                d.kind == DeleteKind::DeletionVector && d.entry.file.referenced_data_file.as_ref() == Some(&file.file.file_path)
            };
            if let Some(before) = live.deletes.iter().find(about) {
                let entry = &before.entry.file;
                let start = entry.content_offset.expect("an offset") as u64;
                let end = start + entry.content_size_in_bytes.expect("a size") as u64;
                let blob = self.storage.read_range(&entry.file_path, start..end).await.expect("a vector");
                positions |= esker_table::decode_vector(&blob).expect("a vector");
                additions.replaced.insert((entry.file_path.clone(), entry.content_offset));
            }
            vectors.push((file.file.file_path.clone(), positions));
        }
        let (bytes, places) = encode_puffin(&vectors).expect("a file");
        let path = format!("{}/data/{}-dv.puffin", metadata.location, Uuid::new_v4());
        let size = bytes.len() as i64;
        self.storage.write(&path, bytes.into()).await.expect("written");
        for (((file, _), (about, positions)), (offset, length)) in found.into_iter().zip(vectors).zip(places) {
            let (content, format) = (DataContentType::PositionDeletes, DataFileFormat::Puffin);
            let vector = DataFile {
                partition: file.file.partition,
                referenced_data_file: Some(about),
                content_offset: Some(offset as i64),
                content_size_in_bytes: Some(length as i64),
                ..DataFile::new(content, path.clone(), format, positions.len() as i64, size)
            };
            additions.deletes.push((file.spec_id, vector));
        }
    }

    /// Writes position delete files, at the granularity of `scope`.
    async fn write_positions(
        &self,
        metadata: &TableMetadata,
        found: Vec<(LiveFile, RoaringTreemap)>,
        scope: PositionDeleteScope,
        additions: &mut Additions,
    ) {
        let mut groups: HashMap<(i32, Tuple, Option<String>), Vec<Deleted>> = HashMap::new();
        for (file, positions) in found {
            let path = file.file.file_path;
            let own = (scope == PositionDeleteScope::File).then(|| path.clone());
            groups.entry((file.spec_id, file.file.partition, own)).or_default().push((path, positions));
        }
        for ((spec, partition, own), mut files) in groups {
            files.sort_by(|a, b| a.0.cmp(&b.0));
            let flat: Vec<(&str, i64)> =
                files.iter().flat_map(|(path, set)| set.iter().map(move |p| (path.as_str(), p as i64))).collect();
            let path = format!("{}/data/{}-deletes.parquet", metadata.location, Uuid::new_v4());
            let content = DataContentType::PositionDeletes;
            let mut file = delete_file(&self.storage, &path, deleted_positions(&flat), content, flat.len()).await;
            (file.partition, file.referenced_data_file) = (partition, own);
            additions.deletes.push((spec, file));
        }
    }

    /// Commits to the head of `main`. Returns false if another writer was first; then the written files are removed.
    pub(crate) async fn commit(&self, metadata: &TableMetadata, additions: Additions, operation: &str) -> bool {
        let mut draft = DraftSnapshot::new(&self.storage, metadata, false);
        let mut manifests = Vec::new();
        if let Some(parent) = metadata.current_snapshot() {
            manifests = esker_table::load_manifests(&self.manifests(), parent).await.expect("manifests");
        }
        let counts = (additions.data.len(), additions.deletes.len());
        let files = additions.data.iter().chain(&additions.deletes);
        let mut left_over: Vec<String> = files.map(|(_, file)| file.file_path.clone()).collect();
        if !additions.replaced.is_empty() {
            // Rewrites every delete manifest, with the replaced vectors marked as deleted.
            let mut kept = Vec::new();
            for file in manifests {
                if file.content == ManifestContent::Data {
                    kept.push(file);
                    continue;
                }
                let manifest = self.manifests().load(metadata, &file).await.expect("a manifest");
                let mut out = draft.manifest(file.partition_spec_id, ManifestContent::Deletes);
                let mut any = false;
                for entry in manifest.entries.iter().filter(|e| e.is_alive()) {
                    any = true;
                    let place = (entry.data_file.file_path.clone(), entry.data_file.content_offset);
                    match additions.replaced.contains(&place) {
                        true => out.deleted(entry).expect("added"),
                        false => out.existing(entry).expect("added"),
                    }
                }
                if any {
                    kept.push(draft.write(out).await);
                }
            }
            manifests = kept;
        }
        for (content, files) in [(ManifestContent::Data, additions.data), (ManifestContent::Deletes, additions.deletes)] {
            let mut by_spec: BTreeMap<i32, Vec<DataFile>> = BTreeMap::new();
            for (spec, file) in files {
                by_spec.entry(spec).or_default().push(file);
            }
            for (spec, files) in by_spec {
                let mut out = draft.manifest(spec, content);
                files.iter().for_each(|file| out.added(file, None).expect("added"));
                manifests.insert(0, draft.write(out).await);
            }
        }
        let summary = json!({"operation": operation, "added-data-files": counts.0.to_string(),
            "added-delete-files": counts.1.to_string()});
        let snapshot = draft.snapshot(&manifests, summary).await;
        left_over.append(&mut draft.written);
        let body = json!({
            "requirements": [
                {"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": metadata.current_snapshot_id},
                {"type": "assert-current-schema-id", "current-schema-id": metadata.current_schema_id},
            ],
            "updates": [
                {"action": "add-snapshot", "snapshot": snapshot},
                {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": draft.id},
            ],
        });
        let (status, answer) = self.app.send(Method::POST, &self.path(), Some(body)).await;
        assert!(status.is_success() || status.as_u16() == 409, "{answer}");
        if !status.is_success() {
            // Engines also remove the files of a commit that failed.
            for path in left_over {
                self.storage.remove(&path).await.expect("removed");
            }
        }
        status.is_success()
    }
}

/// Returns the Arrow schema of a table's rows.
pub(crate) fn rows_schema(metadata: &TableMetadata) -> Arc<ArrowSchema> {
    Arc::new(esker_read::arrow_schema(metadata.current_schema()).expect("a schema"))
}

/// Returns the partition tuple of a value of `p`, which is empty without a value.
fn partition(p: Option<i32>) -> Tuple {
    p.map(|p| Some(Cell::Int(p))).into_iter().collect()
}
