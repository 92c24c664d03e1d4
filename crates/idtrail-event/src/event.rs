//! A checked event, and its encoding in the parts that a leaf keeps apart.
//!
//! The encoding is made once, before the sequencer: it gives the bound of the leaf's size, the bytes over which repeated
//! events are recognised, and later the sealed content itself.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value};

use crate::cbor::{Reader, Writer};
use crate::code::{ChannelCode, TypeCode};
use crate::retention::ClassId;
use crate::validate::Warning;
use crate::value::{self, Registry};

/// The member of a body that holds the event.
pub(crate) const EVENT_MEMBER: &str = "auditEvent";
/// Key of the event in a leaf's content.
pub(crate) const KEY_EVENT: u64 = 0;
/// Key of what stood beside the event.
pub(crate) const KEY_OUTER: u64 = 1;

/// Members about staff: they get a section of their own in the leaf, which can be destroyed alone.
pub(crate) const STAFF_MEMBERS: [&str; 4] = ["agentId", "agentName", "supervisorId", "staffId"];

/// Tells whether a member goes into the staff section. A null says nothing about anybody and stays in the event.
pub(crate) fn is_staff(name: &str, value: &Value) -> bool {
    !value.is_null() && STAFF_MEMBERS.contains(&name)
}

/// An event that passed every check.
#[derive(Clone, PartialEq)]
pub struct ValidEvent {
    pub(crate) body: Value,
    pub(crate) event_type: TypeCode,
    pub(crate) channel: ChannelCode,
    pub(crate) event_time_ms: i64,
    pub(crate) warnings: Vec<Warning>,
}

impl core::fmt::Debug for ValidEvent {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ValidEvent").field("event_type", &self.event_type).finish_non_exhaustive()
    }
}

impl ValidEvent {
    /// Makes an event of this system itself, which no client may post. `event` gets the type as its member `eventType`.
    pub fn from_system(event_type: TypeCode, mut event: Map<String, Value>, event_time_ms: i64) -> Self {
        if let Some(name) = event_type.name() {
            event.insert("eventType".to_owned(), name.into());
        }
        let channel = event.get("channelType").and_then(Value::as_str).and_then(ChannelCode::by_name);
        let mut body = Map::new();
        body.insert(EVENT_MEMBER.to_owned(), Value::Object(event));
        let channel = channel.unwrap_or(ChannelCode::NONE);
        Self { body: Value::Object(body), event_type, channel, event_time_ms, warnings: Vec::new() }
    }

    /// Returns the whole body, `auditEvent` and what stood beside it.
    pub fn body(&self) -> &Value {
        &self.body
    }

    /// Returns the type.
    pub fn event_type(&self) -> TypeCode {
        self.event_type
    }

    /// Returns the retention class.
    pub fn class(&self) -> ClassId {
        self.event_type.class()
    }

    /// Returns the channel.
    pub fn channel(&self) -> ChannelCode {
        self.channel
    }

    /// Returns the time that the client claims, in milliseconds since 1970.
    pub fn event_time_ms(&self) -> i64 {
        self.event_time_ms
    }

    /// Returns what the client should know although the event was accepted.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Returns the client's own customer id, if there is one.
    pub fn resolved_customer_id(&self) -> Option<&str> {
        member(&self.body, "resolvedCustomerId")
    }

    /// Returns the interaction's id, if there is one.
    pub fn interaction_id(&self) -> Option<&str> {
        member(&self.body, "interactionId")
    }

    /// Encodes the event for sealing.
    pub fn encode(&self) -> EncodedEvent {
        EncodedEvent::of(&self.body)
    }
}

/// Returns a text member of the body's `auditEvent`.
pub(crate) fn member<'a>(body: &'a Value, name: &str) -> Option<&'a str> {
    body.get(EVENT_MEMBER)?.get(name)?.as_str()
}

/// An event as deterministic CBOR, in the parts that a leaf keeps apart.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodedEvent {
    /// A map: the event under 0 and, if anything stood beside it, that under 1.
    pub(crate) public: Vec<u8>,
    pub(crate) staff: Option<Vec<u8>>,
}

impl core::fmt::Debug for EncodedEvent {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EncodedEvent").field("bytes", &self.public.len()).finish_non_exhaustive()
    }
}

impl EncodedEvent {
    /// Encodes a body that needs no check: one that was opened, or one of the system's own. A body without an object
    /// `auditEvent` counts as one with an empty event.
    pub fn of(body: &Value) -> Self {
        let none = Map::new();
        let whole = body.as_object().unwrap_or(&none);
        let event = whole.get(EVENT_MEMBER).and_then(Value::as_object).unwrap_or(&none);
        let has_outer = whole.len() > 1;
        let mut public = Writer::with_capacity(512);
        public.map(1 + usize::from(has_outer));
        public.uint(KEY_EVENT);
        value::write_object(&mut public, event, Registry::Event, |name, value| !is_staff(name, value));
        if has_outer {
            public.uint(KEY_OUTER);
            value::write_object(&mut public, whole, Registry::None, |name, _| name != EVENT_MEMBER);
        }
        Self { public: public.into_vec(), staff: staff_of(event) }
    }

    /// Encodes an empty event beside which one member stands.
    pub fn beside(name: &str, item: &Item<'_>) -> Self {
        let mut public = Writer::with_capacity(512);
        public.map(2);
        public.uint(KEY_EVENT);
        public.map(0);
        public.uint(KEY_OUTER);
        public.map(1);
        public.text(name);
        item.write(&mut public);
        Self { public: public.into_vec(), staff: None }
    }

    /// Encodes another event beside which the same stands as beside this one.
    #[must_use]
    pub fn with_event(&self, event: &Map<String, Value>) -> Self {
        let outer = outer_of(&self.public);
        let mut public = Writer::with_capacity(512 + outer.map_or(0, <[u8]>::len));
        public.map(1 + usize::from(outer.is_some()));
        public.uint(KEY_EVENT);
        value::write_object(&mut public, event, Registry::Event, |name, value| !is_staff(name, value));
        if let Some(outer) = outer {
            public.uint(KEY_OUTER);
            public.raw(outer);
        }
        Self { public: public.into_vec(), staff: staff_of(event) }
    }

    /// Returns the event without its staff members, and what stood beside it: a CBOR map with the keys 0 and 1.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// Returns the staff members as a CBOR map, if there are any.
    pub fn staff(&self) -> Option<&[u8]> {
        self.staff.as_deref()
    }

    /// Returns the bytes over which two events are compared: `u32be length ‖ public ‖ u32be length ‖ staff`, the latter
    /// with length 0 if there is none.
    pub fn content_frame(&self) -> Vec<u8> {
        let [public, staff] = self.content_parts();
        [&public.0, public.1, &staff.0, staff.1].concat()
    }

    /// Returns the bytes of [`Self::content_frame`] in order, without a copy: twice a length and what it is of.
    pub fn content_parts(&self) -> [([u8; 4], &[u8]); 2] {
        let part = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        [self.public(), self.staff().unwrap_or_default()].map(|bytes| (part(bytes), bytes))
    }
}

/// A JSON value of a few forms, for whoever writes many alike and needs no tree of each. It is encoded as the same value
/// in JSON is.
#[derive(Clone, Debug)]
pub enum Item<'a> {
    /// A number.
    Number(u64),
    /// A text of 64 lower-case hex digits, as the 32 bytes that they stand for.
    Hex(&'a [u8; 32]),
    /// A list.
    List(Vec<Item<'a>>),
    /// An object; its names are different from each other.
    Object(Vec<(&'static str, Item<'a>)>),
}

impl Item<'_> {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Number(number) => out.uint(*number),
            Self::Hex(bytes) => out.bytes(bytes.as_slice()),
            Self::List(items) => {
                out.array(items.len());
                items.iter().for_each(|item| item.write(out));
            }
            Self::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_unstable_by_key(|(name, _)| (name.len(), *name));
                out.map(members.len());
                for (name, item) in members {
                    out.text(name);
                    item.write(out);
                }
            }
        }
    }
}

/// Returns what stands beside the event, encoded.
fn outer_of(public: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(public);
    // Written by this module, so it can be read.
    if reader.map().ok()? < 2 || reader.uint().ok()? != KEY_EVENT {
        return None;
    }
    reader.skip(0).ok()?;
    (reader.uint().ok()? == KEY_OUTER).then(|| reader.rest())
}

fn staff_of(event: &Map<String, Value>) -> Option<Vec<u8>> {
    let has_staff = STAFF_MEMBERS.iter().any(|name| event.get(*name).is_some_and(|value| !value.is_null()));
    has_staff.then(|| {
        let mut staff = Writer::with_capacity(64);
        value::write_object(&mut staff, event, Registry::Event, is_staff);
        staff.into_vec()
    })
}
