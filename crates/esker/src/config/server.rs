//! The sections `[server]` and `[auth]`: addresses, limits and times of the server, and its callers.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use esker_auth::{AuthOptions, CertificateMap, Providers};
use esker_rest::{GuardOptions, Network, PublicUrl, SessionOptions};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::check::require;
use super::oidc::{self, OidcConfig};
use super::{LimitsConfig, MtlsConfig, OpaConfig, StateConfig, TlsConfig};
use crate::{Error, Result};

/// The section `[server]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// The address to listen on; default: loopback.
    #[schema(value_type = String)]
    pub listen: IpAddr,
    /// The port of the REST catalog, the management API, the web page and the metrics; 0: any free port.
    #[schema(maximum = 65535)]
    pub rest_port: u16,
    /// The port of Flight SQL; 0: any free port.
    #[schema(maximum = 65535)]
    pub flight_port: u16,
    /// The address and port for other servers on the database, such as `10.0.0.5:8182`. Commits to a table that several such servers
    /// commit to then go to one of them: see `docs/catalog.md`. Needs PostgreSQL. Default: nothing is forwarded.
    #[schema(value_type = Option<String>)]
    pub peer_listen: Option<SocketAddr>,
    /// The address and port at which other servers reach `peer_listen`; default: `peer_listen` itself, which must not be `0.0.0.0` or
    /// `[::]` then.
    pub peer_address: Option<String>,
    /// The address of this server for browsers, such as `https://esker.example`. If it is set, requests for other names are
    /// refused.
    pub public_url: Option<String>,
    /// Further names by which clients call this server, without ports. If there is one, requests for other names are refused.
    ///
    /// Addresses, `localhost` and the name in `server.public_url` need not be listed. With `auth.anonymous`, other names are always
    /// refused.
    pub allowed_hosts: Vec<String>,
    /// Addresses or networks of proxies, such as `10.0.0.0/8`. `x-forwarded-for`, `-host` and `-proto` count only from these.
    pub trusted_proxies: Vec<String>,
    /// Maximum size of a request body, in bytes.
    pub max_body_bytes: usize,
    /// Seconds that requests and jobs get to end when the server stops.
    pub drain_seconds: u64,
    /// Seconds for which the outcome of a request with an `Idempotency-Key` is remembered.
    pub idempotency_seconds: u64,
    /// Seconds that a commit waits for its turn at a table; then it is answered 429, with nothing changed. Must not be 0.
    ///
    /// A commit that has begun gets as many seconds again, before it is answered that its outcome is unknown. Maintenance waits
    /// ten times as long for its turn.
    #[schema(minimum = 1)]
    pub commit_wait_seconds: u64,
    /// Milliseconds after which the request to plan a scan is answered `submitted`, if the plan is not complete.
    pub plan_wait_ms: u64,
    /// TLS of both ports.
    pub tls: TlsConfig,
    /// TLS of Flight SQL, if it is another one. Once `certificate` is set, this section holds there instead of `server.tls`.
    pub flight_tls: TlsConfig,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let listen = IpAddr::from([127, 0, 0, 1]);
        Self {
            listen,
            rest_port: 8181,
            flight_port: 32010,
            peer_listen: None,
            peer_address: None,
            public_url: None,
            allowed_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            max_body_bytes: 64 << 20,
            drain_seconds: 20,
            idempotency_seconds: 24 * 3600,
            commit_wait_seconds: 30,
            plan_wait_ms: 5000,
            tls: TlsConfig::default(),
            flight_tls: TlsConfig::default(),
        }
    }
}

impl ServerConfig {
    pub(super) fn check(&self, auth: &AuthConfig, limits: &LimitsConfig, state: &StateConfig) -> Result<()> {
        self.check_peers(state)?;
        require(self.commit_wait_seconds != 0, || "server.commit_wait_seconds must not be 0".to_owned())?;
        let differ = self.rest_port == 0 || self.rest_port != self.flight_port;
        require(differ, || "server.rest_port and server.flight_port must differ".to_owned())?;
        for host in &self.allowed_hosts {
            let is_name = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
            require(is_name, || format!("server.allowed_hosts: {host:?} is no name; write it without scheme, port and path"))?;
        }
        self.tls.check("server.tls")?;
        self.flight_tls.check("server.flight_tls")?;
        self.guard_options(auth, limits).map(drop)
    }

    /// Checks the addresses for other servers.
    fn check_peers(&self, state: &StateConfig) -> Result<()> {
        let Some(listen) = self.peer_listen else {
            return require(self.peer_address.is_none(), || "server.peer_address needs server.peer_listen".to_owned());
        };
        require(state.url.is_some(), || {
            "server.peer_listen needs a PostgreSQL database in state.url: on SQLite there is one server".to_owned()
        })?;
        match &self.peer_address {
            Some(address) => {
                let is_address = address.rsplit_once(':').is_some_and(|(host, port)| {
                    let is_host = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
                    !host.is_empty() && host.chars().all(is_host) && port.parse::<u16>().is_ok_and(|port| port != 0)
                });
                require(is_address, || format!("server.peer_address: {address:?} is no HOST:PORT"))
            }
            None => require(!listen.ip().is_unspecified(), || {
                "server.peer_listen is every address of this machine; set server.peer_address, where others reach it".to_owned()
            }),
        }
    }

    /// Returns the section that holds for Flight SQL, with its name.
    pub(crate) fn tls_of_flight(&self) -> (&'static str, &TlsConfig) {
        match self.flight_tls.is_on() {
            true => ("server.flight_tls", &self.flight_tls),
            false => ("server.tls", &self.tls),
        }
    }

    /// Returns the settings of the guard in front of all routes.
    ///
    /// # Errors
    ///
    /// Returns [`Config`](Error::Config) if `server.public_url` or one of `server.trusted_proxies` can't be parsed.
    pub(crate) fn guard_options(&self, auth: &AuthConfig, limits: &LimitsConfig) -> Result<GuardOptions> {
        let proxies = self.trusted_proxies.iter().map(|text| parsed::<Network>("server.trusted_proxies", text));
        Ok(GuardOptions {
            anonymous: auth.anonymous,
            allowed_hosts: self.allowed_hosts.clone(),
            public_url: self.public_url.as_deref().map(|text| parsed::<PublicUrl>("server.public_url", text)).transpose()?,
            trusted_proxies: proxies.collect::<Result<_>>()?,
            header_bytes: limits.header_bytes,
        })
    }

    /// Returns the address of the REST service, as configured.
    pub(crate) fn rest_address(&self) -> SocketAddr {
        (self.listen, self.rest_port).into()
    }

    /// Returns the address of Flight SQL, as configured.
    pub(crate) fn flight_address(&self) -> SocketAddr {
        (self.listen, self.flight_port).into()
    }

    /// Returns the time that requests and jobs get to end when the server stops.
    pub(crate) fn drain_timeout(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

/// Parses the text of a key. The error begins with the key.
fn parsed<T: FromStr<Err: Display>>(key: &str, text: &str) -> Result<T> {
    text.parse().map_err(|e: T::Err| Error::Config(format!("{key}: {e}")))
}

/// The section `[auth]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Callers on loopback need no token. An error unless `server.listen` is a loopback address.
    ///
    /// A wrong token is refused all the same, and a request that a proxy passes on does not come from loopback.
    pub anonymous: bool,
    /// The token of the principal `admin`, of at least 16 characters. If it is not set, the first start makes one and prints it.
    ///
    /// Each start makes it valid again, also after it was revoked.
    #[schema(write_only, min_length = 16)]
    pub token: Option<String>,
    /// Identity providers whose tokens are accepted, by name: see `docs/security/sign-in.md`.
    pub oidc: BTreeMap<String, OidcConfig>,
    /// The decisions that Trino asks for: see `docs/security/engines.md`.
    pub opa: OpaConfig,
    /// The life of the tokens that `POST /v1/oauth/tokens` issues.
    pub tokens: TokensConfig,
    /// Sessions of the web page.
    pub page: PageConfig,
    /// Clients that a certificate authenticates when they send no token. Each entry of `[[auth.mtls]]` has `client` with the client's
    /// name, and one whole name of its certificate: `uri`, `dns`, `email` or `common_name`. Needs `client_ca` in `[server.tls]`.
    pub mtls: Vec<MtlsConfig>,
}

/// The section `[auth.tokens]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokensConfig {
    /// Seconds until a token ends that was issued in exchange for another one. Must not be 0.
    #[schema(minimum = 1)]
    pub access_seconds: u64,
    /// Seconds until a chain of exchanges ends, in which each token is exchanged for the next. Must not be 0.
    ///
    /// A chain begins with a token that a person made, and ends with that one if it ends earlier.
    #[schema(minimum = 1)]
    pub max_session_seconds: u64,
}

impl Default for TokensConfig {
    fn default() -> Self {
        Self { access_seconds: 3600, max_session_seconds: 30 * 24 * 3600 }
    }
}

/// The section `[auth.page]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PageConfig {
    /// Seconds without a request after which a log-in to the web page ends. Must not be 0.
    #[schema(minimum = 1)]
    pub idle_seconds: u64,
    /// Seconds after which a log-in to the web page ends even if the page is used. Must not be 0.
    #[schema(minimum = 1)]
    pub max_seconds: u64,
}

impl Default for PageConfig {
    fn default() -> Self {
        Self { idle_seconds: 1800, max_seconds: 12 * 3600 }
    }
}

impl PageConfig {
    fn check(&self) -> Result<()> {
        require(self.idle_seconds != 0, || "auth.page.idle_seconds must not be 0".to_owned())?;
        require(self.max_seconds != 0, || "auth.page.max_seconds must not be 0".to_owned())
    }

    /// Returns the times after which a session ends.
    pub(crate) fn session_options(&self) -> SessionOptions {
        SessionOptions { idle: Duration::from_secs(self.idle_seconds), max: Duration::from_secs(self.max_seconds) }
    }
}

impl AuthConfig {
    pub(super) fn check(&self, server: &ServerConfig) -> Result<()> {
        let safe = !self.anonymous || server.listen.is_loopback();
        require(safe, || "auth.anonymous is only allowed where server.listen is a loopback address".to_owned())?;
        let long = self.token.as_ref().is_none_or(|token| token.len() >= 16);
        require(long, || "auth.token is too short: give at least 16 characters".to_owned())?;
        let TokensConfig { access_seconds, max_session_seconds } = self.tokens;
        require(access_seconds != 0, || "auth.tokens.access_seconds must not be 0".to_owned())?;
        require(max_session_seconds != 0, || "auth.tokens.max_session_seconds must not be 0".to_owned())?;
        let shown = server.tls.client_ca.is_some() || server.flight_tls.client_ca.is_some();
        let no_ca = "auth.mtls needs server.tls.client_ca: without it, no client shows a certificate";
        require(self.mtls.is_empty() || shown, || no_ca.to_owned())?;
        self.certificates()?;
        oidc::check_all(&self.oidc, server.public_url.as_deref())?;
        self.page.check()
    }

    /// Returns the clients by the names of their certificates.
    ///
    /// # Errors
    ///
    /// Returns [`Config`](Error::Config) if an entry of `auth.mtls` has not exactly one name, or has one that can't be used.
    pub(crate) fn certificates(&self) -> Result<CertificateMap> {
        let mut map = CertificateMap::default();
        for entry in &self.mtls {
            let wrong = |why: String| Error::Config(format!("auth.mtls: client {:?}: {why}", entry.client));
            map.insert(entry.name().map_err(wrong)?, &entry.client).map_err(|error| wrong(error.to_string()))?;
        }
        Ok(map)
    }

    /// Returns the issuers of users' tokens. Reads files, and sends no request.
    ///
    /// # Errors
    ///
    /// Returns [`Io`](Error::Io) if a file of certificates can't be read, and [`Config`](Error::Config) if an issuer's options
    /// can't be used.
    pub(crate) fn providers(&self) -> Result<Providers> {
        oidc::providers(&self.oidc)
    }

    /// Returns the options of the check of tokens.
    pub(crate) fn options(&self) -> AuthOptions {
        AuthOptions {
            anonymous: self.anonymous,
            access: Duration::from_secs(self.tokens.access_seconds),
            max_session: Duration::from_secs(self.tokens.max_session_seconds),
        }
    }
}
