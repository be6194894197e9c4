//! [`Parts`]: the database, the catalogs and the engine of a server, opened before its first task runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use esker_auth::{AccessControl, Audit, Authenticator, KeyRing, LoggedDecisions, PrincipalLimits};
use esker_autopilot::Layers;
use esker_catalog::{Catalog, CatalogOptions, Forwarder, deletion};
use esker_maintenance::Maintenance;
use esker_query::Engine;
use esker_read::{BlockCache, Reader};
use esker_rest::{App, AppOptions, Certificates, RuleAuthorities, Tasks};
use esker_state::State;
use esker_storage::Storage;
use esker_table::DeleteFiles;
use esker_write::ParquetDeletes;
use tokio::sync::Notify;

use super::data_dir::query_spill_dir;
use super::machine::{JobThreads, cores};
use crate::config::DEFAULT_WAREHOUSE;
use crate::peers::PeerClient;
use crate::without_effect::names_without_effect;
use crate::{Config, Error, Result};

/// The opened parts of a server.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The state database.
    pub(crate) state: State,
    /// The check of callers' tokens.
    pub(crate) auth: Authenticator,
    /// The rules of access control.
    pub(crate) access: AccessControl,
    /// The keys that authenticate what clients carry.
    pub(crate) keys: KeyRing,
    /// The limits of each principal.
    pub(crate) limits: PrincipalLimits,
    /// The catalogs of the warehouses, in the order of their names.
    pub(crate) catalogs: Vec<Catalog>,
    /// The maintenance of each warehouse, in the same order.
    pub(crate) maintenance: Vec<Maintenance>,
    /// The query engine over all warehouses.
    pub(crate) engine: Engine,
    /// The policies that the configuration sets, by warehouse.
    pub(crate) policy_layers: BTreeMap<String, Layers>,
    /// Wakes the worker, because a job may be ready.
    pub(crate) wake: Arc<Notify>,
    /// The threads that jobs run on, kept while the server lives.
    _jobs: JobThreads,
}

impl Parts {
    /// Opens the parts of each warehouse of `warehouses`, then the query engine over them. `dir` is the data directory, and `peers`
    /// the address on which the server listens for other servers.
    ///
    /// # Errors
    ///
    /// - Returns [`Catalog`](Error::Catalog) if a warehouse can't be opened.
    /// - Returns [`Io`](Error::Io) if the cache directory, the directory for spills or the job threads can't be made, or if a file
    ///   of certificates can't be read.
    /// - Returns [`Query`](Error::Query) if the query engine can't be built.
    /// - Returns [`Auth`](Error::Auth) if the rules of access control or the keys can't be loaded.
    /// - Returns [`Config`](Error::Config) if a policy, a master key, an entry of `auth.mtls` or an identity provider in the configuration is wrong.
    pub(super) async fn open(
        config: &Config,
        dir: &Path,
        warehouses: Vec<(Storage, CatalogOptions)>,
        state: State,
        peers: Option<SocketAddr>,
    ) -> Result<Self> {
        let threads = config.maintenance.threads(cores());
        let jobs = JobThreads::start(threads)?;
        let limits = config.maintenance.job_limits(dir);
        let blocks = open_block_cache(config, dir).await?;
        let wake = Arc::new(Notify::new());
        let keys = open_keys(config, &state).await?;
        let forwarder = peers.map(|address| open_peer_client(config, &state, &keys, address)).transpose()?;
        let (mut maintenance, mut queried) = (Vec::new(), Vec::new());
        for (storage, options) in warehouses {
            let reader = Reader::new(storage.clone(), options.cache_bytes, blocks.clone());
            let deletes: Option<Arc<dyn DeleteFiles>> = Some(Arc::new(ParquetDeletes::new(reader.clone())));
            let options = CatalogOptions { deletes, forwarder: forwarder.clone(), ..options };
            let catalog = Catalog::open(state.clone(), storage, options).await?;
            let (limits, wake) = (limits.clone(), wake.clone());
            maintenance.push(Maintenance::new(catalog.clone(), reader.clone(), jobs.handle(), threads, limits, wake));
            queried.push((catalog, reader));
        }
        let catalogs = queried.iter().map(|(catalog, _)| catalog.clone()).collect();
        // The engine resolves names without a catalog in the first warehouse: the one called `default`, if there is one.
        queried.sort_by_key(|(catalog, _)| catalog.options().warehouse != DEFAULT_WAREHOUSE);
        let spill_dir = query_spill_dir(dir, &limits.spill_dir)?;
        let audit = Audit::new(state.clone(), config.audit.options());
        let providers = config.auth.providers()?;
        let access = AccessControl::open(state.clone(), Arc::new(LoggedDecisions)).await?;
        let access = access.with_audit(audit).with_providers(providers.clone());
        let engine = Engine::new(queried, config.query.engine_options(cores(), spill_dir))?.with_access(access.clone());
        if state.is_shared() {
            engine.log().number_apart();
        }
        let auth = Authenticator::new(state.clone(), config.auth.options());
        let auth = auth.with_certificates(config.auth.certificates()?).with_providers(providers);
        let authorities = Arc::new(RuleAuthorities { auth: auth.clone(), access: access.clone() });
        let maintenance = maintenance.into_iter().map(|m| m.with_authorities(authorities.clone())).collect();
        let (limits, policy_layers) = (PrincipalLimits::new(config.limits.principal_options()), config.layers()?);
        Ok(Self { auth, access, keys, limits, catalogs, maintenance, engine, policy_layers, wake, _jobs: jobs, state })
    }

    /// Makes the shared state of the REST handlers. `sinks` names the event sinks, `certificates` has the states of the ports'.
    ///
    /// # Errors
    ///
    /// Returns [`Config`](Error::Config) if an address in the configuration can't be parsed.
    pub(super) async fn app(&self, config: &Config, sinks: Vec<String>, tasks: Tasks, certificates: Certificates) -> Result<App> {
        let server = &config.server;
        let options = AppOptions {
            max_body_bytes: server.max_body_bytes,
            idempotency_seconds: server.idempotency_seconds,
            plan_wait_ms: server.plan_wait_ms,
            sinks,
            tasks,
            certificates,
            guard: server.guard_options(&config.auth, &config.limits)?,
            sessions: config.auth.page.session_options(),
            unauthenticated_per_second: config.limits.unauthenticated_per_second,
            opa: config.auth.opa.options(),
            principal_limits: self.limits.clone(),
            keys: self.keys.clone(),
        };
        let (state, maintenance, layers) = (self.state.clone(), self.maintenance.clone(), self.policy_layers.clone());
        let (engine, auth, access) = (self.engine.clone(), self.auth.clone(), self.access.clone());
        Ok(App::new(state, maintenance, layers, engine, auth, access, options).await)
    }

    /// Logs a warning for each warehouse of the database that this server does not serve, and for each namespace pattern of the
    /// configuration that matches no namespace.
    ///
    /// # Errors
    ///
    /// Returns [`State`](Error::State) if the database can't list the warehouses, and [`Catalog`](Error::Catalog) if it can't list
    /// the namespaces of one.
    pub(super) async fn warn_of_names_without_effect(&self) -> Result<()> {
        for warning in names_without_effect(&self.state, &self.catalogs, &self.policy_layers).await? {
            tracing::warn!("{warning}");
        }
        Ok(())
    }

    /// Puts the files that dead servers were writing into quarantine, for each warehouse whose database and storage agree.
    ///
    /// # Errors
    ///
    /// Returns [`Catalog`](Error::Catalog) if the pending outputs of a warehouse can't be read.
    pub(super) async fn reclaim_outputs(&self) -> Result<()> {
        for catalog in self.agreeing_catalogs() {
            let reclaimed = deletion::reclaim_outputs(catalog).await?;
            if reclaimed > 0 {
                tracing::info!(files = reclaimed, "files of dead servers were put into quarantine");
            }
        }
        Ok(())
    }

    /// Writes the ledger of each warehouse whose database and storage agree. A failure is logged.
    pub(super) async fn write_ledgers(&self) {
        for catalog in self.agreeing_catalogs() {
            if let Err(error) = catalog.write_ledger().await {
                tracing::warn!(%error, "the ledger could not be written");
            }
        }
    }

    /// Returns the catalogs of the warehouses whose database and storage agree (`Catalog::check_epoch`).
    fn agreeing_catalogs(&self) -> impl Iterator<Item = &Catalog> {
        self.catalogs.iter().filter(|catalog| catalog.check_epoch().is_ok())
    }
}

/// Opens the keys that authenticate what clients carry.
async fn open_keys(config: &Config, state: &State) -> Result<KeyRing> {
    let keys = KeyRing::open(state.clone(), config.keys.masters()?).await?;
    if keys.is_plain() {
        tracing::warn!("keys.master_key is not set, so whoever reads the database can read the keys that authenticate tickets");
    }
    Ok(keys)
}

/// Makes the client that sends commits to other servers. They reach this one at `server.peer_address`, or where it listens.
fn open_peer_client(config: &Config, state: &State, keys: &KeyRing, listens: SocketAddr) -> Result<Arc<dyn Forwarder>> {
    let address = config.server.peer_address.clone().unwrap_or_else(|| listens.to_string());
    // The turns of others before a commit, its place in the queue and its work, and its own turn if it was late.
    let seconds = config.server.commit_wait_seconds.saturating_add(config.commit.turn_wait_seconds);
    let patience = Duration::from_secs(seconds.saturating_mul(2));
    Ok(Arc::new(PeerClient::new(keys.clone(), state.servers().own_id(), address, patience)?))
}

/// Opens the cache of column chunks that all warehouses share.
async fn open_block_cache(config: &Config, dir: &Path) -> Result<BlockCache> {
    let options = config.cache.block_options(dir);
    let path = options.disk.as_ref().map_or_else(|| "block cache".to_owned(), |(place, _)| place.display().to_string());
    BlockCache::open(&options).await.map_err(|source| Error::Io { path, source })
}
