//! The check of one event: from the bytes of the leaf to every member that is shown.
//!
//! The order is that of trust. The leaf's bytes are hashed, the hash is proved to be in the signed tree, the
//! key is compared with the commitment in the leaf, and only then is anything opened and compared with what
//! the file shows. What is compared is the whole event that the leaf makes, so no shown member stands
//! unchecked.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use idtrail_event::{Leaf, LeafError, LeafKey};
use idtrail_tlog::{Checkpoint, Hash, LogIndex, leaf_hash, verify_inclusion};
use serde_json::{Map, Value};

use crate::package::{EvidenceEvent, Package, StaffState};
use crate::report::Problem;

/// What is known about the logs of a package: the tree that was signed, or `None` for a log without a pinned
/// key.
pub(crate) type Trees = BTreeMap<String, Option<Checkpoint>>;

/// How far an event could be checked.
pub(crate) enum Checked {
    /// Everything holds; its place in the sequence of this customer's events.
    Opened {
        /// The id of the customer that the event names.
        subject: String,
        /// How many events of the customer came before.
        subject_sequence: u64,
    },
    /// Its log has no pinned key; nothing about it was checked.
    NotPinned,
}

/// Checks an event.
pub(crate) fn check(event: &EvidenceEvent, package: &Package, trees: &Trees) -> Result<Checked, Problem> {
    let problem = check_inner(event, package, trees);
    problem.map_err(|problem| {
        let text = format!("event {} of {}: {}", event.index, event.origin, problem.text);
        Problem { text, ..problem }.at(&event.origin, event.index)
    })
}

fn check_inner(event: &EvidenceEvent, package: &Package, trees: &Trees) -> Result<Checked, Problem> {
    let Some(tree) = trees.get(&event.origin) else {
        return Err(Problem::tampered("its log is not among those that the answer was read from"));
    };
    let Some(tree) = tree else { return Ok(Checked::NotPinned) };
    let bytes = STANDARD.decode(&event.leaf).map_err(|_| Problem::tampered("its leaf is not base64"))?;
    included(event, &bytes, tree)?;
    let leaf = Leaf::parse(&bytes).map_err(|error| match error {
        LeafError::Version(_) => {
            Problem::incomplete("its leaf has a version that this program does not know")
        }
        _ => Problem::tampered("its leaf is not in the form that the format allows"),
    })?;
    let Some(key) = &event.keys.event else {
        return Err(Problem::incomplete("its key is not in the file, so what it shows cannot be checked"));
    };
    let mut open = leaf.open(&key_of(key)?).map_err(|error| opening(error, "the event"))?;
    let staff = open.staff_iv().map_err(|error| opening(error, "the staff section"))?;
    match (&event.keys.staff, staff) {
        (Some(key), Some(_)) => {
            open.open_staff(&key_of(key)?).map_err(|error| opening(error, "the staff section"))?;
        }
        (Some(_), None) => return Err(Problem::tampered("it has a staff key but no staff section")),
        (None, _) => {}
    }
    let subject = open.subject.map(|subject| subject.to_string());
    let is_theirs = package.customer.as_ref().zip(subject.as_ref()).is_some_and(|(customer, subject)| {
        customer.global_customer_id == *subject || customer.aliases.contains(subject)
    });
    let Some(subject) = subject.filter(|_| is_theirs) else {
        return Err(Problem::tampered("it is about another customer than the answer"));
    };
    let index = LogIndex::new(event.index);
    let sealed = EvidenceEvent::new(&event.origin, index, &bytes, &open, event.keys.clone(), &[]);
    compare(event, &sealed)?;
    Ok(Checked::Opened { subject, subject_sequence: open.subject_sequence })
}

fn included(event: &EvidenceEvent, bytes: &[u8], tree: &Checkpoint) -> Result<(), Problem> {
    let hash = leaf_hash(bytes);
    if Hash::from_hex(&event.leaf_hash) != Some(hash) {
        let shown: String = event.leaf_hash.chars().take(8).collect();
        let text = format!("its bytes hash to {:.8}…, the file says {shown}…", hash.to_string());
        return Err(Problem::tampered(text));
    }
    let proof: Option<Vec<Hash>> = event.proof.iter().map(|hash| Hash::from_base64(hash)).collect();
    let proof = proof.ok_or_else(|| Problem::tampered("its proof holds something that is no hash"))?;
    verify_inclusion(LogIndex::new(event.index), tree.size, &hash, &proof, &tree.root)
        .map_err(|error| Problem::tampered(format!("it is not proved to be in the signed tree: {error}")))
}

fn key_of(text: &str) -> Result<LeafKey, Problem> {
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(LeafKey::new).ok_or_else(|| Problem::tampered("a key is not 32 bytes in base64"))
}

fn opening(error: LeafError, what: &str) -> Problem {
    match error {
        LeafError::WrongKey => {
            Problem::tampered(format!("the key of {what} is not the one that the leaf names"))
        }
        LeafError::Version(_) => {
            Problem::incomplete(format!("{what} has a version that this program does not know"))
        }
        _ => Problem::tampered(format!("{what} does not open to what the format allows")),
    }
}

/// Compares what is shown with what was sealed, member by member, and names the first that differs.
fn compare(shown: &EvidenceEvent, sealed: &EvidenceEvent) -> Result<(), Problem> {
    let differs = |member: &str| Err(Problem::tampered(format!("{member} differs from what was sealed")));
    let texts = [
        ("receivedAt", &shown.received_at, &sealed.received_at),
        ("eventId", &shown.event_id, &sealed.event_id),
        ("source", &shown.source, &sealed.source),
        ("system", &shown.system, &sealed.system),
    ];
    if let Some((member, _, _)) = texts.iter().find(|(_, shown, sealed)| shown != sealed) {
        return differs(member);
    }
    if shown.staff != sealed.staff {
        let text = match sealed.staff {
            StaffState::Absent => "staff differs: the sealed event names none",
            StaffState::Open => "staff differs: the sealed event names staff, and the key is here",
            StaffState::Closed => "staff differs: the sealed event names staff, and the key is not here",
        };
        return Err(Problem::tampered(text));
    }
    if shown.audit_event != sealed.audit_event {
        return differs(&format!("auditEvent{}", first_difference(&shown.audit_event, &sealed.audit_event)));
    }
    if shown.other_members != sealed.other_members {
        return differs("otherMembers");
    }
    Ok(())
}

/// Returns `/name` of the first member that differs; `/?` if the name may hold anything.
fn first_difference(shown: &Map<String, Value>, sealed: &Map<String, Value>) -> String {
    let names = shown.keys().chain(sealed.keys());
    let name = names.filter(|name| shown.get(*name) != sealed.get(*name)).min();
    let harmless = |name: &&String| name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    format!("/{}", name.filter(harmless).map_or("?", String::as_str))
}
