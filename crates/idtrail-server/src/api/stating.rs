//! How a statement about identities or rules becomes a leaf: checked, its effect worked out, approved by a second person
//! where the installation asks for one, stored, answered.
//!
//! A statement that comes twice under one Idempotency-Key is made once. What it would take apart is answered together with
//! the requests for access that were answered before from what was one customer then.
//!
//! What it must never do: store what was not simulated right before, or count one person as two.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::response::Response;
use http::{HeaderMap, StatusCode};
use idtrail_event::{Dedupe, DedupeKind, GlobalCustomerId, time_text};
use idtrail_identity::Actor;
use idtrail_identity::assertion::{Assertion, AssertionKind};
use idtrail_identity::simulate::Simulation;
use idtrail_index::identity::statement_keys;
use idtrail_index::statement::Statement;
use idtrail_index::trail::{Command, Refusal};
use idtrail_log::Reference;
use idtrail_log::commit::Answer;
use serde_json::{Value, json};

use super::identifiers::{type_name, wrong};
use super::identity::durable;
use super::steward::problem;
use super::timeline::affected_requests;
use super::{AppState, answer, blocking, events};
use crate::auth::{CallingSystem, Person};
use crate::engine::Engine;
use crate::engine::proposals::Proposal;
use crate::problem::Problem;

const REASON_CHARS_MAX: usize = 500;
/// Merges, splits and states that one answer lists; it counts all of them.
const LISTED_MAX: usize = 100;

/// Who states something.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) state: &'a AppState,
    pub(super) system: &'a CallingSystem,
    pub(super) person: &'a Person,
    pub(super) headers: &'a HeaderMap,
}

/// States something about identities.
///
/// # Errors
/// 404, 409, 422 or 503.
pub(super) async fn assertion(
    request: Request<'_>,
    kind: AssertionKind,
    value: &Value,
) -> Result<Response, Problem> {
    let reason = reason(value.get("reason"), "/reason")?;
    let engine = request.state.engine();
    let statement =
        Statement::Assertion(Assertion { kind: kind.clone(), actor: Actor::Steward, reason, approver: None });
    let id = id(request)?;
    if let Some(before) = before(request.state, &statement, &id).await? {
        return Ok(before);
    }
    let (simulation, _) = engine.identity().simulate(&kind);
    let simulation = simulation.map_err(|error| problem(&error))?;
    let effect = effect(request.state, simulation).await?;
    make(request, statement, id, effect).await
}

/// Returns why something is stated: a text without personal data.
///
/// # Errors
/// 422.
pub(super) fn reason(value: Option<&Value>, place: &str) -> Result<String, Problem> {
    let text = value.and_then(Value::as_str).map(str::trim);
    let Some(text) = text.filter(|text| (1..=REASON_CHARS_MAX).contains(&text.chars().count())) else {
        let message = "it is missing or not a text of 1 to 500 characters";
        return Err(Problem::invalid(vec![wrong(place, message)]));
    };
    if text.contains('@') || text.chars().filter(char::is_ascii_digit).count() > 5 {
        let message = "it may hold an address or a number; leave them out";
        return Err(Problem::invalid(vec![wrong(place, message)]));
    }
    Ok(text.to_owned())
}

/// Returns the id by which a repetition of the request is recognised, each system's for itself.
///
/// # Errors
/// 400.
pub(super) fn id(request: Request<'_>) -> Result<Dedupe<'static>, Problem> {
    let Some(id) = events::idempotency_key(request.headers)? else { return Ok(Dedupe::CONTENT) };
    let hasher = request.state.engine().hasher();
    let key = hasher.dedupe(request.system.name(), &id, &hasher.customer(""));
    Ok(Dedupe::bytes(DedupeKind::SYSTEM, key.as_bytes()).into_owned())
}

/// Answers a statement that was made before under the same id.
///
/// # Errors
/// 409 if it said something else; 503.
pub(super) async fn before(
    state: &AppState,
    statement: &Statement,
    id: &Dedupe<'static>,
) -> Result<Option<Response>, Problem> {
    let engine = state.engine();
    if let Some(known) = engine.proposals().by_id(id, engine.now_ms()) {
        return match known.statement == *statement {
            true => Ok(Some(proposed(&known))),
            false => Err(Problem::conflict(events::CONFLICT)),
        };
    }
    let Some((key, content)) = statement_keys(engine.hasher(), statement, id) else { return Ok(None) };
    let Some((number, same)) = engine.identity().stated(&key, &content) else { return Ok(None) };
    if !same {
        return Err(Problem::conflict(events::CONFLICT));
    }
    durable(state, idtrail_tlog::LogIndex::new(number.get() + 1)).await?;
    let place = engine.numbering().place(number);
    let engine = Arc::clone(engine);
    let said = blocking(move || said(&engine, place, None)).await?;
    Ok(Some(answer(StatusCode::OK, &said)))
}

/// Stores a statement, or keeps it for a second person.
///
/// # Errors
/// 409 or 503.
pub(super) async fn make(
    request: Request<'_>,
    statement: Statement,
    id: Dedupe<'static>,
    effect: Value,
) -> Result<Response, Problem> {
    let engine = request.state.engine();
    if engine.proposals().needed() {
        let by = request.person.id();
        let kept = engine.proposals().keep(statement, id, by, effect, engine.now_ms(), engine.fresh_id());
        let Some(kept) = kept else {
            return Err(Problem::unavailable("too many proposals wait for a second person", 60));
        };
        return Ok(proposed(&kept));
    }
    store(request.state, statement, id, request.person.id(), effect).await
}

fn proposed(proposal: &Proposal) -> Response {
    answer(StatusCode::ACCEPTED, &proposal_json(proposal))
}

/// Returns what is told of a proposal.
pub(super) fn proposal_json(proposal: &Proposal) -> Value {
    let what = match &proposal.statement {
        Statement::Assertion(assertion) => json!({
            "assertion": idtrail_index::assertion::to_json(&assertion.kind), "reason": assertion.reason,
        }),
        Statement::Ruleset(change) => json!({
            "rulesetVersion": change.ruleset.version, "fingerprint": change.ruleset.fingerprint(),
            "reason": change.reason,
        }),
        Statement::Reassert(_) => Value::Null,
    };
    json!({
        "proposalId": proposal.id,
        "proposedBy": proposal.by,
        "expiresAt": time_text(proposal.expires_ms),
        "statement": what,
        "effect": proposal.effect,
    })
}

/// Stores a statement and answers it.
///
/// # Errors
/// 409 or 503.
pub(super) async fn store(
    state: &AppState,
    statement: Statement,
    id: Dedupe<'static>,
    actor: &str,
    effect: Value,
) -> Result<Response, Problem> {
    let engine = state.engine();
    let command = Command::state(engine.hasher(), statement, Some(actor), id);
    if command.leaf_bytes_max() > idtrail_event::LEAF_BYTES_MAX {
        return Err(Problem::too_large(
            Some(command.leaf_bytes_max() as u64),
            idtrail_event::LEAF_BYTES_MAX as u64,
        ));
    }
    let receiver = engine.submit(command).map_err(|error| events::unavailable(&error))?;
    let outcome = tokio::time::timeout(state.request_timeout(), receiver)
        .await
        .map_err(|_| Problem::unavailable("the statement was not stored in time; it may be stored later", 1))?
        .map_err(|_| Problem::unavailable("the log has stopped", 5))?
        .map_err(|error| events::unavailable(&error))?;
    let own = |index| Reference { origin: engine.ordinal(), index };
    let (status, place, effect) = match outcome {
        Answer::Appended { first, .. } => (StatusCode::CREATED, own(first), Some(effect)),
        Answer::Existing(index) => (StatusCode::OK, own(index), None),
        Answer::Refused(Refusal::Earlier(place)) => (StatusCode::OK, place, None),
        Answer::Refused(Refusal::Conflict(_) | Refusal::ErasedConflict) => {
            return Err(Problem::conflict(events::CONFLICT));
        }
        Answer::Refused(Refusal::Unavailable | Refusal::Erased) => {
            let detail = "what the statement is about has changed; look at it again";
            return Err(Problem::unavailable(detail, 1));
        }
    };
    let engine = Arc::clone(engine);
    let said = blocking(move || said(&engine, place, effect)).await?;
    Ok(answer(status, &said))
}

/// Reads what its leaf says about a statement.
fn said(engine: &Engine, place: Reference, effect: Option<Value>) -> Result<Value, Problem> {
    let unreadable = |error: &(dyn std::error::Error + 'static)| {
        tracing::error!(error, "a statement cannot be read");
        Problem::unavailable("the statement cannot be read", 5)
    };
    let log = engine.log_at(place.origin).ok_or_else(Problem::internal)?;
    let bytes = log.reader.entry(place.index).map_err(|error| unreadable(&error))?;
    let leaf = log.open_leaf(place.index, &bytes).map_err(|error| unreadable(&error))?.leaf;
    let hash = log.reader.leaf_hash(place.index).map_err(|error| unreadable(&error))?;
    let identity = leaf.body.get("auditEvent").and_then(|event| event.get("identity"));
    let member = |name: &str| identity.and_then(|identity| identity.get(name)).cloned();
    let mut said = json!({ "origin": log.name, "index": place.index.get(), "leafHash": hash.to_string() });
    if let Value::Object(members) = &mut said {
        for (name, told) in [
            ("assertionId", "assertionId"),
            ("version", "version"),
            ("diffHash", "fingerprint"),
            ("approver", "approver"),
        ] {
            if let Some(value) = member(name).filter(|value| !value.is_null()) {
                members.insert(told.to_owned(), value);
            }
        }
        if let Some(effect) = effect {
            members.insert("effect".to_owned(), effect);
        }
    }
    Ok(said)
}

/// Says what a change would do, and which answers to requests for access it affects.
///
/// # Errors
/// 503.
pub(super) async fn effect(state: &AppState, simulation: Simulation) -> Result<Value, Problem> {
    let (engine, timeout) = (Arc::clone(state.engine()), state.request_timeout());
    blocking(move || {
        let now_ms = engine.now_ms();
        let mut affected = Vec::new();
        let from: BTreeSet<GlobalCustomerId> = simulation.splits.iter().map(|split| split.from).collect();
        for gcid in from {
            if affected.len() >= LISTED_MAX {
                break;
            }
            affected.extend(affected_requests(&engine, gcid, now_ms, timeout)?);
        }
        affected.truncate(LISTED_MAX);
        let mut effect = listed(&simulation);
        if let Value::Object(members) = &mut effect {
            members.insert("affectedRequests".to_owned(), affected.into());
        }
        Ok(effect)
    })
    .await
}

fn listed(simulation: &Simulation) -> Value {
    let texts = |ids: &[GlobalCustomerId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "merges": simulation.merges.iter().take(LISTED_MAX).map(|ids| texts(ids)).collect::<Vec<_>>(),
        "splits": simulation.splits.iter().take(LISTED_MAX).map(|split| json!({
            "from": split.from.to_string(),
            "parts": split.parts.iter().map(Vec::len).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "states": simulation.states.iter().take(LISTED_MAX).map(|(id, state)| json!({
            "type": type_name(id.kind), "token": id.token.to_string(), "to": state.name(),
        })).collect::<Vec<_>>(),
        "refused": simulation.refused.len(),
        "counts": {
            "merges": simulation.merges.len(), "splits": simulation.splits.len(),
            "states": simulation.states.len(),
        },
    })
}
