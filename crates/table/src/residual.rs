//! What a row filter comes to for one file: nothing to read, everything, or a residual.

use std::cmp::Ordering;

use esker_format::{DataFile, PartitionSpec, Schema, Transform, Type, Value};

use crate::expr::string;
use crate::{ColumnBounds, Expr, Op, Predicate, source_range};

/// The filter that is left to apply to a file's rows once its partition is known; [`Expr::False`] if no row can match.
pub fn residual(filter: &Expr, schema: &Schema, spec: &PartitionSpec, file: &DataFile) -> Expr {
    let left = filter.map(&|p| by_partition(p, schema, spec, &file.partition));
    let might_match = left.map(&|p| match by_metrics(p, schema, file) {
        true => Expr::Predicate(p.clone()),
        false => Expr::False,
    });
    if might_match == Expr::False { Expr::False } else { left }
}

/// A predicate as the partition's values decide it, where they do.
fn by_partition(predicate: &Predicate, schema: &Schema, spec: &PartitionSpec, partition: &[Option<Value>]) -> Expr {
    let undecided = || Expr::Predicate(predicate.clone());
    if predicate.transform.is_some() {
        return undecided();
    }
    let Some(source) = schema.field_by_id(predicate.field) else { return undecided() };
    let fields = spec.fields().iter().zip(partition.iter()).filter(|(f, _)| f.source_id() == Some(predicate.field));
    let mut verdicts = fields.map(|(field, value)| match value {
        None => without_value(predicate.op, field.transform()),
        Some(value) => with_value(predicate, field.transform(), &source.field_type, value),
    });
    match verdicts.find_map(|verdict| verdict) {
        Some(true) => Expr::True,
        Some(false) => Expr::False,
        None => undecided(),
    }
}

/// The transforms that give no value exactly where the column has none.
const fn keeps_null(transform: &Transform) -> bool {
    !matches!(transform, Transform::Void | Transform::Unknown(_))
}

fn without_value(op: Op, transform: &Transform) -> Option<bool> {
    match op {
        _ if !keeps_null(transform) => None,
        Op::IsNull => Some(true),
        // What `!=` means for a row without a value differs between engines: left to them.
        Op::NotEq | Op::NotIn | Op::NotStartsWith | Op::NotNan => None,
        _ => Some(false),
    }
}

fn with_value(predicate: &Predicate, transform: &Transform, source: &Type, value: &Value) -> Option<bool> {
    match predicate.op {
        Op::IsNull if keeps_null(transform) => return Some(false),
        Op::NotNull if keeps_null(transform) => return Some(true),
        _ => {}
    }
    if matches!(transform, Transform::Bucket(_)) {
        return outside_bucket(predicate, transform, value).then_some(false);
    }
    let (low, high) = source_range(transform, source, value)?;
    decide(predicate, &low, high.as_ref())
}

/// Whether none of the values wanted can be in the bucket.
fn outside_bucket(predicate: &Predicate, transform: &Transform, bucket: &Value) -> bool {
    let outside = |value: &Value| matches!(transform.apply(Some(value)), Ok(Some(own)) if own != *bucket);
    matches!(predicate.op, Op::Eq | Op::In) && predicate.values.iter().all(outside)
}

/// A predicate on a column all of whose values in the file lie between `low` and `high`.
fn decide(predicate: &Predicate, low: &Value, high: Option<&Value>) -> Option<bool> {
    let single = high == Some(low);
    let value = predicate.values.first();
    // How the whole range lies to a value: before, after, exactly there; `None` if it may lie around it.
    let side = |value: &Value| match (low.cmp(value), high.map(|h| h.cmp(value))) {
        (Ordering::Greater, _) => Some(Ordering::Greater),
        (_, Some(Ordering::Less)) => Some(Ordering::Less),
        (Ordering::Equal, Some(Ordering::Equal)) => Some(Ordering::Equal),
        _ => None,
    };
    match predicate.op {
        Op::Lt => match side(value?) {
            Some(order) => Some(order == Ordering::Less),
            None => (low == value?).then_some(false),
        },
        Op::GtEq => match side(value?) {
            Some(order) => Some(order != Ordering::Less),
            None => (low == value?).then_some(true),
        },
        Op::LtEq => match side(value?) {
            Some(order) => Some(order != Ordering::Greater),
            None => (high == value).then_some(true),
        },
        Op::Gt => match side(value?) {
            Some(order) => Some(order == Ordering::Greater),
            None => (high == value).then_some(false),
        },
        Op::Eq => side(value?).map(|order| order == Ordering::Equal),
        Op::NotEq => side(value?).map(|order| order != Ordering::Equal),
        Op::In | Op::NotIn => {
            let sides: Vec<_> = predicate.values.iter().map(side).collect();
            let found = match sides.contains(&Some(Ordering::Equal)) {
                true => Some(true),
                false => sides.iter().all(Option::is_some).then_some(false),
            };
            found.map(|found| found == (predicate.op == Op::In))
        }
        Op::StartsWith if single => Some(string(low)?.starts_with(string(value?)?)),
        Op::NotStartsWith if single => Some(!string(low)?.starts_with(string(value?)?)),
        _ => None,
    }
}

/// Whether the column's counts and bounds leave room for a matching row.
fn by_metrics(predicate: &Predicate, schema: &Schema, file: &DataFile) -> bool {
    if predicate.transform.is_some() {
        return true;
    }
    let id = predicate.field;
    let Some(Type::Primitive(ty)) = schema.field_by_id(id).map(|f| f.field_type.as_ref()) else { return true };
    let bounds = ColumnBounds::of(file, id, ty);
    match predicate.op {
        Op::IsNull => return !bounds.no_nulls(),
        Op::NotNull => return !bounds.only_nulls(),
        Op::IsNan => return !bounds.no_nans(),
        Op::NotEq | Op::NotIn | Op::NotStartsWith | Op::NotNan => return true,
        _ if bounds.only_nulls() => return false,
        _ => {}
    }
    let ColumnBounds { lower: low, upper: high, .. } = bounds;
    let below = |value: &Value| high.as_ref().is_some_and(|h| h < value);
    let above = |value: &Value| low.as_ref().is_some_and(|l| l > value);
    let Some(first) = predicate.values.first() else { return true };
    match predicate.op {
        Op::Lt => low.as_ref().is_none_or(|l| l < first),
        Op::LtEq => !above(first),
        Op::Gt => high.as_ref().is_none_or(|h| h > first),
        Op::GtEq => !below(first),
        Op::Eq | Op::In => predicate.values.iter().any(|v| !below(v) && !above(v)),
        Op::StartsWith => {
            let Some(prefix) = string(first) else { return true };
            let cut = |d: &Value| string(d).map(|s| s.chars().take(prefix.chars().count()).collect::<String>());
            let above = low.as_ref().and_then(cut).is_some_and(|l| l.as_str() > prefix);
            let below = high.as_ref().and_then(cut).is_some_and(|h| h.as_str() < prefix);
            !above && !below
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use esker_format::{Bound, BoundMap, DataContentType, DataFileFormat, NestedField, PrimitiveType, UnboundPartitionField};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        let field = |id, name: &str| NestedField::optional(id, name, PrimitiveType::Long).into();
        Schema::new(0, vec![field(1, "a"), field(2, "b")]).expect("a schema")
    }

    fn spec(transform: Transform) -> PartitionSpec {
        PartitionSpec::new(0, vec![UnboundPartitionField::new(1, "p", transform)])
    }

    type Row = (Option<i64>, Option<i64>);
    /// Nulls, smallest, largest.
    type Column = (u64, Option<i64>, Option<i64>);

    /// A file with these rows of `(a, b)`, in the partition of its first row, with true counts and bounds.
    fn file(rows: &[Row], transform: &Transform) -> DataFile {
        let partition = transform.apply(rows[0].0.map(Value::Long).as_ref()).expect("transformed");
        let column = |of: fn(&Row) -> Option<i64>| {
            let values: Vec<i64> = rows.iter().filter_map(of).collect();
            ((rows.len() - values.len()) as u64, values.iter().min().copied(), values.iter().max().copied())
        };
        let columns = [(1, column(|r| r.0)), (2, column(|r| r.1))];
        let bounds = |of: fn(&Column) -> Option<i64>| -> BoundMap {
            columns.iter().filter_map(|(id, c)| Some((*id, Bound::of(&Value::Long(of(c)?))?))).collect()
        };
        DataFile {
            partition: [partition].into(),
            value_counts: Some(columns.iter().map(|(id, _)| (*id, rows.len() as i64)).collect()),
            null_value_counts: Some(columns.iter().map(|(id, c)| (*id, c.0 as i64)).collect()),
            lower_bounds: Some(bounds(|c| c.1)),
            upper_bounds: Some(bounds(|c| c.2)),
            ..DataFile::new(DataContentType::Data, "f", DataFileFormat::Parquet, rows.len() as i64, 1)
        }
    }

    /// The meaning of a filter for one row, with SQL's idea of a missing value, but `!=` and its like matching it.
    fn matches(expr: &Expr, row: Row) -> bool {
        match expr {
            Expr::True => true,
            Expr::False => false,
            Expr::And(a, b) => matches(a, row) && matches(b, row),
            Expr::Or(a, b) => matches(a, row) || matches(b, row),
            Expr::Predicate(p) => {
                let value = if p.field == 1 { row.0 } else { row.1 };
                let number = |v: &Value| if let Value::Long(v) = v { *v } else { unreachable!("a number") };
                let wanted: Vec<i64> = p.values.iter().map(number).collect();
                match (p.op, value) {
                    (Op::IsNull, v) => v.is_none(),
                    (Op::NotNull, v) => v.is_some(),
                    (Op::NotEq | Op::NotIn, None) => true,
                    (_, None) => false,
                    (Op::Lt, Some(v)) => v < wanted[0],
                    (Op::LtEq, Some(v)) => v <= wanted[0],
                    (Op::Gt, Some(v)) => v > wanted[0],
                    (Op::GtEq, Some(v)) => v >= wanted[0],
                    (Op::Eq | Op::In, Some(v)) => wanted.contains(&v),
                    (Op::NotEq | Op::NotIn, Some(v)) => !wanted.contains(&v),
                    _ => unreachable!("not generated"),
                }
            }
        }
    }

    fn predicate() -> impl Strategy<Value = serde_json::Value> {
        let column = prop_oneof![Just("a"), Just("b")];
        let op = prop_oneof![
            Just("is-null"),
            Just("not-null"),
            Just("lt"),
            Just("lt-eq"),
            Just("gt"),
            Just("gt-eq"),
            Just("eq"),
            Just("not-eq"),
            Just("in"),
            Just("not-in")
        ];
        (column, op, prop::collection::vec(-3_i64..12, 1..4)).prop_map(|(column, op, values)| match op {
            "in" | "not-in" => json!({"type": op, "term": column, "values": values}),
            "is-null" | "not-null" => json!({"type": op, "term": column}),
            _ => json!({"type": op, "term": column, "value": values[0]}),
        })
    }

    fn filter() -> impl Strategy<Value = serde_json::Value> {
        predicate().prop_recursive(3, 8, 2, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"type": "and", "left": a, "right": b})),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"type": "or", "left": a, "right": b})),
                inner.prop_map(|a| json!({"type": "not", "child": a})),
            ]
        })
    }

    proptest! {
        /// For every row of the file, the residual says what the filter says: nothing that matches is left out, nothing else gets in.
        #[test]
        fn the_residual_means_the_same_for_every_row_of_the_file(
            first in proptest::option::weighted(0.9, 0_i64..10),
            bs in prop::collection::vec(proptest::option::weighted(0.8, 0_i64..10), 1..6),
            same_as in prop::collection::vec(0_i64..10, 6),
            which in 0_usize..4,
            filter in filter(),
        ) {
            let transform = [Transform::Identity, Transform::Truncate(4), Transform::Bucket(3), Transform::Void][which].clone();
            let of = |a: Option<i64>| transform.apply(a.map(Value::Long).as_ref()).expect("transformed");
            // Rows of one partition: other values of `a` only where they fall into it.
            let a = |i: usize| if of(Some(same_as[i])) == of(first) && first.is_some() { Some(same_as[i]) } else { first };
            let rows: Vec<_> = bs.iter().enumerate().map(|(i, b)| (if i == 0 { first } else { a(i) }, *b)).collect();
            let parsed = Expr::parse(&filter, &schema(), true).expect("valid");
            let left = residual(&parsed, &schema(), &spec(transform.clone()), &file(&rows, &transform));
            for row in rows {
                prop_assert_eq!(matches(&parsed, row), matches(&left, row), "{:?} in {} left {}", row, filter, left.to_json());
            }
        }
    }

    proptest! {
        /// What all values that there is room for agree on is decided: no such file is read in vain, or filtered in vain.
        #[test]
        fn what_is_certain_of_every_value_is_decided(
            rows in prop::collection::vec(
                (proptest::option::weighted(0.8, 0_i64..10), proptest::option::weighted(0.6, 0_i64..10)), 1..4,
            ),
            truncated: bool,
            predicate in predicate(),
        ) {
            let transform = if truncated { Transform::Truncate(4) } else { Transform::Identity };
            let start = |a: Option<i64>| a.map(|a| if truncated { a - a % 4 } else { a });
            let rows: Vec<Row> = rows.iter().filter(|row| start(row.0) == start(rows[0].0)).copied().collect();
            let parsed = Expr::parse(&predicate, &schema(), true).expect("valid");
            let left = residual(&parsed, &schema(), &spec(transform.clone()), &file(&rows, &transform));

            let (on_a, op) = (predicate["term"] == "a", predicate["type"].as_str().expect("a type"));
            // Engines differ in what `!=` means for a row without a value: it is theirs to decide.
            prop_assume!(!op.starts_with("not-") || op == "not-null");
            let column: Vec<Option<i64>> = rows.iter().map(|row| if on_a { row.0 } else { row.1 }).collect();
            let known: Vec<i64> = column.iter().flatten().copied().collect();
            let within = known.iter().min().zip(known.iter().max()).map_or(0..0, |(low, high)| *low..*high + 1);
            let fits = |value: Option<i64>| matches(&parsed, if on_a { (value, None) } else { (None, value) });
            if !within.map(Some).chain(column.contains(&None).then_some(None)).any(fits) {
                prop_assert_eq!(&left, &Expr::False, "{} of {:?}", predicate, column);
            }
            let mut of_partition = match start(rows[0].0) {
                Some(value) => (value..value + if truncated { 4 } else { 1 }).map(Some).collect(),
                None => vec![None],
            };
            // Whether some values are all values of a range is not asked.
            if on_a && (op != "in" || !truncated) && of_partition.drain(..).all(fits) {
                prop_assert_eq!(&left, &Expr::True, "{} of the partition of {:?}", predicate, column);
            }
        }
    }

    #[test]
    fn a_prefix_of_what_is_no_text_decides_nothing() {
        let filter = json!({"type": "starts-with", "term": "b", "value": 1});
        let parsed = Expr::parse(&filter, &schema(), true).expect("valid");
        let file = file(&[(Some(3), Some(1))], &Transform::Identity);
        assert_eq!(residual(&parsed, &schema(), &spec(Transform::Identity), &file).to_json(), filter);
    }

    #[test]
    fn an_identity_partition_leaves_nothing_to_do() {
        let file = file(&[(Some(3), Some(1)), (Some(3), None)], &Transform::Identity);
        let check = |filter: serde_json::Value| {
            let parsed = Expr::parse(&filter, &schema(), true).expect("valid");
            residual(&parsed, &schema(), &spec(Transform::Identity), &file).to_json()
        };
        let b = json!({"type": "eq", "term": "b", "value": 1});
        assert_eq!(check(json!({"type": "eq", "term": "a", "value": 3})), json!(true));
        assert_eq!(check(json!({"type": "lt", "term": "a", "value": 3})), json!(false));
        assert_eq!(check(json!({"type": "and", "left": {"type": "gt-eq", "term": "a", "value": 3}, "right": b})), b);
        assert_eq!(check(json!({"type": "eq", "term": "b", "value": 7})), json!(false), "bounds rule it out");
    }
}
