//! What happens next with one request: `step(input, now) -> actions`.
//!
//! The engine holds the case, which is folded from durable steps, and what is known of calls under way, which is lost in a
//! crash. It asks for one step to be written at a time, and only after that step is durable does it ask for the effect; an
//! effect whose intent stands in the log and of which nobody knows whether it happened is looked at before it is repeated.
//! Every action may be carried out twice. There is no way back: an erasure cannot be undone, so the engine only goes on.
//!
//! It must never ask for an effect whose intent is not durable, decide that something is done because somebody says so, or
//! begin an effect on an item that is held.

use std::collections::BTreeMap;

use jiff::civil::Date;

use crate::case::{Case, EffectState};
use crate::command::{self, Command, Refusal};
use crate::error::RightsError;
use crate::event::{
    Accepted, Alarm, Closed, DateName, Dead, Delivered, Effect, Entry, Failure, Finding, Frozen, Intent,
    Level, LinkExpired, OpenItem, Outcome, PackageBuilt, PlanInvalidated, Planned, Receipted, Received,
    Retry, Step, Task,
};
use crate::id::{Code, Digest, ItemName, Principal, RequestId};
use crate::item::Status;
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

    /// Returns the step that the next answer becomes, or the end of a call's time.
    fn next_answer(&mut self, now_ms: u64, settings: &Settings) -> Result<Option<Step>, Refusal> {
        self.answers.retain(|id, _| self.case.effects.get(id).is_some_and(EffectState::is_open));
        loop {
            let may_end = |id: &Digest| self.case.effects.get(id).is_some_and(|effect| self.may_end(effect));
            let late = |(id, flight): (&Digest, &Flight)| match flight {
                Flight::Sent { until_ms, .. } if *until_ms <= now_ms && may_end(id) => Some(*id),
                _ => None,
            };
            let answered = self.answers.keys().copied().find(|id| may_end(id));
            let overdue = self.flights.iter().find_map(late);
            let (id, answer) = match (answered.and_then(|id| self.answers.remove_entry(&id)), overdue) {
                (Some(taken), _) => taken,
                (None, Some(id)) => (id, Answer::Failed(Failure::Unknown, None)),
                (None, None) => return Ok(None),
            };
            let Some(effect) = self.case.effects.get(&id).filter(|effect| effect.is_open()).cloned() else {
                self.flights.remove(&id);
                continue;
            };
            if let Some(step) = self.answered(id, &effect, answer, now_ms, settings)? {
                return Ok(Some(step));
            }
        }
    }

    fn answered(
        &mut self,
        id: Digest,
        effect: &EffectState,
        answer: Answer,
        now_ms: u64,
        settings: &Settings,
    ) -> Result<Option<Step>, Refusal> {
        let probing = matches!(self.flights.get(&id), Some(Flight::Sent { probing: true, .. }));
        match answer {
            Answer::Found(Finding::Count(0), evidence) if probing => Ok(Some(
                Outcome { effect_id: id, result: Finding::Count(0), evidence, by_probe: true }.into(),
            )),
            Answer::Found(Finding::Count(_), _) if probing => {
                // It is still there, so the effect did not happen, or not wholly: do it.
                self.flights.insert(id, Flight::Fresh);
                Ok(None)
            }
            Answer::Found(result, evidence) if !probing && self.fits(effect.effect, &result) => {
                Ok(Some(Outcome { effect_id: id, result, evidence, by_probe: false }.into()))
            }
            Answer::Found(..) => self.failed(id, effect, Failure::Unknown, None, now_ms, settings).map(Some),
            // A copy that is not there in time is named as missing.
            Answer::Accepted(..)
                if self.case.kind().is_reading() && now_ms >= self.budget_end_ms(settings)? =>
            {
                Ok(Some(Dead { effect_id: id, reason: Code::parse("time").expect("a name") }.into()))
            }
            Answer::Accepted(remote, poll_at_ms) => {
                let poll_at_ms = poll_at_ms.max(now_ms + 1);
                match &effect.accepted {
                    // Still at it: no news for the log.
                    Some((known, _)) if *known == remote => {
                        self.flights.insert(id, Flight::Polling(poll_at_ms));
                        Ok(None)
                    }
                    _ => Ok(Some(Accepted { effect_id: id, remote, poll_at_ms }.into())),
                }
            }
            Answer::Failed(failure, wait_ms) => {
                self.failed(id, effect, failure, wait_ms, now_ms, settings).map(Some)
            }
        }
    }

    /// Tells whether an effect can end so. A plan that cannot be followed is no answer.
    fn fits(&self, effect: Effect, finding: &Finding) -> bool {
        let followable = match finding {
            Finding::Plan(plan) => plan.check().is_ok() && plan.kind == self.case.kind(),
            _ => true,
        };
        followable && effect.can_find(finding)
    }

    fn failed(
        &mut self,
        id: Digest,
        effect: &EffectState,
        failure: Failure,
        wait_ms: Option<u64>,
        now_ms: u64,
        settings: &Settings,
    ) -> Result<Step, Refusal> {
        let attempt = effect.attempts.saturating_add(1);
        let wait_ms = settings.retry.wait_ms(attempt, &id).max(wait_ms.unwrap_or(0));
        let retry_at_ms = now_ms.saturating_add(wait_ms);
        let of_item = matches!(effect.task, Task::Item(_));
        let reason = match failure {
            // Nobody else can do what the request itself must do, so that goes on.
            _ if !of_item => None,
            Failure::Refused => Some("refused"),
            _ if attempt >= settings.retry.attempts_max => Some("attempts"),
            _ if retry_at_ms >= self.budget_end_ms(settings)? => Some("time"),
            _ => None,
        };
        Ok(match reason {
            Some(reason) => Dead { effect_id: id, reason: Code::parse(reason).expect("a name") }.into(),
            None => Retry { effect_id: id, attempt, failure, retry_at_ms }.into(),
        })
    }

    /// Returns when the request is answered with what there is; never while the clock stands.
    fn budget_end_ms(&self, settings: &Settings) -> Result<u64, Refusal> {
        if self.case.pass > 1 {
            return Ok(self.case.pass_ms.saturating_add(settings.reopened_ms));
        }
        let respond = self.dates(settings)?.respond;
        let Some(due) = respond else { return Ok(u64::MAX) };
        let end_ms = settings.zone.end_of_day_ms(due.date).map_err(|_| Refusal::Clock)?;
        Ok(end_ms.saturating_sub(settings.margin_ms))
    }

    fn dates(&self, settings: &Settings) -> Result<crate::clock::Dates, Refusal> {
        let regime = settings.regime(&self.case.received.regime).ok_or(Refusal::Clock)?;
        self.case.clock.dates(regime, &settings.calendar).map_err(|_| Refusal::Clock)
    }

    /// Returns the next alarm that is due: for each date the nearest one that has come.
    fn next_alarm(&self, now_ms: u64, settings: &Settings) -> Result<Option<Step>, Refusal> {
        if self.case.state.is_closed() || self.case.answered_ms.is_some() {
            return Ok(None);
        }
        for (date, due, days, at_ms) in self.alarm_times(settings)? {
            if at_ms <= now_ms && !self.case.alarms.contains(&(date, due, days)) {
                return Ok(Some(Alarm { date, due, days }.into()));
            }
        }
        Ok(None)
    }

    /// Returns all alarms with their times; −1 day is the moment at which a date is over.
    fn alarm_times(&self, settings: &Settings) -> Result<Vec<(DateName, Date, i32, u64)>, Refusal> {
        let dates = self.dates(settings)?;
        let named = [
            (DateName::Acknowledge, dates.acknowledge),
            (DateName::Extend, dates.extend),
            (DateName::Respond, dates.respond),
        ];
        let mut times = Vec::new();
        for (name, due) in named.into_iter().filter_map(|(name, due)| Some((name, due?.date))) {
            let end_ms = settings.zone.end_of_day_ms(due).map_err(|_| Refusal::Clock)?;
            for &days in settings.alarm_days.iter().chain(&[-1]) {
                // `days` ahead means from the beginning of that day on; −1 is the end of the last day.
                let before_ms = u64::from(days.saturating_add(1).unsigned_abs()) * 86_400_000;
                times.push((name, due, days, end_ms.saturating_sub(before_ms)));
            }
        }
        Ok(times)
    }

    fn next_time(&self, now_ms: u64, settings: &Settings) -> Result<u64, Refusal> {
        let case = &self.case;
        let mut times =
            vec![case.approved_ms.saturating_add(settings.grace_ms), self.budget_end_ms(settings)?];
        if case.answered_ms.is_none() {
            times.extend(self.alarm_times(settings)?.into_iter().map(|(.., at_ms)| at_ms));
        }
        times.extend(case.delivery.link.map(|(until_ms, _)| until_ms));
        times.extend(case.items.values().map(|item| item.look_again_ms()));
        Ok(times.into_iter().filter(|at_ms| *at_ms > now_ms).min().unwrap_or(u64::MAX))
    }

    /// Returns the step that the case itself takes next, if it is time for one.
    fn next_step(&self, now_ms: u64, settings: &Settings) -> Result<Option<Step>, Refusal> {
        let case = &self.case;
        match case.state {
            State::Verified => Ok(self.begin(Effect::Discover)),
            State::Discovering => {
                Ok(match case.own(Effect::Discover).and_then(|effect| effect.outcome.as_ref()) {
                    Some(Finding::Plan(plan)) if plan.check().is_ok() && plan.kind == case.kind() => Some(
                        Planned {
                            plan_hash: plan.hash(),
                            plan: (**plan).clone(),
                            approvals: settings.approvals(case.kind()),
                        }
                        .into(),
                    ),
                    _ => None,
                })
            }
            State::Approved if case.kind() == Kind::Erasure => Ok(self.freeze(now_ms, settings)),
            State::Approved | State::Frozen | State::Executing | State::Collecting => {
                self.drive(now_ms, settings)
            }
            State::Settling | State::Shredding => Ok(self.settle(now_ms)),
            State::Review => Ok(self
                .made(Effect::Package)
                .map(|package| PackageBuilt { package }.into())
                .or_else(|| self.begin(Effect::Package))),
            State::Packaged => {
                let expires_at_ms = now_ms.saturating_add(settings.link_ms);
                Ok(Some(Delivered { expires_at_ms, fetches_max: settings.fetches_max }.into()))
            }
            State::Delivered => Ok(case.delivery.link.and_then(|(until_ms, max)| {
                let reason = match () {
                    () if now_ms >= until_ms => "time",
                    () if case.delivery.fetches >= max => "fetches",
                    () => return None,
                };
                Some(LinkExpired { reason: Code::parse(reason).expect("a name") }.into())
            })),
            State::Receipted | State::LinkExpired => Ok(self.close()),
            State::ClosedPartial if self.is_driven() => {
                Ok(self.next_item(now_ms, settings.calls_max, |_| true))
            }
            _ => Ok(None),
        }
    }

    /// Returns the intent of an effect of the request itself, unless it has begun.
    fn begin(&self, effect: Effect) -> Option<Step> {
        let round = self.case.request_round(effect);
        let effect_id = self.case.effect_id(&Task::Request, effect, round);
        let begun = self.case.effects.contains_key(&effect_id);
        (!begun).then(|| Intent { effect_id, task: Task::Request, effect, round }.into())
    }

    fn made(&self, effect: Effect) -> Option<Digest> {
        match self.case.own(effect)?.outcome.as_ref()? {
            Finding::Made(hash) => Some(*hash),
            _ => None,
        }
    }

    fn ended(&self, effect: Effect) -> bool {
        self.case.own(effect).is_some_and(|effect| effect.outcome.is_some())
    }

    fn freeze(&self, now_ms: u64, settings: &Settings) -> Option<Step> {
        if now_ms < self.case.approved_ms.saturating_add(settings.grace_ms) {
            return None;
        }
        let Some(effect) = self.case.own(Effect::Freeze) else { return self.begin(Effect::Freeze) };
        match effect.outcome.as_ref()? {
            Finding::Frozen { cutoff_ms, tree_size } => {
                Some(Frozen { cutoff_ms: *cutoff_ms, tree_size: *tree_size }.into())
            }
            _ => {
                let (_, plan_hash, _) = self.case.plan.as_ref()?;
                let reason = Code::parse("identity-changed").expect("a name");
                Some(PlanInvalidated { plan_hash: *plan_hash, reason }.into())
            }
        }
    }

    fn next_item(&self, now_ms: u64, calls_max: usize, takes: impl Fn(&ItemName) -> bool) -> Option<Step> {
        let case = &self.case;
        let open = || case.effects.values().filter(|effect| effect.is_open());
        // What waits for a system keeps nobody else from going on.
        let busy = open().filter(|effect| is_busy(effect, now_ms)).count();
        if busy >= calls_max {
            return None;
        }
        let open: Vec<&Task> = open().map(|effect| &effect.task).collect();
        let order = case.plan.iter().flat_map(|(plan, ..)| &plan.items);
        let items = order.filter_map(|planned| case.items.get(&planned.item));
        let items = items.filter(|item| takes(&item.plan.item));
        for item in items {
            let task = Task::Item(item.plan.item.clone());
            if open.contains(&&task) {
                continue;
            }
            let Some(effect) = item.next_effect(case.kind(), now_ms) else { continue };
            let round = item.round_of(effect);
            let effect_id = case.effect_id(&task, effect, round);
            return Some(Intent { effect_id, task, effect, round }.into());
        }
        None
    }

    fn drive(&self, now_ms: u64, settings: &Settings) -> Result<Option<Step>, Refusal> {
        let case = &self.case;
        if let Some(step) = self.next_item(now_ms, settings.calls_max, |_| true) {
            return Ok(Some(step));
        }
        let pressed = now_ms >= self.budget_end_ms(settings)?;
        let waits = |status: &Status| match status {
            Status::Held(_) => false,
            // In the first pass there is time until the due date; afterwards a person comes back when they have it.
            Status::Dead(_) | Status::ManualPending => case.pass == 1,
            status => !status.is_settled(),
        };
        let open = case.items.values().filter(|item| !item.waits_for_shred(case.kind()));
        let waiting = open.map(|item| case.status(item)).any(|status| waits(&status));
        let flying = || {
            let of_items = |effect: &&EffectState| matches!(effect.task, Task::Item(_));
            case.effects.values().filter(|effect| effect.is_open()).filter(of_items)
        };
        // However late it is, what can be tried is tried once and its answer heard.
        let busy = flying().any(|effect| is_busy(effect, now_ms));
        if busy || (!pressed && (waiting || flying().next().is_some())) {
            return Ok(None);
        }
        if case.kind().is_reading() {
            // Reviewing moves the case by itself; where nobody reviews, the package follows at once.
            return Ok(if settings.review { None } else { self.begin(Effect::Package) });
        }
        Ok(self.settle(now_ms))
    }

    /// Returns what follows when the tasks have ended: others' facts, keys, leaves, certificate.
    fn settle(&self, now_ms: u64) -> Option<Step> {
        let case = &self.case;
        let kind = case.kind();
        // What began in this pass is finished before anything else.
        for effect in [Effect::Reassert, Effect::Shred] {
            let needed =
                case.items.values().any(|item| item.waits_for_shred(kind)) && !self.ended(Effect::Shred);
            if (needed || case.own(effect).is_some()) && !self.ended(effect) {
                return self.begin(effect);
            }
        }
        if case.state == State::Shredding {
            if let Some(step) = self.next_own_look(now_ms) {
                return Some(step);
            }
            if self.own_looks_open() {
                return None;
            }
        }
        let unwritten = case.items.values().any(|item| item.waits_for_deletions(kind));
        let begun = case.own(Effect::Deletions).is_some();
        if (unwritten || begun) && !self.ended(Effect::Deletions) {
            return self.begin(Effect::Deletions);
        }
        match self.made(Effect::Certify) {
            Some(certificate) => Some(Receipted { certificate, pass: case.pass }.into()),
            None => self.begin(Effect::Certify),
        }
    }

    /// Looks at the log's own items after the shred.
    fn next_own_look(&self, now_ms: u64) -> Option<Step> {
        self.next_item(now_ms, usize::MAX, |name| self.is_shredded(name))
    }

    fn own_looks_open(&self) -> bool {
        self.case.effects.values().any(|effect| {
            let of = |task: &Task| matches!(task, Task::Item(name) if self.is_shredded(name));
            effect.is_open() && of(&effect.task)
        })
    }

    fn is_shredded(&self, name: &ItemName) -> bool {
        self.case.own(Effect::Shred).is_some_and(|shred| shred.covers.contains(name))
    }

    fn close(&self) -> Option<Step> {
        let open: Vec<OpenItem> = self.case.open_items();
        // While something is open the request's sealed record is still needed.
        if open.is_empty() || self.case.kind().is_reading() {
            if let Some(step) = self.begin(Effect::Destroy) {
                return Some(step);
            }
            if !self.ended(Effect::Destroy) {
                return None;
            }
        }
        Some(Closed { outcome: self.case.outcome(), open }.into())
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
