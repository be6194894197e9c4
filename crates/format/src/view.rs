//! The metadata of a view, and its lookups.
//!
//! The JSON form is in `json::view`, changes are in `view_apply`. Metadata whose current version or schema is missing from its list
//! is not read, so those lookups cannot fail.
//!
//! Spec: Iceberg View Spec, "View Metadata".

use std::collections::BTreeMap;

use serde_json::Value as Json;
use uuid::Uuid;

use crate::{Extra, FormatError, Result, SchemaRef};

/// The metadata of a view: its SQL in one or several dialects, and the schemas of its results.
///
/// Spec: Iceberg View Spec, "View Metadata".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewMetadata {
    /// The identity of the view, which renaming does not change.
    pub view_uuid: Uuid,
    /// The version of the view format, which is 1.
    pub format_version: u8,
    /// The base location of the view's metadata.
    pub location: String,
    /// The schemas of the view's versions.
    pub schemas: Vec<SchemaRef>,
    /// The id of the version that the view has now.
    pub current_version_id: i64,
    /// The view's versions, in the order in which the metadata lists them.
    pub versions: Vec<ViewVersion>,
    /// The history of the current version, oldest first.
    pub version_log: Vec<ViewVersionLog>,
    /// The view's properties.
    pub properties: BTreeMap<String, String>,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

/// A version of a view.
///
/// Spec: Iceberg View Spec, "Versions".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewVersion {
    /// The id of the version, unique within its view.
    pub version_id: i64,
    /// The id of the schema of the query's result.
    pub schema_id: i32,
    /// The time of creation, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Facts about the writer, such as the engine's name.
    pub summary: BTreeMap<String, String>,
    /// The view's query in each dialect.
    pub representations: Vec<ViewRepresentation>,
    /// The catalog of names in the query that have none.
    pub default_catalog: Option<String>,
    /// The namespace of names in the query that have none.
    pub default_namespace: Vec<String>,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

/// A representation of a view's query.
///
/// Spec: Iceberg View Spec, "Representations".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewRepresentation {
    /// A query in SQL.
    Sql {
        /// The text of the query.
        sql: String,
        /// The dialect of the text, such as `spark`.
        dialect: String,
        /// The unknown fields of its JSON object.
        extra: Extra,
    },
    /// A kind of representation that this version of Esker does not define, as the metadata has it.
    Other(Json),
}

/// An entry of the version log: a version became the current one.
///
/// Spec: Iceberg View Spec, "Version log".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewVersionLog {
    /// The time at which the version became current, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The id of the version.
    pub version_id: i64,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

impl ViewMetadata {
    /// Returns the version with `id`.
    pub fn version_by_id(&self, id: i64) -> Option<&ViewVersion> {
        self.versions.iter().find(|version| version.version_id == id)
    }

    /// Returns the version that the view has now. It always exists: metadata without it is not read, and no update removes it.
    pub fn current_version(&self) -> &ViewVersion {
        self.version_by_id(self.current_version_id).expect("the current version is there, or the metadata was not read")
    }

    /// Returns the schema with `id`.
    pub fn schema_by_id(&self, id: i32) -> Option<&SchemaRef> {
        self.schemas.iter().find(|schema| schema.schema_id() == id)
    }

    /// Returns the schema of the current version. It always exists: metadata without it is not read, and no update removes it.
    pub fn current_schema(&self) -> &SchemaRef {
        self.schema_by_id(self.current_version().schema_id).expect("the current schema is there, or the metadata was not read")
    }

    /// Checks that the current version and its schema exist.
    pub(crate) fn checked(self) -> Result<Self> {
        let version = self.version_by_id(self.current_version_id);
        let version = version.ok_or_else(|| missing("current-version-id", self.current_version_id, "versions"))?;
        let id = version.schema_id;
        match self.schema_by_id(id) {
            Some(_) => Ok(self),
            None => Err(missing("the current version's schema-id", id.into(), "schemas")),
        }
    }
}

fn missing(field: &str, id: i64, list: &str) -> FormatError {
    FormatError::invalid("view metadata", format!("{field} is {id}, which is not in {list}"))
}
