//! Random bytes that a seed repeats.
//!
//! ChaCha20, as strong as the kernel's generator except that whoever knows the seed knows every byte. Streams by
//! label keep two users apart: how much one of them draws never shifts what the other gets. Clones share one
//! stream's position.

use std::sync::{Arc, Mutex};

use idtrail_port::Entropy;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

use crate::Seed;

/// A seeded source of random bytes.
#[derive(Clone, Debug)]
pub struct SimEntropy {
    seed: Seed,
    chacha: Arc<Mutex<ChaCha20Rng>>,
}

impl SimEntropy {
    /// Starts a stream.
    pub fn new(seed: Seed) -> Self {
        Self { seed, chacha: Arc::new(Mutex::new(ChaCha20Rng::from_seed(seed.derive("entropy").key()))) }
    }

    /// Starts the stream of `label`, which depends on this one's seed only.
    pub fn stream(&self, label: &str) -> Self {
        Self::new(self.seed.derive(label))
    }
}

impl Entropy for SimEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        self.chacha.lock().expect("nothing panics while it holds this lock").fill_bytes(buffer);
    }
}
