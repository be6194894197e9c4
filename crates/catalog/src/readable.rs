//! Checks on commits that the specification does not demand.
//!
//! The rules of the specification allow commits after which other engines could not read the table, or nothing could be added to
//! it again. Such a commit is refused. Numbers and times of snapshots must leave room for later ones; a branch or tag must point
//! to a snapshot that the table's schemas and partition specs can read.

use std::collections::HashSet;

use esker_format::{Snapshot, SnapshotRef, TableMetadata, TableUpdate};
use esker_table::{find_unknown_spec, outline};
use esker_types::{Coded, DAY_MS, DurationMillis, ErrorCode, now_ms};

use crate::{Catalog, CatalogError, Result};

/// Time in milliseconds that a writer's clock may be ahead of this server's.
const AHEAD_MS: DurationMillis = DAY_MS;

fn refused<T>(what: String) -> Result<T> {
    Err(CatalogError::Invalid(what))
}

/// Refuses snapshots whose sequence number or time leaves no room for later ones.
///
/// Neither may decrease, so that nothing could be added to the table again.
///
/// Spec: "Sequence Numbers".
pub(crate) fn check_numbers(updates: &[TableUpdate]) -> Result<()> {
    for update in updates {
        let TableUpdate::AddSnapshot { snapshot } = update else { continue };
        let (id, number, at) = (snapshot.snapshot_id, snapshot.sequence_number(), snapshot.timestamp_ms);
        if number > i64::MAX / 2 {
            return refused(format!(
                "snapshot {id} has the sequence number {number}, which leaves none for later ones; send one more than the \
                 table's last-sequence-number"
            ));
        }
        if at > now_ms().saturating_add(AHEAD_MS) {
            return refused(format!(
                "snapshot {id} has the timestamp-ms {at}, more than a day ahead of this server's clock; set the writer's clock"
            ));
        }
    }
    Ok(())
}

impl Catalog {
    /// Refuses references to snapshots that the table can't read, and the removal of partition specs that manifests use.
    pub(crate) async fn check_readable(
        &self,
        before: &TableMetadata,
        after: &TableMetadata,
        updates: &[TableUpdate],
    ) -> Result<()> {
        for update in updates {
            match update {
                TableUpdate::SetSnapshotRef { ref_name, reference } => {
                    let id = reference.snapshot_id;
                    let is_there = before.snapshot_for_ref(ref_name).is_some_and(|s| s.snapshot_id == id);
                    // A snapshot that the commit itself adds was written on the table as it is.
                    if let Some(snapshot) = before.snapshots.get(id).filter(|_| !is_there) {
                        self.check_snapshot(after, snapshot).await?;
                    }
                }
                TableUpdate::RemovePartitionSpecs { spec_ids } => self.check_specs_unused(after, spec_ids).await?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Refuses a snapshot that needs a schema or a partition spec that the table does not have.
    pub(crate) async fn check_snapshot(&self, metadata: &TableMetadata, snapshot: &Snapshot) -> Result<()> {
        let id = snapshot.snapshot_id;
        let out = "other engines could not read it";
        if let Some(schema) = snapshot.schema_id.filter(|id| metadata.schema_by_id(*id).is_none()) {
            return refused(format!("snapshot {id} has schema {schema}, which the table lacks: {out}"));
        }
        let unknown = match find_unknown_spec(self.manifests(), metadata, snapshot).await {
            Ok(unknown) => unknown,
            // Encrypted manifests can only be checked by a client that has the keys.
            Err(e) if e.code() == ErrorCode::Unsupported => return Ok(()),
            Err(e) if e.code().is_transient() => return Err(e.into()),
            Err(e) => return refused(format!("snapshot {id} can't be read: {e}")),
        };
        match unknown {
            Some((path, spec)) => {
                refused(format!("snapshot {id} has the manifest {path} of partition spec {spec}, which the table lacks: {out}"))
            }
            None => Ok(()),
        }
    }

    /// Refuses the removal of partition specs that a manifest of a remaining snapshot uses.
    async fn check_specs_unused(&self, after: &TableMetadata, removed: &[i32]) -> Result<()> {
        let snapshots: Vec<SnapshotRef> = after.snapshots.iter().cloned().collect();
        // A lost or damaged manifest list is an error of the table, not of the request, so it keeps its code.
        let found = match outline(self.manifests(), after, &snapshots, &HashSet::new()).await {
            // Encrypted manifests can only be checked by a client that has the keys.
            Err(e) if e.code() == ErrorCode::Unsupported => return Ok(()),
            found => found?,
        };
        match found.specs().find(|(_, spec)| removed.contains(spec)) {
            Some((path, spec)) => {
                refused(format!("partition spec {spec} can't be removed: {path}, a manifest of a snapshot, uses it"))
            }
            None => Ok(()),
        }
    }
}
