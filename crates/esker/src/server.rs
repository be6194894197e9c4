//! [`Server`]: opens all parts in order, starts the background tasks, and stops them in order.
//!
//! Start reading at [`Server::start_on`]. The order matters: the lock of the data directory, the plan of the warehouses and the
//! ports come first, so that a start that can't serve changes nothing. Then follow the database, the catalogs, the query engine,
//! and at last the tasks. [`Server::stop`] takes no new work, waits `server.drain_seconds`, and closes the database.

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
use crate::without_effect::without_effect;
use crate::{Config, Error, Result, background, config, events, warehouses};

/// The name of the principal that the first start creates.
const FIRST_PRINCIPAL: &str = "admin";

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// The address on which the REST service listens.
    pub rest: SocketAddr,
    /// The address on which Flight SQL listens.
    pub flight: SocketAddr,
    /// The token that this start made for the principal `admin`. It is to be shown once; the database has only its hash.
    pub new_token: Option<String>,
    state: State,
    catalogs: Vec<Catalog>,
    maintenance: Vec<Maintenance>,
    app: App,
    /// Becomes true when the server stops.
    stop: watch::Sender<bool>,
    /// Becomes true when the other servers count this one as dead.
    fenced_watch: watch::Receiver<bool>,
    tasks: Vec<JoinHandle<()>>,
    _jobs: JobThreads,
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
    /// - Returns [`Config`](Error::Config) if the configuration is wrong, or if `data_dir` is not set.
    /// - Returns [`Locked`](Error::Locked) if another process uses the data directory.
    /// - Returns [`Io`](Error::Io) if the data directory, the cache directory or the job threads can't be made.
    /// - Returns [`Listen`](Error::Listen) if a port is taken or the address is not one of this machine.
    /// - Returns [`State`](Error::State) if the database can't be opened or does not answer.
    /// - Returns [`Catalog`](Error::Catalog) if a warehouse can't be opened, or its pending outputs can't be read.
    /// - Returns [`Storage`](Error::Storage) if the data directory can't be the location of the default warehouse.
    /// - Returns [`Query`](Error::Query) if the query engine can't be built.
    /// - Returns [`Usage`](Error::Usage) if the system gives no random numbers for a token.
    pub async fn start_on(config: &Config, local: Arc<dyn ObjectStore>) -> Result<Self> {
        config.check()?;
        let dir = data_dir(config)?;
        let lock = lock_data_dir(&dir)?;
        let plans = warehouses::plan(config, &dir, &local)?;
        // The ports come before the database: a start that can't serve must change nothing.
        let rest = listen(config, config.server.rest_port, "server.rest_port").await?;
        let flight = listen(config, config.server.flight_port, "server.flight_port").await?;
        let state = State::open(config.database(&dir)?).await?;
        state.servers().register(config.dead_after()).await?;
        let new_token = ensure_principal(&state, config.auth.token.as_deref()).await?;

        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let concurrency = config.maintenance.concurrency.unwrap_or(cores);
        let jobs = JobThreads::start(concurrency)?;
        let wake = Arc::new(Notify::new());
        let spill_dir = config.spill_dir(&dir);
        let blocks = open_block_cache(config, &dir).await?;
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
        // The engine resolves names without a catalog in the first warehouse: the one called `default`, if there is one.
        queried.sort_by_key(|(catalog, _)| catalog.options().warehouse != DEFAULT_WAREHOUSE);
        let engine = Engine::new(queried, engine_options(&config.query, cores, query_spill_dir(&dir, &spill_dir)?))?;
        let access = Access::new(state.clone(), config.auth.anonymous);
        let sinks = events::sinks(&config.events)?;
        let names: Vec<String> = sinks.iter().map(|s| s.name().to_owned()).collect();
        state.outbox().retain_sinks(&names).await?;
        let tasks = Tasks::default();
        let app_options = AppOptions {
            max_body_bytes: config.server.max_body_bytes,
            idempotency_seconds: config.server.idempotency_seconds,
            plan_wait_ms: config.server.plan_wait_ms,
            sinks: names,
            tasks: tasks.clone(),
        };
        let layers = config.layers()?;
        for warning in without_effect(&state, &catalogs, &layers).await? {
            tracing::warn!("{warning}");
        }
        let app = App::new(state.clone(), maintenance.clone(), layers.clone(), engine.clone(), access.clone(), app_options).await;

        for catalog in catalogs.iter().filter(|catalog| catalog.check_epoch().is_ok()) {
            let reclaimed = deletion::reclaim_outputs(catalog).await?;
            if reclaimed > 0 {
                tracing::info!(files = reclaimed, "files of dead servers were put into quarantine");
            }
        }
        let (stop, stopped) = watch::channel(false);
        let (fenced, lost) = watch::channel(false);
        let addresses = (address(&rest, "server.rest_port")?, address(&flight, "server.flight_port")?);
        let halt = Failpoint { stop_at: config.debug.failpoint.clone(), panic_at: config.debug.panic_at.clone() };
        let mut set = Supervisor::new(tasks, halt, stopped.clone());
        background::spawn_listener(&mut set, "rest", rest, addresses.0, esker_rest::router(app.clone()), &stopped);
        background::spawn_listener(&mut set, "flight", flight, addresses.1, esker_flight::router(engine, access), &stopped);
        background::spawn_upkeep_tasks(&mut set, config, &state, &catalogs, fenced, &stopped);
        let worker = background::worker(config, &state, &maintenance, wake);
        background::spawn_job_tasks(&mut set, config, &maintenance, &layers, &worker, &stopped);
        if let Some(datahub) = events::datahub(&config.datahub)? {
            let (state, catalogs, stopped) = (state.clone(), catalogs.clone(), stopped.clone());
            set.run("datahub", move || datahub.clone().run(state.clone(), catalogs.clone(), stopped.clone()));
        }
        for sink in sinks {
            // Gives a new sink its cursor now. Its task may run later, and must not miss the events until then.
            state.outbox().sink_cursor(sink.name()).await?;
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
            fenced_watch: lost,
            tasks: set.into_handles(),
            _jobs: jobs,
            drain_timeout: Duration::from_secs(config.server.drain_seconds),
            _lock: lock,
        })
    }

    /// Returns the catalogs of the warehouses, in the order of their names.
    pub fn catalogs(&self) -> &[Catalog] {
        &self.catalogs
    }

    /// Waits until the other servers on the database count this one as dead. Waits for ever if they never do.
    ///
    /// From then on this server can change nothing, and must be stopped.
    pub async fn fenced(&mut self) {
        if self.fenced_watch.wait_for(|lost| *lost).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Stops the server: takes no new requests, waits for requests and jobs, and closes the database.
    ///
    /// Requests and jobs that do not end within `server.drain_seconds` are aborted. A job that is cut off runs again later. The
    /// ledger of each warehouse is written at the end.
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
        if tokio::time::timeout(self.drain_timeout, drained).await.is_err() {
            tracing::warn!("requests or jobs were aborted: they did not end within server.drain_seconds");
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

/// Size of a thread's stack in bytes: statements and predicates are planned by recursion. No page is taken before it is used.
pub(crate) const STACK_BYTES: usize = 128 << 20;

/// The threads that jobs run on.
///
/// A Tokio runtime must not be dropped in async code, where the drop would block. A failed start drops it there, so `Drop` shuts
/// it down in the background.
#[derive(Debug)]
struct JobThreads(Option<Runtime>);

impl JobThreads {
    fn start(threads: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_stack_size(STACK_BYTES)
            .worker_threads(threads.max(1))
            .thread_name("esker-jobs")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|source| Error::Io { path: "job threads".to_owned(), source })?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> Handle {
        // The runtime is there until `drop` takes it, so the default is never used.
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

/// Creates the data directory if it is missing, and returns its absolute path.
pub(crate) fn data_dir(config: &Config) -> Result<PathBuf> {
    let dir = config.data_dir.clone().ok_or_else(|| Error::Config("data_dir is not set; give --data-dir DIR".to_owned()))?;
    let failed = |source| Error::Io { path: dir.display().to_string(), source };
    std::fs::create_dir_all(&dir).map_err(failed)?;
    dir.canonicalize().map_err(failed)
}

/// Opens the cache of column chunks that all warehouses share.
async fn open_block_cache(config: &Config, dir: &Path) -> Result<BlockCache> {
    let place = config.cache.disk_dir.clone().unwrap_or_else(|| dir.join("cache"));
    let disk = (config.cache.disk_bytes > 0).then(|| (place.clone(), config.cache.disk_bytes));
    let options = BlockOptions { memory_bytes: config.cache.block_bytes.unwrap_or_else(|| memory_bytes() / 8), disk };
    BlockCache::open(&options).await.map_err(|source| Error::Io { path: place.display().to_string(), source })
}

/// Returns the bytes of memory that the process may use: those of the machine, or fewer if its container has a limit.
fn memory_bytes() -> u64 {
    let machine = rustix::system::sysinfo();
    let all = u64::from(machine.mem_unit) * machine.totalram;
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limits.iter().find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    limit.map_or(all, |limit: u64| limit.min(all))
}

/// Returns the default of `query.memory_bytes`.
fn quarter_of_memory() -> usize {
    usize::try_from(memory_bytes() / 4).unwrap_or(usize::MAX)
}

/// Makes the directory that queries spill to. In a server's own data directory, what a killed process left there is removed.
fn query_spill_dir(data_dir: &Path, spill_dir: &Path) -> Result<PathBuf> {
    let path = spill_dir.join("queries");
    let failed = |source| Error::Io { path: path.display().to_string(), source };
    if path.starts_with(data_dir) && path.exists() {
        std::fs::remove_dir_all(&path).map_err(failed)?;
    }
    std::fs::create_dir_all(&path).map_err(failed)?;
    Ok(path)
}

fn engine_options(config: &config::QueryConfig, cores: usize, spill_dir: PathBuf) -> EngineOptions {
    let memory_bytes = config.memory_bytes.unwrap_or_else(quarter_of_memory);
    let limits = QueryLimits {
        concurrency: config.concurrency,
        queue: config.queue,
        timeout: Duration::from_secs(config.timeout_seconds),
        query_memory_bytes: config.query_memory_bytes.unwrap_or(memory_bytes / 2),
        slow: Duration::from_secs_f64(config.slow_seconds),
    };
    EngineOptions { memory_bytes, parallelism: config.parallelism.unwrap_or(cores), limits, spill_dir }
}

/// Locks a data directory against other processes, until the returned file is dropped.
pub(crate) fn lock_data_dir(dir: &Path) -> Result<File> {
    let path = dir.join("esker.lock");
    let failed = |source| Error::Io { path: path.display().to_string(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked(dir.display().to_string())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Listens on a port of `server.listen`. `key` is the configuration key of the port, for the error.
async fn listen(config: &Config, port: u16, key: &'static str) -> Result<TcpListener> {
    let address = SocketAddr::from((config.server.listen, port));
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address: address.to_string(), key, source })
}

/// Returns the address that a listener has; a port that was configured as 0 has its number here.
fn address(listener: &TcpListener, key: &'static str) -> Result<SocketAddr> {
    listener.local_addr().map_err(|source| Error::Listen { address: "the socket".to_owned(), key, source })
}

/// Makes sure that there is a principal that can use the server. Returns the token if this made one.
///
/// A configured token replaces the one of the principal `admin`.
async fn ensure_principal(state: &State, configured: Option<&str>) -> Result<Option<String>> {
    if let Some(token) = configured {
        state.principals().put(FIRST_PRINCIPAL, &token_hash(token)).await?;
        return Ok(None);
    }
    if state.principals().any().await? {
        return Ok(None);
    }
    let token = fresh_token()?;
    state.principals().put(FIRST_PRINCIPAL, &token_hash(&token)).await?;
    Ok(Some(token))
}

/// Makes a token of 32 random bytes, in hex.
pub(crate) fn fresh_token() -> Result<String> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| Error::Usage(format!("the system gives no random numbers: {e}")))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
