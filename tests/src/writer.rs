use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use esker_storage::Storage;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, ManifestListWriter, ManifestWriterBuilder, Struct, TableMetadata,
};
use iceberg::writer::file_writer::{FileWriter, FileWriterBuilder, ParquetWriterBuilder};
use parquet::arrow::ArrowWriter;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use reqwest::Method;
use serde_json::{Value, json};

use crate::TestApp;

/// The columns of the tests' table.
pub fn schema_json() -> Value {
    json!({"type": "struct", "fields": [
        {"id": 1, "name": "id", "required": false, "type": "long"},
        {"id": 2, "name": "s", "required": false, "type": "string"},
    ]})
}

/// Writes to the table `n.t` as an engine would: files and manifests to storage, the commit to REST.
#[derive(Debug)]
pub struct Writer<'a> {
    app: &'a TestApp,
    storage: Storage,
}

/// A commit that is ready to be sent.
#[derive(Debug, Clone)]
pub struct Prepared(Value);

impl Prepared {
    /// The request body.
    pub fn body(&self) -> &Value {
        &self.0
    }
}

impl<'a> Writer<'a> {
    /// For a server's table.
    pub fn new(app: &'a TestApp) -> Self {
        Self { app, storage: Storage::local() }
    }

    /// Makes the server's table and appends six files of ten ids each: 0 to 59.
    pub async fn six_files(app: &'a TestApp) -> Self {
        app.table().await;
        let this = Self::new(app);
        for i in 0..6 {
            this.append(i * 10..i * 10 + 10).await;
        }
        this
    }

    /// The table as it is now.
    pub async fn metadata(&self) -> TableMetadata {
        let body = self.app.ok(Method::GET, "/v1/default/namespaces/n/tables/t", None).await;
        serde_json::from_value(body["metadata"].clone()).expect("metadata")
    }

    /// Appends the ids as one file.
    pub async fn append(&self, ids: std::ops::Range<i64>) {
        let prepared = self.prepare_append(ids).await;
        self.commit(&prepared).await;
    }

    /// Sends a prepared commit, which must succeed.
    pub async fn commit(&self, prepared: &Prepared) -> Value {
        self.app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(prepared.0.clone())).await
    }

    /// Appends the ids as one file without page index, as pyarrow, DuckDB and Trino write them.
    pub async fn append_without_index(&self, ids: std::ops::Range<i64>) {
        let properties = WriterProperties::builder()
            .set_offset_index_disabled(true)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_data_page_row_count_limit(100);
        let prepared = self.prepare_append_with(ids, properties.build()).await;
        self.commit(&prepared).await;
    }

    /// An append that is written but not committed.
    pub async fn prepare_append(&self, ids: std::ops::Range<i64>) -> Prepared {
        self.prepare_append_with(ids, WriterProperties::default()).await
    }

    async fn prepare_append_with(&self, ids: std::ops::Range<i64>, properties: WriterProperties) -> Prepared {
        let metadata = self.metadata().await;
        let path = format!("{}/data/{}.parquet", metadata.location(), uuid::Uuid::new_v4());
        let strings: StringArray = ids.clone().map(|i| Some(format!("s{}", i % 3))).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(ids.collect::<Int64Array>()), Arc::new(strings)];
        let schema = iceberg::arrow::schema_to_arrow_schema(metadata.current_schema()).expect("a schema");
        let batch = RecordBatch::try_new(Arc::new(schema), columns).expect("a batch");
        let builder = ParquetWriterBuilder::new(properties, metadata.current_schema().clone());
        let output = self.storage.file_io().new_output(&path).expect("an output");
        let mut writer = builder.build(output).await.expect("a writer");
        writer.write(&batch).await.expect("written");
        let file = writer.close().await.expect("closed").remove(0).build().expect("a file");
        self.prepare(&metadata, vec![file], false).await
    }

    /// Deletes rows of a data file by position.
    pub async fn delete_positions(&self, data_path: &str, positions: &[i64]) {
        let metadata = self.metadata().await;
        let id = |name: &str, ty, id: i32| {
            arrow::datatypes::Field::new(name, ty, false)
                .with_metadata([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into())
        };
        let schema = Arc::new(arrow::datatypes::Schema::new(vec![
            id("file_path", arrow::datatypes::DataType::Utf8, 2_147_483_546),
            id("pos", arrow::datatypes::DataType::Int64, 2_147_483_545),
        ]));
        let paths = StringArray::from(vec![data_path; positions.len()]);
        let columns: Vec<ArrayRef> = vec![Arc::new(paths), Arc::new(Int64Array::from(positions.to_vec()))];
        let batch = RecordBatch::try_new(schema.clone(), columns).expect("a batch");
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, schema, None).expect("a writer");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        let path = format!("{}/data/{}-deletes.parquet", metadata.location(), uuid::Uuid::new_v4());
        let file = self.delete_file(&path, bytes, DataContentType::PositionDeletes, positions.len() as u64, None).await;
        let prepared = self.prepare(&metadata, vec![file], true).await;
        self.commit(&prepared).await;
    }

    /// Adds an equality delete file on `id` (its content does not matter to tests that only see it refused).
    pub async fn delete_equal(&self) {
        let metadata = self.metadata().await;
        let path = format!("{}/data/{}-eq.parquet", metadata.location(), uuid::Uuid::new_v4());
        let file = self.delete_file(&path, b"PAR1".to_vec(), DataContentType::EqualityDeletes, 1, Some(vec![1])).await;
        let prepared = self.prepare(&metadata, vec![file], true).await;
        self.commit(&prepared).await;
    }

    /// Commits `n` data files that are nowhere: for tests that only plan.
    pub async fn append_phantoms(&self, n: usize) {
        let metadata = self.metadata().await;
        let phantom = |i| {
            DataFileBuilder::default()
                .content(DataContentType::Data)
                .file_path(format!("{}/data/phantom-{i}.parquet", metadata.location()))
                .file_format(DataFileFormat::Parquet)
                .partition(Struct::empty())
                .record_count(1)
                .file_size_in_bytes(1)
                .build()
                .expect("a file")
        };
        let prepared = self.prepare(&metadata, (0..n).map(phantom).collect(), false).await;
        self.commit(&prepared).await;
    }

    /// Gives the table `n` snapshots, each of which replaced the one file of the one before it by another that is nowhere, without as
    /// many commits: a metadata file that says so is registered in place of the table's.
    pub async fn long_history(&self, n: i64) {
        let metadata = self.metadata().await;
        let (io, dir) = (self.storage.file_io(), format!("{}/metadata", metadata.location()));
        let began = now_ms() - n - 1000;
        let mut snapshots = Vec::new();
        for id in 1..=n {
            let file = DataFileBuilder::default()
                .content(DataContentType::Data)
                .file_path(format!("{}/data/{id}.parquet", metadata.location()))
                .file_format(DataFileFormat::Parquet)
                .partition(Struct::empty())
                .record_count(1)
                .file_size_in_bytes(1)
                .build()
                .expect("a file");
            let output = io.new_output(format!("{dir}/{id}-m0.avro")).expect("an output");
            let spec = metadata.default_partition_spec().as_ref().clone();
            let builder = ManifestWriterBuilder::new(output, Some(id), metadata.current_schema().clone(), spec);
            let mut writer = builder.build_v2_data();
            writer.add_file(file, -1).expect("added");
            let manifest = writer.write_manifest_file().await.expect("a manifest");
            let list = format!("{dir}/snap-{id}.avro");
            let output = io.new_output(&list).expect("an output").writer().await.expect("a writer");
            let parent = (id > 1).then_some(id - 1);
            let mut writer = ManifestListWriter::v2(output, id, parent, id);
            writer.add_manifests([manifest].into_iter()).expect("manifests");
            writer.close().await.expect("a manifest list");
            let mut snapshot = json!({"snapshot-id": id, "sequence-number": id, "manifest-list": list, "timestamp-ms": began + id,
                "schema-id": metadata.current_schema_id(), "summary": {"operation": "overwrite"}});
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
        let register = json!({"name": "t", "metadata-location": uri, "overwrite": true});
        self.app.ok(Method::POST, "/v1/default/namespaces/n/register", Some(register)).await;
    }

    async fn delete_file(
        &self,
        path: &str,
        bytes: Vec<u8>,
        content: DataContentType,
        records: u64,
        equality_ids: Option<Vec<i32>>,
    ) -> DataFile {
        let size = bytes.len() as u64;
        self.storage.write(path, bytes.into()).await.expect("written");
        DataFileBuilder::default()
            .content(content)
            .file_path(path.to_owned())
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::empty())
            .record_count(records)
            .file_size_in_bytes(size)
            .equality_ids(equality_ids)
            .build()
            .expect("a delete file")
    }

    /// A snapshot that adds files to the head of `main`.
    async fn prepare(&self, metadata: &TableMetadata, files: Vec<DataFile>, deletes: bool) -> Prepared {
        let io = self.storage.file_io();
        let snapshot_id = i64::try_from(uuid::Uuid::new_v4().as_u128() >> 66).expect("62 bits");
        let dir = format!("{}/metadata", metadata.location());
        let name = uuid::Uuid::new_v4();
        let output = io.new_output(format!("{dir}/{name}-m0.avro")).expect("an output");
        let spec = metadata.default_partition_spec().as_ref().clone();
        let builder = ManifestWriterBuilder::new(output, Some(snapshot_id), metadata.current_schema().clone(), spec);
        let mut writer = if deletes { builder.build_v2_deletes() } else { builder.build_v2_data() };
        for file in files {
            writer.add_file(file, -1).expect("added");
        }
        let manifest = writer.write_manifest_file().await.expect("a manifest");
        let parent = metadata.current_snapshot();
        let mut manifests = vec![manifest];
        if let Some(parent) = parent {
            let source = esker_table::Manifests::new(io.clone(), 0);
            manifests.extend(esker_table::load_manifests(&source, metadata, parent).await.expect("manifests"));
        }
        let list = format!("{dir}/snap-{snapshot_id}-{name}.avro");
        let output = io.new_output(&list).expect("an output").writer().await.expect("a writer");
        let sequence_number = metadata.next_sequence_number();
        let parent_id = metadata.current_snapshot_id();
        let mut writer = ManifestListWriter::v2(output, snapshot_id, parent_id, sequence_number);
        writer.add_manifests(manifests.into_iter()).expect("manifests");
        writer.close().await.expect("a manifest list");
        let mut snapshot = json!({"snapshot-id": snapshot_id, "sequence-number": sequence_number, "manifest-list": list,
            "timestamp-ms": metadata.last_updated_ms().max(now_ms()), "schema-id": metadata.current_schema_id(),
            "summary": {"operation": if deletes { "delete" } else { "append" }}});
        if let Some(parent) = parent_id {
            snapshot["parent-snapshot-id"] = parent.into();
        }
        Prepared(json!({
            "requirements": [{"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": parent_id}],
            "updates": [
                {"action": "add-snapshot", "snapshot": snapshot},
                {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": snapshot_id},
            ],
        }))
    }

    /// The live data files of the table as storage has them, read anew.
    pub async fn data_files(&self) -> Vec<String> {
        let metadata = self.metadata().await;
        let Some(snapshot) = metadata.current_snapshot() else { return Vec::new() };
        let source = esker_table::Manifests::new(self.storage.file_io(), 0);
        let live = esker_table::load_live(&source, &metadata, snapshot).await.expect("live files");
        let mut paths: Vec<String> = live.data.iter().map(|f| f.file.file_path().to_owned()).collect();
        paths.sort();
        paths
    }

    /// The ids that a reader sees, by the server's own SQL engine.
    pub async fn ids(&self) -> Result<Vec<i64>, String> {
        let batches = self.app.sql("SELECT id FROM n.t ORDER BY id").await?;
        let column = |b: &RecordBatch| b.column(0).as_any().downcast_ref::<Int64Array>().expect("ids").values().to_vec();
        Ok(batches.iter().flat_map(column).collect())
    }
}

fn now_ms() -> i64 {
    esker_types::now_ms()
}
