//! Client certificates as evidence of a caller, and the connection that showed one.
//!
//! The listener verifies a certificate against the configured authorities, and reads its names. [`CertificateMap`] says which client
//! has which name. Only whole names count: no wildcard, no prefix, no name that is derived from another. Start reading at
//! [`CertificateMap::client_of`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use esker_types::Millis;

use crate::AuthError;
use crate::tokens::check_name;

/// A connection of a client, as the listener accepted it.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The address of the other end of the socket.
    pub address: SocketAddr,
    /// The TLS session; `None` for plain HTTP.
    pub tls: Option<TlsSession>,
}

impl Connection {
    /// Returns a connection without TLS.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    /// Checks that the connection has TLS that ends at this server.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns the certificate that the client showed, if there is one.
    pub fn certificate(&self) -> Option<&Arc<ClientCertificate>> {
        self.tls.as_ref()?.certificate.as_ref()
    }
}

/// The TLS session of a connection.
#[derive(Debug, Clone, Default)]
pub struct TlsSession {
    /// The certificate that the client showed. It is signed by a configured authority, and the client has its key.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// A client certificate that was verified in the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject, for logs and errors.
    pub subject: String,
    /// The names in the certificate. Wildcards are among them as they are, and belong to nobody.
    pub names: Vec<CertificateName>,
    /// The time at which the certificate ends, in milliseconds since the Unix epoch. A connection can outlive it.
    pub expires_ms: Millis,
}

/// A name in a client certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertificateName {
    /// A URI among the alternative names, such as a SPIFFE id.
    Uri(String),
    /// A DNS name among the alternative names, in lower case.
    Dns(String),
    /// An e-mail address among the alternative names.
    Email(String),
    /// The common name of the subject.
    CommonName(String),
}

impl CertificateName {
    /// Returns a DNS name, in lower case, because upper and lower case mean the same there.
    pub fn dns(name: &str) -> Self {
        Self::Dns(name.to_ascii_lowercase())
    }

    /// Returns the text of the name.
    fn text(&self) -> &str {
        match self {
            Self::Uri(text) | Self::Dns(text) | Self::Email(text) | Self::CommonName(text) => text,
        }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Uri(_) => "uri",
            Self::Dns(_) => "dns",
            Self::Email(_) => "email",
            Self::CommonName(_) => "common_name",
        };
        write!(f, "{kind} {:?}", self.text())
    }
}

/// The clients by the names of their certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateMap(BTreeMap<CertificateName, String>);

impl CertificateMap {
    /// Adds the name of a client's certificate. A client may have several.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](AuthError::Invalid) if the client's name can't be that of a principal, if the name is empty or has a
    /// wildcard or control character, or if the name belongs to a client already.
    pub fn insert(&mut self, name: CertificateName, client: &str) -> Result<(), AuthError> {
        check_name(client)?;
        let text = name.text();
        if text.is_empty() || text.contains('*') || text.chars().any(char::is_control) {
            let why = "is not a whole name; wildcards and control characters are not allowed";
            return Err(AuthError::Invalid(format!("{name} {why}")));
        }
        if let Some(other) = self.0.get(&name) {
            return Err(AuthError::Invalid(format!("{name} belongs to the client {other:?} already")));
        }
        self.0.insert(name, client.to_owned());
        Ok(())
    }

    /// Checks that a client has a certificate.
    pub(crate) fn knows(&self, client: &str) -> bool {
        self.0.values().any(|known| known == client)
    }

    /// Returns the client of a certificate at the time `now`.
    ///
    /// # Errors
    ///
    /// Returns [`Certificate`](AuthError::Certificate) if the certificate has ended, if no client has one of its names, or if its
    /// names belong to several clients.
    pub fn client_of(&self, certificate: &ClientCertificate, now: Millis) -> Result<&str, AuthError> {
        let ClientCertificate { subject, names, expires_ms } = certificate;
        let refuse = |why: &str| Err(AuthError::Certificate(format!("{subject:?} {why}")));
        if *expires_ms <= now {
            return refuse("has ended; connect again with a new one");
        }
        let clients: BTreeSet<&str> = names.iter().filter_map(|name| self.0.get(name)).map(String::as_str).collect();
        let mut clients = clients.into_iter();
        match (clients.next(), clients.next()) {
            (Some(client), None) => Ok(client),
            (None, _) => refuse("belongs to no client; list one of its names in auth.mtls, or send a token"),
            (Some(_), Some(_)) => refuse("has names of several clients in auth.mtls"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[CertificateName]) -> ClientCertificate {
        ClientCertificate { subject: "CN=x".to_owned(), names: names.to_vec(), expires_ms: 1000 }
    }

    fn uri(text: &str) -> CertificateName {
        CertificateName::Uri(text.to_owned())
    }

    fn map() -> CertificateMap {
        let mut map = CertificateMap::default();
        map.insert(uri("spiffe://example/etl"), "etl").expect("a name");
        map.insert(CertificateName::dns("Etl.Example"), "etl").expect("a name");
        map.insert(CertificateName::CommonName("report".to_owned()), "report").expect("a name");
        map
    }

    #[test]
    fn only_a_whole_name_of_the_same_kind_finds_the_client() {
        let map = map();
        let client = |names: &[CertificateName]| map.client_of(&certificate(names), 999).ok();
        assert_eq!(client(&[uri("spiffe://example/etl")]), Some("etl"));
        assert_eq!(client(&[CertificateName::dns("ETL.example")]), Some("etl"));
        assert_eq!(client(&[uri("x"), CertificateName::CommonName("report".to_owned())]), Some("report"));
        let others = [
            uri("spiffe://example/etl/"),
            uri("spiffe://example/etl2"),
            uri("SPIFFE://example/etl"),
            uri("report"),
            CertificateName::dns("*.example"),
            CertificateName::dns("spiffe://example/etl"),
            CertificateName::CommonName("Report".to_owned()),
            CertificateName::CommonName("etl".to_owned()),
            CertificateName::Email("report".to_owned()),
        ];
        for other in others {
            assert_eq!(client(std::slice::from_ref(&other)), None, "{other}");
        }
        assert_eq!(client(&[]), None);
    }

    #[test]
    fn a_certificate_of_two_clients_and_one_that_has_ended_are_of_nobody() {
        let map = map();
        let both = certificate(&[uri("spiffe://example/etl"), CertificateName::CommonName("report".to_owned())]);
        assert!(matches!(map.client_of(&both, 0), Err(AuthError::Certificate(why)) if why.contains("several")));
        let twice = certificate(&[uri("spiffe://example/etl"), CertificateName::dns("etl.example")]);
        assert_eq!(map.client_of(&twice, 999).expect("one client"), "etl");
        assert!(matches!(map.client_of(&twice, 1000), Err(AuthError::Certificate(why)) if why.contains("ended")));
    }

    #[test]
    fn wildcards_and_names_that_are_taken_are_refused() {
        let mut map = map();
        for name in ["", "*", "spiffe://example/*", "a\nb"] {
            assert!(map.insert(uri(name), "etl").is_err(), "{name:?}");
        }
        assert!(map.insert(uri("spiffe://example/etl"), "report").is_err());
        for client in ["", "anonymous", "a:b", "a/b"] {
            assert!(map.insert(uri("spiffe://example/new"), client).is_err(), "{client:?}");
        }
        map.insert(uri("spiffe://example/new"), "etl").expect("nothing was added before");
    }
}
