//! Columns of a [`super::ManifestBatch`]: each stores the values of all rows in few allocations.
//!
//! [`Numbers`] and [`Lists`] hold optional values, [`PathColumn`] share a prefix, [`Counts`] and [`Bounds`] hold maps by field id.
//! While a manifest is read, values are appended row by row; `shrink` then compresses what all rows share. Start with the row
//! index, which both maps use.

use std::ops::Range;

use bytes::Bytes;

use crate::{BoundBytes, BoundMap};

/// A bit per row; rows beyond the end are not set.
#[derive(Debug, Clone, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    fn set(&mut self, at: usize) {
        if self.0.len() <= at / 64 {
            self.0.resize(at / 64 + 1, 0);
        }
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn get(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }
}

/// Optional numbers. They take no memory if all are missing, or all are equal after [`Numbers::shrink`].
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers {
    /// The number that all rows have, and the count of rows. Then `values` is empty.
    all: Option<(i64, usize)>,
    values: Vec<i64>,
    present: Bits,
}

impl Numbers {
    /// Sets the number of a row. Rows come in order; a row without a number may be omitted.
    #[inline]
    pub(super) fn set(&mut self, row: usize, value: Option<i64>) {
        let Some(value) = value else { return };
        if let Some((all, rows)) = self.all.take() {
            (0..rows).for_each(|row| self.set(row, Some(all)));
        }
        if self.values.len() <= row {
            self.values.resize(row + 1, 0);
        }
        self.values[row] = value;
        self.present.set(row);
    }

    pub(super) fn get(&self, row: usize) -> Option<i64> {
        match self.all {
            Some((all, rows)) => (row < rows).then_some(all),
            None if self.present.get(row) => self.values.get(row).copied(),
            None => None,
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Compresses a column of `rows` rows.
    pub(super) fn shrink(&mut self, rows: usize) {
        if let Some(first) = self.get(0)
            && (1..rows).all(|row| self.get(row) == Some(first))
        {
            *self = Self { all: Some((first, rows)), ..Self::default() };
        }
        self.values.shrink_to_fit();
        self.present.0.shrink_to_fit();
    }

    pub(super) const fn memory(&self) -> usize {
        8 * (self.values.capacity() + self.present.0.capacity())
    }
}

/// Optional lists of items, such as bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Lists<T> {
    items: Vec<T>,
    ends: Vec<u32>,
    present: Bits,
}

impl<T: Copy> Lists<T> {
    pub(super) fn push(&mut self, row: usize, items: &[T]) -> Result<(), &'static str> {
        let before = u32::try_from(self.items.len()).map_err(|_| TOO_LARGE)?;
        self.items.extend_from_slice(items);
        let end = u32::try_from(self.items.len()).map_err(|_| TOO_LARGE)?;
        self.ends.resize(row, before);
        self.ends.push(end);
        self.present.set(row);
        Ok(())
    }

    pub(super) fn get(&self, row: usize) -> Option<&[T]> {
        if !self.present.get(row) {
            return None;
        }
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        Some(&self.items[start as usize..self.ends[row] as usize])
    }

    pub(super) fn shrink(&mut self) {
        self.items.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.present.0.shrink_to_fit();
    }

    pub(super) const fn memory(&self) -> usize {
        size_of::<T>() * self.items.capacity() + 4 * self.ends.capacity() + 8 * self.present.0.capacity()
    }
}

pub(super) const TOO_LARGE: &str = "its values take more than four gigabytes";

/// File paths, stored without the prefix that all share.
#[derive(Debug, Clone, Default)]
pub(super) struct PathColumn {
    prefix: String,
    rest: String,
    ends: Vec<u32>,
}

impl PathColumn {
    pub(super) fn push(&mut self, path: &str) -> Result<(), &'static str> {
        self.rest.push_str(path);
        self.ends.push(u32::try_from(self.rest.len()).map_err(|_| TOO_LARGE)?);
        Ok(())
    }

    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the path of a row in two parts, of which the first is the same for all rows. Both are empty if paths were not
    /// selected.
    pub(super) fn get(&self, row: usize) -> (&str, &str) {
        let Some(end) = self.ends.get(row) else { return ("", "") };
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        (&self.prefix, &self.rest[start as usize..*end as usize])
    }

    /// Moves the common prefix of all paths, up to a slash, into `prefix`.
    pub(super) fn shrink(&mut self) {
        let mut prefix = self.get(0).1;
        for row in 1..self.ends.len() {
            let path = self.get(row).1;
            // Neighbours usually share the whole prefix.
            if !path.starts_with(prefix) {
                let same = prefix.bytes().zip(path.bytes()).take_while(|(a, b)| a == b).count();
                prefix = &prefix[..prefix.as_bytes()[..same].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1)];
            }
            if prefix.is_empty() {
                break;
            }
        }
        let prefix = prefix[..prefix.rfind('/').map_or(0, |at| at + 1)].to_owned();
        if !prefix.is_empty() {
            let mut rest = String::with_capacity(self.rest.len() - prefix.len() * self.ends.len());
            let mut start = 0;
            for end in &mut self.ends {
                rest.push_str(&self.rest[start + prefix.len()..*end as usize]);
                start = *end as usize;
                *end = rest.len() as u32;
            }
            (self.rest, self.prefix) = (rest, prefix);
        }
        self.rest.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    pub(super) const fn memory(&self) -> usize {
        self.prefix.capacity() + self.rest.capacity() + 4 * self.ends.capacity()
    }
}

/// Distinct lists of field ids. Most entries of a manifest have the same list, which is stored once.
#[derive(Debug, Clone, Default)]
struct IdLists {
    ids: Vec<i32>,
    ends: Vec<u32>,
}

impl IdLists {
    #[inline]
    fn get(&self, at: usize) -> &[i32] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.ids[start as usize..self.ends[at] as usize]
    }

    /// Returns the index of a list, and adds the list if it is none of the last four.
    fn find(&mut self, ids: &[i32]) -> Result<u32, &'static str> {
        let count = self.ends.len();
        for at in (count.saturating_sub(4)..count).rev() {
            if self.get(at) == ids {
                return Ok(at as u32);
            }
        }
        self.ids.extend_from_slice(ids);
        self.ends.push(u32::try_from(self.ids.len()).map_err(|_| TOO_LARGE)?);
        Ok(count as u32)
    }
}

/// Returns the position of a field in a list of ids. If it occurs twice, the later one counts, as in Java's maps.
fn place(ids: &[i32], field_id: i32) -> Option<usize> {
    ids.iter().rposition(|id| *id == field_id)
}

/// A prepared lookup of one field's values.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldLookup {
    field_id: i32,
    /// Set if all rows have the same list of fields, and the field is in it.
    same: Option<UniformRows>,
}

/// The positions of a field's values if all rows have the same list of fields.
#[derive(Debug, Clone, Copy)]
struct UniformRows {
    at: usize,
    /// The number of values per row.
    width: usize,
    rows: usize,
}

/// The field ids of each row's map, and the position of the map's first value.
#[derive(Debug, Clone, Default)]
struct MapRows {
    shapes: IdLists,
    /// The number of rows, if all have the first list of ids; then `shape` and `first` are empty.
    all: Option<usize>,
    /// The index of each row's list of ids; [`NO_MAP`] if the row has no map.
    shape: Vec<u32>,
    first: Vec<u32>,
}

const NO_MAP: u32 = u32::MAX;

impl MapRows {
    fn close(&mut self, row: usize, first: usize, ids: &[i32]) -> Result<(), &'static str> {
        let first = u32::try_from(first).map_err(|_| TOO_LARGE)?;
        self.shape.resize(row, NO_MAP);
        self.first.resize(row, first);
        let shape = self.shapes.find(ids)?;
        self.shape.push(shape);
        self.first.push(first);
        Ok(())
    }

    /// Returns the field ids of a row and the position of its first value, or `None` if the row has no map.
    #[inline]
    fn get(&self, row: usize) -> Option<(&[i32], usize)> {
        if let Some(rows) = self.all {
            let ids = self.shapes.get(0);
            return (row < rows).then_some((ids, row * ids.len()));
        }
        let shape = *self.shape.get(row)?;
        (shape != NO_MAP).then(|| (self.shapes.get(shape as usize), self.first[row] as usize))
    }

    /// Prepares the lookup of a field.
    fn finder(&self, field_id: i32) -> FieldLookup {
        let same = self.all.and_then(|rows| {
            let ids = self.shapes.get(0);
            Some(UniformRows { at: place(ids, field_id)?, width: ids.len(), rows })
        });
        FieldLookup { field_id, same }
    }

    /// Returns the position of the field's value in a row.
    #[inline]
    fn find(&self, row: usize, field: &FieldLookup) -> Option<usize> {
        if let Some(same) = &field.same {
            return (row < same.rows).then_some(row * same.width + same.at);
        }
        let (ids, first) = self.get(row)?;
        place(ids, field.field_id).map(|at| first + at)
    }

    /// Compresses the rows: if all have the same list of ids, nothing is stored per row.
    fn shrink(&mut self) {
        if self.all.is_none() && !self.shape.is_empty() && self.shape.iter().all(|shape| *shape == 0) {
            self.all = Some(self.shape.len());
            (self.shape, self.first) = (Vec::new(), Vec::new());
        }
        self.shapes.ids.shrink_to_fit();
        self.shapes.ends.shrink_to_fit();
        self.shape.shrink_to_fit();
        self.first.shrink_to_fit();
    }

    const fn memory(&self) -> usize {
        4 * (self.shapes.ids.capacity() + self.shapes.ends.capacity() + self.shape.capacity() + self.first.capacity())
    }
}

/// Maps from field ids to counts, one per row.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    rows: MapRows,
    values: Vec<i64>,
}

impl Counts {
    pub(super) fn push(&mut self, value: i64) {
        self.values.push(value);
    }

    /// Ends a row, after one value was pushed for each of `ids`.
    pub(super) fn close(&mut self, row: usize, ids: &[i32]) -> Result<(), &'static str> {
        self.rows.close(row, self.values.len() - ids.len(), ids)
    }

    pub(super) fn finder(&self, field_id: i32) -> FieldLookup {
        self.rows.finder(field_id)
    }

    #[inline]
    pub(super) fn get(&self, row: usize, field: &FieldLookup) -> Option<i64> {
        self.rows.find(row, field).map(|at| self.values[at])
    }

    /// Returns the field ids and counts of a row.
    pub(super) fn row(&self, row: usize) -> Option<impl Iterator<Item = (i32, i64)>> {
        let (ids, first) = self.rows.get(row)?;
        Some(ids.iter().copied().zip(self.values[first..].iter().copied()))
    }

    pub(super) fn shrink(&mut self) {
        self.rows.shrink();
        self.values.shrink_to_fit();
    }

    pub(super) const fn memory(&self) -> usize {
        self.rows.memory() + 8 * self.values.capacity()
    }
}

/// Maps from field ids to bounds, one per row. All bounds are in one buffer.
#[derive(Debug, Clone, Default)]
pub(super) struct Bounds {
    rows: MapRows,
    /// The end of each bound in the buffer; empty if all bounds have the length `length`.
    ends: Vec<u32>,
    length: Option<u32>,
    /// The buffer while the manifest is read; [`Bounds::shrink`] moves it into `bytes`.
    pushed: Vec<u8>,
    /// The buffer, shared with the maps that [`Bounds::of_row`] returns.
    bytes: Bytes,
}

impl Bounds {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        self.pushed.extend_from_slice(bytes);
        self.ends.push(u32::try_from(self.pushed.len()).map_err(|_| TOO_LARGE)?);
        Ok(())
    }

    pub(super) fn close(&mut self, row: usize, ids: &[i32]) -> Result<(), &'static str> {
        self.rows.close(row, self.ends.len() - ids.len(), ids)
    }

    /// Returns the range of a bound in the buffer.
    #[inline]
    fn range(&self, at: usize) -> Range<usize> {
        if let Some(length) = self.length {
            let length = length as usize;
            return at * length..(at + 1) * length;
        }
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        start as usize..self.ends[at] as usize
    }

    pub(super) fn finder(&self, field_id: i32) -> FieldLookup {
        self.rows.finder(field_id)
    }

    #[inline]
    pub(super) fn get(&self, row: usize, field: &FieldLookup) -> Option<&[u8]> {
        self.rows.find(row, field).map(|at| &self.bytes[self.range(at)])
    }

    /// Returns the field ids and ranges of a row.
    fn row(&self, row: usize) -> Option<impl Iterator<Item = (i32, Range<usize>)>> {
        let (ids, first) = self.rows.get(row)?;
        Some(ids.iter().enumerate().map(move |(at, id)| (*id, self.range(first + at))))
    }

    /// Returns the bounds of a row, which are adjacent in the buffer. The map shares the buffer.
    pub(super) fn of_row(&self, row: usize) -> Option<BoundMap> {
        let mut whole = None;
        for (_, range) in self.row(row)? {
            let start = whole.map_or(range.start, |(start, _)| start);
            whole = Some((start, range.end));
        }
        let (start, end) = whole.unwrap_or_default();
        let ends = self.row(row)?.map(|(id, range)| (id, (range.end - start) as u32)).collect();
        // If the writer did not sort the map by id, the bounds are copied.
        let copied = || Some(self.row(row)?.map(|(id, range)| (id, BoundBytes::new(self.bytes.slice(range)))).collect());
        BoundMap::of(ends, self.bytes.slice(start..end)).or_else(copied)
    }

    /// Ends reading: compresses the column and makes the bounds readable.
    pub(super) fn shrink(&mut self) {
        self.rows.shrink();
        self.pushed.shrink_to_fit();
        self.bytes = std::mem::take(&mut self.pushed).into();
        let length = self.ends.first().copied();
        let is_fixed = |length: u32| self.ends.iter().zip(1_u64..).all(|(end, n)| u64::from(*end) == n * u64::from(length));
        self.length = length.filter(|length| is_fixed(*length));
        if self.length.is_some() {
            self.ends = Vec::new();
        }
        self.ends.shrink_to_fit();
    }

    pub(super) const fn memory(&self) -> usize {
        self.rows.memory() + 4 * self.ends.capacity() + self.pushed.capacity() + self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_what_they_begin_with_and_are_the_same() {
        for paths in [
            vec!["s3://b/t/data/a=1/x.parquet", "s3://b/t/data/a=10/y.parquet", "s3://b/t/data/a=1/z.parquet"],
            vec!["s3://b/t/a", "file:/b"],
            vec!["one"],
            vec!["a/b/c", "a/b/c", "a/b"],
            vec!["é/x", "è/x"],
            vec![],
        ] {
            let mut column = PathColumn::default();
            paths.iter().for_each(|path| column.push(path).expect("pushed"));
            column.shrink();
            for (row, path) in paths.iter().enumerate() {
                let (prefix, rest) = column.get(row);
                assert_eq!(format!("{prefix}{rest}"), *path);
            }
        }
    }

    #[test]
    fn numbers_that_are_all_one_are_kept_once() {
        let mut numbers = Numbers::default();
        (0..100).for_each(|row| numbers.set(row, Some(7)));
        numbers.shrink(100);
        assert_eq!((numbers.memory(), numbers.get(99), numbers.get(100)), (0, Some(7), None));
        numbers.set(50, Some(8));
        assert_eq!((numbers.get(49), numbers.get(50), numbers.get(99)), (Some(7), Some(8), Some(7)));
        let mut numbers = Numbers::default();
        numbers.set(1, Some(7));
        numbers.shrink(2);
        assert_eq!((numbers.get(0), numbers.get(1)), (None, Some(7)));
    }

    #[test]
    fn maps_that_are_missing_are_not_empty_ones() {
        let mut counts = Counts::default();
        counts.push(5);
        counts.push(6);
        counts.close(1, &[1, 2]).expect("closed");
        counts.close(2, &[]).expect("closed");
        assert!(counts.row(0).is_none());
        assert_eq!(counts.row(1).map(Iterator::collect::<Vec<_>>), Some(vec![(1, 5), (2, 6)]));
        assert_eq!(counts.row(2).map(Iterator::count), Some(0));
        assert!(counts.row(3).is_none());
        let get = |row: usize, id: i32| counts.get(row, &counts.finder(id));
        assert_eq!((get(1, 2), get(2, 2), get(0, 1)), (Some(6), None, None));
    }

    #[test]
    fn fields_are_found_alike_whether_all_rows_have_the_same_or_not() {
        let of = |rows: &[&[i32]]| {
            let mut counts = Counts::default();
            for (row, ids) in rows.iter().enumerate() {
                ids.iter().for_each(|id| counts.push(i64::from(100 * id) + row as i64));
                counts.close(row, ids).expect("closed");
            }
            counts.shrink();
            counts
        };
        for rows in [&[&[1, 2, 3][..], &[1, 2, 3], &[1, 2, 3]][..], &[&[1, 2, 3], &[3, 2], &[]], &[&[2, 2], &[2, 2]], &[]] {
            let counts = of(rows);
            for (row, ids) in rows.iter().enumerate() {
                for id in 0..5 {
                    let expected = ids.contains(&id).then_some(i64::from(100 * id) + row as i64);
                    assert_eq!(counts.get(row, &counts.finder(id)), expected, "{rows:?} {row} {id}");
                }
            }
            assert_eq!(counts.get(rows.len(), &counts.finder(2)), None);
        }
    }
}
