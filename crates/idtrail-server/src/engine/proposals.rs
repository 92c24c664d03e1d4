//! What one person proposed about identities and a second one has to approve, where the installation asks for that.
//!
//! Proposals are in memory: they say nothing yet, and one that a restart forgets is made again. At most 100 wait, each for
//! a day.
//!
//! What it must never do: let the person who proposed approve.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use data_encoding::HEXLOWER;
use idtrail_event::{Dedupe, DedupeKind};
use idtrail_index::statement::Statement;
use serde_json::Value;

const WAITING_MAX: usize = 100;
const DAY_MS: u64 = 86_400_000;

/// A proposal.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Names it: `p-` and 32 hex digits.
    pub id: String,
    /// What is to be stated.
    pub statement: Statement,
    /// The id by which a repetition is recognised.
    pub dedupe: Dedupe<'static>,
    /// The person who proposed it.
    pub by: String,
    /// What it would have done then.
    pub effect: Value,
    /// Until when it waits, milliseconds since 1970.
    pub expires_ms: u64,
}

impl Proposal {
    /// Returns the statement as it is approved by somebody.
    pub fn approved(&self, approver: &str) -> Statement {
        let mut statement = self.statement.clone();
        match &mut statement {
            Statement::Assertion(assertion) => assertion.approver = Some(approver.to_owned()),
            Statement::Ruleset(change) => change.approver = Some(approver.to_owned()),
            Statement::Reassert(_) => {}
        }
        statement
    }
}

/// Why a proposal is not approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unapproved {
    /// There is none, or it waited too long.
    Unknown,
    /// The person proposed it.
    SamePerson,
}

/// The proposals that wait.
#[derive(Debug)]
pub struct Proposals {
    needed: bool,
    waiting: Mutex<BTreeMap<String, Proposal>>,
}

impl Proposals {
    /// Returns none; `needed` says whether statements need a second person.
    pub fn new(needed: bool) -> Self {
        Self { needed, waiting: Mutex::default() }
    }

    /// Tells whether statements need a second person.
    pub fn needed(&self) -> bool {
        self.needed
    }

    /// Keeps a proposal under a fresh id. `None` if too many wait.
    pub fn keep(
        &self,
        statement: Statement,
        dedupe: Dedupe<'static>,
        by: &str,
        effect: Value,
        now_ms: u64,
        id: [u8; 16],
    ) -> Option<Proposal> {
        let mut waiting = self.lock(now_ms);
        if waiting.len() >= WAITING_MAX {
            return None;
        }
        let proposal = Proposal {
            id: format!("p-{}", HEXLOWER.encode(&id)),
            statement,
            dedupe,
            by: by.to_owned(),
            effect,
            expires_ms: now_ms + DAY_MS,
        };
        waiting.insert(proposal.id.clone(), proposal.clone());
        Some(proposal)
    }

    /// Returns all that wait, oldest first.
    pub fn all(&self, now_ms: u64) -> Vec<Proposal> {
        let mut all: Vec<Proposal> = self.lock(now_ms).values().cloned().collect();
        all.sort_by_key(|proposal| proposal.expires_ms);
        all
    }

    /// Returns the one that came under an id of its sender's.
    pub fn by_id(&self, dedupe: &Dedupe<'_>, now_ms: u64) -> Option<Proposal> {
        if dedupe.kind == DedupeKind::CONTENT {
            return None;
        }
        self.lock(now_ms).values().find(|proposal| proposal.dedupe == *dedupe).cloned()
    }

    /// Takes one out that a person approves.
    ///
    /// # Errors
    /// [`Unapproved`].
    pub fn take(&self, id: &str, approver: &str, now_ms: u64) -> Result<Proposal, Unapproved> {
        let mut waiting = self.lock(now_ms);
        let proposal = waiting.get(id).ok_or(Unapproved::Unknown)?;
        if proposal.by == approver {
            return Err(Unapproved::SamePerson);
        }
        waiting.remove(id).ok_or(Unapproved::Unknown)
    }

    /// Locks what waits, without what waited too long.
    fn lock(&self, now_ms: u64) -> MutexGuard<'_, BTreeMap<String, Proposal>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, proposal| proposal.expires_ms > now_ms);
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_person_approves_within_a_day() {
        let proposals = Proposals::new(true);
        let keep = |number: u8, at_ms| {
            let statement = Statement::Reassert(Vec::new());
            proposals.keep(statement, Dedupe::CONTENT, "p_one", Value::Null, at_ms, [number; 16])
        };
        let kept = keep(1, 0).unwrap();
        assert_eq!(proposals.take(&kept.id, "p_one", 1).unwrap_err(), Unapproved::SamePerson);
        assert_eq!(proposals.take("p-0", "p_two", 1).unwrap_err(), Unapproved::Unknown);
        assert_eq!(proposals.take(&kept.id, "p_two", 1).unwrap().by, "p_one");
        assert_eq!(proposals.take(&kept.id, "p_two", 1).unwrap_err(), Unapproved::Unknown);
        let late = keep(2, 0).unwrap();
        assert_eq!(proposals.take(&late.id, "p_two", DAY_MS).unwrap_err(), Unapproved::Unknown);
        assert!((0..=100).map(|number| keep(number, 5)).any(|kept| kept.is_none()), "100 wait at most");
    }
}
