//! Where the events of a customer and of an interaction are, and which were there before. Follows the log; answers reads.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use idtrail_event::GlobalCustomerId;
use idtrail_event::clear::ShredIntentItem;
use idtrail_log::commit::Told;
use idtrail_log::shell::Follower;
use idtrail_tlog::{LogIndex, TreeSize};

use crate::IndexError;
use crate::facts::{Facts, Key, ShredStep};
use crate::set::IndexSet;

/// An event that was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) index: u64,
    pub(crate) content: Key,
}

/// The newest event of a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) index: u64,
    pub(crate) sequence: u64,
}

/// The index, shared by all threads. Clones are handles to the same index.
#[derive(Clone, Debug, Default)]
pub struct Lookup(Arc<RwLock<Maps>>);

#[derive(Debug, Default)]
struct Maps {
    applied: u64,
    received_ms: u64,
    seen: HashMap<Key, Seen>,
    /// With the first event that has this id.
    customers: HashMap<Key, (GlobalCustomerId, u64)>,
    /// Index to sequence number.
    subjects: HashMap<GlobalCustomerId, BTreeMap<u64, u64>>,
    interactions: HashMap<Key, Vec<u64>>,
    open: BTreeMap<String, ShredIntentItem>,
    done: HashMap<String, u64>,
    epoch: u64,
    epoch_applied: u64,
}

impl Lookup {
    /// Takes over one leaf.
    pub fn fold(&self, index: LogIndex, facts: &Facts) {
        self.write().fold(index.get(), facts);
    }

    /// Takes over that a leaf cannot be read.
    pub fn skip(&self, index: LogIndex) {
        self.write().applied = index.get() + 1;
    }

    /// Returns up to where leaves were taken over.
    pub fn applied(&self) -> TreeSize {
        TreeSize::new(self.read().applied)
    }

    /// Returns the newest receipt time in the log, milliseconds since 1970.
    pub fn received_ms(&self) -> u64 {
        self.read().received_ms
    }

    /// Returns the customer of a client's own customer id.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn customer(&self, key: &Key) -> Result<Option<GlobalCustomerId>, IndexError> {
        Ok(self.read().customers.get(key).map(|(subject, _)| *subject))
    }

    /// Returns the indices of a customer's events, in order.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn subject(&self, subject: GlobalCustomerId) -> Result<Vec<LogIndex>, IndexError> {
        let maps = self.read();
        let events = maps.subjects.get(&subject).into_iter().flat_map(BTreeMap::keys);
        Ok(events.copied().map(LogIndex::new).collect())
    }

    /// Returns the indices of an interaction's events, in order.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn interaction(&self, key: &Key) -> Result<Vec<LogIndex>, IndexError> {
        Ok(self.read().interactions.get(key).into_iter().flatten().copied().map(LogIndex::new).collect())
    }

    pub(crate) fn seen(&self, dedupe: &Key) -> Result<Option<Seen>, IndexError> {
        Ok(self.read().seen.get(dedupe).copied())
    }

    pub(crate) fn head(&self, subject: GlobalCustomerId) -> Result<Option<Head>, IndexError> {
        let maps = self.read();
        let last = maps.subjects.get(&subject).and_then(BTreeMap::last_key_value);
        Ok(last.map(|(index, sequence)| Head { index: *index, sequence: *sequence }))
    }

    /// Returns the shreds that were announced and have no outcome in the log yet, by request.
    pub fn open_shreds(&self) -> BTreeMap<String, ShredIntentItem> {
        self.read().open.clone()
    }

    /// Returns the leaf that holds the outcome of a shred.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn shredded(&self, request_id: &str) -> Result<Option<LogIndex>, IndexError> {
        Ok(self.read().done.get(request_id).copied().map(LogIndex::new))
    }

    /// Returns the newest epoch of the vault that the log tells of; 0 if it tells of none.
    pub fn epoch_in_log(&self) -> u64 {
        self.read().epoch
    }

    /// Drops every row of leaves whose keys were destroyed.
    ///
    /// # Errors
    /// [`IndexError`]; to be repeated then.
    pub fn forget(&self, dead: &IndexSet) -> Result<(), IndexError> {
        self.write().forget(dead);
        Ok(())
    }

    /// Notes the vault's epoch up to which erasures have been taken over.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn note_epoch(&self, epoch: u64) -> Result<(), IndexError> {
        let mut maps = self.write();
        maps.epoch_applied = maps.epoch_applied.max(epoch);
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, Maps> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Maps> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Maps {
    fn fold(&mut self, index: u64, facts: &Facts) {
        self.applied = index + 1;
        self.received_ms = self.received_ms.max(facts.received_ms);
        match &facts.step {
            Some(ShredStep::Intent(item)) => {
                self.open.insert(item.request_id.clone(), item.clone());
            }
            Some(ShredStep::Done(item)) => {
                self.open.remove(&item.request_id);
                self.done.insert(item.request_id.clone(), index);
                self.epoch = self.epoch.max(item.epoch);
            }
            None => {}
        }
        let Some(event) = &facts.event else { return };
        self.seen.insert(event.dedupe, Seen { index, content: event.content });
        if let Some(customer) = event.customer {
            self.customers.entry(customer).or_insert((event.subject, index));
        }
        self.subjects.entry(event.subject).or_default().insert(index, event.subject_sequence);
        if let Some(interaction) = event.interaction {
            self.interactions.entry(interaction).or_default().push(index);
        }
    }

    fn forget(&mut self, dead: &IndexSet) {
        self.seen.retain(|_, seen| !dead.contains(seen.index));
        self.subjects.retain(|_, events| {
            events.retain(|index, _| !dead.contains(*index));
            !events.is_empty()
        });
        self.interactions.retain(|_, events| {
            events.retain(|index| !dead.contains(*index));
            !events.is_empty()
        });
        let Self { customers, subjects, .. } = self;
        customers.retain(|_, (subject, first)| {
            if dead.contains(*first) {
                let left = subjects.get(subject).and_then(BTreeMap::first_key_value);
                let Some((index, _)) = left else { return false };
                *first = *index;
            }
            true
        });
    }
}

impl Follower<Facts> for Lookup {
    fn apply(&mut self, told: Told<Facts>) {
        let mut maps = self.write();
        for (index, facts) in (told.first.get()..).zip(&told.facts) {
            maps.fold(index, facts);
        }
    }
}
