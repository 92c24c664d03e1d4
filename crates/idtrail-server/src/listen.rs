//! Accepts connections and speaks HTTP/1.1 on them.
//!
//! Posting one event is most of the work of this server, so that one route is taken out before the router: no
//! routing table, no boxed bodies, no layers. It behaves exactly as the same route inside the router does, and
//! everything else goes there. A panic in a handler is answered 500 and the connection lives on.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::api::{self, AppState, events};
use crate::problem::{Problem, REQUEST_ID_HEADER};

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests under way may take to end once the server is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long nothing is accepted after the operating system had no resources for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests.
pub(crate) struct Front {
    state: AppState,
    router: Router,
}

type Answer = Response<Either<Full<Bytes>, Body>>;

impl Front {
    /// Returns what answers every route of the interface.
    pub(crate) fn new(state: AppState) -> Self {
        Self { router: api::router(state.clone()), state }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if request.method() == Method::POST && request.uri().path() == events::PATH {
            return self.ingest(request).await;
        }
        match self.router.clone().oneshot(request.map(Body::new)).await {
            Ok(response) => response.map(Either::Right),
        }
    }

    async fn ingest(&self, request: Request<Incoming>) -> Answer {
        let id = self.state.request_ids().next();
        let (parts, body) = request.into_parts();
        let taking = AssertUnwindSafe(events::ingest(&self.state, &parts.headers, body));
        let mut response = match taking.catch_unwind().await.unwrap_or_else(|_| Err(Problem::internal())) {
            Ok((status, receipt)) => {
                let mut response = Response::new(Either::Left(Full::new(receipt)));
                *response.status_mut() = status;
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Err(problem) => {
                let mut response = Response::new(Body::empty());
                problem.render(&mut response, Some(id.as_str()));
                response.map(Either::Right)
            }
        };
        if let Ok(value) = HeaderValue::from_str(id.as_str()) {
            response.headers_mut().insert(REQUEST_ID_HEADER, value);
        }
        response
    }
}

/// Serves connections until `stop` is ready, then lets requests under way end.
pub(crate) async fn serve(listener: TcpListener, front: Arc<Front>, stop: impl Future<Output = ()>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connections = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !is_of_connection(&error) {
                    tracing::warn!(error = &error as &dyn std::error::Error, "no connection can be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        // An answer is one write; waiting for more to send would only delay it.
        let _ = stream.set_nodelay(true);
        let front = Arc::clone(&front);
        let service = service_fn(move |request| {
            let front = Arc::clone(&front);
            async move { Ok::<_, Infallible>(front.answer(request).await) }
        });
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                // The client went away, or did not speak HTTP; the error's text may quote what it sent.
                tracing::debug!(timeout = error.is_timeout(), parse = error.is_parse(), "connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, connections.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way when the server stopped");
    }
}

/// Tells whether only one connection failed, not the accepting of them.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
