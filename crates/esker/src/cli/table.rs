use clap::Subcommand;
use esker_health::bytes_for_people;
use serde_json::Value;

use super::client::{Client, table_path};
use super::{health, out};
use crate::Result;

#[derive(Debug, Subcommand)]
pub(super) enum TableCommand {
    /// List all tables.
    List,
    /// Take a registered table into Esker's care: from then on expiry and purge may delete its files.
    Claim {
        /// NAMESPACE.TABLE
        table: String,
    },
    /// List the files in quarantine: not referenced any more, not deleted yet.
    Quarantine {
        /// NAMESPACE.TABLE
        table: String,
    },
}

impl TableCommand {
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::List => health::fleet(client).await,
            Self::Claim { table } => {
                client.post_only(&format!("{}/claim", table_path(&table)?)).await?;
                out(&format!("{table} is Esker's now"));
                Ok(())
            }
            Self::Quarantine { table } => {
                let files: Vec<Value> = client.get(&format!("{}/quarantine", table_path(&table)?)).await?;
                for file in &files {
                    let bytes = file["bytes"].as_u64().map_or_else(|| "?".to_owned(), bytes_for_people);
                    let text = |key: &str| file[key].as_str().unwrap_or_default().to_owned();
                    out(&format!("{:>10}  {}  ({})", bytes, text("path"), text("reason")));
                }
                out(&format!("{} files", files.len()));
                Ok(())
            }
        }
    }
}
