//! The keys of equality deletes.
//!
//! [`KeyEncoder`] turns columns of a batch into byte strings that are equal if and only if the values are. [`KeyTable`] maps such
//! keys to the newest sequence number that deleted them.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, FieldRef, Fields};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use esker_types::hex;
use roaring::RoaringTreemap;
use sha2::{Digest, Sha256};
use twox_hash::XxHash3_64;

use crate::{field_id, normalize_nan};

/// A hash table from each key to the newest sequence number that deleted it. Keys are compared byte by byte, never by hash alone.
#[derive(Debug)]
pub(super) struct KeyTable {
    /// Indexes into `entries` plus one; 0 is an empty slot. The length is a power of two.
    slots: Vec<u32>,
    entries: Vec<Entry>,
    /// The bytes of all keys, one after the other.
    bytes: Vec<u8>,
}

/// A key, as a range of the table's bytes, with the newest sequence number that deleted it.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u64,
    length: u32,
    sequence_number: i64,
}

/// Returns the hash that places a key in a table and in a spill partition.
pub(super) fn hash(key: &[u8]) -> u64 {
    XxHash3_64::oneshot(key)
}

/// Returns the SHA-256 of a list of strings in hexadecimal. The lengths count too: `["ab"]` and `["a", "b"]` differ.
pub fn digest(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.len().to_le_bytes());
        hash.update(text.as_bytes());
    }
    hex(&hash.finalize())
}

impl KeyTable {
    /// Creates an empty table.
    pub(super) fn new() -> Self {
        Self { slots: vec![0; 1024], entries: Vec::new(), bytes: Vec::new() }
    }

    /// Returns the bytes held.
    pub(super) fn memory(&self) -> usize {
        self.slots.capacity() * 4 + self.entries.capacity() * size_of::<Entry>() + self.bytes.capacity()
    }

    /// Records that a key was deleted at a sequence number.
    pub(super) fn insert(&mut self, hash: u64, key: &[u8], sequence_number: i64) {
        if (self.entries.len() + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        match self.find(hash, key) {
            Ok(entry) => {
                let known = &mut self.entries[entry].sequence_number;
                *known = (*known).max(sequence_number);
            }
            Err(slot) => {
                let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
                self.entries.push(Entry { start: self.bytes.len() as u64, length, sequence_number });
                self.bytes.extend_from_slice(key);
                self.slots[slot] = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
            }
        }
    }

    /// Records that the keys of a batch, as Arrow encoded them, were deleted at a sequence number.
    pub(super) fn insert_batch(&mut self, keys: &Rows, sequence_number: i64) {
        for key in keys {
            self.insert(hash(key.data()), key.data(), sequence_number);
        }
    }

    /// Records that keys, copied from the batches of a delete file, were deleted at a sequence number.
    pub(super) fn insert_keys(&mut self, keys: &[Box<[u8]>], sequence_number: i64) {
        for key in keys {
            self.insert(hash(key), key, sequence_number);
        }
    }

    /// Adds to `deleted` the positions of those keys that were deleted after `sequence_number`.
    ///
    /// The first key is at position `start`, and the others follow.
    pub(super) fn add_deleted(&self, keys: &Rows, start: u64, sequence_number: i64, deleted: &mut RoaringTreemap) {
        for (position, key) in (start..).zip(keys) {
            if self.get(hash(key.data()), key.data()).is_some_and(|newest| newest > sequence_number) {
                deleted.insert(position);
            }
        }
    }

    /// Returns the newest sequence number at which a key was deleted.
    pub(super) fn get(&self, hash: u64, key: &[u8]) -> Option<i64> {
        self.find(hash, key).ok().map(|entry| self.entries[entry].sequence_number)
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        let start = usize::try_from(entry.start).unwrap_or(usize::MAX);
        &self.bytes[start..start + entry.length as usize]
    }

    /// Returns the index of a key's entry, or the slot for a new one.
    fn find(&self, hash: u64, key: &[u8]) -> Result<usize, usize> {
        let mask = self.slots.len() - 1;
        let mut slot = usize::try_from(hash & mask as u64).unwrap_or(0);
        loop {
            match self.slots[slot] {
                0 => return Err(slot),
                n if self.key(&self.entries[n as usize - 1]) == key => return Ok(n as usize - 1),
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut slots = vec![0_u32; mask + 1];
        for (i, entry) in self.entries.iter().enumerate() {
            let mut slot = usize::try_from(hash(self.key(entry)) & mask as u64).unwrap_or(0);
            while slots[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            slots[slot] = u32::try_from(i + 1).unwrap_or(u32::MAX);
        }
        self.slots = slots;
    }
}

/// Encodes columns of batches as keys that are equal if the values are, nulls included.
///
/// Floats are equal as in Java: one NaN equals another, and -0.0 does not equal 0.0.
#[derive(Debug)]
pub(super) struct KeyEncoder {
    converter: RowConverter,
    /// The path of each column through structs, as [`column_at`] takes it.
    paths: Vec<Vec<usize>>,
    /// Estimated length of a key in bytes.
    estimated_key_bytes: usize,
}

impl KeyEncoder {
    /// Prepares keys of the columns with some ids, for batches with these fields.
    pub(super) fn new(fields: &Fields, ids: &[i32]) -> Result<Self, ArrowError> {
        let mut paths = Vec::with_capacity(ids.len());
        let mut columns = Vec::with_capacity(ids.len());
        for id in ids {
            let (path, column) = leaf_path(fields, *id).ok_or_else(|| ArrowError::SchemaError(format!("no field {id}")))?;
            paths.push(path);
            columns.push(column.data_type().clone());
        }
        let width = columns.iter().map(|ty| ty.primitive_width().unwrap_or(40) + 1).sum();
        Ok(Self {
            converter: RowConverter::new(columns.into_iter().map(SortField::new).collect())?,
            paths,
            estimated_key_bytes: width,
        })
    }

    /// Returns the estimated length of a key in bytes.
    pub(super) fn width(&self) -> usize {
        self.estimated_key_bytes
    }

    /// Encodes the key of each row of a batch.
    pub(super) fn keys(&self, batch: &RecordBatch) -> Result<Rows, ArrowError> {
        let columns = self.paths.iter().map(|path| normalize_nan(&column_at(batch, path)?)).collect::<Result<Vec<_>, _>>()?;
        self.converter.convert_columns(&columns)
    }
}

/// Finds the leaf with a field id, through structs only; returns its path and field.
fn leaf_path(fields: &Fields, id: i32) -> Option<(Vec<usize>, &FieldRef)> {
    fields.iter().enumerate().find_map(|(i, field)| match field.data_type() {
        DataType::Struct(inner) => leaf_path(inner, id).map(|(rest, found)| ([vec![i], rest].concat(), found)),
        _ => (field_id(field) == Some(id)).then(|| (vec![i], field)),
    })
}

/// Returns the path of a leaf column through structs, for [`column_at`].
///
/// The path is the index of the top-level column, then of the field in each struct. None if no leaf has the id, or if it is
/// inside a list or a map.
pub fn column_path(fields: &Fields, id: i32) -> Option<Vec<usize>> {
    leaf_path(fields, id).map(|(path, _)| path)
}

/// Returns the column at a path from [`column_path`]. A row is also null if a struct around the column is null there.
///
/// # Errors
///
/// Returns [`ArrowError::SchemaError`] if the path is empty or leads through a column that is no struct.
///
/// # Panics
///
/// Panics if an index of the path is out of range.
pub fn column_at(batch: &RecordBatch, path: &[usize]) -> Result<ArrayRef, ArrowError> {
    let (first, rest) = path.split_first().ok_or_else(|| ArrowError::SchemaError("a column's path is empty".to_owned()))?;
    let mut array = batch.column(*first).clone();
    for i in rest {
        let parent = array.as_struct_opt().ok_or_else(|| ArrowError::SchemaError("no struct on a column's path".to_owned()))?;
        let child = parent.column(*i);
        array = match parent.nulls() {
            None => child.clone(),
            Some(nulls) => nullif(child, &BooleanArray::new(!nulls.inner(), None))?,
        };
    }
    Ok(array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int32Array, StructArray};
    use arrow::datatypes::Schema;
    use std::collections::HashMap;
    use std::sync::Arc;

    proptest::proptest! {
        #[test]
        fn a_key_has_the_greatest_sequence_number_inserted(inserts in proptest::collection::vec((0_u16..3000, 0_i64..100), 0..4000)) {
            let mut table = KeyTable::new();
            let mut model: HashMap<Vec<u8>, i64> = HashMap::new();
            for (key, sequence_number) in inserts {
                let key = key.to_string().into_bytes();
                table.insert(hash(&key), &key, sequence_number);
                let known = model.entry(key).or_insert(sequence_number);
                *known = (*known).max(sequence_number);
            }
            for key in 0..3100_u16 {
                let key = key.to_string().into_bytes();
                proptest::prop_assert_eq!(table.get(hash(&key), &key), model.get(&key).copied());
            }
        }
    }

    /// The reference implementation applies equality deletes with Java's comparators.
    #[test]
    fn floats_are_keys_as_in_java_and_fields_of_null_structs_are_null() {
        let field = |name: &str, ty, id: i32| {
            let id = [(parquet::arrow::PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into();
            Arc::new(arrow::datatypes::Field::new(name, ty, true).with_metadata(id))
        };
        let inner: Fields = vec![field("a", DataType::Int32, 3), field("x", DataType::Float64, 4)].into();
        let other_nan = f64::from_bits(f64::NAN.to_bits() | 1 | 1 << 63);
        let x = Float64Array::from(vec![0.0, -0.0, f64::NAN, other_nan, 5.0]);
        let valid = arrow::buffer::NullBuffer::from(vec![true, true, true, true, false]);
        let a: ArrayRef = Arc::new(Int32Array::from(vec![1; 5]));
        let s = StructArray::new(inner.clone(), vec![a, Arc::new(x)], Some(valid));
        let schema = Arc::new(Schema::new(vec![field("s", DataType::Struct(inner), 2)]));
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(s)]).expect("a batch");
        let keys = KeyEncoder::new(schema.fields(), &[4]).expect("keys").keys(&batch).expect("keys");
        let nan: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), None]));
        let plain = Arc::new(Schema::new(vec![field("x", DataType::Float64, 4)]));
        let plain = RecordBatch::try_new(plain, vec![nan]).expect("a batch");
        let others = KeyEncoder::new(plain.schema().fields(), &[4]).expect("keys").keys(&plain).expect("keys");
        assert_ne!(keys.row(0).data(), keys.row(1).data());
        assert_eq!(keys.row(2).data(), keys.row(3).data());
        assert_eq!(keys.row(2).data(), others.row(0).data());
        assert_eq!(keys.row(4).data(), others.row(1).data());
    }
}
