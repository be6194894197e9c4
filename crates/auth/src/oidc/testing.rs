//! What the tests need: keys that sign, and a provider in this process.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use esker_types::now_ms;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};

use super::{IssuerOptions, KeyTimes, SigningAlgorithm};

/// A key that signs tokens.
pub(crate) struct SigningKey {
    kid: String,
    pair: SigningPair,
}

/// A private key with its public one.
enum SigningPair {
    /// ECDSA on P-256.
    P256(Box<EcdsaKeyPair>),
    /// EdDSA on Curve25519.
    Ed25519(Ed25519KeyPair),
    /// RSA of 2048 bits.
    Rsa(Box<RsaKeyPair>),
}

impl SigningKey {
    /// Makes a new key of ECDSA.
    pub(crate) fn p256(kid: &str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).expect("a key");
        Self { kid: kid.to_owned(), pair: SigningPair::P256(Box::new(pair)) }
    }

    /// Makes a new key of EdDSA.
    pub(crate) fn ed25519(kid: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key");
        Self { kid: kid.to_owned(), pair: SigningPair::Ed25519(pair) }
    }

    /// Returns the one key of RSA, which was made for tests and is used for nothing else.
    pub(crate) fn rsa(kid: &str) -> Self {
        let pair = RsaKeyPair::from_pkcs8(include_bytes!("../../tests/data/rsa2048.pk8")).expect("a key");
        Self { kid: kid.to_owned(), pair: SigningPair::Rsa(Box::new(pair)) }
    }

    /// Returns the algorithm that the key signs with.
    pub(crate) fn algorithm(&self) -> SigningAlgorithm {
        match self.pair {
            SigningPair::P256(_) => SigningAlgorithm::Es256,
            SigningPair::Ed25519(_) => SigningAlgorithm::EdDsa,
            SigningPair::Rsa(_) => SigningAlgorithm::Rs256,
        }
    }

    /// Returns the public key, as providers publish it.
    pub(crate) fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.pair {
            SigningPair::P256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)})
            }
            SigningPair::Ed25519(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())}),
            SigningPair::Rsa(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "n": encode(&public.n), "e": encode(&public.e)})
            }
        };
        jwk["kid"] = json!(self.kid);
        jwk
    }

    /// Signs a message.
    pub(crate) fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            SigningPair::P256(pair) => pair.sign(&random, message).expect("signed").as_ref().to_vec(),
            SigningPair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            SigningPair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("signed");
                signature
            }
        }
    }

    /// Returns the header of the key's tokens.
    pub(crate) fn header(&self) -> Value {
        json!({"alg": self.algorithm(), "kid": self.kid, "typ": "at+jwt"})
    }

    /// Makes a token with a header of its own.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.signature(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// Makes a token.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_with(&self.header(), claims)
    }
}

/// Returns the claims of a token for `ann` that ends in five minutes.
pub(crate) fn claims(issuer: &str) -> Value {
    let now = now_ms() / 1000;
    json!({"iss": issuer, "aud": ["esker"], "sub": "ann", "groups": ["readers"], "iat": now, "nbf": now, "exp": now + 300})
}

/// Returns options for an issuer, with the audience `esker` and no tolerated difference of clocks.
pub(crate) fn options(issuer: &str) -> IssuerOptions {
    IssuerOptions {
        issuer: issuer.to_owned(),
        audiences: vec!["esker".to_owned()],
        jwks_url: None,
        name_claim: "sub".to_owned(),
        claims: vec!["groups".to_owned()],
        algorithms: SigningAlgorithm::ALL.to_vec(),
        clock_skew: Duration::ZERO,
        max_lifetime: None,
        key_times: KeyTimes { refetch: Duration::ZERO, ..KeyTimes::default() },
        ca_pem: None,
        bearer_file: None,
        log_in: None,
    }
}

/// What a provider answers.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// The document of the issuer.
    pub(crate) discovery: Mutex<Value>,
    /// The keys.
    pub(crate) keys: Mutex<Vec<Value>>,
    /// True if every request is answered with 503.
    pub(crate) down: AtomicBool,
    /// The number of requests for keys.
    pub(crate) fetches: AtomicUsize,
}

/// A provider in this process.
pub(crate) struct Provider {
    /// The URL of its issuer.
    pub(crate) issuer: String,
    /// What it answers.
    pub(crate) answers: Arc<Answers>,
}

impl Provider {
    /// Starts a provider that publishes keys.
    pub(crate) async fn start(keys: &[&SigningKey]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let issuer = format!("http://{}/realms/a", listener.local_addr().expect("an address"));
        let discovery = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")});
        let answers = Arc::new(Answers { discovery: Mutex::new(discovery), ..Answers::default() });
        let routes = Router::new()
            .route("/realms/a/.well-known/openid-configuration", get(discover))
            .route("/realms/a/keys", get(publish))
            .route("/realms/a/moved", get(redirect))
            .with_state(answers.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let provider = Self { issuer, answers };
        provider.publish(keys);
        provider
    }

    /// Publishes other keys.
    pub(crate) fn publish(&self, keys: &[&SigningKey]) {
        *self.answers.keys.lock().expect("not poisoned") = keys.iter().map(|key| key.jwk()).collect();
    }

    /// Lets the provider fail, or answer again.
    pub(crate) fn set_down(&self, down: bool) {
        self.answers.down.store(down, Ordering::SeqCst);
    }

    /// Returns the number of requests for keys.
    pub(crate) fn fetches(&self) -> usize {
        self.answers.fetches.load(Ordering::SeqCst)
    }
}

async fn discover(State(answers): State<Arc<Answers>>) -> Result<Json<Value>, StatusCode> {
    match answers.down.load(Ordering::SeqCst) {
        true => Err(StatusCode::SERVICE_UNAVAILABLE),
        false => Ok(Json(answers.discovery.lock().expect("not poisoned").clone())),
    }
}

async fn publish(State(answers): State<Arc<Answers>>) -> Result<Json<Value>, StatusCode> {
    answers.fetches.fetch_add(1, Ordering::SeqCst);
    // A fetch takes its time, so that others wait for it.
    tokio::time::sleep(Duration::from_millis(20)).await;
    match answers.down.load(Ordering::SeqCst) {
        true => Err(StatusCode::SERVICE_UNAVAILABLE),
        false => Ok(Json(json!({"keys": *answers.keys.lock().expect("not poisoned")}))),
    }
}

async fn redirect() -> (StatusCode, [(&'static str, &'static str); 1]) {
    (StatusCode::FOUND, [("location", "/realms/a/keys")])
}
