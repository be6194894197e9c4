//! `esker backup` and `esker restore`: backups of a state database in SQLite, without the server.

use std::path::PathBuf;

use clap::Args;
use esker_state::Database;

use super::print_line;
use crate::server::{data_dir, lock_data_dir};
use crate::{Config, Error, Result};

/// The arguments of `esker backup`, which copies the database as it is at one moment. The server may run.
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// The file to write; it must not exist.
    file: PathBuf,
    #[command(flatten)]
    place: DatabaseArgs,
}

/// The arguments of `esker restore`, which needs the server stopped. The previous database stays in the same directory.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup to restore.
    file: PathBuf,
    #[command(flatten)]
    place: DatabaseArgs,
}

/// The arguments that lead to the state database.
#[derive(Debug, Args)]
struct DatabaseArgs {
    /// The server's data directory. Wins over data_dir of the configuration.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The server's TOML file. Every key can also be set as ESKER__SECTION__KEY.
    #[arg(long)]
    config: Option<PathBuf>,
}

impl DatabaseArgs {
    /// Reads the configuration, with the data directory of the command line.
    fn config(self) -> Result<Config> {
        let mut config = Config::load(self.config.as_deref())?;
        config.data_dir = self.data_dir.or(config.data_dir);
        Ok(config)
    }
}

/// Returns the database if it is a file. For PostgreSQL, returns an error that names the `tool` to use instead.
fn require_sqlite(database: Database, tool: &str) -> Result<Database> {
    match database {
        Database::Sqlite(_) => Ok(database),
        Database::Postgres(_) => {
            let what = "the state is in PostgreSQL (state.url): use";
            let then = "the server notices a restored database by its epoch; see `esker recover --dry-run`";
            Err(Error::Usage(format!("{what} {tool}; {then}")))
        }
    }
}

impl BackupArgs {
    pub(super) async fn run(self) -> Result<()> {
        let config = self.place.config()?;
        let database = require_sqlite(config.state.database(&data_dir(config.data_dir.as_deref())?)?, "pg_dump")?;
        database.back_up(&self.file).await?;
        print_line(&format!("{} is a backup of the state database.", self.file.display()));
        Ok(())
    }
}

impl RestoreArgs {
    pub(super) async fn run(self) -> Result<()> {
        let config = self.place.config()?;
        let dir = data_dir(config.data_dir.as_deref())?;
        let database = require_sqlite(config.state.database(&dir)?, "pg_restore")?;
        let _lock = lock_data_dir(&dir)?;
        if let Some(kept) = database.restore(&self.file).await? {
            print_line(&format!("The previous database is now {}.", kept.display()));
        }
        print_line("Restored. Run `esker recover` next: until then no file is deleted, and newer tables take no commits.");
        Ok(())
    }
}
