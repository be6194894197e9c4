//! Access policies, as texts in the language Cedar.
//!
//! `esker_access` checks a text before it is stored, and compiles it again with the rules. This file only keeps it.

use esker_access::PolicyRow;
use esker_types::{Millis, now_ms};
use sqlx::any::AnyRow;
use sqlx::{Any, AnyConnection, Row, Transaction};

use crate::Result;

/// An access policy with the change that it has its text from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPolicy {
    /// The name of the policy.
    pub name: String,
    /// The text: one or more policies of the language Cedar.
    pub text: String,
    /// The principal that set the text.
    pub changed_by: String,
    /// The time at which the text was set, in milliseconds since the Unix epoch.
    pub changed_ms: Millis,
}

impl From<StoredPolicy> for PolicyRow {
    fn from(stored: StoredPolicy) -> Self {
        Self { name: stored.name, text: stored.text }
    }
}

/// Selects all access policies, by name.
pub(super) async fn select_policies(connection: &mut AnyConnection) -> Result<Vec<StoredPolicy>> {
    let sql = "SELECT name, text, changed_by, changed_ms FROM access_policy ORDER BY name";
    sqlx::query(sql).fetch_all(connection).await?.iter().map(policy_of).collect()
}

/// Selects one access policy; `None` if no policy has the name.
pub(super) async fn select_policy(connection: &mut AnyConnection, name: &str) -> Result<Option<StoredPolicy>> {
    let sql = "SELECT name, text, changed_by, changed_ms FROM access_policy WHERE name = $1";
    sqlx::query(sql).bind(name).fetch_optional(connection).await?.as_ref().map(policy_of).transpose()
}

/// Reads an access policy from the columns that [`select_policies`] selects.
fn policy_of(row: &AnyRow) -> Result<StoredPolicy> {
    let (name, text) = (row.try_get(0)?, row.try_get(1)?);
    Ok(StoredPolicy { name, text, changed_by: row.try_get(2)?, changed_ms: row.try_get(3)? })
}

/// Adds an access policy, or replaces the text of the one with its name.
pub(super) async fn set_policy(tx: &mut Transaction<'_, Any>, name: &str, text: &str, by: &str) -> Result<()> {
    let insert = sqlx::query(
        "INSERT INTO access_policy (name, text, changed_by, changed_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (name) DO UPDATE SET text = $2, changed_by = $3, changed_ms = $4",
    );
    insert.bind(name).bind(text).bind(by).bind(now_ms()).execute(&mut **tx).await?;
    Ok(())
}

/// Removes an access policy.
pub(super) async fn remove_policy(tx: &mut Transaction<'_, Any>, name: &str) -> Result<()> {
    sqlx::query("DELETE FROM access_policy WHERE name = $1").bind(name).execute(&mut **tx).await?;
    Ok(())
}
