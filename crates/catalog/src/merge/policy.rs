//! The policy `commit.merge` of a table: which late commits of clients are merged.
//!
//! A policy belongs to a crate above this one, so the catalog is opened with a function that looks it up, like that of a freeze.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use esker_table::MergeClass;
use esker_table::properties::{DELETE_ISOLATION, Isolation, MERGE_ISOLATION, Property, UPDATE_ISOLATION};
use esker_types::TableName;

use crate::freeze::Namespaces;

/// The value of the policy `commit.merge`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MergePolicy {
    /// A late commit is refused, unless its branch has not moved.
    #[default]
    Off,
    /// Late appends are merged too.
    Append,
    /// All classes of commits are merged, under snapshot isolation.
    Snapshot,
}

impl MergePolicy {
    /// Checks whether commits of a class are merged.
    pub(crate) fn allows(self, class: MergeClass) -> bool {
        match self {
            Self::Off => class == MergeClass::Renumber,
            Self::Append => class <= MergeClass::Append,
            Self::Snapshot => true,
        }
    }
}

/// What the policies of a table say of merges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MergeSettings {
    /// The value of `commit.merge`.
    pub policy: MergePolicy,
    /// The value of `commit.writer-keys`: keys of summaries that name exactly-once writers, besides those that Esker knows.
    pub writer_keys: Vec<String>,
}

/// The lookup: it takes the properties of the table's namespaces, the table's name, and the table's properties.
type MergeLookup = dyn Fn(&Namespaces, &TableName, &BTreeMap<String, String>) -> MergeSettings + Send + Sync;

/// The lookup of the policies of a table that are about merges.
///
/// It sees the properties of the table's namespaces, the table's name, and the table's own properties.
#[derive(Clone)]
pub struct MergePolicies(Arc<MergeLookup>);

impl MergePolicies {
    /// Wraps a function that looks up the policies.
    pub fn new(of: impl Fn(&Namespaces, &TableName, &BTreeMap<String, String>) -> MergeSettings + Send + Sync + 'static) -> Self {
        Self(Arc::new(of))
    }

    /// Returns the policies of a table. Nothing is merged, whatever is said elsewhere, if the table says that its changes are
    /// serializable.
    pub(crate) fn of(&self, namespaces: &Namespaces, name: &TableName, own: &BTreeMap<String, String>) -> MergeSettings {
        match says_serializable(own) {
            true => MergeSettings::default(),
            false => (self.0)(namespaces, name, own),
        }
    }
}

impl fmt::Debug for MergePolicies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MergePolicies")
    }
}

/// Checks whether a table says of a kind of change that it is serializable. A value that can't be read counts as that.
///
/// A request does not tell what its statement read, so no merge can be more than snapshot isolation.
fn says_serializable(own: &BTreeMap<String, String>) -> bool {
    let says =
        |property: &Property<Isolation>| own.contains_key(property.key) && property.get_if_set(own) != Some(Isolation::Snapshot);
    [&DELETE_ISOLATION, &UPDATE_ISOLATION, &MERGE_ISOLATION].into_iter().any(says)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_says_serializable_is_not_merged_whatever_the_policy() {
        let policies = MergePolicies::new(|_, _, _| MergeSettings { policy: MergePolicy::Snapshot, writer_keys: Vec::new() });
        let name: TableName = "n.t".parse().expect("a name");
        let of = |own: &[(&str, &str)]| {
            let own = own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            policies.of(&Namespaces::new(), &name, &own).policy
        };
        assert_eq!(of(&[]), MergePolicy::Snapshot);
        assert_eq!(of(&[("write.merge.isolation-level", "snapshot")]), MergePolicy::Snapshot);
        for key in ["write.delete.isolation-level", "write.update.isolation-level", "write.merge.isolation-level"] {
            assert_eq!(of(&[(key, "serializable")]), MergePolicy::Off, "{key}");
            assert_eq!(of(&[(key, "snapshots")]), MergePolicy::Off, "{key}: what was meant is not known");
        }
    }

    #[test]
    fn each_policy_has_its_classes() {
        let allowed = |policy: MergePolicy| MergeClass::ALL.into_iter().filter(|class| policy.allows(*class)).count();
        assert_eq!([MergePolicy::Off, MergePolicy::Append, MergePolicy::Snapshot].map(allowed), [1, 2, 7]);
    }
}
