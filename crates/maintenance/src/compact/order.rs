//! The order that a compaction sorts rows by: the table's sort order, one that the options give, or a Z-order curve.
//!
//! An order becomes sort keys: Arrow arrays that rows are compared by. A Z-order curve is one binary key, which interleaves the
//! bits of its columns. Start reading at [`order`] and [`RowOrder::keys`].

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, RecordBatch};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef};
use arrow::error::ArrowError;
use esker_format::{NullOrder, PrimitiveType, Schema, SortDirection, SortField, TableMetadata, Transform, Type, Value};
use esker_read::transform;
use esker_table::{ColumnBounds, LiveFile};

use super::columns::{ColumnPath, SortColumn, parse_sort_order};
use super::options::{CompactOptions, Strategy};
use crate::{MaintenanceError, Result};

/// An order of rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RowOrder {
    /// Sorted by columns; the first one counts most.
    Columns(Vec<SortKey>),
    /// Along the Z-order curve through columns, each scaled from its smallest to its largest value.
    Curve(Vec<CurveAxis>),
}

/// A column of an order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SortKey {
    pub(crate) column: ColumnPath,
    pub(crate) transform: Transform,
    pub(crate) options: SortOptions,
}

/// A column of a Z-order curve.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CurveAxis {
    column: ColumnPath,
    /// The smallest and the largest value, if the column can be scaled: numbers and times can.
    range: Option<(f64, f64)>,
}

/// Returns the order that the options ask for, and the id of the table's sort order if it is that one; `None` if rows keep their
/// order.
///
/// Spec: "Sorting".
///
/// # Errors
///
/// Returns [`MaintenanceError::Option`] if the table has no sort order, or if the order of the options can't be parsed. Also if the
/// order names an unknown transform, or a column that does not exist or can't be sorted by.
pub(crate) fn order(metadata: &TableMetadata, options: &CompactOptions) -> Result<Option<(RowOrder, Option<i32>)>> {
    let schema = metadata.current_schema();
    match options.strategy {
        Strategy::BinPack | Strategy::ConvertDeletes => Ok(None),
        Strategy::ZOrder => {
            let axis = |name: &String| Ok(CurveAxis { column: ColumnPath::named(schema, name, "zorder-columns")?, range: None });
            let axes: Vec<CurveAxis> = options.zorder_columns.iter().map(axis).collect::<Result<_>>()?;
            Ok(Some((RowOrder::Curve(axes), None)))
        }
        Strategy::Sort => match &options.sort_order {
            Some(text) => Ok(Some((RowOrder::Columns(parse(schema, text)?), None))),
            None => {
                let order = metadata.default_sort_order();
                if order.is_unsorted() {
                    let reason = "the table has no sort order; name the columns to sort by".to_owned();
                    return Err(MaintenanceError::Option { key: "sort-order", reason });
                }
                let key = |f: &SortField| {
                    let options = SortOptions {
                        descending: f.direction == SortDirection::Desc,
                        nulls_first: f.null_order == NullOrder::First,
                    };
                    let (Some(source), false) = (f.source_id, matches!(f.transform, Transform::Unknown(_))) else {
                        let reason = format!("the table is sorted by the transform {}, which is not supported", f.transform);
                        return Err(MaintenanceError::Option { key: "sort-order", reason });
                    };
                    Ok(SortKey { column: ColumnPath::of(schema, source)?, transform: f.transform.clone(), options })
                };
                // Values of the type `unknown` are all null: they are in any order.
                let is_of_none = |f: &&SortField| {
                    let source = f.source_id.and_then(|id| schema.field_by_id(id));
                    source.is_some_and(|field| *field.field_type == Type::Primitive(PrimitiveType::Unknown))
                };
                let keys: Vec<SortKey> = order.fields.iter().filter(|f| !is_of_none(f)).map(key).collect::<Result<_>>()?;
                let id = i32::try_from(order.order_id).ok();
                Ok((!keys.is_empty()).then_some((RowOrder::Columns(keys), id)))
            }
        },
    }
}

/// Parses an order of columns.
fn parse(schema: &Schema, text: &str) -> Result<Vec<SortKey>> {
    let key = |sorted: SortColumn<'_>| {
        let options = SortOptions { descending: sorted.descending, nulls_first: sorted.nulls_first };
        Ok(SortKey { column: ColumnPath::named(schema, sorted.name, "sort-order")?, transform: Transform::Identity, options })
    };
    parse_sort_order(text)?.into_iter().map(key).collect()
}

impl RowOrder {
    /// Sets the ranges of a curve's columns from the bounds in the files' manifest entries.
    pub(crate) fn stretch(&mut self, schema: &Schema, files: &[LiveFile]) {
        let Self::Curve(axes) = self else { return };
        for axis in axes {
            let id = axis.column.id;
            let Some(ty) = schema.field_by_id(id).and_then(|field| field.field_type.as_primitive()) else { continue };
            let bounds: Vec<ColumnBounds> = files.iter().map(|f| ColumnBounds::of(f.file.stats(id), ty)).collect();
            let low = bounds.iter().filter_map(|b| number(b.lower.as_ref()?)).reduce(f64::min);
            let high = bounds.iter().filter_map(|b| number(b.upper.as_ref()?)).reduce(f64::max);
            axis.range = low.zip(high).filter(|(low, high)| low < high);
        }
    }

    /// Computes the sort keys of a batch: arrays that rows are compared by, the most significant first, in the order of
    /// [`Self::options`].
    pub(crate) fn keys(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        match self {
            Self::Columns(keys) => {
                let key = |k: &SortKey| match &k.transform {
                    Transform::Identity => Ok(k.column.values(batch)?),
                    by => Ok(transform::array(by, &k.column.values(batch)?)?),
                };
                keys.iter().map(key).collect()
            }
            Self::Curve(axes) => Ok(vec![curve(axes, batch)?]),
        }
    }

    /// Returns the direction and the place of nulls of each sort key.
    pub(crate) fn options(&self) -> Vec<SortOptions> {
        match self {
            Self::Columns(keys) => keys.iter().map(|k| k.options).collect(),
            Self::Curve(_) => vec![SortOptions { descending: false, nulls_first: true }],
        }
    }

    /// Returns the types of [`Self::keys`].
    pub(crate) fn key_types(&self, schema: &SchemaRef) -> Result<Vec<DataType>> {
        Ok(self.keys(&RecordBatch::new_empty(schema.clone()))?.iter().map(|k| k.data_type().clone()).collect())
    }
}

/// Converts a value to a number; `None` for types that can't be scaled. A decimal becomes its unscaled value.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(v) | Value::Date(v) => Some(f64::from(*v)),
        Value::Long(v)
        | Value::Time(v)
        | Value::Timestamp(v)
        | Value::Timestamptz(v)
        | Value::TimestampNs(v)
        | Value::TimestamptzNs(v) => Some(*v as f64),
        Value::Float(v) => Some(f64::from(*v)),
        Value::Double(v) => Some(*v),
        Value::Decimal { unscaled, .. } => Some(*unscaled as f64),
        Value::Boolean(_) | Value::String(_) | Value::Uuid(_) | Value::Fixed(_) | Value::Binary(_) => None,
        Value::Struct(_) | Value::List(_) | Value::Map(_) => None,
    }
}

/// Computes each row's position on the curve: eight bytes for each column, with the columns' bits interleaved from the highest.
fn curve(axes: &[CurveAxis], batch: &RecordBatch) -> std::result::Result<ArrayRef, ArrowError> {
    let columns = axes.iter().map(|a| ordinals(&a.column.values(batch)?, a.range)).collect::<std::result::Result<Vec<_>, _>>()?;
    let mut places = BinaryBuilder::with_capacity(batch.num_rows(), batch.num_rows() * axes.len() * 8);
    let mut place = vec![0_u8; axes.len() * 8];
    for row in 0..batch.num_rows() {
        place.fill(0);
        for (c, column) in columns.iter().enumerate() {
            let value = column[row];
            for bit in 0..64 {
                let at = bit * columns.len() + c;
                place[at / 8] |= (((value >> (63 - bit)) & 1) as u8) << (7 - at % 8);
            }
        }
        places.append_value(&place);
    }
    Ok(Arc::new(places.finish()))
}

/// Converts values to unsigned numbers of the same order; nulls become 0. Of strings and binaries, the first eight bytes count.
fn ordinals(column: &ArrayRef, range: Option<(f64, f64)>) -> std::result::Result<Vec<u64>, ArrowError> {
    let prefix = |bytes: &[u8]| {
        let mut first = [0; 8];
        let n = bytes.len().min(8);
        first[..n].copy_from_slice(&bytes[..n]);
        u64::from_be_bytes(first)
    };
    Ok(match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => {
            let text = cast(column, &DataType::Utf8)?;
            text.as_string::<i32>().iter().map(|v| v.map_or(0, |v| prefix(v.as_bytes()))).collect()
        }
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            let binary = cast(column, &DataType::Binary)?;
            binary.as_binary::<i32>().iter().map(|v| v.map_or(0, prefix)).collect()
        }
        DataType::Boolean => column.as_boolean().iter().map(|v| v.map_or(0, |v| u64::MAX >> u8::from(!v))).collect(),
        ty => {
            let ints = if ty.is_integer() || ty.is_temporal() { cast(column, &DataType::Int64).ok() } else { None };
            if let (Some(ints), None) = (&ints, range) {
                return Ok(ints
                    .as_primitive::<Int64Type>()
                    .iter()
                    .map(|v| v.map_or(0, |v| v.cast_unsigned() ^ (1 << 63)))
                    .collect());
            }
            let source = ints.as_ref().unwrap_or(column);
            let numbers = cast(source, &DataType::Float64)?;
            // Bounds of a decimal are unscaled here, but the cast to a float applies the scale.
            let scale = if let DataType::Decimal128(_, scale) = ty { 10_f64.powi(i32::from(*scale)) } else { 1.0 };
            let (low, high) = range.unwrap_or((f64::MIN, f64::MAX));
            let width = (high - low).max(f64::MIN_POSITIVE);
            let stretched = |v: f64| (((v * scale - low) / width).clamp(0.0, 1.0) * 18_446_744_073_709_549_568.0) as u64;
            numbers.as_primitive::<Float64Type>().iter().map(|v| v.map_or(0, stretched)).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};

    #[test]
    fn the_curve_keeps_neighbours_together() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(1), Some(2), Some(3), None]));
        let ordinals = ordinals(&values, Some((0.0, 3.0))).expect("ordinals");
        assert!(ordinals.is_sorted_by_key(|v| *v) || ordinals[4] == 0);
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "a", "b", "a"]));
        let batch = RecordBatch::try_from_iter([("a", values), ("b", text)]).expect("a batch");
        let axes = [
            CurveAxis { column: ColumnPath::top(0, 1), range: Some((0.0, 3.0)) },
            CurveAxis { column: ColumnPath::top(1, 2), range: None },
        ];
        let places = curve(&axes, &batch).expect("places");
        let places = places.as_binary::<i32>();
        assert!(places.value(0) < places.value(2), "the first bit is the first column's");
        assert_eq!(places.value(4)[0] >> 7, 0);
    }
}
