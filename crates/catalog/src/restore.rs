//! Bringing removed snapshots back: a change of a table for which the specification has no update, so that no client can ask for
//! it. It goes through the sequencer like any other, and into the out-box.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use esker_types::now_ms;
use iceberg::TableUpdate;
use iceberg::spec::{SnapshotReference, TableMetadata};
use serde_json::{Map, Value, json};

use crate::readable::check_reference;
use crate::{CatalogError, Result};

/// Snapshots, with what they are read by, their statistics, branches and tags, as an earlier state of the table had them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Restored {
    snapshots: Vec<Value>,
    statistics: Vec<Value>,
    partition_statistics: Vec<Value>,
    schemas: Vec<Value>,
    specs: Vec<Value>,
    refs: BTreeMap<String, SnapshotReference>,
}

impl Restored {
    /// Takes snapshots and references out of an earlier state.
    pub fn of(earlier: &TableMetadata, ids: &HashSet<i64>, refs: &[String]) -> Result<Self> {
        let all = esker_table::refs(earlier)?;
        let mut earlier = json_of(earlier)?;
        let snapshots = take(&mut earlier, "snapshots", "snapshot-id", ids);
        let statistics = take(&mut earlier, "statistics", "snapshot-id", ids);
        let partition_statistics = take(&mut earlier, "partition-statistics", "snapshot-id", ids);
        let by = snapshots.iter().filter_map(|s| s["schema-id"].as_i64()).collect();
        let schemas = take(&mut earlier, "schemas", "schema-id", &by);
        let refs = all.into_iter().filter(|(name, _)| refs.contains(name)).collect();
        Ok(Self { snapshots, statistics, partition_statistics, schemas, specs: Vec::new(), refs })
    }

    /// The partition specs of the snapshots' manifests as well: a client may have removed them once nothing else needed them.
    pub fn with_specs(mut self, earlier: &TableMetadata, ids: &HashSet<i64>) -> Result<Self> {
        self.specs = take(&mut json_of(earlier)?, "partition-specs", "spec-id", ids);
        Ok(self)
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
        self.snapshots.iter().filter_map(|s| s["snapshot-id"].as_i64()).collect()
    }
}

/// The entries of a list that have one of some ids.
fn take(metadata: &mut Map<String, Value>, list: &str, key: &str, ids: &HashSet<i64>) -> Vec<Value> {
    let found = metadata.get_mut(list).and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
    found.into_iter().filter(|e| e[key].as_i64().is_some_and(|id| ids.contains(&id))).collect()
}

fn unreadable(error: &serde_json::Error) -> CatalogError {
    CatalogError::Invalid(format!("the table's metadata can't be written anew: {error}"))
}

fn json_of(metadata: &TableMetadata) -> Result<Map<String, Value>> {
    match serde_json::to_value(metadata).map_err(|e| unreadable(&e))? {
        Value::Object(object) => Ok(object),
        _ => Err(CatalogError::Invalid("the table's metadata is no object".to_owned())),
    }
}

/// An id of a schema or spec that was removed may have been given to another one since.
fn check_same(list: &str, key: &str, there: &[Value], entries: &[Value]) -> Result<()> {
    let other = |entry: &&Value| there.iter().any(|t| t[key] == entry[key] && t != *entry);
    match entries.iter().find(other) {
        Some(entry) => Err(CatalogError::Refused(format!(
            "{key} {} was removed from the table's {list}, and is that of another one by now; the snapshots can't be read by it",
            entry[key]
        ))),
        None => Ok(()),
    }
}

/// The state with what is restored and was not there; `None` if all of it was.
pub(crate) fn restore(metadata: &TableMetadata, base: Option<&str>, restored: &Restored) -> Result<Option<TableMetadata>> {
    let mut json = json_of(metadata)?;
    let mut changed = false;
    for (key, id, entries) in [
        ("snapshots", "snapshot-id", &restored.snapshots),
        ("statistics", "snapshot-id", &restored.statistics),
        ("partition-statistics", "snapshot-id", &restored.partition_statistics),
        ("schemas", "schema-id", &restored.schemas),
        ("partition-specs", "spec-id", &restored.specs),
    ] {
        let Some(there) = json.entry(key).or_insert_with(|| json!([])).as_array_mut() else { continue };
        if matches!(key, "schemas" | "partition-specs") {
            check_same(key, id, there, entries)?;
        }
        let known: HashSet<i64> = there.iter().filter_map(|s| s[id].as_i64()).collect();
        let missing = entries.iter().filter(|s| s[id].as_i64().is_some_and(|id| !known.contains(&id)));
        let before = there.len();
        there.extend(missing.cloned());
        changed |= there.len() > before;
        if key == "snapshots" {
            there.sort_by_key(|s| (s["sequence-number"].as_i64(), s["timestamp-ms"].as_i64()));
        }
    }
    if let Some(refs) = json.entry("refs").or_insert_with(|| json!({})).as_object_mut() {
        for (name, reference) in &restored.refs {
            if !refs.contains_key(name) {
                check_reference(metadata, name, reference)?;
                refs.insert(name.clone(), serde_json::to_value(reference).map_err(|e| unreadable(&e))?);
                changed = true;
            }
        }
    }
    if !changed {
        return Ok(None);
    }
    if let (Some(base), Some(log)) = (base, json.entry("metadata-log").or_insert_with(|| json!([])).as_array_mut()) {
        log.push(json!({"metadata-file": base, "timestamp-ms": metadata.last_updated_ms()}));
    }
    json.insert("last-updated-ms".to_owned(), now_ms().max(metadata.last_updated_ms() + 1).into());
    serde_json::from_value(Value::Object(json)).map(Some).map_err(|e| unreadable(&e))
}
