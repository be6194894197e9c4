//! The JSON of a metadata file, made from the JSON of the file before it instead of serialized again.
//!
//! Snapshots are nearly all of a large metadata file, and a commit leaves the earlier ones as they are. So a commit that only adds
//! snapshots copies the bytes of the earlier ones and serializes the rest. At 50,000 snapshots, serializing everything takes longer
//! than all else that a commit does. Start reading at [`MetadataJson::next`].

use std::ops::Range;

use bytes::Bytes;
use esker_format::{FormatError, TableMetadata, TableUpdate};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{Result, TableError};

/// The JSON of a metadata file, with the byte ranges that the next file copies.
#[derive(Debug, Clone)]
pub struct MetadataJson {
    bytes: Bytes,
    /// The byte range between the brackets of the list `snapshots`; empty if there is no such list.
    snapshots: Range<usize>,
    /// The byte range between the brackets of the list `snapshot-log`; empty if there is no such list.
    log: Range<usize>,
}

/// Makes an error about the lists of snapshots and log entries.
fn invalid(source: serde_json::Error) -> TableError {
    FormatError::Json { what: "table metadata", at: "its lists".to_owned(), source }.into()
}

impl MetadataJson {
    /// Finds the ranges of `snapshots` and `snapshot-log` in the content of an uncompressed metadata file.
    ///
    /// # Errors
    ///
    /// Returns [`TableError::Format`] if the content is no JSON object, or has one of the two lists twice.
    pub fn read(bytes: Bytes) -> Result<Self> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Lists<'a> {
            #[serde(borrow, default)]
            snapshots: Option<&'a RawValue>,
            #[serde(borrow, default)]
            snapshot_log: Option<&'a RawValue>,
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
        Ok(Self { bytes, snapshots, log })
    }

    /// Serializes all of a table's metadata.
    ///
    /// # Errors
    ///
    /// Returns [`TableError::Format`] if the metadata cannot be serialized.
    pub fn serialize(metadata: &TableMetadata) -> Result<Self> {
        Self::read(metadata.to_json()?.into())
    }

    /// Returns the JSON of `after`, the metadata that `updates` made of `before`. `self` must be the JSON of `before`.
    ///
    /// It copies the snapshots and the snapshot log of `before` if the updates only add to them, or else serializes everything.
    ///
    /// # Errors
    ///
    /// Returns [`TableError::Format`] if the metadata cannot be serialized.
    pub fn next<'a>(
        &self,
        before: &TableMetadata,
        after: &TableMetadata,
        updates: impl IntoIterator<Item = &'a TableUpdate> + Clone,
    ) -> Result<Self> {
        match self.extended(before, after, updates)? {
            Some(next) => Ok(next),
            None => Self::serialize(after),
        }
    }

    /// Returns the content of the file, uncompressed.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Extends this JSON. Returns `None` if the updates did more to `snapshots` and `snapshot-log` than add at their ends.
    fn extended<'a>(
        &self,
        before: &TableMetadata,
        after: &TableMetadata,
        updates: impl IntoIterator<Item = &'a TableUpdate> + Clone,
    ) -> Result<Option<Self>> {
        let (old_log, new_log) = (&before.snapshot_log, &after.snapshot_log);
        let added: Vec<_> = updates
            .clone()
            .into_iter()
            .filter_map(|update| match update {
                TableUpdate::AddSnapshot { snapshot } => Some(snapshot),
                _ => None,
            })
            .collect();
        let must_serialize_all = after.format_version != before.format_version
            || updates.into_iter().any(|update| matches!(update, TableUpdate::RemoveSnapshots { .. }))
            || after.snapshots.len() != before.snapshots.len() + added.len()
            || !new_log.starts_with(old_log);
        if must_serialize_all {
            return Ok(None);
        }
        let fields = after.to_json_without_snapshots()?;
        let mut out = Vec::with_capacity(self.bytes.len() + 4096 * (1 + added.len()));
        // Copy all but the closing brace, which is written at the end.
        out.extend_from_slice(&fields[..fields.len() - 1]);
        out.extend_from_slice(b",\"snapshots\":[");
        let start = out.len();
        out.extend_from_slice(&self.bytes[self.snapshots.clone()]);
        for snapshot in added {
            append(&mut out, start, snapshot)?;
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
        Ok(Some(Self { bytes: out.into(), snapshots, log }))
    }
}

/// Shrinks a range to exclude the white space at both ends.
fn trimmed(bytes: &[u8], range: Range<usize>) -> Range<usize> {
    let inner = &bytes[range.clone()];
    let start = inner.iter().take_while(|b| b.is_ascii_whitespace()).count();
    let end = inner.iter().skip(start).rev().take_while(|b| b.is_ascii_whitespace()).count();
    range.start + start..range.end - end
}

/// Appends a value to the JSON list at the end of `out`. The list's first element begins, or will begin, at `start`.
fn append(out: &mut Vec<u8>, start: usize, value: &impl Serialize) -> Result<()> {
    if out.len() > start {
        out.push(b',');
    }
    serde_json::to_writer(out, value).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use esker_format::{CommitContext, Extra, OPERATION, ReferenceKind, Snapshot, SnapshotReference, apply, branch_at};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn table(version: u8) -> TableMetadata {
        let json = json!({
            "format-version": version, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "file:///w/t",
            "last-sequence-number": 0, "last-updated-ms": 1, "last-column-id": 1, "current-schema-id": 0, "next-row-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "id", "required": false, "type": "long"}]}],
            "default-spec-id": 0, "last-partition-id": 999, "default-sort-order-id": 0,
            "partition-specs": [{"spec-id": 0, "fields": []}], "sort-orders": [{"order-id": 0, "fields": []}],
            "properties": {"a\"b": "ü"}, "later": {"x": [1.5, "y"]},
        });
        serde_json::from_value(json).expect("metadata")
    }

    /// Returns the updates of the `n`-th commit. `kind`, from 0 to 6, is what the commit does.
    fn updates(kind: u8, n: i64, metadata: &TableMetadata) -> Vec<TableUpdate> {
        let id = 9_007_199_254_740_993 + n;
        let lineage = metadata.next_row_id.filter(|_| metadata.format_version >= 3);
        let add = || TableUpdate::AddSnapshot {
            snapshot: Snapshot {
                snapshot_id: id,
                parent_snapshot_id: metadata.current_snapshot_id,
                sequence_number: Some(metadata.next_sequence_number()).filter(|number| *number > 0),
                timestamp_ms: metadata.last_updated_ms + 1,
                manifest_list: Some(format!("file:///w/t/metadata/{n} \\ü.avro")),
                manifests: None,
                summary: Some([(OPERATION, "append".to_owned()), ("k", n.to_string())].map(|(k, v)| (k.to_owned(), v)).into()),
                schema_id: Some(0),
                first_row_id: lineage,
                added_rows: lineage.map(|_| 10),
                key_id: None,
                extra: Extra::default(),
            },
        };
        let branch = SnapshotReference { min_snapshots_to_keep: Some(3), max_ref_age_ms: Some(1_000_000), ..branch_at(id) };
        let set = |ref_name: &str, reference| TableUpdate::SetSnapshotRef { ref_name: ref_name.to_owned(), reference };
        match (kind, metadata.current_snapshot_id) {
            (0, _) => vec![add(), set("main", branch)],
            (1, _) => vec![add()],
            (2, Some(current)) => {
                let tag = SnapshotReference { kind: ReferenceKind::Tag, ..branch_at(current) };
                vec![set(&format!("tag{}", n % 3), tag)]
            }
            (3, _) => vec![TableUpdate::RemoveSnapshotRef { ref_name: format!("tag{}", n % 3) }],
            (4, Some(current)) => {
                let other = metadata.snapshots.iter().map(|s| s.snapshot_id).find(|id| *id != current);
                other.map(|id| TableUpdate::RemoveSnapshots { snapshot_ids: vec![id] }).into_iter().collect()
            }
            (5, _) => vec![TableUpdate::RemoveSnapshotRef { ref_name: "main".into() }],
            _ => vec![TableUpdate::SetProperties { updates: BTreeMap::from([(format!("p{n}"), "v".into())]) }],
        }
    }

    fn applied(metadata: &TableMetadata, updates: &[TableUpdate], n: usize) -> TableMetadata {
        let file = format!("file:///w/t/metadata/{n}.json");
        let at = CommitContext { now_ms: metadata.last_updated_ms + 1, metadata_file: Some(&file) };
        apply(metadata, updates, at).expect("applied").unwrap_or_else(|| metadata.clone())
    }

    proptest! {
        /// Checks that the extended JSON equals the metadata after any sequence of commits.
        #[test]
        fn extending_is_the_same_as_printing(kinds in prop::collection::vec(0_u8..7, 1..25), version in 1_u8..4) {
            let mut metadata = table(version);
            let mut json = MetadataJson::serialize(&metadata).expect("printed");
            for (n, kind) in kinds.into_iter().enumerate() {
                let updates = updates(kind, n as i64, &metadata);
                let next = applied(&metadata, &updates, n);
                json = json.next(&metadata, &next, &updates).expect("next");
                metadata = next;
                let parsed = TableMetadata::from_json(json.bytes()).expect("valid");
                prop_assert_eq!(&parsed, &metadata, "after {:?}", updates);
                let again = MetadataJson::read(json.bytes().clone()).expect("read");
                prop_assert_eq!((&again.snapshots, &again.log), (&json.snapshots, &json.log));
            }
        }
    }

    #[test]
    fn a_commit_of_snapshots_is_extended_and_not_printed_anew() {
        let before = table(2);
        let updates = updates(0, 1, &before);
        let after = applied(&before, &updates, 0);
        let json = MetadataJson::serialize(&before).expect("printed");
        assert!(json.extended(&before, &after, &updates).expect("extended").is_some());
    }
}
