//! Checks that `docs/security/access.md` says what the code does.

use std::fmt::Write as _;

use crate::{Bundle, Privilege, PrivilegeGroup, PrivilegeSet, RESERVED_ROLES, SecurableKind};

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
