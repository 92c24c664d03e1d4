//! Whose an observation is, given the customers as they are: one customer with a tier, several, or nobody.
//!
//! This is a reading of the state and changes nothing; it is asked when an observation is decided upon, and again
//! whenever somebody wants to know whose an old one is today.

use crate::arena::NONE;
use crate::model::{Assurance, IdentifierState, RuleId, StateReason, Tier};
use crate::ruleset::Class;
use crate::store::{Incidence, State, edge_flag, id_flag, node_flag, observation_flag, seconds};

/// Whose an observation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attribution {
    /// The customer, if there is one.
    pub(crate) cluster: Option<u32>,
    pub(crate) tier: Tier,
    pub(crate) rule: Option<RuleId>,
    /// All customers that are possible, if there are several.
    pub(crate) candidates: Vec<u32>,
}

/// How often, and when, an identifier was seen with the strong identifiers of a customer.
struct Support {
    count: u32,
    first_s: u32,
    last_s: u32,
    flags: u8,
}

impl Attribution {
    const NOBODY: Self = Self { cluster: None, tier: Tier::Ambiguous, rule: None, candidates: Vec::new() };

    fn several(candidates: Vec<u32>) -> Self {
        Self { cluster: None, tier: Tier::Ambiguous, rule: None, candidates }
    }
}

impl State {
    /// Returns the customer that an identifier belongs to at a time.
    pub(crate) fn owner_at(&self, node: u32, time_s: u32) -> Option<u32> {
        let record = self.nodes.at(node);
        if record.state != IdentifierState::Active {
            return None;
        }
        let cluster = if record.flags & node_flag::SLICED == 0 {
            record.cluster
        } else {
            let slices = self.slices.get(&node)?;
            let slice = slices.iter().find(|slice| (slice.from_s..slice.to_s).contains(&time_s))?;
            if slice.anchor == NONE { NONE } else { self.nodes.at(slice.anchor).cluster }
        };
        (cluster != NONE).then_some(cluster)
    }

    fn support(&self, node: u32, cluster: u32) -> Support {
        let mut support = Support { count: 0, first_s: u32::MAX, last_s: 0, flags: 0 };
        let core = self.ids.at(cluster).flags & id_flag::CORE != 0;
        for edge in self.edges_of(node) {
            let edge = self.edges.at(edge);
            let other = edge.other(node);
            let there = self.nodes.at(other);
            let counts = there.cluster == cluster
                && (!core || self.class(other) >= Class::Strong)
                && !self.rules.known(there.kind).ephemeral;
            if counts && edge.is_evidence() {
                support.count = support.count.saturating_add(edge.support);
                support.first_s = support.first_s.min(edge.first_s);
                support.last_s = support.last_s.max(edge.last_s);
                support.flags |= edge.flags;
            }
        }
        support
    }

    /// Returns whose an observation is today.
    pub(crate) fn attribute(&self, observation: u32) -> Attribution {
        let mut attribution = self.attribute_freely(observation);
        if self.observations.at(observation).flags & observation_flag::DOUBTED != 0 {
            attribution.tier = attribution.tier.max(Tier::Probable);
        }
        attribution
    }

    fn attribute_freely(&self, observation: u32) -> Attribution {
        let record = self.observations.at(observation);
        if record.flags & (observation_flag::ORPHANED | observation_flag::ERASED) != 0 {
            return Attribution::NOBODY;
        }
        let time_s = seconds(record.time_ms);
        // Customers named by strong identifiers, each with its best sighting.
        let mut strong: Vec<(Class, u8, u32)> = Vec::new();
        for seen in self.incidences_of(observation) {
            let class = self.class(seen.node);
            if class < Class::Strong {
                continue;
            }
            let Some(owner) = self.owner_at(seen.node, time_s) else { continue };
            match strong.iter_mut().find(|(_, _, other)| *other == owner) {
                Some(best) => (best.0, best.1) = (best.0, best.1).max((class, seen.assurance)),
                None => strong.push((class, seen.assurance, owner)),
            }
        }
        strong.sort_unstable_by(|a, b| b.cmp(a));
        match strong.as_slice() {
            [] => self.attribute_weak(observation, time_s),
            [(class, assurance, owner)] => {
                self.attribute_strong(observation, time_s, *class, *assurance, *owner)
            }
            // The better sighting decides only if it is better by rank, not by the accident of an id.
            [(class, assurance, owner), (next, below, _), ..]
                if (class, assurance) > (next, below) && *assurance >= Assurance::VERIFIED.level() =>
            {
                let mut attribution = self.attribute_strong(observation, time_s, *class, *assurance, *owner);
                attribution.tier = attribution.tier.max(Tier::Probable);
                attribution
            }
            all => Attribution::several(all.iter().map(|(_, _, owner)| *owner).collect()),
        }
    }

    fn attribute_strong(
        &self,
        observation: u32,
        time_s: u32,
        class: Class,
        assurance: u8,
        owner: u32,
    ) -> Attribution {
        let verified = assurance >= Assurance::VERIFIED.level();
        let mut supported = false;
        let mut against: Option<u32> = None;
        for seen in self.incidences_of(observation) {
            if self.class(seen.node) != Class::Weak || !self.links(seen) {
                continue;
            }
            let Some(other) = self.owner_at(seen.node, time_s) else { continue };
            let support = self.support(seen.node, other);
            if other == owner {
                let contested = self.nodes.at(seen.node).flags & node_flag::CONTESTED != 0;
                supported |= !contested && support.count >= self.rules.set.verified_support_min;
            } else if self.ids.at(other).flags & id_flag::CORE != 0
                && support.count >= self.rules.set.miskey_dominance_min
            {
                against = Some(other);
            }
        }
        // A number that was only typed, from the phone of somebody well known: whose call was it?
        if let (Some(other), false) = (against, verified) {
            return Attribution::several(vec![owner, other]);
        }
        let tier = if verified || (supported && against.is_none()) { Tier::Verified } else { Tier::Probable };
        let rule = if class == Class::StrongUnique { RuleId::M1 } else { RuleId::M2 };
        Attribution { cluster: Some(owner), tier, rule: Some(rule), candidates: Vec::new() }
    }

    /// Tells whether a sighting was sure enough for its type to link.
    fn links(&self, seen: &Incidence) -> bool {
        let kind = self.rules.known(self.nodes.at(seen.node).kind);
        seen.assurance >= kind.assurance_min.level()
    }

    fn attribute_weak(&self, observation: u32, time_s: u32) -> Attribution {
        let mut owners: Vec<u32> = Vec::new();
        let mut tier = Tier::Probable;
        let mut rule = RuleId::M3;
        let mut ephemeral: Option<u32> = None;
        for seen in self.incidences_of(observation) {
            if self.class(seen.node) != Class::Weak {
                continue;
            }
            let record = self.nodes.at(seen.node);
            if record.reason == StateReason::Several {
                self.owners_of(seen.node, &mut owners);
                continue;
            }
            let Some(owner) = self.owner_at(seen.node, time_s) else { continue };
            if self.ids.at(owner).flags & id_flag::EPHEMERAL != 0 {
                ephemeral = Some(owner);
                continue;
            }
            if !owners.contains(&owner) {
                owners.push(owner);
            }
            if self.is_verified(seen, owner, time_s) {
                tier = Tier::Verified;
            }
            let flags = self.support(seen.node, owner).flags;
            if flags & edge_flag::SAME != 0 {
                rule = if flags & edge_flag::STEWARD != 0 { RuleId::M5 } else { RuleId::M6 };
            }
        }
        match owners.as_slice() {
            [owner] => Attribution { cluster: Some(*owner), tier, rule: Some(rule), candidates: Vec::new() },
            [] => match (self.attribute_corroborated(observation), ephemeral) {
                (Some(owner), _) => Attribution {
                    cluster: Some(owner),
                    tier: Tier::Probable,
                    rule: Some(RuleId::M4),
                    candidates: Vec::new(),
                },
                // Nothing but the interaction itself.
                (None, Some(owner)) => Attribution { cluster: Some(owner), ..Attribution::NOBODY },
                (None, None) => Attribution::NOBODY,
            },
            _ => Attribution::several(owners),
        }
    }

    /// Tells whether a weak identifier alone proves enough for disclosure: often seen with its owner, not contested,
    /// and not long after it was last seen with the owner.
    fn is_verified(&self, seen: &Incidence, owner: u32, time_s: u32) -> bool {
        let record = self.nodes.at(seen.node);
        let kind = self.rules.known(record.kind);
        if kind.ephemeral || !self.links(seen) || record.flags & node_flag::CONTESTED != 0 {
            return false;
        }
        let support = self.support(seen.node, owner);
        if support.flags & edge_flag::SAME != 0 {
            return true;
        }
        let near_s = kind.quiet_days.unwrap_or(365).saturating_mul(86_400);
        let near = time_s.saturating_add(near_s) >= support.first_s
            && time_s <= support.last_s.saturating_add(near_s);
        let enough = if seen.assurance >= Assurance::VERIFIED.level() {
            1
        } else {
            self.rules.set.verified_support_min
        };
        let alone = self.ids.at(owner).flags & id_flag::CORE == 0
            && self.posts_of(seen.node).filter(|&at| self.links(self.incidences.at(at))).nth(2).is_some();
        (support.count >= enough && near) || alone
    }

    /// Adds the customers that a shared identifier was seen with.
    pub(crate) fn owners_of(&self, node: u32, owners: &mut Vec<u32>) {
        for edge in self.edges_of(node) {
            let edge = self.edges.at(edge);
            let other = edge.other(node);
            let there = self.nodes.at(other);
            let counts =
                edge.is_evidence() && there.state == IdentifierState::Active && there.cluster != NONE;
            if counts && self.class(other) >= Class::Strong && !owners.contains(&there.cluster) {
                owners.push(there.cluster);
            }
            if owners.len() > self.rules.set.fanout_max as usize {
                return;
            }
        }
    }

    /// Returns the one owner of a shared identifier that was seen with a corroborating key of the observation.
    fn attribute_corroborated(&self, observation: u32) -> Option<u32> {
        let keys: Vec<u32> = self
            .incidences_of(observation)
            .map(|seen| seen.node)
            .filter(|&node| self.class(node) == Class::Corroborating)
            .collect();
        if keys.is_empty() {
            return None;
        }
        let mut found: Vec<u32> = Vec::new();
        for seen in self.incidences_of(observation) {
            let record = self.nodes.at(seen.node);
            if self.class(seen.node) != Class::Weak || record.state != IdentifierState::Shared {
                continue;
            }
            for edge in self.edges_of(seen.node).take(1_000) {
                let edge = self.edges.at(edge);
                let other = edge.other(seen.node);
                let there = self.nodes.at(other);
                if !edge.is_evidence()
                    || there.state != IdentifierState::Active
                    || there.cluster == NONE
                    || self.class(other) < Class::Strong
                    || found.contains(&there.cluster)
                {
                    continue;
                }
                let with_key = |key: &u32| {
                    self.find_edge(*key, other).is_some_and(|edge| self.edges.at(edge).is_evidence())
                };
                if keys.iter().any(with_key) {
                    found.push(there.cluster);
                }
            }
        }
        match found.as_slice() {
            [owner] => Some(*owner),
            _ => None,
        }
    }
}
