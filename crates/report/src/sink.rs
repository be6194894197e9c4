use std::sync::Arc;
use std::time::Duration;

use esker_state::{Event, State};
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::Result;

/// Events handed over at a time.
const BATCH: u32 = 100;

/// How often the out-box is looked at when nothing is in it.
const IDLE: Duration = Duration::from_millis(500);

/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Something that takes events.
pub trait Sink: Send + Sync {
    /// Its name, under which its cursor is kept.
    fn name(&self) -> &str;

    /// Hands events over, in order. Returns how many of them, from the first on, were taken for certain, with the error
    /// that stopped it.
    fn send<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, (usize, Result<()>)>;
}

/// Delivers until told to stop.
pub async fn deliver(state: State, sink: Arc<dyn Sink>, mut stopped: watch::Receiver<bool>) {
    let mut pause = IDLE;
    loop {
        match deliver_some(&state, sink.as_ref()).await {
            // There may be more.
            Ok(n) if n > 0 => {
                pause = IDLE;
                if !*stopped.borrow() {
                    continue;
                }
            }
            Ok(_) => pause = IDLE,
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

async fn deliver_some(state: &State, sink: &dyn Sink) -> Result<usize> {
    let cursor = state.sink_cursor(sink.name()).await?;
    let events = state.events_after(cursor, None, BATCH).await?;
    if events.is_empty() {
        return Ok(0);
    }
    let (taken, result) = sink.send(&events).await;
    if let Some(last) = taken.checked_sub(1).and_then(|i| events.get(i)) {
        state.advance_sink(sink.name(), last.id).await?;
    }
    result.map(|()| taken)
}
