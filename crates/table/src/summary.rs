//! Sums over the live files of one manifest, from which the facts of a table are added up.
//!
//! A manifest never changes, so its summary is made once. The facts after a commit then cost only the manifests that the commit
//! wrote. Beside the sums, each data file keeps 24 bytes ([`FileMark`]) that decide which deletes may apply to it. Start reading at
//! [`ManifestSummary::of`] and [`files_with_deletes`].

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use esker_format::{ManifestFile, TableMetadata, Tuple};
use serde::{Deserialize, Serialize};

use crate::{DeleteKind, LiveFiles, Manifest, PartitionKey};

/// The upper bounds in bytes, exclusive, of the classes of the file-size histogram. The last class has none.
pub const HISTOGRAM_BOUNDS: [u64; 5] = [1 << 20, 8 << 20, 32 << 20, 128 << 20, 512 << 20];

/// Counts and sizes of the delete files of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeleteFacts {
    /// The number of delete files, or of deletion vectors.
    pub files: u64,
    /// The number of deletes in the files.
    pub records: u64,
    /// The size in bytes. For a deletion vector it is the size of its blob.
    pub bytes: u64,
}

/// Adds a count and stops at the largest number, because any client may have written the count.
pub(crate) fn add(sum: &mut u64, n: u64) {
    *sum = sum.saturating_add(n);
}

impl DeleteFacts {
    /// Adds the counts and sizes of other delete files.
    pub(crate) fn add(&mut self, other: Self) {
        add(&mut self.files, other.files);
        add(&mut self.records, other.records);
        add(&mut self.bytes, other.bytes);
    }
}

/// Counts and sizes in bytes of the data files of one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PartitionSum {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) small_files: u64,
    pub(crate) small_bytes: u64,
}

impl PartitionSum {
    pub(crate) fn add(&mut self, other: &Self) {
        add(&mut self.files, other.files);
        add(&mut self.bytes, other.bytes);
        add(&mut self.small_files, other.small_files);
        add(&mut self.small_bytes, other.small_bytes);
    }
}

/// The properties of a data file that decide which deletes may apply to it.
///
/// A collision of two path hashes can only make a count of the facts wrong; no job acts on a file because of it.
#[derive(Debug, Clone, Copy)]
struct FileMark {
    /// The hash of the path.
    path: u64,
    sequence_number: i64,
    /// The position of the file's partition in [`ManifestSummary::partitions`].
    partition: u32,
}

/// The properties of a delete file that decide which data files it may apply to.
#[derive(Debug, Clone)]
struct DeleteMark {
    kind: DeleteKind,
    /// The hash of the data file's path, if the deletes are about a single data file.
    path: Option<u64>,
    partition: Tuple,
    sequence_number: i64,
}

/// The sums over the live files of one manifest.
#[derive(Debug, Default)]
pub struct ManifestSummary {
    spec_id: i32,
    pub(crate) records: u64,
    pub(crate) size_histogram: [u64; HISTOGRAM_BOUNDS.len() + 1],
    pub(crate) partitions: Vec<(Tuple, PartitionSum)>,
    pub(crate) position_deletes: DeleteFacts,
    pub(crate) equality_deletes: DeleteFacts,
    pub(crate) deletion_vectors: DeleteFacts,
    files: Vec<FileMark>,
    deletes: Vec<DeleteMark>,
}

/// Hashes a path. Hashes are compared within one process only.
fn hash(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

impl ManifestSummary {
    /// Summarizes a manifest. Data files under three quarters of `target` bytes count as small.
    pub fn new(file: &ManifestFile, manifest: Manifest, target: u64) -> Self {
        let mut live = LiveFiles::default();
        live.add_manifest(file, manifest);
        Self::of(&live, file.partition_spec_id, target)
    }

    /// Summarizes live files, all of the partition spec `spec_id`.
    pub(crate) fn of(live: &LiveFiles, spec_id: i32, target: u64) -> Self {
        let mut this = Self { spec_id, ..Self::default() };
        let mut places: HashMap<PartitionKey<'_>, u32> = HashMap::new();
        for live in &live.data {
            let bytes = live.file.size();
            let small = bytes < target / 4 * 3;
            add(&mut this.records, live.file.rows().unwrap_or(0));
            this.size_histogram[HISTOGRAM_BOUNDS.partition_point(|bound| bytes >= *bound)] += 1;
            let partition = *places.entry(PartitionKey::of(live)).or_insert_with(|| {
                this.partitions.push((live.file.partition.clone(), PartitionSum::default()));
                (this.partitions.len() - 1) as u32
            });
            let (small_files, small_bytes) = if small { (1, bytes) } else { (0, 0) };
            this.partitions[partition as usize].1.add(&PartitionSum { files: 1, bytes, small_files, small_bytes });
            let (path, sequence_number) = (hash(&live.file.file_path), live.sequence_number);
            this.files.push(FileMark { path, sequence_number, partition });
        }
        for delete in &live.deletes {
            let file = &delete.entry.file;
            let sum = match delete.kind {
                DeleteKind::Position => &mut this.position_deletes,
                DeleteKind::Equality => &mut this.equality_deletes,
                DeleteKind::DeletionVector => &mut this.deletion_vectors,
            };
            let bytes = match (delete.kind, file.content_size_in_bytes) {
                (DeleteKind::DeletionVector, Some(size)) => u64::try_from(size).unwrap_or(0),
                _ => file.size(),
            };
            sum.add(DeleteFacts { files: 1, records: file.rows().unwrap_or(0), bytes });
            this.deletes.push(DeleteMark {
                kind: delete.kind,
                path: file.referenced_data_file.as_deref().map(hash),
                partition: file.partition.clone(),
                sequence_number: delete.entry.sequence_number,
            });
        }
        this
    }

    /// Estimates the memory that the summary takes, in bytes.
    pub fn bytes(&self) -> usize {
        const PARTITION: usize = 160;
        let marks = self.files.len() * size_of::<FileMark>();
        size_of::<Self>() + marks + (self.partitions.len() + self.deletes.len()) * PARTITION
    }

    /// Returns the id of the partition spec of the files.
    pub(crate) fn spec_id(&self) -> i32 {
        self.spec_id
    }
}

/// The highest sequence number of the deletes of each kind, by the data files that they can apply to.
///
/// A delete applies to data files up to its own age, so the newest delete alone decides if any delete applies.
#[derive(Debug, Default)]
struct Newest<'a> {
    /// Position deletes and deletion vectors about one data file, by the hash of its path.
    about: HashMap<u64, i64>,
    /// Position deletes about several data files, by partition.
    positions: HashMap<PartitionKey<'a>, i64>,
    /// Equality deletes, by partition.
    equality: HashMap<PartitionKey<'a>, i64>,
    /// Equality deletes under an unpartitioned spec, which apply to the whole table.
    global: i64,
    /// Deletes of any kind; `i64::MIN` if there is none.
    all: i64,
}

/// Counts the data files that at least one delete file may apply to.
///
/// Spec: "Scan Planning".
pub(crate) fn files_with_deletes(manifests: &[&ManifestSummary], metadata: &TableMetadata) -> u64 {
    let unpartitioned = |spec: i32| metadata.partition_spec_by_id(spec).is_some_and(|s| s.is_unpartitioned());
    let mut newest = Newest { global: i64::MIN, all: i64::MIN, ..Newest::default() };
    for manifest in manifests {
        for delete in &manifest.deletes {
            let place = PartitionKey::new(manifest.spec_id, &delete.partition);
            let at = match (delete.kind, delete.path) {
                (DeleteKind::DeletionVector, None) => continue,
                (DeleteKind::Equality, _) if unpartitioned(manifest.spec_id) => &mut newest.global,
                (DeleteKind::Equality, _) => newest.equality.entry(place).or_insert(i64::MIN),
                (_, Some(path)) => newest.about.entry(path).or_insert(i64::MIN),
                (DeleteKind::Position, None) => newest.positions.entry(place).or_insert(i64::MIN),
            };
            *at = delete.sequence_number.max(*at);
            newest.all = newest.all.max(delete.sequence_number);
        }
    }
    if newest.all == i64::MIN {
        return 0;
    }
    let count = |manifest: &&ManifestSummary| {
        let of_partition = |(partition, _): &(Tuple, PartitionSum)| {
            let place = PartitionKey::new(manifest.spec_id, partition);
            let of = |map: &HashMap<PartitionKey<'_>, i64>| map.get(&place).copied().unwrap_or(i64::MIN);
            (of(&newest.positions), of(&newest.equality).max(newest.global))
        };
        let partitions: Vec<(i64, i64)> = manifest.partitions.iter().map(of_partition).collect();
        let hit = |file: &&FileMark| {
            let (position, equality) = partitions[file.partition as usize];
            file.sequence_number <= position
                || file.sequence_number < equality
                || newest.about.get(&file.path).is_some_and(|about| file.sequence_number <= *about)
        };
        manifest.files.iter().filter(hit).count() as u64
    };
    manifests.iter().map(count).sum()
}
