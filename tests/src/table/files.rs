//! Writes data files and delete files to storage, and returns their entries. A test may change an entry before it is committed.

use arrow::array::{ArrayRef, RecordBatch};
use esker_format::{DataContentType, DataFile, DataFileFormat, TableMetadata, Value as Cell};
use parquet::file::properties::WriterProperties;

use super::encode::{data_file_entry, deleted_ids, deleted_positions, parquet};
use super::{TestTable, new_path, rows_schema};

impl TestTable<'_> {
    /// Writes a data file of the table's present schema, in a partition. Returns its entry; [`TestTable::add`] commits it.
    pub async fn data_file(&self, columns: Vec<ArrayRef>, partition: impl IntoIterator<Item = Option<Cell>>) -> DataFile {
        let metadata = self.metadata().await;
        let batch = RecordBatch::try_new(rows_schema(&metadata), columns).expect("a batch");
        let file = self.write_at(&metadata, &new_path(&metadata, ".parquet"), &batch, WriterProperties::default()).await;
        DataFile { partition: partition.into_iter().collect(), ..file }
    }

    /// Writes rows of the table's present schema as the file `data/NAME`. Returns its entry.
    pub async fn write(&self, name: &str, batch: &RecordBatch) -> DataFile {
        let metadata = self.metadata().await;
        let path = format!("{}/data/{name}", metadata.location);
        self.write_at(&metadata, &path, batch, WriterProperties::default()).await
    }

    /// Writes rows as a Parquet file at a path. Returns its entry, with counts and bounds of columns.
    pub(super) async fn write_at(
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

    /// Writes a Parquet file of some rows. Returns an entry without counts and bounds of columns; a test may set them.
    pub async fn parquet(&self, rows: &RecordBatch, properties: WriterProperties) -> DataFile {
        let bytes = parquet(rows, properties).0;
        let path = new_path(&self.metadata().await, ".parquet");
        self.store(path, bytes, DataContentType::Data, rows.num_rows()).await
    }

    /// Writes an equality delete file for some ids, in a partition. Returns its entry.
    pub async fn equality_deletes(&self, ids: &[i64], partition: impl IntoIterator<Item = Option<Cell>>) -> DataFile {
        let path = new_path(&self.metadata().await, "-eq.parquet");
        let file = self.store(path, deleted_ids(ids), DataContentType::EqualityDeletes, ids.len()).await;
        DataFile { equality_ids: Some(vec![1]), partition: partition.into_iter().collect(), ..file }
    }

    /// Writes a position delete file for some rows of a data file, in a partition. Returns its entry.
    pub async fn position_deletes(
        &self,
        data: &str,
        rows: &[i64],
        partition: impl IntoIterator<Item = Option<Cell>>,
    ) -> DataFile {
        let places: Vec<(&str, i64)> = rows.iter().map(|row| (data, *row)).collect();
        self.deletes_at(&self.metadata().await, &places, partition).await
    }

    /// Writes a position delete file for rows of any data files, in order and in a partition. Returns its entry.
    pub(super) async fn deletes_at(
        &self,
        metadata: &TableMetadata,
        places: &[(&str, i64)],
        partition: impl IntoIterator<Item = Option<Cell>>,
    ) -> DataFile {
        let path = new_path(metadata, "-deletes.parquet");
        let file = self.store(path, deleted_positions(places), DataContentType::PositionDeletes, places.len()).await;
        DataFile { partition: partition.into_iter().collect(), ..file }
    }

    /// Writes the bytes of a Parquet file to storage. Returns its entry, without counts and bounds of columns.
    pub(super) async fn store(&self, path: String, bytes: Vec<u8>, content: DataContentType, records: usize) -> DataFile {
        let size = bytes.len() as i64;
        self.storage.write(&path, bytes.into()).await.expect("written");
        DataFile::new(content, path, DataFileFormat::Parquet, records as i64, size)
    }
}
