//! The log for everybody: `/checkpoint`, `/tile/…` (C2SP tlog-tiles), and the sealed entries for auditors and mirrors.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use idtrail_log::LogError;
use idtrail_log::reader::Reader;
use idtrail_tlog::{BundleId, TileId};

use super::AppState;
use crate::auth::CallingSystem;
use crate::credentials::Role;
use crate::openapi;
use crate::problem::Problem;

/// Gives the checkpoint
///
/// The newest signed tree head, as a signed note (C2SP tlog-checkpoint).
#[utoipa::path(
    get,
    path = "/checkpoint",
    tag = "log",
    responses(
        (status = 200, description = "The signed tree head.", body = String, content_type = "text/plain"),
        openapi::OpenProblems
    ),
    security(())
)]
pub async fn checkpoint(State(state): State<AppState>) -> Response {
    checkpoint_of(state.engine().reader())
}

/// Gives a hash tile
///
/// A tile of the Merkle tree (C2SP tlog-tiles), such as `/tile/0/000` or `/tile/0/001.p/47`.
///
/// # Errors
/// 404 for anything that the newest tree does not hold.
#[utoipa::path(
    get,
    path = "/tile/{*path}",
    tag = "log",
    params(("path" = String, Path, description = "Level and index of the tile.", example = "0/000")),
    responses(
        (status = 200, description = "The hashes.", body = Vec<u8>, content_type = "application/octet-stream"),
        openapi::OpenProblems
    ),
    security(())
)]
pub async fn tile(State(state): State<AppState>, Path(path): Path<String>) -> Result<Response, Problem> {
    tile_of(state.engine().reader(), &path).await
}

/// Gives sealed entries
///
/// Up to 256 sealed leaves (C2SP tlog-tiles), such as `/tile/entries/000`.
///
/// # Errors
/// 401, 403 or 429; 404 for anything that the newest tree does not hold.
#[utoipa::path(
    get,
    path = "/tile/entries/{*path}",
    tag = "log",
    params(("path" = String, Path, description = "Index of the bundle.", example = "000.p/2")),
    responses(
        (status = 200, description = "The entries.", body = Vec<u8>, content_type = "application/octet-stream"),
        openapi::ReadProblems
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["auditor", "mirror"] })))
)]
pub async fn entries(
    State(state): State<AppState>,
    system: CallingSystem,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Auditor, Role::Mirror])?;
    entries_of(state.engine().reader(), &path).await
}

/// Answers a log's newest signed tree head.
pub(crate) fn checkpoint_of(log: &Reader) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-cache")];
    (headers, log.head().checkpoint.to_string()).into_response()
}

/// Answers a hash tile of a log; `path` is what stands behind `tile/`.
pub(crate) async fn tile_of(log: &Arc<Reader>, path: &str) -> Result<Response, Problem> {
    let id = TileId::parse(&format!("tile/{path}")).map_err(|_| nothing())?;
    let log = Arc::clone(log);
    answer(move || log.tile(id)).await
}

/// Answers a bundle of a log's entries; `path` is what stands behind `tile/entries/`.
pub(crate) async fn entries_of(log: &Arc<Reader>, path: &str) -> Result<Response, Problem> {
    let id = BundleId::parse(&format!("tile/entries/{path}")).map_err(|_| nothing())?;
    let log = Arc::clone(log);
    answer(move || log.bundle(id)).await
}

const fn nothing() -> Problem {
    Problem::not_found("the newest tree holds no such tile")
}

async fn answer(
    read: impl FnOnce() -> Result<Option<Vec<u8>>, LogError> + Send + 'static,
) -> Result<Response, Problem> {
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
