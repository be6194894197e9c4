//! What a commit asks for: updates of a table, and what must hold of it (REST specification, `TableUpdate`, `TableRequirement`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::json::tagged;
use crate::{
    EncryptedKey, Extra, FormatError, PartitionStatisticsFile, Result, Schema, Snapshot, SnapshotReference, SortOrder,
    StatisticsFile, TableMetadata, UnboundPartitionField,
};

/// The id that stands for what the same commit added last.
pub const LAST_ADDED: i64 = -1;

/// A partition spec that is asked for: its id is the catalog's to give, and those of its fields too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnboundPartitionSpec {
    /// The id that the client has for it.
    pub spec_id: Option<i32>,
    /// The fields in order.
    pub fields: Vec<UnboundPartitionField>,
    /// What else its JSON says.
    pub extra: Extra,
}

/// A change of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum TableUpdate {
    /// Gives a table that has none its UUID.
    AssignUuid {
        /// The UUID.
        uuid: Uuid,
    },
    /// Brings it to a later version of the format.
    UpgradeFormatVersion {
        /// The version.
        format_version: u8,
    },
    /// Adds a schema.
    AddSchema {
        /// The schema.
        schema: Schema,
    },
    /// Sets the schema that it has.
    SetCurrentSchema {
        /// Its id, or [`LAST_ADDED`].
        schema_id: i32,
    },
    /// Adds a partition spec.
    AddSpec {
        /// The spec.
        spec: UnboundPartitionSpec,
    },
    /// Sets the spec that writers use.
    SetDefaultSpec {
        /// Its id, or [`LAST_ADDED`].
        spec_id: i32,
    },
    /// Adds a sort order.
    AddSortOrder {
        /// The order.
        sort_order: SortOrder,
    },
    /// Sets the sort order that writers use.
    SetDefaultSortOrder {
        /// Its id, or [`LAST_ADDED`].
        sort_order_id: i64,
    },
    /// Adds a snapshot.
    AddSnapshot {
        /// The snapshot.
        snapshot: Snapshot,
    },
    /// Sets a branch or tag.
    SetSnapshotRef {
        /// Its name.
        ref_name: String,
        /// What it is set to.
        #[serde(flatten, deserialize_with = "tagged::among")]
        reference: SnapshotReference,
    },
    /// Removes snapshots.
    RemoveSnapshots {
        /// Their ids.
        snapshot_ids: Vec<i64>,
    },
    /// Removes a branch or tag.
    RemoveSnapshotRef {
        /// Its name.
        ref_name: String,
    },
    /// Moves the table.
    SetLocation {
        /// Where its files go from now on.
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
    /// Adds statistics of a snapshot, in place of those that there are.
    SetStatistics {
        /// The file.
        statistics: StatisticsFile,
    },
    /// Removes the statistics of a snapshot.
    RemoveStatistics {
        /// The snapshot.
        snapshot_id: i64,
    },
    /// Adds statistics of a snapshot's partitions, in place of those that there are.
    SetPartitionStatistics {
        /// The file.
        partition_statistics: PartitionStatisticsFile,
    },
    /// Removes the statistics of a snapshot's partitions.
    RemovePartitionStatistics {
        /// The snapshot.
        snapshot_id: i64,
    },
    /// Removes partition specs.
    RemovePartitionSpecs {
        /// Their ids.
        spec_ids: Vec<i32>,
    },
    /// Removes schemas.
    RemoveSchemas {
        /// Their ids.
        schema_ids: Vec<i32>,
    },
    /// Adds a key.
    AddEncryptionKey {
        /// The key.
        encryption_key: EncryptedKey,
    },
    /// Removes a key.
    RemoveEncryptionKey {
        /// Its id.
        key_id: String,
    },
}

/// What must hold of a table for a commit to be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum TableRequirement {
    /// The table is not there yet.
    #[serde(deserialize_with = "tagged::without_fields")]
    AssertCreate,
    /// It has this UUID.
    #[serde(rename = "assert-table-uuid")]
    AssertTableUuid {
        /// The UUID.
        uuid: Uuid,
    },
    /// A branch or tag is at a snapshot, or not there.
    AssertRefSnapshotId {
        /// Its name.
        #[serde(rename = "ref")]
        name: String,
        /// The snapshot; none if the branch or tag must not be there.
        #[serde(default)]
        snapshot_id: Option<i64>,
    },
    /// The highest id of a field.
    AssertLastAssignedFieldId {
        /// The id.
        last_assigned_field_id: i32,
    },
    /// The schema that it has.
    AssertCurrentSchemaId {
        /// The id.
        current_schema_id: i32,
    },
    /// The highest id of a partition field.
    AssertLastAssignedPartitionId {
        /// The id.
        last_assigned_partition_id: i32,
    },
    /// The spec that writers use.
    AssertDefaultSpecId {
        /// The id.
        default_spec_id: i32,
    },
    /// The sort order that writers use.
    AssertDefaultSortOrderId {
        /// The id.
        default_sort_order_id: i64,
    },
}

impl TableRequirement {
    /// An error if it does not hold of a table, worded as the reference implementation words it: engines' tests look for the text.
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
