//! The state machine of the trail: is this a repetition, who is the customer, what is the leaf.
//!
//! Whose an event is, [`Identity`] decides; what follows from it for others (a merge, a split) becomes leaves behind the
//! event's own, in the same group.
//!
//! What the log holds is asked of the index; what was decided since stands in memory until the index knows it. If the
//! index cannot answer, nothing is decided: a guess could give one event two places.

use std::sync::{Arc, Mutex, PoisonError};

use idtrail_event::{EventId, GlobalCustomerId, time_text};
use idtrail_identity::Recorded;
use idtrail_identity::event::Derived;
use idtrail_log::machine::{Decision, Machine, Moment, Planned};
use idtrail_log::{OriginOrdinal, Reference};
use idtrail_port::{Entropy, RandomPool};
use idtrail_tlog::{LogIndex, TreeSize};
use idtrail_vault::{Suppressed, Suppression};

use crate::IndexError;
use crate::ahead::Ahead;
use crate::closing;
use crate::command::{Body, Keys, Resolve, Stated, What};
pub use crate::command::{Command, Draft, Resolution};
use crate::facts::{EventFacts, Facts, Hasher, ShredStep};
use crate::identity::{Decided, Identity, Seen as Evidence, observation_id};
use crate::lookup::{Head, Lookup, Seen};

/// Why nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The same event stands in an earlier log of the installation: this is its receipt's place, and stays it.
    Earlier(Reference),
    /// The same id was used before with another content, at this place.
    Conflict(Reference),
    /// The same event was there before and has been erased; it is not taken again.
    Erased,
    /// The same id was used before with another content, by an event that has been erased.
    ErasedConflict,
    /// The index cannot answer, so that nobody can tell whether the event is a repetition.
    Unavailable,
}

/// Late events of erased persons that were discarded: their places, and the cut-offs that they came too late for, by which
/// an erasure is known. Clones are handles to the same list.
#[derive(Clone, Debug, Default)]
pub struct Stragglers(Arc<Mutex<Vec<(LogIndex, u64)>>>);

impl Stragglers {
    fn add(&self, index: LogIndex, cutoff_ms: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((index, cutoff_ms));
    }

    /// Takes out those that stand below a size of the log: their cut-offs, milliseconds since 1970.
    pub fn take(&self, size: TreeSize) -> Vec<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (taken, left) = all.drain(..).partition(|(index, _)| index.get() < size.get());
        *all = left;
        let taken: Vec<(LogIndex, u64)> = taken;
        taken.into_iter().map(|(_, cutoff_ms)| cutoff_ms).collect()
    }
}

/// The trail's state. Includes decisions that are not durable yet.
pub struct Trail {
    random: RandomPool,
    lookup: Lookup,
    suppression: Suppression,
    hasher: Arc<Hasher>,
    identity: Identity,
    ahead: Ahead,
    ordinal: OriginOrdinal,
    /// How many leaves the earlier logs hold together.
    base: u64,
    /// The indices of earlier logs, which are final, newest first.
    earlier: Vec<(OriginOrdinal, Lookup)>,
    /// Where the leaves of earlier logs begin in identity's numbering, newest first.
    bases: Vec<(OriginOrdinal, u64)>,
    stragglers: Stragglers,
}

impl std::fmt::Debug for Trail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trail").field("ahead", &self.ahead.len()).finish_non_exhaustive()
    }
}

impl Trail {
    /// Returns the state of a log whose leaves the index and identity have all read.
    pub fn new(
        entropy: Arc<dyn Entropy>,
        lookup: Lookup,
        suppression: Suppression,
        hasher: Arc<Hasher>,
        identity: Identity,
    ) -> Self {
        Self {
            random: RandomPool::new(entropy),
            lookup,
            suppression,
            hasher,
            identity,
            ahead: Ahead::default(),
            ordinal: OriginOrdinal(0),
            base: 0,
            earlier: Vec::new(),
            bases: Vec::new(),
            stragglers: Stragglers::default(),
        }
    }

    /// Says who is told of late events that are discarded.
    #[must_use]
    pub fn telling(mut self, stragglers: Stragglers) -> Self {
        self.stragglers = stragglers;
        self
    }

    /// Says that the log continues earlier ones, oldest first, whose events are no less this trail's.
    #[must_use]
    pub fn continuing(
        mut self,
        ordinal: OriginOrdinal,
        earlier: impl IntoIterator<Item = (OriginOrdinal, TreeSize, Lookup)>,
    ) -> Self {
        self.ordinal = ordinal;
        for (ordinal, size, lookup) in earlier {
            self.bases.insert(0, (ordinal, self.base));
            self.base += size.get();
            self.earlier.insert(0, (ordinal, lookup));
        }
        self
    }

    /// Returns the number by which identity knows a leaf of this log: it counts on over all logs of the installation.
    fn number(&self, index: u64) -> LogIndex {
        LogIndex::new(self.base + index)
    }

    /// Returns the place of a leaf that identity knows by its number.
    fn place(&self, number: LogIndex) -> Reference {
        let own = std::iter::once((self.ordinal, self.base));
        let found = own.chain(self.bases.iter().copied()).find(|(_, base)| number.get() >= *base);
        let (origin, base) = found.unwrap_or((self.ordinal, self.base));
        Reference { origin, index: LogIndex::new(number.get() - base.min(number.get())) }
    }

    fn seen(&self, keys: &Keys) -> Result<Option<(OriginOrdinal, Seen)>, IndexError> {
        if let Some(seen) = self.ahead.seen(&keys.dedupe) {
            return Ok(Some((self.ordinal, seen)));
        }
        let own = (self.ordinal, &self.lookup);
        let earlier = self.earlier.iter().map(|(ordinal, lookup)| (*ordinal, lookup));
        for (ordinal, lookup) in std::iter::once(own).chain(earlier) {
            if let Some(seen) = lookup.seen(&keys.dedupe, &keys.content, keys.content_is_id)? {
                return Ok(Some((ordinal, seen)));
            }
        }
        Ok(None)
    }

    /// Returns the newest event of a customer.
    fn head(&self, subject: GlobalCustomerId) -> Result<Option<Head>, IndexError> {
        match self.ahead.head(subject) {
            Some(head) => Ok(Some(head)),
            None => self.lookup.head(subject),
        }
    }

    /// Returns what is answered to a repetition, or `None` for an event that was not there before.
    fn before(&self, keys: &Keys, at: Moment) -> Result<Option<TrailDecision>, IndexError> {
        let erased = self.suppression.find(keys.dedupe.as_bytes(), keys.content.as_bytes(), at.received_ms);
        if erased == Some(Suppressed::Same) {
            // First, for events of which only the staff section was destroyed: they still stand in the index.
            return Ok(Some(Decision::Refuse(Refusal::Erased)));
        }
        if let Some((origin, seen)) = self.seen(keys)? {
            let place = Reference { origin, index: LogIndex::new(seen.index) };
            return Ok(Some(if seen.content != keys.content {
                Decision::Refuse(Refusal::Conflict(place))
            } else if origin == self.ordinal {
                Decision::Existing(place.index)
            } else {
                Decision::Refuse(Refusal::Earlier(place))
            }));
        }
        Ok(erased.map(|erased| match erased {
            Suppressed::Same => Decision::Refuse(Refusal::Erased),
            Suppressed::Other => Decision::Refuse(Refusal::ErasedConflict),
        }))
    }

    fn decide_identity(&self, keys: &Keys, evidence: Evidence, at: Moment, event_id: EventId) -> Decided {
        let recorded = Recorded { index: self.number(at.next.get()), at_ms: at.received_ms };
        self.identity.decide(&self.hasher, (recorded, event_id), observation_id(&keys.dedupe), evidence)
    }

    fn decide_event(
        &mut self,
        (body, keys, evidence): (Body, Keys, Evidence),
        at: Moment,
    ) -> Result<TrailDecision, IndexError> {
        if let Some(before) = self.before(&keys, at)? {
            return Ok(before);
        }
        if let Some(cutoff_ms) = self.straggles(&evidence, at) {
            return Ok(self.straggler(at, cutoff_ms));
        }
        let event_id = EventId::new(self.random.take());
        let decided = self.decide_identity(&keys, evidence, at, event_id);
        let mut leaves = Vec::with_capacity(1);
        self.plan(&mut leaves, body, keys, (event_id, Some(decided.subject)), at)?;
        self.plan_derived(&mut leaves, &decided, at)?;
        Ok(Decision::Append(leaves))
    }

    fn decide_resolve(&mut self, mut resolve: Resolve, at: Moment) -> Result<TrailDecision, IndexError> {
        if let Some(before) = self.before(&resolve.keys, at)? {
            return Ok(before);
        }
        if self.straggles(&resolve.seen, at).is_some() {
            return Ok(Decision::Refuse(Refusal::Erased));
        }
        let event_id = EventId::new(self.random.take());
        let evidence = std::mem::take(&mut resolve.seen);
        let decided = self.decide_identity(&resolve.keys, evidence, at, event_id);
        // The event names its customer, as one that a client sends.
        resolve.keys.customer = Some(self.hasher.customer(&decided.subject.to_string()));
        let keys = resolve.keys.clone();
        resolve.slip.write(&decided);
        let (body, _) = self
            .identity
            .read(|state| resolve.body(decided.subject, decided.decision.as_ref(), state.ruleset()));
        let mut leaves = Vec::with_capacity(1);
        self.plan(&mut leaves, body, keys, (event_id, Some(decided.subject)), at)?;
        self.plan_derived(&mut leaves, &decided, at)?;
        Ok(Decision::Append(leaves))
    }

    /// Returns the cut-off behind which an event comes too late: it happened before, and somebody or something that it names
    /// was closed then. `None` for any other event.
    fn straggles(&self, evidence: &Evidence, at: Moment) -> Option<u64> {
        if self.suppression.is_empty() {
            return None;
        }
        let closed = |name: [u8; 32]| {
            let cutoff_ms = self.suppression.closed_until(&name, at.received_ms);
            cutoff_ms.filter(|cutoff_ms| evidence.time_ms < *cutoff_ms)
        };
        let named = evidence.named.and_then(|gcid| closed(closing::customer(&gcid)));
        named.or_else(|| {
            evidence.sightings.iter().find_map(|seen| {
                let kind = seen.identifier.kind;
                let mut tokens = std::iter::once(&seen.identifier.token).chain(&seen.aliases);
                tokens.find_map(|token| closed(closing::identifier(kind, token)))
            })
        })
    }

    /// Acknowledges a late event with a leaf that holds nothing of it, but says which erasure it came too late for.
    fn straggler(&mut self, at: Moment, cutoff_ms: u64) -> TrailDecision {
        self.identity.skip(self.number(at.next.get()));
        self.stragglers.add(at.next, cutoff_ms);
        let received_ms = at.received_ms;
        let event_id = EventId::new(self.random.take());
        let draft = Body::straggler(received_ms, cutoff_ms).draft(received_ms, event_id, None, (0, None));
        Decision::Append(vec![Planned { draft, facts: Facts { received_ms, event: None, step: None } }])
    }

    /// Decides a leaf of a request of a data subject, which stands in the log once.
    fn decide_once(
        &mut self,
        (body, keys, subject): (Body, Keys, GlobalCustomerId),
        at: Moment,
    ) -> Result<TrailDecision, IndexError> {
        if let Some(before) = self.before(&keys, at)? {
            return Ok(before);
        }
        let event_id = EventId::new(self.random.take());
        let mut leaves = Vec::with_capacity(1);
        self.plan(&mut leaves, body, keys, (event_id, Some(subject)), at)?;
        self.identity.skip(self.number(at.next.get()));
        Ok(Decision::Append(leaves))
    }

    /// Decides what is stated about identities.
    fn decide_statement(&mut self, stated: Stated, at: Moment) -> Result<TrailDecision, IndexError> {
        let Stated { statement, actor, dedupe_id, keys } = stated;
        if let Some((id, content)) = &keys
            && let Some((number, same)) = self.identity.stated(id, content)
        {
            let place = self.place(number);
            return Ok(if !same {
                Decision::Refuse(Refusal::Conflict(place))
            } else if place.origin == self.ordinal {
                Decision::Existing(place.index)
            } else {
                Decision::Refuse(Refusal::Earlier(place))
            });
        }
        let event_id = EventId::new(self.random.take());
        let recorded = Recorded { index: self.number(at.next.get()), at_ms: at.received_ms };
        let events = match self.identity.state(&self.hasher, (recorded, event_id), &statement, keys) {
            Ok(events) => events,
            Err(error) => {
                tracing::info!(error = &error as &dyn std::error::Error, "a statement was refused");
                return Ok(Decision::Refuse(Refusal::Unavailable));
            }
        };
        let (identity, _) = self
            .identity
            .read(|state| events.first().map(|event| event.identity(state.ruleset())).unwrap_or_default());
        let identity = statement.approved(identity);
        let body = statement.body(&time_text(at.received_ms), identity);
        let body = Body::stated(statement.event_type(), &body, actor, dedupe_id);
        let keys = body.own_keys(&self.hasher);
        let mut leaves = Vec::with_capacity(2);
        self.plan(&mut leaves, body, keys, (event_id, None), at)?;
        self.plan_events(&mut leaves, events.get(1..).unwrap_or_default(), at)?;
        Ok(Decision::Append(leaves))
    }

    /// Adds a leaf behind those of the same decision.
    fn plan(
        &mut self,
        leaves: &mut Vec<Planned<Draft, Facts>>,
        body: Body,
        keys: Keys,
        (event_id, subject): (EventId, Option<GlobalCustomerId>),
        at: Moment,
    ) -> Result<(), IndexError> {
        let received_ms = at.received_ms;
        let Some(subject) = subject else {
            let draft = body.draft(received_ms, event_id, None, (0, None));
            leaves.push(Planned { draft, facts: Facts { received_ms, event: None, step: None } });
            return Ok(());
        };
        let head = self.head(subject)?;
        let event = EventFacts {
            subject,
            subject_sequence: head.map_or(0, |head| head.sequence + 1),
            customer: keys.customer,
            interaction: keys.interaction,
            dedupe: keys.dedupe,
            content: keys.content,
            content_is_id: keys.content_is_id,
        };
        self.ahead.push(at.next.get() + leaves.len() as u64, &event);
        let place = (event.subject_sequence, head.map(|head| head.index));
        let draft = body.draft(received_ms, event_id, Some(subject), place);
        leaves.push(Planned { draft, facts: Facts { received_ms, event: Some(event), step: None } });
        Ok(())
    }

    /// Adds a leaf for everything that followed, once for each customer whom it concerns.
    fn plan_derived(
        &mut self,
        leaves: &mut Vec<Planned<Draft, Facts>>,
        decided: &Decided,
        at: Moment,
    ) -> Result<(), IndexError> {
        let Some(decision) = &decided.decision else { return Ok(()) };
        self.plan_events(leaves, &decision.events, at)
    }

    fn plan_events(
        &mut self,
        leaves: &mut Vec<Planned<Draft, Facts>>,
        events: &[Derived],
        at: Moment,
    ) -> Result<(), IndexError> {
        for derived in events {
            let subjects = derived.subjects();
            let concerned: Vec<_> =
                if subjects.is_empty() { vec![None] } else { subjects.into_iter().map(Some).collect() };
            for subject in concerned {
                if leaves.len() >= LEAVES_MAX {
                    tracing::warn!("a decision concerns more customers than leaves are written for");
                    return Ok(());
                }
                let event_id = EventId::new(self.random.take());
                let (body, _) =
                    self.identity.read(|state| Body::derived(derived, at.received_ms, state.ruleset()));
                let keys = body.own_keys(&self.hasher);
                self.plan(leaves, body, keys, (event_id, subject), at)?;
            }
        }
        if leaves.len() > 1 {
            self.identity.skip(self.number(at.next.get() + leaves.len() as u64 - 1));
        }
        Ok(())
    }

    /// Decides the leaves of one query in the access log. Each query is news, so nothing is looked for but the place of
    /// each leaf among those of its customer.
    fn access(&mut self, leaves: Vec<AccessLeaf>, at: Moment) -> Result<TrailDecision, IndexError> {
        let mut places = Vec::with_capacity(leaves.len());
        for (_, concerned) in &leaves {
            places.push(match concerned {
                None => None,
                Some((subject, _)) => match self.ahead.head(*subject) {
                    Some(head) => Some(head),
                    None => self.lookup.head(*subject)?,
                },
            });
        }
        let mut planned = Vec::with_capacity(leaves.len());
        for ((index, (body, concerned)), head) in (at.next.get()..).zip(leaves).zip(places) {
            let place = (head.map_or(0, |head| head.sequence + 1), head.map(|head| head.index));
            let subject = concerned.as_ref().map(|(subject, _)| *subject);
            let event = concerned.map(|(subject, keys)| EventFacts {
                subject,
                subject_sequence: place.0,
                customer: None,
                interaction: None,
                dedupe: keys.dedupe,
                content: keys.content,
                content_is_id: true,
            });
            if let Some(event) = &event {
                self.ahead.push(index, event);
            }
            let draft = body.draft(at.received_ms, EventId::new(self.random.take()), subject, place);
            planned.push(Planned { draft, facts: Facts { received_ms: at.received_ms, event, step: None } });
        }
        Ok(Decision::Append(planned))
    }

    fn own(&mut self, leaves: Vec<(Body, Option<ShredStep>)>, received_ms: u64) -> TrailDecision {
        let leaf = |(body, step): (Body, Option<ShredStep>)| Planned {
            draft: body.draft(received_ms, EventId::new(self.random.take()), None, (0, None)),
            facts: Facts { received_ms, event: None, step },
        };
        Decision::Append(leaves.into_iter().map(leaf).collect())
    }
}

type AccessLeaf = (Body, Option<(GlobalCustomerId, Keys)>);
fn unavailable(error: &IndexError) -> TrailDecision {
    tracing::error!(error = error as &dyn std::error::Error, "the index cannot answer");
    Decision::Refuse(Refusal::Unavailable)
}

/// Leaves that one decision may become.
const LEAVES_MAX: usize = 128;

type TrailDecision = Decision<Draft, Facts, Refusal>;

impl Machine for Trail {
    type Command = Command;
    type Draft = Draft;
    type Facts = Facts;
    type Refusal = Refusal;

    fn decide(&mut self, Command(what): Command, at: Moment) -> TrailDecision {
        self.ahead.catch_up(self.lookup.applied().get());
        match what {
            What::Event(event) => self.decide_event(*event, at).unwrap_or_else(|error| unavailable(&error)),
            What::Resolve(resolve) => {
                self.decide_resolve(*resolve, at).unwrap_or_else(|error| unavailable(&error))
            }
            What::State(stated) => {
                self.decide_statement(*stated, at).unwrap_or_else(|error| unavailable(&error))
            }
            What::Once(once) => self.decide_once(*once, at).unwrap_or_else(|error| unavailable(&error)),
            What::Access(leaves) => self.access(leaves, at).unwrap_or_else(|error| unavailable(&error)),
            What::Own(leaves) => {
                if let Some(last) = (leaves.len() as u64).checked_sub(1) {
                    self.identity.skip(self.number(at.next.get() + last));
                }
                self.own(leaves, at.received_ms)
            }
        }
    }

    fn bytes_max(command: &Command) -> usize {
        command.leaf_bytes_max()
    }
}
