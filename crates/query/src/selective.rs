//! Finds filters that keep so few rows that it pays to decode their columns first.
//!
//! Of the other columns, only the rows that such a filter keeps are decoded.

use arrow::datatypes::{DataType, Schema};
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;
use esker_read::field_id;
use esker_table::LiveFile;

/// Share of rows below which it pays. Above, keeping track of rows costs more than decoding them (measured on TPC-H).
const SHARE: f64 = 0.001;

/// Number of compressed bytes per value from which on a column of strings is taken to hold a key. Repeated values take fewer.
const KEY_BYTES: f64 = 4.0;

/// Estimates the share of rows that filters keep; `None` unless it is small.
///
/// It looks at equalities with literals: on numbers, dates and times by the range of their values, on strings by how well they
/// compress.
pub(crate) fn share(filters: &[Expr], schema: &Schema, files: &[LiveFile], statistics: &Statistics) -> Option<f64> {
    let of = |filter: &Expr| {
        let (column, values) = match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (left.as_ref(), right.as_ref()) {
                (Expr::Column(column), Expr::Literal(..)) | (Expr::Literal(..), Expr::Column(column)) => (column, 1),
                _ => return None,
            },
            Expr::InList(list) if !list.negated && list.list.iter().all(|e| matches!(e, Expr::Literal(..))) => {
                let Expr::Column(column) = list.expr.as_ref() else { return None };
                (column, list.list.len())
            }
            _ => return None,
        };
        let at = schema.index_of(&column.name).ok()?;
        let field = schema.field(at);
        match field.data_type() {
            DataType::Utf8View | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                bytes_a_value(files, field_id(field)?).filter(|bytes| *bytes >= KEY_BYTES).map(|_| SHARE)
            }
            _ => {
                let column = &statistics.column_statistics[at];
                Some(values as f64 / width(&column.min_value, &column.max_value)?).filter(|share| *share < SHARE)
            }
        }
    };
    filters.iter().flat_map(split_conjunction).filter_map(of).min_by(f64::total_cmp)
}

/// Returns the number of compressed bytes per value of a column, over all files that record it.
fn bytes_a_value(files: &[LiveFile], id: i32) -> Option<f64> {
    let sized = files.iter().filter_map(|f| Some((f.file.stats(id)?.column_size? as f64, f.file.rows()? as f64)));
    let (bytes, rows) = sized.fold((0.0, 0.0), |sum, (bytes, rows)| (sum.0 + bytes, sum.1 + rows));
    (rows > 0.0).then(|| bytes / rows)
}

/// Returns the number of whole numbers from one bound to the other.
fn width(low: &Precision<ScalarValue>, high: &Precision<ScalarValue>) -> Option<f64> {
    let number = |value: &Precision<ScalarValue>| match value.get_value()?.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(Some(v)) => Some(v as f64),
        _ => None,
    };
    Some(number(high)? - number(low)? + 1.0)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;
    use datafusion::common::ColumnStatistics;
    use datafusion::logical_expr::{col, lit};

    use super::*;

    #[test]
    fn the_share_is_that_of_the_most_selective_equality_and_only_if_it_is_small() {
        let schema = Schema::new(vec![
            Field::new("wide", DataType::Int64, true),
            Field::new("narrow", DataType::Int64, true),
            Field::new("text", DataType::Utf8View, true),
        ]);
        let between = |low: i64, high: i64| ColumnStatistics {
            min_value: Precision::Exact(ScalarValue::Int64(Some(low))),
            max_value: Precision::Inexact(ScalarValue::Int64(Some(high))),
            ..ColumnStatistics::new_unknown()
        };
        let columns = vec![between(1, 1_000_000), between(1, 100), ColumnStatistics::new_unknown()];
        let statistics =
            Statistics { num_rows: Precision::Exact(10), total_byte_size: Precision::Absent, column_statistics: columns };
        let share = |filter: Expr| share(&[filter], &schema, &[], &statistics);
        let close =
            |share: Option<f64>, to: f64| assert!(share.is_some_and(|share| (share / to - 1.0).abs() < 1e-9), "{share:?}");
        close(share(col("wide").eq(lit(5_i64))), 1e-6);
        close(share(lit(5_i64).eq(col("wide"))), 1e-6);
        close(share(col("wide").in_list(vec![lit(1_i64), lit(2_i64)], false)), 2e-6);
        close(share(col("narrow").eq(lit(5_i64)).and(col("wide").eq(lit(5_i64)))), 1e-6);
        let others = [
            col("narrow").eq(lit(5_i64)),
            col("wide").in_list(vec![lit(1_i64)], true),
            col("wide").gt(lit(5_i64)),
            col("wide").eq(col("narrow")),
            col("text").eq(lit("no file tells its size")),
            col("wide").eq(lit(5_i64)).or(col("narrow").eq(lit(5_i64))),
        ];
        for other in others {
            assert_eq!(share(other.clone()), None, "{other}");
        }
    }
}
