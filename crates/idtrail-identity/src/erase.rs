//! Taking a person out of the state, and what must be said again so that nobody else changes.
//!
//! Evidence of one person also holds up facts about others: that a number is shared, that it passed on, that a call was
//! not somebody else's. When the evidence goes, these facts would go too, and strangers would inherit interactions. So
//! they are marked before, and the marks are returned to be asserted under those who remain.

use std::collections::{BTreeMap, BTreeSet};

use idtrail_event::GlobalCustomerId;

use crate::arena::NONE;
use crate::assertion::{AssertionRecord, Mark, Subject};
use crate::commit::Step;
use crate::error::IdentityError;
use crate::event::{Derived, Evidence, SplitCause, Trigger};
use crate::model::{
    Actor, Home, IdSource, Identifier, IdentifierState, ObservationId, Recorded, StateReason, Tier,
};
use crate::solve::Ruling;
use crate::store::{Kept, State, id_flag, node_flag, observation_flag};
use crate::table::hash_bytes;

/// A fact about others that rested on the erased person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reassertion {
    /// The identifier is shared.
    Shared(Identifier),
    /// The identifier passed on: each time begins at milliseconds since 1970 and belongs to the customer who holds the
    /// other identifier, or to nobody who is known.
    Slices(Identifier, Vec<(u64, Option<Identifier>)>),
    /// Nobody on the left is anybody on the right.
    Apart(Vec<Identifier>, Vec<Identifier>),
    /// The identifiers were seen together so often, in observations that are gone.
    Link {
        /// Both identifiers.
        ends: [Identifier; 2],
        /// How often.
        support: u32,
        /// First and last, milliseconds since 1970.
        seen_ms: (u64, u64),
        /// The best assurance.
        assurance: u8,
    },
    /// The identifier was seen at this time already, milliseconds since 1970: limits within a window rest on it.
    FirstSeen(Identifier, u64),
    /// A claim to the identifier was set aside, so it proves less.
    Contested(Identifier),
    /// The observation is nobody's.
    Ambiguous(ObservationId),
    /// The observation is its customer's, but never more than PROBABLE.
    Probable(ObservationId),
    /// What stands at these places of the observation, counted from 0, is nobody's and says nothing about others. The
    /// observation may be somebody else's too, so it stays, and what it names of the person cannot be taken out of it.
    Severed(ObservationId, Vec<u16>),
}

/// What an erasure took away, or would.
#[derive(Clone, Debug, PartialEq)]
pub struct Erasure {
    /// The ids that stand for an erased customer from now on.
    pub gcids: Vec<GlobalCustomerId>,
    /// The identifiers that were the person's alone.
    pub identifiers: Vec<Identifier>,
    /// The observations that were the person's, VERIFIED and PROBABLE, with their leaves.
    pub observations: Vec<Evidence>,
    /// Identifiers that others use too; they stay.
    pub retained: Vec<Identifier>,
    /// What must be asserted again under those who remain, before the leaves of the person are destroyed.
    pub reassertions: Vec<Reassertion>,
    /// Events that follow for others.
    pub events: Vec<Derived>,
    /// The global ids that were given to others.
    pub given: Vec<(Home, GlobalCustomerId)>,
}

impl State {
    /// Returns what erasing a person would take away. Changes nothing.
    ///
    /// # Errors
    /// [`IdentityError::NotKnown`], [`IdentityError::Erased`].
    pub fn plan_erasure(&self, subject: &Subject) -> Result<Erasure, IdentityError> {
        let id = self.customer_id(subject)?;
        let (gone, kept): (Vec<u32>, Vec<u32>) =
            self.linked_to(id).into_iter().partition(|&node| self.is_solely(node, id));
        let closure = self.closure(subject)?;
        let mut gcids = vec![closure.customer.gcid];
        gcids.extend(&closure.customer.aliases);
        let observations = closure
            .interactions
            .iter()
            .map(|one| Evidence { observation: one.observation, index: one.index });
        let mut retained: Vec<Identifier> = kept.iter().map(|&node| self.identifier(node)).collect();
        retained.extend(closure.shared);
        Ok(Erasure {
            gcids,
            identifiers: gone.iter().map(|&node| self.identifier(node)).collect(),
            observations: observations.collect(),
            retained,
            reassertions: Vec::new(),
            events: Vec::new(),
            given: Vec::new(),
        })
    }

    /// Tells whether an identifier was never anybody else's.
    fn is_solely(&self, node: u32, id: u32) -> bool {
        let theirs = |anchor: u32| anchor != NONE && self.nodes.at(anchor).cluster == id;
        self.slices.get(&node).is_none_or(|slices| slices.iter().all(|slice| theirs(slice.anchor)))
    }

    /// Erases a person. The global ids stay and lead to "erased"; a person who returns is a new customer.
    ///
    /// # Errors
    /// [`IdentityError::NotKnown`], [`IdentityError::Erased`]; then nothing was changed.
    pub fn erase(
        &mut self,
        subject: &Subject,
        at: Recorded,
        ids: &mut dyn IdSource,
    ) -> Result<Erasure, IdentityError> {
        let mut erasure = self.plan_erasure(subject)?;
        let id = self.customer_id(subject)?;
        let linked = self.linked_to(id);
        let (gone, kept): (Vec<u32>, Vec<u32>) =
            linked.into_iter().partition(|&node| self.is_solely(node, id));
        let gone: BTreeSet<u32> = gone.into_iter().collect();
        let mut neighbours: BTreeSet<u32> = kept.iter().copied().collect();
        for &node in &gone {
            neighbours.extend(self.edges_of(node).map(|edge| self.edges.at(edge).other(node)));
        }
        let mut named: BTreeSet<u32> = BTreeSet::new();
        for one in &erasure.observations {
            let observation = self.find_observation(&one.observation);
            named.extend(observation.into_iter().flat_map(|at| self.incidences_of(at)).map(|seen| seen.node));
        }
        neighbours.extend(&named);
        neighbours.retain(|node| !gone.contains(node));
        // Customers further away may become others as well, if one between loses what tied it to them.
        let near: Vec<u32> = neighbours.iter().chain(&gone).copied().collect();
        let watched = self.watch(self.region(&near, &near).nodes.iter());
        self.sever_what_stays(&gone, &mut erasure);
        self.orphan(id, &gone, &kept, &mut erasure);
        self.pin_slices(&neighbours, &gone, &named, &mut erasure);
        for &node in &neighbours {
            if self.nodes.at(node).flags & node_flag::CONTESTED != 0 {
                self.nodes.at_mut(node).flags |= node_flag::DOUBTED;
                erasure.reassertions.push(Reassertion::Contested(self.identifier(node)));
            }
        }
        let was_shared: Vec<u32> = neighbours
            .iter()
            .copied()
            .filter(|&node| self.nodes.at(node).state == IdentifierState::Shared)
            .collect();
        let mut reassertions = Vec::new();
        neighbours.extend(self.forget_observations(&erasure.observations, &gone, &mut reassertions));
        erasure.reassertions.append(&mut reassertions);
        neighbours.retain(|node| !gone.contains(node));
        // Identifiers that others keep leave the customer first.
        for &node in &kept {
            if self.nodes.at(node).cluster == id {
                self.leave_cluster(node);
            }
        }
        self.forget_identifiers(id, &gone);
        for gcid in &erasure.gcids {
            let Some(id) = self.find_id(gcid) else { continue };
            let home = self.ids.at(id).home;
            // An id that lives at an identifier which others keep leaves it.
            if home != NONE && self.nodes.at(home).home == id {
                self.nodes.at_mut(home).home = NONE;
            }
            let record = self.ids.at_mut(id);
            (record.flags, record.home) = (id_flag::ERASED, NONE);
            self.moves.remove(&id);
        }
        for node in was_shared {
            let few = self.nodes.at(node).reason == StateReason::Several;
            let stays = matches!(
                self.ruling_alone(node),
                Ruling::Shared(IdentifierState::Shared, reason) if (reason == StateReason::Several) == few
            );
            if !stays {
                self.nodes.at_mut(node).flags |= node_flag::MARKED;
                erasure.reassertions.push(Reassertion::Shared(self.identifier(node)));
            }
        }
        let mut step = Step::new(at, ids);
        step.trigger = Trigger::Steward;
        step.cause = SplitCause::Erasure;
        let seeds: Vec<u32> = neighbours.into_iter().collect();
        self.keep_apart(&seeds, &step, &mut erasure);
        self.recompute(&seeds, &mut step);
        erasure.events = step.events;
        erasure.given = step.given;
        self.keep_doubts(&watched, &mut erasure);
        Ok(erasure)
    }

    /// Says where the person's identifiers stand in observations that stay.
    fn sever_what_stays(&self, gone: &BTreeSet<u32>, erasure: &mut Erasure) {
        let erased: BTreeSet<u32> =
            erasure.observations.iter().filter_map(|one| self.find_observation(&one.observation)).collect();
        let mut severed: BTreeMap<u32, Vec<u16>> = BTreeMap::new();
        for at in gone.iter().flat_map(|&node| self.posts_of(node)) {
            let seen = self.incidences.at(at);
            if !erased.contains(&seen.observation) {
                severed.entry(seen.observation).or_default().push(seen.place);
            }
        }
        for (observation, mut places) in severed {
            places.sort_unstable();
            erasure.reassertions.push(Reassertion::Severed(self.observation_id(observation), places));
        }
    }

    /// Keeps customers apart that only the person's claims had kept apart.
    fn keep_apart(&mut self, seeds: &[u32], step: &Step<'_>, erasure: &mut Erasure) {
        loop {
            let (region, solution) = self.solve(seeds);
            let mut sides: Vec<(Vec<u32>, Vec<u32>)> = Vec::new();
            for part in &solution.parts {
                let mut groups: Vec<(u32, Vec<u32>)> = Vec::new();
                for &node in part.iter().filter_map(|&place| region.nodes.get(place as usize)) {
                    let cluster = self.nodes.at(node).cluster;
                    match groups.iter_mut().find(|(id, _)| *id == cluster) {
                        _ if cluster == NONE => {}
                        Some((_, group)) => group.push(node),
                        None => groups.push((cluster, vec![node])),
                    }
                }
                for (at, (_, left)) in groups.iter().enumerate() {
                    let rest = groups.get(at + 1..).unwrap_or_default();
                    sides.extend(rest.iter().map(|(_, right)| (left.clone(), right.clone())));
                }
            }
            if sides.is_empty() {
                return;
            }
            for (left, right) in sides {
                let identifiers = |nodes: &[u32]| nodes.iter().map(|&node| self.identifier(node)).collect();
                erasure.reassertions.push(Reassertion::Apart(identifiers(&left), identifiers(&right)));
                let mark = Mark::Apart(left, right);
                let number = self.assertions.len() as u32;
                let (actor, index) = (Actor::System, step.at.index.get());
                self.assertions.push(AssertionRecord { mark: mark.clone(), actor, index, revoked: false });
                self.put(&mark, number, actor);
            }
        }
    }

    /// Returns whose the observations of some identifiers are.
    fn watch<'a>(&self, nodes: impl Iterator<Item = &'a u32>) -> Vec<(u32, Option<u32>, Tier)> {
        let mut observations: BTreeSet<u32> = BTreeSet::new();
        for &node in nodes {
            observations.extend(self.posts_of(node).map(|at| self.incidences.at(at).observation));
        }
        let live = observations.into_iter().filter(|&observation| self.is_live(observation));
        live.map(|observation| {
            let attribution = self.attribute(observation);
            (observation, attribution.cluster.filter(|_| attribution.rule.is_some()), attribution.tier)
        })
        .collect()
    }

    /// Keeps observations doubtful that only seem clearer because the other possibility is gone.
    fn keep_doubts(&mut self, watched: &[(u32, Option<u32>, Tier)], erasure: &mut Erasure) {
        for &(observation, before, tier) in watched {
            if !self.is_live(observation) {
                continue;
            }
            let now = self.attribute(observation);
            let named = now.cluster.filter(|_| now.rule.is_some());
            let id = self.observation_id(observation);
            if named.is_some() && named != before {
                self.observations.at_mut(observation).flags |= observation_flag::ORPHANED;
                erasure.reassertions.push(Reassertion::Ambiguous(id));
            } else if named.is_some() && now.tier < tier {
                self.observations.at_mut(observation).flags |= observation_flag::DOUBTED;
                erasure.reassertions.push(Reassertion::Probable(id));
            }
        }
    }

    /// Makes observations that could be the person's or somebody else's nobody's for good, and keeps those of others that
    /// also named the person as doubtful as they are.
    fn orphan(&mut self, id: u32, gone: &BTreeSet<u32>, kept: &[u32], erasure: &mut Erasure) {
        let mut observations: BTreeSet<u32> = BTreeSet::new();
        // Also those that named an identifier of a few owners, of whom the person was one.
        let mut several: BTreeSet<u32> = BTreeSet::new();
        for &node in gone {
            let others = self.edges_of(node).map(|edge| self.edges.at(edge).other(node));
            several.extend(others.filter(|&other| self.nodes.at(other).reason == StateReason::Several));
        }
        for node in gone.iter().chain(kept).copied().chain(several) {
            observations.extend(self.posts_of(node).map(|at| self.incidences.at(at).observation));
        }
        for observation in observations {
            if !self.is_live(observation) {
                continue;
            }
            let attribution = self.attribute(observation);
            let named = attribution.cluster.is_some() && attribution.tier != Tier::Ambiguous;
            let others = self.incidences_of(observation).any(|seen| !gone.contains(&seen.node));
            let touches = attribution.candidates.contains(&id)
                || self
                    .incidences_of(observation)
                    .any(|seen| gone.contains(&seen.node) || kept.contains(&seen.node));
            if !touches {
                continue;
            }
            if !named && others && attribution.cluster != Some(id) {
                self.observations.at_mut(observation).flags |= observation_flag::ORPHANED;
                erasure.reassertions.push(Reassertion::Ambiguous(self.observation_id(observation)));
            } else if attribution.cluster != Some(id) && attribution.tier == Tier::Probable {
                self.observations.at_mut(observation).flags |= observation_flag::DOUBTED;
                erasure.reassertions.push(Reassertion::Probable(self.observation_id(observation)));
            }
        }
    }

    /// Fixes the times of identifiers that passed from or to the person.
    fn pin_slices(
        &mut self,
        neighbours: &BTreeSet<u32>,
        gone: &BTreeSet<u32>,
        named: &BTreeSet<u32>,
        erasure: &mut Erasure,
    ) {
        for &node in neighbours {
            let Some(slices) = self.slices.get(&node).cloned() else { continue };
            // Without the person's sightings the silence between two others would be another one.
            if !named.contains(&node) && !slices.iter().any(|slice| gone.contains(&slice.anchor)) {
                continue;
            }
            let anchor = |anchor: u32| if gone.contains(&anchor) { NONE } else { anchor };
            let mut pinned: Vec<(u32, u32, u32)> = slices
                .windows(2)
                .filter_map(|pair| match pair {
                    [from, to] => Some((to.from_s, anchor(from.anchor), anchor(to.anchor))),
                    _ => None,
                })
                .collect();
            pinned.sort_unstable();
            self.transfers.insert(node, pinned);
            let times = slices.iter().map(|slice| {
                let anchor = Some(anchor(slice.anchor)).filter(|&anchor| anchor != NONE);
                (u64::from(slice.from_s) * 1000, anchor.map(|anchor| self.identifier(anchor)))
            });
            erasure.reassertions.push(Reassertion::Slices(self.identifier(node), times.collect()));
        }
    }

    /// Takes observations away. Returns identifiers of others that they named.
    fn forget_observations(
        &mut self,
        observations: &[Evidence],
        gone: &BTreeSet<u32>,
        reassertions: &mut Vec<Reassertion>,
    ) -> BTreeSet<u32> {
        let mut touched: BTreeSet<u32> = BTreeSet::new();
        let mut edges: BTreeSet<u32> = BTreeSet::new();
        for one in observations {
            let Some(observation) = self.find_observation(&one.observation) else { continue };
            self.by_observation.remove(hash_bytes(one.observation.as_bytes(), 1), observation);
            let others: Vec<u32> = self
                .incidences_of(observation)
                .map(|seen| seen.node)
                .filter(|node| !gone.contains(node))
                .collect();
            for (at, &left) in others.iter().enumerate() {
                let rest = others.get(at + 1..).unwrap_or_default();
                edges.extend(rest.iter().filter_map(|&right| self.find_edge(left, right)));
            }
            touched.extend(self.incidences_of(observation).map(|seen| seen.node));
            let record = self.observations.at_mut(observation);
            record.flags |= observation_flag::ERASED;
            record.id = [0; 16];
            let believed = record.believed;
            if self.ids.at(believed).flags & id_flag::INTERACTION != 0 {
                self.ids.at_mut(believed).flags |= id_flag::ERASED;
            }
        }
        for &node in touched.iter().filter(|node| !gone.contains(node)) {
            reassertions.push(Reassertion::FirstSeen(
                self.identifier(node),
                u64::from(self.nodes.at(node).first_s) * 1000,
            ));
        }
        for &node in &touched {
            let left: Vec<u32> = self
                .posts_of(node)
                .filter(|&at| {
                    let observation = self.incidences.at(at).observation;
                    self.observations.at(observation).flags & observation_flag::ERASED == 0
                })
                .collect();
            self.nodes.at_mut(node).posts = NONE;
            for &at in left.iter().rev() {
                let next = std::mem::replace(&mut self.nodes.at_mut(node).posts, at);
                self.incidences.at_mut(at).next = next;
            }
        }
        // Links between others keep their counts. The first sightings of others stay too: limits rest on them.
        for &edge in &edges {
            let before = self.edges.at(edge).clone();
            self.recount(edge);
            let now = self.edges.at(edge).support;
            if now == before.support {
                continue;
            }
            let gone = Kept {
                support: before.support - now + self.kept.get(&edge).map_or(0, |kept| kept.support),
                first_s: before.first_s,
                last_s: before.last_s,
                assurance: before.assurance,
            };
            self.kept.insert(edge, gone);
            self.recount(edge);
            let [a, b] = before.ends.map(|end| self.identifier(end));
            reassertions.push(Reassertion::Link {
                ends: [a, b],
                support: gone.support,
                seen_ms: (u64::from(gone.first_s) * 1000, u64::from(gone.last_s) * 1000),
                assurance: gone.assurance,
            });
        }
        touched
    }

    /// Takes the identifiers of a customer away, and the customer.
    fn forget_identifiers(&mut self, id: u32, gone: &BTreeSet<u32>) {
        self.forget_nodes(gone);
        self.merge_times.remove(&id);
        let record = self.ids.at_mut(id);
        record.flags = id_flag::ERASED;
        (record.members, record.size, record.home) = (NONE, 0, NONE);
    }

    /// Takes identifiers away, with everything that was said about them. The ids that live there stand for somebody erased
    /// from then on.
    pub(crate) fn forget_nodes(&mut self, gone: &BTreeSet<u32>) {
        for &node in gone {
            for edge in self.edges_of(node).collect::<Vec<_>>() {
                self.unlink_edge(edge);
            }
            let record = self.nodes.at(node);
            let (token, kind, home) = (record.token, record.kind, record.home);
            self.by_token.remove(hash_bytes(&token, u64::from(kind)), node);
            let homes = self.more_homes.remove(&node).unwrap_or_default();
            for id in homes.into_iter().chain((home != NONE).then_some(home)) {
                let record = self.ids.at_mut(id);
                record.flags = id_flag::ERASED;
                record.home = NONE;
            }
            let record = self.nodes.at_mut(node);
            record.token = [0; 32];
            record.state = IdentifierState::Retired;
            record.reason = StateReason::Erased;
            record.flags = 0;
            (record.cluster, record.next, record.home) = (NONE, NONE, NONE);
            (record.posts, record.history) = (NONE, NONE);
            for slice in self.slices.remove(&node).iter().flatten() {
                self.sliced_from.remove(&(slice.anchor, node));
            }
            self.apart.remove(&node);
            self.held.remove(&node);
            self.transfers.remove(&node);
        }
        for (_, from, to) in self.transfers.values_mut().flatten() {
            for end in [from, to] {
                if gone.contains(end) {
                    *end = NONE;
                }
            }
        }
        for at in 0..self.aliases.len() {
            let alias = self.aliases.at(at);
            if alias.node == NONE || !gone.contains(&self.united(alias.node)) {
                continue;
            }
            let hash = hash_bytes(&alias.token, u64::from(alias.kind));
            self.by_alias.remove(hash, at);
            let alias = self.aliases.at_mut(at);
            (alias.token, alias.node) = ([0; 32], NONE);
        }
    }
}
