//! Decodes row groups that are in memory already.
//!
//! Rewrites fetch row groups on the async runtime and decode them on threads of their own. [`FetchedRowGroups::rows`] turns
//! fetched bytes into an iterator of batches with the positions of their rows, which stay known after deleted rows are filtered
//! out.

use std::error::Error;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::Fields;
use esker_types::catch_panic_sync;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use roaring::RoaringTreemap;

use crate::decode_errors::{decodable_parts, row_count_mismatch, unexplained};
use crate::file_slice::FileSlice;
use crate::layout::{row_count, row_group_rows};
use crate::projection::Projection;
use crate::row_selection::positions_in;
use crate::{BatchAdapter, ReadError, Result};

/// Neighbouring row groups of a file in memory, with all columns.
///
/// Decoding them needs no async runtime. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FetchedRowGroups {
    pub(crate) path: String,
    pub(crate) metadata: ArrowReaderMetadata,
    pub(crate) row_groups: Range<usize>,
    pub(crate) window: FileSlice,
}

impl FetchedRowGroups {
    /// Returns the fetched bytes, addressed by offsets in the file.
    pub fn window(&self) -> &FileSlice {
        &self.window
    }

    /// Returns the file's footer.
    pub fn footer(&self) -> &Arc<ParquetMetaData> {
        self.metadata.metadata()
    }

    /// Returns the indexes of the fetched row groups.
    pub fn row_groups(&self) -> Range<usize> {
        self.row_groups.clone()
    }

    /// Returns the number of bytes held.
    pub fn bytes(&self) -> usize {
        self.window.bytes.len()
    }

    /// Decodes the rows whose positions are in `rows` and not in `deleted`, in the file's order.
    ///
    /// Batches are converted by the adapter and have at most `batch_size` rows.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::Parquet`] if the decoder can't be built. The iterator yields these errors:
    ///
    /// - [`ReadError::Decoding`] if a column can't be decoded or has an invalid variant;
    /// - [`ReadError::Parquet`] or [`ReadError::Panicked`] if the decoder fails, and no single column explains it;
    /// - [`ReadError::Arrow`] if rows can't be filtered, or converted to the target schema.
    pub fn rows(
        self,
        adapter: Arc<BatchAdapter>,
        projection: Projection,
        rows: Range<u64>,
        deleted: Option<Arc<RoaringTreemap>>,
        batch_size: usize,
    ) -> Result<FetchedRows> {
        let ranges = row_group_rows(self.metadata.metadata());
        let chosen: Vec<usize> = self.row_groups.filter(|i| overlap(&ranges[*i], &rows)).collect();
        let path = self.path;
        let first = chosen.first().map_or(0, |i| ranges[*i].start);
        let end = chosen.last().map_or(0, |i| ranges[*i].end);
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(self.window.clone(), self.metadata.clone())
            .with_projection(projection.mask.clone())
            .with_batch_size(batch_size)
            .with_row_groups(chosen.clone())
            .build()
            .map_err(|source| ReadError::Parquet { path: path.clone(), source })?;
        let source = Source { window: self.window, metadata: self.metadata, projection: projection.mask, row_groups: chosen };
        Ok(FetchedRows {
            path,
            reader,
            source,
            adapter,
            fields: projection.fields,
            first,
            next: first,
            end,
            rows,
            deleted,
            failed: false,
        })
    }
}

/// The input of a decoder, kept so that a failing column can be found.
#[derive(Debug)]
struct Source {
    window: FileSlice,
    metadata: ArrowReaderMetadata,
    projection: ProjectionMask,
    row_groups: Vec<usize>,
}

impl Source {
    /// Returns the first column that can't be decoded alone.
    ///
    /// The decoder's own error does not name a column.
    fn damaged_column(&self) -> Option<String> {
        let descriptor = self.metadata.parquet_schema();
        let expected = row_count(self.metadata.metadata(), &self.row_groups);
        let fails = |leaves: &[usize]| {
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(self.window.clone(), self.metadata.clone())
                .with_projection(ProjectionMask::leaves(descriptor, leaves.iter().copied()))
                .with_row_groups(self.row_groups.clone())
                .build();
            let rows = |batches: ParquetRecordBatchReader| {
                batches.map(|batch| batch.map(|b| b.num_rows())).sum::<std::result::Result<usize, _>>()
            };
            let decoded = reader.map(|batches| catch_panic_sync(|| rows(batches)));
            !decoded.is_ok_and(|rows| rows.is_ok_and(|rows| rows.is_ok_and(|rows| rows as u64 == expected)))
        };
        decodable_parts(descriptor, &self.projection).into_iter().find(|(_, leaves)| fails(leaves)).map(|(column, _)| column)
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Iterates over the rows of fetched row groups: batches with the positions of their rows.
#[derive(Debug)]
pub struct FetchedRows {
    path: String,
    reader: ParquetRecordBatchReader,
    source: Source,
    adapter: Arc<BatchAdapter>,
    /// The decoded columns with field ids.
    fields: Fields,
    /// Position of the first decoded row.
    first: u64,
    /// Position of the row that is decoded next.
    next: u64,
    /// Position after the last row of the row groups.
    end: u64,
    /// The positions of the rows that the caller wants.
    rows: Range<u64>,
    deleted: Option<Arc<RoaringTreemap>>,
    /// True after a failure: a decoder that failed must not be called again.
    failed: bool,
}

/// The positions of a batch's rows in their file, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowPositions {
    /// Consecutive positions.
    Run(Range<u64>),
    /// Positions with gaps.
    Each(Vec<u64>),
}

impl RowPositions {
    /// Iterates over the positions.
    pub fn iter(&self) -> Box<dyn Iterator<Item = u64> + '_> {
        match self {
            Self::Run(range) => Box::new(range.clone()),
            Self::Each(positions) => Box::new(positions.iter().copied()),
        }
    }
}

impl FetchedRows {
    /// Adds the file and the column to a failure of the decoder.
    fn blame(&self, source: Box<dyn Error + Send + Sync>) -> ReadError {
        let error = source.downcast::<ParquetError>().map_or_else(ParquetError::External, |error| *error);
        match self.source.damaged_column() {
            Some(column) => ReadError::decoding(&self.path, column, error),
            None => unexplained(&self.path, error),
        }
    }

    /// Cuts a decoded batch to the wanted rows that are not deleted, and converts it; none if no row is left.
    fn step(&mut self, batch: RecordBatch) -> Result<Option<(RecordBatch, RowPositions)>> {
        let arrow = |error| ReadError::arrow(&self.path, error);
        let all = self.next..self.next + batch.num_rows() as u64;
        self.next = all.end;
        let inside = all.start.max(self.rows.start)..all.end.min(self.rows.end);
        if inside.start >= inside.end {
            return Ok(None);
        }
        let cut = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let batch = batch.slice(cut(inside.start - all.start), cut(inside.end - inside.start));
        let gone = self.deleted.as_deref().map(|deleted| positions_in(deleted, &inside).collect::<Vec<u64>>());
        let gone = gone.filter(|gone| !gone.is_empty());
        let (batch, positions) = match gone {
            None => (batch, RowPositions::Run(inside)),
            Some(gone) => {
                let mut keep = vec![true; batch.num_rows()];
                for position in gone {
                    keep[cut(position - inside.start)] = false;
                }
                let positions = inside.clone().filter(|p| keep[cut(p - inside.start)]).collect();
                let mask = BooleanArray::new(BooleanBuffer::from(keep), None);
                (filter_record_batch(&batch, &mask).map_err(arrow)?, RowPositions::Each(positions))
            }
        };
        if batch.num_rows() == 0 {
            return Ok(None);
        }
        Ok(Some((self.adapter.adapt(&batch, &self.fields).map_err(arrow)?, positions)))
    }
}

impl Iterator for FetchedRows {
    type Item = Result<(RecordBatch, RowPositions)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.failed {
                return None;
            }
            let batch = match catch_panic_sync(|| self.reader.next()) {
                Ok(Some(batch)) => batch.map_err(|error| Box::new(error) as Box<dyn Error + Send + Sync>),
                Ok(None) if self.next == self.end => return None,
                Ok(None) => Err(row_count_mismatch(self.next - self.first, self.end - self.first).into()),
                Err(panic) => Err(panic.into()),
            };
            let batch = match batch {
                Ok(batch) => batch,
                Err(source) => {
                    self.failed = true;
                    return Some(Err(self.blame(source)));
                }
            };
            match self.step(batch) {
                Ok(None) => {}
                Ok(Some(found)) => return Some(Ok(found)),
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int32Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
    use esker_format::{NestedField, PrimitiveType, Schema};
    use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::file::properties::WriterProperties;

    use super::*;
    use crate::target_schema;

    /// Returns the decoder of a file with the columns `a` and `b`. `damage` changes the file's bytes, given those of column `b`.
    fn decoder(damage: impl FnOnce(&mut [u8], Range<usize>)) -> FetchedRows {
        let with_id = |name: &str, ty, id: i32| {
            Field::new(name, ty, true).with_metadata([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into())
        };
        let schema = Arc::new(ArrowSchema::new(vec![with_id("a", DataType::Int32, 1), with_id("b", DataType::Utf8, 2)]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from_iter_values(0..1000)),
            Arc::new(StringArray::from_iter_values((0..1000).map(|i| format!("text {i}")))),
        ];
        let level = ZstdLevel::try_new(3).expect("a level");
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, schema.clone(), Some(properties)).expect("a writer");
        writer.write(&RecordBatch::try_new(schema, columns).expect("a batch")).expect("written");
        let footer = writer.close().expect("closed");
        let (start, length) = footer.row_group(0).column(1).byte_range();
        damage(&mut bytes, start as usize..(start + length) as usize);
        let window = FileSlice { start: 0, bytes: bytes.into() };
        let metadata = ArrowReaderMetadata::load(&window, Default::default()).expect("a footer");
        let projection = Projection { mask: ProjectionMask::all(), fields: metadata.schema().fields().clone() };
        let fetched = FetchedRowGroups { path: "s3://lake/f.parquet".to_owned(), metadata, row_groups: 0..1, window };
        let field = |id, name: &str, ty| NestedField::optional(id, name, ty).into();
        let fields = vec![field(1, "a", PrimitiveType::Int), field(2, "b", PrimitiveType::String)];
        let schema = Schema::new(0, fields).expect("a schema");
        let adapter = Arc::new(BatchAdapter::new(target_schema(&schema, &[1, 2]).expect("a target"), &schema, None));
        fetched.rows(adapter, projection, 0..1000, None, 1024).expect("a reader")
    }

    /// Returns the first error of a decoder.
    fn failure(rows: FetchedRows) -> ReadError {
        rows.map(|batch| batch.map(drop)).find_map(Result::err).expect("it fails")
    }

    #[test]
    fn a_page_that_can_not_be_decoded_is_reported_with_its_file_and_column() {
        // The damage is within the compressed bytes of the first page.
        let damaged = decoder(|bytes, column| {
            let at = column.start + column.len() / 3;
            bytes[at..at + 32].fill(0xff);
        });
        let error = failure(damaged).to_string();
        assert!(error.starts_with("s3://lake/f.parquet: column b: "), "{error}");
    }

    #[test]
    fn a_failure_that_no_column_explains_names_the_file_and_no_column() {
        let mut rows = decoder(|_, _| {});
        rows.end += 1;
        let error = failure(rows);
        assert!(matches!(&error, ReadError::Parquet { path, .. } if path == "s3://lake/f.parquet"), "{error}");
        assert!(error.to_string().contains("its pages have 1000 rows"), "{error}");
    }
}
