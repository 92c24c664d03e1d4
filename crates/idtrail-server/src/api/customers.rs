//! `GET /api/v1/customers/…`: what is known of a customer, today or at a time, and why.
//!
//! An id that was never given, one that was erased and one that stands for an anonymous interaction are answered alike:
//! from outside nobody can tell them apart. Only a data protection officer is told (410) that an id was erased, for as long
//! as its suppression lasts.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::StatusCode;
use idtrail_event::{GlobalCustomerId, time_ms, time_text};
use idtrail_identity::assertion::Subject;
use idtrail_identity::read::{Closure, CustomerState, Explanation};
use idtrail_identity::ruleset::types;
use idtrail_identity::{Identifier, IdentityError, State as Known};
use idtrail_log::Reference;
use idtrail_tlog::LogIndex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::disclosure::{Reader, Route, disclose};
use super::identifiers::type_name;
use super::identity::durably;
use super::{AppState, answer, blocking, events};
use crate::credentials::Role;
use crate::engine::Engine;
use crate::engine::rights::erased::closed_until;
use crate::openapi;
use crate::problem::Problem;

/// Proofs that one explanation holds.
const RECEIPTS_MAX: usize = 100;

/// When a customer is looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct When {
    /// The customer as it was at this time, by what is known today: RFC 3339.
    pub as_of: Option<String>,
    /// What was believed when this leaf of the log had been taken over.
    pub recorded_as_of: Option<u64>,
    /// The log of that leaf, as receipts have it. Without it the one that is written to.
    pub origin: Option<String>,
}

/// Shows a customer
///
/// By any of its ids: the id of today, the other ids, the identifiers (as tokens) and how many interactions there are.
///
/// # Errors
/// 400, 401, 403, 404, 410, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/customers/{gcid}",
    operation_id = "show_customer",
    tag = "identity",
    params(
        openapi::Purpose,
        ("gcid" = String, Path, description = "Any id of the customer.", example = "gc_aaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("asOf" = Option<String>, Query, description = "As it was at this time, by what is known today: RFC 3339.", nullable = false, example = "2026-09-01T00:00:00Z"),
        ("recordedAsOf" = Option<u64>, Query, description = "What was believed when this leaf had been taken over.", nullable = false),
        ("origin" = Option<String>, Query, description = "The log of that leaf. Without it the one that is written to.", nullable = false)
    ),
    responses(
        (status = 200, description = "The customer.", body = serde_json::Map<String, Value>),
        openapi::RequestProblem,
        openapi::NotFoundProblem,
        openapi::GoneProblem,
        openapi::ReadProblems
    ),
    security(("ApiKey" = []), ("ApiKey" = [], "Bearer" = [])),
    extensions(
        ("x-idtrail-roles" = json!({ "ApiKey": ["dpo", "auditor"], "Bearer": ["any"] })),
        ("x-idtrail-discloses" = json!(true))
    )
)]
pub async fn show(
    State(state): State<AppState>,
    reader: Reader,
    Path(gcid): Path<String>,
    when: Result<Query<When>, QueryRejection>,
) -> Result<Response, Problem> {
    let gcid = admit(&state, &reader, &gcid)?;
    let Query(when) = when?;
    let as_of = match &when.as_of {
        None => None,
        Some(text) => match time_ms(text).and_then(|ms| u64::try_from(ms).ok()) {
            Some(ms) => Some(ms),
            None => return Err(Problem::malformed_request("asOf must be an RFC 3339 time since 1970")),
        },
    };
    if as_of.is_some() && when.recorded_as_of.is_some() {
        return Err(Problem::malformed_request("send asOf or recordedAsOf, not both"));
    }
    let engine = state.engine();
    let recorded = match when.recorded_as_of {
        None => None,
        Some(index) => {
            let log = engine.log_named(when.origin.as_deref().unwrap_or(engine.origin()));
            let log = log.ok_or_else(|| Problem::not_found("the installation has no such log"))?;
            // A log that has ended knows no more than at its end.
            let last = log.reader.size().get().saturating_sub(1);
            let bound = if log.ordinal == engine.ordinal() { index } else { index.min(last) };
            let place = Reference { origin: log.ordinal, index: LogIndex::new(bound) };
            engine.numbering().number(place).map(|number| (log.name.to_owned(), index, number))
        }
    };
    let read = move |engine: &Engine, known: &Known| {
        named(known, gcid)?;
        let subject = Subject::Customer(gcid);
        match (as_of, recorded) {
            (None, Some((origin, index, number))) => {
                let believed = known.recorded_as_of(&gcid, number)?;
                let shown = json!({
                    "gcid": believed.gcid.to_string(),
                    "origin": origin,
                    "recordedAsOf": index,
                    "identifiers": believed.identifiers.iter().map(identifier).collect::<Vec<_>>(),
                });
                Ok((believed.gcid, shown))
            }
            (Some(time), _) => {
                known.as_of(&subject, time).map(|found| (found.customer.gcid, customer(engine, &found)))
            }
            _ => known.closure(&subject).map(|found| (found.customer.gcid, customer(engine, &found))),
        }
    };
    Ok(answer(StatusCode::OK, &one(&state, &reader, ("show_customer", gcid), read).await?))
}

/// Says why identifiers belong to one customer
///
/// The path of evidence from the strongest identifier to each of the others, with the leaves that it rests on, each with a
/// proof that it is in its log, and the links that were refused.
///
/// # Errors
/// 400, 401, 403, 404, 410, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/customers/{gcid}/explain",
    operation_id = "explain_customer",
    tag = "identity",
    params(openapi::Purpose, ("gcid" = String, Path, description = "Any id of the customer.", example = "gc_aaaaaaaaaaaaaaaaaaaaaaaaaa")),
    responses(
        (status = 200, description = "The reasons.", body = serde_json::Map<String, Value>),
        openapi::RequestProblem,
        openapi::NotFoundProblem,
        openapi::GoneProblem,
        openapi::ReadProblems
    ),
    security(("ApiKey" = []), ("ApiKey" = [], "Bearer" = [])),
    extensions(
        ("x-idtrail-roles" = json!({ "ApiKey": ["dpo", "auditor"], "Bearer": ["any"] })),
        ("x-idtrail-discloses" = json!(true))
    )
)]
pub async fn explain(
    State(state): State<AppState>,
    reader: Reader,
    Path(gcid): Path<String>,
) -> Result<Response, Problem> {
    let gcid = admit(&state, &reader, &gcid)?;
    let read = move |engine: &Engine, known: &Known| {
        named(known, gcid)?;
        known.explain(&Subject::Customer(gcid)).map(|why| (why.gcid, explanation(engine, &why)))
    };
    let mut why = one(&state, &reader, ("explain_customer", gcid), read).await?;
    let engine = Arc::clone(state.engine());
    let why = blocking(move || {
        let (receipts, left_out) = receipts(&engine, &why)?;
        if let Value::Object(members) = &mut why {
            members.insert("receipts".to_owned(), receipts.into());
            members.insert("receiptsLeftOut".to_owned(), left_out.into());
        }
        Ok(why)
    });
    Ok(answer(StatusCode::OK, &why.await?))
}

/// Proves that the leaves of an explanation are in their logs: at most 100, in the order of the logs, and how many more there
/// are.
fn receipts(engine: &Engine, why: &Value) -> Result<(Vec<Value>, usize), Problem> {
    let list =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let place = |one: &Value| Some((one.get("origin")?.as_str()?.to_owned(), one.get("index")?.as_u64()?));
    let links = list(why, "links");
    let places: BTreeSet<(String, u64)> =
        links.iter().flat_map(|link| list(link, "evidence")).filter_map(|one| place(&one)).collect();
    let left_out = places.len().saturating_sub(RECEIPTS_MAX);
    let mut all = Vec::with_capacity(places.len() - left_out);
    for (origin, index) in places.into_iter().take(RECEIPTS_MAX) {
        let log = engine.log_named(&origin).ok_or_else(Problem::internal)?;
        let receipt = events::receipt(&log, LogIndex::new(index), Vec::new()).map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "evidence cannot be proved");
            Problem::unavailable("the evidence cannot be proved", 5)
        })?;
        all.push(json!({
            "origin": receipt.origin,
            "index": receipt.index,
            "leafHash": receipt.leaf_hash,
            "treeSize": receipt.tree_size,
            "proof": receipt.proof,
        }));
    }
    Ok((all, left_out))
}

/// Returns what is read of one customer, once the access is recorded under the customer's id of that state.
pub(super) async fn one(
    state: &AppState,
    reader: &Reader,
    (operation, gcid): (&'static str, GlobalCustomerId),
    read: impl FnOnce(&Engine, &Known) -> Result<(GlobalCustomerId, Value), IdentityError> + Send + 'static,
) -> Result<Value, Problem> {
    let (timeout, route) = (state.request_timeout(), Route { operation, purpose: "AUDIT" });
    let may_know = reader.is(Role::Dpo);
    let found = disclose(state.engine(), reader, route, move |engine, shown| {
        let (found, next) = engine.identity().read(|known| read(engine, known));
        durably(engine, next, timeout)?;
        let (gcid, found) = found.map_err(|error| problem(engine, may_know.then_some(gcid), &error))?;
        shown.at(engine.origin(), engine.numbering().size_in_newest(next).get());
        shown.about(Some(gcid));
        Ok(found)
    });
    found.await
}

pub(super) fn admit(state: &AppState, reader: &Reader, gcid: &str) -> Result<GlobalCustomerId, Problem> {
    reader.admit(state, &[Role::Dpo, Role::Auditor])?;
    // An id that cannot be one is as little there as one that was never given.
    GlobalCustomerId::try_from(gcid).map_err(|_| not_found())
}

/// Goes on only for a customer who is known by more than an interaction.
pub(super) fn named(known: &Known, gcid: GlobalCustomerId) -> Result<(), IdentityError> {
    let customer = known.customer(&gcid)?;
    let is_named = customer.identifiers.iter().any(|owned| owned.identifier.kind != types::INTERACTION);
    if is_named { Ok(()) } else { Err(IdentityError::NotKnown { what: "customer" }) }
}

fn not_found() -> Problem {
    Problem::not_found("there is no customer of this id")
}

pub(super) fn problem(engine: &Engine, asked: Option<GlobalCustomerId>, error: &IdentityError) -> Problem {
    tracing::debug!(error = error as &dyn std::error::Error, "a customer is not shown");
    if asked.is_some_and(|gcid| closed_until(engine, &Subject::Customer(gcid)).is_some()) {
        return Problem::gone("the customer of this id was erased");
    }
    not_found()
}

fn identifier(identifier: &Identifier) -> Value {
    json!({ "type": type_name(identifier.kind), "token": identifier.token.to_string() })
}

fn customer(engine: &Engine, closure: &Closure) -> Value {
    let known = &closure.customer;
    let identifiers = known.identifiers.iter().map(|owned| {
        json!({
            "type": type_name(owned.identifier.kind),
            "token": owned.identifier.token.to_string(),
            "from": time_text(owned.from_ms),
            "to": owned.to_ms.map(time_text),
        })
    });
    json!({
        "gcid": known.gcid.to_string(),
        "state": if known.state == CustomerState::Held { "HELD" } else { "ACTIVE" },
        "aliases": known.aliases.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "identifiers": identifiers.collect::<Vec<_>>(),
        "interactions": closure.interactions.iter().map(|one| {
            let (place, origin) = engine.at_number(one.index);
            json!({
                "origin": origin,
                "index": place.index.get(),
                "timestamp": time_text(one.time_ms),
                "tier": one.tier.name(),
                "believed": one.believed.to_string(),
            })
        }).collect::<Vec<_>>(),
        "ambiguous": closure.ambiguous,
    })
}

fn explanation(engine: &Engine, why: &Explanation) -> Value {
    let links = why.links.iter().map(|link| {
        json!({
            "from": identifier(&link.from),
            "to": identifier(&link.to),
            "ruleId": link.rule.name(),
            "support": link.support,
            "assurance": link.assurance,
            "firstSeen": link.seen_ms.map(|(first, _)| time_text(first)),
            "lastSeen": link.seen_ms.map(|(_, last)| time_text(last)),
            "evidence": link.evidence.iter().map(|one| {
                let (place, origin) = engine.at_number(one.index);
                json!({
                    "observationId": one.observation.to_string(),
                    "origin": origin,
                    "index": place.index.get(),
                })
            }).collect::<Vec<_>>(),
            "assertions": link.assertions,
        })
    });
    let refused = why.refused.iter().map(|link| {
        let (since, origin) = engine.at_number(link.since);
        json!({
            "between": link.ends.iter().map(identifier).collect::<Vec<_>>(),
            "guard": link.guard.name(),
            "quarantineId": format!("q-{}", link.number),
            "origin": origin,
            "since": since.index.get(),
        })
    });
    json!({
        "gcid": why.gcid.to_string(),
        "anchor": identifier(&why.anchor),
        "links": links.collect::<Vec<_>>(),
        "refused": refused.collect::<Vec<_>>(),
    })
}
