//! `/api/v1/quarantine`: events that were refused but are kept, and what may be done about them; `/api/v1/balance`.
//!
//! Operators see why an event was refused; what is left of the event itself is for data protection officers. An event is
//! replayed as its sender sent it, under the sender's name and id; where something was taken out of it, only a corrected
//! body can be replayed.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use idtrail_event::{GlobalCustomerId, LEAF_BYTES_MAX, check};
use idtrail_index::trail::{Command, Refusal};
use idtrail_log::commit::Answer;
use idtrail_verify::time_text;
use serde::Deserialize;
use serde_json::{Value, json};

use super::disclosure::{Reader, Route, disclose};
use super::{AppState, answer, blocking, body, events, intake};
use crate::auth::CallingSystem;
use crate::credentials::Role;
use crate::engine::Engine;
use crate::openapi::{self, schema};
use crate::problem::{FieldError, Problem};
use crate::quarantine::{Entry, QuarantineId, Reason, Summary};

const PAGE_MAX: usize = 1000;

/// What part of the list is wanted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// The `next` of the page before.
    #[param(max_length = 64, nullable = false)]
    after: Option<String>,
    /// Most entries of this page.
    #[param(minimum = 1, maximum = 1000, default = 100, nullable = false)]
    limit: Option<usize>,
}

/// Lists what is in the quarantine
///
/// Oldest first; without the events themselves. It tells that something of a customer was refused and when, so it is
/// recorded in the access log.
///
/// # Errors
/// 400, 401, 403, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/quarantine",
    operation_id = "list_quarantine",
    tag = "events",
    params(Page, openapi::Purpose),
    responses(
        (status = 200, description = "A page of entries.", body = schema::QuarantinePage),
        openapi::RequestProblem,
        openapi::ReadProblems
    ),
    security(("ApiKey" = []), ("ApiKey" = [], "Bearer" = [])),
    extensions(
        ("x-idtrail-roles" = json!({ "ApiKey": ["operator", "dpo"], "Bearer": ["any"] })),
        ("x-idtrail-discloses" = json!(true))
    )
)]
pub async fn list(
    State(state): State<AppState>,
    reader: Reader,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    reader.admit(&state, &[Role::Operator, Role::Dpo])?;
    let Query(page) = page?;
    let wrong = || Problem::malformed_request("the query is not understood: after or limit is wrong");
    let after = page.after.as_deref().map(|text| cursor(text).ok_or_else(wrong)).transpose()?;
    let limit = page.limit.unwrap_or(100);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(wrong());
    }
    let route = Route { operation: "list_quarantine", purpose: "CORRECTION" };
    let (found, total) = disclose(state.engine(), &reader, route, move |engine, shown| {
        let found = engine.quarantine().list(after, limit);
        shown.at(engine.origin(), engine.reader().size().get());
        for (id, summary) in &found {
            let owner = summary.customer.map(|key| engine.customer(&key)).transpose().map_err(|error| {
                tracing::error!(error = &error as &dyn std::error::Error, "the index cannot be read");
                Problem::unavailable("the index cannot be read", 5)
            })?;
            shown.quarantined(owner.flatten(), id.to_string());
        }
        Ok((found, engine.quarantine().len()))
    })
    .await?;
    let next = if found.len() == limit {
        found.last().map(|(id, summary)| format!("{}.{id}", summary.received_ms))
    } else {
        None
    };
    let entries: Vec<Value> = found.iter().map(|(id, summary)| shown(*id, summary)).collect();
    Ok(answer(StatusCode::OK, &json!({ "entries": entries, "total": total, "next": next })))
}

/// Shows one entry
///
/// With what is left of the event: values that may be raw personal data were replaced by their type and length.
///
/// # Errors
/// 401, 403, 404, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/quarantine/{id}",
    operation_id = "show_quarantined",
    tag = "events",
    params(openapi::Purpose, ("id" = String, Path, description = "Id of the entry.", example = "q_aaaaaaaaaaaaaaaaaaaaaaaaaa")),
    responses(
        (status = 200, description = "The entry.", body = schema::QuarantineEntry),
        openapi::RequestProblem,
        openapi::ReadProblems
    ),
    security(("ApiKey" = []), ("ApiKey" = [], "Bearer" = [])),
    extensions(
        ("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["any"] })),
        ("x-idtrail-discloses" = json!(true))
    )
)]
pub async fn entry(
    State(state): State<AppState>,
    reader: Reader,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    reader.admit(&state, &[Role::Dpo])?;
    let (id, entry) = find(&state, &id).await?;
    let route = Route { operation: "show_quarantined", purpose: "CORRECTION" };
    let entry = Arc::new(entry);
    let read = Arc::clone(&entry);
    disclose(state.engine(), &reader, route, move |engine, shown| {
        shown.at(engine.origin(), engine.reader().size().get());
        shown.quarantined(customer(engine, &read)?, id.to_string());
        Ok(())
    })
    .await?;
    let reasons = reasons(&entry.reasons);
    Ok(answer(
        StatusCode::OK,
        &json!({
            "id": id.to_string(),
            "receivedAt": time_text(entry.received_ms),
            "expiresAt": time_text(entry.expires_ms),
            "system": entry.system,
            "source": entry.source().to_string(),
            "reasons": reasons,
            "redacted": entry.redacted,
            "body": entry.body,
            "bodyBytes": entry.body_bytes,
            "bodyDigest": entry.body_digest,
        }),
    ))
}

/// Replays an entry
///
/// Without a body the event as it came, for instance after a change of the configuration; with a body the corrected
/// event. It goes into the log under its sender's name and id, and the entry is destroyed.
///
/// # Errors
/// 400, 401, 403, 404, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/quarantine/{id}/replay",
    operation_id = "replay_quarantined",
    tag = "events",
    params(("id" = String, Path, description = "Id of the entry.", example = "q_aaaaaaaaaaaaaaaaaaaaaaaaaa")),
    request_body = Option<schema::EventBody>,
    responses(
        (status = 201, description = "The event is new and on disk.", body = schema::Receipt),
        (status = 200, description = "The same event was there already.", body = schema::TakenBefore),
        openapi::WriteProblems,
        openapi::NotFoundProblem,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"] })))
)]
pub async fn replay(
    State(state): State<AppState>,
    system: CallingSystem,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Dpo])?;
    let bytes = body::bytes(&headers, body, state.body_bytes_max()).await?;
    let corrected = if bytes.is_empty() {
        None
    } else {
        body::media_type(&headers, &[body::JSON], body::JSON)?;
        Some(intake::parse(&bytes, state.body_bytes_max())?)
    };
    let (id, entry) = find(&state, &id).await?;
    let body = match (corrected, entry.redacted, &entry.body) {
        (Some(body), _, _) => body,
        (None, 0, Some(body)) => body.clone(),
        _ => {
            let hint = "send the corrected event as the body of this request";
            let message = "what was refused was not kept, so it cannot be replayed as it is";
            return Err(Problem::invalid(vec![FieldError::new("", "needs_correction", message, hint)]));
        }
    };
    let engine = state.engine();
    let event = check(body, engine.rules(), engine.ports().clock.wall_ms()).map_err(|rejected| {
        Problem::invalid(rejected.violations.into_iter().map(FieldError::from).collect())
    })?;
    let (source, dedupe) = (entry.source(), entry.dedupe());
    let command =
        Command::prepare(engine.hasher(), &event, source, &entry.system, entry.actor.as_deref(), dedupe);
    if command.leaf_bytes_max() > LEAF_BYTES_MAX {
        return Err(Problem::too_large(Some(command.leaf_bytes_max() as u64), LEAF_BYTES_MAX as u64));
    }
    let receiver = engine.submit(command).map_err(|error| events::unavailable(&error))?;
    let outcome = tokio::time::timeout(state.request_timeout(), receiver)
        .await
        .map_err(|_| Problem::unavailable("the event was not stored in time; it may be stored later", 1))?
        .map_err(|_| Problem::unavailable("the log has stopped", 5))?
        .map_err(|error| events::unavailable(&error))?;
    let is_taken = !matches!(
        outcome,
        Answer::Refused(Refusal::Conflict(_) | Refusal::ErasedConflict | Refusal::Unavailable)
    );
    let (status, receipt) = events::respond(engine, events::warnings(&event), outcome).await?;
    if is_taken {
        remove(&state, id).await?;
    }
    Ok((status, [(CONTENT_TYPE, "application/json")], receipt).into_response())
}

/// Destroys an entry
///
/// # Errors
/// 401, 403, 404, 429 or 503.
#[utoipa::path(
    delete,
    path = "/api/v1/quarantine/{id}",
    operation_id = "discard_quarantined",
    tag = "events",
    params(("id" = String, Path, description = "Id of the entry.", example = "q_aaaaaaaaaaaaaaaaaaaaaaaaaa")),
    responses(
        (status = 204, description = "It is destroyed."),
        openapi::ReadProblems
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"] })))
)]
pub async fn discard(
    State(state): State<AppState>,
    system: CallingSystem,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Dpo])?;
    let id = QuarantineId::parse(&id).ok_or_else(nothing)?;
    if remove(&state, id).await? { Ok(StatusCode::NO_CONTENT.into_response()) } else { Err(nothing()) }
}

/// Says where every event went
///
/// Per calling system since the start of the server: received = accepted + duplicate + quarantined + refused. What was
/// refused before anybody knew who called stands under `unknown`.
///
/// # Errors
/// 401, 403 or 429.
#[utoipa::path(
    get,
    path = "/api/v1/balance",
    operation_id = "balance",
    tag = "operations",
    responses(
        (status = 200, description = "The counts.", body = schema::Balance),
        openapi::ReadProblems
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["operator", "dpo", "auditor"] })))
)]
pub async fn balance(State(state): State<AppState>, system: CallingSystem) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Operator, Role::Dpo, Role::Auditor])?;
    let mut balance = state.metrics().balance();
    let unknown = balance.remove(&None).unwrap_or_default();
    let systems: Vec<Value> = balance
        .into_iter()
        .filter_map(|(name, counts)| Some(json!({ "system": name?, "counts": counts })))
        .collect();
    let quarantined = state.engine().quarantine().len();
    Ok(answer(
        StatusCode::OK,
        &json!({ "systems": systems, "unknown": unknown, "inQuarantine": quarantined }),
    ))
}

fn cursor(text: &str) -> Option<(u64, QuarantineId)> {
    let (ms, id) = text.split_once('.')?;
    Some((ms.parse().ok()?, QuarantineId::parse(id)?))
}

fn reasons(reasons: &[Reason]) -> Vec<Value> {
    reasons.iter().map(|reason| json!(reason)).collect()
}

fn shown(id: QuarantineId, summary: &Summary) -> Value {
    json!({
        "id": id.to_string(),
        "receivedAt": time_text(summary.received_ms),
        "expiresAt": summary.expires_ms.map(time_text),
        "system": summary.system,
        "reasons": reasons(&summary.reasons),
        "redacted": summary.redacted,
        "replayable": summary.has_body && summary.redacted == 0,
    })
}

fn nothing() -> Problem {
    Problem::not_found("there is no such entry in the quarantine")
}

/// Returns the customer that an entry names, if the log knows one.
fn customer(engine: &Engine, entry: &Entry) -> Result<Option<GlobalCustomerId>, Problem> {
    let Some(id) = entry.customer_id() else { return Ok(None) };
    engine.customer(&engine.hasher().customer(id)).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "the index cannot be read");
        Problem::unavailable("the index cannot be read", 5)
    })
}

async fn find(state: &AppState, id: &str) -> Result<(QuarantineId, Entry), Problem> {
    let id = QuarantineId::parse(id).ok_or_else(nothing)?;
    let engine = Arc::clone(state.engine());
    let entry = blocking(move || {
        engine.quarantine().get(id).map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the quarantine cannot be read");
            Problem::unavailable("the entry cannot be read; if it is damaged, discard it", 5)
        })
    });
    Ok((id, entry.await?.ok_or_else(nothing)?))
}

async fn remove(state: &AppState, id: QuarantineId) -> Result<bool, Problem> {
    let engine = Arc::clone(state.engine());
    let removed = blocking(move || {
        engine.discard(&[id]).map(|removed| removed > 0).map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "an entry cannot be destroyed");
            Problem::unavailable("the entry cannot be destroyed at the moment", 5)
        })
    });
    removed.await
}
