//! The authorization code flow: a browser is sent to the provider, comes back with a code, and Esker exchanges the code for an ID
//! token, which is checked as any token is.
//!
//! The code goes only to the provider at which the log-in began. The provider's answer comes to an address of its own, names the
//! issuer if the provider can, and the ID token names it in any case: so no answer of one provider counts for another.
//!
//! Spec: OpenID Connect Core, section 3.1; RFC 7636; RFC 9207; RFC 9700, section 2.1. Start reading at [`Providers::begin_log_in`].

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use esker_types::{Millis, to_millis};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::algorithm::SigningAlgorithm;
use super::attempt::LogInAttempt;
use super::claims;
use super::client::read_secret;
use super::endpoints::{ClientAuth, LogInEndpoints};
use super::fault::{LogInFault, TokenFault};
use super::issuer::Issuer;
use super::jws::Jws;
use super::{ClientSecret, LogInOptions, Providers, VerifiedUser};
use crate::AuthError;

/// What is encoded in the id and the secret of a client before they become HTTP Basic (RFC 6749, section 2.3.1).
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*');

/// The maximum number of characters of a provider's error in the log.
const MAX_LOGGED_CHARACTERS: usize = 100;

/// A log-in that begins.
pub struct BegunLogIn {
    /// The value of the cookie that binds the log-in to the browser.
    pub cookie: String,
    /// The address to which the browser is sent.
    pub url: String,
}

impl std::fmt::Debug for BegunLogIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BegunLogIn").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What a browser brings back from the provider.
#[derive(Clone, Copy)]
pub struct LogInAnswer<'a> {
    /// The name of the provider whose address for answers the browser called.
    pub provider: &'a str,
    /// The value of the cookie that binds the log-in to the browser.
    pub cookie: &'a str,
    /// The parameter `state`.
    pub state: &'a str,
    /// The parameter `code`, if there is one.
    pub code: Option<&'a str>,
    /// The parameter `iss`, if there is one.
    pub issuer: Option<&'a str>,
    /// The parameter `error`, if there is one.
    pub error: Option<&'a str>,
    /// The address that the browser called, as it was given to [`Authenticator::begin_log_in`](crate::Authenticator::begin_log_in).
    pub redirect_uri: &'a str,
}

impl std::fmt::Debug for LogInAnswer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogInAnswer").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// The answer of the token endpoint.
#[derive(Deserialize)]
struct TokenAnswer {
    id_token: Option<String>,
    access_token: Option<String>,
}

/// The error of the token endpoint.
#[derive(Deserialize)]
struct TokenError {
    error: String,
}

impl Providers {
    /// Returns the providers at which users log in to the web page.
    pub(crate) fn with_log_in(&self) -> impl Iterator<Item = &LogInOptions> {
        self.issuers.iter().filter_map(|issuer| issuer.options.log_in.as_ref())
    }

    /// Returns the issuer with a log-in by the name of its section.
    fn log_in_of(&self, name: &str) -> Result<(&Arc<Issuer>, &LogInOptions), LogInFault> {
        let mut all = self.issuers.iter().filter_map(|issuer| Some((issuer, issuer.options.log_in.as_ref()?)));
        all.find(|(_, options)| options.name == name).ok_or(LogInFault::Unknown)
    }

    /// Begins a log-in at a provider.
    ///
    /// # Errors
    ///
    /// Returns [`LogIn`](AuthError::LogIn) if the configuration has no log-in at this provider,
    /// [`ProviderUnavailable`](AuthError::ProviderUnavailable) if its document can't be used, and [`Random`](AuthError::Random) if
    /// the system gives no random numbers.
    pub(crate) async fn begin_log_in(
        &self,
        provider: &str,
        redirect_uri: &str,
        next: &str,
        now: Millis,
    ) -> Result<BegunLogIn, AuthError> {
        let (issuer, options) = self.log_in_of(provider)?;
        let endpoints = issuer.log_in_endpoints().await?;
        let attempt = LogInAttempt::begin(provider, next, now)?;
        let url = authorize_url(&endpoints, options, &attempt, redirect_uri);
        Ok(BegunLogIn { cookie: attempt.cookie(), url: url.into() })
    }

    /// Finishes a log-in. Returns the user, whose end is that of the session, and the page that the reader wants.
    ///
    /// # Errors
    ///
    /// - Returns [`LogIn`](AuthError::LogIn) if the answer does not belong to a log-in of this browser, if it is that of another
    ///   issuer, if it is an error, or if the provider does not exchange the code.
    /// - Returns [`Refused`](AuthError::Refused) if the ID token is not valid.
    /// - Returns [`ProviderUnavailable`](AuthError::ProviderUnavailable) or [`KeysUnavailable`](AuthError::KeysUnavailable) if the
    ///   provider does not answer.
    pub(crate) async fn finish_log_in(&self, answer: LogInAnswer<'_>, now: Millis) -> Result<(VerifiedUser, String), AuthError> {
        let (issuer, options) = self.log_in_of(answer.provider)?;
        let attempt = LogInAttempt::parse(answer.cookie, now).ok_or(LogInFault::NotBegun)?;
        if attempt.provider != answer.provider || !attempt.has_state(answer.state) {
            return Err(LogInFault::NotBegun.into());
        }
        let endpoints = issuer.log_in_endpoints().await?;
        check_issuer(answer.issuer, &issuer.options.issuer, endpoints.names_issuer)?;
        let code = match (answer.error, answer.code) {
            (None, Some(code)) => code,
            (error, _) => {
                let error: String = error.unwrap_or_default().chars().take(MAX_LOGGED_CHARACTERS).collect();
                tracing::warn!(issuer = issuer.options.issuer, ?error, "the provider did not log a user in");
                return Err(LogInFault::Denied.into());
            }
        };
        let tokens = exchange(issuer, options, &endpoints, &attempt, code, answer.redirect_uri).await?;
        let mut user = check_id_token(issuer, options, &tokens, &attempt.nonce(), now).await?;
        user.ends_ms = now.saturating_add(to_millis(options.session));
        Ok((user, attempt.next))
    }

    /// Returns the address at which a user of an issuer logs out; `None` if the issuer has no log-in, or its provider no log-out.
    ///
    /// Spec: OpenID Connect RP-Initiated Logout 1.0, section 2.
    pub(crate) async fn log_out_url(&self, issuer: &str, back: &str) -> Option<String> {
        let issuer = self.find(issuer)?;
        let options = issuer.options.log_in.as_ref()?;
        let mut url = issuer.log_in_endpoints().await.ok()?.end_session.clone()?;
        // Esker keeps no ID token, so it gives no hint of it.
        url.query_pairs_mut().append_pair("client_id", &options.client_id).append_pair("post_logout_redirect_uri", back);
        Some(url.into())
    }
}

/// Builds the address to which the browser is sent. What a provider has in its own address stays.
fn authorize_url(endpoints: &LogInEndpoints, options: &LogInOptions, attempt: &LogInAttempt, redirect_uri: &str) -> Url {
    let mut url = endpoints.authorize.clone();
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &options.client_id)
        .append_pair("redirect_uri", redirect_uri)
        .append_pair("scope", &options.scopes.join(" "))
        .append_pair("state", &attempt.state())
        .append_pair("nonce", &attempt.nonce())
        .append_pair("code_challenge", &attempt.challenge())
        .append_pair("code_challenge_method", "S256");
    url
}

/// Checks the issuer that an answer names.
///
/// Spec: RFC 9207, section 2.4.
fn check_issuer(named: Option<&str>, issuer: &str, needed: bool) -> Result<(), LogInFault> {
    match named {
        Some(named) if named == issuer => Ok(()),
        None if !needed => Ok(()),
        _ => Err(LogInFault::Issuer),
    }
}

/// Exchanges a code for tokens.
async fn exchange(
    issuer: &Issuer,
    options: &LogInOptions,
    endpoints: &LogInEndpoints,
    attempt: &LogInAttempt,
    code: &str,
    redirect_uri: &str,
) -> Result<TokenAnswer, AuthError> {
    let unavailable = |error: String| {
        tracing::warn!(issuer = issuer.options.issuer, error, "a code can't be exchanged");
        AuthError::ProviderUnavailable { issuer: issuer.options.issuer.clone() }
    };
    let (secret, verifier) = (secret_of(options).await.map_err(unavailable)?, attempt.verifier());
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", redirect_uri),
        ("code_verifier", verifier.as_str()),
    ];
    let mut authorization = None;
    match (&secret, endpoints.client_auth) {
        (Some(secret), ClientAuth::Basic) => authorization = Some(basic(&options.client_id, secret)),
        (Some(secret), ClientAuth::Post) => {
            form.extend([("client_id", options.client_id.as_str()), ("client_secret", secret.as_str())]);
        }
        (None, _) => form.push(("client_id", options.client_id.as_str())),
    }
    let (status, body) = issuer.client.post(&endpoints.token, authorization, &form).await.map_err(unavailable)?;
    let passes = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    if status.is_client_error() && !passes {
        let error = serde_json::from_slice(&body).map_or_else(|_| String::new(), |answer: TokenError| answer.error);
        let error: String = error.chars().take(MAX_LOGGED_CHARACTERS).collect();
        tracing::warn!(issuer = issuer.options.issuer, status = status.as_u16(), ?error, "the provider refuses a code");
        return Err(LogInFault::Code.into());
    }
    if !status.is_success() {
        return Err(unavailable(format!("the token endpoint answers {status}")));
    }
    serde_json::from_slice(&body).map_err(|_| unavailable("the answer of the token endpoint can't be read".to_owned()))
}

/// Returns the secret of the client, if it has one. The error is for the log.
async fn secret_of(options: &LogInOptions) -> Result<Option<String>, String> {
    match &options.secret {
        None => Ok(None),
        Some(ClientSecret::Text(text)) => Ok(Some(text.clone())),
        Some(ClientSecret::File(path)) => read_secret(path).await.map(Some),
    }
}

/// Formats the header of a client with a secret.
fn basic(id: &str, secret: &str) -> String {
    let credentials = format!("{}:{}", utf8_percent_encode(id, FORM), utf8_percent_encode(secret, FORM));
    format!("Basic {}", STANDARD.encode(credentials))
}

/// Checks an ID token with the issuer's keys, and returns its user.
///
/// Spec: OpenID Connect Core, section 3.1.3.7.
async fn check_id_token(
    issuer: &Arc<Issuer>,
    options: &LogInOptions,
    tokens: &TokenAnswer,
    nonce: &str,
    now: Millis,
) -> Result<VerifiedUser, AuthError> {
    let jws = Jws::parse(tokens.id_token.as_deref().ok_or(LogInFault::Code)?)?;
    issuer.check_signature(&jws).await?;
    let user = claims::user_of(&jws.claims, &issuer.options, std::slice::from_ref(&options.client_id), now)?;
    check_log_in_claims(&jws.claims, jws.algorithm, &options.client_id, nonce, tokens.access_token.as_deref())?;
    Ok(user)
}

/// Checks the claims that only ID tokens have.
fn check_log_in_claims(
    claims: &Map<String, Value>,
    algorithm: SigningAlgorithm,
    client_id: &str,
    nonce: &str,
    access_token: Option<&str>,
) -> Result<(), TokenFault> {
    if claims.get("nonce").and_then(Value::as_str) != Some(nonce) {
        return Err(TokenFault::Nonce);
    }
    let several = claims.get("aud").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
    match claims.get("azp") {
        Some(party) if party.as_str() == Some(client_id) => {}
        None if !several => {}
        _ => return Err(TokenFault::Client),
    }
    match claims.get("at_hash") {
        None => Ok(()),
        Some(hash) => match access_token {
            Some(token) if hash.as_str() == Some(access_token_hash(algorithm, token).as_str()) => Ok(()),
            _ => Err(TokenFault::AccessToken),
        },
    }
}

/// Returns the claim `at_hash` for an access token: the left half of its hash by the algorithm of the ID token.
///
/// Spec: OpenID Connect Core, section 3.1.3.6.
fn access_token_hash(algorithm: SigningAlgorithm, token: &str) -> String {
    let hash: Vec<u8> = match algorithm {
        SigningAlgorithm::Rs256 | SigningAlgorithm::Ps256 | SigningAlgorithm::Es256 => Sha256::digest(token).to_vec(),
        SigningAlgorithm::Rs384 | SigningAlgorithm::Ps384 | SigningAlgorithm::Es384 => Sha384::digest(token).to_vec(),
        SigningAlgorithm::Rs512 | SigningAlgorithm::Ps512 | SigningAlgorithm::EdDsa => Sha512::digest(token).to_vec(),
    };
    URL_SAFE_NO_PAD.encode(&hash[..hash.len() / 2])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ES256: SigningAlgorithm = SigningAlgorithm::Es256;

    fn check(claims: &Value, access_token: Option<&str>) -> Result<(), TokenFault> {
        check_log_in_claims(claims.as_object().expect("an object"), ES256, "esker-page", "n-1", access_token)
    }

    #[test]
    fn the_hash_of_an_access_token_is_that_of_the_example_in_openid_connect_core() {
        let token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
        assert_eq!(access_token_hash(SigningAlgorithm::Rs256, token), "77QmUPtjPfzWtF2AnpK9RQ");
        assert_eq!(access_token_hash(SigningAlgorithm::EdDsa, token).len(), 43, "half of 512 bits");
    }

    #[test]
    fn an_id_token_is_for_this_log_in_this_client_and_this_access_token() {
        let hash = access_token_hash(ES256, "access");
        assert_eq!(check(&json!({"nonce": "n-1"}), None), Ok(()));
        assert_eq!(check(&json!({"nonce": "n-1", "azp": "esker-page", "at_hash": hash}), Some("access")), Ok(()));
        for (claims, fault) in [
            (json!({}), TokenFault::Nonce),
            (json!({"nonce": "n-2"}), TokenFault::Nonce),
            (json!({"nonce": ["n-1"]}), TokenFault::Nonce),
            (json!({"nonce": "n-1", "azp": "other"}), TokenFault::Client),
            (json!({"nonce": "n-1", "azp": null}), TokenFault::Client),
            (json!({"nonce": "n-1", "aud": ["esker-page", "other"]}), TokenFault::Client),
            (json!({"nonce": "n-1", "at_hash": access_token_hash(ES256, "other")}), TokenFault::AccessToken),
            (json!({"nonce": "n-1", "at_hash": 1}), TokenFault::AccessToken),
        ] {
            assert_eq!(check(&claims, Some("access")), Err(fault), "{claims}");
        }
        assert_eq!(check(&json!({"nonce": "n-1", "at_hash": hash}), None), Err(TokenFault::AccessToken));
        assert_eq!(check(&json!({"nonce": "n-1", "aud": ["esker-page", "other"], "azp": "esker-page"}), None), Ok(()));
    }

    #[test]
    fn an_answer_of_another_issuer_is_refused_and_one_without_name_where_it_must_have_one() {
        let check = |named, needed| check_issuer(named, "https://idp.example", needed);
        assert!(check(Some("https://idp.example"), true).is_ok() && check(None, false).is_ok());
        let other = [Some("https://evil.example"), Some(""), Some("https://idp.example/")].map(|named| (named, false));
        for (named, needed) in other.into_iter().chain([(None, true)]) {
            assert_eq!(check(named, needed), Err(LogInFault::Issuer), "{named:?}");
        }
    }

    /// RFC 6749, section 2.3.1: both are encoded as in a form before they are joined.
    #[test]
    fn the_secret_of_a_client_may_have_any_character() {
        let value = basic("esker-page", "a:b%c d/é");
        let decoded = STANDARD.decode(value.strip_prefix("Basic ").expect("basic")).expect("Base64");
        assert_eq!(decoded, b"esker-page:a%3Ab%25c%20d%2F%C3%A9");
    }
}
