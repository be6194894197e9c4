//! [`PortListener`]: accepts the connections of a port.
//!
//! Each handshake is a task, so that a slow client holds up no other one. The number of handshakes at a time is bounded. Beyond it
//! the oldest one is ended: an honest client is done within milliseconds, so the oldest is one that does not mean to be.
//!
//! A listener that is dropped ends the handshakes that are not complete. Their clients have sent no request yet.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use esker_auth::{Connection, TlsSession};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::TlsPort;
use super::names::client_certificate;
use super::stream::PortStream;

/// The pause after an error of the socket, such as too many open files, before it is asked again.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// A connection that is ready for requests.
type Accepted = (PortStream, Connection);

/// The listener of a port.
#[derive(Debug)]
pub(crate) struct PortListener {
    socket: TcpListener,
    tls: Option<TlsPort>,
    /// The handshakes that are not complete, and those that nobody has taken yet. `None` for a handshake that failed.
    handshakes: JoinSet<Option<Accepted>>,
    /// The handshakes in the order of their start. Complete ones are among them for a while.
    started: VecDeque<AbortHandle>,
}

impl PortListener {
    /// Makes the listener of a socket. Without `tls`, the port speaks plain HTTP.
    pub(crate) fn new(socket: TcpListener, tls: Option<TlsPort>) -> Self {
        Self { socket, tls, handshakes: JoinSet::new(), started: VecDeque::new() }
    }

    /// Starts the handshake of a connection.
    fn start_handshake(&mut self, tls: TlsPort, stream: TcpStream, address: SocketAddr) {
        if self.handshakes.len() >= tls.max_handshakes {
            self.end_oldest_handshake();
        }
        if self.started.len() >= tls.max_handshakes.saturating_mul(2) {
            self.started.retain(|handshake| !handshake.is_finished());
        }
        self.started.push_back(self.handshakes.spawn(handshake(tls, stream, address)));
    }

    /// Ends the oldest handshake that is not complete.
    fn end_oldest_handshake(&mut self) {
        while let Some(oldest) = self.started.pop_front() {
            if !oldest.is_finished() {
                oldest.abort();
                tracing::debug!("a handshake was ended for a new one: max_handshakes are at work");
                return;
            }
        }
    }
}

impl axum::serve::Listener for PortListener {
    type Io = PortStream;
    type Addr = Connection;

    async fn accept(&mut self) -> Accepted {
        loop {
            tokio::select! {
                // A connection that is ready comes before a new one.
                biased;
                Some(ended) = self.handshakes.join_next() => {
                    if let Ok(Some(accepted)) = ended {
                        return accepted;
                    }
                }
                accepted = self.socket.accept() => match (accepted, self.tls.clone()) {
                    (Ok((stream, address)), None) => return (PortStream::Plain(stream), Connection::plain(address)),
                    (Ok((stream, address)), Some(tls)) => self.start_handshake(tls, stream, address),
                    (Err(error), _) => pause_after(&error).await,
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<Connection> {
        self.socket.local_addr().map(Connection::plain)
    }
}

/// Waits a moment after an error of the socket, unless the error is that of one connection.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::error!(%error, "a connection could not be accepted");
        sleep(ERROR_PAUSE).await;
    }
}

/// Carries out a handshake. Returns `None` if it fails or takes too long.
async fn handshake(tls: TlsPort, stream: TcpStream, address: SocketAddr) -> Option<Accepted> {
    let stream = match timeout(tls.handshake_timeout, TlsAcceptor::from(tls.current()).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "a handshake failed");
            return None;
        }
        Err(_) => {
            tracing::debug!(%address, "a handshake took longer than handshake_seconds");
            return None;
        }
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(client_certificate);
    let certificate = match shown.transpose() {
        Ok(certificate) => certificate.map(Arc::new),
        Err(error) => {
            tracing::warn!(%address, error, "the names of a client certificate can't be read; the connection is closed");
            return None;
        }
    };
    Some((PortStream::Tls(Box::new(stream)), Connection { address, tls: Some(TlsSession { certificate }) }))
}
