use arrow::array::{ArrayRef, RecordBatch};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use roaring::RoaringTreemap;
use sha2::{Digest, Sha256};
use twox_hash::XxHash3_64;

/// The newest delete of each key. Keys are compared byte by byte, never by hash alone.
#[derive(Debug)]
pub(crate) struct KeyTable {
    /// Positions in `entries` plus one; 0 is empty. The length is a power of two.
    slots: Vec<u32>,
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u64,
    length: u32,
    sequence_number: i64,
}

pub(crate) fn hash(key: &[u8]) -> u64 {
    XxHash3_64::oneshot(key)
}

/// A name for a list of texts: two lists share one by accident only.
pub fn digest(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.len().to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

impl KeyTable {
    pub(crate) fn new() -> Self {
        Self { slots: vec![0; 1024], entries: Vec::new(), bytes: Vec::new() }
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        self.slots.capacity() * 4 + self.entries.capacity() * size_of::<Entry>() + self.bytes.capacity()
    }

    /// Records a delete of a key.
    pub(crate) fn insert(&mut self, hash: u64, key: &[u8], sequence_number: i64) {
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

    /// Records deletes of some keys.
    pub(crate) fn insert_all(&mut self, keys: &Rows, sequence_number: i64) {
        for key in keys {
            self.insert(hash(key.data()), key.data(), sequence_number);
        }
    }

    /// The same, of keys that were kept.
    pub(crate) fn insert_each(&mut self, keys: &[Box<[u8]>], sequence_number: i64) {
        for key in keys {
            self.insert(hash(key), key, sequence_number);
        }
    }

    /// Adds the positions, counted from `start`, of the keys that a delete newer than `sequence_number` names.
    pub(crate) fn probe_all(&self, keys: &Rows, start: u64, sequence_number: i64, deleted: &mut RoaringTreemap) {
        for (position, key) in (start..).zip(keys) {
            if self.get(hash(key.data()), key.data()).is_some_and(|newest| newest > sequence_number) {
                deleted.insert(position);
            }
        }
    }

    /// The newest sequence number that a key was deleted with.
    pub(crate) fn get(&self, hash: u64, key: &[u8]) -> Option<i64> {
        self.find(hash, key).ok().map(|entry| self.entries[entry].sequence_number)
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        let start = usize::try_from(entry.start).unwrap_or(usize::MAX);
        &self.bytes[start..start + entry.length as usize]
    }

    /// The entry of a key, or the slot where it would go.
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

/// Turns the columns of batches into keys that are equal where the values are, nulls included.
#[derive(Debug)]
pub(crate) struct KeyMaker {
    converter: RowConverter,
}

impl KeyMaker {
    pub(crate) fn new(columns: &arrow::datatypes::Fields) -> Result<Self, ArrowError> {
        let fields = columns.iter().map(|f| SortField::new(f.data_type().clone())).collect();
        Ok(Self { converter: RowConverter::new(fields)? })
    }

    pub(crate) fn keys(&self, batch: &RecordBatch) -> Result<Rows, ArrowError> {
        let columns: Vec<ArrayRef> = batch.columns().to_vec();
        self.converter.convert_columns(&columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    proptest::proptest! {
        #[test]
        fn the_table_is_a_map_of_maxima(inserts in proptest::collection::vec((0_u16..3000, 0_i64..100), 0..4000)) {
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
}
