//! Dead letters: made, saved, tried again; and the commands of people, most of which are about them.

use std::collections::BTreeSet;

use super::{Batch, Command, DeadChange, DeadLetter, Engine, InFlight, Mode, Now, Stage};
use crate::plan::{Outcome, Prepared};
use crate::position::Position;
use crate::verdict::{Failure, Status};

impl Engine {
    pub(super) fn dead_saved(&mut self, saved: bool, now: Now) {
        self.saving_dead = false;
        if !saved {
            self.failed(&Failure::retry("dead_letter_not_saved", Status::none(), None), now);
            return;
        }
        let saved = self.saved_dead.min(self.unsaved_dead.len());
        for change in self.unsaved_dead.drain(..saved) {
            match change {
                DeadChange::Put(letter) => {
                    self.dead.insert(letter.at, letter);
                }
                DeadChange::Remove(at) => {
                    self.dead.remove(&at);
                }
            }
        }
    }

    pub(super) fn dead_read(&mut self, entry: Option<Prepared>, now: Now) {
        let Some(InFlight::Dead { at, batch, stage: Stage::Reading }) = &mut self.in_flight else { return };
        let at = *at;
        match entry.map(|entry| entry.outcome) {
            Some(Outcome::Row(row)) => *batch = Some(Batch { rows: vec![row], mode: Mode::Keyed }),
            Some(Outcome::Unmappable(unmappable)) => {
                let column = unmappable.column().map(str::to_owned);
                let letter = self.letter(at, unmappable.code(), column, Status::none(), now);
                self.end_replay(DeadChange::Put(letter));
            }
            Some(Outcome::Filtered) => {
                self.cursor.counts.filtered += 1;
                self.end_replay(DeadChange::Remove(at));
            }
            Some(Outcome::Erased) => {
                self.cursor.counts.erased += 1;
                self.end_replay(DeadChange::Remove(at));
            }
            // The log does not hold it any more (another origin after a restore): there is nothing to deliver.
            None => self.end_replay(DeadChange::Remove(at)),
        }
    }

    fn end_replay(&mut self, change: DeadChange) {
        self.unsaved_dead.push(change);
        self.in_flight = None;
        self.replays.pop_front();
        self.dirty = true;
    }

    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Pause => {
                self.cursor.paused = true;
                self.change();
            }
            Command::Resume => {
                self.cursor.paused = false;
                self.change();
                self.dead_run = 0;
                self.retry_at_ms = None;
                self.stopped = false;
            }
            Command::ReplayFrom(from) => {
                if !self.settings.limits.keyed || from >= self.cursor.next {
                    return;
                }
                self.cursor.replay_until = self.cursor.replay_until.max(Some(self.cursor.next));
                self.cursor.next = from;
                self.change();
                // What is being sent is settled by nobody: those rows come again, by their keys.
                if let Some(InFlight::Front { entries, .. }) = &mut self.in_flight {
                    *entries = 0;
                }
                self.restart_reading();
            }
            Command::ReplayDead(all) => {
                let known = all.into_iter().filter(|at| self.dead.contains_key(at));
                let queued: BTreeSet<Position> = self.replays.iter().copied().collect();
                let fresh: Vec<Position> = known.filter(|at| !queued.contains(at)).collect();
                self.replays.extend(fresh);
            }
        }
    }

    /// Notes that a command changed the cursor.
    fn change(&mut self) {
        self.dirty = true;
        self.ordered = true;
    }

    pub(super) fn letter(
        &self,
        at: Position,
        code: &str,
        column: Option<String>,
        status: Status,
        now: Now,
    ) -> DeadLetter {
        let before = self.dead.get(&at);
        DeadLetter {
            at,
            code: code.to_owned(),
            column,
            attempts: before.map_or(0, |letter| letter.attempts) + self.attempts.max(1),
            status,
            since_ms: before.map_or(now.wall_ms, |letter| letter.since_ms),
        }
    }
}
