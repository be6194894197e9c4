//! The rules that a late commit must keep to be merged, and the refusal of one that breaks a rule.
//!
//! A refusal names the rule, so that logs, metrics and answers tell the same. `docs/catalog.md` lists the rules.

use std::fmt;

/// A rule that a late commit must keep to be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MergeRule {
    /// The UUID of the table is asserted, and exactly one branch.
    Requirements,
    /// The updates are snapshots in a chain, the branch that moves to the last of them, and statistics of these snapshots.
    Updates,
    /// The reference is a branch, which exists, and readers see it where it is.
    Branch,
    /// The base of the commit is an ancestor of the branch's head.
    Ancestor,
    /// The snapshot has the table's current schema.
    Schema,
    /// The manifest list has the table's format version.
    FormatVersion,
    /// The table has the partition specs of the new manifests.
    PartitionSpec,
    /// Nothing of the snapshot is encrypted.
    Encryption,
    /// The snapshot is neither staged nor published from a staged one.
    Staged,
    /// No snapshot since the base is of the same exactly-once writer.
    WriterKey,
    /// The id of the snapshot is new.
    SnapshotId,
    /// The policy `commit.merge` lets changes of this class be merged.
    Policy,
    /// The snapshot's new manifests are its own, and the others have the sequence numbers and row ids that they had.
    Manifest,
    /// The files that new manifests carry over are live in the base, with their partitions, sequence numbers and row ids.
    ExistingFile,
    /// The added files have the sequence number of the commit, and no row ids that it took.
    SequenceNumber,
    /// The added files are new: not live in the head, and not in quarantine.
    AddedPath,
    /// The operation of the snapshot fits its files, and says that it read nothing that the request does not show.
    Operation,
    /// The removed files are live in the head.
    RemovedFile,
    /// The deletes of the removed files are those of the base.
    NewDelete,
    /// Nothing was added to a partition that is overwritten without having had files.
    AddedPartition,
    /// The manifests to be compared, and their files, are no more than a merge may hold up the table for.
    TooManyFiles,
    /// The rows that are deleted by position are not those that another commit deleted since the base.
    SameRow,
    /// No delete of the base that applies to these data files is gone, and the commit's vectors contain those by position.
    LostDelete,
    /// A rewrite replaces data files by no more rows, adds no deletes, and keeps row ids.
    Rewrite,
    /// Commits of this kind are not merged yet.
    NotMergedYet,
    /// The manifests of the commit, of its base and of the head can be read, and the new list can be written. Its deletes by
    /// position, and those of its data files, are not too large to be compared.
    Unreadable,
}

impl MergeRule {
    /// All rules.
    pub const ALL: [Self; 26] = [
        Self::Requirements,
        Self::Updates,
        Self::Branch,
        Self::Ancestor,
        Self::Schema,
        Self::FormatVersion,
        Self::PartitionSpec,
        Self::Encryption,
        Self::Staged,
        Self::WriterKey,
        Self::SnapshotId,
        Self::Policy,
        Self::Manifest,
        Self::ExistingFile,
        Self::SequenceNumber,
        Self::AddedPath,
        Self::Operation,
        Self::RemovedFile,
        Self::NewDelete,
        Self::AddedPartition,
        Self::TooManyFiles,
        Self::SameRow,
        Self::LostDelete,
        Self::Rewrite,
        Self::NotMergedYet,
        Self::Unreadable,
    ];

    /// Returns the name of the rule, as answers, logs and metrics have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requirements => "requirements",
            Self::Updates => "updates",
            Self::Branch => "branch",
            Self::Ancestor => "ancestor",
            Self::Schema => "schema",
            Self::FormatVersion => "format-version",
            Self::PartitionSpec => "partition-spec",
            Self::Encryption => "encryption",
            Self::Staged => "staged",
            Self::WriterKey => "writer-key",
            Self::SnapshotId => "snapshot-id",
            Self::Policy => "policy",
            Self::Manifest => "manifest",
            Self::ExistingFile => "existing-file",
            Self::SequenceNumber => "sequence-number",
            Self::AddedPath => "added-path",
            Self::Operation => "operation",
            Self::RemovedFile => "removed-file",
            Self::NewDelete => "new-delete",
            Self::AddedPartition => "added-partition",
            Self::TooManyFiles => "too-many-files",
            Self::SameRow => "same-row",
            Self::LostDelete => "lost-delete",
            Self::Rewrite => "rewrite",
            Self::NotMergedYet => "not-merged-yet",
            Self::Unreadable => "unreadable",
        }
    }

    /// Makes the refusal of a commit that breaks the rule.
    pub fn refuse(self, why: impl Into<String>) -> Refusal {
        Refusal { rule: self, why: why.into() }
    }
}

impl fmt::Display for MergeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The reason why a late commit is not merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why} (rule {rule})")]
pub struct Refusal {
    /// The rule that the commit breaks.
    pub rule: MergeRule,
    /// What breaks it, with the file if it is one.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_page_about_the_catalog_lists_the_rules() {
        let page = include_str!("../../../../docs/catalog.md");
        let section = page.split("### Rules of merging").nth(1).expect("a section").split("\n#").next().expect("a table");
        let documented: BTreeSet<&str> = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let known: BTreeSet<&str> = MergeRule::ALL.into_iter().map(MergeRule::name).collect();
        assert_eq!((documented, known.len()), (known, MergeRule::ALL.len()));
    }
}
