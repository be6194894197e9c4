//! Logs to standard error and spans to a collector, through one `tracing` subscriber.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;

use esker_types::Panicked;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

use crate::config::{LogConfig, LogFormat};
use crate::traces::Traces;
use crate::{Error, Result};

/// Starts logging: logs go to standard error, spans to the collector, if there is one.
///
/// A log line is text or one JSON object, as `log.format` has it. A process can call this once.
///
/// # Errors
///
/// Returns [`Config`](Error::Config) if `log.level` can't be parsed, or if logging was started already.
pub(crate) fn start(log: &LogConfig, traces: &Traces) -> Result<()> {
    let filter = EnvFilter::try_new(&log.level).map_err(|e| Error::Config(format!("log.level: {e}")))?;
    let spans = traces.tracer().map(|tracer| tracing_opentelemetry::layer().with_tracer(tracer).with_location(false));
    let registry = tracing_subscriber::registry().with(filter).with(spans);
    let layer = tracing_subscriber::fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => registry.with(layer).try_init(),
        // The last element of `spans` is the line's own span, so `span` would repeat it.
        LogFormat::Json => registry.with(layer.json().flatten_event(true).with_current_span(false)).try_init(),
    };
    started.map_err(|e| Error::Config(format!("log: {e}")))?;
    log_panics();
    Ok(())
}

/// Logs each panic as one line with the place in the source, where the default hook would print several lines.
///
/// A log collector can't tell which of several lines belong together.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        let trace = Backtrace::capture();
        let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
        tracing::error!(place, thread, trace, why = Panicked::of(panic.payload()).0, "a thread panicked");
    }));
}
