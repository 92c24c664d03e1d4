//! What was decided about one question, on a slip that whoever asked keeps.
//!
//! The answer to a new decision needs five of its words. They stand in the leaf too, but to read them there the leaf has to
//! be fetched and opened right after it was sealed, which costs as much as storing it did. The slip is written by the
//! sequencer before the leaf is handed on, and may be read once the log says that the leaf is durable, not before: until
//! then the decision may be lost with the power.

use std::sync::{Arc, OnceLock};

use idtrail_event::GlobalCustomerId;
use idtrail_identity::{Outcome, RuleId, Tier};

use crate::identity::Decided;

/// What was decided, in the words of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The customer, or an id for the interaction alone.
    pub gcid: GlobalCustomerId,
    /// What became of the question.
    pub outcome: Outcome,
    /// How sure it is.
    pub tier: Tier,
    /// The rule that it rests on, if a customer was named.
    pub rule: Option<RuleId>,
    /// How many customers were possible; `None` if there was nothing to go by.
    pub candidates: Option<u32>,
}

/// Where a decision is written, once.
#[derive(Clone, Debug, Default)]
pub struct Slip(Arc<OnceLock<Resolved>>);

impl Slip {
    /// Returns what was decided. Nothing if the question was a repetition, or was refused.
    pub fn read(&self) -> Option<Resolved> {
        self.0.get().copied()
    }

    pub(crate) fn write(&self, decided: &Decided) {
        let resolved = match &decided.decision {
            None => Resolved {
                gcid: decided.subject,
                outcome: Outcome::Anonymous,
                tier: Tier::Ambiguous,
                rule: None,
                candidates: None,
            },
            Some(decision) => Resolved {
                gcid: decided.subject,
                outcome: decision.outcome,
                tier: decision.tier,
                rule: decision.rule,
                candidates: Some(decision.candidates),
            },
        };
        // One sequencer decides a question once.
        let _ = self.0.set(resolved);
    }
}
