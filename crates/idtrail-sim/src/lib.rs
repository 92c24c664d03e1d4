//! Seeded doubles of the four ports: clock, entropy, disk and network.
//!
//! Tests hand these to the code that in production gets the operating system. Every choice that a double makes
//! comes from a [`Seed`], so a failing run is replayed exactly by its seed; time passes only when a test says so.
//!
//! - [`SimClock`]: wall and monotonic time, moved by hand.
//! - [`SimEntropy`]: ChaCha20 from a seed, split in streams by label.
//! - [`SimDisk`]: a file system in memory that forgets what was not synced, fails where it is told to, and crashes.
//! - [`SimNetwork`]: requests to a handler, lost, repeated, late or answered.
//!
//! What this crate must never do: read real time, start threads, keep global state, or soften a fault because
//! some caller cannot cope with it.

mod clock;
mod disk;
mod entropy;
mod network;
mod seed;

pub use clock::SimClock;
pub use disk::{
    Count, EIO, ENOSPC, Effect, Fault, Operation, OperationKind, Repeat, SECTOR_BYTES, SimDisk, Snapshot,
    is_crash,
};
pub use entropy::SimEntropy;
pub use network::{Fate, NetworkRates, NetworkRecord, SimNetwork};
pub use seed::{Rng, Seed, seeds, seeds_from};
