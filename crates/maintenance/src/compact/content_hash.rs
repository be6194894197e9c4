//! A hash of rows that does not depend on their order: a rewrite must keep it.
//!
//! Each row is hashed column by column, in the order of the columns. The hashes of the rows are summed, so that rows may be divided
//! among workers and files in any way. It detects errors and is no protection against an attacker. Values are hashed as readers see
//! them: columns of identity partition fields come from the partition. Start reading at [`ContentHash::add`].

use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use esker_format::{PartitionField, PartitionSpec, Value};
use esker_read::{field_id, is_variant, literal_array, variant_at, variant_hash};
use esker_write::ParquetLayout;

/// The constants of a partition that readers see instead of a file's values.
///
/// Engines take a column that is the source of an identity partition field from the partition, whatever the file holds.
///
/// Spec: "Column Projection".
#[derive(Debug, Clone, Default)]
pub(crate) struct PartitionConstants {
    /// The index of each such column in the table's schema, and its value as an array of length 1.
    constants: Vec<(usize, ArrayRef)>,
}

impl PartitionConstants {
    /// Returns the constants of the files of a partition. `partition` has a value for each field of `spec`.
    pub(crate) fn of(shape: &ParquetLayout, spec: &PartitionSpec, partition: &[Option<Value>]) -> Self {
        let constant = |(field, value): (&PartitionField, &Option<Value>)| {
            let source = field.source_id().filter(|_| field.transform().is_identity())?;
            let at = shape.arrow.fields().iter().position(|f| field_id(f) == Some(source))?;
            let to = shape.arrow.field(at).data_type();
            let constant = match value {
                None => new_null_array(to, 1),
                Some(value) => literal_array(value, to)?,
            };
            Some((at, constant))
        };
        Self { constants: spec.fields().iter().zip(partition.iter()).filter_map(constant).collect() }
    }

    /// Returns a column of a batch as readers see it. `at` is its index in the table's schema.
    fn column(&self, at: usize, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        match self.constants.iter().find(|(place, _)| *place == at) {
            Some((_, value)) => take(value, &UInt32Array::from(vec![0; column.len()]), None),
            None => Ok(column.clone()),
        }
    }
}

/// The sum of the hashes of some rows, in 128 bits, and the number of the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ContentHash {
    /// Wrapping sum of the rows' hashes.
    sum: u64,
    /// Wrapping sum of a second hash of each row, made from the first.
    mixed: u64,
    pub(crate) rows: u64,
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}-{}", self.sum, self.mixed, self.rows)
    }
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const NULL: u64 = 0xd1b5_4a32_d192_ed03;

/// Spreads every bit of `x` over the result, as a bijection (the finaliser of SplitMix64).
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Adds a value to a row's hash. The order of columns matters; that of rows does not.
const fn fold(row: u64, value: u64) -> u64 {
    mix(row.rotate_left(23) ^ value.wrapping_mul(SEED))
}

impl ContentHash {
    /// Returns the hash of rows that are counted and not hashed.
    pub(crate) fn counted(rows: u64) -> Self {
        Self { rows, ..Self::default() }
    }

    /// Adds the rows of another hash.
    pub(crate) fn merge(&mut self, other: Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.mixed = self.mixed.wrapping_add(other.mixed);
        self.rows += other.rows;
    }

    /// Adds the rows of a batch, as readers see them.
    pub(crate) fn add(&mut self, batch: &RecordBatch, seen: &PartitionConstants) -> Result<(), ArrowError> {
        let mut rows = vec![SEED; batch.num_rows()];
        for (at, (field, column)) in batch.schema().fields().iter().zip(batch.columns()).enumerate() {
            add_column(&mut rows, field, &seen.column(at, column)?)?;
        }
        for row in rows {
            self.sum = self.sum.wrapping_add(row);
            self.mixed = self.mixed.wrapping_add(mix(row ^ NULL));
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }
}

/// Adds a value of each row to the rows' hashes; nulls of `array` become a fixed value.
fn each(rows: &mut [u64], array: &dyn Array, mut value: impl FnMut(usize) -> u64) {
    match array.nulls().filter(|n| n.null_count() > 0) {
        None => rows.iter_mut().enumerate().for_each(|(i, row)| *row = fold(*row, value(i))),
        Some(nulls) => {
            rows.iter_mut().enumerate().for_each(|(i, row)| *row = fold(*row, if nulls.is_valid(i) { value(i) } else { NULL }))
        }
    }
}

/// Hashes a byte string.
fn bytes(value: &[u8]) -> u64 {
    let mut hash = value.len() as u64;
    let mut chunks = value.chunks_exact(8);
    for chunk in &mut chunks {
        hash = (hash.rotate_left(29) ^ u64::from_le_bytes(chunk.try_into().unwrap_or_default())).wrapping_mul(SEED);
    }
    let mut last = [0; 8];
    let rest = chunks.remainder();
    last[..rest.len()].copy_from_slice(rest);
    mix((hash.rotate_left(29) ^ u64::from_le_bytes(last)).wrapping_mul(SEED))
}

/// Adds a column's values to the hashes of the rows.
fn add_column(rows: &mut [u64], field: &Field, column: &ArrayRef) -> Result<(), ArrowError> {
    use arrow::datatypes as t;
    macro_rules! primitive {
        ($type:ty, $to:expr) => {{
            let values = column.as_primitive::<$type>().values();
            each(rows, column, |i| $to(values[i]))
        }};
    }
    let double = |v: f64| v.to_bits();
    let wide = |v: i128| mix((v >> 64) as u64).wrapping_add(v as u64);
    match column.data_type() {
        ty if is_variant(ty) => {
            let values = column.as_struct();
            each(rows, column, |i| variant_hash(variant_at(values, i)));
        }
        DataType::Int32 => primitive!(t::Int32Type, |v: i32| v as u64),
        DataType::Int64 => primitive!(t::Int64Type, |v: i64| v as u64),
        DataType::Date32 => primitive!(t::Date32Type, |v: i32| v as u64),
        DataType::Time64(t::TimeUnit::Microsecond) => primitive!(t::Time64MicrosecondType, |v: i64| v as u64),
        DataType::Timestamp(t::TimeUnit::Microsecond, _) => primitive!(t::TimestampMicrosecondType, |v: i64| v as u64),
        DataType::Timestamp(t::TimeUnit::Nanosecond, _) => primitive!(t::TimestampNanosecondType, |v: i64| v as u64),
        DataType::Float32 => primitive!(t::Float32Type, |v: f32| u64::from(v.to_bits())),
        DataType::Float64 => primitive!(t::Float64Type, double),
        DataType::Decimal128(_, _) => primitive!(t::Decimal128Type, wide),
        DataType::Boolean => {
            let values = column.as_boolean();
            each(rows, column, |i| u64::from(values.value(i)));
        }
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            each(rows, column, |i| bytes(values.value(i).as_bytes()));
        }
        DataType::LargeUtf8 => {
            let values = column.as_string::<i64>();
            each(rows, column, |i| bytes(values.value(i).as_bytes()));
        }
        DataType::Binary => {
            let values = column.as_binary::<i32>();
            each(rows, column, |i| bytes(values.value(i)));
        }
        DataType::LargeBinary => {
            let values = column.as_binary::<i64>();
            each(rows, column, |i| bytes(values.value(i)));
        }
        DataType::FixedSizeBinary(_) => {
            let values = column.as_fixed_size_binary();
            each(rows, column, |i| bytes(values.value(i)));
        }
        DataType::Struct(fields) => {
            let values = column.as_struct();
            each(rows, column, |_| SEED);
            // A column of the type `unknown` has no values and no mask of nulls.
            let typed = fields.iter().zip(values.columns()).filter(|(_, child)| !child.data_type().is_null());
            for (field, child) in typed {
                // A child's value under a null struct means nothing, and a rewrite does not preserve it.
                let nulls = arrow::buffer::NullBuffer::union(values.nulls(), child.logical_nulls().as_ref());
                let child = arrow::array::make_array(child.to_data().into_builder().nulls(nulls).build()?);
                add_column(rows, field, &child)?;
            }
        }
        DataType::Map(_, _) => {
            let map = column.as_map();
            let (keys, values) = (map.keys().clone(), map.values().clone());
            nested(rows, column, map.offsets(), &[keys, values])?;
        }
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            nested(rows, column, list.offsets(), std::slice::from_ref(list.values()))?;
        }
        other => {
            let converter = RowConverter::new(vec![SortField::new(other.clone())]);
            let keys = converter.and_then(|c| c.convert_columns(std::slice::from_ref(column)));
            let keys = keys.map_err(|e| ArrowError::SchemaError(format!("column {}: {e}", field.name())))?;
            for (row, key) in rows.iter_mut().zip(&keys) {
                *row = fold(*row, bytes(key.data()));
            }
        }
    }
    Ok(())
}

/// Adds lists or maps to the hashes of the rows: the hashes of their elements, in order.
fn nested(rows: &mut [u64], column: &ArrayRef, offsets: &[i32], children: &[ArrayRef]) -> Result<(), ArrowError> {
    let mut elements = vec![SEED; children.first().map_or(0, |c| c.len())];
    for child in children {
        add_column(&mut elements, &Field::new("element", child.data_type().clone(), true), child)?;
    }
    each(rows, column, |i| {
        let range = offsets[i] as usize..offsets[i + 1] as usize;
        elements[range.clone()].iter().fold(range.len() as u64, |hash, element| fold(hash, *element))
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, ListArray, StringArray, StructArray};
    use std::sync::Arc;

    fn batch(rows: &[(Option<i64>, Option<&str>)]) -> RecordBatch {
        let ids: ArrayRef = Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>());
        let names: ArrayRef = Arc::new(rows.iter().map(|r| r.1).collect::<StringArray>());
        let list = |v: i64| Some(vec![Some(v), None]);
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>(
            rows.iter().map(|r| r.0.and_then(list)),
        ));
        let inner = Arc::new(StructArray::from(vec![(Arc::new(Field::new("x", DataType::Utf8, true)), names.clone())]));
        RecordBatch::try_from_iter_with_nullable([
            ("id", ids, true),
            ("name", names, true),
            ("list", lists, true),
            ("inner", inner, true),
        ])
        .expect("a batch")
    }

    fn hash(batches: &[RecordBatch]) -> ContentHash {
        let mut hash = ContentHash::default();
        batches.iter().for_each(|b| hash.add(b, &PartitionConstants::default()).expect("hashed"));
        hash
    }

    /// The hash is about values that readers see. A column that comes from the partition has the same values whatever files hold.
    /// Rows of another partition are other rows.
    #[test]
    fn a_column_that_files_are_partitioned_by_is_the_partitions() {
        let seen = |value: Option<&str>| {
            let value: ArrayRef = Arc::new(StringArray::from(vec![value]));
            PartitionConstants { constants: vec![(0, value)] }
        };
        let of = |name: Option<&str>, seen: &PartitionConstants| {
            let names: ArrayRef = Arc::new(StringArray::from(vec![name, name]));
            let batch = RecordBatch::try_from_iter_with_nullable([("name", names, true)]).expect("a batch");
            let mut hash = ContentHash::default();
            hash.add(&batch, seen).expect("hashed");
            hash
        };
        assert_eq!(of(Some("x"), &seen(Some("x"))), of(Some("x"), &PartitionConstants::default()));
        assert_eq!(of(Some("y"), &seen(Some("x"))), of(None, &seen(Some("x"))), "the file's value is not seen");
        assert_ne!(of(Some("null"), &seen(Some("null"))), of(Some("null"), &seen(None)));
    }

    #[test]
    fn order_and_batches_do_not_matter_and_values_do() {
        let rows = [(Some(1), Some("a")), (Some(2), None), (None, Some("b")), (Some(1), Some("a"))];
        let all = hash(&[batch(&rows)]);
        let mut turned = rows;
        turned.reverse();
        assert_eq!(all, hash(&[batch(&turned[..1]), batch(&turned[1..])]));
        for other in [
            [(Some(1), None), (Some(2), Some("a")), (None, Some("b")), (Some(1), Some("a"))],
            [(Some(1), Some("a")), (Some(2), Some("")), (None, Some("b")), (Some(1), Some("a"))],
            [(Some(1), Some("b")), (Some(2), None), (None, Some("a")), (Some(1), Some("a"))],
        ] {
            assert_ne!(all, hash(&[batch(&other)]));
        }
        assert_ne!(all, hash(&[batch(&rows[..3])]));
    }
}
