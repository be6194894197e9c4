//! The migrations of the schema, and the migrations of later releases that this release can run on.
//!
//! From migration 0017 on, a migration only adds: expand first, contract a release later. So a server starts on a database that a
//! later release has migrated, unless one of the unknown migrations removes what this release needs.
//!
//! A migration that removes something has a name such as `0019_contract_0017_subject.sql`: after it, only releases that know
//! migration 17 can run. The database keeps the names of its migrations. So a release learns from the name of an unknown migration
//! whether it can run after that migration. Start reading at [`refusal_of_migration`].

use std::borrow::Cow;
use std::sync::LazyLock;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, Row, SqlStr};

use crate::Result;

/// The last migration from before the rule that a migration only adds. A release that does not know it can't run after it.
const LAST_BREAKING: i64 = 16;

/// The migrations of SQLite.
pub(crate) static SQLITE: LazyLock<Migrator> = LazyLock::new(|| migrator(SQLITE_FILES));
/// The migrations of PostgreSQL.
pub(crate) static POSTGRES: LazyLock<Migrator> = LazyLock::new(|| migrator(POSTGRES_FILES));

include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// Returns a migrator from the version, name and text of each migration.
fn migrator(files: &'static [(i64, &'static str, &'static str)]) -> Migrator {
    let migration = |&(version, name, sql): &'static (i64, &'static str, &'static str)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, SqlStr::from_static(sql), false)
    };
    Migrator::with_migrations(files.iter().map(migration).collect())
}

/// Returns the reason for which a release with the migrations `known` can't run on this database, or `None` if it can.
///
/// The database must have the table of migrations.
///
/// # Errors
///
/// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
pub(crate) async fn refusal_of_database(connection: &mut AnyConnection, known: &Migrator) -> Result<Option<String>> {
    let applied = sqlx::query("SELECT version, description FROM _sqlx_migrations ORDER BY version").fetch_all(connection).await?;
    for row in applied {
        if let Some(why) = refusal_of_migration(known, row.try_get(0)?, &row.try_get::<String, _>(1)?) {
            return Ok(Some(why));
        }
    }
    Ok(None)
}

/// Returns the reason for which a release with the migrations `known` can't run after the migration `version`, or `None` if it can.
///
/// `name` is the name of the migration's file without number and ending, with blanks for underscores, as the database keeps it.
pub(crate) fn refusal_of_migration(known: &Migrator, version: i64, name: &str) -> Option<String> {
    if known.version_exists(version) {
        return None;
    }
    let newest = known.iter().map(|step| step.version).max().unwrap_or(0);
    if version <= newest {
        return Some(format!("migration {version} ({name}) is of no release of Esker"));
    }
    let needed = match migration_needed_by(name) {
        Some(needed) => needed,
        None if version <= LAST_BREAKING => version,
        None => return None,
    };
    (needed > newest).then(|| match needed {
        i64::MAX => format!("a later release made migration {version} ({name}), whose name does not say who can run after it"),
        _ => format!(
            "a later release made migration {version} ({name}), after which only releases with migration {needed} can run; \
             this one has {newest}"
        ),
    })
}

/// Returns the number of the migration that a release must know to run after the migration `name`: 17 for `contract 0017 subject`.
///
/// Returns `None` if the name does not begin with `contract`, so that the migration removes nothing. A name without a number gives
/// a number that no release knows.
fn migration_needed_by(name: &str) -> Option<i64> {
    let mut words = name.split(' ');
    (words.next() == Some("contract")).then(|| words.next().and_then(|number| number.parse().ok()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Database, RestoreOptions, State, StateError};

    /// Returns the migrations of an earlier release, up to `version`.
    fn up_to(version: i64) -> Migrator {
        let known: Vec<Migration> = SQLITE.iter().filter(|step| step.version <= version).cloned().collect();
        Migrator { migrations: Cow::Owned(known), ..Migrator::DEFAULT }
    }

    /// Returns the statements of a file in capitals, without comments, with single blanks.
    fn statements(text: &str) -> Vec<String> {
        let code: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
        let statements = code.join(" ").to_uppercase();
        let words = |statement: &str| statement.split_whitespace().collect::<Vec<_>>().join(" ");
        statements.split(';').map(words).filter(|statement| !statement.is_empty()).collect()
    }

    /// Returns the first statement of a migration after which the previous release can't run. `None` if the migration only adds.
    fn breaking_statement(text: &str) -> Option<String> {
        let created_tables: Vec<String> = statements(text)
            .iter()
            .filter_map(|statement| {
                statement.strip_prefix("CREATE TABLE ").and_then(|rest| rest.split([' ', '(']).next()).map(str::to_owned)
            })
            .collect();
        statements(text).into_iter().find(|statement| {
            let has = |words: &str| format!(" {statement} ").contains(words);
            // A table that the same migration creates has no rows yet, and no statement of the previous release writes to it.
            let on_created_table =
                created_tables.iter().any(|table| has(&format!(" ON {table} ")) || has(&format!(" ON {table}(")));
            let added = has(" ADD ") && has(" NOT NULL") && !has(" DEFAULT ");
            let tightened = has(" SET NOT NULL ") || has(" ADD CONSTRAINT ") || has(" ADD CHECK ") || has(" ADD UNIQUE ");
            let retyped = has(" ALTER TABLE ") && has(" TYPE ");
            let unique = has(" CREATE UNIQUE INDEX ") && !on_created_table;
            has(" DROP ") || has(" RENAME ") || has(" TRUNCATE ") || added || tightened || retyped || unique
        })
    }

    /// Checks that a migration only adds, or that its header and its name tell the migration that it contracts.
    ///
    /// Returns the fault, or `None`.
    fn fault_of_migration(version: i64, name: &str, text: &str) -> Option<String> {
        let header = text.lines().next().unwrap_or_default().strip_prefix("-- contracts ");
        let needs = header.and_then(|rest| rest.split_once(", released in ")).and_then(|(number, release)| {
            let release = release.split_whitespace().next()?.trim_end_matches('.');
            release.split('.').all(|part| part.parse::<u32>().is_ok()).then_some(())?;
            number.parse::<i64>().ok()
        });
        match (breaking_statement(text), needs, migration_needed_by(name)) {
            (_, Some(needed), Some(named)) if needed == named && needed < version => None,
            (_, Some(needed), _) => {
                Some(format!("the header contracts {needed}; call the file {version:04}_contract_{needed:04}_…"))
            }
            (_, None, Some(_)) => Some("the first line must be `-- contracts NNNN, released in VERSION`".to_owned()),
            (breaking, None, None) => breaking,
        }
    }

    #[test]
    fn migrations_after_0016_only_add_unless_their_header_names_the_release_that_no_longer_needs_it() {
        for (database, migrator) in [("sqlite", &SQLITE), ("postgres", &POSTGRES)] {
            for step in migrator.iter().filter(|step| step.version > LAST_BREAKING) {
                assert_eq!(
                    fault_of_migration(step.version, &step.description, step.sql.as_str()),
                    None,
                    "{database} {}",
                    step.version
                );
            }
        }
        for text in [
            "DROP TABLE a;",
            "ALTER TABLE a\n  RENAME COLUMN b TO c;",
            "alter table a alter column b type bigint;",
            "ALTER TABLE a ALTER COLUMN b SET NOT NULL",
            "ALTER TABLE a ADD COLUMN b INTEGER NOT NULL;",
            "CREATE TABLE c (d TEXT); CREATE UNIQUE INDEX i ON a (b)",
        ] {
            assert!(fault_of_migration(17, "subject", text).is_some(), "{text}");
            let contract = format!("-- contracts 0017, released in 0.2\n{text}");
            assert_eq!(fault_of_migration(18, "contract 0017 subject", &contract), None, "{text}");
            assert!(fault_of_migration(18, "subject", &contract).is_some(), "a release must see from the name that {text}");
        }
        for text in [
            "-- DROP nothing; a comment\nALTER TABLE a ADD COLUMN b INTEGER NOT NULL DEFAULT 0; UPDATE a SET b = 1;",
            "CREATE TABLE a (b TEXT NOT NULL, type TEXT) STRICT; CREATE UNIQUE INDEX i ON a (b); INSERT INTO a SELECT x FROM y;",
            "ALTER TABLE a ADD COLUMN b BIGINT; CREATE INDEX j ON c (d)",
        ] {
            assert_eq!(fault_of_migration(17, "subject", text), None, "{text}");
        }
        assert!(fault_of_migration(18, "contract 0017 subject", "DROP TABLE a").is_some(), "the header is missing");
    }

    #[test]
    fn a_release_runs_after_unknown_migrations_that_add_or_that_remove_what_it_no_longer_reads() {
        let known = up_to(16);
        assert_eq!(refusal_of_migration(&known, 16, "vocabulary"), None);
        assert_eq!(refusal_of_migration(&known, 17, "more columns"), None);
        assert_eq!(refusal_of_migration(&known, 18, "contract 0016 subject"), None);
        let later = refusal_of_migration(&known, 18, "contract 0017 subject").expect("refused");
        assert!(
            later.contains("18 (contract 0017 subject)") && later.contains("migration 17") && later.contains("has 16"),
            "{later}"
        );
        let unknown = refusal_of_migration(&known, 18, "contract").expect("refused");
        assert!(unknown.contains("18 (contract)") && !unknown.contains("9223372036854775807"), "{unknown}");
        let renamed = refusal_of_migration(&up_to(15), 16, "vocabulary").expect("refused");
        assert!(renamed.contains("only releases with migration 16"), "{renamed}");
        let gap = Migrator {
            migrations: Cow::Owned(known.iter().filter(|step| step.version != 9).cloned().collect()),
            ..Migrator::DEFAULT
        };
        assert!(refusal_of_migration(&gap, 9, "other").expect("refused").contains("no release"));
    }

    /// Makes a database that a later release has migrated with the SQL `migration`.
    async fn migrated(path: &std::path::Path, migration: &'static str) -> Database {
        let database = Database::Sqlite(path.to_owned());
        State::open(database.clone()).await.expect("opened").close().await;
        let mut connection = database.connection().await.expect("opened");
        sqlx::raw_sql(migration).execute(&mut connection).await.expect("changed");
        sqlx::Connection::close(connection).await.expect("closed");
        database
    }

    #[tokio::test]
    async fn a_server_starts_on_a_database_of_a_later_release_unless_it_lacks_something() {
        let dir = tempfile::tempdir().expect("a directory");
        let expanded = "ALTER TABLE job ADD COLUMN later TEXT;
            INSERT INTO _sqlx_migrations SELECT 9000, 'later column', installed_on, 1, checksum, 0 FROM _sqlx_migrations LIMIT 1";
        let database = migrated(&dir.path().join("expanded.db"), expanded).await;
        let state = State::open(database.clone()).await.expect("opened");
        state.warehouses().ensure("w", "file:///w", false).await.expect("made");
        let backup = dir.path().join("backup.db");
        database.back_up(&backup, &|_, _, _| {}).await.expect("backed up");
        state.close().await;
        let options = RestoreOptions { replace: true, directory: dir.path().to_owned(), dead_after: Duration::ZERO };
        assert!(database.restore(&backup, &options, &|_, _, _| {}).await.expect("restored").previous.is_some());
        State::open(database).await.expect("opened").close().await;

        let contracted = "INSERT INTO _sqlx_migrations
            SELECT 9001, 'contract 9000 later', installed_on, 1, checksum, 0 FROM _sqlx_migrations LIMIT 1";
        let database = migrated(&dir.path().join("contracted.db"), contracted).await;
        let error = State::open(database.clone()).await.expect_err("refused");
        assert!(matches!(error, StateError::LaterSchema(_)) && error.to_string().contains("migration 9001"), "{error}");
        let again = State::open(database).await.expect_err("refused again: nothing was changed").to_string();
        assert!(again.contains("9001"), "{again}");
    }

    #[tokio::test]
    async fn a_release_from_before_0016_would_be_refused_on_its_database() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = migrated(&dir.path().join("esker.db"), "SELECT 1").await;
        let mut connection = database.connection().await.expect("opened");
        let why = refusal_of_database(&mut connection, &up_to(15)).await.expect("read").expect("refused");
        assert!(why.contains("migration 16 (vocabulary)"), "{why}");
        assert_eq!(refusal_of_database(&mut connection, &SQLITE).await.expect("read"), None);
    }
}
