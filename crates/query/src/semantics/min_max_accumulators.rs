//! Accumulators of `min` and `max`: of floats, of structs, lists and intervals, and of windows.
//!
//! The greatest value is found as the least in the reverse order: `against` is true for `max`. `crate::minmax` chooses the
//! accumulator. Start with [`FloatExtreme`] and [`WindowExtreme`].

use std::cmp::Ordering;
use std::collections::VecDeque;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, Float64Type};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Accumulator;
use esker_read::{needs_normalization, normalize_nan_and_zero};

use crate::error_wording::sql_type;

/// A float in the order of `docs/sql.md`, or if `against` in the reverse order.
#[derive(Debug, Clone)]
pub(crate) struct RankedFloat {
    value: f64,
    against: bool,
}

impl RankedFloat {
    /// Returns the value that is compared: one NaN and one zero stand for all.
    fn key(&self) -> f64 {
        if self.value.is_nan() { f64::NAN } else { self.value + 0.0 }
    }
}

impl PartialEq for RankedFloat {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for RankedFloat {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let order = self.key().total_cmp(&other.key());
        Some(if self.against { order.reverse() } else { order })
    }
}

/// The accumulator of `min` or `max` of floats, for all rows.
#[derive(Debug)]
pub(crate) struct FloatExtreme {
    held: Option<RankedFloat>,
    max: bool,
    ty: DataType,
}

/// The accumulator of `min` or `max` for the rows of a window.
///
/// Values leave a window in the order in which they came. DataFusion's accumulator keeps its last value after the window has
/// become empty.
#[derive(Debug)]
pub(crate) struct WindowExtreme<T> {
    held: Window<T>,
    max: bool,
    ty: DataType,
}

/// The least of the values in a window. Each value comes and goes once.
#[derive(Debug)]
struct Window<T> {
    /// Rising values; each is the least of those that came since, itself included.
    ///
    /// The number counts the values that came after the value before it in the queue, itself included.
    least: VecDeque<(T, usize)>,
}

impl<T: PartialOrd> Window<T> {
    /// Returns an empty window.
    const fn new() -> Self {
        Self { least: VecDeque::new() }
    }

    /// Returns the least value, or `None` if the window is empty.
    fn min(&self) -> Option<&T> {
        self.least.front().map(|(value, _)| value)
    }

    /// Adds the newest value.
    fn push(&mut self, value: T) {
        let mut count = 1;
        while let Some((_, greater)) = self.least.pop_back_if(|(last, _)| *last > value) {
            count += greater;
        }
        self.least.push_back((value, count));
    }

    /// Removes the oldest value.
    fn pop(&mut self) {
        if let Some((_, count)) = self.least.front_mut() {
            *count -= 1;
        }
        self.least.pop_front_if(|(_, count)| *count == 0);
    }
}

/// A value that [`WindowExtreme`] can rank.
pub(crate) trait Rank: PartialOrd + Clone + std::fmt::Debug + Send + Sync + 'static {
    /// Returns the values of an array that are not null. If `against`, the greatest value is the least.
    fn of(values: &ArrayRef, against: bool) -> Result<Vec<Self>>;
    /// Returns the ranked value in its own type.
    fn value(&self, ty: &DataType) -> Result<ScalarValue>;
}

/// A value of a type whose order Arrow knows. If `against`, the order is reversed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RankedScalar {
    value: ScalarValue,
    /// The value that is compared instead, if it differs.
    key: Option<ScalarValue>,
    against: bool,
}

impl PartialOrd for RankedScalar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let (own, others) = (self.key.as_ref().unwrap_or(&self.value), other.key.as_ref().unwrap_or(&other.value));
        let order = own.partial_cmp(others)?;
        Some(if self.against { order.reverse() } else { order })
    }
}

impl Rank for RankedScalar {
    fn of(values: &ArrayRef, against: bool) -> Result<Vec<Self>> {
        let valid = (0..values.len()).filter(|i| values.is_valid(*i));
        let keys = needs_normalization(values.data_type()).then(|| normalize_nan_and_zero(values)).transpose()?;
        let one = |i| {
            let key = keys.as_ref().map(|keys| ScalarValue::try_from_array(keys, i)).transpose()?;
            Ok(Self { value: ScalarValue::try_from_array(values, i)?, key, against })
        };
        valid.map(one).collect()
    }

    fn value(&self, _ty: &DataType) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }
}

impl Rank for RankedFloat {
    fn of(values: &ArrayRef, against: bool) -> Result<Vec<Self>> {
        let values = cast(values, &DataType::Float64)?;
        Ok(values.as_primitive::<Float64Type>().iter().flatten().map(|value| Self { value, against }).collect())
    }

    fn value(&self, ty: &DataType) -> Result<ScalarValue> {
        ScalarValue::Float64(Some(self.value)).cast_to(ty)
    }
}

/// The accumulator of `min` or `max` of structs, lists or intervals.
///
/// Values compare field by field and item by item, in the order of `docs/sql.md`; nulls come last.
#[derive(Debug)]
pub(crate) struct NestedExtreme {
    held: Option<(OwnedRow, ScalarValue)>,
    order: RowConverter,
    max: bool,
    ty: DataType,
}

impl NestedExtreme {
    /// Returns an accumulator without values. Fails if values of the type have no order.
    pub(crate) fn new(max: bool, ty: &DataType) -> Result<Self> {
        let options = SortOptions { descending: false, nulls_first: false };
        let fields = vec![SortField::new_with_options(ty.clone(), options)];
        if !RowConverter::supports_fields(&fields) {
            return Err(DataFusionError::Plan(format!("values of {} have no order", sql_type(ty))));
        }
        Ok(Self { held: None, order: RowConverter::new(fields)?, max, ty: ty.clone() })
    }
}

impl Accumulator for NestedExtreme {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values] = values else { return Ok(()) };
        let rows = self.order.convert_columns(&[normalize_nan_and_zero(values)?])?;
        let valid = (0..values.len()).filter(|i| values.is_valid(*i));
        let by_row = |a: &usize, b: &usize| rows.row(*a).cmp(&rows.row(*b));
        let Some(best) = (if self.max { valid.max_by(by_row) } else { valid.min_by(by_row) }) else { return Ok(()) };
        let better = self.held.as_ref().is_none_or(|(held, _)| match self.max {
            true => rows.row(best) > held.row(),
            false => rows.row(best) < held.row(),
        });
        if better {
            self.held = Some((rows.row(best).owned(), ScalarValue::try_from_array(values, best)?));
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.held.as_ref().map_or_else(|| ScalarValue::try_from(&self.ty), |(_, value)| Ok(value.clone()))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.order.size() + self.held.as_ref().map_or(0, |(row, value)| row.as_ref().len() + value.size())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}

/// Returns the ranked values of the first argument.
fn ranked<T: Rank>(values: &[ArrayRef], against: bool) -> Result<Vec<T>> {
    values.first().map_or_else(|| Ok(Vec::new()), |values| T::of(values, against))
}

/// Returns the value that an accumulator holds, or null.
fn value<T: Rank>(held: Option<&T>, ty: &DataType) -> Result<ScalarValue> {
    held.map_or_else(|| ScalarValue::try_from(ty), |held| held.value(ty))
}

impl FloatExtreme {
    /// Returns an accumulator without values; `max` is false for `min`.
    pub(crate) fn new(max: bool, ty: &DataType) -> Self {
        Self { held: None, max, ty: ty.clone() }
    }
}

impl<T: Rank> WindowExtreme<T> {
    /// Returns an accumulator of an empty window; `max` is false for `min`.
    pub(crate) fn new(max: bool, ty: &DataType) -> Self {
        Self { held: Window::new(), max, ty: ty.clone() }
    }
}

impl Accumulator for FloatExtreme {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for new in ranked::<RankedFloat>(values, self.max)? {
            if self.held.as_ref().is_none_or(|held| new < *held) {
                self.held = Some(new);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        value(self.held.as_ref(), &self.ty)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}

impl<T: Rank> Accumulator for WindowExtreme<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        ranked(values, self.max)?.into_iter().for_each(|new| self.held.push(new));
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        value(self.held.min(), &self.ty)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.held.least.capacity() * size_of::<(T, usize)>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let gone = values.first().map_or(0, |values| values.len() - values.logical_null_count());
        (0..gone).for_each(|_| self.held.pop());
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_least_of_a_window_is_the_least_of_its_values(steps in prop::collection::vec(prop::option::weighted(0.6, 0..5), 0..40)) {
            let (mut window, mut values) = (Window::new(), VecDeque::new());
            for step in steps {
                match step {
                    Some(value) => {
                        window.push(value);
                        values.push_back(value);
                    }
                    None => {
                        window.pop();
                        values.pop_front();
                    }
                }
                prop_assert_eq!(window.min(), values.iter().min());
            }
        }
    }
}
