//! Streams of HTTP/2 whose clients read nothing: they are reset.
//!
//! Over HTTP/2, a client that reads nothing of one answer holds up no other one, so its connection does not tell. hyper runs each
//! stream in a task of its own. [`StreamExecutor`] starts these tasks, and ends one whose client has not asked for the next part of
//! the answer in time; h2 then resets the stream. Over HTTP/1.1 the connection itself tells, in `connections.rs`.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::{Instant, sleep};

/// The maximum size of a part of an answer, in bytes. A client has the time of a pause to read one.
const PART: usize = 256 << 10;

tokio::task_local! {
    /// What the client reads of the stream whose task runs.
    static READING: Reading;
}

/// What the client of a stream reads: the time at which it got a part of the answer, if it has not asked for the next one.
#[derive(Debug, Clone, Default)]
struct Reading(Arc<Mutex<Option<Instant>>>);

impl Reading {
    /// Notes that the client got a part, or with `None` that it asks for the next one.
    fn note(&self, got: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = got;
    }

    /// Returns the time since which the client has not asked for the next part.
    fn unasked_since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the streams of a connection over HTTP/2, each in a task of its own that ends once its client has read nothing for too long.
#[derive(Debug, Clone)]
pub(super) struct StreamExecutor {
    /// The time for each pause in reading.
    pub(super) time: Duration,
}

impl<F: Future + Send + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        tokio::spawn(timed(stream, self.time));
    }
}

/// Runs a stream to its end, or until its client has not asked for the next part of the answer for `time`.
async fn timed(stream: impl Future, time: Duration) {
    let reading = Reading::default();
    let mut stream = pin!(READING.scope(reading.clone(), stream));
    let mut end = pin!(sleep(time));
    poll_fn(|context| {
        if stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let Some(since) = reading.unasked_since() else { return Poll::Pending };
        if end.deadline() != since + time {
            end.as_mut().reset(since + time);
        }
        let ended = end.as_mut().poll(context);
        if ended.is_ready() {
            tracing::debug!("a stream was reset: its client has read nothing for limits.body_seconds");
        }
        ended
    })
    .await;
}

/// Lets the task of a stream know what its client reads of an answer. Over HTTP/1.1, the answer is returned as it is.
pub(super) fn watched(body: Body) -> Body {
    match READING.try_get() {
        Ok(reading) if !body.is_end_stream() => Body::new(WatchedBody { body, rest: Bytes::new(), reading }),
        _ => body,
    }
}

/// A body in parts, whose reading is noted.
struct WatchedBody {
    body: Body,
    /// The part of the last frame that the client has not got yet.
    rest: Bytes,
    reading: Reading,
}

/// Takes the next part of a frame. Its last byte is a part of its own.
///
/// hyper hands a part on as soon as the client has room for one byte, and forgets the stream with the last part. So it waits for the
/// room of all other bytes before it hands on the last one.
fn next_part(rest: &mut Bytes) -> Bytes {
    let length = rest.len();
    rest.split_to(if length > 1 { PART.min(length - 1) } else { length })
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        this.reading.note(None);
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let part = next_part(&mut this.rest);
        this.reading.note(Some(Instant::now()));
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::to_bytes;
    use futures::StreamExt;

    use super::*;

    /// Runs a stream whose client asks for `asked` parts of an answer and then for nothing more, or for all of it.
    async fn read(body: Body, asked: Option<usize>, time: Duration) -> Vec<usize> {
        let (send, mut got) = tokio::sync::mpsc::unbounded_channel();
        let stream = async move {
            let mut parts = watched(body).into_data_stream();
            let mut left = asked.unwrap_or(usize::MAX);
            while left > 0 {
                let Some(part) = parts.next().await else { return };
                // The receiver outlives the stream.
                let _sent = send.send(part.expect("a part").len());
                left -= 1;
            }
            futures::future::pending().await
        };
        timed(stream, time).await;
        let mut sizes = Vec::new();
        while let Ok(size) = got.try_recv() {
            sizes.push(size);
        }
        sizes
    }

    #[tokio::test]
    async fn a_stream_whose_client_reads_nothing_more_ends_and_drops_its_answer() {
        let alive = Arc::new(());
        let (seen, held) = (Arc::downgrade(&alive), alive);
        let parts = futures::stream::iter([Ok::<_, Infallible>("ab"), Ok("c")]).map(move |part| {
            let _kept = &held;
            part
        });
        assert_eq!(read(Body::from_stream(parts), Some(1), Duration::from_millis(1)).await, [1]);
        assert!(seen.upgrade().is_none(), "the answer is gone with the stream");
    }

    #[tokio::test]
    async fn an_answer_is_read_in_parts_whose_last_byte_comes_alone() {
        let long = Duration::from_secs(3600);
        assert_eq!(read(Body::from(vec![b'x'; 2 * PART + 8]), None, long).await, [PART, PART, 7, 1]);
        assert_eq!(read(Body::from("x"), None, long).await, [1]);
        let two = futures::stream::iter([Ok::<_, Infallible>("ab"), Ok("cde")]);
        assert_eq!(read(Body::from_stream(two), None, long).await, [1, 1, 2, 1]);
        assert_eq!(read(Body::empty(), None, long).await, Vec::<usize>::new());
    }

    #[tokio::test]
    async fn an_answer_that_takes_its_time_is_waited_for() {
        let rows = futures::stream::once(async {
            sleep(Duration::from_millis(20)).await;
            Ok::<_, Infallible>("rows")
        });
        assert_eq!(read(Body::from_stream(rows), None, Duration::from_millis(1)).await, [3, 1]);
    }

    #[tokio::test]
    async fn the_size_and_the_content_of_an_answer_are_as_they_were() {
        let check = async {
            let mut body = watched(Body::from("whole"));
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(5), false));
            let first = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await.expect("a frame").expect("read");
            assert_eq!(first.into_data().expect("data"), "whol");
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(1), false));
            assert_eq!(to_bytes(body, 10).await.expect("read"), "e");
        };
        READING.scope(Reading::default(), check).await;
        assert_eq!(to_bytes(watched(Body::from("over HTTP/1.1")), 100).await.expect("read"), "over HTTP/1.1");
    }
}
