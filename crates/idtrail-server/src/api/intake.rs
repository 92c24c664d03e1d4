//! What all doors have in common: parsing, and keeping what is refused.

use std::sync::Arc;

use axum::extract::FromRef as _;
use bytes::Bytes;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use idtrail_event::{Dedupe, Finding, JsonLimits, Rejected, SourceCode, parse_json};
use serde_json::Value;

use super::{AppState, blocking, body};
use crate::auth::{Auth, CallingSystem, Person};
use crate::credentials::Role;
use crate::engine::Engine;
use crate::metrics::Intake;
use crate::problem::{Code, Problem};
use crate::quarantine::{self, QuarantineError, QuarantineId, Reason};

/// Who sent something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender<'a> {
    /// The calling system's name.
    pub(crate) system: &'a str,
    /// The acting person's id.
    pub(crate) actor: Option<&'a str>,
}

/// Returns the system that sends events, and the person who acts through it if there is one: then the token has to be a
/// good one.
///
/// # Errors
/// 401 or 403; 503 while the disk has no room for events.
pub(crate) async fn sender(
    state: &AppState,
    headers: &HeaderMap,
    counted: &mut Intake<'_>,
) -> Result<(CallingSystem, Option<Person>), Problem> {
    let auth = Arc::<Auth>::from_ref(state);
    let system = auth.calling_system(headers)?;
    counted.of(system.name());
    system.require(&[Role::Ingest])?;
    let person = if headers.contains_key(AUTHORIZATION) { Some(auth.person(headers).await?) } else { None };
    if !state.monitor().has_room() {
        let detail = "the server's disk is nearly full, so it takes no events until its operator made room";
        return Err(Problem::unavailable(detail, 30));
    }
    Ok((system, person))
}

/// Parses one event, in its envelope or without.
///
/// # Errors
/// 400.
pub(crate) fn parse(bytes: &[u8], bytes_max: usize) -> Result<Value, Problem> {
    parse_json(bytes, JsonLimits { bytes_max, ..JsonLimits::EVENT }).map_err(|error| body::malformed(&error))
}

/// Keeps a refused event, on disk before this returns, and returns its id.
///
/// # Errors
/// 503 if it cannot be kept: the sender has to come back.
pub(crate) async fn quarantine(
    engine: &Arc<Engine>,
    sender: Sender<'_>,
    source: SourceCode,
    dedupe: Dedupe<'static>,
    rejected: Rejected,
) -> Result<String, Problem> {
    let engine = Arc::clone(engine);
    let (system, actor) = (sender.system.to_owned(), sender.actor.map(str::to_owned));
    let keep = move || {
        let sender = quarantine::Sender { system: &system, actor: actor.as_deref(), source, dedupe };
        let now_ms = engine.now_ms();
        engine.quarantine().keep(&sender, rejected, now_ms)
    };
    kept(keep).await
}

/// Leaves a note of a body that cannot be read: its size, a keyed digest, and the place of the error. Returns the
/// problem to answer.
pub(crate) async fn note_unparsed(
    engine: &Arc<Engine>,
    sender: Sender<'_>,
    bytes: Bytes,
    problem: Problem,
) -> Problem {
    // 413 and the like are no bodies that could not be read.
    if !matches!(problem.code(), Code::MalformedJson | Code::Invalid | Code::MalformedRequest) {
        return problem;
    }
    let engine = Arc::clone(engine);
    let (system, actor) = (sender.system.to_owned(), sender.actor.map(str::to_owned));
    let reason = problem.errors().first().map(Reason::from).unwrap_or_else(|| Reason {
        pointer: String::new(),
        code: problem.code().as_str().to_owned(),
        message: problem.detail().to_owned(),
        hint: "the sender has to send it again, corrected".to_owned(),
    });
    let keep = move || {
        let (source, dedupe) = (SourceCode::API, Dedupe::CONTENT);
        let sender = quarantine::Sender { system: &system, actor: actor.as_deref(), source, dedupe };
        let now_ms = engine.now_ms();
        engine.quarantine().keep_unparsed(&sender, &bytes, reason, now_ms)
    };
    match kept(keep).await {
        Ok(id) => problem.with_quarantine(id),
        Err(unavailable) => unavailable,
    }
}

/// Returns an event that is good by itself, but whose id was used for another one.
pub(crate) fn conflict(body: Value) -> Rejected {
    let violation = Finding {
        pointer: String::new(),
        code: "conflict",
        message: "the id of this event was used before with another content",
        hint: "replay it with a body of its own, or discard it",
    };
    Rejected { violations: vec![violation], body, redacted: 0 }
}

async fn kept(
    keep: impl FnOnce() -> Result<QuarantineId, QuarantineError> + Send + 'static,
) -> Result<String, Problem> {
    blocking(move || keep().map(|id| id.to_string()).map_err(|error| not_kept(&error))).await
}

/// Tells the operator that a refused event cannot be kept.
pub(crate) fn log_not_kept(error: &QuarantineError) {
    tracing::error!(error = error as &dyn std::error::Error, "a refused event cannot be kept");
}

fn not_kept(error: &QuarantineError) -> Problem {
    log_not_kept(error);
    Problem::unavailable("the event is refused, and the quarantine cannot keep it at the moment", 5)
}
