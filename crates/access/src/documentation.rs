//! Checks that `docs/security/access.md` and `policies.md` beside it say what the code does.

use std::fmt::Write as _;

use crate::samples::rows;
use crate::{Bundle, Privilege, PrivilegeGroup, PrivilegeSet, RESERVED_ROLES, RuleChange, Rules, SecurableKind, check_policy};

fn privilege_table() -> String {
    let mut table = "| group | privilege | allows to | on |\n|---|---|---|---|\n".to_owned();
    for privilege in Privilege::ALL {
        let kinds = SecurableKind::ALL.into_iter().filter(|kind| kind.privileges().has(privilege));
        let kinds: Vec<_> = kinds.map(SecurableKind::as_str).collect();
        let on = match (privilege.group(), kinds.len()) {
            (PrivilegeGroup::Server, _) => "server".to_owned(),
            (_, count) if count == SecurableKind::ALL.len() => "all".to_owned(),
            _ => kinds.join(", "),
        };
        let (first, rest) = privilege.meaning().split_at(1);
        let (group, first) = (privilege.group().as_str(), first.to_lowercase());
        writeln!(table, "| {group} | `{privilege}` | {first}{rest} | {on} |").expect("a string");
    }
    table
}

fn bundle_table() -> String {
    let mut table = "| bundle | on a table |\n|---|---|\n".to_owned();
    for bundle in [Bundle::Select, Bundle::Insert, Bundle::Write] {
        let privileges = bundle.privileges(SecurableKind::Table, PrivilegeSet::EMPTY).iter();
        let names: Vec<_> = privileges.map(|privilege| format!("`{privilege}`")).collect();
        writeln!(table, "| `{bundle}` | {} |", names.join(", ")).expect("a string");
    }
    table
}

#[test]
fn the_page_about_access_lists_what_the_code_has() {
    let path = format!("{}/../../docs/security/access.md", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    for table in [privilege_table(), bundle_table()] {
        assert!(page.contains(&table), "docs/security/access.md does not have this table:\n{table}");
    }
    for name in RESERVED_ROLES.into_iter().chain(Bundle::ALL.map(Bundle::as_str)) {
        assert!(page.contains(&format!("`{name}`")), "docs/security/access.md does not name {name}");
    }
}

/// The page about access policies.
const POLICIES: &str = "docs/security/policies.md";

fn page_about_policies() -> String {
    let path = format!("{}/../../{POLICIES}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Returns the rows of the page's tables whose first cell names something in code, as cells without backquotes.
fn rows_of(page: &str) -> Vec<Vec<String>> {
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.replace('`', "").trim().to_owned()).collect()).collect()
}

#[test]
fn each_policy_of_the_page_can_be_set_and_locks_nobody_out() {
    let page = page_about_policies();
    let fences = page.split("```cedar\n").skip(1).map(|rest| rest.split_once("```").expect("the fence ends").0);
    let shown = page.split("<<'END'\n").skip(1).map(|rest| rest.split_once("END\n").expect("the file ends").0);
    let texts: Vec<&str> = shown.chain(fences).collect();
    assert!(texts.len() > 10, "{POLICIES} has {} texts", texts.len());
    for text in texts {
        let mut rows = rows(Vec::new());
        let change = RuleChange::SetPolicy { name: "example".to_owned(), text: text.to_owned() };
        rows.apply(&change).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let rules = Rules::build(rows).expect("rules");
        assert!(!rules.holders(Privilege::ManageAccess).is_empty(), "nobody could manage access any more:\n{text}");
    }
}

#[test]
fn the_page_about_policies_lists_the_schema() {
    const PRINCIPALS: [&str; 3] = ["Esker::Client", "Esker::User", "Esker::Anonymous"];
    const ATTRIBUTES: [&str; 5] = ["issuer", "subject", "name", "warehouse", "namespace"];
    const FACTS: [&str; 4] = ["ip", "tls", "operation", "engine"];
    let check = |scope: &str, condition: &str| check_policy("page", &format!("permit ({scope}) when {{ {condition} }};"));
    let page = page_about_policies();
    let schema = page.split("## The schema").nth(1).and_then(|rest| rest.split("## Examples").next()).expect("a section");
    let (entities, facts): (Vec<_>, Vec<_>) = rows_of(schema).into_iter().partition(|row| row[0].starts_with("Esker::"));
    let mut documented = Vec::new();
    for row in &entities {
        for kind in row[0].split(", ") {
            documented.push(kind);
            let is_principal = PRINCIPALS.contains(&kind);
            let (scope, variable) = match kind {
                "Esker::Role" | "Esker::Claim" => {
                    assert_eq!(row[2], "", "{kind} has no attributes");
                    continue;
                }
                _ if is_principal => (format!("principal is {kind}, action, resource"), "principal"),
                _ => (format!("principal, action, resource is {kind}"), "resource"),
            };
            for attribute in ATTRIBUTES {
                let is_documented = row[2].split(", ").any(|named| named == attribute);
                let checked = check(&scope, &format!("{variable}.{attribute} == \"x\""));
                assert_eq!(checked.is_ok(), is_documented, "{kind} {attribute}: {checked:?}");
            }
        }
    }
    let all = "Client User Anonymous Role Claim Server Warehouse Namespace Table View Function";
    assert_eq!(documented, all.split(' ').map(|kind| format!("Esker::{kind}")).collect::<Vec<_>>());
    let named: Vec<&str> = facts.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(named, FACTS);
    for row in &facts {
        let (fact, is_optional) = (&row[0], row[1].ends_with(", optional"));
        let read = format!("context.{fact} == context.{fact}");
        let alone = check("principal, action, resource", &read);
        assert_eq!(alone.is_err(), is_optional, "{fact}: {alone:?}");
        let guarded = check("principal, action, resource", &format!("context has {fact} && {read}"));
        assert!(guarded.is_ok(), "{fact}: {guarded:?}");
    }
    let unknown = check("principal, action, resource", "context.colour == \"red\"").expect_err("no such attribute").to_string();
    for fact in FACTS {
        assert!(unknown.contains(fact), "the error names what is known: {unknown}");
    }
}
