//! The JSON forms of the format: table and view metadata, updates, single values, Puffin footers.
//!
//! Three ideas: `json_object!` derives objects that keep unknown fields, `json_tagged!` derives enums by a tag field, and every
//! error names the path of the field.
//!
//! Spec: Appendix C, Appendix D.

#[macro_use]
mod object;
#[cfg(test)]
mod damaged;
mod metadata;
mod parts;
mod puffin;
pub(crate) mod tagged;
mod types;
mod value;
mod view;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
pub(crate) use value::is_as_specified;
pub use value::{value_from_json, value_to_json};

use crate::{FormatError, Result};

/// Parses a whole JSON text. `what` names the kind of text in errors; an error also has the path of the field.
pub(crate) fn read<T: DeserializeOwned>(what: &'static str, text: &[u8]) -> Result<T> {
    let failed = |at, source| FormatError::Json { what, at, source };
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|e| failed(e.path().to_string(), e.into_inner()))?;
    json.end().map_err(|source| failed("its end".to_owned(), source))?;
    Ok(read)
}

/// Converts a JSON value. An error has the path of the field within the value.
pub(crate) fn of_value<T: DeserializeOwned>(json: Json) -> Result<T, serde_json::Error> {
    of_field("", json)
}

/// Converts the value of an object's field `name`. An error has the path of the field within the object.
pub(crate) fn of_field<T: DeserializeOwned>(name: &str, json: Json) -> Result<T, serde_json::Error> {
    serde_path_to_error::deserialize(json).map_err(|e| {
        let at = match e.path().to_string() {
            below if below == "." => name.to_owned(),
            below if name.is_empty() || below.starts_with('[') => format!("{name}{below}"),
            below => format!("{name}.{below}"),
        };
        if at.is_empty() { e.into_inner() } else { serde_json::Error::custom(format!("{at}: {}", e.inner())) }
    })
}

/// Reads one of some names, whatever its case, as Java does.
pub(crate) fn one_of<'de, D: serde::Deserializer<'de>, T: Copy>(deserializer: D, names: &[(&str, T)]) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    let found = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(&text));
    let expected = || names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    found.map(|(_, one)| *one).ok_or_else(|| D::Error::custom(format!("{text:?} is not one of {}", expected())))
}

/// Prints a value as JSON text. `what` names the kind of text in errors.
pub(crate) fn print(what: &'static str, value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| FormatError::Json { what, at: "printing".to_owned(), source })
}

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use super::metadata::tests::of_version;
    pub(super) use super::view::tests::view;
}
