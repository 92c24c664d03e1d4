//! `POST /api/v1/events`: one event in, one receipt out, after it is on disk.
//!
//! 201 for a new event, 200 for the same one again, 409 if its Idempotency-Key was used with another content. The
//! receipt carries a complete inclusion proof, so nothing has to be asked for later.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRef as _, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use idtrail_event::{Dedupe, DedupeKind, LEAF_BYTES_MAX, SourceCode, ValidEvent, validate};
use idtrail_index::trail::{Command, Refusal};
use idtrail_log::LogError;
use idtrail_log::commit::{Answer, Commit};
use idtrail_tlog::{LogIndex, TlogProof};
use idtrail_verify::{Receipt, ReceiptStatus, ReceiptWarning, time_text};

use super::{AppState, body};
use crate::auth::Auth;
use crate::credentials::Role;
use crate::engine::Engine;
use crate::openapi::{self, schema};
use crate::problem::{FieldError, Problem};

/// Where one event is posted.
pub(crate) const PATH: &str = "/api/v1/events";
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;

/// What is answered when an event was taken: 201 or 200, and the receipt as JSON.
pub(crate) type Taken = (StatusCode, Bytes);

/// Stores one event
///
/// Answers when the event is on disk, with a proof that it is in the log. A person's token may come along: the person
/// then stands in the event as the one who acted.
///
/// # Errors
/// 400, 401, 403, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/events",
    tag = "events",
    params(openapi::IdempotencyKey),
    request_body(
        content = schema::EventBody,
        examples(
            ("identification" = (summary = "A customer was identified", value = json!(openapi::sample(0)))),
            ("deletion" = (summary = "A system deleted data", value = json!(openapi::sample(1))))
        )
    ),
    responses(
        (status = 201, description = "The event is new and on disk.", body = schema::Receipt),
        (status = 200, description = "The same event was there already.", body = schema::TakenBefore),
        openapi::WriteProblems,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = []), ("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["ingest"], "Bearer": ["any"] })))
)]
pub async fn post_event(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (status, receipt) = ingest(&state, &headers, body).await?;
    Ok((status, [(CONTENT_TYPE, "application/json")], receipt).into_response())
}

/// Takes one event from whoever speaks HTTP.
///
/// # Errors
/// As [`post_event`].
pub(crate) async fn ingest<B>(state: &AppState, headers: &HeaderMap, body: B) -> Result<Taken, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let auth = Arc::<Auth>::from_ref(state);
    let system = auth.calling_system(headers)?;
    system.require(&[Role::Ingest])?;
    state.budgets().take_events(system.key_id(), 1)?;
    // A person may act through the calling system; then the token has to be a good one.
    let person =
        if headers.contains_key(http::header::AUTHORIZATION) { Some(auth.person(headers)?) } else { None };
    let dedupe = idempotency_key(headers)?;
    let value = body::json(headers, body, state.body_bytes_max()).await?;
    let engine = state.engine();
    let event = validate(value, engine.rules(), engine.ports().clock.wall_ms())
        .map_err(|findings| Problem::invalid(findings.into_iter().map(FieldError::from).collect()))?;
    let actor = person.as_ref().map(crate::auth::Person::id);
    let command = Command::prepare(engine.hasher(), &event, SourceCode::API, system.name(), actor, dedupe);
    // Nothing may fail once the order is fixed, so the length is checked before.
    if command.leaf_bytes_max() > LEAF_BYTES_MAX {
        return Err(Problem::too_large(Some(command.leaf_bytes_max() as u64), LEAF_BYTES_MAX as u64));
    }
    let receiver = engine.submit(command).map_err(|error| unavailable(&error))?;
    let answer = tokio::time::timeout(state.request_timeout(), receiver)
        .await
        .map_err(|_| Problem::unavailable("the event was not stored in time; it may be stored later", 1))?
        .map_err(|_| Problem::unavailable("the log has stopped", 5))?
        .map_err(|error| unavailable(&error))?;
    respond(engine, &event, answer).await
}

fn idempotency_key(headers: &HeaderMap) -> Result<Dedupe<'static>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(Dedupe::CONTENT) };
    let text = value.to_str().ok().filter(|text| (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&text.len()));
    match (text, values.next()) {
        (Some(text), None) => Ok(Dedupe::text(DedupeKind::IDEMPOTENCY_KEY, text).into_owned()),
        _ => Err(Problem::malformed_request(
            "the header Idempotency-Key must be there once, with 1 to 255 visible ASCII characters",
        )),
    }
}

fn unavailable(error: &LogError) -> Problem {
    match error {
        LogError::Busy { .. } => Problem::unavailable("too many events are waiting", 1),
        _ => Problem::unavailable("the log has stopped; nothing can be stored until it is restarted", 5),
    }
}

async fn respond(
    engine: &Arc<Engine>,
    event: &ValidEvent,
    answer: Answer<Refusal>,
) -> Result<Taken, Problem> {
    match answer {
        Answer::Appended { commit, first, received_ms, .. } => {
            let receipt =
                created(engine.origin(), event, &commit, first, received_ms).ok_or_else(Problem::internal)?;
            json(StatusCode::CREATED, &receipt)
        }
        Answer::Existing(index) => {
            let (engine, warnings) = (Arc::clone(engine), warnings(event));
            let receipt = tokio::task::spawn_blocking(move || duplicate(&engine, index, warnings))
                .await
                .map_err(|_| Problem::internal())?
                .map_err(|error| unavailable(&error))?;
            json(StatusCode::OK, &receipt)
        }
        Answer::Refused(Refusal::Erased) => Ok((StatusCode::OK, super::shred::erased())),
        Answer::Refused(Refusal::Unavailable) => {
            Err(Problem::unavailable("the index cannot tell whether this is a repetition", 5))
        }
        Answer::Refused(Refusal::Conflict(_) | Refusal::ErasedConflict) => Err(Problem::conflict(
            "this Idempotency-Key was used before with another content; use a new key for a new event",
        )),
    }
}

fn created(
    origin: &str,
    event: &ValidEvent,
    commit: &Commit,
    index: LogIndex,
    received_ms: u64,
) -> Option<Receipt> {
    Some(Receipt {
        status: ReceiptStatus::Created,
        origin: origin.to_owned(),
        index: index.get(),
        leaf_hash: commit.leaf_hash(index)?.to_string(),
        event_id: None,
        received_at: Some(time_text(received_ms)),
        tree_size: commit.size().get(),
        warnings: warnings(event),
        proof: commit.proof_text(index)?,
    })
}

fn duplicate(engine: &Engine, index: LogIndex, warnings: Vec<ReceiptWarning>) -> Result<Receipt, LogError> {
    let reader = engine.reader();
    let head = reader.head();
    let hashes = reader.inclusion_proof(index, head.size)?;
    let proof = TlogProof { extra: None, index, hashes, checkpoint: head.checkpoint.to_string() };
    Ok(Receipt {
        status: ReceiptStatus::Duplicate,
        origin: engine.origin().to_owned(),
        index: index.get(),
        leaf_hash: reader.leaf_hash(index)?.to_string(),
        event_id: None,
        received_at: None,
        tree_size: head.size.get(),
        warnings,
        proof: proof.to_text(),
    })
}

fn warnings(event: &ValidEvent) -> Vec<ReceiptWarning> {
    event
        .warnings()
        .iter()
        .map(|warning| ReceiptWarning {
            pointer: warning.pointer.clone(),
            code: warning.code.to_owned(),
            message: warning.message.to_string(),
            hint: warning.hint.to_owned(),
        })
        .collect()
}

fn json(status: StatusCode, receipt: &Receipt) -> Result<Taken, Problem> {
    let body = serde_json::to_vec(receipt).map_err(|_| Problem::internal())?;
    Ok((status, Bytes::from(body)))
}
