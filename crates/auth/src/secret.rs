//! [`SecretToken`]: the text of a token, which is shown once. The database keeps only its hash.

use std::borrow::Cow;
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

/// The number of hexadecimal digits behind [`PREFIX`] from which a text counts as a token, or as most of one.
const DIGITS_OF_TOKEN: usize = 32;

/// Checks for a token in a text that should have a name or an id.
pub fn has_token(text: &str) -> bool {
    matches!(without_tokens(text), Cow::Owned(_))
}

/// Replaces the tokens in a text by their prefix, for logs and records: people paste a token where its id belongs.
pub fn without_tokens(text: &str) -> Cow<'_, str> {
    let mut parts = text.split(PREFIX);
    let mut kept = parts.next().unwrap_or_default().to_owned();
    let mut is_changed = false;
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        let is_token = digits >= DIGITS_OF_TOKEN;
        kept.push_str(PREFIX);
        kept.push_str(if is_token { "…" } else { "" });
        kept.push_str(if is_token { part.get(digits..).unwrap_or_default() } else { part });
        is_changed |= is_token;
    }
    if is_changed { Cow::Owned(kept) } else { Cow::Borrowed(text) }
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
        for (found, expected) in [
            (text.clone(), "esk_…".to_owned()),
            (format!("/api/v1/tokens/{text}"), "/api/v1/tokens/esk_…".to_owned()),
            (format!("{text}.{text}/x"), "esk_….esk_…/x".to_owned()),
            (text[..60].to_owned(), "esk_…".to_owned()),
        ] {
            assert!(has_token(&found));
            assert_eq!(without_tokens(&found), expected);
        }
        for name in ["", "esk_", "raw.esk_orders", "esk_0123 esk_", "0190e2a4-5a5e-7000-8000-000000000000"] {
            assert!(!has_token(name) && without_tokens(name) == name, "{name}");
        }
        // NIST's test vector for SHA-256 of "abc".
        assert_eq!(token_hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
