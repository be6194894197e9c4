//! The decisions that Trino's plugin for Open Policy Agent asks for.
//!
//! The questions have the form of those in the plugin's own tests.
//!
//! `tests/engines/test_opa.py` has a real Trino.

use esker_access::{
    AccessMode, Bundle, CompareOp, FilterExpr, MaskAction, Member, Privilege, PrivilegeSet, RuleChange, Securable, SecurableKind,
};
use esker_tests::{AccessTest, TOKEN, TestApp};
use reqwest::Method;
use serde_json::{Value, json};

use super::read_restrictions::{below, filter, mask};

const ISSUER: &str = "https://idp.example/realms/lake";

/// A server whose warehouse `default` is the catalog `lake` of Trino, with the tables `n.t` and `n.hidden`.
struct TrinoTest {
    test: AccessTest,
    /// The token of Trino.
    trino: String,
}

impl TrinoTest {
    /// Starts the server. Users of Trino are users of an issuer, or clients.
    async fn start(mode: AccessMode, issuer: Option<&str>) -> Self {
        let app = TestApp::start_with(|config| {
            config.auth.opa.catalogs.insert("lake".to_owned(), "default".to_owned());
            config.auth.opa.issuer = issuer.map(str::to_owned);
            config.auth.opa.groups = issuer.is_some();
        })
        .await;
        app.table().await;
        let test = AccessTest { app };
        test.create_table("n", "hidden").await;
        test.app.server.access().bootstrap("admin", Some(mode)).await.expect("an administrator");
        let trino = test.token("trino").await;
        test.grant("trino", Securable::Server, Privilege::Decide.into()).await;
        Self { test, trino }
    }

    /// Gives privileges on the table `n.t` to a client, and the right to use the warehouse.
    async fn user(&self, name: &str, privileges: PrivilegeSet) {
        self.test.client(name).await;
        self.test.grant(name, self.test.table("n.t").await, privileges).await;
    }

    /// Sends a question. Returns the field `result` of the answer.
    async fn ask(&self, end: &str, user: &str, action: Value) -> Value {
        let identity = json!({"user": user, "principal": user, "groups": ["analysts"]});
        let context = json!({"identity": identity, "softwareStack": {"trinoVersion": "476"}, "queryId": "20260101_1"});
        let body = json!({"input": {"context": context, "action": action}});
        let path = format!("/api/v1/access/opa/{end}");
        let (status, text) = self.test.send(&self.trino, Method::POST, &path, Some(body)).await;
        assert_eq!(status, 200, "{end} {action}: {text}");
        serde_json::from_str::<Value>(&text).expect("JSON")["result"].clone()
    }

    /// Asks if a user may do an operation on a thing.
    async fn may(&self, user: &str, operation: &str, resource: Value) -> bool {
        let answer = self.ask("allow", user, json!({"operation": operation, "resource": resource})).await;
        answer.as_bool().expect("a decision")
    }

    /// Asks which of several things a user sees.
    async fn seen(&self, user: &str, operation: &str, things: Vec<Value>) -> Value {
        self.ask("batch", user, json!({"operation": operation, "filterResources": things})).await
    }
}

fn table(name: &str) -> Value {
    json!({"table": {"catalogName": "lake", "schemaName": "n", "tableName": name}})
}

fn columns(name: &str, columns: &[&str]) -> Value {
    json!({"table": {"catalogName": "lake", "schemaName": "n", "tableName": name, "columns": columns}})
}

fn column(name: &str) -> Value {
    json!({"column": {"catalogName": "lake", "schemaName": "n", "tableName": "t", "columnName": name, "columnType": "varchar"}})
}

fn schema(name: &str) -> Value {
    json!({"schema": {"catalogName": "lake", "schemaName": name}})
}

fn bundle(bundle: Bundle) -> PrivilegeSet {
    AccessTest::bundle(bundle, SecurableKind::Table)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_needs_what_the_same_statement_needs_here() {
    let lake = TrinoTest::start(AccessMode::On, None).await;
    for (name, privileges) in [("reader", Bundle::Select), ("inserter", Bundle::Insert), ("writer", Bundle::Write)] {
        lake.user(name, bundle(privileges)).await;
    }
    lake.user("owner", bundle(Bundle::Own)).await;
    lake.test.grant("owner", lake.test.namespace("n"), Privilege::CreateTable.into()).await;
    let mut new = table("new");
    new["table"]["properties"] = json!({"format": "PARQUET", "location": null});
    let mut located = new.clone();
    located["table"]["properties"]["location"] = json!("s3://elsewhere");
    let mut procedure = table("t");
    procedure["function"] = json!({"functionName": "OPTIMIZE"});
    let mut unknown = table("t");
    unknown["function"] = json!({"functionName": "EXPLODE"});
    let function = |catalog: &str, schema: &str, name: &str| json!({"function": {"catalogName": catalog, "schemaName": schema, "functionName": name}});
    let foreign = |catalog: &str, schema: &str, name: &str| json!({"table": {"catalogName": catalog, "schemaName": schema, "tableName": name, "columns": ["table_name"]}});
    let (all, nobody): (&[&str], &[&str]) = (&["reader", "inserter", "writer", "owner"], &[]);
    let cases: &[(&str, Value, &[&str])] = &[
        ("ExecuteQuery", json!({}), all),
        ("AccessCatalog", json!({"catalog": {"name": "lake"}}), all),
        ("AccessCatalog", json!({"catalog": {"name": "elsewhere"}}), nobody),
        ("ShowSchemas", json!({"catalog": {"name": "lake"}}), all),
        ("ShowTables", schema("n"), all),
        ("SelectFromColumns", columns("t", &["id"]), &["reader", "writer", "owner"]),
        ("SelectFromColumns", columns("t$files", &["file_path"]), &["reader", "writer", "owner"]),
        ("SelectFromColumns", columns("t$manifests", &["partition_summaries"]), &["reader", "writer", "owner"]),
        ("SelectFromColumns", columns("t$history", &["snapshot_id"]), all),
        ("SelectFromColumns", columns("hidden", &["id"]), nobody),
        ("SelectFromColumns", columns("missing", &["id"]), nobody),
        ("ShowCreateTable", table("t"), all),
        ("ShowColumns", table("t"), all),
        ("InsertIntoTable", table("t"), &["inserter", "writer", "owner"]),
        ("DeleteFromTable", table("t"), &["writer", "owner"]),
        ("TruncateTable", table("t"), &["writer", "owner"]),
        ("UpdateTableColumns", columns("t", &["s"]), &["writer", "owner"]),
        ("ExecuteTableProcedure", procedure, &["writer", "owner"]),
        ("ExecuteTableProcedure", unknown, nobody),
        ("AddColumn", table("t"), &["owner"]),
        ("SetTableComment", table("t"), &["owner"]),
        ("DropTable", table("t"), &["owner"]),
        ("DropTable", table("hidden"), nobody),
        ("CreateTable", new, &["owner"]),
        ("CreateTable", located, nobody),
        ("CreateSchema", schema("other"), nobody),
        ("DropSchema", schema("n"), nobody),
        ("CreateMaterializedView", table("mv"), nobody),
        ("SetTableAuthorization", table("t"), nobody),
        ("ReadSystemInformation", json!({}), nobody),
        ("SomethingNew", table("t"), nobody),
        // Trino's own schema and catalog show what other operations allow.
        ("SelectFromColumns", foreign("lake", "information_schema", "tables"), all),
        ("SelectFromColumns", foreign("system", "jdbc", "tables"), all),
        ("DropTable", foreign("system", "jdbc", "tables"), nobody),
        ("ExecuteFunction", function("system", "builtin", "sequence"), all),
        ("ExecuteFunction", function("lake", "system", "table_changes"), nobody),
        ("ViewQueryOwnedBy", json!({"user": {"user": "reader", "groups": []}}), &["reader"]),
        ("ImpersonateUser", json!({"user": {"user": "owner"}}), &["owner"]),
    ];
    for (operation, resource, allowed) in cases {
        for user in ["reader", "inserter", "writer", "owner", "nobody"] {
            let expected = allowed.contains(&user) || user == "nobody" && allowed_to_all(operation, resource);
            assert_eq!(lake.may(user, operation, resource.clone()).await, expected, "{user} {operation} {resource}");
        }
    }
    let rename = |to: &str| json!({"operation": "RenameTable", "resource": table("t"), "targetResource": table(to)});
    for (user, expected) in [("owner", true), ("writer", false)] {
        assert_eq!(lake.ask("allow", user, rename("u")).await, json!(expected), "{user}");
    }
}

/// Checks that an operation needs no right to anything of Esker's.
fn allowed_to_all(operation: &str, resource: &Value) -> bool {
    let is_system = resource["table"]["catalogName"] == "system" || resource["function"]["catalogName"] == "system";
    operation == "ExecuteQuery" || is_system && operation != "DropTable"
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_have_what_the_user_sees() {
    let lake = TrinoTest::start(AccessMode::On, None).await;
    lake.user("reader", bundle(Bundle::Select)).await;
    lake.test.create_namespace("other").await;
    let tables = vec![table("hidden"), table("t"), table("missing")];
    assert_eq!(lake.seen("reader", "FilterTables", tables.clone()).await, json!([1]));
    assert_eq!(lake.seen("nobody", "FilterTables", tables).await, json!([]));
    let schemas = vec![schema("other"), schema("n"), schema("information_schema")];
    assert_eq!(lake.seen("reader", "FilterSchemas", schemas.clone()).await, json!([1, 2]), "what is in n is seen");
    assert_eq!(lake.seen("nobody", "FilterSchemas", schemas).await, json!([]));
    let catalogs = ["lake", "default", "system", "hive"].map(|name| json!({"catalog": {"name": name}})).to_vec();
    assert_eq!(lake.seen("reader", "FilterCatalogs", catalogs.clone()).await, json!([0, 1, 2]));
    assert_eq!(lake.seen("nobody", "FilterCatalogs", catalogs).await, json!([2]));
    // A question about columns names one table, and the indices are those of its columns.
    assert_eq!(lake.seen("reader", "FilterColumns", vec![columns("t", &["id", "s"])]).await, json!([0, 1]));
    assert_eq!(lake.seen("reader", "FilterColumns", vec![columns("hidden", &["id"])]).await, json!([]));
    let owners = ["reader", "writer"].map(|name| json!({"user": {"user": name, "groups": []}})).to_vec();
    assert_eq!(lake.seen("reader", "FilterViewQueryOwnedBy", owners).await, json!([0]));
    assert_eq!(lake.seen("reader", "FilterSomething", vec![table("t")]).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_filters_and_masks_are_expressions_of_the_present_columns() {
    let lake = TrinoTest::start(AccessMode::On, None).await;
    for name in ["reader", "writer", "seer"] {
        lake.user(name, bundle(Bundle::Write)).await;
    }
    let id = lake.test.table_id("n.t").await;
    let eu = FilterExpr::Compare { op: CompareOp::Eq, field_id: 2, value: json!("it's EU") };
    lake.test
        .change(vec![
            filter("f1", id, &Member::client("reader"), eu),
            filter("f2", id, &Member::client("reader"), below(5)),
            filter("f3", id, &Member::client("seer"), FilterExpr::True),
            mask(id, 2, MaskAction::ShowFirst4, &["seer"]),
        ])
        .await;
    let filters = async |user: &str, name: &str| {
        lake.ask("row-filters", user, json!({"operation": "GetRowFilters", "resource": table(name)})).await
    };
    let masked = async |user: &str, name: &str| {
        lake.ask("column-mask", user, json!({"operation": "GetColumnMask", "resource": column(name)})).await
    };
    let rows = "(\"s\" = 'it''s EU') OR (\"id\" < BIGINT '5')";
    assert_eq!(filters("reader", "t").await, json!([{"expression": rows}]));
    assert_eq!(filters("seer", "t").await, json!([]));
    assert_eq!(filters("writer", "t").await, json!([{"expression": "false"}]), "no filter names it");
    assert_eq!(filters("reader", "missing").await, json!([{"expression": "false"}]), "it may have been renamed");
    assert_eq!(filters("reader", "t$files").await, json!([{"expression": "false"}]));
    assert_eq!(filters("reader", "t$history").await, json!([]));
    assert_eq!(filters("reader", "hidden").await, json!([]), "it has none");
    let expression = "substr(\"s\", 1, 4) || \
        regexp_replace(regexp_replace(substr(\"s\", 5), '[^0-9(),.@\\-]', 'x'), '[0-9]', 'n')";
    assert_eq!(masked("reader", "s").await, json!({"expression": expression}));
    for (user, name) in [("seer", "s"), ("reader", "id"), ("reader", "$path")] {
        assert_eq!(masked(user, name).await, Value::Null, "{user} {name}");
    }
    assert_eq!(masked("reader", "gone").await, json!({"expression": "NULL"}));
    let several = json!({"operation": "GetColumnMask", "filterResources": [column("id"), column("S")]});
    let expected = json!([{"index": 1, "viewExpression": {"expression": expression}}]);
    assert_eq!(lake.ask("batch-column-masks", "reader", several).await, expected, "Trino's names have no case");

    // What would show the hidden rows or values is refused, and so are changes.
    for (operation, resource, expected) in [
        ("SelectFromColumns", columns("t", &["id", "s"]), true),
        ("SelectFromColumns", columns("t", &["id", "$partition"]), false),
        ("SelectFromColumns", columns("t$files", &["lower_bounds"]), false),
        ("SelectFromColumns", columns("t$snapshots", &["summary"]), false),
        ("SelectFromColumns", columns("t$history", &["snapshot_id"]), true),
        ("InsertIntoTable", table("t"), true),
        ("DeleteFromTable", table("t"), false),
        ("UpdateTableColumns", columns("t", &["s"]), false),
    ] {
        assert_eq!(lake.may("reader", operation, resource.clone()).await, expected, "{operation} {resource}");
        assert!(lake.may("seer", operation, resource.clone()).await, "{operation} {resource}");
    }

    // A rename of a column keeps its mask and its filter.
    let mut fields = esker_tests::schema_json()["fields"].clone();
    fields[1]["name"] = json!("region");
    let renamed = json!({"type": "struct", "schema-id": 1, "fields": fields});
    let updates = json!([{"action": "add-schema", "schema": renamed}, {"action": "set-current-schema", "schema-id": -1}]);
    let commit = json!({"requirements": [], "updates": updates});
    lake.test.app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(commit)).await;
    assert_eq!(filters("reader", "t").await, json!([{"expression": rows.replace("\"s\"", "\"region\"")}]));
    assert_eq!(masked("reader", "region").await, json!({"expression": expression.replace("\"s\"", "\"region\"")}));
}

/// Trino asks about the columns of an older snapshot by their names, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_an_older_snapshot_gives_to_a_masked_field_is_null() {
    let lake = TrinoTest::start(AccessMode::On, None).await;
    lake.user("reader", bundle(Bundle::Select)).await;
    lake.test.app.sql("INSERT INTO n.t VALUES (1, 'EU')").await.expect("inserted");
    let id = lake.test.table_id("n.t").await;
    lake.test.change(vec![mask(id, 2, MaskAction::MaskAlphanum, &[])]).await;
    let masked = async |name: &str| {
        lake.ask("column-mask", "reader", json!({"operation": "GetColumnMask", "resource": column(name)})).await
    };
    let expression = "regexp_replace(regexp_replace(\"s\", '[^0-9(),.@\\-]', 'x'), '[0-9]', 'n')";
    assert_eq!(masked("s").await, json!({"expression": expression}));
    // The column is dropped, and another one gets its name.
    let mut fields = esker_tests::schema_json()["fields"].clone();
    fields[1]["id"] = json!(3);
    let updates = json!([{"action": "add-schema", "schema": {"type": "struct", "schema-id": 1, "fields": fields}},
        {"action": "set-current-schema", "schema-id": -1}]);
    let commit = json!({"requirements": [], "updates": updates});
    lake.test.app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(commit)).await;
    assert_eq!(masked("s").await, json!({"expression": "NULL"}), "a snapshot has the masked values under the name");
    assert_eq!(masked("id").await, Value::Null);
}

/// To Trino the name is that of the metadata table, whatever table has the whole name.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_the_name_of_a_metadata_table_stands_for_nothing() {
    let lake = TrinoTest::start(AccessMode::On, None).await;
    lake.user("reader", bundle(Bundle::Select)).await;
    lake.test.create_table("n", "t$files").await;
    let decoy = lake.test.table("n.t$files").await;
    lake.test.grant("reader", decoy, bundle(Bundle::Select)).await;
    let id = lake.test.table_id("n.t").await;
    lake.test.change(vec![filter("f", id, &Member::client("reader"), below(5))]).await;
    assert!(!lake.may("reader", "SelectFromColumns", columns("t$files", &["lower_bounds"])).await);
    let filters = json!({"operation": "GetRowFilters", "resource": table("t$files")});
    assert_eq!(lake.ask("row-filters", "reader", filters).await, json!([{"expression": "false"}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_an_issuer_have_the_rights_of_their_groups() {
    let lake = TrinoTest::start(AccessMode::On, Some(ISSUER)).await;
    lake.user("ann", bundle(Bundle::Select)).await;
    assert!(!lake.may("ann", "SelectFromColumns", columns("t", &["id"])).await, "the client is somebody else");
    let claim = Member::Claim { issuer: ISSUER.to_owned(), value: "analysts".to_owned() };
    lake.test.change(vec![RuleChange::CreateRole { role: "readers".into() }]).await;
    lake.test.change(vec![RuleChange::AddMember { role: "readers".into(), member: claim }]).await;
    let grant = json!({"to": {"kind": "role", "name": "readers"}, "privileges": "SELECT", "on": "table default.n.t"});
    lake.test.app.ok(Method::POST, "/api/v1/access/grants", Some(grant)).await;
    assert!(lake.may("ann", "SelectFromColumns", columns("t", &["id"])).await);
    let ann = Member::User { issuer: ISSUER.to_owned(), name: "ann".to_owned() };
    lake.test.change(vec![filter("f", lake.test.table_id("n.t").await, &ann, below(3))]).await;
    let filters = json!({"operation": "GetRowFilters", "resource": table("t")});
    assert_eq!(lake.ask("row-filters", "ann", filters.clone()).await, json!([{"expression": "\"id\" < BIGINT '3'"}]));
    assert_eq!(lake.ask("row-filters", "bob", filters).await, json!([{"expression": "false"}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn access_policies_bind_the_users_of_trino() {
    let lake = TrinoTest::start(AccessMode::On, None).await;
    lake.user("reader", bundle(Bundle::Own)).await;
    let create = Privilege::CreateTable.into();
    lake.test.grant("reader", lake.test.namespace("n"), create).await;
    lake.test.grant("reader", lake.test.warehouse(), Privilege::ReadAllRows.into()).await;
    let rename = || json!({"operation": "RenameTable", "resource": table("t"), "targetResource": table("u")});
    let function = || json!({"function": {"catalogName": "lake", "schemaName": "system", "functionName": "table_changes"}});
    assert!(lake.may("reader", "SelectFromColumns", columns("t", &["id"])).await);
    assert!(lake.may("reader", "ExecuteFunction", function()).await);
    assert_eq!(lake.ask("allow", "reader", rename()).await, json!(true));
    let text = "forbid (principal == Esker::Client::\"reader\", action == Esker::Action::\"READ_DATA\",
        resource == Esker::Table::\"default.n.t\") when { context has engine && context.engine == \"trino\" };";
    lake.test.change(vec![RuleChange::SetPolicy { name: "no-rows".into(), text: text.into() }]).await;
    assert!(!lake.may("reader", "SelectFromColumns", columns("t", &["id"])).await);
    assert!(!lake.may("reader", "ExecuteFunction", function()).await, "it could read any table");
    assert_eq!(lake.ask("allow", "reader", rename()).await, json!(false), "the rows could be read under the new name");
    assert_eq!(lake.seen("reader", "FilterTables", vec![table("t")]).await, json!([0]));
    let other = text.replace("\"trino\" }", "\"spark\" }");
    lake.test.change(vec![RuleChange::SetPolicy { name: "no-rows".into(), text: other }]).await;
    assert!(lake.may("reader", "SelectFromColumns", columns("t", &["id"])).await, "another engine is meant");
    assert_eq!(lake.ask("allow", "reader", rename()).await, json!(false), "it could read the rows under the new name");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_decide_asks_and_the_other_modes_refuse_nothing() {
    let lake = TrinoTest::start(AccessMode::On, None).await;
    let body = json!({"input": {"context": {"identity": {"user": "ann"}}, "action": {"operation": "ExecuteQuery"}}});
    let other = lake.test.token("other").await;
    for end in ["allow", "batch", "row-filters", "column-mask", "batch-column-masks"] {
        let path = format!("/api/v1/access/opa/{end}");
        let (status, text) = lake.test.send(&other, Method::POST, &path, Some(body.clone())).await;
        assert!(status == 403 && text.contains("other lacks DECIDE on the server"), "{end}: {status} {text}");
        assert_eq!(lake.test.status(TOKEN, Method::POST, &path, Some(body.clone())).await, 200, "{end}");
        assert_eq!(lake.test.status(TOKEN, Method::POST, &path, Some(json!({"input": 1}))).await, 400, "{end}");
    }
    let id = lake.test.table_id("n.t").await;
    lake.test.change(vec![filter("f", id, &Member::client("nobody"), below(1))]).await;
    for mode in [AccessMode::Report, AccessMode::Off] {
        lake.test.change(vec![RuleChange::SetMode { mode }]).await;
        assert!(lake.may("ann", "DropTable", table("t")).await, "{mode:?}");
        let filters = json!({"operation": "GetRowFilters", "resource": table("t")});
        assert_eq!(lake.ask("row-filters", "ann", filters).await, json!([]), "{mode:?}");
        assert_eq!(lake.seen("ann", "FilterTables", vec![table("t"), table("hidden")]).await, json!([0, 1]), "{mode:?}");
    }
}

/// Trino does not say which table is unregistered. Registered again, it would have no masks.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_restricted_on_any_table_unregisters_none() {
    let lake = TrinoTest::start(AccessMode::On, None).await;
    lake.user("keeper", bundle(Bundle::Select)).await;
    let unregister = json!({"function": {"catalogName": "lake", "schemaName": "system", "functionName": "unregister_table"}});
    let may = async || lake.may("keeper", "ExecuteProcedure", unregister.clone()).await;
    lake.test.grant("keeper", lake.test.warehouse(), Privilege::Drop.into()).await;
    assert!(!may().await, "the answer would have the metadata");
    lake.test.grant("keeper", lake.test.warehouse(), Privilege::ReadMetadata.into()).await;
    assert!(may().await);
    let restricted = lake.test.table_id("n.t").await;
    lake.test.change(vec![mask(restricted, 2, MaskAction::MaskAlphanum, &["admin"])]).await;
    assert!(!may().await);
    lake.test.grant("keeper", lake.test.warehouse(), Privilege::ManageRestrictions.into()).await;
    assert!(may().await);
}
