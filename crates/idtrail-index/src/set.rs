//! A set of log indices as sorted ranges: what an erasure or an expiry concerns.

use std::ops::Range;

/// Log indices, as ranges that rise and do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexSet(Vec<Range<u64>>);

impl IndexSet {
    /// Tells whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many indices are in it.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Tells whether an index is in it.
    pub fn contains(&self, index: u64) -> bool {
        let after = self.0.partition_point(|range| range.start <= index);
        after.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|range| index < range.end)
    }

    /// Tells whether any index of a range is in it.
    pub fn meets(&self, other: &Range<u64>) -> bool {
        let at = self.0.partition_point(|range| range.end <= other.start);
        self.0.get(at).is_some_and(|range| range.start < other.end)
    }

    /// Returns the ranges, rising.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.0
    }

    /// Adds all of another set.
    pub fn extend(&mut self, other: &Self) {
        *self = self.0.iter().chain(&other.0).cloned().collect();
    }
}

impl FromIterator<u64> for IndexSet {
    fn from_iter<I: IntoIterator<Item = u64>>(indices: I) -> Self {
        indices.into_iter().map(|index| index..index.saturating_add(1)).collect()
    }
}

impl FromIterator<Range<u64>> for IndexSet {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut all: Vec<Range<u64>> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        // Cheap for what rises already, as a scan of the log gives it.
        all.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::new();
        for range in all {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        Self(merged)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_set_of_its_members(members in proptest::collection::vec(0_u64..60, 0..80), probe in 0_u64..70) {
            let set: IndexSet = members.iter().copied().collect();
            let model: BTreeSet<u64> = members.iter().copied().collect();
            prop_assert_eq!(set.len(), model.len() as u64);
            prop_assert_eq!(set.contains(probe), model.contains(&probe));
            prop_assert_eq!(set.meets(&(probe..probe + 3)), model.range(probe..probe + 3).next().is_some());
            let flat: Vec<u64> = set.ranges().iter().cloned().flatten().collect();
            prop_assert_eq!(flat, model.iter().copied().collect::<Vec<_>>());
            let (left, right) = members.split_at(members.len() / 2);
            let mut both: IndexSet = left.iter().copied().collect();
            both.extend(&right.iter().copied().collect());
            prop_assert_eq!(both, set);
        }
    }
}
