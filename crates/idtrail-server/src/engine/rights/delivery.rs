//! Handing out what a person asked for: review, package, link, and each time that it is fetched.
//!
//! The link is a secret that follows from the request; the passphrase is another one, which travels apart and is kept in the
//! package's sealed record until the link ends. A fetch is written down twice before the first byte leaves: in the access
//! log, and as a step of the request.
//!
//! What it must never do: let a package leave that nobody looked through, or after its link has ended.

use std::collections::BTreeMap;
use std::path::Path;

use idtrail_event::GlobalCustomerId;
use idtrail_index::access::{Access, Place};
use idtrail_log::OriginOrdinal;
use idtrail_port::{Disk, read_whole};
use idtrail_rights::package::Redactions;
use idtrail_rights::records::Records as Processing;
use idtrail_rights::{
    Command, Digest, Finding, Kind, Principal, Refusal, RequestId, State, Step, SystemName,
};
use serde::de::DeserializeOwned;
use serde_json::Map;
use subtle::ConstantTimeEq as _;

use super::answer::{self, Draft, Parts};
use super::record::{Packaged, Part, Record, Reviewed};
use super::{Rights, RightsStartError, SayError, Shared, Trouble};

/// Beginning of the links to packages.
pub(crate) const PACKAGES: &str = "/api/v1/rights/packages";
const PROCESSING_BYTES_MAX: u64 = 16 << 20;
/// The system whose data a package is about.
const IDTRAIL: &str = "idtrail";

/// What somebody decided who looked through a draft.
pub(crate) struct Review {
    /// What is taken out; what was proposed, if `None`.
    pub(crate) redactions: Option<Redactions>,
    /// Hash of the proposal that was looked at.
    pub(crate) looked_at: Digest,
    /// Whether what is not proved to be the person's leaves too.
    pub(crate) probable: bool,
    /// Whether identifiers that others use too stay out, as they are.
    pub(crate) shared_stay_out: bool,
}

/// Why a review was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReviewError {
    /// What was looked at is not what there is now.
    #[error("what was looked at is not what there is now")]
    Changed,
    /// A place is named that is not there.
    #[error("the list names a place that is not there")]
    Place,
    /// Identifiers are shared, and nobody decided about them.
    #[error("identifiers are shared with others, and nobody decided about them")]
    Shared,
    /// The request does not take it.
    #[error(transparent)]
    Say(#[from] SayError),
}

/// How a package can be fetched.
pub(crate) struct Link {
    pub(crate) path: String,
    pub(crate) passphrase: String,
    pub(crate) expires_ms: u64,
    pub(crate) fetches: u32,
    pub(crate) fetches_max: u32,
}

/// Why a package cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// There is no such link.
    #[error("there is no such link")]
    Unknown,
    /// The link has ended.
    #[error("the link to the package has ended")]
    Ended,
    /// The access could not be written down.
    #[error("the access could not be written down")]
    Access(#[from] crate::engine::access::AccessError),
    /// It cannot be done now.
    #[error(transparent)]
    Say(#[from] SayError),
}

impl Rights {
    /// Tells whether requests for access can be answered: they need the records of processing.
    pub(crate) fn can_inform(&self) -> bool {
        self.shared.processing.is_some()
    }

    /// Returns the records of processing, if they are configured.
    pub(crate) fn processing(&self) -> Option<&Processing> {
        self.shared.processing.as_ref()
    }

    /// Returns what was read for a request, to be looked through. `None` if it is not at that.
    pub(crate) fn draft(&self, request: &RequestId) -> Result<Option<Draft>, SayError> {
        self.shared.draft(request)
    }

    /// Takes a review; the package follows.
    pub(crate) async fn review(
        &self,
        request: RequestId,
        by: Option<Principal>,
        review: Review,
    ) -> Result<(), ReviewError> {
        let of = request.clone();
        let command = self.ask(move |shared| shared.take_review(&of, review)).await??;
        Ok(self.say(request, by, command).await?)
    }

    /// Returns how a request's package can be fetched; `None` if it cannot.
    pub(crate) fn link(&self, request: &RequestId) -> Result<Option<Link>, SayError> {
        self.shared.link(request)
    }

    /// Hands a package out, once more.
    pub(crate) async fn fetch(&self, request: RequestId, secret: Digest) -> Result<Vec<u8>, FetchError> {
        let of = request.clone();
        let package = self.ask(move |shared| shared.open_package(&of, secret)).await??;
        match self.say(request, None, Command::Fetch).await {
            Ok(()) => Ok(package),
            Err(SayError::Refused(Refusal::LinkEnded | Refusal::State(_))) => Err(FetchError::Ended),
            Err(error) => Err(error.into()),
        }
    }
}

impl Shared {
    fn draft(&self, request: &RequestId) -> Result<Option<Draft>, SayError> {
        if !self.book().loaded {
            return Err(SayError::Unavailable);
        }
        let (case, _) = self.case(request).ok_or(SayError::Unknown)?;
        if case.state != State::Collecting {
            return Ok(None);
        }
        let (_, record) = self.person(request)?;
        let found = record.planned.ok_or(Trouble::NoRecord)?;
        let events = answer::read(&self.engine, &found)?;
        let proposed = answer::propose(&events, &found);
        Ok(Some(Draft { events, proposed, found }))
    }

    /// Writes down what was decided, and returns what the request is told.
    fn take_review(&self, request: &RequestId, review: Review) -> Result<Command, ReviewError> {
        let state = self.case(request).ok_or(SayError::Unknown)?.0.shown_state();
        let draft = self.draft(request)?.ok_or(SayError::Refused(Refusal::State(state.name())))?;
        let hash = |list: &Redactions| list.hash().map_err(|error| SayError::Trouble(error.into()));
        if hash(&draft.proposed)? != review.looked_at {
            return Err(ReviewError::Changed);
        }
        if draft.found.shared > 0 && !review.shared_stay_out {
            return Err(ReviewError::Shared);
        }
        let redactions = review.redactions.unwrap_or(draft.proposed);
        let mut events: Vec<_> = draft.events.into_iter().map(|one| one.shown).collect();
        if !redactions.apply(&mut events).is_empty() {
            return Err(ReviewError::Place);
        }
        let command = Command::Review(hash(&redactions)?, redactions.len() as u64);
        let (number, mut record) = self.person(request).map_err(SayError::from)?;
        record.reviewed = Some(Reviewed { redactions, probable: review.probable });
        self.keep(number, record).map_err(SayError::from)?;
        Ok(command)
    }

    /// Makes the package, once for an effect.
    pub(super) fn package(&self, request: &RequestId, effect: Digest) -> Result<Finding, Trouble> {
        let named = effect.to_string();
        if let Some((_, Record { package: Some(made), .. })) = self.record(request, Part::Package)
            && made.effect == named
        {
            return Ok(Finding::Made(Digest::parse(&made.hash)?));
        }
        let (case, steps) = self.case(request).ok_or(Trouble::NoRecord)?;
        let (_, person) = self.person(request)?;
        let (found, reviewed) = person.planned.zip(person.reviewed).ok_or(Trouble::NoRecord)?;
        let made_ms = steps.iter().find_map(|logged| match &logged.entry.step {
            Step::Intent(step) if step.effect_id == effect => Some(logged.entry.at_ms),
            _ => None,
        });
        let (mut controller, mut information) = (String::new(), Vec::new());
        if let Some(processing) = self.processing.as_ref().filter(|_| case.kind() == Kind::Access) {
            let systems = [SystemName::parse(IDTRAIL)?].into_iter();
            let systems = systems.chain(self.recorded_sinks()).collect();
            controller.clone_from(&processing.controller);
            information = processing.information(&systems, !found.leaves.is_empty());
        }
        let parts = Parts {
            case: &case,
            found: &found,
            redactions: &reviewed.redactions,
            probable: reviewed.probable,
            controller: &controller,
            information: &information,
            made_ms: made_ms.ok_or(Trouble::NoRecord)?,
        };
        let made = answer::files(&self.engine, &parts)?;
        let entropy = &*self.engine.ports().entropy;
        let passphrase = answer::passphrase(entropy);
        let archive = answer::archive(&made.files, &passphrase, entropy)?;
        let number = match self.record(request, Part::Package) {
            Some((number, _)) => number,
            None => self.store.free_number()?,
        };
        self.store.write_package(number, &archive)?;
        let package = Packaged {
            effect: named,
            hash: made.hash.to_string(),
            passphrase,
            customers: found.customers,
            leaves: made.leaves,
        };
        let record = Record::new(request, Part::Package, person.nonce);
        self.keep(number, Record { package: Some(package), ..record })?;
        Ok(Finding::Made(made.hash))
    }

    /// Returns the sinks that the records of processing name.
    fn recorded_sinks(&self) -> impl Iterator<Item = SystemName> {
        let names = self.sinks.rights_targets().into_iter();
        names.filter_map(|target| SystemName::parse(&target.name).ok())
    }

    fn link(&self, request: &RequestId) -> Result<Option<Link>, SayError> {
        if !self.book().loaded {
            return Err(SayError::Unavailable);
        }
        let (case, _) = self.case(request).ok_or(SayError::Unknown)?;
        let made = self.record(request, Part::Package).and_then(|(_, record)| record.package);
        let open = case.delivery.link.filter(|_| case.state == State::Delivered);
        let (Some((expires_ms, fetches_max)), Some(made)) = (open, made) else { return Ok(None) };
        let secret = self.store.link(request).map_err(Trouble::from)?;
        Ok(Some(Link {
            path: format!("{PACKAGES}/{request}/{secret}"),
            passphrase: made.passphrase,
            expires_ms,
            fetches: case.delivery.fetches,
            fetches_max,
        }))
    }

    /// Reads a package for somebody who has its link, and writes the access down.
    fn open_package(&self, request: &RequestId, secret: Digest) -> Result<Vec<u8>, FetchError> {
        if !self.book().loaded {
            return Err(SayError::Unavailable.into());
        }
        let Some((case, _)) = self.case(request) else { return Err(FetchError::Unknown) };
        let own = self.store.link(request).map_err(|error| SayError::Trouble(error.into()))?;
        let is_own: bool = own.as_bytes().ct_eq(secret.as_bytes()).into();
        let Some((until_ms, max)) = case.delivery.link.filter(|_| is_own) else {
            return Err(FetchError::Unknown);
        };
        let ended =
            case.state != State::Delivered || self.now_ms() >= until_ms || case.delivery.fetches >= max;
        let record = self.record(request, Part::Package);
        let Some((number, Record { package: Some(made), .. })) = record.filter(|_| !ended) else {
            tracing::warn!(request = request.as_str(), "a package was asked for whose link has ended");
            return Err(FetchError::Ended);
        };
        let package = self.store.read_package(number).map_err(|error| SayError::Trouble(error.into()))?;
        let _gate = self.engine.access().gate();
        self.engine.access().record(&self.accesses(&made))?;
        Ok(package)
    }

    fn accesses(&self, made: &Packaged) -> Vec<Access> {
        let subject = made.customers.first().and_then(|id| GlobalCustomerId::try_from(id.as_str()).ok());
        let mut logs: BTreeMap<u32, Vec<Place>> = BTreeMap::new();
        for (origin, index) in &made.leaves {
            logs.entry(*origin).or_default().push(Place::Leaf(*index));
        }
        let access = |(origin, places): (u32, Vec<Place>)| {
            let log = self.engine.log_at(OriginOrdinal(origin))?;
            Some(Access {
                system: "package-link".to_owned(),
                person: None,
                operation: "fetch_rights_package",
                purpose: "ACCESS_REQUEST",
                origin: log.name.to_owned(),
                size: log.reader.size().get(),
                filter: Map::new(),
                disclosed: [(subject, places)].into(),
            })
        };
        logs.into_iter().filter_map(access).collect()
    }
}

/// Reads a file of JSON that the configuration names.
pub(super) fn of_file<T: DeserializeOwned>(disk: &dyn Disk, path: &Path) -> Result<T, RightsStartError> {
    let bytes =
        read_whole(disk, path, PROCESSING_BYTES_MAX).map_err(|error| RightsStartError(Box::new(error)))?;
    serde_json::from_slice(&bytes).map_err(|error| RightsStartError(Box::new(error)))
}

/// Reads the records of processing; one that leaves a question of Art. 15 open is refused.
pub(super) fn processing(disk: &dyn Disk, path: &Path) -> Result<Processing, RightsStartError> {
    let read: Processing = of_file(disk, path)?;
    match read.gaps().into_iter().next() {
        None => Ok(read),
        Some(gap) => {
            let text = format!("the records of processing leave a question open. member={}", gap.member);
            Err(RightsStartError(text.into()))
        }
    }
}
