//! Bodies of `/api/v1/sinks`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The sinks.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Sinks {
    /// Every sink, by name.
    pub sinks: Vec<Sink>,
}

/// The state of a sink. Members about delivery are missing where it is broken.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sink {
    /// Its name.
    pub name: String,
    /// The kind of its target.
    pub kind: String,
    /// `file`: configured in the configuration file, `api`: added over the API.
    pub source: String,
    /// What goes out about a person.
    pub pii: String,
    /// How a person is taken out.
    pub erase: String,
    /// `delivering`, `retrying`, `failing` (many attempts in a row failed), `stopped` (a person must act), `paused` or `broken`
    /// (it cannot be started).
    pub state: String,
    /// Why it is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// First place that is not settled, `origin/index`: everything before it is delivered, filtered, erased or a dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicated_up_to: Option<String>,
    /// Entries that are not settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_events: Option<u64>,
    /// Since the newest settled entry was received; 0 if nothing is to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<f64>,
    /// Rows that the target confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<u64>,
    /// Entries that the filter did not want.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filtered: Option<u64>,
    /// Entries that could not be read any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<u64>,
    /// Dead letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<u64>,
    /// Entries that are settled, over all logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<u64>,
    /// Rows of earlier logs that the target has and the log lost in a restore, for each log that lost some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beyond: Option<Vec<SinkBeyond>>,
    /// The last failure since the last success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<SinkFailure>,
    /// What the writer may do; null until the target was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<SinkGrants>,
    /// Its settings, where one sink is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<SinkConfig>,
    /// What `pii` and `erase` mean for an erasure, where one sink is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consequence: Option<String>,
}

/// Rows that the log does not hold any more.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SinkBeyond {
    /// The place after the last surviving entry.
    pub survived: String,
    /// The target's newest row.
    pub newest: String,
    /// How many rows these are; null if the target cannot be asked.
    pub rows: Option<u64>,
    /// How many rows these are at most; null if a whole log was lost between the two places.
    pub rows_max: Option<u64>,
}

/// A failure of a sink.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkFailure {
    /// What, as a stable code.
    pub code: String,
    /// The target's own status (an HTTP status, an SQLSTATE); `-` if it gave none.
    pub status: String,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
}

/// What a sink's writer may do at the target.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkGrants {
    /// `append-only`, `excess` or `unknown`.
    pub state: String,
    /// What it can do too much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can: Option<Vec<String>>,
    /// Why the target does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Settings of a sink, as in the configuration file; docs/sinks has the targets.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// Its name.
    #[schema(pattern = "^[a-z0-9_-]{1,40}$")]
    pub name: String,
    /// Which entries it wants.
    #[serde(default)]
    pub filter: String,
    /// What they become.
    #[serde(default)]
    pub mapping: Vec<String>,
    /// `none`, `tokens` or `sealed`.
    #[serde(default)]
    pub pii: String,
    /// `delete`, `null` or `none`.
    pub erase: String,
    /// Seconds that one call may take.
    #[serde(default)]
    pub deadline_s: u64,
    /// Who takes persons out: `user`, `password`, `key`, `role`, `warehouse`, as the kind of target needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<serde_json::Map<String, Value>>,
    /// Where the rows go: `kind` and the keys of that kind.
    pub target: serde_json::Map<String, Value>,
}

/// A filter or a mapping to be tried.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "filter": "{{auditEvent.channelType}} = 'VOICE'" }))]
pub struct SinkProposal {
    /// The filter; the sink's own if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The lines of the mapping; the sink's own if they are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Vec<String>>,
}

/// Dead letters of a sink.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeadLetters {
    /// The dead letters, oldest first.
    pub dead_letters: Vec<DeadLetter>,
    /// How many there are in all.
    pub total: u64,
    /// Where the next page begins; null on the last one.
    pub next: Option<String>,
}

/// One event that could not be delivered.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetter {
    /// Where it stands, `origin/index`.
    pub at: String,
    /// Why, as a stable code.
    pub code: String,
    /// The column that could not be filled.
    pub column: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// The status of the last answer.
    pub status: String,
    /// When it became a dead letter.
    #[schema(format = DateTime)]
    pub since: String,
}

/// What is to be sent again: one of the two.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SinkReplay {
    /// From this place on, `origin/index`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^[0-9]+/[0-9]+$")]
    pub from: Option<String>,
    /// `all`, or a list of places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub dead_letters: Option<Value>,
}

/// What the newest events become.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkPreview {
    /// The columns beside `log_id` and `seq`.
    pub columns: Vec<SinkColumn>,
    /// The entries, oldest first.
    pub entries: Vec<SinkPreviewEntry>,
}

/// A column of a sink.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub r#type: String,
    /// Whether every row has a value.
    pub required: bool,
    /// Whether an erasure that nulls takes its value away.
    pub personal: bool,
}

/// What one entry becomes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkPreviewEntry {
    /// Where it stands.
    pub at: String,
    /// `row`, `filtered`, `erased` or `unmappable`.
    pub outcome: String,
    /// The row, for the role dpo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub row: Option<serde_json::Map<String, Value>>,
    /// Why it cannot be mapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub code: Option<String>,
    /// The column that cannot be filled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub column: Option<String>,
}
