//! `/healthz` and `/readyz`: whether the process lives, and whether it may acknowledge events.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use super::AppState;

/// Says that the process answers.
pub async fn healthz() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

/// Says whether events can be stored, and if not, why.
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
