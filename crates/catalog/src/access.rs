use std::fmt::Write as _;
use std::time::Duration;

use esker_state::{State, StateError};
use esker_types::{Coded, ErrorCode, Millis, Principal, now_ms};
use moka::future::Cache;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Seconds that a token's principal is remembered, so that not every request asks the database.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Seconds that a token of the OAuth route holds.
pub const ISSUED_SECONDS: i64 = 3600;

/// Finds out who makes a request.
#[derive(Debug, Clone)]
pub struct Access {
    state: State,
    anonymous: bool,
    known: Cache<String, (String, Millis)>,
}

/// A request without a principal.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No token was shown.
    #[error("no token: send 'authorization: Bearer TOKEN', with the token printed at the first start")]
    Missing,
    /// The token is not known.
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

/// The form in which a token is kept: its SHA-256 in hex.
pub fn token_hash(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string can't fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

impl Access {
    /// With `anonymous`, callers on loopback need no token.
    pub fn new(state: State, anonymous: bool) -> Self {
        Self { state, anonymous, known: Cache::builder().max_capacity(1024).time_to_live(REMEMBERED).build() }
    }

    /// The principal of a request with this `authorization` header.
    pub async fn authenticate(&self, header: Option<&str>, from_loopback: bool) -> Result<Principal, AccessError> {
        let token = match header.and_then(|h| h.split_once(' ')) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ if self.anonymous && from_loopback => return Ok(Principal::Anonymous),
            _ => return Err(AccessError::Missing),
        };
        match self.principal_of(token).await? {
            Some(name) => Ok(Principal::Token(name)),
            // PyIceberg shows an empty token where none is configured; whoever needs none may show a wrong one.
            None if self.anonymous && from_loopback => Ok(Principal::Anonymous),
            None => Err(AccessError::Unknown),
        }
    }

    async fn principal_of(&self, token: &str) -> Result<Option<String>, AccessError> {
        let hash = token_hash(token);
        let found = match self.known.get(&hash).await {
            Some(found) => Some(found),
            None => self.state.principal_by_token(&hash).await?,
        };
        let Some((name, expires_ms)) = found.filter(|(_, expires_ms)| *expires_ms > now_ms()) else { return Ok(None) };
        self.known.insert(hash, (name.clone(), expires_ms)).await;
        Ok(Some(name))
    }

    /// Hands out a token for [`ISSUED_SECONDS`], to whoever shows one that is valid: a client's secret is its principal's
    /// token (`client_credentials`), and a token that is about to end can be exchanged for a new one. `client` is the
    /// principal's name, if the client says it; it must be the right one.
    pub async fn issue(&self, client: Option<&str>, shown: &str) -> Result<String, AccessError> {
        let name = self.principal_of(shown).await?.filter(|name| client.is_none_or(|c| c == name));
        let name = name.ok_or(AccessError::Unknown)?;
        let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let expires_ms = now_ms().saturating_add(ISSUED_SECONDS * 1000);
        self.state.insert_access_token(&name, &token_hash(&token), expires_ms).await?;
        Ok(token)
    }
}
