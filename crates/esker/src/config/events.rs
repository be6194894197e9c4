//! The sections `[events]` and `[datahub]`: the receivers of events and of health.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::check::require;
use super::endpoint::{check_token, check_url};
use crate::Result;

/// The section `[events]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
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

impl EventsConfig {
    pub(super) fn check(&self) -> Result<()> {
        let mut names: Vec<&String> = self.webhooks.keys().chain(self.kafka.keys()).chain(self.openlineage.keys()).collect();
        names.sort();
        for pair in names.windows(2) {
            require(pair[0] != pair[1], || format!("events: two sinks are called {}; give each its own name", pair[0]))?;
        }
        for (name, kafka) in &self.kafka {
            let complete = !kafka.bootstrap.is_empty() && !kafka.topic.is_empty();
            require(complete, || format!("events.kafka.{name}: bootstrap and topic must not be empty"))?;
        }
        let webhooks = self.webhooks.iter().map(|(name, sink)| ("webhooks", name, &sink.url, &sink.token));
        let lineage = self.openlineage.iter().map(|(name, sink)| ("openlineage", name, &sink.url, &sink.token));
        for (kind, name, url, token) in webhooks.chain(lineage) {
            check_url(&format!("events.{kind}.{name}.url"), Some(url))?;
            check_token(&format!("events.{kind}.{name}.token"), token.as_deref())?;
        }
        Ok(())
    }
}

/// The section `[events.webhooks.NAME]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// The URL to which events are posted.
    pub url: String,
    /// A bearer token for the requests.
    #[serde(default)]
    #[schema(write_only)]
    pub token: Option<String>,
}

/// The section `[events.openlineage.NAME]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenLineageConfig {
    /// The URL to which run events are posted, such as `http://marquez:5000/api/v1/lineage`, or DataHub's
    /// `/openapi/openlineage/api/v1/lineage`.
    pub url: String,
    /// A bearer token for the requests.
    #[serde(default)]
    #[schema(write_only)]
    pub token: Option<String>,
    /// The OpenLineage namespace of the jobs; default: `esker`.
    #[serde(default = "lineage_namespace")]
    #[schema(default = lineage_namespace)]
    pub namespace: String,
}

/// Returns the default of `events.openlineage.NAME.namespace`.
fn lineage_namespace() -> String {
    "esker".to_owned()
}

/// The section `[events.kafka.NAME]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Addresses of some brokers, each as `host:port`.
    pub bootstrap: Vec<String>,
    /// The topic. All events go to its first partition, so that they keep their order.
    pub topic: String,
}

/// The section `[datahub]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataHubConfig {
    /// The URL of the metadata service, such as `http://datahub-gms:8080`; default: nothing is reported to DataHub.
    pub url: Option<String>,
    /// A personal access token of DataHub.
    #[schema(write_only)]
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

impl DataHubConfig {
    /// Checks that the keys of `platform_instances` are in `warehouses`, the names of all warehouses. Checks the URL and the token.
    pub(super) fn check<T>(&self, warehouses: &BTreeMap<String, T>) -> Result<()> {
        check_url("datahub.url", self.url.as_deref())?;
        check_token("datahub.token", self.token.as_deref())?;
        for name in self.platform_instances.keys() {
            require(warehouses.contains_key(name), || format!("datahub.platform_instances.{name}: no warehouse has this name"))?;
        }
        Ok(())
    }
}
