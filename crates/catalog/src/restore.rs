//! Bringing removed snapshots back: a change of a table for which the specification has no update, so that no client can ask for
//! it. It goes through the sequencer like any other, and into the out-box.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use esker_format::{
    Extra, MAIN_BRANCH, MetadataLog, PartitionSpecRef, PartitionStatisticsFile, SchemaRef, SnapshotRef, SnapshotReference,
    StatisticsFile, TableMetadata, TableUpdate,
};
use esker_types::now_ms;

use crate::{CatalogError, Result};

/// Snapshots, with what they are read by, their statistics, branches and tags, as an earlier state of the table had them.
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
    /// Takes snapshots and references out of an earlier state.
    pub fn of(earlier: &TableMetadata, ids: &HashSet<i64>, refs: &[String]) -> Self {
        let snapshots: Vec<SnapshotRef> = chosen(earlier.snapshots.iter(), |s| ids.contains(&s.snapshot_id));
        let by: HashSet<i32> = snapshots.iter().filter_map(|s| s.schema_id).collect();
        // The main branch is where the table is.
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

    /// The partition specs of the snapshots' manifests as well: a client may have removed them once nothing else needed them.
    #[must_use]
    pub fn with_specs(mut self, earlier: &TableMetadata, ids: &HashSet<i32>) -> Self {
        self.specs = chosen(&earlier.partition_specs, |spec| ids.contains(&spec.spec_id()));
        self
    }

    /// The references, as updates: what the table's metadata is printed by.
    pub fn updates(&self) -> Vec<TableUpdate> {
        let set = |(name, reference): (&String, &SnapshotReference)| TableUpdate::SetSnapshotRef {
            ref_name: name.clone(),
            reference: reference.clone(),
        };
        self.refs.iter().map(set).collect()
    }

    /// The ids of the snapshots that were found.
    pub fn ids(&self) -> BTreeSet<i64> {
        self.snapshots.iter().map(|s| s.snapshot_id).collect()
    }
}

fn chosen<'a, T: Clone + 'a>(all: impl IntoIterator<Item = &'a T>, is_chosen: impl Fn(&T) -> bool) -> Vec<T> {
    all.into_iter().filter(|one| is_chosen(one)).cloned().collect()
}

/// Adds what is not there, by its id.
fn add<T: Clone, I: PartialEq>(there: &mut Vec<T>, back: &[T], id: impl Fn(&T) -> I) {
    for one in back {
        if !there.iter().any(|other| id(other) == id(one)) {
            there.push(one.clone());
        }
    }
}

/// An id of a schema or spec that was removed may have been given to another one since.
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

/// The state with what is restored and was not there; `None` if all of it was.
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
