//! Who the customer of an event is: the fold of [`idtrail_identity`], run by the sequencer and filled from the log.
//!
//! ```text
//! event, live ────────┐                      ┌─> the customer's global id, for the leaf
//!                     ├─> Seen ─> Identity ──┤
//! leaf, at a start ───┘                      └─> what follows: merges, splits, conflicts, each a leaf of its own
//! ```
//! What an event says about identity is read from its body, by the same code whether it comes from a client or from a
//! leaf, and new global ids are made from the event's own random id. So the leaves alone give the same state again, and
//! nothing about the decision has to be stored beside it. An id whose first leaf was erased is taken from the leaf that
//! names it.
//!
//! What it must never do: keep an identifier in a form in which somebody outside could try values (a hash from elsewhere
//! is keyed again before it gets here), or decide without the evidence being in the leaf.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use idtrail_event::{
    Dedupe, DedupeKind, EncodedEvent, EventId, GlobalCustomerId, IdentifierToken, IdentifierType, Item,
    OpenLeaf, Outline, SourceCode,
};
use idtrail_identity::assertion::{AssertionKind, Subject};
use idtrail_identity::erase::{Erasure, Reassertion};
use idtrail_identity::event::Derived;
use idtrail_identity::ruleset::types;
use idtrail_identity::simulate::Simulation;
use idtrail_identity::tokens::{LegacyAlgorithm, LegacyEncoding, LegacyFormat, LegacyHashSpec, TokenKeys};
use idtrail_identity::{
    Assurance, Decision, IdSource, Identifier, IdentityError, Observation, ObservationId, Recorded, Ruleset,
    Sighting, State,
};
use idtrail_tlog::LogIndex;
use serde_json::{Map, Value};

use crate::command::OWN_SYSTEM;
use crate::facts::{Hasher, Key};
use crate::statement::Statement;

/// How many of the ids that a leaf gives are tried to find its subject among them.
const IDS_OF_A_LEAF: u32 = 64;

/// Member of a leaf's body, beside the event, that holds what was resolved.
pub const OBSERVATION_MEMBER: &str = "observation";
/// How tokens of this system say what they are, before the version of their key.
const TOKEN_SCHEME: &str = "hs256.k";
/// Hashes that stand in examples everywhere and so name nobody: of nothing, and of well-known words.
const EXAMPLES: [&str; 4] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "a591a6d40bf420404a011733cfb7b190d62c65bf0bcda32b57b277d9ad9f146e",
    "b109f3bbbc244eb82441917ed06d618b9008dd09b3befd1b5e07394c706a8bb9",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
];

/// The hashes that events carry, and how they were made: of the value and one salt for all.
const HASHES: [(IdentifierType, &str, &[LegacyFormat]); 3] = [
    (
        IdentifierType::PHONE,
        "event-phone",
        &[LegacyFormat::Canonical, LegacyFormat::TelUri, LegacyFormat::Digits],
    ),
    (IdentifierType::EMAIL, "event-email", &[LegacyFormat::Canonical]),
    (IdentifierType::ACCOUNT, "event-account", &[LegacyFormat::Canonical, LegacyFormat::WithoutIssuer]),
];

/// Returns how the hashes in events were made: SHA-256 of the value with the salt behind it, in hex.
pub fn event_hash_specs() -> impl Iterator<Item = LegacyHashSpec> {
    HASHES.iter().map(|(kind, id, formats)| LegacyHashSpec {
        id: (*id).to_owned(),
        kind: kind.number(),
        algorithm: LegacyAlgorithm::Sha256,
        template: "{value}{salt}".to_owned(),
        formats: formats.to_vec(),
        encoding: LegacyEncoding::Hex,
    })
}

/// Reads a token or a hash from elsewhere as an identifier of a type.
///
/// `scheme` is how it was made: that of this system's tokens, a configured specification, or anything else for the hash
/// that events carry.
pub fn hashed(keys: &TokenKeys, kind: IdentifierType, text: &str, scheme: Option<&str>) -> Option<Sighting> {
    if EXAMPLES.contains(&text) {
        return None;
    }
    if scheme.is_some_and(|scheme| scheme.starts_with(TOKEN_SCHEME)) {
        let token = IdentifierToken::try_from(text).ok()?;
        return Some(Sighting::new(kind, token, Assurance::NETWORK));
    }
    if let Some(spec) = scheme.filter(|scheme| keys.legacy_specs(kind).any(|known| known == *scheme)) {
        return keys.legacy_sighting(spec, text, Assurance::NETWORK).ok();
    }
    let (_, spec, _) = HASHES.iter().find(|(known, ..)| *known == kind)?;
    keys.legacy_sighting(spec, text, Assurance::NETWORK).ok()
}

/// Returns a client's own customer id as an identifier.
pub fn reference(key: &Key) -> Sighting {
    Sighting::new(types::CUSTOMER_REFERENCE, IdentifierToken::new(*key.as_bytes()), Assurance::VERIFIED)
}

/// Returns an interaction as an identifier.
pub fn interaction(key: &Key) -> Sighting {
    Sighting::new(types::INTERACTION, IdentifierToken::new(*key.as_bytes()), Assurance::CLAIMED)
}

/// What an event says about who the customer is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) time_ms: u64,
    pub(crate) sightings: Vec<Sighting>,
    /// The global id that the event itself names.
    pub(crate) named: Option<GlobalCustomerId>,
    /// Somebody asked whose it is, so the answer is kept even if there was nothing to go by.
    pub(crate) asked: bool,
}

impl Seen {
    /// Reads an event. A calling system that names the customer vouches for the account beside it as well.
    pub(crate) fn of_event(
        keys: Option<&TokenKeys>,
        outline: &Outline<'_>,
        customer: Option<&Key>,
        interaction_key: Option<&Key>,
    ) -> Self {
        let named = outline.resolved_customer_id.and_then(|id| GlobalCustomerId::try_from(id).ok());
        let mut sightings = Vec::with_capacity(4);
        if named.is_none() {
            sightings.extend(customer.map(reference));
        }
        if let Some(keys) = keys {
            let hashes = [outline.phone_hash, outline.email_hash, outline.account_hash];
            for ((kind, ..), text) in HASHES.iter().zip(hashes) {
                let Some(text) = text else { continue };
                let Some(mut sighting) = hashed(keys, *kind, text, outline.hash_scheme) else { continue };
                if *kind == IdentifierType::ACCOUNT && customer.is_some() {
                    sighting.assurance = Assurance::VERIFIED;
                }
                sightings.push(sighting);
            }
        }
        // Beside something that names the customer the interaction adds nothing but weight.
        if sightings.is_empty() && named.is_none() {
            sightings.extend(interaction_key.map(interaction));
        }
        let time_ms = outline.time_ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
        Self { time_ms, sightings, named, asked: false }
    }

    /// Reads what was resolved from where [`Seen::encode`] wrote it.
    pub(crate) fn of_json(value: &Value) -> Option<Self> {
        let token = |value: &Value| IdentifierToken::try_from(value.as_str()?).ok();
        let sighting = |value: &Value| {
            let kind = u16::try_from(value.get("type")?.as_u64()?).ok()?;
            let level = u8::try_from(value.get("assurance")?.as_u64()?).ok()?;
            let aliases = match value.get("aliases").and_then(Value::as_array) {
                Some(aliases) => aliases.iter().map(token).collect::<Option<Vec<_>>>()?,
                None => Vec::new(),
            };
            let assurance = Assurance::try_from(level).ok()?;
            Some(Sighting {
                aliases,
                ..Sighting::new(IdentifierType::new(kind), token(value.get("token")?)?, assurance)
            })
        };
        let sightings =
            value.get("sightings")?.as_array()?.iter().map(sighting).collect::<Option<Vec<_>>>()?;
        Some(Self { time_ms: value.get("timeMs")?.as_u64()?, sightings, named: None, asked: true })
    }

    /// Encodes what was resolved beside an event that is empty yet, for the leaf.
    pub(crate) fn encode(&self) -> EncodedEvent {
        let sightings = Item::List(self.sightings.iter().map(sighting_item).collect());
        let members = vec![("timeMs", Item::Number(self.time_ms)), ("sightings", sightings)];
        EncodedEvent::beside(OBSERVATION_MEMBER, &Item::Object(members))
    }
}

fn token_item(token: &IdentifierToken) -> Item<'_> {
    Item::Hex(token.as_bytes())
}

fn sighting_item(seen: &Sighting) -> Item<'_> {
    let mut members = Vec::with_capacity(4);
    members.push(("type", Item::Number(u64::from(seen.identifier.kind.number()))));
    members.push(("token", token_item(&seen.identifier.token)));
    if !seen.aliases.is_empty() {
        members.push(("aliases", Item::List(seen.aliases.iter().map(token_item).collect())));
    }
    members.push(("assurance", Item::Number(u64::from(seen.assurance.level()))));
    Item::Object(members)
}

/// Makes the global ids of one leaf. The first one is the leaf's own subject if nobody has it yet.
struct Ids<'a> {
    hasher: &'a Hasher,
    event_id: EventId,
    given: u32,
    /// On replay: the subject of the leaf, unless it is known already.
    first: Option<GlobalCustomerId>,
}

impl<'a> Ids<'a> {
    /// Gives the ids that were given when the leaf was decided.
    fn recorded(hasher: &'a Hasher, state: &State, event_id: EventId, subject: GlobalCustomerId) -> Self {
        let known = state.current(&subject).is_some();
        let own = |ordinal| hasher.global_id(event_id, ordinal) == subject;
        let first = (!known && !(0..IDS_OF_A_LEAF).any(own)).then_some(subject);
        Self { hasher, event_id, given: 0, first }
    }
}

impl IdSource for Ids<'_> {
    fn id_for(&mut self, _: idtrail_identity::Home) -> GlobalCustomerId {
        let ordinal = self.given;
        self.given += 1;
        self.first.take().unwrap_or_else(|| self.hasher.global_id(self.event_id, ordinal))
    }
}

/// What was decided for one event.
pub(crate) struct Decided {
    pub(crate) subject: GlobalCustomerId,
    /// `None` if the event says nothing that identity could rest on.
    pub(crate) decision: Option<Decision>,
}

struct Folded {
    state: State,
    /// Leaves below this were taken over.
    next: u64,
    /// What has been decided since somebody began to fold the log anew.
    tape: Option<Vec<Taped>>,
    /// The statements that have an id: its key, their place, and the key of what they say.
    stated: BTreeMap<Key, (u64, Key)>,
    /// Facts about others that were said again, with the place of their leaf.
    said_again: Vec<(u64, Vec<Reassertion>)>,
}

/// One decision, as it can be made again.
enum Taped {
    Observation { at: Recorded, event_id: EventId, id: ObservationId, seen: Seen, subject: GlobalCustomerId },
    Statement { at: Recorded, event_id: EventId, statement: Statement, keys: Option<(Key, Key)> },
}

/// The state of identity, shared by the sequencer, which alone changes it, and by those who read it. Clones are handles
/// to the same state. It includes decisions that are not durable yet: see [`Identity::read`].
#[derive(Clone)]
pub struct Identity(Arc<Mutex<Folded>>);

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("next", &self.next()).finish_non_exhaustive()
    }
}

impl Default for Identity {
    fn default() -> Self {
        let state = State::new(Ruleset::default()).expect("the ruleset that comes with the program is valid");
        Self(Arc::new(Mutex::new(Folded {
            state,
            next: 0,
            tape: None,
            stated: BTreeMap::new(),
            said_again: Vec::new(),
        })))
    }
}

impl Identity {
    fn lock(&self) -> MutexGuard<'_, Folded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns up to where leaves were taken over.
    pub fn next(&self) -> LogIndex {
        LogIndex::new(self.lock().next)
    }

    /// Reads the state. Returns the answer with the size that the log must have durably before it may leave this process.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> (T, LogIndex) {
        let folded = self.lock();
        (read(&folded.state), LogIndex::new(folded.next))
    }

    /// Decides whose an event is, and takes it over.
    pub(crate) fn decide(
        &self,
        hasher: &Hasher,
        (at, event_id): (Recorded, EventId),
        id: ObservationId,
        seen: Seen,
    ) -> Decided {
        let mut folded = self.lock();
        let taped = folded.tape.is_some().then(|| seen.clone());
        let decided = take(&mut folded, Ids { hasher, event_id, given: 0, first: None }, at, id, seen);
        if let (Some(tape), Some(seen)) = (&mut folded.tape, taped) {
            tape.push(Taped::Observation { at, event_id, id, seen, subject: decided.subject });
        }
        decided
    }

    /// Takes a statement over, with the keys of its id and of what it says if it has an id. Returns the events: its own
    /// first.
    pub(crate) fn state(
        &self,
        hasher: &Hasher,
        (at, event_id): (Recorded, EventId),
        statement: &Statement,
        keys: Option<(Key, Key)>,
    ) -> Result<Vec<Derived>, IdentityError> {
        let mut folded = self.lock();
        let mut ids = Ids { hasher, event_id, given: 0, first: None };
        let events = apply(&mut folded, &mut ids, at, statement)?;
        folded.remember(at, keys);
        if let Some(tape) = &mut folded.tape {
            tape.push(Taped::Statement { at, event_id, statement: statement.clone(), keys });
        }
        Ok(events)
    }

    /// Returns the number of the leaf of a statement that was made under the same id, and whether it says the same.
    pub fn stated(&self, id: &Key, content: &Key) -> Option<(LogIndex, bool)> {
        let folded = self.lock();
        folded.stated.get(id).map(|(number, said)| (LogIndex::new(*number), said == content))
    }

    /// Returns what a change of the rules would do, with the size as [`Identity::read`]. Works on copies of the whole
    /// state: it takes about as long as a start takes to fold, and that memory again.
    ///
    /// # Errors
    /// Those that the change itself would meet.
    pub fn simulate_ruleset(&self, ruleset: Ruleset) -> (Result<Simulation, IdentityError>, LogIndex) {
        let (copy, next) = {
            let folded = self.lock();
            (folded.state.clone(), LogIndex::new(folded.next))
        };
        (copy.simulate_ruleset(ruleset), next)
    }

    /// Returns the numbers of leaves in which facts were said again that name a person: when the person is erased they go as
    /// well, and what they say about others is among [`Identity::facts_of_others`].
    pub fn said_again(&self, subject: &Subject) -> Vec<LogIndex> {
        let folded = self.lock();
        let Some(plan) = (!folded.said_again.is_empty()).then(|| folded.state.plan_erasure(subject)) else {
            return Vec::new();
        };
        let Ok(plan) = plan else { return Vec::new() };
        let theirs = Theirs::of(&plan);
        let names = |said: &[Reassertion]| said.iter().any(|fact| theirs.rest(fact).as_ref() != Some(fact));
        let leaves = folded.said_again.iter().filter(|(_, said)| names(said));
        leaves.map(|(number, _)| LogIndex::new(*number)).collect()
    }

    /// Returns the facts about others that rest on a person's evidence alone and have to be stated before it is destroyed.
    /// Works on a copy of the whole state.
    ///
    /// # Errors
    /// [`IdentityError::NotKnown`], [`IdentityError::Erased`].
    pub fn facts_of_others(&self, subject: &Subject, at_ms: u64) -> Result<Vec<Reassertion>, IdentityError> {
        let (copy, said_again, next) = {
            let folded = self.lock();
            (folded.state.clone(), folded.said_again.clone(), folded.next)
        };
        let theirs = Theirs::of(&copy.plan_erasure(subject)?);
        let mut facts = Vec::new();
        for (_, said) in &said_again {
            let rest: Vec<_> = said.iter().filter_map(|fact| theirs.rest(fact)).collect();
            if rest != *said {
                facts.extend(rest);
            }
        }
        let at = Recorded { index: LogIndex::new(next), at_ms };
        facts.extend(copy.facts_of_others(subject, at)?);
        Ok(facts)
    }

    /// Returns what an assertion would do, with the size as [`Identity::read`].
    ///
    /// # Errors
    /// Those that the assertion itself would meet.
    pub fn simulate(&self, kind: &AssertionKind) -> (Result<Simulation, IdentityError>, LogIndex) {
        let mut folded = self.lock();
        (folded.state.simulate_assertion(kind), LogIndex::new(folded.next))
    }

    /// Folds the leaves anew, so that what can no longer be read is forgotten. `read` gives the leaves below the size that
    /// it is told, in order, to the state that it is given; decisions that are made meanwhile are made again at the end.
    ///
    /// # Errors
    /// Those of `read`; the state stays as it is then.
    pub fn refold<E>(
        &self,
        hasher: &Hasher,
        read: impl FnOnce(&Self, LogIndex) -> Result<(), E>,
    ) -> Result<(), E> {
        let size = {
            let mut folded = self.lock();
            folded.tape = Some(Vec::new());
            LogIndex::new(folded.next)
        };
        let fresh = Self::default();
        let done = read(&fresh, size);
        let mut folded = self.lock();
        let tape = folded.tape.take().unwrap_or_default();
        done?;
        let mut fresh = fresh.lock();
        for taped in tape {
            match taped {
                Taped::Observation { at, event_id, id, seen, subject } => {
                    let ids = Ids::recorded(hasher, &fresh.state, event_id, subject);
                    take(&mut fresh, ids, at, id, seen);
                }
                Taped::Statement { at, event_id, statement, keys } => {
                    let ids = Ids { hasher, event_id, given: 0, first: None };
                    apply_again(&mut fresh, ids, at, &statement);
                    fresh.remember(at, keys);
                }
            }
        }
        let next = folded.next.max(fresh.next);
        let empty = State::new(Ruleset::default()).expect("the ruleset that comes with the program is valid");
        folded.state = std::mem::replace(&mut fresh.state, empty);
        folded.stated = std::mem::take(&mut fresh.stated);
        folded.said_again = std::mem::take(&mut fresh.said_again);
        folded.next = next;
        Ok(())
    }

    /// Takes a leaf over that was read from the log. Leaves that were taken over before are left alone.
    pub fn replay(&self, hasher: &Hasher, index: LogIndex, leaf: &OpenLeaf) {
        if index < self.next() {
            return;
        }
        if leaf.system == OWN_SYSTEM
            && let Some(statement) = Statement::of_leaf(leaf)
        {
            let at = Recorded { index, at_ms: leaf.received_ms };
            let ids = Ids { hasher, event_id: leaf.event_id, given: 0, first: None };
            let mut folded = self.lock();
            apply_again(&mut folded, ids, at, &statement);
            folded.remember(at, statement_keys(hasher, &statement, &leaf.dedupe));
            folded.next = folded.next.max(index.get() + 1);
            return;
        }
        let facts = hasher.facts(leaf);
        let (Some(event), false) = (&facts.event, leaf.system == OWN_SYSTEM) else {
            return self.skip(index);
        };
        let seen = if leaf.header.source == SourceCode::RESOLVE {
            leaf.body.get(OBSERVATION_MEMBER).and_then(Seen::of_json).unwrap_or_default()
        } else {
            let (customer, interaction) = (event.customer.as_ref(), event.interaction.as_ref());
            Seen::of_event(hasher.identifiers(), &Outline::of_body(&leaf.body), customer, interaction)
        };
        let at = Recorded { index, at_ms: leaf.received_ms };
        let mut folded = self.lock();
        let ids = Ids::recorded(hasher, &folded.state, leaf.event_id, event.subject);
        take(&mut folded, ids, at, observation_id(&event.dedupe), seen);
    }

    /// Passes over a leaf that says nothing about identity, or can no longer be read.
    pub fn skip(&self, index: LogIndex) {
        let mut folded = self.lock();
        folded.next = folded.next.max(index.get() + 1);
    }
}

/// What is a person's alone.
struct Theirs {
    identifiers: BTreeSet<Identifier>,
    observations: BTreeSet<ObservationId>,
}

impl Theirs {
    fn of(plan: &Erasure) -> Self {
        Self {
            identifiers: plan.identifiers.iter().copied().collect(),
            observations: plan.observations.iter().map(|one| one.observation).collect(),
        }
    }

    /// Returns what is left of a fact without the person.
    fn rest(&self, fact: &Reassertion) -> Option<Reassertion> {
        fact.without(&|id| self.identifiers.contains(id), &|id| self.observations.contains(id))
    }
}

impl Folded {
    fn remember(&mut self, at: Recorded, keys: Option<(Key, Key)>) {
        if let Some((id, content)) = keys {
            self.stated.insert(id, (at.index.get(), content));
        }
    }
}

/// Returns the keys of a statement's id and of what it says, if it has an id.
pub fn statement_keys(hasher: &Hasher, statement: &Statement, id: &Dedupe<'_>) -> Option<(Key, Key)> {
    if id.kind == DedupeKind::CONTENT {
        return None;
    }
    let content = hasher.content(&statement.content());
    Some((hasher.dedupe(OWN_SYSTEM, id, &content), content))
}

/// Takes a statement over and returns the events that follow, its own first.
fn apply(
    folded: &mut Folded,
    ids: &mut Ids<'_>,
    at: Recorded,
    statement: &Statement,
) -> Result<Vec<Derived>, IdentityError> {
    let events = match statement {
        Statement::Assertion(assertion) => folded.state.assert(assertion, at, ids)?.events,
        Statement::Ruleset(change) => folded.state.change_ruleset(change.ruleset.clone(), at, ids)?.events,
        Statement::Reassert(facts) => {
            folded.said_again.push((at.index.get(), facts.clone()));
            folded.state.reassert(facts, at, ids).events
        }
    };
    folded.next = at.index.get() + 1;
    Ok(events)
}

/// Takes a statement over that was made before. What it is about may have been erased since; then it says nothing any
/// more, and those behind it keep their numbers.
fn apply_again(folded: &mut Folded, mut ids: Ids<'_>, at: Recorded, statement: &Statement) {
    if let Err(error) = apply(folded, &mut ids, at, statement) {
        tracing::warn!(error = &error as &dyn std::error::Error, "a statement says nothing any more");
        if matches!(statement, Statement::Assertion(_)) {
            folded.state.pass_assertion(at);
        }
    }
}

/// Takes over what an event says.
fn take(folded: &mut Folded, mut ids: Ids<'_>, at: Recorded, id: ObservationId, seen: Seen) -> Decided {
    let Folded { state, next, .. } = folded;
    *next = at.index.get() + 1;
    let Seen { time_ms, mut sightings, named, asked } = seen;
    if let Some(named) = named {
        match state.home_of(&named) {
            Some(identifier) => {
                sightings.push(Sighting { identifier, assurance: Assurance::VERIFIED, aliases: Vec::new() })
            }
            // An interaction that nobody is known of keeps its id.
            None if is_interaction(state, &named) => {
                if sightings.is_empty() {
                    return Decided { subject: named, decision: None };
                }
            }
            None => sightings.push(reference(&ids.hasher.customer(&named.to_string()))),
        }
    }
    if sightings.is_empty() && !asked {
        let subject = ids.id_for(idtrail_identity::Home::Observation(id));
        return Decided { subject, decision: None };
    }
    let time_ms = if time_ms == 0 { at.at_ms } else { time_ms };
    let observation = Observation { id, time_ms, sightings };
    match state.resolve(&observation, at, &mut ids) {
        Ok(decision) => Decided { subject: decision.gcid, decision: Some(decision) },
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "an event says nothing that identity can use"
            );
            let subject = ids.id_for(idtrail_identity::Home::Observation(id));
            Decided { subject, decision: None }
        }
    }
}

/// Returns what recognises an observation: the id by which a repeated event is recognised.
pub fn observation_id(dedupe: &Key) -> ObservationId {
    let (head, _) = dedupe.as_bytes().split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
    ObservationId::new(*head)
}

fn is_interaction(state: &State, gcid: &GlobalCustomerId) -> bool {
    state.customer(gcid).is_ok_and(|customer| customer.state == idtrail_identity::read::CustomerState::Nobody)
}

/// Returns the members of an event that a resolution became.
pub(crate) fn resolved_event(
    mut event: Map<String, Value>,
    subject: GlobalCustomerId,
    identity: Value,
) -> Map<String, Value> {
    event.insert("resolvedCustomerId".to_owned(), subject.to_string().into());
    event.insert("identity".to_owned(), identity);
    event
}
