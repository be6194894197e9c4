//! Bin-packing: decides which files are rewritten together. It does no I/O.
//!
//! The limits are those of Spark's `rewrite_data_files`. Start reading at [`pack_groups`].

use std::collections::BTreeMap;

use esker_table::PartitionKey;
use esker_types::saturating_total;
use serde::{Deserialize, Serialize};

use super::rewrite::number_of_files;

/// A data file of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlannedFile {
    /// URI of the file.
    pub path: String,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Number of rows of the file, including deleted ones; 0 if its manifest entry has no record count.
    pub records: u64,
    /// Number of rows that are deleted by deletes about this file alone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deleted: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Files of one partition that are rewritten together and committed together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Group {
    /// Number of the group in the plan, from 0.
    pub id: usize,
    /// Label of the partition, for people.
    pub partition: String,
    /// Id of the partition spec of the replaced files, which is also that of the new files.
    pub spec_id: i32,
    /// The files that are replaced.
    pub files: Vec<PlannedFile>,
    /// Expected number of new files.
    pub expected_files: u64,
    /// Number of delete files that may apply to the replaced files.
    #[serde(default)]
    pub delete_files: u64,
}

impl Group {
    /// Returns the total size of the files that are replaced, in bytes.
    pub fn bytes(&self) -> u64 {
        saturating_total(self.files.iter().map(|f| f.bytes))
    }

    /// Returns the number of rows of the files that are replaced, including deleted ones.
    pub fn records(&self) -> u64 {
        saturating_total(self.files.iter().map(|f| f.records))
    }
}

/// The limits that decide about groups. [`CompactOptions`](crate::CompactOptions) has their meaning and defaults; sizes are in
/// bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupLimits {
    pub(crate) target: u64,
    pub(crate) min_file: u64,
    pub(crate) max_file: u64,
    pub(crate) min_input_files: usize,
    pub(crate) max_group: u64,
    pub(crate) max_group_files: usize,
    /// Every file is a candidate, and every group is rewritten.
    pub(crate) all: bool,
}

impl GroupLimits {
    /// Checks whether a file would gain from a rewrite.
    pub(crate) fn chooses(&self, candidate: &CandidateFile) -> bool {
        let size = candidate.file.bytes;
        self.all || candidate.urgent || size < self.min_file || size > self.max_file
    }
}

/// A file that may be rewritten.
#[derive(Debug, Clone)]
pub(crate) struct CandidateFile {
    pub(crate) file: PlannedFile,
    /// The file is rewritten whatever its size, because of its deletes or its small row groups.
    pub(crate) urgent: bool,
}

/// Files that may be rewritten, by spec id, partition label and partition. Different partitions may have the same label.
pub(crate) type ByPartition = BTreeMap<(i32, String, PartitionKey<'static>), Vec<CandidateFile>>;

/// Packs the files of each partition, in their order, into groups of up to `max_group` bytes.
///
/// It keeps only groups that are worth rewriting. A group is, if it becomes fewer files and has enough files or enough content for
/// a full one. It also is, if it has a file that is too large, or an urgent file. A file larger than `max_group` is a group of its
/// own.
pub(crate) fn pack_groups(partitions: ByPartition, limits: GroupLimits) -> Vec<Group> {
    let mut groups = Vec::new();
    for ((spec_id, partition, _), files) in partitions {
        let mut bin: Vec<CandidateFile> = Vec::new();
        let mut bin_bytes = 0;
        let mut bins = Vec::new();
        for candidate in files.into_iter().filter(|candidate| limits.chooses(candidate)) {
            let full = candidate.file.bytes.saturating_add(bin_bytes) > limits.max_group || bin.len() >= limits.max_group_files;
            if !bin.is_empty() && full {
                bins.push(std::mem::take(&mut bin));
                bin_bytes = 0;
            }
            bin_bytes = candidate.file.bytes.saturating_add(bin_bytes);
            bin.push(candidate);
        }
        bins.push(bin);
        for bin in bins {
            let urgent = bin.iter().any(|c| c.urgent) || (limits.all && !bin.is_empty());
            let files: Vec<PlannedFile> = bin.into_iter().map(|c| c.file).collect();
            let bytes = saturating_total(files.iter().map(|f| f.bytes));
            let enough_files = files.len() > 1 && files.len() >= limits.min_input_files;
            let enough_content = files.len() > 1 && bytes > limits.target;
            let too_large = files.iter().any(|f| f.bytes > limits.max_file);
            let expected_files = number_of_files(bytes, limits.target, limits.max_file);
            // The same number of files again would gain nothing.
            let gains = too_large || expected_files < files.len() as u64;
            if urgent || (gains && (enough_files || enough_content || too_large)) {
                let (id, partition) = (groups.len(), partition.clone());
                groups.push(Group { id, partition, spec_id, files, expected_files, delete_files: 0 });
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use esker_format::Value;

    use super::*;

    const LIMITS: GroupLimits = GroupLimits {
        target: 100,
        min_file: 75,
        max_file: 180,
        min_input_files: 5,
        max_group: 1000,
        max_group_files: 50,
        all: false,
    };

    fn candidate(path: String, bytes: u64) -> CandidateFile {
        CandidateFile { file: PlannedFile { path, bytes, records: 1, deleted: 0 }, urgent: false }
    }

    fn files(sizes: &[u64]) -> Vec<CandidateFile> {
        sizes.iter().enumerate().map(|(i, bytes)| candidate(format!("f{i}"), *bytes)).collect()
    }

    fn place(label: &str, value: &str) -> (i32, String, PartitionKey<'static>) {
        let values = [Some(Value::String(value.into()))];
        (0, label.to_owned(), PartitionKey::new(0, &values).into_owned())
    }

    fn packed(sizes: &[u64]) -> Vec<Vec<u64>> {
        let groups = pack_groups([(place("p", "p"), files(sizes))].into(), LIMITS);
        groups.iter().map(|g| g.files.iter().map(|f| f.bytes).collect()).collect()
    }

    #[test]
    fn a_group_needs_enough_files_or_enough_content() {
        assert_eq!(packed(&[10, 10, 10, 10]), [[0_u64; 0]; 0]);
        assert_eq!(packed(&[10, 10, 10, 10, 10]), [[10; 5]]);
        assert_eq!(packed(&[40, 40, 40]), [[40; 3]], "three files become two");
        assert_eq!(packed(&[70, 70]), [[0_u64; 0]; 0], "two files would become two again");
    }

    #[test]
    fn files_of_the_right_size_are_left_alone_and_a_large_one_is_split() {
        assert_eq!(packed(&[100, 90, 120]), [[0_u64; 0]; 0]);
        assert_eq!(packed(&[500]), [[500]]);
        let urgent = CandidateFile { urgent: true, ..candidate("f".to_owned(), 100) };
        assert_eq!(pack_groups([(place("p", "p"), vec![urgent])].into(), LIMITS).len(), 1, "deletes are a reason of their own");
    }

    proptest::proptest! {
        /// Every file is in at most one group, groups keep to one partition and to the size limit.
        #[test]
        fn groups_are_disjoint_and_bounded(
            sizes in proptest::collection::vec((0_i32..4, 1_u64..300), 0..80),
        ) {
            let mut partitions = ByPartition::new();
            for (i, (p, bytes)) in sizes.iter().enumerate() {
                // All partitions have one label: labels are for people and decide nothing.
                partitions.entry(place("p", &p.to_string())).or_default().push(candidate(format!("{p}/{i}"), *bytes));
            }
            let groups = pack_groups(partitions, LIMITS);
            let mut seen = std::collections::HashSet::new();
            for group in &groups {
                for file in &group.files {
                    proptest::prop_assert!(seen.insert(file.path.clone()));
                    let partition = |path: &str| path.split('/').next().map(str::to_owned);
                    proptest::prop_assert_eq!(partition(&file.path), partition(&group.files[0].path));
                }
                proptest::prop_assert!(group.bytes() <= LIMITS.max_group || group.files.len() == 1);
            }
        }
    }
}
