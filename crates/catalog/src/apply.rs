//! One commit on one state of a table: pure, no I/O.

use iceberg::spec::TableMetadata;
use iceberg::{ErrorKind, TableRequirement, TableUpdate};

use crate::readable::{check_numbers, check_reference, check_schemas};
use crate::{CatalogError, Result};

/// Checks the requirements and applies the updates, in a builder of its own: the builder keeps one entry of the snapshot log
/// a build. `location` is the metadata file that the state came from, entered in the metadata log; none for a state
/// that an earlier commit of the same batch made. `None` means that nothing changes.
pub(crate) fn apply(
    metadata: &TableMetadata,
    location: Option<&str>,
    requirements: &[TableRequirement],
    updates: Vec<TableUpdate>,
) -> Result<Option<TableMetadata>> {
    for requirement in requirements {
        check(metadata, requirement).map_err(|what| CatalogError::Conflict(format!("Requirement failed: {what}")))?;
    }
    for update in &updates {
        check_update(metadata, update)?;
    }
    let (added, removed) = (added_snapshots(&updates), removed_schemas(&updates));
    let mut builder = metadata.clone().into_builder(location.map(str::to_owned));
    for update in updates {
        let stale = matches!(update, TableUpdate::AddSnapshot { .. });
        builder = update.apply(builder).map_err(|e| refuse(&e, stale))?;
    }
    let built = builder.build().map_err(|e| refuse(&e, false))?;
    check_schemas(&built.metadata, &added, &removed)?;
    Ok((!built.changes.is_empty()).then_some(built.metadata))
}

/// Whether a requirement holds on an existing table. Worded as the reference implementation words it: engines' tests and
/// people's alerts look for the text.
fn check(metadata: &TableMetadata, requirement: &TableRequirement) -> std::result::Result<(), String> {
    let same = |what: &str, expected: i64, found: i64| match expected == found {
        true => Ok(()),
        false => Err(format!("{what} changed: expected id {expected} != {found}")),
    };
    match requirement {
        TableRequirement::NotExist => Err("table already exists".to_owned()),
        TableRequirement::UuidMatch { uuid } if *uuid != metadata.uuid() => {
            Err(format!("UUID does not match: expected {uuid} != {}", metadata.uuid()))
        }
        TableRequirement::UuidMatch { .. } => Ok(()),
        TableRequirement::RefSnapshotIdMatch { r#ref, snapshot_id } => {
            let found = metadata.snapshot_for_ref(r#ref).map(|s| s.snapshot_id());
            match (*snapshot_id, found) {
                (expected, found) if expected == found => Ok(()),
                (None, _) => Err(format!("branch or tag {ref} was created concurrently")),
                (Some(expected), None) => Err(format!("branch or tag {ref} is missing, expected {expected}")),
                (Some(expected), Some(found)) => {
                    Err(format!("branch or tag {ref} has changed: expected id {expected} != {found}"))
                }
            }
        }
        TableRequirement::LastAssignedFieldIdMatch { last_assigned_field_id } => {
            same("last assigned field id", (*last_assigned_field_id).into(), metadata.last_column_id().into())
        }
        TableRequirement::CurrentSchemaIdMatch { current_schema_id } => {
            same("current schema", (*current_schema_id).into(), metadata.current_schema_id().into())
        }
        TableRequirement::LastAssignedPartitionIdMatch { last_assigned_partition_id } => {
            same("last assigned partition id", (*last_assigned_partition_id).into(), metadata.last_partition_id().into())
        }
        TableRequirement::DefaultSpecIdMatch { default_spec_id } => {
            same("default partition spec", (*default_spec_id).into(), metadata.default_partition_spec_id().into())
        }
        TableRequirement::DefaultSortOrderIdMatch { default_sort_order_id } => {
            same("default sort order", *default_sort_order_id, metadata.default_sort_order_id())
        }
    }
}

pub(crate) fn added_snapshots(updates: &[TableUpdate]) -> Vec<i64> {
    let added = |update: &TableUpdate| match update {
        TableUpdate::AddSnapshot { snapshot } => Some(snapshot.snapshot_id()),
        _ => None,
    };
    updates.iter().filter_map(added).collect()
}

fn removed_schemas(updates: &[TableUpdate]) -> Vec<i32> {
    let removed = |update: &TableUpdate| match update {
        TableUpdate::RemoveSchemas { schema_ids } => schema_ids.clone(),
        _ => Vec::new(),
    };
    updates.iter().flat_map(removed).collect()
}

/// What the builder takes and no table should have.
pub(crate) fn check_update(metadata: &TableMetadata, update: &TableUpdate) -> Result<()> {
    match update {
        TableUpdate::AssignUuid { uuid } if *uuid != metadata.uuid() => {
            Err(CatalogError::Invalid(format!("can't change the table's uuid from {} to {uuid}", metadata.uuid())))
        }
        TableUpdate::AddEncryptionKey { .. } => Err(CatalogError::Invalid("encrypted tables are not supported".to_owned())),
        TableUpdate::AddSnapshot { snapshot } => check_numbers(snapshot),
        TableUpdate::SetSnapshotRef { ref_name, reference } => check_reference(metadata, ref_name, reference),
        _ => Ok(()),
    }
}

fn message(error: &iceberg::Error) -> String {
    error.message().to_owned()
}

/// A snapshot that was overtaken (its sequence number or first row id is behind) is a conflict, to be retried on the new
/// state; anything else that can't be applied is the client's mistake.
fn refuse(error: &iceberg::Error, adding_snapshot: bool) -> CatalogError {
    let text = message(error);
    let overtaken = adding_snapshot && (text.contains("older than last sequence number") || text.contains("is behind"));
    if overtaken || error.kind() == ErrorKind::CatalogCommitConflicts {
        CatalogError::Conflict(text)
    } else {
        CatalogError::Invalid(text)
    }
}
