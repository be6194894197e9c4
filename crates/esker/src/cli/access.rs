//! `esker access`: the mode of access control, roles, members, grants, row filters, column masks, access policies and
//! explanations, over the management API.
//!
//! `bootstrap`, `break-glass` and `remove-policy` open the database themselves, as `esker token` does. They are the way in when
//! nobody may change the rules over the API.

mod policies;
mod policy_grants;
mod restrictions;

use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use esker_access::{AccessExplanation, AccessMode, Member, RightsError};
use esker_auth::{AccessControl, LoggedDecisions, RULES_SECONDS};
use serde_json::{Value, json};

use self::policies::AccessPolicyCommand;
use self::restrictions::{FilterCommand, MaskCommand};
use super::client::{Client, encode};
use super::jobs::format_time;
use super::token::{DatabaseArgs, end_of};
use super::{print_json, print_line};
use crate::{Error, Result};

/// The commands of `esker access`. A member is `role:NAME`, `client:NAME`, `user:NAME@ISSUER` or `claim:VALUE@ISSUER`.
#[derive(Debug, Subcommand)]
pub(super) enum AccessCommand {
    /// Show the mode, or set it.
    Mode {
        /// off: everything is allowed; report: refusals are reported; on: refusals count.
        #[arg(value_parser = ["off", "report", "on"])]
        mode: Option<String>,
    },
    /// List, create and drop roles.
    Role {
        #[command(subcommand)]
        command: RoleCommand,
    },
    /// List, add and remove members of roles.
    Member {
        #[command(subcommand)]
        command: MemberCommand,
    },
    /// Grant privileges: esker access grant SELECT,APPEND on table lake.raw.orders to role:writers
    Grant(GrantArgs),
    /// Revoke privileges: esker access revoke APPEND on table lake.raw.orders from role:writers
    Revoke(GrantArgs),
    /// List the grants.
    Grants {
        /// Only grants to this member.
        #[arg(long)]
        to: Option<String>,
        /// Only grants on this thing, e.g. "table lake.raw.orders".
        #[arg(long)]
        on: Option<String>,
    },
    /// List, add and remove row filters of tables.
    Filter {
        #[command(subcommand)]
        command: FilterCommand,
    },
    /// List, set and remove column masks of tables.
    Mask {
        #[command(subcommand)]
        command: MaskCommand,
    },
    /// List, show, set, remove and check access policies: rules with conditions, in the language Cedar.
    Policy {
        #[command(subcommand)]
        command: AccessPolicyCommand,
    },
    /// Explain what a principal may do: esker access explain client:etl SELECT table lake.raw.orders
    Explain {
        /// The principal: client:NAME, user:NAME@ISSUER, anonymous, or me.
        who: String,
        /// The privileges and bundles, separated by commas.
        privileges: String,
        /// The thing: server, or KIND NAME with the name from the warehouse on.
        #[arg(required = true, num_args = 1..=2)]
        on: Vec<String>,
    },
    /// Print the records of the audit trail that are in the state database, as one JSON object a line.
    Audit {
        /// Print the records after the one with this number.
        #[arg(long, default_value_t = 0)]
        after: i64,
        /// The maximum number of records.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Make a client with a token an administrator, in the database itself.
    Bootstrap {
        #[command(flatten)]
        place: DatabaseArgs,
        /// The name of the client.
        #[arg(default_value = "admin")]
        client: String,
        /// Set the mode too.
        #[arg(long, value_parser = ["off", "report", "on"])]
        mode: Option<String>,
    },
    /// Make a token that no rule refuses anything, in the database itself. All that it does is recorded.
    BreakGlass {
        #[command(flatten)]
        place: DatabaseArgs,
        /// The minutes after which the token ends.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=1440))]
        minutes: u64,
    },
    /// Remove an access policy in the database itself, and print its text.
    ///
    /// This is for one that can't be read: servers have no rules then, and refuse `policy remove` as everything else.
    RemovePolicy {
        #[command(flatten)]
        place: DatabaseArgs,
        /// The name of the access policy.
        name: String,
    },
}

/// The arguments of a grant or a revocation.
#[derive(Debug, clap::Args)]
pub(super) struct GrantArgs {
    /// The privileges and bundles, separated by commas.
    privileges: String,
    /// on KIND NAME to MEMBER, or on KIND NAME from MEMBER.
    #[arg(required = true, num_args = 4..=5)]
    words: Vec<String>,
    /// Only for things of this kind that are created in the container from now on: namespace, table, view or function.
    #[arg(long)]
    future: Option<String>,
}

/// The commands of `esker access role`.
#[derive(Debug, Subcommand)]
pub(super) enum RoleCommand {
    /// List the roles.
    List,
    /// Create a role.
    Create {
        /// The name of the role.
        name: String,
    },
    /// Drop a role, with its memberships and the grants to it.
    Drop {
        /// The name of the role.
        name: String,
    },
}

/// The commands of `esker access member`.
#[derive(Debug, Subcommand)]
pub(super) enum MemberCommand {
    /// List the members of a role.
    List {
        /// The name of the role.
        role: String,
    },
    /// Add a member to a role.
    Add {
        /// The name of the role.
        role: String,
        /// The member.
        member: Member,
    },
    /// Remove a member from a role.
    Remove {
        /// The name of the role.
        role: String,
        /// The member.
        member: Member,
    },
}

impl AccessCommand {
    /// Carries out the command.
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        client.refuse_warehouse("access")?;
        match self {
            Self::Mode { mode } => self::mode(client, mode).await,
            Self::Role { command } => command.run(client).await,
            Self::Member { command } => command.run(client).await,
            Self::Grant(grant) => grant.add(client).await,
            Self::Revoke(grant) => grant.revoke(client).await,
            Self::Grants { to, on } => grants(client, to.as_deref(), on.as_deref()).await,
            Self::Filter { command } => command.run(client).await,
            Self::Mask { command } => command.run(client).await,
            Self::Policy { command } => command.run(client).await,
            Self::Explain { who, privileges, on } => explain(client, &who, &privileges, &on.join(" ")).await,
            Self::Audit { after, limit } => audit(client, after, limit).await,
            Self::Bootstrap { place, client, mode } => bootstrap(place, &client, mode.as_deref()).await,
            Self::BreakGlass { place, minutes } => break_glass(place, minutes).await,
            Self::RemovePolicy { place, name } => remove_policy(place, &name).await,
        }
    }
}

/// Prints what a change did: a line, or as JSON the fields of the change.
fn done(client: &Client, line: &str, change: &Value) -> Result<()> {
    match client.prints_json() {
        true => print_json(change),
        false => {
            print_line(line);
            Ok(())
        }
    }
}

/// Shows or sets the mode.
async fn mode(client: &Client, mode: Option<String>) -> Result<()> {
    let now: Value = match mode {
        Some(mode) => client.put("/api/v1/access/mode", &json!({"mode": mode})).await?,
        None => client.get("/api/v1/access").await?,
    };
    done(client, &format!("mode {}, version {} of the rules", text(&now, "mode"), now["version"]), &now)
}

/// Returns a field that is a text; the empty text, if it is none.
fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

/// Returns the member in the JSON of an answer, as people type it.
fn typed(member: &Value) -> String {
    let (kind, issuer) = (text(member, "kind"), text(member, "issuer"));
    let name = member["name"].as_str().unwrap_or_else(|| text(member, "value"));
    if issuer.is_empty() { format!("{kind}:{name}") } else { format!("{kind}:{name}@{issuer}") }
}

impl RoleCommand {
    async fn run(self, client: &Client) -> Result<()> {
        const ROLES: &str = "/api/v1/access/roles";
        match self {
            Self::List => {
                let roles: Vec<Value> = client.get(ROLES).await?;
                if client.prints_json() {
                    return print_json(&roles);
                }
                print_line(&format!("{:<32}  {:<24}  created", "role", "created by"));
                for role in &roles {
                    let (by, at) = (text(role, "created-by"), format_time(&role["created-ms"]));
                    print_line(format!("{:<32}  {by:<24}  {at}", text(role, "name")).trim_end());
                }
                Ok(())
            }
            Self::Create { name } => {
                client.post_body(ROLES, &json!({"name": name})).await?;
                done(client, &format!("created the role {name}"), &json!({"role": name}))
            }
            Self::Drop { name } => {
                client.delete(&format!("{ROLES}/{}", encode(&name))).await?;
                done(client, &format!("dropped the role {name}"), &json!({"role": name}))
            }
        }
    }
}

impl MemberCommand {
    async fn run(self, client: &Client) -> Result<()> {
        let members = |role: &str| format!("/api/v1/access/roles/{}/members", encode(role));
        match self {
            Self::List { role } => {
                let rows: Vec<Value> = client.get(&members(&role)).await?;
                if client.prints_json() {
                    return print_json(&rows);
                }
                print_line(&format!("{:<40}  {:<24}  added", "member", "added by"));
                for row in &rows {
                    let (by, at) = (text(row, "created-by"), format_time(&row["created-ms"]));
                    print_line(&format!("{:<40}  {by:<24}  {at}", typed(&row["member"])));
                }
                Ok(())
            }
            Self::Add { role, member } => {
                let path = format!("{}/{}", members(&role), encode(&typed(&json!(member))));
                client.put_only(&path, &Value::Null).await?;
                done(client, &format!("{member} is a member of {role}"), &json!({"role": role, "member": member}))
            }
            Self::Remove { role, member } => {
                client.delete(&format!("{}/{}", members(&role), encode(&typed(&json!(member))))).await?;
                done(client, &format!("{member} is no member of {role} any more"), &json!({"role": role, "member": member}))
            }
        }
    }
}

impl GrantArgs {
    /// Takes `on KIND NAME to MEMBER` apart. `joint` is the word before the member. Returns the thing and the member.
    fn parts(&self, joint: &str) -> Result<(String, Member)> {
        match self.words.as_slice() {
            [on, thing @ .., word, member] if on.eq_ignore_ascii_case("on") && word.eq_ignore_ascii_case(joint) => {
                let member = member.parse().map_err(|e: RightsError| Error::Usage(e.to_string()))?;
                Ok((thing.join(" "), member))
            }
            words => {
                let form = format!("`on KIND NAME {joint} MEMBER`, or `on server {joint} MEMBER`");
                Err(Error::Usage(format!("{} is not of the form {form}", words.join(" "))))
            }
        }
    }

    /// Returns the body of the request.
    fn body(&self, on: &str, to: &Member) -> Value {
        json!({"to": to, "privileges": self.privileges, "on": on, "future": self.future})
    }

    async fn add(self, client: &Client) -> Result<()> {
        let (on, to) = self.parts("to")?;
        let grant: Value = client.post("/api/v1/access/grants", &self.body(&on, &to)).await?;
        done(client, &format!("granted {} on {on} to {to}: {}", privileges(&grant), text(&grant, "id")), &grant)
    }

    async fn revoke(self, client: &Client) -> Result<()> {
        let (on, from) = self.parts("from")?;
        let body = self.body(&on, &from);
        client.post_body("/api/v1/access/grants/revoke", &body).await?;
        done(client, &format!("revoked {} on {on} from {from}", self.privileges), &body)
    }
}

/// Returns the privileges of a grant, separated by commas.
fn privileges(grant: &Value) -> String {
    let names = grant["privileges"].as_array().into_iter().flatten().filter_map(Value::as_str);
    names.collect::<Vec<_>>().join(", ")
}

/// Lists grants.
async fn grants(client: &Client, to: Option<&str>, on: Option<&str>) -> Result<()> {
    let query = [("to", to), ("on", on)].into_iter().filter_map(|(key, value)| Some(format!("{key}={}", encode(value?))));
    let query = query.collect::<Vec<_>>().join("&");
    let rows: Vec<Value> = client.get(&format!("/api/v1/access/grants?{query}")).await?;
    if client.prints_json() {
        return print_json(&rows);
    }
    print_line(&format!("{:<36}  {:<32}  {:<40}  privileges", "grant", "to", "on"));
    for row in &rows {
        let on = row["on-name"].as_str().map_or_else(|| format!("{} (not found)", text(&row["on"], "kind")), str::to_owned);
        let on = row["future"].as_str().map_or_else(|| on.clone(), |kind| format!("future {kind}s in {on}"));
        print_line(&format!("{:<36}  {:<32}  {on:<40}  {}", text(row, "id"), typed(&row["to"]), privileges(row)));
    }
    Ok(())
}

/// Explains what a principal may do on a thing.
async fn explain(client: &Client, who: &str, privileges: &str, on: &str) -> Result<()> {
    let who = if who == "me" { String::new() } else { format!("who={}&", encode(who)) };
    let path = format!("/api/v1/access/explain?{who}privileges={}&on={}", encode(privileges), encode(on));
    let explained: AccessExplanation = client.get(&path).await?;
    if client.prints_json() {
        return print_json(&explained);
    }
    print_line(&explained.to_string());
    Ok(())
}

/// Prints records of the audit trail, each with its number, as `esker events` prints events.
async fn audit(client: &Client, after: i64, limit: u32) -> Result<()> {
    let page: Value = client.get(&format!("/api/v1/audit?after={after}&limit={limit}")).await?;
    let records = page["records"].as_array().map(Vec::as_slice).unwrap_or_default();
    for record in records {
        print_line(&record.to_string());
    }
    if records.is_empty() {
        // Standard output has records alone.
        eprintln!("no records after {after}");
    }
    Ok(())
}

/// Makes a client an administrator.
async fn bootstrap(place: DatabaseArgs, client: &str, mode: Option<&str>) -> Result<()> {
    let state = place.open().await?;
    let mode = mode.and_then(AccessMode::from_name);
    let changed = async {
        let access = AccessControl::open(state.clone(), Arc::new(LoggedDecisions)).await?;
        access.bootstrap(client, mode).await?;
        access.rules().await
    };
    let changed = changed.await;
    state.close().await;
    let rules = changed?;
    print_line(&format!("client {client} is a member of esker:admin; the mode is {}", rules.mode().as_str()));
    eprintln!("running servers use the rules within {RULES_SECONDS} seconds");
    Ok(())
}

/// Makes a token for an emergency. Standard output is the token alone.
async fn break_glass(place: DatabaseArgs, minutes: u64) -> Result<()> {
    let state = place.open().await?;
    let made = async {
        let access = AccessControl::open(state.clone(), Arc::new(LoggedDecisions)).await?;
        access.break_glass(Duration::from_secs(minutes * 60)).await
    };
    let made = made.await;
    state.close().await;
    let made = made?;
    print_line(&made.token.reveal());
    eprintln!("token {} of the principal {}: {}", made.info.id, made.info.principal, end_of(&made.info));
    eprintln!("no rule refuses it anything, and all that it does is recorded; `esker token revoke {}` ends it", made.info.id);
    Ok(())
}

/// Removes an access policy. Standard output is its text alone, so that it can be mended and set again.
async fn remove_policy(place: DatabaseArgs, name: &str) -> Result<()> {
    let state = place.open().await?;
    let removed = AccessControl::remove_stored_policy(&state, name).await;
    state.close().await;
    print_line(removed?.trim_end_matches('\n'));
    eprintln!(
        "removed the access policy {name}: what it forbade is as the grants say, on all servers within {RULES_SECONDS} seconds"
    );
    Ok(())
}
