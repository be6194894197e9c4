use std::fmt::Write as _;
use std::time::Duration;

use esker_state::{State, StateError};
use esker_types::{Coded, ErrorCode, Principal};
use moka::future::Cache;
use sha2::{Digest, Sha256};

/// Seconds that a token's principal is remembered, so that not every request asks the database.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Finds out who makes a request.
#[derive(Debug, Clone)]
pub struct Access {
    state: State,
    anonymous: bool,
    known: Cache<String, String>,
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
        let hash = token_hash(token);
        if let Some(name) = self.known.get(&hash).await {
            return Ok(Principal::Token(name));
        }
        let name = match self.state.principal_by_token(&hash).await? {
            Some(name) => name,
            // PyIceberg shows an empty token where none is configured; whoever needs none may show a wrong one.
            None if self.anonymous && from_loopback => return Ok(Principal::Anonymous),
            None => return Err(AccessError::Unknown),
        };
        self.known.insert(hash, name.clone()).await;
        Ok(Principal::Token(name))
    }
}
