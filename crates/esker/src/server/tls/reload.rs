//! [`Reloader`]: looks at the files of a section of TLS, and replaces what its ports serve.
//!
//! Files that do not go together change nothing: the ports go on with the earlier certificate, the log has an error, `/readyz` has a
//! line, and the next look tries again. Connections stay as they are, because only handshakes use the files.

use std::sync::{Arc, Mutex, PoisonError};

use esker_rest::Certificates;
use esker_types::now_ms;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::rustls::ServerConfig;

use super::TlsPort;
use super::files::{PemFiles, ServedTls};
use crate::config::TlsConfig;
use crate::{Error, Result};

/// The certificate of the ports of one section, and its replacement.
#[derive(Debug)]
pub(crate) struct Reloader {
    /// The name of the section, for texts.
    section: &'static str,
    tls: TlsConfig,
    /// The ports that serve the certificate: `rest`, `flight` or both.
    ports: Vec<&'static str>,
    served: watch::Sender<Arc<ServerConfig>>,
    certificates: Certificates,
    progress: Mutex<Progress>,
}

/// What the last look found.
#[derive(Debug)]
struct Progress {
    /// The hash of the files that the ports use.
    used: [u8; 32],
    /// The reason why other files were not used, until that ends.
    problem: Option<String>,
}

impl Reloader {
    /// Loads the files of a section that is on, for its ports.
    ///
    /// # Errors
    ///
    /// Returns [`Config`](Error::Config), with the key, if a file can't be read or used.
    pub(crate) async fn open(
        section: &'static str,
        tls: &TlsConfig,
        ports: Vec<&'static str>,
        certificates: Certificates,
    ) -> Result<Self> {
        let files = PemFiles::read(section, tls).await.map_err(Error::Config)?;
        let ServedTls { config, ends_seconds } = files.server_config(section, tls).map_err(Error::Config)?;
        if has_ended(ends_seconds) {
            tracing::error!(section, ends_seconds, "the server's certificate has ended; clients will refuse it");
        }
        ports.iter().for_each(|port| certificates.record_use(port, ends_seconds));
        let progress = Mutex::new(Progress { used: files.digest(), problem: None });
        Ok(Self { section, tls: tls.clone(), ports, served: watch::Sender::new(config), certificates, progress })
    }

    /// Returns the TLS of a port of the section.
    pub(crate) fn port(&self) -> TlsPort {
        TlsPort {
            config: self.served.subscribe(),
            handshake_timeout: self.tls.handshake_timeout(),
            max_handshakes: self.tls.max_handshakes,
        }
    }

    /// Returns the name of the section.
    pub(crate) fn section(&self) -> &'static str {
        self.section
    }

    /// Checks that the files are looked at again.
    pub(crate) fn reloads(&self) -> bool {
        self.tls.reload_interval().is_some()
    }

    /// Looks at the files again and again. Returns at once if they are read only at the start.
    pub(crate) async fn run(&self) {
        let Some(interval) = self.tls.reload_interval() else { return };
        loop {
            sleep(interval).await;
            self.look().await;
        }
    }

    /// Looks at the files, and serves them if they changed and can be used.
    async fn look(&self) {
        let files = PemFiles::read(self.section, &self.tls).await;
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        match files.and_then(|files| self.replace(&files, &mut progress)) {
            Ok(()) => progress.problem = None,
            Err(why) => self.keep(why, &mut progress),
        }
    }

    /// Serves the files, unless the ports use these very ones.
    ///
    /// # Errors
    ///
    /// Returns the reason why the files can't be used, with the key.
    fn replace(&self, files: &PemFiles, progress: &mut Progress) -> std::result::Result<(), String> {
        let digest = files.digest();
        if digest == progress.used && progress.problem.is_none() {
            return Ok(());
        }
        let ServedTls { config, ends_seconds } = files.server_config(self.section, &self.tls)?;
        let changed = digest != progress.used;
        if changed && has_ended(ends_seconds) {
            return Err(format!("{}.certificate: the new certificate has ended already", self.section));
        }
        self.ports.iter().for_each(|port| self.certificates.record_use(port, ends_seconds));
        if changed {
            self.served.send_replace(config);
            progress.used = digest;
            tracing::info!(section = self.section, ends_seconds, "the certificate was loaded again");
        }
        Ok(())
    }

    /// Records that the ports keep what they serve. A reason is logged once, until it changes.
    ///
    /// Probes need no token, so they do not learn the reason, which can have a path.
    fn keep(&self, why: String, progress: &mut Progress) {
        if progress.problem.as_deref() == Some(why.as_str()) {
            return;
        }
        let section = self.section;
        tracing::error!(section, why, "the certificate could not be loaded again; the earlier one stays in use");
        let told = format!("the files of {section} can't be used; the log has the reason");
        self.ports.iter().for_each(|port| self.certificates.record_failure(port, &told));
        progress.problem = Some(why);
    }
}

/// Checks that a certificate has ended.
fn has_ended(ends_seconds: i64) -> bool {
    ends_seconds <= now_ms() / 1000
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// Makes a certificate that signs itself, and its key, in PEM.
    fn self_signed(end_year: i32) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["esker.example".to_owned()]).expect("a name");
        params.not_after = date_time_ymd(end_year, 1, 1);
        (params.self_signed(&key).expect("signed").pem(), key.serialize_pem())
    }

    fn write(dir: &Path, certificate: &str, key: &str) {
        std::fs::write(dir.join("c.pem"), certificate).expect("written");
        std::fs::write(dir.join("k.pem"), key).expect("written");
    }

    #[tokio::test]
    async fn files_that_do_not_go_together_change_nothing_until_they_are_mended() {
        let dir = tempfile::tempdir().expect("a directory");
        let (first, second, ended) = (self_signed(2040), self_signed(2041), self_signed(2001));
        write(dir.path(), &first.0, &first.1);
        let pair = |name: &str| Some(dir.path().join(name));
        let tls = TlsConfig { certificate: pair("c.pem"), key: pair("k.pem"), ..TlsConfig::default() };
        let states = Certificates::default();
        let reloader = Reloader::open("server.tls", &tls, vec!["rest", "flight"], states.clone()).await.expect("a pair");
        let port = reloader.port();
        let (used, ends) = (port.current(), states.all()["flight"].ends_seconds);
        let problem = || reloader.progress.lock().expect("not poisoned").problem.clone().unwrap_or_default();
        let told = "the files of server.tls can't be used; the log has the reason";
        for (certificate, key, words) in [
            (second.0.as_str(), first.1.as_str(), "do not go together"),
            ("", "", "no certificate"),
            (ended.0.as_str(), ended.1.as_str(), "has ended already"),
        ] {
            write(dir.path(), certificate, key);
            reloader.look().await;
            assert!(problem().contains(words), "{words}: {}", problem());
            assert_eq!(states.all()["rest"].failure.as_deref(), Some(told), "{words}");
            assert!(Arc::ptr_eq(&used, &port.current()) && states.all()["rest"].ends_seconds == ends, "{words}");
        }
        let command = vec!["cat".to_owned(), dir.path().join("k.pem").display().to_string()];
        let printed = TlsConfig { key: None, key_command: command, ..tls.clone() };
        write(dir.path(), &first.0, &first.1);
        let open = async |tls: &TlsConfig| Reloader::open("server.tls", tls, vec!["rest"], Certificates::default()).await;
        open(&printed).await.expect("the key that a command prints");
        let failing = TlsConfig { key_command: vec!["false".to_owned()], ..printed };
        let refused = open(&failing).await.expect_err("no key");
        assert!(refused.to_string().contains("server.tls.key_command: false failed"), "{refused}");
        std::fs::remove_file(dir.path().join("k.pem")).expect("removed");
        reloader.look().await;
        assert!(problem().starts_with("server.tls.key: "), "{}", problem());
        assert_eq!(states.all()["flight"].failure.as_deref(), Some(told), "without the path");
        write(dir.path(), &first.0, &first.1);
        reloader.look().await;
        assert!(Arc::ptr_eq(&used, &port.current()), "the files are those in use");
        assert_eq!(states.all()["rest"].failure, None);
        write(dir.path(), &second.0, &second.1);
        reloader.look().await;
        assert!(!Arc::ptr_eq(&used, &port.current()));
        assert!(states.all().values().all(|state| state.failure.is_none() && state.ends_seconds > ends));
    }
}
