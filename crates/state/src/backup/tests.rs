//! Backups of both databases, restored into both, and what is refused.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use uuid::Uuid;

use super::files::{sidecars, with_suffix};
use super::*;
use crate::conformance::{databases, enter, namespace, row, with_namespace};
use crate::{Outbox, State};

/// Hears of no progress.
fn quiet(_: &str, _: u64, _: u64) {}

/// Returns options that replace a database, or only fill an empty one.
fn options(dir: &Path, replace: bool) -> RestoreOptions {
    RestoreOptions { replace, directory: dir.to_owned(), dead_after: Duration::from_secs(60) }
}

#[tokio::test]
async fn a_backup_is_whole_and_known_as_one_and_what_it_replaces_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, backup) = (dir.path().join("esker.db"), dir.path().join("a backup.db"));
    let database = Database::Sqlite(path.clone());
    let text = |result: Result<BackupHeader>| result.expect_err("refused").to_string();
    assert!(text(database.back_up(&backup, &quiet).await).contains("there is no state database"));
    let state = State::open(database.clone()).await.expect("opened");
    let (warehouse, _) = state.warehouses().ensure("w", "file:///w", false).await.expect("made");
    state.warehouses().set_epoch(warehouse, 3, 3).await.expect("set");
    database.back_up(&backup, &quiet).await.expect("backed up, with the server at work");
    assert!(text(database.back_up(&backup, &quiet).await).contains("exists already"), "another is not written over");
    assert!(text(database.back_up(&dir.path().join("none/b.db"), &quiet).await).contains("its directory does not exist"));
    state.warehouses().set_epoch(warehouse, 4, 4).await.expect("set");
    assert_eq!(state.warehouses().epoch(warehouse).await.expect("read").backup_ms, None, "only the copy is marked as a backup");
    // As if the server had been killed: changes in the write-ahead log next to the file belong to the old database.
    let killed = dir.path().join("killed");
    std::fs::create_dir(&killed).expect("made");
    for (file, suffix) in sidecars(&path).into_iter().chain([(path.clone(), "")]) {
        std::fs::copy(file, with_suffix(&killed.join("esker.db"), suffix)).expect("copied");
    }
    state.close().await;
    let (path, database) = (killed.join("esker.db"), Database::Sqlite(killed.join("esker.db")));
    assert!(!sidecars(&path).is_empty(), "it has a write-ahead log");
    assert!(matches!(database.restore(&backup, &options(dir.path(), false), &quiet).await, Err(StateError::Occupied(_))));
    let restored = database.restore(&backup, &options(dir.path(), true), &quiet).await.expect("restored");
    let kept = restored.previous.expect("kept");
    assert!(sidecars(&path).is_empty() && sidecars(&kept).is_empty(), "each is one file");

    let state = State::open(database.clone()).await.expect("opened");
    let epoch = state.warehouses().epoch(warehouse).await.expect("read");
    assert_eq!(epoch.entered, 3);
    assert!(epoch.backup_ms.is_some());
    state.warehouses().forget_backup(warehouse).await.expect("forgotten");
    assert_eq!(state.warehouses().epoch(warehouse).await.expect("read").backup_ms, None);
    state.close().await;
    let before = State::open(Database::Sqlite(kept)).await.expect("opened");
    assert_eq!(before.warehouses().epoch(warehouse).await.expect("read").entered, 4);
    before.close().await;

    std::fs::write(&backup, "no database").expect("written");
    let refused = database.restore(&backup, &options(dir.path(), true), &quiet).await;
    assert!(matches!(refused, Err(StateError::UnusableBackup { .. })), "{refused:?}");
    let state = State::open(database).await.expect("as it was");
    assert_eq!(state.warehouses().epoch(warehouse).await.expect("read").entered, 3);
}

/// Whoever copies the files of a server that was killed copies the log too, with the last changes in it.
#[tokio::test]
async fn a_plain_copy_is_restored_with_what_is_in_the_log_beside_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let state = State::open(Database::Sqlite(at("esker.db"))).await.expect("opened");
    let (warehouse, _) = state.warehouses().ensure("w", "file:///w", false).await.expect("made");
    state.warehouses().set_epoch(warehouse, 4, 4).await.expect("set");
    state.database.back_up(&at("backup.db"), &quiet).await.expect("backed up");
    for suffix in ["", "-wal"] {
        std::fs::copy(with_suffix(&at("esker.db"), suffix), with_suffix(&at("copy.db"), suffix)).expect("copied");
    }
    // A log that is beside a backup is not the backup's.
    std::fs::copy(at("esker.db-wal"), at("backup.db-wal")).expect("copied");
    state.close().await;
    for from in ["copy.db", "backup.db"] {
        let database = Database::Sqlite(at(&format!("of {from}")));
        database.restore(&at(from), &options(dir.path(), false), &quiet).await.expect("restored");
        assert!(with_suffix(&at(from), "-wal").exists(), "{from} is as it was");
        let restored = State::open(database).await.expect("opened");
        assert_eq!(restored.warehouses().epoch(warehouse).await.expect("read").entered, 4, "{from}");
        restored.close().await;
    }
}

#[tokio::test]
async fn the_owner_alone_reads_the_database_and_its_backups() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, backup) = (dir.path().join("esker.db"), dir.path().join("backup.db"));
    let database = Database::Sqlite(path.clone());
    let state = State::open(database.clone()).await.expect("opened");
    state.warehouses().ensure("w", "file:///w", false).await.expect("made");
    database.back_up(&backup, &quiet).await.expect("backed up");
    let mode = |path: &Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    for file in [&path, &with_suffix(&path, "-wal"), &with_suffix(&path, "-shm"), &backup] {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    state.close().await;
    std::fs::set_permissions(&backup, Permissions::from_mode(0o644)).expect("set");
    let restored = database.restore(&backup, &options(dir.path(), true), &quiet).await.expect("restored");
    assert_eq!(mode(&path), 0o600, "whatever the mode of the backup");
    assert_eq!(mode(&restored.previous.expect("kept")), 0o600);
}

#[tokio::test]
async fn an_error_names_the_file_that_it_is_about() {
    let dir = tempfile::tempdir().expect("a directory");
    let [path, backup] = ["esker.db", "backup.db"].map(|name| dir.path().join(name));
    State::open(Database::Sqlite(path.clone())).await.expect("opened").close().await;
    Database::Sqlite(path.clone()).back_up(&backup, &quiet).await.expect("backed up");
    let away = Database::Sqlite(dir.path().join("none/esker.db"));
    let error = away.restore(&backup, &options(dir.path(), false), &quiet).await.expect_err("no such directory").to_string();
    assert!(error.contains("none/esker.db.partial: ") && error.contains("backup.db can't be copied"), "{error}");

    let full = fault_of_copy(&backup, crate::error::full_disk().await.into());
    assert!(matches!(full, StateError::Full), "a full disk is no damage of the backup: {full}");
}

/// Linux takes any bytes for a name.
#[cfg(unix)]
#[tokio::test]
async fn a_database_whose_path_is_no_text_is_refused_by_that_reason() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().expect("a directory");
    let odd = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff.db"));
    let refused = Database::Sqlite(odd).restore(&dir.path().join("backup.db"), &options(dir.path(), false), &quiet).await;
    assert!(matches!(refused, Err(StateError::Path(_))), "{refused:?}");
}

async fn change(path: &Path, sql: &'static str) {
    let mut connection = Database::Sqlite(path.to_owned()).connection().await.expect("opened");
    sqlx::raw_sql(sql).execute(&mut connection).await.expect("changed");
    connection.close().await.expect("closed");
}

#[tokio::test]
async fn a_file_that_can_be_no_backup_is_refused_by_its_name_and_replaces_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, backup) = (dir.path().join("esker.db"), dir.path().join("backup.db"));
    let database = Database::Sqlite(path.clone());
    let state = State::open(database.clone()).await.expect("opened");
    let (warehouse, _) = state.warehouses().ensure("w", "file:///w", false).await.expect("made");
    state.warehouses().set_epoch(warehouse, 3, 3).await.expect("set");
    database.back_up(&backup, &quiet).await.expect("backed up");
    state.close().await;
    let whole = std::fs::read(&backup).expect("read");
    let [cut, newer, other, foreign] = ["cut.db", "newer.db", "other.db", "foreign.db"].map(|name| dir.path().join(name));
    std::fs::write(&cut, &whole[..whole.len() / 2]).expect("written");
    std::fs::write(&newer, &whole).expect("written");
    change(
        &newer,
        "INSERT INTO _sqlx_migrations SELECT 99999, 'contract 99998 later', installed_on, 1, checksum, 0 FROM _sqlx_migrations LIMIT 1",
    )
    .await;
    std::fs::write(&other, &whole).expect("written");
    change(&other, "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 1").await;
    change(&foreign, "CREATE TABLE warehouse (id INTEGER); CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)").await;
    let files = || std::fs::read_dir(dir.path()).expect("listed").count();
    let before = files();
    for (file, why) in [(&cut, "damaged"), (&newer, "later version"), (&other, "not made by"), (&foreign, "not a state database")]
    {
        let error = database.restore(file, &options(dir.path(), true), &quiet).await.expect_err("refused").to_string();
        assert!(error.contains(file.to_str().expect("text")) && error.contains(why), "{error}");
        let checked = check_backup(file, &quiet).await.expect_err("refused").to_string();
        assert!(checked.contains(file.to_str().expect("text")) && checked.contains(why), "a check says the same: {checked}");
    }
    assert_eq!(files(), before, "nothing was put aside, nothing is left");
    let state = State::open(database).await.expect("as it was");
    assert_eq!(state.warehouses().epoch(warehouse).await.expect("read").entered, 3);
    state.close().await;
}

/// Fills a database as a server does, and returns the state that holds it open.
async fn filled(database: &Database) -> State {
    let state = State::open(database.clone()).await.expect("opened");
    let (warehouse, name) = with_namespace(&state).await;
    for table in ["a", "b", "it's \u{fc}"] {
        assert!(enter(&state, warehouse, &row(warehouse, &name, table)).await.expect("entered"));
    }
    // More rows than one statement writes, with nulls among them.
    for number in 0..450_i64 {
        let sql = "INSERT INTO metrics_report (table_id, principal, body, received_ms) VALUES ($1, 'p', $2, $3)";
        let insert = sqlx::query(sql).bind((number % 7).to_string()).bind("x".repeat(10)).bind(number);
        insert.execute(&state.writer).await.expect("inserted");
    }
    state
}

/// Makes an event with raw SQL, and returns its number.
async fn event(state: &State) -> i64 {
    let sql = "INSERT INTO event (uuid, warehouse, type, subject, principal, data, time_ms)
               VALUES ('u', 'w', 't', 's', 'p', '{}', 1) RETURNING id";
    sqlx::query_scalar(sql).fetch_one(&state.writer).await.expect("inserted")
}

/// Returns the tables of a header that a restore leaves as they were. It removes servers, and marks the database in `meta`.
fn lasting(header: &BackupHeader) -> Vec<BackupTable> {
    header.tables.iter().filter(|table| !["instance", "meta"].contains(&table.name.as_str())).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_either_database_is_the_same_database_in_either() {
    let dir = tempfile::tempdir().expect("a directory");
    for (number, source) in databases(&dir).into_iter().enumerate() {
        let state = filled(&source).await;
        event(&state).await;
        let last = event(&state).await;
        sqlx::query("DELETE FROM event").execute(&state.writer).await.expect("deleted");
        let file = dir.path().join(format!("{number}.backup"));
        let header = source.back_up(&file, &quiet).await.expect("backed up, with the server at work");
        assert_eq!((header.rows("tabular"), header.rows("metrics_report"), header.rows("event")), (3, 450, 0), "{header:?}");
        assert_eq!(header.rows("instance"), 1);
        assert!(header.database.is_some() && header.schema > 20 && header.made_ms <= now_ms(), "{header:?}");
        assert_eq!(header.source, if source.is_postgres() { "postgres" } else { "sqlite" });
        assert_eq!(check_backup(&file, &quiet).await.expect("whole").as_ref(), Some(&header));
        state.close().await;

        let postgres = std::env::var("ESKER_TEST_POSTGRES").ok();
        let postgres = postgres.map(|server| Database::Postgres(format!("{server}/restored_{}", Uuid::now_v7().simple())));
        for target in [Database::Sqlite(dir.path().join(format!("restored-{number}.db")))].into_iter().chain(postgres) {
            assert_eq!(target.present().await.expect("asked"), PresentDatabase::Empty);
            let restored = target.restore(&file, &options(dir.path(), false), &quiet).await.expect("restored");
            assert_eq!((restored.header.as_ref(), restored.previous), (Some(&header), None));
            let occupied = PresentDatabase::Occupied { warehouses: 1, namespaces: 1, tables: 3 };
            assert_eq!(target.present().await.expect("asked"), occupied);
            let again = dir.path().join(format!("{number}-{}.again", target.is_postgres()));
            let copy = target.back_up(&again, &quiet).await.expect("backed up");
            assert_eq!(lasting(&copy), lasting(&header), "every row is as it was");
            assert_eq!((copy.database.as_ref(), copy.rows("meta")), (header.database.as_ref(), header.rows("meta")));
            assert_eq!(copy.rows("instance"), 0, "the servers of before are dead");

            let state = State::open(target).await.expect("opened");
            let (warehouse, _) = state.warehouses().ensure("w", "file:///w", false).await.expect("there");
            assert_eq!(state.warehouses().epoch(warehouse).await.expect("read").backup_ms, Some(header.made_ms));
            assert!(event(&state).await > last, "no number of an event is given twice");
            let name = namespace(&["later"]);
            let later = crate::NamespaceRow { name, properties: std::collections::BTreeMap::new(), protected: false };
            let created = state.namespaces().create(warehouse, &later, &Outbox::default(), |_| Outbox::default()).await;
            created.expect("a new row gets a number of its own");
            state.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_at_work_or_not_empty_is_replaced_only_as_a_whole_and_on_demand() {
    let dir = tempfile::tempdir().expect("a directory");
    for (number, database) in databases(&dir).into_iter().enumerate() {
        let state = filled(&database).await;
        let file = dir.path().join(format!("{number}.backup"));
        let header = database.back_up(&file, &quiet).await.expect("backed up");
        let last = event(&state).await;
        if database.is_postgres() {
            let refused = database.restore(&file, &options(dir.path(), true), &quiet).await;
            assert!(matches!(refused, Err(StateError::ServersRunning(_))), "{refused:?}");
            assert!(event(&state).await > last, "a refused restore gives back no numbers");
        }
        state.close().await;
        let refused = database.restore(&file, &options(dir.path(), false), &quiet).await.expect_err("refused").to_string();
        assert!(refused.contains("1 warehouse, 1 namespace and 3 tables") && refused.contains("--replace"), "{refused}");
        let restored = database.restore(&file, &options(dir.path(), true), &quiet).await.expect("restored");
        assert_eq!(restored.previous.is_some(), !database.is_postgres());
        let copy = database.back_up(&dir.path().join(format!("{number}.again")), &quiet).await.expect("backed up");
        assert_eq!(lasting(&copy), lasting(&header), "the event is gone");
    }
    assert!(!dir.path().join("restore.partial").exists());
}

#[tokio::test]
async fn a_backup_whose_rows_are_not_those_of_its_header_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let database = Database::Sqlite(dir.path().join("esker.db"));
    filled(&database).await.close().await;
    for (number, sql) in [
        "UPDATE tabular SET metadata_location = 'file:///else' WHERE name = 'a'",
        "DELETE FROM metrics_report WHERE id = 7",
        "DROP TABLE access_policy",
        "UPDATE backup_header SET header = substr(header, 2)",
    ]
    .into_iter()
    .enumerate()
    {
        let file = dir.path().join(format!("{number}.backup"));
        database.back_up(&file, &quiet).await.expect("backed up");
        change(&file, sql).await;
        let error = check_backup(&file, &quiet).await.expect_err(sql).to_string();
        assert!(error.contains("damaged"), "{error}");
        let target = Database::Sqlite(dir.path().join("new.db"));
        let refused = target.restore(&file, &options(dir.path(), false), &quiet).await.expect_err(sql).to_string();
        assert_eq!(refused, error);
        assert_eq!(target.present().await.expect("asked"), PresentDatabase::Empty);
    }
    // A later form of the header, and a copy without one, as earlier releases made it.
    let file = dir.path().join("later.backup");
    database.back_up(&file, &quiet).await.expect("backed up");
    change(&file, "UPDATE backup_header SET format = 2").await;
    assert!(check_backup(&file, &quiet).await.expect_err("refused").to_string().contains("later release"));
    change(&file, "DROP TABLE backup_header").await;
    assert_eq!(check_backup(&file, &quiet).await.expect("an earlier release's"), None);
}

#[tokio::test]
async fn a_damaged_database_is_replaced_and_kept_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, file) = (dir.path().join("esker.db"), dir.path().join("backup.db"));
    let database = Database::Sqlite(path.clone());
    filled(&database).await.close().await;
    database.back_up(&file, &quiet).await.expect("backed up");
    std::fs::write(&path, "this is no database, and long enough to be taken for the header of one".repeat(9)).expect("written");
    std::fs::write(with_suffix(&path, "-wal"), "its log").expect("written");
    assert!(matches!(database.present().await.expect("asked"), PresentDatabase::Unreadable(_)));
    let kept = database.restore(&file, &options(dir.path(), true), &quiet).await.expect("restored").previous.expect("kept");
    assert!(std::fs::read_to_string(kept).expect("read").starts_with("this is no database"));
    let state = State::open(database).await.expect("opened");
    assert_eq!(state.warehouses().names().await.expect("read"), ["w"]);
    state.close().await;
}

/// Of an older schema, a backup is migrated; a server then has nothing to migrate.
#[tokio::test]
async fn a_backup_of_an_older_schema_is_migrated() {
    let dir = tempfile::tempdir().expect("a directory");
    let old = Database::Sqlite(dir.path().join("old.db"));
    let mut connection = old.connection().await.expect("opened");
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.expect("begun");
    old.migrate_in(&mut tx, Some(&(1..=17).collect())).await.expect("migrated");
    sqlx::query("INSERT INTO warehouse (name, location) VALUES ('w', 'file:///w')").execute(&mut *tx).await.expect("made");
    tx.commit().await.expect("committed");
    connection.close().await.expect("closed");
    let file = dir.path().join("backup.db");
    let header = old.back_up(&file, &quiet).await.expect("backed up");
    assert_eq!(header.schema, 17);
    let target = Database::Sqlite(dir.path().join("new.db"));
    target.restore(&file, &options(dir.path(), false), &quiet).await.expect("restored");
    let migrated = target.back_up(&dir.path().join("again.db"), &quiet).await.expect("backed up");
    assert!(migrated.schema > 17 && migrated.rows("warehouse") == 1 && migrated.rows("access_state") == 1, "{migrated:?}");
}
