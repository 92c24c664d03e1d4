//! `POST /api/v1/compliance/dsar/audit-trail`: every event of a customer, as an evidence package.
//!
//! Both credentials are needed: the API key says which system calls, the token which person acts. The answer is read
//! at exactly one size S of the log, after everything that it needs has caught up with S; if that takes too long the
//! answer is 503, never a shorter list. What was not asked is named in `coverage`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use idtrail_event::GlobalCustomerId;
use idtrail_index::seal::OpenError;
use idtrail_log::LogError;
use idtrail_log::reader::Head;
use idtrail_tlog::LogIndex;
use idtrail_verify::{
    AsOf, Coverage, Customer, DateRange, EventKeys, EvidenceEvent, FORMAT, Package, Request,
    SignedCheckpoint, SystemCoverage, SystemStatus, sign_manifest,
};
use jiff::Timestamp;
use serde_json::Value;

use super::{AppState, body};
use crate::auth::{CallingSystem, Person};
use crate::credentials::Role;
use crate::engine::Engine;
use crate::engine::origins::View;
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
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
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
    let query = Query::read(&value).map_err(Problem::invalid)?;
    let engine = Arc::clone(state.engine());
    let timeout = state.request_timeout();
    let answer = tokio::task::spawn_blocking(move || {
        // Earlier logs are final; only the last one may have to be waited for.
        let logs: Vec<(View<'_>, Head)> =
            engine.logs().into_iter().map(|log| (log, log.reader.head())).collect();
        if let Some((_, newest)) = logs.last()
            && !engine.log().applied().wait(newest.size, timeout)
        {
            return Err(Problem::unavailable("the index has not caught up with the log", 1));
        }
        package(&engine, &logs, query).map_err(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a request for access could not be answered"
            );
            Problem::unavailable("an event could not be read", 5)
        })
    });
    let package = answer.await.map_err(|_| Problem::internal())??;
    let body = serde_json::to_vec(&package).map_err(|_| Problem::internal())?;
    Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body).into_response())
}

struct Query {
    request: Request,
    /// First and last millisecond since 1970 that are asked for.
    range_ms: Option<(i64, i64)>,
}

impl Query {
    fn read(value: &Value) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let customer =
            text("customerIdHash").filter(|id| (1..=CUSTOMER_CHARS_MAX).contains(&id.chars().count()));
        if customer.is_none() {
            errors.push(wrong("/customerIdHash", "it is missing or not a text of 1 to 256 characters"));
        }
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
                    customer_id_hash: customer.to_owned(),
                    request_type: "ACCESS".to_owned(),
                    date_range,
                },
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

fn package(engine: &Engine, logs: &[(View<'_>, Head)], query: Query) -> Result<Package, AnswerError> {
    let id = query.request.customer_id_hash.as_str();
    let subject = match GlobalCustomerId::try_from(id) {
        Ok(subject) if has_events(logs, subject)? => Some(subject),
        Ok(_) | Err(_) => engine.customer(&engine.hasher().customer(id))?,
    };
    let mut events = Vec::new();
    let mut closed: u64 = 0;
    for (log, head) in logs {
        let indices = subject.map(|subject| log.lookup.subject(subject)).transpose()?.unwrap_or_default();
        for index in indices.into_iter().filter(|index| index.get() < head.size.get()) {
            match event(log, head, index, query.range_ms) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => {}
                // Its key was destroyed: it is nobody's event any more, and is not counted among the answers.
                Err(AnswerError::Open(OpenError::Key(_))) => closed += 1,
                Err(error) => return Err(error),
            }
        }
    }
    let own = SystemCoverage {
        system: "idtrail".to_owned(),
        status: SystemStatus::Answered,
        events: events.len() as u64,
        reason: (closed > 0).then(|| "the keys of further events were destroyed".to_owned()),
    };
    let waiting = quarantined(engine, id, subject)?;
    let quarantine = SystemCoverage {
        system: "idtrail-quarantine".to_owned(),
        status: SystemStatus::Answered,
        events: waiting,
        reason: (waiting > 0)
            .then(|| "events that were refused wait to be corrected; see /api/v1/quarantine".to_owned()),
    };
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
        customer: subject
            .map(|subject| Customer { global_customer_id: subject.to_string(), tier: "VERIFIED".to_owned() }),
        as_of: logs.iter().map(as_of).collect(),
        checkpoints: logs.iter().map(checkpoint).collect(),
        coverage: Coverage { complete: true, systems: vec![own, quarantine] },
        events,
        manifest: None,
    };
    sign_manifest(&mut package, engine.evidence_signer())?;
    Ok(package)
}

/// Counts the events of a customer that are in the quarantine: by the id that was asked for, or by an id of this
/// customer.
fn quarantined(engine: &Engine, id: &str, subject: Option<GlobalCustomerId>) -> Result<u64, AnswerError> {
    let asked = engine.hasher().customer(id);
    let mut count = 0;
    for (customer, entries) in engine.quarantine().customers() {
        if customer == asked || subject.is_some() && engine.customer(&customer)? == subject {
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
    log: &View<'_>,
    head: &Head,
    index: LogIndex,
    range_ms: Option<(i64, i64)>,
) -> Result<Option<EvidenceEvent>, AnswerError> {
    let reader = log.reader;
    let bytes = reader.entry(index)?;
    let disclosed = log.open_leaf(index, &bytes)?;
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
    Ok(Some(EvidenceEvent::new(log.name, index, &bytes, &disclosed.leaf, keys, &proof)))
}
