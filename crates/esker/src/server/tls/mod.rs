//! TLS of the ports: certificates from files, which are loaded again when they change, and handshakes that hold up nobody.
//!
//! | file | work |
//! |---|---|
//! | `files.rs` | reads PEM files and makes the configuration of `rustls` |
//! | `names.rs` | reads the names of a client's certificate |
//! | `reload.rs` | looks at the files, and replaces what the ports serve |
//! | `listener.rs` | accepts connections; a slow handshake holds up no other one |
//! | `stream.rs` | a connection, with TLS or without |
//!
//! Start reading at [`TlsPort`], then at [`PortListener`].

mod files;
mod listener;
mod names;
mod reload;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;

pub(crate) use listener::PortListener;
pub(crate) use reload::Reloader;
pub(crate) use stream::PortStream;

/// The TLS of a port. Clones share the certificate, which a [`Reloader`] replaces.
#[derive(Debug, Clone)]
pub(crate) struct TlsPort {
    /// The certificate, the authorities of clients and the versions, for the handshakes that begin now.
    config: watch::Receiver<Arc<ServerConfig>>,
    /// The time that a handshake gets.
    handshake_timeout: Duration,
    /// The number of handshakes at a time.
    max_handshakes: usize,
}

impl TlsPort {
    /// Returns the configuration for a handshake that begins now.
    fn current(&self) -> Arc<ServerConfig> {
        self.config.borrow().clone()
    }
}
