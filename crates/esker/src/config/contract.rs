//! Tests that hold the schema, the code, the pages and the examples together.
//!
//! `ESKER_WRITE_API=1 cargo test -p esker --lib contract` writes `api/config.schema.json` and `docs/configuration.md` anew.

use std::path::{Path, PathBuf};

use esker_types::schema::{assert_contract_file, assert_file};
use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use serde_json::{Map, Value, json};

use super::secret_source::{SecretSource, SecretSources, is_secret};
use super::{Config, schema};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Follows the reference of a schema.
fn target<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str().and_then(|target| target.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer).expect("the reference leads to a schema"),
        None => schema,
    }
}

/// Returns the schema of a key, given by its parts. A part that no property names is a name under `additionalProperties`.
fn find<'a>(root: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(root, |schema, part| {
        let schema = target(root, schema);
        let property = &schema["properties"][part];
        match (property.is_null(), &schema["additionalProperties"]) {
            (false, _) => Some(property),
            (true, names @ Value::Object(_)) => Some(names),
            (true, _) => None,
        }
    })
}

/// Returns the first key of a value that its schema does not have.
fn unknown_key(root: &Value, path: &mut Vec<String>, value: &Value) -> Option<String> {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    if find(root, &parts).is_none() {
        return Some(path.join("."));
    }
    value.as_object()?.iter().find_map(|(key, inner)| {
        path.push(key.clone());
        let found = unknown_key(root, path, inner);
        path.pop();
        found
    })
}

/// Makes a value with all keys of a schema. `leaf` makes the value of a key that has no keys of its own.
fn instance(root: &Value, schema: &Value, leaf: &impl Fn(&Value) -> Option<Value>) -> Option<Value> {
    let of = target(root, schema);
    let mut made = Map::new();
    for (name, property) in of["properties"].as_object().into_iter().flatten() {
        if property["deprecated"] != true
            && property["x-secret-of"].is_null()
            && let Some(value) = instance(root, property, leaf)
        {
            made.insert(name.clone(), value);
        }
    }
    if of["additionalProperties"].is_object()
        && schema["writeOnly"] != true
        && let Some(value) = instance(root, &of["additionalProperties"], leaf)
    {
        made.insert("default".to_owned(), value);
    }
    let nested = of["properties"].is_object() || of["additionalProperties"].is_object() && schema["writeOnly"] != true;
    if nested { Some(Value::Object(made)) } else { leaf(schema) }
}

/// Returns the pages and examples of the repository, by their paths in it.
fn pages() -> Vec<(String, String)> {
    let mut pages = Vec::new();
    for dir in [".", "docs", "docs/how-to", "docs/decisions", "docs/security", "deploy"] {
        for entry in std::fs::read_dir(repository().join(dir)).expect("listed") {
            let entry = entry.expect("read");
            let path = format!("{dir}/{}", entry.file_name().to_string_lossy());
            if [".md", ".toml", ".yml"].iter().any(|end| path.ends_with(end)) {
                pages.push((path, std::fs::read_to_string(entry.path()).expect("read")));
            }
        }
    }
    pages
}

#[test]
fn the_schema_in_the_repository_is_what_the_code_makes() {
    assert_contract_file("config.schema.json", &schema().expect("a schema"));
}

#[test]
fn the_defaults_of_the_schema_are_those_of_the_server() {
    fn compare(root: &Value, path: &mut Vec<String>, value: &Value) {
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        let schema = find(root, &parts).unwrap_or_else(|| panic!("{path:?} is not in the schema"));
        match value {
            Value::Null => assert!(schema["default"].is_null(), "{path:?}"),
            Value::Object(keys) => {
                for (key, inner) in keys {
                    path.push(key.clone());
                    compare(root, path, inner);
                    path.pop();
                }
            }
            value => assert_eq!(&schema["default"], value, "{path:?}"),
        }
    }
    let root = schema().expect("a schema");
    compare(&root, &mut Vec::new(), &serde_json::to_value(Config::default()).expect("JSON"));
    let defaults = instance(&root, &root, &|schema| schema.get("default").cloned()).expect("an object");
    // The names of warehouses, sinks and providers that the instance has are no defaults.
    let mut sections = defaults.as_object().expect("an object").clone();
    ["warehouses", "events", "policy"].iter().for_each(|section| drop(sections.remove(*section)));
    sections["auth"]["oidc"] = json!({});
    let config: Config = serde_json::from_value(Value::Object(sections)).expect("read");
    assert_eq!(config, Config::default());
}

#[test]
fn every_secret_of_the_schema_is_hidden_and_no_key_that_sounds_like_one_is_shown() {
    let root = schema().expect("a schema");
    let config = instance(&root, &root, &|schema| match (schema["writeOnly"] == true, schema["type"].as_str()) {
        (true, Some("object")) => Some(json!({"name": "hunter2"})),
        (true, _) => Some("hunter2".into()),
        (false, Some("string")) => schema.get("default").cloned().or(Some("x".into())),
        (false, _) => schema.get("default").cloned(),
    });
    let mut config = config.expect("an object");
    // Formats and policies have values of their own, and hold no secrets.
    config["policy"] = json!({});
    config["warehouses"] = json!({});
    config["events"]["kafka"] = json!({});
    config["server"] = json!({});
    let config: Config = serde_json::from_value(config).expect("read");
    let plain = serde_json::to_string(&config).expect("JSON");
    assert_eq!(plain.matches("hunter2").count(), 9, "{plain}");
    let shown = serde_json::to_string(&config.without_secrets()).expect("JSON");
    assert!(!shown.contains("hunter2"), "{shown}");
    for (name, section) in root["$defs"].as_object().expect("sections") {
        for (key, property) in section["properties"].as_object().into_iter().flatten() {
            // A section about tokens holds none.
            let section = property["$ref"].is_string();
            let source = property["x-secret-of"].is_string();
            let sounds = !section && !source && ["token", "password", "secret"].iter().any(|word| key.contains(word));
            assert!(!sounds || property["writeOnly"] == true, "{name}.{key} is not marked `write_only`");
        }
    }
}

#[test]
fn every_secret_of_the_schema_may_come_from_a_file_or_a_command() {
    fn secrets(root: &Value, schema: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
        let of = target(root, schema);
        let properties = of["properties"].as_object().into_iter().flatten().map(|(name, property)| (name.as_str(), property));
        let named = of["additionalProperties"].is_object().then(|| ("name", &of["additionalProperties"]));
        for (name, property) in properties.chain(named) {
            path.push(name.to_owned());
            match (property["writeOnly"] == true, property["type"] == "object") {
                (true, true) => found.push([path.as_slice(), &["name".to_owned()]].concat()),
                (true, false) => found.push(path.clone()),
                (false, _) => secrets(root, property, path, found),
            }
            path.pop();
        }
    }
    let root = schema().expect("a schema");
    let mut found = Vec::new();
    secrets(&root, &root, &mut Vec::new(), &mut found);
    assert!(found.len() >= 8, "{found:?}");
    for path in found {
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        assert!(is_secret(&parts), "{} is missing in `is_secret`", path.join("."));
    }
}

#[test]
fn unknown_keys_are_refused_by_the_schema_as_they_are_by_the_server() {
    let root = schema().expect("a schema");
    for path in ["sever", "server.rest_prot", "warehouses.x.locatoin", "policy.expire.max", "events.webhooks.w.uri"] {
        let parts: Vec<&str> = path.split('.').collect();
        assert!(find(&root, &parts).is_none(), "{path}");
    }
    for path in ["server.rest_port", "warehouses.x.storage.region", "policy.expire.max-age", "debug.halt_at"] {
        let parts: Vec<&str> = path.split('.').collect();
        assert!(find(&root, &parts).is_some(), "{path}");
    }
    for (name, section) in root["$defs"].as_object().expect("sections").iter().chain([(&"Config".to_owned(), &root)]) {
        let object = section["type"] == "object";
        assert!(!object || section["additionalProperties"] == false, "{name} takes unknown keys");
    }
    assert_eq!(root["$defs"]["DebugConfig"]["properties"]["halt_at"]["deprecated"], true);
    assert_eq!(root["$defs"]["ServerConfig"]["properties"]["plan_wait_ms"]["x-unit"], "milliseconds");
    assert_eq!(root["$defs"]["WebhookConfig"]["required"], json!(["url"]));
}

#[test]
fn examples_in_pages_and_in_deploy_are_read_by_the_server_and_known_to_the_schema() {
    let root = schema().expect("a schema");
    let mut seen = 0;
    for (path, text) in pages() {
        let blocks: Vec<&str> = match path.ends_with(".toml") {
            true if path.starts_with("deploy") => vec![&text],
            true => vec![],
            false => text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect(),
        };
        for block in blocks {
            let value: Value = Figment::from(Toml::string(block)).extract().unwrap_or_else(|e| panic!("{path}: {e}"));
            assert_eq!(unknown_key(&root, &mut Vec::new(), &value), None, "{path}");
            let named = |_: &SecretSource| -> Result<String, String> { Ok("a-secret-from-elsewhere".to_owned()) };
            let toml = SecretSources::of(Toml::string(block), &named);
            let config = Figment::from(Serialized::defaults(Config::default())).merge(toml);
            config.extract::<Config>().unwrap_or_else(|e| panic!("{path}: {e}"));
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen} examples");
}

#[test]
fn every_key_that_a_page_names_is_in_the_schema() {
    let root = schema().expect("a schema");
    let sections: Vec<&str> = root["properties"].as_object().expect("sections").keys().map(String::as_str).collect();
    let is_key = |text: &&str| {
        let word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        let mut parts = text.split('.');
        parts.next().is_some_and(|first| sections.contains(&first)) && text.contains('.') && parts.all(word)
    };
    let is_file = |text: &&str| [".rs", ".md", ".json", ".toml", ".sql", ".py"].iter().any(|end| text.ends_with(end));
    let mut seen = 0;
    for (path, text) in pages() {
        let quoted = text.split('`').skip(1).step_by(2).filter(is_key).filter(|text| !is_file(text));
        // The name of an event, and those of policies and of table properties of Iceberg, begin as a section does.
        let is_policy = |text: &str| esker_autopilot::policy::KEYS.iter().any(|key| key.name == text);
        let other = |text: &&str| *text == esker_state::AUDIT_RECORDED || is_policy(text) || text.starts_with("commit.manifest.");
        let quoted = quoted.filter(|text| !other(text)).map(str::to_owned);
        let variables = text.split("ESKER__").skip(1).filter(|rest| !rest.starts_with("SECTION"));
        let variables = variables.map(|rest| {
            let name = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
            name.to_lowercase().replace("__", ".")
        });
        for key in quoted.chain(variables) {
            let parts: Vec<&str> = key.split('.').collect();
            assert!(find(&root, &parts).is_some(), "{path}: {key} is no key of the configuration");
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen} keys");
}

#[test]
fn the_page_of_the_configuration_lists_every_key() {
    assert_file("docs/configuration.md", &page(&schema().expect("a schema")));
}

/// Makes docs/configuration.md.
fn page(root: &Value) -> String {
    let mut page = String::from(PREFACE);
    page += "\n## Without a section\n\n| key | default | meaning |\n|---|---|---|\n";
    let properties = root["properties"].as_object().expect("sections");
    for (name, property) in properties.iter().filter(|(_, property)| !has_keys(root, property)) {
        page += &line(name, property);
    }
    for (name, property) in properties.iter().filter(|(_, property)| has_keys(root, property)) {
        section(root, name, property, &mut page);
    }
    page
}

const PREFACE: &str = "# Configuration

Every key of the configuration file, with its default. This page is made from the code; `api/config.schema.json` says the same to
programs. An editor that knows JSON Schema completes and checks the file with it.

The file is TOML. Every key can also be set as the environment variable `ESKER__SECTION__KEY`, which wins over the file.
An unknown key is an error that names it. `esker config check --config FILE` checks a file and prints all values, without secrets.

Each secret `KEY` may also come from a file, with `KEY_file`, or from a command, with `KEY_command = [\"PROGRAM\", \"ARGUMENT\"]`:
`auth.token`, `state.url`, `datahub.token`, the master keys of `[keys]`, tokens of receivers, headers of traces, and every option of a
storage. A command runs without a shell, for at most 30 seconds. White space around the secret is dropped. See
[secrets](security/network.md#secrets).

Names end in their unit. A key without a default is not set. [policies.md](policies.md) has the keys of policies.
";

/// Checks for a schema of keys that the page lists: those of policies are on a page of their own.
fn has_keys(root: &Value, property: &Value) -> bool {
    if property["$ref"] == "#/$defs/Policy" || property["writeOnly"] == true {
        return false;
    }
    let schema = target(root, property);
    schema["properties"].is_object()
        || schema["additionalProperties"]["$ref"].as_str().is_some_and(|name| name.ends_with("Config"))
}

/// Adds a section, then those within it.
fn section(root: &Value, name: &str, property: &Value, page: &mut String) {
    let schema = target(root, property);
    let (name, schema) = match schema["properties"].is_object() {
        true => (name.to_owned(), schema),
        false => (format!("{name}.NAME"), target(root, &schema["additionalProperties"])),
    };
    let about = property["description"].as_str().unwrap_or_default();
    *page += &format!("\n## `[{name}]`\n\n{about}\n\n| key | default | meaning |\n|---|---|---|\n");
    let keys: Vec<_> = schema["properties"].as_object().into_iter().flatten().collect();
    let is_listed = |property: &Value| !has_keys(root, property) && property["x-secret-of"].is_null();
    for (key, property) in keys.iter().filter(|(_, property)| is_listed(property)) {
        *page += &line(&format!("{name}.{key}"), property);
    }
    for (key, property) in keys.iter().filter(|(_, property)| has_keys(root, property)) {
        section(root, &format!("{name}.{key}"), property, page);
    }
}

/// Formats a key as a line of a table.
fn line(key: &str, property: &Value) -> String {
    let default = match &property["default"] {
        Value::Null => String::new(),
        default => format!("`{default}`"),
    };
    let meaning =
        property["description"].as_str().unwrap_or_default().replace("\n\n", " ").replace('\n', " ").replace('|', "\\|");
    format!("| `{key}` | {default} | {meaning} |\n")
}
