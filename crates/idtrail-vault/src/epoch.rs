//! The number of a vault body: 1 for the first, one more with every write.
//!
//! The log records it with each shred, so that a vault that was rolled back is told from the newest one. It is
//! compared and counted up, never computed with: a number that was skipped would look like a body that was lost.

use std::fmt;

/// The number of a vault body. Each write of the vault makes the next one and destroys the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of a newly created vault.
    pub const FIRST: Self = Self(1);

    /// Wraps a number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the epoch after this one.
    ///
    /// # Panics
    /// After 2^64 - 1 writes.
    pub const fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("2^64 writes take longer than anybody waits"))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
