//! Tokens against a provider in this process: what is accepted, what is refused, and what a provider that changes or fails does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use esker_access::Identity;
use esker_state::{Database, State};
use esker_types::{Coded, ErrorCode, Principal, now_ms};
use serde_json::{Value, json};

use super::testing::{Provider, SigningKey, claims, options};
use super::{IssuerOptions, KeyTimes, Providers, SigningAlgorithm, TokenFault};
use crate::{AuthError, AuthOptions, Authenticator};

/// A SplitMix64 generator: the same seed gives the same changes on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).expect("less than the end")
    }
}

fn providers(options: Vec<IssuerOptions>) -> Providers {
    Providers::new(options).expect("issuers")
}

/// Returns the name of a token's user, or the fault for which the token is refused.
async fn verify(providers: &Providers, token: &str) -> Result<String, TokenFault> {
    match providers.verify(token).await {
        Ok(user) => Ok(user.name.clone()),
        Err(AuthError::Refused(fault)) => Err(fault),
        Err(other) => panic!("{other}"),
    }
}

/// Returns the code of the answer to a token.
async fn code(providers: &Providers, token: &str) -> Option<ErrorCode> {
    providers.verify(token).await.err().map(|error| error.code())
}

#[tokio::test]
async fn tokens_of_every_kind_of_key_are_accepted_and_name_their_user() {
    let keys = [SigningKey::p256("a"), SigningKey::ed25519("b"), SigningKey::rsa("c")];
    let provider = Provider::start(&[&keys[0], &keys[1], &keys[2]]).await;
    let providers = providers(vec![options(&provider.issuer)]);
    for key in &keys {
        let user = providers.verify(&key.token(&claims(&provider.issuer))).await.expect("accepted");
        assert_eq!((user.issuer.as_str(), user.name.as_str()), (provider.issuer.as_str(), "ann"));
        assert_eq!(user.claims.to_vec(), [Arc::<str>::from("readers")]);
    }
    assert_eq!(provider.fetches(), 1, "one fetch for all of them");
    let only_rsa = IssuerOptions { algorithms: vec![SigningAlgorithm::Rs256], ..options(&provider.issuer) };
    let only_rsa = Providers::new(vec![only_rsa]).expect("issuers");
    assert_eq!(verify(&only_rsa, &keys[0].token(&claims(&provider.issuer))).await, Err(TokenFault::Algorithm));
    assert_eq!(verify(&only_rsa, &keys[2].token(&claims(&provider.issuer))).await, Ok("ann".to_owned()));
}

#[tokio::test]
async fn no_changed_bit_and_no_changed_claim_is_accepted() {
    for (seed, key) in [(1, SigningKey::p256("a")), (2, SigningKey::ed25519("a")), (3, SigningKey::rsa("a"))] {
        let provider = Provider::start(&[&key]).await;
        let providers = providers(vec![options(&provider.issuer)]);
        let good = key.token(&claims(&provider.issuer));
        assert!(providers.verify(&good).await.is_ok());
        let mut random = Random(seed);
        for round in 0..400 {
            let mut bytes = good.clone().into_bytes();
            let (at, copied) = (random.below(bytes.len()), bytes[random.below(bytes.len())]);
            match random.below(4) {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, copied),
                2 => bytes.truncate(at),
                _ => bytes[at] ^= 1_u8 << random.below(7),
            }
            let changed = String::from_utf8(bytes).expect("ASCII");
            let accepted = changed != good && providers.verify(&changed).await.is_ok();
            assert!(!accepted, "seed {seed}, round {round}: {changed}");
        }
        // The claims and headers of one token with the signature of another.
        let (signed, _) = good.rsplit_once('.').expect("three parts");
        for (claim, value) in [("sub", json!("root")), ("groups", json!(["admins"])), ("exp", json!(now_ms() / 1000 + 9000))] {
            let mut other = claims(&provider.issuer);
            other[claim] = value;
            let forged = SigningKey::p256("a").token_with(&key.header(), &other);
            let (forged_signed, forged_signature) = forged.rsplit_once('.').expect("three parts");
            let own_signature = &good[signed.len() + 1..];
            for token in [format!("{forged_signed}.{own_signature}"), forged.clone(), format!("{signed}.{forged_signature}")] {
                assert!(providers.verify(&token).await.is_err(), "{claim}");
            }
        }
        assert!(providers.verify(&format!("{signed}.")).await.is_err(), "no signature");
    }
}

#[tokio::test]
async fn headers_that_choose_another_check_are_refused() {
    let (key, rsa) = (SigningKey::p256("a"), SigningKey::rsa("b"));
    let provider = Provider::start(&[&key, &rsa]).await;
    let providers = providers(vec![options(&provider.issuer)]);
    let header = |name: &str, value: Value| {
        let mut header = key.header();
        header[name] = value;
        header
    };
    for (header, fault) in [
        (header("alg", json!("none")), TokenFault::Algorithm),
        (header("alg", json!("HS256")), TokenFault::Algorithm),
        (header("alg", json!("RS256")), TokenFault::Key),
        (header("alg", json!("ES384")), TokenFault::Key),
        (header("kid", json!("b")), TokenFault::Key),
        (header("kid", json!("../../keys")), TokenFault::Key),
        (header("crit", json!(["x"])), TokenFault::Critical),
        (header("typ", json!("logout+jwt")), TokenFault::Type),
    ] {
        assert_eq!(verify(&providers, &key.token_with(&header, &claims(&provider.issuer))).await, Err(fault), "{header}");
    }
    // The public key of the attacker in the header is nobody's.
    let mut own = header("jwk", SigningKey::p256("a").jwk());
    own["jku"] = json!(format!("{}/keys", provider.issuer));
    let attacker = SigningKey::p256("a");
    assert_eq!(verify(&providers, &attacker.token_with(&own, &claims(&provider.issuer))).await, Err(TokenFault::Signature));
    let signed = key.token(&claims(&provider.issuer));
    let unsigned = format!("{}.", signed.rsplit_once('.').expect("three parts").0);
    assert_eq!(verify(&providers, &unsigned).await, Err(TokenFault::Signature));
}

#[tokio::test]
async fn a_key_counts_for_its_own_issuer_only() {
    let (of_a, of_b) = (SigningKey::p256("same"), SigningKey::p256("same"));
    let (a, b) = (Provider::start(&[&of_a]).await, Provider::start(&[&of_b]).await);
    let both = providers(vec![options(&a.issuer), options(&b.issuer)]);
    assert_eq!(verify(&both, &of_a.token(&claims(&a.issuer))).await, Ok("ann".to_owned()));
    assert_eq!(verify(&both, &of_b.token(&claims(&b.issuer))).await, Ok("ann".to_owned()));
    assert_eq!(verify(&both, &of_a.token(&claims(&b.issuer))).await, Err(TokenFault::Signature));
    assert_eq!(verify(&both, &of_b.token(&claims(&a.issuer))).await, Err(TokenFault::Signature));
    let only_a = providers(vec![options(&a.issuer)]);
    assert_eq!(verify(&only_a, &of_b.token(&claims(&b.issuer))).await, Err(TokenFault::Issuer));
    let mut nobody = claims(&a.issuer);
    nobody["iss"] = Value::Null;
    assert_eq!(verify(&only_a, &of_a.token(&nobody)).await, Err(TokenFault::Issuer));
}

#[tokio::test]
async fn a_new_key_is_fetched_when_it_is_seen_and_the_old_one_goes_on_for_a_while() {
    let (old, new) = (SigningKey::p256("old"), SigningKey::p256("new"));
    let provider = Provider::start(&[&old]).await;
    let providers = providers(vec![options(&provider.issuer)]);
    let token = |key: &SigningKey, name: &str| {
        let mut claims = claims(&provider.issuer);
        claims["sub"] = json!(name);
        key.token(&claims)
    };
    assert_eq!(verify(&providers, &token(&old, "ann")).await, Ok("ann".to_owned()));
    provider.publish(&[&new]);
    assert_eq!(verify(&providers, &token(&new, "bob")).await, Ok("bob".to_owned()));
    assert_eq!(verify(&providers, &token(&old, "eve")).await, Ok("eve".to_owned()), "signed before the rotation");
    assert_eq!(provider.fetches(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_keys_cause_one_fetch_however_many_tokens_name_them() {
    let key = SigningKey::p256("a");
    let provider = Provider::start(&[&key]).await;
    let times = KeyTimes { refetch: Duration::from_secs(3600), ..KeyTimes::default() };
    let providers = providers(vec![IssuerOptions { key_times: times, ..options(&provider.issuer) }]);
    let first = (0..20).map(|n| {
        let mut claims = claims(&provider.issuer);
        claims["n"] = json!(n);
        let (providers, token) = (providers.clone(), key.token(&claims));
        tokio::spawn(async move { verify(&providers, &token).await })
    });
    for task in first.collect::<Vec<_>>() {
        assert_eq!(task.await.expect("joined"), Ok("ann".to_owned()), "all wait for the one fetch");
    }
    for n in 0..20 {
        let stranger = SigningKey::p256(&format!("unknown-{n}"));
        assert_eq!(verify(&providers, &stranger.token(&claims(&provider.issuer))).await, Err(TokenFault::Key));
    }
    assert_eq!(provider.fetches(), 1);
}

#[tokio::test]
async fn a_provider_that_is_down_is_told_from_a_wrong_token_and_known_keys_go_on() {
    let (key, other) = (SigningKey::p256("a"), SigningKey::p256("b"));
    let provider = Provider::start(&[&key]).await;
    provider.set_down(true);
    let providers = providers(vec![options(&provider.issuer)]);
    let token = |key: &SigningKey, n: i32| {
        let mut claims = claims(&provider.issuer);
        claims["n"] = json!(n);
        key.token(&claims)
    };
    assert_eq!(code(&providers, &token(&key, 0)).await, Some(ErrorCode::Unavailable), "it may be right");
    provider.set_down(false);
    assert_eq!(code(&providers, &token(&key, 1)).await, None);
    provider.set_down(true);
    assert_eq!(code(&providers, &token(&other, 2)).await, Some(ErrorCode::Unavailable));
    assert_eq!(code(&providers, &token(&key, 3)).await, None, "a known key");
    provider.set_down(false);
    assert_eq!(code(&providers, &token(&other, 4)).await, Some(ErrorCode::Unauthenticated));
}

#[tokio::test]
async fn a_document_that_leads_elsewhere_is_not_followed() {
    let key = SigningKey::p256("a");
    for (name, value) in [
        ("issuer", json!("https://idp.example")),
        ("jwks_uri", json!("http://idp.example/keys")),
        ("jwks_uri", json!("file:///etc/passwd")),
        ("jwks_uri", Value::Null),
    ] {
        let provider = Provider::start(&[&key]).await;
        provider.answers.discovery.lock().expect("not poisoned")[name] = value.clone();
        let providers = providers(vec![options(&provider.issuer)]);
        assert_eq!(code(&providers, &key.token(&claims(&provider.issuer))).await, Some(ErrorCode::Unavailable), "{name} {value}");
        assert_eq!(provider.fetches(), 0);
    }
    let provider = Provider::start(&[&key]).await;
    let token = key.token(&claims(&provider.issuer));
    let at = |path: &str| {
        let jwks_url = Some(format!("{}/{path}", provider.issuer));
        providers(vec![IssuerOptions { jwks_url, ..options(&provider.issuer) }])
    };
    assert_eq!(code(&at("moved"), &token).await, Some(ErrorCode::Unavailable), "a redirect");
    assert_eq!(code(&at("keys"), &token).await, None, "keys at an address of the configuration");
    *provider.answers.keys.lock().expect("not poisoned") = vec![json!({"x": "x".repeat(600 << 10)}), key.jwk()];
    assert_eq!(code(&at("keys"), &token).await, Some(ErrorCode::Unavailable), "too large");
    assert!(provider.answers.fetches.load(Ordering::SeqCst) >= 2);
}

async fn open(dir: &tempfile::TempDir, issuers: Vec<IssuerOptions>) -> (State, Authenticator) {
    let state = State::open(Database::Sqlite(dir.path().join("esker.db"))).await.expect("opened");
    let auth = Authenticator::new(state.clone(), AuthOptions::default()).with_providers(providers(issuers));
    (state, auth)
}

#[tokio::test]
async fn a_user_is_no_client_of_that_name() {
    let key = SigningKey::p256("a");
    let provider = Provider::start(&[&key]).await;
    let dir = tempfile::tempdir().expect("a directory");
    let (state, auth) = open(&dir, vec![options(&provider.issuer)]).await;
    let client = auth.make("ann", "", None).await.expect("made").token.reveal();
    let client = auth.authenticate_token(&client).await.expect("known");
    let user = auth.authenticate_token(&key.token(&claims(&provider.issuer))).await.expect("accepted");
    let principal = Principal::User { issuer: provider.issuer.clone(), name: "ann".to_owned() };
    assert_eq!((&user.principal, &client.principal), (&principal, &Principal::Token("ann".to_owned())));
    let expected = Identity::User { issuer: provider.issuer.as_str().into(), name: "ann".into(), claims: vec!["readers".into()] };
    assert_eq!((user.identity(), client.identity()), (expected, Identity::client("ann")));
    // A user makes tokens of clients, which end no later than the user's own, and none of a client that happens to have the name.
    let refused = auth.make_for(&user, None, "", None).await.expect_err("refused");
    assert!(matches!(refused, AuthError::Invalid(_)), "{refused}");
    let made = auth.make_for(&user, Some("job"), "", None).await.expect("made").info;
    assert!(made.expires_ms.is_some_and(|end| end <= now_ms() + 300_000), "{made:?}");
    let longer = auth.make_for(&user, Some("job"), "", Some(Duration::from_secs(3600))).await.expect_err("refused");
    assert!(matches!(longer, AuthError::OutlivesCaller(_)), "{longer}");
    auth.revoke_for(&user, &made.id).await.expect("revoked");
    state.close().await;
}

#[tokio::test]
async fn a_chain_of_a_user_ends_with_the_token_of_the_provider() {
    let key = SigningKey::p256("a");
    let provider = Provider::start(&[&key]).await;
    let dir = tempfile::tempdir().expect("a directory");
    let (state, auth) = open(&dir, vec![options(&provider.issuer)]).await;
    let shown = claims(&provider.issuer);
    let end = shown["exp"].as_i64().expect("an end") * 1000;
    let first = auth.exchange(&key.token(&shown), None).await.expect("issued");
    assert!((1..=300).contains(&first.expires_seconds), "{}", first.expires_seconds);
    let first = first.token.reveal();
    let next = auth.exchange(&first, None).await.expect("issued").token.reveal();
    for token in [&first, &next] {
        let caller = auth.authenticate_token(token).await.expect("known");
        assert_eq!(caller.chain_end().expect("a token"), Some(end));
        let direct = auth.authenticate_token(&key.token(&shown)).await.expect("accepted");
        assert_eq!((caller.identity(), &caller.principal), (direct.identity(), &direct.principal));
    }
    assert!(matches!(auth.issue(Some("ann"), &first).await, Err(AuthError::Unknown)), "the user is no client called ann");
    let listed = auth.list().await.expect("listed");
    assert_eq!((listed.len(), listed[0].principal.as_str()), (1, format!("{}/ann", provider.issuer).as_str()));
    let elsewhere = Authenticator::new(state.clone(), AuthOptions::default());
    assert!(matches!(elsewhere.authenticate_token(&next).await, Err(AuthError::Unknown)), "the issuer is not configured there");
    auth.revoke(&listed[0].id).await.expect("revoked");
    assert!(matches!(auth.authenticate_token(&next).await, Err(AuthError::Unknown)));
    state.close().await;
}

#[tokio::test]
async fn an_ended_token_is_neither_exchanged_nor_a_log_in_though_clocks_may_differ() {
    let key = SigningKey::p256("a");
    let provider = Provider::start(&[&key]).await;
    let dir = tempfile::tempdir().expect("a directory");
    let skewed = IssuerOptions { clock_skew: Duration::from_secs(600), ..options(&provider.issuer) };
    let (state, auth) = open(&dir, vec![skewed]).await;
    let mut ended = claims(&provider.issuer);
    ended["exp"] = json!(now_ms() / 1000 - 1);
    let ended = key.token(&ended);
    assert!(auth.authenticate_token(&ended).await.is_ok(), "within the tolerated difference");
    let refused = auth.exchange(&ended, None).await.expect_err("refused");
    assert!(matches!(refused, AuthError::Refused(TokenFault::Expired)), "{refused}");
    assert!(matches!(auth.begin_session(&ended).await, Err(AuthError::Refused(TokenFault::Expired))));
    let (caller, token_sha256) = auth.begin_session(&key.token(&claims(&provider.issuer))).await.expect("logged in");
    let resumed = auth.resume_session(&token_sha256).await.expect("asked").expect("known");
    assert_eq!((resumed.principal.clone(), resumed.identity()), (caller.principal.clone(), caller.identity()));
    assert!(auth.resume_session("nobody").await.expect("asked").is_none());
    state.close().await;
}
