//! The request of a commit to a view: updates, and requirements that must hold first.
//!
//! The JSON form is in `json::tagged`, the effect of the updates in `view_apply`.
//!
//! Spec: REST catalog specification, `ViewUpdate`, `ViewRequirement`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{FormatError, Result, Schema, ViewMetadata, ViewVersion};

/// A change of a view.
///
/// Spec: REST catalog specification, `ViewUpdate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum ViewUpdate {
    /// States the UUID of the view, which cannot change.
    AssignUuid {
        /// The UUID of the view.
        uuid: Uuid,
    },
    /// Upgrades the view to a later version of the view format.
    UpgradeFormatVersion {
        /// The version of the view format.
        format_version: u8,
    },
    /// Adds a schema.
    AddSchema {
        /// The schema; the catalog assigns its id.
        schema: Schema,
    },
    /// Sets the base location of the view.
    SetLocation {
        /// The base location of new metadata files.
        location: String,
    },
    /// Sets properties.
    SetProperties {
        /// The values, by the name of the property.
        #[serde(alias = "updated")]
        updates: BTreeMap<String, String>,
    },
    /// Removes properties.
    RemoveProperties {
        /// The names of the properties.
        #[serde(alias = "removed")]
        removals: Vec<String>,
    },
    /// Adds a version.
    AddViewVersion {
        /// The version. Its schema id may be [`LAST_ADDED`](crate::LAST_ADDED).
        view_version: ViewVersion,
    },
    /// Sets the current version.
    SetCurrentViewVersion {
        /// The id of the version, or [`LAST_ADDED`](crate::LAST_ADDED).
        view_version_id: i64,
    },
}

/// A condition that must hold for a commit to be applied.
///
/// Spec: REST catalog specification, `ViewRequirement`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "kebab-case")]
pub enum ViewRequirement {
    /// The view must have this UUID.
    AssertViewUuid {
        /// The UUID of the view.
        uuid: Uuid,
    },
}

impl ViewRequirement {
    /// Checks that the requirement holds for a view.
    ///
    /// # Errors
    ///
    /// Returns [`Requirement`](FormatError::Requirement) if the view has another UUID. The text is Java's.
    pub fn check(&self, metadata: &ViewMetadata) -> Result<()> {
        let Self::AssertViewUuid { uuid } = self;
        match metadata.view_uuid {
            own if own == *uuid => Ok(()),
            own => Err(FormatError::Requirement(format!("view UUID does not match: expected {own} != {uuid}"))),
        }
    }
}
