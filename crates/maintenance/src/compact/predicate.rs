//! The option `where`: a SQL predicate, converted to an Iceberg expression.
//!
//! The predicate is parsed by `sqlparser`, converted to the JSON form of Iceberg's expressions, and bound to the schema. Start
//! reading at [`parse`] and `Columns::convert`.
//!
//! Spec: REST OpenAPI document, `Expression`.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr as Sql, Ident, UnaryOperator, Value};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use esker_format::{PrimitiveType, Schema, Type};
use esker_table::Expr;
use serde_json::{Value as Json, json};

use crate::{MaintenanceError, Result};

/// Returns the error of an option `where` that makes no sense.
fn bad(reason: String) -> MaintenanceError {
    MaintenanceError::Option { key: "where", reason }
}

/// Parses a SQL predicate on the columns of a schema.
///
/// It takes comparisons of columns with literals, `IN`, `BETWEEN`, `IS NULL` and `LIKE 'prefix%'`, joined by `AND`, `OR` and `NOT`.
/// Names and literals mean the same as in SQL statements (docs/sql.md).
///
/// # Errors
///
/// Returns [`MaintenanceError::Option`] if the text is no such predicate, or a literal does not fit its column.
pub(crate) fn parse(text: &str, schema: &Schema) -> Result<Expr> {
    let dialect = GenericDialect {};
    let mut parser = Parser::new(&dialect).try_with_sql(text).map_err(|e| bad(e.to_string()))?;
    let sql = parser.parse_expr().map_err(|e| bad(e.to_string()))?;
    parser.expect_token(&datafusion::sql::sqlparser::tokenizer::Token::EOF).map_err(|e| bad(e.to_string()))?;
    let json = Columns(schema).convert(&sql)?;
    Expr::parse(&json, schema, true).map_err(|e| bad(e.to_string()))
}

/// The columns that a predicate may name.
struct Columns<'a>(&'a Schema);

/// A column that a predicate names.
struct Term {
    name: String,
    ty: PrimitiveType,
}

impl Columns<'_> {
    /// Converts a SQL expression to the JSON of an Iceberg expression.
    fn convert(&self, sql: &Sql) -> Result<Json> {
        let not = |e: Json, negated: bool| if negated { json!({"type": "not", "child": e}) } else { e };
        let both = |ty: &str, a: Json, b: Json| json!({"type": ty, "left": a, "right": b});
        let compare = |ty: &str, term: &Term, value: &Sql| {
            Ok::<_, MaintenanceError>(json!({"type": ty, "term": term.name, "value": literal(value, term)?}))
        };
        Ok(match sql {
            Sql::Nested(inner) => self.convert(inner)?,
            Sql::UnaryOp { op: UnaryOperator::Not, expr } => not(self.convert(expr)?, true),
            Sql::BinaryOp { left, op: BinaryOperator::And, right } => both("and", self.convert(left)?, self.convert(right)?),
            Sql::BinaryOp { left, op: BinaryOperator::Or, right } => both("or", self.convert(left)?, self.convert(right)?),
            Sql::BinaryOp { left, op, right } => {
                let (ty, turned) = match op {
                    BinaryOperator::Eq => ("eq", "eq"),
                    BinaryOperator::NotEq => ("not-eq", "not-eq"),
                    BinaryOperator::Lt => ("lt", "gt"),
                    BinaryOperator::LtEq => ("lt-eq", "gt-eq"),
                    BinaryOperator::Gt => ("gt", "lt"),
                    BinaryOperator::GtEq => ("gt-eq", "lt-eq"),
                    other => return Err(bad(format!("operator {other} is not supported"))),
                };
                match is_name(left) {
                    true => compare(ty, &self.term(left)?, right)?,
                    false => compare(turned, &self.term(right)?, left)?,
                }
            }
            Sql::IsNull(e) => json!({"type": "is-null", "term": self.name(e)?}),
            Sql::IsNotNull(e) => json!({"type": "not-null", "term": self.name(e)?}),
            Sql::InList { expr, list, negated } => {
                let term = self.term(expr)?;
                let values = list.iter().map(|value| literal(value, &term)).collect::<Result<Vec<_>>>()?;
                json!({"type": if *negated { "not-in" } else { "in" }, "term": term.name, "values": values})
            }
            Sql::Between { expr, negated, low, high } => {
                let term = self.term(expr)?;
                not(both("and", compare("gt-eq", &term, low)?, compare("lt-eq", &term, high)?), *negated)
            }
            Sql::Like { negated, expr, pattern, .. } => {
                let term = self.term(expr)?;
                let pattern = literal(pattern, &term)?;
                let prefix = pattern.as_str().and_then(|p| p.strip_suffix('%')).filter(|p| !p.contains(['%', '_', '\\']));
                let prefix = prefix.ok_or_else(|| bad("LIKE takes a prefix followed by %".to_owned()))?;
                json!({"type": if *negated { "not-starts-with" } else { "starts-with" }, "term": term.name, "value": prefix})
            }
            other => return Err(bad(format!("{other} is not supported"))),
        })
    }

    /// Returns the full name of a column as the schema has it. An unquoted name is tried in lower case first, then as it is
    /// written.
    fn name(&self, sql: &Sql) -> Result<String> {
        let parts = match sql {
            Sql::Identifier(name) => std::slice::from_ref(name),
            Sql::CompoundIdentifier(names) => names.as_slice(),
            Sql::Nested(inner) => return self.name(inner),
            other => return Err(bad(format!("{other} is not a column"))),
        };
        let joined = |part: &dyn Fn(&Ident) -> String| parts.iter().map(part).collect::<Vec<_>>().join(".");
        let lower = joined(&|part| if part.quote_style.is_some() { part.value.clone() } else { part.value.to_lowercase() });
        let written = joined(&|part| part.value.clone());
        let found = [lower, written].into_iter().find(|name| self.0.field_by_name(name).is_some());
        found.ok_or_else(|| bad(format!("{sql} is not a column of the table")))
    }

    /// Finds the column that an expression names.
    fn term(&self, sql: &Sql) -> Result<Term> {
        let name = self.name(sql)?;
        match self.0.field_by_name(&name).map(|field| field.field_type.as_ref()) {
            Some(Type::Primitive(ty)) => Ok(Term { ty: ty.clone(), name }),
            _ => Err(bad(format!("{name} is not a column of a primitive type"))),
        }
    }
}

fn is_name(sql: &Sql) -> bool {
    match sql {
        Sql::Nested(inner) => is_name(inner),
        other => matches!(other, Sql::Identifier(_) | Sql::CompoundIdentifier(_)),
    }
}

/// Converts a literal that is compared with a column to JSON of the column's type.
fn literal(sql: &Sql, term: &Term) -> Result<Json> {
    let none = || bad(format!("{sql} is not a literal of {}, which is {}", term.name, term.ty));
    match sql {
        Sql::Value(value) => match &value.value {
            Value::Number(digits, _) => number(digits, &term.ty).ok_or_else(none),
            Value::SingleQuotedString(text) => of_text(text, &term.ty).ok_or_else(none),
            Value::HexStringLiteral(hex) if matches!(term.ty, PrimitiveType::Binary | PrimitiveType::Fixed(_)) => {
                Ok(hex.to_lowercase().into())
            }
            Value::Boolean(value) => Ok((*value).into()),
            _ => Err(none()),
        },
        Sql::Nested(inner) => literal(inner, term),
        Sql::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Sql::Value(value) => match &value.value {
                Value::Number(digits, _) => number(&format!("-{digits}"), &term.ty).ok_or_else(none),
                _ => Err(none()),
            },
            _ => Err(none()),
        },
        Sql::TypedString(typed) => match &typed.value.value {
            Value::SingleQuotedString(text) => of_text(text, &term.ty).ok_or_else(none),
            _ => Err(none()),
        },
        _ => Err(none()),
    }
}

/// Converts a number to JSON of a type; `None` if the type can't represent its value. A decimal becomes text with exactly its scale
/// of digits.
fn number(digits: &str, ty: &PrimitiveType) -> Option<Json> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    match ty {
        PrimitiveType::Decimal { scale, .. } => {
            let scale = *scale as usize;
            let is_plain = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
            if fraction.len() > scale || !is_plain(fraction) || !is_plain(whole.trim_start_matches('-')) {
                return None;
            }
            let whole = match whole {
                "" | "-" => format!("{whole}0"),
                whole => whole.to_owned(),
            };
            Some(if scale == 0 { whole.into() } else { format!("{whole}.{fraction:0<scale$}").into() })
        }
        PrimitiveType::Float | PrimitiveType::Double => digits.parse::<f64>().ok().map(Json::from),
        PrimitiveType::Int | PrimitiveType::Long if fraction.is_empty() => whole.parse::<i64>().ok().map(Json::from),
        _ => None,
    }
}

/// Converts a text to JSON of a type; `None` if the type takes no text.
///
/// As a timestamp, a date is its midnight, seconds may be left out, and a time without a zone is in UTC.
///
/// Spec: Appendix D, "JSON single-value serialization".
fn of_text(text: &str, ty: &PrimitiveType) -> Option<Json> {
    use PrimitiveType as P;
    let zoned = matches!(ty, P::Timestamptz | P::TimestamptzNs);
    match ty {
        P::Timestamp | P::TimestampNs | P::Timestamptz | P::TimestamptzNs => {
            let text = text.trim();
            let (day, rest) = text.split_once(['T', 't', ' ']).unwrap_or((text, "00:00:00"));
            let (clock, zone) = match rest.find(['+', '-', 'Z', 'z']) {
                Some(at) => (rest[..at].trim(), rest[at..].to_uppercase()),
                None => (rest, String::new()),
            };
            let zone = match (zone.as_str(), zoned) {
                ("", true) | ("Z", true) => "+00:00".to_owned(),
                // A zone may be written without minutes.
                (zone, true) if zone.len() == 3 => format!("{zone}:00"),
                (_, true) => zone,
                ("", false) => zone,
                (_, false) => return None,
            };
            Some(format!("{day}T{}{zone}", seconds(clock)).into())
        }
        P::Time => Some(seconds(text.trim()).into()),
        P::Boolean => text.to_lowercase().parse::<bool>().ok().map(Json::from),
        P::Int | P::Long | P::Float | P::Double | P::Decimal { .. } => number(text.trim(), ty),
        // The text is ambiguous: Iceberg's JSON has hexadecimal digits, and SQL the bytes of the text itself.
        P::Binary | P::Fixed(_) => None,
        P::Unknown | P::Geometry { .. } | P::Geography { .. } | P::Other(_) => None,
        P::Date => Some(text.trim().into()),
        P::String | P::Uuid => Some(text.into()),
    }
}

/// Adds seconds to a time of day that has none.
fn seconds(clock: &str) -> String {
    if clock.matches(':').count() == 1 { format!("{clock}:00") } else { clock.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_format::{NestedField, NestedFieldRef, StructType, Value};

    fn schema() -> Schema {
        let field = |id, name: &str, ty: PrimitiveType| -> NestedFieldRef { NestedField::optional(id, name, ty).into() };
        let nested = StructType::new(vec![field(4, "b", PrimitiveType::Long)]);
        let fields = vec![
            field(1, "id", PrimitiveType::Long),
            field(2, "name", PrimitiveType::String),
            NestedField::optional(3, "a", nested).into(),
            field(5, "day", PrimitiveType::Date),
            field(6, "dc", PrimitiveType::Decimal { precision: 5, scale: 2 }),
            field(7, "bytes", PrimitiveType::Binary),
            field(8, "ts", PrimitiveType::Timestamp),
            field(9, "tz", PrimitiveType::Timestamptz),
            field(10, "tm", PrimitiveType::Time),
            field(11, "Big", PrimitiveType::Long),
        ];
        Schema::new(0, fields).expect("a schema")
    }

    #[test]
    fn predicates_become_expressions_and_nonsense_is_refused() {
        for ok in [
            "id > 5 AND name = 'x'",
            "5 < id OR NOT (a.b IS NULL)",
            "day BETWEEN DATE '2026-01-01' AND DATE '2026-02-01'",
            "name LIKE 'abc%' AND id NOT IN (1, -2)",
        ] {
            parse(ok, &schema()).unwrap_or_else(|e| panic!("{ok}: {e}"));
        }
        for wrong in [
            "dc = 1.505",
            "bytes = 'CAFE'",
            "ts = '2020-01-01 00:00+02'",
            "day > 5",
            "ts > 'soon'",
            "\"ID\" = 1",
            "",
            "id",
            "id > other",
            "id + 1 > 2",
            "name LIKE '%x'",
            "id = 1; DROP TABLE t",
        ] {
            let error = parse(wrong, &schema()).expect_err(wrong).to_string();
            assert!(error.contains("where"), "{error}");
        }
    }

    /// docs/sql.md, "Names" and "Literals".
    #[test]
    fn names_and_literals_mean_what_they_mean_in_statements() {
        let value = |text: &str| match parse(text, &schema()) {
            Ok(Expr::Predicate(predicate)) => predicate.values[0].clone(),
            other => panic!("{text}: {other:?}"),
        };
        for (text, unscaled) in [("dc = 1.5", 150), ("dc > 1", 100), ("-1.50 = dc", -150), ("dc = '2'", 200), ("dc < .5", 50)] {
            assert_eq!(value(text), Value::Decimal { unscaled, scale: 2 }, "{text}");
        }
        assert_eq!(value("bytes = X'CAFE'"), Value::Binary([0xca, 0xfe].into()));
        let micros = 1_577_836_800_000_000;
        for (text, at) in [
            ("ts = timestamp '2020-01-01'", micros),
            ("ts = '2020-01-01 00:00'", micros),
            ("ts = date '2020-01-01'", micros),
            ("ts = '2020-01-01 00:00:00.5'", micros + 500_000),
        ] {
            assert_eq!(value(text), Value::Timestamp(at), "{text}");
        }
        for text in ["tz = timestamp '2020-01-01 00:00:00'", "tz = '2020-01-01T02:00+02'", "tz = '2020-01-01 00:00:00Z'"] {
            assert_eq!(value(text), Value::Timestamptz(micros), "{text}");
        }
        assert_eq!(value("tm = time '10:00'"), Value::Time(36_000_000_000));
        assert_eq!(value("ID = 3.0"), Value::Long(3));
        assert_eq!(value("Big = '7'"), Value::Long(7));
    }
}
