//! Tables of any schema, and files of any content with a manifest entry of any kind: what other writers leave.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema as ArrowSchema};
use arrow::util::display::{ArrayFormatter, FormatOptions, array_value_to_string};
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, Literal, ManifestFile, Struct};
use iceberg::writer::file_writer::{FileWriter, FileWriterBuilder, ParquetWriterBuilder};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use reqwest::Method;
use serde_json::{Value, json};

use crate::lake::{Additions, field, parquet_of};
use crate::{Lake, Row, TestApp};

/// Tables of any schema and partition spec, and files that say of themselves whatever a test wants. Their first column is `id`, a long
/// with the field id 1.
impl<'a> Lake<'a> {
    /// Creates the table `lake.NAME` by a request of these fields, schema and partition spec.
    pub async fn craft(app: &'a TestApp, name: &str, fields: Value, spec: Value, properties: Value) -> Self {
        let (status, body) = app.send(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": ["lake"]}))).await;
        assert!(status.is_success() || status.as_u16() == 409, "{body}");
        let schema = json!({"type": "struct", "fields": fields});
        let create = json!({"name": name, "schema": schema, "partition-spec": {"fields": spec}, "properties": properties});
        app.ok(Method::POST, "/v1/default/namespaces/lake/tables", Some(create)).await;
        Self::open(app, name)
    }

    /// Writes a file of the table's present schema, in a partition.
    pub async fn data_file(
        &self,
        columns: Vec<ArrayRef>,
        partition: impl IntoIterator<Item = Option<Literal>>,
    ) -> DataFileBuilder {
        let metadata = self.metadata().await;
        let path = format!("{}/data/{}.parquet", metadata.location(), uuid::Uuid::new_v4());
        let schema = iceberg::arrow::schema_to_arrow_schema(metadata.current_schema()).expect("a schema");
        let batch = RecordBatch::try_new(Arc::new(schema), columns).expect("a batch");
        let builder = ParquetWriterBuilder::new(WriterProperties::default(), metadata.current_schema().clone());
        let output = self.storage.file_io().new_output(&path).expect("an output");
        let mut writer = builder.build(output).await.expect("a writer");
        writer.write(&batch).await.expect("written");
        let mut file = writer.close().await.expect("closed").remove(0);
        file.partition(Struct::from_iter(partition));
        file
    }

    /// Gives the table other fields.
    pub async fn evolve(&self, fields: Value) {
        let schema = json!({"type": "struct", "fields": fields});
        self.update(json!([{"action": "add-schema", "schema": schema}, {"action": "set-current-schema", "schema-id": -1}])).await;
    }

    /// Writes a file of some rows, and the beginning of its entry: what is counted and bounded is left to whoever adds it.
    pub async fn parquet(&self, rows: &RecordBatch, properties: WriterProperties) -> DataFileBuilder {
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties)).expect("a writer");
        writer.write(rows).expect("written");
        writer.close().expect("closed");
        let path = format!("{}/data/{}.parquet", self.metadata().await.location(), uuid::Uuid::new_v4());
        let size = bytes.len() as u64;
        self.storage.write(&path, bytes.into()).await.expect("written");
        let mut builder = DataFileBuilder::default();
        builder.content(DataContentType::Data).file_path(path).file_format(DataFileFormat::Parquet).partition(Struct::empty());
        builder.record_count(rows.num_rows() as u64).file_size_in_bytes(size);
        builder
    }

    /// Writes deletes of the rows of some ids, in a partition.
    pub async fn equality_deletes(&self, ids: &[i64], partition: impl IntoIterator<Item = Option<Literal>>) -> DataFileBuilder {
        let path = format!("{}/data/{}-eq.parquet", self.metadata().await.location(), uuid::Uuid::new_v4());
        let schema = Arc::new(ArrowSchema::new(vec![field("id", DataType::Int64, 1)]));
        let bytes = parquet_of(schema, vec![Arc::new(Int64Array::from(ids.to_vec()))]);
        let mut file = self.delete_file(&path, bytes, DataContentType::EqualityDeletes, ids.len() as u64).await;
        file.equality_ids(Some(vec![1])).partition(Struct::from_iter(partition));
        file
    }

    /// Writes deletes of some rows of a data file, in a partition.
    pub async fn position_deletes(
        &self,
        data: &str,
        rows: &[i64],
        partition: impl IntoIterator<Item = Option<Literal>>,
    ) -> DataFileBuilder {
        let path = format!("{}/data/{}-deletes.parquet", self.metadata().await.location(), uuid::Uuid::new_v4());
        let columns = vec![field("file_path", DataType::Utf8, 2_147_483_546), field("pos", DataType::Int64, 2_147_483_545)];
        let paths: ArrayRef = Arc::new(StringArray::from(vec![data; rows.len()]));
        let bytes = parquet_of(Arc::new(ArrowSchema::new(columns)), vec![paths, Arc::new(Int64Array::from(rows.to_vec()))]);
        let mut file = self.delete_file(&path, bytes, DataContentType::PositionDeletes, rows.len() as u64).await;
        file.partition(Struct::from_iter(partition));
        file
    }

    /// Appends rows as a Parquet file of any name in any place: a writer says where its files lie.
    pub async fn append_at(&self, path: &str, rows: &[Row]) {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|r| Some(r.0)).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|r| Some(r.1.as_str())).collect::<StringArray>()),
            Arc::new(rows.iter().map(|r| Some(r.2)).collect::<Int32Array>()),
        ];
        let batch = RecordBatch::try_new(self.arrow_schema().await, columns).expect("a batch");
        let name = format!("{}.parquet", uuid::Uuid::new_v4());
        let mut file = self.write(&name, &batch).await;
        let from = format!("{}/data/{name}", self.metadata().await.location());
        let to = std::path::Path::new(path.strip_prefix("file://").expect("a local file"));
        std::fs::create_dir_all(to.parent().expect("a parent")).expect("made");
        std::fs::rename(from.strip_prefix("file://").expect("a local file"), to).expect("moved");
        file.file_path(path.to_owned()).partition(Struct::empty());
        self.add_files(None, &[file], &[]).await;
    }

    /// Commits files of the table's present partition spec, or of another.
    pub async fn add_files(&self, spec_id: Option<i32>, data: &[DataFileBuilder], deletes: &[DataFileBuilder]) {
        let built = |files: &[DataFileBuilder]| files.iter().map(|f| f.build().expect("a file")).collect();
        self.commit_files(spec_id, built(data), built(deletes)).await;
    }

    /// The same, of the present partition spec.
    pub async fn add(&self, data: Vec<DataFile>, deletes: Vec<DataFile>) {
        self.commit_files(None, data, deletes).await;
    }

    async fn commit_files(&self, spec_id: Option<i32>, data: Vec<DataFile>, deletes: Vec<DataFile>) {
        let metadata = self.metadata().await;
        let spec = spec_id.unwrap_or_else(|| metadata.default_partition_spec_id());
        let of_spec = |files: Vec<DataFile>| files.into_iter().map(|file| (spec, file)).collect();
        let operation = if deletes.is_empty() { "append" } else { "overwrite" };
        let additions = Additions { data: of_spec(data), deletes: of_spec(deletes), ..Additions::default() };
        assert!(self.commit(&metadata, additions, operation).await, "nobody else commits");
    }

    /// The rows that a statement answers, each value as text.
    pub async fn query(&self, sql: &str) -> Vec<Vec<String>> {
        let batches = self.app.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        let cell = |column: &ArrayRef, row| match column.is_null(row) {
            true => "NULL".to_owned(),
            false => array_value_to_string(column, row).expect("text"),
        };
        let rows = |batch: &RecordBatch| -> Vec<Vec<String>> {
            (0..batch.num_rows()).map(|row| batch.columns().iter().map(|column| cell(column, row)).collect()).collect()
        };
        batches.iter().flat_map(rows).collect()
    }

    /// A scan of the table as the server plans it.
    pub async fn planned(&self, request: Value) -> Value {
        let answer = self.app.ok(Method::POST, &format!("{}/plan", self.path()), Some(request)).await;
        assert_eq!(answer["status"], "completed", "{answer}");
        answer
    }

    /// The live data files.
    pub async fn data_files(&self) -> Vec<DataFile> {
        let metadata = self.metadata().await;
        self.live(&metadata).await.data.into_iter().map(|live| live.file).collect()
    }
}

/// Takes the key `schema-id` out of a manifest's header, which no writer but the `iceberg` crate's puts there.
pub(crate) fn without_schema_id(manifest: &ManifestFile) {
    let path = manifest.manifest_path.trim_start_matches("file:").trim_start_matches("//");
    let mut bytes = std::fs::read(path).expect("a manifest");
    // A key of nine characters, after its length.
    let at = bytes.windows(10).position(|window| window == b"\x12schema-id").expect("the key");
    bytes[at + 1..at + 10].copy_from_slice(b"of-a-test");
    std::fs::write(path, bytes).expect("written");
}

/// An answer's cells as text, row by row; null is `null`.
pub fn cells(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("null");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).expect("a formatter")).collect();
        rows.extend((0..batch.num_rows()).map(|i| columns.iter().map(|c| c.value(i).to_string()).collect()));
    }
    rows
}
