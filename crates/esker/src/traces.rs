//! Exports spans to a collector, by OTLP over HTTP.
//!
//! The exporter collects spans in batches on a thread of its own. A trace that a caller began keeps the caller's sampling
//! decision; `traces.sample` is the share of the traces that begin here.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;

use crate::config::TracesConfig;
use crate::{Error, Result};

/// Maximum duration of one request to the collector, and of the last export when the server stops.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The exporter of spans; empty if no collector is configured.
#[derive(Debug)]
pub(crate) struct Traces(Option<SdkTracerProvider>);

/// An HTTP client that makes its requests on the Tokio runtime, because the exporter's own thread has none.
#[derive(Debug)]
struct RuntimeHttpClient {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for RuntimeHttpClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> std::result::Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(async move { client.send_bytes(request).await }).await?
    }
}

impl Traces {
    /// Creates the exporter. It sends nothing before the first span ends.
    ///
    /// Spans carry the attributes `service.name` and `service.version`, and those of the environment variable
    /// `OTEL_RESOURCE_ATTRIBUTES`. Must be called on a Tokio runtime.
    ///
    /// # Errors
    ///
    /// Returns [`Config`](Error::Config) if the HTTP client or the exporter can't be made.
    pub(crate) fn new(traces: &TracesConfig) -> Result<Self> {
        let Some(url) = &traces.url else { return Ok(Self(None)) };
        let wrong = |e: &dyn std::fmt::Display| Error::Config(format!("traces: {e}"));
        let client = reqwest::Client::builder().timeout(TIMEOUT).build().map_err(|e| wrong(&e))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(RuntimeHttpClient { client, runtime: Handle::current() })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", url.trim_end_matches('/')))
            .with_headers(traces.headers.clone().into_iter().collect())
            .with_timeout(TIMEOUT)
            .build()
            .map_err(|e| wrong(&e))?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name("esker").with_attribute(version).build();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(traces.sample)));
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_sampler(sampler).with_resource(resource);
        Ok(Self(Some(provider.build())))
    }

    /// Returns the tracer that spans are made with, if a collector is configured.
    pub(crate) fn tracer(&self) -> Option<SdkTracer> {
        self.0.as_ref().map(|provider| provider.tracer("esker"))
    }

    /// Sends the spans that were not sent yet, if the collector takes them within [`TIMEOUT`].
    pub(crate) async fn stop(self) {
        let Some(provider) = self.0 else { return };
        let stopped = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(TIMEOUT)).await;
        if let Ok(Err(error)) = stopped {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}
