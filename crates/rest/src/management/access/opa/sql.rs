//! Row filters in Trino's SQL: names, types, literals and predicates.
//!
//! Names are those of the table's present schema. What Trino has no form for makes a predicate false. Start reading at
//! [`row_filter`].

use esker_access::{CompareOp, FilterExpr};
use esker_format::{PrimitiveType, Schema, Type};
use esker_types::quote_name;
use serde_json::Value;

use crate::iceberg::restrictions::bound;

/// Returns the expression of a row filter.
///
/// A disjunct that reads a field which the schema does not have, or that Trino can't evaluate, is false.
pub(super) fn row_filter(filter: &FilterExpr, schema: &Schema) -> String {
    let or_false = |one: &FilterExpr| predicate(one, schema).unwrap_or_else(|| FALSE.to_owned());
    match bound(filter.clone(), schema) {
        FilterExpr::Or(any) => any.iter().map(|one| format!("({})", or_false(one))).collect::<Vec<_>>().join(" OR "),
        one => or_false(&one),
    }
}

/// The predicate that no row passes.
const FALSE: &str = "false";

/// Joins predicates in parentheses; `None` if one of them is.
fn joined(parts: impl Iterator<Item = Option<String>>, word: &str) -> Option<String> {
    let parts: Vec<String> = parts.map(|part| part.map(|part| format!("({part})"))).collect::<Option<_>>()?;
    Some(parts.join(word))
}

/// Returns the expression of a predicate; `None` if Trino has none.
fn predicate(filter: &FilterExpr, schema: &Schema) -> Option<String> {
    let not = |negated: bool| if negated { "NOT " } else { "" };
    Some(match filter {
        FilterExpr::True => "true".to_owned(),
        FilterExpr::False => FALSE.to_owned(),
        FilterExpr::And(all) if all.is_empty() => "true".to_owned(),
        FilterExpr::And(all) => joined(all.iter().map(|one| predicate(one, schema)), " AND ")?,
        FilterExpr::Or(any) if any.is_empty() => FALSE.to_owned(),
        FilterExpr::Or(any) => joined(any.iter().map(|one| predicate(one, schema)), " OR ")?,
        FilterExpr::Not(one) => format!("NOT ({})", predicate(one, schema)?),
        FilterExpr::IsNull(id) => format!("{} IS NULL", column(*id, schema)?),
        FilterExpr::NotNull(id) => format!("{} IS NOT NULL", column(*id, schema)?),
        FilterExpr::IsNan(id) => format!("is_nan({})", column(*id, schema)?),
        FilterExpr::NotNan(id) => format!("NOT is_nan({})", column(*id, schema)?),
        FilterExpr::Compare { op, field_id, value } => {
            let (column, ty) = (column(*field_id, schema)?, primitive(*field_id, schema)?);
            let compared = format!("{column} {} {}", op.symbol(), literal(value, ty)?);
            let is_float = matches!(ty, PrimitiveType::Float | PrimitiveType::Double);
            // Elsewhere NaN is greater than every number, in Trino's comparisons it is not.
            match op {
                CompareOp::Gt | CompareOp::GtEq if is_float => format!("{compared} OR is_nan({column})"),
                _ => compared,
            }
        }
        FilterExpr::In { field_id, values, negated } => {
            let (column, ty) = (column(*field_id, schema)?, primitive(*field_id, schema)?);
            let literals: Vec<String> = values.iter().map(|value| literal(value, ty)).collect::<Option<_>>()?;
            match (literals.is_empty(), negated) {
                (true, false) => FALSE.to_owned(),
                (true, true) => format!("{column} IS NOT NULL"),
                (false, negated) => format!("{column} {}IN ({})", not(*negated), literals.join(", ")),
            }
        }
        FilterExpr::StartsWith { field_id, prefix, negated } => {
            format!("{}starts_with({}, {})", not(*negated), column(*field_id, schema)?, text(prefix))
        }
    })
}

/// Returns the primitive type of a field.
fn primitive(id: i32, schema: &Schema) -> Option<&PrimitiveType> {
    schema.field_by_id(id)?.field_type.as_primitive()
}

/// Returns the expression of a column, or of a field of structs in one; `None` for what lies in a list or a map.
fn column(id: i32, schema: &Schema) -> Option<String> {
    let name = identifier(&schema.field_by_id(id)?.name);
    match schema.parent_of(id) {
        None => Some(name),
        Some(parent) => {
            schema.field_by_id(parent)?.field_type.as_struct()?;
            Some(format!("{}.{name}", column(parent, schema)?))
        }
    }
}

/// Quotes a name.
pub(super) fn identifier(name: &str) -> String {
    quote_name(name, '"')
}

/// Returns a string literal.
pub(super) fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Returns a constant as a literal of its type; `None` if it has no form, or is not the JSON of a value of the type.
///
/// Spec: "JSON single-value serialization".
pub(super) fn literal(value: &Value, ty: &PrimitiveType) -> Option<String> {
    let of = |keyword: &str, value: &str| format!("{keyword} {}", text(value));
    let number = || value.is_number().then(|| value.to_string());
    Some(match ty {
        PrimitiveType::Boolean => value.as_bool()?.to_string(),
        PrimitiveType::Int => of("INTEGER", &number()?),
        PrimitiveType::Long => of("BIGINT", &number()?),
        PrimitiveType::Float => of("REAL", &number()?),
        PrimitiveType::Double => of("DOUBLE", &number()?),
        PrimitiveType::Decimal { precision, scale } => {
            format!("CAST({} AS decimal({precision}, {scale}))", text(value.as_str()?))
        }
        PrimitiveType::Date => of("DATE", value.as_str()?),
        PrimitiveType::Time => of("TIME", value.as_str()?),
        PrimitiveType::Timestamp | PrimitiveType::TimestampNs => of("TIMESTAMP", &value.as_str()?.replacen('T', " ", 1)),
        PrimitiveType::Timestamptz | PrimitiveType::TimestamptzNs => {
            let instant = value.as_str()?.strip_suffix("+00:00")?.replacen('T', " ", 1);
            of("TIMESTAMP", &format!("{instant} UTC"))
        }
        PrimitiveType::String => text(value.as_str()?),
        PrimitiveType::Uuid => of("UUID", value.as_str()?),
        PrimitiveType::Fixed(_) | PrimitiveType::Binary => {
            let hex = value.as_str()?;
            let is_hex = hex.len() % 2 == 0 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_hex.then(|| format!("X'{hex}'"))?
        }
        PrimitiveType::Unknown | PrimitiveType::Geometry { .. } | PrimitiveType::Geography { .. } | PrimitiveType::Other(_) => {
            return None;
        }
    })
}

/// Returns the name of a type in Trino; `None` if its connector for Iceberg does not have it.
pub(super) fn type_name(ty: &Type) -> Option<String> {
    Some(match ty {
        Type::Primitive(ty) => primitive_name(ty)?,
        Type::Struct(fields) => {
            let fields = fields.fields().iter().map(|f| Some(format!("{} {}", identifier(&f.name), type_name(&f.field_type)?)));
            format!("row({})", fields.collect::<Option<Vec<_>>>()?.join(", "))
        }
        Type::List(list) => format!("array({})", type_name(&list.element_field.field_type)?),
        Type::Map(map) => {
            format!("map({}, {})", type_name(&map.key_field.field_type)?, type_name(&map.value_field.field_type)?)
        }
        Type::Variant => return None,
    })
}

/// Returns the name of a primitive type in Trino.
fn primitive_name(ty: &PrimitiveType) -> Option<String> {
    let name = match ty {
        PrimitiveType::Boolean => "boolean",
        PrimitiveType::Int => "integer",
        PrimitiveType::Long => "bigint",
        PrimitiveType::Float => "real",
        PrimitiveType::Double => "double",
        PrimitiveType::Decimal { precision, scale } => return Some(format!("decimal({precision}, {scale})")),
        PrimitiveType::Date => "date",
        PrimitiveType::Time => "time(6)",
        PrimitiveType::Timestamp => "timestamp(6)",
        PrimitiveType::Timestamptz => "timestamp(6) with time zone",
        PrimitiveType::TimestampNs => "timestamp(9)",
        PrimitiveType::TimestamptzNs => "timestamp(9) with time zone",
        PrimitiveType::String => "varchar",
        PrimitiveType::Uuid => "uuid",
        PrimitiveType::Fixed(_) | PrimitiveType::Binary => "varbinary",
        PrimitiveType::Unknown | PrimitiveType::Geometry { .. } | PrimitiveType::Geography { .. } | PrimitiveType::Other(_) => {
            return None;
        }
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use esker_format::{NestedField, StructType};
    use serde_json::json;

    use super::*;

    /// A schema with a column of each type that Trino has, by rising field ids from 1.
    fn schema() -> Schema {
        let inner = StructType::new(vec![Arc::new(NestedField::optional(20, "in\"ner", PrimitiveType::String))]);
        let columns = [
            ("flag", PrimitiveType::Boolean),
            ("i", PrimitiveType::Int),
            ("l", PrimitiveType::Long),
            ("d", PrimitiveType::Double),
            ("price", PrimitiveType::Decimal { precision: 10, scale: 2 }),
            ("day", PrimitiveType::Date),
            ("at", PrimitiveType::Timestamp),
            ("instant", PrimitiveType::Timestamptz),
            ("s", PrimitiveType::String),
            ("u", PrimitiveType::Uuid),
            ("b", PrimitiveType::Binary),
        ];
        let columns = (1..).zip(columns).map(|(id, (name, ty))| Arc::new(NestedField::optional(id, name, ty)));
        let nested = Arc::new(NestedField::optional(19, "st", Type::Struct(inner)));
        Schema::new(0, columns.chain([nested]).collect()).expect("a schema")
    }

    fn compare(op: CompareOp, field_id: i32, value: Value) -> FilterExpr {
        FilterExpr::Compare { op, field_id, value }
    }

    fn sql(filter: &FilterExpr) -> String {
        row_filter(filter, &schema())
    }

    #[test]
    fn constants_are_literals_of_the_type_of_their_column() {
        for (id, value, expected) in [
            (1, json!(true), "\"flag\" = true"),
            (2, json!(-3), "\"i\" = INTEGER '-3'"),
            (3, json!(4), "\"l\" = BIGINT '4'"),
            (4, json!(1.5), "\"d\" = DOUBLE '1.5'"),
            (5, json!("14.20"), "\"price\" = CAST('14.20' AS decimal(10, 2))"),
            (6, json!("2026-01-31"), "\"day\" = DATE '2026-01-31'"),
            (7, json!("2026-01-31T22:31:08.123456"), "\"at\" = TIMESTAMP '2026-01-31 22:31:08.123456'"),
            (8, json!("2026-01-31T22:31:08.123456+00:00"), "\"instant\" = TIMESTAMP '2026-01-31 22:31:08.123456 UTC'"),
            (9, json!("it's"), "\"s\" = 'it''s'"),
            (10, json!("f79c3e09-677c-4bbd-a479-3f349cb785e7"), "\"u\" = UUID 'f79c3e09-677c-4bbd-a479-3f349cb785e7'"),
            (11, json!("00FF"), "\"b\" = X'00FF'"),
            (20, json!("x"), "\"st\".\"in\"\"ner\" = 'x'"),
        ] {
            assert_eq!(sql(&compare(CompareOp::Eq, id, value)), expected);
        }
    }

    #[test]
    fn what_is_not_a_value_of_the_type_lets_no_row_through() {
        let injected = json!("0' OR true --");
        for (id, value) in [(1, json!("true")), (2, json!("3")), (11, injected), (8, json!("2026")), (99, json!(1))] {
            assert_eq!(sql(&compare(CompareOp::Eq, id, value.clone())), "false", "{id} {value}");
            let or = FilterExpr::Or(vec![compare(CompareOp::Eq, id, value), FilterExpr::IsNull(9)]);
            assert!(["(false) OR (\"s\" IS NULL)", "\"s\" IS NULL"].contains(&sql(&or).as_str()), "{}", sql(&or));
        }
        let not = FilterExpr::Not(Box::new(compare(CompareOp::Eq, 2, json!("3"))));
        assert_eq!(sql(&not), "false", "also under a negation");
    }

    #[test]
    fn predicates_are_put_together_as_they_are() {
        let values = vec![json!(1), json!(2)];
        for (filter, expected) in [
            (FilterExpr::True, "true"),
            (FilterExpr::False, "false"),
            (
                FilterExpr::And(vec![
                    FilterExpr::NotNull(3),
                    FilterExpr::In { field_id: 2, values: values.clone(), negated: true },
                ]),
                "(\"l\" IS NOT NULL) AND (\"i\" NOT IN (INTEGER '1', INTEGER '2'))",
            ),
            (FilterExpr::Not(Box::new(FilterExpr::IsNan(4))), "NOT (is_nan(\"d\"))"),
            (compare(CompareOp::GtEq, 4, json!(1.0)), "\"d\" >= DOUBLE '1.0' OR is_nan(\"d\")"),
            (compare(CompareOp::Lt, 4, json!(1.0)), "\"d\" < DOUBLE '1.0'"),
            (FilterExpr::StartsWith { field_id: 9, prefix: "a'".into(), negated: true }, "NOT starts_with(\"s\", 'a''')"),
            (FilterExpr::In { field_id: 2, values: Vec::new(), negated: false }, "false"),
        ] {
            assert_eq!(sql(&filter), expected);
        }
    }
}
