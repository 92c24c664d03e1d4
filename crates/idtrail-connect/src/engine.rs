//! Decides what a sink does next. Pure: `step(input, now)` changes the state and returns what is to be done; files,
//! network and time belong to whoever drives it, so one seed replays every run.
//!
//! ```text
//! feed ──Read──> queue ──batch──> Deliver ──ack──> settle ──> cursor ──SaveCursor──> disk
//!                  │                 │
//!            filtered, erased     poison: half the batch, half again, one row ──SaveDead──> dead letters
//! ```
//! An entry is *settled* once it is delivered, filtered, erased or a durable dead letter; the cursor stands at the first
//! one that is not. After any answer that leaves the outcome open, the session is opened anew and the target's own
//! high-water mark decides what arrived, so a lost answer is neither lost rows nor rows twice.
//!
//! What it must never do: settle an entry before the target confirmed it or the dead letter is on disk; drop an entry
//! because it is old or because there are many.

mod backoff;
mod balance;
mod cursor;
mod dead;
mod next;
mod types;

use std::collections::{BTreeMap, VecDeque};

pub use backoff::{Backoff, Circuit};
pub use balance::{Balance, Wanted, balance};
pub use cursor::{BEYOND_MAX, Beyond, Counts, Cursor, DeadLetter, Intent};
pub use types::{Ack, Action, Batch, Command, DeadChange, Input, LastFailure, Limits, Mode, Now, Opened};

use crate::plan::{Outcome, Prepared};
use crate::position::Position;
use crate::verdict::{Failure, Status, Verdict};
use backoff::Jitter;
use next::bytes;

/// How an engine works, besides what its target needs.
#[derive(Clone, Copy, Debug)]
pub struct EngineSettings {
    /// What the target can take.
    pub limits: Limits,
    /// Pauses.
    pub backoff: Backoff,
    /// Dead letters in a row after which the sink stops and calls a person: then the table is wrong, not the rows.
    pub dead_run_max: u32,
    /// Most bytes of rows in memory, about.
    pub queue_bytes_max: usize,
    /// Longest time between two saves of a changed cursor, milliseconds.
    pub save_interval_ms: u64,
    /// Seed of the jitter.
    pub seed: u64,
}

impl EngineSettings {
    /// Returns settings for a target with these limits.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            backoff: Backoff::default(),
            dead_run_max: 100,
            // Room for the batch that is being sent, a whole one behind it, and what one read brings: with less, each batch
            // would first have to be filled while the target is idle.
            queue_bytes_max: (limits.bytes_max / 2).saturating_mul(5).max(1024 * 1024),
            save_interval_ms: 500,
            seed,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    Closed,
    Opening,
    Open,
}

/// What is being sent.
#[derive(Debug)]
enum InFlight {
    /// The first entries of the queue.
    Front { entries: usize, batch: Batch, stage: Stage },
    /// One dead letter; no batch until its entry was read.
    Dead { at: Position, batch: Option<Batch>, stage: Stage },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Of a dead letter: its entry is being read.
    Reading,
    /// The intent must be noted.
    Noting,
    SavingIntent,
    Noted,
    Sending,
    /// Waits until dead letters are durable; then all of it is settled.
    Settling,
}

/// The state of one sink.
#[derive(Debug)]
pub struct Engine {
    settings: EngineSettings,
    jitter: Jitter,
    cursor: Cursor,
    dead: BTreeMap<Position, DeadLetter>,
    session: Session,
    high_water: Option<Position>,
    queue: VecDeque<Prepared>,
    queue_bytes: usize,
    queue_since_ms: u64,
    next_read: Position,
    reading: bool,
    discard_read: bool,
    exhausted: bool,
    waiting: bool,
    in_flight: Option<InFlight>,
    /// After a refusal: the end of the refused batch, and how many rows the next one may have.
    suspect: Option<(Position, usize)>,
    attempts: u32,
    failures: u32,
    retry_at_ms: Option<u64>,
    stopped: bool,
    last_failure: Option<LastFailure>,
    dead_run: u32,
    unsaved_dead: Vec<DeadChange>,
    saving_dead: bool,
    /// How many of the changes are in the save that is under way.
    saved_dead: usize,
    dirty: bool,
    saving: bool,
    /// A command changed the cursor, which is to be saved at once; and that save is under way.
    ordered: bool,
    saving_ordered: bool,
    saved_at_ms: u64,
    save_retry_ms: Option<u64>,
    replays: VecDeque<Position>,
}

impl Engine {
    /// Starts from what was saved.
    pub fn new(settings: EngineSettings, cursor: Cursor, dead: Vec<DeadLetter>) -> Self {
        Self {
            jitter: Jitter(settings.seed),
            next_read: cursor.next,
            cursor,
            dead: dead.into_iter().map(|letter| (letter.at, letter)).collect(),
            session: Session::Closed,
            high_water: None,
            queue: VecDeque::new(),
            queue_bytes: 0,
            queue_since_ms: 0,
            reading: false,
            discard_read: false,
            exhausted: false,
            waiting: false,
            in_flight: None,
            suspect: None,
            attempts: 0,
            failures: 0,
            retry_at_ms: None,
            stopped: false,
            last_failure: None,
            dead_run: 0,
            unsaved_dead: Vec::new(),
            saving_dead: false,
            saved_dead: 0,
            dirty: false,
            saving: false,
            ordered: false,
            saving_ordered: false,
            saved_at_ms: 0,
            save_retry_ms: None,
            replays: VecDeque::new(),
            settings,
        }
    }

    /// Takes in what happened and returns what is to be done.
    pub fn step(&mut self, input: Input, now: Now) -> Vec<Action> {
        match input {
            Input::Wake => {}
            Input::Opened(opened, beyond) => self.opened(opened, beyond, now),
            Input::OpenFailed(failure) => {
                self.session = Session::Closed;
                self.failed(&failure, now);
            }
            Input::Entries(entries) => self.entries(entries, now),
            Input::ReadFailed => {
                self.reading = false;
                self.discard_read = false;
                self.failed(&Failure::retry("log_unreadable", Status::none(), None), now);
            }
            Input::FeedMoved => {
                self.waiting = false;
                self.exhausted = false;
            }
            Input::Delivered(ack) => self.delivered(ack, now),
            Input::DeliverFailed(failure) => self.deliver_failed(&failure, now),
            Input::CursorSaved(saved) => self.cursor_saved(saved, now),
            Input::DeadSaved(saved) => self.dead_saved(saved, now),
            Input::EntryRead(entry) => self.dead_read(entry, now),
            Input::EntryUnread => {
                self.in_flight = None;
                self.failed(&Failure::retry("log_unreadable", Status::none(), None), now);
            }
            Input::Command(command) => self.command(command),
        }
        self.plan(now)
    }

    /// Returns when the engine wants to be woken, on the monotonic clock in milliseconds.
    pub fn wake_at(&self) -> Option<u64> {
        let save_at = self.saved_at_ms + self.settings.save_interval_ms;
        let save_at = if self.ordered { 0 } else { save_at };
        let save = (self.dirty && !self.saving && self.unsaved_dead.is_empty())
            .then(|| save_at.max(self.save_retry_ms.unwrap_or(0)));
        let noting = matches!(
            self.in_flight,
            Some(InFlight::Front { stage: Stage::Noting, .. } | InFlight::Dead { stage: Stage::Noting, .. })
        );
        let note = self.save_retry_ms.filter(|_| noting);
        let lingers = self.session == Session::Open
            && self.in_flight.is_none()
            && self.retry_at_ms.is_none()
            && !self.queue.is_empty()
            && !self.cursor.paused;
        let linger = lingers.then(|| self.queue_since_ms + self.settings.limits.linger_ms);
        let retry = self.retry_at_ms.filter(|_| !self.cursor.paused || !self.unsaved_dead.is_empty());
        [retry, save, note, linger].into_iter().flatten().min()
    }

    /// Returns the cursor as it is in memory.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Returns the dead letters.
    pub fn dead_letters(&self) -> impl Iterator<Item = &DeadLetter> {
        self.dead.values()
    }

    /// Returns how many dead letters there are.
    pub fn dead_count(&self) -> u64 {
        self.dead.len() as u64
    }

    /// Returns the state that people see.
    pub fn circuit(&self) -> Circuit {
        match () {
            () if self.cursor.paused => Circuit::Paused,
            () if self.stopped => Circuit::Stopped,
            () if self.failures >= self.settings.backoff.open_after => Circuit::Open,
            () if self.failures > 0 => Circuit::Retrying,
            () => Circuit::Closed,
        }
    }

    /// Returns the last failure since the last success.
    pub fn last_failure(&self) -> Option<&LastFailure> {
        self.last_failure.as_ref()
    }

    /// Tells whether what a command changed is on disk.
    pub fn is_saved(&self) -> bool {
        !self.ordered && !self.saving_ordered
    }

    /// Tells whether dead letters are being tried again.
    pub fn is_replaying_dead(&self) -> bool {
        !self.replays.is_empty() || matches!(self.in_flight, Some(InFlight::Dead { .. }))
    }

    /// Tells whether everything that was read is settled and saved.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.in_flight.is_none()
            && self.replays.is_empty()
            && !self.dirty
            && !self.saving
            && self.exhausted
    }

    fn opened(&mut self, opened: Opened, beyond: Option<Beyond>, now: Now) {
        self.session = Session::Open;
        self.high_water = opened.high_water;
        if let Some(beyond) = beyond {
            self.cursor.note_beyond(beyond);
        }
        if let Some(intent) = self.cursor.intent.take()
            && opened.intent_applied
        {
            if intent.last < self.cursor.next {
                // A dead letter that was sent again.
                self.cursor.counts.delivered += 1;
                if self.dead.contains_key(&intent.last) {
                    self.unsaved_dead.push(DeadChange::Remove(intent.last));
                }
            } else {
                // Kept in the cursor: the next session cannot be asked for it.
                self.cursor.arrived = Some(intent.last);
            }
        }
        self.high_water = self.high_water.max(self.cursor.arrived);
        for at in opened.missing {
            let letter = self.letter(at, "dropped_by_target", None, Status::none(), now);
            self.unsaved_dead.push(DeadChange::Put(letter));
        }
        self.cursor.session = opened.session;
        self.dirty = true;
        if self.in_flight.is_none() && self.attempts == 0 {
            self.succeeded();
        }
    }

    fn entries(&mut self, entries: Vec<Prepared>, now: Now) {
        self.reading = false;
        if std::mem::take(&mut self.discard_read) {
            return;
        }
        self.exhausted = entries.is_empty();
        if self.queue.is_empty() {
            self.queue_since_ms = now.mono_ms;
        }
        if let Some(last) = entries.last() {
            self.next_read = last.position.next();
        }
        for entry in entries {
            self.queue_bytes += bytes(&entry);
            self.queue.push_back(entry);
        }
    }

    fn delivered(&mut self, ack: Ack, now: Now) {
        if let Some(session) = ack.session {
            self.cursor.session = session;
        }
        self.cursor.intent = None;
        let Some(in_flight) = &mut self.in_flight else { return };
        let (stage, rejected) = match in_flight {
            InFlight::Front { batch, stage, .. } => {
                let rejected: Vec<Position> = ack
                    .rejected
                    .iter()
                    .filter_map(|row| batch.rows.get(*row))
                    .map(|row| row.position)
                    .collect();
                (stage, rejected)
            }
            InFlight::Dead { at, stage, .. } => {
                let rejected = if ack.rejected.is_empty() { Vec::new() } else { vec![*at] };
                (stage, rejected)
            }
        };
        *stage = Stage::Settling;
        if rejected.is_empty() {
            self.dead_run = 0;
            if let Some(InFlight::Dead { at, .. }) = &self.in_flight {
                self.cursor.counts.delivered += 1;
                self.unsaved_dead.push(DeadChange::Remove(*at));
                self.dirty = true;
            }
        }
        for at in rejected {
            let letter = self.letter(at, ack.rejected_code, None, Status::none(), now);
            self.unsaved_dead.push(DeadChange::Put(letter));
        }
        self.succeeded();
    }

    /// Settles what was sent, as soon as its dead letters are durable.
    fn settle_in_flight(&mut self, now: Now) {
        if !self.unsaved_dead.is_empty() || self.saving_dead {
            return;
        }
        match self.in_flight.take() {
            Some(InFlight::Front { entries, stage: Stage::Settling, .. }) => {
                for _ in 0..entries {
                    self.settle_front(now);
                }
                self.attempts = 0;
                self.shrink_suspect();
            }
            Some(InFlight::Dead { stage: Stage::Settling, .. }) => {
                self.attempts = 0;
                self.replays.pop_front();
            }
            other => self.in_flight = other,
        }
    }

    fn settle_front(&mut self, now: Now) {
        let Some(entry) = self.queue.pop_front() else { return };
        self.queue_since_ms = now.mono_ms;
        self.queue_bytes = self.queue_bytes.saturating_sub(bytes(&entry));
        let replayed = self.cursor.replay_until.is_some_and(|until| entry.position < until);
        if !replayed {
            let counts = &mut self.cursor.counts;
            match entry.outcome {
                Outcome::Row(_) if !self.dead.contains_key(&entry.position) => counts.delivered += 1,
                Outcome::Row(_) | Outcome::Unmappable(_) => {}
                Outcome::Filtered => counts.filtered += 1,
                Outcome::Erased => counts.erased += 1,
            }
        }
        self.cursor.next = entry.position.next();
        if entry.received_ms > 0 {
            self.cursor.settled_ms = entry.received_ms;
        }
        if self.cursor.arrived.is_some_and(|arrived| self.cursor.next > arrived) {
            self.cursor.arrived = None;
        }
        if self.cursor.replay_until.is_some_and(|until| self.cursor.next >= until) {
            self.cursor.replay_until = None;
        }
        self.dirty = true;
    }

    fn deliver_failed(&mut self, failure: &Failure, now: Now) {
        let Some(in_flight) = self.in_flight.take() else { return };
        if !matches!(failure.verdict, Verdict::Reopen { .. }) {
            // Surely not applied. After a reopening the noted batch decides.
            self.cursor.intent = None;
        }
        match (failure.verdict, in_flight) {
            (Verdict::Poison { row }, InFlight::Front { batch, .. }) => {
                self.poisoned(&batch, row, failure, now)
            }
            (Verdict::Poison { .. }, InFlight::Dead { at, .. }) => {
                let letter = self.letter(at, failure.code, None, failure.status.clone(), now);
                self.unsaved_dead.push(DeadChange::Put(letter));
                self.replays.pop_front();
                self.attempts = 0;
            }
            _ => self.failed(failure, now),
        }
    }

    fn poisoned(&mut self, batch: &Batch, row: Option<usize>, failure: &Failure, now: Now) {
        let named = row.and_then(|row| batch.rows.get(row)).map(|row| row.position);
        let condemned = if batch.rows.len() == 1 { Some(batch.first()) } else { named };
        let Some(at) = condemned else {
            self.suspect = Some((batch.last(), (batch.rows.len() / 2).max(1)));
            return;
        };
        if self.dead_run >= self.settings.dead_run_max {
            self.failed(&Failure::stop("too_many_dead_letters", failure.status.clone()), now);
            return;
        }
        self.dead_run += 1;
        let letter = self.letter(at, failure.code, None, failure.status.clone(), now);
        self.unsaved_dead.push(DeadChange::Put(letter));
        self.attempts = 0;
        // The rows behind it in the refused batch may be good: let the next batch be as large as it likes.
        self.suspect = None;
        self.succeeded();
    }

    /// After rows before the bad one went through, it stands in the rest: half of that is tried next.
    fn shrink_suspect(&mut self) {
        let Some((until, rows)) = self.suspect else { return };
        if self.cursor.next > until {
            self.suspect = None;
            return;
        }
        let rest = self
            .queue
            .iter()
            .take_while(|entry| entry.position <= until)
            .filter(|entry| matches!(entry.outcome, Outcome::Row(_)))
            .count();
        self.suspect = Some((until, (rest / 2).clamp(1, rows.max(1))));
    }

    fn failed(&mut self, failure: &Failure, now: Now) {
        self.failures = self.failures.saturating_add(1);
        self.last_failure =
            Some(LastFailure { code: failure.code, status: failure.status.clone(), at_ms: now.wall_ms });
        let random = self.jitter.next();
        let backoff = &self.settings.backoff;
        let pause_ms = match failure.verdict {
            Verdict::Stop => {
                self.stopped = true;
                self.close();
                self.settings.backoff.stopped_ms
            }
            Verdict::Reopen { after } => {
                let pause_ms = backoff.pause_ms(self.failures, after, random);
                self.close();
                pause_ms
            }
            Verdict::Retry { after } => backoff.pause_ms(self.failures, after, random),
            // Only openings come here with it; they are tried again like any failure.
            Verdict::Poison { .. } => backoff.pause_ms(self.failures, None, random),
        };
        self.retry_at_ms = Some(now.mono_ms + pause_ms);
    }

    /// Forgets the session and what was read: entries may be erased by the time the target is back.
    fn close(&mut self) {
        self.session = Session::Closed;
        self.restart_reading();
    }

    fn restart_reading(&mut self) {
        self.queue.clear();
        self.queue_bytes = 0;
        self.next_read = self.cursor.next;
        self.discard_read = self.reading;
        self.exhausted = false;
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        self.stopped = false;
        self.retry_at_ms = None;
        self.last_failure = None;
    }

    fn cursor_saved(&mut self, saved: bool, now: Now) {
        self.saving = false;
        if !saved {
            self.dirty = true;
            self.ordered |= std::mem::take(&mut self.saving_ordered);
            self.stage_after_save(Stage::Noting);
            self.save_retry_ms = Some(now.mono_ms + self.settings.backoff.longest_ms.min(1000));
            self.last_failure =
                Some(LastFailure { code: "cursor_not_saved", status: Status::none(), at_ms: now.wall_ms });
            return;
        }
        self.save_retry_ms = None;
        self.saving_ordered = false;
        self.stage_after_save(Stage::Noted);
    }

    fn stage_after_save(&mut self, next: Stage) {
        if let Some(InFlight::Front { stage, .. } | InFlight::Dead { stage, .. }) = &mut self.in_flight
            && *stage == Stage::SavingIntent
        {
            *stage = next;
        }
    }
}
