//! Computes the bounds of shredded variant fields for manifest entries.
//!
//! Spec: "Bounds for Variant", Appendix D "Bound serialization".

use esker_format::{BoundBytes, PrimitiveType, Value};
use esker_read::{VariantBuilder, VariantColumn, VariantValue, only_nulls, part_path, part_type, statistic};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

/// Returns the lower and the upper bound of a variant column, each encoded as one variant.
///
/// The variant is an object with one field per shredded field, named by its path. A shredded field has bounds if all of its
/// values are in its typed column. Spec: "Bounds for Variant".
pub(crate) fn bounds(footer: &ParquetMetaData, column: &VariantColumn) -> Option<(BoundBytes, BoundBytes)> {
    let (mut lower, mut upper) = (Vec::new(), Vec::new());
    for part in &column.parts {
        let Some(typed) = part.typed else { continue };
        let Some(ty) = part_type(&footer.file_metadata().schema_descr().column(typed)) else { continue };
        // NaN is greater than the maximum in statistics, and NaNs are not counted here.
        if matches!(ty, PrimitiveType::Float | PrimitiveType::Double) {
            continue;
        }
        if let Some((low, high)) =
            part.value.is_none_or(|value| chunks(footer, value).all(only_nulls)).then(|| range(footer, typed, &ty)).flatten()
        {
            let path = part_path(&part.path);
            lower.push((path.clone(), low));
            upper.push((path, high));
        }
    }
    (!lower.is_empty()).then(|| (object(&lower), object(&upper)))
}

/// Returns the chunks of a leaf column, one for each row group.
fn chunks(footer: &ParquetMetaData, leaf: usize) -> impl Iterator<Item = &ColumnChunkMetaData> {
    footer.row_groups().iter().map(move |group| group.column(leaf))
}

/// Returns the least and the greatest value of a leaf column; none if a row group lacks usable bounds.
fn range(footer: &ParquetMetaData, leaf: usize, ty: &PrimitiveType) -> Option<(Value, Value)> {
    let mut found: Option<(Value, Value)> = None;
    for chunk in chunks(footer, leaf).filter(|chunk| !only_nulls(chunk)) {
        let statistics = chunk.statistics()?;
        let low = statistic(ty, statistics.physical_type(), statistics.min_bytes_opt()?)?;
        let high = statistic(ty, statistics.physical_type(), statistics.max_bytes_opt()?)?;
        found = Some(match found {
            Some((l, h)) => (if low < l { low } else { l }, if high > h { high } else { h }),
            None => (low, high),
        });
    }
    let short = |value: &Value| !matches!(value, Value::String(text) if text.len() > MAX_STRING_BOUND_BYTES);
    found.filter(|(low, high)| short(low) && short(high) && variant(low).is_some() && variant(high).is_some())
}

/// Greatest length of a string bound in bytes; longer ones would make manifests grow.
const MAX_STRING_BOUND_BYTES: usize = 64;

/// Encodes an object with these fields.
fn object(fields: &[(String, Value)]) -> BoundBytes {
    let mut builder = VariantBuilder::default();
    let mut object = builder.begin();
    for (path, value) in fields {
        if let Some(value) = variant(value) {
            builder.field(&mut object, path);
            builder.add(value);
        }
    }
    builder.end_object(object);
    let (metadata, value) = builder.finish();
    BoundBytes::new([metadata, value].concat())
}

/// Returns a value as a variant value; none if shredded fields can't have its type.
fn variant(value: &Value) -> Option<VariantValue<'_>> {
    Some(match value {
        Value::Boolean(v) => VariantValue::Boolean(*v),
        Value::Int(v) => VariantValue::Integer((*v).into()),
        Value::Long(v) => VariantValue::Integer(*v),
        Value::Decimal { unscaled, scale } => {
            VariantValue::Decimal { unscaled: *unscaled, scale: u8::try_from(*scale).ok().filter(|scale| *scale <= 38)? }
        }
        Value::String(v) => VariantValue::String(v),
        Value::Date(v) => VariantValue::Date(*v),
        Value::Timestamp(v) => VariantValue::Timestamp { micros: *v, zoned: false },
        Value::Timestamptz(v) => VariantValue::Timestamp { micros: *v, zoned: true },
        Value::TimestampNs(v) => VariantValue::TimestampNs { nanos: *v, zoned: false },
        Value::TimestamptzNs(v) => VariantValue::TimestampNs { nanos: *v, zoned: true },
        _ => return None,
    })
}
