//! Deletes by position, as files.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use esker_format::{BoundBytes, DataContentType, DataFile, DataFileFormat, TableMetadata, Tuple};
use esker_read::{FILE_PATH, POSITION};
use esker_table::{PartitionKey, data_dir, puffin_of_vectors, with_bounds};
use esker_types::total;
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use roaring::RoaringTreemap;
use uuid::Uuid;

use crate::{Destination, Result, WriteError};

/// A data file of which rows are to be deleted.
#[derive(Debug, Clone)]
pub struct RowsToDelete {
    pub path: String,
    pub spec_id: i32,
    pub partition: Tuple,
    pub positions: RoaringTreemap,
}

/// Writes deletes by position; returns their entries with their partition specs.
///
/// They are deletion vectors where the table has them, else position delete files: one a data file if there are few, or else one a
/// partition.
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
        ..=1 => Err(WriteError::Refused("a table of format version 1 has no deletes".to_owned())),
        2 => write_positions(destination, metadata, to_delete).await,
        3.. => write_vectors(destination, metadata, to_delete).await,
    }
}

/// The entry of a file of deletes.
fn entry(path: String, format: DataFileFormat, deletes: u64, bytes: usize) -> DataFile {
    let (deletes, bytes) = (i64::try_from(deletes).unwrap_or(i64::MAX), i64::try_from(bytes).unwrap_or(i64::MAX));
    DataFile::new(DataContentType::PositionDeletes, path, format, deletes, bytes)
}

async fn write_vectors(
    destination: &Destination,
    metadata: &TableMetadata,
    to_delete: Vec<RowsToDelete>,
) -> Result<Vec<(i32, DataFile)>> {
    let path = format!("{}/{}-deletes.puffin", data_dir(metadata), Uuid::now_v7());
    let vectors: Vec<(String, RoaringTreemap)> = to_delete.iter().map(|d| (d.path.clone(), d.positions.clone())).collect();
    let (file, places) = puffin_of_vectors(&vectors)?;
    let size = file.len();
    destination.put(&path, file).await?;
    let vector = |(d, (offset, length)): (RowsToDelete, (u64, u64))| {
        let vector = DataFile {
            partition: d.partition,
            referenced_data_file: Some(d.path),
            content_offset: i64::try_from(offset).ok(),
            content_size_in_bytes: i64::try_from(length).ok(),
            ..entry(path.clone(), DataFileFormat::Puffin, d.positions.len(), size)
        };
        (d.spec_id, vector)
    };
    Ok(to_delete.into_iter().zip(places).map(vector).collect())
}

/// Up to so many data files get position delete files of their own, which engines find by name.
const FILE_SCOPED: usize = 16;

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
        let parts: Vec<&[&RowsToDelete]> = if files.len() <= FILE_SCOPED { files.chunks(1).collect() } else { vec![&files] };
        for part in parts {
            let path = format!("{}/{}-deletes.parquet", data_dir(metadata), Uuid::now_v7());
            let bytes = position_file(part)?;
            let size = bytes.len();
            destination.put(&path, bytes).await?;
            let deletes = total(part.iter().map(|d| d.positions.len()));
            let bound = |d: Option<&&RowsToDelete>| d.map(|d| (FILE_PATH, BoundBytes::new(d.path.clone())));
            let file = DataFile {
                partition: partition.values().into(),
                referenced_data_file: if let [only] = part { Some(only.path.clone()) } else { None },
                ..entry(path, DataFileFormat::Parquet, deletes, size)
            };
            entries.push((partition.spec_id(), with_bounds(file, bound(part.first()), bound(part.last()))));
        }
    }
    Ok(entries)
}

/// A position delete file, sorted by path and position as the specification wants it.
fn position_file(files: &[&RowsToDelete]) -> Result<Vec<u8>> {
    let column = |name: &str, ty, id: i32| {
        Field::new(name, ty, false).with_metadata([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into())
    };
    let schema = Arc::new(ArrowSchema::new(vec![
        column("file_path", DataType::Utf8, FILE_PATH),
        column("pos", DataType::Int64, POSITION),
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
