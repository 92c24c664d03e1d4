//! The leaf: an event sealed as one COSE_Encrypt0 object (RFC 9052) under a key of its own.
//!
//! In clear stand only small codes, an hour, a nonce and a commitment to the key; nothing that links two leaves. The
//! key is derived from two secrets that can be destroyed: one of the leaf's place in the log, one of its retention
//! class and month. The commitment makes it impossible to open a leaf to two stories under two keys, which AES-GCM
//! alone does not prevent; it is always checked before anything is decrypted.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use hkdf::Hkdf;
use minicbor::Decoder;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::cbor::{self, CborError, Registry};
use crate::code::{Channel, EventType, Source};
use crate::event::EncodedEvent;
use crate::id::{EventId, GlobalCustomerId};
use crate::retention::ClassId;

/// The longest leaf (C2SP tlog-tiles).
pub const LEAF_BYTES_MAX: usize = 65_535;

const VERSION: u8 = 1;
const ALG_A256GCM: i64 = 3;
const LABEL_ALG: i64 = 1;
const LABEL_IV: i64 = 5;
const LABEL_PRIVATE: i64 = -65537;
const IV_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const PAD_BYTES: usize = 32;

/// Why a leaf could not be made, read or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// The bytes are not a leaf of this format.
    #[error("not a leaf: {0}")]
    Malformed(&'static str),
    /// The leaf is of a version that this program does not know.
    #[error("the leaf has an unknown version. version={0}")]
    Version(u64),
    /// The key is not the one that the leaf commits to.
    #[error("the key is not the key of this leaf")]
    WrongKey,
    /// The key is right but the sealed content was changed.
    #[error("the sealed content of the leaf was changed")]
    Altered,
    /// The leaf would be longer than 65,535 bytes.
    #[error("the leaf would be too long. bytes={0}")]
    TooLong(usize),
}

impl From<CborError> for LeafError {
    fn from(_: CborError) -> Self {
        LeafError::Malformed("its content is not the deterministic CBOR of an event")
    }
}

impl From<minicbor::decode::Error> for LeafError {
    fn from(_: minicbor::decode::Error) -> Self {
        LeafError::Malformed("it is not the CBOR of a leaf")
    }
}

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 bytes.
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Returns the 32 bytes, to be handed on to whoever may open the leaf.
            pub const fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

secret! {
    /// The secret of one section of one place in a log; destroyed when that leaf is erased.
    IndexSecret
}
secret! {
    /// The secret of one retention class in one month; destroyed when that month expires.
    ClassSecret
}
secret! {
    /// The key of one section of one leaf: the unit of disclosure.
    LeafKey
}

/// Derives the key of a section: `HKDF-SHA-256(ikm = index secret ‖ class secret, salt = IV, info = "idtrail/leaf/v1" ‖
/// origin)`, 32 bytes.
pub fn leaf_key(index: &IndexSecret, class: &ClassSecret, iv: &[u8; IV_BYTES], origin: &str) -> LeafKey {
    let mut ikm = Zeroizing::new([0; 64]);
    let (left, right) = ikm.split_at_mut(32);
    left.copy_from_slice(&index.0);
    right.copy_from_slice(&class.0);
    let mut key = LeafKey([0; 32]);
    Hkdf::<Sha256>::new(Some(iv), ikm.as_slice())
        .expand_multi_info(&[b"idtrail/leaf/v1", origin.as_bytes()], &mut key.0)
        .expect("32 bytes are within what HKDF can give");
    key
}

/// Returns the commitment to a key: `SHA-256("idtrail/kc/v1" ‖ key ‖ IV)`.
pub fn key_commitment(key: &LeafKey, iv: &[u8; IV_BYTES]) -> [u8; 32] {
    Sha256::new_with_prefix(b"idtrail/kc/v1").chain_update(key.0).chain_update(iv).finalize().into()
}

/// What stands in clear in a leaf, besides nonce and key commitment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafHeader {
    /// Type of the event.
    pub event_type: EventType,
    /// Hour of the receipt, UTC, since 1970.
    pub hour: u32,
    /// Kind of entry point.
    pub source: Source,
    /// Channel.
    pub channel: Channel,
    /// Retention class.
    pub class: ClassId,
    /// An item in clear, as CBOR; see [`crate::clear`].
    pub clear: Option<Vec<u8>>,
}

impl LeafHeader {
    /// Returns the month of the receipt since 1970-01.
    pub fn month(&self) -> u16 {
        month_of_hour(self.hour)
    }
}

/// Returns the month since 1970-01 of an hour since 1970, UTC.
pub fn month_of_hour(hour: u32) -> u16 {
    let time = jiff::Timestamp::from_second(i64::from(hour) * 3600).unwrap_or(jiff::Timestamp::MAX);
    let date = jiff::tz::Offset::UTC.to_datetime(time).date();
    let months = (i32::from(date.year()) - 1970) * 12 + i32::from(date.month()) - 1;
    u16::try_from(months).unwrap_or(u16::MAX)
}

/// The id under which a repeated event is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DedupeId {
    /// None was given: the content itself.
    Content,
    /// The Idempotency-Key header.
    IdempotencyKey(String),
    /// Source and id of a CloudEvent.
    CloudEvent(String),
    /// The id of an EventBridge event.
    EventBridge(String),
}

impl DedupeId {
    /// Returns the number of the kind.
    pub fn kind(&self) -> u8 {
        match self {
            DedupeId::Content => 0,
            DedupeId::IdempotencyKey(_) => 1,
            DedupeId::CloudEvent(_) => 2,
            DedupeId::EventBridge(_) => 3,
        }
    }

    /// Returns the id as given, if one was.
    pub fn text(&self) -> Option<&str> {
        match self {
            DedupeId::Content => None,
            DedupeId::IdempotencyKey(id) | DedupeId::CloudEvent(id) | DedupeId::EventBridge(id) => Some(id),
        }
    }

    fn new(kind: u8, text: Option<&str>) -> Option<Self> {
        Some(match (kind, text) {
            (0, None) => DedupeId::Content,
            (1, Some(id)) => DedupeId::IdempotencyKey(id.to_owned()),
            (2, Some(id)) => DedupeId::CloudEvent(id.to_owned()),
            (3, Some(id)) => DedupeId::EventBridge(id.to_owned()),
            _ => return None,
        })
    }
}

/// What the sequencer and the entry point know about an event, sealed with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Decided {
    /// Receipt time, milliseconds since 1970.
    pub received_ms: u64,
    /// The customer; `None` in the log's own leaves.
    pub subject: Option<GlobalCustomerId>,
    /// The event's id.
    pub event_id: EventId,
    /// Name of the calling system.
    pub system: String,
    /// The person acting, if there was one.
    pub actor: Option<String>,
    /// The id under which a repetition is recognised.
    pub dedupe: DedupeId,
    /// How many events of this customer came before this one.
    pub subject_sequence: u64,
    /// Index of this customer's previous event in the same log.
    pub previous_index: Option<u64>,
}

impl fmt::Debug for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decided").field("received_ms", &self.received_ms).finish_non_exhaustive()
    }
}

/// Everything that goes into one leaf.
#[derive(Debug)]
pub struct SealRequest<'a> {
    /// What stands in clear.
    pub header: &'a LeafHeader,
    /// The event.
    pub encoded: &'a EncodedEvent,
    /// What was decided about it.
    pub decided: &'a Decided,
}

/// The secrets from which a leaf's keys are derived.
#[derive(Debug)]
pub struct SectionSecrets<'a> {
    /// Of the event's section (0).
    pub event: &'a IndexSecret,
    /// Of the staff section (1).
    pub staff: &'a IndexSecret,
    /// Of the class and month.
    pub class: &'a ClassSecret,
}

impl SealRequest<'_> {
    /// Returns an upper bound of the leaf's length, whatever will be decided.
    pub fn bytes_max(encoded: &EncodedEvent, texts: usize, clear: usize) -> usize {
        // Heads, codes, ids and commitments of both sections take less than 400 bytes.
        encoded.bytes() + texts + clear + PAD_BYTES + 400
    }
}

/// Seals an event. `ivs` are two fresh random nonces, for the event and the staff section.
///
/// # Errors
/// `TooLong` if the leaf would be longer than 65,535 bytes.
pub fn seal(
    request: &SealRequest<'_>,
    secrets: &SectionSecrets<'_>,
    ivs: &[[u8; IV_BYTES]; 2],
    origin: &str,
) -> Result<Vec<u8>, LeafError> {
    let [event_iv, staff_iv] = ivs;
    let staff = request.encoded.staff.as_ref().map(|content| {
        let key = leaf_key(secrets.staff, secrets.class, staff_iv, origin);
        let protected = protected(staff_iv, |out| {
            out.array(2)?.u8(VERSION)?.bytes(&key_commitment(&key, staff_iv))?.ok()
        });
        encrypt(&key, staff_iv, &protected, content.clone())
    });
    let mut plaintext = plaintext(request.encoded, request.decided, staff.as_deref());
    plaintext.resize(plaintext.len().next_multiple_of(PAD_BYTES), 0);
    let key = leaf_key(secrets.event, secrets.class, event_iv, origin);
    let header = request.header;
    let protected = protected(event_iv, |out| {
        out.array(7 + u64::from(header.clear.is_some()))?
            .u8(VERSION)?
            .u16(header.event_type.code())?
            .u32(header.hour)?
            .u8(header.source.code())?
            .u8(header.channel.code())?
            .u8(header.class.number())?
            .bytes(&key_commitment(&key, event_iv))?;
        if let Some(clear) = &header.clear {
            out.writer_mut().extend_from_slice(clear);
        }
        Ok(())
    });
    let leaf = encrypt(&key, event_iv, &protected, plaintext);
    if leaf.len() > LEAF_BYTES_MAX { Err(LeafError::TooLong(leaf.len())) } else { Ok(leaf) }
}

fn protected(
    iv: &[u8; IV_BYTES],
    private: impl FnOnce(&mut cbor::Out) -> Result<(), minicbor::encode::Error<core::convert::Infallible>>,
) -> Vec<u8> {
    cbor::write(96, |out| {
        out.map(3)?.i64(LABEL_ALG)?.i64(ALG_A256GCM)?.i64(LABEL_IV)?.bytes(iv)?.i64(LABEL_PRIVATE)?;
        private(out)
    })
}

/// Returns the authenticated data of COSE_Encrypt0 (RFC 9052 §5.3) without external data.
fn enc_structure(protected: &[u8]) -> Vec<u8> {
    cbor::write(protected.len() + 16, |out| out.array(3)?.str("Encrypt0")?.bytes(protected)?.bytes(&[])?.ok())
}

fn encrypt(key: &LeafKey, iv: &[u8; IV_BYTES], protected: &[u8], mut content: Vec<u8>) -> Vec<u8> {
    let aad = enc_structure(protected);
    cipher(key)
        .encrypt_in_place(&Nonce::from(*iv), &aad, &mut content)
        .expect("a leaf is far shorter than GCM's limit");
    cbor::write(protected.len() + content.len() + 8, |out| {
        out.array(3)?.bytes(protected)?.map(0)?.bytes(&content)?.ok()
    })
}

fn cipher(key: &LeafKey) -> Aes256Gcm {
    Aes256Gcm::new(&Key::<Aes256Gcm>::from(key.0))
}

fn plaintext(encoded: &EncodedEvent, decided: &Decided, staff: Option<&[u8]>) -> Vec<u8> {
    let present = [
        encoded.outer.is_some(),
        decided.subject.is_some(),
        staff.is_some(),
        decided.previous_index.is_some(),
        decided.actor.is_some(),
    ];
    let members = 6 + present.iter().filter(|present| **present).count() as u64;
    let capacity = encoded.bytes() + staff.map_or(0, <[u8]>::len) + decided.system.len() + 160;
    cbor::write(capacity, |out| {
        out.map(members)?.u8(0)?;
        out.writer_mut().extend_from_slice(&encoded.event);
        if let Some(outer) = &encoded.outer {
            out.u8(1)?;
            out.writer_mut().extend_from_slice(outer);
        }
        out.u8(2)?.u64(decided.received_ms)?;
        if let Some(subject) = decided.subject {
            out.u8(3)?.bytes(subject.as_bytes())?;
        }
        out.u8(4)?.bytes(decided.event_id.as_bytes())?.u8(5)?.str(&decided.system)?.u8(6)?;
        match decided.dedupe.text() {
            None => out.array(1)?.u8(decided.dedupe.kind())?,
            Some(id) => out.array(2)?.u8(decided.dedupe.kind())?.str(id)?,
        };
        if let Some(staff) = staff {
            out.u8(7)?.bytes(staff)?;
        }
        out.u8(8)?.u64(decided.subject_sequence)?;
        if let Some(previous) = decided.previous_index {
            out.u8(9)?.u64(previous)?;
        }
        if let Some(actor) = &decided.actor {
            out.u8(10)?.str(actor)?;
        }
        Ok(())
    })
}

/// One COSE_Encrypt0 object, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sealed<'a> {
    protected: &'a [u8],
    iv: [u8; IV_BYTES],
    ciphertext: &'a [u8],
    /// Where the private label's value starts in `protected`.
    private_at: usize,
}

impl<'a> Sealed<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, LeafError> {
        if !cbor::is_deterministic(bytes) {
            return Err(LeafError::Malformed("it is not one item of deterministic CBOR"));
        }
        let mut input = Decoder::new(bytes);
        if input.array()? != Some(3) {
            return Err(LeafError::Malformed("it is not a COSE_Encrypt0 object"));
        }
        let protected = input.bytes()?;
        if input.map()? != Some(0) {
            return Err(LeafError::Malformed("its unprotected header is not empty"));
        }
        let ciphertext = input.bytes()?;
        if ciphertext.len() < TAG_BYTES {
            return Err(LeafError::Malformed("its ciphertext is too short"));
        }
        if !cbor::is_deterministic(protected) {
            return Err(LeafError::Malformed("its header is not deterministic CBOR"));
        }
        let mut header = Decoder::new(protected);
        let fixed = header.map()? == Some(3)
            && header.i64()? == LABEL_ALG
            && header.i64()? == ALG_A256GCM
            && header.i64()? == LABEL_IV;
        if !fixed {
            return Err(LeafError::Malformed("its header names another algorithm or other labels"));
        }
        let iv =
            header.bytes()?.try_into().map_err(|_| LeafError::Malformed("its nonce has another length"))?;
        if header.i64()? != LABEL_PRIVATE {
            return Err(LeafError::Malformed("its header names another algorithm or other labels"));
        }
        Ok(Self { protected, iv, ciphertext, private_at: header.position() })
    }

    fn private(&self) -> Decoder<'a> {
        let mut decoder = Decoder::new(self.protected);
        decoder.set_position(self.private_at);
        decoder
    }

    fn decrypt(&self, key: &LeafKey, commitment: &[u8; 32]) -> Result<Vec<u8>, LeafError> {
        // Before decrypting: a key that is not committed to must not get as far as the cipher.
        if !bool::from(key_commitment(key, &self.iv).ct_eq(commitment)) {
            return Err(LeafError::WrongKey);
        }
        let mut content = self.ciphertext.to_vec();
        cipher(key)
            .decrypt_in_place(&Nonce::from(self.iv), &enc_structure(self.protected), &mut content)
            .map_err(|_| LeafError::Altered)?;
        Ok(content)
    }
}

/// A leaf, read but not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf<'a> {
    sealed: Sealed<'a>,
    header: LeafHeader,
    commitment: [u8; 32],
}

impl<'a> Leaf<'a> {
    /// Reads a leaf and checks that it is in the one form that the format allows.
    ///
    /// # Errors
    /// `Malformed`, `TooLong`, or `Version` if a newer program wrote it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LeafError> {
        if bytes.len() > LEAF_BYTES_MAX {
            return Err(LeafError::TooLong(bytes.len()));
        }
        let sealed = Sealed::parse(bytes)?;
        let mut input = sealed.private();
        let members = input.array()?;
        let version = input.u64()?;
        if version != u64::from(VERSION) {
            return Err(LeafError::Version(version));
        }
        if !matches!(members, Some(7 | 8)) {
            return Err(LeafError::Malformed("its header has too few or too many items"));
        }
        let event_type = EventType::new(input.u16()?);
        let hour = input.u32()?;
        let source = Source::new(input.u8()?);
        let channel = Channel::new(input.u8()?);
        let class = ClassId::new(input.u8()?);
        let commitment = read_commitment(&mut input)?;
        let clear =
            sealed.protected.get(input.position()..).filter(|_| members == Some(8)).map(<[u8]>::to_vec);
        let header = LeafHeader { event_type, hour, source, channel, class, clear };
        Ok(Self { sealed, header, commitment })
    }

    /// Returns what stands in clear.
    pub fn header(&self) -> &LeafHeader {
        &self.header
    }

    /// Returns the nonce of the event's section.
    pub fn iv(&self) -> &[u8; IV_BYTES] {
        &self.sealed.iv
    }

    /// Opens the event's section with its key.
    ///
    /// # Errors
    /// `WrongKey` if the leaf commits to another key; `Altered` or `Malformed` if the content is not what was sealed.
    pub fn open(&self, key: &LeafKey) -> Result<OpenLeaf, LeafError> {
        let content = self.sealed.decrypt(key, &self.commitment)?;
        OpenLeaf::read(self.header.clone(), &content)
    }
}

fn read_commitment(input: &mut Decoder<'_>) -> Result<[u8; 32], LeafError> {
    input.bytes()?.try_into().map_err(|_| LeafError::Malformed("its key commitment has another length"))
}

/// The staff section of an opened leaf.
#[derive(Clone, PartialEq, Eq)]
pub enum StaffSection {
    /// The event names no staff.
    Absent,
    /// It does, sealed; its key was not given, or was destroyed.
    Closed(Vec<u8>),
    /// It does, and was opened and put back into the event.
    Open,
}

/// An opened leaf.
#[derive(Clone)]
pub struct OpenLeaf {
    /// What stands in clear.
    pub header: LeafHeader,
    /// What was decided about the event.
    pub decided: Decided,
    body: Value,
    encoded: EncodedEvent,
    staff: StaffSection,
}

impl fmt::Debug for OpenLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenLeaf").field("header", &self.header).finish_non_exhaustive()
    }
}

impl OpenLeaf {
    fn read(header: LeafHeader, content: &[u8]) -> Result<Self, LeafError> {
        let malformed = LeafError::Malformed("its content is not in the one form that the format allows");
        let padding = cbor::deterministic_item(content, 0).ok_or(malformed)?;
        if padding.len() >= PAD_BYTES
            || padding.iter().any(|byte| *byte != 0)
            || !content.len().is_multiple_of(PAD_BYTES)
        {
            return Err(malformed);
        }
        let item = content.get(..content.len() - padding.len()).ok_or(malformed)?;
        let mut input = Decoder::new(item);
        let mut read = Content::default();
        for _ in 0..input.map()?.ok_or(malformed)? {
            read.member(&mut input)?;
        }
        let (decided, event, outer, staff) = read.finish().ok_or(malformed)?;
        let mut body = outer.unwrap_or_default();
        body.insert("auditEvent".to_owned(), Value::Object(event));
        let body = Value::Object(body);
        let encoded = EncodedEvent::of(&body);
        // One content has one encoding; anything else was not written by this format.
        if plaintext(&encoded, &decided, staff.as_deref()) != item {
            return Err(malformed);
        }
        let staff = staff.map_or(StaffSection::Absent, StaffSection::Closed);
        Ok(Self { header, decided, body, encoded, staff })
    }

    /// Returns the event as it was received: `auditEvent` and what stood beside it. Members about staff are there only
    /// after [`OpenLeaf::open_staff`].
    pub fn body(&self) -> &Value {
        &self.body
    }

    /// Returns the event's parts as they were sealed; complete unless the staff section is closed.
    pub fn encoded(&self) -> &EncodedEvent {
        &self.encoded
    }

    /// Returns the state of the staff section.
    pub fn staff(&self) -> &StaffSection {
        &self.staff
    }

    /// Returns the client's own customer id, if there is one.
    pub fn resolved_customer_id(&self) -> Option<&str> {
        crate::event::member(&self.body, "resolvedCustomerId")
    }

    /// Returns the interaction's id, if there is one.
    pub fn interaction_id(&self) -> Option<&str> {
        crate::event::member(&self.body, "interactionId")
    }

    /// Returns the nonce of a closed staff section, from which its key is derived.
    ///
    /// # Errors
    /// `Malformed` if the section is not what the format says.
    pub fn staff_iv(&self) -> Result<Option<[u8; IV_BYTES]>, LeafError> {
        match &self.staff {
            StaffSection::Closed(section) => Ok(Some(Sealed::parse(section)?.iv)),
            StaffSection::Absent | StaffSection::Open => Ok(None),
        }
    }

    /// Opens a closed staff section and puts its members back into the event; nothing to do otherwise.
    ///
    /// # Errors
    /// `WrongKey` if the section commits to another key; `Altered` or `Malformed` if it is not what was sealed.
    pub fn open_staff(&mut self, key: &LeafKey) -> Result<(), LeafError> {
        let StaffSection::Closed(section) = &self.staff else { return Ok(()) };
        let sealed = Sealed::parse(section)?;
        let mut input = sealed.private();
        if input.array()? != Some(2) || input.u64()? != u64::from(VERSION) {
            return Err(LeafError::Malformed("its staff section has another version or form"));
        }
        let commitment = read_commitment(&mut input)?;
        let content = sealed.decrypt(key, &commitment)?;
        if !cbor::is_deterministic(&content) {
            return Err(LeafError::Malformed("its staff section is not deterministic CBOR"));
        }
        let members = cbor::decode_object(&mut Decoder::new(&content), Registry::Event)?;
        if let Some(event) = self.body.get_mut("auditEvent").and_then(Value::as_object_mut) {
            event.extend(members);
        }
        let encoded = EncodedEvent::of(&self.body);
        if encoded.staff.as_ref() != Some(&content) {
            return Err(LeafError::Malformed(
                "its staff section is not in the one form that the format allows",
            ));
        }
        self.encoded = encoded;
        self.staff = StaffSection::Open;
        Ok(())
    }
}

#[derive(Default)]
struct Content {
    event: Option<Map<String, Value>>,
    outer: Option<Map<String, Value>>,
    received_ms: Option<u64>,
    subject: Option<GlobalCustomerId>,
    event_id: Option<EventId>,
    system: Option<String>,
    actor: Option<String>,
    dedupe: Option<DedupeId>,
    staff: Option<Vec<u8>>,
    subject_sequence: Option<u64>,
    previous_index: Option<u64>,
}

type ContentParts = (Decided, Map<String, Value>, Option<Map<String, Value>>, Option<Vec<u8>>);

impl Content {
    fn member(&mut self, input: &mut Decoder<'_>) -> Result<(), LeafError> {
        let id = |bytes: &[u8]| {
            <[u8; 16]>::try_from(bytes).map_err(|_| LeafError::Malformed("an id has another length"))
        };
        match input.u8()? {
            0 => self.event = Some(cbor::decode_object(input, Registry::Event)?),
            1 => self.outer = Some(cbor::decode_object(input, Registry::None)?),
            2 => self.received_ms = Some(input.u64()?),
            3 => self.subject = Some(GlobalCustomerId::new(id(input.bytes()?)?)),
            4 => self.event_id = Some(EventId::new(id(input.bytes()?)?)),
            5 => self.system = Some(input.str()?.to_owned()),
            6 => {
                let members = input.array()?;
                let kind = input.u8()?;
                let text = if members == Some(2) { Some(input.str()?) } else { None };
                self.dedupe = DedupeId::new(kind, text);
            }
            7 => self.staff = Some(input.bytes()?.to_vec()),
            8 => self.subject_sequence = Some(input.u64()?),
            9 => self.previous_index = Some(input.u64()?),
            10 => self.actor = Some(input.str()?.to_owned()),
            _ => return Err(LeafError::Malformed("its content has a member that the format does not know")),
        }
        Ok(())
    }

    fn finish(self) -> Option<ContentParts> {
        let decided = Decided {
            received_ms: self.received_ms?,
            subject: self.subject,
            event_id: self.event_id?,
            system: self.system?,
            actor: self.actor,
            dedupe: self.dedupe?,
            subject_sequence: self.subject_sequence?,
            previous_index: self.previous_index,
        };
        Some((decided, self.event?, self.outer, self.staff))
    }
}
