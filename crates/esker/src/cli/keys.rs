//! `esker keys`: lists, rotates and encrypts the keys that authenticate what clients carry, in the database itself.
//!
//! It needs no token, as `esker token`. Running servers use a new key within seconds.

use std::time::Duration;

use clap::{Args, Subcommand};
use esker_auth::{KEYS_SECONDS, KeyPurpose, KeyRing, RewrappedKeys, record_command};
use esker_state::State;
use esker_types::parse_age;
use serde_json::json;

use super::jobs::format_time;
use super::token::DatabaseArgs;
use super::{print_json, print_line};
use crate::Result;

/// The arguments of `esker keys`.
#[derive(Debug, Args)]
pub(super) struct KeysArgs {
    #[command(flatten)]
    place: DatabaseArgs,
    #[command(subcommand)]
    command: KeysCommand,
}

/// The commands of `esker keys`.
#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List the keys, without their material.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a new key for a purpose, which signs from now on: `handles` of Flight SQL, scan `plans`, derived `secrets`, or messages of
    /// `servers`.
    Rotate {
        /// The purpose: handles, plans, secrets or servers.
        purpose: KeyPurpose,
        /// The time for which the earlier keys of the purpose still count, e.g. 1h. 0s ends them at once.
        #[arg(long, default_value = "1h", value_parser = parse_age)]
        overlap: Duration,
        /// Make the key also if keys.master_key does not encrypt the present one: the earlier master key is lost.
        #[arg(long)]
        lost_master_key: bool,
    },
    /// Encrypt all keys with keys.master_key that are not: after it was configured or changed.
    Rewrap,
}

impl KeysArgs {
    pub(super) async fn run(self) -> Result<()> {
        let (config, state) = self.place.open_with_config().await?;
        let keys = KeyRing::new(state.clone(), config.keys.masters()?);
        let done = match self.command {
            KeysCommand::List { json } => list(&keys, json).await,
            KeysCommand::Rotate { purpose, overlap, lost_master_key } => {
                let checked = match lost_master_key {
                    true => Ok(()),
                    false => keys.check_master_key(purpose).await,
                };
                match checked {
                    Ok(()) => rotate(&state, &keys, purpose, overlap).await,
                    Err(error) => Err(error.into()),
                }
            }
            KeysCommand::Rewrap => rewrap(&state, &keys).await,
        };
        state.close().await;
        done
    }
}

async fn list(keys: &KeyRing, as_json: bool) -> Result<()> {
    let keys = keys.list().await?;
    if as_json {
        return print_json(&keys);
    }
    print_line(&format!("{:<36}  {:<8}  {:<8}  {:<24}  {:<24}  master key", "key", "purpose", "state", "created", "ends"));
    for key in &keys {
        let (created, ends) = (format_time(&json!(key.created_ms)), format_time(&json!(key.ends_ms)));
        let (id, purpose, state) = (&key.id, &key.purpose, key.state.name());
        let master = key.master_key.as_deref().unwrap_or("none");
        print_line(&format!("{id:<36}  {purpose:<8}  {state:<8}  {created:<24}  {ends:<24}  {master}"));
    }
    Ok(())
}

async fn rotate(state: &State, keys: &KeyRing, purpose: KeyPurpose, overlap: Duration) -> Result<()> {
    record_command(state, "rotateKeys", ("key", purpose.name())).await?;
    let made = keys.rotate(purpose, overlap).await?;
    let (id, seconds) = (&made.id, overlap.as_secs());
    print_line(&format!(
        "key {id} signs {purpose}; running servers use it within {KEYS_SECONDS} seconds, and accept the earlier keys for \
         {seconds} seconds"
    ));
    if keys.is_plain() {
        eprintln!("the key is stored as it is, because keys.master_key is not set");
    }
    Ok(())
}

async fn rewrap(state: &State, keys: &KeyRing) -> Result<()> {
    record_command(state, "rewrapKeys", ("key", "all")).await?;
    let RewrappedKeys { count, left } = keys.rewrap().await?;
    let keys = if count == 1 { "key was" } else { "keys were" };
    print_line(&format!("{count} {keys} encrypted with keys.master_key"));
    for key in left {
        let (id, purpose, state) = (key.id, key.purpose, key.state.name());
        eprintln!("key {id} ({purpose}, {state}) is left as it is, because no configured master key decrypts it");
    }
    Ok(())
}
