//! Turns deleted positions into selections of rows.

use std::ops::Range;

use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use roaring::RoaringTreemap;

/// Returns the members of a set that lie in a range, in ascending order.
pub fn positions_in(set: &RoaringTreemap, range: &Range<u64>) -> impl Iterator<Item = u64> {
    let end = range.end;
    let mut members = set.iter();
    members.advance_to(range.start);
    members.take_while(move |position| *position < end)
}

/// Returns the selection of the rows of some row groups that are not deleted.
///
/// `row_groups` are ranges of positions in the file; the selection counts rows of these row groups only, one after the other.
pub fn selection(row_groups: &[Range<u64>], deleted: &RoaringTreemap) -> RowSelection {
    let len = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
    // A deleted row ends one stretch and begins another. Growing the vector to many megabytes would copy it over and over.
    let gone: u64 = row_groups.iter().map(|rows| deleted.range_cardinality(rows.clone())).sum();
    let mut selectors: Vec<RowSelector> = Vec::with_capacity(len(gone) * 2 + row_groups.len());
    for group in row_groups {
        let mut next = group.start;
        for position in positions_in(deleted, group) {
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
