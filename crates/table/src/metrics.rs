//! Evaluates a filter on the counts and bounds of columns, for many files at once and column by column.
//!
//! The result is a mask: false for a file that certainly has no matching row. An unknown count or bound never rules out a file.
//! Start reading at [`FilterMetrics::might_match`]. Spec: "Scan Planning".

use std::borrow::Borrow;

use esker_format::{ColumnStats, PrimitiveType, Schema, Type, Value};

use crate::expr::string;
use crate::{ColumnBounds, Expr, Op, Predicate};

/// The type that stands for variants, which have no bounds that a predicate could compare with.
const BYTES: PrimitiveType = PrimitiveType::Geometry { crs: None };

/// The columns of a filter that have statistics, with the bounds decoded for the present files.
pub(crate) struct FilterMetrics<'a> {
    columns: Vec<FilterColumn<'a>>,
}

/// A column of a filter.
struct FilterColumn<'a> {
    id: i32,
    ty: &'a PrimitiveType,
    /// True if the column's values and the filter's literals are whole numbers, which are compared as `i64` without making a
    /// `Value`.
    is_integer: bool,
    /// The bounds of all files, if `is_integer`; empty before the first predicate on this column.
    integer_bounds: Vec<ColumnBounds<i64>>,
    /// The bounds of the files that a predicate reached so far, if not `is_integer`.
    values: Vec<Option<ColumnBounds>>,
}

impl<'a> FilterMetrics<'a> {
    /// Collects the columns of a filter. Columns of structs, lists and maps are left out.
    pub(crate) fn of(filter: &Expr, schema: &'a Schema) -> Self {
        let predicates = filter.predicates();
        let mut ids: Vec<i32> = predicates.iter().map(|predicate| predicate.field).collect();
        ids.sort_unstable();
        ids.dedup();
        let column = |id: i32| match schema.field_by_id(id).map(|field| field.field_type.as_ref()) {
            Some(Type::Primitive(ty)) => {
                let mut values = predicates.iter().filter(|predicate| predicate.field == id).flat_map(|p| &p.values);
                let is_integer = ty.is_stored_as_integer() && values.all(|value| value.as_integer().is_some());
                Some(FilterColumn { id, ty, is_integer, integer_bounds: Vec::new(), values: Vec::new() })
            }
            // The nulls of a variant are counted, but its bounds are no values that a predicate could compare with.
            Some(Type::Variant) => {
                Some(FilterColumn { id, ty: &BYTES, is_integer: false, integer_bounds: Vec::new(), values: Vec::new() })
            }
            _ => None,
        };
        Self { columns: ids.into_iter().filter_map(column).collect() }
    }

    /// Iterates over the field ids of the columns, in rising order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = i32> {
        self.columns.iter().map(|column| column.id)
    }

    /// Returns for each of `files` files true if a row may match the filter.
    ///
    /// `stats` returns the statistics of a column in a file. Its arguments are the column's position in [`FilterMetrics::ids`] and
    /// the file's number.
    pub(crate) fn might_match<'s>(
        &mut self,
        filter: &Expr,
        files: usize,
        stats: &impl Fn(usize, usize) -> ColumnStats<'s>,
    ) -> Vec<bool> {
        for column in &mut self.columns {
            column.integer_bounds.clear();
            column.values.clear();
        }
        let mut mask = vec![true; files];
        self.narrow(filter, stats, &mut mask);
        mask
    }

    /// Clears the files in `mask` in which no row can match.
    fn narrow<'s>(&mut self, filter: &Expr, stats: &impl Fn(usize, usize) -> ColumnStats<'s>, mask: &mut [bool]) {
        match filter {
            Expr::True => {}
            Expr::False => mask.fill(false),
            Expr::And(a, b) => {
                self.narrow(a, stats, mask);
                self.narrow(b, stats, mask);
            }
            Expr::Or(a, b) => {
                let mut other = mask.to_vec();
                self.narrow(a, stats, mask);
                self.narrow(b, stats, &mut other);
                mask.iter_mut().zip(other).for_each(|(keep, other)| *keep |= other);
            }
            Expr::Predicate(p) if p.transform.is_some() => {}
            Expr::Predicate(p) => {
                let at = self.columns.iter().position(|column| column.id == p.field);
                if let Some(at) = at.filter(|_| mask.contains(&true)) {
                    self.columns[at].narrow(p, &|file| stats(at, file), mask);
                }
            }
        }
    }
}

impl FilterColumn<'_> {
    /// Clears the files in `mask` in which no row can match the predicate.
    fn narrow<'s>(&mut self, predicate: &Predicate, stats: &impl Fn(usize) -> ColumnStats<'s>, mask: &mut [bool]) {
        // All values of the type `unknown` are null, whatever the manifest says.
        if *self.ty == PrimitiveType::Unknown {
            if predicate.op != Op::IsNull && !matches!(predicate.op, Op::NotEq | Op::NotIn | Op::NotStartsWith | Op::NotNan) {
                mask.fill(false);
            }
            return;
        }
        if self.is_integer {
            if self.integer_bounds.is_empty() {
                self.integer_bounds.extend((0..mask.len()).map(|file| ColumnBounds::of_whole(Some(stats(file)), self.ty)));
            }
            let wanted: Vec<i64> = predicate.values.iter().filter_map(Value::as_integer).collect();
            for (keep, bounds) in mask.iter_mut().zip(&self.integer_bounds) {
                *keep = *keep && by_metrics(predicate.op, bounds, wanted.iter());
            }
            return;
        }
        self.values.resize(mask.len(), None);
        for (file, (keep, bounds)) in mask.iter_mut().zip(&mut self.values).enumerate().filter(|(_, (keep, _))| **keep) {
            let bounds = bounds.get_or_insert_with(|| ColumnBounds::of(Some(stats(file)), self.ty));
            *keep = match predicate.op {
                Op::StartsWith => by_prefix(predicate, bounds),
                op => by_metrics(op, bounds, predicate.values.iter()),
            };
        }
    }
}

/// Returns true if the counts and bounds of the column allow a matching row.
fn by_metrics<T: PartialOrd>(op: Op, bounds: &ColumnBounds<T>, mut values: impl Iterator<Item = impl Borrow<T>>) -> bool {
    match op {
        Op::IsNull => return !bounds.no_nulls(),
        Op::NotNull => return !bounds.only_nulls(),
        Op::IsNan => return !bounds.no_nans(),
        Op::NotEq | Op::NotIn | Op::NotStartsWith | Op::NotNan => return true,
        _ if bounds.only_nulls() => return false,
        _ => {}
    }
    let (low, high) = (bounds.lower.as_ref(), bounds.upper.as_ref());
    let below = |value: &T| high.is_some_and(|high| high < value);
    let above = |value: &T| low.is_some_and(|low| low > value);
    let Some(first) = values.next() else { return true };
    let first = first.borrow();
    let within = |value: &T| !below(value) && !above(value);
    match op {
        Op::Eq | Op::In => within(first) || values.any(|value| within(value.borrow())),
        Op::Lt => low.is_none_or(|low| low < first),
        Op::LtEq => !above(first),
        Op::Gt => high.is_none_or(|high| high > first),
        Op::GtEq => !below(first),
        _ => true,
    }
}

/// Returns true if the counts and bounds of the column allow a string with the predicate's prefix.
fn by_prefix(predicate: &Predicate, bounds: &ColumnBounds) -> bool {
    if bounds.only_nulls() {
        return false;
    }
    let Some(prefix) = predicate.values.first().and_then(string) else { return true };
    let cut = |value: &Value| string(value).map(|s| s.chars().take(prefix.chars().count()).collect::<String>());
    let above = bounds.lower.as_ref().and_then(cut).is_some_and(|low| low.as_str() > prefix);
    let below = bounds.upper.as_ref().and_then(cut).is_some_and(|high| high.as_str() < prefix);
    !above && !below
}
