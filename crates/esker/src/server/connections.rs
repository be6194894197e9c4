//! [`serve_port`]: serves the connections of a port, and ends those of clients that are too slow.
//!
//! A client gets a time for the headers of a request, and another one for its body and for each pause in reading an answer.
//! Clients keep connections for the next request, so one may wait for it, for a long time. On a connection over HTTP/2, the
//! server asks now and then whether the client is still there, and resets the streams that nobody reads.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use axum::serve::Listener as _;
use bytes::Bytes;
use esker_auth::Connection;
use futures::StreamExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, timeout_at};
use tower::Service;

use super::PortListener;
use super::tls::PortStream;
use super::unread::{StreamExecutor, watched};

/// The number of bytes of a body for which a client gets a second more. So a long body that makes progress is not cut off.
const BYTES_PER_SECOND: u64 = 64 << 10;

/// The beginning of a connection over HTTP/2. Before it is complete, nothing asks whether the client is still there.
///
/// Spec: RFC 9113, section 3.4.
const HTTP2: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientLimits {
    /// The time for the headers of a request, and to answer a question over HTTP/2.
    pub(crate) header: Duration,
    /// The time for the body of a request, and for each pause in reading an answer.
    pub(crate) body: Duration,
    /// The time without a request after which a connection is closed; `None`: never.
    pub(crate) idle: Option<Duration>,
    /// The maximum size of the headers of a request over HTTP/2, in bytes. Each counts 32 bytes more than it has.
    pub(crate) header_list_bytes: u32,
}

/// Serves connections until the server stops; then waits for the requests at work.
pub(crate) async fn serve_port(mut listener: PortListener, router: Router, limits: ClientLimits, stopped: watch::Receiver<bool>) {
    let mut stop = pin!(until_stopped(stopped.clone()));
    // Closed once no connection has a receiver any more.
    let (all_ended, open) = watch::channel(());
    loop {
        let (stream, connection) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.as_mut() => break,
        };
        // Without it, small answers in several packets wait for the client's delayed acknowledgement: about 40 ms a query.
        if let Err(error) = stream.socket().set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let (router, stopped, open) = (router.clone(), stopped.clone(), open.clone());
        tokio::spawn(async move {
            serve_connection(stream, connection, router, limits, stopped).await;
            drop(open);
        });
    }
    drop((listener, open));
    all_ended.closed().await;
}

/// Waits until the server stops.
async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender was dropped, which counts as a stop.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Waits until a connection has had no request for a time. It returns after at most twice that time.
///
/// An answer may still be sent then: a graceful end of the connection waits for it.
async fn until_idle(activity: Arc<Activity>, time: Option<Duration>) {
    let Some(time) = time else { return std::future::pending().await };
    loop {
        let before = activity.requests();
        sleep(time).await;
        if before == activity.requests() && before.1 == 0 {
            return;
        }
    }
}

/// Serves a connection until it ends. Once the server stops, or nobody uses the connection, it ends with the requests at work.
async fn serve_connection(
    stream: PortStream,
    connection: Connection,
    router: Router,
    limits: ClientLimits,
    stopped: watch::Receiver<bool>,
) {
    let activity = Arc::new(Activity::default());
    let mut idle = pin!(until_idle(activity.clone(), limits.idle));
    let io = TokioIo::new(TimedStream::new(stream, limits, activity.clone()));
    let service = TowerToHyperService::new(ConnectionService { router, connection, activity, body_time: limits.body });
    let mut builder = Builder::new(StreamExecutor { time: limits.body });
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(limits.header).keep_alive_timeout(limits.header);
    builder.http2().max_header_list_size(limits.header_list_bytes);
    let mut served = pin!(builder.serve_connection_with_upgrades(io, service));
    let mut stop = pin!(until_stopped(stopped));
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            () = stop.as_mut(), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
            () = idle.as_mut(), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

/// What the requests of a connection do.
#[derive(Debug, Default)]
struct Activity {
    /// The number of requests whose headers are complete.
    begun: AtomicU64,
    /// The number of requests that are not answered yet.
    at_work: AtomicU64,
}

impl Activity {
    /// Returns the number of requests that have begun, and of those that are not answered yet.
    fn requests(&self) -> (u64, u64) {
        (self.begun.load(Ordering::Acquire), self.at_work.load(Ordering::Acquire))
    }
}

/// A request at work, for as long as the value lives.
struct AtWork(Arc<Activity>);

impl AtWork {
    /// Counts a request.
    fn begin(activity: Arc<Activity>) -> Self {
        activity.at_work.fetch_add(1, Ordering::AcqRel);
        activity.begun.fetch_add(1, Ordering::AcqRel);
        Self(activity)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The service of one connection.
#[derive(Clone)]
struct ConnectionService {
    router: Router,
    connection: Connection,
    activity: Arc<Activity>,
    body_time: Duration,
}

impl<B> Service<axum::http::Request<B>> for ConnectionService
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: axum::http::Request<B>) -> Self::Future {
        let at_work = AtWork::begin(self.activity.clone());
        let body_time = self.body_time;
        let mut request: Request = request.map(|body| limited_in_time(Body::new(body), body_time));
        request.extensions_mut().insert(ConnectInfo(self.connection.clone()));
        let answer = Service::<Request>::call(&mut self.router, request);
        Box::pin(async move {
            let answer = answer.await;
            drop(at_work);
            answer.map(|response| response.map(watched))
        })
    }
}

/// Returns a body that ends with an error if it is not complete after a time, and a second for each [`BYTES_PER_SECOND`] of it.
fn limited_in_time(body: Body, time: Duration) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let deadline = Instant::now() + time;
    let chunks = futures::stream::unfold(Some((body.into_data_stream(), deadline)), |rest| async move {
        let (mut chunks, deadline) = rest?;
        match timeout_at(deadline, chunks.next()).await {
            Ok(Some(Ok(chunk))) => {
                let more = Duration::from_millis(chunk.len() as u64 * 1000 / BYTES_PER_SECOND);
                Some((Ok(chunk), Some((chunks, deadline + more))))
            }
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(_) => Some((Err(axum::Error::new(too_slow("the body took longer than limits.body_seconds"))), None)),
        }
    });
    Body::from_stream(chunks)
}

/// Makes the error of a client that is too slow.
fn too_slow(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// A connection that fails if its client is too slow.
struct TimedStream {
    stream: PortStream,
    limits: ClientLimits,
    activity: Arc<Activity>,
    /// The first bytes that were read, as many as [`HTTP2`] has.
    first: Vec<u8>,
    /// The time at which the headers that have begun must be complete, and the number of requests when they began.
    headers: Option<(Pin<Box<Sleep>>, u64)>,
    /// The time at which the client must have read something.
    unread: Option<Pin<Box<Sleep>>>,
}

impl TimedStream {
    /// Times a new connection, whose first headers begin now.
    fn new(stream: PortStream, limits: ClientLimits, activity: Arc<Activity>) -> Self {
        let headers = Some((Box::pin(sleep(limits.header)), 0));
        Self { stream, limits, activity, first: Vec::new(), headers, unread: None }
    }

    /// Notes what was read.
    fn note_read(&mut self, bytes: &[u8]) {
        let missing = HTTP2.len() - self.first.len();
        self.first.extend_from_slice(&bytes[..missing.min(bytes.len())]);
        let begun = self.activity.begun.load(Ordering::Acquire);
        if self.first == HTTP2 {
            // HTTP/2 has a way of its own to find clients that are gone.
            self.headers = None;
        } else if self.headers.is_none() && self.activity.at_work.load(Ordering::Acquire) == 0 {
            self.headers = Some((Box::pin(sleep(self.limits.header)), begun));
        }
    }

    /// Checks whether the client took too long for the headers that it has begun.
    fn poll_headers(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((end, _)) = &mut self.headers else { return Poll::Pending };
        match end.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(too_slow("the headers took longer than limits.header_seconds"))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Passes the outcome of a write on, unless the client has read nothing for too long.
    fn checked<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.unread = None;
            return written;
        }
        let time = self.limits.body;
        let end = self.unread.get_or_insert_with(|| Box::pin(sleep(time)));
        match end.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(too_slow("the client has read nothing for limits.body_seconds"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let begun = this.activity.begun.load(Ordering::Acquire);
        // Headers that were complete since are no longer timed.
        this.headers.take_if(|(_, before)| *before != begun);
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Pending => this.poll_headers(context),
            ready => {
                this.note_read(&buffer.filled()[before..]);
                ready
            }
        }
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.checked(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.checked(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        this.checked(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.stream).poll_shutdown(context);
        this.checked(context, shut)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn a_body_that_does_not_end_is_an_error_and_others_pass() {
        let long = Duration::from_secs(3600);
        assert_eq!(to_bytes(limited_in_time(Body::from("whole"), long), 100).await.expect("read"), "whole");
        assert!(limited_in_time(Body::empty(), long).is_end_stream());
        let first = futures::stream::iter([Ok::<_, Infallible>("begun")]);
        let endless = Body::from_stream(first.chain(futures::stream::pending()));
        let error = to_bytes(limited_in_time(endless, Duration::from_millis(1)), 100).await.expect_err("too slow");
        assert!(esker_types::with_causes(&error).contains("limits.body_seconds"), "{error}");
    }

    #[tokio::test]
    async fn a_body_that_makes_progress_may_take_longer() {
        let first = futures::stream::iter([Ok::<_, Infallible>(vec![b'x'; 16 << 20])]);
        let second = futures::stream::once(async {
            sleep(Duration::from_millis(20)).await;
            Ok(b"end".to_vec())
        });
        let body = limited_in_time(Body::from_stream(first.chain(second)), Duration::from_millis(1));
        assert_eq!(to_bytes(body, usize::MAX).await.expect("16 MiB are worth 256 seconds").len(), (16 << 20) + 3);
    }
}
