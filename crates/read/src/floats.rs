//! Floats whose bits tell as much as their values: Arrow orders and compares by bits, so that -0.0 is less than 0.0, a NaN with a sign less
//! than all, and one NaN another than the next.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, PrimitiveArray, make_array};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float32Type, Float64Type};
use arrow::error::ArrowError;

/// Whether values of a type hold floats, at any depth.
pub fn holds_floats(ty: &DataType) -> bool {
    match ty {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => true,
        DataType::Struct(fields) => fields.iter().any(|f| holds_floats(f.data_type())),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => holds_floats(item.data_type()),
        DataType::Dictionary(_, value) => holds_floats(value),
        _ => false,
    }
}

/// Values with one NaN in the place of all, at every depth, as Java compares them.
pub fn one_nan(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    normalised(values, false)
}

/// Values with one NaN and one zero, at every depth, as SQL compares them.
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
        ty if holds_floats(ty) => make_array(within(values.to_data(), zeros)?),
        _ => values.clone(),
    })
}

/// Nested values whose floats are normalised.
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
