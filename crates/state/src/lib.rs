//! The state database: the only SQL text of the workspace.
//!
//! SQLite in write-ahead-log mode. One connection with `synchronous = FULL` makes every change a client is told about; a second with
//! `NORMAL` records intents, which a killed process must leave behind but a power cut may lose (the file is then found as an
//! orphan). Functions take and return plain data; each is one transaction.

mod along;
mod doomed;
mod dropped;
mod error;
mod functions;
mod jobs;
mod namespaces;
mod outputs;
mod principals;
mod reports;
mod sightings;
mod tables;

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{SqliteConnection, SqlitePool};
use uuid::Uuid;

pub use along::{Along, Event, NewEvent, NewReceipt, Receipt, ReceiptKey};
pub use doomed::{Doom, DoomState, Doomed};
pub use dropped::{DroppedTable, SoftDrop};
pub use error::StateError;
pub use jobs::{Job, JobState, NewJob};
pub use namespaces::{NamespaceRow, Warehouse};
pub use outputs::Output;
pub use tables::{Kind, NewTable, Swap, TableRow};

/// The result of a state operation.
pub type Result<T> = std::result::Result<T, StateError>;

/// The state database of one server.
#[derive(Debug, Clone)]
pub struct State {
    /// Reads.
    readers: SqlitePool,
    /// Changes that a client is told about. One connection: writers queue here, not on SQLite's lock.
    writer: SqlitePool,
    /// Intents.
    intents: SqlitePool,
    instance: Uuid,
}

impl State {
    /// Opens or creates the database and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        let pool = |options: SqliteConnectOptions, connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .before_acquire(|connection, _| Box::pin(async move { Ok(is_between_transactions(connection).await) }))
                .connect_with(options)
        };
        let writer = pool(options.clone().synchronous(SqliteSynchronous::Full), 1).await?;
        sqlx::migrate!().run(&writer).await?;
        let intents = pool(options.clone().synchronous(SqliteSynchronous::Normal), 1).await?;
        let readers = pool(options.synchronous(SqliteSynchronous::Normal), 4).await?;
        Ok(Self { readers, writer, intents, instance: Uuid::now_v7() })
    }

    /// This process, as intents and jobs are marked with it.
    pub fn instance(&self) -> Uuid {
        self.instance
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }

    /// Closes every connection, which also folds the write-ahead log into the database.
    pub async fn close(&self) {
        self.readers.close().await;
        self.intents.close().await;
        self.writer.close().await;
    }
}

/// Whether a pooled connection is out of any transaction; one that is not is thrown away.
///
/// How every transaction begins: with the write lock. One that reads first and writes later fails at once, as no waiting could
/// help it, if another connection has committed between.
pub(crate) const IMMEDIATE: &str = "BEGIN IMMEDIATE";

/// A COMMIT that fails (on a full disk, say) leaves SQLite's transaction open and its write lock held, and the next user of
/// the connection would go on in it unawares.
async fn is_between_transactions(connection: &mut SqliteConnection) -> bool {
    sqlx::raw_sql("BEGIN; ROLLBACK").execute(connection).await.is_ok()
}

/// A UUID column's text as a typed identifier.
fn parse_id<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| StateError::Corrupt(format!("not an identifier: {text:?}")))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use esker_types::{NamespaceName, TableName};
    use sqlx::migrate::Migrator;

    use super::*;

    /// A database of the first release, with a table in it, opened by this one.
    #[tokio::test]
    async fn a_database_of_the_first_schema_is_brought_up_to_date_with_what_is_in_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("esker.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let pool = SqlitePoolOptions::new().connect_with(options).await.expect("opened");
        let all = sqlx::migrate!();
        let first = all.iter().filter(|m| m.version == 1).cloned().collect::<Vec<_>>();
        Migrator { migrations: Cow::Owned(first), ..Migrator::DEFAULT }.run(&pool).await.expect("migrated");
        for sql in [
            "INSERT INTO warehouse VALUES (1, 'default', 'file:///w')",
            "INSERT INTO namespace VALUES (1, 1, 'N', '', '{\"a\":\"b\"}')",
            "INSERT INTO iceberg_table VALUES ('01890a5d-ac96-774b-bcce-b302099a8057', 1, 'T', '01890a5d-ac96-774b-bcce-b302099a8058',
                'file:///w/n/t', 'file:///w/n/t/metadata/0.json', 1, 0, 0)",
        ] {
            sqlx::query(sql).execute(&pool).await.expect("inserted");
        }
        pool.close().await;

        let state = State::open(&path).await.expect("opened");
        let (warehouse, location) = state.ensure_warehouse("default", "file:///other", false).await.expect("there");
        assert_eq!((warehouse, location.as_str()), (Warehouse { id: 1, case_insensitive: false }, "file:///w"));
        let namespace = NamespaceName::new(vec!["N".to_owned()]).expect("valid");
        assert_eq!(state.namespace(warehouse, &namespace).await.expect("there").properties["a"], "b");
        let row = state.table(warehouse, &TableName::new(namespace, "T").expect("valid")).await.expect("there");
        assert!(row.owned && !row.protected);
        assert_eq!((row.kind, row.warehouse), (Kind::Table, 1));
    }
}
