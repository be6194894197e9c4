//! Fields of manifests and manifest lists that this version of Esker does not define, kept and written back.
//!
//! They come from a later version of the format or from another writer. A field is identified by its id and by the record that
//! holds it (the entry or the data file). All records of one file share the list of unknown fields and one buffer of encoded
//! values.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::{BoundBytes, BoundMap};

/// A field of an Avro record whose id this version of Esker does not define.
#[derive(Debug, Clone, Eq)]
pub struct UnknownField {
    /// The field's id, unique within its record.
    pub id: i32,
    /// `true` if the field belongs to the manifest entry itself, and not to the data file in it.
    pub of_entry: bool,
    /// The field's name: `iceberg-field-name` of the writer's schema if there is one, else the Avro name.
    pub name: Box<str>,
    /// The field's comment in the writer's schema.
    pub doc: Option<Box<str>>,
    /// The field's Avro type: a union whose first branch is null, with all attributes that the writer gave to the types in it.
    ///
    /// The type is self-contained: it refers to no named type of the writer's schema, and its own names differ from those of other
    /// fields. Within it, only a recursive reference uses a name.
    pub avro_type: Json,
}

/// Two fields are equal if record, id and type are. Names and comments do not count.
impl PartialEq for UnknownField {
    fn eq(&self, other: &Self) -> bool {
        (self.key(), &self.avro_type) == (other.key(), &other.avro_type)
    }
}

impl UnknownField {
    /// Returns the identity of the field: the record that holds it, and its id.
    pub(crate) const fn key(&self) -> (bool, i32) {
        (self.of_entry, self.id)
    }
}

/// The unknown fields of one Avro record with their values; nulls are left out. The records of one file share memory.
#[derive(Debug, Clone, Default)]
pub struct UnknownFields(Option<Arc<FieldValues>>);

#[derive(Debug)]
struct FieldValues {
    fields: Arc<[UnknownField]>,
    /// Encoded values, keyed by the field's position in `fields`.
    values: BoundMap,
}

impl UnknownFields {
    /// Builds the set from the file's unknown fields and the encoded values, keyed by position in `fields`.
    pub(crate) fn of(fields: &Arc<[UnknownField]>, values: BoundMap) -> Self {
        Self((!values.is_empty()).then(|| Arc::new(FieldValues { fields: fields.clone(), values })))
    }

    /// Returns the fields with their values. A value has Avro's binary encoding of [`UnknownField::avro_type`], a union, and so
    /// begins with the index of a branch.
    pub fn iter(&self) -> impl Iterator<Item = (&UnknownField, BoundBytes)> {
        let of = |kept: &'_ Arc<FieldValues>| -> Vec<(i32, BoundBytes)> { kept.values.iter().collect() };
        let values = self.0.as_ref().map(of).unwrap_or_default();
        let fields = self.0.as_ref().map(|kept| kept.fields.as_ref()).unwrap_or_default();
        values.into_iter().map(|(place, value)| (&fields[place as usize], value))
    }

    /// Returns the number of fields that have a value.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |kept| kept.values.len())
    }

    /// Returns `true` if no field has a value.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the fields with their values by rising id: first those of the data file, then those of the entry.
    pub(crate) fn by_id(&self) -> Vec<(&UnknownField, BoundBytes)> {
        let mut fields: Vec<_> = self.iter().collect();
        fields.sort_by_key(|(field, _)| field.key());
        fields
    }

    /// Returns the approximate heap size in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.0.as_ref().map_or(0, |kept| size_of::<FieldValues>() + kept.values.memory())
    }
}

/// Two sets are equal whatever the order of the fields in their files.
impl PartialEq for UnknownFields {
    fn eq(&self, other: &Self) -> bool {
        self.by_id() == other.by_id()
    }
}

impl Eq for UnknownFields {}
