//! An open file: its footer is read, and its rows can be fetched and decoded.
//!
//! [`OpenFile::stream`] yields rows and fetches while it decodes. [`OpenFile::fetch`] fetches row groups to be decoded later, for
//! rewrites.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Fields;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, unfold};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use roaring::RoaringTreemap;

use crate::cached_file::CachedFile;
use crate::decode_errors::{blame, catch_panics, panic_as_parquet_error, row_count_mismatch};
use crate::file_slice::FileSlice;
use crate::layout::{row_count, row_group_bytes, row_group_rows};
use crate::projection::Projection;
use crate::row_group_decoder::FetchedRowGroups;
use crate::row_selection::selection;
use crate::{BatchAdapter, ReadError, ReadStats, Result};

type Builder = ParquetRecordBatchStreamBuilder<CachedFile>;

/// The selection of rows and columns for a scan of one open file.
#[derive(Debug)]
pub struct FileScan {
    /// Converts batches to the target schema, whose columns are also the projection.
    pub adapter: Arc<BatchAdapter>,
    /// Indexes of the row groups to read, in order; none reads all.
    pub row_groups: Option<Vec<usize>>,
    /// Positions of rows in the file that the scan skips.
    pub deleted: Option<Arc<RoaringTreemap>>,
    /// Greatest number of rows in a batch.
    pub batch_size: usize,
}

/// A file whose footer was read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OpenFile {
    metadata: ArrowReaderMetadata,
    /// The file's columns with field ids, from the file itself or from the name mapping.
    fields: Fields,
    file: CachedFile,
}

impl OpenFile {
    /// Opens a file: reads its footer, and finds the field ids of its columns.
    pub(crate) async fn open(file: CachedFile) -> Result<Self> {
        ReadStats::add(&file.stats.files_opened, 1);
        let metadata = file.footer().await.map_err(|e| ReadError::parquet(&file.path, e))?.metadata;
        let fields = file.identified(metadata.schema().fields())?;
        Ok(Self { metadata, fields, file })
    }

    /// Returns the footer.
    pub fn footer(&self) -> &Arc<ParquetMetaData> {
        self.metadata.metadata()
    }

    /// Checks that the file has as many rows as its manifest entry counts.
    ///
    /// Otherwise position deletes and row ids would refer to other rows.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::Damaged`] if the two numbers differ.
    pub fn check_records(&self, records: u64) -> Result<()> {
        let rows = self.footer().file_metadata().num_rows();
        match u64::try_from(rows) == Ok(records) {
            true => Ok(()),
            false => {
                let rows = esker_types::format_count(rows.unsigned_abs(), "row");
                Err(ReadError::damaged(&self.file.path, format!("it has {rows}, and its manifest says {records}")))
            }
        }
    }

    /// Returns the file's top-level columns, with field ids, in the file's order.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Streams some top-level columns, by index, without converting them to a table's schema.
    pub(crate) fn raw_stream(self, roots: &[usize]) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), roots.iter().copied());
        let row_groups: Vec<usize> = (0..self.footer().num_row_groups()).collect();
        let rows = row_count(self.footer(), &row_groups);
        self.decoded(mask, row_groups, rows, |builder| builder)
    }

    /// Streams the decoded batches of some row groups, which must yield `expected` rows in total.
    ///
    /// An error names the file and the column. A panic of the decoder, or another number of rows, is an error.
    fn decoded(
        self,
        mask: ProjectionMask,
        row_groups: Vec<usize>,
        expected: u64,
        with: impl FnOnce(Builder) -> Builder,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.file.clone(), self.metadata.clone());
        let builder = with(builder.with_projection(mask.clone()).with_row_groups(row_groups.clone()));
        let stream = builder.build().map_err(|source| ReadError::Parquet { path: self.file.path.to_string(), source })?;
        let read = Arc::new((self, mask, row_groups));
        let next = move |(stream, rows): (Option<BoxStream<'static, _>>, u64)| {
            let read = read.clone();
            async move {
                let mut stream = stream?;
                let error = match stream.next().await {
                    Some(Ok(batch)) => {
                        let rows = rows + RecordBatch::num_rows(&batch) as u64;
                        return Some((Ok(batch), (Some(stream), rows)));
                    }
                    Some(Err(error)) => error,
                    None if rows == expected => return None,
                    None => row_count_mismatch(rows, expected),
                };
                Some((Err(read.0.blame(&read.1, &read.2, error).await), (None, rows)))
            }
        };
        Ok(unfold((Some(catch_panics(stream, panic_as_parquet_error)), 0), next).boxed())
    }

    /// Adds the file and the column to a decoder's error. Decodes each column alone to find the one that fails.
    pub(crate) async fn blame(&self, columns: &ProjectionMask, row_groups: &[usize], error: ParquetError) -> ReadError {
        blame(&self.file.path, &self.file, &self.metadata, columns, row_groups, error).await
    }

    /// Returns the projection onto those columns of the file that the adapter's target has, by field id.
    pub fn projection(&self, adapter: &BatchAdapter) -> Projection {
        Projection::new(self.metadata.parquet_schema(), &self.fields, adapter)
    }

    /// Returns the positions of the rows of each row group, in the file's order.
    pub fn row_ranges(&self) -> Vec<Range<u64>> {
        row_group_rows(self.footer())
    }

    /// Fetches neighbouring row groups with one request.
    ///
    /// The request covers all columns. The result can be decoded on any thread, without an async runtime.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::Storage`] if the bytes can't be fetched, and [`ReadError::Parquet`] if the footer claims bytes beyond
    /// the file's end.
    pub async fn fetch(&self, row_groups: Range<usize>) -> Result<FetchedRowGroups> {
        let range = row_group_bytes(self.footer(), row_groups.clone());
        let start = range.start;
        let bytes = match range.is_empty() {
            true => Bytes::new(),
            false => self.file.clone().get_bytes(range).await.map_err(|e| ReadError::parquet(&self.file.path, e))?,
        };
        Ok(FetchedRowGroups {
            path: self.file.path.to_string(),
            metadata: self.metadata.clone(),
            row_groups,
            window: FileSlice { start, bytes },
        })
    }

    /// Streams the selected rows in the file's order, converted to the adapter's target schema.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::Parquet`] if the decoder refuses the selection. The stream yields these errors, and ends after the
    /// first that the decoder reports:
    ///
    /// - [`ReadError::Storage`] if bytes can't be fetched;
    /// - [`ReadError::Decoding`] if a column can't be decoded or has an invalid variant;
    /// - [`ReadError::Parquet`] or [`ReadError::Panicked`] if the decoder fails and no single column explains it;
    /// - [`ReadError::Arrow`] if a batch can't be converted to the target schema.
    pub fn stream(self, scan: FileScan) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let path = self.file.path.to_string();
        let Projection { mask, fields } = self.projection(&scan.adapter);
        let ranges = row_group_rows(self.footer());
        let row_groups = scan.row_groups.unwrap_or_else(|| (0..ranges.len()).collect());
        let chosen: Vec<Range<u64>> = row_groups.iter().map(|i| ranges[*i].clone()).collect();
        let selected = scan.deleted.as_ref().map(|deleted| selection(&chosen, deleted));
        let rows = selected.as_ref().map_or_else(|| row_count(self.footer(), &row_groups), |rows| rows.row_count() as u64);
        let stream = self.decoded(mask, row_groups, rows, |builder| {
            let builder = builder.with_batch_size(scan.batch_size);
            match selected {
                Some(rows) => builder.with_row_selection(rows),
                None => builder,
            }
        })?;
        let adapter = scan.adapter;
        let adapt =
            move |batch: Result<RecordBatch>| adapter.adapt(&batch?, &fields).map_err(|error| ReadError::arrow(&path, error));
        Ok(stream.map(adapt).boxed())
    }
}
