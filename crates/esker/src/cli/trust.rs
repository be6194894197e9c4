//! [`TlsArgs`]: which servers a command trusts, and the certificate that it shows them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use esker_types::with_causes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

use crate::{Error, Result};

/// The arguments of every command that talks to a server over TLS.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct TlsArgs {
    /// A PEM file with the certificates of the authorities to trust, instead of the system's.
    #[arg(long, env = "ESKER_CA_FILE", global = true)]
    ca_file: Option<PathBuf>,
    /// A PEM file with the client certificate to show to the server. Needs --client-key.
    #[arg(long, env = "ESKER_CLIENT_CERT", global = true)]
    client_cert: Option<PathBuf>,
    /// A PEM file with the private key of the client certificate.
    #[arg(long, env = "ESKER_CLIENT_KEY", global = true)]
    client_key: Option<PathBuf>,
}

impl TlsArgs {
    /// Makes a client of HTTP.
    ///
    /// # Errors
    ///
    /// Returns [`Io`](Error::Io) if a file can't be read, and [`Usage`](Error::Usage) if it can't be used, or if there is a
    /// certificate without a key or a key without a certificate.
    pub(super) fn http_client(&self) -> Result<reqwest::Client> {
        let mut builder = reqwest::Client::builder();
        if let Some(path) = &self.ca_file {
            let authorities = reqwest::Certificate::from_pem_bundle(&read(path)?).map_err(|e| wrong("--ca-file", &e))?;
            if authorities.is_empty() {
                return Err(without_certificate(path));
            }
            builder = builder.tls_built_in_root_certs(false);
            for authority in authorities {
                builder = builder.add_root_certificate(authority);
            }
        }
        if let Some((certificate, key)) = self.identity()? {
            let both = [certificate, key].join(&b'\n');
            builder = builder.identity(reqwest::Identity::from_pem(&both).map_err(|e| wrong("--client-cert", &e))?);
        }
        builder.build().map_err(|e| wrong("TLS", &e))
    }

    /// Connects to a Flight SQL server. `grpc://` and `grpc+tls://` stand for `http://` and `https://`.
    ///
    /// # Errors
    ///
    /// Returns [`Usage`](Error::Usage) if the URL is none, [`Remote`](Error::Remote) if no server answers, and the errors of
    /// [`Self::http_client`].
    pub(super) async fn flight_channel(&self, url: &str) -> Result<Channel> {
        let no_answer = |error: &(dyn std::error::Error + 'static)| {
            let why = with_causes(error);
            Error::Remote(format!("no Flight SQL server answers at {url} ({why}); is `esker serve` running?"))
        };
        let address = match url.split_once("://") {
            Some(("grpc" | "grpc+tcp", rest)) => format!("http://{rest}"),
            Some(("grpc+tls" | "grpcs", rest)) => format!("https://{rest}"),
            _ => url.to_owned(),
        };
        let is_secure = address.starts_with("https://");
        let endpoint = Endpoint::from_shared(address).map_err(|e| wrong("--flight-url", &e))?;
        if !is_secure {
            return endpoint.connect().await.map_err(|e| no_answer(&e));
        }
        let (host, port) = (host_of(endpoint.uri()).to_owned(), endpoint.uri().port_u16().unwrap_or(443));
        let name = ServerName::try_from(host.clone()).map_err(|e| wrong("--flight-url", &e))?;
        let connector = TlsConnector::from(Arc::new(self.tls_config()?));
        let connect = tower::service_fn(move |_: Uri| {
            let (connector, name, address) = (connector.clone(), name.clone(), (host.clone(), port));
            async move {
                let socket = TcpStream::connect(address).await?;
                socket.set_nodelay(true)?;
                std::io::Result::Ok(TokioIo::new(connector.connect(name, socket).await?))
            }
        });
        endpoint.connect_with_connector(connect).await.map_err(|e| no_answer(&e))
    }

    /// Makes the configuration of handshakes with a Flight SQL server.
    fn tls_config(&self) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            Some(path) => {
                let pem = read(path)?;
                for certificate in CertificateDer::pem_slice_iter(&pem) {
                    roots.add(certificate.map_err(|e| wrong("--ca-file", &e))?).map_err(|e| wrong("--ca-file", &e))?;
                }
                if roots.is_empty() {
                    return Err(without_certificate(path));
                }
            }
            None => {
                // Certificates of the system that can't be read are left out, as browsers do it.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|e| wrong("TLS", &e))?.with_root_certificates(roots);
        let mut config = match self.identity()? {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
                let chain = chain.map_err(|e| wrong("--client-cert", &e))?;
                let key = PrivateKeyDer::from_pem_slice(&key).map_err(|e| wrong("--client-key", &e))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| wrong("--client-cert", &e))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// Reads the client certificate and its key, if there is one.
    fn identity(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        match (&self.client_cert, &self.client_key) {
            (Some(certificate), Some(key)) => Ok(Some((read(certificate)?, read(key)?))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(Error::Usage("--client-cert needs --client-key".to_owned())),
            (None, Some(_)) => Err(Error::Usage("--client-key needs --client-cert".to_owned())),
        }
    }
}

/// Returns the host of a URL. An address of IPv6 is in brackets there.
fn host_of(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

/// Reads a file.
fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.display().to_string(), source })
}

/// Words the error of an argument.
fn wrong(argument: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::Usage(format!("{argument}: {}", with_causes(error)))
}

/// Words the error of a file without a certificate.
fn without_certificate(path: &Path) -> Error {
    Error::Usage(format!("--ca-file: {} has no certificate in PEM", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wrong_files_are_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let (none, empty) = (dir.path().join("none.pem"), dir.path().join("empty.pem"));
        std::fs::write(&empty, "").expect("written");
        let missing = TlsArgs { ca_file: Some(none), ..TlsArgs::default() };
        assert!(matches!(missing.http_client(), Err(Error::Io { .. })));
        assert!(matches!(missing.flight_channel("https://localhost:1").await, Err(Error::Io { .. })));
        let bare = TlsArgs { ca_file: Some(empty.clone()), ..TlsArgs::default() };
        assert!(matches!(bare.http_client(), Err(Error::Usage(why)) if why.contains("empty.pem")));
        let refused = bare.flight_channel("grpc+tls://localhost:1").await;
        assert!(matches!(refused, Err(Error::Usage(why)) if why.contains("empty.pem")));
        let plain = bare.flight_channel("grpc://localhost:1").await;
        assert!(matches!(plain, Err(Error::Remote(_))), "without TLS nobody asks for the file");
        let half = TlsArgs { client_cert: Some(empty), ..TlsArgs::default() };
        assert!(matches!(half.http_client(), Err(Error::Usage(why)) if why.contains("--client-key")));
    }
}
