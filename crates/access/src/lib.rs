//! Decides who may do what: privileges, roles, grants, access policies, row filters and column masks, and the rules that they make
//! together. The crate does no I/O.
//!
//! [`Rules`] are built once from plain rows of the state database. A [`Subject`] is one principal under these rules, with all its
//! roles. Protocols hold a [`Caller`], which is a subject with the facts of a request, and ask it what is allowed. Nothing is
//! allowed that no rule allows. `docs/security/access.md` explains the model. Start reading at [`Subject::decide`].

mod caller;
mod cedar;
mod change;
mod decide;
mod error;
mod explain;
mod index;
mod needs;
mod policy;
mod privilege;
mod restriction;
mod role;
mod rules;
mod securable;
mod subject;

#[cfg(test)]
mod documentation;
#[cfg(test)]
mod model;
#[cfg(test)]
mod samples;

pub use caller::{Caller, Record, RequestFacts, Unrecorded, WorthRecording};
pub use cedar::{PolicyAnswer, PolicyRequest, check_policy, evaluate_policy, grants_as_policies};
pub use change::RuleChange;
pub use decide::AccessDecision;
pub use error::RightsError;
pub use explain::{AccessExplanation, AccessVerdict, ExplainedGrant, ExplainedRole, ExplainedStep};
pub use needs::{Need, Needs, Required};
pub use policy::{AccessPolicies, MoveChanges, PolicyEffects, PolicyQuestion, PolicyScope, SubjectPolicies};
pub use privilege::{Bundle, Privilege, PrivilegeGroup, PrivilegeSet, parse_privileges};
pub use restriction::{ColumnMaskRow, CompareOp, FilterExpr, MaskAction, Restrictions, RowFilterRow};
pub use role::{
    ADMIN, ANONYMOUS, BREAK_GLASS, EVERYONE, Identity, LEGACY, Member, RESERVED_ROLES, TRUSTED_ENGINE, check_members_can_change,
    check_role_name,
};
pub use rules::{AccessMode, GrantRow, MemberRow, OwnerRow, PolicyRow, RoleRow, RuleRef, RuleRows, Rules};
pub use securable::{AUDIT_NAMESPACE, AUDIT_TABLE, Leaf, ResourcePath, Securable, SecurableKind, is_audit_table};
pub use subject::Subject;

/// The result of an operation on rules.
pub type Result<T> = std::result::Result<T, RightsError>;
