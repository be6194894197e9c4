//! Normalizes values that are equal but encoded differently.
//!
//! Arrow compares floats by their bits: -0.0 is less than 0.0, a NaN with a sign is the least value, and NaNs with different bits
//! differ. Intervals are similar: a day equals 24 hours. After normalization, equal values have equal bits.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, PrimitiveArray, make_array};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float32Type, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use arrow::error::ArrowError;

/// Checks that equal values of a type may have different encodings: floats and intervals, at any depth.
pub fn needs_normalization(ty: &DataType) -> bool {
    match ty {
        DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Interval(IntervalUnit::MonthDayNano) => true,
        DataType::Struct(fields) => fields.iter().any(|f| needs_normalization(f.data_type())),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => needs_normalization(item.data_type()),
        DataType::Dictionary(_, value) => needs_normalization(value),
        _ => false,
    }
}

/// Replaces every NaN by one, at every depth, and normalizes intervals.
///
/// Zeros keep their signs, as Java's comparison distinguishes them. Floats of 16 bits stay as they are; Iceberg has none.
///
/// # Errors
///
/// Returns [`ArrowError::ArithmeticOverflow`] if a normalized interval has too many months.
pub fn normalize_nan(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    normalised(values, false)
}

/// Replaces every NaN by one and every -0.0 by 0.0, at every depth, and normalizes intervals.
///
/// The result compares as SQL does. Floats of 16 bits stay as they are; Iceberg has none.
///
/// # Errors
///
/// Returns [`ArrowError::ArithmeticOverflow`] if a normalized interval has too many months.
pub fn normalize_nan_and_zero(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    normalised(values, true)
}

/// Normalizes floats; returns the array as it is if all are normal, which is nearly always.
fn floats<T: ArrowPrimitiveType>(
    values: &PrimitiveArray<T>,
    odd: impl Fn(T::Native) -> bool,
    normal: impl Fn(T::Native) -> T::Native,
) -> ArrayRef {
    match values.values().iter().any(|v| odd(*v)) {
        true => Arc::new(values.unary::<_, T>(normal)),
        false => Arc::new(values.clone()),
    }
}

/// Normalizes an array; `zeros` also replaces -0.0 by 0.0.
fn normalised(values: &ArrayRef, zeros: bool) -> Result<ArrayRef, ArrowError> {
    // Adding 0.0 turns -0.0 into 0.0; adding -0.0 changes nothing.
    Ok(match values.data_type() {
        DataType::Float32 => {
            let odd = |v: f32| v.is_nan() || zeros && v.to_bits() == (-0.0_f32).to_bits();
            let normal = |v: f32| if v.is_nan() { f32::NAN } else { v + if zeros { 0.0 } else { -0.0 } };
            floats::<Float32Type>(values.as_primitive(), odd, normal)
        }
        DataType::Float64 => {
            let odd = |v: f64| v.is_nan() || zeros && v.to_bits() == (-0.0_f64).to_bits();
            let normal = |v: f64| if v.is_nan() { f64::NAN } else { v + if zeros { 0.0 } else { -0.0 } };
            floats::<Float64Type>(values.as_primitive(), odd, normal)
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => Arc::new(
            values.as_primitive::<IntervalMonthDayNanoType>().try_unary::<_, IntervalMonthDayNanoType, _>(normalize_interval)?,
        ),
        ty if needs_normalization(ty) => make_array(within(values.to_data(), zeros)?),
        _ => values.clone(),
    })
}

/// Carries nanoseconds over to days and days to months, as PostgreSQL compares intervals.
///
/// A day has 24 hours and a month 30 days. Arrow compares months first, then days, then nanoseconds.
fn normalize_interval(value: IntervalMonthDayNano) -> Result<IntervalMonthDayNano, ArrowError> {
    const DAY: i64 = 86_400_000_000_000;
    let days = i64::from(value.days) + value.nanoseconds.div_euclid(DAY);
    let months = i64::from(value.months) + days.div_euclid(30);
    let beyond = |_| ArrowError::ArithmeticOverflow(format!("an interval of {months} months is out of range"));
    let days = i32::try_from(days.rem_euclid(30)).map_err(beyond)?;
    Ok(IntervalMonthDayNano::new(i32::try_from(months).map_err(beyond)?, days, value.nanoseconds.rem_euclid(DAY)))
}

/// Normalizes the children of a nested array.
fn within(data: ArrayData, zeros: bool) -> Result<ArrayData, ArrowError> {
    let children = data.child_data().iter().map(|child| Ok(normalised(&make_array(child.clone()), zeros)?.to_data()));
    let children = children.collect::<Result<Vec<_>, ArrowError>>()?;
    if children.is_empty() {
        return Ok(data);
    }
    data.into_builder().child_data(children).build()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, ListArray, StructArray};
    use arrow::datatypes::Field;

    use super::*;

    fn bits(values: &ArrayRef) -> Vec<Option<u64>> {
        values.as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_bits)).collect()
    }

    #[test]
    fn zeros_keep_their_signs_where_only_nans_are_one() {
        let odd: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), Some(-f64::NAN), None, Some(0.0)]));
        let one = vec![Some((-0.0_f64).to_bits()), Some(f64::NAN.to_bits()), None, Some(0.0_f64.to_bits())];
        assert_eq!(bits(&normalize_nan(&odd).expect("floats")), one);
    }

    /// PostgreSQL's interval_cmp_value: a month counts for thirty days, a day for 24 hours.
    #[test]
    fn intervals_of_one_length_have_one_form_and_their_order() {
        use arrow::array::IntervalMonthDayNanoArray;

        const HOUR: i64 = 3_600_000_000_000;
        let of = |months, days, hours: i64| IntervalMonthDayNano::new(months, days, hours * HOUR);
        let one = |value| {
            let values: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(vec![value]));
            normalize_nan_and_zero(&values).map(|v| v.as_primitive::<IntervalMonthDayNanoType>().value(0))
        };
        for (a, b) in [((0, 1, 0), (0, 0, 24)), ((1, 0, 0), (0, 29, 24)), ((1, -1, 0), (0, 29, 0)), ((0, -1, 24), (0, 0, 0))] {
            let (a, b) = (of(a.0, a.1, a.2), of(b.0, b.1, b.2));
            assert_eq!(one(a).expect("in range"), one(b).expect("in range"), "{a:?} and {b:?}");
        }
        for (less, more) in
            [((0, 1, 0), (0, 0, 25)), ((1, 0, 0), (0, 31, 0)), ((0, 0, -1), (0, 0, 0)), ((-1, 0, 0), (0, -29, -1))]
        {
            let (less, more) = (of(less.0, less.1, less.2), of(more.0, more.1, more.2));
            assert!(one(less).expect("in range") < one(more).expect("in range"), "{less:?} and {more:?}");
        }
        assert!(one(of(i32::MAX, i32::MAX, 0)).is_err());
    }

    #[test]
    fn zeros_and_nans_are_one_each_at_every_depth() {
        let odd: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), Some(-f64::NAN), None, Some(1.5)]));
        let normal = vec![Some(0.0_f64.to_bits()), Some(f64::NAN.to_bits()), None, Some(1.5_f64.to_bits())];
        assert_eq!(bits(&normalize_nan_and_zero(&odd).expect("floats")), normal);

        let list = ListArray::from_iter_primitive::<Float64Type, _, _>([Some(vec![Some(-0.0), None]), None]);
        let made = normalize_nan_and_zero(&(Arc::new(list) as ArrayRef)).expect("a list");
        assert_eq!(bits(&made.as_list::<i32>().value(0)), [Some(0.0_f64.to_bits()), None]);
        assert!(made.is_null(1));

        let field = Arc::new(Field::new("x", DataType::Float64, true));
        let wrapped: ArrayRef = Arc::new(StructArray::from(vec![(field, odd)]));
        // The children of a slice begin where those of the whole array do.
        let made = normalize_nan_and_zero(&wrapped.slice(1, 3)).expect("a struct");
        assert_eq!(bits(made.as_struct().column(0)), normal[1..]);
    }
}
