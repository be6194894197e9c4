//! Rules of schemas: fields, defaults, identifier fields, and the evolution of columns.
//!
//! Spec: "Schemas and Data Types", "Schema Evolution".

use std::collections::{BTreeSet, HashMap};

use super::{Rule, Violation};
use crate::{
    MAX_DECIMAL_PRECISION, NestedField, NestedFieldRef, PrimitiveType, Schema, Snapshot, TableMetadata, Transform, Type, Value,
};

/// Returns the violations in the table's schemas, each of them taken alone.
pub(super) fn check(metadata: &TableMetadata) -> Vec<Violation> {
    let schemas = metadata.schemas.iter();
    let mut found: Vec<Violation> = schemas.flat_map(|schema| of_schema(schema, metadata.format_version)).collect();
    let highest = metadata.schemas.iter().map(|schema| schema.highest_field_id()).max().unwrap_or(0);
    if highest > metadata.last_column_id {
        let why = format!("it is {}, but a field has the id {highest}", metadata.last_column_id);
        found.push(Violation::new(Rule::LastColumnId, "last-column-id", why));
    }
    found
}

/// Returns the violations of one schema under the rules of format version `version`, without those of schema evolution.
pub(super) fn of_schema(schema: &Schema, version: u8) -> Vec<Violation> {
    let mut found = Vec::new();
    for id in ids_in_order(schema) {
        if let (Some(field), Some(name)) = (schema.field_by_id(id), schema.name_by_field_id(id)) {
            let what = format!("schema {}, field {name} ({id})", schema.schema_id());
            let violation = |(rule, why)| Violation::of_field(rule, what.clone(), why, id);
            found.extend(of_field(field, version).map(violation));
        }
    }
    found.extend(identifiers(schema));
    found
}

fn ids_in_order(schema: &Schema) -> Vec<i32> {
    let mut ids: Vec<i32> = schema.field_ids().collect();
    ids.sort_unstable();
    ids
}

/// The highest id that a column may have; higher ids are reserved for metadata columns.
///
/// Spec: "Reserved Field IDs".
const HIGHEST_COLUMN_ID: i32 = i32::MAX - 200;

/// Returns the rules that a field breaks by itself, each with the reason.
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
            Some((Rule::DecimalDigits, format!("{ty} must have 1 to {MAX_DECIMAL_PRECISION} digits, and no larger scale")))
        }
        _ => None,
    };
    // A defined type name with wrong arguments is a mistake, not a type of a later version.
    let misspelt = match ty {
        Type::Primitive(PrimitiveType::Fixed(length)) => i32::try_from(*length).is_err(),
        Type::Primitive(PrimitiveType::Other(name)) => {
            // A defined type name followed by something that is no parameter of it.
            let name = name.as_str().unwrap_or_default().to_ascii_lowercase();
            let stem = name.split(['(', '[', '<']).next().unwrap_or_default().trim();
            let is_known = !matches!(PrimitiveType::named(stem), PrimitiveType::Other(_)) || matches!(stem, "decimal" | "fixed");
            is_known && stem.len() < name.len()
        }
        _ => false,
    };
    let misspelt =
        misspelt.then(|| (Rule::TypeOfVersion, format!("{ty} is not a valid type; examples are decimal(9, 2) and fixed[16]")));
    // No reference system that Java reads has a comma in its name.
    let edges = match ty {
        Type::Primitive(PrimitiveType::Geography { crs: Some(crs), edges: None }) => crs.rsplit_once(','),
        _ => None,
    };
    let edges = edges.map(|(_, edges)| {
        let known = "spherical, vincenty, thomas, andoyer and karney";
        (Rule::EdgeAlgorithm, format!("{ty}: {} is not one of {known}", edges.trim()))
    });
    let reserved = (field.id > HIGHEST_COLUMN_ID)
        .then(|| (Rule::ReservedFieldId, format!("ids above {HIGHEST_COLUMN_ID} are for metadata columns")));
    let unknown = (field.required && matches!(ty, Type::Primitive(PrimitiveType::Unknown)))
        .then(|| (Rule::UnknownIsOptional, "a field of the type unknown can't be required".to_owned()));
    let defaults = [("initial-default", &field.initial_default), ("write-default", &field.write_default)];
    let of_defaults = defaults.into_iter().filter_map(move |(name, default)| {
        let default = default.as_ref()?;
        if version < 3 {
            return Some((Rule::DefaultOfVersion, format!("{name} needs format version 3")));
        }
        let none = || (Rule::DefaultOfType, format!("{name} {} is not a value of {ty}", default.json()));
        match ty {
            // The default of a struct is null or `{}`: its fields have their own.
            Type::Struct(_) => default.json().as_object().is_none_or(|fields| !fields.is_empty()).then(none),
            Type::Primitive(PrimitiveType::Other(_)) => None,
            ty if default.value(ty).is_none() => Some(none()),
            ty if default.is_as_specified(ty) => None,
            ty => Some((Rule::DefaultOfType, format!("{name} {} is not in the specification's format for {ty}", default.json()))),
        }
    });
    of_version
        .into_iter()
        .chain(digits)
        .chain(misspelt)
        .chain(edges)
        .chain(reserved)
        .chain(unknown)
        .chain(of_defaults.collect::<Vec<_>>())
}

fn identifiers(schema: &Schema) -> Vec<Violation> {
    let why = |id: i32| {
        let Some(field) = schema.field_by_id(id) else { return Some("the schema has no such field".to_owned()) };
        match field.field_type.as_ref() {
            Type::Primitive(
                PrimitiveType::Float
                | PrimitiveType::Double
                | PrimitiveType::Geometry { .. }
                | PrimitiveType::Geography { .. }
                | PrimitiveType::Unknown,
            ) => return Some(format!("column {} is {}", schema.name_by_field_id(id).unwrap_or_default(), field.field_type)),
            Type::Primitive(_) => {}
            ty => {
                return Some(format!("column {} is {ty}, not a primitive type", schema.name_by_field_id(id).unwrap_or_default()));
            }
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
        why(*id).map(|why| Violation::of_field(Rule::IdentifierField, what, why, *id))
    };
    schema.identifier_field_ids().iter().filter_map(violation).collect()
}

/// A field as one schema has it, and the id of the field that contains it.
struct Placed<'a> {
    field: &'a NestedFieldRef,
    parent: Option<i32>,
}

/// Returns the schemas in the order in which they were added. Some writers list them in another.
fn in_order(metadata: &TableMetadata) -> Vec<&Schema> {
    let mut schemas: Vec<&Schema> = metadata.schemas.iter().map(AsRef::as_ref).collect();
    schemas.sort_by_key(|schema| schema.schema_id());
    schemas
}

/// Returns the violations of "Schema Evolution" that the table's schemas show, each compared with those before it.
pub(super) fn evolution(metadata: &TableMetadata) -> Vec<Violation> {
    let mut before = Fields::default();
    let mut found = Vec::new();
    for (n, schema) in in_order(metadata).into_iter().enumerate() {
        if n > 0 {
            found.extend(before.illegal(schema, metadata));
        }
        before.add(schema);
    }
    found
}

/// Returns the violations of "Schema Evolution" by a change of the current schema. A schema that was never current has no rows.
pub(super) fn changed(before: &TableMetadata, after: &TableMetadata) -> Vec<Violation> {
    let (old, new) = (before.current_schema(), after.current_schema());
    if old.equals_except_id(new) {
        return Vec::new();
    }
    let mut fields = Fields::default();
    in_order(before).into_iter().for_each(|schema| fields.add(schema));
    fields.add(old);
    let mut found = fields.illegal(new, after);
    let used = |id: &i32| *id <= before.last_column_id && !fields.0.contains_key(id);
    for id in ids_in_order(new).into_iter().filter(used) {
        let what = format!("schema {}, field {} ({id})", new.schema_id(), new.name_by_field_id(id).unwrap_or_default());
        let why = format!("its id may have belonged to another field: last-column-id was {}", before.last_column_id);
        found.push(Violation::new(Rule::LastColumnId, what, why));
    }
    found
}

/// Fields by id, each as the last of some schemas has it.
#[derive(Default)]
struct Fields<'a>(HashMap<i32, Placed<'a>>);

impl<'a> Fields<'a> {
    fn add(&mut self, schema: &'a Schema) {
        let placed = |id| Some((id, Placed { field: schema.field_by_id(id)?, parent: schema.parent_of(id) }));
        self.0.extend(schema.field_ids().filter_map(placed));
    }

    /// Returns the violations that `schema` would add as the next schema after these fields.
    fn illegal(&self, schema: &Schema, metadata: &TableMetadata) -> Vec<Violation> {
        let mut found = Vec::new();
        let violation = |id, rule, why| {
            let name = schema.name_by_field_id(id).unwrap_or_default();
            Violation::new(rule, format!("schema {}, field {name} ({id})", schema.schema_id()), why)
        };
        let ids = ids_in_order(schema);
        if metadata.format_version >= 3 && has_older_rows(metadata, schema.schema_id()) {
            let added = ids.iter().filter_map(|id| Some((id, without_defaults(schema, *id, &self.0)?)));
            found.extend(added.map(|(id, why)| violation(*id, Rule::RequiredHasDefaults, why)));
        }
        for id in ids {
            let (Some(field), Some(old)) = (schema.field_by_id(id), self.0.get(&id)) else { continue };
            found.extend(illegal(old.field, field, metadata).map(|why| violation(id, Rule::Promotion, why)));
            if !is_same_default(old.field, field) {
                found.push(violation(id, Rule::InitialDefaultChanged, "its initial-default has changed".to_owned()));
            }
            let parent = schema.parent_of(id);
            if old.parent != parent {
                let place = |parent: Option<i32>| parent.map_or("the table's own fields".to_owned(), |id| format!("field {id}"));
                let why = format!("it was in {} and can't move into {}", place(old.parent), place(parent));
                found.push(violation(id, Rule::FieldPlace, why));
            }
            if let Some(why) = other_items(old.field, field).or_else(|| other_keys(old.field, field)) {
                found.push(violation(id, Rule::FieldPlace, why));
            }
        }
        found
    }
}

/// Returns the reason if a map's keys get or lose fields: equal keys would become different, or the reverse (Java: `SchemaUpdate`
/// rejects it).
fn other_keys(old: &NestedField, new: &NestedField) -> Option<String> {
    let (Type::Map(before), Type::Map(after)) = (old.field_type.as_ref(), new.field_type.as_ref()) else { return None };
    let ids = |field: &NestedField| {
        let mut all = BTreeSet::new();
        add_ids(field, &mut all);
        all
    };
    (ids(&before.key_field) != ids(&after.key_field)).then(|| "the fields of its keys can't change".to_owned())
}

fn add_ids(field: &NestedField, all: &mut BTreeSet<i32>) {
    all.insert(field.id);
    field.field_type.children().into_iter().for_each(|child| add_ids(child, all));
}

/// Returns the reason if a list's element, or a map's key or value, has another id: no field would claim the items in existing
/// files.
fn other_items(old: &NestedField, new: &NestedField) -> Option<String> {
    let ids = |field: &NestedField| match field.field_type.as_ref() {
        ty @ (Type::List(_) | Type::Map(_)) => ty.children().iter().map(|child| child.id).collect(),
        _ => Vec::new(),
    };
    let (before, after) = (ids(old), ids(new));
    let other = before.iter().zip(&after).find(|(before, after)| before != after);
    other.map(|(before, after)| format!("its items were field {before} and can't become field {after}"))
}

/// Returns `true` if two states of a field have the same initial default, compared as values of the later type.
fn is_same_default(old: &NestedField, new: &NestedField) -> bool {
    if old.initial_default == new.initial_default {
        return true;
    }
    let (Some(before), Some(after)) = (&old.initial_default, &new.initial_default) else { return false };
    let value = before.value(&old.field_type);
    let promoted = match (old.field_type.as_ref(), new.field_type.as_ref()) {
        // A value is promoted as a bound is.
        (Type::Primitive(from), Type::Primitive(to)) if from != to => {
            value.and_then(|value| Value::from_bytes(to, &value.to_bytes()?))
        }
        _ => value,
    };
    promoted.is_some() && promoted == after.value(&new.field_type)
}

/// Returns the reason if a required field is added to a struct that older rows have. Returns `None` if the field existed before.
///
/// A field within an added field is missing together with it.
fn without_defaults(schema: &Schema, id: i32, before: &HashMap<i32, Placed<'_>>) -> Option<String> {
    let field = schema.field_by_id(id).filter(|field| field.required && !before.contains_key(&id))?;
    let is_in_old_struct = schema.parent_of(id).is_none_or(|parent| {
        before.get(&parent).is_some_and(|parent| matches!(parent.field.field_type.as_ref(), Type::Struct(_)))
    });
    let defaults = [("initial-default", &field.initial_default), ("write-default", &field.write_default)];
    let (missing, _) = defaults.into_iter().find(|(_, default)| default.is_none())?;
    is_in_old_struct.then(|| format!("it is required, was added, and has no {missing}"))
}

/// Returns `true` if a branch reaches a snapshot that may have rows from before the schema.
fn has_older_rows(metadata: &TableMetadata, schema_id: i32) -> bool {
    let is_older = |snapshot: &Snapshot| snapshot.schema_id.is_none_or(|id| id < schema_id);
    let parent = |snapshot: &&Snapshot| snapshot.parent_snapshot_id.and_then(|id| metadata.snapshots.get(id)).map(AsRef::as_ref);
    let mut heads = metadata.refs.values().filter(|reference| reference.is_branch()).map(|reference| reference.snapshot_id);
    heads.any(|id| {
        let head = metadata.snapshots.get(id).map(AsRef::as_ref);
        // A damaged lineage may be a cycle.
        std::iter::successors(head, parent).take(metadata.snapshots.len()).any(is_older)
    })
}

/// Returns the reason if a field may not change its type in this way, or `None` if it may.
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
    // The promotion would change the partition value: 1 day is 86,400,000,000 microseconds.
    let specs = metadata.partition_specs.iter().flat_map(|spec| spec.fields());
    let broken = specs.filter(|field| field.source_id() == Some(new.id)).find(|field| !stays(field.transform(), from, to));
    broken.map(|field| format!("it was {from}; as {to} partition field {} would have other values", field.name()))
}

/// Returns `true` if the transform has the same results before and after the promotion.
fn stays(transform: &Transform, from: &PrimitiveType, to: &PrimitiveType) -> bool {
    match from {
        PrimitiveType::Date => !matches!(transform, Transform::Identity | Transform::Bucket(_) | Transform::Unknown(_)),
        PrimitiveType::Unknown => matches!(transform, Transform::Void),
        _ => !matches!(transform, Transform::Unknown(_)) && transform.result_type(&to.clone().into()).is_some(),
    }
}
