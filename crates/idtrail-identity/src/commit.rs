//! Taking over a solution: which customer keeps which global id, and what changed for whom.
//!
//! A global id lives at an identifier, its home. A customer's id is the oldest one that lives at any of its
//! identifiers; the others are its aliases. So a merge moves no id, and a split gives every part its own former id
//! back, because the homes are where they were. A part in which no id lives gets a new one, at its strongest
//! identifier. Only when a home turns out to belong to nobody (a shared number) does its id move to the part that
//! remains.

mod report;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use idtrail_event::GlobalCustomerId;

use crate::arena::NONE;
use crate::assertion::{AssertionRecord, Mark};
use crate::event::{Derived, MergeId, SplitCause, Trigger};
use crate::model::{Actor, Guard, Home, IdSource, IdentifierState, Recorded, StateReason};
use crate::region::{NumberMap, Region};
use crate::ruleset::Class;
use crate::solve::{Ruling, Solution};
use crate::store::{Change, Quarantined, State, id_flag, node_flag};

/// What a step of the fold gathers.
pub(crate) struct Step<'a> {
    pub(crate) at: Recorded,
    pub(crate) ids: &'a mut dyn IdSource,
    pub(crate) events: Vec<Derived>,
    pub(crate) given: Vec<(Home, GlobalCustomerId)>,
    pub(crate) trigger: Trigger,
    pub(crate) cause: SplitCause,
    pub(crate) recomputed: usize,
    merges: u16,
}

impl<'a> Step<'a> {
    pub(crate) fn new(at: Recorded, ids: &'a mut dyn IdSource) -> Self {
        Self {
            at,
            ids,
            events: Vec::new(),
            given: Vec::new(),
            trigger: Trigger::Auto,
            cause: SplitCause::Evidence,
            recomputed: 0,
            merges: 0,
        }
    }

    /// Names the next merge of this step.
    pub(crate) fn next_merge(&mut self) -> MergeId {
        self.merges += 1;
        MergeId { index: self.at.index, ordinal: self.merges - 1 }
    }
}

/// Returns the customer that an identifier of the region had before.
fn previous(region: &Region, before: &[u32], node: u32) -> u32 {
    let place = region.local.get(&node);
    place.and_then(|&place| before.get(place as usize)).copied().unwrap_or(NONE)
}

/// One customer of a solution.
struct Group {
    members: Vec<u32>,
    id: u32,
    before: Vec<u32>,
}

impl State {
    /// Gives a new global id to an identifier.
    pub(crate) fn give_id(&mut self, node: u32, step: &mut Step<'_>) -> u32 {
        let home = Home::Identifier(self.identifier(node));
        let gcid = step.ids.id_for(home);
        let id = self.add_id(gcid, node, 0, step.at.index);
        self.nodes.at_mut(node).home = id;
        step.given.push((home, gcid));
        id
    }

    /// Solves the region around `seeds` and takes the solution over.
    pub(crate) fn recompute(&mut self, seeds: &[u32], step: &mut Step<'_>) {
        let (mut region, mut solution) = self.solve(seeds);
        step.recomputed += region.nodes.len();
        if step.trigger == Trigger::Auto && self.hold_hasty(&region, &solution, step) {
            // With the hold other borders may open, so the region may be another one as well.
            (region, solution) = self.solve(seeds);
        }
        self.take_over(&region, solution, step);
    }

    /// G6: holds a customer that merges too often, before this merge. Tells whether a hold was set.
    fn hold_hasty(&mut self, region: &Region, solution: &Solution, step: &mut Step<'_>) -> bool {
        let day_ago = step.at.at_ms.saturating_sub(86_400_000);
        let mut held = false;
        for part in &solution.parts {
            // An identifier that passes from one owner to another brings no customer with it.
            let stays =
                |place: &&u32| !matches!(solution.rulings.get(**place as usize), Some(Ruling::Sliced(_)));
            let mut homes: Vec<u32> = part
                .iter()
                .filter(stays)
                .filter_map(|&place| region.nodes.get(place as usize))
                .filter(|&&node| {
                    let record = self.nodes.at(node);
                    record.home != NONE && record.cluster == record.home
                })
                .map(|&node| self.nodes.at(node).home)
                .filter(|&id| self.ids.at(id).flags & id_flag::ANONYMOUS == 0)
                .collect();
            homes.sort_unstable();
            homes.dedup();
            if homes.len() < 2 {
                continue;
            }
            for id in homes {
                let recent = self
                    .merge_times
                    .get(&id)
                    .map_or(0, |times| times.iter().filter(|&&time| time > day_ago).count());
                if recent >= self.rules.set.merges_per_day_max as usize {
                    let members: Vec<u32> = self.members_of(id).collect();
                    let hold = self.add_hold(&members);
                    self.assertions.push(AssertionRecord {
                        mark: Mark::Hold { number: hold, nodes: members },
                        actor: Actor::System,
                        index: step.at.index.get(),
                        revoked: false,
                    });
                    held = true;
                    step.events.push(Derived::Assertion {
                        number: step.at.index.get(),
                        kind: "HOLD",
                        subjects: vec![self.gcid(id).to_string()],
                        actor: Actor::System,
                        reason: "merges more often than the rules allow within 24 hours".to_owned(),
                        approver: None,
                        revokes: None,
                    });
                }
            }
        }
        held
    }

    /// Holds identifiers together and known customers away from them. Returns the number of the hold.
    pub(crate) fn add_hold(&mut self, members: &[u32]) -> u32 {
        let number = self.holds_given;
        self.holds_given += 1;
        self.holds.insert(number, members.len() as u32);
        for &node in members {
            self.held.entry(node).or_default().insert(number);
        }
        number
    }

    /// Takes a solution over and says what changed.
    pub(crate) fn take_over(&mut self, region: &Region, solution: Solution, step: &mut Step<'_>) {
        let before: Vec<u32> = region.nodes.iter().map(|&node| self.nodes.at(node).cluster).collect();
        self.take_rulings(region, &solution, step);
        self.take_flags(region, &solution);
        let groups = self.name_groups(region, &solution, &before, step);
        let former = self.former_sizes(&before);
        self.take_members(region, &groups, &before, step);
        self.report(region, &groups, &before, &former, step);
        self.take_rejections(region, &solution, step);
    }

    fn take_rulings(&mut self, region: &Region, solution: &Solution, step: &mut Step<'_>) {
        for (&node, ruling) in region.nodes.iter().zip(&solution.rulings) {
            let class = self.class(node);
            if class == Class::Corroborating {
                continue;
            }
            let from = self.public_state(node);
            let owner = self.first_owner(node);
            let was_sliced = self.slices.remove(&node);
            for slice in was_sliced.iter().flatten() {
                self.sliced_from.remove(&(slice.anchor, node));
            }
            let (state, reason) = match ruling {
                Ruling::Links => (IdentifierState::Active, StateReason::None),
                Ruling::Shared(state, reason) => (*state, *reason),
                Ruling::Sliced(_) => (IdentifierState::Active, StateReason::Recycled),
            };
            let record = self.nodes.at_mut(node);
            record.state = state;
            record.reason = reason;
            record.flags &= !node_flag::SLICED;
            let mut valid_from_ms = None;
            let mut owners = u32::from(state == IdentifierState::Active);
            let mut changed = self.public_state(node) != from;
            if let Ruling::Sliced(slices) = ruling {
                self.nodes.at_mut(node).flags |= node_flag::SLICED;
                for slice in slices {
                    self.sliced_from.insert((slice.anchor, node));
                }
                owners = slices.len() as u32;
                valid_from_ms = slices.last().map(|slice| u64::from(slice.from_s) * 1000);
                changed |= was_sliced.is_none_or(|was| was.len() != slices.len());
                self.slices.insert(node, slices.clone());
            }
            if self.first_owner(node) != owner {
                self.note_first_owner(node, owner, step);
            }
            if !changed {
                continue;
            }
            if state == IdentifierState::Shared {
                let mut all = Vec::new();
                self.owners_of(node, &mut all);
                owners = all.len() as u32;
            }
            step.events.push(Derived::State {
                identifier: self.identifier(node),
                from,
                to: self.public_state(node),
                reason,
                owners,
                valid_from_ms,
            });
        }
    }

    /// Notes that the ids which live at an identifier belonged to another owner until now.
    fn note_first_owner(&mut self, node: u32, before: u32, step: &Step<'_>) {
        let mut ids = self.more_homes.get(&node).cloned().unwrap_or_default();
        ids.push(self.nodes.at(node).home);
        for id in ids.into_iter().filter(|&id| id != NONE) {
            self.moves.entry(id).or_default().push((step.at.index.get(), before));
        }
    }

    fn take_flags(&mut self, region: &Region, solution: &Solution) {
        for (place, &node) in region.nodes.iter().enumerate() {
            let of = |list: &[bool]| list.get(place).copied().unwrap_or(false);
            let sliced = matches!(solution.rulings.get(place), Some(Ruling::Sliced(_)));
            let flags = &mut self.nodes.at_mut(node).flags;
            *flags &= !(node_flag::DIRECT | node_flag::CONTESTED | node_flag::TANGLED);
            if of(&solution.direct) {
                *flags |= node_flag::DIRECT;
            }
            if of(&solution.contested) {
                *flags |= node_flag::CONTESTED | node_flag::TANGLED;
            }
            if sliced {
                *flags |= node_flag::TANGLED;
            }
        }
        for &(edge, ..) in &region.edges {
            let ends = self.edges.at(edge).ends;
            let sliced = ends.iter().any(|&end| self.nodes.at(end).flags & node_flag::SLICED != 0);
            if sliced {
                for end in ends {
                    self.nodes.at_mut(end).flags |= node_flag::TANGLED;
                }
            }
        }
        for (edge, _) in &solution.rejected {
            for end in self.edges.at(*edge).ends {
                self.nodes.at_mut(end).flags |= node_flag::TANGLED;
            }
        }
    }

    /// Decides which global id each part has.
    fn name_groups(
        &mut self,
        region: &Region,
        solution: &Solution,
        before: &[u32],
        step: &mut Step<'_>,
    ) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::with_capacity(solution.parts.len());
        for part in &solution.parts {
            let members: Vec<u32> =
                part.iter().filter_map(|&place| region.nodes.get(place as usize)).copied().collect();
            let mut was: Vec<u32> = part
                .iter()
                .filter_map(|&place| before.get(place as usize))
                .copied()
                .filter(|&id| id != NONE)
                .collect();
            was.sort_unstable();
            was.dedup();
            let own = members.iter().filter(|&&node| !self.is_sliced_node(node));
            let id = own.map(|&node| self.nodes.at(node).home).min().unwrap_or(NONE);
            groups.push(Group { members, id, before: was });
        }
        self.move_homes(&mut groups, step);
        for group in &mut groups {
            if group.id == NONE {
                let anchor = self.anchor(&group.members);
                group.id = self.give_id(anchor, step);
                self.join_holds(anchor, &group.members);
            }
        }
        groups
    }

    /// Takes an identifier that a global id now lives at into the holds of its customer: they keep others away, not the
    /// customer's own.
    fn join_holds(&mut self, anchor: u32, members: &[u32]) {
        if self.held.is_empty() {
            return;
        }
        let own = members.iter().filter(|&&node| !self.is_sliced_node(node));
        let holds: BTreeSet<u32> = own.filter_map(|node| self.held.get(node)).flatten().copied().collect();
        for hold in holds {
            if !self.held.entry(anchor).or_default().insert(hold) {
                continue;
            }
            *self.holds.entry(hold).or_default() += 1;
            for record in &mut self.assertions {
                if let Mark::Hold { number, nodes } = &mut record.mark
                    && *number == hold
                {
                    nodes.push(anchor);
                }
            }
        }
    }

    /// Moves ids whose homes belong to nobody any more to a part that has none.
    fn move_homes(&mut self, groups: &mut [Group], step: &Step<'_>) {
        let mut homeless = Vec::new();
        for (at, group) in groups.iter().enumerate() {
            if group.id != NONE {
                continue;
            }
            let anchor = self.anchor(&group.members);
            for &id in &group.before {
                let home = self.ids.at(id).home;
                if self.nodes.at(home).state != IdentifierState::Active || self.is_sliced_node(home) {
                    let rank = (Reverse(self.class(anchor)), Reverse(group.members.len()));
                    homeless.push((id, rank.0, rank.1, self.nodes.at(anchor).token, at));
                }
            }
        }
        homeless.sort_unstable();
        let mut moved = Vec::new();
        for (id, _, _, _, at) in homeless {
            let Some(group) = groups.get_mut(at) else { continue };
            if group.id != NONE || moved.contains(&id) {
                continue;
            }
            moved.push(id);
            group.id = id;
            let anchor = self.anchor(&group.members);
            let old = self.ids.at(id).home;
            self.nodes.at_mut(old).home = NONE;
            self.nodes.at_mut(anchor).home = id;
            self.ids.at_mut(id).home = anchor;
            self.join_holds(anchor, &group.members);
            let owner = self.first_owner(old);
            self.moves.entry(id).or_default().push((step.at.index.get(), owner));
        }
    }

    /// Returns the strongest identifier.
    pub(crate) fn anchor(&self, members: &[u32]) -> u32 {
        let rank = |&node: &u32| {
            let record = self.nodes.at(node);
            let kind = self.rules.known(record.kind);
            (self.is_sliced_node(node), Reverse(kind.class), kind.priority, record.token)
        };
        members.iter().copied().min_by_key(rank).expect("a customer has at least one identifier")
    }

    /// Returns the sizes and flags of the customers that there were.
    fn former_sizes(&self, before: &[u32]) -> NumberMap<u8> {
        let mut former = NumberMap::default();
        for &id in before {
            if id != NONE {
                former.entry(id).or_insert_with(|| self.ids.at(id).flags);
            }
        }
        former
    }

    /// Writes the new members of all customers of the region.
    fn take_members(&mut self, region: &Region, groups: &[Group], before: &[u32], step: &Step<'_>) {
        for &id in before {
            if id != NONE {
                let record = self.ids.at_mut(id);
                (record.members, record.size) = (NONE, 0);
                record.flags &= !(id_flag::CORE | id_flag::EPHEMERAL | id_flag::ANONYMOUS);
            }
        }
        for &node in &region.nodes {
            let record = self.nodes.at_mut(node);
            (record.cluster, record.next) = (NONE, NONE);
        }
        for group in groups {
            let mut flags = id_flag::EPHEMERAL | id_flag::ANONYMOUS;
            for &node in &group.members {
                let first = self.ids.at(group.id).members;
                let record = self.nodes.at_mut(node);
                (record.cluster, record.next) = (group.id, first);
                let kind = self.rules.known(self.nodes.at(node).kind);
                if kind.class >= Class::Strong {
                    flags |= id_flag::CORE;
                }
                if !kind.ephemeral {
                    flags &= !id_flag::EPHEMERAL;
                }
                if !kind.anonymous {
                    flags &= !id_flag::ANONYMOUS;
                }
                let id = self.ids.at_mut(group.id);
                id.members = node;
                id.size += 1;
            }
            self.ids.at_mut(group.id).flags |= flags;
        }
        for (&node, &previous) in region.nodes.iter().zip(before) {
            let record = self.nodes.at(node);
            let noted = record.history != NONE || step.cause == SplitCause::Ruleset;
            if previous == NONE && record.cluster == NONE {
                // The first time that it belongs to nobody is noted, or a later owner would seem to be its first.
                if record.history == NONE {
                    self.note_change(node, NONE, step);
                }
            } else if previous != record.cluster && (previous != NONE || noted) {
                self.note_change(node, previous, step);
            }
        }
    }

    fn note_change(&mut self, node: u32, previous: u32, step: &Step<'_>) {
        let next_of_node = self.nodes.at(node).history;
        let next_of_id = if previous == NONE { NONE } else { self.ids.at(previous).left };
        let at = self.changes.push(Change {
            node,
            previous,
            index: step.at.index.get(),
            next_of_node,
            next_of_id,
        });
        self.nodes.at_mut(node).history = at;
        if previous != NONE {
            self.ids.at_mut(previous).left = at;
        }
    }

    fn take_rejections(&mut self, region: &Region, solution: &Solution, step: &mut Step<'_>) {
        let mut now: NumberMap<Guard> = NumberMap::default();
        for (edge, guard) in &solution.rejected {
            now.entry(*edge).or_insert(*guard);
        }
        if !self.quarantine.is_empty() {
            for (edge, ..) in &region.edges {
                if !now.contains_key(edge) {
                    self.quarantine.remove(edge);
                }
            }
        }
        for (edge, _) in &solution.rejected {
            let Some(&guard) = now.get(edge) else { continue };
            if let Some(known) = self.quarantine.get_mut(edge) {
                known.guard = guard;
                continue;
            }
            let number = self.quarantined;
            self.quarantined += 1;
            self.quarantine.insert(*edge, Quarantined { guard, number, since: step.at.index.get() });
            let ends = self.edges.at(*edge).ends;
            let mut clusters: Vec<u32> =
                ends.iter().map(|&end| self.nodes.at(end).cluster).filter(|&id| id != NONE).collect();
            clusters.dedup();
            step.events.push(Derived::Conflict {
                gcids: clusters.into_iter().map(|id| self.gcid(id)).collect(),
                guard,
                demoted: ends.map(|end| self.identifier(end)),
                quarantine: number,
            });
        }
    }
}
