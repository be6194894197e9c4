//! Grants: who may give, take and list them. The REST API, the page and SQL all call these functions.
//!
//! Whoever manages access on the server may do everything. Whoever manages the grants of a thing gives and takes there what they
//! have themselves. Start reading at [`AccessControl::grant`].

use esker_access::{
    Caller, GrantRow, Member, Need, Needs, Privilege, PrivilegeSet, RESERVED_ROLES, Required, ResourcePath, RightsError,
    RuleChange, Securable, SecurableKind, parse_privileges,
};
use esker_state::{StoredGrant, StoredMember};
use uuid::Uuid;

use crate::{AccessControl, AuthError};

/// A request to grant or revoke privileges on a thing that was found.
#[derive(Debug, Clone)]
pub struct GrantOrder<'a> {
    /// Holder of the privileges.
    pub to: Member,
    /// Privileges and bundles, separated by commas.
    pub privileges: &'a str,
    /// The thing.
    pub on: &'a Securable,
    /// Path to the thing.
    pub path: ResourcePath<'a>,
    /// Kind of the things that are created in it from now on; `None` for a grant that counts by itself.
    pub future: Option<SecurableKind>,
}

impl GrantOrder<'_> {
    /// Reads the privileges. `all` is what the bundle `ALL` stands for.
    ///
    /// The answer about a thing that the caller may not see must not depend on them, so that is checked first.
    fn privileges(&self, by: &Caller, all: PrivilegeSet) -> Result<PrivilegeSet, RightsError> {
        if !by.sees(&self.path) {
            by.require(Needs::AnyOf(&Need::to_grant(self.path, PrivilegeSet::EMPTY)))?;
        }
        parse_privileges(self.privileges, self.future.unwrap_or(self.on.kind()), all)
    }
}

/// Returns the need of who manages access on the server.
const fn to_manage() -> Need<'static> {
    Need::new(ResourcePath::SERVER, Privilege::ManageAccess)
}

/// Returns the error of a grant that does not exist.
fn no_grant_with(id: &str) -> RightsError {
    RightsError::NoSuchGrant { what: format!("with the id {id}") }
}

impl AccessControl {
    /// Checks that a caller manages access on the server.
    ///
    /// # Errors
    ///
    /// Returns [`Rights`](AuthError::Rights) if not.
    pub fn require_manager(by: &Caller) -> Result<(), AuthError> {
        Ok(by.require(&to_manage())?)
    }

    /// Checks that a caller may know of a thing: the caller sees it, or manages its grants, its restrictions, or access on the server.
    pub fn knows(by: &Caller, on: &ResourcePath<'_>) -> bool {
        let manages = |on: &ResourcePath<'_>, privilege| by.allows(on, Required::privilege(privilege));
        by.sees(on)
            || manages(on, Privilege::ManageGrants)
            || manages(on, Privilege::ManageRestrictions)
            || manages(&ResourcePath::SERVER, Privilege::ManageAccess)
    }

    /// Grants privileges on a thing, and returns the new grant.
    ///
    /// # Errors
    ///
    /// - Returns [`Rights`](AuthError::Rights) if the caller may not grant them there, or the grant makes no sense.
    /// - Returns the errors of [`Self::change`].
    pub async fn grant(&self, by: &Caller, order: GrantOrder<'_>) -> Result<GrantRow, AuthError> {
        let privileges = order.privileges(by, by.effective(&order.path))?;
        let needs = Need::to_grant(order.path, privileges);
        by.require(Needs::AnyOf(&needs))?;
        let GrantOrder { to, on, future, .. } = order;
        let grant = GrantRow { id: Uuid::now_v7().to_string(), to, on: on.clone(), privileges, future };
        self.change_as(by, &needs, &[RuleChange::AddGrant { grant: grant.clone() }]).await?;
        Ok(grant)
    }

    /// Takes privileges out of all grants to a holder on a thing. Grants on what contains the thing stay.
    ///
    /// `ALL` stands for every privilege, if the caller manages access on the server.
    ///
    /// # Errors
    ///
    /// - Returns [`Rights`](AuthError::Rights) if the caller may not revoke them there, or there is nothing to revoke.
    /// - Returns the errors of [`Self::change`].
    pub async fn revoke(&self, by: &Caller, order: GrantOrder<'_>) -> Result<(), AuthError> {
        let all = match by.effective(&ResourcePath::SERVER).has(Privilege::ManageAccess) {
            true => PrivilegeSet::ALL,
            false => by.effective(&order.path),
        };
        let privileges = order.privileges(by, all)?;
        let needs = Need::to_grant(order.path, privileges);
        by.require(Needs::AnyOf(&needs))?;
        let GrantOrder { to, on, future, .. } = order;
        self.change_as(by, &needs, &[RuleChange::Revoke { to, on: on.clone(), future, privileges }]).await?;
        Ok(())
    }

    /// Returns a grant by its id.
    ///
    /// # Errors
    ///
    /// Returns [`Rights`](AuthError::Rights) if there is none, and [`State`](AuthError::State) if the database fails.
    pub async fn grant_by_id(&self, id: &str) -> Result<StoredGrant, AuthError> {
        let found = self.grants().await?.into_iter().find(|stored| stored.row.id == id);
        Ok(found.ok_or_else(|| no_grant_with(id))?)
    }

    /// Removes a grant. `path` leads to its thing; `None` if the thing is gone, or lies in a warehouse that this server lacks.
    ///
    /// # Errors
    ///
    /// - Returns [`Rights`](AuthError::Rights) if the caller may not revoke its privileges there. If the thing is hidden, it is the
    ///   error of a grant that does not exist.
    /// - Returns the errors of [`Self::change`].
    pub async fn remove_grant(&self, by: &Caller, stored: &StoredGrant, path: Option<ResourcePath<'_>>) -> Result<(), AuthError> {
        let needs = path.map_or_else(|| vec![to_manage()], |path| Need::to_grant(path, stored.row.privileges).to_vec());
        by.require(Needs::AnyOf(&needs)).map_err(|refused| match refused {
            // The name of a hidden thing may be another one since the caller learned the id of the grant.
            RightsError::Hidden { .. } => no_grant_with(&stored.row.id),
            refused => refused,
        })?;
        self.change_as(by, &needs, &[RuleChange::RemoveGrant { id: stored.row.id.clone() }]).await?;
        Ok(())
    }

    /// Lists grants, the oldest first: those on a thing, those to a holder, or both.
    ///
    /// Who manages access lists all. Who manages the grants of a thing lists those on it.
    ///
    /// # Errors
    ///
    /// Returns [`Rights`](AuthError::Rights) if the caller may not list them, and [`State`](AuthError::State) if the database fails.
    pub async fn listed_grants(
        &self,
        by: &Caller,
        on: Option<(&Securable, ResourcePath<'_>)>,
        to: Option<&Member>,
    ) -> Result<Vec<StoredGrant>, AuthError> {
        match on {
            Some((_, path)) => by.require(Needs::AnyOf(&Need::to_grant(path, PrivilegeSet::EMPTY)))?,
            None => Self::require_manager(by)?,
        }
        let matches =
            |grant: &GrantRow| to.is_none_or(|to| grant.to == *to) && on.is_none_or(|(securable, _)| grant.on == *securable);
        Ok(self.grants().await?.into_iter().filter(|stored| matches(&stored.row)).collect())
    }

    /// Returns the members of a role, by kind and name. Members of a role among them are members too, and are not listed.
    ///
    /// # Errors
    ///
    /// Returns [`Rights`](AuthError::Rights) if there is no such role, and [`State`](AuthError::State) if the database fails.
    pub async fn members_of(&self, role: &str) -> Result<Vec<StoredMember>, AuthError> {
        if !RESERVED_ROLES.contains(&role) && !self.roles().await?.iter().any(|stored| stored.name == role) {
            return Err(RightsError::NoSuchRole { name: role.to_owned() }.into());
        }
        Ok(self.members().await?.into_iter().filter(|stored| stored.row.role == role).collect())
    }
}
