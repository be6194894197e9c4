//! The section `[auth.oidc.NAME]`: an identity provider whose tokens are accepted, and at which users log in to the page.
//!
//! `docs/security/sign-in.md` explains the keys. Start reading at [`OidcConfig`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use esker_auth::{
    ClientSecret, IssuerOptions, KeyTimes, LogInOptions, Providers, SigningAlgorithm, check_issuer_url, check_provider_url,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::check::require;
use crate::{Error, Result};

/// The greatest difference of clocks that can be tolerated, in seconds.
const MAX_SKEW_SECONDS: u64 = 600;

/// The section `[auth.oidc.NAME]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OidcConfig {
    /// The URL of the issuer, exactly as its tokens have it in `iss`. Must be set. It begins with `https://`, unless it is on
    /// loopback.
    pub issuer: Option<String>,
    /// The audiences of which a token must have one in `aud`. Must not be empty.
    pub audiences: Vec<String>,
    /// The URL of the issuer's keys; default: the one in the issuer's document `/.well-known/openid-configuration`.
    pub jwks_url: Option<String>,
    /// A file with certificates in the form PEM that sign the provider's, beside those of the system.
    #[schema(value_type = Option<String>)]
    pub ca_file: Option<PathBuf>,
    /// A file with a bearer token for the requests for keys, which is read at each. The API server of Kubernetes wants one.
    #[schema(value_type = Option<String>)]
    pub bearer_file: Option<PathBuf>,
    /// The claim with the user's name. In a path, dots part the names: `a.b` is the claim `b` in `a`.
    ///
    /// Choose one that the provider gives to nobody else later. Names of people, such as `preferred_username`, may change hands.
    pub name_claim: String,
    /// The claims with the user's groups and roles, as texts or arrays of them, such as `realm_access.roles`.
    pub claims: Vec<String>,
    /// The algorithms that tokens may be signed with.
    pub algorithms: Vec<SigningAlgorithm>,
    /// Seconds by which the clocks of the issuer and of this server may differ: at most 600.
    #[schema(maximum = 600)]
    pub clock_skew_seconds: u64,
    /// The longest time in seconds from `iat` to `exp`; a token that is valid for longer is refused. Default: any time.
    #[schema(minimum = 1)]
    pub max_lifetime_seconds: Option<u64>,
    /// Seconds after which keys that are in use are fetched again. Must not be 0.
    #[schema(minimum = 1)]
    pub keys_refresh_seconds: u64,
    /// The least number of seconds between two fetches of keys, also for tokens with an unknown key. Must not be 0.
    #[schema(minimum = 1)]
    pub keys_refetch_seconds: u64,
    /// Seconds for which a key goes on that the issuer no longer publishes; 0: it ends with the next fetch.
    pub keys_overlap_seconds: u64,
    /// Seconds for which known keys count while the provider does not answer. Must not be less than `keys_refresh_seconds`.
    #[schema(minimum = 1)]
    pub keys_max_age_seconds: u64,
    /// The log-in of users to the web page at this provider.
    pub login: LoginConfig,
}

/// The section `[auth.oidc.NAME.login]`: the log-in to the web page by the authorization code flow. It is on once `client_id` is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoginConfig {
    /// The client that this server is at the provider. The log-in needs `server.public_url`, and its address for answers there is
    /// `PUBLIC_URL/login/NAME/callback`.
    pub client_id: Option<String>,
    /// The secret of the client; default: the client is a public one, which has PKCE alone.
    #[schema(write_only)]
    pub client_secret: Option<String>,
    /// A file with the secret of the client, which is read at each log-in.
    #[schema(value_type = Option<String>)]
    pub credential_file: Option<PathBuf>,
    /// The text of the button after `Log in with`; default: the name of the section.
    pub label: Option<String>,
    /// The scopes that are asked for, with `openid`. A provider may need one for groups.
    pub scopes: Vec<String>,
    /// Seconds after which the user has to log in again: what changes at the provider holds from then on. Must not be 0.
    #[schema(minimum = 1)]
    pub session_seconds: u64,
}

impl Default for LoginConfig {
    fn default() -> Self {
        Self {
            client_id: None,
            client_secret: None,
            credential_file: None,
            label: None,
            scopes: vec!["openid".to_owned()],
            session_seconds: 3600,
        }
    }
}

impl LoginConfig {
    /// Checks the section of the provider `name`.
    fn check(&self, name: &str) -> Result<()> {
        let key = |key: &str| format!("auth.oidc.{name}.login.{key}");
        let Some(client_id) = &self.client_id else {
            let unused = self.client_secret.is_none() && self.credential_file.is_none();
            return require(unused, || format!("{} is not set", key("client_id")));
        };
        require(!client_id.is_empty(), || format!("{} must not be empty", key("client_id")))?;
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        require(plain, || format!("auth.oidc.{name} has a log-in, so its name may have letters, digits, - and _ only"))?;
        let one = self.client_secret.is_none() || self.credential_file.is_none();
        require(one, || format!("{} and credential_file can't both be set", key("client_secret")))?;
        let filled = self.client_secret.as_deref() != Some("");
        require(filled, || format!("{} must not be empty", key("client_secret")))?;
        let asks = self.scopes.iter().any(|scope| scope == "openid");
        require(asks, || format!("{} must have \"openid\"", key("scopes")))?;
        require(self.session_seconds != 0, || format!("{} must not be 0", key("session_seconds")))
    }

    /// Returns the options of the log-in at the provider `name`, if it is on.
    fn options(&self, name: &str) -> Option<LogInOptions> {
        let text = self.client_secret.clone().map(ClientSecret::Text);
        Some(LogInOptions {
            name: name.to_owned(),
            label: self.label.clone().unwrap_or_else(|| name.to_owned()),
            client_id: self.client_id.clone()?,
            secret: text.or_else(|| self.credential_file.clone().map(ClientSecret::File)),
            scopes: self.scopes.clone(),
            session: Duration::from_secs(self.session_seconds),
        })
    }
}

impl Default for OidcConfig {
    fn default() -> Self {
        Self {
            issuer: None,
            audiences: Vec::new(),
            jwks_url: None,
            ca_file: None,
            bearer_file: None,
            name_claim: "sub".to_owned(),
            claims: vec!["groups".to_owned(), "roles".to_owned()],
            algorithms: SigningAlgorithm::ALL.to_vec(),
            clock_skew_seconds: 60,
            max_lifetime_seconds: None,
            keys_refresh_seconds: 300,
            keys_refetch_seconds: 10,
            keys_overlap_seconds: 300,
            keys_max_age_seconds: 24 * 3600,
            login: LoginConfig::default(),
        }
    }
}

impl OidcConfig {
    /// Checks the section of a provider.
    fn check(&self, name: &str) -> Result<()> {
        let key = |key: &str| format!("auth.oidc.{name}.{key}");
        let url = |named: &str, checked: std::result::Result<(), &str>| {
            checked.map_err(|why| Error::Config(format!("{}: {why}", key(named))))
        };
        let issuer = self.issuer.as_deref().ok_or_else(|| Error::Config(format!("{} is not set", key("issuer"))))?;
        url("issuer", check_issuer_url(issuer))?;
        url("jwks_url", self.jwks_url.as_deref().map_or(Ok(()), check_provider_url))?;
        let named = !self.audiences.is_empty() && self.audiences.iter().all(|audience| !audience.is_empty());
        require(named, || format!("{} must name at least one audience, and none may be empty", key("audiences")))?;
        require(!self.name_claim.is_empty(), || format!("{} must not be empty", key("name_claim")))?;
        require(!self.algorithms.is_empty(), || format!("{} must not be empty", key("algorithms")))?;
        let small = self.clock_skew_seconds <= MAX_SKEW_SECONDS;
        require(small, || format!("{} must be at most {MAX_SKEW_SECONDS}", key("clock_skew_seconds")))?;
        require(self.max_lifetime_seconds != Some(0), || format!("{} must not be 0", key("max_lifetime_seconds")))?;
        require(self.keys_refresh_seconds != 0, || format!("{} must not be 0", key("keys_refresh_seconds")))?;
        require(self.keys_refetch_seconds != 0, || format!("{} must not be 0", key("keys_refetch_seconds")))?;
        let kept = self.keys_max_age_seconds >= self.keys_refresh_seconds;
        require(kept, || format!("{} must not be less than keys_refresh_seconds", key("keys_max_age_seconds")))?;
        self.login.check(name)
    }

    /// Returns the options of the issuer in the section `name`. Reads the file of certificates.
    fn options(&self, name: &str) -> Result<IssuerOptions> {
        let read = |file: &PathBuf| std::fs::read(file).map_err(|source| Error::Io { path: file.display().to_string(), source });
        Ok(IssuerOptions {
            issuer: self.issuer.clone().unwrap_or_default(),
            audiences: self.audiences.clone(),
            jwks_url: self.jwks_url.clone(),
            name_claim: self.name_claim.clone(),
            claims: self.claims.clone(),
            algorithms: self.algorithms.clone(),
            clock_skew: Duration::from_secs(self.clock_skew_seconds),
            max_lifetime: self.max_lifetime_seconds.map(Duration::from_secs),
            key_times: KeyTimes {
                refresh: Duration::from_secs(self.keys_refresh_seconds),
                refetch: Duration::from_secs(self.keys_refetch_seconds),
                overlap: Duration::from_secs(self.keys_overlap_seconds),
                max_age: Duration::from_secs(self.keys_max_age_seconds),
            },
            ca_pem: self.ca_file.as_ref().map(read).transpose()?,
            bearer_file: self.bearer_file.clone(),
            log_in: self.login.options(name),
        })
    }
}

/// Checks the sections of all providers. `public_url` is the address of this server for browsers.
pub(super) fn check_all(providers: &BTreeMap<String, OidcConfig>, public_url: Option<&str>) -> Result<()> {
    providers.iter().try_for_each(|(name, provider)| provider.check(name))?;
    if let Some((name, _)) = providers.iter().find(|(_, provider)| provider.login.client_id.is_some()) {
        // Without TLS, a browser keeps no cookie of the page.
        let safe = public_url.is_some_and(|url| check_provider_url(url).is_ok());
        require(safe, || {
            format!("auth.oidc.{name}.login needs server.public_url, which begins with https:// unless it is on loopback")
        })?;
    }
    for (name, provider) in providers {
        for (other_name, other) in providers.iter().filter(|(other_name, _)| *other_name != name) {
            let (issuer, other) = (provider.issuer.as_deref().unwrap_or_default(), other.issuer.as_deref().unwrap_or_default());
            // Jobs, events and logs show users as `ISSUER/NAME`.
            let confusable = other == issuer || other.strip_prefix(issuer).is_some_and(|rest| rest.starts_with('/'));
            require(!confusable, || {
                format!("auth.oidc.{other_name}.issuer is that of auth.oidc.{name}, or begins with it; users could be confused")
            })?;
        }
    }
    Ok(())
}

/// Returns the issuers of users' tokens. Reads files, and sends no request.
///
/// # Errors
///
/// Returns [`Io`](Error::Io) if a file of certificates can't be read, and [`Config`](Error::Config) if an issuer's options can't
/// be used.
pub(crate) fn providers(sections: &BTreeMap<String, OidcConfig>) -> Result<Providers> {
    let options = sections.iter().map(|(name, section)| section.options(name)).collect::<Result<_>>()?;
    Providers::new(options).map_err(|error| Error::Config(format!("auth.oidc: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(issuer: &str) -> OidcConfig {
        OidcConfig { issuer: Some(issuer.to_owned()), audiences: vec!["esker".to_owned()], ..OidcConfig::default() }
    }

    fn login() -> LoginConfig {
        LoginConfig { client_id: Some("esker-page".to_owned()), client_secret: Some("s".to_owned()), ..LoginConfig::default() }
    }

    fn refusal(change: impl FnOnce(&mut OidcConfig)) -> String {
        let mut section = of("https://idp.example");
        change(&mut section);
        let refused = check_all(&BTreeMap::from([("sso".to_owned(), section)]), Some("https://esker.example"));
        refused.map_or_else(|error| error.to_string(), |()| "none".to_owned())
    }

    #[test]
    fn a_provider_is_checked_and_the_key_at_fault_is_named() {
        assert_eq!(refusal(|_| {}), "none");
        for (refused, key) in [
            (refusal(|c| c.issuer = None), "issuer"),
            (refusal(|c| c.issuer = Some("http://idp.example".to_owned())), "issuer"),
            (refusal(|c| c.audiences.clear()), "audiences"),
            (refusal(|c| c.audiences.push(String::new())), "audiences"),
            (refusal(|c| c.jwks_url = Some("http://10.0.0.1/keys".to_owned())), "jwks_url"),
            (refusal(|c| c.algorithms.clear()), "algorithms"),
            (refusal(|c| c.name_claim.clear()), "name_claim"),
            (refusal(|c| c.clock_skew_seconds = 601), "clock_skew_seconds"),
            (refusal(|c| c.max_lifetime_seconds = Some(0)), "max_lifetime_seconds"),
            (refusal(|c| c.keys_refresh_seconds = 0), "keys_refresh_seconds"),
            (refusal(|c| c.keys_refetch_seconds = 0), "keys_refetch_seconds"),
            (refusal(|c| c.keys_max_age_seconds = 299), "keys_max_age_seconds"),
            (refusal(|c| c.login.client_secret = Some("s".to_owned())), "login.client_id"),
            (refusal(|c| c.login.client_id = Some(String::new())), "login.client_id"),
            (refusal(|c| c.login = LoginConfig { scopes: Vec::new(), ..login() }), "login.scopes"),
            (refusal(|c| c.login = LoginConfig { session_seconds: 0, ..login() }), "login.session_seconds"),
            (refusal(|c| c.login = LoginConfig { client_secret: Some(String::new()), ..login() }), "login.client_secret"),
            (refusal(|c| c.login = LoginConfig { credential_file: Some("f".into()), ..login() }), "login.client_secret"),
        ] {
            assert!(refused.contains(&format!("auth.oidc.sso.{key}")), "{key}: {refused}");
        }
    }

    #[test]
    fn a_log_in_needs_an_address_for_answers_which_tls_protects_and_a_name_that_fits_into_it() {
        let check = |name: &str, url: Option<&str>| {
            let section = OidcConfig { login: login(), ..of("https://idp.example") };
            check_all(&BTreeMap::from([(name.to_owned(), section)]), url)
        };
        for good in ["https://esker.example", "http://localhost:8181"] {
            assert!(check("sso", Some(good)).is_ok(), "{good}");
        }
        for bad in [None, Some("http://esker.example")] {
            assert!(check("sso", bad).is_err(), "{bad:?}");
        }
        for name in ["a/b", "a b", "a.b", ".."] {
            assert!(check(name, Some("https://esker.example")).is_err(), "{name}");
        }
    }

    #[test]
    fn no_user_of_one_issuer_is_shown_as_one_of_another() {
        let check = |issuers: [&str; 2]| {
            let sections = issuers.iter().enumerate().map(|(n, issuer)| (format!("p{n}"), of(issuer)));
            check_all(&sections.collect(), None)
        };
        assert!(check(["https://idp.example/a", "https://idp.example/ab"]).is_ok());
        for issuers in [["https://a.example", "https://a.example"], ["https://a.example/b", "https://a.example"]] {
            assert!(check(issuers).is_err(), "{issuers:?}");
        }
    }

    #[test]
    fn a_file_of_certificates_that_is_missing_stops_the_start_and_a_provider_that_is_down_does_not() {
        let mut sections = BTreeMap::from([("sso".to_owned(), of("https://127.0.0.1:9/none"))]);
        assert!(providers(&sections).is_ok());
        let missing = OidcConfig { ca_file: Some("/does/not/exist.pem".into()), ..of("https://idp.example") };
        sections.insert("other".to_owned(), missing);
        assert!(matches!(providers(&sections), Err(Error::Io { .. })));
    }
}
