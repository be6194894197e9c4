//! SQL types with a length, such as `VARCHAR(3)` and `TIMESTAMP(0)`.
//!
//! Arrow's types have no length. The metadata of a cast's target field holds it, and the cast cuts the values.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Expr;

use super::function::{Unary, call};

/// Metadata key of the length in a cast's target field. The field of an expression never has this key.
const LENGTH: &str = "esker.length";

/// The function that cuts texts to a number of characters, and times to a number of digits of a second's fraction.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Truncate {
    length: u32,
}

/// Returns the field of a type with a length.
pub(super) fn sized(ty: DataType, length: u64) -> FieldRef {
    Arc::new(Field::new("", ty, true).with_metadata([(LENGTH.to_owned(), length.to_string())].into()))
}

/// Returns the length in a field's metadata.
///
/// # Errors
///
/// Returns [`DataFusionError::Plan`] if a field inside a nested type has a length, or if the length exceeds 32 bits.
pub(super) fn length(field: &Field) -> Result<Option<u32>> {
    if has_length_inside(field.data_type()) {
        return Err(DataFusionError::Plan("types with a length are not served inside lists, structs and maps".to_owned()));
    }
    let length = |text: &String| text.parse().map_err(|e| DataFusionError::Plan(format!("a length of {text}: {e}")));
    field.metadata().get(LENGTH).map(length).transpose()
}

/// Returns true if a field inside a nested type has a length.
fn has_length_inside(ty: &DataType) -> bool {
    let has_length = |field: &FieldRef| field.metadata().contains_key(LENGTH) || has_length_inside(field.data_type());
    match ty {
        DataType::Struct(fields) => fields.iter().any(has_length),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) | DataType::Map(item, _) => {
            has_length(item)
        }
        _ => false,
    }
}

/// Cuts the values of an expression to a length.
pub(super) fn cut(expr: Expr, length: u32) -> Expr {
    call(Truncate { length }, expr)
}

impl Unary for Truncate {
    fn name(&self) -> &'static str {
        "cut"
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        Ok(Field::new("", input.data_type().clone(), input.is_nullable()))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let ty = values.data_type();
        let digits = match ty {
            DataType::Timestamp(unit, _) | DataType::Time64(unit) => match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9_u32,
            },
            _ => {
                let texts = cast(values, &DataType::Utf8)?;
                let length = usize::try_from(self.length).map_err(|e| DataFusionError::External(Box::new(e)))?;
                let short = |text: &str| text.char_indices().nth(length).map_or(text.len(), |(at, _)| at);
                let cut = texts.as_string::<i32>().iter().map(|text| text.map(|text| &text[..short(text)]));
                return Ok(cast(&cut.collect::<StringArray>(), ty)?);
            }
        };
        let unit = 10_i64.pow(digits.saturating_sub(self.length));
        let plain = cast(values, &DataType::Int64)?;
        // The remainder is never negative, so that a time before the epoch is rounded towards the past, too.
        let cut: Int64Array = plain.as_primitive::<Int64Type>().unary(|v| v.saturating_sub(v.rem_euclid(unit)));
        Ok(cast(&cut, ty)?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampMicrosecondArray;
    use arrow::datatypes::TimestampMicrosecondType;

    use super::*;

    #[test]
    fn texts_are_cut_to_characters_and_timestamps_to_digits() {
        let cut = |length, values: ArrayRef| Truncate { length }.apply(&values).expect("cut");
        let texts = cut(3, Arc::new(StringArray::from(vec![Some("äöüß"), Some("ab"), Some(""), None])));
        assert_eq!(texts.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("äöü"), Some("ab"), Some(""), None]);
        let micros = cut(3, Arc::new(TimestampMicrosecondArray::from(vec![1_999, -1, i64::MIN])));
        assert_eq!(micros.as_primitive::<TimestampMicrosecondType>().values()[..2], [1_000, -1_000]);
    }
}
