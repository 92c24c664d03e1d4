//! What each step changes in a case.
//!
//! The state has moved already when a step is taken; what is refused here leaves the case as it was.

use std::collections::BTreeMap;

use super::{Case, EffectState, Shred};
use crate::clock::Pause;
use crate::error::RightsError;
use crate::event::{Effect, Entry, Finding, Intent, Step, Task};
use crate::id::{Digest, ItemName, Principal};
use crate::item::{Item, Stage};
use crate::state::{Trigger, next};

impl Case {
    /// Moves on if as many people as must have approved.
    pub(super) fn count_approvals(&mut self, at_ms: u64) {
        let needed = self.plan.as_ref().map_or(u8::MAX, |(_, _, needed)| *needed);
        if self.approvals.len() >= usize::from(needed) {
            self.state = next(self.state, Trigger::Enough).unwrap_or(self.state);
            self.approved_ms = at_ms;
        }
    }

    pub(super) fn item(&mut self, name: &ItemName) -> Result<&mut Item, RightsError> {
        self.items.get_mut(name).ok_or(RightsError::NoItem)
    }

    pub(super) fn take(&mut self, entry: &Entry) -> Result<(), RightsError> {
        let at_ms = entry.at_ms;
        let name = entry.step.name();
        match &entry.step {
            Step::Received(_) => {
                return Err(RightsError::Transition { state: self.state.name(), step: name });
            }
            Step::Acknowledged(step) => self.clock.acknowledged_on = Some(step.on),
            Step::Attached(_) => self.attached += 1,
            Step::Challenged(_) | Step::Expired(_) => {}
            Step::Verified(step) => self.level = self.level.max(step.level),
            Step::Failed(_) => self.failures += 1,
            Step::Paused(step) => {
                let (reason, evidence) = (step.reason.clone(), step.evidence);
                self.clock.pauses.push(Pause { from: step.on, to: None, reason, evidence });
            }
            Step::Resumed(step) => {
                let open = self.clock.pauses.last_mut().filter(|pause| pause.to.is_none());
                open.ok_or(RightsError::Transition { state: self.state.name(), step: name })?.to =
                    Some(step.on);
            }
            Step::Extended(step) => self.clock.extended_on = Some(step.on),
            Step::Alarm(step) => {
                self.alarms.insert((step.date, step.due, step.days));
            }
            Step::Planned(step) => {
                step.plan.check()?;
                if step.plan.hash() != step.plan_hash || step.plan.kind != self.kind() {
                    return Err(RightsError::Plan);
                }
                let kind = self.kind();
                let items = step.plan.items.iter().cloned();
                self.items = items.map(|item| (item.item.clone(), Item::new(kind, item))).collect();
                self.plan = Some((step.plan.clone(), step.plan_hash, step.approvals));
                self.keep_held();
                self.count_approvals(at_ms);
            }
            Step::PlanInvalidated(step) => {
                self.is_plan(step.plan_hash)?;
                (self.plan, self.items) = (None, BTreeMap::new());
                self.approvals.clear();
                self.plans_dropped += 1;
            }
            Step::Approved(step) => {
                self.is_plan(step.plan_hash)?;
                self.approve(&step.by, at_ms, name)?;
            }
            Step::ApprovedAgain(step) => {
                self.is_plan(step.plan_hash)?;
                self.approve(&step.by, at_ms, name)?;
            }
            Step::HoldSet(step) => {
                for item in &step.items {
                    self.item(item)?;
                }
                self.holds.insert(step.hold.clone(), step.items.clone());
                self.keep_held();
            }
            Step::HoldReleased(step) => {
                self.holds.remove(&step.hold).ok_or(RightsError::NoItem)?;
                for item in self.items.values_mut() {
                    item.set_hold(&step.hold, false);
                }
            }
            Step::Exempted(step) => self.item(&step.item)?.exempt = Some(step.basis),
            Step::Frozen(step) => self.frozen = Some((step.cutoff_ms, step.tree_size)),
            Step::Intent(step) => self.begin(step, at_ms)?,
            Step::Retry(step) => {
                let effect = self.open_effect(step.effect_id, name)?;
                effect.attempts = step.attempt;
                effect.retry_at_ms = step.retry_at_ms;
            }
            Step::Accepted(step) => {
                self.open_effect(step.effect_id, name)?.accepted =
                    Some((step.remote.clone(), step.poll_at_ms));
            }
            Step::Outcome(step) => {
                let effect = self.open_effect(step.effect_id, name)?;
                effect.outcome = Some(step.result.clone());
                let ended = effect.clone();
                self.end(&ended, step.evidence, at_ms, name)?;
            }
            Step::Dead(step) => {
                let effect = self.open_effect(step.effect_id, name)?;
                effect.dead = true;
                let Task::Item(item) = effect.task.clone() else {
                    return Err(RightsError::Effect { step: name });
                };
                self.item(&item)?.dead = Some(step.reason.clone());
            }
            Step::Attested(step) => {
                let item = self.item(&step.item)?;
                (item.attested, item.done) = (true, step.count);
                (item.evidence, item.changed_ms) = (Some(step.evidence), at_ms);
            }
            Step::Reopened(step) => {
                let reading = self.kind().is_reading();
                let item = self.item(&step.item)?;
                let round = item.round;
                item.again(if reading { Stage::Act } else { Stage::Probe });
                // A person asked for it, so the bound on rounds begins anew.
                (item.dead, item.round) = (None, round.saturating_add(1));
            }
            Step::Reviewed(step) => self.delivery.reviewed = Some(step.count),
            Step::PackageBuilt(step) => self.delivery.package = Some(step.package),
            Step::Delivered(step) => {
                self.delivery.link = Some((step.expires_at_ms, step.fetches_max));
                self.answered(at_ms);
            }
            Step::Fetched(step) => self.delivery.fetches = step.count,
            Step::LinkExpired(_) => {}
            Step::Receipted(step) => {
                self.certificates.push(step.certificate);
                self.answered(at_ms);
            }
            Step::Closed(step) => {
                if step.outcome != self.outcome() || step.open != self.open_items() {
                    return Err(RightsError::Outcome);
                }
            }
            Step::Denied(step) => {
                self.denied = Some(step.reason.clone());
                self.answered(at_ms);
            }
            Step::Withdrawn(_) => self.answered(at_ms),
            Step::Straggler(step) => self.item(&step.item)?.stragglers += step.count,
        }
        Ok(())
    }

    pub(super) fn answered(&mut self, at_ms: u64) {
        self.answered_ms = self.answered_ms.or(Some(at_ms));
    }

    pub(super) fn is_plan(&self, hash: Digest) -> Result<(), RightsError> {
        let same = self.plan.as_ref().is_some_and(|(_, planned, _)| *planned == hash);
        if same { Ok(()) } else { Err(RightsError::Plan) }
    }

    pub(super) fn approve(
        &mut self,
        by: &Principal,
        at_ms: u64,
        step: &'static str,
    ) -> Result<(), RightsError> {
        if self.approvals.contains(by) {
            return Err(RightsError::Transition { state: self.state.name(), step });
        }
        self.approvals.push(by.clone());
        self.count_approvals(at_ms);
        Ok(())
    }

    pub(super) fn keep_held(&mut self) {
        for (hold, items) in &self.holds {
            for name in items {
                if let Some(item) = self.items.get_mut(name) {
                    item.set_hold(hold, true);
                }
            }
        }
    }

    pub(super) fn open_effect(
        &mut self,
        id: Digest,
        step: &'static str,
    ) -> Result<&mut EffectState, RightsError> {
        self.effects.get_mut(&id).filter(|effect| effect.is_open()).ok_or(RightsError::Effect { step })
    }

    pub(super) fn begin(&mut self, step: &Intent, at_ms: u64) -> Result<(), RightsError> {
        const STEP: &str = "TASK_INTENT";
        let wrong = Err(RightsError::Effect { step: STEP });
        if self.effect_id(&step.task, step.effect, step.round) != step.effect_id {
            return wrong;
        }
        let kind = self.kind();
        let covers = match &step.task {
            Task::Item(name) => {
                let due_ms = u64::MAX;
                let item = self.items.get(name).ok_or(RightsError::NoItem)?;
                if item.next_effect(kind, due_ms) != Some(step.effect)
                    || item.round_of(step.effect) != step.round
                {
                    return wrong;
                }
                Vec::new()
            }
            Task::Request => {
                if step.round != self.request_round(step.effect) {
                    return wrong;
                }
                let takes = |item: &&Item| match step.effect {
                    Effect::Shred => item.waits_for_shred(kind),
                    Effect::Deletions => item.waits_for_deletions(kind),
                    _ => false,
                };
                self.items.values().filter(takes).map(|item| item.plan.item.clone()).collect()
            }
        };
        let state = EffectState {
            task: step.task.clone(),
            effect: step.effect,
            round: step.round,
            attempts: 0,
            retry_at_ms: at_ms,
            accepted: None,
            dead: false,
            outcome: None,
            covers,
        };
        if self.effects.insert(step.effect_id, state).is_some() {
            return wrong;
        }
        Ok(())
    }

    pub(super) fn end(
        &mut self,
        ended: &EffectState,
        evidence: Option<Digest>,
        at_ms: u64,
        step: &'static str,
    ) -> Result<(), RightsError> {
        let wrong = Err(RightsError::Effect { step });
        let Some(finding) = &ended.outcome else { return wrong };
        let kind = self.kind();
        match (&ended.task, ended.effect, finding) {
            (Task::Item(name), effect, finding) => {
                let item = self.item(name)?;
                item.evidence = evidence.or(item.evidence);
                if !item.end(kind, effect, ended.round, finding, at_ms) {
                    return wrong;
                }
            }
            (
                Task::Request,
                Effect::Shred,
                Finding::Shredded { epoch, leaves, at_ms: shred_ms, unrecoverable_by_ms, index },
            ) => {
                self.shreds.push(Shred {
                    epoch: *epoch,
                    leaves: *leaves,
                    at_ms: *shred_ms,
                    unrecoverable_by_ms: *unrecoverable_by_ms,
                    index: *index,
                });
                for name in &ended.covers {
                    let item = self.item(name)?;
                    (item.stage, item.changed_ms) = (Stage::Probe, at_ms);
                    item.done = item.plan.count;
                }
            }
            (Task::Request, Effect::Deletions, Finding::Made(_)) => {
                for name in &ended.covers {
                    self.item(name)?.logged = true;
                }
            }
            (Task::Request, effect, finding) if effect.can_find(finding) => {}
            _ => return wrong,
        }
        Ok(())
    }
}
