use std::time::Duration;

use esker_state::Event;
use esker_types::caught_now;
use futures::future::BoxFuture;

use crate::cloud_event::cloud_event;
use crate::openlineage::run_event;
use crate::{ReportError, Result, Sink};

/// How long a receiver may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What events look like to a receiver.
#[derive(Debug, Clone)]
pub enum Format {
    /// CloudEvents 1.0.
    CloudEvents,
    /// Run events of OpenLineage, of jobs alone, whose names are in this namespace.
    OpenLineage {
        /// The namespace of jobs.
        namespace: String,
    },
}

/// A receiver of events over HTTP.
#[derive(Debug, Clone)]
pub struct WebhookOptions {
    /// The name of the sink.
    pub name: String,
    /// Where events are posted to.
    pub url: String,
    /// Sent as a bearer token, if the receiver wants one.
    pub token: Option<String>,
    /// What they look like.
    pub format: Format,
}

/// Posts each event by itself.
#[derive(Debug)]
pub struct Webhook {
    options: WebhookOptions,
    client: reqwest::Client,
}

impl Webhook {
    /// Nothing is sent yet.
    pub fn new(options: WebhookOptions) -> Result<Self> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).build();
        let client = client.map_err(|source| ReportError::Http { url: options.url.clone(), source })?;
        Ok(Self { options, client })
    }

    async fn post(&self, event: &Event) -> Result<()> {
        let url = &self.options.url;
        let told = caught_now(|| match &self.options.format {
            Format::CloudEvents => Some(("application/cloudevents+json; charset=utf-8", cloud_event(event))),
            Format::OpenLineage { namespace } => run_event(event, namespace).map(|body| ("application/json", body)),
        });
        let told = told.unwrap_or_else(|panic| {
            // It would keep all later events back for ever.
            tracing::error!(sink = self.options.name, event = event.id, %panic, "an event can't be told");
            None
        });
        let Some((content_type, body)) = told else { return Ok(()) };
        let mut request = self.client.post(url).header("content-type", content_type).body(body.to_string());
        if let Some(token) = &self.options.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|source| ReportError::Http { url: url.clone(), source })?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(ReportError::NotTaken { url: url.clone(), status: status.as_u16(), event: event.id }),
        }
    }
}

impl Sink for Webhook {
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
