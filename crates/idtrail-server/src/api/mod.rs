//! The HTTP interface, one module per group of routes.
//!
//! Handlers authenticate through the extractors of [`crate::auth`] and then ask for a role; nothing else decides who
//! may do what. What a handler says of an error is a problem document without any value from the request.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::FromRef;
use axum::middleware::from_fn_with_state;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Auth;
use crate::engine::Engine;
use crate::limits::Budgets;
use crate::openapi;
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
    ids: Arc<RequestIds>,
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
        let ids = Arc::new(RequestIds::new(&*engine.ports().entropy));
        Self(Arc::new(Shared { engine, auth, tokens, budgets, ids, body_bytes_max, request_timeout }))
    }

    /// Returns the open installation.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.0.engine
    }

    /// Returns the budgets of credentials.
    pub fn budgets(&self) -> &Budgets {
        &self.0.budgets
    }

    /// Returns what gives every request an id.
    pub fn request_ids(&self) -> &Arc<RequestIds> {
        &self.0.ids
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

/// Returns every route with its description. A route is registered here and nowhere else, so that the OpenAPI document
/// and the test of authorisation know it.
pub fn documented() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(events::post_event))
        .routes(routes!(dsar::audit_trail))
        .routes(routes!(oauth::token))
        .routes(routes!(tiles::checkpoint))
        .routes(routes!(tiles::tile))
        .routes(routes!(tiles::entries))
        .routes(routes!(shred::shred))
        .routes(routes!(shred::holds, shred::set_hold))
        .routes(routes!(shred::release_hold))
        .routes(routes!(shred::apply_retention))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(problem::page))
        .routes(routes!(openapi::openapi_json))
        .routes(routes!(openapi::page::docs))
        .routes(routes!(openapi::page::stylesheet))
}

/// Returns the whole interface.
pub fn router(state: AppState) -> Router {
    let ids = Arc::clone(state.request_ids());
    let (routes, _) = documented().split_for_parts();
    routes
        .fallback(problem::unknown_path)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(CatchPanicLayer::new())
        .layer(from_fn_with_state(ids, problem::envelope))
        .with_state(state)
}
