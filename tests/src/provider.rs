//! [`TestProvider`]: an identity provider in the test's process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Query, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Redirect;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use esker::config::{LoginConfig, OidcConfig};
use esker_types::now_ms;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The client that the page is at the provider.
const CLIENT: &str = "esker-page";

/// The parameters of a request.
type Parameters = BTreeMap<String, String>;

/// An identity provider with one key, which issues tokens for the audience `esker`, and logs users in to the page.
pub struct TestProvider {
    /// The URL of its issuer.
    pub issuer: String,
    shared: Arc<Shared>,
}

/// What the provider's routes know.
struct Shared {
    issuer: String,
    key: EcdsaKeyPair,
    down: AtomicBool,
    log_ins: Mutex<LogIns>,
}

/// The log-ins that were begun, and how they go on.
#[derive(Default)]
struct LogIns {
    /// The name of the user who logs in.
    user: String,
    /// The secret of the client, if it is not a public one.
    secret: Option<String>,
    /// The parameters with which each code was asked for. A code is gone once it was exchanged.
    codes: BTreeMap<String, Parameters>,
    /// The number of codes so far.
    made: usize,
    /// The claims by which ID tokens differ from right ones. Null is no claim.
    changed: BTreeMap<String, Value>,
    /// The parameter `iss` of answers; `None`: the issuer.
    named_issuer: Option<String>,
}

impl fmt::Debug for TestProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestProvider").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl TestProvider {
    /// Starts a provider with a new key.
    pub async fn start() -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).expect("a key");
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "use": "sig", "x": encode(x), "y": encode(y)}]});
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let discovery = json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}/keys"),
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "end_session_endpoint": format!("{issuer}/logout"),
            "authorization_response_iss_parameter_supported": true,
        });
        let log_ins = Mutex::new(LogIns { user: "ann".to_owned(), ..LogIns::default() });
        let shared = Arc::new(Shared { issuer: issuer.clone(), key, down: AtomicBool::new(false), log_ins });
        let answer = |body: Value| {
            let shared = shared.clone();
            get(move || {
                let answer = match shared.down.load(Ordering::SeqCst) {
                    true => Err(StatusCode::SERVICE_UNAVAILABLE),
                    false => Ok(Json(body.clone())),
                };
                async move { answer }
            })
        };
        let routes = Router::new()
            .route("/.well-known/openid-configuration", answer(discovery))
            .route("/keys", answer(keys))
            .route("/authorize", get(authorize))
            .route("/token", post(exchange))
            .with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { issuer, shared }
    }

    /// Returns the section of the configuration with which a server accepts the provider's tokens.
    pub fn config(&self) -> OidcConfig {
        OidcConfig { issuer: Some(self.issuer.clone()), audiences: vec!["esker".to_owned()], ..OidcConfig::default() }
    }

    /// Returns the section of the configuration with which users log in to the page as well.
    pub fn log_in_config(&self) -> OidcConfig {
        let login = LoginConfig { client_id: Some(CLIENT.to_owned()), ..LoginConfig::default() };
        OidcConfig { login, ..self.config() }
    }

    /// Lets the provider fail from now on.
    pub fn stop(&self) {
        self.shared.down.store(true, Ordering::SeqCst);
    }

    /// Makes the page a confidential client from now on.
    pub fn require_secret(&self, secret: &str) {
        self.shared.log_ins().secret = Some(secret.to_owned());
    }

    /// Changes a claim of the ID tokens from now on. Null removes it.
    pub fn change_claim(&self, claim: &str, value: Value) {
        self.shared.log_ins().changed.insert(claim.to_owned(), value);
    }

    /// Makes ID tokens right again.
    pub fn restore_claims(&self) {
        self.shared.log_ins().changed.clear();
    }

    /// Changes the issuer that answers name from now on. An empty one is none.
    pub fn name_issuer(&self, issuer: &str) {
        self.shared.log_ins().named_issuer = Some(issuer.to_owned());
    }

    /// Logs the user in who follows a link to the provider. Returns the address to which the browser is sent.
    pub async fn log_in(&self, link: &str) -> String {
        assert!(link.starts_with(&format!("{}/authorize?", self.issuer)), "{link}");
        let http = Client::builder().redirect(Policy::none()).build().expect("a client");
        let answer = http.get(link).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 303, "{link}");
        answer.headers()["location"].to_str().expect("text").to_owned()
    }

    /// Issues a token to a user. It ends after some seconds, or ended before.
    pub fn token(&self, name: &str, seconds: i64) -> String {
        let now = now_ms() / 1000;
        let groups = ["readers"];
        self.sign(&json!({"iss": self.issuer, "aud": "esker", "sub": name, "groups": groups, "iat": now, "exp": now + seconds}))
    }

    /// Signs claims.
    pub fn sign(&self, claims: &Value) -> String {
        self.shared.sign(claims)
    }
}

impl Shared {
    fn log_ins(&self) -> MutexGuard<'_, LogIns> {
        self.log_ins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sign(&self, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&json!({"alg": "ES256", "kid": "k", "typ": "JWT"})), encode(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("signed");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// Logs a user in without a question, and sends the browser back with a code.
async fn authorize(
    State(shared): State<Arc<Shared>>,
    Query(parameters): Query<Parameters>,
) -> Result<Redirect, (StatusCode, String)> {
    let has = |name: &str, value: &str| parameters.get(name).is_some_and(|found| found == value);
    let right = has("response_type", "code") && has("client_id", CLIENT) && has("code_challenge_method", "S256");
    let needed = ["scope", "state", "nonce", "code_challenge", "redirect_uri"];
    let complete = needed.iter().all(|name| parameters.contains_key(*name));
    if !right || !complete {
        return Err((StatusCode::BAD_REQUEST, format!("{parameters:?}")));
    }
    let mut log_ins = shared.log_ins();
    log_ins.made += 1;
    let code = format!("code-{}-of-{}", log_ins.made, shared.issuer);
    let mut back = Url::parse(&parameters["redirect_uri"]).expect("an address");
    let issuer = log_ins.named_issuer.clone().unwrap_or_else(|| shared.issuer.clone());
    back.query_pairs_mut().append_pair("state", &parameters["state"]).append_pair("code", &code);
    // Keycloak adds a parameter of its own.
    back.query_pairs_mut().append_pair("session_state", "s");
    if !issuer.is_empty() {
        back.query_pairs_mut().append_pair("iss", &issuer);
    }
    log_ins.codes.insert(code, parameters);
    Ok(Redirect::to(back.as_str()))
}

/// Exchanges a code once, if client, address and verifier are those with which it was asked for.
async fn exchange(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> (StatusCode, Json<Value>) {
    let url = Url::parse(&format!("http://form/?{body}")).expect("a form");
    let form: Parameters = url.query_pairs().into_owned().collect();
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let refuse = |error: &str| (StatusCode::BAD_REQUEST, Json(json!({"error": error})));
    let mut log_ins = shared.log_ins();
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let known = match &log_ins.secret {
        Some(secret) => shown == Some(format!("Basic {}", STANDARD.encode(format!("{CLIENT}:{secret}"))).as_str()),
        None => shown.is_none() && field("client_id") == CLIENT,
    };
    if !known {
        return refuse("invalid_client");
    }
    let Some(asked) = log_ins.codes.remove(field("code")) else { return refuse("invalid_grant") };
    let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, field("code_verifier").as_bytes()));
    if field("grant_type") != "authorization_code"
        || field("redirect_uri") != asked["redirect_uri"]
        || challenge != asked["code_challenge"]
    {
        return refuse("invalid_grant");
    }
    let (now, access) = (now_ms() / 1000, format!("access-token-{}", log_ins.made));
    let at_hash = URL_SAFE_NO_PAD.encode(&digest(&SHA256, access.as_bytes()).as_ref()[..16]);
    let mut claims = json!({
        "iss": shared.issuer, "aud": CLIENT, "azp": CLIENT, "sub": log_ins.user, "groups": ["readers"],
        "iat": now, "exp": now + 60, "nonce": asked["nonce"], "at_hash": at_hash,
    });
    for (claim, value) in &log_ins.changed {
        claims[claim] = value.clone();
    }
    if let Some(claims) = claims.as_object_mut() {
        claims.retain(|_, value| !value.is_null());
    }
    let answer = json!({"access_token": access, "token_type": "Bearer", "expires_in": 60, "id_token": shared.sign(&claims)});
    (StatusCode::OK, Json(answer))
}
