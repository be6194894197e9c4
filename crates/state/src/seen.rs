//! The changes that this server saw confirmed: a database that lacks some of them lost transactions.
//!
//! Each server counts its changes in a row of its own, in the transaction of each change. It remembers the number that it saw
//! confirmed, and with each heartbeat the numbers of the other servers: in memory, and in a file of its data directory. A database
//! with a smaller number was failed over to a standby that was late, or an older copy took its place. The server then declares it
//! to be behind, as `esker recover --behind` does, so that it counts as a restored database.
//!
//! | the database | the server |
//! |---|---|
//! | has what the server saw | goes on |
//! | was declared to be behind since the server looked | takes over the numbers: what was lost before belongs to that declaration |
//! | lacks changes, or a declaration that the server knew of | declares the database to be behind, and takes over its numbers |
//! | is another one, by its identifier | forgets what it remembers of the first one |
//!
//! A change that finds that something was lost fails ([`StateError::LostChanges`]), so that its caller looks again before it goes
//! on. Start reading at [`State::begin`], then at `settle`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use esker_types::{DAY_MS, Millis, now_ms};
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use uuid::Uuid;

use crate::warehouses::{BEHIND, database_id};
use crate::{Result, State, StateError, backup};

/// The time after which the row of a server that changed nothing is removed, in milliseconds. After half of it, its absence says
/// nothing.
const KEPT_MS: Millis = 90 * DAY_MS;

/// The database as this server saw it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Seen {
    /// The identifier of the server's row. It stays the same for as long as the file does.
    server: String,
    /// The identifier of the database. Empty if the server has seen none.
    database: String,
    /// The time of the last declaration that the database is behind; 0 if there was none.
    behind_ms: Millis,
    /// The number of the last change of this server that the database confirmed.
    changes: i64,
    /// The numbers of changes of the other servers, by their identifiers, as a heartbeat found them. Those that changed nothing for
    /// long are left out: their rows may be removed.
    #[serde(default)]
    others: BTreeMap<String, i64>,
    /// The time at which the file was written. Rows are not kept for ever.
    saved_ms: Millis,
}

/// What the database holds of the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    /// The time of the last declaration that the database is behind; 0 if there was none.
    behind_ms: Millis,
    /// The number of changes of this server; `None` if it has no row.
    changes: Option<i64>,
    /// The rows of the other servers, by their identifiers. `None` if nobody asked.
    others: Option<BTreeMap<String, OtherServer>>,
}

/// The row of another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OtherServer {
    /// The number of its changes.
    changes: i64,
    /// It changed something lately, so that its row stays for long.
    is_lasting: bool,
}

impl Found {
    /// Returns the numbers of changes of the other servers to remember.
    fn lasting(self) -> BTreeMap<String, i64> {
        let others = self.others.unwrap_or_default().into_iter();
        others.filter(|(_, other)| other.is_lasting).map(|(server, other)| (server, other.changes)).collect()
    }
}

/// The result of comparing what a server saw with what the database holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Comparison {
    /// The database has everything that the server saw.
    Same,
    /// The database was declared to be behind since the server looked.
    Declared,
    /// The database lost something. The text says what.
    Lost(String),
}

impl Seen {
    /// Returns what the database holds, from the rows of all servers.
    fn found(&self, behind_ms: Millis, rows: Vec<ServerRow>) -> Found {
        let other = |(server, changes, lasting): ServerRow| (server, OtherServer { changes, is_lasting: lasting != 0 });
        let mut others: BTreeMap<String, OtherServer> = rows.into_iter().map(other).collect();
        let changes = others.remove(&self.server).map(|own| own.changes);
        Found { behind_ms, changes, others: Some(others) }
    }

    /// Compares what the server saw with what the database holds now. `is_recent` says that no row which it saw is old enough to be
    /// removed.
    fn compare(&self, found: &Found, is_recent: bool) -> Comparison {
        if found.behind_ms > self.behind_ms {
            return Comparison::Declared;
        }
        if found.behind_ms < self.behind_ms {
            return Comparison::Lost("it does not know that it was declared to be behind".to_owned());
        }
        for (server, seen) in self.others.iter().filter(|_| found.others.is_some()) {
            let has = match found.others.as_ref().and_then(|others| others.get(server)) {
                Some(other) if other.changes < *seen => format!("{} changes", other.changes),
                None if is_recent => "no change".to_owned(),
                _ => continue,
            };
            return Comparison::Lost(format!("it has {has} of the server {server}, and had confirmed {seen}"));
        }
        let seen = self.changes;
        match found.changes {
            Some(changes) if changes >= seen => Comparison::Same,
            Some(changes) => Comparison::Lost(format!("it has {changes} changes of this server, and had confirmed {seen}")),
            None => Comparison::Lost(format!("it has none of the {seen} changes of this server that it had confirmed")),
        }
    }
}

/// The memory of this process, and the file that it is written to.
#[derive(Debug)]
pub(crate) struct SeenChanges {
    /// The database as it was seen last.
    seen: Mutex<Seen>,
    /// The file; `None` if nothing is kept beyond the process.
    file: Mutex<Option<PathBuf>>,
    /// What the file holds, if this process wrote or read it.
    saved: Mutex<Option<Seen>>,
    /// Held while the file is written.
    saving: tokio::sync::Mutex<()>,
    /// The number of the change that is open; 0 if it is not counted. There is one connection for changes, so at most one is open.
    open: AtomicI64,
    /// The number of times that this process learnt that the database is behind.
    losses: AtomicU64,
    /// True while this process takes note of that: what it knows of tables is of no use, and the numbers are not taken over yet.
    noticing: AtomicBool,
}

impl SeenChanges {
    /// Makes the memory of a process that has seen nothing.
    pub(crate) fn new(server: Uuid) -> Self {
        let (server, database) = (server.to_string(), String::new());
        let seen = Mutex::new(Seen { server, database, behind_ms: 0, changes: 0, others: BTreeMap::new(), saved_ms: 0 });
        let (file, saved, open, losses) = (Mutex::default(), Mutex::default(), AtomicI64::default(), AtomicU64::default());
        Self { seen, file, saved, saving: tokio::sync::Mutex::default(), open, losses, noticing: AtomicBool::default() }
    }

    /// Reads what the file of a data directory remembers, and writes to it from now on. A missing file is no error.
    ///
    /// A file that can't be parsed is replaced. Then nothing is remembered.
    ///
    /// # Errors
    ///
    /// Returns [`File`](StateError::File) if the file can't be read.
    pub(crate) fn remember_in(&self, file: &Path) -> Result<()> {
        match std::fs::read(file) {
            Ok(text) => match serde_json::from_slice::<Seen>(&text) {
                Ok(found) => {
                    *guard(&self.saved) = Some(found.clone());
                    *guard(&self.seen) = found;
                }
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "the file can't be read, so nothing is known of lost changes");
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(StateError::File { path: file.to_owned(), source }),
        }
        *guard(&self.file) = Some(file.to_owned());
        Ok(())
    }

    /// Returns the number of times that this process learnt that the database is behind. `None` while it takes note of that.
    pub(crate) fn losses(&self) -> Option<u64> {
        (!self.is_noticing()).then(|| self.losses.load(Ordering::Acquire))
    }

    /// Checks whether this process takes note of a loss, or tried to and failed.
    fn is_noticing(&self) -> bool {
        self.noticing.load(Ordering::Acquire)
    }

    /// Returns the number of the change that is open; 0 if it is not counted.
    pub(crate) fn open_change(&self) -> i64 {
        self.open.load(Ordering::Acquire)
    }

    /// Sets the number of the change that is open; 0 if it is not counted.
    pub(crate) fn set_open_change(&self, number: i64) {
        self.open.store(number, Ordering::Release);
    }

    /// Remembers that the database confirmed the change of a number.
    pub(crate) fn confirm(&self, number: i64) {
        let mut seen = guard(&self.seen);
        seen.changes = seen.changes.max(number);
    }

    /// Takes over what the database holds, after the transaction that found it was confirmed.
    pub(crate) fn adopt(&self, settled: Settled) {
        match &settled.comparison {
            Comparison::Same => {}
            Comparison::Declared => {
                tracing::warn!("the state database was restored or declared to be behind since this server looked");
            }
            Comparison::Lost(why) => {
                tracing::error!(
                    why,
                    "the state database lost changes that it had confirmed, and was declared to be behind: nothing is deleted \
                     until a person has run `esker recover --reconcile`"
                );
            }
        }
        if settled.comparison != Comparison::Same {
            self.losses.fetch_add(1, Ordering::AcqRel);
        }
        let mut seen = guard(&self.seen);
        // The connection was free again before this: a further change may be confirmed already.
        let is_same = settled.comparison == Comparison::Same && seen.database == settled.seen.database;
        let confirmed = if is_same { seen.changes } else { 0 };
        *seen = settled.seen;
        seen.changes = seen.changes.max(confirmed);
        drop(seen);
        self.noticing.store(false, Ordering::Release);
    }

    /// Does the work of [`SeenChanges::save`] in a task of its own, unless one is at it.
    ///
    /// A disk that hangs must hold up no heartbeat.
    pub(crate) fn save_soon(self: &Arc<Self>) {
        if self.saving.try_lock().is_ok() {
            let this = self.clone();
            tokio::spawn(async move { this.save().await });
        }
    }

    /// Writes what was seen to the file, if there is one and anything has changed. A failure is logged.
    pub(crate) async fn save(&self) {
        let _saving = self.saving.lock().await;
        let Some(file) = guard(&self.file).clone() else { return };
        let seen = Seen { saved_ms: now_ms(), ..guard(&self.seen).clone() };
        // An old time would make a start take its row for one that was removed.
        let fresh =
            |saved: &Seen| *saved == Seen { saved_ms: saved.saved_ms, ..seen.clone() } && seen.saved_ms - saved.saved_ms < DAY_MS;
        if seen.database.is_empty() || guard(&self.saved).as_ref().is_some_and(fresh) {
            return;
        }
        let (written, path) = (seen.clone(), file.clone());
        let done = tokio::task::spawn_blocking(move || write_whole(&path, &written)).await;
        match done.unwrap_or_else(|panic| Err(std::io::Error::other(panic))) {
            Ok(()) => *guard(&self.saved) = Some(seen),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "what the database confirmed can't be remembered; the next \
                     heartbeat tries again");
            }
        }
    }
}

/// Locks a value. A panic of another holder does not matter: each change of a value is one assignment.
fn guard<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the file, which is the old one or the new one after a crash.
fn write_whole(path: &Path, seen: &Seen) -> std::io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file = std::fs::File::create(&partial)?;
    file.write_all(&serde_json::to_vec(seen)?)?;
    file.sync_all()?;
    std::fs::rename(&partial, path)
}

/// The numbers of the database after a comparison, in a transaction that is not confirmed yet.
#[derive(Debug)]
pub(crate) struct Settled {
    seen: Seen,
    comparison: Comparison,
}

/// Reads the time of the last declaration that a database is behind. 0 without a value.
fn parse_behind(value: Option<String>) -> Result<Millis> {
    let corrupt = |_| StateError::Corrupt("not the time of a declaration that the database is behind".to_owned());
    value.map_or(Ok(0), |ms| ms.parse::<Millis>().map_err(corrupt))
}

impl State {
    /// Counts a change in its transaction, after its comparison with what this server saw.
    ///
    /// Returns the number of the change, and whether the server has its row among the living ones. `None` if the database lost
    /// something or was declared to be behind, or if an earlier loss was not noted to the end: then the change must not go on.
    ///
    /// # Errors
    ///
    /// Returns [`Corrupt`](StateError::Corrupt) if a stored value can't be read, and [`Full`](StateError::Full) or
    /// [`Sql`](StateError::Sql) if the database fails.
    pub(crate) async fn count_change(&self, tx: &mut AnyConnection) -> Result<Option<(i64, bool)>> {
        let seen = guard(&self.seen.seen).clone();
        let clock = self.database.clock_sql();
        let count = sqlx::AssertSqlSafe(format!(
            "UPDATE server_changes SET changes = changes + 1, seen_ms = {clock} WHERE server = $1
             RETURNING changes, (SELECT count(*) FROM instance WHERE id = $2), (SELECT value FROM meta WHERE key = $3)"
        ));
        let count = sqlx::query_as(count).bind(&seen.server).bind(self.instance.to_string()).bind(BEHIND);
        let row: Option<(i64, i64, Option<String>)> = count.fetch_optional(tx).await?;
        let Some((number, living, behind)) = row else { return Ok(None) };
        let found = Found { behind_ms: parse_behind(behind)?, changes: Some(number - 1), others: None };
        // A primary that comes back has what its standby had lost, and the declaration on the standby was never confirmed.
        let goes_on = seen.compare(&found, true) == Comparison::Same && !self.seen.is_noticing();
        Ok(goes_on.then_some((number, living > 0)))
    }

    /// Compares the numbers that a heartbeat read with what this server had seen before it, and remembers those of other servers.
    ///
    /// `before` is [`State::seen_before`]. The rows are those of all servers.
    ///
    /// # Errors
    ///
    /// Returns [`Corrupt`](StateError::Corrupt) if a stored value can't be read. Returns [`Ambiguous`](StateError::Ambiguous),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails; then the next heartbeat compares again.
    pub(crate) async fn compare_heartbeat(
        &self,
        before: &SeenBefore,
        behind: Option<String>,
        rows: Vec<ServerRow>,
    ) -> Result<()> {
        let found = before.0.found(parse_behind(behind)?, rows);
        match before.0.compare(&found, true) {
            Comparison::Same if !self.seen.is_noticing() => {
                guard(&self.seen.seen).others = found.lasting();
                Ok(())
            }
            Comparison::Same | Comparison::Declared | Comparison::Lost(_) => self.note_losses().await,
        }
    }

    /// Returns what this server has seen by now, for a comparison with what the database says afterwards.
    pub(crate) fn seen_before(&self) -> SeenBefore {
        SeenBefore(guard(&self.seen.seen).clone())
    }

    /// Compares what this server saw with the database, declares the database to be behind if it lost something, and takes over its
    /// numbers.
    ///
    /// # Errors
    ///
    /// Returns [`Corrupt`](StateError::Corrupt) if a stored value can't be read, [`Ambiguous`](StateError::Ambiguous) if the
    /// commit was not confirmed, and [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails. Then nothing
    /// is taken over.
    pub(crate) async fn note_losses(&self) -> Result<()> {
        let mut tx = self.database.begin_exclusive(&self.writer).await?;
        let settled = self.settle(&mut tx).await?;
        if settled.comparison != Comparison::Same {
            // Before the transaction counts: a commit that looks at its table from now on waits until it can be told what to do.
            self.seen.noticing.store(true, Ordering::Release);
        }
        tx.commit().await.map_err(StateError::of_commit)?;
        self.seen.adopt(settled);
        Ok(())
    }

    /// Does the work of [`State::note_losses`] in a transaction of the caller.
    ///
    /// The caller calls [`SeenChanges::adopt`] once the transaction is confirmed. The server gets its row if there is none, and
    /// rows that are too old are removed.
    ///
    /// # Errors
    ///
    /// Returns [`Corrupt`](StateError::Corrupt) if a stored value can't be read, and [`Full`](StateError::Full) or
    /// [`Sql`](StateError::Sql) if the database fails.
    pub(crate) async fn settle(&self, tx: &mut AnyConnection) -> Result<Settled> {
        let before = guard(&self.seen.seen).clone();
        let database = database_id(&mut *tx).await?;
        let clock = self.database.clock_sql();
        let rows = all_rows(&mut *tx, clock).await?;
        let found = before.found(behind_ms(&mut *tx).await?, rows);
        // The row of a server that was stopped for long is removed. A running one has it for certain.
        let is_recent = self.registered.load(Ordering::Acquire) || now_ms().saturating_sub(before.saved_ms) <= KEPT_MS / 2;
        let forgotten = !is_recent && found.changes.is_none();
        let comparison = match before.database == database && !forgotten {
            true => before.compare(&found, is_recent),
            false => Comparison::Same,
        };
        match &comparison {
            Comparison::Same => {}
            Comparison::Declared => disown_metadata_files(&mut *tx).await?,
            Comparison::Lost(_) => declare_behind(&mut *tx).await?,
        }
        let old = sqlx::AssertSqlSafe(format!("DELETE FROM server_changes WHERE server <> $1 AND seen_ms < {clock} - $2"));
        sqlx::query(old).bind(&before.server).bind(KEPT_MS).execute(&mut *tx).await?;
        let own = sqlx::AssertSqlSafe(format!(
            "INSERT INTO server_changes (server, changes, seen_ms) VALUES ($1, $2, {clock})
             ON CONFLICT (server) DO UPDATE SET seen_ms = excluded.seen_ms RETURNING changes"
        ));
        // A row that is made again goes on where it was: others may remember it.
        let own = sqlx::query_scalar(own).bind(&before.server).bind(before.changes.max(1));
        let changes: i64 = own.fetch_one(&mut *tx).await?;
        let behind_ms = behind_ms(tx).await?;
        Ok(Settled { seen: Seen { database, behind_ms, changes, others: found.lasting(), ..before }, comparison })
    }

    /// Checks that this server remembers something of a database.
    pub(crate) fn remembers(&self) -> bool {
        !guard(&self.seen.seen).database.is_empty()
    }
}

/// What a server had seen before it asked the database.
#[derive(Debug)]
pub(crate) struct SeenBefore(Seen);

/// Declares a database to be behind, as if it were a restored backup.
///
/// # Errors
///
/// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
pub(crate) async fn declare_behind(tx: &mut AnyConnection) -> Result<()> {
    backup::mark(&mut *tx, now_ms()).await?;
    disown_metadata_files(tx).await
}

/// Makes the records of metadata files that servers were about to publish nobody's.
///
/// The transaction that published the file may be one of those that are lost. Then the file is a state of its table that the
/// database does not have. A commit that is under way loses its race ([`crate::Tables::publish`]), so its table is looked at again.
///
/// # Errors
///
/// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
async fn disown_metadata_files(tx: &mut AnyConnection) -> Result<()> {
    let disown = "UPDATE pending_output SET instance = $1 WHERE path LIKE '%.metadata.json'";
    sqlx::query(disown).bind(Uuid::now_v7().to_string()).execute(tx).await?;
    Ok(())
}

/// The row of a server: its identifier, the number of its changes, and 1 if it changed something lately.
pub(crate) type ServerRow = (String, i64, i64);

/// Reads the rows of all servers. `clock` is [`Database::clock_sql`](crate::Database::clock_sql).
pub(crate) async fn all_rows(tx: &mut AnyConnection, clock: &str) -> Result<Vec<ServerRow>> {
    let sql = sqlx::AssertSqlSafe(format!(
        "SELECT server, changes, CAST(CASE WHEN seen_ms >= {clock} - $1 THEN 1 ELSE 0 END AS BIGINT) FROM server_changes"
    ));
    Ok(sqlx::query_as(sql).bind(KEPT_MS / 2).fetch_all(tx).await?)
}

/// Reads the time of the last declaration that the database is behind; 0 if there was none.
async fn behind_ms(tx: &mut AnyConnection) -> Result<Millis> {
    let value = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1").bind(BEHIND);
    parse_behind(value.fetch_optional(tx).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_lacks_what_was_seen_lost_it_unless_it_was_declared_to_be_behind_since() {
        let (server, database) = ("s".to_owned(), "d".to_owned());
        let others = BTreeMap::from([("o".to_owned(), 4)]);
        let seen = Seen { server, database, behind_ms: 5, changes: 7, others, saved_ms: 0 };
        let found = |behind_ms, changes| seen.compare(&Found { behind_ms, changes, others: None }, true);
        let beside = |changes, is_recent| {
            let other = |server: &str, changes| (server.to_owned(), changes, 1);
            let rows = [("s", Some(7)), ("o", changes), ("new", Some(1))];
            let rows = rows.into_iter().filter_map(|(server, changes)| Some(other(server, changes?))).collect();
            seen.compare(&seen.found(5, rows), is_recent)
        };
        assert_eq!(found(5, Some(7)), Comparison::Same);
        assert_eq!(found(5, Some(8)), Comparison::Same, "a change that was sent and not confirmed was made");
        assert_eq!(found(6, Some(3)), Comparison::Declared);
        assert_eq!(found(6, None), Comparison::Declared);
        assert_eq!((beside(Some(4), true), beside(Some(9), true)), (Comparison::Same, Comparison::Same));
        assert_eq!(beside(None, false), Comparison::Same, "the row may have been removed");
        for (changes, what) in [(Some(3), "3 changes of the server o"), (None, "no change of the server o")] {
            let Comparison::Lost(why) = beside(changes, true) else { panic!("a change of another server was lost") };
            assert!(why.contains(what), "{why}");
        }
        for (behind_ms, changes, what) in [(5, Some(6), "6 changes"), (5, None, "none of the 7"), (0, Some(9), "declared")] {
            let Comparison::Lost(why) = found(behind_ms, changes) else { panic!("{behind_ms} {changes:?}") };
            assert!(why.contains(what), "{why}");
        }
    }

    /// The declaration was sent to a standby that went away, and the primary came back with all changes.
    #[tokio::test]
    async fn a_loss_that_could_not_be_declared_is_over_when_the_database_has_everything_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = State::open(crate::Database::Sqlite(dir.path().join("esker.db"))).await.expect("opened");
        let dead_after = std::time::Duration::from_secs(60);
        state.servers().register(dead_after).await.expect("registered");
        let notices = || state.seen.noticing.store(true, Ordering::Release);
        notices();
        assert_eq!(state.servers().losses(), None);
        state.servers().heartbeat(dead_after).await.expect("alive");
        assert_eq!(state.servers().losses(), Some(0), "a heartbeat finds that nothing is lost");
        notices();
        let refused = state.begin().await.map(drop).expect_err("it was not known what the database has");
        assert!(matches!(refused, StateError::LostChanges), "{refused}");
        assert_eq!(state.servers().losses(), Some(0), "so does a change");
        let tx = state.begin().await.expect("the next one goes on");
        state.commit(tx).await.expect("committed");
        state.close().await;
    }

    #[tokio::test]
    async fn a_change_that_is_confirmed_during_a_comparison_is_not_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = State::open(crate::Database::Sqlite(dir.path().join("esker.db"))).await.expect("opened");
        state.servers().register(std::time::Duration::from_secs(60)).await.expect("registered");
        let mut tx = state.database.begin_exclusive(&state.writer).await.expect("begun");
        let settled = state.settle(&mut tx).await.expect("compared");
        tx.commit().await.expect("committed");
        let change = state.begin().await.expect("begun");
        state.commit(change).await.expect("committed");
        let confirmed = guard(&state.seen.seen).changes;
        state.seen.adopt(settled);
        assert_eq!(guard(&state.seen.seen).changes, confirmed);
        state.close().await;
    }

    #[tokio::test]
    async fn what_was_seen_is_read_back_and_a_damaged_file_is_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("seen.json");
        let seen = SeenChanges::new(Uuid::now_v7());
        seen.remember_in(&file).expect("there is none yet");
        seen.save().await;
        assert!(!file.exists(), "no database was seen");
        guard(&seen.seen).database = "d".to_owned();
        seen.confirm(3);
        seen.confirm(2);
        seen.save().await;
        let again = SeenChanges::new(Uuid::now_v7());
        again.remember_in(&file).expect("read");
        let (before, after) = (guard(&seen.seen).clone(), guard(&again.seen).clone());
        assert_eq!((after.server, after.changes, after.database.as_str()), (before.server, 3, "d"));
        std::fs::write(&file, "{").expect("damaged");
        let anew = SeenChanges::new(Uuid::now_v7());
        anew.remember_in(&file).expect("replaced");
        assert_eq!(guard(&anew.seen).changes, 0);
    }
}
