//! A checked event, and its encoding.

use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value};

use crate::cbor::{self, Registry};
use crate::code::{Channel, EventType};
use crate::retention::ClassId;
use crate::validate::Finding;

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
    pub(crate) event_type: EventType,
    pub(crate) channel: Channel,
    pub(crate) event_time_ms: i64,
    pub(crate) warnings: Vec<Finding>,
}

impl core::fmt::Debug for ValidEvent {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ValidEvent").field("event_type", &self.event_type).finish_non_exhaustive()
    }
}

impl ValidEvent {
    /// Returns the whole body, `auditEvent` and what stood beside it.
    pub fn body(&self) -> &Value {
        &self.body
    }

    /// Returns the type.
    pub fn event_type(&self) -> EventType {
        self.event_type
    }

    /// Returns the retention class.
    pub fn class(&self) -> ClassId {
        self.event_type.class()
    }

    /// Returns the channel.
    pub fn channel(&self) -> Channel {
        self.channel
    }

    /// Returns the time that the client claims, in milliseconds since 1970.
    pub fn event_time_ms(&self) -> i64 {
        self.event_time_ms
    }

    /// Returns what the client should know although the event was accepted.
    pub fn warnings(&self) -> &[Finding] {
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
    body.get("auditEvent")?.get(name)?.as_str()
}

/// An event as deterministic CBOR, in the parts that a leaf keeps apart.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodedEvent {
    pub(crate) event: Vec<u8>,
    pub(crate) outer: Option<Vec<u8>>,
    pub(crate) staff: Option<Vec<u8>>,
}

impl core::fmt::Debug for EncodedEvent {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EncodedEvent").field("bytes", &self.event.len()).finish_non_exhaustive()
    }
}

impl EncodedEvent {
    /// Encodes a body whose `auditEvent` is an object.
    pub fn of(body: &Value) -> Self {
        let none = Map::new();
        let whole = body.as_object().unwrap_or(&none);
        let event = whole.get("auditEvent").and_then(Value::as_object).unwrap_or(&none);
        let is_outer = |name: &str, _: &Value| name != "auditEvent";
        let object = |members: &Map<String, Value>, registry, keep: &dyn Fn(&str, &Value) -> bool| {
            cbor::write(512, |out| cbor::encode_object(out, members, registry, keep))
        };
        let has_staff = event.iter().any(|(name, value)| is_staff(name, value));
        Self {
            event: object(event, Registry::Event, &|name, value| !is_staff(name, value)),
            outer: (whole.len() > 1).then(|| object(whole, Registry::None, &is_outer)),
            staff: has_staff.then(|| object(event, Registry::Event, &is_staff)),
        }
    }

    /// Returns the bytes over which equality of two events is decided: every part behind its length.
    pub fn content(&self) -> Vec<u8> {
        let parts = [Some(&self.event), self.outer.as_ref(), self.staff.as_ref()];
        let mut content = Vec::with_capacity(self.bytes() + 12);
        for part in parts {
            let part = part.map(Vec::as_slice).unwrap_or_default();
            content.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            content.extend_from_slice(part);
        }
        content
    }

    /// Returns the length of all parts in bytes.
    pub fn bytes(&self) -> usize {
        let part = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        self.event.len() + part(&self.outer) + part(&self.staff)
    }
}
