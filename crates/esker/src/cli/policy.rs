//! `esker policy`: the settings of a table with their origins, and the list of policy keys.

use clap::Subcommand;
use esker_autopilot::policy::{KEYS, PolicyKey};
use serde_json::{Value, json};

use super::client::Client;
use super::{jobs, print_json, print_line};
use crate::Result;

/// The commands of `esker policy`.
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Show the policy of a table, the origin of each setting, and the autopilot's last decision.
    Explain {
        /// The table, as NAMESPACE.TABLE.
        table: String,
    },
    /// List all policy keys, with their defaults and meanings.
    Keys,
}

impl PolicyCommand {
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        if matches!(self, Self::Keys) {
            client.refuse_warehouse("policy keys")?;
        }
        match self {
            Self::Keys if client.prints_json() => {
                let key = |key: &PolicyKey| json!({"key": key.name, "default": key.default, "help": key.help});
                print_json(&KEYS.iter().map(key).collect::<Vec<_>>())?;
            }
            Self::Keys => {
                print_line(&format!("{:<24} {:<14} meaning", "key", "default"));
                for key in &KEYS {
                    let default = if key.default.is_empty() { "(none)" } else { key.default };
                    print_line(&format!("{:<24} {:<14} {}", key.name, default, key.help));
                }
            }
            Self::Explain { table } => {
                let policy: Value = client.get(&format!("{}/policy", client.table_path(&table).await?)).await?;
                match client.prints_json() {
                    true => print_json(&policy)?,
                    false => explain(&policy),
                }
            }
        }
        Ok(())
    }
}

/// Prints a table's settings, the problems of its policy, and the autopilot's last decision.
fn explain(policy: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |key: &str| policy[key].as_array().cloned().unwrap_or_default();
    print_line(&text(&policy["table"]));
    for setting in list("settings") {
        let value = text(&setting["value"]);
        let value = if value.is_empty() { "(none)".to_owned() } else { value };
        let next = text(&setting["key"]).strip_suffix(".schedule").and_then(|kind| policy["next_ms"].get(kind).cloned());
        let next = next.map_or_else(String::new, |next| format!(", next {}", jobs::format_time(&next)));
        print_line(&format!("  {:<24} {:<24} {}{next}", text(&setting["key"]), value, text(&setting["origin"])));
    }
    list("problems").iter().for_each(|problem| print_line(&format!("  can't be followed: {}", text(problem))));
    let decision = &policy["decision"];
    if decision.is_null() {
        return print_line("  the autopilot has made no decision about this table yet");
    }
    print_line(&format!(
        "  {}: {} ({})",
        text(&decision["verdict"]),
        text(&decision["reason"]),
        jobs::format_time(&policy["decided_ms"])
    ));
    for job in decision["considered"].as_array().into_iter().flatten() {
        print_line(&format!(
            "    {:<10} {:<10} {}; {}",
            text(&job["kind"]),
            text(&job["verdict"]),
            text(&job["why"]),
            text(&job["reason"])
        ));
    }
}
