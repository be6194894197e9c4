//! The authorisation matrix: every operation, sent by every role, is answered as the reviewed file `matrix.tsv` says.
//!
//! `ESKER_WRITE_MATRIX=1` writes the file anew. An operation of one of the two APIs without a request here fails the test. The roles
//! have their grants on the namespace `n`, and each but `nobody` may connect to the warehouse.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use esker_access::{AccessMode, Bundle, Privilege, PrivilegeSet, SecurableKind};
use esker_tests::{AccessTest, TestApp};
use reqwest::redirect::Policy;
use reqwest::{Client, Method};
use serde_json::{Value, json};

/// The operations that are sent, and the roles that they are sent with beside `anonymous`, `legacy` and `admin`.
const ROLES: [&str; 7] = ["nobody", "lister", "reader", "inserter", "writer", "owner", "maintainer"];

/// Requests that only the web page has.
const PAGES: [&str; 11] = [
    "GET /",
    "GET /jobs",
    "GET /jobs/{job}",
    "POST /jobs/{job}/cancel",
    "POST /warehouses/{warehouse}/jobs/{job}/undo",
    "GET /quarantine",
    "GET /queries",
    "GET /access",
    "POST /access",
    "GET /warehouses/{warehouse}/namespaces/{namespace}/tables/{table}",
    "POST /logout",
];

/// Returns the privileges of a role on the namespace.
fn privileges(role: &str) -> PrivilegeSet {
    let bundle = |bundle| AccessTest::bundle(bundle, SecurableKind::Namespace);
    match role {
        "lister" => Privilege::List.into(),
        "reader" => bundle(Bundle::Select),
        "inserter" => bundle(Bundle::Insert),
        "writer" => bundle(Bundle::Write),
        "owner" => bundle(Bundle::Own),
        "maintainer" => PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata, Privilege::Maintain]),
        _ => PrivilegeSet::EMPTY,
    }
}

/// Lists the requests of both APIs and of the page, as routes.
fn requests() -> BTreeSet<String> {
    let document: Value = serde_json::from_str(include_str!("../../../api/openapi.json")).expect("JSON");
    let paths = document["paths"].as_object().expect("paths").iter();
    let managed = paths.flat_map(|(route, item)| {
        let methods = item.as_object().expect("methods").keys();
        methods.map(move |method| format!("{} {route}", method.to_uppercase()))
    });
    let listed: Value = serde_json::from_str(include_str!("../../../api/iceberg-rest.json")).expect("JSON");
    let operations = listed["operations"].as_array().expect("operations").iter().filter(|operation| operation["served"] != "no");
    let served = operations.map(|operation| operation["request"].as_str().expect("a request").to_owned());
    managed.chain(served).chain(PAGES.map(str::to_owned)).collect()
}

/// Things that a request names, new for each, so that no answer depends on the request before.
struct Fresh {
    table: String,
    view: String,
    function: String,
    namespace: String,
    job: String,
    dropped: String,
    token: String,
    plan: String,
    /// The metadata file of the table.
    metadata: String,
}

/// The number of the next new thing.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The body of a request that creates a view.
pub(super) fn new_view(name: &str) -> Value {
    let query = json!({"type": "sql", "sql": "SELECT 1 AS a", "dialect": "spark"});
    let version = json!({"version-id": 1, "timestamp-ms": 1, "schema-id": 0, "summary": {}, "representations": [query],
        "default-namespace": ["n"]});
    let fields = json!([{"id": 1, "name": "a", "required": false, "type": "int"}]);
    json!({"name": name, "schema": {"type": "struct", "schema-id": 0, "fields": fields}, "view-version": version, "properties": {}})
}

/// The body of a request that stores a function.
pub(super) fn new_function() -> Value {
    json!({"function-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "format-version": 1, "definitions": [{"definition-id": "()"}]})
}

impl Fresh {
    /// Makes the things that a request names, as the administrator. A plan is made as the caller.
    async fn of(app: &TestApp, request: &str, client: &Client, token: Option<&str>) -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let wants = |what: &str| request.contains(what);
        let (nil, tables) = ("00000000-0000-0000-0000-000000000000".to_owned(), "/v1/default/namespaces/n/tables");
        let named = |what: &str| format!("{what}{n}");
        let (table, view, function, namespace) = (named("t"), named("v"), named("f"), named("ns"));
        let mut fresh = Self {
            table,
            view,
            function,
            namespace,
            job: nil.clone(),
            dropped: nil.clone(),
            token: nil.clone(),
            plan: nil,
            metadata: String::new(),
        };
        let of_a_table =
            ["{table}", "{job}", "{table-id}", "rename", "transactions", "register", "/restrictions", "/filters", "/masks"];
        let uses_table = of_a_table.iter().any(|what| wants(what));
        if uses_table {
            let created = app.ok(Method::POST, tables, Some(AccessTest::new_table(&fresh.table))).await;
            fresh.metadata = created["metadata-location"].as_str().expect("a location").to_owned();
        }
        if wants("view") {
            app.ok(Method::POST, "/v1/default/namespaces/n/views", Some(new_view(&fresh.view))).await;
        }
        if wants("{function}") {
            let path = format!("/api/v1/warehouses/default/namespaces/n/functions/{}", fresh.function);
            app.ok(Method::PUT, &path, Some(new_function())).await;
        }
        if wants("DELETE /v1/{prefix}/namespaces/{namespace}") && !wants("{namespace}/") {
            app.ok(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": ["n", fresh.namespace]}))).await;
        }
        if wants("{job}") {
            let path = format!("/api/v1/warehouses/default/namespaces/n/tables/{}/expire", fresh.table);
            fresh.job = app.ok(Method::POST, &path, Some(json!({}))).await["job-id"].as_str().expect("an id").to_owned();
            app.wait_for_job(&fresh.job).await;
        }
        if wants("{table-id}") {
            app.ok(Method::DELETE, &format!("{tables}/{}", fresh.table), None).await;
            let all = app.ok(Method::GET, "/api/v1/warehouses/default/dropped", None).await;
            let dropped = all.as_array().expect("a list").iter().find(|dropped| dropped["name"] == fresh.table.as_str());
            fresh.dropped = dropped.expect("dropped")["table-id"].as_str().expect("an id").to_owned();
        }
        if wants("{token-id}") {
            let made = app.ok(Method::POST, "/api/v1/tokens", Some(json!({"principal": "another"}))).await;
            fresh.token = made["id"].as_str().expect("an id").to_owned();
        }
        if wants("{plan-id}") || wants("/tasks") {
            let mut plan = client.post(app.url(&format!("{tables}/{}/plan", fresh.table))).json(&json!({}));
            if let Some(token) = token {
                plan = plan.bearer_auth(token);
            }
            let answer: Value = plan.send().await.expect("an answer").json().await.expect("JSON");
            if let Some(id) = answer["plan-id"].as_str() {
                fresh.plan = id.to_owned();
            }
        }
        fresh
    }

    /// Returns the path of a request.
    fn path(&self, request: &str) -> String {
        let (_, route) = request.split_once(' ').expect("a method and a route");
        let own = request == "DELETE /v1/{prefix}/namespaces/{namespace}";
        let namespace = if own { format!("n%1F{}", self.namespace) } else { "n".to_owned() };
        let path = route
            .replace("{prefix}", "default")
            .replace("{warehouse}", "default")
            .replace("{namespace}", &namespace)
            .replace("{table}", &self.table)
            .replace("{view}", &self.view)
            .replace("{function}", &self.function)
            .replace("{job}", &self.job)
            .replace("{table-id}", &self.dropped)
            .replace("{token-id}", &self.token)
            .replace("{plan-id}", &self.plan)
            .replace("{role}", "nothing")
            .replace("{member}", "client:someone")
            .replace("{grant-id}", &self.plan)
            .replace("{filter-id}", &self.plan)
            .replace("{policy}", "nothing")
            .replace("{kind}", "expire")
            .replace("{id}", "1");
        let on = format!("on=table%20default.n.{}", self.table);
        match request {
            request if request.ends_with("/explain") => format!("{path}?path=file:///nothing"),
            "GET /api/v1/access/restrictions" | "DELETE /api/v1/access/filters/{filter-id}" => format!("{path}?{on}"),
            "DELETE /api/v1/access/masks" => format!("{path}?{on}&field=id"),
            _ => path,
        }
    }

    /// Returns the body of a request, if it has one.
    fn body(&self, request: &str) -> Option<Value> {
        let name = |name: &str| json!({"namespace": ["n"], "name": name});
        let update = json!([{"action": "set-properties", "updates": {"a": "b"}}]);
        let (_, route) = request.split_once(' ').expect("a method and a route");
        let end = route.rsplit('/').next().unwrap_or_default();
        let body = match (request.split_once(' ').map_or("", |(method, _)| method), end) {
            ("GET" | "HEAD" | "DELETE", _) => return None,
            (_, "namespaces") => json!({"namespace": ["n", self.namespace]}),
            (_, "properties") => json!({"updates": {"a": "b"}}),
            (_, "tables") => AccessTest::new_table(&format!("new{}", self.table)),
            (_, "views") => new_view(&format!("new{}", self.view)),
            (_, "{table}") => json!({"requirements": [], "updates": update}),
            (_, "{view}") => json!({"updates": update}),
            (_, "{function}") => new_function(),
            (_, "metrics") => json!({"report-type": "other"}),
            (_, "tasks") => json!({"plan-task": format!("{}.0", self.plan)}),
            (_, "sign") => json!({"method": "GET", "uri": "http://localhost/", "region": "here", "headers": {}}),
            (_, "register") => {
                json!({"name": self.table, "metadata-location": self.metadata, "overwrite": true})
            }
            (_, "register-view") => json!({"name": "registered", "metadata-location": self.metadata}),
            (_, "rename") if route.contains("views") => {
                json!({"source": name(&self.view), "destination": name(&format!("new{}", self.view))})
            }
            (_, "rename") => json!({"source": name(&self.table), "destination": name(&format!("new{}", self.table))}),
            (_, "commit") => {
                json!({"table-changes": [{"identifier": name(&self.table), "requirements": [], "updates": update}]})
            }
            (_, "protection") => json!({"protected": false}),
            (_, "refs") => json!({"action": "create-tag", "name": "x"}),
            (_, "claim") if route.contains("jobs") => json!({"engine": "spark", "worker": "w"}),
            (_, "renew") => json!({"worker": "w"}),
            (_, "finish") => json!({"state": "cancelled", "worker": "w"}),
            (_, "mode") => json!({"mode": "on"}),
            (_, "roles") => json!({"name": self.namespace}),
            (_, "grants" | "revoke") => {
                json!({"to": {"kind": "client", "name": "someone"}, "privileges": "LIST", "on": "namespace default.n"})
            }
            _ if route.contains("/access/opa/") => {
                json!({"input": {"context": {"identity": {"user": "someone"}}, "action": {"operation": "ExecuteQuery"}}})
            }
            (_, "filters") => {
                json!({"on": format!("table default.n.{}", self.table), "to": {"kind": "client", "name": "x"}, "filter": true})
            }
            (_, "masks") => {
                json!({"on": format!("table default.n.{}", self.table), "field": "id", "action": "mask-to-fixed-value"})
            }
            (_, "{policy}") => json!({"text": "permit(principal == Esker::Client::\"someone\", action, resource);"}),
            (_, "rotate") => json!({"principal": "another", "overlap-seconds": 0}),
            (_, "tokens") if route.starts_with("/api/") => json!({"principal": "another"}),
            _ => json!({}),
        };
        Some(body)
    }
}

/// Sends a request as a role, and returns the status.
async fn status(test: &AccessTest, client: &Client, request: &str, token: Option<&str>) -> u16 {
    let fresh = Fresh::of(&test.app, request, client, token).await;
    let method: Method = request.split_once(' ').expect("a method").0.parse().expect("a method");
    let mut sent = client.request(method, test.app.url(&fresh.path(request)));
    if let Some(token) = token {
        sent = sent.bearer_auth(token);
    }
    if request == "POST /access" {
        sent = sent.body(format!("action=create-role&role={}", fresh.namespace));
    } else if let Some(body) = fresh.body(request) {
        sent = sent.json(&body);
    }
    sent.send().await.expect("an answer").status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_each_role_as_the_reviewed_file_says() {
    let app = TestApp::start().await;
    // A token that is older than the rules.
    let old = app.ok(Method::POST, "/api/v1/tokens", Some(json!({"principal": "old"}))).await;
    app.server.access().bootstrap("admin", Some(AccessMode::On)).await.expect("an administrator");
    let test = AccessTest { app };
    test.create_namespace("n").await;
    let mut roles: Vec<(&str, Option<String>)> = vec![("anonymous", None)];
    for role in ROLES {
        let token = if role == "nobody" { test.token(role).await } else { test.client(role).await };
        if !privileges(role).is_empty() {
            test.grant(role, test.namespace("n"), privileges(role)).await;
        }
        roles.push((role, Some(token)));
    }
    roles.push(("legacy", Some(old["token"].as_str().expect("a token").to_owned())));
    roles.push(("admin", Some(esker_tests::TOKEN.to_owned())));
    let client = Client::builder().redirect(Policy::none()).build().expect("a client");
    let mut matrix = format!("request\t{}\n", roles.iter().map(|(role, _)| *role).collect::<Vec<_>>().join("\t"));
    for request in requests() {
        matrix.push_str(&request);
        for (_, token) in &roles {
            write!(matrix, "\t{}", status(&test, &client, &request, token.as_deref()).await).expect("a string");
        }
        matrix.push('\n');
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/security/matrix.tsv");
    if std::env::var_os("ESKER_WRITE_MATRIX").is_some() {
        std::fs::write(&path, &matrix).expect("written");
        return;
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    for (got, wanted) in matrix.lines().zip(reviewed.lines()) {
        assert_eq!(got, wanted, "the first line of matrix.tsv that is different");
    }
    assert_eq!(matrix.lines().count(), reviewed.lines().count(), "a request has no row; ESKER_WRITE_MATRIX=1 writes them");
}
