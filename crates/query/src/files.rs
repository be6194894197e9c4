//! Turns the data files of a snapshot into the files and groups that DataFusion's Parquet scan takes.
//!
//! A large file becomes several parts. Each part carries its statistics and, as extensions, its deleted rows ([`DeletedRows`]), the
//! expressions of its partition ([`PartitionAdapter`]) and its name in the catalog ([`KnownFile`]). Start reading at `partitioned`.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileGroup;
use esker_format::{PartitionField, Schema, TableMetadata};
use esker_read::{Defaults, FieldNames, ReadError, ReadStats, Reader, ScanRequest, field_id, row_group_rows, row_groups_in};
use esker_table::{LiveFile, PartitionKey};
use futures::stream::{StreamExt, TryStreamExt};
use roaring::RoaringTreemap;

use crate::adapter::FieldIdAdapterFactory;
use crate::deleted::DeletedRows;
use crate::prune::Within;
use crate::ranges::FileBounds;
use crate::source::KnownFile;

/// Minimum size in bytes of a part of a file, so that it is worth a task of its own.
const SPLIT_BYTES: u64 = 8 << 20;

/// A file with at least one deleted row in this many rows is taken to have some on every page.
const ROWS_PER_DELETED_ROW: u64 = 64;

/// Number of footers that are read at the same time, where deletes need them before the scan begins.
const FOOTERS: usize = 16;

/// The description of what a scan reads of a table.
pub(crate) struct Scan<'a> {
    pub(crate) metadata: &'a TableMetadata,
    /// The schema that the table is read with.
    pub(crate) iceberg: &'a Schema,
    /// The columns as queries see them.
    pub(crate) schema: &'a SchemaRef,
    /// The columns as they are scanned, with field ids at every depth.
    pub(crate) target: &'a SchemaRef,
    /// Indices in `schema` of the columns that are read.
    pub(crate) wanted: &'a [usize],
    /// True if the scan has filters.
    pub(crate) filtered: bool,
    /// The conditions of the filters on what is nested in columns.
    pub(crate) within: &'a Within,
    /// The field ids of columns in files that store none.
    pub(crate) names: &'a Arc<FieldNames>,
}

/// The expression adapter for the files of one partition, whose values stand for columns that the files lack.
#[derive(Debug, Clone)]
pub(crate) struct PartitionAdapter(pub(crate) Arc<FieldIdAdapterFactory>);

impl Scan<'_> {
    /// Creates the adapters for the partitions of some files.
    ///
    /// Only partitions need one that have identity fields of columns read, because only these give values of columns.
    fn in_partitions<'f>(&self, files: &'f [LiveFile]) -> HashMap<PartitionKey<'f>, PartitionAdapter> {
        let mut found = HashMap::new();
        let is_read = |id: i32| self.wanted.iter().any(|i| field_id(self.schema.field(*i)) == Some(id));
        // A field that is nested in a column may be read with the column.
        let is_within = |id: i32| self.iceberg.as_struct().field_by_id(id).is_none();
        let says =
            |f: &PartitionField| f.transform().is_identity() && f.source_id().is_some_and(|id| is_read(id) || is_within(id));
        for file in files {
            let Some(spec) = self.metadata.partition_spec_by_id(file.spec_id) else { continue };
            if spec.fields().iter().any(says) {
                found.entry(PartitionKey::of(file)).or_insert_with(|| {
                    let partition = Some((spec.as_ref(), &*file.file.partition));
                    let defaults = Defaults::new(self.iceberg, self.target.fields(), partition);
                    let (target, names) = (self.target.clone(), self.names.clone());
                    PartitionAdapter(Arc::new(FieldIdAdapterFactory { defaults: Arc::new(defaults), target, names }))
                });
            }
        }
        found
    }

    /// Checks whether a float column that is read may hold NaN; only a NaN count of zero rules it out.
    fn may_hold_nan(&self, file: &LiveFile) -> bool {
        let float = |f: &&Field| matches!(f.data_type(), DataType::Float32 | DataType::Float64);
        let count = |f: &Field| file.file.stats(field_id(f)?)?.nan_count;
        self.wanted.iter().map(|i| self.schema.field(*i)).filter(float).any(|f| count(f) != Some(0))
    }

    /// Returns the statistics of a file for the optimiser. `rows` is the number of rows that are not deleted.
    fn statistics(&self, file: &LiveFile, rows: Option<u64>) -> Statistics {
        let bounds = FileBounds::new(self.metadata, file);
        let mut columns = vec![ColumnStatistics::new_unknown(); self.schema.fields().len()];
        for i in self.wanted {
            columns[*i] = bounds.statistics(self.schema.field(*i));
        }
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Statistics {
            num_rows: rows.map_or(Precision::Absent, |rows| Precision::Exact(count(rows))),
            total_byte_size: Precision::Inexact(count(file.file.size())),
            column_statistics: columns,
        }
    }
}

/// Returns each file, or each part of a large one, with its statistics and its deleted rows, in the order of `files`.
///
/// Files without remaining rows are left out.
pub(crate) async fn partitioned(
    scan: &Scan<'_>,
    files: &[LiveFile],
    deleted: &HashMap<String, Arc<RoaringTreemap>>,
    reader: &Reader,
    stats: &Arc<ReadStats>,
) -> esker_read::Result<Vec<PartitionedFile>> {
    let columns: Arc<[i32]> = scan.wanted.iter().filter_map(|i| field_id(scan.schema.field(*i))).collect();
    let (columns, in_partitions) = (&columns, &scan.in_partitions(files));
    let one = |file: LiveFile| async move {
        let (path, size) = (file.file.file_path.as_str(), file.file.size());
        let gone = deleted.get(path);
        let all = file.file.rows();
        let rows = all.map(|all| all.saturating_sub(gone.map_or(0, |set| set.len())));
        if rows == Some(0) {
            return Ok(Vec::new());
        }
        // The remaining rows need all pages. The scan would compute that for each column, which takes a tenth of its time.
        let riddled =
            !scan.filtered && gone.zip(all).is_some_and(|(set, all)| set.len().saturating_mul(ROWS_PER_DELETED_ROW) >= all);
        let nan = scan.may_hold_nan(&file);
        let statistics = Arc::new(scan.statistics(&file, rows));
        let in_partition = in_partitions.get(&PartitionKey::of(&file));
        let deleted = match gone.is_some() || scan.within.is_some() {
            true => {
                let footer = reader.footer(path, size, stats).await?;
                let left_out = scan.within.left_out(&footer);
                let gone = match gone {
                    Some(gone) if left_out.is_empty() => Arc::clone(gone),
                    Some(gone) => Arc::new(gone.as_ref() | left_out),
                    None => Arc::new(left_out),
                };
                if gone.len() == footer.file_metadata().num_rows().unsigned_abs() {
                    return Ok(Vec::new());
                }
                Some((row_group_rows(&footer), footer, gone)).filter(|(_, _, gone)| !gone.is_empty())
            }
            false => None,
        };
        let part = |part: Option<Range<u64>>| {
            let mut file = PartitionedFile::new(path, size);
            file.statistics = Some(statistics.clone());
            if let Some((ranges, footer, gone)) = &deleted {
                let groups = row_groups_in(footer, part.as_ref()).into_iter().map(|group| ranges[group].clone()).collect();
                file = file.with_extension(DeletedRows { groups, rows: Arc::clone(gone) });
            }
            if let Some(in_partition) = in_partition {
                file = file.with_extension(in_partition.clone());
            }
            let mut wanted = ScanRequest::columns(columns.clone());
            (wanted.split, wanted.may_hold_nan, wanted.all_pages) = (part, nan, riddled);
            file.with_extension(KnownFile { uri: path.into(), wanted })
        };
        Ok::<_, ReadError>(parts(&file).into_iter().map(part).collect::<Vec<_>>())
    };
    let futures: Vec<_> = files.iter().cloned().map(one).collect();
    let all: Vec<_> = futures::stream::iter(futures).buffered(FOOTERS).try_collect().await?;
    Ok(all.into_iter().flatten().collect())
}

/// Splits a large file into byte ranges that begin at row groups, or about there; `None` stands for a whole file.
///
/// A row group belongs to the part in which it begins.
fn parts(file: &LiveFile) -> Vec<Option<Range<u64>>> {
    let size = file.file.size();
    let offsets: Vec<u64> = match &file.file.split_offsets {
        Some(offsets) if !offsets.is_empty() => offsets.iter().filter_map(|o| u64::try_from(*o).ok()).collect(),
        _ => (0..size / SPLIT_BYTES).map(|i| i * SPLIT_BYTES).collect(),
    };
    let mut cuts: Vec<u64> = vec![0];
    for offset in offsets {
        if offset >= cuts[cuts.len() - 1].saturating_add(SPLIT_BYTES) && offset < size {
            cuts.push(offset);
        }
    }
    if cuts.len() == 1 {
        return vec![None];
    }
    cuts.push(size);
    cuts.windows(2).map(|cut| Some(cut[0]..cut[1])).collect()
}

/// Returns the number of bytes that a file, or its part, stands for.
fn bytes(file: &PartitionedFile) -> u64 {
    let part = file.extension::<KnownFile>().and_then(|known| known.wanted.split.as_ref());
    part.map_or(file.object_meta.size, |part| part.end - part.start)
}

/// Distributes files over as many groups as are scanned at the same time, with about the same number of bytes each.
pub(crate) fn groups(mut files: Vec<PartitionedFile>, parallel: usize) -> Vec<FileGroup> {
    let n = parallel.clamp(1, files.len().max(1));
    files.sort_by_key(|file| std::cmp::Reverse(bytes(file)));
    let mut groups: Vec<(u64, Vec<PartitionedFile>)> = (0..n).map(|_| (0, Vec::new())).collect();
    for file in files {
        if let Some(least) = groups.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            least.0 += bytes(&file).max(1);
            least.1.push(file);
        }
    }
    groups.into_iter().map(|(_, files)| FileGroup::new(files)).collect()
}

#[cfg(test)]
mod tests {
    use esker_format::{DataContentType, DataFile, DataFileFormat};
    use proptest::prelude::*;

    use super::*;

    fn file(size: u64, offsets: Option<Vec<i64>>) -> LiveFile {
        let size = size.try_into().expect("a size");
        let mut file = DataFile::new(DataContentType::Data, "file:///t/f.parquet", DataFileFormat::Parquet, 1, size);
        file.split_offsets = offsets;
        LiveFile { file, spec_id: 0, sequence_number: 1, file_sequence_number: None, snapshot_id: 1, first_row_id: None }
    }

    proptest! {
        /// Every byte of a file is in one part. Parts begin at offsets, where there are any, and wherever one is worth its task.
        #[test]
        fn the_parts_of_a_file_are_the_file(
            size in 0_u64..(100 << 20),
            offsets in proptest::option::of(prop::collection::btree_set(0_i64..(120 << 20), 0..30)),
        ) {
            let offsets: Option<Vec<i64>> = offsets.map(|offsets| offsets.into_iter().collect());
            let parts: Vec<_> = parts(&file(size, offsets.clone())).into_iter().map(|part| part.unwrap_or(0..size)).collect();
            prop_assert_eq!((parts[0].start, parts[parts.len() - 1].end), (0, size));
            prop_assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start), "{:?}", parts);
            let before_last = &parts[..parts.len() - 1];
            prop_assert!(before_last.iter().all(|part| part.end - part.start >= SPLIT_BYTES), "{:?}", parts);
            let offsets: Vec<u64> = offsets.unwrap_or_default().into_iter().map(i64::unsigned_abs).collect();
            if !offsets.is_empty() {
                prop_assert!(parts[1..].iter().all(|part| offsets.contains(&part.start)), "{:?}", parts);
            }
            let missed = |part: &Range<u64>| offsets.iter().any(|at| *at >= part.start + SPLIT_BYTES && *at < part.end);
            prop_assert!(!parts.iter().any(missed), "{:?}", parts);
        }

        /// No file is lost, and the smallest file of any group would not be better off in the group that has the least.
        #[test]
        fn groups_share_the_bytes(sizes in prop::collection::vec(1_u64..1000, 0..40), parallel in 0_usize..9) {
            let files = sizes.iter().enumerate().map(|(i, size)| PartitionedFile::new(format!("f{i}"), *size)).collect();
            let groups = groups(files, parallel);
            let sizes_of = |group: &FileGroup| group.files().iter().map(|file| file.object_meta.size).collect::<Vec<u64>>();
            let groups: Vec<Vec<u64>> = groups.iter().map(sizes_of).collect();
            prop_assert_eq!(groups.len(), parallel.clamp(1, sizes.len().max(1)));
            let (mut all, mut expected) = (groups.concat(), sizes);
            all.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(all, expected);
            let least = groups.iter().map(|group| group.iter().sum::<u64>()).min().unwrap_or(0);
            let fair = |group: &Vec<u64>| group.iter().sum::<u64>() - group.iter().min().unwrap_or(&0) <= least;
            prop_assert!(groups.iter().all(fair), "{:?}", groups);
        }
    }
}
