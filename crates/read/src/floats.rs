//! Floats whose bits tell as much as their values: Arrow orders and compares by bits, so that -0.0 is less than 0.0, a NaN with a sign less
//! than all, and one NaN another than the next. Intervals are like them: a day is 24 hours.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, PrimitiveArray, make_array};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float32Type, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use arrow::error::ArrowError;

/// Whether values of a type are equal that are not written alike: those of floats and intervals, at any depth.
pub fn has_many_forms(ty: &DataType) -> bool {
    match ty {
        DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Interval(IntervalUnit::MonthDayNano) => true,
        DataType::Struct(fields) => fields.iter().any(|f| has_many_forms(f.data_type())),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => has_many_forms(item.data_type()),
        DataType::Dictionary(_, value) => has_many_forms(value),
        _ => false,
    }
}

/// Values with one NaN in the place of all, at every depth, as Java compares them; intervals as SQL does.
pub fn one_nan(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    normalised(values, false)
}

/// Values with one NaN, one zero and one form of each interval, at every depth, as SQL compares them.
pub fn one_nan_and_zero(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    normalised(values, true)
}

/// Floats are used as they are where all are normal, which is nearly always.
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

fn normalised(values: &ArrayRef, zeros: bool) -> Result<ArrayRef, ArrowError> {
    // Zeros of both signs add up to the positive one.
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
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            Arc::new(values.as_primitive::<IntervalMonthDayNanoType>().try_unary::<_, IntervalMonthDayNanoType, _>(carried)?)
        }
        ty if has_many_forms(ty) => make_array(within(values.to_data(), zeros)?),
        _ => values.clone(),
    })
}

/// An interval with as many days and months as it has hours and days for: a day has 24 hours, a month thirty days, as PostgreSQL compares
/// them. Arrow compares the months first, then the days.
fn carried(value: IntervalMonthDayNano) -> Result<IntervalMonthDayNano, ArrowError> {
    const DAY: i64 = 86_400_000_000_000;
    let days = i64::from(value.days) + value.nanoseconds.div_euclid(DAY);
    let months = i64::from(value.months) + days.div_euclid(30);
    let beyond = |_| ArrowError::ArithmeticOverflow(format!("an interval of {months} months"));
    let days = i32::try_from(days.rem_euclid(30)).map_err(beyond)?;
    Ok(IntervalMonthDayNano::new(i32::try_from(months).map_err(beyond)?, days, value.nanoseconds.rem_euclid(DAY)))
}

/// Nested values whose floats and intervals are normalised.
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
        assert_eq!(bits(&one_nan(&odd).expect("floats")), one);
    }

    /// PostgreSQL's interval_cmp_value: a month counts for thirty days, a day for 24 hours.
    #[test]
    fn intervals_of_one_length_have_one_form_and_their_order() {
        use arrow::array::IntervalMonthDayNanoArray;

        const HOUR: i64 = 3_600_000_000_000;
        let of = |months, days, hours: i64| IntervalMonthDayNano::new(months, days, hours * HOUR);
        let one = |value| {
            let values: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(vec![value]));
            one_nan_and_zero(&values).map(|v| v.as_primitive::<IntervalMonthDayNanoType>().value(0))
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
        assert_eq!(bits(&one_nan_and_zero(&odd).expect("floats")), normal);

        let list = ListArray::from_iter_primitive::<Float64Type, _, _>([Some(vec![Some(-0.0), None]), None]);
        let made = one_nan_and_zero(&(Arc::new(list) as ArrayRef)).expect("a list");
        assert_eq!(bits(&made.as_list::<i32>().value(0)), [Some(0.0_f64.to_bits()), None]);
        assert!(made.is_null(1));

        let field = Arc::new(Field::new("x", DataType::Float64, true));
        let wrapped: ArrayRef = Arc::new(StructArray::from(vec![(field, odd)]));
        // A slice as well: its children begin where the whole's do.
        let made = one_nan_and_zero(&wrapped.slice(1, 3)).expect("a struct");
        assert_eq!(bits(made.as_struct().column(0)), normal[1..]);
    }
}
