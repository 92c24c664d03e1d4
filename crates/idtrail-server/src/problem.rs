//! Errors of the HTTP interface as problem documents (RFC 9457, `application/problem+json`).
//!
//! A handler returns a [`Problem`]; the middleware [`envelope`] gives every request an id, writes it into the
//! document and the header `x-request-id`, and turns whatever else went wrong (an unknown path, a wrong method, a
//! body that an extractor refused, a timeout) into a document of the same form. `type` is the address of a page that
//! this server itself answers, [`page`].
//!
//! A document never holds a value from the request: the value may be personal data or a secret, and documents end up
//! in the logs of clients. That is why details are constant texts and numbers, and why an invalid field is named by
//! JSON Pointer.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::rejection::{BytesRejection, FormRejection, JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, StatusCode};
use idtrail_port::Entropy;
use serde::Serialize;
use tracing::Instrument as _;

use crate::metrics::Metrics;

/// Media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Header of an answer that names the request.
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $status:ident, $retry:literal, $title:literal, $help:literal;)+) => {
        /// What went wrong, as a closed list. The names are part of the interface and never change their meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[doc = $doc])+ $name,)+ }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns the name as it stands in documents and addresses.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$name => $text),+ } }

            /// Returns the address of the page about this code, relative to this server.
            #[must_use]
            pub const fn address(self) -> &'static str { match self { $(Self::$name => concat!("/problems/", $text)),+ } }

            /// Returns the HTTP status.
            #[must_use]
            pub const fn status(self) -> StatusCode { match self { $(Self::$name => StatusCode::$status),+ } }

            /// Tells whether the same request may succeed later.
            #[must_use]
            pub const fn is_retryable(self) -> bool { match self { $(Self::$name => $retry),+ } }

            /// Returns a short title, the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str { match self { $(Self::$name => $title),+ } }

            /// Returns what the reader can do about it.
            #[must_use]
            pub const fn help(self) -> &'static str { match self { $(Self::$name => $help),+ } }
        }
    };
}

codes! {
    /// The body is not JSON.
    MalformedJson = "malformed_json", BAD_REQUEST, false, "Malformed JSON",
        "The body could not be read as JSON: it is not valid UTF-8, is cut off, has bytes behind its end, names a member twice, or is nested too deeply. `detail` says which, with the position where it is known. Send a corrected body.";
    /// The request is wrong in another way than its body.
    MalformedRequest = "malformed_request", BAD_REQUEST, false, "Malformed request",
        "The path, the query or a header could not be understood. `errors` or `detail` names the part. Correct the request.";
    /// There is no valid credential.
    Unauthorized = "unauthorized", UNAUTHORIZED, false, "Not authenticated",
        "The request needs a valid credential: an API key in the header `X-API-Key`, or an access token in `Authorization: Bearer`, or both, as the route's description says. A key may be mistyped, expired or revoked; a token lives for minutes only, so fetch a new one from `/oauth/token`.";
    /// The credential is valid but has no right to do this.
    Forbidden = "forbidden", FORBIDDEN, false, "Not allowed",
        "The credential is valid but its roles do not allow this request. Use another credential, or ask an administrator for one with the role that the route needs.";
    /// There is no such thing.
    NotFound = "not_found", NOT_FOUND, false, "Not found",
        "There is nothing at this address, or nothing that this credential may see.";
    /// The address exists, but not for this method.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, false, "Method not allowed",
        "The address exists but does not answer this method. The header `Allow` lists those that it answers.";
    /// The client did not send its request in time.
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, true, "Request took too long",
        "The request did not arrive in full in time. Send it again over a connection that is fast enough.";
    /// The same id came before with other content.
    Conflict = "conflict", CONFLICT, false, "Conflict",
        "What is there already does not agree with the request; `detail` says what and what to do. Most often an event with the same idempotency key or event id, but other content, is already in the log: the first one stays, this one was set aside. Give each event an id of its own and send the identical content when you repeat it.";
    /// It was there, and is no longer.
    Gone = "gone", GONE, false, "No longer there",
        "What this address led to was there for a time or a number of fetches, and that has ended; or it was a customer who was erased. Ask whoever gave you the address of a package for another one.";
    /// The body is too long.
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, false, "Too large",
        "The body or one of its events is longer than allowed. `detail` states the limit and the size, in bytes. Send less, or split a batch.";
    /// The bytes that are wanted are not there.
    RangeNotSatisfiable = "range_not_satisfiable", RANGE_NOT_SATISFIABLE, false, "Range not satisfiable",
        "The header `Range` asks for bytes behind the end of the file, so there is nothing left to fetch. `Content-Range` states how long the file is.";
    /// The body is of another media type than the route reads.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, false, "Unsupported media type",
        "The header `Content-Type` is missing or names a media type that this route does not read. Most routes read `application/json`.";
    /// The JSON is well-formed but breaks a rule.
    Invalid = "invalid", UNPROCESSABLE_ENTITY, false, "Invalid content",
        "The body is well-formed JSON but breaks one or more rules. `errors` names each place by JSON Pointer (RFC 6901), with the rule and a hint. Values are never repeated. Correct all of them and send the event again.";
    /// The credential used up its budget.
    TooManyRequests = "too_many_requests", TOO_MANY_REQUESTS, true, "Too many requests",
        "This credential sent more than its budget allows. Wait for the number of seconds in `Retry-After`, then send the same request again.";
    /// A bug.
    Internal = "internal", INTERNAL_SERVER_ERROR, false, "Internal error",
        "The server failed in a way that it should not. Whether the request had an effect is not known; an event may be sent again with the same idempotency key without being stored twice. Report the request id.";
    /// The server cannot do this at the moment.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, true, "Temporarily unavailable",
        "The server cannot serve this request at the moment, for instance because its queue is full. Nothing was acknowledged. Wait for the number of seconds in `Retry-After`, then send the same request again, with the same idempotency key.";
}

impl Code {
    /// Returns the code of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }

    /// Returns the code that says the same as an HTTP status.
    #[must_use]
    pub fn from_status(status: StatusCode) -> Self {
        match Self::ALL.iter().copied().find(|code| code.status() == status && *code != Self::MalformedJson) {
            Some(code) => code,
            None if status.is_server_error() => Self::Internal,
            None => Self::MalformedRequest,
        }
    }
}

/// One rule that was broken, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON Pointer of the member (RFC 6901); the empty string is the whole body.
    pub pointer: String,
    /// Stable name of the rule.
    pub code: Cow<'static, str>,
    /// What is wrong, without the value.
    pub message: Cow<'static, str>,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Cow<'static, str>>,
}

impl FieldError {
    /// Puts the parts together.
    #[must_use]
    pub fn new(pointer: &str, code: &'static str, message: &'static str, hint: &'static str) -> Self {
        Self {
            pointer: pointer.to_owned(),
            code: code.into(),
            message: message.into(),
            hint: Some(hint.into()),
        }
    }
}

impl From<idtrail_event::Finding> for FieldError {
    fn from(finding: idtrail_event::Finding) -> Self {
        Self::new(&finding.pointer, finding.code, finding.message, finding.hint)
    }
}

/// One error, ready to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    errors: Vec<FieldError>,
    retry_after_s: Option<u32>,
    authenticate: Option<&'static str>,
    quarantine_id: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantine_id: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    /// Makes a problem with a constant detail.
    #[must_use]
    pub const fn new(code: Code, detail: &'static str) -> Self {
        Self {
            code,
            detail: Cow::Borrowed(detail),
            hint: None,
            errors: Vec::new(),
            retry_after_s: None,
            authenticate: None,
            quarantine_id: None,
        }
    }

    /// The body is not JSON (400). `detail` says why in constant words, `at` is the line and column, counted from 1.
    #[must_use]
    pub fn malformed_json(detail: &'static str, at: Option<(usize, usize)>) -> Self {
        let mut problem = Self::new(Code::MalformedJson, detail);
        if let Some((line, column)) = at {
            problem.detail = Cow::Owned(format!("{detail}. line={line}, column={column}"));
        }
        problem
    }

    /// A path, query or header is wrong (400).
    #[must_use]
    pub const fn malformed_request(detail: &'static str) -> Self {
        Self::new(Code::MalformedRequest, detail)
    }

    /// A credential is missing or refused (401). `authenticate` is the challenge for `WWW-Authenticate`.
    #[must_use]
    pub const fn unauthorized(detail: &'static str, authenticate: &'static str) -> Self {
        let mut problem = Self::new(Code::Unauthorized, detail);
        problem.authenticate = Some(authenticate);
        problem
    }

    /// The credential's roles do not allow this (403).
    #[must_use]
    pub const fn forbidden(detail: &'static str) -> Self {
        Self::new(Code::Forbidden, detail)
    }

    /// There is no such thing (404).
    #[must_use]
    pub const fn not_found(detail: &'static str) -> Self {
        Self::new(Code::NotFound, detail)
    }

    /// The address does not answer this method (405).
    #[must_use]
    pub const fn method_not_allowed() -> Self {
        Self::new(Code::MethodNotAllowed, "the address does not answer this method")
    }

    /// The same id came before with other content (409).
    #[must_use]
    pub const fn conflict(detail: &'static str) -> Self {
        Self::new(Code::Conflict, detail)
    }

    /// Something was there and is no longer (410).
    #[must_use]
    pub const fn gone(detail: &'static str) -> Self {
        Self::new(Code::Gone, detail)
    }

    /// Something is too long (413): its size, if known, and the limit, in bytes.
    #[must_use]
    pub fn too_large(size: Option<u64>, limit: u64) -> Self {
        let mut problem = Self::new(Code::TooLarge, "");
        problem.detail = Cow::Owned(match size {
            Some(size) => format!("content is too large. bytes={size}, limit={limit}"),
            None => format!("content is too large. limit={limit}"),
        });
        problem
    }

    /// The body is of another media type (415). `expected` names the one that is read.
    #[must_use]
    pub fn unsupported_media_type(expected: &'static str) -> Self {
        Self::new(Code::UnsupportedMediaType, "the content type is not one that this route reads")
            .with_hint(expected)
    }

    /// The content breaks rules (422).
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let mut problem = Self::new(Code::Invalid, "");
        problem.detail = Cow::Owned(format!("the content breaks rules. count={}", errors.len()));
        problem.errors = errors;
        problem
    }

    /// The credential used up its budget (429).
    #[must_use]
    pub const fn too_many_requests(retry_after_s: u32) -> Self {
        let mut problem = Self::new(Code::TooManyRequests, "the budget of this credential is used up");
        problem.retry_after_s = Some(retry_after_s);
        problem
    }

    /// The server cannot do this now (503).
    #[must_use]
    pub const fn unavailable(detail: &'static str, retry_after_s: u32) -> Self {
        let mut problem = Self::new(Code::Unavailable, detail);
        problem.retry_after_s = Some(retry_after_s);
        problem
    }

    /// The server has a bug (500). What happened goes to the log, not to the client.
    #[must_use]
    pub const fn internal() -> Self {
        Self::new(Code::Internal, "the server failed unexpectedly")
    }

    /// Makes the problem that says the same as an HTTP status.
    #[must_use]
    pub const fn with_code(code: Code) -> Self {
        Self::new(code, code.title())
    }

    /// Adds what the client can do.
    #[must_use]
    pub fn with_hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(Cow::Borrowed(hint));
        self
    }

    /// Adds the places concerned.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// Adds where the refused event is kept.
    #[must_use]
    pub fn with_quarantine(mut self, id: String) -> Self {
        self.quarantine_id = Some(id);
        self
    }

    /// Returns what went wrong.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Returns what happened, in constant words and numbers.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns the HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// Returns the places concerned.
    #[must_use]
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// Returns the document as JSON bytes.
    #[must_use]
    pub fn to_json(&self, request_id: Option<&str>) -> Vec<u8> {
        let document = Document {
            r#type: self.code.address(),
            title: self.code.title(),
            status: self.status().as_u16(),
            detail: &self.detail,
            code: self.code.as_str(),
            request_id,
            retryable: self.code.is_retryable(),
            hint: self.hint.as_deref(),
            quarantine_id: self.quarantine_id.as_deref(),
            errors: &self.errors,
        };
        serde_json::to_vec(&document).expect("a document of strings and numbers is always JSON")
    }

    /// Returns the headers that belong to the document, apart from its content type.
    fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let retry = self.retry_after_s.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds)));
        let authenticate =
            self.authenticate.map(|challenge| (WWW_AUTHENTICATE, HeaderValue::from_static(challenge)));
        // An error describes one moment; a shared cache must not repeat it to others.
        [Some((CACHE_CONTROL, HeaderValue::from_static("no-store"))), retry, authenticate]
            .into_iter()
            .flatten()
    }

    /// Writes the document into `response`, keeping its other headers (such as `Allow`).
    pub(crate) fn render(&self, response: &mut Response, request_id: Option<&str>) {
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.extend(self.headers());
        *response.body_mut() = Body::from(self.to_json(request_id));
    }
}

/// Without [`envelope`] around it, the document has no request id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        self.render(&mut response, None);
        // The middleware finds the problem here and writes the document again, with the request id.
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

macro_rules! from_rejections {
    ($($rejection:ty),+) => {$(
        impl From<$rejection> for Problem {
            /// Keeps the status only: the text of a rejection may quote the request.
            fn from(rejection: $rejection) -> Self {
                Self::with_code(Code::from_status(rejection.status()))
            }
        }
    )+};
}
from_rejections!(BytesRejection, FormRejection, PathRejection, QueryRejection);

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            JsonRejection::JsonSyntaxError(_) => Self::malformed_json("the body is not valid JSON", None),
            JsonRejection::MissingJsonContentType(_) => Self::unsupported_media_type("application/json"),
            other => Self::with_code(Code::from_status(other.status())),
        }
    }
}

/// The id of one request, for the answer and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Returns the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What [`envelope`] needs.
#[derive(Debug)]
pub struct Envelope {
    /// Gives out request ids.
    pub ids: RequestIds,
    /// Counts answers.
    pub metrics: Arc<Metrics>,
}

/// Gives out request ids: a random part for the process and a counter. An id sent by a client is not used, because
/// it would be a value from the request in logs and documents.
#[derive(Debug)]
pub struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Starts with a random part.
    #[must_use]
    pub fn new(entropy: &dyn Entropy) -> Self {
        Self { process: u64::from_be_bytes(idtrail_port::random(entropy)), next: AtomicU64::new(0) }
    }

    /// Returns an id that no other request of any process has.
    #[must_use]
    pub fn next(&self) -> RequestId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        RequestId(Arc::from(format!("req_{:016x}{number:08x}", self.process)))
    }
}

/// Middleware (`axum::middleware::from_fn_with_state`): gives the request an id, as an extension of type
/// [`RequestId`] and in the answer's header, and makes a problem document of every error that is not one yet.
/// Errors of another JSON form (`/oauth/token` has to answer as RFC 6749 says) are left as they are.
///
/// A request that carries a W3C `traceparent` is logged under its trace id. Nothing else of it is used, and it never
/// reaches the log of events.
pub async fn envelope(State(shared): State<Arc<Envelope>>, mut request: Request, next: Next) -> Response {
    let id = shared.ids.next();
    request.extensions_mut().insert(id.clone());
    let trace = request.headers().get("traceparent").and_then(trace_id);
    let mut response = match trace {
        Some(trace_id) => {
            let span = tracing::info_span!("request", request_id = id.as_str(), trace_id);
            next.run(request).instrument(span).await
        }
        None => next.run(request).await,
    };
    shared.metrics.answered(response.status());
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if response.status().is_client_error() || response.status().is_server_error() {
        if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
            problem.render(&mut response, Some(id.as_str()));
        } else if !is_json(&response) {
            // 503 without a time to come back would let clients hammer on.
            let problem = match Code::from_status(response.status()) {
                Code::Unavailable => Problem::unavailable("the request was not answered in time", 1),
                code => Problem::with_code(code),
            };
            problem.render(&mut response, Some(id.as_str()));
        }
    }
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID_HEADER, value);
    }
    response
}

/// Returns the trace id of a `traceparent` (W3C Trace Context §3.2): 32 lower-case hex digits, not all zero.
pub(crate) fn trace_id(header: &HeaderValue) -> Option<String> {
    let mut parts = header.to_str().ok()?.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let known = hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    let whole = hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    let zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    (known && whole && !zero(trace) && !zero(parent)).then(|| trace.to_owned())
}

fn is_json(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(|text| text.starts_with(b"application/json"))
}

/// Answers an unknown path (`Router::fallback`).
pub async fn unknown_path() -> Problem {
    Problem::not_found("there is nothing at this address")
}

/// Answers a wrong method (`Router::method_not_allowed_fallback`).
pub async fn wrong_method() -> Problem {
    Problem::method_not_allowed()
}

/// Explains an error
///
/// What a problem code means and what to do about it. The member `type` of a problem document is this address.
///
/// # Errors
/// `not_found` if there is no such code.
#[utoipa::path(
    get,
    path = "/problems/{code}",
    tag = "documentation",
    params(("code" = String, Path, description = "Code of a problem document.", example = "invalid")),
    responses(
        (status = 200, description = "The explanation.", body = String, content_type = "text/plain"),
        crate::openapi::OpenProblems
    ),
    security(())
)]
pub async fn page(Path(code): Path<String>) -> Result<Response, Problem> {
    let code = Code::from_name(&code).ok_or(Problem::not_found("there is no such problem code"))?;
    let retry = if code.is_retryable() { "may succeed later" } else { "will fail again" };
    let text = format!(
        "{title}\n\ncode    {name}\nstatus  {status}\nretry   the same request {retry}\n\n{help}\n",
        title = code.title(),
        name = code.as_str(),
        status = code.status().as_u16(),
        help = code.help(),
    );
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

#[cfg(test)]
mod tests;
