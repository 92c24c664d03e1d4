//! `/api/v1/sinks`: the state of the sinks for operators, what may be done about them, and sinks added without a restart.
//!
//! Operators see how far a sink is and what failed, never an event. Which systems get events at all is a setting and
//! needs the role admin; see [`crate::sinks::policy`] for what such a sink may reach. Sinks of the configuration file are
//! shown here and are changed only there.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use idtrail_connect::Position;
use idtrail_connect::engine::{Command, DeadLetter};
use idtrail_connect::settings::SinkSettings;
use idtrail_verify::time_text;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{AppState, answer, blocking, body};
use crate::auth::CallingSystem;
use crate::credentials::Role;
use crate::openapi::{self, schema};
use crate::problem::{FieldError, Problem};
use crate::settings::{SinkWrong, check_sink, read_sink, sink_wrong};
use crate::sinks::{Proposed, SinksError, place};

/// Longest settings of a sink.
const SETTINGS_BYTES_MAX: usize = 256 * 1024;
/// Longest list of places.
const REPLAY_BYTES_MAX: usize = 1024 * 1024;
const PAGE_MAX: usize = 1000;
const PREVIEW_MAX: u64 = 500;

/// Lists the sinks
///
/// # Errors
/// 401, 403 or 429.
#[utoipa::path(
    get,
    path = "/api/v1/sinks",
    operation_id = "list_sinks",
    tag = "sinks",
    responses((status = 200, description = "Every sink, by name.", body = schema::Sinks), openapi::ReadProblems),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["operator", "admin"] })))
)]
pub async fn list(State(state): State<AppState>, system: CallingSystem) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Operator, Role::Admin])?;
    Ok(answer(StatusCode::OK, &json!({ "sinks": state.sinks().statuses() })))
}

/// Shows one sink
///
/// With its settings; secrets are references.
///
/// # Errors
/// 401, 403, 404 or 429.
#[utoipa::path(
    get,
    path = "/api/v1/sinks/{name}",
    operation_id = "show_sink",
    tag = "sinks",
    params(("name" = String, Path, description = "Name of the sink.", example = "warehouse")),
    responses((status = 200, description = "The sink.", body = schema::Sink), openapi::ReadProblems),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["operator", "admin"] })))
)]
pub async fn show(
    State(state): State<AppState>,
    system: CallingSystem,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Operator, Role::Admin])?;
    shown(&state, StatusCode::OK, &name)
}

/// Adds a sink
///
/// It starts at the first entry of the log, is there after a restart too, and needs none. The settings are those of the
/// configuration file, with `name`. A `files` target writes below `export` in the data directory; a webhook reaches public
/// addresses only; a database must be listed in `sink_api.hosts`; secrets are `{"env": "IDTRAIL_SINK_…"}` or `{"file": "…"}`
/// in the directory `sink-secrets`.
///
/// # Errors
/// 400, 401, 403, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/sinks",
    operation_id = "add_sink",
    tag = "sinks",
    request_body = schema::SinkConfig,
    responses(
        (status = 201, description = "The sink is there.", body = schema::Sink),
        openapi::WriteProblems,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["admin"] })))
)]
pub async fn add(
    State(state): State<AppState>,
    system: CallingSystem,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Admin])?;
    let value = body::json(&headers, body, SETTINGS_BYTES_MAX).await?;
    let settings = settings(&state, value)?;
    let name = settings.name.clone();
    state.sinks().add(settings).await.map_err(|error| problem(&error))?;
    tracing::info!(sink = name, by = system.name(), "sink added");
    shown(&state, StatusCode::CREATED, &name)
}

/// Changes a sink
///
/// It goes on where it stands: a new table is filled by a replay from `0/0`. Only sinks that were added over the API can be
/// changed.
///
/// # Errors
/// 400, 401, 403, 404, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    put,
    path = "/api/v1/sinks/{name}",
    operation_id = "change_sink",
    tag = "sinks",
    params(("name" = String, Path, description = "Name of the sink.", example = "warehouse")),
    request_body = schema::SinkConfig,
    responses(
        (status = 200, description = "The sink is changed.", body = schema::Sink),
        openapi::WriteProblems,
        openapi::NotFoundProblem,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["admin"] })))
)]
pub async fn change(
    State(state): State<AppState>,
    system: CallingSystem,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Admin])?;
    let mut value = body::json(&headers, body, SETTINGS_BYTES_MAX).await?;
    if let Value::Object(members) = &mut value {
        let given = members.entry("name").or_insert_with(|| json!(name));
        if *given != json!(name) {
            return Err(wrong("/name", "it is another name than that of the address", "leave it out"));
        }
    }
    let settings = settings(&state, value)?;
    state.sinks().change(settings).await.map_err(|error| problem(&error))?;
    tracing::info!(sink = name, by = system.name(), "sink changed");
    shown(&state, StatusCode::OK, &name)
}

/// Removes a sink
///
/// With its cursor and its dead letters; what it delivered stays where it is. Only sinks that were added over the API can be
/// removed.
///
/// # Errors
/// 401, 403, 404, 409, 429 or 503.
#[utoipa::path(
    delete,
    path = "/api/v1/sinks/{name}",
    operation_id = "remove_sink",
    tag = "sinks",
    params(("name" = String, Path, description = "Name of the sink.", example = "warehouse")),
    responses(
        (status = 204, description = "It is removed."),
        openapi::ReadProblems,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["admin"] })))
)]
pub async fn remove(
    State(state): State<AppState>,
    system: CallingSystem,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Admin])?;
    state.sinks().remove(&name).await.map_err(|error| problem(&error))?;
    tracing::info!(sink = name, by = system.name(), "sink removed");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What part of the list is wanted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// The `next` of the page before.
    #[param(max_length = 40, nullable = false)]
    after: Option<String>,
    /// Most dead letters of this page.
    #[param(minimum = 1, maximum = 1000, default = 100, nullable = false)]
    limit: Option<usize>,
}

/// Lists a sink's dead letters
///
/// Events that the target or the mapping refused: where they stand, why, how often they were tried; never a value of an
/// event nor the text of an answer.
///
/// # Errors
/// 400, 401, 403, 404, 409 or 429.
#[utoipa::path(
    get,
    path = "/api/v1/sinks/{name}/dead-letters",
    operation_id = "list_dead_letters",
    tag = "sinks",
    params(("name" = String, Path, description = "Name of the sink.", example = "warehouse"), Page),
    responses(
        (status = 200, description = "A page of dead letters.", body = schema::DeadLetters),
        openapi::RequestProblem,
        openapi::ReadProblems,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["operator", "admin"] })))
)]
pub async fn dead_letters(
    State(state): State<AppState>,
    system: CallingSystem,
    Path(name): Path<String>,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Operator, Role::Admin])?;
    let Query(page) = page?;
    let misunderstood = || Problem::malformed_request("the query is not understood: after or limit is wrong");
    let after: Option<Position> =
        page.after.as_deref().map(str::parse).transpose().map_err(|_| misunderstood())?;
    let limit = page.limit.unwrap_or(100);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(misunderstood());
    }
    let all = state.sinks().dead_letters(&name).map_err(|error| problem(&error))?;
    let start = after.map_or(0, |after| all.partition_point(|letter| letter.at <= after));
    let found: Vec<&DeadLetter> = all.iter().skip(start).take(limit).collect();
    let next = found.last().filter(|_| start + found.len() < all.len()).map(|letter| place(letter.at));
    let letters: Vec<Value> = found.into_iter().map(letter).collect();
    Ok(answer(StatusCode::OK, &json!({ "deadLetters": letters, "total": all.len(), "next": next })))
}

/// How much of the log is to be tried.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// How many of the newest entries.
    #[param(minimum = 1, maximum = 500, default = 10, nullable = false)]
    count: Option<u64>,
}

/// Shows what the newest events become
///
/// Under the sink's filter and mapping, without sending anything. The rows are shown to the role dpo only: they hold what
/// the events hold.
///
/// # Errors
/// 400, 401, 403, 404, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/sinks/{name}/preview",
    operation_id = "preview_sink",
    tag = "sinks",
    params(("name" = String, Path, description = "Name of the sink.", example = "warehouse"), Count),
    responses(
        (status = 200, description = "Columns and entries.", body = schema::SinkPreview),
        openapi::RequestProblem,
        openapi::ReadProblems
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["operator", "admin", "dpo"] })))
)]
pub async fn preview(
    State(state): State<AppState>,
    system: CallingSystem,
    Path(name): Path<String>,
    count: Result<Query<Count>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Operator, Role::Admin, Role::Dpo])?;
    let Query(count) = count?;
    let count = count.count.unwrap_or(10);
    if !(1..=PREVIEW_MAX).contains(&count) {
        return Err(Problem::malformed_request("the query is not understood: count is 1 to 500"));
    }
    let with_rows = system.roles().contains(Role::Dpo);
    let sinks = Arc::clone(state.sinks());
    let shown = blocking(move || sinks.preview(&name, count, with_rows).map_err(|error| problem(&error)));
    Ok(answer(StatusCode::OK, &shown.await?))
}

/// Shows what the newest events would become
///
/// Under another filter or mapping, without changing or sending anything. `pii` and `erase` are the sink's: they decide what
/// may go out. The rows are shown to the role dpo only.
///
/// # Errors
/// 400, 401, 403, 404, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/sinks/{name}/preview",
    operation_id = "try_sink",
    tag = "sinks",
    params(("name" = String, Path, description = "Name of the sink.", example = "warehouse"), Count),
    request_body = schema::SinkProposal,
    responses(
        (status = 200, description = "Columns and entries.", body = schema::SinkPreview),
        openapi::WriteProblems,
        openapi::NotFoundProblem
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["operator", "admin", "dpo"] })))
)]
pub async fn try_out(
    State(state): State<AppState>,
    system: CallingSystem,
    Path(name): Path<String>,
    count: Result<Query<Count>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Operator, Role::Admin, Role::Dpo])?;
    let Query(count) = count?;
    let count = count.count.unwrap_or(10);
    if !(1..=PREVIEW_MAX).contains(&count) {
        return Err(Problem::malformed_request("the query is not understood: count is 1 to 500"));
    }
    let value = body::json(&headers, body, SETTINGS_BYTES_MAX).await?;
    let proposed: Proposed = serde_json::from_value(value).map_err(|_| {
        wrong("", "it is not a proposal", "give `filter`, a text, or `mapping`, a list of texts, or both")
    })?;
    let with_rows = system.roles().contains(Role::Dpo);
    let sinks = Arc::clone(state.sinks());
    let shown = blocking(move || {
        let filter = proposed.filter.clone().unwrap_or_default();
        sinks.preview_of(&name, proposed, count, with_rows).map_err(|error| match error {
            SinksError::Settings(error) => bad(sink_wrong(&error, &filter)),
            error => problem(&error),
        })
    });
    Ok(answer(StatusCode::OK, &shown.await?))
}

/// Pauses a sink
///
/// The answer comes when the pause is on disk.
///
/// # Errors
/// 401, 403, 404, 409, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/sinks/{name}/pause",
    operation_id = "pause_sink",
    tag = "sinks",
    params(("name" = String, Path, description = "Name of the sink.", example = "warehouse")),
    responses(
        (status = 200, description = "It is paused.", body = schema::Sink),
        openapi::ReadProblems,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["operator"] })))
)]
pub async fn pause(
    State(state): State<AppState>,
    system: CallingSystem,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Operator])?;
    command(&state, &name, Command::Pause).await
}

/// Lets a sink go on
///
/// Also at once after failures, and starts a sink that could not be started.
///
/// # Errors
/// 401, 403, 404, 409, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/sinks/{name}/resume",
    operation_id = "resume_sink",
    tag = "sinks",
    params(("name" = String, Path, description = "Name of the sink.", example = "warehouse")),
    responses(
        (status = 200, description = "It goes on.", body = schema::Sink),
        openapi::ReadProblems,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["operator"] })))
)]
pub async fn resume(
    State(state): State<AppState>,
    system: CallingSystem,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Operator])?;
    command(&state, &name, Command::Resume).await
}

/// Sends events again
///
/// `{"from": "0/0"}`: everything from this place on; rows that the target has are left alone. `{"deadLetters": "all"}` or a
/// list of places: dead letters.
///
/// # Errors
/// 400, 401, 403, 404, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/sinks/{name}/replay",
    operation_id = "replay_sink",
    tag = "sinks",
    params(("name" = String, Path, description = "Name of the sink.", example = "warehouse")),
    request_body = schema::SinkReplay,
    responses(
        (status = 200, description = "They are sent.", body = schema::Sink),
        openapi::WriteProblems,
        openapi::NotFoundProblem,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["operator"] })))
)]
pub async fn replay(
    State(state): State<AppState>,
    system: CallingSystem,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Operator])?;
    let value = body::json(&headers, body, REPLAY_BYTES_MAX).await?;
    let at = |value: &Value| value.as_str().and_then(|text| text.parse::<Position>().ok());
    let hint = "write origin/index, such as 0/1200";
    let order = match (value.get("from"), value.get("deadLetters")) {
        (Some(from), None) => {
            let from = at(from).ok_or_else(|| wrong("/from", "it is not a place", hint))?;
            Command::ReplayFrom(from)
        }
        (None, Some(Value::String(all))) if all == "all" => {
            let all = state.sinks().dead_letters(&name).map_err(|error| problem(&error))?;
            Command::ReplayDead(all.iter().map(|letter| letter.at).collect())
        }
        (None, Some(Value::Array(list))) => {
            let list: Option<Vec<Position>> = list.iter().map(at).collect();
            Command::ReplayDead(
                list.ok_or_else(|| wrong("/deadLetters", "it holds what is not a place", hint))?,
            )
        }
        _ => {
            return Err(wrong(
                "",
                "it names neither a place nor dead letters",
                "give `from` or `deadLetters`",
            ));
        }
    };
    command(&state, &name, order).await
}

async fn command(state: &AppState, name: &str, command: Command) -> Result<Response, Problem> {
    // Waits for the disk: a disk that refuses must not hold the request for ever.
    tokio::time::timeout(state.request_timeout(), state.sinks().command(name, command))
        .await
        .map_err(|_| {
            Problem::unavailable("the sink's memory could not be written in time; look at its state", 5)
        })?
        .map_err(|error| problem(&error))?;
    shown(state, StatusCode::OK, name)
}

fn shown(state: &AppState, status: StatusCode, name: &str) -> Result<Response, Problem> {
    let shown = state.sinks().status(name).map_err(|error| problem(&error))?;
    Ok(answer(status, &shown))
}

/// Reads and checks the settings of a sink that comes over the API.
fn settings(state: &AppState, mut value: Value) -> Result<SinkSettings, Problem> {
    if let Some(target) = value.get_mut("target") {
        state
            .sinks()
            .confine(target)
            .map_err(|refused| wrong(refused.pointer, refused.message, refused.hint))?;
    }
    if let Some(rights) = value.get_mut("rights") {
        let placed = state.sinks().confine_eraser(rights);
        placed.map_err(|refused| wrong(refused.pointer, refused.message, refused.hint))?;
    }
    let settings = read_sink(value).map_err(bad)?;
    check_sink(&settings).map_err(bad)?;
    Ok(settings)
}

fn bad(wrong: SinkWrong) -> Problem {
    Problem::invalid(vec![FieldError {
        pointer: format!("/{}", wrong.key.replace('.', "/")),
        code: "invalid".into(),
        message: wrong.problem.into(),
        hint: None,
    }])
}

fn wrong(pointer: &str, message: &'static str, hint: &'static str) -> Problem {
    Problem::invalid(vec![FieldError::new(pointer, "invalid", message, hint)])
}

fn letter(letter: &DeadLetter) -> Value {
    json!({
        "at": place(letter.at),
        "code": letter.code,
        "column": letter.column,
        "attempts": letter.attempts,
        "status": letter.status,
        "since": u64::try_from(letter.since_ms).map(time_text).unwrap_or_default(),
    })
}

fn problem(error: &SinksError) -> Problem {
    match error {
        SinksError::NotFound => Problem::not_found("there is no such sink"),
        SinksError::Exists => Problem::conflict("a sink of this name is there already"),
        SinksError::ReadOnly => {
            Problem::conflict("this sink stands in the configuration file and can be changed only there")
        }
        SinksError::SamePlace => {
            Problem::conflict("another sink writes there; each needs a place of its own")
        }
        SinksError::TooMany => Problem::conflict("there are as many sinks as there may be"),
        SinksError::NotRunning => {
            Problem::conflict("this sink is not running: `problem` of its state says why")
                .with_hint("resume it")
        }
        SinksError::NotKeyed => Problem::conflict(
            "the target does not recognise rows that it has, so older rows cannot be sent again",
        ),
        SinksError::Settings(error) => Problem::invalid(vec![FieldError {
            pointer: "/target".to_owned(),
            code: "invalid".into(),
            message: error.to_string().into(),
            hint: None,
        }]),
        SinksError::Registry(_) | SinksError::Store(_) | SinksError::Feed(_) | SinksError::Io { .. } => {
            tracing::error!(error = error as &dyn std::error::Error, "a sink cannot be changed or read");
            Problem::unavailable("the disk refuses; the process' log says more", 5)
        }
        SinksError::Ended => Problem::unavailable("the server is being stopped", 5),
    }
}
