//! Changes of the rules, applied to rows.
//!
//! Whoever stores a change applies it to the rows first ([`RuleRows::apply`]) and builds [`Rules`](crate::Rules) of them. What
//! one of the two refuses is not stored.

use esker_types::TableId;
use serde::Serialize;

use crate::cedar::check_policy;
use crate::role::{check_members_can_change, check_role_name};
use crate::{
    AccessMode, ColumnMaskRow, GrantRow, Member, MemberRow, OwnerRow, PolicyRow, PrivilegeSet, RESERVED_ROLES, Result,
    RightsError, RoleRow, RowFilterRow, RuleRows, Securable, SecurableKind,
};

/// A change of the rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum RuleChange {
    /// Sets the mode.
    SetMode {
        /// The mode.
        mode: AccessMode,
    },
    /// Creates a role without members.
    CreateRole {
        /// Name of the role.
        role: String,
    },
    /// Drops a role, with its memberships and the grants to it.
    DropRole {
        /// Name of the role.
        role: String,
    },
    /// Adds a member to a role. A member that the role has already stays.
    AddMember {
        /// Name of the role.
        role: String,
        /// The member.
        member: Member,
    },
    /// Removes a member from a role.
    RemoveMember {
        /// Name of the role.
        role: String,
        /// The member.
        member: Member,
    },
    /// Adds a grant.
    AddGrant {
        /// The grant, with an id of its own.
        grant: GrantRow,
    },
    /// Removes a grant.
    RemoveGrant {
        /// Id of the grant.
        id: String,
    },
    /// Takes privileges out of all grants to a holder on one securable. A grant without a privilege is removed.
    Revoke {
        /// Holder of the privileges.
        to: Member,
        /// The securable. Grants on what contains it stay.
        on: Securable,
        /// Kind of the future things of the grants; null for grants that count by themselves.
        future: Option<SecurableKind>,
        /// The privileges.
        privileges: PrivilegeSet,
    },
    /// Sets the owner of a table or view.
    SetOwner {
        /// Id of the table or view.
        table: TableId,
        /// The owner: a user or a client.
        owner: Member,
    },
    /// Adds a row filter to a table, or replaces the one with its id.
    SetRowFilter {
        /// The filter.
        filter: RowFilterRow,
    },
    /// Removes a row filter from a table.
    RemoveRowFilter {
        /// Id of the table.
        table: TableId,
        /// Id of the filter.
        id: String,
    },
    /// Masks a field of a table, or changes its mask.
    SetColumnMask {
        /// The mask.
        mask: ColumnMaskRow,
    },
    /// Removes the mask of a field.
    RemoveColumnMask {
        /// Id of the table.
        table: TableId,
        /// Id of the field.
        #[serde(rename = "field-id")]
        field_id: i32,
    },
    /// Adds access policies under a name, or replaces those under it.
    SetPolicy {
        /// Name of the policies.
        name: String,
        /// One or more policies in the language Cedar.
        text: String,
    },
    /// Removes the access policies under a name.
    RemovePolicy {
        /// Name of the policies.
        name: String,
    },
}

impl RuleChange {
    /// Checks that a person may make the change. The server itself may fill the roles whose members it decides.
    ///
    /// # Errors
    ///
    /// Returns [`RightsError::FixedMembers`] if the server alone decides who the role's members are.
    pub fn check_by_people(&self) -> Result<()> {
        match self {
            Self::AddMember { role, .. } | Self::RemoveMember { role, .. } => check_members_can_change(role),
            _ => Ok(()),
        }
    }

    /// Returns the name of what changes, for events: `mode`, `role readers`, `grant ID`, `table ID`, `policy NAME`.
    pub fn subject(&self) -> String {
        match self {
            Self::SetMode { .. } => "mode".to_owned(),
            Self::CreateRole { role }
            | Self::DropRole { role }
            | Self::AddMember { role, .. }
            | Self::RemoveMember { role, .. } => format!("role {role}"),
            Self::AddGrant { grant } => format!("grant {}", grant.id),
            Self::RemoveGrant { id } => format!("grant {id}"),
            Self::Revoke { to, .. } => format!("grants to {to}"),
            Self::SetOwner { table, .. }
            | Self::SetRowFilter { filter: RowFilterRow { table, .. } }
            | Self::RemoveRowFilter { table, .. }
            | Self::SetColumnMask { mask: ColumnMaskRow { table, .. } }
            | Self::RemoveColumnMask { table, .. } => format!("table {table}"),
            Self::SetPolicy { name, .. } | Self::RemovePolicy { name } => format!("policy {name}"),
        }
    }
}

impl RuleRows {
    /// Applies a change. Roles that memberships and grants name are checked when [`Rules`](crate::Rules) are built of the rows.
    ///
    /// # Errors
    ///
    /// - Returns [`RightsError::BadRoleName`] if a new role can't have the name, and [`RightsError::RoleExists`] if it has it
    ///   already.
    /// - Returns [`RightsError::ReservedRole`] if the role always exists, and [`RightsError::NoSuchRole`] if it never did.
    /// - Returns [`RightsError::RoleInRestrictions`] if a row filter or a column mask names a role that is dropped.
    /// - Returns [`RightsError::NoSuchMember`], [`RightsError::NoSuchGrant`] or [`RightsError::NoSuchRestriction`] if there is
    ///   nothing to remove.
    /// - Returns [`RightsError::BadMember`] if a member has no valid name, and [`RightsError::BadFilter`] if a row filter is too
    ///   large, or has the id of another table's.
    /// - Returns [`RightsError::NoPrivileges`] or [`RightsError::NotGrantable`] if the privileges can't be granted on the
    ///   securable.
    /// - Returns [`RightsError::BadPolicyName`] if access policies can't have the name, [`RightsError::BadPolicy`] if their text can't
    ///   be read, and [`RightsError::NoSuchPolicy`] if there are none to remove.
    pub fn apply(&mut self, change: &RuleChange) -> Result<()> {
        match change {
            RuleChange::SetMode { mode } => self.mode = *mode,
            RuleChange::CreateRole { role } => self.create_role(role)?,
            RuleChange::DropRole { role } => self.drop_role(role)?,
            RuleChange::AddMember { role, member } => {
                member.check()?;
                let row = MemberRow { role: role.clone(), member: member.clone() };
                if !self.members.contains(&row) {
                    self.members.push(row);
                }
            }
            RuleChange::RemoveMember { role, member } => {
                let before = self.members.len();
                self.members.retain(|row| row.role != *role || row.member != *member);
                if self.members.len() == before {
                    return Err(RightsError::NoSuchMember { role: role.clone(), member: member.to_string() });
                }
            }
            RuleChange::AddGrant { grant } => {
                grant.to.check()?;
                grant.future.unwrap_or(grant.on.kind()).check_grantable(grant.privileges)?;
                self.grants.push(grant.clone());
            }
            RuleChange::RemoveGrant { id } => {
                let before = self.grants.len();
                self.grants.retain(|grant| grant.id != *id);
                if self.grants.len() == before {
                    return Err(RightsError::NoSuchGrant { what: format!("with the id {id}") });
                }
            }
            RuleChange::Revoke { to, on, future, privileges } => self.revoke(to, on, *future, *privileges)?,
            RuleChange::SetOwner { table, owner } => {
                self.owners.retain(|row| row.table != *table);
                self.owners.push(OwnerRow { table: *table, owner: owner.clone() });
            }
            RuleChange::SetRowFilter { filter } => self.set_row_filter(filter)?,
            RuleChange::RemoveRowFilter { table, id } => self.remove_row_filter(*table, id)?,
            RuleChange::SetColumnMask { mask } => self.set_column_mask(mask)?,
            RuleChange::RemoveColumnMask { table, field_id } => self.remove_column_mask(*table, *field_id)?,
            RuleChange::SetPolicy { name, text } => self.set_policy(name, text)?,
            RuleChange::RemovePolicy { name } => {
                let before = self.policies.len();
                self.policies.retain(|row| row.name != *name);
                if self.policies.len() == before {
                    return Err(RightsError::NoSuchPolicy { name: name.clone() });
                }
            }
        }
        Ok(())
    }

    fn set_policy(&mut self, name: &str, text: &str) -> Result<()> {
        check_role_name(name).map_err(|error| match error {
            RightsError::BadRoleName { name, why } => RightsError::BadPolicyName { name, why },
            other => other,
        })?;
        check_policy(name, text)?;
        match self.policies.iter_mut().find(|row| row.name == name) {
            Some(row) => text.clone_into(&mut row.text),
            None => self.policies.push(PolicyRow { name: name.to_owned(), text: text.to_owned() }),
        }
        // A database may sort by another order.
        self.policies.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(())
    }

    fn create_role(&mut self, role: &str) -> Result<()> {
        check_role_name(role)?;
        if self.roles.iter().any(|row| row.name == role) {
            return Err(RightsError::RoleExists { name: role.to_owned() });
        }
        self.roles.push(RoleRow { name: role.to_owned() });
        Ok(())
    }

    fn drop_role(&mut self, role: &str) -> Result<()> {
        if RESERVED_ROLES.contains(&role) {
            return Err(RightsError::ReservedRole { name: role.to_owned() });
        }
        let member = Member::role(role);
        self.check_restricts_nobody(&member)?;
        let before = self.roles.len();
        self.roles.retain(|row| row.name != role);
        if self.roles.len() == before {
            return Err(RightsError::NoSuchRole { name: role.to_owned() });
        }
        self.members.retain(|row| row.role != role && row.member != member);
        self.grants.retain(|grant| grant.to != member);
        Ok(())
    }

    fn revoke(&mut self, to: &Member, on: &Securable, future: Option<SecurableKind>, privileges: PrivilegeSet) -> Result<()> {
        let mut is_found = false;
        for grant in self.grants.iter_mut().filter(|grant| grant.to == *to && grant.on == *on && grant.future == future) {
            is_found |= grant.privileges.intersects(privileges);
            grant.privileges = grant.privileges.without(privileges);
        }
        if !is_found {
            return Err(RightsError::NoSuchGrant { what: format!("of {privileges} to {to} on this {}", on.kind()) });
        }
        self.grants.retain(|grant| !grant.privileges.is_empty());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{grant, rows, table};
    use crate::{BREAK_GLASS, EVERYONE, Privilege, Rules};

    fn select() -> PrivilegeSet {
        PrivilegeSet::of(&[Privilege::List, Privilege::ReadData])
    }

    fn on() -> Securable {
        Securable::Table { table: table(1) }
    }

    #[test]
    fn a_dropped_role_leaves_no_membership_and_no_grant() {
        let mut rows = rows(vec![grant("g", Member::role("writers"), on(), select())]);
        rows.apply(&RuleChange::DropRole { role: "writers".into() }).expect("dropped");
        assert!(rows.grants.is_empty());
        let left: Vec<_> = rows.members.iter().map(|row| row.role.as_str()).collect();
        assert_eq!(left, ["readers", "esker:admin", "esker:break-glass"]);
        Rules::build(rows).expect("rules without the role");
    }

    #[test]
    fn privileges_are_revoked_from_each_grant_to_the_holder_there() {
        let list = PrivilegeSet::from(Privilege::List);
        let readers = Member::role("readers");
        let future = GrantRow { future: Some(SecurableKind::Table), ..grant("f", readers.clone(), Securable::Server, select()) };
        let (first, second) = (grant("a", readers.clone(), on(), select()), grant("b", readers.clone(), on(), list));
        let mut rows = rows(vec![first, second, grant("c", Member::client("bi"), on(), list), future.clone()]);
        let revoke = |on: Securable, privileges| RuleChange::Revoke { to: readers.clone(), on, future: None, privileges };
        rows.apply(&revoke(on(), list)).expect("revoked");
        let left: Vec<_> = rows.grants.iter().map(|grant| (grant.id.as_str(), grant.privileges.to_string())).collect();
        assert_eq!(left, [("a", "READ_DATA".to_owned()), ("c", "LIST".to_owned()), ("f", select().to_string())]);
        let again = rows.apply(&revoke(on(), list)).expect_err("nothing left");
        assert_eq!(again.to_string(), "there is no grant of LIST to role readers on this table; the list of grants shows all");
        assert!(rows.apply(&revoke(Securable::Server, list)).is_err(), "a grant on future things is another one");
    }

    #[test]
    fn changes_that_make_no_sense_are_refused() {
        let mut rows = rows(Vec::new());
        let role = |name: &str| name.to_owned();
        for (change, error) in [
            (RuleChange::CreateRole { role: role("readers") }, RightsError::RoleExists { name: role("readers") }),
            (RuleChange::DropRole { role: role(EVERYONE) }, RightsError::ReservedRole { name: role(EVERYONE) }),
            (RuleChange::DropRole { role: role("nobody") }, RightsError::NoSuchRole { name: role("nobody") }),
            (
                RuleChange::AddGrant { grant: grant("g", Member::role("readers"), on(), Privilege::CreateTable.into()) },
                RightsError::NotGrantable { privileges: Privilege::CreateTable.into(), kind: SecurableKind::Table },
            ),
        ] {
            assert_eq!(rows.apply(&change), Err(error), "{change:?}");
        }
        assert!(matches!(rows.apply(&RuleChange::CreateRole { role: role("esker:x") }), Err(RightsError::BadRoleName { .. })));
        let nobody = RuleChange::AddMember { role: role("readers"), member: Member::client("") };
        assert!(matches!(rows.apply(&nobody), Err(RightsError::BadMember { .. })));
        let twice = RuleChange::AddMember { role: role("readers"), member: Member::client("bi") };
        let before = rows.clone();
        rows.apply(&twice).expect("a member already");
        assert_eq!(rows, before);
        let gone = RuleChange::RemoveMember { role: role("readers"), member: Member::client("x") };
        assert!(matches!(rows.apply(&gone), Err(RightsError::NoSuchMember { .. })));
        assert!(matches!(rows.apply(&RuleChange::RemoveGrant { id: role("x") }), Err(RightsError::NoSuchGrant { .. })));
    }

    #[test]
    fn access_policies_are_kept_by_name_and_read_before_they_are_kept() {
        let mut rows = rows(Vec::new());
        let set = |name: &str, text: &str| RuleChange::SetPolicy { name: name.to_owned(), text: text.to_owned() };
        let permit = "permit(principal, action, resource);";
        for (name, text) in [("night", permit), ("day", permit), ("night", "forbid(principal, action, resource);")] {
            rows.apply(&set(name, text)).expect("set");
        }
        let kept: Vec<_> = rows.policies.iter().map(|row| (row.name.as_str(), &row.text[..6])).collect();
        assert_eq!(kept, [("day", "permit"), ("night", "forbid")]);
        assert!(matches!(rows.apply(&set("bad", "permit(principal")), Err(RightsError::BadPolicy { .. })));
        assert!(matches!(rows.apply(&set("esker:x", permit)), Err(RightsError::BadPolicyName { .. })));
        let remove = RuleChange::RemovePolicy { name: "night".into() };
        assert_eq!((remove.subject().as_str(), remove.check_by_people()), ("policy night", Ok(())));
        rows.apply(&remove).expect("removed");
        assert_eq!(rows.apply(&remove), Err(RightsError::NoSuchPolicy { name: "night".into() }));
        assert!(Rules::build(rows.clone()).expect("rules").has_policies());
        rows.policies[0].text = "permit(".to_owned();
        assert!(matches!(Rules::build(rows), Err(RightsError::BadPolicy { .. })), "no rules without what it may forbid");
    }

    #[test]
    fn nobody_becomes_the_principal_of_an_emergency_by_a_change_of_people() {
        let change = RuleChange::AddMember { role: BREAK_GLASS.into(), member: Member::client("c") };
        assert_eq!(change.check_by_people(), Err(RightsError::FixedMembers { role: BREAK_GLASS.into() }));
        rows(Vec::new()).apply(&change).expect("the server may");
    }

    #[test]
    fn a_change_is_an_object_with_an_action_in_events() {
        let change = RuleChange::AddMember { role: "readers".into(), member: Member::client("bi") };
        let json = serde_json::to_value(&change).expect("JSON");
        let expected = serde_json::json!({"action": "add-member", "role": "readers", "member": {"kind": "client", "name": "bi"}});
        assert_eq!((json, change.subject().as_str()), (expected, "role readers"));
        let change = RuleChange::AddGrant { grant: grant("g", Member::role("readers"), on(), select()) };
        assert_eq!(serde_json::to_value(&change).expect("JSON")["grant"]["privileges"], serde_json::json!(["LIST", "READ_DATA"]));
    }
}
