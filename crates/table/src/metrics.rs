//! What counts and bounds of columns say about a filter: of many files at once, column by column.

use std::borrow::Borrow;

use esker_format::{ColumnStats, PrimitiveType, Schema, Type, Value};

use crate::expr::string;
use crate::{ColumnBounds, Expr, Op, Predicate};

/// What stands for a type without bounds that are values.
const BYTES: PrimitiveType = PrimitiveType::Geometry { crs: None };

/// The columns that a filter asks about, of types that have bounds, and what is decoded of them.
pub(crate) struct FilterMetrics<'a> {
    columns: Vec<Column<'a>>,
}

struct Column<'a> {
    id: i32,
    ty: &'a PrimitiveType,
    /// Whether its values, and those that it is compared with, are whole numbers: these are compared without making values of them.
    whole: bool,
    wholes: Vec<ColumnBounds<i64>>,
    /// Those that were asked for.
    values: Vec<Option<ColumnBounds>>,
}

impl<'a> FilterMetrics<'a> {
    pub(crate) fn of(filter: &Expr, schema: &'a Schema) -> Self {
        let predicates = filter.predicates();
        let mut ids: Vec<i32> = predicates.iter().map(|predicate| predicate.field).collect();
        ids.sort_unstable();
        ids.dedup();
        let column = |id: i32| match schema.field_by_id(id).map(|field| field.field_type.as_ref()) {
            Some(Type::Primitive(ty)) => {
                let mut values = predicates.iter().filter(|predicate| predicate.field == id).flat_map(|p| &p.values);
                let whole = ty.is_whole() && values.all(|value| value.whole().is_some());
                Some(Column { id, ty, whole, wholes: Vec::new(), values: Vec::new() })
            }
            // Its nulls are counted; what it holds has no bounds that a predicate could ask about.
            Some(Type::Variant) => Some(Column { id, ty: &BYTES, whole: false, wholes: Vec::new(), values: Vec::new() }),
            _ => None,
        };
        Self { columns: ids.into_iter().filter_map(column).collect() }
    }

    /// The columns that are asked about, by their field ids.
    pub(crate) fn ids(&self) -> impl Iterator<Item = i32> {
        self.columns.iter().map(|column| column.id)
    }

    /// Which of so many files have room for a row that matches, by what `stats` says of a column (by its place in [`Metrics::ids`]) in a
    /// file (by its number).
    pub(crate) fn might_match<'s>(
        &mut self,
        filter: &Expr,
        files: usize,
        stats: &impl Fn(usize, usize) -> ColumnStats<'s>,
    ) -> Vec<bool> {
        for column in &mut self.columns {
            column.wholes.clear();
            column.values.clear();
        }
        let mut mask = vec![true; files];
        self.narrow(filter, stats, &mut mask);
        mask
    }

    /// Takes out of `mask` the files that have no room for a row that matches.
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

impl Column<'_> {
    fn narrow<'s>(&mut self, predicate: &Predicate, stats: &impl Fn(usize) -> ColumnStats<'s>, mask: &mut [bool]) {
        // All values of no type are null, whatever is said of them.
        if *self.ty == PrimitiveType::Unknown {
            if predicate.op != Op::IsNull && !matches!(predicate.op, Op::NotEq | Op::NotIn | Op::NotStartsWith | Op::NotNan) {
                mask.fill(false);
            }
            return;
        }
        if self.whole {
            if self.wholes.is_empty() {
                self.wholes.extend((0..mask.len()).map(|file| ColumnBounds::of_whole(Some(stats(file)), self.ty)));
            }
            let wanted: Vec<i64> = predicate.values.iter().filter_map(Value::whole).collect();
            for (keep, bounds) in mask.iter_mut().zip(&self.wholes) {
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

/// Whether the column's counts and bounds leave room for a matching row.
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

/// Whether the column's counts and bounds leave room for a row that begins with a text.
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
