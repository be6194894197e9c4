//! Merged snapshots: the receipts of late commits that were built again. They outlive their snapshots.
//!
//! A client whose answer was lost sends its request again. While its snapshot is in the branch, the table's metadata tells that the
//! request was carried out. After an expiry only its row here does.

use esker_types::{Millis, TableId, now_ms};
use sqlx::{Any, Row, Transaction};

use super::Tables;
use crate::Result;
use crate::batch::{ROWS, delete_in_batches, placeholders, values};

/// A snapshot of a late commit that was merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedSnapshot {
    /// The id of the snapshot, which the client chose.
    pub snapshot_id: i64,
    /// The name of the branch that the commit moved.
    pub branch: String,
    /// The name of the manifest list that the client sent, without directories.
    pub manifest_list: String,
}

/// Records merged snapshots of a table. One that is recorded already keeps its row.
pub(super) async fn insert_merged(tx: &mut Transaction<'_, Any>, id: TableId, merged: &[MergedSnapshot]) -> Result<()> {
    let now = now_ms();
    for merged in merged.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO merged_snapshot (table_id, snapshot_id, branch, manifest_list, merged_ms) VALUES {} ON CONFLICT DO NOTHING",
            values(merged.len(), 5)
        );
        let insert = merged.iter().fold(sqlx::query(sqlx::AssertSqlSafe(sql)), |query, one| {
            query.bind(id.to_string()).bind(one.snapshot_id).bind(&one.branch).bind(&one.manifest_list).bind(now)
        });
        insert.execute(&mut **tx).await?;
    }
    Ok(())
}

impl Tables<'_> {
    /// Returns those of some snapshots of a table that were merged, in the order of their ids.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn merged_among(self, id: TableId, snapshots: &[i64]) -> Result<Vec<MergedSnapshot>> {
        let mut found = Vec::new();
        for snapshots in snapshots.chunks(ROWS) {
            let sql = format!(
                "SELECT snapshot_id, branch, manifest_list FROM merged_snapshot WHERE table_id = $1 AND snapshot_id IN ({})
                 ORDER BY snapshot_id",
                placeholders(2, snapshots.len())
            );
            let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id.to_string());
            let rows = snapshots.iter().fold(query, |query, id| query.bind(*id)).fetch_all(&self.state.readers).await?;
            for row in rows {
                found.push(MergedSnapshot {
                    snapshot_id: row.try_get(0)?,
                    branch: row.try_get(1)?,
                    manifest_list: row.try_get(2)?,
                });
            }
        }
        Ok(found)
    }

    /// Removes the rows of snapshots that were merged before a time, in batches.
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`](crate::StateError::Ambiguous) if a commit was sent but not confirmed, and
    /// [`Fenced`](crate::StateError::Fenced), [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if a batch was
    /// not written. Earlier batches stay removed.
    pub async fn forget_merged(self, before: Millis) -> Result<()> {
        let old = "DELETE FROM merged_snapshot WHERE (table_id, snapshot_id) IN
            (SELECT table_id, snapshot_id FROM merged_snapshot WHERE merged_ms < $1 LIMIT $2)";
        delete_in_batches(self.state, old, before).await
    }
}
