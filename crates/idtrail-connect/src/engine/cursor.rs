//! What a sink must remember: where it is, what it counted, which events it could not deliver.

use serde::{Deserialize, Serialize};

use crate::position::Position;
use crate::verdict::Status;

/// Where a sink is. Everything before `next` is settled: delivered, filtered, erased or a dead letter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The first entry that is not settled.
    pub next: Position,
    /// Receipt time of the last settled entry, milliseconds since 1970.
    pub settled_ms: i64,
    /// Counts of what was settled.
    pub counts: Counts,
    /// Entries before this place are sent again, row by row idempotently, because a person asked for it.
    pub replay_until: Option<Position>,
    /// What the target needs to know about its own session, in a form of its own; empty if nothing.
    pub session: String,
    /// The batch that is being sent, for targets that cannot be asked what they have.
    pub intent: Option<Intent>,
    /// Rows up to here reached the target, although they are not settled: a noted batch whose answer was lost.
    pub arrived: Option<Position>,
    /// Rows that earlier origins delivered above their last surviving index, after restores; the oldest first, at most
    /// [`BEYOND_MAX`].
    #[serde(default, deserialize_with = "none_one_or_many")]
    pub beyond: Vec<Beyond>,
    /// A person paused the sink.
    pub paused: bool,
}

/// Most losses that a cursor remembers; older ones are dropped first.
pub const BEYOND_MAX: usize = 100;

impl Cursor {
    /// Remembers rows that the log does not hold any more, once for each place where an origin ended.
    pub(super) fn note_beyond(&mut self, mut found: Beyond) {
        let same = |known: &Beyond| known.survived == found.survived && known.newest == found.newest;
        // Counted before; not every look finds the target willing.
        found.rows = found.rows.or_else(|| self.beyond.iter().find(|known| same(known))?.rows);
        self.beyond.retain(|known| known.survived != found.survived);
        self.beyond.push(found);
        self.beyond.sort_by_key(|known| known.survived);
        let surplus = self.beyond.len().saturating_sub(BEYOND_MAX);
        self.beyond.drain(..surplus);
    }
}

/// Older versions wrote null or one loss.
fn none_one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Beyond>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Many(Vec<Beyond>),
        One(Beyond),
    }
    Ok(match Option::<Written>::deserialize(from)? {
        Some(Written::Many(many)) => many,
        Some(Written::One(one)) => vec![one],
        None => Vec::new(),
    })
}

/// What became of the settled entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Rows that the target confirmed.
    pub delivered: u64,
    /// Entries that the filter did not want.
    pub filtered: u64,
    /// Entries that could not be read any more.
    pub erased: u64,
}

/// A batch that may or may not have reached the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// Its first row.
    pub first: Position,
    /// Its last row.
    pub last: Position,
    /// How many rows.
    pub rows: u64,
}

/// Rows in the target that the log does not hold any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beyond {
    /// The place after the last surviving entry of the old origin.
    pub survived: Position,
    /// The target's newest row of that origin, or of one that was lost as a whole.
    pub newest: Position,
    /// How many rows these are, if the target could be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

impl Beyond {
    /// Returns how many rows these are at most, if they are of one origin: filters and dead letters leave gaps.
    pub fn rows_max(&self) -> Option<u64> {
        (self.survived.log_id == self.newest.log_id)
            .then(|| (self.newest.seq + 1).saturating_sub(self.survived.seq))
    }
}

/// One event that could not be delivered. Holds no value of the event and no text of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadLetter {
    /// Where the entry stands.
    pub at: Position,
    /// Why, from the destination's table or the mapping.
    pub code: String,
    /// The column that could not be filled, if the mapping refused.
    pub column: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// The status of the last answer.
    pub status: Status,
    /// When it became a dead letter, milliseconds since 1970.
    pub since_ms: i64,
}
