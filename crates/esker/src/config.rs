//! Configuration: one TOML file, every key also as `ESKER__SECTION__KEY`, unknown keys refused by name.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Everything that can be configured, with its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the state database lives and, unless said otherwise, the warehouse.
    pub data_dir: Option<PathBuf>,
    /// Where the server listens.
    pub server: Server,
    /// Who may ask.
    pub auth: Auth,
    /// The warehouse.
    pub warehouse: Warehouse,
    /// Maintenance.
    pub maintenance: Maintenance,
    /// Queries.
    pub query: Query,
    /// Memory for what can be read again.
    pub cache: Cache,
    /// Logs.
    pub log: Log,
    /// For tests only.
    pub debug: Debugging,
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
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
}

impl Default for Server {
    fn default() -> Self {
        let listen = IpAddr::from([127, 0, 0, 1]);
        Self { listen, rest_port: 8181, flight_port: 32010, max_body_bytes: 64 << 20, drain_seconds: 20 }
    }
}

/// `[auth]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Callers on loopback need no token. Refused unless the server listens on loopback.
    pub anonymous: bool,
    /// The token of the principal `admin`. Made and printed once if not set.
    pub token: Option<String>,
}

/// `[warehouse]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Warehouse {
    /// Its name, which is also the REST prefix and the SQL catalog.
    pub name: String,
    /// Where new tables go, as a `file:///` URI; default: `warehouse` in the data directory.
    pub location: Option<String>,
    /// Where else clients may create and register tables.
    pub allowed_locations: Vec<String>,
}

impl Default for Warehouse {
    fn default() -> Self {
        Self { name: "default".to_owned(), location: None, allowed_locations: Vec::new() }
    }
}

/// `[maintenance]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Maintenance {
    /// Seconds that a file stays in quarantine before it is deleted.
    pub grace_seconds: u64,
    /// Seconds between sweeps of the quarantine.
    pub sweep_seconds: u64,
    /// File groups rewritten at the same time; default: the number of cores.
    pub concurrency: Option<usize>,
}

impl Default for Maintenance {
    fn default() -> Self {
        Self { grace_seconds: 24 * 3600, sweep_seconds: 60, concurrency: None }
    }
}

/// `[query]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// Bytes that all queries together may use for sorts, joins and aggregates.
    pub memory_bytes: usize,
    /// Partitions of a query's plan; default: the number of cores.
    pub parallelism: Option<usize>,
}

impl Default for Query {
    fn default() -> Self {
        Self { memory_bytes: 1 << 30, parallelism: None }
    }
}

/// `[cache]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Bytes of parsed metadata, of manifests, of Parquet footers and of delete files kept in memory, each.
    pub bytes: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self { bytes: 64 << 20 }
    }
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `text` or `json`.
    pub format: LogFormat,
    /// A level, or directives such as `info,esker_catalog=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
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
pub struct Debugging {
    /// The point at which the process stops making progress, for tests that kill it there.
    pub halt_at: Option<String>,
}

impl Config {
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

    /// What no single key can say.
    pub fn check(&self) -> Result<()> {
        let wrong = |text: &str| Err(Error::Config(text.to_owned()));
        if self.auth.anonymous && !self.server.listen.is_loopback() {
            return wrong("auth.anonymous is only allowed where server.listen is a loopback address");
        }
        if self.auth.token.as_ref().is_some_and(|t| t.len() < 16) {
            return wrong("auth.token is too short: at least 16 characters");
        }
        if self.warehouse.name.is_empty() || self.warehouse.name.contains(['/', '%', '?', '#']) {
            return wrong("warehouse.name must not be empty and holds none of / % ? #: it is part of every URL");
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
            ("[log]\nformat = \"xml\"", "format"),
        ] {
            let error = load(toml).expect_err(toml).to_string();
            assert!(error.contains(key), "{toml:?}: {error}");
        }
    }
}
