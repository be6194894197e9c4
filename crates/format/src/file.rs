//! Files of a table, and the manifests that list them (specification, "Manifests" and "Manifest Lists").

use std::fmt;

use std::ops::Range;

use bytes::Bytes;

use crate::{PrimitiveType, Tuple, UnknownFields, Value};

/// What a file is of (field 134).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum DataContentType {
    /// Rows.
    #[default]
    Data = 0,
    /// Places of rows that are deleted; deletion vectors, too.
    PositionDeletes = 1,
    /// Values of rows that are deleted.
    EqualityDeletes = 2,
}

impl DataContentType {
    /// By its number in manifests.
    pub const fn of(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Data),
            1 => Some(Self::PositionDeletes),
            2 => Some(Self::EqualityDeletes),
            _ => None,
        }
    }
}

/// How a file is written (field 101).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DataFileFormat {
    /// Apache Avro.
    Avro,
    /// Apache ORC.
    Orc,
    /// Apache Parquet.
    Parquet,
    /// Puffin: deletion vectors.
    Puffin,
    /// One that nobody knows yet, as the manifest has it. Who must read the file refuses it by name.
    Other(Box<str>),
}

impl DataFileFormat {
    /// By its name, in letters of either case.
    pub fn named(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "avro" => Self::Avro,
            "orc" => Self::Orc,
            "parquet" => Self::Parquet,
            "puffin" => Self::Puffin,
            _ => Self::Other(name.into()),
        }
    }

    /// In lower case, as engines compare it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Avro => "avro",
            Self::Orc => "orc",
            Self::Parquet => "parquet",
            Self::Puffin => "puffin",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for DataFileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A bound of a column's values: bytes, as the manifest has them. One that can't be understood is none for pruning, and is copied as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BoundBytes(Bytes);

impl BoundBytes {
    /// Of bytes (specification, Appendix D, "Bound serialization").
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// Of a value; none for what has no such form.
    pub fn of(value: &Value) -> Option<Self> {
        value.to_bytes().map(Self::new)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value, if a column of the type can have it. The column may have been promoted since: the bound's length tells.
    pub fn decode(&self, ty: &PrimitiveType) -> Option<Value> {
        Value::from_bytes(ty, &self.0)
    }
}

/// Something for each of some fields, by their ids.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdMap<T>(Box<[(i32, T)]>);

impl<T> Default for IdMap<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T> IdMap<T> {
    /// What a field has.
    pub fn get(&self, field_id: i32) -> Option<&T> {
        let at = self.0.binary_search_by_key(&field_id, |(id, _)| *id).ok()?;
        Some(&self.0[at].1)
    }

    /// Fields and what they have, by rising ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (i32, &T)> {
        self.0.iter().map(|(id, value)| (*id, value))
    }

    /// How many fields have something.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no field has anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Of two for one field the later is kept.
impl<T> FromIterator<(i32, T)> for IdMap<T> {
    fn from_iter<I: IntoIterator<Item = (i32, T)>>(entries: I) -> Self {
        let mut entries: Vec<(i32, T)> = entries.into_iter().collect();
        if !entries.is_sorted_by(|a, b| a.0 < b.0) {
            entries.reverse();
            entries.sort_by_key(|(id, _)| *id);
            entries.dedup_by_key(|(id, _)| *id);
        }
        Self(entries.into())
    }
}

/// Bounds of columns, by their field ids. Those of the files of one manifest share memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct BoundMap {
    /// Rising ids, and where their bounds end.
    ends: Box<[(i32, u32)]>,
    bytes: Bytes,
}

impl BoundMap {
    /// Of fields with rising ids, whose bounds end at places of the bytes. Else it is none.
    pub(crate) fn of(ends: Box<[(i32, u32)]>, bytes: Bytes) -> Option<Self> {
        let rises = ends.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        let fits = ends.last().is_none_or(|(_, end)| *end as usize <= bytes.len());
        (rises && fits).then_some(Self { ends, bytes })
    }

    /// What it takes in memory, about.
    pub(crate) fn memory(&self) -> usize {
        self.ends.len() * size_of::<(i32, u32)>() + self.ends.last().map_or(0, |(_, end)| *end as usize)
    }

    fn range(&self, at: usize) -> Range<usize> {
        let start = if at == 0 { 0 } else { self.ends[at - 1].1 };
        start as usize..self.ends[at].1 as usize
    }

    fn at(&self, at: usize) -> BoundBytes {
        BoundBytes(self.bytes.slice(self.range(at)))
    }

    /// The bound of a field.
    pub fn get(&self, field_id: i32) -> Option<BoundBytes> {
        self.place(field_id).map(|at| self.at(at))
    }

    /// The bytes of a field's bound.
    fn bytes_of(&self, field_id: i32) -> Option<&[u8]> {
        self.place(field_id).map(|at| &self.bytes[self.range(at)])
    }

    fn place(&self, field_id: i32) -> Option<usize> {
        self.ends.binary_search_by_key(&field_id, |(id, _)| *id).ok()
    }

    /// Fields and their bounds, by rising ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (i32, BoundBytes)> {
        self.ends.iter().enumerate().map(|(at, (id, _))| (*id, self.at(at)))
    }

    /// How many fields have a bound.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no field has a bound.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// Of two for one field the later is kept. Bounds that would take more than four gigabytes together are left out.
impl FromIterator<(i32, BoundBytes)> for BoundMap {
    fn from_iter<I: IntoIterator<Item = (i32, BoundBytes)>>(bounds: I) -> Self {
        let bounds: IdMap<BoundBytes> = bounds.into_iter().collect();
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(bounds.len());
        for (id, bound) in bounds.iter() {
            if let Ok(end) = u32::try_from(bytes.len() + bound.bytes().len()) {
                bytes.extend_from_slice(bound.bytes());
                ends.push((id, end));
            }
        }
        Self { ends: ends.into(), bytes: bytes.into() }
    }
}

/// What a manifest says of a column of a file. What it does not say is none, which is not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ColumnStats<'a> {
    /// Bytes in the file.
    pub column_size: Option<u64>,
    /// Values, nulls and NaN among them.
    pub value_count: Option<u64>,
    /// Nulls.
    pub null_count: Option<u64>,
    /// NaN.
    pub nan_count: Option<u64>,
    /// No value is less: a value's bytes, of the type that the column had ([`Value::from_bytes`]).
    pub lower_bound: Option<&'a [u8]>,
    /// No value is greater.
    pub upper_bound: Option<&'a [u8]>,
}

impl ColumnStats<'_> {
    /// None if nothing is said.
    #[inline]
    pub(crate) fn known(self) -> Option<Self> {
        let counts = [self.column_size, self.value_count, self.null_count, self.nan_count];
        let is_known = counts.iter().any(Option::is_some) || self.lower_bound.is_some() || self.upper_bound.is_some();
        is_known.then_some(self)
    }
}

/// A file of data or of deletes (specification, "Data File Fields"). Counts that a manifest has are kept as they are; negative ones, which
/// some writers put where they do not know, are not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// What is in it (134).
    pub content: DataContentType,
    /// Where it is (100).
    pub file_path: String,
    /// How it is written (101).
    pub file_format: DataFileFormat,
    /// The values of its partition (102), in the order of the manifest's spec, of the types that the manifest has.
    pub partition: Tuple,
    /// Rows, or deletes (103). Java writes -1 for files that were taken over from Hive uncounted: [`DataFile::rows`].
    pub record_count: i64,
    /// Bytes (104).
    pub file_size_in_bytes: i64,
    /// Bytes of each column (108).
    pub column_sizes: Option<IdMap<i64>>,
    /// Values of each column (109).
    pub value_counts: Option<IdMap<i64>>,
    /// Nulls of each column (110).
    pub null_value_counts: Option<IdMap<i64>>,
    /// NaN of each column (137).
    pub nan_value_counts: Option<IdMap<i64>>,
    /// Lower bounds of columns (125).
    pub lower_bounds: Option<BoundMap>,
    /// Upper bounds of columns (128).
    pub upper_bounds: Option<BoundMap>,
    /// What it needs to be decrypted (131).
    pub key_metadata: Option<Bytes>,
    /// Bytes at which it can be split (132).
    pub split_offsets: Option<Vec<i64>>,
    /// The fields by which its rows delete others (135).
    pub equality_ids: Option<Vec<i32>>,
    /// How it is sorted (140).
    pub sort_order_id: Option<i32>,
    /// The id of its first row (142; version 3).
    pub first_row_id: Option<i64>,
    /// The file of which it deletes rows, if that is one (143).
    pub referenced_data_file: Option<String>,
    /// The byte at which its content starts within a Puffin file (144; version 3).
    pub content_offset: Option<i64>,
    /// Bytes of its content within a Puffin file (145; version 3).
    pub content_size_in_bytes: Option<i64>,
    /// What else the manifest says of it, and of the entry that it is in.
    pub extra: UnknownFields,
}

impl DataFile {
    /// A file of which nothing more is known.
    pub fn new(content: DataContentType, path: impl Into<String>, format: DataFileFormat, rows: i64, bytes: i64) -> Self {
        Self {
            content,
            file_path: path.into(),
            file_format: format,
            partition: Tuple::default(),
            record_count: rows,
            file_size_in_bytes: bytes,
            column_sizes: None,
            value_counts: None,
            null_value_counts: None,
            nan_value_counts: None,
            lower_bounds: None,
            upper_bounds: None,
            key_metadata: None,
            split_offsets: None,
            equality_ids: None,
            sort_order_id: None,
            first_row_id: None,
            referenced_data_file: None,
            content_offset: None,
            content_size_in_bytes: None,
            extra: UnknownFields::default(),
        }
    }

    /// How many rows it has, if its writer knew.
    pub fn rows(&self) -> Option<u64> {
        u64::try_from(self.record_count).ok()
    }

    /// How many bytes it has; 0 if the manifest says that they are fewer than none.
    pub fn size(&self) -> u64 {
        u64::try_from(self.file_size_in_bytes).unwrap_or(0)
    }

    /// What it takes in memory, about.
    pub fn memory(&self) -> usize {
        let counts = [&self.column_sizes, &self.value_counts, &self.null_value_counts, &self.nan_value_counts];
        let counts: usize = counts.into_iter().flatten().map(IdMap::len).sum();
        let bounds: usize = [&self.lower_bounds, &self.upper_bounds].into_iter().flatten().map(BoundMap::memory).sum();
        let partition = self.partition.len() * size_of::<Option<Value>>();
        size_of::<Self>() + self.file_path.len() + partition + counts * size_of::<(i32, i64)>() + bounds + self.extra.memory()
    }

    /// What is said of a column; none if nothing is.
    pub fn stats(&self, field_id: i32) -> Option<ColumnStats<'_>> {
        let count = |map: &Option<IdMap<i64>>| u64::try_from(*map.as_ref()?.get(field_id)?).ok();
        ColumnStats {
            column_size: count(&self.column_sizes),
            value_count: count(&self.value_counts),
            null_count: count(&self.null_value_counts),
            nan_count: count(&self.nan_value_counts),
            lower_bound: self.lower_bounds.as_ref().and_then(|bounds| bounds.bytes_of(field_id)),
            upper_bound: self.upper_bounds.as_ref().and_then(|bounds| bounds.bytes_of(field_id)),
        }
        .known()
    }

    /// Whether it is a deletion vector (specification, "Deletion Vectors").
    pub fn is_deletion_vector(&self) -> bool {
        self.content == DataContentType::PositionDeletes && self.file_format == DataFileFormat::Puffin
    }
}

/// What a manifest's snapshot did with a file (field 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum ManifestStatus {
    /// It was there.
    #[default]
    Existing = 0,
    /// It was added.
    Added = 1,
    /// It was removed.
    Deleted = 2,
}

impl ManifestStatus {
    /// By its number in manifests.
    pub const fn of(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Existing),
            1 => Some(Self::Added),
            2 => Some(Self::Deleted),
            _ => None,
        }
    }
}

/// A file in a manifest (specification, "Manifest Entry Fields").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestEntry {
    /// What was done with it (0).
    pub status: ManifestStatus,
    /// The snapshot that added it, or removed it (1); none until it is inherited.
    pub snapshot_id: Option<i64>,
    /// Its data sequence number (3); none until it is inherited.
    pub sequence_number: Option<i64>,
    /// The sequence number of the snapshot that added it (4); none until it is inherited.
    pub file_sequence_number: Option<i64>,
    /// The file (2).
    pub data_file: DataFile,
}

impl ManifestEntry {
    /// Whether the file is one of the table's still.
    pub fn is_alive(&self) -> bool {
        self.status != ManifestStatus::Deleted
    }
}

/// What a manifest lists (field 517).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum ManifestContent {
    /// Data files.
    #[default]
    Data = 0,
    /// Delete files.
    Deletes = 1,
}

impl ManifestContent {
    /// As a manifest's header names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Deletes => "deletes",
        }
    }
}

/// Stands for a sequence number that the commit gives, in manifests that are not in a list yet.
pub const UNASSIGNED_SEQUENCE_NUMBER: i64 = -1;

/// A manifest in a list (specification, "Manifest Lists"). Counts that are none are unknown, which is to be taken for more than 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFile {
    /// Where it is (500).
    pub manifest_path: String,
    /// Bytes (501).
    pub manifest_length: i64,
    /// The spec of its files' partitions (502).
    pub partition_spec_id: i32,
    /// What it lists (517).
    pub content: ManifestContent,
    /// The sequence number of the snapshot that added it (515); 0 in version 1.
    pub sequence_number: i64,
    /// The least data sequence number of its files that are alive (516); 0 in version 1.
    pub min_sequence_number: i64,
    /// The snapshot that added it (503).
    pub added_snapshot_id: i64,
    /// Entries that are added (504).
    pub added_files_count: Option<u64>,
    /// Entries that exist (505).
    pub existing_files_count: Option<u64>,
    /// Entries that are deleted (506).
    pub deleted_files_count: Option<u64>,
    /// Rows of added files (512).
    pub added_rows_count: Option<u64>,
    /// Rows of existing files (513).
    pub existing_rows_count: Option<u64>,
    /// Rows of deleted files (514).
    pub deleted_rows_count: Option<u64>,
    /// What values its partitions have (507), in the order of its spec's fields.
    pub partitions: Option<Vec<FieldSummary>>,
    /// What it needs to be decrypted (519).
    pub key_metadata: Option<Bytes>,
    /// The first row id that its files without one get (520; version 3).
    pub first_row_id: Option<i64>,
    /// What else the list says of it.
    pub extra: UnknownFields,
}

impl ManifestFile {
    /// Whether it may have entries that are added.
    pub fn has_added_files(&self) -> bool {
        self.added_files_count != Some(0)
    }

    /// Whether it may have entries that exist.
    pub fn has_existing_files(&self) -> bool {
        self.existing_files_count != Some(0)
    }

    /// Whether it may have entries that are deleted.
    pub fn has_deleted_files(&self) -> bool {
        self.deleted_files_count != Some(0)
    }
}

/// What values a field of the partitions of a manifest has (field 508).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSummary {
    /// Whether one is null (509).
    pub contains_null: bool,
    /// Whether one is NaN, if that is known (518).
    pub contains_nan: Option<bool>,
    /// No value is less (510).
    pub lower_bound: Option<BoundBytes>,
    /// No value is greater (511).
    pub upper_bound: Option<BoundBytes>,
    /// What else the list says of it.
    pub extra: UnknownFields,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_none_and_not_0() {
        let mut file = DataFile::new(DataContentType::Data, "a", DataFileFormat::named("PARQUET"), -1, 5);
        assert_eq!((file.rows(), file.stats(1)), (None, None));
        file.value_counts = Some([(3, 7), (1, 5), (3, 9), (2, -1)].into_iter().collect());
        file.lower_bounds = Some([(1, BoundBytes::new(vec![0xe2, 0x82]))].into_iter().collect());
        let stats = file.stats(1).expect("of column 1");
        assert_eq!((stats.value_count, stats.null_count, stats.upper_bound), (Some(5), None, None));
        let bound = stats.lower_bound.expect("a bound");
        let other: BoundMap = [(1, BoundBytes::new(vec![0xe2, 0x82])), (1, BoundBytes::new(vec![1]))].into_iter().collect();
        assert_eq!((other.len(), other.get(1)), (1, Some(BoundBytes::new(vec![1]))), "the later of two");
        assert_eq!(
            (Value::from_bytes(&PrimitiveType::String, bound), bound),
            (None, &[0xe2, 0x82][..]),
            "cut inside a character"
        );
        assert_eq!(file.stats(2), None, "a negative count");
        assert_eq!(file.stats(3).and_then(|stats| stats.value_count), Some(9), "the later of two");
    }
}
