//! The JSON form of view metadata.
//!
//! Spec: Iceberg View Spec, Appendix A.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Json;
use uuid::Uuid;

use super::{of_value, print, read};
use crate::metadata::shared;
use crate::{Extra, Result, Schema, ViewMetadata, ViewRepresentation, ViewVersion, ViewVersionLog};

json_object!(ViewVersion {
    needed "version-id" => version_id,
    needed "timestamp-ms" => timestamp_ms,
    needed "schema-id" => schema_id,
    or_default "summary" => summary,
    optional "default-catalog" => default_catalog,
    or_default "default-namespace" => default_namespace,
    needed "representations" => representations,
});

json_object!(ViewVersionLog {
    needed "timestamp-ms" => timestamp_ms,
    needed "version-id" => version_id,
});

/// The JSON form of a query in SQL.
#[derive(Debug)]
struct SqlJson {
    kind: String,
    sql: String,
    dialect: String,
    extra: Extra,
}

json_object!(SqlJson {
    needed "type" => kind,
    needed "sql" => sql,
    needed "dialect" => dialect,
});

impl<'de> Deserialize<'de> for ViewRepresentation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let json = Json::deserialize(deserializer)?;
        if json.get("type").and_then(Json::as_str).is_none_or(|kind| !kind.eq_ignore_ascii_case("sql")) {
            return Ok(Self::Other(json));
        }
        let SqlJson { sql, dialect, extra, .. } = of_value(json).map_err(D::Error::custom)?;
        Ok(Self::Sql { sql, dialect, extra })
    }
}

impl Serialize for ViewRepresentation {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Other(json) => json.serialize(serializer),
            Self::Sql { sql, dialect, extra } => {
                let (kind, sql, dialect) = ("sql".to_owned(), sql.clone(), dialect.clone());
                SqlJson { kind, sql, dialect, extra: extra.clone() }.serialize(serializer)
            }
        }
    }
}

/// The JSON form of view metadata.
#[derive(Debug)]
struct ViewJson {
    view_uuid: Uuid,
    format_version: u8,
    location: String,
    schemas: Vec<Schema>,
    current_version_id: i64,
    versions: Vec<ViewVersion>,
    version_log: Vec<ViewVersionLog>,
    properties: BTreeMap<String, String>,
    extra: Extra,
}

json_object!(ViewJson {
    needed "view-uuid" => view_uuid,
    needed "format-version" => format_version,
    needed "location" => location,
    needed "schemas" => schemas,
    needed "current-version-id" => current_version_id,
    needed "versions" => versions,
    needed "version-log" => version_log,
    or_default "properties" => properties,
});

impl<'de> Deserialize<'de> for ViewMetadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let json = ViewJson::deserialize(deserializer)?;
        if json.format_version != 1 {
            return Err(D::Error::custom(format!("format-version is {}; supported is 1", json.format_version)));
        }
        let ViewJson {
            view_uuid,
            format_version,
            location,
            schemas,
            current_version_id,
            versions,
            version_log,
            properties,
            extra,
        } = json;
        let schemas = shared(schemas);
        let view =
            Self { view_uuid, format_version, location, schemas, current_version_id, versions, version_log, properties, extra };
        view.checked().map_err(D::Error::custom)
    }
}

impl Serialize for ViewMetadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let json = ViewJson {
            view_uuid: self.view_uuid,
            format_version: self.format_version,
            location: self.location.clone(),
            schemas: self.schemas.iter().map(Arc::as_ref).cloned().collect(),
            current_version_id: self.current_version_id,
            versions: self.versions.clone(),
            version_log: self.version_log.clone(),
            properties: self.properties.clone(),
            extra: self.extra.clone(),
        };
        json.serialize(serializer)
    }
}

impl ViewMetadata {
    /// Parses the JSON of a metadata file.
    ///
    /// # Errors
    ///
    /// Returns [`Json`](crate::FormatError::Json), with the path of the field, if:
    /// - the text is not JSON, or a field is missing or has a wrong type;
    /// - the format version is not 1;
    /// - two fields of a schema have the same id or full name;
    /// - the current version or its schema is not listed.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        read("view metadata", json)
    }

    /// Prints the JSON of a metadata file.
    ///
    /// # Errors
    ///
    /// Returns [`Json`](crate::FormatError::Json) if a value cannot be printed.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        print("view metadata", self)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn view() -> Json {
        json!({
            "view-uuid": "fa6506c3-7681-40c8-86dc-e36561f83385", "format-version": 1, "location": "s3://bucket/v",
            "current-version-id": 2, "properties": {"comment": "Daily event counts"}, "later": [1],
            "versions": [
                {"version-id": 1, "timestamp-ms": 1_573_518_431_292_i64, "schema-id": 1, "default-namespace": ["default"],
                    "summary": {"engine-name": "Spark"}, "representations": [{"type": "sql", "sql": "SELECT 1", "dialect": "spark"}]},
                {"version-id": 2, "timestamp-ms": 1_573_518_981_593_i64, "schema-id": 1, "default-namespace": ["a", "b"],
                    "default-catalog": "prod", "summary": {}, "later": {"a": 1}, "representations": [
                        {"type": "sql", "sql": "SELECT 2", "dialect": "trino", "later": true}, {"type": "substrait", "plan": "AA=="}]}],
            "schemas": [{"schema-id": 1, "type": "struct", "fields": [{"id": 1, "name": "c", "required": false, "type": "int"}]}],
            "version-log": [{"timestamp-ms": 1_573_518_431_292_i64, "version-id": 1}],
        })
    }

    #[test]
    fn metadata_is_printed_as_it_was_read_with_what_nobody_knows() {
        let read = ViewMetadata::from_json(view().to_string().as_bytes()).expect("read");
        let printed: Json = serde_json::from_slice(&read.to_json().expect("printed")).expect("JSON");
        assert_eq!(printed, view());
        assert_eq!(read.current_version().default_catalog.as_deref(), Some("prod"));
        assert_eq!(read.current_schema().field_by_name("c").map(|field| field.id), Some(1));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_with_its_place() {
        for (path, value, words) in [
            ("/format-version", json!(2), "format-version is 2"),
            ("/current-version-id", json!(9), "current-version-id is 9, which is not in versions"),
            ("/versions/1/schema-id", json!(7), "schema-id is 7, which is not in schemas"),
            ("/versions/0/timestamp-ms", json!("x"), "versions[0].timestamp-ms"),
        ] {
            let mut json = view();
            *json.pointer_mut(path).expect("a place") = value;
            let error = ViewMetadata::from_json(json.to_string().as_bytes()).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
