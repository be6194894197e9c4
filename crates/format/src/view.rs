//! The metadata of a view (view specification).

use std::collections::BTreeMap;

use serde_json::Value as Json;
use uuid::Uuid;

use crate::{Extra, FormatError, Result, SchemaRef};

/// A view: a text in one or several dialects, and the columns that it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewMetadata {
    /// What identifies it, whatever it is called.
    pub view_uuid: Uuid,
    /// The version of the view format: 1.
    pub format_version: u8,
    /// Where its metadata lies.
    pub location: String,
    /// The schemas of its versions.
    pub schemas: Vec<SchemaRef>,
    /// The version that it has now.
    pub current_version_id: i64,
    /// The view's versions, in the order that they are written in.
    pub versions: Vec<ViewVersion>,
    /// Which versions were current, and when.
    pub version_log: Vec<ViewVersionLog>,
    /// The view's properties.
    pub properties: BTreeMap<String, String>,
    /// What else its JSON says.
    pub extra: Extra,
}

/// A view at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewVersion {
    /// What identifies it within its view.
    pub version_id: i64,
    /// The schema of the columns that its text makes.
    pub schema_id: i32,
    /// When it was made, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// What its writer says of it.
    pub summary: BTreeMap<String, String>,
    /// Its text in each dialect.
    pub representations: Vec<ViewRepresentation>,
    /// The catalog that names without one are looked up in.
    pub default_catalog: Option<String>,
    /// The namespace that names without one are looked up in.
    pub default_namespace: Vec<String>,
    /// What else its JSON says.
    pub extra: Extra,
}

/// A view's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewRepresentation {
    /// A query in SQL.
    Sql {
        /// The text.
        sql: String,
        /// Whose SQL it is.
        dialect: String,
        /// What else its JSON says.
        extra: Extra,
    },
    /// A kind of text that nobody knows yet, as the metadata has it.
    Other(Json),
}

/// When a version became the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewVersionLog {
    /// When, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The version.
    pub version_id: i64,
    /// What else its JSON says.
    pub extra: Extra,
}

impl ViewMetadata {
    /// The version with an id.
    pub fn version_by_id(&self, id: i64) -> Option<&ViewVersion> {
        self.versions.iter().find(|version| version.version_id == id)
    }

    /// The version that the view has now. Metadata that lacks it is not read, and no update removes it.
    pub fn current_version(&self) -> &ViewVersion {
        self.version_by_id(self.current_version_id).expect("the current version is there, or the metadata was not read")
    }

    /// The schema with an id.
    pub fn schema_by_id(&self, id: i32) -> Option<&SchemaRef> {
        self.schemas.iter().find(|schema| schema.schema_id() == id)
    }

    /// The columns that the view has now. Metadata that lacks them is not read, and no update removes them.
    pub fn current_schema(&self) -> &SchemaRef {
        self.schema_by_id(self.current_version().schema_id).expect("the current schema is there, or the metadata was not read")
    }

    /// What can't be left out of a view's metadata leads somewhere.
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
