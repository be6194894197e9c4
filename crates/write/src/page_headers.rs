//! Builds the offset index of a column chunk from its page headers.
//!
//! A copied chunk needs this if its source file has no offset index. Many writers leave the index out, but a file must have it for
//! all of its chunks or for none. Only flat columns are supported, where a page's number of values is its number of rows. Spec:
//! Parquet, `PageHeader`, Thrift's compact protocol.

use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder, ParquetMetaData};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;

/// Checks that all columns of a file are flat, that is, not inside lists or maps.
///
/// Only then does a page header's number of values tell the page's number of rows.
pub fn has_only_flat_columns(footer: &ParquetMetaData) -> bool {
    footer.file_metadata().schema_descr().columns().iter().all(|column| column.max_rep_level() == 0)
}

/// Builds the offset index of a flat column chunk; `bytes` are all bytes of the chunk.
pub(crate) fn offset_index(chunk: &ColumnChunkMetaData, bytes: &[u8]) -> Result<OffsetIndexMetaData, ParquetError> {
    let bad = || ParquetError::General(format!("the page headers of column {} are damaged or inconsistent", chunk.column_path()));
    let mut index = OffsetIndexBuilder::new();
    let (mut at, mut rows) = (0, 0);
    while at < bytes.len() {
        let header = PageHeader::read(&bytes[at..]).ok_or_else(bad)?;
        let length = header.length + usize::try_from(header.compressed_bytes).map_err(|_| bad())?;
        if at + length > bytes.len() {
            return Err(bad());
        }
        if let Some(n) = header.rows {
            let offset = i64::try_from(chunk.byte_range().0 + at as u64).map_err(|_| bad())?;
            index.append_offset_and_size(offset, i32::try_from(length).map_err(|_| bad())?);
            index.append_row_count(n);
            rows += n;
        }
        at += length;
    }
    if rows != chunk.num_values() {
        return Err(bad());
    }
    Ok(index.build())
}

/// The fields of a page header that an offset index needs. Spec: Parquet, `PageHeader`.
struct PageHeader {
    /// Length in bytes of the header itself.
    length: usize,
    /// Length in bytes of the page as stored, without the header.
    compressed_bytes: i32,
    /// Values of a data page, which are rows in a flat column; none for a dictionary page.
    rows: Option<i64>,
}

impl PageHeader {
    /// Reads a page header; none if the bytes are malformed.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut input = CompactReader { bytes, at: 0 };
        let (mut compressed, mut rows, mut field) = (None, None, 0);
        while let Some((ty, id)) = input.field(field)? {
            field = id;
            match (id, ty) {
                // Field 3 is `compressed_page_size`. Type 5 is a 32-bit integer.
                (3, 5) => compressed = i32::try_from(input.zigzag()?).ok(),
                // Fields 5 and 8 are `data_page_header` and `data_page_header_v2`. Type 12 is a struct. Both structs begin with the
                // number of values.
                (5 | 8, 12) => {
                    let mut inner = 0;
                    while let Some((ty, id)) = input.field(inner)? {
                        inner = id;
                        match (id, ty) {
                            (1, 5) => rows = Some(input.zigzag()?),
                            _ => input.skip(ty, 0)?,
                        }
                    }
                }
                _ => input.skip(ty, 0)?,
            }
        }
        Some(Self { length: input.at, compressed_bytes: compressed.filter(|n| *n >= 0)?, rows: rows.filter(|n| *n >= 0) })
    }
}

/// A reader of Thrift's compact protocol, as far as page headers need it.
struct CompactReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl CompactReader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// Reads an unsigned integer of variable length.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// Reads a signed integer of variable length.
    fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// Reads the type and the id of the next field. `before` is the id of the previous field.
    ///
    /// The inner option is none at the end of a struct; the outer one is none if the bytes are malformed.
    fn field(&mut self, before: i64) -> Option<Option<(u8, i64)>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Some(None);
        }
        let id = match byte >> 4 {
            0 => self.zigzag()?,
            delta => before + i64::from(delta),
        };
        Some(Some((byte & 0x0f, id)))
    }

    /// Skips a value of the type `ty`, which is a type code of the compact protocol.
    ///
    /// Returns none if the bytes are malformed, or if values are nested more than 16 levels deep.
    fn skip(&mut self, ty: u8, depth: usize) -> Option<()> {
        if depth > 16 {
            return None;
        }
        match ty {
            // The type of a boolean field is its value.
            1 | 2 => {}
            3 => drop(self.byte()?),
            4..=6 => drop(self.varint()?),
            7 => self.at = self.at.checked_add(8)?,
            8 => {
                let length = usize::try_from(self.varint()?).ok()?;
                self.at = self.at.checked_add(length)?;
            }
            9 | 10 => {
                let head = self.byte()?;
                let n = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                for _ in 0..n {
                    // In lists, a boolean takes a byte.
                    self.skip(if matches!(head & 0x0f, 1 | 2) { 3 } else { head & 0x0f }, depth + 1)?;
                }
            }
            12 => {
                let mut field = 0;
                while let Some((ty, id)) = self.field(field)? {
                    field = id;
                    self.skip(ty, depth + 1)?;
                }
            }
            _ => return None,
        }
        (self.at <= self.bytes.len()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
    use parquet::file::properties::{WriterProperties, WriterVersion};

    use super::*;

    proptest::proptest! {
        /// The index from page headers equals the writer's own index.
        #[test]
        fn the_index_is_the_writers(rows in 1_usize..3000, page in 10_usize..500, v2: bool, dictionary: bool) {
            let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, false)]));
            let a: Int64Array = (0..rows).map(|i| (i % 3 > 0).then_some(i as i64)).collect();
            let b: StringArray = (0..rows).map(|i| Some(format!("value {}", i % 17))).collect();
            let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(a), Arc::new(b)]).expect("a batch");
            let version = if v2 { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 };
            let properties = WriterProperties::builder()
                .set_writer_version(version)
                .set_dictionary_enabled(dictionary)
                .set_data_page_row_count_limit(page)
                .set_write_batch_size(page)
                .build();
            let mut bytes = Vec::new();
            let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties)).expect("a writer");
            writer.write(&batch).expect("written");
            writer.close().expect("closed");
            let bytes = Bytes::from(bytes);
            let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
            let footer = reader.parse_and_finish(&bytes).expect("a footer");
            let theirs = &footer.offset_index().expect("an index")[0];
            for (chunk, theirs) in footer.row_group(0).columns().iter().zip(theirs) {
                let (start, length) = chunk.byte_range();
                let own = offset_index(chunk, &bytes[start as usize..(start + length) as usize]).expect("pages");
                proptest::prop_assert_eq!(own.page_locations(), theirs.page_locations());
            }
        }
    }
}
