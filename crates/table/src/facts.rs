//! The facts of a table: counts and sizes of files, deletes, snapshots and manifests.
//!
//! Facts are sums over the manifests of the current snapshot (`summary`), plus counts that the metadata file gives. Health and
//! the autopilot judge a table's shape by them. Start reading at [`TableFacts`] and [`collect_facts`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use esker_format::{ManifestContent, ManifestFile, Operation, TableMetadata};
use esker_types::{DurationMillis, Millis};
use serde::{Deserialize, Serialize};

use crate::properties::{MANIFEST_BYTES, MAX_SNAPSHOT_AGE, TARGET_FILE_BYTES, bad_properties};
use crate::summary::{DeleteFacts, HISTOGRAM_BOUNDS, PartitionSum, add, files_with_deletes};
use crate::{BadProperty, ManifestSummary, PartitionKey, ancestors, partition_label};

/// Returns the default of `commit.manifest.target-size-bytes`, for stored facts without the field.
fn default_manifest_bytes() -> u64 {
    MANIFEST_BYTES.default
}

/// The measured shape of a table: the input of health and of the autopilot.
///
/// Sizes are in bytes, times in milliseconds since the Unix epoch. Files and manifests are those of the current snapshot, snapshots
/// and references those of the whole table. The catalog stores facts as JSON, so a new field needs a migration that clears them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct TableFacts {
    /// The format version of the table.
    pub format_version: u8,
    /// The id of the snapshot that the facts were collected from.
    pub current_snapshot_id: Option<i64>,
    /// The number of live data files.
    pub data_files: u64,
    /// The size of the live data files, in bytes.
    pub data_bytes: u64,
    /// The number of rows in the live data files, deleted rows included.
    pub records: u64,
    /// The number of data files in each size class. [`HISTOGRAM_BOUNDS`] separates the classes.
    pub size_histogram: [u64; HISTOGRAM_BOUNDS.len() + 1],
    /// The target size of data files in bytes (`write.target-file-size-bytes`).
    pub target_file_bytes: u64,
    /// The target size of manifests in bytes (`commit.manifest.target-size-bytes`). Facts that an earlier version stored have the
    /// default.
    #[serde(default = "default_manifest_bytes")]
    pub target_manifest_bytes: u64,
    /// The number of data files under three quarters of the target size.
    pub small_files: u64,
    /// The number of data files that the table would have if each partition were written at the target size.
    pub ideal_files: u64,
    /// The number of small files that a compaction would rewrite. Their partitions have at least [`MIN_INPUT_FILES`] of them.
    pub compactable_files: u64,
    /// The size of the files that a compaction would rewrite, in bytes.
    pub compactable_bytes: u64,
    /// The number of files that a compaction would write.
    pub compacted_files: u64,
    /// The number of commits to `main` since Esker last rewrote it, as far back as the snapshots reach.
    pub commits_since_compaction: u64,
    /// The newest rewrite on `main` by another tool since Esker's last one: the name of the engine, and the snapshot's time.
    pub rewritten_by_other: Option<(String, Millis)>,
    /// The age in milliseconds from which a snapshot may be expired (`history.expire.max-snapshot-age-ms`, or its default).
    pub max_snapshot_age_ms: DurationMillis,
    /// The properties of the table about maintenance: those that begin with `esker.` or `history.expire.`.
    pub policy_properties: BTreeMap<String, String>,
    /// The properties of the table whose values cannot be parsed.
    pub bad_properties: Vec<BadProperty>,
    /// The number of partitions that have live data files.
    pub partitions: u64,
    /// The label of the partition with the most data files, and the number of its files.
    pub fullest_partition: Option<(String, u64)>,
    /// The position delete files.
    pub position_deletes: DeleteFacts,
    /// The equality delete files.
    pub equality_deletes: DeleteFacts,
    /// The deletion vectors.
    pub deletion_vectors: DeleteFacts,
    /// The number of data files that at least one delete may apply to.
    pub files_with_deletes: u64,
    /// The number of snapshots in the metadata.
    pub snapshots: u64,
    /// The time of the oldest snapshot.
    pub oldest_snapshot_ms: Option<Millis>,
    /// The number of branches and tags besides `main`.
    pub extra_refs: u64,
    /// The time of the last change of the table.
    pub last_commit_ms: Millis,
    /// The size of the current metadata file, in bytes.
    pub metadata_bytes: u64,
    /// The number of earlier metadata files in the metadata log.
    pub metadata_log: u64,
    /// The number of manifests of the current snapshot.
    pub manifests: u64,
    /// The size of the manifests, in bytes.
    pub manifest_bytes: u64,
    /// The number of delete manifests among the manifests.
    pub delete_manifests: u64,
}

/// The facts that a job is meant to improve, compared before and after it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileCounts {
    /// The number of live data files, which a full scan opens.
    pub data_files: u64,
    /// The size of the live data files, in bytes.
    pub data_bytes: u64,
    /// The number of live delete files of all kinds.
    pub delete_files: u64,
    /// The number of deletes in the delete files, which a full scan applies.
    pub deletes: u64,
    /// The number of manifests of the current snapshot, which planning opens.
    pub manifests: u64,
    /// The number of snapshots in the metadata.
    pub snapshots: u64,
    /// The size of the metadata file, in bytes.
    pub metadata_bytes: u64,
}

impl TableFacts {
    /// Adds up the delete files of all kinds.
    pub fn deletes(&self) -> DeleteFacts {
        let mut sum = self.position_deletes;
        sum.add(self.equality_deletes);
        sum.add(self.deletion_vectors);
        sum
    }

    /// Returns the facts that a job is meant to improve.
    pub fn file_counts(&self) -> FileCounts {
        let deletes = self.deletes();
        FileCounts {
            data_files: self.data_files,
            data_bytes: self.data_bytes,
            delete_files: deletes.files,
            deletes: deletes.records,
            manifests: self.manifests,
            snapshots: self.snapshots,
            metadata_bytes: self.metadata_bytes,
        }
    }
}

/// The number of small files that a partition needs before a compaction rewrites them, as in Spark's `rewrite_data_files`.
pub const MIN_INPUT_FILES: u64 = 5;

/// Sets the facts about rewrites of `main`, walking from the head to Esker's last rewrite.
fn set_rewrite_facts(metadata: &TableMetadata, facts: &mut TableFacts) {
    for snapshot in ancestors(metadata, metadata.current_snapshot()) {
        if snapshot.is(Operation::Replace) {
            match snapshot.summary_value("engine-name").unwrap_or("another tool") {
                "esker" => return,
                other if facts.rewritten_by_other.is_none() => {
                    facts.rewritten_by_other = Some((other.to_owned(), snapshot.timestamp_ms));
                }
                _ => {}
            }
        }
        facts.commits_since_compaction += 1;
    }
}

/// Collects the facts of a table from its metadata and the summaries of the current snapshot's manifests.
///
/// `manifests` must hold all manifests of the current snapshot, each summarized for the present target size
/// ([`TARGET_FILE_BYTES`]). `metadata_bytes` is the size of the metadata file.
pub fn collect_facts(
    metadata: &TableMetadata,
    manifests: &[(ManifestFile, Arc<ManifestSummary>)],
    metadata_bytes: u64,
) -> TableFacts {
    let target = TARGET_FILE_BYTES.of(&metadata.properties);
    let mut facts = TableFacts {
        format_version: metadata.format_version,
        current_snapshot_id: metadata.current_snapshot_id,
        target_file_bytes: target,
        target_manifest_bytes: MANIFEST_BYTES.of(&metadata.properties),
        snapshots: metadata.snapshots.len() as u64,
        oldest_snapshot_ms: metadata.snapshots.iter().map(|s| s.timestamp_ms).min(),
        extra_refs: metadata.refs.len().saturating_sub(1) as u64,
        last_commit_ms: metadata.last_updated_ms,
        metadata_bytes,
        metadata_log: metadata.metadata_log.len() as u64,
        manifests: manifests.len() as u64,
        ..TableFacts::default()
    };
    let ours = metadata.properties.iter().filter(|(k, _)| k.starts_with("esker.") || k.starts_with("history.expire."));
    facts.policy_properties = ours.map(|(k, v)| (k.clone(), v.clone())).collect();
    facts.max_snapshot_age_ms = MAX_SNAPSHOT_AGE.of(&metadata.properties);
    facts.bad_properties = bad_properties(&metadata.properties);
    set_rewrite_facts(metadata, &mut facts);
    let mut partitions: HashMap<PartitionKey<'_>, PartitionSum> = HashMap::new();
    for (file, summary) in manifests {
        add(&mut facts.manifest_bytes, u64::try_from(file.manifest_length).unwrap_or(0));
        facts.delete_manifests += u64::from(file.content == ManifestContent::Deletes);
        add(&mut facts.records, summary.records);
        facts.size_histogram.iter_mut().zip(summary.size_histogram).for_each(|(sum, n)| add(sum, n));
        facts.position_deletes.add(summary.position_deletes);
        facts.equality_deletes.add(summary.equality_deletes);
        facts.deletion_vectors.add(summary.deletion_vectors);
        for (partition, sum) in &summary.partitions {
            partitions.entry(PartitionKey::new(summary.spec_id(), partition)).or_default().add(sum);
        }
    }
    facts.partitions = partitions.len() as u64;
    for sum in partitions.values() {
        add(&mut facts.data_files, sum.files);
        add(&mut facts.data_bytes, sum.bytes);
        add(&mut facts.small_files, sum.small_files);
        add(&mut facts.ideal_files, sum.bytes.div_ceil(target).clamp(1, sum.files));
        if sum.small_files >= MIN_INPUT_FILES {
            add(&mut facts.compactable_files, sum.small_files);
            add(&mut facts.compactable_bytes, sum.small_bytes);
            add(&mut facts.compacted_files, sum.small_bytes.div_ceil(target).max(1));
        }
    }
    facts.fullest_partition = fullest(metadata, &partitions);
    let summaries: Vec<&ManifestSummary> = manifests.iter().map(|(_, summary)| summary.as_ref()).collect();
    facts.files_with_deletes = files_with_deletes(&summaries, metadata);
    facts
}

/// Returns the label of the partition with the most files, and their number.
///
/// If several have that number, the last label in the order of the alphabet wins, so that the result does not vary.
fn fullest(metadata: &TableMetadata, partitions: &HashMap<PartitionKey<'_>, PartitionSum>) -> Option<(String, u64)> {
    let most = partitions.values().map(|sum| sum.files).max().unwrap_or(0);
    let fullest = partitions.iter().filter(|(_, sum)| sum.files == most).map(|(key, _)| key);
    let label = fullest.map(|key| partition_label(metadata, key.spec_id(), key.values())).max();
    label.map(|label| (label, most))
}

#[cfg(test)]
mod tests {
    use esker_format::{DataContentType, DataFile, DataFileFormat, Value};
    use proptest::strategy::Just;

    use super::*;
    use crate::deletes::tests::metadata;
    use crate::{DeleteIndex, DeleteKind, ExpiryPolicy, LiveDelete, LiveFile, LiveFiles, snapshots_to_expire};

    fn file(name: String, spec_id: i32, partition: i32, bytes: u64, sequence_number: i64, about: Option<String>) -> LiveFile {
        let values = if spec_id == 0 { vec![] } else { vec![Some(Value::Int(partition))] };
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let file = DataFile::new(DataContentType::Data, name, DataFileFormat::Parquet, 2, bytes);
        let file = DataFile { partition: values.into(), referenced_data_file: about, ..file };
        LiveFile { file, spec_id, sequence_number, file_sequence_number: None, snapshot_id: 1, first_row_id: None }
    }

    fn manifest(spec_id: i32) -> ManifestFile {
        ManifestFile {
            manifest_path: "m".into(),
            manifest_length: 7,
            partition_spec_id: spec_id,
            content: ManifestContent::Data,
            sequence_number: 1,
            min_sequence_number: 1,
            added_snapshot_id: 1,
            added_files_count: None,
            existing_files_count: None,
            deleted_files_count: None,
            added_rows_count: None,
            existing_rows_count: None,
            deleted_rows_count: None,
            partitions: None,
            key_metadata: None,
            first_row_id: None,
            extra: Default::default(),
        }
    }

    proptest::proptest! {
        /// Checks that the facts do not depend on the distribution of files over manifests.
        #[test]
        fn the_sum_over_manifests_is_the_table(
            data in proptest::collection::vec((0_usize..4, 0_i32..2, 0_i32..3, 1_u64..200, 1_i64..8), 0..20),
            deletes in proptest::collection::vec((0_u8..3, 0_usize..4, 0_i32..2, 0_i32..3, 1_i64..8, 0_usize..20), 0..8),
        ) {
            let (mut pieces, mut whole) = (HashMap::<(usize, i32), LiveFiles>::new(), LiveFiles::default());
            for (i, (place, spec_id, partition, bytes, number)) in data.iter().enumerate() {
                let file = file(format!("d{i}"), *spec_id, *partition, *bytes, *number, None);
                pieces.entry((*place, *spec_id)).or_default().data.push(file.clone());
                whole.data.push(file);
            }
            for (i, (kind, place, spec_id, partition, number, about)) in deletes.iter().enumerate() {
                let target = whole.data.get(*about).filter(|_| *kind == 0).cloned();
                let (spec_id, partition) = target.as_ref().map_or((*spec_id, *partition), |t| {
                    (t.spec_id, data[*about].2)
                });
                let about = target.map(|t| t.file.file_path.clone());
                let kind = if *kind == 2 { DeleteKind::Equality } else { DeleteKind::Position };
                let entry = file(format!("x{i}"), spec_id, partition, 9, *number, about);
                pieces.entry((*place, spec_id)).or_default().deletes.push(LiveDelete { entry: entry.clone(), kind });
                whole.deletes.push(LiveDelete { entry, kind });
            }
            let metadata = metadata();
            let of = |((_, spec), live): (&(usize, i32), &LiveFiles)| {
                (manifest(*spec), Arc::new(ManifestSummary::of(live, *spec, 100)))
            };
            let facts = collect_facts(&metadata, &pieces.iter().map(of).collect::<Vec<_>>(), 1);
            let index = DeleteIndex::new(&whole.deletes, &metadata).expect("an index");
            let small = |f: &&LiveFile| f.file.size() < 75;
            proptest::prop_assert_eq!(facts.data_files, whole.data.len() as u64);
            proptest::prop_assert_eq!(facts.data_bytes, whole.data.iter().map(|f| f.file.size()).sum::<u64>());
            proptest::prop_assert_eq!(facts.records, 2 * whole.data.len() as u64);
            proptest::prop_assert_eq!(facts.small_files, whole.data.iter().filter(small).count() as u64);
            proptest::prop_assert_eq!(facts.deletes().files, whole.deletes.len() as u64);
            proptest::prop_assert_eq!(facts.files_with_deletes, whole.data.iter().filter(|f| index.any(f)).count() as u64);
            let mut by_partition: HashMap<PartitionKey<'_>, u64> = HashMap::new();
            whole.data.iter().for_each(|f| *by_partition.entry(PartitionKey::of(f)).or_default() += 1);
            proptest::prop_assert_eq!(facts.partitions, by_partition.len() as u64);
            proptest::prop_assert_eq!(facts.fullest_partition.map(|(_, n)| n), by_partition.values().max().copied());
        }
    }

    fn any_count() -> impl proptest::strategy::Strategy<Value = u64> {
        proptest::prop_oneof![0_u64..10, Just(u64::MAX), Just(u64::MAX - 1), Just(1 << 63), proptest::num::u64::ANY]
    }

    fn any_number() -> impl proptest::strategy::Strategy<Value = i64> {
        proptest::prop_oneof![-3_i64..9, Just(i64::MIN), Just(i64::MAX)]
    }

    proptest::proptest! {
        /// Whatever counts a writer put into manifests, sums stay within their type and a compaction's arithmetic holds.
        #[test]
        fn facts_of_odd_counts_are_facts(
            data in proptest::collection::vec((0_i32..3, any_number(), any_number(), any_number()), 0..9),
            deletes in proptest::collection::vec((0_u8..3, 0_i32..3, any_number(), any_number(), any_number(), any_number()), 0..6),
            length in any_number(), target in 1_u64..9, bytes in any_count(),
        ) {
            let mut live = LiveFiles::default();
            let odd = |name: String, partition, records, bytes, number| {
                let mut entry = file(name, 1, partition, 0, number, None);
                (entry.file.record_count, entry.file.file_size_in_bytes) = (records, bytes);
                entry
            };
            for (i, (partition, records, bytes, number)) in data.iter().enumerate() {
                live.data.push(odd(format!("d{i}"), *partition, *records, *bytes, *number));
            }
            for (i, (kind, partition, records, bytes, number, content)) in deletes.iter().enumerate() {
                let mut entry = odd(format!("x{i}"), *partition, *records, *bytes, *number);
                let kind = [DeleteKind::Position, DeleteKind::Equality, DeleteKind::DeletionVector][usize::from(*kind)];
                if kind == DeleteKind::DeletionVector {
                    (entry.file.content, entry.file.file_format) = (DataContentType::PositionDeletes, DataFileFormat::Puffin);
                    entry.file.content_size_in_bytes = Some(*content);
                }
                live.deletes.push(LiveDelete { entry, kind });
            }
            let of = || (ManifestFile { manifest_length: length, ..manifest(1) }, Arc::new(ManifestSummary::of(&live, 1, target)));
            let facts = collect_facts(&metadata(), &[of(), of()], bytes);
            proptest::prop_assert_eq!(facts.data_files, 2 * data.len() as u64);
            let records = data.iter().fold(0_u64, |sum, (_, records, ..)| {
                let records = u64::try_from(*records).unwrap_or(0);
                sum.saturating_add(records).saturating_add(records)
            });
            proptest::prop_assert_eq!(facts.records, records);
            proptest::prop_assert!(facts.ideal_files <= facts.data_files && facts.compactable_files <= facts.small_files);
            proptest::prop_assert!(facts.file_counts().delete_files == facts.deletes().files);
        }
    }

    #[test]
    fn parents_that_lead_round_in_a_circle_have_an_end() {
        let mut json = serde_json::to_value(metadata()).expect("JSON");
        let snapshot = |id: i64, parent: i64| {
            serde_json::json!({"snapshot-id": id, "parent-snapshot-id": parent, "sequence-number": id, "timestamp-ms": 1 + id,
                "manifest-list": "l", "summary": {"operation": "append"}, "schema-id": 0})
        };
        json["snapshots"] = serde_json::json!([snapshot(1, 2), snapshot(2, 1)]);
        json["current-snapshot-id"] = 2.into();
        json["last-sequence-number"] = 2.into();
        json["last-updated-ms"] = 9.into();
        json["refs"] = serde_json::json!({"main": {"snapshot-id": 2, "type": "branch"}});
        let metadata: TableMetadata = serde_json::from_value(json).expect("a table");
        assert_eq!(collect_facts(&metadata, &[], 1).commits_since_compaction, 2);
        let policy = ExpiryPolicy { older_than_ms: None, retain_last: None };
        assert!(snapshots_to_expire(&metadata, &metadata.refs, policy, 1_000_000_000_000).is_ok());
    }
}
