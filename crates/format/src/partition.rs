//! Partition specs.

use std::collections::HashMap;
use std::sync::Arc;

use crate::{Extra, PrimitiveType, Transform, Type};

/// The first id that partition fields have.
pub const FIRST_PARTITION_FIELD_ID: i32 = 1000;

/// A field of a partition spec, as it may be asked for before it has an id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnboundPartitionField {
    /// The field of the schema that it is made of; none if it is made of several.
    pub source_id: Option<i32>,
    /// The fields of the schema, where a transform takes several (version 3).
    pub source_ids: Option<Vec<i32>>,
    /// What identifies it within its table. Version 1 may leave it out.
    pub field_id: Option<i32>,
    /// Its name.
    pub name: String,
    /// What it makes of its source.
    pub transform: Transform,
    /// What else its JSON says.
    pub extra: Extra,
}

impl UnboundPartitionField {
    /// Of one field of the schema, without an id.
    pub fn new(source_id: i32, name: impl Into<String>, transform: Transform) -> Self {
        let name = name.into();
        Self { source_id: Some(source_id), source_ids: None, field_id: None, name, transform, extra: Extra::default() }
    }
}

/// A field of a partition spec.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PartitionField {
    /// What identifies it within its table, and in manifests.
    pub field_id: i32,
    /// As it was asked for.
    field: UnboundPartitionField,
}

impl PartitionField {
    /// With an id.
    pub fn new(field_id: i32, field: UnboundPartitionField) -> Self {
        Self { field_id, field: UnboundPartitionField { field_id: Some(field_id), ..field } }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.field.name
    }

    /// What it makes of its source.
    pub const fn transform(&self) -> &Transform {
        &self.field.transform
    }

    /// The field of the schema that it is made of; none if it is made of several.
    pub fn source_id(&self) -> Option<i32> {
        match (self.field.source_id, self.field.source_ids.as_deref()) {
            (Some(id), _) => Some(id),
            (None, Some([id])) => Some(*id),
            _ => None,
        }
    }

    /// As it is written.
    pub const fn unbound(&self) -> &UnboundPartitionField {
        &self.field
    }
}

/// How a table's files are parted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSpec {
    spec_id: i32,
    fields: Vec<PartitionField>,
    pub(crate) extra: Extra,
}

/// A spec that is shared.
pub type PartitionSpecRef = Arc<PartitionSpec>;

impl PartitionSpec {
    /// Of fields. Those that have no id, as in version 1, get the next ones from 1000 on.
    pub fn new(spec_id: i32, fields: Vec<UnboundPartitionField>) -> Self {
        let mut next = FIRST_PARTITION_FIELD_ID;
        let fields = fields.into_iter().map(|field| {
            let id = field.field_id.unwrap_or(next);
            next = next.max(id.saturating_add(1));
            PartitionField::new(id, field)
        });
        Self { spec_id, fields: fields.collect(), extra: Extra::default() }
    }

    /// With no fields: all files are in one partition.
    pub const fn unpartitioned(spec_id: i32) -> Self {
        Self { spec_id, fields: Vec::new(), extra: Extra::NONE }
    }

    /// With another id.
    #[must_use]
    pub fn with_spec_id(mut self, spec_id: i32) -> Self {
        self.spec_id = spec_id;
        self
    }

    /// What identifies it within its table.
    pub const fn spec_id(&self) -> i32 {
        self.spec_id
    }

    /// The fields in order.
    pub fn fields(&self) -> &[PartitionField] {
        &self.fields
    }

    /// Whether all files are in one partition.
    pub fn is_unpartitioned(&self) -> bool {
        self.fields.iter().all(|field| *field.transform() == Transform::Void)
    }

    /// The types of a partition's values. `source` tells the type of a field of the schema now, or when it was last there; of a field of
    /// which nothing is known, or whose transform nobody knows, the type is none: it is what the manifest says.
    pub fn types<'a>(&self, source: impl Fn(i32) -> Option<&'a Type>) -> Vec<Option<PrimitiveType>> {
        let of = |field: &PartitionField| {
            let result = field.transform().result_type(source(field.source_id()?)?)?;
            result.as_primitive().cloned()
        };
        self.fields.iter().map(of).collect()
    }

    /// Whether two specs part files alike, whatever their fields are called.
    pub fn is_compatible_with(&self, other: &Self) -> bool {
        let alike = |(a, b): (&PartitionField, &PartitionField)| {
            a.field_id == b.field_id && a.source_id() == b.source_id() && a.transform() == b.transform()
        };
        self.fields.len() == other.fields.len() && self.fields.iter().zip(&other.fields).all(alike)
    }
}

/// Finds the fields of all specs of a table by id.
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
