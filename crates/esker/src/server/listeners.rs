//! [`Listeners`]: the ports of a server, with their TLS.

use std::net::SocketAddr;

use esker_rest::Certificates;
use tokio::net::TcpListener;

use super::tls::{Reloader, TlsPort};
use crate::config::ServerConfig;
use crate::{Error, Result};

/// A port that listens, with its address.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The socket.
    pub(crate) socket: TcpListener,
    /// The address, with the number of a port that was configured as 0.
    pub(crate) address: SocketAddr,
    /// The TLS of the port; `None` if it speaks plain HTTP.
    pub(crate) tls: Option<TlsPort>,
}

/// The ports of a server.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// The port of the REST service.
    pub(crate) rest: Listener,
    /// The port of Flight SQL.
    pub(crate) flight: Listener,
    /// The port for other servers, if there is one. What comes in there is encrypted by itself.
    pub(crate) peers: Option<Listener>,
    /// What replaces the certificates of the ports.
    pub(crate) reloaders: Vec<Reloader>,
    /// The states of the certificates that the ports serve.
    pub(crate) certificates: Certificates,
}

impl Listeners {
    /// Loads the certificates, and listens on all ports. No connection is accepted yet.
    ///
    /// # Errors
    ///
    /// Returns [`Config`](Error::Config) if a file of `server.tls` or `server.flight_tls` can't be used. Returns
    /// [`Listen`](Error::Listen) if a port is taken or the address is not one of this machine.
    pub(super) async fn bind(server: &ServerConfig) -> Result<Self> {
        let certificates = Certificates::default();
        let reloaders = open_reloaders(server, &certificates).await?;
        // If Flight SQL has no section of its own, there is one reloader, for both ports.
        let (first, last) = (reloaders.first().map(Reloader::port), reloaders.last().map(Reloader::port));
        let rest_tls = first.filter(|_| server.tls.is_on());
        let rest = bind(server.rest_address(), "server.rest_port", rest_tls).await?;
        let flight = bind(server.flight_address(), "server.flight_port", last).await?;
        for (listener, key) in [(&rest, "server.rest_port"), (&flight, "server.flight_port")] {
            warn_of_plain(listener, key);
        }
        let peers = match server.peer_listen {
            Some(address) => Some(bind(address, "server.peer_listen", None).await?),
            None => None,
        };
        Ok(Self { rest, flight, peers, reloaders, certificates })
    }
}

/// Loads the certificates of the sections that are on: of the REST service first, of Flight SQL last.
async fn open_reloaders(server: &ServerConfig, certificates: &Certificates) -> Result<Vec<Reloader>> {
    let (flight_section, flight_tls) = server.tls_of_flight();
    let shared = flight_section == "server.tls";
    let mut reloaders = Vec::new();
    if server.tls.is_on() {
        let ports = if shared { vec!["rest", "flight"] } else { vec!["rest"] };
        reloaders.push(Reloader::open("server.tls", &server.tls, ports, certificates.clone()).await?);
    }
    if !shared {
        reloaders.push(Reloader::open(flight_section, flight_tls, vec!["flight"], certificates.clone()).await?);
    }
    Ok(reloaders)
}

/// Listens on an address. `key` is the configuration key of the port, for the error.
async fn bind(address: SocketAddr, key: &'static str, tls: Option<TlsPort>) -> Result<Listener> {
    let failed = |source| Error::Listen { address: address.to_string(), key, source };
    let socket = TcpListener::bind(address).await.map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    Ok(Listener { socket, address, tls })
}

/// Logs a warning for a port of clients that speaks plain HTTP on a network. `key` is its configuration key.
fn warn_of_plain(Listener { address, tls, .. }: &Listener, key: &'static str) {
    if tls.is_none() && !address.ip().is_loopback() {
        tracing::warn!(%address, key, "the port speaks plain HTTP on a network: tokens can be read on the way; set server.tls");
    }
}
