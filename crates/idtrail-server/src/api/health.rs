//! Whether the server is well: `/livez`, `/readyz`, `/statusz`, `/metrics`.
//!
//! The first two are for orchestrators and everybody may ask; the other two say more and need the role operator.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::json;

use super::AppState;
use crate::auth::Observer;
use crate::credentials::Role;
use crate::metrics::OPENMETRICS;
use crate::openapi::{self, schema};
use crate::problem::Problem;

/// Says whether the process lives
///
/// Answers as soon as the process takes requests; says nothing about the log. To restart a process that does not.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "operations",
    responses((status = 200, description = "It does.", body = schema::Alive)),
    security(())
)]
pub async fn livez() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

/// Says whether the process lives
///
/// The older name of `/livez`.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operations",
    responses((status = 200, description = "It does.", body = schema::Alive)),
    security(())
)]
pub async fn healthz() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

/// Says whether events may be acknowledged
///
/// Names every reason why not. Nothing behind the log (warehouses, witnesses) makes a server unready.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    responses(
        (status = 200, description = "They may.", body = schema::Readiness),
        (status = 503, description = "They may not: `reasons` says why.", body = schema::Readiness)
    ),
    security(())
)]
pub async fn readyz(State(state): State<AppState>) -> Response {
    let size = state.engine().reader().size().get();
    let reasons = state.monitor().reasons();
    let (code, status) = match reasons.is_empty() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let body = Json(json!({ "status": status, "reasons": reasons, "treeSize": size }));
    (code, [(CACHE_CONTROL, "no-store")], body).into_response()
}

/// Gives the state of the installation for people
///
/// Version, log, disk, clock, queue, and every reason why the server is not ready.
///
/// # Errors
/// 401, 403, 429 or 503.
#[utoipa::path(
    get,
    path = "/statusz",
    tag = "operations",
    responses((status = 200, description = "The state.", body = schema::Status), openapi::ReadProblems),
    security(("ApiKey" = []), ("Bearer" = [])),
    extensions((
        "x-idtrail-roles" = json!({
            "ApiKey": ["operator", "admin", "auditor"], "Bearer": ["operator", "admin", "auditor"]
        })
    ))
)]
pub async fn statusz(State(state): State<AppState>, observer: Observer) -> Result<Response, Problem> {
    observer.require(&[Role::Operator, Role::Admin, Role::Auditor])?;
    state.budgets().take_read(observer.id())?;
    let monitor = Arc::clone(state.monitor());
    // The file system is asked, which may take a while.
    let status =
        tokio::task::spawn_blocking(move || monitor.status()).await.map_err(|_| Problem::internal())?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(status)).into_response())
}

/// Gives counters and measurements
///
/// OpenMetrics text for Prometheus and its like. An API key may also stand in `Authorization: Bearer` here. No label
/// ever holds a customer, an interaction or a token.
///
/// # Errors
/// 401, 403, 429 or 503.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses(
        (status = 200, description = "The metrics.", body = String, content_type = "application/openmetrics-text"),
        openapi::ReadProblems
    ),
    security(("ApiKey" = []), ("Bearer" = [])),
    extensions((
        "x-idtrail-roles" = json!({ "ApiKey": ["operator", "admin"], "Bearer": ["operator", "admin"] })
    ))
)]
pub async fn metrics(State(state): State<AppState>, observer: Observer) -> Result<Response, Problem> {
    observer.require(&[Role::Operator, Role::Admin])?;
    state.budgets().take_read(observer.id())?;
    let text = state.metrics().encode_with(&state.sinks().figures()).map_err(|_| Problem::internal())?;
    Ok(([(CONTENT_TYPE, OPENMETRICS), (CACHE_CONTROL, "no-store")], text).into_response())
}
