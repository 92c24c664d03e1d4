//! `/api/v1/identity…`: whose is this call? Identifiers in, a customer's global id out, with the reason.
//!
//! A raw identifier lives from the parsed body to its keyed hash, in memory that is wiped, and goes nowhere else: not into
//! the log, an answer, an error or a line of the process' own log. What names nobody (a withheld number, a role mailbox) is
//! a fact about the interaction and is answered as such; what is malformed is refused, by its place.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRef as _, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use idtrail_event::{ChannelCode, Dedupe, DedupeKind, IdentifierType, time_ms};
use idtrail_identity::ruleset::types;
use idtrail_identity::{IdentifierState, RuleId, Sighting};
use idtrail_index::identity::{OBSERVATION_MEMBER, interaction};
use idtrail_index::slip::{Resolved, Slip};
use idtrail_index::trail::{Command, Refusal, Resolution};
use idtrail_log::commit::Answer;
use idtrail_log::{LogError, Reference};
use idtrail_tlog::LogIndex;
use serde_json::{Map, Value, json};

use super::disclosure::{Reader, Route, disclose};
use super::identifiers::{Given, IDENTIFIERS_MAX, identifiers, type_name, wrong};
use super::{AppState, answer, blocking, body, events, proof};
use crate::auth::{Auth, CallingSystem, Person};
use crate::credentials::Role;
use crate::engine::Engine;
use crate::openapi;
use crate::problem::Problem;

const BODY_BYTES_MAX: usize = 64 * 1024;

/// Says whose an interaction is
///
/// Takes raw identifiers, tokens or hashes, and answers the customer's global id with the reason, once the decision is on
/// disk. The same Idempotency-Key with the same identifiers is answered with the first decision.
///
/// # Errors
/// 400, 401, 403, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/identity/resolve",
    operation_id = "resolve_identity",
    tag = "identity",
    params(openapi::IdempotencyKey),
    request_body(
        content = serde_json::Map<String, Value>,
        example = json!({
            "interactionId": "i-1", "channelType": "VOICE",
            "identifiers": [{ "type": "phone", "value": "+14155552671", "assurance": 1 }]
        })
    ),
    responses(
        (status = 201, description = "The decision, on disk.", body = serde_json::Map<String, Value>),
        (status = 200, description = "The decision that was made before.", body = serde_json::Map<String, Value>),
        openapi::WriteProblems,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["resolve"] })))
)]
pub async fn resolve(
    State(state): State<AppState>,
    system: CallingSystem,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (status, decision) = question_of(&state, &system, &headers, body).await?;
    Ok(answer_bytes(status, decision))
}

/// Where one question is posted.
pub(crate) const PATH: &str = "/api/v1/identity/resolve";

/// Answers one question from whoever speaks HTTP: 201 or 200, and the decision as JSON.
///
/// # Errors
/// As [`resolve`].
pub(crate) async fn ask<B>(state: &AppState, headers: &HeaderMap, body: B) -> Result<events::Taken, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let system = Arc::<Auth>::from_ref(state).calling_system(headers)?;
    question_of(state, &system, headers, body).await
}

async fn question_of<B>(
    state: &AppState,
    system: &CallingSystem,
    headers: &HeaderMap,
    body: B,
) -> Result<events::Taken, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    system.require(&[Role::Resolve])?;
    state.budgets().take_events(system.key_id(), 1)?;
    let idempotency = events::idempotency_key(headers)?;
    let value = body::json(headers, body, BODY_BYTES_MAX).await?;
    let engine = state.engine();
    let question = Question::ask(engine, system.name(), value, idempotency)?;
    let settled = question.settled(state.request_timeout()).await?;
    // A decision that was just written is in memory still; only an older one may have to wait for the disk.
    let (status, mut decision) = if settled.is_new() {
        settle(engine, settled)?
    } else {
        let engine = Arc::clone(engine);
        blocking(move || settle(&engine, settled)).await?
    };
    let json = proof::json(&mut decision, |said| match said {
        Said::Decision(decision) => Some(&mut decision.receipt.proof),
        Said::Erased { .. } => None,
    });
    Ok((status, Bytes::from(json.map_err(|_| Problem::internal())?)))
}

fn answer_bytes(status: StatusCode, json: Bytes) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, json).into_response()
}

/// A question that the log was handed.
pub(crate) struct Question {
    receiver: tokio::sync::oneshot::Receiver<Outcome>,
    slip: Slip,
    blocked: Vec<Value>,
}

type Outcome = Result<Answer<Refusal>, LogError>;

/// What the log made of a question, not read yet.
pub(crate) struct Settled {
    answer: Answer<Refusal>,
    slip: Slip,
    blocked: Vec<Value>,
}

impl Settled {
    /// Tells whether the decision was made just now, and not at an earlier request.
    fn is_new(&self) -> bool {
        matches!(self.answer, Answer::Appended { .. })
    }
}

impl Question {
    /// Reads a question and hands it to the log. The raw values are wiped before this returns.
    ///
    /// # Errors
    /// 422 with every place that is wrong, or 503.
    pub(crate) fn ask(
        engine: &Engine,
        system: &str,
        value: Value,
        id: Option<Dedupe<'static>>,
    ) -> Result<Self, Problem> {
        let Taken { request, blocked } = take(engine, value)?;
        let dedupe = id.unwrap_or_else(|| Dedupe::bytes(DedupeKind::SYSTEM, &engine.fresh_id()).into_owned());
        let (command, slip) = Command::resolve(engine.hasher(), request, system, None, dedupe);
        let receiver = engine.submit(command).map_err(|error| events::unavailable(&error))?;
        Ok(Self { receiver, slip, blocked })
    }

    /// Waits until the decision is on disk.
    ///
    /// # Errors
    /// 503.
    pub(crate) async fn settled(self, timeout: std::time::Duration) -> Result<Settled, Problem> {
        let answer = tokio::time::timeout(timeout, self.receiver)
            .await
            .map_err(|_| {
                Problem::unavailable("the decision was not stored in time; it may be stored later", 1)
            })?
            .map_err(|_| Problem::unavailable("the log has stopped", 5))?
            .map_err(|error| events::unavailable(&error))?;
        Ok(Settled { answer, slip: self.slip, blocked: self.blocked })
    }
}

/// Says what was decided on a question. May wait for the disk if that was at an earlier request.
///
/// # Errors
/// 409 or 503.
pub(crate) fn settle(engine: &Engine, settled: Settled) -> Result<(StatusCode, Said), Problem> {
    let own = |index| Reference { origin: engine.ordinal(), index };
    let (status, place) = match settled.answer {
        Answer::Appended { commit, first, received_ms, .. } => {
            // The commit proves its entries, and the slip says what was decided: nothing has to be read again.
            let decision = || {
                let resolved = settled.slip.read()?;
                Some(Decision {
                    blocked: settled.blocked,
                    receipt: DecisionReceipt {
                        origin: engine.origin().to_owned(),
                        index: first.get(),
                        leaf_hash: commit.leaf_hash(first)?.to_string(),
                        received_at: idtrail_event::time_text(received_ms),
                        tree_size: commit.size().get(),
                        proof: commit.proof_text(first)?,
                    },
                    ..Decision::of(&resolved)
                })
            };
            let decision = decision().ok_or_else(Problem::internal)?;
            return Ok((StatusCode::CREATED, Said::Decision(Box::new(decision))));
        }
        Answer::Existing(index) => (StatusCode::OK, own(index)),
        Answer::Refused(Refusal::Earlier(place)) => (StatusCode::OK, place),
        Answer::Refused(Refusal::Erased) => {
            return Ok((StatusCode::OK, Said::Erased { status: "erased", erased: true }));
        }
        Answer::Refused(Refusal::Conflict(_) | Refusal::ErasedConflict) => {
            return Err(Problem::conflict(events::CONFLICT));
        }
        Answer::Refused(Refusal::Unavailable) => {
            return Err(Problem::unavailable("the index cannot tell whether this is a repetition", 5));
        }
    };
    Ok((status, Said::Decision(Box::new(decided(engine, place, settled.blocked)?))))
}

/// What is said about a question.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub(crate) enum Said {
    /// What was decided.
    Decision(Box<Decision>),
    /// That the person was erased.
    Erased {
        /// Says so.
        status: &'static str,
        /// Says so.
        erased: bool,
    },
}

/// What was decided, from a slip or from a leaf.
#[derive(Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Decision {
    gcid: Option<String>,
    outcome: Value,
    tier: Value,
    rule_id: Value,
    candidates: Value,
    blocked: Vec<Value>,
    receipt: DecisionReceipt,
}

#[derive(Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct DecisionReceipt {
    origin: String,
    index: u64,
    leaf_hash: String,
    received_at: String,
    tree_size: u64,
    proof: String,
}

impl Decision {
    fn of(resolved: &Resolved) -> Self {
        Self {
            gcid: Some(resolved.gcid.to_string()),
            outcome: resolved.outcome.name().into(),
            tier: resolved.tier.name().into(),
            rule_id: resolved.rule.map(RuleId::name).into(),
            candidates: resolved.candidates.into(),
            ..Self::default()
        }
    }
}

/// Turns identifiers into tokens
///
/// For systems that keep tokens in the place of raw values. Nothing is stored, and nothing says whether a value is known.
///
/// # Errors
/// 400, 401, 403, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/identity:tokenize",
    operation_id = "tokenize_identity",
    tag = "identity",
    request_body(
        content = serde_json::Map<String, Value>,
        example = json!({ "identifiers": [{ "type": "email", "value": "jane.doe@example.com" }] })
    ),
    responses(
        (status = 200, description = "The tokens, in the order of the identifiers.", body = serde_json::Map<String, Value>),
        openapi::WriteProblems
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["resolve"] })))
)]
pub async fn tokenize(
    State(state): State<AppState>,
    system: CallingSystem,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Resolve])?;
    let mut value = body::json(&headers, body, BODY_BYTES_MAX).await?;
    let engine = state.engine();
    let given = identifiers(engine, &mut value)?;
    let scheme = format!("hs256.k{}", engine.pepper_version());
    let tokens: Vec<Value> = given
        .iter()
        .map(|given| match &given.sighting {
            Ok(seen) => json!({
                "type": type_name(seen.identifier.kind),
                "token": seen.identifier.token.to_string(),
                "hashScheme": scheme,
            }),
            Err(reason) => json!({ "blocked": reason }),
        })
        .collect();
    Ok(answer(StatusCode::OK, &json!({ "tokens": tokens })))
}

/// Looks identifiers up
///
/// Whose they are today, without storing anything. Tells whether a value is known, so it needs a data protection officer.
///
/// # Errors
/// 400, 401, 403, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/identity:lookup",
    operation_id = "lookup_identity",
    tag = "identity",
    request_body(
        content = serde_json::Map<String, Value>,
        example = json!({ "identifiers": [{ "type": "phone", "value": "+14155552671" }] })
    ),
    responses(
        (status = 200, description = "What is known, in the order of the identifiers.", body = serde_json::Map<String, Value>),
        openapi::WriteProblems
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(
        ("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })),
        ("x-idtrail-discloses" = json!(true))
    )
)]
pub async fn lookup(
    State(state): State<AppState>,
    system: CallingSystem,
    person: Person,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    system.require(&[Role::Dpo])?;
    person.require(&[Role::Dpo])?;
    state.budgets().take_read(system.key_id())?;
    let mut value = body::json(&headers, body, BODY_BYTES_MAX).await?;
    let given = identifiers(state.engine(), &mut value)?;
    let timeout = state.request_timeout();
    let reader = Reader::of(system, person);
    let route = Route { operation: "lookup_identity", purpose: "INVESTIGATION" };
    let found = disclose(state.engine(), &reader, route, move |engine, shown| {
        let (found, next) = engine.identity().read(|known| {
            let one = |given: &Given| match &given.sighting {
                Err(reason) => (None, json!({ "blocked": reason })),
                Ok(seen) => match known.lookup(&seen.identifier) {
                    Some((gcid, identifier, _)) if identifier != IdentifierState::Retired => {
                        let shown = json!({
                            "known": true,
                            "gcid": gcid.map(|gcid| gcid.to_string()),
                            "state": identifier.name(),
                        });
                        (gcid, shown)
                    }
                    _ => (None, json!({ "known": false })),
                },
            };
            given.iter().map(one).collect::<Vec<_>>()
        });
        durably(engine, next, timeout)?;
        shown.at(engine.origin(), engine.numbering().size_in_newest(next).get());
        // That somebody is not known is an answer too.
        found.iter().for_each(|(gcid, _)| shown.about(*gcid));
        Ok(found.into_iter().map(|(_, answer)| answer).collect::<Vec<_>>())
    });
    Ok(answer(StatusCode::OK, &json!({ "identifiers": found.await? })))
}

/// Waits until what an answer rests upon is durable and known to the index.
pub(crate) async fn durable(state: &AppState, next: LogIndex) -> Result<(), Problem> {
    let (engine, timeout) = (Arc::clone(state.engine()), state.request_timeout());
    blocking(move || durably(&engine, next, timeout)).await
}

/// As [`durable`], for a thread that may wait.
pub(crate) fn durably(engine: &Engine, next: LogIndex, timeout: std::time::Duration) -> Result<(), Problem> {
    if engine.log().applied().wait(engine.numbering().size_in_newest(next), timeout) {
        return Ok(());
    }
    Err(Problem::unavailable("the index has not caught up with the log", 1))
}

struct Taken {
    request: Resolution,
    blocked: Vec<Value>,
}

fn take(engine: &Engine, mut value: Value) -> Result<Taken, Problem> {
    let given = identifiers(engine, &mut value)?;
    let mut errors = Vec::new();
    let mut event = Map::new();
    let now_ms = engine.now_ms();
    let mut time = now_ms;
    match value.get("timestamp") {
        None => {}
        Some(text) => match text.as_str().and_then(time_ms).and_then(|ms| u64::try_from(ms).ok()) {
            Some(ms) if ms <= now_ms + 86_400_000 => time = ms,
            _ => errors.push(wrong("/timestamp", "it is not an RFC 3339 time up to a day ahead of ours")),
        },
    }
    event.insert("timestamp".to_owned(), idtrail_event::time_text(time).into());
    for name in ["interactionId", "channelType", "queueId", "agentId"] {
        match value.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if plain(text) => {
                event.insert(name.to_owned(), text.clone().into());
            }
            Some(_) => errors.push(wrong(
                &format!("/{name}"),
                "it is not a text of 1 to 128 letters, digits and - _ . : without personal data",
            )),
        }
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let channel = event.get("channelType").and_then(Value::as_str).and_then(ChannelCode::by_name);
    event.insert("resolutionSource".to_owned(), "idtrail".into());
    let (mut sightings, mut blocked, mut pii) = (Vec::new(), Vec::new(), Map::new());
    for (at, one) in given.into_iter().enumerate() {
        match one.sighting {
            Ok(seen) => {
                let member = match seen.identifier.kind {
                    IdentifierType::PHONE => Some("phoneHash"),
                    IdentifierType::EMAIL => Some("emailHash"),
                    IdentifierType::ACCOUNT => Some("accountNumberHash"),
                    _ => None,
                };
                if let Some(member) = member {
                    pii.entry(member).or_insert_with(|| seen.identifier.token.to_string().into());
                }
                sightings.push(seen);
                sightings.extend(one.folded);
            }
            Err(reason) => blocked.push(json!({ "index": at, "reason": reason })),
        }
    }
    if !pii.is_empty() {
        pii.insert("hashScheme".to_owned(), format!("hs256.k{}", engine.pepper_version()).into());
        event.insert("piiContext".to_owned(), pii.into());
    }
    let within = |sightings: &[Sighting]| sightings.iter().map(|seen| 1 + seen.aliases.len()).sum::<usize>();
    if let Some(id) = event.get("interactionId").and_then(Value::as_str) {
        sightings.push(interaction(&engine.hasher().interaction(id)));
    }
    // What only corroborates is the first to go.
    while within(&sightings) > IDENTIFIERS_MAX {
        let Some(at) = sightings.iter().position(|seen| seen.identifier.kind == types::EMAIL_FOLDED) else {
            break;
        };
        sightings.remove(at);
    }
    let request =
        Resolution { event, channel: channel.unwrap_or(ChannelCode::NONE), time_ms: time, sightings };
    Ok(Taken { request, blocked })
}

/// An id, and nothing that could be a telephone number or an address.
fn plain(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let letters = text.chars().filter(char::is_ascii_alphabetic).count();
    (1..=128).contains(&text.len()) && text.chars().all(allowed) && (letters > 0 || digits < 6)
}

/// Reads a decision from its leaf: the same answer as at first, but for a proof from a grown tree.
fn decided(engine: &Engine, place: Reference, blocked: Vec<Value>) -> Result<Decision, Problem> {
    let unreadable = |error: &(dyn std::error::Error + 'static)| {
        tracing::error!(error, "a decision cannot be read");
        Problem::unavailable("the decision cannot be read", 5)
    };
    let log = engine.log_at(place.origin).ok_or_else(Problem::internal)?;
    let index = place.index;
    let bytes = log.reader.entry(index).map_err(|error| unreadable(&error))?;
    let leaf = log.open_leaf(index, &bytes).map_err(|error| unreadable(&error))?.leaf;
    let receipt = events::receipt(&log, index, Vec::new()).map_err(|error| unreadable(&error))?;
    let event = leaf.body.get("auditEvent");
    let identity =
        |name: &str| event.and_then(|event| event.get("identity")?.get(name)).cloned().unwrap_or(Value::Null);
    debug_assert!(leaf.body.get(OBSERVATION_MEMBER).is_some(), "every resolution says what it rests on");
    Ok(Decision {
        gcid: leaf.subject.map(|subject| subject.to_string()),
        outcome: identity("outcome"),
        tier: identity("tier"),
        rule_id: identity("ruleId"),
        candidates: identity("candidates"),
        blocked,
        receipt: DecisionReceipt {
            origin: log.name.to_owned(),
            index: index.get(),
            leaf_hash: receipt.leaf_hash,
            received_at: idtrail_event::time_text(leaf.received_ms),
            tree_size: receipt.tree_size,
            proof: receipt.proof,
        },
    })
}
