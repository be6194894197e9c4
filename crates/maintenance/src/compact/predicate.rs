//! A SQL predicate as an Iceberg expression, for choosing files.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr as Sql, UnaryOperator, Value};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use esker_table::Expr;
use iceberg::spec::Schema;
use serde_json::{Value as Json, json};

use crate::{MaintenanceError, Result};

fn bad(reason: String) -> MaintenanceError {
    MaintenanceError::Option { key: "where", reason }
}

/// Parses comparisons of columns with literals, `IN`, `BETWEEN`, `IS NULL`, `LIKE 'prefix%'`, joined by `AND`, `OR` and `NOT`.
pub(crate) fn parse(text: &str, schema: &Schema) -> Result<Expr> {
    let dialect = GenericDialect {};
    let mut parser = Parser::new(&dialect).try_with_sql(text).map_err(|e| bad(e.to_string()))?;
    let sql = parser.parse_expr().map_err(|e| bad(e.to_string()))?;
    parser.expect_token(&datafusion::sql::sqlparser::tokenizer::Token::EOF).map_err(|e| bad(e.to_string()))?;
    let json = convert(&sql)?;
    Expr::parse(&json, schema, true).map_err(|e| bad(e.to_string()))
}

fn convert(sql: &Sql) -> Result<Json> {
    let not = |e: Json, negated: bool| if negated { json!({"type": "not", "child": e}) } else { e };
    let both = |ty: &str, a: Json, b: Json| json!({"type": ty, "left": a, "right": b});
    let compare = |ty: &str, term: Json, value: Json| json!({"type": ty, "term": term, "value": value});
    Ok(match sql {
        Sql::Nested(inner) => convert(inner)?,
        Sql::UnaryOp { op: UnaryOperator::Not, expr } => not(convert(expr)?, true),
        Sql::BinaryOp { left, op: BinaryOperator::And, right } => both("and", convert(left)?, convert(right)?),
        Sql::BinaryOp { left, op: BinaryOperator::Or, right } => both("or", convert(left)?, convert(right)?),
        Sql::BinaryOp { left, op, right } => {
            let (ty, turned) = match op {
                BinaryOperator::Eq => ("eq", "eq"),
                BinaryOperator::NotEq => ("not-eq", "not-eq"),
                BinaryOperator::Lt => ("lt", "gt"),
                BinaryOperator::LtEq => ("lt-eq", "gt-eq"),
                BinaryOperator::Gt => ("gt", "lt"),
                BinaryOperator::GtEq => ("gt-eq", "lt-eq"),
                other => return Err(bad(format!("operator {other} is not understood"))),
            };
            match term(left) {
                Ok(term) => compare(ty, term, literal(right)?),
                Err(_) => compare(turned, term(right)?, literal(left)?),
            }
        }
        Sql::IsNull(e) => json!({"type": "is-null", "term": term(e)?}),
        Sql::IsNotNull(e) => json!({"type": "not-null", "term": term(e)?}),
        Sql::InList { expr, list, negated } => {
            let values = list.iter().map(literal).collect::<Result<Vec<_>>>()?;
            json!({"type": if *negated { "not-in" } else { "in" }, "term": term(expr)?, "values": values})
        }
        Sql::Between { expr, negated, low, high } => {
            let term = term(expr)?;
            let inside = both("and", compare("gt-eq", term.clone(), literal(low)?), compare("lt-eq", term, literal(high)?));
            not(inside, *negated)
        }
        Sql::Like { negated, expr, pattern, .. } => {
            let pattern = literal(pattern)?;
            let prefix = pattern.as_str().and_then(|p| p.strip_suffix('%')).filter(|p| !p.contains(['%', '_']));
            let prefix = prefix.ok_or_else(|| bad("LIKE takes a prefix followed by %".to_owned()))?;
            compare(if *negated { "not-starts-with" } else { "starts-with" }, term(expr)?, prefix.into())
        }
        other => return Err(bad(format!("{other} is not understood"))),
    })
}

fn term(sql: &Sql) -> Result<Json> {
    match sql {
        Sql::Identifier(name) => Ok(name.value.clone().into()),
        Sql::CompoundIdentifier(names) => Ok(names.iter().map(|n| n.value.as_str()).collect::<Vec<_>>().join(".").into()),
        Sql::Nested(inner) => term(inner),
        other => Err(bad(format!("{other} is not a column"))),
    }
}

fn literal(sql: &Sql) -> Result<Json> {
    match sql {
        Sql::Value(value) => match &value.value {
            Value::Number(digits, _) => serde_json::from_str(digits).map_err(|e| bad(format!("{digits}: {e}"))),
            Value::SingleQuotedString(text) => Ok(text.clone().into()),
            Value::Boolean(value) => Ok((*value).into()),
            other => Err(bad(format!("{other} is not a literal"))),
        },
        Sql::UnaryOp { op: UnaryOperator::Minus, expr } => {
            let text = format!("-{}", literal(expr)?);
            serde_json::from_str(&text).map_err(|e| bad(format!("{text}: {e}")))
        }
        // DATE '2026-01-01', TIMESTAMP '…': Iceberg's JSON form of both is the text.
        Sql::TypedString(typed) => match &typed.value.value {
            Value::SingleQuotedString(text) => Ok(text.replacen(' ', "T", 1).into()),
            other => Err(bad(format!("{other} is not a literal"))),
        },
        other => Err(bad(format!("{other} is not a literal"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iceberg::spec::{NestedField, PrimitiveType, StructType, Type};

    fn schema() -> Schema {
        let field = |id, name: &str, ty| NestedField::optional(id, name, Type::Primitive(ty)).into();
        let nested = StructType::new(vec![field(4, "b", PrimitiveType::Long)]);
        let fields = [
            field(1, "id", PrimitiveType::Long),
            field(2, "name", PrimitiveType::String),
            NestedField::optional(3, "a", Type::Struct(nested)).into(),
            field(5, "day", PrimitiveType::Date),
        ];
        Schema::builder().with_fields(fields).build().expect("a schema")
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
        for wrong in ["", "id", "id > other", "id + 1 > 2", "name LIKE '%x'", "id = 1; DROP TABLE t"] {
            let error = parse(wrong, &schema()).expect_err(wrong).to_string();
            assert!(error.contains("where"), "{error}");
        }
    }
}
