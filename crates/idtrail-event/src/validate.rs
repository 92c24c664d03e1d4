//! The checks that an event must pass before anything is done with it.
//!
//! Every finding is a place (JSON Pointer, RFC 6901), a stable code and advice; never a value. Names of members may hold
//! anything too, so a pointer shows a name only if it consists of at most 40 letters and underscores; otherwise a `?`
//! stands in its place. The body itself is kept as received, except where raw personal data is masked by configuration.
//! Rules for the members themselves are in [`member`]; this file walks the body.

mod member;
mod redact;

#[cfg(test)]
pub(crate) use member::IDS;
pub(crate) use member::{is_truncated_hash, plain_hash, plain_id, plain_words};

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::code::{ChannelCode, TypeCode};
use crate::event::{EVENT_MEMBER, ValidEvent};
use crate::pii;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// A body full of mistakes needs no longer answer than this.
const FINDINGS_MAX: usize = 64;

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
    /// What is done with raw personal data in free texts. In ids, hashes and names of members it is always refused.
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

/// One thing that is wrong with an event, or worth knowing about it. Holds no value of the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where (JSON Pointer, RFC 6901).
    pub pointer: String,
    /// What, as a stable code.
    pub code: &'static str,
    /// What, in words.
    pub message: &'static str,
    /// What to do.
    pub hint: &'static str,
}

/// Why an event is refused.
pub type Violation = Finding;
/// What a client should know although its event was accepted.
pub type Warning = Finding;

/// An event that is refused, as it may be kept until somebody corrects it.
#[derive(Clone, PartialEq)]
pub struct Rejected {
    /// Everything that is wrong, in one go; at most 64 violations.
    pub violations: Vec<Violation>,
    /// The body, in which whatever may be raw personal data was replaced by its type and length.
    pub body: Value,
    /// How many values and names were replaced.
    pub redacted: u32,
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected").field("violations", &self.violations).finish_non_exhaustive()
    }
}

/// Checks a body, which was received at `received_ms` (milliseconds since 1970).
///
/// # Errors
/// Everything that is wrong, in one go; at most 64 violations.
pub fn validate(body: Value, rules: &Rules, received_ms: i64) -> Result<ValidEvent, Vec<Violation>> {
    check(body, rules, received_ms).map_err(|rejected| rejected.violations)
}

/// As [`validate`], but a refused body comes back, fit to be kept: values that were refused because they may be raw
/// personal data are replaced, all others stay, so that the event is whole when the rules have changed.
///
/// # Errors
/// [`Rejected`].
pub fn check(mut body: Value, rules: &Rules, received_ms: i64) -> Result<ValidEvent, Box<Rejected>> {
    let mut check = Check {
        rules,
        received_ms,
        event_type: None,
        channel: ChannelCode::NONE,
        event_time_ms: None,
        in_event: false,
        violations: Vec::new(),
        warnings: Vec::new(),
    };
    check.body(&mut body);
    match (check.violations.is_empty(), check.event_type, check.event_time_ms) {
        (true, Some(event_type), Some(event_time_ms)) => {
            let Check { channel, warnings, .. } = check;
            Ok(ValidEvent { body, event_type, channel, event_time_ms, warnings })
        }
        _ => {
            let violations = check.violations;
            let redacted = redact::body(&mut body);
            Err(Box::new(Rejected { violations, body, redacted }))
        }
    }
}

/// Where in the body: a list through the callers' frames, so that a path costs nothing until it is shown.
#[derive(Clone, Copy)]
enum Path<'p> {
    Root,
    Name(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Name(parent, name) => {
                let harmless = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
                let shown = (1..=40).contains(&name.len()) && name.bytes().all(harmless);
                write!(f, "{parent}/{}", if shown { name } else { "?" })
            }
            Path::Index(parent, index) => write!(f, "{parent}/{index}"),
        }
    }
}

const EVENT_PATH: Path<'static> = Path::Name(&Path::Root, EVENT_MEMBER);

struct Check<'r> {
    rules: &'r Rules,
    received_ms: i64,
    event_type: Option<TypeCode>,
    channel: ChannelCode,
    event_time_ms: Option<i64>,
    /// Whether the walk is inside `auditEvent`, where members named `…Hash` are hashes.
    in_event: bool,
    violations: Vec<Violation>,
    warnings: Vec<Warning>,
}

impl Check<'_> {
    fn violation(&mut self, path: &Path<'_>, code: &'static str, message: &'static str, hint: &'static str) {
        if self.violations.len() < FINDINGS_MAX {
            self.violations.push(Finding { pointer: path.to_string(), code, message, hint });
        }
    }

    fn warning(&mut self, path: &Path<'_>, code: &'static str, message: &'static str, hint: &'static str) {
        if self.warnings.len() < FINDINGS_MAX {
            self.warnings.push(Finding { pointer: path.to_string(), code, message, hint });
        }
    }

    fn body(&mut self, body: &mut Value) {
        const HINT: &str = "post {\"auditEvent\": {\"eventType\": …, \"timestamp\": …}}";
        let Some(whole) = body.as_object_mut() else {
            return self.violation(&Path::Root, "not_an_object", "the body is not a JSON object", HINT);
        };
        let Some(event) = whole.get_mut(EVENT_MEMBER).and_then(Value::as_object_mut) else {
            return self.violation(&EVENT_PATH, "missing_event", "there is no object auditEvent", HINT);
        };
        self.event(event);
        if whole.len() > 1 {
            for (name, value) in whole.iter_mut().filter(|(name, _)| *name != EVENT_MEMBER) {
                self.member(&Path::Root, name, value);
            }
        }
    }

    fn event(&mut self, event: &mut Map<String, Value>) {
        self.in_event = true;
        // First the type: what the other members may be depends on it.
        self.event_type(event.get("eventType"));
        let (mut has_time, mut has_interaction) = (false, false);
        for (name, value) in event.iter_mut() {
            has_time |= name == "timestamp";
            has_interaction |= name == "interactionId" && !value.is_null();
            self.event_member(name, value);
        }
        if !has_time {
            self.timestamp(&Value::Null);
        }
        if self.event_type == Some(TypeCode::IDENTITY_RESOLUTION) && !has_interaction {
            let path = Path::Name(&EVENT_PATH, "interactionId");
            let message = "an identification without an interaction cannot be found by interaction";
            self.warning(&path, "missing_interaction", message, "send the interaction's id");
        }
        self.in_event = false;
    }

    /// Checks a member that no rule is about: its name, and whatever is in it.
    fn member(&mut self, parent: &Path<'_>, name: &str, value: &mut Value) {
        let path = Path::Name(parent, name);
        if pii::find(name).is_some() {
            let message = "the name of a member holds personal data in clear";
            let hint = "use fixed words as names, and keyed hashes for data";
            return self.violation(&Path::Name(parent, "?"), "raw_pii", message, hint);
        }
        if self.in_event && name.ends_with("Hash") {
            return self.hash(&path, name, value);
        }
        self.any(&path, value);
    }

    fn any(&mut self, path: &Path<'_>, value: &mut Value) {
        match value {
            Value::String(text) => self.free_text(path, text),
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.any(&Path::Index(path, index), item);
                }
            }
            Value::Object(members) => {
                for (name, value) in members {
                    self.member(path, name, value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn free_text(&mut self, path: &Path<'_>, text: &mut String) {
        let Some(kind) = pii::find(text) else { return };
        let hint = "leave it out, or send a keyed hash in piiContext";
        match self.rules.pii {
            PiiHandling::Refuse => self.violation(path, "raw_pii", kind.found(), hint),
            PiiHandling::Mask => {
                "***".clone_into(text);
                self.warning(path, "masked", kind.masked(), hint);
            }
        }
    }
}
