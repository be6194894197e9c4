//! Writes an output file row group by row group, and verifies it.
//!
//! A row group is either encoded here or copied byte by byte from another file. Bytes are uploaded in parts while the file grows,
//! and hashed. At the end the whole file is read back: its hash, its number of rows and its number of row groups must match.
//! Start with [`OutputFile`].

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
use crate::page_headers::offset_index;
use crate::{Result, WriteError};

/// Size in bytes of an upload's parts, and of the pieces in which a file is read back.
const PART_BYTES: usize = 8 << 20;

/// Number of parts uploaded concurrently.
const UPLOADS: usize = 4;

/// The output of Parquet's writer, in pieces: one buffer would be moved each time it grows.
#[derive(Default)]
struct Pieces {
    full: Vec<Bytes>,
    open: Vec<u8>,
}

impl Pieces {
    /// Size of a piece in bytes.
    const SIZE: usize = 1 << 20;

    /// Ends the current piece.
    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.full.push(std::mem::take(&mut self.open).into());
        }
    }

    /// Returns all bytes written since the last call.
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

/// Adds bytes to a hash.
///
/// A function of its own: the body of an async function is compiled in the crate that awaits it, with that crate's optimisation
/// level.
#[inline(never)]
fn hash_bytes(hash: &mut XxHash3_64, bytes: &[u8]) {
    hash.write(bytes);
}

/// A row group to append to an output file.
#[expect(missing_debug_implementations, reason = "Parquet's writers have none")]
pub enum RowGroup {
    /// A row group encoded from rows.
    Encoded(EncodedGroup),
    /// A row group copied byte by byte from another file.
    Copied {
        /// The fetched bytes of the source file.
        source: Arc<FetchedRowGroups>,
        /// Index of the row group in the source file.
        row_group: usize,
        /// The source file's footer with its page index, if it has one.
        index: Arc<ParquetMetaData>,
        /// The row lineage columns, if the layout has them and the source lacks them; otherwise empty.
        lineage: Vec<ArrowColumnChunk>,
    },
}

impl RowGroup {
    /// Returns the number of rows.
    pub fn rows(&self) -> u64 {
        match self {
            Self::Encoded(group) => group.rows,
            Self::Copied { source, row_group, .. } => source.footer().row_group(*row_group).num_rows().unsigned_abs(),
        }
    }

    /// Returns the compressed length in bytes; without added lineage columns for a copy.
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

/// Reads a column chunk's offset index from its page headers.
fn pages_of(source: &FileSlice, column: &ColumnChunkMetaData) -> parquet::errors::Result<OffsetIndexMetaData> {
    let (start, length) = column.byte_range();
    let length = usize::try_from(length).map_err(|e| ParquetError::General(e.to_string()))?;
    offset_index(column, &source.get_bytes(start, length)?)
}

fn append_chunk(out: &mut SerializedRowGroupWriter<'_, Pieces>, chunk: ArrowColumnChunk) -> parquet::errors::Result<()> {
    chunk.append_to_row_group(out)
}

/// A data file that is being written to storage.
#[expect(missing_debug_implementations, reason = "Parquet's writers have none")]
pub struct OutputFile {
    destination: Destination,
    layout: Arc<ParquetLayout>,
    path: String,
    writer: SerializedFileWriter<Pieces>,
    upload: BufWriter,
    store: Arc<dyn ObjectStore>,
    object: object_store::path::Path,
    /// Hash of the bytes written so far.
    hash: XxHash3_64,
    /// Number of bytes written so far.
    bytes: u64,
    /// Number of rows appended so far.
    pub rows: u64,
    nans: NanCounts,
}

/// A complete data file in storage that was read back and verified.
#[expect(missing_debug_implementations, reason = "Parquet's writers have none")]
pub struct WrittenFile {
    /// The location of the file.
    pub path: String,
    /// The manifest entry, without its partition.
    pub entry: DataFile,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Number of rows.
    pub rows: u64,
}

impl OutputFile {
    /// Records a file and begins its upload to `path`.
    ///
    /// The file does not exist in storage before [`close`](Self::close).
    ///
    /// # Errors
    ///
    /// Returns [`WriteError::Record`] if the file can't be recorded, and [`WriteError::Storage`] if the storage can't hold the
    /// path. Returns [`WriteError::Parquet`] if the writer can't be created.
    pub async fn create(destination: &Destination, shape: &Arc<ParquetLayout>, path: String) -> Result<Self> {
        (destination.recorder)(vec![path.clone()]).await?;
        let (store, object) = destination.storage.object(&path)?;
        let upload = BufWriter::with_capacity(store.clone(), object.clone(), PART_BYTES).with_max_concurrency(UPLOADS);
        let writer = SerializedFileWriter::new(Pieces::default(), shape.root.clone(), shape.properties.clone())?;
        let (destination, shape) = (destination.clone(), shape.clone());
        let hash = XxHash3_64::with_seed(0);
        Ok(Self {
            destination,
            layout: shape,
            path,
            writer,
            upload,
            store,
            object,
            hash,
            bytes: 0,
            rows: 0,
            nans: NanCounts::new(),
        })
    }

    /// Returns the number of bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends a row group. `nans` are its NaN counts.
    ///
    /// May upload parts of the file.
    ///
    /// # Errors
    ///
    /// Returns [`WriteError::Parquet`] if the row group does not fit the layout, or if the pages of a copied chunk can't be
    /// found. Returns [`WriteError::Storage`] if the upload fails.
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
                        if i >= self.layout.table_leaves() && !lineage.is_empty() {
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

    /// Passes the writer's new bytes to the upload.
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

    /// Adds the file's location to an error of the store.
    fn failed(&self, error: object_store::Error) -> WriteError {
        esker_storage::StorageError::new(&self.path, error).into()
    }

    /// Ends the file, reads it back and returns its manifest entry.
    ///
    /// # Errors
    ///
    /// Returns [`WriteError::NotAsWritten`] if the bytes in storage differ from those written. Also if their footer can't be
    /// parsed, or has another number of rows or row groups. Returns [`WriteError::Storage`] if the upload or the read fails, and
    /// [`WriteError::Parquet`] if the footer can't be encoded.
    pub async fn close(mut self) -> Result<WrittenFile> {
        let footer = self.writer.finish()?;
        self.drain().await?;
        tokio::io::AsyncWriteExt::shutdown(&mut self.upload)
            .await
            .map_err(|e| self.failed(object_store::Error::Generic { store: "upload", source: Box::new(e) }))?;
        self.destination.counters.add(0, self.bytes.div_ceil(PART_BYTES as u64) + 1);
        let read_back = self.read_back().await?;
        if read_back.file_metadata().num_rows().unsigned_abs() != self.rows
            || read_back.num_row_groups() != footer.num_row_groups()
        {
            return Err(self.not_as_written("its footer has another number of rows or row groups"));
        }
        let entry = data_file(&self.path, self.bytes, &footer, &self.layout.schema, &self.layout.modes, &self.nans);
        Ok(WrittenFile { path: self.path, entry, bytes: self.bytes, rows: self.rows })
    }

    /// Makes the error for a file that differs from what was written.
    fn not_as_written(&self, what: &str) -> WriteError {
        WriteError::NotAsWritten { path: self.path.clone(), what: what.to_owned() }
    }

    /// Reads the whole file from storage, compares its hash, and parses its footer.
    async fn read_back(&mut self) -> Result<ParquetMetaData> {
        let mut hash = XxHash3_64::with_seed(0);
        let mut tail = Vec::new();
        let mut at = 0;
        while at < self.bytes {
            let end = (at + PART_BYTES as u64).min(self.bytes);
            let piece = self.store.get_range(&self.object, at..end).await.map_err(|e| self.failed(e))?;
            hash_bytes(&mut hash, &piece);
            self.destination.counters.add(0, 1);
            // The footer is at the end: in the last piece, or across the last two.
            if self.bytes - end < PART_BYTES as u64 {
                tail.extend_from_slice(&piece);
            }
            at = end;
        }
        if hash.finish() != self.hash.finish() {
            return Err(self.not_as_written("its bytes differ from those that were written"));
        }
        let tail = Bytes::from(tail);
        let mut reader = ParquetMetaDataReader::new();
        reader.try_parse_sized(&tail, self.bytes).map_err(|e| self.not_as_written(&e.to_string()))?;
        Ok(reader.finish()?)
    }
}
