//! The request of a commit to a table: updates, and requirements that must hold first.
//!
//! The JSON form is in `json::tagged`, the effect of the updates in `apply`.
//!
//! Spec: REST catalog specification, `TableUpdate`, `TableRequirement`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::json::tagged;
use crate::{
    EncryptedKey, Extra, FormatError, PartitionStatisticsFile, Result, Schema, Snapshot, SnapshotReference, SortOrder,
    StatisticsFile, TableMetadata, UnboundPartitionField,
};

/// The id that stands for the object of its kind that the same commit added last.
pub const LAST_ADDED: i64 = -1;

/// A partition spec that a client requests. The catalog assigns the id of the spec, and ids of fields that have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnboundPartitionSpec {
    /// The id that the client gives to the spec. It counts only in a commit that creates the table.
    pub spec_id: Option<i32>,
    /// The fields in the order of a partition's values.
    pub fields: Vec<UnboundPartitionField>,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

/// A change of a table.
///
/// Spec: REST catalog specification, `TableUpdate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum TableUpdate {
    /// Assigns the UUID of a table that has none.
    AssignUuid {
        /// The UUID of the table.
        uuid: Uuid,
    },
    /// Upgrades the table to a later format version.
    UpgradeFormatVersion {
        /// The format version, 1 to 3.
        format_version: u8,
    },
    /// Adds a schema.
    AddSchema {
        /// The schema; the catalog assigns its id.
        schema: Schema,
    },
    /// Sets the current schema.
    SetCurrentSchema {
        /// The id of the schema, or [`LAST_ADDED`].
        schema_id: i32,
    },
    /// Adds a partition spec.
    AddSpec {
        /// The requested spec.
        spec: UnboundPartitionSpec,
    },
    /// Sets the partition spec that writers use.
    SetDefaultSpec {
        /// The id of the spec, or [`LAST_ADDED`].
        spec_id: i32,
    },
    /// Adds a sort order.
    AddSortOrder {
        /// The sort order; the catalog assigns its id.
        sort_order: SortOrder,
    },
    /// Sets the sort order that writers use.
    SetDefaultSortOrder {
        /// The id of the sort order, or [`LAST_ADDED`].
        sort_order_id: i64,
    },
    /// Adds a snapshot.
    AddSnapshot {
        /// The new snapshot.
        snapshot: Snapshot,
    },
    /// Creates or moves a branch or tag.
    SetSnapshotRef {
        /// The name of the branch or tag.
        ref_name: String,
        /// The snapshot, kind and retention of the branch or tag.
        #[serde(flatten, deserialize_with = "tagged::inlined_fields")]
        reference: SnapshotReference,
    },
    /// Removes snapshots, with their statistics and the references to them.
    RemoveSnapshots {
        /// The ids of the snapshots.
        snapshot_ids: Vec<i64>,
    },
    /// Removes a branch or tag.
    RemoveSnapshotRef {
        /// The name of the branch or tag.
        ref_name: String,
    },
    /// Sets the base location of the table. Existing files stay where they are.
    SetLocation {
        /// The base location of new files.
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
    /// Sets the statistics file of a snapshot, in place of the one that it has.
    SetStatistics {
        /// The statistics file.
        statistics: StatisticsFile,
    },
    /// Removes the statistics file of a snapshot.
    RemoveStatistics {
        /// The id of the snapshot.
        snapshot_id: i64,
    },
    /// Sets the partition statistics file of a snapshot, in place of the one that it has.
    SetPartitionStatistics {
        /// The partition statistics file.
        partition_statistics: PartitionStatisticsFile,
    },
    /// Removes the partition statistics file of a snapshot.
    RemovePartitionStatistics {
        /// The id of the snapshot.
        snapshot_id: i64,
    },
    /// Removes partition specs.
    RemovePartitionSpecs {
        /// The ids of the specs.
        spec_ids: Vec<i32>,
    },
    /// Removes schemas.
    RemoveSchemas {
        /// The ids of the schemas.
        schema_ids: Vec<i32>,
    },
    /// Adds an encryption key, unless the table has a key of that id.
    AddEncryptionKey {
        /// The new key.
        encryption_key: EncryptedKey,
    },
    /// Removes an encryption key.
    RemoveEncryptionKey {
        /// The id of the key.
        key_id: String,
    },
}

/// A condition that must hold for a commit to be applied.
///
/// Spec: REST catalog specification, `TableRequirement`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum TableRequirement {
    /// The table must not exist.
    #[serde(deserialize_with = "tagged::without_fields")]
    AssertCreate,
    /// The table must have this UUID.
    #[serde(rename = "assert-table-uuid")]
    AssertTableUuid {
        /// The UUID of the table.
        uuid: Uuid,
    },
    /// A branch or tag must be at this snapshot, or must not exist.
    AssertRefSnapshotId {
        /// The name of the branch or tag.
        #[serde(rename = "ref")]
        name: String,
        /// The id of the snapshot; `None` if the branch or tag must not exist.
        #[serde(default)]
        snapshot_id: Option<i64>,
    },
    /// The highest field id that was ever assigned must be this one.
    AssertLastAssignedFieldId {
        /// The field id.
        last_assigned_field_id: i32,
    },
    /// The current schema must be this one.
    AssertCurrentSchemaId {
        /// The id of the schema.
        current_schema_id: i32,
    },
    /// The highest partition field id that was ever assigned must be this one.
    AssertLastAssignedPartitionId {
        /// The partition field id.
        last_assigned_partition_id: i32,
    },
    /// The partition spec that writers use must be this one.
    AssertDefaultSpecId {
        /// The id of the spec.
        default_spec_id: i32,
    },
    /// The sort order that writers use must be this one.
    AssertDefaultSortOrderId {
        /// The id of the sort order.
        default_sort_order_id: i64,
    },
}

impl TableRequirement {
    /// Checks that the requirement holds for a table. A table without UUID fulfils every UUID requirement.
    ///
    /// # Errors
    ///
    /// Returns [`Requirement`](FormatError::Requirement) if the requirement does not hold. Its text is Java's, because engines'
    /// tests match on it. [`AssertCreate`](Self::AssertCreate) always fails here: the table exists.
    pub fn check(&self, metadata: &TableMetadata) -> Result<()> {
        let failed = |why: String| Err(FormatError::Requirement(why));
        let same = |what: &str, expected: i64, found: i64| match expected == found {
            true => Ok(()),
            false => failed(format!("{what}: expected id {expected} != {found}")),
        };
        match self {
            Self::AssertCreate => failed("table already exists".to_owned()),
            Self::AssertTableUuid { uuid } => match metadata.table_uuid {
                Some(found) if found != *uuid => failed(format!("UUID does not match: expected {found} != {uuid}")),
                _ => Ok(()),
            },
            Self::AssertRefSnapshotId { name, snapshot_id } => {
                let found = metadata.refs.get(name);
                let kind = found.map_or("branch or tag", |r| if r.is_branch() { "branch" } else { "tag" });
                match (found.map(|r| r.snapshot_id), snapshot_id) {
                    (Some(found), Some(expected)) if found != *expected => {
                        failed(format!("{kind} {name} has changed: expected id {expected} != {found}"))
                    }
                    (Some(_), None) => failed(format!("{kind} {name} was created concurrently")),
                    (None, Some(expected)) => failed(format!("branch or tag {name} is missing, expected {expected}")),
                    _ => Ok(()),
                }
            }
            Self::AssertLastAssignedFieldId { last_assigned_field_id } => {
                same("last assigned field id changed", (*last_assigned_field_id).into(), metadata.last_column_id.into())
            }
            Self::AssertCurrentSchemaId { current_schema_id } => {
                same("current schema changed", (*current_schema_id).into(), metadata.current_schema_id.into())
            }
            Self::AssertLastAssignedPartitionId { last_assigned_partition_id } => same(
                "last assigned partition id changed",
                (*last_assigned_partition_id).into(),
                metadata.last_partition_id.into(),
            ),
            Self::AssertDefaultSpecId { default_spec_id } => {
                same("default partition spec changed", (*default_spec_id).into(), metadata.default_spec_id.into())
            }
            Self::AssertDefaultSortOrderId { default_sort_order_id } => {
                same("default sort order changed", *default_sort_order_id, metadata.default_sort_order_id)
            }
        }
    }
}
