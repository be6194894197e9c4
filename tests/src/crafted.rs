//! Tables of any schema, and files of any content with a manifest entry of any kind: what other writers leave.

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, Struct};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use reqwest::Method;
use serde_json::{Value, json};

use crate::lake::Additions;
use crate::{Lake, TestApp};

impl<'a> Lake<'a> {
    /// Creates the table `lake.NAME`, with some fields and partition fields.
    pub async fn create_of(app: &'a TestApp, name: &str, version: u8, fields: Value, partition: Value) -> Self {
        let (status, body) = app.send(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": ["lake"]}))).await;
        assert!(status.is_success() || status.as_u16() == 409, "{body}");
        let create = json!({"name": name, "schema": {"type": "struct", "fields": fields},
            "partition-spec": {"spec-id": 0, "fields": partition}, "properties": {"format-version": version.to_string()}});
        app.ok(Method::POST, "/v1/default/namespaces/lake/tables", Some(create)).await;
        Self::open(app, name)
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

    /// Adds files of data and of deletes, of the present partition spec.
    pub async fn add(&self, data: Vec<DataFile>, deletes: Vec<DataFile>) {
        let metadata = self.metadata().await;
        let spec = metadata.default_partition_spec_id();
        let of_spec = |files: Vec<DataFile>| files.into_iter().map(|file| (spec, file)).collect();
        let additions = Additions { data: of_spec(data), deletes: of_spec(deletes), ..Additions::default() };
        assert!(self.commit(&metadata, additions, "append").await, "nobody else writes");
    }
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
