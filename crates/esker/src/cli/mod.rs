//! The command line. All but `serve`, `config`, `recover`, `backup`, `restore` and `token` talk to a server's management API.

mod backup;
mod client;
mod events;
mod explain;
mod health;
mod jobs;
mod maintain;
mod policy;
mod recover;
mod serve;
mod sql;
mod table;
mod token;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{Config, Error, Result};

use client::Client;

/// The service under a lakehouse's Iceberg tables: REST catalog, maintenance, Flight SQL and table health in one binary.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve(serve::ServeArgs),
    /// Check the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Compare the state database with the warehouses after it was lost or restored, and put it right.
    Recover(recover::RecoverArgs),
    /// Copy the state database into a file, while the server works on it.
    Backup(backup::BackupArgs),
    /// Put a backup in the place of the state database.
    Restore(backup::RestoreArgs),
    /// Make a token for a principal, or replace the one it has.
    Token(token::TokenArgs),
    /// List the server's warehouses.
    Warehouses {
        #[command(flatten)]
        remote: Remote,
    },
    /// List tables, bring dropped ones back, protect and claim them; branches, tags, rollback, publish.
    Table {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: table::TableCommand,
    },
    /// Compact tables, expire snapshots, remove orphans.
    Maintain {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: maintain::MaintainCommand,
    },
    /// Look for what is wrong with a table's files: gone, damaged, or written wrong by an earlier version.
    Check {
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        check: maintain::CheckCommand,
    },
    /// Show jobs, or one job.
    Jobs {
        #[command(flatten)]
        remote: Remote,
        /// The job's id; the newest jobs if not given.
        job: Option<String>,
        /// Ask the job to end.
        #[arg(long, requires = "job", conflicts_with = "log")]
        cancel: bool,
        /// Show what the job said.
        #[arg(long, requires = "job")]
        log: bool,
    },
    /// Take a job back: a compaction, an expiry, or a removal of orphans.
    Undo {
        #[command(flatten)]
        remote: Remote,
        /// The job's id.
        job: String,
    },
    /// Say why a file is there, or is not.
    Explain {
        #[command(flatten)]
        remote: Remote,
        /// The file's URI.
        file: String,
    },
    /// Show the health of all tables, the worst first, or of one.
    Health {
        #[command(flatten)]
        remote: Remote,
        /// NAMESPACE.TABLE
        table: Option<String>,
    },
    /// Say what is wanted of tables, and who says so.
    Policy {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: policy::PolicyCommand,
    },
    /// Print what happened, from a cursor on.
    Events {
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        events: events::EventsArgs,
    },
    /// Query with SQL: a prompt, one statement, or statements from standard input.
    Sql(sql::SqlArgs),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Read the configuration as `serve` would, and print it whole.
    Check {
        /// The TOML file.
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

/// Where the server is and who asks.
#[derive(Debug, Clone, Args)]
struct Remote {
    /// The server's REST URL.
    #[arg(long, env = "ESKER_URL", default_value = "http://127.0.0.1:8181", global = true)]
    url: String,
    /// The token to show.
    #[arg(long, env = "ESKER_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// The warehouse that the command is about. Default: the only one, else `default`; commands that list take all.
    #[arg(long, env = "ESKER_WAREHOUSE", global = true)]
    warehouse: Option<String>,
    /// Print JSON, as the management API answers it.
    #[arg(long, global = true)]
    json: bool,
}

/// What a thread may use for the stack: statements are planned by recursion. Nothing of it is taken before it is used.
const STACK_BYTES: usize = 128 << 20;

/// Runs a command.
pub fn run(cli: Cli) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_stack_size(STACK_BYTES).enable_all().build();
    let runtime = runtime.map_err(|source| Error::Io { path: "threads".to_owned(), source })?;
    runtime.block_on(async {
        match cli.command {
            Command::Serve(serve) => serve.run().await,
            Command::Config { command: ConfigCommand::Check { config } } => check(config),
            Command::Recover(recover) => recover.run().await,
            Command::Backup(backup) => backup.run().await,
            Command::Restore(restore) => restore.run().await,
            Command::Token(token) => token.run().await,
            Command::Warehouses { remote } => warehouses(&Client::new(remote)).await,
            Command::Events { remote, events } => events.run(&Client::new(remote)).await,
            Command::Table { remote, command } => command.run(&Client::new(remote)).await,
            Command::Maintain { remote, command } => command.run(&Client::new(remote)).await,
            Command::Check { remote, check } => check.run(&Client::new(remote)).await,
            Command::Jobs { remote, job, cancel, log } => jobs::run(&Client::new(remote), job, cancel, log).await,
            Command::Policy { remote, command } => command.run(&Client::new(remote)).await,
            Command::Undo { remote, job } => jobs::undo(&Client::new(remote), &job).await,
            Command::Explain { remote, file } => explain::run(&Client::new(remote), &file).await,
            Command::Health { remote, table } => health::run(&Client::new(remote), table).await,
            Command::Sql(sql) => sql.run().await,
        }
    })
}

fn check(file: Option<PathBuf>) -> Result<()> {
    let config = Config::load(file.as_deref())?.without_secrets();
    let text = serde_json::to_string_pretty(&config).map_err(|e| Error::Config(e.to_string()))?;
    out(&text);
    Ok(())
}

async fn warehouses(client: &Client) -> Result<()> {
    let all: Vec<serde_json::Value> = client.get("/api/v1/warehouses").await?;
    if client.prints_json() {
        return out_json(&all);
    }
    out(&format!("{:<24} location", "warehouse"));
    for warehouse in &all {
        let text = |key: &str| warehouse[key].as_str().unwrap_or_default().to_owned();
        out(&format!("{:<24} {}", text("name"), text("location")));
    }
    Ok(())
}

/// Prints JSON on standard output, indented.
fn out_json(value: &impl serde::Serialize) -> Result<()> {
    out(&serde_json::to_string_pretty(value).map_err(|e| Error::Remote(e.to_string()))?);
    Ok(())
}

/// Prints a line on standard output. A reader that went away (`esker … | head`) is no error.
fn out(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn every_command_and_argument_fits_with_the_others() {
        Cli::command().debug_assert();
    }
}
