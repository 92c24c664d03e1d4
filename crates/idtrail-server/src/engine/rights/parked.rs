//! Destructions of keys that wait for each other: one epoch of the vault and one fold of identity for all of them.
//!
//! ```text
//! request ──> intent in the log ──> parked ─┬─> one group of orders ──> outcomes, each a step of its own request
//! request ──> intent in the log ──> parked ─┘
//! ```
//! Whoever is ready waits a moment for others. After the keys are gone identity is folded anew from every leaf that is left;
//! that costs the same for one person and for twenty.
//!
//! Only requests that share nothing wait together: what has to be said again about others is looked for when nobody is parked,
//! so that it names nobody whose keys are about to go ([`super::reassert`]).
//!
//! What it must never do: hold an order back for longer than [`PARKED_MS_MAX`], or answer a request before identity has
//! forgotten.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use idtrail_index::shred::{Order, Outcome as Done, Task as ShredTask};
use idtrail_log::{OriginOrdinal, Reference};
use idtrail_rights::{Answer, Digest, Failure, Finding, Input, RequestId};
use idtrail_tlog::LogIndex;
use idtrail_vault::Sections;

use super::ports::{Outcome, found, wait};
use super::{Shared, TICK, Trouble, reassert, warn};

/// How long a request waits for another one.
const LINGER: Duration = Duration::from_millis(25);
/// How long it waits at most while others keep coming, milliseconds.
const PARKED_MS_MAX: u64 = 1_000;
/// How many go together.
const TOGETHER_MAX: usize = 32;

/// Destructions of keys that are to go together.
#[derive(Debug, Default)]
pub(super) struct Parked {
    orders: Vec<(RequestId, Digest, Order)>,
    /// Since when the first one waits, milliseconds since 1970.
    since_ms: u64,
}

impl Shared {
    fn parked(&self) -> MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how long the thread may wait for something to do.
    pub(super) fn patience(&self) -> Duration {
        if self.is_anyone_parked() { LINGER } else { TICK }
    }

    pub(super) fn is_anyone_parked(&self) -> bool {
        !self.parked().orders.is_empty()
    }

    /// Tells whether those who wait have waited long enough.
    pub(super) fn is_full(&self) -> bool {
        let parked = self.parked();
        let waited_ms = self.now_ms().saturating_sub(parked.since_ms);
        parked.orders.len() >= TOGETHER_MAX || (!parked.orders.is_empty() && waited_ms >= PARKED_MS_MAX)
    }

    /// Makes the order for exactly the leaves that the freeze named, and those in which facts about the person were said
    /// again since.
    pub(super) fn park(&self, request: &RequestId, effect: Digest) -> Result<(), Trouble> {
        let (record, person) = self.frozen(request)?;
        self.end_schedules_of(&person.customers);
        self.end_links_of(&person)?;
        let leaf = |(origin, index): &(u32, u64)| Reference {
            origin: OriginOrdinal(*origin),
            index: LogIndex::new(*index),
        };
        let mut leaves: Vec<Reference> = person.leaves.iter().map(leaf).collect();
        leaves.extend(reassert::said_again(&self.engine, &record.whom));
        leaves.sort_unstable();
        leaves.dedup();
        let task = ShredTask::Erase { leaves, sections: Sections::Both };
        let order = Order { request_id: effect.to_string(), actor: None, task };
        let mut parked = self.parked();
        if parked.orders.is_empty() {
            parked.since_ms = self.now_ms();
        }
        parked.orders.push((request.clone(), effect, order));
        Ok(())
    }

    /// Destroys the keys of everybody who waits, and goes on with their requests.
    pub(super) fn release_parked(&self) {
        let orders = std::mem::take(&mut self.parked().orders);
        if orders.is_empty() {
            return;
        }
        let (requests, orders): (Vec<_>, Vec<_>) =
            orders.into_iter().map(|(request, effect, order)| ((request, effect), order)).unzip();
        let receivers = match self.engine.desk().orders(orders) {
            Ok(receivers) => receivers.into_iter().map(Some).collect(),
            Err(error) => {
                warn(&error.into(), "keys could not be destroyed yet; it is tried again");
                requests.iter().map(|_| None).collect::<Vec<_>>()
            }
        };
        // All of them are waited for before the first request goes on: it may look for what is left of it.
        let answers: Vec<Answer> = receivers
            .into_iter()
            .map(|receiver| {
                let done = receiver.map(|receiver| wait(receiver).and_then(|done| self.shredded(&done)));
                done.unwrap_or(Ok(Answer::Failed(Failure::NotDone, None))).unwrap_or_else(|error| {
                    warn(&error, "keys could not be destroyed yet; it is tried again");
                    Answer::Failed(Failure::NotDone, None)
                })
            })
            .collect();
        for ((request, effect), answer) in requests.into_iter().zip(answers) {
            self.drive(&request, Input::Answered(effect, answer), &mut |_| {});
        }
    }

    fn shredded(&self, done: &Done) -> Outcome {
        // Others may have destroyed all of it before; then the newest destruction is the one that shows it.
        let leaf = match done.leaf {
            Some(leaf) if leaf.origin == self.engine.ordinal() => leaf.index,
            _ => self.newest_destruction()?.ok_or(Trouble::NothingDestroyed)?,
        };
        let bytes = self.engine.reader().entry(leaf)?;
        let at_ms = self.engine.open_leaf(leaf, &bytes)?.leaf.received_ms;
        found(Finding::Shredded {
            epoch: done.epoch.unwrap_or_else(|| self.engine.keyring().epoch().get()),
            leaves: done.shredded,
            at_ms,
            unrecoverable_by_ms: at_ms.saturating_add(self.copies_ms),
            index: leaf.get(),
        })
    }
}
