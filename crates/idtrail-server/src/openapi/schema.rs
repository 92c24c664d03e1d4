//! The shapes of bodies as the OpenAPI document describes them.
//!
//! These types are never made: what is really read and written has its types where it is used, some of them in crates
//! that must not know OpenAPI. That both say the same is checked from outside, by answers of a running server against
//! the document. Objects that a client gets are closed, so that a new member cannot be forgotten here.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

mod sinks;
pub use sinks::*;

/// An event as the guide writes it, in its envelope. Other members beside `auditEvent` are kept.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventBody {
    /// The event.
    pub audit_event: AuditEvent,
}

/// An event: what happened, when, to whom, and how it was found out. Members that are not named here are kept as they
/// are. Every member whose name ends in `Hash` is a hash of at least 64 hex digits, or null. Texts in clear that look
/// like an e-mail address, telephone number, card number or IBAN are refused (422).
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// IDENTITY_RESOLUTION, ANONYMOUS, CONSENT_CHANGE, DATA_DELETION, or a type that the configuration names.
    #[schema(pattern = "^[A-Z][A-Z0-9_]{0,63}$")]
    pub event_type: String,
    /// When it happened by the sender's clock: RFC 3339 with a zone, at most a day ahead of ours.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// Id of the call, chat or mail.
    #[schema(min_length = 1, max_length = 256)]
    pub interaction_id: Option<String>,
    /// VOICE, CHAT, EMAIL, MESSAGE, SMS, SOCIAL, CALLBACK, VIDEO, WEB; others are kept and counted as OTHER.
    #[schema(min_length = 1, max_length = 256)]
    pub channel_type: Option<String>,
    /// The customer, as an opaque id or keyed hash.
    #[schema(min_length = 1, max_length = 256)]
    pub resolved_customer_id: Option<String>,
    /// How the customer was found, such as CRM_API_LOOKUP.
    #[schema(min_length = 1, max_length = 256)]
    pub resolution_source: Option<String>,
    /// Keyed hashes of what the customer gave.
    pub pii_context: Option<PiiContext>,
    /// What the customer agreed to.
    pub compliance_flags: Option<HashMap<String, Option<bool>>>,
    /// The agent.
    #[schema(min_length = 1, max_length = 256)]
    pub agent_id: Option<String>,
    /// The queue.
    #[schema(min_length = 1, max_length = 256)]
    pub queue_id: Option<String>,
    /// Why data were deleted.
    #[schema(min_length = 1, max_length = 256)]
    pub deletion_reason: Option<String>,
    /// The request that this belongs to.
    #[schema(min_length = 1, max_length = 256)]
    pub request_id: Option<String>,
    /// How it went; of a DATA_DELETION one of SUCCESS, PARTIAL, FAILED.
    #[schema(min_length = 1, max_length = 256)]
    pub status: Option<String>,
}

/// Keyed hashes of what the customer gave, never the values themselves.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PiiContext {
    /// Of the telephone number.
    #[schema(pattern = "^[0-9a-fA-F]{64,}$")]
    pub phone_hash: Option<String>,
    /// Of the e-mail address.
    #[schema(pattern = "^[0-9a-fA-F]{64,}$")]
    pub email_hash: Option<String>,
    /// Of the account number.
    #[schema(pattern = "^[0-9a-fA-F]{64,}$")]
    pub account_number_hash: Option<String>,
}

/// The log's signed promise that one sealed leaf stands at one place; verifiable offline.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Receipt {
    /// `created` for a new event, `duplicate` if the same one was there already.
    pub status: ReceiptStatus,
    /// Name of the log.
    pub origin: String,
    /// Place of the leaf in the log, from 0.
    pub index: u64,
    /// RFC 6962 hash of the leaf.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub leaf_hash: String,
    /// Id of the event; not always told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub event_id: Option<String>,
    /// When the log received the event; not told again for a duplicate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    pub received_at: Option<String>,
    /// Count of entries of the tree in the proof.
    pub tree_size: u64,
    /// What the sender should know although the event was accepted.
    pub warnings: Vec<ReceiptWarning>,
    /// Index, inclusion proof and signed checkpoint, as a C2SP tlog-proof.
    pub proof: String,
}

/// What is answered to an event that was there before.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum TakenBefore {
    /// It still is.
    Receipt(Receipt),
    /// It has been erased since, and is not taken again.
    Erased(Erased),
}

/// Says that an event was erased.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Erased {
    /// Always `erased`.
    #[schema(pattern = "^erased$")]
    pub status: String,
    /// Always true.
    pub erased: bool,
}

/// Whether an event is new.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptStatus {
    /// It is new.
    Created,
    /// It was there already.
    Duplicate,
}

/// One thing that the sender should know.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiptWarning {
    /// Where (JSON Pointer, RFC 6901).
    pub pointer: String,
    /// What, as a stable code.
    pub code: String,
    /// What, in words.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// What is asked about a customer.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessRequest {
    /// Id or keyed hash of the customer, or its `gc_…` id; of an erasure also the id of the request, or the hash of its
    /// certificate.
    #[schema(min_length = 1, max_length = 256)]
    pub customer_id_hash: String,
    /// What is wanted.
    pub request_type: AccessRequestType,
    /// Only events of this time; all if it is missing.
    pub date_range: Option<DateRange>,
}

/// What is wanted.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum AccessRequestType {
    /// Everything that is held about the customer.
    Access,
}

/// A time from start to end, both included; start not after end.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DateRange {
    /// RFC 3339 with a zone.
    #[schema(format = DateTime)]
    pub start: String,
    /// RFC 3339 with a zone.
    #[schema(format = DateTime)]
    pub end: String,
}

/// All events of a customer with their keys and proofs. `idtrail verify` checks it offline; its format is described in
/// docs/spec/evidence-package.md.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidencePackage {
    /// Name and version of the format.
    pub format: String,
    /// What was asked.
    pub request: HashMap<String, Value>,
    /// The customer that was found, or null.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required = true)]
    pub customer: Option<EvidenceCustomer>,
    /// The trees that the answer was read from.
    pub as_of: Vec<EvidenceTree>,
    /// A signed checkpoint of each of them.
    pub checkpoints: Vec<HashMap<String, Value>>,
    /// Which systems the answer covers, and which it does not.
    pub coverage: EvidenceCoverage,
    /// The events, in the order of the log.
    pub events: Vec<EvidenceEvent>,
    /// Who was shown this customer's events before, with proofs from the access log; absent if nobody is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub access_log: Option<EvidenceAccesses>,
    /// The same from the access logs before it, oldest first; absent if they hold nothing about this customer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_access_logs: Vec<EvidenceAccesses>,
    /// The signed list of the events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub manifest: Option<String>,
}

/// Who was shown the events of a customer.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceAccesses {
    /// The tree of the access log that this was read from.
    pub as_of: EvidenceTree,
    /// Its signed checkpoint.
    pub checkpoint: String,
    /// The accesses, in the order of the access log.
    pub events: Vec<EvidenceEvent>,
}

/// The customer that was found.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceCustomer {
    /// The customer's one id, whatever identifiers it has.
    pub global_customer_id: String,
    /// Other ids under which events of the same person stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// How sure the identification is.
    pub tier: String,
}

/// A tree that the answer was read from.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceTree {
    /// Name of the log.
    pub origin: String,
    /// Count of its entries.
    pub size: u64,
    /// Root of the tree.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub root_hash: String,
}

/// Which systems the answer covers.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceCoverage {
    /// Whether every system has answered.
    pub complete: bool,
    /// Each system with its status.
    pub systems: Vec<HashMap<String, Value>>,
}

/// One event with its sealed leaf, the keys that open it, and its proof.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceEvent {
    /// Name of the log.
    pub origin: String,
    /// Place in the log, from 0.
    pub index: u64,
    /// The sealed leaf, in base64.
    pub leaf: String,
    /// The inclusion proof, leaf side first, in base64.
    pub proof: Vec<String>,
    /// When the log received it.
    #[schema(format = DateTime)]
    pub received_at: String,
    /// The event as it was received.
    pub audit_event: HashMap<String, Value>,
}

/// An error (RFC 9457). It never repeats a value of the request.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Problem)]
pub struct ProblemDocument {
    /// Address of a page about this code.
    pub r#type: String,
    /// Short title, the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What went wrong this time.
    pub detail: String,
    /// Stable name of the error.
    pub code: String,
    /// Id of the request, as in the header `x-request-id` and in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub request_id: Option<String>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// What the client can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub hint: Option<String>,
    /// Where the refused event is kept, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub quarantine_id: Option<String>,
    /// Each rule that was broken, and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub errors: Option<Vec<ProblemField>>,
}

/// One rule that was broken.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProblemField {
    /// Where (JSON Pointer, RFC 6901).
    pub pointer: String,
    /// Stable name of the rule.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub hint: Option<String>,
}

/// A request for a token (RFC 6749 §4.4). Client id and secret may come by HTTP Basic instead.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenForm {
    /// Always `client_credentials`.
    pub grant_type: GrantType,
    /// Client id of the person.
    #[schema(min_length = 1)]
    pub client_id: String,
    /// Secret of the person.
    #[schema(min_length = 1)]
    pub client_secret: String,
    /// Roles that the token is to have, separated by blanks; all of the person's if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub scope: Option<String>,
}

/// The kind of a request for a token.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// By client id and secret.
    ClientCredentials,
}

/// A token (RFC 6749 §5.1).
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenAnswer {
    /// The token, for `Authorization: Bearer`.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: String,
    /// Seconds for which it is valid.
    pub expires_in: u32,
    /// Its roles, separated by blanks.
    pub scope: String,
}

/// An error of the token endpoint (RFC 6749 §5.2).
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenError {
    /// Code of RFC 6749.
    pub error: String,
    /// What went wrong.
    pub error_description: String,
}

/// That the process answers.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Alive {
    /// Always `ok`.
    pub status: String,
}

/// Whether events can be stored.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Readiness {
    /// `ready` or `not ready`.
    pub status: String,
    /// Why not: every reason.
    pub reasons: Vec<String>,
    /// Count of entries of the log.
    pub tree_size: u64,
}

/// Which leaves are destroyed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShredRequest {
    /// Name of this request; the same name again is answered with the first outcome.
    #[schema(min_length = 1, max_length = 64, pattern = "^[!-~]+$")]
    pub request_id: String,
    /// Log indices of client events; needed unless `staff` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 1_000_000, nullable = false)]
    pub indices: Option<Vec<u64>>,
    /// Name of their log; the newest one if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub origin: Option<String>,
    /// A member of staff, as events name them: what says that they acted is destroyed in every log, up to a million leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, nullable = false)]
    pub staff: Option<String>,
    /// With `staff`: only count the leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub dry_run: Option<bool>,
    /// Destroy only what says which member of staff acted; the events stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub staff_only: Option<bool>,
    /// `shred N leaves` with the count of different indices, or `shred staff of N leaves`, typed by a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "shred 2 leaves", nullable = false)]
    pub confirm: Option<String>,
}

/// What became unreadable.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShredOutcome {
    /// Name of the request; absent if there was nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub request_id: Option<String>,
    /// How many leaves became unreadable.
    pub shredded: u64,
    /// How many leaves it would be; of a trial run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub leaves: Option<u64>,
    /// Leaves of the newest log that a hold kept, at most 10,000 of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub held: Option<Vec<u64>>,
    /// Leaves of earlier logs that a hold kept, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub held_in_earlier_logs: Option<Vec<HeldInLog>>,
    /// How many leaves a hold kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub held_count: Option<u64>,
    /// How many had been unreadable before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub already_gone: Option<u64>,
    /// Epoch of the vault from which the keys are gone.
    pub vault_epoch: Option<u64>,
    /// Index of the leaf that says so.
    pub leaf_index: Option<u64>,
    /// Name of the log in which it stands.
    #[serde(default)]
    pub leaf_origin: Option<String>,
    /// Whether this is the outcome of an earlier request of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub repeated: Option<bool>,
    /// Months that expired, if that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub periods: Option<Vec<ExpiredPeriod>>,
}

/// Months of one retention class that expired.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpiredPeriod {
    /// The class.
    pub class: String,
    /// First month, such as 2026-01.
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}$")]
    pub from: String,
    /// Last month.
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}$")]
    pub to: String,
}

/// Which leaves are held.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldRequest {
    /// Name of the hold.
    #[schema(min_length = 1, max_length = 64, pattern = "^[!-~]+$")]
    pub hold_id: String,
    /// Log indices of client events.
    #[schema(min_items = 1, max_items = 1_000_000)]
    pub indices: Vec<u64>,
    /// Name of their log; the newest one if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub origin: Option<String>,
}

/// Leaves of one log that a hold kept.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeldInLog {
    /// Name of the log.
    pub origin: String,
    /// Its leaves.
    pub indices: Vec<u64>,
}

/// A log of the installation.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogInfo {
    /// Its number, which stands in the paths of its tiles.
    pub number: u32,
    /// Its name.
    pub origin: String,
    /// How many entries it has.
    pub tree_size: u64,
    /// Its checkpoints are signed by this key (C2SP signed-note).
    pub verifier_key: String,
    /// It is an earlier log, which is never appended to again.
    #[serde(rename = "final")]
    pub is_final: bool,
}

/// The logs of the installation.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Logs {
    /// The logs of events, oldest first.
    pub logs: Vec<LogInfo>,
    /// Their access logs, oldest first.
    pub access_logs: Vec<LogInfo>,
}

/// A hold that was set.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HoldSet {
    /// Name of the hold.
    pub hold_id: String,
    /// How many leaves it names.
    pub leaves: u64,
}

/// What a person types to go on.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseRequest {
    /// Name of this request; the same name again is answered with the first outcome.
    #[schema(min_length = 1, max_length = 64, pattern = "^[!-~]+$")]
    pub request_id: String,
    /// `release NAME` or `apply retention`, typed by a person.
    #[schema(example = "release case-7")]
    pub confirm: String,
}

/// Every hold.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Holds {
    /// The holds.
    pub holds: Vec<Hold>,
}

/// One hold.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hold {
    /// Its name.
    pub hold_id: String,
    /// The log that it is about.
    pub origin: String,
    /// When it was set.
    #[schema(format = DateTime)]
    pub set_at: String,
    /// How many leaves it names.
    pub leaves: u64,
    /// Their indices, at most 10,000 of them.
    pub indices: Vec<u64>,
    /// How many keys it keeps beyond their time.
    pub kept_keys: u64,
}

/// What became of the events of a batch.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchAnswer {
    /// Name of the log.
    pub origin: String,
    /// Count of entries of the tree in the checkpoint.
    pub tree_size: u64,
    /// The signed checkpoint, which covers every event that was stored.
    pub checkpoint: String,
    /// When the newest of the new events was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    pub received_at: Option<String>,
    /// How many of each status.
    pub counts: BatchCounts,
    /// One result an event, in the order of the request.
    pub items: Vec<BatchItem>,
}

/// How many events of each status.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchCounts {
    /// New in the log.
    pub created: u64,
    /// In the log already.
    pub duplicate: u64,
    /// In the log before, and erased since.
    pub erased: u64,
    /// Invalid, in the quarantine.
    pub invalid: u64,
    /// Known id with another content, in the quarantine.
    pub conflict: u64,
    /// Not readable as an event.
    pub unreadable: u64,
    /// Too large, or to be sent again later.
    pub refused: u64,
}

/// What became of one event.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchItem {
    /// What became of it.
    pub status: BatchStatus,
    /// Name of the log that holds it, if that is not the one of the whole answer but an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub origin: Option<String>,
    /// Its place in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub index: Option<u64>,
    /// RFC 6962 hash of its leaf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^[0-9a-f]{64}$")]
    pub leaf_hash: Option<String>,
    /// What the sender should know although the event was accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<ReceiptWarning>,
    /// Where it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub quarantine_id: Option<String>,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemField>,
}

/// What became of one event.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchStatus {
    /// New in the log.
    Created,
    /// In the log already.
    Duplicate,
    /// In the log before, and erased since.
    Erased,
    /// Invalid, in the quarantine.
    Invalid,
    /// Known id with another content, in the quarantine.
    Conflict,
    /// Not readable as an event.
    Unreadable,
    /// Longer than allowed.
    TooLarge,
    /// To be sent again later.
    Unavailable,
}

/// Why an event is in the quarantine.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuarantineReason {
    /// Where (JSON Pointer, RFC 6901).
    pub pointer: String,
    /// What, as a stable code.
    pub code: String,
    /// What, in words.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// A page of the quarantine.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuarantinePage {
    /// The entries, oldest first.
    pub entries: Vec<QuarantineSummary>,
    /// How many there are in all.
    pub total: u64,
    /// Where the next page begins; null on the last one.
    pub next: Option<String>,
}

/// An entry of the quarantine, without the event.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuarantineSummary {
    /// Its id.
    pub id: String,
    /// When it was received.
    #[schema(format = DateTime)]
    pub received_at: String,
    /// When it is destroyed; null if its file is damaged.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// The calling system.
    pub system: String,
    /// Why it was refused.
    pub reasons: Vec<QuarantineReason>,
    /// How many values were taken out because they may be raw personal data.
    pub redacted: u32,
    /// Whether it can be replayed as it is.
    pub replayable: bool,
}

/// An entry of the quarantine.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuarantineEntry {
    /// Its id.
    pub id: String,
    /// When it was received.
    #[schema(format = DateTime)]
    pub received_at: String,
    /// When it is destroyed.
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// The calling system.
    pub system: String,
    /// The kind of entry point.
    pub source: String,
    /// Why it was refused.
    pub reasons: Vec<QuarantineReason>,
    /// How many values were taken out because they may be raw personal data.
    pub redacted: u32,
    /// What is left of the event; null if it did not parse.
    pub body: Option<Value>,
    /// Length of a body that did not parse.
    pub body_bytes: Option<u64>,
    /// Keyed digest of a body that did not parse.
    pub body_digest: Option<String>,
}

/// Where every event went since the start of the server.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Balance {
    /// Per calling system.
    pub systems: Vec<SystemBalance>,
    /// Of nobody known.
    pub unknown: BalanceCounts,
    /// Entries in the quarantine now.
    pub in_quarantine: u64,
}

/// Where the events of one calling system went.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemBalance {
    /// Its name.
    pub system: String,
    /// The counts.
    pub counts: BalanceCounts,
}

/// received = accepted + duplicate + quarantined + refused.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BalanceCounts {
    /// All that arrived.
    pub received: u64,
    /// New in the log.
    pub accepted: u64,
    /// In the log already.
    pub duplicate: u64,
    /// In the quarantine.
    pub quarantined: u64,
    /// Not kept.
    pub refused: u64,
}

/// A page of events.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventPage {
    /// The events, oldest first; erased ones as `{"origin": …, "index": …, "erased": true}`.
    pub events: Vec<serde_json::Map<String, Value>>,
    /// Where the next page begins; stays good when the log grows.
    pub next: String,
    /// Whether there may be more already.
    pub more: bool,
    /// Size of the log that was read.
    pub tree_size: u64,
}

/// A page of accesses.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessPage {
    /// The accesses, oldest first.
    pub entries: Vec<AccessEntry>,
    /// Where the next page begins; stays good when the access log grows.
    pub next: String,
    /// Whether there may be more already.
    pub more: bool,
    /// Size of the access log that was read.
    pub tree_size: u64,
}

/// One access, as far as one customer is concerned.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessEntry {
    /// Name of the access log.
    pub origin: String,
    /// Place in the access log.
    pub index: u64,
    /// Hash of the sealed leaf.
    pub leaf_hash: String,
    /// When the access was recorded, which is before anything was shown.
    pub received_at: String,
    /// Id of the record.
    pub event_id: String,
    /// Name of the calling system.
    pub system: String,
    /// Id of the person who acted, or null if no person's token came along.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required = true)]
    pub person: Option<String>,
    /// The customer whose events were shown, or null if none is known or the access concerned very many.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required = true)]
    pub global_customer_id: Option<String>,
    /// What the record says; see docs/spec/access-log.md.
    pub audit_event: serde_json::Map<String, Value>,
}

/// The events of one interaction.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InteractionEvents {
    /// The events, oldest first; erased ones as `{"origin": …, "index": …, "erased": true}`.
    pub events: Vec<serde_json::Map<String, Value>>,
    /// Size of the log that was read.
    pub tree_size: u64,
}

/// The state of an installation.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Whether events can be stored.
    pub ready: bool,
    /// Why not: every reason.
    pub reasons: Vec<String>,
    /// Name of the log.
    pub origin: String,
    /// Count of its entries.
    pub tree_size: u64,
    /// Root of its tree.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub root_hash: String,
    /// Seconds since it last grew.
    pub checkpoint_age_seconds: f64,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Requests that wait for the log.
    pub queue_events: u64,
    /// The access log: its name, its size, and whether it takes accesses; if not, nothing is disclosed.
    pub access_log: HashMap<String, Value>,
    /// Up to where derived state has read the log.
    pub followers_size: u64,
    /// Bytes that may still be written to the data directory's disk; null if the disk does not say.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required = true)]
    pub storage_free_bytes: Option<u64>,
    /// Milliseconds by which the system's clock was set since the start.
    pub clock_step_ms: i64,
    /// Whether the last stop was an orderly one.
    pub started_clean: bool,
    /// Bytes of an unfinished write that the start removed.
    pub cut_bytes_at_start: u64,
    /// Whether connections are encrypted, here or in front of the server.
    pub tls: bool,
}
