//! [`Config`]: everything that can be configured, read from one TOML file and from the environment.
//!
//! Each section of the file is a struct in a file of its own here. That file has the section's keys, their defaults in `Default`,
//! the checks of their values, and what the crate that acts on them gets. Every key can also be set as the environment variable
//! `ESKER__SECTION__KEY`, which wins over the file. An unknown key is an error that names it. Secrets may come from files and commands
//! as well (`secret_source.rs`). Start reading at [`Config::load`]; [`Config::check`] has the conditions that involve more than one
//! section, and [`schema()`] describes the file to other programs.

mod audit;
mod cache;
mod check;
mod commit;
#[cfg(test)]
mod contract;
mod debug;
mod endpoint;
mod events;
mod key_error;
mod keys;
mod limits;
mod maintenance;
mod new_names;
mod oidc;
mod opa;
mod policy;
mod query;
mod schema;
mod secret_source;
mod secrets;
mod server;
mod state;
mod telemetry;
mod tls;
mod vending;
mod warehouse;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use audit::AuditConfig;
pub use cache::CacheConfig;
pub use commit::CommitConfig;
pub use debug::DebugConfig;
pub use events::{DataHubConfig, EventsConfig, KafkaConfig, OpenLineageConfig, WebhookConfig};
pub use keys::KeysConfig;
pub use limits::LimitsConfig;
pub use maintenance::{HealthConfig, MaintenanceConfig};
pub use oidc::{LoginConfig, OidcConfig};
pub use opa::OpaConfig;
pub use query::QueryConfig;
pub use schema::schema;
pub use server::{AuthConfig, PageConfig, ServerConfig, TokensConfig};
pub use state::StateConfig;
pub use telemetry::{LogConfig, LogFormat, TracesConfig};
pub(crate) use tls::TlsKeySource;
pub use tls::{ClientCertificates, MtlsConfig, TlsConfig, TlsVersion};
pub use vending::{VendingConfig, VendingLevel, VendingMode};
pub use warehouse::{DEFAULT_WAREHOUSE, TablesConfig, WarehouseConfig};

use crate::{Error, Result};
use new_names::NewNames;
use policy::policy;
use secret_source::SecretSources;
pub(crate) use secret_source::run_for_secret;

/// The whole configuration, with a default for every key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The directory of the SQLite state database, the locks and caches and, by default, the warehouse `default`. Must be set.
    #[schema(value_type = Option<String>)]
    pub data_dir: Option<PathBuf>,
    /// The state database and its servers.
    pub state: StateConfig,
    /// Addresses, limits and times of the server.
    pub server: ServerConfig,
    /// Authentication of callers.
    pub auth: AuthConfig,
    /// The audit trail.
    pub audit: AuditConfig,
    /// Keys that encrypt the keys in the database: see `docs/security/keys.md`.
    pub keys: KeysConfig,
    /// Limits on requests: before their callers are known, by principal, and in time.
    pub limits: LimitsConfig,
    /// The policy of every table, as policy keys with their values: see `docs/policies.md`.
    #[serde(deserialize_with = "policy")]
    pub policy: BTreeMap<String, String>,
    /// The warehouses, by name. If there is none, one is called `default`.
    pub warehouses: BTreeMap<String, WarehouseConfig>,
    /// Settings of the catalog's tables.
    pub tables: TablesConfig,
    /// Turns of clients whose commits come late, and bounds of the commit queues.
    pub commit: CommitConfig,
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

impl Config {
    /// Reads the file, if one is given, then the environment, which wins; then checks the result. Runs the commands that print
    /// secrets.
    ///
    /// # Errors
    ///
    /// Returns [`Config`](Error::Config) if the file or the source of a secret can't be read, if a key is unknown or has a value of the
    /// wrong type, or if [`Config::check`] finds something wrong. Returns [`State`](Error::State) if `state.url` names no supported database.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        let warnings = RefCell::default();
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            if !file.is_file() {
                return Err(Error::Config(format!("{} is not a file", file.display())));
            }
            figment = figment.merge(SecretSources::of(NewNames::of(Toml::file_exact(file), &warnings), &secret_source::read));
        }
        let environment = NewNames::of(Env::prefixed(key_error::ENVIRONMENT).split("__"), &warnings);
        let figment = figment.merge(SecretSources::of(environment, &secret_source::read));
        let config: Self = figment.extract().map_err(|e| Error::Config(key_error::describe(e)))?;
        config.check()?;
        Ok(Self { warnings: warnings.into_inner(), ..config })
    }

    /// Returns the warehouses by name: the configured ones, or the one called `default` if there are none.
    pub fn all_warehouses(&self) -> BTreeMap<String, WarehouseConfig> {
        match self.warehouses.is_empty() {
            true => BTreeMap::from([(DEFAULT_WAREHOUSE.to_owned(), WarehouseConfig::default())]),
            false => self.warehouses.clone(),
        }
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
            ("[auth.tokens]\naccess_seconds = 0", "auth.tokens.access_seconds"),
            ("[auth.tokens]\nmax_session_seconds = 0", "auth.tokens.max_session_seconds"),
            ("[auth.page]\nidle_seconds = 0", "auth.page.idle_seconds"),
            ("[auth.page]\nmax_seconds = 0", "auth.page.max_seconds"),
            ("[auth.oidc.sso]\naudiences = [\"esker\"]", "auth.oidc.sso.issuer"),
            ("[auth.oidc.sso]\nissuer = \"https://a\"\nalgorithms = [\"HS256\"]", "auth.oidc.sso.algorithms"),
            ("[auth.opa]\ngroups = true", "auth.opa.groups"),
            ("[auth.opa]\nissuer = \"idp\"", "auth.opa.issuer"),
            ("[auth.opa.catalogs]\nlake = \"nothing\"", "auth.opa.catalogs.lake"),
            ("[server]\npublic_url = \"esker.example\"", "server.public_url"),
            ("[server]\nallowed_hosts = [\"esker.example:8181\"]", "server.allowed_hosts"),
            ("[server]\ntrusted_proxies = [\"proxy\"]", "server.trusted_proxies"),
            ("[server]\npeer_listen = \"127.0.0.1:8182\"", "server.peer_listen"),
            ("[server]\npeer_address = \"a:8182\"", "server.peer_address"),
            ("[state]\nurl = \"postgres://h/d\"\n[server]\npeer_listen = \"0.0.0.0:8182\"", "server.peer_listen"),
            (
                "[state]\nurl = \"postgres://h/d\"\n[server]\npeer_listen = \"0.0.0.0:8182\"\npeer_address = \"http://a\"",
                "server.peer_address",
            ),
            ("[limits]\nheader_bytes = 100", "limits.header_bytes"),
            ("[limits]\nbody_seconds = 0", "limits.body_seconds"),
            ("[limits]\nrequest_burst = 5", "limits.request_burst"),
            ("[keys]\nmaster_key = \"short\"", "keys.master_key"),
            ("[commit]\nturn_ms = 60001", "commit.turn_ms"),
            ("[commit]\nturn_return_ms = 0", "commit.turn_return_ms"),
            ("[commit]\nturn_wait_seconds = 0", "commit.turn_wait_seconds"),
            ("[commit]\nturn_waiters = 0", "commit.turn_waiters"),
            ("[commit]\nqueue = 0", "commit.queue"),
            ("[commit]\nqueue_total = 0", "commit.queue_total"),
            ("[commit]\nbatch = 0", "commit.batch"),
            ("[state]\npooled = true", "state.pooled"),
            ("[query]\nconcurrency = 0", "query.concurrency"),
            ("[query]\nslow_seconds = -1.0", "query.slow_seconds"),
            ("[log]\nformat = \"xml\"", "format"),
            ("[warehouses.x]\n", "warehouses.x.location"),
            ("[warehouses.\"a/b\"]\nlocation = \"s3://b\"", "warehouses.a/b"),
            ("[warehouses.x]\nlocatoin = \"s3://b\"", "locatoin"),
            ("[warehouses.x]\nlocation = \"s3://b/w\"\n[warehouses.x.vending]\nmode = \"sts\"", "warehouses.x.vending.role_arn"),
            ("[warehouses.x]\nlocation = \"file:///w\"\n[warehouses.x.vending]\nmode = \"sts\"", "warehouses.x.vending.mode"),
            (
                "[warehouses.x]\nlocation = \"s3://b/w\"\n[warehouses.x.vending]\nmode = \"sts\"\nduration_seconds = 60",
                "warehouses.x.vending.duration_seconds",
            ),
            (
                "[warehouses.x]\nlocation = \"s3://b\"\n\
                 [warehouses.x.vending]\nmode = \"sts\"\nrole_arn = \"arn:aws:iam::1:role/*\"",
                "warehouses.x.vending.role_arn",
            ),
            (
                "[warehouses.x]\nlocation = \"s3://b/w\"\n[warehouses.x.vending]\nmode = \"sts\"\nsts_endpoint = \"sts\"",
                "warehouses.x.vending.sts_endpoint",
            ),
            ("[warehouses.x]\nlocation = \"s3://b/w\"\n[warehouses.x.vending]\nlevel = \"admin\"", "level"),
            ("[events.kafka.k]\nbootstrap = []\ntopic = \"t\"", "events.kafka.k"),
            ("[events.webhooks.w]\ntoken = \"t\"", "url"),
        ] {
            let error = load(toml).expect_err(toml).to_string();
            assert!(error.contains(key), "{toml:?}: {error}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_in_full_with_the_nearest_known_one() {
        for (toml, words) in [
            ("[server]\nrest_prt = 1", "unknown key server.rest_prt; is server.rest_port meant?"),
            ("[sever]\nrest_port = 1", "unknown key sever; is server meant?"),
            ("[debug]\nsomething = 1", "unknown key debug.something; the keys there are "),
            ("[server]\nrest_port = \"x\"", "server.rest_port: invalid type"),
        ] {
            let error = load(toml).expect_err(toml).to_string();
            assert!(error.contains(words) && !error.contains("default.") && error.contains("(in /"), "{toml:?}: {error}");
        }
    }

    #[test]
    fn secrets_come_from_files_and_commands_too() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "from-the-file-of-16\n").expect("written");
        let toml = format!(
            "[auth]\ntoken_file = {:?}\n[warehouses.x]\nlocation = \"s3://b\"\n\
             [warehouses.x.storage]\nsecret_access_key_command = [\"echo\", \"printed\"]",
            file.path()
        );
        let config = load(&toml).expect("valid");
        assert_eq!(config.auth.token.as_deref(), Some("from-the-file-of-16"));
        assert_eq!(config.warehouses["x"].storage["secret_access_key"], "printed");
        let error = load("[auth]\ntoken_command = [\"false\"]").expect_err("no secret").to_string();
        assert!(error.contains("auth.token_command: false failed"), "{error}");
        let error = load("[server]\nlisten_file = \"/x\"").expect_err("no secret").to_string();
        assert!(error.contains("unknown key server.listen_file"), "{error}");
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
