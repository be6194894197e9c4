//! Checks of patterns for dates and times, as in `to_char(ts, '%Y-%m-%d')`.
//!
//! PostgreSQL's patterns (`'YYYY'`) have no `%`. DataFusion would return them as they are, so they are refused.

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable};

use super::constant::constant;
use super::function::{Unary, call, is_call};
use super::text_literal::text;

/// Functions whose arguments after the first are patterns.
const READING: [&str; 8] = [
    "to_date",
    "to_time",
    "to_timestamp",
    "to_timestamp_seconds",
    "to_timestamp_millis",
    "to_timestamp_micros",
    "to_timestamp_nanos",
    "to_unixtime",
];

/// Name of [`Patterns`] in plans.
const NAME: &str = "pattern";

/// The function that returns the patterns of another function as they are, and fails if one is invalid.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Patterns {
    /// Name of the other function, for the error.
    function: String,
    /// True if the function formats a difference of timestamps.
    length: bool,
}

/// Returns true if the function `name` takes patterns.
pub(super) fn takes_patterns(name: &str) -> bool {
    name == "to_char" || READING.contains(&name)
}

/// Checks the patterns of a call: constants at once, others when the call is evaluated.
pub(super) fn rewrite_patterns(function: &ScalarFunction, schema: &DFSchema) -> Result<Option<Expr>> {
    let name = function.func.name();
    let Some((value, given)) = function.args.split_first() else { return Ok(None) };
    let length = matches!(value.get_type(schema)?, DataType::Duration(_));
    let mut made = vec![value.clone()];
    for pattern in given {
        let patterns = Patterns { function: name.to_owned(), length };
        made.push(match constant(pattern)? {
            Some(known) => {
                text(&known).map_or(Ok(()), |text| patterns.check(text))?;
                pattern.clone()
            }
            None if is_call(pattern, NAME) => pattern.clone(),
            None => call(patterns, pattern.clone()),
        });
    }
    Ok(Some(Expr::ScalarFunction(ScalarFunction { func: function.func.clone(), args: made })))
}

impl Patterns {
    /// Checks one pattern. The error names the function, the pattern and the valid form.
    fn check(&self, pattern: &str) -> Result<()> {
        let (valid, form) = match self.length {
            true => (matches!(pattern.to_ascii_lowercase().as_str(), "iso8601" | "pretty"), "'ISO8601' or 'pretty'"),
            false => (pattern.contains('%'), "patterns with %, as in '%Y-%m-%d %H:%M:%S'"),
        };
        match valid {
            true => Ok(()),
            false => Err(DataFusionError::Plan(format!("{} takes {form}, not '{pattern}'", self.function))),
        }
    }
}

impl Unary for Patterns {
    fn name(&self) -> &'static str {
        NAME
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        Ok(Field::new("", input.data_type().clone(), input.is_nullable()))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        if values.data_type().is_string() {
            let texts = cast(values, &DataType::Utf8)?;
            texts.as_string::<i32>().iter().flatten().try_for_each(|pattern| self.check(pattern))?;
        }
        Ok(values.clone())
    }
}
