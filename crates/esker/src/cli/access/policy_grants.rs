//! `esker access policy grants`: the grants in the form of access policies.

use std::collections::HashMap;

use esker_access::{GrantRow, Member, PrivilegeSet, RuleRows, Securable, SecurableKind, grants_as_policies};
use serde::Deserialize;
use serde_json::json;

use crate::Result;
use crate::cli::client::Client;
use crate::cli::{print_json, print_line};

/// A grant in the server's list, as far as a policy needs it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ListedGrant {
    /// The id of the grant.
    id: String,
    /// The holder of the privileges.
    to: Member,
    /// The thing, by its id.
    on: Securable,
    /// Kind and present name of the thing; `None` if it has none on the server.
    on_name: Option<String>,
    /// The privileges.
    privileges: PrivilegeSet,
    /// The kind of the things that get a copy of the grant.
    future: Option<SecurableKind>,
}

/// Returns the policies that say what grants say.
fn text_of(grants: Vec<ListedGrant>) -> String {
    let (mut names, mut rows) = (HashMap::new(), RuleRows::default());
    for ListedGrant { id, to, on, on_name, privileges, future } in grants {
        if let Some(name) = on_name {
            // The kind comes first. The server has no name.
            let name = name.split_once(' ').map_or("", |(_, name)| name).to_owned();
            names.insert(on.clone(), name);
        }
        rows.grants.push(GrantRow { id, to, on, privileges, future });
    }
    grants_as_policies(&rows, &|thing| names.get(thing).cloned())
}

/// Prints the grants as policies.
pub(super) async fn print(client: &Client) -> Result<()> {
    let text = text_of(client.get("/api/v1/access/grants").await?);
    if client.prints_json() {
        return print_json(&json!({"text": text}));
    }
    print_line("// The grants of this server as access policies. Tables are named as they are now. Owners are not among them.");
    print_line(text.trim_end());
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_listed_grant_is_a_policy_about_its_present_name() {
        let grant = |id: &str, on: Value, name: Value| {
            json!({"id": id, "to": {"kind": "role", "name": "readers"}, "on": on, "on-name": name, "privileges": ["READ_DATA"],
                "future": null, "copied-from": null, "created-by": "admin", "created-ms": 1})
        };
        let table = json!({"kind": "table", "table": "01234567-89ab-7def-8123-456789abcdef"});
        let gone = json!({"kind": "table", "table": "11234567-89ab-7def-8123-456789abcdef"});
        let listed = json!([
            grant("g1", table, json!("table lake.\"a b\".orders")),
            grant("g2", json!({"kind": "server"}), json!("server")),
            grant("g3", gone, Value::Null),
        ]);
        let text = text_of(serde_json::from_value(listed).expect("grants"));
        assert!(text.contains("resource == Esker::Table::\"lake.\\\"a b\\\".orders\""), "{text}");
        assert!(text.contains("@id(\"g2\")\npermit (\n  principal in Esker::Role::\"readers\","), "{text}");
        assert!(text.contains("// grant g3 of READ_DATA to role readers: its table has no name here"), "{text}");
        esker_access::check_policy("grants", &text).expect("it can be set");
    }
}
