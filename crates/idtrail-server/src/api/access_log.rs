//! `GET /api/v1/access-log`: who was shown what, for auditors and data protection officers; receipts of it; and the access
//! log's own checkpoint and tiles under `/access/`.
//!
//! Reading the access log is itself an access. A page is searched by customer through the index, and otherwise leaf after
//! leaf, so a filter that fits little gives short pages with a cursor and never a slow answer.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::StatusCode;
use idtrail_event::GlobalCustomerId;
use idtrail_index::seal::OpenError;
use idtrail_log::LogError;
use idtrail_tlog::LogIndex;
use idtrail_verify::{EventKeys, EvidenceEvent};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::disclosure::{Reader, Route, Shown, disclose};
use super::read::WhichLog;
use super::{AppState, answer, blocking, events, read, tiles};
use crate::auth::CallingSystem;
use crate::credentials::Role;
use crate::engine::Engine;
use crate::engine::origins::View;
use crate::openapi::{self, schema};
use crate::problem::Problem;

const READERS: &[Role] = &[Role::Dpo, Role::Auditor];
const PAGE_MAX: usize = 1000;
/// Leaves looked at for one page.
const LOOKED_AT_MAX: u64 = 20_000;

/// Which accesses are wanted.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The `next` of the page before. Without it the list begins with the oldest access.
    #[param(max_length = 256, nullable = false)]
    after: Option<String>,
    /// Most accesses of this page.
    #[param(minimum = 1, maximum = 1000, default = 100, nullable = false)]
    limit: Option<usize>,
    /// The customer whose events were shown: `gc_…`, or the client's own customer id.
    #[param(min_length = 1, max_length = 256, nullable = false)]
    customer: Option<String>,
    /// Id of the person who acted.
    #[param(max_length = 256, nullable = false)]
    person: Option<String>,
    /// Name of the calling system.
    #[param(max_length = 128, nullable = false)]
    system: Option<String>,
    /// Shown at or after this time.
    #[param(format = DateTime, nullable = false)]
    from: Option<String>,
    /// Shown before this time.
    #[param(format = DateTime, nullable = false)]
    to: Option<String>,
}

struct Wanted {
    person: Option<String>,
    system: Option<String>,
    from_ms: Option<u64>,
    to_ms: Option<u64>,
}

/// Lists accesses
///
/// Oldest first: who was shown what of whom, when and why. An access that concerned several customers stands there once for
/// each. A page may be shorter than its limit although there are more. This is an access too, and stands in a later page.
///
/// # Errors
/// 400, 401, 403, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/access-log",
    operation_id = "list_accesses",
    tag = "rights",
    params(openapi::Purpose, Filter),
    responses(
        (status = 200, description = "A page of accesses.", body = schema::AccessPage),
        openapi::RequestProblem,
        openapi::ReadProblems
    ),
    security(("ApiKey" = []), ("ApiKey" = [], "Bearer" = [])),
    extensions(
        ("x-idtrail-roles" = json!({ "ApiKey": ["dpo", "auditor"], "Bearer": ["any"] })),
        ("x-idtrail-discloses" = json!(true))
    )
)]
pub async fn list(
    State(state): State<AppState>,
    reader: Reader,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Problem> {
    reader.admit(&state, READERS)?;
    let Query(filter) = filter?;
    let limit = filter.limit.unwrap_or(100);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::malformed_request("limit must be 1 to 1000"));
    }
    let start = read::start(&state.engine().access().line(), filter.after.as_deref())?;
    let wanted = Wanted {
        from_ms: time(filter.from.as_deref())?,
        to_ms: time(filter.to.as_deref())?,
        person: filter.person,
        system: filter.system,
    };
    let timeout = state.request_timeout();
    let route = Route { operation: "list_accesses", purpose: "AUDIT" };
    let page = disclose(state.engine(), &reader, route, move |engine, shown| {
        let total = engine.access().line().total();
        let size = engine.access().reader().size();
        if filter.customer.is_some() && !engine.access().log().applied().wait(size, timeout) {
            return Err(Problem::unavailable("the index has not caught up with the access log", 1));
        }
        let about = filter.customer.as_deref().map(|id| customer(engine, id)).transpose()?;
        page(engine, shown, &wanted, (start, total, limit), about)
    });
    Ok(answer(StatusCode::OK, &page.await?))
}

/// Gives a receipt for an access
///
/// A proof that the leaf stands in the access log, up to its newest checkpoint.
///
/// # Errors
/// 400, 401, 403, 404, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/access-log/{index}/receipt",
    operation_id = "show_access_receipt",
    tag = "rights",
    params(("index" = u64, Path, description = "Place of the leaf in the access log.", example = 0), WhichLog),
    responses(
        (status = 200, description = "The receipt.", body = schema::Receipt),
        openapi::RequestProblem,
        openapi::ReadProblems
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo", "auditor"] })))
)]
pub async fn receipt(
    State(state): State<AppState>,
    system: CallingSystem,
    index: Result<Path<u64>, PathRejection>,
    which: Result<Query<WhichLog>, QueryRejection>,
) -> Result<Response, Problem> {
    state.admit_reader(&system, READERS)?;
    let Query(WhichLog { origin }) = which?;
    let Path(index) = index.map_err(|_| Problem::malformed_request("the index is not a whole number"))?;
    let access = Arc::clone(state.engine().access());
    let receipt = blocking(move || {
        let line = access.line();
        let log = line.logs().find(|log| log.name == origin.as_deref().unwrap_or(access.origin()));
        let log = log.ok_or_else(|| Problem::not_found("the installation has no such access log"))?;
        if index >= log.reader.size().get() {
            return Err(Problem::not_found("the access log holds no such leaf"));
        }
        events::receipt(&log, LogIndex::new(index), Vec::new()).map_err(|error| unreadable(&error))
    });
    Ok(answer(StatusCode::OK, &json!(receipt.await?)))
}

/// Gives the checkpoint of the access log
///
/// The newest signed tree head, as a signed note (C2SP tlog-checkpoint).
#[utoipa::path(
    get,
    path = "/access/checkpoint",
    operation_id = "access_checkpoint",
    tag = "log",
    responses(
        (status = 200, description = "The signed tree head.", body = String, content_type = "text/plain"),
        openapi::OpenProblems
    ),
    security(())
)]
pub async fn checkpoint(State(state): State<AppState>) -> Response {
    tiles::checkpoint_of(state.engine().access().reader())
}

/// Gives a hash tile of the access log
///
/// A tile of the Merkle tree (C2SP tlog-tiles), such as `/access/tile/0/000`.
///
/// # Errors
/// 404 for anything that the newest tree does not hold.
#[utoipa::path(
    get,
    path = "/access/tile/{*path}",
    operation_id = "access_tile",
    tag = "log",
    params(("path" = String, Path, description = "Level and index of the tile.", example = "0/000.p/2")),
    responses(
        (status = 200, description = "The hashes.", body = Vec<u8>, content_type = "application/octet-stream"),
        openapi::OpenProblems
    ),
    security(())
)]
pub async fn tile(State(state): State<AppState>, Path(path): Path<String>) -> Result<Response, Problem> {
    tiles::tile_of(state.engine().access().reader(), &path).await
}

/// Gives sealed entries of the access log
///
/// Up to 256 sealed leaves (C2SP tlog-tiles), such as `/access/tile/entries/000`.
///
/// # Errors
/// 401, 403 or 429; 404 for anything that the newest tree does not hold.
#[utoipa::path(
    get,
    path = "/access/tile/entries/{*path}",
    operation_id = "access_entries",
    tag = "log",
    params(("path" = String, Path, description = "Index of the bundle.", example = "000.p/2")),
    responses(
        (status = 200, description = "The entries.", body = Vec<u8>, content_type = "application/octet-stream"),
        openapi::ReadProblems
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["auditor", "mirror"] })))
)]
pub async fn entries(
    State(state): State<AppState>,
    system: CallingSystem,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Auditor, Role::Mirror])?;
    tiles::entries_of(state.engine().access().reader(), &path).await
}

fn time(text: Option<&str>) -> Result<Option<u64>, Problem> {
    let time = text.map(str::parse::<Timestamp>).transpose();
    let wrong = |_| Problem::malformed_request("from and to must be RFC 3339 times");
    Ok(time.map_err(wrong)?.map(|time| u64::try_from(time.as_millisecond()).unwrap_or(0)))
}

fn customer(engine: &Engine, id: &str) -> Result<Option<GlobalCustomerId>, Problem> {
    match GlobalCustomerId::try_from(id) {
        Ok(subject) => Ok(Some(subject)),
        Err(_) => engine.customer(&engine.hasher().customer(id)).map_err(|error| no_index(&error)),
    }
}

fn no_index(error: &idtrail_index::IndexError) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "the index cannot be read");
    Problem::unavailable("the index cannot be read", 5)
}

fn unreadable(error: &LogError) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "the access log cannot be read");
    Problem::unavailable("the access log cannot be read", 5)
}

fn page(
    engine: &Engine,
    shown: &mut Shown,
    wanted: &Wanted,
    (start, total, limit): (u64, u64, usize),
    about: Option<Option<GlobalCustomerId>>,
) -> Result<Value, Problem> {
    let line = engine.access().line();
    let mut entries = Vec::new();
    let mut next = start;
    match about {
        None => {
            let end = total.min(start.saturating_add(LOOKED_AT_MAX));
            while next < end && entries.len() < limit {
                let (log, index) = line.locate(next);
                if let Some(entry) = wanted.look(&log, LogIndex::new(index))? {
                    // One leaf for the page: one for each customer would have every look at the log double it.
                    shown.at(log.name, log.reader.size().get());
                    shown.leaf(None, LogIndex::new(index));
                    entries.push(entry);
                }
                next += 1;
            }
        }
        Some(subject) => {
            let mut before = 0;
            next = total;
            'logs: for log in line.logs() {
                let indices = match subject {
                    Some(subject) => log.lookup.subject(subject).map_err(|error| no_index(&error))?,
                    None => Vec::new(),
                };
                for index in indices {
                    let count = before + index.get();
                    if !(start..total).contains(&count) {
                        continue;
                    }
                    if entries.len() == limit {
                        next = count;
                        break 'logs;
                    }
                    if let Some(entry) = wanted.look(&log, index)? {
                        shown.at(log.name, log.reader.size().get());
                        shown.leaf(subject, index);
                        entries.push(entry);
                    }
                }
                before += log.reader.size().get();
            }
        }
    }
    Ok(json!({
        "entries": entries,
        "next": line.cursor(next),
        "more": next < total,
        "treeSize": engine.access().reader().size().get(),
    }))
}

impl Wanted {
    /// Returns the access at an index as it is shown, if it is wanted and can still be read.
    fn look(&self, log: &View<'_>, index: LogIndex) -> Result<Option<Value>, Problem> {
        let bytes = log.reader.entry(index).map_err(|error| unreadable(&error))?;
        let disclosed = match log.open_leaf(index, &bytes) {
            Ok(disclosed) => disclosed,
            Err(OpenError::Key(_)) => return Ok(None),
            Err(OpenError::Leaf(_)) => {
                return Err(unreadable(&LogError::Bug { what: "a leaf of the access log cannot be opened" }));
            }
        };
        let open = &disclosed.leaf;
        let person = || open.body.get("auditEvent")?.get("staffId")?.as_str();
        // What the log says of itself is for verifiers.
        let fits = open.header.clear.is_none()
            && self.from_ms.is_none_or(|from| open.received_ms >= from)
            && self.to_ms.is_none_or(|to| open.received_ms < to)
            && self.system.as_deref().is_none_or(|system| open.system == system)
            && self.person.as_deref().is_none_or(|wanted| person() == Some(wanted));
        if !fits {
            return Ok(None);
        }
        let event = EvidenceEvent::new(log.name, index, &bytes, open, EventKeys::default(), &[]);
        Ok(Some(json!({
            "origin": event.origin,
            "index": event.index,
            "leafHash": event.leaf_hash,
            "receivedAt": event.received_at,
            "eventId": event.event_id,
            "system": event.system,
            "person": person(),
            "globalCustomerId": open.subject.map(|subject| subject.to_string()),
            "auditEvent": event.audit_event,
        })))
    }
}
