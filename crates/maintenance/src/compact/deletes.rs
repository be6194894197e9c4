//! Which rows of a group's files are deleted; and delete files, written.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use esker_read::{EqualityBudget, EqualityDeletes};
use esker_table::{DeleteIndex, LiveFile, LiveFiles, data_dir, puffin_of_vectors};
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, FormatVersion, Struct, TableMetadata};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use roaring::RoaringTreemap;
use uuid::Uuid;

use crate::jobs::JobContext;
use crate::{MaintenanceError, Result};

/// Reserved field ids of the columns of a position delete file (spec, "Reserved Field IDs").
const FILE_PATH: i32 = 2_147_483_546;
const POSITION: i32 = 2_147_483_545;

/// Deleted positions by path of the data file.
pub(crate) type ByPath = HashMap<String, RoaringTreemap>;

/// The rows of some files of one partition that deletes of every kind leave out: by position, and by equality.
pub(crate) async fn resolve(
    context: &JobContext,
    metadata: &Arc<TableMetadata>,
    live: &LiveFiles,
    files: &[LiveFile],
) -> Result<(ByPath, ByPath)> {
    if live.deletes.is_empty() {
        return Ok((ByPath::new(), ByPath::new()));
    }
    let index = DeleteIndex::new(live, metadata);
    let stats = &context.counters.reads;
    let positional = context.reader.deleted_positions(files, &index, stats).await?;
    let equality = EqualityDeletes::new(metadata, index.equality_of(files))?;
    let budget = EqualityBudget {
        bytes: usize::try_from(context.memory.bytes / 2).unwrap_or(usize::MAX),
        dir: context.memory.spill_dir.clone(),
        keep: false,
    };
    let by_equality = equality.positions(&context.reader, metadata, files, &budget, stats).await?;
    Ok((positional, by_equality))
}

/// Both kinds together.
pub(crate) fn union(mut a: ByPath, b: ByPath) -> ByPath {
    for (path, positions) in b {
        *a.entry(path).or_default() |= positions;
    }
    a
}

/// A data file of which rows are to be deleted.
#[derive(Debug, Clone)]
pub(crate) struct Doomed {
    pub(crate) path: String,
    pub(crate) spec_id: i32,
    pub(crate) partition: Struct,
    pub(crate) positions: RoaringTreemap,
}

/// Writes deletes by position: as deletion vectors where the table has them, else as position delete files, one a data file if
/// there are few, or else one a partition. Returns their entries with their partition specs.
pub(crate) async fn write(context: &JobContext, metadata: &TableMetadata, doomed: Vec<Doomed>) -> Result<Vec<(i32, DataFile)>> {
    let doomed: Vec<Doomed> = doomed.into_iter().filter(|d| !d.positions.is_empty()).collect();
    if doomed.is_empty() {
        return Ok(Vec::new());
    }
    match metadata.format_version() {
        FormatVersion::V1 => Err(MaintenanceError::Refused("a table of format version 1 has no deletes".to_owned())),
        FormatVersion::V2 => write_positions(context, metadata, doomed).await,
        FormatVersion::V3 => write_vectors(context, metadata, doomed).await,
    }
}

async fn put(context: &JobContext, path: &str, bytes: Vec<u8>) -> Result<()> {
    context.record(vec![path.to_owned()]).await?;
    context.counters.add_written(bytes.len() as u64);
    context.counters.add_requests(1);
    Ok(context.catalog.storage().write(path, bytes.into()).await?)
}

fn built(builder: &DataFileBuilder) -> Result<DataFile> {
    builder.build().map_err(|e| MaintenanceError::Refused(e.to_string()))
}

async fn write_vectors(context: &JobContext, metadata: &TableMetadata, doomed: Vec<Doomed>) -> Result<Vec<(i32, DataFile)>> {
    let path = format!("{}/{}-deletes.puffin", data_dir(metadata), Uuid::now_v7());
    let vectors: Vec<(String, RoaringTreemap)> = doomed.iter().map(|d| (d.path.clone(), d.positions.clone())).collect();
    let (file, places) = puffin_of_vectors(&vectors)?;
    let size = file.len() as u64;
    put(context, &path, file).await?;
    let entry = |(d, (offset, length)): (Doomed, (u64, u64))| {
        let mut builder = DataFileBuilder::default();
        builder
            .content(DataContentType::PositionDeletes)
            .file_path(path.clone())
            .file_format(DataFileFormat::Puffin)
            .partition(d.partition)
            .record_count(d.positions.len())
            .file_size_in_bytes(size)
            .referenced_data_file(Some(d.path))
            .content_offset(i64::try_from(offset).ok())
            .content_size_in_bytes(i64::try_from(length).ok());
        Ok((d.spec_id, built(&builder)?))
    };
    doomed.into_iter().zip(places).map(entry).collect()
}

/// Up to so many data files get position delete files of their own, which engines find by name.
const FILE_SCOPED: usize = 16;

async fn write_positions(context: &JobContext, metadata: &TableMetadata, doomed: Vec<Doomed>) -> Result<Vec<(i32, DataFile)>> {
    let mut by_partition: HashMap<(i32, Struct), Vec<Doomed>> = HashMap::new();
    for d in doomed {
        by_partition.entry((d.spec_id, d.partition.clone())).or_default().push(d);
    }
    let mut entries = Vec::new();
    for ((spec_id, partition), mut files) in by_partition {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let parts: Vec<&[Doomed]> = if files.len() <= FILE_SCOPED { files.chunks(1).collect() } else { vec![&files] };
        for part in parts {
            let path = format!("{}/{}-deletes.parquet", data_dir(metadata), Uuid::now_v7());
            let bytes = position_file(part)?;
            let size = bytes.len() as u64;
            put(context, &path, bytes).await?;
            let mut builder = DataFileBuilder::default();
            builder
                .content(DataContentType::PositionDeletes)
                .file_path(path)
                .file_format(DataFileFormat::Parquet)
                .partition(partition.clone())
                .record_count(part.iter().map(|d| d.positions.len()).sum())
                .file_size_in_bytes(size);
            if let (Some(first), Some(last)) = (part.first(), part.last()) {
                builder.lower_bounds(HashMap::from([(FILE_PATH, Datum::string(&first.path))]));
                builder.upper_bounds(HashMap::from([(FILE_PATH, Datum::string(&last.path))]));
                builder.referenced_data_file((part.len() == 1).then(|| first.path.clone()));
            }
            entries.push((spec_id, built(&builder)?));
        }
    }
    Ok(entries)
}

/// A position delete file, sorted by path and position as the specification wants it.
fn position_file(files: &[Doomed]) -> Result<Vec<u8>> {
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
