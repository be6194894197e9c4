//! Tests reads of damaged pages: they end in all rows, or in an error that names file and column.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int32Array, ListArray, MapArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema as ArrowSchema};
use esker_format::{ListType, MapType, NestedField, PrimitiveType, Schema, Type};
use esker_storage::Storage;
use esker_types::Coded;
use futures::TryStreamExt;
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::file::properties::{WriterProperties, WriterVersion};

use crate::{BatchAdapter, BlockCache, BlockOptions, FileScan, ReadStats, Reader, target_schema};

const ROWS: usize = 400;

fn with_id(name: &str, ty: DataType, id: i32) -> Field {
    Field::new(name, ty, true).with_metadata([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into())
}

fn rotated<T>(mut all: Vec<T>) -> Vec<T> {
    all.rotate_right(1);
    all
}

fn map() -> MapArray {
    let keys = with_id("key", DataType::Int32, 7).with_nullable(false);
    let fields = Fields::from(vec![keys, with_id("value", DataType::Utf8, 8)]);
    let pairs = (0..ROWS as i32).map(|i| i % 7).collect::<Int32Array>();
    let texts = (0..ROWS).map(|i| (i % 3 > 0).then(|| format!("value {i}"))).collect::<StringArray>();
    let entries = StructArray::new(fields.clone(), vec![Arc::new(pairs), Arc::new(texts)], None);
    let entry = Arc::new(Field::new("key_value", DataType::Struct(fields), false));
    MapArray::new(entry, OffsetBuffer::from_lengths(vec![1; ROWS]), entries, None, false)
}

/// A file and the ranges of its column chunks.
fn file(properties: WriterProperties) -> (Vec<u8>, Vec<std::ops::Range<usize>>) {
    let item = Arc::new(with_id("element", DataType::Int32, 4));
    let map = map();
    let fields = vec![
        with_id("a", DataType::Int32, 1),
        with_id("s", DataType::Utf8, 2),
        with_id("l", DataType::List(item.clone()), 3),
        with_id("b", DataType::Boolean, 5),
        with_id("m", map.data_type().clone(), 6),
    ];
    let some = |i: usize| i % 5 != 2;
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(
        (0..ROWS).map(|i| some(i).then(|| (0..i % 4).map(|n| some(n).then_some(n as i32)).collect::<Vec<_>>())),
    );
    let (_, offsets, values, nulls) = lists.into_parts();
    let columns: Vec<ArrayRef> = vec![
        Arc::new((0..ROWS).map(|i| some(i).then_some(i as i32)).collect::<Int32Array>()),
        Arc::new((0..ROWS).map(|i| some(i).then(|| format!("text {}", i % 50))).collect::<StringArray>()),
        Arc::new(ListArray::new(item, offsets, values, nulls)),
        Arc::new((0..ROWS).map(|i| some(i).then_some(i % 3 == 0)).collect::<BooleanArray>()),
        Arc::new(map),
    ];
    // The map is the first column that the search decodes.
    let (fields, columns) = (rotated(fields), rotated(columns));
    let schema = Arc::new(ArrowSchema::new(fields));
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema.clone(), Some(properties)).expect("a writer");
    writer.write(&RecordBatch::try_new(schema, columns).expect("a batch")).expect("written");
    let footer = writer.close().expect("closed");
    let range = |(start, length): (u64, u64)| start as usize..(start + length) as usize;
    let ranges = footer.row_group(0).columns().iter().map(|c| range(c.byte_range())).collect();
    (bytes, ranges)
}

fn adapter() -> Arc<BatchAdapter> {
    fn field(id: i32, name: &str, ty: impl Into<Type>) -> Arc<NestedField> {
        Arc::new(NestedField::optional(id, name, ty))
    }
    let fields = vec![
        field(1, "a", PrimitiveType::Int),
        field(2, "s", PrimitiveType::String),
        field(3, "l", ListType::new(4, PrimitiveType::Int, false)),
        field(5, "b", PrimitiveType::Boolean),
        field(6, "m", MapType::new((7, PrimitiveType::Int.into()), (8, PrimitiveType::String.into()), false)),
    ];
    let schema = Schema::new(0, fields).expect("a schema");
    Arc::new(BatchAdapter::new(target_schema(&schema, &[1, 2, 3, 5, 6]).expect("a target"), &schema, None))
}

/// The number of rows, or the error, of two ways of reading: by row group and as a stream.
async fn read(reader: &Reader, path: &str, size: u64) -> [crate::Result<usize>; 2] {
    let stats = Arc::new(ReadStats::default());
    let open = reader.open(path, size, &stats).await.expect("the footer is whole");
    let (adapter, projection) = (adapter(), open.projection(&adapter()));
    let fetched = open.fetch(0..1).await.expect("fetched");
    let by_group = fetched
        .rows(adapter.clone(), projection, 0..ROWS as u64, None, 64)
        .and_then(|rows| rows.map(|batch| batch.map(|(batch, _)| batch.num_rows())).sum::<crate::Result<usize>>());
    let scan = FileScan { adapter, row_groups: None, deleted: None, batch_size: 64 };
    let streamed = match open.stream(scan) {
        Ok(batches) => batches.try_fold(0, |n, batch| async move { Ok(n + batch.num_rows()) }).await,
        Err(e) => Err(e),
    };
    [by_group, streamed]
}

#[tokio::test]
async fn damaged_pages_end_in_rows_or_in_errors_that_name_file_and_column() {
    let dir = tempfile::tempdir().expect("a directory");
    let blocks = BlockCache::open(&BlockOptions { memory_bytes: 1 << 20, disk: None }).await.expect("a cache");
    let reader = Reader::new(Storage::local(), 1 << 20, blocks);
    let (mut whole, mut damaged) = (0, 0);
    for (i, version) in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0].into_iter().enumerate() {
        for dictionary in [true, false] {
            let properties = WriterProperties::builder().set_writer_version(version).set_dictionary_enabled(dictionary);
            let (bytes, chunks) = file(properties.set_data_page_row_count_limit(150).build());
            let mut random = 0x9e37_79b9_7f4a_7c15_u64;
            for n in 0..100 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let chunk = &chunks[n % chunks.len()];
                // Page headers and levels are at the beginning of a chunk.
                let length = if n % 3 == 0 { chunk.len() } else { chunk.len().min(40) };
                let mut bytes = bytes.clone();
                bytes[chunk.start + random as usize % length] ^= 1 << (random >> 60 & 7);
                let at = dir.path().join(format!("{i}-{dictionary}-{n}.parquet"));
                std::fs::write(&at, &bytes).expect("written");
                let path = format!("file://{}", at.display());
                for found in read(&reader, &path, bytes.len() as u64).await {
                    match found {
                        Ok(rows) => {
                            assert_eq!(rows, ROWS, "{path}");
                            whole += 1;
                        }
                        Err(error) => {
                            let column = ["m", "m", "a", "s", "l.list.element", "b"][n % chunks.len()];
                            let text = error.to_string();
                            assert!(text.starts_with(&format!("{path}: column {column}: ")), "{text}");
                            assert!(!error.code().is_transient() && error.file() == Some((path.as_str(), true)), "{text}");
                            damaged += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(whole > 100 && damaged > 100, "{whole} {damaged}");
}
