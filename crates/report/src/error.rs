use esker_state::StateError;

/// Why events could not be delivered.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The state database failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The receiver could not be reached.
    #[error("{url}: {source}")]
    Http {
        /// The receiver.
        url: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// The receiver did not take an event.
    #[error("{url} answered {status} to event {event}")]
    NotTaken {
        /// The receiver.
        url: String,
        /// Its answer.
        status: u16,
        /// The event.
        event: i64,
    },
    /// The receiver did not take what it was told.
    #[error("{url} answered {status}: {answer:.500}")]
    Refused {
        /// The receiver.
        url: String,
        /// Its answer.
        status: u16,
        /// The answer's text.
        answer: String,
    },
    /// What is known of tables could not be read.
    #[error("the fleet could not be looked at: {0}")]
    Fleet(String),
    /// Kafka did not take the events.
    #[error("kafka topic {topic}: {source}")]
    Kafka {
        /// The topic.
        topic: String,
        /// What happened.
        source: Box<rskafka::client::error::Error>,
    },
    /// The brokers gave no answer in time.
    #[error("kafka topic {topic}: no answer within {seconds} s")]
    KafkaTimeout {
        /// The topic.
        topic: String,
        /// How long it was waited for.
        seconds: u64,
    },
}
