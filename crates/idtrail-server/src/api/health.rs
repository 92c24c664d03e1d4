//! `/healthz` and `/readyz`: whether the process lives, and whether it may acknowledge events.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use super::AppState;
use crate::openapi::schema;

/// Says whether the process lives
///
/// Answers as soon as the process takes requests; says nothing about the log.
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
    let engine = state.engine();
    let size = engine.reader().size().get();
    if engine.log().is_running() {
        return Json(json!({ "status": "ready", "reasons": [], "treeSize": size })).into_response();
    }
    let reasons = ["the log has stopped after a failure: see the process' log, mend the cause, restart"];
    let body = Json(json!({ "status": "not ready", "reasons": reasons, "treeSize": size }));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}
