//! Runs statements about access control.
//!
//! `esker_auth` checks and makes the changes. This file finds what a statement names: to a caller who may neither see a thing nor
//! manage its grants, the thing does not exist.

use arrow::array::RecordBatch;
use esker_access::{Caller, RightsError, RuleChange, SecurableKind};
use esker_auth::{AccessControl, AuthError, GrantOrder};
use esker_catalog::{Authority, Catalog, NamedSecurable, SecurableName};
use esker_read::Reader;
use esker_types::{Coded, ErrorCode, IdentError};

use super::{AccessStatement, Privileges, Thing, show};
use crate::change::count_batch;
use crate::table_names::{candidate_namespaces, candidate_tables};
use crate::{QueryError, Result};

/// Runs a statement for a caller, and returns its result.
///
/// # Errors
///
/// - Returns [`QueryError::Access`] if the caller may not do it, or the change makes no sense.
/// - Returns [`QueryError::Rights`] if something that is named does not exist.
/// - Returns [`QueryError::Statement`] if a name can't be one, and [`QueryError::Catalog`] if the database fails.
/// - Returns [`QueryError::Execution`] if the engine has no rules, or nobody sent the statement.
pub(crate) async fn run(
    warehouses: &[(Catalog, Reader)],
    access: Option<&AccessControl>,
    statement: &AccessStatement,
    by: &Authority,
) -> Result<RecordBatch> {
    let (Some(access), Authority::Caller(by)) = (access, by) else {
        return Err(QueryError::Execution("grants and roles are managed by callers of a server".to_owned()));
    };
    match statement {
        AccessStatement::ShowGrants { on, to } => {
            let on = match on {
                Some(thing) => Some(find(warehouses, thing, by).await?),
                None => None,
            };
            let on = on.as_ref().map(|found| (&found.securable, found.path()));
            let listed = access.listed_grants(by, on, to.as_ref()).await?;
            let with_thing = listed.into_iter().map(|stored| {
                let thing = NamedSecurable::of_grant(&stored, warehouses.iter().map(|(catalog, _)| catalog));
                (stored, thing)
            });
            show::grants(&with_thing.collect::<Vec<_>>())
        }
        AccessStatement::ShowMembers { role } => {
            AccessControl::require_manager(by)?;
            show::members(&access.members_of(role).await?)
        }
        AccessStatement::ShowRoles => {
            AccessControl::require_manager(by)?;
            show::roles(&access.roles().await?)
        }
        AccessStatement::Grant(privileges) => {
            let found = find(warehouses, &privileges.on, by).await?;
            access.grant(by, order(privileges, &found)).await?;
            nothing_counted()
        }
        AccessStatement::Revoke(privileges) => {
            let found = find(warehouses, &privileges.on, by).await?;
            access.revoke(by, order(privileges, &found)).await?;
            nothing_counted()
        }
        AccessStatement::AddMember { .. }
        | AccessStatement::RemoveMember { .. }
        | AccessStatement::CreateRole { .. }
        | AccessStatement::DropRole { .. } => {
            manage(access, by, statement).await?;
            nothing_counted()
        }
    }
}

/// Returns the result of a change: no row of a table was changed.
fn nothing_counted() -> Result<RecordBatch> {
    count_batch(0)
}

/// Makes a change of roles or members, which needs the privilege to manage access on the server. Other statements change nothing here.
///
/// # Errors
///
/// Returns the errors of [`AccessControl::require_manager`] and [`AccessControl::change`], but not for a role that exists or is
/// missing if the statement allows that.
async fn manage(access: &AccessControl, by: &Caller, statement: &AccessStatement) -> std::result::Result<(), AuthError> {
    let change = match statement.clone() {
        AccessStatement::AddMember { role, member } => RuleChange::AddMember { role, member },
        AccessStatement::RemoveMember { role, member } => RuleChange::RemoveMember { role, member },
        AccessStatement::CreateRole { role, .. } => RuleChange::CreateRole { role },
        AccessStatement::DropRole { role, .. } => RuleChange::DropRole { role },
        _ => return Ok(()),
    };
    AccessControl::require_manager(by)?;
    match (access.change(by, vec![change]).await, statement) {
        (Err(AuthError::Rights(RightsError::RoleExists { .. })), AccessStatement::CreateRole { if_not_exists: true, .. })
        | (Err(AuthError::Rights(RightsError::NoSuchRole { .. })), AccessStatement::DropRole { if_exists: true, .. }) => Ok(()),
        (done, _) => done.map(|_| ()),
    }
}

/// Returns the request for the privileges of a statement, on the thing that was found.
fn order<'a>(statement: &'a Privileges, found: &'a NamedSecurable) -> GrantOrder<'a> {
    let Privileges { privileges, future, member, .. } = statement;
    GrantOrder { to: member.clone(), privileges, on: &found.securable, path: found.path(), future: *future }
}

/// Finds what a name means to a caller: the likeliest thing that the caller sees, or whose grants the caller manages.
///
/// # Errors
///
/// - Returns [`QueryError::Rights`] with the answer of a name without a thing, if there is none or it is hidden.
/// - Returns [`QueryError::Statement`] if the name can't be one, and [`QueryError::Catalog`] if the database fails.
async fn find(warehouses: &[(Catalog, Reader)], thing: &Thing, by: &Caller) -> Result<NamedSecurable> {
    if thing.kind == SecurableKind::Server {
        return Ok(NamedSecurable::SERVER);
    }
    for (catalog, name) in readings(warehouses, thing).map_err(|e| QueryError::Statement(e.to_string()))? {
        match NamedSecurable::find(&name, catalog).await {
            Ok(found) if AccessControl::knows(by, &found.path()) => return Ok(found),
            Ok(_) => {}
            Err(e) if is_missing(e.code()) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(RightsError::Hidden { kind: thing.kind, name: thing.parts.join(".") }.into())
}

/// Checks that an error says that there is nothing of a name.
const fn is_missing(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NoSuchNamespace | ErrorCode::NoSuchTable | ErrorCode::NoSuchView | ErrorCode::NotFound)
}

/// Returns what a name may mean, the likeliest first, each with the catalog of its warehouse.
///
/// The first part may name a warehouse; without one, the first warehouse is meant. Dots in quotes may separate levels.
///
/// # Errors
///
/// Returns [`IdentError`] if a part is empty or has a control character.
fn readings<'a>(
    warehouses: &'a [(Catalog, Reader)],
    thing: &Thing,
) -> std::result::Result<Vec<(&'a Catalog, SecurableName)>, IdentError> {
    let named = |name: &str| warehouses.iter().map(|(catalog, _)| catalog).find(|catalog| catalog.options().warehouse == name);
    let Some((outer, inner)) = thing.parts.split_first() else { return Ok(Vec::new()) };
    if thing.kind == SecurableKind::Warehouse {
        let found = named(&thing.parts.join("."));
        return Ok(found.map(|catalog| (catalog, SecurableName::Warehouse(outer.clone()))).into_iter().collect());
    }
    let least = if thing.kind == SecurableKind::Namespace { 1 } else { 2 };
    let within = named(outer).filter(|_| inner.len() >= least).map(|catalog| (catalog, inner));
    let first = warehouses.first().map(|(catalog, _)| (catalog, thing.parts.as_slice()));
    let mut found = Vec::new();
    for (catalog, parts) in within.into_iter().chain(first) {
        let warehouse = || catalog.options().warehouse.clone();
        match (thing.kind, parts.split_last()) {
            (SecurableKind::Namespace, _) => {
                let namespaces = candidate_namespaces(parts)?.into_iter();
                found.extend(namespaces.map(|name| (catalog, SecurableName::Namespace(warehouse(), name))));
            }
            (kind, Some((name, levels))) => {
                // As in queries, a name without a namespace is looked for in the one called default.
                let levels = if levels.is_empty() { vec!["default".to_owned()] } else { levels.to_vec() };
                let tables = candidate_tables(&levels, name)?.into_iter();
                found.extend(tables.map(|name| (catalog, SecurableName::Entry(kind, warehouse(), name))));
            }
            (_, None) => {}
        }
    }
    Ok(found)
}
