//! Random rules and statements over a small catalog, against a plain model of what exists for whom.
//!
//! The model has no index: it looks at every grant, membership and owner. `ESKER_RULES` is the number of random rules (10; `make soak`
//! runs 2,000), `ESKER_SEED` the first seed.

use std::collections::BTreeSet;

use arrow_flight::sql::client::FlightSqlServiceClient;
use esker_access::{
    ADMIN, AccessMode, Bundle, EVERYONE, GrantRow, Member, Privilege, PrivilegeSet, RuleChange, Securable, SecurableKind,
};
use esker_state::Outbox;
use esker_tests::TestApp;
use esker_types::{NamespaceName, TableId, TableName};
use tonic::transport::Channel;

use super::make_token;
use super::sql::run;
use crate::histories::Random;

/// The tables, each with the name that statements have. The second namespace lies in the first.
const TABLES: [&str; 4] = ["red.orders", "red.eu.items", "red.eu.people", "blue.notes"];

/// The privileges that random grants have.
const PRIVILEGES: [Privilege; 6] =
    [Privilege::Use, Privilege::List, Privilege::ReadMetadata, Privilege::ReadData, Privilege::Modify, Privilege::ManageGrants];

/// Statements on a table, with what each needs there. `<n>` and `<t>` stand for the namespace and the table.
const STATEMENTS: [(&str, &[Privilege]); 6] = [
    ("SELECT id FROM <n>.<t>", &[Privilege::ReadData]),
    ("SELECT 1 WHERE EXISTS (SELECT 1 FROM <n>.<t>)", &[Privilege::ReadData]),
    ("DESCRIBE <n>.<t>", &[Privilege::ReadMetadata]),
    ("SELECT count(*) FROM <n>.\"<t>$snapshots\"", &[Privilege::ReadMetadata]),
    ("DELETE FROM <n>.<t> WHERE id < 0", &[Privilege::ReadData, Privilege::Modify]),
    ("SHOW GRANTS ON TABLE <n>.<t>", &[Privilege::ManageGrants]),
];

/// Rules that matter to the client `bi`.
#[derive(Debug, Clone)]
struct RandomRules {
    grants: Vec<GrantRow>,
    /// Members of roles.
    members: Vec<(&'static str, Member)>,
    /// The tables that `bi` owns, by their places in [`TABLES`].
    owned: BTreeSet<usize>,
}

/// The things of the catalog.
struct Things {
    warehouse: i64,
    /// The names and ids of the tables, as in [`TABLES`].
    tables: Vec<(TableName, TableId)>,
}

impl Things {
    /// Returns everything that a grant can be on.
    fn all(&self) -> Vec<Securable> {
        let warehouse = self.warehouse;
        let namespaces: BTreeSet<NamespaceName> = self.tables.iter().map(|(name, _)| name.namespace.clone()).collect();
        let namespaces = namespaces.into_iter().map(|namespace| Securable::Namespace { warehouse, namespace });
        let tables = self.tables.iter().map(|(_, table)| Securable::Table { table: *table });
        [Securable::Server, Securable::Warehouse { warehouse }].into_iter().chain(namespaces).chain(tables).collect()
    }

    /// Checks that a grant on a thing counts for a table.
    fn covers(&self, on: &Securable, at: usize) -> bool {
        let (name, id) = &self.tables[at];
        match on {
            Securable::Server | Securable::Warehouse { .. } => true,
            Securable::Namespace { namespace, .. } => name.namespace.levels().starts_with(namespace.levels()),
            Securable::Table { table } => table == id,
            Securable::View { .. } | Securable::Function { .. } => false,
        }
    }
}

impl RandomRules {
    fn of(random: &mut Random, things: &Things) -> Self {
        let pick = |random: &mut Random, n: usize| usize::try_from(random.below(n as u64)).expect("small");
        let places = things.all();
        let roles = ["one", "two", EVERYONE].map(Member::role);
        let holders = ["bi", "other"].map(Member::client).into_iter().chain(roles).collect::<Vec<_>>();
        let mut rules = Self { grants: Vec::new(), members: Vec::new(), owned: BTreeSet::new() };
        for _ in 0..pick(random, 7) {
            let on = places[pick(random, places.len())].clone();
            let privileges = (0..=pick(random, 3)).map(|_| PRIVILEGES[pick(random, PRIVILEGES.len())]).collect();
            // A grant on future things counts for none of those that exist.
            let future = (on.kind() == SecurableKind::Namespace && random.one_in(5)).then_some(SecurableKind::Table);
            let (id, to) = (uuid::Uuid::now_v7().to_string(), holders[pick(random, holders.len())].clone());
            rules.grants.push(GrantRow { id, to, on, privileges, future });
        }
        for (role, member) in [("one", Member::client("bi")), ("two", Member::client("bi")), ("two", Member::role("one"))] {
            if random.one_in(3) {
                rules.members.push((role, member));
            }
        }
        rules.owned.extend((0..TABLES.len()).filter(|_| random.one_in(6)));
        rules
    }

    /// Returns everything that `bi` stands for.
    fn held(&self) -> BTreeSet<Member> {
        let mut held = BTreeSet::from([Member::client("bi"), Member::role(EVERYONE)]);
        // Two rounds are enough: a role of a role of the client.
        for _ in 0..2 {
            let more: Vec<_> = self.members.iter().filter(|(_, member)| held.contains(member)).map(|(role, _)| *role).collect();
            held.extend(more.into_iter().map(Member::role));
        }
        held
    }

    /// Returns the privileges of `bi` on a table.
    fn privileges(&self, things: &Things, at: usize) -> PrivilegeSet {
        let held = self.held();
        let counts = |grant: &&GrantRow| grant.future.is_none() && held.contains(&grant.to) && things.covers(&grant.on, at);
        let granted = self.grants.iter().filter(counts).map(|grant| grant.privileges.intersection(grant.on.kind().privileges()));
        let own = self.owned.contains(&at).then(|| Bundle::Own.privileges(SecurableKind::Table, PrivilegeSet::EMPTY));
        granted.chain(own).fold(PrivilegeSet::EMPTY, PrivilegeSet::union)
    }

    /// Stores the rules in place of those before. Waits until the server has them.
    async fn store(&self, app: &TestApp, things: &Things) {
        let access = app.catalog().state().access();
        let rows = access.rows().await.expect("rules");
        let mut changes: Vec<_> = rows.grants.iter().map(|grant| RuleChange::RemoveGrant { id: grant.id.clone() }).collect();
        let others = rows.members.iter().filter(|row| row.role != ADMIN);
        changes.extend(others.map(|row| RuleChange::RemoveMember { role: row.role.clone(), member: row.member.clone() }));
        changes.extend(self.grants.iter().map(|grant| RuleChange::AddGrant { grant: grant.clone() }));
        let members = self.members.iter();
        changes.extend(members.map(|(role, member)| RuleChange::AddMember { role: (*role).to_owned(), member: member.clone() }));
        for (at, (_, table)) in things.tables.iter().enumerate() {
            let owner = Member::client(if self.owned.contains(&at) { "bi" } else { "other" });
            changes.push(RuleChange::SetOwner { table: *table, owner });
        }
        access.change(rows.version, "tests", &changes, &Outbox::default()).await.expect("changed");
        app.server.access().refresh();
    }
}

/// Starts a server with the tables, a token of `bi`, and the mode on.
async fn started() -> (TestApp, Things, String) {
    let app = TestApp::start().await;
    for levels in [&["red"][..], &["red", "eu"], &["blue"]] {
        let body = serde_json::json!({"namespace": levels});
        app.ok(reqwest::Method::POST, "/v1/default/namespaces", Some(body)).await;
    }
    let mut tables = Vec::new();
    for name in TABLES {
        app.sql(&format!("CREATE TABLE {name} AS SELECT 1 AS id")).await.expect("created");
        let name: TableName = name.parse().expect("a name");
        let id = app.catalog().table(&name).await.expect("a table").id;
        tables.push((name, id));
    }
    let (_, token) = make_token(&app, "bi").await;
    let access = app.catalog().state().access();
    let role = |name: &str| RuleChange::CreateRole { role: name.to_owned() };
    let admin = RuleChange::AddMember { role: ADMIN.to_owned(), member: Member::client("admin") };
    let changes = [role("one"), role("two"), admin, RuleChange::SetMode { mode: AccessMode::On }];
    let version = access.rows().await.expect("rules").version;
    access.change(version, "tests", &changes, &Outbox::default()).await.expect("changed");
    let things = Things { warehouse: app.catalog().warehouse().id, tables };
    (app, things, token)
}

/// Checks the answers of the statements on one table. `held` are the privileges by the model.
async fn check_table(client: &mut FlightSqlServiceClient<Channel>, name: &TableName, held: PrivilegeSet, context: &str) {
    for (statement, needed) in STATEMENTS {
        let sql = statement.replace("<n>", &name.namespace.to_string()).replace("<t>", &name.name);
        let (answer, missing) = (run(client, &sql).await, PrivilegeSet::of(needed).without(held));
        if missing.is_empty() {
            answer.unwrap_or_else(|e| panic!("{sql} with {held}: {e}\n{context}"));
            continue;
        }
        let Err(error) = answer else { panic!("{sql} with {held} was answered\n{context}") };
        if held.has(Privilege::List) {
            assert!(error.contains(&format!("bi lacks {missing} on table {name}")), "{sql} with {held}: {error}\n{context}");
        } else {
            let absent = run(client, &sql.replace(&name.name, "absent")).await.expect_err("there is no such table");
            assert_eq!(error.replace(&name.name, "absent"), absent, "{sql} with {held}\n{context}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_rules_hide_and_show_what_a_plain_model_says() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (rules, first) = (number("ESKER_RULES", 10), number("ESKER_SEED", 1));
    let (app, things, token) = started().await;
    let mut client = app.flight_as(&token).await;
    let (mut hidden, mut shown) = (0, 0);
    for seed in first..first + rules {
        let rules = RandomRules::of(&mut Random(seed), &things);
        rules.store(&app, &things).await;
        let context = format!("seed {seed}: {rules:?}");
        let mut visible = BTreeSet::new();
        for (at, (name, _)) in things.tables.iter().enumerate() {
            let held = rules.privileges(&things, at);
            if held.has(Privilege::List) {
                visible.insert(format!("{}|{}", name.namespace, name.name));
            }
            check_table(&mut client, name, held, &context).await;
        }
        let within = "IN ('red', 'red.eu', 'blue')";
        for list in [
            format!("SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema {within}"),
            format!("SELECT namespace, \"table\" FROM system.tables WHERE namespace {within}"),
        ] {
            let listed: BTreeSet<String> = run(&mut client, &list).await.expect(&list).into_iter().collect();
            assert_eq!(listed, visible, "{list}\n{context}");
        }
        (hidden, shown) = (hidden + TABLES.len() - visible.len(), shown + visible.len());
    }
    assert!(hidden > 0 && shown > 0, "{hidden} tables were hidden, {shown} shown");
}
