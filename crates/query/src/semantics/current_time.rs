//! The functions of the current time, and `to_timestamp`.
//!
//! All functions of the current time in a statement return one instant, the start of its execution. The optimizer replaces their
//! calls by literals.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, TimeUnit};
use chrono::{DateTime, Utc};
use datafusion::common::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions::datetime::to_timestamp_micros;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

use super::convert::Convert;
use super::function::Unary;

/// Microseconds in a day.
const DAY: i64 = 86_400_000_000;

/// Returns the functions.
pub(super) fn functions() -> [ScalarUDF; 6] {
    let now = |name: &'static str, aliases: &[&str], part| {
        let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        ScalarUDF::new_from_impl(Now { name, aliases, part, signature: Signature::nullary(Volatility::Stable) })
    };
    [
        now("now", &["current_timestamp", "transaction_timestamp", "statement_timestamp"], Part::Instant),
        now("localtimestamp", &[], Part::Timestamp),
        now("current_date", &["today"], Part::Date),
        now("current_time", &[], Part::Time),
        now("localtime", &[], Part::Time),
        ScalarUDF::new_from_impl(ToTimestamp {
            inner: to_timestamp_micros(&ConfigOptions::default()),
            signature: Signature::variadic_any(Volatility::Immutable),
        }),
    ]
}

/// The part of the instant that a function returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    /// A timestamp with time zone.
    Instant,
    /// A timestamp without time zone, in UTC.
    Timestamp,
    /// The date in UTC.
    Date,
    /// The time of day in UTC.
    Time,
}

/// A function of the current time.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Now {
    name: &'static str,
    aliases: Vec<String>,
    part: Part,
    signature: Signature,
}

impl Now {
    /// Returns the value of the function at an instant.
    fn at(&self, instant: DateTime<Utc>) -> ScalarValue {
        let micros = instant.timestamp_micros();
        match self.part {
            Part::Instant => ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())),
            Part::Timestamp => ScalarValue::TimestampMicrosecond(Some(micros), None),
            Part::Date => ScalarValue::Date32(i32::try_from(micros.div_euclid(DAY)).ok()),
            Part::Time => ScalarValue::Time64Microsecond(Some(micros.rem_euclid(DAY))),
        }
    }
}

impl ScalarUDFImpl for Now {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.at(DateTime::UNIX_EPOCH).data_type())
    }

    fn is_nullable(&self, _args: &[Expr], _schema: &dyn datafusion::common::ExprSchema) -> bool {
        false
    }

    /// Fails: the optimizer has replaced each call in a statement by the instant at which the statement runs.
    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(DataFusionError::Execution(format!("{}() has no value outside of a statement", self.name)))
    }

    fn simplify(&self, arguments: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match info.query_execution_start_time() {
            Some(instant) => ExprSimplifyResult::Simplified(Expr::Literal(self.at(instant), None)),
            None => ExprSimplifyResult::Original(arguments),
        })
    }
}

/// The function `to_timestamp` of a text, or of seconds since the Unix epoch.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToTimestamp {
    /// DataFusion's function, for calls with patterns.
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for ToTimestamp {
    fn name(&self) -> &'static str {
        "to_timestamp"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, None))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if arguments.args.len() > 1 {
            return self.inner.invoke_with_args(arguments);
        }
        let to = DataType::Timestamp(TimeUnit::Microsecond, None);
        let options = CastOptions { safe: false, ..Default::default() };
        let values = ColumnarValue::values_to_arrays(&arguments.args)?;
        let values = values.first().ok_or_else(|| DataFusionError::Execution("to_timestamp takes a value".to_owned()))?;
        let from = values.data_type();
        let made = if from.is_string() {
            Convert { to, safe: false }.apply(values)?
        } else if from.is_numeric() {
            // Numbers are seconds, and may have six digits after the point.
            let exact = cast_seconds(values)?;
            cast_with_options(&exact, &to, &options)?
        } else {
            cast_with_options(values, &to, &options)?
        };
        let scalar = arguments.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        Ok(match scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?),
            false => ColumnarValue::Array(made),
        })
    }
}

/// Converts seconds since the Unix epoch to whole microseconds.
fn cast_seconds(values: &ArrayRef) -> Result<ArrayRef> {
    let out_of_range = || DataFusionError::Execution("to_timestamp: seconds out of range".to_owned());
    if values.data_type().is_floating() {
        let seconds = cast(values, &DataType::Float64)?;
        let micros = |s: f64| {
            let micros = (s * 1e6).round();
            // The bounds are exact as floats, and no range contains NaN.
            if (-9.2e18..=9.2e18).contains(&micros) { Ok(micros as i64) } else { Err(out_of_range()) }
        };
        let micros: Int64Array = seconds.as_primitive::<Float64Type>().try_unary(micros)?;
        return Ok(Arc::new(micros));
    }
    let options = CastOptions { safe: false, ..Default::default() };
    let seconds = cast_with_options(values, &DataType::Decimal128(38, 6), &options)?;
    let micros: Int64Array =
        seconds.as_primitive::<Decimal128Type>().try_unary(|v| i64::try_from(v).map_err(|_| out_of_range()))?;
    Ok(Arc::new(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str, instant: DateTime<Utc>) -> ScalarValue {
        let parts = [("now", Part::Instant), ("current_date", Part::Date), ("current_time", Part::Time)];
        let part = parts.iter().find(|(n, _)| *n == name).expect("a function").1;
        Now { name: "f", aliases: Vec::new(), part, signature: Signature::nullary(Volatility::Stable) }.at(instant)
    }

    #[test]
    fn one_instant_is_a_timestamp_a_date_and_a_time() {
        let instant = DateTime::from_timestamp_micros(-1).expect("in range");
        assert_eq!(at("now", instant), ScalarValue::TimestampMicrosecond(Some(-1), Some("UTC".into())));
        assert_eq!(at("current_date", instant), ScalarValue::Date32(Some(-1)));
        assert_eq!(at("current_time", instant), ScalarValue::Time64Microsecond(Some(DAY - 1)));
    }
}
