//! The behaviour of the rules of access control, which both databases must share.
//!
//! The functions run on SQLite and PostgreSQL as those of `conformance.rs` do.

use std::collections::BTreeMap;

use esker_access::{
    AccessMode, ColumnMaskRow, CompareOp, FilterExpr, GrantRow, MaskAction, Member, OwnerRow, Privilege, PrivilegeSet, RoleRow,
    RowFilterRow, RuleChange, RuleRows, Securable, SecurableKind,
};
use esker_types::{NamespaceName, TableId, TableName, now_ms};
use uuid::Uuid;

use crate::conformance::{namespace, row, with_namespace};
use crate::{
    AccessChangedData, EventData, NamespaceRow, NewEvent, NewTabular, NewToken, Outbox, SoftDrop, State, StateError,
    StoredPolicy, TabularRow, Warehouse,
};

/// A new entry without an owner, with one place.
pub(crate) fn new_entry(row: &TabularRow, replaces: Option<TableId>, place: String) -> NewTabular {
    NewTabular { row: row.clone(), recorded_output: None, replaces, places: vec![place], claims: Vec::new(), owner: None }
}

fn grant(id: &str, on: Securable, future: Option<SecurableKind>) -> GrantRow {
    let privileges = PrivilegeSet::of(&[Privilege::List, Privilege::ReadData, Privilege::CreateTable]);
    GrantRow { id: id.to_owned(), to: Member::role("readers"), on, privileges, future }
}

fn add(grant: GrantRow) -> RuleChange {
    RuleChange::AddGrant { grant }
}

/// Carries out changes on the present version. Returns the new one.
async fn change(state: &State, changes: &[RuleChange]) -> i64 {
    let (version, _) = state.access().version().await.expect("read");
    state.access().change(version, "ann", changes, &Outbox::default()).await.expect("changed")
}

async fn rows(state: &State) -> RuleRows {
    state.access().rows().await.expect("read")
}

/// The ids of the grants, and the version.
async fn grants(state: &State) -> (Vec<String>, i64) {
    let rows = rows(state).await;
    (rows.grants.into_iter().map(|grant| grant.id).collect(), rows.version)
}

pub(crate) async fn rules_come_back_as_they_were_written(state: &State) {
    let first = RuleRows { version: 1, ..RuleRows::default() };
    assert_eq!((rows(state).await, state.access().mode_ms().await.expect("read")), (first.clone(), 0));
    let (table, view) = (TableId::fresh(), TableId::fresh());
    let user = Member::User { issuer: "https://id".into(), name: "ann".into() };
    let claim = Member::Claim { issuer: "https://id".into(), value: "/ops".into() };
    let on = [
        Securable::Server,
        Securable::Warehouse { warehouse: 3 },
        Securable::Namespace { warehouse: 3, namespace: namespace(&["a", "b"]) },
        Securable::Table { table },
        Securable::View { view },
        Securable::Function { warehouse: 3, namespace: namespace(&["a"]), name: "f".into() },
    ];
    let mut changes = vec![RuleChange::SetMode { mode: AccessMode::Report }];
    changes.extend(["readers", "writers"].map(|role| RuleChange::CreateRole { role: role.to_owned() }));
    let members = [claim, Member::client("etl"), Member::role("writers"), user.clone()];
    changes.extend(members.map(|member| RuleChange::AddMember { role: "readers".to_owned(), member }));
    changes.extend((0..).zip(on).map(|(at, on)| {
        let future = (at == 2).then_some(SecurableKind::Table);
        add(grant(&format!("g{at}"), on, future))
    }));
    changes.push(RuleChange::SetOwner { table, owner: user.clone() });
    let mut expected = first;
    changes.iter().for_each(|change| expected.apply(change).unwrap_or_default());
    // A table does not have the last of the privileges, so `apply` refused some: the database stores what it is given.
    let added = |change: &RuleChange| if let RuleChange::AddGrant { grant } = change { Some(grant.clone()) } else { None };
    expected.grants = changes.iter().filter_map(added).collect();
    expected.version = 2;
    let data = EventData::AccessChanged(AccessChangedData { version: 2, change: changes[1].clone() });
    let event = NewEvent { data, warehouse: String::new(), subject: changes[1].subject(), principal: "ann".to_owned() };
    let outbox = Outbox { events: vec![event], receipts: Vec::new() };
    assert_eq!(state.access().change(1, "ann", &changes, &outbox).await.expect("changed"), 2);
    assert_eq!(rows(state).await, expected);
    assert_eq!(state.access().version().await.expect("read"), (2, AccessMode::Report));
    assert!(state.access().mode_ms().await.expect("read") > 0);
    let events = state.outbox().events_after(0, None, 9).await.expect("events");
    assert_eq!((events.len(), events[0].kind.as_str(), events[0].subject.as_str()), (1, "access.changed", "role readers"));
    assert_eq!(events[0].data["change"]["action"], "create-role");
    let listed = (state.access().roles().await.expect("read"), state.access().members().await.expect("read"));
    assert_eq!((listed.0[0].name.as_str(), listed.0[0].created_by.as_str(), listed.1.len()), ("readers", "ann", 4));

    // What is left after each way to take away.
    let gone = [
        RuleChange::RemoveGrant { id: "g0".into() },
        RuleChange::Revoke {
            to: Member::role("readers"),
            on: Securable::Table { table },
            future: None,
            privileges: Privilege::List.into(),
        },
        RuleChange::RemoveMember { role: "readers".into(), member: Member::client("etl") },
    ];
    gone.iter().for_each(|change| expected.apply(change).expect("applied"));
    change(state, &gone).await;
    assert_eq!(rows(state).await, RuleRows { version: 3, ..expected });
    let dropped = RuleChange::DropRole { role: "readers".into() };
    change(state, std::slice::from_ref(&dropped)).await;
    let owners = vec![OwnerRow { table, owner: user }];
    let roles = vec![RoleRow { name: "writers".into() }];
    let left = RuleRows { version: 4, mode: AccessMode::Report, roles, owners, ..RuleRows::default() };
    assert_eq!(rows(state).await, left);
}

pub(crate) async fn of_two_changes_of_one_version_one_wins(state: &State) {
    let attempts = (0..6).map(|at| {
        let state = state.clone();
        async move {
            let role = format!("r{at}");
            let changes = [RuleChange::CreateRole { role: role.clone() }];
            (role, state.access().change(1, "ann", &changes, &Outbox::default()).await)
        }
    });
    let mut won = Vec::new();
    for (role, result) in futures::future::join_all(attempts).await {
        match result {
            Ok(version) => won.push((role, version)),
            Err(error) => assert!(matches!(error, StateError::RulesChanged), "{error}"),
        }
    }
    let [(role, 2)] = won.as_slice() else { panic!("{won:?}") };
    assert_eq!(rows(state).await.roles, [RoleRow { name: role.clone() }], "the others left nothing");
}

async fn enter(state: &State, warehouse: Warehouse, row: &TabularRow, owner: Option<Member>) {
    let new = NewTabular { owner, ..new_entry(row, None, row.location.clone()) };
    assert!(state.tables().publish(warehouse, &[], &[new], &Outbox::default()).await.expect("entered"));
}

async fn create_namespace(state: &State, warehouse: Warehouse, levels: &[&str]) {
    let row = NamespaceRow { name: namespace(levels), properties: BTreeMap::new(), protected: false };
    state.namespaces().create(warehouse, &row, &Outbox::default(), |_| Outbox::default()).await.expect("created");
}

pub(crate) async fn grants_end_with_what_they_are_on(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let outbox = Outbox::default();
    let tables = [row(warehouse, &n, "t"), row(warehouse, &n, "u"), row(warehouse, &n, "kept")];
    for table in &tables {
        enter(state, warehouse, table, Some(Member::client("etl"))).await;
    }
    let function = TableName::new(n.clone(), "f").expect("valid");
    state.namespaces().put_function(warehouse, &function, "{}", &outbox).await.expect("stored");
    create_namespace(state, warehouse, &["n", "m"]).await;
    let m = namespace(&["n", "m"]);
    let on_namespace = |name: &NamespaceName| Securable::Namespace { warehouse: warehouse.id, namespace: name.clone() };
    let on_function = Securable::Function { warehouse: warehouse.id, namespace: n.clone(), name: "f".into() };
    let changes = [
        add(grant("a", tables[0].securable(), None)),
        add(grant("b", tables[1].securable(), None)),
        add(grant("c", tables[2].securable(), None)),
        add(grant("d", on_namespace(&m), Some(SecurableKind::View))),
        add(grant("e", on_namespace(&n), None)),
        add(grant("f", on_function, None)),
    ];
    let version = change(state, &changes).await;

    // A drop that can be undone ends nothing; its end does.
    let keep = SoftDrop { purge: true, principal: "p".into(), expires_ms: 0 };
    assert!(state.tables().drop(&tables[0], None, &[], Some(&keep), &outbox).await.expect("dropped"));
    assert_eq!(grants(state).await, (["a", "b", "c", "d", "e", "f"].map(str::to_owned).to_vec(), version));
    assert!(state.tables().end_drop(tables[0].id, &[], &outbox).await.expect("ended"));
    assert!(state.tables().drop(&tables[1], None, &[], None, &outbox).await.expect("dropped"));
    state.namespaces().drop_function(warehouse, &function, &outbox).await.expect("dropped");
    state.namespaces().drop(warehouse, &m, &outbox).await.expect("dropped");
    assert_eq!(grants(state).await, (["c", "e"].map(str::to_owned).to_vec(), version + 4), "each is a new version");
    assert_eq!(rows(state).await.owners, [OwnerRow { table: tables[2].id, owner: Member::client("etl") }]);
    let listed = state.access().grants().await.expect("read");
    let names: Vec<_> = listed.iter().map(|grant| grant.tabular.as_ref().map(|(_, name)| name.to_string())).collect();
    assert_eq!(names, [Some("n.kept".to_owned()), None]);

    // An entry that takes the place of another one has other rights, and nothing else changes the version.
    let again = row(warehouse, &n, "kept");
    let new = new_entry(&again, Some(tables[2].id), again.location.clone());
    assert!(state.tables().publish(warehouse, &[], &[new], &outbox).await.expect("entered"));
    create_namespace(state, warehouse, &["o"]).await;
    assert_eq!(grants(state).await, (vec!["e".to_owned()], version + 5));
    assert!(rows(state).await.owners.is_empty());
}

/// A filter that has every kind of predicate.
fn filter(id: &str, table: TableId, to: Member) -> RowFilterRow {
    let is = |field_id: i32, value: serde_json::Value| FilterExpr::Compare { op: CompareOp::LtEq, field_id, value };
    let some = FilterExpr::any([
        is(1, 9_007_199_254_740_993_i64.into()),
        FilterExpr::In { field_id: 2, values: vec!["it's \"quoted\"".into(), "b".into()], negated: true },
        FilterExpr::StartsWith { field_id: 2, prefix: "100%".into(), negated: false },
        FilterExpr::Not(Box::new(FilterExpr::all([FilterExpr::IsNan(3), FilterExpr::NotNull(4)]))),
    ]);
    RowFilterRow { id: id.to_owned(), table, to, filter: some }
}

fn mask(table: TableId, field_id: i32, action: MaskAction, except: &[Member]) -> ColumnMaskRow {
    ColumnMaskRow { table, field_id, action, except: except.to_vec() }
}

pub(crate) async fn filters_and_masks_come_back_and_end_with_their_table(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let (table, kept) = (row(warehouse, &n, "t"), row(warehouse, &n, "kept"));
    for one in [&table, &kept] {
        enter(state, warehouse, one, None).await;
    }
    let user = Member::User { issuer: "https://id".into(), name: "ann".into() };
    let claim = Member::Claim { issuer: "https://id".into(), value: "/ops".into() };
    let mut changes = vec![
        RuleChange::SetRowFilter { filter: filter("f1", table.id, user.clone()) },
        RuleChange::SetRowFilter { filter: filter("f2", table.id, Member::client("etl")) },
        RuleChange::SetRowFilter { filter: RowFilterRow { filter: FilterExpr::True, ..filter("f3", kept.id, claim.clone()) } },
    ];
    changes.extend((1..).zip(MaskAction::ALL).map(|(field_id, action)| {
        let except = [user.clone(), claim.clone(), Member::client("etl"), Member::role("esker:admin")];
        RuleChange::SetColumnMask { mask: mask(table.id, field_id, action, &except) }
    }));
    changes.push(RuleChange::SetColumnMask { mask: mask(kept.id, 7, MaskAction::ReplaceWithNull, &[]) });
    let mut expected = rows(state).await;
    changes.iter().for_each(|change| expected.apply(change).expect("applied"));
    // The ids of entries rise, so the order of the rows is that of the changes.
    expected.version = change(state, &changes).await;
    assert_eq!(rows(state).await, expected);
    let stored = (state.access().row_filters().await.expect("read"), state.access().column_masks().await.expect("read"));
    assert_eq!((stored.0[0].created_by.as_str(), stored.1[0].created_by.as_str()), ("ann", "ann"));
    assert!(stored.0[0].created_ms > 0 && stored.1[0].created_ms > 0);

    // A filter is replaced by its id, a mask by its field; both are removed on their table only.
    let again = [
        RuleChange::SetRowFilter { filter: RowFilterRow { filter: FilterExpr::False, ..filter("f1", table.id, user) } },
        RuleChange::SetColumnMask { mask: mask(table.id, 1, MaskAction::Sha256Global, &[]) },
        RuleChange::RemoveRowFilter { table: table.id, id: "f2".into() },
        RuleChange::RemoveColumnMask { table: table.id, field_id: 7 },
    ];
    again.iter().for_each(|change| expected.apply(change).expect("applied"));
    expected.version = change(state, &again).await;
    assert_eq!(rows(state).await, expected);

    // An entry that is registered in the place of a table has its restrictions.
    let again = TabularRow { id: TableId::fresh(), ..table.clone() };
    let new = new_entry(&again, Some(table.id), again.location.clone());
    assert!(state.tables().publish(warehouse, &[], &[new], &Outbox::default()).await.expect("registered"));
    let moved = rows(state).await;
    let of = |rows: &RuleRows, id: TableId| {
        (rows.filters.iter().filter(|row| row.table == id).count(), rows.masks.iter().filter(|row| row.table == id).count())
    };
    assert_eq!((of(&moved, again.id), of(&moved, table.id)), (of(&expected, table.id), (0, 0)));
    assert!(moved.version > expected.version);
    let (table, expected) = (again, moved);

    // A drop that can be undone ends nothing; its end does.
    let keep = SoftDrop { purge: true, principal: "p".into(), expires_ms: 0 };
    assert!(state.tables().drop(&table, None, &[], Some(&keep), &Outbox::default()).await.expect("dropped"));
    assert_eq!(rows(state).await, expected);
    assert!(state.tables().end_drop(table.id, &[], &Outbox::default()).await.expect("ended"));
    let left = rows(state).await;
    let tables: Vec<TableId> = left.filters.iter().map(|row| row.table).chain(left.masks.iter().map(|row| row.table)).collect();
    assert_eq!((tables, left.version), (vec![kept.id, kept.id], expected.version + 1));
}

pub(crate) async fn policies_come_back_as_they_were_set(state: &State) {
    let set = |name: &str, text: &str| RuleChange::SetPolicy { name: name.to_owned(), text: text.to_owned() };
    let only_tls = "// it's ü\n@id(\"a\")\nforbid (principal, action, resource is Esker::Table)\r\nunless { context.tls };\n";
    let (first, second) = (set("b it's", only_tls), set("B", "permit (principal, action, resource);"));
    let mut expected = rows(state).await;
    let changes = [first, second, set("ä", &format!("// {}\n{only_tls}", "x".repeat(60_000)))];
    changes.iter().for_each(|change| expected.apply(change).expect("applied"));
    expected.policies.sort_by(|a, b| a.name.cmp(&b.name));
    expected.version = change(state, &changes).await;
    assert_eq!(rows(state).await, expected);
    let names = |policies: &[StoredPolicy]| policies.iter().map(|policy| policy.name.clone()).collect::<Vec<_>>();
    let stored = state.access().policies().await.expect("read");
    assert_eq!(names(&stored), ["B", "b it's", "ä"], "by their bytes");
    assert_eq!((stored[1].text.as_str(), stored[1].changed_by.as_str()), (only_tls, "ann"));
    assert!(stored[1].changed_ms > 0);
    assert_eq!(state.access().policy("b it's").await.expect("read").as_ref(), Some(&stored[1]));
    assert_eq!(state.access().policy("B it's").await.expect("read"), None, "the case of a name counts");

    // A text is replaced by its name, with who replaced it.
    let again = [set("B", "forbid (principal, action, resource is Esker::View);"), RuleChange::RemovePolicy { name: "ä".into() }];
    again.iter().for_each(|change| expected.apply(change).expect("applied"));
    expected.policies.sort_by(|a, b| a.name.cmp(&b.name));
    let version = state.access().change(expected.version, "ben", &again, &Outbox::default()).await.expect("changed");
    assert_eq!(rows(state).await, RuleRows { version, ..expected });
    let left = state.access().policies().await.expect("read");
    assert_eq!((names(&left), left[0].changed_by.as_str()), (vec!["B".to_owned(), "b it's".to_owned()], "ben"));
    assert_eq!(left[1], stored[1]);
}

pub(crate) async fn new_things_copy_grants_on_future_ones(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let on = |levels: &[&str]| Securable::Namespace { warehouse: warehouse.id, namespace: namespace(levels) };
    enter(state, warehouse, &row(warehouse, &n, "old"), None).await;
    let other = Securable::Warehouse { warehouse: warehouse.id + 1 };
    let changes = [
        add(grant("a", Securable::Warehouse { warehouse: warehouse.id }, Some(SecurableKind::Table))),
        add(grant("b", on(&["n"]), Some(SecurableKind::Table))),
        add(grant("c", on(&["n", "m"]), Some(SecurableKind::Table))),
        add(grant("d", other, Some(SecurableKind::Table))),
        add(grant("g", on(&["nn"]), Some(SecurableKind::Table))),
        add(grant("e", on(&["n"]), Some(SecurableKind::Namespace))),
        add(grant("f", Securable::Server, Some(SecurableKind::Function))),
    ];
    let version = change(state, &changes).await;
    let table = row(warehouse, &n, "t");
    enter(state, warehouse, &table, None).await;
    let copies = async || {
        let all = state.access().grants().await.expect("read").into_iter();
        all.filter_map(|grant| grant.copied_from.clone().map(|from| (from, grant.row))).collect::<Vec<_>>()
    };
    let made = copies().await;
    let from: Vec<&str> = made.iter().map(|(from, _)| from.as_str()).collect();
    assert_eq!(from, ["a", "b"], "the namespaces around the new table, and nothing that was there before");
    assert_eq!(made[0].1.on, table.securable());
    let expected = PrivilegeSet::of(&[Privilege::List, Privilege::ReadData]);
    assert_eq!((made[0].1.privileges, made[0].1.future), (expected, None), "a table has no CREATE_TABLE");
    assert_eq!(rows(state).await.version, version + 1);

    create_namespace(state, warehouse, &["n", "m", "k"]).await;
    let function = TableName::new(n.clone(), "f").expect("valid");
    for _ in 0..2 {
        state.namespaces().put_function(warehouse, &function, "{}", &Outbox::default()).await.expect("stored");
    }
    let made = copies().await;
    let on: Vec<&Securable> = made[2..].iter().map(|(_, grant)| &grant.on).collect();
    let of_namespace = |levels: &[&str]| Securable::Namespace { warehouse: warehouse.id, namespace: namespace(levels) };
    let of_function = Securable::Function { warehouse: warehouse.id, namespace: n, name: "f".into() };
    let expected = [of_namespace(&["n", "m"]), of_namespace(&["n", "m", "k"]), of_function];
    assert_eq!(on, expected.iter().collect::<Vec<_>>(), "a new version is no new function");

    // A dropped table that comes back has its grants, and no second copy.
    let keep = SoftDrop { purge: false, principal: "p".into(), expires_ms: now_ms() + 60_000 };
    assert!(state.tables().drop(&table, None, &[], Some(&keep), &Outbox::default()).await.expect("dropped"));
    state.tables().undrop(warehouse, table.id, &table.name, &Outbox::default()).await.expect("undropped");
    assert_eq!(copies().await.len(), 5);
}

pub(crate) async fn clients_of_a_time_had_no_token_before(state: &State) {
    let token = async |principal: &str, created_ms: i64, expires_ms: Option<i64>| {
        let id = Uuid::now_v7().to_string();
        let token = NewToken {
            id: &id,
            token_sha256: &id,
            principal_kind: "client",
            principal,
            issuer: "",
            claims: "[]",
            label: "",
            root_id: &id,
            created_ms,
            expires_ms,
            root_expires_ms: expires_ms,
        };
        state.tokens().insert(&token, None).await.expect("inserted");
        id
    };
    token("old", 1000, None).await;
    token("old", 3000, None).await;
    token("new", 3000, None).await;
    token("ended", 3000, Some(4000)).await;
    let revoked = token("revoked", 3000, None).await;
    assert!(state.tokens().revoke(&revoked).await.expect("revoked"));
    state.principals().put("first", "sha").await.expect("made");
    let clients = async |since| state.tokens().clients(since, 5000).await.expect("read");
    assert_eq!(clients(0).await, ["first", "new", "old"]);
    assert_eq!(clients(2000).await, ["first", "new"]);
    assert_eq!(clients(now_ms() + 60_000).await, Vec::<String>::new());
}
