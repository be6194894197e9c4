//! Configuration: one TOML file, every key also as `ESKER__SECTION__KEY`, unknown keys refused by name.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

use esker_autopilot::Layers;
use esker_state::Database;

use crate::{Error, Result};

/// Everything that can be configured, with its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the state database lives and, unless said otherwise, the warehouse.
    pub data_dir: Option<PathBuf>,
    /// The state database.
    pub state: StateConfig,
    /// Where the server listens.
    pub server: ServerConfig,
    /// Who may ask.
    pub auth: AuthConfig,
    /// What is wanted of every table: see docs/policies.md.
    #[serde(deserialize_with = "policy")]
    pub policy: BTreeMap<String, String>,
    /// The warehouses, by name. Without any there is one, called `default`.
    pub warehouses: BTreeMap<String, WarehouseConfig>,
    /// Tables.
    pub tables: TablesConfig,
    /// Events.
    pub events: EventsConfig,
    /// DataHub.
    pub datahub: DataHubConfig,
    /// Maintenance.
    pub maintenance: MaintenanceConfig,
    /// Health.
    pub health: HealthConfig,
    /// Queries.
    pub query: QueryConfig,
    /// Memory for what can be read again.
    pub cache: CacheConfig,
    /// Logs.
    pub log: LogConfig,
    /// Traces.
    pub traces: TracesConfig,
    /// For tests only.
    pub debug: DebugConfig,
}

/// `[state]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateConfig {
    /// `postgres://USER@HOST/DATABASE`, for one or several servers; default: SQLite's `esker.db` in the data directory. A password may
    /// come from PGPASSWORD.
    pub url: Option<String>,
    /// Seconds after which servers on the same database take one that they do not hear of for dead, and finish or sweep what it began.
    pub dead_seconds: u32,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self { url: None, dead_seconds: 60 }
    }
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// The address to listen on. Loopback unless told otherwise.
    pub listen: IpAddr,
    /// REST catalog, management API, page and metrics. 0 takes any free port.
    pub rest_port: u16,
    /// Flight SQL. 0 takes any free port.
    pub flight_port: u16,
    /// The largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Seconds that requests and jobs get to end when the server stops.
    pub drain_seconds: u64,
    /// Seconds that the outcome of a request with an Idempotency-Key is remembered.
    pub idempotency_seconds: u64,
    /// Seconds that a commit waits for its turn at a table before it is answered 429, having done nothing; and once begun, for its end
    /// before it is answered that its outcome is unknown. Maintenance waits ten times as long.
    pub commit_wait_seconds: u64,
    /// Milliseconds after which a scan that is still being planned is answered `submitted`.
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

/// `[auth]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Callers on loopback need no token. Refused unless the server listens on loopback.
    pub anonymous: bool,
    /// The token of the principal `admin`. Made and printed once if not set.
    pub token: Option<String>,
}

/// `[warehouses.NAME]`. The name is also the REST prefix and the SQL catalog.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarehouseConfig {
    /// Where new tables go: a `file:///`, `s3://`, `gs://` or `abfss://` URI. The warehouse `default` has `warehouse` in the data
    /// directory if nothing else is said. Fixed when the warehouse is made.
    pub location: Option<String>,
    /// Where else clients may create and register tables, in the same kind of store.
    pub allowed_locations: Vec<String>,
    /// Names are compared without case, and keep the case that they were made with. Fixed when the warehouse is made.
    pub case_insensitive: bool,
    /// Options of the cloud store, by their names in the `object_store` crate: `endpoint`, `region`, `access_key_id`,
    /// `secret_access_key`, `service_account_path`, `account_key`, … What is left out is looked for where the cloud's own tools do.
    #[serde(deserialize_with = "texts")]
    pub storage: BTreeMap<String, String>,
    /// Seconds that a file stays in quarantine before it is deleted; default: `maintenance.grace_seconds`.
    pub grace_seconds: Option<u64>,
    /// What is wanted of this warehouse's tables.
    #[serde(deserialize_with = "policy")]
    pub policy: BTreeMap<String, String>,
    /// What is wanted of the tables in namespaces whose names match a pattern such as `raw.*`.
    #[serde(deserialize_with = "policies")]
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// What clients get as defaults. With `storage.endpoint` and `storage.region`, their `s3.` counterparts are added.
    #[serde(deserialize_with = "texts")]
    pub client: BTreeMap<String, String>,
}

/// Values as text, also where an environment variable or a TOML file has what looks like a number.
fn texts<'de, D: serde::Deserializer<'de>>(d: D) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let map = BTreeMap::<String, serde_json::Value>::deserialize(d)?;
    Ok(map.into_iter().map(|(k, v)| (k, text(v))).collect())
}

/// Policy keys with their values: `compact.schedule = "…"` and `[policy.compact] schedule = "…"` are the same.
fn policy<'de, D: serde::Deserializer<'de>>(d: D) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    Ok(flat(serde_json::Map::deserialize(d)?))
}

fn policies<'de, D: serde::Deserializer<'de>>(d: D) -> std::result::Result<BTreeMap<String, BTreeMap<String, String>>, D::Error> {
    let by_pattern = BTreeMap::<String, serde_json::Map<String, serde_json::Value>>::deserialize(d)?;
    Ok(by_pattern.into_iter().map(|(pattern, values)| (pattern, flat(values))).collect())
}

fn flat(values: serde_json::Map<String, serde_json::Value>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (key, value) in values {
        match value {
            serde_json::Value::Object(inner) => found.extend(flat(inner).into_iter().map(|(k, v)| (format!("{key}.{k}"), v))),
            serde_json::Value::String(text) => drop(found.insert(key, text)),
            other => drop(found.insert(key, other.to_string())),
        }
    }
    found
}

/// `[tables]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TablesConfig {
    /// Seconds that a dropped table can be brought back; 0: not at all.
    pub undrop_seconds: u64,
}

impl Default for TablesConfig {
    fn default() -> Self {
        Self { undrop_seconds: 7 * 24 * 3600 }
    }
}

/// `[events]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventsConfig {
    /// Days that delivered events can be asked for again.
    pub retention_days: u64,
    /// Receivers of CloudEvents over HTTP, by name.
    pub webhooks: BTreeMap<String, WebhookConfig>,
    /// Kafka topics that get CloudEvents, by name.
    pub kafka: BTreeMap<String, KafkaConfig>,
    /// Receivers of OpenLineage run events of jobs, by name.
    pub openlineage: BTreeMap<String, OpenLineageConfig>,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self { retention_days: 30, webhooks: BTreeMap::new(), kafka: BTreeMap::new(), openlineage: BTreeMap::new() }
    }
}

/// `[events.webhooks.NAME]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where events are posted to.
    pub url: String,
    /// Sent as a bearer token.
    #[serde(default)]
    pub token: Option<String>,
}

/// `[events.openlineage.NAME]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenLineageConfig {
    /// Where run events are posted to: `http://marquez:5000/api/v1/lineage`, or DataHub's `/openapi/openlineage/api/v1/lineage`.
    pub url: String,
    /// Sent as a bearer token.
    #[serde(default)]
    pub token: Option<String>,
    /// The namespace that jobs are in; default `esker`.
    #[serde(default = "lineage_namespace")]
    pub namespace: String,
}

fn lineage_namespace() -> String {
    "esker".to_owned()
}

/// `[events.kafka.NAME]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port` of some brokers.
    pub bootstrap: Vec<String>,
    /// The topic; its first partition gets the events.
    pub topic: String,
}

/// `[datahub]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataHubConfig {
    /// The metadata service, such as `http://datahub-gms:8080`; default: DataHub is not told anything.
    pub url: Option<String>,
    /// A personal access token.
    pub token: Option<String>,
    /// `env` of the ingestion recipe.
    pub env: String,
    /// `platform_instance` of the ingestion recipe, by warehouse.
    pub platform_instances: BTreeMap<String, String>,
    /// Seconds between looks at what has changed.
    pub every_seconds: u64,
}

impl Default for DataHubConfig {
    fn default() -> Self {
        Self { url: None, token: None, env: "PROD".to_owned(), platform_instances: BTreeMap::new(), every_seconds: 60 }
    }
}

/// `[maintenance]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaintenanceConfig {
    /// Seconds that a file stays in quarantine before it is deleted.
    pub grace_seconds: u64,
    /// Seconds between sweeps of the quarantine.
    pub sweep_seconds: u64,
    /// Threads that decode and encode, and file groups rewritten at the same time; default: the number of cores.
    pub concurrency: Option<usize>,
    /// Jobs at work at the same time in this server, each on a table of its own; 0: this server leaves them to others.
    pub jobs: usize,
    /// Attempts before a job has failed that can't be done for a reason that may pass.
    pub attempts: u32,
    /// Seconds between the first attempt and the second; four times as long before each further one.
    pub retry_seconds: u64,
    /// Seconds between looks of the autopilot; 0: this server leaves them to others.
    pub autopilot_seconds: u64,
    /// Days that jobs which are over are remembered, with their logs.
    pub history_days: u64,
    /// Bytes of memory that a job may take, about. What does not fit is spilled to disk.
    pub memory_bytes: u64,
    /// Where jobs spill to; default: `spill` in the data directory.
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

/// `[health]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// Seconds between rows of the Iceberg table `system.table_health`, which every engine can query; 0: it is not written.
    pub table_seconds: u64,
    /// Days that the history of tables' health and use is kept.
    pub history_days: u64,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { table_seconds: 0, history_days: 30 }
    }
}

/// `[query]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryConfig {
    /// Bytes that all queries together may use for sorts, joins and aggregates; default: a quarter of the machine's memory.
    pub memory_bytes: Option<usize>,
    /// Bytes that one query may use of them before it spills or fails; default: half.
    pub query_memory_bytes: Option<usize>,
    /// Partitions of a query's plan; default: the number of cores.
    pub parallelism: Option<usize>,
    /// Queries that run at the same time.
    pub concurrency: usize,
    /// Queries that wait for their turn; more are refused.
    pub queue: usize,
    /// Seconds that a query may take, its wait included.
    pub timeout_seconds: u64,
    /// Seconds from which on a query is logged as slow.
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

/// `[cache]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Bytes of parsed metadata, of manifests, of Parquet footers and of delete files kept in memory, each, for each warehouse.
    pub bytes: u64,
    /// Bytes of column chunks that queries read, kept in memory for all warehouses together; default: an eighth of the machine's.
    pub block_bytes: Option<u64>,
    /// Bytes of column chunks kept on local disk, for warehouses in remote stores; 0: none.
    pub disk_bytes: u64,
    /// Where they are kept; default: `cache` in the data directory.
    pub disk_dir: Option<PathBuf>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { bytes: 64 << 20, block_bytes: None, disk_bytes: 8 << 30, disk_dir: None }
    }
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: LogFormat,
    /// A level, or directives such as `info,esker_catalog=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// `[traces]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracesConfig {
    /// A collector of OTLP over HTTP, such as `http://collector:4318`: spans are posted to `/v1/traces` there. None: nothing is traced.
    pub url: Option<String>,
    /// The part of the traces begun here that is told, between 0 and 1. Where a caller traces, its own decision counts.
    pub sample: f64,
    /// Headers of each request, such as `authorization`.
    pub headers: BTreeMap<String, String>,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self { url: None, sample: 1.0, headers: BTreeMap::new() }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// `[debug]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DebugConfig {
    /// The point at which the process stops making progress, for tests that kill it there.
    pub halt_at: Option<String>,
    /// The point at which it panics, every time it gets there, for tests of what goes on beside it.
    pub panic_at: Option<String>,
}

/// The warehouse that there is without any in the configuration.
pub const DEFAULT_WAREHOUSE: &str = "default";

impl Config {
    /// The warehouses, the default one where none is configured.
    pub fn all_warehouses(&self) -> BTreeMap<String, WarehouseConfig> {
        match self.warehouses.is_empty() {
            true => BTreeMap::from([(DEFAULT_WAREHOUSE.to_owned(), WarehouseConfig::default())]),
            false => self.warehouses.clone(),
        }
    }

    /// Where jobs spill to, in a data directory.
    pub(crate) fn spill_dir(&self, dir: &Path) -> PathBuf {
        self.maintenance.spill_dir.clone().unwrap_or_else(|| dir.join("spill"))
    }

    /// What is said of each warehouse's tables.
    pub fn layers(&self) -> Result<BTreeMap<String, Layers>> {
        let of = |(name, w): (String, WarehouseConfig)| Ok((name.clone(), self.layers_of(&name, &w)?));
        self.all_warehouses().into_iter().map(of).collect()
    }

    /// What is said of the tables of one warehouse.
    pub(crate) fn layers_of(&self, name: &str, warehouse: &WarehouseConfig) -> Result<Layers> {
        Layers::new(name, &self.policy, &warehouse.policy, &warehouse.namespaces).map_err(|e| Error::Config(e.to_string()))
    }

    /// The configuration without what must not be shown.
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

    /// Reads the file if there is one, then the environment, which wins.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            if !file.is_file() {
                return Err(Error::Config(format!("{} is not a file", file.display())));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        let figment = figment.merge(Env::prefixed("ESKER__").split("__"));
        let config: Self = figment.extract().map_err(|e| Error::Config(e.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// The state database, for a server with this data directory.
    pub fn database(&self, dir: &Path) -> Result<Database> {
        Ok(Database::from_url(self.state.url.as_deref(), &dir.join("esker.db"))?)
    }

    /// What no single key can say.
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
            return wrong("auth.token is too short: at least 16 characters");
        }
        for (name, warehouse) in &self.warehouses {
            if name.is_empty() || name.contains(['/', '%', '?', '#', '+', '.']) {
                return wrong(&format!("warehouses.{name}: the name must not be empty and holds none of / % ? # + ."));
            }
            if warehouse.location.is_none() && name != DEFAULT_WAREHOUSE {
                return wrong(&format!("warehouses.{name}.location is not set; only the warehouse default has one by itself"));
            }
        }
        let EventsConfig { webhooks, kafka, openlineage, .. } = &self.events;
        let mut sinks: Vec<&String> = webhooks.keys().chain(kafka.keys()).chain(openlineage.keys()).collect();
        sinks.sort();
        if let Some(twice) = sinks.windows(2).find(|names| names[0] == names[1]) {
            return wrong(&format!("events: two sinks are called {}; each needs a name of its own", twice[0]));
        }
        if let Some((name, _)) = self.events.kafka.iter().find(|(_, k)| k.bootstrap.is_empty() || k.topic.is_empty()) {
            return wrong(&format!("events.kafka.{name} needs bootstrap and topic"));
        }
        if let Some(name) = self.datahub.platform_instances.keys().find(|name| !self.all_warehouses().contains_key(*name)) {
            return wrong(&format!("datahub.platform_instances.{name}: there is no such warehouse"));
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
            return wrong("query.slow_seconds must not be negative");
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
