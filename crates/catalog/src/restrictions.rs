//! Row filters and column masks, checked against the schema of their table when they are set.
//!
//! The rules keep field ids and know no schemas. A field that is dropped later is no error: a filter on it is false, and a mask
//! on it does nothing. Start reading at [`checked_filter`] and [`check_mask`].
//!
//! Spec: REST OpenAPI document, `ReadRestrictions` (apache/iceberg #13879).

use esker_access::{FilterExpr, MaskAction, RightsError};
use esker_format::{NestedField, NestedFieldRef, PrimitiveType, Schema, Type, value_from_json, value_to_json};
use serde_json::{Map, Value as Json, json};

/// The result of a check.
type Result<T> = std::result::Result<T, RightsError>;

fn bad_filter(why: String) -> RightsError {
    RightsError::BadFilter { why }
}

fn bad_mask(why: String) -> RightsError {
    RightsError::BadMask { why }
}

/// Returns the field that a text names: by its full name, with dots, in any case if that is clear, or by its id.
pub fn restrictable_field<'a>(schema: &'a Schema, text: &str) -> Option<&'a NestedFieldRef> {
    let by_id = || schema.field_by_id(text.parse().ok()?);
    schema.field_by_name_case_insensitive(text).or_else(by_id)
}

/// Returns the full name of a field; its id if the schema does not have it.
fn name_of(schema: &Schema, id: i32) -> String {
    schema.name_by_field_id(id).map_or_else(|| format!("field {id}"), str::to_owned)
}

/// Iterates over the ids of the fields around a field, the innermost first.
fn around(schema: &Schema, id: i32) -> impl Iterator<Item = i32> {
    std::iter::successors(schema.parent_of(id), |outer| schema.parent_of(*outer))
}

/// Returns the list or map around a field, if there is one.
fn collection_around(schema: &Schema, id: i32) -> Option<i32> {
    let is_collection =
        |id: &i32| schema.field_by_id(*id).is_some_and(|field| matches!(field.field_type.as_ref(), Type::List(_) | Type::Map(_)));
    around(schema, id).find(is_collection)
}

/// Reads a row filter from the JSON of an expression. It names fields by their ids or by their names in the schema.
///
/// # Errors
///
/// Returns [`RightsError::BadFilter`] if the JSON is no expression, or names a field that the schema does not have, and the
/// errors of [`checked_filter`].
pub fn filter_of_json(json: &Json, schema: &Schema) -> Result<FilterExpr> {
    checked_filter(FilterExpr::from_json(&with_ids(json, schema)?)?, schema)
}

/// Returns the JSON of an expression with the ids of the fields in the place of their names.
fn with_ids(json: &Json, schema: &Schema) -> Result<Json> {
    match (json, json["name"].as_str()) {
        (Json::Object(_), Some(name)) if json["type"] == "reference" => {
            let field = restrictable_field(schema, name).ok_or_else(|| no_such_field(name))?;
            Ok(json!({"type": "reference", "id": field.id}))
        }
        (Json::Object(fields), _) => {
            let replaced = fields.iter().map(|(key, value)| Ok((key.clone(), with_ids(value, schema)?)));
            Ok(Json::Object(replaced.collect::<Result<Map<_, _>>>()?))
        }
        _ => Ok(json.clone()),
    }
}

/// Returns the error of a field that a filter names and the table does not have.
fn no_such_field(name: &str) -> RightsError {
    bad_filter(format!("the table has no field {name}; name a column, or a field of a struct with dots"))
}

/// Checks a row filter against a schema. Returns it without negations, and with constants in the form that Iceberg prints.
///
/// # Errors
///
/// Returns [`RightsError::BadFilter`] if the filter reads a field that the schema does not have or that lies in a list or map, if
/// a constant is no value of its field, or if a predicate does not fit the type of its field.
pub fn checked_filter(filter: FilterExpr, schema: &Schema) -> Result<FilterExpr> {
    checked(filter.without_not(), schema)
}

fn checked(filter: FilterExpr, schema: &Schema) -> Result<FilterExpr> {
    let all = |inner: Vec<FilterExpr>| inner.into_iter().map(|one| checked(one, schema)).collect::<Result<Vec<_>>>();
    Ok(match filter {
        FilterExpr::And(inner) => FilterExpr::all(all(inner)?),
        FilterExpr::Or(inner) => FilterExpr::any(all(inner)?),
        FilterExpr::Compare { op, field_id, value } => {
            FilterExpr::Compare { op, field_id, value: constant(schema, field_id, &value)? }
        }
        FilterExpr::In { field_id, values, negated } => {
            if values.is_empty() {
                return Err(bad_filter(format!("the list for {} is empty; name a value", name_of(schema, field_id))));
            }
            let values = values.iter().map(|value| constant(schema, field_id, value)).collect::<Result<Vec<_>>>()?;
            FilterExpr::In { field_id, values, negated }
        }
        FilterExpr::IsNan(id) | FilterExpr::NotNan(id) => {
            let is_float = |ty: &PrimitiveType| matches!(ty, PrimitiveType::Float | PrimitiveType::Double);
            require_type(schema, id, is_float, "only a float or double can be NaN")?;
            filter
        }
        FilterExpr::StartsWith { field_id, .. } => {
            let is_string = |ty: &PrimitiveType| *ty == PrimitiveType::String;
            require_type(schema, field_id, is_string, "only a string begins with another")?;
            filter
        }
        FilterExpr::IsNull(id) | FilterExpr::NotNull(id) => {
            filtered_field(schema, id)?;
            filter
        }
        FilterExpr::True | FilterExpr::False | FilterExpr::Not(_) => filter,
    })
}

/// Returns a field that a filter may read.
fn filtered_field(schema: &Schema, id: i32) -> Result<&NestedField> {
    let field = schema.field_by_id(id).ok_or_else(|| no_such_field(&format!("with the id {id}")))?;
    match collection_around(schema, id) {
        None => Ok(field),
        Some(outer) => {
            let (name, outer) = (name_of(schema, id), name_of(schema, outer));
            Err(bad_filter(format!("{name} lies in the list or map {outer}, so a row has many of it; filter by another field")))
        }
    }
}

/// Checks that a filter may read a field, and that it has a type.
fn require_type(schema: &Schema, id: i32, fits: impl Fn(&PrimitiveType) -> bool, why: &str) -> Result<()> {
    let field = filtered_field(schema, id)?;
    match field.field_type.as_ref() {
        Type::Primitive(ty) if fits(ty) => Ok(()),
        ty => Err(bad_filter(format!("{} is {ty}, and {why}", name_of(schema, id)))),
    }
}

/// Checks that a constant is a value of a field. Returns it as Iceberg prints it.
fn constant(schema: &Schema, id: i32, json: &Json) -> Result<Json> {
    let field = filtered_field(schema, id)?;
    let ty = field.field_type.as_ref();
    let name = || name_of(schema, id);
    if !matches!(ty, Type::Primitive(_)) {
        return Err(bad_filter(format!("{} is {ty}, which is compared with nothing; use IS NULL, or a field in it", name())));
    }
    let spaced = json.as_str().filter(|_| is_timestamp(ty)).map(|text| json!(text.trim().replacen(' ', "T", 1)));
    let value = value_from_json(ty, spaced.as_ref().unwrap_or(json)).filter(|value| !value.is_nan());
    let printed = value.and_then(|value| value_to_json(ty, &value));
    printed.ok_or_else(|| bad_filter(format!("{json} is no value of {}, which is {ty}; for example, {}", name(), example(ty))))
}

/// Checks that values of a type have a date and a time of day.
const fn is_timestamp(ty: &Type) -> bool {
    use PrimitiveType as P;
    matches!(ty, Type::Primitive(P::Timestamp | P::Timestamptz | P::TimestampNs | P::TimestamptzNs))
}

/// Returns a constant of a type, as a person would write it.
const fn example(ty: &Type) -> &'static str {
    use PrimitiveType as P;
    match ty {
        Type::Primitive(P::Boolean) => "true",
        Type::Primitive(P::Int | P::Long) => "10",
        Type::Primitive(P::Float | P::Double | P::Decimal { .. }) => "14.20, with no more digits than the type has",
        Type::Primitive(P::Date) => "'2026-01-31'",
        Type::Primitive(P::Time) => "'10:00:00'",
        Type::Primitive(P::Timestamp | P::TimestampNs) => "'2026-01-31T10:00:00'",
        Type::Primitive(P::Timestamptz | P::TimestamptzNs) => "'2026-01-31T10:00:00+00:00', with the offset",
        Type::Primitive(P::String) => "'EU'",
        Type::Primitive(P::Uuid) => "'f79c3e09-677c-4bbd-a479-3f349cb785e7'",
        Type::Primitive(P::Fixed(_) | P::Binary) => "'00ff', the bytes in hexadecimal",
        _ => "IS NULL is all that it can be asked for",
    }
}

/// Checks that an action fits a field, and that no other mask lies on it.
///
/// `masked` has the ids of the table's other masked fields.
///
/// # Errors
///
/// Returns [`RightsError::BadMask`] if the schema does not have the field, if the action does not take its type, if the field lies
/// in a list or map, or if a mask lies on a field around it or within it.
pub fn check_mask(schema: &Schema, field_id: i32, action: MaskAction, masked: impl IntoIterator<Item = i32>) -> Result<()> {
    let name = name_of(schema, field_id);
    let field = schema.field_by_id(field_id).ok_or_else(|| bad_mask(format!("the table has no {name}")))?;
    if let Some(outer) = collection_around(schema, field_id) {
        let outer = name_of(schema, outer);
        return Err(bad_mask(format!("{name} lies in the list or map {outer}; mask {outer} as a whole")));
    }
    if let Some(types) = refused_type(&field.field_type, action) {
        let ty = &field.field_type;
        return Err(bad_mask(format!("{action} is for {types}, and {name} is {ty}; mask-to-fixed-value is for all types")));
    }
    if action == MaskAction::ReplaceWithNull && field.required {
        return Err(bad_mask(format!("{name} is required, so it can't be NULL; use mask-to-fixed-value, or make it optional")));
    }
    for other in masked.into_iter().filter(|other| *other != field_id) {
        if around(schema, field_id).any(|outer| outer == other) || around(schema, other).any(|outer| outer == field_id) {
            let other = name_of(schema, other);
            let why = format!("{other} has a mask already, and one of {name} and {other} lies in the other; remove it first");
            return Err(bad_mask(why));
        }
    }
    Ok(())
}

/// Returns the types that an action takes, if a type is none of them.
pub fn refused_type(of: &Type, action: MaskAction) -> Option<&'static str> {
    use PrimitiveType as P;
    let ty = match of {
        Type::Primitive(ty) => Some(ty),
        Type::Struct(_) | Type::List(_) | Type::Map(_) | Type::Variant => None,
    };
    let (fits, types) = match action {
        MaskAction::MaskAlphanum | MaskAction::ShowFirst4 | MaskAction::ShowLast4 => (matches!(ty, Some(P::String)), "strings"),
        MaskAction::TruncateToYear | MaskAction::TruncateToMonth => {
            (matches!(ty, Some(P::Date)) || is_timestamp(of), "dates and timestamps")
        }
        MaskAction::Sha256Global | MaskAction::Sha256QueryLocal => {
            (matches!(ty, Some(P::String | P::Int | P::Long | P::Binary)), "strings, ints, longs and binaries")
        }
        // A value of a type that this release does not know can't be made.
        MaskAction::MaskToFixedValue => (!matches!(ty, Some(P::Other(_))), "types of this format version"),
        MaskAction::ReplaceWithNull => (true, "optional fields"),
    };
    (!fits).then_some(types)
}

#[cfg(test)]
mod tests {
    use esker_access::CompareOp;
    use esker_format::{ListType, MapType, StructType};

    use super::*;

    fn schema() -> Schema {
        let field = |id, name: &str, ty: Type| NestedFieldRef::from(NestedField::optional(id, name, ty));
        let plain = |id, name: &str, ty: PrimitiveType| field(id, name, ty.into());
        let person = StructType::new(vec![plain(11, "email", PrimitiveType::String), plain(12, "age", PrimitiveType::Int)]);
        let tags = ListType::new(14, PrimitiveType::String, false);
        let notes = MapType::new((16, PrimitiveType::String.into()), (17, PrimitiveType::String.into()), false);
        let fields = vec![
            NestedField::required(1, "id", PrimitiveType::Long).into(),
            plain(2, "Region", PrimitiveType::String),
            plain(3, "price", PrimitiveType::Decimal { precision: 9, scale: 2 }),
            plain(4, "at", PrimitiveType::Timestamptz),
            plain(5, "day", PrimitiveType::Date),
            plain(6, "x", PrimitiveType::Double),
            field(10, "person", person.into()),
            field(13, "tags", tags.into()),
            field(15, "notes", notes.into()),
        ];
        Schema::new(0, fields).expect("a schema")
    }

    fn eq(field_id: i32, value: Json) -> FilterExpr {
        FilterExpr::Compare { op: CompareOp::Eq, field_id, value }
    }

    #[test]
    fn a_field_is_named_by_its_path_or_its_id() {
        let schema = schema();
        let found = |text: &str| restrictable_field(&schema, text).map(|field| field.id);
        assert_eq!((found("region"), found("person.email"), found("11"), found("mail")), (Some(2), Some(11), Some(11), None));
    }

    #[test]
    fn names_in_json_become_ids() {
        let reference = |key: &str, value: Json| json!({"type": "reference", key: value});
        let json = json!({"type": "and",
            "left": {"type": "eq", "left": reference("name", json!("region")), "right": {"type": "literal", "value": "EU"}},
            "right": {"type": "is-null", "child": reference("id", json!(12))}});
        let expected = FilterExpr::And(vec![eq(2, json!("EU")), FilterExpr::IsNull(12)]);
        assert_eq!(filter_of_json(&json, &schema()), Ok(expected));
    }

    #[test]
    fn constants_get_the_form_that_iceberg_prints() {
        for (id, given, printed) in [
            (3, json!("14.2"), json!("14.20")),
            (4, json!("2026-01-31 10:00:00+02:00"), json!("2026-01-31T08:00:00+00:00")),
            (5, json!("2026-01-31"), json!("2026-01-31")),
            (6, json!(1), json!(1.0)),
        ] {
            assert_eq!(checked_filter(eq(id, given), &schema()), Ok(eq(id, printed)));
        }
        let not = FilterExpr::Not(Box::new(eq(1, json!(7))));
        let expected = FilterExpr::Compare { op: CompareOp::NotEq, field_id: 1, value: json!(7) };
        assert_eq!(checked_filter(not, &schema()), Ok(expected), "negations are pushed down");
    }

    #[test]
    fn filters_that_do_not_fit_are_refused_with_the_name_of_the_field() {
        let starts = |field_id| FilterExpr::StartsWith { field_id, prefix: "a".into(), negated: false };
        for (filter, words) in [
            (eq(99, json!(1)), "with the id 99"),
            (eq(1, json!("x")), "\"x\" is no value of id, which is long; for example, 10"),
            (eq(1, json!(1.5)), "no value of id"),
            (eq(3, json!("14.201")), "no value of price"),
            (eq(4, json!("2026-01-31T10:00:00")), "with the offset"),
            (eq(6, json!("NaN")), "no value of x"),
            (eq(10, json!("x")), "person is struct"),
            (eq(14, json!("x")), "tags.element lies in the list or map tags"),
            (FilterExpr::IsNull(16), "notes.key lies in the list or map notes"),
            (FilterExpr::IsNan(1), "only a float or double"),
            (starts(1), "only a string"),
            (FilterExpr::In { field_id: 2, values: Vec::new(), negated: true }, "Region is empty"),
        ] {
            let filter = FilterExpr::And(vec![FilterExpr::NotNull(10), filter]);
            let error = checked_filter(filter, &schema()).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn an_action_takes_the_types_of_the_specification() {
        let schema = schema();
        let taken = |id: i32| {
            let fits = |action: &MaskAction| check_mask(&schema, id, *action, []).is_ok();
            MaskAction::ALL.into_iter().filter(fits).map(MaskAction::as_str).collect::<Vec<_>>()
        };
        let (fixed, null) = ("mask-to-fixed-value", "replace-with-null");
        let hashes = ["sha-256-global", "sha-256-query-local"];
        let truncated = ["truncate-to-year", "truncate-to-month"];
        let texts = [&["mask-alphanum", fixed, null, "show-first-4", "show-last-4"][..], &hashes].concat();
        assert_eq!(taken(1), [&[fixed][..], &hashes].concat(), "it is required");
        assert_eq!((taken(2), taken(11)), (texts.clone(), texts));
        assert_eq!(taken(12), [&[fixed, null][..], &hashes].concat());
        for id in [4, 5] {
            assert_eq!(taken(id), [&[fixed, null][..], &truncated].concat());
        }
        for id in [3, 6, 10, 13, 15] {
            assert_eq!(taken(id), [fixed, null]);
        }
        for id in [14, 16, 17] {
            assert!(taken(id).is_empty(), "in a list or map");
        }
    }

    #[test]
    fn no_mask_lies_above_or_below_another() {
        let schema = schema();
        let set = |id: i32, masked: &[i32]| check_mask(&schema, id, MaskAction::MaskToFixedValue, masked.iter().copied());
        assert_eq!(set(11, &[11, 12, 2, 99]), Ok(()));
        for (id, masked) in [(10, 11), (11, 10)] {
            let error = set(id, &[2, masked]).expect_err("refused").to_string();
            assert!(error.contains("person.email") && error.contains("lies in the other; remove it first"), "{error}");
        }
    }
}
