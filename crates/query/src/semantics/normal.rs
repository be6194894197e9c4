//! Floats as keys: one zero, one NaN. Arrow orders floats by their bits, so that -0.0 is less than 0.0, and a NaN with a sign less than all.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, PrimitiveArray, make_array};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;

use super::function::{Unary, call, is_call};

const NAME: &str = "float_key";

/// What is made one: NaNs, and zeros as well where they are to be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Normal {
    Key,
    Nan,
}

/// The key of an expression of floats.
pub(super) fn key(expr: Expr) -> Expr {
    if is_key(&expr) { expr } else { call(Normal::Key, expr) }
}

/// An expression of floats that Arrow orders right: its NaNs are one, the greatest. Zeros keep their signs.
pub(super) fn ordered(expr: Expr) -> Expr {
    if is_key(&expr) || is_call(&expr, Normal::Nan.name()) { expr } else { call(Normal::Nan, expr) }
}

/// Whether an expression is such a key.
pub(super) fn is_key(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_key(&alias.expr),
        expr => is_call(expr, NAME),
    }
}

/// Whether values of a type hold floats, at any depth.
pub(super) fn holds_floats(ty: &DataType) -> bool {
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

/// Its floats are used as they are where all are normal, which is nearly always.
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

pub(super) fn normalised(values: &ArrayRef, zeros: bool) -> Result<ArrayRef> {
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

/// The same of what is nested.
fn within(data: ArrayData, zeros: bool) -> Result<ArrayData> {
    let children = data.child_data().iter().map(|child| Ok(normalised(&make_array(child.clone()), zeros)?.to_data()));
    let children = children.collect::<Result<Vec<_>>>()?;
    if children.is_empty() {
        return Ok(data);
    }
    Ok(data.into_builder().child_data(children).build()?)
}

impl Unary for Normal {
    fn name(&self) -> &str {
        match self {
            Self::Key => NAME,
            Self::Nan => "one_nan",
        }
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        Ok(Field::new(self.name(), input.data_type().clone(), input.is_nullable()))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        normalised(values, *self == Self::Key)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, ListArray, StructArray};

    use super::*;

    fn bits(values: &ArrayRef) -> Vec<Option<u64>> {
        values.as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_bits)).collect()
    }

    #[test]
    fn zeros_keep_their_signs_where_only_nans_are_one() {
        let odd: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), Some(-f64::NAN), None, Some(0.0)]));
        let one = vec![Some((-0.0_f64).to_bits()), Some(f64::NAN.to_bits()), None, Some(0.0_f64.to_bits())];
        assert_eq!(bits(&normalised(&odd, false).expect("floats")), one);
    }

    #[test]
    fn zeros_and_nans_are_one_each_at_every_depth() {
        let odd: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), Some(-f64::NAN), None, Some(1.5)]));
        let normal = vec![Some(0.0_f64.to_bits()), Some(f64::NAN.to_bits()), None, Some(1.5_f64.to_bits())];
        assert_eq!(bits(&normalised(&odd, true).expect("floats")), normal);

        let list = ListArray::from_iter_primitive::<Float64Type, _, _>([Some(vec![Some(-0.0), None]), None]);
        let made = normalised(&(Arc::new(list) as ArrayRef), true).expect("a list");
        assert_eq!(bits(&made.as_list::<i32>().value(0)), [Some(0.0_f64.to_bits()), None]);
        assert!(made.is_null(1));

        let field = Arc::new(Field::new("x", DataType::Float64, true));
        let wrapped: ArrayRef = Arc::new(StructArray::from(vec![(field, odd)]));
        // A slice as well: its children begin where the whole's do.
        let made = normalised(&wrapped.slice(1, 3), true).expect("a struct");
        assert_eq!(bits(made.as_struct().column(0)), normal[1..]);
    }
}
