//! Default values of fields: `initial-default` and `write-default`.
//!
//! A default is kept as the JSON that the metadata has, and decoded on demand. So a default that cannot be decoded costs only
//! itself, and is written back letter by letter.

use serde_json::Value as Json;

use crate::json::{is_as_specified, value_from_json, value_to_json};
use crate::{Type, Value};

/// A default value of a field, as the JSON of the metadata. JSON that is no value of the field's type costs only the default, not
/// the table.
///
/// Spec: "Default values".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DefaultValue(Json);

impl DefaultValue {
    /// Wraps JSON that is not null.
    ///
    /// Spec: Appendix D, "JSON single-value serialization".
    pub(crate) const fn new(json: Json) -> Self {
        Self(json)
    }

    /// Returns the default for a value of type `ty`, or `None` if JSON cannot express the value.
    ///
    /// A struct of nulls becomes `{}`: the specification leaves the defaults of a struct's fields to those fields.
    pub fn of(ty: &Type, value: &Value) -> Option<Self> {
        match (ty, value) {
            (Type::Struct(_), Value::Struct(fields)) if fields.iter().all(Option::is_none) => {
                Some(Self(Json::Object(serde_json::Map::new())))
            }
            _ => value_to_json(ty, value).map(Self),
        }
    }

    /// Returns the JSON as the metadata has it.
    pub const fn json(&self) -> &Json {
        &self.0
    }

    /// Returns `true` if the JSON has exactly the form that the specification gives for values of type `ty`.
    ///
    /// Spec: Appendix D, "JSON single-value serialization".
    pub(crate) fn is_as_specified(&self, ty: &Type) -> bool {
        is_as_specified(ty, &self.0)
    }

    /// Decodes the default as a value of type `ty`. Returns `None` if the JSON is no such value.
    pub fn value(&self, ty: &Type) -> Option<Value> {
        value_from_json(ty, &self.0)
    }
}
