//! Comparison keys of dates and timestamps of every unit: nanoseconds since the Unix epoch, as `DECIMAL(38, 0)`.
//!
//! No side of a comparison is cut to the other's unit, and no year is out of range.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Field, FieldRef, Int64Type, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use datafusion::scalar::ScalarValue;

use super::function::Unary;

/// Nanoseconds in a day.
const DAY: i128 = 86_400_000_000_000;

/// The function from a date or timestamp to nanoseconds since the Unix epoch.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Instant;

/// Name of [`Instant`] in plans.
pub(super) const NAME: &str = "nanoseconds_since_epoch";

/// Returns the nanoseconds in a unit.
pub(super) fn unit_nanoseconds(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// Returns a date or timestamp in nanoseconds since the Unix epoch. Returns `None` for nulls and other types.
pub(super) fn nanoseconds(value: &ScalarValue) -> Option<i128> {
    Some(match value {
        ScalarValue::Date32(Some(v)) => i128::from(*v) * DAY,
        ScalarValue::TimestampSecond(Some(v), _) => i128::from(*v) * 1_000_000_000,
        ScalarValue::TimestampMillisecond(Some(v), _) => i128::from(*v) * 1_000_000,
        ScalarValue::TimestampMicrosecond(Some(v), _) => i128::from(*v) * 1_000,
        ScalarValue::TimestampNanosecond(Some(v), _) => i128::from(*v),
        _ => return None,
    })
}

impl Unary for Instant {
    fn name(&self) -> &str {
        NAME
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        Ok(Field::new(NAME, DataType::Decimal128(38, 0), input.is_nullable()))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let made: Decimal128Array = match values.data_type() {
            DataType::Date32 => values.as_primitive::<Date32Type>().unary(|v| i128::from(v) * DAY),
            DataType::Timestamp(unit, _) => {
                let unit = unit_nanoseconds(*unit);
                // This cast returns the stored integers; it converts nothing.
                let plain = cast(values, &DataType::Int64)?;
                plain.as_primitive::<Int64Type>().unary(|v| i128::from(v) * unit)
            }
            other => return Err(DataFusionError::Internal(format!("{NAME} of {other}"))),
        };
        Ok(Arc::new(made.with_precision_and_scale(38, 0)?))
    }
}
