//! The guard in front of all routes: what may reach the server at all, before anybody is authenticated.
//!
//! A page of another site can make a reader's browser send requests to this server. Where callers need no token, such a request has
//! all rights. So the guard checks two things:
//!
//! - `Host` must be a name of this server. A page whose own name leads to the server's address (DNS rebinding) shows its own name.
//! - The site that the browser names in `Sec-Fetch-Site` or `Origin` must be this one, for every method that may change something.
//!   Where callers need no token, this holds for each request to the API. No answer has CORS headers, so no other page reads any.
//!
//! Start reading at [`GuardOptions::admit`], which finds the [`Peer`] of a request or refuses the request. The routes of the page
//! take the [`Transport`] as well.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::ExtensionRejection;
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use esker_auth::{ClientCertificate, Connection};
use esker_types::{ErrorCode, is_from_loopback, is_passed_on};

use crate::network::{client_address, is_trusted};
use crate::{ApiError, App, Network};

/// The maximum number of characters of a foreign name in an error.
const SHOWN_CHARACTERS: usize = 100;

/// The settings of the guard.
#[derive(Debug, Clone, Default)]
pub struct GuardOptions {
    /// `true` if callers on loopback need no token.
    pub anonymous: bool,
    /// The names by which clients call this server, without ports. Addresses and `localhost` need not be listed.
    pub allowed_hosts: Vec<String>,
    /// The address of this server for browsers, if it is configured.
    pub public_url: Option<PublicUrl>,
    /// The networks of proxies whose `x-forwarded-…` headers count.
    pub trusted_proxies: Vec<Network>,
    /// The maximum size of the request line and all headers, in bytes.
    pub header_bytes: usize,
}

/// The address of the server for browsers: scheme and host, without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    /// `true` if the scheme is `https`.
    https: bool,
    authority: Authority,
}

impl PublicUrl {
    /// Returns the whole address of a path of this server.
    pub(crate) fn with_path(&self, path: &str) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.authority)
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    /// Parses a URL such as `https://esker.example`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no address of a server; write https://NAME or http://NAME, without a path");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let (scheme, authority) = (uri.scheme_str(), uri.authority().cloned());
        let https = match scheme {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let bare =
            uri.path_and_query().is_none_or(|path| path == "/") && authority.as_ref().is_some_and(|a| !a.as_str().contains('@'));
        authority.filter(|_| bare).map(|authority| Self { https, authority }).ok_or_else(wrong)
    }
}

/// The way on which an answer reaches the browser, which decides the cookies that it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// The browser calls its own machine.
    Loopback,
    /// The browser uses TLS.
    Https,
    /// The browser uses plain HTTP over a network.
    Plain,
}

impl FromRequestParts<App> for Transport {
    type Rejection = ExtensionRejection;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ExtensionRejection> {
        let Extension(peer) = Extension::<Peer>::from_request_parts(parts, app).await?;
        Ok(app.inner.options.guard.transport(&parts.uri, &parts.headers, &peer))
    }
}

/// The other end of a request, as the guard found it.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The address of the client; behind a trusted proxy, the one that the proxy tells.
    pub(crate) address: IpAddr,
    /// `true` if the connection comes from this machine and no proxy passes the request on.
    pub(crate) loopback: bool,
    /// `true` if the connection has TLS that ends at this server. A proxy's TLS does not count.
    pub(crate) is_tls: bool,
    /// The client certificate of the connection. `None` if a proxy passes the request on: the certificate is the proxy's then.
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
    /// `true` if the connection comes from a trusted proxy, whose `x-forwarded-…` headers count.
    through_proxy: bool,
}

/// Refuses a request that may not reach the server, and adds the [`Peer`] to every other one.
pub(crate) async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    match app.inner.options.guard.admit(&request) {
        Ok(peer) => {
            request.extensions_mut().insert(peer);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

impl GuardOptions {
    /// Checks size, host and site of a request.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorCode::TooLarge`] if the headers are too large, and [`ErrorCode::Forbidden`] if the request names another host
    /// or was sent by a page of another site.
    pub(crate) fn admit(&self, request: &Request) -> Result<Peer, ApiError> {
        let headers = request.headers();
        let uri_bytes = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
        if headers.iter().fold(uri_bytes, |sum, (name, value)| sum + name.as_str().len() + value.len()) > self.header_bytes {
            let what = format!("the request line and headers are over limits.header_bytes ({})", self.header_bytes);
            return Err(ApiError::new(ErrorCode::TooLarge, what).with_status(431));
        }
        let connection = request.extensions().get::<ConnectInfo<Connection>>().map(|info| &info.0);
        let socket = connection.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |connection| connection.address.ip());
        let through_proxy = is_trusted(&self.trusted_proxies, socket);
        let hosts = hosts(request.uri(), headers, through_proxy);
        let checked = self.anonymous || !self.allowed_hosts.is_empty() || self.public_url.is_some();
        if checked {
            self.check_hosts(&hosts)?;
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let open = reads && !(self.anonymous && is_api(request.uri().path()));
        if !open && self.is_of_other_site(headers, &hosts) {
            let what = "the request was sent by a page of another site; open the page of this server";
            return Err(ApiError::new(ErrorCode::Forbidden, what));
        }
        let passed_on = is_passed_on(|name| headers.contains_key(name));
        Ok(Peer {
            address: client_address(&self.trusted_proxies, socket, headers),
            loopback: is_from_loopback(socket, |name| headers.contains_key(name)),
            is_tls: connection.is_some_and(Connection::is_tls),
            certificate: connection.and_then(Connection::certificate).filter(|_| !passed_on).cloned(),
            through_proxy,
        })
    }

    /// Checks that a request names a host, and only hosts of this server.
    fn check_hosts(&self, hosts: &[String]) -> Result<(), ApiError> {
        let foreign = match hosts.iter().find(|host| !self.is_own_host(host)) {
            None if !hosts.is_empty() => return Ok(()),
            foreign => foreign.map_or("", String::as_str),
        };
        let shown: String = foreign.chars().take(SHOWN_CHARACTERS).collect();
        let what =
            format!("host {shown:?} is no name of this server; call it by its address, or list the name in server.allowed_hosts");
        Err(ApiError::new(ErrorCode::Forbidden, what))
    }

    /// Checks whether a host is this server: an address, `localhost`, or a configured name. The port does not matter.
    ///
    /// An address is always right. A page that is reached by an address comes from the machine that has the address.
    fn is_own_host(&self, host: &str) -> bool {
        let Some(name) = host_name(host) else { return false };
        match address_of(&name) {
            Some(address) => !address.is_unspecified(),
            None => {
                let public = self.public_url.as_ref().and_then(|url| host_name(url.authority.as_str()));
                name == "localhost"
                    || public.is_some_and(|own| own == name)
                    || self.allowed_hosts.iter().any(|own| is_name(own, &name))
            }
        }
    }

    /// Checks whether a page of another site sent the request. A request that names no site comes from no page.
    ///
    /// Another port of this machine is another site too.
    fn is_of_other_site(&self, headers: &HeaderMap, hosts: &[String]) -> bool {
        if let Some(site) = headers.get("sec-fetch-site") {
            return !matches!(site.as_bytes(), b"same-origin" | b"none");
        }
        let Some(origin) = headers.get(ORIGIN) else { return false };
        let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
        let public = self.public_url.as_ref().map(|url| url.authority.as_str());
        let own =
            |authority: &str| hosts.iter().map(String::as_str).chain(public).any(|host| host.eq_ignore_ascii_case(authority));
        let same = authority.is_some_and(own);
        !same
    }

    /// Returns the way on which the answer to an admitted request reaches a browser.
    fn transport(&self, uri: &Uri, headers: &HeaderMap, peer: &Peer) -> Transport {
        let hosts = hosts(uri, headers, peer.through_proxy);
        let proto = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok()).filter(|_| peer.through_proxy);
        let public = |url: &PublicUrl| url.https && hosts.iter().any(|host| host.eq_ignore_ascii_case(url.authority.as_str()));
        // Browsers send `Sec-Fetch-Site` over TLS, and to their own machine.
        let is_https = peer.is_tls
            || proto.is_some_and(|proto| proto.rsplit(',').next().is_some_and(|last| last.trim() == "https"))
            || self.public_url.as_ref().is_some_and(public);
        if is_https {
            Transport::Https
        } else if are_local(&hosts) {
            Transport::Loopback
        } else if headers.contains_key("sec-fetch-site") {
            Transport::Https
        } else {
            Transport::Plain
        }
    }
}

/// Checks that a browser is to use TLS alone from now on for the name that it called (`Strict-Transport-Security`).
///
/// This holds if TLS ends at this server. Where a proxy ends it, the proxy's owner decides. The names of the browser's own machine
/// are left out, because other servers there share them.
pub(crate) fn needs_strict_transport(uri: &Uri, headers: &HeaderMap, peer: &Peer) -> bool {
    peer.is_tls && !are_local(&hosts(uri, headers, peer.through_proxy))
}

/// Checks that all hosts that a request names are the machine of the browser, and that there is one.
fn are_local(hosts: &[String]) -> bool {
    let local = |name: &str| name == "localhost" || address_of(name).is_some_and(|address| address.is_loopback());
    !hosts.is_empty() && hosts.iter().all(|host| host_name(host).is_some_and(|name| local(&name)))
}

/// Returns the hosts that a request names. A trusted proxy that names another one replaces them.
fn hosts(uri: &Uri, headers: &HeaderMap, through_proxy: bool) -> Vec<String> {
    let text = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned()).collect()
    };
    let forwarded = text("x-forwarded-host");
    if let Some(host) = forwarded.last().and_then(|list| list.rsplit(',').next()).filter(|_| through_proxy) {
        return vec![host.trim().to_owned()];
    }
    let named = uri.authority().map(|authority| authority.as_str().to_owned());
    named.into_iter().chain(text(HOST.as_str())).collect()
}

/// Returns the name in a host with or without a port, in lower case and without a final dot. `None` if it is no host.
fn host_name(host: &str) -> Option<String> {
    let authority: Authority = host.parse().ok().filter(|_| !host.contains('@'))?;
    let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
    (!name.is_empty()).then_some(name)
}

/// Returns the address that a name is, without the brackets of IPv6.
fn address_of(name: &str) -> Option<IpAddr> {
    name.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Checks whether a configured name is the name of a request, which is in lower case.
fn is_name(configured: &str, name: &str) -> bool {
    configured.trim_end_matches('.').eq_ignore_ascii_case(name)
}

/// Checks whether a path belongs to the API: what programs read, in contrast to the page.
fn is_api(path: &str) -> bool {
    ["/v1", "/api", "/metrics"]
        .iter()
        .any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::body::Body;
    use esker_auth::TlsSession;
    use esker_types::FORWARDED_HEADERS;

    use super::*;

    const HERE: (&str, &str) = ("host", "127.0.0.1:8181");

    fn options() -> GuardOptions {
        GuardOptions { header_bytes: 1000, ..GuardOptions::default() }
    }

    fn anonymous() -> GuardOptions {
        GuardOptions { anonymous: true, ..options() }
    }

    fn request(method: Method, path: &str, peer: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).expect("a request");
        let peer: IpAddr = peer.parse().expect("an address");
        request.extensions_mut().insert(ConnectInfo(Connection::plain(SocketAddr::from((peer, 1)))));
        request
    }

    fn admit(options: &GuardOptions, method: Method, path: &str, peer: &str, headers: &[(&str, &str)]) -> Result<Peer, ApiError> {
        options.admit(&request(method, path, peer, headers))
    }

    fn transport(options: &GuardOptions, peer: &str, headers: &[(&str, &str)]) -> Transport {
        let request = request(Method::GET, "/", peer, headers);
        let peer = options.admit(&request).expect("admitted");
        options.transport(request.uri(), request.headers(), &peer)
    }

    /// Makes a request over TLS with a client certificate.
    fn tls_request(headers: &[(&str, &str)]) -> Request {
        let mut request = request(Method::GET, "/", "127.0.0.1", headers);
        let certificate = ClientCertificate { subject: "CN=etl".to_owned(), names: Vec::new(), expires_ms: 1 };
        let tls = Some(TlsSession { certificate: Some(Arc::new(certificate)) });
        request.extensions_mut().insert(ConnectInfo(Connection { address: SocketAddr::from(([127, 0, 0, 1], 1)), tls }));
        request
    }

    #[test]
    fn tls_that_ends_here_is_https_and_strict_for_names_that_are_not_the_browsers_own() {
        for (host, strict) in [("esker.example:8181", true), ("10.0.0.7", true), ("localhost:1", false), ("127.0.0.1", false)] {
            let request = tls_request(&[("host", host)]);
            let peer = options().admit(&request).expect("admitted");
            assert!(peer.is_tls, "{host}");
            assert_eq!(options().transport(request.uri(), request.headers(), &peer), Transport::Https, "{host}");
            assert_eq!(needs_strict_transport(request.uri(), request.headers(), &peer), strict, "{host}");
        }
        let plain = request(Method::GET, "/", "127.0.0.1", &[("host", "esker.example")]);
        let peer = options().admit(&plain).expect("admitted");
        assert!(!peer.is_tls && !needs_strict_transport(plain.uri(), plain.headers(), &peer));
    }

    #[test]
    fn the_certificate_of_a_proxy_is_not_that_of_its_clients() {
        assert!(options().admit(&tls_request(&[HERE])).expect("admitted").certificate.is_some());
        for name in FORWARDED_HEADERS {
            let peer = options().admit(&tls_request(&[HERE, (name, "127.0.0.1")])).expect("admitted");
            assert!(peer.is_tls && peer.certificate.is_none(), "{name}");
        }
    }

    fn status(options: &GuardOptions, method: Method, path: &str, headers: &[(&str, &str)]) -> u16 {
        admit(options, method, path, "127.0.0.1", headers).map_or_else(|refusal| refusal.status(), |_| 200)
    }

    #[test]
    fn without_tokens_only_addresses_localhost_and_configured_names_are_hosts() {
        let named = GuardOptions { allowed_hosts: vec!["Esker.internal".to_owned()], ..anonymous() };
        let public = GuardOptions { public_url: Some("https://esker.example:8443".parse().expect("a URL")), ..options() };
        for (options, host, expected) in [
            (&named, "127.0.0.1:8181", 200),
            (&named, "[::1]:8181", 200),
            (&named, "10.0.0.7", 200),
            (&named, "localhost:8181", 200),
            (&named, "LOCALHOST.", 200),
            (&named, "esker.INTERNAL:1", 200),
            (&named, "rebound.example:8181", 403),
            (&named, "localhost.rebound.example", 403),
            (&named, "x@localhost", 403),
            (&named, "0.0.0.0:8181", 403),
            (&named, "", 403),
            (&public, "esker.example", 200),
            (&public, "other.example", 403),
            (&options(), "other.example", 200),
        ] {
            assert_eq!(status(options, Method::GET, "/v1/config", &[("host", host)]), expected, "{host:?}");
        }
        assert_eq!(status(&named, Method::GET, "/", &[]), 403, "a request without a host");
        assert_eq!(status(&named, Method::GET, "/", &[HERE, ("host", "rebound.example")]), 403, "two hosts");
        assert_eq!(status(&named, Method::GET, "http://rebound.example/", &[HERE]), 403, "the request line names another");
    }

    #[test]
    fn pages_of_other_sites_change_nothing_and_read_nothing_where_no_token_is_needed() {
        let own = [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "none"), ("origin", "http://127.0.0.1:8181")];
        let foreign = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://elsewhere.example"),
            ("origin", "http://127.0.0.1:9999"),
            ("origin", "null"),
        ];
        for (options, method, path, of_others) in [
            (options(), Method::POST, "/v1/w/namespaces", 403),
            (options(), Method::POST, "/jobs/x/cancel", 403),
            (options(), Method::DELETE, "/v1/w/namespaces/n", 403),
            (options(), Method::OPTIONS, "/v1/w/namespaces", 403),
            (options(), Method::GET, "/v1/config", 200),
            (anonymous(), Method::GET, "/v1/config", 403),
            (anonymous(), Method::HEAD, "/api/v1/tables", 403),
            (anonymous(), Method::GET, "/metrics", 403),
            (anonymous(), Method::GET, "/", 200),
            (anonymous(), Method::GET, "/metricsx", 200),
        ] {
            for site in own {
                assert_eq!(status(&options, method.clone(), path, &[HERE, site]), 200, "{method} {path} {site:?}");
            }
            for site in foreign {
                assert_eq!(status(&options, method.clone(), path, &[HERE, site]), of_others, "{method} {path} {site:?}");
            }
            assert_eq!(status(&options, method.clone(), path, &[HERE]), 200, "{method} {path} of no page");
        }
    }

    #[test]
    fn who_comes_through_a_proxy_is_not_on_loopback() {
        let trusting = GuardOptions { trusted_proxies: vec!["127.0.0.1".parse().expect("a network")], ..options() };
        let peer = |options: &GuardOptions, peer: &str, headers: &[(&str, &str)]| {
            admit(options, Method::GET, "/", peer, headers).expect("admitted")
        };
        assert!(peer(&options(), "127.0.0.1", &[HERE]).loopback && peer(&options(), "::ffff:127.0.0.1", &[HERE]).loopback);
        assert!(!peer(&options(), "10.0.0.1", &[HERE]).loopback);
        for options in [&options(), &trusting] {
            for name in FORWARDED_HEADERS {
                assert!(!peer(options, "127.0.0.1", &[HERE, (name, "127.0.0.1")]).loopback, "{name}");
            }
        }
        let told = [HERE, ("x-forwarded-for", "198.51.100.1")];
        assert_eq!(peer(&options(), "127.0.0.1", &told).address.to_string(), "127.0.0.1");
        assert_eq!(peer(&trusting, "127.0.0.1", &told).address.to_string(), "198.51.100.1");
    }

    #[test]
    fn a_trusted_proxy_tells_host_and_scheme() {
        let trusting = GuardOptions {
            trusted_proxies: vec!["10.0.0.0/8".parse().expect("a network")],
            allowed_hosts: vec!["esker.example".to_owned()],
            ..options()
        };
        let told = [("host", "backend:8181"), ("x-forwarded-host", "esker.example"), ("x-forwarded-proto", "https")];
        assert_eq!(transport(&trusting, "10.0.0.1", &told), Transport::Https);
        admit(&trusting, Method::GET, "/", "192.0.2.1", &told).expect_err("the headers are made up");
        let origin = [told[0], told[1], ("origin", "https://esker.example")];
        admit(&trusting, Method::POST, "/jobs/x/cancel", "10.0.0.1", &origin).expect("its own page");
    }

    #[test]
    fn the_way_to_the_browser_is_told_by_host_and_browser() {
        let public = GuardOptions { public_url: Some("https://esker.example".parse().expect("a URL")), ..options() };
        let transport = |options: &GuardOptions, headers: &[(&str, &str)]| transport(options, "127.0.0.1", headers);
        assert_eq!(transport(&options(), &[HERE]), Transport::Loopback);
        assert_eq!(transport(&options(), &[("host", "localhost:8181"), ("sec-fetch-site", "none")]), Transport::Loopback);
        assert_eq!(transport(&options(), &[("host", "10.0.0.7:8181")]), Transport::Plain);
        assert_eq!(transport(&options(), &[HERE, ("host", "x@e.example")]), Transport::Plain, "one of the hosts is none");
        assert_eq!(transport(&options(), &[("host", "e.example"), ("sec-fetch-site", "none")]), Transport::Https);
        assert_eq!(transport(&public, &[("host", "esker.example")]), Transport::Https);
        assert_eq!(transport(&options(), &[("host", "e.example"), ("x-forwarded-proto", "https")]), Transport::Plain);
    }

    #[test]
    fn headers_are_limited_together() {
        let path = format!("/{}", "x".repeat(600));
        assert_eq!(status(&options(), Method::GET, &path, &[HERE]), 200);
        assert_eq!(status(&options(), Method::GET, &path, &[HERE, ("x-long", &"y".repeat(600))]), 431);
    }

    #[test]
    fn a_public_url_has_a_scheme_and_a_host_alone() {
        for text in ["esker.example", "ftp://e", "https://e/path", "https://u@e", "https://e?x", ""] {
            assert!(text.parse::<PublicUrl>().is_err(), "{text:?}");
        }
        let url: PublicUrl = "https://e.example:8443/".parse().expect("a URL");
        assert!(url.https && url.authority == "e.example:8443");
    }
}
