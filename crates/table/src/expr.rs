//! Row filters: parsed from the JSON of the REST specification against a table's schema, and printed again as residuals.
//!
//! Negations are pushed down to the predicates, so a filter consists of constants, AND, OR and predicates on single columns.
//! Literals have the type of their column. Start reading at [`Expr::parse`].
//! Spec: REST OpenAPI document, `Expression`; Java's `ExpressionParser`.

use esker_format::{PrimitiveType, Schema, Transform, Type, Value, value_from_json};
use serde_json::{Value as Json, json};

use crate::{Result, TableError};

/// The operator of a predicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// The value is missing.
    IsNull,
    /// The value is present.
    NotNull,
    /// The value is NaN.
    IsNan,
    /// The value is not NaN.
    NotNan,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
    /// `=`
    Eq,
    /// `!=`
    NotEq,
    /// The string begins with the literal.
    StartsWith,
    /// The string does not begin with the literal.
    NotStartsWith,
    /// The value is one of the literals.
    In,
    /// The value is none of the literals.
    NotIn,
}

/// The operators, each with its name in JSON and its negation.
const OPS: [(Op, &str, Op); 14] = [
    (Op::IsNull, "is-null", Op::NotNull),
    (Op::NotNull, "not-null", Op::IsNull),
    (Op::IsNan, "is-nan", Op::NotNan),
    (Op::NotNan, "not-nan", Op::IsNan),
    (Op::Lt, "lt", Op::GtEq),
    (Op::LtEq, "lt-eq", Op::Gt),
    (Op::Gt, "gt", Op::LtEq),
    (Op::GtEq, "gt-eq", Op::Lt),
    (Op::Eq, "eq", Op::NotEq),
    (Op::NotEq, "not-eq", Op::Eq),
    (Op::StartsWith, "starts-with", Op::NotStartsWith),
    (Op::NotStartsWith, "not-starts-with", Op::StartsWith),
    (Op::In, "in", Op::NotIn),
    (Op::NotIn, "not-in", Op::In),
];

impl Op {
    fn parse(name: &str) -> Option<Self> {
        // Java's enum names have underscores and capitals, where the specification has hyphens and small letters.
        let name = name.replace('_', "-").to_lowercase();
        OPS.iter().find(|(_, n, _)| *n == name).map(|(op, ..)| *op)
    }

    fn name(self) -> &'static str {
        OPS.iter().find(|(op, ..)| *op == self).map_or("", |(_, name, _)| name)
    }

    fn opposite(self) -> Self {
        OPS.iter().find(|(op, ..)| *op == self).map_or(self, |(.., opposite)| *opposite)
    }

    const fn is_unary(self) -> bool {
        matches!(self, Self::IsNull | Self::NotNull | Self::IsNan | Self::NotNan)
    }
}

/// A predicate on one column.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicate {
    /// The operator.
    pub op: Op,
    /// The field id of the column.
    pub field: i32,
    /// The transform of the column that the predicate compares, if any. Such a predicate rules out no file.
    pub transform: Option<Transform>,
    /// The literals, in the type of the column or of the transform's result; empty for operators that take none.
    pub values: Vec<Value>,
    /// The predicate as the client sent it, with its negation applied, to be printed again.
    json: Json,
}

/// A row filter. Negations are pushed down to the predicates when it is parsed.
///
/// ```
/// use esker_format::Schema;
/// use esker_table::{Expr, Op};
/// use serde_json::{from_value, json};
///
/// let schema: Schema = from_value(json!({"type": "struct", "schema-id": 0, "fields": [
///     {"id": 7, "name": "day", "required": false, "type": "int"}]}))?;
/// let less = json!({"type": "lt", "term": "day", "value": 3});
/// let filter = Expr::parse(&json!({"type": "not", "child": less}), &schema, true)?;
///
/// // The negation became part of the predicate, and the column is known by its field id.
/// let predicates = filter.predicates();
/// assert_eq!((predicates[0].op, predicates[0].field), (Op::GtEq, 7));
/// assert!(Expr::parse(&json!({"type": "is-null", "term": "dya"}), &schema, true).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// The filter that matches every row.
    True,
    /// The filter that matches no row.
    False,
    /// The conjunction of two filters.
    And(Box<Self>, Box<Self>),
    /// The disjunction of two filters.
    Or(Box<Self>, Box<Self>),
    /// A predicate on one column.
    Predicate(Predicate),
}

impl Expr {
    /// Parses a filter on the columns of `schema`.
    ///
    /// Spec: REST OpenAPI document, `Expression`.
    ///
    /// # Errors
    ///
    /// Returns [`TableError::Filter`] if the JSON is no filter, names an unknown column, compares a column of no primitive type, or
    /// has a transform or literal that does not fit its column.
    pub fn parse(json: &Json, schema: &Schema, case_sensitive: bool) -> Result<Self> {
        FilterParser { schema, case_sensitive }.parse(json, false)
    }

    /// Returns the conjunction of two filters, simplified if one is a constant.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::False, _) | (_, Self::False) => Self::False,
            (Self::True, e) | (e, Self::True) => e,
            (a, b) => Self::And(Box::new(a), Box::new(b)),
        }
    }

    /// Returns the disjunction of two filters, simplified if one is a constant.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::True, _) | (_, Self::True) => Self::True,
            (Self::False, e) | (e, Self::False) => e,
            (a, b) => Self::Or(Box::new(a), Box::new(b)),
        }
    }

    /// Returns the predicates of the filter, from left to right.
    pub fn predicates(&self) -> Vec<&Predicate> {
        match self {
            Self::True | Self::False => Vec::new(),
            Self::And(a, b) | Self::Or(a, b) => [a.predicates(), b.predicates()].concat(),
            Self::Predicate(predicate) => vec![predicate],
        }
    }

    /// Replaces each predicate by the result of `leaf`, and simplifies.
    pub(crate) fn map(&self, leaf: &impl Fn(&Predicate) -> Self) -> Self {
        match self {
            Self::True => Self::True,
            Self::False => Self::False,
            Self::And(a, b) => a.map(leaf).and(b.map(leaf)),
            Self::Or(a, b) => a.map(leaf).or(b.map(leaf)),
            Self::Predicate(predicate) => leaf(predicate),
        }
    }

    /// Prints the filter as the JSON of the REST specification.
    pub fn to_json(&self) -> Json {
        match self {
            Self::True => json!(true),
            Self::False => json!(false),
            Self::And(a, b) => json!({"type": "and", "left": a.to_json(), "right": b.to_json()}),
            Self::Or(a, b) => json!({"type": "or", "left": a.to_json(), "right": b.to_json()}),
            Self::Predicate(predicate) => predicate.json.clone(),
        }
    }
}

fn invalid(what: String) -> TableError {
    TableError::Filter(what)
}

/// The columns that a filter may name, and how it names them.
struct FilterParser<'a> {
    schema: &'a Schema,
    case_sensitive: bool,
}

impl FilterParser<'_> {
    /// Parses a filter, or its negation if `negated`.
    fn parse(&self, json: &Json, negated: bool) -> Result<Expr> {
        let constant = |value: bool| if value != negated { Expr::True } else { Expr::False };
        if let Some(value) = json.as_bool() {
            return Ok(constant(value));
        }
        let kind = json["type"].as_str().ok_or_else(|| invalid(format!("a filter needs a type: {json}")))?;
        let child = |key: &str, negated: bool| match json.get(key) {
            Some(child) => self.parse(child, negated),
            None => Err(invalid(format!("a filter of type {kind:?} needs {key:?}"))),
        };
        match (kind, negated) {
            ("true", _) => Ok(constant(true)),
            ("false", _) => Ok(constant(false)),
            ("literal", _) => {
                json["value"].as_bool().map(constant).ok_or_else(|| invalid(format!("not a boolean literal: {json}")))
            }
            ("not", _) => child("child", !negated),
            ("and", false) | ("or", true) => Ok(child("left", negated)?.and(child("right", negated)?)),
            ("or", false) | ("and", true) => Ok(child("left", negated)?.or(child("right", negated)?)),
            _ => self.predicate(json, kind, negated),
        }
    }

    fn predicate(&self, json: &Json, kind: &str, negated: bool) -> Result<Expr> {
        let op = Op::parse(kind).ok_or_else(|| invalid(format!("unknown type of filter: {kind:?}")))?;
        let op = if negated { op.opposite() } else { op };
        let term = json.get("term").or_else(|| json.get("child"));
        let term = term.ok_or_else(|| invalid(format!("a filter of type {kind:?} needs a term")))?;
        let (name, transform) = term_of(term)?;
        let field = match self.case_sensitive {
            true => self.schema.field_by_name(name),
            false => self.schema.field_by_name_case_insensitive(name),
        };
        let field =
            field.ok_or_else(|| invalid(format!("the filter names the column {name:?}, which the table does not have")))?;
        let mut values = Vec::new();
        if !op.is_unary() {
            let given: Vec<&Json> = match (json.get("values").and_then(Json::as_array), json.get("value")) {
                (Some(list), _) => list.iter().collect(),
                (None, Some(value)) => vec![value],
                (None, None) => return Err(invalid(format!("a filter of type {kind:?} on {name:?} needs a value"))),
            };
            let ty = match &transform {
                None => field.field_type.as_ref().clone(),
                Some(transform) => transform.result_type(&field.field_type).ok_or_else(|| {
                    invalid(format!("transform {transform} does not fit {name:?}, which is {}", field.field_type))
                })?,
            };
            let Type::Primitive(ty) = ty else { return Err(invalid(format!("column {name:?} is not of a primitive type"))) };
            for value in given {
                let parsed = parsed(value, &ty);
                values.push(parsed.ok_or_else(|| invalid(format!("{value} is not a value of column {name:?}, which is {ty}")))?);
            }
        }
        let mut printed = json.clone();
        printed["type"] = json!(op.name());
        Ok(Expr::Predicate(Predicate { op, field: field.id, transform, values, json: printed }))
    }
}

/// Parses a term: a column's name, a reference to a column, or a transform of a term.
fn term_of(term: &Json) -> Result<(&str, Option<Transform>)> {
    if let Some(name) = term.as_str() {
        return Ok((name, None));
    }
    match term["type"].as_str() {
        Some("reference") => match term["term"].as_str().or_else(|| term["name"].as_str()) {
            Some(name) => Ok((name, None)),
            None => Err(invalid(format!("a reference without a name: {term}"))),
        },
        Some("transform") => {
            let text = term["transform"].as_str().ok_or_else(|| invalid(format!("a term without a transform: {term}")))?;
            let (name, _) = term_of(&term["term"])?;
            Ok((name, Some(Transform::named(text))))
        }
        _ => Err(invalid(format!("not a term: {term}"))),
    }
}

/// Parses a literal of the type `ty`.
///
/// Engines write it as the specification's JSON single-value serialization. Some write dates and times as the number that Iceberg
/// stores.
fn parsed(json: &Json, ty: &PrimitiveType) -> Option<Value> {
    match (ty, json.as_i64()) {
        (PrimitiveType::Date, Some(days)) => i32::try_from(days).ok().map(Value::Date),
        (PrimitiveType::Timestamp, Some(v)) => Some(Value::Timestamp(v)),
        (PrimitiveType::Timestamptz, Some(v)) => Some(Value::Timestamptz(v)),
        (PrimitiveType::TimestampNs, Some(v)) => Some(Value::TimestampNs(v)),
        (PrimitiveType::TimestamptzNs, Some(v)) => Some(Value::TimestamptzNs(v)),
        (PrimitiveType::Time, Some(v)) => Some(Value::Time(v)),
        _ => value_from_json(&Type::Primitive(ty.clone()), json),
    }
}

/// Returns the text of a string value; `None` for other values.
pub(crate) fn string(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use esker_format::NestedField;

    use super::*;

    fn schema() -> Schema {
        let field = |id, name: &str, ty| NestedField::optional(id, name, Type::Primitive(ty)).into();
        let fields = vec![
            field(1, "id", PrimitiveType::Long),
            field(2, "Name", PrimitiveType::String),
            field(3, "day", PrimitiveType::Date),
            field(4, "price", PrimitiveType::Decimal { precision: 9, scale: 2 }),
            field(5, "at", PrimitiveType::Timestamptz),
            field(6, "x", PrimitiveType::Double),
        ];
        Schema::new(0, fields).expect("a schema")
    }

    #[test]
    fn filters_of_every_kind_are_parsed_and_printed_as_they_came() {
        for json in [
            json!({"type": "eq", "term": "id", "value": 9_007_199_254_740_993_i64}),
            json!({"type": "is-null", "term": "Name"}),
            json!({"type": "in", "term": "Name", "values": ["a", "b"]}),
            json!({"type": "starts-with", "term": "Name", "value": "a"}),
            json!({"type": "gt-eq", "term": "day", "value": "2026-01-31"}),
            json!({"type": "lt", "term": "day", "value": 20_000}),
            json!({"type": "lt", "term": "price", "value": "14.20"}),
            json!({"type": "lt", "term": "at", "value": "2026-01-31T10:00:00.000000+00:00"}),
            json!({"type": "not-eq", "term": "x", "value": 1}),
            json!({"type": "eq", "term": {"type": "transform", "transform": "bucket[4]", "term": "id"}, "value": 3}),
            json!({"type": "and", "left": {"type": "is-nan", "term": "x"}, "right": {"type": "lt", "term": "id", "value": 3}}),
        ] {
            let parsed = Expr::parse(&json, &schema(), true).unwrap_or_else(|e| panic!("{json}: {e}"));
            assert_eq!(parsed.to_json(), json);
        }
    }

    #[test]
    fn negations_are_pushed_down_to_the_predicates() {
        let json = json!({"type": "not", "child": {"type": "and",
            "left": {"type": "lt", "term": "id", "value": 3},
            "right": {"type": "not", "child": {"type": "in", "term": "id", "values": [1]}}}});
        let parsed = Expr::parse(&json, &schema(), true).expect("valid");
        let expected = json!({"type": "or",
            "left": {"type": "gt-eq", "term": "id", "value": 3}, "right": {"type": "in", "term": "id", "values": [1]}});
        assert_eq!(parsed.to_json(), expected);
        assert_eq!(Expr::parse(&json!({"type": "not", "child": true}), &schema(), true).expect("valid"), Expr::False);
    }

    #[test]
    fn mistakes_are_named() {
        for (json, words) in [
            (json!({"type": "eq", "term": "nope", "value": 1}), "nope"),
            (json!({"type": "eq", "term": "name", "value": "x"}), "name"),
            (json!({"type": "eq", "term": "id", "value": "x"}), "id"),
            (json!({"type": "eq", "term": "id"}), "value"),
            (json!({"type": "fly", "term": "id"}), "fly"),
            (json!({"type": "and", "left": true}), "right"),
            (json!(3), "type"),
        ] {
            let error = Expr::parse(&json, &schema(), true).expect_err(&json.to_string()).to_string();
            assert!(error.contains(words), "{json}: {error}");
        }
        let insensitive = json!({"type": "eq", "term": "NAME", "value": "x"});
        Expr::parse(&insensitive, &schema(), false).expect("found without case");
    }
}
