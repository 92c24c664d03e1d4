//! What is handed to the log: a client's event, or leaves of the log's own; and the leaf that was decided upon.

use idtrail_event::clear::{ClassTableItem, KeyShreddedItem, OriginStartItem, ShredIntentItem};
use idtrail_event::{
    ChannelCode, ClassTable, Decided, Dedupe, DedupeKind, EncodedEvent, EventId, GlobalCustomerId,
    LeafHeader, SealRequest, SourceCode, TypeCode, ValidEvent,
};
use serde_json::{Value, json};

use crate::facts::{Hasher, Key, ShredStep};

/// The calling system's name in the log's own leaves; no credential can have it, because it holds a colon.
const OWN_SYSTEM: &str = "idtrail:log";

/// Something on its way into the log: checked, encoded, everything keyed that needs no order.
#[derive(Debug)]
pub struct Command(pub(crate) What);

#[derive(Debug)]
pub(crate) enum What {
    Event(Box<(Body, Keys)>),
    /// Leaves of the log's own, in one frame.
    Own(Vec<(Body, Option<ShredStep>)>),
    /// Leaves of the access log, in one frame: who is concerned, and the keys if somebody is.
    Access(Vec<(Body, Option<(GlobalCustomerId, Keys)>)>),
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

#[derive(Debug)]
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
        let encoded = event.encode();
        let content = hasher.content(&encoded);
        let header = LeafHeader {
            event_type: event.event_type(),
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
            content_is_id: dedupe_id.kind == DedupeKind::CONTENT,
        };
        let (system, actor) = (system.to_owned(), actor.map(str::to_owned));
        Self(What::Event(Box::new((Body { encoded, header, system, actor, dedupe_id }, keys))))
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

    /// Returns an upper bound of the bytes of the leaves, to be checked before an event is handed to the log.
    pub fn leaf_bytes_max(&self) -> usize {
        match &self.0 {
            What::Event(event) => event.0.leaf_bytes_max(),
            What::Own(leaves) => leaves.iter().map(|(body, _)| body.leaf_bytes_max()).sum(),
            What::Access(leaves) => leaves.iter().map(|(body, _)| body.leaf_bytes_max()).sum(),
        }
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
