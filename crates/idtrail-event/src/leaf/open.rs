//! Reads and opens leaves. Strict: what [`super::seal`] does not write is refused, and a key that the leaf does not
//! commit to never reaches the cipher.

mod body;

use alloc::borrow::{Cow, ToOwned};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use aes_gcm::aead::AeadInOut;
pub use body::OpenBody;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

use super::{
    ALG_A256GCM, Decided, Dedupe, DedupeKind, DedupeValue, LABEL_ALG, LABEL_IV, LABEL_PRIVATE,
    LEAF_BYTES_MAX, LeafError, LeafHeader, PAD_BYTES, TAG_BYTES, VERSION, cipher, enc_structure, nonce,
};
use crate::cbor::{CborError, Kind, Reader};
use crate::code::{ChannelCode, SourceCode, TypeCode};
use crate::event::{EVENT_MEMBER, EncodedEvent, KEY_EVENT, KEY_OUTER, is_staff, member};
use crate::id::{EventId, GlobalCustomerId};
use crate::key::{ClassSecret, IV_BYTES, IndexSecret, LeafKey, key_commitment, leaf_key};
use crate::retention::ClassId;
use crate::value::{self, Registry};

/// One COSE_Encrypt0 object, taken apart.
#[derive(Clone, Copy)]
struct Sealed<'a> {
    protected: &'a [u8],
    iv: [u8; IV_BYTES],
    ciphertext: &'a [u8],
    /// Behind the private label.
    private: Reader<'a>,
}

impl<'a> Sealed<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, LeafError> {
        if bytes.len() > LEAF_BYTES_MAX {
            return Err(LeafError::TooLong(bytes.len()));
        }
        let mut input = Reader::new(bytes);
        if input.array()? != 3 {
            return Err(LeafError::Malformed("it is not a COSE_Encrypt0 object"));
        }
        let protected = input.bytes()?;
        if input.map()? != 0 {
            return Err(LeafError::Malformed("its unprotected header is not empty"));
        }
        let ciphertext = input.bytes()?;
        input.finish()?;
        if ciphertext.len() % PAD_BYTES != TAG_BYTES || ciphertext.len() <= TAG_BYTES {
            return Err(LeafError::Malformed("its ciphertext has a length that no content has"));
        }
        let mut private = Reader::new(protected);
        let labels = private.map()? == 3
            && private.int()? == i128::from(LABEL_ALG)
            && private.int()? == i128::from(ALG_A256GCM)
            && private.int()? == i128::from(LABEL_IV);
        let iv = private.byte_array()?;
        if !labels || private.int()? != i128::from(LABEL_PRIVATE) {
            return Err(LeafError::Malformed("its header names another algorithm or other labels"));
        }
        Ok(Self { protected, iv, ciphertext, private })
    }

    /// Decrypts the content, with the zero bytes that fill it up. Checks the commitment first.
    fn decrypt(&self, key: &LeafKey, commitment: &[u8; 32]) -> Result<Vec<u8>, LeafError> {
        if !bool::from(key_commitment(key, &self.iv).ct_eq(commitment)) {
            return Err(LeafError::WrongKey);
        }
        let content = self.ciphertext.len().checked_sub(TAG_BYTES).map(|end| self.ciphertext.split_at(end));
        let (content, tag) = content.ok_or(CborError)?;
        let tag = tag.try_into().map_err(|_| CborError)?;
        let mut content = content.to_vec();
        cipher(key)
            .decrypt_inout_detached(
                &nonce(&self.iv),
                &enc_structure(self.protected),
                content.as_mut_slice().into(),
                &tag,
            )
            .map_err(|_| LeafError::Altered)?;
        Ok(content)
    }
}

/// Decrypts a staff section.
fn staff_content(key: &LeafKey, section: &[u8]) -> Result<Vec<u8>, LeafError> {
    let sealed = Sealed::parse(section)?;
    let mut input = sealed.private;
    if input.array()? != 2 || input.uint()? != u64::from(VERSION) {
        return Err(LeafError::Malformed("its staff section has another version or form"));
    }
    let commitment = input.byte_array()?;
    input.finish()?;
    sealed.decrypt(key, &commitment)
}

/// Checks that only the zero bytes that fill up a content are left.
fn end_of_content(input: &Reader<'_>) -> Result<(), CborError> {
    let padding = input.rest();
    if padding.len() < PAD_BYTES && padding.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(CborError) }
}

/// A leaf, read but not opened.
#[derive(Clone)]
pub struct Leaf<'a> {
    sealed: Sealed<'a>,
    header: LeafHeader,
    commitment: [u8; 32],
}

impl fmt::Debug for Leaf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf").field("header", &self.header).finish_non_exhaustive()
    }
}

impl<'a> Leaf<'a> {
    /// Reads a leaf and checks that it is in the one form that the format allows.
    ///
    /// # Errors
    /// `Malformed`, `TooLong`, or `Version` if a newer program wrote it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LeafError> {
        let sealed = Sealed::parse(bytes)?;
        let mut input = sealed.private;
        let items = input.array()?;
        let version = input.uint()?;
        if version != u64::from(VERSION) {
            return Err(LeafError::Version(version));
        }
        if !matches!(items, 7 | 8) {
            return Err(LeafError::Malformed("its header has too few or too many items"));
        }
        let event_type = TypeCode::new(input.small()?);
        let hour = input.small()?;
        let source = SourceCode::new(input.small()?);
        let channel = ChannelCode::new(input.small()?);
        let class = ClassId::new(input.small()?);
        let commitment = input.byte_array()?;
        let clear = if items == 8 {
            let item = input.rest();
            input.skip(0)?;
            Some(item.to_vec())
        } else {
            None
        };
        input.finish()?;
        let header = LeafHeader { event_type, hour, source, channel, class, clear };
        Ok(Self { sealed, header, commitment })
    }

    /// Returns what stands in clear.
    pub fn header(&self) -> &LeafHeader {
        &self.header
    }

    /// Returns the nonce of the event's section, from which its key is derived.
    pub fn iv(&self) -> &[u8; IV_BYTES] {
        &self.sealed.iv
    }

    /// Returns what the leaf commits to: [`key_commitment`] of its key and nonce.
    pub fn commitment(&self) -> &[u8; 32] {
        &self.commitment
    }

    /// Opens the event's section with its key; the staff section stays closed.
    ///
    /// # Errors
    /// `WrongKey` if the leaf commits to another key; `Altered` or `Malformed` if the content is not what was sealed.
    pub fn open(&self, key: &LeafKey) -> Result<OpenLeaf, LeafError> {
        let content = self.sealed.decrypt(key, &self.commitment)?;
        OpenLeaf::read(self.header.clone(), &content)
    }

    /// Opens the leaf with the secrets from which its keys are derived; the staff section too, if its secret is given.
    ///
    /// # Errors
    /// As [`Leaf::open`] and [`OpenLeaf::open_staff`].
    pub fn open_with(
        &self,
        event: &IndexSecret,
        staff: Option<&IndexSecret>,
        class: &ClassSecret,
        origin: &str,
    ) -> Result<OpenLeaf, LeafError> {
        let mut open = self.open(&leaf_key(event, class, self.iv(), origin))?;
        if let Some(staff) = staff
            && let Some(iv) = open.staff_iv()?
        {
            open.open_staff(&leaf_key(staff, class, &iv, origin))?;
        }
        Ok(open)
    }
}

/// Whether an opened leaf names staff, and whether it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaffState {
    /// The event names no staff.
    Absent,
    /// It did, and was opened and put back into the event.
    Open,
    /// It does; the key was not given, or was destroyed.
    Closed,
}

/// An opened leaf.
#[derive(Clone, PartialEq)]
pub struct OpenLeaf {
    /// What stands in clear.
    pub header: LeafHeader,
    /// The event as it was received: `auditEvent` and what stood beside it. Members about staff only if `staff` is open.
    pub body: Value,
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
    /// By what a repetition is recognised.
    pub dedupe: Dedupe<'static>,
    /// How many events of this customer came before this one in the same log.
    pub subject_sequence: u64,
    /// Index of this customer's previous event in the same log.
    pub previous_index: Option<u64>,
    /// State of the staff section.
    pub staff: StaffState,
    /// The event's parts byte for byte as sealed; without the staff part unless that is open.
    pub encoded: EncodedEvent,
    /// The staff section as it stands in the content.
    section: Option<Vec<u8>>,
}

impl fmt::Debug for OpenLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { header, staff, .. } = self;
        f.debug_struct("OpenLeaf").field("header", header).field("staff", staff).finish_non_exhaustive()
    }
}

impl OpenLeaf {
    fn read(header: LeafHeader, content: &[u8]) -> Result<Self, LeafError> {
        let mut input = Reader::new(content);
        let mut read = Content::default();
        let (_, behind_head) = content.split_first().ok_or(CborError)?;
        let mut public_bytes = 0;
        input.members(|input| {
            let is_public = read.member(input)?;
            if is_public {
                public_bytes = behind_head.len() - input.rest().len();
            }
            Ok(())
        })?;
        end_of_content(&input)?;
        let Content { event, outer, .. } = &mut read;
        let members = 1 + u8::from(outer.is_some());
        let mut body = outer.take().unwrap_or_default();
        let event = event.take().ok_or(CborError)?;
        if body.insert(EVENT_MEMBER.to_owned(), Value::Object(event)).is_some() {
            return Err(LeafError::Malformed("it holds the event twice"));
        }
        // At most 11 members: the content's map has a head of one byte, and so has the map of the public members.
        let mut public = Vec::with_capacity(1 + public_bytes);
        public.push(0xa0 | members);
        public.extend_from_slice(behind_head.get(..public_bytes).ok_or(CborError)?);
        let encoded = EncodedEvent { public, staff: None };
        read.finish(header, Value::Object(body), encoded)
            .ok_or(LeafError::Malformed("its content lacks a member"))
    }

    /// Returns the client's own customer id, if there is one.
    pub fn resolved_customer_id(&self) -> Option<&str> {
        member(&self.body, "resolvedCustomerId")
    }

    /// Returns the interaction's id, if there is one.
    pub fn interaction_id(&self) -> Option<&str> {
        member(&self.body, "interactionId")
    }

    /// Returns what was decided about the event, as it was given to [`super::seal`].
    pub fn decided(&self) -> Decided<'_> {
        Decided {
            received_ms: self.received_ms,
            subject: self.subject,
            event_id: self.event_id,
            system: &self.system,
            actor: self.actor.as_deref(),
            dedupe: self.dedupe.clone(),
            subject_sequence: self.subject_sequence,
            previous_index: self.previous_index,
        }
    }

    /// Returns the nonce of the staff section, from which its key is derived; `None` if there is no such section.
    ///
    /// # Errors
    /// `Malformed` if the section is not what the format says.
    pub fn staff_iv(&self) -> Result<Option<[u8; IV_BYTES]>, LeafError> {
        self.section.as_deref().map(|section| Sealed::parse(section).map(|sealed| sealed.iv)).transpose()
    }

    /// Opens a closed staff section and puts its members back into the event; does nothing if there is none to open.
    ///
    /// # Errors
    /// `WrongKey` if the section commits to another key; `Altered` or `Malformed` if it is not what was sealed.
    pub fn open_staff(&mut self, key: &LeafKey) -> Result<(), LeafError> {
        let (StaffState::Closed, Some(section)) = (self.staff, &self.section) else { return Ok(()) };
        let mut content = staff_content(key, section)?;
        let mut input = Reader::new(&content);
        let members = value::read_object(&mut input, Registry::Event, 0)?;
        end_of_content(&input)?;
        let length = content.len() - input.rest().len();
        content.truncate(length);
        let event = self.body.get_mut(EVENT_MEMBER).and_then(Value::as_object_mut).ok_or(CborError)?;
        if members.is_empty()
            || members.iter().any(|(name, value)| !is_staff(name, value) || event.contains_key(name))
        {
            return Err(LeafError::Malformed("its staff section holds other members than it may"));
        }
        event.extend(members);
        self.encoded.staff = Some(content);
        self.staff = StaffState::Open;
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
    dedupe: Option<Dedupe<'static>>,
    section: Option<Vec<u8>>,
    subject_sequence: Option<u64>,
    previous_index: Option<u64>,
}

impl Content {
    /// Reads one member and tells whether it belongs to the public part of the encoded event.
    fn member(&mut self, input: &mut Reader<'_>) -> Result<bool, CborError> {
        match input.uint()? {
            KEY_EVENT => {
                self.event = Some(value::read_object(input, Registry::Event, 1)?);
                return Ok(true);
            }
            KEY_OUTER => {
                self.outer = Some(value::read_object(input, Registry::None, 1)?);
                return Ok(true);
            }
            2 => self.received_ms = Some(input.uint()?),
            3 => self.subject = Some(GlobalCustomerId::new(input.byte_array()?)),
            4 => self.event_id = Some(EventId::new(input.byte_array()?)),
            5 => self.system = Some(input.text()?.to_owned()),
            6 => self.dedupe = Some(read_dedupe(input)?),
            7 => self.section = Some(input.bytes()?.to_vec()),
            8 => self.subject_sequence = Some(input.uint()?),
            9 => self.previous_index = Some(input.uint()?),
            10 => self.actor = Some(input.text()?.to_owned()),
            _ => return Err(CborError),
        }
        Ok(false)
    }

    fn finish(self, header: LeafHeader, body: Value, encoded: EncodedEvent) -> Option<OpenLeaf> {
        Some(OpenLeaf {
            header,
            body,
            received_ms: self.received_ms?,
            subject: self.subject,
            event_id: self.event_id?,
            system: self.system?,
            actor: self.actor,
            dedupe: self.dedupe?,
            subject_sequence: self.subject_sequence?,
            previous_index: self.previous_index,
            staff: if self.section.is_some() { StaffState::Closed } else { StaffState::Absent },
            encoded,
            section: self.section,
        })
    }
}

fn read_dedupe(input: &mut Reader<'_>) -> Result<Dedupe<'static>, CborError> {
    let items = input.array()?;
    let kind = DedupeKind::new(input.small()?);
    let id = match (items, input.kind()?) {
        (1, _) => DedupeValue::Absent,
        (2, Kind::Text) => DedupeValue::Text(Cow::Owned(input.text()?.to_owned())),
        (2, Kind::Bytes) => DedupeValue::Bytes(Cow::Owned(input.bytes()?.to_vec())),
        _ => return Err(CborError),
    };
    Ok(Dedupe { kind, id })
}
