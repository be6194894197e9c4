//! Rules of partition specs and sort orders.

use std::collections::{HashMap, HashSet};

use super::{Rule, Violation};
use crate::metadata::highest_partition_id;
use crate::{PartitionField, PartitionSpec, Schema, TableMetadata, Transform, Type};

pub(super) fn check(metadata: &TableMetadata) -> Vec<Violation> {
    let mut found = Vec::new();
    for spec in &metadata.partition_specs {
        found.extend(names(metadata, spec));
    }
    // What a column is named or of that was dropped is told by no schema; writers use the default.
    let spec = metadata.default_partition_spec();
    for field in spec.fields().iter().filter(|field| *field.transform() != Transform::Void) {
        let what = format!("partition spec {}, field {}", spec.spec_id(), field.name());
        let source = field.source_id().into_iter().chain(field.unbound().source_ids.iter().flatten().copied());
        let source: Vec<i32> = source.collect();
        found.extend(sources(metadata, &what, field.transform(), &source));
        if source.iter().any(|id| is_repeated(metadata.current_schema(), *id)) {
            found.push(Violation::new(Rule::SourcePlace, what, "its source is in a list or a map"));
        }
    }
    let order = metadata.default_sort_order();
    for (place, field) in order.fields.iter().enumerate() {
        let what = format!("sort order {}, field {}", order.order_id, place + 1);
        let source = field.source_id.into_iter().chain(field.source_ids.iter().flatten().copied());
        found.extend(sources(metadata, &what, &field.transform, &source.collect::<Vec<_>>()));
    }
    found.extend(field_ids(metadata));
    let highest = highest_partition_id(&metadata.partition_specs);
    if highest > metadata.last_partition_id && metadata.partition_specs.iter().any(|spec| !spec.fields().is_empty()) {
        let why = format!("it is {}, and there is a partition field with the id {highest}", metadata.last_partition_id);
        found.push(Violation::new(Rule::LastPartitionId, "last-partition-id", why));
    }
    found
}

fn sources(metadata: &TableMetadata, what: &str, transform: &Transform, ids: &[i32]) -> Vec<Violation> {
    let schema = metadata.current_schema();
    let mut found = Vec::new();
    if ids.is_empty() {
        found.push(Violation::new(Rule::SourceExists, what, "it names no source"));
    }
    for id in ids {
        let Some(field) = schema.field_by_id(*id) else {
            found.push(Violation::new(Rule::SourceExists, what, format!("the schema has no field with the id {id}, its source")));
            continue;
        };
        let is_simple = matches!(field.field_type.as_ref(), Type::Primitive(_));
        let is_known = !matches!(transform, Transform::Unknown(_));
        if is_known && (!is_simple || transform.result_type(&field.field_type).is_none()) {
            found.push(Violation::new(Rule::SourceType, what, format!("{transform} takes no {}", field.field_type)));
        }
    }
    found
}

/// Whether a field is in a list or a map, at any depth.
fn is_repeated(schema: &Schema, id: i32) -> bool {
    let around = std::iter::successors(schema.parent_of(id), |id| schema.parent_of(*id));
    let mut around = around.filter_map(|id| schema.field_by_id(id));
    around.any(|field| matches!(field.field_type.as_ref(), Type::List(_) | Type::Map(_)))
}

/// A field of version 1 that is not used any more keeps its place, and may keep the name of its column.
fn names(metadata: &TableMetadata, spec: &PartitionSpec) -> Vec<Violation> {
    let mut seen = HashSet::new();
    let why = |field: &PartitionField| {
        if !seen.insert(field.name().to_owned()) {
            return Some("another field of the spec has its name".to_owned());
        }
        let column = metadata.current_schema().field_id_by_name(field.name())?;
        let own = field.source_id() == Some(column) && field.transform().is_identity();
        (!own && *field.transform() != Transform::Void).then(|| format!("a column is called {}", field.name()))
    };
    let whys: Vec<(&PartitionField, Option<String>)> = {
        let mut why = why;
        spec.fields().iter().map(|field| (field, why(field))).collect()
    };
    let violation = |(field, why): (&PartitionField, Option<String>)| {
        let what = format!("partition spec {}, field {}", spec.spec_id(), field.name());
        why.map(|why| Violation::new(Rule::PartitionName, what, why))
    };
    whys.into_iter().filter_map(violation).collect()
}

/// In manifests a partition field is known by its id: of two meanings one would be read as the other.
fn field_ids(metadata: &TableMetadata) -> Vec<Violation> {
    let mut meanings: HashMap<i32, &PartitionField> = HashMap::new();
    let mut found = Vec::new();
    for spec in &metadata.partition_specs {
        for field in spec.fields() {
            let other = meanings.insert(field.field_id, field);
            let void = |field: &PartitionField| *field.transform() == Transform::Void;
            let differs = |other: &&PartitionField| {
                other.source_id() != field.source_id() || (other.transform() != field.transform() && !void(other) && !void(field))
            };
            if let Some(other) = other.filter(differs).filter(|_| metadata.format_version > 1) {
                let what = format!("partition spec {}, field {}", spec.spec_id(), field.name());
                let why = format!("its id {} means {} in another spec", field.field_id, other.name());
                found.push(Violation::new(Rule::PartitionFieldId, what, why));
            }
        }
    }
    found
}
