//! Tokens of identity providers: JSON Web Tokens of OpenID Connect and of Kubernetes.
//!
//! A token is checked with the public keys of its issuer, which the configuration names. The issuer vouches for the user until the
//! token's end: Esker does not ask it about each request, so a log-out or a lock there holds at the token's end.
//!
//! `jws.rs` takes a token apart, `issuer.rs` finds the key, `jwk.rs` checks the signature, and `claims.rs` finds the user. Start
//! reading at [`Providers::verify`].
//!
//! Users log in to the web page by the authorization code flow: `attempt.rs` binds it to the browser, `endpoints.rs` has the
//! provider's addresses, and `code.rs` exchanges the code. Start reading at [`Providers::begin_log_in`].

mod algorithm;
mod attempt;
mod claims;
mod client;
mod code;
mod endpoints;
mod fault;
mod issuer;
mod jwk;
mod jws;
mod keys;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use esker_types::{Millis, now_ms};
use moka::future::Cache;

pub use algorithm::SigningAlgorithm;
pub use attempt::LOG_IN_SECONDS;
pub use client::{check_issuer_url, check_provider_url};
pub use code::{BegunLogIn, LogInAnswer};
pub use fault::{LogInFault, TokenFault};
use issuer::Issuer;
use jws::Jws;
pub use keys::KeyTimes;

use crate::{AuthError, CACHE_TTL, token_hash};

/// The options of one issuer of tokens.
#[derive(Debug, Clone)]
pub struct IssuerOptions {
    /// The issuer's URL, exactly as its tokens have it.
    pub issuer: String,
    /// The audiences of which a token must have one.
    pub audiences: Vec<String>,
    /// The address of the issuer's keys; `None`: the issuer's own document has it.
    pub jwks_url: Option<String>,
    /// The path of the claim with the user's name.
    pub name_claim: String,
    /// The paths of the claims with the user's groups and roles.
    pub claims: Vec<String>,
    /// The algorithms that tokens may be signed with.
    pub algorithms: Vec<SigningAlgorithm>,
    /// The difference between the clocks of the issuer and of this server that is tolerated.
    pub clock_skew: Duration,
    /// The longest time for which a token may be valid; `None`: any time.
    pub max_lifetime: Option<Duration>,
    /// The times by which keys are fetched and forgotten.
    pub key_times: KeyTimes,
    /// Certificates in the form PEM that sign the provider's, beside those of the system.
    pub ca_pem: Option<Vec<u8>>,
    /// A file with a token that is sent to the provider with the requests for keys.
    pub bearer_file: Option<PathBuf>,
    /// The log-in of users to the web page; `None`: they show a token there.
    pub log_in: Option<LogInOptions>,
}

/// The options of the log-in at an issuer by the authorization code flow.
#[derive(Debug, Clone)]
pub struct LogInOptions {
    /// The name of the issuer's section in the configuration, which is a part of addresses.
    pub name: String,
    /// The text of the button.
    pub label: String,
    /// The client that Esker is at the provider.
    pub client_id: String,
    /// The secret of the client; `None` for a public client, which has PKCE alone.
    pub secret: Option<ClientSecret>,
    /// The scopes that are asked for. `openid` is one.
    pub scopes: Vec<String>,
    /// The time after which the user has to log in again.
    pub session: Duration,
}

/// The secret of a client at a provider. Its debug form hides the text.
#[derive(Clone)]
pub enum ClientSecret {
    /// The secret itself.
    Text(String),
    /// A file with the secret, which is read at each log-in.
    File(PathBuf),
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(hidden)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// A user whose token is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VerifiedUser {
    /// The issuer of the token.
    pub(crate) issuer: String,
    /// The name at the issuer.
    pub(crate) name: String,
    /// The groups and roles, each once and in order.
    pub(crate) claims: Arc<[Arc<str>]>,
    /// The end of the token, in milliseconds since the Unix epoch.
    pub(crate) ends_ms: Millis,
    /// The time until which the token counts: its end and the tolerated difference of clocks.
    valid_until_ms: Millis,
}

/// The issuers of the configuration. Cheap to clone; the clones share keys and caches.
#[derive(Debug, Clone)]
pub struct Providers {
    issuers: Arc<[Arc<Issuer>]>,
    /// The users of tokens that were checked a moment ago, by the SHA-256 of the token.
    verified: Cache<String, Arc<VerifiedUser>>,
}

impl Default for Providers {
    /// Returns no issuers: no token has the form of theirs.
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl Providers {
    /// Makes the issuers. Sends no request.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](AuthError::Invalid) if an address or the certificates of an issuer can't be used.
    pub fn new(issuers: Vec<IssuerOptions>) -> Result<Self, AuthError> {
        let issuers = issuers.into_iter().map(|options| Issuer::new(options).map(Arc::new));
        Ok(Self::of(issuers.collect::<Result<_, _>>()?))
    }

    fn of(issuers: Vec<Arc<Issuer>>) -> Self {
        // No longer than for Esker's own tokens: a key that the issuer withdraws is forgotten as quickly as a token of Esker.
        let verified = Cache::builder().max_capacity(10_000).time_to_live(CACHE_TTL).build();
        Self { issuers: issuers.into(), verified }
    }

    /// Checks whether a text has the form of a token of an issuer.
    pub(crate) fn reads(&self, token: &str) -> bool {
        !self.issuers.is_empty() && jws::is_jws(token)
    }

    /// Checks that an issuer is one of the configuration.
    pub(crate) fn has(&self, issuer: &str) -> bool {
        self.find(issuer).is_some()
    }

    fn find(&self, issuer: &str) -> Option<&Arc<Issuer>> {
        self.issuers.iter().find(|known| known.options.issuer == issuer)
    }

    /// Checks a token, and returns its user.
    ///
    /// Spec: RFC 7519, section 7.2.
    ///
    /// # Errors
    ///
    /// Returns [`Refused`](AuthError::Refused) with the reason if the token is not valid, and
    /// [`KeysUnavailable`](AuthError::KeysUnavailable) if its key can't be fetched.
    pub(crate) async fn verify(&self, token: &str) -> Result<Arc<VerifiedUser>, AuthError> {
        let (hash, now) = (token_hash(token), now_ms());
        if let Some(user) = self.verified.get(&hash).await {
            return if user.valid_until_ms > now { Ok(user) } else { Err(TokenFault::Expired.into()) };
        }
        let user = Arc::new(self.verify_at(token, now).await?);
        self.verified.insert(hash, user.clone()).await;
        Ok(user)
    }

    /// Checks a token at the time `now`, in milliseconds since the Unix epoch.
    async fn verify_at(&self, token: &str, now: Millis) -> Result<VerifiedUser, AuthError> {
        let jws = Jws::parse(token)?;
        // What the token says of its issuer only chooses the keys. They are that issuer's own, whatever their ids are.
        let issuer = jws.claims.get("iss").and_then(serde_json::Value::as_str).and_then(|issuer| self.find(issuer));
        let issuer = issuer.ok_or(TokenFault::Issuer)?;
        issuer.check_signature(&jws).await?;
        Ok(claims::user_of(&jws.claims, &issuer.options, &issuer.options.audiences, now)?)
    }
}
