//! Partition specs: the fields that divide a table's files into partitions.
//!
//! Spec: "Partitioning".

use std::collections::HashMap;
use std::sync::Arc;

use crate::{Extra, PrimitiveType, Transform, Type};

/// The lowest id of partition fields. Ids below belong to columns.
///
/// Spec: "Partition Evolution".
pub const FIRST_PARTITION_FIELD_ID: i32 = 1000;

/// A partition field whose id may not be assigned yet, as a client requests it.
///
/// Spec: "Partitioning".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnboundPartitionField {
    /// The id of the schema's field that the partition value is computed from; `None` if `source_ids` has several.
    pub source_id: Option<i32>,
    /// The ids of the schema's fields, for a transform of several arguments (format version 3).
    pub source_ids: Option<Vec<i32>>,
    /// The id of the field, unique within its table. Format version 1 may leave it out.
    pub field_id: Option<i32>,
    /// The name of the field.
    pub name: String,
    /// The transform that computes the partition value.
    pub transform: Transform,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

impl UnboundPartitionField {
    /// Returns a field with one source and no id.
    pub fn new(source_id: i32, name: impl Into<String>, transform: Transform) -> Self {
        let name = name.into();
        Self { source_id: Some(source_id), source_ids: None, field_id: None, name, transform, extra: Extra::default() }
    }
}

/// A field of a partition spec, with its id.
///
/// Spec: "Partitioning".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PartitionField {
    /// The id of the field, unique within its table. Manifests identify the field by it.
    pub field_id: i32,
    /// The field as metadata has it, id included.
    field: UnboundPartitionField,
}

impl PartitionField {
    /// Assigns `field_id` to `field`, in place of the id that it has.
    pub fn new(field_id: i32, field: UnboundPartitionField) -> Self {
        Self { field_id, field: UnboundPartitionField { field_id: Some(field_id), ..field } }
    }

    /// Returns the name of the field.
    pub fn name(&self) -> &str {
        &self.field.name
    }

    /// Returns the transform that computes the partition value.
    pub const fn transform(&self) -> &Transform {
        &self.field.transform
    }

    /// Returns the id of the schema's field that the partition value is computed from, or `None` if there are several.
    pub fn source_id(&self) -> Option<i32> {
        match (self.field.source_id, self.field.source_ids.as_deref()) {
            (Some(id), _) => Some(id),
            (None, Some([id])) => Some(*id),
            _ => None,
        }
    }

    /// Returns the field in the form in which metadata has it.
    pub const fn unbound(&self) -> &UnboundPartitionField {
        &self.field
    }
}

/// The fields that divide a table's files into partitions.
///
/// Spec: "Partitioning".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSpec {
    spec_id: i32,
    fields: Vec<PartitionField>,
    pub(crate) extra: Extra,
}

/// A shared partition spec.
pub type PartitionSpecRef = Arc<PartitionSpec>;

impl PartitionSpec {
    /// Builds a spec. Fields without an id, which format version 1 allows, get the next free ids from 1000 on.
    pub fn new(spec_id: i32, fields: Vec<UnboundPartitionField>) -> Self {
        let mut next = FIRST_PARTITION_FIELD_ID;
        let fields = fields.into_iter().map(|field| {
            let id = field.field_id.unwrap_or(next);
            next = next.max(id.saturating_add(1));
            PartitionField::new(id, field)
        });
        Self { spec_id, fields: fields.collect(), extra: Extra::default() }
    }

    /// Returns a spec without fields: all files are in one partition.
    pub const fn unpartitioned(spec_id: i32) -> Self {
        Self { spec_id, fields: Vec::new(), extra: Extra::NONE }
    }

    /// Returns the spec with `spec_id` as its id.
    #[must_use]
    pub fn with_spec_id(mut self, spec_id: i32) -> Self {
        self.spec_id = spec_id;
        self
    }

    /// Returns the id of the spec, unique within its table.
    pub const fn spec_id(&self) -> i32 {
        self.spec_id
    }

    /// Returns the fields in the order of a partition's values.
    pub fn fields(&self) -> &[PartitionField] {
        &self.fields
    }

    /// Returns `true` if all files are in one partition: no field has a transform other than void.
    pub fn is_unpartitioned(&self) -> bool {
        self.fields.iter().all(|field| *field.transform() == Transform::Void)
    }

    /// Returns the types of a partition's values, in the order of the fields.
    ///
    /// `source` returns the type of a schema field, now or in the last schema that had it. The result has `None` where that type is
    /// unknown, or this version of Esker does not define the transform. Such values have the types that the manifest gives.
    pub fn types<'a>(&self, source: impl Fn(i32) -> Option<&'a Type>) -> Vec<Option<PrimitiveType>> {
        let of = |field: &PartitionField| {
            let result = field.transform().result_type(source(field.source_id()?)?)?;
            result.as_primitive().cloned()
        };
        self.fields.iter().map(of).collect()
    }

    /// Returns `true` if two specs have the same fields except for their names, and so make the same partitions.
    pub fn is_compatible_with(&self, other: &Self) -> bool {
        let alike = |(a, b): (&PartitionField, &PartitionField)| {
            a.field_id == b.field_id && a.source_id() == b.source_id() && a.transform() == b.transform()
        };
        self.fields.len() == other.fields.len() && self.fields.iter().zip(&other.fields).all(alike)
    }
}

/// Indexes the fields of `specs` by field id. If several specs have a field, the last one wins.
pub fn fields_by_id<'a>(specs: impl IntoIterator<Item = &'a PartitionSpec>) -> HashMap<i32, &'a PartitionField> {
    specs.into_iter().flat_map(PartitionSpec::fields).map(|field| (field.field_id, field)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(source: i32, name: &str, transform: &str, field_id: Option<i32>) -> UnboundPartitionField {
        UnboundPartitionField { field_id, ..UnboundPartitionField::new(source, name, Transform::named(transform)) }
    }

    #[test]
    fn fields_without_ids_get_the_next_ones() {
        let fields = vec![field(1, "a", "identity", None), field(2, "b", "day", Some(1005)), field(3, "c", "void", None)];
        let spec = PartitionSpec::new(2, fields);
        assert_eq!(spec.fields().iter().map(|field| field.field_id).collect::<Vec<_>>(), [1000, 1005, 1006]);
        assert!(!spec.is_unpartitioned());
        assert!(PartitionSpec::new(0, vec![field(1, "a", "void", None)]).is_unpartitioned());
    }

    #[test]
    fn the_types_of_values_are_what_transforms_make_of_their_sources() {
        let fields = vec![field(1, "a", "identity", None), field(2, "b", "bucket[4]", None), field(3, "c", "identity", None)];
        let (long, string) = (Type::from(PrimitiveType::Long), Type::from(PrimitiveType::String));
        let types = PartitionSpec::new(1, fields).types(|id| match id {
            1 => Some(&long),
            2 => Some(&string),
            _ => None,
        });
        assert_eq!(types, [Some(PrimitiveType::Long), Some(PrimitiveType::Int), None]);
    }
}
