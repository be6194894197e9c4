//! Names the file and the column of a decoding error.
//!
//! Parquet's decoder names neither, and panics on some damaged pages. So panics are caught, and after an error each column is
//! decoded alone to find the one that fails. The decoder also trusts the pages' own row counts; another number of rows than the
//! footer's is an error here.

use std::error::Error;

use esker_types::{Panicked, catch_panic, format_count};
use futures::stream::{BoxStream, Stream, StreamExt, TryStreamExt, unfold};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::basic::{ConvertedType, LogicalType};
use parquet::errors::ParquetError;
use parquet::schema::types::{SchemaDescriptor, Type as ParquetType};

use crate::ReadError;
use crate::layout::row_count;

/// Wraps a decoder's panic as one of its errors.
pub fn panic_as_parquet_error(panic: Panicked) -> ParquetError {
    ParquetError::External(Box::new(panic))
}

/// Wraps a stream so that a panic becomes an error and the first error ends the stream.
///
/// `of_panic` makes the error. A stream that failed is dropped and never polled again.
pub fn catch_panics<T: Send + 'static, E: Send + 'static>(
    stream: impl Stream<Item = Result<T, E>> + Send + 'static,
    of_panic: impl Fn(Panicked) -> E + Send + Sync + Copy + 'static,
) -> BoxStream<'static, Result<T, E>> {
    let next = move |stream: Option<BoxStream<'static, Result<T, E>>>| async move {
        let mut stream = stream?;
        match catch_panic(stream.next()).await {
            Ok(Some(Ok(item))) => Some((Ok(item), Some(stream))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(panic) => Some((Err(of_panic(panic)), None)),
        }
    };
    unfold(Some(stream.boxed()), next).boxed()
}

/// Makes the error for pages that hold another number of rows than the footer says.
pub(crate) fn row_count_mismatch(rows: u64, expected: u64) -> ParquetError {
    ParquetError::General(format!("its pages have {}, and the footer says {expected}", format_count(rows, "row")))
}

/// Removes the Parquet wrapper from an error of another library or layer.
fn bare(error: ParquetError) -> Box<dyn Error + Send + Sync> {
    match error {
        ParquetError::External(inner) => inner,
        error => Box::new(error),
    }
}

impl ReadError {
    /// Makes a [`ReadError::Decoding`] from a decoder's error.
    pub(crate) fn decoding(path: &str, column: String, error: ParquetError) -> Self {
        Self::Decoding { path: path.to_owned(), column, source: bare(error) }
    }
}

/// Makes the error for a failure that no single column shows.
///
/// A panic is then a bug of Esker: [`ReadError::Panicked`].
pub(crate) fn unexplained(path: &str, error: ParquetError) -> ReadError {
    match error {
        ParquetError::External(inner) => match inner.downcast::<Panicked>() {
            Ok(panic) => ReadError::Panicked { path: path.to_owned(), panic: *panic },
            Err(inner) => ReadError::parquet(path, ParquetError::External(inner)),
        },
        error => ReadError::parquet(path, error),
    }
}

/// Splits columns into parts that can be decoded alone, each with its name and leaf indexes.
///
/// A part is a leaf, or a whole map: its keys and values can only be decoded together.
pub(crate) fn decodable_parts(descriptor: &SchemaDescriptor, columns: &ProjectionMask) -> Vec<(String, Vec<usize>)> {
    let leaves = (0..descriptor.num_columns()).filter(|leaf| columns.leaf_included(*leaf));
    let mut parts: Vec<_> = leaves.map(|leaf| part_of_leaf(descriptor, leaf)).collect();
    // The leaves of a map follow one another.
    parts.dedup();
    parts
}

/// Returns the part of a leaf: all leaves of the outermost map around it, or the leaf itself.
fn part_of_leaf(descriptor: &SchemaDescriptor, leaf: usize) -> (String, Vec<usize>) {
    let path = |leaf: usize| descriptor.column(leaf).path().parts().to_vec();
    let own = path(leaf);
    let Some(depth) = map_depth(descriptor.get_column_root(leaf), &own) else { return (own.join("."), vec![leaf]) };
    let map = &own[..depth];
    (map.join("."), (0..descriptor.num_columns()).filter(|other| path(*other).starts_with(map)).collect())
}

/// Returns the number of names in a path up to the outermost map.
fn map_depth(root: &ParquetType, path: &[String]) -> Option<usize> {
    let mut node = root;
    for depth in 1..=path.len() {
        let info = node.get_basic_info();
        if info.logical_type_ref() == Some(&LogicalType::Map)
            || matches!(info.converted_type(), ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE)
        {
            return Some(depth);
        }
        let next = path.get(depth)?;
        node = if node.is_group() { node.get_fields().iter().find(|field| field.name() == next)? } else { return None };
    }
    None
}

/// Adds the file's location and the column to a decoder's error on some columns and row groups.
///
/// Decodes each column alone to find the one that fails, with `metadata` as the footer of `file`.
pub(crate) async fn blame(
    path: &str,
    file: &(impl AsyncFileReader + Clone + Unpin + 'static),
    metadata: &ArrowReaderMetadata,
    columns: &ProjectionMask,
    row_groups: &[usize],
    error: ParquetError,
) -> ReadError {
    // A storage error is about no column.
    let source = match ReadError::parquet(path, error) {
        ReadError::Parquet { source, .. } => source,
        other => return other,
    };
    let descriptor = metadata.parquet_schema();
    let expected = row_count(metadata.metadata(), row_groups);
    for (column, leaves) in decodable_parts(descriptor, columns) {
        let only = ProjectionMask::leaves(descriptor, leaves);
        let decoded = async {
            let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(file.clone(), metadata.clone());
            let batches = builder.with_projection(only).with_row_groups(row_groups.to_vec()).build()?;
            let rows = batches.try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows() as u64) }).await?;
            if rows == expected { Ok(()) } else { Err(row_count_mismatch(rows, expected)) }
        };
        let Err(found) = catch_panic(decoded).await.unwrap_or_else(|panic| Err(panic_as_parquet_error(panic))) else {
            continue;
        };
        return match ReadError::parquet(path, found) {
            ReadError::Parquet { source, .. } => ReadError::decoding(path, column, source),
            other => other,
        };
    }
    unexplained(path, source)
}
