//! A hash table from keys that live elsewhere to numbers, that grows a small part at a time.
//!
//! A slot holds a number and 32 bits of its hash; the key is compared by the caller, whole, in the arena where it
//! lives. The table is 4,096 small tables: one that grows moves its own few thousand slots, which takes microseconds,
//! and needs no look at the keys to do so.

const SHARD_BITS: u32 = 12;
const SLOTS_MIN: usize = 4;

#[derive(Clone, Default)]
struct Shard {
    /// Hash in the high half, number plus one in the low half; 0 is free. The length is 0 or a power of two.
    slots: Vec<u64>,
    used: usize,
}

/// The table.
#[derive(Clone)]
pub(crate) struct Table {
    shards: Vec<Shard>,
    len: usize,
}

/// Spreads the bits of a word (the finaliser of SplitMix64).
#[inline]
pub(crate) const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Hashes bytes that are keyed hashes or random already, with a number beside them.
pub(crate) fn hash_bytes(bytes: &[u8], beside: u64) -> u64 {
    let head = bytes.first_chunk::<8>().map_or(0, |head| u64::from_le_bytes(*head));
    mix(head ^ beside.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

const fn fingerprint(hash: u64) -> u32 {
    hash as u32
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { shards: vec![Shard::default(); 1 << SHARD_BITS], len: 0 }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.slots.capacity() * 8 + size_of::<Shard>()).sum()
    }

    fn shard(&self, hash: u64) -> &Shard {
        self.shards.get((hash >> (64 - SHARD_BITS)) as usize).expect("12 bits number 4,096 shards")
    }

    /// Returns the number under a hash for which `same` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        self.shard(hash).find(fingerprint(hash), same).map(|(_, number)| number)
    }

    /// Adds a number; the caller made sure that its key is not there.
    pub(crate) fn insert(&mut self, hash: u64, number: u32) {
        self.len += 1;
        self.shard_mut(hash).insert(fingerprint(hash), number);
    }

    /// Takes a number out.
    pub(crate) fn remove(&mut self, hash: u64, number: u32) {
        if self.shard_mut(hash).remove(fingerprint(hash), number) {
            self.len -= 1;
        }
    }

    fn shard_mut(&mut self, hash: u64) -> &mut Shard {
        self.shards.get_mut((hash >> (64 - SHARD_BITS)) as usize).expect("12 bits number 4,096 shards")
    }
}

impl Shard {
    fn find(&self, fingerprint: u32, same: impl Fn(u32) -> bool) -> Option<(usize, u32)> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = fingerprint as usize & mask;
        loop {
            let slot = *self.slots.get(at)?;
            if slot == 0 {
                return None;
            }
            let number = (slot as u32) - 1;
            if (slot >> 32) as u32 == fingerprint && same(number) {
                return Some((at, number));
            }
            at = (at + 1) & mask;
        }
    }

    fn insert(&mut self, fingerprint: u32, number: u32) {
        if (self.used + 1) * 8 > self.slots.len() * 7 {
            self.grow();
        }
        self.used += 1;
        self.place(u64::from(fingerprint) << 32 | u64::from(number + 1));
    }

    fn place(&mut self, slot: u64) {
        let mask = self.slots.len() - 1;
        let mut at = (slot >> 32) as usize & mask;
        while self.slots.get(at).is_some_and(|taken| *taken != 0) {
            at = (at + 1) & mask;
        }
        if let Some(free) = self.slots.get_mut(at) {
            *free = slot;
        }
    }

    fn grow(&mut self) {
        let slots = vec![0; (self.slots.len() * 2).max(SLOTS_MIN)];
        for slot in std::mem::replace(&mut self.slots, slots) {
            if slot != 0 {
                self.place(slot);
            }
        }
    }

    fn remove(&mut self, fingerprint: u32, number: u32) -> bool {
        let Some((mut hole, _)) = self.find(fingerprint, |other| other == number) else { return false };
        self.used -= 1;
        let mask = self.slots.len() - 1;
        let mut at = hole;
        // Slots behind the hole move up unless that would put one before its own place.
        loop {
            at = (at + 1) & mask;
            let slot = self.slots.get(at).copied().unwrap_or(0);
            if slot == 0 {
                break;
            }
            let home = (slot >> 32) as usize & mask;
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                if let Some(free) = self.slots.get_mut(hole) {
                    *free = slot;
                }
                hole = at;
            }
        }
        if let Some(free) = self.slots.get_mut(hole) {
            *free = 0;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{Table, mix};

    proptest! {
        /// Does what a map does, with few hashes so that numbers collide and slots move.
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec((0_u64..200, any::<bool>()), 1..600)) {
            let mut table = Table::new();
            let mut model = BTreeMap::new();
            // Seven bits of hash in one shard: long runs of colliding slots.
            let hash = |key: u64| mix(key) & 0x7f;
            for (key, add) in steps {
                let found = table.find(hash(key), |number| u64::from(number) == key);
                prop_assert_eq!(found.is_some(), model.contains_key(&key));
                if add && found.is_none() {
                    table.insert(hash(key), key as u32);
                    model.insert(key, ());
                } else if !add {
                    table.remove(hash(key), key as u32);
                    model.remove(&key);
                }
                prop_assert_eq!(table.len, model.len());
            }
            for key in 0..200 {
                let found = table.find(hash(key), |number| u64::from(number) == key);
                prop_assert_eq!(found.is_some(), model.contains_key(&key));
            }
        }
    }
}
