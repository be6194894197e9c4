//! What a commit may not make of a table though the rules of the specification allow it: other engines could not read it, or nobody could
//! write it again.

use std::collections::HashSet;

use esker_format::{Snapshot, SnapshotRef, TableMetadata, TableUpdate};
use esker_table::{of_unknown_spec, outline};
use esker_types::{Coded, ErrorCode, now_ms};

use crate::{Catalog, CatalogError, Result};

/// How far a writer's clock may be ahead.
const AHEAD_MS: i64 = 24 * 3600 * 1000;

fn refused<T>(what: String) -> Result<T> {
    Err(CatalogError::Invalid(what))
}

/// Snapshots' numbers and times leave room for those after them: neither ever goes back, so that nothing could be added to the table again.
pub(crate) fn check_numbers(updates: &[TableUpdate]) -> Result<()> {
    for update in updates {
        let TableUpdate::AddSnapshot { snapshot } = update else { continue };
        let (id, number, at) = (snapshot.snapshot_id, snapshot.sequence_number(), snapshot.timestamp_ms);
        if number > i64::MAX / 2 {
            return refused(format!(
                "snapshot {id} has the sequence number {number}, which leaves none to later ones: it is one more than the table's \
                 last-sequence-number"
            ));
        }
        if at > now_ms().saturating_add(AHEAD_MS) {
            return refused(format!(
                "snapshot {id} has the timestamp-ms {at}, more than a day ahead of this server's clock: commits could not be later"
            ));
        }
    }
    Ok(())
}

impl Catalog {
    /// What a branch or tag is set to can be read by the table's schemas and partition specs, and no spec goes that a manifest is of.
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
                    // A snapshot that comes with the commit was written on the table as it is.
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

    /// An error if a snapshot needs a schema or a partition spec that the table has not.
    pub(crate) async fn check_snapshot(&self, metadata: &TableMetadata, snapshot: &Snapshot) -> Result<()> {
        let id = snapshot.snapshot_id;
        let out = "other engines could not read it";
        if let Some(schema) = snapshot.schema_id.filter(|id| metadata.schema_by_id(*id).is_none()) {
            return refused(format!("snapshot {id} is of schema {schema}, which the table has not: {out}"));
        }
        let unknown = match of_unknown_spec(self.manifests(), metadata, snapshot).await {
            Ok(unknown) => unknown,
            // Who has the keys knows.
            Err(e) if e.code() == ErrorCode::Unsupported => return Ok(()),
            Err(e) if e.code().is_passing() => return Err(e.into()),
            Err(e) => return refused(format!("snapshot {id} can't be read: {e}")),
        };
        match unknown {
            Some((path, spec)) => refused(format!(
                "snapshot {id} leads to {path}, which is of partition spec {spec}, which the table has not: {out}"
            )),
            None => Ok(()),
        }
    }

    async fn check_specs_unused(&self, after: &TableMetadata, removed: &[i32]) -> Result<()> {
        let snapshots: Vec<SnapshotRef> = after.snapshots.iter().cloned().collect();
        // A manifest list that is lost or damaged is the table's own trouble, and keeps its meaning.
        let found = match outline(self.manifests(), after, &snapshots, &HashSet::new()).await {
            // Who has the keys knows.
            Err(e) if e.code() == ErrorCode::Unsupported => return Ok(()),
            found => found?,
        };
        match found.specs().find(|(_, spec)| removed.contains(spec)) {
            Some((path, spec)) => {
                refused(format!("partition spec {spec} can't be removed: {path}, which a snapshot leads to, is of it"))
            }
            None => Ok(()),
        }
    }
}
