//! What a person takes along (Art. 20): what they provided or what was observed of their contacts, machine-readable.
//!
//! What we concluded ourselves (who is who, how sure, by which rule) and what is about how we work (staff, queues) is no
//! such thing. It is left out by name, so that a member nobody thought of is given rather than kept back.

use serde_json::{Map, Value};

/// Types of events that say what we concluded or did, not what the person provided.
const CONCLUDED: [&str; 8] = [
    "DATA_DELETION",
    "DATA_ACCESS",
    "IDENTITY_MERGE",
    "IDENTITY_SPLIT",
    "IDENTITY_CONFLICT",
    "IDENTIFIER_STATE",
    "IDENTITY_PROMOTION",
    "STEWARD_ASSERTION",
];

/// Members of an event that are likewise ours.
const OURS: [&str; 9] = [
    "resolvedCustomerId",
    "resolutionSource",
    "identity",
    "rulesetVersion",
    "confidenceScore",
    "agentId",
    "supervisorId",
    "staffId",
    "queueId",
];

/// Returns the part of an event that the person takes along; `None` if it is nothing that they provided.
pub fn provided(event: &Map<String, Value>) -> Option<Map<String, Value>> {
    let event_type = event.get("eventType").and_then(Value::as_str).unwrap_or_default();
    if CONCLUDED.contains(&event_type) {
        return None;
    }
    let theirs = event.iter().filter(|(name, _)| !OURS.contains(&name.as_str()));
    Some(theirs.map(|(name, value)| (name.clone(), value.clone())).collect())
}
