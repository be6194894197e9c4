//! The server: opens everything in order, serves until told to stop, drains.

use std::fs::{File, OpenOptions, TryLockError};
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use esker_catalog::{Access, Catalog, Halt, Options, deletion, token_hash};
use esker_maintenance::Maintenance;
use esker_query::{Engine, EngineOptions};
use esker_read::Reader;
use esker_rest::App;
use esker_state::State;
use esker_storage::{Location, Storage};
use esker_types::now_ms;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{Config, Error, Result};

/// The principal that the first start makes.
const FIRST_PRINCIPAL: &str = "admin";

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// Where REST listens.
    pub rest: SocketAddr,
    /// Where Flight SQL listens.
    pub flight: SocketAddr,
    /// The token that this start made, to be shown once.
    pub new_token: Option<String>,
    catalog: Catalog,
    maintenance: Maintenance,
    app: App,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    jobs: Option<Runtime>,
    drain: Duration,
    /// Held while the server lives.
    _lock: File,
}

impl Server {
    /// Starts on the local file system.
    pub async fn start(config: &Config) -> Result<Self> {
        Self::start_on(config, Storage::local()).await
    }

    /// Starts on a storage of the caller's.
    pub async fn start_on(config: &Config, storage: Storage) -> Result<Self> {
        config.check()?;
        let dir = data_dir(config)?;
        let lock = lock(&dir)?;
        // Ports first: a start that can't serve must change nothing.
        let rest = listen(config, config.server.rest_port, "server.rest_port").await?;
        let flight = listen(config, config.server.flight_port, "server.flight_port").await?;
        let state = State::open(&dir.join("esker.db")).await?;
        let new_token = first_principal(&state, config.auth.token.as_deref()).await?;

        let catalog = Catalog::open(state.clone(), storage.clone(), catalog_options(config, &dir)?).await?;
        let reader = Reader::new(storage, config.cache.bytes);
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let concurrency = config.maintenance.concurrency.unwrap_or(cores);
        let jobs = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(concurrency.max(1))
            .thread_name("esker-jobs")
            .enable_all()
            .build()
            .map_err(|source| Error::Io { path: "job threads".to_owned(), source })?;
        let maintenance = Maintenance::new(catalog.clone(), reader.clone(), jobs.handle().clone(), concurrency);
        let options =
            EngineOptions { memory_bytes: config.query.memory_bytes, parallelism: config.query.parallelism.unwrap_or(cores) };
        let engine = Engine::new(catalog.clone(), reader, options)?;
        let access = Access::new(state, config.auth.anonymous);
        let app = App::new(maintenance.clone(), engine.log().clone(), access.clone());

        let reclaimed = deletion::reclaim(&catalog).await?;
        if reclaimed > 0 {
            tracing::info!(files = reclaimed, "files left behind by the last stop are being reclaimed");
        }
        let (stop, stopped) = watch::channel(false);
        let rest_router = esker_rest::router(app.clone(), config.server.max_body_bytes);
        let addresses = (address(&rest, "server.rest_port")?, address(&flight, "server.flight_port")?);
        let tasks = vec![
            tokio::spawn(serve(rest, rest_router, stopped.clone())),
            tokio::spawn(serve(flight, esker_flight::router(engine, access), stopped.clone())),
            tokio::spawn(sweep_regularly(catalog.clone(), Duration::from_secs(config.maintenance.sweep_seconds.max(1)), stopped)),
        ];
        Ok(Self {
            rest: addresses.0,
            flight: addresses.1,
            new_token,
            catalog,
            maintenance,
            app,
            stop,
            tasks,
            jobs: Some(jobs),
            drain: Duration::from_secs(config.server.drain_seconds),
            _lock: lock,
        })
    }

    /// The catalog that is served.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Stops taking requests, lets those at work and the jobs end, and closes the database.
    pub async fn stop(mut self) {
        self.app.drain();
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut self.tasks);
        let aborts: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let drained = async {
            futures::future::join_all(tasks).await;
            while self.maintenance.running() > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(self.drain, drained).await.is_err() {
            tracing::warn!("requests or jobs were cut off: they did not end within server.drain_seconds");
        }
        aborts.iter().for_each(tokio::task::AbortHandle::abort);
        self.catalog.state().close().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A runtime must not be dropped where it would block.
        if let Some(jobs) = self.jobs.take() {
            jobs.shutdown_background();
        }
    }
}

fn data_dir(config: &Config) -> Result<PathBuf> {
    let dir = config.data_dir.clone().ok_or_else(|| Error::Config("data_dir is not set; give --data-dir DIR".to_owned()))?;
    let failed = |source| Error::Io { path: dir.display().to_string(), source };
    std::fs::create_dir_all(&dir).map_err(failed)?;
    dir.canonicalize().map_err(failed)
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("esker.lock");
    let failed = |source| Error::Io { path: path.display().to_string(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked(dir.display().to_string())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn catalog_options(config: &Config, dir: &Path) -> Result<Options> {
    let location = match &config.warehouse.location {
        Some(uri) => Location::parse(uri).map_err(|e| Error::Config(format!("warehouse.location: {e}")))?,
        None => Location::of_path(&dir.join("warehouse"))?,
    };
    let allowed = config.warehouse.allowed_locations.iter().map(|uri| Location::parse(uri));
    let allowed: std::result::Result<Vec<_>, _> = allowed.collect();
    Ok(Options {
        warehouse: config.warehouse.name.clone(),
        location,
        allowed_locations: allowed.map_err(|e| Error::Config(format!("warehouse.allowed_locations: {e}")))?,
        grace_ms: i64::try_from(config.maintenance.grace_seconds).unwrap_or(i64::MAX).saturating_mul(1000),
        cache_bytes: config.cache.bytes,
        halt: Halt::at_point(config.debug.halt_at.clone()),
    })
}

async fn listen(config: &Config, port: u16, key: &'static str) -> Result<TcpListener> {
    let address = SocketAddr::from((config.server.listen, port));
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address: address.to_string(), key, source })
}

fn address(listener: &TcpListener, key: &'static str) -> Result<SocketAddr> {
    listener.local_addr().map_err(|source| Error::Listen { address: "the socket".to_owned(), key, source })
}

/// Makes sure that somebody may ask; returns the token if this start made one.
async fn first_principal(state: &State, configured: Option<&str>) -> Result<Option<String>> {
    if let Some(token) = configured {
        state.put_principal(FIRST_PRINCIPAL, &token_hash(token)).await?;
        return Ok(None);
    }
    if state.has_principals().await? {
        return Ok(None);
    }
    let token = fresh_token()?;
    state.put_principal(FIRST_PRINCIPAL, &token_hash(&token)).await?;
    Ok(Some(token))
}

/// 32 random bytes in hex.
pub(crate) fn fresh_token() -> Result<String> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| Error::Usage(format!("no random numbers: {e}")))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

async fn serve(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let until = async move {
        // A sender that is gone has stopped as well.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(until).into_future().await {
        tracing::error!(%error, "a listener failed");
    }
}

async fn sweep_regularly(catalog: Catalog, every: Duration, mut stopped: watch::Receiver<bool>) {
    loop {
        match deletion::sweep(&catalog, now_ms()).await {
            Ok(swept) if swept.deleted + swept.spared + swept.failed > 0 => tracing::info!(?swept, "quarantine swept"),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the quarantine could not be swept"),
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}
