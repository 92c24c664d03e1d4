//! The step that the request itself takes next: which effect begins, and what follows when the tasks have ended.
//!
//! The order is fixed: others' facts before keys, keys before leaves, leaves before the certificate, the record last.

use super::{Engine, is_busy};
use crate::case::EffectState;
use crate::command::Refusal;
use crate::event::{
    Closed, Delivered, Effect, Finding, Frozen, Intent, LinkExpired, OpenItem, PackageBuilt, PlanInvalidated,
    Planned, Receipted, Step, Task,
};
use crate::id::{Code, Digest, ItemName};
use crate::item::Status;
use crate::plan::Kind;
use crate::settings::Settings;
use crate::state::State;

impl Engine {
    /// Returns the step that the case itself takes next, if it is time for one.
    pub(super) fn next_step(&self, now_ms: u64, settings: &Settings) -> Result<Option<Step>, Refusal> {
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
    pub(super) fn begin(&self, effect: Effect) -> Option<Step> {
        let round = self.case.request_round(effect);
        let effect_id = self.case.effect_id(&Task::Request, effect, round);
        let begun = self.case.effects.contains_key(&effect_id);
        (!begun).then(|| Intent { effect_id, task: Task::Request, effect, round }.into())
    }

    pub(super) fn made(&self, effect: Effect) -> Option<Digest> {
        match self.case.own(effect)?.outcome.as_ref()? {
            Finding::Made(hash) => Some(*hash),
            _ => None,
        }
    }

    pub(super) fn ended(&self, effect: Effect) -> bool {
        self.case.own(effect).is_some_and(|effect| effect.outcome.is_some())
    }

    pub(super) fn freeze(&self, now_ms: u64, settings: &Settings) -> Option<Step> {
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

    pub(super) fn next_item(
        &self,
        now_ms: u64,
        calls_max: usize,
        takes: impl Fn(&ItemName) -> bool,
    ) -> Option<Step> {
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

    pub(super) fn drive(&self, now_ms: u64, settings: &Settings) -> Result<Option<Step>, Refusal> {
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
    pub(super) fn settle(&self, now_ms: u64) -> Option<Step> {
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
    pub(super) fn next_own_look(&self, now_ms: u64) -> Option<Step> {
        self.next_item(now_ms, usize::MAX, |name| self.is_shredded(name))
    }

    pub(super) fn own_looks_open(&self) -> bool {
        self.case.effects.values().any(|effect| {
            let of = |task: &Task| matches!(task, Task::Item(name) if self.is_shredded(name));
            effect.is_open() && of(&effect.task)
        })
    }

    pub(super) fn is_shredded(&self, name: &ItemName) -> bool {
        self.case.own(Effect::Shred).is_some_and(|shred| shred.covers.contains(name))
    }

    pub(super) fn close(&self) -> Option<Step> {
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
}
