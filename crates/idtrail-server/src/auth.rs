//! Who is calling: a calling system by `X-API-Key`, a person by `Authorization: Bearer`.
//!
//! [`CallingSystem`] and [`Person`] are axum extractors over any state that holds an `Arc<Auth>`; a route that needs
//! both takes both. A handler then asks for the role that it needs, so that nothing is allowed by being forgotten:
//! an identity without a role check can do nothing useful.
//!
//! A refusal says only that the credential was refused. Why goes to the log as a word of a closed list, never with
//! the credential or a part of it: a mistyped secret differs from the right one by a character.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use idtrail_port::Clock;

use crate::credentials::{CredentialStore, KeyRecord, Role, RoleSet};
use crate::metrics::Metrics;
use crate::oidc::{self, Issuer, OidcError};
use crate::problem::Problem;
use crate::token::TokenIssuer;

/// Name of the header with the API key.
pub const API_KEY_HEADER: &str = "x-api-key";
/// What every API key starts with, and no token does.
const KEY_START: &str = "idt_";
/// Challenge for a missing or refused API key.
const KEY_CHALLENGE: &str = "ApiKey realm=\"idtrail\", header=\"X-API-Key\"";
/// Challenge for a missing token (RFC 6750 §3).
const BEARER_CHALLENGE: &str = "Bearer realm=\"idtrail\"";
/// Challenge for a refused token.
const INVALID_TOKEN_CHALLENGE: &str = "Bearer realm=\"idtrail\", error=\"invalid_token\"";

/// Checks credentials.
pub struct Auth {
    credentials: Arc<CredentialStore>,
    issuer: Arc<TokenIssuer>,
    foreign: Vec<Issuer>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// A system that presented a valid API key.
#[derive(Clone, Debug)]
pub struct CallingSystem {
    key: Arc<KeyRecord>,
    metrics: Arc<Metrics>,
}

/// A person who presented a valid token.
#[derive(Clone, Debug)]
pub struct Person {
    id: Arc<str>,
    name: Arc<str>,
    roles: RoleSet,
    metrics: Arc<Metrics>,
}

/// Who looks after the installation: a system or a person. Collectors of metrics often know one header only, so an API
/// key counts here in `Authorization: Bearer` too.
#[derive(Clone, Debug)]
pub enum Observer {
    /// A system with its key.
    System(CallingSystem),
    /// A person with a token.
    Person(Person),
}

impl Auth {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        credentials: Arc<CredentialStore>,
        issuer: Arc<TokenIssuer>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { credentials, issuer, foreign: Vec::new(), clock, metrics }
    }

    /// Lets tokens of further issuers count.
    #[must_use]
    pub fn with_issuers(mut self, foreign: Vec<Issuer>) -> Self {
        self.foreign = foreign;
        self
    }

    /// Returns the credentials.
    #[must_use]
    pub const fn credentials(&self) -> &Arc<CredentialStore> {
        &self.credentials
    }

    /// Returns the token issuer.
    #[must_use]
    pub const fn issuer(&self) -> &Arc<TokenIssuer> {
        &self.issuer
    }

    /// Returns the clock by which expiry is judged.
    #[must_use]
    pub const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Returns the system whose key is in the headers.
    ///
    /// # Errors
    /// `unauthorized` if the key is missing, there twice, or refused.
    pub fn calling_system(&self, headers: &HeaderMap) -> Result<CallingSystem, Problem> {
        let key = match only(headers, API_KEY_HEADER) {
            One::Value(key) => key,
            One::Missing => {
                self.metrics.auth_failed("missing_key");
                return Err(Problem::unauthorized("the header X-API-Key is missing", KEY_CHALLENGE));
            }
            One::Unusable => {
                self.metrics.auth_failed("malformed");
                return Err(Problem::unauthorized("the API key is refused", KEY_CHALLENGE));
            }
        };
        self.system_of(key)
    }

    fn system_of(&self, key: &str) -> Result<CallingSystem, Problem> {
        let checked = self.credentials.check_key(key, self.clock.wall_ms());
        checked.map(|key| CallingSystem { key, metrics: Arc::clone(&self.metrics) }).map_err(|refusal| {
            self.metrics.auth_failed(refusal.label());
            tracing::info!(credential = "key", reason = refusal.label(), "credential refused");
            Problem::unauthorized("the API key is refused", KEY_CHALLENGE)
        })
    }

    /// Returns the person whose token is in the headers. A token counts only as long as its person is live, and only
    /// for roles that the person still has, so that a revocation need not wait for the token's end. Persons of foreign
    /// issuers live there; what the issuer says in the token counts.
    ///
    /// # Errors
    /// `unauthorized` if the token is missing, there twice, or refused; `unavailable` if its issuer cannot be asked.
    pub async fn person(&self, headers: &HeaderMap) -> Result<Person, Problem> {
        let token = self.bearer(headers)?;
        let foreign = match self.foreign.is_empty() {
            true => None,
            false => {
                let name = oidc::claimed_issuer(token);
                self.foreign.iter().find(|issuer| Some(issuer.name()) == name.as_deref())
            }
        };
        let Some(foreign) = foreign else { return self.own_person(token) };
        let person = foreign.verify(token).await.map_err(|error| match error {
            OidcError::Unavailable => {
                self.metrics.auth_failed(error.label());
                Problem::unavailable("the issuer of the access token cannot be reached to check it", 5)
            }
            error => self.refused(error.label()),
        })?;
        Ok(Person {
            id: Arc::from(person.id),
            name: Arc::from(person.name),
            roles: person.roles,
            metrics: Arc::clone(&self.metrics),
        })
    }

    fn refused(&self, reason: &'static str) -> Problem {
        self.metrics.auth_failed(reason);
        tracing::info!(credential = "token", reason, "credential refused");
        Problem::unauthorized("the access token is refused", INVALID_TOKEN_CHALLENGE)
    }

    fn bearer<'h>(&self, headers: &'h HeaderMap) -> Result<&'h str, Problem> {
        let missing = |detail| {
            self.metrics.auth_failed("missing_token");
            Problem::unauthorized(detail, BEARER_CHALLENGE)
        };
        let header = match only(headers, AUTHORIZATION.as_str()) {
            One::Value(header) => header,
            One::Missing => return Err(missing("the header Authorization is missing")),
            One::Unusable => return Err(self.refused("malformed")),
        };
        match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Ok(token.trim_start_matches(' '))
            }
            _ => Err(missing("the access token is missing")),
        }
    }

    fn own_person(&self, token: &str) -> Result<Person, Problem> {
        let claims = self.issuer.verify(token).map_err(|error| self.refused(error.label()))?;
        let person = self
            .credentials
            .live_person(&claims.sub, self.clock.wall_ms())
            .map_err(|refusal| self.refused(refusal.label()))?;
        Ok(Person {
            id: Arc::from(person.id.as_str()),
            name: Arc::from(person.name.as_str()),
            roles: claims.roles.intersection(person.roles),
            metrics: Arc::clone(&self.metrics),
        })
    }

    /// Returns who looks after the installation, by API key or token.
    ///
    /// # Errors
    /// `unauthorized` or `unavailable`, as for the two.
    pub async fn observer(&self, headers: &HeaderMap) -> Result<Observer, Problem> {
        if headers.contains_key(API_KEY_HEADER) || !headers.contains_key(AUTHORIZATION) {
            return self.calling_system(headers).map(Observer::System);
        }
        match self.bearer(headers) {
            Ok(key) if key.starts_with(KEY_START) => self.system_of(key).map(Observer::System),
            _ => self.person(headers).await.map(Observer::Person),
        }
    }
}

impl Observer {
    /// Goes on only with one of the roles.
    ///
    /// # Errors
    /// `forbidden` without any of them.
    pub fn require(&self, any_of: &[Role]) -> Result<(), Problem> {
        match self {
            Self::System(system) => system.require(any_of),
            Self::Person(person) => person.require(any_of),
        }
    }

    /// Returns the id of the credential, by which budgets are kept.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::System(system) => system.key_id(),
            Self::Person(person) => person.id(),
        }
    }
}

impl CallingSystem {
    /// Returns the system's name, as it stands in events.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.key.name
    }

    /// Returns the key's id, by which budgets are kept.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key.id
    }

    /// Returns what the key may do.
    #[must_use]
    pub fn roles(&self) -> RoleSet {
        self.key.roles
    }

    /// Goes on only with one of the roles.
    ///
    /// # Errors
    /// `forbidden` if the key has none of them.
    pub fn require(&self, any_of: &[Role]) -> Result<(), Problem> {
        require(&self.metrics, self.key.roles, any_of, "the API key does not have a role that allows this")
    }
}

impl Person {
    /// Returns the person's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the person's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what the person may do with this token.
    #[must_use]
    pub const fn roles(&self) -> RoleSet {
        self.roles
    }

    /// Goes on only with one of the roles.
    ///
    /// # Errors
    /// `forbidden` if the person has none of them.
    pub fn require(&self, any_of: &[Role]) -> Result<(), Problem> {
        require(&self.metrics, self.roles, any_of, "the person does not have a role that allows this")
    }
}

fn require(metrics: &Metrics, roles: RoleSet, any_of: &[Role], detail: &'static str) -> Result<(), Problem> {
    if any_of.iter().any(|role| roles.contains(*role)) {
        return Ok(());
    }
    metrics.auth_failed("role");
    tracing::info!(reason = "role", "request refused");
    Err(Problem::forbidden(detail))
}

impl<S> FromRequestParts<S> for CallingSystem
where
    Arc<Auth>: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Arc::<Auth>::from_ref(state).calling_system(&parts.headers)
    }
}

impl<S> FromRequestParts<S> for Person
where
    Arc<Auth>: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Arc::<Auth>::from_ref(state).person(&parts.headers).await
    }
}

impl<S> FromRequestParts<S> for Observer
where
    Arc<Auth>: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Arc::<Auth>::from_ref(state).observer(&parts.headers).await
    }
}

/// What a header that may stand once holds.
enum One<'a> {
    Value(&'a str),
    Missing,
    /// It stands there twice, so that a proxy and this server might each take another one; or it is not ASCII.
    Unusable,
}

fn only<'a>(headers: &'a HeaderMap, name: &str) -> One<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => One::Missing,
        (Some(value), None) => value.to_str().map_or(One::Unusable, One::Value),
        (Some(_), Some(_)) => One::Unusable,
    }
}

#[cfg(test)]
pub(crate) mod tests;
