//! Vended credentials and signatures under access control: they follow the rights to the table, and a hidden table has none.
//!
//! The token service and the store answer from memory. `tests/engines/test_access.py` has real engines on MinIO.

use esker::config::{VendingConfig, VendingLevel, VendingMode};
use esker_access::{AccessMode, Bundle, Member, Privilege, PrivilegeSet, RuleChange, Securable, SecurableKind};
use esker_tests::{AccessTest, TestApp};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::send_as;
use crate::vending::Service;

const TABLES: &str = "/v1/default/namespaces/n/tables";
const TABLE: &str = "/v1/default/namespaces/n/tables/t";
const CREDENTIALS: &str = "/v1/default/namespaces/n/tables/t/credentials";
const PLAN: &str = "/v1/default/namespaces/n/tables/t/plan";
const SIGN: &str = "/v1/default/namespaces/n/tables/t/sign";
const DELEGATION: &str = "x-iceberg-access-delegation";
const ASK: (&str, &str) = (DELEGATION, "vended-credentials");

/// The beginning of what a refusal names to who sees the table and may do nothing with its rows.
const NO_ROWS: &str = "lacks one of READ_DATA, APPEND, MODIFY, REWRITE on table n.t";

/// Actions on objects in the session policy of a reader.
fn read() -> Value {
    json!(["s3:GetObject"])
}

/// Actions on objects in the session policy of a writer.
fn write() -> Value {
    json!(["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"])
}

/// Actions on objects in the session policy of a writer, where the warehouse vends deletions.
fn write_delete() -> Value {
    json!(["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:DeleteObject"])
}

/// Privileges of who sees the table and its metadata, with others.
const fn describe_and(others: &[Privilege]) -> PrivilegeSet {
    PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata]).union(PrivilegeSet::of(others))
}

/// Privileges of a bundle on a table.
const fn bundle(bundle: Bundle) -> PrivilegeSet {
    AccessTest::bundle(bundle, SecurableKind::Table)
}

/// Returns the message of a refusal.
fn message(refusal: &Value) -> &str {
    refusal["error"]["message"].as_str().unwrap_or_else(|| panic!("no refusal: {refusal}"))
}

/// A server with access control, whose warehouse gives access to the store and has a table `n.t`.
pub(super) struct Lake {
    pub(super) test: AccessTest,
    pub(super) service: Service,
}

impl Lake {
    /// Starts a server with the mode on, and with a mode of vending. `delete`: writers may delete objects.
    pub(super) async fn start(mode: VendingMode, delete: bool) -> Self {
        Self::start_with(AccessMode::On, |vending| (vending.mode, vending.delete) = (mode, delete)).await
    }

    /// Starts a server whose store is said to check headers.
    async fn start_with(mode: AccessMode, change: impl FnOnce(&mut VendingConfig)) -> Self {
        let service = Service::start().await;
        let app = TestApp::start_with(|config| {
            service.configure(config);
            let vending = &mut config.warehouses.entry("default".to_owned()).or_default().vending;
            vending.store_checks_headers = true;
            change(vending);
        })
        .await;
        app.server.access().bootstrap("admin", Some(mode)).await.expect("an administrator");
        let test = AccessTest { app };
        test.create_namespace("n").await;
        test.create_table("n", "t").await;
        Self { test, service }
    }

    /// Makes a client that has privileges on the table. Returns its token.
    pub(super) async fn client(&self, name: &str, privileges: PrivilegeSet) -> String {
        let token = self.test.client(name).await;
        self.test.grant(name, self.test.table("n.t").await, privileges).await;
        token
    }

    /// Takes privileges on a thing from a client.
    async fn revoke(&self, client: &str, on: Securable, privileges: PrivilegeSet) {
        let to = Member::client(client);
        self.test.change(vec![RuleChange::Revoke { to, on, future: None, privileges }]).await;
    }

    /// Sends a request that asks for credentials. Returns the status and the body.
    pub(super) async fn ask(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        send_as(&self.test.app, token, method, path, &[ASK], body).await
    }

    /// Loads the table, by a client that has an answer with an entity tag. Returns the status, the headers and the body.
    pub(super) async fn load_again(&self, token: &str, known: &str) -> (StatusCode, HeaderMap, String) {
        self.test.app.send_as(token, Method::GET, TABLE, &[ASK, ("if-none-match", known)], None).await
    }

    /// Asks for the signature of a request on a file of the table. Returns the status and the body.
    pub(super) async fn sign(&self, token: &str, method: &str, end: &str) -> (u16, Value) {
        let loaded = self.test.app.ok(Method::GET, TABLE, None).await;
        let location = loaded["metadata"]["location"].as_str().expect("a location").to_owned();
        let uri = format!("{}/data/{end}", location.replace("s3:/", &self.service.endpoint));
        self.ask(token, Method::POST, SIGN, Some(request(method, &uri))).await
    }

    /// Returns the actions on objects in the last session policy of a client; `None` if nothing was vended to it.
    pub(super) fn actions(&self, client: &str) -> Option<Value> {
        let session = format!("esker-{client}");
        let asked = self.service.asked().into_iter().rfind(|asked| asked["RoleSessionName"] == session)?;
        let policy: Value = serde_json::from_str(&asked["Policy"]).expect("JSON");
        Some(policy["Statement"][0]["Action"].clone())
    }
}

/// The body of a request for a signature.
fn request(method: &str, uri: &str) -> Value {
    json!({"region": "r", "uri": uri, "method": method, "headers": {}})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_to_the_rows_decide_the_level_of_credentials() {
    for delete in [false, true] {
        let lake = Lake::start(VendingMode::Sts, delete).await;
        let most = if delete { write_delete() } else { write() };
        for (name, privileges, expected) in [
            ("reader", bundle(Bundle::Select), read()),
            ("inserter", bundle(Bundle::Insert), write()),
            ("modifier", describe_and(&[Privilege::Modify]), most.clone()),
            ("rewriter", describe_and(&[Privilege::Rewrite]), most.clone()),
            ("writer", bundle(Bundle::Write), most.clone()),
            ("owner", bundle(Bundle::Own), most),
        ] {
            let token = lake.client(name, privileges).await;
            let (status, loaded) = lake.ask(&token, Method::GET, TABLE, None).await;
            assert_eq!(status, 200, "{name}: {loaded}");
            assert_eq!(lake.actions(name), Some(expected.clone()), "{name}, delete = {delete}");
            let config = &loaded["storage-credentials"][0]["config"];
            assert_eq!(&loaded["config"], config, "{name}");
            assert_eq!(config.get("s3.delete-enabled").is_none(), expected == write_delete(), "{name}: {config}");
            let refreshed = lake.ask(&token, Method::GET, CREDENTIALS, None).await;
            assert_eq!(refreshed, (200, json!({"storage-credentials": loaded["storage-credentials"]})), "{name}: the kept ones");
        }
        assert_eq!(lake.service.asked().len(), 6, "each client has its own");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_neither_read_nor_write_rows_gets_no_entry_and_no_way_to_signatures() {
    let lake = Lake::start(VendingMode::Both, true).await;
    let care = [Privilege::Maintain, Privilege::Drop, Privilege::SetProperties, Privilege::ManageRefs, Privilege::Expire];
    for (name, privileges) in [("describer", describe_and(&[])), ("keeper", describe_and(&care))] {
        let token = lake.client(name, privileges).await;
        for mechanisms in ["vended-credentials", "remote-signing", "vended-credentials,remote-signing"] {
            let headers = [(DELEGATION, mechanisms)];
            let (status, loaded) = send_as(&lake.test.app, &token, Method::GET, TABLE, &headers, None).await;
            assert_eq!((status, &loaded["config"]), (200, &json!({})), "{name}, {mechanisms}: {loaded}");
            let access = ["storage-credentials", "remote-signing-config"].map(|key| loaded.get(key));
            assert_eq!(access, [None, None], "{name}, {mechanisms}: {loaded}");
        }
        for path in [CREDENTIALS.to_owned(), format!("{CREDENTIALS}?planId=p")] {
            let (status, refusal) = lake.ask(&token, Method::GET, &path, None).await;
            assert!(status == 403 && message(&refusal).contains(NO_ROWS), "{name}, {path}: {status} {refusal}");
        }
        for method in ["GET", "HEAD", "PUT"] {
            let (status, refusal) = lake.sign(&token, method, "x").await;
            assert!(status == 403 && message(&refusal).contains(NO_ROWS), "{name}, {method}: {status} {refusal}");
        }
    }
    let lister = lake.client("lister", Privilege::List.into()).await;
    for (method, path, body) in [
        (Method::GET, TABLE, None),
        (Method::GET, CREDENTIALS, None),
        (Method::POST, SIGN, Some(request("GET", "http://localhost/"))),
        (Method::POST, PLAN, Some(json!({}))),
    ] {
        let (status, refusal) = lake.ask(&lister, method, path, body).await;
        assert!(status == 403 && message(&refusal).contains("lister lacks"), "{path}: {status} {refusal}");
    }
    assert!(lake.service.asked().is_empty(), "nothing was vended");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_revocation_new_credentials_are_lower_and_then_refused() {
    let lake = Lake::start(VendingMode::Both, true).await;
    let table = lake.test.table("n.t").await;
    let token = lake.client("etl", bundle(Bundle::Write)).await;
    let (status, headers, _) = lake.load_again(&token, "\"none\"").await;
    let known = headers["etag"].to_str().expect("text").to_owned();
    assert_eq!((status, lake.actions("etl")), (StatusCode::OK, Some(write_delete())));
    assert_eq!(lake.load_again(&token, &known).await.0, StatusCode::NOT_MODIFIED);
    assert_eq!(lake.sign(&token, "PUT", "x").await.0, 200);

    let changes = PrivilegeSet::of(&[Privilege::Append, Privilege::Modify, Privilege::Rewrite]);
    lake.revoke("etl", table.clone(), changes).await;
    let (status, lower) = lake.ask(&token, Method::GET, CREDENTIALS, None).await;
    assert_eq!((status, lake.actions("etl")), (200, Some(read())), "{lower}");
    let (status, headers, body) = lake.load_again(&token, &known).await;
    assert_eq!(status, StatusCode::OK, "a 304 would leave the client with the higher ones: {body}");
    let known = headers["etag"].to_str().expect("text").to_owned();
    assert_eq!(lake.sign(&token, "PUT", "x").await.0, 403);
    assert_eq!(lake.sign(&token, "GET", "x").await.0, 200);

    lake.revoke("etl", table.clone(), Privilege::ReadData.into()).await;
    let (status, refusal) = lake.ask(&token, Method::GET, CREDENTIALS, None).await;
    assert!(status == 403 && message(&refusal).contains(NO_ROWS), "{status} {refusal}");
    assert_eq!(lake.sign(&token, "GET", "x").await.0, 403);
    let (status, _, body) = lake.load_again(&token, &known).await;
    assert!(status == StatusCode::OK && !body.contains("storage-credentials") && !body.contains("secret-"), "{status} {body}");

    lake.revoke("etl", table, bundle(Bundle::Write)).await;
    assert_eq!(lake.ask(&token, Method::GET, CREDENTIALS, None).await.0, 404, "it is hidden now");
    assert_eq!(lake.service.asked().len(), 2, "one for each level");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_credentials_of_a_plan_are_for_reading_and_end_with_the_right_to_read() {
    let lake = Lake::start(VendingMode::Sts, true).await;
    let writer = lake.client("writer", bundle(Bundle::Write)).await;
    let (status, planned) = lake.ask(&writer, Method::POST, PLAN, Some(json!({}))).await;
    assert_eq!((status, &planned["status"]), (200, &json!("completed")), "{planned}");
    assert_eq!(planned["storage-credentials"].as_array().map(Vec::len), Some(1), "{planned}");
    assert_eq!(lake.actions("writer"), Some(read()));
    let id = planned["plan-id"].as_str().expect("an id");
    let of_plan = lake.ask(&writer, Method::GET, &format!("{CREDENTIALS}?planId={id}"), None).await;
    assert_eq!(of_plan, (200, json!({"storage-credentials": planned["storage-credentials"]})));
    let polled = format!("{PLAN}/{id}");
    assert_eq!(lake.ask(&writer, Method::GET, &polled, None).await.1["storage-credentials"], planned["storage-credentials"]);
    lake.ask(&writer, Method::GET, TABLE, None).await;
    assert_eq!(lake.actions("writer"), Some(write_delete()), "a load has those for writing");

    let inserter = lake.client("inserter", bundle(Bundle::Insert)).await;
    let (status, refusal) = lake.ask(&inserter, Method::POST, PLAN, Some(json!({}))).await;
    assert!(status == 403 && message(&refusal).contains("READ_DATA"), "{status} {refusal}");
    assert_eq!(lake.actions("inserter"), None);
    lake.revoke("writer", lake.test.table("n.t").await, Privilege::ReadData.into()).await;
    let (status, refusal) = lake.ask(&writer, Method::GET, &polled, None).await;
    assert!(status == 403 && !refusal.to_string().contains("secret-"), "{status} {refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_signed_for_whom_the_rights_allow_it() {
    for mode in [VendingMode::Signing, VendingMode::Both] {
        let lake = Lake::start(mode, true).await;
        for (name, privileges, level) in [
            ("reader", bundle(Bundle::Select), 1),
            // Writers read manifests, which lie in the same place as the rows.
            ("inserter", bundle(Bundle::Insert), 2),
            ("writer", bundle(Bundle::Write), 3),
        ] {
            let token = lake.client(name, privileges).await;
            for (method, end, needed) in [
                ("GET", "x", 1),
                ("HEAD", "x", 1),
                ("PUT", "x", 2),
                ("POST", "x?uploads", 2),
                ("DELETE", "x?uploadId=u", 2),
                ("DELETE", "x", 3),
            ] {
                let (status, answer) = lake.sign(&token, method, end).await;
                if level >= needed {
                    assert_eq!(status, 200, "{mode:?}, {name}, {method} {end}: {answer}");
                    continue;
                }
                let needs = ["read", "write", "write-delete"][needed - 1];
                assert_eq!(status, 403, "{mode:?}, {name}, {method} {end}: {answer}");
                assert!(message(&answer).contains(&format!("needs the level {needs}, and")), "{name}, {method} {end}: {answer}");
            }
            let headers = [(DELEGATION, "remote-signing")];
            let (_, loaded) = send_as(&lake.test.app, &token, Method::GET, TABLE, &headers, None).await;
            assert_eq!(loaded["config"]["s3.remote-signing-enabled"], "true", "{name}: {loaded}");
            let scoped = [read(), write(), write_delete()][level - 1].clone();
            assert_eq!(lake.actions(name), (mode == VendingMode::Both).then_some(scoped), "{name}: what the store allows");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_has_credentials_for_who_may_create_it_only() {
    let lake = Lake::start(VendingMode::Sts, true).await;
    let namespace = lake.test.namespace("n");
    let (maker, viewer) = (lake.test.client("maker").await, lake.test.client("viewer").await);
    lake.test.grant("maker", namespace.clone(), Privilege::CreateTable.into()).await;
    lake.test.grant("viewer", namespace.clone(), bundle(Bundle::Write)).await;
    let mut staged = AccessTest::new_table("s");
    staged["stage-create"] = json!(true);
    for body in [staged.clone(), AccessTest::new_table("s")] {
        let (status, refusal) = lake.ask(&viewer, Method::POST, TABLES, Some(body)).await;
        assert!(status == 403 && message(&refusal).contains("CREATE_TABLE on namespace n"), "{status} {refusal}");
    }
    assert!(lake.service.asked().is_empty(), "nothing was vended");

    let headers = [ASK, ("idempotency-key", "01890a5d-ac96-774b-bcce-b302099a8058")];
    let send = async || send_as(&lake.test.app, &maker, Method::POST, TABLES, &headers, Some(staged.clone())).await;
    let (status, first) = send().await;
    let location = first["metadata"]["location"].as_str().expect("a location");
    assert_eq!((status, &first["storage-credentials"][0]["prefix"]), (200, &json!(format!("{location}/"))));
    assert_eq!(lake.actions("maker"), Some(write_delete()));
    assert_eq!(send().await, (200, first.clone()), "the receipt has those of now");

    let (status, made) = lake.ask(&maker, Method::POST, TABLES, Some(AccessTest::new_table("own"))).await;
    assert_eq!((status, lake.actions("maker")), (200, Some(write_delete())), "{made}");
    lake.revoke("maker", namespace, Privilege::CreateTable.into()).await;
    let refreshed = lake.ask(&maker, Method::GET, &format!("{TABLES}/own/credentials"), None).await;
    assert_eq!(refreshed, (200, json!({"storage-credentials": made["storage-credentials"]})), "the owner has them on");
    let (status, again) = send().await;
    assert_eq!((status, &again["metadata"]), (200, &first["metadata"]), "the receipt stays");
    assert_eq!((again.get("storage-credentials"), &again["config"]), (None, &json!({})), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_table_answers_about_access_to_the_store_as_a_missing_one() {
    let lake = Lake::start(VendingMode::Both, true).await;
    lake.test.app.ok(Method::DELETE, TABLE, None).await;
    lake.test.create_table("n", "seen").await;
    // The first sees nothing in the namespace, and the second another table there.
    let tokens = [lake.test.client("bi").await, lake.test.client("neighbour").await];
    lake.test.grant("neighbour", lake.test.table("n.seen").await, bundle(Bundle::Write)).await;
    let answers = async || {
        let mut answers = Vec::new();
        for token in &tokens {
            for (method, path, body) in [
                (Method::GET, CREDENTIALS.to_owned(), None),
                (Method::GET, format!("{CREDENTIALS}?planId=p"), None),
                (Method::POST, SIGN.to_owned(), Some(request("GET", &format!("{}/lake/w/n/t/x", lake.service.endpoint)))),
                (Method::POST, SIGN.to_owned(), Some(json!({"region": "r", "uri": "", "method": "", "headers": {}}))),
            ] {
                let (status, mut headers, text) = lake.test.app.send_as(token, method, &path, &[ASK], body).await;
                assert!(text.contains("NoSuchTableException"), "{path}: {status} {text}");
                for changes in ["x-request-id", "date"] {
                    headers.remove(changes);
                }
                answers.push((status, headers, text));
            }
        }
        answers
    };
    let missing = answers().await;
    lake.test.create_table("n", "t").await;
    assert_eq!(answers().await, missing);
    assert!(lake.service.asked().is_empty(), "nothing was vended");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_bounds_what_rights_allow_and_the_mode_report_changes_no_level() {
    let lake = Lake::start_with(AccessMode::On, |vending| (vending.level, vending.delete) = (VendingLevel::Read, true)).await;
    let owner = lake.client("owner", bundle(Bundle::Own)).await;
    assert_eq!(lake.ask(&owner, Method::GET, TABLE, None).await.0, 200);
    assert_eq!(lake.actions("owner"), Some(read()));

    let lake = Lake::start_with(AccessMode::Report, |vending| vending.mode = VendingMode::Both).await;
    let nobody = lake.test.token("nobody").await;
    let (status, loaded) = lake.ask(&nobody, Method::GET, TABLE, None).await;
    assert_eq!((status, lake.actions("nobody")), (200, Some(write())), "{loaded}");
    assert_eq!(lake.sign(&nobody, "PUT", "x").await.0, 200);
}
