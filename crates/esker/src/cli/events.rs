use clap::Args;
use serde_json::Value;

use super::client::Client;
use super::out;
use crate::Result;

#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// The cursor: show what happened after this event.
    #[arg(long, default_value_t = 0)]
    after: i64,
    /// How many, at most.
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

impl EventsArgs {
    /// One JSON object a line, for other programs to read.
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        // One object a line is this command's only form, with --json or without.
        let page: Value = client.get(&format!("/api/v1/events?after={}&limit={}", self.after, self.limit)).await?;
        for event in page["events"].as_array().into_iter().flatten() {
            out(&event.to_string());
        }
        Ok(())
    }
}
