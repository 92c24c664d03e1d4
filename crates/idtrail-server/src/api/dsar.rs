//! `POST /api/v1/compliance/dsar/audit-trail`: every event of a customer, as an evidence package.
//!
//! Both credentials are needed: the API key says which system calls, the token which person acts. The answer is read
//! at exactly one size S of the log, after everything that it needs has caught up with S; if that takes too long the
//! answer is 503, never a shorter list. What was not asked is named in `coverage`.
//!
//! With `limit` the answer comes in pages (see `page`), with `format=package` as a file whose download can be taken up again
//! where it broke off (see `kept`).

mod answer;
mod kept;
mod page;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderName, IF_RANGE, LINK, RANGE,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use idtrail_event::GlobalCustomerId;
use idtrail_identity::assertion::Subject;
use idtrail_index::trail::Trail;
use idtrail_log::reader::Head;
use idtrail_log::shell::Log;
use idtrail_verify::{DateRange, Request};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use answer::{AnswerError, Whose, package, whose};
pub(crate) use kept::Kept;
use kept::{Asker, File, Moment, Wanted};
use page::{Cursor, Part};

use super::disclosure::{Reader, Route, disclose};
use super::identifiers::{Given, identifier, readings};
use super::identity::durably;
use super::{AppState, body};
use crate::auth::{CallingSystem, Person};
use crate::credentials::Role;
use crate::engine::Engine;
use crate::engine::origins::{Line, View};
use crate::openapi::{self, schema};
use crate::problem::{FieldError, Problem};

const BODY_BYTES_MAX: usize = 4096;
const CUSTOMER_CHARS_MAX: usize = 256;
const PAGE_MAX: usize = 1000;
const PATH: &str = "/api/v1/compliance/dsar/audit-trail";
/// Where a package is fetched again.
const PACKAGES: &str = "/api/v1/compliance/dsar/packages";

/// How the answer is wanted.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Form {
    /// `package`: as a file whose download can be taken up again, at the address in `Content-Location`.
    #[param(pattern = "^package$", nullable = false)]
    format: Option<String>,
    /// Most events of one page. The header `Link` (`rel="next"`) then leads to the next page, if there is one.
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<usize>,
    /// Where the page before ended, from its `Link`.
    #[param(max_length = 64, nullable = false)]
    after: Option<String>,
}

impl Form {
    fn part(&self) -> Result<Part, Problem> {
        let wrong = || Problem::malformed_request("limit must be 1 to 1000");
        if self.limit.is_some_and(|limit| !(1..=PAGE_MAX).contains(&limit)) {
            return Err(wrong());
        }
        let after = self.after.as_deref().map(|text| {
            Cursor::parse(text)
                .ok_or_else(|| Problem::malformed_request("the cursor is not one of this route's"))
        });
        let after = after.transpose()?;
        let limit = self.limit.or(after.is_some().then_some(PAGE_MAX));
        Ok(Part { limit, after })
    }

    /// Tells whether a file is wanted.
    fn is_file(&self, part: &Part) -> Result<bool, Problem> {
        match self.format.as_deref() {
            None => Ok(false),
            Some("package") if part.is_whole() => Ok(true),
            Some("package") => {
                Err(Problem::malformed_request("a package is whole: send format, or limit and after"))
            }
            Some(_) => Err(Problem::malformed_request("the only format is package")),
        }
    }
}

/// Gives everything that is held about a customer
///
/// All events of a customer with their keys and proofs, as a file that verifies offline. Both credentials are needed:
/// the key says which system calls, the token which person acts. With `limit` in pages: each is a file of its own over the
/// next events, and `idtrail verify` calls it incomplete, because the others are not in it. A page behind a cursor is
/// refused with 409 if it has turned out meanwhile that other ids are the customer's too: begin anew then.
/// Of an erased customer the answer has the DATA_DELETION events of the erasure and nothing else, by any of their ids or
/// identifiers for as long as the suppression lasts, and by the id of the request or the hash of a certificate of it.
///
/// # Errors
/// 400, 401, 403, 409, 413, 415, 422, 429 or 503.
#[utoipa::path(
    post,
    path = "/api/v1/compliance/dsar/audit-trail",
    tag = "rights",
    params(Form),
    request_body(
        content = schema::AccessRequest,
        example = json!({
            "customerIdHash": "cust_hash_9f86d08",
            "requestType": "ACCESS",
            "dateRange": { "start": "2023-01-01T00:00:00Z", "end": "2023-12-31T23:59:59Z" }
        })
    ),
    responses(
        (status = 200, description = "Everything that is held, or a page of it.", body = schema::EvidencePackage),
        openapi::ConflictProblem,
        openapi::RequestProblem,
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
    form: Result<axum::extract::Query<Form>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    system.require(&[Role::Dpo])?;
    person.require(&[Role::Dpo])?;
    state.budgets().take_read(system.key_id())?;
    let axum::extract::Query(form) = form?;
    let part = form.part()?;
    let is_file = form.is_file(&part)?;
    let asker = Asker { key: system.key_id().to_owned(), person: person.id().to_owned() };
    let limit = part.limit;
    let value = body::json(&headers, body, BODY_BYTES_MAX).await?;
    let query = Query::read(state.engine(), value).map_err(Problem::invalid)?;
    let timeout = state.request_timeout();
    let reader = Reader::of(system, person);
    let route = Route { operation: "audit_trail", purpose: "ACCESS_REQUEST" };
    let made = moment(&state);
    let rights = Arc::clone(state.rights());
    let answer = disclose(state.engine(), &reader, route, move |engine, shown| {
        let (found, next) = engine.identity().read(|known| whose(known, &query.subjects));
        durably(engine, next, timeout)?;
        // Of an erased person nothing is left but the deletions.
        let erased = match found {
            Some(_) => None,
            None => {
                let asked = &query.request.customer_id_hash;
                rights.erasure_of(&query.subjects, asked).map_err(super::rights::problem)?
            }
        };
        let found = Whose { closure: found, erased };
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
        let (package, next) =
            package(engine, shown, (&logs, &accesses), (query, &part), found).map_err(|error| {
                if matches!(error, AnswerError::Moved) {
                    return Problem::conflict(
                        "what is known of this customer has changed since the page before; begin with the first page",
                    );
                }
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a request for access could not be answered"
                );
                Problem::unavailable("an event could not be read", 5)
            })?;
        Ok((package, next, shown.clone()))
    });
    let (package, next, shown) = answer.await?;
    let body = serde_json::to_vec(&package).map_err(|_| Problem::internal())?;
    if !is_file {
        let mut response = json_body(body).into_response();
        if let (Some(next), Some(limit)) = (next, limit) {
            let link = format!("<{PATH}?limit={limit}&after={}>; rel=\"next\"", next.text());
            header(&mut response, LINK, &link);
        }
        return Ok(response);
    }
    let file = File::new(body, shown);
    let entropy = &*state.engine().ports().entropy;
    let id = state.packages().keep(entropy, asker, file.clone(), made);
    let mut response = whole(file);
    if let Some(id) = id {
        header(&mut response, CONTENT_LOCATION, &format!("{PACKAGES}/{id}"));
    }
    Ok(response)
}

/// Fetches a package again
///
/// The file that a request with `format=package` made, for whoever made it, within 15 minutes; `Range` and `If-Range`
/// (RFC 9110) take up a download that broke off. Once any key was destroyed it is no longer given, since it might hold what
/// was erased.
///
/// # Errors
/// 401, 403, 404, 416, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/compliance/dsar/packages/{id}",
    operation_id = "fetch_package",
    tag = "rights",
    params((
        "id" = String,
        Path,
        description = "From the header `Content-Location` of the first answer.",
        example = "7d3f1b0c5a2e4f6891a0b3c4d5e6f708"
    )),
    responses(
        (status = 200, description = "The whole file.", body = schema::EvidencePackage),
        (status = 206, description = "The part that was asked for.", content_type = "application/json"),
        openapi::RangeProblem,
        openapi::ReadProblems
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(
        ("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })),
        ("x-idtrail-discloses" = json!(true))
    )
)]
pub async fn fetch_package(
    State(state): State<AppState>,
    system: CallingSystem,
    person: Person,
    id: Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    system.require(&[Role::Dpo])?;
    person.require(&[Role::Dpo])?;
    state.budgets().take_read(system.key_id())?;
    let asker = Asker { key: system.key_id().to_owned(), person: person.id().to_owned() };
    let reader = Reader::of(system, person);
    let route = Route { operation: "fetch_package", purpose: "ACCESS_REQUEST" };
    let found = state.packages().get(&id, &asker, moment(&state));
    let file = found.ok_or(Problem::not_found("there is no such package, or its time is over; ask anew"))?;
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    // A part of another file would make a file that nobody signed.
    let same = text(IF_RANGE).is_none_or(|tag| tag == file.tag);
    let length = file.body.len() as u64;
    let wanted = kept::wanted(text(RANGE).filter(|_| same), length);
    if wanted == Wanted::Nothing {
        let mut response = Problem::new(
            crate::problem::Code::RangeNotSatisfiable,
            "the range begins behind the end of the file",
        )
        .into_response();
        header(&mut response, CONTENT_RANGE, &format!("bytes */{length}"));
        return Ok(response);
    }
    let given = file.shown.clone();
    disclose(state.engine(), &reader, route, move |_, shown| {
        *shown = given;
        Ok(())
    })
    .await?;
    let Wanted::Part(first, last) = wanted else { return Ok(whole(file)) };
    let place = |at: u64| usize::try_from(at).map_err(|_| Problem::internal());
    let part = file.body.slice(place(first)?..=place(last)?);
    let mut response = whole(File { body: part, ..file });
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    header(&mut response, CONTENT_RANGE, &format!("bytes {first}-{last}/{length}"));
    Ok(response)
}

fn moment(state: &AppState) -> Moment {
    let engine = state.engine();
    Moment { now_ms: engine.now_ms(), epoch: engine.lookup().epoch_in_log() }
}

fn json_body(body: impl Into<Body>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body.into())
}

fn whole(file: File) -> Response {
    let mut response = json_body(file.body).into_response();
    header(&mut response, ACCEPT_RANGES, "bytes");
    header(&mut response, ETAG, &file.tag);
    header(&mut response, CONTENT_DISPOSITION, "attachment; filename=\"evidence-package.json\"");
    response
}

/// Sets a header whose value is made here, of visible characters only.
fn header(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
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
