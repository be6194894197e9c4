//! Data and delete files, manifest entries, manifests, and the statistics that manifests record for columns.
//!
//! A count or bound that a manifest does not have is `None`, which differs from 0. Counts are kept as the file has them; negative
//! ones, which some writers use for "unknown", read as `None` through the accessor methods. The numbers in parentheses are field
//! ids of the specification.
//!
//! Spec: "Manifests", "Manifest Lists". Start with [`ManifestFile`] and [`DataFile`].

use std::fmt;

use std::ops::Range;

use bytes::Bytes;

use crate::{PrimitiveType, Tuple, UnknownFields, Value};

/// The content of a file: data or a kind of deletes (field 134).
///
/// Spec: "Data File Fields".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum DataContentType {
    /// A data file, which has rows.
    #[default]
    Data = 0,
    /// Positions of deleted rows, in a position delete file or a deletion vector.
    PositionDeletes = 1,
    /// Values of deleted rows.
    EqualityDeletes = 2,
}

impl DataContentType {
    /// Returns the content for its number in manifests, or `None` if the number is not defined.
    pub const fn of(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Data),
            1 => Some(Self::PositionDeletes),
            2 => Some(Self::EqualityDeletes),
            _ => None,
        }
    }
}

/// The file format of a data or delete file (field 101).
///
/// Spec: "Data File Fields".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DataFileFormat {
    /// Apache Avro.
    Avro,
    /// Apache ORC.
    Orc,
    /// Apache Parquet.
    Parquet,
    /// Puffin, for deletion vectors.
    Puffin,
    /// A format that this version of Esker does not define, as the manifest has it. Code that must read the file rejects it by
    /// name.
    Other(Box<str>),
}

impl DataFileFormat {
    /// Returns the format called `name`, whatever its case.
    pub fn named(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "avro" => Self::Avro,
            "orc" => Self::Orc,
            "parquet" => Self::Parquet,
            "puffin" => Self::Puffin,
            _ => Self::Other(name.into()),
        }
    }

    /// Returns the name of the format in lower case, as engines compare it.
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

/// A lower or upper bound of a column, as the bytes in the manifest. Pruning ignores a bound that cannot be decoded; rewrites copy
/// it unchanged.
///
/// Spec: "Field-level Metrics and Statistics".
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BoundBytes(Bytes);

impl BoundBytes {
    /// Wraps encoded bytes.
    ///
    /// Spec: Appendix D, "Bound serialization".
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// Encodes a value. Returns `None` for structs, lists and maps, which have no such form.
    pub fn of(value: &Value) -> Option<Self> {
        value.to_bytes().map(Self::new)
    }

    /// Returns the encoded bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Decodes the bound. Returns `None` if a column of type `ty` cannot have it.
    ///
    /// Bounds from before a promotion of their column are recognised by their length.
    pub fn decode(&self, ty: &PrimitiveType) -> Option<Value> {
        Value::from_bytes(ty, &self.0)
    }
}

/// A map from field ids to values, sorted by id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdMap<T>(Box<[(i32, T)]>);

impl<T> Default for IdMap<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T> IdMap<T> {
    /// Returns the value of the field.
    pub fn get(&self, field_id: i32) -> Option<&T> {
        let at = self.0.binary_search_by_key(&field_id, |(id, _)| *id).ok()?;
        Some(&self.0[at].1)
    }

    /// Returns the fields and their values by rising id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (i32, &T)> {
        self.0.iter().map(|(id, value)| (*id, value))
    }

    /// Returns the number of fields.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if the map has no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Builds the map. If a field occurs twice, the later value wins.
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

/// A map from field ids to bounds. The maps of one manifest share memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct BoundMap {
    /// Rising field ids, each with the end of its bound in `bytes`.
    ends: Box<[(i32, u32)]>,
    bytes: Bytes,
}

impl BoundMap {
    /// Builds the map from rising field ids and the ends of their bounds in `bytes`. Returns `None` if ids or ends do not rise, or
    /// the bytes are too few.
    pub(crate) fn of(ends: Box<[(i32, u32)]>, bytes: Bytes) -> Option<Self> {
        let rises = ends.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        let fits = ends.last().is_none_or(|(_, end)| *end as usize <= bytes.len());
        (rises && fits).then_some(Self { ends, bytes })
    }

    /// Returns the approximate heap size in bytes.
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

    /// Returns the bound of the field.
    pub fn get(&self, field_id: i32) -> Option<BoundBytes> {
        self.place(field_id).map(|at| self.at(at))
    }

    /// Returns the bytes of the field's bound.
    fn bytes_of(&self, field_id: i32) -> Option<&[u8]> {
        self.place(field_id).map(|at| &self.bytes[self.range(at)])
    }

    fn place(&self, field_id: i32) -> Option<usize> {
        self.ends.binary_search_by_key(&field_id, |(id, _)| *id).ok()
    }

    /// Returns the fields and their bounds by rising id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (i32, BoundBytes)> {
        self.ends.iter().enumerate().map(|(at, (id, _))| (*id, self.at(at)))
    }

    /// Returns the number of fields with a bound.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns `true` if no field has a bound.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// Builds the map. If a field occurs twice, the later bound wins. Bounds beyond 4 GiB in total are left out.
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

/// The statistics of a column in one file. `None` means that the manifest does not have the number, not that it is 0.
///
/// Spec: "Field-level Metrics and Statistics".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ColumnStats<'a> {
    /// The size of the column in the file, in bytes.
    pub column_size: Option<u64>,
    /// The number of values, including null and NaN.
    pub value_count: Option<u64>,
    /// The number of nulls.
    pub null_count: Option<u64>,
    /// The number of NaNs.
    pub nan_count: Option<u64>,
    /// A lower bound of the values: no value is less. The bytes have the type that the column had when the file was written, see
    /// [`Value::from_bytes`].
    pub lower_bound: Option<&'a [u8]>,
    /// An upper bound of the values: no value is greater. Encoded as `lower_bound`.
    pub upper_bound: Option<&'a [u8]>,
}

impl ColumnStats<'_> {
    /// Returns `None` if the manifest has no number and no bound of the column.
    #[inline]
    pub(crate) fn non_empty(self) -> Option<Self> {
        let counts = [self.column_size, self.value_count, self.null_count, self.nan_count];
        let is_known = counts.iter().any(Option::is_some) || self.lower_bound.is_some() || self.upper_bound.is_some();
        is_known.then_some(self)
    }
}

/// A data file or delete file. The counts are those of the manifest, negative ones included; the accessor methods return `None` for
/// these.
///
/// Spec: "Data File Fields".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// The content of the file (134).
    pub content: DataContentType,
    /// The location of the file (100).
    pub file_path: String,
    /// The file format (101).
    pub file_format: DataFileFormat,
    /// The partition values (102), in the order of the fields of the manifest's spec. They have the types that the manifest gives.
    pub partition: Tuple,
    /// The number of rows or deletes (103). Java writes -1 for files that were imported from Hive without a count, see
    /// [`DataFile::rows`].
    pub record_count: i64,
    /// The size of the file, in bytes (104).
    pub file_size_in_bytes: i64,
    /// The size of each column, in bytes (108).
    pub column_sizes: Option<IdMap<i64>>,
    /// The number of values of each column, including null and NaN (109).
    pub value_counts: Option<IdMap<i64>>,
    /// The number of nulls of each column (110).
    pub null_value_counts: Option<IdMap<i64>>,
    /// The number of NaNs of each column (137).
    pub nan_value_counts: Option<IdMap<i64>>,
    /// The lower bounds of columns (125).
    pub lower_bounds: Option<BoundMap>,
    /// The upper bounds of columns (128).
    pub upper_bounds: Option<BoundMap>,
    /// The metadata for decrypting the file (131).
    pub key_metadata: Option<Bytes>,
    /// The offsets in bytes at which the file can be split, rising (132).
    pub split_offsets: Option<Vec<i64>>,
    /// The ids of the fields that an equality delete compares (135).
    pub equality_ids: Option<Vec<i32>>,
    /// The id of the sort order of the rows (140).
    pub sort_order_id: Option<i32>,
    /// The row id of the first row (142; format version 3).
    pub first_row_id: Option<i64>,
    /// The location of the data file whose rows the delete file deletes, if there is exactly one (143).
    pub referenced_data_file: Option<String>,
    /// The offset in bytes of the deletion vector in its Puffin file (144; format version 3).
    pub content_offset: Option<i64>,
    /// The length in bytes of the deletion vector in its Puffin file (145; format version 3).
    pub content_size_in_bytes: Option<i64>,
    /// The unknown fields of the file, and of the manifest entry that holds it.
    pub extra: UnknownFields,
}

impl DataFile {
    /// Returns a file with the required fields only. `rows` is its record count, `bytes` its size.
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

    /// Returns the number of rows, or `None` if the writer did not know it (a negative count).
    pub fn rows(&self) -> Option<u64> {
        u64::try_from(self.record_count).ok()
    }

    /// Returns the size of the file in bytes; 0 if the manifest has a negative number.
    pub fn size(&self) -> u64 {
        u64::try_from(self.file_size_in_bytes).unwrap_or(0)
    }

    /// Returns the approximate size in memory, in bytes.
    pub fn memory(&self) -> usize {
        let counts = [&self.column_sizes, &self.value_counts, &self.null_value_counts, &self.nan_value_counts];
        let counts: usize = counts.into_iter().flatten().map(IdMap::len).sum();
        let bounds: usize = [&self.lower_bounds, &self.upper_bounds].into_iter().flatten().map(BoundMap::memory).sum();
        let partition = self.partition.len() * size_of::<Option<Value>>();
        size_of::<Self>() + self.file_path.len() + partition + counts * size_of::<(i32, i64)>() + bounds + self.extra.memory()
    }

    /// Returns the statistics of a column, or `None` if the manifest has none.
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
        .non_empty()
    }

    /// Returns `true` if the file is a deletion vector.
    ///
    /// Spec: "Deletion Vectors".
    pub fn is_deletion_vector(&self) -> bool {
        self.content == DataContentType::PositionDeletes && self.file_format == DataFileFormat::Puffin
    }
}

/// The change that a manifest's snapshot made to a file (field 0).
///
/// Spec: "Manifest Entry Fields".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum ManifestStatus {
    /// The file was in the table before.
    #[default]
    Existing = 0,
    /// The file was added.
    Added = 1,
    /// The file was removed.
    Deleted = 2,
}

impl ManifestStatus {
    /// Returns the status for its number in manifests, or `None` if the number is not defined.
    pub const fn of(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Existing),
            1 => Some(Self::Added),
            2 => Some(Self::Deleted),
            _ => None,
        }
    }
}

/// An entry of a manifest: a file, and the change that the snapshot made to it.
///
/// Spec: "Manifest Entry Fields".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestEntry {
    /// The change that the snapshot made (0).
    pub status: ManifestStatus,
    /// The id of the snapshot that added or removed the file (1); `None` until it is inherited.
    pub snapshot_id: Option<i64>,
    /// The data sequence number (3); `None` until it is inherited.
    pub sequence_number: Option<i64>,
    /// The sequence number of the snapshot that added the file (4); `None` until it is inherited.
    pub file_sequence_number: Option<i64>,
    /// The data or delete file (2).
    pub data_file: DataFile,
}

impl ManifestEntry {
    /// Returns `true` if the file belongs to the table: its status is not deleted.
    pub fn is_alive(&self) -> bool {
        self.status != ManifestStatus::Deleted
    }
}

/// The kind of files that a manifest lists (field 517).
///
/// Spec: "Manifest Lists".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum ManifestContent {
    /// Data files.
    #[default]
    Data = 0,
    /// Delete files.
    Deletes = 1,
}

impl ManifestContent {
    /// Returns the content as a manifest's header names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Deletes => "deletes",
        }
    }
}

/// A placeholder for the sequence number that the commit assigns, in manifests that are not in a list yet.
pub const UNASSIGNED_SEQUENCE_NUMBER: i64 = -1;

/// A manifest, as a manifest list describes it. A count of `None` is unknown; treat it as greater than 0.
///
/// Spec: "Manifest Lists".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFile {
    /// The location of the manifest (500).
    pub manifest_path: String,
    /// The size of the manifest, in bytes (501).
    pub manifest_length: i64,
    /// The id of the partition spec of its files (502).
    pub partition_spec_id: i32,
    /// The kind of its files (517).
    pub content: ManifestContent,
    /// The sequence number of the snapshot that added the manifest (515); 0 in format version 1.
    pub sequence_number: i64,
    /// The least data sequence number of its live files (516); 0 in format version 1.
    pub min_sequence_number: i64,
    /// The id of the snapshot that added the manifest (503).
    pub added_snapshot_id: i64,
    /// The number of entries with status added (504).
    pub added_files_count: Option<u64>,
    /// The number of entries with status existing (505).
    pub existing_files_count: Option<u64>,
    /// The number of entries with status deleted (506).
    pub deleted_files_count: Option<u64>,
    /// The number of rows in added files (512).
    pub added_rows_count: Option<u64>,
    /// The number of rows in existing files (513).
    pub existing_rows_count: Option<u64>,
    /// The number of rows in deleted files (514).
    pub deleted_rows_count: Option<u64>,
    /// Summaries of the partition values (507), in the order of the fields of its spec.
    pub partitions: Option<Vec<FieldSummary>>,
    /// The metadata for decrypting the manifest (519).
    pub key_metadata: Option<Bytes>,
    /// The first row id for its files that have none (520; format version 3).
    pub first_row_id: Option<i64>,
    /// The unknown fields of its record in the list.
    pub extra: UnknownFields,
}

impl ManifestFile {
    /// Returns `true` if the manifest may have entries with status added.
    pub fn has_added_files(&self) -> bool {
        self.added_files_count != Some(0)
    }

    /// Returns `true` if the manifest may have entries with status existing.
    pub fn has_existing_files(&self) -> bool {
        self.existing_files_count != Some(0)
    }

    /// Returns `true` if the manifest may have entries with status deleted.
    pub fn has_deleted_files(&self) -> bool {
        self.deleted_files_count != Some(0)
    }
}

/// A summary of the values that one partition field has in a manifest's files (field 508).
///
/// Spec: "Manifest Lists".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSummary {
    /// `true` if a value may be null (509).
    pub contains_null: bool,
    /// `true` if a value is NaN (518); `None` if the writer did not say so.
    pub contains_nan: Option<bool>,
    /// A lower bound of the values (510).
    pub lower_bound: Option<BoundBytes>,
    /// An upper bound of the values (511).
    pub upper_bound: Option<BoundBytes>,
    /// The unknown fields of its record in the list.
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
