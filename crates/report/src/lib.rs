//! Out-boxes: what happened, told to the outside.
//!
//! Every change is entered in the state database's `event` table in the transaction that makes it. Here each sink reads on from its own
//! cursor and moves it only when the events were taken, so that an event is delivered at least once, in order, however often
//! either side stops. The event's UUID stays the same, for receivers that want to drop repetitions.

mod cloud_event;
mod datahub;
mod error;
mod kafka;
mod openlineage;
mod sink;
mod webhook;

pub use datahub::{DataHub, DataHubOptions};
pub use error::ReportError;
pub use kafka::{Kafka, KafkaOptions};
pub use sink::{Sink, deliver};
pub use webhook::{Format, Webhook, WebhookOptions};

/// The result of a delivery.
pub type Result<T> = std::result::Result<T, ReportError>;
