//! A snapshot's files as DataFusion's Parquet scan takes them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileGroup;
use esker_read::{ReadError, ReadStats, Reader, Wanted, field_id, row_group_rows, row_groups_in};
use esker_table::LiveFile;
use futures::stream::{StreamExt, TryStreamExt};
use iceberg::spec::TableMetadata;
use roaring::RoaringTreemap;

use crate::deleted::Deleted;
use crate::ranges::column_statistics;
use crate::source::Known;

/// Bytes of a file that are worth a task of their own.
const SPLIT_BYTES: u64 = 8 << 20;

/// One deleted row in so many: on any page there is one.
const RIDDLED: u64 = 64;

/// Footers read at the same time, where deletes ask for them before the scan begins.
const FOOTERS: usize = 16;

/// Each file, or each part of a large one, with its statistics and with the rows that are deleted. Files without rows left are left out.
pub(crate) async fn partitioned(
    metadata: &TableMetadata,
    schema: &SchemaRef,
    (wanted, filtered): (&[usize], bool),
    files: &[LiveFile],
    deleted: &HashMap<String, Arc<RoaringTreemap>>,
    reader: &Reader,
    stats: &Arc<ReadStats>,
) -> esker_read::Result<Vec<PartitionedFile>> {
    let columns: Arc<[i32]> = wanted.iter().filter_map(|i| field_id(schema.field(*i))).collect();
    let columns = &columns;
    let one = |file: LiveFile| async move {
        let (path, size) = (file.file.file_path(), file.file.file_size_in_bytes());
        let gone = deleted.get(path);
        let rows = file.file.record_count().saturating_sub(gone.map_or(0, |set| set.len()));
        if rows == 0 {
            return Ok(Vec::new());
        }
        // The scan would work out for each column which pages the rows that are left need: all of them, and a tenth of the time.
        let riddled = !filtered && gone.is_some_and(|set| set.len().saturating_mul(RIDDLED) >= file.file.record_count());
        let nan = may_hold_nan(schema, &file);
        let statistics = Arc::new(statistics(metadata, schema, wanted, &file, rows, gone.is_none()));
        let deleted = match gone {
            Some(gone) => {
                let footer = reader.footer(path, size, stats).await?;
                Some((row_group_rows(&footer), footer, gone))
            }
            None => None,
        };
        let part = |part: Option<Range<u64>>| {
            let mut file = PartitionedFile::new(path, size);
            file.statistics = Some(statistics.clone());
            if let Some((ranges, footer, gone)) = &deleted {
                let groups = row_groups_in(footer, part.as_ref()).into_iter().map(|group| ranges[group].clone()).collect();
                file = file.with_extension(Deleted { groups, rows: Arc::clone(gone) });
            }
            let mut wanted = Wanted::columns(columns.clone());
            (wanted.part, wanted.nan, wanted.all_pages) = (part, nan, riddled);
            file.with_extension(Known { uri: path.into(), wanted })
        };
        Ok::<_, ReadError>(parts(&file).into_iter().map(part).collect::<Vec<_>>())
    };
    let futures: Vec<_> = files.iter().cloned().map(one).collect();
    let all: Vec<_> = futures::stream::iter(futures).buffered(FOOTERS).try_collect().await?;
    Ok(all.into_iter().flatten().collect())
}

/// Whether the manifest does not rule NaN out in every float column.
fn may_hold_nan(schema: &SchemaRef, file: &LiveFile) -> bool {
    let float = |f: &&Arc<Field>| matches!(f.data_type(), DataType::Float32 | DataType::Float64);
    let counts = file.file.nan_value_counts();
    schema.fields().iter().filter(float).any(|f| field_id(f).and_then(|id| counts.get(&id)) != Some(&0))
}

fn statistics(
    metadata: &TableMetadata,
    schema: &SchemaRef,
    wanted: &[usize],
    file: &LiveFile,
    rows: u64,
    untouched: bool,
) -> Statistics {
    let rows = Precision::Exact(usize::try_from(rows).unwrap_or(usize::MAX));
    let mut columns = vec![ColumnStatistics::new_unknown(); schema.fields().len()];
    for i in wanted {
        columns[*i] = column_statistics(metadata, file, schema.field(*i), rows, untouched);
    }
    let bytes = usize::try_from(file.file.file_size_in_bytes()).unwrap_or(usize::MAX);
    Statistics { num_rows: rows, total_byte_size: Precision::Inexact(bytes), column_statistics: columns }
}

/// A large file in parts that begin where row groups do, or about there: a row group belongs to the part that it begins in.
fn parts(file: &LiveFile) -> Vec<Option<Range<u64>>> {
    let size = file.file.file_size_in_bytes();
    let offsets: Vec<u64> = match file.file.split_offsets() {
        Some(offsets) if !offsets.is_empty() => offsets.iter().filter_map(|o| u64::try_from(*o).ok()).collect(),
        _ => (0..size / SPLIT_BYTES).map(|i| i * SPLIT_BYTES).collect(),
    };
    let mut cuts: Vec<u64> = vec![0];
    for offset in offsets {
        if offset >= cuts[cuts.len() - 1] + SPLIT_BYTES && offset < size {
            cuts.push(offset);
        }
    }
    if cuts.len() == 1 {
        return vec![None];
    }
    cuts.push(size);
    cuts.windows(2).map(|cut| Some(cut[0]..cut[1])).collect()
}

/// The bytes that a file, or its part, stands for.
fn bytes(file: &PartitionedFile) -> u64 {
    let part = file.extension::<Known>().and_then(|known| known.wanted.part.as_ref());
    part.map_or(file.object_meta.size, |part| part.end - part.start)
}

/// Files in as many groups as are scanned at the same time, about the same bytes each.
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
