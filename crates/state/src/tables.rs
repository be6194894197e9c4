use esker_types::{JobId, Millis, NamespaceName, TableId, TableName, now_ms};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};
use uuid::Uuid;

use crate::dropped::insert_dropped;
use crate::namespaces::namespace_id;
use crate::places::{forget_places, inherit_places, insert_places};
use crate::quarantine::{insert_quarantine, release_restored};
use crate::{NewQuarantine, Outbox, QuarantineKind, Result, SoftDrop, State, StateError, Warehouse, flag, parse_id};

/// What a name in a namespace stands for. Both kinds share one name space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TabularKind {
    /// A table.
    Table,
    /// A view.
    View,
}

impl TabularKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View => "view",
        }
    }

    fn parse(text: &str) -> Self {
        if text == "view" { Self::View } else { Self::Table }
    }

    /// Worded as the reference implementation words it.
    pub(crate) fn missing(self, name: &TableName) -> StateError {
        match self {
            Self::Table => StateError::NoSuchTable(name.to_string()),
            Self::View => StateError::NoSuchView(name.to_string()),
        }
    }

    /// A name is taken: `self` is what should get it, `by` is what has it.
    pub(crate) fn taken(self, by: Self, name: &TableName) -> StateError {
        let kind = match (self, by) {
            (Self::Table, Self::Table) => "Table",
            (Self::View, Self::View) => "View",
            (Self::Table, Self::View) => "View with same name",
            (Self::View, Self::Table) => "Table with same name",
        };
        StateError::AlreadyExists { kind, name: name.to_string() }
    }
}

/// The pointer row of a table or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRow {
    /// The catalog entry.
    pub id: TableId,
    /// The number of its warehouse.
    pub warehouse: i64,
    /// Table or view.
    pub kind: TabularKind,
    /// Its present name.
    pub name: TableName,
    /// The table's own UUID, from its metadata.
    pub table_uuid: Uuid,
    /// The table's location.
    pub location: String,
    /// The current metadata file.
    pub metadata_location: String,
    /// Whether Esker owns the files; false for registered tables until they are claimed.
    pub owned: bool,
    /// It can't be dropped.
    pub protected: bool,
}

impl TableRow {
    /// The quarantine record of one of this table's own files.
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

/// A table or view to be entered.
#[derive(Debug, Clone)]
pub struct NewTabular {
    /// The entry.
    pub row: TableRow,
    /// The intent that the metadata file was recorded under, forgotten in the same transaction.
    pub recorded_output: Option<String>,
    /// The entry that this one takes the place of, which must still be there.
    pub replaces: Option<TableId>,
    /// Where its files lie, as its metadata says.
    pub places: Vec<String>,
}

/// A compare-and-swap of a pointer with what belongs in the same transaction.
#[derive(Debug, Clone)]
pub struct Swap {
    /// The table or view.
    pub id: TableId,
    /// The metadata file that must be current.
    pub from: String,
    /// The metadata file that becomes current.
    pub to: String,
    /// The location by the new metadata.
    pub location: String,
    /// Where files lie from now on, if not where they did. What was recorded before stays.
    pub places: Vec<String>,
    /// Files that this commit leaves unreferenced.
    pub quarantine: Vec<NewQuarantine>,
    /// Recorded outputs that this commit makes part of the table, or that are quarantined by it.
    pub settled_outputs: Vec<String>,
    /// Files that belonged to the table before and do again: taken out of quarantine.
    pub restored: Vec<String>,
}

pub(crate) const TABLE_COLUMNS: &str = "t.id, n.name, t.name, t.table_uuid, t.location, t.metadata_location, t.owned, t.protected, t.kind, \
     n.warehouse_id";
pub(crate) const TABLE_FROM: &str = "FROM tabular t JOIN namespace n ON n.id = t.namespace_id";

pub(crate) fn table_row(row: &AnyRow) -> Result<TableRow> {
    let corrupt = |e: esker_types::IdentError| StateError::Corrupt(e.to_string());
    let namespace = NamespaceName::from_key(row.try_get(1)?).map_err(corrupt)?;
    Ok(TableRow {
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

/// The kind of what has a name, if anything has.
async fn holder(tx: &mut Transaction<'_, Any>, namespace: i64, key: &str) -> Result<Option<(String, TabularKind)>> {
    let row = sqlx::query("SELECT id, kind FROM tabular WHERE namespace_id = $1 AND name_key = $2")
        .bind(namespace)
        .bind(key)
        .fetch_optional(&mut **tx)
        .await?;
    let parse = |row: AnyRow| Ok((row.try_get(0)?, TabularKind::parse(row.try_get(1)?)));
    row.map(parse).transpose()
}

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
    if let Some((_, by)) = holder(tx, namespace, &key).await? {
        return Err(row.kind.taken(by, &row.name));
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

async fn swap(tx: &mut Transaction<'_, Any>, swap: &Swap) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE tabular SET metadata_location = $3, location = $4, updated_ms = $5 WHERE id = $1 AND metadata_location = $2",
    )
    .bind(swap.id.to_string())
    .bind(&swap.from)
    .bind(&swap.to)
    .bind(&swap.location)
    .bind(now_ms())
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    insert_places(tx, swap.id, &swap.places).await?;
    insert_quarantine(tx, &swap.quarantine).await?;
    for path in &swap.settled_outputs {
        sqlx::query("DELETE FROM pending_output WHERE path = $1").bind(path).execute(&mut **tx).await?;
    }
    release_restored(tx, &swap.restored).await?;
    Ok(true)
}

impl State {
    /// Swaps pointers and enters tables or views, all or nothing. `Ok(false)` means that another commit came first to one
    /// of them; [`StateError::Ambiguous`] that nobody knows.
    pub async fn publish(&self, warehouse: Warehouse, swaps: &[Swap], new: &[NewTabular], along: &Outbox) -> Result<bool> {
        let mut tx = self.begin().await?;
        for one in swaps {
            if !swap(&mut tx, one).await? {
                return Ok(false);
            }
        }
        for one in new {
            insert_tabular(&mut tx, warehouse, one).await?;
        }
        along.insert(&mut tx).await?;
        tx.commit().await.map_err(StateError::Ambiguous)?;
        Ok(true)
    }

    async fn tabular(&self, kind: TabularKind, warehouse: Warehouse, name: &TableName) -> Result<TableRow> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {TABLE_COLUMNS} {TABLE_FROM} WHERE n.warehouse_id = $1 AND n.name_key = $2 AND t.name_key = $3 AND t.kind = $4"
        ));
        let row = sqlx::query(sql)
            .bind(warehouse.id)
            .bind(warehouse.namespace_key(&name.namespace))
            .bind(warehouse.key(&name.name))
            .bind(kind.as_str())
            .fetch_optional(&self.readers)
            .await?;
        table_row(&row.ok_or_else(|| kind.missing(name))?)
    }

    /// One table by name.
    pub async fn table(&self, warehouse: Warehouse, name: &TableName) -> Result<TableRow> {
        self.tabular(TabularKind::Table, warehouse, name).await
    }

    /// One view by name.
    pub async fn view(&self, warehouse: Warehouse, name: &TableName) -> Result<TableRow> {
        self.tabular(TabularKind::View, warehouse, name).await
    }

    /// Whether a name is free for a table or view.
    pub async fn check_free(&self, kind: TabularKind, warehouse: Warehouse, name: &TableName) -> Result<()> {
        let other = match kind {
            TabularKind::Table => TabularKind::View,
            TabularKind::View => TabularKind::Table,
        };
        for by in [kind, other] {
            match self.tabular(by, warehouse, name).await {
                Ok(_) => return Err(kind.taken(by, name)),
                Err(StateError::NoSuchTable(_) | StateError::NoSuchView(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// One table or view by its entry.
    pub async fn table_by_id(&self, id: TableId) -> Result<Option<TableRow>> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {TABLE_COLUMNS} {TABLE_FROM} WHERE t.id = $1"));
        let row = sqlx::query(sql).bind(id.to_string()).fetch_optional(&self.readers).await?;
        row.as_ref().map(table_row).transpose()
    }

    /// When an entry was made.
    pub async fn entered_ms(&self, id: TableId) -> Result<Option<Millis>> {
        let query = sqlx::query_scalar("SELECT created_ms FROM tabular WHERE id = $1").bind(id.to_string());
        Ok(query.fetch_optional(&self.readers).await?)
    }

    /// Every table or every view of the warehouse.
    pub async fn all_of(&self, kind: TabularKind, warehouse: Warehouse) -> Result<Vec<TableRow>> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {TABLE_COLUMNS} {TABLE_FROM} WHERE n.warehouse_id = $1 AND t.kind = $2 ORDER BY n.name, t.name"
        ));
        let rows = sqlx::query(sql).bind(warehouse.id).bind(kind.as_str()).fetch_all(&self.readers).await?;
        rows.iter().map(table_row).collect()
    }

    /// The names of a namespace's tables or views, by name, after `after`, at most `limit`.
    pub async fn list(
        &self,
        kind: TabularKind,
        warehouse: Warehouse,
        namespace: &NamespaceName,
        after: &str,
        limit: u32,
    ) -> Result<Vec<String>> {
        self.namespace(warehouse, namespace).await?;
        let query = sqlx::query_scalar(
            "SELECT t.name FROM tabular t JOIN namespace n ON n.id = t.namespace_id
             WHERE n.warehouse_id = $1 AND n.name_key = $2 AND t.kind = $3 AND t.name_key > $4 ORDER BY t.name_key LIMIT $5",
        )
        .bind(warehouse.id)
        .bind(warehouse.namespace_key(namespace))
        .bind(kind.as_str())
        .bind(warehouse.key(after))
        .bind(i64::from(limit));
        Ok(query.fetch_all(&self.readers).await?)
    }

    /// Renames a table or view, possibly into another namespace.
    pub async fn rename(
        &self,
        kind: TabularKind,
        warehouse: Warehouse,
        from: &TableName,
        to: &TableName,
        along: &Outbox,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        let source = namespace_id(&mut tx, warehouse, &from.namespace).await?;
        let found = holder(&mut tx, source, &warehouse.key(&from.name)).await?;
        let (id, _) = found.filter(|(_, found)| *found == kind).ok_or_else(|| kind.missing(from))?;
        let target = namespace_id(&mut tx, warehouse, &to.namespace).await?;
        let key = warehouse.key(&to.name);
        match holder(&mut tx, target, &key).await? {
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
        along.insert(&mut tx).await?;
        tx.commit().await.map_err(StateError::Ambiguous)?;
        Ok(())
    }

    /// Drops an entry, which must not be protected, and in the same transaction quarantines the files given (for a purge). With
    /// `keep`, a table can be brought back for a while. `false`: `at` is not its current metadata file any more.
    pub async fn drop_tabular(
        &self,
        id: TableId,
        at: Option<&str>,
        quarantines: &[NewQuarantine],
        keep: Option<&SoftDrop>,
        along: &Outbox,
    ) -> Result<bool> {
        let mut tx = self.begin().await?;
        let row = sqlx::query(
            "SELECT t.protected, t.kind, n.name, t.name, t.metadata_location
             FROM tabular t JOIN namespace n ON n.id = t.namespace_id WHERE t.id = $1",
        )
        .bind(id.to_string())
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| StateError::NoSuchTable(id.to_string()))?;
        if flag(&row, 0)? {
            let kind = TabularKind::parse(row.try_get(1)?).as_str();
            let namespace = NamespaceName::from_key(row.try_get(2)?).map_err(|e| StateError::Corrupt(e.to_string()))?;
            return Err(StateError::Protected { kind, name: format!("{namespace}.{}", row.try_get::<&str, _>(3)?) });
        }
        if at.is_some_and(|at| row.try_get::<&str, _>(4).is_ok_and(|now| now != at)) {
            return Ok(false);
        }
        if let Some(keep) = keep {
            insert_dropped(&mut tx, id, keep).await?;
        }
        sqlx::query("DELETE FROM tabular WHERE id = $1").bind(id.to_string()).execute(&mut *tx).await?;
        insert_quarantine(&mut tx, quarantines).await?;
        if keep.is_none() {
            forget_places(&mut tx, id).await?;
        }
        along.insert(&mut tx).await?;
        tx.commit().await.map_err(StateError::Ambiguous)?;
        Ok(true)
    }

    /// Sets one of an entry's marks.
    async fn mark(&self, sql: &'static str, id: TableId, value: bool, along: &Outbox) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query(sql).bind(id.to_string()).bind(i64::from(value)).execute(&mut *tx).await?;
        along.insert(&mut tx).await?;
        tx.commit().await.map_err(StateError::Ambiguous)?;
        Ok(())
    }

    /// Takes a foreign table into Esker's care.
    pub async fn claim_table(&self, id: TableId, along: &Outbox) -> Result<()> {
        self.mark("UPDATE tabular SET owned = $2 WHERE id = $1", id, true, along).await
    }

    /// Protects a table or view from being dropped, or lifts that.
    pub async fn protect(&self, id: TableId, protected: bool, along: &Outbox) -> Result<()> {
        self.mark("UPDATE tabular SET protected = $2 WHERE id = $1", id, protected, along).await
    }
}
