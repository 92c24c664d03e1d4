//! What persons state about identities: that two customers are one, that they are not, what an identifier is worth.
//!
//! Every statement is a leaf with its reason and the person who made it, and can be taken back by another one (`REVOKE`):
//! what followed from it is undone then, because customers follow from evidence and statements alone.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use idtrail_event::GlobalCustomerId;
use idtrail_identity::assertion::{AssertionKind, Subject};
use idtrail_identity::{ErrorKind, IdentityError};
use idtrail_index::assertion::from_json;
use serde_json::{Value, json};

use super::disclosure::{Reader, Route, disclose};
use super::identifiers::{type_name, wrong};
use super::identity::{durable, durably};
use super::stating::{self, Request};
use super::{AppState, answer, body};
use crate::auth::{CallingSystem, Person};
use crate::credentials::Role;
use crate::openapi;
use crate::problem::Problem;

const BODY_BYTES_MAX: usize = 64 * 1024;
/// Refused links that one answer lists.
const QUARANTINE_MAX: usize = 1_000;

/// States something about identities
///
/// SAME, NOT_SAME, BLOCK, MARK_SHARED, TRANSFER, HOLD, or REVOKE of an earlier one. With the reason it becomes a leaf.
///
/// # Errors
/// 400, 401, 403, 404, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/assertions",
    operation_id = "assert_identity",
    tag = "identity",
    params(openapi::IdempotencyKey),
    request_body(
        content = serde_json::Map<String, Value>,
        example = json!({
            "kind": "SAME", "reason": "the customer said so on the phone",
            "subjects": ["gc_aaaaaaaaaaaaaaaaaaaaaaaaaa", "gc_aeaaaaaaaaaaaaaaaaaaaaaaaa"]
        })
    ),
    responses(
        (status = 201, description = "The statement, on disk.", body = serde_json::Map<String, Value>),
        (status = 200, description = "The statement that was made before.", body = serde_json::Map<String, Value>),
        (status = 202, description = "A proposal that a second person has to approve.", body = serde_json::Map<String, Value>),
        openapi::WriteProblems,
        openapi::NotFoundProblem,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn assert(
    State(state): State<AppState>,
    system: CallingSystem,
    person: Person,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let value = steward(&state, &system, &person, &headers, body).await?;
    let kind = kind(&value)?;
    let request = Request { state: &state, system: &system, person: &person, headers: &headers };
    stating::assertion(request, kind, &value).await
}

/// Makes one customer of two
///
/// # Errors
/// 400, 401, 403, 404, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/customers:merge",
    operation_id = "merge_customers",
    tag = "identity",
    params(openapi::IdempotencyKey),
    request_body(
        content = serde_json::Map<String, Value>,
        example = json!({
            "gcids": ["gc_aaaaaaaaaaaaaaaaaaaaaaaaaa", "gc_aeaaaaaaaaaaaaaaaaaaaaaaaa"], "reason": "one person"
        })
    ),
    responses(
        (status = 201, description = "The statement, on disk.", body = serde_json::Map<String, Value>),
        (status = 200, description = "The statement that was made before.", body = serde_json::Map<String, Value>),
        (status = 202, description = "A proposal that a second person has to approve.", body = serde_json::Map<String, Value>),
        openapi::WriteProblems,
        openapi::NotFoundProblem,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn merge(
    State(state): State<AppState>,
    system: CallingSystem,
    person: Person,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let value = steward(&state, &system, &person, &headers, body).await?;
    let request = Request { state: &state, system: &system, person: &person, headers: &headers };
    stating::assertion(request, merged(&value)?, &value).await
}

/// Takes customers apart that are not one
///
/// Nobody of `left` is anybody of `right`: ids or identifiers. Former ids come back where they lived.
///
/// # Errors
/// 400, 401, 403, 404, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/customers:split",
    operation_id = "split_customer",
    tag = "identity",
    params(openapi::IdempotencyKey),
    request_body(
        content = serde_json::Map<String, Value>,
        example = json!({
            "left": ["gc_aaaaaaaaaaaaaaaaaaaaaaaaaa"], "right": ["gc_aeaaaaaaaaaaaaaaaaaaaaaaaa"],
            "reason": "father and son"
        })
    ),
    responses(
        (status = 201, description = "The statement, on disk.", body = serde_json::Map<String, Value>),
        (status = 200, description = "The statement that was made before.", body = serde_json::Map<String, Value>),
        (status = 202, description = "A proposal that a second person has to approve.", body = serde_json::Map<String, Value>),
        openapi::WriteProblems,
        openapi::NotFoundProblem,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn split(
    State(state): State<AppState>,
    system: CallingSystem,
    person: Person,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut value = steward(&state, &system, &person, &headers, body).await?;
    if let Value::Object(members) = &mut value {
        members.insert("kind".to_owned(), "NOT_SAME".into());
    }
    let mut kind = kind(&value)?;
    if let AssertionKind::NotSame(left, right) = &mut kind {
        // Ids of one customer are told apart by where they lived before.
        let (homes, _) = state.engine().identity().read(|known| {
            let home = |subject: &Subject| match subject {
                Subject::Customer(gcid) => known.home_of(gcid).map_or(*subject, Subject::Identifier),
                Subject::Identifier(_) => *subject,
            };
            [&*left, &*right].map(|side| side.iter().map(home).collect::<Vec<_>>())
        });
        [*left, *right] = homes;
    }
    let request = Request { state: &state, system: &system, person: &person, headers: &headers };
    stating::assertion(request, kind, &value).await
}

/// Says what a statement would do, and does nothing
///
/// # Errors
/// 400, 401, 403, 404, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/customers:simulate",
    operation_id = "simulate_assertion",
    tag = "identity",
    request_body(
        content = serde_json::Map<String, Value>,
        example = json!({
            "kind": "SAME",
            "subjects": ["gc_aaaaaaaaaaaaaaaaaaaaaaaaaa", "gc_aeaaaaaaaaaaaaaaaaaaaaaaaa"]
        })
    ),
    responses(
        (status = 200, description = "What would follow.", body = serde_json::Map<String, Value>),
        openapi::WriteProblems,
        openapi::NotFoundProblem,
        openapi::ConflictProblem
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
    let value = steward(&state, &system, &person, &headers, body).await?;
    let (simulation, next) = state.engine().identity().simulate(&kind(&value)?);
    let simulation = simulation.map_err(|error| problem(&error))?;
    durable(&state, next).await?;
    Ok(answer(StatusCode::OK, &stating::effect(&state, simulation).await?))
}

/// Lists links that were refused
///
/// Oldest first: two identifiers that were seen together and stay apart, the guard that refused them, and the customers on
/// both sides. At most 1,000.
///
/// # Errors
/// 401, 403, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/identity/quarantine",
    operation_id = "list_identity_quarantine",
    tag = "identity",
    params(openapi::Purpose),
    responses(
        (status = 200, description = "The refused links.", body = serde_json::Map<String, Value>),
        openapi::RequestProblem,
        openapi::ReadProblems
    ),
    security(("ApiKey" = []), ("ApiKey" = [], "Bearer" = [])),
    extensions(
        ("x-idtrail-roles" = json!({ "ApiKey": ["dpo", "auditor"], "Bearer": ["any"] })),
        ("x-idtrail-discloses" = json!(true))
    )
)]
pub async fn quarantine(State(state): State<AppState>, reader: Reader) -> Result<Response, Problem> {
    reader.admit(&state, &[Role::Dpo, Role::Auditor])?;
    let timeout = state.request_timeout();
    let route = Route { operation: "list_identity_quarantine", purpose: "AUDIT" };
    let refused = disclose(state.engine(), &reader, route, move |engine, shown| {
        let (refused, next) = engine.identity().read(|known| known.quarantine(None, QUARANTINE_MAX));
        durably(engine, next, timeout)?;
        shown.at(engine.origin(), engine.numbering().size_in_newest(next).get());
        refused.iter().flat_map(|link| link.gcids.iter()).for_each(|gcid| shown.about(Some(*gcid)));
        Ok(refused)
    });
    let refused = refused.await?;
    let entries = refused.iter().map(|link| {
        let (since, origin) = state.engine().at_number(link.since);
        json!({
            "quarantineId": format!("q-{}", link.number),
            "guard": link.guard.name(),
            "origin": origin,
            "since": since.index.get(),
            "between": link.ends.iter().map(|end| json!({
                "type": type_name(end.kind), "token": end.token.to_string(),
            })).collect::<Vec<_>>(),
            "gcids": link.gcids.iter().map(ToString::to_string).collect::<BTreeSet<_>>(),
        })
    });
    Ok(answer(StatusCode::OK, &json!({ "entries": entries.collect::<Vec<_>>() })))
}

/// Takes the body of a request of a data protection officer.
pub(super) async fn steward(
    state: &AppState,
    system: &CallingSystem,
    person: &Person,
    headers: &HeaderMap,
    body: Body,
) -> Result<Value, Problem> {
    system.require(&[Role::Dpo])?;
    person.require(&[Role::Dpo])?;
    state.budgets().take_read(system.key_id())?;
    body::json(headers, body, BODY_BYTES_MAX).await
}

fn kind(value: &Value) -> Result<AssertionKind, Problem> {
    from_json(value).map_err(|member| {
        Problem::invalid(vec![wrong(
            &format!("/{member}"),
            "it is missing, of another form, or names too many",
        )])
    })
}

fn merged(value: &Value) -> Result<AssertionKind, Problem> {
    let gcid = |value: &Value| GlobalCustomerId::try_from(value.as_str()?).ok();
    match value.get("gcids").and_then(Value::as_array).map(Vec::as_slice) {
        Some([a, b]) => match (gcid(a), gcid(b)) {
            (Some(a), Some(b)) => Ok(AssertionKind::Same(Subject::Customer(a), Subject::Customer(b))),
            _ => Err(Problem::invalid(vec![wrong("/gcids", "an id is not a global id")])),
        },
        _ => Err(Problem::invalid(vec![wrong("/gcids", "it is not a list of two ids")])),
    }
}

/// Says why a statement is refused.
pub(super) fn problem(error: &IdentityError) -> Problem {
    match error {
        IdentityError::Contradicts { .. } => {
            Problem::conflict("it contradicts a statement in force; revoke that first")
        }
        IdentityError::Held => Problem::conflict("the customer is held"),
        // An erased customer is as little there as one that never was.
        IdentityError::Erased { .. } => {
            Problem::not_found("there is no such customer, identifier or statement")
        }
        error if error.kind() == ErrorKind::NotFound => {
            Problem::not_found("there is no such customer, identifier or statement")
        }
        _ => Problem::invalid(vec![wrong("", "the statement means nothing")]),
    }
}
