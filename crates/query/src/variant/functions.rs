//! The functions of variants that statements call by name: `parse_json`, `to_json`, `variant_get`, and `try_parse_json` and
//! `try_variant_get`, which return null instead of an error.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::scalar::ScalarValue;
use esker_read::{VariantRows, is_variant, variant_type};

use super::{Extract, Path, json, texts};
use crate::semantics::{null_if_untyped, variant_type_named};

/// The operation of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    /// Makes a variant of JSON. A text that is not JSON is null if `safe`, else an error.
    Parse { safe: bool },
    /// Makes JSON of a variant.
    Print,
    /// Takes a part of a variant. A value that cannot be converted is null if `safe`, else an error.
    Get { safe: bool },
}

/// A function of variants.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    name: &'static str,
    does: Operation,
    signature: Signature,
}

/// Returns the functions of variants that statements call by name.
pub(crate) fn functions() -> Vec<ScalarUDF> {
    let one = |name, does| ScalarUDF::new_from_impl(Function::of(name, does));
    vec![
        one("parse_json", Operation::Parse { safe: false }),
        one("try_parse_json", Operation::Parse { safe: true }),
        one("to_json", Operation::Print),
        one("variant_get", Operation::Get { safe: false }),
        one("try_variant_get", Operation::Get { safe: true }),
    ]
}

/// Returns a field of a variant, as a variant.
pub(crate) fn field_of_variant(variant: Expr, name: &str) -> Expr {
    let path = format!("$['{}']", name.replace('\\', r"\\").replace('\'', r"\'"));
    ScalarUDF::new_from_impl(Function::of("variant_get", Operation::Get { safe: false })).call(vec![variant, lit(path)])
}

/// Makes variants of texts of JSON; null stays null.
///
/// A text that is not JSON is null if `safe`, else an error.
pub(super) fn parsed(texts: &ArrayRef, safe: bool) -> Result<ArrayRef> {
    let texts = cast(texts, &DataType::Utf8)?;
    let mut made = VariantRows::default();
    for text in texts.as_string::<i32>() {
        match text.map(json::parse) {
            Some(Ok(variant)) => made.append(variant),
            Some(Err(what)) if !safe => {
                let shown: String = text.unwrap_or_default().chars().take(80).collect();
                return Err(DataFusionError::Execution(format!("'{shown}' is not JSON: {what}")));
            }
            _ => made.append_null(),
        }
    }
    Ok(made.finish()?)
}

/// Returns the error for a wrong call of a function.
fn wrong<T>(function: &str, what: &str) -> Result<T> {
    Err(DataFusionError::Plan(format!("{function}: {what}")))
}

/// Returns the part that a call of `variant_get` or `try_variant_get` takes.
///
/// `rest` holds the arguments after the first; those that are no literals are `None`. Fails if the path or the type is missing or
/// invalid.
pub(crate) fn extract(function: &str, safe: bool, rest: &[Option<&ScalarValue>]) -> Result<Extract> {
    let text = |at: usize| rest.get(at).copied().flatten().and_then(|value| value.try_as_str().flatten());
    let Some(path) = text(0) else { return wrong(function, "the second argument must be a path, as '$.a.b'") };
    let to = match rest.len() {
        1 => variant_type(),
        _ => match text(1) {
            Some(name) => variant_type_named(name)?,
            None => return wrong(function, "the third argument must be the name of a type, as 'int'"),
        },
    };
    Ok(Extract { path: Path::parse(path)?, to, safe })
}

impl Function {
    fn of(name: &'static str, does: Operation) -> Self {
        Self { name, does, signature: Signature::variadic_any(Volatility::Immutable) }
    }

    fn wrong<T>(&self, what: &str) -> Result<T> {
        wrong(self.name, what)
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        exec_err!("the type of {} depends on its arguments", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<&DataType> = args.arg_fields.iter().map(|field| field.data_type()).collect();
        let given = types.first().copied();
        let is_text = given.is_some_and(|ty| ty.is_string() || ty.is_null());
        let of_variant = given.is_some_and(|ty| is_variant(ty) || ty.is_null());
        let ty = match self.does {
            Operation::Parse { .. } if types.len() != 1 || !is_text => return self.wrong("it takes a text"),
            Operation::Parse { .. } => variant_type(),
            Operation::Print if types.len() != 1 || !of_variant => {
                return self.wrong("it takes a variant; CAST(… AS VARIANT) makes one");
            }
            Operation::Print => DataType::Utf8,
            Operation::Get { .. } if !(2..=3).contains(&types.len()) || !of_variant => {
                return self.wrong("it takes a variant, a path and the name of a type");
            }
            Operation::Get { safe } => extract(self.name, safe, &args.scalar_arguments[1..])?.to,
        };
        Ok(Arc::new(Field::new(self.name, ty, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(null) = null_if_untyped(&args)? {
            return Ok(null);
        }
        let Some((first, rest)) = args.args.split_first() else { return self.wrong("it takes an argument") };
        let made = |values: &ArrayRef| match self.does {
            Operation::Parse { safe } => parsed(values, safe),
            Operation::Print => Ok(Arc::new(texts(values.as_struct())) as ArrayRef),
            Operation::Get { safe } => {
                let scalars: Vec<Option<&ScalarValue>> =
                    rest.iter().map(|value| if let ColumnarValue::Scalar(value) = value { Some(value) } else { None }).collect();
                extract(self.name, safe, &scalars)?.of(values)
            }
        };
        match first {
            ColumnarValue::Array(values) => Ok(ColumnarValue::Array(made(values)?)),
            ColumnarValue::Scalar(value) => {
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&made(&value.to_array()?)?, 0)?))
            }
        }
    }
}
