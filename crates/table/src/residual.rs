//! Residual filters: the part of a row filter that is left to apply to the rows of a file.
//!
//! The partition's values decide some predicates for all rows of a partition; counts and bounds then rule out single files. The
//! residual is [`Expr::True`] if every row matches and [`Expr::False`] if none does. [`residual`] serves one file, [`Residuals`]
//! many, with one evaluation for each partition. Start reading at [`decide_by_partition`]. Spec: "Scan Planning".

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use esker_format::{BatchColumn, PartitionSpec, Schema, TableMetadata, Transform, Type, Value};

use crate::expr::string;
use crate::files::Run;
use crate::metrics::FilterMetrics;
use crate::{Expr, FileRef, Op, PlannableFile, Predicate, Result, TableError, source_range};

/// Returns the residual of a filter for one file; [`Expr::False`] if no row can match.
///
/// `spec` must be the partition spec of the file.
pub fn residual(filter: &Expr, schema: &Schema, spec: &PartitionSpec, file: &impl PlannableFile) -> Expr {
    let left = in_partition(filter, schema, spec, file.partition());
    let mut metrics = FilterMetrics::of(filter, schema);
    let ids: Vec<i32> = metrics.ids().collect();
    let might_match = metrics.might_match(&left, 1, &|at, _| file.stats(ids[at]).unwrap_or_default());
    if might_match[0] { left } else { Expr::False }
}

/// Returns the residual of a filter for all files of a partition.
fn in_partition(filter: &Expr, schema: &Schema, spec: &PartitionSpec, partition: &[Option<Value>]) -> Expr {
    filter.map(&|p| decide_by_partition(p, schema, spec, partition))
}

/// The position of a partition in its manifest, as [`Run::partition_index`] returns it.
type PartitionIndex = (u32, Option<usize>);

/// The maximum number of residuals with which a new one is compared.
const MAX_SHARED: usize = 16;

/// Residuals that are equal share their memory: most partitions leave the same, and a filter may be long.
#[derive(Default)]
struct SharedResiduals(Vec<Arc<Expr>>);

impl SharedResiduals {
    /// Returns a residual, in the memory of an equal one that was shared before.
    fn share(&mut self, left: Expr) -> Arc<Expr> {
        if let Some(known) = self.0.iter().find(|known| ***known == left) {
            return known.clone();
        }
        let left = Arc::new(left);
        if self.0.len() < MAX_SHARED {
            self.0.push(left.clone());
        }
        left
    }
}

/// The residuals of many files, computed once for each partition.
pub(crate) struct Residuals<'a> {
    metadata: &'a TableMetadata,
    schema: &'a Schema,
    filter: &'a Expr,
    metrics: FilterMetrics<'a>,
    /// The number of the manifest that the last run was in, and its columns.
    of_part: (u32, Vec<BatchColumn<'a>>),
    /// The residuals computed so far.
    left: HashMap<PartitionIndex, Arc<Expr>>,
    shared: SharedResiduals,
}

impl<'a> Residuals<'a> {
    pub(crate) fn new(metadata: &'a TableMetadata, schema: &'a Schema, filter: &'a Expr) -> Self {
        let metrics = FilterMetrics::of(filter, schema);
        Self {
            metadata,
            schema,
            filter,
            metrics,
            of_part: (u32::MAX, Vec::new()),
            left: HashMap::new(),
            shared: SharedResiduals::default(),
        }
    }

    /// Returns the residual of a run of files, and the files of the run in which a row may match.
    pub(crate) fn of(&mut self, run: &Run<'a>) -> Result<(Arc<Expr>, Vec<FileRef<'a>>)> {
        let place = run.partition_index();
        let left = match self.left.get(&place) {
            Some(left) => left.clone(),
            None => {
                let left = self.in_partition(run)?;
                self.shared.share(left)
            }
        };
        self.left.insert(place, left.clone());
        if self.of_part.0 != place.0 {
            self.of_part = (place.0, self.metrics.ids().map(|id| run.column(id)).collect());
        }
        let (columns, first) = (&self.of_part.1, run.first());
        let might_match =
            self.metrics.might_match(&left, run.entry_count(), &|at, file| columns[at].stats_or_empty(first + file));
        let files = run.files().filter(|file| might_match[file.row() - first]).collect();
        Ok((left, files))
    }

    fn in_partition(&self, run: &Run<'_>) -> Result<Expr> {
        let id = run.spec_id();
        let spec = self.metadata.partition_spec_by_id(id);
        let spec = spec.ok_or_else(|| TableError::Invalid(format!("partition spec {id} does not exist")))?;
        Ok(in_partition(self.filter, self.schema, spec, run.partition()))
    }
}

/// Decides a predicate by the partition's values: [`Expr::True`], [`Expr::False`], or the predicate itself if they do not decide
/// it.
fn decide_by_partition(predicate: &Predicate, schema: &Schema, spec: &PartitionSpec, partition: &[Option<Value>]) -> Expr {
    let undecided = || Expr::Predicate(predicate.clone());
    if predicate.transform.is_some() {
        return undecided();
    }
    let Some(source) = schema.field_by_id(predicate.field) else { return undecided() };
    let fields = spec.fields().iter().zip(partition.iter()).filter(|(f, _)| f.source_id() == Some(predicate.field));
    let mut verdicts = fields.map(|(field, value)| match value {
        None => decide_by_null(predicate.op, field.transform()),
        Some(value) => decide_by_value(predicate, field.transform(), &source.field_type, value),
    });
    match verdicts.find_map(|verdict| verdict) {
        Some(true) => Expr::True,
        Some(false) => Expr::False,
        None => undecided(),
    }
}

/// Returns true for a transform whose result is null exactly if the column's value is null.
const fn keeps_null(transform: &Transform) -> bool {
    !matches!(transform, Transform::Void | Transform::Unknown(_))
}

/// Decides a predicate for a partition whose value is null.
fn decide_by_null(op: Op, transform: &Transform) -> Option<bool> {
    match op {
        _ if !keeps_null(transform) => None,
        Op::IsNull => Some(true),
        // Engines differ in the meaning of `!=` for a row without a value, so the engine decides.
        Op::NotEq | Op::NotIn | Op::NotStartsWith | Op::NotNan => None,
        _ => Some(false),
    }
}

/// Decides a predicate for a partition whose value is not null.
fn decide_by_value(predicate: &Predicate, transform: &Transform, source: &Type, value: &Value) -> Option<bool> {
    match predicate.op {
        Op::IsNull if keeps_null(transform) => return Some(false),
        Op::NotNull if keeps_null(transform) => return Some(true),
        _ => {}
    }
    if matches!(transform, Transform::Bucket(_)) {
        return outside_bucket(predicate, transform, value).then_some(false);
    }
    let (low, high) = source_range(transform, source, value)?;
    decide_by_range(predicate, &low, high.as_ref())
}

/// Returns true if none of the predicate's literals is in the bucket.
fn outside_bucket(predicate: &Predicate, transform: &Transform, bucket: &Value) -> bool {
    let outside = |value: &Value| matches!(transform.apply(Some(value)), Ok(Some(own)) if own != *bucket);
    matches!(predicate.op, Op::Eq | Op::In) && predicate.values.iter().all(outside)
}

/// Decides a predicate on a column whose values in the partition all lie between `low` and `high`, both inclusive.
///
/// `high` is `None` if there is no upper end. The result is `None` if the range does not decide the predicate.
fn decide_by_range(predicate: &Predicate, low: &Value, high: Option<&Value>) -> Option<bool> {
    let single = high == Some(low);
    let value = predicate.values.first();
    // Compares the whole range with a value: `Less`, `Greater`, or `Equal` for a range of one value. `None` if the value may be
    // inside.
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

#[cfg(test)]
mod tests {
    use esker_format::{
        BoundBytes, BoundMap, DataContentType, DataFile, DataFileFormat, NestedField, PrimitiveType, UnboundPartitionField,
    };
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::LiveFile;

    fn schema() -> Schema {
        let field = |id, name: &str| NestedField::optional(id, name, PrimitiveType::Long).into();
        Schema::new(0, vec![field(1, "a"), field(2, "b")]).expect("a schema")
    }

    fn spec(transform: Transform) -> PartitionSpec {
        PartitionSpec::new(0, vec![UnboundPartitionField::new(1, "p", transform)])
    }

    #[test]
    fn equal_residuals_share_their_memory_and_different_ones_are_not_mixed_up() {
        let of =
            |value: i64| Expr::parse(&json!({"type": "eq", "term": "a", "value": value}), &schema(), true).expect("a filter");
        let mut shared = SharedResiduals::default();
        let (one, again, other) = (shared.share(of(1)), shared.share(of(1)), shared.share(of(2)));
        assert!(Arc::ptr_eq(&one, &again) && !Arc::ptr_eq(&one, &other));
        let many: Vec<Arc<Expr>> = (0..100).map(|value| shared.share(of(value))).collect();
        assert_eq!(shared.0.len(), MAX_SHARED);
        assert!((0..100).zip(&many).all(|(value, left)| **left == of(value)));
    }

    type Row = (Option<i64>, Option<i64>);
    /// The statistics of a column: number of nulls, smallest and largest value.
    type Column = (u64, Option<i64>, Option<i64>);

    /// Creates a file with these rows of `(a, b)`, in the partition of its first row, with true counts and bounds.
    fn file(rows: &[Row], transform: &Transform) -> LiveFile {
        let partition = transform.apply(rows[0].0.map(Value::Long).as_ref()).expect("transformed");
        let column = |of: fn(&Row) -> Option<i64>| {
            let values: Vec<i64> = rows.iter().filter_map(of).collect();
            ((rows.len() - values.len()) as u64, values.iter().min().copied(), values.iter().max().copied())
        };
        let columns = [(1, column(|r| r.0)), (2, column(|r| r.1))];
        let bounds = |of: fn(&Column) -> Option<i64>| -> BoundMap {
            columns.iter().filter_map(|(id, c)| Some((*id, BoundBytes::of(&Value::Long(of(c)?))?))).collect()
        };
        let file = DataFile {
            partition: [partition].into(),
            value_counts: Some(columns.iter().map(|(id, _)| (*id, rows.len() as i64)).collect()),
            null_value_counts: Some(columns.iter().map(|(id, c)| (*id, c.0 as i64)).collect()),
            lower_bounds: Some(bounds(|c| c.1)),
            upper_bounds: Some(bounds(|c| c.2)),
            ..DataFile::new(DataContentType::Data, "f", DataFileFormat::Parquet, rows.len() as i64, 1)
        };
        LiveFile { file, spec_id: 0, sequence_number: 1, file_sequence_number: None, snapshot_id: 1, first_row_id: None }
    }

    /// Evaluates a filter for one row. A missing value matches nothing, as in SQL, except `!=` and `NOT IN`.
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
        /// Checks for every row of the file that the residual has the same result as the filter.
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
            // All rows are of one partition: `a` has another value only if that is in the same partition.
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
        /// Checks that the residual is constant if all values that the statistics allow agree. No such file is read or filtered in
        /// vain.
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
            // Engines differ in the meaning of `!=` for a row without a value, so the engine decides.
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
            // The code does not check that a list of literals covers a whole range.
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
