use esker_types::now_ms;

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
            "INSERT INTO principal (name, token_sha256, created_ms) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET token_sha256 = ?2",
        )
        .bind(name)
        .bind(token_sha256)
        .bind(now_ms())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// The principal whose token has this SHA-256 (hex).
    pub async fn principal_by_token(&self, token_sha256: &str) -> Result<Option<String>> {
        let query = sqlx::query_scalar("SELECT name FROM principal WHERE token_sha256 = ?1").bind(token_sha256);
        Ok(query.fetch_optional(&self.readers).await?)
    }
}
