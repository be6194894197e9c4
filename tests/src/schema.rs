//! A validator for the part of JSON Schema that the documents in `api/` use.
//!
//! It is stricter than JSON Schema in one point: a field that no schema names is an error, unless the schema says that any field
//! may be there. So a field that is added without its description is found. A keyword that it does not know is an error too.

use std::collections::BTreeSet;

use serde_json::Value;

/// The keywords that say nothing about a value's validity.
const ANNOTATIONS: [&str; 9] =
    ["description", "default", "title", "example", "examples", "deprecated", "discriminator", "propertyNames", "format"];

/// Checks a value against a schema of a document, to which references point.
///
/// # Errors
///
/// Returns the place in the value and the rule that it breaks.
pub fn check_schema(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let named = check(document, schema, value, "")?;
    is_closed(named, value, "")
}

/// The fields of an object that a schema names; `None` if any field may be there.
type NamedFields = Option<BTreeSet<String>>;

/// Returns an error if an object has a field that is not named.
fn is_closed(named: NamedFields, value: &Value, at: &str) -> Result<(), String> {
    let (Some(named), Some(fields)) = (named, value.as_object()) else { return Ok(()) };
    match fields.keys().find(|field| !named.contains(*field)) {
        Some(field) => Err(format!("{at}/{field}: no such field is described")),
        None => Ok(()),
    }
}

/// Checks a value that is whole, such as a field of another: nothing else names fields of it.
fn check_whole(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    is_closed(check(document, schema, value, at)?, value, at)
}

/// Checks a value, and returns the fields that the schema names.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<NamedFields, String> {
    let keywords = match schema {
        Value::Object(keywords) => keywords,
        Value::Bool(true) => return Ok(None),
        _ => return Err(format!("{at}: nothing is allowed here")),
    };
    let constrains = |keyword: &&String| !ANNOTATIONS.contains(&keyword.as_str());
    if !keywords.keys().any(|keyword| constrains(&keyword)) {
        return Ok(None);
    }
    let mut named = Some(BTreeSet::new());
    let mut add = |more: NamedFields| match (&mut named, more) {
        (Some(all), Some(more)) => all.extend(more),
        (named, _) => *named = None,
    };
    for (keyword, rule) in keywords.iter().filter(|(keyword, _)| constrains(keyword)) {
        match keyword.as_str() {
            "$ref" => {
                let pointer = rule.as_str().and_then(|at| at.strip_prefix('#')).ok_or("a reference to elsewhere")?;
                let target = document.pointer(pointer).ok_or_else(|| format!("{pointer} is not in the document"))?;
                add(check(document, target, value, at)?);
            }
            "allOf" => list(rule).iter().try_for_each(|part| {
                add(check(document, part, value, at)?);
                Ok::<_, String>(())
            })?,
            "anyOf" | "oneOf" => {
                let parts = list(rule).iter().map(|part| {
                    let named = check(document, part, value, at)?;
                    is_closed(named.clone(), value, at).map(|()| named)
                });
                let (fit, misfit): (Vec<_>, Vec<_>) = parts.partition(Result::is_ok);
                match fit.len() {
                    0 => return Err(format!("{at}: none of {keyword} fits: {misfit:?}")),
                    2.. if keyword == "oneOf" => return Err(format!("{at}: {} of oneOf fit", fit.len())),
                    _ => fit.into_iter().flatten().for_each(&mut add),
                }
            }
            "type" => {
                let has = |kind: &Value| is_of_type(value, kind.as_str().unwrap_or_default());
                let fits = rule.as_array().map_or_else(|| has(rule), |kinds| kinds.iter().any(has));
                fits.then_some(()).ok_or_else(|| format!("{at}: {value} is not of type {rule}"))?;
                if keywords.get("type") == Some(&Value::from("object")) && !keywords.contains_key("properties") {
                    // An object of which nothing is said may have any field, which `additionalProperties` checks if it is there.
                    add(None);
                }
            }
            "enum" if !list(rule).contains(value) => return Err(format!("{at}: {value} is none of {rule}")),
            "const" if rule != value => return Err(format!("{at}: {value} is not {rule}")),
            "minimum" if value.as_f64() < rule.as_f64() && value.is_number() => {
                return Err(format!("{at}: {value} is less than {rule}"));
            }
            "enum" | "const" | "minimum" => {}
            "required" => {
                let fields = value.as_object();
                let lacks = |field: &&Value| fields.is_some_and(|all| !all.contains_key(field.as_str().unwrap_or_default()));
                if let Some(field) = list(rule).iter().find(lacks) {
                    return Err(format!("{at}: the field {field} is missing"));
                }
            }
            "properties" => {
                let rules = rule.as_object().ok_or("properties are an object")?;
                for (field, value) in value.as_object().into_iter().flatten() {
                    if let Some(rule) = rules.get(field) {
                        check_whole(document, rule, value, &format!("{at}/{field}"))?;
                    }
                }
                add(Some(rules.keys().cloned().collect()));
            }
            "additionalProperties" => {
                let described = keywords.get("properties").and_then(Value::as_object);
                let is_other = |field: &str| described.is_none_or(|rules| !rules.contains_key(field));
                for (field, value) in value.as_object().into_iter().flatten().filter(|(field, _)| is_other(field)) {
                    check_whole(document, rule, value, &format!("{at}/{field}"))?;
                }
                if *rule != Value::Bool(false) {
                    add(None);
                }
            }
            "prefixItems" => {
                for (i, (rule, item)) in list(rule).iter().zip(list(value)).enumerate() {
                    check_whole(document, rule, item, &format!("{at}/{i}"))?;
                }
            }
            "items" => {
                let before = keywords.get("prefixItems").map_or(0, |prefix| list(prefix).len());
                for (i, item) in list(value).iter().enumerate().skip(before) {
                    check_whole(document, rule, item, &format!("{at}/{i}"))?;
                }
            }
            "uniqueItems" => {
                let items: BTreeSet<String> = list(value).iter().map(Value::to_string).collect();
                (items.len() == list(value).len()).then_some(()).ok_or_else(|| format!("{at}: an item is there twice"))?;
            }
            other => return Err(format!("{at}: the validator does not know the keyword {other}")),
        }
    }
    Ok(named)
}

/// The items of an array; none of another value.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Returns true if a value has a type of JSON Schema.
fn is_of_type(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_that_do_not_fit_are_found() {
        let document =
            json!({"n": {"type": "object", "properties": {"a": {"type": ["integer", "null"], "minimum": 0}}, "required": ["a"]}});
        let flat = json!({"allOf": [{"$ref": "#/n"}, {"type": "object", "properties": {"b": {"enum": ["x", "y"]}}}]});
        let choice = json!({"oneOf": [{"type": "null"}, {"$ref": "#/n"}]});
        let pair = json!({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": false});
        let map = json!({"type": "object", "additionalProperties": {"type": "string"}});
        for (schema, value, fits) in [
            (&flat, json!({"a": 1, "b": "x"}), true),
            (&flat, json!({"a": null}), true),
            (&flat, json!({"b": "x"}), false),
            (&flat, json!({"a": -1}), false),
            (&flat, json!({"a": 1.5}), false),
            (&flat, json!({"a": 1, "b": "z"}), false),
            (&flat, json!({"a": 1, "c": 1}), false),
            (&choice, json!(null), true),
            (&choice, json!({"a": 1}), true),
            (&choice, json!({"a": 1, "c": 1}), false),
            (&choice, json!("a"), false),
            (&pair, json!(["a", 1]), true),
            (&pair, json!(["a", 1, 2]), false),
            (&pair, json!([1, 1]), false),
            (&map, json!({"any": "x"}), true),
            (&map, json!({"any": 1}), false),
            (&json!({"description": "anything"}), json!({"any": [1]}), true),
            (&json!({"type": "string", "later": 1}), json!("a"), false),
        ] {
            assert_eq!(check_schema(&document, schema, &value).is_ok(), fits, "{schema} {value}");
        }
    }
}
