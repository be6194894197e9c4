//! `CAST(… AS GEOMETRY)` and `CAST(… AS GEOGRAPHY)`: bytes that are well-known binary (WKB), with the reference system that the type says.

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

/// A cast to a type of shapes.
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
        from if from.is_string() => plan_err!("a text can't be cast to shapes: ST_GeomFromText(…) makes one of it"),
        from => plan_err!("{} can't be cast to shapes", sql_type(from)),
    }
}

/// Bytes that are well-known binary as shapes of a reference system; others are null, or an error.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AsShapes {
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
