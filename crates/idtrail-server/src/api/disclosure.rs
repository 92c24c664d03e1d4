//! Showing what the log holds of people, and writing down that it was shown.
//!
//! Every route that discloses goes through [`disclose`]: it reads, writes the access into the access log, and only when
//! that is on disk hands the answer on. If the access log does not take it the answer is 503 and nothing was shown. A
//! reader says with `X-Purpose` why it reads; the words are a closed list, so that nothing personal gets in that way.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use http::header::AUTHORIZATION;
use http::request::Parts;
use idtrail_event::GlobalCustomerId;
use idtrail_index::access::{Access, Place};
use idtrail_tlog::LogIndex;
use serde_json::{Map, Value};

use super::{AppState, blocking};
use crate::auth::{Auth, CallingSystem, Person};
use crate::credentials::Role;
use crate::engine::Engine;
use crate::problem::Problem;

const HEADER: &str = "x-purpose";

/// Why somebody may read.
pub(crate) const PURPOSES: [&str; 6] =
    ["ACCESS_REQUEST", "AUDIT", "CORRECTION", "INVESTIGATION", "MONITORING", "SUPPORT"];

/// Who reads, and why.
#[derive(Clone, Debug)]
pub struct Reader {
    system: CallingSystem,
    person: Option<Person>,
    purpose: Option<&'static str>,
}

impl Reader {
    /// Puts together who reads where both are known already; the purpose is the route's.
    pub(crate) fn of(system: CallingSystem, person: Person) -> Self {
        Self { system, person: Some(person), purpose: None }
    }

    /// Goes on only if the calling system has one of the roles and its budget for reading is not used up.
    ///
    /// # Errors
    /// 403 or 429.
    pub(crate) fn admit(&self, state: &AppState, any_of: &[Role]) -> Result<(), Problem> {
        state.admit_reader(&self.system, any_of)
    }

    /// Tells whether the calling system has a role.
    pub(crate) fn is(&self, role: Role) -> bool {
        self.system.require(&[role]).is_ok()
    }
}

impl<S> FromRequestParts<S> for Reader
where
    Arc<Auth>: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let auth = Arc::<Auth>::from_ref(state);
        let system = auth.calling_system(&parts.headers)?;
        let person = match parts.headers.contains_key(AUTHORIZATION) {
            true => Some(auth.person(&parts.headers).await?),
            false => None,
        };
        let mut values = parts.headers.get_all(HEADER).iter();
        let purpose = match (values.next(), values.next()) {
            (None, _) => None,
            (Some(value), None) => Some(
                PURPOSES
                    .into_iter()
                    .find(|purpose| value.as_bytes() == purpose.as_bytes())
                    .ok_or_else(wrong_purpose)?,
            ),
            (Some(_), Some(_)) => return Err(wrong_purpose()),
        };
        Ok(Self { system, person, purpose })
    }
}

fn wrong_purpose() -> Problem {
    Problem::malformed_request(
        "the header X-Purpose must be there once at most, with one of: ACCESS_REQUEST, AUDIT, CORRECTION, \
         INVESTIGATION, MONITORING, SUPPORT",
    )
}

/// What an answer shows, gathered while it is made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    filter: Map<String, Value>,
    /// What is shown of each log, the one that is being read last.
    logs: Vec<OfLog>,
}

/// What is shown of one log.
#[derive(Clone, Debug)]
struct OfLog {
    origin: String,
    size: u64,
    places: BTreeMap<Option<GlobalCustomerId>, Vec<Place>>,
}

impl Shown {
    /// Says which log is read from now on, and at which size.
    pub(crate) fn at(&mut self, origin: &str, size: u64) {
        let known = self.logs.iter().position(|log| log.origin == origin);
        let log = known.map(|at| self.logs.remove(at));
        let log = log.unwrap_or_else(|| OfLog { origin: origin.to_owned(), size, places: BTreeMap::new() });
        self.logs.push(log);
    }

    /// Says by what was searched: names of this system only, never a text of a client.
    pub(crate) fn filtered_by(&mut self, filter: Map<String, Value>) {
        self.filter = filter;
    }

    /// Shows a leaf.
    pub(crate) fn leaf(&mut self, subject: Option<GlobalCustomerId>, index: LogIndex) {
        self.add(subject, Some(Place::Leaf(index.get())));
    }

    /// Shows an entry of the quarantine.
    pub(crate) fn quarantined(&mut self, subject: Option<GlobalCustomerId>, id: String) {
        self.add(subject, Some(Place::Quarantined(id)));
    }

    /// Answers about somebody, even if there is nothing to show.
    pub(crate) fn about(&mut self, subject: Option<GlobalCustomerId>) {
        self.add(subject, None);
    }

    fn add(&mut self, subject: Option<GlobalCustomerId>, place: Option<Place>) {
        debug_assert!(!self.logs.is_empty(), "what is shown is shown of a log");
        if let Some(log) = self.logs.last_mut() {
            log.places.entry(subject).or_default().extend(place);
        }
    }
}

/// Which route shows something, by its `operationId`, and why if the reader does not say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) operation: &'static str,
    pub(crate) purpose: &'static str,
}

/// Reads, and hands on what was read once the access is on disk. An answer that shows nothing leaves no leaf.
///
/// # Errors
/// As `read`; 503 if the access cannot be written.
pub(crate) async fn disclose<T: Send + 'static>(
    engine: &Arc<Engine>,
    reader: &Reader,
    route: Route,
    read: impl FnOnce(&Arc<Engine>, &mut Shown) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let (engine, reader) = (Arc::clone(engine), reader.clone());
    blocking(move || {
        let _gate = engine.access().gate();
        let mut shown = Shown::default();
        let answer = read(&engine, &mut shown)?;
        let filter = shown.filter;
        let access = |log: OfLog| Access {
            system: reader.system.name().to_owned(),
            person: reader.person.as_ref().map(|person| person.id().to_owned()),
            operation: route.operation,
            purpose: reader.purpose.unwrap_or(route.purpose),
            origin: log.origin,
            size: log.size,
            filter: filter.clone(),
            disclosed: log.places,
        };
        let accesses: Vec<Access> = shown.logs.into_iter().map(access).collect();
        engine.access().record(&accesses).map_err(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "an access could not be recorded, so nothing was disclosed"
            );
            Problem::unavailable(
                "the access could not be written into the access log, so nothing is shown",
                5,
            )
        })?;
        Ok(answer)
    })
    .await
}
