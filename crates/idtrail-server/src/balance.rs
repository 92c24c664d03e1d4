//! Where every event went, per calling system: received = accepted + duplicate + quarantined + refused.
//!
//! A [`Tally`] is begun when a request arrives and counts when it is dropped, whatever way the request took, so that the
//! sum cannot miss one. What is refused before anybody knows who calls counts under no system.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is new and in the log.
    Accepted,
    /// It was in the log already, or had been and was erased.
    Duplicate,
    /// It is in the quarantine.
    Quarantined,
    /// It is not kept: the sender was told to come back, or to send something else.
    Refused,
}

/// Counts since the start of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All events that arrived.
    pub received: u64,
    /// New in the log.
    pub accepted: u64,
    /// In the log already.
    pub duplicate: u64,
    /// In the quarantine.
    pub quarantined: u64,
    /// Not kept.
    pub refused: u64,
}

impl Counts {
    fn add(&mut self, fate: Fate, count: u64) {
        self.received += count;
        *match fate {
            Fate::Accepted => &mut self.accepted,
            Fate::Duplicate => &mut self.duplicate,
            Fate::Quarantined => &mut self.quarantined,
            Fate::Refused => &mut self.refused,
        } += count;
    }
}

/// The counts of all calling systems.
#[derive(Debug, Default)]
pub struct Balance(Mutex<BTreeMap<Option<Arc<str>>, Counts>>);

impl Balance {
    /// Begins to count the events of a request.
    pub fn begin(&self) -> Tally<'_> {
        Tally { balance: self, system: None, fates: Vec::new(), whole: Some(Fate::Refused) }
    }

    /// Returns the counts; `None` is for requests whose sender is not known.
    pub fn counts(&self) -> BTreeMap<Option<Arc<str>>, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, system: Option<&Arc<str>>, fates: &[(Fate, u64)]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = match system.and_then(|system| all.get_mut(&Some(Arc::clone(system)))) {
            Some(counts) => counts,
            None => all.entry(system.cloned()).or_default(),
        };
        for (fate, count) in fates {
            counts.add(*fate, *count);
        }
    }
}

/// The events of one request.
#[derive(Debug)]
pub struct Tally<'b> {
    balance: &'b Balance,
    system: Option<Arc<str>>,
    fates: Vec<(Fate, u64)>,
    /// What became of the request as one event, unless its events were counted one by one.
    whole: Option<Fate>,
}

impl Tally<'_> {
    /// Says who sent it.
    pub fn of(&mut self, system: &str) {
        self.system = Some(Arc::from(system));
    }

    /// Says what became of the one event; refused is what counts unless somebody says otherwise.
    pub fn came_to(&mut self, fate: Fate) {
        self.whole = Some(fate);
    }

    /// Says what became of some of many events.
    pub fn add(&mut self, fate: Fate, count: u64) {
        self.whole = None;
        self.fates.push((fate, count));
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        let whole = self.whole.map(|fate| [(fate, 1)]);
        let fates = whole.as_ref().map_or(self.fates.as_slice(), |whole| whole);
        self.balance.add(self.system.as_ref(), fates);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_once_and_the_sum_holds() {
        let balance = Balance::default();
        drop(balance.begin());
        let mut one = balance.begin();
        one.of("crm");
        one.came_to(Fate::Accepted);
        drop(one);
        let mut many = balance.begin();
        many.of("crm");
        many.add(Fate::Accepted, 3);
        many.add(Fate::Quarantined, 2);
        drop(many);
        let counts = balance.counts();
        assert_eq!(counts[&None], Counts { received: 1, refused: 1, ..Counts::default() });
        let crm = counts[&Some(Arc::from("crm"))];
        assert_eq!(crm, Counts { received: 6, accepted: 4, quarantined: 2, ..Counts::default() });
        assert_eq!(crm.received, crm.accepted + crm.duplicate + crm.quarantined + crm.refused);
    }
}
