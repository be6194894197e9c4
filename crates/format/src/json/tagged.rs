//! The JSON form of updates and requirements: objects whose tag field says which variant of an enum they are.
//!
//! The code that serde derives for such enums parses the whole object before it looks at the tag, so that errors name no field.
//! Therefore the enums derive serde's default form, in which the tag surrounds the object: `{"add-schema": {"schema": …}}`. This
//! file converts between the two.

use serde::de::{DeserializeOwned, Error as _, IgnoredAny};
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Error, Map, Value as Json};
use serde_path_to_error::Track;

use crate::{TableRequirement, TableUpdate, ViewRequirement, ViewUpdate};

/// Implements reading and printing of an enum by its tag field. The enum must derive both with `#[serde(remote = "Self")]`.
macro_rules! json_tagged {
    ($name:ident by $tag:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let (kind, json) = tag_around_object(deserializer, $tag)?;
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

/// Returns the tag's value, and the object with the tag around it.
fn tag_around_object<'de, D: Deserializer<'de>>(deserializer: D, tag: &'static str) -> Result<(String, Json), D::Error> {
    let mut object = Map::deserialize(deserializer)?;
    let kind = match object.remove(tag) {
        // Java accepts any case too (`MetadataUpdateParser`).
        Some(Json::String(kind)) => kind.to_ascii_lowercase(),
        Some(other) => return Err(D::Error::custom(format!("{tag}: {other} is not a string"))),
        None => return Err(D::Error::missing_field(tag)),
    };
    let around = Map::from_iter([(kind.clone(), Json::Object(object))]);
    Ok((kind, Json::Object(around)))
}

/// Returns an error's text with the tag's value and the path of the field.
fn located(kind: &str, track: Track, error: &Error) -> String {
    let path = track.path().to_string();
    match path.strip_prefix(kind).map(|below| below.trim_start_matches('.')) {
        Some("") => format!("{kind}: {error}"),
        Some(below) => format!("{kind}: {below}: {error}"),
        // The tag's value is not defined, as the error says.
        None => error.to_string(),
    }
}

/// Moves the tag of a printed variant into its object.
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

/// Reads a variant without fields. Fields that the object has are ignored.
pub(crate) fn without_fields<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| ())
}

/// Reads a field whose own fields are inlined in the object of the variant.
pub(crate) fn inlined_fields<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    super::of_value(Json::Object(Map::deserialize(deserializer)?)).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error<T: DeserializeOwned + std::fmt::Debug>(json: Json) -> String {
        serde_json::from_value::<T>(json).expect_err("refused").to_string()
    }

    /// Java accepts tags in any case, and the former names of two fields (`MetadataUpdateParser`).
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
            (json!({"action": 5}), "action: 5 is not a string"),
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
                "set-snapshot-ref: type: \"twig\" is not one of branch, tag",
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
