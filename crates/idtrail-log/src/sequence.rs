//! Gives every request its place: one thread decides, in order, and has the entries sealed for their indices.
//!
//! Receipt time is wall time at start plus monotonic time, so that a jump of the wall clock, in either direction,
//! cannot reach the log; it never decreases, not even across a restart.

use std::sync::Arc;

use idtrail_port::Clock;
use idtrail_tlog::{Hash, LogIndex};

use crate::LogError;
use crate::commit::{Answer, Pending};
use crate::frame;
use crate::machine::{Decision, Entry, Machine, Moment, Planned, Sealer};

/// Called once with the outcome of a request.
pub type Reply<R> = Box<dyn FnOnce(Result<Answer<R>, LogError>) + Send>;

/// A decided request and who waits for its answer.
pub(crate) type Waiting<R> = (Pending<R>, Reply<R>);

/// One request on its way into the log.
pub struct Submission<M: Machine> {
    /// What is asked.
    pub command: M::Command,
    /// Who waits for the answer.
    pub reply: Reply<M::Refusal>,
}

impl<M: Machine> std::fmt::Debug for Submission<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Submission").finish_non_exhaustive()
    }
}

/// A group of requests that were decided and sealed, ready to be committed.
pub struct Sealed<M: Machine> {
    pub(crate) first: LogIndex,
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) leaf_hashes: Vec<Hash>,
    pub(crate) facts: Vec<M::Facts>,
    pub(crate) waiting: Vec<Waiting<M::Refusal>>,
    pub(crate) bytes: usize,
}

impl<M: Machine> std::fmt::Debug for Sealed<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed")
            .field("first", &self.first)
            .field("entries", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl<M: Machine> Sealed<M> {
    /// Returns the bytes that the group adds to a frame.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the count of entries.
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Takes the waiting requests out, to tell them that the log has stopped.
    pub(crate) fn into_replies(self) -> impl Iterator<Item = Reply<M::Refusal>> {
        self.waiting.into_iter().map(|(_, reply)| reply)
    }
}

/// Receipt time: see the module's description.
#[derive(Clone)]
pub struct ReceiptClock {
    clock: Arc<dyn Clock>,
    wall_start_ms: i64,
    monotonic_start_ns: u64,
    floor_ms: u64,
}

impl std::fmt::Debug for ReceiptClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiptClock").field("floor_ms", &self.floor_ms).finish_non_exhaustive()
    }
}

impl ReceiptClock {
    /// Starts at the wall time, or at `floor_ms` (the newest receipt time in the log) if that is later.
    pub fn start(clock: Arc<dyn Clock>, floor_ms: u64) -> Self {
        let wall_start_ms = clock.wall_ms();
        let monotonic_start_ns = clock.monotonic_ns();
        Self { clock, wall_start_ms, monotonic_start_ns, floor_ms }
    }

    fn unclamped_ms(&self) -> i64 {
        let elapsed_ms = self.clock.monotonic_ns().saturating_sub(self.monotonic_start_ns) / 1_000_000;
        self.wall_start_ms.saturating_add(i64::try_from(elapsed_ms).unwrap_or(i64::MAX))
    }

    /// Returns the receipt time in milliseconds since 1970 and remembers it as the least that may follow.
    pub fn now_ms(&mut self) -> u64 {
        let now = u64::try_from(self.unclamped_ms()).unwrap_or(0);
        self.floor_ms = self.floor_ms.max(now);
        self.floor_ms
    }

    /// Returns by how many milliseconds the wall clock is ahead of (or, negative, behind) the receipt time. It moves
    /// when somebody sets the clock; the log goes on undisturbed until it is restarted.
    pub fn wall_step_ms(&self) -> i64 {
        let receipt = i64::try_from(self.floor_ms).unwrap_or(i64::MAX).max(self.unclamped_ms());
        self.clock.wall_ms().saturating_sub(receipt)
    }
}

/// The one place where order is made.
pub struct Sequencer<M: Machine, S> {
    machine: M,
    sealer: S,
    clock: ReceiptClock,
    next: LogIndex,
}

impl<M: Machine, S> std::fmt::Debug for Sequencer<M, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sequencer").field("next", &self.next).finish_non_exhaustive()
    }
}

impl<M: Machine, S: Sealer<M::Draft>> Sequencer<M, S> {
    /// Returns a sequencer whose next entry gets the index `next`; `machine` has read every entry below.
    pub fn new(machine: M, sealer: S, clock: ReceiptClock, next: LogIndex) -> Self {
        Self { machine, sealer, clock, next }
    }

    /// Returns the state machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Decides a group of requests in order and seals what they append.
    ///
    /// # Errors
    /// The order was fixed but the group cannot be committed: the log must stop. The waiting requests were told.
    pub fn step(&mut self, group: Vec<Submission<M>>) -> Result<Sealed<M>, LogError> {
        let first = self.next;
        let received_ms = self.clock.now_ms();
        let mut planned: Vec<Planned<M::Draft, M::Facts>> = Vec::with_capacity(group.len());
        let mut waiting = Vec::with_capacity(group.len());
        for Submission { command, reply } in group {
            let next = self.next;
            let pending = match self.machine.decide(command, Moment { next, received_ms }) {
                Decision::Append(entries) => {
                    self.next = LogIndex::new(next.get() + entries.len() as u64);
                    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
                    planned.extend(entries);
                    Pending::Appended { first: next, count, received_ms }
                }
                Decision::Existing(index) => Pending::Existing(index),
                Decision::Refuse(refusal) => Pending::Refused(refusal),
            };
            waiting.push((pending, reply));
        }
        let entries = match self.seal(first, &planned) {
            Ok(entries) => entries,
            Err(error) => {
                for (_, reply) in waiting {
                    reply(Err(LogError::Stopped));
                }
                return Err(error);
            }
        };
        let bytes = entries.iter().map(|entry| entry.bytes.len() + 2).sum();
        let (entries, leaf_hashes) = entries.into_iter().map(|entry| (entry.bytes, entry.leaf_hash)).unzip();
        let facts = planned.into_iter().map(|planned| planned.facts).collect();
        Ok(Sealed { first, entries, leaf_hashes, facts, waiting, bytes })
    }

    fn seal(
        &mut self,
        first: LogIndex,
        planned: &[Planned<M::Draft, M::Facts>],
    ) -> Result<Vec<Entry>, LogError> {
        if planned.is_empty() {
            return Ok(Vec::new());
        }
        let drafts: Vec<&M::Draft> = planned.iter().map(|planned| &planned.draft).collect();
        let entries =
            self.sealer.seal(first, &drafts).map_err(|source| LogError::Seal { index: first, source })?;
        if entries.len() != planned.len() {
            return Err(LogError::Bug { what: "sealing gave another count of entries" });
        }
        for entry in &entries {
            if let Some(why) = frame::entry_refusal(&entry.bytes) {
                return Err(LogError::Entry { why, bytes: entry.bytes.len() });
            }
        }
        Ok(entries)
    }
}
