//! The outside world as traits: clock, entropy, disk and network.
//!
//! Every other crate reaches time, randomness, files and sockets only through these four traits, so that the
//! simulator can replace all of them by seeded doubles and replay one seed exactly. `clippy.toml` bans the
//! direct ways. The implementations over the operating system stand in [`os`].
//!
//! What this crate must never do: know what an event, a leaf or a key is.

use std::sync::Arc;

mod disk;
mod network;
pub mod os;

pub use disk::{
    Attributes, Disk, DiskFile, DiskLock, Open, Privacy, Space, append_extension, create_dir_durable,
    read_optional, read_whole, wipe, write_atomic,
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

/// Random bytes taken from a source in larger portions: one call to the kernel serves many nonces and ids.
///
/// Bytes are wiped once given out. For nonces and ids, which are no secrets; keys are taken from the source itself.
pub struct RandomPool {
    source: Arc<dyn Entropy>,
    pool: [u8; POOL_BYTES],
    used: usize,
}

const POOL_BYTES: usize = 4096;

impl std::fmt::Debug for RandomPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RandomPool(…)")
    }
}

impl RandomPool {
    /// Returns an empty pool over `source`.
    pub fn new(source: Arc<dyn Entropy>) -> Self {
        Self { source, pool: [0; POOL_BYTES], used: POOL_BYTES }
    }

    /// Returns `N` random bytes that nobody gets again. `N` is far below the pool's size.
    ///
    /// # Panics
    /// When the source panics, or if `N` is larger than the pool.
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.used + N > POOL_BYTES {
            self.source.fill(&mut self.pool);
            self.used = 0;
        }
        let fresh = self.pool.get_mut(self.used..self.used + N).expect("an id is shorter than the pool");
        let bytes = <[u8; N]>::try_from(&*fresh).expect("the range is N bytes long");
        fresh.fill(0);
        self.used += N;
        bytes
    }
}
