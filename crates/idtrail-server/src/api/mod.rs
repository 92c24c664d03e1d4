//! The HTTP interface, one module per group of routes.
//!
//! Handlers authenticate through the extractors of [`crate::auth`] and then ask for a role; nothing else decides who
//! may do what. What a handler says of an error is a problem document without any value from the request.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::FromRef;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::{Auth, CallingSystem};
use crate::credentials::Role;
use crate::engine::Engine;
use crate::engine::rights::Rights;
use crate::limits::Budgets;
use crate::metrics::Metrics;
use crate::monitor::Monitor;
use crate::openapi;
use crate::problem::{self, Envelope, Problem, RequestIds};
use crate::sinks::Sinks;

pub mod access_log;
pub mod batch;
mod body;
pub mod customers;
pub mod disclosure;
pub mod dsar;
mod envelope;
pub mod events;
pub mod health;
mod identifiers;
pub mod identity;
mod intake;
pub mod logs;
pub mod oauth;
mod proof;
pub mod quarantine;
pub mod read;
pub mod resolve_batch;
pub mod rights;
pub mod rights_answers;
pub mod rights_reports;
pub mod rights_schedules;
pub mod ruleset;
pub mod shred;
pub mod sinks;
mod stating;
pub mod steward;
pub mod tiles;
pub mod timeline;

/// What all handlers share.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

struct Shared {
    engine: Arc<Engine>,
    auth: Arc<Auth>,
    tokens: Arc<oauth::TokenEndpoint>,
    monitor: Arc<Monitor>,
    sinks: Arc<Sinks>,
    rights: Arc<Rights>,
    packages: dsar::Kept,
    budgets: Budgets,
    envelope: Arc<Envelope>,
    body_bytes_max: usize,
    request_timeout: Duration,
}

impl AppState {
    /// Puts the parts together.
    pub fn new(
        engine: Arc<Engine>,
        auth: Arc<Auth>,
        monitor: Arc<Monitor>,
        sinks: Arc<Sinks>,
        rights: Arc<Rights>,
        budgets: Budgets,
        body_bytes_max: usize,
        request_timeout: Duration,
    ) -> Self {
        let tokens = Arc::new(oauth::TokenEndpoint::new(Arc::clone(&auth)));
        let envelope = Arc::new(Envelope {
            ids: RequestIds::new(&*engine.ports().entropy),
            metrics: Arc::clone(monitor.metrics()),
        });
        let shared = Shared {
            engine,
            auth,
            tokens,
            monitor,
            sinks,
            rights,
            packages: dsar::Kept::default(),
            budgets,
            envelope,
            body_bytes_max,
            request_timeout,
        };
        Self(Arc::new(shared))
    }

    /// Returns the open installation.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.0.engine
    }

    /// Returns what knows whether the server is well.
    pub fn monitor(&self) -> &Arc<Monitor> {
        &self.0.monitor
    }

    /// Returns the sinks.
    pub fn sinks(&self) -> &Arc<Sinks> {
        &self.0.sinks
    }

    /// Returns the requests of data subjects.
    pub fn rights(&self) -> &Arc<Rights> {
        &self.0.rights
    }

    /// Returns the evidence packages that can be fetched again.
    pub(crate) fn packages(&self) -> &dsar::Kept {
        &self.0.packages
    }

    /// Returns what is counted and measured.
    pub fn metrics(&self) -> &Arc<Metrics> {
        self.0.monitor.metrics()
    }

    /// Returns the budgets of credentials.
    pub fn budgets(&self) -> &Budgets {
        &self.0.budgets
    }

    /// Returns what gives every request an id and counts answers.
    pub fn envelope(&self) -> &Arc<Envelope> {
        &self.0.envelope
    }

    /// Returns the longest body of an event in bytes.
    pub fn body_bytes_max(&self) -> usize {
        self.0.body_bytes_max
    }

    /// Returns how long a request may take.
    pub fn request_timeout(&self) -> Duration {
        self.0.request_timeout
    }

    /// Goes on only if a calling system has one of the roles and its budget for reading is not used up.
    ///
    /// # Errors
    /// 403 or 429.
    pub(crate) fn admit_reader(&self, system: &CallingSystem, any_of: &[Role]) -> Result<(), Problem> {
        system.require(any_of)?;
        self.budgets().take_read(system.key_id())
    }

    /// Forgets credentials that were not seen lately. To be called every minute or so.
    /// May wait for the disk.
    pub fn sweep(&self) {
        self.0.budgets.sweep();
        self.0.tokens.sweep();
        let engine = self.engine();
        self.0.packages.sweep(engine.now_ms(), engine.lookup().epoch_in_log());
        match engine.quarantine().expire(engine.now_ms()) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "entries of the quarantine expired"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "entries of the quarantine that are over could not be destroyed");
            }
        }
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

/// Returns an answer that no cache keeps.
pub(crate) fn answer(status: StatusCode, value: &Value) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, value.to_string()).into_response()
}

/// Does what waits for the disk, off the threads that serve connections.
///
/// # Errors
/// As `work`; 500 if it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Problem::internal()))
}

/// Returns every route with its description. A route is registered here and nowhere else, so that the OpenAPI document
/// and the test of authorisation know it.
pub fn documented() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(events::post_event))
        .routes(routes!(batch::post_events))
        .routes(routes!(read::receipt))
        .routes(routes!(read::event))
        .routes(routes!(read::list))
        .routes(routes!(read::stream))
        .routes(routes!(read::interaction))
        .routes(routes!(quarantine::list))
        .routes(routes!(quarantine::entry))
        .routes(routes!(quarantine::replay))
        .routes(routes!(quarantine::discard))
        .routes(routes!(quarantine::balance))
        .routes(routes!(identity::resolve))
        .routes(routes!(resolve_batch::resolve_batch))
        .routes(routes!(identity::tokenize))
        .routes(routes!(identity::lookup))
        .routes(routes!(steward::assert))
        .routes(routes!(steward::merge))
        .routes(routes!(steward::split))
        .routes(routes!(steward::simulate))
        .routes(routes!(steward::quarantine))
        .routes(routes!(ruleset::show, ruleset::replace))
        .routes(routes!(ruleset::simulate))
        .routes(routes!(ruleset::proposals))
        .routes(routes!(ruleset::approve))
        .routes(routes!(customers::show))
        .routes(routes!(customers::explain))
        .routes(routes!(timeline::timeline))
        .routes(routes!(timeline::aliases))
        .routes(routes!(dsar::audit_trail))
        .routes(routes!(dsar::fetch_package))
        .routes(routes!(rights::list, rights::open))
        .routes(routes!(rights::show))
        .routes(routes!(rights::say))
        .routes(routes!(rights::certificate))
        .routes(routes!(rights_answers::draft, rights_answers::review))
        .routes(routes!(rights_answers::link))
        .routes(routes!(rights_answers::fetch))
        .routes(routes!(rights_reports::deadlines))
        .routes(routes!(rights_reports::figures))
        .routes(routes!(rights_reports::processing))
        .routes(routes!(rights_schedules::list, rights_schedules::add))
        .routes(routes!(rights_schedules::end))
        .routes(routes!(access_log::list))
        .routes(routes!(access_log::receipt))
        .routes(routes!(access_log::checkpoint))
        .routes(routes!(access_log::tile))
        .routes(routes!(access_log::entries))
        .routes(routes!(oauth::token))
        .routes(routes!(logs::list))
        .routes(routes!(logs::checkpoint))
        .routes(routes!(logs::tile))
        .routes(routes!(logs::entries))
        .routes(routes!(logs::access_checkpoint))
        .routes(routes!(logs::access_tile))
        .routes(routes!(logs::access_entries))
        .routes(routes!(tiles::checkpoint))
        .routes(routes!(tiles::tile))
        .routes(routes!(tiles::entries))
        .routes(routes!(shred::shred))
        .routes(routes!(shred::holds, shred::set_hold))
        .routes(routes!(shred::release_hold))
        .routes(routes!(shred::apply_retention))
        .routes(routes!(sinks::list, sinks::add))
        .routes(routes!(sinks::show, sinks::change, sinks::remove))
        .routes(routes!(sinks::dead_letters))
        .routes(routes!(sinks::preview, sinks::try_out))
        .routes(routes!(sinks::pause))
        .routes(routes!(sinks::resume))
        .routes(routes!(sinks::replay))
        .routes(routes!(health::healthz))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::statusz))
        .routes(routes!(health::metrics))
        .routes(routes!(problem::page))
        .routes(routes!(openapi::openapi_json))
        .routes(routes!(openapi::page::docs))
        .routes(routes!(openapi::page::stylesheet))
}

/// Returns the whole interface.
pub fn router(state: AppState) -> Router {
    let envelope = Arc::clone(state.envelope());
    let (routes, _) = documented().split_for_parts();
    routes
        .fallback(problem::unknown_path)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(CatchPanicLayer::new())
        .layer(from_fn_with_state(envelope, problem::envelope))
        .with_state(state)
}
