//! [`LogInAttempt`]: a log-in that a browser has begun and not finished.
//!
//! Nothing of it is kept on the server. A cookie of the browser holds a secret, the time, the provider and the page that the reader
//! wants. The values of the protocol are derived from the whole cookie: `state` comes back by the browser, `nonce` in the ID token,
//! and the verifier of PKCE goes to the provider with the code. So a code counts only in the browser that began the log-in, for the
//! provider and the page with which it began, and every replica can finish it.
//!
//! Spec: OpenID Connect Core, sections 3.1.2.1 and 15.5.2; RFC 7636, section 4; RFC 6749, section 10.12.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use esker_types::Millis;
use sha2::{Digest, Sha256};

use crate::{AuthError, SecretToken, token_hash};

/// The time in seconds within which a log-in must be finished.
pub const LOG_IN_SECONDS: u32 = 600;

/// The maximum length in bytes of the page that the reader wants. Browsers keep no cookie over 4096 bytes.
const MAX_NEXT_BYTES: usize = 2000;

/// A log-in that a browser has begun.
pub(crate) struct LogInAttempt {
    /// The text of the cookie.
    cookie: String,
    /// The name of the provider.
    pub(crate) provider: String,
    /// The page that the reader wants, as the browser sent it.
    pub(crate) next: String,
}

impl fmt::Debug for LogInAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogInAttempt").field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl LogInAttempt {
    /// Begins a log-in. `provider` has letters, digits, `-` and `_`; a page whose address is too long becomes `/`.
    ///
    /// # Errors
    ///
    /// Returns [`Random`](AuthError::Random) if the system gives no random numbers.
    pub(super) fn begin(provider: &str, next: &str, now: Millis) -> Result<Self, AuthError> {
        let (secret, seconds) = (SecretToken::generate()?.reveal(), now / 1000);
        let next = if next.len() > MAX_NEXT_BYTES { "/" } else { next };
        let cookie = format!("{secret}.{seconds}.{provider}.{}", URL_SAFE_NO_PAD.encode(next));
        Ok(Self { cookie, provider: provider.to_owned(), next: next.to_owned() })
    }

    /// Reads the cookie of a browser. Returns `None` if it is none, or if the log-in was begun too long ago or in the future.
    pub(super) fn parse(cookie: &str, now: Millis) -> Option<Self> {
        let mut parts = cookie.split('.');
        let (_secret, seconds, provider, next) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let age = (now / 1000).checked_sub(seconds.parse().ok()?)?;
        if parts.next().is_some() || !(-i64::from(LOG_IN_SECONDS)..i64::from(LOG_IN_SECONDS)).contains(&age) {
            return None;
        }
        let next = String::from_utf8(URL_SAFE_NO_PAD.decode(next).ok()?).ok()?;
        Some(Self { cookie: cookie.to_owned(), provider: provider.to_owned(), next })
    }

    /// Returns the text of the cookie.
    pub(super) fn cookie(self) -> String {
        self.cookie
    }

    /// Returns the parameter `state`.
    pub(super) fn state(&self) -> String {
        self.derive("state")
    }

    /// Checks the parameter `state` of an answer. The time that it takes tells nothing about where the texts differ.
    pub(super) fn has_state(&self, state: &str) -> bool {
        token_hash(&self.state()) == token_hash(state)
    }

    /// Returns the parameter `nonce`, which the ID token must have.
    pub(super) fn nonce(&self) -> String {
        self.derive("nonce")
    }

    /// Returns the verifier of PKCE.
    pub(super) fn verifier(&self) -> String {
        self.derive("verifier")
    }

    /// Returns the challenge of PKCE for the method `S256`.
    pub(super) fn challenge(&self) -> String {
        challenge_of(&self.verifier())
    }

    /// Derives a value of 43 characters. Nobody can tell the cookie or another value from it.
    fn derive(&self, what: &str) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(format!("esker log-in {what} {}", self.cookie)))
    }
}

/// Returns the challenge of PKCE for a verifier.
fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_800_000_000_000;

    fn begin(next: &str) -> LogInAttempt {
        LogInAttempt::begin("sso", next, NOW).expect("random numbers")
    }

    #[test]
    fn the_challenge_is_that_of_the_example_of_rfc_7636() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge_of(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn a_cookie_is_read_again_until_its_time_is_over() {
        let begun = begin("/jobs?state=queued");
        let (state, cookie) = (begun.state(), begun.cookie());
        let read = LogInAttempt::parse(&cookie, NOW + 599_000).expect("in time");
        assert_eq!((read.provider.as_str(), read.next.as_str()), ("sso", "/jobs?state=queued"));
        assert!(read.has_state(&state) && !read.has_state("") && !read.has_state(&read.nonce()));
        assert!(LogInAttempt::parse(&cookie, NOW + 600_000).is_none() && LogInAttempt::parse(&cookie, NOW - 601_000).is_none());
        let (late, early) = ("esk_0.9223372036854775807.sso.Lw", "esk_0.-9223372036854775808.sso.Lw");
        for other in ["", "a.b.c.d", "...", &format!("{cookie}.x"), late, early] {
            assert!(LogInAttempt::parse(other, NOW).is_none(), "{other}");
        }
    }

    #[test]
    fn nothing_of_a_cookie_can_be_changed_without_another_state() {
        let begun = begin("/jobs");
        let (state, cookie) = (begun.state(), begun.cookie());
        let next = URL_SAFE_NO_PAD.encode("/jobs");
        for (from, to) in [(".sso.", ".evil."), ("1800000000", "1800000100"), (next.as_str(), "L2V2aWw"), ("esk_", "esk-")] {
            let changed = LogInAttempt::parse(&cookie.replace(from, to), NOW).expect("a cookie");
            assert!(!changed.has_state(&state), "{to}");
        }
    }

    #[test]
    fn each_log_in_has_values_of_its_own_which_differ_from_each_other() {
        let (one, other) = (begin("/"), begin("/"));
        let values = [one.state(), one.nonce(), one.verifier(), one.challenge(), other.state(), other.nonce(), other.verifier()];
        for (n, value) in values.iter().enumerate() {
            assert_eq!(value.len(), 43, "RFC 7636 wants 43 characters of a verifier");
            assert!(!values[n + 1..].contains(value));
        }
        assert_eq!(begin(&format!("/{}", "x".repeat(2000))).next, "/");
    }
}
