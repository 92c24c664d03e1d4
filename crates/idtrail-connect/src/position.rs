//! Where an entry stands in an installation: the origin's place in the list of origins, and the log index in it.
//!
//! Every row of every sink carries the two numbers as `log_id` and `seq`. The pair is unique and increases, so it is
//! key and high-water mark at once. It is not dense: filters, dead letters and erased leaves leave gaps.

use serde::{Deserialize, Serialize};

/// The place of an origin in the installation's list of origins: 0 is the first. Stands in sinks as `log_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogId(u32);

impl LogId {
    /// Wraps an ordinal.
    pub const fn new(ordinal: u32) -> Self {
        Self(ordinal)
    }

    /// Returns the ordinal.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The place of an entry: origin first, then log index, both 0-based. Ordered as the entries are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The origin.
    pub log_id: LogId,
    /// The log index in that origin. Stands in sinks as `seq`.
    pub seq: u64,
}

impl Position {
    /// The place of the very first entry.
    pub const START: Self = Self::new(0, 0);

    /// Puts the two numbers together.
    pub const fn new(log_id: u32, seq: u64) -> Self {
        Self { log_id: LogId(log_id), seq }
    }

    /// Returns the next place in the same origin.
    pub const fn next(self) -> Self {
        Self { log_id: self.log_id, seq: self.seq + 1 }
    }

    /// Writes the place with leading zeros, 10 and 20 digits, so that texts sort as places do.
    pub fn to_token(self) -> String {
        format!("{:010}-{:020}", self.log_id.get(), self.seq)
    }

    /// Reads what [`Self::to_token`] wrote.
    pub fn from_token(token: &str) -> Option<Self> {
        let (log_id, seq) = token.split_once('-')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let shaped = log_id.len() == 10 && seq.len() == 20 && digits(log_id) && digits(seq);
        shaped.then(|| Some(Self::new(log_id.parse().ok()?, seq.parse().ok()?)))?
    }
}

impl std::fmt::Display for Position {
    /// Writes `origin/index`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.log_id.get(), self.seq)
    }
}

impl std::str::FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (log_id, seq) = text.split_once('/').ok_or(PositionError)?;
        let log_id = log_id.parse().map_err(|_| PositionError)?;
        Ok(Self::new(log_id, seq.parse().map_err(|_| PositionError)?))
    }
}

/// A text is not `origin/index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position is written origin/index, two whole numbers")]
pub struct PositionError;
