//! `min` and `max` that take NaN for greater than every number, as all other comparisons here do.
//!
//! DataFusion's own functions compare with `<` when they group, so that their result depends on the order of rows. They also
//! answer from statistics, which takes bounds for values: here, values come from files.

use std::sync::Arc;

use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::error::Result;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

use crate::semantics::{FloatExtreme, NestedExtreme, RankedFloat, RankedScalar, WindowExtreme};

/// Returns the two functions, `min` first.
pub(crate) fn functions() -> [Arc<AggregateUDF>; 2] {
    [(min_udaf(), false), (max_udaf(), true)].map(|(inner, max)| Arc::new(AggregateUDF::new_from_impl(Ordered { inner, max })))
}

/// One of the two functions, around DataFusion's own.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Ordered {
    inner: Arc<AggregateUDF>,
    max: bool,
}

/// Checks whether values of a type are compared in Arrow's row format, because Arrow's own order is not SQL's.
fn by_rows(ty: &DataType) -> bool {
    ty.is_nested() || matches!(ty, DataType::Interval(_))
}

/// Builds an accumulator of floats by group. Its starting value loses against every other value.
macro_rules! floats {
    ($array:ty, $float:ty, $max:expr, $type:expr) => {
        match $max {
            true => Box::new(
                PrimitiveGroupsAccumulator::<$array, _>::new($type, |held: &mut $float, new| {
                    if new.is_nan() || new > *held {
                        *held = new;
                    }
                })
                .with_starting_value(<$float>::NEG_INFINITY),
            ) as Box<dyn GroupsAccumulator>,
            false => Box::new(
                PrimitiveGroupsAccumulator::<$array, _>::new($type, |held: &mut $float, new| {
                    if held.is_nan() || new < *held {
                        *held = new;
                    }
                })
                .with_starting_value(<$float>::NAN),
            ),
        }
    };
}

impl AggregateUDFImpl for Ordered {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(arguments)
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match arguments.return_field.data_type() {
            ty @ (DataType::Float32 | DataType::Float64) => Ok(Box::new(FloatExtreme::new(self.max, ty))),
            ty if by_rows(ty) => Ok(Box::new(NestedExtreme::new(self.max, ty)?)),
            _ => self.inner.inner().accumulator(arguments),
        }
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs<'_>) -> bool {
        !by_rows(arguments.return_field.data_type()) && self.inner.inner().groups_accumulator_supported(arguments)
    }

    fn create_groups_accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let ty = arguments.return_field.data_type();
        match ty {
            DataType::Float32 => Ok(floats!(Float32Type, f32, self.max, ty)),
            DataType::Float64 => Ok(floats!(Float64Type, f64, self.max, ty)),
            _ => self.inner.inner().create_groups_accumulator(arguments),
        }
    }

    fn create_sliding_accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match arguments.return_field.data_type() {
            ty @ (DataType::Float32 | DataType::Float64) => Ok(Box::new(WindowExtreme::<RankedFloat>::new(self.max, ty))),
            ty if ty.is_nested() => Ok(Box::new(NestedExtreme::new(self.max, ty)?)),
            ty => Ok(Box::new(WindowExtreme::<RankedScalar>::new(self.max, ty))),
        }
    }

    fn is_descending(&self) -> Option<bool> {
        Some(self.max)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(arguments)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn set_monotonicity(&self, ty: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(ty)
    }
}
