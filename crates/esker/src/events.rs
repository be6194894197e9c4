//! Builds the event sinks and the DataHub client that the configuration names. Nothing is sent here.

use std::sync::Arc;
use std::time::Duration;

use esker_report::{DataHub, DataHubOptions, EventFormat, KafkaOptions, KafkaSink, Sink, WebhookOptions, WebhookSink};
use esker_state::State;

use crate::config::{DataHubConfig, EventsConfig};
use crate::{Config, Error, Result};

/// All that a server reports to.
pub(crate) struct Receivers {
    /// The sinks of events.
    pub(crate) sinks: Vec<Arc<dyn Sink>>,
    /// The client that reports to DataHub, if one is configured.
    pub(crate) datahub: Option<DataHub>,
}

impl Receivers {
    /// Returns the names of the sinks.
    pub(crate) fn names(&self) -> Vec<String> {
        self.sinks.iter().map(|sink| sink.name().to_owned()).collect()
    }
}

/// Builds the receivers, and gives each sink its cursor. Cursors of sinks that are no longer configured are removed.
///
/// A new sink has its cursor before its task runs, because it must not miss the events until then.
///
/// # Errors
///
/// Returns [`Report`](Error::Report) if an HTTP client can't be made, and [`State`](Error::State) if the database does not
/// answer.
pub(crate) async fn open(config: &Config, state: &State) -> Result<Receivers> {
    let receivers = Receivers { sinks: sinks(&config.events)?, datahub: datahub(&config.datahub)? };
    state.outbox().retain_sinks(&receivers.names()).await?;
    for sink in &receivers.sinks {
        state.outbox().sink_cursor(sink.name()).await?;
    }
    Ok(receivers)
}

/// Builds the client that reports to DataHub, if `datahub.url` is set.
fn datahub(datahub: &DataHubConfig) -> Result<Option<DataHub>> {
    let Some(url) = datahub.url.clone() else { return Ok(None) };
    let options = DataHubOptions {
        url,
        token: datahub.token.clone(),
        env: datahub.env.clone(),
        platform_instances: datahub.platform_instances.clone(),
        interval: Duration::from_secs(datahub.every_seconds.max(1)),
    };
    DataHub::new(options).map(Some).map_err(|source| Error::Report { key: "datahub".to_owned(), source })
}

/// Builds the sinks of `[events]`: webhooks, OpenLineage receivers and Kafka topics.
fn sinks(events: &EventsConfig) -> Result<Vec<Arc<dyn Sink>>> {
    let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
    let webhooks = events.webhooks.iter().map(|(name, w)| ("webhooks", name, &w.url, &w.token, EventFormat::CloudEvents));
    let lineage = events
        .openlineage
        .iter()
        .map(|(name, l)| ("openlineage", name, &l.url, &l.token, EventFormat::OpenLineage { namespace: l.namespace.clone() }));
    for (kind, name, url, token, format) in webhooks.chain(lineage) {
        let options = WebhookOptions { name: name.clone(), url: url.clone(), token: token.clone(), format };
        let failed = |source| Error::Report { key: format!("events.{kind}.{name}"), source };
        let webhook = WebhookSink::new(options).map_err(failed)?;
        sinks.push(Arc::new(webhook));
    }
    for (name, kafka) in &events.kafka {
        let options = KafkaOptions { name: name.clone(), bootstrap: kafka.bootstrap.clone(), topic: kafka.topic.clone() };
        sinks.push(Arc::new(KafkaSink::new(options)));
    }
    Ok(sinks)
}
