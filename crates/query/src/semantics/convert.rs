//! Conversions that lose digits. DataFusion takes a cast beside a literal for one that can be undone: it would look for 5.00 where
//! `CAST(d AS INT) = 5` also holds for 5.30.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::error::{DataFusionError, Result};

use super::function::Unary;
use super::instant::unit_nanoseconds;

/// A conversion to a type; what can't be converted is null, or an error.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Convert {
    pub(super) to: DataType,
    pub(super) safe: bool,
}

/// Whether values of a type lose digits in another.
pub(super) fn loses_digits(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Decimal128(_, s), DataType::Decimal128(_, t)) => s > t,
        (from, to) if to.is_integer() => from.is_decimal() || from.is_floating(),
        (DataType::Timestamp(a, _), DataType::Timestamp(b, _)) => unit_nanoseconds(*a) < unit_nanoseconds(*b),
        _ => false,
    }
}

impl Unary for Convert {
    fn name(&self) -> &'static str {
        if self.safe { "try_convert" } else { "convert" }
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        Ok(Field::new("", self.to.clone(), self.safe || input.is_nullable()))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let options = CastOptions { safe: self.safe, ..CastOptions::default() };
        let whole: ArrayRef = match (values.data_type(), &self.to) {
            (from, to) if from.is_floating() && to.is_integer() => {
                let doubles = cast(values, &DataType::Float64)?;
                Arc::new(doubles.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::round_ties_even))
            }
            (DataType::Decimal128(_, _), to) if to.is_integer() => {
                cast_with_options(values, &DataType::Decimal128(38, 0), &options)?
            }
            (DataType::Timestamp(a, _), DataType::Timestamp(b, _)) => {
                let many = i64::try_from(unit_nanoseconds(*b) / unit_nanoseconds(*a));
                let many = many.map_err(|e| DataFusionError::External(Box::new(e)))?;
                let plain = cast(values, &DataType::Int64)?;
                // Towards the past, before the epoch too.
                let floor: Int64Array = plain.as_primitive::<Int64Type>().unary(|v| v.div_euclid(many));
                Arc::new(floor)
            }
            _ => values.clone(),
        };
        Ok(cast_with_options(&whole, &self.to, &options)?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, Float64Array, Int32Array, TimestampNanosecondArray};
    use arrow::datatypes::{Int32Type, TimeUnit, TimestampMicrosecondType};

    use super::*;

    fn ints(values: ArrayRef) -> Result<Int32Array> {
        Ok(Convert { to: DataType::Int32, safe: false }.apply(&values)?.as_primitive::<Int32Type>().clone())
    }

    #[test]
    fn numbers_are_rounded_as_postgresql_does() {
        // SELECT CAST(x AS INT): numeric rounds halves away from zero, double precision to the even number.
        let doubles = Float64Array::from(vec![0.5, 1.5, 2.5, -0.5, -1.5, 2.4]);
        assert_eq!(ints(Arc::new(doubles)).expect("in range").values(), &[0, 2, 2, 0, -2, 2]);
        let decimals = Decimal128Array::from(vec![5, 15, 25, -5, -15, 24]).with_precision_and_scale(10, 1).expect("a type");
        assert_eq!(ints(Arc::new(decimals)).expect("in range").values(), &[1, 2, 3, -1, -2, 2]);
        for wrong in [f64::NAN, f64::INFINITY, 2_147_483_648.0] {
            assert!(ints(Arc::new(Float64Array::from(vec![wrong]))).is_err(), "{wrong}");
        }
    }

    #[test]
    fn digits_of_a_second_are_cut_towards_the_past() {
        let ns: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![-1, 1, 1999]));
        let us = Convert { to: DataType::Timestamp(TimeUnit::Microsecond, None), safe: false }.apply(&ns).expect("in range");
        assert_eq!(us.as_primitive::<TimestampMicrosecondType>().values(), &[-1, 0, 1]);
    }
}
