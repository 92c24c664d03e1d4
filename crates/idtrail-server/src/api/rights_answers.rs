//! Answers to requests for data: what was read is looked through by a person, then the requester fetches the package.
//!
//! Who looks through it sees events, so that is an access like any other. Who fetches has nothing but the link; what it
//! gives is encrypted, and what opens it is told to the data protection officer, to be sent another way.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use idtrail_event::time_text;
use idtrail_rights::Digest;
use idtrail_rights::package::Redactions;
use serde_json::json;

use super::disclosure::{Reader, Route, disclose};
use super::rights::{admit, invalid, member, named, optional, principal, problem, shown};
use super::{AppState, answer, body};
use crate::auth::{CallingSystem, Person};
use crate::engine::rights::delivery::{FetchError, Review, ReviewError};
use crate::openapi;
use crate::problem::Problem;

const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Shows what was read for a request
///
/// The events, what is proposed to be taken out because it is about others, and the hash of that list. To be looked through
/// before the package leaves. Only while the request is COLLECTING or shown as REVIEW.
///
/// # Errors
/// 401, 403, 404, 409, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/rights/requests/{id}/review",
    operation_id = "show_rights_draft",
    tag = "rights",
    params(("id" = String, Path, description = "Id of the request.", example = "dsr_aaaaaaaaaaaaaaaaaaaaaaaaaa")),
    responses(
        (status = 200, description = "What was read.", body = serde_json::Map<String, Value>),
        openapi::ReadProblems,
        openapi::NotFoundProblem,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(
        ("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })),
        ("x-idtrail-discloses" = json!(true))
    )
)]
pub async fn draft(
    State(state): State<AppState>,
    Path(id): Path<String>,
    system: CallingSystem,
    person: Person,
) -> Result<Response, Problem> {
    admit(&state, &system, &person)?;
    let (request, rights) = (named(&id)?, Arc::clone(state.rights()));
    let reader = Reader::of(system, person);
    let route = Route { operation: "show_rights_draft", purpose: "ACCESS_REQUEST" };
    let draft = disclose(state.engine(), &reader, route, move |engine, shown| {
        let draft = rights.draft(&request).map_err(problem)?;
        let draft = draft.ok_or_else(|| Problem::conflict("the request is not at being looked through"))?;
        for log in engine.logs() {
            shown.at(log.name, log.reader.size().get());
            let here = draft.events.iter().filter(|one| one.place.origin == log.ordinal);
            here.for_each(|one| shown.leaf(one.named, one.place.index));
        }
        let hash = draft.proposed.hash().map_err(|_| Problem::internal())?;
        let events = draft.events.iter().map(|one| &one.shown).map(|one| {
            json!({
                "index": one.index, "receivedAt": one.received_at, "system": one.system, "tier": one.tier,
                "event": one.event,
            })
        });
        Ok(json!({
            "requestId": request,
            "events": events.collect::<Vec<_>>(),
            "proposed": draft.proposed,
            "proposedHash": hash,
            "probable": draft.found.probable.len(),
            "ambiguous": draft.found.ambiguous,
            "sharedExcluded": draft.found.shared,
        }))
    });
    Ok(answer(StatusCode::OK, &draft.await?))
}

/// Lets a package leave
///
/// `proposedHash` is that of the list that was looked at. `redactions` is what is taken out instead of what was proposed,
/// a list of `index`, `pointer` (RFC 6901) and `reason`. `includeProbable` lets events leave that are the person's by all
/// that is known, but not proved. Where identifiers are shared with others, `sharedStayOut` must be true: they are not
/// followed.
///
/// # Errors
/// 400, 401, 403, 404, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/rights/requests/{id}/review",
    operation_id = "review_rights_draft",
    tag = "rights",
    params(("id" = String, Path, description = "Id of the request.", example = "dsr_aaaaaaaaaaaaaaaaaaaaaaaaaa")),
    request_body(
        content = serde_json::Map<String, Value>,
        example = json!({ "proposedHash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "sharedStayOut": true })
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
pub async fn review(
    State(state): State<AppState>,
    Path(id): Path<String>,
    system: CallingSystem,
    person: Person,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    admit(&state, &system, &person)?;
    let value = body::json(&headers, body, BODY_BYTES_MAX).await?;
    let request = named(&id)?;
    let review = Review {
        redactions: optional::<Redactions>(&value, "redactions")?,
        looked_at: member::<Digest>(&value, "proposedHash")?,
        probable: optional(&value, "includeProbable")?.unwrap_or(false),
        shared_stay_out: optional(&value, "sharedStayOut")?.unwrap_or(false),
    };
    let reviewed = state.rights().review(request.clone(), Some(principal(&person)), review).await;
    reviewed.map_err(|error| match error {
        ReviewError::Changed => Problem::conflict("what was looked at is not what there is now; look again"),
        ReviewError::Place => invalid("/redactions", "it names a place that is not there"),
        ReviewError::Shared => {
            invalid("/sharedStayOut", "identifiers are shared with others: say that they stay out")
        }
        ReviewError::Say(error) => problem(error),
    })?;
    Ok(answer(StatusCode::OK, &shown(&state, &request)?))
}

/// Tells how a package can be fetched
///
/// The link goes to the requester; the passphrase goes another way. Both last until the link ends.
///
/// # Errors
/// 401, 403, 404, 409, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/rights/requests/{id}/link",
    operation_id = "rights_package_link",
    tag = "rights",
    params(("id" = String, Path, description = "Id of the request.", example = "dsr_aaaaaaaaaaaaaaaaaaaaaaaaaa")),
    responses(
        (status = 200, description = "The link and the passphrase.", body = serde_json::Map<String, Value>),
        openapi::ReadProblems,
        openapi::NotFoundProblem,
        openapi::ConflictProblem
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn link(
    State(state): State<AppState>,
    Path(id): Path<String>,
    system: CallingSystem,
    person: Person,
) -> Result<Response, Problem> {
    admit(&state, &system, &person)?;
    let link = state.rights().link(&named(&id)?).map_err(problem)?;
    let link = link.ok_or_else(|| Problem::conflict("the request has no package that can be fetched"))?;
    Ok(answer(
        StatusCode::OK,
        &json!({
            "link": link.path, "passphrase": link.passphrase, "expiresAt": time_text(link.expires_ms),
            "fetches": link.fetches, "fetchesMax": link.fetches_max,
        }),
    ))
}

/// Gives the package of a request
///
/// For the requester, who has the link and nothing else: a ZIP archive, encrypted with AES-256 under a passphrase that
/// travels apart. Each time is recorded in the access log and as a step of the request before the answer leaves.
///
/// # Errors
/// 404; 410 if the link has ended; 503.
#[utoipa::path(
    get,
    path = "/api/v1/rights/packages/{id}/{secret}",
    operation_id = "fetch_rights_package",
    tag = "rights",
    params(
        ("id" = String, Path, description = "Id of the request.", example = "dsr_aaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("secret" = String, Path, description = "The secret part of the link.", example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
    ),
    responses(
        (status = 200, description = "The package.", content_type = "application/zip", body = Vec<u8>),
        openapi::OpenProblems,
        openapi::GoneProblem
    ),
    security(())
)]
pub async fn fetch(
    State(state): State<AppState>,
    Path((id, secret)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let unknown = || Problem::not_found("there is no such link");
    let request = named(&id).map_err(|_| unknown())?;
    let secret = Digest::parse(&secret).map_err(|_| unknown())?;
    let package = state.rights().fetch(request, secret).await.map_err(|error| match error {
        FetchError::Unknown => unknown(),
        FetchError::Ended => {
            Problem::gone("the link to the package has ended; ask the controller for another one")
        }
        FetchError::Access(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "an access could not be recorded, so a package was not given");
            Problem::unavailable(
                "the access could not be written into the access log, so nothing is given",
                5,
            )
        }
        FetchError::Say(error) => problem(error),
    })?;
    let headers = [
        (CONTENT_TYPE, "application/zip"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_DISPOSITION, "attachment; filename=\"your-data.zip\""),
    ];
    Ok((headers, package).into_response())
}
