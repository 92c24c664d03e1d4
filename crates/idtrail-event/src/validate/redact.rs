//! Makes a refused body fit to be kept: whatever may be raw personal data goes, everything else stays.
//!
//! What goes is what the checks of hashes and of raw personal data refuse, and more rather than less: a value that no
//! check looked at because of an earlier mistake is looked at here. In the place of a value stands its type and length
//! in characters, in the place of a member's name a number.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

use serde_json::{Map, Value, json};

use super::member::{IDS, is_hash, is_truncated_hash};
use crate::event::EVENT_MEMBER;
use crate::pii;

/// Name of the only member of what stands in the place of a value.
const REDACTED: &str = "redacted";

/// Redacts a body and returns how much was replaced.
pub(super) fn body(body: &mut Value) -> u32 {
    let mut redacted = 0;
    match body {
        Value::Object(whole) => object(whole, false, &mut redacted),
        other => any(other, &mut redacted),
    }
    redacted
}

fn object(members: &mut Map<String, Value>, in_event: bool, redacted: &mut u32) {
    let named: u32 = *redacted;
    if members.keys().any(|name| pii::find(name).is_some()) {
        let all = core::mem::take(members);
        for (name, value) in all {
            if pii::find(&name).is_some() {
                *redacted += 1;
                members.insert(format!("{REDACTED}-{}", *redacted - named), value);
            } else {
                members.insert(name, value);
            }
        }
    }
    for (name, value) in members {
        let is_event = !in_event && name == EVENT_MEMBER;
        match value {
            Value::Object(inner) => object(inner, in_event || is_event, redacted),
            value if in_event && name.ends_with("Hash") => hash(name, value, redacted),
            Value::String(text) if in_event && IDS.contains(&name.as_str()) => {
                if pii::is_contact(text).is_some() {
                    replace(value, redacted);
                }
            }
            value => any(value, redacted),
        }
    }
}

fn any(value: &mut Value, redacted: &mut u32) {
    match value {
        Value::String(text) if pii::find(text).is_some() || pii::is_contact(text).is_some() => {
            replace(value, redacted);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| any(item, redacted)),
        Value::Object(members) => object(members, true, redacted),
        _ => {}
    }
}

/// A hash that is none may be the raw value, in any type.
fn hash(name: &str, value: &mut Value, redacted: &mut u32) {
    let stays = match &*value {
        Value::Null => true,
        Value::String(text) => is_hash(text) || name == "customerIdHash" && is_truncated_hash(text),
        _ => false,
    };
    if !stays {
        replace(value, redacted);
    }
}

fn replace(value: &mut Value, redacted: &mut u32) {
    *redacted += 1;
    let (kind, length) = match &*value {
        Value::String(text) => ("string", text.chars().count()),
        Value::Number(number) => ("number", format!("{number}").len()),
        Value::Array(items) => ("array", items.len()),
        Value::Object(members) => ("object", members.len()),
        Value::Bool(_) | Value::Null => ("literal", 0),
    };
    *value = json!({ REDACTED.to_owned(): { "type": kind, "length": length } });
}
