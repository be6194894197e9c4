//! Backups of the state database.

use std::path::PathBuf;

use clap::Args;
use esker_state::Database;

use super::out;
use crate::server::{data_dir, lock};
use crate::{Config, Error, Result};

/// Copies the state database into a file, as it is at one moment, while the server works on it.
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// The file to write; it must not exist.
    file: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// Puts a backup in the place of the state database, with the server stopped. The database that was there is kept beside it.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup.
    file: PathBuf,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Place {
    /// The server's data directory; wins over data_dir of the configuration.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The server's TOML file; every key can also be set as ESKER__SECTION__KEY.
    #[arg(long)]
    config: Option<PathBuf>,
}

impl Place {
    fn config(self) -> Result<Config> {
        let mut config = Config::load(self.config.as_deref())?;
        config.data_dir = self.data_dir.or(config.data_dir);
        Ok(config)
    }
}

/// PostgreSQL has tools of its own for it.
fn a_file(database: Database, tool: &str) -> Result<Database> {
    match database {
        Database::Sqlite(_) => Ok(database),
        Database::Postgres(_) => {
            let what = "the state is in PostgreSQL (state.url), which has tools of its own: use";
            let then = "a database that was restored is noticed by its epoch; see `esker recover --dry-run`";
            Err(Error::Usage(format!("{what} {tool}; {then}")))
        }
    }
}

impl BackupArgs {
    pub(super) async fn run(self) -> Result<()> {
        let config = self.place.config()?;
        let database = a_file(config.database(&data_dir(&config)?)?, "pg_dump")?;
        database.back_up(&self.file).await?;
        out(&format!("{} is a backup of the state database.", self.file.display()));
        Ok(())
    }
}

impl RestoreArgs {
    pub(super) async fn run(self) -> Result<()> {
        let config = self.place.config()?;
        let dir = data_dir(&config)?;
        let database = a_file(config.database(&dir)?, "pg_restore")?;
        let _lock = lock(&dir)?;
        if let Some(kept) = database.restore(&self.file).await? {
            out(&format!("The database that was there is {} now.", kept.display()));
        }
        out("Restored. Nothing is deleted, and tables that were committed to since take no commit, until `esker recover`.");
        Ok(())
    }
}
