//! Rules of partition specs and sort orders.
//!
//! Spec: "Partitioning", "Partition Evolution", "Sorting".

use std::collections::{HashMap, HashSet};

use super::{Rule, Violation};
use crate::metadata::highest_partition_id;
use crate::{PartitionField, PartitionSpec, Schema, SortOrder, TableMetadata, Transform, Type};

/// Returns the violations in the table's specs and sort orders.
pub(super) fn check(metadata: &TableMetadata) -> Vec<Violation> {
    let mut found = Vec::new();
    for spec in &metadata.partition_specs {
        found.extend(names(metadata, spec));
    }
    // No schema may have the type of a dropped column any more, and writers use only the default spec and order.
    found.extend(of_spec(metadata, metadata.default_partition_spec()));
    found.extend(of_order(metadata, metadata.default_sort_order()));
    found.extend(field_ids(metadata));
    let highest = highest_partition_id(&metadata.partition_specs);
    if highest > metadata.last_partition_id && metadata.partition_specs.iter().any(|spec| !spec.fields().is_empty()) {
        let why = format!("it is {}, but a partition field has the id {highest}", metadata.last_partition_id);
        found.push(Violation::new(Rule::LastPartitionId, "last-partition-id", why));
    }
    found
}

/// Returns the violations in the sources of added specs and sort orders that are not the default.
pub(super) fn changed(before: &TableMetadata, after: &TableMetadata) -> Vec<Violation> {
    let specs = after.partition_specs.iter().filter(|spec| before.partition_spec_by_id(spec.spec_id()).is_none());
    let specs = specs.filter(|spec| spec.spec_id() != after.default_spec_id).flat_map(|spec| of_spec(after, spec));
    let orders = after.sort_orders.iter().filter(|order| before.sort_order_by_id(order.order_id).is_none());
    let orders = orders.filter(|order| order.order_id != after.default_sort_order_id).flat_map(|order| of_order(after, order));
    specs.chain(orders).collect()
}

/// Returns the violations in the sources of a spec's fields.
fn of_spec(metadata: &TableMetadata, spec: &PartitionSpec) -> Vec<Violation> {
    let mut found = Vec::new();
    for field in spec.fields().iter().filter(|field| *field.transform() != Transform::Void) {
        let what = format!("partition spec {}, field {}", spec.spec_id(), field.name());
        let source = field.source_id().into_iter().chain(field.unbound().source_ids.iter().flatten().copied());
        let source: Vec<i32> = source.collect();
        let violation = |(rule, why)| Violation::of_field(rule, what.clone(), why, field.field_id);
        found.extend(sources(metadata, field.transform(), &source).into_iter().map(violation));
        if source.iter().any(|id| is_repeated(metadata.current_schema(), *id)) {
            found.push(violation((Rule::SourcePlace, "its source is in a list or a map".to_owned())));
        }
    }
    found
}

/// Returns the violations in the sources of a sort order's fields.
fn of_order(metadata: &TableMetadata, order: &SortOrder) -> Vec<Violation> {
    let mut found = Vec::new();
    for (place, field) in order.fields.iter().enumerate() {
        let what = format!("sort order {}, field {}", order.order_id, place + 1);
        let source = field.source_id.into_iter().chain(field.source_ids.iter().flatten().copied());
        let source: Vec<i32> = source.collect();
        let violation = |(rule, why)| Violation::of_field(rule, what.clone(), why, source.first().copied().unwrap_or_default());
        found.extend(sources(metadata, &field.transform, &source).into_iter().map(violation));
    }
    found
}

/// Returns the rules that a transform and its sources break, each with the reason.
fn sources(metadata: &TableMetadata, transform: &Transform, ids: &[i32]) -> Vec<(Rule, String)> {
    let schema = metadata.current_schema();
    let mut found = Vec::new();
    if ids.is_empty() {
        found.push((Rule::SourceExists, "it names no source".to_owned()));
    }
    if let Transform::Unknown(name) = transform
        && ["bucket[", "truncate["].iter().any(|known| name.to_ascii_lowercase().starts_with(known))
    {
        found.push((Rule::SourceType, format!("{name} is not a valid bucket[N] or truncate[W]: the number must be 1 or more")));
    }
    for id in ids {
        let Some(field) = schema.field_by_id(*id) else {
            found.push((Rule::SourceExists, format!("the schema has no field with the id {id}, its source")));
            continue;
        };
        let is_simple = matches!(field.field_type.as_ref(), Type::Primitive(_));
        let is_known = !matches!(transform, Transform::Unknown(_) | Transform::Void);
        if is_known && (!is_simple || transform.result_type(&field.field_type).is_none()) {
            let name = schema.name_by_field_id(*id).unwrap_or(&field.name);
            found
                .push((Rule::SourceType, format!("{transform} does not accept {}, the type of column {name}", field.field_type)));
        }
    }
    found
}

/// Returns `true` if a field is in a list or map, at any depth.
fn is_repeated(schema: &Schema, id: i32) -> bool {
    let around = std::iter::successors(schema.parent_of(id), |id| schema.parent_of(*id));
    let mut around = around.filter_map(|id| schema.field_by_id(id));
    around.any(|field| matches!(field.field_type.as_ref(), Type::List(_) | Type::Map(_)))
}

/// Returns the violations in the names of a spec's fields.
///
/// In format version 1 a field that is no longer used stays in the spec, as void, and may keep the name of its column. The field of
/// a former default spec may keep a name that a new column has, if its source was dropped.
fn names(metadata: &TableMetadata, spec: &PartitionSpec) -> Vec<Violation> {
    let mut seen = HashSet::new();
    let why = |field: &PartitionField| {
        if !seen.insert(field.name().to_owned()) {
            return Some("another field of the spec has its name".to_owned());
        }
        if field.name().is_empty() {
            return Some("it has no name".to_owned());
        }
        let schema = metadata.current_schema();
        let column = schema.field_id_by_name(field.name())?;
        let is_gone = field.source_id().is_some_and(|id| schema.field_by_id(id).is_none());
        if is_gone && spec.spec_id() != metadata.default_spec_id {
            return None;
        }
        let own = field.source_id() == Some(column) && field.transform().is_identity();
        (!own && *field.transform() != Transform::Void).then(|| format!("a column is called {}", field.name()))
    };
    let whys: Vec<(&PartitionField, Option<String>)> = {
        let mut why = why;
        spec.fields().iter().map(|field| (field, why(field))).collect()
    };
    let violation = |(field, why): (&PartitionField, Option<String>)| {
        let what = format!("partition spec {}, field {}", spec.spec_id(), field.name());
        why.map(|why| Violation::of_field(Rule::PartitionName, what, why, field.field_id))
    };
    whys.into_iter().filter_map(violation).collect()
}

/// Returns the violations in partition field ids. Manifests identify a field by its id, so one id with two meanings would be
/// misread.
fn field_ids(metadata: &TableMetadata) -> Vec<Violation> {
    let mut meanings: HashMap<i32, &PartitionField> = HashMap::new();
    let mut found = Vec::new();
    for spec in &metadata.partition_specs {
        let mut seen = HashSet::new();
        for field in spec.fields() {
            if !seen.insert(field.field_id) {
                let what = format!("partition spec {}, field {}", spec.spec_id(), field.name());
                let why = format!("another field of the spec has its id, {}", field.field_id);
                found.push(Violation::of_field(Rule::PartitionFieldId, what, why, field.field_id));
            }
            let other = meanings.insert(field.field_id, field);
            let void = |field: &PartitionField| *field.transform() == Transform::Void;
            let differs = |other: &&PartitionField| {
                other.source_id() != field.source_id() || (other.transform() != field.transform() && !void(other) && !void(field))
            };
            if let Some(other) = other.filter(differs).filter(|_| metadata.format_version > 1) {
                let what = format!("partition spec {}, field {}", spec.spec_id(), field.name());
                let why = format!("its id {} means {} in another spec", field.field_id, other.name());
                found.push(Violation::of_field(Rule::PartitionFieldId, what, why, field.field_id));
            }
        }
    }
    found
}
