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
        let query = client.list_query(&[("after", self.after.to_string()), ("limit", self.limit.to_string())]);
        let page: Value = client.get(&format!("/api/v1/events{query}")).await?;
        let events = page["events"].as_array().map(Vec::as_slice).unwrap_or_default();
        for event in events {
            print_line(&event.to_string());
        }
        if events.is_empty() {
            // Standard output has events alone.
            eprintln!("no events after {}", self.after);
        }
        Ok(())
    }
}
