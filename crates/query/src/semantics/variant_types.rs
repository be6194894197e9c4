//! The type names that `variant_get` takes, and the types that variants can be read as.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, DataType as SqlType, ExactNumberInfo, StructField};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use esker_read::geo_metadata;

use super::types::SqlTypes;

/// Greatest number of types that may be nested in one another.
const DEEPEST: usize = 20;

/// Returns the type of a name, as a `CAST` has it. Fails if a variant cannot be read as the type.
pub(crate) fn variant_type_named(name: &str) -> Result<DataType> {
    let wrong = || DataFusionError::Plan(format!("a variant can't be read as type '{name}'"));
    // The parser's work grows faster than the depth of the types, so the depth is checked first.
    if name.chars().filter(|c| matches!(c, '<' | '[' | '(')).count() > DEEPEST {
        return Err(DataFusionError::Plan(format!("a type that a variant is read as may nest at most {DEEPEST} others")));
    }
    let mut parser = Parser::new(&GenericDialect {}).try_with_sql(name).map_err(|_| wrong())?;
    let ty = parser.parse_data_type().map_err(|_| wrong())?;
    if parser.peek_token() != datafusion::sql::sqlparser::tokenizer::Token::EOF {
        return Err(wrong());
    }
    type_of(&ty)?.ok_or_else(wrong)
}

/// Returns the Arrow type of a type of SQL, or `None` if a variant cannot be read as it.
fn type_of(ty: &SqlType) -> Result<Option<DataType>> {
    if let Some(own) = SqlTypes.plan_type_field(ty)? {
        if geo_metadata(&own).is_some() {
            return Err(DataFusionError::Plan(format!(
                "a variant holds no shapes: use CAST(variant_get(…) AS {ty}) for its bytes"
            )));
        }
        if !own.metadata().is_empty() {
            let what = format!("'{ty}' has a length: use CAST(variant_get(…) AS {ty}) to cut a value");
            return Err(DataFusionError::Plan(what));
        }
        return Ok(Some(match own.data_type() {
            DataType::Utf8View => DataType::Utf8,
            other => other.clone(),
        }));
    }
    Ok(Some(match ty {
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::TinyInt(_) => DataType::Int8,
        SqlType::SmallInt(_) | SqlType::Int2(_) => DataType::Int16,
        SqlType::Int(_) | SqlType::Integer(_) | SqlType::Int4(_) => DataType::Int32,
        SqlType::BigInt(_) | SqlType::Int8(_) => DataType::Int64,
        SqlType::Float(_) | SqlType::Real | SqlType::Float4 => DataType::Float32,
        SqlType::Double(_) | SqlType::DoublePrecision | SqlType::Float8 => DataType::Float64,
        SqlType::Decimal(ExactNumberInfo::PrecisionAndScale(precision, scale))
        | SqlType::Numeric(ExactNumberInfo::PrecisionAndScale(precision, scale)) => {
            let (precision, scale) = (u8::try_from(*precision).ok(), i8::try_from(*scale).ok());
            match (precision.filter(|p| (1..=38).contains(p)), scale) {
                (Some(precision), Some(scale)) => DataType::Decimal128(precision, scale),
                _ => return Ok(None),
            }
        }
        SqlType::Decimal(ExactNumberInfo::Precision(precision)) | SqlType::Numeric(ExactNumberInfo::Precision(precision)) => {
            match u8::try_from(*precision).ok().filter(|p| (1..=38).contains(p)) {
                Some(precision) => DataType::Decimal128(precision, 0),
                None => return Ok(None),
            }
        }
        SqlType::Date => DataType::Date32,
        SqlType::String(_) | SqlType::Text => DataType::Utf8,
        SqlType::Array(ArrayElemTypeDef::AngleBracket(item) | ArrayElemTypeDef::SquareBracket(item, None)) => {
            match type_of(item)? {
                Some(item) => DataType::new_list(item, true),
                None => return Ok(None),
            }
        }
        SqlType::Struct(fields, _) => {
            let field = |field: &StructField| -> Result<Option<Field>> {
                let name = field.field_name.as_ref().map(|name| name.value.clone());
                Ok(name.zip(type_of(&field.field_type)?).map(|(name, ty)| Field::new(name, ty, true)))
            };
            match fields.iter().map(field).collect::<Result<Option<Vec<_>>>>()? {
                Some(fields) if !fields.is_empty() => DataType::Struct(fields.into()),
                _ => return Ok(None),
            }
        }
        _ => return Ok(None),
    }))
}

/// Returns the Arrow type of a map, or `None` if a variant cannot be read as its keys or values.
pub(super) fn type_of_map(key: &SqlType, value: &SqlType) -> Result<Option<DataType>> {
    Ok(type_of(key)?.zip(type_of(value)?).map(|(key, value)| map(key, value)))
}

/// Returns the Arrow type of a map from `key` to `value`.
fn map(key: DataType, value: DataType) -> DataType {
    let pair = vec![Field::new("key", key, false), Field::new("value", value, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair.into()), false)), false)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;
    use esker_read::variant_type;

    use super::*;

    #[test]
    fn types_go_by_their_names_in_sql() {
        let nullable = |name: &str, ty| Field::new(name, ty, true);
        for (name, ty) in [
            ("int", DataType::Int32),
            ("BIGINT", DataType::Int64),
            ("string", DataType::Utf8),
            ("varchar", DataType::Utf8),
            ("double", DataType::Float64),
            ("decimal(10, 2)", DataType::Decimal128(10, 2)),
            ("date", DataType::Date32),
            ("timestamp", DataType::Timestamp(TimeUnit::Microsecond, None)),
            ("timestamp with time zone", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
            ("boolean", DataType::Boolean),
            ("variant", variant_type()),
            ("array<int>", DataType::new_list(DataType::Int32, true)),
            ("int[]", DataType::new_list(DataType::Int32, true)),
            (
                "struct<a int, b text>",
                DataType::Struct(vec![nullable("a", DataType::Int32), nullable("b", DataType::Utf8)].into()),
            ),
            ("map(varchar, bigint)", map(DataType::Utf8, DataType::Int64)),
        ] {
            assert_eq!(variant_type_named(name).expect(name), ty, "{name}");
        }
        let deep = format!("int{}", "[]".repeat(4000));
        for wrong in [deep.as_str(), "varchar(2)", "timestamp(0)", "", "quux", "int int", "decimal(99)", "struct<"] {
            variant_type_named(wrong).map(drop).expect_err(wrong);
        }
    }
}
