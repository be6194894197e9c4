//! `esker table`: lists tables, and changes their protection, ownership, branches and tags.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::Subcommand;
use esker_types::{TableName, format_bytes, format_count, parse_age, to_millis};
use serde_json::{Value, json};

use super::client::{Client, encode};
use super::output::WarehouseColumn;
use super::{health, jobs, print_json, print_line};
use crate::{Error, Result};

/// The commands of `esker table`.
#[derive(Debug, Subcommand)]
pub(super) enum TableCommand {
    /// List the tables, the worst health first.
    List,
    /// Make a registered table an owned one: from then on expiry and purge may delete its files.
    Claim {
        /// The table, as NAMESPACE.TABLE.
        table: String,
    },
    /// List a table's files in quarantine: no longer referenced, not yet deleted.
    Quarantine {
        /// The table, as NAMESPACE.TABLE.
        table: String,
    },
    /// List the dropped tables that can be undropped.
    Dropped,
    /// Restore a dropped table, under its old name or another.
    Undrop {
        /// The table's id, as `esker table dropped` shows it.
        id: String,
        /// The new name, as NAMESPACE.TABLE. Default: the old name.
        #[arg(long = "as")]
        name: Option<String>,
    },
    /// Protect a table from being dropped, or lift the protection.
    Protect {
        /// The table, as NAMESPACE.TABLE.
        table: String,
        /// Lift the protection.
        #[arg(long)]
        off: bool,
    },
    /// Show a table's branches, tags and staged snapshots.
    Refs {
        /// The table, as NAMESPACE.TABLE.
        table: String,
    },
    /// Create a branch.
    Branch {
        /// The table, as NAMESPACE.TABLE.
        table: String,
        /// The name of the branch.
        name: String,
        /// The snapshot at which it begins. Default: the head of main.
        #[arg(long)]
        snapshot: Option<i64>,
        /// Let it expire after this age, e.g. 90d. Default: never.
        #[arg(long, value_parser = parse_age)]
        max_ref_age: Option<Duration>,
    },
    /// Create a tag.
    Tag {
        /// The table, as NAMESPACE.TABLE.
        table: String,
        /// The name of the tag.
        name: String,
        /// The snapshot that it names. Default: the head of main.
        #[arg(long)]
        snapshot: Option<i64>,
        /// Let it expire after this age, e.g. 90d. Default: never.
        #[arg(long, value_parser = parse_age)]
        max_ref_age: Option<Duration>,
    },
    /// Remove a branch or tag.
    DropRef {
        /// The table, as NAMESPACE.TABLE.
        table: String,
        /// The name of the branch or tag.
        name: String,
    },
    /// Roll main back to one of its earlier snapshots.
    Rollback {
        /// The table, as NAMESPACE.TABLE.
        table: String,
        /// The id of the snapshot.
        #[arg(long, conflicts_with = "as_of", required_unless_present = "as_of")]
        snapshot: Option<i64>,
        /// Take the newest snapshot of main that is not later than this time: 2026-11-01T06:00:00Z, or 2026-11-01 for the
        /// beginning of that day in UTC.
        #[arg(long, value_parser = instant)]
        as_of: Option<DateTime<Utc>>,
    },
    /// Fast-forward a branch to another one that is ahead of it, e.g. to publish an audit branch.
    FastForward {
        /// The table, as NAMESPACE.TABLE.
        table: String,
        /// The branch that moves.
        #[arg(long, default_value = "main")]
        branch: String,
        /// The branch or tag to move to.
        to: String,
    },
    /// Publish on main the snapshots that were staged with a write-audit-publish id.
    Publish {
        /// The table, as NAMESPACE.TABLE.
        table: String,
        /// The `wap.id` of the staged snapshots.
        wap_id: String,
    },
}

/// Parses a time with its zone, or a date.
fn instant(text: &str) -> std::result::Result<DateTime<Utc>, String> {
    let time = || text.parse::<DateTime<Utc>>().ok();
    let date = || Some(text.parse::<NaiveDate>().ok()?.and_time(NaiveTime::MIN).and_utc());
    time().or_else(date).ok_or_else(|| format!("{text:?} is not a time like 2026-11-01T06:00:00Z, or a date like 2026-11-01"))
}

impl TableCommand {
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::List => health::fleet(client).await,
            Self::Claim { table } => {
                client.post_only(&format!("{}/claim", client.table_path(&table).await?)).await?;
                say(client, &json!({"table": table, "owned": true}), &format!("{table} is owned by Esker now"))
            }
            Self::Quarantine { table } => quarantine(client, &table).await,
            Self::Dropped => dropped(client).await,
            Self::Undrop { id, name } => undrop(client, &id, name).await,
            Self::Protect { table, off } => {
                client.put_only(&format!("{}/protection", client.table_path(&table).await?), &json!({"protected": !off})).await?;
                let now = if off { "can be dropped again" } else { "is protected from being dropped" };
                say(client, &json!({"table": table, "protected": !off}), &format!("{table} {now}"))
            }
            Self::Refs { table } => {
                print_refs(client, &table, &client.get(&format!("{}/refs", client.table_path(&table).await?)).await?)
            }
            Self::Branch { table, name, snapshot, max_ref_age } => {
                let change = json!({"action": "create-branch", "name": name, "snapshot-id": snapshot,
                    "max-ref-age-ms": max_ref_age.map(to_millis)});
                change_ref(client, &table, &change).await
            }
            Self::Tag { table, name, snapshot, max_ref_age } => {
                let change = json!({"action": "create-tag", "name": name, "snapshot-id": snapshot,
                    "max-ref-age-ms": max_ref_age.map(to_millis)});
                change_ref(client, &table, &change).await
            }
            Self::DropRef { table, name } => change_ref(client, &table, &json!({"action": "drop", "name": name})).await,
            Self::Rollback { table, snapshot, as_of } => {
                let change =
                    json!({"action": "rollback", "snapshot-id": snapshot, "as-of-ms": as_of.map(|at| at.timestamp_millis())});
                change_ref(client, &table, &change).await
            }
            Self::FastForward { table, branch, to } => {
                change_ref(client, &table, &json!({"action": "fast-forward", "branch": branch, "to": to})).await
            }
            Self::Publish { table, wap_id } => change_ref(client, &table, &json!({"action": "publish", "wap-id": wap_id})).await,
        }
    }
}

/// Prints what was done: as JSON if that is asked for, else in words.
fn say(client: &Client, done: &Value, words: &str) -> Result<()> {
    if client.prints_json() {
        return print_json(done);
    }
    print_line(words);
    Ok(())
}

/// Lists a table's files in quarantine.
async fn quarantine(client: &Client, table: &str) -> Result<()> {
    let files: Vec<Value> = client.get(&format!("{}/quarantine", client.table_path(table).await?)).await?;
    if client.prints_json() {
        return print_json(&files);
    }
    for file in &files {
        let bytes = file["bytes"].as_u64().map_or_else(|| "?".to_owned(), format_bytes);
        let text = |key: &str| file[key].as_str().unwrap_or_default().to_owned();
        print_line(&format!("{bytes:>10}  until {}  {}  ({})", jobs::format_time(&file["due_ms"]), text("path"), text("reason")));
    }
    print_line(&format_count(files.len() as u64, "file"));
    Ok(())
}

/// Lists the dropped tables of the chosen warehouse, or of all.
async fn dropped(client: &Client) -> Result<()> {
    let mut tables: Vec<Value> = Vec::new();
    for warehouse in client.listed_warehouses().await? {
        let name = warehouse["name"].as_str().unwrap_or_default();
        let of_one: Vec<Value> = client.get(&format!("/api/v1/warehouses/{}/dropped", encode(name))).await?;
        tables.extend(of_one.into_iter().map(|mut table| {
            table["warehouse"] = name.into();
            table
        }));
    }
    if client.prints_json() {
        return print_json(&tables);
    }
    let column = WarehouseColumn::of(&tables);
    for table in &tables {
        let text = |key: &str| table[key].as_str().unwrap_or_default().to_owned();
        let purge = if table["purge"] == true { ", then its files are quarantined" } else { "" };
        let until = jobs::format_time(&table["undrop-until-ms"]);
        let (warehouse, id, name, by) = (column.cell(table), text("table-id"), text("table"), text("dropped-by"));
        print_line(&format!("{id}  {warehouse}{name}  (dropped by {by}; until {until}{purge})"));
    }
    print_line(&format_count(tables.len() as u64, "dropped table"));
    Ok(())
}

/// Undrops a table.
async fn undrop(client: &Client, id: &str, name: Option<String>) -> Result<()> {
    let name = name.map(|n| n.parse::<TableName>().map_err(|e| Error::Usage(e.to_string()))).transpose()?;
    let path = format!("{}/dropped/{id}/undrop", client.warehouse_path().await?);
    let back: Value = client.post(&path, &json!({"as": name})).await?;
    say(client, &back, &format!("{} is restored", back["table"].as_str().unwrap_or_default()))
}

/// Changes a branch or tag, and prints the table's refs after the change.
async fn change_ref(client: &Client, table: &str, change: &Value) -> Result<()> {
    print_refs(client, table, &client.post(&format!("{}/refs", client.table_path(table).await?), change).await?)
}

/// Prints a table's branches, tags and staged snapshots.
fn print_refs(client: &Client, table: &str, view: &Value) -> Result<()> {
    if client.prints_json() {
        return print_json(view);
    }
    print_line(&format!("{table}: current snapshot {}", view["current-snapshot-id"]));
    for (name, reference) in view["refs"].as_object().into_iter().flatten() {
        let kind = reference["type"].as_str().unwrap_or_default();
        print_line(&format!("  {kind:<8} {name:<24} {}", reference["snapshot-id"]));
    }
    for staged in view["staged"].as_array().into_iter().flatten() {
        print_line(&format!("  staged   {:<24} {}", staged["wap-id"].as_str().unwrap_or_default(), staged["snapshot-id"]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_zone_and_a_date_begins_in_utc() {
        let millis = |text: &str| instant(text).map(|time| time.timestamp_millis());
        assert_eq!(millis("2020-01-01T01:00:00+01:00"), Ok(1_577_836_800_000));
        assert_eq!(millis("2020-01-01"), Ok(1_577_836_800_000));
        for wrong in ["2020-01-01T00:00:00", "yesterday"] {
            assert!(millis(wrong).is_err_and(|text| text.contains("a date like")), "{wrong}");
        }
    }
}
