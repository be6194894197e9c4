//! Partition specs, and what identifies a partition.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::{Extra, Transform, Tuple, Type, Value};

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
    pub fn types<'a>(&self, source: impl Fn(i32) -> Option<&'a Type>) -> Vec<Option<Type>> {
        let of = |field: &PartitionField| field.transform().result_type(source(field.source_id()?)?);
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

/// What identifies a partition: its spec, and its values of the types that their columns have now.
///
/// Two are equal where Java's `StructLikeWrapper` finds them equal: all NaN are one value, -0.0 and 0.0 are two.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    spec_id: i32,
    values: Tuple,
}

impl Partition {
    /// The partition of a spec with values as a manifest has them. Values of a column that was promoted since are promoted; `types` are
    /// [`PartitionSpec::types`]. A value of which the type is not known, or that can't be promoted to it, stays as it is.
    pub fn new(spec_id: i32, values: Tuple, types: &[Option<Type>]) -> Self {
        let mut values = values;
        for (value, ty) in values.iter_mut().zip(types) {
            if let (Some(from), Some(Type::Primitive(to))) = (value.as_ref(), ty)
                && let Some(promoted) = from.promoted(to)
            {
                *value = Some(promoted);
            }
        }
        Self { spec_id, values }
    }

    /// The spec.
    pub const fn spec_id(&self) -> i32 {
        self.spec_id
    }

    /// The values in the order of the spec's fields.
    pub fn values(&self) -> &[Option<Value>] {
        &self.values
    }
}

impl Hash for Partition {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec_id.hash(state);
        self.values.hash(state);
    }
}

/// Finds the fields of all specs of a table by id.
pub fn fields_by_id<'a>(specs: impl IntoIterator<Item = &'a PartitionSpec>) -> HashMap<i32, &'a PartitionField> {
    specs.into_iter().flat_map(PartitionSpec::fields).map(|field| (field.field_id, field)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::PrimitiveType;

    fn field(source: i32, name: &str, transform: &str, field_id: Option<i32>) -> UnboundPartitionField {
        let (name, transform) = (name.to_owned(), Transform::named(transform));
        UnboundPartitionField { source_id: Some(source), source_ids: None, field_id, name, transform, extra: Extra::default() }
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
    fn a_partition_is_the_same_before_and_after_its_column_was_promoted() {
        let spec = PartitionSpec::new(
            1,
            vec![field(1, "a", "identity", None), field(2, "b", "bucket[4]", None), field(3, "c", "identity", None)],
        );
        let (long, string) = (Type::from(PrimitiveType::Long), Type::from(PrimitiveType::String));
        let types = spec.types(|id| match id {
            1 => Some(&long),
            2 => Some(&string),
            _ => None,
        });
        assert_eq!(types, [Some(PrimitiveType::Long.into()), Some(PrimitiveType::Int.into()), None]);
        let of = |a: Value, c: f64| Partition::new(1, [Some(a), None, Some(Value::Double(c))].into(), &types);
        assert_eq!(of(Value::Int(5), f64::NAN), of(Value::Long(5), -f64::NAN));
        assert_ne!(of(Value::Int(5), 0.0), of(Value::Int(5), -0.0));
        assert_eq!(HashSet::from([of(Value::Int(5), 1.0), of(Value::Long(5), 1.0)]).len(), 1);
    }
}
