//! The error of this crate, and its mapping to [`ErrorCode`].

use esker_types::{Coded, ErrorCode};

use crate::{Bundle, MaskAction, Privilege, PrivilegeSet, Required, SecurableKind};

/// The error of rules that can't be made, or of a request that the rules refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RightsError {
    /// The rules refuse a request on a securable that the principal may see.
    #[error("{principal} lacks {missing} on {on}; {}", way_out(*kind))]
    Denied {
        /// Name of the principal.
        principal: String,
        /// Kind of the securable.
        kind: SecurableKind,
        /// Kind and name of the securable.
        on: String,
        /// Privileges that the principal would need besides those that it has.
        missing: Required,
    },
    /// An access policy forbids a request on a securable that the principal may see. A grant does not help.
    #[error("{principal} lacks {missing} on {on}: the access policy {policy} forbids it")]
    Forbidden {
        /// Name of the principal.
        principal: String,
        /// Kind and name of the securable.
        on: String,
        /// Privileges that the principal lacks.
        missing: Required,
        /// Id of the policy.
        policy: String,
    },
    /// The rules refuse a request on a securable that the principal may not see, so the answer is that it does not exist.
    ///
    /// The text is that of the state database's error for a name that does not exist.
    #[error("{}", does_not_exist(*kind, name))]
    Hidden {
        /// Kind of the securable.
        kind: SecurableKind,
        /// Name of the securable.
        name: String,
    },
    /// The request would change the table of the audit trail, which only Esker itself writes.
    #[error("{principal} can't have {missing} on the audit trail ({on}): only Esker writes it, and nothing can be granted there")]
    AuditTrail {
        /// Name of the principal.
        principal: String,
        /// Kind and name of the securable.
        on: String,
        /// Privileges that the principal would need.
        missing: Required,
    },
    /// A role would be a member of itself through other roles.
    #[error("the roles {} would be members of each other; remove one of these memberships", roles.join(", "))]
    RoleCycle {
        /// Names of the roles, each a member of the next, and the last of the first.
        roles: Vec<String>,
    },
    /// A membership or a grant names a role that does not exist.
    #[error("there is no role {name}; create it first")]
    NoSuchRole {
        /// Name of the role.
        name: String,
    },
    /// A role of this name exists.
    #[error("the role {name} already exists")]
    RoleExists {
        /// Name of the role.
        name: String,
    },
    /// A role always exists.
    #[error("the role {name} always exists; remove its members or its grants instead")]
    ReservedRole {
        /// Name of the role.
        name: String,
    },
    /// A role does not have the member.
    #[error("{member} is no member of the role {role}")]
    NoSuchMember {
        /// Name of the role.
        role: String,
        /// The member.
        member: String,
    },
    /// There is no such grant.
    #[error("there is no grant {what}; the list of grants shows all")]
    NoSuchGrant {
        /// The grant, in words that follow "grant".
        what: String,
    },
    /// A text names no member.
    #[error("{text:?} can't be a member: {why}")]
    BadMember {
        /// The text.
        text: String,
        /// The reason, with the way out.
        why: &'static str,
    },
    /// A name can't be that of a role.
    #[error("{name:?} can't be the name of a role: {why}")]
    BadRoleName {
        /// The name.
        name: String,
        /// The reason, with the way out.
        why: &'static str,
    },
    /// The server alone decides who the members of a role are.
    #[error("the members of {role} can't be changed: the server decides who they are; use another role")]
    FixedMembers {
        /// Name of the role.
        role: String,
    },
    /// A name is neither a privilege nor a bundle.
    #[error(
        "{name:?} is no privilege; the bundles are {}, the privileges {}",
        Bundle::ALL.map(Bundle::as_str).join(", "),
        Privilege::ALL.map(Privilege::as_str).join(", ")
    )]
    UnknownPrivilege {
        /// The name.
        name: String,
    },
    /// Privileges can't be granted on a kind of securable.
    #[error("{privileges} can't be granted on a {kind}; a {kind} has {}", kind.privileges())]
    NotGrantable {
        /// The privileges.
        privileges: PrivilegeSet,
        /// The kind of securable.
        kind: SecurableKind,
    },
    /// A grant has no privilege.
    #[error("the grant names no privilege that applies; name at least one")]
    NoPrivileges,
    /// A grant is on future things of a kind that can't lie in its container.
    #[error("a {container} contains no {kind}; grant on future things of another kind")]
    NoSuchFuture {
        /// Kind of the container.
        container: SecurableKind,
        /// Kind of the future things.
        kind: SecurableKind,
    },
    /// There is no such row filter or column mask.
    #[error("there is no {what}; the list of the table's restrictions shows all")]
    NoSuchRestriction {
        /// The restriction.
        what: String,
    },
    /// A row filter or a column mask names a role that was to be dropped.
    #[error("a row filter or column mask of the table with the id {table} names the {role}; remove that filter or mask first")]
    RoleInRestrictions {
        /// The role.
        role: String,
        /// Id of the table.
        table: String,
    },
    /// There are no access policies under a name.
    #[error("there is no access policy {name}; the list of policies shows all")]
    NoSuchPolicy {
        /// The name.
        name: String,
    },
    /// Access policies can't have a name.
    #[error("{name:?} can't be the name of an access policy: {why}")]
    BadPolicyName {
        /// The name.
        name: String,
        /// The reason, with the way out.
        why: &'static str,
    },
    /// A row filter can't be read or stored.
    #[error("the row filter can't be used: {why}")]
    BadFilter {
        /// The reason, with the way out.
        why: String,
    },
    /// A column mask does not fit its field.
    #[error("the column mask can't be set: {why}")]
    BadMask {
        /// The reason, with the way out.
        why: String,
    },
    /// The text of an access policy can't be used.
    #[error("the policy {name} can't be used: line {line}, column {column}: {what}")]
    BadPolicy {
        /// Name of the policy.
        name: String,
        /// Line of the text, from one.
        line: usize,
        /// Column of the line in characters, from one.
        column: usize,
        /// What is wrong, and what is known.
        what: String,
    },
    /// A name is no action of a column mask.
    #[error("{name:?} is no action of a column mask; the actions are {}", MaskAction::ALL.map(MaskAction::as_str).join(", "))]
    UnknownAction {
        /// The name.
        name: String,
    },
}

impl Coded for RightsError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Denied { .. } | Self::Forbidden { .. } | Self::AuditTrail { .. } => ErrorCode::Forbidden,
            Self::Hidden { kind, .. } => match kind {
                SecurableKind::Server => ErrorCode::Forbidden,
                SecurableKind::Warehouse => ErrorCode::NoSuchWarehouse,
                SecurableKind::Namespace => ErrorCode::NoSuchNamespace,
                SecurableKind::Table => ErrorCode::NoSuchTable,
                SecurableKind::View => ErrorCode::NoSuchView,
                SecurableKind::Function => ErrorCode::NotFound,
            },
            Self::NoSuchRole { .. }
            | Self::NoSuchMember { .. }
            | Self::NoSuchGrant { .. }
            | Self::NoSuchRestriction { .. }
            | Self::NoSuchPolicy { .. } => ErrorCode::NotFound,
            Self::RoleExists { .. } => ErrorCode::AlreadyExists,
            Self::RoleCycle { .. } | Self::FixedMembers { .. } | Self::ReservedRole { .. } | Self::RoleInRestrictions { .. } => {
                ErrorCode::Unprocessable
            }
            Self::BadRoleName { .. }
            | Self::BadPolicyName { .. }
            | Self::BadMember { .. }
            | Self::UnknownPrivilege { .. }
            | Self::NotGrantable { .. }
            | Self::NoPrivileges
            | Self::NoSuchFuture { .. }
            | Self::BadFilter { .. }
            | Self::BadMask { .. }
            | Self::BadPolicy { .. }
            | Self::UnknownAction { .. } => ErrorCode::BadRequest,
        }
    }
}

/// Returns the end of a refusal: who can grant what is missing.
const fn way_out(kind: SecurableKind) -> &'static str {
    match kind {
        SecurableKind::Server => "a principal with MANAGE_ACCESS can grant it",
        _ => "a principal with MANAGE_GRANTS there can grant it",
    }
}

/// Returns the text of an error about a name that does not exist.
fn does_not_exist(kind: SecurableKind, name: &str) -> String {
    match kind {
        SecurableKind::Server => "the server refuses the request".to_owned(),
        SecurableKind::Warehouse => format!("warehouse {name} does not exist"),
        SecurableKind::Namespace => format!("Namespace does not exist: {name}"),
        SecurableKind::Table => format!("Table does not exist: {name}"),
        SecurableKind::View => format!("View does not exist: {name}"),
        SecurableKind::Function => format!("Function does not exist: {name}"),
    }
}
