//! [`ReportError`]: the reasons for which events or health could not be delivered.

use esker_catalog::CatalogError;
use esker_state::StateError;
use esker_types::with_causes;
use reqwest::Url;

/// A failed delivery of events or health.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The state database failed: events or fingerprints could not be read, or what was delivered could not be recorded.
    #[error(transparent)]
    State(#[from] StateError),
    /// A request to the receiver could not be made, or got no answer in time.
    #[error("{url}: {}", with_causes(.source))]
    Http {
        /// The URL of the receiver, as [`shown_url`] shows it.
        url: String,
        /// The error of the HTTP client, without the URL.
        source: reqwest::Error,
    },
    /// A webhook answered an event with a status other than 2xx.
    #[error("{url} answered {status} to event {event}")]
    EventRefused {
        /// The URL of the receiver, as [`shown_url`] shows it.
        url: String,
        /// The HTTP status of the answer.
        status: u16,
        /// The number of the event in the outbox.
        event: i64,
    },
    /// DataHub answered the update of some entities with a status other than 2xx.
    #[error("{url} answered {status}: {answer:.500}")]
    EntitiesRefused {
        /// The URL of the request, as [`shown_url`] shows it.
        url: String,
        /// The HTTP status of the answer.
        status: u16,
        /// The body of the answer. The message repeats 500 characters of it.
        answer: String,
    },
    /// The health of the tables could not be read from the catalog.
    #[error("the health of the tables could not be read: {0}")]
    Health(#[source] Box<CatalogError>),
    /// The Kafka brokers refused the connection, the topic or the events.
    #[error("kafka topic {topic}: {source}")]
    Kafka {
        /// The name of the topic.
        topic: String,
        /// The error of the Kafka client.
        source: Box<rskafka::client::error::Error>,
    },
    /// The Kafka brokers could not be reached, or did not take the events in time.
    #[error("kafka topic {topic}: no answer within {seconds} s")]
    KafkaTimeout {
        /// The name of the topic.
        topic: String,
        /// The time that the brokers had, in seconds.
        seconds: u64,
    },
}

impl ReportError {
    /// Makes the error of a request that could not be made or got no answer in time. The message names the receiver once.
    pub(crate) fn http(url: &str, source: reqwest::Error) -> Self {
        Self::Http { url: shown_url(url), source: source.without_url() }
    }
}

/// Returns a URL as logs show it: the scheme, the host and the port. Receivers have secrets in the user, the path and the
/// parameters.
pub fn shown_url(url: &str) -> String {
    let Ok(parsed) = Url::parse(url) else { return "a URL that can't be parsed".to_owned() };
    let is_whole = matches!(parsed.path(), "" | "/") && parsed.query().is_none() && parsed.fragment().is_none();
    format!("{}{}", parsed.origin().ascii_serialization(), if is_whole { "" } else { "/…" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        for (url, shown) in [
            ("https://hooks.example/services/T0/B0/hunter2", "https://hooks.example/…"),
            ("https://user:hunter2@hooks.example:8443/", "https://hooks.example:8443"),
            ("http://127.0.0.1:9/?token=hunter2", "http://127.0.0.1:9/…"),
            ("http://datahub-gms:8080", "http://datahub-gms:8080"),
            ("hunter2", "a URL that can't be parsed"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
    }
}
