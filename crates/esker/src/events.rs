//! The event sinks that the configuration names.

use esker_report::{Kafka, KafkaOptions, Sink, Webhook, WebhookOptions};

use crate::config::Events;
use crate::{Error, Result};

pub(crate) fn sinks(events: &Events) -> Result<Vec<Box<dyn Sink>>> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    for (name, webhook) in &events.webhooks {
        let options = WebhookOptions { name: name.clone(), url: webhook.url.clone(), token: webhook.token.clone() };
        let webhook = Webhook::new(options).map_err(|e| Error::Config(format!("events.webhooks.{name}: {e}")))?;
        sinks.push(Box::new(webhook));
    }
    for (name, kafka) in &events.kafka {
        let options = KafkaOptions { name: name.clone(), bootstrap: kafka.bootstrap.clone(), topic: kafka.topic.clone() };
        sinks.push(Box::new(Kafka::new(options)));
    }
    Ok(sinks)
}
