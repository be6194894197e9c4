//! Scan plans of which the servers have to remember something: requests that are too long for a client to carry, and cancellations.
//!
//! Most plans have no row here. A row ends at its time. All rows together count for [`MAX_BYTES`] at most; beyond that, the oldest
//! are removed.

use esker_types::Millis;
use sqlx::Row;
use uuid::Uuid;

use crate::{Result, State, flag};

/// The maximum of what all rows together count for, in bytes.
const MAX_BYTES: i64 = 128 << 20;

/// The least that a row counts for, in bytes. So the number of rows is bounded too.
const ROW_BYTES: usize = 4 << 10;

/// What is remembered of a scan plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberedPlan {
    /// The request as JSON; `None` if the client carries it.
    pub request: Option<String>,
    /// True if the plan was cancelled. It has no request then.
    pub is_cancelled: bool,
}

/// The handle for scan plans.
#[derive(Debug, Clone, Copy)]
pub struct ScanPlans<'a> {
    pub(crate) state: &'a State,
}

impl ScanPlans<'_> {
    /// Stores the request of a plan until a time.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn insert(self, id: Uuid, request: &str, now_ms: Millis, expires_ms: Millis) -> Result<()> {
        self.write(id, (request, 0), now_ms, expires_ms, MAX_BYTES).await
    }

    /// Records until a time that a plan was cancelled, and removes its request. It is no error if it was cancelled before.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn cancel(self, id: Uuid, now_ms: Millis, expires_ms: Millis) -> Result<()> {
        self.write(id, ("", 1), now_ms, expires_ms, MAX_BYTES).await
    }

    /// Writes a row, and removes those that have ended and the oldest beyond the bound.
    async fn write(
        self,
        id: Uuid,
        (request, cancelled): (&str, i64),
        now_ms: Millis,
        expires_ms: Millis,
        max_bytes: i64,
    ) -> Result<()> {
        let mut tx = self.state.begin_relaxed().await?;
        sqlx::query("DELETE FROM scan_plan WHERE expires_ms <= $1").bind(now_ms).execute(&mut *tx).await?;
        sqlx::query(
            "INSERT INTO scan_plan (id, made_ms, expires_ms, size_bytes, cancelled, request) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (id) DO UPDATE SET size_bytes = excluded.size_bytes, cancelled = excluded.cancelled,
                 request = excluded.request",
        )
        .bind(id.to_string())
        .bind(now_ms)
        .bind(expires_ms)
        .bind(i64::try_from(request.len().max(ROW_BYTES)).unwrap_or(i64::MAX))
        .bind(cancelled)
        .bind(request)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "DELETE FROM scan_plan WHERE id IN (
                 SELECT id FROM (
                     SELECT id, CAST(SUM(size_bytes) OVER (ORDER BY made_ms DESC, id DESC) AS BIGINT) AS up_to_here FROM scan_plan
                 ) AS sized WHERE up_to_here > $1
             )",
        )
        .bind(max_bytes)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Checks that a plan of which something is remembered at the time `now_ms` was cancelled; `None` if nothing is.
    ///
    /// The request is not read: it may be long.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn is_cancelled(self, id: Uuid, now_ms: Millis) -> Result<Option<bool>> {
        let row = sqlx::query("SELECT cancelled FROM scan_plan WHERE id = $1 AND expires_ms > $2")
            .bind(id.to_string())
            .bind(now_ms)
            .fetch_optional(&self.state.readers)
            .await?;
        row.map(|row| flag(&row, 0)).transpose()
    }

    /// Returns what is remembered of a plan at the time `now_ms`; `None` if that is nothing.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn get(self, id: Uuid, now_ms: Millis) -> Result<Option<RememberedPlan>> {
        let row = sqlx::query("SELECT cancelled, request FROM scan_plan WHERE id = $1 AND expires_ms > $2")
            .bind(id.to_string())
            .bind(now_ms)
            .fetch_optional(&self.state.readers)
            .await?;
        row.map(|row| {
            let request: String = row.try_get(1)?;
            Ok(RememberedPlan { is_cancelled: flag(&row, 0)?, request: Some(request).filter(|text| !text.is_empty()) })
        })
        .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::databases;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_remembered_of_a_plan_ends_and_is_bounded() {
        let dir = tempfile::tempdir().expect("a directory");
        for database in databases(&dir) {
            let state = State::open(database).await.expect("opened");
            ends_and_is_cancelled(&state).await;
            the_oldest_make_room(&state).await;
            state.close().await;
        }
    }

    async fn ends_and_is_cancelled(state: &State) {
        let (plans, one, other) = (state.scan_plans(), Uuid::now_v7(), Uuid::now_v7());
        plans.insert(one, "{}", 10, 100).await.expect("stored");
        let remembered =
            |request: Option<&str>, is_cancelled| Some(RememberedPlan { request: request.map(str::to_owned), is_cancelled });
        assert_eq!(plans.get(one, 99).await.expect("read"), remembered(Some("{}"), false));
        assert_eq!((plans.get(one, 100).await.expect("read"), plans.get(other, 10).await.expect("read")), (None, None));
        let is_cancelled = async |id, now_ms| plans.is_cancelled(id, now_ms).await.expect("read");
        assert_eq!((is_cancelled(one, 99).await, is_cancelled(one, 100).await), (Some(false), None));
        for id in [one, one, other] {
            plans.cancel(id, 20, 100).await.expect("cancelled");
            assert_eq!(plans.get(id, 99).await.expect("read"), remembered(None, true));
            assert_eq!(is_cancelled(id, 99).await, Some(true));
        }
        plans.cancel(other, 100, 200).await.expect("cancelled");
        assert_eq!(plans.get(one, 50).await.expect("read"), None, "a row that has ended is removed");
    }

    async fn the_oldest_make_room(state: &State) {
        let (plans, long) = (state.scan_plans(), "x".repeat(2 * ROW_BYTES));
        let ids: Vec<Uuid> = (0..4).map(|_| Uuid::now_v7()).collect();
        let bound = 5 * i64::try_from(ROW_BYTES).expect("small");
        for (n, id) in (1000..).zip(&ids) {
            plans.write(*id, (&long, 0), n, 5000, bound).await.expect("stored");
        }
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(plans.get(*id, 2000).await.expect("read").is_some(), n >= 2, "two fit: {n}");
        }
    }
}
