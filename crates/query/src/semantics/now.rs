//! Functions of time. All of a statement see one instant: that at which it is run.

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

const DAY: i64 = 86_400_000_000;

/// The functions.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Instant,
    Timestamp,
    Date,
    Time,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Now {
    name: &'static str,
    aliases: Vec<String>,
    part: Part,
    signature: Signature,
}

impl Now {
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

    /// Only where no statement is run: a plan's own instant is put in when it is optimised.
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

/// `to_timestamp` of a text or of seconds since the epoch.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToTimestamp {
    /// For texts in formats that follow them.
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
            // Six digits of a second more.
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

/// Seconds as whole microseconds.
fn cast_seconds(values: &ArrayRef) -> Result<ArrayRef> {
    let out_of_range = || DataFusionError::Execution("to_timestamp: seconds out of range".to_owned());
    if values.data_type().is_floating() {
        let seconds = cast(values, &DataType::Float64)?;
        let micros = |s: f64| {
            let micros = (s * 1e6).round();
            // The bounds are exact as floats; NaN is in no range.
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
