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

use std::cmp::Reverse;

use crate::arena::NONE;
use crate::judge::{Claim, Verdict, judge};
use crate::model::{Guard, IdentifierState, StateReason};
use crate::region::{NumberMap, Region};
use crate::ruleset::{Class, TypeRule};
use crate::store::{Slice, State, edge_flag, node_flag};

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

    /// Returns what a mark or a type says, whatever the evidence.
    fn forced(&self, node: u32) -> Option<Ruling> {
        let record = self.state.nodes.at(node);
        if record.flags & node_flag::BANNED != 0 {
            return Some(Ruling::Shared(IdentifierState::Blocked, StateReason::Steward));
        }
        if record.flags & node_flag::MARKED != 0 {
            return Some(Ruling::Shared(IdentifierState::Shared, StateReason::Steward));
        }
        if record.state == IdentifierState::Retired {
            return Some(Ruling::Shared(IdentifierState::Retired, record.reason));
        }
        if self.kind(node).joint {
            return Some(Ruling::Shared(IdentifierState::Shared, StateReason::Joint));
        }
        let slices = self.state.transfers.get(&node)?;
        Some(Ruling::Sliced(transfer_slices(slices)))
    }

    /// Returns the owners that claim an identifier, through edges to stronger classes (or, with `peers`, to attached
    /// identifiers of its own class). Stops early when there are more than a switchboard has.
    fn claims(&self, node: u32, class: Class, peers: bool) -> Vec<Claim<Owner>> {
        let mut claims: Vec<Claim<Owner>> = Vec::new();
        for edge in self.state.edges_of(node) {
            let record = self.state.edges.at(edge);
            if !record.is_evidence() {
                continue;
            }
            let other = record.other(node);
            let other_class = self.state.class(other);
            if if peers { other_class != class } else { other_class <= class } {
                continue;
            }
            let owner = match self.region.local.get(&other) {
                Some(&place) => match self.ruling(place) {
                    Some(Ruling::Shared(..) | Ruling::Sliced(_)) => continue,
                    _ if peers && !self.direct.get(place as usize).copied().unwrap_or(false) => continue,
                    _ => Owner::Inside(self.root(place)),
                },
                None => {
                    let there = self.state.nodes.at(other);
                    if there.state != IdentifierState::Active
                        || there.cluster == NONE
                        || there.flags & node_flag::SLICED != 0
                        || (peers && there.flags & node_flag::DIRECT == 0)
                    {
                        continue;
                    }
                    Owner::Outside(there.cluster)
                }
            };
            let anchor_token = self.state.nodes.at(other).token;
            let asserted = record.flags & edge_flag::SAME != 0;
            match claims.iter_mut().find(|claim| claim.owner == owner) {
                Some(claim) => {
                    let best = self.rank(claim.edge);
                    claim.support = claim.support.saturating_add(record.support);
                    claim.first_s = claim.first_s.min(record.first_s);
                    claim.last_s = claim.last_s.max(record.last_s);
                    claim.asserted |= asserted;
                    if self.rank(edge) < best {
                        (claim.edge, claim.anchor) = (edge, other);
                    }
                    claim.anchor_token = claim.anchor_token.min(anchor_token);
                }
                None => claims.push(Claim {
                    owner,
                    support: record.support,
                    first_s: record.first_s,
                    last_s: record.last_s,
                    asserted,
                    edge,
                    anchor: other,
                    anchor_token,
                }),
            }
            if claims.len() > self.state.rules.set.fanout_max as usize {
                break;
            }
        }
        claims
    }

    fn judge(&self, node: u32, class: Class, peers: bool) -> Verdict<Owner> {
        let claims = self.claims(node, class, peers);
        judge(claims, self.kind(node), &self.state.rules.set, |from, to, least| {
            self.state.silence(node, from, to, least)
        })
    }

    /// Tells whether an identifier without owner was seen with too many of one type of its own class.
    fn is_hub(&self, node: u32, class: Class) -> bool {
        let max = self.state.rules.set.fanout_max;
        let mut counts: Vec<(u16, u32)> = Vec::new();
        for edge in self.state.edges_of(node) {
            let record = self.state.edges.at(edge);
            let other = record.other(node);
            let kind = self.state.nodes.at(other).kind;
            if record.support == 0
                || self.state.class(other) != class
                || self.state.rules.known(kind).ephemeral
            {
                continue;
            }
            match counts.iter_mut().find(|(counted, _)| *counted == kind) {
                Some((_, count)) => {
                    *count += 1;
                    if *count > max {
                        return true;
                    }
                }
                None => counts.push((kind, 1)),
            }
        }
        false
    }

    /// Judges an identifier at the border of the region by everything it was seen with, inside and outside.
    fn judge_border(&self, node: u32, class: Class) -> Ruling {
        if let Some(forced) = self.forced(node) {
            return forced;
        }
        let verdict = match self.judge(node, class, false) {
            Verdict::Free if self.is_hub(node, class) => Verdict::Shared(StateReason::Fanout),
            Verdict::Free => self.judge(node, class, true),
            verdict => verdict,
        };
        match verdict {
            Verdict::Shared(reason) => Ruling::Shared(IdentifierState::Shared, reason),
            _ => Ruling::Links,
        }
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

    fn guard(&self, a: u32, b: u32) -> Result<(), Guard> {
        let (left, right) = (self.members(a), self.members(b));
        let rules = &self.state.rules.set;
        if left.len() + right.len() > rules.cluster_members_max as usize {
            return Err(Guard::G5);
        }
        let all = || left.iter().chain(right).map(|&place| self.node(place));
        let mut identifiers = 0_u32;
        // By type: first sightings.
        let mut kinds: Vec<(u16, Vec<u32>)> = Vec::new();
        for node in all() {
            let record = self.state.nodes.at(node);
            let kind = self.kind(node);
            if kind.ephemeral {
                continue;
            }
            identifiers += 1;
            if kind.max_per_cluster == u32::MAX {
                continue;
            }
            match kinds.iter_mut().find(|(code, _)| *code == record.kind) {
                Some((_, times)) => times.push(record.first_s),
                None => kinds.push((record.kind, vec![record.first_s])),
            }
        }
        for (code, mut times) in kinds {
            let kind = self.state.rules.known(code);
            if exceeds(&mut times, kind) {
                return Err(if kind.class == Class::StrongUnique { Guard::G1 } else { Guard::G2 });
            }
        }
        if identifiers > rules.cluster_identifiers_max {
            return Err(Guard::G5);
        }
        if !self.state.apart.is_empty() {
            let mut sides: Vec<(u32, bool)> =
                all().filter_map(|node| self.state.apart.get(&node)).flatten().copied().collect();
            sides.sort_unstable();
            sides.dedup();
            if sides.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
                return Err(Guard::G3);
            }
        }
        if !self.state.held.is_empty() && (self.holds_against(left, right) || self.holds_against(right, left))
        {
            return Err(Guard::G4);
        }
        Ok(())
    }

    /// Tells whether a hold on the left side keeps a known customer of the right side away. An identifier that passed
    /// from one owner to another is nobody's part in this: no customer comes or goes with it.
    fn holds_against(&self, left: &[u32], right: &[u32]) -> bool {
        let own = |place: &&u32| !matches!(self.ruling(**place), Some(Ruling::Sliced(_)));
        let holds =
            left.iter().filter(own).filter_map(|&place| self.state.held.get(&self.node(place))).flatten();
        let mut holds: Vec<u32> = holds.copied().collect();
        holds.sort_unstable();
        holds.dedup();
        holds.iter().any(|hold| {
            right.iter().filter(own).any(|&place| {
                let node = self.node(place);
                self.state.nodes.at(node).home != NONE
                    && !self.state.held.get(&node).is_some_and(|its| its.contains(hold))
            })
        })
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

/// Tells whether first sightings of one type exceed its limit within any window.
pub(crate) fn exceeds(times: &mut [u32], kind: &TypeRule) -> bool {
    let max = kind.max_per_cluster as usize;
    if times.len() <= max {
        return false;
    }
    let Some(days) = kind.window_days else { return true };
    times.sort_unstable();
    let window = days.saturating_mul(86_400);
    times.windows(max + 1).any(|span| match (span.first(), span.last()) {
        (Some(first), Some(last)) => last - first < window,
        _ => false,
    })
}

/// Returns the owners that transfers name, in order of time.
fn transfer_slices(transfers: &[(u32, u32, u32)]) -> Vec<Slice> {
    let mut sorted = transfers.to_vec();
    sorted.sort_unstable();
    let mut slices: Vec<Slice> = Vec::new();
    for (at_s, from, to) in sorted {
        match slices.last_mut() {
            Some(before) => before.to_s = at_s,
            None => slices.push(Slice { anchor: from, from_s: 0, to_s: at_s }),
        }
        slices.push(Slice { anchor: to, from_s: at_s, to_s: u32::MAX });
    }
    slices
}
