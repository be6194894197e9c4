//! Tokens of principals: inserted, found by their SHA-256, listed, revoked, and removed once they have ended.
//!
//! A *root* is a token that a person made. A root and the tokens that were issued in exchange, one for the other, are a *chain*. A
//! token counts only while its root does, so the revocation of a root ends its chain at once. A principal of the table `principal`
//! has a root too: its one token, which an earlier release or the first start made. The root of the chain of a *user*, whom an
//! identity provider knows, was issued in exchange for a token of the provider. Start reading at [`Tokens::live`].

use esker_types::{Millis, Principal, now_ms};
use sqlx::any::AnyRow;
use sqlx::{Any, Executor, Row};
use uuid::Uuid;

use crate::batch::delete_in_batches;
use crate::{Result, State, StateError};

/// The beginning of the id of a token in the table `principal`. The principal's name follows.
const OF_PRINCIPAL: &str = "principal:";

/// The columns of a [`TokenRow`], for a row `t` of the table `api_token`.
const COLUMNS: &str = "t.id, t.principal_kind, t.principal, t.label, t.root_id, t.created_ms, t.expires_ms, t.root_expires_ms,
    t.revoked_ms, t.last_used_ms, t.issuer, t.claims";

/// The kind of principals that an identity provider knows.
const USER: &str = Principal::USER;

/// The handle for the tokens of principals.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    pub(crate) state: &'a State,
}

/// A token as the database keeps it. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// The id of the token. It is `principal:NAME` for the token of a principal that an earlier release made.
    pub id: String,
    /// The kind of the principal.
    pub principal_kind: String,
    /// The name of the principal.
    pub principal: String,
    /// The purpose of the token, in the words of the person who made it.
    pub label: String,
    /// The root of the token's chain: the id of a token, or the SHA-256 of one that an earlier release made.
    pub root_id: String,
    /// The time at which the token was made.
    pub created_ms: Millis,
    /// The time at which the token ends; `None` if it does not.
    pub expires_ms: Option<Millis>,
    /// The time at which every token of the chain has ended; `None` if nothing limits it.
    pub root_expires_ms: Option<Millis>,
    /// The time at which the token was revoked.
    pub revoked_ms: Option<Millis>,
    /// The time of the last use, at most a minute behind; `None` if there was none, or if uses are not recorded.
    pub last_used_ms: Option<Millis>,
    /// The issuer at which the principal has its name; empty unless the principal is a user of an identity provider.
    pub issuer: String,
    /// The user's groups and roles, as a JSON array of texts.
    pub claims: String,
}

impl TokenRow {
    /// Checks that a person made this token, so that it is no link of a chain of exchanges.
    pub fn is_root(&self) -> bool {
        self.root_id == self.id || (self.is_of_principal_table() && self.expires_ms.is_none())
    }

    /// Checks that the token is in a table of earlier releases, which keeps no last use.
    pub fn is_of_principal_table(&self) -> bool {
        self.id.starts_with(OF_PRINCIPAL)
    }

    /// Reads a row of the columns [`COLUMNS`].
    fn of(row: &AnyRow) -> Result<Self> {
        Ok(Self {
            id: row.try_get(0)?,
            principal_kind: row.try_get(1)?,
            principal: row.try_get(2)?,
            label: row.try_get(3)?,
            root_id: row.try_get(4)?,
            created_ms: row.try_get(5)?,
            expires_ms: row.try_get(6)?,
            root_expires_ms: row.try_get(7)?,
            revoked_ms: row.try_get(8)?,
            last_used_ms: row.try_get(9)?,
            issuer: row.try_get(10)?,
            claims: row.try_get(11)?,
        })
    }
}

/// A token to be stored.
#[derive(Debug, Clone)]
pub struct NewToken<'a> {
    /// The id of the token.
    pub id: &'a str,
    /// The SHA-256 of the token, in hex.
    pub token_sha256: &'a str,
    /// The kind of the principal.
    pub principal_kind: &'a str,
    /// The name of the principal.
    pub principal: &'a str,
    /// The purpose of the token.
    pub label: &'a str,
    /// The root of the chain. It is the id itself for a token that a person makes.
    pub root_id: &'a str,
    /// The time at which the token was made, in milliseconds since the Unix epoch.
    pub created_ms: Millis,
    /// The time at which the token ends, in milliseconds since the Unix epoch; `None` if it does not.
    pub expires_ms: Option<Millis>,
    /// The time at which every token of the chain has ended, in milliseconds since the Unix epoch.
    pub root_expires_ms: Option<Millis>,
    /// The issuer at which the principal has its name; empty unless the principal is a user of an identity provider.
    pub issuer: &'a str,
    /// The user's groups and roles, as a JSON array of texts.
    pub claims: &'a str,
}

impl Tokens<'_> {
    /// Stores a token that a person made, with its verifier of SCRAM-SHA-256 if it has one. It is on disk when this returns.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn insert(self, token: &NewToken<'_>, scram: Option<&str>) -> Result<()> {
        insert_by(&self.state.writer, token, scram).await
    }

    /// Stores a token that was issued in exchange for another one. A power cut may lose it: its client asks again.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn insert_issued(self, token: &NewToken<'_>) -> Result<()> {
        insert_by(&self.state.relaxed_writer, token, None).await
    }

    /// Returns the ids and the verifiers of SCRAM-SHA-256 of a client's tokens that count at the time `now`, by age.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn scram_verifiers(self, client: &str, now: Millis) -> Result<Vec<(String, String)>> {
        let query = sqlx::query_as(
            "SELECT id, scram_sha_256 FROM api_token
             WHERE principal_kind = $1 AND principal = $2 AND root_id = id AND scram_sha_256 IS NOT NULL AND revoked_ms IS NULL
               AND (expires_ms IS NULL OR expires_ms > $3) ORDER BY created_ms, id",
        );
        Ok(query.bind(Principal::CLIENT).bind(client).bind(now).fetch_all(&self.state.readers).await?)
    }

    /// Returns the token with a SHA-256 (hex), if it counts at the time `now`.
    ///
    /// A token that was revoked or has ended does not count, nor does one whose root was revoked or is gone, or whose chain has
    /// ended. The tokens of the tables `principal` and `access_token` are found as well.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn live(self, token_sha256: &str, now: Millis) -> Result<Option<TokenRow>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM api_token t
             WHERE t.token_sha256 = $1 AND t.revoked_ms IS NULL AND (t.expires_ms IS NULL OR t.expires_ms > $2)
               AND (EXISTS (SELECT 1 FROM api_token r WHERE r.id = t.root_id AND r.revoked_ms IS NULL
                            AND (r.root_expires_ms IS NULL OR r.root_expires_ms > $2))
                    OR EXISTS (SELECT 1 FROM principal p WHERE p.token_sha256 = t.root_id))
             UNION ALL SELECT $3 || name, 'client', name, '', token_sha256, created_ms, NULL, NULL, NULL, NULL, '', '[]'
             FROM principal WHERE token_sha256 = $1
             UNION ALL SELECT $3 || p.name, 'client', p.name, '', p.token_sha256, p.created_ms, a.expires_ms, NULL, NULL, NULL,
                 '', '[]'
             FROM access_token a JOIN principal p ON p.name = a.principal WHERE a.token_sha256 = $1 AND a.expires_ms > $2
             LIMIT 1"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(token_sha256).bind(now).bind(OF_PRINCIPAL);
        query.fetch_optional(&self.state.readers).await?.as_ref().map(TokenRow::of).transpose()
    }

    /// Returns the kind and name of the principal whose token with a SHA-256 (hex) ended after the time `since`.
    ///
    /// Returns `None` for a token that was revoked, and for one that does not end.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn ended_since(self, token_sha256: &str, since: Millis) -> Result<Option<(String, String)>> {
        let query = sqlx::query_as::<_, (String, String)>(
            "SELECT principal_kind, principal FROM api_token
             WHERE token_sha256 = $1 AND revoked_ms IS NULL AND expires_ms > $2",
        );
        Ok(query.bind(token_sha256).bind(since).fetch_optional(&self.state.readers).await?)
    }

    /// Returns the roots of chains, by principal and age, each with the number of issued tokens that count at `now`.
    ///
    /// They are the tokens that people made, and those that were issued in exchange for the token of an identity provider.
    /// Tokens that ended or were revoked are among them until [`Self::forget`] removes them.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn list(self, now: Millis) -> Result<Vec<(TokenRow, i64)>> {
        let sql = format!(
            "SELECT {COLUMNS},
                 (SELECT count(*) FROM api_token i
                  WHERE i.root_id = t.id AND i.id <> t.id AND i.revoked_ms IS NULL AND i.expires_ms > $1)
             FROM api_token t WHERE t.root_id = t.id
             UNION ALL SELECT $2 || p.name, 'client', p.name, '', p.token_sha256, p.created_ms, NULL, NULL, NULL, NULL,
                 '', '[]', (SELECT count(*) FROM api_token i
                  WHERE i.root_id = p.token_sha256 AND i.revoked_ms IS NULL AND i.expires_ms > $1)
                 + (SELECT count(*) FROM access_token a WHERE a.principal = p.name AND a.expires_ms > $1)
             FROM principal p ORDER BY 3, 6, 1"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(now).bind(OF_PRINCIPAL);
        let rows = query.fetch_all(&self.state.readers).await?;
        rows.iter().map(|row| Ok((TokenRow::of(row)?, row.try_get(12)?))).collect()
    }

    /// Revokes a token by its id, with all tokens of its chain. Returns false if there is no such token.
    ///
    /// A token that is revoked already stays as it is. The token of a principal of an earlier release is removed with the
    /// principal's row: an earlier release that runs beside this one then refuses it too.
    ///
    /// It is a change that is counted: a database that lost it lets the token in again, and nobody else would notice.
    ///
    /// # Errors
    ///
    /// Returns [`Fenced`](StateError::Fenced) if the other servers count this one as dead, and [`Full`](StateError::Full) or
    /// [`Sql`](StateError::Sql) if the database fails.
    pub async fn revoke(self, id: &str) -> Result<bool> {
        let mut tx = self.state.begin().await?;
        let is_known = match id.strip_prefix(OF_PRINCIPAL) {
            Some(name) => {
                let delete = sqlx::query("DELETE FROM principal WHERE name = $1").bind(name);
                delete.execute(&mut *tx).await?.rows_affected() > 0
            }
            None => {
                let revoke = "UPDATE api_token SET revoked_ms = $2 WHERE (id = $1 OR root_id = $1) AND revoked_ms IS NULL";
                sqlx::query(revoke).bind(id).bind(now_ms()).execute(&mut *tx).await?;
                let known = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM api_token WHERE id = $1").bind(id);
                known.fetch_one(&mut *tx).await? > 0
            }
        };
        self.state.commit(tx).await?;
        Ok(is_known)
    }

    /// Checks that there is a token of an id, whether it counts or not.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn knows(self, id: &str) -> Result<bool> {
        let count = match id.strip_prefix(OF_PRINCIPAL) {
            Some(name) => sqlx::query_scalar::<_, i64>("SELECT count(*) FROM principal WHERE name = $1").bind(name),
            None => sqlx::query_scalar::<_, i64>("SELECT count(*) FROM api_token WHERE id = $1").bind(id),
        };
        Ok(count.fetch_one(&self.state.readers).await? > 0)
    }

    /// Stores a token that a person made for a client, with its verifier of SCRAM-SHA-256, and lets the client's other tokens end at `ends_ms` at the latest.
    ///
    /// The others are those that people made, with all that were issued in exchange. The token of the table `principal` becomes one
    /// that ends. What an earlier release issued in exchange for that one ends at once.
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing is changed.
    pub async fn rotate(self, token: &NewToken<'_>, scram: Option<&str>, ends_ms: Millis) -> Result<()> {
        let mut tx = self.state.begin().await?;
        let of_table = sqlx::query_as::<_, (String, i64)>("SELECT token_sha256, created_ms FROM principal WHERE name = $1");
        if let Some((token_sha256, created_ms)) = of_table.bind(token.principal).fetch_optional(&mut *tx).await? {
            let id = Uuid::now_v7().to_string();
            let moved = NewToken {
                id: &id,
                token_sha256: &token_sha256,
                label: "",
                root_id: &id,
                created_ms,
                expires_ms: Some(ends_ms),
                root_expires_ms: Some(ends_ms),
                ..token.clone()
            };
            // It may have been moved before: a start puts the token of the configuration back.
            let earlier = sqlx::query("DELETE FROM api_token WHERE token_sha256 = $1").bind(&token_sha256);
            earlier.execute(&mut *tx).await?;
            insert_by(&mut *tx, &moved, None).await?;
            let chained = sqlx::query("UPDATE api_token SET root_id = $2 WHERE root_id = $1").bind(&token_sha256).bind(&id);
            chained.execute(&mut *tx).await?;
            sqlx::query("DELETE FROM principal WHERE name = $1").bind(token.principal).execute(&mut *tx).await?;
        }
        for column in ["expires_ms", "root_expires_ms"] {
            let sql = format!(
                "UPDATE api_token SET {column} = $3
                 WHERE principal_kind = $1 AND principal = $2 AND revoked_ms IS NULL AND ({column} IS NULL OR {column} > $3)"
            );
            let update = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(token.principal_kind).bind(token.principal).bind(ends_ms);
            update.execute(&mut *tx).await?;
        }
        insert_by(&mut *tx, token, scram).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(())
    }

    /// Returns the names of the clients that have a token which counts at the time `now`, and had none before the time `since`.
    ///
    /// Both times are in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn clients(self, since: Millis, now: Millis) -> Result<Vec<String>> {
        let query = sqlx::query_scalar(
            "SELECT name FROM (
                 SELECT principal AS name, created_ms, CASE WHEN revoked_ms IS NULL AND (expires_ms IS NULL OR expires_ms > $2)
                     THEN 1 ELSE 0 END AS live FROM api_token WHERE principal_kind = $3
                 UNION ALL SELECT name, created_ms, 1 AS live FROM principal
             ) AS t GROUP BY name HAVING min(created_ms) >= $1 AND max(live) = 1 ORDER BY name",
        );
        Ok(query.bind(since).bind(now).bind(Principal::CLIENT).fetch_all(&self.state.readers).await?)
    }

    /// Checks that a client has a token that was not revoked. One that has ended counts too; one that was issued in exchange does not.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn has_unrevoked(self, client: &str) -> Result<bool> {
        let query = sqlx::query_scalar::<_, i64>(
            "SELECT (SELECT count(*) FROM api_token t
                     WHERE t.principal_kind = $1 AND t.principal = $2 AND t.root_id = t.id AND t.revoked_ms IS NULL)
                 + (SELECT count(*) FROM principal p WHERE p.name = $2)",
        );
        Ok(query.bind(Principal::CLIENT).bind(client).fetch_one(&self.state.readers).await? > 0)
    }

    /// Records that a token was used at the time `now`, unless a use of the last `interval` milliseconds is recorded.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn record_use(self, id: &str, now: Millis, interval: Millis) -> Result<()> {
        let update =
            sqlx::query("UPDATE api_token SET last_used_ms = $2 WHERE id = $1 AND (last_used_ms IS NULL OR last_used_ms <= $3)");
        update.bind(id).bind(now).bind(now.saturating_sub(interval)).execute(&self.state.relaxed_writer).await?;
        Ok(())
    }

    /// Removes issued tokens that ended before `issued_before`, and tokens of people that ended or were revoked before
    /// `made_before`, in batches.
    ///
    /// Both times are in milliseconds since the Unix epoch. Issued tokens of earlier releases are among the first. The root of a
    /// user's chain is an issued token too, and stays until the chain has ended.
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`](crate::StateError::Ambiguous) if a commit was sent but not confirmed, and
    /// [`Fenced`](crate::StateError::Fenced), [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if a batch was
    /// not written. Earlier batches stay removed.
    pub async fn forget(self, issued_before: Millis, made_before: Millis) -> Result<()> {
        let issued = "DELETE FROM api_token WHERE id IN
            (SELECT id FROM api_token WHERE expires_ms < $1 AND root_id <> id LIMIT $2)";
        delete_in_batches(self.state, issued, issued_before).await?;
        let roots_of_users = format!(
            "DELETE FROM api_token WHERE id IN
             (SELECT id FROM api_token WHERE root_id = id AND principal_kind = '{USER}' AND root_expires_ms < $1 LIMIT $2)"
        );
        delete_in_batches(self.state, &roots_of_users, issued_before).await?;
        let of_earlier_releases = "DELETE FROM access_token WHERE token_sha256 IN
            (SELECT token_sha256 FROM access_token WHERE expires_ms < $1 LIMIT $2)";
        delete_in_batches(self.state, of_earlier_releases, issued_before).await?;
        let made = format!(
            "DELETE FROM api_token WHERE id IN
             (SELECT id FROM api_token
              WHERE root_id = id AND principal_kind <> '{USER}' AND (expires_ms < $1 OR revoked_ms < $1) LIMIT $2)"
        );
        delete_in_batches(self.state, &made, made_before).await
    }
}

/// Stores a token, with its verifier of SCRAM-SHA-256 if it has one.
async fn insert_by<'e>(executor: impl Executor<'e, Database = Any>, token: &NewToken<'_>, scram: Option<&str>) -> Result<()> {
    let insert = sqlx::query(
        "INSERT INTO api_token (id, token_sha256, principal_kind, principal, label, root_id, created_ms, expires_ms,
             root_expires_ms, issuer, claims, scram_sha_256) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    );
    let insert = insert.bind(token.id).bind(token.token_sha256).bind(token.principal_kind).bind(token.principal);
    let insert = insert.bind(token.label).bind(token.root_id).bind(token.created_ms);
    let insert = insert.bind(token.expires_ms).bind(token.root_expires_ms).bind(token.issuer).bind(token.claims);
    insert.bind(scram).execute(executor).await?;
    Ok(())
}
