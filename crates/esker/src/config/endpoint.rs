//! Checks the URLs, tokens and headers of the configuration that requests to other services are made with.

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use crate::{Error, Result};

/// Checks that the value of a key, if there is one, is a URL of HTTP. The error does not repeat the URL: it may have a password.
///
/// # Errors
///
/// Returns [`Config`](Error::Config), with the key, if it is none.
pub(super) fn check_url(key: &str, url: Option<&str>) -> Result<()> {
    let Some(url) = url else { return Ok(()) };
    let wrong = |reason: String| Err(Error::Config(format!("{key}: not a URL of HTTP: {reason}")));
    match Url::parse(url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => Ok(()),
        Ok(parsed) => wrong(format!("it begins with {}:, not with http:// or https://", parsed.scheme())),
        Err(error) => wrong(error.to_string()),
    }
}

/// Checks that a bearer token can be sent in a header. The error does not repeat the token.
///
/// # Errors
///
/// Returns [`Config`](Error::Config), with the key, if the token has characters that headers can't have.
pub(super) fn check_token(key: &str, token: Option<&str>) -> Result<()> {
    token.map_or(Ok(()), |token| check_value(key, token))
}

/// Checks that a header can be sent. The error does not repeat its value.
///
/// # Errors
///
/// Returns [`Config`](Error::Config), with the key, if the name or the value has characters that headers can't have.
pub(super) fn check_header(key: &str, name: &str, value: &str) -> Result<()> {
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(Error::Config(format!("{key}: {name:?} is not the name of a header")));
    }
    check_value(&format!("{key}.{name}"), value)
}

/// Checks the value of a header.
fn check_value(key: &str, value: &str) -> Result<()> {
    let reason = "it can't be sent in a header: control characters, such as line breaks, are not allowed";
    HeaderValue::from_str(value).map(drop).map_err(|_| Error::Config(format!("{key}: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_at_fault_is_named_and_no_secret() {
        assert!(check_url("datahub.url", Some("http://datahub-gms:8080")).is_ok());
        for url in ["datahub-gms:8080", "ftp://datahub", "", "http://"] {
            let error = check_url("datahub.url", Some(url)).expect_err(url).to_string();
            assert!(error.contains("datahub.url: "), "{error}");
        }
        assert!(check_token("datahub.token", None).is_ok());
        assert!(check_token("datahub.token", Some("a-token")).is_ok());
        let error = check_token("datahub.token", Some("secret\n")).expect_err("a line break").to_string();
        assert!(error.contains("datahub.token: ") && !error.contains("secret"), "{error}");
        assert!(check_header("traces.headers", "x-key", "secret").is_ok());
        let error = check_header("traces.headers", "x-key", "secret\n").expect_err("a line break").to_string();
        assert!(error.contains("traces.headers.x-key: ") && !error.contains("secret"), "{error}");
        assert!(check_header("traces.headers", "x key", "secret").is_err());
    }
}
