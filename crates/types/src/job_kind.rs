//! The kinds of maintenance jobs, as records, routes, metrics and policies name them.
//!
//! A kind is a value of this enum everywhere but in stored records: a later version may have written a kind that this one has not.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Makes the enum, the list of all kinds and their names of one list, so that no kind can be missing in one of them.
macro_rules! job_kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
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
            $($(#[$doc])* $kind,)*
        }

        impl JobKind {
            /// Every kind, in the order in which they are listed.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// Returns the name of the kind in records, routes, metrics and policies.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

job_kinds! {
    /// Rewrites data files or deletes.
    Compact = "compact",
    /// Expires snapshots.
    Expire = "expire",
    /// Quarantines orphan files.
    Orphans = "orphans",
    /// Rewrites manifests.
    Manifests = "manifests",
    /// Counts distinct values.
    Statistics = "statistics",
    /// Removes deleted rows from storage.
    Erase = "erase",
    /// Verifies a table's metadata and files, and changes nothing.
    Check = "check",
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
