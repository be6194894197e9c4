//! The predicates of row filters, by field ids, and their JSON.
//!
//! The JSON is that of Iceberg's expressions: `{"type": "eq", "left": {"type": "reference", "id": 3}, "right": ...}`. Start
//! reading at [`FilterExpr`].
//!
//! Spec: "Iceberg Expressions", appendix B.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use crate::{Result, RightsError};

/// The maximum depth of a filter's JSON. Readers of JSON stop at a depth of 128.
const MAX_DEPTH: usize = 100;

/// The maximum number of constants, references and predicates of a filter, together.
const MAX_NODES: usize = 2_000;

/// The operator of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// `=`
    Eq,
    /// `<>`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
}

impl CompareOp {
    /// Every operator.
    pub const ALL: [Self; 6] = [Self::Eq, Self::NotEq, Self::Lt, Self::LtEq, Self::Gt, Self::GtEq];

    /// Returns the name of the operator in the JSON of expressions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::NotEq => "not-eq",
            Self::Lt => "lt",
            Self::LtEq => "lt-eq",
            Self::Gt => "gt",
            Self::GtEq => "gt-eq",
        }
    }

    /// Returns the operator in SQL.
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::NotEq => "<>",
            Self::Lt => "<",
            Self::LtEq => "<=",
            Self::Gt => ">",
            Self::GtEq => ">=",
        }
    }

    /// Returns the operator that is true where this one is false. NULL is neither.
    #[must_use]
    pub const fn negated(self) -> Self {
        match self {
            Self::Eq => Self::NotEq,
            Self::NotEq => Self::Eq,
            Self::Lt => Self::GtEq,
            Self::LtEq => Self::Gt,
            Self::Gt => Self::LtEq,
            Self::GtEq => Self::Lt,
        }
    }
}

/// A predicate over the columns of a table, by their field ids.
///
/// It has the logic of SQL: a predicate on NULL is unknown, except [`FilterExpr::IsNull`] and [`FilterExpr::NotNull`], and a row
/// for which the whole is unknown is not seen. Iceberg's expressions know no unknown. Whoever hands a filter to an engine
/// calls [`FilterExpr::without_not`], and adds [`FilterExpr::NotNull`] to each predicate that is negated.
///
/// ```
/// use esker_access::{CompareOp, FilterExpr};
/// use serde_json::json;
///
/// let in_eu = FilterExpr::Compare { op: CompareOp::Eq, field_id: 3, value: json!("EU") };
/// let printed = json!({"type": "eq", "left": {"type": "reference", "id": 3}, "right": {"type": "literal", "value": "EU"}});
/// assert_eq!(in_eu.to_json(), printed);
/// assert_eq!(FilterExpr::from_json(&printed), Ok(in_eu));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterExpr {
    /// The filter that every row passes.
    True,
    /// The filter that no row passes.
    False,
    /// All of some predicates.
    And(Vec<Self>),
    /// At least one of some predicates.
    Or(Vec<Self>),
    /// The opposite of a predicate.
    Not(Box<Self>),
    /// The field with this id is NULL.
    IsNull(i32),
    /// The field with this id is not NULL.
    NotNull(i32),
    /// The field with this id is NaN.
    IsNan(i32),
    /// The field with this id is not NaN.
    NotNan(i32),
    /// A field compared with a constant.
    Compare {
        /// The operator, with the field on its left.
        op: CompareOp,
        /// Id of the field.
        field_id: i32,
        /// The constant, as Iceberg's JSON single-value serialization of the field's type.
        value: Value,
    },
    /// A field that is one of some constants.
    In {
        /// Id of the field.
        field_id: i32,
        /// The constants, each as Iceberg's JSON single-value serialization of the field's type.
        values: Vec<Value>,
        /// True if the field must be none of them.
        negated: bool,
    },
    /// A string that begins with a constant.
    StartsWith {
        /// Id of the field.
        field_id: i32,
        /// The constant.
        prefix: String,
        /// True if the field must not begin with it.
        negated: bool,
    },
}

impl FilterExpr {
    /// Returns the conjunction of predicates, without constants and conjunctions in it that are not needed.
    pub fn all(predicates: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Vec::new();
        for predicate in predicates {
            match predicate {
                Self::True => {}
                Self::False => return Self::False,
                Self::And(inner) => all.extend(inner),
                predicate => all.push(predicate),
            }
        }
        match all.len() {
            0 => Self::True,
            1 => all.remove(0),
            _ => Self::And(all),
        }
    }

    /// Returns the disjunction of predicates, without constants and disjunctions in it that are not needed.
    pub fn any(predicates: impl IntoIterator<Item = Self>) -> Self {
        let mut any = Vec::new();
        for predicate in predicates {
            match predicate {
                Self::False => {}
                Self::True => return Self::True,
                Self::Or(inner) => any.extend(inner),
                predicate => any.push(predicate),
            }
        }
        match any.len() {
            0 => Self::False,
            1 => any.remove(0),
            _ => Self::Or(any),
        }
    }

    /// Returns the disjunction of two predicates.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::any([self, other])
    }

    /// Returns the ids of the fields that the predicate reads.
    pub fn field_ids(&self) -> BTreeSet<i32> {
        let mut ids = BTreeSet::new();
        self.collect_field_ids(&mut ids);
        ids
    }

    fn collect_field_ids(&self, ids: &mut BTreeSet<i32>) {
        match self {
            Self::True | Self::False => {}
            Self::And(inner) | Self::Or(inner) => inner.iter().for_each(|predicate| predicate.collect_field_ids(ids)),
            Self::Not(inner) => inner.collect_field_ids(ids),
            Self::IsNull(id) | Self::NotNull(id) | Self::IsNan(id) | Self::NotNan(id) => _ = ids.insert(*id),
            Self::Compare { field_id, .. } | Self::In { field_id, .. } | Self::StartsWith { field_id, .. } => {
                _ = ids.insert(*field_id);
            }
        }
    }

    /// Returns an equal predicate without [`FilterExpr::Not`]: negations are pushed down to the predicates on fields.
    #[must_use]
    pub fn without_not(self) -> Self {
        self.pushed_down(false)
    }

    fn pushed_down(self, negate: bool) -> Self {
        match (self, negate) {
            (Self::True, true) | (Self::False, false) => Self::False,
            (Self::True, false) | (Self::False, true) => Self::True,
            (Self::And(inner), false) | (Self::Or(inner), true) => {
                Self::all(inner.into_iter().map(|one| one.pushed_down(negate)))
            }
            (Self::Or(inner), false) | (Self::And(inner), true) => {
                Self::any(inner.into_iter().map(|one| one.pushed_down(negate)))
            }
            (Self::Not(inner), _) => inner.pushed_down(!negate),
            (Self::IsNull(id), true) => Self::NotNull(id),
            (Self::NotNull(id), true) => Self::IsNull(id),
            (Self::IsNan(id), true) => Self::NotNan(id),
            (Self::NotNan(id), true) => Self::IsNan(id),
            (Self::Compare { op, field_id, value }, true) => Self::Compare { op: op.negated(), field_id, value },
            (Self::In { field_id, values, negated }, true) => Self::In { field_id, values, negated: !negated },
            (Self::StartsWith { field_id, prefix, negated }, true) => Self::StartsWith { field_id, prefix, negated: !negated },
            (predicate, false) => predicate,
        }
    }

    /// Checks that the filter is not too large to be stored and read again.
    ///
    /// # Errors
    ///
    /// Returns [`RightsError::BadFilter`] if it is.
    pub(crate) fn check_size(&self) -> Result<()> {
        if self.node_count() > MAX_NODES || depth_of(&self.to_json()) > MAX_DEPTH {
            return Err(bad(format!("it is too large; a filter has at most {MAX_NODES} predicates and constants")));
        }
        Ok(())
    }

    /// Returns the number of constants and predicates.
    fn node_count(&self) -> usize {
        match self {
            Self::And(inner) | Self::Or(inner) => 1 + inner.iter().map(Self::node_count).sum::<usize>(),
            Self::Not(inner) => 1 + inner.node_count(),
            Self::In { values, .. } => 1 + values.len(),
            _ => 1,
        }
    }

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

    /// Prints the filter in SQL's form, with the names that `name` gives to field ids.
    pub fn to_sql(&self, name: &dyn Fn(i32) -> String) -> String {
        let joined = |inner: &[Self], word: &str| {
            let parts: Vec<String> = inner.iter().map(|one| format!("({})", one.to_sql(name))).collect();
            parts.join(word)
        };
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match self {
            Self::True => "TRUE".to_owned(),
            Self::False => "FALSE".to_owned(),
            Self::And(inner) => joined(inner, " AND "),
            Self::Or(inner) => joined(inner, " OR "),
            Self::Not(inner) => format!("NOT ({})", inner.to_sql(name)),
            Self::IsNull(id) => format!("{} IS NULL", name(*id)),
            Self::NotNull(id) => format!("{} IS NOT NULL", name(*id)),
            Self::IsNan(id) => format!("isnan({})", name(*id)),
            Self::NotNan(id) => format!("NOT isnan({})", name(*id)),
            Self::Compare { op, field_id, value } => format!("{} {} {}", name(*field_id), op.symbol(), sql_literal(value)),
            Self::In { field_id, values, negated } => {
                let values: Vec<String> = values.iter().map(sql_literal).collect();
                format!("{} {}IN ({})", name(*field_id), not(negated), values.join(", "))
            }
            Self::StartsWith { field_id, prefix, negated } => {
                format!("{} {}LIKE {}", name(*field_id), not(negated), sql_literal(&json!(like_of(prefix))))
            }
        }
    }
}

/// Returns the error of a filter that can't be read.
fn bad(why: String) -> RightsError {
    RightsError::BadFilter { why }
}

/// Returns the depth of a JSON value: 1 for a value without others in it.
fn depth_of(json: &Value) -> usize {
    let deepest = match json {
        Value::Array(items) => items.iter().map(depth_of).max(),
        Value::Object(fields) => fields.values().map(depth_of).max(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    };
    1 + deepest.unwrap_or(0)
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

/// Prints a constant in SQL's form.
fn sql_literal(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        other => other.to_string(),
    }
}

/// Returns the pattern of `LIKE` that strings with a prefix match.
fn like_of(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for c in prefix.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
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
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn compare(op: CompareOp, field_id: i32, value: Value) -> FilterExpr {
        FilterExpr::Compare { op, field_id, value }
    }

    /// A predicate on one field. The fields 1 to 3 are numbers.
    fn leaf() -> impl Strategy<Value = FilterExpr> {
        let id = 1..4_i32;
        prop_oneof![
            id.clone().prop_map(FilterExpr::IsNull),
            id.clone().prop_map(FilterExpr::NotNull),
            (select(&CompareOp::ALL), id.clone(), 0..4_i64).prop_map(|(op, id, value)| compare(op, id, json!(value))),
            (id, vec(0..4_i64, 1..3), any::<bool>()).prop_map(|(field_id, values, negated)| {
                FilterExpr::In { field_id, values: values.into_iter().map(|value| json!(value)).collect(), negated }
            }),
        ]
    }

    fn filters() -> impl Strategy<Value = FilterExpr> {
        leaf().prop_recursive(4, 40, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(FilterExpr::all),
                vec(inner.clone(), 0..4).prop_map(FilterExpr::any),
                inner.prop_map(|one| FilterExpr::Not(Box::new(one))),
            ]
        })
    }

    /// Evaluates a filter on a row by the logic of SQL: `None` is unknown.
    fn evaluate(filter: &FilterExpr, row: &[Option<i64>; 3]) -> Option<bool> {
        let value = |id: &i32| row[usize::try_from(*id - 1).expect("a field")];
        match filter {
            FilterExpr::True => Some(true),
            FilterExpr::False => Some(false),
            FilterExpr::And(inner) => inner.iter().map(|one| evaluate(one, row)).fold(Some(true), |a, b| match (a, b) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            }),
            FilterExpr::Or(inner) => inner.iter().map(|one| evaluate(one, row)).fold(Some(false), |a, b| match (a, b) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            }),
            FilterExpr::Not(inner) => evaluate(inner, row).map(|value| !value),
            FilterExpr::IsNull(id) => Some(value(id).is_none()),
            FilterExpr::NotNull(id) => Some(value(id).is_some()),
            FilterExpr::Compare { op, field_id, value: constant } => {
                let (left, right) = (value(field_id)?, constant.as_i64().expect("a number"));
                Some(match op {
                    CompareOp::Eq => left == right,
                    CompareOp::NotEq => left != right,
                    CompareOp::Lt => left < right,
                    CompareOp::LtEq => left <= right,
                    CompareOp::Gt => left > right,
                    CompareOp::GtEq => left >= right,
                })
            }
            FilterExpr::In { field_id, values, negated } => {
                let left = json!(value(field_id)?);
                Some(values.contains(&left) != *negated)
            }
            FilterExpr::IsNan(_) | FilterExpr::NotNan(_) | FilterExpr::StartsWith { .. } => unreachable!("not made here"),
        }
    }

    proptest! {
        #[test]
        fn a_filter_without_negations_passes_the_same_rows(
            filter in filters(), row in [any::<Option<u8>>(), any::<Option<u8>>(), any::<Option<u8>>()],
        ) {
            let row = row.map(|value| value.map(|value| i64::from(value % 4)));
            let without = filter.clone().without_not();
            prop_assert_eq!(evaluate(&without, &row), evaluate(&filter, &row), "{:?}", without);
            prop_assert!(!without.to_json().to_string().contains("\"not\""));
        }

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
        for (filter, json) in [
            (FilterExpr::True, json!(true)),
            (FilterExpr::IsNan(3), json!({"type": "is-nan", "child": reference})),
            (compare(CompareOp::NotEq, 3, json!("EU")), json!({"type": "not-eq", "left": reference, "right": eu})),
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

    #[test]
    fn a_filter_in_sql_has_the_names_of_the_fields() {
        let name = |id: i32| format!("f{id}");
        let filter = FilterExpr::all([
            FilterExpr::any([compare(CompareOp::Eq, 1, json!("it's")), compare(CompareOp::GtEq, 2, json!(10))]),
            FilterExpr::In { field_id: 3, values: vec![json!(1), json!(2)], negated: true },
            FilterExpr::StartsWith { field_id: 1, prefix: "a_b".into(), negated: false },
        ]);
        let expected = r"((f1 = 'it''s') OR (f2 >= 10)) AND (f3 NOT IN (1, 2)) AND (f1 LIKE 'a\_b%')";
        assert_eq!(filter.to_sql(&name), expected);
    }

    #[test]
    fn a_filter_that_could_not_be_read_again_is_refused() {
        let wide = FilterExpr::any((0..1_900).map(FilterExpr::IsNull));
        wide.check_size().expect("wide, and not deep");
        assert!(FilterExpr::any((0..2_001).map(FilterExpr::IsNull)).check_size().is_err());
        let deep = (0..120).fold(FilterExpr::IsNull(1), |inner, _| FilterExpr::Not(Box::new(inner)));
        assert!(matches!(deep.check_size(), Err(RightsError::BadFilter { .. })));
    }
}
