//! Random grants, printed as policies: `cedar-policy` decides on the text as the grants do.

use std::collections::HashMap;
use std::sync::Arc;

use esker_access::{
    AccessMode, GrantRow, Member, MemberRow, Privilege, PrivilegeSet, RESERVED_ROLES, ResourcePath, RoleRow, RuleRows, Rules,
    Securable, Subject, grants_as_policies,
};
use esker_types::{NamespaceName, TableId};
use uuid::Uuid;

use crate::random::Random;
use crate::reference;
use crate::requests::{Asked, CLIENTS, ISSUER, ROLES, random_request};

/// Privileges that are granted.
const GRANTED: [Privilege; 4] = [Privilege::ReadData, Privilege::List, Privilege::Drop, Privilege::Use];

/// Returns the securable at the end of a path. Warehouses and things of other names have other ids.
fn end(path: &ResourcePath<'_>) -> Securable {
    let text = path.text();
    let id = TableId(Uuid::from_u128(text.bytes().fold(0, |id, byte| (id * 131 + u128::from(byte)) % (1 << 96))));
    let warehouse = path.warehouse_part().map_or(0, |(id, _)| id);
    let namespace = || NamespaceName::from_key(path.namespace_part().expect("a namespace")).expect("levels");
    match (path.leaf(), path.namespace_part(), path.warehouse_part()) {
        (Some(esker_access::Leaf::Table { .. }), ..) => Securable::Table { table: id },
        (Some(esker_access::Leaf::View { .. }), ..) => Securable::View { view: id },
        (Some(esker_access::Leaf::Function { name }), ..) => {
            Securable::Function { warehouse, namespace: namespace(), name: name.to_owned() }
        }
        (None, Some(_), _) => Securable::Namespace { warehouse, namespace: namespace() },
        (None, None, Some(_)) => Securable::Warehouse { warehouse },
        (None, None, None) => Securable::Server,
    }
}

/// Returns a path with ids that depend on the names, so that things of different names are different.
fn with_ids(path: &ResourcePath<'static>) -> ResourcePath<'static> {
    let Some((_, warehouse)) = path.warehouse_part() else { return ResourcePath::SERVER };
    let of_warehouse = ResourcePath::warehouse(if warehouse == "lake" { 1 } else { 2 }, warehouse);
    let Some(key) = path.namespace_part() else { return of_warehouse };
    let here = of_warehouse.namespace(key);
    match (path.leaf(), end(path)) {
        (Some(esker_access::Leaf::Table { name, .. }), Securable::Table { table }) => here.table(table, name),
        (Some(esker_access::Leaf::View { name, .. }), Securable::View { view }) => here.view(view, name),
        (Some(esker_access::Leaf::Function { name }), _) => here.function(name),
        _ => here,
    }
}

/// Makes grants and compares what they allow with what `cedar-policy` allows by the printed text.
///
/// # Errors
///
/// Returns the first difference.
pub fn compare(random: &mut Random) -> Result<(), String> {
    let asked: Vec<Asked> =
        (0..6).map(|_| random_request(random)).map(|asked| Asked { on: with_ids(&asked.on), ..asked }).collect();
    let own: Vec<&str> = ROLES.into_iter().filter(|role| !RESERVED_ROLES.contains(role)).collect();
    let claim = Member::Claim { issuer: ISSUER.to_owned(), value: "eng".to_owned() };
    let mut names = HashMap::new();
    let mut grants = Vec::new();
    for n in 0..8 {
        let path = asked[n % asked.len()].on;
        // Often on what contains the securable of a request.
        let steps: Vec<_> = path.steps().collect();
        let step = random.pick(&steps);
        names.insert(end(&step), step.dotted());
        let to = match random.below(5) {
            0 => Member::client(random.pick(&CLIENTS)),
            1 => claim.clone(),
            _ => Member::role(random.pick(&ROLES)),
        };
        let privileges: PrivilegeSet = (0..2).map(|_| random.pick(&GRANTED)).collect();
        grants.push(GrantRow { id: format!("g{n}"), to, on: end(&step), privileges, future: None });
    }
    let mut rows = RuleRows {
        mode: AccessMode::On,
        roles: own.iter().map(|name| RoleRow { name: (*name).to_owned() }).collect(),
        grants,
        ..RuleRows::default()
    };
    let text = grants_as_policies(&rows, &|thing| names.get(thing).cloned());
    for asked in asked {
        let member = |role: &&str| Some(MemberRow { role: (*role).to_owned(), member: asked.identity.principal()? });
        let held = own.iter().filter(|role| asked.roles.iter().any(|has| has == **role));
        rows.members = held.filter_map(member).collect();
        let rules = Rules::build(rows.clone()).map_err(|e| e.to_string())?;
        let subject = Subject::new(Arc::new(rules), asked.identity.clone());
        let roles = subject.roles().map(str::to_owned).collect();
        let asked = Asked { roles, ..asked };
        let granted = subject.granted(&asked.on).has(asked.privilege);
        if reference::allows(&text, &asked) != granted {
            return Err(format!("{asked:?}\nallowed by the grants: {granted}\n{text}"));
        }
    }
    Ok(())
}
