//! `/api/v1/identity/ruleset`: the rules of resolution as versioned data. A change is simulated, then applied as a leaf of
//! its own, and can be replaced by another one later: everything is worked out anew each time.
//!
//! What it must never do: apply rules whose effect nobody asked for before.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use idtrail_identity::Ruleset;
use idtrail_index::statement::{RulesetChange, Statement};
use serde_json::{Value, json};

use super::identifiers::wrong;
use super::identity::durable;
use super::stating::{self, Request, proposal_json};
use super::steward::{problem, steward};
use super::{AppState, answer, blocking};
use crate::auth::{CallingSystem, Person};
use crate::credentials::Role;
use crate::engine::proposals::Unapproved;
use crate::openapi;
use crate::problem::Problem;

/// The longest ruleset in bytes of JSON, so that its leaf is small enough.
const RULESET_BYTES_MAX: usize = 24 * 1024;

/// Shows the rules in force
///
/// # Errors
/// 401, 403, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/identity/ruleset",
    operation_id = "show_ruleset",
    tag = "identity",
    responses(
        (status = 200, description = "The rules, with their fingerprint.", body = serde_json::Map<String, Value>),
        openapi::ReadProblems
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo", "auditor"] })))
)]
pub async fn show(State(state): State<AppState>, system: CallingSystem) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Dpo, Role::Auditor])?;
    let (rules, next) = state.engine().identity().read(|known| known.ruleset().clone());
    durable(&state, next).await?;
    Ok(answer(StatusCode::OK, &json!({ "fingerprint": rules.fingerprint(), "ruleset": rules })))
}

/// Says what other rules would do, and does nothing
///
/// Works on a copy of the whole state: about as long as a start takes. Answers the fingerprint that a change has to name,
/// the merges and splits, and the answers to requests for access that these affect; at most 100 of each, with counts of all.
///
/// # Errors
/// 400, 401, 403, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/identity/ruleset:simulate",
    operation_id = "simulate_ruleset",
    tag = "identity",
    request_body(content = serde_json::Map<String, Value>, example = json!({ "ruleset": { "version": 2 } })),
    responses(
        (status = 200, description = "What would follow.", body = serde_json::Map<String, Value>),
        openapi::WriteProblems
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn simulate(
    State(state): State<AppState>,
    system: CallingSystem,
    person: Person,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut value = steward(&state, &system, &person, &headers, body).await?;
    let ruleset = ruleset(&mut value)?;
    let fingerprint = ruleset.fingerprint();
    let effect = simulated(&state, ruleset).await?;
    Ok(answer(StatusCode::OK, &json!({ "fingerprint": fingerprint, "effect": effect })))
}

/// Replaces the rules
///
/// `ruleset` whole, with a greater `version`; `simulated` is the fingerprint that a simulation of it answered; and `reason`.
/// Everything is worked out anew; what merges or falls apart is a leaf each, up to 127, and nothing is decided meanwhile.
///
/// # Errors
/// 400, 401, 403, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    put,
    path = "/api/v1/identity/ruleset",
    operation_id = "replace_ruleset",
    tag = "identity",
    params(openapi::IdempotencyKey),
    request_body(
        content = serde_json::Map<String, Value>,
        example = json!({ "ruleset": { "version": 2 }, "simulated": "0".repeat(64), "reason": "fewer numbers a year" })
    ),
    responses(
        (status = 201, description = "The change, on disk.", body = serde_json::Map<String, Value>),
        (status = 200, description = "The change that was made before.", body = serde_json::Map<String, Value>),
        (status = 202, description = "A proposal that a second person has to approve.", body = serde_json::Map<String, Value>),
        openapi::WriteProblems,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn replace(
    State(state): State<AppState>,
    system: CallingSystem,
    person: Person,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut value = steward(&state, &system, &person, &headers, body).await?;
    let request = Request { state: &state, system: &system, person: &person, headers: &headers };
    let ruleset = ruleset(&mut value)?;
    let reason = stating::reason(value.get("reason"), "/reason")?;
    if value.get("simulated").and_then(Value::as_str) != Some(ruleset.fingerprint().as_str()) {
        let message = "it is not the fingerprint of this ruleset; simulate it first";
        return Err(Problem::invalid(vec![wrong("/simulated", message)]));
    }
    let change = RulesetChange { ruleset: ruleset.clone(), reason, approver: None };
    let statement = Statement::Ruleset(Box::new(change));
    let id = stating::id(request)?;
    if let Some(before) = stating::before(&state, &statement, &id).await? {
        return Ok(before);
    }
    let effect = simulated(&state, ruleset).await?;
    stating::make(request, statement, id, effect).await
}

/// Lists what waits for a second person
///
/// Proposals of statements and rules, oldest first. They are kept in memory for a day: a restart forgets them.
///
/// # Errors
/// 401, 403, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/identity/proposals",
    operation_id = "list_proposals",
    tag = "identity",
    responses(
        (status = 200, description = "The proposals.", body = serde_json::Map<String, Value>),
        openapi::ReadProblems
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn proposals(
    State(state): State<AppState>,
    system: CallingSystem,
    person: Person,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Dpo])?;
    person.require(&[Role::Dpo])?;
    let waiting = state.engine().proposals().all(state.engine().now_ms());
    let waiting = waiting.iter().map(proposal_json).collect::<Vec<_>>();
    Ok(answer(StatusCode::OK, &json!({ "proposals": waiting })))
}

/// Approves what somebody else proposed
///
/// The statement is made under the name of the person who proposed it, with the one who approves beside it.
///
/// # Errors
/// 401, 403, 404, 409, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/identity/proposals/{id}/approve",
    operation_id = "approve_proposal",
    tag = "identity",
    params(("id" = String, Path, description = "The proposal's id.", example = "p-00000000000000000000000000000000")),
    responses(
        (status = 201, description = "The statement, on disk.", body = serde_json::Map<String, Value>),
        (status = 200, description = "The statement that was made before.", body = serde_json::Map<String, Value>),
        openapi::WriteProblems,
        openapi::NotFoundProblem,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn approve(
    State(state): State<AppState>,
    system: CallingSystem,
    person: Person,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Dpo])?;
    person.require(&[Role::Dpo])?;
    let engine = state.engine();
    let proposal = engine.proposals().take(&id, person.id(), engine.now_ms()).map_err(|why| match why {
        Unapproved::Unknown => Problem::not_found("there is no such proposal"),
        Unapproved::SamePerson => Problem::conflict("whoever proposed it cannot approve it"),
    })?;
    let effect = match &proposal.statement {
        // What it would do may have changed since it was proposed.
        Statement::Assertion(assertion) => {
            let (simulation, _) = engine.identity().simulate(&assertion.kind);
            stating::effect(&state, simulation.map_err(|error| problem(&error))?).await?
        }
        Statement::Ruleset(change) => simulated(&state, change.ruleset.clone()).await?,
        Statement::Reassert(_) => Value::Null,
    };
    let statement = proposal.approved(person.id());
    stating::store(&state, statement, proposal.dedupe, &proposal.by, effect).await
}

async fn simulated(state: &AppState, ruleset: Ruleset) -> Result<Value, Problem> {
    let engine = Arc::clone(state.engine());
    let (simulation, next) = blocking(move || Ok(engine.identity().simulate_ruleset(ruleset))).await?;
    let simulation = simulation.map_err(|error| refused(&error))?;
    durable(state, next).await?;
    stating::effect(state, simulation).await
}

fn refused(error: &idtrail_identity::IdentityError) -> Problem {
    match error {
        idtrail_identity::IdentityError::Ruleset { what } => Problem::invalid(vec![wrong("/ruleset", what)]),
        error => problem(error),
    }
}

fn ruleset(value: &mut Value) -> Result<Ruleset, Problem> {
    let ruleset = value.get_mut("ruleset").map(Value::take).unwrap_or_default();
    let malformed =
        || Problem::invalid(vec![wrong("/ruleset", "it is missing or not of the form that is shown")]);
    let ruleset: Ruleset = serde_json::from_value(ruleset).map_err(|_| malformed())?;
    ruleset.validate().map_err(|error| refused(&error))?;
    for (at, kind) in ruleset.types.iter().enumerate() {
        stating::reason(Some(&kind.reason.clone().into()), &format!("/ruleset/types/{at}/reason"))?;
    }
    if serde_json::to_vec(&ruleset).map_or(usize::MAX, |json| json.len()) > RULESET_BYTES_MAX {
        return Err(Problem::invalid(vec![wrong("/ruleset", "it has more than 24 KiB")]));
    }
    Ok(ruleset)
}
