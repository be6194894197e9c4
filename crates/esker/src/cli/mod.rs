//! The command line. All but `serve`, `config` and `token` talk to a server's management API.

mod client;
mod health;
mod jobs;
mod maintain;
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
    Serve(serve::Serve),
    /// Check the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Make a token for a principal, or replace the one it has.
    Token(token::Token),
    /// List tables, claim foreign ones, look at their quarantine.
    Table {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: table::TableCommand,
    },
    /// Compact tables, expire snapshots, list orphans.
    Maintain {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: maintain::MaintainCommand,
    },
    /// Show jobs, or one job.
    Jobs {
        #[command(flatten)]
        remote: Remote,
        /// The job's id; the newest jobs if not given.
        job: Option<String>,
    },
    /// Show the health of all tables, the worst first, or of one.
    Health {
        #[command(flatten)]
        remote: Remote,
        /// NAMESPACE.TABLE
        table: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Query with SQL: a prompt, one statement, or statements from standard input.
    Sql(sql::Sql),
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
}

/// Runs a command.
pub fn run(cli: Cli) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Error::Io { path: "threads".to_owned(), source })?;
    runtime.block_on(async {
        match cli.command {
            Command::Serve(serve) => serve.run().await,
            Command::Config { command: ConfigCommand::Check { config } } => check(config),
            Command::Token(token) => token.run().await,
            Command::Table { remote, command } => command.run(&Client::new(remote)).await,
            Command::Maintain { remote, command } => command.run(&Client::new(remote)).await,
            Command::Jobs { remote, job } => jobs::run(&Client::new(remote), job).await,
            Command::Health { remote, table, json } => health::run(&Client::new(remote), table, json).await,
            Command::Sql(sql) => sql.run().await,
        }
    })
}

fn check(file: Option<PathBuf>) -> Result<()> {
    let mut config = Config::load(file.as_deref())?;
    if config.auth.token.is_some() {
        config.auth.token = Some("(set)".to_owned());
    }
    let text = serde_json::to_string_pretty(&config).map_err(|e| Error::Config(e.to_string()))?;
    out(&text);
    Ok(())
}

/// Prints a line on standard output. A reader that went away (`esker … | head`) is no error.
fn out(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}
