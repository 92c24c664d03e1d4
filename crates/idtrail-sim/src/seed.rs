//! Seeds and the small generator that the doubles and the tests draw from.
//!
//! A [`Seed`] is one number that a failing test prints. Labels split it: a stream derived for the disk does not
//! change when the network draws once more, so a change in one part of a scenario leaves the others as they were.
//! The generator is ChaCha8, whose output for a seed is fixed by its test vectors: a seed stays valid for years.
//!
//! Not for keys of a real log: there, randomness comes from the operating system.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// The number that one simulated run depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seed(u64);

impl Seed {
    /// Wraps a number, as printed by a failing test.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the seed of an independent stream; the same label gives the same seed again.
    pub fn derive(self, label: &str) -> Self {
        // FNV-1a: labels are few, short and chosen by us, so all it has to do is to keep them apart.
        let label = label.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(mix(mix(self.0).wrapping_add(label)))
    }

    /// Returns a generator that starts at this seed.
    pub fn rng(self) -> Rng {
        Rng::new(self)
    }

    /// Stretches the seed to a ChaCha key.
    pub(crate) fn key(self) -> [u8; 32] {
        let mut key = [0; 32];
        let mut state = self.0;
        for chunk in key.chunks_exact_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            chunk.copy_from_slice(&mix(state).to_le_bytes());
        }
        key
    }
}

impl std::fmt::Display for Seed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Spreads neighbouring numbers over all 64 bits (the finaliser of SplitMix64).
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Returns the fixed seeds 0, 1, 2 … that a test runs with by default.
///
/// Whoever wants other seeds passes them by [`seeds_from`]; this crate does not read the environment.
pub fn seeds(default_count: u64) -> impl Iterator<Item = u64> {
    seeds_from(0, default_count)
}

/// Returns `count` seeds from `first` on: one seed to replay a failure, or a fresh range for a soak.
pub fn seeds_from(first: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |offset| first.wrapping_add(offset))
}

/// A small deterministic generator.
#[derive(Clone, Debug)]
pub struct Rng {
    seed: Seed,
    chacha: ChaCha8Rng,
}

impl Rng {
    /// Starts a generator.
    pub fn new(seed: Seed) -> Self {
        Self { seed, chacha: ChaCha8Rng::from_seed(seed.key()) }
    }

    /// Returns a generator for `label` that depends on this one's seed, and not on how much was drawn from it.
    pub fn derive(&self, label: &str) -> Self {
        Self::new(self.seed.derive(label))
    }

    /// Returns 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.chacha.next_u64()
    }

    /// Returns a number below `bound`.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number is below 0");
        // Multiply and shift: biased by less than bound / 2^64, which no test can see.
        let wide = u128::from(self.bits()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the high half of a 128-bit product fits in 64 bits")
    }

    /// Returns a number in `range`.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        assert!(range.start < range.end, "the range is empty");
        range.start + self.below(range.end - range.start)
    }

    /// Returns an index into something of `length` items.
    ///
    /// # Panics
    /// If `length` is 0.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("it is below a usize")
    }

    /// Returns true `part` times out of `whole`.
    pub fn chance(&mut self, part: u64, whole: u64) -> bool {
        self.below(whole) < part
    }

    /// Returns one of the items, or `None` if there is none.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() { None } else { items.get(self.index(items.len())) }
    }

    /// Puts the items in random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// Fills `buffer` with random bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        self.chacha.fill_bytes(buffer);
    }

    /// Returns `length` random bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes
    }
}
