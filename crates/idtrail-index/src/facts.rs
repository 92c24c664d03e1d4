//! What derived state learns from one leaf, and the keyed hashes under which it is found again.

use hmac::{Hmac, KeyInit, Mac};
use idtrail_event::clear::{KeyShreddedItem, ShredIntentItem};
use idtrail_event::{
    Dedupe, DedupeKind, EncodedEvent, EventId, GlobalCustomerId, OpenLeaf, SourceCode, TypeCode,
};
use idtrail_identity::tokens::TokenKeys;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::identity::OBSERVATION_MEMBER;

/// A 32-byte keyed hash. Compared whole, never cut.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}…")
    }
}

impl Key {
    /// Takes bytes back that a key was written as.
    pub(crate) const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Everything derived state learns from one leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Receipt time, milliseconds since 1970.
    pub received_ms: u64,
    /// What a client's event adds; `None` for the log's own leaves.
    pub event: Option<EventFacts>,
    /// A step of the destruction of keys.
    pub step: Option<ShredStep>,
}

/// A step of the destruction of keys, as it stands in clear in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShredStep {
    /// It was announced.
    Intent(ShredIntentItem),
    /// It was done.
    Done(KeyShreddedItem),
}

/// What a client's event adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFacts {
    /// The customer.
    pub subject: GlobalCustomerId,
    /// How many events of this customer came before.
    pub subject_sequence: u64,
    /// The client's own customer id, keyed.
    pub customer: Option<Key>,
    /// The interaction, keyed.
    pub interaction: Option<Key>,
    /// The id under which a repetition is recognised, keyed.
    pub dedupe: Key,
    /// The content, keyed; equal for equal events.
    pub content: Key,
    /// No id was given: a repetition is recognised by the content itself.
    pub content_is_id: bool,
}

/// Makes the keys of one tenant. Each kind of key has its HMAC keyed once, with everything taken in that all keys of the
/// kind have in common: an event needs four or five of them.
pub struct Hasher {
    global_id: Keyed,
    customer: Keyed,
    interaction: Keyed,
    binding: Keyed,
    content: Keyed,
    dedupe: Keyed,
    identifiers: Option<TokenKeys>,
}

/// An HMAC over a list of parts, to which more can be added.
#[derive(Clone)]
struct Keyed(Hmac<Sha256>);

impl Keyed {
    fn new(key: &[u8; 32], parts: &[&[u8]]) -> Self {
        Self(Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length")).with(parts)
    }

    fn with(mut self, parts: &[&[u8]]) -> Self {
        for part in parts {
            self.add(&[part]);
        }
        self
    }

    /// Adds one part, which is given in pieces.
    fn add(&mut self, pieces: &[&[u8]]) {
        // Lengths, so that no two lists of parts give the same input.
        let length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.0.update(&length.to_be_bytes());
        pieces.iter().for_each(|piece| self.0.update(piece));
    }

    fn key(&self, parts: &[&[u8]]) -> Key {
        self.clone().with(parts).finish()
    }

    fn finish(self) -> Key {
        Key(self.0.finalize().into_bytes().into())
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher(…)")
    }
}

impl Hasher {
    /// Returns a hasher with the vault's dedupe and index keys.
    pub fn new(tenant: &str, dedupe: &[u8; 32], index: &[u8; 32]) -> Self {
        let of = |key, kind: &str| Keyed::new(key, &[kind.as_bytes(), tenant.as_bytes()]);
        Self {
            global_id: of(index, "gcid"),
            customer: of(index, "customer"),
            interaction: of(index, "interaction"),
            binding: of(index, "binding"),
            content: of(dedupe, "content"),
            dedupe: of(dedupe, "dedupe"),
            identifiers: None,
        }
    }

    /// Adds the keys of identifiers. Without them the hashes in events say nothing about identity.
    #[must_use]
    pub fn with_identifiers(mut self, keys: TokenKeys) -> Self {
        self.identifiers = Some(keys);
        self
    }

    /// Returns the keys of identifiers, if there are any.
    pub fn identifiers(&self) -> Option<&TokenKeys> {
        self.identifiers.as_ref()
    }

    /// Returns the global id number `ordinal` that an event gives. It is as random as the event's own id.
    pub(crate) fn global_id(&self, event_id: EventId, ordinal: u32) -> GlobalCustomerId {
        let Key(bytes) = self.global_id.key(&[event_id.as_bytes(), &ordinal.to_be_bytes()]);
        GlobalCustomerId::new(*bytes.first_chunk::<16>().unwrap_or(&[0; 16]))
    }

    /// Keys what was resolved: the same request has the same content, whatever was decided.
    pub(crate) fn resolved(&self, observation: &Value) -> Key {
        self.content(&Self::observed(observation))
    }

    /// Encodes what was resolved beside an event that is empty yet.
    pub(crate) fn observed(observation: &Value) -> EncodedEvent {
        EncodedEvent::of(&json!({ "auditEvent": {}, OBSERVATION_MEMBER: observation }))
    }

    /// Keys a client's own customer id.
    pub fn customer(&self, id: &str) -> Key {
        self.customer.key(&[id.as_bytes()])
    }

    /// Keys an interaction's id.
    pub fn interaction(&self, id: &str) -> Key {
        self.interaction.key(&[id.as_bytes()])
    }

    /// Returns what tells the index of this vault and log from any other.
    pub(crate) fn binding(&self, origin: &str) -> Key {
        self.binding.key(&[origin.as_bytes()])
    }

    /// Keys an event's content.
    pub fn content(&self, encoded: &EncodedEvent) -> Key {
        let mut content = self.content.clone();
        let [public, staff] = encoded.content_parts();
        content.add(&[&public.0, public.1, &staff.0, staff.1]);
        content.finish()
    }

    /// Keys the id under which a repetition is recognised. `system` is the calling system's name, so that two systems
    /// may use the same ids.
    pub fn dedupe(&self, system: &str, id: &Dedupe<'_>, content: &Key) -> Key {
        let text = if id.kind == DedupeKind::CONTENT { content.0.as_slice() } else { id.id_bytes() };
        self.dedupe.key(&[system.as_bytes(), &[id.kind.code()], text])
    }

    /// Returns what derived state learns from an opened leaf. The staff section must be open if there is one, or the
    /// content's key differs from the live one.
    pub fn facts(&self, leaf: &OpenLeaf) -> Facts {
        let event = leaf.subject.map(|subject| {
            let content = match leaf.body.get(OBSERVATION_MEMBER) {
                Some(observation) if leaf.header.source == SourceCode::RESOLVE => self.resolved(observation),
                _ => self.content(&leaf.encoded),
            };
            EventFacts {
                subject,
                subject_sequence: leaf.subject_sequence,
                customer: leaf.resolved_customer_id().map(|id| self.customer(id)),
                interaction: leaf.interaction_id().map(|id| self.interaction(id)),
                dedupe: self.dedupe(&leaf.system, &leaf.dedupe, &content),
                content,
                content_is_id: leaf.dedupe.kind == DedupeKind::CONTENT,
            }
        });
        Facts { received_ms: leaf.received_ms, event, step: step(leaf) }
    }
}

/// The sealing code writes these items, so one that cannot be read is of a newer version, and no step for this one.
fn step(leaf: &OpenLeaf) -> Option<ShredStep> {
    let clear = leaf.header.clear.as_deref()?;
    match leaf.header.event_type {
        TypeCode::SHRED_INTENT => ShredIntentItem::decode(clear).ok().map(ShredStep::Intent),
        TypeCode::KEY_SHREDDED => KeyShreddedItem::decode(clear).ok().map(ShredStep::Done),
        _ => None,
    }
}
