//! Facts about those who remain after an erasure, said again under them.
//!
//! [`State::erase`] finds what rests on a person's evidence alone; here that is taken over from a leaf of its own, so that
//! a state which is folded from the readable leaves knows it too. The leaf stands in the log before the person's leaves are
//! destroyed, so the facts are there twice for a moment; that changes nobody's customer.
//!
//! What it must never do: hold anything of the person who was erased.

use std::collections::BTreeSet;

use idtrail_event::GlobalCustomerId;

use crate::arena::NONE;
use crate::assertion::{AssertionRecord, Mark, Subject};
use crate::commit::Step;
use crate::erase::Reassertion;
use crate::error::IdentityError;
use crate::event::{Derived, SplitCause, Trigger};
use crate::model::{
    Actor, Home, IdSource, Identifier, IdentifierState, ObservationId, Recorded, StateReason,
};
use crate::store::{Kept, Node, State, node_flag, observation_flag, seconds};

/// Identifiers on one side of a fact that keeps two sides apart; more become several facts.
const SIDE_MAX: usize = 64;

/// What taking facts over led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Reasserted {
    /// The events: STEWARD_ASSERTION of this system first.
    pub events: Vec<Derived>,
    /// The global ids that were given.
    pub given: Vec<(Home, GlobalCustomerId)>,
}

impl Reassertion {
    /// Returns the fact without anything of the named identifiers and observations; `None` if nothing is left of it.
    #[must_use]
    pub fn without(
        &self,
        identifiers: &dyn Fn(&Identifier) -> bool,
        observations: &dyn Fn(&ObservationId) -> bool,
    ) -> Option<Self> {
        let stays = |identifier: &Identifier| !identifiers(identifier);
        match self {
            Self::Shared(identifier) | Self::Contested(identifier) | Self::FirstSeen(identifier, _) => {
                stays(identifier).then(|| self.clone())
            }
            Self::Slices(identifier, times) => stays(identifier).then(|| {
                let owner = |(from, owner): &(u64, Option<Identifier>)| (*from, owner.filter(stays));
                Self::Slices(*identifier, times.iter().map(owner).collect())
            }),
            Self::Apart(left, right) => {
                let side = |side: &[Identifier]| side.iter().copied().filter(stays).collect::<Vec<_>>();
                let (left, right) = (side(left), side(right));
                (!left.is_empty() && !right.is_empty()).then_some(Self::Apart(left, right))
            }
            Self::Link { ends, .. } => ends.iter().all(stays).then(|| self.clone()),
            Self::Ambiguous(observation) | Self::Probable(observation) | Self::Severed(observation, _) => {
                (!observations(observation)).then(|| self.clone())
            }
        }
    }

    /// Returns the fact in parts that are each small enough for a leaf.
    pub fn in_parts(self) -> Vec<Self> {
        match self {
            Self::Apart(left, right) => left
                .chunks(SIDE_MAX)
                .flat_map(|left| {
                    right.chunks(SIDE_MAX).map(|right| Self::Apart(left.to_vec(), right.to_vec()))
                })
                .collect(),
            other => vec![other],
        }
    }
}

impl State {
    /// Returns the facts about others that rest on a person, and so have to be said again before the person's leaves are
    /// destroyed. Works on a copy of the whole state that it uses up.
    ///
    /// # Errors
    /// [`IdentityError::NotKnown`], [`IdentityError::Erased`].
    pub fn facts_of_others(
        mut self,
        subject: &Subject,
        at: Recorded,
    ) -> Result<Vec<Reassertion>, IdentityError> {
        let mut given = 0_u64;
        // Ids of a copy that is thrown away: any that nobody has will do.
        let mut ids = |_: Home| {
            given += 1;
            GlobalCustomerId::new((u128::MAX - u128::from(given)).to_be_bytes())
        };
        let erasure = self.erase(subject, at, &mut ids)?;
        Ok(erasure.reassertions.into_iter().flat_map(Reassertion::in_parts).collect())
    }

    /// Takes facts over that were said again. What they name and is not known is passed over.
    pub fn reassert(&mut self, facts: &[Reassertion], at: Recorded, ids: &mut dyn IdSource) -> Reasserted {
        let mut step = Step::new(at, ids);
        step.trigger = Trigger::Steward;
        step.cause = SplitCause::Erasure;
        step.events.push(Derived::Assertion {
            number: at.index.get(),
            kind: "REASSERT",
            subjects: Vec::new(),
            actor: Actor::System,
            reason: "erasure".to_owned(),
            approver: None,
            revokes: None,
        });
        // Each leaf has one number, whatever it says and whatever of that is still known.
        self.pass_assertion(at);
        let mut seeds = Vec::new();
        let mut severed = BTreeSet::new();
        for fact in facts {
            match fact {
                Reassertion::Severed(observation, places) => {
                    self.sever(observation, places, &mut severed, &mut seeds);
                }
                fact => self.take_fact(fact, at, &mut seeds),
            }
        }
        self.forget_severed(severed, &mut seeds);
        seeds.sort_unstable();
        seeds.dedup();
        if !seeds.is_empty() {
            self.recompute(&seeds, &mut step);
        }
        Reasserted { events: step.events, given: step.given }
    }

    /// Gives an assertion its number although it says nothing any more, because what it was about was erased: those behind
    /// it are revoked by theirs.
    pub fn pass_assertion(&mut self, at: Recorded) {
        let (mark, actor, index) = (Mark::Apart(Vec::new(), Vec::new()), Actor::System, at.index.get());
        self.assertions.push(AssertionRecord { mark, actor, index, revoked: true });
    }

    fn take_fact(&mut self, fact: &Reassertion, at: Recorded, seeds: &mut Vec<u32>) {
        match fact {
            Reassertion::Shared(identifier) => self.flag(identifier, node_flag::MARKED, seeds),
            Reassertion::Contested(identifier) => self.flag(identifier, node_flag::DOUBTED, seeds),
            Reassertion::FirstSeen(identifier, time_ms) => {
                let time_s = seconds(*time_ms);
                let Some(node) = self.usable_or_new(identifier, time_s) else { return };
                let record = self.nodes.at_mut(node);
                record.first_s = record.first_s.min(time_s);
                seeds.push(node);
            }
            Reassertion::Slices(identifier, times) => {
                let Some(node) = self.usable_or_new(identifier, u32::MAX) else { return };
                let owner = |owner: &Option<Identifier>| {
                    owner.as_ref().and_then(|owner| self.usable(owner)).unwrap_or(NONE)
                };
                let owners: Vec<(u32, u32)> =
                    times.iter().map(|(from_ms, who)| (seconds(*from_ms), owner(who))).collect();
                let mut pinned: Vec<(u32, u32, u32)> = owners
                    .windows(2)
                    .filter_map(|pair| match pair {
                        [(_, from), (at_s, to)] => Some((*at_s, *from, *to)),
                        _ => None,
                    })
                    .collect();
                pinned.sort_unstable();
                if !pinned.is_empty() {
                    self.transfers.insert(node, pinned);
                }
                seeds.push(node);
                seeds.extend(owners.into_iter().map(|(_, owner)| owner).filter(|&owner| owner != NONE));
            }
            Reassertion::Apart(left, right) => {
                let side = |side: &[Identifier]| -> Vec<u32> {
                    let mut nodes: Vec<u32> =
                        side.iter().filter_map(|identifier| self.usable(identifier)).collect();
                    nodes.sort_unstable();
                    nodes.dedup();
                    nodes
                };
                let (left, right) = (side(left), side(right));
                // Each has a number of its own, also if nothing is left of it: a number says who stands opposite whom.
                if left.is_empty() || right.is_empty() || left.iter().any(|node| right.contains(node)) {
                    return self.pass_assertion(at);
                }
                let mark = Mark::Apart(left, right);
                let number = self.assertions.len() as u32;
                let (actor, index) = (Actor::System, at.index.get());
                self.assertions.push(AssertionRecord { mark: mark.clone(), actor, index, revoked: false });
                seeds.extend(self.put(&mark, number, actor));
            }
            Reassertion::Link { ends: [a, b], support, seen_ms, assurance } => {
                let (first_s, last_s) = (seconds(seen_ms.0), seconds(seen_ms.1));
                let ends = (self.usable_or_new(a, first_s), self.usable_or_new(b, first_s));
                let (Some(a), Some(b)) = ends else { return };
                if a == b {
                    return;
                }
                let (edge, _) = self.edge_of(a, b);
                self.kept.insert(edge, Kept { support: *support, first_s, last_s, assurance: *assurance });
                self.recount(edge);
                seeds.extend([a, b]);
            }
            Reassertion::Ambiguous(observation) => self.doubt(observation, observation_flag::ORPHANED),
            Reassertion::Probable(observation) => self.doubt(observation, observation_flag::DOUBTED),
            // Taken by the caller, which forgets all of them together.
            Reassertion::Severed(..) => {}
        }
    }

    /// Takes what stands at some places out of an observation: nobody stands in its place. Gathers whose places they were.
    fn sever(
        &mut self,
        observation: &ObservationId,
        places: &[u16],
        severed: &mut BTreeSet<u32>,
        seeds: &mut Vec<u32>,
    ) {
        let Some(number) = self.find_observation(observation) else { return };
        let record = self.observations.at(number);
        let range = record.first..record.first + u32::from(record.count);
        let mut here: Vec<u32> = self.incidences_of(number).map(|seen| seen.node).collect();
        let mut lost = Vec::new();
        for at in range {
            let seen = self.incidences.at(at);
            let node = seen.node;
            if !places.contains(&seen.place) || self.nodes.at(node).state == IdentifierState::Retired {
                continue;
            }
            let kind = self.nodes.at(node).kind;
            let posts: Vec<u32> = self.posts_of(node).filter(|&post| post != at).collect();
            self.nodes.at_mut(node).posts = NONE;
            for &post in posts.iter().rev() {
                let next = std::mem::replace(&mut self.nodes.at_mut(node).posts, post);
                self.incidences.at_mut(post).next = next;
            }
            let nobody = self.add_nobody(kind);
            let incidence = self.incidences.at_mut(at);
            (incidence.node, incidence.next) = (nobody, NONE);
            lost.push(node);
        }
        here.sort_unstable();
        here.dedup();
        for &node in &lost {
            for &other in here.iter().filter(|&&other| other != node) {
                if let Some(edge) = self.find_edge(node, other) {
                    self.recount(edge);
                }
            }
        }
        seeds.extend(here);
        severed.extend(lost);
    }

    /// Forgets identifiers that nothing names any more. Customers whose ids lived there are named anew.
    fn forget_severed(&mut self, severed: BTreeSet<u32>, seeds: &mut Vec<u32>) {
        let gone: BTreeSet<u32> =
            severed.into_iter().filter(|&node| self.nodes.at(node).posts == NONE).collect();
        if gone.is_empty() {
            return;
        }
        for &node in &gone {
            seeds.extend(self.edges_of(node).map(|edge| self.edges.at(edge).other(node)));
            let anchored = self.sliced_from.range((node, 0)..=(node, u32::MAX));
            seeds.extend(anchored.map(|(_, sliced)| *sliced));
            let mut ids = self.more_homes.get(&node).cloned().unwrap_or_default();
            ids.push(self.nodes.at(node).home);
            let cluster = self.nodes.at(node).cluster;
            let members: Vec<u32> = match cluster {
                NONE => Vec::new(),
                cluster if ids.contains(&cluster) => self.members_of(cluster).collect(),
                _ => vec![node],
            };
            for &member in &members {
                self.leave_cluster(member);
            }
            seeds.extend(members);
            for id in ids.into_iter().filter(|&id| id != NONE) {
                self.merge_times.remove(&id);
                self.moves.remove(&id);
            }
        }
        self.forget_nodes(&gone);
        seeds.retain(|node| !gone.contains(node));
    }

    /// Adds what stands where an erased person's identifier stood: it is found by nothing and says nothing.
    fn add_nobody(&mut self, kind: u16) -> u32 {
        self.nodes.push(Node::new([0; 32], kind, (IdentifierState::Retired, StateReason::Erased), u32::MAX))
    }

    fn usable(&self, identifier: &Identifier) -> Option<u32> {
        let node = self.find_node(identifier.kind.number(), identifier.token.as_bytes())?;
        (self.nodes.at(node).state != IdentifierState::Retired).then_some(node)
    }

    /// Finds an identifier that others use, or adds it: it may have been seen by the erased person alone.
    fn usable_or_new(&mut self, identifier: &Identifier, time_s: u32) -> Option<u32> {
        let (code, token) = (identifier.kind.number(), *identifier.token.as_bytes());
        match self.find_node(code, &token) {
            Some(_) => self.usable(identifier),
            None => self.rules.of(code).is_some().then(|| self.add_node(code, token, time_s)),
        }
    }

    fn flag(&mut self, identifier: &Identifier, flag: u8, seeds: &mut Vec<u32>) {
        if let Some(node) = self.usable_or_new(identifier, u32::MAX) {
            self.nodes.at_mut(node).flags |= flag;
            seeds.push(node);
        }
    }

    fn doubt(&mut self, observation: &ObservationId, flag: u8) {
        if let Some(number) = self.find_observation(observation) {
            self.observations.at_mut(number).flags |= flag;
        }
    }
}
