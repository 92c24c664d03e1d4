//! Every log of the installation for everybody: `/logs`, and checkpoint and tiles of each under `/logs/{number}/…`
//! (C2SP tlog-tiles; `…/logs/{number}` is the prefix that a client is given). `/checkpoint` and `/tile/…` are those of the
//! newest log and change with it; these stay, so that whoever mirrors or verifies an earlier log still finds it after a
//! restore.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use idtrail_log::OriginOrdinal;
use idtrail_log::reader::Reader;
use serde_json::{Value, json};

use super::{AppState, answer, tiles};
use crate::auth::CallingSystem;
use crate::credentials::Role;
use crate::engine::origins::View;
use crate::openapi::{self, schema};
use crate::problem::Problem;

/// Lists the logs
///
/// The logs of the installation with the keys that verify them. A restored backup starts the next one.
#[utoipa::path(
    get,
    path = "/logs",
    operation_id = "logs",
    tag = "log",
    responses(
        (status = 200, description = "The logs, oldest first.", body = schema::Logs),
        openapi::OpenProblems
    ),
    security(())
)]
pub async fn list(State(state): State<AppState>) -> Response {
    let engine = state.engine();
    let newest = engine.ordinal();
    let shown = |log: &View<'_>| {
        json!({
            "number": log.ordinal.0,
            "origin": log.name,
            "treeSize": log.reader.size().get(),
            "verifierKey": log.verifier.to_string(),
            "final": log.ordinal != newest,
        })
    };
    let logs: Vec<Value> = engine.line().logs().map(|log| shown(&log)).collect();
    let access_logs: Vec<Value> = engine.access().line().logs().map(|log| shown(&log)).collect();
    answer(StatusCode::OK, &json!({ "logs": logs, "accessLogs": access_logs }))
}

/// Gives the checkpoint of a log
///
/// Its newest signed tree head, as a signed note (C2SP tlog-checkpoint).
///
/// # Errors
/// 404 if there is no log of this number.
#[utoipa::path(
    get,
    path = "/logs/{number}/checkpoint",
    operation_id = "log_checkpoint",
    tag = "log",
    params(("number" = u32, Path, description = "Number of the log.", example = 0)),
    responses(
        (status = 200, description = "The signed tree head.", body = String, content_type = "text/plain"),
        openapi::OpenProblems
    ),
    security(())
)]
pub async fn checkpoint(
    State(state): State<AppState>,
    Path(number): Path<String>,
) -> Result<Response, Problem> {
    let log = events(&state, &number)?;
    Ok(tiles::checkpoint_of(&log))
}

/// Gives a hash tile of a log
///
/// A tile of its Merkle tree (C2SP tlog-tiles), such as `/logs/0/tile/0/000`.
///
/// # Errors
/// 404 for anything that the log's tree does not hold.
#[utoipa::path(
    get,
    path = "/logs/{number}/tile/{*path}",
    operation_id = "log_tile",
    tag = "log",
    params(
        ("number" = u32, Path, description = "Number of the log.", example = 0),
        ("path" = String, Path, description = "Level and index of the tile.", example = "0/000.p/2")
    ),
    responses(
        (status = 200, description = "The hashes.", body = Vec<u8>, content_type = "application/octet-stream"),
        openapi::OpenProblems
    ),
    security(())
)]
pub async fn tile(
    State(state): State<AppState>,
    Path((number, path)): Path<(String, String)>,
) -> Result<Response, Problem> {
    tiles::tile_of(&events(&state, &number)?, &path).await
}

/// Gives sealed entries of a log
///
/// Up to 256 sealed leaves (C2SP tlog-tiles), such as `/logs/0/tile/entries/000`.
///
/// # Errors
/// 401, 403 or 429; 404 for anything that the log's tree does not hold.
#[utoipa::path(
    get,
    path = "/logs/{number}/tile/entries/{*path}",
    operation_id = "log_entries",
    tag = "log",
    params(
        ("number" = u32, Path, description = "Number of the log.", example = 0),
        ("path" = String, Path, description = "Index of the bundle.", example = "000.p/2")
    ),
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
    Path((number, path)): Path<(String, String)>,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Auditor, Role::Mirror])?;
    tiles::entries_of(&events(&state, &number)?, &path).await
}

/// Gives the checkpoint of an access log
///
/// Its newest signed tree head, as a signed note (C2SP tlog-checkpoint).
///
/// # Errors
/// 404 if there is no log of this number.
#[utoipa::path(
    get,
    path = "/logs/{number}/access/checkpoint",
    operation_id = "access_log_checkpoint",
    tag = "log",
    params(("number" = u32, Path, description = "Number of the log.", example = 0)),
    responses(
        (status = 200, description = "The signed tree head.", body = String, content_type = "text/plain"),
        openapi::OpenProblems
    ),
    security(())
)]
pub async fn access_checkpoint(
    State(state): State<AppState>,
    Path(number): Path<String>,
) -> Result<Response, Problem> {
    let log = accesses(&state, &number)?;
    Ok(tiles::checkpoint_of(&log))
}

/// Gives a hash tile of an access log
///
/// A tile of its Merkle tree (C2SP tlog-tiles), such as `/logs/0/access/tile/0/000`.
///
/// # Errors
/// 404 for anything that the log's tree does not hold.
#[utoipa::path(
    get,
    path = "/logs/{number}/access/tile/{*path}",
    operation_id = "access_log_tile",
    tag = "log",
    params(
        ("number" = u32, Path, description = "Number of the log.", example = 0),
        ("path" = String, Path, description = "Level and index of the tile.", example = "0/000.p/2")
    ),
    responses(
        (status = 200, description = "The hashes.", body = Vec<u8>, content_type = "application/octet-stream"),
        openapi::OpenProblems
    ),
    security(())
)]
pub async fn access_tile(
    State(state): State<AppState>,
    Path((number, path)): Path<(String, String)>,
) -> Result<Response, Problem> {
    tiles::tile_of(&accesses(&state, &number)?, &path).await
}

/// Gives sealed entries of an access log
///
/// Up to 256 sealed leaves (C2SP tlog-tiles), such as `/logs/0/access/tile/entries/000`.
///
/// # Errors
/// 401, 403 or 429; 404 for anything that the log's tree does not hold.
#[utoipa::path(
    get,
    path = "/logs/{number}/access/tile/entries/{*path}",
    operation_id = "access_log_entries",
    tag = "log",
    params(
        ("number" = u32, Path, description = "Number of the log.", example = 0),
        ("path" = String, Path, description = "Index of the bundle.", example = "000.p/2")
    ),
    responses(
        (status = 200, description = "The entries.", body = Vec<u8>, content_type = "application/octet-stream"),
        openapi::ReadProblems
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["auditor", "mirror"] })))
)]
pub async fn access_entries(
    State(state): State<AppState>,
    system: CallingSystem,
    Path((number, path)): Path<(String, String)>,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Auditor, Role::Mirror])?;
    tiles::entries_of(&accesses(&state, &number)?, &path).await
}

fn events(state: &AppState, number: &str) -> Result<Arc<Reader>, Problem> {
    let found = state.engine().log_at(ordinal(number)?).map(|log| Arc::clone(log.reader));
    found.ok_or(nothing())
}

fn accesses(state: &AppState, number: &str) -> Result<Arc<Reader>, Problem> {
    let (ordinal, line) = (ordinal(number)?, state.engine().access().line());
    let found = line.logs().find(|log| log.ordinal == ordinal).map(|log| Arc::clone(log.reader));
    found.ok_or(nothing())
}

/// Reads a number in its only spelling.
fn ordinal(text: &str) -> Result<OriginOrdinal, Problem> {
    let number = text.parse::<u32>().ok().filter(|number| number.to_string() == text);
    number.map(OriginOrdinal).ok_or(nothing())
}

const fn nothing() -> Problem {
    Problem::not_found("there is no log of this number")
}
