//! Rules of schemas.

use std::collections::{BTreeSet, HashMap};

use super::{Rule, Violation};
use crate::{
    MAX_DECIMAL_PRECISION, NestedField, NestedFieldRef, PrimitiveType, Schema, Snapshot, TableMetadata, Transform, Type, Value,
};

pub(super) fn check(metadata: &TableMetadata) -> Vec<Violation> {
    let schemas = metadata.schemas.iter();
    let mut found: Vec<Violation> = schemas.flat_map(|schema| of_schema(schema, metadata.format_version)).collect();
    let highest = metadata.schemas.iter().map(|schema| schema.highest_field_id()).max().unwrap_or(0);
    if highest > metadata.last_column_id {
        let why = format!("it is {}, and there is a field with the id {highest}", metadata.last_column_id);
        found.push(Violation::new(Rule::LastColumnId, "last-column-id", why));
    }
    found
}

/// What of a schema by itself breaks a rule of a version of the format.
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

/// The highest id that a column may have; those above are of metadata columns.
const HIGHEST_COLUMN_ID: i32 = i32::MAX - 200;

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
    // A name with arguments that are wrong is none that a later version may bring.
    let misspelt = match ty {
        Type::Primitive(PrimitiveType::Fixed(length)) => i32::try_from(*length).is_err(),
        Type::Primitive(PrimitiveType::Other(name)) => {
            // The name of a type that is known, with something behind it that is none of its parameters.
            let name = name.as_str().unwrap_or_default().to_ascii_lowercase();
            let stem = name.split(['(', '[', '<']).next().unwrap_or_default().trim();
            let is_known = !matches!(PrimitiveType::named(stem), PrimitiveType::Other(_)) || matches!(stem, "decimal" | "fixed");
            is_known && stem.len() < name.len()
        }
        _ => false,
    };
    let misspelt =
        misspelt.then(|| (Rule::TypeOfVersion, format!("{ty} is not how a type is written, as decimal(9, 2) or fixed[16]")));
    // No reference system that Java reads has a comma.
    let edges = match ty {
        Type::Primitive(PrimitiveType::Geography { crs: Some(crs), edges: None }) => crs.rsplit_once(','),
        _ => None,
    };
    let edges = edges.map(|(_, edges)| {
        let known = "spherical, vincenty, thomas, andoyer and karney";
        (Rule::EdgeAlgorithm, format!("{ty}: {} is none of {known}", edges.trim()))
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
        let none = || (Rule::DefaultOfType, format!("{name} {} is no value of {ty}", default.json()));
        match ty {
            // Of a struct it is null or without values: its fields have their own.
            Type::Struct(_) => default.json().as_object().is_none_or(|fields| !fields.is_empty()).then(none),
            Type::Primitive(PrimitiveType::Other(_)) => None,
            ty if default.value(ty).is_none() => Some(none()),
            ty if default.is_as_specified(ty) => None,
            ty => Some((Rule::DefaultOfType, format!("{name} {} is not how a value of {ty} is written", default.json()))),
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
            ty => return Some(format!("column {} is {ty}, no simple type", schema.name_by_field_id(id).unwrap_or_default())),
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

/// A field as a schema has it, and the field that it is in.
struct Placed<'a> {
    field: &'a NestedFieldRef,
    parent: Option<i32>,
}

/// The schemas in the order in which they were added. Some writers list them in none.
fn in_order(metadata: &TableMetadata) -> Vec<&Schema> {
    let mut schemas: Vec<&Schema> = metadata.schemas.iter().map(AsRef::as_ref).collect();
    schemas.sort_by_key(|schema| schema.schema_id());
    schemas
}

/// Fields that are in a later schema what the specification does not let them become, or that it does not let be added as they are.
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

/// What a change of the current schema makes of fields that the specification does not let them become, and fields that it does not let be
/// added as they are. A schema that was never the current one has no rows.
pub(super) fn changed(before: &TableMetadata, after: &TableMetadata) -> Vec<Violation> {
    let (old, new) = (before.current_schema(), after.current_schema());
    if old.is_same_as(new) {
        return Vec::new();
    }
    let mut fields = Fields::default();
    in_order(before).into_iter().for_each(|schema| fields.add(schema));
    fields.add(old);
    let mut found = fields.illegal(new, after);
    let used = |id: &i32| *id <= before.last_column_id && !fields.0.contains_key(id);
    for id in ids_in_order(new).into_iter().filter(used) {
        let what = format!("schema {}, field {} ({id})", new.schema_id(), new.name_by_field_id(id).unwrap_or_default());
        let why = format!("its id may have been another field's: last-column-id was {}", before.last_column_id);
        found.push(Violation::new(Rule::LastColumnId, what, why));
    }
    found
}

/// Fields by their ids, each as the last of some schemas has it.
#[derive(Default)]
struct Fields<'a>(HashMap<i32, Placed<'a>>);

impl<'a> Fields<'a> {
    fn add(&mut self, schema: &'a Schema) {
        let placed = |id| Some((id, Placed { field: schema.field_by_id(id)?, parent: schema.parent_of(id) }));
        self.0.extend(schema.field_ids().filter_map(placed));
    }

    /// What a next schema makes of them that it may not.
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
                found.push(violation(id, Rule::InitialDefaultChanged, "its initial-default is another than before".to_owned()));
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

/// A map whose keys get or lose fields: keys that were equal would not be, or the other way round (Java: `SchemaUpdate` refuses it).
fn other_keys(old: &NestedField, new: &NestedField) -> Option<String> {
    let (Type::Map(before), Type::Map(after)) = (old.field_type.as_ref(), new.field_type.as_ref()) else { return None };
    let ids = |field: &NestedField| {
        let mut all = BTreeSet::new();
        add_ids(field, &mut all);
        all
    };
    (ids(&before.key_field) != ids(&after.key_field)).then(|| "the fields of its keys can't become others".to_owned())
}

fn add_ids(field: &NestedField, all: &mut BTreeSet<i32>) {
    all.insert(field.id);
    field.field_type.children().into_iter().for_each(|child| add_ids(child, all));
}

/// A list whose element has another id, or a map whose key or value has, has other items: those of the files that are there would be
/// nobody's.
fn other_items(old: &NestedField, new: &NestedField) -> Option<String> {
    let ids = |field: &NestedField| match field.field_type.as_ref() {
        ty @ (Type::List(_) | Type::Map(_)) => ty.children().iter().map(|child| child.id).collect(),
        _ => Vec::new(),
    };
    let (before, after) = (ids(old), ids(new));
    let other = before.iter().zip(&after).find(|(before, after)| before != after);
    other.map(|(before, after)| format!("its items were field {before} and can't become field {after}"))
}

/// Whether two states of a field have one initial default, however each writes it: as a value of the later type.
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

/// Why a field can't be added to a struct whose rows were written before; none if it can, or if it is there already. What is within a field
/// that is added is missing together with it.
fn without_defaults(schema: &Schema, id: i32, before: &HashMap<i32, Placed<'_>>) -> Option<String> {
    let field = schema.field_by_id(id).filter(|field| field.required && !before.contains_key(&id))?;
    let is_in_old_struct = schema.parent_of(id).is_none_or(|parent| {
        before.get(&parent).is_some_and(|parent| matches!(parent.field.field_type.as_ref(), Type::Struct(_)))
    });
    let defaults = [("initial-default", &field.initial_default), ("write-default", &field.write_default)];
    let (missing, _) = defaults.into_iter().find(|(_, default)| default.is_none())?;
    is_in_old_struct.then(|| format!("it is required, was added, and has no {missing}"))
}

/// Whether a branch leads to a snapshot that may hold rows from before a schema.
fn has_older_rows(metadata: &TableMetadata, schema_id: i32) -> bool {
    let is_older = |snapshot: &Snapshot| snapshot.schema_id.is_none_or(|id| id < schema_id);
    let parent = |snapshot: &&Snapshot| snapshot.parent_snapshot_id.and_then(|id| metadata.snapshots.get(id)).map(AsRef::as_ref);
    let mut heads = metadata.refs.values().filter(|reference| reference.is_branch()).map(|reference| reference.snapshot_id);
    heads.any(|id| {
        let head = metadata.snapshots.get(id).map(AsRef::as_ref);
        // A lineage that comes back to where it was would have no end.
        std::iter::successors(head, parent).take(metadata.snapshots.len()).any(is_older)
    })
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
