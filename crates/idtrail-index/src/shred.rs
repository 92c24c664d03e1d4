//! Destroying the keys of leaves, step by step, so that a crash anywhere leads to the same end.
//!
//! ```text
//! order on disk → SHRED_INTENT in the log → new epoch of the vault → rows dropped → KEY_SHREDDED in the log → order gone
//! ```
//!
//! In go orders: erase these leaves, let this month of a class expire, release this hold, in whichever of the installation's
//! logs; what is announced and concluded stands in the newest one. Several orders share one epoch. The leaves in the log name the request, a count and an epoch, never the indices, because a list would link
//! the erased leaves for ever; the list stands in the order's file only, which is overwritten at the end. Whoever
//! starts again ([`Shredder::settle`]) finds that file or an announced shred without an outcome, and goes on from
//! where the steps ended. What is done is asked of the keys themselves: a leaf that can still be read is not shredded.
//!
//! What it must never do: append to the log other than through the sequencer, write the vault while a shred is open, or
//! let go of an order before its outcome is in the log.

pub mod concerned;
mod effect;
mod error;
mod pending;
mod works;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, MutexGuard, PoisonError};

use idtrail_event::clear::{KeyShreddedItem, ShredIntentItem};
use idtrail_event::{ClassId, Leaf};
use idtrail_log::{LogError, OriginOrdinal, Reference};
use idtrail_tlog::{LogIndex, TreeSize};
use idtrail_vault::{Change, Epoch, NewHold, Sections, Vault, VaultError};

pub use self::error::{ErrorKind, ShredError};
pub use self::works::{ShredLog, Works};
use crate::command::Command;
use crate::months::ScanError;
use effect::Effect;

/// Leaves that one order may name.
pub const LEAVES_MAX: usize = 1_000_000;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Destroy the keys of these leaves: erasure.
    Erase {
        /// The leaves, in any order.
        leaves: Vec<Reference>,
        /// Which parts of them: both, or the staff section alone.
        sections: Sections,
    },
    /// Destroy the keys of retention classes in months that are over, in every log.
    Expire {
        /// Class and months since 1970-01, first and last.
        periods: Vec<(u8, RangeInclusive<u16>)>,
    },
    /// Release a hold in every log, and with it destroy the keys that only it has kept.
    Release {
        /// The hold's name.
        hold: String,
        /// The leaves that it names; filled in when the order is taken.
        leaves: Vec<Reference>,
    },
}

impl Task {
    /// Returns the erasure of whole leaves of one log.
    pub fn erase(origin: OriginOrdinal, indices: impl IntoIterator<Item = u64>) -> Self {
        let place = |index| Reference { origin, index: LogIndex::new(index) };
        Self::Erase { leaves: indices.into_iter().map(place).collect(), sections: Sections::Both }
    }
}

/// One order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The request that it belongs to: 1 to 64 visible ASCII characters. A request is carried out once; a repetition is
    /// answered with the first outcome.
    pub request_id: String,
    /// Who asked for it; sealed in the leaf that announces it.
    pub actor: Option<String>,
    /// What is to be done.
    pub task: Task,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The request.
    pub request_id: String,
    /// Leaves whose keys were destroyed by it.
    pub shredded: u64,
    /// The vault's epoch that no longer holds the keys; `None` if nothing had to be done.
    pub epoch: Option<u64>,
    /// The leaf that says so.
    pub leaf: Option<Reference>,
    /// Leaves that a hold keeps, rising: they are as readable as before.
    pub held: Vec<Reference>,
    /// Leaves whose keys had been destroyed before, or that have no staff section where that was to go.
    pub gone: u64,
    /// The request had been carried out before; what was held or gone then is not known any more.
    pub repeated: bool,
}

/// The way into the log.
pub trait Writer {
    /// Appends leaves through the sequencer and returns the index of the first one once they are durable and the index
    /// knows them.
    ///
    /// # Errors
    /// As the log reports them.
    fn append(&mut self, command: Command) -> Result<LogIndex, LogError>;

    /// Waits until the index has read up to `size`; false if that takes too long.
    fn catch_up(&mut self, size: TreeSize) -> bool;
}

/// Carries orders out, one group after another.
#[derive(Debug)]
pub struct Shredder<W> {
    works: Arc<Works>,
    writer: W,
    /// What was begun and has no outcome yet.
    open: Vec<Order>,
}

impl<W: Writer> Shredder<W> {
    /// Takes over what a former process left. [`Shredder::settle`] is to be called before anything else writes the vault.
    ///
    /// # Errors
    /// `Unavailable` or `Damaged` if the open order's file cannot be read.
    pub fn open(works: Works, writer: W) -> Result<Self, ShredError> {
        let open = pending::read(&*works.disk, &works.pending, works.newest.ordinal)?;
        Ok(Self { works: Arc::new(works), writer, open })
    }

    /// Tells whether an order was begun and has no outcome yet.
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Finishes what was begun, also by a former process, and returns how many orders that were.
    ///
    /// # Errors
    /// As [`Shredder::run`]; to be called again then.
    pub fn settle(&mut self) -> Result<usize, ShredError> {
        let open = std::mem::take(&mut self.open);
        if !open.is_empty() {
            let finished = self.carry_out(&open).map(|_| open.len());
            if finished.is_err() {
                self.open = open;
            }
            return finished;
        }
        self.settle_announced()
    }

    /// Carries a group of orders out in one epoch, and returns what came of each.
    ///
    /// # Errors
    /// Each order's own. After `Unavailable` the order may be half done: [`Shredder::settle`] finishes it.
    pub fn run(&mut self, orders: Vec<Order>) -> Vec<Result<Outcome, ShredError>> {
        let mut answers: Vec<Option<Result<Outcome, ShredError>>> = Vec::new();
        let mut taken: Vec<(usize, Order)> = Vec::new();
        for (at, order) in orders.into_iter().enumerate() {
            let again = taken.iter().any(|(_, other)| other.request_id == order.request_id);
            answers.push(match self.settle().and_then(|_| self.take(order)) {
                // The first one of the same request in this group is carried out; this one may be asked again.
                Ok(_) if again => Some(Err(ShredError::Order("the request stands in the group twice"))),
                Ok(Taken::Now(outcome)) => Some(Ok(outcome)),
                Ok(Taken::Later(order)) => {
                    taken.push((at, order));
                    None
                }
                Err(error) => Some(Err(error)),
            });
        }
        let (places, group): (Vec<usize>, Vec<Order>) = taken.into_iter().unzip();
        if !group.is_empty() {
            let outcomes = self.begin(&group);
            let mut outcomes = outcomes.into_iter();
            for place in places {
                if let (Some(answer), Some(outcome)) = (answers.get_mut(place), outcomes.next()) {
                    *answer = Some(outcome);
                }
            }
        }
        let lost = || Err(ShredError::Order("it has no outcome"));
        answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect()
    }

    /// Sets a hold on leaves, and has the log say so; nothing of it stands there in clear.
    ///
    /// # Errors
    /// As [`Shredder::run`]; `NotFound` for a leaf that is not there or cannot be read any more.
    pub fn hold(&mut self, id: &str, leaves: &[Reference], actor: Option<String>) -> Result<(), ShredError> {
        self.settle()?;
        self.check_leaves(leaves)?;
        let now_ms = self.now_ms();
        let by_log = self.works.by_log(leaves)?;
        for (log, indices) in &by_log {
            for index in indices {
                let header = crate::months::header(&log.reader, *index)?;
                if !log.keyring.is_readable(*index, header.class.code(), header.month()) {
                    return Err(ShredError::NoLeaf(LogIndex::new(*index)));
                }
            }
        }
        let set: Vec<NewHold<'_>> = by_log
            .iter()
            .map(|(log, indices)| NewHold { id, origin: log.keyring.origin(), indices })
            .collect();
        let count = set.iter().map(|one| one.indices.len() as u64).sum();
        let mut vault = self.vault();
        let target = vault.next_epoch()?;
        vault.apply(&Change { set: &set, now_ms, ..Change::default() }, target)?;
        let epoch = vault.epoch();
        drop(vault);
        self.note_epoch(epoch)?;
        self.writer.append(Command::hold_changed(true, id, count, actor))?;
        Ok(())
    }

    /// Returns the retention classes and months that are due in the month `present`, in any of the logs.
    ///
    /// # Errors
    /// As [`crate::retention::due_in_all`].
    pub fn due(&self, present: u16) -> Result<Vec<(u8, RangeInclusive<u16>)>, ShredError> {
        let logs: Vec<&ShredLog> = self.works.logs().collect();
        // The newest one comes last there.
        let logs = logs.into_iter().rev().map(|log| (&*log.reader, &log.keyring));
        Ok(crate::retention::due_in_all(logs, present)?)
    }

    /// Writes the vault for another reason, never while a shred is open.
    ///
    /// # Errors
    /// As [`Shredder::settle`], and those of `write`.
    pub fn write_vault<T>(
        &mut self,
        write: impl FnOnce(&mut Vault) -> Result<T, VaultError>,
    ) -> Result<T, ShredError> {
        self.settle()?;
        let mut vault = self.vault();
        let written = write(&mut vault)?;
        self.note_epoch(vault.epoch())?;
        Ok(written)
    }

    /// Notes in the indices that the vault's newest epoch destroyed nothing that they do not know of.
    fn note_epoch(&self, epoch: Epoch) -> Result<(), ShredError> {
        Ok(self.works.logs().try_for_each(|log| log.lookup.note_epoch(epoch.get()))?)
    }

    /// Checks an order before anything is begun.
    fn take(&mut self, mut order: Order) -> Result<Taken, ShredError> {
        let id = &order.request_id;
        if id.is_empty() || id.len() > 64 || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ShredError::Order("a request id has 1 to 64 visible ASCII characters"));
        }
        if let Some(outcome) = self.outcome_in_log(id)? {
            return Ok(Taken::Now(outcome));
        }
        if !self.writer.catch_up(self.works.newest.reader.size()) {
            return Err(ShredError::Behind);
        }
        match &mut order.task {
            Task::Erase { leaves, .. } => {
                leaves.sort_unstable();
                leaves.dedup();
                self.check_leaves(leaves)?;
            }
            Task::Release { hold, leaves } => {
                *leaves = self.works.held_by(&self.vault(), hold);
                if leaves.is_empty() {
                    return Err(VaultError::UnknownHold(hold.clone()).into());
                }
            }
            Task::Expire { periods } => {
                let newest = &self.works.newest.reader;
                let present = match newest.size().get().checked_sub(1) {
                    Some(last) => crate::months::header(newest, last)?.month(),
                    None => 0,
                };
                if periods.iter().any(|(_, months)| *months.end() >= present) {
                    return Err(ShredError::Order("a month expires only when the log has gone beyond it"));
                }
                if periods.iter().any(|(class, _)| *class == ClassId::SYSTEM.code()) {
                    return Err(ShredError::Order("the log's own leaves never expire"));
                }
            }
        }
        let (held, gone) = match &order.task {
            Task::Release { .. } => return Ok(Taken::Later(order)),
            Task::Expire { periods } => {
                let expired = |(class, months): &(u8, RangeInclusive<u16>)| {
                    let gone = |month| self.works.logs().all(|log| log.keyring.is_expired(*class, month));
                    months.clone().all(gone)
                };
                if !periods.iter().all(expired) {
                    return Ok(Taken::Later(order));
                }
                (Vec::new(), 0)
            }
            Task::Erase { .. } => {
                let effect = Effect::of(&self.works, &self.vault(), &order.task)?;
                if !effect.is_nothing() {
                    return Ok(Taken::Later(order));
                }
                (effect.held(), effect.gone)
            }
        };
        let request_id = order.request_id;
        let none = Outcome { request_id, shredded: 0, epoch: None, leaf: None, held, gone, repeated: false };
        Ok(Taken::Now(none))
    }

    fn check_leaves(&self, leaves: &[Reference]) -> Result<(), ShredError> {
        if leaves.is_empty() || leaves.len() > LEAVES_MAX {
            return Err(ShredError::Order("it names no leaf, or more than a million"));
        }
        for (log, indices) in self.works.by_log(leaves)? {
            for index in indices.into_iter().map(LogIndex::new) {
                if index.get() >= log.reader.size().get() {
                    return Err(ShredError::NoLeaf(index));
                }
                let bytes = log.reader.entry(index)?;
                let leaf = Leaf::parse(&bytes)
                    .map_err(|source| ShredError::Scan(ScanError::Leaf { index, source }))?;
                if leaf.header().class == ClassId::SYSTEM {
                    return Err(ShredError::OwnLeaf(index));
                }
            }
        }
        Ok(())
    }

    /// Makes the orders durable and carries them out.
    fn begin(&mut self, group: &[Order]) -> Vec<Result<Outcome, ShredError>> {
        if let Err(error) = pending::write(&*self.works.disk, &self.works.pending, group) {
            return failed(group, error);
        }
        match self.carry_out(group) {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(error) => {
                self.open = group.to_vec();
                failed(group, error)
            }
        }
    }

    /// Goes on from whatever step was the last one, to the end.
    fn carry_out(&mut self, group: &[Order]) -> Result<Vec<Outcome>, ShredError> {
        if !self.writer.catch_up(self.works.newest.reader.size()) {
            return Err(ShredError::Behind);
        }
        let works = Arc::clone(&self.works);
        let mut vault = works.vault.lock().unwrap_or_else(PoisonError::into_inner);
        let next = vault.next_epoch()?;
        let effects: Vec<Effect> =
            group.iter().map(|order| Effect::of(&works, &vault, &order.task)).collect::<Result<_, _>>()?;
        let announced = self.announce(group, &effects, next)?;
        self.destroy(&mut vault, &effects, next)?;
        for order in group {
            for (log, dead) in effect::unreadable(&self.works, &order.task)? {
                log.lookup.forget(&dead)?;
            }
        }
        self.note_epoch(vault.epoch())?;
        let outcomes = self.conclude(group, &announced, vault.epoch())?;
        pending::remove(&*self.works.disk, &self.works.pending)?;
        let with = |(mut outcome, effect): (Outcome, Effect)| {
            (outcome.held, outcome.gone) = (effect.held(), effect.gone);
            outcome
        };
        Ok(outcomes.into_iter().zip(effects).map(with).collect())
    }

    /// Puts into the log what is going to happen, unless it stands there already; returns the counts by request.
    fn announce(
        &mut self,
        group: &[Order],
        effects: &[Effect],
        target: Epoch,
    ) -> Result<BTreeMap<String, u64>, ShredError> {
        let newest = &self.works.newest.lookup;
        let open = newest.open_shreds();
        let mut counts = BTreeMap::new();
        let mut intents = Vec::new();
        for (order, effect) in group.iter().zip(effects) {
            let request_id = order.request_id.clone();
            let count = match open.get(&request_id) {
                Some(item) => item.count,
                None if newest.shredded(&request_id)?.is_some() => continue,
                None => {
                    let (count, target_epoch) = (effect.dead(), target.get());
                    let item = ShredIntentItem { request_id: request_id.clone(), count, target_epoch };
                    intents.push((item, order.actor.clone()));
                    count
                }
            };
            counts.insert(request_id, count);
        }
        if !intents.is_empty() {
            self.writer.append(Command::shred_intents(&intents))?;
        }
        Ok(counts)
    }

    /// Writes the vault without the keys, unless it holds none of them any more.
    fn destroy(&self, vault: &mut Vault, effects: &[Effect], target: Epoch) -> Result<(), ShredError> {
        if effects.iter().all(Effect::is_nothing) {
            return Ok(());
        }
        let punctures: Vec<_> = effects.iter().flat_map(Effect::punctures).collect();
        let erased: Vec<_> = effects.iter().flat_map(|effect| effect.erased.iter().cloned()).collect();
        let kept: Vec<_> = effects.iter().flat_map(Effect::kept).collect();
        let released: Vec<&str> = effects.iter().filter_map(|effect| effect.released.as_deref()).collect();
        let change = Change {
            punctures: &punctures,
            erased: &erased,
            set: &[],
            released: &released,
            kept: &kept,
            now_ms: self.now_ms(),
        };
        match vault.apply(&change, target) {
            Ok(_) => Ok(()),
            // In doubt the files are asked: the change is in the new epoch as a whole, or there is no new epoch.
            Err(error) => match vault.probe() {
                Ok(epoch) if epoch >= target => Ok(()),
                Ok(_) | Err(_) => Err(error.into()),
            },
        }
    }

    /// Puts into the log what has happened.
    fn conclude(
        &mut self,
        group: &[Order],
        announced: &BTreeMap<String, u64>,
        epoch: Epoch,
    ) -> Result<Vec<Outcome>, ShredError> {
        let items: Vec<KeyShreddedItem> = group
            .iter()
            .filter_map(|order| {
                let (request_id, count) = announced.get_key_value(&order.request_id)?;
                Some(KeyShreddedItem { request_id: request_id.clone(), count: *count, epoch: epoch.get() })
            })
            .collect();
        if !items.is_empty() {
            let released = group.iter().filter(|order| announced.contains_key(&order.request_id));
            let released = released.filter_map(|order| match &order.task {
                Task::Release { hold, leaves } => {
                    Some((hold.as_str(), leaves.len() as u64, order.actor.clone()))
                }
                Task::Erase { .. } | Task::Expire { .. } => None,
            });
            let released =
                released.map(|(hold, count, actor)| Command::hold_changed(false, hold, count, actor));
            self.writer.append(Command::keys_shredded(&items).followed_by(released))?;
        }
        let mut outcomes = Vec::new();
        for order in group {
            let outcome = self.outcome_in_log(&order.request_id)?;
            let mut outcome = outcome.ok_or(ShredError::Behind)?;
            outcome.repeated = false;
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// Closes what was announced by a process whose order file is lost. Either the announced epoch was reached: then the
    /// keys are gone. Or it was not: then nothing was destroyed, and the log says so with a count of 0.
    fn settle_announced(&mut self) -> Result<usize, ShredError> {
        let open = self.works.newest.lookup.open_shreds();
        if open.is_empty() {
            return Ok(0);
        }
        let epoch = self.vault().probe()?;
        let close = |item: &ShredIntentItem| KeyShreddedItem {
            request_id: item.request_id.clone(),
            count: if epoch.get() >= item.target_epoch { item.count } else { 0 },
            epoch: epoch.get(),
        };
        let items: Vec<_> = open.values().map(close).collect();
        self.writer.append(Command::keys_shredded(&items))?;
        Ok(items.len())
    }

    fn outcome_in_log(&self, request_id: &str) -> Result<Option<Outcome>, ShredError> {
        for log in self.works.logs() {
            let Some(index) = log.lookup.shredded(request_id)? else { continue };
            let header = crate::months::header(&log.reader, index.get())?;
            let item = header.clear.as_deref().and_then(|clear| KeyShreddedItem::decode(clear).ok());
            if let Some(item) = item.filter(|item| item.request_id == request_id) {
                return Ok(Some(Outcome {
                    request_id: item.request_id,
                    shredded: item.count,
                    epoch: Some(item.epoch),
                    leaf: Some(log.at(index.get())),
                    held: Vec::new(),
                    gone: 0,
                    repeated: true,
                }));
            }
        }
        Ok(None)
    }

    fn vault(&self) -> MutexGuard<'_, Vault> {
        self.works.vault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.works.clock.wall_ms()).unwrap_or(0)
    }
}

enum Taken {
    Now(Outcome),
    Later(Order),
}

/// The first order gets the error itself; the others are told that they wait for the same thing.
fn failed(group: &[Order], error: ShredError) -> Vec<Result<Outcome, ShredError>> {
    let rest = group.iter().skip(1).map(|_| Err(ShredError::Behind));
    std::iter::once(Err(error)).chain(rest).collect()
}
