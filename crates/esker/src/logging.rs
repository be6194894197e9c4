use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;

use esker_types::Panicked;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

use crate::config::{LogConfig, LogFormat};
use crate::traces::Traces;
use crate::{Error, Result};

/// Sends logs to standard error, as text or as one JSON object a line, and spans to the collector, if there is one.
pub(crate) fn start(log: &LogConfig, traces: &Traces) -> Result<()> {
    let filter = EnvFilter::try_new(&log.level).map_err(|e| Error::Config(format!("log.level: {e}")))?;
    let spans = traces.tracer().map(|tracer| tracing_opentelemetry::layer().with_tracer(tracer).with_location(false));
    let registry = tracing_subscriber::registry().with(filter).with(spans);
    let layer = tracing_subscriber::fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => registry.with(layer).try_init(),
        // The span that a line belongs to is the last of its `spans`.
        LogFormat::Json => registry.with(layer.json().flatten_event(true).with_current_span(false)).try_init(),
    };
    started.map_err(|e| Error::Config(format!("log: {e}")))?;
    log_panics();
    Ok(())
}

/// A panic is a line of the log like any other, with its place, rather than lines that no collector can tell apart.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        let trace = Backtrace::capture();
        let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
        tracing::error!(place, thread, trace, why = Panicked::of(panic.payload()).0, "a panic");
    }));
}
