//! `esker token`: makes a token for a principal, in the database itself.
//!
//! It needs no token, so a lost one can be replaced. A running server accepts the new token within seconds.

use std::path::PathBuf;

use clap::Args;
use esker_catalog::token_hash;
use esker_state::{Database, State};

use super::print_line;
use crate::server::fresh_token;
use crate::{Config, Error, Result};

/// The arguments of `esker token`.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// The server's data directory, if its state is in SQLite.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The server's TOML file. Every key can also be set as ESKER__SECTION__KEY.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The name of the principal.
    #[arg(default_value = "admin")]
    name: String,
}

impl TokenArgs {
    pub(super) async fn run(self) -> Result<()> {
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
        let state = State::open(database).await?;
        let token = fresh_token()?;
        state.principals().put(&self.name, &token_hash(&token)).await?;
        state.close().await;
        print_line(&token);
        Ok(())
    }
}
