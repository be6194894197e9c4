//! The contract of policies, `api/policy.schema.json`: every key with the form of its values, its default and its meaning.

use serde_json::{Map, Value, json};

use super::{KEYS, PREFIX, Policy, PolicyKey};

/// The form of a policy value. Values are texts; the configuration also takes whole numbers, `true` and `false` without quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueForm {
    /// `true` or `false`.
    Flag,
    /// A whole number, 0 or more.
    Number,
    /// A duration: a whole number of days, hours, minutes or seconds, as in `7d`.
    Age,
    /// A size in bytes: a whole number, with or without a unit, as in `200GiB`.
    Bytes,
    /// A cron pattern.
    Cron,
    /// Maintenance windows, as in `Mon-Fri 22:00-06:00`; commas separate them.
    Windows,
    /// The name of a time zone.
    TimeZone,
    /// The strategy of a compaction.
    Strategy,
    /// The late commits that are merged.
    Merge,
    /// A sort order: names of columns with directions; commas separate them.
    SortOrder,
    /// Names of columns; commas separate them.
    Columns,
}

impl ValueForm {
    /// Returns the JSON Schema of the form, with examples.
    fn schema(self) -> Value {
        match self {
            Self::Flag => json!({"enum": ["true", "false", true, false], "examples": ["true"]}),
            Self::Number => json!({"type": ["string", "integer"], "pattern": "^[0-9]+$", "minimum": 0, "examples": ["50"]}),
            Self::Age => json!({
                "description": "A whole number of days (`d`), hours (`h`), minutes (`m`) or seconds (`s`).",
                "type": "string", "pattern": "^[0-9]+[dhms]$", "examples": ["12h", "7d"],
            }),
            Self::Bytes => json!({
                "description": "A whole number of `B`, `KiB`, `MiB`, `GiB` or `TiB` (units of 1024), or of bytes without a unit.",
                "type": ["string", "integer"], "pattern": "^[0-9]+ *(B|KiB|MiB|GiB|TiB)?$", "minimum": 0,
                "examples": ["200GiB", "1048576"],
            }),
            Self::Cron => json!({
                "description": "A cron pattern, read in `time-zone`.", "type": "string", "examples": ["0 3 * * 1-5", "@daily"],
            }),
            Self::Windows => json!({
                "description": "Times of the day in `time-zone`, with or without days before them; commas between several.",
                "type": "string", "examples": ["22:00-06:00", "Mon-Fri 20:00-23:30, Sat+Sun 00:00-24:00"],
            }),
            Self::TimeZone => json!({
                "description": "A name of the time zone database.", "type": "string", "minLength": 1, "examples": ["Europe/Zurich"],
            }),
            Self::Strategy => json!({"enum": ["binpack", "sort", "zorder"], "examples": ["zorder"]}),
            Self::Merge => json!({"enum": ["off", "append", "snapshot"], "examples": ["append"]}),
            Self::SortOrder => json!({
                "description": "Columns with `asc` or `desc`, and `nulls first` or `nulls last`; commas separate them.",
                "type": "string", "examples": ["day, id desc nulls last"],
            }),
            Self::Columns => json!({"description": "Names, with commas between.", "type": "string", "examples": ["day, id"]}),
        }
    }
}

/// Makes the JSON Schema of a policy: the keys that one layer may set.
pub fn policy_schema() -> Value {
    let properties: Map<String, Value> = KEYS.iter().map(|key| (key.name.to_owned(), property_schema(key))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A policy",
        "description": format!(
            "The policy keys that one layer sets: `[policy]` and `[warehouses.NAME.policy]` of the configuration, a \
             pattern of namespaces, or the properties of a namespace or a table, where each key has the prefix \
             `{PREFIX}` and each value is text. The layer closest to the table wins, key by key."
        ),
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

/// Returns the JSON Schema of a key's values, with the default and the meaning of the key.
///
/// If the parser of the key takes an empty text, which sets no value, the schema takes it too.
fn property_schema(key: &PolicyKey) -> Value {
    let mut schema = key.form.schema();
    let form = schema["description"].as_str().map(|form| format!(" {form}")).unwrap_or_default();
    if (key.set)(&mut Policy::default(), "").is_ok() && schema.get("pattern").is_some() {
        let pattern = schema["pattern"].as_str().unwrap_or_default();
        schema["pattern"] = format!("{pattern}|^$").into();
    }
    schema["description"] = format!("{}{form}", key.help).into();
    schema["default"] = key.default.into();
    schema
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn schema_list(policy_key: &PolicyKey, name: &str) -> Vec<Value> {
        policy_key.form.schema()[name].as_array().cloned().unwrap_or_default()
    }

    #[test]
    fn the_file_in_api_is_what_the_code_says() {
        esker_types::schema::assert_contract_file("policy.schema.json", &policy_schema());
    }

    #[test]
    fn the_schema_takes_what_the_parser_takes() {
        let schema = policy_schema();
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let parses = |key: &PolicyKey, text: &str| (key.set)(&mut Policy::default(), text).is_ok();
        for key in &KEYS {
            let takes = |value: &Value| validator.is_valid(&json!({(key.name): value}));
            let examples = schema_list(key, "examples");
            assert!(!examples.is_empty(), "{key:?}");
            for text in examples.iter().filter_map(Value::as_str).chain([key.default]) {
                assert!(parses(key, text) && takes(&text.into()), "{key:?}: {text}");
            }
            let wrong: &[&str] = match key.form {
                ValueForm::Flag => &["yes", ""],
                ValueForm::Number => &["-1", "1.5", "many"],
                ValueForm::Age => &["7", "7 weeks", "-1d"],
                ValueForm::Bytes => &["2TB", "-1", "1.5GiB"],
                ValueForm::Strategy => &["convert-deletes", "zort"],
                ValueForm::Merge => &["true", "appends", ""],
                // Other forms are texts that only the parser knows.
                _ => &[],
            };
            for text in wrong {
                assert!(!parses(key, text) && !takes(&(*text).into()), "{key:?}: {text}");
            }
            if key.form != ValueForm::TimeZone && key.form != ValueForm::Flag && key.form != ValueForm::Strategy {
                assert_eq!(parses(key, ""), takes(&"".into()), "{key:?}");
            }
        }
        assert!(!validator.is_valid(&json!({"compact.shedule": "@daily"})), "no key of a policy");
    }

    #[test]
    fn the_page_about_policies_lists_the_same_keys() {
        let page = include_str!("../../../../docs/policies.md");
        let table = page.split("## Keys").nth(1).expect("a section").split("| value | form |").next().expect("a table");
        let rows = table.lines().filter(|line| line.starts_with("| `"));
        let names = rows.filter_map(|row| row.split('|').nth(1));
        let documented: BTreeSet<&str> = names.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        let known: BTreeSet<&str> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(documented, known);
    }
}
