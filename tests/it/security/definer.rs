//! Definer's rights: a trusted engine reads the table of a view by the rights of the view's owner, and nobody else does.

use esker::config::VendingMode;
use esker_access::{Bundle, MaskAction, Member, Privilege, PrivilegeSet, RuleChange, Securable, SecurableKind, TRUSTED_ENGINE};
use esker_catalog::{Actor, CreateView};
use esker_tests::AccessTest;
use esker_types::{NamespaceName, TableName};
use reqwest::Method;
use serde_json::{Value, json};

use super::credentials::Lake;
use super::matrix::new_view;
use super::read_restrictions::{below, filter, mask};

const VIEWS: &str = "/v1/default/namespaces/n/views";
const TABLE: &str = "/v1/default/namespaces/n/tables/t";
const THROUGH: &str = "/v1/default/namespaces/n/tables/t?referenced-by=n%1Fv";

/// A view of a name with a text of Trino.
fn view_of(name: &str, sql: &str) -> Value {
    let mut view = new_view(name);
    view["view-version"]["representations"] = json!([{"type": "sql", "sql": sql, "dialect": "trino"}]);
    view
}

/// A server with the clients `ann`, who may read `n.t` and make views, and `engine`, a trusted engine that may read nothing.
struct Definer {
    lake: Lake,
    ann: String,
    engine: String,
}

impl Definer {
    async fn start() -> Self {
        let lake = Lake::start(VendingMode::Sts, true).await;
        let ann = lake.client("ann", AccessTest::bundle(Bundle::Select, SecurableKind::Table)).await;
        lake.test.grant("ann", lake.test.namespace("n"), Privilege::CreateView.into()).await;
        let engine = lake.test.client("engine").await;
        let trusted = RuleChange::AddMember { role: TRUSTED_ENGINE.to_owned(), member: Member::client("engine") };
        lake.test.change(vec![trusted]).await;
        Self { lake, ann, engine }
    }

    /// Makes a view as its owner, which a client may read.
    async fn view(&self, owner: &str, reader: &str, name: &str, sql: &str) {
        let (status, answer) = self.lake.ask(owner, Method::POST, VIEWS, Some(view_of(name, sql))).await;
        assert_eq!(status, 200, "{answer}");
        self.lake.test.grant(reader, self.on(name).await, AccessTest::bundle(Bundle::Select, SecurableKind::View)).await;
    }

    /// Returns a view of the namespace `n`.
    async fn on(&self, name: &str) -> Securable {
        let name: TableName = format!("n.{name}").parse().expect("a name");
        Securable::View { view: self.lake.test.app.catalog().view(&name).await.expect("a view").id }
    }

    /// Gives the view `v` another text.
    async fn replace(&self, by: &str, sql: &str) {
        let mut version = view_of("v", sql)["view-version"].clone();
        version["version-id"] = json!(9);
        let updates = json!([{"action": "add-view-version", "view-version": version},
            {"action": "set-current-view-version", "view-version-id": -1}]);
        let body = json!({"requirements": [], "updates": updates});
        let (status, answer) = self.lake.ask(by, Method::POST, &format!("{VIEWS}/v"), Some(body)).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Returns the status of a load by the engine.
    async fn status(&self, path: &str) -> u16 {
        self.lake.ask(&self.engine, Method::GET, path, None).await.0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_engine_reads_a_table_through_a_view_by_the_rights_of_its_owner() {
    let definer = Definer::start().await;
    let lake = &definer.lake;
    definer.view(&definer.ann, "engine", "v", "SELECT id AS a FROM t").await;
    assert_eq!(definer.status(TABLE).await, 404, "the table is hidden from the engine itself");
    let (status, loaded) = lake.ask(&definer.engine, Method::GET, THROUGH, None).await;
    assert_eq!((status, loaded["storage-credentials"].as_array().map(Vec::len)), (200, Some(1)), "{loaded}");
    assert_eq!(lake.actions("engine"), Some(json!(["s3:GetObject"])), "a view is read");
    assert!(loaded.get("read-restrictions").is_none());

    let credentials = format!("{TABLE}/credentials");
    assert_eq!(definer.status(&credentials).await, 404);
    assert_eq!(definer.status(&format!("{credentials}?referenced-by=n%1Fv")).await, 200);
    let planned = lake.ask(&definer.engine, Method::POST, &format!("{TABLE}/plan?referenced-by=n%1Fv"), Some(json!({}))).await;
    assert_eq!(planned.0, 200, "{}", planned.1);
    let plan = format!("{TABLE}/plan/{}", planned.1["plan-id"].as_str().expect("an id"));
    assert_eq!(definer.status(&plan).await, 200, "the plan knows its views");
    assert_eq!(lake.ask(&definer.engine, Method::POST, &format!("{TABLE}/plan"), Some(json!({}))).await.0, 404);

    // What restricts the owner restricts whoever reads by its rights.
    let table = lake.test.table_id("n.t").await;
    let rules = vec![filter("f1", table, &Member::client("ann"), below(5)), mask(table, 1, MaskAction::Sha256Global, &[])];
    lake.test.change(rules).await;
    let restrictions = lake.ask(&definer.engine, Method::GET, THROUGH, None).await.1["read-restrictions"].clone();
    assert_eq!(restrictions["required-row-filter"]["right"]["right"]["value"], 5, "{restrictions}");
    assert_eq!(restrictions["required-column-projections"], json!([{"field-id": 1, "action": "sha-256-global"}]));

    let select = AccessTest::bundle(Bundle::Select, SecurableKind::Table);
    let revoke =
        RuleChange::Revoke { to: Member::client("ann"), on: lake.test.table("n.t").await, future: None, privileges: select };
    lake.test.change(vec![revoke]).await;
    assert_eq!((definer.status(THROUGH).await, definer.status(&plan).await), (404, 404), "the owner may not read it any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_access_policy_forbids_the_engine_no_view_gives() {
    let definer = Definer::start().await;
    definer.view(&definer.ann, "engine", "v", "SELECT id AS a FROM t").await;
    for privilege in ["READ_DATA", "READ_METADATA"] {
        assert_eq!(definer.status(THROUGH).await, 200, "{privilege}");
        let text = format!(
            r#"forbid (principal == Esker::Client::"engine", action == Esker::Action::"{privilege}", resource is Esker::Table);"#
        );
        let path = "/api/v1/access/policies/not-the-engine";
        definer.lake.test.app.ok(Method::PUT, path, Some(json!({"text": text}))).await;
        assert_eq!(definer.status(THROUGH).await, 404, "{privilege}");
        definer.lake.test.app.ok(Method::DELETE, path, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_each_step_of_the_chain_a_view_gives_no_rights() {
    let definer = Definer::start().await;
    let lake = &definer.lake;
    definer.view(&definer.ann, "engine", "v", "SELECT id AS a FROM t").await;
    assert_eq!(definer.status(THROUGH).await, 200);

    let other = lake.test.client("other").await;
    lake.test.grant("other", definer.on("v").await, AccessTest::bundle(Bundle::Select, SecurableKind::View)).await;
    assert_eq!(lake.ask(&other, Method::GET, THROUGH, None).await.0, 404, "it is no trusted engine");

    definer.view(&definer.ann, "engine", "elsewhere", "SELECT 1 AS a -- FROM t").await;
    definer.view(&definer.ann, "other", "unread", "SELECT id AS a FROM t").await;
    for view in ["elsewhere", "unread", "missing", "v,n%1Felsewhere", "%1F"] {
        assert_eq!(definer.status(&format!("{TABLE}?referenced-by=n%1F{view}")).await, 404, "{view}");
    }
    let nobodys: CreateView = serde_json::from_value(view_of("nobodys", "SELECT id AS a FROM t")).expect("a view");
    let namespace = NamespaceName::new(vec!["n".to_owned()]).expect("a name");
    lake.test.app.catalog().create_view(&namespace, nobodys, &Actor::internal("test")).await.expect("created");
    lake.test.grant("engine", definer.on("nobodys").await, AccessTest::bundle(Bundle::Select, SecurableKind::View)).await;
    assert_eq!(definer.status(&format!("{TABLE}?referenced-by=n%1Fnobodys")).await, 404, "it has no owner");

    // A view of `bob` over that of `ann`, which only `bob` may read.
    let bob = lake.test.client("bob").await;
    lake.test.grant("bob", lake.test.namespace("n"), Privilege::CreateView.into()).await;
    definer.view(&bob, "engine", "outer", "SELECT a FROM unread").await;
    let chain = format!("{TABLE}?referenced-by=n%1Fouter,n%1Funread");
    assert_eq!(definer.status(&chain).await, 404, "the owner of the outer view may not read the inner one");
    lake.test.grant("bob", definer.on("unread").await, AccessTest::bundle(Bundle::Select, SecurableKind::View)).await;
    assert_eq!(definer.status(&chain).await, 200);
}

/// Whoever may change a text could otherwise read every table that the view's owner may read.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_not_the_owners_gives_no_rights_of_the_owner() {
    let definer = Definer::start().await;
    let lake = &definer.lake;
    definer.view(&definer.ann, "engine", "v", "SELECT 1 AS a").await;
    let mallory = lake.test.client("mallory").await;
    let alter = [Privilege::List, Privilege::ReadMetadata, Privilege::AlterSchema, Privilege::SetProtected];
    lake.test.grant("mallory", definer.on("v").await, PrivilegeSet::of(&alter)).await;
    definer.replace(&mallory, "SELECT id AS a FROM t").await;
    assert_eq!(definer.status(THROUGH).await, 404);
    let remove = json!({"requirements": [], "updates": [{"action": "remove-properties", "removals": ["esker.text-by"]}]});
    let (status, view) = lake.ask(&mallory, Method::POST, &format!("{VIEWS}/v"), Some(remove.clone())).await;
    assert_eq!((status, &view["metadata"]["properties"]["esker.text-by"]), (200, &json!("mallory")), "only the owner removes it");
    assert_eq!(definer.status(THROUGH).await, 404);

    assert_eq!(lake.ask(&definer.ann, Method::POST, &format!("{VIEWS}/v"), Some(remove)).await.0, 200);
    assert_eq!(definer.status(THROUGH).await, 200, "the owner takes the text over");
    definer.replace(&mallory, "SELECT id + 1 AS a FROM t").await;
    assert_eq!(definer.status(THROUGH).await, 404);
    definer.replace(&definer.ann, "SELECT id + 2 AS a FROM t").await;
    assert_eq!(definer.status(THROUGH).await, 200, "the text is the owner's again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_access_policy_forbids_the_engine_no_owner_of_a_view_gives() {
    let definer = Definer::start().await;
    definer.view(&definer.ann, "engine", "v", "SELECT id AS a FROM t").await;
    assert_eq!(definer.status(THROUGH).await, 200);
    let forbid = |client: &str| {
        format!(
            r#"forbid (principal == Esker::Client::"{client}", action == Esker::Action::"READ_DATA",
                resource == Esker::Table::"default.n.t");"#
        )
    };
    for (client, status) in [("other", 200), ("engine", 404), ("ann", 404)] {
        let policy = Some(json!({"text": forbid(client)}));
        definer.lake.test.app.ok(Method::PUT, "/api/v1/access/policies/no-rows", policy).await;
        assert_eq!(definer.status(THROUGH).await, status, "it is forbidden to {client}");
    }
}
