//! The HTTP interface, one module per group of routes.
//!
//! Handlers authenticate through the extractors of [`crate::auth`] and then ask for a role; nothing else decides who
//! may do what. What a handler says of an error is a problem document without any value from the request.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::FromRef;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

use crate::auth::Auth;
use crate::engine::Engine;
use crate::limits::Budgets;
use crate::problem::{self, RequestIds};

mod body;
pub mod dsar;
pub mod events;
pub mod health;
pub mod oauth;
pub mod shred;
pub mod tiles;

/// What all handlers share.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

struct Shared {
    engine: Arc<Engine>,
    auth: Arc<Auth>,
    tokens: Arc<oauth::TokenEndpoint>,
    budgets: Budgets,
    body_bytes_max: usize,
    request_timeout: Duration,
}

impl AppState {
    /// Puts the parts together.
    pub fn new(
        engine: Arc<Engine>,
        auth: Arc<Auth>,
        budgets: Budgets,
        body_bytes_max: usize,
        request_timeout: Duration,
    ) -> Self {
        let tokens = Arc::new(oauth::TokenEndpoint::new(Arc::clone(&auth)));
        Self(Arc::new(Shared { engine, auth, tokens, budgets, body_bytes_max, request_timeout }))
    }

    /// Returns the open installation.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.0.engine
    }

    /// Returns the budgets of credentials.
    pub fn budgets(&self) -> &Budgets {
        &self.0.budgets
    }

    /// Returns the longest body of an event in bytes.
    pub fn body_bytes_max(&self) -> usize {
        self.0.body_bytes_max
    }

    /// Returns how long a request may take.
    pub fn request_timeout(&self) -> Duration {
        self.0.request_timeout
    }

    /// Forgets credentials that were not seen lately. To be called every minute or so.
    pub fn sweep(&self) {
        self.0.budgets.sweep();
        self.0.tokens.sweep();
    }
}

impl FromRef<AppState> for Arc<Auth> {
    fn from_ref(state: &AppState) -> Self {
        Arc::clone(&state.0.auth)
    }
}

impl FromRef<AppState> for Arc<oauth::TokenEndpoint> {
    fn from_ref(state: &AppState) -> Self {
        Arc::clone(&state.0.tokens)
    }
}

/// Returns the whole interface.
pub fn router(state: AppState) -> Router {
    let ids = Arc::new(RequestIds::new(&*state.engine().ports().entropy));
    Router::new()
        .route("/api/v1/events", post(events::post_event))
        .route("/api/v1/compliance/dsar/audit-trail", post(dsar::audit_trail))
        .route("/checkpoint", get(tiles::checkpoint))
        .route("/tile/{*path}", get(tiles::tile))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/problems/{code}", get(problem::page))
        .merge(oauth::routes::<AppState>())
        .merge(shred::routes())
        .fallback(problem::unknown_path)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(CatchPanicLayer::new())
        .layer(from_fn_with_state(ids, problem::envelope))
        .with_state(state)
}
