use serde_json::Value as Json;

use crate::json::value_of;
use crate::{Type, Value};

/// A default of a field, as the metadata has it. A text that is no value of the field's type costs the default, not the table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DefaultValue(Json);

impl DefaultValue {
    /// Of JSON that is not null (specification, Appendix D, "JSON single-value serialization").
    pub(crate) const fn new(json: Json) -> Self {
        Self(json)
    }

    /// As the metadata has it.
    pub const fn json(&self) -> &Json {
        &self.0
    }

    /// The value, if it is one of the field's type.
    pub fn value(&self, ty: &Type) -> Option<Value> {
        value_of(ty, &self.0)
    }
}
