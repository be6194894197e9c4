//! Values of `INSERT … VALUES`, which are stored one by one.
//!
//! The planner would first convert all values of a column to one common type. Here a function around each value (`Store`)
//! converts it to its column's type.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{Expr, Values};

use crate::assignment::{TargetColumn, values_for};
use crate::error::external;
use crate::syntax_tree::{call, taken};
use crate::{QueryError, Result};

/// Prefix of the names of the functions that store values in columns.
const FUNCTION: &str = "\u{1f}store=";

/// Prefix of the names of the functions that return the defaults of columns.
const DEFAULT: &str = "\u{1f}default=";

/// Checks whether a value is the word `DEFAULT`.
pub(crate) fn is_default(value: &Expr) -> bool {
    matches!(value, Expr::Identifier(name) if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("default"))
}

/// Returns the default of a column as a call of a function that it registers.
pub(crate) fn known_default(column: &TargetColumn, value: ScalarValue, session: &mut SessionState) -> Result<Expr> {
    let name = format!("{DEFAULT}{}", column.name());
    let signature = Signature::nullary(Volatility::Immutable);
    session.register_udf(Arc::new(ScalarUDF::new_from_impl(ColumnDefault { name: name.clone(), value, signature })))?;
    Ok(call(&name, Vec::new()))
}

/// The function that returns the default of a column.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ColumnDefault {
    name: String,
    value: ScalarValue,
    signature: Signature,
}

impl ScalarUDFImpl for ColumnDefault {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> datafusion::error::Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> datafusion::error::Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// Puts the function that stores a value in its column around every value of some rows.
pub(crate) fn stored(values: &mut Values, columns: &[&TargetColumn], session: &mut SessionState) -> Result<()> {
    for (at, column) in columns.iter().enumerate() {
        session.register_udf(Arc::new(ScalarUDF::new_from_impl(Store::new(at, column.plain()))))?;
    }
    for row in &mut values.rows {
        if row.content.len() != columns.len() {
            return Err(QueryError::Statement(values_for(row.content.len(), columns.len())));
        }
        for (at, value) in row.content.iter_mut().enumerate() {
            *value = call(&format!("{FUNCTION}{at}"), vec![taken(value)]);
        }
    }
    Ok(())
}

/// The function that stores a value in a column.
#[derive(Debug)]
struct Store {
    name: String,
    column: TargetColumn,
    signature: Signature,
}

impl Store {
    fn new(at: usize, column: TargetColumn) -> Self {
        Self { name: format!("{FUNCTION}{at}"), column, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl PartialEq for Store {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.column.name(), self.column.data_type()) == (&other.name, other.column.name(), other.column.data_type())
    }
}

impl Eq for Store {}

impl Hash for Store {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Store {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> datafusion::error::Result<DataType> {
        Ok(self.column.data_type().clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> datafusion::error::Result<ColumnarValue> {
        match args.args.first() {
            Some(ColumnarValue::Array(array)) => Ok(ColumnarValue::Array(self.column.store(array).map_err(external)?)),
            Some(ColumnarValue::Scalar(scalar)) => {
                let stored = self.column.store(&scalar.to_array()?).map_err(external)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&stored, 0)?))
            }
            None => datafusion::common::exec_err!("there is no value for column {}", self.column.name()),
        }
    }
}
