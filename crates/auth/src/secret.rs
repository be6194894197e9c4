//! [`SecretToken`]: the text of a token, which is shown once. The database keeps only its hash.

use std::fmt;

use esker_types::hex;
use sha2::{Digest, Sha256};

use crate::AuthError;

/// The beginning of each token that Esker makes, so that scanners for leaked secrets find it.
const PREFIX: &str = "esk_";

/// The text of a token. Its debug form hides the text, so that no log has it.
pub struct SecretToken(String);

impl SecretToken {
    /// Makes a token of 32 random bytes.
    ///
    /// # Errors
    ///
    /// Returns [`Random`](AuthError::Random) if the system gives no random numbers.
    pub fn generate() -> Result<Self, AuthError> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(AuthError::Random)?;
        Ok(Self(format!("{PREFIX}{}", hex(&bytes))))
    }

    /// Returns the form in which the token is stored.
    pub(crate) fn hash(&self) -> String {
        token_hash(&self.0)
    }

    /// Returns the text, for what is derived from it.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Returns the text, to be shown to its owner.
    pub fn reveal(self) -> String {
        self.0
    }
}

impl fmt::Debug for SecretToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretToken(hidden)")
    }
}

/// Returns the form in which a token is stored: its SHA-256 in hexadecimal.
pub fn token_hash(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_random_and_not_in_its_debug_form() {
        let (one, other) = (SecretToken::generate().expect("made"), SecretToken::generate().expect("made"));
        assert_ne!(one.hash(), other.hash());
        let (shown, hash) = (format!("{one:?}"), one.hash());
        let text = one.reveal();
        assert_eq!((text.len(), hash.len()), (68, 64));
        assert!(text.starts_with("esk_") && !shown.contains(&text[4..]), "{shown}");
        // NIST's test vector for SHA-256 of "abc".
        assert_eq!(token_hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
