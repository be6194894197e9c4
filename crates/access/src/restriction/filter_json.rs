//! The JSON of row filters: that of Iceberg's expressions, with field ids.
//!
//! A predicate is `{"type": "eq", "left": {"type": "reference", "id": 3}, "right": {"type": "literal", "value": "EU"}}`.
//!
//! Spec: "Iceberg Expressions", appendix B.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::filter::{CompareOp, FilterExpr, bad};
use crate::{Result, RightsError};

impl FilterExpr {
    /// Prints the filter as an expression of Iceberg.
    ///
    /// Spec: "Iceberg Expressions", appendix B.
    pub fn to_json(&self) -> Value {
        let reference = |id: &i32| json!({"type": "reference", "id": id});
        let literal = |value: &Value| json!({"type": "literal", "value": value});
        let unary = |name: &str, id: &i32| json!({"type": name, "child": reference(id)});
        match self {
            Self::True => json!(true),
            Self::False => json!(false),
            Self::And(inner) => balanced("and", inner, true),
            Self::Or(inner) => balanced("or", inner, false),
            Self::Not(inner) => json!({"type": "not", "child": inner.to_json()}),
            Self::IsNull(id) => unary("is-null", id),
            Self::NotNull(id) => unary("not-null", id),
            Self::IsNan(id) => unary("is-nan", id),
            Self::NotNan(id) => unary("not-nan", id),
            Self::Compare { op, field_id, value } => {
                json!({"type": op.as_str(), "left": reference(field_id), "right": literal(value)})
            }
            Self::In { field_id, values, negated } => {
                let literals: Vec<Value> = values.iter().map(literal).collect();
                let name = if *negated { "not-in" } else { "in" };
                json!({"type": name, "child": reference(field_id), "values": literals})
            }
            Self::StartsWith { field_id, prefix, negated } => {
                let name = if *negated { "not-starts-with" } else { "starts-with" };
                json!({"type": name, "left": reference(field_id), "right": literal(&json!(prefix))})
            }
        }
    }

    /// Reads an expression of Iceberg. Fields are named by their ids, and compared with constants only.
    ///
    /// # Errors
    ///
    /// Returns [`RightsError::BadFilter`] if the JSON is no such expression.
    pub fn from_json(json: &Value) -> Result<Self> {
        if let Some(value) = json.as_bool() {
            return Ok(if value { Self::True } else { Self::False });
        }
        let kind = json["type"].as_str().ok_or_else(|| bad(format!("an expression without a type: {json}")))?;
        let part = |key: &str| json.get(key).ok_or_else(|| bad(format!("an expression of the type {kind:?} needs {key:?}")));
        let child = || field_of(part("child")?);
        let sides = || Ok::<_, RightsError>((field_of(part("left")?)?, literal_of(part("right")?)?));
        let both = || Ok::<_, RightsError>([Self::from_json(part("left")?)?, Self::from_json(part("right")?)?]);
        let op = CompareOp::ALL.into_iter().find(|op| op.as_str() == kind);
        Ok(match (kind, op) {
            (_, Some(op)) => {
                let (field_id, value) = sides()?;
                Self::Compare { op, field_id, value }
            }
            ("true", _) => Self::True,
            ("false", _) => Self::False,
            ("and", _) => Self::all(both()?),
            ("or", _) => Self::any(both()?),
            ("not", _) => Self::Not(Box::new(Self::from_json(part("child")?)?)),
            ("is-null", _) => Self::IsNull(child()?),
            ("not-null", _) => Self::NotNull(child()?),
            ("is-nan", _) => Self::IsNan(child()?),
            ("not-nan", _) => Self::NotNan(child()?),
            ("in" | "not-in", _) => {
                Self::In { field_id: child()?, values: literals_of(part("values")?)?, negated: kind == "not-in" }
            }
            ("starts-with" | "not-starts-with", _) => {
                let (field_id, value) = sides()?;
                let prefix = value.as_str().ok_or_else(|| bad(format!("{value} is no string, which {kind} needs")))?;
                Self::StartsWith { field_id, prefix: prefix.to_owned(), negated: kind == "not-starts-with" }
            }
            _ => return Err(bad(format!("there is no expression of the type {kind:?}"))),
        })
    }
}

/// Prints a conjunction or disjunction as a balanced tree of binary ones, which is not deep. `of_none` is that of no predicate.
fn balanced(kind: &str, inner: &[FilterExpr], of_none: bool) -> Value {
    match inner {
        [] => json!(of_none),
        [one] => one.to_json(),
        _ => {
            let (left, right) = inner.split_at(inner.len() / 2);
            json!({"type": kind, "left": balanced(kind, left, of_none), "right": balanced(kind, right, of_none)})
        }
    }
}

/// Reads a reference to a field.
fn field_of(json: &Value) -> Result<i32> {
    let id = json["id"].as_i64().filter(|_| json["type"] == "reference").and_then(|id| i32::try_from(id).ok());
    id.ok_or_else(|| bad(format!("{json} is no reference to a field; write {{\"type\": \"reference\", \"id\": ID}}")))
}

/// Reads a constant.
fn literal_of(json: &Value) -> Result<Value> {
    let value = match json {
        Value::Object(fields) if json["type"] == "literal" => fields.get("value"),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(json),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    match value {
        Some(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => Ok(value.clone()),
        _ => Err(bad(format!("{json} is no constant; compare a field with a string, a number or a boolean"))),
    }
}

/// Reads the constants of a set.
fn literals_of(json: &Value) -> Result<Vec<Value>> {
    let items = if json["type"] == "literals" { &json["values"] } else { json };
    let items = items.as_array().ok_or_else(|| bad(format!("{json} is no list of constants")))?;
    items.iter().map(literal_of).collect()
}

impl Serialize for FilterExpr {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FilterExpr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        Self::from_json(&json).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::filter::tests::filters;
    use super::*;

    proptest! {
        #[test]
        fn a_filter_is_read_as_it_was_printed(filter in filters()) {
            let text = serde_json::to_string(&filter).expect("JSON");
            let read: FilterExpr = serde_json::from_str(&text).expect("a filter");
            prop_assert_eq!(read.field_ids(), filter.field_ids());
            prop_assert_eq!(serde_json::to_string(&read).expect("JSON"), text);
        }
    }

    #[test]
    fn the_json_is_that_of_the_specification() {
        let reference = json!({"type": "reference", "id": 3});
        let (eu, us) = (json!({"type": "literal", "value": "EU"}), json!({"type": "literal", "value": "US"}));
        let values = vec![json!("EU"), json!("US")];
        let not_eu = FilterExpr::Compare { op: CompareOp::NotEq, field_id: 3, value: json!("EU") };
        for (filter, json) in [
            (FilterExpr::True, json!(true)),
            (FilterExpr::IsNan(3), json!({"type": "is-nan", "child": reference})),
            (not_eu, json!({"type": "not-eq", "left": reference, "right": eu})),
            (
                FilterExpr::In { field_id: 3, values, negated: true },
                json!({"type": "not-in", "child": reference, "values": [eu, us]}),
            ),
            (
                FilterExpr::StartsWith { field_id: 3, prefix: "E".into(), negated: false },
                json!({"type": "starts-with", "left": reference, "right": {"type": "literal", "value": "E"}}),
            ),
            (
                FilterExpr::Not(Box::new(FilterExpr::And(vec![FilterExpr::IsNull(1), FilterExpr::NotNull(3)]))),
                json!({"type": "not", "child": {"type": "and",
                       "left": {"type": "is-null", "child": {"type": "reference", "id": 1}},
                       "right": {"type": "not-null", "child": reference}}}),
            ),
        ] {
            assert_eq!(filter.to_json(), json);
            assert_eq!(FilterExpr::from_json(&json), Ok(filter));
        }
        let values = json!({"type": "literals", "values": ["EU"], "data-type": "string"});
        let short = json!({"type": "in", "child": reference, "values": values});
        let expected = FilterExpr::In { field_id: 3, values: vec![json!("EU")], negated: false };
        assert_eq!(FilterExpr::from_json(&short), Ok(expected));
    }

    #[test]
    fn mistakes_are_named() {
        for (json, words) in [
            (json!(3), "without a type"),
            (json!({"type": "fly"}), "fly"),
            (json!({"type": "and", "left": true}), "right"),
            (json!({"type": "eq", "left": {"type": "reference", "name": "a"}, "right": 1}), "no reference to a field"),
            (json!({"type": "eq", "left": {"type": "reference", "id": 1}, "right": null}), "no constant"),
            (json!({"type": "starts-with", "left": {"type": "reference", "id": 1}, "right": 1}), "no string"),
        ] {
            let error = FilterExpr::from_json(&json).expect_err(&json.to_string()).to_string();
            assert!(error.contains(words), "{json}: {error}");
        }
    }
}
