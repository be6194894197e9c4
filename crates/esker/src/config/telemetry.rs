//! The sections `[log]` and `[traces]`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::check::require;
use super::endpoint::{check_header, check_url};
use crate::Result;

/// The section `[log]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
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

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The section `[traces]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TracesConfig {
    /// The URL of a collector of OTLP over HTTP, such as `http://collector:4318`. Spans are posted to `/v1/traces` below it.
    /// Default: nothing is traced.
    pub url: Option<String>,
    /// The share of traces begun by this server that are sampled, between 0 and 1. A trace that a caller began follows the caller's
    /// decision.
    #[schema(minimum = 0, maximum = 1)]
    pub sample: f64,
    /// Headers of each request to the collector, such as `authorization`.
    #[schema(write_only)]
    pub headers: BTreeMap<String, String>,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self { url: None, sample: 1.0, headers: BTreeMap::new() }
    }
}

impl TracesConfig {
    pub(super) fn check(&self) -> Result<()> {
        require((0.0..=1.0).contains(&self.sample), || "traces.sample must be between 0 and 1".to_owned())?;
        check_url("traces.url", self.url.as_deref())?;
        self.headers.iter().try_for_each(|(name, value)| check_header("traces.headers", name, value))
    }
}
