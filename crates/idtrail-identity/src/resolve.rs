//! One observation in, one decision out.
//!
//! Most observations say what is known already: all their identifiers belong to one customer, and none of them is in
//! dispute. Those are counted and answered at once. A new weak identifier beside a known strong one is hung on. All
//! else goes to the solver, which looks at the region that the observation touches and at nothing else.

use idtrail_event::IdentifierToken;

use crate::arena::NONE;
use crate::commit::Step;
use crate::error::IdentityError;
use crate::event::{Derived, Evidence};
use crate::model::{
    Decision, Home, IdSource, IdentifierState, Observation, Outcome, Recorded, RuleId, Seen, StateReason,
    Tier,
};
use crate::ruleset::{Class, Rules, Ruleset};
use crate::solve::exceeds;
use crate::store::{Incidence, ObservationRecord, State, id_flag, node_flag, seconds};
use crate::table::hash_bytes;

/// An identifier of the observation at hand.
#[derive(Clone, Copy)]
struct Here {
    node: u32,
    place: u16,
    assurance: u8,
    fresh: bool,
    /// It was not known to be seen as early as this, so limits within a window may hold no more.
    earlier: bool,
}

/// What the uniting of identifiers touches.
#[derive(Default)]
struct United {
    seeds: Vec<u32>,
    customers: Vec<u32>,
}

impl State {
    /// Returns the state before any observation.
    ///
    /// # Errors
    /// [`IdentityError::Ruleset`] if the ruleset makes no sense.
    pub fn new(ruleset: Ruleset) -> Result<Self, IdentityError> {
        ruleset.validate()?;
        Ok(Self::empty(Rules::new(ruleset)))
    }

    /// Returns the rules in force.
    pub fn ruleset(&self) -> &Ruleset {
        &self.rules.set
    }

    /// Decides upon an observation and takes it over. To replay a recorded one, call it with the recorded place and an
    /// `ids` that returns the recorded ids; the result is the same, bit for bit.
    ///
    /// # Errors
    /// [`IdentityError::TooManyIdentifiers`], [`IdentityError::UnknownType`]; then nothing was changed.
    pub fn resolve(
        &mut self,
        observation: &Observation,
        at: Recorded,
        ids: &mut dyn IdSource,
    ) -> Result<Decision, IdentityError> {
        self.admissible(observation)?;
        if let Some(known) = self.find_observation(&observation.id) {
            return Ok(self.repeat(known));
        }
        let mut step = Step::new(at, ids);
        let time_s = seconds(observation.time_ms);
        let mut united = United::default();
        let here = self.take_in(observation, time_s, &mut united);
        let number = self.add_observation(observation, at, &here);
        let fresh_edges = self.add_edges(&here, time_s);
        if !united.seeds.is_empty() || !self.take_quickly(&here, fresh_edges, &mut step) {
            let mut seeds = std::mem::take(&mut united.seeds);
            seeds.extend(here.iter().map(|seen| seen.node));
            seeds.sort_unstable();
            seeds.dedup();
            self.recompute(&seeds, &mut step);
            self.report_united(&united.customers, number, &mut step);
        }
        Ok(self.decide(number, step))
    }

    /// Reports customers that became one because their identifiers are the same value.
    fn report_united(&mut self, customers: &[u32], number: u32, step: &mut Step<'_>) {
        for &id in customers {
            let survivor = self.canonical(id);
            if survivor == id || self.ids.at(id).merged != u64::MAX {
                continue;
            }
            let merge = step.next_merge();
            let record = self.ids.at_mut(id);
            (record.merged, record.merged_ordinal) = (merge.index.get(), merge.ordinal);
            let members: Vec<u32> = self.members_of(survivor).collect();
            step.events.push(Derived::Merge {
                id: merge,
                survivor: self.gcid(survivor),
                absorbed: vec![self.gcid(id)],
                rule: RuleId::M3,
                evidence: vec![Evidence {
                    observation: self.observation_id(number),
                    index: self.observation_index(number),
                }],
                trigger: step.trigger,
                identifiers_after: self.identifiers_in(&members),
            });
        }
    }

    fn admissible(&self, observation: &Observation) -> Result<(), IdentityError> {
        let max = self.rules.set.observation_identifiers_max;
        let got = observation.sightings.iter().map(|seen| 1 + seen.aliases.len()).sum();
        if got > max as usize {
            return Err(IdentityError::TooManyIdentifiers { max, got });
        }
        for seen in &observation.sightings {
            let code = seen.identifier.kind.number();
            self.rules.of(code).ok_or(IdentityError::UnknownType { code })?;
        }
        Ok(())
    }

    /// Finds or adds the identifiers of an observation, each once, and unites those that are the same value.
    fn take_in(&mut self, observation: &Observation, time_s: u32, united: &mut United) -> Vec<Here> {
        let mut here: Vec<Here> = Vec::with_capacity(observation.sightings.len());
        for (place, seen) in (0..).zip(&observation.sightings) {
            let kind = seen.identifier.kind.number();
            let token = *seen.identifier.token.as_bytes();
            let mut all = Vec::with_capacity(1 + seen.aliases.len());
            all.push(token);
            all.extend(seen.aliases.iter().map(IdentifierToken::as_bytes));
            let mut known: Vec<u32> = Vec::new();
            let mut found = 0;
            for token in &all {
                let Some(node) = self.find_node(kind, token) else { continue };
                found += 1;
                if !known.contains(&node) {
                    known.push(node);
                }
            }
            // The oldest stays: it is the one that older records name.
            known.sort_unstable();
            let (node, fresh) = match known.first() {
                Some(&node) => (node, false),
                None => (self.add_node(kind, token, time_s), true),
            };
            // Mostly all of them are known already.
            let unknown: &[[u8; 32]] = if found == all.len() { &[] } else { &all };
            for token in unknown {
                if self.find_node(kind, token).is_none() {
                    self.add_alias(kind, *token, node);
                }
            }
            for &other in known.iter().skip(1) {
                // What was linked through either may have to be looked at again.
                united.seeds.push(node);
                for end in [node, other] {
                    let neighbours = self.edges_of(end).map(|edge| self.edges.at(edge).other(end));
                    united.seeds.extend(neighbours.filter(|&there| there != other));
                    let cluster = self.nodes.at(end).cluster;
                    united.customers.extend((cluster != NONE).then_some(cluster));
                }
                self.unite(node, other);
                united.seeds.retain(|&seed| seed != other);
                for earlier in &mut here {
                    if earlier.node == other {
                        earlier.node = node;
                    }
                }
            }
            let record = self.nodes.at_mut(node);
            let earlier = time_s < record.first_s;
            record.first_s = record.first_s.min(time_s);
            let assurance = seen.assurance.level();
            match here.iter_mut().find(|earlier| earlier.node == node) {
                Some(before) => before.assurance = before.assurance.max(assurance),
                None => here.push(Here { node, place, assurance, fresh, earlier }),
            }
        }
        here
    }

    fn add_observation(&mut self, observation: &Observation, at: Recorded, here: &[Here]) -> u32 {
        let first = self.incidences.len();
        let number = self.observations.push(ObservationRecord {
            id: *observation.id.as_bytes(),
            time_ms: observation.time_ms,
            index: at.index.get(),
            first,
            believed: NONE,
            count: here.len() as u16,
            candidates: 0,
            outcome: 0,
            tier: 0,
            rule: u8::MAX,
            flags: 0,
        });
        self.by_observation.insert(hash_bytes(observation.id.as_bytes(), 1), number);
        for seen in here {
            let next = self.nodes.at(seen.node).posts;
            let at = self.incidences.push(Incidence {
                node: seen.node,
                observation: number,
                next,
                assurance: seen.assurance,
                state: IdentifierState::Active,
                place: seen.place,
            });
            self.nodes.at_mut(seen.node).posts = at;
        }
        number
    }

    /// Tells with which assurance a pair links, if it does.
    pub(crate) fn link_assurance(&self, left: (u32, u8), right: (u32, u8)) -> Option<u8> {
        let kind = |node: u32| self.rules.known(self.nodes.at(node).kind);
        let (a, b) = (kind(left.0), kind(right.0));
        let enough = |kind: &crate::ruleset::TypeRule, assurance: u8| assurance >= kind.assurance_min.level();
        match (a.class, b.class) {
            // A key that only corroborates is kept beside strong identifiers.
            (Class::Corroborating, Class::Strong | Class::StrongUnique) => Some(right.1),
            (Class::Strong | Class::StrongUnique, Class::Corroborating) => Some(left.1),
            (Class::Corroborating, _) | (_, Class::Corroborating) => None,
            (Class::Weak, Class::Weak) => {
                (enough(a, left.1) && enough(b, right.1)).then_some(left.1.min(right.1))
            }
            (Class::Weak, _) => enough(a, left.1).then_some(right.1),
            (_, Class::Weak) => enough(b, right.1).then_some(left.1),
            _ => (enough(a, left.1) && enough(b, right.1)).then_some(left.1.min(right.1)),
        }
    }

    /// Counts the pairs of an observation. Returns whether some pair is new.
    fn add_edges(&mut self, here: &[Here], time_s: u32) -> bool {
        let here: Vec<(u32, u8)> = here.iter().map(|seen| (seen.node, seen.assurance)).collect();
        self.count_pairs(&here, time_s)
    }

    /// Counts the pairs of identifiers that were seen together. Returns whether some pair is new.
    pub(crate) fn count_pairs(&mut self, here: &[(u32, u8)], time_s: u32) -> bool {
        let mut fresh = false;
        for (at, &left) in here.iter().enumerate() {
            for &right in here.get(at + 1..).unwrap_or_default() {
                let Some(assurance) = self.link_assurance(left, right) else { continue };
                let (edge, new) = self.edge_of(left.0, right.0);
                let edge = self.edges.at_mut(edge);
                fresh |= new || edge.support == 0;
                edge.support = edge.support.saturating_add(1);
                edge.first_s = edge.first_s.min(time_s);
                edge.last_s = edge.last_s.max(time_s);
                edge.assurance = edge.assurance.max(assurance);
            }
        }
        fresh
    }

    /// Takes an observation over that cannot change who belongs to whom, or returns `false`.
    fn take_quickly(&mut self, here: &[Here], fresh_edges: bool, step: &mut Step<'_>) -> bool {
        let mut cluster = NONE;
        let mut fresh = None;
        let mut shared = false;
        let mut linking = 0;
        for seen in here {
            let record = self.nodes.at(seen.node);
            if self.class(seen.node) == Class::Corroborating {
                continue;
            }
            if record.state != IdentifierState::Active {
                if record.reason != StateReason::Steward && record.reason != StateReason::Joint {
                    shared = true;
                    if fresh_edges || !self.stays_shared(seen.node) {
                        return false;
                    }
                }
                continue;
            }
            linking += 1;
            if seen.fresh {
                if fresh.replace(seen.node).is_some() {
                    return false;
                }
                continue;
            }
            if record.flags & node_flag::TANGLED != 0 || record.cluster == NONE || seen.earlier {
                return false;
            }
            if cluster != NONE && cluster != record.cluster {
                return false;
            }
            cluster = record.cluster;
        }
        match fresh {
            None => !fresh_edges || here.len() == 1 || linking == 0,
            Some(node) if linking == 1 && !shared && !fresh_edges => {
                let id = self.give_id(node, step);
                self.join(node, id);
                true
            }
            Some(node) if !shared && cluster != NONE => {
                self.hang_interaction(here, node, cluster) || self.hang_on(here, node, cluster)
            }
            Some(_) => false,
        }
    }

    /// Hangs a new interaction on the one identifier that it was seen with: the usual call. It has no other link, owns
    /// nothing and counts towards no limit but the customer's size, so no other link is judged differently.
    fn hang_interaction(&mut self, here: &[Here], node: u32, cluster: u32) -> bool {
        let kind = self.rules.known(self.nodes.at(node).kind);
        let fits = self.ids.at(cluster).size < self.rules.set.cluster_members_max;
        let [left, right] = here else { return false };
        let other = if left.node == node { right.node } else { left.node };
        let hangs = kind.ephemeral
            && kind.class == Class::Weak
            && kind.max_per_cluster == u32::MAX
            && !kind.joint
            && fits
            && self.class(other) == Class::Weak
            && self.find_edge(node, other).is_some();
        if hangs {
            self.join(node, cluster);
        }
        hangs
    }

    /// Hangs a new weak identifier on a customer with strong ones, if no limit is near.
    fn hang_on(&mut self, here: &[Here], node: u32, cluster: u32) -> bool {
        let kind = self.rules.known(self.nodes.at(node).kind);
        let record = self.ids.at(cluster);
        let rules = &self.rules.set;
        if kind.class != Class::Weak
            || record.flags & id_flag::CORE == 0
            || record.size + 1 > rules.cluster_members_max
        {
            return false;
        }
        let mut direct = false;
        for seen in here.iter().filter(|seen| seen.node != node) {
            let there = self.nodes.at(seen.node);
            let class = self.class(seen.node);
            if class == Class::Corroborating || there.state != IdentifierState::Active {
                continue;
            }
            if class == Class::Weak && there.flags & node_flag::DIRECT == 0 {
                return false;
            }
            // Every pair that is new must be one with the new identifier.
            let edge = self.find_edge(node, seen.node);
            direct |= class >= Class::Strong && edge.is_some();
            if edge.is_none() {
                return false;
            }
        }
        if !direct || !self.pairs_known(here, node) {
            return false;
        }
        if !kind.ephemeral {
            if record.size + 1 > rules.cluster_identifiers_max {
                return false;
            }
            let code = self.nodes.at(node).kind;
            let mut times: Vec<u32> = self
                .members_of(cluster)
                .map(|member| self.nodes.at(member))
                .filter(|member| member.kind == code)
                .map(|member| member.first_s)
                .collect();
            times.push(self.nodes.at(node).first_s);
            if exceeds(&mut times, kind) {
                return false;
            }
        }
        self.nodes.at_mut(node).flags |= node_flag::DIRECT;
        self.join(node, cluster);
        true
    }

    /// Tells whether all pairs without `node` were seen before: this time is not their first.
    fn pairs_known(&self, here: &[Here], node: u32) -> bool {
        let others: Vec<&Here> = here.iter().filter(|seen| seen.node != node).collect();
        others.iter().enumerate().all(|(at, left)| {
            others.get(at + 1..).unwrap_or_default().iter().all(|right| {
                let links =
                    self.link_assurance((left.node, left.assurance), (right.node, right.assurance)).is_some();
                let edge = self.find_edge(left.node, right.node);
                !links || edge.is_some_and(|edge| self.edges.at(edge).support > 1)
            })
        })
    }

    /// Makes an identifier a member of a customer.
    fn join(&mut self, node: u32, id: u32) {
        let kind = self.rules.known(self.nodes.at(node).kind);
        let (ephemeral, anonymous, core) = (kind.ephemeral, kind.anonymous, kind.class >= Class::Strong);
        let record = self.ids.at_mut(id);
        if record.size == 0 {
            record.flags |= id_flag::EPHEMERAL | id_flag::ANONYMOUS;
        }
        if !ephemeral {
            record.flags &= !id_flag::EPHEMERAL;
        }
        if !anonymous {
            record.flags &= !id_flag::ANONYMOUS;
        }
        if core {
            record.flags |= id_flag::CORE;
        }
        let first = std::mem::replace(&mut record.members, node);
        record.size += 1;
        let record = self.nodes.at_mut(node);
        (record.cluster, record.next) = (id, first);
    }

    /// Says what an observation led to, and keeps the answer.
    fn decide(&mut self, number: u32, mut step: Step<'_>) -> Decision {
        let attribution = self.attribute(number);
        let known = attribution.cluster.filter(|_| attribution.rule.is_some());
        let outcome = match known {
            None if attribution.candidates.is_empty() => Outcome::Anonymous,
            None => Outcome::Ambiguous,
            Some(id) if self.ids.at(id).created == step.at.index.get() => Outcome::Created,
            Some(id) => {
                let gcid = self.gcid(id);
                let merged = step
                    .events
                    .iter()
                    .any(|event| matches!(event, Derived::Merge { survivor, .. } if *survivor == gcid));
                if merged { Outcome::Merged } else { Outcome::Attached }
            }
        };
        // An interaction that belongs to nobody still gets an id, under which it can be found and promoted.
        let id = attribution.cluster.filter(|_| attribution.candidates.is_empty()).unwrap_or_else(|| {
            let home = Home::Observation(self.observation_id(number));
            let gcid = step.ids.id_for(home);
            step.given.push((home, gcid));
            self.add_id(gcid, number, id_flag::INTERACTION, step.at.index)
        });
        let record = self.observations.at_mut(number);
        record.believed = id;
        record.outcome = outcome as u8;
        record.tier = attribution.tier as u8;
        record.rule = attribution.rule.map_or(u8::MAX, |rule| rule as u8);
        record.candidates = attribution.candidates.len() as u16;
        let range = record.first..record.first + u32::from(record.count);
        for at in range {
            let state = self.public_state(self.incidences.at(at).node);
            self.incidences.at_mut(at).state = state;
        }
        let mut decision = self.repeat(number);
        decision.repeated = None;
        decision.events = step.events;
        decision.given = step.given;
        decision.recomputed = step.recomputed;
        decision
    }

    /// Returns the stored answer to an observation.
    fn repeat(&self, number: u32) -> Decision {
        let record = self.observations.at(number);
        let identifiers = self.incidences_of(number).map(|seen| Seen {
            identifier: self.identifier(seen.node),
            state: seen.state,
            assurance: seen.assurance.try_into().unwrap_or(crate::model::Assurance::CLAIMED),
        });
        Decision {
            observation: self.observation_id(number),
            gcid: self.gcid(record.believed),
            outcome: Outcome::from_code(record.outcome).unwrap_or(Outcome::Anonymous),
            tier: Tier::from_code(record.tier).unwrap_or(Tier::Ambiguous),
            rule: RuleId::from_code(record.rule),
            identifiers: identifiers.collect(),
            candidates: u32::from(record.candidates),
            repeated: Some(self.observation_index(number)),
            ruleset_version: self.rules.set.version,
            events: Vec::new(),
            given: Vec::new(),
            recomputed: 0,
        }
    }

    /// Makes one identifier of two that turned out to be the same value; `node` stays.
    pub(crate) fn unite(&mut self, node: u32, other: u32) {
        let edges: Vec<u32> = self.edges_of(other).collect();
        let mut kept = Vec::new();
        for edge in edges {
            let record = self.edges.at(edge).clone();
            let third = record.other(other);
            self.unlink_edge(edge);
            if third != node {
                let (edge, _) = self.edge_of(node, third);
                self.edges.at_mut(edge).flags |= record.flags;
                kept.push(edge);
            }
        }
        // The other's incidences go behind those of the one that stays.
        let posts: Vec<u32> = self.posts_of(other).collect();
        for &at in posts.iter().rev() {
            let head = self.nodes.at(node).posts;
            let incidence = self.incidences.at_mut(at);
            (incidence.node, incidence.next) = (node, head);
            self.nodes.at_mut(node).posts = at;
        }
        for edge in kept {
            self.recount(edge);
        }
        let gone = self.nodes.at(other).clone();
        let hash = hash_bytes(&gone.token, u64::from(gone.kind));
        self.by_token.remove(hash, other);
        self.add_alias(gone.kind, gone.token, node);
        self.leave_cluster(other);
        self.move_marks(node, other);
        if gone.home != NONE {
            let mut ids = self.more_homes.remove(&other).unwrap_or_default();
            ids.push(gone.home);
            for &id in &ids {
                self.ids.at_mut(id).home = node;
            }
            let mine = self.nodes.at(node).home;
            ids.extend((mine != NONE).then_some(mine));
            ids.extend(self.more_homes.remove(&node).unwrap_or_default());
            ids.sort_unstable();
            self.nodes.at_mut(node).home = ids.remove(0);
            if !ids.is_empty() {
                self.more_homes.insert(node, ids);
            }
        }
        let stays = self.nodes.at_mut(node);
        stays.first_s = stays.first_s.min(gone.first_s);
        stays.flags |= gone.flags & (node_flag::MARKED | node_flag::BANNED);
        let record = self.nodes.at_mut(other);
        record.state = IdentifierState::Retired;
        record.flags = node_flag::UNITED;
        (record.home, record.posts, record.edges) = (node, NONE, NONE);
    }

    /// Takes an identifier out of its customer's list.
    pub(crate) fn leave_cluster(&mut self, node: u32) {
        let cluster = self.nodes.at(node).cluster;
        if cluster == NONE {
            return;
        }
        let members: Vec<u32> = self.members_of(cluster).filter(|&member| member != node).collect();
        let record = self.ids.at_mut(cluster);
        (record.members, record.size) = (NONE, members.len() as u32);
        for &member in members.iter().rev() {
            let first = std::mem::replace(&mut self.ids.at_mut(cluster).members, member);
            self.nodes.at_mut(member).next = first;
        }
        let record = self.nodes.at_mut(node);
        (record.cluster, record.next) = (NONE, NONE);
    }

    /// Moves what was said about one identifier to another.
    fn move_marks(&mut self, node: u32, other: u32) {
        if let Some(sides) = self.apart.remove(&other) {
            self.apart.entry(node).or_default().extend(sides);
        }
        if let Some(holds) = self.held.remove(&other) {
            self.held.entry(node).or_default().extend(holds);
        }
        if let Some(transfers) = self.transfers.remove(&other) {
            self.transfers.entry(node).or_default().extend(transfers);
        }
        for (_, from, to) in self.transfers.values_mut().flatten() {
            for end in [from, to] {
                if *end == other {
                    *end = node;
                }
            }
        }
        for slice in self.slices.remove(&other).iter().flatten() {
            self.sliced_from.remove(&(slice.anchor, other));
        }
        let anchored: Vec<(u32, u32)> =
            self.sliced_from.range((other, 0)..=(other, u32::MAX)).copied().collect();
        for (_, sliced) in anchored {
            self.sliced_from.remove(&(other, sliced));
            self.sliced_from.insert((node, sliced));
            for slice in self.slices.get_mut(&sliced).into_iter().flatten() {
                if slice.anchor == other {
                    slice.anchor = node;
                }
            }
        }
        for record in &mut self.assertions {
            record.replace(other, node);
        }
    }
}
