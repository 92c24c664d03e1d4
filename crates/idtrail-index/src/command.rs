//! What is handed to the log: a client's event, or leaves of the log's own; and the leaf that was decided upon.

use idtrail_event::clear::{
    ClassTableItem, KeyShreddedItem, LogKeyRotatedItem, OriginStartItem, ShredIntentItem,
};
use idtrail_event::{
    ChannelCode, ClassTable, Decided, Dedupe, DedupeKind, EncodedEvent, EventId, GlobalCustomerId,
    LeafHeader, Outline, PlainEvent, SealRequest, SourceCode, TypeCode, ValidEvent, time_text,
};
use idtrail_identity::event::Derived;
use idtrail_identity::ruleset::types;
use idtrail_identity::{Decision, Outcome, Ruleset, Sighting};
use serde_json::{Map, Value, json};

use crate::facts::{Hasher, Key, ShredStep};
use crate::identity::{Seen, resolved_event, statement_keys};
use crate::slip::Slip;
use crate::statement::Statement;

/// The calling system's name in the log's own leaves; no credential can have it, because it holds a colon.
pub(crate) const OWN_SYSTEM: &str = "idtrail:log";

/// More bytes than the leaf of a resolution has, with what follows from it.
const RESOLVED_BYTES_MAX: usize = 32 * 1024;

/// The longest leaf of what follows from an event.
const DERIVED_BYTES_MAX: usize = 16 * 1024;

/// What is to be resolved.
#[derive(Debug)]
pub struct Resolution {
    /// Members of the event: time, interaction and what else is known. The type and the outcome are added.
    pub event: Map<String, Value>,
    /// The channel.
    pub channel: ChannelCode,
    /// When it happened, milliseconds since 1970.
    pub time_ms: u64,
    /// The identifiers.
    pub sightings: Vec<Sighting>,
}

/// A resolution on its way into the log.
#[derive(Debug)]
pub(crate) struct Resolve {
    event: Map<String, Value>,
    channel: ChannelCode,
    /// What was resolved, encoded as it stands beside the event.
    beside: EncodedEvent,
    /// Only an event without any identifier is kept as short as anonymous ones are.
    names_nobody: bool,
    pub(crate) seen: Seen,
    pub(crate) keys: Keys,
    system: String,
    actor: Option<String>,
    dedupe_id: Dedupe<'static>,
    pub(crate) slip: Slip,
}

impl Resolve {
    /// Makes the body, once it is decided whose the interaction is.
    pub(crate) fn body(
        self,
        subject: GlobalCustomerId,
        decision: Option<&Decision>,
        rules: &Ruleset,
    ) -> Body {
        let nobody = || json!({ "outcome": "ANONYMOUS", "tier": "AMBIGUOUS", "identifiers": [] });
        let identity = decision.map_or_else(nobody, |decision| decision.identity(rules));
        let anonymous = decision.is_none_or(|decision| decision.outcome == Outcome::Anonymous);
        let event_type =
            if anonymous && self.names_nobody { TypeCode::ANONYMOUS } else { TypeCode::IDENTITY_RESOLUTION };
        let mut event = resolved_event(self.event, subject, identity);
        event.insert("eventType".to_owned(), event_type.to_string().into());
        Body {
            encoded: self.beside.with_event(&event),
            header: LeafHeader {
                event_type,
                hour: 0,
                source: SourceCode::RESOLVE,
                channel: self.channel,
                class: event_type.class(),
                clear: None,
            },
            system: self.system,
            actor: self.actor,
            dedupe_id: self.dedupe_id,
        }
    }
}

/// Something on its way into the log: checked, encoded, everything keyed that needs no order.
#[derive(Debug)]
pub struct Command(pub(crate) What);

#[derive(Debug)]
pub(crate) enum What {
    Event(Box<(Body, Keys, Seen)>),
    Resolve(Box<Resolve>),
    /// What is stated about identities.
    State(Box<Stated>),
    /// Leaves of the log's own, in one frame.
    Own(Vec<(Body, Option<ShredStep>)>),
    /// Leaves of the access log, in one frame: who is concerned, and the keys if somebody is.
    Access(Vec<(Body, Option<(GlobalCustomerId, Keys)>)>),
    /// A leaf of a request of a data subject, once.
    Once(Box<(Body, Keys, GlobalCustomerId)>),
}

/// A statement on its way into the log.
#[derive(Debug)]
pub(crate) struct Stated {
    pub(crate) statement: Statement,
    /// The person who makes it.
    pub(crate) actor: Option<String>,
    pub(crate) dedupe_id: Dedupe<'static>,
    /// Of its id and of what it says, if it has an id.
    pub(crate) keys: Option<(Key, Key)>,
}

/// What a leaf holds before its place is known.
#[derive(Debug)]
pub(crate) struct Body {
    encoded: EncodedEvent,
    /// The hour is set when the receipt time is known.
    header: LeafHeader,
    system: String,
    actor: Option<String>,
    dedupe_id: Dedupe<'static>,
}

#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) customer: Option<Key>,
    pub(crate) interaction: Option<Key>,
    pub(crate) dedupe: Key,
    pub(crate) content: Key,
    pub(crate) content_is_id: bool,
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
        let outline = Outline::of_body(event.body());
        let codes = (event.event_type(), event.channel());
        Self::event(hasher, (event.encode(), codes, &outline), source, (system, actor), dedupe_id)
    }

    /// Prepares a usual event, from the JSON API; may run in parallel.
    pub fn prepare_plain(hasher: &Hasher, event: PlainEvent<'_>, system: &str, actor: Option<&str>) -> Self {
        let PlainEvent { encoded, event_type, channel, outline } = event;
        let event = (encoded, (event_type, channel), &outline);
        Self::event(hasher, event, SourceCode::API, (system, actor), Dedupe::CONTENT)
    }

    fn event(
        hasher: &Hasher,
        (encoded, (event_type, channel), outline): (EncodedEvent, (TypeCode, ChannelCode), &Outline<'_>),
        source: SourceCode,
        (system, actor): (&str, Option<&str>),
        dedupe_id: Dedupe<'static>,
    ) -> Self {
        let content = hasher.content(&encoded);
        let class = event_type.class();
        let header = LeafHeader { event_type, hour: 0, source, channel, class, clear: None };
        let (customer, interaction) = (
            outline.resolved_customer_id.map(|id| hasher.customer(id)),
            outline.interaction_id.map(|id| hasher.interaction(id)),
        );
        let seen = Seen::of_event(hasher.identifiers(), outline, customer.as_ref(), interaction.as_ref());
        let keys = Keys {
            customer,
            interaction,
            dedupe: hasher.dedupe(system, &dedupe_id, &content),
            content,
            content_is_id: dedupe_id.kind == DedupeKind::CONTENT,
        };
        let (system, actor) = (system.to_owned(), actor.map(str::to_owned));
        Self(What::Event(Box::new((Body { encoded, header, system, actor, dedupe_id }, keys, seen))))
    }

    /// Prepares the resolution of identifiers; may run in parallel. At most as many as the ruleset allows, each with its
    /// aliases, or the event is stored without a customer. What is decided stands on the slip.
    pub fn resolve(
        hasher: &Hasher,
        request: Resolution,
        system: &str,
        actor: Option<&str>,
        dedupe_id: Dedupe<'static>,
    ) -> (Self, Slip) {
        let Resolution { event, channel, time_ms, sightings } = request;
        let seen = Seen { time_ms, sightings, named: None, asked: true };
        let beside = seen.encode();
        let content = hasher.content(&beside);
        let interaction = event.get("interactionId").and_then(Value::as_str);
        let keys = Keys {
            customer: None,
            interaction: interaction.map(|id| hasher.interaction(id)),
            dedupe: hasher.dedupe(system, &dedupe_id, &content),
            content,
            content_is_id: false,
        };
        let (system, actor) = (system.to_owned(), actor.map(str::to_owned));
        let slip = Slip::default();
        let names_nobody = seen.sightings.iter().all(|seen| seen.identifier.kind == types::INTERACTION);
        let resolve = Resolve {
            event,
            channel,
            beside,
            names_nobody,
            seen,
            keys,
            system,
            actor,
            dedupe_id,
            slip: slip.clone(),
        };
        (Self(What::Resolve(Box::new(resolve))), slip)
    }

    /// Takes what is stated about identities, by whom, and the id by which a repetition is recognised
    /// ([`Dedupe::CONTENT`] for none). Simulate it first: what cannot be stated is answered as unavailable.
    pub fn state(
        hasher: &Hasher,
        statement: Statement,
        actor: Option<&str>,
        dedupe_id: Dedupe<'static>,
    ) -> Self {
        let keys = statement_keys(hasher, &statement, &dedupe_id);
        Self(What::State(Box::new(Stated { statement, actor: actor.map(str::to_owned), dedupe_id, keys })))
    }

    /// Returns the first two leaves of a log, in order: what it continues, and its retention classes.
    pub fn first_leaves(start: &OriginStartItem, classes: &ClassTable) -> [Self; 2] {
        let own = |event_type: TypeCode, clear| {
            Self(What::Own(vec![(Body::own(event_type, clear, json!({}), None), None)]))
        };
        [
            own(TypeCode::ORIGIN_START, start.encode()),
            own(TypeCode::CLASS_TABLE, ClassTableItem(classes.clone()).encode()),
        ]
    }

    /// Returns the leaves that announce the destruction of keys, with who asked for it.
    pub fn shred_intents(intents: &[(ShredIntentItem, Option<String>)]) -> Self {
        let leaf = |(item, actor): &(ShredIntentItem, Option<String>)| {
            let said =
                json!({ "requestId": item.request_id, "count": item.count, "vaultEpoch": item.target_epoch });
            let body = Body::own(TypeCode::SHRED_INTENT, item.encode(), said, actor.clone());
            (body, Some(ShredStep::Intent(item.clone())))
        };
        Self(What::Own(intents.iter().map(leaf).collect()))
    }

    /// Returns the leaves that say that keys were destroyed.
    pub fn keys_shredded(outcomes: &[KeyShreddedItem]) -> Self {
        let leaf = |item: &KeyShreddedItem| {
            let said = json!({ "requestId": item.request_id, "count": item.count, "vaultEpoch": item.epoch });
            let body = Body::own(TypeCode::KEY_SHREDDED, item.encode(), said, None);
            (body, Some(ShredStep::Done(item.clone())))
        };
        Self(What::Own(outcomes.iter().map(leaf).collect()))
    }

    /// Returns the leaf that says which key signs the log's trees from now on.
    pub fn log_key_rotated(item: &LogKeyRotatedItem, actor: Option<String>) -> Self {
        let said = json!({ "oldKey": item.old, "newKey": item.new });
        let body = Body::own(TypeCode::LOG_KEY_ROTATED, item.encode(), said, actor);
        Self(What::Own(vec![(body, None)]))
    }

    /// Returns the leaf that says that a hold was set or released. Nothing of it stands in clear.
    pub fn hold_changed(is_set: bool, hold: &str, leaves: u64, actor: Option<String>) -> Self {
        let event_type = if is_set { TypeCode::HOLD_SET } else { TypeCode::HOLD_RELEASED };
        let said = json!({ "holdId": hold, "leaves": leaves });
        let mut body = Body::own(event_type, Vec::new(), said, actor);
        body.header.clear = None;
        Self(What::Own(vec![(body, None)]))
    }

    /// Adds leaves of the log's own behind these, in the same frame.
    #[must_use]
    pub fn followed_by(mut self, others: impl Iterator<Item = Self>) -> Self {
        if let What::Own(leaves) = &mut self.0 {
            for Self(other) in others {
                if let What::Own(more) = other {
                    leaves.extend(more);
                }
            }
        }
        self
    }

    /// Returns an upper bound of the bytes of the leaves, to be checked before an event is handed to the log.
    pub fn leaf_bytes_max(&self) -> usize {
        match &self.0 {
            What::Event(event) => event.0.leaf_bytes_max(),
            What::Resolve(_) => RESOLVED_BYTES_MAX,
            What::State(stated) => stated.bytes_max(),
            What::Once(once) => once.0.leaf_bytes_max(),
            What::Own(leaves) => leaves.iter().map(|(body, _)| body.leaf_bytes_max()).sum(),
            What::Access(leaves) => leaves.iter().map(|(body, _)| body.leaf_bytes_max()).sum(),
        }
    }
}

impl Stated {
    /// Returns more bytes than its leaf has, with what follows from it.
    fn bytes_max(&self) -> usize {
        let body = EncodedEvent::of(&self.statement.body("", Value::Null));
        let actor = self.actor.as_ref().map_or(0, String::len);
        body.sealed_len_max(OWN_SYSTEM, self.dedupe_id.id_bytes().len(), actor) + RESOLVED_BYTES_MAX
    }
}

impl Body {
    fn own(event_type: TypeCode, clear: Vec<u8>, mut said: Value, actor: Option<String>) -> Self {
        if let Value::Object(members) = &mut said {
            members.insert("eventType".to_owned(), json!(event_type.to_string()));
        }
        Self {
            encoded: EncodedEvent::of(&json!({ "auditEvent": said })),
            header: LeafHeader {
                event_type,
                hour: 0,
                source: SourceCode::SYSTEM,
                channel: ChannelCode::NONE,
                class: event_type.class(),
                clear: Some(clear),
            },
            system: OWN_SYSTEM.to_owned(),
            actor,
            dedupe_id: Dedupe::CONTENT,
        }
    }

    /// Returns the body of a leaf that stands in the log once.
    pub(crate) fn once(
        encoded: EncodedEvent,
        header: LeafHeader,
        actor: Option<String>,
        dedupe_id: Dedupe<'static>,
    ) -> Self {
        Self { encoded, header, system: OWN_SYSTEM.to_owned(), actor, dedupe_id }
    }

    /// Returns the body of the leaf that stands for a late event of an erased person, and holds nothing of it.
    pub(crate) fn straggler(received_ms: u64, cutoff_ms: u64) -> Self {
        let event_type = TypeCode::STRAGGLER_ERASED;
        let event = json!({
            "eventType": event_type.to_string(), "timestamp": time_text(received_ms), "cutoff": time_text(cutoff_ms),
        });
        let encoded = EncodedEvent::of(&json!({ "auditEvent": event }));
        let header = LeafHeader {
            event_type,
            hour: 0,
            source: SourceCode::SYSTEM,
            channel: ChannelCode::NONE,
            class: event_type.class(),
            clear: None,
        };
        Self::once(encoded, header, None, Dedupe::CONTENT)
    }

    /// Returns the body of a leaf of the access log.
    pub(crate) fn access(encoded: EncodedEvent, system: &str) -> Self {
        Self {
            encoded,
            header: LeafHeader {
                event_type: TypeCode::DATA_ACCESS,
                hour: 0,
                source: SourceCode::SYSTEM,
                channel: ChannelCode::NONE,
                class: TypeCode::DATA_ACCESS.class(),
                clear: None,
            },
            system: system.to_owned(),
            actor: None,
            dedupe_id: Dedupe::CONTENT,
        }
    }

    /// Returns the leaf of something that followed from an event.
    pub(crate) fn derived(derived: &Derived, received_ms: u64, rules: &Ruleset) -> Self {
        let event_type = derived.event_type();
        let time = time_text(received_ms);
        let of = |identity: Value| {
            let event = json!({
                "eventType": event_type.to_string(),
                "timestamp": time,
                "identity": identity,
                "rulesetVersion": rules.version,
            });
            EncodedEvent::of(&json!({ "auditEvent": event }))
        };
        let mut encoded = of(derived.identity(rules));
        if encoded.sealed_len_max(OWN_SYSTEM, 0, 0) > DERIVED_BYTES_MAX {
            // Nothing may fail once the order is fixed. All of it follows again from the leaf that caused it.
            encoded = of(json!({ "shortened": true }));
        }
        Self {
            encoded,
            header: LeafHeader {
                event_type,
                hour: 0,
                source: SourceCode::SYSTEM,
                channel: ChannelCode::NONE,
                class: event_type.class(),
                clear: None,
            },
            system: OWN_SYSTEM.to_owned(),
            actor: None,
            dedupe_id: Dedupe::CONTENT,
        }
    }

    /// Returns the leaf of a statement.
    pub(crate) fn stated(
        event_type: TypeCode,
        body: &Value,
        actor: Option<String>,
        dedupe_id: Dedupe<'static>,
    ) -> Self {
        Self {
            encoded: EncodedEvent::of(body),
            header: LeafHeader {
                event_type,
                hour: 0,
                source: SourceCode::SYSTEM,
                channel: ChannelCode::NONE,
                class: event_type.class(),
                clear: None,
            },
            system: OWN_SYSTEM.to_owned(),
            actor,
            dedupe_id,
        }
    }

    /// Returns the keys of a leaf of the log's own that concerns a customer.
    pub(crate) fn own_keys(&self, hasher: &Hasher) -> Keys {
        let content = hasher.content(&self.encoded);
        let dedupe = hasher.dedupe(OWN_SYSTEM, &Dedupe::CONTENT, &content);
        Keys { customer: None, interaction: None, dedupe, content, content_is_id: true }
    }

    fn leaf_bytes_max(&self) -> usize {
        let clear = self.header.clear.as_ref().map_or(0, Vec::len);
        let actor = self.actor.as_ref().map_or(0, String::len);
        self.encoded.sealed_len_max(&self.system, self.dedupe_id.id_bytes().len(), actor) + clear
    }

    /// Makes the draft of a leaf whose place among the customer's events is known.
    pub(crate) fn draft(
        self,
        received_ms: u64,
        event_id: EventId,
        subject: Option<GlobalCustomerId>,
        (subject_sequence, previous_index): (u64, Option<u64>),
    ) -> Draft {
        let Self { encoded, header, system, actor, dedupe_id: dedupe } = self;
        let header = LeafHeader { hour: idtrail_event::hour_of_ms(received_ms), ..header };
        Draft {
            header,
            encoded,
            system,
            actor,
            dedupe,
            received_ms,
            subject,
            event_id,
            subject_sequence,
            previous_index,
        }
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
