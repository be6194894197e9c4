//! A metadata file's JSON, extended rather than printed anew.
//!
//! Snapshots make nearly all of a large metadata file, and a commit leaves every one of them as it is. So what was printed of them
//! stays printed: a commit that only adds snapshots copies their bytes and prints what is new. At 50,000 snapshots, printing the
//! whole takes longer than everything else that a commit does.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use iceberg::TableUpdate;
use iceberg::spec::{FormatVersion, SnapshotReference, TableMetadata};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::{Result, TableError};

/// The JSON of a metadata file, and where the parts are that later ones take over.
#[derive(Debug, Clone)]
pub struct MetadataJson {
    bytes: Bytes,
    /// What is between the brackets of `snapshots`.
    snapshots: Range<usize>,
    /// What is between the brackets of `snapshot-log`.
    log: Range<usize>,
    refs: Arc<BTreeMap<String, SnapshotReference>>,
}

fn invalid(error: serde_json::Error) -> TableError {
    TableError::Invalid(error.to_string())
}

impl MetadataJson {
    /// Of a file's content.
    pub fn read(bytes: Bytes) -> Result<Self> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Lists<'a> {
            #[serde(borrow, default)]
            snapshots: Option<&'a RawValue>,
            #[serde(borrow, default)]
            snapshot_log: Option<&'a RawValue>,
            #[serde(default)]
            refs: Option<BTreeMap<String, SnapshotReference>>,
        }
        let lists: Lists<'_> = serde_json::from_slice(&bytes).map_err(invalid)?;
        let inside = |list: Option<&RawValue>| match list {
            Some(list) if list.get().starts_with('[') => {
                let start = list.get().as_ptr() as usize - bytes.as_ptr() as usize;
                trimmed(&bytes, start + 1..start + list.get().len() - 1)
            }
            _ => 0..0,
        };
        let (snapshots, log) = (inside(lists.snapshots), inside(lists.snapshot_log));
        let refs = Arc::new(lists.refs.unwrap_or_default());
        Ok(Self { bytes, snapshots, log, refs })
    }

    /// Of metadata, all of it printed.
    pub fn print(metadata: &TableMetadata) -> Result<Self> {
        Self::read(serde_json::to_vec(metadata).map_err(invalid)?.into())
    }

    /// Of the metadata that `updates` made of `before`, whose JSON this is. What was printed is taken over where it can be.
    pub fn next(&self, before: &TableMetadata, after: &TableMetadata, updates: &[TableUpdate]) -> Result<Self> {
        match self.extended(before, after, updates)? {
            Some(next) => Ok(next),
            None => Self::print(after),
        }
    }

    /// The content of the file.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    fn extended(&self, before: &TableMetadata, after: &TableMetadata, updates: &[TableUpdate]) -> Result<Option<Self>> {
        let removes = |u: &TableUpdate| matches!(u, TableUpdate::RemoveSnapshots { .. } | TableUpdate::AddEncryptionKey { .. });
        let (old_log, new_log) = (before.history(), after.history());
        let added: Vec<&TableUpdate> = updates.iter().filter(|u| matches!(u, TableUpdate::AddSnapshot { .. })).collect();
        let whole = after.format_version() == FormatVersion::V1
            || after.format_version() != before.format_version()
            || after.encryption_keys_iter().len() > 0
            || updates.iter().any(removes)
            || after.snapshots().len() != before.snapshots().len() + added.len()
            || !new_log.starts_with(old_log);
        let Some(refs) = (if whole { None } else { self.next_refs(after, updates) }) else { return Ok(None) };

        let mut out = Vec::with_capacity(self.bytes.len() + 4096 * (1 + added.len()));
        let fields = serde_json::to_vec(&fields(after, &refs)?).map_err(invalid)?;
        // The closing brace comes at the end.
        out.extend_from_slice(&fields[..fields.len() - 1]);
        out.extend_from_slice(b",\"snapshots\":[");
        let start = out.len();
        out.extend_from_slice(&self.bytes[self.snapshots.clone()]);
        for update in added {
            let update = serde_json::to_value(update).map_err(invalid)?;
            append(&mut out, start, &update["snapshot"])?;
        }
        let snapshots = start..out.len();
        out.extend_from_slice(b"],\"snapshot-log\":[");
        let start = out.len();
        out.extend_from_slice(&self.bytes[self.log.clone()]);
        for entry in &new_log[old_log.len()..] {
            append(&mut out, start, entry)?;
        }
        let log = start..out.len();
        out.extend_from_slice(b"]}");
        Ok(Some(Self { bytes: out.into(), snapshots, log, refs: Arc::new(refs) }))
    }

    /// The references after the updates; `None` if they don't come out as the metadata has them.
    fn next_refs(&self, after: &TableMetadata, updates: &[TableUpdate]) -> Option<BTreeMap<String, SnapshotReference>> {
        let mut refs = self.refs.as_ref().clone();
        for update in updates {
            match update {
                TableUpdate::SetSnapshotRef { ref_name, reference } => {
                    refs.insert(ref_name.clone(), reference.clone());
                }
                TableUpdate::RemoveSnapshotRef { ref_name } => {
                    refs.remove(ref_name);
                }
                _ => {}
            }
        }
        let same = |(name, r): (&String, &SnapshotReference)| {
            after.snapshot_for_ref(name).is_some_and(|s| s.snapshot_id() == r.snapshot_id)
        };
        let main = after.snapshot_for_ref("main").map(|s| s.snapshot_id());
        let known_main = refs.get("main").map(|r| r.snapshot_id);
        (refs.iter().all(same) && main == known_main).then_some(refs)
    }
}

/// Without the white space at either end.
fn trimmed(bytes: &[u8], range: Range<usize>) -> Range<usize> {
    let inner = &bytes[range.clone()];
    let start = inner.iter().take_while(|b| b.is_ascii_whitespace()).count();
    let end = inner.iter().skip(start).rev().take_while(|b| b.is_ascii_whitespace()).count();
    range.start + start..range.end - end
}

/// Appends to a list that begins at `start`.
fn append(out: &mut Vec<u8>, start: usize, value: &impl Serialize) -> Result<()> {
    if out.len() > start {
        out.push(b',');
    }
    serde_json::to_writer(out, value).map_err(invalid)
}

/// Everything but the two long lists (specification, "Table Metadata Fields").
fn fields(metadata: &TableMetadata, refs: &BTreeMap<String, SnapshotReference>) -> Result<Map<String, Value>> {
    fn list<'a, T: Serialize + 'a>(items: impl Iterator<Item = &'a T>) -> Result<Value> {
        items.map(serde_json::to_value).collect::<serde_json::Result<Vec<_>>>().map(Value::Array).map_err(invalid)
    }
    let mut fields = Map::new();
    let mut set = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    set("format-version", json!(metadata.format_version() as u8));
    set("table-uuid", json!(metadata.uuid()));
    set("location", json!(metadata.location()));
    set("last-sequence-number", json!(metadata.last_sequence_number()));
    set("last-updated-ms", json!(metadata.last_updated_ms()));
    set("last-column-id", json!(metadata.last_column_id()));
    set("schemas", list(metadata.schemas_iter().map(AsRef::as_ref))?);
    set("current-schema-id", json!(metadata.current_schema_id()));
    set("partition-specs", list(metadata.partition_specs_iter().map(AsRef::as_ref))?);
    set("default-spec-id", json!(metadata.default_partition_spec_id()));
    set("last-partition-id", json!(metadata.last_partition_id()));
    set("properties", json!(metadata.properties()));
    if let Some(id) = metadata.current_snapshot_id() {
        set("current-snapshot-id", json!(id));
    }
    set("metadata-log", list(metadata.metadata_log().iter())?);
    set("sort-orders", list(metadata.sort_orders_iter().map(AsRef::as_ref))?);
    set("default-sort-order-id", json!(metadata.default_sort_order_id()));
    set("refs", json!(refs));
    if metadata.statistics_iter().len() > 0 {
        set("statistics", list(metadata.statistics_iter())?);
    }
    if metadata.partition_statistics_iter().len() > 0 {
        set("partition-statistics", list(metadata.partition_statistics_iter())?);
    }
    if metadata.format_version() >= FormatVersion::V3 {
        set("next-row-id", json!(metadata.next_row_id()));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use iceberg::spec::{
        NestedField, Operation, PrimitiveType, Schema, Snapshot, SnapshotRetention, SortOrder, Summary, TableMetadataBuilder,
        Type, UnboundPartitionSpec,
    };
    use proptest::prelude::*;

    use super::*;

    fn table(version: FormatVersion) -> TableMetadata {
        let field = NestedField::optional(1, "id", Type::Primitive(PrimitiveType::Long)).into();
        let schema = Schema::builder().with_fields(vec![field]).build().expect("a schema");
        let (spec, order) = (UnboundPartitionSpec::builder().build(), SortOrder::unsorted_order());
        let properties = HashMap::from([("a\"b".to_owned(), "ü".to_owned())]);
        let builder = TableMetadataBuilder::new(schema, spec, order, "file:///w/t".to_owned(), version, properties);
        builder.expect("a builder").build().expect("metadata").metadata
    }

    /// What a commit of some kind brings.
    fn updates(kind: u8, n: i64, metadata: &TableMetadata) -> Vec<TableUpdate> {
        let id = 9_007_199_254_740_993 + n;
        let reference = |snapshot_id, retention| SnapshotReference { snapshot_id, retention };
        let add = || TableUpdate::AddSnapshot {
            snapshot: {
                let builder = Snapshot::builder()
                    .with_snapshot_id(id)
                    .with_parent_snapshot_id(metadata.current_snapshot_id())
                    .with_sequence_number(metadata.next_sequence_number())
                    .with_timestamp_ms(metadata.last_updated_ms() + 1)
                    .with_manifest_list(format!("file:///w/t/metadata/{n} \\ü.avro"))
                    .with_summary(Summary {
                        operation: Operation::Append,
                        additional_properties: HashMap::from([("k".into(), n.to_string())]),
                    })
                    .with_schema_id(0);
                match metadata.format_version() {
                    FormatVersion::V3 => builder.with_row_range(metadata.next_row_id(), 10).build(),
                    _ => builder.build(),
                }
            },
        };
        let branch = || SnapshotRetention::branch(Some(3), None, Some(1_000_000));
        match (kind, metadata.current_snapshot_id()) {
            (0, _) => vec![add(), TableUpdate::SetSnapshotRef { ref_name: "main".into(), reference: reference(id, branch()) }],
            (1, _) => vec![add()],
            (2, Some(current)) => {
                let tag = SnapshotRetention::Tag { max_ref_age_ms: None };
                vec![TableUpdate::SetSnapshotRef { ref_name: format!("tag{}", n % 3), reference: reference(current, tag) }]
            }
            (3, _) => vec![TableUpdate::RemoveSnapshotRef { ref_name: format!("tag{}", n % 3) }],
            (4, Some(current)) => {
                let other = metadata.snapshots().map(|s| s.snapshot_id()).find(|id| *id != current);
                other.map(|id| TableUpdate::RemoveSnapshots { snapshot_ids: vec![id] }).into_iter().collect()
            }
            (5, _) => vec![TableUpdate::RemoveSnapshotRef { ref_name: "main".into() }],
            _ => vec![TableUpdate::SetProperties { updates: HashMap::from([(format!("p{n}"), "v".into())]) }],
        }
    }

    proptest! {
        /// Whatever commits follow each other, the extended JSON says what the metadata says.
        #[test]
        fn extending_is_the_same_as_printing(kinds in prop::collection::vec(0_u8..7, 1..25), v3 in any::<bool>()) {
            let mut metadata = table(if v3 { FormatVersion::V3 } else { FormatVersion::V2 });
            let mut json = MetadataJson::print(&metadata).expect("printed");
            for (n, kind) in kinds.into_iter().enumerate() {
                let updates = updates(kind, n as i64, &metadata);
                let mut builder = metadata.clone().into_builder(Some(format!("file:///w/t/metadata/{n}.json")));
                for update in updates.clone() {
                    builder = update.apply(builder).expect("applied");
                }
                let next = builder.build().expect("built").metadata;
                json = json.next(&metadata, &next, &updates).expect("next");
                metadata = next;
                let parsed: TableMetadata = serde_json::from_slice(json.bytes()).expect("valid");
                prop_assert_eq!(&parsed, &metadata, "after {:?}", updates);
                let again = MetadataJson::read(json.bytes().clone()).expect("read");
                prop_assert_eq!((&again.snapshots, &again.log, &again.refs), (&json.snapshots, &json.log, &json.refs));
            }
        }
    }

    #[test]
    fn a_commit_of_snapshots_is_extended_and_not_printed_anew() {
        let before = table(FormatVersion::V2);
        let updates = updates(0, 1, &before);
        let builder = before.clone().into_builder(None);
        let after =
            updates.iter().cloned().try_fold(builder, |b, u| u.apply(b)).expect("applied").build().expect("built").metadata;
        let json = MetadataJson::print(&before).expect("printed");
        assert!(json.extended(&before, &after, &updates).expect("extended").is_some());
    }
}
