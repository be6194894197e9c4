//! Authentication: tokens, and the principals that they belong to. Access control: the rules that principals are under.
//!
//! The database holds only the SHA-256 of a token of Esker, and what `scram.rs` derives from it. A client sends a token that a person made, or exchanges it at the OAuth
//! route for one that ends soon. Exchanges form a *chain*, which ends too. No server relies for long on what the database said about
//! a token, so a revocation holds on each within [`REVOCATION_SECONDS`].
//!
//! A *user* shows the token of an identity provider instead, which `oidc/` checks with the provider's keys.
//!
//! On the web page, users log in at their provider: `log_in.rs`.
//!
//! A client without a token may show a certificate instead, whose names the configuration maps to clients.
//!
//! [`KeyRing`] authenticates what clients carry for the servers, and [`PrincipalLimits`] counts what each principal does at a time.
//!
//! [`AccessControl`] holds the rules of the database for the protocols, and changes them. [`Audit`] records what they are asked for.
//!
//! Start reading at [`Authenticator::authenticate_by`], then at `tokens.rs` for how tokens are made, exchanged and revoked, and at
//! `certificate.rs` for client certificates.

mod access_control;
mod audit;
mod certificate;
mod decisions;
mod error;
mod grants;
mod keys;
mod limits;
mod log_in;
mod oidc;
mod scram;
mod secret;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use esker_access::Identity;
use esker_state::{State, StateError, TokenRow};
use esker_types::{DurationMillis, Millis, Principal, now_ms};
use moka::future::Cache;

pub use access_control::{AccessControl, RULES_SECONDS};
pub use audit::{
    Audit, AuditCounts, AuditLevel, AuditOptions, AuditedEntry, AuditedKind, AuditedObject, AuditedRequest, OutcomeGuard,
    RequestTrail, record_command,
};
pub use certificate::{CertificateMap, CertificateName, ClientCertificate, Connection, TlsSession};
pub use decisions::{DecisionCounts, LoggedDecisions};
pub use error::AuthError;
pub use grants::GrantOrder;
pub use keys::{KEYS_SECONDS, KeyInfo, KeyPurpose, KeyRing, KeyState, MasterKey, MasterKeys, RewrappedKeys};
pub use limits::{LimitExceeded, LimitRefusals, PrincipalLimitOptions, PrincipalLimits, PrincipalPermit};
pub use log_in::{FinishedLogIn, LogInProvider};
use oidc::VerifiedUser;
pub use oidc::{
    BegunLogIn, ClientSecret, IssuerOptions, KeyTimes, LOG_IN_SECONDS, LogInAnswer, LogInFault, LogInOptions, Providers,
    SigningAlgorithm, TokenFault, check_issuer_url, check_provider_url,
};
pub use scram::{ScramExchange, ScramFault, ScramVerifier};
pub use secret::{SecretToken, has_token, token_hash, without_tokens};
pub use tokens::{IssuedToken, MadeToken, TokenInfo};

/// The time in seconds after which a revocation holds on every server, at the latest.
pub const REVOCATION_SECONDS: u64 = 5;

/// Time that a token's principal is cached. It is less than [`REVOCATION_SECONDS`], as a request may take its time.
const CACHE_TTL: Duration = Duration::from_secs(3);

/// The least time between two records of a token's use, in milliseconds.
const USE_INTERVAL_MS: DurationMillis = 60_000;

/// The options of an [`Authenticator`].
#[derive(Debug, Clone, Copy)]
pub struct AuthOptions {
    /// True if callers on loopback need no token.
    pub anonymous: bool,
    /// The life of a token that is issued in exchange for another one.
    pub access: Duration,
    /// The time after which a chain of exchanges ends. It begins with a token that a person made.
    pub max_session: Duration,
}

impl Default for AuthOptions {
    fn default() -> Self {
        Self { anonymous: false, access: Duration::from_secs(3600), max_session: Duration::from_secs(30 * 24 * 3600) }
    }
}

/// The check of tokens that finds the principal of a request. Cheap to clone; the clones share one cache.
#[derive(Debug, Clone)]
pub struct Authenticator {
    state: State,
    options: AuthOptions,
    /// The clients by the names of their certificates.
    certificates: Arc<CertificateMap>,
    /// The issuers of users' tokens.
    providers: Providers,
    /// The tokens that the database knew a moment ago, by their SHA-256.
    known: Cache<String, Arc<TokenRow>>,
}

/// An authenticated caller: the principal, and what the request shows of it.
#[derive(Debug, Clone)]
pub struct Authenticated {
    /// The principal.
    pub principal: Principal,
    /// The token of Esker, if the request has one. A user of an identity provider, a certificate's client and an anonymous caller
    /// have none.
    token: Option<Arc<TokenRow>>,
    /// The groups and roles of a user.
    claims: Arc<[Arc<str>]>,
    /// The end of the token of an identity provider, if the request has one, in milliseconds since the Unix epoch.
    ends_ms: Option<Millis>,
}

impl Authenticated {
    /// Returns the caller that needs no token.
    fn anonymous() -> Self {
        Self { principal: Principal::Anonymous, token: None, claims: Arc::default(), ends_ms: None }
    }

    /// Returns the caller with a token of Esker.
    ///
    /// # Errors
    ///
    /// Returns [`State`](AuthError::State) with [`Corrupt`](StateError::Corrupt) if a user's groups and roles can't be read.
    fn of_token(row: Arc<TokenRow>) -> Result<Self, AuthError> {
        let corrupt = |error: serde_json::Error| StateError::Corrupt(format!("the claims of token {}: {error}", row.id));
        let claims: Vec<Arc<str>> = serde_json::from_str(&row.claims).map_err(corrupt)?;
        Ok(Self { principal: principal_of(&row), token: Some(row), claims: claims.into(), ends_ms: None })
    }

    /// Returns the caller with a token of an identity provider.
    fn of_user(user: &VerifiedUser) -> Self {
        let principal = Principal::User { issuer: user.issuer.clone(), name: user.name.clone() };
        Self { principal, token: None, claims: user.claims.clone(), ends_ms: Some(user.ends_ms) }
    }

    /// Returns the caller with the certificate of a client.
    fn of_certificate(client: &str) -> Self {
        Self { principal: Principal::Token(client.to_owned()), token: None, claims: Arc::default(), ends_ms: None }
    }

    /// Returns the identity that access rules match: the principal, and for a user the groups and roles too.
    pub fn identity(&self) -> Identity {
        match Identity::from(&self.principal) {
            Identity::User { issuer, name, .. } => Identity::User { issuer, name, claims: self.claims.to_vec() },
            identity => identity,
        }
    }

    /// Returns the time at which the caller's chain of tokens ends, in milliseconds since the Unix epoch; `None` if it does not.
    ///
    /// # Errors
    ///
    /// Returns [`AnonymousCaller`](AuthError::AnonymousCaller) if the caller has no token.
    fn chain_end(&self) -> Result<Option<Millis>, AuthError> {
        match (&self.token, self.ends_ms) {
            (Some(row), _) => Ok(row.root_expires_ms.or(row.expires_ms)),
            (None, Some(end)) => Ok(Some(end)),
            (None, None) => Err(AuthError::AnonymousCaller),
        }
    }
}

/// Returns the principal that a token belongs to.
fn principal_of(row: &TokenRow) -> Principal {
    match row.principal_kind == Principal::USER {
        true => Principal::User { issuer: row.issuer.clone(), name: row.principal.clone() },
        false => Principal::Token(row.principal.clone()),
    }
}

/// The evidence of who sends a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evidence<'a> {
    /// The value of the header `authorization`.
    pub header: Option<&'a [u8]>,
    /// True if the connection comes from this machine and no proxy passes the request on.
    pub from_loopback: bool,
    /// The client certificate of the connection. It must be `None` if a proxy passes the request on: it is the proxy's then.
    pub certificate: Option<&'a ClientCertificate>,
}

impl Authenticator {
    /// Makes the check over a state database. It accepts no tokens of identity providers.
    pub fn new(state: State, options: AuthOptions) -> Self {
        let known = Cache::builder().max_capacity(10_000).time_to_live(CACHE_TTL).build();
        Self { state, options, certificates: Arc::default(), providers: Providers::default(), known }
    }

    /// Accepts the certificates of these clients from callers without a token.
    #[must_use]
    pub fn with_certificates(self, certificates: CertificateMap) -> Self {
        Self { certificates: Arc::new(certificates), ..self }
    }

    /// Accepts the tokens of identity providers too.
    #[must_use]
    pub fn with_providers(self, providers: Providers) -> Self {
        Self { providers, ..self }
    }

    /// Returns the caller of a request with this `authorization` header.
    ///
    /// An empty token counts as none, because PyIceberg sends one if none is configured. A wrong token is refused even where none
    /// is needed: its sender does not mean to be anonymous. A token that is not UTF-8 is a wrong one. A header with another
    /// scheme is refused as a missing token is.
    ///
    /// # Errors
    ///
    /// Returns [`Missing`](AuthError::Missing) if there is no bearer token and one is needed, or if the header has another
    /// scheme, and the errors of [`Self::authenticate_token`].
    pub async fn authenticate(&self, header: Option<&[u8]>, from_loopback: bool) -> Result<Authenticated, AuthError> {
        self.authenticate_by(Evidence { header, from_loopback, certificate: None }).await
    }

    /// Returns the caller that the evidence of a request shows.
    ///
    /// A token counts before a certificate, and a wrong token is refused beside a right certificate. A certificate counts only if
    /// the header is missing or has an empty bearer token: credentials of another scheme mean another caller. A certificate that
    /// belongs to no client is refused even where no token is needed.
    ///
    /// # Errors
    ///
    /// Returns [`Missing`](AuthError::Missing) if there is neither a bearer token nor a certificate and one is needed, or if the
    /// header has another scheme, [`Certificate`](AuthError::Certificate) if the certificate has ended or is not that of one
    /// client, and the errors of [`Self::authenticate_token`].
    pub async fn authenticate_by(&self, evidence: Evidence<'_>) -> Result<Authenticated, AuthError> {
        let Evidence { header, from_loopback, certificate } = evidence;
        if let Some(token) = bearer_token(header) {
            return self.authenticate_token(std::str::from_utf8(token).map_err(|_| AuthError::Unknown)?).await;
        }
        // Whoever shows something else does not mean to be anonymous.
        if header.is_some_and(|header| !is_without_token(header)) {
            return Err(AuthError::Missing);
        }
        if let Some(certificate) = certificate {
            let client = self.certificates.client_of(certificate, now_ms())?;
            return Ok(Authenticated::of_certificate(client));
        }
        match self.options.anonymous && from_loopback {
            true => Ok(Authenticated::anonymous()),
            false => Err(AuthError::Missing),
        }
    }

    /// Returns the caller that shows a token: one of Esker, or one of an identity provider.
    ///
    /// # Errors
    ///
    /// Returns [`Unknown`](AuthError::Unknown) if a token of Esker is not valid, [`Refused`](AuthError::Refused) if one of an
    /// identity provider is not, [`KeysUnavailable`](AuthError::KeysUnavailable) if its key can't be fetched, and
    /// [`State`](AuthError::State) if the database fails.
    pub async fn authenticate_token(&self, token: &str) -> Result<Authenticated, AuthError> {
        if self.providers.reads(token) {
            let user = self.providers.verify(token).await?;
            return Ok(Authenticated::of_user(&user));
        }
        Authenticated::of_token(self.find(token).await?.ok_or(AuthError::Unknown)?)
    }

    /// Checks that this server knows what the principal of a token is.
    ///
    /// A kind of principals that only a later release knows is unknown. So are the users of an issuer that is no longer in the
    /// configuration.
    fn knows_principal(&self, row: &TokenRow) -> bool {
        match row.principal_kind.as_str() {
            Principal::CLIENT => true,
            Principal::USER => self.providers.has(&row.issuer),
            _ => false,
        }
    }

    /// Returns a token that counts now; `None` if it is unknown, was revoked or has ended, or if its principal is not known.
    async fn find(&self, token: &str) -> Result<Option<Arc<TokenRow>>, AuthError> {
        let (hash, now) = (token_hash(token), now_ms());
        if let Some(row) = self.known.get(&hash).await {
            return Ok(row.expires_ms.is_none_or(|end| end > now).then_some(row));
        }
        let found = self.state.tokens().live(&hash, now).await?.filter(|row| self.knows_principal(row));
        let Some(row) = found.map(Arc::new) else { return Ok(None) };
        // Only what the database has just said is cached. An entry that each use renewed would outlive a revocation.
        self.known.insert(hash, row.clone()).await;
        self.record_use(&row, now);
        Ok(Some(row))
    }

    /// Records the use of a token, at most once in [`USE_INTERVAL_MS`] on all servers together. The request does not wait for it.
    fn record_use(&self, row: &TokenRow, now: Millis) {
        let recent = row.last_used_ms.is_some_and(|last| last > now.saturating_sub(USE_INTERVAL_MS));
        if recent || row.is_of_principal_table() {
            return;
        }
        let (state, id) = (self.state.clone(), row.id.clone());
        tokio::spawn(async move {
            if let Err(error) = state.tokens().record_use(&id, now, USE_INTERVAL_MS).await {
                tracing::warn!(token_id = id, %error, "a token's use could not be recorded; it is tried again at the next use");
            }
        });
    }
}

/// Checks that an `authorization` header is empty, or has the scheme of bearer tokens and no token.
fn is_without_token(header: &[u8]) -> bool {
    let header = header.trim_ascii();
    header.is_empty() || header.eq_ignore_ascii_case(b"bearer")
}

/// Returns the token of an `authorization` header, or `None` if the header has another scheme or no token.
fn bearer_token(header: Option<&[u8]>) -> Option<&[u8]> {
    let header = header?;
    let (scheme, token) = header.split_at(header.iter().position(|byte| *byte == b' ')?);
    Some(token.trim_ascii()).filter(|token| scheme.eq_ignore_ascii_case(b"bearer") && !token.is_empty())
}

#[cfg(test)]
mod tests {
    use esker_state::Database;

    use super::*;

    #[test]
    fn a_bearer_token_is_found_and_an_empty_one_is_none() {
        let found = |header: &'static str| bearer_token(Some(header.as_bytes()));
        for header in ["Bearer  abc ", "bearer abc", "bEARER  abc "] {
            assert_eq!(found(header), Some(b"abc".as_slice()), "{header:?}");
        }
        assert_eq!(found("Bearer a b"), Some(b"a b".as_slice()));
        assert_eq!(bearer_token(Some(b"Bearer \xff".as_slice())), Some(b"\xff".as_slice()), "a token that is no text is one");
        assert_eq!(bearer_token(None), None);
        for none in ["", "Bearer", "Bearer ", "bearer   ", "Basic abc", "Basic YTpi", "token x", "abc"] {
            assert_eq!(found(none), None, "{none:?}");
        }
    }

    #[tokio::test]
    async fn a_certificate_counts_without_a_token_and_never_beside_a_wrong_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = State::open(Database::Sqlite(dir.path().join("esker.db"))).await.expect("opened");
        let mut map = CertificateMap::default();
        map.insert(CertificateName::CommonName("etl".to_owned()), "etl").expect("a name");
        let options = AuthOptions { anonymous: true, ..AuthOptions::default() };
        let auth = Authenticator::new(state.clone(), options).with_certificates(map);
        let of = |name: &str| ClientCertificate {
            subject: format!("CN={name}"),
            names: vec![CertificateName::CommonName(name.to_owned())],
            expires_ms: Millis::MAX,
        };
        let (etl, unknown) = (of("etl"), of("unknown"));
        let principal = async |header: Option<&[u8]>, certificate: &ClientCertificate| {
            let evidence = Evidence { header, from_loopback: true, certificate: Some(certificate) };
            auth.authenticate_by(evidence).await.map(|caller| caller.principal)
        };
        for none in [None, Some(b"Bearer ".as_slice()), Some(b"bearer".as_slice())] {
            assert_eq!(principal(none, &etl).await.expect("known"), Principal::Token("etl".to_owned()), "{none:?}");
            assert!(matches!(principal(none, &unknown).await, Err(AuthError::Certificate(_))), "{none:?}");
        }
        assert!(matches!(principal(Some(b"Bearer wrong".as_slice()), &etl).await, Err(AuthError::Unknown)));
        let other_scheme = principal(Some(b"Basic ZXRsOng=".as_slice()), &etl).await;
        assert!(matches!(other_scheme, Err(AuthError::Missing)), "neither the certificate nor the address counts");
        let made = auth.make("a", "", None).await.expect("made").token.reveal();
        let header = format!("Bearer {made}");
        let by_token = principal(Some(header.as_bytes()), &unknown).await.expect("valid");
        assert_eq!(by_token, Principal::Token("a".to_owned()), "the certificate belongs to nobody, and is not asked");
        let caller = auth.authenticate_by(Evidence { certificate: Some(&etl), ..Evidence::default() }).await.expect("known");
        let refused = auth.make_for(&caller, None, "", None).await.expect_err("no token outlives a certificate");
        assert!(matches!(refused, AuthError::AnonymousCaller), "{refused}");
        state.close().await;
    }

    #[tokio::test]
    async fn a_wrong_token_is_refused_where_none_is_needed() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = State::open(Database::Sqlite(dir.path().join("esker.db"))).await.expect("opened");
        let auth = Authenticator::new(state.clone(), AuthOptions { anonymous: true, ..AuthOptions::default() });
        let principal = async |header: Option<&[u8]>, loopback: bool| {
            auth.authenticate(header, loopback).await.map(|caller| caller.principal)
        };
        for none in [None, Some(b"".as_slice()), Some(b"Bearer ".as_slice()), Some(b"Bearer".as_slice())] {
            assert_eq!(principal(none, true).await.expect("anonymous"), Principal::Anonymous, "{none:?}");
            assert!(matches!(principal(none, false).await, Err(AuthError::Missing)), "{none:?}");
        }
        for other in [b"Negotiate x".as_slice(), b"Basic ZXRsOng=", b"token x", b"x"] {
            assert!(matches!(principal(Some(other), true).await, Err(AuthError::Missing)), "{other:?}");
        }
        for wrong in [b"Bearer wrong".as_slice(), b"Bearer \xff"] {
            assert!(matches!(principal(Some(wrong), true).await, Err(AuthError::Unknown)), "{wrong:?}");
            assert!(matches!(principal(Some(wrong), false).await, Err(AuthError::Unknown)), "{wrong:?}");
        }
        let made = auth.make("a", "", None).await.expect("made").token.reveal();
        let header = format!("Bearer {made}");
        assert_eq!(principal(Some(header.as_bytes()), true).await.expect("valid"), Principal::Token("a".to_owned()));
        state.close().await;
    }
}
