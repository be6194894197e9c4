//! `CAST(… AS GEOMETRY)` and `CAST(… AS GEOGRAPHY)`.
//!
//! The cast checks that bytes are well-known binary (WKB), and adds the reference system of the type.

use std::collections::BTreeMap;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;

use super::function::{Unary, call};
use crate::error_wording::sql_type;
use crate::geo;

/// Returns the cast of an expression to a type of shapes. Fails for types other than binary.
pub(super) fn cast(expr: &Expr, to: &FieldRef, from: &DataType, safe: bool) -> Result<Expr> {
    match from {
        DataType::Null => {
            let about = FieldMetadata::new(to.metadata().iter().map(|(key, value)| (key.clone(), value.clone())).collect());
            Ok(Expr::Literal(ScalarValue::try_from(to.data_type())?, Some(about)))
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Ok(call(
            AsShapes { about: to.metadata().clone().into_iter().collect(), to: to.data_type().clone(), safe },
            expr.clone(),
        )),
        from if from.is_string() => plan_err!("a text can't be cast to a shape: use ST_GeomFromText(…)"),
        from => plan_err!("{} can't be cast to a shape", sql_type(from)),
    }
}

/// The function from bytes to shapes. Bytes that are not well-known binary are null if `safe`, else an error.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AsShapes {
    /// Metadata of the result's field: the extension type, its reference system and its edges.
    about: BTreeMap<String, String>,
    to: DataType,
    safe: bool,
}

impl Unary for AsShapes {
    fn name(&self) -> &'static str {
        if self.safe { "try_as_shapes" } else { "as_shapes" }
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        let about = self.about.clone().into_iter().collect();
        Ok(Field::new("", self.to.clone(), self.safe || input.is_nullable()).with_metadata(about))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        Ok(arrow::compute::cast(&geo::checked(values, self.safe)?, &self.to)?)
    }
}
