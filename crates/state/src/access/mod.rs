//! The rules of access control: their version and mode, roles, members, grants, owners of tables and views, row filters, column
//! masks, access policies.
//!
//! Each change of the rules adds 1 to their version, in the transaction of the change. So one cheap query shows if rules that
//! were loaded before are still those of the database. `esker_access` says what the rules mean; this file only stores them. Start
//! reading at [`Access::change`].

mod columns;
mod entries;
mod policies;
mod restrictions;

use esker_access::{
    AccessMode, GrantRow, Member, MemberRow, OwnerRow, PolicyRow, PrivilegeSet, RoleRow, RuleChange, RuleRows, Securable,
    SecurableKind,
};
use esker_types::{Millis, NamespaceName, TableId, TableName, now_ms};
use sqlx::any::AnyRow;
use sqlx::{Any, AnyConnection, Row, Transaction};

use self::columns::{GRANT_COLUMNS, SecurableColumns, future_column, grant_of, member_of};
use self::entries::announce_restrictions;
pub(crate) use self::entries::{add_rights_of_new, forget_function, forget_namespace, forget_tabular, inherit_restrictions};
pub use self::policies::StoredPolicy;
use self::policies::{select_policies, select_policy};
pub use self::restrictions::{StoredColumnMask, StoredRowFilter};
use self::restrictions::{select_filters, select_masks};
use crate::{Outbox, Result, State, StateError, parse_id};

/// A role with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRole {
    /// The name of the role.
    pub name: String,
    /// The principal that created the role.
    pub created_by: String,
    /// The time at which the role was created, in milliseconds since the Unix epoch.
    pub created_ms: Millis,
}

/// A membership with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMember {
    /// The membership.
    pub row: MemberRow,
    /// The principal that added the member.
    pub created_by: String,
    /// The time at which the member was added, in milliseconds since the Unix epoch.
    pub created_ms: Millis,
}

/// A grant with its origin, and the present name of its table or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGrant {
    /// The grant.
    pub row: GrantRow,
    /// The id of the grant on future things that this one is a copy of.
    pub copied_from: Option<String>,
    /// The principal that made the grant.
    pub created_by: String,
    /// The time at which the grant was made, in milliseconds since the Unix epoch.
    pub created_ms: Millis,
    /// The warehouse's id and the name of the table or view that the grant is on; `None` on something else, and after a drop.
    pub tabular: Option<(i64, TableName)>,
}

/// The handle for the rules of access control.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    pub(crate) state: &'a State,
}

/// Reads a mode.
fn mode_of(text: &str) -> Result<AccessMode> {
    AccessMode::from_name(text).ok_or_else(|| StateError::Corrupt(format!("{text:?} is no mode of access control")))
}

impl Access<'_> {
    /// Returns the version of the rules and the mode.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if the mode is one
    /// that only a later release knows.
    pub async fn version(self) -> Result<(i64, AccessMode)> {
        let row = sqlx::query("SELECT version, mode FROM access_state").fetch_one(&self.state.readers).await?;
        Ok((row.try_get(0)?, mode_of(row.try_get(1)?)?))
    }

    /// Returns the time at which the mode was set, in milliseconds since the Unix epoch; 0 if it never was.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer.
    pub async fn mode_ms(self) -> Result<Millis> {
        Ok(sqlx::query_scalar("SELECT mode_ms FROM access_state").fetch_one(&self.state.readers).await?)
    }

    /// Returns all rows of one version of the rules, in a fixed order.
    ///
    /// Members and securables of kinds that only a later release knows are left out: they give no right.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn rows(self) -> Result<RuleRows> {
        let mut tx = self.state.database.begin_snapshot(&self.state.readers).await?;
        let row = sqlx::query("SELECT version, mode FROM access_state").fetch_one(&mut *tx).await?;
        let (version, mode) = (row.try_get(0)?, mode_of(row.try_get(1)?)?);
        let roles = select_roles(&mut tx).await?.into_iter().map(|role| RoleRow { name: role.name }).collect();
        let members = select_members(&mut tx).await?.into_iter().map(|member| member.row).collect();
        let sql = format!("SELECT {GRANT_COLUMNS} FROM access_grant g ORDER BY g.id");
        let found = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *tx).await?;
        let grants = found.iter().filter_map(|row| grant_of(row).transpose()).collect::<Result<_>>()?;
        let sql = "SELECT table_id, owner_kind, owner_issuer, owner_name FROM tabular_owner ORDER BY table_id";
        let found = sqlx::query(sql).fetch_all(&mut *tx).await?;
        let owners = found.iter().filter_map(|row| owner_of(row).transpose()).collect::<Result<_>>()?;
        let filters = select_filters(&mut tx).await?.into_iter().map(|stored| stored.row).collect();
        let masks = select_masks(&mut tx).await?.into_iter().map(|stored| stored.row).collect();
        let policies = select_policies(&mut tx).await?.into_iter().map(PolicyRow::from).collect();
        tx.commit().await?;
        Ok(RuleRows { version, mode, roles, members, grants, owners, filters, masks, policies })
    }

    /// Returns the roles that people created, by name.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer.
    pub async fn roles(self) -> Result<Vec<StoredRole>> {
        let mut connection = self.state.readers.acquire().await?;
        select_roles(&mut connection).await
    }

    /// Returns the memberships of all roles, by role and member.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer.
    pub async fn members(self) -> Result<Vec<StoredMember>> {
        let mut connection = self.state.readers.acquire().await?;
        select_members(&mut connection).await
    }

    /// Returns all grants, the oldest first.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn grants(self) -> Result<Vec<StoredGrant>> {
        let sql = format!(
            "SELECT {GRANT_COLUMNS}, g.copied_from, g.created_by, g.created_ms, n.warehouse_id, n.name, t.name
             FROM access_grant g LEFT JOIN tabular t ON t.id = g.table_id LEFT JOIN namespace n ON n.id = t.namespace_id
             ORDER BY g.created_ms, g.id"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&self.state.readers).await?;
        rows.iter().filter_map(|row| stored_grant(row).transpose()).collect()
    }

    /// Returns all row filters, the oldest first.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored filter
    /// can't be read.
    pub async fn row_filters(self) -> Result<Vec<StoredRowFilter>> {
        let mut connection = self.state.readers.acquire().await?;
        select_filters(&mut connection).await
    }

    /// Returns all column masks, by table and field.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored mask
    /// can't be read.
    pub async fn column_masks(self) -> Result<Vec<StoredColumnMask>> {
        let mut connection = self.state.readers.acquire().await?;
        select_masks(&mut connection).await
    }

    /// Returns all access policies, by name.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer.
    pub async fn policies(self) -> Result<Vec<StoredPolicy>> {
        let mut connection = self.state.readers.acquire().await?;
        select_policies(&mut connection).await
    }

    /// Returns the access policy of a name; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer.
    pub async fn policy(self, name: &str) -> Result<Option<StoredPolicy>> {
        let mut connection = self.state.readers.acquire().await?;
        select_policy(&mut connection, name).await
    }

    /// Carries out changes, if the rules still have the version `expected_version`. Returns the new version.
    ///
    /// `by` is the principal that makes the changes. The caller has checked them: see `esker_access::RuleRows::apply`.
    ///
    /// # Errors
    ///
    /// - Returns [`RulesChanged`](StateError::RulesChanged) if the rules have another version; nothing is changed then.
    /// - Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and
    ///   [`Fenced`](StateError::Fenced), [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn change(self, expected_version: i64, by: &str, changes: &[RuleChange], outbox: &Outbox) -> Result<i64> {
        let mut tx = self.state.begin().await?;
        let update = sqlx::query("UPDATE access_state SET version = version + 1 WHERE version = $1").bind(expected_version);
        if update.execute(&mut *tx).await?.rows_affected() == 0 {
            return Err(StateError::RulesChanged);
        }
        for change in changes {
            carry_out(&mut tx, change, by).await?;
        }
        outbox.insert(&mut tx).await?;
        tx.commit().await.map_err(StateError::of_commit)?;
        Ok(expected_version + 1)
    }

    /// Copies the row filters and column masks of a table to an entry that is about to replace it. Returns true if there are any.
    ///
    /// Once every server has read the rules, none of them takes the new entry for one without restrictions.
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and [`Full`](StateError::Full) or
    /// [`Sql`](StateError::Sql) if nothing was written.
    pub async fn announce_restrictions(self, from: TableId, to: TableId) -> Result<bool> {
        let mut tx = self.state.begin().await?;
        let any = announce_restrictions(&mut tx, from, to).await?;
        tx.commit().await.map_err(StateError::of_commit)?;
        Ok(any)
    }

    /// Removes the row filters and column masks of an entry that did not replace another one after all.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::announce_restrictions`].
    pub async fn withdraw_restrictions(self, id: TableId) -> Result<()> {
        let mut tx = self.state.begin().await?;
        forget_tabular(&mut tx, id).await?;
        tx.commit().await.map_err(StateError::of_commit)
    }
}

/// Adds 1 to the version of the rules, because something else than [`Access::change`] changed them.
async fn bump_version(tx: &mut Transaction<'_, Any>) -> Result<()> {
    sqlx::query("UPDATE access_state SET version = version + 1").execute(&mut **tx).await?;
    Ok(())
}

async fn select_roles(connection: &mut AnyConnection) -> Result<Vec<StoredRole>> {
    let rows = sqlx::query("SELECT name, created_by, created_ms FROM access_role ORDER BY name").fetch_all(connection).await?;
    let role = |row: &AnyRow| Ok(StoredRole { name: row.try_get(0)?, created_by: row.try_get(1)?, created_ms: row.try_get(2)? });
    rows.iter().map(role).collect()
}

async fn select_members(connection: &mut AnyConnection) -> Result<Vec<StoredMember>> {
    let sql = "SELECT role, member_kind, member_issuer, member_name, created_by, created_ms FROM access_member
               ORDER BY role, member_kind, member_issuer, member_name";
    let rows = sqlx::query(sql).fetch_all(connection).await?;
    let stored = |row: &AnyRow| {
        let Some(member) = member_of(row, 1)? else { return Ok(None) };
        let row_of_rules = MemberRow { role: row.try_get(0)?, member };
        Ok(Some(StoredMember { row: row_of_rules, created_by: row.try_get(4)?, created_ms: row.try_get(5)? }))
    };
    rows.iter().filter_map(|row| stored(row).transpose()).collect()
}

/// Reads an owner. Returns `None` if the kind of the owner is not known.
fn owner_of(row: &AnyRow) -> Result<Option<OwnerRow>> {
    let Some(owner) = member_of(row, 1)? else { return Ok(None) };
    Ok(Some(OwnerRow { table: parse_id(row.try_get(0)?)?, owner }))
}

/// Reads a grant with its origin, from the columns that [`Access::grants`] selects.
fn stored_grant(row: &AnyRow) -> Result<Option<StoredGrant>> {
    let Some(grant) = grant_of(row)? else { return Ok(None) };
    let corrupt = |e: esker_types::IdentError| StateError::Corrupt(e.to_string());
    let (warehouse, namespace, name): (Option<i64>, Option<String>, Option<String>) =
        (row.try_get(14)?, row.try_get(15)?, row.try_get(16)?);
    let tabular = match (warehouse, namespace, name) {
        (Some(warehouse), Some(namespace), Some(name)) => {
            let namespace = NamespaceName::from_key(&namespace).map_err(corrupt)?;
            Some((warehouse, TableName::new(namespace, name).map_err(corrupt)?))
        }
        _ => None,
    };
    let copied_from = Some(row.try_get::<String, _>(11)?).filter(|id| !id.is_empty());
    Ok(Some(StoredGrant { row: grant, copied_from, created_by: row.try_get(12)?, created_ms: row.try_get(13)?, tabular }))
}

/// Carries out one change.
async fn carry_out(tx: &mut Transaction<'_, Any>, change: &RuleChange, by: &str) -> Result<()> {
    match change {
        RuleChange::SetMode { mode } => {
            let update = sqlx::query("UPDATE access_state SET mode = $1, mode_ms = $2").bind(mode.as_str()).bind(now_ms());
            update.execute(&mut **tx).await?;
        }
        RuleChange::CreateRole { role } => {
            let insert = sqlx::query("INSERT INTO access_role (name, created_by, created_ms) VALUES ($1, $2, $3)");
            insert.bind(role).bind(by).bind(now_ms()).execute(&mut **tx).await?;
        }
        RuleChange::DropRole { role } => drop_role(tx, role).await?,
        RuleChange::AddMember { role, member } => {
            let (kind, issuer, name) = member.columns();
            let insert = sqlx::query(
                "INSERT INTO access_member (role, member_kind, member_issuer, member_name, created_by, created_ms)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            );
            insert.bind(role).bind(kind).bind(issuer).bind(name).bind(by).bind(now_ms()).execute(&mut **tx).await?;
        }
        RuleChange::RemoveMember { role, member } => {
            let (kind, issuer, name) = member.columns();
            let delete = sqlx::query(
                "DELETE FROM access_member WHERE role = $1 AND member_kind = $2 AND member_issuer = $3 AND member_name = $4",
            );
            delete.bind(role).bind(kind).bind(issuer).bind(name).execute(&mut **tx).await?;
        }
        RuleChange::AddGrant { grant } => insert_grant(tx, grant, by).await?,
        RuleChange::RemoveGrant { id } => {
            sqlx::query("DELETE FROM access_grant WHERE id = $1").bind(id).execute(&mut **tx).await?;
        }
        RuleChange::Revoke { to, on, future, privileges } => revoke(tx, (to, on, *future), *privileges).await?,
        RuleChange::SetOwner { table, owner } => entries::insert_owner(tx, *table, owner).await?,
        RuleChange::SetRowFilter { filter } => restrictions::set_filter(tx, filter, by).await?,
        RuleChange::RemoveRowFilter { table, id } => restrictions::remove_filter(tx, *table, id).await?,
        RuleChange::SetColumnMask { mask } => restrictions::set_mask(tx, mask, by).await?,
        RuleChange::RemoveColumnMask { table, field_id } => restrictions::remove_mask(tx, *table, *field_id).await?,
        RuleChange::SetPolicy { name, text } => policies::set_policy(tx, name, text, by).await?,
        RuleChange::RemovePolicy { name } => policies::remove_policy(tx, name).await?,
    }
    Ok(())
}

/// Drops a role with its memberships, as role and as member, and the grants to it.
async fn drop_role(tx: &mut Transaction<'_, Any>, role: &str) -> Result<()> {
    for sql in [
        "DELETE FROM access_role WHERE name = $1",
        "DELETE FROM access_member WHERE role = $1 OR (member_kind = 'role' AND member_name = $1)",
        "DELETE FROM access_grant WHERE member_kind = 'role' AND member_name = $1",
    ] {
        sqlx::query(sql).bind(role).execute(&mut **tx).await?;
    }
    Ok(())
}

async fn insert_grant(tx: &mut Transaction<'_, Any>, grant: &GrantRow, by: &str) -> Result<()> {
    let ((kind, issuer, name), on) = (grant.to.columns(), SecurableColumns::of(&grant.on));
    let insert = sqlx::query(
        "INSERT INTO access_grant (id, member_kind, member_issuer, member_name, on_kind, warehouse_id, namespace, table_id,
                                   function_name, privileges, future_kind, copied_from, created_by, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, '', $12, $13)",
    );
    let insert = insert.bind(&grant.id).bind(kind).bind(issuer).bind(name);
    let insert = insert.bind(on.kind).bind(on.warehouse).bind(on.namespace).bind(on.table).bind(on.function);
    let insert = insert.bind(grant.privileges.to_bits()).bind(future_column(grant.future)).bind(by).bind(now_ms());
    insert.execute(&mut **tx).await?;
    Ok(())
}

/// Takes privileges out of the grants to a holder on a securable, and removes grants without any.
///
/// Bits of privileges that only a later release knows stay.
async fn revoke(
    tx: &mut Transaction<'_, Any>,
    (to, on, future): (&Member, &Securable, Option<SecurableKind>),
    privileges: PrivilegeSet,
) -> Result<()> {
    let ((kind, issuer, name), on) = (to.columns(), SecurableColumns::of(on));
    let update = sqlx::query(
        "UPDATE access_grant SET privileges = privileges & $1
         WHERE member_kind = $2 AND member_issuer = $3 AND member_name = $4 AND on_kind = $5 AND warehouse_id = $6
           AND namespace = $7 AND table_id = $8 AND function_name = $9 AND future_kind = $10",
    );
    let update = update.bind(!privileges.to_bits()).bind(kind).bind(issuer).bind(name);
    let update = update.bind(on.kind).bind(on.warehouse).bind(on.namespace).bind(on.table).bind(on.function);
    update.bind(future_column(future)).execute(&mut **tx).await?;
    sqlx::query("DELETE FROM access_grant WHERE privileges = 0").execute(&mut **tx).await?;
    Ok(())
}
