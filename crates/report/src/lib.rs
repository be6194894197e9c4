//! Delivers events and table health to receivers outside: webhooks, Kafka and DataHub.
//!
//! Every change is written to the state database's `event` table (the outbox) in the transaction that makes it. Each [`Sink`] reads
//! on from a cursor of its own, and moves it only past events that its receiver took. So each event is delivered at least once and
//! in order, however often either side stops. The event's UUID stays the same, so that receivers can drop repetitions. [`DataHub`]
//! gets states, not events: what it was sent is remembered by fingerprint, and sent again only when it changes. Start reading with
//! [`deliver`] in `sink.rs`.

mod cloud_event;
mod datahub;
mod error;
mod kafka;
mod openlineage;
mod schema;
mod sink;
mod webhook;

pub use datahub::{DataHub, DataHubOptions};
pub use error::{ReportError, shown_url};
pub use kafka::{KafkaOptions, KafkaSink};
pub use schema::event_schema;
pub use sink::{Sink, deliver};
pub use webhook::{EventFormat, WebhookOptions, WebhookSink};

/// The result of a delivery.
pub type Result<T> = std::result::Result<T, ReportError>;
