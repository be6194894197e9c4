//! The entries of a manifest in columnar form, and the projection that selects what is decoded.
//!
//! A "row" is the index of an entry. Fields that the projection leaves out read as `None` or empty. Values that entries inherit
//! from the manifest list are missing until [`ManifestBatch::inherit`].
//!
//! Start with [`ManifestProjection`] and [`ManifestBatch`].

use bytes::Bytes;

use super::columns::{Bounds, Counts, FieldLookup, Lists, Numbers, PathColumn};
use super::header::ManifestHeader;
use super::unknown::UnknownColumn;
use crate::{
    ColumnStats, DataContentType, DataFile, DataFileFormat, IdMap, ManifestContent, ManifestEntry, ManifestFile, ManifestStatus,
    Result, Tuple, Value,
};

/// A set of columns, identified by field id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ColumnSet {
    /// No column.
    #[default]
    None,
    /// Some columns, by rising field id.
    Of(Box<[i32]>),
    /// All columns.
    All,
}

impl ColumnSet {
    /// Returns the set of the columns `ids`, which may be in any order.
    pub fn of(ids: impl IntoIterator<Item = i32>) -> Self {
        let mut ids: Vec<i32> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() { Self::None } else { Self::Of(ids.into()) }
    }

    pub(super) fn has(&self, id: i32) -> bool {
        match self {
            Self::None => false,
            Self::Of(ids) => ids.binary_search(&id).is_ok(),
            Self::All => true,
        }
    }

    pub(super) const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Returns `true` if the set contains all columns of `other`.
    fn cover(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) | (_, Self::None) => true,
            (_, Self::All) => false,
            (own, Self::Of(ids)) => ids.iter().all(|id| own.has(*id)),
        }
    }

    /// Returns the union of two sets.
    fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::None, some) | (some, Self::None) => some.clone(),
            (Self::Of(own), Self::Of(others)) => Self::of(own.iter().chain(others.iter()).copied()),
        }
    }
}

/// The parts of entries that are decoded; others are skipped.
///
/// Status, content, format, snapshot id, sequence numbers, record count, file size and first row id are always decoded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ManifestProjection {
    /// File paths.
    pub path: bool,
    /// Partition values.
    pub partition: bool,
    /// Counts of values, nulls and NaNs, for these columns.
    pub counts: ColumnSet,
    /// Column sizes, for these columns.
    pub sizes: ColumnSet,
    /// Lower and upper bounds, for these columns.
    pub bounds: ColumnSet,
    /// All other fields: key metadata, split offsets, equality ids, sort order, the data file and content that a delete file refers
    /// to, unknown fields.
    pub details: bool,
}

impl ManifestProjection {
    /// Returns the projection of everything.
    pub const fn all() -> Self {
        Self { path: true, partition: true, counts: ColumnSet::All, sizes: ColumnSet::All, bounds: ColumnSet::All, details: true }
    }

    /// Returns the projection of paths, in addition to what is always decoded.
    pub fn paths() -> Self {
        Self { path: true, ..Self::default() }
    }

    /// Returns the projection of everything except column statistics.
    pub const fn files() -> Self {
        const NONE: ColumnSet = ColumnSet::None;
        Self { path: true, partition: true, counts: NONE, sizes: NONE, bounds: NONE, details: true }
    }

    /// Returns the projection for scan planning by the bounds and counts of some columns.
    ///
    /// Spec: "Scan Planning".
    pub fn planning(columns: ColumnSet) -> Self {
        Self { counts: columns.clone(), bounds: columns, ..Self::files() }
    }

    /// Returns the projection of everything except the statistics of other columns than `columns`.
    pub fn reading(columns: ColumnSet) -> Self {
        Self { sizes: columns.clone(), ..Self::planning(columns) }
    }

    /// Returns `true` if a batch with this projection has everything that `other` selects.
    pub fn covers(&self, other: &Self) -> bool {
        self.path >= other.path
            && self.partition >= other.partition
            && self.details >= other.details
            && self.counts.cover(&other.counts)
            && self.sizes.cover(&other.sizes)
            && self.bounds.cover(&other.bounds)
    }

    /// Returns the union of two projections.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            path: self.path || other.path,
            partition: self.partition || other.partition,
            counts: self.counts.and(&other.counts),
            sizes: self.sizes.and(&other.sizes),
            bounds: self.bounds.and(&other.bounds),
            details: self.details || other.details,
        }
    }
}

/// The decoded entries of a manifest: one vector per field, indexed by row.
///
/// Spec: "Manifest Entry Fields".
#[derive(Debug, Clone)]
pub struct ManifestBatch {
    pub(super) header: ManifestHeader,
    projection: ManifestProjection,
    pub(super) len: usize,
    pub(super) status: Vec<ManifestStatus>,
    pub(super) content: Vec<DataContentType>,
    pub(super) format: Vec<u8>,
    pub(super) formats: Vec<DataFileFormat>,
    pub(super) snapshot_id: Numbers,
    pub(super) sequence_number: Numbers,
    pub(super) file_sequence_number: Numbers,
    pub(super) paths: PathColumn,
    pub(super) tuple: Vec<u32>,
    pub(super) tuples: Vec<Tuple>,
    pub(super) record_count: Vec<i64>,
    pub(super) file_size: Vec<i64>,
    /// Column sizes, value counts, null counts and NaN counts, in that order.
    pub(super) counts: [Counts; 4],
    /// Lower and upper bounds, in that order.
    pub(super) bounds: [Bounds; 2],
    pub(super) key_metadata: Lists<u8>,
    pub(super) referenced_file: Lists<u8>,
    pub(super) splits: Lists<i64>,
    pub(super) equality_ids: Lists<i32>,
    pub(super) sort_order_id: Numbers,
    pub(super) first_row_id: Numbers,
    pub(super) content_offset: Numbers,
    pub(super) content_size: Numbers,
    /// The unknown fields; `None` if the manifest has none or they were not selected.
    pub(super) unknown: Option<Box<UnknownColumn>>,
}

impl ManifestBatch {
    pub(super) fn new(header: ManifestHeader, projection: ManifestProjection, unknown: Option<Box<UnknownColumn>>) -> Self {
        Self {
            header,
            projection,
            len: 0,
            status: Vec::new(),
            content: Vec::new(),
            format: Vec::new(),
            formats: Vec::new(),
            snapshot_id: Numbers::default(),
            sequence_number: Numbers::default(),
            file_sequence_number: Numbers::default(),
            paths: PathColumn::default(),
            tuple: Vec::new(),
            tuples: Vec::new(),
            record_count: Vec::new(),
            file_size: Vec::new(),
            counts: Default::default(),
            bounds: Default::default(),
            key_metadata: Lists::default(),
            referenced_file: Lists::default(),
            splits: Lists::default(),
            equality_ids: Lists::default(),
            sort_order_id: Numbers::default(),
            first_row_id: Numbers::default(),
            content_offset: Numbers::default(),
            content_size: Numbers::default(),
            unknown,
        }
    }

    /// Returns the manifest's header.
    pub const fn header(&self) -> &ManifestHeader {
        &self.header
    }

    /// Returns the number of entries.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns `true` if there are no entries.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the status of an entry.
    pub fn status(&self, row: usize) -> ManifestStatus {
        self.status[row]
    }

    /// Returns `true` if the file of an entry belongs to the table: its status is not deleted.
    pub fn is_alive(&self, row: usize) -> bool {
        self.status[row] != ManifestStatus::Deleted
    }

    /// Returns the content of a file.
    pub fn content(&self, row: usize) -> DataContentType {
        self.content[row]
    }

    /// Returns the format of a file.
    pub fn format(&self, row: usize) -> &DataFileFormat {
        &self.formats[usize::from(self.format[row])]
    }

    /// Returns the id of the snapshot that added or removed a file.
    pub fn snapshot_id(&self, row: usize) -> Option<i64> {
        self.snapshot_id.get(row)
    }

    /// Returns the data sequence number of a file.
    pub fn sequence_number(&self, row: usize) -> Option<i64> {
        self.sequence_number.get(row)
    }

    /// Returns the sequence number of the snapshot that added a file.
    pub fn file_sequence_number(&self, row: usize) -> Option<i64> {
        self.file_sequence_number.get(row)
    }

    /// Returns the location of a file in two parts, of which the first is the same for all files. Both are empty without the
    /// projection.
    pub fn path_parts(&self, row: usize) -> (&str, &str) {
        self.paths.get(row)
    }

    /// Returns the location of a file; empty without the projection.
    pub fn path(&self, row: usize) -> String {
        let (prefix, rest) = self.paths.get(row);
        [prefix, rest].concat()
    }

    /// Returns the partition values of a file, in the order of the header's fields. They have the types that the manifest gives.
    pub fn partition(&self, row: usize) -> &[Option<Value>] {
        self.tuple.get(row).map(|at| self.tuples[*at as usize].as_ref()).unwrap_or_default()
    }

    /// Returns the partitions that files of the manifest are in. Two of them may be equal.
    pub fn partitions(&self) -> &[Tuple] {
        &self.tuples
    }

    /// Returns the index of a file's partition in [`ManifestBatch::partitions`], or `None` without the projection.
    #[inline]
    pub fn partition_index(&self, row: usize) -> Option<usize> {
        self.tuple.get(row).map(|at| *at as usize)
    }

    /// Returns the number of rows of a file, or `None` if the writer did not know it (a negative count).
    pub fn rows(&self, row: usize) -> Option<u64> {
        u64::try_from(self.record_count[row]).ok()
    }

    /// Returns the size of a file in bytes, as the manifest has it.
    pub fn file_size_in_bytes(&self, row: usize) -> i64 {
        self.file_size[row]
    }

    /// Returns the statistics of a column of a file as far as they were selected, or `None` if there are none.
    pub fn stats(&self, row: usize, field_id: i32) -> Option<ColumnStats<'_>> {
        self.column(field_id).stats(row)
    }

    /// Returns a view of one column, which is faster than [`ManifestBatch::stats`] for many files.
    pub fn column(&self, field_id: i32) -> BatchColumn<'_> {
        BatchColumn {
            batch: self,
            counts: [0, 1, 2, 3].map(|which: usize| self.counts[which].finder(field_id)),
            bounds: [0, 1].map(|which: usize| self.bounds[which].finder(field_id)),
        }
    }

    /// Returns the ids of the fields that an equality delete file compares.
    pub fn equality_ids(&self, row: usize) -> Option<&[i32]> {
        self.equality_ids.get(row)
    }

    /// Returns the location of the data file whose rows a delete file deletes, if there is exactly one.
    pub fn referenced_data_file(&self, row: usize) -> Option<&str> {
        self.referenced_file.get(row).and_then(|path| std::str::from_utf8(path).ok())
    }

    /// Returns the row id of a file's first row.
    pub fn first_row_id(&self, row: usize) -> Option<i64> {
        self.first_row_id.get(row)
    }

    /// Returns the projection with which the manifest was decoded.
    pub const fn projection(&self) -> &ManifestProjection {
        &self.projection
    }

    /// Returns the approximate size in memory, in bytes.
    pub fn memory(&self) -> usize {
        let numbers = [
            &self.snapshot_id,
            &self.sequence_number,
            &self.file_sequence_number,
            &self.sort_order_id,
            &self.first_row_id,
            &self.content_offset,
            &self.content_size,
        ];
        let counts = self.counts.iter().map(Counts::memory).sum::<usize>() + self.splits.memory() + self.equality_ids.memory();
        let entries = self.status.capacity() + self.content.capacity() + self.format.capacity();
        let values = self.tuples.iter().map(|tuple| size_of_val::<[_]>(tuple)).sum::<usize>();
        size_of::<Self>()
            + entries
            + values
            + size_of::<Tuple>() * self.tuples.capacity()
            + 4 * self.tuple.capacity()
            + 8 * (self.record_count.capacity() + self.file_size.capacity())
            + numbers.into_iter().map(Numbers::memory).sum::<usize>()
            + counts
            + self.bounds.iter().map(Bounds::memory).sum::<usize>()
            + self.paths.memory()
            + self.key_metadata.memory()
            + self.referenced_file.memory()
            + self.unknown.as_ref().map_or(0, |unknown| unknown.memory())
    }

    /// Fills in the values that entries inherit from their manifest's record in the manifest list.
    ///
    /// Spec: "Sequence Number Inheritance", "First Row ID Inheritance".
    pub fn inherit(&mut self, manifest: &ManifestFile) {
        let sequence_number = manifest.sequence_number;
        let mut next = match manifest.content {
            ManifestContent::Data => manifest.first_row_id,
            ManifestContent::Deletes => None,
        };
        // A manifest without a first row id was committed before version 3. Row ids of its files cannot come from its snapshot, so
        // they are dropped.
        if next.is_none() {
            self.first_row_id.clear();
        }
        for row in 0..self.len {
            if self.snapshot_id.get(row).is_none() {
                self.snapshot_id.set(row, Some(manifest.added_snapshot_id));
            }
            // Version 1 has no sequence numbers: all are 0. In later versions only added files may leave them out.
            if sequence_number == 0 || self.status[row] == ManifestStatus::Added {
                for column in [&mut self.sequence_number, &mut self.file_sequence_number] {
                    if column.get(row).is_none() {
                        column.set(row, Some(sequence_number));
                    }
                }
            }
            // Removed files take no row ids, as in Java.
            if let Some(first) = next
                && self.is_alive(row)
                && self.first_row_id.get(row).is_none()
            {
                self.first_row_id.set(row, Some(first));
                next = first.checked_add(self.record_count[row].max(0));
            }
        }
        for column in [&mut self.snapshot_id, &mut self.sequence_number, &mut self.file_sequence_number, &mut self.first_row_id] {
            column.shrink(self.len);
        }
    }

    /// Returns the entries as far as they were selected. Their bounds share memory with the batch.
    pub fn entries(&self) -> Vec<ManifestEntry> {
        (0..self.len).map(|row| self.entry(row)).collect()
    }

    /// Returns one entry as far as it was selected. Its bounds share memory with the batch.
    pub fn entry(&self, row: usize) -> ManifestEntry {
        let counts = |which: usize| self.counts[which].row(row).map(IdMap::from_iter);
        let bounds = |which: usize| self.bounds[which].of_row(row);
        let blob = |column: &Lists<u8>| column.get(row).map(Bytes::copy_from_slice);
        let data_file = DataFile {
            content: self.content[row],
            file_path: self.path(row),
            file_format: self.format(row).clone(),
            partition: self.partition(row).into(),
            record_count: self.record_count[row],
            file_size_in_bytes: self.file_size[row],
            column_sizes: counts(0),
            value_counts: counts(1),
            null_value_counts: counts(2),
            nan_value_counts: counts(3),
            lower_bounds: bounds(0),
            upper_bounds: bounds(1),
            key_metadata: blob(&self.key_metadata),
            split_offsets: self.splits.get(row).map(<[i64]>::to_vec),
            equality_ids: self.equality_ids.get(row).map(<[i32]>::to_vec),
            sort_order_id: self.sort_order_id.get(row).and_then(|id| i32::try_from(id).ok()),
            first_row_id: self.first_row_id.get(row),
            referenced_data_file: self.referenced_data_file(row).map(str::to_owned),
            content_offset: self.content_offset.get(row),
            content_size_in_bytes: self.content_size.get(row),
            extra: self.unknown.as_ref().map(|column| column.row(row)).unwrap_or_default(),
        };
        ManifestEntry {
            status: self.status[row],
            snapshot_id: self.snapshot_id.get(row),
            sequence_number: self.sequence_number.get(row),
            file_sequence_number: self.file_sequence_number.get(row),
            data_file,
        }
    }

    /// Returns the index of a format among those in the batch, and adds the format if it is new.
    pub(super) fn format_code(&mut self, name: &str) -> Result<u8, &'static str> {
        if let Some(code) = self.formats.iter().position(|format| format.as_str() == name) {
            return Ok(code as u8);
        }
        let format = DataFileFormat::named(name);
        let code = self.formats.iter().position(|known| *known == format).unwrap_or(self.formats.len());
        if code == self.formats.len() {
            self.formats.push(format);
        }
        u8::try_from(code).map_err(|_| "there are more than 256 file formats")
    }

    pub(super) fn shrink(&mut self) {
        self.status.shrink_to_fit();
        self.content.shrink_to_fit();
        self.format.shrink_to_fit();
        self.tuple.shrink_to_fit();
        self.record_count.shrink_to_fit();
        self.file_size.shrink_to_fit();
        self.paths.shrink();
        for column in [
            &mut self.snapshot_id,
            &mut self.sequence_number,
            &mut self.file_sequence_number,
            &mut self.sort_order_id,
            &mut self.first_row_id,
            &mut self.content_offset,
            &mut self.content_size,
        ] {
            column.shrink(self.len);
        }
        self.counts.iter_mut().for_each(Counts::shrink);
        self.splits.shrink();
        self.equality_ids.shrink();
        self.bounds.iter_mut().for_each(Bounds::shrink);
        self.key_metadata.shrink();
        self.referenced_file.shrink();
        if let Some(unknown) = &mut self.unknown {
            unknown.shrink();
        }
    }
}

/// A view of the statistics of one column over all rows of a batch.
#[derive(Debug, Clone)]
pub struct BatchColumn<'a> {
    batch: &'a ManifestBatch,
    counts: [FieldLookup; 4],
    bounds: [FieldLookup; 2],
}

impl<'a> BatchColumn<'a> {
    /// Returns the column's statistics in a file, or `None` if there are none.
    pub fn stats(&self, row: usize) -> Option<ColumnStats<'a>> {
        self.stats_or_empty(row).non_empty()
    }

    /// Returns the column's statistics in a file, even if all of them are `None`.
    #[inline]
    pub fn stats_or_empty(&self, row: usize) -> ColumnStats<'a> {
        let count = |which: usize| u64::try_from(self.batch.counts[which].get(row, &self.counts[which])?).ok();
        let bound = |which: usize| self.batch.bounds[which].get(row, &self.bounds[which]);
        ColumnStats {
            column_size: count(0),
            value_count: count(1),
            null_count: count(2),
            nan_count: count(3),
            lower_bound: bound(0),
            upper_bound: bound(1),
        }
    }
}
