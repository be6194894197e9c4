//! Methods of [`Lake`] that write tables of any schema, and files with any manifest entry, as other engines may leave them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::util::display::{ArrayFormatter, FormatOptions, array_value_to_string};
use esker_format::{DataContentType, DataFile, DataFileFormat, Value as Cell};
use parquet::file::properties::WriterProperties;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::files::{delete_file, deleted_ids, deleted_positions, parquet};
use crate::lake::{Additions, rows_schema};
use crate::{Lake, Row, TestApp};

/// Tables of any schema and partition spec, and files whose entries a test can change before they are committed.
///
/// The methods expect that the first column is `id`, a long with the field id 1.
impl<'a> Lake<'a> {
    /// Creates the table `lake.NAME`. `fields` and `spec` are the JSON of the fields of its schema and its partition spec.
    pub async fn create_with_schema(app: &'a TestApp, name: &str, fields: Value, spec: Value, properties: Value) -> Self {
        let (status, body) = app.send(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": ["lake"]}))).await;
        assert!(status.is_success() || status.as_u16() == 409, "{body}");
        let schema = json!({"type": "struct", "fields": fields});
        let create = json!({"name": name, "schema": schema, "partition-spec": {"fields": spec}, "properties": properties});
        app.ok(Method::POST, "/v1/default/namespaces/lake/tables", Some(create)).await;
        Self::open(app, name)
    }

    /// Writes a data file of the table's present schema, in a partition. Returns its entry; [`Lake::add`] commits it.
    pub async fn data_file(&self, columns: Vec<ArrayRef>, partition: impl IntoIterator<Item = Option<Cell>>) -> DataFile {
        let metadata = self.metadata().await;
        let path = format!("{}/data/{}.parquet", metadata.location, Uuid::new_v4());
        let batch = RecordBatch::try_new(rows_schema(&metadata), columns).expect("a batch");
        let file = self.write_at(&metadata, &path, &batch, WriterProperties::default()).await;
        DataFile { partition: partition.into_iter().collect(), ..file }
    }

    /// Replaces the fields of the table's schema.
    pub async fn evolve(&self, fields: Value) {
        let schema = json!({"type": "struct", "fields": fields});
        self.update(json!([{"action": "add-schema", "schema": schema}, {"action": "set-current-schema", "schema-id": -1}])).await;
    }

    /// Writes a Parquet file of some rows. Returns an entry without counts and bounds of columns; a test may set them.
    pub async fn parquet(&self, rows: &RecordBatch, properties: WriterProperties) -> DataFile {
        let bytes = parquet(rows, properties).0;
        let path = format!("{}/data/{}.parquet", self.metadata().await.location, Uuid::new_v4());
        let size = bytes.len() as i64;
        self.storage.write(&path, bytes.into()).await.expect("written");
        DataFile::new(DataContentType::Data, path, DataFileFormat::Parquet, rows.num_rows() as i64, size)
    }

    /// Writes an equality delete file for some ids, in a partition. Returns its entry.
    pub async fn equality_deletes(&self, ids: &[i64], partition: impl IntoIterator<Item = Option<Cell>>) -> DataFile {
        let path = format!("{}/data/{}-eq.parquet", self.metadata().await.location, Uuid::new_v4());
        let file = delete_file(&self.storage, &path, deleted_ids(ids), DataContentType::EqualityDeletes, ids.len()).await;
        DataFile { equality_ids: Some(vec![1]), partition: partition.into_iter().collect(), ..file }
    }

    /// Writes a position delete file for some rows of a data file, in a partition. Returns its entry.
    pub async fn position_deletes(
        &self,
        data: &str,
        rows: &[i64],
        partition: impl IntoIterator<Item = Option<Cell>>,
    ) -> DataFile {
        let path = format!("{}/data/{}-deletes.parquet", self.metadata().await.location, Uuid::new_v4());
        let places: Vec<(&str, i64)> = rows.iter().map(|row| (data, *row)).collect();
        let content = DataContentType::PositionDeletes;
        let file = delete_file(&self.storage, &path, deleted_positions(&places), content, rows.len()).await;
        DataFile { partition: partition.into_iter().collect(), ..file }
    }

    /// Appends rows as a Parquet file at any path, inside the table's location or not.
    pub async fn append_at(&self, path: &str, rows: &[Row]) {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|r| Some(r.0)).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|r| Some(r.1.as_str())).collect::<StringArray>()),
            Arc::new(rows.iter().map(|r| Some(r.2)).collect::<Int32Array>()),
        ];
        let batch = RecordBatch::try_new(self.arrow_schema().await, columns).expect("a batch");
        let file = self.write_at(&self.metadata().await, path, &batch, WriterProperties::default()).await;
        self.add([file], []).await;
    }

    /// Commits data files and delete files of the table's present partition spec, in one snapshot.
    pub async fn add(&self, data: impl IntoIterator<Item = DataFile>, deletes: impl IntoIterator<Item = DataFile>) {
        let metadata = self.metadata().await;
        let of_spec = |file| (metadata.default_spec_id, file);
        let (data, deletes) = (data.into_iter().map(of_spec).collect(), deletes.into_iter().map(of_spec).collect::<Vec<_>>());
        let operation = if deletes.is_empty() { "append" } else { "overwrite" };
        let additions = Additions { data, deletes, ..Additions::default() };
        assert!(self.commit(&metadata, additions, operation).await, "nobody else commits");
    }

    /// Runs a statement. Returns its rows, each value as text; null is `NULL`.
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

    /// Plans a scan of the table through REST. Returns the completed plan.
    pub async fn plan_scan(&self, request: Value) -> Value {
        let answer = self.app.ok(Method::POST, &format!("{}/plan", self.path()), Some(request)).await;
        assert_eq!(answer["status"], "completed", "{answer}");
        answer
    }

    /// Replaces the table's metadata: writes it as a new file and registers that.
    pub async fn replace_metadata(&self, metadata: &Value) {
        let location = metadata["location"].as_str().expect("a location");
        let path = format!("{location}/metadata/90000-{}.metadata.json", Uuid::new_v4());
        self.storage.write(&path, metadata.to_string().into_bytes().into()).await.expect("written");
        let register = json!({"name": self.name, "metadata-location": path, "overwrite": true});
        self.app.ok(Method::POST, "/v1/default/namespaces/lake/register", Some(register)).await;
    }

    /// Returns the live data files of the current snapshot.
    pub async fn data_files(&self) -> Vec<DataFile> {
        let metadata = self.metadata().await;
        self.live(&metadata).await.data.into_iter().map(|live| live.file).collect()
    }
}

/// Formats the cells of record batches as text, row by row; null is `null`.
pub fn text_cells(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("null");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).expect("a formatter")).collect();
        rows.extend((0..batch.num_rows()).map(|i| columns.iter().map(|c| c.value(i).to_string()).collect()));
    }
    rows
}
