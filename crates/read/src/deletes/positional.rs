//! Reads deletion vectors and position delete files.
//!
//! A delete file is read once and its positions are cached by data file path ([`DeletedPositions`]), however many data files a
//! scan has. Content that contradicts the manifest entry or the specification is an error, never ignored. Start with
//! [`Reader::deleted_positions`]. Spec: "Position Delete Files", "Deletion Vectors", "Scan Planning".

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use esker_format::DataFileFormat;
pub use esker_table::FILE_PATH_FIELD_ID;
use esker_table::{DeleteIndex, DeleteKind, DeletedPositions, LiveDelete, LiveFile, decode_vector};
use futures::stream::{StreamExt, TryStreamExt};
use roaring::RoaringTreemap;

use crate::{ReadError, ReadStats, Reader, Result, field_id};

/// Field id of the column `pos` in position delete files. Spec: "Reserved Field IDs".
pub const POS_FIELD_ID: i32 = 2_147_483_545;

/// Number of delete files that are read concurrently.
const CONCURRENCY: usize = 8;

/// Checks that Esker can read a delete file, by its manifest entry.
///
/// # Errors
///
/// Returns [`ReadError::Unsupported`] if the file is encrypted, or if it holds position or equality deletes in another format
/// than Parquet.
pub fn check_readable(delete: &LiveDelete) -> Result<()> {
    let file = &delete.entry.file;
    match (delete.kind, &file.file_format) {
        _ if file.key_metadata.is_some() => Err(ReadError::unsupported(&file.file_path, "encrypted files are not supported")),
        (DeleteKind::DeletionVector, _) | (_, DataFileFormat::Parquet) => Ok(()),
        (_, format) => {
            let what = format!("deletes in {format} files can't be read; rewrite them with an engine that can");
            Err(ReadError::unsupported(&file.file_path, what))
        }
    }
}

impl Reader {
    /// Returns the positions that deletion vectors and position delete files delete, by data file path.
    ///
    /// Reads each delete file once, whatever the number of data files. `index` decides which deletes apply to a file. A deletion
    /// vector replaces all position delete files of its data file. Data files without deleted positions have no entry. Spec:
    /// "Scan Planning".
    ///
    /// # Errors
    ///
    /// - Returns the errors of [`check_readable`] and [`Reader::check_open`], and [`ReadError::Unsupported`] if a position delete
    ///   file has no field ids and the table has no usable name mapping.
    /// - Returns [`ReadError::Damaged`] or [`ReadError::Arrow`] if a file's content is not that of a delete file.
    /// - Returns [`ReadError::Storage`], [`ReadError::Parquet`], [`ReadError::Decoding`] or [`ReadError::Panicked`] if a file
    ///   can't be fetched or decoded.
    pub async fn deleted_positions(
        &self,
        files: &[LiveFile],
        index: &DeleteIndex<'_>,
        stats: &Arc<ReadStats>,
    ) -> Result<HashMap<String, RoaringTreemap>> {
        let by_path: HashMap<&str, &LiveFile> = files.iter().map(|f| (f.file.file_path.as_str(), f)).collect();
        let mut found: HashMap<String, RoaringTreemap> = HashMap::new();
        let deletes = index.positional_deletes_of_any(files);
        let one = |delete: &'_ LiveDelete| {
            let delete = delete.clone();
            async move {
                let positions = self.positions_in(&delete, stats).await?;
                Ok::<_, ReadError>((delete, positions))
            }
        };
        let futures: Vec<_> = deletes.into_iter().map(one).collect();
        let mut read = futures::stream::iter(futures).buffer_unordered(CONCURRENCY);
        while let Some((delete, positions)) = read.try_next().await? {
            let applies = |path: &str| {
                let file = by_path.get(path)?;
                // A deletion vector holds all deletes of its data file: position delete files no longer count.
                let superseded = delete.kind == DeleteKind::Position && index.vector(file).is_some();
                (!superseded && index.may_apply(&delete, file)).then_some(())
            };
            for (path, rows) in positions.iter().filter(|(path, _)| applies(path).is_some()) {
                *found.entry(path.clone()).or_default() |= rows;
            }
        }
        Ok(found)
    }

    /// Returns the positions that one deletion vector or position delete file deletes, by data file path, from the cache if they
    /// are there.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Reader::deleted_positions`].
    pub async fn positions_in(&self, delete: &LiveDelete, stats: &Arc<ReadStats>) -> Result<Arc<DeletedPositions>> {
        check_readable(delete)?;
        let file = &delete.entry.file;
        // The caches have what other readers opened.
        self.check_open(&file.file_path).await?;
        let (path, size) = (file.file_path.as_str(), file.size());
        if delete.kind == DeleteKind::DeletionVector {
            let about = file.referenced_data_file.clone().unwrap_or_default();
            let key = format!("{path}#{}", file.content_offset.unwrap_or_default());
            let read = async { Ok(DeletedPositions::from([(about, self.read_deletion_vector(delete, stats).await?)])) };
            self.deletes.positions(key, read).await
        } else {
            self.deletes.positions(path.to_owned(), self.read_positions(path, size, stats)).await
        }
    }

    /// Reads one deletion vector.
    ///
    /// Checks the blob's length, checksum and number of positions. Spec: "Deletion Vectors"; Puffin, "deletion-vector-v1 blob
    /// type".
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::Damaged`] if the manifest entry has no offset or size, the blob is malformed, or it holds another
    /// number of positions than the entry says. Returns [`ReadError::Storage`] if the blob can't be fetched.
    pub async fn read_deletion_vector(&self, delete: &LiveDelete, stats: &Arc<ReadStats>) -> Result<RoaringTreemap> {
        let file = &delete.entry.file;
        let path = file.file_path.as_str();
        let place = file.content_offset.zip(file.content_size_in_bytes);
        let place = place.and_then(|(at, len)| Some((u64::try_from(at).ok()?, u64::try_from(len).ok()?)));
        let (start, length) = place.ok_or_else(|| ReadError::damaged(path, "a deletion vector without offset and size"))?;
        ReadStats::add(&stats.requests, 1);
        ReadStats::add(&stats.bytes_read, length);
        let blob = self.storage().read_range(path, start..start.saturating_add(length)).await?;
        let positions = decode_vector(&blob).map_err(|e| ReadError::damaged(path, e.to_string()))?;
        if let Some(said) = file.rows().filter(|said| *said != positions.len()) {
            let what = format!("a deletion vector of {} positions, though its manifest entry counts {said}", positions.len());
            return Err(ReadError::damaged(path, what));
        }
        Ok(positions)
    }

    /// Reads all positions of a position delete file of `size` bytes, by data file path.
    async fn read_positions(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<DeletedPositions> {
        let open = self.open(path, size, stats).await?;
        let column = |id: i32| {
            let found = open.fields().iter().position(|f| field_id(f) == Some(id));
            found.ok_or_else(|| ReadError::damaged(path, format!("a position delete file without field {id}")))
        };
        let (path_column, position_column) = (column(FILE_PATH_FIELD_ID)?, column(POS_FIELD_ID)?);
        let mut stream = open.raw_stream(&[path_column, position_column])?;
        let arrow = |source| ReadError::Arrow { path: path.to_owned(), source };
        let mut positions = DeletedPositions::new();
        while let Some(batch) = stream.try_next().await? {
            let (mut paths, mut rows) = (batch.column(0), batch.column(1));
            if path_column > position_column {
                std::mem::swap(&mut paths, &mut rows);
            }
            let (paths, rows) = (cast(paths, &DataType::Utf8).map_err(arrow)?, cast(rows, &DataType::Int64).map_err(arrow)?);
            let (Some(paths), Some(rows)) =
                (paths.as_any().downcast_ref::<StringArray>(), rows.as_any().downcast_ref::<Int64Array>())
            else {
                return Err(ReadError::damaged(path, "a position delete file with columns of other types"));
            };
            for (data_path, row) in paths.iter().zip(rows) {
                let (Some(data_path), Some(Ok(row))) = (data_path, row.map(u64::try_from)) else {
                    return Err(ReadError::damaged(path, "a position delete without a path or with a negative position"));
                };
                match positions.get_mut(data_path) {
                    Some(set) => set.insert(row),
                    None => positions.entry(data_path.to_owned()).or_default().insert(row),
                };
            }
        }
        Ok(positions)
    }
}
