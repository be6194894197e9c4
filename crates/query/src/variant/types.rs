//! The names of types that `variant_get` takes.

use arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, DataType as SqlType, ExactNumberInfo};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::semantics::Types;

/// Types within one another, at most.
const DEEPEST: usize = 20;

/// The type of a name, as in a `CAST`.
pub(super) fn named(name: &str) -> Result<DataType> {
    let wrong = || DataFusionError::Plan(format!("'{name}' is no type that a variant can be read as"));
    // The parser's work grows faster than the types within one another.
    if name.chars().filter(|c| matches!(c, '<' | '[')).count() > DEEPEST {
        return Err(DataFusionError::Plan(format!("a type that a variant is read as has at most {DEEPEST} others within it")));
    }
    let mut parser = Parser::new(&GenericDialect {}).try_with_sql(name).map_err(|_| wrong())?;
    let ty = parser.parse_data_type().map_err(|_| wrong())?;
    if parser.peek_token() != datafusion::sql::sqlparser::tokenizer::Token::EOF {
        return Err(wrong());
    }
    of(&ty)?.ok_or_else(wrong)
}

fn of(ty: &SqlType) -> Result<Option<DataType>> {
    if let Some(own) = Types.plan_type_field(ty)? {
        if !own.metadata().is_empty() {
            let what = format!("'{ty}' has a length: CAST(variant_get(…) AS {ty}) cuts a value");
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
        SqlType::Array(ArrayElemTypeDef::AngleBracket(item) | ArrayElemTypeDef::SquareBracket(item, None)) => match of(item)? {
            Some(item) => DataType::new_list(item, true),
            None => return Ok(None),
        },
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;
    use esker_read::variant_type;

    use super::*;

    #[test]
    fn types_go_by_their_names_in_sql() {
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
        ] {
            assert_eq!(named(name).expect(name), ty, "{name}");
        }
        let deep = format!("int{}", "[]".repeat(4000));
        for wrong in [deep.as_str(), "varchar(2)", "timestamp(0)", "", "quux", "int int", "decimal(99)", "struct<"] {
            named(wrong).map(drop).expect_err(wrong);
        }
    }
}
