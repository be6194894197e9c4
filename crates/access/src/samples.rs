//! Rules and callers that the tests of this crate share.

use std::sync::Arc;

use esker_types::{NamespaceName, TableId};
use uuid::Uuid;

use crate::{GrantRow, Identity, Member, MemberRow, PrivilegeSet, ResourcePath, RoleRow, RuleRows, Rules, Securable, Subject};

/// The id of the table `n` of the samples.
pub(crate) fn table(n: u128) -> TableId {
    TableId(Uuid::from_u128(n))
}

/// The namespace with a key.
pub(crate) fn namespace(key: &str) -> NamespaceName {
    NamespaceName::from_key(key).expect("a key")
}

/// The path to the table `raw.crm.orders`, which has the id 1.
pub(crate) fn orders() -> ResourcePath<'static> {
    ResourcePath::warehouse(1, "lake").namespace("raw\u{1f}crm").table(table(1), "orders")
}

/// A grant to a member.
pub(crate) fn grant(id: &str, to: Member, on: Securable, privileges: PrivilegeSet) -> GrantRow {
    GrantRow { id: id.to_owned(), to, on, privileges, future: None }
}

/// Rows with roles `readers` and `writers`, of which the writers are readers too.
pub(crate) fn rows(grants: Vec<GrantRow>) -> RuleRows {
    let roles = ["readers", "writers"].map(|name| RoleRow { name: name.to_owned() }).to_vec();
    let member = |role: &str, member| MemberRow { role: role.to_owned(), member };
    let members = vec![
        member("readers", Member::role("writers")),
        member("writers", Member::client("etl")),
        member("readers", Member::client("bi")),
        member("esker:admin", Member::client("root")),
        member("esker:break-glass", Member::client("break-glass-1")),
    ];
    RuleRows { version: 7, mode: crate::AccessMode::On, roles, members, grants, ..RuleRows::default() }
}

/// A client under the rules that rows make.
pub(crate) fn client(rows: RuleRows, name: &str) -> Subject {
    Subject::new(Arc::new(Rules::build(rows).expect("rules")), Identity::client(name))
}
