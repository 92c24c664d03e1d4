//! The state machine of the trail: is this a repetition, who is the customer, what is the leaf.
//!
//! The identity decision is one function, [`decide_customer`]: a client's customer id that is new gets a fresh random
//! global id; one that was seen keeps its own; none gets a fresh one. It is never computed from the client's id.

use std::collections::HashMap;
use std::sync::Arc;

use idtrail_event::clear::{ClassTableItem, OriginStartItem};
use idtrail_event::{
    ChannelCode, ClassTable, Decided, Dedupe, EncodedEvent, EventId, GlobalCustomerId, LeafHeader,
    SealRequest, SourceCode, TypeCode, ValidEvent,
};
use idtrail_log::machine::{Decision, Machine, Moment, Planned};
use idtrail_port::{Entropy, RandomPool};
use idtrail_tlog::LogIndex;
use serde_json::json;

use crate::facts::{EventFacts, Facts, Hasher, Key};

const HOUR_MS: u64 = 60 * 60 * 1000;
/// The calling system's name in the log's own leaves; no credential can have it, because it holds a colon.
const OWN_SYSTEM: &str = "idtrail:log";

/// An event on its way into the log: checked, encoded, everything keyed that needs no order.
#[derive(Debug)]
pub struct Command {
    encoded: EncodedEvent,
    header: LeafHeader,
    system: String,
    actor: Option<String>,
    dedupe_id: Dedupe<'static>,
    /// `None` for the log's own leaves.
    keys: Option<Keys>,
}

#[derive(Debug)]
struct Keys {
    customer: Option<Key>,
    interaction: Option<Key>,
    dedupe: Key,
    content: Key,
}

impl Command {
    /// Prepares a checked event; may run in parallel.
    pub fn prepare(
        hasher: &Hasher,
        event: &ValidEvent,
        source: SourceCode,
        system: &str,
        actor: Option<&str>,
        dedupe_id: Dedupe<'static>,
    ) -> Self {
        let encoded = event.encode();
        let content = hasher.content(&encoded);
        let header = LeafHeader {
            event_type: event.event_type(),
            // Set when the receipt time is known.
            hour: 0,
            source,
            channel: event.channel(),
            class: event.class(),
            clear: None,
        };
        let keys = Keys {
            customer: event.resolved_customer_id().map(|id| hasher.customer(id)),
            interaction: event.interaction_id().map(|id| hasher.interaction(id)),
            dedupe: hasher.dedupe(system, &dedupe_id, &content),
            content,
        };
        let (system, actor) = (system.to_owned(), actor.map(str::to_owned));
        Self { encoded, header, system, actor, dedupe_id, keys: Some(keys) }
    }

    /// Returns the first two leaves of a log, in order: what it continues, and its retention classes.
    pub fn first_leaves(start: &OriginStartItem, classes: &ClassTable) -> [Self; 2] {
        let own = |event_type: TypeCode, clear: Vec<u8>| Self {
            encoded: EncodedEvent::of(&json!({ "auditEvent": { "eventType": event_type.to_string() } })),
            header: LeafHeader {
                event_type,
                hour: 0,
                source: SourceCode::SYSTEM,
                channel: ChannelCode::NONE,
                class: event_type.class(),
                clear: Some(clear),
            },
            system: OWN_SYSTEM.to_owned(),
            actor: None,
            dedupe_id: Dedupe::CONTENT,
            keys: None,
        };
        [
            own(TypeCode::ORIGIN_START, start.encode()),
            own(TypeCode::CLASS_TABLE, ClassTableItem(classes.clone()).encode()),
        ]
    }

    /// Returns an upper bound of the leaf's length, to be checked before the event is handed to the log.
    pub fn leaf_bytes_max(&self) -> usize {
        let clear = self.header.clear.as_ref().map_or(0, Vec::len);
        let actor = self.actor.as_ref().map_or(0, String::len);
        self.encoded.sealed_len_max(&self.system, self.dedupe_id.id_bytes().len(), actor) + clear
    }
}

/// A leaf that was decided upon.
#[derive(Debug)]
pub struct Draft {
    /// What stands in clear.
    pub header: LeafHeader,
    encoded: EncodedEvent,
    system: String,
    actor: Option<String>,
    dedupe: Dedupe<'static>,
    received_ms: u64,
    subject: Option<GlobalCustomerId>,
    event_id: EventId,
    subject_sequence: u64,
    previous_index: Option<u64>,
}

impl Draft {
    /// Returns what is to be sealed.
    pub fn seal_request(&self) -> SealRequest<'_> {
        let decided = Decided {
            received_ms: self.received_ms,
            subject: self.subject,
            event_id: self.event_id,
            system: &self.system,
            actor: self.actor.as_deref(),
            dedupe: self.dedupe.clone(),
            subject_sequence: self.subject_sequence,
            previous_index: self.previous_index,
        };
        SealRequest { header: self.header.clone(), encoded: &self.encoded, decided }
    }
}

/// Why nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The same id was used before with another content, at this index.
    Conflict(LogIndex),
}

#[derive(Debug)]
struct Seen {
    index: LogIndex,
    content: Key,
}

#[derive(Debug)]
struct Subject {
    events: u64,
    last: LogIndex,
}

/// The trail's state. Includes decisions that are not durable yet.
pub struct Trail {
    random: RandomPool,
    seen: HashMap<Key, Seen>,
    customers: HashMap<Key, GlobalCustomerId>,
    subjects: HashMap<GlobalCustomerId, Subject>,
    received_ms: u64,
}

impl std::fmt::Debug for Trail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trail").field("subjects", &self.subjects.len()).finish_non_exhaustive()
    }
}

impl Trail {
    /// Returns the state of an empty log.
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self {
            random: RandomPool::new(entropy),
            seen: HashMap::new(),
            customers: HashMap::new(),
            subjects: HashMap::new(),
            received_ms: 0,
        }
    }

    /// Takes over one leaf; called for each in order, when it is decided and when the log is read back.
    pub fn fold(&mut self, index: LogIndex, facts: &Facts) {
        self.received_ms = self.received_ms.max(facts.received_ms);
        let Some(event) = &facts.event else { return };
        self.seen.insert(event.dedupe, Seen { index, content: event.content });
        if let Some(customer) = event.customer {
            self.customers.insert(customer, event.subject);
        }
        let subject = Subject { events: event.subject_sequence + 1, last: index };
        self.subjects.insert(event.subject, subject);
    }

    /// Returns the newest receipt time in the log, milliseconds since 1970.
    pub fn received_ms(&self) -> u64 {
        self.received_ms
    }

    /// Returns the customer of a client's own customer id.
    pub fn customer(&self, key: &Key) -> Option<GlobalCustomerId> {
        self.customers.get(key).copied()
    }

    /// Decides who the customer of an event is.
    fn decide_customer(&mut self, customer: Option<Key>) -> GlobalCustomerId {
        let known = customer.and_then(|key| self.customers.get(&key)).copied();
        known.unwrap_or_else(|| GlobalCustomerId::new(self.random.take()))
    }
}

impl Machine for Trail {
    type Command = Command;
    type Draft = Draft;
    type Facts = Facts;
    type Refusal = Refusal;

    fn decide(&mut self, command: Command, at: Moment) -> Decision<Draft, Facts, Refusal> {
        if let Some(keys) = &command.keys
            && let Some(seen) = self.seen.get(&keys.dedupe)
        {
            return if seen.content == keys.content {
                Decision::Existing(seen.index)
            } else {
                Decision::Refuse(Refusal::Conflict(seen.index))
            };
        }
        let customer = command.keys.as_ref().map(|keys| keys.customer);
        let subject = customer.map(|customer| self.decide_customer(customer));
        let before = subject.and_then(|subject| self.subjects.get(&subject));
        let subject_sequence = before.map_or(0, |subject| subject.events);
        let previous_index = before.map(|subject| subject.last.get());
        let hour = u32::try_from(at.received_ms / HOUR_MS).unwrap_or(u32::MAX);
        let header = LeafHeader { hour, ..command.header };
        let event = subject.zip(command.keys).map(|(subject, keys)| EventFacts {
            subject,
            subject_sequence,
            customer: keys.customer,
            interaction: keys.interaction,
            dedupe: keys.dedupe,
            content: keys.content,
        });
        let facts = Facts { received_ms: at.received_ms, event };
        let draft = Draft {
            header,
            encoded: command.encoded,
            system: command.system,
            actor: command.actor,
            dedupe: command.dedupe_id,
            received_ms: at.received_ms,
            subject,
            event_id: EventId::new(self.random.take()),
            subject_sequence,
            previous_index,
        };
        self.fold(at.next, &facts);
        Decision::Append(vec![Planned { draft, facts }])
    }

    fn bytes_max(command: &Command) -> usize {
        command.leaf_bytes_max()
    }
}
