//! One item of a plan on its way: what was done, what was seen, what stands against it.
//!
//! An item counts as done only by what a second look found, by a basis, or by a person who attests it. Whether it is done
//! is computed here and nowhere stored.

use std::collections::BTreeSet;

use crate::event::{Basis, Effect, Finding, Residual};
use crate::id::{Code, Digest, HoldName};
use crate::plan::{Kind, Method, Operation, PlanItem};

/// How often an item is done again because something is still there, before a person must look.
pub const ROUNDS_MAX: u32 = 8;

/// How far an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is to be done.
    Act,
    /// It is to be looked at.
    Probe,
    /// It is to be looked at again, after the system's lag.
    ProbeAgain,
    /// What remains out of reach is to be asked for.
    Residual,
    /// Nothing is left to do.
    Done,
}

/// An item of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// As planned.
    pub plan: PlanItem,
    /// The round, from 1.
    pub round: u32,
    /// How far it is.
    pub stage: Stage,
    /// How many objects were erased, corrected, restricted or read.
    pub done: u64,
    /// When the last effect ended; milliseconds since 1970.
    pub changed_ms: u64,
    /// When it was last seen to be as it should; milliseconds since 1970.
    pub verified_ms: Option<u64>,
    /// What remains out of reach.
    pub residuals: Vec<Residual>,
    /// Hash of what shows the last effect.
    pub evidence: Option<Digest>,
    /// Why it is not erased.
    pub exempt: Option<Basis>,
    /// The holds on it.
    pub holds: BTreeSet<HoldName>,
    /// How often the item came under a hold or out of it, and up to which of these its system was told.
    pub hold_changes: u32,
    /// See there.
    pub hold_told: u32,
    /// Whether a person attests it.
    pub attested: bool,
    /// Why it will not succeed by itself.
    pub dead: Option<Code>,
    /// Whether its DATA_DELETION leaves are written.
    pub logged: bool,
    /// What turned up later and was erased on arrival.
    pub stragglers: u64,
}

/// How an item stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has not begun.
    Planned,
    /// It is on its way.
    Working,
    /// It was done; nobody has looked again yet.
    Confirmed,
    /// It is gone, and was looked for.
    VerifiedAbsent,
    /// It is as asked for, and was looked at (rectification, restriction, objection).
    VerifiedDone,
    /// There was nothing, and it was looked for.
    NotFound,
    /// It was read.
    Collected,
    /// It stays, with a basis.
    Exempt(Basis),
    /// A hold keeps it.
    Held(HoldName),
    /// A person must look.
    Dead(Code),
    /// A person must do it.
    ManualPending,
    /// A person attests it.
    ManualAttested,
}

impl Status {
    /// Returns the name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Planned => "PLANNED",
            Self::Working => "WORKING",
            Self::Confirmed => "CONFIRMED",
            Self::VerifiedAbsent => "VERIFIED_ABSENT",
            Self::VerifiedDone => "VERIFIED_DONE",
            Self::NotFound => "NOT_FOUND",
            Self::Collected => "COLLECTED",
            Self::Exempt(_) => "EXEMPT",
            Self::Held(_) => "HELD",
            Self::Dead(_) => "DEAD",
            Self::ManualPending => "MANUAL_PENDING",
            Self::ManualAttested => "MANUAL_ATTESTED",
        }
    }

    /// Returns why, if there is more to say than the name.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Exempt(basis) => Some(basis.name().to_owned()),
            Self::Held(hold) => Some(hold.to_string()),
            Self::Dead(reason) => Some(reason.to_string()),
            _ => None,
        }
    }

    /// Tells whether nothing is missing.
    pub fn is_settled(&self) -> bool {
        matches!(
            self,
            Self::VerifiedAbsent
                | Self::VerifiedDone
                | Self::NotFound
                | Self::Collected
                | Self::Exempt(_)
                | Self::ManualAttested
        )
    }
}

impl Basis {
    /// Returns the article.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expression => "17(3)(a)",
            Self::LegalObligation => "17(3)(b)",
            Self::PublicHealth => "17(3)(c)",
            Self::Archiving => "17(3)(d)",
            Self::LegalClaims => "17(3)(e)",
            Self::RightsOfOthers => "15(4)",
        }
    }
}

impl Item {
    pub(crate) fn new(kind: Kind, plan: PlanItem) -> Self {
        // Where a look found nothing, one looks once more instead of erasing nothing.
        let only_looks = plan.count == 0 && !kind.is_reading();
        Self {
            plan,
            round: 1,
            stage: if only_looks { Stage::Probe } else { Stage::Act },
            done: 0,
            changed_ms: 0,
            verified_ms: None,
            residuals: Vec::new(),
            evidence: None,
            exempt: None,
            holds: BTreeSet::new(),
            hold_changes: 0,
            hold_told: 0,
            attested: false,
            dead: None,
            logged: false,
            stragglers: 0,
        }
    }

    /// Returns how the item stands.
    pub fn status(&self, kind: Kind) -> Status {
        if self.stage == Stage::Done {
            return match kind {
                Kind::Access | Kind::Portability => Status::Collected,
                Kind::Erasure if self.done == 0 && self.plan.count == 0 => Status::NotFound,
                Kind::Erasure => Status::VerifiedAbsent,
                _ => Status::VerifiedDone,
            };
        }
        if self.attested {
            return Status::ManualAttested;
        }
        if let Some(basis) = self.exempt {
            return Status::Exempt(basis);
        }
        if let Some(hold) = self.holds.first() {
            return Status::Held(hold.clone());
        }
        if let Some(reason) = &self.dead {
            return Status::Dead(reason.clone());
        }
        match (self.plan.method, self.stage) {
            (Method::Manual, _) => Status::ManualPending,
            (_, Stage::Act) if self.round == 1 && self.changed_ms == 0 => Status::Planned,
            (_, Stage::Act) => Status::Working,
            _ => Status::Confirmed,
        }
    }

    /// Tells whether a shred must take this item's leaves.
    pub fn waits_for_shred(&self, kind: Kind) -> bool {
        let own = self.plan.method == Method::OwnLog && kind == Kind::Erasure && self.stage == Stage::Act;
        own && !self.status(kind).is_settled() && self.holds.is_empty()
    }

    /// Tells whether DATA_DELETION leaves are due: it ended, had something, and has none yet.
    pub fn waits_for_deletions(&self, kind: Kind) -> bool {
        let status = self.status(kind);
        kind == Kind::Erasure && !self.logged && status.is_settled() && status != Status::NotFound
    }

    /// Returns the effect that comes next by itself; `None` if there is none, or it is not time yet.
    pub(crate) fn next_effect(&self, kind: Kind, now_ms: u64) -> Option<Effect> {
        if let Some(operation) = self.protection(kind) {
            return Some(Effect::Act(operation));
        }
        let status = self.status(kind);
        let waits = matches!(status, Status::Held(_) | Status::Dead(_) | Status::ManualPending);
        if status.is_settled() || waits {
            return None;
        }
        match self.stage {
            Stage::Act if self.plan.method == Method::OwnLog && kind == Kind::Erasure => None,
            Stage::Act => Some(Effect::Act(kind.operation())),
            Stage::Probe => Some(Effect::Act(Operation::Probe)),
            Stage::ProbeAgain => (now_ms >= self.look_again_ms()).then_some(Effect::ProbeAgain),
            Stage::Residual => Some(Effect::Act(Operation::Residual)),
            Stage::Done => None,
        }
    }

    /// Returns what the item's system must be told about holds before anything else, if it can keep one.
    fn protection(&self, kind: Kind) -> Option<Operation> {
        let tells = self.plan.can_hold && self.plan.method == Method::Connector && kind == Kind::Erasure;
        if !tells || self.hold_told == self.hold_changes || self.stage == Stage::Done || self.dead.is_some() {
            return None;
        }
        // What was set and released before the system was told is nothing to tell.
        match (self.holds.is_empty(), self.hold_told) {
            (false, _) => Some(Operation::Hold),
            (true, 0) => None,
            (true, _) => Some(Operation::Release),
        }
    }

    /// Takes a hold on or off the item.
    pub(crate) fn set_hold(&mut self, hold: &HoldName, on: bool) {
        let was = self.holds.is_empty();
        if on {
            self.holds.insert(hold.clone());
        } else {
            self.holds.remove(hold);
        }
        if was != self.holds.is_empty() {
            self.hold_changes = self.hold_changes.saturating_add(1);
        }
    }

    /// Returns the round that an effect has now: each change of holds is told once.
    pub(crate) fn round_of(&self, effect: Effect) -> u32 {
        match effect {
            Effect::Act(Operation::Hold | Operation::Release) => self.hold_changes,
            _ => self.round,
        }
    }

    /// Returns when the second look is due; milliseconds since 1970.
    pub(crate) fn look_again_ms(&self) -> u64 {
        self.changed_ms.saturating_add(self.plan.lag_ms)
    }

    /// Takes the end of an effect; `false` if the finding is none that the effect can have.
    pub(crate) fn end(
        &mut self,
        kind: Kind,
        effect: Effect,
        round: u32,
        finding: &Finding,
        at_ms: u64,
    ) -> bool {
        match (effect, finding) {
            (Effect::Act(Operation::Read), Finding::Count(count)) => {
                self.done = *count;
                self.stage = Stage::Done;
                self.verified_ms = Some(at_ms);
            }
            (Effect::Act(Operation::Probe) | Effect::ProbeAgain, Finding::Count(0)) => {
                self.verified_ms = Some(at_ms);
                let again = effect != Effect::ProbeAgain && self.plan.lag_ms > 0;
                self.stage = match kind {
                    _ if again => Stage::ProbeAgain,
                    Kind::Erasure if self.plan.method == Method::Connector => Stage::Residual,
                    _ => Stage::Done,
                };
            }
            (Effect::Act(Operation::Probe) | Effect::ProbeAgain, Finding::Count(_)) => {
                self.verified_ms = None;
                self.again(Stage::Act);
            }
            (Effect::Act(Operation::Hold | Operation::Release), Finding::Count(_)) => {
                self.hold_told = round;
                return true;
            }
            (Effect::Act(Operation::Residual), Finding::Residuals(residuals)) => {
                self.residuals.clone_from(residuals);
                self.stage = Stage::Done;
            }
            (Effect::Act(operation), Finding::Count(count)) if operation.changes() => {
                self.done = self.done.saturating_add(*count);
                self.stage = Stage::Probe;
            }
            _ => return false,
        }
        self.changed_ms = at_ms;
        true
    }

    /// Begins another round.
    pub(crate) fn again(&mut self, stage: Stage) {
        self.round = self.round.saturating_add(1);
        self.stage = stage;
        self.dead = None;
        if self.round > ROUNDS_MAX {
            self.dead = Some(Code::parse("still-there").expect("a name"));
        }
    }
}
