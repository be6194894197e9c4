//! [`WatchedBody`]: the rows of an answer, which are dropped if the client does not read them.
//!
//! Over HTTP/2, a client that reads nothing of one answer holds up no other one, so its connection does not tell. Without a watch, a
//! statement would keep its place and its memory for as long as the client likes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::connections::too_slow;

/// A body that ends with an error once its client has asked for nothing for too long.
struct WatchedBody {
    watched: Arc<Mutex<Watched>>,
    /// The task that looks after it, which ends with it.
    watch: AbortHandle,
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// What is watched.
struct Watched {
    /// The body; `None` once it has ended or was dropped.
    body: Option<Body>,
    /// The time at which the client got a part, if it has not asked for the next one.
    unasked_since: Option<Instant>,
    /// `true` if the body was dropped because its client did not read.
    dropped: bool,
}

/// Watches a body whose size is not known. One that is complete already is returned as it is.
pub(super) fn watched(body: Body, time: Duration) -> Body {
    if body.is_end_stream() || body.size_hint().exact().is_some() {
        return body;
    }
    let watched = Watched { body: Some(body), unasked_since: Some(Instant::now()), dropped: false };
    let shared = Arc::new(Mutex::new(watched));
    let watch = tokio::spawn(watch(Arc::downgrade(&shared), time)).abort_handle();
    Body::new(WatchedBody { watched: shared, watch })
}

/// Drops a body whose client has asked for nothing for `time`, at the latest after twice that.
async fn watch(watched: Weak<Mutex<Watched>>, time: Duration) {
    loop {
        sleep(time).await;
        let Some(watched) = watched.upgrade() else { return };
        let mut watched = lock(&watched);
        if watched.body.is_none() {
            return;
        }
        if watched.unasked_since.is_some_and(|since| since.elapsed() >= time) {
            tracing::debug!("an answer was dropped: its client has read nothing for limits.body_seconds");
            (watched.body, watched.dropped) = (None, true);
            return;
        }
    }
}

/// Locks what is watched.
fn lock(watched: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut watched = lock(&self.watched);
        watched.unasked_since = None;
        if watched.dropped {
            watched.dropped = false;
            let error = too_slow("the client has read nothing for limits.body_seconds");
            return Poll::Ready(Some(Err(axum::Error::new(error))));
        }
        let Some(body) = watched.body.as_mut() else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(context);
        match &frame {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(_))) => watched.unasked_since = Some(Instant::now()),
            Poll::Ready(None | Some(Err(_))) => watched.body = None,
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        let watched = lock(&self.watched);
        !watched.dropped && watched.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.watched).body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::to_bytes;
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn an_answer_that_nobody_reads_is_dropped_and_others_pass_whole() {
        let parts = || futures::stream::iter([Ok::<_, Infallible>("a"), Ok("b")]);
        let long = Duration::from_secs(3600);
        assert_eq!(to_bytes(watched(Body::from_stream(parts()), long), 100).await.expect("read"), "ab");
        assert_eq!(to_bytes(watched(Body::from("whole"), long), 100).await.expect("read"), "whole");

        let alive = Arc::new(());
        let (seen, held) = (Arc::downgrade(&alive), alive);
        let rows = parts().map(move |part| {
            let _kept = &held;
            part
        });
        let mut unread = watched(Body::from_stream(rows), Duration::from_millis(1)).into_data_stream();
        unread.next().await.expect("a part").expect("read");
        let began = std::time::Instant::now();
        while seen.upgrade().is_some() {
            assert!(began.elapsed() < Duration::from_secs(30), "the rows are still there");
            tokio::task::yield_now().await;
        }
        let error = unread.next().await.expect("the end is told").expect_err("it was dropped");
        assert!(esker_types::with_causes(&error).contains("limits.body_seconds"), "{error}");
    }
}
