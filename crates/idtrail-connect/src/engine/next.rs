//! What follows from the state: saves, reads, openings and batches, each only when nothing stands in its way.

use super::{Action, Batch, DeadChange, Engine, InFlight, Intent, Mode, Now, Session, Stage};
use crate::plan::{Outcome, Prepared};
use crate::position::Position;
use crate::verdict::{Failure, Status};

/// Entries that one read asks for, at most, and that the queue holds, at most.
const READ_ENTRIES_MAX: usize = 4096;
/// Bytes of JSON that one read asks for: opened events take several times that in memory until they are rows.
const READ_BYTES_MAX: usize = 2 * 1024 * 1024;
const QUEUE_ENTRIES_MAX: usize = 6 * READ_ENTRIES_MAX;

impl Engine {
    pub(super) fn plan(&mut self, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        self.settle_in_flight(now);
        let pausing = self.retry_at_ms.is_some_and(|at| at > now.mono_ms);
        if !pausing {
            self.retry_at_ms = None;
        }
        if !self.cursor.paused && !pausing {
            self.advance(now, &mut actions);
        }
        if !self.unsaved_dead.is_empty() && !self.saving_dead && self.retry_at_ms.is_none() {
            self.saving_dead = true;
            self.saved_dead = self.unsaved_dead.len();
            actions.push(Action::SaveDead(self.unsaved_dead.clone()));
        }
        self.send_noted(now, &mut actions);
        self.save(now, &mut actions);
        self.read(&mut actions);
        actions
    }

    /// Opens the session, or takes the next thing to send.
    fn advance(&mut self, now: Now, actions: &mut Vec<Action>) {
        if let Some(InFlight::Dead { stage: stage @ Stage::Reading, batch: Some(_), .. }) =
            &mut self.in_flight
        {
            *stage = Stage::Noting;
        }
        if self.in_flight.is_some() || !self.unsaved_dead.is_empty() {
            return;
        }
        match self.session {
            Session::Opening => {}
            Session::Closed => {
                self.session = Session::Opening;
                actions.push(Action::Open(self.cursor.clone()));
            }
            Session::Open => {
                self.pass_front(now);
                if !self.unsaved_dead.is_empty() || self.retry_at_ms.is_some() {
                    return;
                }
                if let Some(at) = self.replays.front().copied() {
                    self.in_flight = Some(InFlight::Dead { at, batch: None, stage: Stage::Reading });
                    actions.push(Action::ReadOne(at));
                    return;
                }
                if let Some((batch, entries)) = self.next_batch(now) {
                    self.in_flight = Some(InFlight::Front { entries, batch, stage: Stage::Noting });
                }
            }
        }
    }

    /// Settles what stands at the front and need not be sent.
    fn pass_front(&mut self, now: Now) {
        while let Some(front) = self.queue.front() {
            let known = self.dead.contains_key(&front.position);
            match &front.outcome {
                Outcome::Filtered | Outcome::Erased => self.settle_front(now),
                Outcome::Row(_) if known || self.is_there(front.position) => self.settle_front(now),
                Outcome::Unmappable(_) if known => self.settle_front(now),
                Outcome::Row(_) => return,
                Outcome::Unmappable(_) => {
                    self.condemn_unmappable(now);
                    return;
                }
            }
        }
    }

    /// Makes dead letters of the entries at the front that no row can be made of.
    fn condemn_unmappable(&mut self, now: Now) {
        let mut letters = Vec::new();
        for entry in &self.queue {
            let Outcome::Unmappable(unmappable) = &entry.outcome else { break };
            if self.dead_run + letters.len() as u32 >= self.settings.dead_run_max {
                break;
            }
            let (code, column) = (unmappable.code(), unmappable.column().map(str::to_owned));
            letters.push(self.letter(entry.position, code, column, Status::none(), now));
        }
        if letters.is_empty() {
            self.failed(&Failure::stop("too_many_dead_letters", Status::none()), now);
            return;
        }
        self.dead_run += letters.len() as u32;
        self.unsaved_dead.extend(letters.into_iter().map(DeadChange::Put));
    }

    fn mode(&self, at: Position) -> Mode {
        if self.cursor.replay_until.is_some_and(|until| at < until) { Mode::Keyed } else { Mode::Live }
    }

    /// Tells whether the target had the row when the session was opened.
    fn is_there(&self, at: Position) -> bool {
        self.mode(at) == Mode::Live && self.high_water.is_some_and(|newest| at <= newest)
    }

    /// Returns the next batch and how many entries of the queue it settles, unless it should wait for more.
    fn next_batch(&self, now: Now) -> Option<(Batch, usize)> {
        let limits = &self.settings.limits;
        let rows_max = self.suspect.map_or(limits.rows_max, |(_, rows)| rows).max(1);
        let mut batch: Option<Batch> = None;
        let (mut entries, mut bytes, mut full) = (0, 0, false);
        for entry in &self.queue {
            let row = match &entry.outcome {
                Outcome::Row(row) if !self.dead.contains_key(&entry.position) => row,
                Outcome::Unmappable(_) if !self.dead.contains_key(&entry.position) => {
                    full = true;
                    break;
                }
                _ => {
                    entries += 1;
                    continue;
                }
            };
            let mode = self.mode(entry.position);
            let current = batch.get_or_insert_with(|| Batch { rows: Vec::new(), mode });
            let fits =
                current.rows.is_empty() || (current.mode == mode && bytes + row.bytes() <= limits.bytes_max);
            if !fits || current.rows.len() >= rows_max {
                full = true;
                break;
            }
            bytes += row.bytes();
            current.rows.push(row.clone());
            entries += 1;
        }
        let batch = batch?;
        let waits = !full
            && self.suspect.is_none()
            && batch.rows.len() < rows_max
            && now.mono_ms < self.queue_since_ms + limits.linger_ms;
        (!waits).then_some((batch, entries))
    }

    /// Sends what is to be sent, once its intent is on disk where the target needs that.
    fn send_noted(&mut self, now: Now, actions: &mut Vec<Action>) {
        let notes_intent = self.settings.limits.notes_intent;
        let retry_save = self.save_retry_ms.is_some_and(|at| at > now.mono_ms);
        let (batch, stage) = match &mut self.in_flight {
            Some(InFlight::Front { batch, stage, .. }) => (batch, stage),
            Some(InFlight::Dead { batch: Some(batch), stage, .. }) => (batch, stage),
            _ => return,
        };
        if *stage == Stage::Noting && !notes_intent {
            *stage = Stage::Noted;
        }
        if *stage == Stage::Noting && !self.saving && !retry_save {
            *stage = Stage::SavingIntent;
            self.cursor.intent =
                Some(Intent { first: batch.first(), last: batch.last(), rows: batch.rows.len() as u64 });
            self.saving = true;
            self.dirty = false;
            self.saving_ordered |= std::mem::take(&mut self.ordered);
            self.saved_at_ms = now.mono_ms;
            actions.push(Action::SaveCursor(self.cursor.clone()));
        }
        if *stage == Stage::Noted {
            *stage = Stage::Sending;
            self.attempts = self.attempts.saturating_add(1);
            actions.push(Action::Deliver(batch.clone()));
        }
    }

    fn save(&mut self, now: Now, actions: &mut Vec<Action>) {
        let due = self.settings.limits.saves_every_batch
            || self.ordered
            || now.mono_ms >= self.saved_at_ms + self.settings.save_interval_ms;
        let retry_save = self.save_retry_ms.is_some_and(|at| at > now.mono_ms);
        // A cursor never gets ahead of the dead letters that it passed.
        let dead_saved = self.unsaved_dead.is_empty();
        if self.dirty && !self.saving && due && !retry_save && dead_saved {
            self.dirty = false;
            self.saving = true;
            self.saving_ordered |= std::mem::take(&mut self.ordered);
            self.saved_at_ms = now.mono_ms;
            actions.push(Action::SaveCursor(self.cursor.clone()));
        }
    }

    fn read(&mut self, actions: &mut Vec<Action>) {
        let room = self.queue_bytes < self.settings.queue_bytes_max && self.queue.len() < QUEUE_ENTRIES_MAX;
        // Not while the session is closed: what is read now may be erased by the time the target is back.
        if self.cursor.paused || self.reading || !room || self.session != Session::Open {
            return;
        }
        if !self.exhausted {
            self.reading = true;
            actions.push(Action::Read {
                from: self.next_read,
                entries_max: READ_ENTRIES_MAX.min(self.settings.limits.rows_max.max(64)),
                bytes_max: READ_BYTES_MAX.min(self.settings.queue_bytes_max / 2),
            });
        } else if !self.waiting {
            self.waiting = true;
            actions.push(Action::WaitFeed(self.next_read));
        }
    }
}

/// Returns how many bytes an entry takes in the queue, about.
pub(super) fn bytes(entry: &Prepared) -> usize {
    64 + if let Outcome::Row(row) = &entry.outcome { row.bytes() } else { 0 }
}
