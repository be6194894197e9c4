//! Keys that authenticate what clients carry for the servers: stored, listed, rotated.
//!
//! A key is *active* until another one of its purpose replaces it. Then it is *retiring* until its end, and *retired* from then on.
//! A purpose has at most one active key. The crate does not know what the material means: `esker-auth` encrypts it.

use std::fmt;

use esker_types::Millis;
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use crate::{Result, State, StateError};

/// The handle for the keys.
#[derive(Debug, Clone, Copy)]
pub struct SigningKeys<'a> {
    pub(crate) state: &'a State,
}

/// A key as the database keeps it. Times are in milliseconds since the Unix epoch.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKeyRow {
    /// The id of the key.
    pub id: String,
    /// The name of the purpose.
    pub purpose: String,
    /// The material in base64, encrypted if `master_key` is not empty.
    pub material: String,
    /// The id of the master key that encrypts the material; empty if none does.
    pub master_key: String,
    /// The time at which the key was made.
    pub created_ms: Millis,
    /// The time from which another key signs; `None` for the active one.
    pub retiring_ms: Option<Millis>,
    /// The time from which the key verifies nothing; `None` for the active one.
    pub ends_ms: Option<Millis>,
}

impl fmt::Debug for SigningKeyRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The material is secret.
        let Self { id, purpose, master_key, created_ms, retiring_ms, ends_ms, .. } = self;
        let mut shown = f.debug_struct("SigningKeyRow");
        shown.field("id", id).field("purpose", purpose).field("master_key", master_key).field("created_ms", created_ms);
        shown.field("retiring_ms", retiring_ms).field("ends_ms", ends_ms).finish_non_exhaustive()
    }
}

impl SigningKeyRow {
    /// Reads a row of [`SigningKeys::list`].
    fn of(row: &AnyRow) -> Result<Self> {
        Ok(Self {
            id: row.try_get(0)?,
            purpose: row.try_get(1)?,
            material: row.try_get(2)?,
            master_key: row.try_get(3)?,
            created_ms: row.try_get(4)?,
            retiring_ms: row.try_get(5)?,
            ends_ms: row.try_get(6)?,
        })
    }
}

impl SigningKeys<'_> {
    /// Returns all keys, by purpose and age.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer.
    pub async fn list(self) -> Result<Vec<SigningKeyRow>> {
        let query = sqlx::query(
            "SELECT id, purpose, material, master_key, created_ms, retiring_ms, ends_ms FROM signing_key
             ORDER BY purpose, created_ms, id",
        );
        let rows = query.fetch_all(&self.state.readers).await?;
        rows.iter().map(SigningKeyRow::of).collect()
    }

    /// Stores the first key of a purpose, which is active. Returns false, and stores nothing, if the purpose has an active key.
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the key is not stored.
    pub async fn insert_first(self, key: &SigningKeyRow) -> Result<bool> {
        let mut tx = self.state.begin().await?;
        let active = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM signing_key WHERE purpose = $1 AND retiring_ms IS NULL");
        if active.bind(&key.purpose).fetch_one(&mut *tx).await? > 0 {
            return Ok(false);
        }
        insert(&mut tx, key).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(true)
    }

    /// Stores a key that replaces the active one of its purpose. Every earlier key of the purpose ends at `ends_ms` at the latest.
    ///
    /// Removes the keys of all purposes that ended before `forget_before`.
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing is changed.
    pub async fn rotate(self, key: &SigningKeyRow, ends_ms: Millis, forget_before: Millis) -> Result<()> {
        let mut tx = self.state.begin().await?;
        sqlx::query("DELETE FROM signing_key WHERE ends_ms < $1").bind(forget_before).execute(&mut *tx).await?;
        sqlx::query("UPDATE signing_key SET ends_ms = $2 WHERE purpose = $1 AND ends_ms > $2")
            .bind(&key.purpose)
            .bind(ends_ms)
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE signing_key SET retiring_ms = $2, ends_ms = $3 WHERE purpose = $1 AND retiring_ms IS NULL")
            .bind(&key.purpose)
            .bind(key.created_ms)
            .bind(ends_ms)
            .execute(&mut *tx)
            .await?;
        insert(&mut tx, key).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(())
    }

    /// Replaces the material of keys, and the id of the master key that encrypts it, in one transaction.
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing is changed.
    pub async fn replace_material(self, keys: &[SigningKeyRow]) -> Result<()> {
        let mut tx = self.state.begin().await?;
        for key in keys {
            sqlx::query("UPDATE signing_key SET material = $2, master_key = $3 WHERE id = $1")
                .bind(&key.id)
                .bind(&key.material)
                .bind(&key.master_key)
                .execute(&mut *tx)
                .await?;
        }
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(())
    }
}

/// Stores an active key.
async fn insert(tx: &mut Transaction<'static, Any>, key: &SigningKeyRow) -> Result<()> {
    sqlx::query("INSERT INTO signing_key (id, purpose, material, master_key, created_ms) VALUES ($1, $2, $3, $4, $5)")
        .bind(&key.id)
        .bind(&key.purpose)
        .bind(&key.material)
        .bind(&key.master_key)
        .bind(key.created_ms)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::databases;

    fn key(id: &str, purpose: &str, created_ms: Millis) -> SigningKeyRow {
        SigningKeyRow {
            id: id.to_owned(),
            purpose: purpose.to_owned(),
            material: format!("material of {id}"),
            master_key: String::new(),
            created_ms,
            retiring_ms: None,
            ends_ms: None,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_purpose_has_one_active_key_and_earlier_ones_end() {
        let dir = tempfile::tempdir().expect("a directory");
        for database in databases(&dir) {
            let state = State::open(database).await.expect("opened");
            earlier_ones_end(&state).await;
            one_is_active(&state).await;
            state.close().await;
        }
    }

    async fn one_is_active(state: &State) {
        let keys = state.keys();
        let (one, other) = (key("x", "other", 10), key("y", "other", 10));
        let (one, other) = tokio::join!(keys.insert_first(&one), keys.insert_first(&other));
        assert_ne!(one.expect("asked"), other.expect("asked"), "of two servers that start at the same time, one makes the key");
        keys.rotate(&key("z", "other", 11), 11, 0).await.expect("rotated");
        let rows = keys.list().await.expect("listed");
        assert_eq!(rows.iter().filter(|row| row.purpose == "other" && row.retiring_ms.is_none()).count(), 1, "{rows:?}");
    }

    async fn earlier_ones_end(state: &State) {
        let keys = state.keys();
        assert!(keys.insert_first(&key("a", "handles", 10)).await.expect("stored"));
        assert!(!keys.insert_first(&key("b", "handles", 20)).await.expect("asked"), "there is one");
        assert!(keys.insert_first(&key("p", "plans", 20)).await.expect("stored"));
        keys.rotate(&key("c", "handles", 30), 130, 0).await.expect("rotated");
        keys.rotate(&key("d", "handles", 40), 100, 0).await.expect("rotated");
        let times = async || -> Vec<(String, Option<Millis>, Option<Millis>)> {
            let rows = keys.list().await.expect("listed");
            rows.into_iter().map(|row| (row.id, row.retiring_ms, row.ends_ms)).collect()
        };
        let of = |id: &str, retiring, ends| (id.to_owned(), retiring, ends);
        let expected = [of("a", Some(30), Some(100)), of("c", Some(40), Some(100)), of("d", None, None), of("p", None, None)];
        assert_eq!(times().await, expected, "a shorter overlap ends the earlier keys too");
        keys.rotate(&key("e", "handles", 200), 300, 101).await.expect("rotated");
        let expected = [of("d", Some(200), Some(300)), of("e", None, None), of("p", None, None)];
        assert_eq!(times().await, expected, "those that ended long ago are gone");
        let sealed = SigningKeyRow { material: "sealed".to_owned(), master_key: "m".to_owned(), ..key("e", "handles", 200) };
        keys.replace_material(std::slice::from_ref(&sealed)).await.expect("replaced");
        assert_eq!(keys.list().await.expect("listed")[1], sealed);
        assert!(!format!("{sealed:?}").contains("sealed"), "no log has the material");
    }
}
