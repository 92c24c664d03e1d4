//! What happens next with one request: `step(input, now) -> actions`.
//!
//! The engine holds the case, which is folded from durable steps, and what is known of calls under way, which is lost in a
//! crash. It asks for one step to be written at a time, and only after that step is durable does it ask for the effect; an
//! effect whose intent stands in the log and of which nobody knows whether it happened is looked at before it is repeated.
//! Every action may be carried out twice. There is no way back: an erasure cannot be undone, so the engine only goes on.
//!
//! It must never ask for an effect whose intent is not durable, decide that something is done because somebody says so, or
//! begin an effect on an item that is held.

mod answers;
mod next;
mod times;

use std::collections::BTreeMap;

use crate::case::{Case, EffectState};
use crate::command::{self, Command, Refusal};
use crate::error::RightsError;
use crate::event::{Effect, Entry, Failure, Finding, Level, Received, Step, Task};
use crate::id::{Code, Digest, ItemName, Principal, RequestId};
use crate::plan::{Kind, Operation};
use crate::settings::Settings;
use crate::state::State;

/// What comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// This step is durable.
    Appended(Entry),
    /// What became of a call.
    Answered(Digest, Answer),
    /// Somebody says something; who, if it is known.
    Said(Option<Principal>, Command),
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was done, or found so; with the hash of what shows it.
    Found(Finding, Option<Digest>),
    /// The system took it on: its id of the work, and when to ask, milliseconds since 1970.
    Accepted(Code, u64),
    /// It did not succeed; the system may have said how long to wait, milliseconds.
    Failed(Failure, Option<u64>),
}

/// What goes out. Each may be carried out twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write this step, under its [`Entry::append_key`]; then give it back as [`Input::Appended`]. If the key is taken by
    /// another step, the engine is out of date: fold the request anew.
    Append(Box<Entry>),
    /// Make this call, and give back its answer.
    Call(Call),
    /// Nothing happens before this time by itself; milliseconds since 1970.
    WakeAt(u64),
}

/// What is asked of a system or of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The effect; the receiver does one effect once, however often it is called.
    pub effect_id: Digest,
    /// What it is part of.
    pub task: Task,
    /// What the effect does.
    pub effect: Effect,
    /// What to do now: the effect itself, or a look at whether it happened, or a question how far it is.
    pub ask: Ask,
    /// The items that an effect of the request itself is about.
    pub covers: Vec<ItemName>,
    /// An answer that comes later counts as not known; milliseconds since 1970.
    pub deadline_ms: u64,
}

/// What a call does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The effect.
    Do,
    /// Counts what is still there, since nobody knows whether the effect happened.
    Probe,
    /// Asks how far the system is, by its own id of the work.
    Poll(Code),
}

/// What is known of an effect only while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    /// Its intent was written just now, or it was seen not to have happened: it may be done without a look.
    Fresh,
    /// It was called; until when an answer is waited for, and whether with a look.
    Sent { until_ms: u64, probing: bool },
    /// The system works on it; when to ask again.
    Polling(u64),
}

/// One request, driven.
#[derive(Clone, Debug, PartialEq)]
pub struct Engine {
    case: Case,
    flights: BTreeMap<Digest, Flight>,
    answers: BTreeMap<Digest, Answer>,
    appending: Option<Entry>,
}

/// What a request begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Its id, random.
    pub request: RequestId,
    /// What is asked for.
    pub kind: Kind,
    /// The law.
    pub regime: Code,
    /// When it arrived, which may be before it was typed in; milliseconds since 1970.
    pub received_ms: u64,
    /// How it was made.
    pub manner: Code,
    /// The random reference of its subject.
    pub subject_ref: crate::id::SubjectRef,
    /// Commitment of its nonce.
    pub nonce: Digest,
    /// Keyed hash by which a duplicate is recognised.
    pub duplicate_key: Digest,
}

impl Opening {
    /// Returns the first step of a request, to be written before anything else.
    ///
    /// # Errors
    /// [`Refusal::Clock`] if the regime is not configured or the time is none.
    pub fn entry(self, by: Option<Principal>, now_ms: u64, settings: &Settings) -> Result<Entry, Refusal> {
        settings.regime(&self.regime).ok_or(Refusal::Clock)?;
        let received_on = settings.zone.date(self.received_ms).map_err(|_| Refusal::Clock)?;
        let received = Received {
            kind: self.kind,
            regime: self.regime,
            received_on,
            manner: self.manner,
            subject_ref: self.subject_ref,
            nonce: self.nonce,
            verification: settings.level(self.kind),
            duplicate_key: self.duplicate_key,
        };
        Ok(Entry { request: self.request, sequence: 0, at_ms: now_ms, actor: by, step: received.into() })
    }
}

impl Engine {
    /// Goes on with a request as its durable steps left it.
    ///
    /// # Errors
    /// [`RightsError`] if they are not one history.
    pub fn resume<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Result<Self, RightsError> {
        let case = Case::fold(entries)?;
        Ok(Self { case, flights: BTreeMap::new(), answers: BTreeMap::new(), appending: None })
    }

    /// Returns the case.
    pub fn case(&self) -> &Case {
        &self.case
    }

    /// Takes an input and says what to do. At most one of the actions is an append.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has changed.
    pub fn step(&mut self, input: Input, now_ms: u64, settings: &Settings) -> Result<Vec<Action>, Refusal> {
        match input {
            Input::Tick => {}
            Input::Appended(entry) => self.appended(&entry)?,
            Input::Answered(effect_id, answer) => {
                let open = self.case.effects.get(&effect_id).is_some_and(EffectState::is_open);
                // Answers that come twice, or too late, are no news.
                if open && matches!(self.flights.get(&effect_id), Some(Flight::Sent { .. })) {
                    self.answers.insert(effect_id, answer);
                }
            }
            Input::Said(by, command) => {
                if self.appending.is_some() {
                    return Err(Refusal::Busy);
                }
                let step = command::step(&self.case, settings, by.as_ref(), &command, now_ms)?;
                let entry = self.entry(by, step, now_ms);
                // The table has the last word.
                if let Err(error) = self.case.clone().apply(&entry) {
                    return Err(match error {
                        RightsError::Transition { state, .. } => Refusal::State(state),
                        _ => Refusal::State(self.case.state.name()),
                    });
                }
                self.appending = Some(entry);
            }
        }
        self.decide(now_ms, settings)
    }

    fn entry(&self, actor: Option<Principal>, step: Step, at_ms: u64) -> Entry {
        Entry { request: self.case.request.clone(), sequence: self.case.steps, at_ms, actor, step }
    }

    fn appended(&mut self, entry: &Entry) -> Result<(), Refusal> {
        if self.appending.as_ref() != Some(entry) {
            // A second confirmation of a step that is taken already.
            return if entry.sequence < self.case.steps { Ok(()) } else { Err(Refusal::WrongAnswer) };
        }
        self.case.apply(entry).map_err(|_| Refusal::WrongAnswer)?;
        self.appending = None;
        match &entry.step {
            Step::Intent(step) => {
                self.flights.insert(step.effect_id, Flight::Fresh);
            }
            Step::Retry(step) if step.failure == Failure::NotDone => {
                self.flights.insert(step.effect_id, Flight::Fresh);
            }
            Step::Retry(step) => {
                self.flights.remove(&step.effect_id);
            }
            Step::Accepted(step) => {
                self.flights.insert(step.effect_id, Flight::Polling(step.poll_at_ms));
            }
            Step::Outcome(step) => {
                self.flights.remove(&step.effect_id);
            }
            Step::Dead(step) => {
                self.flights.remove(&step.effect_id);
            }
            _ => {}
        }
        Ok(())
    }

    fn decide(&mut self, now_ms: u64, settings: &Settings) -> Result<Vec<Action>, Refusal> {
        if self.appending.is_none() {
            let step = match self.next_answer(now_ms, settings)? {
                Some(step) => Some(step),
                None => match self.next_alarm(now_ms, settings)? {
                    Some(step) => Some(step),
                    None => self.next_step(now_ms, settings)?,
                },
            };
            if let Some(entry) = step.map(|step| self.entry(None, step, now_ms)) {
                // What the fold would refuse must never become durable.
                self.case.clone().apply(&entry).map_err(|_| Refusal::WrongAnswer)?;
                self.appending = Some(entry);
            }
        }
        let mut actions = Vec::new();
        if let Some(entry) = &self.appending {
            actions.push(Action::Append(Box::new(entry.clone())));
        }
        let wake_ms = self.calls(now_ms, settings, &mut actions);
        if actions.is_empty() && self.is_driven() {
            let wake_ms = wake_ms.min(self.next_time(now_ms, settings)?);
            if wake_ms < u64::MAX {
                actions.push(Action::WakeAt(wake_ms));
            }
        }
        Ok(actions)
    }

    /// Tells whether anything can still happen by itself. A request that closed with something missing goes on looking
    /// for it.
    fn is_driven(&self) -> bool {
        let state = self.case.state;
        !state.is_closed() || (state == State::ClosedPartial && !self.case.kind().is_reading())
    }

    /// Tells whether the end of an effect may be written now. While the request is answered nothing may change under the
    /// certificate, so what other tasks say waits until it is closed.
    fn may_end(&self, effect: &EffectState) -> bool {
        match (&effect.task, self.case.state) {
            (Task::Item(name), State::Settling | State::Shredding | State::Receipted) => {
                self.is_shredded(name)
            }
            (Task::Item(_), State::Review | State::LinkExpired) => false,
            _ => self.is_driven(),
        }
    }

    /// Adds the calls that are to be made now, and returns when the next one is.
    fn calls(&mut self, now_ms: u64, settings: &Settings, actions: &mut Vec<Action>) -> u64 {
        let mut wake_ms = u64::MAX;
        if !self.is_driven() {
            return wake_ms;
        }
        let sent = |flight: &Flight| matches!(flight, Flight::Sent { .. });
        let mut under_way = self.flights.values().filter(|flight| sent(flight)).count();
        for (id, effect) in self.case.effects.iter().filter(|(_, effect)| effect.is_open()) {
            let flight = self.flights.get(id).copied();
            let (ask, not_before_ms) = match (flight, &effect.accepted) {
                (Some(Flight::Sent { until_ms, .. }), _) => {
                    wake_ms = wake_ms.min(until_ms.max(now_ms + 1));
                    continue;
                }
                (Some(Flight::Polling(at_ms)), Some((remote, _))) => (Ask::Poll(remote.clone()), at_ms),
                (_, Some((remote, at_ms))) => (Ask::Poll(remote.clone()), (*at_ms).max(effect.retry_at_ms)),
                (Some(Flight::Fresh), None) => (Ask::Do, effect.retry_at_ms),
                (_, None) if in_doubt(effect) => (Ask::Probe, effect.retry_at_ms),
                (_, None) => (Ask::Do, effect.retry_at_ms),
            };
            if not_before_ms > now_ms || under_way >= settings.calls_max {
                wake_ms = wake_ms.min(not_before_ms.max(now_ms + 1));
                continue;
            }
            let until_ms = now_ms.saturating_add(settings.call_ms);
            self.flights.insert(*id, Flight::Sent { until_ms, probing: ask == Ask::Probe });
            under_way += 1;
            actions.push(Action::Call(Call {
                effect_id: *id,
                task: effect.task.clone(),
                effect: effect.effect,
                ask,
                covers: effect.covers.clone(),
                deadline_ms: until_ms,
            }));
        }
        wake_ms
    }
}

/// Tells whether an effect is under way or about to be, and waits neither for a system nor for its next attempt.
fn is_busy(effect: &EffectState, now_ms: u64) -> bool {
    effect.accepted.is_none() && effect.retry_at_ms <= now_ms
}

/// Tells whether one looks before one repeats: what only reads can be repeated, and what the server does itself it does
/// once for one effect id.
fn in_doubt(effect: &EffectState) -> bool {
    matches!((&effect.task, effect.effect), (Task::Item(_), Effect::Act(operation)) if operation.changes())
}

/// Returns whether a level is enough; for callers that ask before they open a request.
pub fn is_known(level: Level, settings: &Settings, kind: Kind) -> bool {
    level >= settings.level(kind)
}

/// Returns the operation that a call means for a connector: its own, or a look.
pub fn operation_of(call: &Call) -> Option<Operation> {
    match (&call.ask, call.effect) {
        (Ask::Probe, _) | (Ask::Do, Effect::ProbeAgain) => Some(Operation::Probe),
        (Ask::Poll(_), _) => Some(Operation::Poll),
        (Ask::Do, Effect::Act(operation)) => Some(operation),
        (Ask::Do, _) => None,
    }
}
