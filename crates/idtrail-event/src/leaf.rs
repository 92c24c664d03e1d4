//! The leaf: an event sealed as one COSE_Encrypt0 object (RFC 9052) under a key of its own.
//!
//! In clear stand only small codes, an hour, a nonce and a commitment to the key; nothing that links two leaves. Members
//! about staff are a second object of the same form inside the first, under a second key, so that they can go alone.
//! `docs/spec/leaf.md` is the normative description; [`seal`] is the only writer, [`Leaf`] the only reader. Neither may
//! decide anything: nonces, keys and times are arguments, and whatever passed [`EncodedEvent::sealed_len_max`] seals.

mod open;
mod seal;

use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;
use core::fmt;

pub use open::{Leaf, OpenBody, OpenLeaf, StaffState};
pub use seal::seal;

use crate::ErrorKind;
use crate::cbor::{CborError, Writer};
use crate::code::{ChannelCode, SourceCode, TypeCode, codes};
use crate::event::{EncodedEvent, ValidEvent};
use crate::id::{EventId, GlobalCustomerId};
use crate::key::IV_BYTES;
use crate::retention::ClassId;
use crate::time;

/// The longest leaf: entries of a log have a 16-bit length (C2SP tlog-tiles).
pub const LEAF_BYTES_MAX: usize = 65_535;

pub(crate) const VERSION: u8 = 1;
/// COSE: the algorithm's label, and A256GCM (RFC 9053 §4.1).
const LABEL_ALG: i64 = 1;
const ALG_A256GCM: i64 = 3;
/// COSE: the nonce's label.
const LABEL_IV: i64 = 5;
/// From the range for private use: what the leaf says in clear.
const LABEL_PRIVATE: i64 = -65537;
const TAG_BYTES: usize = 16;
/// Contents are filled with zero bytes to a multiple of this, so that lengths say less.
const PAD_BYTES: usize = 32;

/// Why a leaf could not be made, read or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// The bytes are not a leaf of this format.
    #[error("not a leaf of this format: {0}")]
    Malformed(&'static str),
    /// The leaf is of a version that this program does not know.
    #[error("the leaf has an unknown version. version={0}")]
    Version(u64),
    /// The key is not the one that the leaf commits to.
    #[error("the key is not the one that the leaf commits to")]
    WrongKey,
    /// The key is right but the sealed content was changed.
    #[error("the sealed content was changed")]
    Altered,
    /// The leaf is or would be longer than 65,535 bytes.
    #[error("the leaf is too long. bytes={0}")]
    TooLong(usize),
}

impl LeafError {
    /// Returns what the caller must do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            LeafError::Malformed(_) | LeafError::Altered => ErrorKind::Damaged,
            LeafError::WrongKey => ErrorKind::Denied,
            LeafError::Version(_) | LeafError::TooLong(_) => ErrorKind::Invalid,
        }
    }
}

impl From<CborError> for LeafError {
    fn from(_: CborError) -> Self {
        LeafError::Malformed("it is not the deterministic CBOR that the format demands")
    }
}

/// What stands in clear in a leaf, besides nonce and key commitment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafHeader {
    /// Type of the event.
    pub event_type: TypeCode,
    /// Hour of the receipt, UTC, since 1970.
    pub hour: u32,
    /// Kind of entry point.
    pub source: SourceCode,
    /// Channel.
    pub channel: ChannelCode,
    /// Retention class.
    pub class: ClassId,
    /// One item in clear, as deterministic CBOR; see [`crate::clear`].
    pub clear: Option<Vec<u8>>,
}

impl LeafHeader {
    /// Returns the header of an event that came through `source` at `received_ms` (milliseconds since 1970).
    pub fn of(event: &ValidEvent, source: SourceCode, received_ms: u64) -> Self {
        Self {
            event_type: event.event_type(),
            hour: time::hour_of_ms(received_ms),
            source,
            channel: event.channel(),
            class: event.class(),
            clear: None,
        }
    }

    /// Returns the month of the receipt since 1970-01: with the class, the place in tree P.
    pub fn month(&self) -> u16 {
        time::month_of_hour(self.hour)
    }
}

/// Shows the header in one line; codes that this program does not know are shown as numbers.
impl fmt::Display for LeafHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hour = time::format((i64::from(self.hour) * 3600, None));
        let hour =
            hour.as_deref().and_then(|text| text.get(..13)).map_or(format!("hour {}", self.hour), Into::into);
        let Self { event_type, source, channel, class, .. } = self;
        write!(f, "{event_type} {hour}Z source={source} channel={channel} class={class}")?;
        match &self.clear {
            Some(clear) => write!(f, " clear={} bytes", clear.len()),
            None => Ok(()),
        }
    }
}

codes! {
    /// What a repeated event is recognised by.
    DedupeKind(u8) {
        /// The content itself; no id was given.
        CONTENT = 0, "content";
        /// The Idempotency-Key header.
        IDEMPOTENCY_KEY = 1, "idempotency-key";
        /// Source and id of a CloudEvent.
        CLOUD_EVENT = 2, "cloudevents";
        /// The id of an EventBridge event.
        EVENT_BRIDGE = 3, "eventbridge";
        /// An id that this system chose for an event of its own.
        SYSTEM = 4, "system";
    }
}

/// The id by which a repeated event is recognised, as given.
#[derive(Clone, PartialEq, Eq)]
pub enum DedupeValue<'a> {
    /// None was given.
    Absent,
    /// A text.
    Text(Cow<'a, str>),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
}

/// What a repeated event is recognised by: the kind of the id, and the id.
#[derive(Clone, PartialEq, Eq)]
pub struct Dedupe<'a> {
    /// What the id is.
    pub kind: DedupeKind,
    /// The id.
    pub id: DedupeValue<'a>,
}

impl<'a> Dedupe<'a> {
    /// The content itself, because no id was given.
    pub const CONTENT: Self = Self { kind: DedupeKind::CONTENT, id: DedupeValue::Absent };

    /// An id that is a text.
    pub fn text(kind: DedupeKind, id: &'a str) -> Self {
        Self { kind, id: DedupeValue::Text(Cow::Borrowed(id)) }
    }

    /// An id that is bytes.
    pub fn bytes(kind: DedupeKind, id: &'a [u8]) -> Self {
        Self { kind, id: DedupeValue::Bytes(Cow::Borrowed(id)) }
    }

    /// A CloudEvent's source and id: `<bytes of source>:<source><id>`, so that no two pairs look the same.
    pub fn cloud_event(source: &str, id: &str) -> Self {
        let text = format!("{}:{source}{id}", source.len());
        Self { kind: DedupeKind::CLOUD_EVENT, id: DedupeValue::Text(Cow::Owned(text)) }
    }

    /// Returns the same with an id of its own, which needs nothing that was borrowed.
    pub fn into_owned(self) -> Dedupe<'static> {
        let id = match self.id {
            DedupeValue::Absent => DedupeValue::Absent,
            DedupeValue::Text(id) => DedupeValue::Text(Cow::Owned(id.into_owned())),
            DedupeValue::Bytes(id) => DedupeValue::Bytes(Cow::Owned(id.into_owned())),
        };
        Dedupe { kind: self.kind, id }
    }

    /// Returns the bytes of the id; none if there is no id.
    pub fn id_bytes(&self) -> &[u8] {
        match &self.id {
            DedupeValue::Absent => &[],
            DedupeValue::Text(id) => id.as_bytes(),
            DedupeValue::Bytes(id) => id,
        }
    }
}

impl fmt::Debug for Dedupe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dedupe").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What the sequencer and the entry point know about an event, sealed with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Decided<'a> {
    /// Receipt time, milliseconds since 1970.
    pub received_ms: u64,
    /// The customer; `None` in the log's own leaves.
    pub subject: Option<GlobalCustomerId>,
    /// The event's id.
    pub event_id: EventId,
    /// Name of the calling system.
    pub system: &'a str,
    /// The person acting, if there was one.
    pub actor: Option<&'a str>,
    /// By what a repetition is recognised.
    pub dedupe: Dedupe<'a>,
    /// How many events of this customer came before this one in the same log.
    pub subject_sequence: u64,
    /// Index of this customer's previous event in the same log.
    pub previous_index: Option<u64>,
}

impl fmt::Debug for Decided<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decided").field("received_ms", &self.received_ms).finish_non_exhaustive()
    }
}

/// Everything that goes into one leaf.
#[derive(Clone, Debug)]
pub struct SealRequest<'a> {
    /// What stands in clear.
    pub header: LeafHeader,
    /// The event.
    pub encoded: &'a EncodedEvent,
    /// What was decided about it.
    pub decided: Decided<'a>,
}

impl EncodedEvent {
    /// Returns an upper bound of the leaf's length without a clear item, whatever will be decided: for the name of the
    /// calling system, and the lengths in bytes of dedupe id and actor. Only if it is at most [`LEAF_BYTES_MAX`] may
    /// the event reach the sequencer.
    pub fn sealed_len_max(&self, system: &str, dedupe_id_len: usize, actor_len: usize) -> usize {
        const HEAD: usize = 3;
        // Array, protected header with nonce and commitment, empty map, head of the ciphertext.
        const STAFF_FRAME: usize = 1 + 2 + 58 + 1 + HEAD;
        const FRAME: usize = 1 + 2 + 72 + 1 + HEAD;
        // Map head, key and value: receipt time, subject, event id, sequence, previous index; the dedupe array.
        const FIXED: usize = 1 + 10 + 18 + 18 + 10 + 10 + 4;
        let texts =
            [system.len(), dedupe_id_len, actor_len].iter().map(|length| 1 + HEAD + length).sum::<usize>();
        let staff = self
            .staff()
            .map_or(0, |staff| 1 + HEAD + STAFF_FRAME + staff.len().next_multiple_of(PAD_BYTES) + TAG_BYTES);
        let content = FIXED + self.public().len() + texts + staff;
        FRAME + content.next_multiple_of(PAD_BYTES) + TAG_BYTES
    }
}

/// Returns the authenticated data of COSE_Encrypt0 (RFC 9052 §5.3) without external data.
fn enc_structure(protected: &[u8]) -> Vec<u8> {
    let mut out = Writer::with_capacity(protected.len() + 16);
    out.array(3);
    out.text("Encrypt0");
    out.bytes(protected);
    out.bytes(&[]);
    out.into_vec()
}

fn cipher(key: &crate::key::LeafKey) -> aes_gcm::Aes256Gcm {
    use aes_gcm::KeyInit;
    aes_gcm::Aes256Gcm::new(&aes_gcm::Key::<aes_gcm::Aes256Gcm>::from(*key.expose()))
}

fn nonce(iv: &[u8; IV_BYTES]) -> aes_gcm::Nonce<aes_gcm::aead::consts::U12> {
    aes_gcm::Nonce::from(*iv)
}
