//! The state machine of the trail: is this a repetition, who is the customer, what is the leaf.
//!
//! The identity decision is one function, [`Trail::decide_customer`]: a client's customer id that is new gets a fresh
//! random global id; one that was seen keeps its own; none gets a fresh one. It is never computed from the client's id.
//!
//! What the log holds is asked of the index; what was decided since stands in memory until the index knows it. If the
//! index cannot answer, nothing is decided: a guess could give one event two places.

use std::sync::Arc;

use idtrail_event::{EventId, GlobalCustomerId};
use idtrail_log::machine::{Decision, Machine, Moment, Planned};
use idtrail_log::{OriginOrdinal, Reference};
use idtrail_port::{Entropy, RandomPool};
use idtrail_tlog::LogIndex;
use idtrail_vault::{Suppressed, Suppression};

use crate::IndexError;
use crate::ahead::Ahead;
use crate::command::{Body, Keys, What};
pub use crate::command::{Command, Draft};
use crate::facts::{EventFacts, Facts, Key, ShredStep};
use crate::lookup::{Head, Lookup, Seen};

/// Why nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The same event stands in an earlier log of the installation: this is its receipt's place, and stays it.
    Earlier(Reference),
    /// The same id was used before with another content, at this place.
    Conflict(Reference),
    /// The same event was there before and has been erased; it is not taken again.
    Erased,
    /// The same id was used before with another content, by an event that has been erased.
    ErasedConflict,
    /// The index cannot answer, so that nobody can tell whether the event is a repetition.
    Unavailable,
}

/// The trail's state. Includes decisions that are not durable yet.
pub struct Trail {
    random: RandomPool,
    lookup: Lookup,
    suppression: Suppression,
    ahead: Ahead,
    ordinal: OriginOrdinal,
    /// The indices of earlier logs, which are final, newest first.
    earlier: Vec<(OriginOrdinal, Lookup)>,
}

impl std::fmt::Debug for Trail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trail").field("ahead", &self.ahead.len()).finish_non_exhaustive()
    }
}

impl Trail {
    /// Returns the state of a log whose leaves the index has all read.
    pub fn new(entropy: Arc<dyn Entropy>, lookup: Lookup, suppression: Suppression) -> Self {
        Self {
            random: RandomPool::new(entropy),
            lookup,
            suppression,
            ahead: Ahead::default(),
            ordinal: OriginOrdinal(0),
            earlier: Vec::new(),
        }
    }

    /// Says that the log continues earlier ones, oldest first, whose events are no less this trail's.
    #[must_use]
    pub fn continuing(mut self, ordinal: OriginOrdinal, earlier: Vec<(OriginOrdinal, Lookup)>) -> Self {
        self.ordinal = ordinal;
        self.earlier = earlier;
        self.earlier.reverse();
        self
    }

    /// Returns the customer of a client's own customer id.
    ///
    /// # Errors
    /// As [`Lookup::customer`].
    pub fn customer(&self, key: &Key) -> Result<Option<GlobalCustomerId>, IndexError> {
        if let Some(subject) = self.ahead.customer(key) {
            return Ok(Some(subject));
        }
        for lookup in std::iter::once(&self.lookup).chain(self.earlier.iter().map(|(_, lookup)| lookup)) {
            if let Some(subject) = lookup.customer(key)? {
                return Ok(Some(subject));
            }
        }
        Ok(None)
    }

    fn seen(&self, keys: &Keys) -> Result<Option<(OriginOrdinal, Seen)>, IndexError> {
        if let Some(seen) = self.ahead.seen(&keys.dedupe) {
            return Ok(Some((self.ordinal, seen)));
        }
        let own = (self.ordinal, &self.lookup);
        let earlier = self.earlier.iter().map(|(ordinal, lookup)| (*ordinal, lookup));
        for (ordinal, lookup) in std::iter::once(own).chain(earlier) {
            if let Some(seen) = lookup.seen(&keys.dedupe, &keys.content, keys.content_is_id)? {
                return Ok(Some((ordinal, seen)));
            }
        }
        Ok(None)
    }

    /// Decides who the customer of an event is, and returns the newest event of that customer.
    fn decide_customer(
        &mut self,
        customer: Option<&Key>,
    ) -> Result<(GlobalCustomerId, Option<Head>), IndexError> {
        let known = match customer {
            Some(key) => self.customer(key)?,
            None => None,
        };
        let Some(subject) = known else { return Ok((GlobalCustomerId::new(self.random.take()), None)) };
        let head = match self.ahead.head(subject) {
            Some(head) => Some(head),
            None => self.lookup.head(subject)?,
        };
        Ok((subject, head))
    }

    fn decide_event(&mut self, body: Body, keys: Keys, at: Moment) -> Result<TrailDecision, IndexError> {
        if let Some((origin, seen)) = self.seen(&keys)? {
            let place = Reference { origin, index: LogIndex::new(seen.index) };
            return Ok(if seen.content != keys.content {
                Decision::Refuse(Refusal::Conflict(place))
            } else if origin == self.ordinal {
                Decision::Existing(place.index)
            } else {
                Decision::Refuse(Refusal::Earlier(place))
            });
        }
        match self.suppression.find(keys.dedupe.as_bytes(), keys.content.as_bytes(), at.received_ms) {
            Some(Suppressed::Same) => return Ok(Decision::Refuse(Refusal::Erased)),
            Some(Suppressed::Other) => return Ok(Decision::Refuse(Refusal::ErasedConflict)),
            None => {}
        }
        let (subject, head) = self.decide_customer(keys.customer.as_ref())?;
        let event = EventFacts {
            subject,
            subject_sequence: head.map_or(0, |head| head.sequence + 1),
            customer: keys.customer,
            interaction: keys.interaction,
            dedupe: keys.dedupe,
            content: keys.content,
            content_is_id: keys.content_is_id,
        };
        self.ahead.push(at.next.get(), &event);
        let place = (event.subject_sequence, head.map(|head| head.index));
        let draft = body.draft(at.received_ms, EventId::new(self.random.take()), Some(subject), place);
        let facts = Facts { received_ms: at.received_ms, event: Some(event), step: None };
        Ok(Decision::Append(vec![Planned { draft, facts }]))
    }

    fn own(&mut self, leaves: Vec<(Body, Option<ShredStep>)>, received_ms: u64) -> TrailDecision {
        let leaf = |(body, step): (Body, Option<ShredStep>)| Planned {
            draft: body.draft(received_ms, EventId::new(self.random.take()), None, (0, None)),
            facts: Facts { received_ms, event: None, step },
        };
        Decision::Append(leaves.into_iter().map(leaf).collect())
    }
}

type TrailDecision = Decision<Draft, Facts, Refusal>;

impl Machine for Trail {
    type Command = Command;
    type Draft = Draft;
    type Facts = Facts;
    type Refusal = Refusal;

    fn decide(&mut self, Command(what): Command, at: Moment) -> TrailDecision {
        self.ahead.catch_up(self.lookup.applied().get());
        match what {
            What::Event(event) => {
                let (body, keys) = *event;
                self.decide_event(body, keys, at).unwrap_or_else(|error| {
                    tracing::error!(error = &error as &dyn std::error::Error, "the index cannot answer");
                    Decision::Refuse(Refusal::Unavailable)
                })
            }
            What::Own(leaves) => self.own(leaves, at.received_ms),
        }
    }

    fn bytes_max(command: &Command) -> usize {
        command.leaf_bytes_max()
    }
}
