//! Pauses between attempts: exponential with full jitter, never shorter than the target wished.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long pauses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Longest first pause, milliseconds.
    pub first_ms: u64,
    /// Longest pause of all, milliseconds.
    pub longest_ms: u64,
    /// Pause after a failure that a person must end, milliseconds.
    pub stopped_ms: u64,
    /// Failures in a row after which the circuit counts as open.
    pub open_after: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first_ms: 200, longest_ms: 30_000, stopped_ms: 60_000, open_after: 5 }
    }
}

/// Longest wish of a target that is followed: a broken server must not switch a sink off for a year.
const WISH_MS_MAX: u64 = 3_600_000;

impl Backoff {
    /// Returns the pause after the `failures`th failure in a row (from 1); `random` is 64 random bits.
    pub fn pause_ms(&self, failures: u32, wish: Option<Duration>, random: u64) -> u64 {
        let doubled = self.first_ms.saturating_mul(1_u64 << failures.saturating_sub(1).min(32));
        let longest = doubled.clamp(1, self.longest_ms.max(1));
        // Full jitter: from 1 to the longest, so that sinks that failed together do not come back together.
        let jittered = 1 + random % longest;
        let wish = wish.map_or(0, |wish| u64::try_from(wish.as_millis()).unwrap_or(WISH_MS_MAX));
        jittered.max(wish.min(WISH_MS_MAX))
    }
}

/// The state of a sink, as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Circuit {
    /// Delivers, or has nothing to deliver.
    Closed,
    /// The last attempts failed; tries again soon.
    Retrying,
    /// Many attempts failed in a row; tries again now and then.
    Open,
    /// A person must act; tries again at long intervals.
    Stopped,
    /// A person paused it.
    Paused,
}

/// Small seeded generator for jitter (SplitMix64). Not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Jitter(pub(crate) u64);

impl Jitter {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
