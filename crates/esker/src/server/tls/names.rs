//! [`client_certificate`]: reads the names of a client's certificate, which the handshake has verified.

use esker_auth::{CertificateName, ClientCertificate};
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// Reads the subject, the names and the end of a certificate.
///
/// A name that is not text is left out, and so is the common name of a subject that has several: nobody can say which one counts.
///
/// # Errors
///
/// Returns the reason why the certificate can't be read.
pub(super) fn client_certificate(der: &CertificateDer<'_>) -> Result<ClientCertificate, String> {
    let (_, certificate) = parse_x509_certificate(der).map_err(|error| error.to_string())?;
    let alternative = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
    let alternative = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let mut names: Vec<CertificateName> = alternative.filter_map(name_of).collect();
    names.extend(common_name(&certificate));
    Ok(ClientCertificate {
        subject: certificate.subject().to_string(),
        names,
        expires_ms: certificate.validity().not_after.timestamp().saturating_mul(1000),
    })
}

/// Returns an alternative name, if it is of a kind that can belong to a client.
fn name_of(name: &GeneralName<'_>) -> Option<CertificateName> {
    match name {
        GeneralName::URI(uri) => Some(CertificateName::Uri((*uri).to_owned())),
        GeneralName::DNSName(dns) => Some(CertificateName::dns(dns)),
        GeneralName::RFC822Name(email) => Some(CertificateName::Email((*email).to_owned())),
        _ => None,
    }
}

/// Returns the common name of the subject, if there is exactly one.
fn common_name(certificate: &X509Certificate<'_>) -> Option<CertificateName> {
    let mut common = certificate.subject().iter_common_name();
    let only = common.next().filter(|_| common.next().is_none())?;
    only.as_str().ok().map(|name| CertificateName::CommonName(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

    use super::*;

    #[test]
    fn all_names_and_the_end_are_read() {
        let mut params = CertificateParams::new(vec!["Etl.Example".to_owned(), "10.0.0.7".to_owned()]).expect("names");
        params.subject_alt_names.push(SanType::URI("spiffe://example/etl".try_into().expect("ASCII")));
        params.subject_alt_names.push(SanType::Rfc822Name("etl@example".try_into().expect("ASCII")));
        params.distinguished_name.push(DnType::CommonName, "ETL job");
        params.not_after = date_time_ymd(2040, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let read = client_certificate(params.self_signed(&key).expect("signed").der()).expect("read");
        let text = |name: &str| name.to_owned();
        let expected = [
            CertificateName::Dns(text("etl.example")),
            CertificateName::Uri(text("spiffe://example/etl")),
            CertificateName::Email(text("etl@example")),
            CertificateName::CommonName(text("ETL job")),
        ];
        assert_eq!(read.names, expected);
        assert_eq!((read.subject.as_str(), read.expires_ms), ("CN=ETL job", 2_208_988_800_000));
    }

    #[test]
    fn a_certificate_that_is_none_is_refused() {
        assert!(client_certificate(&CertificateDer::from(b"none".to_vec())).is_err());
    }
}
