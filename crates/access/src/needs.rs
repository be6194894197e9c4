//! Needs: the privileges that a request must have on one securable or several.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Privilege, PrivilegeSet, ResourcePath};

/// Privileges that a request needs on one securable: all of one set, and one of another.
///
/// ```
/// use esker_access::{Privilege, PrivilegeSet, Required};
///
/// let writers = PrivilegeSet::of(&[Privilege::Append, Privilege::Modify, Privilege::Rewrite]);
/// let required = Required::privilege(Privilege::ReadData).and_any_of(writers);
/// assert_eq!(required.to_string(), "READ_DATA and one of APPEND, MODIFY, REWRITE");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Required {
    /// Privileges that are all needed.
    all: PrivilegeSet,
    /// Privileges of which one is needed; if the list is empty, none is.
    any_of: PrivilegeSet,
}

impl Required {
    /// Needs no privilege, but to see the securable.
    pub const NOTHING: Self = Self::all(PrivilegeSet::EMPTY);

    /// Needs one privilege.
    pub const fn privilege(privilege: Privilege) -> Self {
        Self::all(PrivilegeSet::of(&[privilege]))
    }

    /// Needs all privileges of a set.
    pub const fn all(privileges: PrivilegeSet) -> Self {
        Self { all: privileges, any_of: PrivilegeSet::EMPTY }
    }

    /// Needs one privilege of a set; nothing, if the set is empty.
    pub const fn any_of(privileges: PrivilegeSet) -> Self {
        Self { all: PrivilegeSet::EMPTY, any_of: privileges }
    }

    /// Needs all privileges of another set too.
    #[must_use]
    pub const fn and(self, privileges: PrivilegeSet) -> Self {
        Self { all: self.all.union(privileges), ..self }
    }

    /// Needs one privilege of a set too. A second set is possible only if it is the same as the first.
    #[must_use]
    pub const fn and_any_of(self, privileges: PrivilegeSet) -> Self {
        let is_same = privileges.contains(self.any_of) && self.any_of.contains(privileges);
        debug_assert!(self.any_of.is_empty() || is_same, "one of each of two sets can't be needed");
        Self { any_of: privileges, ..self }
    }

    /// Checks that a set of privileges is enough.
    pub const fn is_met_by(self, held: PrivilegeSet) -> bool {
        held.contains(self.all) && (self.any_of.is_empty() || held.intersects(self.any_of))
    }

    /// Returns what a set of privileges lacks.
    #[must_use]
    pub const fn missing_from(self, held: PrivilegeSet) -> Self {
        let any_of = if held.intersects(self.any_of) { PrivilegeSet::EMPTY } else { self.any_of };
        Self { all: self.all.without(held), any_of }
    }

    /// Returns the privileges that are named.
    pub const fn named(self) -> PrivilegeSet {
        self.all.union(self.any_of)
    }
}

/// Prints the names: `DROP, PURGE`, or `MODIFY and one of REWRITE, MAINTAIN`.
impl fmt::Display for Required {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.all.is_empty(), self.any_of.is_empty()) {
            (true, true) => f.write_str("nothing"),
            (_, true) => self.all.fmt(f),
            (true, _) => write!(f, "one of {}", self.any_of),
            _ => write!(f, "{} and one of {}", self.all, self.any_of),
        }
    }
}

/// A securable, and the privileges that a request needs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need<'a> {
    /// The securable.
    pub on: ResourcePath<'a>,
    /// The privileges.
    pub required: Required,
}

impl<'a> Need<'a> {
    /// Needs one privilege on a securable.
    pub const fn new(on: ResourcePath<'a>, privilege: Privilege) -> Self {
        Self { on, required: Required::privilege(privilege) }
    }

    /// Checks that the need is to change the table of the audit trail, which only Esker itself may, whatever the rules say.
    pub fn changes_audit_table(&self) -> bool {
        self.on.is_audit_table() && !self.required.is_met_by(PrivilegeSet::READS_OF_AUDIT)
    }

    /// Returns the two ways to grant or revoke privileges on a securable. Use them as [`Needs::AnyOf`].
    ///
    /// Nobody grants what they don't have there, except who manages access on the server.
    pub const fn to_grant(on: ResourcePath<'a>, privileges: PrivilegeSet) -> [Self; 2] {
        let required = Required::privilege(Privilege::ManageGrants).and(privileges);
        [Self { on, required }, Self::new(ResourcePath::SERVER, Privilege::ManageAccess)]
    }
}

/// The privileges that a request needs on several securables. In the modes off and report they refuse nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs<'a> {
    /// Every need must be met.
    All(&'a [Need<'a>]),
    /// One need must be met. The first is the one that a refusal is about. Without any, `MANAGE_ACCESS` on the server is needed.
    AnyOf(&'a [Need<'a>]),
}

impl<'a> From<&'a Need<'a>> for Needs<'a> {
    fn from(need: &'a Need<'a>) -> Self {
        Self::All(std::slice::from_ref(need))
    }
}
