//! The evidence package as a file: one JSON object, written by the server and read by the verifier.
//!
//! The types say what stands where, and nothing about whether it is true. Unknown members are refused
//! everywhere, so that nothing can be shown that no check covers. Hashes in hex are lower-case; base64 is the
//! standard alphabet with padding; both have one spelling only. `docs/spec/evidence-package.md` is normative.
//!
//! A package holds personal data and the keys of the disclosed leaves, so no `Debug` output shows either.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use idtrail_event::{LeafKey, OpenLeaf};
use idtrail_tlog::{Hash, LogIndex, leaf_hash};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What stands in the member `format` of a package.
pub const FORMAT: &str = "idtrail-evidence/1";

/// Everything a log says about one customer at one moment, with the proofs.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Package {
    /// [`FORMAT`].
    pub format: String,
    /// What was asked.
    pub request: Request,
    /// The customer that was found; `None` if nobody was, which the file says with `null`, not by silence.
    #[serde(deserialize_with = "Option::deserialize")]
    pub customer: Option<Customer>,
    /// The trees that the answer was read from, in the order of the installation; the last log is the one
    /// that is written to, and the one that signs the manifest.
    pub as_of: Vec<AsOf>,
    /// A signed checkpoint of each of these trees, in the same order.
    pub checkpoints: Vec<SignedCheckpoint>,
    /// Which systems the answer covers.
    pub coverage: Coverage,
    /// The events, in the order of the manifest.
    pub events: Vec<EvidenceEvent>,
    /// Who was shown this customer's events before; absent if nobody is known or the log keeps no such record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessPart>,
    /// The same from the access logs of the logs before the last one, in the order of `as_of`; one that holds nothing about
    /// this customer may be left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_access_logs: Vec<AccessPart>,
    /// The signed list of all events of the package; see [`sign_manifest`](crate::sign_manifest).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
}

impl fmt::Debug for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Package").field("events", &self.events.len()).finish_non_exhaustive()
    }
}

/// Who was shown the events of a customer, from the access log of one log.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessPart {
    /// The tree of the access log that this was read from.
    pub as_of: AsOf,
    /// The signed checkpoint of that tree, to the byte.
    pub checkpoint: String,
    /// The accesses, in order. Which person acted is sealed apart, and the key of that part is not given.
    pub events: Vec<EvidenceEvent>,
}

impl fmt::Debug for AccessPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessPart").field("events", &self.events.len()).finish_non_exhaustive()
    }
}

/// What was asked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// The keyed hash of the identifier that was asked about.
    pub customer_id_hash: String,
    /// Such as `ACCESS`.
    pub request_type: String,
    /// The period that was asked about; all times if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_range: Option<DateRange>,
}

/// A period, as RFC 3339 texts.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DateRange {
    /// Where it starts.
    pub start: String,
    /// Where it ends.
    pub end: String,
}

/// The customer that was found.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Customer {
    /// `gc_…`; every event of the package names this customer, or one of `aliases`, in its sealed part.
    pub global_customer_id: String,
    /// Other ids under which events of the same person stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// How sure the identification is, such as `VERIFIED`.
    pub tier: String,
}

/// One tree that the answer was read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AsOf {
    /// Name of the log.
    pub origin: String,
    /// Count of its entries.
    pub size: u64,
    /// Root of the tree: 64 lower-case hex digits.
    pub root_hash: String,
}

/// The signed checkpoint of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedCheckpoint {
    /// Name of the log.
    pub origin: String,
    /// The signed note, to the byte.
    pub checkpoint: String,
}

/// Which systems the answer covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Coverage {
    /// Whether every system has answered.
    pub complete: bool,
    /// The systems.
    pub systems: Vec<SystemCoverage>,
}

/// One system and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SystemCoverage {
    /// Its name; `idtrail` is the log itself.
    pub system: String,
    /// What became of the question.
    pub status: SystemStatus,
    /// How many events it gave.
    pub events: u64,
    /// Why it was not asked or could not be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What became of the question to a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SystemStatus {
    /// It answered.
    Answered,
    /// It was not asked.
    NotAsked,
    /// It could not be reached.
    Unreachable,
}

/// One event: the sealed leaf, its key, its proof, and what the leaf says when opened.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceEvent {
    /// Name of the log.
    pub origin: String,
    /// Place in the log, from 0.
    pub index: u64,
    /// RFC 6962 hash of the leaf: 64 lower-case hex digits.
    pub leaf_hash: String,
    /// The leaf as it stands in the log, in base64.
    pub leaf: String,
    /// The keys that open it.
    #[serde(default)]
    pub keys: EventKeys,
    /// The inclusion proof, leaf side first: hashes in base64.
    pub proof: Vec<String>,
    /// When the log received the event: RFC 3339, UTC, milliseconds.
    pub received_at: String,
    /// `ev_…`.
    pub event_id: String,
    /// The kind of entry point, such as `api`.
    pub source: String,
    /// Name of the system that sent it.
    pub system: String,
    /// Whether the event names staff, and whether that part is disclosed.
    pub staff: StaffState,
    /// The event as it was received.
    pub audit_event: Map<String, Value>,
    /// What stood beside `auditEvent` in the body, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_members: Option<Map<String, Value>>,
}

impl fmt::Debug for EvidenceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvidenceEvent")
            .field("origin", &self.origin)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl EvidenceEvent {
    /// Returns the event that shows an opened leaf. The verifier makes the same one to compare with, so what
    /// is shown has one definition.
    pub fn new(
        origin: &str,
        index: LogIndex,
        leaf: &[u8],
        open: &OpenLeaf,
        keys: EventKeys,
        proof: &[Hash],
    ) -> Self {
        let mut others = open.body.as_object().cloned().unwrap_or_default();
        let audit_event = match others.remove("auditEvent") {
            Some(Value::Object(event)) => event,
            _ => Map::new(),
        };
        Self {
            origin: origin.to_owned(),
            index: index.get(),
            leaf_hash: leaf_hash(leaf).to_string(),
            leaf: STANDARD.encode(leaf),
            keys,
            proof: proof.iter().map(Hash::to_base64).collect(),
            received_at: time_text(open.received_ms),
            event_id: open.event_id.to_string(),
            source: open.header.source.to_string(),
            system: open.system.clone(),
            staff: open.staff.into(),
            audit_event,
            other_members: (!others.is_empty()).then_some(others),
        }
    }
}

/// The disclosed keys of one leaf, each 32 bytes in base64.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventKeys {
    /// The key of the event's section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The key of the staff section, if that is disclosed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staff: Option<String>,
}

impl EventKeys {
    /// Returns the keys in the form of the file. This is the disclosure: whoever reads the file can open the
    /// leaf.
    pub fn disclose(event: &LeafKey, staff: Option<&LeafKey>) -> Self {
        let text = |key: &LeafKey| STANDARD.encode(key.expose());
        Self { event: Some(text(event)), staff: staff.map(text) }
    }
}

impl fmt::Debug for EventKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventKeys").finish_non_exhaustive()
    }
}

/// Whether an event names staff, and whether that part is disclosed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StaffState {
    /// It names none.
    Absent,
    /// It does, and the names are in `auditEvent`.
    Open,
    /// It does, but the key is not in the package: withheld or destroyed.
    Closed,
}

impl From<idtrail_event::StaffState> for StaffState {
    fn from(state: idtrail_event::StaffState) -> Self {
        match state {
            idtrail_event::StaffState::Absent => Self::Absent,
            idtrail_event::StaffState::Open => Self::Open,
            idtrail_event::StaffState::Closed => Self::Closed,
        }
    }
}

/// Returns a time (milliseconds since 1970) as RFC 3339 in UTC with exactly three decimals, such as
/// `2026-01-31T14:30:00.123Z`; a time beyond the year 9999 becomes the last one that can be written.
pub fn time_text(time_ms: u64) -> String {
    let time = i64::try_from(time_ms).ok().and_then(|time| jiff::Timestamp::from_millisecond(time).ok());
    format!("{:.3}", time.unwrap_or(jiff::Timestamp::MAX))
}
