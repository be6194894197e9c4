//! [`schema`]: the JSON Schema of the configuration file, for editors and other programs.
//!
//! The derived schemas of the sections are the source: their keys, types, defaults and comments. What serde reads beyond the types
//! is added here: texts that may be numbers, policy keys, and the old names that still work.

use esker_autopilot::policy::{KEYS, policy_schema};
use esker_types::renamed::CONFIGURATION_KEYS;
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

use super::Config;
use super::secret_source::ENDS;
use crate::Result;

/// The units of keys, by the end of the key's name.
const UNITS: [(&str, &str); 4] = [("seconds", "seconds"), ("_ms", "milliseconds"), ("_days", "days"), ("bytes", "bytes")];

/// Returns the JSON Schema (draft 2020-12) of the configuration file.
///
/// It refers to nothing outside. A key that [`Config::load`] refuses as unknown is refused here as well. Beyond the draft's own
/// words, `x-unit` is the unit of a number, and `x-secret-of` marks the file or command of a secret. `writeOnly` marks a secret, and
/// `deprecated` an old name.
///
/// # Errors
///
/// Returns [`Encode`](crate::Error::Encode) if a derived schema can't be written as JSON, which is a bug.
pub fn schema() -> Result<Value> {
    let mut schemas = Vec::new();
    Config::schemas(&mut schemas);
    let mut defs = Map::new();
    for (name, schema) in schemas {
        defs.insert(name, tidy(serde_json::to_value(schema)?));
    }
    defs.insert("Text".to_owned(), text());
    defs.insert("Policy".to_owned(), policy());
    let mut root = tidy(serde_json::to_value(Config::schema())?);
    accept_more(&mut root, &mut defs);
    add_secret_sources(&mut defs);
    add_old_names(&root, &mut defs);
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    root["title"] = "Configuration of Esker".into();
    root["$defs"] = Value::Object(defs);
    Ok(root)
}

/// Rewrites a derived schema for a file: no nulls, references within the file, units, and no defaults of whole sections.
fn tidy(schema: Value) -> Value {
    let Value::Object(mut schema) = schema else { return schema };
    let optional = schema.get_mut("type").and_then(Value::as_array_mut);
    if let Some(types) = optional {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            schema["type"] = only.clone();
        }
    }
    // A default of a whole section would repeat those of its keys.
    if matches!(schema.get("default"), Some(Value::Null | Value::Object(_))) {
        schema.remove("default");
    }
    // Sizes of integers are words of OpenAPI, and the limits say the same.
    schema.remove("format");
    // The derivation marks the names and values of a map as secret, not the map. Names are texts anyway.
    schema.remove("propertyNames");
    if let Some(Value::Object(values)) = schema.get_mut("additionalProperties")
        && let Some(secret) = values.remove("writeOnly")
    {
        schema.insert("writeOnly".to_owned(), secret);
    }
    if let Some(Value::String(target)) = schema.get_mut("$ref") {
        *target = target.replace("#/components/schemas/", "#/$defs/");
    }
    if let Some(Value::Object(properties)) = schema.remove("properties") {
        let properties = properties.into_iter().map(|(name, property)| {
            let property = with_unit(&name, tidy(property));
            (name, property)
        });
        schema.insert("properties".to_owned(), properties.collect::<Map<_, _>>().into());
    }
    for key in ["additionalProperties", "items"] {
        if let Some(inner) = schema.remove(key) {
            schema.insert(key.to_owned(), tidy(inner));
        }
    }
    Value::Object(schema)
}

/// Adds the unit that the name of a number ends in.
fn with_unit(name: &str, mut property: Value) -> Value {
    let number = matches!(property["type"].as_str(), Some("integer" | "number"));
    if let Some((_, unit)) = UNITS.iter().find(|(end, _)| number && name.ends_with(end)) {
        property["x-unit"] = (*unit).into();
    }
    property
}

/// Returns the schema of a text that may be written as a number or a boolean.
fn text() -> Value {
    json!({
        "description": "A text. A number or a boolean stands for its text.",
        "type": ["string", "number", "boolean"],
    })
}

/// Returns the schema of policy keys: as nested tables, and as quoted keys with dots.
fn policy() -> Value {
    let forms = &policy_schema()["properties"];
    let mut properties = Map::new();
    for key in &KEYS {
        let value = forms[key.name].clone();
        if let Some((table, inner)) = key.name.split_once('.') {
            let pointer = format!("#/$defs/Policy/properties/{table}/properties/{inner}");
            properties.insert(key.name.to_owned(), json!({"$ref": pointer}));
            let nested = json!({"type": "object", "properties": {}, "additionalProperties": false});
            properties.entry(table).or_insert(nested)["properties"][inner] = value;
        } else {
            properties.insert(key.name.to_owned(), value);
        }
    }
    json!({
        "description": "Policy keys with their values.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

/// Lets the schema accept what the deserializers of maps accept.
fn accept_more(root: &mut Value, defs: &mut Map<String, Value>) {
    let with_policy = |property: &mut Value| {
        property["$ref"] = "#/$defs/Policy".into();
        if let Some(property) = property.as_object_mut() {
            ["type", "additionalProperties"].iter().for_each(|key| drop(property.remove(*key)));
        }
    };
    with_policy(&mut root["properties"]["policy"]);
    if let Some(warehouse) = defs.get_mut("WarehouseConfig") {
        let properties = &mut warehouse["properties"];
        with_policy(&mut properties["policy"]);
        properties["namespaces"]["additionalProperties"] = json!({"$ref": "#/$defs/Policy"});
        for map in ["storage", "client"] {
            properties[map]["additionalProperties"] = json!({"$ref": "#/$defs/Text"});
        }
    }
}

/// Adds the keys that say where a secret comes from: a file, or a command. `x-secret-of` marks them, with the key of the secret.
fn add_secret_sources(defs: &mut Map<String, Value>) {
    let commands = json!({"_command$": {"type": "array", "items": {"type": "string"}, "minItems": 1}});
    for section in defs.values_mut() {
        let Some(properties) = section.get_mut("properties").and_then(Value::as_object_mut) else { continue };
        let secrets: Vec<String> =
            properties.iter().filter(|(_, property)| property["writeOnly"] == true).map(|(key, _)| key.clone()).collect();
        for key in secrets {
            if properties[&key]["type"] == "object" {
                properties[&key]["patternProperties"] = commands.clone();
                continue;
            }
            let [file, command] = ENDS.map(|end| format!("{key}{end}"));
            let about = format!("The file with `{key}`.");
            properties.insert(file, json!({"type": "string", "description": about, "x-secret-of": key.as_str()}));
            let about = format!("The command that prints `{key}`, with its arguments; it runs without a shell.");
            let mut property = commands["_command$"].clone();
            (property["description"], property["x-secret-of"]) = (about.into(), key.as_str().into());
            properties.insert(command, property);
        }
    }
    if let Some(warehouse) = defs.get_mut("WarehouseConfig") {
        for map in ["storage", "client"] {
            warehouse["properties"][map]["patternProperties"] = commands.clone();
        }
    }
}

/// Adds the old names that [`Config::load`] still reads, as deprecated keys.
fn add_old_names(root: &Value, defs: &mut Map<String, Value>) {
    for renamed in &CONFIGURATION_KEYS {
        let (Some((section, old)), Some((_, new))) = (renamed.old.split_once('.'), renamed.new.split_once('.')) else { continue };
        let name = root["properties"][section]["$ref"].as_str().and_then(|target| target.strip_prefix("#/$defs/"));
        let Some(section) = name.and_then(|name| defs.get_mut(name)) else { continue };
        let mut key = section["properties"][new].clone();
        key["description"] = renamed.warning().into();
        key["deprecated"] = true.into();
        section["properties"][old] = key;
    }
}
