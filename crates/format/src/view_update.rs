//! What a commit to a view asks for (REST specification, `ViewUpdate`, `ViewRequirement`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{FormatError, Result, Schema, ViewMetadata, ViewVersion};

/// A change of a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum ViewUpdate {
    /// Names its UUID, which never changes.
    AssignUuid {
        /// The UUID.
        uuid: Uuid,
    },
    /// Brings it to a later version of the view format.
    UpgradeFormatVersion {
        /// The version.
        format_version: u8,
    },
    /// Adds a schema.
    AddSchema {
        /// The schema.
        schema: Schema,
    },
    /// Moves the view.
    SetLocation {
        /// Where its metadata goes from now on.
        location: String,
    },
    /// Sets properties.
    SetProperties {
        /// Their values by name.
        #[serde(alias = "updated")]
        updates: BTreeMap<String, String>,
    },
    /// Removes properties.
    RemoveProperties {
        /// Their names.
        #[serde(alias = "removed")]
        removals: Vec<String>,
    },
    /// Adds a version.
    AddViewVersion {
        /// The version. Its schema may be [`LAST_ADDED`](crate::LAST_ADDED).
        view_version: ViewVersion,
    },
    /// Sets the version that it has.
    SetCurrentViewVersion {
        /// Its id, or [`LAST_ADDED`](crate::LAST_ADDED).
        view_version_id: i64,
    },
}

/// What must hold of a view for a commit to be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "kebab-case")]
pub enum ViewRequirement {
    /// It still is the same view.
    AssertViewUuid {
        /// Its UUID.
        uuid: Uuid,
    },
}

impl ViewRequirement {
    /// An error if it does not hold of a view, worded as the reference implementation words it.
    pub fn check(&self, metadata: &ViewMetadata) -> Result<()> {
        let Self::AssertViewUuid { uuid } = self;
        match metadata.view_uuid {
            own if own == *uuid => Ok(()),
            own => Err(FormatError::Requirement(format!("view UUID does not match: expected {own} != {uuid}"))),
        }
    }
}
