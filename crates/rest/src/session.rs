//! Sessions of the web page: log-in with a token, and the cookies that carry a session.
//!
//! The cookie holds a random id, of which the database has the SHA-256. A session is as good as the token that opened it: each
//! request asks the database for both, so a session ends with its token. A token of an identity provider is in no database, so its
//! session has a token of its own, which ends at the same time. The routes of the API read no cookie.
//!
//! Start reading at [`PageSessions::open`] and [`PageSessions::resume`].

use std::fmt;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use esker_auth::{AuthError, Authenticated, Authenticator, SecretToken, token_hash};
use esker_state::{PageSession, State, StateError};
use esker_types::{DurationMillis, Principal, now_ms, to_millis};

use crate::guard::Transport;

/// The time for which the recorded time of the last request may be behind, so that not every request writes.
const MAX_SEEN_LAG: DurationMillis = 60_000;

/// The times after which a session ends.
#[derive(Debug, Clone, Copy)]
pub struct SessionOptions {
    /// The time without a request after which a session ends.
    pub idle: Duration,
    /// The time after the log-in at which a session ends even if it is used.
    pub max: Duration,
}

/// The sessions of the web page.
pub(crate) struct PageSessions {
    state: State,
    idle: DurationMillis,
    max: DurationMillis,
}

impl fmt::Debug for PageSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageSessions").field("idle", &self.idle).field("max", &self.max).finish_non_exhaustive()
    }
}

/// A session that a log-in has opened.
pub(crate) struct OpenedSession {
    /// The secret that the cookie carries.
    pub(crate) id: String,
    /// The principal.
    pub(crate) principal: Principal,
}

impl PageSessions {
    /// Makes the handle for the sessions in a state database.
    pub(crate) fn new(state: State, options: SessionOptions) -> Self {
        Self { state, idle: to_millis(options.idle), max: to_millis(options.max) }
    }

    /// Opens a session for the principal of a token. Its id is a new one.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Missing`] if the token is empty, [`AuthError::Random`] if the system gives no random numbers, and the
    /// errors of [`Authenticator::begin_session`].
    pub(crate) async fn open(&self, auth: &Authenticator, token: &str) -> Result<OpenedSession, AuthError> {
        let token = token.trim();
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        let (caller, token_sha256) = auth.begin_session(token).await?;
        self.open_for(&caller, token_sha256).await
    }

    /// Opens a session for a caller, which is as good as the token with a SHA-256. Its id is a new one.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Random`] if the system gives no random numbers, and [`AuthError::State`] if the database fails.
    pub(crate) async fn open_for(&self, caller: &Authenticated, token_sha256: String) -> Result<OpenedSession, AuthError> {
        let (id, now) = (random_secret()?, now_ms());
        let session = PageSession {
            id_sha256: token_hash(&id),
            principal: caller.principal.to_string(),
            token_sha256,
            csrf: random_secret()?,
            created_ms: now,
            seen_ms: now,
            expires_ms: now.saturating_add(self.max),
        };
        self.state.sessions().insert(&session, self.idle).await?;
        Ok(OpenedSession { id, principal: caller.principal.clone() })
    }

    /// Returns the session with an id and its caller, if neither the session nor its token has ended.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::State`] if the database fails.
    pub(crate) async fn resume(&self, auth: &Authenticator, id: &str) -> Result<Option<(PageSession, Authenticated)>, AuthError> {
        let (id_sha256, now) = (token_hash(id), now_ms());
        let Some(session) = self.state.sessions().get(&id_sha256, now, self.idle).await? else { return Ok(None) };
        let caller = auth.resume_session(&session.token_sha256).await?;
        let Some(caller) = caller.filter(|caller| caller.principal.to_string() == session.principal) else {
            self.state.sessions().delete(&id_sha256).await?;
            return Ok(None);
        };
        if now.saturating_sub(session.seen_ms) > MAX_SEEN_LAG.min(self.idle / 4) {
            self.state.sessions().touch(&id_sha256, now).await?;
        }
        Ok(Some((session, caller)))
    }

    /// Ends the session with an id, if there is one.
    ///
    /// # Errors
    ///
    /// Returns [`StateError`] if the database fails.
    pub(crate) async fn end(&self, id: &str) -> Result<(), StateError> {
        self.state.sessions().delete(&token_hash(id)).await
    }
}

/// Makes a secret of 32 random bytes.
///
/// # Errors
///
/// Returns [`AuthError::Random`] if the system gives no random numbers.
pub(crate) fn random_secret() -> Result<String, AuthError> {
    Ok(SecretToken::generate()?.reveal())
}

/// Compares two secrets. The time that it takes tells nothing about where they differ.
pub(crate) fn is_same_secret(a: &str, b: &str) -> bool {
    !a.is_empty() && token_hash(a) == token_hash(b)
}

/// The cookies of one way to the browser.
///
/// A browser keeps a cookie whose name begins with `__Host-` only if it came over TLS from this very host. On its own machine
/// without TLS, it would not keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cookies {
    /// The name of the cookie with the id of the session.
    pub(crate) session: &'static str,
    /// The name of the cookie whose value the log-in form repeats.
    pub(crate) login: &'static str,
    /// The name of the cookie that binds a log-in at an identity provider to the browser.
    pub(crate) oidc: &'static str,
    /// The attributes of the cookies, which follow name and value.
    attributes: &'static str,
}

impl Cookies {
    /// Returns the cookies of a way. `None` over plain HTTP, where everybody on the way could read them.
    pub(crate) fn of(transport: Transport) -> Option<Self> {
        match transport {
            Transport::Https => Some(Self {
                session: "__Host-esker",
                login: "__Host-esker-login",
                oidc: "__Host-esker-oidc",
                attributes: "Path=/; HttpOnly; SameSite=Lax; Secure",
            }),
            Transport::Loopback => Some(Self {
                session: "esker",
                login: "esker-login",
                oidc: "esker-oidc",
                attributes: "Path=/; HttpOnly; SameSite=Lax",
            }),
            Transport::Plain => None,
        }
    }

    /// Formats the header that sets a cookie until the browser is closed.
    pub(crate) fn set(self, name: &str, value: &str) -> String {
        format!("{name}={value}; {}", self.attributes)
    }

    /// Formats the header that sets a cookie for some seconds.
    pub(crate) fn set_for(self, name: &str, value: &str, seconds: u32) -> String {
        format!("{name}={value}; {}; Max-Age={seconds}", self.attributes)
    }

    /// Formats the header that removes a cookie.
    pub(crate) fn remove(self, name: &str) -> String {
        format!("{name}=; {}; Max-Age=0", self.attributes)
    }
}

/// Returns the value of a cookie of a request, unless it is empty.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(named, value)| *named == name && !value.is_empty()).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn cookies_over_tls_are_bound_to_the_host_and_there_are_none_over_plain_http() {
        let https = Cookies::of(Transport::Https).expect("cookies");
        assert_eq!(https.set(https.session, "x"), "__Host-esker=x; Path=/; HttpOnly; SameSite=Lax; Secure");
        let local = Cookies::of(Transport::Loopback).expect("cookies");
        assert_eq!(local.set(local.session, "x"), "esker=x; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(local.remove(local.login), "esker-login=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
        let brief = "esker-oidc=x; Path=/; HttpOnly; SameSite=Lax; Max-Age=600";
        assert_eq!(local.set_for(local.oidc, "x", 600), brief);
        assert_eq!(Cookies::of(Transport::Plain), None);
    }

    #[test]
    fn a_cookie_is_found_among_others_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; esker-login=two;esker=three; x"));
        headers.append(COOKIE, HeaderValue::from_static("b=4; none="));
        assert_eq!(cookie(&headers, "esker"), Some("three"));
        assert_eq!(cookie(&headers, "esker-login"), Some("two"));
        assert_eq!(cookie(&headers, "b"), Some("4"));
        assert_eq!((cookie(&headers, "none"), cookie(&headers, "sker")), (None, None));
    }

    #[test]
    fn an_empty_secret_is_no_secret() {
        assert!(is_same_secret("a", "a") && !is_same_secret("a", "b") && !is_same_secret("", ""));
        assert_ne!(random_secret().expect("made"), random_secret().expect("made"));
    }
}
