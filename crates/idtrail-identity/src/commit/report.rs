//! What changed for whom, as events: merges, splits, promotions, each with the evidence behind it.

use std::cmp::Reverse;

use super::{Group, Step, previous};
use crate::event::{Derived, Evidence, MergeId, Part, Trigger};
use crate::model::RuleId;
use crate::region::{NumberMap, Region};
use crate::ruleset::Class;
use crate::store::{State, edge_flag, id_flag};

/// How many interactions of a part are counted.
const INTERACTIONS_MAX: u32 = 10_000;
/// How many observations stand behind a merge in its event.
const EVIDENCE_MAX: usize = 8;

impl State {
    /// Says what changed for whom.
    pub(super) fn report(
        &mut self,
        region: &Region,
        groups: &[Group],
        before: &[u32],
        former: &NumberMap<u8>,
        step: &mut Step<'_>,
    ) {
        for group in groups {
            self.report_merge(region, group, before, former, step);
        }
        let mut heirs: Vec<(u32, usize)> = Vec::new();
        for (at, group) in groups.iter().enumerate() {
            heirs.extend(group.before.iter().map(|&id| (id, at)));
        }
        heirs.sort_unstable();
        for heirs in heirs.chunk_by(|(a, _), (b, _)| a == b) {
            let [(id, _), _, ..] = heirs else { continue };
            let id = *id;
            let mut undoes = None;
            let mut parts = Vec::new();
            for group in heirs.iter().filter_map(|(_, at)| groups.get(*at)) {
                let record = self.ids.at(group.id);
                let revived =
                    group.id != id && !group.before.contains(&group.id) && record.merged != u64::MAX;
                if revived {
                    undoes = Some(MergeId {
                        index: idtrail_tlog::LogIndex::new(record.merged),
                        ordinal: record.merged_ordinal,
                    });
                    self.ids.at_mut(group.id).merged = u64::MAX;
                }
                parts.push(Part {
                    gcid: self.gcid(group.id),
                    revived,
                    identifiers: self.identifiers_in(&group.members),
                    interactions: self.interactions_in(&group.members),
                });
            }
            let from = self.gcid(id);
            step.events.push(Derived::Split { from, parts, cause: step.cause, undoes });
        }
    }

    fn report_merge(
        &mut self,
        region: &Region,
        group: &Group,
        before: &[u32],
        former: &NumberMap<u8>,
        step: &mut Step<'_>,
    ) {
        // Customers whose ids live here now and that had another name until now.
        let mut absorbed: Vec<u32> = group.before.clone();
        absorbed.retain(|&id| id != group.id && self.home_cluster(id) == group.id);
        let was = |id: &u32| former.get(id).copied().unwrap_or(0);
        let is_anonymous = self.ids.at(group.id).flags & id_flag::ANONYMOUS != 0;
        let mut promoted: Vec<u32> = Vec::new();
        if !is_anonymous {
            promoted = group.before.iter().copied().filter(|id| was(id) & id_flag::ANONYMOUS != 0).collect();
            absorbed.retain(|id| !promoted.contains(id));
            // A survivor that was anonymous itself is promoted by the first known customer.
            promoted.retain(|&id| id == group.id || self.home_cluster(id) == group.id);
        }
        for id in promoted {
            let anchor = self.anchor(&group.members);
            let was_theirs = |node: &u32| previous(region, before, *node) == id;
            let theirs: Vec<u32> = group.members.iter().copied().filter(was_theirs).collect();
            step.events.push(Derived::Promotion {
                gcid: self.gcid(group.id),
                former: self.gcid(id),
                by_type: self.identifier(anchor).kind,
                back_attributed: self.interactions_in(&theirs),
            });
        }
        if absorbed.is_empty() {
            return;
        }
        let id = step.next_merge();
        for &other in &absorbed {
            let record = self.ids.at_mut(other);
            (record.merged, record.merged_ordinal) = (step.at.index.get(), id.ordinal);
        }
        if step.trigger == Trigger::Auto {
            let times = self.merge_times.entry(group.id).or_default();
            times.push(step.at.at_ms);
            let excess = times.len().saturating_sub(self.rules.set.merges_per_day_max as usize);
            times.drain(..excess);
        }
        let (rule, evidence) = self.joining_link(region, group, before);
        step.events.push(Derived::Merge {
            id,
            survivor: self.gcid(group.id),
            absorbed: absorbed.iter().map(|&id| self.gcid(id)).collect(),
            rule,
            evidence,
            trigger: step.trigger,
            identifiers_after: self.identifiers_in(&group.members),
        });
    }

    /// Returns the strongest link between identifiers that had different customers, and observations behind it.
    fn joining_link(&self, region: &Region, group: &Group, before: &[u32]) -> (RuleId, Vec<Evidence>) {
        let mut best: Option<(RuleId, u32, u32)> = None;
        let edges = group.members.iter().flat_map(|&node| self.edges_of(node).map(move |edge| (node, edge)));
        for (left, edge) in edges {
            let record = self.edges.at(edge);
            let right = record.other(left);
            if self.nodes.at(right).cluster != group.id
                || previous(region, before, left) == previous(region, before, right)
                || !record.is_evidence()
            {
                continue;
            }
            let rule = self.rule_of(edge);
            // Assertions first, then the stronger rule, then more sightings.
            let order = |(rule, edge): (RuleId, u32)| {
                (rule < RuleId::M5, rule, Reverse(self.edges.at(edge).support), edge)
            };
            if best.is_none_or(|(known, other, _)| order((rule, edge)) < order((known, other))) {
                best = Some((rule, edge, left));
            }
        }
        let Some((rule, edge, left)) = best else { return (RuleId::M3, Vec::new()) };
        let right = self.edges.at(edge).other(left);
        (rule, self.common(left, right, EVIDENCE_MAX))
    }

    /// Returns the rule that a link rests on.
    pub(crate) fn rule_of(&self, edge: u32) -> RuleId {
        let record = self.edges.at(edge);
        if record.flags & edge_flag::STEWARD != 0 {
            return RuleId::M5;
        }
        if record.flags & edge_flag::SOURCE != 0 {
            return RuleId::M6;
        }
        let [a, b] = record.ends.map(|end| self.class(end));
        match a.min(b) {
            Class::StrongUnique => RuleId::M1,
            Class::Strong => RuleId::M2,
            Class::Weak | Class::Corroborating => RuleId::M3,
        }
    }

    /// Returns observations that saw two identifiers together, latest recorded first.
    pub(crate) fn common(&self, a: u32, b: u32, max: usize) -> Vec<Evidence> {
        let evidence = |observation| Evidence {
            observation: self.observation_id(observation),
            index: self.observation_index(observation),
        };
        self.common_observations(a, b).into_iter().take(max).map(evidence).collect()
    }

    /// Returns all observations that count and saw two identifiers together, latest recorded first, each once.
    pub(crate) fn common_observations(&self, a: u32, b: u32) -> Vec<u32> {
        let short = {
            // Both lists are walked at the same time, so the cost is that of the shorter one.
            let (mut left, mut right) = (self.posts_of(a), self.posts_of(b));
            loop {
                match (left.next(), right.next()) {
                    (None, _) => break a,
                    (_, None) => break b,
                    _ => {}
                }
            }
        };
        let other = if short == a { b } else { a };
        let mut common: Vec<u32> = self
            .posts_of(short)
            .map(|at| self.incidences.at(at).observation)
            .filter(|&observation| self.is_live(observation))
            .filter(|&observation| self.incidences_of(observation).any(|seen| seen.node == other))
            .collect();
        common.sort_unstable_by(|left, right| right.cmp(left));
        common.dedup();
        common
    }

    pub(crate) fn identifiers_in(&self, members: &[u32]) -> u32 {
        let count =
            members.iter().filter(|&&node| !self.rules.known(self.nodes.at(node).kind).ephemeral).count();
        count as u32
    }

    pub(super) fn interactions_in(&self, members: &[u32]) -> u32 {
        let mut all: Vec<u32> = members
            .iter()
            .flat_map(|&node| self.posts_of(node).take(INTERACTIONS_MAX as usize))
            .map(|at| self.incidences.at(at).observation)
            .take(2 * INTERACTIONS_MAX as usize)
            .collect();
        all.sort_unstable();
        all.dedup();
        (all.len() as u32).min(INTERACTIONS_MAX)
    }
}
