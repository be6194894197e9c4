//! Bounds of the parts of variants that are in columns of their own, as manifests have them.

use esker_format::{Bound, PrimitiveType, Value};
use esker_read::{VariantColumn, only_nulls, part_path, part_type, statistic};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::variant::{Variant, VariantBuilder, VariantDecimal16};

/// The least and the greatest values of a variant's parts, each as one variant: an object with a field a part, which is called by its path
/// (specification, Appendix D, "Bound serialization"). A part has bounds if all that there is of it is in its column.
pub(crate) fn bounds(footer: &ParquetMetaData, column: &VariantColumn) -> Option<(Bound, Bound)> {
    let (mut lower, mut upper) = (Vec::new(), Vec::new());
    for part in &column.parts {
        let Some(typed) = part.typed else { continue };
        let Some(ty) = part_type(&footer.file_metadata().schema_descr().column(typed)) else { continue };
        // NaN is greater than what statistics call the greatest, and nobody counts it here.
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

fn chunks(footer: &ParquetMetaData, leaf: usize) -> impl Iterator<Item = &ColumnChunkMetaData> {
    footer.row_groups().iter().map(move |group| group.column(leaf))
}

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
    let short = |value: &Value| !matches!(value, Value::String(text) if text.len() > LONG);
    found.filter(|(low, high)| short(low) && short(high) && variant(low).is_some() && variant(high).is_some())
}

/// Longer texts are no bounds: manifests would grow by them.
const LONG: usize = 64;

fn object(fields: &[(String, Value)]) -> Bound {
    let mut builder = VariantBuilder::new();
    let mut object = builder.new_object();
    for (path, value) in fields {
        if let Some(value) = variant(value) {
            object.insert(path, value);
        }
    }
    object.finish();
    let (mut bytes, value) = builder.finish();
    bytes.extend(value);
    Bound::new(bytes)
}

/// A value as a variant; none of a type that no part has.
fn variant(value: &Value) -> Option<Variant<'_, '_>> {
    use arrow::temporal_conversions::{date32_to_datetime, timestamp_ns_to_datetime, timestamp_us_to_datetime};
    Some(match value {
        Value::Boolean(v) => Variant::from(*v),
        Value::Int(v) => Variant::from(*v),
        Value::Long(v) => Variant::from(*v),
        Value::Decimal { unscaled, scale } => {
            Variant::Decimal16(VariantDecimal16::try_new(*unscaled, u8::try_from(*scale).ok()?).ok()?)
        }
        Value::String(v) => Variant::from(v.as_ref()),
        Value::Date(v) => Variant::Date(date32_to_datetime(*v)?.date()),
        Value::Timestamp(v) => Variant::TimestampNtzMicros(timestamp_us_to_datetime(*v)?),
        Value::Timestamptz(v) => Variant::TimestampMicros(timestamp_us_to_datetime(*v)?.and_utc()),
        Value::TimestampNs(v) => Variant::TimestampNtzNanos(timestamp_ns_to_datetime(*v)?),
        Value::TimestamptzNs(v) => Variant::TimestampNanos(timestamp_ns_to_datetime(*v)?.and_utc()),
        _ => return None,
    })
}
