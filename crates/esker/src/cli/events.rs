//! `esker events`: prints the events after a cursor.

use clap::Args;
use serde_json::Value;

use super::client::Client;
use super::print_line;
use crate::Result;

/// The arguments of `esker events`.
#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// Print the events after the one with this number.
    #[arg(long, default_value_t = 0)]
    after: i64,
    /// The maximum number of events.
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

impl EventsArgs {
    /// Prints the events as one JSON object a line, for other programs to read.
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        // The output is the same with and without --json.
        let page: Value = client.get(&format!("/api/v1/events?after={}&limit={}", self.after, self.limit)).await?;
        for event in page["events"].as_array().into_iter().flatten() {
            print_line(&event.to_string());
        }
        Ok(())
    }
}
