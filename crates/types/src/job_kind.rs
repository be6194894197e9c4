//! The kinds of maintenance jobs, as records, routes, metrics and policies name them.
//!
//! A kind is a value of this enum everywhere but in stored records: a later version may have written a kind that this one has not.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kind of a maintenance job.
///
/// ```
/// use esker_types::JobKind;
///
/// assert_eq!("expire".parse(), Ok(JobKind::Expire));
/// let error = "expiry".parse::<JobKind>().expect_err("no such kind");
/// assert!(error.to_string().contains("the kinds are compact, expire"), "{error}");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobKind {
    /// Rewrites data files or deletes.
    Compact,
    /// Expires snapshots.
    Expire,
    /// Quarantines orphan files.
    Orphans,
    /// Rewrites manifests.
    Manifests,
    /// Counts distinct values.
    Statistics,
    /// Removes deleted rows from storage.
    Erase,
    /// Verifies a table's metadata and files, and changes nothing.
    Check,
}

impl JobKind {
    /// Every kind, in the order in which they are listed.
    pub const ALL: [Self; 7] =
        [Self::Compact, Self::Expire, Self::Orphans, Self::Manifests, Self::Statistics, Self::Erase, Self::Check];

    /// Returns the name of the kind in records, routes, metrics and policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Compact => "compact",
            Self::Expire => "expire",
            Self::Orphans => "orphans",
            Self::Manifests => "manifests",
            Self::Statistics => "statistics",
            Self::Erase => "erase",
            Self::Check => "check",
        }
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A name that is no kind of job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no kind of job; the kinds are {}", JobKind::ALL.map(JobKind::as_str).join(", "))]
pub struct NoSuchKind {
    /// The name.
    pub name: String,
}

impl FromStr for JobKind {
    type Err = NoSuchKind;

    fn from_str(name: &str) -> Result<Self, NoSuchKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| NoSuchKind { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_listed_once_and_has_one_name_everywhere() {
        for kind in JobKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).expect("JSON"), kind.as_str());
            assert_eq!(JobKind::ALL.iter().filter(|other| **other == kind).count(), 1);
        }
        assert!("compaction".parse::<JobKind>().expect_err("no kind").to_string().contains("compact, expire"));
    }
}
