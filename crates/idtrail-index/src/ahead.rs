//! What was decided and is not in the index yet.
//!
//! The index learns of a leaf only once it is durable, and a moment later. Until then the sequencer remembers its own
//! decisions here; as soon as the index has read up to a leaf, that leaf's part is forgotten. So the size is bounded by
//! how far the index may be behind, not by the log.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use idtrail_event::GlobalCustomerId;

use crate::facts::{EventFacts, Key};
use crate::lookup::{Head, Seen};
use crate::store::memtable::FirstBytes;

/// Under keyed hashes and random ids.
type Keyed<K, V> = HashMap<K, V, BuildHasherDefault<FirstBytes>>;

#[derive(Default)]
pub(crate) struct Ahead {
    decided: VecDeque<(u64, EventFacts)>,
    seen: Keyed<Key, Seen>,
    heads: Keyed<GlobalCustomerId, Head>,
}

impl Ahead {
    /// Remembers a decision.
    pub(crate) fn push(&mut self, index: u64, event: &EventFacts) {
        self.seen.insert(event.dedupe, Seen { index, content: event.content });
        self.heads.insert(event.subject, Head { index, sequence: event.subject_sequence });
        self.decided.push_back((index, event.clone()));
    }

    /// Forgets the decisions below `applied`, which the index knows.
    pub(crate) fn catch_up(&mut self, applied: u64) {
        while let Some((index, event)) = self.decided.pop_front_if(|(index, _)| *index < applied) {
            // A later decision may have taken the place.
            if self.seen.get(&event.dedupe).is_some_and(|seen| seen.index == index) {
                self.seen.remove(&event.dedupe);
            }
            if self.heads.get(&event.subject).is_some_and(|head| head.index == index) {
                self.heads.remove(&event.subject);
            }
        }
    }

    pub(crate) fn seen(&self, key: &Key) -> Option<Seen> {
        self.seen.get(key).copied()
    }

    pub(crate) fn head(&self, subject: GlobalCustomerId) -> Option<Head> {
        self.heads.get(&subject).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.decided.len()
    }
}
