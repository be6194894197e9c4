//! Principals and their tokens. Only the SHA-256 of a token is stored.
//!
//! A principal has one token of its own, which does not expire, and any number of access tokens, which do.

use esker_types::{Millis, now_ms};
use sqlx::Row;

use crate::{Result, State};

/// The handle for the principals and their tokens.
#[derive(Debug, Clone, Copy)]
pub struct Principals<'a> {
    pub(crate) state: &'a State,
}

impl Principals<'_> {
    /// Checks that a principal exists. If none does, this is the first start.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn any(self) -> Result<bool> {
        let n: i64 = sqlx::query_scalar("SELECT count(*) FROM principal").fetch_one(&self.state.readers).await?;
        Ok(n > 0)
    }

    /// Creates a principal, or gives an existing one a new token. `token_sha256` is the SHA-256 of the token, in hex.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn put(self, name: &str, token_sha256: &str) -> Result<()> {
        sqlx::query(
            "INSERT INTO principal (name, token_sha256, created_ms) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET token_sha256 = $2",
        )
        .bind(name)
        .bind(token_sha256)
        .bind(now_ms())
        .execute(&self.state.writer)
        .await?;
        Ok(())
    }

    /// Returns the principal of a token, and the time until which the token is valid, in milliseconds since the Unix epoch.
    ///
    /// The token may be the principal's own, which is valid without end (`Millis::MAX`), or an access token that has not expired.
    /// `token_sha256` is the SHA-256 of the token, in hex.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn by_token(self, token_sha256: &str) -> Result<Option<(String, Millis)>> {
        let row = sqlx::query(
            "SELECT name, $3 FROM principal WHERE token_sha256 = $1
             UNION ALL SELECT principal, expires_ms FROM access_token WHERE token_sha256 = $1 AND expires_ms > $2 LIMIT 1",
        )
        .bind(token_sha256)
        .bind(now_ms())
        .bind(Millis::MAX)
        .fetch_optional(&self.state.readers)
        .await?;
        row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
    }

    /// Stores an access token of a principal, which expires at `expires_ms` (milliseconds since the Unix epoch).
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn insert_access_token(self, principal: &str, token_sha256: &str, expires_ms: Millis) -> Result<()> {
        sqlx::query("INSERT INTO access_token (token_sha256, principal, expires_ms) VALUES ($1, $2, $3)")
            .bind(token_sha256)
            .bind(principal)
            .bind(expires_ms)
            .execute(&self.state.relaxed_writer)
            .await?;
        Ok(())
    }
}
