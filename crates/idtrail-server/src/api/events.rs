//! `POST /api/v1/events`: one event in, one receipt out, after it is on disk.
//!
//! 201 for a new event, 200 for the same one again, 409 if its Idempotency-Key was used with another content. The
//! receipt carries a complete inclusion proof, so nothing has to be asked for later.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use idtrail_event::{
    Dedupe, DedupeKind, JsonLimits, LEAF_BYTES_MAX, PlainEvent, Rejected, SourceCode, TypeCode, ValidEvent,
    check, time_text,
};
use idtrail_index::trail::{Command, Refusal};
use idtrail_log::commit::{Answer, Commit};
use idtrail_log::{LogError, OriginOrdinal};
use idtrail_tlog::{LogIndex, TlogProof};
use idtrail_verify::{Receipt, ReceiptStatus, ReceiptWarning};
use serde_json::Value;

use super::envelope::Incoming;
use super::{AppState, body, intake, proof};
use crate::auth::Person;
use crate::engine::Engine;
use crate::engine::origins::View;
use crate::metrics::{Outcome, TypeLabel};
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
    let engine = state.engine();
    let mut counted = state.metrics().intake(&*engine.ports().clock);
    let (system, person) = intake::sender(state, headers, &mut counted).await?;
    state.budgets().take_events(system.key_id(), 1)?;
    let actor = person.as_ref().map(Person::id);
    let idempotency = idempotency_key(headers)?;
    let media = body::media_type(
        headers,
        &[body::JSON, body::CLOUD_EVENT],
        "application/json or application/cloudevents+json",
    )?;
    let bytes = body::bytes(headers, body, state.body_bytes_max()).await?;
    let sender = intake::Sender { system: system.name(), actor };
    let read = read(state, headers, (&bytes, media), sender, idempotency);
    let (command, read) = match read {
        Ok(read) => read,
        Err(Unread::Unparsed(problem)) => {
            return Err(intake::note_unparsed(engine, sender, bytes, problem).await);
        }
        Err(Unread::Rejected(rejected, door)) => {
            let errors = rejected.violations.iter().cloned().map(FieldError::from).collect();
            let id = intake::quarantine(engine, sender, door.source, door.dedupe, *rejected).await?;
            counted.came_to(TypeLabel::UNKNOWN, Outcome::Quarantined);
            return Err(Problem::invalid(errors).with_quarantine(id));
        }
    };
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
    match &answer {
        Answer::Appended { .. } => {
            counted.came_to(read.event_type, Outcome::Accepted);
        }
        Answer::Existing(_) | Answer::Refused(Refusal::Erased | Refusal::Earlier(_)) => {
            counted.came_to(read.event_type, Outcome::Duplicate);
        }
        Answer::Refused(Refusal::Conflict(_) | Refusal::ErasedConflict) => {
            let event_type = read.event_type;
            let (body, door) = read.again(engine, headers, (&bytes, media), state.body_bytes_max());
            let rejected = intake::conflict(body);
            let id = intake::quarantine(engine, sender, door.source, door.dedupe, rejected).await?;
            counted.came_to(event_type, Outcome::Quarantined);
            return Err(Problem::conflict(CONFLICT).with_quarantine(id));
        }
        Answer::Refused(Refusal::Unavailable) => {}
    }
    respond(engine, read.warnings, answer).await
}

/// Through which door an event came, and by what its repetition is recognised.
struct Door {
    source: SourceCode,
    dedupe: Dedupe<'static>,
}

/// What is still known of an event that is on its way into the log.
struct Read {
    event_type: TypeCode,
    warnings: Vec<ReceiptWarning>,
    /// The event with the door that it came through; `None` for a usual one, which is read again if it is needed.
    whole: Option<(Box<ValidEvent>, Door)>,
}

/// Why an event goes no further.
enum Unread {
    Unparsed(Problem),
    Rejected(Box<Rejected>, Door),
}

impl Read {
    fn whole(event: ValidEvent, door: Door) -> Self {
        let (event_type, warnings) = (event.event_type(), warnings(&event));
        Self { event_type, warnings, whole: Some((Box::new(event), door)) }
    }

    /// Returns the body, to be kept in the quarantine.
    fn again(
        self,
        engine: &Engine,
        headers: &HeaderMap,
        (bytes, media): (&[u8], &str),
        bytes_max: usize,
    ) -> (Value, Door) {
        let door = || Door { source: SourceCode::API, dedupe: Dedupe::CONTENT };
        match self.whole {
            Some((event, door)) => (event.body().clone(), door),
            // It was read before, by stricter code.
            None => match read_whole(engine, headers, (bytes, media), None, bytes_max) {
                Ok((event, door)) => (event.body().clone(), door),
                Err(Unread::Rejected(rejected, door)) => (rejected.body, door),
                Err(Unread::Unparsed(_)) => (Value::Null, door()),
            },
        }
    }
}

/// Reads an event and prepares it for the log: a usual one the short way, any other one the long way.
fn read(
    state: &AppState,
    headers: &HeaderMap,
    (bytes, media): (&[u8], &str),
    sender: intake::Sender<'_>,
    idempotency: Option<Dedupe<'static>>,
) -> Result<(Command, Read), Unread> {
    let engine = state.engine();
    let bytes_max = state.body_bytes_max();
    if idempotency.is_none() && Incoming::is_bare(headers, media) {
        let limits = JsonLimits { bytes_max, ..JsonLimits::EVENT };
        if let Some(event) = PlainEvent::read(bytes, limits, engine.rules(), engine.ports().clock.wall_ms()) {
            let read = Read { event_type: event.event_type, warnings: Vec::new(), whole: None };
            let command = Command::prepare_plain(engine.hasher(), event, sender.system, sender.actor);
            return Ok((command, read));
        }
    }
    let (event, door) = read_whole(engine, headers, (bytes, media), idempotency, bytes_max)?;
    let dedupe = door.dedupe.clone();
    let command = Command::prepare(engine.hasher(), &event, door.source, sender.system, sender.actor, dedupe);
    Ok((command, Read::whole(event, door)))
}

/// Reads and checks an event of any kind.
fn read_whole(
    engine: &Engine,
    headers: &HeaderMap,
    (bytes, media): (&[u8], &str),
    idempotency: Option<Dedupe<'static>>,
    bytes_max: usize,
) -> Result<(ValidEvent, Door), Unread> {
    let parsed =
        intake::parse(bytes, bytes_max).and_then(|value| Incoming::of_request(headers, media, value));
    let Incoming { body, source, dedupe } = parsed.map_err(Unread::Unparsed)?;
    let door = Door { source, dedupe: idempotency.unwrap_or(dedupe) };
    match check(body, engine.rules(), engine.ports().clock.wall_ms()) {
        Ok(event) => Ok((event, door)),
        Err(rejected) => Err(Unread::Rejected(rejected, door)),
    }
}

/// Returns the id that the client itself chose, if it chose one.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<Dedupe<'static>>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&text.len()));
    match (text, values.next()) {
        (Some(text), None) => Ok(Some(Dedupe::text(DedupeKind::IDEMPOTENCY_KEY, text).into_owned())),
        _ => Err(Problem::malformed_request(
            "the header Idempotency-Key must be there once, with 1 to 255 visible ASCII characters",
        )),
    }
}

/// What is said of an id that was used before with another content.
pub(crate) const CONFLICT: &str =
    "the id of this event was used before with another content; use a new id for a new event";

/// Returns the problem of a log that does not take what it is given.
pub(crate) fn unavailable(error: &LogError) -> Problem {
    match error {
        LogError::Busy { .. } => Problem::unavailable("too many events are waiting", 1),
        _ => Problem::unavailable("the log has stopped; nothing can be stored until it is restarted", 5),
    }
}

pub(crate) async fn respond(
    engine: &Arc<Engine>,
    warnings: Vec<ReceiptWarning>,
    answer: Answer<Refusal>,
) -> Result<Taken, Problem> {
    match answer {
        Answer::Appended { commit, first, received_ms, .. } => {
            let receipt = created(engine.origin(), warnings, &commit, first, received_ms)
                .ok_or_else(Problem::internal)?;
            json(StatusCode::CREATED, receipt)
        }
        Answer::Existing(index) => again(engine, None, index, warnings).await,
        Answer::Refused(Refusal::Earlier(place)) => {
            again(engine, Some(place.origin), place.index, warnings).await
        }
        Answer::Refused(Refusal::Erased) => Ok((StatusCode::OK, super::shred::erased())),
        Answer::Refused(Refusal::Unavailable) => {
            Err(Problem::unavailable("the index cannot tell whether this is a repetition", 5))
        }
        Answer::Refused(Refusal::Conflict(_) | Refusal::ErasedConflict) => Err(Problem::conflict(CONFLICT)),
    }
}

fn created(
    origin: &str,
    warnings: Vec<ReceiptWarning>,
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
        warnings,
        proof: commit.proof_text(index)?,
    })
}

/// Gives the receipt of an event that was there before, in the log that is written to or in an earlier one.
async fn again(
    engine: &Arc<Engine>,
    log: Option<OriginOrdinal>,
    index: LogIndex,
    warnings: Vec<ReceiptWarning>,
) -> Result<Taken, Problem> {
    let engine = Arc::clone(engine);
    let found = move || {
        let log = engine.log_at(log.unwrap_or(engine.ordinal()));
        let log = log.ok_or(LogError::Bug { what: "a repetition is in a log that is not open" })?;
        receipt(&log, index, warnings)
    };
    let receipt = tokio::task::spawn_blocking(found)
        .await
        .map_err(|_| Problem::internal())?
        .map_err(|error| unavailable(&error))?;
    json(StatusCode::OK, receipt)
}

pub(crate) fn receipt(
    log: &View<'_>,
    index: LogIndex,
    warnings: Vec<ReceiptWarning>,
) -> Result<Receipt, LogError> {
    let reader = log.reader;
    let head = reader.head();
    let hashes = reader.inclusion_proof(index, head.size)?;
    let proof = TlogProof { extra: None, index, hashes, checkpoint: head.checkpoint.to_string() };
    Ok(Receipt {
        status: ReceiptStatus::Duplicate,
        origin: log.name.to_owned(),
        index: index.get(),
        leaf_hash: reader.leaf_hash(index)?.to_string(),
        event_id: None,
        received_at: None,
        tree_size: head.size.get(),
        warnings,
        proof: proof.to_text(),
    })
}

pub(crate) fn warnings(event: &ValidEvent) -> Vec<ReceiptWarning> {
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

fn json(status: StatusCode, mut receipt: Receipt) -> Result<Taken, Problem> {
    let body = proof::json(&mut receipt, |receipt| Some(&mut receipt.proof));
    Ok((status, Bytes::from(body.map_err(|_| Problem::internal())?)))
}
