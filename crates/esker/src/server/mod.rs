//! [`Server`]: opens all parts in order, starts the background tasks, and stops them in order.
//!
//! Start reading at [`Server::start_on`]. The order matters: the lock of the data directory, the plan of the warehouses and the
//! ports come first, so that a start that can't serve changes nothing. Then follow the database, the parts that `parts.rs` opens,
//! and at last the tasks, which `background.rs` lists. [`Server::stop`] takes no new work, waits `server.drain_seconds`, and closes
//! the database.

mod connections;
mod data_dir;
mod listeners;
mod machine;
mod parts;
mod tls;
mod token;
mod unread;

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use esker_auth::{AccessControl, KeyRing};
use esker_catalog::Catalog;
use esker_maintenance::Maintenance;
use esker_rest::{App, Tasks};
use esker_state::State;
use esker_storage::LocalStore;
use object_store::ObjectStore;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{Config, Result, background, events, warehouses};
pub(crate) use connections::{ClientLimits, serve_port};
pub(crate) use data_dir::{data_dir, existing_data_dir, lock_data_dir, seen_changes_file};
pub(crate) use listeners::{Listener, Listeners};
pub(crate) use machine::{STACK_BYTES, memory_bytes};
pub(crate) use parts::Parts;
pub(crate) use tls::{PortListener, Reloader};

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// The address on which the REST service listens.
    pub rest: SocketAddr,
    /// The address on which Flight SQL listens.
    pub flight: SocketAddr,
    /// The address on which it listens for other servers, if it does.
    pub peers: Option<SocketAddr>,
    /// The token that this start made for the principal `admin`. It is to be shown once; the database has only its hash.
    pub new_token: Option<String>,
    parts: Parts,
    app: App,
    /// Becomes true when the server stops.
    stop: watch::Sender<bool>,
    /// Becomes true when the other servers count this one as dead.
    fenced: watch::Receiver<bool>,
    tasks: Vec<JoinHandle<()>>,
    /// The time that requests and jobs get to end when the server stops.
    drain_timeout: Duration,
    /// The lock of the data directory, held while the server lives.
    _lock: File,
}

impl Server {
    /// Starts a server. When this returns, it listens and its background tasks run.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Server::start_on`].
    pub async fn start(config: &Config) -> Result<Self> {
        Self::start_on(config, Arc::new(LocalStore::default())).await
    }

    /// Starts a server, with the given store in place of the local file system.
    ///
    /// # Errors
    ///
    /// - Returns [`Config`](crate::Error::Config) if the configuration is wrong, if a file of certificates or keys can't be used, or
    ///   if `data_dir` is not set.
    /// - Returns [`Locked`](crate::Error::Locked) if another process uses the data directory.
    /// - Returns [`Io`](crate::Error::Io) if the data directory, the cache directory, the directory for spills or the job threads
    ///   can't be made.
    /// - Returns [`Auth`](crate::Error::Auth) if the system gives no random numbers for a token, or the rules of access control
    ///   or the keys can't be loaded.
    /// - Returns [`Listen`](crate::Error::Listen) if a port is taken or the address is not one of this machine.
    /// - Returns [`State`](crate::Error::State) if `state.url` names no supported database, if the database can't be opened or
    ///   does not answer, or if the file that says what it confirmed can't be read.
    /// - Returns [`Catalog`](crate::Error::Catalog) if a warehouse can't be opened, or its namespaces or pending outputs can't be
    ///   read.
    /// - Returns [`Storage`](crate::Error::Storage) if the data directory can't be the location of the default warehouse.
    /// - Returns [`Report`](crate::Error::Report) if the client of a receiver of events or health can't be made.
    /// - Returns [`Query`](crate::Error::Query) if the query engine can't be built.
    pub async fn start_on(config: &Config, local: Arc<dyn ObjectStore>) -> Result<Self> {
        config.check()?;
        let dir = data_dir(config.data_dir.as_deref())?;
        let lock = lock_data_dir(&dir)?;
        let plans = warehouses::plan(config, &dir, &local)?;
        // The ports come before the database: a start that can't serve must change nothing.
        let listeners = Listeners::bind(&config.server).await?;
        let state = State::open(config.state.database(&dir)?).await?;
        state.servers().remember_in(&seen_changes_file(&dir))?;
        state.servers().register(config.state.dead_after()).await?;
        let new_token = token::ensure_principal(&state, config.auth.token.as_deref()).await?;
        let peers = listeners.peers.as_ref().map(|listener| listener.address);
        let parts = Parts::open(config, &dir, plans, state, peers).await?;
        let receivers = events::open(config, &parts.state).await?;
        parts.warn_of_names_without_effect().await?;
        let tasks = Tasks::default();
        let app = parts.app(config, receivers.names(), tasks.clone(), listeners.certificates.clone()).await?;
        parts.reclaim_outputs().await?;
        let (stop, stopped) = watch::channel(false);
        let (rest, flight) = (listeners.rest.address, listeners.flight.address);
        let (handles, fenced) = background::spawn(config, &parts, &app, listeners, receivers, tasks, stopped);
        let drain_timeout = config.server.drain_timeout();
        Ok(Self { rest, flight, peers, new_token, parts, app, stop, fenced, tasks: handles, drain_timeout, _lock: lock })
    }

    /// Returns the catalogs of the warehouses, in the order of their names.
    pub fn catalogs(&self) -> &[Catalog] {
        &self.parts.catalogs
    }

    /// Returns the maintenance of the warehouses, in the order of their names.
    pub fn maintenance(&self) -> &[Maintenance] {
        &self.parts.maintenance
    }

    /// Returns access control, which knows the rules and changes them.
    pub fn access(&self) -> &AccessControl {
        self.app.access()
    }

    /// Returns the keys that authenticate what clients carry.
    pub fn keys(&self) -> &KeyRing {
        &self.parts.keys
    }

    /// Waits until the other servers on the database count this one as dead. Waits for ever if they never do.
    ///
    /// From then on this server can change nothing, and must be stopped.
    pub async fn fenced(&mut self) {
        if self.fenced.wait_for(|fenced| *fenced).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Stops the server: takes no new requests, waits for requests and jobs, and closes the database.
    ///
    /// Requests and jobs that do not end within `server.drain_seconds` are aborted. A job that is cut off runs again later. The
    /// ledger of each warehouse is written at the end.
    pub async fn stop(mut self) {
        self.app.drain();
        // Clients whose commits were late would wait for their turns longer than the server does.
        self.parts.catalogs.iter().for_each(Catalog::end_turns);
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut self.tasks);
        let aborts: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let drained = async {
            futures::future::join_all(tasks).await;
            while self.parts.maintenance.iter().any(|m| m.running() > 0) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(self.drain_timeout, drained).await.is_err() {
            tracing::warn!("requests or jobs were aborted: they did not end within server.drain_seconds");
        }
        aborts.iter().for_each(tokio::task::AbortHandle::abort);
        // The requests that were just drained have left records. Those that are lost are logged.
        self.parts.access.audit().drain().await;
        self.parts.write_ledgers().await;
        self.parts.state.close().await;
    }
}
