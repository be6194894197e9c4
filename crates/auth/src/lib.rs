//! Authentication: tokens, and the principals that they belong to. Access control: the rules that principals are under.
//!
//! The database holds only the SHA-256 of a token. A client sends a token that a person made, or exchanges it at the OAuth route
//! for one that ends soon. Exchanges form a *chain*, which ends too. No server relies for long on what the database said about a
//! token, so a revocation holds on each within [`REVOCATION_SECONDS`].
//!
//! [`AccessControl`] holds the rules of the database for the protocols, and changes them.
//!
//! Start reading at [`Authenticator::authenticate`], then at `tokens.rs` for how tokens are made, exchanged and revoked.

mod access_control;
mod decisions;
mod error;
mod secret;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use esker_state::{State, TokenRow};
use esker_types::{DurationMillis, Millis, Principal, now_ms};
use moka::future::Cache;

pub use access_control::{AccessControl, RULES_SECONDS};
pub use decisions::{DecisionCounts, LoggedDecisions};
pub use error::AuthError;
pub use secret::{SecretToken, token_hash};
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
    /// The tokens that the database knew a moment ago, by their SHA-256.
    known: Cache<String, Arc<TokenRow>>,
}

/// An authenticated caller: the principal, and the token of the request.
#[derive(Debug, Clone)]
pub struct Authenticated {
    /// The principal.
    pub principal: Principal,
    /// The token; `None` for an anonymous caller.
    token: Option<Arc<TokenRow>>,
}

impl Authenticator {
    /// Makes the check over a state database.
    pub fn new(state: State, options: AuthOptions) -> Self {
        Self { state, options, known: Cache::builder().max_capacity(10_000).time_to_live(CACHE_TTL).build() }
    }

    /// Returns the caller of a request with this `authorization` header.
    ///
    /// An empty token counts as none, because PyIceberg sends one if none is configured. A wrong token is refused even where none
    /// is needed: its sender does not mean to be anonymous. A token that is not UTF-8 is a wrong one.
    ///
    /// # Errors
    ///
    /// Returns [`Missing`](AuthError::Missing) if there is no bearer token and one is needed, and the errors of
    /// [`Self::authenticate_token`].
    pub async fn authenticate(&self, header: Option<&[u8]>, from_loopback: bool) -> Result<Authenticated, AuthError> {
        match bearer_token(header) {
            Some(token) => self.authenticate_token(std::str::from_utf8(token).map_err(|_| AuthError::Unknown)?).await,
            None if self.options.anonymous && from_loopback => Ok(Authenticated { principal: Principal::Anonymous, token: None }),
            None => Err(AuthError::Missing),
        }
    }

    /// Returns the caller that shows a token.
    ///
    /// # Errors
    ///
    /// Returns [`Unknown`](AuthError::Unknown) if the token is not valid, and [`State`](AuthError::State) if the database fails.
    pub async fn authenticate_token(&self, token: &str) -> Result<Authenticated, AuthError> {
        let row = self.find(token).await?.ok_or(AuthError::Unknown)?;
        Ok(Authenticated { principal: Principal::Token(row.principal.clone()), token: Some(row) })
    }

    /// Returns a token that counts now; `None` if it is unknown, was revoked or has ended.
    ///
    /// A token of a kind of principals that only a later release knows is unknown.
    async fn find(&self, token: &str) -> Result<Option<Arc<TokenRow>>, AuthError> {
        let (hash, now) = (token_hash(token), now_ms());
        if let Some(row) = self.known.get(&hash).await {
            return Ok(row.expires_ms.is_none_or(|end| end > now).then_some(row));
        }
        let found = self.state.tokens().live(&hash, now).await?.filter(|row| row.principal_kind == Principal::CLIENT);
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
    async fn a_wrong_token_is_refused_where_none_is_needed() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = State::open(Database::Sqlite(dir.path().join("esker.db"))).await.expect("opened");
        let auth = Authenticator::new(state.clone(), AuthOptions { anonymous: true, ..AuthOptions::default() });
        let principal = async |header: Option<&[u8]>, loopback: bool| {
            auth.authenticate(header, loopback).await.map(|caller| caller.principal)
        };
        for none in [None, Some(b"Bearer ".as_slice()), Some(b"Bearer".as_slice())] {
            assert_eq!(principal(none, true).await.expect("anonymous"), Principal::Anonymous, "{none:?}");
            assert!(matches!(principal(none, false).await, Err(AuthError::Missing)), "{none:?}");
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
