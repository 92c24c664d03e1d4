//! JSON objects as CBOR maps and back without loss.
//!
//! Known members get integer keys from a registry, unknown ones keep their names; the known event types and channels
//! are numbers. Registry and numbers belong to leaf format v1 and never change, also where the tables of event types
//! and channels grow: a name that came later is written as text, so every reader of v1 can expand it, and the same event
//! has the same bytes for ever.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Number, Value};

use crate::cbor::{CborError, DEPTH_MAX, Kind, Reader, Writer};
use crate::code::{ChannelCode, TypeCode};
use crate::compact;

/// Which members of an object have integer keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registry {
    Event,
    PiiContext,
    ComplianceFlags,
    None,
}

/// By key, from 1.
const EVENT: [&str; 23] = [
    "eventType",
    "timestamp",
    "interactionId",
    "channelType",
    "resolvedCustomerId",
    "resolutionSource",
    "piiContext",
    "complianceFlags",
    "agentId",
    "queueId",
    "deletionReason",
    "requestId",
    "status",
    "agentName",
    "supervisorId",
    "staffId",
    "identity",
    "actor",
    "systems",
    "rulesetVersion",
    "schemaVersion",
    "resolutionMethod",
    "piiCollected",
];
const PII_CONTEXT: [&str; 4] = ["phoneHash", "emailHash", "accountNumberHash", "hashScheme"];
const COMPLIANCE_FLAGS: [&str; 2] = ["gdprConsentRecorded", "dataSubjectRequestPending"];

const KEY_EVENT_TYPE: u64 = 1;
const KEY_CHANNEL_TYPE: u64 = 4;
const KEY_PII_CONTEXT: u64 = 7;
const KEY_COMPLIANCE_FLAGS: u64 = 8;

impl Registry {
    fn names(self) -> &'static [&'static str] {
        match self {
            Registry::Event => &EVENT,
            Registry::PiiContext => &PII_CONTEXT,
            Registry::ComplianceFlags => &COMPLIANCE_FLAGS,
            Registry::None => &[],
        }
    }

    pub(crate) fn key(self, name: &str) -> Option<u64> {
        self.names().iter().position(|known| *known == name).map(|position| position as u64 + 1)
    }

    pub(crate) fn name(self, key: u64) -> Option<&'static str> {
        self.names().get(usize::try_from(key.checked_sub(1)?).ok()?).copied()
    }

    /// Returns what the value of a registered member is.
    pub(crate) fn form(self, key: u64) -> Form {
        match (self, key) {
            (Registry::Event, KEY_EVENT_TYPE) => Form::EventType,
            (Registry::Event, KEY_CHANNEL_TYPE) => Form::Channel,
            (Registry::Event, KEY_PII_CONTEXT) => Form::Any(Registry::PiiContext),
            (Registry::Event, KEY_COMPLIANCE_FLAGS) => Form::Any(Registry::ComplianceFlags),
            _ => Form::Any(Registry::None),
        }
    }
}

/// What the value of a member is.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// A text that is written as its number if v1 knows its name.
    EventType,
    /// Likewise.
    Channel,
    /// Any value; if it is an object, with this registry.
    Any(Registry),
}

/// Numbers sort before texts and shorter texts before longer ones, as their encodings do.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Number(u64),
    Text(usize, &'a str),
}

/// Writes the members of an object that `keep` admits.
pub(crate) fn write_object(
    out: &mut Writer,
    object: &Map<String, Value>,
    registry: Registry,
    keep: impl Fn(&str, &Value) -> bool,
) {
    let mut members: Vec<(Key<'_>, &Value)> = Vec::with_capacity(object.len());
    for (name, value) in object.iter().filter(|(name, value)| keep(name, value)) {
        let key = registry.key(name).map_or(Key::Text(name.len(), name), Key::Number);
        members.push((key, value));
    }
    members.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
    out.map(members.len());
    for (key, value) in members {
        let form = match key {
            Key::Number(key) => {
                out.uint(key);
                registry.form(key)
            }
            Key::Text(_, name) => {
                out.text(name);
                Form::Any(Registry::None)
            }
        };
        write_value(out, value, form);
    }
}

fn write_value(out: &mut Writer, value: &Value, form: Form) {
    match value {
        Value::Null => out.null(),
        Value::Bool(value) => out.bool(*value),
        Value::Number(number) => {
            // Where integers stand for names, an integer itself is marked. Checked events never hold one there.
            if !matches!(form, Form::Any(_)) && !number.is_f64() {
                out.tag(compact::TAG_ID);
            }
            write_number(out, number);
        }
        Value::String(text) => match form {
            Form::EventType => match TypeCode::by_name(text).filter(|known| known.is_in_v1()) {
                Some(known) => out.uint(u64::from(known.code())),
                None => out.text(text),
            },
            Form::Channel => match ChannelCode::by_name(text).filter(|known| known.is_in_v1()) {
                Some(known) => out.uint(u64::from(known.code())),
                None => out.text(text),
            },
            Form::Any(_) => compact::write_string(out, text),
        },
        Value::Array(items) => {
            out.array(items.len());
            for item in items {
                write_value(out, item, Form::Any(Registry::None));
            }
        }
        Value::Object(object) => {
            let registry = if let Form::Any(registry) = form { registry } else { Registry::None };
            write_object(out, object, registry, |_, _| true);
        }
    }
}

fn write_number(out: &mut Writer, number: &Number) {
    if let Some(unsigned) = number.as_u64() {
        out.uint(unsigned);
    } else if let Some(signed) = number.as_i64() {
        out.int(signed);
    } else {
        out.float(number.as_f64().unwrap_or_default());
    }
}

/// Reads an object at a depth.
pub(crate) fn read_object(
    input: &mut Reader<'_>,
    registry: Registry,
    depth: usize,
) -> Result<Map<String, Value>, CborError> {
    if depth > DEPTH_MAX {
        return Err(CborError);
    }
    let mut object = Map::new();
    input.members(|input| {
        let (name, form) = if input.kind()? == Kind::Text {
            (input.text()?, Form::Any(Registry::None))
        } else {
            let key = input.uint()?;
            (registry.name(key).ok_or(CborError)?, registry.form(key))
        };
        let value = read_value(input, form, depth + 1)?;
        // A registered name that is written out would be a second key for the same member.
        if object.insert(name.to_owned(), value).is_some() { Err(CborError) } else { Ok(()) }
    })?;
    Ok(object)
}

fn read_value(input: &mut Reader<'_>, form: Form, depth: usize) -> Result<Value, CborError> {
    if depth > DEPTH_MAX {
        return Err(CborError);
    }
    Ok(match input.kind()? {
        Kind::Null => {
            input.null()?;
            Value::Null
        }
        Kind::Bool => Value::Bool(input.bool()?),
        Kind::Float => Value::Number(Number::from_f64(input.float()?).ok_or(CborError)?),
        Kind::Text => Value::String(input.text()?.to_owned()),
        Kind::Tag if !matches!(form, Form::Any(_)) => {
            if input.tag()? != compact::TAG_ID {
                return Err(CborError);
            }
            read_integer(input)?
        }
        Kind::Bytes | Kind::Tag => Value::String(compact::read_string(input)?),
        Kind::Array => {
            let count = input.array()?;
            let mut items = Vec::new();
            for _ in 0..count {
                items.push(read_value(input, Form::Any(Registry::None), depth + 1)?);
            }
            Value::Array(items)
        }
        Kind::Map => {
            let registry = if let Form::Any(registry) = form { registry } else { Registry::None };
            Value::Object(read_object(input, registry, depth)?)
        }
        Kind::Int => match form {
            Form::EventType => name(TypeCode::new(input.small()?).name())?,
            Form::Channel => name(ChannelCode::new(input.small()?).name())?,
            Form::Any(_) => read_integer(input)?,
        },
        Kind::Other => return Err(CborError),
    })
}

fn read_integer(input: &mut Reader<'_>) -> Result<Value, CborError> {
    let number = input.int()?;
    let signed = || i64::try_from(number).map(Number::from);
    u64::try_from(number).map(Number::from).or_else(|_| signed()).map(Value::Number).map_err(|_| CborError)
}

fn name(name: Option<&'static str>) -> Result<Value, CborError> {
    name.map(|name| Value::String(name.to_owned())).ok_or(CborError)
}
