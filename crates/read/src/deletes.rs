use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use esker_table::{DeleteKind, LiveDelete};
use futures::TryStreamExt;
use iceberg::spec::DataFileFormat;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use roaring::RoaringTreemap;

use crate::adapt::field_id;
use crate::{ReadError, ReadStats, Reader, Result};

/// Reserved field ids of the columns of a position delete file (spec, "Reserved Field IDs").
const FILE_PATH: i32 = 2_147_483_546;
const POSITION: i32 = 2_147_483_545;

/// The deleted positions of one delete file, by data file path.
pub(crate) type Positions = HashMap<String, RoaringTreemap>;

/// Whether a delete file is one that can be applied; the error names it and its kind.
pub fn check_readable(delete: &LiveDelete) -> Result<()> {
    let file = &delete.entry.file;
    let kind = match (delete.kind, file.file_format()) {
        (DeleteKind::Position, DataFileFormat::Parquet) => return Ok(()),
        (DeleteKind::Position, format) => format!("position deletes in {format} files"),
        (DeleteKind::Equality, _) => "equality deletes".to_owned(),
        (DeleteKind::DeletionVector, _) => "deletion vectors".to_owned(),
    };
    let what = format!("{kind} can't be applied yet; compact the table with an engine that applies them, or query it there");
    Err(ReadError::unsupported(file.file_path(), what))
}

impl Reader {
    /// The positions deleted from one data file by some delete files; an unreadable one is an error.
    pub async fn deleted_positions(
        &self,
        data_path: &str,
        deletes: &[LiveDelete],
        stats: &Arc<ReadStats>,
    ) -> Result<Option<Arc<RoaringTreemap>>> {
        let mut all: Option<RoaringTreemap> = None;
        for delete in deletes {
            check_readable(delete)?;
            let file = &delete.entry.file;
            let positions = self.positions(file.file_path(), file.file_size_in_bytes(), stats).await?;
            if let Some(found) = positions.get(data_path) {
                *all.get_or_insert_default() |= found;
            }
        }
        Ok(all.map(Arc::new))
    }

    pub(crate) async fn read_positions(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<Positions> {
        let open = self.open(path, size, stats).await?;
        let column = |id: i32| {
            let found = open.file_schema().fields().iter().position(|f| field_id(f) == Some(id));
            found.ok_or_else(|| ReadError::unsupported(path, format!("a position delete file without field {id}")))
        };
        let (path_column, position_column) = (column(FILE_PATH)?, column(POSITION)?);
        let mut stream = open.raw_stream(&[path_column, position_column])?;
        let arrow = |source| ReadError::Arrow { path: path.to_owned(), source };
        let mut positions = Positions::new();
        while let Some(batch) = stream.try_next().await.map_err(|e| ReadError::Parquet { path: path.to_owned(), source: e })? {
            let (mut paths, mut rows) = (batch.column(0), batch.column(1));
            if path_column > position_column {
                std::mem::swap(&mut paths, &mut rows);
            }
            let (paths, rows) = (cast(paths, &DataType::Utf8).map_err(arrow)?, cast(rows, &DataType::Int64).map_err(arrow)?);
            let (Some(paths), Some(rows)) =
                (paths.as_any().downcast_ref::<StringArray>(), rows.as_any().downcast_ref::<Int64Array>())
            else {
                return Err(ReadError::unsupported(path, "a position delete file with columns of other types"));
            };
            for (data_path, row) in paths.iter().zip(rows) {
                let (Some(data_path), Some(Ok(row))) = (data_path, row.map(u64::try_from)) else {
                    return Err(ReadError::unsupported(path, "a position delete without a path or with a negative position"));
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

/// What is left of some row groups, each given as its range of rows in the file, once `deleted` positions are skipped.
pub(crate) fn selection(row_groups: &[std::ops::Range<u64>], deleted: &RoaringTreemap) -> RowSelection {
    let len = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
    let mut selectors: Vec<RowSelector> = Vec::new();
    for group in row_groups {
        let mut next = group.start;
        let mut positions = deleted.iter();
        positions.advance_to(group.start);
        for position in positions.take_while(|p| *p < group.end) {
            if position > next {
                selectors.push(RowSelector::select(len(position - next)));
            }
            selectors.push(RowSelector::skip(1));
            next = position + 1;
        }
        if next < group.end {
            selectors.push(RowSelector::select(len(group.end - next)));
        }
    }
    selectors.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// The selection keeps exactly the rows of the chosen row groups that are not deleted.
        #[test]
        fn a_selection_keeps_what_is_not_deleted(
            sizes in proptest::collection::vec(1_u64..20, 1..5),
            chosen in proptest::collection::vec(proptest::bool::ANY, 5),
            deleted in proptest::collection::btree_set(0_u64..100, 0..40),
        ) {
            let mut start = 0;
            let groups: Vec<_> = sizes.iter().map(|n| { let g = start..start + n; start += n; g }).collect();
            let groups: Vec<_> = groups.into_iter().zip(&chosen).filter(|(_, c)| **c).map(|(g, _)| g).collect();
            let expected: Vec<bool> = groups.iter().flat_map(|g| g.clone().map(|r| !deleted.contains(&r))).collect();
            let got: Vec<bool> = selection(&groups, &deleted.iter().copied().collect())
                .iter().flat_map(|s| std::iter::repeat_n(!s.skip, s.row_count)).collect();
            proptest::prop_assert_eq!(got, expected);
        }
    }
}
