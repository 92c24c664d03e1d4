//! What forbids that two customers become one: limits, statements, holds.

use super::{Ruling, Solver};
use crate::arena::NONE;
use crate::model::Guard;
use crate::ruleset::{Class, TypeRule};

impl Solver<'_> {
    /// Tells what forbids that two customers become one.
    pub(super) fn guard(&self, a: u32, b: u32) -> Result<(), Guard> {
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
    pub(super) fn holds_against(&self, left: &[u32], right: &[u32]) -> bool {
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
