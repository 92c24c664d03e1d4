//! A clock that stands still until it is moved.
//!
//! Wall time is monotonic time plus an offset, so that advancing moves both and a jump (an NTP step, a leap in
//! a virtual machine) moves only the wall. Clones show the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use idtrail_port::Clock;

/// 2026-01-01T00:00:00Z in milliseconds.
const START_WALL_MS: i64 = 1_767_225_600_000;

/// A clock moved by hand.
#[derive(Clone, Debug)]
pub struct SimClock(Arc<Hands>);

#[derive(Debug)]
struct Hands {
    monotonic_ns: AtomicU64,
    wall_offset_ms: AtomicI64,
}

impl Default for SimClock {
    /// Starts at 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::new(START_WALL_MS)
    }
}

impl SimClock {
    /// Starts at a wall time in milliseconds since 1970; monotonic time starts at 0.
    pub fn new(wall_ms: i64) -> Self {
        Self(Arc::new(Hands { monotonic_ns: AtomicU64::new(0), wall_offset_ms: AtomicI64::new(wall_ms) }))
    }

    /// Lets time pass, on the wall and monotonically.
    ///
    /// # Panics
    /// After 584 years.
    pub fn advance(&self, by: Duration) {
        let by_ns = u64::try_from(by.as_nanos()).expect("a test lasts less than 584 years");
        let before = self.0.monotonic_ns.fetch_add(by_ns, Ordering::SeqCst);
        assert!(before.checked_add(by_ns).is_some(), "a test lasts less than 584 years");
    }

    /// Lets `by_ms` milliseconds pass.
    pub fn advance_ms(&self, by_ms: u64) {
        self.advance(Duration::from_millis(by_ms));
    }

    /// Moves the wall time forwards or backwards without any time passing.
    pub fn jump_wall_ms(&self, by_ms: i64) {
        self.0.wall_offset_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// Sets the wall time without any time passing.
    pub fn set_wall_ms(&self, wall_ms: i64) {
        self.0.wall_offset_ms.store(wall_ms - self.passed_ms(), Ordering::SeqCst);
    }

    fn passed_ms(&self) -> i64 {
        i64::try_from(self.monotonic_ns() / 1_000_000).expect("2^64 ns are fewer than 2^63 ms")
    }
}

impl Clock for SimClock {
    fn wall_ms(&self) -> i64 {
        self.0.wall_offset_ms.load(Ordering::SeqCst) + self.passed_ms()
    }

    fn monotonic_ns(&self) -> u64 {
        self.0.monotonic_ns.load(Ordering::SeqCst)
    }
}
