//! Column masks in Trino's SQL.
//!
//! A mask inside of a column replaces the field in a new row, array or map, and all else stays. A mask that Trino has no form for
//! makes the whole column NULL. Start reading at [`column_mask`].

use esker_access::MaskAction;
use esker_format::{NestedField, PrimitiveType, Type};
use uuid::Uuid;

use super::sql::{identifier, type_name};

/// The masks of a table for a user, and the salt of the query that they are for.
pub(super) struct Masks<'a> {
    pub(super) masks: &'a [(i32, MaskAction)],
    /// The salt of the query, in hexadecimal; without it, `sha-256-query-local` has no form.
    pub(super) salt: Option<&'a str>,
}

/// A mask that Trino has no form for.
struct NoForm;

/// Returns the expression that stands for a column; `None` if nothing in it is masked.
pub(super) fn column_mask(column: &NestedField, masks: &Masks<'_>) -> Option<String> {
    match masks.masked(column, &identifier(&column.name), 0) {
        Ok(masked) => masked,
        Err(NoForm) => Some(null_of(&column.field_type)),
    }
}

/// Returns NULL as a type.
fn null_of(ty: &Type) -> String {
    type_name(ty).map_or_else(|| "NULL".to_owned(), |name| format!("CAST(NULL AS {name})"))
}

impl Masks<'_> {
    /// Returns the expression that stands for a field with the value `value`; `None` if nothing in it is masked.
    ///
    /// `depth` is the number of lambda expressions around it.
    fn masked(&self, field: &NestedField, value: &str, depth: usize) -> Result<Option<String>, NoForm> {
        let ty = &*field.field_type;
        if let Some((_, action)) = self.masks.iter().find(|(id, _)| *id == field.id) {
            return self.action(*action, value, ty).map(Some).ok_or(NoForm);
        }
        let (element, key) = (format!("esker_e{depth}"), format!("esker_k{depth}"));
        Ok(match ty {
            Type::Primitive(_) | Type::Variant => None,
            Type::Struct(fields) => {
                let (mut parts, mut is_masked) = (Vec::new(), false);
                for field in fields.fields() {
                    let part = format!("{value}.{}", identifier(&field.name));
                    let masked = self.masked(field, &part, depth)?;
                    is_masked |= masked.is_some();
                    parts.push(masked.unwrap_or(part));
                }
                match is_masked {
                    true => {
                        let name = type_name(ty).ok_or(NoForm)?;
                        Some(format!("IF({value} IS NULL, NULL, CAST(ROW({}) AS {name}))", parts.join(", ")))
                    }
                    false => None,
                }
            }
            Type::List(list) => {
                let masked = self.masked(&list.element_field, &element, depth + 1)?;
                masked.map(|masked| format!("transform({value}, {element} -> {masked})"))
            }
            Type::Map(map) => {
                let masked = self.masked(&map.value_field, &element, depth + 1)?;
                masked.map(|masked| format!("transform_values({value}, ({key}, {element}) -> {masked})"))
            }
        })
    }

    /// Returns the expression of an action on a value; `None` if Trino has none, or the action does not fit the type.
    fn action(&self, action: MaskAction, value: &str, ty: &Type) -> Option<String> {
        let is_string = matches!(ty, Type::Primitive(PrimitiveType::String));
        match action {
            MaskAction::ReplaceWithNull => Some(null_of(ty)),
            MaskAction::MaskToFixedValue => fixed_value(ty),
            MaskAction::MaskAlphanum if is_string => Some(alphanum(value)),
            MaskAction::ShowFirst4 if is_string => {
                Some(format!("substr({value}, 1, 4) || {}", alphanum(&format!("substr({value}, 5)"))))
            }
            MaskAction::ShowLast4 if is_string => {
                let hidden = alphanum(&format!("substr({value}, 1, length({value}) - 4)"));
                Some(format!("IF(length({value}) <= 4, {value}, {hidden} || substr({value}, -4))"))
            }
            MaskAction::TruncateToYear => truncated("year", value, ty),
            MaskAction::TruncateToMonth => truncated("month", value, ty),
            MaskAction::Sha256Global => hashed(None, value, ty),
            MaskAction::Sha256QueryLocal => hashed(Some(self.salt?), value, ty),
            MaskAction::MaskAlphanum | MaskAction::ShowFirst4 | MaskAction::ShowLast4 => None,
        }
    }
}

/// Masks a string: digits become `n`, and all but some signs `x`.
fn alphanum(value: &str) -> String {
    format!("regexp_replace(regexp_replace({value}, '[^0-9(),.@\\-]', 'x'), '[0-9]', 'n')")
}

/// Truncates a date or timestamp. Timestamps with a time zone are in UTC, as Trino reads them from Iceberg.
fn truncated(unit: &str, value: &str, ty: &Type) -> Option<String> {
    let Type::Primitive(ty) = ty else { return None };
    let fits = matches!(
        ty,
        PrimitiveType::Date
            | PrimitiveType::Timestamp
            | PrimitiveType::Timestamptz
            | PrimitiveType::TimestampNs
            | PrimitiveType::TimestamptzNs
    );
    fits.then(|| format!("date_trunc('{unit}', {value})"))
}

/// Hashes a value. Integers are hashed as their bytes in little endian, and become the first bytes of the hash.
///
/// Spec: REST `Sha256Global`, `Sha256QueryLocal`.
fn hashed(salt: Option<&str>, value: &str, ty: &Type) -> Option<String> {
    let Type::Primitive(ty) = ty else { return None };
    let sha = |bytes: String| match salt {
        Some(salt) => format!("sha256(X'{salt}' || {bytes})"),
        None => format!("sha256({bytes})"),
    };
    let integer = |bits: u8| {
        let hash = sha(format!("reverse(to_big_endian_{bits}({value}))"));
        format!("from_big_endian_{bits}(reverse(substr({hash}, 1, {})))", bits / 8)
    };
    match ty {
        PrimitiveType::String => Some(format!("lower(to_hex({}))", sha(format!("to_utf8({value})")))),
        PrimitiveType::Binary => Some(sha(value.to_owned())),
        PrimitiveType::Int => Some(integer(32)),
        PrimitiveType::Long => Some(integer(64)),
        _ => None,
    }
}

/// Returns the fixed value of a type.
///
/// Spec: REST `MaskToFixedValue`.
fn fixed_value(ty: &Type) -> Option<String> {
    let name = type_name(ty)?;
    Some(match ty {
        Type::List(_) => format!("CAST(ARRAY[] AS {name})"),
        Type::Map(_) => format!("CAST(MAP() AS {name})"),
        Type::Struct(fields) => {
            let parts = fields.fields().iter().map(|field| fixed_value(&field.field_type));
            format!("CAST(ROW({}) AS {name})", parts.collect::<Option<Vec<_>>>()?.join(", "))
        }
        Type::Variant => return None,
        Type::Primitive(ty) => match ty {
            PrimitiveType::Boolean => "false".to_owned(),
            PrimitiveType::Int
            | PrimitiveType::Long
            | PrimitiveType::Float
            | PrimitiveType::Double
            | PrimitiveType::Decimal { .. } => format!("CAST(0 AS {name})"),
            PrimitiveType::Date => "DATE '1970-01-01'".to_owned(),
            PrimitiveType::Time => "TIME '00:00:00.000000'".to_owned(),
            PrimitiveType::Timestamp => "TIMESTAMP '1970-01-01 00:00:00.000000'".to_owned(),
            PrimitiveType::Timestamptz => "TIMESTAMP '1970-01-01 00:00:00.000000 UTC'".to_owned(),
            PrimitiveType::TimestampNs => "TIMESTAMP '1970-01-01 00:00:00.000000000'".to_owned(),
            PrimitiveType::TimestamptzNs => "TIMESTAMP '1970-01-01 00:00:00.000000000 UTC'".to_owned(),
            PrimitiveType::String => "CAST('XXXXXXXX' AS varchar)".to_owned(),
            PrimitiveType::Uuid => format!("UUID '{}'", Uuid::nil()),
            PrimitiveType::Fixed(length) => format!("X'{}'", "00".repeat(usize::try_from(*length).ok()?)),
            PrimitiveType::Binary => "X''".to_owned(),
            PrimitiveType::Unknown
            | PrimitiveType::Geometry { .. }
            | PrimitiveType::Geography { .. }
            | PrimitiveType::Other(_) => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use esker_format::{ListType, StructType};

    use super::*;

    fn mask(column: &NestedField, id: i32, action: MaskAction) -> Option<String> {
        column_mask(column, &Masks { masks: &[(id, action)], salt: Some("5a17") })
    }

    fn of(action: MaskAction, ty: PrimitiveType) -> String {
        mask(&NestedField::optional(1, "c", ty), 1, action).expect("masked")
    }

    #[test]
    fn each_action_has_its_form() {
        use PrimitiveType::{Binary, Date, Int, Long, String, Timestamptz};
        let alphanum = |value: &str| format!("regexp_replace(regexp_replace({value}, '[^0-9(),.@\\-]', 'x'), '[0-9]', 'n')");
        for (action, ty, expected) in [
            (MaskAction::MaskAlphanum, String, alphanum("\"c\"")),
            (MaskAction::ReplaceWithNull, Long, "CAST(NULL AS bigint)".to_owned()),
            (MaskAction::MaskToFixedValue, String, "CAST('XXXXXXXX' AS varchar)".to_owned()),
            (MaskAction::MaskToFixedValue, Date, "DATE '1970-01-01'".to_owned()),
            (MaskAction::ShowFirst4, String, format!("substr(\"c\", 1, 4) || {}", alphanum("substr(\"c\", 5)"))),
            (
                MaskAction::ShowLast4,
                String,
                format!(
                    "IF(length(\"c\") <= 4, \"c\", {} || substr(\"c\", -4))",
                    alphanum("substr(\"c\", 1, length(\"c\") - 4)")
                ),
            ),
            (MaskAction::TruncateToYear, Date, "date_trunc('year', \"c\")".to_owned()),
            (MaskAction::TruncateToMonth, Timestamptz, "date_trunc('month', \"c\")".to_owned()),
            (MaskAction::Sha256Global, String, "lower(to_hex(sha256(to_utf8(\"c\"))))".to_owned()),
            (MaskAction::Sha256Global, Binary, "sha256(\"c\")".to_owned()),
            (
                MaskAction::Sha256Global,
                Int,
                "from_big_endian_32(reverse(substr(sha256(reverse(to_big_endian_32(\"c\"))), 1, 4)))".to_owned(),
            ),
        ] {
            assert_eq!(of(action, ty.clone()), expected, "{action} on {ty:?}");
        }
    }

    #[test]
    fn a_query_without_a_salt_shows_nothing() {
        let column = NestedField::optional(1, "c", PrimitiveType::String);
        let of = |salt| {
            let masks = Masks { masks: &[(1, MaskAction::Sha256QueryLocal)], salt };
            column_mask(&column, &masks).expect("masked")
        };
        assert_eq!(of(Some("5a17")), "lower(to_hex(sha256(X'5a17' || to_utf8(\"c\"))))");
        assert_eq!(of(None), "CAST(NULL AS varchar)", "without a query there is no salt");
    }

    #[test]
    fn an_action_that_does_not_fit_shows_nothing() {
        assert_eq!(of(MaskAction::MaskAlphanum, PrimitiveType::Long), "CAST(NULL AS bigint)");
        assert_eq!(of(MaskAction::MaskToFixedValue, PrimitiveType::Geometry { crs: None }), "NULL");
        assert_eq!(mask(&NestedField::optional(1, "c", PrimitiveType::Long), 2, MaskAction::ReplaceWithNull), None);
    }

    #[test]
    fn a_field_inside_of_a_column_is_masked_where_it_lies() {
        let street = Arc::new(NestedField::optional(4, "street", PrimitiveType::String));
        let town = Arc::new(NestedField::optional(5, "town", PrimitiveType::String));
        let address = Type::Struct(StructType::new(vec![street, town]));
        let column = NestedField::optional(2, "homes", Type::List(ListType::new(3, address, false)));
        let row = "CAST(ROW(CAST(NULL AS varchar), esker_e0.\"town\") AS row(\"street\" varchar, \"town\" varchar))";
        let expected = format!("transform(\"homes\", esker_e0 -> IF(esker_e0 IS NULL, NULL, {row}))");
        assert_eq!(mask(&column, 4, MaskAction::ReplaceWithNull), Some(expected));
        let whole = "CAST(NULL AS array(row(\"street\" varchar, \"town\" varchar)))";
        assert_eq!(mask(&column, 2, MaskAction::ReplaceWithNull), Some(whole.to_owned()));
    }
}
