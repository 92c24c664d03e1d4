//! `/api/v1/admin/…`: destroying keys, holds, retention. For administrators, who see no events here.
//!
//! Nothing here can be undone, so each order carries a confirmation that has to be typed and that says what will happen.
//! An order has a request id; the same request again is answered with its first outcome, so a client that lost the
//! answer asks again.

use std::future::Future;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use idtrail_event::ClassId;
use idtrail_index::retention;
use idtrail_index::shred::{ErrorKind, LEAVES_MAX, Order, Outcome, ShredError, Task};
use idtrail_log::{OriginOrdinal, Reference};
use idtrail_tlog::LogIndex;
use idtrail_vault::Sections;
use idtrail_verify::time_text;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{AppState, answer, body};
use crate::auth::CallingSystem;
use crate::credentials::Role;
use crate::engine::Engine;
use crate::engine::retention::{month_of_ms, month_text};
use crate::engine::shred::DeskError;
use crate::openapi::{self, schema};
use crate::problem::{FieldError, Problem};

/// A million indices of 13 digits.
const BODY_BYTES_MAX: usize = 16 << 20;
/// Held leaves that an answer names; it always says how many there are.
const NAMED_MAX: usize = 10_000;

/// Returns the answer to a repetition of an event that was erased: it was taken once, and is not taken again.
pub(crate) fn erased() -> Bytes {
    Bytes::from_static(b"{\"status\":\"erased\",\"erased\":true}")
}

/// Destroys the keys of leaves
///
/// The leaves of these log indices become unreadable for ever; every proof stays valid. Held leaves are left out and
/// named. The same request again is answered with its first outcome. With `staffOnly` only what says which member of staff
/// acted becomes unreadable; with `staff` that goes wherever the member of staff is named, in all logs.
///
/// # Errors
/// 400, 401, 403, 404, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/admin/shred",
    tag = "admin",
    request_body = schema::ShredRequest,
    responses(
        (status = 200, description = "What was destroyed.", body = schema::ShredOutcome),
        openapi::WriteProblems,
        openapi::NotFoundProblem,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["admin"] })))
)]
pub async fn shred(
    State(state): State<AppState>,
    system: CallingSystem,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let value = admin(&state, &system, &headers, body).await?;
    if let Some(staff) = value.get("staff") {
        return shred_staff(&state, &system, &value, staff).await;
    }
    let mut indices = indices(&value)?;
    indices.sort_unstable();
    indices.dedup();
    let (what, sections) = match value.get("staffOnly") {
        None | Some(Value::Bool(false)) => ("", Sections::Both),
        Some(Value::Bool(true)) => ("staff of ", Sections::Staff),
        Some(_) => return Err(wrong("/staffOnly", "it is not a truth value", "true or false")),
    };
    confirmed(&value, &format!("shred {what}{} {}", indices.len(), leaves(indices.len() as u64)))?;
    let leaves = places(&state, &value, indices)?;
    let order = order(&system, &value, Task::Erase { leaves, sections })?;
    carry_out(&state, order).await
}

/// Destroys what says that a member of staff acted, wherever it stands; a trial run counts only.
async fn shred_staff(
    state: &AppState,
    system: &CallingSystem,
    value: &Value,
    staff: &Value,
) -> Result<Response, Problem> {
    let staff = staff.as_str().filter(|staff| !staff.is_empty() && value.get("indices").is_none());
    let staff =
        staff.ok_or_else(|| wrong("/staff", "it is not a text, or there are indices too", "a staff id"))?;
    let (engine, staff) = (state.engine().clone(), staff.to_owned());
    let leaves = tokio::task::spawn_blocking(move || engine.leaves_of_staff(&staff));
    let leaves = leaves.await.map_err(|_| Problem::internal())?.map_err(|error| problem(&error.into()))?;
    let count = leaves.len();
    let is_trial = value.get("dryRun").and_then(Value::as_bool).unwrap_or(false);
    if count == 0 && !is_trial {
        // The same request again gets its first outcome; another one is told that there was nothing.
        let order = order(system, value, Task::Erase { leaves, sections: Sections::Staff })?;
        let receiver = state.engine().desk().order(order).map_err(|error| problem(&error))?;
        return match tokio::time::timeout(state.request_timeout(), receiver).await {
            Ok(Ok(Ok(outcome))) => Ok(answer(StatusCode::OK, &shown(state, &outcome))),
            Ok(Ok(Err(DeskError::Shred(ShredError::Order(_))))) => {
                Ok(answer(StatusCode::OK, &json!({ "shredded": 0, "leaves": 0 })))
            }
            Ok(Ok(Err(error))) => Err(problem(&error)),
            Ok(Err(_)) | Err(_) => Err(Problem::unavailable("ask again with the same requestId", 5)),
        };
    }
    if is_trial {
        return Ok(answer(StatusCode::OK, &json!({ "shredded": 0, "leaves": count })));
    }
    confirmed(value, &format!("shred staff of {count} {}", self::leaves(count as u64)))?;
    let order = order(system, value, Task::Erase { leaves, sections: Sections::Staff })?;
    carry_out(state, order).await
}

/// Lists the holds
///
/// # Errors
/// 401, 403 or 429.
#[utoipa::path(
    get,
    path = "/api/v1/admin/holds",
    tag = "admin",
    responses(
        (status = 200, description = "Every hold.", body = schema::Holds),
        openapi::ReadProblems
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["admin"] })))
)]
pub async fn holds(State(state): State<AppState>, system: CallingSystem) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Admin])?;
    let holds: Vec<Value> = state
        .engine()
        .desk()
        .holds()
        .into_iter()
        .map(|hold| {
            let named = hold.indices.get(..hold.indices.len().min(NAMED_MAX)).unwrap_or_default();
            json!({
                "holdId": hold.id,
                "origin": hold.origin,
                "setAt": time_text(hold.set_ms),
                "leaves": hold.indices.len(),
                "indices": named,
                "keptKeys": hold.kept_keys,
            })
        })
        .collect();
    Ok(answer(StatusCode::OK, &json!({ "holds": holds })))
}

/// Sets a hold
///
/// Held leaves are left out of every erasure and stay readable when their time has come.
///
/// # Errors
/// 400, 401, 403, 404, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/admin/holds",
    tag = "admin",
    request_body = schema::HoldRequest,
    responses(
        (status = 201, description = "The hold is set.", body = schema::HoldSet),
        openapi::WriteProblems,
        openapi::NotFoundProblem,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["admin"] })))
)]
pub async fn set_hold(
    State(state): State<AppState>,
    system: CallingSystem,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let value = admin(&state, &system, &headers, body).await?;
    let indices = indices(&value)?;
    let Some(id) = value.get("holdId").and_then(Value::as_str) else {
        return Err(wrong("/holdId", "it is missing or not a text", "1 to 64 visible ASCII characters"));
    };
    let count = indices.len();
    let leaves = places(&state, &value, indices)?;
    let receiver = state
        .engine()
        .desk()
        .hold(id.to_owned(), leaves, Some(system.name().to_owned()))
        .map_err(|error| problem(&error))?;
    wait(&state, receiver).await?;
    Ok(answer(StatusCode::CREATED, &json!({ "holdId": id, "leaves": count })))
}

/// Releases a hold
///
/// Leaves whose time has come in the meantime become unreadable.
///
/// # Errors
/// 400, 401, 403, 404, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/admin/holds/{id}/release",
    tag = "admin",
    params(("id" = String, Path, description = "Name of the hold.", example = "case-7")),
    request_body = schema::ReleaseRequest,
    responses(
        (status = 200, description = "What became unreadable.", body = schema::ShredOutcome),
        openapi::WriteProblems,
        openapi::NotFoundProblem,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["admin"] })))
)]
pub async fn release_hold(
    State(state): State<AppState>,
    Path(id): Path<String>,
    system: CallingSystem,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let value = admin(&state, &system, &headers, body).await?;
    confirmed(&value, &format!("release {id}"))?;
    let order = order(&system, &value, Task::Release { hold: id, leaves: Vec::new() })?;
    carry_out(&state, order).await
}

/// Lets every month expire whose time has come
///
/// # Errors
/// 400, 401, 403, 404, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/admin/retention/apply",
    tag = "admin",
    request_body = schema::ReleaseRequest,
    responses(
        (status = 200, description = "What became unreadable.", body = schema::ShredOutcome),
        openapi::WriteProblems,
        openapi::NotFoundProblem,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["admin"] })))
)]
pub async fn apply_retention(
    State(state): State<AppState>,
    system: CallingSystem,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let value = admin(&state, &system, &headers, body).await?;
    confirmed(&value, "apply retention")?;
    let engine = state.engine().clone();
    let present = month_of_ms(u64::try_from(engine.ports().clock.wall_ms()).unwrap_or(0));
    let due = tokio::task::spawn_blocking(move || {
        let logs = engine.logs();
        retention::due_in_all(logs.iter().map(|log| (&**log.reader, log.keyring)), present)
    });
    let due = due
        .await
        .map_err(|_| Problem::internal())?
        .map_err(|error| problem(&ShredError::from(error).into()))?;
    let periods: Vec<Value> = due
        .iter()
        .map(|(class, months)| {
            json!({
                "class": ClassId::new(*class).to_string(),
                "from": month_text(*months.start()),
                "to": month_text(*months.end()),
            })
        })
        .collect();
    if periods.is_empty() {
        return Ok(answer(StatusCode::OK, &json!({ "periods": periods, "shredded": 0 })));
    }
    let order = order(&system, &value, Task::Expire { periods: due })?;
    let outcome = outcome(&state, order).await?;
    let mut document = shown(&state, &outcome);
    if let Value::Object(members) = &mut document {
        members.insert("periods".to_owned(), json!(periods));
    }
    Ok(answer(StatusCode::OK, &document))
}

/// Checks who asks, and reads the body.
async fn admin(
    state: &AppState,
    system: &CallingSystem,
    headers: &HeaderMap,
    body: Body,
) -> Result<Value, Problem> {
    state.admit_reader(system, &[Role::Admin])?;
    body::json(headers, body, BODY_BYTES_MAX).await
}

fn order(system: &CallingSystem, value: &Value, task: Task) -> Result<Order, Problem> {
    match value.get("requestId").and_then(Value::as_str) {
        Some(id) => Ok(Order { request_id: id.to_owned(), actor: Some(system.name().to_owned()), task }),
        None => Err(wrong("/requestId", "it is missing or not a text", "1 to 64 visible ASCII characters")),
    }
}

fn indices(value: &Value) -> Result<Vec<u64>, Problem> {
    let list = value.get("indices").and_then(Value::as_array);
    let numbers = list.and_then(|list| list.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>());
    numbers.filter(|list| !list.is_empty() && list.len() <= LEAVES_MAX).ok_or_else(|| {
        wrong("/indices", "it is missing or not a list of log indices", "1 to 1,000,000 indices")
    })
}

/// Returns the leaves of the log that the body names, or of the one that is written to.
fn places(state: &AppState, value: &Value, indices: Vec<u64>) -> Result<Vec<Reference>, Problem> {
    let engine = state.engine();
    let origin = match value.get("origin") {
        None => engine.ordinal(),
        Some(name) => {
            let log = name.as_str().and_then(|name| engine.log_named(name));
            let log =
                log.ok_or_else(|| wrong("/origin", "it names no log of this installation", "see /logs"))?;
            log.ordinal
        }
    };
    Ok(indices.into_iter().map(|index| Reference { origin, index: LogIndex::new(index) }).collect())
}

/// Goes on only if the words are there that say what will happen. They are not repeated in the error, so that a client
/// cannot learn them from it and send them without a look.
fn confirmed(value: &Value, words: &str) -> Result<(), Problem> {
    if value.get("confirm").and_then(Value::as_str) == Some(words) {
        return Ok(());
    }
    let hint = "such as `shred 12 leaves`, `release case-7` or `apply retention`";
    Err(wrong("/confirm", "it does not say in words what will happen", hint))
}

fn wrong(pointer: &str, message: &'static str, hint: &'static str) -> Problem {
    Problem::invalid(vec![FieldError::new(pointer, "invalid", message, hint)])
}

fn leaves(count: u64) -> &'static str {
    if count == 1 { "leaf" } else { "leaves" }
}

async fn carry_out(state: &AppState, order: Order) -> Result<Response, Problem> {
    Ok(answer(StatusCode::OK, &shown(state, &outcome(state, order).await?)))
}

async fn outcome(state: &AppState, order: Order) -> Result<Outcome, Problem> {
    let receiver = state.engine().desk().order(order).map_err(|error| problem(&error))?;
    wait(state, receiver).await
}

fn shown(state: &AppState, outcome: &Outcome) -> Value {
    document(state.engine(), outcome)
}

/// Returns an outcome as the API and the command line show it.
pub(crate) fn document(engine: &Engine, outcome: &Outcome) -> Value {
    let named = |origin: OriginOrdinal| -> Vec<u64> {
        let of_log = outcome.held.iter().filter(|held| held.origin == origin);
        of_log.take(NAMED_MAX).map(|held| held.index.get()).collect()
    };
    let logs = engine.logs();
    let name = |origin| logs.iter().find(|log| log.ordinal == origin).map(|log| log.name);
    let elsewhere: Vec<Value> = logs
        .iter()
        .filter(|log| log.ordinal != engine.ordinal())
        .map(|log| (log.name, named(log.ordinal)))
        .filter(|(_, indices)| !indices.is_empty())
        .map(|(origin, indices)| json!({ "origin": origin, "indices": indices }))
        .collect();
    json!({
        "requestId": outcome.request_id,
        "shredded": outcome.shredded,
        "held": named(engine.ordinal()),
        "heldInEarlierLogs": elsewhere,
        "heldCount": outcome.held.len(),
        "alreadyGone": outcome.gone,
        "vaultEpoch": outcome.epoch,
        "leafIndex": outcome.leaf.map(|leaf| leaf.index.get()),
        "leafOrigin": outcome.leaf.and_then(|leaf| name(leaf.origin)),
        "repeated": outcome.repeated,
    })
}

fn wait<T>(
    state: &AppState,
    receiver: oneshot::Receiver<Result<T, DeskError>>,
) -> impl Future<Output = Result<T, Problem>> {
    let timeout = state.request_timeout();
    async move {
        tokio::time::timeout(timeout, receiver)
            .await
            .map_err(|_| Problem::unavailable("it takes longer; ask again with the same requestId", 5))?
            .map_err(|_| Problem::unavailable("the server is being stopped", 5))?
            .map_err(|error| problem(&error))
    }
}

fn problem(error: &DeskError) -> Problem {
    let error = match error {
        DeskError::Busy => return Problem::unavailable("too many orders are waiting", 5),
        DeskError::Closed => return Problem::unavailable("the server is being stopped", 5),
        DeskError::Shred(error) => error,
    };
    match error.kind() {
        ErrorKind::Invalid if matches!(error, ShredError::OwnLeaf(_)) => wrong(
            "/indices",
            "it names a leaf of the log's own",
            "those hold nothing of a person and must stay",
        ),
        ErrorKind::Invalid => wrong(
            "/requestId",
            "the order cannot be carried out as it is",
            "see the documentation of this route",
        ),
        ErrorKind::NotFound => Problem::not_found("there is no such leaf, hold, or readable event"),
        ErrorKind::Conflict => {
            Problem::conflict("something of this name is there already, or a leaf is held")
        }
        ErrorKind::Unavailable | ErrorKind::Damaged => Problem::unavailable(
            "the order is not finished; it is tried again by itself, and can be asked for with the same requestId",
            5,
        ),
    }
}
