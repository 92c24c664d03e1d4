//! What comes back from calls, and the step that it becomes: an outcome, another attempt, or that a person must look.
//!
//! What is not known to be undone is looked at before it is done again; an answer that fits to nothing counts as not known.

use super::{Answer, Engine, Flight};
use crate::case::EffectState;
use crate::command::Refusal;
use crate::event::{Accepted, Dead, Effect, Failure, Finding, Outcome, Retry, Step, Task};
use crate::id::{Code, Digest};
use crate::settings::Settings;

impl Engine {
    /// Returns the step that the next answer becomes, or the end of a call's time.
    pub(super) fn next_answer(&mut self, now_ms: u64, settings: &Settings) -> Result<Option<Step>, Refusal> {
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

    pub(super) fn answered(
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
    pub(super) fn fits(&self, effect: Effect, finding: &Finding) -> bool {
        let followable = match finding {
            Finding::Plan(plan) => plan.check().is_ok() && plan.kind == self.case.kind(),
            _ => true,
        };
        followable && effect.can_find(finding)
    }

    pub(super) fn failed(
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
}
