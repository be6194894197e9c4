//! Remote signing: who gets signatures, for which requests, and with which keys.
//!
//! The store answers from memory and checks no signature. `tests/engines/test_signing.py` has a real MinIO, which does. The unit tests of
//! `storage::signing` have random URIs.

use esker::config::{VendingLevel, VendingMode};
use esker_tests::{TOKEN, TestApp, schema_json};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::vending::Service;

const TABLES: &str = "/v1/default/namespaces/n/tables";
const TABLE: &str = "/v1/default/namespaces/n/tables/t";
const SIGN: &str = "/v1/default/namespaces/n/tables/t/sign";
const DELEGATION: &str = "x-iceberg-access-delegation";

/// Starts a server whose warehouse has a mode of vending, at a store that is said to check headers.
async fn app(service: &Service, mode: VendingMode, delete: bool) -> TestApp {
    TestApp::start_with(|config| {
        service.configure(config);
        let vending = &mut config.warehouses.entry("default".to_owned()).or_default().vending;
        (vending.mode, vending.delete, vending.store_checks_headers) = (mode, delete, true);
    })
    .await
}

/// Makes the tables `n.t` and `n.u`. Returns their URLs at the store.
async fn two_tables(app: &TestApp, service: &Service) -> (String, String) {
    app.namespace().await;
    let mut urls = Vec::new();
    for name in ["t", "u"] {
        let made = app.ok(Method::POST, TABLES, Some(json!({"name": name, "schema": schema_json()}))).await;
        let location = made["metadata"]["location"].as_str().expect("a location").to_owned();
        urls.push(location.replace("s3:/", &service.endpoint));
    }
    let other = urls.pop().expect("two");
    (urls.pop().expect("two"), other)
}

fn request(method: &str, uri: &str) -> Value {
    json!({"region": "r", "uri": uri, "method": method, "headers": {}})
}

/// Loads the table with a list of mechanisms.
async fn load(app: &TestApp, mechanisms: &str) -> Value {
    let (status, _, text) = app.send_raw(Method::GET, TABLE, &[(DELEGATION, mechanisms)], None).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

/// Checks that a request is not signed, and returns the reason.
async fn unsigned(app: &TestApp, request: Value) -> String {
    let shown = request.to_string();
    let (code, kind, message) = app.refused(Method::POST, SIGN, Some(request)).await;
    assert_eq!((code, kind.as_str()), (403, "ForbiddenException"), "{shown}: {message}");
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_signing_gets_the_properties_and_no_entry() {
    let service = Service::start().await;
    let app = app(&service, VendingMode::Signing, false).await;
    app.table().await;
    let loaded = load(&app, "remote-signing").await;
    let route = "v1/default/namespaces/n/tables/t/sign";
    let expected = json!({
        "s3.remote-signing-enabled": "true", "s3.signer.endpoint": route, "signer.endpoint": route,
        "s3.signer": "S3V4RestSigner", "py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO",
        "s3.endpoint": service.endpoint, "s3.path-style-access": "true", "s3.region": "r", "client.region": "r",
        "s3.delete-enabled": "false",
    });
    assert_eq!(loaded["config"], expected);
    assert_eq!((&loaded["remote-signing-config"], loaded.get("storage-credentials")), (&json!({}), None));
    assert_eq!(load(&app, "vended-credentials, remote-signing").await["config"], expected, "it vends no credentials");

    let unasked = load(&app, "vended-credentials").await;
    assert_eq!((&unasked["config"], unasked.get("remote-signing-config")), (&json!({}), None));
    let staged = json!({"name": "s", "schema": schema_json(), "stage-create": true});
    let (_, _, staged) = app.send_raw(Method::POST, TABLES, &[(DELEGATION, "remote-signing")], Some(staged)).await;
    assert!(!staged.contains("signer"), "a staged table has no route: {staged}");
    let plan = app.send_raw(Method::POST, &format!("{TABLE}/plan"), &[(DELEGATION, "remote-signing")], Some(json!({}))).await;
    assert!(plan.0.is_success() && !plan.2.contains("storage-credentials"), "{}", plan.2);

    let endpoints = app.ok(Method::GET, "/v1/config", None).await["endpoints"].to_string();
    assert!(endpoints.contains("/sign\"") && !endpoints.contains("/credentials\""), "{endpoints}");
    assert!(service.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_request_arrives_at_the_store_as_it_was_signed() {
    let service = Service::start().await;
    let app = app(&service, VendingMode::Signing, false).await;
    let (table, _) = two_tables(&app, &service).await;
    let mut put = request("PUT", &format!("{table}/data/%61+b").replace('+', "%2B"));
    put["headers"] = json!({"Content-Type": ["a/b"], "x-amz-meta-a": ["1"]});
    let signed = app.ok(Method::POST, SIGN, Some(put)).await;
    assert_eq!(signed["uri"], format!("{table}/data/a%2Bb"));
    let headers = signed["headers"].as_object().expect("headers");
    let value = |name: &str| headers[name][0].as_str().expect("a value").to_owned();
    assert!(value("Authorization").starts_with("AWS4-HMAC-SHA256 Credential=k/"), "{signed}");
    let covered = "/r/s3/aws4_request, SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-meta-a, Signature=";
    assert!(value("Authorization").contains(covered), "{signed}");
    assert_eq!((value("x-amz-content-sha256").as_str(), value("Content-Type").as_str()), ("UNSIGNED-PAYLOAD", "a/b"));
    assert_eq!(headers.len(), 5, "no secret, and no host: {signed}");

    let uri = signed["uri"].as_str().expect("a URI");
    let sent = headers.keys().fold(reqwest::Client::new().put(uri), |sent, name| sent.header(name, value(name)));
    assert_eq!(sent.body("x").send().await.expect("an answer").status(), StatusCode::OK);
    let got = reqwest::get(uri).await.expect("an answer").text().await.expect("a body");
    assert_eq!(got, "x");
}

/// Java's clients compare the name and the value of the header as they are.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_read_may_be_used_again_and_others_may_not() {
    let service = Service::start().await;
    let app = app(&service, VendingMode::Signing, false).await;
    let (table, _) = two_tables(&app, &service).await;
    for (method, header) in [("GET", "private"), ("HEAD", "private"), ("PUT", "no-cache")] {
        let body = request(method, &format!("{table}/data/x")).to_string();
        let head = format!("POST {SIGN} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n");
        let head = format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut socket = tokio::net::TcpStream::connect(app.server.rest).await.expect("connected");
        socket.write_all((head + &body).as_bytes()).await.expect("sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(&format!("\r\nCache-Control: {header}\r\n")), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_of_the_table_is_signed() {
    let service = Service::start().await;
    let app = app(&service, VendingMode::Signing, true).await;
    let (table, other) = two_tables(&app, &service).await;
    let endpoint = &service.endpoint;
    let up = table.rsplit_once('/').expect("a parent").0;
    let name = other.rsplit_once('/').expect("a parent").1;
    for uri in [
        format!("{other}/data/x"),
        format!("{table}2/data/x"),
        format!("{table}/../{name}/x"),
        format!("{table}/%2e%2e/{name}/x"),
        format!("{table}/..%2f{name}/x"),
        format!("{table}//x"),
        format!("{table}/"),
        table.clone(),
        table.to_uppercase(),
        format!("{up}/x"),
        format!("{endpoint}/other/w/x"),
        format!("{endpoint}/lake/w/_esker/epoch.json"),
        format!("{table}/x").replace("http:", "https:"),
        format!("{table}/x").replace("127.0.0.1", "localhost"),
        format!("{table}/x").replace("127.0.0.1", "lake.127.0.0.1"),
        format!("{table}/x?acl"),
        format!("{table}/x?versionId=1"),
        format!("{table}/x?tagging"),
        format!("{table}/x?X-Amz-Expires=604800"),
        format!("{endpoint}/lake"),
        format!("{endpoint}/lake?policy"),
        format!("{endpoint}/lake?list-type=2"),
        format!("{endpoint}/lake?list-type=2&prefix=w%2F"),
        String::new(),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            unsigned(&app, request(method, &uri)).await;
        }
    }
    let key = |url: &str| url.split_once("/lake/").expect("a key").1.to_owned();
    let prefixes = [(key(&table) + "/", true), (key(&table), false), (key(&other) + "/", false), (key(&table) + "/../", false)];
    for (prefix, signed) in prefixes {
        let list = request("GET", &format!("{endpoint}/lake?list-type=2&prefix={}", prefix.replace('/', "%2F")));
        assert_eq!(app.send(Method::POST, SIGN, Some(list)).await.0.is_success(), signed, "{prefix}");
    }
    let delete = |keys: &[String]| {
        let objects: String = keys.iter().map(|key| format!("<Object><Key>{key}</Key></Object>")).collect();
        let mut request = request("POST", &format!("{endpoint}/lake?delete"));
        request["body"] = json!(format!("<Delete>{objects}</Delete>"));
        request
    };
    let (own, foreign) = (key(&table) + "/data/x", key(&other) + "/data/x");
    app.ok(Method::POST, SIGN, Some(delete(std::slice::from_ref(&own)))).await;
    unsigned(&app, delete(&[own, foreign.clone()])).await;
    unsigned(&app, request("POST", &format!("{endpoint}/lake?delete"))).await;
    for (header, value) in
        [("x-amz-copy-source", format!("/lake/{foreign}")), ("X-Amz-Acl", "public-read".to_owned()), ("Host", "evil".to_owned())]
    {
        let mut put = request("PUT", &format!("{table}/data/x"));
        put["headers"] = json!({header: [value]});
        unsigned(&app, put).await;
    }
    let region = json!({"region": "us-east-1", "uri": format!("{table}/x"), "method": "GET", "headers": {}});
    assert!(unsigned(&app, region).await.contains("us-east-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_bounds_what_is_signed_and_anonymous_callers_have_their_own() {
    let service = Service::start().await;
    let app = TestApp::start_with(|config| {
        service.configure(config);
        config.auth.anonymous = true;
        let vending = &mut config.warehouses.entry("default".to_owned()).or_default().vending;
        (vending.mode, vending.store_checks_headers) = (VendingMode::Signing, true);
        (vending.level, vending.anonymous_level) = (VendingLevel::Read, VendingLevel::None);
    })
    .await;
    let (table, _) = two_tables(&app, &service).await;
    let uri = format!("{table}/data/x");
    app.ok(Method::POST, SIGN, Some(request("GET", &uri))).await;
    assert!(unsigned(&app, request("PUT", &uri)).await.contains("write"));
    let anonymous = reqwest::Client::new().post(app.url(SIGN)).json(&request("GET", &uri)).send().await.expect("an answer");
    assert_eq!(anonymous.status(), StatusCode::FORBIDDEN);
    let loaded = reqwest::Client::new().get(app.url(TABLE)).header(DELEGATION, "remote-signing").send().await.expect("an answer");
    assert!(!loaded.text().await.expect("a body").contains("signer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_delete_only_where_the_configuration_lets_them() {
    let service = Service::start().await;
    let app = app(&service, VendingMode::Signing, false).await;
    let (table, _) = two_tables(&app, &service).await;
    let uri = format!("{table}/data/x");
    for method in ["GET", "PUT"] {
        app.ok(Method::POST, SIGN, Some(request(method, &uri))).await;
    }
    assert!(unsigned(&app, request("DELETE", &uri)).await.contains("write-delete"));
    app.ok(Method::POST, SIGN, Some(request("DELETE", &format!("{uri}?uploadId=u")))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_both_the_signatures_are_those_of_credentials_for_the_table() {
    let service = Service::start().await;
    let app = app(&service, VendingMode::Both, false).await;
    let (table, _) = two_tables(&app, &service).await;
    for method in ["PUT", "GET", "PUT"] {
        let signed = app.ok(Method::POST, SIGN, Some(request(method, &format!("{table}/data/x")))).await;
        let signature = signed["headers"]["Authorization"][0].as_str().expect("text").to_owned();
        assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=KEY1/"), "{signature}");
        assert_eq!(signed["headers"]["x-amz-security-token"], json!(["token-1"]));
        assert!(!signed.to_string().contains("secret-1"), "{signed}");
    }
    assert_eq!(service.asked().len(), 1, "they are kept");
    let resource = service.asked()[0]["Policy"].clone();
    assert!(resource.contains(table.split_once("/lake/").expect("a key").1), "{resource}");

    let loaded = load(&app, "remote-signing,vended-credentials").await;
    assert_eq!(loaded["storage-credentials"][0]["config"]["s3.access-key-id"], "KEY1");
    assert!(loaded["config"].get("s3.remote-signing-enabled").is_none(), "credentials come first: {loaded}");
    assert_eq!(load(&app, "remote-signing").await["config"]["s3.remote-signing-enabled"], "true");
    let endpoints = app.ok(Method::GET, "/v1/config", None).await["endpoints"].to_string();
    assert!(endpoints.contains("/sign\"") && endpoints.contains("/credentials\""), "{endpoints}");
}

/// MinIO takes `x-amz-copy-source` unsigned, so that a signed write could become a copy of another table's file.
#[tokio::test(flavor = "multi_thread")]
async fn own_keys_sign_no_writes_at_a_store_that_may_take_unsigned_headers() {
    let service = Service::start().await;
    let app = TestApp::start_with(|config| {
        service.configure(config);
        config.warehouses.entry("default".to_owned()).or_default().vending.mode = VendingMode::Signing;
    })
    .await;
    let (table, _) = two_tables(&app, &service).await;
    app.ok(Method::POST, SIGN, Some(request("GET", &format!("{table}/data/x")))).await;
    let reason = unsigned(&app, request("PUT", &format!("{table}/data/x"))).await;
    assert!(reason.contains("vending.mode") && reason.contains("store_checks_headers"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_would_get_no_credentials_gets_no_signatures() {
    let service = Service::start().await;
    let app = TestApp::start_with(|config| {
        service.configure(config);
        let warehouse = config.warehouses.entry("default".to_owned()).or_default();
        warehouse.shared_data_paths = true;
        (warehouse.vending.mode, warehouse.vending.store_checks_headers) = (VendingMode::Signing, true);
    })
    .await;
    app.namespace().await;
    let shared = json!({"write.data.path": "s3://lake/w/shared"});
    for name in ["t", "u"] {
        let body = json!({"name": name, "schema": schema_json(), "properties": shared});
        app.ok(Method::POST, TABLES, Some(body)).await;
    }
    assert_eq!(load(&app, "remote-signing").await["config"], json!({}));
    let reason = unsigned(&app, request("GET", &format!("{}/lake/w/shared/x", service.endpoint))).await;
    assert!(reason.contains("s3://lake/w/shared"), "{reason}");

    let odd = json!({"name": "odd", "schema": schema_json(), "location": "s3://lake/w/a%2Fb"});
    app.ok(Method::POST, TABLES, Some(odd)).await;
    let uri = format!("{}/lake/w/a%252Fb/x", service.endpoint);
    assert_eq!(app.refused(Method::POST, &format!("{TABLES}/odd/sign"), Some(request("GET", &uri))).await.0, 403);
    let azure = json!({"region": "r", "uri": uri, "method": "GET", "headers": {}, "provider": "adls"});
    assert_eq!(app.refused(Method::POST, SIGN, Some(azure)).await.0, 400);
    app.ok(Method::DELETE, TABLE, None).await;
    assert_eq!(app.refused(Method::POST, SIGN, Some(request("GET", &uri))).await.1, "NoSuchTableException");
}
