//! Unknown JSON fields, which are kept so that metadata of a later format version or another writer survives a commit.

use serde_json::{Map, Value as Json};

/// The fields of a JSON object that this version of Esker does not define. They are written back unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Extra(Option<Box<Map<String, Json>>>);

impl Extra {
    /// The empty set of fields.
    pub const NONE: Self = Self(None);

    /// Returns `true` if there are no unknown fields.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|fields| fields.is_empty())
    }

    /// Returns the fields in the order in which they are written back.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Json)> {
        self.0.iter().flat_map(|fields| fields.iter())
    }

    pub(crate) fn insert(&mut self, name: String, value: Json) {
        self.0.get_or_insert_default().insert(name, value);
    }
}
