//! What persons and master systems state about identities, and how it is taken back.
//!
//! An assertion puts a mark on identifiers (an edge that counts as proof, two sides that must stay apart, a state); the
//! solver reads the marks. Revoking takes the mark away, and the region is solved again: nothing else has to be
//! undone, because customers follow from evidence and marks alone.

use std::collections::BTreeSet;

use idtrail_event::GlobalCustomerId;

use crate::arena::NONE;
use crate::commit::Step;
use crate::error::IdentityError;
use crate::event::{Derived, SplitCause, Trigger};
use crate::model::{Actor, Home, IdSource, Identifier, IdentifierState, ObservationId, Recorded};
use crate::ruleset::Class;
use crate::store::{State, edge_flag, id_flag, node_flag, observation_flag, seconds};

/// Whom an assertion is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A customer, by any of its ids.
    Customer(GlobalCustomerId),
    /// An identifier.
    Identifier(Identifier),
}

/// What is asserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssertionKind {
    /// Both are the same person.
    Same(Subject, Subject),
    /// Nobody on the left is anybody on the right.
    NotSame(Vec<Subject>, Vec<Subject>),
    /// The identifier names nobody.
    Block(Identifier),
    /// The identifier belongs to several people.
    MarkShared(Identifier),
    /// The identifier passed from one customer to another.
    Transfer {
        /// The identifier.
        identifier: Identifier,
        /// Whose it was.
        from: Subject,
        /// Whose it is.
        to: Subject,
        /// From when on, milliseconds since 1970.
        at_ms: u64,
    },
    /// The source takes an observation back.
    Withdraw(ObservationId),
    /// The customer must not merge with another for now.
    Hold(GlobalCustomerId),
    /// An earlier assertion, named by the number of its leaf, no longer holds.
    Revoke(u64),
}

/// An assertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// What is asserted.
    pub kind: AssertionKind,
    /// By whom.
    pub actor: Actor,
    /// Why; goes into the event and is not kept in the state.
    pub reason: String,
    /// Who approved it, if somebody had to; goes into the event and is not kept in the state.
    pub approver: Option<String>,
}

/// What an assertion led to.
#[derive(Clone, Debug, PartialEq)]
pub struct AssertionDecision {
    /// The number of the assertion's leaf, by which it can be revoked. It never changes, whatever is erased before it.
    pub number: u64,
    /// The events: STEWARD_ASSERTION first.
    pub events: Vec<Derived>,
    /// The global ids that were given.
    pub given: Vec<(Home, GlobalCustomerId)>,
    /// How many identifiers had to be looked at again.
    pub recomputed: usize,
}

/// An assertion as the state keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AssertionRecord {
    pub(crate) mark: Mark,
    pub(crate) actor: Actor,
    pub(crate) index: u64,
    pub(crate) revoked: bool,
}

/// The mark that an assertion puts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Same(u32, u32),
    Apart(Vec<u32>, Vec<u32>),
    Block(u32),
    Shared(u32),
    Transfer { node: u32, from: u32, to: u32, at_s: u32 },
    Withdraw(u32),
    Hold { number: u32, nodes: Vec<u32> },
    Revoke(u32),
}

impl AssertionRecord {
    /// Puts one identifier in the place of another that united with it.
    pub(crate) fn replace(&mut self, other: u32, node: u32) {
        let put = |slot: &mut u32| {
            if *slot == other {
                *slot = node;
            }
        };
        match &mut self.mark {
            Mark::Same(a, b) => {
                [&mut *a, &mut *b].into_iter().for_each(put);
                (*a, *b) = ((*a).min(*b), (*a).max(*b));
            }
            Mark::Apart(left, right) => left.iter_mut().chain(right).for_each(put),
            Mark::Block(at) | Mark::Shared(at) => put(at),
            Mark::Transfer { node, from, to, .. } => [node, from, to].into_iter().for_each(put),
            Mark::Hold { nodes, .. } => nodes.iter_mut().for_each(put),
            Mark::Withdraw(_) | Mark::Revoke(_) => {}
        }
    }
}

impl AssertionKind {
    /// Returns the name in events.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Same(..) => "SAME",
            Self::NotSame(..) => "NOT_SAME",
            Self::Block(_) => "BLOCK",
            Self::MarkShared(_) => "MARK_SHARED",
            Self::Transfer { .. } => "TRANSFER",
            Self::Withdraw(_) => "WITHDRAW",
            Self::Hold(_) => "HOLD",
            Self::Revoke(_) => "REVOKE",
        }
    }

    fn subjects(&self) -> Vec<String> {
        let identifier = |id: &Identifier| id.token.to_string();
        let subject = |subject: &Subject| match subject {
            Subject::Customer(gcid) => gcid.to_string(),
            Subject::Identifier(id) => identifier(id),
        };
        match self {
            Self::Same(a, b) => vec![subject(a), subject(b)],
            Self::NotSame(left, right) => left.iter().chain(right).map(subject).collect(),
            Self::Block(id) | Self::MarkShared(id) => vec![identifier(id)],
            Self::Transfer { identifier: id, from, to, .. } => {
                vec![identifier(id), subject(from), subject(to)]
            }
            Self::Withdraw(observation) => vec![observation.to_string()],
            Self::Hold(gcid) => vec![gcid.to_string()],
            Self::Revoke(_) => Vec::new(),
        }
    }
}

/// How many identifiers each side of a NOT_SAME may have.
const SIDE_MAX: usize = 5_000;

impl State {
    /// Takes an assertion over.
    ///
    /// # Errors
    /// [`IdentityError::NotKnown`], [`IdentityError::Erased`], [`IdentityError::Contradicts`] or
    /// [`IdentityError::Assertion`]; then nothing was changed.
    pub fn assert(
        &mut self,
        assertion: &Assertion,
        at: Recorded,
        ids: &mut dyn IdSource,
    ) -> Result<AssertionDecision, IdentityError> {
        let mark = self.mark_of(&assertion.kind)?;
        let number = self.assertions.len() as u32;
        let mut step = Step::new(at, ids);
        step.trigger = if assertion.actor == Actor::Source { Trigger::Source } else { Trigger::Steward };
        step.cause = match mark {
            Mark::Withdraw(_) | Mark::Revoke(_) => SplitCause::Evidence,
            Mark::Shared(_) | Mark::Block(_) => SplitCause::Shared,
            Mark::Transfer { .. } => SplitCause::Recycled,
            _ => SplitCause::Steward,
        };
        let revokes = match assertion.kind {
            AssertionKind::Revoke(number) => Some(number),
            _ => None,
        };
        let index = at.index.get();
        step.events.push(Derived::Assertion {
            number: index,
            kind: assertion.kind.name(),
            subjects: assertion.kind.subjects(),
            actor: assertion.actor,
            reason: assertion.reason.clone(),
            approver: assertion.approver.clone(),
            revokes,
        });
        self.assertions.push(AssertionRecord {
            mark: mark.clone(),
            actor: assertion.actor,
            index,
            revoked: false,
        });
        let seeds = self.put(&mark, number, assertion.actor);
        self.recompute(&seeds, &mut step);
        let Step { events, given, recomputed, .. } = step;
        Ok(AssertionDecision { number: index, events, given, recomputed })
    }

    /// Finds an identifier that is in use.
    pub(crate) fn known_node(&self, identifier: &Identifier) -> Result<u32, IdentityError> {
        let node = self
            .find_node(identifier.kind.number(), identifier.token.as_bytes())
            .ok_or(IdentityError::NotKnown { what: "identifier" })?;
        if self.nodes.at(node).state == IdentifierState::Retired {
            return Err(IdentityError::Erased { what: "identifier" });
        }
        Ok(node)
    }

    /// Finds a global id that is in use.
    pub(crate) fn known_id(&self, gcid: &GlobalCustomerId) -> Result<u32, IdentityError> {
        let id = self.find_id(gcid).ok_or(IdentityError::NotKnown { what: "customer" })?;
        if self.ids.at(id).flags & id_flag::ERASED != 0 {
            return Err(IdentityError::Erased { what: "customer" });
        }
        Ok(id)
    }

    /// Returns the identifiers that a subject stands for: all of a customer, one of an alias.
    fn subject_nodes(&self, subject: &Subject) -> Result<Vec<u32>, IdentityError> {
        match subject {
            Subject::Identifier(identifier) => Ok(vec![self.known_node(identifier)?]),
            Subject::Customer(gcid) => {
                let id = self.known_id(gcid)?;
                let record = self.ids.at(id);
                if record.flags & id_flag::INTERACTION != 0 {
                    return Err(IdentityError::Assertion { reason: "the id stands for an interaction only" });
                }
                if self.nodes.at(record.home).cluster == id {
                    return Ok(self.members_of(id).collect());
                }
                // An alias, or a shared identifier: what its home says.
                Ok(vec![record.home])
            }
        }
    }

    /// Returns the identifier that carries an assertion about a subject: the strongest one of the customer, so that a
    /// statement about a person does not hang on a number.
    fn carrier(&self, subject: &Subject) -> Result<u32, IdentityError> {
        let nodes = self.subject_nodes(subject)?;
        let node = self.anchor(&nodes);
        let cluster = self.nodes.at(node).cluster;
        let lift = nodes.len() == 1
            && cluster != NONE
            && self.class(node) < Class::Strong
            && self.ids.at(cluster).flags & id_flag::CORE != 0;
        if lift {
            let members: Vec<u32> = self.members_of(cluster).collect();
            return Ok(self.anchor(&members));
        }
        Ok(node)
    }

    /// Checks what is asserted and returns the mark for it.
    pub(crate) fn mark_of(&self, kind: &AssertionKind) -> Result<Mark, IdentityError> {
        let refused = |reason| Err(IdentityError::Assertion { reason });
        match kind {
            AssertionKind::Same(a, b) => {
                let (mut left, mut right) = (self.carrier(a)?, self.carrier(b)?);
                if left == right {
                    (left, right) =
                        (self.anchor(&self.subject_nodes(a)?), self.anchor(&self.subject_nodes(b)?));
                }
                if left == right {
                    return refused("both subjects are the same");
                }
                if let Some(assertion) = self.apart_assertion(left, right) {
                    return Err(IdentityError::Contradicts { assertion: self.assertion_id(assertion) });
                }
                if [left, right].iter().any(|&node| self.class(node) == Class::Corroborating) {
                    return refused("an identifier that only corroborates cannot carry it");
                }
                Ok(Mark::Same(left.min(right), left.max(right)))
            }
            AssertionKind::NotSame(left, right) => {
                let side = |subjects: &[Subject]| -> Result<Vec<u32>, IdentityError> {
                    let mut nodes = BTreeSet::new();
                    for subject in subjects {
                        nodes.extend(self.subject_nodes(subject)?);
                    }
                    Ok(nodes.into_iter().collect())
                };
                let (left, right) = (side(left)?, side(right)?);
                if left.is_empty() || right.is_empty() {
                    return refused("each side needs at least one subject");
                }
                if left.iter().any(|node| right.contains(node)) {
                    return refused("an identifier stands on both sides");
                }
                if left.len() > SIDE_MAX || right.len() > SIDE_MAX {
                    return refused("too many identifiers on one side");
                }
                for record in &self.assertions {
                    if let (Mark::Same(a, b), false) = (&record.mark, record.revoked)
                        && (left.contains(a) && right.contains(b) || left.contains(b) && right.contains(a))
                    {
                        return Err(IdentityError::Contradicts { assertion: record.index });
                    }
                }
                Ok(Mark::Apart(left, right))
            }
            AssertionKind::Block(identifier) => Ok(Mark::Block(self.known_node(identifier)?)),
            AssertionKind::MarkShared(identifier) => Ok(Mark::Shared(self.known_node(identifier)?)),
            AssertionKind::Transfer { identifier, from, to, at_ms } => {
                let node = self.known_node(identifier)?;
                if self.class(node) != Class::Weak {
                    return refused("only weak identifiers pass from one owner to another");
                }
                let other = |subject: &Subject| -> Result<u32, IdentityError> {
                    let nodes: Vec<u32> =
                        self.subject_nodes(subject)?.into_iter().filter(|&there| there != node).collect();
                    if nodes.is_empty() {
                        return Err(IdentityError::Assertion { reason: "an owner needs another identifier" });
                    }
                    Ok(self.anchor(&nodes))
                };
                let (from, to) = (other(from)?, other(to)?);
                if from == to {
                    return refused("both owners are the same");
                }
                Ok(Mark::Transfer { node, from, to, at_s: seconds(*at_ms) })
            }
            AssertionKind::Withdraw(id) => {
                let number =
                    self.find_observation(id).ok_or(IdentityError::NotKnown { what: "observation" })?;
                let flags = self.observations.at(number).flags;
                if flags & observation_flag::ERASED != 0 {
                    return Err(IdentityError::Erased { what: "observation" });
                }
                if flags & observation_flag::WITHDRAWN != 0 {
                    return refused("the observation is withdrawn already");
                }
                Ok(Mark::Withdraw(number))
            }
            AssertionKind::Hold(gcid) => {
                let id = self.canonical(self.known_id(gcid)?);
                let nodes: Vec<u32> = self.members_of(id).collect();
                if nodes.is_empty() {
                    return refused("the customer has no identifiers");
                }
                Ok(Mark::Hold { number: self.holds_given, nodes })
            }
            AssertionKind::Revoke(index) => match self.assertion_at(*index) {
                None => Err(IdentityError::NotKnown { what: "assertion" }),
                Some((_, record)) if record.revoked => refused("the assertion is revoked already"),
                Some((_, AssertionRecord { mark: Mark::Revoke(_), .. })) => {
                    refused("a revocation cannot be revoked")
                }
                Some((number, _)) => Ok(Mark::Revoke(number)),
            },
        }
    }

    /// Returns the number of the leaf of an assertion.
    pub(crate) fn assertion_id(&self, number: u32) -> u64 {
        self.assertions.get(number as usize).map_or(u64::MAX, |record| record.index)
    }

    /// Finds an assertion by the number of its leaf. Of what this system says itself only holds can be revoked: the last one
    /// that an event led to and that is in force.
    fn assertion_at(&self, index: u64) -> Option<(u32, &AssertionRecord)> {
        let first = self.assertions.partition_point(|record| record.index < index);
        let here = self.assertions.iter().enumerate().skip(first).take_while(|(_, one)| one.index == index);
        let theirs =
            here.filter(|(_, one)| one.actor != Actor::System || matches!(one.mark, Mark::Hold { .. }));
        theirs.max_by_key(|(at, one)| (!one.revoked, *at)).map(|(number, one)| (number as u32, one))
    }

    /// Returns a NOT_SAME in force that has both identifiers on opposite sides.
    fn apart_assertion(&self, a: u32, b: u32) -> Option<u32> {
        let (left, right) = (self.apart.get(&a)?, self.apart.get(&b)?);
        left.iter().find(|(number, side)| right.contains(&(*number, !side))).map(|(number, _)| *number)
    }

    /// Puts a mark and returns the identifiers whose region must be solved again.
    pub(crate) fn put(&mut self, mark: &Mark, number: u32, actor: Actor) -> Vec<u32> {
        match mark {
            Mark::Same(a, b) => {
                let flag = if actor == Actor::Source { edge_flag::SOURCE } else { edge_flag::STEWARD };
                let (edge, _) = self.edge_of(*a, *b);
                self.edges.at_mut(edge).flags |= flag;
                vec![*a, *b]
            }
            Mark::Apart(left, right) => {
                for (nodes, side) in [(left, false), (right, true)] {
                    for &node in nodes {
                        let sides = self.apart.entry(node).or_default();
                        sides.push((number, side));
                        sides.sort_unstable();
                    }
                }
                left.iter().chain(right).copied().collect()
            }
            Mark::Block(node) => {
                self.nodes.at_mut(*node).flags |= node_flag::BANNED;
                vec![*node]
            }
            Mark::Shared(node) => {
                self.nodes.at_mut(*node).flags |= node_flag::MARKED;
                vec![*node]
            }
            Mark::Transfer { node, from, to, at_s } => {
                for owner in [from, to] {
                    let (edge, _) = self.edge_of(*node, *owner);
                    self.edges.at_mut(edge).flags |= edge_flag::TRANSFER;
                }
                let transfers = self.transfers.entry(*node).or_default();
                transfers.push((*at_s, *from, *to));
                transfers.sort_unstable();
                vec![*node, *from, *to]
            }
            Mark::Withdraw(observation) => {
                self.observations.at_mut(*observation).flags |= observation_flag::WITHDRAWN;
                self.recount_observation(*observation)
            }
            Mark::Hold { number, nodes } => {
                // After a simulated revocation the hold returns under its own number.
                let given = self.holds_given;
                self.holds_given = *number;
                self.add_hold(nodes);
                self.holds_given = given.max(*number + 1);
                nodes.clone()
            }
            Mark::Revoke(number) => {
                let Some(record) = self.assertions.get_mut(*number as usize) else { return Vec::new() };
                record.revoked = true;
                let (mark, actor) = (record.mark.clone(), record.actor);
                self.lift(&mark, *number, actor)
            }
        }
    }

    /// Takes a mark away, unless another assertion puts the same, and returns the identifiers to solve again.
    pub(crate) fn lift(&mut self, mark: &Mark, number: u32, actor: Actor) -> Vec<u32> {
        let again = self.assertions.iter().enumerate().any(|(at, record)| {
            at != number as usize && !record.revoked && record.mark == *mark && record.actor == actor
        });
        match mark {
            Mark::Same(a, b) => {
                let flag = if actor == Actor::Source { edge_flag::SOURCE } else { edge_flag::STEWARD };
                let edge = self.find_edge(*a, *b).filter(|_| !again);
                if let Some(edge) = edge {
                    self.edges.at_mut(edge).flags &= !flag;
                }
                vec![*a, *b]
            }
            Mark::Apart(left, right) => {
                for node in left.iter().chain(right) {
                    if let Some(sides) = self.apart.get_mut(node) {
                        sides.retain(|(other, _)| *other != number);
                        if sides.is_empty() {
                            self.apart.remove(node);
                        }
                    }
                }
                left.iter().chain(right).copied().collect()
            }
            Mark::Block(node) | Mark::Shared(node) => {
                let flag = if matches!(mark, Mark::Block(_)) { node_flag::BANNED } else { node_flag::MARKED };
                let still = self
                    .assertions
                    .iter()
                    .enumerate()
                    .any(|(at, record)| at != number as usize && !record.revoked && record.mark == *mark);
                if !still {
                    self.nodes.at_mut(*node).flags &= !flag;
                }
                vec![*node]
            }
            Mark::Transfer { node, from, to, at_s } => {
                if let Some(transfers) = self.transfers.get_mut(node) {
                    if let Some(at) = transfers.iter().position(|known| known == &(*at_s, *from, *to)) {
                        transfers.remove(at);
                    }
                    if transfers.is_empty() {
                        self.transfers.remove(node);
                    }
                }
                for owner in [*from, *to] {
                    let left = self.transfers.get(node).into_iter().flatten();
                    let named = left.copied().any(|(_, from, to)| owner == from || owner == to);
                    if let (Some(edge), false) = (self.find_edge(*node, owner), named) {
                        self.edges.at_mut(edge).flags &= !edge_flag::TRANSFER;
                    }
                }
                vec![*node, *from, *to]
            }
            Mark::Withdraw(observation) => {
                self.observations.at_mut(*observation).flags &= !observation_flag::WITHDRAWN;
                self.recount_observation(*observation)
            }
            Mark::Hold { number, nodes } => {
                self.lift_hold(*number);
                nodes.clone()
            }
            Mark::Revoke(number) => {
                let Some(record) = self.assertions.get_mut(*number as usize) else { return Vec::new() };
                record.revoked = false;
                let (mark, actor) = (record.mark.clone(), record.actor);
                self.put(&mark, *number, actor)
            }
        }
    }

    /// Ends a hold.
    pub(crate) fn lift_hold(&mut self, number: u32) {
        self.holds.remove(&number);
        self.held.retain(|_, holds| {
            holds.remove(&number);
            !holds.is_empty()
        });
    }

    /// Counts again what an observation touched, after it began or ceased to count.
    fn recount_observation(&mut self, observation: u32) -> Vec<u32> {
        let mut nodes: Vec<u32> = self.incidences_of(observation).map(|seen| seen.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        for (at, &left) in nodes.iter().enumerate() {
            self.recount_first(left);
            for &right in nodes.get(at + 1..).unwrap_or_default() {
                if let Some(edge) = self.find_edge(left, right) {
                    self.recount(edge);
                }
            }
        }
        nodes
    }

    /// Counts again when an identifier was first seen.
    pub(crate) fn recount_first(&mut self, node: u32) {
        let first = self
            .posts_of(node)
            .map(|at| self.incidences.at(at).observation)
            .filter(|&observation| self.is_live(observation))
            .map(|observation| seconds(self.observations.at(observation).time_ms))
            .min();
        self.nodes.at_mut(node).first_s = first.unwrap_or(u32::MAX);
    }

    /// Counts again how often, and when, two identifiers were seen together.
    pub(crate) fn recount(&mut self, edge: u32) {
        let [a, b] = self.edges.at(edge).ends;
        let (mut support, mut first_s, mut last_s, mut best) = (0_u32, u32::MAX, 0_u32, 0_u8);
        for observation in self.common_observations(a, b) {
            let sure = |node: u32| {
                let all = self.incidences_of(observation).filter(|seen| seen.node == node);
                all.map(|seen| seen.assurance).max().unwrap_or(0)
            };
            let Some(assurance) = self.link_assurance((a, sure(a)), (b, sure(b))) else { continue };
            let time_s = seconds(self.observations.at(observation).time_ms);
            support += 1;
            first_s = first_s.min(time_s);
            last_s = last_s.max(time_s);
            best = best.max(assurance);
        }
        if let Some(kept) = self.kept.get(&edge) {
            support = support.saturating_add(kept.support);
            (first_s, last_s) = (first_s.min(kept.first_s), last_s.max(kept.last_s));
            best = best.max(kept.assurance);
        }
        let record = self.edges.at_mut(edge);
        (record.support, record.first_s, record.last_s, record.assurance) = (support, first_s, last_s, best);
    }
}
