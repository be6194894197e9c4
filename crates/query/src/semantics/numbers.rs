//! Number literals in a statement's syntax tree: with an exponent they are doubles, without one they are exact.
//!
//! A literal that the planner would give another type is written as a cast of its text.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, ExactNumberInfo, Expr, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
};

use crate::{QueryError, Result};

/// Greatest number of digits of a decimal.
const DIGITS: usize = 38;

/// Rewrites the number literals of a statement so that the planner gives each the right type.
///
/// Returns [`QueryError::Statement`] if a number has more than 38 digits or is out of the range of a double.
pub(crate) fn numbers(statement: &mut Statement) -> Result<()> {
    match statement {
        Statement::Statement(inner) => {
            let mut numbers = Numbers::default();
            let _ = inner.visit(&mut numbers);
            numbers.wrong.map_or(Ok(()), Err)
        }
        Statement::Explain(explain) => numbers(&mut explain.statement),
        _ => Ok(()),
    }
}

/// The visitor that rewrites number literals.
#[derive(Default)]
struct Numbers {
    /// The first error. It is stored here, because a result would take room on the stack at each level of an expression.
    wrong: Option<QueryError>,
}

/// Returns the text of a number literal without a sign; `None` if the expression is something else.
fn number(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(text, _), .. }) => Some(text),
        _ => None,
    }
}

/// Returns a cast of a text to a type.
fn typed(text: String, data_type: DataType) -> Expr {
    let value = Expr::Value(Value::SingleQuotedString(text).into());
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(value), data_type, array: false, format: None }
}

/// Returns the expression that replaces a number literal, or `None` if the literal stays.
fn rewritten(text: &str) -> Result<Option<Expr>> {
    if text.contains(['e', 'E']) {
        let value: f64 = text.parse().map_err(|_| QueryError::Statement(format!("{text} is not a number")))?;
        if value.is_infinite() {
            return Err(QueryError::Statement(format!("the number {text} is out of the range of a double")));
        }
        return Ok(Some(typed(text.to_owned(), DataType::DoublePrecision)));
    }
    if text.parse::<i64>().is_ok() {
        return Ok(None);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.trim_start_matches('0').len() + fraction.len();
    if digits > DIGITS {
        return Err(QueryError::Statement(format!("the number {text} has more than {DIGITS} digits")));
    }
    // The planner would take an integer beyond `BIGINT` for an unsigned one.
    let exact = ExactNumberInfo::Precision(digits as u64);
    Ok((fraction.is_empty() && !text.contains('.')).then(|| typed(text.to_owned(), DataType::Decimal(exact))))
}

impl VisitorMut for Numbers {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        // The least integer has no positive counterpart.
        if let Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } = &*expr
            && number(inner).is_some_and(|text| text == "9223372036854775808")
        {
            *expr = typed("-9223372036854775808".to_owned(), DataType::BigInt(None));
            return ControlFlow::Continue(());
        }
        match number(expr).map(rewritten) {
            Some(Ok(Some(new))) => *expr = new,
            Some(Err(error)) => {
                self.wrong = Some(error);
                return ControlFlow::Break(());
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn read(sql: &str) -> std::result::Result<String, String> {
        let parsed = Parser::parse_sql(&GenericDialect {}, sql).expect("syntax").remove(0);
        let mut statement = Statement::Statement(Box::new(parsed));
        numbers(&mut statement).map_err(|e| e.to_string())?;
        Ok(statement.to_string())
    }

    #[test]
    fn an_exponent_makes_a_double_and_length_a_decimal() {
        assert_eq!(read("SELECT 1, 1.50, .5").expect("valid"), "SELECT 1, 1.50, .5");
        assert_eq!(
            read("SELECT 1e5, -2.5E-3").expect("valid"),
            "SELECT CAST('1e5' AS DOUBLE PRECISION), -CAST('2.5E-3' AS DOUBLE PRECISION)"
        );
        assert_eq!(read("SELECT 9223372036854775807").expect("valid"), "SELECT 9223372036854775807");
        assert_eq!(read("SELECT 9223372036854775808").expect("valid"), "SELECT CAST('9223372036854775808' AS DECIMAL(19))");
        assert_eq!(read("SELECT -9223372036854775808").expect("valid"), "SELECT CAST('-9223372036854775808' AS BIGINT)");
        assert_eq!(read("SELECT '1e5', \"1e5\" FROM t LIMIT 5").expect("valid"), "SELECT '1e5', \"1e5\" FROM t LIMIT 5");
    }

    #[test]
    fn numbers_that_no_type_holds_are_refused_by_name() {
        let long = "1".repeat(39);
        assert_eq!(read(&format!("SELECT {long}")), Err(format!("the number {long} has more than 38 digits")));
        assert!(read(&format!("SELECT 0.{long}")).is_err());
        assert!(read(&format!("SELECT 0000{}", "1".repeat(38))).is_ok());
        assert!(read("SELECT 1e400").expect_err("out of range").contains("1e400"));
    }
}
