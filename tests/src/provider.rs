//! [`TestProvider`]: an identity provider in the test's process.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use esker::config::OidcConfig;
use esker_types::now_ms;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// An identity provider with one key, which issues tokens for the audience `esker`.
pub struct TestProvider {
    /// The URL of its issuer.
    pub issuer: String,
    key: EcdsaKeyPair,
    down: Arc<AtomicBool>,
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
        let discovery = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")});
        let down = Arc::new(AtomicBool::new(false));
        let answer = |body: Value| {
            let down = down.clone();
            get(move || {
                let answer = match down.load(Ordering::SeqCst) {
                    true => Err(StatusCode::SERVICE_UNAVAILABLE),
                    false => Ok(Json(body.clone())),
                };
                async move { answer }
            })
        };
        let routes = Router::new().route("/.well-known/openid-configuration", answer(discovery)).route("/keys", answer(keys));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { issuer, key, down }
    }

    /// Returns the section of the configuration with which a server accepts the provider's tokens.
    pub fn config(&self) -> OidcConfig {
        OidcConfig { issuer: Some(self.issuer.clone()), audiences: vec!["esker".to_owned()], ..OidcConfig::default() }
    }

    /// Lets the provider fail from now on.
    pub fn stop(&self) {
        self.down.store(true, Ordering::SeqCst);
    }

    /// Issues a token to a user. It ends after some seconds, or ended before.
    pub fn token(&self, name: &str, seconds: i64) -> String {
        let now = now_ms() / 1000;
        let groups = ["readers"];
        self.sign(&json!({"iss": self.issuer, "aud": "esker", "sub": name, "groups": groups, "iat": now, "exp": now + seconds}))
    }

    /// Signs claims.
    pub fn sign(&self, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&json!({"alg": "ES256", "kid": "k", "typ": "JWT"})), encode(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("signed");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}
