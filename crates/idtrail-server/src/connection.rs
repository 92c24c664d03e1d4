//! From a listening socket to the router: connections with bounds.
//!
//! Every connection costs memory and a place, so each step has an end: the TLS handshake, the head of a request (and
//! the wait for it on an idle connection), the body. A client that sends a byte now and then gets no further than one
//! that sends nothing. When the server is stopped, no new connection is accepted, idle ones are closed, and requests
//! under way get a last while.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;

use crate::front::{Answer, Front};
use crate::settings::HttpSettings;
use crate::tls::Certificate;

/// Requests at the same time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// Pause after the operating system could not accept a connection, for instance because there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves connections until `stop` is ready, then ends those that are open.
pub(crate) async fn serve(
    listener: TcpListener,
    certificate: Option<Arc<Certificate>>,
    front: Arc<Front>,
    settings: HttpSettings,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(settings.connections_max));
    let graceful = GracefulShutdown::new();
    // Which protocol is spoken is never guessed from the first bytes: a client that sends none would be waited for.
    let (http1, http2) =
        (Arc::new(builder(&settings).http1_only()), Arc::new(builder(&settings).http2_only()));
    let body_timeout = Duration::from_millis(settings.body_timeout_ms);
    let first_timeout = Duration::from_millis(settings.header_timeout_ms);
    let mut open = tokio::task::JoinSet::new();
    tokio::pin!(stop);
    loop {
        // Ended tasks are taken out, so that the set holds only what is open.
        while open.try_join_next().is_some() {}
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = &mut stop => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (Ok(place), Ok((stream, _))) = (place, stream) else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Answers are small and waited for.
        let _ = stream.set_nodelay(true);
        let (http1, http2) = (Arc::clone(&http1), Arc::clone(&http2));
        let (front, watcher) = (Arc::clone(&front), graceful.watcher());
        let certificate = certificate.clone();
        open.spawn(async move {
            front.metrics().connections.inc();
            let asked = Arc::new(AtomicBool::new(false));
            let service = {
                let (asked, front) = (Arc::clone(&asked), Arc::clone(&front));
                hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    asked.store(true, Ordering::Release);
                    let front = Arc::clone(&front);
                    async move {
                        let request = request.map(|body| Timed::new(body, body_timeout));
                        Ok::<_, std::convert::Infallible>(front.answer(request).await)
                    }
                })
            };
            let served = async {
                let Some(certificate) = certificate else {
                    return run(&http1, stream, service, watcher).await;
                };
                // What does not speak TLS gets nothing.
                let Ok(stream) = TlsAcceptor::from(certificate.config()).accept(stream).await else { return };
                let chosen = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                run(if chosen { &http2 } else { &http1 }, stream, service, watcher).await;
            };
            // The timers of the protocol begin with its first bytes; until a first request came, this one counts.
            let never_asked = async {
                tokio::time::sleep(first_timeout).await;
                if asked.load(Ordering::Acquire) {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = served => {}
                () = never_asked => {}
            }
            front.metrics().connections.dec();
            drop(place);
        });
    }
    drop(listener);
    let drain = Duration::from_millis(settings.drain_timeout_ms);
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = open.len(), "connections were cut off: requests took too long to end");
    }
    open.shutdown().await;
}

fn builder(settings: &HttpSettings) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    let header_timeout = Duration::from_millis(settings.header_timeout_ms);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(settings.header_bytes_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(settings.header_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(Some(header_timeout))
        .keep_alive_timeout(header_timeout);
    builder
}

async fn run<I, S>(
    builder: &Builder<TokioExecutor>,
    stream: I,
    service: S,
    watcher: hyper_util::server::graceful::Watcher,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: hyper::service::Service<
            hyper::Request<hyper::body::Incoming>,
            Response = Answer,
            Error = std::convert::Infallible,
            Future: Send,
        > + Send
        + 'static,
{
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    // A connection that breaks off says nothing new: the client sees it, and the log is not for its mistakes.
    let _ = watcher.watch(connection.into_owned()).await;
}

/// A body that has to be complete in time. The clock is looked at only when the body makes its reader wait, so a body
/// that came with its head costs nothing.
struct Timed<B> {
    body: B,
    within: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// The body of a request did not arrive in time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("body did not arrive in time")]
pub struct BodyTimeout;

/// Tells whether a body could not be read because it did not arrive in time.
pub fn is_body_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(one) = cause {
        if one.is::<BodyTimeout>() {
            return true;
        }
        cause = one.source();
    }
    false
}

impl<B> Timed<B> {
    const fn new(body: B, within: Duration) -> Self {
        Self { body, within, deadline: None }
    }
}

impl<B> HttpBody for Timed<B>
where
    B: HttpBody<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Unpin,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(frame) = polled {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let within = self.within;
        let deadline =
            self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + within)));
        match deadline.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(BodyTimeout.into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
