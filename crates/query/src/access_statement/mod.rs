//! Statements about access control: grants and roles, changed and shown.
//!
//! The parser of SQL knows neither the things nor the members that Esker has, so [`parse`](parse::parse) reads the tokens itself. What
//! a caller may do is decided by `esker_auth`, as for the REST API. Nothing is looked up before the statement runs. Start reading at
//! [`AccessStatement`], then at `run.rs`.

mod parse;
mod run;
mod show;

use arrow::datatypes::SchemaRef;
use esker_access::{Member, SecurableKind};

pub(crate) use parse::parse;
pub(crate) use run::run;

use crate::change::count_schema;

/// A statement about access control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AccessStatement {
    /// `GRANT privileges ON thing TO member`.
    Grant(Privileges),
    /// `REVOKE privileges ON thing FROM member`.
    Revoke(Privileges),
    /// `GRANT ROLE role TO member`.
    AddMember {
        /// Name of the role.
        role: String,
        /// The member.
        member: Member,
    },
    /// `REVOKE ROLE role FROM member`.
    RemoveMember {
        /// Name of the role.
        role: String,
        /// The member.
        member: Member,
    },
    /// `CREATE ROLE [IF NOT EXISTS] role`.
    CreateRole {
        /// Name of the role.
        role: String,
        /// True if a role of that name is no error.
        if_not_exists: bool,
    },
    /// `DROP ROLE [IF EXISTS] role`.
    DropRole {
        /// Name of the role.
        role: String,
        /// True if a missing role is no error.
        if_exists: bool,
    },
    /// `SHOW GRANTS [ON thing] [TO member]`.
    ShowGrants {
        /// The thing that the grants are on.
        on: Option<Thing>,
        /// Holder of the grants.
        to: Option<Member>,
    },
    /// `SHOW GRANTS OF ROLE role`: the members of a role.
    ShowMembers {
        /// Name of the role.
        role: String,
    },
    /// `SHOW ROLES`.
    ShowRoles,
}

/// The privileges of a `GRANT` or `REVOKE`, on a thing and of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Privileges {
    /// Names of privileges and bundles, separated by commas.
    privileges: String,
    /// The thing.
    on: Thing,
    /// Kind of the future things in `on`; `None` for the thing itself.
    future: Option<SecurableKind>,
    /// Holder of the privileges.
    member: Member,
}

/// A thing as a statement names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thing {
    /// Kind of the thing.
    kind: SecurableKind,
    /// Parts of its name, the outermost first; none for the server.
    parts: Vec<String>,
}

impl AccessStatement {
    /// Checks that the statement changes rules: its result is a number of rows, which is 0.
    pub(crate) const fn changes_rules(&self) -> bool {
        !matches!(self, Self::ShowGrants { .. } | Self::ShowMembers { .. } | Self::ShowRoles)
    }

    /// Returns the name of the operation, as the audit trail has it.
    pub(crate) const fn operation(&self) -> &'static str {
        match self {
            Self::Grant(_) => "grant",
            Self::Revoke(_) => "revoke",
            Self::AddMember { .. } => "grant-role",
            Self::RemoveMember { .. } => "revoke-role",
            Self::CreateRole { .. } => "create-role",
            Self::DropRole { .. } => "drop-role",
            Self::ShowGrants { .. } | Self::ShowMembers { .. } => "show-grants",
            Self::ShowRoles => "show-roles",
        }
    }

    /// Returns the role that the statement changes, with the member if there is one, as the audit trail has it.
    pub(crate) fn role(&self) -> Option<String> {
        match self {
            Self::AddMember { role, member } | Self::RemoveMember { role, member } => Some(format!("{role}: {member}")),
            Self::CreateRole { role, .. } | Self::DropRole { role, .. } => Some(role.clone()),
            Self::Grant(_) | Self::Revoke(_) | Self::ShowGrants { .. } | Self::ShowMembers { .. } | Self::ShowRoles => None,
        }
    }

    /// Returns the schema of the result.
    pub(crate) fn schema(&self) -> SchemaRef {
        match self {
            Self::ShowGrants { .. } => show::schema(show::grant_columns()),
            Self::ShowMembers { .. } => show::schema(show::member_columns()),
            Self::ShowRoles => show::schema(show::role_columns()),
            Self::Grant(_)
            | Self::Revoke(_)
            | Self::AddMember { .. }
            | Self::RemoveMember { .. }
            | Self::CreateRole { .. }
            | Self::DropRole { .. } => count_schema(),
        }
    }
}
