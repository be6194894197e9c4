//! Distributed traces: the span of a request becomes part of its caller's trace (W3C Trace Context).

use axum::http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing::field::display;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Makes the span of a request a child of the span in the header `traceparent`.
///
/// The id of the trace is recorded in the span, so that logs can be found by it. Does nothing if traces are not exported.
pub(crate) fn join(span: &Span, headers: &HeaderMap, name: String) {
    let caller = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    if span.set_parent(caller).is_err() {
        return;
    }
    let context = span.context();
    let exported = context.span();
    if exported.span_context().is_valid() {
        exported.update_name(name);
        span.record("trace_id", display(exported.span_context().trace_id()));
    }
}
