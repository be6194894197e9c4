//! `extract(second …)` and `extract(millisecond …)` with the digits after the point (SQL:2016 6.30, PostgreSQL's `extract`).
//! DataFusion leaves them out.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, ExprSchemable};

use super::constant::constant;
use super::function::{Unary, call};
use super::text_literal::text;

/// The function that returns the seconds since the last full minute, in thousandths if `thousandths` is set.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Seconds {
    thousandths: bool,
}

/// Rewrites `date_part` of seconds or milliseconds. Returns `None` for other parts, and for types without microseconds.
pub(super) fn rewrite_part(args: &[Expr], schema: &DFSchema) -> Result<Option<Expr>> {
    let [part, value] = args else { return Ok(None) };
    let Some(part) = constant(part)? else { return Ok(None) };
    let thousandths = match text(&part).map(str::to_ascii_lowercase).as_deref() {
        Some("second" | "seconds" | "sec" | "secs") => false,
        Some("millisecond" | "milliseconds" | "msec" | "msecs") => true,
        _ => return Ok(None),
    };
    let fine = matches!(
        value.get_type(schema)?,
        DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _)
            | DataType::Time64(TimeUnit::Microsecond | TimeUnit::Nanosecond)
    );
    Ok(fine.then(|| call(Seconds { thousandths }, value.clone())))
}

/// Returns the digits of a second that values of a type have.
fn scale(ty: &DataType) -> Result<i8> {
    match ty {
        DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Time64(TimeUnit::Microsecond) => Ok(6),
        DataType::Timestamp(TimeUnit::Nanosecond, _) | DataType::Time64(TimeUnit::Nanosecond) => Ok(9),
        other => Err(DataFusionError::Internal(format!("seconds of {other}"))),
    }
}

impl Unary for Seconds {
    fn name(&self) -> &'static str {
        if self.thousandths { "milliseconds" } else { "seconds" }
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        let scale = scale(input.data_type())?;
        let digits = scale.unsigned_abs() + 2;
        let scale = if self.thousandths { scale - 3 } else { scale };
        Ok(Field::new("", DataType::Decimal128(digits, scale), input.is_nullable()))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let scale = scale(values.data_type())?;
        let minute = 60 * 10_i64.pow(u32::from(scale.unsigned_abs()));
        let plain = cast(values, &DataType::Int64)?;
        let made: Decimal128Array = plain.as_primitive::<Int64Type>().unary(|v| i128::from(v.rem_euclid(minute)));
        let digits = if self.thousandths { scale - 3 } else { scale };
        Ok(Arc::new(made.with_precision_and_scale(scale.unsigned_abs() + 2, digits)?))
    }
}
