//! The states of the certificates that the ports serve, for probes and metrics.
//!
//! The reloader in the crate `esker` writes them; `/readyz` and `/metrics` read them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The state of the certificate that a port serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateState {
    /// The time at which the certificate ends, in seconds since the Unix epoch.
    pub ends_seconds: i64,
    /// A text without paths about files that could not replace the certificate, until they are mended.
    pub failure: Option<String>,
}

/// The states of a server's certificates by port: `rest` and `flight`. Clones are cheap and share the states.
#[derive(Debug, Clone, Default)]
pub struct Certificates(Arc<Mutex<BTreeMap<String, CertificateState>>>);

impl Certificates {
    /// Records that a port serves a certificate from now on, and removes its failure.
    pub fn record_use(&self, port: &str, ends_seconds: i64) {
        self.states().insert(port.to_owned(), CertificateState { ends_seconds, failure: None });
    }

    /// Records that the files could not replace the certificate of a port. `why` reaches callers without a token.
    pub fn record_failure(&self, port: &str, why: &str) {
        if let Some(state) = self.states().get_mut(port) {
            state.failure = Some(why.to_owned());
        }
    }

    /// Returns the states of all ports that serve a certificate.
    pub fn all(&self) -> BTreeMap<String, CertificateState> {
        self.states().clone()
    }

    /// Locks the states.
    fn states(&self) -> MutexGuard<'_, BTreeMap<String, CertificateState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_stays_until_the_port_serves_another_certificate() {
        let certificates = Certificates::default();
        certificates.record_failure("rest", "a port without TLS has no certificate");
        assert!(certificates.all().is_empty());
        certificates.record_use("rest", 10);
        certificates.record_failure("rest", "broken");
        assert_eq!(certificates.all()["rest"], CertificateState { ends_seconds: 10, failure: Some("broken".to_owned()) });
        certificates.record_use("rest", 20);
        assert_eq!(certificates.all()["rest"], CertificateState { ends_seconds: 20, failure: None });
    }
}
