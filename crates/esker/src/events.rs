//! Builds the event sinks and the DataHub client that the configuration names. Nothing is sent here.

use std::sync::Arc;
use std::time::Duration;

use esker_report::{DataHub, DataHubOptions, EventFormat, KafkaOptions, KafkaSink, Sink, WebhookOptions, WebhookSink};

use crate::config::{self, EventsConfig};
use crate::{Error, Result};

/// Builds the client that reports to DataHub, if `datahub.url` is set.
pub(crate) fn datahub(config: &config::DataHubConfig) -> Result<Option<DataHub>> {
    let Some(url) = config.url.clone() else { return Ok(None) };
    let options = DataHubOptions {
        url,
        token: config.token.clone(),
        env: config.env.clone(),
        platform_instances: config.platform_instances.clone(),
        interval: Duration::from_secs(config.every_seconds.max(1)),
    };
    DataHub::new(options).map(Some).map_err(|e| Error::Config(format!("datahub.url: {e}")))
}

/// Builds the sinks of `[events]`: webhooks, OpenLineage receivers and Kafka topics.
pub(crate) fn sinks(events: &EventsConfig) -> Result<Vec<Arc<dyn Sink>>> {
    let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
    let webhooks = events.webhooks.iter().map(|(name, w)| ("webhooks", name, &w.url, &w.token, EventFormat::CloudEvents));
    let lineage = events
        .openlineage
        .iter()
        .map(|(name, l)| ("openlineage", name, &l.url, &l.token, EventFormat::OpenLineage { namespace: l.namespace.clone() }));
    for (kind, name, url, token, format) in webhooks.chain(lineage) {
        let options = WebhookOptions { name: name.clone(), url: url.clone(), token: token.clone(), format };
        let webhook = WebhookSink::new(options).map_err(|e| Error::Config(format!("events.{kind}.{name}: {e}")))?;
        sinks.push(Arc::new(webhook));
    }
    for (name, kafka) in &events.kafka {
        let options = KafkaOptions { name: name.clone(), bootstrap: kafka.bootstrap.clone(), topic: kafka.topic.clone() };
        sinks.push(Arc::new(KafkaSink::new(options)));
    }
    Ok(sinks)
}
