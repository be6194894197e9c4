use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use iceberg::transform::BoxedTransformFunction;

use crate::{ReadError, Result};

/// What a partition or sort field's transform makes of a column.
///
/// The `iceberg` crate cuts `Binary` only, and readers have columns of bytes as `LargeBinary`.
pub fn transformed(function: &BoxedTransformFunction, column: ArrayRef) -> Result<ArrayRef> {
    let failed = |source| ReadError::Arrow { path: "a transform of binary".to_owned(), source };
    match column.data_type() {
        DataType::LargeBinary => {
            let made = function.transform(cast(&column, &DataType::Binary).map_err(failed)?)?;
            match made.data_type() {
                DataType::Binary => cast(&made, &DataType::LargeBinary).map_err(failed),
                _ => Ok(made),
            }
        }
        _ => Ok(function.transform(column)?),
    }
}
