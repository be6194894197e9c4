//! Output files: row groups in, one after the other; verified entries out.

use std::hash::Hasher as _;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use esker_format::DataFile;
use esker_read::{FetchedRowGroups, FileSlice};
use object_store::buffered::BufWriter;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_writer::ArrowColumnChunk;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::reader::ChunkReader;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use twox_hash::XxHash3_64;

use crate::destination::Destination;
use crate::encode::{EncodedGroup, ParquetLayout, merge_nans};
use crate::metrics::{NanCounts, data_file};
use crate::pages::offset_index;
use crate::{Result, WriteError};

/// Parts of an upload, and pieces that a file is read back in.
const PART: usize = 8 << 20;

/// Parts on their way at the same time.
const UPLOADS: usize = 4;

/// What Parquet's writer has written, in pieces: one buffer would be moved each time that it grows.
#[derive(Default)]
struct Pieces {
    full: Vec<Bytes>,
    open: Vec<u8>,
}

impl Pieces {
    const SIZE: usize = 1 << 20;

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.full.push(std::mem::take(&mut self.open).into());
        }
    }

    fn take(&mut self) -> Vec<Bytes> {
        self.seal();
        std::mem::take(&mut self.full)
    }
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.open.capacity() == 0 {
            self.open.reserve_exact(Self::SIZE);
        }
        let n = bytes.len().min(self.open.capacity() - self.open.len());
        self.open.extend_from_slice(&bytes[..n]);
        if self.open.len() == self.open.capacity() {
            self.seal();
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// In a function of its own: the body of an asynchronous one is compiled where it is awaited, as that crate is.
#[inline(never)]
fn hash_bytes(hash: &mut XxHash3_64, bytes: &[u8]) {
    hash.write(bytes);
}

/// A row group on its way into an output file.
#[expect(missing_debug_implementations, reason = "Parquet's writers have none")]
pub enum RowGroup {
    /// Encoded anew.
    Encoded(EncodedGroup),
    /// Copied as it is, with the columns of row lineage where the table has them and the source has not.
    Copied { source: Arc<FetchedRowGroups>, row_group: usize, index: Arc<ParquetMetaData>, lineage: Vec<ArrowColumnChunk> },
}

impl RowGroup {
    pub fn rows(&self) -> u64 {
        match self {
            Self::Encoded(group) => group.rows,
            Self::Copied { source, row_group, .. } => source.footer().row_group(*row_group).num_rows().unsigned_abs(),
        }
    }

    pub fn bytes(&self) -> u64 {
        match self {
            Self::Encoded(group) => group.bytes(),
            Self::Copied { source, row_group, .. } => source.footer().row_group(*row_group).compressed_size().unsigned_abs(),
        }
    }
}

fn append_column(
    out: &mut SerializedRowGroupWriter<'_, Pieces>,
    source: &FileSlice,
    close: ColumnCloseResult,
) -> parquet::errors::Result<()> {
    out.append_column(source, close)
}

fn pages_of(source: &FileSlice, column: &ColumnChunkMetaData) -> parquet::errors::Result<OffsetIndexMetaData> {
    let (start, length) = column.byte_range();
    let length = usize::try_from(length).map_err(|e| ParquetError::General(e.to_string()))?;
    offset_index(column, &source.get_bytes(start, length)?)
}

fn append_chunk(out: &mut SerializedRowGroupWriter<'_, Pieces>, chunk: ArrowColumnChunk) -> parquet::errors::Result<()> {
    chunk.append_to_row_group(out)
}

/// A file being written.
#[expect(missing_debug_implementations, reason = "Parquet's writers have none")]
pub struct OutputFile {
    destination: Destination,
    shape: Arc<ParquetLayout>,
    path: String,
    writer: SerializedFileWriter<Pieces>,
    upload: BufWriter,
    store: Arc<dyn ObjectStore>,
    object: object_store::path::Path,
    hash: XxHash3_64,
    bytes: u64,
    pub rows: u64,
    nans: NanCounts,
}

/// A file that is in storage, and read back.
#[expect(missing_debug_implementations, reason = "Parquet's writers have none")]
pub struct WrittenFile {
    pub path: String,
    /// Its entry, all but its partition.
    pub entry: DataFile,
    pub bytes: u64,
    pub rows: u64,
}

impl OutputFile {
    pub async fn create(destination: &Destination, shape: &Arc<ParquetLayout>, path: String) -> Result<Self> {
        (destination.record)(vec![path.clone()]).await?;
        let (store, object) = destination.storage.object(&path)?;
        let upload = BufWriter::with_capacity(store.clone(), object.clone(), PART).with_max_concurrency(UPLOADS);
        let writer = SerializedFileWriter::new(Pieces::default(), shape.root.clone(), shape.properties.clone())?;
        let (destination, shape) = (destination.clone(), shape.clone());
        let hash = XxHash3_64::with_seed(0);
        Ok(Self { destination, shape, path, writer, upload, store, object, hash, bytes: 0, rows: 0, nans: NanCounts::new() })
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub async fn append(&mut self, group: RowGroup, nans: &NanCounts) -> Result<()> {
        self.rows += group.rows();
        merge_nans(&mut self.nans, nans);
        {
            let mut out = self.writer.next_row_group()?;
            match group {
                RowGroup::Encoded(group) => {
                    for chunk in group.chunks {
                        append_chunk(&mut out, chunk)?;
                    }
                }
                RowGroup::Copied { source, row_group, index, lineage } => {
                    let group = source.footer().row_group(row_group);
                    for (i, column) in group.columns().iter().enumerate() {
                        if i >= self.shape.own_leaves() && !lineage.is_empty() {
                            break;
                        }
                        let known = index.offset_index().and_then(|o| o.get(row_group)?.get(i)).cloned();
                        let offset_index = match known {
                            Some(known) => known,
                            None => pages_of(source.window(), column)?,
                        };
                        let close = ColumnCloseResult {
                            bytes_written: column.compressed_size().unsigned_abs(),
                            rows_written: group.num_rows().unsigned_abs(),
                            metadata: column.clone(),
                            bloom_filter: None,
                            column_index: index.column_index().and_then(|c| c.get(row_group)?.get(i)).cloned(),
                            offset_index: Some(offset_index),
                        };
                        append_column(&mut out, source.window(), close)?;
                    }
                    for chunk in lineage {
                        append_chunk(&mut out, chunk)?;
                    }
                }
            }
            out.close()?;
        }
        self.drain().await
    }

    async fn drain(&mut self) -> Result<()> {
        self.writer.flush().map_err(ParquetError::from)?;
        for bytes in self.writer.inner_mut().take() {
            self.bytes += bytes.len() as u64;
            hash_bytes(&mut self.hash, &bytes);
            self.destination.counters.add(bytes.len() as u64, 0);
            self.upload.put(bytes).await.map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    fn failed(&self, error: object_store::Error) -> WriteError {
        esker_storage::StorageError::new(&self.path, error).into()
    }

    /// Ends the file and reads it back: storage must hold what was written, and its footer must tell the rows that were.
    pub async fn close(mut self) -> Result<WrittenFile> {
        let footer = self.writer.finish()?;
        self.drain().await?;
        tokio::io::AsyncWriteExt::shutdown(&mut self.upload)
            .await
            .map_err(|e| self.failed(object_store::Error::Generic { store: "upload", source: Box::new(e) }))?;
        self.destination.counters.add(0, self.bytes.div_ceil(PART as u64) + 1);
        let read_back = self.read_back().await?;
        if read_back.file_metadata().num_rows().unsigned_abs() != self.rows
            || read_back.num_row_groups() != footer.num_row_groups()
        {
            return Err(self.not_as_written("its footer tells other rows"));
        }
        let entry = data_file(&self.path, self.bytes, &footer, &self.shape.schema, &self.shape.modes, &self.nans);
        Ok(WrittenFile { path: self.path, entry, bytes: self.bytes, rows: self.rows })
    }

    fn not_as_written(&self, what: &str) -> WriteError {
        WriteError::NotAsWritten { path: self.path.clone(), what: what.to_owned() }
    }

    async fn read_back(&mut self) -> Result<ParquetMetaData> {
        let mut hash = XxHash3_64::with_seed(0);
        let mut tail = Vec::new();
        let mut at = 0;
        while at < self.bytes {
            let end = (at + PART as u64).min(self.bytes);
            let piece = self.store.get_range(&self.object, at..end).await.map_err(|e| self.failed(e))?;
            hash_bytes(&mut hash, &piece);
            self.destination.counters.add(0, 1);
            // The footer is at the end, in the last piece or across the last two.
            if self.bytes - end < PART as u64 {
                tail.extend_from_slice(&piece);
            }
            at = end;
        }
        if hash.finish() != self.hash.finish() {
            return Err(self.not_as_written("its bytes are not those that were written"));
        }
        let tail = Bytes::from(tail);
        let mut reader = ParquetMetaDataReader::new();
        reader.try_parse_sized(&tail, self.bytes).map_err(|e| self.not_as_written(&e.to_string()))?;
        Ok(reader.finish()?)
    }
}
