//! The leaves of the access log: who was shown what of a customer, when, and why.
//!
//! In goes one query with the places that it disclosed; out comes one command with a leaf for each customer concerned,
//! all in one frame. A leaf says how many places were disclosed and holds a commitment to which, never the list: whoever
//! may open the leaf and knows the places can check them, and nobody else learns anything. A query that concerns very
//! many customers leaves one leaf with its filter and range instead, because as many leaves would say no more.
//!
//! What it must never do: take a text that a client chose, apart from names that an operator gave to credentials.

use std::collections::BTreeMap;
use std::sync::Arc;

use idtrail_event::{Dedupe, EncodedEvent, GlobalCustomerId};
use idtrail_port::{Entropy, random};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::command::{Body, Command, Keys, What};
use crate::facts::Hasher;

/// Customers that one query may concern before it leaves one leaf for all of them.
pub const SUBJECTS_MAX: usize = 1000;

/// One query, answered: what its leaves say.
#[derive(Clone, Debug)]
pub struct Access {
    /// Name of the calling system.
    pub system: String,
    /// Id of the person who acts, if a person's token came along.
    pub person: Option<String>,
    /// Id of the operation in the API's description.
    pub operation: &'static str,
    /// Why.
    pub purpose: &'static str,
    /// Name of the log that the answer was read from.
    pub origin: String,
    /// Size of that log at which it was read.
    pub size: u64,
    /// What was asked for, in words of this system only; empty if one place was named.
    pub filter: Map<String, Value>,
    /// What was disclosed: log indices, or ids of the quarantine, by customer; `None` if no customer is known.
    pub disclosed: BTreeMap<Option<GlobalCustomerId>, Vec<Place>>,
}

/// Something that was disclosed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A leaf of the log that the answer was read from.
    Leaf(u64),
    /// An entry of the quarantine.
    Quarantined(String),
}

impl Access {
    /// Returns the command that writes it, or `None` if nothing was disclosed. `leaves_bytes_max` bounds what one frame
    /// may hold; a query beyond it leaves one leaf.
    pub fn command(
        &self,
        hasher: &Hasher,
        entropy: &Arc<dyn Entropy>,
        leaves_bytes_max: usize,
    ) -> Option<Command> {
        if self.disclosed.is_empty() {
            return None;
        }
        if self.disclosed.len() <= SUBJECTS_MAX {
            let leaves = self.disclosed.iter().map(|(subject, places)| {
                let salt = random::<16>(&**entropy);
                self.leaf(
                    hasher,
                    *subject,
                    json!({
                        "count": places.len(),
                        "salt": hex(&salt),
                        "commitment": hex(&commitment(&salt, &self.origin, places)),
                    }),
                )
            });
            let command = Command(What::Access(leaves.collect()));
            if command.leaf_bytes_max() <= leaves_bytes_max {
                return Some(command);
            }
        }
        let leaves = self.disclosed.values().flatten().filter_map(|place| match place {
            Place::Leaf(index) => Some(*index),
            Place::Quarantined(_) => None,
        });
        let range = leaves.fold(None, |range: Option<(u64, u64)>, index| {
            Some(range.map_or((index, index), |(first, last)| (first.min(index), last.max(index))))
        });
        let mut said = json!({
            "count": self.disclosed.values().map(Vec::len).sum::<usize>(),
            "customers": self.disclosed.keys().flatten().count(),
            "filter": self.filter,
        });
        if let (Value::Object(said), Some((first, last))) = (&mut said, range) {
            said.insert("range".to_owned(), json!({ "first": first, "last": last }));
        }
        Some(Command(What::Access(vec![self.leaf(hasher, None, said)])))
    }

    fn leaf(
        &self,
        hasher: &Hasher,
        subject: Option<GlobalCustomerId>,
        mut said: Value,
    ) -> (Body, Option<(GlobalCustomerId, Keys)>) {
        if let Value::Object(members) = &mut said {
            members.insert("eventType".to_owned(), json!("DATA_ACCESS"));
            members.insert("operation".to_owned(), json!(self.operation));
            members.insert("purpose".to_owned(), json!(self.purpose));
            members.insert("asOf".to_owned(), json!({ "origin": self.origin, "size": self.size }));
            if let Some(person) = &self.person {
                // A staff member: sealed apart, so that a customer's answer can leave it closed.
                members.insert("staffId".to_owned(), json!(person));
            }
        }
        let encoded = EncodedEvent::of(&json!({ "auditEvent": said }));
        let content = hasher.content(&encoded);
        let keys = |subject| {
            let dedupe = hasher.dedupe(&self.system, &Dedupe::CONTENT, &content);
            (subject, Keys { customer: None, interaction: None, dedupe, content, content_is_id: true })
        };
        (Body::access(encoded, &self.system), subject.map(keys))
    }
}

/// Returns SHA-256("idtrail/access/v1" ‖ 00 ‖ salt ‖ u16(length of the origin) ‖ origin ‖ places, rising), where a leaf is
/// 00 ‖ u64(index) and an entry of the quarantine 01 ‖ u16(length) ‖ id; all numbers big-endian.
pub fn commitment(salt: &[u8; 16], origin: &str, places: &[Place]) -> [u8; 32] {
    let mut sorted: Vec<&Place> = places.iter().collect();
    sorted.sort();
    sorted.dedup();
    let text = |hash: &mut Sha256, text: &str| {
        hash.update(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        hash.update(text.as_bytes());
    };
    let mut hash = Sha256::new();
    hash.update(b"idtrail/access/v1\0");
    hash.update(salt);
    text(&mut hash, origin);
    for place in sorted {
        match place {
            Place::Leaf(index) => {
                hash.update([0]);
                hash.update(index.to_be_bytes());
            }
            Place::Quarantined(id) => {
                hash.update([1]);
                text(&mut hash, id);
            }
        }
    }
    hash.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
