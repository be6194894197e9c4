//! The aggregate `sum`, which fails if a sum is out of the range of its type. DataFusion's wraps around.
//!
//! Sums of `BIGINT` and of decimals with 38 digits are added up as `i128`, and checked when the result is taken. DataFusion's
//! function computes all other sums.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, FieldRef, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

/// Marker of a sum that overflowed. A sum that has become this value keeps it.
const OVERFLOWED: i128 = i128::MAX;
/// Greatest decimal of 38 digits, unscaled.
const MOST: i128 = 10_i128.pow(38) - 1;

/// Returns the function that replaces DataFusion's `sum`.
pub(super) fn function() -> AggregateUDF {
    AggregateUDF::new_from_impl(Sum { inner: sum_udaf() })
}

/// The function `sum`. `inner` is DataFusion's, for the sums that cannot overflow or are distinct.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Sum {
    inner: Arc<AggregateUDF>,
}

/// Returns the scale of a sum of type `ty`, or `None` if DataFusion's function computes it.
fn scale(ty: &DataType, distinct: bool) -> Option<i8> {
    match ty {
        DataType::Int64 if !distinct => Some(0),
        // A smaller precision leaves ten digits to spare, which no number of rows uses up.
        DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale) if !distinct => Some(*scale),
        _ => None,
    }
}

/// Adds a value to a total, which becomes [`OVERFLOWED`] on overflow.
fn add(total: &mut i128, value: i128) {
    *total = if *total == OVERFLOWED { OVERFLOWED } else { total.checked_add(value).unwrap_or(OVERFLOWED) };
}

/// Converts values or partial sums to decimals. Both are integers or decimals of one scale.
fn widened(values: &ArrayRef) -> ArrayRef {
    match values.as_primitive_opt::<Int64Type>() {
        Some(values) => Arc::new(values.unary::<_, Decimal128Type>(i128::from)),
        None => values.clone(),
    }
}

/// Converts totals to the type of the result, and fails if one is out of its range.
fn narrowed(totals: &Decimal128Array, to: &DataType) -> Result<ArrayRef> {
    let lost = || DataFusionError::Execution(format!("a sum is out of the range of {to}"));
    let in_range = |v: i128| if (-MOST..=MOST).contains(&v) { Ok(v) } else { Err(lost()) };
    Ok(match to {
        DataType::Int64 => {
            let made: Int64Array = totals.try_unary(|v| i64::try_from(v).map_err(|_| lost()))?;
            Arc::new(made)
        }
        to => {
            let made: Decimal128Array = totals.try_unary(in_range)?;
            Arc::new(made.with_data_type(to.clone()))
        }
    })
}

/// Returns the type of partial sums.
fn partial(scale: i8) -> DataType {
    DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale)
}

impl AggregateUDFImpl for Sum {
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
        let to = arguments.return_field.data_type().clone();
        match scale(&to, arguments.is_distinct) {
            Some(scale) => Ok(Box::new(SumAccumulator { total: 0, values: 0, scale, to })),
            None => self.inner.inner().accumulator(arguments),
        }
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        match scale(arguments.return_type(), arguments.is_distinct) {
            Some(scale) => Ok(vec![Arc::new(Field::new(format_state_name(arguments.name, "sum"), partial(scale), true))]),
            None => self.inner.inner().state_fields(arguments),
        }
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs<'_>) -> bool {
        self.inner.inner().groups_accumulator_supported(arguments)
    }

    fn create_groups_accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let to = arguments.return_field.data_type().clone();
        match scale(&to, arguments.is_distinct) {
            Some(scale) => {
                Ok(Box::new(GroupSumsAccumulator { inner: PrimitiveGroupsAccumulator::new(&partial(scale), add), to }))
            }
            None => self.inner.inner().create_groups_accumulator(arguments),
        }
    }

    fn create_sliding_accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match scale(arguments.return_field.data_type(), arguments.is_distinct) {
            Some(_) => self.accumulator(arguments),
            None => self.inner.inner().create_sliding_accumulator(arguments),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn set_monotonicity(&self, ty: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(ty)
    }
}

/// The accumulator of a sum without groups, or of a window frame.
#[derive(Debug)]
struct SumAccumulator {
    total: i128,
    /// Number of added values that are not null. A sum of none is null.
    values: usize,
    scale: i8,
    to: DataType,
}

impl Accumulator for SumAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values] = values else { return Ok(()) };
        let values = widened(values);
        self.values += values.len() - values.null_count();
        values.as_primitive::<Decimal128Type>().iter().flatten().for_each(|v| add(&mut self.total, v));
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let total = Decimal128Array::from(vec![(self.values > 0).then_some(self.total)]);
        ScalarValue::try_from_array(&narrowed(&total, &self.to)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let total = (self.values > 0).then_some(self.total);
        Ok(vec![ScalarValue::Decimal128(total, DECIMAL128_MAX_PRECISION, self.scale)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values] = values else { return Ok(()) };
        let values = widened(values);
        self.values -= values.len() - values.null_count();
        values.as_primitive::<Decimal128Type>().iter().flatten().for_each(|v| add(&mut self.total, -v));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }
}

/// The accumulator of one sum for each group.
struct GroupSumsAccumulator<F: Fn(&mut i128, i128) + Send + Sync + 'static> {
    inner: PrimitiveGroupsAccumulator<Decimal128Type, F>,
    to: DataType,
}

impl<F: Fn(&mut i128, i128) + Send + Sync + 'static> GroupsAccumulator for GroupSumsAccumulator<F> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        let values: Vec<ArrayRef> = values.iter().map(widened).collect();
        self.inner.update_batch(&values, groups, filter, total_groups)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        narrowed(self.inner.evaluate(emit)?.as_primitive::<Decimal128Type>(), &self.to)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.inner.merge_batch(values, groups, total_groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values: Vec<ArrayRef> = values.iter().map(widened).collect();
        self.inner.convert_to_state(&values, filter)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}
