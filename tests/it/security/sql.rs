//! SQL under access control: what statements, metadata calls and system tables answer to callers of different rights.

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetTables, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, FlightInfo};
use esker_access::{ADMIN, AccessMode, GrantRow, Member, Privilege, PrivilegeSet, RuleChange, Securable};
use esker_state::Outbox;
use esker_tests::{TestApp, TestTable};
use esker_types::NamespaceName;
use futures::TryStreamExt;
use prost::Message;
use reqwest::Method;
use serde_json::json;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use super::make_token;

/// Privileges of who sees a table in lists.
const SEE: &[Privilege] = &[Privilege::List];
/// Privileges of who reads a table.
const READ: &[Privilege] = &[Privilege::List, Privilege::ReadMetadata, Privilege::ReadData];
/// Privileges of who reads and changes the rows of a table.
const WRITE: &[Privilege] =
    &[Privilege::List, Privilege::ReadMetadata, Privilege::ReadData, Privilege::Append, Privilege::Modify];

/// Statements on `n.orders`, with the privileges that a refusal names: to who may only see the table, and to who may read it.
const STATEMENTS: [(&str, &str, &str); 14] = [
    ("SELECT * FROM n.orders", "READ_DATA", ""),
    ("SELECT o.s FROM n.orders FOR VERSION AS OF 'main' AS o", "READ_DATA", ""),
    ("WITH x AS (SELECT id FROM n.orders) SELECT count(*) FROM x", "READ_DATA", ""),
    ("SELECT 1 WHERE EXISTS (SELECT 1 FROM \"default\".n.orders)", "READ_DATA", ""),
    ("EXPLAIN SELECT * FROM n.orders", "READ_DATA", ""),
    ("DESCRIBE n.orders", "READ_METADATA", ""),
    ("SELECT * FROM n.\"orders$files\"", "READ_DATA", ""),
    ("SELECT * FROM n.\"orders$partitions\"", "READ_DATA", ""),
    ("SELECT * FROM n.\"orders$snapshots\"", "READ_METADATA", ""),
    ("SELECT * FROM n.\"orders$properties\"", "READ_METADATA", ""),
    ("INSERT INTO n.orders VALUES (9, 'x')", "READ_METADATA, APPEND", "APPEND"),
    ("INSERT INTO n.orders SELECT id + 10, s FROM n.orders", "READ_METADATA, APPEND", "APPEND"),
    ("UPDATE n.orders SET s = 'y' WHERE id = 1", "READ_DATA, MODIFY", "MODIFY"),
    ("DELETE FROM n.orders WHERE id = 9", "READ_DATA, MODIFY", "MODIFY"),
];

/// A server with the tables `n.orders` and `n.secret`, and a token of the principal `bi`.
struct Sandbox {
    app: TestApp,
    token: String,
}

/// Formats the rows of record batches, with the values joined by bars.
pub(super) fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let value = |batch: &RecordBatch, column: usize, row| array_value_to_string(batch.column(column), row).expect("shown");
    let line = |batch: &RecordBatch, row| (0..batch.num_columns()).map(|at| value(batch, at, row)).collect::<Vec<_>>().join("|");
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| line(batch, row))).collect()
}

/// Fetches the answer that a flight is about.
pub(super) async fn fetch(client: &mut FlightSqlServiceClient<Channel>, info: FlightInfo) -> Result<Vec<RecordBatch>, String> {
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    let stream = client.do_get(ticket).await.map_err(|e| e.to_string())?;
    stream.try_collect().await.map_err(|e| e.to_string())
}

/// Runs a statement. Returns the lines of the answer.
pub(super) async fn run(client: &mut FlightSqlServiceClient<Channel>, sql: &str) -> Result<Vec<String>, String> {
    let info = client.execute(sql.to_owned(), None).await.map_err(|e| e.to_string())?;
    fetch(client, info).await.map(|batches| lines(&batches))
}

impl Sandbox {
    async fn start() -> Self {
        let app = TestApp::start().await;
        app.namespace().await;
        let orders = "CREATE TABLE n.orders AS SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v(id, s)";
        app.sql(orders).await.expect("created");
        app.sql("CREATE TABLE n.secret AS SELECT 1 AS id").await.expect("created");
        let (_, token) = make_token(&app, "bi").await;
        Self { app, token }
    }

    async fn orders(&self) -> Securable {
        let row = self.app.catalog().table(&"n.orders".parse().expect("a name")).await.expect("a table");
        Securable::Table { table: row.id }
    }

    fn namespace(&self) -> Securable {
        let namespace = NamespaceName::new(vec!["n".to_owned()]).expect("a name");
        Securable::Namespace { warehouse: self.app.catalog().warehouse().id, namespace }
    }

    /// Stores rules under which `admin` may do everything and `bi` has these privileges alone. Waits until the server has them.
    async fn rule(&self, mode: AccessMode, grants: &[(Securable, &[Privilege])]) {
        let access = self.app.catalog().state().access();
        let (rows, bi) = (access.rows().await.expect("rules"), Member::client("bi"));
        let admin = RuleChange::AddMember { role: ADMIN.to_owned(), member: Member::client("admin") };
        let mut changes = vec![admin, RuleChange::SetMode { mode }];
        for grant in rows.grants.iter().filter(|grant| grant.to == bi) {
            changes.push(RuleChange::RemoveGrant { id: grant.id.clone() });
        }
        for row in rows.members.iter().filter(|row| row.member == bi) {
            changes.push(RuleChange::RemoveMember { role: row.role.clone(), member: bi.clone() });
        }
        for (on, privileges) in grants {
            let (id, privileges) = (uuid::Uuid::now_v7().to_string(), PrivilegeSet::of(privileges));
            let grant = GrantRow { id, to: bi.clone(), on: on.clone(), privileges, future: None };
            changes.push(RuleChange::AddGrant { grant });
        }
        access.change(rows.version, "tests", &changes, &Outbox::default()).await.expect("changed");
        self.app.server.access().refresh();
    }

    /// Enforces rules under which `bi` has these privileges alone.
    async fn allow(&self, grants: &[(Securable, &[Privilege])]) {
        self.rule(AccessMode::On, grants).await;
    }

    async fn client(&self) -> FlightSqlServiceClient<Channel> {
        self.app.flight_as(&self.token).await
    }

    /// Runs a statement of `bi`. Returns the lines of the answer.
    async fn sql(&self, sql: &str) -> Result<Vec<String>, String> {
        run(&mut self.client().await, sql).await
    }

    async fn rows(&self, sql: &str) -> Vec<String> {
        self.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    async fn refused(&self, sql: &str) -> String {
        self.sql(sql).await.expect_err(sql)
    }

    /// Checks that a statement on a hidden table is answered as one on a table that does not exist.
    async fn assert_hidden(&self, sql: &str) {
        let absent = self.refused(&sql.replace("orders", "absent")).await;
        assert_eq!(self.refused(sql).await.replace("orders", "absent"), absent, "{sql}");
    }

    /// Returns the gRPC code with which a statement of `bi` is refused.
    async fn code_of(&self, sql: &str) -> Code {
        code_of(&self.app, &self.token, sql).await
    }
}

/// Returns the gRPC code with which a statement is refused.
pub(super) async fn code_of(app: &TestApp, token: &str, sql: &str) -> Code {
    let url = format!("http://{}", app.server.flight);
    let channel = Endpoint::from_shared(url).expect("a url").connect().await.expect("a connection");
    let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None }.as_any().encode_to_vec();
    let mut request = Request::new(FlightDescriptor::new_cmd(command));
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
    FlightServiceClient::new(channel).get_flight_info(request).await.expect_err("refused").code()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_statement_needs_its_privileges_and_a_hidden_table_does_not_exist() {
    let sandbox = Sandbox::start().await;
    let orders = sandbox.orders().await;

    sandbox.allow(&[]).await;
    for (sql, ..) in STATEMENTS {
        sandbox.assert_hidden(sql).await;
    }
    for sql in [
        "SHOW COLUMNS FROM n.orders",
        "SELECT * FROM n.\"orders$other\"",
        "SELECT nothing FROM n.orders",
        "SELECT * FROM n.orders FOR VERSION AS OF 7",
        "CREATE TABLE n.copy AS SELECT * FROM n.orders",
        "INSERT INTO n.orders (nothing) VALUES (1)",
        "UPDATE n.orders SET nothing = 1",
        "DROP TABLE n.orders",
        "ALTER TABLE n.orders ADD COLUMN c INT",
        "MERGE INTO n.orders USING n.orders AS o ON true WHEN MATCHED THEN DELETE",
    ] {
        sandbox.assert_hidden(sql).await;
    }

    sandbox.allow(&[(orders.clone(), SEE)]).await;
    for (sql, missing, _) in STATEMENTS {
        let error = sandbox.refused(sql).await;
        assert!(error.contains(&format!("bi lacks {missing} on table n.orders")), "{sql}: {error}");
    }
    assert_eq!(sandbox.code_of("SELECT * FROM n.orders").await, Code::PermissionDenied);
    for sql in ["SELECT nothing FROM n.orders", "INSERT INTO n.orders (nothing) VALUES (1)"] {
        let error = sandbox.refused(sql).await;
        assert!(!error.contains("there are"), "columns are not told: {error}");
    }

    sandbox.allow(&[(orders.clone(), READ)]).await;
    for (sql, _, missing) in STATEMENTS {
        match (sandbox.sql(sql).await, missing) {
            (answer, "") => drop(answer.unwrap_or_else(|e| panic!("{sql}: {e}"))),
            (answer, missing) => {
                let error = answer.expect_err(sql);
                assert!(error.contains(&format!("bi lacks {missing} on table n.orders")), "{sql}: {error}");
            }
        }
    }
    assert!(sandbox.sql("SELECT * FROM n.secret").await.is_err());

    sandbox.allow(&[(orders, WRITE)]).await;
    for (sql, ..) in STATEMENTS {
        sandbox.rows(sql).await;
    }
    assert_eq!(sandbox.rows("SELECT s FROM n.orders WHERE id = 1").await, ["y"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_from_before_a_revocation_is_not_run_after_it() {
    let sandbox = Sandbox::start().await;
    let orders = sandbox.orders().await;
    sandbox.allow(&[(orders.clone(), READ)]).await;
    let mut client = sandbox.client().await;
    let info = client.execute("SELECT s FROM n.orders ORDER BY id".to_owned(), None).await.expect("planned");
    assert_eq!(lines(&fetch(&mut client, info.clone()).await.expect("rows")), ["a", "b"]);
    let info = client.execute("SELECT s FROM n.orders".to_owned(), None).await.expect("planned");
    let mut prepared = client.prepare("SELECT s FROM n.orders".to_owned(), None).await.expect("prepared");

    sandbox.allow(&[(orders.clone(), SEE)]).await;
    let error = fetch(&mut client, info.clone()).await.expect_err("revoked");
    assert!(error.contains("bi lacks READ_DATA on table n.orders"), "{error}");
    let error = prepared.execute().await.expect_err("revoked").to_string();
    assert!(error.contains("bi lacks READ_DATA on table n.orders"), "{error}");

    sandbox.allow(&[]).await;
    let error = fetch(&mut client, info).await.expect_err("hidden");
    assert!(error.contains("not found") && !error.contains("lacks"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_have_what_the_caller_sees() {
    let sandbox = Sandbox::start().await;
    let orders = sandbox.orders().await;
    let names = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema = 'n'";
    let columns = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'n' ORDER BY 1, 2";
    let listed = async || {
        let mut client = sandbox.client().await;
        let info = client.get_catalogs().await.expect("a flight");
        let catalogs = lines(&fetch(&mut client, info).await.expect("catalogs"));
        let info = client.get_db_schemas(CommandGetDbSchemas::default()).await.expect("a flight");
        let schemas = lines(&fetch(&mut client, info).await.expect("schemas"));
        let info = client.get_tables(CommandGetTables::default()).await.expect("a flight");
        let tables = lines(&fetch(&mut client, info).await.expect("tables"));
        (catalogs, schemas, tables)
    };
    let schemas_of_tables = async || {
        let mut client = sandbox.client().await;
        let command = CommandGetTables { include_schema: true, ..CommandGetTables::default() };
        let info = client.get_tables(command).await.expect("a flight");
        lines(&fetch(&mut client, info).await.expect("tables"))
    };
    let text = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();

    sandbox.allow(&[]).await;
    assert_eq!(listed().await, (Vec::new(), Vec::new(), Vec::new()));
    for list in ["SHOW TABLES", "SHOW SCHEMAS", "SHOW NAMESPACES", names, columns, "SELECT * FROM information_schema.schemata"] {
        assert_eq!(sandbox.rows(list).await, Vec::<String>::new(), "{list}");
    }

    sandbox.allow(&[(orders.clone(), SEE)]).await;
    let (catalogs, schemas, tables) = listed().await;
    assert_eq!((catalogs, schemas), (text(&["default"]), text(&["default|n"])));
    assert!(tables.len() == 1 && tables[0].contains("orders"), "{tables:?}");
    assert_eq!(sandbox.rows(names).await, ["n|orders"]);
    assert_eq!(
        sandbox.rows("SHOW SCHEMAS").await,
        sandbox.rows("SELECT catalog_name, schema_name FROM information_schema.schemata").await
    );
    assert!(sandbox.rows("SHOW NAMESPACES").await.contains(&"default|n".to_owned()));
    assert_eq!(sandbox.rows(columns).await, Vec::<String>::new(), "columns need READ_METADATA");
    let without_columns = schemas_of_tables().await;

    sandbox.allow(&[(orders, &[Privilege::List, Privilege::ReadMetadata])]).await;
    assert_eq!(sandbox.rows(columns).await, ["orders|id", "orders|s"]);
    let with_columns = schemas_of_tables().await;
    assert!(with_columns.len() == 1 && with_columns[0].len() > without_columns[0].len(), "{with_columns:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn system_tables_have_the_rows_that_the_caller_may_see() {
    let sandbox = Sandbox::start().await;
    let orders = sandbox.orders().await;
    let path = "/api/v1/warehouses/default/namespaces/n/tables";
    for table in ["orders", "secret"] {
        let accepted = sandbox.app.ok(Method::POST, &format!("{path}/{table}/expire"), Some(json!({}))).await;
        sandbox.app.wait_for_job(accepted["job-id"].as_str().expect("an id")).await;
    }
    let tables = "SELECT \"table\", location IS NULL FROM system.tables WHERE namespace = 'n'";
    let (health, jobs) = ("SELECT DISTINCT \"table\" FROM system.health", "SELECT DISTINCT \"table\" FROM system.jobs");
    let queries = "SELECT DISTINCT principal FROM system.queries ORDER BY 1";

    sandbox.allow(&[]).await;
    for sql in [tables, health, jobs] {
        assert_eq!(sandbox.rows(sql).await, Vec::<String>::new(), "{sql}");
    }
    assert_eq!(sandbox.rows(queries).await, ["bi"], "one's own queries");

    sandbox.allow(&[(orders.clone(), SEE)]).await;
    assert_eq!(sandbox.rows(tables).await, ["orders|true"]);
    for sql in [health, jobs] {
        assert_eq!(sandbox.rows(sql).await, Vec::<String>::new(), "{sql}");
    }

    sandbox.allow(&[(orders, READ)]).await;
    assert_eq!(sandbox.rows(tables).await, ["orders|false"]);
    assert_eq!(sandbox.rows(health).await, ["orders"]);
    assert_eq!(sandbox.rows(jobs).await, ["n.orders"]);

    sandbox.allow(&[(Securable::Server, &[Privilege::Monitor])]).await;
    assert_eq!(sandbox.rows(queries).await, ["admin", "bi"]);
    assert_eq!(sandbox.rows("SELECT DISTINCT \"table\" FROM system.jobs ORDER BY 1").await, ["n.orders", "n.secret"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_gives_no_rights_on_what_it_reads() {
    let sandbox = Sandbox::start().await;
    let schema =
        json!({"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "s", "type": "string", "required": false}]});
    let version = json!({"version-id": 1, "timestamp-ms": 1, "schema-id": 0, "summary": {}, "default-namespace": ["n"],
        "representations": [{"type": "sql", "sql": "SELECT s FROM orders", "dialect": "trino"}]});
    let view = json!({"name": "shown", "schema": schema, "view-version": version, "properties": {}});
    sandbox.app.ok(Method::POST, "/v1/default/namespaces/n/views", Some(view)).await;
    let row = sandbox.app.catalog().view(&"n.shown".parse().expect("a name")).await.expect("a view");
    let (view, orders) = (Securable::View { view: row.id }, sandbox.orders().await);
    let sql = "SELECT s FROM n.shown ORDER BY s";

    sandbox.allow(&[(orders.clone(), READ)]).await;
    let absent = sandbox.refused(&sql.replace("shown", "absent")).await;
    assert_eq!(sandbox.refused(sql).await.replace("shown", "absent"), absent);
    sandbox.allow(&[(view.clone(), READ)]).await;
    let error = sandbox.refused(sql).await;
    assert!(error.contains("view n.shown") && error.contains("not found"), "{error}");
    sandbox.allow(&[(view.clone(), READ), (orders.clone(), SEE)]).await;
    let error = sandbox.refused(sql).await;
    assert!(error.contains("bi lacks READ_DATA on table n.orders"), "{error}");
    assert_eq!(sandbox.code_of(sql).await, Code::PermissionDenied);
    sandbox.allow(&[(view, READ), (orders, READ)]).await;
    assert_eq!(sandbox.rows(sql).await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_creates_a_table_owns_it_at_once() {
    let sandbox = Sandbox::start().await;
    let create = "CREATE TABLE n.mine AS SELECT 1 AS a";
    sandbox.allow(&[]).await;
    let absent = sandbox.refused("CREATE TABLE absent.mine AS SELECT 1 AS a").await;
    assert_eq!(sandbox.refused(create).await.replace("exist: n", "exist: absent"), absent);
    sandbox.allow(&[(sandbox.namespace(), SEE)]).await;
    let error = sandbox.refused(create).await;
    assert!(error.contains("bi lacks CREATE_TABLE on namespace n"), "{error}");

    sandbox.allow(&[(sandbox.namespace(), &[Privilege::List, Privilege::CreateTable])]).await;
    sandbox.rows(create).await;
    sandbox.rows("INSERT INTO n.mine VALUES (2)").await;
    assert_eq!(sandbox.rows("SELECT a FROM n.mine ORDER BY a").await, ["1", "2"]);
    assert!(sandbox.refused("SELECT * FROM n.orders").await.contains("bi lacks READ_DATA"), "the namespace shows its tables");
    assert!(sandbox.refused("CREATE TABLE n.orders AS SELECT 1 AS a").await.contains("orders"));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_mode_report_statements_go_on() {
    let sandbox = Sandbox::start().await;
    sandbox.rule(AccessMode::Report, &[]).await;
    for (sql, ..) in STATEMENTS {
        sandbox.rows(sql).await;
    }
    assert_eq!(sandbox.rows("SELECT count(*) FROM system.tables WHERE namespace = 'n'").await, ["2"]);
}

/// The ODBC and JDBC drivers log in with the name of a principal and a token as the password.
#[tokio::test(flavor = "multi_thread")]
async fn a_driver_logs_in_with_a_name_and_a_token() {
    let sandbox = Sandbox::start().await;
    let mut client = sandbox.app.flight_without_token().await;
    for (user, password) in [("admin", sandbox.token.as_str()), ("bi", "wrong"), ("", sandbox.token.as_str())] {
        let error = client.handshake(user, password).await.expect_err("refused").to_string();
        assert!(error.contains("the token is not valid"), "{user}: {error}");
    }
    assert!(client.execute("SELECT 1".to_owned(), None).await.is_err(), "no token was given");
    client.handshake("bi", &sandbox.token).await.expect("logged in");
    let info = client.execute("SELECT s FROM n.orders ORDER BY id".to_owned(), None).await.expect("planned");
    assert_eq!(lines(&fetch(&mut client, info).await.expect("rows")), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_names_values_and_is_listed_for_who_may_read_or_erase_them() {
    let sandbox = Sandbox::start().await;
    let orders = TestTable::simple_named(&sandbox.app, "orders");
    orders.run_job("erase", json!({"where": "id = 1"})).await;
    let kinds = "SELECT kind FROM system.jobs WHERE kind = 'erase'";
    let told = "SELECT kind FROM system.jobs WHERE kind = 'erase' AND plan IS NOT NULL";
    let on = sandbox.orders().await;
    sandbox.allow(&[(on.clone(), &[Privilege::List, Privilege::ReadMetadata])]).await;
    assert_eq!(sandbox.rows(kinds).await, Vec::<String>::new());
    sandbox.allow(&[(on.clone(), &[Privilege::List, Privilege::ReadMetadata, Privilege::Erase])]).await;
    assert_eq!((sandbox.rows(kinds).await, sandbox.rows(told).await), (vec!["erase".to_owned()], Vec::new()));
    sandbox.allow(&[(on, READ)]).await;
    assert_eq!(sandbox.rows(told).await, ["erase"]);
}
