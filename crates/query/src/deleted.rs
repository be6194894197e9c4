//! Row selections and masks that leave out a file's deleted rows.
//!
//! They are computed when a file is opened: in parallel, and for no more files than are open. A scan that leaves out nothing else
//! decodes every row in file order, and its batches are filtered by a mask. Parquet's reader could do that with a row selection.
//! But a selection has two entries of 16 bytes for each deleted row, and is walked a dozen times before the first row is decoded.
//! Other scans leave out row groups and pages too, which only a selection can follow. Start reading at `Deleted::left`.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{BooleanArray, BooleanBufferBuilder, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use datafusion::error::{DataFusionError, Result};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use esker_read::{positions_in, selection};
use futures::stream::{BoxStream, StreamExt, TryStreamExt, try_unfold};
use roaring::RoaringTreemap;

/// Average length of runs of kept or deleted rows below which it is cheaper to decode and filter than to skip.
///
/// The value is that of Parquet's own `RowSelectionPolicy`.
const SCATTERED: usize = 32;

/// The deleted rows of a file, and the row groups to read of the file or of its part.
#[derive(Debug, Clone)]
pub(crate) struct DeletedRows {
    /// The row groups, each as its range of row positions in the file.
    pub(crate) groups: Vec<Range<u64>>,
    /// Positions of the file's deleted rows.
    pub(crate) rows: Arc<RoaringTreemap>,
}

impl DeletedRows {
    /// Returns how each row group is read, and a mask of the rows read if they are to be filtered by it.
    fn left(&self, unbroken: bool) -> Result<(ParquetAccessPlan, Option<BooleanBuffer>)> {
        if unbroken {
            let plan = self.plan(|_| RowGroupAccess::Scan);
            let mask = self.mask(&plan)?;
            if is_scattered(&mask) {
                return Ok((plan, Some(mask)));
            }
        }
        Ok((self.plan(|rows| RowGroupAccess::Selection(selection(std::slice::from_ref(rows), &self.rows))), None))
    }

    /// Plans the access to row groups: all rows, none, or, where some rows are deleted, what `some` returns.
    fn plan(&self, some: impl Fn(&Range<u64>) -> RowGroupAccess) -> ParquetAccessPlan {
        let access = |rows: &Range<u64>| match self.rows.range_cardinality(rows.clone()) {
            0 => RowGroupAccess::Scan,
            gone if gone == rows.end - rows.start => RowGroupAccess::Skip,
            _ => some(rows),
        };
        ParquetAccessPlan::new(self.groups.iter().map(access).collect())
    }

    /// Returns a mask of the rows that the plan reads; the bits of deleted rows are not set.
    fn mask(&self, plan: &ParquetAccessPlan) -> Result<BooleanBuffer> {
        let mut mask = BooleanBufferBuilder::new(0);
        for (_, rows) in self.groups.iter().enumerate().filter(|(group, _)| plan.should_scan(*group)) {
            let start = mask.len();
            mask.append_n(count(rows.end - rows.start)?, true);
            for row in positions_in(&self.rows, rows) {
                mask.set_bit(start + count(row - rows.start)?, false);
            }
        }
        Ok(mask.finish())
    }
}

/// Converts a number of rows.
fn count(rows: u64) -> Result<usize> {
    usize::try_from(rows).map_err(|e| DataFusionError::External(Box::new(e)))
}

/// Checks whether runs of kept and of deleted rows are short.
fn is_scattered(mask: &BooleanBuffer) -> bool {
    mask.set_slices().nth(mask.len() / (2 * SCATTERED)).is_some()
}

/// A morselizer that opens files without their deleted rows.
#[derive(Debug)]
pub(crate) struct DeletesMorselizer {
    pub(crate) inner: Box<dyn Morselizer>,
    /// True if the scan leaves out no other row, keeps the order of rows, and computes nothing from them.
    pub(crate) unbroken: bool,
}

impl Morselizer for DeletesMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let Some(deleted) = file.extension::<DeletedRows>() else { return self.inner.plan_file(file) };
        let (plan, mask) = deleted.left(self.unbroken)?;
        let path = file.object_meta.location.to_string();
        let planner = self.inner.plan_file(file.with_extension(plan))?;
        Ok(match mask {
            Some(rows) => Box::new(Masked { inner: planner, mask: Mask { path, rows } }),
            None => planner,
        })
    }
}

/// The mask of a file's rows for its single stream; a set bit keeps a row.
struct Mask {
    path: String,
    rows: BooleanBuffer,
}

impl Mask {
    /// Builds the error for rows that do not match the mask: no answer is better than a wrong one.
    fn broken(&self, what: &str) -> DataFusionError {
        DataFusionError::Internal(format!("{}: the deletes cover {} rows, but {what}", self.path, self.rows.len()))
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mask").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A planner or a morsel of a file, with the mask of the file's rows.
#[derive(Debug)]
struct Masked<T> {
    inner: T,
    mask: Mask,
}

impl MorselPlanner for Masked<Box<dyn MorselPlanner>> {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { inner, mask } = *self;
        let Some(mut plan) = inner.plan()? else { return Ok(None) };
        let (mut morsels, mut planners, pending) = (plan.take_morsels(), plan.take_ready_planners(), plan.take_pending_planner());
        let plan = MorselPlan::new();
        Ok(Some(match (morsels.pop(), planners.pop(), pending) {
            (None, None, None) => plan,
            (Some(inner), None, None) if morsels.is_empty() => plan.with_morsels(vec![Box::new(Masked { inner, mask })]),
            (None, Some(inner), None) if planners.is_empty() => plan.with_planners(vec![Box::new(Masked { inner, mask })]),
            (None, None, Some(pending)) => plan.with_pending_planner(async move {
                let inner = pending.await?;
                Ok(Box::new(Masked { inner, mask }) as Box<dyn MorselPlanner>)
            }),
            _ => return Err(mask.broken("the rows come in several streams")),
        }))
    }
}

impl Morsel for Masked<Box<dyn Morsel>> {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        masked(self.inner.into_stream(), self.mask)
    }
}

/// Filters the batches of a file by the mask, which has a bit for each row.
fn masked(batches: BoxStream<'static, Result<RecordBatch>>, mask: Mask) -> BoxStream<'static, Result<RecordBatch>> {
    let next = |(mut batches, mask, mut at): (BoxStream<'static, Result<RecordBatch>>, Mask, usize)| async move {
        while let Some(batch) = batches.try_next().await? {
            let rows = batch.num_rows();
            if rows > mask.rows.len() - at {
                return Err(mask.broken("more were read"));
            }
            let kept = mask.rows.slice(at, rows);
            at += rows;
            let batch = match kept.count_set_bits() {
                0 => continue,
                n if n == rows => batch,
                _ => filter_record_batch(&batch, &BooleanArray::new(kept, None))?,
            };
            return Ok(Some((batch, (batches, mask, at))));
        }
        if at < mask.rows.len() { Err(mask.broken("fewer were read")) } else { Ok(None) }
    };
    try_unfold((batches, mask, 0), next).boxed()
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int32Array};
    use arrow::datatypes::Int32Type;

    use super::*;

    proptest::proptest! {
        /// The mask keeps exactly the rows of the row groups that are read and not deleted; so does the selection.
        #[test]
        fn what_is_left_is_what_is_not_deleted(
            sizes in proptest::collection::vec(1_u64..100, 1..6),
            deleted in proptest::collection::btree_set(0_u64..400, 0..300),
        ) {
            let mut start = 0;
            let groups: Vec<_> = sizes.iter().map(|n| { let rows = start..start + n; start += n; rows }).collect();
            let rows = DeletedRows { groups: groups.clone(), rows: Arc::new(deleted.iter().copied().collect()) };
            let kept = |group: &Range<u64>| group.clone().map(|row| !deleted.contains(&row)).collect::<Vec<bool>>();
            let (plan, mask) = rows.left(true).expect("rows");
            if let Some(mask) = mask {
                let read = groups.iter().enumerate().filter(|(i, _)| plan.should_scan(*i));
                let expected: Vec<bool> = read.flat_map(|(_, group)| kept(group)).collect();
                proptest::prop_assert_eq!(mask.iter().collect::<Vec<bool>>(), expected);
            }
            let (plan, _) = rows.left(false).expect("rows");
            for (group, access) in groups.iter().zip(plan.into_inner()) {
                let n = usize::try_from(group.end - group.start).expect("rows");
                let got = match access {
                    RowGroupAccess::Scan => vec![true; n],
                    RowGroupAccess::Skip => vec![false; n],
                    RowGroupAccess::Selection(s) => s.iter().flat_map(|s| std::iter::repeat_n(!s.skip, s.row_count)).collect(),
                };
                proptest::prop_assert_eq!(got, kept(group));
            }
        }
    }

    #[tokio::test]
    async fn rows_are_filtered_by_their_place_and_counted() {
        let batch = |ids: Range<i32>| {
            let column = Arc::new(Int32Array::from_iter_values(ids)) as ArrayRef;
            Ok(RecordBatch::try_from_iter([("id", column)]).expect("rows"))
        };
        let read = async |sizes: [Range<i32>; 3]| {
            let batches = futures::stream::iter(sizes.map(batch)).boxed();
            let mask = (0..100).map(|i| (20..60).contains(&i) || i == 99).collect();
            masked(batches, Mask { path: "f.parquet".to_owned(), rows: mask }).try_collect::<Vec<_>>().await
        };
        let kept = read([0..10, 10..50, 50..100]).await.expect("rows");
        let ids: Vec<i32> = kept.iter().flat_map(|b| b.column(0).as_primitive::<Int32Type>().values().to_vec()).collect();
        assert_eq!(ids, (20..60).chain([99]).collect::<Vec<_>>());
        for wrong in [[0..10, 10..50, 50..99], [0..10, 10..50, 50..101]] {
            let error = read(wrong).await.expect_err("miscounted").to_string();
            assert!(error.contains("f.parquet: the deletes cover 100 rows"), "{error}");
        }
    }

    #[test]
    fn stretches_are_counted_across_words() {
        let of = |bits: &mut dyn Iterator<Item = bool>| is_scattered(&bits.collect());
        assert!(!of(&mut (0..1000).map(|_| true)));
        assert!(!of(&mut (0..1000).map(|i| i >= 500)));
        assert!(of(&mut (0..1000).map(|i| i % 10 != 3)));
        assert!(of(&mut (0..1000).map(|i| i % 63 != 0)));
        assert!(!of(&mut (0..1000).map(|i| i % 128 != 0)));
    }
}
