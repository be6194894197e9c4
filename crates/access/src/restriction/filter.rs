//! The predicates of row filters, by field ids. Start reading at [`FilterExpr`].

use std::collections::BTreeSet;

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
pub(super) fn bad(why: String) -> RightsError {
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

#[cfg(test)]
pub(super) mod tests {
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

    /// Filters on numbers, in the form that [`FilterExpr::all`] and [`FilterExpr::any`] give them.
    pub(in crate::restriction) fn filters() -> impl Strategy<Value = FilterExpr> {
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
            FilterExpr::And(inner) => {
                let values: Vec<_> = inner.iter().map(|one| evaluate(one, row)).collect();
                if values.contains(&Some(false)) { Some(false) } else { (!values.contains(&None)).then_some(true) }
            }
            FilterExpr::Or(inner) => {
                let values: Vec<_> = inner.iter().map(|one| evaluate(one, row)).collect();
                if values.contains(&Some(true)) { Some(true) } else { (!values.contains(&None)).then_some(false) }
            }
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
