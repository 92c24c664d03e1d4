//! The partition of a region into customers: a spanning forest that grows by the strongest link that no guard forbids.
//!
//! Classes come one after the other, strongest first. In each class:
//! 1. every identifier is judged by the customers of stronger identifiers that it was seen with, and attached to its
//!    owner, or found shared, or divided among owners in time;
//! 2. identifiers without such an owner are judged by the owners of the attached ones of their own class;
//! 3. links within the class are tried in canonical order.
//!
//! The order depends on evidence and tokens only, so the result does not depend on the order of arrival, and what
//! happens in one connected part does not depend on another. Weaker links never unite two customers that both have
//! stronger identifiers.

mod claims;
mod guard;

use std::cmp::Reverse;

use crate::arena::NONE;
use crate::judge::{Claim, Verdict};
use crate::model::{Guard, IdentifierState, StateReason};
use crate::region::{NumberMap, Region};
use crate::ruleset::{Class, TypeRule};
use crate::store::{Slice, State, edge_flag, node_flag};

pub(crate) use self::guard::exceeds;

/// An owner: a root in the region, or a customer outside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Inside(u32),
    Outside(u32),
}

/// What was found about an identifier that does not simply link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// Links.
    Links,
    /// Does not link.
    Shared(IdentifierState, StateReason),
    /// Belongs to several owners in turn.
    Sliced(Vec<Slice>),
}

/// The partition of a region.
pub(crate) struct Solution {
    /// By place: the ruling.
    pub(crate) rulings: Vec<Ruling>,
    /// By place: whether it hangs directly on a stronger identifier.
    pub(crate) direct: Vec<bool>,
    /// By place: whether a claim was set aside.
    pub(crate) contested: Vec<bool>,
    /// The customers, each with the places of its members.
    pub(crate) parts: Vec<Vec<u32>>,
    /// Edges that were refused.
    pub(crate) rejected: Vec<(u32, Guard)>,
}

struct Solver<'a> {
    state: &'a State,
    region: &'a Region,
    parent: Vec<u32>,
    members: Vec<Vec<u32>>,
    top: Vec<Class>,
    rulings: Vec<Option<Ruling>>,
    direct: Vec<bool>,
    contested: Vec<bool>,
    rejected: Vec<(u32, Guard)>,
    /// Borders that are none any more.
    reopened: Vec<u32>,
}

/// What orders links: smaller is tried first.
type Rank = (bool, u8, Reverse<u8>, Reverse<u32>, u32, [u8; 32], [u8; 32]);

impl State {
    /// Solves the region around `seeds`, and returns it too.
    pub(crate) fn solve(&self, seeds: &[u32]) -> (Region, Solution) {
        let mut opened = Vec::new();
        loop {
            let region = self.region(seeds, &opened);
            let mut solver = Solver::new(self, &region);
            solver.run();
            if solver.reopened.is_empty() {
                let solution = solver.finish();
                return (region, solution);
            }
            opened.append(&mut solver.reopened);
        }
    }

    /// Solves a region without borders.
    pub(crate) fn solve_region(&self, region: &Region) -> Solution {
        let mut solver = Solver::new(self, region);
        solver.run();
        solver.finish()
    }

    /// Tells whether a shared identifier still is, for the same reason, if nothing else changes.
    pub(crate) fn stays_shared(&self, node: u32) -> bool {
        let record = self.nodes.at(node);
        matches!(
            self.ruling_alone(node),
            Ruling::Shared(state, reason) if state == record.state && reason == record.reason
        )
    }

    /// Judges one identifier by everything else as it is.
    pub(crate) fn ruling_alone(&self, node: u32) -> Ruling {
        let region = Region::default();
        Solver::new(self, &region).judge_border(node, self.class(node))
    }

    /// Returns the end of the longest pause of at least `least` seconds between sightings of an identifier.
    fn silence(&self, node: u32, from_s: u32, to_s: u32, least: u32) -> Option<u32> {
        let mut times: Vec<u32> = self
            .posts_of(node)
            .map(|at| self.incidences.at(at).observation)
            .filter(|&observation| self.is_live(observation))
            .map(|observation| crate::store::seconds(self.observations.at(observation).time_ms))
            .filter(|time| (from_s..=to_s).contains(time))
            .collect();
        times.sort_unstable();
        let pauses = times.windows(2).filter_map(|pair| match pair {
            [before, after] if after - before >= least => Some((after - before, *after)),
            _ => None,
        });
        // Of equal pauses the first, so that the newer owner gets more.
        pauses.reduce(|best, pause| if pause.0 > best.0 { pause } else { best }).map(|(_, end)| end)
    }
}

impl<'a> Solver<'a> {
    fn new(state: &'a State, region: &'a Region) -> Self {
        let count = region.nodes.len();
        Self {
            state,
            region,
            parent: (0..count as u32).collect(),
            members: (0..count as u32).map(|place| vec![place]).collect(),
            top: region.nodes.iter().map(|&node| state.class(node)).collect(),
            rulings: vec![None; count],
            direct: vec![false; count],
            contested: region
                .nodes
                .iter()
                .map(|&node| state.nodes.at(node).flags & node_flag::DOUBTED != 0)
                .collect(),
            rejected: Vec::new(),
            reopened: Vec::new(),
        }
    }

    fn node(&self, place: u32) -> u32 {
        *self.region.nodes.get(place as usize).expect("places are below the count")
    }

    fn root(&self, place: u32) -> u32 {
        let mut at = place;
        loop {
            let up = *self.parent.get(at as usize).expect("places are below the count");
            if up == at {
                return at;
            }
            at = up;
        }
    }

    fn top(&self, root: u32) -> Class {
        *self.top.get(root as usize).expect("places are below the count")
    }

    fn members(&self, root: u32) -> &[u32] {
        self.members.get(root as usize).map_or(&[], Vec::as_slice)
    }

    fn ruling(&self, place: u32) -> Option<&Ruling> {
        self.rulings.get(place as usize).and_then(Option::as_ref)
    }

    fn is_expanded(&self, place: u32) -> bool {
        self.region.expanded.get(place as usize).copied().unwrap_or(false)
    }

    fn set(list: &mut [bool], place: u32) {
        if let Some(slot) = list.get_mut(place as usize) {
            *slot = true;
        }
    }

    fn rule(&mut self, place: u32, ruling: Ruling) {
        if let Some(slot) = self.rulings.get_mut(place as usize) {
            *slot = Some(ruling);
        }
    }

    fn kind(&self, node: u32) -> &'a TypeRule {
        self.state.rules.known(self.state.nodes.at(node).kind)
    }

    fn run(&mut self) {
        for class in [Class::StrongUnique, Class::Strong, Class::Weak] {
            let places: Vec<u32> = (0..self.region.nodes.len() as u32)
                .filter(|&place| self.state.class(self.node(place)) == class)
                .collect();
            if places.is_empty() {
                continue;
            }
            let (inside, border): (Vec<u32>, Vec<u32>) =
                places.into_iter().partition(|&place| self.is_expanded(place));
            self.attach(&inside, class);
            self.judge_by_peers(&inside, class);
            for &place in &border {
                let node = self.node(place);
                match self.judge_border(node, class) {
                    shared @ Ruling::Shared(..) => self.rule(place, shared),
                    _ => self.reopened.push(node),
                }
            }
            if !self.reopened.is_empty() {
                return;
            }
            self.link(&inside, class);
        }
        self.join_slices();
    }

    fn slices(&self, slices: &[(Claim<Owner>, u32)]) -> Ruling {
        let ends = slices.iter().skip(1).map(|(_, from)| *from).chain([u32::MAX]);
        let slices = slices.iter().zip(ends);
        Ruling::Sliced(
            slices
                .map(|((claim, from_s), to_s)| Slice { anchor: claim.anchor, from_s: *from_s, to_s })
                .collect(),
        )
    }

    fn set_aside(&mut self, place: u32, aside: &[Claim<Owner>]) {
        for claim in aside {
            self.rejected.push((claim.edge, Guard::Contradicted));
            Self::set(&mut self.contested, place);
        }
    }

    /// Step 1: attaches identifiers to owners of stronger classes.
    fn attach(&mut self, inside: &[u32], class: Class) {
        let mut wanted: Vec<(Rank, u32, u32, u32)> = Vec::new();
        for &place in inside {
            let node = self.node(place);
            if let Some(forced) = self.forced(node) {
                self.rule(place, forced);
                continue;
            }
            if class == Class::StrongUnique {
                continue;
            }
            match self.judge(node, class, false) {
                Verdict::Free => {}
                Verdict::One { claim, aside } => {
                    self.set_aside(place, &aside);
                    if let Owner::Inside(root) = claim.owner {
                        wanted.push((self.rank(claim.edge), place, root, claim.edge));
                    }
                }
                Verdict::Slices(slices) => {
                    let ruling = self.slices(&slices);
                    self.rule(place, ruling);
                }
                Verdict::Shared(reason) => {
                    self.rule(place, Ruling::Shared(IdentifierState::Shared, reason));
                }
            }
        }
        wanted.sort_unstable();
        for (_, place, owner, edge) in wanted {
            match self.union(place, owner) {
                Ok(()) => Self::set(&mut self.direct, place),
                Err(guard) => self.rejected.push((edge, guard)),
            }
        }
    }

    /// Step 2: judges identifiers without owner by the owners of their peers.
    fn judge_by_peers(&mut self, inside: &[u32], class: Class) {
        let mut rulings = Vec::new();
        for &place in inside {
            if self.ruling(place).is_some() || self.direct.get(place as usize).copied().unwrap_or(false) {
                continue;
            }
            let node = self.node(place);
            // One that has an owner and could not join it keeps apart.
            if !matches!(self.judge(node, class, false), Verdict::Free) {
                continue;
            }
            if self.is_hub(node, class) {
                rulings.push((place, Ruling::Shared(IdentifierState::Shared, StateReason::Fanout)));
                continue;
            }
            match self.judge(node, class, true) {
                Verdict::Free => {}
                Verdict::One { aside, .. } => self.set_aside(place, &aside),
                Verdict::Slices(slices) => rulings.push((place, self.slices(&slices))),
                Verdict::Shared(reason) => {
                    rulings.push((place, Ruling::Shared(IdentifierState::Shared, reason)));
                }
            }
        }
        for (place, ruling) in rulings {
            self.rule(place, ruling);
        }
    }

    /// Step 3: links identifiers of one class.
    fn link(&mut self, inside: &[u32], class: Class) {
        let mut edges: Vec<(Rank, u32, u32, u32)> = Vec::new();
        for &(edge, a, b) in &self.region.edges {
            let both = self.state.class(self.node(a)) == class && self.state.class(self.node(b)) == class;
            if !both || self.ruling(a).is_some() || self.ruling(b).is_some() {
                continue;
            }
            if self.state.edges.at(edge).is_evidence() {
                edges.push((self.rank(edge), edge, a, b));
            }
        }
        edges.sort_unstable();
        // Links that were set aside are no links.
        let mut aside: NumberMap<()> = NumberMap::default();
        for (edge, guard) in &self.rejected {
            if *guard == Guard::Contradicted {
                aside.insert(*edge, ());
            }
        }
        for (_, edge, a, b) in edges {
            if aside.contains_key(&edge) {
                continue;
            }
            let (a, b) = (self.root(a), self.root(b));
            if a == b {
                continue;
            }
            let verdict = if self.top(a) > class && self.top(b) > class {
                Err(Guard::MaxOwners)
            } else {
                self.union(a, b)
            };
            if let Err(guard) = verdict {
                self.rejected.push((edge, guard));
            }
        }
        for &place in inside {
            if self.ruling(place).is_none() {
                self.rule(place, Ruling::Links);
            }
        }
    }

    /// Puts identifiers with owners in turn among those of the newest one.
    fn join_slices(&mut self) {
        let mut sliced: Vec<([u8; 32], u32)> = Vec::new();
        for place in 0..self.region.nodes.len() as u32 {
            if let Some(Ruling::Sliced(_)) = self.ruling(place) {
                sliced.push((self.state.nodes.at(self.node(place)).token, place));
            }
        }
        sliced.sort_unstable();
        for (_, place) in sliced {
            let Some(Ruling::Sliced(slices)) = self.ruling(place) else { continue };
            // Owners who were erased are nobody.
            if slices.last().is_some_and(|slice| slice.anchor == NONE) {
                continue;
            }
            let newest = slices.last().and_then(|slice| self.region.local.get(&slice.anchor)).copied();
            let anchors_link = slices.iter().filter(|slice| slice.anchor != NONE).all(|slice| {
                let there = self.region.local.get(&slice.anchor).and_then(|&place| self.ruling(place));
                matches!(there, Some(Ruling::Links))
            });
            let joined =
                newest.filter(|_| anchors_link).is_some_and(|anchor| self.union(place, anchor).is_ok());
            if !joined {
                self.rule(place, Ruling::Shared(IdentifierState::Shared, StateReason::Recycled));
            }
        }
    }

    /// Returns the canonical order of a link: assertions, then the type of lowest priority in it, assurance, support,
    /// age, tokens.
    fn rank(&self, edge: u32) -> Rank {
        let record = self.state.edges.at(edge);
        let [a, b] = record.ends.map(|end| self.state.nodes.at(end));
        let priority = self.state.rules.known(a.kind).priority.max(self.state.rules.known(b.kind).priority);
        (
            record.flags & edge_flag::SAME == 0,
            priority,
            Reverse(record.assurance),
            Reverse(record.support),
            record.first_s,
            a.token.min(b.token),
            a.token.max(b.token),
        )
    }

    /// Unites two customers unless a guard forbids it.
    fn union(&mut self, a: u32, b: u32) -> Result<(), Guard> {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return Ok(());
        }
        self.guard(a, b)?;
        let (big, small) = if self.members(a).len() >= self.members(b).len() { (a, b) } else { (b, a) };
        let top = self.top(a).max(self.top(b));
        if let Some(parent) = self.parent.get_mut(small as usize) {
            *parent = big;
        }
        let mut moved = self.members.get_mut(small as usize).map(std::mem::take).unwrap_or_default();
        if let Some(members) = self.members.get_mut(big as usize) {
            members.append(&mut moved);
        }
        if let Some(slot) = self.top.get_mut(big as usize) {
            *slot = top;
        }
        Ok(())
    }

    fn finish(self) -> Solution {
        let mut parts: Vec<Vec<u32>> = Vec::new();
        for (place, members) in self.members.iter().enumerate() {
            let place = place as u32;
            if members.is_empty() || self.root(place) != place {
                continue;
            }
            let nobodys = matches!(self.ruling(place), Some(Ruling::Shared(..) | Ruling::Sliced(_)) | None);
            if members.len() == 1 && nobodys {
                continue;
            }
            parts.push(members.clone());
        }
        let rulings = self.rulings.into_iter().map(|ruling| ruling.unwrap_or(Ruling::Links)).collect();
        Solution { rulings, direct: self.direct, contested: self.contested, parts, rejected: self.rejected }
    }
}
