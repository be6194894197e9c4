//! Whether a filter keeps so few rows that it pays to decode its columns first, and of the others only what it keeps.

use arrow::datatypes::{DataType, Schema};
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;
use esker_read::field_id;
use esker_table::LiveFile;

/// The share of rows below which it pays: above, the bookkeeping of rows costs more than their decoding (measured on TPC-H).
const SHARE: f64 = 0.001;

/// Compressed bytes a value from which on a column of strings is taken to hold a key: what repeats compresses to less.
const KEY_BYTES: f64 = 4.0;

/// Looks at equalities with literals: on numbers, dates and times by the range of their values, on strings by how well they compress.
pub(crate) fn is_selective(filters: &[Expr], schema: &Schema, files: &[LiveFile], statistics: &Statistics) -> bool {
    filters.iter().flat_map(split_conjunction).any(|filter| {
        let (column, values) = match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (left.as_ref(), right.as_ref()) {
                (Expr::Column(column), Expr::Literal(..)) | (Expr::Literal(..), Expr::Column(column)) => (column, 1),
                _ => return false,
            },
            Expr::InList(list) if !list.negated && list.list.iter().all(|e| matches!(e, Expr::Literal(..))) => {
                let Expr::Column(column) = list.expr.as_ref() else { return false };
                (column, list.list.len())
            }
            _ => return false,
        };
        let Ok(at) = schema.index_of(&column.name) else { return false };
        let field = schema.field(at);
        match field.data_type() {
            DataType::Utf8View | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                field_id(field).and_then(|id| bytes_a_value(files, id)).is_some_and(|bytes| bytes >= KEY_BYTES)
            }
            _ => {
                let column = &statistics.column_statistics[at];
                let width = width(&column.min_value, &column.max_value);
                width.is_some_and(|width| (values as f64) < SHARE * width)
            }
        }
    })
}

fn bytes_a_value(files: &[LiveFile], id: i32) -> Option<f64> {
    let sized = files.iter().filter_map(|f| Some((*f.file.column_sizes().get(&id)?, f.file.record_count())));
    let (bytes, rows) = sized.fold((0, 0), |sum, (bytes, rows)| (sum.0 + bytes, sum.1 + rows));
    (rows > 0).then(|| bytes as f64 / rows as f64)
}

fn width(low: &Precision<ScalarValue>, high: &Precision<ScalarValue>) -> Option<f64> {
    let number = |value: &Precision<ScalarValue>| match value.get_value()?.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(Some(v)) => Some(v as f64),
        _ => None,
    };
    Some(number(high)? - number(low)? + 1.0)
}
