//! How identity counts leaves: one number after the other over all logs of an installation, oldest first.
//!
//! A leaf is named by its log and its index there; identity needs one order over all of them. Earlier logs are final, so a
//! number stays what it is. Numbers never leave the process: every answer names the log and the index.

use idtrail_log::{OriginOrdinal, Reference};
use idtrail_tlog::{LogIndex, TreeSize};

/// The logs of an installation laid end to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// Where each earlier log starts, oldest first.
    earlier: Vec<(OriginOrdinal, u64)>,
    /// Where the log starts that is written to.
    newest: (OriginOrdinal, u64),
}

impl Numbering {
    /// Returns the numbering of a log that continues earlier ones, oldest first, which ended at these sizes.
    pub fn new(newest: OriginOrdinal, earlier: impl IntoIterator<Item = (OriginOrdinal, TreeSize)>) -> Self {
        let mut next = 0;
        let mut starts = Vec::new();
        for (ordinal, size) in earlier {
            starts.push((ordinal, next));
            next += size.get();
        }
        Self { earlier: starts, newest: (newest, next) }
    }

    /// Returns the number of the first leaf of a log; `None` if the installation has no such log.
    pub fn start(&self, log: OriginOrdinal) -> Option<u64> {
        let mut all = self.earlier.iter().chain([&self.newest]);
        all.find(|(ordinal, _)| *ordinal == log).map(|(_, start)| *start)
    }

    /// Returns the number of a leaf; `None` if the installation has no such log.
    pub fn number(&self, place: Reference) -> Option<LogIndex> {
        Some(LogIndex::new(self.start(place.origin)?.saturating_add(place.index.get())))
    }

    /// Returns the place of a leaf.
    pub fn place(&self, number: LogIndex) -> Reference {
        let newest = Some(&self.newest).filter(|(_, start)| *start <= number.get());
        let found = newest.or_else(|| self.earlier.iter().rev().find(|(_, start)| *start <= number.get()));
        let (origin, start) = *found.unwrap_or(&self.newest);
        Reference { origin, index: LogIndex::new(number.get().saturating_sub(start)) }
    }

    /// Returns the size that the log that is written to must have for everything below a number to stand in a log.
    pub fn size_in_newest(&self, next: LogIndex) -> TreeSize {
        TreeSize::new(next.get().saturating_sub(self.newest.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_has_one_number_and_comes_back_from_it() {
        // The log in between was lost as a whole, and one log ended empty.
        let earlier = [(0, 8), (2, 0), (3, 3)].map(|(at, size)| (OriginOrdinal(at), TreeSize::new(size)));
        let numbering = Numbering::new(OriginOrdinal(4), earlier);
        let places = [(0, 0), (0, 7), (3, 0), (3, 2), (4, 0), (4, 100)];
        for ((origin, index), number) in places.into_iter().zip([0, 7, 8, 10, 11, 111]) {
            let place = Reference { origin: OriginOrdinal(origin), index: LogIndex::new(index) };
            assert_eq!(numbering.number(place), Some(LogIndex::new(number)));
            assert_eq!(numbering.place(LogIndex::new(number)), place);
        }
        assert_eq!(numbering.start(OriginOrdinal(1)), None);
        assert_eq!(numbering.size_in_newest(LogIndex::new(5)), TreeSize::new(0));
        assert_eq!(numbering.size_in_newest(LogIndex::new(13)), TreeSize::new(2));
    }
}
