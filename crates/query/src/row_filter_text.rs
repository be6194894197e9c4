//! Row filters in the form of SQL: `region = 'EU' AND amount < 10`.
//!
//! The text is read by the grammar of statements, and becomes predicates on fields and constants. Nothing else can be said in a
//! row filter, because an engine must be able to apply it too. Start reading at [`parse_row_filter`].

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, UnaryOperator, Value, ValueWithSpan,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use esker_access::{CompareOp, FilterExpr, RightsError};
use esker_catalog::{checked_filter, restrictable_field};
use esker_format::{PrimitiveType, Schema, Type};
use serde_json::{Value as Json, json};

use crate::depth;
use crate::dialect::Postgres;

/// The maximum number of words, signs and constants of the text. A chain of operators is as deep as it is long, and freed by
/// recursion.
const MAX_TOKENS: usize = 4_000;

/// The result of reading a part of the text.
type Result<T> = std::result::Result<T, RightsError>;

/// Reads a row filter on the columns of a schema.
///
/// # Errors
///
/// Returns [`RightsError::BadFilter`] if the text is no condition that a row filter can have, or does not fit the schema. See
/// [`checked_filter`].
pub fn parse_row_filter(text: &str, schema: &Schema) -> Result<FilterExpr> {
    let dialect = Postgres(&GenericDialect {});
    let tokens = Tokenizer::new(&dialect, text).tokenize_with_location().map_err(|e| bad(e.to_string()))?;
    if tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count() > MAX_TOKENS {
        return Err(bad(format!("it has more than {MAX_TOKENS} words, signs and constants; use several filters")));
    }
    depth::check(&tokens).map_err(|e| bad(e.to_string()))?;
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let expr = parser.parse_expr().map_err(|e| bad(e.to_string()))?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        return Err(bad(format!("it has {rest} behind its end; a filter is one condition")));
    }
    checked_filter(FilterReader { schema }.condition(&expr)?, schema)
}

/// Returns the error of a text that is no row filter.
fn bad(why: String) -> RightsError {
    RightsError::BadFilter { why }
}

/// Returns the operands of a chain of one operator, from left to right.
///
/// A chain is as deep as it is long, so it is not followed by recursion.
fn operands<'a>(expr: &'a Expr, chain: &BinaryOperator) -> Vec<&'a Expr> {
    let (mut at, mut found) = (expr, Vec::new());
    while let Expr::BinaryOp { left, op, right } = at
        && op == chain
    {
        found.push(&**right);
        at = left;
    }
    found.push(at);
    found.reverse();
    found
}

/// Returns an operator of a comparison.
const fn compare_op(op: &BinaryOperator) -> Option<CompareOp> {
    Some(match op {
        BinaryOperator::Eq => CompareOp::Eq,
        BinaryOperator::NotEq => CompareOp::NotEq,
        BinaryOperator::Lt => CompareOp::Lt,
        BinaryOperator::LtEq => CompareOp::LtEq,
        BinaryOperator::Gt => CompareOp::Gt,
        BinaryOperator::GtEq => CompareOp::GtEq,
        _ => return None,
    })
}

/// Returns the operator with its sides exchanged.
const fn turned(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Eq | CompareOp::NotEq => op,
        CompareOp::Lt => CompareOp::Gt,
        CompareOp::LtEq => CompareOp::GtEq,
        CompareOp::Gt => CompareOp::Lt,
        CompareOp::GtEq => CompareOp::LtEq,
    }
}

/// A constant before it has the type of its field.
enum Constant {
    /// A text in quotes, or bytes in hexadecimal.
    Text(String),
    /// A number with its sign.
    Number(String),
    /// `TRUE` or `FALSE`.
    Boolean(bool),
}

/// Reads a constant. Returns `None` if the expression is something else.
fn constant(expr: &Expr) -> Result<Option<Constant>> {
    let value = match expr {
        Expr::Nested(inner) => return constant(inner),
        Expr::Value(ValueWithSpan { value, .. }) => value,
        Expr::TypedString(typed) => &typed.value.value,
        Expr::UnaryOp { op: op @ (UnaryOperator::Minus | UnaryOperator::Plus), expr } => {
            let sign = if *op == UnaryOperator::Minus { "-" } else { "" };
            return Ok(match constant(expr)? {
                Some(Constant::Number(text)) if !text.starts_with('-') => Some(Constant::Number(format!("{sign}{text}"))),
                _ => None,
            });
        }
        _ => return Ok(None),
    };
    Ok(match value {
        Value::SingleQuotedString(text) | Value::HexStringLiteral(text) => Some(Constant::Text(text.clone())),
        Value::Number(text, _) => Some(Constant::Number(text.clone())),
        Value::Boolean(value) => Some(Constant::Boolean(*value)),
        Value::Null => return Err(bad("nothing is equal to NULL; write IS NULL or IS NOT NULL".to_owned())),
        _ => None,
    })
}

/// Returns the JSON of a constant that is compared with a field of some type. The type is checked later.
fn json_of(constant: Constant, ty: &Type) -> Json {
    let text = match constant {
        Constant::Text(text) => return json!(text),
        Constant::Boolean(value) => return json!(value),
        Constant::Number(text) => text,
    };
    // A decimal has more digits than a double, and its JSON is a text.
    if matches!(ty, Type::Primitive(PrimitiveType::Decimal { .. })) {
        return json!(text);
    }
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(value), _) => json!(value),
        (Err(_), Ok(value)) if value.is_finite() => json!(value),
        _ => json!(text),
    }
}

/// Returns the text before the wildcard of a pattern, and if there is one; `None` if the pattern asks for more than a prefix.
fn prefix_of(pattern: &str, escape: Option<char>) -> Option<(String, bool)> {
    let mut prefix = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            c if Some(c) == escape => prefix.push(chars.next()?),
            '%' => return chars.next().is_none().then_some((prefix, true)),
            '_' => return None,
            c => prefix.push(c),
        }
    }
    Some((prefix, false))
}

/// The reader of a condition.
struct FilterReader<'a> {
    schema: &'a Schema,
}

impl FilterReader<'_> {
    /// Returns the condition that an expression is.
    fn condition(&self, expr: &Expr) -> Result<FilterExpr> {
        let all = |chain: &BinaryOperator| {
            operands(expr, chain).into_iter().map(|operand| self.condition(operand)).collect::<Result<Vec<_>>>()
        };
        let not = |negated: bool, condition: FilterExpr| match negated {
            true => FilterExpr::Not(Box::new(condition)),
            false => condition,
        };
        Ok(match expr {
            Expr::Nested(inner) => self.condition(inner)?,
            Expr::BinaryOp { op: op @ BinaryOperator::And, .. } => FilterExpr::all(all(op)?),
            Expr::BinaryOp { op: op @ BinaryOperator::Or, .. } => FilterExpr::any(all(op)?),
            Expr::BinaryOp { left, op, right } => self.comparison(expr, left, op, right)?,
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => not(true, self.condition(expr)?),
            Expr::IsNull(field) => FilterExpr::IsNull(self.field(field)?.0),
            Expr::IsNotNull(field) => FilterExpr::NotNull(self.field(field)?.0),
            Expr::IsTrue(field) => self.surely(field, json!(true))?,
            Expr::IsFalse(field) => self.surely(field, json!(false))?,
            Expr::InList { expr: field, list, negated } => {
                let (field_id, ty) = self.field(field)?;
                let values = list.iter().map(|value| Ok(json_of(required(value)?, ty))).collect::<Result<Vec<_>>>()?;
                FilterExpr::In { field_id, values, negated: *negated }
            }
            Expr::Between { expr: field, negated, low, high } => {
                let (field_id, ty) = self.field(field)?;
                let bound = |op: CompareOp, value: &Expr| -> Result<FilterExpr> {
                    Ok(FilterExpr::Compare { op, field_id, value: json_of(required(value)?, ty) })
                };
                not(*negated, FilterExpr::all([bound(CompareOp::GtEq, low)?, bound(CompareOp::LtEq, high)?]))
            }
            Expr::Like { negated, any: false, expr: field, pattern, escape_char } => {
                let escape = escape_char.as_ref().map(|escape| &escape.value);
                not(*negated, like(self.field(field)?.0, pattern, escape)?)
            }
            Expr::Value(ValueWithSpan { value: Value::Boolean(value), .. }) => {
                if *value {
                    FilterExpr::True
                } else {
                    FilterExpr::False
                }
            }
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => self.equal(expr, json!(true))?,
            Expr::Function(function) => {
                let argument = nan_argument(function).ok_or_else(|| unsupported(expr))?;
                FilterExpr::IsNan(self.field(argument)?.0)
            }
            _ => return Err(unsupported(expr)),
        })
    }

    /// Returns the comparison of a field with a constant.
    fn comparison(&self, whole: &Expr, left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<FilterExpr> {
        let op = compare_op(op).ok_or_else(|| unsupported(whole))?;
        let (field, constant, op) = match (constant(left)?, constant(right)?) {
            (None, Some(constant)) => (left, constant, op),
            (Some(constant), None) => (right, constant, turned(op)),
            _ => return Err(bad(format!("{whole} does not compare a field with a constant; a text stands in single quotes"))),
        };
        let (field_id, ty) = self.field(field)?;
        Ok(FilterExpr::Compare { op, field_id, value: json_of(constant, ty) })
    }

    /// Returns the condition that a field is equal to a constant.
    fn equal(&self, field: &Expr, value: Json) -> Result<FilterExpr> {
        Ok(FilterExpr::Compare { op: CompareOp::Eq, field_id: self.field(field)?.0, value })
    }

    /// Returns the condition that a field is equal to a constant, which is false on NULL.
    fn surely(&self, field: &Expr, value: Json) -> Result<FilterExpr> {
        Ok(FilterExpr::all([self.equal(field, value)?, FilterExpr::NotNull(self.field(field)?.0)]))
    }

    /// Returns the id and the type of the field that an expression names.
    fn field(&self, expr: &Expr) -> Result<(i32, &Type)> {
        let joined = |parts: &[Ident]| parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join(".");
        let name = match expr {
            Expr::Nested(inner) => return self.field(inner),
            Expr::Identifier(name) => name.value.clone(),
            Expr::CompoundIdentifier(parts) => joined(parts),
            _ => return Err(bad(format!("{expr} is no field; a filter compares fields with constants"))),
        };
        let field = restrictable_field(self.schema, &name);
        let field = field.ok_or_else(|| bad(format!("the table has no field {name}; a text stands in single quotes")))?;
        Ok((field.id, field.field_type.as_ref()))
    }
}

/// Returns the condition that a field matches a pattern, which may only end with a wildcard.
fn like(field_id: i32, pattern: &Expr, escape: Option<&Value>) -> Result<FilterExpr> {
    let escape = match escape {
        None => Some('\\'),
        Some(Value::SingleQuotedString(text)) => text.chars().next(),
        Some(other) => return Err(bad(format!("{other} is no character to escape with"))),
    };
    let Constant::Text(text) = required(pattern)? else { return Err(unsupported(pattern)) };
    match prefix_of(&text, escape) {
        Some((prefix, true)) => Ok(FilterExpr::StartsWith { field_id, prefix, negated: false }),
        Some((text, false)) => Ok(FilterExpr::Compare { op: CompareOp::Eq, field_id, value: json!(text) }),
        None => Err(bad(format!("the pattern {pattern} asks for more than how a text begins; write LIKE 'prefix%'"))),
    }
}

/// Returns the constant that an expression must be.
fn required(expr: &Expr) -> Result<Constant> {
    let forms = "a text in single quotes, a number, TRUE or FALSE";
    constant(expr)?.ok_or_else(|| bad(format!("{expr} is no constant; write {forms}")))
}

/// Returns the argument of a call of `isnan`; `None` for any other call.
fn nan_argument(function: &Function) -> Option<&Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] if function.name.to_string().eq_ignore_ascii_case("isnan") => {
            Some(argument)
        }
        _ => None,
    }
}

/// Returns the error of a condition that SQL knows and row filters do not.
fn unsupported(expr: &Expr) -> RightsError {
    let forms = "=, <>, <, <=, >, >=, IN, BETWEEN, LIKE 'prefix%', IS NULL, isnan(), AND, OR and NOT";
    bad(format!("{expr} can't be in a row filter; it compares fields with constants by {forms}"))
}

#[cfg(test)]
mod tests {
    use esker_format::{NestedField, StructType};

    use super::*;

    fn schema() -> Schema {
        let person = StructType::new(vec![NestedField::optional(8, "email", PrimitiveType::String).into()]);
        let fields = vec![
            NestedField::optional(1, "id", PrimitiveType::Long).into(),
            NestedField::optional(2, "region", PrimitiveType::String).into(),
            NestedField::optional(3, "price", PrimitiveType::Decimal { precision: 20, scale: 2 }).into(),
            NestedField::optional(4, "at", PrimitiveType::Timestamp).into(),
            NestedField::optional(5, "active", PrimitiveType::Boolean).into(),
            NestedField::optional(6, "x", PrimitiveType::Double).into(),
            NestedField::optional(7, "person", person).into(),
        ];
        Schema::new(0, fields).expect("a schema")
    }

    fn parse(text: &str) -> FilterExpr {
        parse_row_filter(text, &schema()).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    fn compare(op: CompareOp, field_id: i32, value: Json) -> FilterExpr {
        FilterExpr::Compare { op, field_id, value }
    }

    #[test]
    fn conditions_become_predicates_on_field_ids() {
        use CompareOp::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
        let is_in = |field_id, values: &[Json], negated| FilterExpr::In { field_id, values: values.to_vec(), negated };
        let starts = |prefix: &str, negated| FilterExpr::StartsWith { field_id: 2, prefix: prefix.into(), negated };
        for (text, expected) in [
            ("TRUE", FilterExpr::True),
            ("region = 'it''s'", compare(Eq, 2, json!("it's"))),
            ("10 > ID", compare(Lt, 1, json!(10))),
            ("id <> -5", compare(NotEq, 1, json!(-5))),
            ("price >= 12345678901234567.89", compare(GtEq, 3, json!("12345678901234567.89"))),
            ("at <= TIMESTAMP '2026-01-31 10:00:00'", compare(LtEq, 4, json!("2026-01-31T10:00:00"))),
            ("active", compare(Eq, 5, json!(true))),
            ("NOT active", compare(NotEq, 5, json!(true))),
            ("active IS FALSE", FilterExpr::And(vec![compare(Eq, 5, json!(false)), FilterExpr::NotNull(5)])),
            ("x > 1e3", compare(Gt, 6, json!(1000.0))),
            ("isnan(x)", FilterExpr::IsNan(6)),
            ("NOT ISNAN(\"x\")", FilterExpr::NotNan(6)),
            ("person.email IS NULL", FilterExpr::IsNull(8)),
            ("person IS NOT NULL", FilterExpr::NotNull(7)),
            ("region IN ('a', 'b')", is_in(2, &[json!("a"), json!("b")], false)),
            ("id NOT IN (1)", is_in(1, &[json!(1)], true)),
            ("region LIKE 'E%'", starts("E", false)),
            ("region NOT LIKE 'a!_%' ESCAPE '!'", starts("a_", true)),
            ("region LIKE 'EU'", compare(Eq, 2, json!("EU"))),
            ("id BETWEEN 1 AND 3", FilterExpr::And(vec![compare(GtEq, 1, json!(1)), compare(LtEq, 1, json!(3))])),
            ("id NOT BETWEEN 1 AND 3", FilterExpr::Or(vec![compare(Lt, 1, json!(1)), compare(Gt, 1, json!(3))])),
            (
                "id = 1 OR region = 'EU' AND (id = 2 OR id = 3)",
                FilterExpr::Or(vec![
                    compare(Eq, 1, json!(1)),
                    FilterExpr::And(vec![
                        compare(Eq, 2, json!("EU")),
                        FilterExpr::Or(vec![compare(Eq, 1, json!(2)), compare(Eq, 1, json!(3))]),
                    ]),
                ]),
            ),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_filter_that_was_printed_is_read_as_the_same() {
        let schema = schema();
        let name = |id: i32| schema.name_by_field_id(id).expect("a field").to_owned();
        for text in [
            "region LIKE 'a\\_b%' AND NOT (id IN (1, 2) OR isnan(x))",
            "price < 14.2 OR at = '2026-01-31 10:00:00' OR person.email NOT LIKE 'x%'",
            "active AND region IS NOT NULL OR FALSE",
        ] {
            let filter = parse(text);
            assert_eq!(parse(&filter.to_sql(&name)), filter, "{text}");
        }
    }

    #[test]
    fn a_long_condition_is_read_without_recursion() {
        let chain = |length: usize| vec!["id = 1"; length].join(" OR ");
        let FilterExpr::Or(all) = parse(&chain(1_000)) else { panic!("no disjunction") };
        assert_eq!(all.len(), 1_000);
        for text in [chain(1_001), format!("{}TRUE", "NOT ".repeat(3_000)), format!("{}id = 1", "(".repeat(3_000))] {
            assert!(matches!(parse_row_filter(&text, &schema()), Err(RightsError::BadFilter { .. })));
        }
    }

    #[test]
    fn what_a_row_filter_does_not_take_is_named() {
        for (text, words) in [
            ("", "row filter can't be used"),
            ("nope = 1", "the table has no field nope"),
            ("region = \"EU\"", "a text stands in single quotes"),
            ("region = NULL", "write IS NULL"),
            ("id = 1; DROP TABLE t", "behind its end"),
            ("id = id", "does not compare a field with a constant"),
            ("id + 1 = 2", "is no field"),
            ("upper(region) = 'EU'", "is no field"),
            ("region ILIKE 'e%'", "can't be in a row filter"),
            ("region LIKE '%e'", "LIKE 'prefix%'"),
            ("id IN (SELECT 1)", "can't be in a row filter"),
            ("id IN (region)", "is no constant"),
            ("id = 'x'", "is no value of id, which is long"),
            ("id = 1.5", "is no value of id"),
            ("CASE WHEN active THEN TRUE END", "can't be in a row filter"),
        ] {
            let error = parse_row_filter(text, &schema()).expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
