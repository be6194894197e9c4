//! Catalog entries: the pointer from the name of a table or view to its current metadata file.
//!
//! A commit is a compare-and-swap of that pointer ([`PointerSwap`]). [`Tables::publish`] carries out several of them in one
//! transaction, with the files that they quarantine or restore, the pending outputs that they settle, and the outbox. Tables and
//! views share one name space. Start reading with [`Tables::publish`].

mod dropped;
mod lease;
mod merged;
mod place_index;
mod places;

use esker_access::{Member, Securable};
use esker_types::{JobId, Millis, NamespaceName, TableId, TableName, now_ms};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};
use uuid::Uuid;

use self::dropped::insert_dropped;
pub use self::dropped::{DroppedTable, SoftDrop};
use self::lease::renew_lease;
pub use self::lease::{CommitLease, LEASE_TIME};
pub use self::merged::MergedSnapshot;
use self::merged::insert_merged;
pub use self::place_index::{FoundPlace, PlaceCursor, PlaceRange};
pub use self::places::PlaceClaim;
use self::places::{forget_places, inherit_places, insert_places, is_any_taken};
use crate::access::{add_rights_of_new, forget_tabular, inherit_restrictions};
use crate::namespaces::namespace_id;
use crate::outputs::remove_outputs;
use crate::quarantine::{insert_quarantine, release_restored};
use crate::{NewQuarantine, Outbox, QuarantineKind, Result, State, StateError, Warehouse, flag, parse_id};

/// The kind of a catalog entry. Both kinds share one name space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TabularKind {
    /// A table.
    Table,
    /// A view.
    View,
}

impl TabularKind {
    /// Returns the spelling in the database.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View => "view",
        }
    }

    /// Reads the spelling in the database. Unknown text counts as a table.
    fn parse(text: &str) -> Self {
        if text == "view" { Self::View } else { Self::Table }
    }

    /// Returns the error for an entry that does not exist, worded as the reference implementation words it.
    pub(crate) fn missing(self, name: &TableName) -> StateError {
        match self {
            Self::Table => StateError::NoSuchTable(name.to_string()),
            Self::View => StateError::NoSuchView(name.to_string()),
        }
    }

    /// Returns the error for a name that is taken: an entry of kind `self` should get the name, one of kind `by` has it.
    pub(crate) fn name_taken(self, by: Self, name: &TableName) -> StateError {
        let kind = match (self, by) {
            (Self::Table, Self::Table) => "Table",
            (Self::View, Self::View) => "View",
            (Self::Table, Self::View) => "View with same name",
            (Self::View, Self::Table) => "Table with same name",
        };
        StateError::AlreadyExists { kind, name: name.to_string() }
    }
}

/// The catalog entry of a table or view, with the pointer to its metadata file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TabularRow {
    /// The identifier of the entry, which a rename keeps.
    pub id: TableId,
    /// The row number of the warehouse.
    pub warehouse: i64,
    /// The kind: table or view.
    pub kind: TabularKind,
    /// The present name.
    pub name: TableName,
    /// The UUID in the metadata of the table or view.
    pub table_uuid: Uuid,
    /// The location in the metadata of the table or view.
    pub location: String,
    /// The URI of the current metadata file.
    pub metadata_location: String,
    /// Esker owns the files. False for registered tables until they are claimed.
    pub owned: bool,
    /// The entry can't be dropped.
    pub protected: bool,
}

impl TabularRow {
    /// Returns the entry as the thing that grants are on.
    pub const fn securable(&self) -> Securable {
        match self.kind {
            TabularKind::Table => Securable::Table { table: self.id },
            TabularKind::View => Securable::View { view: self.id },
        }
    }

    /// Returns the quarantine record of one of this table's own files.
    ///
    /// `due_ms` is the time before which the file is not deleted, in milliseconds since the Unix epoch.
    pub fn quarantine(
        &self,
        path: String,
        bytes: Option<u64>,
        reason: &str,
        job: Option<JobId>,
        due_ms: Millis,
    ) -> NewQuarantine {
        NewQuarantine {
            path,
            warehouse: self.warehouse,
            table: self.id,
            table_name: self.name.to_string(),
            table_uuid: self.table_uuid,
            table_location: self.location.clone(),
            job,
            kind: QuarantineKind::Own,
            reason: reason.to_owned(),
            bytes,
            due_ms,
        }
    }
}

/// A table or view to be entered in the catalog.
#[derive(Debug, Clone)]
pub struct NewTabular {
    /// The new entry.
    pub row: TabularRow,
    /// The pending output of the metadata file, which is settled in the same transaction.
    pub recorded_output: Option<String>,
    /// The entry that this one replaces. It must still exist.
    pub replaces: Option<TableId>,
    /// The locations in which the files lie, as the metadata says.
    pub places: Vec<String>,
    /// Those of the places that must be free; none for an entry that may lie where others do.
    pub claims: Vec<PlaceClaim>,
    /// The principal that owns the entry from now on, for access control; `None` for nobody.
    pub owner: Option<Member>,
}

/// A compare-and-swap of the pointer of one entry, with the changes that belong to the same transaction.
#[derive(Debug, Clone)]
pub struct PointerSwap {
    /// The entry.
    pub id: TableId,
    /// The metadata file that must be current.
    pub from: String,
    /// The metadata file that becomes current.
    pub to: String,
    /// The location in the new metadata.
    pub location: String,
    /// New locations of files. Places that were recorded before stay recorded.
    pub places: Vec<String>,
    /// Those of the new locations that must be free.
    pub claims: Vec<PlaceClaim>,
    /// The files that this commit leaves unreferenced.
    pub quarantine: Vec<NewQuarantine>,
    /// The pending outputs that this commit makes part of the table, or quarantines.
    pub settled_outputs: Vec<String>,
    /// The files that this commit makes part of the table again. They are released from quarantine.
    pub restored: Vec<String>,
    /// The snapshots of late commits that this commit merges.
    pub merged: Vec<MergedSnapshot>,
    /// The term of this server's lease on the table that must not have ended, and is renewed. `None` if the commit needs no lease.
    pub term: Option<i64>,
}

/// The columns that [`table_row`] reads.
pub(crate) const TABLE_COLUMNS: &str = "t.id, n.name, t.name, t.table_uuid, t.location, t.metadata_location, t.owned, t.protected, t.kind, \
     n.warehouse_id";
/// The tables with [`TABLE_COLUMNS`].
pub(crate) const TABLE_FROM: &str = "FROM tabular t JOIN namespace n ON n.id = t.namespace_id";

/// Reads an entry from [`TABLE_COLUMNS`].
pub(crate) fn table_row(row: &AnyRow) -> Result<TabularRow> {
    let corrupt = |e: esker_types::IdentError| StateError::Corrupt(e.to_string());
    let namespace = NamespaceName::from_key(row.try_get(1)?).map_err(corrupt)?;
    Ok(TabularRow {
        id: parse_id(row.try_get(0)?)?,
        warehouse: row.try_get(9)?,
        kind: TabularKind::parse(row.try_get(8)?),
        name: TableName::new(namespace, row.try_get::<String, _>(2)?).map_err(corrupt)?,
        table_uuid: parse_id(row.try_get(3)?)?,
        location: row.try_get(4)?,
        metadata_location: row.try_get(5)?,
        owned: flag(row, 6)?,
        protected: flag(row, 7)?,
    })
}

/// Returns the identifier and the kind of the entry that has a name in a namespace.
async fn name_holder(tx: &mut Transaction<'_, Any>, namespace: i64, key: &str) -> Result<Option<(String, TabularKind)>> {
    let row = sqlx::query("SELECT id, kind FROM tabular WHERE namespace_id = $1 AND name_key = $2")
        .bind(namespace)
        .bind(key)
        .fetch_optional(&mut **tx)
        .await?;
    let parse = |row: AnyRow| Ok((row.try_get(0)?, TabularKind::parse(row.try_get(1)?)));
    row.map(parse).transpose()
}

/// Inserts an entry, in the place of the one that it replaces, if any.
///
/// # Errors
///
/// Returns [`NoSuchNamespace`](StateError::NoSuchNamespace) if the namespace does not exist,
/// [`NoSuchTable`](StateError::NoSuchTable) or [`NoSuchView`](StateError::NoSuchView) if the entry to be replaced does not, and
/// [`AlreadyExists`](StateError::AlreadyExists) if the name is taken. Returns [`Full`](StateError::Full) or
/// [`Sql`](StateError::Sql) if the database fails.
pub(crate) async fn insert_tabular(tx: &mut Transaction<'_, Any>, warehouse: Warehouse, new: &NewTabular) -> Result<()> {
    let row = &new.row;
    let namespace = namespace_id(tx, warehouse, &row.name.namespace).await?;
    let key = warehouse.key(&row.name.name);
    if let Some(replaced) = new.replaces {
        inherit_places(tx, replaced, row.id, row.table_uuid).await?;
        let done = sqlx::query("DELETE FROM tabular WHERE id = $1").bind(replaced.to_string()).execute(&mut **tx).await?;
        if done.rows_affected() == 0 {
            return Err(row.kind.missing(&row.name));
        }
    }
    if let Some((_, by)) = name_holder(tx, namespace, &key).await? {
        return Err(row.kind.name_taken(by, &row.name));
    }
    sqlx::query(
        "INSERT INTO tabular (id, namespace_id, name, table_uuid, location, metadata_location, owned, created_ms, updated_ms,
                              kind, name_key, protected)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10, $11)",
    )
    .bind(row.id.to_string())
    .bind(namespace)
    .bind(&row.name.name)
    .bind(row.table_uuid.to_string())
    .bind(&row.location)
    .bind(&row.metadata_location)
    .bind(i64::from(row.owned))
    .bind(now_ms())
    .bind(row.kind.as_str())
    .bind(key)
    .bind(i64::from(row.protected))
    .execute(&mut **tx)
    .await?;
    insert_places(tx, row.id, &new.places).await?;
    if let Some(path) = &new.recorded_output {
        sqlx::query("DELETE FROM pending_output WHERE path = $1").bind(path).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Carries out a swap for a server. Returns false, and changes nothing, if another metadata file is current.
///
/// It also returns false if the new file's record is not the server's any more: the database lost changes since the file was
/// written ([`crate::seen`]), so the table must be read again.
///
/// # Errors
///
/// Returns [`BeingDeleted`](StateError::BeingDeleted) if the deletion of a restored file has begun or is done, and
/// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
async fn swap(tx: &mut Transaction<'_, Any>, swap: &PointerSwap, server: Uuid) -> Result<bool> {
    // A recovery writes no file. It moves pointers to files of which a lost commit may have left a record.
    let server = if swap.settled_outputs.is_empty() { String::new() } else { server.to_string() };
    let done = sqlx::query(
        "UPDATE tabular SET metadata_location = $3, location = $4, updated_ms = $5 WHERE id = $1 AND metadata_location = $2
         AND ($6 = '' OR NOT EXISTS (SELECT 1 FROM pending_output WHERE path = $3 AND instance <> $6))",
    )
    .bind(swap.id.to_string())
    .bind(&swap.from)
    .bind(&swap.to)
    .bind(&swap.location)
    .bind(now_ms())
    .bind(server)
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    insert_places(tx, swap.id, &swap.places).await?;
    insert_quarantine(tx, &swap.quarantine).await?;
    remove_outputs(tx, &swap.settled_outputs).await?;
    release_restored(tx, &swap.restored).await?;
    insert_merged(tx, swap.id, &swap.merged).await?;
    Ok(true)
}

/// The handle for the catalog entries: tables, views, dropped tables, and their places.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'a> {
    pub(crate) state: &'a State,
}

impl Tables<'_> {
    /// Carries out swaps and inserts new entries, all or nothing, in one transaction.
    ///
    /// Returns false if another commit to one of the entries came first, or another entry got a claimed place; then nothing is
    /// changed.
    ///
    /// # Errors
    ///
    /// - Returns [`NoSuchNamespace`](StateError::NoSuchNamespace) if the namespace of a new entry does not exist,
    ///   [`NoSuchTable`](StateError::NoSuchTable) or [`NoSuchView`](StateError::NoSuchView) if the entry that it replaces does not,
    ///   and [`AlreadyExists`](StateError::AlreadyExists) if its name is taken.
    /// - Returns [`BeingDeleted`](StateError::BeingDeleted) if the deletion of a restored file has begun or is done, and
    ///   [`DuplicateKey`](StateError::DuplicateKey) if another request with the same idempotency key was carried out.
    /// - Returns [`LeaseEnded`](StateError::LeaseEnded) if the term of a swap has ended.
    /// - Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and
    ///   [`Fenced`](StateError::Fenced), [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn publish(self, warehouse: Warehouse, swaps: &[PointerSwap], new: &[NewTabular], outbox: &Outbox) -> Result<bool> {
        let (mut tx, by_bytes) = (self.state.begin().await?, self.state.database.by_bytes());
        for one in swaps {
            if let Some(term) = one.term {
                renew_lease(&mut tx, &self.state.database, (one.id, term), self.state.instance).await?;
            }
            let done = swap(&mut tx, one, self.state.instance).await?;
            if !done || is_any_taken(&mut tx, by_bytes, (warehouse, one.id), &one.claims).await? {
                return Ok(false);
            }
        }
        for one in new {
            insert_tabular(&mut tx, warehouse, one).await?;
            if is_any_taken(&mut tx, by_bytes, (warehouse, one.row.id), &one.claims).await? {
                return Ok(false);
            }
            if let Some(replaced) = one.replaces {
                inherit_restrictions(&mut tx, replaced, one.row.id).await?;
                forget_tabular(&mut tx, replaced).await?;
            }
            let (row, owner) = (&one.row, one.owner.as_ref());
            add_rights_of_new(&mut tx, warehouse, Some(&row.name.namespace), &row.securable(), owner).await?;
        }
        outbox.insert(&mut tx).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(true)
    }

    /// Returns an entry of a kind by its name.
    async fn tabular(self, kind: TabularKind, warehouse: Warehouse, name: &TableName) -> Result<TabularRow> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {TABLE_COLUMNS} {TABLE_FROM} WHERE n.warehouse_id = $1 AND n.name_key = $2 AND t.name_key = $3 AND t.kind = $4"
        ));
        let row = sqlx::query(sql)
            .bind(warehouse.id)
            .bind(warehouse.namespace_key(&name.namespace))
            .bind(warehouse.key(&name.name))
            .bind(kind.as_str())
            .fetch_optional(&self.state.readers)
            .await?;
        table_row(&row.ok_or_else(|| kind.missing(name))?)
    }

    /// Returns a table by its name.
    ///
    /// # Errors
    ///
    /// Returns [`NoSuchTable`](StateError::NoSuchTable) if no table has the name. Returns [`Sql`](StateError::Sql) if the database
    /// does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value can't be read.
    pub async fn table(self, warehouse: Warehouse, name: &TableName) -> Result<TabularRow> {
        self.tabular(TabularKind::Table, warehouse, name).await
    }

    /// Returns a view by its name.
    ///
    /// # Errors
    ///
    /// Returns [`NoSuchView`](StateError::NoSuchView) if no view has the name. Returns [`Sql`](StateError::Sql) if the database
    /// does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value can't be read.
    pub async fn view(self, warehouse: Warehouse, name: &TableName) -> Result<TabularRow> {
        self.tabular(TabularKind::View, warehouse, name).await
    }

    /// Checks that a name is free for a new entry of a kind.
    ///
    /// # Errors
    ///
    /// Returns [`AlreadyExists`](StateError::AlreadyExists) if a table or view has the name. Returns [`Sql`](StateError::Sql) if
    /// the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value can't be read.
    pub async fn check_name_is_free(self, kind: TabularKind, warehouse: Warehouse, name: &TableName) -> Result<()> {
        let other = match kind {
            TabularKind::Table => TabularKind::View,
            TabularKind::View => TabularKind::Table,
        };
        for by in [kind, other] {
            match self.tabular(by, warehouse, name).await {
                Ok(_) => return Err(kind.name_taken(by, name)),
                Err(StateError::NoSuchTable(_) | StateError::NoSuchView(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Returns a table or view by its entry, or `None` if the entry does not exist.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn by_id(self, id: TableId) -> Result<Option<TabularRow>> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {TABLE_COLUMNS} {TABLE_FROM} WHERE t.id = $1"));
        let row = sqlx::query(sql).bind(id.to_string()).fetch_optional(&self.state.readers).await?;
        row.as_ref().map(table_row).transpose()
    }

    /// Returns the time at which an entry was created, in milliseconds since the Unix epoch. `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer.
    pub async fn created_ms(self, id: TableId) -> Result<Option<Millis>> {
        let query = sqlx::query_scalar("SELECT created_ms FROM tabular WHERE id = $1").bind(id.to_string());
        Ok(query.fetch_optional(&self.state.readers).await?)
    }

    /// Returns every table or every view of a warehouse, ordered by name.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn all(self, kind: TabularKind, warehouse: Warehouse) -> Result<Vec<TabularRow>> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {TABLE_COLUMNS} {TABLE_FROM} WHERE n.warehouse_id = $1 AND t.kind = $2 ORDER BY n.name, t.name"
        ));
        let rows = sqlx::query(sql).bind(warehouse.id).bind(kind.as_str()).fetch_all(&self.state.readers).await?;
        rows.iter().map(table_row).collect()
    }

    /// Returns a page of the tables or of the views of a warehouse, or of both: at most `limit`, ordered by their ids, after the id
    /// `after`.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn page(
        self,
        kind: Option<TabularKind>,
        warehouse: Warehouse,
        after: Option<TableId>,
        limit: u32,
    ) -> Result<Vec<TabularRow>> {
        // CROSS JOIN makes SQLite begin with the entries, in the order of their ids.
        let of_kind = if kind.is_some() { " AND t.kind = $4" } else { "" };
        let sql = format!(
            "SELECT {TABLE_COLUMNS} FROM tabular t CROSS JOIN namespace n
             WHERE n.id = t.namespace_id AND n.warehouse_id = $1 AND t.id > $2{of_kind} ORDER BY t.id LIMIT $3"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(warehouse.id);
        let query = query.bind(after.map(|id| id.to_string()).unwrap_or_default()).bind(i64::from(limit));
        let query = kind.into_iter().fold(query, |query, kind| query.bind(kind.as_str()));
        query.fetch_all(&self.state.readers).await?.iter().map(table_row).collect()
    }

    /// Returns a page of a namespace's tables or views, each with its name: at most `limit`, ordered by the keys of the names,
    /// after the name `after`.
    ///
    /// # Errors
    ///
    /// Returns [`NoSuchNamespace`](StateError::NoSuchNamespace) if the namespace does not exist. Returns [`Sql`](StateError::Sql)
    /// if the database does not answer, and [`Corrupt`](StateError::Corrupt) if the namespace's stored values can't be read.
    pub async fn list(
        self,
        kind: TabularKind,
        warehouse: Warehouse,
        namespace: &NamespaceName,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(TableId, String)>> {
        self.state.namespaces().get(warehouse, namespace).await?;
        // PostgreSQL would sort all entries that a join with the namespace finds, because it can't tell that there is one namespace.
        let query = sqlx::query(
            "SELECT id, name FROM tabular
             WHERE namespace_id = (SELECT id FROM namespace WHERE warehouse_id = $1 AND name_key = $2)
             AND kind = $3 AND name_key > $4 ORDER BY name_key LIMIT $5",
        )
        .bind(warehouse.id)
        .bind(warehouse.namespace_key(namespace))
        .bind(kind.as_str())
        .bind(warehouse.key(after))
        .bind(i64::from(limit));
        let rows = query.fetch_all(&self.state.readers).await?;
        let entry = |row: &AnyRow| -> Result<(TableId, String)> { Ok((parse_id(row.try_get(0)?)?, row.try_get(1)?)) };
        rows.iter().map(entry).collect()
    }

    /// Renames a table or view, possibly into another namespace.
    ///
    /// # Errors
    ///
    /// - Returns [`NoSuchNamespace`](StateError::NoSuchNamespace) if the namespace of either name does not exist,
    ///   [`NoSuchTable`](StateError::NoSuchTable) or [`NoSuchView`](StateError::NoSuchView) if the entry `from` does not, and
    ///   [`RenameTaken`](StateError::RenameTaken) if another entry has the new name.
    /// - Returns [`DuplicateKey`](StateError::DuplicateKey) if another request with the same idempotency key was carried out.
    /// - Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and
    ///   [`Fenced`](StateError::Fenced), [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn rename(
        self,
        kind: TabularKind,
        warehouse: Warehouse,
        from: &TableName,
        to: &TableName,
        outbox: &Outbox,
    ) -> Result<()> {
        let mut tx = self.state.begin().await?;
        let source = namespace_id(&mut tx, warehouse, &from.namespace).await?;
        let found = name_holder(&mut tx, source, &warehouse.key(&from.name)).await?;
        let (id, _) = found.filter(|(_, found)| *found == kind).ok_or_else(|| kind.missing(from))?;
        let target = namespace_id(&mut tx, warehouse, &to.namespace).await?;
        let key = warehouse.key(&to.name);
        match name_holder(&mut tx, target, &key).await? {
            Some((taken, by)) if taken != id => {
                let by = if by == TabularKind::View { "View" } else { "Table" };
                return Err(StateError::RenameTaken { from: from.to_string(), to: to.to_string(), by });
            }
            _ => {}
        }
        sqlx::query("UPDATE tabular SET namespace_id = $2, name = $3, name_key = $4 WHERE id = $1")
            .bind(id)
            .bind(target)
            .bind(&to.name)
            .bind(key)
            .execute(&mut *tx)
            .await?;
        outbox.insert(&mut tx).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(())
    }

    /// Removes an entry, and quarantines the given files (for a purge), in one transaction.
    ///
    /// The entry is found by its identifier. The name in `entry` is for errors.
    ///
    /// With `keep`, the table can be undropped for a while. Returns false if `at` is given and is not the current metadata file any
    /// more; then nothing is changed.
    ///
    /// # Errors
    ///
    /// - Returns [`NoSuchTable`](StateError::NoSuchTable) or [`NoSuchView`](StateError::NoSuchView) if the entry does not exist, and
    ///   [`Protected`](StateError::Protected) if it is protected.
    /// - Returns [`DuplicateKey`](StateError::DuplicateKey) if another request with the same idempotency key was carried out, and
    ///   [`Corrupt`](StateError::Corrupt) if the name of a protected entry can't be read.
    /// - Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and
    ///   [`Fenced`](StateError::Fenced), [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn drop(
        self,
        entry: &TabularRow,
        at: Option<&str>,
        quarantines: &[NewQuarantine],
        keep: Option<&SoftDrop>,
        outbox: &Outbox,
    ) -> Result<bool> {
        let id = entry.id;
        let mut tx = self.state.begin().await?;
        let row = sqlx::query(
            "SELECT t.protected, t.kind, n.name, t.name, t.metadata_location
             FROM tabular t JOIN namespace n ON n.id = t.namespace_id WHERE t.id = $1",
        )
        .bind(id.to_string())
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| entry.kind.missing(&entry.name))?;
        if flag(&row, 0)? {
            let kind = TabularKind::parse(row.try_get(1)?).as_str();
            let namespace = NamespaceName::from_key(row.try_get(2)?).map_err(|e| StateError::Corrupt(e.to_string()))?;
            return Err(StateError::Protected { kind, name: format!("{namespace}.{}", row.try_get::<&str, _>(3)?) });
        }
        let now: String = row.try_get(4)?;
        if at.is_some_and(|at| now != at) {
            return Ok(false);
        }
        if let Some(keep) = keep {
            insert_dropped(&mut tx, id, keep).await?;
        }
        sqlx::query("DELETE FROM tabular WHERE id = $1").bind(id.to_string()).execute(&mut *tx).await?;
        insert_quarantine(&mut tx, quarantines).await?;
        if keep.is_none() {
            forget_places(&mut tx, id).await?;
            forget_tabular(&mut tx, id).await?;
        }
        outbox.insert(&mut tx).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(true)
    }

    /// Sets one of an entry's flags. An entry that does not exist is no error.
    async fn set_flag(self, sql: &'static str, id: TableId, value: bool, outbox: &Outbox) -> Result<()> {
        let mut tx = self.state.begin().await?;
        sqlx::query(sql).bind(id.to_string()).bind(i64::from(value)).execute(&mut *tx).await?;
        outbox.insert(&mut tx).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(())
    }

    /// Makes Esker the owner of a foreign table. An entry that does not exist is no error.
    ///
    /// # Errors
    ///
    /// Returns [`DuplicateKey`](StateError::DuplicateKey) if another request with the same idempotency key was carried out. Returns
    /// [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn claim(self, id: TableId, outbox: &Outbox) -> Result<()> {
        self.set_flag("UPDATE tabular SET owned = $2 WHERE id = $1", id, true, outbox).await
    }

    /// Protects a table or view from being dropped, or lifts the protection. An entry that does not exist is no error.
    ///
    /// # Errors
    ///
    /// Returns [`DuplicateKey`](StateError::DuplicateKey) if another request with the same idempotency key was carried out. Returns
    /// [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn protect(self, id: TableId, protected: bool, outbox: &Outbox) -> Result<()> {
        self.set_flag("UPDATE tabular SET protected = $2 WHERE id = $1", id, protected, outbox).await
    }
}
