//! What the known members of an event may be.

use serde_json::Value;

use super::{Check, EVENT_PATH, Path};
use crate::code::{ChannelCode, TypeCode};
use crate::{pii, time};

/// Members that hold an opaque id: a bare number may be one.
pub(crate) const IDS: [&str; 7] =
    ["resolvedCustomerId", "interactionId", "agentId", "supervisorId", "staffId", "queueId", "requestId"];

const TEXT_CHARS_MAX: usize = 256;

/// What a known text is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    /// An opaque id: a bare number may be one.
    Id,
    /// A word, a code or a name.
    Words,
}

impl Check<'_> {
    /// Checks one member of `auditEvent`.
    pub(super) fn event_member(&mut self, name: &str, value: &mut Value) {
        let path = Path::Name(&EVENT_PATH, name);
        match name {
            "eventType" => {}
            "timestamp" => self.timestamp(value),
            "channelType" => {
                self.text(&path, value, Text::Words);
                self.channel(&path, value);
            }
            "resolvedCustomerId" => {
                self.text(&path, value, Text::Id);
                self.customer_id(&path, value);
            }
            "interactionId" | "agentId" | "supervisorId" | "staffId" | "queueId" | "requestId" => {
                self.text(&path, value, Text::Id);
            }
            "resolutionSource" | "deletionReason" | "agentName" => self.text(&path, value, Text::Words),
            "status" => {
                self.text(&path, value, Text::Words);
                self.status(&path, value);
            }
            "piiContext" => self.pii_context(&path, value),
            "complianceFlags" => self.compliance_flags(&path, value),
            _ => self.member(&EVENT_PATH, name, value),
        }
    }

    pub(super) fn event_type(&mut self, value: Option<&Value>) {
        let path = Path::Name(&EVENT_PATH, "eventType");
        let hint = "use IDENTITY_RESOLUTION, ANONYMOUS, CONSENT_CHANGE, DATA_DELETION or a configured type";
        let Some(name) = value.and_then(Value::as_str) else {
            let message = "the event type is missing or not a text";
            return self.violation(&path, "missing_event_type", message, hint);
        };
        if TypeCode::is_reserved_name(name) {
            let message = "events of this type are written by the system only";
            return self.violation(&path, "reserved_event_type", message, hint);
        }
        let custom =
            || self.rules.custom_types.iter().any(|custom| custom == name).then_some(TypeCode::CUSTOM);
        self.event_type = TypeCode::by_name(name).or_else(custom);
        if self.event_type.is_none() {
            self.violation(&path, "unknown_event_type", "the event type is not known", hint);
        }
    }

    pub(super) fn timestamp(&mut self, value: &Value) {
        let path = Path::Name(&EVENT_PATH, "timestamp");
        self.event_time_ms = value.as_str().and_then(time::parse_rfc3339);
        let Some(time) = self.event_time_ms else {
            let message = "the event time is missing or not an RFC 3339 time";
            let hint = "use RFC 3339 with a zone, for example 2026-01-31T14:30:00Z";
            return self.violation(&path, "invalid_timestamp", message, hint);
        };
        if time > self.received_ms.saturating_add(self.rules.future_limit_ms) {
            let message = "the event time lies further ahead of the receipt than allowed";
            self.violation(&path, "future_timestamp", message, "check the clock of the sender");
        } else if time < self.received_ms.saturating_sub(self.rules.old_warning_ms) {
            let message = "the event time lies far behind the receipt";
            self.warning(
                &path,
                "old_event_time",
                message,
                "nothing to do if the event was sent late on purpose",
            );
        }
    }

    fn text(&mut self, path: &Path<'_>, value: &mut Value, text: Text) {
        let content = match value {
            Value::Null => return,
            Value::String(content) => content,
            _ => {
                return self.violation(
                    path,
                    "wrong_type",
                    "it is neither a text nor null",
                    "send a text or null",
                );
            }
        };
        if !is_printable(content) {
            let message = "it is empty, longer than 256 characters, or holds a control character";
            self.violation(path, "invalid_text", message, "send 1 to 256 printable characters or null");
        }
        match text {
            Text::Words => self.free_text(path, content),
            Text::Id => {
                if let Some(kind) = pii::is_contact(content) {
                    let hint = "send an opaque id or a keyed hash instead";
                    self.violation(path, "raw_pii", kind.found(), hint);
                }
            }
        }
    }

    fn channel(&mut self, path: &Path<'_>, value: &Value) {
        let Some(name) = value.as_str() else { return };
        let known = ChannelCode::by_name(name).or_else(|| ChannelCode::by_name(&name.to_ascii_uppercase()));
        self.channel = known.filter(|known| *known != ChannelCode::NONE).unwrap_or(ChannelCode::OTHER);
        if self.channel == ChannelCode::OTHER {
            let message = "the channel is not in the table; it is kept and counted as OTHER";
            let hint = "use VOICE, CHAT, EMAIL, MESSAGE, SMS, SOCIAL, CALLBACK, VIDEO or WEB";
            self.warning(path, "unknown_channel", message, hint);
        }
    }

    fn customer_id(&mut self, path: &Path<'_>, value: &Value) {
        let Some(id) = value.as_str() else { return };
        self.no_identifier_in_anonymous(path);
        if is_truncated_hash(id) {
            self.truncated(path);
        }
    }

    fn truncated(&mut self, path: &Path<'_>) {
        let hint = "never truncate a hash: two customers may share what is left of it";
        if self.rules.strict {
            let message = "the customer id looks like a truncated hash";
            self.violation(path, "truncated_hash", message, hint);
        } else {
            let message = "the customer id looks like a truncated hash; it is treated as an opaque id";
            self.warning(path, "truncated_hash", message, hint);
        }
    }

    fn no_identifier_in_anonymous(&mut self, path: &Path<'_>) {
        if self.event_type == Some(TypeCode::ANONYMOUS) {
            let message = "an ANONYMOUS event must not carry an identifier";
            let hint = "send IDENTITY_RESOLUTION if the customer is known, else leave the identifiers out";
            self.violation(path, "identifier_in_anonymous", message, hint);
        }
    }

    fn status(&mut self, path: &Path<'_>, value: &Value) {
        let of_deletion = self.event_type == Some(TypeCode::DATA_DELETION);
        if of_deletion
            && value.as_str().is_some_and(|status| !matches!(status, "SUCCESS" | "PARTIAL" | "FAILED"))
        {
            let message = "the status of a deletion is not one of the three";
            self.violation(path, "unknown_status", message, "send SUCCESS, PARTIAL or FAILED");
        }
    }

    fn pii_context(&mut self, path: &Path<'_>, value: &mut Value) {
        if !value.is_null() && !value.is_object() {
            return self.violation(
                path,
                "wrong_type",
                "it is neither an object nor null",
                "send an object or null",
            );
        }
        self.any(path, value);
    }

    fn compliance_flags(&mut self, path: &Path<'_>, value: &mut Value) {
        let flags = match value {
            Value::Null => return,
            Value::Object(flags) => flags,
            _ => {
                let message = "it is neither an object nor null";
                return self.violation(path, "wrong_type", message, "send an object or null");
            }
        };
        for (name, flag) in flags {
            if flag.is_boolean() || flag.is_null() {
                self.member(path, name, flag);
            } else {
                let message = "a flag is neither true, false nor null";
                self.violation(&Path::Name(path, name), "wrong_type", message, "send true or false");
            }
        }
    }

    /// Checks a member named `…Hash`. What is refused here, [`is_hash`] does not accept.
    pub(super) fn hash(&mut self, path: &Path<'_>, name: &str, value: &Value) {
        let text = match value {
            Value::Null => return,
            Value::String(text) => text.as_str(),
            _ => "",
        };
        self.no_identifier_in_anonymous(path);
        if is_hash(text) {
            if is_well_known_digest(text) {
                let message = "the hash is that of a well-known sample text, not of an identifier";
                let hint = "replace the sample by the keyed hash of the real identifier";
                self.warning(path, "well_known_digest", message, hint);
            }
        } else if name == "customerIdHash" && is_truncated_hash(text) {
            self.truncated(path);
        } else {
            let message = "a hash is neither null nor at least 64 hexadecimal digits";
            let hint = "send a whole keyed SHA-256 or stronger in hex; never a raw value or a part of a hash";
            self.violation(path, "invalid_hash", message, hint);
        }
    }
}

/// Tells whether nothing is wrong with an opaque id.
pub(crate) fn plain_id(text: &str) -> bool {
    is_printable(text) && pii::is_contact(text).is_none()
}

/// Tells whether nothing is wrong with a word, a code or a name.
pub(crate) fn plain_words(text: &str) -> bool {
    is_printable(text) && pii::find(text).is_none()
}

/// Tells whether nothing is wrong with a hash, and it is not that of a sample.
pub(crate) fn plain_hash(text: &str) -> bool {
    is_hash(text) && !is_well_known_digest(text)
}

/// Tells whether a text has 1 to 256 characters and no control character among them.
fn is_printable(text: &str) -> bool {
    // Bytes first: only long texts and those beyond ASCII need their characters counted.
    let too_long = text.len() > TEXT_CHARS_MAX && text.chars().count() > TEXT_CHARS_MAX;
    !text.is_empty() && !too_long && !has_control(text)
}

/// Tells whether a text holds a control character. One pass without branches is enough for nearly all texts.
fn has_control(text: &str) -> bool {
    let plain = text.bytes().fold(true, |plain, byte| plain & (0x20..0x7f).contains(&byte));
    !plain && text.chars().any(char::is_control)
}

/// Tells whether a text is a whole hash: 64 or more hex digits. Without branches, as nearly all are.
pub(super) fn is_hash(text: &str) -> bool {
    text.len() >= 64 && text.bytes().fold(true, |hex, byte| hex & byte.is_ascii_hexdigit())
}

/// Tells whether a customer id looks like what is left of a hash: `cust_hash_` and less than 64 hex digits, or 8 to 63
/// bare hex digits with letters and digits among them (a bare number is an account number, a word may be a name).
pub(crate) fn is_truncated_hash(id: &str) -> bool {
    let prefixed = id.strip_prefix("cust_hash_");
    let digits = prefixed.unwrap_or(id);
    if digits.is_empty() || digits.len() >= 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return false;
    }
    let mixed = || {
        digits.bytes().any(|byte| byte.is_ascii_digit()) && !digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    prefixed.is_some() || digits.len() >= 8 && mixed()
}

/// Tells whether hex digits are the digest of a text from manuals and tutorials: SHA-256 of "Hello World", "password",
/// "test" and nothing, SHA-512 of "password" and nothing, these two whole or cut to 64 digits.
fn is_well_known_digest(hex: &str) -> bool {
    const DIGESTS: [&str; 6] = [
        "a591a6d40bf420404a011733cfb7b190d62c65bf0bcda32b57b277d9ad9f146e",
        "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "b109f3bbbc244eb82441917ed06d618b9008dd09b3befd1b5e07394c706a8bb9",
        "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce",
    ];
    hex.get(..64).is_some_and(|start| DIGESTS.iter().any(|digest| start.eq_ignore_ascii_case(digest)))
}
