//! A request, folded from its own steps.
//!
//! Steps in, state out; nothing else changes a case, so the one that is rebuilt from the log is the one that was live. The
//! fold refuses what cannot be: a step out of order, a move that the table does not have, a second outcome of an effect, a
//! closing that claims more than the tasks add up to. It does not judge whether a step was wise; [`crate::Engine`] does.

mod fold;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;

use crate::clock::ClockState;
use crate::error::RightsError;
use crate::event::{
    DateName, Effect, Entry, Finding, Intent, Level, OpenItem, Outcomes, Received, Step, Task,
};
use crate::id::{Code, Digest, HoldName, ItemName, Principal, RequestId};
use crate::item::{Item, Stage, Status};
use crate::plan::{Kind, Method, Operation, Plan};
use crate::state::{State, Trigger, next};

/// How an effect stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectState {
    /// What it is part of.
    pub task: Task,
    /// What it does.
    pub effect: Effect,
    /// The round, from 1.
    pub round: u32,
    /// Attempts that did not succeed.
    pub attempts: u32,
    /// Not before; milliseconds since 1970.
    pub retry_at_ms: u64,
    /// The system's id of its work, and when to ask, if it took the effect on.
    pub accepted: Option<(Code, u64)>,
    /// Whether a person must look.
    pub dead: bool,
    /// How it ended.
    pub outcome: Option<Finding>,
    /// The items that it is about, if it is one of the request itself: fixed when it begins.
    pub covers: Vec<ItemName>,
}

impl EffectState {
    /// Tells whether it has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.outcome.is_none() && !self.dead
    }
}

/// The package of a request for data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Hash of the package.
    pub package: Option<Digest>,
    /// Whether a person looked through it, and how many places were redacted.
    pub reviewed: Option<u64>,
    /// When its link ends, and how often it may be fetched.
    pub link: Option<(u64, u32)>,
    /// How often it was fetched.
    pub fetches: u32,
}

/// A destruction of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shred {
    /// Epoch of the vault without the keys.
    pub epoch: u64,
    /// Leaves that were readable before.
    pub leaves: u64,
    /// When; milliseconds since 1970.
    pub at_ms: u64,
    /// From then on nothing can bring them back; milliseconds since 1970.
    pub unrecoverable_by_ms: u64,
    /// Index of the KEY_SHREDDED leaf.
    pub index: u64,
}

/// A request and all that has happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its id.
    pub request: RequestId,
    /// How it came in.
    pub received: Received,
    /// When its first step was taken; milliseconds since 1970.
    pub received_ms: u64,
    /// Steps so far; the number of the next one.
    pub steps: u64,
    /// Its state.
    pub state: State,
    /// Its clock.
    pub clock: ClockState,
    /// What the requester has shown.
    pub level: Level,
    /// How often they failed to.
    pub failures: u32,
    /// The plan, its hash, and how many must approve it.
    pub plan: Option<(Plan, Digest, u8)>,
    /// Plans that were given up.
    pub plans_dropped: u32,
    /// Who has approved the plan.
    pub approvals: Vec<Principal>,
    /// When the last of them did; milliseconds since 1970.
    pub approved_ms: u64,
    /// Holds, and what they keep.
    pub holds: BTreeMap<HoldName, Vec<ItemName>>,
    /// The items of the plan.
    pub items: BTreeMap<ItemName, Item>,
    /// All effects that have begun.
    pub effects: BTreeMap<Digest, EffectState>,
    /// The cut-off, and the size of the log then.
    pub frozen: Option<(u64, u64)>,
    /// How often tasks were driven to an answer: 1, and one more for each reopening.
    pub pass: u32,
    /// When the last pass began; milliseconds since 1970.
    pub pass_ms: u64,
    /// Keys that were destroyed.
    pub shreds: Vec<Shred>,
    /// Hashes of its certificates.
    pub certificates: Vec<Digest>,
    /// The package.
    pub delivery: Delivery,
    /// Alarms that were given.
    pub alarms: BTreeSet<(DateName, Date, i32)>,
    /// Other requests for the same.
    pub attached: u32,
    /// When it was answered first; milliseconds since 1970.
    pub answered_ms: Option<u64>,
    /// Why it was denied.
    pub denied: Option<Code>,
}

impl Case {
    /// Opens a case with its first step.
    ///
    /// # Errors
    /// [`RightsError::Sequence`], [`RightsError::Transition`] if it is not a first one.
    pub fn open(entry: &Entry) -> Result<Self, RightsError> {
        let Step::Received(received) = &entry.step else {
            return Err(RightsError::Transition { state: "none", step: entry.step.name() });
        };
        if entry.sequence != 0 {
            return Err(RightsError::Sequence { expected: 0, found: entry.sequence });
        }
        // Where nobody has to be verified, nobody is asked.
        let known = received.verification == Level::None;
        Ok(Self {
            request: entry.request.clone(),
            received: received.clone(),
            received_ms: entry.at_ms,
            steps: 1,
            state: if known { State::Verified } else { State::Received },
            clock: ClockState::new(received.received_on),
            level: Level::None,
            failures: 0,
            plan: None,
            plans_dropped: 0,
            approvals: Vec::new(),
            approved_ms: 0,
            holds: BTreeMap::new(),
            items: BTreeMap::new(),
            effects: BTreeMap::new(),
            frozen: None,
            pass: 1,
            pass_ms: entry.at_ms,
            shreds: Vec::new(),
            certificates: Vec::new(),
            delivery: Delivery::default(),
            alarms: BTreeSet::new(),
            attached: 0,
            answered_ms: None,
            denied: None,
        })
    }

    /// Folds all steps of a request.
    ///
    /// # Errors
    /// [`RightsError`] of the first step that cannot be.
    pub fn fold<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Result<Self, RightsError> {
        let mut entries = entries.into_iter();
        let first = entries.next().ok_or(RightsError::Sequence { expected: 0, found: 0 })?;
        let mut case = Self::open(first)?;
        entries.try_for_each(|entry| case.apply(entry))?;
        Ok(case)
    }

    /// Returns what is asked for.
    pub fn kind(&self) -> Kind {
        self.received.kind
    }

    /// Applies the next step. On an error the case is as it was.
    ///
    /// # Errors
    /// [`RightsError`] if the step cannot be.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), RightsError> {
        if entry.request != self.request {
            return Err(RightsError::OtherRequest);
        }
        if entry.sequence != self.steps {
            return Err(RightsError::Sequence { expected: self.steps, found: entry.sequence });
        }
        let mut after = self.clone();
        let was = after.state;
        after.state = after.moved(&entry.step)?;
        if was == State::ClosedPartial && !after.state.is_closed() {
            after.pass += 1;
            after.pass_ms = entry.at_ms;
        }
        after.take(entry)?;
        after.steps += 1;
        *self = after;
        Ok(())
    }

    /// Returns the effect's id: the same whoever computes it, and another for every plan, task and round.
    pub fn effect_id(&self, task: &Task, effect: Effect, round: u32) -> Digest {
        let plan = self.plan.as_ref().map_or([0; 32], |(_, hash, _)| *hash.as_bytes());
        // What makes the plan cannot be bound to it.
        let plan = if effect == Effect::Discover { [0; 32] } else { plan };
        let what = serde_json::to_vec(&(task, effect)).expect("names have JSON");
        let parts: [&[u8]; 4] = [self.request.as_str().as_bytes(), &plan, &what, &round.to_be_bytes()];
        Digest::of("idtrail/rights/effect/v1", &parts)
    }

    /// Returns the round that an effect of the request itself has now.
    pub fn request_round(&self, effect: Effect) -> u32 {
        match effect {
            Effect::Discover | Effect::Freeze => self.plans_dropped + 1,
            _ => self.pass,
        }
    }

    /// Returns an effect of the request itself in its present round, if it has begun.
    pub fn own(&self, effect: Effect) -> Option<&EffectState> {
        self.effects.get(&self.effect_id(&Task::Request, effect, self.request_round(effect)))
    }

    /// Returns how an item stands.
    pub fn status(&self, item: &Item) -> Status {
        item.status(self.kind())
    }

    /// Returns what is missing and why, in the order of the items' names. Nothing is, if this is empty.
    pub fn open_items(&self) -> Vec<OpenItem> {
        let open = self.items.values().map(|item| (item, self.status(item)));
        open.filter(|(_, status)| !status.is_settled())
            .map(|(item, status)| OpenItem {
                item: item.plan.item.clone(),
                status: status.name().to_owned(),
                reason: status.reason(),
            })
            .collect()
    }

    /// Returns what the tasks add up to: everything is done only if there is a plan and each of its items ended well.
    pub fn outcome(&self) -> Outcomes {
        let done = self.plan.is_some() && self.open_items().is_empty();
        if done { Outcomes::Fulfilled } else { Outcomes::Partial }
    }

    /// Returns the state that is shown: while tasks run, what they wait for.
    pub fn shown_state(&self) -> State {
        match self.state {
            State::Executing => {
                let open = self.effects.values().filter(|effect| effect.is_open());
                let waits = self.items.values().any(|item| {
                    matches!(self.status(item), Status::ManualPending | Status::Dead(_) | Status::Held(_))
                });
                let accepted = open.clone().any(|effect| effect.accepted.is_some());
                let acts = self.items.values().any(|item| {
                    item.stage == Stage::Act
                        && item.plan.method != Method::OwnLog
                        && item.next_effect(self.kind(), u64::MAX).is_some()
                });
                match (acts && !accepted, accepted || (waits && open.count() == 0)) {
                    (true, _) => State::Executing,
                    (false, true) => State::WaitingExternal,
                    (false, false) => State::Verifying,
                }
            }
            State::Collecting if self.open_items().is_empty() => State::Review,
            state => state,
        }
    }

    fn moved(&self, step: &Step) -> Result<State, RightsError> {
        let trigger = match step {
            Step::Verified(step) if self.level.max(step.level) < self.received.verification => {
                Trigger::HalfVerified
            }
            Step::Intent(Intent { task: Task::Item(_), .. }) if self.kind().is_reading() => Trigger::Reading,
            Step::Intent(Intent { task: Task::Item(_), .. }) => Trigger::Began(None),
            Step::Intent(intent) => Trigger::Began(Some(intent.effect)),
            Step::Closed(closed) => Trigger::Closed(closed.outcome == Outcomes::Fulfilled),
            step => Trigger::Step(step.name()),
        };
        next(self.state, trigger)
            .ok_or(RightsError::Transition { state: self.state.name(), step: step.name() })
    }
}

impl Effect {
    /// Tells whether an effect can end with a finding.
    pub fn can_find(self, finding: &Finding) -> bool {
        match self {
            Self::Act(Operation::Residual) => matches!(finding, Finding::Residuals(_)),
            Self::Act(_) | Self::ProbeAgain => matches!(finding, Finding::Count(_)),
            Self::Discover => matches!(finding, Finding::Plan(_)),
            Self::Freeze => matches!(finding, Finding::Frozen { .. } | Finding::Changed),
            Self::Shred => matches!(finding, Finding::Shredded { .. }),
            Self::Deletions | Self::Certify | Self::Package => matches!(finding, Finding::Made(_)),
            Self::Reassert | Self::Destroy => matches!(finding, Finding::Done),
        }
    }
}

/// Returns the open case that a new request for the same attaches to.
pub fn duplicate_of<'a>(
    cases: impl IntoIterator<Item = &'a Case>,
    kind: Kind,
    duplicate_key: Digest,
) -> Option<&'a Case> {
    let same = |case: &&Case| case.kind() == kind && case.received.duplicate_key == duplicate_key;
    cases.into_iter().find(|case| same(case) && !case.state.is_closed())
}

/// Tells whether an erasure must wait: a request of the same person for their data is not answered yet, and would find
/// nothing afterwards; or nobody has fetched the copy, and the erasure would end its link.
pub fn waits_for_access<'a>(cases: impl IntoIterator<Item = &'a Case>, erasure: &Case) -> bool {
    let key = erasure.received.duplicate_key;
    let reads = |case: &&Case| case.kind().is_reading() && case.received.duplicate_key == key;
    erasure.kind() == Kind::Erasure
        && cases.into_iter().any(|case| reads(&case) && !case.state.is_closed() && is_wanted(case))
}

/// Tells whether the copy of a request that is open is still to be made or to be fetched for the first time.
fn is_wanted(case: &Case) -> bool {
    case.delivery.package.is_none() || (case.delivery.fetches == 0 && case.state != State::LinkExpired)
}
