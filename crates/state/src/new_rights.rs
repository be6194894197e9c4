//! The rights that a new thing gets in the transaction that creates it: its owner, and copies of the grants on future things.
//!
//! Nothing is written while access control is off. Start reading with [`insert_rights`].

use esker_access::{Member, NewGrant, Securable};
use esker_types::{TableId, now_ms};
use sqlx::{Any, Transaction};
use uuid::Uuid;

use crate::Result;

/// The rights that a new table, view, function or namespace gets when it is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRights {
    /// The owner. Only tables and views have one.
    pub owner: Option<Member>,
    /// The grants on future things that the new thing gets copies of. Those that were revoked meanwhile are left out.
    pub grants: Vec<NewGrant>,
    /// The name of the principal that creates the thing.
    pub created_by: String,
}

/// Writes the rights of a new thing, and raises the version of the rules.
///
/// # Errors
///
/// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
pub(crate) async fn insert_rights(tx: &mut Transaction<'_, Any>, on: &Securable, rights: Option<&NewRights>) -> Result<()> {
    let Some(rights) = rights.filter(|rights| rights.owner.is_some() || !rights.grants.is_empty()) else { return Ok(()) };
    if !raise_version(tx).await? {
        return Ok(());
    }
    if let (Some(owner), Securable::Table { table } | Securable::View { view: table }) = (&rights.owner, on) {
        let (kind, issuer, name) = owner.columns();
        sqlx::query("INSERT INTO tabular_owner (table_id, kind, issuer, name) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING")
            .bind(table.to_string())
            .bind(kind)
            .bind(issuer)
            .bind(name)
            .execute(&mut **tx)
            .await?;
    }
    for grant in &rights.grants {
        insert_copy(tx, on, grant, &rights.created_by).await?;
    }
    Ok(())
}

/// Raises the version of the rules. Returns false, and changes nothing, if access control is off.
async fn raise_version(tx: &mut Transaction<'_, Any>) -> Result<bool> {
    let raise = "UPDATE access_state SET version = version + 1 WHERE id = 1 AND mode <> 'off'";
    Ok(sqlx::query(raise).execute(&mut **tx).await?.rows_affected() > 0)
}

/// Copies a grant on future things to a new thing, if the grant still exists.
async fn insert_copy(tx: &mut Transaction<'_, Any>, on: &Securable, grant: &NewGrant, created_by: &str) -> Result<()> {
    let (warehouse, namespace, object) = match on {
        Securable::Server => (None, None, None),
        Securable::Warehouse { warehouse } => (Some(*warehouse), None, None),
        Securable::Namespace { warehouse, namespace } => (Some(*warehouse), Some(namespace.key()), None),
        Securable::Table { table } | Securable::View { view: table } => (None, None, Some(table.to_string())),
        Securable::Function { warehouse, namespace, name } => (Some(*warehouse), Some(namespace.key()), Some(name.clone())),
    };
    sqlx::query(
        "INSERT INTO access_grant (id, to_kind, to_issuer, to_name, on_kind, warehouse_id, namespace, object, privileges,
                                   future_kind, created_ms, created_by)
         SELECT $2, to_kind, to_issuer, to_name, $3, $4, $5, $6, $7, NULL, $8, $9
         FROM access_grant WHERE id = $1 AND future_kind = $3",
    )
    .bind(&grant.from)
    .bind(Uuid::now_v7().to_string())
    .bind(on.kind().as_str())
    .bind(warehouse)
    .bind(namespace)
    .bind(object)
    .bind(grant.privileges.to_bits())
    .bind(now_ms())
    .bind(created_by)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Moves owner and grants from an entry to the one that replaces it, if both are the same table. Otherwise removes them.
///
/// # Errors
///
/// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
pub(crate) async fn replace_rights(tx: &mut Transaction<'_, Any>, from: TableId, to: TableId, is_same: bool) -> Result<()> {
    let mut changed = 0;
    // Each statement has both parameters, so that one loop binds them.
    let statements = match is_same {
        true => [
            "UPDATE access_grant SET object = $2 WHERE object = $1 AND on_kind IN ('table', 'view')",
            "UPDATE tabular_owner SET table_id = $2 WHERE table_id = $1",
        ],
        false => [
            "DELETE FROM access_grant WHERE object = $1 AND object <> $2 AND on_kind IN ('table', 'view')",
            "DELETE FROM tabular_owner WHERE table_id = $1 AND table_id <> $2",
        ],
    };
    for statement in statements {
        let done = sqlx::query(statement).bind(from.to_string()).bind(to.to_string()).execute(&mut **tx).await?;
        changed += done.rows_affected();
    }
    if changed > 0 {
        // The mode may be off: rows that it left behind count again when it is turned on.
        sqlx::query("UPDATE access_state SET version = version + 1 WHERE id = 1").execute(&mut **tx).await?;
    }
    Ok(())
}
