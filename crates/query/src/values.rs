//! Values of `INSERT … VALUES`: each is stored as what it is. Rows of other types in the same column don't make it another first.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::Values;

use crate::error::external;
use crate::parameters::call;
use crate::select::taken;
use crate::store::Column;
use crate::{QueryError, Result};

/// What begins the names of the functions that store values in columns.
const FUNCTION: &str = "\u{1f}store=";

/// Makes every value of some rows one of its column.
pub(crate) fn stored(values: &mut Values, columns: &[&Column], session: &mut SessionState) -> Result<()> {
    for (at, column) in columns.iter().enumerate() {
        session.register_udf(Arc::new(ScalarUDF::new_from_impl(Store::new(at, column.plain()))))?;
    }
    for row in &mut values.rows {
        if row.content.len() != columns.len() {
            return Err(QueryError::Statement(format!("{} values for {} columns", row.content.len(), columns.len())));
        }
        for (at, value) in row.content.iter_mut().enumerate() {
            *value = call(&format!("{FUNCTION}{at}"), vec![taken(value)]);
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Store {
    name: String,
    column: Column,
    signature: Signature,
}

impl Store {
    fn new(at: usize, column: Column) -> Self {
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
