//! [`WebhookSink`]: a sink that posts each event to a URL.

use std::time::Duration;

use esker_state::Event;
use futures::future::BoxFuture;

use crate::cloud_event::cloud_event;
use crate::error::shown_url;
use crate::openlineage::run_event;
use crate::sink::encode_or_skip;
use crate::{ReportError, Result, Sink};

/// The time that a receiver has to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The encoding of events for a receiver.
#[derive(Debug, Clone)]
pub enum EventFormat {
    /// CloudEvents 1.0: one for each event.
    CloudEvents,
    /// Run events of OpenLineage: one for each event about a job. Other events are skipped.
    OpenLineage {
        /// The namespace of the names of jobs.
        namespace: String,
    },
}

/// A receiver of events over HTTP.
#[derive(Debug, Clone)]
pub struct WebhookOptions {
    /// The name of the sink, under which its cursor is stored.
    pub name: String,
    /// The URL that events are posted to.
    pub url: String,
    /// The bearer token, if the receiver wants one.
    pub token: Option<String>,
    /// The encoding of the events.
    pub format: EventFormat,
}

/// A sink that posts each event in a request of its own.
#[derive(Debug)]
pub struct WebhookSink {
    options: WebhookOptions,
    client: reqwest::Client,
}

impl WebhookSink {
    /// Makes the sink. Sends nothing yet.
    ///
    /// # Errors
    ///
    /// Returns [`Http`](ReportError::Http) if the HTTP client can't be made.
    pub fn new(options: WebhookOptions) -> Result<Self> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).build();
        let client = client.map_err(|source| ReportError::http(&options.url, source))?;
        Ok(Self { options, client })
    }

    /// Posts one event. Does nothing for an event that the format has no text for.
    ///
    /// # Errors
    ///
    /// Returns [`Http`](ReportError::Http) if the request can't be made or gets no answer within 30 seconds, and
    /// [`EventRefused`](ReportError::EventRefused) if the receiver answers with a status other than 2xx.
    async fn post(&self, event: &Event) -> Result<()> {
        let url = &self.options.url;
        let encoded = encode_or_skip(&self.options.name, event, || match &self.options.format {
            EventFormat::CloudEvents => Some(("application/cloudevents+json; charset=utf-8", cloud_event(event))),
            EventFormat::OpenLineage { namespace } => run_event(event, namespace).map(|body| ("application/json", body)),
        });
        let Some((content_type, body)) = encoded.flatten() else { return Ok(()) };
        let mut request = self.client.post(url).header("content-type", content_type).body(body.to_string());
        if let Some(token) = &self.options.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|source| ReportError::http(url, source))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(ReportError::EventRefused { url: shown_url(url), status: status.as_u16(), event: event.id }),
        }
    }
}

impl Sink for WebhookSink {
    fn name(&self) -> &str {
        &self.options.name
    }

    fn send<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, (usize, Result<()>)> {
        Box::pin(async move {
            for (taken, event) in events.iter().enumerate() {
                if let Err(e) = self.post(event).await {
                    return (taken, Err(e));
                }
            }
            (events.len(), Ok(()))
        })
    }
}
