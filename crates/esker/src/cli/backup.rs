//! `esker backup` and `esker restore`: backups of a state database in SQLite, without the server.

use std::path::{Path, PathBuf};

use clap::Args;
use esker_state::Database;
use serde_json::json;

use super::{print_json, print_line};
use crate::server::{data_dir, existing_data_dir, lock_data_dir};
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
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

impl DatabaseArgs {
    /// Reads the configuration, with the data directory of the command line.
    fn config(self) -> Result<Config> {
        let mut config = Config::load(self.config.as_deref())?;
        config.data_dir = self.data_dir.or(config.data_dir);
        Ok(config)
    }
}

/// Returns an error that names the `tool` to use instead, if the configuration names a database in PostgreSQL.
fn require_sqlite(config: &Config, tool: &str) -> Result<()> {
    match config.state.database(Path::new(""))? {
        Database::Sqlite(_) => Ok(()),
        Database::Postgres(_) | Database::PooledPostgres(_) => {
            let what = "the state is in PostgreSQL (state.url): use";
            let then = "the server notices a restored database by its epoch; see `esker recover --dry-run`";
            Err(Error::Usage(format!("{what} {tool}; {then}")))
        }
    }
}

impl BackupArgs {
    pub(super) async fn run(self) -> Result<()> {
        let json = self.place.json;
        let config = self.place.config()?;
        require_sqlite(&config, "pg_dump")?;
        let database = config.state.database(&existing_data_dir(config.data_dir.as_deref())?)?;
        database.back_up(&self.file).await?;
        let file = self.file.display();
        match json {
            true => print_json(&json!({"backup": file.to_string()})),
            false => {
                print_line(&format!("{file} is a backup of the state database."));
                Ok(())
            }
        }
    }
}

impl RestoreArgs {
    pub(super) async fn run(self) -> Result<()> {
        let json = self.place.json;
        let config = self.place.config()?;
        require_sqlite(&config, "pg_restore")?;
        if !self.file.exists() {
            let what = "does not exist; give the file that `esker backup` wrote";
            return Err(Error::Usage(format!("{} {what}", self.file.display())));
        }
        let dir = data_dir(config.data_dir.as_deref())?;
        let database = config.state.database(&dir)?;
        let _lock = lock_data_dir(&dir)?;
        let kept = database.restore(&self.file).await?.map(|kept| kept.display().to_string());
        if json {
            return print_json(&json!({"restored": self.file.display().to_string(), "previous": kept}));
        }
        if let Some(kept) = kept {
            print_line(&format!("The previous database is now {kept}."));
        }
        print_line("Restored. Run `esker recover` next: until then no file is deleted, and newer tables take no commits.");
        Ok(())
    }
}
