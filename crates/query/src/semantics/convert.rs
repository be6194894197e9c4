//! Conversions that differ from Arrow's. Start with [`is_own`], which lists them, and [`Convert`].
//!
//! - Those that lose digits: DataFusion takes a cast that is compared with a literal for one that can be undone. For `CAST(d AS
//!   INT) = 5` it would look for 5.00, although the condition holds for 5.30, too.
//! - Those that a value may not fit: the error names the value.
//! - Those between texts and points in time.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, DecimalType, Field, FieldRef, Float64Type, Int64Type};
use arrow::util::display::{FormatOptions, array_value_to_string};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Expr;

use super::at_time_zone::is_utc;
use super::function::{Unary, call};
use super::instant::unit_nanoseconds;
use crate::error_wording::sql_type;
use crate::timestamp_text::{as_texts, holds_times, whole};

/// Options by which a value that cannot be converted becomes null. [`all_made`] finds these nulls.
const SAFE: CastOptions<'static> = CastOptions { safe: true, format_options: FormatOptions::new() };

/// The function that converts values to a type. A value that cannot be converted is null if `safe`, else an error.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Convert {
    pub(super) to: DataType,
    pub(super) safe: bool,
}

/// Converts an expression from one type to another. Returns `None` if Arrow's conversion is right.
pub(super) fn converted(expr: &Expr, from: &DataType, to: &DataType, safe: bool) -> Option<Expr> {
    is_own(from, to).then(|| call(Convert { to: to.clone(), safe }, expr.clone()))
}

/// Returns true if a conversion differs from Arrow's.
pub(crate) fn is_own(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (from, to) if from.is_string() => match to {
            DataType::Timestamp(_, zone) => zone.as_ref().is_none_or(|zone| is_utc(zone)),
            to => to.is_integer() || to.is_floating() || matches!(to, DataType::Date32 | DataType::Decimal128(..)),
        },
        (from, to) if to.is_string() => holds_times(from),
        (DataType::List(from), DataType::List(to)) => to.data_type().is_string() && holds_times(from.data_type()),
        (DataType::Decimal128(p, s), DataType::Decimal128(q, t)) => s > t || whole_digits(*p, *s) > whole_digits(*q, *t),
        (from, DataType::Decimal128(p, s)) if from.is_integer() => integer_digits(from) > whole_digits(*p, *s),
        (from, DataType::Decimal128(..)) => from.is_floating(),
        (DataType::Decimal128(..), to) if to.is_floating() => true,
        (from, to) if to.is_integer() => from.is_decimal() || from.is_floating(),
        (DataType::Timestamp(a, _), DataType::Timestamp(b, _)) => unit_nanoseconds(*a) < unit_nanoseconds(*b),
        _ => false,
    }
}

/// Converts values to another type as `CAST` does.
///
/// A value that cannot be converted is null if `safe`, as in `TRY_CAST`, else an error.
pub(crate) fn cast_values(values: &ArrayRef, to: &DataType, safe: bool) -> Result<ArrayRef> {
    match is_own(values.data_type(), to) {
        true => Convert { to: to.clone(), safe }.apply(values),
        false => Ok(cast_with_options(values, to, &CastOptions { safe, ..CastOptions::default() })?),
    }
}

/// Converts decimals to the nearest floats.
///
/// Arrow rounds long decimals twice: first their digits, then the quotient.
pub(crate) fn nearest(values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    /// Doubles are exact for all integers up to this one.
    const WHOLE: u128 = 1 << f64::MANTISSA_DIGITS;
    /// Doubles are exact for all powers of ten up to this exponent.
    const POWER: i8 = 22;
    let decimals = values.as_primitive::<Decimal128Type>();
    let (precision, scale) = (decimals.precision(), decimals.scale());
    let is_short = |v: Option<i128>| v.is_none_or(|v| v.unsigned_abs() <= WHOLE);
    if *to == DataType::Float64 && (0..=POWER).contains(&scale) && decimals.iter().all(is_short) {
        return Ok(cast(values, to)?);
    }
    let text = |v: Option<i128>| v.map(|v| Decimal128Type::format_decimal(v, precision, scale));
    let texts: StringArray = decimals.iter().map(text).collect();
    Ok(cast(&texts, to)?)
}

/// Returns the number of digits before the point.
fn whole_digits(precision: u8, scale: i8) -> i16 {
    i16::from(precision) - i16::from(scale)
}

/// Returns the greatest number of digits of an integer type.
fn integer_digits(ty: &DataType) -> i16 {
    match ty {
        DataType::Int8 | DataType::UInt8 => 3,
        DataType::Int16 | DataType::UInt16 => 5,
        DataType::Int32 | DataType::UInt32 => 10,
        DataType::Int64 => 19,
        _ => 20,
    }
}

/// Returns texts in the form that Arrow reads as values of a type.
fn readable(values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let texts = cast(values, &DataType::Utf8)?;
    let one = |text| match to {
        DataType::Timestamp(..) | DataType::Date32 => whole(text),
        _ => Cow::Borrowed(text.trim()),
    };
    let texts: StringArray = texts.as_string::<i32>().iter().map(|text| text.map(one)).collect();
    Ok(Arc::new(texts))
}

/// Returns the converted values. The error names the first value that was not converted.
fn all_made(values: &ArrayRef, made: ArrayRef) -> Result<ArrayRef> {
    let lost = (made.null_count() > 0).then(|| (0..values.len()).find(|row| values.is_valid(*row) && made.is_null(*row)));
    let Some(row) = lost.flatten() else { return Ok(made) };
    let (value, ty) = (array_value_to_string(values, row)?, sql_type(made.data_type()));
    Err(DataFusionError::Execution(match values.data_type().is_string() {
        true => format!("'{value}' can't be read as {ty}"),
        false => format!("{value} does not fit {ty}"),
    }))
}

impl Unary for Convert {
    fn name(&self) -> &'static str {
        if self.safe { "try_convert" } else { "convert" }
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        Ok(Field::new("", self.to.clone(), self.safe || input.is_nullable()))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let prepared: ArrayRef = match (values.data_type(), &self.to) {
            (from, to) if from.is_floating() && to.is_integer() => {
                let doubles = cast(values, &DataType::Float64)?;
                Arc::new(doubles.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::round_ties_even))
            }
            (DataType::Decimal128(_, _), to) if to.is_integer() => {
                cast_with_options(values, &DataType::Decimal128(38, 0), &SAFE)?
            }
            (DataType::Decimal128(_, _), to) if to.is_floating() => nearest(values, to)?,
            (from, to) if from.is_string() => readable(values, to)?,
            (from, to) if (to.is_string() || to.is_nested()) && holds_times(from) => as_texts(values)?,
            (DataType::Timestamp(a, _), DataType::Timestamp(b, _)) => {
                let many = i64::try_from(unit_nanoseconds(*b) / unit_nanoseconds(*a));
                let many = many.map_err(|e| DataFusionError::External(Box::new(e)))?;
                let plain = cast(values, &DataType::Int64)?;
                // Rounds towards the past, also before the epoch.
                let floor: Int64Array = plain.as_primitive::<Int64Type>().unary(|v| v.div_euclid(many));
                Arc::new(floor)
            }
            _ => values.clone(),
        };
        let made = cast_with_options(&prepared, &self.to, &SAFE)?;
        if self.safe { Ok(made) } else { all_made(values, made) }
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
    fn what_does_not_fit_is_named() {
        let made = |values: ArrayRef, to: DataType| {
            assert!(is_own(values.data_type(), &to), "{} to {to}", values.data_type());
            Convert { to, safe: false }.apply(&values).map_err(|error| error.to_string())
        };
        let decimal = DataType::Decimal128(4, 1);
        let wide = Decimal128Array::from(vec![1_000_000]).with_precision_and_scale(10, 2).expect("a type");
        for (values, named) in [
            (Arc::new(Int64Array::from(vec![1, 12345])) as ArrayRef, "12345 does not fit decimal(4, 1)"),
            (Arc::new(Float64Array::from(vec![1e30])), "1e30 does not fit decimal(4, 1)"),
            (Arc::new(Float64Array::from(vec![f64::NAN])), "NaN does not fit decimal(4, 1)"),
            (Arc::new(wide), "10000.00 does not fit decimal(4, 1)"),
            (Arc::new(StringArray::from(vec![" 12345.6 "])), "' 12345.6 ' can't be read as decimal(4, 1)"),
        ] {
            let error = made(values, decimal.clone()).expect_err(named);
            assert!(error.contains(named), "{error}");
        }
        let texts = Arc::new(StringArray::from(vec![Some(" 12 "), None]));
        assert_eq!(
            made(texts, DataType::Int32).expect("a number").as_primitive::<Int32Type>().iter().collect::<Vec<_>>(),
            [Some(12), None]
        );
    }

    #[test]
    fn digits_of_a_second_are_cut_towards_the_past() {
        let ns: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![-1, 1, 1999]));
        let us = Convert { to: DataType::Timestamp(TimeUnit::Microsecond, None), safe: false }.apply(&ns).expect("in range");
        assert_eq!(us.as_primitive::<TimestampMicrosecondType>().values(), &[-1, 0, 1]);
    }

    #[test]
    fn decimals_become_the_nearest_doubles() {
        let texts = ["187.12886417816458", "0.1", "-123456789012345678.9", "9007199254740993", "0.00000000000000000000000000012"];
        for text in texts {
            let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            let unscaled = text.replace('.', "").parse::<i128>().expect("digits");
            let decimals = Decimal128Array::from(vec![Some(unscaled), None]);
            let decimals = decimals.with_precision_and_scale(38, i8::try_from(scale).expect("a scale")).expect("a type");
            let doubles = cast_values(&(Arc::new(decimals) as ArrayRef), &DataType::Float64, false).expect("doubles");
            let doubles = doubles.as_primitive::<Float64Type>();
            assert_eq!((doubles.value(0), doubles.is_null(1)), (text.parse().expect("a number"), true), "{text}");
        }
    }
}
