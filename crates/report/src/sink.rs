//! [`Sink`], a receiver of events, and [`deliver`], the loop that delivers the events of the outbox to a sink.

use std::sync::Arc;
use std::time::Duration;

use esker_state::{Event, State};
use esker_types::catch_panic_sync;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::Result;

/// The number of events that are sent at a time.
const BATCH_EVENTS: u32 = 100;

/// The pause between two reads of the outbox while it has no new event.
const IDLE_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A receiver of events.
pub trait Sink: Send + Sync {
    /// Returns the name of the sink, under which the state database stores its cursor: the number of the last event that the
    /// receiver has.
    fn name(&self) -> &str;

    /// Sends events, in order.
    ///
    /// Returns the number of events that the receiver certainly took, counted from the first, and the error that stopped the
    /// sending, if one did.
    ///
    /// # Errors
    ///
    /// A webhook returns [`Http`](crate::ReportError::Http) or [`EventRefused`](crate::ReportError::EventRefused). A Kafka topic
    /// returns [`Kafka`](crate::ReportError::Kafka) or [`KafkaTimeout`](crate::ReportError::KafkaTimeout).
    fn send<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, (usize, Result<()>)>;
}

/// Encodes an event for a sink; `None` if that panics. The event is skipped then, because it would block all later ones for ever.
pub(crate) fn encode_or_skip<T>(sink: &str, event: &Event, encode: impl FnOnce() -> T) -> Option<T> {
    catch_panic_sync(encode)
        .inspect_err(|panic| {
            tracing::error!(sink, event = event.id, %panic, "an event could not be encoded; it is skipped");
        })
        .ok()
}

/// Delivers new events to a sink, again and again, until `stopped` holds `true`.
///
/// After a failure it pauses for one second. The pause doubles with each further failure, up to one minute.
pub async fn deliver(state: State, sink: Arc<dyn Sink>, mut stopped: watch::Receiver<bool>) {
    let mut pause = IDLE_PAUSE;
    loop {
        match deliver_batch(&state, sink.as_ref()).await {
            // The outbox may hold more events: look again without a pause.
            Ok(n) if n > 0 => {
                pause = IDLE_PAUSE;
                if !*stopped.borrow() {
                    continue;
                }
            }
            Ok(_) => pause = IDLE_PAUSE,
            Err(error) => {
                pause = (pause * 2).min(LONGEST_PAUSE);
                tracing::warn!(sink = sink.name(), %error, retry_seconds = pause.as_secs_f64(), "events could not be delivered");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

/// Delivers one batch of events, and moves the cursor past those that the receiver took. Returns their number.
///
/// # Errors
///
/// Returns [`State`](crate::ReportError::State) if the outbox can't be read or the cursor can't be moved, else what
/// [`Sink::send`] returns.
async fn deliver_batch(state: &State, sink: &dyn Sink) -> Result<usize> {
    let cursor = state.outbox().sink_cursor(sink.name()).await?;
    let events = state.outbox().events_after(cursor, None, BATCH_EVENTS).await?;
    if events.is_empty() {
        return Ok(0);
    }
    let (taken, result) = sink.send(&events).await;
    if let Some(last) = taken.checked_sub(1).and_then(|i| events.get(i)) {
        state.outbox().advance_sink(sink.name(), last.id).await?;
    }
    result.map(|()| taken)
}
