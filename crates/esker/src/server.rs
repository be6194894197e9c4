//! The server: opens everything in order, serves until told to stop, drains.

use std::fs::{File, OpenOptions, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use esker_catalog::{Access, Catalog, Failpoint, deletion, token_hash};
use esker_maintenance::{JobLimits, Maintenance};
use esker_query::{Engine, EngineOptions, QueryLimits};
use esker_read::{BlockCache, BlockOptions, Reader};
use esker_report::deliver;
use esker_rest::{App, AppOptions, Tasks};
use esker_state::State;
use esker_storage::LocalStore;
use object_store::ObjectStore;
use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::config::DEFAULT_WAREHOUSE;
use crate::supervise::Supervisor;
use crate::{Config, Error, Result, background, config, events, warehouses};

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
    state: State,
    catalogs: Vec<Catalog>,
    maintenance: Vec<Maintenance>,
    app: App,
    stop: watch::Sender<bool>,
    lost: watch::Receiver<bool>,
    tasks: Vec<JoinHandle<()>>,
    _jobs: JobThreads,
    drain: Duration,
    /// Held while the server lives.
    _lock: File,
}

impl Server {
    /// Starts.
    pub async fn start(config: &Config) -> Result<Self> {
        Self::start_on(config, Arc::new(LocalStore::default())).await
    }

    /// Starts with a store of the caller's in place of the local file system.
    pub async fn start_on(config: &Config, local: Arc<dyn ObjectStore>) -> Result<Self> {
        config.check()?;
        let dir = data_dir(config)?;
        let lock = lock(&dir)?;
        let plans = warehouses::plan(config, &dir, &local)?;
        // Ports first: a start that can't serve must change nothing.
        let rest = listen(config, config.server.rest_port, "server.rest_port").await?;
        let flight = listen(config, config.server.flight_port, "server.flight_port").await?;
        let state = State::open(config.database(&dir)?).await?;
        state.register(dead_after(config)).await?;
        let new_token = first_principal(&state, config.auth.token.as_deref()).await?;

        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let concurrency = config.maintenance.concurrency.unwrap_or(cores);
        let jobs = JobThreads::start(concurrency)?;
        let wake = Arc::new(Notify::new());
        let spill_dir = config.spill_dir(&dir);
        let blocks = blocks(config, &dir)?;
        let (mut maintenance, mut queried) = (Vec::new(), Vec::new());
        for (storage, options) in plans {
            let reader = Reader::new(storage.clone(), options.cache_bytes, blocks.clone());
            let catalog = Catalog::open(state.clone(), storage, options).await?;
            let limits = JobLimits { bytes: config.maintenance.memory_bytes, spill_dir: spill_dir.clone() };
            let (threads, wake) = (jobs.handle(), wake.clone());
            maintenance.push(Maintenance::new(catalog.clone(), reader.clone(), threads, concurrency, limits, wake));
            queried.push((catalog, reader));
        }
        let catalogs: Vec<Catalog> = queried.iter().map(|(catalog, _)| catalog.clone()).collect();
        // Names without a catalog mean the default warehouse, if there is one of that name.
        queried.sort_by_key(|(catalog, _)| catalog.options().warehouse != DEFAULT_WAREHOUSE);
        let engine = Engine::new(queried, engine_options(&config.query, cores))?;
        let access = Access::new(state.clone(), config.auth.anonymous);
        let sinks = events::sinks(&config.events)?;
        let names: Vec<String> = sinks.iter().map(|s| s.name().to_owned()).collect();
        state.retain_sinks(&names).await?;
        let tasks = Tasks::default();
        let app_options = AppOptions {
            max_body_bytes: config.server.max_body_bytes,
            idempotency_seconds: config.server.idempotency_seconds,
            plan_wait_ms: config.server.plan_wait_ms,
            sinks: names,
            tasks: tasks.clone(),
        };
        let layers = config.layers()?;
        let app = App::new(state.clone(), maintenance.clone(), layers.clone(), engine.clone(), access.clone(), app_options).await;

        for catalog in catalogs.iter().filter(|catalog| catalog.check_epoch().is_ok()) {
            let reclaimed = deletion::reclaim_outputs(catalog).await?;
            if reclaimed > 0 {
                tracing::info!(files = reclaimed, "files left behind by the last stop are being reclaimed");
            }
        }
        let (stop, stopped) = watch::channel(false);
        let (fenced, lost) = watch::channel(false);
        let addresses = (address(&rest, "server.rest_port")?, address(&flight, "server.flight_port")?);
        let halt = Failpoint { stop_at: config.debug.halt_at.clone(), panic_at: config.debug.panic_at.clone() };
        let mut set = Supervisor::new(tasks, halt, stopped.clone());
        background::listener(&mut set, "rest", rest, addresses.0, esker_rest::router(app.clone()), &stopped);
        background::listener(&mut set, "flight", flight, addresses.1, esker_flight::router(engine, access), &stopped);
        background::keepers(&mut set, config, &state, &catalogs, fenced, &stopped);
        let worker = background::worker(config, &state, &maintenance, wake);
        background::workers(&mut set, config, &maintenance, &layers, &worker, &stopped);
        if let Some(datahub) = events::datahub(&config.datahub)? {
            let (catalogs, stopped) = (catalogs.clone(), stopped.clone());
            set.run("datahub", move || datahub.clone().run(catalogs.clone(), stopped.clone()));
        }
        for sink in sinks {
            // A new sink begins with what happens from now on, not with what happens before its first look.
            state.sink_cursor(sink.name()).await?;
            let (state, stopped) = (state.clone(), stopped.clone());
            set.run(&format!("sink-{}", sink.name()), move || deliver(state.clone(), sink.clone(), stopped.clone()));
        }
        Ok(Self {
            rest: addresses.0,
            flight: addresses.1,
            new_token,
            state,
            catalogs,
            maintenance,
            app,
            stop,
            lost,
            tasks: set.into_handles(),
            _jobs: jobs,
            drain: Duration::from_secs(config.server.drain_seconds),
            _lock: lock,
        })
    }

    /// The warehouses that are served.
    pub fn catalogs(&self) -> &[Catalog] {
        &self.catalogs
    }

    /// Waits until the other servers on the database take this one for dead, if they ever do. It can change nothing from then on.
    pub async fn fenced(&mut self) {
        if self.lost.wait_for(|lost| *lost).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Stops taking requests, lets those at work and the jobs end, and closes the database.
    pub async fn stop(mut self) {
        self.app.drain();
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut self.tasks);
        let aborts: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let drained = async {
            futures::future::join_all(tasks).await;
            while self.maintenance.iter().any(|m| m.running() > 0) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(self.drain, drained).await.is_err() {
            tracing::warn!("requests or jobs were cut off: they did not end within server.drain_seconds");
        }
        aborts.iter().for_each(tokio::task::AbortHandle::abort);
        for catalog in self.catalogs.iter().filter(|catalog| catalog.check_epoch().is_ok()) {
            if let Err(error) = catalog.write_ledger().await {
                tracing::warn!(%error, "the ledger could not be written");
            }
        }
        self.state.close().await;
    }
}

/// The threads that jobs run on. A runtime must not be dropped where it would block, and a start that fails drops it there.
#[derive(Debug)]
struct JobThreads(Option<Runtime>);

impl JobThreads {
    fn start(threads: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("esker-jobs")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|source| Error::Io { path: "job threads".to_owned(), source })?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> Handle {
        // Taken only when it is dropped.
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for JobThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) fn dead_after(config: &Config) -> Duration {
    Duration::from_secs(u64::from(config.state.dead_seconds))
}

pub(crate) fn data_dir(config: &Config) -> Result<PathBuf> {
    let dir = config.data_dir.clone().ok_or_else(|| Error::Config("data_dir is not set; give --data-dir DIR".to_owned()))?;
    let failed = |source| Error::Io { path: dir.display().to_string(), source };
    std::fs::create_dir_all(&dir).map_err(failed)?;
    dir.canonicalize().map_err(failed)
}

fn blocks(config: &Config, dir: &Path) -> Result<BlockCache> {
    let place = config.cache.disk_dir.clone().unwrap_or_else(|| dir.join("cache"));
    let disk = (config.cache.disk_bytes > 0).then(|| (place.clone(), config.cache.disk_bytes));
    let options = BlockOptions { memory_bytes: config.cache.block_bytes.unwrap_or_else(|| memory() / 8), disk };
    BlockCache::open(&options).map_err(|source| Error::Io { path: place.display().to_string(), source })
}

/// The bytes of memory that the process may take: the machine's, or its container's.
fn memory() -> u64 {
    let machine = rustix::system::sysinfo();
    let all = u64::from(machine.mem_unit) * machine.totalram;
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limits.iter().find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    limit.map_or(all, |limit: u64| limit.min(all))
}

/// What queries may take where the configuration does not say.
fn quarter_of_memory() -> usize {
    usize::try_from(memory() / 4).unwrap_or(usize::MAX)
}

fn engine_options(config: &config::QueryConfig, cores: usize) -> EngineOptions {
    let memory_bytes = config.memory_bytes.unwrap_or_else(quarter_of_memory);
    let limits = QueryLimits {
        concurrency: config.concurrency,
        queue: config.queue,
        timeout: Duration::from_secs(config.timeout_seconds),
        query_memory_bytes: config.query_memory_bytes.unwrap_or(memory_bytes / 2),
        slow: Duration::from_secs_f64(config.slow_seconds),
    };
    EngineOptions { memory_bytes, parallelism: config.parallelism.unwrap_or(cores), limits }
}

/// Keeps other processes out of a data directory.
pub(crate) fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("esker.lock");
    let failed = |source| Error::Io { path: path.display().to_string(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked(dir.display().to_string())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
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
