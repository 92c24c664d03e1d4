//! Reading the trail: one event, a list with filters, a live stream, the events of one interaction, receipts.
//!
//! A page is read at one size of the log. A cursor names the log and the next index and is opaque to clients. Events
//! whose keys were destroyed are shown as erased, with their index and nothing else, so that a reader sees that nothing
//! was passed over.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use futures_util::stream::{self, Stream};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, StatusCode};
use idtrail_event::{ChannelCode, Leaf, TypeCode};
use idtrail_index::seal::OpenError;
use idtrail_log::{LogError, OriginOrdinal};
use idtrail_tlog::LogIndex;
use idtrail_verify::{EventKeys, EvidenceEvent, time_text};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::disclosure::{Reader, Route, Shown, disclose};
use super::{AppState, answer, blocking, events};
use crate::auth::CallingSystem;
use crate::credentials::Role;
use crate::engine::Engine;
use crate::engine::origins::{Line, View};
use crate::openapi::{self, schema};
use crate::problem::Problem;

/// Who may see events.
const READERS: &[Role] = &[Role::Dpo, Role::Auditor];
const PAGE_MAX: usize = 1000;
/// Entries looked at for one page; a filter that fits little gives short pages with a cursor, never a slow answer.
const LOOKED_AT_MAX: u64 = 20_000;
const WAIT_MAX_S: u64 = 30;
/// How often a waiting reader looks whether the log has grown.
const LOOK_PERIOD: Duration = Duration::from_millis(50);

/// Which events are wanted.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The `next` of the page before. Without it the list begins with the oldest event.
    #[param(max_length = 128, nullable = false)]
    after: Option<String>,
    /// Most events of this page.
    #[param(minimum = 1, maximum = 1000, default = 100, nullable = false)]
    limit: Option<usize>,
    /// Seconds to wait for an event if there is none yet.
    #[param(maximum = 30, default = 0, nullable = false)]
    wait: Option<u64>,
    /// Event type, such as IDENTITY_RESOLUTION.
    #[serde(rename = "type")]
    #[param(max_length = 64, nullable = false)]
    event_type: Option<String>,
    /// Channel, such as VOICE.
    #[param(max_length = 64, nullable = false)]
    channel: Option<String>,
    /// Name of the calling system.
    #[param(max_length = 128, nullable = false)]
    system: Option<String>,
    /// The event's `queueId`.
    #[param(max_length = 256, nullable = false)]
    queue: Option<String>,
    /// Received at or after this time.
    #[param(format = DateTime, nullable = false)]
    from: Option<String>,
    /// Received before this time.
    #[param(format = DateTime, nullable = false)]
    to: Option<String>,
}

/// Which log is meant.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct WhichLog {
    /// Name of the log, as receipts have it. Without it the one that is written to.
    #[param(max_length = 256, nullable = false)]
    pub(super) origin: Option<String>,
}

/// A filter that was understood.
struct Wanted {
    event_type: Option<TypeCode>,
    type_name: Option<String>,
    channel: Option<ChannelCode>,
    system: Option<String>,
    queue: Option<String>,
    from_ms: Option<u64>,
    to_ms: Option<u64>,
}

impl Filter {
    fn understood(&self) -> Result<Wanted, Problem> {
        let time = |text: &Option<String>| {
            let time = text.as_deref().map(str::parse::<Timestamp>).transpose();
            let wrong = |_| Problem::malformed_request("from and to must be RFC 3339 times");
            Ok::<_, Problem>(
                time.map_err(wrong)?.map(|time| u64::try_from(time.as_millisecond()).unwrap_or(0)),
            )
        };
        let channel = match &self.channel {
            None => None,
            Some(name) => Some(
                ChannelCode::by_name(name)
                    .ok_or_else(|| Problem::malformed_request("the channel is not in the table"))?,
            ),
        };
        Ok(Wanted {
            event_type: self
                .event_type
                .as_deref()
                .map(|name| TypeCode::by_name(name).unwrap_or(TypeCode::CUSTOM)),
            type_name: self.event_type.clone(),
            channel,
            system: self.system.clone(),
            queue: self.queue.clone(),
            from_ms: time(&self.from)?,
            to_ms: time(&self.to)?,
        })
    }

    fn limit(&self) -> Result<usize, Problem> {
        let limit = self.limit.unwrap_or(100);
        let wrong = || Problem::malformed_request("limit must be 1 to 1000");
        if (1..=PAGE_MAX).contains(&limit) { Ok(limit) } else { Err(wrong()) }
    }
}

/// Gives a receipt again
///
/// With a proof to the newest checkpoint.
///
/// # Errors
/// 400, 401, 403, 404, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/receipts/{index}",
    operation_id = "show_receipt",
    tag = "events",
    params(("index" = u64, Path, description = "Place of the leaf in the log.", example = 2), WhichLog),
    responses(
        (status = 200, description = "The receipt.", body = schema::Receipt),
        openapi::RequestProblem,
        openapi::ReadProblems
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["ingest", "dpo", "auditor"] })))
)]
pub async fn receipt(
    State(state): State<AppState>,
    system: CallingSystem,
    index: Result<Path<u64>, PathRejection>,
    which: Result<Query<WhichLog>, QueryRejection>,
) -> Result<Response, Problem> {
    state.admit_reader(&system, &[Role::Ingest, Role::Dpo, Role::Auditor])?;
    let (log, index) = place_of(state.engine(), index, which)?;
    let engine = Arc::clone(state.engine());
    let receipt = blocking(move || {
        let log = engine.log_at(log).ok_or_else(Problem::internal)?;
        events::receipt(&log, index, Vec::new()).map_err(|error| unreadable(&error))
    });
    Ok(answer(StatusCode::OK, &json!(receipt.await?)))
}

/// Shows one event
///
/// With its leaf, its keys and a proof to the newest checkpoint, so that it can be verified.
///
/// # Errors
/// 400, 401, 403, 404, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/events/{index}",
    operation_id = "show_event",
    tag = "events",
    params(
        openapi::Purpose,
        ("index" = u64, Path, description = "Place of the leaf in the log.", example = 2),
        WhichLog
    ),
    responses(
        (status = 200, description = "The event, or that it was erased.", body = serde_json::Map<String, Value>),
        openapi::RequestProblem,
        openapi::ReadProblems
    ),
    security(("ApiKey" = []), ("ApiKey" = [], "Bearer" = [])),
    extensions(
        ("x-idtrail-roles" = json!({ "ApiKey": ["dpo", "auditor"], "Bearer": ["any"] })),
        ("x-idtrail-discloses" = json!(true))
    )
)]
pub async fn event(
    State(state): State<AppState>,
    reader: Reader,
    index: Result<Path<u64>, PathRejection>,
    which: Result<Query<WhichLog>, QueryRejection>,
) -> Result<Response, Problem> {
    reader.admit(&state, READERS)?;
    let (log, index) = place_of(state.engine(), index, which)?;
    let route = Route { operation: "show_event", purpose: "AUDIT" };
    let event = disclose(state.engine(), &reader, route, move |engine, shown| {
        let log = engine.log_at(log).ok_or_else(Problem::internal)?;
        proved(&log, shown, index).map_err(|error| unreadable(&error))
    });
    Ok(answer(StatusCode::OK, &event.await?))
}

/// Lists events
///
/// Oldest first, with filters; `next` continues, also later, when the log has grown. A page may be shorter than its
/// limit although there are more. With `wait` the answer comes when there is something, or when the time is over.
///
/// # Errors
/// 400, 401, 403, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    operation_id = "list_events",
    tag = "events",
    params(openapi::Purpose, Filter),
    responses(
        (status = 200, description = "A page of events.", body = schema::EventPage),
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
    let engine = Arc::clone(state.engine());
    let wanted = Arc::new(filter.understood()?);
    let limit = filter.limit()?;
    let wait_s = filter.wait.unwrap_or(0);
    if wait_s > WAIT_MAX_S {
        return Err(Problem::malformed_request("wait must be 0 to 30 seconds"));
    }
    let start = start(&engine.line(), filter.after.as_deref())?;
    let until = tokio::time::Instant::now() + Duration::from_secs(wait_s);
    let mut next = start;
    loop {
        let route = Route { operation: "list_events", purpose: "AUDIT" };
        let (events, end) = page(&engine, (&reader, route), &wanted, next, limit).await?;
        next = end;
        let size = engine.line().total();
        if !events.is_empty() || tokio::time::Instant::now() >= until {
            let more = next < size;
            let events: Vec<Value> = events.into_iter().map(|(_, event)| event).collect();
            return Ok(answer(
                StatusCode::OK,
                &json!({
                    "events": events,
                    "next": engine.line().cursor(next),
                    "more": more,
                    "treeSize": engine.reader().size().get(),
                }),
            ));
        }
        if next >= size {
            grown(&engine, size, until).await;
        }
    }
}

/// Streams events as they become durable
///
/// Server-sent events: `id` is the cursor, `data` the event. It begins with what comes next, or behind `after` or the
/// header `Last-Event-ID`. With `wait` it ends when nothing has come for so long.
///
/// # Errors
/// 400, 401, 403, 429.
#[utoipa::path(
    get,
    path = "/api/v1/events/stream",
    operation_id = "stream_events",
    tag = "events",
    params(openapi::Purpose, Filter),
    responses(
        (status = 200, description = "The stream.", body = String, content_type = "text/event-stream"),
        openapi::RequestProblem,
        openapi::ReadProblems
    ),
    security(("ApiKey" = []), ("ApiKey" = [], "Bearer" = [])),
    extensions(
        ("x-idtrail-roles" = json!({ "ApiKey": ["dpo", "auditor"], "Bearer": ["any"] })),
        ("x-idtrail-discloses" = json!(true))
    )
)]
pub async fn stream(
    State(state): State<AppState>,
    reader: Reader,
    headers: HeaderMap,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Problem> {
    reader.admit(&state, READERS)?;
    let Query(filter) = filter?;
    let engine = Arc::clone(state.engine());
    let wanted = Arc::new(filter.understood()?);
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let next = match last.or(filter.after.as_deref()) {
        Some(after) => start(&engine.line(), Some(after))?,
        None => engine.line().total(),
    };
    let quiet = filter.wait.map(Duration::from_secs);
    let events = follow(engine, reader, wanted, next, quiet);
    let mut response = Sse::new(events).keep_alive(KeepAlive::default()).into_response();
    response.headers_mut().insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Lists the events of one interaction
///
/// # Errors
/// 400, 401, 403, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/interactions/{id}/events",
    operation_id = "list_interaction_events",
    tag = "events",
    params(openapi::Purpose, ("id" = String, Path, description = "The interaction's id.", example = "i-1")),
    responses(
        (status = 200, description = "Its events, oldest first.", body = schema::InteractionEvents),
        openapi::RequestProblem,
        openapi::ReadProblems
    ),
    security(("ApiKey" = []), ("ApiKey" = [], "Bearer" = [])),
    extensions(
        ("x-idtrail-roles" = json!({ "ApiKey": ["dpo", "auditor"], "Bearer": ["any"] })),
        ("x-idtrail-discloses" = json!(true))
    )
)]
pub async fn interaction(
    State(state): State<AppState>,
    reader: Reader,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    reader.admit(&state, READERS)?;
    let timeout = state.request_timeout();
    let route = Route { operation: "list_interaction_events", purpose: "AUDIT" };
    let found = disclose(state.engine(), &reader, route, move |engine, shown| {
        let head = engine.reader().head();
        if !engine.log().applied().wait(head.size, timeout) {
            return Err(Problem::unavailable("the index has not caught up with the log", 1));
        }
        let key = engine.hasher().interaction(&id);
        let mut events = Vec::new();
        for log in engine.logs() {
            let size = if log.ordinal == engine.ordinal() { head.size } else { log.reader.size() };
            let indices = log.lookup.interaction(&key).map_err(|error| {
                tracing::error!(error = &error as &dyn std::error::Error, "the index cannot be read");
                Problem::unavailable("the index cannot be read", 5)
            })?;
            shown.at(log.name, size.get());
            for index in indices.into_iter().filter(|index| index.get() < size.get()) {
                let event = show(&log, shown, index).map_err(|error| unreadable(&error))?;
                events.push(event.map_or_else(|| erased(&log, index), |event| plain(&event)));
            }
        }
        Ok(json!({ "events": events, "treeSize": head.size.get() }))
    });
    Ok(answer(StatusCode::OK, &found.await?))
}

fn place_of(
    engine: &Engine,
    index: Result<Path<u64>, PathRejection>,
    which: Result<Query<WhichLog>, QueryRejection>,
) -> Result<(OriginOrdinal, LogIndex), Problem> {
    let Path(index) = index.map_err(|_| Problem::malformed_request("the index is not a whole number"))?;
    let Query(WhichLog { origin }) = which?;
    let log = engine.log_named(origin.as_deref().unwrap_or(engine.origin()));
    let log = log.ok_or_else(|| Problem::not_found("the installation has no such log"))?;
    if index >= log.reader.size().get() {
        return Err(Problem::not_found("the log holds no such leaf"));
    }
    Ok((log.ordinal, LogIndex::new(index)))
}

fn unreadable(error: &LogError) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "the log cannot be read");
    Problem::unavailable("the log cannot be read", 5)
}

/// Returns where a list begins.
pub(super) fn start(line: &Line<'_>, after: Option<&str>) -> Result<u64, Problem> {
    let Some(cursor) = after else { return Ok(0) };
    line.start(cursor).ok_or_else(|| Problem::malformed_request("the cursor is not one of this log's"))
}

/// Waits until the log has grown beyond `size`, or until the time is over.
async fn grown(engine: &Engine, size: u64, until: tokio::time::Instant) {
    while engine.line().total() == size && tokio::time::Instant::now() < until {
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}

/// Returns the events of a page with their counts, and the count behind the last entry that was looked at, once the access
/// is on disk.
async fn page(
    engine: &Arc<Engine>,
    (reader, route): (&Reader, Route),
    wanted: &Arc<Wanted>,
    start: u64,
    limit: usize,
) -> Result<(Vec<(u64, Value)>, u64), Problem> {
    let wanted = Arc::clone(wanted);
    let read = move |engine: &Arc<Engine>, shown: &mut Shown| {
        shown.filtered_by(wanted.words());
        let line = engine.line();
        let end = line.total().min(start.saturating_add(LOOKED_AT_MAX));
        let mut events = Vec::new();
        let mut next = start;
        while next < end && events.len() < limit {
            let (log, index) = line.locate(next);
            let size = log.reader.size().get();
            shown.at(log.name, size);
            let log_end = end.min(next.saturating_add(size.saturating_sub(index)));
            let shift = next - index;
            while next < log_end && events.len() < limit {
                if let Some(event) = wanted.look(&log, shown, LogIndex::new(next - shift))? {
                    events.push((next, event));
                }
                next += 1;
            }
        }
        Ok((events, next))
    };
    disclose(engine, reader, route, move |engine, shown| {
        read(engine, shown).map_err(|error| unreadable(&error))
    })
    .await
}

fn follow(
    engine: Arc<Engine>,
    reader: Reader,
    wanted: Arc<Wanted>,
    next: u64,
    quiet: Option<Duration>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let route = Route { operation: "stream_events", purpose: "MONITORING" };
    let state = (engine, reader, wanted, next, Vec::<(u64, Value)>::new().into_iter());
    stream::unfold(state, move |(engine, reader, wanted, mut next, mut waiting)| async move {
        let until = quiet.map(|quiet| tokio::time::Instant::now() + quiet);
        loop {
            if let Some((count, event)) = waiting.next() {
                let id = engine.line().cursor(count + 1);
                let sent = Event::default().id(id).event("audit").data(event.to_string());
                return Some((Ok(sent), (engine, reader, wanted, next, waiting)));
            }
            // A log that cannot be read, or an access that cannot be written, ends the stream; the client comes back with
            // its last id.
            let (events, end) = page(&engine, (&reader, route), &wanted, next, PAGE_MAX).await.ok()?;
            next = end;
            if events.is_empty() && next >= engine.line().total() {
                if !engine.log().is_running()
                    || until.is_some_and(|until| tokio::time::Instant::now() >= until)
                {
                    return None;
                }
                tokio::time::sleep(LOOK_PERIOD).await;
            }
            waiting = events.into_iter();
        }
    })
}

impl Wanted {
    /// Returns what is wanted in words of this system: what a client wrote stands there only if a table has it.
    fn words(&self) -> Map<String, Value> {
        let mut words = Map::new();
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                words.insert(name.to_owned(), value);
            }
        };
        add("type", self.event_type.map(|code| json!(code.to_string())));
        add("channel", self.channel.map(|code| json!(code.to_string())));
        add("bySystem", self.system.as_ref().map(|_| json!(true)));
        add("byQueue", self.queue.as_ref().map(|_| json!(true)));
        add("from", self.from_ms.map(|ms| json!(time_text(ms))));
        add("to", self.to_ms.map(|ms| json!(time_text(ms))));
        words
    }

    /// Returns the event at an index as it is shown, if it is wanted. What stands in clear is looked at first.
    fn look(&self, log: &View<'_>, shown: &mut Shown, index: LogIndex) -> Result<Option<Value>, LogError> {
        let bytes = log.reader.entry(index)?;
        let Ok(leaf) = Leaf::parse(&bytes) else { return Ok(None) };
        let header = leaf.header();
        // The log's own leaves say nothing of a person; they are for verifiers.
        if header.clear.is_some()
            || self.event_type.is_some_and(|code| code != header.event_type)
            || self.channel.is_some_and(|code| code != header.channel)
        {
            return Ok(None);
        }
        let hour_ms = u64::from(header.hour) * 3_600_000;
        if self.from_ms.is_some_and(|from| hour_ms + 3_600_000 <= from)
            || self.to_ms.is_some_and(|to| hour_ms >= to)
        {
            return Ok(None);
        }
        let disclosed = match log.open_leaf(index, &bytes) {
            Ok(disclosed) => disclosed,
            // Whether an erased event would fit a filter on its content, nobody can tell any more.
            Err(OpenError::Key(_)) if self.system.is_some() || self.queue.is_some() => return Ok(None),
            Err(OpenError::Key(_)) => return Ok(Some(erased(log, index))),
            Err(OpenError::Leaf(_)) => {
                return Err(LogError::Bug { what: "a leaf of the log cannot be opened" });
            }
        };
        let open = &disclosed.leaf;
        let member = |name: &str| open.body.get("auditEvent")?.get(name)?.as_str();
        let fits = self.from_ms.is_none_or(|from| open.received_ms >= from)
            && self.to_ms.is_none_or(|to| open.received_ms < to)
            && self.system.as_deref().is_none_or(|system| open.system == system)
            && self.queue.as_deref().is_none_or(|queue| member("queueId") == Some(queue))
            && self.type_name.as_deref().is_none_or(|name| member("eventType") == Some(name));
        if !fits || open.subject.is_none() {
            return Ok(None);
        }
        shown.leaf(open.subject, index);
        let keys = EventKeys::disclose(&disclosed.event_key, disclosed.staff_key.as_ref());
        Ok(Some(plain(&EvidenceEvent::new(log.name, index, &bytes, open, keys, &[]))))
    }
}

/// Returns an event with a proof to the newest checkpoint.
fn proved(log: &View<'_>, shown: &mut Shown, index: LogIndex) -> Result<Value, LogError> {
    let head = log.reader.head();
    shown.at(log.name, head.size.get());
    let Some(mut event) = show(log, shown, index)? else { return Ok(erased(log, index)) };
    let proof = log.reader.inclusion_proof(index, head.size)?;
    event.proof = proof.iter().map(|hash| BASE64.encode(hash.as_bytes())).collect();
    let mut value = json!(event);
    if let Value::Object(members) = &mut value {
        members.insert("checkpoint".to_owned(), json!(&*head.checkpoint));
    }
    Ok(value)
}

/// Opens an event; `None` if its key was destroyed.
fn show(log: &View<'_>, shown: &mut Shown, index: LogIndex) -> Result<Option<EvidenceEvent>, LogError> {
    let bytes = log.reader.entry(index)?;
    match log.open_leaf(index, &bytes) {
        Ok(disclosed) => {
            shown.leaf(disclosed.leaf.subject, index);
            let keys = EventKeys::disclose(&disclosed.event_key, disclosed.staff_key.as_ref());
            Ok(Some(EvidenceEvent::new(log.name, index, &bytes, &disclosed.leaf, keys, &[])))
        }
        Err(OpenError::Key(_)) => Ok(None),
        Err(OpenError::Leaf(_)) => Err(LogError::Bug { what: "a leaf of the log cannot be opened" }),
    }
}

/// Returns an event without what only a verifier needs.
fn plain(event: &EvidenceEvent) -> Value {
    let mut value = json!(event);
    if let Value::Object(members) = &mut value {
        for name in ["leaf", "keys", "proof"] {
            members.remove(name);
        }
    }
    value
}

fn erased(log: &View<'_>, index: LogIndex) -> Value {
    json!({ "origin": log.name, "index": index.get(), "erased": true })
}
