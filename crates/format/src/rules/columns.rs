//! Rules of schemas.

use std::collections::HashMap;

use super::{Rule, Violation};
use crate::{MAX_DECIMAL_PRECISION, NestedField, NestedFieldRef, PrimitiveType, Schema, TableMetadata, Transform, Type};

pub(super) fn check(metadata: &TableMetadata) -> Vec<Violation> {
    let mut found = Vec::new();
    for schema in &metadata.schemas {
        for id in ids_in_order(schema) {
            if let (Some(field), Some(name)) = (schema.field_by_id(id), schema.name_by_field_id(id)) {
                let what = format!("schema {}, field {name} ({id})", schema.schema_id());
                found.extend(of_field(field, metadata.format_version).map(|(rule, why)| Violation::new(rule, what.clone(), why)));
            }
        }
        found.extend(identifiers(schema));
    }
    found.extend(evolution(metadata));
    let highest = metadata.schemas.iter().map(|schema| schema.highest_field_id()).max().unwrap_or(0);
    if highest > metadata.last_column_id {
        let why = format!("it is {}, and there is a field with the id {highest}", metadata.last_column_id);
        found.push(Violation::new(Rule::LastColumnId, "last-column-id", why));
    }
    found
}

fn ids_in_order(schema: &Schema) -> Vec<i32> {
    let mut ids: Vec<i32> = schema.field_ids().collect();
    ids.sort_unstable();
    ids
}

/// What of a field itself breaks a rule.
fn of_field(field: &NestedField, version: u8) -> impl Iterator<Item = (Rule, String)> {
    let ty = field.field_type.as_ref();
    let of_version = match ty.first_version() {
        Some(first) if first > version => Some((Rule::TypeOfVersion, format!("{ty} is not supported until v{first}"))),
        _ => None,
    };
    let digits = match ty {
        Type::Primitive(PrimitiveType::Decimal { precision, scale })
            if !(1..=MAX_DECIMAL_PRECISION).contains(precision) || scale > precision =>
        {
            Some((Rule::DecimalDigits, format!("{ty} has not 1 to {MAX_DECIMAL_PRECISION} digits, or more behind the point")))
        }
        _ => None,
    };
    let unknown = (field.required && matches!(ty, Type::Primitive(PrimitiveType::Unknown)))
        .then(|| (Rule::UnknownIsOptional, "a field of the type unknown can't be required".to_owned()));
    let defaults = [("initial-default", &field.initial_default), ("write-default", &field.write_default)];
    let of_defaults = defaults.into_iter().filter_map(move |(name, default)| {
        let default = default.as_ref()?;
        if version < 3 {
            return Some((Rule::DefaultOfVersion, format!("{name} needs format version 3")));
        }
        let none = || (Rule::DefaultOfType, format!("{name} {} is no value of {ty}", default.json()));
        match ty {
            // Of a struct it is null or without values: its fields have their own.
            Type::Struct(_) => default.json().as_object().is_none_or(|fields| !fields.is_empty()).then(none),
            Type::Primitive(PrimitiveType::Other(_)) => None,
            ty => default.value(ty).is_none().then(none),
        }
    });
    of_version.into_iter().chain(digits).chain(unknown).chain(of_defaults.collect::<Vec<_>>())
}

fn identifiers(schema: &Schema) -> Vec<Violation> {
    let why = |id: i32| {
        let Some(field) = schema.field_by_id(id) else { return Some("the schema has no such field".to_owned()) };
        match field.field_type.as_ref() {
            Type::Primitive(PrimitiveType::Float | PrimitiveType::Double) => return Some(format!("it is {}", field.field_type)),
            Type::Primitive(_) => {}
            ty => return Some(format!("it is {ty}, no simple type")),
        }
        let mut inner = Some(id);
        while let Some(id) = inner {
            let field = schema.field_by_id(id)?;
            if !field.required {
                return Some(format!("{} is optional", schema.name_by_field_id(id).unwrap_or_default()));
            }
            inner = schema.parent_of(id);
            if let Some(Type::List(_) | Type::Map(_)) = inner.and_then(|id| schema.field_by_id(id)).map(|f| f.field_type.as_ref())
            {
                return Some("it is in a list or a map".to_owned());
            }
        }
        None
    };
    let violation = |id: &i32| {
        let what = format!("schema {}, identifier field {id}", schema.schema_id());
        why(*id).map(|why| Violation::new(Rule::IdentifierField, what, why))
    };
    schema.identifier_field_ids().iter().filter_map(violation).collect()
}

/// Fields that are another type in a later schema than the specification lets them become.
fn evolution(metadata: &TableMetadata) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut before: HashMap<i32, &NestedFieldRef> = HashMap::new();
    // Some writers list schemas in no order.
    let mut schemas: Vec<&Schema> = metadata.schemas.iter().map(AsRef::as_ref).collect();
    schemas.sort_by_key(|schema| schema.schema_id());
    for schema in schemas {
        for id in ids_in_order(schema) {
            let Some(field) = schema.field_by_id(id) else { continue };
            let violation = |rule, why| {
                let name = schema.name_by_field_id(id).unwrap_or_default();
                Violation::new(rule, format!("schema {}, field {name} ({id})", schema.schema_id()), why)
            };
            if let Some(old) = before.insert(id, field) {
                found.extend(illegal(old, field, metadata).map(|why| violation(Rule::Promotion, why)));
                if old.initial_default != field.initial_default {
                    found.push(violation(Rule::InitialDefaultChanged, "its initial-default is another than before".to_owned()));
                }
            }
        }
    }
    found
}

/// Why a field can't become another type; none if it can.
fn illegal(old: &NestedField, new: &NestedField, metadata: &TableMetadata) -> Option<String> {
    let (from, to) = match (old.field_type.as_ref(), new.field_type.as_ref()) {
        (Type::Primitive(from), Type::Primitive(to)) => (from, to),
        (Type::Struct(_), Type::Struct(_)) | (Type::List(_), Type::List(_)) | (Type::Map(_), Type::Map(_)) => return None,
        (from, to) if from == to => return None,
        (Type::Primitive(PrimitiveType::Unknown), Type::Variant) if metadata.format_version >= 3 => return None,
        (from, to) => return Some(format!("it was {from} and can't become {to}")),
    };
    if !from.may_become(to, metadata.format_version) {
        return Some(format!("it was {from} and can't become {to}"));
    }
    if from == to {
        return None;
    }
    // A partition's value would be another after the promotion: 1 day is 86,400,000,000 microseconds.
    let specs = metadata.partition_specs.iter().flat_map(|spec| spec.fields());
    let broken = specs.filter(|field| field.source_id() == Some(new.id)).find(|field| !stays(field.transform(), from, to));
    broken.map(|field| format!("it was {from}; as {to} partition field {} would have other values", field.name()))
}

/// Whether a transform's result is the same before and after a promotion.
fn stays(transform: &Transform, from: &PrimitiveType, to: &PrimitiveType) -> bool {
    match from {
        PrimitiveType::Date => !matches!(transform, Transform::Identity | Transform::Bucket(_) | Transform::Unknown(_)),
        PrimitiveType::Unknown => matches!(transform, Transform::Void),
        _ => !matches!(transform, Transform::Unknown(_)) && transform.result_type(&to.clone().into()).is_some(),
    }
}
