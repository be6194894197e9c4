//! The principals that have a token of their own in the table `principal`: of earlier releases, the configuration, the first start.
//!
//! All other tokens are in the table `api_token`: see `tokens.rs`, which also finds those of this table.

use esker_types::now_ms;

use crate::{Result, State, StateError};

/// The handle for the principals that have one token of their own.
#[derive(Debug, Clone, Copy)]
pub struct Principals<'a> {
    pub(crate) state: &'a State,
}

impl Principals<'_> {
    /// Checks that somebody can log in: that a principal has a token which has not ended and was not revoked.
    ///
    /// Nobody can at the first start. Tokens that were issued in exchange for others don't count, as they end soon: neither
    /// those of a chain, nor those of users of an identity provider.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn any(self) -> Result<bool> {
        let count = sqlx::query_scalar::<_, i64>(
            "SELECT (SELECT count(*) FROM principal) + (SELECT count(*) FROM api_token
             WHERE root_id = id AND principal_kind <> 'user' AND revoked_ms IS NULL
               AND (expires_ms IS NULL OR expires_ms > $1))",
        );
        Ok(count.bind(now_ms()).fetch_one(&self.state.readers).await? > 0)
    }

    /// Creates a principal, or gives an existing one a new token. `token_sha256` is the SHA-256 of the token, in hex.
    ///
    /// If the principal does not have this token yet, the tokens that were issued to the principal before end. So a revoked token
    /// that counts again brings back none that was issued for it.
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn put(self, name: &str, token_sha256: &str) -> Result<()> {
        let mut tx = self.state.begin().await?;
        let known = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM principal WHERE name = $1 AND token_sha256 = $2");
        if known.bind(name).bind(token_sha256).fetch_one(&mut *tx).await? == 0 {
            // Earlier releases issue tokens by the name of the principal, this one by the SHA-256 of the principal's token.
            sqlx::query("DELETE FROM access_token WHERE principal = $1").bind(name).execute(&mut *tx).await?;
            sqlx::query("DELETE FROM api_token WHERE root_id = $1").bind(token_sha256).execute(&mut *tx).await?;
        }
        sqlx::query(
            "INSERT INTO principal (name, token_sha256, created_ms) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET token_sha256 = $2",
        )
        .bind(name)
        .bind(token_sha256)
        .bind(now_ms())
        .execute(&mut *tx)
        .await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(())
    }
}
