//! Decides whether a column's dictionary pays, by the first rows of a row group.
//!
//! Parquet's writer begins every column with a dictionary, and gives it up once it is too large. The pages written until then
//! stay: every reader of any page of the chunk must decode the dictionary first, and lookups by key spend their time on that.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use twox_hash::XxHash3_64;

/// Fewer rows say little about a column, and a dictionary of them is small anyway.
const LEAST_ROWS: usize = 4096;

/// A hasher for keys that are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = XxHash3_64::oneshot(bytes);
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

/// The number of occurrences of each value, by the value's hash.
type Counts = HashMap<u64, u32, BuildHasherDefault<Identity>>;

/// Counts the occurrences of each value, and the bytes of all values; none for types that are not judged.
fn counts(column: &dyn Array) -> Option<(Counts, usize)> {
    let (mut counts, mut bytes) = (Counts::default(), 0);
    let mut add = |value: &[u8]| {
        bytes += value.len();
        *counts.entry(XxHash3_64::oneshot(value)).or_default() += 1;
    };
    let valid = |i: &usize| column.is_valid(*i);
    let rows = 0..column.len();
    match column.data_type() {
        DataType::Utf8 => rows.filter(valid).for_each(|i| add(column.as_string::<i32>().value(i).as_bytes())),
        DataType::LargeUtf8 => rows.filter(valid).for_each(|i| add(column.as_string::<i64>().value(i).as_bytes())),
        DataType::Binary => rows.filter(valid).for_each(|i| add(column.as_binary::<i32>().value(i))),
        DataType::LargeBinary => rows.filter(valid).for_each(|i| add(column.as_binary::<i64>().value(i))),
        DataType::FixedSizeBinary(_) => rows.filter(valid).for_each(|i| add(column.as_fixed_size_binary().value(i))),
        other => {
            let width = other.primitive_width()?;
            let data = column.to_data();
            let values = data.buffers().first()?.as_slice().get(data.offset() * width..)?;
            rows.filter(valid).for_each(|i| add(&values[i * width..(i + 1) * width]));
        }
    }
    Some((counts, bytes))
}

/// Checks that a dictionary of the column would take more than `limit` bytes.
///
/// Estimates the number of distinct values from the values seen once and twice. Chao, "Nonparametric estimation of the number of
/// classes in a population" (1984), in its bias-corrected form.
pub(crate) fn dictionary_overflows(column: &dyn Array, limit: usize) -> bool {
    if column.len() < LEAST_ROWS {
        return false;
    }
    let Some((counts, bytes)) = counts(column) else { return false };
    let rows: u32 = counts.values().sum();
    if (rows as usize) < LEAST_ROWS {
        return false;
    }
    let seen = |times: u32| counts.values().filter(|n| **n == times).count() as f64;
    let (once, twice) = (seen(1), seen(2));
    let distinct = counts.len() as f64 + once * (once - 1.0) / (2.0 * (twice + 1.0));
    distinct * (bytes as f64 / f64::from(rows)) > limit as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};

    #[test]
    fn keys_overflow_and_codes_do_not() {
        // A sequence that repeats after `space` values, without order.
        let spread = |space: i64| (0..8192_i64).map(move |i| (i * i * 7919 + i * 104_729) % space);
        let ints = |space: i64| dictionary_overflows(&spread(space).collect::<Int64Array>(), 2 << 20);
        assert!(!ints(50) && !ints(20_011) && ints(10_000_019));
        let texts = |space: i64| {
            let texts: StringArray = spread(space).map(|n| Some(format!("a longer text that ends in {n}"))).collect();
            dictionary_overflows(&texts, 2 << 20)
        };
        assert!(!texts(500) && texts(1_000_003));
        assert!(dictionary_overflows(&(0..8192).collect::<Int64Array>(), 2 << 20));
        assert!(!dictionary_overflows(&(0..1000).collect::<Int64Array>(), 2 << 20), "too few to judge by");
        let few: Int64Array = (0..8192).map(|i| (i % 100 == 0).then_some(i)).collect();
        assert!(!dictionary_overflows(&few, 2 << 20), "mostly nulls");
    }
}
