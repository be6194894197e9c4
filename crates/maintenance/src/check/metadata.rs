//! The check of a table's metadata alone: rules of the specification that it breaks, and ids that lead to nothing.

use esker_format::rules::{self, Rule, Violation};
use esker_format::{ManifestFile, Snapshot, TableMetadata};

use super::findings::{CheckFinding, CheckFindingKind};

/// Returns findings for rules of the specification that the metadata breaks. `path` is the location of the metadata file.
pub(super) fn of_rules(metadata: &TableMetadata, path: &str) -> Vec<CheckFinding> {
    let finding = |violation: Violation| {
        let snapshot_id = violation.snapshot_id;
        let (kind, path, what) = match (violation.rule, snapshot_id.and_then(|id| metadata.snapshots.get(id))) {
            (Rule::SnapshotSchema, Some(snapshot)) => {
                (CheckFindingKind::UnknownSchema, list_of(snapshot, path), violation.to_string())
            }
            (rule, _) => (CheckFindingKind::BrokenRule, path, format!("{violation} (specification, {:?})", rule.section())),
        };
        CheckFinding { snapshot_id, ..CheckFinding::new(kind, path, what) }
    };
    rules::check(metadata).into_iter().map(finding).collect()
}

/// Returns the location of the file that lists a snapshot's manifests. In format version 1 that may be the metadata file.
pub(super) fn list_of<'a>(snapshot: &'a Snapshot, metadata_path: &'a str) -> &'a str {
    esker_table::list_location(snapshot).unwrap_or(metadata_path)
}

/// Returns findings for manifests whose partition spec the table does not have.
pub(super) fn of_unknown_specs<'a>(
    metadata: &TableMetadata,
    manifests: impl IntoIterator<Item = &'a ManifestFile>,
) -> Vec<CheckFinding> {
    let unknown = manifests.into_iter().filter(|m| metadata.partition_spec_by_id(m.partition_spec_id).is_none());
    let finding = |manifest: &ManifestFile| {
        let what = format!("it has partition spec {}, which the table does not have", manifest.partition_spec_id);
        let finding = CheckFinding::new(CheckFindingKind::UnknownSpec, &manifest.manifest_path, what);
        CheckFinding { snapshot_id: Some(manifest.added_snapshot_id), ..finding }
    };
    unknown.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(change: impl FnOnce(&mut Value)) -> Vec<(CheckFindingKind, String, String, Option<i64>)> {
        let mut json = json!({
            "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "file:///t",
            "last-sequence-number": 1, "last-updated-ms": 20, "last-column-id": 1, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "p", "required": false, "type": "int"}]}],
            "default-spec-id": 0, "last-partition-id": 999, "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}],
            "partition-specs": [{"spec-id": 0, "fields": []}], "current-snapshot-id": 7, "refs": {"main": {"snapshot-id": 7, "type": "branch"}},
            "snapshots": [{"snapshot-id": 7, "sequence-number": 1, "timestamp-ms": 10, "manifest-list": "file:///t/l",
                "summary": {"operation": "append", "app-id": "a"}, "schema-id": 0}],
        });
        change(&mut json);
        let metadata = TableMetadata::from_json(json.to_string().as_bytes()).expect("metadata");
        let findings = of_rules(&metadata, "file:///t/m.json").into_iter();
        findings.map(|finding| (finding.kind, finding.path, finding.what, finding.snapshot_id)).collect()
    }

    #[test]
    fn what_breaks_a_rule_is_found_with_the_rule_and_the_snapshot() {
        assert_eq!(found(|_| {}), []);
        let what = "snapshot 7: its summary has no operation (specification, \"Snapshots\")".to_owned();
        let expected = (CheckFindingKind::BrokenRule, "file:///t/m.json".to_owned(), what, Some(7));
        assert_eq!(found(|json| json["snapshots"][0]["summary"] = json!({"app-id": "a"})), [expected]);
        let broken = found(|json| json["schemas"][0]["fields"][0]["type"] = json!("timestamp_ns"));
        assert_eq!(broken.len(), 1, "{broken:?}");
        assert!(broken[0].2.contains("field p (1): timestamp_ns is not supported until v3"), "{broken:?}");
        assert_eq!((broken[0].0, broken[0].3), (CheckFindingKind::BrokenRule, None));
        let unknown = found(|json| json["snapshots"][0]["schema-id"] = json!(3));
        let what = "snapshot 7: it is of schema 3, which the table has not".to_owned();
        assert_eq!(unknown, [(CheckFindingKind::UnknownSchema, "file:///t/l".to_owned(), what, Some(7))]);
    }
}
