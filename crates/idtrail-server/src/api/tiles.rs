//! The log for everybody: `/checkpoint`, `/tile/…` (C2SP tlog-tiles), and the sealed entries for auditors and mirrors.

use std::sync::Arc;

use axum::extract::{FromRef as _, Path, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use idtrail_tlog::{BundleId, TileId};

use super::AppState;
use crate::auth::Auth;
use crate::credentials::Role;
use crate::problem::Problem;

/// Gives the newest signed checkpoint.
pub async fn checkpoint(State(state): State<AppState>) -> Response {
    let head = state.engine().reader().head();
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-cache")];
    (headers, head.checkpoint.to_string()).into_response()
}

/// Gives a tile to everybody, an entry bundle to auditors and mirrors.
///
/// # Errors
/// 404 for anything that the newest tree does not hold; 401 or 403 for bundles.
pub async fn tile(
    State(state): State<AppState>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let nothing = || Problem::not_found("the newest tree holds no such tile");
    let path = format!("tile/{path}");
    let engine = Arc::clone(state.engine());
    let read: Box<dyn FnOnce() -> Result<Option<Vec<u8>>, idtrail_log::LogError> + Send> =
        if path.starts_with("tile/entries/") {
            let auth = Arc::<Auth>::from_ref(&state);
            let system = auth.calling_system(&headers)?;
            system.require(&[Role::Auditor, Role::Mirror])?;
            state.budgets().take_read(system.key_id())?;
            let id = BundleId::parse(&path).map_err(|_| nothing())?;
            Box::new(move || engine.reader().bundle(id))
        } else {
            let id = TileId::parse(&path).map_err(|_| nothing())?;
            Box::new(move || engine.reader().tile(id))
        };
    let bytes = tokio::task::spawn_blocking(read)
        .await
        .map_err(|_| Problem::internal())?
        .map_err(|_| Problem::unavailable("the tile could not be read", 1))?
        .ok_or_else(nothing)?;
    // A tile never changes: a partial one is a prefix of every later one.
    let headers =
        [(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, bytes).into_response())
}
