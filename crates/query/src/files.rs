//! A snapshot's files as DataFusion's Parquet scan takes them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::datasource::listing::{FileRange, PartitionedFile};
use datafusion::datasource::physical_plan::FileGroup;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use esker_read::{ReadStats, Reader, field_id, row_group_rows, selection};
use esker_table::LiveFile;
use futures::stream::{StreamExt, TryStreamExt};
use iceberg::spec::TableMetadata;
use parquet::file::metadata::ParquetMetaData;
use roaring::RoaringTreemap;

use crate::ranges::column_statistics;
use crate::source::Known;

/// Bytes of a file that are worth a task of their own.
const SPLIT_BYTES: u64 = 16 << 20;

/// One deleted row in so many: on any page there is one.
const RIDDLED: u64 = 64;

/// Footers read at the same time, where deletes ask for them before the scan begins.
const FOOTERS: usize = 16;

/// Each file with its statistics and, where rows are deleted, with what is left of its row groups. Files without rows left are left out.
pub(crate) async fn partitioned(
    metadata: &TableMetadata,
    schema: &SchemaRef,
    (wanted, filtered): (&[usize], bool),
    files: &[LiveFile],
    deleted: &HashMap<String, Arc<RoaringTreemap>>,
    reader: &Reader,
    stats: &Arc<ReadStats>,
) -> esker_read::Result<Vec<PartitionedFile>> {
    let one = |file: LiveFile| async move {
        let (path, size) = (file.file.file_path(), file.file.file_size_in_bytes());
        let gone = deleted.get(path);
        let rows = file.file.record_count().saturating_sub(gone.map_or(0, |set| set.len()));
        if rows == 0 {
            return Ok(Vec::new());
        }
        let riddled = !filtered && gone.is_some_and(|set| set.len().saturating_mul(RIDDLED) >= file.file.record_count());
        let known = Known { uri: path.into(), nan: may_hold_nan(schema, &file), riddled };
        let mut partitioned = PartitionedFile::new(path, size).with_extension(known);
        partitioned.statistics = Some(Arc::new(statistics(metadata, schema, wanted, &file, rows, gone.is_none())));
        let parts = split(partitioned, &file);
        let Some(gone) = gone else { return Ok(parts) };
        let footer = reader.footer(path, size, stats).await?;
        let with_left = |part: PartitionedFile| {
            let left = left(&footer, part.range.as_ref(), gone);
            part.with_extension(left)
        };
        Ok::<_, esker_read::ReadError>(parts.into_iter().map(with_left).collect())
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

/// What deletes leave of each row group that a part of the file begins with or holds. Row groups of other parts count as skipped: what is
/// left of a row group can be megabytes, and is copied a few times on its way into the scan.
fn left(footer: &ParquetMetaData, part: Option<&FileRange>, deleted: &RoaringTreemap) -> ParquetAccessPlan {
    let outside = |i: usize| {
        let first = footer.row_group(i).column(0);
        // Where the scan takes a row group to begin.
        let start = first.dictionary_page_offset().unwrap_or_else(|| first.data_page_offset());
        part.is_some_and(|part| !part.contains(start))
    };
    let access = |(i, rows): (usize, std::ops::Range<u64>)| {
        let gone = deleted.range_cardinality(rows.clone());
        match gone {
            _ if outside(i) => RowGroupAccess::Skip,
            0 => RowGroupAccess::Scan,
            n if n == rows.end - rows.start => RowGroupAccess::Skip,
            _ => RowGroupAccess::Selection(selection(std::slice::from_ref(&rows), deleted)),
        }
    };
    ParquetAccessPlan::new(row_group_rows(footer).into_iter().enumerate().map(access).collect())
}

/// A large file in parts that begin where row groups do.
fn split(whole: PartitionedFile, file: &LiveFile) -> Vec<PartitionedFile> {
    let size = file.file.file_size_in_bytes();
    let offsets = file.file.split_offsets().unwrap_or_default();
    let mut cuts: Vec<u64> = vec![0];
    for offset in offsets.iter().filter_map(|o| u64::try_from(*o).ok()) {
        if offset >= cuts[cuts.len() - 1] + SPLIT_BYTES && offset < size {
            cuts.push(offset);
        }
    }
    if cuts.len() == 1 {
        return vec![whole];
    }
    cuts.push(size);
    let at = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    cuts.windows(2).map(|cut| whole.clone().with_range(at(cut[0]), at(cut[1]))).collect()
}

/// Files in as many groups as are scanned at the same time, about the same bytes each.
pub(crate) fn groups(mut files: Vec<PartitionedFile>, parallel: usize) -> Vec<FileGroup> {
    let n = parallel.clamp(1, files.len().max(1));
    files.sort_by_key(|file| std::cmp::Reverse(file.effective_size()));
    let mut groups: Vec<(u64, Vec<PartitionedFile>)> = (0..n).map(|_| (0, Vec::new())).collect();
    for file in files {
        if let Some(least) = groups.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            least.0 += file.effective_size().max(1);
            least.1.push(file);
        }
    }
    groups.into_iter().map(|(_, files)| FileGroup::new(files)).collect()
}
