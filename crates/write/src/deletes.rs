//! Writes deletes by position: deletion vectors, or position delete files in format version 2.
//!
//! Spec: "Deletion Vectors", "Position Delete Files".

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use esker_format::{BoundBytes, DataContentType, DataFile, DataFileFormat, TableMetadata};
use esker_read::{FILE_PATH_FIELD_ID, POS_FIELD_ID, ReadStats, Reader};
use esker_table::{
    DeleteFiles, DeletedPositions, LiveDelete, PartitionKey, RowsToDelete, TableError, data_dir, encode_vector_file,
    vector_file_path, with_bounds,
};
use esker_types::{CodedError, saturating_total};
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use uuid::Uuid;

use crate::{Destination, Result, WriteError};

/// Writes deletes by position, and returns their manifest entries with the ids of their partition specs.
///
/// From format version 3 on, all deletion vectors go into one Puffin file. In version 2, up to 16 data files of a partition get a
/// position delete file each; otherwise one file serves the partition. Each file is recorded before it is written; nothing is
/// committed. Data files without positions are skipped. Spec: "Deletion Vectors", "Position Delete Files".
///
/// # Errors
///
/// Returns [`WriteError::Refused`] if the table has format version 1. Returns [`WriteError::Record`] or [`WriteError::Storage`]
/// if a file can't be recorded or written. Returns [`WriteError::Table`], [`WriteError::Parquet`] or [`WriteError::Arrow`] if
/// deletes can't be encoded.
pub async fn write_deletes(
    destination: &Destination,
    metadata: &TableMetadata,
    to_delete: Vec<RowsToDelete>,
) -> Result<Vec<(i32, DataFile)>> {
    let to_delete: Vec<RowsToDelete> = to_delete.into_iter().filter(|d| !d.positions.is_empty()).collect();
    if to_delete.is_empty() {
        return Ok(Vec::new());
    }
    match metadata.format_version {
        ..=1 => Err(WriteError::Refused("format version 1 has no delete files; upgrade the table to version 2 or 3".to_owned())),
        2 => write_positions(destination, metadata, to_delete).await,
        3.. => write_vectors(destination, metadata, to_delete).await,
    }
}

/// Reads delete files with a reader, and encodes position delete files: what merges of late commits need of them.
#[derive(Debug, Clone)]
pub struct ParquetDeletes(Reader);

impl ParquetDeletes {
    /// Takes the reader of the warehouse.
    pub const fn new(reader: Reader) -> Self {
        Self(reader)
    }
}

impl DeleteFiles for ParquetDeletes {
    fn read_deletes<'a>(
        &'a self,
        metadata: &'a TableMetadata,
        delete: &'a LiveDelete,
    ) -> BoxFuture<'a, esker_table::Result<Arc<DeletedPositions>>> {
        async move {
            let reader = self.0.with_name_mapping(metadata);
            let positions = reader.positions_in(delete, &Arc::new(ReadStats::default())).await;
            positions.map_err(|e| TableError::Caller(CodedError::new(e)))
        }
        .boxed()
    }

    fn encode_positions(&self, rows: &RowsToDelete) -> esker_table::Result<Vec<u8>> {
        position_file(&[rows]).map_err(|e| TableError::Caller(CodedError::new(e)))
    }
}

/// Returns the manifest entry of a position delete file of `bytes` bytes, without its partition.
fn entry(path: String, deletes: u64, bytes: usize) -> DataFile {
    let (deletes, bytes) = (i64::try_from(deletes).unwrap_or(i64::MAX), i64::try_from(bytes).unwrap_or(i64::MAX));
    DataFile::new(DataContentType::PositionDeletes, path, DataFileFormat::Parquet, deletes, bytes)
}

/// Writes all deletion vectors into one Puffin file.
async fn write_vectors(
    destination: &Destination,
    metadata: &TableMetadata,
    to_delete: Vec<RowsToDelete>,
) -> Result<Vec<(i32, DataFile)>> {
    let path = vector_file_path(metadata);
    let (bytes, entries) = encode_vector_file(&path, to_delete)?;
    destination.put(&path, bytes).await?;
    Ok(entries)
}

/// Number of a partition's data files up to which each gets a position delete file of its own.
///
/// Engines match such a file to its data file by the bounds of `file_path`.
const MAX_FILE_SCOPED: usize = 16;

/// Writes position delete files, partition by partition.
async fn write_positions(
    destination: &Destination,
    metadata: &TableMetadata,
    to_delete: Vec<RowsToDelete>,
) -> Result<Vec<(i32, DataFile)>> {
    let mut by_partition: BTreeMap<PartitionKey<'_>, Vec<&RowsToDelete>> = BTreeMap::new();
    for d in &to_delete {
        by_partition.entry(PartitionKey::new(d.spec_id, &d.partition)).or_default().push(d);
    }
    let mut entries = Vec::new();
    for (partition, mut files) in by_partition {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let parts: Vec<&[&RowsToDelete]> = if files.len() <= MAX_FILE_SCOPED { files.chunks(1).collect() } else { vec![&files] };
        for part in parts {
            let path = format!("{}/{}-deletes.parquet", data_dir(metadata), Uuid::now_v7());
            let bytes = position_file(part)?;
            let size = bytes.len();
            destination.put(&path, bytes).await?;
            let deletes = saturating_total(part.iter().map(|d| d.positions.len()));
            let bound = |d: Option<&&RowsToDelete>| d.map(|d| (FILE_PATH_FIELD_ID, BoundBytes::new(d.path.clone())));
            let file = DataFile {
                partition: partition.values().into(),
                referenced_data_file: if let [only] = part { Some(only.path.clone()) } else { None },
                ..entry(path, deletes, size)
            };
            entries.push((partition.spec_id(), with_bounds(file, bound(part.first()), bound(part.last()))));
        }
    }
    Ok(entries)
}

/// Encodes a position delete file. `files` are sorted by path.
///
/// Rows are sorted by path and position. Spec: "Position Delete Files".
fn position_file(files: &[&RowsToDelete]) -> Result<Vec<u8>> {
    let column = |name: &str, ty, id: i32| {
        Field::new(name, ty, false).with_metadata([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into())
    };
    let schema = Arc::new(ArrowSchema::new(vec![
        column("file_path", DataType::Utf8, FILE_PATH_FIELD_ID),
        column("pos", DataType::Int64, POS_FIELD_ID),
    ]));
    let level = ZstdLevel::try_new(3)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema.clone(), Some(properties))?;
    for file in files {
        let mut positions = file.positions.iter().peekable();
        while positions.peek().is_some() {
            let part: Vec<i64> = positions.by_ref().take(8192).map(|p| i64::try_from(p).unwrap_or(i64::MAX)).collect();
            let paths: ArrayRef = Arc::new(StringArray::from(vec![file.path.as_str(); part.len()]));
            writer.write(&RecordBatch::try_new(schema.clone(), vec![paths, Arc::new(Int64Array::from(part))])?)?;
        }
    }
    writer.close()?;
    Ok(bytes)
}
