//! `POST /oauth/token`: exchanges a person's client id and secret for an access token (RFC 6749 §4.4).
//!
//! The credentials come in the form body or by HTTP Basic, not both. `scope` may ask for fewer roles than the person
//! has. Errors have the form that RFC 6749 §5.2 prescribes, not that of a problem document, because OAuth clients
//! look for `error`. No answer may be stored by a cache.
//!
//! Attempts are limited per client id. The secret has 256 random bits and cannot be guessed; the limit keeps noise and
//! load down. Ids that do not exist share one budget, so that made-up ids cannot fill the memory.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use governor::Quota;
use http::header::{AUTHORIZATION, CACHE_CONTROL, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::auth::Auth;
use crate::credentials::{PersonRecord, Role, RoleSet};
use crate::limits::KeyedBudget;
use crate::openapi::schema;

/// Attempts that may come at once for one client id.
const ATTEMPTS_BURST: NonZeroU32 = NonZeroU32::new(10).expect("10 is not 0");
/// Time after which one more attempt is allowed.
const ATTEMPT_PERIOD: Duration = Duration::from_secs(3);
/// The budget shared by all ids that do not exist.
const UNKNOWN_CLIENT: &str = "";

/// The endpoint's state.
pub struct TokenEndpoint {
    auth: Arc<Auth>,
    attempts: KeyedBudget,
}

impl TokenEndpoint {
    /// Makes the endpoint.
    #[must_use]
    pub fn new(auth: Arc<Auth>) -> Self {
        let quota =
            Quota::with_period(ATTEMPT_PERIOD).expect("the period is not 0").allow_burst(ATTEMPTS_BURST);
        let attempts = KeyedBudget::new(quota, Arc::clone(auth.clock()));
        Self { auth, attempts }
    }

    /// Forgets clients that were not seen lately. To be called every minute or so.
    pub fn sweep(&self) {
        self.attempts.sweep();
    }
}

/// Members that are not named here are ignored, as RFC 6749 §3.2 says; a member that stands twice is an error.
#[derive(Deserialize)]
pub struct TokenRequest {
    grant_type: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    scope: Option<String>,
}

#[derive(Serialize)]
struct TokenResponse<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u32,
    scope: String,
}

#[derive(Serialize)]
struct ErrorResponse {
    error: &'static str,
    error_description: &'static str,
}

/// The errors of RFC 6749 §5.2, and the two that HTTP needs beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenFailure {
    InvalidRequest(&'static str),
    InvalidClient,
    UnsupportedGrantType,
    InvalidScope,
    SlowDown { retry_after_s: u32 },
    ServerError,
}

impl IntoResponse for TokenFailure {
    fn into_response(self) -> Response {
        let (status, error, error_description) = match self {
            Self::InvalidRequest(why) => (StatusCode::BAD_REQUEST, "invalid_request", why),
            Self::InvalidClient => {
                (StatusCode::UNAUTHORIZED, "invalid_client", "client id or secret is missing or refused")
            }
            Self::UnsupportedGrantType => {
                (StatusCode::BAD_REQUEST, "unsupported_grant_type", "only client_credentials is supported")
            }
            Self::InvalidScope => {
                (StatusCode::BAD_REQUEST, "invalid_scope", "scope names a role that the client does not have")
            }
            Self::SlowDown { .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                "temporarily_unavailable",
                "too many attempts, wait for the seconds in Retry-After",
            ),
            Self::ServerError => {
                (StatusCode::INTERNAL_SERVER_ERROR, "server_error", "the token could not be signed")
            }
        };
        let mut response = (status, Json(ErrorResponse { error, error_description })).into_response();
        let headers = response.headers_mut();
        match self {
            Self::InvalidClient => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"idtrail\""));
            }
            Self::SlowDown { retry_after_s } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(retry_after_s));
            }
            _ => {}
        }
        no_store(response)
    }
}

/// Gives an access token
///
/// Exchanges a person's client id and secret for a token (RFC 6749 §4.4). They come in the form or by HTTP Basic, not
/// both. Errors have the form of RFC 6749 §5.2.
#[utoipa::path(
    post,
    path = "/oauth/token",
    tag = "tokens",
    request_body(content = schema::TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "A token.", body = schema::TokenAnswer),
        (status = 400, description = "The request is wrong.", body = schema::TokenError),
        (status = 401, description = "Id or secret is refused.", body = schema::TokenError),
        (status = 429, description = "Too many attempts.", body = schema::TokenError),
        (status = 500, description = "The token could not be signed.", body = schema::TokenError)
    ),
    security(())
)]
pub async fn token(
    State(endpoint): State<Arc<TokenEndpoint>>,
    headers: HeaderMap,
    form: Result<Form<TokenRequest>, FormRejection>,
) -> Response {
    match answer(&endpoint, &headers, form) {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    }
}

fn answer(
    endpoint: &TokenEndpoint,
    headers: &HeaderMap,
    form: Result<Form<TokenRequest>, FormRejection>,
) -> Result<Response, TokenFailure> {
    let Form(request) = form.map_err(|_| {
        TokenFailure::InvalidRequest("the body must be application/x-www-form-urlencoded, each member once")
    })?;
    match request.grant_type.as_deref() {
        Some("client_credentials") => {}
        Some(_) => return Err(TokenFailure::UnsupportedGrantType),
        None => return Err(TokenFailure::InvalidRequest("grant_type is missing")),
    }
    let (id, secret) = client(headers, request.client_id, request.client_secret.map(Zeroizing::new))?;
    let person = check(endpoint, &id, &secret)?;
    let roles = wanted_roles(request.scope.as_deref(), person.roles)?;
    let issued = endpoint.auth.issuer().issue(&person, roles).map_err(|error| {
        let error: &dyn std::error::Error = &error;
        tracing::error!(error, "token cannot be signed");
        TokenFailure::ServerError
    })?;
    let body = TokenResponse {
        access_token: &issued.token,
        token_type: "Bearer",
        expires_in: issued.expires_in_s,
        scope: roles.to_string(),
    };
    Ok(no_store(Json(body).into_response()))
}

/// Returns client id and secret from the one place where they are. Ours need no percent-decoding in HTTP Basic: they
/// consist of letters, digits and `_`.
fn client(
    headers: &HeaderMap,
    id: Option<String>,
    secret: Option<Zeroizing<String>>,
) -> Result<(String, Zeroizing<String>), TokenFailure> {
    let mut authorization = headers.get_all(AUTHORIZATION).iter();
    match (authorization.next(), authorization.next()) {
        (None, _) => match (id, secret) {
            (Some(id), Some(secret)) => Ok((id, secret)),
            _ => Err(TokenFailure::InvalidClient),
        },
        (Some(header), None) => {
            if secret.is_some() {
                return Err(TokenFailure::InvalidRequest("credentials must come in one place only"));
            }
            let (by_basic, secret) = basic(header).ok_or(TokenFailure::InvalidClient)?;
            if id.is_some_and(|id| id != by_basic) {
                return Err(TokenFailure::InvalidRequest("client_id differs from the one in Authorization"));
            }
            Ok((by_basic, secret))
        }
        (Some(_), Some(_)) => Err(TokenFailure::InvalidRequest("credentials must come once only")),
    }
}

fn basic(header: &HeaderValue) -> Option<(String, Zeroizing<String>)> {
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(STANDARD.decode(encoded.trim()).ok()?);
    let (id, secret) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((id.to_owned(), Zeroizing::new(secret.to_owned())))
}

fn check(endpoint: &TokenEndpoint, id: &str, secret: &str) -> Result<Arc<PersonRecord>, TokenFailure> {
    let credentials = endpoint.auth.credentials();
    let budget = if credentials.knows_person(id) { id } else { UNKNOWN_CLIENT };
    endpoint.attempts.take(budget, NonZeroU32::MIN).map_err(|retry_after_s| {
        tracing::warn!("too many attempts for one client id");
        TokenFailure::SlowDown { retry_after_s }
    })?;
    credentials.check_person(id, secret, endpoint.auth.clock().wall_ms()).map_err(|refusal| {
        tracing::info!(credential = "person", reason = refusal.label(), "credential refused");
        TokenFailure::InvalidClient
    })
}

fn wanted_roles(scope: Option<&str>, of_person: RoleSet) -> Result<RoleSet, TokenFailure> {
    let Some(scope) = scope.map(str::trim).filter(|scope| !scope.is_empty()) else { return Ok(of_person) };
    let names = scope.split(' ').filter(|name| !name.is_empty());
    let wanted: RoleSet = names
        .map(|name| name.parse::<Role>())
        .collect::<Result<_, _>>()
        .map_err(|_| TokenFailure::InvalidScope)?;
    if of_person.includes(wanted) { Ok(wanted) } else { Err(TokenFailure::InvalidScope) }
}

fn no_store(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests;
