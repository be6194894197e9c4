//! [`KafkaSink`]: a sink that writes events to a Kafka topic as CloudEvents.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::DateTime;
use esker_state::Event;
use futures::future::BoxFuture;
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::record::Record;
use tokio::sync::Mutex;

use crate::cloud_event::cloud_event;
use crate::sink::encode_or_skip;
use crate::{ReportError, Result, Sink};

/// The time that the brokers have to take a batch. The client itself would try for ever.
const TIMEOUT_SECONDS: u64 = 30;

/// The topic that gets the events.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// The name of the sink, under which its cursor is stored.
    pub name: String,
    /// The addresses of some brokers, as `host:port`.
    pub bootstrap: Vec<String>,
    /// The name of the topic. All events go to its first partition, so that their order is kept.
    pub topic: String,
}

/// A sink that writes events to a topic, in the JSON format of CloudEvents, structured mode.
///
/// The key of a record is `WAREHOUSE/SUBJECT`, its timestamp the time of the event.
#[derive(Debug)]
pub struct KafkaSink {
    options: KafkaOptions,
    /// The client of the partition. It is made at the first delivery, and again after a failure.
    client: Mutex<Option<PartitionClient>>,
}

impl KafkaSink {
    /// Makes the sink. The brokers are not contacted yet.
    pub fn new(options: KafkaOptions) -> Self {
        Self { options, client: Mutex::default() }
    }

    /// Writes events to the topic, all in one request.
    ///
    /// # Errors
    ///
    /// Returns [`Kafka`](ReportError::Kafka) if a broker refuses the connection, the topic or the events for good. Brokers that
    /// can't be reached are tried again without end: the caller sets the limit.
    async fn produce(&self, events: &[Event]) -> Result<()> {
        let topic = self.options.topic.clone();
        let failed = |source| ReportError::Kafka { topic: topic.clone(), source: Box::new(source) };
        let mut held = self.client.lock().await;
        // The client is put back only after a success, so that the next delivery makes a new one after a failure.
        let client = match held.take() {
            Some(client) => client,
            None => {
                let client = ClientBuilder::new(self.options.bootstrap.clone()).build().await.map_err(failed)?;
                client.partition_client(&topic, 0, UnknownTopicHandling::Retry).await.map_err(failed)?
            }
        };
        let records = events.iter().filter_map(|event| encode_or_skip(&self.options.name, event, || record(event))).collect();
        client.produce(records, Compression::NoCompression).await.map_err(failed)?;
        *held = Some(client);
        Ok(())
    }
}

/// Encodes an event as a record of Kafka.
fn record(event: &Event) -> Record {
    let content_type = b"application/cloudevents+json; charset=utf-8".to_vec();
    Record {
        key: Some(format!("{}/{}", event.warehouse, event.subject).into_bytes()),
        value: Some(cloud_event(event).to_string().into_bytes()),
        headers: BTreeMap::from([("content-type".to_owned(), content_type)]),
        timestamp: DateTime::from_timestamp_millis(event.time_ms).unwrap_or_default(),
    }
}

impl Sink for KafkaSink {
    fn name(&self) -> &str {
        &self.options.name
    }

    fn send<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, (usize, Result<()>)> {
        Box::pin(async move {
            let done = tokio::time::timeout(Duration::from_secs(TIMEOUT_SECONDS), self.produce(events)).await;
            match done {
                Ok(Ok(())) => (events.len(), Ok(())),
                Ok(Err(e)) => (0, Err(e)),
                Err(_) => {
                    let topic = self.options.topic.clone();
                    (0, Err(ReportError::KafkaTimeout { topic, seconds: TIMEOUT_SECONDS }))
                }
            }
        })
    }
}
