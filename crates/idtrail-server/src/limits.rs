//! Budgets per credential: how many events a key may send, and how many reading requests a credential may make.
//!
//! The two are apart, so that an export cannot starve ingestion. A budget is a token bucket (GCRA) that holds one
//! second's worth; it is kept by credential id, never by network address, which a proxy hides and a client can forge.
//! The time comes from the clock port. Nothing here waits: a request over budget is refused with the time to wait.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::{Clock as GovernorClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use idtrail_port::Clock;

use crate::problem::Problem;
use crate::settings::LimitSettings;

/// Monotonic time of the clock port, as the rate limiter sees it.
#[derive(Clone)]
pub(crate) struct PortClock(Arc<dyn Clock>);

/// Nanoseconds since the port's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(u64);

impl std::ops::Add<Nanos> for Instant {
    type Output = Self;

    fn add(self, nanos: Nanos) -> Self {
        Self(self.0.saturating_add(nanos.as_u64()))
    }
}

impl Reference for Instant {
    fn duration_since(&self, earlier: Self) -> Nanos {
        Nanos::new(self.0.saturating_sub(earlier.0))
    }

    fn saturating_sub(&self, nanos: Nanos) -> Self {
        Self(self.0.checked_sub(nanos.as_u64()).unwrap_or(self.0))
    }
}

impl GovernorClock for PortClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        Instant(self.0.monotonic_ns())
    }
}

/// One token bucket for each key.
pub(crate) struct KeyedBudget {
    limiter: RateLimiter<Arc<str>, DashMapStateStore<Arc<str>>, PortClock, NoOpMiddleware<Instant>>,
    clock: PortClock,
    burst: NonZeroU32,
}

impl KeyedBudget {
    pub(crate) fn new(quota: Quota, clock: Arc<dyn Clock>) -> Self {
        let clock = PortClock(clock);
        let limiter = RateLimiter::dashmap_with_clock(quota, clock.clone());
        Self { limiter, clock, burst: quota.burst_size() }
    }

    /// Takes `count` from the bucket of `key`, or says how many seconds to wait. More than the bucket ever holds
    /// counts as a full bucket, so that a large batch passes when nothing else was sent.
    pub(crate) fn take(&self, key: &str, count: NonZeroU32) -> Result<(), u32> {
        let taken = self.limiter.check_key_n(&Arc::from(key), count.min(self.burst));
        match taken {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => {
                let wait = not_until.wait_time_from(self.clock.now());
                Err(u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1))
            }
            // Cannot be: never more than the bucket's size is asked for.
            Err(_) => Err(1),
        }
    }

    /// Forgets the keys whose bucket is full again.
    pub(crate) fn sweep(&self) {
        self.limiter.retain_recent();
    }
}

/// The budgets of all credentials.
pub struct Budgets {
    events: Option<KeyedBudget>,
    reads: Option<KeyedBudget>,
}

impl Budgets {
    /// Makes the budgets that the settings name; 0 is none.
    #[must_use]
    pub fn new(limits: &LimitSettings, clock: &Arc<dyn Clock>) -> Self {
        let budget = |per_second| {
            let rate = NonZeroU32::new(per_second)?;
            Some(KeyedBudget::new(Quota::per_second(rate), Arc::clone(clock)))
        };
        Self { events: budget(limits.events_per_second), reads: budget(limits.reads_per_second) }
    }

    /// Takes `count` events from the budget of a key. A batch takes all of its events at once.
    ///
    /// # Errors
    /// `too_many_requests` with the seconds to wait.
    pub fn take_events(&self, key_id: &str, count: u32) -> Result<(), Problem> {
        take(self.events.as_ref(), key_id, count)
    }

    /// Takes one reading request from the budget of a credential (a key's or a person's id).
    ///
    /// # Errors
    /// `too_many_requests` with the seconds to wait.
    pub fn take_read(&self, credential_id: &str) -> Result<(), Problem> {
        take(self.reads.as_ref(), credential_id, 1)
    }

    /// Forgets credentials that were not used lately. To be called every minute or so.
    pub fn sweep(&self) {
        for budget in [&self.events, &self.reads].into_iter().flatten() {
            budget.sweep();
        }
    }
}

fn take(budget: Option<&KeyedBudget>, id: &str, count: u32) -> Result<(), Problem> {
    match (budget, NonZeroU32::new(count)) {
        (Some(budget), Some(count)) => budget.take(id, count).map_err(Problem::too_many_requests),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Code;
    use crate::token::tests::TestClock;

    fn budgets(events_per_second: u32, reads_per_second: u32) -> (Budgets, Arc<TestClock>) {
        let clock = TestClock::at_s(1_790_000_000);
        let limits = LimitSettings {
            body_bytes_max: 1,
            queue_events_max: 1,
            events_per_second,
            reads_per_second,
            request_timeout_ms: 1,
            disk_free_bytes_min: 0,
        };
        (Budgets::new(&limits, &(Arc::clone(&clock) as Arc<dyn Clock>)), clock)
    }

    #[test]
    fn budget_refills_with_the_clock_and_is_kept_apart() {
        let (budgets, clock) = budgets(10, 1);
        for _ in 0..10 {
            budgets.take_events("a", 1).unwrap();
        }
        assert_eq!(budgets.take_events("a", 1).unwrap_err().code(), Code::TooManyRequests);
        budgets.take_events("b", 10).unwrap();
        budgets.take_read("a").unwrap();
        assert!(budgets.take_read("a").is_err());
        clock.advance_ms(100);
        budgets.take_events("a", 1).unwrap();
        assert!(budgets.take_events("a", 1).is_err());
        clock.advance_ms(5000);
        budgets.sweep();
        budgets.take_events("a", 10).unwrap();
        assert!(budgets.take_events("a", 1).is_err());
    }

    #[test]
    fn batch_larger_than_the_bucket_passes_when_it_is_full() {
        let (budgets, clock) = budgets(10, 0);
        budgets.take_events("a", 1000).unwrap();
        assert!(budgets.take_events("a", 1000).is_err());
        clock.advance_ms(1000);
        budgets.take_events("a", 1000).unwrap();
    }

    #[test]
    fn zero_is_no_limit() {
        let (budgets, _) = budgets(0, 0);
        for _ in 0..100_000 {
            budgets.take_events("a", 1000).unwrap();
            budgets.take_read("a").unwrap();
        }
    }
}
