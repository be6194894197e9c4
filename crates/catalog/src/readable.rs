//! What a commit may not make of a table: the specification or other engines refuse it, and the builder of the `iceberg` crate does
//! not look.

use std::collections::HashSet;

use esker_table::{load_manifests, outline, refs};
use esker_types::{Coded, now_ms};
use iceberg::TableUpdate;
use iceberg::spec::{MAIN_BRANCH, Snapshot, SnapshotRef, SnapshotReference, SnapshotRetention, TableMetadata};

use crate::{Catalog, CatalogError, Result};

/// How far a writer's clock may be ahead.
const AHEAD_MS: i64 = 24 * 3600 * 1000;

fn refused<T>(what: String) -> Result<T> {
    Err(CatalogError::Invalid(what))
}

/// A branch or tag that other engines don't parse keeps them from the whole table (Java: `SnapshotRef.Builder`).
pub(crate) fn check_reference(metadata: &TableMetadata, name: &str, reference: &SnapshotReference) -> Result<()> {
    let retention = &reference.retention;
    let is_tag = matches!(retention, SnapshotRetention::Tag { .. });
    let kind = if is_tag { "tag" } else { "branch" };
    let what = match not_positive(retention) {
        _ if name.is_empty() => return refused(format!("a {kind} needs a name")),
        _ if name == MAIN_BRANCH && is_tag => "main is a branch, and can't be a tag".to_owned(),
        Some(key) => format!("{key} of {kind} {name} must be greater than 0"),
        None => return Ok(()),
    };
    // A table that came with such a reference can be written all the same.
    match refs(metadata)?.get(name).is_some_and(|there| there.retention == *retention) {
        true => Ok(()),
        false => refused(what),
    }
}

/// The option of a reference that is set, and not to a positive number.
fn not_positive(retention: &SnapshotRetention) -> Option<&'static str> {
    let (keep, age, ref_age) = match retention {
        SnapshotRetention::Branch { min_snapshots_to_keep, max_snapshot_age_ms, max_ref_age_ms } => {
            (min_snapshots_to_keep.map(i64::from), *max_snapshot_age_ms, *max_ref_age_ms)
        }
        SnapshotRetention::Tag { max_ref_age_ms } => (None, None, *max_ref_age_ms),
    };
    let options = [("min-snapshots-to-keep", keep), ("max-snapshot-age-ms", age), ("max-ref-age-ms", ref_age)];
    options.into_iter().find(|(_, value)| value.is_some_and(|v| v <= 0)).map(|(key, _)| key)
}

/// A snapshot's number and time leave room for those after it: neither ever goes back, so that nothing could be added to the table again.
pub(crate) fn check_numbers(snapshot: &Snapshot) -> Result<()> {
    let (id, number, at) = (snapshot.snapshot_id(), snapshot.sequence_number(), snapshot.timestamp_ms());
    if number > i64::MAX / 2 {
        return refused(format!(
            "snapshot {id} has the sequence number {number}, which leaves none to later ones: it is one more than the table's \
             last-sequence-number"
        ));
    }
    match at > now_ms().saturating_add(AHEAD_MS) {
        true => refused(format!(
            "snapshot {id} has the timestamp-ms {at}, more than a day ahead of this server's clock: commits could not be later"
        )),
        false => Ok(()),
    }
}

/// Every added snapshot has a schema of the table, and no schema goes that a snapshot is read by.
pub(crate) fn check_schemas(after: &TableMetadata, added: &[i64], removed: &[i32]) -> Result<()> {
    for snapshot in added.iter().filter_map(|id| after.snapshot_by_id(*id)) {
        if let Some(what) = missing_schema(after, snapshot) {
            return refused(what);
        }
    }
    let used = |s: &&SnapshotRef| s.schema_id().is_some_and(|id| removed.contains(&id) && after.schema_by_id(id).is_none());
    match if removed.is_empty() { None } else { after.snapshots().find(used) } {
        Some(snapshot) => {
            let (id, schema) = (snapshot.snapshot_id(), snapshot.schema_id().unwrap_or_default());
            refused(format!("schema {schema} can't be removed: snapshot {id} is read by it"))
        }
        None => Ok(()),
    }
}

fn missing_schema(metadata: &TableMetadata, snapshot: &Snapshot) -> Option<String> {
    let schema = snapshot.schema_id().filter(|id| metadata.schema_by_id(*id).is_none())?;
    Some(format!("snapshot {} is of schema {schema}, which the table has not", snapshot.snapshot_id()))
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
                    let is_there = before.snapshot_for_ref(ref_name).is_some_and(|s| s.snapshot_id() == id);
                    // A snapshot that comes with the commit was written on the table as it is.
                    if let Some(snapshot) = before.snapshot_by_id(id).filter(|_| !is_there) {
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
    pub(crate) async fn check_snapshot(&self, metadata: &TableMetadata, snapshot: &SnapshotRef) -> Result<()> {
        let id = snapshot.snapshot_id();
        let out = "other engines could not read it";
        if let Some(what) = missing_schema(metadata, snapshot) {
            return refused(format!("{what}: {out}"));
        }
        let manifests = load_manifests(self.manifests(), metadata, snapshot).await;
        let manifests = manifests.map_err(|e| match e.code().is_passing() {
            true => e.into(),
            false => CatalogError::Invalid(format!("snapshot {id} can't be read: {e}")),
        })?;
        match manifests.iter().find(|m| metadata.partition_spec_by_id(m.partition_spec_id).is_none()) {
            Some(manifest) => {
                let (path, spec) = (&manifest.manifest_path, manifest.partition_spec_id);
                refused(format!(
                    "snapshot {id} leads to {path}, which is of partition spec {spec}, which the table has not: {out}"
                ))
            }
            None => Ok(()),
        }
    }

    async fn check_specs_unused(&self, after: &TableMetadata, removed: &[i32]) -> Result<()> {
        let snapshots: Vec<SnapshotRef> = after.snapshots().cloned().collect();
        // A manifest list that is lost or damaged is the table's own trouble, and keeps its meaning.
        let found = outline(self.manifests(), after, &snapshots, &HashSet::new()).await?;
        match found.manifests.values().map(|(_, m)| m).find(|m| removed.contains(&m.partition_spec_id)) {
            Some(manifest) => {
                let (path, spec) = (&manifest.manifest_path, manifest.partition_spec_id);
                refused(format!("partition spec {spec} can't be removed: {path}, which a snapshot leads to, is of it"))
            }
            None => Ok(()),
        }
    }
}
