//! Who claims an identifier, and what follows for it alone.
//!
//! A claim is an owner that the identifier was seen with. Owners are customers of the region as far as it is solved, or
//! customers outside it as they stand.

use super::{Owner, Ruling, Solver};
use crate::arena::NONE;
use crate::judge::{Claim, Verdict, judge};
use crate::model::{IdentifierState, StateReason};
use crate::ruleset::Class;
use crate::store::{Slice, edge_flag, node_flag};

impl Solver<'_> {
    /// Returns what a mark or a type says, whatever the evidence.
    pub(super) fn forced(&self, node: u32) -> Option<Ruling> {
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
    pub(super) fn claims(&self, node: u32, class: Class, peers: bool) -> Vec<Claim<Owner>> {
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

    pub(super) fn judge(&self, node: u32, class: Class, peers: bool) -> Verdict<Owner> {
        let claims = self.claims(node, class, peers);
        judge(claims, self.kind(node), &self.state.rules.set, |from, to, least| {
            self.state.silence(node, from, to, least)
        })
    }

    /// Tells whether an identifier without owner was seen with too many of one type of its own class.
    pub(super) fn is_hub(&self, node: u32, class: Class) -> bool {
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
    pub(super) fn judge_border(&self, node: u32, class: Class) -> Ruling {
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
