//! Sessions of the web page: who logged in, and until when.
//!
//! Only the SHA-256 of a session's id is stored, and that of the token that it was opened with. A session ends by itself, when it
//! was idle for too long or at a fixed time; it ends at a log-out; and it ends with its token, which the caller checks.

use std::fmt;

use esker_types::{DurationMillis, Millis};
use sqlx::Row;

use crate::{Result, State};

/// A session of the web page.
#[derive(Clone, PartialEq, Eq)]
pub struct PageSession {
    /// SHA-256 of the session's id, in hex.
    pub id_sha256: String,
    /// Name of the principal.
    pub principal: String,
    /// SHA-256 of the token that the session was opened with, in hex.
    pub token_sha256: String,
    /// Secret that each form of the session repeats.
    pub csrf: String,
    /// Time of the log-in, in milliseconds since the Unix epoch.
    pub created_ms: Millis,
    /// Time of a recent request, in milliseconds since the Unix epoch.
    pub seen_ms: Millis,
    /// Time at which the session ends even if it is used, in milliseconds since the Unix epoch.
    pub expires_ms: Millis,
}

impl fmt::Debug for PageSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The rest is secret, or leads to secrets.
        let Self { principal, created_ms, seen_ms, expires_ms, .. } = self;
        let mut shown = f.debug_struct("PageSession");
        shown.field("principal", principal).field("created_ms", created_ms).field("seen_ms", seen_ms);
        shown.field("expires_ms", expires_ms).finish_non_exhaustive()
    }
}

/// The handle for the sessions of the web page.
#[derive(Debug, Clone, Copy)]
pub struct Sessions<'a> {
    pub(crate) state: &'a State,
}

impl Sessions<'_> {
    /// Stores a session, and removes those that have ended: at their time, or because they were idle for `idle`.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn insert(self, session: &PageSession, idle: DurationMillis) -> Result<()> {
        let mut tx = self.state.begin_relaxed().await?;
        sqlx::query("DELETE FROM page_session WHERE expires_ms <= $1 OR seen_ms <= $2")
            .bind(session.created_ms)
            .bind(session.created_ms.saturating_sub(idle))
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "INSERT INTO page_session (id_sha256, principal, token_sha256, csrf, created_ms, seen_ms, expires_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&session.id_sha256)
        .bind(&session.principal)
        .bind(&session.token_sha256)
        .bind(&session.csrf)
        .bind(session.created_ms)
        .bind(session.seen_ms)
        .bind(session.expires_ms)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Returns a session that has not ended at the time `now_ms`, neither at its own time nor because it was idle for `idle`.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn get(self, id_sha256: &str, now_ms: Millis, idle: DurationMillis) -> Result<Option<PageSession>> {
        let row = sqlx::query(
            "SELECT principal, token_sha256, csrf, created_ms, seen_ms, expires_ms FROM page_session
             WHERE id_sha256 = $1 AND expires_ms > $2 AND seen_ms > $3",
        )
        .bind(id_sha256)
        .bind(now_ms)
        .bind(now_ms.saturating_sub(idle))
        .fetch_optional(&self.state.readers)
        .await?;
        row.map(|row| {
            Ok(PageSession {
                id_sha256: id_sha256.to_owned(),
                principal: row.try_get(0)?,
                token_sha256: row.try_get(1)?,
                csrf: row.try_get(2)?,
                created_ms: row.try_get(3)?,
                seen_ms: row.try_get(4)?,
                expires_ms: row.try_get(5)?,
            })
        })
        .transpose()
    }

    /// Records that a session was used at the time `now_ms`. The time never goes back.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn touch(self, id_sha256: &str, now_ms: Millis) -> Result<()> {
        sqlx::query("UPDATE page_session SET seen_ms = $2 WHERE id_sha256 = $1 AND seen_ms < $2")
            .bind(id_sha256)
            .bind(now_ms)
            .execute(&self.state.relaxed_writer)
            .await?;
        Ok(())
    }

    /// Ends a session. It is no error if there is none.
    ///
    /// It is a change that is counted, as a revocation is.
    ///
    /// # Errors
    ///
    /// Returns [`Fenced`](crate::StateError::Fenced) if the other servers count this one as dead, and
    /// [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn delete(self, id_sha256: &str) -> Result<()> {
        let mut tx = self.state.begin().await?;
        sqlx::query("DELETE FROM page_session WHERE id_sha256 = $1").bind(id_sha256).execute(&mut *tx).await?;
        self.state.commit(tx).await?;
        Ok(())
    }
}

/// The behaviour that both databases share.
#[cfg(test)]
pub(crate) mod conformance {
    use super::PageSession;
    use crate::State;

    pub(crate) async fn a_session_ends_at_its_time_when_it_is_idle_and_at_the_log_out(state: &State) {
        let session = |id: &str, created_ms| PageSession {
            id_sha256: id.to_owned(),
            principal: "p".to_owned(),
            token_sha256: "token".to_owned(),
            csrf: "secret".to_owned(),
            created_ms,
            seen_ms: created_ms,
            expires_ms: created_ms + 1000,
        };
        let (first, second) = (session("a", 5000), session("b", 5000));
        state.sessions().insert(&first, 300).await.expect("stored");
        state.sessions().insert(&second, 300).await.expect("stored");
        let get = async |id: &str, now| state.sessions().get(id, now, 300).await.expect("asked");
        assert_eq!(get("a", 5299).await, Some(first.clone()));
        assert_eq!((get("a", 5300).await, get("none", 5299).await), (None, None), "it was idle");
        state.sessions().touch("a", 5299).await.expect("used");
        state.sessions().touch("a", 5100).await.expect("used by a slower server");
        assert_eq!(get("a", 5598).await.map(|session| session.seen_ms), Some(5299));
        state.sessions().touch("a", 5900).await.expect("used");
        assert!(get("a", 5999).await.is_some() && get("a", 6000).await.is_none(), "its time has come");
        state.sessions().delete("a").await.expect("ended");
        state.sessions().delete("a").await.expect("nothing to end");
        assert!(get("a", 5999).await.is_none() && get("b", 5001).await.is_some());
        state.sessions().insert(&session("c", 5400), 300).await.expect("stored");
        assert!(get("b", 5001).await.is_none(), "a session that has ended is removed by the next log-in");
        assert!(!format!("{first:?}").contains("secret") && !format!("{first:?}").contains("token\""), "no secret is printed");
    }
}
