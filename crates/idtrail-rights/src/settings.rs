//! What an installation decides about its requests: who must approve, when to warn, how to try again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::calendar::Calendar;
use crate::clock::{Regime, Zone};
use crate::event::Level;
use crate::id::{Code, Digest};
use crate::plan::Kind;

/// When an attempt is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetrySchedule {
    /// After the first failure, milliseconds; doubled with each other one.
    pub base_ms: u64,
    /// At most, milliseconds.
    pub wait_ms_max: u64,
    /// Attempts, before a person must look.
    pub attempts_max: u32,
}

impl RetrySchedule {
    /// Returns how long to wait after the `attempt`-th failure (from 1): the doubled base, spread by up to a quarter so
    /// that many effects do not come back at once. The spread follows from the effect's id; a retry after a crash waits
    /// as long as it would have before.
    pub fn wait_ms(&self, attempt: u32, effect: &Digest) -> u64 {
        let doubled =
            self.base_ms.saturating_mul(1_u64 << attempt.saturating_sub(1).min(30)).min(self.wait_ms_max);
        let [first, ..] = *effect.as_bytes();
        doubled.saturating_add(doubled / 4 * u64::from(first) / 255)
    }
}

/// The settings of rights requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The laws, by their ids.
    pub regimes: Vec<Regime>,
    /// Working days.
    pub calendar: Calendar,
    /// The controller's legal time zone.
    pub zone: Zone,
    /// How surely a requester must be known, by kind; [`Level::OneChannel`] where nothing is said.
    pub levels: BTreeMap<Kind, Level>,
    /// How many different people must approve a plan, 0 to 2, by kind; 2 where nothing is said.
    pub approvals: BTreeMap<Kind, u8>,
    /// How often a requester may fail to show who they are.
    pub verification_failures_max: u32,
    /// Days before a date on which an alarm is given.
    pub alarm_days: Vec<i32>,
    /// From the approval of an erasure until it begins, milliseconds; it can be taken back meanwhile.
    pub grace_ms: u64,
    /// How long before the last moment the request is answered with what there is, milliseconds.
    pub margin_ms: u64,
    /// How long tasks of a reopened request are driven, milliseconds.
    pub reopened_ms: u64,
    /// When attempts are made again.
    pub retry: RetrySchedule,
    /// How long one call may take, milliseconds.
    pub call_ms: u64,
    /// Calls at once, per request.
    pub calls_max: usize,
    /// Whether a person looks through a package before it leaves.
    pub review: bool,
    /// How long a package can be fetched, milliseconds.
    pub link_ms: u64,
    /// How often.
    pub fetches_max: u32,
}

const DAY_MS: u64 = 86_400_000;

impl Default for Settings {
    fn default() -> Self {
        Self {
            regimes: vec![Regime::gdpr(), Regime::ccpa()],
            calendar: Calendar::weekends_only(),
            zone: Zone::parse("UTC0").expect("a time zone"),
            levels: BTreeMap::new(),
            approvals: [(Kind::Access, 0), (Kind::Portability, 0)].into(),
            verification_failures_max: 5,
            alarm_days: vec![14, 7, 2, 0],
            grace_ms: DAY_MS,
            margin_ms: 2 * DAY_MS,
            reopened_ms: 30 * DAY_MS,
            retry: RetrySchedule { base_ms: 30_000, wait_ms_max: DAY_MS / 4, attempts_max: 40 },
            call_ms: 60_000,
            calls_max: 8,
            review: true,
            link_ms: 7 * DAY_MS,
            fetches_max: 5,
        }
    }
}

impl Settings {
    /// Returns the law of an id.
    pub fn regime(&self, id: &Code) -> Option<&Regime> {
        self.regimes.iter().find(|regime| regime.id == *id)
    }

    /// Returns how surely a requester must be known.
    pub fn level(&self, kind: Kind) -> Level {
        self.levels.get(&kind).copied().unwrap_or(Level::OneChannel)
    }

    /// Returns how many different people must approve a plan.
    pub fn approvals(&self, kind: Kind) -> u8 {
        self.approvals.get(&kind).copied().unwrap_or(2).min(2)
    }
}
