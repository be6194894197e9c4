//! `x op ANY (list)` and `x op ALL (list)` (SQL:2016 8.9, PostgreSQL 17 9.25).
//!
//! They mean `x op item OR …` and `x op item AND …`, and are null if a null decides. DataFusion's own functions ignore nulls in
//! the list.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, make_comparator};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;
use esker_read::normalize_nan_and_zero;

use super::common_type::common;

/// The operators that may stand before `ANY` and `ALL`.
const OPERATORS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

/// Returns the name of the function that compares with any item of a list, or with all. Returns `None` for other operators.
pub(crate) fn name(op: &BinaryOperator, all: bool) -> Option<String> {
    let op = op.to_string();
    OPERATORS.contains(&op.as_str()).then(|| called(&op, all))
}

/// Returns the name of the function for an operator.
fn called(op: &str, all: bool) -> String {
    format!("{op} {}", if all { "ALL" } else { "ANY" })
}

/// Returns the functions for all operators.
pub(super) fn functions() -> impl Iterator<Item = ScalarUDF> {
    let of = |op: &'static str| {
        [false, true].map(|all| {
            let (name, signature) = (called(op, all), Signature::user_defined(Volatility::Immutable));
            ScalarUDF::new_from_impl(Quantified { op, all, name, signature })
        })
    };
    OPERATORS.into_iter().flat_map(of)
}

/// The function for one operator, with any item or with all.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Quantified {
    op: &'static str,
    all: bool,
    name: String,
    signature: Signature,
}

impl Quantified {
    /// Returns true if the operator holds for values in this order.
    fn holds(&self, order: Ordering) -> bool {
        match self.op {
            "=" => order.is_eq(),
            "<>" => order.is_ne(),
            "<" => order.is_lt(),
            "<=" => order.is_le(),
            ">" => order.is_gt(),
            _ => order.is_ge(),
        }
    }

    /// Compares the value of each row with the row's list.
    fn compared(&self, values: &ArrayRef, lists: &ArrayRef) -> Result<BooleanArray> {
        let lists = lists.as_list::<i32>();
        let (values, items) = (normalize_nan_and_zero(values)?, normalize_nan_and_zero(lists.values())?);
        let compare = make_comparator(&values, &items, SortOptions::default())?;
        let mut found = BooleanBuilder::with_capacity(lists.len());
        for (row, bounds) in lists.value_offsets().windows(2).enumerate() {
            let (from, to) = (bounds[0].cast_unsigned() as usize, bounds[1].cast_unsigned() as usize);
            if lists.is_null(row) {
                found.append_null();
                continue;
            }
            let known = |item: &usize| !values.is_null(row) && !items.is_null(*item);
            let decided = (from..to).filter(known).any(|item| self.holds(compare(row, item)) != self.all);
            match decided {
                true => found.append_value(!self.all),
                false if (from..to).all(|item| known(&item)) => found.append_value(self.all),
                false => found.append_null(),
            }
        }
        Ok(found.finish())
    }
}

impl ScalarUDFImpl for Quantified {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let none = |what: String| DataFusionError::Plan(format!("{}: {what}", self.name));
        let [value, list] = types else { return Err(none("it compares a value with a list".to_owned())) };
        let item = match list {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => item.data_type().clone(),
            DataType::Null => DataType::Null,
            other => return Err(none(format!("{other} is not a list"))),
        };
        let one = match (value, &item) {
            (DataType::Null, DataType::Null) => Some(DataType::Boolean),
            (a, b) if a.is_null() || b.is_null() || a.is_string() == b.is_string() => common(&[a.clone(), b.clone()]),
            _ => None,
        };
        let one = one.ok_or_else(|| none(format!("{value} and items of {item} have no common type")))?;
        Ok(vec![one.clone(), DataType::List(Arc::new(Field::new_list_field(one, true)))])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [values, lists] = arrays.as_slice() else {
            return Err(DataFusionError::Internal(format!("{} of {} arguments", self.name, arrays.len())));
        };
        let found: ArrayRef = Arc::new(self.compared(values, lists)?);
        Ok(match arguments.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?),
            false => ColumnarValue::Array(found),
        })
    }
}
