//! [`TlsArgs`]: which servers a command trusts, and the certificate that it shows them.

use std::path::{Path, PathBuf};

use clap::Args;
use esker_types::with_causes;
use tonic::transport::{ClientTlsConfig, Endpoint};

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

    /// Makes the address of a Flight SQL server. `grpc://` and `grpc+tls://` stand for `http://` and `https://`.
    ///
    /// # Errors
    ///
    /// Returns [`Usage`](Error::Usage) if the URL is none, and the errors of [`Self::http_client`].
    pub(super) fn endpoint(&self, url: &str) -> Result<Endpoint> {
        let url = match url.split_once("://") {
            Some(("grpc" | "grpc+tcp", rest)) => format!("http://{rest}"),
            Some(("grpc+tls" | "grpcs", rest)) => format!("https://{rest}"),
            _ => url.to_owned(),
        };
        let secure = url.starts_with("https://");
        let endpoint = Endpoint::from_shared(url).map_err(|e| wrong("--flight-url", &e))?;
        if !secure {
            return Ok(endpoint);
        }
        let mut tls = ClientTlsConfig::new();
        tls = match &self.ca_file {
            Some(path) => {
                let pem = read(path)?;
                if !pem.windows(CERTIFICATE.len()).any(|part| part == CERTIFICATE) {
                    return Err(without_certificate(path));
                }
                tls.ca_certificate(tonic::transport::Certificate::from_pem(pem))
            }
            None => tls.with_native_roots(),
        };
        if let Some((certificate, key)) = self.identity()? {
            tls = tls.identity(tonic::transport::Identity::from_pem(certificate, key));
        }
        endpoint.tls_config(tls).map_err(|e| wrong("TLS", &e))
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

/// The first line of a certificate in PEM.
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

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

    #[test]
    fn wrong_files_are_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let (none, empty) = (dir.path().join("none.pem"), dir.path().join("empty.pem"));
        std::fs::write(&empty, "").expect("written");
        let missing = TlsArgs { ca_file: Some(none), ..TlsArgs::default() };
        assert!(matches!(missing.http_client(), Err(Error::Io { .. })));
        assert!(matches!(missing.endpoint("https://localhost:1"), Err(Error::Io { .. })));
        let bare = TlsArgs { ca_file: Some(empty.clone()), ..TlsArgs::default() };
        assert!(matches!(bare.http_client(), Err(Error::Usage(why)) if why.contains("empty.pem")));
        assert!(matches!(bare.endpoint("grpc+tls://localhost:1"), Err(Error::Usage(why)) if why.contains("empty.pem")));
        assert!(bare.endpoint("grpc://localhost:1").is_ok(), "without TLS nobody asks for the file");
        let half = TlsArgs { client_cert: Some(empty), ..TlsArgs::default() };
        assert!(matches!(half.http_client(), Err(Error::Usage(why)) if why.contains("--client-key")));
    }
}
