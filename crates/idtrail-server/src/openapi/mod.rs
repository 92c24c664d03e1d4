//! The OpenAPI document: `/openapi.json`, the page `/docs`, and the vocabulary that handlers describe themselves in.
//!
//! A route and its description are one thing: a handler carries `#[utoipa::path(…)]` and is registered with one line,
//! `.routes(routes!(module::handler))`, in [`crate::api::documented`]. There is no other way to register one.
//!
//! Who may call an operation stands in two places of its description. `security` names the credentials that are
//! needed, as OpenAPI has it; `x-idtrail-roles` names, for each of them, the roles of which it needs one. A test walks
//! the document and tries every operation with every credential and role, so that the description cannot drift from
//! what handlers do.
//!
//! Errors are named by the sets below ([`ReadProblems`], [`WriteProblems`], [`OpenProblems`]); what an operation has
//! beyond its set stands beside it ([`ConflictProblem`], [`RangeProblem`], [`RequestProblem`]).

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::{Value, json};
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, Info, License, OpenApi, Ref, RefOr, ResponseBuilder, Server, tag::Tag,
};
use utoipa::{IntoResponses, PartialSchema as _, ToSchema};

use crate::problem::{Code, PROBLEM_JSON};

pub mod page;
pub mod schema;

/// Name of the security scheme of calling systems.
pub const API_KEY: &str = "ApiKey";
/// Name of the security scheme of persons.
pub const BEARER: &str = "Bearer";
/// Names the operations that show something of a customer, and so stand in the access log.
const DISCLOSES: &str = "x-idtrail-discloses";
/// Name of the extension that says which roles an operation needs.
pub const ROLES: &str = "x-idtrail-roles";

/// The groups of operations, in the order in which a reader meets them.
const TAGS: &[(&str, &str)] = &[
    ("events", "Events in, receipts out."),
    ("identity", "Whose an interaction is, and why."),
    ("rights", "What persons may ask for."),
    ("log", "The log for verifiers: checkpoints, tiles, sealed entries (C2SP tlog-tiles)."),
    ("sinks", "Outside systems that every event is delivered to."),
    ("admin", "What changes an installation."),
    ("tokens", "Access tokens for persons."),
    ("operations", "Whether the server is well."),
    ("documentation", "This document and its explanations."),
];

macro_rules! problems {
    ($($(#[doc = $doc:literal])+ $name:ident: $($code:ident)+;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug)]
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<String, RefOr<utoipa::openapi::Response>> {
                responses(&[$(Code::$code),+])
            }
        }
    )+};
}

problems! {
    /// Errors of operations that everybody may call.
    OpenProblems: NotFound Internal Unavailable;
    /// Errors of operations that read and need a credential.
    ReadProblems: Unauthorized Forbidden NotFound TooManyRequests Internal Unavailable;
    /// Errors of operations that take a JSON body and need a credential.
    WriteProblems: MalformedJson Unauthorized Forbidden RequestTimeout TooLarge UnsupportedMediaType Invalid
        TooManyRequests Internal Unavailable;
    /// The error of operations that an id or idempotency key makes unrepeatable.
    ConflictProblem: Conflict;
    /// The error of operations that name something which may not be there.
    NotFoundProblem: NotFound;
    /// The error of operations that give parts of a file.
    RangeProblem: RangeNotSatisfiable;
    /// The error of operations that give something for a time only.
    GoneProblem: Gone;
    /// The error of operations whose path, query or header can be wrong.
    RequestProblem: MalformedRequest;
}

/// Returns the responses for these codes, by status, each a reference to the document's components.
fn responses(codes: &[Code]) -> std::collections::BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    let entry = |code: &Code| {
        let reference = RefOr::Ref(Ref::from_response_name(response_name(*code)));
        (code.status().as_str().to_owned(), reference)
    };
    codes.iter().map(entry).collect()
}

/// Returns the name of a status' response among the components. Two codes share a status, so the status names it.
fn response_name(code: Code) -> String {
    let reason = code.status().canonical_reason().unwrap_or("Problem");
    reason.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// The header that makes a request repeatable.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyKey {
    /// Makes the request repeatable: the same key with the same content gives the same receipt, for ever; with another
    /// content it is refused (409). Without it the content itself is the key.
    #[param(
        rename = "Idempotency-Key",
        nullable = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]+$"
    )]
    pub idempotency_key: Option<String>,
}

/// The header that says why somebody reads.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
pub struct Purpose {
    /// Why the data are read; stands in the access log. Without it the route's own purpose counts.
    #[param(
        rename = "X-Purpose",
        nullable = false,
        pattern = "^(ACCESS_REQUEST|AUDIT|CORRECTION|INVESTIGATION|MONITORING|SUPPORT)$"
    )]
    pub purpose: Option<String>,
}

/// Returns the document without its operations.
pub fn base() -> OpenApi {
    let mut info = Info::new("idtrail", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "An immutable, verifiable audit trail of customer identity. An event is answered when it is on disk, with a \
         proof that it is in the log.\n\nErrors are problem documents (RFC 9457) and never repeat a value. \
         `x-idtrail-roles` names the roles of which each credential of an operation needs one."
            .to_owned(),
    );
    let mut license = License::new("Apache-2.0");
    license.identifier = Some("Apache-2.0".to_owned());
    info.license = Some(license);
    let mut document = OpenApi::new(info, utoipa::openapi::Paths::new());
    let mut components = Components::new();
    components.schemas.insert("Problem".to_owned(), schema::ProblemDocument::schema());
    let mut schemas = Vec::new();
    schema::ProblemDocument::schemas(&mut schemas);
    components.schemas.extend(schemas);
    for code in Code::ALL {
        let mut response = ResponseBuilder::new().description(code.title()).content(
            PROBLEM_JSON,
            ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build(),
        );
        if code.is_retryable() && code.status().as_u16() != 408 {
            let seconds = utoipa::openapi::HeaderBuilder::new()
                .description(Some("Seconds to wait before the same request is sent again."))
                .schema(Some(u32::schema()))
                .build();
            response = response.header("Retry-After", seconds);
        }
        components.responses.entry(response_name(*code)).or_insert_with(|| response.build().into());
    }
    components.add_security_scheme(
        API_KEY,
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
            "X-API-Key",
            "Which system calls: a key that `idtrail key create` made.",
        ))),
    );
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.bearer_format = Some("JWT".to_owned());
    bearer.description = Some(
        "Which person acts: a token of `/oauth/token` or of a configured OpenID Connect issuer.".to_owned(),
    );
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    document.components = Some(components);
    document.servers = Some(vec![Server::new("/")]);
    let tag = |(name, description): &(&str, &str)| {
        let mut tag = Tag::new(*name);
        tag.description = Some((*description).to_owned());
        tag
    };
    document.tags = Some(TAGS.iter().map(tag).collect());
    document
}

/// Makes the collected operations fit for readers: paths without axum's marks, texts without Rust's sections.
pub fn finish(mut document: OpenApi) -> OpenApi {
    let paths = std::mem::take(&mut document.paths.paths);
    let mut disclosing = Vec::new();
    for (path, mut item) in paths {
        for (_, operation) in operations_mut(&mut item) {
            tidy(operation);
            // One extension an operation: several would stand in another order each time.
            let extensions = operation.extensions.as_mut();
            if extensions.is_some_and(|extensions| extensions.remove(DISCLOSES) == Some(json!(true))) {
                disclosing.extend(operation.operation_id.clone());
            }
        }
        document.paths.paths.insert(path.replace("{*", "{"), item);
    }
    disclosing.sort_unstable();
    let extensions = document.extensions.get_or_insert_with(Extensions::default);
    extensions.insert(DISCLOSES.to_owned(), json!(disclosing));
    document
}

fn tidy(operation: &mut Operation) {
    if let Some(description) = &mut operation.description {
        let end = description.find("# Errors").unwrap_or(description.len());
        description.truncate(end);
        description.truncate(description.trim_end().len());
    }
    // Without this an operation that nobody thought about would read as one that everybody may call.
    if operation.security.is_none() {
        operation.security = Some(Vec::new());
    }
    let roles = operation.extensions.get_or_insert_with(Extensions::default);
    roles.entry(ROLES.to_owned()).or_insert_with(|| json!({}));
}

/// Returns the operations of a path with their methods in lower case.
fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("delete", &mut item.delete),
        ("options", &mut item.options),
        ("head", &mut item.head),
        ("patch", &mut item.patch),
        ("trace", &mut item.trace),
    ]
    .into_iter()
    .filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}

/// Returns a sample of the guide: 0 an identification, 1 a deletion.
pub fn sample(number: usize) -> Value {
    let text = crate::synthetic::SAMPLES.get(number).copied().unwrap_or("null");
    serde_json::from_str(text).unwrap_or_default()
}

/// The whole document, as it is served: pretty JSON with a line break at its end.
pub static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let document = finish(crate::api::documented().into_openapi());
    let mut text = serde_json::to_string_pretty(&document).expect("a document of strings is always JSON");
    text.push('\n');
    Bytes::from(text)
});

/// Gives this document
///
/// OpenAPI 3.1, JSON. The same text stands in the repository as docs/openapi.json.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "documentation",
    responses((status = 200, description = "The document.", body = serde_json::Map<String, Value>)),
    security(())
)]
pub async fn openapi_json() -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")];
    (headers, DOCUMENT.clone()).into_response()
}
