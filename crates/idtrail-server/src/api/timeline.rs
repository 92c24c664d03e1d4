//! `GET /api/v1/customers/{gcid}/timeline` and `…/aliases`: what happened to a customer, in the order of the log.
//!
//! A timeline holds the customer's interactions and what was decided about the customer: merges, splits, conflicts. A split
//! says which answers to requests for access it affects: those that were given for the customer while it was whole, because
//! they may have shown somebody else's events. They are found in the access log, so they need not be written anywhere twice.
//!
//! What it must never do: show an interaction that may be somebody else's, or one whose key was destroyed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::StatusCode;
use idtrail_event::{GlobalCustomerId, OpenLeaf, TypeCode, time_text};
use idtrail_identity::assertion::Subject;
use idtrail_identity::read::{Closure, Interaction};
use idtrail_index::seal::OpenError;
use idtrail_log::{LogError, Reference};
use idtrail_tlog::LogIndex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::customers::{admit, named, one, problem};
use super::disclosure::{Reader, Route, Shown, disclose};
use super::identity::durably;
use super::{AppState, answer, read};
use crate::credentials::Role;
use crate::engine::Engine;
use crate::engine::origins::View;
use crate::openapi;
use crate::problem::Problem;

const PAGE_MAX: usize = 1_000;
/// Answers to requests for access that one split lists.
const AFFECTED_MAX: usize = 100;
/// What is decided about customers, each a leaf of the customers concerned.
const DECISIONS: [TypeCode; 4] = [
    TypeCode::IDENTITY_MERGE,
    TypeCode::IDENTITY_SPLIT,
    TypeCode::IDENTITY_CONFLICT,
    TypeCode::IDENTITY_PROMOTION,
];

/// Which part of a timeline.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Where the page before ended.
    pub after: Option<String>,
    /// Most entries, 1 to 1,000.
    pub limit: Option<usize>,
}

/// Shows what happened to a customer
///
/// In the order of the log: interactions, and what was decided about the customer. A split lists the answers to requests for
/// access that it affects.
///
/// # Errors
/// 400, 401, 403, 404, 410, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/customers/{gcid}/timeline",
    operation_id = "customer_timeline",
    tag = "identity",
    params(
        openapi::Purpose,
        ("gcid" = String, Path, description = "Any id of the customer.", example = "gc_aaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("after" = Option<String>, Query, description = "Where the page before ended: its `next`.", nullable = false),
        ("limit" = Option<usize>, Query, description = "Most entries, 1 to 1,000. Without it 100.", nullable = false, minimum = 1, maximum = 1000)
    ),
    responses(
        (status = 200, description = "A page of the timeline.", body = serde_json::Map<String, Value>),
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
pub async fn timeline(
    State(state): State<AppState>,
    reader: Reader,
    Path(gcid): Path<String>,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<Response, Problem> {
    let gcid = admit(&state, &reader, &gcid)?;
    let Query(part) = part?;
    let limit = part.limit.unwrap_or(100);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::malformed_request("limit must be 1 to 1000"));
    }
    let start = read::start(&state.engine().line(), part.after.as_deref())?;
    let timeout = state.request_timeout();
    let route = Route { operation: "customer_timeline", purpose: "AUDIT" };
    let may_know = reader.is(Role::Dpo);
    let page = disclose(state.engine(), &reader, route, move |engine, shown| {
        let (closure, next) = engine.identity().read(|known| {
            named(known, gcid)?;
            known.closure(&Subject::Customer(gcid))
        });
        durably(engine, next, timeout)?;
        let closure = closure.map_err(|error| problem(engine, may_know.then_some(gcid), &error))?;
        shown.at(engine.origin(), engine.numbering().size_in_newest(next).get());
        shown.about(Some(closure.customer.gcid));
        page(engine, shown, &closure, (start, limit), timeout)
    });
    Ok(answer(StatusCode::OK, &page.await?))
}

/// Lists the ids of a customer
///
/// The id of today and all others that lead to it.
///
/// # Errors
/// 400, 401, 403, 404, 410, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/customers/{gcid}/aliases",
    operation_id = "customer_aliases",
    tag = "identity",
    params(openapi::Purpose, ("gcid" = String, Path, description = "Any id of the customer.", example = "gc_aaaaaaaaaaaaaaaaaaaaaaaaaa")),
    responses(
        (status = 200, description = "The ids.", body = serde_json::Map<String, Value>),
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
pub async fn aliases(
    State(state): State<AppState>,
    reader: Reader,
    Path(gcid): Path<String>,
) -> Result<Response, Problem> {
    let gcid = admit(&state, &reader, &gcid)?;
    let shown = one(&state, &reader, ("customer_aliases", gcid), move |_, known| {
        named(known, gcid)?;
        let customer = known.customer(&gcid)?;
        let aliases = customer.aliases.iter().map(ToString::to_string).collect::<Vec<_>>();
        Ok((customer.gcid, json!({ "gcid": customer.gcid.to_string(), "aliases": aliases })))
    });
    Ok(answer(StatusCode::OK, &shown.await?))
}

fn page(
    engine: &Engine,
    shown: &mut Shown,
    closure: &Closure,
    (start, limit): (u64, usize),
    timeout: Duration,
) -> Result<Value, Problem> {
    let line = engine.line();
    let interactions: BTreeMap<Reference, &Interaction> =
        closure.interactions.iter().map(|one| (engine.numbering().place(one.index), one)).collect();
    let ids: BTreeSet<GlobalCustomerId> =
        std::iter::once(closure.customer.gcid).chain(closure.customer.aliases.iter().copied()).collect();
    let mut entries = Vec::new();
    let (mut before, mut erased) = (0, 0_u64);
    let mut next = line.total();
    let mut more = false;
    'logs: for log in line.logs() {
        let mut places: BTreeSet<LogIndex> = interactions
            .keys()
            .filter(|place| place.origin == log.ordinal)
            .map(|place| place.index)
            .collect();
        for id in &ids {
            places.extend(log.lookup.subject(*id).map_err(|error| unreadable(&error))?);
        }
        shown.at(log.name, log.reader.size().get());
        for index in places {
            let count = before + index.get();
            if count < start {
                continue;
            }
            if entries.len() == limit {
                (next, more) = (count, true);
                break 'logs;
            }
            let Some(leaf) = open(&log, index)? else {
                erased += 1;
                continue;
            };
            let interaction = interactions.get(&Reference { origin: log.ordinal, index });
            let Some(entry) = entry(engine, (&log, index), &leaf, interaction.copied(), timeout)? else {
                continue;
            };
            shown.leaf(leaf.subject, index);
            entries.push(entry);
        }
        before += log.reader.size().get();
    }
    Ok(json!({
        "gcid": closure.customer.gcid.to_string(),
        "entries": entries,
        "erased": erased,
        "ambiguous": closure.ambiguous,
        "next": line.cursor(next),
        "more": more,
    }))
}

/// Returns a leaf as the timeline shows it; `None` for what is neither an interaction of the customer today nor a decision.
fn entry(
    engine: &Engine,
    (log, index): (&View<'_>, LogIndex),
    leaf: &OpenLeaf,
    interaction: Option<&Interaction>,
    timeout: Duration,
) -> Result<Option<Value>, Problem> {
    let event = leaf.body.get("auditEvent");
    let member = |name: &str| event.and_then(|event| event.get(name)).cloned().unwrap_or(Value::Null);
    let mut shown = json!({
        "origin": log.name,
        "index": index.get(),
        "eventType": member("eventType"),
        "timestamp": member("timestamp"),
        "receivedAt": time_text(leaf.received_ms),
    });
    let Some(members) = shown.as_object_mut() else { return Ok(None) };
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    if let Some(interaction) = interaction {
        put("interactionId", member("interactionId"));
        put("channelType", member("channelType"));
        put("tier", interaction.tier.name().into());
        put("believed", interaction.believed.to_string().into());
        return Ok(Some(shown));
    }
    let is_decision = DECISIONS.contains(&leaf.header.event_type)
        && leaf.header.source == idtrail_event::SourceCode::SYSTEM;
    if !is_decision {
        return Ok(None);
    }
    let mut decision = member("identity");
    if leaf.header.event_type == TypeCode::IDENTITY_SPLIT
        && let Some(from) = decision.get("from").and_then(Value::as_str)
        && let Ok(from) = GlobalCustomerId::try_from(from)
        && let Value::Object(members) = &mut decision
    {
        let affected = affected_requests(engine, from, leaf.received_ms, timeout)?;
        members.insert("affectedRequests".to_owned(), affected.into());
    }
    put("identity", decision);
    Ok(Some(shown))
}

/// Finds the answers to requests for access that were given for a customer before it was split: at most 100, oldest first.
pub(super) fn affected_requests(
    engine: &Engine,
    from: GlobalCustomerId,
    until_ms: u64,
    timeout: Duration,
) -> Result<Vec<Value>, Problem> {
    let access = engine.access();
    if !access.log().applied().wait(access.reader().size(), timeout) {
        return Err(Problem::unavailable("the index has not caught up with the access log", 1));
    }
    let mut affected = Vec::new();
    for log in access.line().logs() {
        for index in log.lookup.subject(from).map_err(|error| unreadable(&error))? {
            let Some(leaf) = open(&log, index)? else { continue };
            let operation = leaf.body.get("auditEvent").and_then(|event| event.get("operation"));
            let answered = operation.and_then(Value::as_str) == Some("audit_trail");
            if !answered || leaf.received_ms > until_ms {
                continue;
            }
            affected.push(json!({
                "origin": log.name,
                "index": index.get(),
                "receivedAt": time_text(leaf.received_ms),
            }));
            if affected.len() == AFFECTED_MAX {
                return Ok(affected);
            }
        }
    }
    Ok(affected)
}

/// Opens a leaf; `None` if its key was destroyed.
fn open(log: &View<'_>, index: LogIndex) -> Result<Option<OpenLeaf>, Problem> {
    let bytes = log.reader.entry(index).map_err(|error| unreadable(&error))?;
    match log.open_leaf(index, &bytes) {
        Ok(disclosed) => Ok(Some(disclosed.leaf)),
        Err(OpenError::Key(_)) => Ok(None),
        Err(OpenError::Leaf(_)) => Err(unreadable(&LogError::Bug { what: "a leaf cannot be opened" })),
    }
}

fn unreadable(error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error, "a timeline cannot be read");
    Problem::unavailable("the timeline cannot be read", 5)
}
