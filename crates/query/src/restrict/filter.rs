//! Row filters, evaluated on the columns of a table as they were before masks.
//!
//! A predicate is true, false or unknown, as in SQL: a comparison with NULL is unknown, and a row is seen only if its filter is
//! true. What can't be evaluated is unknown, too: a field that the schema lacks or that is in a list or a map, and a value that
//! is none of the field's type. Values compare as in Iceberg: -0.0 is less than 0.0, and NaN equals itself and is greater than
//! all other values. Start reading at [`RowPredicate`].

use std::cmp::Ordering;
use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{and_kleene, not, or_kleene};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, Schema as ArrowSchema,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use datafusion::common::Column;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::utils::{conjunction, disjunction};
use datafusion::logical_expr::{Expr, lit};
use datafusion::scalar::ScalarValue;
use esker_access::{CompareOp, FilterExpr};
use esker_format::{NestedFieldRef, Schema, Type, Value, value_from_json};

/// A filter, or a part of one, on the columns of one schema.
#[derive(Debug)]
pub(super) enum RowPredicate {
    /// True or false for every row; `None` is unknown.
    Constant(Option<bool>),
    /// All of some predicates.
    And(Vec<Self>),
    /// At least one of some predicates.
    Or(Vec<Self>),
    /// The opposite of a predicate.
    Not(Box<Self>),
    /// A condition on the value of a field.
    Field(FieldPlace, ValueCondition),
}

/// The place of a field in a table: a column, or a field in structs of it.
#[derive(Debug)]
pub(super) struct FieldPlace {
    /// Index of the column.
    column: usize,
    /// Indices of the fields, from the column's struct inwards.
    within: Vec<usize>,
}

/// A condition on a value.
#[derive(Debug)]
pub(super) enum ValueCondition {
    /// It is null.
    IsNull,
    /// It is NaN.
    IsNan,
    /// It compares with another.
    Compare(CompareOp, Value),
    /// It equals one of some values.
    In(Vec<Value>),
    /// It is a string with a prefix.
    StartsWith(String),
}

impl RowPredicate {
    /// Makes the predicate of a filter for the columns of a schema. `is_readable` tells which of them can be decoded.
    pub(super) fn new(filter: &FilterExpr, schema: &Schema, is_readable: &dyn Fn(usize) -> bool) -> Self {
        let on = |id: i32, condition: &dyn Fn(&Type) -> Option<ValueCondition>| {
            let found = place(schema, id).filter(|(place, _)| is_readable(place.column));
            let made = found.and_then(|(place, field)| Some(Self::Field(place, condition(&field.field_type)?)));
            made.unwrap_or(Self::Constant(None))
        };
        let inner = |all: &[FilterExpr]| all.iter().map(|one| Self::new(one, schema, is_readable)).collect::<Vec<_>>();
        match filter {
            FilterExpr::True => Self::Constant(Some(true)),
            FilterExpr::False => Self::Constant(Some(false)),
            FilterExpr::And(all) => Self::And(inner(all)),
            FilterExpr::Or(all) => Self::Or(inner(all)),
            FilterExpr::Not(one) => Self::new(one, schema, is_readable).negated(true),
            FilterExpr::IsNull(id) => on(*id, &|_| Some(ValueCondition::IsNull)),
            FilterExpr::NotNull(id) => on(*id, &|_| Some(ValueCondition::IsNull)).negated(true),
            FilterExpr::IsNan(id) => on(*id, &|_| Some(ValueCondition::IsNan)),
            FilterExpr::NotNan(id) => on(*id, &|_| Some(ValueCondition::IsNan)).negated(true),
            FilterExpr::Compare { op, field_id, value } => {
                on(*field_id, &|ty| Some(ValueCondition::Compare(*op, value_from_json(ty, value)?)))
            }
            FilterExpr::In { field_id, values, negated } => {
                let all = |ty: &Type| values.iter().map(|value| value_from_json(ty, value)).collect::<Option<Vec<_>>>();
                on(*field_id, &|ty| Some(ValueCondition::In(all(ty)?))).negated(*negated)
            }
            FilterExpr::StartsWith { field_id, prefix, negated } => {
                on(*field_id, &|_| Some(ValueCondition::StartsWith(prefix.clone()))).negated(*negated)
            }
        }
    }

    /// Returns the opposite if `negate` is set.
    fn negated(self, negate: bool) -> Self {
        if negate { Self::Not(Box::new(self)) } else { self }
    }

    /// Checks that the filter is true for every row, as far as that needs no row.
    pub(super) fn is_always_true(&self) -> bool {
        match self {
            Self::Constant(value) => *value == Some(true),
            Self::And(all) => all.iter().all(Self::is_always_true),
            Self::Or(all) => all.iter().any(Self::is_always_true),
            Self::Not(_) | Self::Field(..) => false,
        }
    }

    /// Checks that the filter is true for no row, as far as that needs no row.
    pub(super) fn is_never_true(&self) -> bool {
        match self {
            Self::Constant(value) => *value != Some(true),
            Self::And(all) => all.iter().any(Self::is_never_true),
            Self::Or(all) => all.iter().all(Self::is_never_true),
            Self::Not(inner) => inner.is_always_true() || matches!(inner.as_ref(), Self::Constant(None)),
            Self::Field(..) => false,
        }
    }

    /// Adds the indices of the columns that the filter reads.
    pub(super) fn collect_columns(&self, columns: &mut BTreeSet<usize>) {
        match self {
            Self::Constant(_) => {}
            Self::And(all) | Self::Or(all) => all.iter().for_each(|one| one.collect_columns(columns)),
            Self::Not(inner) => inner.collect_columns(columns),
            Self::Field(place, _) => {
                columns.insert(place.column);
            }
        }
    }

    /// Evaluates the filter on rows; null is unknown. `column` returns a column of them by its index in the table.
    ///
    /// # Errors
    ///
    /// Returns [`DataFusionError::Internal`] if a column is missing or is of another type than its field.
    pub(super) fn evaluate(&self, rows: usize, column: &dyn Fn(usize) -> Option<ArrayRef>) -> Result<BooleanArray> {
        let constant = |value: bool| {
            let bits = if value { BooleanBuffer::new_set(rows) } else { BooleanBuffer::new_unset(rows) };
            BooleanArray::new(bits, None)
        };
        Ok(match self {
            Self::Constant(Some(value)) => constant(*value),
            Self::Constant(None) => BooleanArray::new_null(rows),
            Self::And(all) => {
                let all = all.iter().map(|one| one.evaluate(rows, column));
                all.reduce(|one, other| Ok(and_kleene(&one?, &other?)?)).unwrap_or_else(|| Ok(constant(true)))?
            }
            Self::Or(all) => {
                let all = all.iter().map(|one| one.evaluate(rows, column));
                all.reduce(|one, other| Ok(or_kleene(&one?, &other?)?)).unwrap_or_else(|| Ok(constant(false)))?
            }
            Self::Not(inner) => not(&inner.evaluate(rows, column)?)?,
            Self::Field(place, condition) => {
                let missing = || DataFusionError::Internal("a column of a row filter is not read".to_owned());
                let (values, nulls) = place.values(column(place.column).ok_or_else(missing)?)?;
                condition.evaluate(&values, nulls)
            }
        })
    }

    /// Returns a condition for pruning, in terms of queries: it is true for every row for which the filter is true.
    ///
    /// `None` if there is none. Floats are left out, as queries take -0.0 and 0.0 for equal.
    pub(super) fn pruning(&self, schema: &ArrowSchema) -> Option<Expr> {
        match self {
            Self::And(all) => conjunction(all.iter().filter_map(|one| one.pruning(schema))),
            Self::Or(all) => disjunction(all.iter().map(|one| one.pruning(schema)).collect::<Option<Vec<_>>>()?),
            Self::Field(place, condition) if place.within.is_empty() => {
                let field = schema.field(place.column);
                let column = Expr::Column(Column::new_unqualified(field.name()));
                let literal = |value: &Value| literal(value, field.data_type()).map(lit);
                match condition {
                    ValueCondition::Compare(op, value) => {
                        let value = literal(value)?;
                        match op {
                            CompareOp::Eq => Some(column.eq(value)),
                            CompareOp::Lt => Some(column.lt(value)),
                            CompareOp::LtEq => Some(column.lt_eq(value)),
                            CompareOp::Gt => Some(column.gt(value)),
                            CompareOp::GtEq => Some(column.gt_eq(value)),
                            CompareOp::NotEq => None,
                        }
                    }
                    ValueCondition::In(values) if !values.is_empty() => {
                        Some(column.in_list(values.iter().map(literal).collect::<Option<Vec<_>>>()?, false))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Returns the place of a field with the field; `None` if the schema lacks it, or it is in a list or a map.
fn place(schema: &Schema, id: i32) -> Option<(FieldPlace, &NestedFieldRef)> {
    let field = schema.field_by_id(id)?;
    let (mut within, mut at) = (Vec::new(), id);
    while let Some(outer) = schema.parent_of(at) {
        let Type::Struct(ty) = schema.field_by_id(outer)?.field_type.as_ref() else { return None };
        within.push(ty.fields().iter().position(|field| field.id == at)?);
        at = outer;
    }
    within.reverse();
    let column = schema.as_struct().fields().iter().position(|field| field.id == at)?;
    Some((FieldPlace { column, within }, field))
}

/// Returns a value as a literal of a column's type, for the types whose order is the same in queries and in Iceberg.
fn literal(value: &Value, ty: &DataType) -> Option<ScalarValue> {
    Some(match (value, ty) {
        (Value::Int(v), DataType::Int32) => ScalarValue::Int32(Some(*v)),
        (Value::Long(v), DataType::Int64) => ScalarValue::Int64(Some(*v)),
        (Value::Date(v), DataType::Date32) => ScalarValue::Date32(Some(*v)),
        (Value::String(v), DataType::Utf8View) => ScalarValue::Utf8View(Some(v.to_string())),
        (Value::Timestamp(v) | Value::Timestamptz(v), DataType::Timestamp(TimeUnit::Microsecond, zone)) => {
            ScalarValue::TimestampMicrosecond(Some(*v), zone.clone())
        }
        _ => return None,
    })
}

impl FieldPlace {
    /// Returns the values of the field, and where they or the structs around them are null.
    fn values(&self, column: ArrayRef) -> Result<(ArrayRef, Option<NullBuffer>)> {
        let (mut values, mut nulls) = (column, None);
        for at in &self.within {
            let wrong = || DataFusionError::Internal("a column of a row filter is no struct".to_owned());
            let outer = values.as_struct_opt().filter(|outer| *at < outer.num_columns()).ok_or_else(wrong)?;
            nulls = NullBuffer::union(nulls.as_ref(), outer.nulls());
            let inner = outer.column(*at).clone();
            values = inner;
        }
        let nulls = NullBuffer::union(nulls.as_ref(), values.logical_nulls().as_ref());
        Ok((values, nulls))
    }
}

impl ValueCondition {
    /// Evaluates the condition on values, some of which are null. It is unknown for all values of a type that it can't be for.
    fn evaluate(&self, values: &ArrayRef, nulls: Option<NullBuffer>) -> BooleanArray {
        let rows = values.len();
        let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        if matches!(self, Self::IsNull) {
            return BooleanArray::new(BooleanBuffer::collect_bool(rows, is_null), None);
        }
        let Some(test) = self.test(values.as_ref()) else { return BooleanArray::new_null(rows) };
        let holds = BooleanBuffer::collect_bool(rows, |row| !is_null(row) && test(row));
        BooleanArray::new(holds, nulls)
    }

    /// Returns the test of a value that is not null; `None` if there is none for the type.
    fn test<'a>(&'a self, values: &'a dyn Array) -> Option<Box<dyn Fn(usize) -> bool + 'a>> {
        Some(match self {
            Self::IsNull => return None,
            Self::IsNan => match values.data_type() {
                DataType::Float32 => Box::new(move |row| values.as_primitive::<Float32Type>().value(row).is_nan()),
                DataType::Float64 => Box::new(move |row| values.as_primitive::<Float64Type>().value(row).is_nan()),
                _ => return None,
            },
            Self::Compare(op, value) => {
                let (op, ordering) = (*op, ordering(values, value)?);
                Box::new(move |row| holds(op, ordering(row)))
            }
            Self::In(all) => {
                let all = all.iter().map(|value| ordering(values, value)).collect::<Option<Vec<_>>>()?;
                Box::new(move |row| all.iter().any(|ordering| ordering(row) == Ordering::Equal))
            }
            Self::StartsWith(prefix) => match values.data_type() {
                DataType::Utf8View => Box::new(move |row| values.as_string_view().value(row).starts_with(prefix.as_str())),
                DataType::Utf8 => Box::new(move |row| values.as_string::<i32>().value(row).starts_with(prefix.as_str())),
                _ => return None,
            },
        })
    }
}

/// Checks that a comparison holds for an order.
fn holds(op: CompareOp, ordering: Ordering) -> bool {
    match op {
        CompareOp::Eq => ordering.is_eq(),
        CompareOp::NotEq => ordering.is_ne(),
        CompareOp::Lt => ordering.is_lt(),
        CompareOp::LtEq => ordering.is_le(),
        CompareOp::Gt => ordering.is_gt(),
        CompareOp::GtEq => ordering.is_ge(),
    }
}

/// Orders floats as Iceberg does.
fn float_order(one: f64, other: f64) -> Ordering {
    match (one.is_nan(), other.is_nan()) {
        (false, false) => one.total_cmp(&other),
        (one, other) => one.cmp(&other),
    }
}

/// The order of the value in a row, which is not null, and a constant.
type RowOrdering<'a> = Box<dyn Fn(usize) -> Ordering + 'a>;

/// Returns the order of values and a constant; `None` if the constant is of another type.
fn ordering<'a>(values: &'a dyn Array, constant: &'a Value) -> Option<RowOrdering<'a>> {
    // Orders the values of a primitive type.
    macro_rules! of {
        ($type:ty, $constant:expr) => {{
            let (values, constant) = (values.as_primitive::<$type>(), *$constant);
            Box::new(move |row| values.value(row).cmp(&constant))
        }};
    }
    use TimeUnit::{Microsecond, Nanosecond};
    Some(match (values.data_type(), constant) {
        (DataType::Boolean, Value::Boolean(v)) => {
            let values = values.as_boolean();
            Box::new(move |row| values.value(row).cmp(v))
        }
        (DataType::Int32, Value::Int(v)) => of!(Int32Type, v),
        (DataType::Int64, Value::Long(v)) => of!(Int64Type, v),
        (DataType::Date32, Value::Date(v)) => of!(Date32Type, v),
        (DataType::Time64(Microsecond), Value::Time(v)) => of!(Time64MicrosecondType, v),
        (DataType::Timestamp(Microsecond, _), Value::Timestamp(v) | Value::Timestamptz(v)) => of!(TimestampMicrosecondType, v),
        (DataType::Timestamp(Nanosecond, _), Value::TimestampNs(v) | Value::TimestamptzNs(v)) => of!(TimestampNanosecondType, v),
        (DataType::Decimal128(_, scale), Value::Decimal { unscaled, scale: of }) if i64::from(*scale) == i64::from(*of) => {
            of!(Decimal128Type, unscaled)
        }
        (DataType::Float32, Value::Float(v)) => {
            let (values, constant) = (values.as_primitive::<Float32Type>(), f64::from(*v));
            Box::new(move |row| float_order(values.value(row).into(), constant))
        }
        (DataType::Float64, Value::Double(v)) => {
            let (values, constant) = (values.as_primitive::<Float64Type>(), *v);
            Box::new(move |row| float_order(values.value(row), constant))
        }
        (DataType::Utf8View, Value::String(v)) => {
            let values = values.as_string_view();
            Box::new(move |row| values.value(row).cmp(v))
        }
        (DataType::Utf8, Value::String(v)) => {
            let values = values.as_string::<i32>();
            Box::new(move |row| values.value(row).cmp(v))
        }
        (DataType::FixedSizeBinary(_), Value::Uuid(v)) => {
            let values = values.as_fixed_size_binary();
            Box::new(move |row| values.value(row).cmp(v.as_bytes().as_slice()))
        }
        (DataType::FixedSizeBinary(_), Value::Fixed(v)) => {
            let values = values.as_fixed_size_binary();
            Box::new(move |row| values.value(row).cmp(v))
        }
        (DataType::BinaryView, Value::Binary(v) | Value::Fixed(v)) => {
            let values = values.as_binary_view();
            Box::new(move |row| values.value(row).cmp(v))
        }
        (DataType::Binary, Value::Binary(v) | Value::Fixed(v)) => {
            let values = values.as_binary::<i32>();
            Box::new(move |row| values.value(row).cmp(v))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BinaryViewArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int64Array, StringArray,
        StringViewArray, StructArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::{Field, Fields};
    use esker_format::{ListType, NestedField, PrimitiveType, StructType};
    use serde_json::{Value as Json, json};

    use super::*;

    fn optional(id: i32, name: &str, ty: impl Into<Type>) -> NestedFieldRef {
        Arc::new(NestedField::optional(id, name, ty))
    }

    fn schema() -> Schema {
        let decimal = PrimitiveType::Decimal { precision: 9, scale: 2 };
        let inner = StructType::new(vec![optional(9, "city", PrimitiveType::String)]);
        let fields = vec![
            optional(1, "id", PrimitiveType::Long),
            optional(2, "f", PrimitiveType::Double),
            optional(3, "s", PrimitiveType::String),
            optional(4, "d", decimal),
            optional(5, "day", PrimitiveType::Date),
            optional(6, "at", PrimitiveType::Timestamptz),
            optional(7, "u", PrimitiveType::Uuid),
            optional(8, "home", inner),
            optional(10, "b", PrimitiveType::Binary),
            optional(11, "tags", ListType::new(12, PrimitiveType::String, false)),
        ];
        Schema::new(0, fields).expect("a schema")
    }

    /// Returns three rows of the schema's columns; the last one is null throughout, but for the list, which is missing.
    fn columns() -> Vec<ArrayRef> {
        let city: ArrayRef = Arc::new(StringArray::from(vec![Some("Bonn"), None, Some("hidden")]));
        let fields = Fields::from(vec![Field::new("city", DataType::Utf8, true)]);
        let home = StructArray::new(fields, vec![city], Some(NullBuffer::from(vec![true, true, false])));
        let uuids = [Some([0x10_u8; 16]), Some([0xF0; 16]), None];
        let uuids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuids.into_iter(), 16).expect("uuids");
        let decimals = Decimal128Array::from(vec![Some(1050), Some(-1), None]).with_precision_and_scale(9, 2);
        vec![
            Arc::new(Int64Array::from(vec![Some(1), Some(2), None])),
            Arc::new(Float64Array::from(vec![Some(-0.0), Some(f64::NAN), None])),
            Arc::new(StringViewArray::from_iter([Some("abc"), Some("b"), None])),
            Arc::new(decimals.expect("decimals")),
            Arc::new(Date32Array::from(vec![Some(0), Some(-1), None])),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(0), Some(1), None]).with_timezone("UTC")),
            Arc::new(uuids),
            Arc::new(home),
            Arc::new(BinaryViewArray::from_iter([Some([1_u8, 255].as_slice()), Some([].as_slice()), None])),
        ]
    }

    /// Evaluates a filter on the three rows.
    fn evaluated(filter: &FilterExpr) -> [Option<bool>; 3] {
        let (columns, predicate) = (columns(), RowPredicate::new(filter, &schema(), &|_| true));
        let made = predicate.evaluate(3, &|at| columns.get(at).cloned()).expect("evaluated");
        [0, 1, 2].map(|row| made.is_valid(row).then(|| made.value(row)))
    }

    fn compare(field_id: i32, op: CompareOp, value: Json) -> FilterExpr {
        FilterExpr::Compare { op, field_id, value }
    }

    const T: Option<bool> = Some(true);
    const F: Option<bool> = Some(false);

    #[test]
    fn values_of_every_type_are_compared_and_null_is_unknown() {
        use CompareOp::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
        for (field, op, value, expected) in [
            (1, Eq, json!(2), [F, T, None]),
            (1, NotEq, json!(2), [T, F, None]),
            (1, LtEq, json!(1), [T, F, None]),
            (3, Gt, json!("abc"), [F, T, None]),
            (4, Eq, json!("10.5"), [T, F, None]),
            (4, Lt, json!("0.00"), [F, T, None]),
            (5, GtEq, json!("1970-01-01"), [T, F, None]),
            (6, Gt, json!("1970-01-01T01:00:00+01:00"), [F, T, None]),
            (7, Lt, json!("80000000-0000-0000-0000-000000000000"), [T, F, None]),
            (9, Eq, json!("Bonn"), [T, None, None]),
            (10, Gt, json!("01"), [T, F, None]),
        ] {
            assert_eq!(evaluated(&compare(field, op, value.clone())), expected, "{field} {} {value}", op.as_str());
        }
    }

    #[test]
    fn floats_have_the_order_of_iceberg() {
        use CompareOp::{Eq, Gt, Lt, NotEq};
        assert_eq!(evaluated(&compare(2, Eq, json!(0.0))), [F, F, None]);
        assert_eq!(evaluated(&compare(2, Lt, json!(0.0))), [T, F, None]);
        assert_eq!(evaluated(&compare(2, Eq, json!(-0.0))), [T, F, None]);
        assert_eq!(evaluated(&compare(2, Gt, json!("Infinity"))), [F, T, None]);
        assert_eq!(evaluated(&compare(2, NotEq, json!("NaN"))), [T, F, None]);
        assert_eq!(evaluated(&FilterExpr::IsNan(2)), [F, T, None]);
        assert_eq!(evaluated(&FilterExpr::NotNan(2)), [T, F, None]);
        assert_eq!(evaluated(&FilterExpr::IsNan(1)), [None; 3], "a long");
    }

    #[test]
    fn predicates_have_the_logic_of_sql() {
        let one = || compare(1, CompareOp::Eq, json!(1));
        let of = |values: &[Json], negated| FilterExpr::In { field_id: 1, values: values.to_vec(), negated };
        let starts = |negated| FilterExpr::StartsWith { field_id: 3, prefix: "ab".to_owned(), negated };
        for (filter, expected) in [
            (FilterExpr::True, [T, T, T]),
            (FilterExpr::False, [F, F, F]),
            (FilterExpr::And(Vec::new()), [T, T, T]),
            (FilterExpr::Or(Vec::new()), [F, F, F]),
            (FilterExpr::Not(Box::new(one())), [F, T, None]),
            (FilterExpr::IsNull(1), [F, F, T]),
            (FilterExpr::NotNull(9), [T, F, F]),
            (of(&[json!(7), json!(1)], false), [T, F, None]),
            (of(&[json!(7), json!(1)], true), [F, T, None]),
            (starts(false), [T, F, None]),
            (starts(true), [F, T, None]),
            (FilterExpr::Or(vec![one(), FilterExpr::IsNull(3)]), [T, F, T]),
            (FilterExpr::And(vec![one(), FilterExpr::NotNull(3)]), [T, F, F]),
            (FilterExpr::Or(vec![one(), FilterExpr::True]), [T, T, T]),
        ] {
            assert_eq!(evaluated(&filter), expected, "{filter:?}");
        }
    }

    #[test]
    fn what_can_not_be_evaluated_is_unknown_and_stays_so_when_negated() {
        for filter in [
            FilterExpr::IsNull(77),
            FilterExpr::NotNull(12),
            compare(1, CompareOp::NotEq, json!("no number")),
            compare(4, CompareOp::Lt, json!("0.001")),
            compare(8, CompareOp::Eq, json!({})),
            FilterExpr::In { field_id: 1, values: vec![json!(1), json!("x")], negated: true },
            FilterExpr::StartsWith { field_id: 1, prefix: String::new(), negated: false },
        ] {
            assert_eq!(evaluated(&filter), [None; 3], "{filter:?}");
            assert_eq!(evaluated(&FilterExpr::Not(Box::new(filter.clone()))), [None; 3], "{filter:?}");
            assert_eq!(evaluated(&FilterExpr::Or(vec![filter.clone(), FilterExpr::True])), [T; 3], "{filter:?}");
        }
        let unread = RowPredicate::new(&FilterExpr::NotNull(1), &schema(), &|_| false);
        assert!(unread.is_never_true(), "{unread:?}");
    }

    #[test]
    fn what_needs_no_row_is_known_before() {
        let of = |filter: FilterExpr| {
            let made = RowPredicate::new(&filter, &schema(), &|_| true);
            let mut columns = BTreeSet::new();
            made.collect_columns(&mut columns);
            (made.is_always_true(), made.is_never_true(), columns.into_iter().collect::<Vec<_>>())
        };
        let one = || compare(1, CompareOp::Eq, json!(1));
        assert_eq!(of(FilterExpr::True), (true, false, vec![]));
        assert_eq!(of(FilterExpr::False), (false, true, vec![]));
        assert_eq!(of(FilterExpr::Or(vec![one(), FilterExpr::True])), (true, false, vec![0]));
        assert_eq!(of(FilterExpr::And(vec![FilterExpr::IsNull(9), FilterExpr::IsNan(77)])), (false, true, vec![7]));
        assert_eq!(of(FilterExpr::Not(Box::new(FilterExpr::True))), (false, true, vec![]));
        assert_eq!(of(one()), (false, false, vec![0]));
    }

    #[test]
    fn only_conditions_that_queries_share_are_pruned_by() {
        let fields: Vec<Field> = schema()
            .as_struct()
            .fields()
            .iter()
            .zip(columns())
            .map(|(field, column)| Field::new(&field.name, column.data_type().clone(), true))
            .collect();
        let arrow = ArrowSchema::new(fields);
        let of = |filter: FilterExpr| {
            let made = RowPredicate::new(&filter, &schema(), &|_| true).pruning(&arrow);
            made.map(|expr| expr.to_string())
        };
        let one = || compare(1, CompareOp::Eq, json!(1));
        let float = || compare(2, CompareOp::Eq, json!(0.0));
        assert_eq!(of(one()).as_deref(), Some("id = Int64(1)"));
        assert_eq!(of(FilterExpr::And(vec![one(), float()])).as_deref(), Some("id = Int64(1)"));
        for none in [
            float(),
            FilterExpr::Or(vec![one(), float()]),
            FilterExpr::Not(Box::new(one())),
            FilterExpr::IsNull(1),
            compare(9, CompareOp::Eq, json!("Bonn")),
        ] {
            assert_eq!(of(none.clone()), None, "{none:?}");
        }
    }
}
