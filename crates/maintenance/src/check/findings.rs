use std::fmt;

use esker_table::LiveFile;
use esker_types::JobId;
use serde::{Deserialize, Serialize};

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckFindingKind {
    /// A manifest or manifest list that can't be read.
    UnreadableManifest,
    /// A manifest of a partition spec that the table has not.
    UnknownSpec,
    /// A snapshot of a schema that the table has not.
    UnknownSchema,
    /// Metadata that breaks a rule of the specification.
    BrokenRule,
    /// A manifest or manifest list of an earlier snapshot that can't be read.
    UnreadableSnapshot,
    /// A file that is not in storage.
    MissingFile,
    /// A file of another size than its manifest says.
    WrongSize,
    /// A data file that can't be decoded.
    UnreadableFile,
    /// A data file with another number of rows than its manifest says.
    WrongRecordCount,
    /// Rows that don't belong to their file's partition.
    WrongPartition,
    /// Rows with NaN where the manifest says that there are none.
    NanCount,
    /// NULL in rows that are older than a field, where they should have its default.
    LostDefault,
    /// Two deletion vectors about one data file.
    TwoVectors,
    /// A delete file about a data file that is not in the table.
    DeleteWithoutFile,
    /// A data file with more than one entry: readers see its rows as often.
    RepeatedFile,
    /// A manifest with another number of files than the manifest list says.
    WrongFileCount,
    /// Nulls in a column that is required.
    NullInRequired,
}

impl CheckFindingKind {
    /// As JSON and the log have it.
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

    /// What can be done where an undo is none.
    pub const fn repair(self) -> &'static str {
        match self {
            Self::UnreadableManifest | Self::MissingFile | Self::WrongSize | Self::UnreadableFile => {
                "bring the file back from the store's versions or a backup; or roll back to a snapshot without it; or delete it from \
                 the table with an engine that can"
            }
            Self::UnknownSpec | Self::UnknownSchema => {
                "other engines can't read the snapshot: move main and the branches to one without it, and take its rows over by INSERT from \
                 its version; or let it expire"
            }
            Self::BrokenRule => {
                "Esker reads the table all the same, and takes no commit that breaks more; change what breaks the rule with the engine that \
                 wrote it, or let the snapshot expire: other engines may refuse the table"
            }
            Self::UnreadableSnapshot => {
                "bring the file back from the store's versions or a backup; or expire the snapshot, after dropping what branch or tag needs \
                 it: esker maintain expire TABLE --older-than AGE. Until then orphans are not looked for, and nothing is erased"
            }
            Self::WrongRecordCount => "read the file by itself, delete it from the table, and insert its rows",
            Self::WrongPartition => {
                "read the file by itself (its column has the true values), delete it from the table, and insert its rows"
            }
            Self::NanCount => "rewrite the file: esker maintain compact TABLE --option rewrite-all=true --option splice=false",
            Self::LostDefault => "UPDATE the column to its default where NULL was not meant",
            Self::TwoVectors => "find out which is right by the snapshots that added them, and delete those rows anew",
            Self::DeleteWithoutFile => {
                "it does no harm; esker maintain compact TABLE --strategy convert-deletes drops it, if no earlier snapshot's file is missing"
            }
            Self::RepeatedFile => {
                "if its rows were not meant to be there as often: read the file by itself, DELETE its rows, and INSERT them once"
            }
            Self::WrongFileCount => {
                "count anew: esker maintain manifests TABLE --option rewrite-all=true. Readers that trust the count pass over files"
            }
            Self::NullInRequired => "make the column optional, or UPDATE it where it is NULL: some engines can't read such rows",
        }
    }

    /// Whether an undo of the job that wrote the file puts it right.
    pub(super) const fn is_of_a_job(self) -> bool {
        matches!(self, Self::WrongPartition | Self::NanCount | Self::LostDefault | Self::WrongRecordCount)
    }
}

/// Something that is wrong with a file, or may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckFinding {
    /// What.
    pub kind: CheckFindingKind,
    /// The file.
    pub path: String,
    /// The column, where it is about one.
    pub column: Option<String>,
    /// In words.
    pub what: String,
    /// False if it only may be so: reading the file (`--files`) tells, of lost defaults only while the older files are there.
    pub certain: bool,
    /// How many rows it is about, if they were counted.
    pub rows: Option<u64>,
    /// Some of their values.
    pub sample: Vec<String>,
    /// The snapshot that added the file.
    pub snapshot_id: Option<i64>,
    /// The job of Esker's that wrote it.
    pub job: Option<JobId>,
    /// Who wrote it, as far as it is known.
    pub written_by: Option<String>,
    /// Whether an undo of the job puts it right.
    pub undo: Option<String>,
    /// What can be done otherwise.
    pub repair: String,
}

impl CheckFinding {
    pub(super) fn new(kind: CheckFindingKind, path: &str, what: String) -> Self {
        Self {
            kind,
            path: path.to_owned(),
            column: None,
            what,
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
