//! The columns of members, securables and grants.
//!
//! A text that does not apply is empty, and a number that does not is 0. So rows are compared without nulls.

use esker_access::{GrantRow, Member, PrivilegeSet, Securable, SecurableKind};
use esker_types::NamespaceName;
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::{Result, StateError, parse_id};

/// The columns that [`grant_of`] reads, of a row `g` of the table `access_grant`.
pub(super) const GRANT_COLUMNS: &str = "g.id, g.member_kind, g.member_issuer, g.member_name, g.on_kind, g.warehouse_id,
    g.namespace, g.table_id, g.function_name, g.privileges, g.future_kind";

/// The columns of a securable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecurableColumns {
    /// The kind.
    pub(super) kind: &'static str,
    /// The id of the warehouse; 0 on the server, a table or a view.
    pub(super) warehouse: i64,
    /// The levels of the namespace, joined by the unit separator.
    pub(super) namespace: String,
    /// The id of the table or view.
    pub(super) table: String,
    /// The name of the function.
    pub(super) function: String,
}

impl SecurableColumns {
    /// Returns the columns of a securable.
    pub(super) fn of(on: &Securable) -> Self {
        let none = Self {
            kind: on.kind().as_str(),
            warehouse: 0,
            namespace: String::new(),
            table: String::new(),
            function: String::new(),
        };
        match on {
            Securable::Server => none,
            Securable::Warehouse { warehouse } => Self { warehouse: *warehouse, ..none },
            Securable::Namespace { warehouse, namespace } => Self { warehouse: *warehouse, namespace: namespace.key(), ..none },
            Securable::Table { table: id } | Securable::View { view: id } => Self { table: id.to_string(), ..none },
            Securable::Function { warehouse, namespace, name } => {
                Self { warehouse: *warehouse, namespace: namespace.key(), function: name.clone(), ..none }
            }
        }
    }
}

/// Returns the column of the kind of future things.
pub(super) fn future_column(future: Option<SecurableKind>) -> &'static str {
    future.map_or("", SecurableKind::as_str)
}

/// Reads a member from three columns, the first of which is `at`. Returns `None` if the kind is not known.
pub(super) fn member_of(row: &AnyRow, at: usize) -> Result<Option<Member>> {
    Ok(Member::from_columns(row.try_get(at)?, row.try_get(at + 1)?, row.try_get(at + 2)?))
}

/// Reads a grant from [`GRANT_COLUMNS`]. Returns `None` if it is to a member or on a securable of a kind that is not known.
pub(super) fn grant_of(row: &AnyRow) -> Result<Option<GrantRow>> {
    let future: &str = row.try_get(10)?;
    let (Some(to), Some(on)) = (member_of(row, 1)?, securable_of(row)?) else { return Ok(None) };
    let future = match (future, SecurableKind::from_name(future)) {
        ("", _) => None,
        (_, None) => return Ok(None),
        (_, kind) => kind,
    };
    Ok(Some(GrantRow { id: row.try_get(0)?, to, on, privileges: PrivilegeSet::from_bits(row.try_get(9)?), future }))
}

/// Reads the securable of a grant. Returns `None` if the kind is not known.
fn securable_of(row: &AnyRow) -> Result<Option<Securable>> {
    let Some(kind) = SecurableKind::from_name(row.try_get(4)?) else { return Ok(None) };
    let warehouse: i64 = row.try_get(5)?;
    let namespace =
        || -> Result<NamespaceName> { NamespaceName::from_key(row.try_get(6)?).map_err(|e| StateError::Corrupt(e.to_string())) };
    let id = || -> Result<_> { parse_id(row.try_get(7)?) };
    Ok(Some(match kind {
        SecurableKind::Server => Securable::Server,
        SecurableKind::Warehouse => Securable::Warehouse { warehouse },
        SecurableKind::Namespace => Securable::Namespace { warehouse, namespace: namespace()? },
        SecurableKind::Table => Securable::Table { table: id()? },
        SecurableKind::View => Securable::View { view: id()? },
        SecurableKind::Function => Securable::Function { warehouse, namespace: namespace()?, name: row.try_get(8)? },
    }))
}
