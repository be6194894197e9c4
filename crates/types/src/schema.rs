//! JSON Schema documents (2020-12) of the contracts in `api/`, made from the schemas that types derive.
//!
//! utoipa derives schemas for OpenAPI, whose references point into `components`. [`Definitions`] collects the types of a document
//! and makes each reference point into the document's own `$defs`. Start reading at [`document`].

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

/// The dialect of every document.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// The prefix of a reference in a schema of OpenAPI, before the name of the type.
const COMPONENTS: &str = "#/components/schemas/";
/// The prefix of a reference in a JSON Schema document, before the name of the type.
const DEFS: &str = "#/$defs/";

/// The types of one document, by name.
#[derive(Debug, Default)]
pub struct Definitions {
    schemas: Map<String, Value>,
}

impl Definitions {
    /// Adds a type and the types that it refers to. Returns an OpenAPI reference to the type, which [`Self::document`] rewrites.
    ///
    /// # Panics
    ///
    /// Panics if two types of the document have one name and different schemas: then no reference to the name is certain.
    pub fn add<T: ToSchema>(&mut self) -> Value {
        let mut found = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut found);
        for (name, schema) in found {
            self.insert(&name, json!(schema));
        }
        json!({"$ref": format!("{COMPONENTS}{}", T::name())})
    }

    /// Adds a schema under a name. Returns an OpenAPI reference to it, which [`Self::document`] rewrites.
    ///
    /// # Panics
    ///
    /// Panics if the name has another schema already.
    pub fn insert(&mut self, name: &str, schema: Value) -> Value {
        let before = self.schemas.insert(name.to_owned(), schema);
        assert!(before.is_none_or(|before| before == self.schemas[name]), "two types of the document are named {name}");
        json!({"$ref": format!("{COMPONENTS}{name}")})
    }

    /// Returns the schema of a type that was added.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.schemas.get(name)
    }

    /// Makes a document: the schema `root`, with the title and the definitions of all types that were added.
    pub fn document(self, title: &str, mut root: Value) -> Value {
        let mut schemas: Map<String, Value> = self.schemas.clone();
        schemas.retain(|name, _| !is_primitive(name));
        for schema in schemas.values_mut().chain([&mut root]) {
            inline_primitives(schema, &self.schemas);
            point_references_to_defs(schema, &self.schemas);
        }
        root["$schema"] = DIALECT.into();
        root["title"] = title.into();
        root["$defs"] = schemas.into();
        root
    }
}

/// Makes the document of one type.
///
/// ```
/// #[derive(utoipa::ToSchema)]
/// struct Window {
///     /// Length of the window, in minutes.
///     minutes: u32,
/// }
///
/// let document = esker_types::schema::document::<Window>("A window");
/// assert_eq!(document["$ref"], "#/$defs/Window");
/// assert_eq!(document["$defs"]["Window"]["properties"]["minutes"]["description"], "Length of the window, in minutes.");
/// ```
pub fn document<T: ToSchema>(title: &str) -> Value {
    let mut definitions = Definitions::default();
    let root = definitions.add::<T>();
    definitions.document(title, root)
}

/// Checks that a contract is what its file in `api/` says. Tests call it. With `ESKER_WRITE_API=1` it writes the file.
///
/// # Panics
///
/// Panics if the file differs from the contract, or can't be read or written.
pub fn assert_contract_file(file: &str, contract: &Value) {
    assert_file(&format!("api/{file}"), &format!("{contract:#}\n"));
}

/// Checks that a file of the repository, such as a page made from a contract, has a text. Tests call it. With
/// `ESKER_WRITE_API=1` it writes the file.
///
/// # Panics
///
/// Panics if the file has another text, or can't be read or written.
pub fn assert_file(file: &str, text: &str) {
    let path = format!("{}/../../{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var("ESKER_WRITE_API").is_ok_and(|value| value == "1") {
        std::fs::write(&path, text).unwrap_or_else(|e| panic!("{file}: {e}"));
    }
    let written = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
    assert!(written == text, "{file} is not what the code says; write it again with ESKER_WRITE_API=1, and review the diff");
}

/// Puts the schemas of primitive types in place of references to them, at all depths.
///
/// The derivation does not see through aliases: a field of the type `Millis` refers to `i64`, which is among `schemas`.
pub fn inline_primitives(value: &mut Value, schemas: &Map<String, Value>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| inline_primitives(item, schemas)),
        Value::Object(keywords) => {
            let name = keywords.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix(COMPONENTS));
            if let Some(Value::Object(primitive)) = name.filter(|name| is_primitive(name)).and_then(|name| schemas.get(name)) {
                keywords.remove("$ref");
                for (key, value) in primitive {
                    keywords.entry(key).or_insert_with(|| value.clone());
                }
            }
            keywords.values_mut().for_each(|value| inline_primitives(value, schemas));
        }
        _ => {}
    }
}

/// Checks whether a name is that of a primitive type of Rust, such as `i64`. Such a type gets no definition of its own.
pub fn is_primitive(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
}

/// Turns references into `components` into references into `$defs`.
fn point_references_to_defs(schema: &mut Value, schemas: &Map<String, Value>) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| point_references_to_defs(item, schemas)),
        Value::Object(keywords) => {
            if let Some(Value::String(to)) = keywords.get_mut("$ref")
                && let Some(name) = to.strip_prefix(COMPONENTS)
            {
                assert!(schemas.contains_key(name), "the document has no type {name}");
                *to = format!("{DEFS}{name}");
            }
            keywords.values_mut().for_each(|value| point_references_to_defs(value, schemas));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Millis;

    /// A part.
    #[derive(ToSchema)]
    struct Part {
        /// Time in milliseconds since the Unix epoch.
        #[expect(dead_code, reason = "only the schema is read")]
        at_ms: Millis,
    }

    #[derive(ToSchema)]
    struct Whole {
        #[expect(dead_code, reason = "only the schema is read")]
        parts: Vec<Part>,
    }

    #[test]
    fn references_stay_within_the_document_and_numbers_stand_in_place() {
        let document = document::<Whole>("The whole");
        assert_eq!(document["$ref"], "#/$defs/Whole");
        assert_eq!(document["$defs"]["Whole"]["properties"]["parts"]["items"]["$ref"], "#/$defs/Part");
        let time = &document["$defs"]["Part"]["properties"]["at_ms"];
        assert_eq!((&time["type"], &time["format"]), (&json!("integer"), &json!("int64")));
        assert_eq!(time["description"], "Time in milliseconds since the Unix epoch.");
        assert_eq!(document["$defs"].as_object().expect("an object").len(), 2);
    }

    #[test]
    #[should_panic(expected = "two types of the document are named Part")]
    fn one_name_is_one_type() {
        let mut definitions = Definitions::default();
        definitions.add::<Part>();
        definitions.insert("Part", json!({}));
    }
}
