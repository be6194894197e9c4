//! `esker access filter` and `esker access mask`: row filters and column masks of tables, over the management API.
//!
//! Tables are named from the warehouse on: `lake.raw.orders`.

use clap::Subcommand;
use esker_access::{MaskAction, Member};
use serde_json::{Value, json};

use super::{done, text, typed};
use crate::Result;
use crate::cli::client::{Client, encode};
use crate::cli::{print_json, print_line};

/// The commands of `esker access filter`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum FilterCommand {
    /// List the row filters of a table.
    List {
        /// The table, from the warehouse on: lake.raw.orders
        table: String,
    },
    /// Add a row filter: esker access filter add lake.raw.orders role:eu "region = 'EU'"
    Add {
        /// The table, from the warehouse on: lake.raw.orders
        table: String,
        /// The member that sees the rows for which the condition is true.
        member: Member,
        /// The condition. TRUE shows the member all rows.
        condition: String,
    },
    /// Remove a row filter. A table without row filters shows all rows.
    Remove {
        /// The table, from the warehouse on: lake.raw.orders
        table: String,
        /// The id of the filter.
        id: String,
    },
}

/// The commands of `esker access mask`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum MaskCommand {
    /// List the column masks of a table.
    List {
        /// The table, from the warehouse on: lake.raw.orders
        table: String,
    },
    /// Mask a field: esker access mask set lake.raw.orders customer.email mask-alphanum --except role:support
    Set {
        /// The table, from the warehouse on: lake.raw.orders
        table: String,
        /// The field: its name, with dots for fields of structs, or its id.
        field: String,
        /// mask-alphanum, mask-to-fixed-value, replace-with-null, show-first-4, show-last-4, truncate-to-year,
        /// truncate-to-month, sha-256-global or sha-256-query-local.
        action: MaskAction,
        /// A member that sees the values as they are; repeatable.
        #[arg(long)]
        except: Vec<Member>,
    },
    /// Remove the mask of a field.
    Remove {
        /// The table, from the warehouse on: lake.raw.orders
        table: String,
        /// The field: its name, or its id.
        field: String,
    },
}

/// The route of the row filters.
const FILTERS: &str = "/api/v1/access/filters";
/// The route of the column masks.
const MASKS: &str = "/api/v1/access/masks";

/// Returns the name of a table in requests.
fn on(table: &str) -> String {
    format!("table {table}")
}

/// Returns the end of a line about a restriction: if it restricts nobody, the reason.
fn unless_in_force(answer: &Value) -> &'static str {
    match answer["in-force"] == true {
        true => "",
        false => "; it restricts nobody until the mode is on",
    }
}

/// Lists a part of a table's restrictions: prints the heading, and a line for each.
async fn list(client: &Client, table: &str, part: &str, heading: &str, line: impl Fn(&Value) -> String) -> Result<()> {
    let answer: Value = client.get(&format!("/api/v1/access/restrictions?on={}", encode(&on(table)))).await?;
    if client.prints_json() {
        return print_json(&answer[part]);
    }
    print_line(heading);
    for row in answer[part].as_array().into_iter().flatten() {
        print_line(line(row).trim_end());
    }
    if answer["in-force"] != true {
        print_line("row filters and column masks restrict nobody until the mode is on");
    }
    Ok(())
}

/// Returns the names of the members that a mask does not apply to.
fn exceptions(mask: &Value) -> String {
    mask["except"].as_array().into_iter().flatten().map(typed).collect::<Vec<_>>().join(", ")
}

impl FilterCommand {
    /// Carries out the command.
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::List { table } => {
                let heading = format!("{:<36}  {:<32}  rows", "filter", "to");
                let line = |row: &Value| format!("{:<36}  {:<32}  {}", text(row, "id"), typed(&row["to"]), text(row, "text"));
                list(client, &table, "filters", &heading, line).await
            }
            Self::Add { table, member, condition } => {
                let body = json!({"on": on(&table), "to": member, "filter": condition});
                let filter: Value = client.post(FILTERS, &body).await?;
                let (rows, id, note) = (text(&filter, "text"), text(&filter, "id"), unless_in_force(&filter));
                done(client, &format!("{member} sees the rows of {table} with {rows}: {id}{note}"), &filter)
            }
            Self::Remove { table, id } => {
                client.delete(&format!("{FILTERS}/{}?on={}", encode(&id), encode(&on(&table)))).await?;
                done(client, &format!("removed the row filter {id} of {table}"), &json!({"on": on(&table), "id": id}))
            }
        }
    }
}

impl MaskCommand {
    /// Carries out the command.
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::List { table } => {
                let heading = format!("{:<8}  {:<32}  {:<20}  except", "field id", "field", "action");
                let line = |row: &Value| {
                    let (id, field) = (row["field-id"].to_string(), row["field"].as_str().unwrap_or("(dropped)"));
                    format!("{id:<8}  {field:<32}  {:<20}  {}", text(row, "action"), exceptions(row))
                };
                list(client, &table, "masks", &heading, line).await
            }
            Self::Set { table, field, action, except } => {
                let body = json!({"on": on(&table), "field": field, "action": action, "except": except});
                let mask: Value = client.put(MASKS, &body).await?;
                let (field, note) = (text(&mask, "field"), unless_in_force(&mask));
                done(client, &format!("{field} of {table} is masked by {action}{note}"), &mask)
            }
            Self::Remove { table, field } => {
                client.delete(&format!("{MASKS}?on={}&field={}", encode(&on(&table)), encode(&field))).await?;
                done(client, &format!("{field} of {table} has no mask"), &json!({"on": on(&table), "field": field}))
            }
        }
    }
}
