//! The rights on catalog entries, which are written and removed in the transactions that create and drop the entries.
//!
//! A new entry gets a copy of each grant on future things of its kind around it. What is dropped for good leaves no grant: a
//! later namespace or function of its name would get it.

use esker_access::{Member, Securable, SecurableKind};
use esker_types::{NamespaceName, TableId, now_ms};
use sqlx::{Any, Transaction};
use uuid::Uuid;

use super::bump_version;
use super::columns::{GRANT_COLUMNS, SecurableColumns, grant_of};
use crate::{Result, Warehouse};

/// Stores the owner of a new table or view, and copies the grants on future things to any new entry.
///
/// `container` is the namespace of the entry; `None` for an outermost namespace.
pub(crate) async fn add_rights_of_new(
    tx: &mut Transaction<'_, Any>,
    warehouse: Warehouse,
    container: Option<&NamespaceName>,
    on: &Securable,
    owner: Option<&Member>,
) -> Result<()> {
    let mut is_changed = false;
    if let (Some(owner), Securable::Table { table: id } | Securable::View { view: id }) = (owner, on) {
        insert_owner(tx, *id, owner).await?;
        is_changed = true;
    }
    for id in future_grants(tx, warehouse, container, on.kind()).await? {
        is_changed |= copy_grant(tx, &id, on).await?;
    }
    if is_changed { bump_version(tx).await } else { Ok(()) }
}

/// Stores the owner of a table or view.
pub(super) async fn insert_owner(tx: &mut Transaction<'_, Any>, id: TableId, owner: &Member) -> Result<()> {
    let (kind, issuer, name) = owner.columns();
    let insert = sqlx::query(
        "INSERT INTO tabular_owner (table_id, owner_kind, owner_issuer, owner_name) VALUES ($1, $2, $3, $4)
         ON CONFLICT (table_id) DO UPDATE SET owner_kind = $2, owner_issuer = $3, owner_name = $4",
    );
    insert.bind(id.to_string()).bind(kind).bind(issuer).bind(name).execute(&mut **tx).await?;
    Ok(())
}

/// Returns the ids of the grants on future things of a kind in a namespace, and in everything around it.
async fn future_grants(
    tx: &mut Transaction<'_, Any>,
    warehouse: Warehouse,
    container: Option<&NamespaceName>,
    kind: SecurableKind,
) -> Result<Vec<String>> {
    let sql = format!("SELECT {GRANT_COLUMNS} FROM access_grant g WHERE g.future_kind = $1 ORDER BY g.id");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(kind.as_str()).fetch_all(&mut **tx).await?;
    let around = |outer: &NamespaceName| {
        let is_same = |(a, b): (&String, &String)| warehouse.key(a) == warehouse.key(b);
        let (outer, inner) = (outer.levels(), container.map(NamespaceName::levels).unwrap_or_default());
        outer.len() <= inner.len() && outer.iter().zip(inner).all(is_same)
    };
    let mut found = Vec::new();
    for row in &rows {
        let Some(grant) = grant_of(row)? else { continue };
        let is_around = match &grant.on {
            Securable::Server => true,
            Securable::Warehouse { warehouse: id } => *id == warehouse.id,
            Securable::Namespace { warehouse: id, namespace } => *id == warehouse.id && around(namespace),
            Securable::Table { .. } | Securable::View { .. } | Securable::Function { .. } => false,
        };
        if is_around {
            found.push(grant.id);
        }
    }
    Ok(found)
}

/// Copies a grant on future things to a new one. Returns false if it has no privilege that applies there.
async fn copy_grant(tx: &mut Transaction<'_, Any>, from: &str, on: &Securable) -> Result<bool> {
    let (privileges, on) = (on.kind().privileges(), SecurableColumns::of(on));
    let insert = sqlx::query(
        "INSERT INTO access_grant (id, member_kind, member_issuer, member_name, on_kind, warehouse_id, namespace, table_id,
                                   function_name, privileges, future_kind, copied_from, created_by, created_ms)
         SELECT $1, member_kind, member_issuer, member_name, $2, $3, $4, $5, $6, privileges & $7, '', id, created_by, $8
         FROM access_grant WHERE id = $9 AND (privileges & $7) <> 0",
    );
    let insert = insert.bind(Uuid::now_v7().to_string());
    let insert = insert.bind(on.kind).bind(on.warehouse).bind(on.namespace).bind(on.table).bind(on.function);
    let insert = insert.bind(privileges.to_bits()).bind(now_ms()).bind(from);
    Ok(insert.execute(&mut **tx).await?.rows_affected() > 0)
}

/// Copies the row filters and column masks of a table to an entry that is about to replace it. Returns true if there are any.
pub(super) async fn announce_restrictions(tx: &mut Transaction<'_, Any>, from: TableId, to: TableId) -> Result<bool> {
    let mut copied = 0;
    for sql in [
        "INSERT INTO access_row_filter (id, table_id, member_kind, member_issuer, member_name, filter, created_by, created_ms)
         SELECT id || '~' || $1, $1, member_kind, member_issuer, member_name, filter, created_by, created_ms
         FROM access_row_filter WHERE table_id = $2",
        "INSERT INTO access_column_mask (table_id, field_id, action, exempt, created_by, created_ms)
         SELECT $1, field_id, action, exempt, created_by, created_ms FROM access_column_mask WHERE table_id = $2",
    ] {
        copied += sqlx::query(sql).bind(to.to_string()).bind(from.to_string()).execute(&mut **tx).await?.rows_affected();
    }
    if copied > 0 {
        bump_version(tx).await?;
    }
    Ok(copied > 0)
}

/// Gives the row filters and column masks of a table to the entry that replaces it: registered again, it stays restricted.
///
/// They take the place of copies that [`announce_restrictions`] made.
pub(crate) async fn inherit_restrictions(tx: &mut Transaction<'_, Any>, from: TableId, to: TableId) -> Result<()> {
    let mut moved = 0;
    for sql in ["DELETE FROM access_row_filter WHERE table_id = $1", "DELETE FROM access_column_mask WHERE table_id = $1"] {
        moved += sqlx::query(sql).bind(to.to_string()).execute(&mut **tx).await?.rows_affected();
    }
    for sql in [
        "UPDATE access_row_filter SET table_id = $1 WHERE table_id = $2",
        "UPDATE access_column_mask SET table_id = $1 WHERE table_id = $2",
    ] {
        moved += sqlx::query(sql).bind(to.to_string()).bind(from.to_string()).execute(&mut **tx).await?.rows_affected();
    }
    if moved > 0 { bump_version(tx).await } else { Ok(()) }
}

/// Removes the grants on a table or view that is gone for good, its owner, its row filters and its column masks.
pub(crate) async fn forget_tabular(tx: &mut Transaction<'_, Any>, id: TableId) -> Result<()> {
    let mut removed = 0;
    for sql in [
        "DELETE FROM access_grant WHERE table_id = $1",
        "DELETE FROM tabular_owner WHERE table_id = $1",
        "DELETE FROM access_row_filter WHERE table_id = $1",
        "DELETE FROM access_column_mask WHERE table_id = $1",
    ] {
        removed += sqlx::query(sql).bind(id.to_string()).execute(&mut **tx).await?.rows_affected();
    }
    if removed > 0 { bump_version(tx).await } else { Ok(()) }
}

/// Removes the grants on a namespace that is dropped. `name` is its key, as the database has it.
pub(crate) async fn forget_namespace(tx: &mut Transaction<'_, Any>, warehouse: Warehouse, name: &str) -> Result<()> {
    let delete = sqlx::query("DELETE FROM access_grant WHERE on_kind = $1 AND warehouse_id = $2 AND namespace = $3");
    let delete = delete.bind(SecurableKind::Namespace.as_str()).bind(warehouse.id).bind(name);
    if delete.execute(&mut **tx).await?.rows_affected() > 0 { bump_version(tx).await } else { Ok(()) }
}

/// Removes the grants on a function that is dropped. The names are as the database has them.
pub(crate) async fn forget_function(
    tx: &mut Transaction<'_, Any>,
    warehouse: Warehouse,
    namespace: &str,
    name: &str,
) -> Result<()> {
    let delete = sqlx::query(
        "DELETE FROM access_grant WHERE on_kind = $1 AND warehouse_id = $2 AND namespace = $3 AND function_name = $4",
    );
    let delete = delete.bind(SecurableKind::Function.as_str()).bind(warehouse.id).bind(namespace).bind(name);
    if delete.execute(&mut **tx).await?.rows_affected() > 0 { bump_version(tx).await } else { Ok(()) }
}
