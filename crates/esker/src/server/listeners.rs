//! [`Listeners`]: the two ports of a server.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::config::ServerConfig;
use crate::{Error, Result};

/// A port that listens, with its address.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The socket.
    pub(crate) socket: TcpListener,
    /// The address, with the number of a port that was configured as 0.
    pub(crate) address: SocketAddr,
}

/// The ports of a server.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// The port of the REST service.
    pub(crate) rest: Listener,
    /// The port of Flight SQL.
    pub(crate) flight: Listener,
}

impl Listeners {
    /// Listens on both ports. No connection is accepted yet.
    ///
    /// # Errors
    ///
    /// Returns [`Listen`](Error::Listen) if a port is taken or the address is not one of this machine.
    pub(super) async fn bind(server: &ServerConfig) -> Result<Self> {
        let rest = bind(server.rest_address(), "server.rest_port").await?;
        Ok(Self { rest, flight: bind(server.flight_address(), "server.flight_port").await? })
    }
}

/// Listens on an address. `key` is the configuration key of the port, for the error.
async fn bind(address: SocketAddr, key: &'static str) -> Result<Listener> {
    let failed = |source| Error::Listen { address: address.to_string(), key, source };
    let socket = TcpListener::bind(address).await.map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    Ok(Listener { socket, address })
}
