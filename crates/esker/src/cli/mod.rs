//! The command line: [`Cli`] is what clap parses, [`run`] carries it out.
//!
//! Most commands are clients of a running server's management API, through `client::Client`; `sql` uses Flight SQL. The commands
//! `serve`, `config`, `recover`, `backup`, `restore`, `token`, `keys`, `access bootstrap`, `access break-glass` and
//! `access remove-policy` need no server: they read the configuration and open the database themselves. Comments of arguments are
//! the help texts that users see. Start reading at [`run`].

mod access;
mod backup;
mod client;
mod events;
mod explain;
mod health;
mod jobs;
mod keys;
mod maintain;
mod output;
mod policy;
mod ready;
mod recover;
mod serve;
mod sql;
mod table;
mod token;
mod trust;

use std::path::PathBuf;

use clap::{Arg, ArgAction, Args, Parser, Subcommand};

use crate::server::STACK_BYTES;
use crate::{Config, Error, Result};

use client::Client;
use output::{print_json, print_line};
use trust::TlsArgs;

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
    /// Rebuild the state database from the warehouses after it was lost or restored.
    ///
    /// Stop the server first. Without options, the command restores what is certain: catalog entries that the database has lost,
    /// and pointers to newer metadata files. It lists what is uncertain.
    Recover(recover::RecoverArgs),
    /// Copy the state database into a file, or check such a file; servers may run.
    ///
    /// The file is complete or not there. It is the same for SQLite and PostgreSQL, and can be restored into either. It has no
    /// files of tables and nothing of the configuration, such as a master key.
    Backup(backup::BackupArgs),
    /// Replace the state database with a backup; stop all servers first.
    ///
    /// Fills an empty database. With --replace, it replaces one that is not empty, after a question. Run `esker recover` next.
    Restore(backup::RestoreArgs),
    /// Make, rotate, list and revoke tokens. Without a command: make a token for a principal.
    ///
    /// The commands work on the database itself and need no server. The tokens that a principal has stay valid when another is
    /// made.
    Token(token::TokenArgs),
    /// List, rotate and encrypt the keys that authenticate what clients carry: tickets of Flight SQL and tasks of scan plans.
    ///
    /// The commands work on the database itself and need no server.
    Keys(keys::KeysArgs),
    /// Check that a server can serve requests, for health checks of containers. Needs no token.
    Ready {
        #[command(flatten)]
        remote: Remote,
    },
    /// Manage access control: its mode, roles, members, grants, row filters, column masks and access policies.
    ///
    /// `bootstrap`, `break-glass` and `remove-policy` work on the database itself and need no server, nor does `policy check`.
    Access {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: access::AccessCommand,
    },
    /// List the server's warehouses.
    Warehouses {
        #[command(flatten)]
        remote: Remote,
    },
    /// List, protect, claim and undrop tables; manage branches and tags.
    Table {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: table::TableCommand,
    },
    /// Run a maintenance job on a table: compact, expire, orphans and others.
    Maintain {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: maintain::MaintainCommand,
    },
    /// Find files of a table that are missing, damaged, or were written wrong by an earlier version.
    Check {
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        check: maintain::CheckCommand,
    },
    /// List the newest jobs, or show one.
    Jobs {
        #[command(flatten)]
        remote: Remote,
        /// The job's id. Default: list the newest jobs.
        job: Option<String>,
        /// Cancel the job; it stops at the next safe point.
        #[arg(long, requires = "job", conflicts_with = "log")]
        cancel: bool,
        /// Show the job's log.
        #[arg(long, requires = "job")]
        log: bool,
    },
    /// Undo a job, while the files that it replaced are in quarantine.
    Undo {
        #[command(flatten)]
        remote: Remote,
        /// The job's id.
        job: String,
    },
    /// Explain why a file of a warehouse exists, or why it does not.
    Explain {
        #[command(flatten)]
        remote: Remote,
        /// The file's URI.
        file: String,
    },
    /// Show the health of all tables, the worst first, or of one table.
    Health {
        #[command(flatten)]
        remote: Remote,
        /// The table, as NAMESPACE.TABLE. Default: all tables.
        table: Option<String>,
    },
    /// Show the policies of tables, and where each setting comes from.
    Policy {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: policy::PolicyCommand,
    },
    /// Print events, one JSON object a line.
    Events {
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        events: events::EventsArgs,
    },
    /// Run SQL: at a prompt, from the command line, or from standard input.
    Sql(sql::SqlArgs),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Read the configuration as `serve` does, check it, and print it as JSON with its defaults. Secrets are hidden.
    #[command(arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON, as without this flag.")))]
    Check {
        /// The TOML file.
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

/// The arguments of every command that talks to a server.
#[derive(Debug, Clone, Args)]
struct Remote {
    /// The server's REST URL.
    #[arg(long, env = "ESKER_URL", default_value = "http://127.0.0.1:8181", global = true)]
    url: String,
    /// The token of the caller.
    #[arg(long, env = "ESKER_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// The warehouse. Default: the server's only one, else `default`. Lists show all warehouses by default.
    #[arg(long, env = "ESKER_WAREHOUSE", global = true)]
    warehouse: Option<String>,
    /// Print JSON: mostly that of the management API.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    tls: TlsArgs,
}

/// Runs a command, and returns when it has ended. `serve` ends with a signal, or when the server is fenced.
///
/// Must not be called on a thread of a Tokio runtime.
///
/// # Errors
///
/// Returns the [`Error`] of the command. Returns [`Io`](Error::Io) if no threads can be started.
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
            Command::Keys(keys) => keys.run().await,
            Command::Warehouses { remote } => warehouses(&Client::new(remote)?).await,
            Command::Events { remote, events } => events.run(&Client::new(remote)?).await,
            Command::Table { remote, command } => command.run(&Client::new(remote)?).await,
            Command::Maintain { remote, command } => command.run(&Client::new(remote)?).await,
            Command::Check { remote, check } => check.run(&Client::new(remote)?).await,
            Command::Jobs { remote, job, cancel, log } => jobs::run(&Client::new(remote)?, job, cancel, log).await,
            Command::Policy { remote, command } => command.run(&Client::new(remote)?).await,
            Command::Undo { remote, job } => jobs::undo(&Client::new(remote)?, &job).await,
            Command::Explain { remote, file } => explain::run(&Client::new(remote)?, &file).await,
            Command::Health { remote, table } => health::run(&Client::new(remote)?, table).await,
            Command::Ready { remote } => ready::run(&Client::new(remote)?).await,
            Command::Access { remote, command } => command.run(&Client::new(remote)?).await,
            Command::Sql(sql) => sql.run().await,
        }
    })
}

/// Checks the configuration and prints it, without secrets.
fn check(file: Option<PathBuf>) -> Result<()> {
    let config = Config::load(file.as_deref())?.without_secrets();
    print_json(&config)?;
    // Standard output is the configuration alone.
    config.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    Ok(())
}

/// Lists the server's warehouses, or shows the one that `--warehouse` names.
async fn warehouses(client: &Client) -> Result<()> {
    let all = client.listed_warehouses().await?;
    if client.prints_json() {
        return print_json(&all);
    }
    print_line(&format!("{:<24} location", "warehouse"));
    for warehouse in &all {
        let text = |key: &str| warehouse[key].as_str().unwrap_or_default().to_owned();
        print_line(&format!("{:<24} {}", text("name"), text("location")));
    }
    Ok(())
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
