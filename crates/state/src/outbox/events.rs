//! The kinds of events, and the details that each carries.
//!
//! [`EventData`] is the one list of kinds. Sinks and the replay API send its `data`; `api/events.schema.json` is made from it.

use std::collections::BTreeMap;

use esker_access::RuleChange;
use esker_types::{JobId, Millis, TableId};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::AuditRecord;

/// The kind of an event with its details. A kind is a CloudEvents type without its reverse-DNS prefix.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", content = "data")]
pub enum EventData {
    /// A namespace was created.
    #[serde(rename = "namespace.created")]
    NamespaceCreated(NamespaceCreatedData),
    /// Properties of a namespace were set or removed.
    #[serde(rename = "namespace.updated")]
    NamespaceUpdated(NamespaceUpdatedData),
    /// A namespace was dropped.
    #[serde(rename = "namespace.dropped")]
    NamespaceDropped(NoEventData),
    /// A namespace was protected from being dropped, or its protection was lifted.
    #[serde(rename = "namespace.protected")]
    NamespaceProtected(ProtectedData),
    /// A recovery entered a namespace.
    #[serde(rename = "namespace.recovered")]
    NamespaceRecovered(NoEventData),
    /// A table was created.
    #[serde(rename = "table.created")]
    TableCreated(CreatedData),
    /// A table was entered whose metadata file existed.
    #[serde(rename = "table.registered")]
    TableRegistered(TableRegisteredData),
    /// A commit changed a table.
    #[serde(rename = "table.updated")]
    TableUpdated(TableUpdatedData),
    /// A late commit was not merged, though the table's policy asks for merges. Nothing was changed.
    #[serde(rename = "table.commit-refused")]
    TableCommitRefused(CommitRefusedData),
    /// A table has another name. The event's subject is the old one.
    #[serde(rename = "table.renamed")]
    TableRenamed(RenamedData),
    /// A table was dropped.
    #[serde(rename = "table.dropped")]
    TableDropped(TableDroppedData),
    /// A dropped table was brought back.
    #[serde(rename = "table.undropped")]
    TableUndropped(TableIdentityData),
    /// The time in which a dropped table could be brought back has ended.
    #[serde(rename = "table.drop-ended")]
    TableDropEnded(TableDropEndedData),
    /// A table was taken out of the catalog, for another catalog to register.
    #[serde(rename = "table.unregistered")]
    TableUnregistered(TableUnregisteredData),
    /// A foreign table became an owned one.
    #[serde(rename = "table.claimed")]
    TableClaimed(TableIdentityData),
    /// A table was protected from being dropped, or its protection was lifted.
    #[serde(rename = "table.protected")]
    TableProtected(ProtectedData),
    /// A file of a table was found missing or damaged.
    #[serde(rename = "table.file-damaged")]
    TableFileDamaged(DamageData),
    /// Damaged files are no longer part of the table, or were put back.
    #[serde(rename = "table.file-mended")]
    TableFileMended(DamageData),
    /// A recovery entered a table or a view, or moved it to a newer state.
    #[serde(rename = "table.recovered")]
    TableRecovered(TableRecoveredData),
    /// A view was created.
    #[serde(rename = "view.created")]
    ViewCreated(CreatedData),
    /// A view was entered whose metadata file existed.
    #[serde(rename = "view.registered")]
    ViewRegistered(CreatedData),
    /// A commit changed a view.
    #[serde(rename = "view.replaced")]
    ViewReplaced(ViewReplacedData),
    /// A view has another name. The event's subject is the old one.
    #[serde(rename = "view.renamed")]
    ViewRenamed(RenamedData),
    /// A view was dropped.
    #[serde(rename = "view.dropped")]
    ViewDropped(ViewDroppedData),
    /// A view was protected from being dropped, or its protection was lifted.
    #[serde(rename = "view.protected")]
    ViewProtected(ProtectedData),
    /// A function was created or replaced.
    #[serde(rename = "function.stored")]
    FunctionStored(FunctionStoredData),
    /// A function was dropped.
    #[serde(rename = "function.dropped")]
    FunctionDropped(NoEventData),
    /// The rules of access control were changed. The event's subject is what changed: `mode`, `role NAME`, `grant ID`, …
    #[serde(rename = "access.changed")]
    AccessChanged(AccessChangedData),
    /// A request was recorded in the audit trail, if `audit.events` is set. The event's subject is the operation.
    #[serde(rename = "audit.recorded")]
    AuditRecorded(Box<AuditRecord>),
    /// The first attempt at a job began.
    #[serde(rename = "job.started")]
    JobStarted(JobEventData),
    /// A job is done.
    #[serde(rename = "job.succeeded")]
    JobSucceeded(JobEventData),
    /// A job failed for good.
    #[serde(rename = "job.failed")]
    JobFailed(JobEventData),
    /// A job was cancelled.
    #[serde(rename = "job.cancelled")]
    JobCancelled(JobEventData),
}

/// The details of an event that needs none: an empty object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct NoEventData {}

/// The details of a namespace that was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct NamespaceCreatedData {
    /// The properties that the request set; empty for a parent that was created with its child.
    pub properties: BTreeMap<String, String>,
}

/// The details of a change of a namespace's properties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct NamespaceUpdatedData {
    /// All properties after the change.
    pub properties: BTreeMap<String, String>,
    /// The keys that were set.
    pub updated: Vec<String>,
    /// The keys that were removed.
    pub removed: Vec<String>,
}

/// The details of a protection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProtectedData {
    /// True if the entry is protected now.
    pub protected: bool,
}

/// The details of a rename.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RenamedData {
    /// The new full name, levels joined by dots.
    pub to: String,
}

/// The details of a table or view that was entered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CreatedData {
    /// The identifier of the entry in the catalog, for a view too.
    pub table_id: TableId,
    /// The UUID in the metadata, for a view too; nil if the metadata has none.
    pub table_uuid: Uuid,
    /// The URI of the table's or view's location.
    pub location: String,
    /// The URI of the metadata file.
    pub metadata_location: String,
}

/// The details of a table that was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TableRegisteredData {
    /// The identifiers and locations of the table.
    #[serde(flatten)]
    pub created: CreatedData,
    /// True if the table took the place of an entry of the same name.
    pub overwrite: bool,
}

/// The details of a commit to a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TableUpdatedData {
    /// The identifier of the table in the catalog.
    pub table_id: TableId,
    /// The UUID of the table; nil if its metadata has none.
    pub table_uuid: Uuid,
    /// The URI of the metadata file before the commit.
    pub previous_metadata_location: String,
    /// The URI of the metadata file after the commit.
    pub metadata_location: String,
    /// The actions of the updates, as the REST specification names them: `add-snapshot`, `set-snapshot-ref`, …
    pub updates: Vec<String>,
    /// The snapshots that the commit added.
    pub snapshots: Vec<AddedSnapshotData>,
}

/// The details of a late commit that was not merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CommitRefusedData {
    /// The identifier of the table in the catalog.
    pub table_id: TableId,
    /// The UUID of the table; nil if its metadata has none.
    pub table_uuid: Uuid,
    /// The ids of the snapshots that the commit would have added, the first one first.
    pub snapshot_ids: Vec<i64>,
    /// The name of the rule that the commit breaks.
    pub rule: String,
    /// What breaks the rule, with the file if it is one.
    pub reason: String,
    /// The conflict, as the client was told it.
    pub conflict: String,
}

/// A snapshot that a commit added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AddedSnapshotData {
    /// The id of the snapshot.
    pub snapshot_id: i64,
    /// The id of the snapshot before it, if there is one.
    pub parent_snapshot_id: Option<i64>,
    /// The sequence number; 0 in format version 1.
    pub sequence_number: i64,
    /// The operation of the summary: `append`, `replace`, `overwrite` or `delete`.
    pub operation: Option<String>,
    /// The other entries of the summary.
    pub summary: BTreeMap<String, String>,
}

/// The identifiers of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TableIdentityData {
    /// The identifier of the table in the catalog.
    pub table_id: TableId,
    /// The UUID of the table; nil if its metadata has none.
    pub table_uuid: Uuid,
}

/// The details of a table that was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TableDroppedData {
    /// The identifier of the table in the catalog.
    pub table_id: TableId,
    /// The UUID of the table; nil if its metadata has none.
    pub table_uuid: Uuid,
    /// The URI of the table's last metadata file.
    pub metadata_location: String,
    /// True if the files go into quarantine once the table can't be brought back.
    pub purge_requested: bool,
    /// The time until which the table can be brought back, in milliseconds since the Unix epoch; null if it can't.
    pub undrop_until_ms: Option<Millis>,
}

/// The details of a table that can't be brought back any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TableDropEndedData {
    /// The identifier that the table had in the catalog.
    pub table_id: TableId,
    /// The UUID of the table; nil if its metadata has none.
    pub table_uuid: Uuid,
    /// The URI of the table's last metadata file.
    pub metadata_location: String,
    /// The number of files that were quarantined.
    pub quarantined_files: u64,
    /// The old name of `quarantined-files`.
    #[schema(deprecated)]
    pub doomed_files: u64,
}

/// The details of a table that was taken out of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TableUnregisteredData {
    /// The identifier that the table had in the catalog.
    pub table_id: TableId,
    /// The UUID of the table; nil if its metadata has none.
    pub table_uuid: Uuid,
    /// The URI of the table's last metadata file.
    pub metadata_location: String,
}

/// The details of a table or view that a recovery entered or moved to a newer state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TableRecoveredData {
    /// The URI of the metadata file.
    pub metadata_location: String,
    /// The URI of the metadata file that the entry had before; absent if the entry was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_metadata_location: Option<String>,
}

/// The files of a table that were found damaged, or are no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DamageData {
    /// The UUID of the table; nil if its metadata has none.
    pub table_uuid: Uuid,
    /// The files.
    pub files: Vec<DamagedFileData>,
}

/// A file that was found damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DamagedFileData {
    /// The URI of the file.
    pub path: String,
    /// True if the file was not in storage.
    pub missing: bool,
    /// The text of the error.
    pub error: String,
    /// What met the error first, for people.
    pub met_by: String,
}

/// The details of a commit to a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ViewReplacedData {
    /// The identifier of the view in the catalog.
    pub view_id: TableId,
    /// The UUID of the view.
    pub view_uuid: Uuid,
    /// The URI of the metadata file after the commit.
    pub metadata_location: String,
    /// The URI of the metadata file before the commit.
    pub previous_metadata_location: String,
    /// The id of the view's current version.
    pub version_id: i64,
}

/// The details of a view that was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ViewDroppedData {
    /// The identifier that the view had in the catalog.
    pub view_id: TableId,
    /// The UUID of the view.
    pub view_uuid: Uuid,
    /// The URI of the view's last metadata file.
    pub metadata_location: String,
}

/// The details of a function that was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct FunctionStoredData {
    /// The UUID of the function, as its metadata has it.
    pub function_uuid: String,
}

/// The details of a change of the rules of access control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AccessChangedData {
    /// The version of the rules after the change. Changes of one request have the same.
    pub version: i64,
    /// The change.
    pub change: RuleChange,
}

/// The details of a job that began or is over. The event's subject is the job's table.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct JobEventData {
    /// The identifier of the job.
    pub job_id: JobId,
    /// The kind of the job: `compact`, `expire`, …, or `undo`.
    pub kind: String,
    /// The reason for the job, for people.
    pub reason: String,
    /// The other engine that the job is delegated to; null for a job of Esker.
    pub engine: Option<String>,
    /// The URI of the table's location; null if the table was dropped.
    pub location: Option<String>,
    /// The error of a job that failed.
    pub error: Option<String>,
    /// The outcome of a job that succeeded, by its kind: see `jobs.schema.json`.
    pub outcome: Option<Value>,
    /// The time at which the first attempt began, in milliseconds since the Unix epoch.
    pub started_ms: Option<Millis>,
    /// The time at which the job ended, in milliseconds since the Unix epoch.
    pub finished_ms: Option<Millis>,
}

#[cfg(test)]
mod tests {
    use esker_types::renamed::EVENT_FIELDS;
    use serde_json::json;

    use super::*;

    #[test]
    fn details_are_written_as_before_they_had_types() {
        let id = TableId(Uuid::nil());
        let created = CreatedData { table_id: id, table_uuid: Uuid::nil(), location: "l".into(), metadata_location: "m".into() };
        let nil = "00000000-0000-0000-0000-000000000000";
        for (data, expected) in [
            (EventData::NamespaceDropped(NoEventData {}), json!({"type": "namespace.dropped", "data": {}})),
            (
                EventData::TableRegistered(TableRegisteredData { created, overwrite: true }),
                json!({"type": "table.registered", "data": {"table-id": nil, "table-uuid": nil, "location": "l",
                    "metadata-location": "m", "overwrite": true}}),
            ),
            (
                EventData::TableRecovered(TableRecoveredData { metadata_location: "m".into(), previous_metadata_location: None }),
                json!({"type": "table.recovered", "data": {"metadata-location": "m"}}),
            ),
        ] {
            assert_eq!(json!(data), expected);
        }
    }

    #[test]
    fn deprecated_fields_are_those_that_have_another_name_now() {
        let document = esker_types::schema::document::<EventData>("Events");
        let mut deprecated = Vec::new();
        for schema in document["$defs"].as_object().expect("types").values() {
            let properties = schema["properties"].as_object().into_iter().flatten();
            let old = properties.filter(|(_, field)| field["deprecated"] == true);
            deprecated.extend(old.map(|(name, _)| {
                let renamed = EVENT_FIELDS.iter().find(|renamed| renamed.old == name).expect("an old name");
                assert!(schema["properties"].get(renamed.new).is_some(), "{renamed:?}");
                name.clone()
            }));
        }
        assert_eq!(deprecated, EVENT_FIELDS.map(|renamed| renamed.old.to_owned()));
    }
}
