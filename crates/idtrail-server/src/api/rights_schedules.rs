//! `/api/v1/rights/schedules`: requests for data that are opened again and again.
//!
//! Each one that is opened is a request like any other. A schedule is shown without whom it is about.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use idtrail_event::{time_ms, time_text};
use idtrail_rights::{Digest, Kind};
use serde_json::{Value, json};

use super::rights::{admit, code, invalid, member, named, optional, principal, problem, subjects};
use super::{AppState, answer, body};
use crate::auth::{CallingSystem, Person};
use crate::engine::rights::New;
use crate::engine::rights::opening::NewSchedule;
use crate::openapi;
use crate::problem::Problem;

const BODY_BYTES_MAX: usize = 64 * 1024;
const TOO_MANY: &str = "there are too many schedules; end some";
/// Longest period, days.
const EVERY_DAYS_MAX: u32 = 3_660;

/// Sets up a schedule
///
/// `kind` is ACCESS or PORTABILITY, `everyDays` the period (1 to 3,660), `evidence` the hash of what shows that the person
/// asked for it, `firstAt` and `until` are RFC 3339 times. The person is named as in a request.
///
/// # Errors
/// 400, 401, 403, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/rights/schedules",
    operation_id = "add_rights_schedule",
    tag = "rights",
    request_body(
        content = serde_json::Map<String, Value>,
        example = json!({
            "kind": "ACCESS", "everyDays": 90, "customerIdHash": "cust_hash_9f86d08",
            "evidence": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
        })
    ),
    responses(
        (status = 201, description = "The schedule, on disk.", body = serde_json::Map<String, Value>),
        openapi::WriteProblems,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn add(
    State(state): State<AppState>,
    system: CallingSystem,
    person: Person,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    admit(&state, &system, &person)?;
    let mut value = body::json(&headers, body, BODY_BYTES_MAX).await?;
    let subjects = subjects(&state, &mut value)?;
    let kind: Kind = member(&value, "kind")?;
    if !kind.is_reading() {
        return Err(invalid("/kind", "only ACCESS and PORTABILITY can be asked for again and again"));
    }
    if kind == Kind::Access && !state.rights().can_inform() {
        return Err(invalid("/kind", super::rights::NO_RECORDS));
    }
    let every_days: u32 = member(&value, "everyDays")?;
    if !(1..=EVERY_DAYS_MAX).contains(&every_days) {
        return Err(invalid("/everyDays", "it is not 1 to 3660"));
    }
    let now_ms = state.engine().now_ms();
    let first_ms = time(&value, "firstAt")?.unwrap_or(now_ms).max(now_ms);
    let until_ms = time(&value, "until")?;
    if until_ms.is_some_and(|until_ms| until_ms < first_ms) {
        return Err(invalid("/until", "it is over before the first request"));
    }
    let new = NewSchedule {
        of: New {
            kind,
            regime: optional(&value, "regime")?.unwrap_or_else(|| code("gdpr")),
            manner: code("schedule"),
            received_ms: first_ms,
            subjects,
            corrections: Vec::new(),
            by: Some(principal(&person)),
        },
        every_days,
        first_ms,
        until_ms,
        evidence: member::<Digest>(&value, "evidence")?,
    };
    let id = state.rights().schedule(new).await.map_err(problem)?;
    let id = id.ok_or_else(|| Problem::conflict(TOO_MANY))?;
    let made = listed(&state)?.into_iter().find(|one| one.get("scheduleId") == Some(&json!(id)));
    Ok(answer(StatusCode::CREATED, &made.unwrap_or_default()))
}

/// Lists the schedules
///
/// # Errors
/// 401, 403, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/rights/schedules",
    operation_id = "list_rights_schedules",
    tag = "rights",
    responses(
        (status = 200, description = "The schedules.", body = serde_json::Map<String, Value>),
        openapi::ReadProblems
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn list(
    State(state): State<AppState>,
    system: CallingSystem,
    person: Person,
) -> Result<Response, Problem> {
    admit(&state, &system, &person)?;
    Ok(answer(StatusCode::OK, &json!({ "schedules": listed(&state)? })))
}

/// Ends a schedule
///
/// Requests that it opened go on.
///
/// # Errors
/// 401, 403, 404, 429 or 503.
#[utoipa::path(
    delete,
    path = "/api/v1/rights/schedules/{id}",
    operation_id = "end_rights_schedule",
    tag = "rights",
    params(("id" = String, Path, description = "Id of the schedule.", example = "sch_aaaaaaaaaaaaaaaaaaaaaaaaaa")),
    responses(
        (status = 204, description = "It has ended."),
        openapi::ReadProblems,
        openapi::NotFoundProblem
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn end(
    State(state): State<AppState>,
    Path(id): Path<String>,
    system: CallingSystem,
    person: Person,
) -> Result<Response, Problem> {
    admit(&state, &system, &person)?;
    match state.rights().end_schedule(named(&id)?, Some(principal(&person))).await.map_err(problem)? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Problem::not_found("there is no such schedule")),
    }
}

fn listed(state: &AppState) -> Result<Vec<Value>, Problem> {
    let all = state.rights().schedules().map_err(problem)?;
    let shown = all.into_iter().map(|(id, one)| {
        json!({
            "scheduleId": id, "kind": one.kind, "regime": one.regime, "everyDays": one.every_days,
            "nextAt": time_text(one.next_ms), "until": one.until_ms.map(time_text), "opened": one.opened,
            "evidence": one.evidence, "by": one.by,
        })
    });
    Ok(shown.collect())
}

fn time(value: &Value, name: &str) -> Result<Option<u64>, Problem> {
    let Some(text) = optional::<String>(value, name)? else { return Ok(None) };
    let read = time_ms(&text).and_then(|ms| u64::try_from(ms).ok());
    read.map(Some).ok_or_else(|| invalid(&format!("/{name}"), "it is not an RFC 3339 time"))
}
