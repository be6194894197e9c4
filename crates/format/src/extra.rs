use serde_json::{Map, Value as Json};

/// Fields of a JSON object that this version of Esker does not know. They are written back as they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Extra(Option<Box<Map<String, Json>>>);

impl Extra {
    /// No fields.
    pub const NONE: Self = Self(None);

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|fields| fields.is_empty())
    }

    /// The fields.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Json)> {
        self.0.iter().flat_map(|fields| fields.iter())
    }

    pub(crate) fn insert(&mut self, name: String, value: Json) {
        self.0.get_or_insert_default().insert(name, value);
    }
}
