//! Before a person's leaves are destroyed: what they alone said about others is said again, in leaves of its own.
//!
//! A number that two people use is shared because both were seen with it. When one of them is erased, the fold of the leaves
//! that are left would give the number, and calls that may have been the other person's, to the one who remains. So these
//! facts are stated before. Leaves of an earlier erasure that name the person as well go with the person's own; what else
//! they say is among the new facts.
//!
//! What it must never do: write anything of the person into such a leaf.

use std::sync::mpsc::sync_channel;

use idtrail_event::{Dedupe, DedupeKind};
use idtrail_identity::IdentityError;
use idtrail_identity::erase::Reassertion;
use idtrail_index::statement::reassertions;
use idtrail_index::trail::{Command, Refusal};
use idtrail_log::commit::Answer;
use idtrail_log::{LogError, Reference};
use idtrail_rights::{Digest, Kind, RequestId};
use idtrail_tlog::TreeSize;

use super::record::{Found, Whom};
use super::{LOG_PATIENCE, Shared, Trouble, person};
use crate::engine::Engine;

impl Shared {
    /// States what has to be said again about others. Returns once it is durable and known to the index.
    pub(super) fn reassert(&self, request: &RequestId, effect: Digest) -> Result<(), Trouble> {
        let (_, record) = self.person(request)?;
        let mut facts = self.facts_of_others(&record.whom)?;
        let named = !said_again(&self.engine, &record.whom).is_empty();
        if (named || !facts.is_empty()) && self.is_anyone_parked() {
            // What is said again must not name those whose keys are about to go, and they may be what it rests on.
            self.release_parked();
            facts = self.facts_of_others(&record.whom)?;
        }
        for (part, statement) in reassertions(facts).into_iter().enumerate() {
            let id = format!("{effect}/{part}");
            let id = Dedupe::text(DedupeKind::SYSTEM, &id).into_owned();
            let command = Command::state(self.engine.hasher(), statement, None, id);
            let (sender, receiver) = sync_channel(1);
            self.engine.log().submit(command, Box::new(move |outcome| drop(sender.send(outcome))))?;
            match receiver.recv_timeout(LOG_PATIENCE).map_err(|_| LogError::Stopped)?? {
                Answer::Appended { first, .. } => {
                    if !self.engine.log().applied().wait(TreeSize::new(first.get() + 1), LOG_PATIENCE) {
                        return Err(Trouble::Behind);
                    }
                }
                // They were stated before; what was found since then came too late for this request.
                Answer::Existing(_)
                | Answer::Refused(Refusal::Earlier(_) | Refusal::Conflict(_) | Refusal::ErasedConflict) => {}
                Answer::Refused(Refusal::Erased) => return Err(Trouble::Refused),
                Answer::Refused(Refusal::Unavailable) => return Err(Trouble::Behind),
            }
        }
        Ok(())
    }

    fn facts_of_others(&self, whom: &[Whom]) -> Result<Vec<Reassertion>, Trouble> {
        let now_ms = self.engine.now_ms();
        for subject in whom.iter().filter_map(person::subject) {
            match self.engine.identity().facts_of_others(&subject, now_ms) {
                Ok(found) => return Ok(found),
                // Then nothing rests on the person.
                Err(IdentityError::NotKnown { .. } | IdentityError::Erased { .. }) => {}
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "facts about others are not found"
                    );
                    return Err(Trouble::Refused);
                }
            }
        }
        Ok(Vec::new())
    }
}

/// Returns the leaves in which facts were said again that name the person.
pub(super) fn said_again(engine: &Engine, whom: &[Whom]) -> Vec<Reference> {
    let numbers = whom.iter().filter_map(person::subject).flat_map(|one| engine.identity().said_again(&one));
    numbers.map(|number| engine.numbering().place(number)).collect()
}

/// Finds what is a person's. An erasure also takes the leaves in which facts were said again that name the person.
pub(super) fn find(engine: &Engine, whom: &[Whom], kind: Kind) -> Result<Found, Trouble> {
    let mut found = person::find(engine, whom)?;
    if kind == Kind::Erasure {
        let places = said_again(engine, whom).into_iter();
        found.leaves.extend(places.map(|place| (place.origin.0, place.index.get())));
        found.leaves.sort_unstable();
        found.leaves.dedup();
    }
    Ok(found)
}
