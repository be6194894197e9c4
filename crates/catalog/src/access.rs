//! Authentication: tokens, and the principals that they belong to.
//!
//! The database holds only the SHA-256 of a token. A client sends its principal's token, or exchanges it at the OAuth route for
//! another one that expires. Start reading at [`Access::authenticate`].

use std::fmt::Write as _;
use std::time::Duration;

use esker_state::{State, StateError};
use esker_types::{Coded, ErrorCode, Millis, Principal, now_ms};
use moka::future::Cache;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Time that the principal of a token is cached, so that not every request asks the database.
const PRINCIPAL_CACHE_TTL: Duration = Duration::from_secs(10);

/// Lifetime of a token from the OAuth route, in seconds.
pub const ISSUED_SECONDS: i64 = 3600;

/// The check of tokens that finds the principal of a request.
#[derive(Debug, Clone)]
pub struct Access {
    state: State,
    anonymous: bool,
    known: Cache<String, (String, Millis)>,
}

/// A request without a valid principal.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The request has no token.
    #[error("no token: send 'authorization: Bearer TOKEN', with the token printed at the first start")]
    Missing,
    /// The token is not known, has expired, or belongs to another client.
    #[error("the token is not valid")]
    Unknown,
    /// The state database failed.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Coded for AccessError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Missing | Self::Unknown => ErrorCode::Unauthenticated,
            Self::State(e) => e.code(),
        }
    }
}

/// Returns the form in which a token is stored: its SHA-256 in hexadecimal.
pub fn token_hash(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string can't fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

impl Access {
    /// Creates the check. With `anonymous`, callers on loopback need no token.
    pub fn new(state: State, anonymous: bool) -> Self {
        Self { state, anonymous, known: Cache::builder().max_capacity(1024).time_to_live(PRINCIPAL_CACHE_TTL).build() }
    }

    /// Returns the principal of a request with this `authorization` header.
    ///
    /// # Errors
    ///
    /// Returns [`Missing`](AccessError::Missing) if there is no bearer token, [`Unknown`](AccessError::Unknown) if the token is
    /// not valid, and [`State`](AccessError::State) if the database fails.
    pub async fn authenticate(&self, header: Option<&str>, from_loopback: bool) -> Result<Principal, AccessError> {
        let token = match header.and_then(|h| h.split_once(' ')) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ if self.anonymous && from_loopback => return Ok(Principal::Anonymous),
            _ => return Err(AccessError::Missing),
        };
        match self.principal_of(token).await? {
            Some(name) => Ok(Principal::Token(name)),
            // PyIceberg sends an empty token if none is configured. A caller that needs no token may send a wrong one.
            None if self.anonymous && from_loopback => Ok(Principal::Anonymous),
            None => Err(AccessError::Unknown),
        }
    }

    /// Returns the name of the principal that a token belongs to; `None` if the token is unknown or has expired.
    async fn principal_of(&self, token: &str) -> Result<Option<String>, AccessError> {
        let hash = token_hash(token);
        let found = match self.known.get(&hash).await {
            Some(found) => Some(found),
            None => self.state.principals().by_token(&hash).await?,
        };
        let Some((name, expires_ms)) = found.filter(|(_, expires_ms)| *expires_ms > now_ms()) else { return Ok(None) };
        self.known.insert(hash, (name.clone(), expires_ms)).await;
        Ok(Some(name))
    }

    /// Issues a token for [`ISSUED_SECONDS`] in exchange for a valid one.
    ///
    /// A client's secret is its principal's token. A token that is about to expire can be exchanged for a new one. `client` is
    /// the principal's name, if the client sends it, and must match.
    ///
    /// Spec: REST `getToken`; RFC 6749, section 4.4; RFC 8693.
    ///
    /// # Errors
    ///
    /// Returns [`Unknown`](AccessError::Unknown) if the token is not valid or belongs to another principal than `client`, and
    /// [`State`](AccessError::State) if the database fails.
    pub async fn issue(&self, client: Option<&str>, shown: &str) -> Result<String, AccessError> {
        let name = self.principal_of(shown).await?.filter(|name| client.is_none_or(|c| c == name));
        let name = name.ok_or(AccessError::Unknown)?;
        let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let expires_ms = now_ms().saturating_add(ISSUED_SECONDS * 1000);
        self.state.principals().insert_access_token(&name, &token_hash(&token), expires_ms).await?;
        Ok(token)
    }
}
