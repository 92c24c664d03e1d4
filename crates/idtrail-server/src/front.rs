//! Answers requests, whatever they came over.
//!
//! Posting one event, and asking whose one interaction is, is most of the work of this server. These two routes are
//! taken out before the router: no routing table, no boxed bodies, no layers. They behave exactly as the same routes
//! inside the router do, and everything else goes there. A panic in a handler is answered 500 and the connection lives on.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use tower::ServiceExt as _;
use tracing::Instrument as _;

use crate::api::{self, AppState, events, identity};
use crate::metrics::Metrics;
use crate::problem::{self, Problem, REQUEST_ID_HEADER};

/// Answers requests.
pub(crate) struct Front {
    state: AppState,
    router: Router,
}

/// The routes that are answered before the router.
#[derive(Clone, Copy)]
enum Busy {
    Ingest,
    Resolve,
}

/// An answer of either way.
pub(crate) type Answer = Response<Either<Full<Bytes>, Body>>;

impl Front {
    /// Returns what answers every route of the interface.
    pub(crate) fn new(state: AppState) -> Self {
        Self { router: api::router(state.clone()), state }
    }

    /// Returns what is counted and measured.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        self.state.metrics()
    }

    /// Answers one request.
    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<axum::BoxError>,
    {
        if request.method() == Method::POST {
            match request.uri().path() {
                events::PATH => return self.busy(request, Busy::Ingest).await,
                identity::PATH => return self.busy(request, Busy::Resolve).await,
                _ => {}
            }
        }
        match self.router.clone().oneshot(request.map(Body::new)).await {
            Ok(response) => response.map(Either::Right),
        }
    }

    async fn busy<B>(&self, request: Request<B>, route: Busy) -> Answer
    where
        B: HttpBody<Data = Bytes> + Unpin,
        B::Error: Into<axum::BoxError>,
    {
        let envelope = self.state.envelope();
        let id = envelope.ids.next();
        let (parts, body) = request.into_parts();
        let taking = async {
            match route {
                Busy::Ingest => events::ingest(&self.state, &parts.headers, body).await,
                Busy::Resolve => identity::ask(&self.state, &parts.headers, body).await,
            }
        };
        let taking = AssertUnwindSafe(taking).catch_unwind();
        let taken = match parts.headers.get("traceparent").and_then(problem::trace_id) {
            None => taking.await,
            Some(trace_id) => {
                let span = tracing::info_span!("request", request_id = id.as_str(), trace_id);
                taking.instrument(span).await
            }
        };
        let mut response = match taken.unwrap_or_else(|_| Err(Problem::internal())) {
            Ok((status, json)) => {
                let mut response = json_of(status, json);
                if matches!(route, Busy::Resolve) {
                    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                }
                response
            }
            Err(problem) => {
                let mut response = Response::new(Body::empty());
                problem.render(&mut response, Some(id.as_str()));
                response.map(Either::Right)
            }
        };
        envelope.metrics.answered(response.status());
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(value) = HeaderValue::from_str(id.as_str()) {
            headers.insert(REQUEST_ID_HEADER, value);
        }
        response
    }
}

fn json_of(status: StatusCode, json: Bytes) -> Answer {
    let mut response = Response::new(Either::Left(Full::new(json)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
