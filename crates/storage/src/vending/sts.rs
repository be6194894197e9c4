//! The client of a Security Token Service: `AssumeRole` with a session policy.
//!
//! The requests are signed with the warehouse's own keys, which never leave this process. AWS assumes the role. MinIO serves the
//! same request at its S3 endpoint, and ignores the role. Errors and logs show only the origin of the endpoint, whose URL may have
//! a password. Start reading at [`Sts::assume_role`].
//!
//! Spec: `AssumeRole` in the AWS Security Token Service API Reference, version 2011-06-15.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use esker_types::with_causes;
use object_store::aws::AwsCredentialProvider;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, RequestBuilder, StatusCode, Url, redirect};
use serde::Deserialize;

use super::{Vended, VendingOptions};
use crate::cloud::S3Access;
use crate::sigv4::{Request, Scope, authorization, sha256_hex};
use crate::{Result, StorageError};

/// Time in which the service must answer one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause before the one repetition of a request that got no answer.
const PAUSE: Duration = Duration::from_millis(200);

/// The characters that a form or a segment of a path has percent-encoded: all but those that RFC 3986 calls unreserved.
pub const ALL_BUT_UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Codes of errors that pass, beside those with a status of 5xx.
const PASSING_CODES: [&str; 5] =
    ["Throttling", "ThrottlingException", "RequestLimitExceeded", "RequestTimeout", "InternalFailure"];

/// The name of a session, which the store's own logs show.
///
/// Two principals never have the same one. AWS takes 2 to 64 of the characters `[A-Za-z0-9_=,.@-]`.
///
/// ```
/// use esker_storage::SessionName;
///
/// assert_eq!(SessionName::of("nightly-job").as_str(), "esker-nightly-job");
/// assert!(SessionName::of("jo doe").as_str().starts_with("esker-jo_doe="));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionName(String);

impl SessionName {
    /// Returns the session name of a principal.
    ///
    /// A name that fits is kept. Any other is cut and followed by `=` and a hash of the whole name. A name that fits has no `=`, so
    /// that it can't be equal to one with a hash.
    pub fn of(principal: &str) -> Self {
        const LONGEST_NAME: usize = 33;
        let fits = |c: char| c.is_ascii_alphanumeric() || "_,.@-".contains(c);
        if principal.len() <= LONGEST_NAME && !principal.is_empty() && principal.chars().all(fits) {
            return Self(format!("esker-{principal}"));
        }
        let shown: String = principal.chars().map(|c| if fits(c) { c } else { '_' }).take(LONGEST_NAME).collect();
        Self(format!("esker-{shown}={}", &sha256_hex(principal.as_bytes())[..24]))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The answer to `AssumeRole`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumeRoleResponse {
    assume_role_result: AssumeRoleResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumeRoleResult {
    credentials: Credentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Credentials {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    expiration: String,
}

/// The answer to a request that is refused.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorResponse {
    error: ErrorDetail,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorDetail {
    code: String,
    #[serde(default)]
    message: String,
}

/// Reads the credentials from an answer. Returns `None` if the answer does not have them.
fn credentials_of(answer: &str) -> Option<Vended> {
    let response: AssumeRoleResponse = quick_xml::de::from_str(answer).ok()?;
    let Credentials { access_key_id, secret_access_key, session_token, expiration } = response.assume_role_result.credentials;
    let expires_ms = DateTime::parse_from_rfc3339(&expiration).ok()?.timestamp_millis();
    Some(Vended { access_key_id, secret_access_key, session_token, expires_ms })
}

/// The client of one warehouse's token service.
pub(super) struct Sts {
    endpoint: Url,
    region: String,
    role_arn: Option<String>,
    external_id: Option<String>,
    duration: Duration,
    keys: AwsCredentialProvider,
    http: Client,
}

impl fmt::Debug for Sts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sts").field("endpoint", &self.origin()).field("role_arn", &self.role_arn).finish_non_exhaustive()
    }
}

impl Sts {
    /// Makes the client. Sends no request.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidLocation`](StorageError::InvalidLocation) if the endpoint is not a URL of HTTP, and
    /// [`StsUnavailable`](StorageError::StsUnavailable) if the HTTP client can't be built.
    pub(super) fn new(options: &VendingOptions, access: S3Access) -> Result<Self> {
        let region = options.region.clone().unwrap_or(access.region);
        let endpoint = options.sts_endpoint.clone().or(access.endpoint).unwrap_or_else(|| aws_endpoint(&region));
        let (endpoint, http) = token_service(&endpoint)?;
        let (role_arn, external_id) = (options.role_arn.clone(), options.external_id.clone());
        Ok(Self { endpoint, region, role_arn, external_id, duration: options.duration, keys: access.credentials, http })
    }

    /// Returns the endpoint as errors and logs show it.
    fn origin(&self) -> String {
        origin(&self.endpoint)
    }

    /// Returns the partition of ARNs: that of the role, else `aws`.
    pub(super) fn partition(&self) -> &str {
        self.role_arn.as_deref().and_then(|arn| arn.split(':').nth(1)).unwrap_or("aws")
    }

    /// Returns credentials with the rights of a session policy. A request without an answer is repeated once.
    ///
    /// # Errors
    ///
    /// Returns [`StsRefused`](StorageError::StsRefused) if the service refuses, [`StsUnavailable`](StorageError::StsUnavailable)
    /// if it does not answer or is overloaded, and the errors of [`StorageError::new`] if the warehouse's own keys can't be got.
    pub(super) async fn assume_role(&self, policy: &str, session: &SessionName) -> Result<Vended> {
        match self.ask(policy, session).await {
            Err(StorageError::StsUnavailable { .. }) => {
                tokio::time::sleep(PAUSE).await;
                self.ask(policy, session).await
            }
            answer => answer,
        }
    }

    /// Returns the form of a request.
    fn form(&self, policy: &str, session: &SessionName) -> String {
        let seconds = self.duration.as_secs().to_string();
        let mut fields = vec![("Action", "AssumeRole"), ("Version", "2011-06-15"), ("RoleSessionName", session.as_str())];
        fields.extend([("DurationSeconds", seconds.as_str()), ("Policy", policy)]);
        fields.extend(self.role_arn.as_deref().map(|arn| ("RoleArn", arn)));
        fields.extend(self.external_id.as_deref().map(|id| ("ExternalId", id)));
        let encoded = fields.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ALL_BUT_UNRESERVED)));
        encoded.collect::<Vec<_>>().join("&")
    }

    /// Sends one request.
    async fn ask(&self, policy: &str, session: &SessionName) -> Result<Vended> {
        let uri = || self.origin();
        let keys = self.keys.get_credential().await.map_err(|e| StorageError::new(&uri(), e))?;
        let (body, time) = (self.form(policy, session), Utc::now().format("%Y%m%dT%H%M%SZ").to_string());
        let host = self.endpoint.host_str().unwrap_or_default();
        let host = self.endpoint.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let kind = "application/x-www-form-urlencoded; charset=utf-8";
        let mut headers = vec![("host", host.as_str()), ("x-amz-date", time.as_str()), ("content-type", kind)];
        headers.extend(keys.token.as_deref().map(|token| ("x-amz-security-token", token)));
        let body_sha256 = sha256_hex(body.as_bytes());
        let path = self.endpoint.path();
        let request = Request { method: "POST", path, query: "", headers: &headers, body_sha256: &body_sha256 };
        let scope = Scope { time: &time, region: &self.region, service: "sts" };
        let signed = authorization(&request, &scope, &keys.key_id, &keys.secret_key);
        let mut sent = self.http.post(self.endpoint.clone()).header("authorization", signed).body(body);
        // The client makes the header `host` itself, of the same URL.
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            sent = sent.header(*name, *value);
        }
        let (status, text) = send(sent, &uri()).await?;
        if status.is_success() {
            return credentials_of(&text).ok_or_else(|| {
                let code = "its answer has no credentials".to_owned();
                StorageError::StsRefused { uri: uri(), code }
            });
        }
        Err(self.refusal(status, &text))
    }

    /// Returns the error for an answer with a status of 4xx or 5xx. Only the log gets the text: it has names of the account.
    fn refusal(&self, status: StatusCode, text: &str) -> StorageError {
        let detail = quick_xml::de::from_str::<ErrorResponse>(text).map(|response| response.error);
        let (code, message) = detail.map_or_else(|_| (status.to_string(), String::new()), |e| (e.code, e.message));
        let uri = self.origin();
        tracing::warn!(endpoint = uri, %status, code, message, "the token service vends no credentials");
        if is_passing(status) || PASSING_CODES.contains(&code.as_str()) {
            StorageError::StsUnavailable { uri, reason: code }
        } else {
            StorageError::StsRefused { uri, code }
        }
    }
}

/// Parses the endpoint of a token service, and makes a client for it. Sends no request.
///
/// # Errors
///
/// Returns [`InvalidLocation`](StorageError::InvalidLocation) if the endpoint is not a URL of HTTP, and
/// [`StsUnavailable`](StorageError::StsUnavailable) if the HTTP client can't be built.
pub(super) fn token_service(endpoint: &str) -> Result<(Url, Client)> {
    let url = Url::parse(endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or_else(|| {
        let reason = "the endpoint of the token service is not a URL that begins with http:// or https://";
        // What stands before the last @ may be a password.
        StorageError::InvalidLocation { uri: endpoint.rsplit('@').next().unwrap_or_default().to_owned(), reason }
    })?;
    let http = Client::builder().timeout(REQUEST_TIMEOUT).redirect(redirect::Policy::none()).build();
    let http = http.map_err(|e| StorageError::StsUnavailable { uri: origin(&url), reason: with_causes(&e) })?;
    Ok((url, http))
}

/// Sends a request to a token service whose origin is `uri`. Returns the status and the text of the answer.
///
/// # Errors
///
/// Returns [`StsUnavailable`](StorageError::StsUnavailable) if the service does not answer.
pub(super) async fn send(request: RequestBuilder, uri: &str) -> Result<(StatusCode, String)> {
    // The URL is that of the configuration, and an error that repeats it could show a password in it.
    let unavailable = |error: reqwest::Error| {
        let reason = with_causes(&error.without_url());
        StorageError::StsUnavailable { uri: uri.to_owned(), reason }
    };
    let answer = request.send().await.map_err(unavailable)?;
    let status = answer.status();
    Ok((status, answer.text().await.map_err(unavailable)?))
}

/// Checks that a refusal with this status passes: the service fails, or wants to be asked again later.
pub(super) fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// Returns the scheme, the host and the port of an endpoint. The rest of the URL may have a password, and clients get errors.
pub(super) fn origin(endpoint: &Url) -> String {
    endpoint.origin().ascii_serialization()
}

/// Returns the endpoint of AWS's token service in a region.
fn aws_endpoint(region: &str) -> String {
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://sts.{region}.amazonaws.com{suffix}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn session_names_have_the_characters_of_aws_and_are_all_different() {
        let long = "x".repeat(33);
        let longer = "x".repeat(34);
        let names = [
            "admin",
            "ad min",
            "ad_min",
            "ad?min",
            "",
            "_",
            "a=b",
            "a_b",
            "sso/jo@x.org",
            "sso_jo@x.org",
            &long,
            &longer,
            "jö",
            "j__",
        ];
        let names: BTreeSet<String> = names.iter().map(|name| SessionName::of(name).as_str().to_owned()).collect();
        assert_eq!(names.len(), 14, "{names:?}");
        for name in &names {
            assert!(name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || "_=,.@-".contains(c)), "{name}");
        }
        // A principal whose name is another one's session.
        let hashed = SessionName::of("ad min");
        let copied = hashed.as_str().trim_start_matches("esker-");
        assert_ne!(SessionName::of(copied), hashed);
    }

    /// The answer is one of MinIO, shortened. AWS's has more elements.
    #[test]
    fn credentials_are_read_from_the_answer_and_not_printed() {
        let answer = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
            <AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
            <AssumedRoleUser><Arn></Arn><AssumeRoleId></AssumeRoleId></AssumedRoleUser><Credentials>\
            <AccessKeyId>JD3SHP6318LL33I3NK1A</AccessKeyId><SecretAccessKey>bi6&amp;WX0</SecretAccessKey>\
            <SessionToken>eyJ.eyJ.ymY</SessionToken><Expiration>2026-11-30T00:43:42Z</Expiration></Credentials>\
            </AssumeRoleResult><ResponseMetadata><RequestId>18ECAB23F2944B0F</RequestId></ResponseMetadata></AssumeRoleResponse>";
        let vended = credentials_of(answer).expect("credentials");
        assert_eq!((vended.access_key_id.as_str(), vended.secret_access_key.as_str()), ("JD3SHP6318LL33I3NK1A", "bi6&WX0"));
        assert_eq!((vended.session_token.as_str(), vended.expires_ms), ("eyJ.eyJ.ymY", 1_795_999_422_000));
        let shown = format!("{vended:?}");
        assert!(shown.contains("JD3SHP6318LL33I3NK1A") && !shown.contains("WX0") && !shown.contains("ymY"), "{shown}");
        assert!(credentials_of("<AssumeRoleResponse/>").is_none() && credentials_of("").is_none());
    }

    #[test]
    fn the_endpoint_of_aws_is_that_of_the_region() {
        assert_eq!(aws_endpoint("eu-west-1"), "https://sts.eu-west-1.amazonaws.com");
        assert_eq!(aws_endpoint("cn-north-1"), "https://sts.cn-north-1.amazonaws.com.cn");
    }
}
