//! [`ReportError`]: the reasons for which events or health could not be delivered.

use esker_state::StateError;

/// A failed delivery of events or health.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The state database failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The receiver could not be reached, or gave no answer in time.
    #[error("{url}: {source}")]
    Http {
        /// The URL of the receiver.
        url: String,
        /// The error of the HTTP client.
        source: reqwest::Error,
    },
    /// A webhook answered an event with a status that is no success.
    #[error("{url} answered {status} to event {event}")]
    EventRefused {
        /// The URL of the receiver.
        url: String,
        /// The HTTP status of the answer.
        status: u16,
        /// The number of the event in the outbox.
        event: i64,
    },
    /// DataHub answered with a status that is no success.
    #[error("{url} answered {status}: {answer:.500}")]
    Refused {
        /// The URL of the receiver.
        url: String,
        /// The HTTP status of the answer.
        status: u16,
        /// The body of the answer. The message repeats 500 characters of it.
        answer: String,
    },
    /// The health of the tables could not be read from the catalog.
    #[error("the health of the tables could not be read: {0}")]
    Fleet(String),
    /// Kafka did not take the events.
    #[error("kafka topic {topic}: {source}")]
    Kafka {
        /// The name of the topic.
        topic: String,
        /// The error of the Kafka client.
        source: Box<rskafka::client::error::Error>,
    },
    /// The brokers gave no answer in time.
    #[error("kafka topic {topic}: no answer within {seconds} s")]
    KafkaTimeout {
        /// The name of the topic.
        topic: String,
        /// The time that the brokers had, in seconds.
        seconds: u64,
    },
}
