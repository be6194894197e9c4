//! `esker access policy`: access policies in the language Cedar, over the management API.
//!
//! A file has the text of one access policy, which may be several policies of the language.

use std::path::Path;

use clap::Subcommand;
use esker_access::check_policy;
use serde_json::{Value, json};

use super::{done, policy_grants, text};
use crate::cli::client::{Client, encode};
use crate::cli::jobs::format_time;
use crate::cli::{print_json, print_line};
use crate::{Error, Result};

/// The commands of `esker access policy`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum AccessPolicyCommand {
    /// List the access policies.
    List,
    /// Print the text of an access policy.
    Show {
        /// The name of the access policy.
        name: String,
    },
    /// Add an access policy, or replace its text: esker access policy set only-tls only-tls.cedar
    Set {
        /// The name of the access policy.
        name: String,
        /// The file with its text; - for standard input.
        file: String,
    },
    /// Remove an access policy.
    Remove {
        /// The name of the access policy.
        name: String,
    },
    /// Check the text of an access policy, and change nothing. Needs no server.
    Check {
        /// The file with the text; - for standard input.
        file: String,
    },
    /// Print the grants in the form of access policies.
    Grants,
}

/// The route of the access policies.
const POLICIES: &str = "/api/v1/access/policies";

/// The file that stands for standard input.
const STANDARD_INPUT: &str = "-";

/// Returns the path of an access policy.
fn path_of(name: &str) -> String {
    format!("{POLICIES}/{}", encode(name))
}

/// Reads the text of an access policy.
fn read(file: &str) -> Result<String> {
    let (path, read) = match file {
        STANDARD_INPUT => ("standard input", std::io::read_to_string(std::io::stdin())),
        file => (file, std::fs::read_to_string(file)),
    };
    read.map_err(|source| Error::Io { path: path.to_owned(), source })
}

/// Returns the name that errors of a file's text have: that of the file, without its ending.
fn name_of(file: &str) -> &str {
    match file {
        STANDARD_INPUT => "input",
        file => Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or(file),
    }
}

/// Prints the list of the access policies.
async fn list(client: &Client) -> Result<()> {
    let policies: Vec<Value> = client.get(POLICIES).await?;
    if client.prints_json() {
        return print_json(&policies);
    }
    print_line(&format!("{:<32}  {:<24}  changed", "policy", "changed by"));
    for policy in &policies {
        let (by, at) = (text(policy, "changed-by"), format_time(&policy["changed-ms"]));
        print_line(&format!("{:<32}  {by:<24}  {at}", text(policy, "name")));
    }
    Ok(())
}

/// Prints the text of an access policy as it was set, so that it can be changed and set again.
async fn show(client: &Client, name: &str) -> Result<()> {
    let policy: Value = client.get(&path_of(name)).await?;
    match client.prints_json() {
        true => print_json(&policy),
        false => {
            print_line(text(&policy, "text").trim_end_matches('\n'));
            Ok(())
        }
    }
}

impl AccessPolicyCommand {
    /// Carries out the command.
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::List => list(client).await,
            Self::Show { name } => show(client, &name).await,
            Self::Set { name, file } => {
                let policy: Value = client.put(&path_of(&name), &json!({"text": read(&file)?})).await?;
                done(client, &format!("set the access policy {name}"), &policy)
            }
            Self::Remove { name } => {
                client.delete(&path_of(&name)).await?;
                done(client, &format!("removed the access policy {name}"), &json!({"policy": name}))
            }
            Self::Check { file } => {
                check_policy(name_of(&file), &read(&file)?).map_err(|e| Error::Usage(e.to_string()))?;
                done(client, &format!("{file} can be set"), &json!({"file": file, "valid": true}))
            }
            Self::Grants => policy_grants::print(client).await,
        }
    }
}
