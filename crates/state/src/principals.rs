use esker_types::{Millis, now_ms};
use sqlx::Row;

use crate::{Result, State};

impl State {
    /// Whether any principal exists; none means a first start.
    pub async fn has_principals(&self) -> Result<bool> {
        let n: i64 = sqlx::query_scalar("SELECT count(*) FROM principal").fetch_one(&self.readers).await?;
        Ok(n > 0)
    }

    /// Makes a principal, or gives an existing one a new token. Only the token's SHA-256 (hex) is kept.
    pub async fn put_principal(&self, name: &str, token_sha256: &str) -> Result<()> {
        sqlx::query(
            "INSERT INTO principal (name, token_sha256, created_ms) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET token_sha256 = $2",
        )
        .bind(name)
        .bind(token_sha256)
        .bind(now_ms())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// The principal whose token has this SHA-256 (hex): its own token, or one that it was handed out and that still holds.
    /// With it, until when the token holds.
    pub async fn principal_by_token(&self, token_sha256: &str) -> Result<Option<(String, Millis)>> {
        let row = sqlx::query(
            "SELECT name, $3 FROM principal WHERE token_sha256 = $1
             UNION ALL SELECT principal, expires_ms FROM access_token WHERE token_sha256 = $1 AND expires_ms > $2 LIMIT 1",
        )
        .bind(token_sha256)
        .bind(now_ms())
        .bind(Millis::MAX)
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
    }

    /// Hands a principal another token, for a while.
    pub async fn insert_access_token(&self, principal: &str, token_sha256: &str, expires_ms: Millis) -> Result<()> {
        sqlx::query("INSERT INTO access_token (token_sha256, principal, expires_ms) VALUES ($1, $2, $3)")
            .bind(token_sha256)
            .bind(principal)
            .bind(expires_ms)
            .execute(&self.intents)
            .await?;
        Ok(())
    }
}
