//! What a change would do, before it is made.

use std::collections::BTreeMap;

use idtrail_event::GlobalCustomerId;

use crate::arena::NONE;
use crate::assertion::{AssertionKind, AssertionRecord};
use crate::error::IdentityError;
use crate::model::{Actor, Guard, Home, Identifier, IdentifierState, Recorded};
use crate::region::Region;
use crate::ruleset::Ruleset;
use crate::solve::{Ruling, Solution};
use crate::store::State;

/// A customer that would fall apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedSplit {
    /// The customer.
    pub from: GlobalCustomerId,
    /// The identifiers of each part.
    pub parts: Vec<Vec<Identifier>>,
}

/// What a change would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Simulation {
    /// Customers that would become one, in groups.
    pub merges: Vec<Vec<GlobalCustomerId>>,
    /// Customers that would fall apart.
    pub splits: Vec<SimulatedSplit>,
    /// Identifiers whose state would change, with the new one.
    pub states: Vec<(Identifier, IdentifierState)>,
    /// Links that would be refused and are not today.
    pub refused: Vec<([Identifier; 2], Guard)>,
}

impl State {
    /// Returns what an assertion would do. The state is the same afterwards, bit for bit.
    ///
    /// # Errors
    /// Those of [`State::assert`].
    pub fn simulate_assertion(&mut self, kind: &AssertionKind) -> Result<Simulation, IdentityError> {
        let mark = self.mark_of(kind)?;
        let number = self.assertions.len() as u32;
        let (edges, holds) = (self.edges.len(), self.holds_given);
        let actor = Actor::Steward;
        self.assertions.push(AssertionRecord { mark: mark.clone(), actor, index: 0, revoked: false });
        let seeds = self.put(&mark, number, actor);
        let (region, solution) = self.solve(&seeds);
        let simulation = self.compare(&region, &solution);
        self.lift(&mark, number, actor);
        self.assertions.pop();
        while self.edges.len() > edges {
            let newest = self.edges.len() - 1;
            self.unlink_edge(newest);
            self.edges.pop();
        }
        self.holds_given = holds;
        Ok(simulation)
    }

    /// Returns what a change of the rules would do. Works on a copy of the whole state; for large ones, run it on a
    /// copy of your own, away from the sequencer.
    ///
    /// # Errors
    /// Those of [`State::change_ruleset`].
    pub fn simulate_ruleset(&self, ruleset: Ruleset) -> Result<Simulation, IdentityError> {
        let mut copy = self.clone();
        let mut given = 0_u64;
        let mut ids = |_: Home| loop {
            // Ids of a copy that is thrown away: any that is not taken will do.
            given += 1;
            let gcid = GlobalCustomerId::new((u128::MAX - u128::from(given)).to_be_bytes());
            if self.find_id(&gcid).is_none() {
                return gcid;
            }
        };
        let at = Recorded { index: idtrail_tlog::LogIndex::new(u64::MAX - 1), at_ms: 0 };
        copy.change_ruleset(ruleset, at, &mut ids)?;
        let mut simulation = Simulation::default();
        let mut after: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut split: BTreeMap<u32, BTreeMap<u32, Vec<Identifier>>> = BTreeMap::new();
        for node in 0..self.nodes.len() {
            let (was, is) = (self.nodes.at(node).cluster, copy.nodes.at(node).cluster);
            if was != NONE && is != NONE {
                let all = after.entry(is).or_default();
                if !all.contains(&was) {
                    all.push(was);
                }
                split.entry(was).or_default().entry(is).or_default().push(self.identifier(node));
            }
            if self.public_state(node) != copy.public_state(node) {
                simulation.states.push((self.identifier(node), copy.public_state(node)));
            }
        }
        self.note_merges(after.values(), &mut simulation);
        for (from, parts) in split {
            if parts.len() > 1 {
                let parts = parts.into_values().collect();
                simulation.splits.push(SimulatedSplit { from: self.gcid(from), parts });
            }
        }
        for (&edge, entry) in &copy.quarantine {
            if !self.quarantine.contains_key(&edge) {
                simulation
                    .refused
                    .push((copy.edges.at(edge).ends.map(|end| copy.identifier(end)), entry.guard));
            }
        }
        Ok(simulation)
    }

    fn note_merges<'a>(&self, parts: impl Iterator<Item = &'a Vec<u32>>, simulation: &mut Simulation) {
        for part in parts.filter(|part| part.len() > 1) {
            let mut part = part.clone();
            part.sort_unstable();
            simulation.merges.push(part.into_iter().map(|id| self.gcid(id)).collect());
        }
    }

    /// Compares a solution with the state.
    fn compare(&self, region: &Region, solution: &Solution) -> Simulation {
        let mut simulation = Simulation::default();
        let mut parts: Vec<Vec<u32>> = Vec::new();
        let mut split: BTreeMap<u32, Vec<Vec<Identifier>>> = BTreeMap::new();
        for part in &solution.parts {
            let mut was: BTreeMap<u32, Vec<Identifier>> = BTreeMap::new();
            for &node in part.iter().filter_map(|&place| region.nodes.get(place as usize)) {
                let cluster = self.nodes.at(node).cluster;
                if cluster != NONE {
                    was.entry(cluster).or_default().push(self.identifier(node));
                }
            }
            parts.push(was.keys().copied().collect());
            for (id, identifiers) in was {
                split.entry(id).or_default().push(identifiers);
            }
        }
        self.note_merges(parts.iter(), &mut simulation);
        for (from, parts) in split {
            if parts.len() > 1 {
                simulation.splits.push(SimulatedSplit { from: self.gcid(from), parts });
            }
        }
        for (&node, ruling) in region.nodes.iter().zip(&solution.rulings) {
            let state = match ruling {
                Ruling::Shared(_, crate::model::StateReason::Several) => IdentifierState::Active,
                Ruling::Shared(state, _) => *state,
                Ruling::Links | Ruling::Sliced(_) => IdentifierState::Active,
            };
            if state != self.public_state(node) {
                simulation.states.push((self.identifier(node), state));
            }
        }
        for (edge, guard) in &solution.rejected {
            if !self.quarantine.contains_key(edge) {
                simulation.refused.push((self.edges.at(*edge).ends.map(|end| self.identifier(end)), *guard));
            }
        }
        simulation
    }
}
