//! The checks that an event must pass before anything is done with it.
//!
//! Every finding is a place (JSON Pointer, RFC 6901), a stable code and advice; never a value. Names of members that
//! this system does not know may hold anything, so a pointer shows such a name only if it consists of letters and
//! underscores; otherwise a `?` stands in its place.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value};

use crate::code::{Channel, EventType};
use crate::event::ValidEvent;
use crate::pii;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const ID_CHARS_MAX: usize = 256;

/// What is done with raw personal data in a free text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PiiHandling {
    /// The event is refused.
    #[default]
    Refuse,
    /// The text is replaced by `***` and the client warned.
    Mask,
}

/// The configurable part of the checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether customer ids that look like truncated hashes are refused instead of warned about.
    pub strict: bool,
    /// Event types beyond the table.
    pub custom_types: Vec<String>,
    /// What is done with raw personal data in free texts.
    pub pii: PiiHandling,
    /// How far ahead of its receipt an event's time may lie.
    pub future_limit_ms: i64,
    /// How far behind its receipt an event's time may lie before the client is warned.
    pub old_warning_ms: i64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            strict: false,
            custom_types: Vec::new(),
            pii: PiiHandling::Refuse,
            future_limit_ms: DAY_MS,
            old_warning_ms: DAY_MS,
        }
    }
}

/// One thing that is wrong with an event, or worth knowing about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where (JSON Pointer, RFC 6901).
    pub pointer: String,
    /// What, as a stable code.
    pub code: &'static str,
    /// What, in words.
    pub message: String,
    /// What to do.
    pub hint: &'static str,
}

/// Checks a body, which was received at `received_ms` (milliseconds since 1970).
///
/// # Errors
/// Everything that is wrong, in one go.
pub fn validate(mut body: Value, rules: &Rules, received_ms: i64) -> Result<ValidEvent, Vec<Finding>> {
    let mut check = Check { rules, violations: Vec::new(), warnings: Vec::new() };
    let Some(whole) = body.as_object_mut() else {
        check.violation("", "not_an_object", "the body is not a JSON object", "post {\"auditEvent\": {…}}");
        return Err(check.violations);
    };
    let Some(event) = whole.get("auditEvent").and_then(Value::as_object) else {
        let hint = "post {\"auditEvent\": {\"eventType\": …, \"timestamp\": …}}";
        check.violation("/auditEvent", "missing_event", "there is no object auditEvent", hint);
        return Err(check.violations);
    };
    let event_type = check.event_type(event);
    let event_time_ms = check.timestamp(event, received_ms);
    let channel = check.channel(event);
    check.ids(event);
    check.objects(event);
    check.by_type(event, event_type);
    check.free_texts(whole);
    if !check.violations.is_empty() {
        return Err(check.violations);
    }
    let event_type = event_type.unwrap_or(EventType::CUSTOM);
    let event_time_ms = event_time_ms.unwrap_or(received_ms);
    Ok(ValidEvent { body, event_type, channel, event_time_ms, warnings: check.warnings })
}

/// Members that hold an id, a name or a code: texts without control characters, 1 to 256 characters, or null.
const ID_MEMBERS: [&str; 12] = [
    "interactionId",
    "resolvedCustomerId",
    "resolutionSource",
    "channelType",
    "agentId",
    "agentName",
    "supervisorId",
    "staffId",
    "queueId",
    "deletionReason",
    "requestId",
    "status",
];

/// Names whose text may be shown in a pointer.
fn segment(name: &str) -> &str {
    let harmless =
        (1..=40).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if harmless { name } else { "?" }
}

struct Check<'r> {
    rules: &'r Rules,
    violations: Vec<Finding>,
    warnings: Vec<Finding>,
}

impl Check<'_> {
    fn violation(
        &mut self,
        pointer: &str,
        code: &'static str,
        message: impl Into<String>,
        hint: &'static str,
    ) {
        self.violations.push(Finding { pointer: pointer.to_owned(), code, message: message.into(), hint });
    }

    fn warning(&mut self, pointer: &str, code: &'static str, message: impl Into<String>, hint: &'static str) {
        self.warnings.push(Finding { pointer: pointer.to_owned(), code, message: message.into(), hint });
    }

    fn event_type(&mut self, event: &Map<String, Value>) -> Option<EventType> {
        const POINTER: &str = "/auditEvent/eventType";
        const HINT: &str =
            "use IDENTITY_RESOLUTION, ANONYMOUS, CONSENT_CHANGE, DATA_DELETION or a configured type";
        let Some(name) = event.get("eventType").and_then(Value::as_str) else {
            self.violation(POINTER, "missing_event_type", "the event type is missing or not a text", HINT);
            return None;
        };
        if EventType::is_reserved_name(name) {
            let message = "events of this type are written by the system only";
            self.violation(POINTER, "reserved_event_type", message, HINT);
            return None;
        }
        if let Some(known) = EventType::by_name(name) {
            return Some(known);
        }
        if self.rules.custom_types.iter().any(|custom| custom == name) {
            return Some(EventType::CUSTOM);
        }
        let hint = "use a type of the table, or add this one to validation.custom_types in the configuration";
        self.violation(POINTER, "unknown_event_type", "the event type is not known", hint);
        None
    }

    fn timestamp(&mut self, event: &Map<String, Value>, received_ms: i64) -> Option<i64> {
        const POINTER: &str = "/auditEvent/timestamp";
        const HINT: &str = "use RFC 3339 with a zone, for example 2026-01-31T14:30:00Z";
        let text = event.get("timestamp").and_then(Value::as_str);
        let Some(time) = text.and_then(parse_time) else {
            self.violation(
                POINTER,
                "invalid_timestamp",
                "the event time is missing or not an RFC 3339 time",
                HINT,
            );
            return None;
        };
        if time > received_ms.saturating_add(self.rules.future_limit_ms) {
            let message = "the event time lies more than 24 hours ahead of the receipt";
            self.violation(POINTER, "future_timestamp", message, "check the clock of the sender");
        } else if time < received_ms.saturating_sub(self.rules.old_warning_ms) {
            let message = "the event time lies more than 24 hours behind the receipt";
            self.warning(
                POINTER,
                "old_event_time",
                message,
                "nothing to do if the event was sent late on purpose",
            );
        }
        Some(time)
    }

    fn channel(&mut self, event: &Map<String, Value>) -> Channel {
        let Some(name) = event.get("channelType").and_then(Value::as_str) else { return Channel::NONE };
        let known = Channel::by_name(&name.to_ascii_uppercase()).filter(|known| *known != Channel::NONE);
        known.unwrap_or_else(|| {
            let message = "the channel is not in the table; it is kept and counted as OTHER";
            let hint = "use VOICE, CHAT, EMAIL, MESSAGE, SMS, SOCIAL, CALLBACK, VIDEO or WEB";
            self.warning("/auditEvent/channelType", "unknown_channel", message, hint);
            Channel::OTHER
        })
    }

    fn ids(&mut self, event: &Map<String, Value>) {
        for name in ID_MEMBERS {
            let Some(value) = event.get(name).filter(|value| !value.is_null()) else { continue };
            let pointer = format!("/auditEvent/{name}");
            let Some(text) = value.as_str() else {
                self.violation(
                    &pointer,
                    "wrong_type",
                    "it is neither a text nor null",
                    "send a text or null",
                );
                continue;
            };
            let chars = text.chars().count();
            if chars == 0 || chars > ID_CHARS_MAX || text.chars().any(char::is_control) {
                let message = "it is empty, longer than 256 characters or holds a control character";
                self.violation(&pointer, "invalid_id", message, "send 1 to 256 printable characters or null");
            }
            if let Some(kind) = pii::find_contact(text) {
                let hint = "send an opaque id or a keyed hash instead";
                self.violation(&pointer, "raw_pii", format!("it holds {kind} in clear"), hint);
            }
        }
        if let Some(text) = event.get("resolvedCustomerId").and_then(Value::as_str)
            && is_truncated_hash(text)
        {
            let (pointer, code) = ("/auditEvent/resolvedCustomerId", "truncated_hash");
            let message = "the customer id looks like a truncated hash; it is treated as an opaque id";
            let hint = "never truncate a hash: two customers may share what is left of it";
            if self.rules.strict {
                self.violation(pointer, code, "the customer id looks like a truncated hash", hint);
            } else {
                self.warning(pointer, code, message, hint);
            }
        }
    }

    fn objects(&mut self, event: &Map<String, Value>) {
        for (name, code) in
            [("piiContext", "invalid_pii_context"), ("complianceFlags", "invalid_compliance_flags")]
        {
            if event.get(name).is_some_and(|value| !value.is_null() && !value.is_object()) {
                let pointer = format!("/auditEvent/{name}");
                self.violation(&pointer, code, "it is neither an object nor null", "send an object or null");
            }
        }
        for (name, value) in event.get("complianceFlags").and_then(Value::as_object).into_iter().flatten() {
            if !value.is_boolean() && !value.is_null() {
                let pointer = format!("/auditEvent/complianceFlags/{}", segment(name));
                self.violation(
                    &pointer,
                    "wrong_type",
                    "a flag is neither true, false nor null",
                    "send true or false",
                );
            }
        }
    }

    fn by_type(&mut self, event: &Map<String, Value>, event_type: Option<EventType>) {
        let present = |name: &str| event.get(name).is_some_and(|value| !value.is_null());
        match event_type {
            Some(EventType::ANONYMOUS) => {
                let hint =
                    "send IDENTITY_RESOLUTION if the customer is known, else leave the identifiers out";
                if present("resolvedCustomerId") {
                    let message = "an ANONYMOUS event must not name a customer";
                    self.violation(
                        "/auditEvent/resolvedCustomerId",
                        "identifier_in_anonymous",
                        message,
                        hint,
                    );
                }
                let context = event.get("piiContext").and_then(Value::as_object);
                for (name, _) in context.into_iter().flatten().filter(|(_, value)| !value.is_null()) {
                    let pointer = format!("/auditEvent/piiContext/{}", segment(name));
                    let message = "an ANONYMOUS event must not carry an identifier";
                    self.violation(&pointer, "identifier_in_anonymous", message, hint);
                }
            }
            Some(EventType::IDENTITY_RESOLUTION) if !present("interactionId") => {
                let message = "an identification without an interaction cannot be found by interaction";
                self.warning(
                    "/auditEvent/interactionId",
                    "missing_interaction",
                    message,
                    "send the interaction's id",
                );
            }
            Some(EventType::DATA_DELETION) => {
                let status = event.get("status").and_then(Value::as_str);
                if status.is_some_and(|status| !matches!(status, "SUCCESS" | "PARTIAL" | "FAILED")) {
                    let message = "the status is not one of the three";
                    let hint = "send SUCCESS, PARTIAL or FAILED";
                    self.violation("/auditEvent/status", "unknown_status", message, hint);
                }
            }
            _ => {}
        }
    }

    /// Walks everything once: hashes wherever they are, raw personal data wherever it may hide.
    fn free_texts(&mut self, whole: &mut Map<String, Value>) {
        for (name, value) in whole {
            if name == "auditEvent" {
                let Some(event) = value.as_object_mut() else { continue };
                for (name, value) in event {
                    let typed = matches!(name.as_str(), "eventType" | "timestamp")
                        || ID_MEMBERS.contains(&name.as_str());
                    if !typed {
                        self.member("/auditEvent", name, value);
                    }
                }
            } else {
                self.member("", name, value);
            }
        }
    }

    fn member(&mut self, parent: &str, name: &str, value: &mut Value) {
        if pii::find(name).is_some() {
            let pointer = format!("{parent}/?");
            let message = "the name of a member holds personal data in clear";
            self.violation(&pointer, "raw_pii", message, "use names for members, and keyed hashes for data");
            return;
        }
        if name.ends_with("Hash") && !value.is_object() && !value.is_array() {
            self.hash(parent, name, value);
            return;
        }
        match value {
            Value::String(text) => {
                if let Some(kind) = pii::find(text) {
                    let pointer = format!("{parent}/{}", segment(name));
                    self.raw(&pointer, kind, text);
                }
            }
            Value::Array(items) => {
                let parent = format!("{parent}/{}", segment(name));
                for (position, item) in items.iter_mut().enumerate() {
                    self.item(&parent, position, item);
                }
            }
            Value::Object(members) => {
                let parent = format!("{parent}/{}", segment(name));
                for (name, value) in members {
                    self.member(&parent, name, value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn item(&mut self, parent: &str, position: usize, value: &mut Value) {
        let pointer = format!("{parent}/{position}");
        match value {
            Value::String(text) => {
                if let Some(kind) = pii::find(text) {
                    self.raw(&pointer, kind, text);
                }
            }
            Value::Array(items) => {
                for (position, item) in items.iter_mut().enumerate() {
                    self.item(&pointer, position, item);
                }
            }
            Value::Object(members) => {
                for (name, value) in members {
                    self.member(&pointer, name, value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn raw(&mut self, pointer: &str, kind: pii::Kind, text: &mut String) {
        match self.rules.pii {
            PiiHandling::Refuse => {
                let hint = "leave it out, or send a keyed hash in piiContext";
                self.violation(pointer, "raw_pii", format!("it holds {kind} in clear"), hint);
            }
            PiiHandling::Mask => {
                "***".clone_into(text);
                let message = format!("it held {kind} in clear and was replaced by ***");
                self.warning(pointer, "masked", message, "leave it out, or send a keyed hash in piiContext");
            }
        }
    }

    fn hash(&mut self, parent: &str, name: &str, value: &Value) {
        let pointer = || format!("{parent}/{}", segment(name));
        let text = match value {
            Value::Null => return,
            Value::String(text) => text.as_str(),
            _ => "",
        };
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if text.len() < 64 || !is_hex {
            let message = "a hash is neither null nor at least 64 hexadecimal digits";
            let hint = "send the whole SHA-256 or stronger keyed hash in hex; never a raw value, never a part of a hash";
            self.violation(&pointer(), "invalid_hash", message, hint);
        } else if is_well_known_digest(text) {
            let message = "the hash is that of a well-known sample text, not of an identifier";
            let hint = "replace the sample by the keyed hash of the real identifier";
            self.warning(&pointer(), "well_known_digest", message, hint);
        }
    }
}

fn parse_time(text: &str) -> Option<i64> {
    // RFC 3339 allows a space instead of the T and lower-case letters; what it does not allow is a time without zone,
    // which the parser refuses, or a zone name in brackets.
    if text.len() > 64 || text.contains('[') {
        return None;
    }
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

/// Tells whether a customer id looks like what is left of a hash: `cust_hash_` or nothing, then 8 to 63 hex digits
/// with a letter and a digit among them.
fn is_truncated_hash(id: &str) -> bool {
    let prefixed = id.strip_prefix("cust_hash_");
    let digits = prefixed.unwrap_or(id);
    let hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if prefixed.is_some() {
        return digits.len() < 64;
    }
    // A bare number is an account number at most places, and a word of letters a–f may be a name.
    let mixed = digits.bytes().any(|byte| byte.is_ascii_digit())
        && digits.bytes().any(|byte| byte.is_ascii_alphabetic());
    hex && mixed && (8..64).contains(&digits.len())
}

/// Digests of texts that stand in manuals and tutorials: SHA-256 of "Hello World", "password", "test" and nothing, and
/// SHA-512 of "password", whole and cut to 64 digits.
fn is_well_known_digest(hex: &str) -> bool {
    const DIGESTS: [&str; 5] = [
        "a591a6d40bf420404a011733cfb7b190d62c65bf0bcda32b57b277d9ad9f146e",
        "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "b109f3bbbc244eb82441917ed06d618b9008dd09b3befd1b5e07394c706a8bb9",
    ];
    hex.get(..64).is_some_and(|start| DIGESTS.iter().any(|digest| start.eq_ignore_ascii_case(digest)))
}
