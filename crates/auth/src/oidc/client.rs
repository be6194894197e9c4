//! [`KeyClient`]: fetches the keys of an issuer, and exchanges the codes of log-ins.
//!
//! The addresses come from the configuration, or from the document of an issuer of the configuration, and never from a token. No
//! redirect is followed. Time and size of an answer are bounded. Spec: OpenID Connect Discovery 1.0, section 4.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use esker_types::with_causes;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Certificate, Client, Response, StatusCode, Url, redirect};
use serde::Deserialize;

use super::IssuerOptions;
use super::endpoints::LogInEndpoints;
use super::jwk::{VerificationKey, parse_key_set};
use crate::AuthError;

/// Time in which the provider must answer one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum size of an answer, in bytes.
const MAX_ANSWER_BYTES: usize = 512 << 10;

/// The client of one issuer.
#[derive(Debug)]
pub(super) struct KeyClient {
    http: Client,
    issuer: String,
    /// The address of the keys, if the configuration has it.
    jwks_url: Option<String>,
    /// A file with a token for the provider, which is read at each fetch.
    bearer_file: Option<PathBuf>,
}

/// The document by which an issuer describes itself.
///
/// Spec: OpenID Connect Discovery 1.0, section 3; RP-Initiated Logout 1.0, section 2.1; RFC 9207, section 3.
#[derive(Debug, Deserialize)]
pub(super) struct Discovery {
    issuer: String,
    jwks_uri: String,
    /// The address to which browsers are sent to log in.
    pub(super) authorization_endpoint: Option<String>,
    /// The address at which a code is exchanged.
    pub(super) token_endpoint: Option<String>,
    /// The address to which browsers are sent to log out.
    pub(super) end_session_endpoint: Option<String>,
    /// The ways in which a client may prove who it is when it exchanges a code.
    pub(super) token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// True if every answer to a log-in names the issuer.
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

impl KeyClient {
    /// Makes the client. Sends no request.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](AuthError::Invalid) if an address or the certificates can't be used.
    pub(super) fn new(options: &IssuerOptions) -> Result<Self, AuthError> {
        let wrong = |what: String| AuthError::Invalid(format!("issuer {}: {what}", options.issuer));
        check_issuer_url(&options.issuer).map_err(|why| wrong(why.to_owned()))?;
        if let Some(url) = &options.jwks_url {
            provider_url(url).map_err(|why| wrong(format!("the address of its keys: {why}")))?;
        }
        let mut builder = Client::builder().timeout(REQUEST_TIMEOUT).redirect(redirect::Policy::none());
        if let Some(pem) = &options.ca_pem {
            let certificates = Certificate::from_pem_bundle(pem).map_err(|e| wrong(with_causes(&e)))?;
            if certificates.is_empty() {
                return Err(wrong("the file of its certificates has none in the form PEM".to_owned()));
            }
            builder = certificates.into_iter().fold(builder, |builder, one| builder.add_root_certificate(one));
        }
        let http = builder.build().map_err(|e| wrong(with_causes(&e)))?;
        let (issuer, jwks_url, bearer_file) = (options.issuer.clone(), options.jwks_url.clone(), options.bearer_file.clone());
        Ok(Self { http, issuer, jwks_url, bearer_file })
    }

    /// Fetches the keys. The error is for the log.
    pub(super) async fn fetch(&self) -> Result<Vec<VerificationKey>, String> {
        let bearer = self.bearer().await?;
        let bearer = bearer.as_deref();
        let jwks_url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => self.discover(bearer).await?.jwks_uri,
        };
        let text = self.get(provider_url(&jwks_url)?, bearer).await?;
        let keys = parse_key_set(&text).ok_or_else(|| format!("{jwks_url} answers with no set of keys"))?;
        match keys.is_empty() {
            true => Err(format!("{jwks_url} has no key that can check signatures")),
            false => Ok(keys),
        }
    }

    /// Fetches where users log in. The error is for the log.
    pub(super) async fn log_in_endpoints(&self) -> Result<LogInEndpoints, String> {
        let bearer = self.bearer().await?;
        let document = self.discover(bearer.as_deref()).await?;
        LogInEndpoints::of(&document, |url| self.endpoint(url))
    }

    /// Posts a form, with the header `authorization` if the client has one. Returns status and answer; the error is for the log.
    pub(super) async fn post(
        &self,
        url: &Url,
        authorization: Option<String>,
        form: &[(&str, &str)],
    ) -> Result<(StatusCode, Vec<u8>), String> {
        let mut request = self.http.post(url.clone()).form(form).header(ACCEPT, "application/json");
        if let Some(value) = authorization {
            let mut value = HeaderValue::try_from(value).map_err(|_| "the client's id or secret can't be sent".to_owned())?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let answer = request.send().await.map_err(|e| format!("{url}: {}", with_causes(&e.without_url())))?;
        let status = answer.status();
        Ok((status, read(answer).await.map_err(|why| format!("{url}: {why}"))?))
    }

    /// Reads the token for requests to the provider, if there is one.
    async fn bearer(&self) -> Result<Option<String>, String> {
        match &self.bearer_file {
            Some(file) => read_secret(file).await.map(Some),
            None => Ok(None),
        }
    }

    /// Returns the issuer's own document. Its address of the keys may be used.
    async fn discover(&self, bearer: Option<&str>) -> Result<Discovery, String> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let text = self.get(provider_url(&url)?, bearer).await?;
        let document: Discovery = serde_json::from_slice(&text).map_err(|e| format!("{url}: {e}"))?;
        if document.issuer != self.issuer {
            return Err(format!("{url} is the document of another issuer, {:?}", document.issuer));
        }
        self.endpoint(&document.jwks_uri).map_err(|why| format!("{url}: {why}"))?;
        Ok(document)
    }

    /// Parses an address of the issuer's document. That of a provider elsewhere must not lead to services of this machine.
    fn endpoint(&self, text: &str) -> Result<Url, String> {
        let url = provider_url(text).map_err(|why| format!("{text}: {why}"))?;
        match is_loopback(&url) && !provider_url(&self.issuer).is_ok_and(|issuer| is_loopback(&issuer)) {
            true => Err(format!("the document leads to the loopback address {text}")),
            false => Ok(url),
        }
    }

    /// Sends a request, and reads the answer.
    async fn get(&self, url: Url, bearer: Option<&str>) -> Result<Vec<u8>, String> {
        let mut request = self.http.get(url.clone());
        if let Some(bearer) = bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {bearer}"));
        }
        let answer = request.send().await.map_err(|e| format!("{url}: {}", with_causes(&e.without_url())))?;
        if !answer.status().is_success() {
            return Err(format!("{url} answers {}", answer.status()));
        }
        read(answer).await.map_err(|why| format!("{url}: {why}"))
    }
}

/// Reads a secret from its file, without the white space around it. The error is for the log.
pub(super) async fn read_secret(file: &Path) -> Result<String, String> {
    let text = tokio::fs::read_to_string(file).await.map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(text.trim().to_owned())
}

/// Reads an answer, up to the maximum size.
async fn read(mut answer: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| with_causes(&e.without_url()))? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(format!("the answer has more than {MAX_ANSWER_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Checks that a text can be the URL of an issuer: as [`check_provider_url`], and without query.
///
/// # Errors
///
/// Returns the reason for which it can't.
pub fn check_issuer_url(text: &str) -> Result<(), &'static str> {
    match provider_url(text)?.query() {
        Some(_) => Err("an issuer has no query"),
        None => Ok(()),
    }
}

/// Checks that keys may be fetched from a URL: with TLS, unless it is on this machine.
///
/// # Errors
///
/// Returns the reason for which they may not.
pub fn check_provider_url(text: &str) -> Result<(), &'static str> {
    provider_url(text).map(drop)
}

/// Parses a URL from which keys may be fetched.
fn provider_url(text: &str) -> Result<Url, &'static str> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("a URL has no white space");
    }
    let url = Url::parse(text).map_err(|_| "not a URL")?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("the URL must have neither user nor fragment");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err("the URL must begin with https://; http:// is allowed for loopback addresses only"),
    }
}

/// Checks whether a URL leads to this machine.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_with_tls_or_from_this_machine() {
        let here = ["http://127.0.0.1:8080/a", "http://localhost", "http://[::1]:8080"];
        for good in here.into_iter().chain(["https://idp.example/realms/a", "https://10.0.0.1"]) {
            assert_eq!(check_issuer_url(good), Ok(()), "{good}");
        }
        for bad in [
            "http://idp.example",
            "http://169.254.169.254/latest",
            "http://localhost.example",
            "http://127.0.0.1.example",
            "http://127.0.0.1@idp.example",
            "ftp://localhost",
            "file:///etc/passwd",
            "https://user@idp.example",
            "https://idp.example/#a",
            "https://idp.example/?a",
            "https://idp.example/a b",
            "idp.example",
            "",
        ] {
            assert!(check_issuer_url(bad).is_err(), "{bad}");
        }
        assert_eq!(check_provider_url("https://idp.example/keys?version=1"), Ok(()));
    }
}
