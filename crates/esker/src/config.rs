//! [`Config`]: everything that can be configured, read from one TOML file and from the environment.
//!
//! Each section of the file is a struct here, with its defaults in `Default`. Every key can also be set as the environment
//! variable `ESKER__SECTION__KEY`, which wins over the file. An unknown key is an error that names it. Start reading at
//! [`Config::load`]; [`Config::check`] has the conditions that involve more than one key or its range.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

use esker_autopilot::Layers;
use esker_state::Database;

use crate::new_names::NewNames;
use crate::{Error, Result};

/// The whole configuration, with a default for every key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The directory of the SQLite state database, the locks and caches and, by default, the warehouse `default`. Must be set.
    pub data_dir: Option<PathBuf>,
    /// The state database and its servers.
    pub state: StateConfig,
    /// Addresses, limits and times of the server.
    pub server: ServerConfig,
    /// Authentication of callers.
    pub auth: AuthConfig,
    /// The policy of every table, as policy keys with their values: see docs/policies.md.
    #[serde(deserialize_with = "policy")]
    pub policy: BTreeMap<String, String>,
    /// The warehouses, by name. If there is none, [`Config::all_warehouses`] has one called `default`.
    pub warehouses: BTreeMap<String, WarehouseConfig>,
    /// Settings of the catalog's tables.
    pub tables: TablesConfig,
    /// Events and their receivers.
    pub events: EventsConfig,
    /// The connection to DataHub.
    pub datahub: DataHubConfig,
    /// Jobs, quarantine and the autopilot.
    pub maintenance: MaintenanceConfig,
    /// The history of tables' health.
    pub health: HealthConfig,
    /// Limits of queries.
    pub query: QueryConfig,
    /// Caches in memory and on local disk.
    pub cache: CacheConfig,
    /// Level and format of logs.
    pub log: LogConfig,
    /// The collector of traces.
    pub traces: TracesConfig,
    /// Failpoints, for tests only.
    pub debug: DebugConfig,
    /// Warnings about old names that the file or the environment uses.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// The section `[state]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateConfig {
    /// The database: `postgres://USER@HOST/DATABASE`, for one or several servers; default: SQLite's `esker.db` in the data
    /// directory. A password may come from the environment variable PGPASSWORD.
    pub url: Option<String>,
    /// Seconds without a heartbeat after which the other servers on the database count a server as dead. They requeue its jobs and
    /// reclaim its files.
    pub dead_seconds: u32,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self { url: None, dead_seconds: 60 }
    }
}

/// The section `[server]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// The address to listen on; default: loopback.
    pub listen: IpAddr,
    /// The port of the REST catalog, the management API, the web page and the metrics; 0: any free port.
    pub rest_port: u16,
    /// The port of Flight SQL; 0: any free port.
    pub flight_port: u16,
    /// Maximum size of a request body, in bytes.
    pub max_body_bytes: usize,
    /// Seconds that requests and jobs get to end when the server stops.
    pub drain_seconds: u64,
    /// Seconds for which the outcome of a request with an `Idempotency-Key` is remembered.
    pub idempotency_seconds: u64,
    /// Seconds that a commit waits for its turn at a table; then it is answered 429, with nothing changed.
    ///
    /// A commit that has begun gets as many seconds again, before it is answered that its outcome is unknown. Maintenance waits
    /// ten times as long for its turn.
    pub commit_wait_seconds: u64,
    /// Milliseconds after which the request to plan a scan is answered `submitted`, if the plan is not complete.
    pub plan_wait_ms: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let listen = IpAddr::from([127, 0, 0, 1]);
        Self {
            listen,
            rest_port: 8181,
            flight_port: 32010,
            max_body_bytes: 64 << 20,
            drain_seconds: 20,
            idempotency_seconds: 24 * 3600,
            commit_wait_seconds: 30,
            plan_wait_ms: 5000,
        }
    }
}

/// The section `[auth]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Callers on loopback need no token. An error unless `server.listen` is a loopback address.
    pub anonymous: bool,
    /// The token of the principal `admin`, of at least 16 characters. If it is not set, the first start makes one and prints it.
    pub token: Option<String>,
}

/// The section `[warehouses.NAME]`. The name is also the REST prefix and the SQL catalog.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarehouseConfig {
    /// The location of new tables: a `file:///`, `s3://`, `gs://` or `abfss://` URI. Fixed when the warehouse is created.
    ///
    /// The warehouse `default` has `warehouse` in the data directory as its default; others have none.
    pub location: Option<String>,
    /// Further locations in which clients may create and register tables. They must be in the same kind of store.
    pub allowed_locations: Vec<String>,
    /// Names of namespaces, tables and views are compared without case, and keep the case of their creation. Fixed when the
    /// warehouse is created.
    pub case_insensitive: bool,
    /// Options of the cloud store, by their names in the `object_store` crate: `endpoint`, `region`, `access_key_id`,
    /// `secret_access_key`, `service_account_path`, `account_key`, … Missing ones are taken from the places that the cloud's own
    /// tools use, such as environment variables.
    #[serde(deserialize_with = "texts")]
    pub storage: BTreeMap<String, String>,
    /// Seconds that a file stays in quarantine before it is deleted; default: `maintenance.grace_seconds`.
    pub grace_seconds: Option<u64>,
    /// The policy of this warehouse's tables, as policy keys with their values. Wins over `[policy]`.
    #[serde(deserialize_with = "policy")]
    pub policy: BTreeMap<String, String>,
    /// Policies for the tables of namespaces, by a pattern of the namespace's name such as `raw.*`. Wins over `policy`.
    #[serde(deserialize_with = "policies")]
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Properties that clients get as defaults. If `storage.endpoint` or `storage.region` is set, its `s3.` counterpart is added.
    #[serde(deserialize_with = "texts")]
    pub client: BTreeMap<String, String>,
}

/// Reads a map of texts. A value that looks like a number or a boolean, in TOML or the environment, becomes its text.
fn texts<'de, D: serde::Deserializer<'de>>(d: D) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let map = BTreeMap::<String, serde_json::Value>::deserialize(d)?;
    Ok(map.into_iter().map(|(k, v)| (k, text(v))).collect())
}

/// Reads policy keys with their values. `compact.schedule = "…"` and `[policy.compact] schedule = "…"` mean the same.
fn policy<'de, D: serde::Deserializer<'de>>(d: D) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    Ok(flatten_keys(serde_json::Map::deserialize(d)?))
}

/// Reads policies by namespace pattern, each as [`policy`] does.
fn policies<'de, D: serde::Deserializer<'de>>(d: D) -> std::result::Result<BTreeMap<String, BTreeMap<String, String>>, D::Error> {
    let by_pattern = BTreeMap::<String, serde_json::Map<String, serde_json::Value>>::deserialize(d)?;
    Ok(by_pattern.into_iter().map(|(pattern, values)| (pattern, flatten_keys(values))).collect())
}

/// Joins the keys of nested maps with dots, and turns all values into text.
fn flatten_keys(values: serde_json::Map<String, serde_json::Value>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (key, value) in values {
        match value {
            serde_json::Value::Object(inner) => {
                found.extend(flatten_keys(inner).into_iter().map(|(k, v)| (format!("{key}.{k}"), v)))
            }
            serde_json::Value::String(text) => drop(found.insert(key, text)),
            other => drop(found.insert(key, other.to_string())),
        }
    }
    found
}

/// The section `[tables]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TablesConfig {
    /// Seconds for which a dropped table can be undropped; 0: it can't be.
    pub undrop_seconds: u64,
}

impl Default for TablesConfig {
    fn default() -> Self {
        Self { undrop_seconds: 7 * 24 * 3600 }
    }
}

/// The section `[events]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventsConfig {
    /// Days for which events are kept. An event that some sink does not have yet is kept longer.
    pub retention_days: u64,
    /// Webhooks that receive CloudEvents over HTTP, by name.
    pub webhooks: BTreeMap<String, WebhookConfig>,
    /// Kafka topics that receive CloudEvents, by name.
    pub kafka: BTreeMap<String, KafkaConfig>,
    /// Receivers of OpenLineage run events about jobs, by name.
    pub openlineage: BTreeMap<String, OpenLineageConfig>,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self { retention_days: 30, webhooks: BTreeMap::new(), kafka: BTreeMap::new(), openlineage: BTreeMap::new() }
    }
}

/// The section `[events.webhooks.NAME]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// The URL to which events are posted.
    pub url: String,
    /// A bearer token for the requests.
    #[serde(default)]
    pub token: Option<String>,
}

/// The section `[events.openlineage.NAME]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenLineageConfig {
    /// The URL to which run events are posted, such as `http://marquez:5000/api/v1/lineage`, or DataHub's
    /// `/openapi/openlineage/api/v1/lineage`.
    pub url: String,
    /// A bearer token for the requests.
    #[serde(default)]
    pub token: Option<String>,
    /// The OpenLineage namespace of the jobs; default: `esker`.
    #[serde(default = "lineage_namespace")]
    pub namespace: String,
}

/// Returns the default of `events.openlineage.NAME.namespace`.
fn lineage_namespace() -> String {
    "esker".to_owned()
}

/// The section `[events.kafka.NAME]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Addresses of some brokers, each as `host:port`.
    pub bootstrap: Vec<String>,
    /// The topic. All events go to its first partition, so that they keep their order.
    pub topic: String,
}

/// The section `[datahub]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataHubConfig {
    /// The URL of the metadata service, such as `http://datahub-gms:8080`; default: nothing is reported to DataHub.
    pub url: Option<String>,
    /// A personal access token of DataHub.
    pub token: Option<String>,
    /// The `env` of the ingestion recipe, so that both write to the same datasets.
    pub env: String,
    /// The `platform_instance` of the ingestion recipe, by warehouse.
    pub platform_instances: BTreeMap<String, String>,
    /// Seconds between two comparisons of the tables with what DataHub has.
    pub every_seconds: u64,
}

impl Default for DataHubConfig {
    fn default() -> Self {
        Self { url: None, token: None, env: "PROD".to_owned(), platform_instances: BTreeMap::new(), every_seconds: 60 }
    }
}

/// The section `[maintenance]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaintenanceConfig {
    /// Seconds for which a file stays in quarantine before it is deleted.
    pub grace_seconds: u64,
    /// Seconds between two rounds of housekeeping, which sweep the quarantine; 0 counts as 1.
    pub sweep_seconds: u64,
    /// Number of threads that decode and encode, and of file groups that are rewritten at the same time; default: the number of
    /// cores.
    pub concurrency: Option<usize>,
    /// Number of jobs that this server runs at the same time, each on a different table; 0: this server runs none.
    pub jobs: usize,
    /// Number of attempts at a job that fails for a transient reason.
    pub attempts: u32,
    /// Seconds between the first attempt and the second. The pause grows fourfold with each further attempt.
    pub retry_seconds: u64,
    /// Seconds between two rounds of the autopilot; 0: this server runs no autopilot.
    pub autopilot_seconds: u64,
    /// Days for which finished jobs are kept, with their logs.
    pub history_days: u64,
    /// Approximate limit of the memory of a job, in bytes. A job spills to disk what does not fit.
    pub memory_bytes: u64,
    /// The directory to which jobs spill; default: `spill` in the data directory.
    pub spill_dir: Option<PathBuf>,
}

impl Default for MaintenanceConfig {
    fn default() -> Self {
        Self {
            grace_seconds: 24 * 3600,
            sweep_seconds: 60,
            concurrency: None,
            jobs: 4,
            attempts: 3,
            retry_seconds: 30,
            autopilot_seconds: 30,
            history_days: 90,
            memory_bytes: 1 << 30,
            spill_dir: None,
        }
    }
}

/// The section `[health]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// Seconds between two recordings of health in the Iceberg table `system.table_health`, which every engine can query; 0: it is
    /// not written.
    pub table_seconds: u64,
    /// Days for which the history of tables' health and use is kept.
    pub history_days: u64,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { table_seconds: 0, history_days: 30 }
    }
}

/// The section `[query]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryConfig {
    /// Bytes that all queries together may use for sorts, joins and aggregates; default: a quarter of the memory of the machine or
    /// its container.
    pub memory_bytes: Option<usize>,
    /// Bytes of `memory_bytes` that one query may use before it spills or fails; default: half.
    pub query_memory_bytes: Option<usize>,
    /// Number of partitions of a query's plan, which run in parallel; default: the number of cores.
    pub parallelism: Option<usize>,
    /// Maximum number of queries that run at the same time.
    pub concurrency: usize,
    /// Maximum number of queries that wait to run; more are refused.
    pub queue: usize,
    /// Maximum duration of a query in seconds, including its wait.
    pub timeout_seconds: u64,
    /// Duration in seconds from which a query is logged as slow.
    pub slow_seconds: f64,
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self {
            memory_bytes: None,
            query_memory_bytes: None,
            parallelism: None,
            concurrency: 16,
            queue: 100,
            timeout_seconds: 600,
            slow_seconds: 10.0,
        }
    }
}

/// The section `[cache]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Size in bytes of each metadata cache of each warehouse. There is one for parsed metadata, one for manifests, one for Parquet
    /// footers and one for delete files.
    pub bytes: u64,
    /// Size in bytes of the memory cache of column chunks, for all warehouses together; default: an eighth of the memory of the
    /// machine or its container.
    pub block_bytes: Option<u64>,
    /// Size in bytes of the disk cache of column chunks, for warehouses in remote stores; 0: no disk cache.
    pub disk_bytes: u64,
    /// The directory of the disk cache; default: `cache` in the data directory.
    pub disk_dir: Option<PathBuf>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { bytes: 64 << 20, block_bytes: None, disk_bytes: 8 << 30, disk_dir: None }
    }
}

/// The section `[log]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The format of a log line: `text` or `json`.
    pub format: LogFormat,
    /// The lowest level that is logged, or directives such as `info,esker_catalog=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// The section `[traces]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracesConfig {
    /// The URL of a collector of OTLP over HTTP, such as `http://collector:4318`. Spans are posted to `/v1/traces` below it.
    /// Default: nothing is traced.
    pub url: Option<String>,
    /// The share of traces begun by this server that are sampled, between 0 and 1. A trace that a caller began follows the caller's
    /// decision.
    pub sample: f64,
    /// Headers of each request to the collector, such as `authorization`.
    pub headers: BTreeMap<String, String>,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self { url: None, sample: 1.0, headers: BTreeMap::new() }
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The section `[debug]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DebugConfig {
    /// The failpoint at which the process stops for ever, for tests that kill it there.
    pub failpoint: Option<String>,
    /// The failpoint at which the process panics each time, for tests that the rest of the server goes on.
    pub panic_at: Option<String>,
}

/// The name of the warehouse that exists if the configuration has none. It is also the only one with a default location.
pub const DEFAULT_WAREHOUSE: &str = "default";

impl Config {
    /// Returns the warehouses by name: the configured ones, or the one called `default` if there are none.
    pub fn all_warehouses(&self) -> BTreeMap<String, WarehouseConfig> {
        match self.warehouses.is_empty() {
            true => BTreeMap::from([(DEFAULT_WAREHOUSE.to_owned(), WarehouseConfig::default())]),
            false => self.warehouses.clone(),
        }
    }

    /// Returns the directory to which jobs spill; `dir` is the data directory.
    pub(crate) fn spill_dir(&self, dir: &Path) -> PathBuf {
        self.maintenance.spill_dir.clone().unwrap_or_else(|| dir.join("spill"))
    }

    /// Returns the policy layers of each warehouse's tables, by warehouse.
    ///
    /// # Errors
    ///
    /// Returns [`Config`](Error::Config) if a policy key or a namespace pattern is unknown or has a wrong value.
    pub fn layers(&self) -> Result<BTreeMap<String, Layers>> {
        let of = |(name, w): (String, WarehouseConfig)| Ok((name.clone(), self.layers_of(&name, &w)?));
        self.all_warehouses().into_iter().map(of).collect()
    }

    /// Returns the policy layers of one warehouse's tables: `[policy]`, the warehouse's own policy, then its namespace patterns.
    pub(crate) fn layers_of(&self, name: &str, warehouse: &WarehouseConfig) -> Result<Layers> {
        Layers::new(name, &self.policy, &warehouse.policy, &warehouse.namespaces).map_err(|e| Error::Config(e.to_string()))
    }

    /// Returns the configuration with `(set)` in place of every secret, to be printed.
    ///
    /// A storage option is a secret if its name contains `key`, `secret`, `token`, `sas` or `password`.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        let hide = |secret: &mut Option<String>| {
            if secret.is_some() {
                *secret = Some("(set)".to_owned());
            }
        };
        hide(&mut self.auth.token);
        hide(&mut self.state.url);
        hide(&mut self.datahub.token);
        self.events.webhooks.values_mut().for_each(|w| hide(&mut w.token));
        self.events.openlineage.values_mut().for_each(|l| hide(&mut l.token));
        self.traces.headers.values_mut().for_each(|value| "(set)".clone_into(value));
        for (key, value) in self.warehouses.values_mut().flat_map(|w| w.storage.iter_mut()) {
            if ["key", "secret", "token", "sas", "password"].iter().any(|part| key.contains(part)) {
                "(set)".clone_into(value);
            }
        }
        self
    }

    /// Reads the file, if one is given, then the environment, which wins; then checks the result.
    ///
    /// # Errors
    ///
    /// Returns [`Config`](Error::Config) if the file can't be read, if a key is unknown or has a value of the wrong type, or if
    /// [`Config::check`] finds something wrong. Returns [`State`](Error::State) if `state.url` names no supported database.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        let warnings = RefCell::default();
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            if !file.is_file() {
                return Err(Error::Config(format!("{} is not a file", file.display())));
            }
            figment = figment.merge(NewNames::of(Toml::file_exact(file), &warnings));
        }
        let figment = figment.merge(NewNames::of(Env::prefixed("ESKER__").split("__"), &warnings));
        let config: Self = figment.extract().map_err(|e| Error::Config(e.to_string()))?;
        config.check()?;
        Ok(Self { warnings: warnings.into_inner(), ..config })
    }

    /// Returns the time without a heartbeat after which a server counts as dead.
    pub(crate) fn dead_after(&self) -> Duration {
        Duration::from_secs(u64::from(self.state.dead_seconds))
    }

    /// Returns the state database of a server whose data directory is `dir`. Opens nothing.
    ///
    /// # Errors
    ///
    /// Returns [`State`](Error::State) if the scheme of `state.url` is not `postgres` or `postgresql`.
    pub fn database(&self, dir: &Path) -> Result<Database> {
        Ok(Database::from_url(self.state.url.as_deref(), &dir.join("esker.db"))?)
    }

    /// Checks the ranges of values, and the conditions between several keys.
    ///
    /// # Errors
    ///
    /// Returns [`Config`](Error::Config) with the key and the condition that does not hold. Returns [`State`](Error::State) if
    /// `state.url` names no supported database.
    pub fn check(&self) -> Result<()> {
        let wrong = |text: &str| Err(Error::Config(text.to_owned()));
        self.database(Path::new(""))?;
        self.layers()?;
        if self.server.commit_wait_seconds == 0 {
            return wrong("server.commit_wait_seconds must not be 0");
        }
        if self.state.dead_seconds == 0 {
            return wrong("state.dead_seconds must not be 0");
        }
        if self.auth.anonymous && !self.server.listen.is_loopback() {
            return wrong("auth.anonymous is only allowed where server.listen is a loopback address");
        }
        if self.auth.token.as_ref().is_some_and(|t| t.len() < 16) {
            return wrong("auth.token is too short: give at least 16 characters");
        }
        for (name, warehouse) in &self.warehouses {
            if name.is_empty() || name.contains(['/', '%', '?', '#', '+', '.']) {
                return wrong(&format!("warehouses.{name}: the name must not be empty or contain / % ? # + ."));
            }
            if warehouse.location.is_none() && name != DEFAULT_WAREHOUSE {
                return wrong(&format!("warehouses.{name}.location is not set; only the warehouse `default` has a default"));
            }
        }
        let EventsConfig { webhooks, kafka, openlineage, .. } = &self.events;
        let mut sinks: Vec<&String> = webhooks.keys().chain(kafka.keys()).chain(openlineage.keys()).collect();
        sinks.sort();
        if let Some(twice) = sinks.windows(2).find(|names| names[0] == names[1]) {
            return wrong(&format!("events: two sinks are called {}; give each its own name", twice[0]));
        }
        if let Some((name, _)) = self.events.kafka.iter().find(|(_, k)| k.bootstrap.is_empty() || k.topic.is_empty()) {
            return wrong(&format!("events.kafka.{name}: bootstrap and topic must not be empty"));
        }
        if let Some(name) = self.datahub.platform_instances.keys().find(|name| !self.all_warehouses().contains_key(*name)) {
            return wrong(&format!("datahub.platform_instances.{name}: no warehouse has this name"));
        }
        if !(0.0..=1.0).contains(&self.traces.sample) {
            return wrong("traces.sample must be between 0 and 1");
        }
        if self.traces.url.as_ref().is_some_and(|url| reqwest::Url::parse(url).is_err()) {
            return wrong("traces.url is not a URL");
        }
        if self.query.concurrency == 0 || self.query.timeout_seconds == 0 {
            return wrong("query.concurrency and query.timeout_seconds must not be 0");
        }
        if !(self.query.slow_seconds >= 0.0 && self.query.slow_seconds.is_finite()) {
            return wrong("query.slow_seconds must be a finite number of 0 or more");
        }
        if self.server.rest_port != 0 && self.server.rest_port == self.server.flight_port {
            return wrong("server.rest_port and server.flight_port must differ");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str) -> Result<Config> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), toml).expect("written");
        Config::load(Some(file.path()))
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = load("").expect("valid");
        assert_eq!((config.server.rest_port, config.server.flight_port), (8181, 32010));
        assert!(config.server.listen.is_loopback());
        assert!(!config.auth.anonymous);
    }

    #[test]
    fn an_old_key_is_read_as_the_new_one_with_a_warning() {
        let config = load("[debug]\nhalt_at = \"here\"").expect("valid");
        assert_eq!(config.debug.failpoint.as_deref(), Some("here"));
        assert!(config.warnings[0].contains("debug.failpoint") && config.warnings[0].contains("0.3.0"), "{:?}", config.warnings);
        let both = load("[debug]\nhalt_at = \"old\"\nfailpoint = \"new\"").expect("valid");
        assert_eq!(both.debug.failpoint.as_deref(), Some("new"));
    }

    #[test]
    fn errors_name_the_key() {
        for (toml, key) in [
            ("[server]\nrest_prot = 1", "rest_prot"),
            ("[server]\nrest_port = \"x\"", "rest_port"),
            ("[sever]\nrest_port = 1", "sever"),
            ("[auth]\nanonymous = true\n[server]\nlisten = \"0.0.0.0\"", "auth.anonymous"),
            ("[auth]\ntoken = \"short\"", "auth.token"),
            ("[query]\nconcurrency = 0", "query.concurrency"),
            ("[query]\nslow_seconds = -1.0", "query.slow_seconds"),
            ("[log]\nformat = \"xml\"", "format"),
            ("[warehouses.x]\n", "warehouses.x.location"),
            ("[warehouses.\"a/b\"]\nlocation = \"s3://b\"", "warehouses.a/b"),
            ("[warehouses.x]\nlocatoin = \"s3://b\"", "locatoin"),
            ("[events.kafka.k]\nbootstrap = []\ntopic = \"t\"", "events.kafka.k"),
            ("[events.webhooks.w]\ntoken = \"t\"", "url"),
        ] {
            let error = load(toml).expect_err(toml).to_string();
            assert!(error.contains(key), "{toml:?}: {error}");
        }
    }

    #[test]
    fn secrets_are_not_shown_and_numbers_may_be_keys() {
        let config =
            load("[warehouses.x]\nlocation = \"s3://b\"\nstorage = { secret_access_key = 12, region = \"eu\" }").expect("valid");
        assert_eq!(config.warehouses["x"].storage["secret_access_key"], "12");
        let shown = config.without_secrets();
        assert_eq!(shown.warehouses["x"].storage["secret_access_key"], "(set)");
        assert_eq!(shown.warehouses["x"].storage["region"], "eu");
    }
}
