//! Finds a file's variant columns and their shredded fields.
//!
//! A shredded variant stores some fields in columns of their own: a group of `value` (what is not of the column's type) and
//! `typed_value`. Leaves are numbered as in the file's schema, depth first. Start with [`variant_columns`]. Spec: Parquet,
//! "Variant Shredding".

use esker_format::{PrimitiveType, Value};
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as Physical};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor, Type};

/// A variant column of a file, outside of lists and maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariantColumn {
    /// The field id of the variant; none in a file without ids.
    pub id: Option<i32>,
    /// Index of the leaf with the variant's metadata, which has one value a row.
    pub metadata: usize,
    /// Indexes of all leaves of the variant.
    pub leaves: std::ops::Range<usize>,
    /// The variant itself first, then its shredded fields that are not inside arrays.
    pub parts: Vec<ShreddedField>,
}

/// A shredded field of a variant, or the variant itself (an empty path).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShreddedField {
    /// The names of the fields that lead to it from the variant.
    pub path: Vec<String>,
    /// Index of the leaf with values that are not of the column's type; none if all are of it.
    pub value: Option<usize>,
    /// Index of the leaf with values of the column's type; none if the column is an object or an array.
    pub typed: Option<usize>,
}

/// Returns a path in the normalized form of RFC 9535, such as `$['a']['b']`.
///
/// Bounds of variants use such paths. Spec: "Bounds for Variant".
pub fn part_path(names: &[String]) -> String {
    let quoted = |name: &String| format!("['{}']", name.replace('\\', "\\\\").replace('\'', "\\'"));
    std::iter::once("$".to_owned()).chain(names.iter().map(quoted)).collect()
}

/// Lists the variant columns of a file, in the order of the schema, except those inside lists and maps.
pub fn variant_columns(file: &SchemaDescriptor) -> Vec<VariantColumn> {
    let (mut found, mut leaf) = (Vec::new(), 0);
    file.root_schema().get_fields().iter().for_each(|field| walk(field, &mut leaf, &mut found));
    found
}

fn is_repeated(ty: &Type) -> bool {
    let about = ty.get_basic_info();
    about.has_repetition() && about.repetition() == parquet::basic::Repetition::REPEATED
}

fn child<'a>(group: &'a Type, name: &str) -> Option<&'a Type> {
    group.get_fields().iter().find(|field| field.name() == name).map(AsRef::as_ref)
}

/// Checks that a group is a variant.
///
/// Newer files annotate it. In older files it is a group with a field id whose `metadata` and `value` have no ids: they are not
/// fields of the table.
fn is_variant(ty: &Type) -> bool {
    if !ty.is_group() {
        return false;
    }
    let about = ty.get_basic_info();
    let own = |name: &str| child(ty, name).is_some_and(|field| !field.get_basic_info().has_id());
    let said = matches!(about.logical_type_ref(), Some(LogicalType::Variant(_)));
    (said || about.has_id()) && own("metadata") && (own("value") || own("typed_value"))
}

/// Adds the variants inside a field. `leaf` is the index of the field's first leaf, and moves past its last.
fn walk(ty: &Type, leaf: &mut usize, found: &mut Vec<VariantColumn>) {
    if is_repeated(ty) {
        *leaf += leaves(ty);
    } else if is_variant(ty) {
        let (about, first) = (ty.get_basic_info(), *leaf);
        let mut parts = vec![ShreddedField::default()];
        let mut metadata = first;
        for field in ty.get_fields() {
            if field.name() == "metadata" {
                metadata = *leaf;
                *leaf += leaves(field);
            } else {
                part(field, 0, leaf, &mut parts);
            }
        }
        found.push(VariantColumn { id: about.has_id().then(|| about.id()), metadata, leaves: first..*leaf, parts });
    } else if ty.is_group() {
        ty.get_fields().iter().for_each(|field| walk(field, leaf, found));
    } else {
        *leaf += 1;
    }
}

/// Adds `value` or `typed_value` of the part at index `of`, and the shredded fields inside.
fn part(field: &Type, of: usize, leaf: &mut usize, parts: &mut Vec<ShreddedField>) {
    match (field.name(), field.is_primitive()) {
        ("value", true) => parts[of].value = Some(*leaf),
        ("typed_value", true) => parts[of].typed = Some(*leaf),
        ("typed_value", false) if !is_list(field) => {
            for inner in field.get_fields() {
                let mut path = parts[of].path.clone();
                path.push(inner.name().to_owned());
                parts.push(ShreddedField { path, ..ShreddedField::default() });
                let at = parts.len() - 1;
                match inner.is_group() && !is_repeated(inner) {
                    true => inner.get_fields().iter().for_each(|field| part(field, at, leaf, parts)),
                    false => *leaf += leaves(inner),
                }
            }
            return;
        }
        _ => {}
    }
    *leaf += leaves(field);
}

fn is_list(ty: &Type) -> bool {
    let about = ty.get_basic_info();
    about.converted_type() == ConvertedType::LIST
        || about.logical_type_ref() == Some(&LogicalType::List)
        || ty.get_fields().iter().any(|field| is_repeated(field))
}

fn leaves(ty: &Type) -> usize {
    if ty.is_primitive() { 1 } else { ty.get_fields().iter().map(|field| leaves(field)).sum() }
}

/// Returns the type of a shredded column; none if it is a type for which variants have no bounds.
pub fn part_type(column: &ColumnDescriptor) -> Option<PrimitiveType> {
    use PrimitiveType as P;
    let zoned = |utc: bool, with: P, without: P| if utc { with } else { without };
    Some(match (column.logical_type_ref(), column.converted_type(), column.physical_type()) {
        (Some(LogicalType::String), ..) | (None, ConvertedType::UTF8, _) => P::String,
        (Some(LogicalType::Date), ..) => P::Date,
        (Some(LogicalType::Timestamp(of)), ..) => match of.unit {
            TimeUnit::MICROS => zoned(of.is_adjusted_to_u_t_c, P::Timestamptz, P::Timestamp),
            TimeUnit::NANOS => zoned(of.is_adjusted_to_u_t_c, P::TimestamptzNs, P::TimestampNs),
            TimeUnit::MILLIS => return None,
        },
        (Some(LogicalType::Decimal(of)), ..) => {
            P::Decimal { precision: of.precision.try_into().ok()?, scale: of.scale.try_into().ok()? }
        }
        (Some(LogicalType::Integer(of)), _, Physical::INT32) if of.is_signed => P::Int,
        (Some(LogicalType::Integer(of)), _, Physical::INT64) if of.is_signed => P::Long,
        (None, ConvertedType::NONE, Physical::INT32) => P::Int,
        (None, ConvertedType::NONE, Physical::INT64) => P::Long,
        (None, ConvertedType::NONE, Physical::BOOLEAN) => P::Boolean,
        (None, ConvertedType::NONE, Physical::DOUBLE) => P::Double,
        (None, ConvertedType::NONE, Physical::FLOAT) => P::Float,
        _ => return None,
    })
}

/// Decodes a bound of Parquet's statistics as a value of `ty`, the column's current type.
///
/// `bytes` are of the physical type; the column may have been promoted since. None for NaN, and for bytes that don't fit the
/// type.
pub fn statistic(ty: &PrimitiveType, physical: Physical, bytes: &[u8]) -> Option<Value> {
    let unscaled: i128 = match (ty, physical) {
        (PrimitiveType::Decimal { .. }, Physical::INT32) => i32::from_le_bytes(bytes.try_into().ok()?).into(),
        (PrimitiveType::Decimal { .. }, Physical::INT64) => i64::from_le_bytes(bytes.try_into().ok()?).into(),
        _ => return Value::from_bytes(ty, bytes).filter(|value| !value.is_nan()),
    };
    Value::from_bytes(ty, &unscaled.to_be_bytes())
}

/// Checks that a column chunk holds nothing but nulls, by its statistics. False if the null count is unknown.
pub fn only_nulls(chunk: &ColumnChunkMetaData) -> bool {
    chunk.statistics().and_then(Statistics::null_count_opt) == Some(chunk.num_values().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::schema::parser::parse_message_type;

    use super::*;

    #[test]
    fn the_parts_of_a_variant_are_found_with_their_leaves() {
        let text = "message m {
            required int32 id = 1;
            optional group s = 2 {
                optional group v = 3 {
                    required binary metadata;
                    optional binary value;
                    optional group typed_value {
                        required group a { optional binary value; optional int64 typed_value; }
                        required group b { optional binary value; optional group typed_value {
                            required group c { optional binary typed_value (STRING); } } }
                        required group l { optional binary value; optional group typed_value (LIST) {
                            repeated group list { required group element { optional binary value; } } } }
                    }
                }
                optional double x = 4;
            }
            optional group w = 5 { required binary metadata; required binary value; }
            optional group no = 6 { required binary metadata = 7; required binary value = 8; }
        }";
        let file = SchemaDescriptor::new(Arc::new(parse_message_type(text).expect("a schema")));
        let found = variant_columns(&file);
        let part =
            |path: &[&str], value, typed| ShreddedField { path: path.iter().map(|p| (*p).to_owned()).collect(), value, typed };
        let parts = vec![
            part(&[], Some(2), None),
            part(&["a"], Some(3), Some(4)),
            part(&["b"], Some(5), None),
            part(&["b", "c"], None, Some(6)),
            part(&["l"], Some(7), None),
        ];
        let v = VariantColumn { id: Some(3), metadata: 1, leaves: 1..9, parts };
        let w = VariantColumn { id: Some(5), metadata: 10, leaves: 10..12, parts: vec![part(&[], Some(11), None)] };
        assert_eq!(found, [v, w]);
        let types: Vec<_> = [4, 6].iter().map(|leaf| part_type(&file.column(*leaf))).collect();
        assert_eq!(types, [Some(PrimitiveType::Long), Some(PrimitiveType::String)]);
    }
}
