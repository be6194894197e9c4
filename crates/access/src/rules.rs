//! The rules: roles, members, grants, row filters, column masks and access policies of one version, indexed for decisions.
//!
//! They are built from plain rows and never change. The server loads a new version after each change, and swaps it for the old one.
//! Whoever wants to change a row builds the rules with it first: what the rules refuse is not stored.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use esker_types::TableId;
use serde::{Deserialize, Serialize};

use crate::index::{GrantIndex, IndexedGrant};
use crate::restriction::RestrictionIndex;
use crate::role::{ADMIN, Held, Members};
use crate::{
    AccessPolicies, Bundle, ColumnMaskRow, Identity, Member, PolicyScope, Privilege, PrivilegeSet, ResourcePath, Result,
    RightsError, RowFilterRow, Securable, SecurableKind, SubjectPolicies,
};

/// The mode of access control: it says if refusals count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessMode {
    /// Everything is allowed, and nothing is decided.
    #[default]
    Off,
    /// Everything is decided and allowed; refusals are reported.
    Report,
    /// Refusals count.
    On,
}

impl AccessMode {
    /// Returns the name of the mode, as in texts, the API and the state database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Report => "report",
            Self::On => "on",
        }
    }

    /// Returns the mode that a name stands for.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Off, Self::Report, Self::On].into_iter().find(|mode| mode.as_str() == name)
    }
}

/// A role, as the state database stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRow {
    /// Name of the role.
    pub name: String,
}

/// A membership, as the state database stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRow {
    /// Name of the role.
    pub role: String,
    /// Member of the role.
    pub member: Member,
}

/// A grant, as the state database stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct GrantRow {
    /// Id of the grant, which explanations and the audit name.
    pub id: String,
    /// Holder of the privileges.
    pub to: Member,
    /// Thing that the privileges are granted on. They count for everything that it contains too.
    pub on: Securable,
    /// The privileges. Those that a thing of this kind does not have are ignored.
    pub privileges: PrivilegeSet,
    /// Kind of the things that get a copy of the grant when they are created in `on`; null for a grant that counts by itself.
    pub future: Option<SecurableKind>,
}

/// The owner of a table or view, as the state database stores it. An owner has the privileges of [`Bundle::Own`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerRow {
    /// Id of the table or view.
    pub table: TableId,
    /// The owner: a user or a client.
    pub owner: Member,
}

/// Access policies under one name, as the state database stores them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PolicyRow {
    /// Name of the policies. Explanations name a policy by it.
    pub name: String,
    /// One or more policies in the language Cedar.
    pub text: String,
}

/// The rows that rules are built from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleRows {
    /// Number of the rules' version, which grows with each change.
    pub version: i64,
    /// Mode of access control.
    pub mode: AccessMode,
    /// Roles besides those that the server always has.
    pub roles: Vec<RoleRow>,
    /// Memberships.
    pub members: Vec<MemberRow>,
    /// Grants.
    pub grants: Vec<GrantRow>,
    /// Owners of tables and views.
    pub owners: Vec<OwnerRow>,
    /// Row filters of tables.
    pub filters: Vec<RowFilterRow>,
    /// Column masks of tables.
    pub masks: Vec<ColumnMaskRow>,
    /// Access policies, sorted by name.
    pub policies: Vec<PolicyRow>,
}

/// The rule that a decision follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleRef {
    /// Access control is off.
    Off,
    /// The subject is a member of [`BREAK_GLASS`](crate::BREAK_GLASS).
    BreakGlass,
    /// Nothing was needed.
    NothingNeeded,
    /// The subject is a member of [`ADMIN`].
    Admin,
    /// The subject owns the table or view.
    Owner,
    /// A grant, by its place among the rows. [`Rules::rule_name`] gives its id.
    Grant(u32),
    /// An access policy that permits it, by its number.
    Policy(u32),
}

/// The rules of one version.
#[derive(Debug)]
pub struct Rules {
    version: i64,
    mode: AccessMode,
    pub(crate) members: Members,
    pub(crate) index: GrantIndex,
    pub(crate) restrictions: RestrictionIndex,
    grants: Vec<GrantRow>,
    policies: Option<Arc<dyn AccessPolicies>>,
    /// The owners of tables and views.
    owners: HashMap<TableId, Member>,
}

impl Rules {
    /// Builds the rules.
    ///
    /// # Errors
    ///
    /// - Returns [`RightsError::NoSuchRole`] if a membership, a grant, a row filter or a column mask names a role that does not
    ///   exist.
    /// - Returns [`RightsError::RoleCycle`] if roles are members of each other.
    /// - Returns [`RightsError::NoSuchFuture`] if a grant is on future things of a kind that its container can't have.
    /// - Returns [`RightsError::BadPolicy`] if an access policy can't be read. Rules without it would allow what it forbids.
    pub fn build(rows: RuleRows) -> Result<Self> {
        let mut members = Members::new(&rows.roles, &rows.members)?;
        let mut entries = Vec::with_capacity(rows.grants.len() + rows.owners.len() + 1);
        for (at, grant) in (0..).zip(&rows.grants) {
            let to = members.known(&grant.to)?;
            if let Some(kind) = grant.future {
                let container = grant.on.kind();
                if !container.can_contain(kind) || kind == SecurableKind::Warehouse {
                    return Err(RightsError::NoSuchFuture { container, kind });
                }
                continue;
            }
            let privileges = grant.privileges.intersection(grant.on.kind().privileges());
            entries.push(IndexedGrant { on: Cow::Borrowed(&grant.on), to, privileges, rule: RuleRef::Grant(at) });
        }
        for row in &rows.owners {
            let privileges = Bundle::Own.privileges(SecurableKind::Table, PrivilegeSet::EMPTY);
            let on = Cow::Owned(Securable::Table { table: row.table });
            entries.push(IndexedGrant { on, to: members.known(&row.owner)?, privileges, rule: RuleRef::Owner });
        }
        let admin = members.known(&Member::role(ADMIN))?;
        let (on, privileges) = (Cow::Owned(Securable::Server), PrivilegeSet::ALL);
        entries.push(IndexedGrant { on, to: admin, privileges, rule: RuleRef::Admin });
        let index = GrantIndex::new(entries);
        let restrictions = RestrictionIndex::new(rows.filters, rows.masks, &mut members)?;
        let policies = crate::cedar::compile(&rows.policies)?;
        let owners = rows.owners.into_iter().map(|row| (row.table, row.owner)).collect();
        let (version, mode, grants) = (rows.version, rows.mode, rows.grants);
        Ok(Self { version, mode, members, index, restrictions, grants, policies, owners })
    }

    /// Replaces the access policies of the rules by those of a test.
    #[cfg(test)]
    pub(crate) fn with_policies(self, policies: Arc<dyn AccessPolicies>) -> Self {
        Self { policies: Some(policies), ..self }
    }

    /// Checks that there are access policies.
    pub const fn has_policies(&self) -> bool {
        self.policies.is_some()
    }

    /// Selects the access policies that can apply to an identity.
    pub(crate) fn policies_for(&self, identity: &Identity, held: &[Held]) -> Option<Box<dyn SubjectPolicies>> {
        let policies = self.policies.as_ref()?;
        // Not from `held`: it has no principal and no claim that only a policy names.
        let own = identity.members();
        let roles = held.iter().map(|held| self.members.member(held.id)).filter(|member| matches!(member, Member::Role { .. }));
        let members: Vec<&Member> = own.iter().chain(roles).collect();
        policies.select(identity, &members)
    }

    /// Returns the number of the version.
    pub const fn version(&self) -> i64 {
        self.version
    }

    /// Returns the mode of access control.
    pub const fn mode(&self) -> AccessMode {
        self.mode
    }

    /// Returns the grants, in the order of the rows.
    pub fn grants(&self) -> &[GrantRow] {
        &self.grants
    }

    /// Returns the owner of a table or view.
    pub fn owner(&self, of: TableId) -> Option<&Member> {
        self.owners.get(&of)
    }

    /// Returns the name of a rule, as the audit has it: the id of a grant or policy, or the name of a built-in rule.
    pub fn rule_name(&self, rule: RuleRef) -> &str {
        match rule {
            RuleRef::Off => "off",
            RuleRef::BreakGlass => crate::BREAK_GLASS,
            RuleRef::NothingNeeded => "none",
            RuleRef::Admin => ADMIN,
            RuleRef::Owner => "owner",
            RuleRef::Grant(at) => self.grants.get(at as usize).map_or("none", |grant| grant.id.as_str()),
            RuleRef::Policy(number) => self.policies.as_ref().and_then(|policies| policies.id(number)).unwrap_or("none"),
        }
    }

    /// Lists the principals and claims that have a privilege on the server, in the order of their names.
    ///
    /// A change after which this is empty for [`Privilege::ManageAccess`] would lock everybody out, and must be refused. Members of
    /// [`BREAK_GLASS`](crate::BREAK_GLASS) don't count, because their tokens end soon. With access policies, only those count to
    /// whom a grant gives the privilege and no policy may forbid it. So no condition can lock everybody out later.
    pub fn holders(&self, privilege: Privilege) -> Vec<&Member> {
        let mut found = self.granted_holders(privilege);
        found.retain(|member| !self.may_be_forbidden(member, privilege));
        found
    }

    /// Lists the principals and claims that have a privilege on the server by grants, whatever policies say, in the order of their
    /// names.
    pub fn granted_holders(&self, privilege: Privilege) -> Vec<&Member> {
        let holders = self.index.on_server().filter(|(_, privileges)| privileges.has(privilege)).map(|(holder, _)| holder);
        let held = self.members.members_of(&holders.collect::<Vec<_>>());
        let members = held.into_iter().map(|held| self.members.member(held.id));
        let mut found: Vec<&Member> = members.filter(|member| !matches!(member, Member::Role { .. })).collect();
        found.sort();
        found
    }

    /// Checks that an access policy may forbid a privilege on the server to an identity, whatever its condition says.
    pub fn may_forbid(&self, identity: &Identity, privilege: Privilege) -> bool {
        if self.policies.is_none() {
            return false;
        }
        let policies = self.policies_for(identity, &self.members.held_by(identity));
        policies.is_some_and(|policies| policies.may_forbid(&ResourcePath::SERVER, PolicyScope::Itself).has(privilege))
    }

    /// Checks that an access policy may forbid a privilege on the server to a principal, or to one that has a claim.
    fn may_be_forbidden(&self, member: &Member, privilege: Privilege) -> bool {
        let identity = match member {
            Member::Claim { issuer, value } => {
                Some(Identity::User { issuer: issuer.as_str().into(), name: "".into(), claims: vec![value.as_str().into()] })
            }
            principal => Identity::of_principal(principal),
        };
        identity.is_some_and(|identity| self.may_forbid(&identity, privilege))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{grant, namespace, rows};

    fn lake() -> ResourcePath<'static> {
        ResourcePath::warehouse(1, "lake")
    }

    #[test]
    fn a_grant_on_future_tables_counts_for_none() {
        let on = Securable::Namespace { warehouse: 1, namespace: namespace("raw") };
        let select = Bundle::Select.privileges(SecurableKind::Namespace, PrivilegeSet::EMPTY);
        let future = GrantRow { future: Some(SecurableKind::Table), ..grant("f", Member::role("readers"), on, select) };
        let rows = rows(vec![future]);
        let subject = crate::samples::client(rows, "bi");
        assert!(!subject.is_visible(&lake().namespace("raw")));
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        let on_table = Securable::Table { table: crate::samples::table(1) };
        let future =
            GrantRow { future: Some(SecurableKind::View), ..grant("f", Member::role("readers"), on_table, PrivilegeSet::ALL) };
        let (container, kind) = (SecurableKind::Table, SecurableKind::View);
        assert_eq!(Rules::build(rows(vec![future])).expect_err("refused"), RightsError::NoSuchFuture { container, kind });
        let unknown = grant("g", Member::role("nobody"), Securable::Server, PrivilegeSet::ALL);
        let name = "nobody".to_owned();
        assert_eq!(Rules::build(rows(vec![unknown])).expect_err("refused"), RightsError::NoSuchRole { name });
    }

    #[test]
    fn those_who_manage_access_are_found_through_their_roles() {
        let manage = Privilege::ManageAccess;
        let grants = vec![grant("g", Member::role("readers"), Securable::Server, manage.into())];
        let rules = Rules::build(rows(grants)).expect("rules");
        let names: Vec<String> = rules.holders(manage).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["client bi", "client etl", "client root"], "and not who broke the glass");
        let mut none = rows(Vec::new());
        none.members.retain(|row| row.role != ADMIN);
        assert!(Rules::build(none).expect("rules").holders(manage).is_empty());
    }

    #[test]
    fn rules_have_names_that_people_can_look_up() {
        let grants = vec![grant("0198-abc", Member::role("readers"), Securable::Server, PrivilegeSet::ALL)];
        let rules = Rules::build(rows(grants)).expect("rules");
        assert_eq!(rules.rule_name(RuleRef::Grant(0)), "0198-abc");
        assert_eq!(rules.rule_name(RuleRef::Admin), "esker:admin");
        assert_eq!((rules.version(), rules.mode(), rules.grants().len()), (7, AccessMode::On, 1));
        for mode in [AccessMode::Off, AccessMode::Report, AccessMode::On] {
            assert_eq!(AccessMode::from_name(mode.as_str()), Some(mode));
        }
    }
}
