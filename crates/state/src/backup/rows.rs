//! The rows of a table: read from one database, written to another, and digested.
//!
//! A table has the same name and the same columns on SQLite and on PostgreSQL, and each column holds texts or whole numbers. So one
//! [`copy_table`] serves both directions. It holds a few hundred rows at a time, whatever the size of the table.

use futures::TryStreamExt;
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Row};

use super::BackupProgress;
use crate::{Result, StateError, batch};

/// The tables that foreign keys refer to, in the order in which they are filled. All other tables follow.
const PARENTS: [&str; 3] = ["principal", "warehouse", "namespace"];

/// The number of rows that one statement writes, and after which progress is reported.
const ROWS: usize = 200;

/// The size of the texts after which a statement is sent before it has [`ROWS`] rows, in bytes.
const BATCH_BYTES: usize = 1 << 20;

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    /// The name of the column.
    name: String,
    /// The column holds whole numbers. Otherwise it holds texts.
    is_number: bool,
}

/// A table of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// The name of the table.
    pub(super) name: String,
    /// The columns, in the order of their names.
    columns: Vec<Column>,
}

/// A value in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    /// No value.
    Null,
    /// A whole number.
    Number(i64),
    /// A text.
    Text(String),
}

/// The number of a table's rows, and a digest of them that does not depend on their order.
///
/// The digest is the sum of the SHA-256 of all rows. It tells a damaged copy, not a forged one: it has no key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RowDigest {
    /// The number of rows.
    pub(super) rows: u64,
    /// The sum of the hashes, eight bytes by eight bytes, without carries between them.
    sum: [u64; 4],
}

impl RowDigest {
    /// Adds a row.
    fn add(&mut self, row: &[Value]) {
        let mut hash = Sha256::new();
        for value in row {
            match value {
                Value::Null => hash.update([0_u8]),
                Value::Number(number) => {
                    hash.update([1_u8]);
                    hash.update(number.to_be_bytes());
                }
                Value::Text(text) => {
                    hash.update([2_u8]);
                    hash.update((text.len() as u64).to_be_bytes());
                    hash.update(text);
                }
            }
        }
        let hash: [u8; 32] = hash.finalize().into();
        for (sum, part) in self.sum.iter_mut().zip(hash.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_be_bytes(*part));
        }
        self.rows += 1;
    }

    /// Returns the digest in hexadecimal.
    pub(super) fn hex(&self) -> String {
        self.sum.iter().map(|part| format!("{part:016x}")).collect()
    }
}

/// Returns the tables of an SQLite database, with the tables that others refer to first.
///
/// Tables of SQLite, of the migrations and of the backup itself are left out.
///
/// # Errors
///
/// Returns [`Sql`](StateError::Sql) if the database can't be read, and [`Corrupt`](StateError::Corrupt) if a column holds neither
/// numbers nor texts.
pub(super) async fn tables(connection: &mut AnyConnection) -> Result<Vec<Table>> {
    let sql = r"SELECT m.name, c.name, c.type FROM sqlite_master m JOIN pragma_table_info(m.name) c
                WHERE m.type = 'table' AND m.name NOT LIKE '\_%' ESCAPE '\' AND m.name NOT LIKE 'sqlite\_%' ESCAPE '\'
                  AND m.name <> 'backup_header' ORDER BY m.name, c.name";
    let found: Vec<(String, String, String)> = sqlx::query_as(sql).fetch_all(connection).await?;
    let mut tables: Vec<Table> = Vec::new();
    for (table, name, kind) in found {
        let is_number = match kind.as_str() {
            "INTEGER" => true,
            "TEXT" => false,
            _ => return Err(StateError::Corrupt(format!("the column {name} of {table} holds {kind}, which no copy can have"))),
        };
        if tables.last().is_none_or(|last| last.name != table) {
            tables.push(Table { name: table, columns: Vec::new() });
        }
        if let Some(last) = tables.last_mut() {
            last.columns.push(Column { name, is_number });
        }
    }
    tables.sort_by_key(|table| PARENTS.iter().position(|parent| *parent == table.name).unwrap_or(PARENTS.len()));
    Ok(tables)
}

impl Table {
    /// Returns the names of the columns, quoted and separated by commas.
    fn names(&self) -> String {
        self.columns.iter().map(|column| format!("\"{}\"", column.name)).collect::<Vec<_>>().join(", ")
    }

    /// Returns the statement that reads all rows.
    fn select(&self) -> AssertSqlSafe<String> {
        AssertSqlSafe(format!("SELECT {} FROM \"{}\"", self.names(), self.name))
    }

    /// Returns the number of rows.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database can't be read.
    pub(super) async fn count(&self, connection: &mut AnyConnection) -> Result<u64> {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM \"{}\"", self.name));
        let rows: i64 = sqlx::query_scalar(sql).fetch_one(connection).await?;
        Ok(rows.unsigned_abs())
    }

    /// Reads the values of a row of [`Table::select`].
    fn values(&self, row: &AnyRow) -> Result<Vec<Value>> {
        let value = |(at, column): (usize, &Column)| -> Result<Value> {
            Ok(match column.is_number {
                true => row.try_get::<Option<i64>, _>(at)?.map_or(Value::Null, Value::Number),
                false => row.try_get::<Option<String>, _>(at)?.map_or(Value::Null, Value::Text),
            })
        };
        self.columns.iter().enumerate().map(value).collect()
    }

    /// Writes rows with one statement, and leaves `rows` empty.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the rows can't be written.
    async fn insert(&self, to: &mut AnyConnection, rows: &mut Vec<Vec<Value>>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let places = batch::values(rows.len(), self.columns.len());
        let sql = AssertSqlSafe(format!("INSERT INTO \"{}\" ({}) VALUES {places}", self.name, self.names()));
        let mut query = sqlx::query::<Any>(sql);
        for row in rows.drain(..) {
            for (value, column) in row.into_iter().zip(&self.columns) {
                query = match value {
                    // PostgreSQL wants a null of the column's type.
                    Value::Null if column.is_number => query.bind(None::<i64>),
                    Value::Null => query.bind(None::<String>),
                    Value::Number(number) => query.bind(number),
                    Value::Text(text) => query.bind(text),
                };
            }
        }
        query.execute(to).await?;
        Ok(())
    }
}

/// Progress through the rows of several tables.
pub(super) struct RowProgress<'a> {
    /// What is being done.
    what: &'a str,
    /// The number of rows that are done.
    done: u64,
    /// The number of rows of all tables.
    total: u64,
    /// Hears of the progress.
    report: &'a BackupProgress<'a>,
}

impl<'a> RowProgress<'a> {
    /// Counts the rows of the tables, and starts at the first.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database can't be read.
    pub(super) async fn start(
        what: &'a str,
        connection: &mut AnyConnection,
        tables: &[Table],
        report: &'a BackupProgress<'a>,
    ) -> Result<Self> {
        let mut total = 0;
        for table in tables {
            total += table.count(&mut *connection).await?;
        }
        Ok(Self { what, done: 0, total, report })
    }

    /// Counts a row. Reports now and then.
    fn advance(&mut self) {
        self.done += 1;
        if self.done.is_multiple_of(ROWS as u64) {
            (self.report)(self.what, self.done, self.total);
        }
    }
}

/// Copies all rows of a table. The table is empty in `to`, and both are within a transaction.
///
/// # Errors
///
/// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if a row can't be read or written.
pub(super) async fn copy_table(
    from: &mut AnyConnection,
    to: &mut AnyConnection,
    table: &Table,
    progress: &mut RowProgress<'_>,
) -> Result<()> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut rows = sqlx::query::<Any>(table.select()).fetch(from);
    while let Some(row) = rows.try_next().await? {
        let values = table.values(&row)?;
        let texts = values.iter().map(|value| if let Value::Text(text) = value { text.len() } else { 0 });
        bytes += texts.sum::<usize>();
        batch.push(values);
        if batch.len() == ROWS || bytes > BATCH_BYTES {
            table.insert(&mut *to, &mut batch).await?;
            bytes = 0;
        }
        progress.advance();
    }
    table.insert(to, &mut batch).await
}

/// Digests all rows of a table.
///
/// # Errors
///
/// Returns [`Sql`](StateError::Sql) if a row can't be read.
pub(super) async fn digest_table(from: &mut AnyConnection, table: &Table, progress: &mut RowProgress<'_>) -> Result<RowDigest> {
    let mut digest = RowDigest::default();
    let mut rows = sqlx::query::<Any>(table.select()).fetch(from);
    while let Some(row) = rows.try_next().await? {
        digest.add(&table.values(&row)?);
        progress.advance();
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use sqlx::Connection;

    use super::*;
    use crate::{Database, State};

    #[test]
    fn a_digest_depends_on_every_value_and_its_column_and_not_on_the_order_of_rows() {
        let digest = |rows: &[&[Value]]| {
            let mut digest = RowDigest::default();
            rows.iter().for_each(|row| digest.add(row));
            digest
        };
        let text = |text: &str| Value::Text(text.to_owned());
        let (a, b) = ([text("ab"), text("c")], [text("a"), text("bc")]);
        assert_eq!(digest(&[&a, &b]), digest(&[&b, &a]));
        let all = [
            digest(&[&a]),
            digest(&[&b]),
            digest(&[&a, &a]),
            digest(&[&[text("ab"), Value::Null]]),
            digest(&[&[text("ab"), text("")]]),
            digest(&[&[text("ab"), Value::Number(0)]]),
            digest(&[]),
        ];
        assert_eq!(all.iter().map(RowDigest::hex).collect::<HashSet<_>>().len(), all.len());
        // A value of one row that another row gets instead.
        assert_ne!(
            digest(&[&[text("a"), text("x")], &[text("b"), text("y")]]),
            digest(&[&[text("a"), text("y")], &[text("b"), text("x")]])
        );
        assert_eq!(all[0].hex().len(), 64);
    }

    #[tokio::test]
    async fn tables_come_after_those_that_they_refer_to_and_every_column_can_be_copied() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = Database::Sqlite(dir.path().join("esker.db"));
        State::open(database.clone()).await.expect("opened").close().await;
        let mut connection = database.connection().await.expect("opened");
        let found = tables(&mut connection).await.expect("every column is a number or a text");
        assert!(found.len() > 20 && found.iter().all(|table| !table.columns.is_empty()), "{found:?}");
        assert!(!found.iter().any(|table| table.name.starts_with('_') || table.name.starts_with("sqlite")), "{found:?}");
        let place = |name: &str| found.iter().position(|table| table.name == name).expect("a table");
        let sql = "SELECT m.name, f.\"table\" FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table'";
        let keys: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(&mut connection).await.expect("read");
        assert!(keys.len() > 3, "{keys:?}");
        for (child, parent) in keys {
            assert!(place(&parent) < place(&child), "{child} refers to {parent}: PARENTS must name it");
        }
        connection.close().await.expect("closed");
    }
}
