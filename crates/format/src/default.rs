use serde_json::Value as Json;

use crate::json::{is_as_specified, json_of, value_of};
use crate::{Type, Value};

/// A default of a field, as the metadata has it. A text that is no value of the field's type costs the default, not the table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DefaultValue(Json);

impl DefaultValue {
    /// Of JSON that is not null (specification, Appendix D, "JSON single-value serialization").
    pub(crate) const fn new(json: Json) -> Self {
        Self(json)
    }

    /// Of a value of the field's type; none if JSON can't say it. An empty struct's is `{}`: what its fields are is theirs to say.
    pub fn of(ty: &Type, value: &Value) -> Option<Self> {
        match (ty, value) {
            (Type::Struct(_), Value::Struct(fields)) if fields.iter().all(Option::is_none) => {
                Some(Self(Json::Object(serde_json::Map::new())))
            }
            _ => json_of(ty, value).map(Self),
        }
    }

    /// As the metadata has it.
    pub const fn json(&self) -> &Json {
        &self.0
    }

    /// Whether it is written as the specification has values of the type (Appendix D).
    pub(crate) fn is_as_specified(&self, ty: &Type) -> bool {
        is_as_specified(ty, &self.0)
    }

    /// The value, if it is one of the field's type.
    pub fn value(&self, ty: &Type) -> Option<Value> {
        value_of(ty, &self.0)
    }
}
