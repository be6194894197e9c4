//! Fields in manifests and manifest lists that a later version of the format has, or another writer: kept, and written back.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::{BoundBytes, BoundMap};

/// A field of an Avro file that nobody knows here by its id.
#[derive(Debug, Clone, Eq)]
pub struct UnknownField {
    /// The field's id, which tells it from the other fields of its record.
    pub id: i32,
    /// Whether it is one of the manifest's entry, beside the file, and not of the file.
    pub of_entry: bool,
    /// The name of the field, as the file's Avro schema has it.
    pub name: Box<str>,
    /// What its writer says of it.
    pub doc: Option<Box<str>>,
    /// Its type in Avro, with all that its writer says of types: a union, of which null is the first. It needs no name of the schema
    /// that it was in, and has none that another field's type has; a type is named only within itself.
    pub avro_type: Json,
}

/// Fields are known by their ids: names and comments say nothing.
impl PartialEq for UnknownField {
    fn eq(&self, other: &Self) -> bool {
        (self.key(), &self.avro_type) == (other.key(), &other.avro_type)
    }
}

impl UnknownField {
    /// What tells it from the other fields of a record.
    pub(crate) const fn key(&self) -> (bool, i32) {
        (self.of_entry, self.id)
    }
}

/// What an Avro record has of fields that nobody knows here, but for nulls. What records of one file have shares memory.
#[derive(Debug, Clone, Default)]
pub struct UnknownFields(Option<Arc<Kept>>);

#[derive(Debug)]
struct Kept {
    fields: Arc<[UnknownField]>,
    /// By places in the list.
    values: BoundMap,
}

impl UnknownFields {
    /// Of fields, and values by their places in the list.
    pub(crate) fn of(fields: &Arc<[UnknownField]>, values: BoundMap) -> Self {
        Self((!values.is_empty()).then(|| Arc::new(Kept { fields: fields.clone(), values })))
    }

    /// Fields and their values, which are encoded as their types are in Avro's binary encoding.
    pub fn iter(&self) -> impl Iterator<Item = (&UnknownField, BoundBytes)> {
        let of = |kept: &'_ Arc<Kept>| -> Vec<(i32, BoundBytes)> { kept.values.iter().collect() };
        let values = self.0.as_ref().map(of).unwrap_or_default();
        let fields = self.0.as_ref().map(|kept| kept.fields.as_ref()).unwrap_or_default();
        values.into_iter().map(|(place, value)| (&fields[place as usize], value))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |kept| kept.values.len())
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Fields and their values, by rising ids, those of the entry last.
    pub(crate) fn by_id(&self) -> Vec<(&UnknownField, BoundBytes)> {
        let mut fields: Vec<_> = self.iter().collect();
        fields.sort_by_key(|(field, _)| field.key());
        fields
    }

    /// What it takes in memory, about.
    pub(crate) fn memory(&self) -> usize {
        self.0.as_ref().map_or(0, |kept| size_of::<Kept>() + kept.values.memory())
    }
}

/// In which order a file has its fields says nothing.
impl PartialEq for UnknownFields {
    fn eq(&self, other: &Self) -> bool {
        self.by_id() == other.by_id()
    }
}

impl Eq for UnknownFields {}
