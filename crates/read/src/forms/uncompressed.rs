//! The cached form of a column chunk without compression, for chunks that are read again.
//!
//! Its pages are those of the file, decompressed, each with its header. The footer view describes such a chunk at a virtual
//! address beyond the end of any file. The address alone distinguishes it from a chunk as stored. `repacked.rs` uses the same
//! addresses.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::column::page::{CompressedPage, Page, PageReader, PageWriter};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnChunkMetaDataBuilder, OffsetIndexBuilder, ParquetMetaData};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};

use crate::row_group_decoder::FileSlice;

/// The lowest virtual address. Chunks in a cached form are addressed here and above, beyond the end of any file.
pub(crate) const VIRTUAL_BASE: u64 = 1 << 62;

/// Bits by which a chunk's offset in its file is shifted to its virtual address.
///
/// A chunk can thus grow by a factor of 2^20 before it overlaps the next.
const SHIFT: u32 = 20;

/// Greatest offset in a file, in bytes, that has a virtual address.
pub(crate) const LARGEST: u64 = 1 << (61 - SHIFT);

/// The pages of a column chunk without compression, each with its header.
#[derive(Debug)]
pub(crate) struct UncompressedChunk {
    bytes: Bytes,
    /// Length in bytes of the dictionary page, which comes first; 0 if there is none.
    dictionary: u64,
    /// Offset and length in bytes of each data page.
    pages: Vec<(u64, usize)>,
}

/// Returns the virtual base address of the chunk that begins at `start` in its file.
pub(crate) fn virtual_address(start: u64) -> u64 {
    VIRTUAL_BASE + (start << SHIFT)
}

impl UncompressedChunk {
    /// Decompresses a chunk. None if it would take more than `limit` bytes or does not match its description.
    ///
    /// `bytes` are the chunk as stored.
    pub(crate) fn of(footer: &ParquetMetaData, (group, column): (usize, usize), bytes: Bytes, limit: u64) -> Option<Self> {
        let chunk = footer.row_group(group).column(column);
        let (start, length) = chunk.byte_range();
        if bytes.len() as u64 != length || start.saturating_add(length) > LARGEST {
            return None;
        }
        let limit = limit.min((length << SHIFT).saturating_sub(1));
        let plain = Self::decompressed(chunk, footer.row_group(group).num_rows(), bytes, limit).ok()??;
        let known = footer.offset_index().map(|groups| groups.get(group)?.get(column).map(|c| c.page_locations().len()));
        known.is_none_or(|n| n == Some(plain.pages.len())).then_some(plain)
    }

    /// Decompresses the pages of a chunk; none beyond `limit` bytes, or if a dictionary page is not the first.
    fn decompressed(chunk: &ColumnChunkMetaData, rows: i64, bytes: Bytes, limit: u64) -> Result<Option<Self>, ParquetError> {
        let window = FileSlice { start: chunk.byte_range().0, bytes };
        let rows = usize::try_from(rows)?;
        let mut reader = SerializedPageReader::new(Arc::new(window), chunk, rows, None)?;
        let claimed = u64::try_from(chunk.uncompressed_size())?.min(limit);
        let mut sink = TrackedWrite::new(Vec::with_capacity(usize::try_from(claimed)?));
        let mut writer = SerializedPageWriter::new(&mut sink);
        let (mut dictionary, mut pages, mut at) = (0, Vec::new(), 0);
        while let Some(page) = reader.get_next_page()? {
            let is_dictionary = page.is_dictionary_page();
            let page = without_statistics(page);
            let size = page.buffer().len();
            let written = writer.write_page(CompressedPage::new(page, size))?;
            let length = written.bytes_written;
            at += length;
            match is_dictionary {
                true if dictionary > 0 || !pages.is_empty() => return Ok(None),
                true => dictionary = length,
                false => pages.push((written.offset, usize::try_from(length)?)),
            }
            if at > limit {
                return Ok(None);
            }
        }
        let mut bytes = sink.into_inner()?;
        bytes.shrink_to_fit();
        Ok(Some(Self { bytes: bytes.into(), dictionary, pages }))
    }

    /// Returns the bytes held in memory.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns a virtual range of the chunk, whose base address is `base`.
    pub(crate) fn slice(&self, base: u64, range: &Range<u64>) -> parquet::errors::Result<Bytes> {
        let window = FileSlice { start: base, bytes: self.bytes.clone() };
        window.slice(range.start, Some(usize::try_from(range.end.saturating_sub(range.start))?))
    }

    /// Returns the chunk's footer entry, changed to describe this form.
    pub(crate) fn described(&self, chunk: &ColumnChunkMetaData) -> parquet::errors::Result<ColumnChunkMetaData> {
        let length = self.bytes.len() as u64;
        let moved = relocated(chunk, length, self.dictionary)?;
        moved.set_compression(Compression::UNCOMPRESSED).set_total_uncompressed_size(i64::try_from(length)?).build()
    }

    /// Returns the chunk's offset index, changed to this form.
    pub(crate) fn located(&self, chunk: &ColumnChunkMetaData, rows: i64, pages: &OffsetIndexMetaData) -> OffsetIndexMetaData {
        let at = virtual_address(chunk.byte_range().0);
        offset_index(self.pages.iter().map(|(offset, length)| (at + offset, *length as u64)), rows, pages)
    }
}

/// Returns a chunk's footer entry, moved to its virtual address.
///
/// `length` is the length of the form in bytes, and `dictionary` that of its dictionary page.
pub(crate) fn relocated(
    chunk: &ColumnChunkMetaData,
    length: u64,
    dictionary: u64,
) -> parquet::errors::Result<ColumnChunkMetaDataBuilder> {
    let at = i64::try_from(virtual_address(chunk.byte_range().0))?;
    // If the footer has no dictionary offset, the data page offset is that of the first page, of whichever kind.
    let (dictionary, data) = match chunk.dictionary_page_offset() {
        Some(_) => (Some(at), at + i64::try_from(dictionary)?),
        None => (None, at),
    };
    Ok(chunk
        .clone()
        .into_builder()
        .set_total_compressed_size(i64::try_from(length)?)
        .set_index_page_offset(None)
        .set_dictionary_page_offset(dictionary)
        .set_data_page_offset(data))
}

/// Returns a chunk's offset index with other addresses and lengths of its data pages.
pub(crate) fn offset_index(
    moved: impl Iterator<Item = (u64, u64)>,
    rows: i64,
    pages: &OffsetIndexMetaData,
) -> OffsetIndexMetaData {
    let mut index = OffsetIndexBuilder::new();
    let firsts: Vec<i64> = pages.page_locations().iter().map(|p| p.first_row_index).chain([rows]).collect();
    let strings = pages.unencoded_byte_array_data_bytes();
    for (i, (address, length)) in moved.enumerate() {
        index.append_row_count(firsts[i + 1] - firsts[i]);
        let address = i64::try_from(address).unwrap_or(i64::MAX);
        index.append_offset_and_size(address, i32::try_from(length).unwrap_or(i32::MAX));
        index.append_unencoded_byte_array_data_bytes(strings.and_then(|s| s.get(i).copied()));
    }
    index.build()
}

/// Removes the statistics from a page header: readers use those of the page index.
pub(crate) fn without_statistics(mut page: Page) -> Page {
    if let Page::DataPage { statistics, .. } | Page::DataPageV2 { statistics, .. } = &mut page {
        *statistics = None;
    }
    page
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap as Map;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::{DataType, Field, Int32Type, Schema};
    use esker_storage::Storage;
    use futures::TryStreamExt;
    use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection, RowSelector};
    use parquet::arrow::async_reader::AsyncFileReader;
    use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY, ParquetRecordBatchStreamBuilder};
    use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion};

    use super::*;
    use crate::{BlockCache, BlockOptions, ReadStats, Reader, ScanRequest};

    const ROWS: i64 = 40_000;

    fn field(id: i32, name: &str, ty: DataType) -> Field {
        Field::new(name, ty, true).with_metadata(Map::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]))
    }

    /// Returns 24 bits that look random.
    fn mixed(i: i64) -> i64 {
        (i.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) as u64 >> 40) as i64
    }

    /// Returns five columns: numbers, repeated strings, floats with nulls, distinct strings, and lists.
    pub(crate) fn rows(n: i64, words: i64) -> RecordBatch {
        let item = Arc::new(field(6, "item", DataType::Int32));
        let fields = [DataType::Int64, DataType::Utf8, DataType::Float64, DataType::Utf8, DataType::List(item.clone())];
        let fields: Vec<Field> = (1..).zip(fields).map(|(id, ty)| field(id, &format!("c{id}"), ty)).collect();
        let lists = (0..n).map(|i| (i % 7 > 0).then(|| (0..i % 4).map(move |k| Some(i32::try_from(mixed(k * i)).unwrap_or(0)))));
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
        let (_, offsets, values, nulls) = lists.into_parts();
        let columns: Vec<ArrayRef> = vec![
            Arc::new((0..n).map(mixed).collect::<Int64Array>()),
            Arc::new((0..n).map(|i| Some(format!("a word, {}", mixed(i) % words))).collect::<StringArray>()),
            Arc::new((0..n).map(|i| (i % 5 > 0).then_some(mixed(i) as f64 / 3.0)).collect::<Float64Array>()),
            Arc::new((0..n).map(|i| Some(format!("{:x}", i * 2_654_435_761 % 4_294_967_291))).collect::<StringArray>()),
            Arc::new(ListArray::new(item, offsets, values, nulls)),
        ];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("rows")
    }

    pub(crate) fn written(rows: &RecordBatch, properties: WriterPropertiesBuilder) -> Vec<u8> {
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties.build())).expect("a writer");
        writer.write(rows).expect("written");
        writer.into_inner().expect("closed")
    }

    /// Returns the rows that a scan reads, and its footer view.
    pub(crate) async fn read(
        reader: &Reader,
        path: &str,
        size: u64,
        wanted: &ScanRequest,
        chosen: Option<RowSelection>,
    ) -> (RecordBatch, Arc<ParquetMetaData>) {
        let stats = Arc::new(ReadStats::default());
        let mut input = reader.cached_file(path, size, &stats).expect("an input").for_scan(wanted.clone());
        let shown = input.get_metadata(None).await.expect("a footer");
        let options = ArrowReaderOptions::new();
        let metadata = ArrowReaderMetadata::try_new(shown.clone(), options).expect("metadata");
        // Another reader, as DataFusion's scan has it.
        let second = reader.cached_file(path, size, &stats).expect("an input").for_scan(wanted.clone());
        drop(input);
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(second, metadata);
        if let Some(chosen) = chosen {
            builder = builder.with_row_selection(chosen);
        }
        let schema = builder.schema().clone();
        let batches: Vec<RecordBatch> = builder.build().expect("a stream").try_collect().await.expect("read");
        (concat_batches(&schema, &batches).expect("one batch"), shown)
    }

    fn plain(shown: &ParquetMetaData) -> usize {
        let chunks = shown.row_groups().iter().flat_map(|g| g.columns());
        chunks.filter(|c| c.compression() == Compression::UNCOMPRESSED).count()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn chunks_that_are_read_again_are_kept_without_compression_and_hold_the_same_rows() {
        let (dir, rows) = (tempfile::tempdir().expect("a directory"), rows(ROWS, 300));
        let compressions = [
            Compression::SNAPPY,
            Compression::GZIP(Default::default()),
            Compression::BROTLI(Default::default()),
            Compression::LZ4_RAW,
            Compression::ZSTD(Default::default()),
        ];
        for (i, compression) in compressions.into_iter().enumerate() {
            for (version, page_index) in [(WriterVersion::PARQUET_1_0, i % 2 == 0), (WriterVersion::PARQUET_2_0, i % 2 == 1)] {
                let statistics = if page_index { EnabledStatistics::Page } else { EnabledStatistics::Chunk };
                let properties = WriterProperties::builder()
                    .set_compression(compression)
                    .set_writer_version(version)
                    .set_statistics_enabled(statistics)
                    .set_offset_index_disabled(!page_index)
                    .set_data_page_row_count_limit(3_000)
                    .set_max_row_group_row_count(Some(15_000));
                let bytes = written(&rows, properties);
                let path = dir.path().join(format!("{i}-{page_index}.parquet"));
                std::fs::write(&path, &bytes).expect("written");
                let (path, size) = (format!("file://{}", path.display()), bytes.len() as u64);
                let blocks = BlockCache::open(&BlockOptions { memory_bytes: 64 << 20, disk: None }).expect("a cache");
                let reader = Reader::new(Storage::local(), 16 << 20, blocks);
                let wanted = ScanRequest::columns(Arc::new([1, 2, 3, 4, 5]));

                let (first, footer) = read(&reader, &path, size, &wanted, None).await;
                assert_eq!((plain(&footer), &first.columns()), (0, &rows.columns()));
                // Chunks that did not shrink stay as stored. Each of the others is decompressed after it was found again.
                let mut shown = 0;
                for _ in 0..100 {
                    let (again, footer) = read(&reader, &path, size, &wanted, None).await;
                    assert_eq!(again.columns(), rows.columns());
                    shown = plain(&footer);
                    if shown >= 9 {
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
                assert!(shown >= 9, "{shown} of 15 chunks without compression: {compression}");

                // A selection of rows is read by page if there is a page index.
                let chosen = [(true, 10_000), (false, 10), (true, 9_000), (false, 20_990)];
                let chosen: RowSelection = chosen.map(|(skip, n)| RowSelector { row_count: n, skip }).to_vec().into();
                let (some, _) = read(&reader, &path, size, &wanted, Some(chosen)).await;
                let expected = concat_batches(&rows.schema(), &[rows.slice(10_000, 10), rows.slice(19_010, 20_990)]);
                assert_eq!(some.columns(), expected.expect("one batch").columns());

                // A split of the file: the second of three row groups.
                let start =
                    reader.footer(&path, size, &Arc::default()).await.expect("a footer").row_group(1).column(0).byte_range().0;
                let part = ScanRequest { split: Some(start..start + 1), ..wanted.clone() };
                let (group, footer) = read(&reader, &path, size, &part, None).await;
                assert_eq!(group.columns(), rows.slice(15_000, 15_000).columns());
                assert!((3..=5).contains(&plain(&footer)), "{}", plain(&footer));
                let usage = reader.blocks().usage();
                assert!(usage.memory_bytes <= 64 << 20 && usage.memory_hits > 0, "{usage:?}");
            }
        }
    }
}
