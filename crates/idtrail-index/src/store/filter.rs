//! A Bloom filter in blocks of one cache line (Putze, Sanders, Singler 2007): most look-ups of keys that a run does not
//! hold end here, without a read.
//!
//! Keys are keyed hashes or random, so their own bytes are the hash functions.

use super::table::{KEY_BYTES, Table};

const BITS_PER_KEY: u64 = 10;
const PROBES: u32 = 6;
const LINE_WORDS: usize = 8;
const LINE_BITS: u64 = 512;
pub(crate) const LINE_BYTES: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter(Vec<[u64; LINE_WORDS]>);

impl Filter {
    /// Returns an empty filter for `keys` keys.
    pub(crate) fn new(keys: u64) -> Self {
        let lines = (keys.saturating_mul(BITS_PER_KEY)).div_ceil(LINE_BITS).max(1);
        Self(vec![[0; LINE_WORDS]; usize::try_from(lines).unwrap_or(1)])
    }

    pub(crate) fn insert(&mut self, table: Table, key: &[u8; KEY_BYTES]) {
        let (line, mut bits) = self.place(table, key);
        if let Some(line) = self.0.get_mut(line) {
            for _ in 0..PROBES {
                if let Some(word) = line.get_mut((bits >> 6) as usize & (LINE_WORDS - 1)) {
                    *word |= 1 << (bits & 63);
                }
                bits >>= 9;
            }
        }
    }

    /// Tells whether the key may be there; never false for one that is.
    pub(crate) fn may_hold(&self, table: Table, key: &[u8; KEY_BYTES]) -> bool {
        let (line, mut bits) = self.place(table, key);
        self.0.get(line).is_none_or(|line| {
            (0..PROBES).all(|_| {
                let word = line.get((bits >> 6) as usize & (LINE_WORDS - 1)).copied().unwrap_or(u64::MAX);
                let set = word >> (bits & 63) & 1 == 1;
                bits >>= 9;
                set
            })
        })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flatten().flat_map(|word| word.to_be_bytes()).collect()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (lines, rest) = bytes.as_chunks::<LINE_BYTES>();
        let line = |line: &[u8; LINE_BYTES]| {
            let (words, _) = line.as_chunks::<8>();
            let mut read = [0; LINE_WORDS];
            for (to, from) in read.iter_mut().zip(words) {
                *to = u64::from_be_bytes(*from);
            }
            read
        };
        (rest.is_empty() && !lines.is_empty()).then(|| Self(lines.iter().map(line).collect()))
    }

    /// Returns the line, and bits enough for all probes.
    fn place(&self, table: Table, key: &[u8; KEY_BYTES]) -> (usize, u64) {
        let word = |at: usize| {
            let bytes = key.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            u64::from_be_bytes(bytes.unwrap_or_default())
        };
        // The tables' keys are apart from each other anyway; the number only keeps their lines apart.
        let line = word(0).wrapping_add((table.number() as u64) << 56);
        let line = (u128::from(line) * self.0.len() as u128) >> 64;
        (usize::try_from(line).unwrap_or(0), word(8))
    }
}

#[cfg(test)]
mod tests {
    use idtrail_sim::{Rng, Seed};

    use super::*;

    #[test]
    fn it_holds_what_was_put_in_and_little_else() {
        let mut rng = Rng::new(Seed::new(1));
        let mut key = || {
            let mut key = [0; KEY_BYTES];
            rng.fill(&mut key);
            key
        };
        let keys: Vec<_> = (0..10_000).map(|_| key()).collect();
        let mut filter = Filter::new(keys.len() as u64);
        keys.iter().for_each(|key| filter.insert(Table::SeenId, key));
        let filter = Filter::from_bytes(&filter.to_bytes()).unwrap();
        assert!(keys.iter().all(|key| filter.may_hold(Table::SeenId, key)));
        let wrong = (0..10_000).filter(|_| filter.may_hold(Table::SeenId, &key())).count();
        assert!(wrong < 300, "{wrong} of 10,000");
    }
}
