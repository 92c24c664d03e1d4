//! `POST /api/v1/events:batch`: many events in one request, a result for each, one checkpoint for all.
//!
//! A JSON list, one JSON value a line, or CloudEvents in batched mode. The log takes the good events of a batch all or
//! none; a bad one is kept in the quarantine and hinders nobody else. The answer comes when everything is on disk, and
//! proofs are fetched with `GET /api/v1/receipts/{index}` by whoever wants them.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRef as _, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use idtrail_event::{Dedupe, DedupeKind, JsonLimits, LEAF_BYTES_MAX, check, parse_json};
use idtrail_index::trail::{Command, Refusal};
use idtrail_log::LogError;
use idtrail_log::commit::Answer;
use idtrail_tlog::LogIndex;
use idtrail_verify::{ReceiptWarning, time_text};
use serde::Serialize;
use serde_json::Value;

use super::envelope::Incoming;
use super::{AppState, body, events, intake};
use crate::auth::Auth;
use crate::balance::Fate;
use crate::credentials::Role;
use crate::engine::{Engine, Outcome};
use crate::metrics::{self, TypeLabel};
use crate::openapi::{self, schema};
use crate::problem::{FieldError, Problem};
use crate::quarantine::{QuarantineError, Reason, Sender};

/// What became of one event.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leaf_hash: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<ReceiptWarning>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantine_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

#[derive(Debug, Default, Serialize)]
struct Totals {
    created: u64,
    duplicate: u64,
    erased: u64,
    invalid: u64,
    conflict: u64,
    unreadable: u64,
    refused: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchAnswer {
    origin: String,
    tree_size: u64,
    checkpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_at: Option<String>,
    counts: Totals,
    items: Vec<Item>,
}

/// Stores many events
///
/// A JSON list (`application/json`), one JSON value a line (`application/x-ndjson`), or CloudEvents in batched mode
/// (`application/cloudevents-batch+json`). Each event has its own result, in the order of the request; the answer comes
/// when all of it is on disk. With an `Idempotency-Key` the n-th event is known as the n-th of that key.
///
/// # Errors
/// 400, 401, 403, 413, 415, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/events:batch",
    tag = "events",
    params(openapi::IdempotencyKey),
    request_body(
        description = "The events.",
        content(
            (Vec<schema::EventBody> = "application/json", example = json!([openapi::sample(0), openapi::sample(1)])),
            (String = "application/x-ndjson"),
            (Vec<serde_json::Map<String, serde_json::Value>> = "application/cloudevents-batch+json")
        )
    ),
    responses(
        (status = 200, description = "What became of each event.", body = schema::BatchAnswer),
        openapi::WriteProblems
    ),
    security(("ApiKey" = []), ("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["ingest"], "Bearer": ["any"] })))
)]
pub async fn post_events(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let engine = Arc::clone(state.engine());
    let mut tally = engine.balance().begin();
    let auth = Arc::<Auth>::from_ref(&state);
    let system = auth.calling_system(&headers)?;
    tally.of(system.name());
    system.require(&[Role::Ingest])?;
    let person = if headers.contains_key(http::header::AUTHORIZATION) {
        Some(auth.person(&headers).await?)
    } else {
        None
    };
    let actor = person.as_ref().map(|person| person.id().to_owned());
    let key = events::idempotency_key(&headers)?;
    let media = body::media_type(
        &headers,
        &[body::JSON, body::NDJSON, body::CLOUD_EVENTS],
        "application/json, application/x-ndjson or application/cloudevents-batch+json",
    )?;
    let limits = engine.batch();
    let bytes = body::bytes(&headers, body, limits.bytes_max).await?;
    let reading = Reading {
        system: system.name().to_owned(),
        actor,
        key,
        media,
        event_bytes_max: state.body_bytes_max(),
        events_max: limits.events_max,
    };
    let for_reading = Arc::clone(&engine);
    let budgets = state.clone();
    let key_id = system.key_id().to_owned();
    let read = move || {
        let texts = split(&bytes, media, reading.events_max)?;
        let count = u32::try_from(texts.len()).unwrap_or(u32::MAX);
        budgets.budgets().take_events(&key_id, count)?;
        let read: Vec<Read> =
            texts.into_iter().enumerate().map(|(at, text)| reading.read(&for_reading, at, text)).collect();
        Ok::<_, Problem>((reading, read))
    };
    let (reading, mut read) = tokio::task::spawn_blocking(read).await.map_err(|_| Problem::internal())??;
    // Until the log has answered, nothing is kept anywhere: a refused batch can be sent again as it is.
    let commands = read.iter_mut().filter_map(Read::take_command).collect();
    let receiver = engine.submit_all(commands).map_err(|error| events::unavailable(&error))?;
    let wait = async {
        if read.iter().any(|one| matches!(one, Read::Good { .. })) {
            receiver.await.map_err(|_| Problem::unavailable("the log has stopped", 5))
        } else {
            Ok(Vec::new())
        }
    };
    let outcomes = tokio::time::timeout(state.request_timeout(), wait).await.map_err(|_| {
        Problem::unavailable("the events were not stored in time; they may be stored later", 1)
    })??;
    let answering = Arc::clone(&engine);
    let answer = tokio::task::spawn_blocking(move || reading.answer(&answering, read, outcomes))
        .await
        .map_err(|_| Problem::internal())??;
    let counts = &answer.counts;
    tally.add(Fate::Accepted, counts.created);
    tally.add(Fate::Duplicate, counts.duplicate + counts.erased);
    tally.add(Fate::Quarantined, counts.invalid + counts.conflict);
    tally.add(Fate::Refused, counts.unreadable + counts.refused);
    let metrics = state.metrics();
    for (result, events) in [
        (metrics::Outcome::Accepted, counts.created),
        (metrics::Outcome::Duplicate, counts.duplicate + counts.erased),
        (metrics::Outcome::Quarantined, counts.invalid + counts.conflict),
        (metrics::Outcome::Refused, counts.unreadable + counts.refused),
    ] {
        if events > 0 {
            metrics.ingested(system.name(), TypeLabel::UNKNOWN, result, events);
        }
    }
    let bytes = serde_json::to_vec(&answer).map_err(|_| Problem::internal())?;
    Ok(([(CONTENT_TYPE, "application/json")], bytes).into_response())
}

/// One event of a batch, cut out of it.
enum Text {
    Value(Value),
    Line(Vec<u8>),
}

/// Cuts a batch into events.
fn split(bytes: &[u8], media: &str, events_max: usize) -> Result<Vec<Text>, Problem> {
    let texts: Vec<Text> = if media == body::NDJSON {
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        lines.map(|line| Text::Line(line.to_vec())).collect()
    } else {
        let limits = JsonLimits { bytes_max: bytes.len(), depth_max: JsonLimits::EVENT.depth_max + 1 };
        match parse_json(bytes, limits).map_err(|error| body::malformed(&error))? {
            Value::Array(items) => items.into_iter().map(Text::Value).collect(),
            _ => return Err(Problem::malformed_request("the body is not a JSON list of events")),
        }
    };
    if texts.is_empty() || texts.len() > events_max {
        let hint = "send at least one event, and at most as many as `batch.events_max` says";
        return Err(Problem::malformed_request("the batch holds no event or too many").with_hint(hint));
    }
    Ok(texts)
}

/// What is the same for all events of a batch.
struct Reading {
    system: String,
    actor: Option<String>,
    key: Option<Dedupe<'static>>,
    media: &'static str,
    event_bytes_max: usize,
    events_max: usize,
}

/// One event, read and checked.
enum Read {
    Good { command: Option<Command>, warnings: Vec<ReceiptWarning>, body: Value, incoming: Door },
    Invalid { rejected: Box<idtrail_event::Rejected>, incoming: Door },
    Unreadable { bytes: Vec<u8>, problem: Problem },
    TooLarge,
}

/// Through which door an event came, and by what its repetition is recognised.
struct Door {
    source: idtrail_event::SourceCode,
    dedupe: Dedupe<'static>,
}

impl Read {
    fn take_command(&mut self) -> Option<Command> {
        match self {
            Read::Good { command, .. } => command.take(),
            _ => None,
        }
    }
}

impl Reading {
    fn read(&self, engine: &Engine, at: usize, text: Text) -> Read {
        let unreadable = |bytes: Vec<u8>, problem| Read::Unreadable { bytes, problem };
        let (value, bytes) = match text {
            Text::Value(value) => (value, None),
            Text::Line(line) => match intake::parse(&line, self.event_bytes_max) {
                Ok(value) => (value, Some(line)),
                Err(problem) => return unreadable(line, problem),
            },
        };
        // A list as a whole may be long; no event in it may be longer than one alone.
        let bytes = bytes.unwrap_or_else(|| value.to_string().into_bytes());
        if bytes.len() > self.event_bytes_max {
            return Read::TooLarge;
        }
        let incoming = match Incoming::of_item(self.media, value) {
            Ok(incoming) => incoming,
            Err(problem) => return unreadable(bytes, problem),
        };
        let Incoming { body, source, dedupe } = incoming;
        let dedupe = match &self.key {
            Some(key) => {
                let id = format!("{}#{at}", String::from_utf8_lossy(key.id_bytes()));
                Dedupe::text(DedupeKind::IDEMPOTENCY_KEY, &id).into_owned()
            }
            None => dedupe,
        };
        let incoming = Door { source, dedupe };
        match check(body, engine.rules(), engine.ports().clock.wall_ms()) {
            Err(rejected) => Read::Invalid { rejected, incoming },
            Ok(event) => {
                let dedupe = incoming.dedupe.clone();
                let actor = self.actor.as_deref();
                let command =
                    Command::prepare(engine.hasher(), &event, incoming.source, &self.system, actor, dedupe);
                if command.leaf_bytes_max() > LEAF_BYTES_MAX {
                    return Read::TooLarge;
                }
                let warnings = events::warnings(&event);
                Read::Good { command: Some(command), warnings, body: event.body().clone(), incoming }
            }
        }
    }

    fn answer(
        &self,
        engine: &Engine,
        read: Vec<Read>,
        outcomes: Vec<Outcome>,
    ) -> Result<BatchAnswer, Problem> {
        let mut outcomes = outcomes.into_iter();
        let mut answer = BatchAnswer {
            origin: engine.origin().to_owned(),
            tree_size: 0,
            checkpoint: String::new(),
            received_at: None,
            counts: Totals::default(),
            items: Vec::with_capacity(read.len()),
        };
        for one in read {
            let item = match one {
                Read::Good { warnings, body, incoming, .. } => {
                    let outcome = outcomes.next().unwrap_or(Err(LogError::Stopped));
                    self.stored(engine, outcome, (warnings, body, incoming), &mut answer)?
                }
                Read::Invalid { rejected, incoming } => {
                    answer.counts.invalid += 1;
                    let errors = rejected.violations.iter().cloned().map(FieldError::from).collect();
                    let id = self.keep(engine, incoming, *rejected)?;
                    Item { status: "invalid", quarantine_id: Some(id), errors, ..Item::default() }
                }
                Read::Unreadable { bytes, problem } => {
                    answer.counts.unreadable += 1;
                    let errors = if problem.errors().is_empty() {
                        let hint = "send a JSON object with auditEvent, alone or in its envelope";
                        vec![FieldError::new("", "unreadable", "the event cannot be read", hint)]
                    } else {
                        problem.errors().to_vec()
                    };
                    let id = self.note(engine, &bytes, &errors)?;
                    Item { status: "unreadable", quarantine_id: Some(id), errors, ..Item::default() }
                }
                Read::TooLarge => {
                    answer.counts.refused += 1;
                    let error =
                        FieldError::new("", "too_large", "the event is longer than allowed", "send less");
                    Item { status: "too_large", errors: vec![error], ..Item::default() }
                }
            };
            answer.items.push(item);
        }
        let head = engine.reader().head();
        answer.tree_size = head.size.get();
        answer.checkpoint = head.checkpoint.to_string();
        Ok(answer)
    }

    fn stored(
        &self,
        engine: &Engine,
        outcome: Outcome,
        (warnings, body, incoming): (Vec<ReceiptWarning>, Value, Door),
        answer: &mut BatchAnswer,
    ) -> Result<Item, Problem> {
        let counts = &mut answer.counts;
        match outcome.map_err(|error| events::unavailable(&error))? {
            Answer::Appended { commit, first, received_ms, .. } => {
                counts.created += 1;
                answer.received_at = Some(time_text(received_ms));
                let leaf_hash = commit.leaf_hash(first).ok_or_else(Problem::internal)?.to_string();
                let (index, leaf_hash) = (Some(first.get()), Some(leaf_hash));
                Ok(Item { status: "created", index, leaf_hash, warnings, ..Item::default() })
            }
            Answer::Existing(at) => {
                counts.duplicate += 1;
                let leaf_hash =
                    leaf_hash(engine, at).map_err(|error| events::unavailable(&error))?.to_string();
                let (index, leaf_hash) = (Some(at.get()), Some(leaf_hash));
                Ok(Item { status: "duplicate", index, leaf_hash, warnings, ..Item::default() })
            }
            Answer::Refused(Refusal::Erased) => {
                counts.erased += 1;
                Ok(Item { status: "erased", ..Item::default() })
            }
            Answer::Refused(Refusal::Conflict(_) | Refusal::ErasedConflict) => {
                counts.conflict += 1;
                let id = self.keep(engine, incoming, intake::conflict(body))?;
                let hint = "use a new id for a new event";
                let errors = vec![FieldError::new("", "conflict", events::CONFLICT, hint)];
                Ok(Item { status: "conflict", quarantine_id: Some(id), errors, ..Item::default() })
            }
            Answer::Refused(Refusal::Unavailable) => {
                counts.refused += 1;
                let message = "the index cannot tell whether this is a repetition";
                let errors = vec![FieldError::new("", "unavailable", message, "send it again later")];
                Ok(Item { status: "unavailable", errors, ..Item::default() })
            }
        }
    }

    fn sender(&self, door: Door) -> Sender<'_> {
        Sender {
            system: &self.system,
            actor: self.actor.as_deref(),
            source: door.source,
            dedupe: door.dedupe,
        }
    }

    fn keep(
        &self,
        engine: &Engine,
        door: Door,
        rejected: idtrail_event::Rejected,
    ) -> Result<String, Problem> {
        let kept = engine.quarantine().keep(&self.sender(door), rejected, now_ms(engine));
        text(kept)
    }

    fn note(&self, engine: &Engine, bytes: &[u8], errors: &[FieldError]) -> Result<String, Problem> {
        let door = Door { source: idtrail_event::SourceCode::API, dedupe: Dedupe::CONTENT };
        let reason = errors.first().map(Reason::from).ok_or_else(Problem::internal)?;
        text(engine.quarantine().keep_unparsed(&self.sender(door), bytes, reason, now_ms(engine)))
    }
}

fn text(kept: Result<crate::quarantine::QuarantineId, QuarantineError>) -> Result<String, Problem> {
    kept.map(|id| id.to_string()).map_err(|error| intake::cannot_keep(&error))
}

fn now_ms(engine: &Engine) -> u64 {
    u64::try_from(engine.ports().clock.wall_ms()).unwrap_or(0)
}

fn leaf_hash(engine: &Engine, index: LogIndex) -> Result<idtrail_tlog::Hash, LogError> {
    engine.reader().leaf_hash(index)
}
