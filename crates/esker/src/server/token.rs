//! The first principal and its token.

use std::io;

use esker_catalog::token_hash;
use esker_state::State;

use crate::{Error, Result};

/// The name of the principal that the first start creates.
const FIRST_PRINCIPAL: &str = "admin";

/// Makes sure that there is a principal that can use the server. Returns the token if this made one.
///
/// A configured token replaces the one of the principal `admin`.
///
/// # Errors
///
/// Returns [`State`](Error::State) if the database does not answer, and the error of [`fresh_token`].
pub(super) async fn ensure_principal(state: &State, configured: Option<&str>) -> Result<Option<String>> {
    if let Some(token) = configured {
        state.principals().put(FIRST_PRINCIPAL, &token_hash(token)).await?;
        return Ok(None);
    }
    if state.principals().any().await? {
        return Ok(None);
    }
    let token = fresh_token()?;
    state.principals().put(FIRST_PRINCIPAL, &token_hash(&token)).await?;
    Ok(Some(token))
}

/// Makes a token of 32 random bytes, in hex.
///
/// # Errors
///
/// Returns [`Io`](Error::Io) if the system gives no random numbers.
pub(crate) fn fresh_token() -> Result<String> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| {
        let source = e.raw_os_error().map_or_else(|| io::Error::other(e.to_string()), io::Error::from_raw_os_error);
        Error::Io { path: "random numbers of the system".to_owned(), source }
    })?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
