//! The usual event, from its bytes to its encoding in one pass and without a tree.
//!
//! Most events have known members with plain texts, and nothing is wrong with them. [`PlainEvent::read`] takes just these,
//! and says nothing about all others: a caller then goes the long way ([`crate::parse_json`], [`crate::check`],
//! [`crate::ValidEvent::encode`]), which alone knows how to complain, to warn and to mask. What is taken here is taken
//! there too, without a warning, and has the same encoding, bit for bit; a property test holds the two together. The tests
//! of a text are shared with the long way, so that no rule stands in two places.

use core::fmt;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::cbor::Writer;
use crate::code::{ChannelCode, TypeCode};
use crate::compact;
use crate::event::{EVENT_MEMBER, EncodedEvent, KEY_EVENT};
use crate::json::JsonLimits;
use crate::outline::Outline;
use crate::retention::ClassId;
use crate::time;
use crate::validate::{Rules, is_truncated_hash, plain_hash, plain_id, plain_words};
use crate::value::Registry;

/// What a text has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Checked by itself.
    Own,
    /// An opaque id.
    Id,
    /// An opaque id of somebody of the staff.
    StaffId,
    /// A word, a code or a name.
    Words,
    /// A name of somebody of the staff.
    StaffWords,
    /// No text at all.
    None,
}

impl Rule {
    const fn is_staff(self) -> bool {
        matches!(self, Self::StaffId | Self::StaffWords)
    }
}

/// One more than the highest key of a member that is read here.
const KEYS: usize = 17;
/// The rules of texts by their keys in [`Registry::Event`]; a test compares them with the names.
const RULES: [Rule; KEYS] = [
    Rule::None,
    Rule::Own,
    Rule::Own,
    Rule::Id,
    Rule::Words,
    Rule::Id,
    Rule::Words,
    Rule::None,
    Rule::None,
    Rule::StaffId,
    Rule::Id,
    Rule::Words,
    Rule::Id,
    Rule::Words,
    Rule::StaffWords,
    Rule::StaffId,
    Rule::StaffId,
];
const EVENT_TYPE: usize = 1;
const TIMESTAMP: usize = 2;
const INTERACTION_ID: usize = 3;
const CHANNEL_TYPE: usize = 4;
const CUSTOMER_ID: usize = 5;
const PII_CONTEXT: usize = 7;
const FLAGS: usize = 8;
const STATUS: usize = 13;
/// Phone, mail, account, scheme; two flags.
const CONTEXT_KEYS: usize = 5;
const FLAG_KEYS: usize = 3;
const CONTEXT_SCHEME: usize = 4;

/// An event that passed every check without a finding, encoded.
#[derive(Clone, PartialEq, Eq)]
pub struct PlainEvent<'a> {
    /// As [`crate::ValidEvent::encode`] gives it.
    pub encoded: EncodedEvent,
    /// The type.
    pub event_type: TypeCode,
    /// The channel.
    pub channel: ChannelCode,
    /// What it is found by.
    pub outline: Outline<'a>,
}

impl fmt::Debug for PlainEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlainEvent").field("event_type", &self.event_type).finish_non_exhaustive()
    }
}

impl<'a> PlainEvent<'a> {
    /// Reads a body that was received at `received_ms` (milliseconds since 1970). `None` says nothing about it.
    pub fn read(body: &'a [u8], limits: JsonLimits, rules: &Rules, received_ms: i64) -> Option<Self> {
        // The event, its context and its flags nest three deep.
        if body.len() > limits.bytes_max || limits.depth_max < 3 {
            return None;
        }
        let text = core::str::from_utf8(body).ok()?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let members = deserializer.deserialize_map(BodyVisitor).ok()?;
        deserializer.end().ok()?;
        members.checked(rules, received_ms)
    }

    /// Returns the retention class.
    pub fn class(&self) -> ClassId {
        self.event_type.class()
    }
}

/// A member, as far as it was there.
#[derive(Clone, Copy, Default)]
enum Member<T> {
    #[default]
    Absent,
    Null,
    Value(T),
}

impl<T> Member<T> {
    fn is_there(&self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// Fills a place that must be empty: a name that occurs twice is refused elsewhere.
    fn fill<E: serde::de::Error>(&mut self, value: Option<T>) -> Result<(), E> {
        if self.is_there() {
            return Err(E::custom("a name occurs twice"));
        }
        *self = value.map_or(Self::Null, Self::Value);
        Ok(())
    }
}

impl<T: Copy> Member<T> {
    fn value(self) -> Option<T> {
        if let Self::Value(value) = self { Some(value) } else { None }
    }
}

/// Members by their keys in the registries of the encoding.
#[derive(Default)]
struct Members<'a> {
    texts: [Member<&'a str>; KEYS],
    context: Member<[Member<&'a str>; CONTEXT_KEYS]>,
    flags: Member<[Member<bool>; FLAG_KEYS]>,
}

impl<'a> Members<'a> {
    fn text(&self, key: usize) -> Option<&'a str> {
        self.texts.get(key).copied().and_then(Member::value)
    }

    fn hash(&self, key: usize) -> Option<&'a str> {
        let Member::Value(context) = &self.context else { return None };
        context.get(key).copied().and_then(Member::value)
    }

    /// Returns the event if the long way would find nothing to say about it.
    fn checked(self, rules: &Rules, received_ms: i64) -> Option<PlainEvent<'a>> {
        let name = self.text(EVENT_TYPE).filter(|name| !TypeCode::is_reserved_name(name))?;
        let event_type = TypeCode::by_name(name).filter(|known| *known != TypeCode::ANONYMOUS)?;
        if event_type == TypeCode::IDENTITY_RESOLUTION && self.text(INTERACTION_ID).is_none() {
            return None;
        }
        let time_ms = time::parse_rfc3339(self.text(TIMESTAMP)?)?;
        let usual = received_ms.saturating_sub(rules.old_warning_ms)
            ..=received_ms.saturating_add(rules.future_limit_ms);
        if !usual.contains(&time_ms) {
            return None;
        }
        let channel = match self.text(CHANNEL_TYPE) {
            None => ChannelCode::NONE,
            Some(name) => {
                let unusual = [ChannelCode::NONE, ChannelCode::OTHER];
                ChannelCode::by_name(name).filter(|known| !unusual.contains(known))?
            }
        };
        for (member, rule) in self.texts.iter().zip(RULES) {
            let Member::Value(text) = *member else { continue };
            let plain = match rule {
                Rule::Own => true,
                Rule::Id | Rule::StaffId => plain_id(text),
                Rule::Words | Rule::StaffWords => plain_words(text),
                Rule::None => false,
            };
            if !plain {
                return None;
            }
        }
        if self.text(CUSTOMER_ID).is_some_and(is_truncated_hash) {
            return None;
        }
        let status =
            self.text(STATUS).is_none_or(|status| matches!(status, "SUCCESS" | "PARTIAL" | "FAILED"));
        if event_type == TypeCode::DATA_DELETION && !status {
            return None;
        }
        if let Member::Value(context) = &self.context {
            for (key, member) in context.iter().enumerate() {
                let Member::Value(text) = *member else { continue };
                let plain =
                    if key == CONTEXT_SCHEME { crate::pii::find(text).is_none() } else { plain_hash(text) };
                if !plain {
                    return None;
                }
            }
        }
        let outline = Outline {
            time_ms: Some(time_ms),
            resolved_customer_id: self.text(CUSTOMER_ID),
            interaction_id: self.text(INTERACTION_ID),
            hash_scheme: self.hash(CONTEXT_SCHEME),
            phone_hash: self.hash(1),
            email_hash: self.hash(2),
            account_hash: self.hash(3),
        };
        Some(PlainEvent { encoded: self.encode(event_type, channel), event_type, channel, outline })
    }

    fn encode(&self, event_type: TypeCode, channel: ChannelCode) -> EncodedEvent {
        let is_staff =
            |(member, rule): &(&Member<&str>, Rule)| rule.is_staff() && matches!(member, Member::Value(_));
        let staff = self.texts.iter().zip(RULES).filter(is_staff).count();
        let there = self.texts.iter().filter(|member| member.is_there()).count()
            + usize::from(self.context.is_there())
            + usize::from(self.flags.is_there());
        let mut public = Writer::with_capacity(512);
        public.map(1);
        public.uint(KEY_EVENT);
        public.map(there - staff);
        for (key, (member, rule)) in self.texts.iter().zip(RULES).enumerate() {
            match key {
                PII_CONTEXT => write_object(&mut public, key, &self.context, |out, text| {
                    compact::write_string(out, text);
                }),
                FLAGS => write_object(&mut public, key, &self.flags, |out, flag| out.bool(*flag)),
                _ if is_staff(&(member, rule)) => {}
                EVENT_TYPE => write_member(&mut public, key, member, |out, text| {
                    write_name(out, text, u64::from(event_type.code()), event_type.is_in_v1());
                }),
                CHANNEL_TYPE => write_member(&mut public, key, member, |out, text| {
                    write_name(out, text, u64::from(channel.code()), channel.is_in_v1());
                }),
                _ => write_member(&mut public, key, member, |out, text| compact::write_string(out, text)),
            }
        }
        let staff = (staff > 0).then(|| {
            let mut out = Writer::with_capacity(64);
            out.map(staff);
            let members = self.texts.iter().zip(RULES).enumerate();
            for (key, (member, _)) in members.filter(|(_, member)| is_staff(member)) {
                write_member(&mut out, key, member, |out, text| compact::write_string(out, text));
            }
            out.into_vec()
        });
        EncodedEvent { public: public.into_vec(), staff }
    }
}

fn write_name(out: &mut Writer, name: &str, code: u64, is_in_v1: bool) {
    if is_in_v1 { out.uint(code) } else { out.text(name) }
}

fn write_member<T>(out: &mut Writer, key: usize, member: &Member<T>, write: impl FnOnce(&mut Writer, &T)) {
    match member {
        Member::Absent => {}
        Member::Null => {
            out.uint(key as u64);
            out.null();
        }
        Member::Value(value) => {
            out.uint(key as u64);
            write(out, value);
        }
    }
}

fn write_object<T, const N: usize>(
    out: &mut Writer,
    key: usize,
    object: &Member<[Member<T>; N]>,
    write: impl Fn(&mut Writer, &T),
) {
    write_member(out, key, object, |out, members| {
        out.map(members.iter().filter(|member| member.is_there()).count());
        for (key, member) in members.iter().enumerate() {
            write_member(out, key, member, &write);
        }
    });
}

/// The whole body: an object with the one member `auditEvent`.
struct BodyVisitor;

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a usual event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut body: A) -> Result<Members<'de>, A::Error> {
        if body.next_key::<&str>()? != Some(EVENT_MEMBER) {
            return Err(A::Error::custom("there is something before the event"));
        }
        let members = body.next_value_seed(EventSeed)?;
        match body.next_key::<IgnoredAny>()? {
            None => Ok(members),
            Some(_) => Err(A::Error::custom("there is something beside the event")),
        }
    }
}

struct EventSeed;

impl<'de> DeserializeSeed<'de> for EventSeed {
    type Value = Members<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Members<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EventSeed {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the members of a usual event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut event: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        // A name with an escape in it is no borrowed text, which is an error here, as any other oddity is.
        while let Some(name) = event.next_key::<&str>()? {
            let key = Registry::Event.key(name).and_then(|key| usize::try_from(key).ok());
            match key {
                Some(PII_CONTEXT) => {
                    let context = event.next_value::<Option<Object<&str, CONTEXT_KEYS>>>()?;
                    members.context.fill(context.map(|object| object.0))?;
                }
                Some(FLAGS) => {
                    let flags = event.next_value::<Option<Object<bool, FLAG_KEYS>>>()?;
                    members.flags.fill(flags.map(|object| object.0))?;
                }
                Some(key) => {
                    let place = members.texts.get_mut(key);
                    let place = place.ok_or_else(|| A::Error::custom("a rare member"))?;
                    place.fill(event.next_value::<Option<&str>>()?)?;
                }
                None => return Err(A::Error::custom("an unknown member")),
            }
        }
        Ok(members)
    }
}

/// A member of an object within the event, with the object's registry.
trait Part<'de>: Deserialize<'de> + Copy {
    const REGISTRY: Registry;
}

impl<'de> Part<'de> for &'de str {
    const REGISTRY: Registry = Registry::PiiContext;
}

impl Part<'_> for bool {
    const REGISTRY: Registry = Registry::ComplianceFlags;
}

/// An object with registered members only.
struct Object<T, const N: usize>([Member<T>; N]);

impl<'de, T: Part<'de>, const N: usize> Deserialize<'de> for Object<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(core::marker::PhantomData))
    }
}

struct ObjectVisitor<T, const N: usize>(core::marker::PhantomData<T>);

impl<'de, T: Part<'de>, const N: usize> Visitor<'de> for ObjectVisitor<T, N> {
    type Value = Object<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("known members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Object<T, N>, A::Error> {
        let mut members = [Member::Absent; N];
        while let Some(name) = object.next_key::<&str>()? {
            let key = T::REGISTRY.key(name).and_then(|key| usize::try_from(key).ok());
            let place = key.and_then(|key| members.get_mut(key));
            let place = place.ok_or_else(|| A::Error::custom("an unknown member"))?;
            place.fill(object.next_value::<Option<T>>()?)?;
        }
        Ok(Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::STAFF_MEMBERS;

    #[test]
    fn the_rules_are_those_of_the_names() {
        for (key, rule) in RULES.iter().enumerate() {
            let name = Registry::Event.name(key as u64);
            assert_eq!(rule.is_staff(), name.is_some_and(|name| STAFF_MEMBERS.contains(&name)), "{name:?}");
            let is_id = matches!(rule, Rule::Id | Rule::StaffId);
            assert_eq!(is_id, name.is_some_and(|name| crate::validate::IDS.contains(&name)), "{name:?}");
        }
        let keys = [
            ("eventType", EVENT_TYPE),
            ("timestamp", TIMESTAMP),
            ("interactionId", INTERACTION_ID),
            ("channelType", CHANNEL_TYPE),
            ("resolvedCustomerId", CUSTOMER_ID),
            ("piiContext", PII_CONTEXT),
            ("complianceFlags", FLAGS),
            ("status", STATUS),
        ];
        for (name, key) in keys {
            assert_eq!(Registry::Event.key(name), Some(key as u64));
        }
        assert_eq!(Registry::PiiContext.key("hashScheme"), Some(CONTEXT_SCHEME as u64));
    }
}
