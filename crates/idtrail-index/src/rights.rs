//! Leaves of requests of data subjects: each stands in the log once, under a key that whoever writes it has chosen.
//!
//! A request has a made-up customer of its own, so that its leaves are one chain in the index and are found by it. Nobody's
//! identity follows from them. Of two writers that decided on the same state only one can append: the other is told the
//! place of the leaf that was first ([`crate::trail::Refusal::Conflict`]), or that its own leaf is there already.
//!
//! What it must never do: take an event of a client, or a text that a client chose.

use idtrail_event::{
    ChannelCode, Dedupe, DedupeKind, EncodedEvent, GlobalCustomerId, LeafHeader, SourceCode, TypeCode,
};
use serde_json::{Map, Value, json};

use crate::command::{Body, Command, Keys, OWN_SYSTEM, What};
use crate::facts::Hasher;

/// The longest leaf of a request, in bytes.
pub const LEAF_BYTES_MAX: usize = 60 * 1024;

/// A leaf that is to stand in the log once.
#[derive(Clone, Debug)]
pub struct Once {
    /// Its type.
    pub event_type: TypeCode,
    /// The members of `auditEvent`.
    pub event: Map<String, Value>,
    /// The key under which the log takes it once.
    pub append_key: [u8; 32],
    /// The made-up customer of the request.
    pub subject: GlobalCustomerId,
    /// Who said it; sealed beside it.
    pub actor: Option<String>,
}

impl Once {
    /// Returns the command that writes it; `None` if it is longer than a leaf may be.
    pub fn command(self, hasher: &Hasher) -> Option<Command> {
        let text = |name: &str| self.event.get(name).and_then(Value::as_str);
        let customer = text("resolvedCustomerId").map(|id| hasher.customer(id));
        let interaction = text("interactionId").map(|id| hasher.interaction(id));
        let encoded = EncodedEvent::of(&json!({ "auditEvent": self.event }));
        let content = hasher.content(&encoded);
        let dedupe_id = Dedupe::bytes(DedupeKind::SYSTEM, &self.append_key).into_owned();
        let dedupe = hasher.dedupe(OWN_SYSTEM, &dedupe_id, &content);
        let header = LeafHeader {
            event_type: self.event_type,
            hour: 0,
            source: SourceCode::SYSTEM,
            channel: ChannelCode::NONE,
            class: self.event_type.class(),
            clear: None,
        };
        let body = Body::once(encoded, header, self.actor, dedupe_id);
        let keys = Keys { customer, interaction, dedupe, content, content_is_id: false };
        let command = Command(What::Once(Box::new((body, keys, self.subject))));
        (command.leaf_bytes_max() <= LEAF_BYTES_MAX).then_some(command)
    }
}
