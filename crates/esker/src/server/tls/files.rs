//! [`PemFiles`]: the files of a section of TLS, and the configuration of `rustls` that they make.
//!
//! Errors are texts that begin with the configuration key. Start reading at [`PemFiles::server_config`].

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use crate::config::{ClientCertificates, TlsConfig, TlsKeySource, TlsVersion, run_for_secret};

/// The protocols that a client may choose, the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The contents of the files of a section.
pub(super) struct PemFiles {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// What the files of a section make.
#[derive(Debug)]
pub(super) struct ServedTls {
    /// The configuration of handshakes.
    pub(super) config: Arc<ServerConfig>,
    /// The time at which the server's certificate ends, in seconds since the Unix epoch.
    pub(super) ends_seconds: i64,
}

impl PemFiles {
    /// Reads the files of a section that is on, or runs the command that prints its key. `section` is its name.
    ///
    /// # Errors
    ///
    /// Returns the key of a file that can't be read, or of a command that fails, with the reason.
    pub(super) async fn read(section: &str, tls: &TlsConfig) -> Result<Self, String> {
        let (certificate, key) = tls.pair().ok_or_else(|| format!("{section}.certificate and {section}.key are not set"))?;
        let certificate = read(section, "certificate", certificate).await?;
        let key = match key {
            TlsKeySource::File(path) => read(section, "key", path).await?,
            TlsKeySource::Command(command) => printed(section, command.to_vec()).await?,
        };
        let client_ca = match &tls.client_ca {
            Some(path) => Some(read(section, "client_ca", path).await?),
            None => None,
        };
        Ok(Self { certificate, key, client_ca })
    }

    /// Returns a hash of all contents.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for content in [&self.certificate, &self.key].into_iter().chain(&self.client_ca) {
            hash.update((content.len() as u64).to_le_bytes());
            hash.update(content);
        }
        hash.finalize().into()
    }

    /// Makes the configuration of handshakes.
    ///
    /// It has a cache of sessions of its own. So a session that an earlier configuration accepted is not resumed, and its client is
    /// verified against the authorities of this one.
    ///
    /// # Errors
    ///
    /// Returns the key of a file without a certificate or key that can be used, or of a key that is not that of the certificate.
    pub(super) fn server_config(&self, section: &str, tls: &TlsConfig) -> Result<ServedTls, String> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(section, "certificate", &self.certificate)?;
        let ends_seconds = end_of(&chain).map_err(|why| format!("{section}.certificate: {why}"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| format!("{section}.key: the file has no private key in PEM that is not encrypted"))?;
        let mut versions = vec![&TLS13];
        if tls.min_version == TlsVersion::Tls12 {
            versions.push(&TLS12);
        }
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(|error| format!("{section}.min_version: {error}"))?;
        let builder = match &self.client_ca {
            Some(pem) => builder.with_client_cert_verifier(verifier(section, pem, tls.client_certificates, provider)?),
            None => builder.with_no_client_auth(),
        };
        let pair = builder.with_single_cert(chain, key);
        let mut config = pair.map_err(|error| format!("{section}.key and {section}.certificate do not go together: {error}"))?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(ServedTls { config: Arc::new(config), ends_seconds })
    }
}

/// Reads the file of a key.
async fn read(section: &str, key: &str, path: &Path) -> Result<Vec<u8>, String> {
    tokio::fs::read(path).await.map_err(|error| format!("{section}.{key}: {}: {error}", path.display()))
}

/// Runs the command that prints the private key.
async fn printed(section: &str, command: Vec<String>) -> Result<Vec<u8>, String> {
    let ran = tokio::task::spawn_blocking(move || run_for_secret(&command)).await;
    ran.map_err(|error| error.to_string()).flatten().map_err(|why| format!("{section}.key_command: {why}"))
}

/// Returns the certificates of a PEM file, of which there must be one.
fn certificates(section: &str, key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = read.map_err(|error| format!("{section}.{key}: the file is not PEM: {error}"))?;
    if found.is_empty() { Err(format!("{section}.{key}: the file has no certificate in PEM")) } else { Ok(found) }
}

/// Returns the end of the first certificate of a chain, in seconds since the Unix epoch.
fn end_of(chain: &[CertificateDer<'_>]) -> Result<i64, String> {
    let first = chain.first().ok_or("there is no certificate")?;
    let parsed = Certificate::from_der(first).map_err(|error| format!("the certificate can't be read: {error}"))?;
    let end = parsed.tbs_certificate.validity.not_after.to_unix_duration();
    Ok(i64::try_from(end.as_secs()).unwrap_or(i64::MAX))
}

/// Makes the check of client certificates.
fn verifier(
    section: &str,
    pem: &[u8],
    demand: ClientCertificates,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let wrong = |why: String| format!("{section}.client_ca: {why}");
    let mut roots = RootCertStore::empty();
    for certificate in certificates(section, "client_ca", pem)? {
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match demand {
        ClientCertificates::Optional => builder.allow_unauthenticated(),
        ClientCertificates::Required => builder,
    };
    builder.build().map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// Makes a certificate that signs itself, and its key, in PEM.
    fn self_signed(end_year: i32) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["esker.example".to_owned()]).expect("a name");
        params.not_after = date_time_ymd(end_year, 1, 1);
        let certificate = params.self_signed(&key).expect("signed");
        (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
    }

    fn made(certificate: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<ServedTls, String> {
        let files = PemFiles { certificate: certificate.to_vec(), key: key.to_vec(), client_ca: client_ca.map(<[u8]>::to_vec) };
        files.server_config("server.tls", &TlsConfig::default())
    }

    #[test]
    fn a_pair_that_goes_together_is_served_until_its_end() {
        let (certificate, key) = self_signed(2040);
        let served = made(&certificate, &key, Some(&certificate)).expect("a pair");
        assert_eq!(served.ends_seconds, 2_208_988_800, "the first second of 2040, as `date -d 2040-01-01Z +%s` says");
        assert_eq!(served.config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }

    #[test]
    fn the_key_of_a_wrong_file_is_named() {
        let ((certificate, key), (_, other_key)) = (self_signed(2040), self_signed(2040));
        for (certificate, key, ca, words) in [
            (certificate.as_slice(), other_key.as_slice(), None, "server.tls.key and server.tls.certificate do not go together"),
            (b"".as_slice(), key.as_slice(), None, "server.tls.certificate: the file has no certificate"),
            (key.as_slice(), key.as_slice(), None, "server.tls.certificate: the file has no certificate"),
            (certificate.as_slice(), certificate.as_slice(), None, "server.tls.key: the file has no private key"),
            (&certificate[..100], key.as_slice(), None, "server.tls.certificate: the file"),
            (certificate.as_slice(), key.as_slice(), Some(key.as_slice()), "server.tls.client_ca: the file has no certificate"),
        ] {
            let error = made(certificate, key, ca).expect_err(words);
            assert!(error.starts_with(words), "{words}: {error}");
        }
    }

    #[test]
    fn the_hash_tells_which_file_has_which_content() {
        let digest = |certificate: &str, key: &str, ca: Option<&str>| {
            let bytes = |text: &str| text.as_bytes().to_vec();
            PemFiles { certificate: bytes(certificate), key: bytes(key), client_ca: ca.map(bytes) }.digest()
        };
        let all = [digest("ab", "c", None), digest("a", "bc", None), digest("ab", "", Some("c")), digest("ab", "c", Some(""))];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(one), "{at}");
        }
        assert_eq!(digest("ab", "c", None), all[0]);
    }
}
