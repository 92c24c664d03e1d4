//! What an event comes in: bare, as a CloudEvent 1.0 (binary, structured or batched mode of its HTTP binding), or in an
//! envelope of Amazon EventBridge.
//!
//! The event itself comes out, with the id by which a repetition is recognised. What the envelope says beside it
//! stands in the body's member `cloudEvent` or `eventBridge`, so that nothing is lost; only what changes from one
//! delivery to the next (trace contexts) is left out, or a repetition would look like another event.

use data_encoding::BASE64;
use http::HeaderMap;
use idtrail_event::{Dedupe, DedupeKind, JsonLimits, SourceCode, parse_json};
use serde_json::{Map, Value};

use super::body;
use crate::problem::{FieldError, Problem};

/// Member of the body that holds what a CloudEvent says beside its data.
const CLOUD_EVENT_MEMBER: &str = "cloudEvent";
/// Member of the body that holds what an EventBridge envelope says beside its detail.
const EVENT_BRIDGE_MEMBER: &str = "eventBridge";
/// Attributes that are not kept: they stand elsewhere, or differ between two deliveries of one event.
const NOT_KEPT: [&str; 9] = [
    "specversion",
    "id",
    "source",
    "data",
    "data_base64",
    "datacontenttype",
    "traceparent",
    "tracestate",
    "recordedtime",
];
/// The longest attribute in bytes.
const ATTRIBUTE_BYTES_MAX: usize = 1024;

/// An event as it came, out of its envelope, not checked yet.
pub(crate) struct Incoming {
    /// The body: `auditEvent` and what stood beside it.
    pub(crate) body: Value,
    /// The kind of entry point.
    pub(crate) source: SourceCode,
    /// By what a repetition is recognised.
    pub(crate) dedupe: Dedupe<'static>,
}

impl Incoming {
    /// Takes the one event of a request; a CloudEvent in binary mode has its attributes in the headers.
    ///
    /// # Errors
    /// 400 or 422.
    pub(crate) fn of_request(headers: &HeaderMap, media: &str, value: Value) -> Result<Self, Problem> {
        if media != body::JSON || Self::is_bare(headers, media) {
            return Self::of_item(media, value);
        }
        binary(headers, value)
    }

    /// Tells whether a request may hold an event in no envelope, as far as its headers say: then an object with the one
    /// member `auditEvent` is one.
    pub(crate) fn is_bare(headers: &HeaderMap, media: &str) -> bool {
        media == body::JSON && !headers.contains_key("ce-specversion")
    }

    /// Tells whether there is an envelope around the event.
    pub(crate) fn is_enveloped(media: &str, value: &Value) -> bool {
        media == body::CLOUD_EVENT || media == body::CLOUD_EVENTS || is_event_bridge(value)
    }

    /// Takes one event of a request that may hold more.
    ///
    /// # Errors
    /// 422.
    pub(crate) fn of_item(media: &str, value: Value) -> Result<Self, Problem> {
        let is_event_bridge = is_event_bridge(&value);
        match value {
            Value::Object(members) if media == body::CLOUD_EVENT || media == body::CLOUD_EVENTS => {
                structured(members)
            }
            Value::Object(members) if is_event_bridge => event_bridge(members),
            body => Ok(Self { body, source: SourceCode::API, dedupe: Dedupe::CONTENT }),
        }
    }
}

fn is_event_bridge(value: &Value) -> bool {
    value.get("detail-type").is_some() && value.get("auditEvent").is_none()
}

fn invalid(pointer: &str, message: &'static str, hint: &'static str) -> Problem {
    Problem::invalid(vec![FieldError::new(pointer, "invalid_envelope", message, hint)])
}

/// Returns a required attribute.
fn attribute(members: &Map<String, Value>, name: &'static str) -> Result<String, Problem> {
    let text = members.get(name).and_then(Value::as_str);
    match text.filter(|text| (1..=ATTRIBUTE_BYTES_MAX).contains(&text.len())) {
        Some(text) => Ok(text.to_owned()),
        None => Err(invalid(
            &format!("/{name}"),
            "the attribute is missing, empty, too long or not a text",
            "CloudEvents need specversion 1.0, id, source and type; EventBridge events need an id",
        )),
    }
}

fn structured(mut members: Map<String, Value>) -> Result<Incoming, Problem> {
    if attribute(&members, "specversion")? != "1.0" {
        return Err(invalid("/specversion", "the version is not known", "send CloudEvents 1.0"));
    }
    let data = match (members.remove("data"), members.remove("data_base64")) {
        (Some(data), None) => data,
        (None, Some(Value::String(encoded))) => {
            let bytes = BASE64.decode(encoded.as_bytes()).ok();
            let parsed = bytes.and_then(|bytes| parse_json(&bytes, JsonLimits::EVENT).ok());
            parsed.ok_or_else(|| invalid("/data_base64", "it is no base64 of JSON", "send data as JSON"))?
        }
        _ => return Err(invalid("/data", "there is no data", "send the event as data, in JSON")),
    };
    cloud_event(members, data)
}

fn binary(headers: &HeaderMap, data: Value) -> Result<Incoming, Problem> {
    let mut members = Map::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
        let text = value.to_str().ok().filter(|text| text.len() <= 3 * ATTRIBUTE_BYTES_MAX).and_then(decoded);
        let Some(text) = text else {
            return Err(Problem::malformed_request("a ce- header is too long or not percent-encoded UTF-8"));
        };
        if members.insert(name.to_owned(), Value::String(text)).is_some() {
            return Err(Problem::malformed_request("a ce- header stands there twice"));
        }
    }
    if members.get("specversion").and_then(Value::as_str) != Some("1.0") {
        return Err(Problem::malformed_request("the header ce-specversion must be 1.0"));
    }
    cloud_event(members, data)
}

/// Undoes the percent-encoding of header values (CloudEvents HTTP binding 1.0.2, §3.1.3.2).
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

fn cloud_event(members: Map<String, Value>, data: Value) -> Result<Incoming, Problem> {
    let (id, source) = (attribute(&members, "id")?, attribute(&members, "source")?);
    attribute(&members, "type")?;
    let kept: Map<_, _> =
        members.into_iter().filter(|(name, _)| !NOT_KEPT.contains(&name.as_str())).collect();
    // CloudEvents have no others, and what is moved deeper must not become too deep.
    if kept.values().any(|value| value.is_object() || value.is_array()) {
        return Err(invalid(
            "",
            "an attribute is an object or a list",
            "attributes are texts, numbers, booleans",
        ));
    }
    let body = beside(data, CLOUD_EVENT_MEMBER, kept)?;
    let dedupe = Dedupe::cloud_event(&source, &id);
    Ok(Incoming { body, source: SourceCode::CLOUDEVENTS, dedupe })
}

fn event_bridge(mut members: Map<String, Value>) -> Result<Incoming, Problem> {
    let id = attribute(&members, "id")?;
    let detail = members.remove("detail").unwrap_or_default();
    members.remove("id");
    members.remove("version");
    let is_flat = |value: &Value| match value {
        Value::Object(_) => false,
        Value::Array(items) => !items.iter().any(|item| item.is_object() || item.is_array()),
        _ => true,
    };
    if !members.values().all(is_flat) {
        return Err(invalid("", "a member of the envelope is nested", "send what EventBridge sends"));
    }
    let body = beside(detail, EVENT_BRIDGE_MEMBER, members)?;
    let dedupe = Dedupe::text(DedupeKind::EVENT_BRIDGE, &id).into_owned();
    Ok(Incoming { body, source: SourceCode::EVENTBRIDGE, dedupe })
}

/// Puts what an envelope says beside the event.
fn beside(mut body: Value, name: &'static str, envelope: Map<String, Value>) -> Result<Value, Problem> {
    if let Value::Object(members) = &mut body {
        if members.contains_key(name) {
            let message = "the member has the name under which the envelope is kept";
            return Err(invalid(&format!("/{name}"), message, "give it another name"));
        }
        members.insert(name.to_owned(), Value::Object(envelope));
    }
    Ok(body)
}
