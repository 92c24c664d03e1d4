//! The whole state at once: its check from scratch, and a change of the rules.
//!
//! The fold only ever solves small regions. Here everything is solved as one, with no border and no memory of earlier
//! results: that is the definition of the state, and the check compares the fold with it.

use std::collections::{BTreeMap, BTreeSet};

use crate::arena::NONE;
use crate::commit::Step;
use crate::error::IdentityError;
use crate::event::{Derived, SplitCause, Trigger};
use crate::model::{IdSource, Identifier, IdentifierState, Recorded};
use crate::region::Region;
use crate::ruleset::{Class, Rules, Ruleset};
use crate::solve::{Ruling, Solution};
use crate::store::{State, id_flag, node_flag, seconds};

/// What a change of the rules led to.
#[derive(Clone, Debug, PartialEq)]
pub struct RulesetDecision {
    /// The events: RULESET_CHANGE first.
    pub events: Vec<Derived>,
    /// The global ids that were given.
    pub given: Vec<(crate::model::Home, idtrail_event::GlobalCustomerId)>,
}

/// A difference between the state and what its inputs say; a defect of this program or damage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("identity state is inconsistent. what={what}")]
pub struct Inconsistent {
    /// The invariant that does not hold.
    pub what: &'static str,
}

impl State {
    /// Returns all customers, each as the set of its identifiers. Shared and blocked identifiers are nobody's.
    pub fn partition(&self) -> BTreeSet<BTreeSet<Identifier>> {
        let mut customers: BTreeMap<u32, BTreeSet<Identifier>> = BTreeMap::new();
        for node in 0..self.nodes.len() {
            let cluster = self.nodes.at(node).cluster;
            if cluster != NONE {
                customers.entry(cluster).or_default().insert(self.identifier(node));
            }
        }
        customers.into_values().collect()
    }

    fn whole_region(&self) -> Region {
        let mut region = Region::default();
        for node in 0..self.nodes.len() {
            region.nodes.push(node);
            region.local.insert(node, node);
            region.expanded.push(self.class(node) != Class::Corroborating);
        }
        for edge in 0..self.edges.len() {
            let [a, b] = self.edges.at(edge).ends;
            let linking = a != NONE && [a, b].iter().all(|&end| self.class(end) != Class::Corroborating);
            if linking {
                region.edges.push((edge, a, b));
            }
        }
        region
    }

    fn solve_whole(&self) -> (Region, Solution) {
        let region = self.whole_region();
        let solution = self.solve_region(&region);
        (region, solution)
    }

    /// Replaces the rules and works everything out anew.
    ///
    /// # Errors
    /// [`IdentityError::Ruleset`] if the rules make no sense, lack a type that is in use, or are not newer.
    pub fn change_ruleset(
        &mut self,
        ruleset: Ruleset,
        at: Recorded,
        ids: &mut dyn IdSource,
    ) -> Result<RulesetDecision, IdentityError> {
        ruleset.validate()?;
        if ruleset.version <= self.rules.set.version {
            return Err(IdentityError::Ruleset { what: "version must be greater than that in force" });
        }
        let rules = Rules::new(ruleset);
        if self.nodes.iter().any(|node| rules.of(node.kind).is_none()) {
            return Err(IdentityError::Ruleset { what: "a type in use is missing" });
        }
        self.rules = rules;
        self.recount_all();
        let mut step = Step::new(at, ids);
        step.trigger = Trigger::Steward;
        step.cause = SplitCause::Ruleset;
        let (region, solution) = self.solve_whole();
        self.take_over(&region, solution, &mut step);
        let count =
            |which: fn(&Derived) -> bool| step.events.iter().filter(|event| which(event)).count() as u32;
        let change = Derived::RulesetChange {
            version: self.rules.set.version,
            fingerprint: self.rules.set.fingerprint(),
            merges: count(|event| matches!(event, Derived::Merge { .. })),
            splits: count(|event| matches!(event, Derived::Split { .. })),
        };
        let mut events = vec![change];
        events.append(&mut step.events);
        Ok(RulesetDecision { events, given: step.given })
    }

    /// Counts all pairs again, because the rules say differently which of them link.
    fn recount_all(&mut self) {
        for edge in 0..self.edges.len() {
            let record = self.edges.at_mut(edge);
            (record.support, record.first_s, record.last_s, record.assurance) = (0, u32::MAX, 0, 0);
        }
        for observation in 0..self.observations.len() {
            if !self.is_live(observation) {
                continue;
            }
            let time_s = seconds(self.observations.at(observation).time_ms);
            let mut here: Vec<(u32, u8)> = Vec::new();
            for seen in self.incidences_of(observation) {
                // An erased identifier is nobody's evidence.
                if self.nodes.at(seen.node).state == IdentifierState::Retired {
                    continue;
                }
                match here.iter_mut().find(|(node, _)| *node == seen.node) {
                    Some(known) => known.1 = known.1.max(seen.assurance),
                    None => here.push((seen.node, seen.assurance)),
                }
            }
            self.count_pairs(&here, time_s);
        }
        for (&edge, kept) in &self.kept {
            let record = self.edges.at_mut(edge);
            record.support = record.support.saturating_add(kept.support);
            (record.first_s, record.last_s) =
                (record.first_s.min(kept.first_s), record.last_s.max(kept.last_s));
            record.assurance = record.assurance.max(kept.assurance);
        }
    }

    /// Checks everything that must hold.
    ///
    /// # Errors
    /// [`Inconsistent`] with the first thing that does not.
    pub fn check(&self) -> Result<(), Inconsistent> {
        let fail = |what| Err(Inconsistent { what });
        let (region, solution) = self.solve_whole();
        let mut parts: BTreeSet<Vec<u32>> = BTreeSet::new();
        for part in &solution.parts {
            let mut nodes: Vec<u32> =
                part.iter().filter_map(|&place| region.nodes.get(place as usize)).copied().collect();
            nodes.retain(|&node| self.class(node) != Class::Corroborating);
            nodes.sort_unstable();
            if !nodes.is_empty() {
                parts.insert(nodes);
            }
        }
        let mut kept: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for node in 0..self.nodes.len() {
            let cluster = self.nodes.at(node).cluster;
            if cluster != NONE {
                kept.entry(cluster).or_default().push(node);
            }
        }
        if kept.values().cloned().collect::<BTreeSet<_>>() != parts {
            return fail("customers differ from those solved from scratch");
        }
        for (&node, ruling) in region.nodes.iter().zip(&solution.rulings) {
            if self.class(node) == Class::Corroborating {
                continue;
            }
            let record = self.nodes.at(node);
            let same = match ruling {
                Ruling::Links => {
                    record.state == IdentifierState::Active && record.flags & node_flag::SLICED == 0
                }
                Ruling::Shared(state, reason) => record.state == *state && record.reason == *reason,
                Ruling::Sliced(slices) => self.slices.get(&node) == Some(slices),
            };
            if !same {
                return fail("states of identifiers differ from those worked out from scratch");
            }
        }
        for (place, &node) in region.nodes.iter().enumerate() {
            let flags = self.nodes.at(node).flags;
            let is = |list: &[bool], flag| list.get(place).copied().unwrap_or(false) == (flags & flag != 0);
            if self.class(node) != Class::Corroborating
                && !(is(&solution.direct, node_flag::DIRECT) && is(&solution.contested, node_flag::CONTESTED))
            {
                return fail("flags of identifiers differ from those worked out from scratch");
            }
        }
        let rejected: BTreeSet<u32> = solution.rejected.iter().map(|(edge, _)| *edge).collect();
        if self.quarantine.keys().copied().collect::<BTreeSet<_>>() != rejected {
            return fail("the quarantine differs from the links refused from scratch");
        }
        self.check_lists(&kept)?;
        self.check_counts()
    }

    fn check_lists(&self, kept: &BTreeMap<u32, Vec<u32>>) -> Result<(), Inconsistent> {
        let fail = |what| Err(Inconsistent { what });
        for id in 0..self.ids.len() {
            let mut members: Vec<u32> = self.members_of(id).collect();
            members.sort_unstable();
            if kept.get(&id).map_or(&[][..], Vec::as_slice) != members.as_slice() {
                return fail("lists of members");
            }
            let record = self.ids.at(id);
            if record.size as usize != members.len() {
                return fail("sizes of customers");
            }
            if !members.is_empty() {
                let any = |which: fn(&crate::ruleset::TypeRule) -> bool| {
                    members.iter().any(|&node| which(self.rules.known(self.nodes.at(node).kind)))
                };
                let flag = |flag| record.flags & flag != 0;
                if flag(id_flag::CORE) != any(|kind| kind.class >= Class::Strong)
                    || flag(id_flag::EPHEMERAL) == any(|kind| !kind.ephemeral)
                    || flag(id_flag::ANONYMOUS) == any(|kind| !kind.anonymous)
                {
                    return fail("flags of customers");
                }
                let own = members.iter().filter(|&&node| !self.is_sliced_node(node));
                let oldest = own.map(|&node| self.nodes.at(node).home).min();
                if oldest != Some(id) {
                    return fail("a customer's id is the oldest that lives there");
                }
            }
            // Aliases end at a customer, an erased one, or an identifier that is nobody's.
            let end = self.canonical(id);
            if self.canonical(end) != end {
                return fail("aliases end");
            }
        }
        for node in 0..self.nodes.len() {
            let record = self.nodes.at(node);
            let holds = record.home != NONE && record.flags & node_flag::UNITED == 0;
            if holds && self.ids.at(record.home).home != node {
                return fail("homes of global ids");
            }
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<(), Inconsistent> {
        let mut copy = self.clone();
        copy.recount_all();
        for edge in 0..self.edges.len() {
            let (mine, again) = (self.edges.at(edge), copy.edges.at(edge));
            if (mine.support, mine.first_s, mine.last_s, mine.assurance)
                != (again.support, again.first_s, again.last_s, again.assurance)
            {
                return Err(Inconsistent { what: "counts of links" });
            }
        }
        if copy.edges.len() != self.edges.len() {
            return Err(Inconsistent { what: "links are missing" });
        }
        Ok(())
    }
}
