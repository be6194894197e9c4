//! The section `[server.tls]`, and the entries of `[[auth.mtls]]`: certificates of the server and of its clients.

use std::path::{Path, PathBuf};
use std::time::Duration;

use esker_auth::CertificateName;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::check::require;
use crate::Result;

/// The sections `[server.tls]` and `[server.flight_tls]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The PEM file with the server's certificate, then those of the authorities between it and the root. TLS is on if it is set.
    #[schema(value_type = Option<String>)]
    pub certificate: Option<PathBuf>,
    /// The PEM file with the private key of the certificate, not encrypted.
    #[schema(value_type = Option<String>)]
    pub key: Option<PathBuf>,
    /// The command that prints the private key, with its arguments, instead of a file. It runs without a shell, at each look at the
    /// files.
    pub key_command: Vec<String>,
    /// The PEM file with the certificates of the authorities that sign those of clients. Without it, no client is asked for one.
    #[schema(value_type = Option<String>)]
    pub client_ca: Option<PathBuf>,
    /// The demand for a certificate that `client_ca` signed: `optional` or `required`. A wrong one is always refused.
    pub client_certificates: ClientCertificates,
    /// The lowest version of TLS that clients may use: `1.2` or `1.3`.
    #[serde(deserialize_with = "version")]
    pub min_version: TlsVersion,
    /// Seconds after which a handshake that is not complete ends. Must not be 0.
    #[schema(minimum = 1)]
    pub handshake_seconds: u64,
    /// Number of handshakes at a time on a port. Beyond it, the oldest one is ended for a new one. Must not be 0.
    #[schema(minimum = 1)]
    pub max_handshakes: usize,
    /// Seconds between two looks at the files, which are loaded again if they changed. 0: only at the start.
    pub reload_seconds: u64,
}

/// The place of a private key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TlsKeySource<'a> {
    /// A PEM file.
    File(&'a Path),
    /// A command that prints PEM, with its arguments.
    Command(&'a [String]),
}

/// The demand for client certificates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// A client may show a certificate.
    #[default]
    Optional,
    /// A client without a certificate gets no connection.
    Required,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Reads a version. As an environment variable, it is a number.
fn version<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<TlsVersion, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Number(f64),
    }
    let text = match Written::deserialize(deserializer)? {
        Written::Text(text) => text,
        Written::Number(number) => number.to_string(),
    };
    match text.as_str() {
        "1.2" => Ok(TlsVersion::Tls12),
        "1.3" => Ok(TlsVersion::Tls13),
        _ => Err(D::Error::custom(format!("{text:?} is none of the versions 1.2 and 1.3"))),
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            certificate: None,
            key: None,
            key_command: Vec::new(),
            client_ca: None,
            client_certificates: ClientCertificates::Optional,
            min_version: TlsVersion::Tls12,
            handshake_seconds: 10,
            max_handshakes: 512,
            reload_seconds: 10,
        }
    }
}

impl TlsConfig {
    /// Checks a section; `section` is its name.
    pub(super) fn check(&self, section: &str) -> Result<()> {
        let unset = || format!("{section}.certificate must be set where another key of the section is");
        require(self.certificate.is_some() || *self == Self::default(), unset)?;
        let no_key = || format!("{section}.key must be set where {section}.certificate is, or {section}.key_command");
        require(self.certificate.is_none() || self.key.is_some() || !self.key_command.is_empty(), no_key)?;
        let both = || format!("{section}.key and {section}.key_command are both set; the key comes from one place");
        require(self.key.is_none() || self.key_command.is_empty(), both)?;
        let no_ca = || format!("{section}.client_certificates is required, which needs {section}.client_ca");
        require(self.client_certificates == ClientCertificates::Optional || self.client_ca.is_some(), no_ca)?;
        require(self.handshake_seconds != 0, || format!("{section}.handshake_seconds must not be 0"))?;
        require(self.max_handshakes != 0, || format!("{section}.max_handshakes must not be 0"))
    }

    /// Checks that TLS is on.
    pub(crate) fn is_on(&self) -> bool {
        self.certificate.is_some()
    }

    /// Returns the file with the certificate and the place of the key, if TLS is on.
    pub(crate) fn pair(&self) -> Option<(&Path, TlsKeySource<'_>)> {
        let key = match &self.key {
            Some(file) => TlsKeySource::File(file),
            None if self.key_command.is_empty() => return None,
            None => TlsKeySource::Command(&self.key_command),
        };
        Some((self.certificate.as_deref()?, key))
    }

    /// Returns the time that a handshake gets.
    pub(crate) fn handshake_timeout(&self) -> Duration {
        Duration::from_secs(self.handshake_seconds)
    }

    /// Returns the time between two looks at the files; `None` if they are read only at the start.
    pub(crate) fn reload_interval(&self) -> Option<Duration> {
        (self.reload_seconds != 0).then(|| Duration::from_secs(self.reload_seconds))
    }
}

/// An entry of `[[auth.mtls]]`: a client, and the name of its certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MtlsConfig {
    /// The name of the client, which is the principal of its requests.
    pub client: String,
    /// A URI among the alternative names of the certificate, such as a SPIFFE id.
    pub uri: Option<String>,
    /// A DNS name among the alternative names.
    pub dns: Option<String>,
    /// An e-mail address among the alternative names.
    pub email: Option<String>,
    /// The common name of the subject.
    pub common_name: Option<String>,
}

impl MtlsConfig {
    /// Returns the name of the certificate, or the reason why there is not exactly one.
    pub(super) fn name(&self) -> std::result::Result<CertificateName, String> {
        let names = [
            self.uri.clone().map(CertificateName::Uri),
            self.dns.as_deref().map(CertificateName::dns),
            self.email.clone().map(CertificateName::Email),
            self.common_name.clone().map(CertificateName::CommonName),
        ];
        let mut names = names.into_iter().flatten();
        match (names.next(), names.next()) {
            (Some(name), None) => Ok(name),
            _ => Err("give one of uri, dns, email and common_name; a client with several names has several entries".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::config::{AuthConfig, ServerConfig};

    /// Reads a configuration from TOML and checks it.
    fn load(toml: &str) -> Result<Config> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), toml).expect("written");
        Config::load(Some(file.path()))
    }

    #[test]
    fn a_wrong_section_is_refused_with_its_key() {
        for (toml, key) in [
            ("[server.tls]\ncertificate = \"c\"", "server.tls.key must be set"),
            ("[server.tls]\nkey = \"k\"", "server.tls.certificate must be set"),
            ("[server.flight_tls]\nmin_version = \"1.3\"", "server.flight_tls.certificate must be set"),
            ("[server.tls]\ncertificate = \"c\"\nkey = \"k\"\nmin_version = \"1.1\"", "min_version"),
            ("[server.tls]\ncertificate = \"c\"\nkey = \"k\"\nhandshake_seconds = 0", "server.tls.handshake_seconds"),
            ("[server.tls]\ncertificate = \"c\"\nkey = \"k\"\nmax_handshakes = 0", "server.tls.max_handshakes"),
            ("[server.tls]\ncertificate = \"c\"\nkey = \"k\"\nclient_certificates = \"required\"", "needs server.tls.client_ca"),
            ("[[auth.mtls]]\nclient = \"etl\"\nuri = \"u\"", "auth.mtls needs server.tls.client_ca"),
        ] {
            let error = load(toml).expect_err(toml).to_string();
            assert!(error.contains(key), "{toml:?}: {error}");
        }
    }

    #[test]
    fn a_version_is_a_text_or_a_number() {
        for (written, version) in [("\"1.2\"", TlsVersion::Tls12), ("\"1.3\"", TlsVersion::Tls13), ("1.3", TlsVersion::Tls13)] {
            let toml = format!("[server.tls]\ncertificate = \"c\"\nkey = \"k\"\nmin_version = {written}");
            assert_eq!(load(&toml).expect("valid").server.tls.min_version, version, "{written}");
        }
    }

    #[test]
    fn an_entry_has_one_whole_name_that_no_other_client_has() {
        let tls = "[server.tls]\ncertificate = \"c\"\nkey = \"k\"\nclient_ca = \"a\"\n";
        let entry = |more: &str| load(&format!("{tls}[[auth.mtls]]\nclient = \"etl\"\n{more}"));
        let config = entry("uri = \"spiffe://example/etl\"\n[[auth.mtls]]\nclient = \"etl\"\ndns = \"etl.example\"");
        assert_eq!(config.expect("valid").auth.mtls.len(), 2);
        for wrong in [
            "",
            "uri = \"u\"\ndns = \"d\"",
            "dns = \"*.example\"",
            "common_name = \"\"",
            "uri = \"u\"\n[[auth.mtls]]\nclient = \"other\"\nuri = \"u\"",
        ] {
            let error = entry(wrong).expect_err(wrong).to_string();
            assert!(error.contains("auth.mtls: client "), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn flight_has_the_tls_of_the_server_unless_it_has_its_own() {
        let with = |name: &str| TlsConfig { certificate: Some(name.into()), key: Some("key".into()), ..TlsConfig::default() };
        let shared = ServerConfig { tls: with("both"), ..ServerConfig::default() };
        assert_eq!(shared.tls_of_flight(), ("server.tls", &with("both")));
        let own = ServerConfig { flight_tls: with("flight"), ..shared };
        assert_eq!(own.tls_of_flight(), ("server.flight_tls", &with("flight")));
        assert!(AuthConfig::default().certificates().is_ok());
    }
}
