//! [`client_certificate`]: reads the names of a client's certificate, which the handshake has verified.

use esker_auth::{CertificateName, ClientCertificate};
use esker_types::to_millis;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::asn1::{PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Any, Decode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

/// The attribute of a common name (RFC 5280, appendix A.1).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Reads the subject, the names and the end of a certificate.
///
/// A name that is not text is left out, and so is the common name of a subject that has several: nobody can say which one counts.
///
/// # Errors
///
/// Returns the reason why the certificate can't be read.
pub(super) fn client_certificate(der: &CertificateDer<'_>) -> Result<ClientCertificate, String> {
    let certificate = Certificate::from_der(der).map_err(|error| error.to_string())?.tbs_certificate;
    let alternative = certificate.get::<SubjectAltName>().map_err(|error| error.to_string())?;
    let alternative = alternative.iter().flat_map(|(_, names)| &names.0);
    let mut names: Vec<CertificateName> = alternative.filter_map(name_of).collect();
    names.extend(common_name(&certificate.subject));
    Ok(ClientCertificate {
        subject: certificate.subject.to_string(),
        names,
        expires_ms: to_millis(certificate.validity.not_after.to_unix_duration()),
    })
}

/// Returns an alternative name, if it is of a kind that can belong to a client.
fn name_of(name: &GeneralName) -> Option<CertificateName> {
    match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(CertificateName::Uri(uri.as_str().to_owned())),
        GeneralName::DnsName(dns) => Some(CertificateName::dns(dns.as_str())),
        GeneralName::Rfc822Name(email) => Some(CertificateName::Email(email.as_str().to_owned())),
        _ => None,
    }
}

/// Returns the common name of the subject, if there is exactly one.
fn common_name(subject: &Name) -> Option<CertificateName> {
    let attributes = subject.0.iter().flat_map(|part| part.0.iter());
    let mut common = attributes.filter(|attribute| attribute.oid == COMMON_NAME);
    let only = common.next().filter(|_| common.next().is_none())?;
    text_of(&only.value).map(CertificateName::CommonName)
}

/// Returns the text of an attribute, if it has a kind of string that has one reading.
fn text_of(value: &Any) -> Option<String> {
    match value.tag() {
        Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        Tag::PrintableString => value.decode_as::<PrintableStringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        Tag::TeletexString => value.decode_as::<TeletexStringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        _ => None,
    }
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
