//! The evaluation of an Iceberg expression on rows, as SQL evaluates it.
//!
//! Start reading at [`matching`].

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, Scalar};
use arrow::compute::kernels::cmp;
use arrow::compute::{and_kleene, is_not_null, is_null, not, or_kleene, starts_with};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use esker_format::{Schema, Value};
use esker_read::{column_at, field_id, literal_array, normalize_nan_and_zero};
use esker_table::{Expr, Op, Predicate};

use crate::compact::field_path;
use crate::{MaintenanceError, Result};

/// Returns the ids of the top-level columns that a filter needs, sorted.
///
/// # Errors
///
/// Returns [`MaintenanceError::Option`] if the filter has a condition on a field in a list or map.
pub(super) fn fields(filter: &Expr, schema: &Schema) -> Result<Vec<i32>> {
    let mut ids = match filter {
        Expr::True | Expr::False => Vec::new(),
        Expr::And(a, b) | Expr::Or(a, b) => [fields(a, schema)?, fields(b, schema)?].concat(),
        Expr::Predicate(p) => {
            let path = field_path(schema.as_struct().fields(), p.field).ok_or_else(|| unsupported(p, schema))?;
            vec![schema.as_struct().fields()[path[0]].id]
        }
    };
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Evaluates a filter on each row of a batch, in SQL's three-valued logic: null stands for unknown.
///
/// # Errors
///
/// Returns [`MaintenanceError::Option`] if a condition can't be evaluated on rows, and [`MaintenanceError::Arrow`] if a kernel
/// fails.
pub(super) fn matching(filter: &Expr, batch: &RecordBatch, schema: &Schema) -> Result<BooleanArray> {
    Ok(match filter {
        Expr::True => BooleanArray::from(vec![true; batch.num_rows()]),
        Expr::False => BooleanArray::from(vec![false; batch.num_rows()]),
        Expr::And(a, b) => and_kleene(&matching(a, batch, schema)?, &matching(b, batch, schema)?)?,
        Expr::Or(a, b) => or_kleene(&matching(a, batch, schema)?, &matching(b, batch, schema)?)?,
        Expr::Predicate(p) => predicate(p, batch, schema)?,
    })
}

/// Returns the error of a condition that can't be evaluated on rows.
fn unsupported(p: &Predicate, schema: &Schema) -> MaintenanceError {
    let name = schema.name_by_field_id(p.field).unwrap_or("that was dropped");
    let reason =
        format!("its condition on column {name} can't be evaluated on rows; DELETE the rows by SQL, then expire their snapshots");
    MaintenanceError::Option { key: "where", reason }
}

/// Returns the values that a predicate tests, null where a struct around them is null; `None` if the batch does not have them.
fn values(p: &Predicate, batch: &RecordBatch, schema: &Schema) -> Result<Option<ArrayRef>> {
    let Some(mut path) = field_path(schema.as_struct().fields(), p.field).filter(|_| p.transform.is_none()) else {
        return Ok(None);
    };
    let column = schema.as_struct().fields()[path[0]].id;
    let Some(at) = batch.schema().fields().iter().position(|f| field_id(f) == Some(column)) else { return Ok(None) };
    path[0] = at;
    Ok(Some(column_at(batch, &path)?))
}

/// Evaluates one predicate. NaN and zero are compared as SQL does: one NaN, greater than every number, and one zero.
fn predicate(p: &Predicate, batch: &RecordBatch, schema: &Schema) -> Result<BooleanArray> {
    let unsupported = || unsupported(p, schema);
    let column = &normalize_nan_and_zero(&values(p, batch, schema)?.ok_or_else(unsupported)?)?;
    let value = |value: &Value| -> Result<Scalar<ArrayRef>> {
        let array = literal_array(value, column.data_type()).ok_or_else(unsupported)?;
        Ok(Scalar::new(normalize_nan_and_zero(&array)?))
    };
    let one = || p.values.first().ok_or_else(unsupported).and_then(value);
    let any = || -> Result<BooleanArray> {
        let mut found = BooleanArray::from(vec![false; batch.num_rows()]);
        for wanted in &p.values {
            found = or_kleene(&found, &cmp::eq(column, &value(wanted)?)?)?;
        }
        Ok(found)
    };
    Ok(match p.op {
        Op::IsNull => is_null(column)?,
        Op::NotNull => is_not_null(column)?,
        Op::IsNan => nan(column).ok_or_else(unsupported)?,
        Op::NotNan => not(&nan(column).ok_or_else(unsupported)?)?,
        Op::Lt => cmp::lt(column, &one()?)?,
        Op::LtEq => cmp::lt_eq(column, &one()?)?,
        Op::Gt => cmp::gt(column, &one()?)?,
        Op::GtEq => cmp::gt_eq(column, &one()?)?,
        Op::Eq => cmp::eq(column, &one()?)?,
        Op::NotEq => cmp::neq(column, &one()?)?,
        Op::StartsWith => starts_with(column, &one()?)?,
        Op::NotStartsWith => not(&starts_with(column, &one()?)?)?,
        Op::In => any()?,
        Op::NotIn => not(&any()?)?,
    })
}

/// Returns which values are NaN; `None` if the column has no floats.
fn nan(column: &ArrayRef) -> Option<BooleanArray> {
    match column.data_type() {
        DataType::Float32 => Some(BooleanArray::from_unary(column.as_primitive::<Float32Type>(), f32::is_nan)),
        DataType::Float64 => Some(BooleanArray::from_unary(column.as_primitive::<Float64Type>(), f64::is_nan)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use arrow::array::{Float64Array, StructArray};
    use esker_format::{NestedField, PrimitiveType, StructType};

    #[test]
    fn fields_of_structs_are_asked_and_are_null_where_the_struct_is() {
        let k = NestedField::optional(3, "k", PrimitiveType::Long).into();
        let inner = NestedField::optional(2, "inner", StructType::new(vec![k])).into();
        let first = NestedField::optional(1, "a", PrimitiveType::Long).into();
        let outer = NestedField::optional(4, "st", StructType::new(vec![inner])).into();
        let schema = Schema::new(0, vec![first, outer]).expect("a schema");
        let filter = |json| Expr::parse(&json, &schema, true).expect("a filter");
        let equal = filter(serde_json::json!({"type": "eq", "term": "st.inner.k", "value": 5}));
        assert_eq!(fields(&equal, &schema).expect("columns"), [4]);
        let target = esker_read::target_schema(&schema, &[4]).expect("a target");
        let structs = |of: &DataType| match of {
            DataType::Struct(fields) => fields.clone(),
            other => panic!("{other}"),
        };
        let outer_fields = structs(target.field(0).data_type());
        let inner_fields = structs(outer_fields[0].data_type());
        let k: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![5, 5, 5, 6]));
        let inner = StructArray::new(inner_fields, vec![k], Some(vec![true, false, true, true].into()));
        let outer = StructArray::new(outer_fields, vec![Arc::new(inner)], Some(vec![true, true, false, true].into()));
        let batch = RecordBatch::try_new(target, vec![Arc::new(outer)]).expect("a batch");
        let found = |filter: &Expr| matching(filter, &batch, &schema).expect("an answer").iter().collect::<Vec<_>>();
        assert_eq!(found(&equal), [Some(true), None, None, Some(false)]);
        let none = filter(serde_json::json!({"type": "is-null", "term": "st.inner.k"}));
        assert_eq!(found(&none), [false, true, true, false].map(Some));
    }

    /// The SQL standard has one zero; PostgreSQL has one NaN, which is greater than every number.
    #[test]
    fn floats_are_found_as_sql_compares_them() {
        let field = NestedField::optional(1, "x", PrimitiveType::Double).into();
        let schema = Schema::new(0, vec![field]).expect("a schema");
        let target = esker_read::target_schema(&schema, &[1]).expect("a target");
        let values = [Some(-0.0), Some(0.0), Some(-f64::NAN), Some(f64::NAN), Some(1.0), None];
        let batch = RecordBatch::try_new(target, vec![Arc::new(Float64Array::from(values.to_vec()))]).expect("a batch");
        let found = |kind: &str, value: f64| {
            let json = serde_json::json!({"type": kind, "term": "x", "value": value});
            let filter = Expr::parse(&json, &schema, true).expect("a filter");
            let found = matching(&filter, &batch, &schema).expect("an answer");
            found.iter().map(|row| row == Some(true)).collect::<Vec<_>>()
        };
        for zero in [0.0, -0.0] {
            assert_eq!(found("eq", zero), [true, true, false, false, false, false]);
            assert_eq!(found("lt", zero), [false; 6]);
            assert_eq!(found("lt-eq", zero), [true, true, false, false, false, false]);
            assert_eq!(found("gt", zero), [false, false, true, true, true, false]);
        }
    }
}
