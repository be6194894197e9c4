//! Service accounts of Kubernetes: their tokens, and an API server that shows its keys to callers with a token alone.
//!
//! The claims are those of a projected token, and the server has a certificate of the cluster's own authority.

use std::path::PathBuf;
use std::sync::Arc;

use esker::config::OidcConfig;
use esker_access::{AccessMode, GrantRow, Member, Privilege, RuleChange};
use esker_tests::{AccessTest, TestApp, TestProvider};
use esker_types::now_ms;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::server::TlsStream;

use super::tls::Authority;
use super::{send_as, status_as};

/// The header of the API server's own callers, in lower case.
const BEARER: &str = "authorization: bearer token-of-the-pod\r\n";

/// A cluster with one API server.
struct Cluster {
    /// The issuer of its tokens.
    issuer: String,
    /// Signs the tokens.
    signer: TestProvider,
    /// Has the files of a pod.
    dir: TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let (signer, authority) = (TestProvider::start().await, Authority::new("kubernetes"));
        let keys = reqwest::get(format!("{}/keys", signer.issuer)).await.expect("an answer").text().await.expect("keys");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let issuer = format!("https://{}", listener.local_addr().expect("an address"));
        let document = json!({
            "issuer": issuer, "jwks_uri": format!("{issuer}/openid/v1/jwks"), "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
        });
        let pair = authority.server(4000);
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
        let config = ServerConfig::builder_with_provider(default_provider().into());
        let config = config.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        let config = config.with_single_cert(vec![pair.der()], key).expect("a certificate");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream, &document.to_string(), &keys).await;
                }
            }
        });
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("ca.crt"), &authority.pem).expect("written");
        std::fs::write(dir.path().join("token"), "token-of-the-pod\n").expect("written");
        Self { issuer, signer, dir }
    }

    /// Returns a file of the pod.
    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.dir.path().join(name))
    }

    /// Returns the section of the configuration, as the guide has it.
    fn config(&self) -> OidcConfig {
        OidcConfig {
            issuer: Some(self.issuer.clone()),
            audiences: vec!["esker".to_owned()],
            claims: vec!["kubernetes.io.namespace".to_owned()],
            ca_file: self.file("ca.crt"),
            bearer_file: self.file("token"),
            ..OidcConfig::default()
        }
    }

    /// Issues the projected token of a service account.
    fn token(&self, namespace: &str, name: &str, audience: &str) -> String {
        let now = now_ms() / 1000;
        self.signer.sign(&json!({
            "aud": [audience], "exp": now + 3607, "iat": now, "iss": self.issuer, "nbf": now,
            "jti": "7a6d5f5e-8f2b-4c57-9d6a-0c6f3f0f9d11",
            "kubernetes.io": {
                "namespace": namespace,
                "node": {"name": "node-1", "uid": "0f2d0e0c-0000-4000-8000-000000000001"},
                "pod": {"name": format!("{name}-0"), "uid": "0f2d0e0c-0000-4000-8000-000000000002"},
                "serviceaccount": {"name": name, "uid": "0f2d0e0c-0000-4000-8000-000000000003"},
            },
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
        }))
    }
}

/// Answers one request, as an API server does to callers with the role `system:service-account-issuer-discovery`.
async fn answer(mut stream: TlsStream<TcpStream>, document: &str, keys: &str) {
    let (mut head, mut buffer) = (Vec::new(), [0_u8; 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => head.extend_from_slice(&buffer[..read]),
        }
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let (status, body) = match head.split_whitespace().nth(1) {
        _ if !head.contains(BEARER) => ("401 Unauthorized", "{}"),
        Some("/.well-known/openid-configuration") => ("200 OK", document),
        Some("/openid/v1/jwks") => ("200 OK", keys),
        _ => ("404 Not Found", "{}"),
    };
    let length = body.len();
    let headers = format!("content-type: application/json\r\ncontent-length: {length}\r\nconnection: close");
    let text = format!("HTTP/1.1 {status}\r\n{headers}\r\n\r\n{body}");
    // A client that has gone away needs no answer.
    if stream.write_all(text.as_bytes()).await.is_ok() {
        drop(stream.shutdown().await);
    }
}

async fn start(section: OidcConfig) -> TestApp {
    TestApp::start_with(|config| drop(config.auth.oidc.insert("cluster".to_owned(), section))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_is_a_user_whose_keys_the_api_server_shows_to_a_caller_with_a_token() {
    let cluster = Cluster::start().await;
    let app = start(cluster.config()).await;
    let token = cluster.token("prod", "etl", "esker");
    let (status, _) = send_as(&app, &token, Method::POST, "/v1/default/namespaces", &[], Some(json!({"namespace": ["n"]}))).await;
    assert_eq!(status, 200);
    let events = app.ok(Method::GET, "/api/v1/events", None).await;
    assert!(events.to_string().contains(&format!("{}/system:serviceaccount:prod:etl", cluster.issuer)), "{events}");
    let of_api_server = cluster.token("prod", "etl", "https://kubernetes.default.svc.cluster.local");
    assert_eq!(status_as(&app, &of_api_server).await, 401, "a token for another service");

    // Without the authority or the token of the pod, there are no keys.
    for section in [OidcConfig { ca_file: None, ..cluster.config() }, OidcConfig { bearer_file: None, ..cluster.config() }] {
        assert_eq!(status_as(&start(section).await, &token).await, 503);
    }
    // An address that is not in the document, for a server outside of the cluster.
    let address = Some(format!("{}/openid/v1/jwks", cluster.issuer));
    let outside = start(OidcConfig { jwks_url: address, ..cluster.config() }).await;
    assert_eq!(status_as(&outside, &token).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_name_a_service_account_or_the_namespace_of_all_of_its_accounts() {
    let cluster = Cluster::start().await;
    let test = AccessTest { app: start(cluster.config()).await };
    test.app.server.access().bootstrap("admin", Some(AccessMode::On)).await.expect("an administrator");
    let holders =
        [format!("user:system:serviceaccount:prod:etl@{}", cluster.issuer), format!("claim:reports@{}", cluster.issuer)];
    for (n, holder) in holders.iter().enumerate() {
        let to: Member = holder.parse().expect("a member");
        let (id, on, privileges) = (format!("grant-{n}"), test.warehouse(), Privilege::Use.into());
        test.change(vec![RuleChange::AddGrant { grant: GrantRow { id, to, on, privileges, future: None } }]).await;
    }
    for (namespace, name, seen) in
        [("prod", "etl", true), ("prod", "other", false), ("dev", "etl", false), ("reports", "anybody", true)]
    {
        let token = cluster.token(namespace, name, "esker");
        let (status, answer): (u16, Value) = send_as(&test.app, &token, Method::GET, "/v1/default/namespaces", &[], None).await;
        assert_eq!(status == 200, seen, "{namespace}/{name}: {status} {answer}");
    }
}
