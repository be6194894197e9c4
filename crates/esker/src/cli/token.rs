//! `esker token`: makes, rotates, lists and revokes tokens, in the database itself.
//!
//! It needs no token, so a lost one can be replaced. A running server accepts a new token at once, and refuses a revoked one within
//! seconds.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use esker_auth::{AuthError, AuthOptions, Authenticator, REVOCATION_SECONDS, TokenInfo, record_command};
use esker_state::{Database, State};
use esker_types::{Principal, now_ms, parse_age};
use serde_json::json;

use super::jobs::format_time;
use super::{print_json, print_line};
use crate::{Config, Error, Result};

/// The arguments of `esker token`.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    #[command(flatten)]
    place: DatabaseArgs,
    /// The name of the principal. Default: admin.
    name: Option<String>,
    #[command(subcommand)]
    command: Option<TokenCommand>,
}

/// The arguments that lead to the state database.
#[derive(Debug, Args)]
pub(super) struct DatabaseArgs {
    /// The server's data directory, if its state is in SQLite.
    #[arg(long, global = true)]
    data_dir: Option<PathBuf>,
    /// The server's TOML file. Every key can also be set as ESKER__SECTION__KEY.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
}

/// The commands of `esker token`.
#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token, and print it once. Tokens that exist stay valid.
    Create {
        /// The name of the principal.
        name: String,
        /// The age at which the token ends, e.g. 90d. Default: it does not end.
        #[arg(long, value_parser = parse_age)]
        expires: Option<Duration>,
        /// The purpose of the token, which the list shows.
        #[arg(long, default_value = "")]
        label: String,
    },
    /// List the tokens, without those that were issued in exchange for others.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a token of a client, print it once, and end the client's other tokens after a while.
    Rotate {
        /// The name of the client.
        name: String,
        /// The time for which the earlier tokens still count, e.g. 1h. 0s ends them at once.
        #[arg(long, default_value = "1h", value_parser = parse_age)]
        overlap: Duration,
        /// The age at which the new token ends, e.g. 90d. Default: it does not end.
        #[arg(long, value_parser = parse_age)]
        expires: Option<Duration>,
    },
    /// Revoke a token, with all that were issued in exchange for it.
    Revoke {
        /// The token's id, as `esker token list` shows it.
        id: String,
    },
}

impl TokenArgs {
    pub(super) async fn run(self) -> Result<()> {
        let Self { place, name, command } = self;
        if let (Some(name), Some(_)) = (&name, &command) {
            return Err(Error::Usage(format!("{name:?} stands before a command of `esker token`; give the command first")));
        }
        let state = place.open().await?;
        let auth = Authenticator::new(state.clone(), AuthOptions::default());
        let done = match command {
            None => create(&state, &auth, name.as_deref().unwrap_or("admin"), "", None).await,
            Some(TokenCommand::Create { name, expires, label }) => create(&state, &auth, &name, &label, expires).await,
            Some(TokenCommand::Rotate { name, overlap, expires }) => rotate(&state, &auth, &name, overlap, expires).await,
            Some(TokenCommand::List { json }) => list(&auth, json).await,
            Some(TokenCommand::Revoke { id }) => revoke(&state, &auth, &id).await,
        };
        state.close().await;
        done
    }
}

impl DatabaseArgs {
    /// Opens the state database of a server.
    pub(super) async fn open(self) -> Result<State> {
        Ok(self.open_with_config().await?.1)
    }

    /// Reads the configuration of a server, and opens its state database.
    pub(super) async fn open_with_config(self) -> Result<(Config, State)> {
        let config = Config::load(self.config.as_deref())?;
        let dir = self.data_dir.or_else(|| config.data_dir.clone());
        if config.state.url.is_none() && dir.is_none() {
            return Err(Error::Usage("give --data-dir DIR, or --config with state.url".to_owned()));
        }
        let database = config.state.database(&dir.unwrap_or_default())?;
        if let Database::Sqlite(path) = &database
            && !path.is_file()
        {
            return Err(Error::Usage(format!(
                "{} does not exist; is --data-dir the data directory of a server?",
                path.display()
            )));
        }
        Ok((config, State::open(database).await?))
    }
}

/// Makes a token and prints it. Standard output is the token alone; what else is to be known goes to standard error.
async fn create(state: &State, auth: &Authenticator, name: &str, label: &str, lifetime: Option<Duration>) -> Result<()> {
    record_command(state, "createToken", (Principal::CLIENT, name)).await?;
    let made = auth.make(name, label, lifetime).await?;
    let now = now_ms();
    let others = auth.list().await?;
    let others: Vec<TokenInfo> =
        others.into_iter().filter(|other| other.principal == name && other.id != made.info.id && other.is_valid(now)).collect();
    print_line(&made.token.reveal());
    eprintln!("token {} of the principal {name}: {}", made.info.id, end_of(&made.info));
    if !others.is_empty() {
        let ids: Vec<&str> = others.iter().map(|other| other.id.as_str()).collect();
        eprintln!("also valid for {name}: {}; `esker token revoke ID` revokes one", ids.join(", "));
    }
    Ok(())
}

/// Makes a token of a client in place of its others, and prints it as [`create`] does.
async fn rotate(state: &State, auth: &Authenticator, name: &str, overlap: Duration, lifetime: Option<Duration>) -> Result<()> {
    record_command(state, "rotateTokens", (Principal::CLIENT, name)).await?;
    let made = auth.rotate(name, overlap, lifetime).await?;
    print_line(&made.token.reveal());
    eprintln!("token {} of the client {name}: {}", made.info.id, end_of(&made.info));
    let seconds = overlap.as_secs();
    eprintln!("the other tokens of {name} end in {seconds} seconds at the latest, with all that were issued in exchange");
    Ok(())
}

/// Returns text about the end of a token.
pub(super) fn end_of(token: &TokenInfo) -> String {
    match (token.revoked_ms, token.expires_ms) {
        (Some(revoked), _) => format!("revoked {}", format_time(&json!(revoked))),
        (None, Some(end)) if end <= now_ms() => format!("ended {}", format_time(&json!(end))),
        (None, Some(end)) => format!("ends {}", format_time(&json!(end))),
        (None, None) => "does not end".to_owned(),
    }
}

async fn list(auth: &Authenticator, as_json: bool) -> Result<()> {
    let tokens = auth.list().await?;
    if as_json {
        return print_json(&tokens);
    }
    print_line(&format!("{:<36}  {:<16}  {:<24}  {:<24}  {:<32}  label", "token", "principal", "created", "last used", "end"));
    for token in &tokens {
        let (created, used) = (format_time(&json!(token.created_ms)), format_time(&json!(token.last_used_ms)));
        let (id, principal, label) = (&token.id, &token.principal, &token.label);
        let line = format!("{id:<36}  {principal:<16}  {created:<24}  {used:<24}  {:<32}  {label}", end_of(token));
        print_line(line.trim_end());
    }
    Ok(())
}

async fn revoke(state: &State, auth: &Authenticator, id: &str) -> Result<()> {
    // What is no id may be a token that somebody took for one, and the trail has no secrets.
    if !auth.knows(id).await? {
        return Err(AuthError::NoSuchToken(id.to_owned()).into());
    }
    record_command(state, "revokeToken", ("token", id)).await?;
    auth.revoke(id).await?;
    print_line(&format!("token {id} is revoked; running servers refuse it within {REVOCATION_SECONDS} seconds"));
    Ok(())
}
