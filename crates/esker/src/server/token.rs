//! The first principal and its token.

use esker_auth::{SecretToken, token_hash};
use esker_state::State;

use crate::Result;

/// The name of the principal that the first start creates.
const FIRST_PRINCIPAL: &str = "admin";

/// Makes sure that somebody can use the server. Returns the token if this made one.
///
/// A configured token replaces the one that the configuration, the first start or an earlier release gave the principal `admin`.
/// Other tokens stay. If none is left that counts, a token is made, so that nobody is locked out for good.
///
/// # Errors
///
/// Returns [`State`](crate::Error::State) if the database does not answer, and [`Auth`](crate::Error::Auth) if the system gives no
/// random numbers.
pub(super) async fn ensure_principal(state: &State, configured: Option<&str>) -> Result<Option<String>> {
    if let Some(token) = configured {
        state.principals().put(FIRST_PRINCIPAL, &token_hash(token)).await?;
        return Ok(None);
    }
    if state.principals().any().await? {
        return Ok(None);
    }
    let token = SecretToken::generate()?.reveal();
    state.principals().put(FIRST_PRINCIPAL, &token_hash(&token)).await?;
    Ok(Some(token))
}
