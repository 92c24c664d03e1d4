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
use idtrail_event::{ChannelCode, Dedupe, DedupeKind, IdentifierToken, IdentifierType, time_ms};
use idtrail_identity::normalise::Raw;
use idtrail_identity::ruleset::types;
use idtrail_identity::{Assurance, IdentifierState, RuleId, Sighting};
use idtrail_index::facts::Hasher;
use idtrail_index::identity::{OBSERVATION_MEMBER, hashed, interaction, reference};
use idtrail_index::slip::{Resolved, Slip};
use idtrail_index::trail::{Command, Refusal, Resolution};
use idtrail_log::commit::Answer;
use idtrail_log::{LogError, Reference};
use idtrail_tlog::LogIndex;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::disclosure::{Reader, Route, disclose};
use super::{AppState, answer, blocking, body, events};
use crate::auth::{Auth, CallingSystem, Person};
use crate::credentials::Role;
use crate::engine::Engine;
use crate::openapi;
use crate::problem::{FieldError, Problem};

const BODY_BYTES_MAX: usize = 64 * 1024;
/// Identifiers of one request, the other tokens of the same values included.
const IDENTIFIERS_MAX: usize = 32;
const TEXT_CHARS_MAX: usize = 256;
/// The shortest text that may be a hash: 32 bytes in base64 without padding.
const HASH_CHARS_MIN: usize = 43;
/// The types that can be sent, by name.
const TYPES: [(&str, IdentifierType); 9] = [
    ("phone", IdentifierType::PHONE),
    ("email", IdentifierType::EMAIL),
    ("account", IdentifierType::ACCOUNT),
    ("crm_person", types::CRM_PERSON),
    ("ext_contact", types::EXTERNAL_CONTACT),
    ("msg_handle", types::MESSAGING),
    ("cookie", types::COOKIE),
    ("device", types::DEVICE),
    ("customer_ref", types::CUSTOMER_REFERENCE),
];

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
    let (status, decision) = if settled.is_new() {
        settle(engine, settled)?
    } else {
        let engine = Arc::clone(engine);
        blocking(move || settle(&engine, settled)).await?
    };
    let json = serde_json::to_vec(&decision).map_err(|_| Problem::internal())?;
    Ok((status, Bytes::from(json)))
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

/// One identifier of a request: as it was seen, or why it names nobody.
pub(crate) struct Given {
    /// The identifier.
    pub(crate) sighting: Result<Sighting, &'static str>,
    folded: Option<Sighting>,
}

/// Takes the identifiers out of a request. The raw values are wiped before this returns.
///
/// # Errors
/// 422 with every place that is wrong.
pub(crate) fn identifiers(engine: &Engine, value: &mut Value) -> Result<Vec<Given>, Problem> {
    let Some(items) = value.get_mut("identifiers").and_then(Value::as_array_mut) else {
        return Err(Problem::invalid(vec![wrong("/identifiers", "it is missing or not a list")]));
    };
    if items.len() > IDENTIFIERS_MAX {
        return Err(Problem::invalid(vec![wrong("/identifiers", "there are more than 32 identifiers")]));
    }
    let (mut given, mut errors) = (Vec::new(), Vec::new());
    for (at, item) in items.iter_mut().enumerate() {
        match identifier(engine, item) {
            Ok(one) => given.push(one),
            Err(message) => errors.push(wrong(&format!("/identifiers/{at}"), message)),
        }
    }
    let tokens: usize =
        given.iter().filter_map(|one| one.sighting.as_ref().ok()).map(|seen| 1 + seen.aliases.len()).sum();
    // One place is left for the interaction.
    if errors.is_empty() && tokens >= IDENTIFIERS_MAX {
        errors.push(wrong("/identifiers", "they have more than 31 tokens together; send fewer"));
    }
    if errors.is_empty() { Ok(given) } else { Err(Problem::invalid(errors)) }
}

/// Reads one identifier: `value` raw, `token` of this system, or `hash` as events carry it.
pub(crate) fn identifier(engine: &Engine, item: &mut Value) -> Result<Given, &'static str> {
    // Taken out first, so that no copy stays behind whatever follows.
    let raw = match item.get_mut("value").map(Value::take) {
        Some(Value::String(text)) => Some(Zeroizing::new(text)),
        Some(_) => return Err("value is not a text"),
        None => None,
    };
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    let name = text("type").ok_or("type is missing")?;
    let (_, kind) = TYPES.iter().find(|(known, _)| *known == name).ok_or("type is not known")?;
    let assurance = match item.get("assurance") {
        None => Assurance::NETWORK,
        Some(level) => {
            let level = level.as_u64().and_then(|level| u8::try_from(level).ok());
            level.and_then(|level| Assurance::try_from(level).ok()).ok_or("assurance is not 0 to 5")?
        }
    };
    let keys = engine.hasher().identifiers().ok_or("there are no keys for identifiers")?;
    let found = |sighting| Ok(Given { sighting: Ok(sighting), folded: None });
    match (raw, text("token"), text("hash")) {
        (Some(raw), None, None) if *kind == types::CUSTOMER_REFERENCE => {
            if raw.is_empty() || raw.chars().count() > TEXT_CHARS_MAX {
                return Err("value must have 1 to 256 characters");
            }
            found(Sighting { assurance, ..reference(&engine.hasher().customer(&raw)) })
        }
        (Some(raw), None, None) => {
            let raw = Raw { kind: *kind, value: &raw, region: text("region"), namespace: text("namespace") };
            match engine.normaliser().normalise(raw) {
                Ok(normal) => {
                    let (sighting, folded) = (keys.sighting(&normal, assurance), keys.folded(&normal));
                    Ok(Given { sighting: Ok(sighting), folded })
                }
                Err(refusal) if refusal.is_blocked() => {
                    Ok(Given { sighting: Err(refusal.name()), folded: None })
                }
                Err(refusal) => Err(match refusal.name() {
                    "REGION_UNKNOWN" => "it has no country code, and region is missing or not known",
                    "NAMESPACE_UNKNOWN" => "namespace is missing or not configured",
                    _ => "value is not what its type says",
                }),
            }
        }
        (None, Some(token), None) => {
            let token =
                IdentifierToken::try_from(token).map_err(|_| "token is not 64 lower-case hex digits")?;
            found(Sighting::new(*kind, token, assurance))
        }
        (None, None, Some(hash)) => {
            let scheme = text("hashScheme");
            if scheme.is_some_and(|scheme| keys.legacy_specs(*kind).all(|known| known != scheme)) {
                return Err("hashScheme is not configured for its type");
            }
            let seen = hashed(keys, *kind, hash, scheme).ok_or("hash is not usable for its type")?;
            found(Sighting { assurance: assurance.min(Assurance::NETWORK), ..seen })
        }
        _ => Err("exactly one of value, token and hash must be there"),
    }
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

/// Returns every identifier that a text without a type may be: a token, a hash as events carry it, a client's own
/// customer id.
pub(crate) fn readings(hasher: &Hasher, text: &str) -> Vec<idtrail_identity::Identifier> {
    let mut readings = vec![reference(&hasher.customer(text)).identifier];
    if let Some(keys) = hasher.identifiers()
        && text.len() >= HASH_CHARS_MIN
    {
        let token = IdentifierToken::try_from(text).ok();
        for (_, kind) in TYPES {
            readings.extend(token.map(|token| idtrail_identity::Identifier { kind, token }));
            let schemes = keys.legacy_specs(kind).map(Some).chain([None]);
            readings.extend(schemes.filter_map(|scheme| Some(hashed(keys, kind, text, scheme)?.identifier)));
        }
    }
    readings
}

/// Returns the name of a type.
pub(crate) fn type_name(kind: IdentifierType) -> &'static str {
    match kind {
        types::INTERACTION => "interaction",
        types::EMAIL_FOLDED => "email_folded",
        kind => TYPES.iter().find(|(_, known)| *known == kind).map_or("other", |(name, _)| name),
    }
}

pub(crate) fn wrong(pointer: &str, message: &'static str) -> FieldError {
    FieldError::new(pointer, "invalid", message, "see the documentation of this route")
}
