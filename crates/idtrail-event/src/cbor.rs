//! JSON values as deterministic CBOR (RFC 8949 §4.2), and back without loss.
//!
//! Known members get integer keys from a registry, unknown ones keep their names. A string is written more compactly
//! (bytes for hex, tags for UUIDs, times and prefixed ids) only if expansion gives back the identical string, so the
//! JSON that comes out equals the JSON that went in. The registries and forms are part of the leaf format.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::convert::Infallible;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use minicbor::data::{Tag, Type};
use minicbor::{Decoder, Encoder};
use serde_json::{Map, Number, Value};

use crate::code::{Channel, EventType};
use crate::id::GlobalCustomerId;

/// Tag of a lower-case UUID text written as 16 bytes (IANA registry).
const TAG_UUID: u64 = 37;
/// Tag of seconds since 1970 (RFC 8949 §3.4.2).
const TAG_EPOCH: u64 = 1;
/// Tag of extended time (RFC 9581).
const TAG_EXTENDED_TIME: u64 = 1001;
/// Our own tag, "idtr" in ASCII: a global customer id as 16 bytes, or `[prefix, bytes or UUID]`.
const TAG_ID: u64 = 0x6964_7472;

/// Hex shorter than this stays text: it saves little and short words would be taken for hex.
const HEX_DIGITS_MIN: usize = 32;
const PREFIX_BYTES_MAX: usize = 16;
const DEPTH_MAX: usize = 40;

/// Bytes are not what this module writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the deterministic CBOR of an event")]
pub struct CborError;

impl From<minicbor::decode::Error> for CborError {
    fn from(_: minicbor::decode::Error) -> Self {
        // The decoder's own text may name what it met; only the fact is passed on.
        Self
    }
}

pub(crate) type Out = Encoder<Vec<u8>>;
type Written = Result<(), minicbor::encode::Error<Infallible>>;

/// Runs an encoding into memory.
pub(crate) fn write(capacity: usize, encode: impl FnOnce(&mut Out) -> Written) -> Vec<u8> {
    let mut out = Encoder::new(Vec::with_capacity(capacity));
    encode(&mut out).expect("writing to memory cannot fail");
    out.into_writer()
}

/// The members of an object that have integer keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registry {
    Event,
    PiiContext,
    ComplianceFlags,
    None,
}

const EVENT: &[(&str, u8)] = &[
    ("eventType", 1),
    ("timestamp", 2),
    ("interactionId", 3),
    ("channelType", 4),
    ("resolvedCustomerId", 5),
    ("resolutionSource", 6),
    ("piiContext", 7),
    ("complianceFlags", 8),
    ("agentId", 9),
    ("queueId", 10),
    ("deletionReason", 11),
    ("requestId", 12),
    ("status", 13),
    ("agentName", 14),
    ("supervisorId", 15),
    ("staffId", 16),
];
const PII_CONTEXT: &[(&str, u8)] =
    &[("phoneHash", 1), ("emailHash", 2), ("accountNumberHash", 3), ("hashScheme", 4)];
const COMPLIANCE_FLAGS: &[(&str, u8)] = &[("gdprConsentRecorded", 1), ("dataSubjectRequestPending", 2)];

impl Registry {
    fn entries(self) -> &'static [(&'static str, u8)] {
        match self {
            Registry::Event => EVENT,
            Registry::PiiContext => PII_CONTEXT,
            Registry::ComplianceFlags => COMPLIANCE_FLAGS,
            Registry::None => &[],
        }
    }

    fn key(self, name: &str) -> Option<u8> {
        self.entries().iter().find(|(known, _)| *known == name).map(|(_, key)| *key)
    }

    fn name(self, key: u64) -> Option<&'static str> {
        self.entries().iter().find(|(_, known)| u64::from(*known) == key).map(|(name, _)| *name)
    }

    /// Returns what the value of a member is.
    fn form(self, key: u8) -> Form {
        match (self, key) {
            (Registry::Event, 1) => Form::EventType,
            (Registry::Event, 4) => Form::Channel,
            (Registry::Event, 7) => Form::Object(Registry::PiiContext),
            (Registry::Event, 8) => Form::Object(Registry::ComplianceFlags),
            _ => Form::Object(Registry::None),
        }
    }
}

#[derive(Clone, Copy)]
enum Form {
    /// A text that is written as its code if it is a known name.
    EventType,
    /// Likewise.
    Channel,
    /// Any value; if an object, with this registry.
    Object(Registry),
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Number(u8),
    Text(usize, &'a str),
}

/// Writes the members of an object that `keep` admits.
pub(crate) fn encode_object(
    out: &mut Out,
    object: &Map<String, Value>,
    registry: Registry,
    keep: impl Fn(&str, &Value) -> bool,
) -> Written {
    let mut members: Vec<(Key<'_>, &Value)> = object
        .iter()
        .filter(|(name, value)| keep(name, value))
        .map(|(name, value)| match registry.key(name) {
            Some(key) => (Key::Number(key), value),
            None => (Key::Text(name.len(), name), value),
        })
        .collect();
    // Numbers before texts and shorter texts before longer ones is the order of the encoded keys.
    members.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
    out.map(members.len() as u64)?;
    for (key, value) in members {
        let form = match key {
            Key::Number(key) => {
                out.u8(key)?;
                registry.form(key)
            }
            Key::Text(_, name) => {
                out.str(name)?;
                Form::Object(Registry::None)
            }
        };
        encode_value(out, value, form)?;
    }
    Ok(())
}

fn encode_value(out: &mut Out, value: &Value, form: Form) -> Written {
    match value {
        Value::Null => out.null()?.ok(),
        Value::Bool(value) => out.bool(*value)?.ok(),
        Value::Number(number) => encode_number(out, number),
        Value::String(text) => encode_string(out, text, form),
        Value::Array(items) => {
            out.array(items.len() as u64)?;
            items.iter().try_for_each(|item| encode_value(out, item, Form::Object(Registry::None)))
        }
        Value::Object(object) => {
            let registry = if let Form::Object(registry) = form { registry } else { Registry::None };
            encode_object(out, object, registry, |_, _| true)
        }
    }
}

fn encode_number(out: &mut Out, number: &Number) -> Written {
    if let Some(unsigned) = number.as_u64() {
        return out.u64(unsigned)?.ok();
    }
    if let Some(signed) = number.as_i64() {
        return out.i64(signed)?.ok();
    }
    let float = number.as_f64().unwrap_or_default();
    let single = float as f32;
    if f64::from(single) != float {
        out.f64(float)?.ok()
    } else if is_half(single) {
        out.f16(single)?.ok()
    } else {
        out.f32(single)?.ok()
    }
}

/// Tells whether a number keeps its value in 16 bits (IEEE 754 binary16).
fn is_half(single: f32) -> bool {
    let magnitude = single.abs();
    if magnitude == 0.0 {
        return true;
    }
    if magnitude >= 6.103_515_6e-5 {
        return magnitude <= 65504.0 && single.to_bits().trailing_zeros() >= 13;
    }
    let scaled = magnitude * 16_777_216.0;
    scaled >= 1.0 && scaled == (scaled as u32) as f32
}

fn encode_string(out: &mut Out, text: &str, form: Form) -> Written {
    match form {
        Form::EventType => {
            if let Some(code) = EventType::by_name(text) {
                return out.u16(code.code())?.ok();
            }
        }
        Form::Channel => {
            if let Some(code) = Channel::by_name(text) {
                return out.u8(code.code())?.ok();
            }
        }
        Form::Object(_) => {
            if let Some(compact) = Compact::of(text) {
                return compact.encode(out);
            }
        }
    }
    out.str(text)?.ok()
}

/// A shorter way to write a string.
enum Compact<'a> {
    Hex(Vec<u8>),
    Uuid([u8; 16]),
    Seconds(i64),
    Milliseconds(i64, u16),
    Customer(GlobalCustomerId),
    PrefixedHex(&'a str, Vec<u8>),
    PrefixedUuid(&'a str, [u8; 16]),
}

impl<'a> Compact<'a> {
    fn of(text: &'a str) -> Option<Self> {
        if text.len() < 20 {
            return None;
        }
        if let Some(bytes) = hex(text) {
            return Some(Compact::Hex(bytes));
        }
        if let Some(bytes) = uuid(text) {
            return Some(Compact::Uuid(bytes));
        }
        if let Some(time) = time(text) {
            return Some(time);
        }
        if let Ok(customer) = GlobalCustomerId::try_from(text) {
            return Some(Compact::Customer(customer));
        }
        if let Some((prefix, rest)) = text.split_at_checked(text.len().saturating_sub(36))
            && is_prefix(prefix)
            && let Some(bytes) = uuid(rest)
        {
            return Some(Compact::PrefixedUuid(prefix, bytes));
        }
        let at = text.rfind(['_', '-', ':'])? + 1;
        let (prefix, rest) = text.split_at_checked(at)?;
        let bytes = hex(rest).filter(|_| is_prefix(prefix))?;
        Some(Compact::PrefixedHex(prefix, bytes))
    }

    fn encode(&self, out: &mut Out) -> Written {
        match self {
            Compact::Hex(bytes) => out.bytes(bytes)?.ok(),
            Compact::Uuid(bytes) => out.tag(Tag::new(TAG_UUID))?.bytes(bytes)?.ok(),
            Compact::Seconds(seconds) => out.tag(Tag::new(TAG_EPOCH))?.i64(*seconds)?.ok(),
            Compact::Milliseconds(seconds, milliseconds) => out
                .tag(Tag::new(TAG_EXTENDED_TIME))?
                .map(2)?
                .u8(1)?
                .i64(*seconds)?
                .i8(-3)?
                .u16(*milliseconds)?
                .ok(),
            Compact::Customer(id) => out.tag(Tag::new(TAG_ID))?.bytes(id.as_bytes())?.ok(),
            Compact::PrefixedHex(prefix, bytes) => {
                out.tag(Tag::new(TAG_ID))?.array(2)?.str(prefix)?.bytes(bytes)?.ok()
            }
            Compact::PrefixedUuid(prefix, bytes) => {
                out.tag(Tag::new(TAG_ID))?.array(2)?.str(prefix)?.tag(Tag::new(TAG_UUID))?.bytes(bytes)?.ok()
            }
        }
    }
}

fn is_prefix(prefix: &str) -> bool {
    (2..=PREFIX_BYTES_MAX).contains(&prefix.len()) && prefix.ends_with(['_', '-', ':'])
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if text.len() < HEX_DIGITS_MIN {
        return None;
    }
    HEXLOWER.decode(text.as_bytes()).ok()
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 || [8, 13, 18, 23].iter().any(|at| bytes.get(*at) != Some(&b'-')) {
        return None;
    }
    let mut digits = [0; 32];
    let mut slots = digits.iter_mut();
    for byte in
        bytes.iter().enumerate().filter(|(at, _)| !matches!(at, 8 | 13 | 18 | 23)).map(|(_, byte)| byte)
    {
        *slots.next()? = *byte;
    }
    let mut out = [0; 16];
    (HEXLOWER.decode_mut(&digits, &mut out).ok()? == 16).then_some(out)
}

fn uuid_text(bytes: &[u8; 16]) -> String {
    let mut text = HEXLOWER.encode(bytes);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    text
}

fn time<'a>(text: &str) -> Option<Compact<'a>> {
    let bytes = text.as_bytes();
    if bytes.last() != Some(&b'Z') || bytes.get(10) != Some(&b'T') || !matches!(bytes.len(), 20 | 24) {
        return None;
    }
    let time: Timestamp = text.parse().ok()?;
    if bytes.len() == 20 {
        return (time.to_string() == text).then_some(Compact::Seconds(time.as_second()));
    }
    let milliseconds = time.as_millisecond();
    let (seconds, rest) = (milliseconds.div_euclid(1000), milliseconds.rem_euclid(1000) as u16);
    (format!("{time:.3}") == text).then_some(Compact::Milliseconds(seconds, rest))
}

/// Reads an object.
pub(crate) fn decode_object(
    input: &mut Decoder<'_>,
    registry: Registry,
) -> Result<Map<String, Value>, CborError> {
    decode_map(input, registry, 0)
}

fn decode_map(
    input: &mut Decoder<'_>,
    registry: Registry,
    depth: usize,
) -> Result<Map<String, Value>, CborError> {
    let count = input.map()?.ok_or(CborError)?;
    let mut object = Map::new();
    for _ in 0..count {
        let (name, form) = if input.datatype()? == Type::String {
            (input.str()?.to_owned(), Form::Object(Registry::None))
        } else {
            let key = input.u8()?;
            (registry.name(u64::from(key)).ok_or(CborError)?.to_owned(), registry.form(key))
        };
        let value = decode_value(input, form, depth + 1)?;
        if object.insert(name, value).is_some() {
            return Err(CborError);
        }
    }
    Ok(object)
}

fn decode_value(input: &mut Decoder<'_>, form: Form, depth: usize) -> Result<Value, CborError> {
    if depth > DEPTH_MAX {
        return Err(CborError);
    }
    Ok(match input.datatype()? {
        Type::Null => {
            input.null()?;
            Value::Null
        }
        Type::Bool => Value::Bool(input.bool()?),
        Type::F16 => float(f64::from(input.f16()?))?,
        Type::F32 => float(f64::from(input.f32()?))?,
        Type::F64 => float(input.f64()?)?,
        Type::String => Value::String(input.str()?.to_owned()),
        Type::Bytes => Value::String(HEXLOWER.encode(input.bytes()?)),
        Type::Tag => Value::String(decode_tagged(input)?),
        Type::Array => {
            let count = input.array()?.ok_or(CborError)?;
            let item = |input: &mut Decoder<'_>| decode_value(input, Form::Object(Registry::None), depth + 1);
            Value::Array((0..count).map(|_| item(input)).collect::<Result<_, _>>()?)
        }
        Type::Map => {
            let registry = if let Form::Object(registry) = form { registry } else { Registry::None };
            Value::Object(decode_map(input, registry, depth)?)
        }
        _ => match form {
            Form::EventType => name(EventType::new(input.u16()?).name())?,
            Form::Channel => name(Channel::new(input.u8()?).name())?,
            Form::Object(_) => {
                let number = i128::from(input.int()?);
                let signed = || i64::try_from(number).map(Number::from);
                Value::Number(
                    u64::try_from(number).map(Number::from).or_else(|_| signed()).map_err(|_| CborError)?,
                )
            }
        },
    })
}

fn float(value: f64) -> Result<Value, CborError> {
    Number::from_f64(value).map(Value::Number).ok_or(CborError)
}

fn name(name: Option<&'static str>) -> Result<Value, CborError> {
    name.map(|name| Value::String(name.to_owned())).ok_or(CborError)
}

fn decode_tagged(input: &mut Decoder<'_>) -> Result<String, CborError> {
    match input.tag()?.as_u64() {
        TAG_UUID => Ok(uuid_text(input.bytes()?.try_into().map_err(|_| CborError)?)),
        TAG_EPOCH => {
            let time = Timestamp::from_second(input.i64()?).map_err(|_| CborError)?;
            Ok(time.to_string())
        }
        TAG_EXTENDED_TIME => {
            if input.map()? != Some(2) || input.u8()? != 1 {
                return Err(CborError);
            }
            let seconds = input.i64()?;
            if input.i8()? != -3 {
                return Err(CborError);
            }
            let milliseconds =
                seconds.checked_mul(1000).and_then(|all| all.checked_add(i64::from(input.u16().ok()?)));
            let time = Timestamp::from_millisecond(milliseconds.ok_or(CborError)?).map_err(|_| CborError)?;
            Ok(format!("{time:.3}"))
        }
        TAG_ID if input.datatype()? == Type::Bytes => {
            let id = GlobalCustomerId::new(input.bytes()?.try_into().map_err(|_| CborError)?);
            Ok(id.to_string())
        }
        TAG_ID => {
            if input.array()? != Some(2) {
                return Err(CborError);
            }
            let prefix = input.str()?.to_owned();
            if input.datatype()? == Type::Bytes {
                return Ok(prefix + &HEXLOWER.encode(input.bytes()?));
            }
            if input.tag()?.as_u64() != TAG_UUID {
                return Err(CborError);
            }
            Ok(prefix + &uuid_text(input.bytes()?.try_into().map_err(|_| CborError)?))
        }
        _ => Err(CborError),
    }
}

/// Tells whether `bytes` is exactly one item in the form of RFC 8949 §4.2.1: shortest heads, definite lengths, sorted
/// unique keys. Floats are not looked into.
pub(crate) fn is_deterministic(bytes: &[u8]) -> bool {
    deterministic_item(bytes, 0).is_some_and(|rest| rest.is_empty())
}

/// Checks the first item and returns what follows it.
pub(crate) fn deterministic_item(bytes: &[u8], depth: usize) -> Option<&[u8]> {
    if depth > DEPTH_MAX {
        return None;
    }
    let (major, argument, mut rest) = head(bytes)?;
    match major {
        0 | 1 | 7 => Some(rest),
        2 | 3 => {
            let (content, behind) = rest.split_at_checked(usize::try_from(argument).ok()?)?;
            (major == 2 || core::str::from_utf8(content).is_ok()).then_some(behind)
        }
        4 => {
            for _ in 0..argument {
                rest = deterministic_item(rest, depth + 1)?;
            }
            Some(rest)
        }
        5 => {
            let mut previous: Option<&[u8]> = None;
            for _ in 0..argument {
                let behind = deterministic_item(rest, depth + 1)?;
                let key = rest.get(..rest.len() - behind.len())?;
                if previous.is_some_and(|previous| previous >= key) {
                    return None;
                }
                previous = Some(key);
                rest = deterministic_item(behind, depth + 1)?;
            }
            Some(rest)
        }
        _ => deterministic_item(rest, depth + 1),
    }
}

fn head(bytes: &[u8]) -> Option<(u8, u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (major, short) = (first >> 5, first & 31);
    let (argument, rest, least) = match short {
        0..=23 => (u64::from(short), rest, 0),
        24 => rest.split_first().map(|(byte, rest)| (u64::from(*byte), rest, 24))?,
        25 => rest
            .split_first_chunk()
            .map(|(bytes, rest)| (u64::from(u16::from_be_bytes(*bytes)), rest, 1 << 8))?,
        26 => rest
            .split_first_chunk()
            .map(|(bytes, rest)| (u64::from(u32::from_be_bytes(*bytes)), rest, 1 << 16))?,
        27 => rest.split_first_chunk().map(|(bytes, rest)| (u64::from_be_bytes(*bytes), rest, 1 << 32))?,
        _ => return None,
    };
    // Major type 7 holds floats there, whose bits are no count.
    (major == 7 || argument >= least).then_some((major, argument, rest))
}
