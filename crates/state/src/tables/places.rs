//! Places: the locations in which a table or view has files now, or had files before.
//!
//! Files of other tables may not come to lie there. A place stays recorded until its entry is gone for good and no file of it waits
//! in quarantine.

use esker_types::TableId;
use sqlx::{Any, Transaction};
use uuid::Uuid;

use super::{PlaceRange, Tables};
use crate::batch::{ROWS, placeholders, values};
use crate::{Result, Warehouse};

/// A place that an entry gets, and that was free when its caller looked.
///
/// Another entry may have got it since. So claims are checked again in the transaction that enters the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceClaim {
    /// The directory, as a normalised location.
    pub directory: String,
    /// The directory and those around it, as normalised locations.
    pub around: Vec<String>,
    /// Other entries may have files in the place too, but none may have its location there.
    pub is_shared: bool,
}

/// Checks whether a living entry of the warehouse other than `own` has a place that overlaps one of some claims.
///
/// `by_bytes` is [`Database::by_bytes`](crate::Database::by_bytes).
pub(crate) async fn is_any_taken(
    tx: &mut Transaction<'_, Any>,
    by_bytes: &str,
    (warehouse, own): (Warehouse, TableId),
    claims: &[PlaceClaim],
) -> Result<bool> {
    for claim in claims {
        // CROSS JOIN makes SQLite begin with the locations, by their index.
        let (from, location) = match claim.is_shared {
            true => ("tabular t CROSS JOIN namespace n WHERE", format!("t.location{by_bytes}")),
            false => ("place p CROSS JOIN tabular t CROSS JOIN namespace n WHERE t.id = p.table_id AND", "p.location".to_owned()),
        };
        let select =
            format!("SELECT t.id FROM {from} n.id = t.namespace_id AND n.warehouse_id = $1 AND t.id <> $2 AND {location}");
        for around in claim.around.chunks(ROWS) {
            let sql = format!("{select} IN ({}) LIMIT 1", placeholders(3, around.len()));
            let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(warehouse.id).bind(own.to_string());
            let query = around.iter().fold(query, |query, directory| query.bind(directory));
            if query.fetch_optional(&mut **tx).await?.is_some() {
                return Ok(true);
            }
        }
        let range = PlaceRange::below(&claim.directory);
        let sql = format!("{select} > $3 AND {location} < $4 LIMIT 1");
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(warehouse.id).bind(own.to_string());
        if query.bind(&range.from).bind(&range.before).fetch_optional(&mut **tx).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Records the places of a table or view. Places that it had before stay recorded.
pub(crate) async fn insert_places(tx: &mut Transaction<'_, Any>, id: TableId, places: &[String]) -> Result<()> {
    for places in places.chunks(ROWS) {
        let sql = format!("INSERT INTO place (table_id, location) VALUES {} ON CONFLICT DO NOTHING", values(places.len(), 2));
        let insert = sqlx::query(sqlx::AssertSqlSafe(sql));
        places.iter().fold(insert, |query, place| query.bind(id.to_string()).bind(place)).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Removes the places of an entry that another one replaces.
///
/// The new entry inherits them first if both are of the same table, by its UUID.
pub(crate) async fn inherit_places(tx: &mut Transaction<'_, Any>, from: TableId, to: TableId, uuid: Uuid) -> Result<()> {
    sqlx::query(
        "INSERT INTO place (table_id, location)
         SELECT $2, p.location FROM place p JOIN tabular t ON t.id = p.table_id WHERE t.id = $1 AND t.table_uuid = $3",
    )
    .bind(from.to_string())
    .bind(to.to_string())
    .bind(uuid.to_string())
    .execute(&mut **tx)
    .await?;
    forget_places(tx, from).await
}

/// Removes the places of an entry that is gone for good.
///
/// They stay while files of the entry are in quarantine, because those files may lie there.
pub(crate) async fn forget_places(tx: &mut Transaction<'_, Any>, id: TableId) -> Result<()> {
    sqlx::query(
        "DELETE FROM place WHERE table_id = $1
         AND NOT EXISTS (SELECT 1 FROM quarantine WHERE table_id = $1 AND state IN ('quarantined', 'deleting'))",
    )
    .bind(id.to_string())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

impl Tables<'_> {
    /// Returns the places of one table or view, ordered by location.
    ///
    /// An entry that is gone for good still has them while files of it are in quarantine.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn places_of(self, table: TableId) -> Result<Vec<String>> {
        let query =
            sqlx::query_scalar("SELECT location FROM place WHERE table_id = $1 ORDER BY location").bind(table.to_string());
        Ok(query.fetch_all(&self.state.readers).await?)
    }
}
