//! `/api/v1/rights/requests`: requests of data subjects, for data protection officers.
//!
//! Both credentials are needed: the API key says which system calls, the token which person acts. A request is changed by
//! what somebody says to it, and answered when that is on disk; what follows from it happens by itself. Nothing here shows
//! an event of a customer: there are counts, states and hashes.

use std::cmp::Reverse;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use idtrail_event::GlobalCustomerId;
use idtrail_identity::assertion::Subject;
use idtrail_rights::{
    Basis, Case, Code, Command, Digest, HoldName, ItemName, Kind, Level, Principal, Refusal, RequestId,
    Settings as Rules,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::identifiers::{Given, identifier, readings, wrong};
use super::{AppState, answer, blocking, body};
use crate::auth::{CallingSystem, Person};
use crate::credentials::Role;
use crate::engine::rights::rectify::{CORRECTIONS_MAX, Correction, Wrong};
use crate::engine::rights::{Logged, New, SayError, subject_of};
use crate::openapi;
use crate::problem::Problem;

const BODY_BYTES_MAX: usize = 256 * 1024;
const CUSTOMER_CHARS_MAX: usize = 256;
/// Requests that one page lists at most, and without a limit.
const LISTED_MAX: usize = 1_000;
const LISTED: usize = 100;
/// What is said where access is asked for and nobody said what is done with data.
pub(super) const NO_RECORDS: &str =
    "access needs the records of processing: name their file as `records` in [rights]";

/// Opens a request
///
/// `kind` is ACCESS, PORTABILITY, ERASURE, RECTIFICATION, RESTRICTION or OBJECTION. The person is named by `customerIdHash`
/// or `identifier`. With RECTIFICATION, `corrections` says what is wrong and how it should be: a list of `index`, `origin` (the
/// log, if it is not the newest), `pointer` (RFC 6901, below `auditEvent`; empty for the whole event) and `value` (without it the
/// member goes); without it a person corrects and attests. If a request of the same kind for the same person is open, this one attaches to it. ACCESS needs the
/// records of processing, which the configuration names.
///
/// # Errors
/// 400, 401, 403, 404, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/rights/requests",
    operation_id = "open_rights_request",
    tag = "rights",
    request_body(
        content = serde_json::Map<String, Value>,
        example = json!({ "kind": "ERASURE", "regime": "gdpr", "manner": "form", "customerIdHash": "cust_hash_9f86d08" })
    ),
    responses(
        (status = 201, description = "The request, on disk.", body = serde_json::Map<String, Value>),
        (status = 200, description = "The open request that it was attached to.", body = serde_json::Map<String, Value>),
        openapi::WriteProblems,
        openapi::NotFoundProblem,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn open(
    State(state): State<AppState>,
    system: CallingSystem,
    person: Person,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    admit(&state, &system, &person)?;
    let mut value = body::json(&headers, body, BODY_BYTES_MAX).await?;
    let subjects = subjects(&state, &mut value)?;
    let received_ms = match value.get("receivedAt") {
        None => state.engine().now_ms(),
        Some(text) => {
            let time = text.as_str().and_then(idtrail_event::time_ms).and_then(|ms| u64::try_from(ms).ok());
            time.filter(|ms| *ms <= state.engine().now_ms())
                .ok_or_else(|| invalid("/receivedAt", "it is not an RFC 3339 time up to now"))?
        }
    };
    let kind: Kind = member(&value, "kind")?;
    if kind == Kind::Access && !state.rights().can_inform() {
        return Err(invalid("/kind", NO_RECORDS));
    }
    let corrections: Vec<Correction> = optional(&value, "corrections")?.unwrap_or_default();
    if corrections.len() > CORRECTIONS_MAX || (kind != Kind::Rectification && !corrections.is_empty()) {
        return Err(invalid("/corrections", "they belong to RECTIFICATION, 1,000 at most"));
    }
    let new = New {
        kind,
        regime: optional(&value, "regime")?.unwrap_or_else(|| code("gdpr")),
        manner: optional(&value, "manner")?.unwrap_or_else(|| code("api")),
        received_ms,
        subjects,
        corrections,
        by: Some(principal(&person)),
    };
    let (request, attached) = state.rights().open(new).await.map_err(problem)?;
    let status = if attached { StatusCode::OK } else { StatusCode::CREATED };
    Ok(answer(status, &shown(&state, &request)?))
}

/// Which page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Id of the request that ended the page before.
    pub after: Option<String>,
    /// Most requests, 1 to 1,000.
    pub limit: Option<usize>,
}

/// Lists the requests
///
/// The newest first, without their steps, page by page.
///
/// # Errors
/// 400, 401, 403, 404, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/rights/requests",
    operation_id = "list_rights_requests",
    tag = "rights",
    params(
        ("after" = Option<String>, Query, description = "Where the page before ended: its `next`.", nullable = false),
        ("limit" = Option<usize>, Query, description = "Most requests, 1 to 1,000. Without it 100.", nullable = false, minimum = 1, maximum = 1000)
    ),
    responses(
        (status = 200, description = "A page of the requests.", body = serde_json::Map<String, Value>),
        openapi::RequestProblem,
        openapi::ReadProblems
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn list(
    State(state): State<AppState>,
    system: CallingSystem,
    person: Person,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<Response, Problem> {
    admit(&state, &system, &person)?;
    let Query(part) = part?;
    let limit = part.limit.unwrap_or(LISTED);
    if !(1..=LISTED_MAX).contains(&limit) {
        return Err(Problem::malformed_request("limit must be 1 to 1000"));
    }
    let after = part.after.as_deref().map(named).transpose()?;
    let page = state.rights().read(|cases, rules| {
        // Newest first; requests of one millisecond by their ids, so that pages neither repeat nor leave out.
        let mut all: Vec<_> =
            cases.map(|(case, _)| (Reverse(case.received_ms), &case.request, case)).collect();
        all.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        let start = match &after {
            None => 0,
            Some(after) => all.iter().position(|(_, id, _)| *id == after)? + 1,
        };
        let rest = all.get(start..).unwrap_or_default();
        let page: Vec<Value> = rest.iter().take(limit).map(|(.., case)| view(case, &[], rules)).collect();
        let next = rest.get(..limit).and_then(|page| page.last()).filter(|_| rest.len() > limit);
        Some(json!({ "requests": page, "more": next.is_some(), "next": next.map(|(_, id, _)| id) }))
    });
    let page = page.map_err(problem)?;
    Ok(answer(StatusCode::OK, &page.ok_or_else(|| Problem::not_found("there is no such request"))?))
}

/// Shows a request
///
/// Its state, dates, plan with counts, and how each item stands.
///
/// # Errors
/// 401, 403, 404, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/rights/requests/{id}",
    operation_id = "show_rights_request",
    tag = "rights",
    params(("id" = String, Path, description = "Id of the request.", example = "dsr_aaaaaaaaaaaaaaaaaaaaaaaaaa")),
    responses(
        (status = 200, description = "The request.", body = serde_json::Map<String, Value>),
        openapi::ReadProblems,
        openapi::NotFoundProblem
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn show(
    State(state): State<AppState>,
    Path(id): Path<String>,
    system: CallingSystem,
    person: Person,
) -> Result<Response, Problem> {
    admit(&state, &system, &person)?;
    Ok(answer(StatusCode::OK, &shown(&state, &named(&id)?)?))
}

/// Says something to a request
///
/// `command` is one of acknowledge, challenge, verify, fail-verification, pause, resume, extend, approve, drop-plan, hold,
/// release, exempt, attest, reopen, revoke-link, deny, withdraw, expire. Members of the body: `evidence` (hash of what shows it),
/// `reason` (a code), `level`, `method`, `planHash`, `hold`, `item`, `items`, `basis`, `count`, as the command needs.
///
/// # Errors
/// 400, 401, 403, 404, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/rights/requests/{id}/{command}",
    operation_id = "say_to_rights_request",
    tag = "rights",
    params(
        ("id" = String, Path, description = "Id of the request.", example = "dsr_aaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("command" = String, Path, description = "What is said.", example = "approve")
    ),
    request_body(
        content = serde_json::Map<String, Value>,
        example = json!({ "planHash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" })
    ),
    responses(
        (status = 200, description = "The request afterwards.", body = serde_json::Map<String, Value>),
        openapi::WriteProblems,
        openapi::NotFoundProblem,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn say(
    State(state): State<AppState>,
    Path((id, command)): Path<(String, String)>,
    system: CallingSystem,
    person: Person,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    admit(&state, &system, &person)?;
    let value = body::json(&headers, body, BODY_BYTES_MAX).await?;
    let request = named(&id)?;
    let command = said(&command, &value)?;
    state.rights().say(request.clone(), Some(principal(&person)), command).await.map_err(problem)?;
    Ok(answer(StatusCode::OK, &shown(&state, &request)?))
}

/// Gives a request's certificate
///
/// What became of every task, provable offline with `idtrail verify`. The newest one.
///
/// # Errors
/// 401, 403, 404, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/rights/requests/{id}/certificate",
    operation_id = "rights_certificate",
    tag = "rights",
    params(("id" = String, Path, description = "Id of the request.", example = "dsr_aaaaaaaaaaaaaaaaaaaaaaaaaa")),
    responses(
        (status = 200, description = "The certificate.", body = serde_json::Map<String, Value>),
        openapi::ReadProblems,
        openapi::NotFoundProblem
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn certificate(
    State(state): State<AppState>,
    Path(id): Path<String>,
    system: CallingSystem,
    person: Person,
) -> Result<Response, Problem> {
    admit(&state, &system, &person)?;
    let (request, rights) = (named(&id)?, std::sync::Arc::clone(state.rights()));
    let file = blocking(move || rights.certificate(&request, None).map_err(problem)).await?;
    let file = file.ok_or_else(|| Problem::not_found("the request has no certificate, or not yet"))?;
    Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], file).into_response())
}

pub(super) fn admit(state: &AppState, system: &CallingSystem, person: &Person) -> Result<(), Problem> {
    system.require(&[Role::Dpo])?;
    person.require(&[Role::Dpo])?;
    state.budgets().take_read(system.key_id())
}

/// Returns how a person is named in steps: our own ids are random, those of other issuers may be names and are hashed.
pub(super) fn principal(person: &Person) -> Principal {
    let own = person.id().strip_prefix("person_").and_then(|_| Principal::parse(person.id()).ok());
    own.unwrap_or_else(|| {
        let hash = Digest::of("idtrail/rights/principal/v1", &[person.id().as_bytes()]);
        Principal::parse(&format!("h_{hash}")).expect("hex digits")
    })
}

pub(super) fn named(id: &str) -> Result<RequestId, Problem> {
    RequestId::parse(id).map_err(|_| Problem::not_found("there is no such request"))
}

pub(super) fn code(text: &str) -> Code {
    Code::parse(text).expect("a name")
}

pub(super) fn subjects(state: &AppState, value: &mut Value) -> Result<Vec<Subject>, Problem> {
    let engine = state.engine();
    let raw = value.get_mut("identifier").map(|item| identifier(engine, item));
    let id = value.get("customerIdHash").and_then(Value::as_str);
    match (id.filter(|id| (1..=CUSTOMER_CHARS_MAX).contains(&id.chars().count())), raw) {
        (Some(id), None) => {
            let customer = GlobalCustomerId::try_from(id).ok().map(Subject::Customer);
            let identifiers = readings(engine.hasher(), id).into_iter().map(Subject::Identifier);
            Ok(customer.into_iter().chain(identifiers).collect())
        }
        (None, Some(Ok(Given { sighting: Ok(seen), .. }))) => Ok(vec![Subject::Identifier(seen.identifier)]),
        (None, Some(Ok(_))) => Err(invalid("/identifier", "it names nobody, such as a withheld number")),
        (None, Some(Err(message))) => Err(invalid("/identifier", message)),
        (Some(_), Some(_)) => Err(invalid("/identifier", "send it or customerIdHash, not both")),
        (None, None) => Err(invalid("/customerIdHash", "it is missing or not a text of 1 to 256 characters")),
    }
}

pub(super) fn invalid(pointer: &str, message: &'static str) -> Problem {
    Problem::invalid(vec![wrong(pointer, message)])
}

pub(super) fn optional<T: DeserializeOwned>(value: &Value, name: &str) -> Result<Option<T>, Problem> {
    let Some(member) = value.get(name).filter(|member| !member.is_null()) else { return Ok(None) };
    let read = T::deserialize(member);
    read.map(Some).map_err(|_| invalid(&format!("/{name}"), "it is not of the form that this needs"))
}

pub(super) fn member<T: DeserializeOwned>(value: &Value, name: &str) -> Result<T, Problem> {
    optional(value, name)?.ok_or_else(|| invalid(&format!("/{name}"), "it is missing"))
}

fn said(command: &str, value: &Value) -> Result<Command, Problem> {
    let evidence = || member::<Digest>(value, "evidence");
    let reason = || member::<Code>(value, "reason");
    let method = || member::<Code>(value, "method");
    let level = || member::<Level>(value, "level");
    let item = || member::<ItemName>(value, "item");
    let hold = || member::<HoldName>(value, "hold");
    let plan = || member::<Digest>(value, "planHash");
    Ok(match command {
        "acknowledge" => Command::Acknowledge(evidence()?),
        "challenge" => Command::Challenge(level()?, method()?),
        "verify" => Command::Verify(level()?, method()?, evidence()?),
        "fail-verification" => Command::FailVerification(method()?),
        "pause" => Command::Pause(reason()?, evidence()?),
        "resume" => Command::Resume,
        "extend" => Command::Extend(reason()?, evidence()?),
        "approve" => Command::Approve(plan()?),
        "drop-plan" => Command::DropPlan(plan()?, reason()?),
        "hold" => Command::SetHold(hold()?, member(value, "items")?, reason()?),
        "release" => Command::ReleaseHold(hold()?),
        "exempt" => Command::Exempt(item()?, member::<Basis>(value, "basis")?, evidence()?),
        "attest" => Command::Attest(item()?, member(value, "count")?, evidence()?),
        "reopen" => Command::Reopen(item()?),
        "deny" => Command::Deny(reason()?, evidence()?),
        "revoke-link" => Command::RevokeLink,
        "withdraw" => Command::Withdraw(evidence()?),
        "expire" => Command::Expire,
        _ => return Err(Problem::not_found("there is no such command")),
    })
}

pub(super) fn shown(state: &AppState, request: &RequestId) -> Result<Value, Problem> {
    let shown = state.rights().read(|cases, rules| {
        let mut found = cases.filter(|(case, _)| case.request == *request);
        found.next().map(|(case, steps)| view(case, steps, rules))
    });
    shown.map_err(problem)?.ok_or_else(|| Problem::not_found("there is no such request"))
}

fn view(case: &Case, steps: &[Logged], rules: &Rules) -> Value {
    let day = |due: Option<idtrail_rights::Due>| due.map(|due| due.date.to_string());
    let dates = rules.regime(&case.received.regime);
    let dates = dates.and_then(|regime| case.clock.dates(regime, &rules.calendar).ok());
    let items: Map<String, Value> = case
        .items
        .iter()
        .map(|(name, item)| {
            let status = case.status(item);
            let shown = json!({
                "system": item.plan.system, "method": item.plan.method, "found": item.plan.count,
                "status": status.name(), "reason": status.reason(), "done": item.done,
            });
            (name.to_string(), shown)
        })
        .collect();
    let plan = case.plan.as_ref().map(|(plan, hash, needed)| {
        json!({
            "hash": hash, "identifiers": plan.identifiers, "interactions": plan.interactions,
            "sharedExcluded": plan.shared_excluded, "approvals": case.approvals, "approvalsNeeded": needed,
        })
    });
    json!({
        "requestId": case.request,
        "kind": case.kind(),
        "regime": case.received.regime,
        "state": case.shown_state(),
        "receivedOn": case.received.received_on,
        "subjectRef": case.received.subject_ref,
        "recordId": subject_of(case.received.subject_ref).to_string(),
        "verification": { "needed": case.received.verification, "shown": case.level, "failures": case.failures },
        "dates": {
            "acknowledge": dates.and_then(|dates| day(dates.acknowledge)),
            "respond": dates.and_then(|dates| day(dates.respond)),
            "extend": dates.and_then(|dates| day(dates.extend)),
        },
        "plan": plan,
        "items": items,
        "holds": case.holds.keys().collect::<Vec<_>>(),
        "attached": case.attached,
        "certificates": case.certificates,
        "outcome": case.state.is_closed().then(|| case.outcome().name()),
        "delivery": case.kind().is_reading().then(|| json!({
            "package": case.delivery.package, "redacted": case.delivery.reviewed,
            "expiresAt": case.delivery.link.map(|(until_ms, _)| idtrail_event::time_text(until_ms)),
            "fetches": case.delivery.fetches, "fetchesMax": case.delivery.link.map(|(_, max)| max),
        })),
        "stragglers": case.items.values().map(|item| item.stragglers).sum::<u64>(),
        "steps": steps.iter().map(|logged| json!({
            "step": logged.entry.step.name(), "at": idtrail_event::time_text(logged.entry.at_ms),
            "actor": logged.entry.actor, "index": logged.place.index.get(),
        })).collect::<Vec<_>>(),
    })
}

pub(super) fn problem(error: SayError) -> Problem {
    match error {
        SayError::Unknown => Problem::not_found("there is no such request"),
        SayError::Correction(wrong) => invalid(
            "/corrections",
            match wrong {
                Wrong::NotTheirs => "it names a leaf that is not one of the person's, or whose key is gone",
                Wrong::NotAnEvent => "it names a leaf that is no event that a client sent",
                Wrong::Pointer => "a pointer leads to no member of the event",
                Wrong::Invalid => "the corrected event is not one that would be taken",
                Wrong::Same => "the corrected event is the same as the one that stands there",
            },
        ),
        SayError::Refused(Refusal::Busy) => {
            Problem::unavailable("a step of the request is being written; repeat", 1)
        }
        SayError::Refused(refusal) => Problem::conflict(match refusal {
            Refusal::State(_) => "the request's state does not allow this",
            Refusal::PlanChanged => "the plan is not the one that was shown; look at it again",
            Refusal::SamePrincipal => "a second, different person must approve",
            Refusal::TooManyFailures => "the requester has failed too often to show who they are",
            Refusal::NotInRegime => "the regime of the request does not allow this",
            Refusal::TooLate => "it is too late for this",
            Refusal::Already => "this was done already",
            Refusal::NotFound => "the request has no such item or hold",
            Refusal::Item(_) => "the item does not stand so that this can be said of it",
            Refusal::Clock => "the request's regime or a date of it is not known here",
            _ => "the request does not take this",
        }),
        SayError::Trouble(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a request could not be changed or read"
            );
            Problem::unavailable("the request cannot be changed or read now", 5)
        }
        SayError::Unavailable => Problem::unavailable("the requests are being read, or too much waits", 1),
    }
}
