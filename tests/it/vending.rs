//! Vended credentials, with a token service and a store that answer from memory.
//!
//! `tests/engines/test_vending.py` has the same with MinIO, which denies what a credential does not cover.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use esker::Config;
use esker::config::{VendingLevel, VendingMode};
use esker_tests::{TestApp, schema_json};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TABLES: &str = "/v1/default/namespaces/n/tables";
const TABLE: &str = "/v1/default/namespaces/n/tables/t";
const ASK: [(&str, &str); 1] = [("x-iceberg-access-delegation", "vended-credentials")];

/// A way in which the token service answers.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// With credentials that end in a far future.
    Lasting,
    /// With credentials that have ended.
    Ended,
    /// With a status and a code.
    Refused(u16, &'static str),
}

/// A request to the token service: its form, and the header `authorization` under that name.
pub(crate) type Asked = BTreeMap<String, String>;

/// A store in memory with a token service at the same address, as MinIO has it.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// URL of the store and the token service.
    pub(crate) endpoint: String,
    objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<Mutex<Answer>>,
}

impl Service {
    /// Starts the store at a free port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let answer = Arc::new(Mutex::new(Answer::Lasting));
        let this = Self { endpoint, objects: Arc::default(), asked: Arc::default(), answer };
        let service = this.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(service.clone().serve(socket));
            }
        });
        this
    }

    /// Configures the warehouse `default` with this store, and vending.
    pub(crate) fn configure(&self, config: &mut Config) {
        let warehouse = config.warehouses.entry("default".to_owned()).or_default();
        warehouse.location = Some("s3://lake/w".to_owned());
        let options = [("endpoint", self.endpoint.as_str()), ("region", "r"), ("access_key_id", "k"), ("secret_access_key", "s")];
        warehouse.storage = options.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        warehouse.vending.mode = VendingMode::Sts;
    }

    async fn app(&self) -> TestApp {
        TestApp::start_with(|config| self.configure(config)).await
    }

    fn will(&self, answer: Answer) {
        *self.answer.lock().expect("unpoisoned") = answer;
    }

    /// Returns the requests to the token service so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("unpoisoned").clone()
    }

    /// Returns the session policy of the last request.
    fn policy(&self) -> Value {
        serde_json::from_str(&self.asked().last().expect("a request")["Policy"]).expect("JSON")
    }

    /// Answers one request, and closes the connection.
    async fn serve(self, mut socket: TcpStream) {
        let mut read = Vec::new();
        let end = loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if socket.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        let header = |wanted: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim().to_owned())
        };
        let length: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        while read.len() < end + length {
            if socket.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (status, body) = match (method, target) {
            ("POST", "/") => self.assume_role(&read[end..], header("authorization").unwrap_or_default()),
            _ => self.object(method, target, &read[end..]),
        };
        let fixed = "last-modified: Wed, 21 Oct 2026 07:28:00 GMT\r\netag: \"x\"\r\nconnection: close";
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} Answer\r\ncontent-length: {length}\r\n{fixed}\r\n\r\n");
        let body = if method == "HEAD" { Vec::new() } else { body };
        // The client may be gone.
        let _ = socket.write_all(&[answer.into_bytes(), body].concat()).await;
    }

    fn object(&self, method: &str, target: &str, sent: &[u8]) -> (u16, Vec<u8>) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut objects = self.objects.lock().expect("unpoisoned");
        match method {
            "PUT" => {
                objects.insert(path.to_owned(), sent.to_vec());
                (200, Vec::new())
            }
            "DELETE" => {
                objects.remove(path);
                (204, Vec::new())
            }
            _ if query.contains("list-type") => {
                let empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
                (200, empty.as_bytes().to_vec())
            }
            _ => objects.get(path).map_or((404, Vec::new()), |object| (200, object.clone())),
        }
    }

    fn assume_role(&self, form: &[u8], authorization: String) -> (u16, Vec<u8>) {
        let form = Url::parse(&format!("http://x/?{}", String::from_utf8_lossy(form))).expect("a form");
        let mut request: Asked = form.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
        request.insert("authorization".to_owned(), authorization);
        let mut asked = self.asked.lock().expect("unpoisoned");
        asked.push(request);
        let n = asked.len();
        let end = match *self.answer.lock().expect("unpoisoned") {
            Answer::Lasting => "2099-01-01T00:00:00Z",
            Answer::Ended => "2020-01-01T00:00:00Z",
            Answer::Refused(status, code) => {
                let message = "User: arn:aws:iam::123456789012:user/esker is not authorized";
                let text =
                    format!("<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>");
                return (status, text.into_bytes());
            }
        };
        let keys = format!(
            "<AccessKeyId>KEY{n}</AccessKeyId><SecretAccessKey>secret-{n}</SecretAccessKey>\
             <SessionToken>token-{n}</SessionToken><Expiration>{end}</Expiration>"
        );
        let text = format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
             <Credentials>{keys}</Credentials></AssumeRoleResult></AssumeRoleResponse>"
        );
        (200, text.into_bytes())
    }
}

fn create(name: &str, more: Value) -> Value {
    let mut body = json!({"name": name, "schema": schema_json()});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

/// Sends a request that asks for credentials and must succeed. Returns the body.
async fn ask(app: &TestApp, method: Method, path: &str, body: Option<Value>) -> Value {
    let (status, _, text) = app.send_raw(method, path, &ASK, body).await;
    assert!(status.is_success(), "{path}: {status} {text}");
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_gets_one_entry_for_the_table_and_its_route_of_new_ones() {
    let service = Service::start().await;
    let app = service.app().await;
    app.namespace().await;
    let made = ask(&app, Method::POST, TABLES, Some(create("t", json!({})))).await;
    let location = made["metadata"]["location"].as_str().expect("a location").to_owned();
    let entries = made["storage-credentials"].as_array().expect("entries");
    assert_eq!(entries.len(), 1, "Java's refresh fails if there are two");
    assert_eq!(entries[0]["prefix"], format!("{location}/"));
    let expected = json!({
        "s3.access-key-id": "KEY1", "s3.secret-access-key": "secret-1", "s3.session-token": "token-1",
        "s3.session-token-expires-at-ms": "4070908800000", "s3.endpoint": service.endpoint, "s3.path-style-access": "true",
        "s3.region": "r", "client.region": "r", "s3.delete-enabled": "false",
        "client.refresh-credentials-endpoint": "v1/default/namespaces/n/tables/t/credentials",
    });
    assert_eq!((&entries[0]["config"], &made["config"]), (&expected, &expected));

    let asked = &service.asked()[0];
    let field = |name: &str| asked.get(name).map(String::as_str);
    assert_eq!((field("Action"), field("Version")), (Some("AssumeRole"), Some("2011-06-15")));
    assert_eq!((field("DurationSeconds"), field("RoleSessionName")), (Some("3600"), Some("esker-admin")));
    assert!(asked["authorization"].starts_with("AWS4-HMAC-SHA256 Credential=k/"), "{asked:?}");
    assert!(asked["authorization"].contains("/r/sts/aws4_request, SignedHeaders=content-type;host;x-amz-date,"), "{asked:?}");
    let policy = service.policy();
    assert_eq!(policy["Statement"][0]["Resource"], json!([format!("arn:aws:s3:::{}/*", &location["s3://".len()..])]));

    let route = format!("/{}", expected["client.refresh-credentials-endpoint"].as_str().expect("text"));
    let refreshed = app.ok(Method::GET, &route, None).await;
    assert_eq!(refreshed["storage-credentials"], made["storage-credentials"], "the kept ones");
    assert_eq!(ask(&app, Method::GET, TABLE, None).await["storage-credentials"], made["storage-credentials"]);
    assert_eq!(service.asked().len(), 1, "one request for all");
    let plain = app.ok(Method::GET, TABLE, None).await;
    assert_eq!((plain.get("storage-credentials"), &plain["config"]), (None, &json!({})));
    let signed = app.send_raw(Method::GET, TABLE, &[("x-iceberg-access-delegation", "remote-signing")], None).await;
    assert!(!signed.2.contains("storage-credentials"), "{}", signed.2);
    assert!(app.ok(Method::GET, "/v1/config", None).await["endpoints"].to_string().contains("/credentials"));

    ask(&app, Method::POST, TABLES, Some(create("u", json!({})))).await;
    assert_eq!(service.asked().len(), 2, "another table has its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_304_leaves_a_client_with_the_credentials_that_it_would_get() {
    let service = Service::start().await;
    let app = service.app().await;
    app.table().await;
    let tag = async |known: &str| {
        let headers = [ASK[0], ("if-none-match", known)];
        let (status, headers, _) = app.send_raw(Method::GET, TABLE, &headers, None).await;
        (status, headers["etag"].to_str().expect("text").to_owned())
    };
    let (status, first) = tag("\"none\"").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(tag(&first).await, (StatusCode::NOT_MODIFIED, first.clone()));
    let (_, committed, _) = app.send_raw(Method::POST, TABLE, &ASK, Some(json!({"requirements": [], "updates": []}))).await;
    let committed = committed["etag"].to_str().expect("text").to_owned();
    assert_eq!(tag(&committed).await.0, StatusCode::OK, "the answer to a commit has no credentials");

    // The kept ones of another table have ended: each load has new ones, so that no tag is good for long.
    service.will(Answer::Ended);
    app.ok(Method::POST, TABLES, Some(create("u", json!({})))).await;
    let other = format!("{TABLES}/u");
    let (_, headers, _) = app.send_raw(Method::GET, &other, &ASK, None).await;
    let known = headers["etag"].to_str().expect("text").to_owned();
    let (status, _, body) = app.send_raw(Method::GET, &other, &[ASK[0], ("if-none-match", &known)], None).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body.contains("KEY3"), "{body}");
}

/// CVE-2026-42809: Polaris vended for a location of the client's choice before it looked at it.
#[tokio::test(flavor = "multi_thread")]
async fn a_staged_create_vends_nothing_for_a_location_that_is_not_allowed() {
    let service = Service::start().await;
    let app = service.app().await;
    app.table().await;
    let taken = app.ok(Method::GET, TABLE, None).await["metadata"]["location"].clone();
    for wrong in [
        json!({"location": "s3://other/x"}),
        json!({"location": "s3://lake/w"}),
        json!({"location": taken}),
        json!({"properties": {"write.data.path": "s3://lake/elsewhere"}}),
        json!({"properties": {"write.metadata.path": "s3://lake/w2/x"}}),
    ] {
        let mut body = create("s", json!({"stage-create": true}));
        body.as_object_mut().expect("an object").extend(wrong.as_object().expect("an object").clone());
        let (status, _, text) = app.send_raw(Method::POST, TABLES, &ASK, Some(body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}: {text}");
    }
    assert!(service.asked().is_empty(), "nothing was vended");

    let staged = create("s", json!({"stage-create": true}));
    let headers = [ASK[0], ("idempotency-key", "01890a5d-ac96-774b-bcce-b302099a8058")];
    let (_, _, first) = app.send_raw(Method::POST, TABLES, &headers, Some(staged.clone())).await;
    let first: Value = serde_json::from_str(&first).expect("JSON");
    let location = first["metadata"]["location"].as_str().expect("a location").to_owned();
    assert_eq!(first["storage-credentials"][0]["prefix"], format!("{location}/"));
    assert!(first["config"].get("client.refresh-credentials-endpoint").is_none(), "there is no such table yet");
    assert!(service.policy()["Statement"][0]["Action"].to_string().contains("s3:PutObject"));

    // The receipt holds the metadata and no credentials, so that a repetition has those of now.
    let (_, _, again) = app.send_raw(Method::POST, TABLES, &headers, Some(staged.clone())).await;
    assert_eq!(serde_json::from_str::<Value>(&again).expect("JSON"), first);
    let unasked = [("idempotency-key", "01890a5d-ac96-774b-bcce-b302099a8058")];
    let (_, _, unasked) = app.send_raw(Method::POST, TABLES, &unasked, Some(staged)).await;
    assert!(!unasked.contains("secret-") && unasked.contains(&location), "{unasked}");
}

/// CVE-2026-42810 and 42811: Polaris put names into policies and conditions as they were.
#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_or_a_quote_in_a_name_or_a_location_reaches_no_neighbour() {
    let service = Service::start().await;
    let app = service.app().await;
    app.namespace().await;
    let named = ask(&app, Method::POST, TABLES, Some(create("*'${x}", json!({})))).await;
    let location = named["metadata"]["location"].as_str().expect("a location");
    let resource = service.policy()["Statement"][0]["Resource"][0].as_str().expect("text").to_owned();
    assert_eq!(resource, format!("arn:aws:s3:::{}/*", &location["s3://".len()..]));
    assert_eq!(resource.matches(['*', '$', '\'']).count(), 1, "{resource}");

    for (i, location) in
        ["s3://lake/w/*", "s3://lake/w/n/${aws:username}", "s3://lake/w/a'b", "s3://lake/w/a%2Fb"].iter().enumerate()
    {
        let path = format!("{TABLES}/located{i}");
        let made = ask(&app, Method::POST, TABLES, Some(create(&format!("located{i}"), json!({"location": location})))).await;
        assert_eq!((made.get("storage-credentials"), &made["config"]), (None, &json!({})), "{location}");
        let (code, kind, message) = app.refused(Method::GET, &format!("{path}/credentials"), None).await;
        assert_eq!((code, kind.as_str()), (403, "ForbiddenException"), "{location}: {message}");
        app.ok(Method::DELETE, &path, None).await;
    }
    assert_eq!(service.asked().len(), 1, "nothing was asked for them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_data_path_vends_nothing() {
    let service = Service::start().await;
    let app = TestApp::start_with(|config| {
        service.configure(config);
        config.warehouses.entry("default".to_owned()).or_default().shared_data_paths = true;
    })
    .await;
    app.namespace().await;
    let properties = json!({"properties": {"write.data.path": "s3://lake/w/shared"}});
    app.ok(Method::POST, TABLES, Some(create("t", properties.clone()))).await;
    let alone = ask(&app, Method::GET, TABLE, None).await;
    assert_eq!(alone["storage-credentials"][0]["prefix"], "s3://lake/w/", "two places, and one entry for both");
    assert_eq!(service.policy()["Statement"][0]["Resource"].as_array().map(Vec::len), Some(2));
    app.ok(Method::POST, TABLES, Some(create("u", properties))).await;
    let shared = ask(&app, Method::GET, &format!("{TABLES}/u"), None).await;
    assert!(shared.get("storage-credentials").is_none(), "{shared}");
    let (code, _, message) = app.refused(Method::GET, &format!("{TABLES}/u/credentials"), None).await;
    assert!(code == 403 && message.contains("s3://lake/w/shared") && message.contains("of another table"), "{code} {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_no_longer_allowed_is_not_vended() {
    let service = Service::start().await;
    let app = TestApp::start_with(|config| {
        service.configure(config);
        config.warehouses.entry("default".to_owned()).or_default().allowed_locations = vec!["s3://imports/x".to_owned()];
    })
    .await;
    app.namespace().await;
    let properties = json!({"properties": {"write.data.path": "s3://imports/x/t"}});
    let made = ask(&app, Method::POST, TABLES, Some(create("t", properties))).await;
    assert_eq!(made["storage-credentials"][0]["prefix"], "s3://", "the places are in two buckets");
    let lists = service.policy()["Statement"]
        .as_array()
        .expect("statements")
        .iter()
        .filter(|s| s["Action"][0] == "s3:ListBucket")
        .count();
    assert_eq!(lists, 2, "a prefix of one bucket can't be listed in the other");

    let app = TestApp::restart_with(app.stop().await, |config| service.configure(config)).await;
    assert!(ask(&app, Method::GET, TABLE, None).await.get("storage-credentials").is_none());
    let (code, _, message) = app.refused(Method::GET, &format!("{TABLE}/credentials"), None).await;
    assert!(code == 403 && message.contains("s3://imports/x/t") && message.contains("allowed_locations"), "{code} {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_token_service_is_told_where_credentials_are_asked_for_and_without_its_names() {
    let service = Service::start().await;
    let app = service.app().await;
    app.table().await;
    service.will(Answer::Refused(403, "AccessDenied"));
    assert!(ask(&app, Method::GET, TABLE, None).await.get("storage-credentials").is_none(), "an engine may have its own keys");
    let (code, _, message) = app.refused(Method::GET, &format!("{TABLE}/credentials"), None).await;
    assert!(code == 403 && message.contains("AccessDenied") && !message.contains("123456789012"), "{code} {message}");

    service.will(Answer::Refused(400, "Throttling"));
    let before = service.asked().len();
    let (status, headers, _) = app.send_raw(Method::GET, TABLE, &ASK, None).await;
    assert_eq!((status, headers.contains_key("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, true));
    assert_eq!(service.asked().len(), before + 2, "it is tried twice");
    let made = ask(&app, Method::POST, TABLES, Some(create("u", json!({})))).await;
    assert!(made.get("storage-credentials").is_none(), "the table is made all the same");
    service.will(Answer::Lasting);
    assert!(ask(&app, Method::GET, &format!("{TABLES}/u"), None).await.get("storage-credentials").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_have_credentials_to_read_and_a_registered_table_has_its_own() {
    let service = Service::start().await;
    let app = service.app().await;
    let made = app.table().await;
    let planned = ask(&app, Method::POST, &format!("{TABLE}/plan"), Some(json!({}))).await;
    assert_eq!(planned["status"], "completed");
    assert_eq!(planned["storage-credentials"][0]["config"]["s3.access-key-id"], "KEY1");
    assert_eq!(service.policy()["Statement"][0]["Action"], json!(["s3:GetObject"]));
    let polled = format!("{TABLE}/plan/{}", planned["plan-id"].as_str().expect("an id"));
    assert_eq!(ask(&app, Method::GET, &polled, None).await["storage-credentials"], planned["storage-credentials"]);
    let id = planned["plan-id"].as_str().expect("an id");
    let of_plan = app.ok(Method::GET, &format!("{TABLE}/credentials?planId={id}"), None).await;
    assert_eq!(of_plan["storage-credentials"], planned["storage-credentials"]);
    let unasked = app.ok(Method::POST, &format!("{TABLE}/plan"), Some(json!({}))).await;
    assert!(unasked.get("storage-credentials").is_none());

    // Dropped and registered again, the table has the places of the dropped one, which can be brought back.
    app.ok(Method::DELETE, TABLE, None).await;
    let register = json!({"name": "back", "metadata-location": made["metadata-location"]});
    let back = ask(&app, Method::POST, "/v1/default/namespaces/n/register", Some(register)).await;
    let location = made["metadata"]["location"].as_str().expect("a location");
    assert_eq!(back["storage-credentials"][0]["prefix"], format!("{location}/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_is_that_of_the_configuration_and_anonymous_callers_have_their_own() {
    let service = Service::start().await;
    let app = TestApp::start_with(|config| {
        service.configure(config);
        config.auth.anonymous = true;
        let vending = &mut config.warehouses.entry("default".to_owned()).or_default().vending;
        (vending.level, vending.anonymous_level, vending.duration_seconds) = (VendingLevel::Read, VendingLevel::None, 900);
    })
    .await;
    app.table().await;
    ask(&app, Method::GET, TABLE, None).await;
    assert_eq!(service.policy()["Statement"][0]["Action"], json!(["s3:GetObject"]));
    assert_eq!(service.asked()[0]["DurationSeconds"], "900");
    let anonymous = async |path: &str| {
        let request = reqwest::Client::new().get(app.url(path)).header(ASK[0].0, ASK[0].1);
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    };
    let (status, body) = anonymous(TABLE).await;
    assert!(status == 200 && !body.contains("storage-credentials"), "{status} {body}");
    assert_eq!(anonymous(&format!("{TABLE}/credentials")).await.0, 403);
    assert_eq!(service.asked().len(), 1);
}
