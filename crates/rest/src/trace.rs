//! Distributed traces: the span of a request becomes part of its caller's trace (W3C Trace Context).
//!
//! Start reading at [`join`]. [`shown_path`] is what the span has of the path.

use std::borrow::Cow;

use axum::http::HeaderMap;
use esker_auth::{has_token, without_tokens};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use percent_encoding::percent_decode_str;
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

/// Returns the path of a request as logs and traces have it: without a token, if somebody has put one into it.
pub(crate) fn shown_path(path: &str) -> Cow<'_, str> {
    match percent_decode_str(path).decode_utf8_lossy() {
        decoded if has_token(&decoded) => Cow::Owned(without_tokens(&decoded).into_owned()),
        _ => Cow::Borrowed(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_a_path_is_not_shown() {
        let digits = "0123456789abcdef".repeat(4);
        assert_eq!(shown_path(&format!("/api/v1/tokens/esk_{digits}")), "/api/v1/tokens/esk_…");
        assert_eq!(shown_path(&format!("/api/v1/tokens/esk%5F{digits}")), "/api/v1/tokens/esk_…");
        assert_eq!(shown_path("/v1/lake/namespaces/a%1Fb"), "/v1/lake/namespaces/a%1Fb");
    }
}
