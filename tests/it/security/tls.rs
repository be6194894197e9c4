//! TLS of both ports: certificates and their reload, client certificates, versions, slow handshakes, and the stop.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow_flight::sql::client::FlightSqlServiceClient;
use esker::config::{ClientCertificates, MtlsConfig, TlsConfig, TlsVersion};
use esker::server::Server;
use esker_tests::{TOKEN, TestApp, config};
use futures::TryStreamExt;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};
use reqwest::redirect::Policy;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, ConfigBuilder, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

use crate::kills::binary;

/// The time after which a test gives up waiting for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// The name of the client `etl` in its certificate.
const ETL: &str = "spiffe://example/etl";

/// A certificate and its key, in PEM.
pub(super) struct Pair {
    certificate: String,
    pub(super) key: String,
}

impl Pair {
    fn http_identity(&self) -> reqwest::Identity {
        reqwest::Identity::from_pem(format!("{}\n{}", self.certificate, self.key).as_bytes()).expect("an identity")
    }

    pub(super) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("PEM")
    }
}

/// An authority that signs certificates.
pub(super) struct Authority {
    pub(super) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        Pair { certificate: params.signed_by(&key, &self.issuer).expect("signed").pem(), key: key.serialize_pem() }
    }

    /// Issues a certificate of the server that ends with the begin of a year.
    pub(super) fn server(&self, end_year: i32) -> Pair {
        let names = ["127.0.0.1", "localhost", "esker.example"].map(str::to_owned).to_vec();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_after = date_time_ymd(end_year, 1, 1);
        self.issue(&params)
    }

    /// Issues a certificate of a client.
    fn client(&self, uri: &str) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a job");
        params.subject_alt_names.push(SanType::URI(uri.try_into().expect("ASCII")));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params)
    }
}

/// The files of a server's TLS.
struct Files {
    dir: TempDir,
    /// Signs the certificate of the server.
    authority: Authority,
    /// Signs the certificates of clients.
    clients: Authority,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let files = Self { dir, authority: Authority::new("servers"), clients: Authority::new("clients") };
        files.serve(&files.authority.server(2040));
        std::fs::write(files.path("ca.pem"), &files.authority.pem).expect("written");
        std::fs::write(files.path("clients.pem"), &files.clients.pem).expect("written");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, pair: &Pair) {
        std::fs::write(self.path(&format!("{name}.crt")), &pair.certificate).expect("written");
        std::fs::write(self.path(&format!("{name}.key")), &pair.key).expect("written");
    }

    /// Makes the server's files those of a pair.
    fn serve(&self, pair: &Pair) {
        self.write("server", pair);
    }

    fn tls(&self) -> TlsConfig {
        let file = |name: &str| Some(self.path(name));
        TlsConfig { certificate: file("server.crt"), key: file("server.key"), reload_seconds: 1, ..TlsConfig::default() }
    }

    /// Returns the section that asks clients for certificates.
    fn tls_with_clients(&self, client_certificates: ClientCertificates) -> TlsConfig {
        TlsConfig { client_ca: Some(self.path("clients.pem")), client_certificates, ..self.tls() }
    }

    /// Starts a server that knows the client `etl` by its certificate.
    async fn start_with_clients(&self, client_certificates: ClientCertificates) -> TestApp {
        TestApp::start_with(|c| {
            c.server.tls = self.tls_with_clients(client_certificates);
            c.auth.mtls = vec![MtlsConfig { client: "etl".to_owned(), uri: Some(ETL.to_owned()), ..MtlsConfig::default() }];
        })
        .await
    }

    fn http(&self, identity: Option<&Pair>) -> reqwest::Client {
        let authority = reqwest::Certificate::from_pem(self.authority.pem.as_bytes()).expect("PEM");
        let builder = reqwest::Client::builder().tls_built_in_root_certs(false).add_root_certificate(authority);
        let builder = match identity {
            Some(pair) => builder.identity(pair.http_identity()),
            None => builder,
        };
        builder.redirect(Policy::none()).build().expect("a client")
    }

    async fn flight(&self, app: &TestApp, identity: Option<&Pair>) -> Result<FlightSqlServiceClient<Channel>, String> {
        let builder = self.client_config(&[&TLS13, &TLS12]);
        let mut client = match identity {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(vec![certificate], key).expect("a pair")
            }
        };
        client.alpn_protocols = vec![b"h2".to_vec()];
        let (connector, address) = (TlsConnector::from(Arc::new(client)), app.server.flight);
        let connect = tower::service_fn(move |_: Uri| {
            let connector = connector.clone();
            async move {
                let socket = TcpStream::connect(address).await?;
                let stream = connector.connect(ServerName::try_from("localhost").expect("a name"), socket).await?;
                std::io::Result::Ok(TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("a URL");
        let channel = endpoint.connect_with_connector(connect).await.map_err(|e| esker_types::with_causes(&e))?;
        Ok(FlightSqlServiceClient::new(channel))
    }

    /// Begins the configuration of a client that trusts the authority.
    fn client_config(&self, versions: &[&'static SupportedProtocolVersion]) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).expect("PEM");
        roots.add(authority).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        builder.with_protocol_versions(versions).expect("versions").with_root_certificates(roots)
    }

    /// Connects to the port of the REST service as a client of these versions and protocols.
    async fn connect(
        &self,
        app: &TestApp,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut client = self.client_config(versions).with_no_client_auth();
        client.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let socket = TcpStream::connect(app.server.rest).await?;
        TlsConnector::from(Arc::new(client)).connect(ServerName::try_from("localhost").expect("a name"), socket).await
    }
}

fn https(app: &TestApp, path: &str) -> String {
    format!("https://{}{path}", app.server.rest)
}

/// Sends a GET request. Returns the status and the body, or the error of the connection.
async fn get(client: &reqwest::Client, url: &str, token: Option<&str>) -> Result<(u16, String), String> {
    let request = client.get(url);
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let answer = request.send().await.map_err(|e| format!("{e:?}"))?;
    let status = answer.status().as_u16();
    Ok((status, answer.text().await.map_err(|e| format!("{e:?}"))?))
}

async fn status(client: &reqwest::Client, url: &str, token: Option<&str>) -> u16 {
    get(client, url, token).await.expect("an answer").0
}

/// Runs a statement. Returns its batches, or the text of the error.
async fn rows(client: &mut FlightSqlServiceClient<Channel>, sql: &str) -> Result<Vec<RecordBatch>, String> {
    let info = client.execute(sql.to_owned(), None).await.map_err(|e| e.to_string())?;
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    let stream = client.do_get(ticket).await.map_err(|e| e.to_string())?;
    stream.try_collect().await.map_err(|e| e.to_string())
}

/// Waits until the server closes a connection on which it may have sent an alert.
async fn wait_until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut sent = Vec::new();
    // A reset is an end too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut sent)).await.expect("the server closes the connection");
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ports_speak_tls_and_no_plain_http() {
    let files = Files::new();
    let app = TestApp::start_with(|c| c.server.tls = files.tls()).await;
    let client = files.http(None);
    assert_eq!(status(&client, &https(&app, "/v1/config"), Some(TOKEN)).await, 200);
    assert_eq!(status(&client, &https(&app, "/v1/config"), None).await, 401);
    let stranger = reqwest::Client::builder().tls_built_in_root_certs(false).build().expect("a client");
    get(&stranger, &https(&app, "/healthz"), None).await.expect_err("the certificate is not trusted");
    get(&client, &app.url("/healthz"), None).await.expect_err("plain HTTP");
    for (offered, chosen) in [(["http/1.1", "h2"].as_slice(), "h2"), (["http/1.1"].as_slice(), "http/1.1")] {
        let stream = files.connect(&app, &[&TLS13], offered).await.expect("a connection");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(chosen.as_bytes()), "{offered:?}");
    }
    let mut flight = files.flight(&app, None).await.expect("a connection");
    assert!(rows(&mut flight, "SELECT 1").await.expect_err("no token").contains("no token"));
    flight.set_token(TOKEN.to_owned());
    assert_eq!(rows(&mut flight, "SELECT 1").await.expect("answered")[0].num_rows(), 1);
    let (_, metrics) = get(&client, &https(&app, "/metrics"), Some(TOKEN)).await.expect("an answer");
    for port in ["rest", "flight"] {
        // `date -d 2040-01-01Z +%s`
        let line = format!("esker_tls_certificate_end_seconds{{port=\"{port}\"}} 2208988800");
        assert!(metrics.lines().any(|found| found == line), "{port}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flight_can_have_a_certificate_of_its_own_or_be_the_only_one_with_tls() {
    let (files, other) = (Files::new(), Files::new());
    let app = TestApp::start_with(|c| (c.server.tls, c.server.flight_tls) = (files.tls(), other.tls())).await;
    assert_eq!(status(&files.http(None), &https(&app, "/healthz"), None).await, 200);
    assert!(other.flight(&app, None).await.is_ok() && files.flight(&app, None).await.is_err());
    app.stop().await;
    let app = TestApp::start_with(|c| c.server.flight_tls = other.tls()).await;
    assert_eq!(status(&files.http(None), &app.url("/healthz"), None).await, 200, "the REST service has no TLS");
    assert!(other.flight(&app, None).await.is_ok());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gets_secure_cookies_and_stays_with_tls() {
    let files = Files::new();
    let app = TestApp::start_with(|c| c.server.tls = files.tls()).await;
    let authority = reqwest::Certificate::from_pem(files.authority.pem.as_bytes()).expect("PEM");
    let builder = reqwest::Client::builder().tls_built_in_root_certs(false).add_root_certificate(authority);
    let builder = builder.resolve("esker.example", app.server.rest).resolve("localhost", app.server.rest);
    let client = builder.build().expect("a client");
    for (host, strict) in [("esker.example", Some("max-age=31536000")), ("localhost", None)] {
        let url = format!("https://{host}:{}/login", app.server.rest.port());
        let answer = client.get(url).send().await.expect("an answer");
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().expect("text"));
        assert_eq!(header("strict-transport-security"), strict, "{host}");
        let cookie = header("set-cookie").expect("a cookie");
        assert!(cookie.starts_with("__Host-esker-login=") && cookie.ends_with("; Secure"), "{host}: {cookie}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_stands_for_its_client_and_for_nobody_else() {
    let files = Files::new();
    let app = files.start_with_clients(ClientCertificates::Optional).await;
    let (etl, unknown) = (files.clients.client(ETL), files.clients.client("spiffe://example/etl2"));
    let path = https(&app, "/v1/default/namespaces");
    let known = files.http(Some(&etl));
    assert_eq!(status(&known, &path, None).await, 200);
    assert_eq!(status(&known, &path, Some("")).await, 200, "PyIceberg sends an empty token");
    assert_eq!(status(&known, &path, Some("wrong")).await, 401, "a wrong token beside a right certificate");
    assert_eq!(status(&known, &path, Some(TOKEN)).await, 200);
    let proxied = known.get(&path).header("x-forwarded-for", "198.51.100.1").send().await.expect("an answer");
    assert_eq!(proxied.status(), 401, "the certificate of a proxy");
    let made = known.post(https(&app, "/api/v1/tokens")).json(&json!({"principal": "etl"})).send().await.expect("an answer");
    assert_eq!(made.status(), 403, "no token outlives the certificate");
    let stranger = files.http(Some(&unknown));
    let (code, text) = get(&stranger, &path, None).await.expect("an answer");
    assert!(code == 401 && text.contains("belongs to no client"), "{code}: {text}");
    assert_eq!(status(&stranger, &path, Some(TOKEN)).await, 200, "the token counts");
    assert_eq!(status(&files.http(None), &path, None).await, 401);
    assert_eq!(status(&files.http(None), &path, Some(TOKEN)).await, 200);
    let forged = files.http(Some(&Authority::new("clients").client(ETL)));
    get(&forged, &path, Some(TOKEN)).await.expect_err("another authority of the same name");
    let of_server = files.http(Some(&files.authority.client(ETL)));
    get(&of_server, &path, Some(TOKEN)).await.expect_err("the authority of the server is none of clients");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_a_browser_with_a_certificate_needs_its_secret() {
    let files = Files::new();
    let app = files.start_with_clients(ClientCertificates::Optional).await;
    let browser = files.http(Some(&files.clients.client(ETL)));
    assert_eq!(status(&browser, &https(&app, "/jobs"), None).await, 200);
    let cancel = browser.post(https(&app, "/jobs/missing/cancel"));
    assert_eq!(cancel.send().await.expect("an answer").status(), 403, "a form without the secret");
    let unknown = files.http(Some(&files.clients.client("spiffe://example/other")));
    let sent = unknown.get(https(&app, "/jobs")).send().await.expect("an answer");
    assert_eq!((sent.status().as_u16(), &sent.headers()["location"].as_bytes()[..6]), (303, b"/login".as_slice()));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_certificate_is_required_nobody_connects_without() {
    let files = Files::new();
    let app = files.start_with_clients(ClientCertificates::Required).await;
    let etl = files.clients.client(ETL);
    get(&files.http(None), &https(&app, "/healthz"), Some(TOKEN)).await.expect_err("no certificate");
    assert_eq!(status(&files.http(Some(&etl)), &https(&app, "/healthz"), None).await, 200);
    // With TLS 1.3, a client may learn of the refusal only when it sends something.
    if let Ok(mut flight) = files.flight(&app, None).await {
        rows(&mut flight, "SELECT 1").await.expect_err("no certificate");
    }
    let mut flight = files.flight(&app, Some(&etl)).await.expect("a connection");
    rows(&mut flight, "SELECT 1").await.expect("answered");
    let batches = rows(&mut flight, "SELECT principal FROM system.queries").await.expect("answered");
    assert_eq!(batches[0].column(0).as_string::<i32>().value(0), "etl");
    flight.set_token("wrong".to_owned());
    assert!(rows(&mut flight, "SELECT 1").await.expect_err("a wrong token").contains("not valid"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_files_are_served_and_broken_ones_are_not() {
    let files = Files::new();
    let app = TestApp::start_with(|c| c.server.tls = files.tls()).await;
    let (client, ready) = (files.http(None), https(&app, "/readyz"));
    let served = async || {
        let stream = files.connect(&app, &[&TLS13], &["http/1.1"]).await.expect("a connection");
        stream.get_ref().1.peer_certificates().expect("certificates")[0].clone()
    };
    let (first, next) = (served().await, files.authority.server(2041));
    std::fs::write(files.path("server.crt"), &next.certificate).expect("written");
    let line = "degraded: certificate of rest: the files of server.tls can't be used";
    timeout(PATIENCE, async {
        while !get(&client, &ready, None).await.expect("an answer").1.contains(line) {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the mismatch is told");
    let (code, text) = get(&client, &ready, None).await.expect("an answer");
    assert!(code == 200 && text.contains("certificate of flight"), "the server is ready: {code} {text}");
    assert!(!text.contains(&files.dir.path().display().to_string()), "{text}");
    assert_eq!(served().await, first, "the earlier certificate stays in use");
    files.serve(&next);
    timeout(PATIENCE, async {
        while served().await != next.der() {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the new certificate is served");
    assert!(!get(&client, &ready, None).await.expect("an answer").1.contains("degraded: certificate"));
    let (_, metrics) = get(&client, &https(&app, "/metrics"), Some(TOKEN)).await.expect("an answer");
    // `date -d 2041-01-01Z +%s`
    assert!(metrics.contains("esker_tls_certificate_end_seconds{port=\"flight\"} 2240611200"), "{metrics}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_of_tls_are_refused() {
    let files = Files::new();
    let app = TestApp::start_with(|c| c.server.tls = files.tls()).await;
    for (version, spoken) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let stream = files.connect(&app, &[version], &["http/1.1"]).await.expect("a connection");
        assert_eq!(stream.get_ref().1.protocol_version(), Some(spoken));
    }
    // A hello of TLS 1.1, with the one extension that the server looks for before it looks at the version.
    let mut hello = vec![0x16_u8, 3, 1, 0, 55, 1, 0, 0, 51, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x14, 1, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    assert_eq!(hello.len(), 5 + 55);
    let mut stream = TcpStream::connect(app.server.rest).await.expect("a connection");
    stream.write_all(&hello).await.expect("sent");
    let alert = wait_until_closed(&mut stream).await;
    // RFC 8446, sections 5.1 and 6.2: an alert, fatal, protocol_version.
    assert!(alert.first() == Some(&21) && alert.ends_with(&[2, 70]), "{alert:?}");
    app.stop().await;
    let app = TestApp::start_with(|c| c.server.tls = TlsConfig { min_version: TlsVersion::Tls13, ..files.tls() }).await;
    assert!(files.connect(&app, &[&TLS12], &["http/1.1"]).await.is_err());
    assert!(files.connect(&app, &[&TLS13, &TLS12], &["http/1.1"]).await.is_ok());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_say_nothing_hold_up_no_other_one() {
    let files = Files::new();
    let slow = TlsConfig { max_handshakes: 4, handshake_seconds: 3600, ..files.tls() };
    let app = TestApp::start_with(|c| c.server.tls = slow).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(app.server.rest).await.expect("a connection"));
    }
    assert_eq!(status(&files.http(None), &https(&app, "/healthz"), None).await, 200);
    assert_eq!(wait_until_closed(&mut silent[0]).await, b"", "the oldest handshake is ended for a new one");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_takes_too_long_ends() {
    let files = Files::new();
    let app = TestApp::start_with(|c| c.server.tls = TlsConfig { handshake_seconds: 1, ..files.tls() }).await;
    let mut silent = TcpStream::connect(app.server.rest).await.expect("a connection");
    assert_eq!(wait_until_closed(&mut silent).await, b"");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_requests_and_for_no_handshake() {
    let files = Files::new();
    let app = TestApp::start_with(|c| {
        c.server.tls = TlsConfig { handshake_seconds: 3600, ..files.tls() };
        c.server.drain_seconds = 3600;
    })
    .await;
    let mut silent = TcpStream::connect(app.server.rest).await.expect("a connection");
    let idle = files.connect(&app, &[&TLS13], &["http/1.1"]).await.expect("a connection");
    let mut busy = files.connect(&app, &[&TLS13], &["http/1.1"]).await.expect("a connection");
    let body = "{\"namespace\": [\"n\"]}";
    let head = format!(
        "POST /v1/default/namespaces HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    busy.write_all(head.as_bytes()).await.expect("sent");
    let mut go_on = [0; 25];
    timeout(PATIENCE, busy.read_exact(&mut go_on)).await.expect("in time").expect("read");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n", "the handler reads the body");
    let address = app.server.rest;
    let finish = async {
        while TcpStream::connect(address).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
        busy.write_all(body.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        busy.read_to_string(&mut answer).await.expect("read");
        answer
    };
    let both = async { tokio::join!(app.stop(), finish) };
    let (_, answer) = timeout(PATIENCE, both).await.expect("long before server.drain_seconds");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(wait_until_closed(&mut silent).await, b"");
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_does_not_start_with_wrong_files_and_names_the_key() {
    let files = Files::new();
    let (dir, other) = (tempfile::tempdir().expect("a directory"), files.authority.server(2040));
    std::fs::write(files.path("other.key"), &other.key).expect("written");
    std::fs::write(files.path("empty.pem"), "").expect("written");
    let start = async |tls: TlsConfig| {
        let mut config = config(dir.path());
        config.server.tls = tls;
        Server::start(&config).await.map(drop).expect_err("wrong files").to_string()
    };
    let file = |name: &str| Some(files.path(name));
    for (tls, words) in [
        (TlsConfig { key: file("missing.key"), ..files.tls() }, "server.tls.key: "),
        (TlsConfig { key: file("other.key"), ..files.tls() }, "server.tls.key and server.tls.certificate do not go together"),
        (TlsConfig { certificate: file("empty.pem"), ..files.tls() }, "server.tls.certificate: the file has no certificate"),
        (TlsConfig { client_ca: file("server.key"), ..files.tls() }, "server.tls.client_ca: the file has no certificate"),
    ] {
        let error = start(tls).await;
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_trusts_an_authority_and_shows_a_certificate() {
    let files = Files::new();
    let app = files.start_with_clients(ClientCertificates::Required).await;
    files.write("etl", &files.clients.client(ETL));
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(binary());
        for name in ["ESKER_TOKEN", "ESKER_WAREHOUSE", "ESKER_CLIENT_CERT", "ESKER_CLIENT_KEY"] {
            command.env_remove(name);
        }
        command.env("ESKER_URL", https(&app, "")).env("ESKER_CA_FILE", files.path("ca.pem")).args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("started");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (certificate, key) = (files.path("etl.crt"), files.path("etl.key"));
    let (certificate, key) = (certificate.to_str().expect("text"), key.to_str().expect("text"));
    let shown = ["--client-cert", certificate, "--client-key", key];
    let (succeeded, out, error) = run(&[["warehouses"].as_slice(), &shown].concat()).await;
    assert!(succeeded && out.contains("default"), "{out}{error}");
    let (succeeded, _, error) = run(&["warehouses"]).await;
    assert!(!succeeded, "without a certificate: {error}");
    let (succeeded, _, error) = run(&["warehouses", "--client-cert", certificate]).await;
    assert!(!succeeded && error.contains("--client-key"), "{error}");
    let flight = format!("grpc+tls://{}", app.server.flight);
    let sql = ["sql", "--flight-url", &flight, "--json", "-c", "SELECT 1 AS one"];
    let (succeeded, out, error) = run(&[sql.as_slice(), &shown].concat()).await;
    assert!(succeeded && out == "{\"one\":1}\n", "{out}{error}");
    let clients = files.path("clients.pem");
    let wrong_ca = ["warehouses", "--ca-file", clients.to_str().expect("text")];
    let (succeeded, _, error) = run(&[wrong_ca.as_slice(), &shown].concat()).await;
    assert!(!succeeded && error.contains("certificate"), "{error}");
    app.stop().await;
}
