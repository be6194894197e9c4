//! `esker backup` and `esker restore`: backups of the state database, without a server.
//!
//! What a backup is, how it is made and how it is put in place is in `esker_state`. This file finds the database, asks before a
//! database is replaced, and prints.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use esker_state::{BackupHeader, Database, RestoreOptions, check_backup};
use esker_types::format_count;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::jobs::format_time;
use super::{print_json, print_line};
use crate::server::{data_dir, existing_data_dir, lock_data_dir};
use crate::{Config, Error, Result};

/// What a backup has and what it has not, as it is printed after each.
const CONTENTS: &str = "It holds pointers, names, access rules, jobs and events, hashes of tokens, and keys. Keep it private.
It does not hold the files of tables, which are in the warehouses, nor what lies outside the database: the configuration, the
master key, and certificates with their keys.";

/// The arguments of `esker backup`, which copies the database as it is at one moment. Servers may run.
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// The file to write, which must not exist. With --check: the backup to check.
    file: PathBuf,
    /// Check that a backup is whole and that this release can restore it; makes none.
    #[arg(long, conflicts_with_all = ["data_dir", "config"])]
    check: bool,
    #[command(flatten)]
    place: DatabaseArgs,
}

/// The arguments of `esker restore`, which needs all servers stopped. A previous SQLite database stays in the same directory.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup to restore.
    file: PathBuf,
    /// Replace a database that is not empty. Asks before it does.
    #[arg(long)]
    replace: bool,
    /// Replace it without asking.
    #[arg(long, requires = "replace")]
    yes: bool,
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

impl BackupArgs {
    /// Makes a backup, or checks one.
    pub(super) async fn run(self) -> Result<()> {
        let (json, file) = (self.place.json, self.file.display().to_string());
        let bar = Bar::default();
        if self.check {
            let header = check_backup(&self.file, &|what, done, total| bar.show(what, done, total)).await?;
            bar.clear();
            if json {
                return print_json(&json!({"backup": file, "valid": true, "header": header}));
            }
            print_line(&format!("{file} is whole, and this release can restore it."));
            describe(header.as_ref());
            return Ok(());
        }
        let config = self.place.config()?;
        // A database in PostgreSQL needs no directory.
        let database = match config.state.database(Path::new(""))? {
            Database::Sqlite(_) => config.state.database(&existing_data_dir(config.data_dir.as_deref())?)?,
            postgres @ (Database::Postgres(_) | Database::PooledPostgres(_)) => postgres,
        };
        let header = database.back_up(&self.file, &|what, done, total| bar.show(what, done, total)).await?;
        bar.clear();
        if json {
            return print_json(&json!({"backup": file, "header": header}));
        }
        print_line(&format!("{file} is a backup of the state database."));
        describe(Some(&header));
        print_line(CONTENTS);
        Ok(())
    }
}

impl RestoreArgs {
    /// Restores a backup. Asks before it replaces a database that is not empty.
    pub(super) async fn run(self) -> Result<()> {
        let json = self.place.json;
        let config = self.place.config()?;
        if !self.file.exists() {
            let what = "does not exist; give the file that `esker backup` wrote";
            return Err(Error::Usage(format!("{} {what}", self.file.display())));
        }
        let dir = data_dir(config.data_dir.as_deref())?;
        let database = config.state.database(&dir)?;
        let _lock = lock_data_dir(&dir)?;
        let present = database.present().await?.describe();
        if let (Some(holds), true, false) = (present, self.replace, self.yes) {
            if json || !std::io::stdin().is_terminal() {
                let what = format!("the state database is not empty: {holds}; give --yes to replace it without being asked");
                return Err(Error::Usage(what));
            }
            confirm(&holds, &self.file, &database).await?;
        }
        let bar = Bar::default();
        let options = RestoreOptions { replace: self.replace, directory: dir, dead_after: config.state.dead_after() };
        let restored = database.restore(&self.file, &options, &|what, done, total| bar.show(what, done, total)).await?;
        bar.clear();
        let previous = restored.previous.map(|kept| kept.display().to_string());
        if json {
            let file = self.file.display().to_string();
            return print_json(&json!({"restored": file, "previous": previous, "header": restored.header}));
        }
        if let Some(kept) = previous {
            print_line(&format!("The previous database is now {kept}."));
        }
        print_line("Restored. Run `esker recover` next: until then no file is deleted, and newer tables take no commits.");
        Ok(())
    }
}

/// Prints when a backup was made of which database, and what it holds.
fn describe(header: Option<&BackupHeader>) {
    let Some(header) = header else {
        print_line("It has no header: it is of an earlier release, or a plain copy. So only SQLite's own check was made.");
        return;
    };
    let rows: u64 = header.tables.iter().map(|table| table.rows).sum();
    print_line(&format!(
        "It was made at {} by release {} of a database in {}, with schema {}: {} in {}, among them {} and {}, views included.",
        format_time(&header.made_ms.into()),
        header.release,
        if header.source == "postgres" { "PostgreSQL" } else { "SQLite" },
        header.schema,
        format_count(rows, "row"),
        format_count(header.tables.len() as u64, "table"),
        format_count(header.rows("warehouse"), "warehouse"),
        format_count(header.rows("tabular"), "Iceberg table"),
    ));
}

/// Shows what a restore would replace, and asks for a yes.
///
/// # Errors
///
/// Returns [`Usage`](Error::Usage) if the answer is another one, [`Io`](Error::Io) if there is none, and [`State`](Error::State) if
/// the backup can't be used.
async fn confirm(holds: &str, file: &Path, database: &Database) -> Result<()> {
    let bar = Bar::default();
    let header = check_backup(file, &|what, done, total| bar.show(what, done, total)).await?;
    bar.clear();
    print_line(&format!("The state database is not empty: {holds}."));
    print_line(&format!("{} would replace it.", file.display()));
    describe(header.as_ref());
    print_line(match database {
        Database::Sqlite(_) => "The present database stays next to the new one, as esker.db.before-….",
        Database::Postgres(_) | Database::PooledPostgres(_) => {
            "The present rows are lost: back them up first if you may want them back."
        }
    });
    let failed = |source| Error::Io { path: "the terminal".to_owned(), source };
    let mut out = std::io::stdout();
    write!(out, "Replace it? Type yes: ").and_then(|()| out.flush()).map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(Error::Usage("nothing was replaced".to_owned())),
    }
}

/// A progress bar that appears if its work takes longer than a second.
struct Bar {
    /// The time at which the work began.
    began: Instant,
    /// The bar of the terminal.
    bar: ProgressBar,
    /// True once the bar is shown.
    visible: AtomicBool,
}

impl Default for Bar {
    fn default() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{msg:10} {bar:30} {percent} %") {
            bar.set_style(style);
        }
        Self { began: Instant::now(), bar, visible: AtomicBool::new(false) }
    }
}

impl Bar {
    /// Shows that `done` of `total` rows or bytes are done.
    fn show(&self, what: &str, done: u64, total: u64) {
        if self.began.elapsed() < Duration::from_secs(1) {
            return;
        }
        if !self.visible.swap(true, Ordering::Relaxed) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_message(what.to_owned());
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    /// Removes the bar from the terminal.
    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
