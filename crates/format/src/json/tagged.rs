//! Updates and requirements: objects of which one field, the tag, says what they are, and what else they have.
//!
//! What serde derives for such an enum reads a whole object before it looks at the tag, and an error then names no field. So the enums derive
//! the form in which the tag stands around the object, `{"add-schema": {"schema": …}}`, and are brought to it and from it here.

use serde::de::{DeserializeOwned, Error as _, IgnoredAny};
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Error, Map, Value as Json};
use serde_path_to_error::Track;

use crate::{TableRequirement, TableUpdate, ViewRequirement, ViewUpdate};

/// Reads and prints an enum by its tag. It derives both with `#[serde(remote = "Self")]`.
macro_rules! json_tagged {
    ($name:ident by $tag:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let (kind, json) = turned(deserializer, $tag)?;
                let mut track = Track::new();
                let read = Self::deserialize(serde_path_to_error::Deserializer::new(json, &mut track));
                read.map_err(|e| D::Error::custom(located(&kind, track, &e)))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                print(Self::serialize(self, serde_json::value::Serializer), $tag, serializer)
            }
        }
    };
}

json_tagged!(TableUpdate by "action");
json_tagged!(TableRequirement by "type");
json_tagged!(ViewUpdate by "action");
json_tagged!(ViewRequirement by "type");

/// What the tag says, and the object with the tag around it.
fn turned<'de, D: Deserializer<'de>>(deserializer: D, tag: &'static str) -> Result<(String, Json), D::Error> {
    let mut object = Map::deserialize(deserializer)?;
    let kind = match object.remove(tag) {
        // As Java does, which lowers what it reads (`MetadataUpdateParser`).
        Some(Json::String(kind)) => kind.to_ascii_lowercase(),
        Some(other) => return Err(D::Error::custom(format!("{tag}: {other} is no string"))),
        None => return Err(D::Error::missing_field(tag)),
    };
    let around = Map::from_iter([(kind.clone(), Json::Object(object))]);
    Ok((kind, Json::Object(around)))
}

/// An error with what the tag says, and with the field's path below it.
fn located(kind: &str, track: Track, error: &Error) -> String {
    let path = track.path().to_string();
    match path.strip_prefix(kind).map(|below| below.trim_start_matches('.')) {
        Some("") => format!("{kind}: {error}"),
        Some(below) => format!("{kind}: {below}: {error}"),
        // Nobody knows such a kind, as the error says.
        None => error.to_string(),
    }
}

/// Prints what was printed with the tag around it.
fn print<S: Serializer>(printed: Result<Json, Error>, tag: &'static str, serializer: S) -> Result<S::Ok, S::Error> {
    let (kind, fields) = match printed.map_err(S::Error::custom)? {
        Json::String(kind) => (kind, Map::new()),
        Json::Object(around) => match around.into_iter().next() {
            Some((kind, Json::Object(fields))) => (kind, fields),
            other => return Err(S::Error::custom(format!("{other:?} has no fields"))),
        },
        other => return Err(S::Error::custom(format!("{other} has no {tag}"))),
    };
    let mut map = serializer.serialize_map(Some(fields.len() + 1))?;
    map.serialize_entry(tag, &kind)?;
    for (name, value) in &fields {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

/// Reads a kind that has no fields; those that it has are passed over.
pub(crate) fn without_fields<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| ())
}

/// Reads what stands among the fields of the kind itself.
pub(crate) fn among<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    super::of_value(Json::Object(Map::deserialize(deserializer)?)).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error<T: DeserializeOwned + std::fmt::Debug>(json: Json) -> String {
        serde_json::from_value::<T>(json).expect_err("refused").to_string()
    }

    /// Java reads kinds in either case, and the names that two fields had before (`MetadataUpdateParser`).
    #[test]
    fn kinds_are_read_in_either_case_and_fields_by_their_earlier_names() {
        let read = |json: Json| serde_json::from_value::<TableUpdate>(json).expect("read");
        let set = read(json!({"action": "set-properties", "updates": {"a": "b"}}));
        assert_eq!(read(json!({"action": "SET-PROPERTIES", "updated": {"a": "b"}})), set);
        let remove = read(json!({"action": "remove-properties", "removals": ["a"]}));
        assert_eq!(read(json!({"action": "Remove-Properties", "removed": ["a"]})), remove);
    }

    #[test]
    fn an_error_names_the_kind_the_field_and_what_was_expected() {
        let of = |fields: Json| json!({"schema": {"type": "struct", "fields": fields}, "action": "add-schema"});
        let field = |ty: Json| json!({"id": 1, "name": "x", "required": true, "type": ty});
        let list = json!({"type": "struct", "fields": [field(json!({"type": "list", "element-id": "x", "element": "int", "element-required": true}))]});
        let snapshot = json!({"snapshot-id": "1", "timestamp-ms": 1});
        for (json, expected) in [
            (json!({"action": "fly"}), "unknown variant `fly`, expected one of `assign-uuid`"),
            (json!({"uuid": "x"}), "missing field `action`"),
            (json!({"action": 5}), "action: 5 is no string"),
            (json!([]), "invalid type: sequence, expected a map"),
            (json!({"action": "add-schema"}), "add-schema: missing field `schema`"),
            (
                of(json!([field(json!("int")), field(json!(5))])),
                "add-schema: schema.fields[1].type: a type is a name or an object, not 5",
            ),
            (of(json!([{"id": 1}])), "add-schema: schema.fields[0]: missing field `name`"),
            (
                of(json!([field(list)])),
                "add-schema: schema.fields[0].type: fields[0].type: element-id: invalid type: string \"x\", expected i32",
            ),
            (
                json!({"action": "add-snapshot", "snapshot": snapshot}),
                "add-snapshot: snapshot.snapshot-id: invalid type: string \"1\", expected i64",
            ),
            (
                json!({"action": "set-snapshot-ref", "ref-name": "b", "type": "branch", "snapshot-id": true}),
                "set-snapshot-ref: snapshot-id: invalid type: boolean `true`, expected i64",
            ),
            (
                json!({"action": "set-snapshot-ref", "ref-name": "b", "type": "twig", "snapshot-id": 1}),
                "set-snapshot-ref: type: \"twig\" is none of branch, tag",
            ),
            (
                json!({"action": "set-properties", "updates": {"a": 1}}),
                "set-properties: updates.a: invalid type: integer `1`, expected a string",
            ),
            (json!({"action": "remove-snapshots", "snapshot-ids": [1, 1.5]}), "remove-snapshots: snapshot-ids[1]: invalid type"),
        ] {
            let found = error::<TableUpdate>(json);
            assert!(found.starts_with(expected), "{found}");
        }
        let found = error::<TableRequirement>(json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": "x"}));
        assert_eq!(found, "assert-ref-snapshot-id: snapshot-id: invalid type: string \"x\", expected i64");
        let found =
            error::<ViewUpdate>(json!({"action": "add-view-version", "view-version": {"version-id": 1, "timestamp-ms": 1,
            "schema-id": 0, "representations": [{"type": "sql", "sql": 1}]}}));
        assert_eq!(found, "add-view-version: view-version.representations[0]: sql: invalid type: integer `1`, expected a string");
        assert!(error::<ViewRequirement>(json!({"type": "assert-view-uuid", "uuid": 1})).starts_with("assert-view-uuid: uuid: "));
    }

    #[test]
    fn they_are_printed_as_they_were_read_whatever_stands_first() {
        fn round<T: DeserializeOwned + Serialize>(json: Json) {
            let read: T = serde_json::from_value(json.clone()).unwrap_or_else(|e| panic!("{json}: {e}"));
            assert_eq!(serde_json::to_value(&read).expect("printed"), json);
        }
        round::<TableUpdate>(json!({"action": "set-current-schema", "schema-id": -1}));
        round::<TableUpdate>(
            json!({"ref-name": "b", "action": "set-snapshot-ref", "type": "branch", "snapshot-id": i64::MAX, "later": 1.5}),
        );
        round::<TableRequirement>(json!({"type": "assert-create"}));
        round::<TableRequirement>(json!({"ref": "b", "snapshot-id": 3, "type": "assert-ref-snapshot-id"}));
        round::<ViewUpdate>(json!({"action": "remove-properties", "removals": ["a"]}));
        round::<ViewRequirement>(json!({"type": "assert-view-uuid", "uuid": "f79c3e09-677c-4bbd-a479-3f349cb785e7"}));
        let lenient = json!({"type": "assert-create", "later": 1});
        assert_eq!(serde_json::from_value::<TableRequirement>(lenient).expect("read"), TableRequirement::AssertCreate);
    }
}
