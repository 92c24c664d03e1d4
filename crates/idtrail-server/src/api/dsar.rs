//! `POST /api/v1/compliance/dsar/audit-trail`: every event of a customer, as an evidence package.
//!
//! Both credentials are needed: the API key says which system calls, the token which person acts. The answer is read
//! at exactly one size S of the log, after everything that it needs has caught up with S; if that takes too long the
//! answer is 503, never a shorter list. What was not asked is named in `coverage`.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use idtrail_event::{GlobalCustomerId, OpenLeaf};
use idtrail_identity::assertion::Subject;
use idtrail_identity::read::Closure;
use idtrail_identity::{State as Known, Tier};
use idtrail_index::identity::observation_id;
use idtrail_index::seal::OpenError;
use idtrail_index::trail::Trail;
use idtrail_log::reader::Head;
use idtrail_log::shell::Log;
use idtrail_log::{LogError, Reference};
use idtrail_tlog::LogIndex;
use idtrail_verify::{
    AccessPart, AsOf, Coverage, Customer, DateRange, EventKeys, EvidenceEvent, FORMAT, Package, Request,
    SignedCheckpoint, SystemCoverage, SystemStatus, sign_manifest,
};
use jiff::Timestamp;
use serde_json::Value;

use super::disclosure::{Reader, Route, Shown, disclose};
use super::identity::{Given, durably, identifier, readings};
use super::{AppState, body};
use crate::auth::{CallingSystem, Person};
use crate::credentials::Role;
use crate::engine::Engine;
use crate::engine::origins::{Line, View};
use crate::openapi::{self, schema};
use crate::problem::{FieldError, Problem};

const BODY_BYTES_MAX: usize = 4096;
const CUSTOMER_CHARS_MAX: usize = 256;

/// Gives everything that is held about a customer
///
/// All events of a customer with their keys and proofs, as a file that verifies offline. Both credentials are needed:
/// the key says which system calls, the token which person acts.
///
/// # Errors
/// 400, 401, 403, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/compliance/dsar/audit-trail",
    tag = "rights",
    request_body(
        content = schema::AccessRequest,
        example = json!({
            "customerIdHash": "cust_hash_9f86d08",
            "requestType": "ACCESS",
            "dateRange": { "start": "2023-01-01T00:00:00Z", "end": "2023-12-31T23:59:59Z" }
        })
    ),
    responses(
        (status = 200, description = "Everything that is held.", body = schema::EvidencePackage),
        openapi::WriteProblems
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(
        ("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })),
        ("x-idtrail-discloses" = json!(true))
    )
)]
pub async fn audit_trail(
    State(state): State<AppState>,
    system: CallingSystem,
    person: Person,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    system.require(&[Role::Dpo])?;
    person.require(&[Role::Dpo])?;
    state.budgets().take_read(system.key_id())?;
    let value = body::json(&headers, body, BODY_BYTES_MAX).await?;
    let query = Query::read(state.engine(), value).map_err(Problem::invalid)?;
    let timeout = state.request_timeout();
    let reader = Reader::of(system, person);
    let route = Route { operation: "audit_trail", purpose: "ACCESS_REQUEST" };
    let package = disclose(state.engine(), &reader, route, move |engine, shown| {
        let (found, next) = engine.identity().read(|known| whose(known, &query.subjects));
        durably(engine, next, timeout)?;
        // Earlier logs are final; only the last one of each kind may have to be waited for.
        let heads = |line: Line<'_>| line.logs().map(|log| log.reader.head()).collect::<Vec<_>>();
        let (line, accesses) = (engine.line(), engine.access().line());
        let logs: Vec<_> = line.logs().zip(heads(line.clone())).collect();
        let accesses: Vec<_> = accesses.logs().zip(heads(accesses.clone())).collect();
        let current = |logs: &[(View<'_>, Head)], log: &Log<Trail>| {
            logs.last().is_none_or(|(_, head)| log.applied().wait(head.size, timeout))
        };
        if !current(&logs, engine.log()) || !current(&accesses, engine.access().log()) {
            return Err(Problem::unavailable("the index has not caught up with the log", 1));
        }
        package(engine, shown, (&logs, &accesses), query, found).map_err(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a request for access could not be answered"
            );
            Problem::unavailable("an event could not be read", 5)
        })
    });
    let body = serde_json::to_vec(&package.await?).map_err(|_| Problem::internal())?;
    Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body).into_response())
}

struct Query {
    request: Request,
    /// Whom the request may mean, the likeliest first.
    subjects: Vec<Subject>,
    /// First and last millisecond since 1970 that are asked for.
    range_ms: Option<(i64, i64)>,
}

impl Query {
    /// Reads a request. A raw identifier is wiped before this returns; its token stands in its place.
    fn read(engine: &Engine, mut value: Value) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let raw = value.get_mut("identifier").map(|item| identifier(engine, item));
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let named =
            text("customerIdHash").filter(|id| (1..=CUSTOMER_CHARS_MAX).contains(&id.chars().count()));
        let mut subjects = Vec::new();
        let customer = match (named, raw) {
            (Some(id), None) => {
                subjects.extend(GlobalCustomerId::try_from(id).ok().map(Subject::Customer));
                subjects.extend(readings(engine.hasher(), id).into_iter().map(Subject::Identifier));
                Some(id.to_owned())
            }
            (None, Some(Ok(Given { sighting: Ok(seen), .. }))) => {
                subjects.push(Subject::Identifier(seen.identifier));
                Some(seen.identifier.token.to_string())
            }
            (None, Some(Ok(_))) => {
                errors.push(wrong("/identifier", "it names nobody, such as a withheld number"));
                None
            }
            (None, Some(Err(message))) => {
                errors.push(wrong("/identifier", message));
                None
            }
            (Some(_), Some(_)) => {
                errors.push(wrong("/identifier", "send it or customerIdHash, not both"));
                None
            }
            (None, None) => {
                errors.push(wrong("/customerIdHash", "it is missing or not a text of 1 to 256 characters"));
                None
            }
        };
        if text("requestType") != Some("ACCESS") {
            errors.push(wrong("/requestType", "this route answers requests of the type ACCESS"));
        }
        let mut date_range = None;
        let mut range_ms = None;
        if let Some(range) = value.get("dateRange").filter(|range| !range.is_null()) {
            let time = |name: &str| {
                let text = range.get(name).and_then(Value::as_str)?;
                Some((text.to_owned(), text.parse::<Timestamp>().ok()?.as_millisecond()))
            };
            match (time("start"), time("end")) {
                (Some((start, from)), Some((end, to))) if from <= to => {
                    date_range = Some(DateRange { start, end });
                    range_ms = Some((from, to));
                }
                _ => errors
                    .push(wrong("/dateRange", "start and end must be RFC 3339 times, start not after end")),
            }
        }
        match customer {
            Some(customer) if errors.is_empty() => Ok(Self {
                request: Request {
                    customer_id_hash: customer,
                    request_type: "ACCESS".to_owned(),
                    date_range,
                },
                subjects,
                range_ms,
            }),
            _ => Err(errors),
        }
    }
}

fn wrong(pointer: &str, message: &'static str) -> FieldError {
    FieldError::new(pointer, "invalid", message, "see the documentation of this route")
}

#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("the log could not be read")]
    Log(#[from] LogError),
    #[error("the index could not be read")]
    Index(#[from] idtrail_index::IndexError),
    #[error("a leaf could not be opened")]
    Open(#[from] OpenError),
    #[error("the package could not be signed")]
    Sign(#[from] idtrail_verify::SignError),
}

/// Finds everything of the person whom a request means.
fn whose(known: &Known, subjects: &[Subject]) -> Option<Closure> {
    subjects.iter().find_map(|subject| known.closure(subject).ok())
}

/// Where a person's events may be, and what identity says of them.
struct Scope {
    /// Every id of the person; the first is the one of today.
    ids: Vec<GlobalCustomerId>,
    places: BTreeSet<Reference>,
    tiers: BTreeMap<Reference, Tier>,
    ambiguous: u32,
}

fn scope(
    engine: &Engine,
    logs: &[(View<'_>, Head)],
    id: &str,
    found: Option<Closure>,
) -> Result<Scope, AnswerError> {
    let (mut ids, mut tiers, mut ambiguous) = (Vec::new(), BTreeMap::new(), 0);
    match found {
        Some(closure) => {
            ids.push(closure.customer.gcid);
            ids.extend(closure.customer.aliases);
            let place = |number| engine.numbering().place(number);
            tiers.extend(closure.interactions.iter().map(|one| (place(one.index), one.tier)));
            ambiguous = closure.ambiguous;
        }
        // Events that say nothing about identity have ids that only the index knows.
        None => match GlobalCustomerId::try_from(id) {
            Ok(subject) if has_events(logs, subject)? => ids.push(subject),
            Ok(_) | Err(_) => {}
        },
    }
    let mut places: BTreeSet<Reference> = tiers.keys().copied().collect();
    for (log, _) in logs {
        for id in &ids {
            let indices = log.lookup.subject(*id)?.into_iter();
            places.extend(indices.map(|index| Reference { origin: log.ordinal, index }));
        }
    }
    Ok(Scope { ids, places, tiers, ambiguous })
}

impl Scope {
    /// Tells whether an event under one of the person's ids is still the person's: what identity rests on may have turned
    /// out to be somebody else's since.
    fn holds(&self, engine: &Engine, place: Reference, leaf: &OpenLeaf) -> bool {
        if self.tiers.contains_key(&place) {
            return true;
        }
        let observation = engine.hasher().facts(leaf).event.map(|event| observation_id(&event.dedupe));
        let moved = |known: &Known| observation.is_some_and(|id| known.whose(&id).is_some());
        !engine.identity().read(moved).0
    }
}

/// Logs, oldest first, each with the tree at which it is read.
type Heads<'a> = [(View<'a>, Head)];

fn package(
    engine: &Engine,
    shown: &mut Shown,
    (logs, accesses): (&Heads<'_>, &Heads<'_>),
    query: Query,
    found: Option<Closure>,
) -> Result<Package, AnswerError> {
    let id = query.request.customer_id_hash.as_str();
    let mut scope = scope(engine, logs, id, found)?;
    let subject = scope.ids.first().copied();
    if let Some((log, head)) = logs.last() {
        shown.at(log.name, head.size.get());
    }
    // That somebody is known here, or not, is an answer too.
    shown.about(subject);
    let mut events = Vec::new();
    let mut closed: u64 = 0;
    let mut probable: u64 = 0;
    for (log, head) in logs {
        shown.at(log.name, head.size.get());
        let here = |place: &Reference| place.origin == log.ordinal && place.index.get() < head.size.get();
        for place in scope.places.clone().into_iter().filter(here) {
            match event(engine, (log, head), place, query.range_ms, &scope) {
                Ok(Some((event, named))) => {
                    // Under the id that the leaf names, so that it is found when that leaf is erased.
                    shown.leaf(Some(named), place.index);
                    events.push(event);
                    let proved = scope.tiers.get(&place).is_none_or(|tier| *tier == Tier::Verified);
                    probable += u64::from(!proved);
                    if !scope.ids.contains(&named) {
                        scope.ids.push(named);
                    }
                }
                Ok(None) => {}
                // Its key was destroyed: it is nobody's event any more, and is not counted among the answers.
                Err(AnswerError::Open(OpenError::Key(_))) => closed += 1,
                Err(error) => return Err(error),
            }
        }
    }
    let mut reasons = Vec::new();
    if closed > 0 {
        reasons.push("the keys of further events were destroyed".to_owned());
    }
    if probable > 0 {
        reasons.push(format!(
            "{probable} events are the person's by all that is known, but not proved: review them"
        ));
    }
    if scope.ambiguous > 0 {
        let count = scope.ambiguous;
        reasons.push(format!("{count} events may be this person's or somebody else's and are not shown"));
    }
    let own = SystemCoverage {
        system: "idtrail".to_owned(),
        status: SystemStatus::Answered,
        events: events.len() as u64,
        reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
    };
    let waiting = quarantined(engine, id, &scope.ids)?;
    let quarantine = SystemCoverage {
        system: "idtrail-quarantine".to_owned(),
        status: SystemStatus::Answered,
        events: waiting,
        reason: (waiting > 0)
            .then(|| "events that were refused wait to be corrected; see /api/v1/quarantine".to_owned()),
    };
    let mut parts = match subject {
        Some(_) => {
            accesses.iter().map(|log| self::accesses(log, &scope.ids)).collect::<Result<Vec<_>, _>>()?
        }
        None => Vec::new(),
    };
    let newest = parts.pop();
    let earlier = parts.into_iter().filter(|part| !part.events.is_empty()).collect();
    let as_of = |(log, head): &(View<'_>, Head)| AsOf {
        origin: log.name.to_owned(),
        size: head.size.get(),
        root_hash: head.root.to_string(),
    };
    let checkpoint = |(log, head): &(View<'_>, Head)| SignedCheckpoint {
        origin: log.name.to_owned(),
        checkpoint: head.checkpoint.to_string(),
    };
    let mut package = Package {
        format: FORMAT.to_owned(),
        request: query.request,
        customer: subject.map(|subject| Customer {
            global_customer_id: subject.to_string(),
            aliases: scope.ids.iter().skip(1).map(ToString::to_string).collect(),
            tier: if probable > 0 { "PROBABLE" } else { "VERIFIED" }.to_owned(),
        }),
        as_of: logs.iter().map(as_of).collect(),
        checkpoints: logs.iter().map(checkpoint).collect(),
        coverage: Coverage { complete: true, systems: vec![own, quarantine] },
        events,
        earlier_access_logs: earlier,
        access_log: newest,
        manifest: None,
    };
    sign_manifest(&mut package, engine.evidence_signer())?;
    Ok(package)
}

/// Returns who was shown the customer's events before this request, but not which person acted.
fn accesses((log, head): &(View<'_>, Head), ids: &[GlobalCustomerId]) -> Result<AccessPart, AnswerError> {
    let mut events = Vec::new();
    let mut indices = BTreeSet::new();
    for id in ids {
        indices.extend(log.lookup.subject(*id)?);
    }
    for index in indices.into_iter().filter(|index| index.get() < head.size.get()) {
        let bytes = log.reader.entry(index)?;
        let (open, key) = match log.open_without_person(index, &bytes) {
            Ok(open) => open,
            // Its time is over.
            Err(OpenError::Key(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let proof = log.reader.inclusion_proof(index, head.size)?;
        let keys = EventKeys::disclose(&key, None);
        events.push(EvidenceEvent::new(log.name, index, &bytes, &open, keys, &proof));
    }
    let (origin, size) = (log.name.to_owned(), head.size.get());
    let as_of = AsOf { origin, size, root_hash: head.root.to_string() };
    Ok(AccessPart { as_of, checkpoint: head.checkpoint.to_string(), events })
}

/// Counts the events of a customer that are in the quarantine: by the id that was asked for, or by an id of this
/// customer.
fn quarantined(engine: &Engine, id: &str, ids: &[GlobalCustomerId]) -> Result<u64, AnswerError> {
    let asked = engine.hasher().customer(id);
    let mut count = 0;
    for (customer, entries) in engine.quarantine().customers() {
        let owner = engine.customer(&customer)?;
        if customer == asked || owner.is_some_and(|owner| ids.contains(&owner)) {
            count += entries;
        }
    }
    Ok(count)
}

fn has_events(logs: &[(View<'_>, Head)], subject: GlobalCustomerId) -> Result<bool, AnswerError> {
    for (log, _) in logs {
        if !log.lookup.subject_page(subject, LogIndex::new(0), 1)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn event(
    engine: &Engine,
    (log, head): (&View<'_>, &Head),
    place: Reference,
    range_ms: Option<(i64, i64)>,
    scope: &Scope,
) -> Result<Option<(EvidenceEvent, GlobalCustomerId)>, AnswerError> {
    let (reader, index) = (log.reader, place.index);
    let bytes = reader.entry(index)?;
    let disclosed = log.open_leaf(index, &bytes)?;
    let Some(named) = disclosed.leaf.subject.filter(|_| scope.holds(engine, place, &disclosed.leaf)) else {
        return Ok(None);
    };
    if let Some((from, to)) = range_ms {
        let time = disclosed
            .leaf
            .body
            .get("auditEvent")
            .and_then(|event| event.get("timestamp"))
            .and_then(Value::as_str);
        let time = time.and_then(|text| text.parse::<Timestamp>().ok()).map(Timestamp::as_millisecond);
        // An event whose time cannot be told is not left out on a guess.
        if time.is_some_and(|time| time < from || time > to) {
            return Ok(None);
        }
    }
    let proof = reader.inclusion_proof(index, head.size)?;
    let keys = EventKeys::disclose(&disclosed.event_key, disclosed.staff_key.as_ref());
    let event = EvidenceEvent::new(log.name, index, &bytes, &disclosed.leaf, keys, &proof);
    Ok(Some((event, named)))
}
