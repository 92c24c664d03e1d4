//! The outside world as traits: clock, entropy, disk and network.
//!
//! Every other crate reaches time, randomness, files and sockets only through these four traits, so that the
//! simulator can replace all of them by seeded doubles and replay one seed exactly. `clippy.toml` bans the
//! direct ways. The implementations over the operating system stand in [`os`].
//!
//! What this crate must never do: know what an event, a leaf or a key is.

mod disk;
mod network;
pub mod os;

pub use disk::{
    Disk, DiskFile, DiskLock, Open, Privacy, append_extension, create_dir_durable, read_optional, read_whole,
    write_atomic,
};
pub use network::{Exchange, Network, NetworkError};

/// Tells the time: wall time for people, monotonic time for distances.
pub trait Clock: Send + Sync {
    /// Returns the wall time in milliseconds since 1970-01-01T00:00:00Z, without leap seconds. May jump.
    fn wall_ms(&self) -> i64;

    /// Returns nanoseconds since an arbitrary start. Never decreases and never jumps with the wall time.
    fn monotonic_ns(&self) -> u64;
}

/// Gives random bytes fit for keys.
pub trait Entropy: Send + Sync {
    /// Fills `buffer` with random bytes.
    ///
    /// # Panics
    /// When the operating system has no randomness to give: no key, nonce or id could be made safely then.
    fn fill(&self, buffer: &mut [u8]);
}

/// Returns `N` random bytes from `entropy`.
pub fn random<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}
