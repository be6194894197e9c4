//! Bringing removed snapshots back, as the undo of an expiry does.
//!
//! The specification has no update for it, so no client can ask for it. The change goes through the sequencer and the outbox like
//! any other. [`Restored`] takes snapshots out of an earlier state of the table; [`restore`] adds them to the present one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use esker_format::{
    Extra, MAIN_BRANCH, MetadataLog, PartitionSpecRef, PartitionStatisticsFile, SchemaRef, SnapshotRef, SnapshotReference,
    StatisticsFile, TableMetadata, TableUpdate,
};
use esker_types::now_ms;

use crate::{CatalogError, Result};

/// Snapshots of an earlier state of a table, with the parts of the metadata that belong to them.
///
/// These are schemas, partition specs, statistics, branches and tags.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Restored {
    snapshots: Vec<SnapshotRef>,
    statistics: Vec<StatisticsFile>,
    partition_statistics: Vec<PartitionStatisticsFile>,
    schemas: Vec<SchemaRef>,
    specs: Vec<PartitionSpecRef>,
    refs: BTreeMap<String, SnapshotReference>,
}

impl Restored {
    /// Takes snapshots and references out of an earlier state. Main is left out, because it stays where it is.
    pub fn of(earlier: &TableMetadata, ids: &HashSet<i64>, refs: &[String]) -> Self {
        let snapshots: Vec<SnapshotRef> = chosen(earlier.snapshots.iter(), |s| ids.contains(&s.snapshot_id));
        let by: HashSet<i32> = snapshots.iter().filter_map(|s| s.schema_id).collect();
        // Main stays where the table is now.
        let named = |name: &String| refs.contains(name) && name != MAIN_BRANCH;
        let refs = earlier.refs.iter().filter(|(name, _)| named(name)).map(|(name, r)| (name.clone(), r.clone())).collect();
        Self {
            snapshots,
            statistics: chosen(&earlier.statistics, |file| ids.contains(&file.snapshot_id)),
            partition_statistics: chosen(&earlier.partition_statistics, |file| ids.contains(&file.snapshot_id)),
            schemas: chosen(&earlier.schemas, |schema| by.contains(&schema.schema_id())),
            specs: Vec::new(),
            refs,
        }
    }

    /// Adds partition specs that the snapshots' manifests use: a client may have removed them as unused since.
    #[must_use]
    pub fn with_specs(mut self, earlier: &TableMetadata, ids: &HashSet<i32>) -> Self {
        self.specs = chosen(&earlier.partition_specs, |spec| ids.contains(&spec.spec_id()));
        self
    }

    /// Returns the references as updates, from which the JSON of the next metadata file is derived.
    pub fn updates(&self) -> Vec<TableUpdate> {
        let set = |(name, reference): (&String, &SnapshotReference)| TableUpdate::SetSnapshotRef {
            ref_name: name.clone(),
            reference: reference.clone(),
        };
        self.refs.iter().map(set).collect()
    }

    /// Returns the ids of the snapshots that the earlier state has.
    pub fn ids(&self) -> BTreeSet<i64> {
        self.snapshots.iter().map(|s| s.snapshot_id).collect()
    }
}

/// Clones the items that meet a condition.
fn chosen<'a, T: Clone + 'a>(all: impl IntoIterator<Item = &'a T>, is_chosen: impl Fn(&T) -> bool) -> Vec<T> {
    all.into_iter().filter(|one| is_chosen(one)).cloned().collect()
}

/// Adds the items whose ids are not there yet.
fn add<T: Clone, I: PartialEq>(there: &mut Vec<T>, back: &[T], id: impl Fn(&T) -> I) {
    for one in back {
        if !there.iter().any(|other| id(other) == id(one)) {
            there.push(one.clone());
        }
    }
}

/// Refuses a schema or spec whose id was given to another one since it was removed.
fn check_same<T: PartialEq>(list: &str, key: &str, there: &[Arc<T>], back: &[Arc<T>], id: impl Fn(&T) -> i32) -> Result<()> {
    let other = |one: &&Arc<T>| there.iter().any(|other| id(other) == id(one) && other != *one);
    match back.iter().find(other) {
        Some(one) => Err(CatalogError::Refused(format!(
            "{key} {} was removed from the table's {list}, and is that of another one by now; the snapshots can't be read by it",
            id(one)
        ))),
        None => Ok(()),
    }
}

/// Computes the metadata with everything restored that was missing. `None` if nothing was missing.
///
/// `base` is the metadata file of the present state, which goes into the metadata log.
pub(crate) fn restore(metadata: &TableMetadata, base: Option<&str>, restored: &Restored) -> Result<Option<TableMetadata>> {
    let mut made = metadata.clone();
    check_same("schemas", "schema-id", &made.schemas, &restored.schemas, |schema| schema.schema_id())?;
    check_same("partition-specs", "spec-id", &made.partition_specs, &restored.specs, |spec| spec.spec_id())?;
    add(&mut made.schemas, &restored.schemas, |schema| schema.schema_id());
    add(&mut made.partition_specs, &restored.specs, |spec| spec.spec_id());
    add(&mut made.statistics, &restored.statistics, |file| file.snapshot_id);
    add(&mut made.partition_statistics, &restored.partition_statistics, |file| file.snapshot_id);
    let missing = restored.snapshots.iter().filter(|s| metadata.snapshots.get(s.snapshot_id).is_none());
    let mut snapshots: Vec<SnapshotRef> = metadata.snapshots.iter().chain(missing).cloned().collect();
    if snapshots.len() > metadata.snapshots.len() {
        snapshots.sort_by_key(|s| (s.sequence_number(), s.timestamp_ms));
        made.snapshots = snapshots.into_iter().collect();
    }
    for (name, reference) in restored.refs.iter().filter(|(name, _)| !metadata.refs.contains_key(*name)) {
        let id = reference.snapshot_id;
        if made.snapshots.get(id).is_none() {
            return Err(CatalogError::Refused(format!("{name} can't come back: the table has no snapshot {id}")));
        }
        made.refs.insert(name.clone(), reference.clone());
    }
    if made == *metadata {
        return Ok(None);
    }
    if let Some(base) = base {
        let (timestamp_ms, metadata_file) = (metadata.last_updated_ms, base.to_owned());
        made.metadata_log.push(MetadataLog { timestamp_ms, metadata_file, extra: Extra::default() });
    }
    made.last_updated_ms = now_ms().max(metadata.last_updated_ms.saturating_add(1));
    Ok(Some(made))
}
