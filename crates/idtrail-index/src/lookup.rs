//! Where the events of a customer and of an interaction are. Follows the log; answers reads.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use idtrail_event::GlobalCustomerId;
use idtrail_log::commit::Told;
use idtrail_log::shell::Follower;
use idtrail_tlog::LogIndex;

use crate::facts::{Facts, Key};

/// The index, shared by all threads. Clones are handles to the same index.
#[derive(Clone, Debug, Default)]
pub struct Lookup(Arc<RwLock<Maps>>);

#[derive(Debug, Default)]
struct Maps {
    customers: HashMap<Key, GlobalCustomerId>,
    subjects: HashMap<GlobalCustomerId, Vec<LogIndex>>,
    interactions: HashMap<Key, Vec<LogIndex>>,
}

impl Lookup {
    /// Takes over one leaf.
    pub fn fold(&self, index: LogIndex, facts: &Facts) {
        let Some(event) = &facts.event else { return };
        let mut maps = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(customer) = event.customer {
            maps.customers.insert(customer, event.subject);
        }
        maps.subjects.entry(event.subject).or_default().push(index);
        if let Some(interaction) = event.interaction {
            maps.interactions.entry(interaction).or_default().push(index);
        }
    }

    /// Returns the customer of a client's own customer id.
    pub fn customer(&self, key: &Key) -> Option<GlobalCustomerId> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).customers.get(key).copied()
    }

    /// Returns the indices of a customer's events, in order.
    pub fn subject(&self, subject: GlobalCustomerId) -> Vec<LogIndex> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .subjects
            .get(&subject)
            .cloned()
            .unwrap_or_default()
    }

    /// Returns the indices of an interaction's events, in order.
    pub fn interaction(&self, key: &Key) -> Vec<LogIndex> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .interactions
            .get(key)
            .cloned()
            .unwrap_or_default()
    }
}

impl Follower<Facts> for Lookup {
    fn apply(&mut self, told: Told<Facts>) {
        for (index, facts) in (told.first.get()..).map(LogIndex::new).zip(&told.facts) {
            self.fold(index, facts);
        }
    }
}
