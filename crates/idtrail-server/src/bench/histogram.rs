//! Counts of durations in log-linear buckets: constant memory, less than 1 % error, no allocation while measuring.
//!
//! Each power of two is cut into 128 equal buckets. Values from 0 to 127 ns are exact; values above 2^37 ns (137 s)
//! count as that.

/// Buckets of one power of two, as a power of two.
const SUB_BITS: u32 = 7;
const SUB: u64 = 1 << SUB_BITS;
/// Highest power of two that is told apart.
const MAX_BITS: u32 = 37;
const VALUE_MAX: u64 = (1 << MAX_BITS) - 1;
const BUCKETS: usize = ((MAX_BITS - SUB_BITS + 1) as usize) << SUB_BITS;

/// Durations in nanoseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, ns: u64) {
        if let Some(count) = self.counts.get_mut(bucket(ns.min(VALUE_MAX))) {
            *count += 1;
            self.count += 1;
        }
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
    }

    /// Returns how many durations were counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns a duration, in nanoseconds, that `per_mille` thousandths of all durations do not exceed; 0 if there
    /// are none.
    #[must_use]
    pub fn quantile_ns(&self, per_mille: u64) -> u64 {
        let wanted = (u128::from(self.count) * u128::from(per_mille)).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= wanted {
                return upper_end(bucket);
            }
        }
        0
    }
}

/// `value` is at most [`VALUE_MAX`].
fn bucket(value: u64) -> usize {
    let bits = u64::BITS - value.leading_zeros();
    let shift = bits.saturating_sub(SUB_BITS + 1);
    // Above 128 the value, shifted, lies in 128..256: the leading bit is dropped by counting from bucket 128 × shift.
    usize::try_from(u64::from(shift) * SUB + (value >> shift)).unwrap_or(usize::MAX)
}

/// Returns the largest value of a bucket.
fn upper_end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / SUB).saturating_sub(1);
    let first = (bucket - shift * SUB) << shift;
    first + (1 << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_buckets_are_narrow() {
        let near = (0..=MAX_BITS).flat_map(|bits| {
            let power = 1u64 << bits;
            [power.saturating_sub(1), power, power + 1, power + power / 3]
        });
        let mut last = (0, 0);
        let mut values: Vec<u64> = (0..5000).chain(near).map(|value| value.min(VALUE_MAX)).collect();
        values.sort_unstable();
        for value in values {
            let bucket = bucket(value);
            assert!(bucket < BUCKETS, "{value}");
            assert!(upper_end(bucket) >= value && upper_end(bucket) - value <= value / 128 + 1, "{value}");
            assert!(last.0 <= value && last.1 <= bucket, "{value}");
            last = (value, bucket);
        }
        assert_eq!(bucket(VALUE_MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_a_known_distribution() {
        let mut one = Histogram::default();
        let mut two = Histogram::default();
        for us in 1..=1000 {
            if us % 2 == 0 { &mut one } else { &mut two }.record(us * 1000);
        }
        one.merge(&two);
        assert_eq!(one.count(), 1000);
        for (per_mille, ns) in [(0, 1000), (500, 500_000), (990, 990_000), (1000, 1_000_000)] {
            let found = one.quantile_ns(per_mille);
            assert!(found >= ns && found - ns <= ns / 100 + 8, "{per_mille}: {found}");
        }
        assert_eq!(Histogram::default().quantile_ns(500), 0);
        one.record(u64::MAX);
        assert_eq!(one.quantile_ns(1000), VALUE_MAX);
    }
}
