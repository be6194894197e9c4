use std::collections::BTreeMap;

use esker_types::Millis;
use iceberg::spec::{ManifestContentType, Operation, SnapshotRef, TableMetadata};
use serde::{Deserialize, Serialize};

use crate::retention::max_snapshot_age_ms;
use crate::{DeleteIndex, DeleteKind, LiveFiles, Result, TableError, partition_label, refs};

/// The upper bounds, in bytes, of all but the last class of the file-size histogram.
pub const HISTOGRAM_BOUNDS: [u64; 5] = [1 << 20, 8 << 20, 32 << 20, 128 << 20, 512 << 20];

/// Delete files of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteFacts {
    /// How many files.
    pub files: u64,
    /// How many deletes they hold.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a table's metadata says about its shape: the evidence that health is judged by. Sizes are bytes, times are
/// milliseconds since the epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableFacts {
    /// The table's format version.
    pub format_version: u8,
    /// The snapshot that all this is about.
    pub current_snapshot_id: Option<i64>,
    /// Live data files.
    pub data_files: u64,
    /// Their bytes.
    pub data_bytes: u64,
    /// Their rows, deleted ones included.
    pub records: u64,
    /// Data files by size, in the classes that [`HISTOGRAM_BOUNDS`] divides.
    pub size_histogram: [u64; HISTOGRAM_BOUNDS.len() + 1],
    /// The size that writers aim at (`write.target-file-size-bytes`).
    pub target_file_bytes: u64,
    /// Data files under three quarters of the target.
    pub small_files: u64,
    /// Data files there would be, had each partition been written at the target size.
    pub ideal_files: u64,
    /// Small files in partitions that have at least [`MIN_INPUT_FILES`] of them: what a compaction takes up.
    pub compactable_files: u64,
    /// Their bytes.
    pub compactable_bytes: u64,
    /// Files that a compaction would make of them.
    pub compacted_files: u64,
    /// Commits to `main` since Esker last compacted it, as far back as snapshots are there.
    pub commits_since_compaction: u64,
    /// The newest rewrite on `main` by something else than Esker: which engine, and when.
    pub rewritten_by_other: Option<(String, Millis)>,
    /// Snapshots older than this many milliseconds may be expired, by the table's properties or the specification's default.
    pub max_snapshot_age_ms: Millis,
    /// The table's properties that say how it is to be maintained: `esker.` and `history.expire.`.
    pub policy_properties: BTreeMap<String, String>,
    /// Partitions that hold data.
    pub partitions: u64,
    /// The partition with the most files, and how many it has.
    pub fullest_partition: Option<(String, u64)>,
    /// Position deletes.
    pub position_deletes: DeleteFacts,
    /// Equality deletes.
    pub equality_deletes: DeleteFacts,
    /// Deletion vectors.
    pub deletion_vectors: DeleteFacts,
    /// Data files that at least one delete file may apply to.
    pub files_with_deletes: u64,
    /// Snapshots in the metadata.
    pub snapshots: u64,
    /// When the oldest was made.
    pub oldest_snapshot_ms: Option<Millis>,
    /// Branches and tags beside `main`.
    pub extra_refs: u64,
    /// When the table last changed.
    pub last_commit_ms: Millis,
    /// The current metadata file's bytes.
    pub metadata_bytes: u64,
    /// Earlier metadata files still listed.
    pub metadata_log: u64,
    /// Manifests of the current snapshot.
    pub manifests: u64,
    /// Their bytes.
    pub manifest_bytes: u64,
    /// Of them, delete manifests.
    pub delete_manifests: u64,
}

/// What a job is to make better: a few of the facts, to be compared before and after.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shape {
    /// Live data files: what a full scan opens.
    pub data_files: u64,
    /// Their bytes.
    pub data_bytes: u64,
    /// Live delete files.
    pub delete_files: u64,
    /// Deletes that they hold: what a full scan applies.
    pub deletes: u64,
    /// Manifests of the current snapshot: what planning opens.
    pub manifests: u64,
    /// Snapshots in the metadata.
    pub snapshots: u64,
    /// Bytes of the metadata file.
    pub metadata_bytes: u64,
}

impl TableFacts {
    /// Delete files of all kinds, their deletes and their bytes together.
    pub fn deletes(&self) -> DeleteFacts {
        let kinds = [self.position_deletes, self.equality_deletes, self.deletion_vectors];
        kinds.iter().fold(DeleteFacts::default(), |sum, kind| DeleteFacts {
            files: sum.files + kind.files,
            records: sum.records + kind.records,
            bytes: sum.bytes + kind.bytes,
        })
    }

    /// What a job is to make better.
    pub fn shape(&self) -> Shape {
        let deletes = self.deletes();
        Shape {
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

/// Fewer small files than this in a partition are left alone, as by Spark's `rewrite_data_files`.
pub const MIN_INPUT_FILES: u64 = 5;

/// The data files of one partition.
#[derive(Debug, Default)]
struct Partition {
    files: u64,
    bytes: u64,
    small_files: u64,
    small_bytes: u64,
}

/// Who rewrote `main`, and when.
fn rewrites(metadata: &TableMetadata, facts: &mut TableFacts) {
    let parent = |s: &&SnapshotRef| s.parent_snapshot_id().and_then(|id| metadata.snapshot_by_id(id));
    for snapshot in std::iter::successors(metadata.current_snapshot(), parent) {
        let summary = snapshot.summary();
        let engine = summary.additional_properties.get("engine-name").map_or("another tool", String::as_str);
        match (&summary.operation, engine) {
            (Operation::Replace, "esker") => return,
            (Operation::Replace, other) if facts.rewritten_by_other.is_none() => {
                facts.rewritten_by_other = Some((other.to_owned(), snapshot.timestamp_ms()));
            }
            _ => {}
        }
        facts.commits_since_compaction += 1;
    }
}

/// Gathers the facts of a table's current snapshot.
pub fn collect_facts(metadata: &TableMetadata, live: &LiveFiles, metadata_bytes: u64) -> Result<TableFacts> {
    let target = match metadata.properties().get("write.target-file-size-bytes") {
        None => 512 << 20,
        Some(text) => text.parse::<u64>().ok().filter(|t| *t > 0).ok_or_else(|| {
            TableError::Invalid(format!("table property write.target-file-size-bytes: {text:?} is not a positive number"))
        })?,
    };
    let mut facts = TableFacts {
        format_version: metadata.format_version() as u8,
        current_snapshot_id: metadata.current_snapshot_id(),
        target_file_bytes: target,
        snapshots: metadata.snapshots().len() as u64,
        oldest_snapshot_ms: metadata.snapshots().map(|s| s.timestamp_ms()).min(),
        extra_refs: refs(metadata)?.len().saturating_sub(1) as u64,
        last_commit_ms: metadata.last_updated_ms(),
        metadata_bytes,
        metadata_log: metadata.metadata_log().len() as u64,
        manifests: live.manifests.len() as u64,
        ..TableFacts::default()
    };
    for manifest in &live.manifests {
        facts.manifest_bytes += u64::try_from(manifest.manifest_length).unwrap_or(0);
        facts.delete_manifests += u64::from(manifest.content == ManifestContentType::Deletes);
    }
    let ours = metadata.properties().iter().filter(|(k, _)| k.starts_with("esker.") || k.starts_with("history.expire."));
    facts.policy_properties = ours.map(|(k, v)| (k.clone(), v.clone())).collect();
    facts.max_snapshot_age_ms = max_snapshot_age_ms(metadata)?;
    rewrites(metadata, &mut facts);
    let mut partitions: BTreeMap<(i32, String), Partition> = BTreeMap::new();
    for live in &live.data {
        let bytes = live.file.file_size_in_bytes();
        facts.data_files += 1;
        facts.data_bytes += bytes;
        facts.records += live.file.record_count();
        let small = bytes < target / 4 * 3;
        facts.small_files += u64::from(small);
        facts.size_histogram[HISTOGRAM_BOUNDS.partition_point(|bound| bytes >= *bound)] += 1;
        let label = match metadata.partition_spec_by_id(live.spec_id) {
            Some(spec) => partition_label(spec, metadata.current_schema(), live.file.partition()),
            None => return Err(TableError::Invalid(format!("partition spec {} does not exist", live.spec_id))),
        };
        let partition = partitions.entry((live.spec_id, label)).or_default();
        partition.files += 1;
        partition.bytes += bytes;
        if small {
            partition.small_files += 1;
            partition.small_bytes += bytes;
        }
    }
    facts.partitions = partitions.len() as u64;
    for partition in partitions.values() {
        facts.ideal_files += partition.bytes.div_ceil(target).clamp(1, partition.files);
        if partition.small_files >= MIN_INPUT_FILES {
            facts.compactable_files += partition.small_files;
            facts.compactable_bytes += partition.small_bytes;
            facts.compacted_files += partition.small_bytes.div_ceil(target).max(1);
        }
    }
    let fullest = partitions.into_iter().max_by_key(|(_, partition)| partition.files);
    facts.fullest_partition = fullest.map(|((_, label), partition)| (label, partition.files));
    for delete in &live.deletes {
        let kind = match delete.kind {
            DeleteKind::Position => &mut facts.position_deletes,
            DeleteKind::Equality => &mut facts.equality_deletes,
            DeleteKind::DeletionVector => &mut facts.deletion_vectors,
        };
        kind.files += 1;
        kind.records += delete.entry.file.record_count();
        kind.bytes += match (delete.kind, delete.entry.file.content_size_in_bytes()) {
            (DeleteKind::DeletionVector, Some(size)) => u64::try_from(size).unwrap_or(0),
            _ => delete.entry.file.file_size_in_bytes(),
        };
    }
    let index = DeleteIndex::new(live, metadata);
    facts.files_with_deletes = live.data.iter().filter(|f| index.any(f)).count() as u64;
    Ok(facts)
}
