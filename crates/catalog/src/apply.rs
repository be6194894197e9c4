//! One commit on one state of a table: pure, no I/O.

use iceberg::spec::TableMetadata;
use iceberg::{ErrorKind, TableRequirement, TableUpdate};

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
        requirement.check(Some(metadata)).map_err(|e| CatalogError::Conflict(message(&e)))?;
    }
    for update in &updates {
        check_update(metadata, update)?;
    }
    let mut builder = metadata.clone().into_builder(location.map(str::to_owned));
    for update in updates {
        let stale = matches!(update, TableUpdate::AddSnapshot { .. });
        builder = update.apply(builder).map_err(|e| refuse(&e, stale))?;
    }
    let built = builder.build().map_err(|e| refuse(&e, false))?;
    Ok((!built.changes.is_empty()).then_some(built.metadata))
}

fn check_update(metadata: &TableMetadata, update: &TableUpdate) -> Result<()> {
    match update {
        TableUpdate::AssignUuid { uuid } if *uuid != metadata.uuid() => {
            Err(CatalogError::Invalid(format!("can't change the table's uuid from {} to {uuid}", metadata.uuid())))
        }
        TableUpdate::AddEncryptionKey { .. } => Err(CatalogError::Invalid("encrypted tables are not supported".to_owned())),
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
