//! The index of places by path: what lies at, around or below a directory.
//!
//! Each search costs a few look-ups, however many tables there are. Locations are normalised texts, which both databases compare by
//! their bytes. All that is below the directory `d` lies between `d/` and `d0`, because the digit 0 is the byte after the slash. So
//! `a/b-c` is not below `a/b`. What is around a directory is found by equality with each directory on the way up. Start reading at
//! [`Tables::places_in`].

use std::collections::HashMap;

use esker_types::TableId;
use sqlx::Row;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::dropped::dropped_by_ids;
use super::{TABLE_COLUMNS, TABLE_FROM, Tables, TabularRow, table_row};
use crate::batch::{ROWS, placeholders, values};
use crate::{Result, StateError, Warehouse};

/// The number of places in one page of [`Tables::places_in`].
const PLACES_PER_PAGE: usize = 256;

/// The key in `meta` that says that every stored location is normalised.
const NORMALIZED: &str = "locations_normalised";

/// The places that lie at one directory, or below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceRange {
    /// The first text of the range.
    pub(super) from: String,
    /// The first text after the range.
    pub(super) before: String,
}

impl PlaceRange {
    /// Returns the range of the places that are a directory, given as a normalised location.
    pub fn at(directory: &str) -> Self {
        // No location contains a control character.
        Self { from: directory.to_owned(), before: format!("{directory}\u{1}") }
    }

    /// Returns the range of the places below a directory, given as a normalised location. The directory itself is not among them.
    pub fn below(directory: &str) -> Self {
        Self { from: format!("{directory}/"), before: format!("{directory}0") }
    }
}

/// The end of a page of places, after which the next page begins.
#[derive(Debug, Clone)]
pub struct PlaceCursor {
    /// The location of the last place.
    location: String,
    /// The entry of the last place.
    table: String,
}

/// A place of a table or view, or of a dropped table that can be brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPlace {
    /// The entry that has, or had, files in the place.
    pub owner: TabularRow,
    /// The place as a normalised location.
    pub location: String,
    /// The owner was dropped and can be brought back.
    pub dropped: bool,
}

impl Tables<'_> {
    /// Returns those of some directories that are a place of an entry of any warehouse, in no particular order.
    ///
    /// Entries that are gone for good count while files of them are in quarantine.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer.
    pub async fn places_among(self, directories: &[String]) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for directories in directories.chunks(ROWS) {
            // EXISTS stops at the first of the many tables that may share a directory.
            let sql = format!(
                "SELECT d.column1 FROM (VALUES {}) d WHERE EXISTS (SELECT 1 FROM place p WHERE p.location = d.column1)",
                values(directories.len(), 1)
            );
            let query = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql));
            let query = directories.iter().fold(query, |query, directory| query.bind(directory));
            found.extend(query.fetch_all(&self.state.readers).await?);
        }
        Ok(found)
    }

    /// Returns a page of the places of a warehouse in a range, with the cursor of the next page; `None` at the end.
    ///
    /// A page is ordered by location and entry. It may be empty although others follow, because places of other warehouses are left
    /// out.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn places_in(
        self,
        warehouse: Warehouse,
        range: &PlaceRange,
        after: Option<&PlaceCursor>,
    ) -> Result<(Vec<FoundPlace>, Option<PlaceCursor>)> {
        let (location, table) = after.map_or((range.from.as_str(), ""), |at| (at.location.as_str(), at.table.as_str()));
        let rows = sqlx::query(
            "SELECT location, table_id FROM place WHERE (location, table_id) > ($1, $2) AND location < $3
             ORDER BY location, table_id LIMIT $4",
        )
        .bind(location)
        .bind(table)
        .bind(&range.before)
        .bind(PLACES_PER_PAGE as i64)
        .fetch_all(&self.state.readers)
        .await?;
        let places = rows.iter().map(place_columns).collect::<Result<Vec<PlaceCursor>>>()?;
        let next = if places.len() < PLACES_PER_PAGE { None } else { places.last().cloned() };
        let owners = self.owners(warehouse, places.iter().map(|place| place.table.clone()).collect()).await?;
        let found = places.into_iter().filter_map(|PlaceCursor { location, table }| {
            let (owner, dropped) = owners.get(&table)?;
            Some(FoundPlace { owner: owner.clone(), location, dropped: *dropped })
        });
        Ok((found.collect(), next))
    }

    /// Returns the entries of a warehouse with some identifiers, by identifier; true for those that are dropped.
    async fn owners(self, warehouse: Warehouse, mut ids: Vec<String>) -> Result<HashMap<String, (TabularRow, bool)>> {
        ids.sort_unstable();
        ids.dedup();
        let mut found = HashMap::with_capacity(ids.len());
        for ids in ids.chunks(ROWS) {
            let sql = format!("SELECT {TABLE_COLUMNS} {TABLE_FROM} WHERE t.id IN ({})", placeholders(1, ids.len()));
            let query = ids.iter().fold(sqlx::query(sqlx::AssertSqlSafe(sql)), |query, id| query.bind(id));
            let rows = query.fetch_all(&self.state.readers).await?;
            let living = rows.iter().map(|row| Ok((table_row(row)?, false))).collect::<Result<Vec<_>>>()?;
            let missing: Vec<String> = match living.len() == ids.len() {
                true => Vec::new(),
                false => {
                    let there: Vec<String> = living.iter().map(|(row, _)| row.id.to_string()).collect();
                    ids.iter().filter(|id| !there.contains(id)).cloned().collect()
                }
            };
            let dropped = dropped_by_ids(self.state, &missing).await?.into_iter().map(|dropped| (dropped.row, true));
            let both = living.into_iter().chain(dropped).filter(|(row, _)| row.warehouse == warehouse.id);
            found.extend(both.map(|(row, dropped)| (row.id.to_string(), (row, dropped))));
        }
        Ok(found)
    }

    /// Returns a living entry of a warehouse, other than `own`, whose present location overlaps a directory; `None` if there is none.
    ///
    /// `around` are the directory itself and those around it. All are normalised locations. Data paths that many tables share cost
    /// nothing here, because they are no locations.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn with_location_overlapping(
        self,
        warehouse: Warehouse,
        directory: &str,
        around: &[String],
        own: Option<TableId>,
    ) -> Result<Option<TabularRow>> {
        let by_bytes = self.state.database.by_bytes();
        // CROSS JOIN makes SQLite begin with the table of entries, and so with their locations.
        let select = format!(
            "SELECT {TABLE_COLUMNS} FROM tabular t CROSS JOIN namespace n
             WHERE n.id = t.namespace_id AND n.warehouse_id = $1 AND t.id <> $2 AND t.location{by_bytes}"
        );
        let own = own.map(|own| own.to_string()).unwrap_or_default();
        for around in around.chunks(ROWS) {
            let sql = format!("{select} IN ({}) LIMIT 1", placeholders(3, around.len()));
            let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(warehouse.id).bind(&own);
            let query = around.iter().fold(query, |query, directory| query.bind(directory));
            if let Some(row) = query.fetch_optional(&self.state.readers).await? {
                return table_row(&row).map(Some);
            }
        }
        let range = PlaceRange::below(directory);
        let sql = format!("{select} > $3 AND t.location{by_bytes} < $4 LIMIT 1");
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(warehouse.id).bind(&own).bind(&range.from).bind(&range.before);
        query.fetch_optional(&self.state.readers).await?.as_ref().map(table_row).transpose()
    }

    /// Returns at most 256 entries of a warehouse with a UUID in their metadata, after the identifier `after`, ordered by it.
    ///
    /// Dropped tables that can be brought back are among them. Many tables of version 1 have the nil UUID.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn with_uuid(self, warehouse: Warehouse, uuid: Uuid, after: Option<TableId>) -> Result<Vec<TabularRow>> {
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        let query = sqlx::query_scalar::<_, String>(
            "SELECT id FROM (SELECT t.id FROM tabular t JOIN namespace n ON n.id = t.namespace_id
                             WHERE t.table_uuid = $1 AND t.id > $2 AND n.warehouse_id + 0 = $3
                             UNION ALL SELECT d.id FROM dropped_table d
                             WHERE d.table_uuid = $1 AND d.id > $2 AND d.warehouse_id + 0 = $3) found
             ORDER BY id LIMIT $4",
        );
        let query = query.bind(uuid.to_string()).bind(after).bind(warehouse.id).bind(PLACES_PER_PAGE as i64);
        let ids = query.fetch_all(&self.state.readers).await?;
        let mut rows: Vec<TabularRow> = self.owners(warehouse, ids).await?.into_values().map(|(row, _)| row).collect();
        rows.sort_by_key(|row| row.id.to_string());
        Ok(rows)
    }

    /// Normalises every stored location that is not, in batches, unless this was done before.
    ///
    /// Earlier releases entered locations as they were spelled. A server that is killed in between begins anew at its next start.
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`](StateError::Ambiguous) if a commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if a batch was not written. Earlier batches stay written.
    pub async fn normalize_locations(self, normalize: impl Fn(&str) -> String + Send + Sync) -> Result<()> {
        let done = sqlx::query_scalar::<_, String>("SELECT value FROM meta WHERE key = $1").bind(NORMALIZED);
        if done.fetch_optional(&self.state.readers).await?.is_some() {
            return Ok(());
        }
        self.normalize_places(&normalize).await?;
        self.normalize_entries("tabular", &normalize).await?;
        // They may be brought back.
        self.normalize_entries("dropped_table", &normalize).await?;
        let mut tx = self.state.begin().await?;
        let put = sqlx::query("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING");
        put.bind(NORMALIZED).bind("1").execute(&mut *tx).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)
    }

    /// Normalises the locations of all places.
    async fn normalize_places(self, normalize: &(impl Fn(&str) -> String + Send + Sync)) -> Result<()> {
        let mut after = PlaceCursor { location: String::new(), table: String::new() };
        loop {
            let rows = sqlx::query(
                "SELECT location, table_id FROM place WHERE (location, table_id) > ($1, $2) ORDER BY location, table_id LIMIT $3",
            )
            .bind(&after.location)
            .bind(&after.table)
            .bind(ROWS as i64)
            .fetch_all(&self.state.readers)
            .await?;
            let found = rows.iter().map(place_columns).collect::<Result<Vec<PlaceCursor>>>()?;
            let odd = not_normal(&found, normalize);
            if !odd.is_empty() {
                let mut tx = self.state.begin().await?;
                for (PlaceCursor { location, table }, normal) in odd {
                    let insert = sqlx::query("INSERT INTO place (table_id, location) VALUES ($1, $2) ON CONFLICT DO NOTHING");
                    insert.bind(table).bind(normal).execute(&mut *tx).await?;
                    let delete = sqlx::query("DELETE FROM place WHERE table_id = $1 AND location = $2");
                    delete.bind(table).bind(location).execute(&mut *tx).await?;
                }
                self.state.commit(tx).await.map_err(StateError::of_commit)?;
            }
            match found.last() {
                Some(last) if found.len() == ROWS => after = last.clone(),
                _ => return Ok(()),
            }
        }
    }

    /// Normalises the locations of all entries in the database's table `of`.
    async fn normalize_entries(self, of: &'static str, normalize: &(impl Fn(&str) -> String + Send + Sync)) -> Result<()> {
        let (select, update) = (
            format!("SELECT location, id FROM {of} WHERE id > $1 ORDER BY id LIMIT $2"),
            format!("UPDATE {of} SET location = $1 WHERE id = $2 AND location = $3"),
        );
        let mut after = String::new();
        loop {
            let rows = sqlx::query(sqlx::AssertSqlSafe(select.clone()))
                .bind(&after)
                .bind(ROWS as i64)
                .fetch_all(&self.state.readers)
                .await?;
            let found = rows.iter().map(place_columns).collect::<Result<Vec<PlaceCursor>>>()?;
            let odd = not_normal(&found, normalize);
            if !odd.is_empty() {
                let mut tx = self.state.begin().await?;
                for (PlaceCursor { location, table }, normal) in odd {
                    // A commit may have moved the table meanwhile.
                    let update = sqlx::query(sqlx::AssertSqlSafe(update.clone()));
                    update.bind(normal).bind(table).bind(location).execute(&mut *tx).await?;
                }
                self.state.commit(tx).await.map_err(StateError::of_commit)?;
            }
            match found.last() {
                Some(last) if found.len() == ROWS => after.clone_from(&last.table),
                _ => return Ok(()),
            }
        }
    }
}

/// Returns those of some stored locations that are not normalised, each with its normal spelling.
fn not_normal<'a>(stored: &'a [PlaceCursor], normalize: &impl Fn(&str) -> String) -> Vec<(&'a PlaceCursor, String)> {
    let spelled = stored.iter().map(|at| (at, normalize(&at.location)));
    spelled.filter(|(at, normal)| at.location != *normal).collect()
}

/// Reads a location and the identifier of its entry.
fn place_columns(row: &AnyRow) -> Result<PlaceCursor> {
    Ok(PlaceCursor { location: row.try_get(0)?, table: row.try_get(1)? })
}
