use std::path::PathBuf;

use clap::Args;
use esker_catalog::token_hash;
use esker_state::State;

use super::out;
use crate::server::fresh_token;
use crate::{Error, Result};

/// Works on the database itself, so that a lost token can be replaced; a running server takes note within seconds.
#[derive(Debug, Args)]
pub(super) struct Token {
    /// The server's data directory.
    #[arg(long)]
    data_dir: PathBuf,
    /// The principal.
    #[arg(default_value = "admin")]
    name: String,
}

impl Token {
    pub(super) async fn run(self) -> Result<()> {
        let path = self.data_dir.join("esker.db");
        if !path.is_file() {
            return Err(Error::Usage(format!(
                "{} does not exist; is {} a data directory?",
                path.display(),
                self.data_dir.display()
            )));
        }
        let state = State::open(&path).await?;
        let token = fresh_token()?;
        state.put_principal(&self.name, &token_hash(&token)).await?;
        state.close().await;
        out(&token);
        Ok(())
    }
}
