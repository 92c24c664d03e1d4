//! The DATA_DELETION leaves of an erasure: one for each interaction and system.
//!
//! They keep the members that a client's DATA_DELETION has, but name nobody: the customer is the request's random reference,
//! the interaction an HMAC under the request's nonce. `status` is SUCCESS only where the system was asked again and had
//! nothing; what a person attests or what stays with a basis is PARTIAL.

use idtrail_verify::time_text;
use serde_json::{Map, Value, json};

use crate::case::Case;
use crate::id::{Digest, ItemName, Nonce};
use crate::item::Status;

/// One leaf that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Deletion {
    /// The key under which the log takes it once, however often it is written.
    pub append_key: Digest,
    /// The event: the members of `auditEvent`.
    pub event: Map<String, Value>,
}

/// Returns the leaf about one interaction in the system of an item; `None` if there is no such item or none is due.
/// `at_ms` is when the effect began, so that a repetition makes the same leaf.
pub fn deletion(
    case: &Case,
    nonce: &Nonce,
    item: &ItemName,
    interaction_id: &str,
    at_ms: u64,
) -> Option<Deletion> {
    let item = case.items.get(item)?;
    let status = case.status(item);
    let result = match status {
        Status::VerifiedAbsent => "SUCCESS",
        Status::ManualAttested | Status::Exempt(_) => "PARTIAL",
        _ => return None,
    };
    let interaction = nonce.interaction(interaction_id);
    let name = item.plan.item.as_str();
    let parts: [&[u8]; 3] = [case.request.as_str().as_bytes(), name.as_bytes(), interaction.as_bytes()];
    let append_key = Digest::of("idtrail/rights/deletion/v1", &parts);
    let mut event = json!({
        "eventType": "DATA_DELETION",
        "timestamp": time_text(at_ms),
        "interactionId": interaction,
        "resolvedCustomerId": case.received.subject_ref,
        "deletionReason": "RTBF_REQUEST",
        "requestId": case.request,
        "status": result,
        "system": item.plan.system,
        "item": item.plan.item,
        "taskStatus": status.name(),
    });
    let members = event.as_object_mut()?;
    if let Some(reason) = status.reason() {
        members.insert("taskReason".to_owned(), json!(reason));
    }
    if let Some(evidence) = item.evidence {
        members.insert("evidenceHash".to_owned(), json!(evidence));
    }
    Some(Deletion { append_key, event: std::mem::take(members) })
}

/// Returns the hash of a list of leaves, in the order of their keys: what the effect that writes them ends with.
pub fn deletions_hash(append_keys: &[Digest]) -> Digest {
    let mut sorted: Vec<&Digest> = append_keys.iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let parts: Vec<&[u8]> = sorted.into_iter().map(|key| &key.as_bytes()[..]).collect();
    Digest::of("idtrail/rights/deletions/v1", &parts)
}
