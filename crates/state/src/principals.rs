//! The principals that have a token of their own in the table `principal`: of earlier releases, the configuration, the first start.
//!
//! All other tokens are in the table `api_token`: see `tokens.rs`, which also finds those of this table.

use esker_types::now_ms;

use crate::{Result, State};

/// The handle for the principals that have one token of their own.
#[derive(Debug, Clone, Copy)]
pub struct Principals<'a> {
    pub(crate) state: &'a State,
}

impl Principals<'_> {
    /// Checks that somebody can log in: that a principal has a token which has not ended and was not revoked.
    ///
    /// Nobody can at the first start. Tokens that were issued in exchange for others don't count, as they end soon.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn any(self) -> Result<bool> {
        let count = sqlx::query_scalar::<_, i64>(
            "SELECT (SELECT count(*) FROM principal) + (SELECT count(*) FROM api_token
             WHERE root_id = id AND revoked_ms IS NULL AND (expires_ms IS NULL OR expires_ms > $1))",
        );
        Ok(count.bind(now_ms()).fetch_one(&self.state.readers).await? > 0)
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
}
