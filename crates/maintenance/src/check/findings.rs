//! The findings of a check: their kinds, and the repair for each.

use std::fmt;

use esker_table::LiveFile;
use esker_types::{JobId, without_path};
use serde::{Deserialize, Serialize};

/// The kind of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckFindingKind {
    /// A manifest or manifest list that can't be read.
    UnreadableManifest,
    /// A manifest whose partition spec the table does not have.
    UnknownSpec,
    /// A snapshot whose schema the table does not have.
    UnknownSchema,
    /// Metadata that breaks a rule of the specification.
    BrokenRule,
    /// A manifest or manifest list of an earlier snapshot that can't be read.
    UnreadableSnapshot,
    /// A file that is not in storage.
    MissingFile,
    /// A file whose size is not the one in its manifest.
    WrongSize,
    /// A data file that can't be decoded, a delete file that does not say which rows it deletes, or a file that the storage denies.
    UnreadableFile,
    /// A data file whose number of rows is not the one in its manifest.
    WrongRecordCount,
    /// Rows that don't belong to their file's partition.
    WrongPartition,
    /// A number of NaN values that is not the one in the manifest.
    NanCount,
    /// NULL in rows that are older than a field, where they should have its default.
    LostDefault,
    /// Two deletion vectors about one data file.
    TwoVectors,
    /// A delete file about a data file that is not in the table.
    DeleteWithoutFile,
    /// A data file with more than one entry: readers return its rows once for each.
    RepeatedFile,
    /// A manifest whose number of files is not the one in the manifest list.
    WrongFileCount,
    /// Nulls in a column that is required.
    NullInRequired,
}

impl CheckFindingKind {
    /// Returns the name of the kind in JSON and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnreadableManifest => "unreadable-manifest",
            Self::UnknownSpec => "unknown-spec",
            Self::UnknownSchema => "unknown-schema",
            Self::BrokenRule => "broken-rule",
            Self::UnreadableSnapshot => "unreadable-snapshot",
            Self::MissingFile => "missing-file",
            Self::WrongSize => "wrong-size",
            Self::UnreadableFile => "unreadable-file",
            Self::WrongRecordCount => "wrong-record-count",
            Self::WrongPartition => "wrong-partition",
            Self::NanCount => "nan-count",
            Self::LostDefault => "lost-default",
            Self::TwoVectors => "two-vectors",
            Self::DeleteWithoutFile => "delete-without-file",
            Self::RepeatedFile => "repeated-file",
            Self::WrongFileCount => "wrong-file-count",
            Self::NullInRequired => "null-in-required",
        }
    }

    /// Describes what a person can do if an undo does not help.
    pub const fn repair(self) -> &'static str {
        match self {
            Self::UnreadableManifest | Self::MissingFile | Self::WrongSize | Self::UnreadableFile => {
                "bring the file back from the store's versions or a backup, or roll back to a snapshot without it, or delete it \
                 from the table with an engine that can"
            }
            Self::UnknownSpec | Self::UnknownSchema => {
                "other engines can't read the snapshot: move main and the branches to another one, and copy its rows with INSERT \
                 from that version of the table; or let it expire"
            }
            Self::BrokenRule => {
                "Esker still reads the table, but other engines may refuse it: correct the metadata with the engine that wrote it, \
                 or let the snapshot expire. Esker refuses commits that break more rules"
            }
            Self::UnreadableSnapshot => {
                "bring the file back from the store's versions or a backup; or drop the branches and tags that need the snapshot, \
                 and expire it: esker maintain expire TABLE --older-than AGE. Until then orphan scans and erasures are refused"
            }
            Self::WrongRecordCount => "read the file without the table, delete it from the table, and INSERT its rows",
            Self::WrongPartition => {
                "read the file without the table (its column has the true values), delete it from the table, and INSERT its rows"
            }
            Self::NanCount => "rewrite the file: esker maintain compact TABLE --option rewrite-all=true --option splice=false",
            Self::LostDefault => "UPDATE the column to its default where NULL was not meant",
            Self::TwoVectors => "find the right one by the snapshots that added them, and DELETE its rows again",
            Self::DeleteWithoutFile => {
                "it does no harm; esker maintain compact TABLE --strategy convert-deletes removes it, if no file of an earlier \
                 snapshot is missing"
            }
            Self::RepeatedFile => {
                "if the copies were not meant: read the file without the table, DELETE its rows, and INSERT them once"
            }
            Self::WrongFileCount => {
                "rewrite the manifests: esker maintain manifests TABLE --rewrite-all. Readers that trust the count skip files"
            }
            Self::NullInRequired => "make the column optional, or UPDATE it where it is NULL: some engines can't read such rows",
        }
    }

    /// Checks whether an undo of the job that wrote the file may repair it.
    pub(super) const fn is_job_mistake(self) -> bool {
        matches!(self, Self::WrongPartition | Self::NanCount | Self::LostDefault | Self::WrongRecordCount)
    }
}

/// A finding: something that is wrong with a file, or may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CheckFinding {
    /// The kind of the finding.
    pub kind: CheckFindingKind,
    /// Location of the file.
    pub path: String,
    /// Full name of the column, if the finding is about one.
    pub column: Option<String>,
    /// Description of the finding, for people.
    pub what: String,
    /// False for a suspicion. Reading the file (`--files`) decides; for lost defaults only while the inputs of the compaction are
    /// in storage.
    pub certain: bool,
    /// Number of wrong rows, if they were counted.
    pub rows: Option<u64>,
    /// Some values of the wrong rows.
    pub sample: Vec<String>,
    /// Id of the snapshot that added the file, or that the finding is about.
    pub snapshot_id: Option<i64>,
    /// Id of the Esker job that wrote the file, if one did.
    pub job: Option<JobId>,
    /// The job or snapshot that wrote the file, in words, if it is known.
    pub written_by: Option<String>,
    /// Description of whether an undo of the job is possible, if it would help.
    pub undo: Option<String>,
    /// Description of what else a person can do.
    pub repair: String,
}

impl CheckFinding {
    /// Creates a certain finding about a path. If `what` begins with the path, as errors do, the path is left out.
    pub(super) fn new(kind: CheckFindingKind, path: &str, what: String) -> Self {
        Self {
            kind,
            path: path.to_owned(),
            column: None,
            what: without_path(&what, path).to_owned(),
            certain: true,
            rows: None,
            sample: Vec::new(),
            snapshot_id: None,
            job: None,
            written_by: None,
            undo: None,
            repair: kind.repair().to_owned(),
        }
    }

    /// Creates a certain finding about a live file, with the snapshot that added it.
    pub(super) fn of(kind: CheckFindingKind, file: &LiveFile, what: String) -> Self {
        Self { snapshot_id: Some(file.snapshot_id), ..Self::new(kind, &file.file.file_path, what) }
    }
}

impl fmt::Display for CheckFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let maybe = if self.certain { "" } else { " (perhaps)" };
        write!(f, "{}{maybe}: {}", self.kind.as_str(), self.path)?;
        if let Some(column) = &self.column {
            write!(f, ", column {column}")?;
        }
        write!(f, ": {}", self.what)?;
        if let Some(by) = &self.written_by {
            write!(f, "; written by {by}")?;
        }
        Ok(())
    }
}
