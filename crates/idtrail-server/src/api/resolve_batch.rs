//! `POST /api/v1/identity/resolve:batch`: many questions in one request, each answered as if it came alone.
//!
//! All of them are handed to the log before the first answer is waited for, so they share its frames and its sync. A question
//! that cannot be read, or whose id was used before, hinders no other.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use idtrail_event::{Dedupe, DedupeKind};
use serde_json::{Value, json};

use super::identifiers::wrong;
use super::identity::{Question, settle};
use super::{AppState, answer, blocking, body};
use crate::auth::CallingSystem;
use crate::credentials::Role;
use crate::openapi;
use crate::problem::Problem;

const BODY_BYTES_MAX: usize = 1024 * 1024;
const QUESTIONS_MAX: usize = 100;
const ID_CHARS_MAX: usize = 255;

/// Says whose many interactions are
///
/// `requests` holds 1 to 100 bodies of `resolve`, each with an `idempotencyKey` of its own if it wants one. The answers stand
/// in `results`, in order, each with its `status`: 201 or 200 with the decision, else the problem.
///
/// # Errors
/// 400, 401, 403, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/identity/resolve:batch",
    operation_id = "resolve_identities",
    tag = "identity",
    request_body(
        content = serde_json::Map<String, Value>,
        example = json!({
            "requests": [{
                "idempotencyKey": "import-1", "timestamp": "2026-05-04T08:00:01Z", "interactionId": "i-1",
                "channelType": "VOICE", "identifiers": [{ "type": "phone", "value": "+14155552671" }]
            }]
        })
    ),
    responses(
        (status = 200, description = "An answer for each, in order.", body = serde_json::Map<String, Value>),
        openapi::WriteProblems
    ),
    security(("ApiKey" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["resolve"] })))
)]
pub async fn resolve_batch(
    State(state): State<AppState>,
    system: CallingSystem,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    system.require(&[Role::Resolve])?;
    let mut value = body::json(&headers, body, BODY_BYTES_MAX).await?;
    let Some(Value::Array(requests)) = value.get_mut("requests").map(Value::take) else {
        return Err(Problem::invalid(vec![wrong("/requests", "it is missing or not a list")]));
    };
    if !(1..=QUESTIONS_MAX).contains(&requests.len()) {
        return Err(Problem::invalid(vec![wrong("/requests", "it has not 1 to 100 requests")]));
    }
    state.budgets().take_events(system.key_id(), u32::try_from(requests.len()).unwrap_or(u32::MAX))?;
    let engine = state.engine();
    let mut asked = Vec::with_capacity(requests.len());
    for request in requests {
        let question = id_of(&request).and_then(|id| Question::ask(engine, system.name(), request, id));
        asked.push(question);
    }
    let mut results = Vec::with_capacity(asked.len());
    for question in asked {
        let settled = match question {
            Ok(question) => question.settled(state.request_timeout()).await,
            Err(problem) => Err(problem),
        };
        results.push(settled);
    }
    let engine = Arc::clone(engine);
    let results = blocking(move || {
        let one = |settled: Result<_, Problem>| {
            let (status, mut decision) = match settled.and_then(|outcome| settle(&engine, outcome)) {
                Ok((status, said)) => (status.as_u16(), serde_json::to_value(said).unwrap_or_default()),
                Err(problem) => {
                    let problem: Value = serde_json::from_slice(&problem.to_json(None)).unwrap_or_default();
                    let status = problem.get("status").and_then(Value::as_u64).unwrap_or(500);
                    (u16::try_from(status).unwrap_or(500), problem)
                }
            };
            if let Value::Object(members) = &mut decision {
                members.insert("status".to_owned(), status.into());
            }
            decision
        };
        Ok(results.into_iter().map(one).collect::<Vec<_>>())
    });
    Ok(answer(StatusCode::OK, &json!({ "results": results.await? })))
}

fn id_of(request: &Value) -> Result<Option<Dedupe<'static>>, Problem> {
    let usable = |text: &&str| {
        (1..=ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    };
    match request.get("idempotencyKey") {
        None => Ok(None),
        Some(value) => match value.as_str().filter(usable) {
            Some(text) => Ok(Some(Dedupe::text(DedupeKind::IDEMPOTENCY_KEY, text).into_owned())),
            None => Err(Problem::invalid(vec![wrong(
                "/idempotencyKey",
                "it is not a text of 1 to 255 visible ASCII characters",
            )])),
        },
    }
}
